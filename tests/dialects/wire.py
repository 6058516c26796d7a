"""Protobuf by hand, for tests: a message is its fields end to end, each a number, a wire type and a value."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def block(number: int, value: bytes) -> bytes:
    """A message, or bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    return block(number, value.encode())


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def when(seconds: int, nanos: int = 0) -> bytes:
    """A Timestamp."""
    return (integer(1, seconds) if seconds else b"") + (integer(2, nanos) if nanos else b"")


def said(value: object) -> bytes:
    """A PropertyValue. `(seconds, nanos)` is a Timestamp."""
    match value:
        case None:
            return b""
        case bool():
            return integer(4, value)
        case int():
            return integer(2, value)
        case float():
            return double(3, value)
        case str():
            return text(1, value)
        case (int() as seconds, int() as nanos):
            return block(5, when(seconds, nanos))
        case _:
            raise AssertionError(value)


def entry(number: int, key: str, value: bytes) -> bytes:
    """A member of a map."""
    return block(number, text(1, key) + block(2, value))


def value(of: object) -> bytes:
    """A Value of a Struct."""
    match of:
        case None:
            return integer(1, 0)
        case bool():
            return integer(4, of)
        case int() | float():
            return double(2, of)
        case str():
            return text(3, of)
        case dict():
            return block(5, structure(of))
        case list():
            return block(6, b"".join(block(1, value(item)) for item in of))
        case _:
            raise AssertionError(of)


def structure(members: dict[str, object]) -> bytes:
    return b"".join(entry(1, key, value(of)) for key, of in members.items())


def event(
    event_id: str = "e-1",
    distinct_id: str = "user-1",
    kind: str = "order_completed",
    at: bytes | None = None,
    session_id: str = "",
    auto: dict[str, object] | None = None,
    custom: dict[str, object] | None = None,
    more: bytes = b"",
) -> bytes:
    parts = [
        text(number, word) for number, word in ((1, event_id), (4, distinct_id), (5, kind), (7, session_id)) if word
    ]
    for number, members in ((2, auto), (3, custom)):
        parts += [entry(number, key, said(of)) for key, of in (members or {}).items()]
    return b"".join(parts) + (b"" if at is None else block(6, at)) + more


def batch(*events: bytes) -> bytes:
    return b"".join(block(1, one) for one in events)
