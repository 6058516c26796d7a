"""Records: what is framed is read, what is damaged never is; C and the plain twin agree on every byte."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import record as twin

from pugd._native import ffi, lib
from pugd.journal import record
from pugd.journal.record import Status

positions = st.integers(0, 2**63 - 1)
payloads = st.binary(min_size=1, max_size=300)


def crc(data: bytes) -> int:
    return int(lib.pugd_crc32c(0, ffi.from_buffer(data), len(data)))


def test_crc_of_known_texts() -> None:
    # RFC 3720, B.4
    assert crc(b"123456789") == 0xE3069283
    assert crc(bytes(32)) == 0x8A9136AA
    assert crc(b"\xff" * 32) == 0x62A8AB43
    assert crc(bytes(range(32))) == 0x46DD794E
    assert crc(b"") == 0


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_crc_as_the_twin_whole_and_in_parts(data: bytes, cut: int) -> None:
    assert crc(data) == twin.crc32c(data)
    first = lib.pugd_crc32c(0, ffi.from_buffer(data[:cut]), len(data[:cut]))
    assert lib.pugd_crc32c(first, ffi.from_buffer(data[cut:]), len(data[cut:])) == crc(data)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 8191, 8192, 24575, 24576, 24577, 100_001])
def test_crc_of_long_data_is_that_of_its_parts(length: int) -> None:
    data = bytes(i * 7 + i // 251 & 255 for i in range(length))
    by_parts = 0
    for at in range(0, length, 100):
        part = data[at : at + 100]
        by_parts = lib.pugd_crc32c(by_parts, ffi.from_buffer(part), len(part))
    assert crc(data) == by_parts
    assert crc(data[1:]) == twin.crc32c(data[1:])


@given(payloads, st.integers(0, 2**32 - 1), positions)
def test_frame_as_the_twin(rows: bytes, count: int, position: int) -> None:
    framed = record.frame(rows, count, position)
    assert framed == twin.frame(rows, count, position)
    walk = record.walk(framed, position)
    assert (walk.length, walk.rows, walk.status) == (len(framed), count, Status.END)


@given(st.lists(st.tuples(payloads, st.integers(0, 1000)), max_size=6), positions.filter(lambda p: p < 2**62))
def test_walk_and_payloads(records: list[tuple[bytes, int]], position: int) -> None:
    data = b""
    wanted = []
    for rows, count in records:
        wanted.append((position + len(data) + 16, count, rows))
        data += record.frame(rows, count, position + len(data))
    walk = record.walk(data + bytes(20), position)
    assert (walk.length, walk.rows, walk.status) == (len(data), sum(c for _, c in records), Status.END)
    assert [(p, c, bytes(rows)) for p, c, rows in record.payloads(data, position)] == wanted


def test_what_ends_a_walk() -> None:
    one = record.frame(b"rows", 1, 0)
    assert record.walk(b"", 0).status == Status.END
    assert record.walk(bytes(3), 0).status == Status.TORN
    assert record.walk(bytes(4), 0).status == Status.END
    for cut in range(1, len(one)):
        assert record.walk(one[:cut], 0).status == Status.TORN
    assert record.walk(one, 1).status == Status.CORRUPT
    assert record.walk(b"\1\0\0\4" + one[4:], 0).status == Status.CORRUPT


@given(st.lists(payloads, min_size=1, max_size=4), st.data())
@example([b"a", b"b"], None)
def test_damage_never_passes(payloads: list[bytes], data: st.DataObject | None) -> None:
    """What was whole before the damage is read, and nothing else unless it is a record of its own, byte for byte."""
    position = 4096
    text = bytearray()
    bounds = []
    for rows in payloads:
        text += record.frame(rows, 1, position + len(text))
        bounds.append(len(text))
    if data is None:
        at, flip = len(text) - 1, 1
    else:
        at = data.draw(st.integers(0, len(text) - 1))
        flip = data.draw(st.integers(1, 255))
    text[at] ^= flip
    intact = max((bound for bound in bounds if bound <= at), default=0)
    walk = record.walk(text, position)
    assert walk.length == intact
    assert (walk.length, walk.rows) == twin.whole(bytes(text), position)
    rest = bytes(text[intact:])
    offset = record.find(rest, position + intact)
    assert offset == twin.find(rest, position + intact)
    after = next((bound for bound in bounds if bound > at), len(text))
    assert intact + offset == after


@given(st.binary(max_size=400), positions)
def test_any_bytes_as_the_twin(data: bytes, position: int) -> None:
    walk = record.walk(data, position)
    assert (walk.length, walk.rows) == twin.whole(data, position)
    assert record.find(data, position) == twin.find(data, position)


@given(payloads, st.binary(max_size=60))
def test_a_record_is_found_behind_anything(rows: bytes, before: bytes) -> None:
    data = before + record.frame(rows, 1, len(before))
    assert record.find(data, 0) == twin.find(data, 0)
    assert record.find(data, 0) <= len(before)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=10,
)


@given(st.lists(st.lists(values, max_size=5), max_size=5))
def test_split(rows: list[list[object]]) -> None:
    encoded = [msgspec.msgpack.encode(row) for row in rows]
    payload = b"".join(encoded)
    ends = record.split(payload, len(rows))
    begin = 0
    for end, one in zip(ends, encoded, strict=True):
        assert payload[begin:end] == one
        begin = end
    with pytest.raises(ValueError, match="rows"):
        record.split(payload, len(rows) + 1)
    if rows:
        with pytest.raises(ValueError, match="rows"):
            record.split(payload, len(rows) - 1)
        with pytest.raises(ValueError, match="rows"):
            record.split(payload[:-1], len(rows))
