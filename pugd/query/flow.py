"""A flow: which events came next to one event, step by step, and who went no further.

Each person's events lie in one array, in order (query/sequence.py), or each session's (query/sessions.py). From the
first that matches in the range, the names of those after it, or before it, are taken within a window.

docs/questions.md says exactly what is counted; tests/reference/flow.py says it plainly.
"""

from __future__ import annotations

import msgspec

from pugd.query.sequence import key_after, key_from, meets
from pugd.query.sql import Sql, bound, sql

AFTER, BEFORE = "after", "before"


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Of which event, in which direction, and how far."""

    since: int
    until: int
    window_ms: int
    steps: int
    direction: str = AFTER
    merge_repeats: bool = False
    """An event of the same name as the one next to it is passed over."""


ANCHOR = 0
"""The mark of the event that a flow is of."""


def paths(steps: Steps, rows: Sql) -> Sql:
    """A sub-select of the rows that have such an event in the range, and with them `path`, at most `steps` names.

    `rows`    a sub-select with the arrays `keys`, ascending, and `marks` and `names` beside them
    """
    anchored = sql(
        """
SELECT *, arrayFirstIndex((mark, key) -> $meets AND key >= $since AND key < $until, marks, keys) AS anchor,
    keys[anchor] AS anchor_key, names[anchor] AS anchor_name
FROM $rows WHERE anchor > 0""",
        meets=meets(sql("mark"), [ANCHOR]),
        since=key_from(steps.since),
        until=key_from(steps.until),
        rows=rows,
    )
    if steps.direction == AFTER:
        near = sql(
            "arrayFilter((name, key) -> key < $ends, arraySlice(names, anchor + 1), arraySlice(keys, anchor + 1))",
            ends=key_after(sql("anchor_key"), steps.window_ms),
        )
    else:
        near = sql(
            "arrayReverse(arrayFilter((name, key) -> key >= $begins, arraySlice(names, 1, anchor - 1),"
            " arraySlice(keys, 1, anchor - 1)))",
            begins=sql(
                "bitShiftLeft(greatest(bitShiftRight(anchor_key, 84), $window) - $window, 84)",
                window=bound("UInt64", steps.window_ms),
            ),
        )
    if steps.merge_repeats:
        near = sql("arrayPopFront(arrayCompact(arrayPushFront($near, anchor_name)))", near=near)
    return sql(
        "(SELECT *, arraySlice($near, 1, $steps) AS path FROM ($anchored))",
        near=near,
        steps=bound("UInt32", steps.steps),
        anchored=anchored,
    )
