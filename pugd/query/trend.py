"""A trend: how many events there were, how many people, or what their numbers came to, by interval and by value.

Where the intervals begin is worked out in Python, in the project's zone (query/times.py). Each value that is told apart
has every interval, empty ones too; the values with the most of the measure are told apart, all others are together.
Uniques are exact, and of a longer time than an interval they are counted again, not added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from pugd.ask import EVENTS, NUMBERS, PEOPLE, PER_PERSON
from pugd.journeys import Trend, TrendPoint, TrendSeries
from pugd.query import times
from pugd.query.conditions import Node
from pugd.query.reading import Reading, Told
from pugd.query.sequence import key_time, with_values
from pugd.query.sql import Plan, Sql, bound, plan, sql
from pugd.query.values import Value

_QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def bounds(question: Trend) -> list[int]:
    """Where the intervals begin; the range as a whole where none is asked for."""
    if question.interval is None:
        return [question.since]
    return times.periods(question.since, question.until, question.interval, ZoneInfo(question.zone))[:-1]


def happening(
    question: Trend, reading: Reading, met: Node, number: Value | None = None, told: Told | None = None
) -> Sql:
    """What `plan_points` and `persons` read.

    `number`  whose number is measured
    `told`    by what a breakdown tells apart
    """
    return reading.events(
        [met],
        since=question.since,
        until=question.until,
        columns=[] if number is None else [("number", number.number)],
        told=told,
    )


def plan_points(question: Trend, events: Sql, *, told: bool = False) -> Plan:
    """Rows of (all values?, whole range?, value, others, interval, events, people, measure).

    `events`  a sub-select of (person, key), and of `number` and `value` where they are asked for
    """
    state, merged = _measured(question)
    return plan(
        sql(
            """
SELECT grouping(others) AS together, grouping(interval) AS whole, value, others, interval,
    sum(count), uniqExactMerge(persons), $merged
FROM (
    SELECT if(place <= $values, said, '') AS value, place > $values AS others, *
    FROM (
        SELECT *, dense_rank() OVER (ORDER BY ifNull(size, -inf) DESC, said) AS place
        FROM (
            SELECT *, toFloat64OrNull(toString($size)) AS size
            FROM (
                SELECT $said AS said, roundDown($at, $bounds) AS interval, count() AS count,
                    uniqExactState(person) AS persons$state
                FROM $events GROUP BY said, interval
            )
        )
    )
)
GROUP BY GROUPING SETS ((value, others, interval), (value, others), (interval), ()) HAVING $kept""",
            merged=merged,
            size=_size(question, merged),
            state=state,
            values=bound("UInt32", question.values),
            said=sql("value") if told else sql("''"),
            at=key_time(sql("key")),
            bounds=bound("Array(Int64)", bounds(question)),
            events=events,
            kept=sql("1") if told else sql("together = 1"),
        )
    )


def _size(question: Trend, merged: Sql) -> Sql:
    """The measure of all intervals of a value."""
    if question.measure == PER_PERSON:
        return sql("sum(count) OVER (PARTITION BY said) / uniqExactMerge(persons) OVER (PARTITION BY said)")
    return sql("$merged OVER (PARTITION BY said)", merged=merged)


def _measured(question: Trend) -> tuple[Sql, Sql]:
    """What is gathered besides, and the measure of what was gathered."""
    measure = question.measure
    if measure == EVENTS:
        return sql(""), sql("sum(count)")
    if measure == PEOPLE:
        return sql(""), sql("uniqExactMerge(persons)")
    if measure == PER_PERSON:
        return sql(""), sql("sum(count) / uniqExactMerge(persons)")
    assert measure in NUMBERS
    if measure == "sum":
        return sql(", sumOrNullState(number) AS numbers"), sql("sumOrNullMerge(numbers)")
    if measure == "average":
        return sql(", avgOrNullState(number) AS numbers"), sql("avgOrNullMerge(numbers)")
    if measure == "min":
        return sql(", minOrNullState(number) AS numbers"), sql("minOrNullMerge(numbers)")
    if measure == "max":
        return sql(", maxOrNullState(number) AS numbers"), sql("maxOrNullMerge(numbers)")
    level = bound("Float64", _QUANTILES[measure])
    return (
        sql(", quantileExactInclusiveOrNullState($level)(number) AS numbers", level=level),
        sql("quantileExactInclusiveOrNullMerge($level)(numbers)", level=level),
    )


def shape_points(question: Trend, name: str | None, found: Iterable[Sequence[Any]], now: int) -> list[TrendSeries]:
    """Everything first, then by how much, and the others last; every interval, empty ones too."""
    cells: dict[tuple[bool, bool, str], dict[int | None, tuple[Any, ...]]] = {(False, False, ""): {}}
    for together, whole, value, others, interval, *numbers in found:
        if numbers[0]:
            key = (not together, bool(others), "" if together else value)
            cells.setdefault(key, {})[None if whole else interval] = tuple(numbers)
    begins = bounds(question)

    def point(own: dict[int | None, tuple[Any, ...]], at: int | None, ends: int) -> TrendPoint:
        events, people, measure = own.get(at, (0, 0, 0 if question.measure in (EVENTS, PEOPLE) else None))
        return TrendPoint(
            begins=None if at is None else times.text(at),
            value=None if measure is None or not math.isfinite(measure) else measure,
            events=events,
            people=people,
            finished=ends <= now,
        )

    def most(key: tuple[bool, bool, str]) -> float:
        measure = cells[key].get(None, (0, 0, None))[2]
        return -math.inf if measure is None else measure

    ranked = sorted(cells, key=lambda key: (key[:2], -most(key) if key[0] else 0, key[2]))
    return [
        TrendSeries(
            name=name,
            measure=question.measure,
            value=key[2] if key[0] and not key[1] else None,
            others=key[1],
            total=point(cells[key], None, question.until),
            points=[point(cells[key], at, ends) for at, ends in zip(begins, [*begins[1:], question.until], strict=True)]
            if question.interval
            else [],
        )
        for key in ranked
    ]


def persons(
    question: Trend,
    events: Sql,
    interval: int | None,
    *,
    values: Sequence[str] | None = None,
    others: bool = False,
) -> Sql:
    """A sub-select of the persons of the interval that begins then; None: of the whole range.

    `values`  only those with one of these values; with `others`, only those with none of them
    """
    within = sql("1")
    if interval is not None:
        within = sql(
            "roundDown($at, $bounds) = $interval",
            at=key_time(sql("key")),
            bounds=bound("Array(Int64)", bounds(question)),
            interval=bound("Int64", interval),
        )
    return sql(
        "(SELECT DISTINCT person FROM $events WHERE $within AND $among)",
        events=events,
        within=within,
        among=with_values(values, others=others),
    )
