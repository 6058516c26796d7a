"""native/protobuf beside its plain twin: valid, damaged and random bytes say the same to both, or are as wrong."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from dialects import wire
from dialects.wire import batch, block, event, integer, text, varint, when
from hypothesis import example, given
from hypothesis import strategies as st
from reference import protobuf as plain

from pugd.dialects import protobuf, salvage

TEXT = st.text(max_size=20) | st.sampled_from(
    ['"', "\\", "\u0000", "a" * 40, "1234567\n", "\u007f", "\U0010ffff", "é" * 9]
)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-(10**9), 10**9, places=3).map(float)
LONG = st.integers(-(2**63), 2**63 - 1)
TIMES = st.tuples(st.integers(-62_135_596_802, 253_402_300_801) | LONG, st.integers(-1, 10**9) | LONG)
VALUES = st.none() | st.booleans() | LONG | DOUBLES | TEXT | TIMES
KEYS = st.text(max_size=3) | st.sampled_from(["$url", "a"])
MEMBERS = st.dictionaries(KEYS, VALUES, max_size=4)
TRAITS = st.recursive(
    st.none() | st.booleans() | DOUBLES | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@st.composite
def any_fields(draw: st.DrawFn) -> bytes:
    """Fields of any number and wire type, known ones among them."""
    out = b""
    for _ in range(draw(st.integers(0, 4))):
        number = draw(st.integers(1, 9) | st.sampled_from([15, 16, 536_870_911]))
        match draw(st.integers(0, 5)):
            case 0:
                out += integer(number, draw(LONG | st.integers(0, 3)))
            case 1:
                out += varint(number << 3 | 1) + draw(st.binary(min_size=8, max_size=8))
            case 2:
                out += block(number, draw(st.binary(max_size=6)))
            case 3:
                out += varint(number << 3 | 3) + draw(any_fields()) + varint(number << 3 | 4)
            case 4:
                out += varint(number << 3 | 5) + draw(st.binary(min_size=4, max_size=4))
            case _:
                out += block(number, draw(any_fields()))
    return out


EVENTS = st.builds(
    event, TEXT, TEXT, TEXT, st.none() | st.builds(when, LONG | st.integers(0, 2**31), st.integers(-1, 10**9)), TEXT,
    MEMBERS, MEMBERS, any_fields(),
)  # fmt: skip
BATCHES = st.lists(EVENTS, max_size=3).map(lambda events: batch(*events))
IDENTIFIES = st.builds(
    lambda user, anonymous, traits, more: text(1, user) + text(3, anonymous) + block(2, wire.structure(traits)) + more,
    TEXT, TEXT, st.dictionaries(KEYS, TRAITS, max_size=3), any_fields(),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(BATCHES | IDENTIFIES))
    for _ in range(draw(st.integers(0, 3))):
        if body:
            at = draw(st.integers(0, len(body) - 1))
            if draw(st.booleans()):
                body[at] = draw(st.integers(0, 255))
            else:
                body[at:at] = draw(st.binary(max_size=3))
    return bytes(body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body)


def same(ours: bytes | int, theirs: bytes | int) -> None:
    if isinstance(ours, int) or isinstance(theirs, int):
        assert ours == theirs
        return
    stored, unstorable = salvage.checked(ours)
    assert unstorable is None, "what is written can be stored"
    assert typed(json.loads(stored)) == typed(json.loads(theirs))


def typed(value: Any) -> Any:
    """So that 1, 1.0 and True differ."""
    match value:
        case dict():
            return {key: typed(inner) for key, inner in value.items()}
        case list():
            return [typed(inner) for inner in value]
        case _:
            return type(value).__name__, value


@given(BATCHES | IDENTIFIES | damaged() | any_fields() | st.binary(max_size=40))
@example(b"")
def test_both_say_the_same(body: bytes) -> None:
    same(protobuf.events(body), plain.events(body))
    same(protobuf.identify(body), plain.identify(body))
    ours, theirs = protobuf.cuts(body, 5, 2, 16), plain.cuts(body, 5, 2, 16)
    assert ours == theirs
    if isinstance(ours, list):
        assert b"".join(body[begin:end] for begin, end in zip(ours[::3], ours[1::3], strict=True)) == body


def written(value: float) -> int | float:
    body = batch(event(custom={"n": value}))
    found = protobuf.events(body)
    assert isinstance(found, bytes)
    read: int | float = msgspec.json.decode(found)[0]["properties"]["n"]
    return read


@given(DOUBLES | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]))
@example(5e-324)
@example(2.2250738585072014e-308)
@example(1.7976931348623157e308)
@example(9007199254740993.0)
@example(0.1 + 0.2)
@example(999999999999999.9)
@example(0.000001)
@example(1e22)
@example(5.684341886080802e-14)
def test_a_double_reads_back_as_itself(value: float) -> None:
    if not math.isfinite(value):
        assert protobuf.events(batch(event(custom={"n": value}))) == b'[{"wrong":3}]'
        return
    read = written(value)
    assert read == value
    assert isinstance(read, int) == (value.is_integer() and abs(value) < 2**53)


@given(st.integers(-62_135_596_800, 253_402_300_799))
@example(-62_135_596_800)
@example(951_782_400)
@example(-1)
def test_every_second_is_written(seconds: int) -> None:
    body = batch(block(6, when(seconds)))
    assert protobuf.events(body) == plain.events(body)


@pytest.mark.parametrize("length", range(40))
@pytest.mark.parametrize("odd", ['"', "\\", "\n", "\u0000", "\u001f", " ", "\u007f", "\u0080", "\u20ac", "\U0001f600"])
def test_an_odd_character_anywhere_in_a_text(odd: str, length: int) -> None:
    for at in range(length + 1):
        said = "x" * at + odd + "y" * (length - at)
        found = protobuf.identify(text(1, said))
        assert isinstance(found, bytes)
        assert json.loads(found)["external_id"] == said


def test_the_least_event_that_makes_the_most_text_has_room() -> None:
    least = batch(*[block(6, b"")] * 10_000)
    found = protobuf.events(least)
    assert isinstance(found, bytes)
    assert len(found) > 10 * len(least)
    for worst in (text(1, "\u0000" * 100_000), batch(*[text(1, "\u0001")] * 10_000)):
        assert isinstance(protobuf.identify(worst), bytes)
        assert isinstance(protobuf.events(worst), bytes)
