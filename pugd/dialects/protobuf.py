"""Pug's messages: bytes of protobuf → JSON text in a fixed shape, so that all behind it reads JSON.

    BatchCreateRequest → [{"event_id", "distinct_id", "kind", "occur_time", "session_id", "cookieless", "properties"}…]
    IdentifyRequest    → {"external_id", "anonymous_id", "device_id", "traits"}

What was not sent is not there; `properties` holds both maps of an event, as they came. An event that cannot be read is
`{"wrong": code}` in its place: its length says where the next begins, so it takes no other with it. By the rules of
protobuf fields come in any order, unknown ones are passed over, and so are known ones of another wire type; of a field
given twice the last counts.

    string     text; it must be UTF-8        int64     a number, exact
    double     a number, finite; without a fraction and below 2^53 as an integer, since JavaScript has no others
    bool       true, false                   Timestamp `2026-11-23T10:01:00.5Z`; beyond the years 1 to 9999 `…s`
    nothing    null                          Struct    an object
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
        return _encode([_event(body, value) for number, value in fields if _is(1, number, value)])
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
    found: dict[str, Any] = {}
    try:
        for number, value in _fields(body, (0, len(body))):
            if not isinstance(value, tuple):
                continue
            if number == 2:
                found["traits"] = found.get("traits", {}) | _object(body, value, 1)
            elif number in _IDENTIFY:
                found[_IDENTIFY[number]] = _text(body, value)
    except _WrongError as wrong:
        return int(wrong.args[0])
    return _encode(found)


_IDENTIFY: Final = {1: "external_id", 3: "anonymous_id", 4: "device_id"}
_EVENT: Final = {1: "event_id", 4: "distinct_id", 5: "kind", 7: "session_id"}


def _is(wanted: int, number: int, value: object) -> bool:
    """Is this a field that has a length, of this number?"""
    return number == wanted and isinstance(value, tuple)


def _event(data: bytes, span: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    when: list[int] | None = None
    try:
        for number, value in _fields(data, span):
            if isinstance(value, tuple):
                if number in (2, 3):
                    key, said = _entry(data, value)
                    properties[key] = said
                elif number == 6:
                    when = _timestamp(data, value, when)
                elif number in _EVENT:
                    found[_EVENT[number]] = _text(data, value)
            elif number == 8 and isinstance(value, int):
                found["cookieless"] = bool(value)
    except _WrongError as wrong:
        return {"wrong": wrong.args[0]}
    if when is not None:
        found["occur_time"] = _time(when, 3)
    if properties:
        found["properties"] = properties
    return found


def _entry(data: bytes, span: Span) -> tuple[str, Any]:
    """A member of a map of properties."""
    key, said = "", None
    for number, value in _fields(data, span):
        if _is(1, number, value):
            key = _text(data, value)
        elif _is(2, number, value):
            said = _property(data, value)
    return key, said


def _property(data: bytes, span: Any) -> Any:
    said: Any = None
    for number, value in _fields(data, span):
        if isinstance(value, tuple):
            if number == 1:
                said = _text(data, value)
            elif number == 5:
                said = _time(_timestamp(data, value, None), 0)
        elif isinstance(value, bytes):
            if number == 3 and len(value) == 8:
                said = _number(value)
        elif number == 2:
            said = _signed(value)
        elif number == 4:
            said = bool(value)
    return said


def _object(data: bytes, span: Any, depth: int) -> dict[str, Any]:
    """A Struct."""
    if depth > DEPTH_MAX:
        raise _WrongError(TOO_DEEP)
    found: dict[str, Any] = {}
    for number, value in _fields(data, span):
        if not _is(1, number, value):
            continue
        key, said = "", None
        for part, inner in _fields(data, value):
            if _is(1, part, inner):
                key = _text(data, inner)
            elif _is(2, part, inner):
                said = _value(data, inner, depth)
        found[key] = said
    return found


def _value(data: bytes, span: Any, depth: int) -> Any:
    """A Value of a Struct."""
    said: Any = None
    for number, value in _fields(data, span):
        if isinstance(value, tuple):
            if number == 3:
                said = _text(data, value)
            elif number == 5:
                said = _object(data, value, depth + 1)
            elif number == 6:
                if depth + 1 > DEPTH_MAX:
                    raise _WrongError(TOO_DEEP)
                said = [_value(data, inner, depth + 1) for part, inner in _fields(data, value) if _is(1, part, inner)]
        elif isinstance(value, bytes):
            if number == 2 and len(value) == 8:
                said = _number(value)
        elif number == 4:
            said = bool(value)
        elif number == 1:
            said = None
    return said


def _timestamp(data: bytes, span: Any, before: list[int] | None) -> list[int]:
    """[seconds, nanoseconds]; over what an earlier part of it said."""
    found = before or [0, 0]
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
