"""Each person's events in order, as arrays: what funnels and flows walk along.

An event's **key** is one number that orders it: its time, then when it was received, then its place in the journal, so
millisecond order, and ties in the order of arrival, as on a timeline. 128 bits hold it, and ClickHouse sorts numbers of
128 bits several times faster than tuples:

    127 ······ 84 83 ······ 40 39 ······ 0
     occurred_at   received_at   position / 16        a row takes more than 16 bytes of a journal

An event's **marks** say which of up to 64 conditions it meets, a bit each. So an event is 24 bytes here, whatever the
conditions read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pugd.query.sql import Sql, bound, joined, named, sql

KEY = sql(
    "bitOr(bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(occurred_at)), 84),"
    " bitShiftLeft(toUInt128(toUnixTimestamp64Milli(received_at)), 40)),"
    " toUInt128(bitAnd(bitShiftRight(position, 4), 1099511627775)))"
)
"""Of the event in a row of `events`."""

COUNTED = sql("call != 'group'")
"""Group calls lie among the events, but are nothing that anybody did."""


def key_from(ms: int) -> Sql:
    """The least key of an event at this time or later."""
    return sql("bitShiftLeft(toUInt128($ms), 84)", ms=bound("Int64", ms))


def key_after(key: Sql, ms: int) -> Sql:
    """The least key of an event more than `ms` after the event with this key."""
    return sql("bitShiftLeft(bitShiftRight($key, 84) + $ms, 84)", key=key, ms=bound("UInt64", ms + 1))


def key_time(key: Sql) -> Sql:
    """Milliseconds since 1970."""
    return sql("toInt64(bitShiftRight($key, 84))", key=key)


def meets(mark: Sql, bits: Iterable[int]) -> Sql:
    """Does an event with these marks meet one of the conditions?"""
    return sql("bitAnd($mark, $bits) != 0", mark=mark, bits=bound("UInt64", sum(1 << bit for bit in set(bits))))


def sequences(
    events: Sql, *, needed: Iterable[int], also: Sequence[Sql] = (), beside: Sequence[tuple[str, Sql]] = ()
) -> Sql:
    """One row a person: `keys`, ascending, and `marks` and `places` (1, 2, …) beside them.

    `events`  a sub-select of (person, key, mark), and of what `also` and `beside` read
    `needed`  persons none of whose events meets one of these conditions are left out
    `also`    further aggregates, `… AS name`
    `beside`  (array's name, column of `events`): further arrays beside the keys
    """
    arrays = [("keys", sql("key")), ("marks", sql("mark")), *beside]
    return sql(
        """
(SELECT * EXCEPT ($unsorted), arraySort(unsorted_keys) AS keys$in_order, arrayEnumerate(keys) AS places
FROM (
    SELECT person$gathered$also FROM $events GROUP BY person HAVING $needed
))""",
        unsorted=joined(", ", (_unsorted(name) for name, _ in arrays)),
        in_order=in_order(name for name, _ in arrays[1:]),
        gathered=gathered(arrays),
        also=joined("", (sql(", $one", one=one) for one in also)),
        events=events,
        needed=meets(sql("groupBitOr(mark)"), needed),
    )


def gathered(arrays: Iterable[tuple[str, Sql]]) -> Sql:
    """Each column as an array, in one order that is none."""
    pieces = (sql(", groupArray($column) AS $array", column=column, array=_unsorted(name)) for name, column in arrays)
    return joined("", pieces)


def in_order(names: Iterable[str]) -> Sql:
    """Each of these arrays in the order of the keys that were gathered beside it."""
    pieces = (
        sql(", arraySort((it, key) -> key, $array, unsorted_keys) AS $name", array=_unsorted(name), name=named(name))
        for name in names
    )
    return joined("", pieces)


def _unsorted(name: str) -> Sql:
    return named(f"unsorted_{name}")


def told_by(bits: Iterable[int]) -> list[Sql]:
    """Aggregates for `sequences` that keep the `value` of each event that meets one of these conditions."""
    condition = meets(sql("mark"), bits)
    return [
        sql("groupArrayIf(key, $condition) AS told_keys", condition=condition),
        sql("groupArrayIf(value, $condition) AS told_values", condition=condition),
    ]


def told_at(key: Sql) -> Sql:
    """The value of the event with this key; '' where it is none of those."""
    return sql("told_values[indexOf(told_keys, $key)]", key=key)


def with_values(values: Sequence[str] | None, *, others: bool) -> Sql:
    """Is `value` one of these, or with `others` none of these? None: whatever it is."""
    if values is None:
        return sql("1")
    said = bound("Array(String)", list(values))
    return sql("value NOT IN $said", said=said) if others else sql("value IN $said", said=said)
