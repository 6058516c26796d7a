"""The plain twin of native/protobuf: fields as they come, then what the last of each says, then JSON of a dict.

A key that stands twice on the wire stands once here, with its last value, as whoever reads JSON has it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

MALFORMED: Final = 1
"""No protobuf: a field ends beyond its message, a number is too long, a group is not closed."""
NO_UTF8: Final = 2
NOT_FINITE: Final = 3
"""NaN or an infinity."""
TOO_DEEP: Final = 4
TOO_MANY: Final = 5
"""Fields beside one another."""

DEPTH_MAX: Final = 60
"""Of objects and lists in traits, and of groups: what is around them stays below what `storable` takes."""

_encode = msgspec.json.Encoder().encode
_double = struct.Struct("<d").unpack_from
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = range(-62_135_596_800, 253_402_300_800)
_EXACT: Final = 2.0**53

Span = tuple[int, int]


class _WrongError(Exception):
    """Carries a code; caught in this file."""


def events(body: bytes) -> bytes | int:
    """Read a BatchCreateRequest. returns  JSON text; MALFORMED where the list itself cannot be read"""
    try:
        fields = _fields(body, (0, len(body)))
        return _encode([_event(body, value) for number, value in fields if number == 1 and isinstance(value, tuple)])
    except _WrongError as wrong:
        return int(wrong.args[0])


def cuts(body: bytes, fields_max: int, piece_events: int, piece_bytes: int) -> list[int] | int:
    """Where a large BatchCreateRequest may be cut into several: begin, end and number of events of each, end to end.

    returns  MALFORMED where the list itself cannot be read, TOO_MANY where it has more fields than `fields_max`
    """
    found: list[int] = []
    begin = last = count = inside = 0
    try:
        for number, value in _fields(body, (0, len(body))):
            count += 1
            if count > fields_max:
                return TOO_MANY
            if not isinstance(value, tuple) or number != 1:
                continue
            if inside == piece_events or (inside and value[1] - begin > piece_bytes):
                found += (begin, last, inside)
                begin, inside = last, 0
            inside += 1
            last = value[1]
    except _WrongError as wrong:
        return int(wrong.args[0])
    return [*found, begin, len(body), inside]


def identify(body: bytes) -> bytes | int:
    """Read an IdentifyRequest. returns  JSON text, or what is wrong with it"""
    try:
        last = _last(body, (0, len(body)))
        found: dict[str, Any] = {
            name: _text(body, last[number]) for number, name in _IDENTIFY.items() if number in last
        }
        if 2 in last:
            found["traits"] = _object(body, last[2], 1)
    except _WrongError as wrong:
        return int(wrong.args[0])
    return _encode(found)


_IDENTIFY: Final = {1: "external_id", 3: "anonymous_id", 4: "device_id"}
_EVENT: Final = {1: "event_id", 4: "distinct_id", 5: "kind", 7: "session_id"}


def _last(data: bytes, span: Any) -> dict[int, Span]:
    """Where the last value of each field with a length is."""
    return {number: value for number, value in _fields(data, span) if isinstance(value, tuple)}


def _event(data: bytes, span: Any) -> dict[str, Any]:
    try:
        fields = list(_fields(data, span))
        last = _last(data, span)
        found: dict[str, Any] = {name: _text(data, last[number]) for number, name in _EVENT.items() if number in last}
        if 6 in last:
            found["occur_time"] = _time(_timestamp(data, last[6]), 3)
        for number, value in fields:
            if number == 8 and isinstance(value, int):
                found["cookieless"] = bool(value)
        maps = [value for number, value in fields if number in (2, 3) and isinstance(value, tuple)]
        if maps:
            found["properties"] = dict([_entry(data, value) for value in maps])
    except _WrongError as wrong:
        return {"wrong": wrong.args[0]}
    return found


def _entry(data: bytes, span: Any) -> tuple[str, Any]:
    """A member of a map of properties."""
    last = _last(data, span)
    key = _text(data, last[1]) if 1 in last else ""
    return key, _property(data, last[2]) if 2 in last else None


def _property(data: bytes, span: Any) -> Any:
    kinds = {1: tuple, 2: int, 3: bytes, 4: int, 5: tuple}
    said = _said(data, span, kinds)
    match said:
        case (1, value):
            return _text(data, value)
        case (2, int() as value):
            return _signed(value)
        case (3, bytes() as value):
            return _number(value)
        case (4, value):
            return bool(value)
        case (5, value):
            return _time(_timestamp(data, value), 0)
    return None


def _said(data: bytes, span: Any, kinds: dict[int, type]) -> tuple[int, Any] | None:
    """The last field of a `oneof`."""
    found = None
    for number, value in _fields(data, span):
        if number in kinds and isinstance(value, kinds[number]) and not (isinstance(value, bytes) and len(value) != 8):
            found = (number, value)
    return found


def _object(data: bytes, span: Any, depth: int) -> dict[str, Any]:
    """A Struct."""
    if depth > DEPTH_MAX:
        raise _WrongError(TOO_DEEP)
    found: dict[str, Any] = {}
    for number, value in _fields(data, span):
        if number == 1 and isinstance(value, tuple):
            last = _last(data, value)
            key = _text(data, last[1]) if 1 in last else ""
            found[key] = _value(data, last[2], depth) if 2 in last else None
    return found


def _value(data: bytes, span: Any, depth: int) -> Any:
    """A Value of a Struct."""
    said = _said(data, span, {1: int, 2: bytes, 3: tuple, 4: int, 5: tuple, 6: tuple})
    match said:
        case (2, bytes() as value):
            return _number(value)
        case (3, value):
            return _text(data, value)
        case (4, value):
            return bool(value)
        case (5, value):
            return _object(data, value, depth + 1)
        case (6, value):
            if depth + 1 > DEPTH_MAX:
                raise _WrongError(TOO_DEEP)
            items = []
            for number, inner in _fields(data, value):
                if number == 1 and isinstance(inner, tuple):
                    items.append(_value(data, inner, depth + 1))
            return items
    return None


def _timestamp(data: bytes, span: Any) -> list[int]:
    """[seconds, nanoseconds]"""
    found = [0, 0]
    for number, value in _fields(data, span):
        if isinstance(value, int):
            if number == 1:
                found[0] = _signed(value)
            elif number == 2:
                found[1] = _signed(value)
    return found


def _time(when: list[int], digits: int) -> str:
    """`digits`: how many of a second's at least; as many as it takes, by threes, but no more than these if not 0."""
    seconds, nanos = when
    if seconds not in _SECONDS or not 0 <= nanos < 1_000_000_000:
        return f"{seconds}s"
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    fraction = f"{nanos:09d}"
    if not digits:
        digits = 0 if not nanos else 3 if fraction.endswith("000000") else 6 if fraction.endswith("000") else 9
    return f"{text}.{fraction[:digits]}Z" if digits else f"{text}Z"


def _number(said: bytes) -> int | float:
    number: float = _double(said)[0]
    if not math.isfinite(number):
        raise _WrongError(NOT_FINITE)
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _text(data: bytes, span: Any) -> str:
    try:
        return data[span[0] : span[1]].decode()
    except UnicodeDecodeError:
        raise _WrongError(NO_UTF8) from None


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes, span: Any) -> Iterator[tuple[int, int | bytes | Span]]:
    """The fields of a message: number and an int (varint), bytes (fixed), or where in `data` a value with a length is.

    Groups are passed over.
    """
    at, end = span
    depth = 0
    open_groups: list[int] = []
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        value: int | bytes | Span
        if not number or tag >> 32:
            raise _WrongError(MALFORMED)
        if wire == 0:
            value, at = _varint(data, at, end)
        elif wire == 2:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise _WrongError(MALFORMED)
            value, at = (at, at + length), at + length
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if size > end - at:
                raise _WrongError(MALFORMED)
            value, at = data[at : at + size], at + size
        elif wire == 3:
            depth += 1
            if depth > DEPTH_MAX:
                raise _WrongError(TOO_DEEP)
            open_groups.append(number)
            continue
        elif wire == 4 and open_groups and open_groups.pop() == number:
            depth -= 1
            continue
        else:
            raise _WrongError(MALFORMED)
        if not open_groups:
            yield number, value
    if open_groups:
        raise _WrongError(MALFORMED)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """returns  64 bits of it, and where it ends"""
    value = 0
    for index in range(10):
        if at + index >= end:
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise _WrongError(MALFORMED)
