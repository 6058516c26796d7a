"""A funnel: how many persons come from step to step, how long they take, who drops out and where.

Each person's events that meet any step lie in one array, in order (query/sequence.py). An **attempt** is walked along
it, a sub-select a step: each finds the first event after the one before, so a funnel costs as much again for each step
and never more. ClickHouse's windowFunnel is not used: it knows neither ties, nor steps that are asked for twice, nor
exclusions.

What an attempt is, exactly, is in docs/questions.md; tests/reference/funnel.py walks it plainly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pugd.journeys import ANY, BEST, FIRST, LEAVE_OUT, STRICT, Durations, Funnel, FunnelSeries, FunnelStep
from pugd.query.conditions import Node
from pugd.query.reading import Reading, Told
from pugd.query.sequence import (
    key_after,
    key_from,
    key_time,
    meets,
    sequences,
    told_at,
    told_by,
    with_values,
)
from pugd.query.sql import Plan, Sql, bound, joined, named, plan, sql


def happening(question: Funnel, reading: Reading, met: Sequence[Node], told: Told | None = None) -> Sql:
    """What `plan_steps`, `persons` and `attempts` read: all that may change an attempt, and no more.

    `met`   a condition for each step, and then for each exclusion
    `told`  by what a breakdown tells apart
    """
    assert len(met) == question.steps + len(question.exclusions)
    return reading.events(
        met,
        since=question.since,
        until=question.until + question.window_ms + 1,
        only=question.order != STRICT,
        told=told,
    )


def plan_steps(question: Funnel, events: Sql, *, told: bool = False) -> Plan:
    """One row for everybody, and with `told` one for each value that is told apart and one for the others.

    `events`  a sub-select of (person, key, mark), and of `value` where one is told: mark n is that of step n, from 0,
              and those of the exclusions follow
    """
    columns = [column for step in range(2, question.steps + 1) for column in _durations(step)]
    return plan(
        sql(
            """
SELECT value, others, grouping(others) AS together, sumForEach(people), [$durations]
FROM (
    SELECT if(place <= $values, said, '') AS value, place > $values AS others, *
    FROM (
        SELECT *, row_number() OVER (ORDER BY people[1] DESC, said) AS place
        FROM (
            SELECT $said AS said, sumForEach(arrayMap(step -> toUInt64(length(at) >= step), $steps)) AS people$states
            FROM $attempts GROUP BY said
        )
    )
)
GROUP BY GROUPING SETS ((value, others), ()) HAVING $kept
ORDER BY together DESC, others, sumForEach(people)[1] DESC, value""",
            values=bound("UInt32", question.values),
            said=sql("value") if told else sql("''"),
            steps=bound("Array(UInt32)", list(range(1, question.steps + 1))),
            states=joined("", (state for state, _ in columns)),
            durations=joined(", ", (final for _, final in columns)),
            attempts=attempts(question, events, told=told),
            kept=sql("1") if told else sql("together = 1"),
        )
    )


def shape_steps(question: Funnel, found: Iterable[Sequence[Any]]) -> list[FunnelSeries]:
    """Everybody first, then by how many entered, and the others last."""
    series = []
    for value, others, all_values, people, durations in found:
        if not people:
            continue  # of nobody at all
        steps = []
        for place, count in enumerate(people):
            first, previous = durations[2 * place - 2 : 2 * place] if place else (None, None)
            before = people[place - 1] if place else 0
            following = people[place + 1] if place + 1 < len(people) else count
            steps.append(
                FunnelStep(
                    people=count,
                    of_first=count / people[0] if people[0] else None,
                    of_previous=count / before if before else None,
                    dropped=count - following,
                    since_first=_took(first),
                    since_previous=_took(previous),
                )
            )
        series.append(FunnelSeries(value=None if all_values or others else value, others=bool(others), steps=steps))
    return series or [FunnelSeries(steps=[_NOBODY] * question.steps)]


_NOBODY = FunnelStep(people=0, of_first=None, of_previous=None, dropped=0, since_first=None, since_previous=None)


def persons(
    question: Funnel,
    events: Sql,
    step: int,
    *,
    dropped: bool = False,
    values: Sequence[str] | None = None,
    others: bool = False,
) -> Sql:
    """A sub-select of the persons who reached this step, counted from 1, or of those whom it was the last of.

    `values`  only those with one of these values; with `others`, only those with none of them
    """
    last = bound("UInt32", step)
    return sql(
        "(SELECT person FROM $attempts WHERE $reached AND $among)",
        attempts=attempts(question, events, told=values is not None),
        reached=(sql("length(at) = $step", step=last) if dropped else sql("length(at) >= $step", step=last)),
        among=with_values(values, others=others),
    )


def _durations(step: int) -> list[tuple[Sql, Sql]]:
    """Since step one and since the step before: the states that are gathered, and what is made of them."""
    found = []
    for since, start in (("first", sql("at[1]")), ("previous", sql("at[$before]", before=bound("UInt32", step - 1)))):
        average, quantiles = named(f"average_{since}_{step}"), named(f"quantiles_{since}_{step}")
        found.append(
            (
                sql(
                    ", avgStateIf(at[$step] - $start, length(at) >= $step) AS $average,"
                    " quantilesExactInclusiveStateIf(0.5, 0.9, 0.99)(at[$step] - $start, length(at) >= $step)"
                    " AS $quantiles",
                    step=bound("UInt32", step),
                    start=start,
                    average=average,
                    quantiles=quantiles,
                ),
                sql(
                    "arrayPushFront(quantilesExactInclusiveMerge(0.5, 0.9, 0.99)($quantiles), avgMerge($average))",
                    average=average,
                    quantiles=quantiles,
                ),
            )
        )
    return found


def _took(found: Sequence[float] | None) -> Durations | None:
    return None if found is None or math.isnan(found[0]) else Durations(*found)


def attempts(question: Funnel, events: Sql, *, told: bool = False) -> Sql:
    """A sub-select of one row a person who entered: `person`, and `at`, the times in ms of the steps that its attempt
    reached, ascending; with `told`, `value`, what the event said that the breakdown's step took.

    `events`  a sub-select of (person, key, mark), and of `value` where one is told: those from `since` to a window
              after `until`; in strict order all of a person's that count, else those with a mark
    """
    entering = range(question.steps) if question.order == ANY else (0,)
    rows = sequences(events, needed=entering, also=told_by([question.breakdown_step - 1]) if told else ())
    enters = sql(
        "$meets AND key >= $since AND key < $until",
        meets=meets(sql("mark"), entering),
        since=key_from(question.since),
        until=key_from(question.until),
    )
    if question.entry == BEST:
        # One row an entry. Blocks are small, since each row has a copy of what it may reach.
        rows = sql(
            """
(SELECT * EXCEPT (keys, marks, places), arraySlice(keys, entry, beyond - entry) AS keys,
    arraySlice(marks, entry, beyond - entry) AS marks, arrayEnumerate(keys) AS places
FROM (
    SELECT *, if(after = 0, length(keys) + 1, after) AS beyond
    FROM (
        SELECT *, entry, $last AS last, arrayFirstIndex(key -> key >= last, keys) AS after
        FROM $rows ARRAY JOIN arrayFilter((place, mark, key) -> $enters, places, marks, keys) AS entry
    )
) SETTINGS max_block_size = 512)""",
            rows=rows,
            enters=enters,
            last=key_after(sql("keys[entry]"), question.window_ms),
        )
        begin = sql("toUInt32(1)")
    else:
        begin = sql("arrayFirstIndex((mark, key) -> $enters, marks, keys)", enters=enters)
    if question.order == ANY:
        rows = sql("(SELECT *, $begin AS entered FROM $rows WHERE entered > 0)", begin=begin, rows=rows)
        first = sql("entered")
    else:
        rows = sql("(SELECT *, $begin AS taken_0, 0 AS spoiled FROM $rows WHERE taken_0 > 0)", begin=begin, rows=rows)
        first = sql("taken_0")
    rows = sql(
        "(SELECT *, $ends AS ends FROM $rows)",
        ends=key_after(sql("keys[$first]", first=first), question.window_ms),
        rows=rows,
    )
    for step in range(question.steps):
        if question.order == ANY:
            rows = _any(rows, step)
        elif step and question.order == STRICT:
            rows = _strict(rows, step)
        elif step:
            rows = _ordered(rows, step, _between(question, step))
    taken = joined(", ", (sql("keys[$taken]", taken=_taken(step)) for step in range(question.steps)))
    found = sql(
        "(SELECT *, arrayMap(key -> $time, arraySort(arrayFilter(key -> key != 0, [$taken]))) AS at$told"
        " FROM $rows$kept)",
        time=key_time(sql("key")),
        taken=taken,
        told=sql(", $value AS value", value=told_at(sql("keys[$taken]", taken=_taken(question.breakdown_step - 1))))
        if told
        else sql(""),
        rows=rows,
        kept=sql(" WHERE NOT spoiled") if question.excluded == LEAVE_OUT and question.order != ANY else sql(""),
    )
    if question.entry == FIRST:
        return found
    return sql("(SELECT * FROM $found ORDER BY length(at) DESC, entry LIMIT 1 BY person)", found=found)


def _between(question: Funnel, step: int) -> list[int]:
    """The marks of what must not happen on the way to this step, counted from 0."""
    return [question.steps + place for place, one in enumerate(question.exclusions) if one.after <= step < one.before]


def _ordered(rows: Sql, step: int, exclusions: Sequence[int]) -> Sql:
    """The first event after the step before; where an excluded one comes earlier, none."""
    taken, before = _taken(step), _taken(step - 1)

    def first(bits: Sequence[int]) -> Sql:
        return sql(
            "if($before > 0, arrayFirstIndex((mark, place, key) -> place > $before AND key < ends AND $meets,"
            " marks, places, keys), 0)",
            before=before,
            meets=meets(sql("mark"), bits),
        )

    if not exclusions:
        return sql("(SELECT *, $first AS $taken FROM $rows)", first=first([step]), taken=taken, rows=rows)
    return sql(
        """
(SELECT * REPLACE (spoiled OR $ends AS spoiled), if($ends, 0, $found) AS $taken
FROM (
    SELECT *, $excluded > 0 AND ($found = 0 OR $excluded < $found) AS $ends
    FROM (SELECT *, $first AS $found, $first_excluded AS $excluded FROM $rows)
))""",
        ends=named(f"ends_{step}"),
        found=named(f"found_{step}"),
        excluded=named(f"excluded_{step}"),
        taken=taken,
        first=first([step]),
        first_excluded=first(exclusions),
        rows=rows,
    )


def _strict(rows: Sql, step: int) -> Sql:
    """The very next event."""
    following = sql("$before + 1", before=_taken(step - 1))
    return sql(
        "(SELECT *, if($before > 0 AND $meets AND keys[$following] < ends, $following, 0) AS $taken FROM $rows)",
        before=_taken(step - 1),
        meets=meets(sql("marks[$following]", following=following), [step]),
        following=following,
        taken=_taken(step),
        rows=rows,
    )


def _any(rows: Sql, step: int) -> Sql:
    """The first event that no step before it has taken."""
    return sql(
        "(SELECT *, arrayFirstIndex((mark, place, key) -> place >= entered AND key < ends AND $meets$free,"
        " marks, places, keys) AS $taken FROM $rows)",
        meets=meets(sql("mark"), [step]),
        free=joined("", (sql(" AND place != $taken", taken=_taken(before)) for before in range(step))),
        taken=_taken(step),
        rows=rows,
    )


def _taken(step: int) -> Sql:
    """The column with the place of the event that this step took; 0: none."""
    return named(f"taken_{step}")
