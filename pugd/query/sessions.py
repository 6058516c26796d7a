"""Sessions: runs of events of one person on one device, or under one session id of the client's.

A **lane** is what a session lies in: (person, session id), or (person, anonymous id, else user id) for events without
one. A lane is cut where it is quiet for too long, and a device's also after 24 hours. A session belongs to the range
that its start lies in and is never clipped, so events around the range are read too: `Span` says how far, and each
answer tells whether that was far enough (`unsettled`), which it is unless somebody was busy for a day on end.

The rule is in docs/rules.md, Sessions; tests/reference/sessions.py says it plainly.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pugd.query.sequence import gathered, in_order, key_time
from pugd.query.sql import Sql, bound, joined, named, sql

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
