"""Sessions: runs of events of one person on one device, or under one session id of the client's.

A **lane** is what a session lies in: (person, session id), or (person, anonymous id, else user id) for events without
one. A lane is cut where it is quiet for too long, and a device's also after 24 hours. A session belongs to the range
that its start lies in and is never clipped, so events around the range are read too: `Span` says how far, and each
answer tells whether that was far enough (`unsettled`), which it is unless somebody was busy for a day on end.

The rule is in docs/rules.md, Sessions; tests/reference/sessions.py says it plainly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from pugd.journeys import ENTRY_PAGE, EXIT_PAGE, FIRST_EVENT, Durations, Sessions, SessionsCell, SessionsSeries
from pugd.query import times
from pugd.query.conditions import ALWAYS, Node
from pugd.query.reading import Reading, Told
from pugd.query.sequence import gathered, in_order, key_time, with_values
from pugd.query.sql import Plan, Sql, bound, joined, named, plan, sql

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
IDLE_MS = 30 * _MINUTE
"""A device that is quiet for longer begins another session (as GA4, PostHog, Amplitude and others have it)."""
LONGEST_MS = 24 * _HOUR
"""A device's session is at most this long: what is never quiet is no visit."""
SAME_ID_MS = 24 * _HOUR
"""A client's session id that comes again after longer names another session."""

LANE = sql(
    "if(session_id != '', ('session', session_id),"
    " if(platform = 'server', ('', ''), ('device', if(anonymous_id != '', anonymous_id, user_id))))"
)
"""Of the event in a row of `events`: kind and id; ('', '') where it belongs to no session."""


class Span(msgspec.Struct, frozen=True):
    """Sessions that begin in [since, until), read from events in [read_from, read_until)."""

    since: int
    until: int
    read_from: int
    read_until: int

    @classmethod
    def around(cls, since: int, until: int, days: int = 1) -> Span:
        """Far enough for all sessions that are at most so many days long."""
        return cls(since, until, since - days * 24 * _HOUR - IDLE_MS, until + (days + 1) * 24 * _HOUR + 1)


class Found(msgspec.Struct, frozen=True):
    """Sessions, by value: everybody first, then by how many, the others last."""

    series: list[SessionsSeries]
    settled: bool
    """Nothing outside the span can change it; else it is to be asked again with a longer one."""


def bounds(question: Sessions) -> list[int]:
    """Where the intervals begin; the range as a whole where none is asked for."""
    if question.interval is None:
        return [question.since]
    return times.periods(question.since, question.until, question.interval, ZoneInfo(question.zone))[:-1]


def happening(question: Sessions, span: Span, reading: Reading, met: Node = ALWAYS, told: Told | None = None) -> Sql:
    """What `plan_cells` and `sessions` read: all events of the span that count and may belong to a session.

    `met`    sessions count that have such an event
    `told`   by what a breakdown tells apart
    """
    return reading.events(
        [met],
        since=span.read_from,
        until=span.read_until,
        only=False,
        conditions=[sql("$lane.1 != ''", lane=LANE)],
        columns=[("lane", LANE), ("page", sql("path"))],
        told=told,
    )


def plan_cells(question: Sessions, span: Span, events: Sql) -> Plan:
    """Rows of (all values?, whole range?, value, others, interval, unsettled, then the numbers of a cell).

    `events`  a sub-select of (person, lane, key, page, mark), and of `value` where the breakdown is of the first
              event, of all events in the span that count and have a lane. Sessions count that have an event with a mark
    """
    beside, said = _told(question)
    return plan(
        sql(
            """
SELECT grouping(others) AS together, grouping(interval) AS whole, value, others, interval, max(unsettled),
    sum(count), uniqExactMerge(persons), sum(events), sum(bounces),
    avgMerge(average), quantilesExactInclusiveMerge(0.5, 0.9, 0.99)(quantiles)
FROM (
    SELECT if(place <= $values, said, '') AS value, place > $values AS others, *
    FROM (
        SELECT *, dense_rank() OVER (ORDER BY size DESC, said) AS place
        FROM (
            SELECT *, sum(count) OVER (PARTITION BY said) AS size
            FROM (
                SELECT $said AS said, roundDown(begun, $bounds) AS interval, max(open) AS unsettled,
                    countIf(counts) AS count, uniqExactStateIf(person, counts) AS persons,
                    sumIf(length(keys), counts) AS events, countIf(counts AND length(keys) = 1) AS bounces,
                    avgStateIf(ended - begun, counts) AS average,
                    quantilesExactInclusiveStateIf(0.5, 0.9, 0.99)(ended - begun, counts) AS quantiles
                FROM (SELECT *, $since <= begun AS counts, unsettled AS open FROM $sessions WHERE has(choices, 1))
                GROUP BY said, interval
            )
        )
    )
)
GROUP BY GROUPING SETS ((value, others, interval), (value, others), (interval), ()) HAVING $kept""",
            values=bound("UInt32", question.values),
            said=said,
            since=bound("Int64", span.since),
            bounds=bound("Array(Int64)", bounds(question)),
            sessions=sessions(span, events, beside=beside),
            kept=sql("1") if question.breakdown else sql("together = 1"),
        )
    )


def shape_cells(question: Sessions, rows: Iterable[Sequence[Any]]) -> Found:
    """Every interval, empty ones too."""
    cells: dict[tuple[bool, bool, str], dict[int | None, SessionsCell]] = {(False, False, ""): {}}
    unsettled = False
    for together, whole, value, others, interval, open_, *numbers in rows:
        unsettled = unsettled or bool(open_)
        if numbers[0]:
            key = (not together, bool(others), "" if together else value)
            begins = None if whole else interval
            cells.setdefault(key, {})[begins] = _cell(begins, *numbers)
    ranked = sorted(cells, key=lambda key: (key[:2], -cells[key][None].sessions if key[0] else 0, key[2]))
    return Found(
        [
            SessionsSeries(
                value=value if apart and not others else None,
                others=others,
                total=cells[apart, others, value].get(None) or _cell(None),
                intervals=[cells[apart, others, value].get(begins) or _cell(begins) for begins in bounds(question)]
                if question.interval
                else [],
            )
            for apart, others, value in ranked
        ],
        settled=not unsettled,
    )


def _cell(
    begins: int | None,
    sessions: int = 0,
    people: int = 0,
    events: int = 0,
    bounces: int = 0,
    average: float = math.nan,
    quantiles: Sequence[float] = (),
) -> SessionsCell:
    return SessionsCell(
        begins=None if begins is None else times.text(begins),
        sessions=sessions,
        people=people,
        events=events,
        events_per_session=events / sessions if sessions else None,
        bounces=bounces,
        bounce_rate=bounces / sessions if sessions else None,
        duration=Durations(average, *quantiles) if sessions else None,
    )


def sessions(span: Span, events: Sql, *, beside: Sequence[tuple[str, Sql]] = ()) -> Sql:
    """A sub-select of one row a session that begins in the range, or may: `person`, `lane`, `keys` ascending, and an
    array beside them for each of `beside`; `begun` and `ended` in ms; `unsettled`: events outside the span may yet
    change it.

    `events`  a sub-select of (person, lane, key), and of what `beside` reads, of all events in the span that count and
              have a lane
    `beside`  (array's name, column of `events`)
    """
    names = [named(name) for name, _ in beside]
    parts = [named(f"{name}_of") for name, _ in beside]
    return sql(
        """
(SELECT person, lane, keys$names, $first AS begun, $last AS ended,
    if(lane.1 = 'device', lane_begun < $sure AND lane_paused >= $since AND begun <= lane_paused, ended > $open)
        AS unsettled
FROM (
    SELECT person, lane, times[1] AS lane_begun, ends[1] AS lane_paused, keys_of AS keys$unfolded
    FROM (
        SELECT *, arraySplit((key, cut) -> cut, keys, cuts) AS keys_of$split
        FROM (
            SELECT *, arrayMap((at, before) -> at - before > idle, times, befores) AS pauses,
                arrayFold((found, at) ->
                    if(at - found.2 > idle OR at - found.1 > $longest,
                        (at, at, arrayPushBack(found.3, at)), (found.1, at, found.3)),
                    if(long, times, []), (toInt64(-4611686018427387904), toInt64(-4611686018427387904),
                        emptyArrayInt64())).3 AS starts,
                if(long, arrayMap((at, before) -> at != before AND has(starts, at), if(long, times, []),
                    if(long, befores, [])), pauses) AS cuts
            FROM (
                SELECT *, arrayMap(key -> $key_time, keys) AS times,
                    arrayPushFront(arrayPopBack(times), toInt64(-4611686018427387904)) AS befores,
                    if(lane.1 = 'device', $idle, $same_id) AS idle,
                    arrayFilter((at, after) -> after - at > idle, times,
                        arrayPushBack(arrayPopFront(times), toInt64(4611686018427387904))) AS ends,
                    lane.1 = 'device' AND arrayExists((end, begin) -> end - begin > $longest, ends,
                        arrayFilter((at, before) -> at - before > idle, times, befores)) AS long
                FROM (
                    SELECT person, lane, unsorted_keys, arraySort(unsorted_keys) AS keys$in_order
                    FROM (
                        SELECT person, lane$gathered
                        FROM $events GROUP BY person, lane
                    )
                )
            )
        )
    )
    ARRAY JOIN keys_of$joins
)
WHERE begun < $until AND (begun >= $since OR unsettled))""",
        first=key_time(sql("keys[1]")),
        last=key_time(sql("keys[-1]")),
        since=bound("Int64", span.since),
        until=bound("Int64", span.until),
        sure=bound("Int64", span.read_from + IDLE_MS),
        open=bound("Int64", span.read_until - SAME_ID_MS - 1),
        idle=bound("Int64", IDLE_MS),
        same_id=bound("Int64", SAME_ID_MS),
        longest=bound("Int64", LONGEST_MS),
        key_time=key_time(sql("key")),
        events=events,
        gathered=gathered([("keys", sql("key")), *beside]),
        in_order=in_order(name for name, _ in beside),
        split=joined(
            "",
            (
                sql(", arraySplit((it, cut) -> cut, $name, cuts) AS $part", name=name, part=part)
                for name, part in zip(names, parts, strict=True)
            ),
        ),
        unfolded=joined(
            "", (sql(", $part AS $name", name=name, part=part) for name, part in zip(names, parts, strict=True))
        ),
        names=joined("", (sql(", $name", name=name) for name in names)),
        joins=joined("", (sql(", $part", part=part) for part in parts)),
    )


def persons(
    question: Sessions,
    span: Span,
    events: Sql,
    interval: int | None,
    *,
    values: Sequence[str] | None = None,
    others: bool = False,
) -> Sql:
    """A sub-select of the persons of sessions that begin in the interval; None: in the whole range.

    `values`  only of sessions with one of these values; with `others`, with none of them
    """
    beside, said = _told(question)
    within = sql("1")
    if interval is not None:
        within = sql(
            "roundDown(begun, $bounds) = $interval",
            bounds=bound("Array(Int64)", bounds(question)),
            interval=bound("Int64", interval),
        )
    return sql(
        """
(SELECT DISTINCT person FROM (SELECT person, begun, $said AS value FROM $sessions WHERE has(choices, 1))
WHERE begun >= $since AND begun < $until AND $within AND $among)""",
        said=said,
        sessions=sessions(span, events, beside=beside),
        since=bound("Int64", span.since),
        until=bound("Int64", span.until),
        within=within,
        among=with_values(values, others=others),
    )


def _told(question: Sessions) -> tuple[list[tuple[str, Sql]], Sql]:
    """The arrays beside a session's keys, and what a breakdown tells apart."""
    beside = [("pages", sql("page")), ("choices", sql("mark"))]
    if question.breakdown == ENTRY_PAGE:
        return beside, sql("arrayFirst(page -> page != '', pages)")
    if question.breakdown == EXIT_PAGE:
        return beside, sql("arrayLast(page -> page != '', pages)")
    if question.breakdown == FIRST_EVENT:
        return [*beside, ("values", sql("value"))], sql("values[1]")
    return beside, sql("''")
