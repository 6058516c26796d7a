"""Retention: of the persons who began in the same period, how many came back in which later one.

Each person's events that start or return lie in one array, in order (query/sequence.py). A **birth** is the event that
makes a person a member of a cohort; from it, the later periods that have a return in them are collected. Where the
calendar's periods begin is worked out in Python, in the project's zone, and given as numbers: ClickHouse's own time
zones may be of another year than ours, and a day may have 23 hours.

What counts as a birth and as a return is in docs/questions.md; tests/reference/retention.py says it plainly.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pugd.query.sequence import key_from, key_time, meets, sequences
from pugd.query.sql import Sql, bound, joined, sql

FIRST_EVER, FIRST_IN_RANGE, RECURRING = "first_ever", "first_in_range", "recurring"

START, RETURN = 0, 1
"""The marks of the events."""


class Births(msgspec.Struct, frozen=True, kw_only=True):
    """Who is born when, and what is looked at after that."""

    births: str = FIRST_EVER
    since: int
    until: int
    bounds: tuple[int, ...]
    """The beginnings of the periods, from the one that `since` lies in, at least to the end of the last asked for."""
    length_ms: int | None = None
    """Of a period that begins with the birth; None: the calendar's."""
    periods: int
    """How many after the birth's own."""


def returns(births: Births, events: Sql, *, also: Sequence[Sql] = (), told: Sequence[Sql] = ()) -> Sql:
    """A sub-select of one row a person and cohort: `person`, `cohort` (the beginning of its period), `born_key`, and
    `cells`, the periods that have a return: their beginnings, or how many after the birth where periods are rolling.

    `events`  a sub-select of (person, key, mark), of all of a person's that may be births or returns
    `also`    further aggregates of a person's events
    `told`    what is to be handed through of them
    """
    rows = sequences(events, needed=[START], also=also)
    starts = meets(sql("mark"), [START])
    since, until = key_from(births.since), key_from(births.until)
    inside = sql("key >= $since AND key < $until", since=since, until=until)
    if births.births == RECURRING:
        # Of all starts, those whose period is not that of the start before. One row a birth follows, each with a copy
        # of the person's events: hence small blocks.
        rows = sql(
            """
(SELECT *, arrayMap(key -> $period, start_keys) AS cohorts,
    arrayFilter((place, cohort, before) -> cohort != before, starts, cohorts,
        arrayPushFront(arrayPopBack(cohorts), -9223372036854775808)) AS born
FROM (
    SELECT *, arrayFilter((place, mark, key) -> $starts AND $inside, places, marks, keys) AS starts,
        arrayFilter((key, mark) -> $starts AND $inside, keys, marks) AS start_keys FROM $rows
) WHERE notEmpty(starts) SETTINGS max_block_size = 4096)""",
            period=_period(births, key_time(sql("key"))),
            starts=starts,
            inside=inside,
            rows=rows,
        )
    else:
        candidate = starts if births.births == FIRST_EVER else sql("$starts AND $inside", starts=starts, inside=inside)
        rows = sql(
            """
(SELECT *, [place] AS born
FROM (SELECT *, arrayFirstIndex((mark, key) -> $candidate, marks, keys) AS place, keys[place] AS key FROM $rows)
WHERE place > 0 AND $inside)""",
            candidate=candidate,
            inside=inside,
            rows=rows,
        )
    return sql(
        """
(SELECT person, cohort, born_key$told, arrayDistinct(arrayMap(at -> $cell,
    arrayMap(key -> $key_time, arrayFilter((key, mark, place) -> key >= $born_from AND place != birth AND $returned,
        keys, marks, places)))) AS cells
FROM (
    SELECT *, $born_at AS born_at, $cohort AS cohort
    FROM (SELECT *, birth, keys[birth] AS born_key FROM $rows ARRAY JOIN born AS birth)
))""",
        told=joined("", (sql(", $name", name=name) for name in told)),
        cell=_cell(births),
        key_time=key_time(sql("key")),
        born_from=sql("bitShiftLeft(toUInt128(born_at), 84)"),
        returned=meets(sql("mark"), [RETURN]),
        born_at=key_time(sql("born_key")),
        cohort=_period(births, sql("born_at")),
        rows=rows,
    )


def _period(births: Births, at: Sql) -> Sql:
    """The beginning of the period that this time lies in."""
    return sql("roundDown($at, $bounds)", at=at, bounds=bound("Array(Int64)", list(births.bounds)))


def _cell(births: Births) -> Sql:
    if births.length_ms is None:
        return _period(births, sql("at"))
    return sql(
        "least(intDiv(at - born_at, $length), $beyond)",
        length=bound("Int64", births.length_ms),
        beyond=bound("Int64", births.periods + 1),
    )
