"""Retention: of the persons who began in the same period, how many came back in which later one.

Each person's events that start or return lie in one array, in order (query/sequence.py). A **birth** is the event that
makes a person a member of a cohort; from it, the later periods that have a return in them are collected. Where the
calendar's periods begin is worked out in Python, in the project's zone, and given as numbers: ClickHouse's own time
zones may be of another year than ours, and a day may have 23 hours.

What counts as a birth and as a return is in docs/questions.md; tests/reference/retention.py says it plainly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from pugd.journeys import DAY_MS, FIRST_EVER, ON_OR_AFTER, RECURRING, Cell, Cohort, Retention, RetentionSeries
from pugd.query import times
from pugd.query.conditions import All, Node, Row
from pugd.query.filters import moment
from pugd.query.reading import Reading, Told
from pugd.query.sequence import key_from, key_time, meets, sequences, told_at, told_by, with_values
from pugd.query.sql import Plan, Sql, bound, plan, sql

START, RETURN = 0, 1
"""The marks of the events."""

LENGTHS_MS = {"day": DAY_MS, "week": 7 * DAY_MS, "month": 30 * DAY_MS}
"""Of periods that follow a person's birth."""

_SIZE = -(2**63)
"""Stands for a cell that everybody in the cohort is in."""


def bounds(question: Retention) -> list[int]:
    """Where the calendar's periods begin, from the one that the range begins in to the end of the last that is asked
    for, and beyond."""
    length = LENGTHS_MS[question.period] + 2 * DAY_MS  # of the longest: a month of 31 days, and clocks that change
    ends = question.until + (question.periods + 1) * length
    return times.periods(question.since, ends, question.period, ZoneInfo(question.zone))


def happening(question: Retention, reading: Reading, started: Node, returned: Node, told: Told | None = None) -> Sql:
    """What `plan_cells`, `persons` and `returns` read: all that may be a birth or a return, and no more. What a
    clock that was ahead dated later than now counts here as in every question of that range.

    `told`  by what a breakdown tells apart
    """
    since, until = moment(question.since), moment(question.until)
    started = All((started, Row(sql("occurred_at < $until", until=until))))
    earlier = question.births == FIRST_EVER
    if earlier:
        returned = All((returned, Row(sql("occurred_at >= $since", since=since))))
    return reading.events([started, returned], since=None if earlier else question.since, told=told)


def plan_cells(question: Retention, events: Sql, *, told: bool = False) -> Plan:
    """Rows of (all values?, value, others, cohort, cell, people), none empty.

    `events`  a sub-select of (person, key, mark), and of `value` where one is told, of every event that counts and
              starts (before `until`; by `since` or, for first_ever, at any time) or returns (from `since` on)
    """
    cells = sql("if(empty(cells), [], [arrayMax(cells)])") if question.returns == ON_OR_AFTER else sql("cells")
    return plan(
        sql(
            """
SELECT grouping(others) AS together, value, others, cohort, cell, sum(people)
FROM (
    SELECT if(place <= $values, said, '') AS value, place > $values AS others, cohort, cell, people
    FROM (
        SELECT *, dense_rank() OVER (ORDER BY size DESC, said) AS place
        FROM (
            SELECT *, sumIf(people, cell = $size) OVER (PARTITION BY said) AS size
            FROM (
                SELECT $said AS said, cohort, arrayJoin(arrayPushBack($cells, $size)) AS cell, count() AS people
                FROM $returns GROUP BY said, cohort, cell
            )
        )
    )
)
GROUP BY GROUPING SETS ((value, others, cohort, cell), (cohort, cell)) HAVING $kept""",
            values=bound("UInt32", question.values),
            size=bound("Int64", _SIZE),
            said=sql("value") if told else sql("''"),
            cells=cells,
            returns=returns(question, events, told=told),
            kept=sql("1") if told else sql("together = 1"),
        )
    )


def shape_cells(question: Retention, found: Iterable[Sequence[Any]], now: int) -> list[RetentionSeries]:
    """Everybody first, then by how many were born, and the others last; every cohort and begun cell, empty ones too."""
    begins = bounds(question)
    counts: dict[tuple[bool, str, bool], dict[tuple[int, int], int]] = defaultdict(lambda: defaultdict(int))
    sizes: dict[tuple[bool, str, bool], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    number = {bound_: place for place, bound_ in enumerate(begins)}
    for all_values, value, others, cohort, cell, people in found:
        series = (not all_values, "" if all_values else value, bool(others))
        if cell == _SIZE:
            sizes[series][number[cohort]] += people
            continue
        after = cell if question.rolling else number[cell] - number[cohort]
        if question.returns == ON_OR_AFTER:
            for earlier in range(min(after, question.periods) + 1):
                counts[series][number[cohort], earlier] += people
        elif after <= question.periods:
            counts[series][number[cohort], after] += people
    everybody = (False, "", False)
    ordered = sorted({everybody, *sizes}, key=lambda key: (key[0], key[2], -sum(sizes[key].values()), key[1]))
    return [
        RetentionSeries(
            value=None if not apart or others else value,
            others=others,
            cohorts=(
                cohorts := _cohorts(question, begins, sizes[apart, value, others], counts[apart, value, others], now)
            ),
            average=_average(cohorts),
        )
        for apart, value, others in ordered
    ]


def _cohorts(
    question: Retention, begins: Sequence[int], sizes: dict[int, int], counts: dict[tuple[int, int], int], now: int
) -> list[Cohort]:
    cohorts = []
    for place, begin in enumerate(begins):
        if begin >= question.until:
            break
        size = sizes.get(place, 0)
        cells = []
        for after in range(question.periods + 1):
            if question.rolling:
                length = LENGTHS_MS[question.period]
                first = max(begin, question.since) + after * length
                last = min(begins[place + 1], question.until) - 1 + (after + 1) * length
            else:
                first, last = begins[place + after], begins[place + after + 1]
            if first >= now:
                break
            people = counts.get((place, after), 0)
            cells.append(Cell(people, people / size if size else None, last <= now))
        cohorts.append(Cohort(times.text(begin), size, cells))
    return cohorts


def _average(cohorts: Sequence[Cohort]) -> list[float | None]:
    averages: list[float | None] = []
    for after in range(max((len(cohort.cells) for cohort in cohorts), default=0)):
        over = [cohort for cohort in cohorts if len(cohort.cells) > after and cohort.cells[after].finished]
        size = sum(cohort.size for cohort in over)
        averages.append(sum(cohort.cells[after].people for cohort in over) / size if size else None)
    return averages


def persons(
    question: Retention,
    events: Sql,
    cohort: int,
    after: int | None,
    *,
    values: Sequence[str] | None = None,
    others: bool = False,
) -> Sql:
    """A sub-select of the persons of a cohort, counted from 0, who came back in a period after it; None: of all of it.

    `values`  only those with one of these values; with `others`, only those with none of them
    """
    begins = bounds(question)
    cell = sql("1")
    if after is not None:
        wanted = bound("Int64", after if question.rolling else begins[cohort + after])
        cell = (
            sql("notEmpty(cells) AND arrayMax(cells) >= $wanted", wanted=wanted)
            if question.returns == ON_OR_AFTER
            else sql("has(cells, $wanted)", wanted=wanted)
        )
    return sql(
        "(SELECT person FROM $returns WHERE cohort = $cohort AND $cell AND $among)",
        returns=returns(question, events, told=values is not None),
        cohort=bound("Int64", begins[cohort]),
        cell=cell,
        among=with_values(values, others=others),
    )


def returns(question: Retention, events: Sql, *, told: bool = False) -> Sql:
    """A sub-select of one row a person and cohort: `person`, `cohort` (the beginning of its period), `born_key`, and
    `cells`, the periods that have a return: their beginnings, or how many after the birth where periods are rolling.

    `events`  a sub-select of (person, key, mark), and of `value` where one is told, of all of a person's that may be
              births or returns
    """
    rows = sequences(events, needed=[START], also=told_by([START]) if told else ())
    starts = meets(sql("mark"), [START])
    since, until = key_from(question.since), key_from(question.until)
    inside = sql("key >= $since AND key < $until", since=since, until=until)
    if question.births == RECURRING:
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
            period=_period(question, key_time(sql("key"))),
            starts=starts,
            inside=inside,
            rows=rows,
        )
    else:
        candidate = (
            starts if question.births == FIRST_EVER else sql("$starts AND $inside", starts=starts, inside=inside)
        )
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
        told=sql(", $value AS value", value=told_at(sql("born_key"))) if told else sql(""),
        cell=_cell(question),
        key_time=key_time(sql("key")),
        born_from=sql("bitShiftLeft(toUInt128(born_at), 84)"),
        returned=meets(sql("mark"), [RETURN]),
        born_at=key_time(sql("born_key")),
        cohort=_period(question, sql("born_at")),
        rows=rows,
    )


def _period(question: Retention, at: Sql) -> Sql:
    """The beginning of the period that this time lies in."""
    return sql("roundDown($at, $bounds)", at=at, bounds=bound("Array(Int64)", bounds(question)))


def _cell(question: Retention) -> Sql:
    if not question.rolling:
        return _period(question, sql("at"))
    return sql(
        "least(intDiv(at - born_at, $length), $beyond)",
        length=bound("Int64", LENGTHS_MS[question.period]),
        beyond=bound("Int64", question.periods + 1),
    )
