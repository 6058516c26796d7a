"""What a person's traits are: every operation of all their actors, resolved into one value a key.

Operations are ordered by (time, event id); `set` and `unset` of one key in one call: the set counts.
- The latest `set` stands; after an `unset` (or a set to null) nothing stands.
- Where nothing stands, the earliest `set_once` since the unset, or since ever, gives the value.
- Additions since the latest set or unset are summed upon that, taken as 0 where it is no number.
So the value depends on the operations alone, not on the order of their arrival nor on which actor they came under.

ClickHouse brings each key down to (base, additions); the sum is made here, by `value`, for a list, one person and the
history of a timeline alike. `resolved` makes it in ClickHouse instead, for searching.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

import msgspec

from pugd.query.sql import Sql, sql

_REPLACES = sql("operation IN ('set', 'unset')")
_NONE = b"null"


def grouped(person: Sql, rows: Sql) -> Sql:
    """A sub-select of (person, key, base, additions), over rows of the table `traits`.

    `base`       JSON text, '' where there is none
    `additions`  Array(Float64), those since the latest set or unset
    """
    return sql(
        """(
SELECT person, key,
    if(latest.1 = 'set' AND latest.2 != 'null', latest.2,
       arraySort(arrayFilter(each -> NOT replaced OR (each.1, each.2) > latest_at, onces))[1].3) AS base,
    arrayMap(each -> each.3, arrayFilter(each -> NOT replaced OR (each.1, each.2) > latest_at, adds)) AS additions
FROM (
    SELECT $person AS person, key,
        countIf($replaces) > 0 AS replaced,
        argMaxIf((toString(operation), value), (occurred_at, event_id, operation = 'set', value), $replaces) AS latest,
        maxIf((occurred_at, event_id), $replaces) AS latest_at,
        groupArrayIf((occurred_at, event_id, value), operation = 'set_once' AND value != 'null') AS onces,
        groupArrayIf((occurred_at, event_id, toFloat64OrZero(value)), operation = 'add') AS adds
    $rows
    GROUP BY person, key
))""",
        person=person,
        rows=rows,
        replaces=_REPLACES,
    )


def resolved(person: Sql, rows: Sql) -> Sql:
    """A sub-select of (person, key, present), the present value as JSON text; keys without one are not in it."""
    return sql(
        """(
SELECT person, key,
    if(empty(additions), base, toString(toFloat64OrZero(base) + arraySum(additions))) AS present
FROM $grouped WHERE base != '' OR notEmpty(additions))""",
        grouped=grouped(person, rows),
    )


def history(person: Sql, rows: Sql) -> Sql:
    """A sub-select of (person, times, presents) of one key: from which ms on (ascending) which value stood, as JSON
    text, '' for none. All rows are of that key.

    cost   a sort of the rows; each person's changes are walked once, whatever their number
    """
    return sql(
        """(
SELECT person, arrayMap(each -> each.1, changes) AS times, arrayMap(each -> each.2, changes) AS presents
FROM (
    SELECT person, arraySort(groupArray((at, present))) AS changes
    FROM (
        SELECT person, at, argMax(present, turn) AS present
        FROM (
            SELECT person, at, turn, if(added = 0, base, toString(toFloat64OrZero(base) + total)) AS present
            FROM (
                SELECT person, at, turn,
                    if(replaced != '', replaced, first_value(once) IGNORE NULLS OVER since_replaced) AS base_found,
                    ifNull(base_found, '') AS base,
                    sum(operation = 'add') OVER since_replaced AS added,
                    sum(if(operation = 'add', toFloat64OrZero(value), 0)) OVER since_replaced AS total
                FROM (
                    SELECT *, max(if($replaces AND operation = 'set' AND value != 'null', value, '')) OVER
                            (PARTITION BY person, era) AS replaced,
                        if(operation = 'set_once' AND value != 'null', value, NULL) AS once
                    FROM (
                        SELECT $person AS person, toUnixTimestamp64Milli(occurred_at) AS at, operation, value,
                            row_number() OVER in_order AS turn, sum($replaces) OVER in_order AS era
                        $rows
                        WINDOW in_order AS (PARTITION BY $person ORDER BY occurred_at, event_id,
                            multiIf(operation = 'set', 2, operation = 'unset', 1, 0), value
                            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
                    )
                )
                WINDOW since_replaced AS (PARTITION BY person, era ORDER BY turn
                    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
            )
        )
        GROUP BY person, at
    )
    GROUP BY person
))""",
        person=person,
        rows=rows,
        replaces=_REPLACES,
    )


def value(base: bytes, additions: Sequence[float]) -> bytes | None:
    """The present value as JSON text; None where there is none."""
    if not additions:
        return base or None
    parts = sorted((_number(base), *additions))
    try:
        total = math.fsum(parts)
    except OverflowError:
        total = math.copysign(sys.float_info.max, math.fsum(part / 2**64 for part in parts))
    return str(int(total)).encode() if total.is_integer() and abs(total) < 1e21 else repr(total).encode()


def _number(json: bytes) -> float:
    try:
        number = float(json)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


class History:
    """One key's value as its operations pass by, in the order of (time, event id)."""

    __slots__ = ("additions", "base")

    def __init__(self) -> None:
        self.base = b""
        self.additions: list[float] = []

    @property
    def value(self) -> bytes | None:
        return value(self.base, self.additions)

    def take(self, call: Iterable[tuple[str, bytes]]) -> None:
        """All that one call did to this key: (operation, value) each."""
        operations = sorted(call)
        sets = [json for operation, json in operations if operation == "set"]
        if sets or any(operation == "unset" for operation, _ in operations):
            self.base = sets[-1] if sets and sets[-1] != _NONE else b""
            self.additions = []
            return
        for operation, json in operations:
            if operation == "add":
                self.additions.append(_number(json))
            elif operation == "set_once" and not self.base and json != _NONE:
                self.base = json


def raw(json: bytes | None) -> msgspec.Raw:
    """JSON text as an answer carries it."""
    return msgspec.Raw(_NONE if json is None else json)
