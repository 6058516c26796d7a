"""The columns encoder against ClickHouse reading its blocks back: every type, every length; and rows that are wrong."""

from __future__ import annotations

import itertools
import json
import math
import random
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from engine import opened_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.journal import Span, positions, record

from pugd.columns.block import Built, Fault, build, row_at
from pugd.store.clickhouse import Store
from pugd.tables import COLLECTOR, EPOCH, POSITION, TIME, Column, Table

EVERY = Table(
    "every",
    5,
    (
        Column("u8", "UInt8", 1),
        Column("u16", "UInt16", 2),
        Column("u32", "UInt32", 3),
        Column("u64", "UInt64", 4),
        Column("i64", "Int64", 5),
        Column("f64", "Float64", 6),
        Column("time", TIME, 7),
        Column("text", "String", 8),
        Column("low", "LowCardinality(String)", 9),
        Column("json", "JSON(max_dynamic_paths=16)", 10),
        Column("json_text", "String", 10),
        Column("same", "LowCardinality(String)", 8),
        Column("collector", "LowCardinality(String)", COLLECTOR),
        Column("collector_text", "String", COLLECTOR),
        Column("epoch", "UInt64", EPOCH),
        Column("position", "UInt64", POSITION),
    ),
)
SMALL = Table(
    "small",
    6,
    (Column("low", "LowCardinality(String)", 1), Column("position", "UInt64", POSITION)),
)
DEFAULTS = (0, 0, 0, 0, 0, 0.0, 0, b"", "", b"")
COLLECTOR_NAME, EPOCH_NUMBER = "collector ✓", (1 << 63) - 25

encode = msgspec.msgpack.encode
epochs = itertools.count(1)


async def table_store() -> Store:
    store = await opened_store()
    for table in (EVERY, SMALL):
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        await store.command(f"create table if not exists {table.name} ({columns}) engine = MergeTree order by tuple()")
    return store


async def read_back(built: Built, table: Table = EVERY) -> list[tuple[Any, ...]]:
    """What ClickHouse made of a table's blocks, in order of position, with times as ms and JSON as text."""
    store = await table_store()
    await store.command(f"truncate table {table.name}")
    for block in built.blocks:
        if block.table == table:
            token = f"t{next(epochs)}"
            await store.insert(table.name, block.columns, block.pieces, token=token, query_id=token)
    asked = []
    for column in table.columns:
        if column.type == TIME:
            asked.append(f"toUnixTimestamp64Milli({column.name})")
        elif column.type.startswith("JSON"):
            asked.append(f"toJSONString({column.name})")
        elif column.type == "Float64":
            asked.append(f"reinterpretAsUInt64({column.name})")
        elif "String" in column.type:
            asked.append(f"hex({column.name})")
        else:
            asked.append(column.name)
    return (await store.query(f"select {', '.join(asked)} from {table.name} order by position")).rows


def expected(fields: Sequence[Any], position: int) -> tuple[Any, ...]:
    """What should come back for a row: the plain twin of the encoder."""
    import struct

    u8, u16, u32, u64, i64, f64, time, text, low, js = (*fields, *DEFAULTS[len(fields) :])[:10]
    bits = struct.unpack("<Q", struct.pack("<d", f64))[0]

    def hexed(value: str | bytes) -> str:
        return (value.encode() if isinstance(value, str) else value).hex().upper()

    same = hexed(text)
    origin = (hexed(COLLECTOR_NAME), hexed(COLLECTOR_NAME), EPOCH_NUMBER, position)
    return (
        int(u8),
        u16,
        u32,
        u64,
        i64,
        bits,
        time,
        same,
        hexed(low),
        canonical(js or b"{}"),
        hexed(js),
        same,
        *origin,
    )


def canonical(text: bytes | str) -> Any:
    return json.loads(text)


def compare(got: list[tuple[Any, ...]], want: list[tuple[Any, ...]]) -> None:
    assert len(got) == len(want)
    for have, should in zip(got, want, strict=True):
        row = list(have)
        row[9] = canonical(row[9])
        assert tuple(row) == should


def do_build(rows: Sequence[Sequence[Any]], position: int = 128, **more: Any) -> tuple[Built, list[int], list[Span]]:
    encoded = [encode(row) for row in rows]
    span = Span(record(encoded, position, checksum=False), position)
    built = build([span], (EVERY, SMALL), collector=COLLECTOR_NAME, epoch=EPOCH_NUMBER, **more)
    return built, positions(encoded, position), [span]


texts = st.one_of(st.text(max_size=20), st.sampled_from(["", "x" * 127, "x" * 128, "é" * 64, "\x00", "a\x00b"]))
# Values for which ClickHouse's JSON gives back what was put in: no nulls, no empty objects, no arrays of several types.
leaves = st.one_of(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(max_size=10))
names = st.text("abcdef.é ", min_size=1, max_size=6).filter(lambda name: name.strip(". ") == name and ".." not in name)
documents = st.dictionaries(
    names, st.one_of(leaves, st.dictionaries(names, leaves, min_size=1, max_size=3)), max_size=5
)
rows = st.tuples(
    st.just(5),
    st.one_of(st.integers(0, 255), st.booleans()),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.integers(-2208988800000, 10413791999999),
    st.one_of(st.binary(max_size=40), texts),
    texts,
    documents.map(lambda document: json.dumps(document).encode()),
)
shapes = st.tuples(rows, st.integers(0, 10), st.lists(st.one_of(st.integers(), st.text(), st.none()), max_size=3))


@given(st.lists(shapes, min_size=1, max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_type_comes_back(shapes):
    """Also rows cut short anywhere (defaults), and rows with fields nobody knows yet."""
    given_rows, want = [], []
    for row, length, extra in shapes:
        extra = [value for value in extra if not isinstance(value, int) or -(2**63) <= value < 2**64]
        given_rows.append([*row, *extra] if length == 10 else row[: length + 1])
    built, places, _ = do_build(given_rows)
    assert built.faults == []
    want = [expected(row[1:], place) for row, place in zip(given_rows, places, strict=True)]
    compare(await read_back(built), want)


async def test_every_length_of_a_text():
    lengths = [0, 1, 31, 32, 127, 128, 129, 255, 256, 16383, 16384, 16385, 65535, 65536, 2097151, 2097152]
    given_rows = [(5, 1, 2, 3, 4, 5, 0.5, 0, "x" * n, "y" * n, json.dumps({"k": "z" * n}).encode()) for n in lengths]
    built, places, _ = do_build(given_rows)
    compare(await read_back(built), [expected(row[1:], place) for row, place in zip(given_rows, places, strict=True)])


@pytest.mark.parametrize("count", [1, 255, 256, 257, 65535, 65536, 65537])
async def test_every_width_of_a_dictionary(count):
    """Each key twice, far apart, so that an index of the wrong width or a key lost in growing would show."""
    names = [f"event {n}" for n in range(count)] * 2
    random.Random(count).shuffle(names)
    built, places, _ = do_build([(6, name) for name in names], rows_max=1 << 20)
    assert len(built.blocks) == 1
    got = await read_back(built, SMALL)
    assert got == [(name.encode().hex().upper(), place) for name, place in zip(names, places, strict=True)]


async def test_integers_of_every_msgpack_width_and_float_forms():
    values = [0, 1, 127, 128, 255]
    given_rows = [(5, v, v, v, v, v, float(v), v) for v in values]
    given_rows += [(5, 0, 0, 0, 0, -v - 1, 2.5, -v) for v in (0, 31, 32, 127, 128, 2**15, 2**31, 2**40)]
    given_rows.append((5, 0, 0, 0, 0, 0, math.inf, 0))
    built, places, _ = do_build(given_rows)
    compare(await read_back(built), [expected(row[1:], place) for row, place in zip(given_rows, places, strict=True)])
    # An integer where a Float64 is wanted is that number; msgpack's 32-bit floats are read too.
    row = encode([5, 0, 0, 0, 0, 0])[:1] and b"\x97\x05\x00\x00\x00\x00\x00\xca\x3f\xc0\x00\x00"
    built = build([Span(record([row, encode((5, 0, 0, 0, 0, 0, 7))], 0), 0)], (EVERY,), collector="c", epoch=1)
    assert built.faults == []
    assert [r[5] for r in await read_back(built)] == [0x3FF8000000000000, 0x401C000000000000]


async def test_json_as_the_drain_sends_it():
    """Duplicate keys do not refuse a block, texts that look like dates stay texts, dots in keys stay dots."""
    documents = ['{"a":1,"a":2}', '{"d":"2026-01-02","t":"2026-01-02 03:04:05"}', '{"a.b":1,"a":{"b":2}}', "", "{}"]
    built, _, _ = do_build([(5, 0, 0, 0, 0, 0, 0.0, 0, "", "", document.encode()) for document in documents])
    got = [json.loads(row[9]) for row in await read_back(built)]
    assert got[1:] == [{"d": "2026-01-02", "t": "2026-01-02 03:04:05"}, {"a.b": 1, "a": {"b": 2}}, {}, {}]
    store = await opened_store()
    types = await store.query(
        "select dynamicType(json.d), dynamicType(json.t) from every where json_text like '%d%:%20%'"
    )
    assert types.rows == [("String", "String")]


WRONG = {
    "text for a number": ((5, "1"), "wrong type", 1),
    "number for a text": ((5, 0, 0, 0, 0, 0, 0.0, 0, 9), "wrong type", 8),
    "nil": ((5, None), "wrong type", 1),
    "array for a text": ((5, 0, 0, 0, 0, 0, 0.0, 0, ["x"]), "wrong type", 8),
    "float for an integer": ((5, 1.0), "wrong type", 1),
    "text for a float": ((5, 0, 0, 0, 0, 0, "1.0"), "wrong type", 6),
    "too large for UInt8": ((5, 256), "out of range", 1),
    "too large for UInt16": ((5, 0, 65536), "out of range", 2),
    "too large for UInt32": ((5, 0, 0, 2**32), "out of range", 3),
    "negative for UInt64": ((5, 0, 0, 0, -1), "out of range", 4),
    "too large for Int64": ((5, 0, 0, 0, 0, 2**63), "out of range", 5),
    "before 1900": ((5, 0, 0, 0, 0, 0, 0.0, -2208988800001), "out of range", 7),
    "after 2299": ((5, 0, 0, 0, 0, 0, 0.0, 10413792000000), "out of range", 7),
    "no kind": ((), "wrong type", 0),
    "a text for a kind": (("x", 1), "wrong type", 0),
    "an unknown kind": ((99, 1), "unknown kind", None),
    "a negative kind": ((-1, 1), "unknown kind", None),
    "a huge kind": ((2**64 - 1, 1), "unknown kind", None),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_row_is_reported_and_leaves_no_trace(name):
    wrong, reason, field = WRONG[name]
    good = (5, 1, 2, 3, 4, 5, 6.0, 7, "text", "low", b'{"k":1}')
    built, places, spans = do_build([good, wrong, good])
    kind = wrong[0] if wrong and isinstance(wrong[0], int) and 0 <= wrong[0] < 2**32 else 0
    assert built.faults == [Fault(places[1], reason, kind, field, encode(wrong))]
    assert row_at(spans, places[1]) == encode(wrong)
    compare(await read_back(built), [expected(good[1:], places[0]), expected(good[1:], places[2])])


def test_damage_costs_the_rest_of_its_record_only():
    good = encode((6, "good"))
    for damage in (
        b"\xc1",
        b"\x92",
        b"\x92\x06\xa5abc",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x06\xdb\xff\xff\xff\xff",
        b"\x05",
    ):
        first = record([good, damage], 0)
        second = record([good], len(first))
        built = build([Span(first + second, 0)], (SMALL,), collector="c", epoch=1)
        if damage == b"\x05":  # a whole value, though no row
            assert [fault.raw for fault in built.faults] == [damage]
        else:
            assert len(built.faults) == 1
            fault = built.faults[0]
            assert fault.position == 16 + len(good)
            assert fault.raw.startswith(damage)
        assert built.blocks[0].positions[0] == 16
        assert built.blocks[0].position_last == len(first) + 16


def test_what_is_left_out_and_what_lies_outside_the_window():
    _, places, spans = do_build([(6, str(n)) for n in range(100)])
    left_out = array("Q", places[10:20] + places[90:])
    extra = array("Q", sorted([*left_out, 1, places[0] + 1]))  # positions of no row do no harm
    built = build(
        spans, (SMALL,), collector="c", epoch=1, skip={"small": extra}, first=places[5], until=places[95], rows_max=7
    )
    got = [position for block in built.blocks for position in block.positions]
    assert got == [place for place in places[5:95] if place not in left_out]
    assert {block.rows for block in built.blocks[:-1]} == {7}


def test_a_block_is_cut_by_rows_bytes_and_months():
    row = encode((6, "x" * 100))
    built, _, _ = do_build([(6, "x" * 100)] * 10, bytes_max=3 * len(row))
    assert [block.rows for block in built.blocks] == [3, 3, 3, 1]
    built, _, _ = do_build([(6, "x" * 100)] * 3, bytes_max=1)
    assert [block.rows for block in built.blocks] == [1, 1, 1]

    from pugd.tables import EVENTS

    month = 2_629_746_000
    times = [n * month + 86_400_000 for n in range(120)] + [86_400_000] * 5
    encoded = [encode((1, 1, 1, time)) for time in times]
    span = Span(record(encoded, 0, checksum=False), 0)
    built = build([span], (EVENTS,), collector="c", epoch=1)
    assert [block.rows for block in built.blocks] == [55, 50, 20]
    same = [encode((1, 1, 1, 1_700_000_000_000 + n)) for n in range(1000)]
    built = build([Span(record(same, 0, checksum=False), 0)], (EVENTS,), collector="c", epoch=1)
    assert [block.rows for block in built.blocks] == [1000]


@given(st.lists(st.integers(-2208988800000, 10413791999999), min_size=1, max_size=40), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_months_are_those_of_the_calendar(times, months_max):
    from datetime import UTC, datetime, timedelta

    from pugd.tables import EVENTS

    encoded = [encode((1, 1, 1, time)) for time in times]
    span = Span(record(encoded, 0, checksum=False), 0)
    built = build([span], (EVENTS,), collector="c", epoch=1, months_max=months_max)
    of_month: dict[tuple[int, int], list[int]] = {}  # in the order in which months are met
    for position, time in zip(positions(encoded, 0), times, strict=True):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
        of_month.setdefault((moment.year, moment.month), []).append(position)
    months = list(of_month.values())
    chunks = [months[n : n + months_max] for n in range(0, len(months), months_max)]
    assert [list(block.positions) for block in built.blocks] == [sorted(itertools.chain(*chunk)) for chunk in chunks]


def test_events_of_all_months_in_any_order_make_few_blocks():
    """Three spans of 2,000 events over 55 years, in no order; some are left out."""
    from pugd.tables import EVENTS

    draw = random.Random(1)
    spans, places, at = [], [], 4096
    for _ in range(3):
        encoded = [encode((1, 1, 1, draw.randrange(1_750_000_000_000))) for _ in range(2000)]
        spans.append(Span(record(encoded, at, checksum=False), at))
        places += positions(encoded, at)
        at += len(spans[-1].data)
    skip = array("Q", places[::7])
    built = build(spans, (EVENTS,), collector="c", epoch=1, skip={"events": skip})
    assert sorted(position for block in built.blocks for position in block.positions) == sorted({*places} - {*skip})
    assert all(list(block.positions) == sorted(block.positions) for block in built.blocks)
    assert len(built.blocks) <= 3 * 14


def test_nothing_gives_nothing():
    assert build([], (EVERY,), collector="c", epoch=1) == Built([], [])


def test_views_keep_their_memory():
    """Also where the blocks are part of garbage that refers to itself."""
    import gc

    pieces = []
    for _ in range(20):
        built = build(
            [Span(record([encode((6, "k" * 300_000))], 0, checksum=False), 0)], (SMALL,), collector="c", epoch=1
        )
        pieces.append(built.blocks[0].pieces)
        cycle: list[Any] = [built, built.blocks[0].positions]
        cycle.append(cycle)
        del built, cycle
        gc.collect()
    for piece in pieces:
        assert b"k" * 300_000 in b"".join(piece)
