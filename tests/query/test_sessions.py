"""Sessions against the plain twin, a crowd at a time, wherever the range lies; and the edges of the rule."""

from __future__ import annotations

from bisect import bisect_right
from zoneinfo import ZoneInfo

import msgspec
import pytest
from crowd import asked as asked_names
from crowd import crowd, events, found, happenings, planned, projects, reading, said_of, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import sessions as twin
from reference.funnel import quantile
from reference.retention import boundaries

from pugd.journeys import PERIODS, SESSION_VALUES, Sessions, SessionsCell, check
from pugd.query.conditions import ALWAYS
from pugd.query.reading import Told
from pugd.query.sequence import key_time
from pugd.query.sessions import LANE, Span, happening, plan_cells, sessions, shape_cells
from pugd.query.sql import sql

BEGAN = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE


async def asked(history: History, span: Span) -> list[tuple] | None:
    """Each session as (person, lane, its times, its paths); None where the span was too short."""
    seen = events(
        history,
        [ALWAYS],
        conditions=[sql("$lane.1 != ''", lane=LANE)],
        since=span.read_from,
        until=span.read_until,
        columns=[("lane", LANE), ("path", sql("path"))],
    )
    rows = await found(
        sql(
            "SELECT person, lane.1, lane.2, begun, ended, arrayMap(key -> $time, keys), paths, unsettled"
            " FROM $sessions",
            time=key_time(sql("key")),
            sessions=sessions(span, seen, beside=[("paths", sql("path"))]),
        )
    )
    if any(row[-1] for row in rows):
        return None
    assert all((begun, ended) == (times[0], times[-1]) for _, _, _, begun, ended, times, *_ in rows)
    return sorted(
        (person, (kind, name), list(times), list(paths)) for person, kind, name, _, _, times, paths, _ in rows
    )


def plain(run: list[dict]) -> tuple:
    return run[0]["person"], twin.lane(run[0]), [event["at"] for event in run], [event["path"] for event in run]


@settings(max_examples=10)
@given(seeds)
async def test_sessions_are_those_of_the_twin(random):
    def times() -> int:
        half_hours = random.randrange(100) * twin.IDLE + random.choice([0, 0, 1])
        return BEGAN + random.choice([half_hours, random.randrange(200) * twin.IDLE // 2, random.randrange(60 * HOUR)])

    history = crowd(random, times, events=random.choice([200, 2_000]))
    await stored(history)
    wanted = twin.sessions(happenings(history))
    for _ in range(3):
        since = BEGAN + random.randrange(60) * HOUR
        until = since + random.randrange(1, 30) * HOUR
        answer = await asked(history, Span.around(since, until))
        if answer is None:
            answer = await asked(history, Span.around(since, until, days=8))
        assert answer == sorted(plain(run) for run in wanted if since <= run[0]["at"] < until)


def summed(runs: list[list[dict]]) -> tuple:
    """The numbers of a cell."""
    took = [run[-1]["at"] - run[0]["at"] for run in runs]
    count = len(runs)
    events = sum(map(len, runs))
    bounces = sum(len(run) == 1 for run in runs)
    return (
        count,
        len({run[0]["person"] for run in runs}),
        events,
        events / count if count else None,
        bounces,
        bounces / count if count else None,
        (pytest.approx(sum(took) / count), *(pytest.approx(quantile(took, share)) for share in (0.5, 0.9, 0.99)))
        if count
        else None,
    )


def numbers(cell: SessionsCell) -> tuple:
    _, *rest, duration = said_of(cell)
    return (*rest, None if duration is None else said_of(duration))


@settings(max_examples=6)
@given(seeds)
async def test_answers_are_those_of_the_twin(random):
    history = crowd(random, lambda: BEGAN + random.randrange(200) * twin.IDLE // 2, events=1_000)
    await stored(history)
    runs = twin.sessions(happenings(history))
    for breakdown in random.sample([None, *SESSION_VALUES], 2):
        since = BEGAN + random.randrange(-5, 60) * HOUR
        asked_for = Sessions(
            project=0,
            since=since,
            until=since + random.randrange(1, 60) * HOUR,
            interval=random.choice([None, *PERIODS]),
            zone=random.choice(["UTC", "America/Sao_Paulo"]),
            breakdown=breakdown,
            values=random.randint(1, 3),
        )
        check(asked_for)
        chosen = random.choice(["AB", "ABCX"])
        span = Span.around(asked_for.since, asked_for.until, days=10)
        of = msgspec.structs.replace(asked_for, project=history.project)
        seen = happening(of, span, reading(history), asked_names(chosen), Told(sql("toString(event)")))
        answer = shape_cells(asked_for, await planned(plan_cells(asked_for, span, seen)))
        assert answer.settled
        own = [
            run
            for run in runs
            if asked_for.since <= run[0]["at"] < asked_for.until and any(event["event"] in chosen for event in run)
        ]
        by_value: dict[str, list] = {}
        for run in own:
            pages = [event["path"] for event in run if event["path"]] or [""]
            value = {None: "", "entry_page": pages[0], "exit_page": pages[-1], "first_event": run[0]["event"]}[
                breakdown
            ]
            by_value.setdefault(value, []).append(run)
        ranked = sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0]))
        expected = [(None, False, own)]
        if breakdown:
            expected += [(value, False, found) for value, found in ranked[: asked_for.values]]
            if rest := [run for _, found in ranked[asked_for.values :] for run in found]:
                expected.append((None, True, rest))
        begins = []
        if asked_for.interval:
            zone = ZoneInfo(asked_for.zone)
            begins = boundaries(asked_for.since, asked_for.until, asked_for.interval, zone)[:-1]
        assert [
            (series.value, series.others, numbers(series.total), [numbers(cell) for cell in series.intervals])
            for series in answer.series
        ] == [
            (
                value,
                others,
                summed(found),
                [
                    summed([run for run in found if begins[bisect_right(begins, run[0]["at"]) - 1] == begin])
                    for begin in begins
                ],
            )
            for value, others, found in expected
        ]


async def lengths(did: list[tuple[int, dict]], days: int = 1) -> list[int]:
    """(minute, fields) each → how many events each session has, in order of their starts."""
    history = History(next(projects))
    for minute, fields in did:
        history.track("A", at=BEGAN + minute * MINUTE, **{"anonymous": "phone"} | fields)
    await stored(history)
    rows = await asked(history, Span.around(BEGAN, BEGAN + 30 * 24 * HOUR, days))
    assert rows is not None
    return [len(times) for _, _, times, _ in sorted(rows, key=lambda row: row[2])]


async def test_half_an_hour_of_quiet_is_within_a_session():
    assert await lengths([(0, {}), (30, {}), (61, {})]) == [2, 1]


async def test_a_device_that_is_never_quiet_begins_another_session_after_a_day():
    busy = [(minute, {}) for minute in range(0, 60 * 60, 30)]
    assert await lengths(busy) == [49, 49, 22]


async def test_an_identify_does_not_split_a_session_and_a_merge_does_not_fuse_two_devices():
    did = [(0, {}), (1, {"user": "ann"}), (2, {"user": "ann", "anonymous": "laptop"}), (3, {})]
    assert await lengths(did) == [3, 1]


async def test_a_session_id_of_the_client_is_taken_at_its_word():
    did = [(0, {"session_id": "s"}), (1, {}), (23 * 60, {"session_id": "s"}), (24 * 60, {"session_id": "s"})]
    assert await lengths(did) == [3, 1]
    assert await lengths([(0, {"session_id": "s"}), (24 * 60 + 1, {"session_id": "s"})]) == [1, 1]


async def test_a_session_is_the_range_s_that_it_begins_in_whole():
    history = History(next(projects))
    for minute in (-40, -20, 0, 20, 40):
        history.track("A", anonymous="phone", at=BEGAN + minute * MINUTE)
    await stored(history)
    assert await asked(history, Span.around(BEGAN, BEGAN + HOUR)) == []
    assert [len(row[2]) for row in await asked(history, Span.around(BEGAN - HOUR, BEGAN)) or []] == [5]


async def test_who_was_busy_for_days_is_read_further_back():
    history = History(next(projects))
    for minute in range(-3 * 24 * 60, 60, 30):
        history.track("A", anonymous="phone", at=BEGAN + minute * MINUTE)
    await stored(history)
    assert await asked(history, Span.around(BEGAN, BEGAN + HOUR)) is None
    answer = await asked(history, Span.around(BEGAN, BEGAN + HOUR, days=8))
    assert answer == sorted(plain(run) for run in twin.sessions(happenings(history)) if run[0]["at"] >= BEGAN)
