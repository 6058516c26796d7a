"""Returns against the plain twin, a crowd at a time; and the worked examples of other tools' documentation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

import msgspec
import pytest
from crowd import PATH, asked, crowd, found, happenings, planned, projects, reading, said, said_of, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import retention as twin

from pugd.journeys import (
    BIRTHS,
    DAY_MS,
    FIRST_EVER,
    FIRST_IN_RANGE,
    ON_OR_AFTER,
    PERIODS,
    RECURRING,
    RETURNS,
    Retention,
    check,
)
from pugd.query.retention import bounds, happening, persons, plan_cells, returns, shape_cells
from pugd.query.sql import Sql, sql
from pugd.question import QuestionError

HOUR = 3_600_000
DAY = DAY_MS
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe"]
BEGINNINGS = [1_711_500_000_000, 1_729_600_000_000, 1_540_000_000_000, 1_508_000_000_000]
"""Days before clocks are changed in one of these."""


def clock(random: Random, began: int, zone: ZoneInfo) -> Callable[[], int]:
    midnights = twin.boundaries(began, began + 20 * DAY, "day", zone)

    def times() -> int:
        near = random.choice(midnights) + random.choice([-1, 0, 0, 1, HOUR])
        return random.choice([near, began + random.randrange(20 * DAY), began + random.randrange(20) * DAY])

    return times


def question(random: Random, began: int, zone: ZoneInfo) -> tuple[Retention, tuple[str, str], int]:
    """A retention, the names of the events that start and return, and now."""
    since = began + random.randrange(10 * DAY)
    asked_for = Retention(
        project=0,
        since=since,
        until=since + random.randrange(1, 10 * DAY),
        births=random.choice(BIRTHS),
        returns=random.choice(RETURNS),
        period=random.choice(PERIODS),
        rolling=random.random() < 0.4,
        periods=random.choice([0, 1, 3, 12]),
        zone=zone.key,
        values=random.randint(1, 3),
    )
    check(asked_for)
    names = random.choice(["A", "AB"]), random.choice(["A", "B", "AB", "ABCX"])
    return asked_for, names, asked_for.until + random.randrange(-2 * DAY, 10 * DAY)


def returned_by_the_twin(
    happened: list[dict], asked_for: Retention, names: tuple[str, str]
) -> dict[tuple[int, int], tuple[dict, set[int]]]:
    zone = ZoneInfo(asked_for.zone)
    return twin.retention(
        happened,
        *(said(name) for name in names),
        since=asked_for.since,
        until=asked_for.until,
        periods=twin.boundaries(asked_for.since, asked_for.until + 500 * DAY, asked_for.period, zone),
        births=asked_for.births,
        length={"day": 1, "week": 7, "month": 30}[asked_for.period] * DAY if asked_for.rolling else None,
    )


def told(history: History, asked_for: Retention, names: tuple[str, str], now: int) -> Sql:
    of = msgspec.structs.replace(asked_for, project=history.project)
    return happening(of, reading(history, now=now), *(asked(name) for name in names), PATH)


@settings(max_examples=12)
@given(seeds)
async def test_returns_are_those_of_the_twin(random):
    zone = ZoneInfo(random.choice(ZONES))
    began = random.choice(BEGINNINGS)
    history = crowd(random, clock(random, began, zone))
    await stored(history)
    happened = happenings(history)
    for _ in range(4):
        asked_for, names, now = question(random, began, zone)
        wanted = returned_by_the_twin(happened, asked_for, names)
        rows = await found(
            sql(
                "SELECT person, cohort, cells, toInt64(bitShiftRight(born_key, 84)), value FROM $returns",
                returns=returns(asked_for, told(history, asked_for, names, now), told=True),
            )
        )
        number = {bound: place for place, bound in enumerate(bounds(asked_for))}
        beyond = asked_for.periods + 1
        assert {
            (number[cohort], person): (
                born,
                value,
                set(cells) if asked_for.rolling else {min(number[cell] - number[cohort], beyond) for cell in cells},
            )
            for person, cohort, cells, born, value in rows
        } == {
            key: (birth["at"], birth["path"], {min(cell, beyond) for cell in seen})
            for key, (birth, seen) in wanted.items()
        }
        assert len(rows) == len(wanted)


def plain(asked_for: Retention, now: int, own: dict[tuple[int, int], tuple[dict, set[int]]]) -> tuple:
    """What a series says: (size, [(people, rate, finished), …]) of each cohort, and the averages."""
    zone = ZoneInfo(asked_for.zone)
    begins = twin.boundaries(asked_for.since, asked_for.until + 500 * DAY, asked_for.period, zone)
    days = {"day": 1, "week": 7, "month": 30}[asked_for.period]
    cohorts = []
    for place, begin in enumerate(begins):
        if begin >= asked_for.until:
            break
        members = [seen for (cohort, _), (_, seen) in own.items() if cohort == place]
        cells = []
        for after in range(asked_for.periods + 1):
            begun, over = begins[place + after], begins[place + after + 1]
            if asked_for.rolling:
                begun = max(begin, asked_for.since) + after * days * DAY
                over = min(begins[place + 1], asked_for.until) - 1 + (after + 1) * days * DAY
            if begun >= now:
                break
            came = [seen for seen in members if after in seen]
            if asked_for.returns == ON_OR_AFTER:
                came = [seen for seen in members if any(cell >= after for cell in seen)]
            cells.append((len(came), len(came) / len(members) if members else None, over <= now))
        cohorts.append((len(members), cells))
    averages = []
    for after in range(max(len(cells) for _, cells in cohorts)):
        over = [(size, cells[after][0]) for size, cells in cohorts if len(cells) > after and cells[after][2]]
        size = sum(size for size, _ in over)
        averages.append(sum(people for _, people in over) / size if size else None)
    return cohorts, averages


@settings(max_examples=6)
@given(seeds)
async def test_answers_are_those_of_the_twin(random):
    zone = ZoneInfo(random.choice(ZONES))
    began = random.choice(BEGINNINGS)
    history = crowd(random, clock(random, began, zone))
    await stored(history)
    happened = happenings(history)
    for broken_down in (False, True, True):
        asked_for, names, now = question(random, began, zone)
        wanted = returned_by_the_twin(happened, asked_for, names)
        by_value: dict[str, dict] = {}
        for key, (birth, seen) in wanted.items():
            by_value.setdefault(birth["path"], {})[key] = (birth, seen)
        ranked = sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0]))
        expected = [(None, False, plain(asked_for, now, wanted))]
        if broken_down:
            expected += [(value, False, plain(asked_for, now, own)) for value, own in ranked[: asked_for.values]]
            if rest := ranked[asked_for.values :]:
                together = {key: birth for _, own in rest for key, birth in own.items()}
                expected.append((None, True, plain(asked_for, now, together)))
        marked = told(history, asked_for, names, now)
        rows = await planned(plan_cells(asked_for, marked, told=broken_down))
        answer = shape_cells(asked_for, rows, now)
        assert [
            (
                series.value,
                series.others,
                (
                    [(cohort.size, [said_of(cell) for cell in cohort.cells]) for cohort in series.cohorts],
                    series.average,
                ),
            )
            for series in answer
        ] == expected
        cohort = random.randrange(len(answer[0].cohorts))
        after = random.choice([None, *range(asked_for.periods + 1)])
        rows = await found(sql("SELECT person FROM $persons", persons=persons(asked_for, marked, cohort, after)))
        later = asked_for.returns == ON_OR_AFTER
        assert sorted(person for (person,) in rows) == sorted(
            person
            for (born, person), (_, seen) in wanted.items()
            if born == cohort and (after is None or after in seen or (later and any(cell > after for cell in seen)))
        )


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("births", {"births": "once"}),
        ("returns", {"returns": "before"}),
        ("period", {"period": "year"}),
        ("periods", {"periods": -1}),
        ("periods", {"periods": 367}),
    ],
)
def test_a_wrong_option_is_named(field, changes):
    right = Retention(project=1, since=0, until=1)
    check(right)
    with pytest.raises(QuestionError) as caught:
        check(msgspec.structs.replace(right, **changes))
    assert caught.value.field == field


# Worked examples.


async def returned(
    did: list[tuple[str, str]], back: str = "B", births: str = FIRST_EVER, rolling: bool = False, period: str = "day"
) -> dict[str, list[int]]:
    """(event, UTC time) each → the day of a birth, and the numbers of the periods that have a return in them."""
    history = History(next(projects))
    for name, when in did:
        history.track(name, user="one", at=round(datetime.fromisoformat(f"{when}+00:00").timestamp() * 1000))
    await stored(history)
    times = [event["occurred_at"] for event in history.world.events]
    asked_for = Retention(
        project=history.project,
        since=min(times),
        until=max(times) + 1,
        births=births,
        rolling=rolling,
        period=period,
        periods=40,
    )
    rows = await found(
        sql(
            "SELECT cohort, cells, toInt64(bitShiftRight(born_key, 84)) FROM $returns",
            returns=returns(asked_for, happening(asked_for, reading(history, now=2**42), asked("A"), asked(back))),
        )
    )
    begins = bounds(asked_for)
    return {
        datetime.fromtimestamp(born / 1000, ZoneInfo("UTC")).strftime("%m-%d"): sorted(
            cell if rolling else begins.index(cell) - begins.index(cohort) for cell in cells
        )
        for cohort, cells, born in rows
    }


async def test_amplitude_days_of_24_hours_and_days_of_the_calendar():
    # amplitude.com/docs, How time works in Retention Analysis. Its hours are rounded down, so 23 hours and a minute are
    # a day there; a day here has all of its milliseconds.
    did = [("A", "2021-12-01T17:59"), ("B", "2021-12-02T17:00")]
    assert await returned(did, rolling=True) == {"12-01": [0]}
    assert await returned([did[0], ("B", "2021-12-02T17:59")], rolling=True) == {"12-01": [1]}
    assert await returned([did[0], ("B", "2021-12-03T17:58:59.999")], rolling=True) == {"12-01": [1]}
    assert await returned([did[0], ("B", "2021-12-03T17:59")], rolling=True) == {"12-01": [2]}
    assert await returned(did) == {"12-01": [1]}


async def test_amplitude_weeks_of_seven_days():
    # amplitude.com/docs, How time works in Retention Analysis: 1 to 7 December is week 0, 8 to 14 December week 1
    for back, week in (("06", 0), ("07", 0), ("08", 1), ("14", 1), ("15", 2)):
        did = [("A", "2021-12-01T00:00"), ("B", f"2021-12-{back}T12:00")]
        assert await returned(did, rolling=True, period="week") == {"12-01": [week]}


async def test_mixpanel_intervals_follow_the_birth():
    # docs.mixpanel.com, Query Retention Report: within 24 hours is interval 0, from 24 to 48 hours interval 1
    did = [("A", "2012-01-02T20:00"), ("B", "2012-01-03T19:00"), ("B", "2012-01-04T19:00"), ("B", "2012-01-05T21:00")]
    assert await returned(did, rolling=True) == {"01-02": [0, 1, 3]}


async def test_amplitude_one_return_may_count_for_several_births():
    # amplitude.com/docs, How time works in Retention Analysis: several starting events open several windows
    did = [("A", "2021-12-01T10:00"), ("A", "2021-12-02T10:00"), ("B", "2021-12-03T11:00")]
    assert await returned(did, rolling=True, births=RECURRING) == {"12-01": [2], "12-02": [1]}
    assert await returned(did, rolling=True, births=FIRST_IN_RANGE) == {"12-01": [2]}


async def test_a_birth_is_no_return_of_its_own():
    assert await returned([("A", "2021-12-01T10:00")], back="A") == {"12-01": []}
    assert await returned([("A", "2021-12-01T10:00"), ("A", "2021-12-01T10:00")], back="A") == {"12-01": [0]}
    assert await returned([("B", "2021-12-01T09:00"), ("A", "2021-12-01T10:00")]) == {"12-01": []}


async def test_weeks_begin_on_monday():
    did = [("A", "2021-12-05T23:59:59.999"), ("B", "2021-12-06T00:00")]
    assert await returned(did, period="week") == {"12-05": [1]}
    assert await returned(did, period="month") == {"12-05": [0]}
