"""A funnel: how many persons come from step to step, how long they take, who drops out and where.

Each person's events that meet any step lie in one array, in order (query/sequence.py). An **attempt** is walked along
it, a sub-select a step: each finds the first event after the one before, so a funnel costs as much again for each step
and never more. ClickHouse's windowFunnel is not used: it knows neither ties, nor steps that are asked for twice, nor
exclusions.

What an attempt is, exactly, is in docs/questions.md; tests/reference/funnel.py walks it plainly.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pugd.query.sequence import key_after, key_from, key_time, meets, sequences
from pugd.query.sql import Sql, bound, joined, named, sql

ORDERED, STRICT, ANY = "ordered", "strict", "any"
FIRST, BEST = "first", "best"


class Exclusion(msgspec.Struct, frozen=True):
    """The condition with this mark must not be met between two steps, counted from 0."""

    mark: int
    after: int
    before: int


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """How attempts are made: step n is met by what has mark n."""

    steps: int
    since: int
    until: int
    window_ms: int
    order: str = ORDERED
    entry: str = FIRST
    exclusions: tuple[Exclusion, ...] = ()
    left_out: bool = False
    """An excluded event leaves the attempt out altogether, instead of ending it."""


def attempts(walk: Walk, events: Sql, *, told: int | None = None, also: Sequence[Sql] = ()) -> Sql:
    """A sub-select of one row a person who entered: `person`, and `at`, the times in ms of the steps that its attempt
    reached, ascending; with `told`, `told_key`, the key of the event that this step took (0: none).

    `events`  a sub-select of (person, key, mark): those from `since` to a window after `until`; in strict order all of
              a person's that count, else those with a mark
    `also`    further aggregates of them, which are handed through
    """
    entering = range(walk.steps) if walk.order == ANY else (0,)
    rows = sequences(events, needed=entering, also=also)
    enters = sql(
        "$meets AND key >= $since AND key < $until",
        meets=meets(sql("mark"), entering),
        since=key_from(walk.since),
        until=key_from(walk.until),
    )
    if walk.entry == BEST:
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
            last=key_after(sql("keys[entry]"), walk.window_ms),
        )
        begin = sql("toUInt32(1)")
    else:
        begin = sql("arrayFirstIndex((mark, key) -> $enters, marks, keys)", enters=enters)
    if walk.order == ANY:
        rows = sql("(SELECT *, $begin AS entered FROM $rows WHERE entered > 0)", begin=begin, rows=rows)
        first = sql("entered")
    else:
        rows = sql("(SELECT *, $begin AS taken_0, 0 AS spoiled FROM $rows WHERE taken_0 > 0)", begin=begin, rows=rows)
        first = sql("taken_0")
    rows = sql(
        "(SELECT *, $ends AS ends FROM $rows)",
        ends=key_after(sql("keys[$first]", first=first), walk.window_ms),
        rows=rows,
    )
    for step in range(walk.steps):
        if walk.order == ANY:
            rows = _any(rows, step)
        elif step and walk.order == STRICT:
            rows = _strict(rows, step)
        elif step:
            rows = _ordered(rows, step, [one.mark for one in walk.exclusions if one.after < step <= one.before])
    taken = joined(", ", (sql("keys[$taken]", taken=_taken(step)) for step in range(walk.steps)))
    found = sql(
        "(SELECT *, arrayMap(key -> $time, arraySort(arrayFilter(key -> key != 0, [$taken]))) AS at$told"
        " FROM $rows$kept)",
        time=key_time(sql("key")),
        taken=taken,
        told=sql("") if told is None else sql(", keys[$taken] AS told_key", taken=_taken(told)),
        rows=rows,
        kept=sql(" WHERE NOT spoiled") if walk.left_out and walk.order != ANY else sql(""),
    )
    if walk.entry == FIRST:
        return found
    return sql("(SELECT * FROM $found ORDER BY length(at) DESC, entry LIMIT 1 BY person)", found=found)


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


def reached(step: int) -> Sql:
    """Did an attempt reach this step, counted from 0?"""
    return sql("length(at) >= $steps", steps=bound("UInt32", step + 1))
