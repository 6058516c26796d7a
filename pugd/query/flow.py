"""A flow: which events came next to one event, step by step, and who went no further.

Each person's events lie in one array, in order (query/sequence.py), or each session's (query/sessions.py). From the
first that matches in the range, the names of those after it, or before it, are taken within a window.

docs/questions.md says exactly what is counted; tests/reference/flow.py says it plainly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pugd.journeys import AFTER, Flow, FlowFound, FlowLink, FlowNode, FlowStep
from pugd.query.conditions import Node
from pugd.query.reading import Reading
from pugd.query.sequence import key_after, key_from, meets, sequences
from pugd.query.sql import Plan, Sql, bound, plan, sql

ANCHOR = 0
"""The mark of the event that a flow is of."""


def happening(question: Flow, reading: Reading, met: Node, said: Sql | None = None) -> Sql:
    """What `plan_links` and `persons` read: all events that count within a window of the range.

    `met`    that is what the flow is of
    `said`   a String of a row of `events`, by which each is called; None: its name
    """
    after = question.direction == AFTER
    return reading.events(
        [met],
        since=question.since if after else question.since - question.window_ms,
        until=question.until + question.window_ms + 1 if after else question.until,
        only=False,
        columns=[("name", sql("toString(event)") if said is None else said)],
    )


def plan_links(question: Flow, events: Sql) -> Plan:
    """Rows of (step, from, to, ended, how many): who came from one name to another at a step, or went no further; from
    is '' at the first step, to where it ended.

    `events`  a sub-select of (person, key, mark, name) of all events that count, from a window before `since` or to a
              window after `until`
    """
    return plan(
        sql(
            """
SELECT step, if(step = 1, '', path[step - 1]) AS origin, path[step] AS target, step > length(path) AS ended, count()
FROM $paths ARRAY JOIN range(1, least(length(path) + 1, $steps) + 1) AS step
GROUP BY step, origin, target, ended""",
            paths=paths(question, _people(events)),
            steps=bound("UInt32", question.steps),
        )
    )


def shape_links(question: Flow, found: Iterable[Sequence[Any]]) -> FlowFound:
    """Each step's most frequent names, and all others together."""
    rows = [tuple(row) for row in found]
    people = sum(count for step, _, _, _, count in rows if step == 1)
    told: dict[int, set[str]] = {0: {""}}
    steps = []
    for number in range(1, question.steps + 1):
        own = [row for row in rows if row[0] == number]
        names: Counter[str] = Counter()
        for _, _, target, ended, count in own:
            if not ended:
                names[target] += count
        ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
        told[number] = {name for name, _ in ranked[: question.names]}
        nodes = [FlowNode(name, count) for name, count in ranked[: question.names]]
        if rest := sum(count for _, count in ranked[question.names :]):
            nodes.append(FlowNode(None, rest))
        links: Counter[tuple[str | None, str | None]] = Counter()
        for _, origin, target, ended, count in own:
            if number > 1 and not ended:
                links[_told(origin, told[number - 1]), _told(target, told[number])] += count
        steps.append(
            FlowStep(
                nodes=nodes,
                links=[FlowLink(*ends, count) for ends, count in sorted(links.items(), key=_by_count)],
                ended=sum(count for _, _, _, ended, count in own if ended),
            )
        )
    return FlowFound(people, steps)


def _told(name: str, told: set[str]) -> str | None:
    return name if name in told else None


def _by_count(item: tuple[tuple[str | None, str | None], int]) -> tuple[int, str, str]:
    (origin, target), count = item
    return -count, origin or "", target or ""


def persons(question: Flow, events: Sql, step: int, names: Sequence[str] | None, *, others: bool = False) -> Sql:
    """A sub-select of the persons who did one of these at a step, counted from 1; with `others`, anything else there.
    No names: those who had come as far as the step before, and went no further."""
    at = bound("UInt32", step)
    if names is None:
        there = sql("length(path) = $step - 1", step=at)
    else:
        said = bound("Array(String)", list(names))
        there = sql(
            "length(path) >= $step AND $among",
            step=at,
            among=sql("path[$step] NOT IN $said", step=at, said=said)
            if others
            else sql("path[$step] IN $said", step=at, said=said),
        )
    return sql("(SELECT person FROM $paths WHERE $there)", paths=paths(question, _people(events)), there=there)


def persons_at_all(question: Flow, events: Sql) -> Sql:
    """A sub-select of everybody whom the flow is of."""
    return sql("(SELECT person FROM $paths)", paths=paths(question, _people(events)))


def _people(events: Sql) -> Sql:
    return sequences(events, needed=[ANCHOR], beside=[("names", sql("name"))])


def paths(question: Flow, rows: Sql) -> Sql:
    """A sub-select of the rows that have such an event in the range, and with them `path`, at most `steps` names.

    `rows`    a sub-select with the arrays `keys`, ascending, and `marks` and `names` beside them
    """
    anchored = sql(
        """
SELECT *, arrayFirstIndex((mark, key) -> $meets AND key >= $since AND key < $until, marks, keys) AS anchor,
    keys[anchor] AS anchor_key, names[anchor] AS anchor_name
FROM $rows WHERE anchor > 0""",
        meets=meets(sql("mark"), [ANCHOR]),
        since=key_from(question.since),
        until=key_from(question.until),
        rows=rows,
    )
    if question.direction == AFTER:
        near = sql(
            "arrayFilter((name, key) -> key < $ends, arraySlice(names, anchor + 1), arraySlice(keys, anchor + 1))",
            ends=key_after(sql("anchor_key"), question.window_ms),
        )
    else:
        near = sql(
            "arrayReverse(arrayFilter((name, key) -> key >= $begins, arraySlice(names, 1, anchor - 1),"
            " arraySlice(keys, 1, anchor - 1)))",
            begins=sql(
                "bitShiftLeft(greatest(bitShiftRight(anchor_key, 84), $window) - $window, 84)",
                window=bound("UInt64", question.window_ms),
            ),
        )
    if question.merge_repeats:
        near = sql("arrayPopFront(arrayCompact(arrayPushFront($near, anchor_name)))", near=near)
    return sql(
        "(SELECT *, arraySlice($near, 1, $steps) AS path FROM ($anchored))",
        near=near,
        steps=bound("UInt32", question.steps),
        anchored=anchored,
    )
