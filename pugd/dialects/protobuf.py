"""Pug's messages: bytes of protobuf → JSON text in a fixed shape, so that all behind it reads JSON.

    BatchCreateRequest → [{"event_id", "distinct_id", "kind", "session_id", "occur_time", "cookieless", "properties"}…]
    IdentifyRequest    → {"external_id", "anonymous_id", "device_id", "traits"}

What was not sent is not there; `properties` holds both maps of an event, as they came. An event that cannot be read is
`{"wrong": code}` in its place: its length says where the next begins, so it takes no other with it. By the rules of
protobuf fields come in any order, unknown ones are passed over, and so are known ones of another wire type; of a field
given twice the last counts, and a key given twice stands there twice (`storable.mend`).

    string     text; it must be UTF-8        int64     a number, exact
    double     a number, finite; without a fraction and below 2^53 as an integer, since JavaScript has no others
    bool       true, false                   Timestamp `2026-11-23T10:01:00.5Z`; beyond the years 1 to 9999 `…s`
    nothing    null                          Struct    an object

The face of native/protobuf.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pugd._native import ffi, lib

MALFORMED: Final[int] = lib.PUGD_PROTOBUF_MALFORMED
"""No protobuf: a field ends beyond its message, a number is too long, a group is not closed."""
NO_UTF8: Final[int] = lib.PUGD_PROTOBUF_NO_UTF8
NOT_FINITE: Final[int] = lib.PUGD_PROTOBUF_NOT_FINITE
"""NaN or an infinity."""
TOO_DEEP: Final[int] = lib.PUGD_PROTOBUF_TOO_DEEP
TOO_MANY: Final[int] = lib.PUGD_PROTOBUF_TOO_MANY
"""Fields beside one another."""

DEPTH_MAX: Final[int] = lib.PUGD_PROTOBUF_DEPTH_MAX
"""Of objects and lists in traits, and of groups: what is around them stays below what `storable` takes."""

_fresh: Final = ffi.new_allocator(should_clear_after_alloc=False)


def events(body: bytes) -> bytes | int:
    """Read a BatchCreateRequest.

    returns  JSON text; or MALFORMED or TOO_DEEP, where the list itself cannot be read
    cost     about two nanoseconds a byte, and twelve bytes of memory a byte while it is at it
    """
    return _written(lib.pugd_protobuf_events, body)


def identify(body: bytes) -> bytes | int:
    """Read an IdentifyRequest. returns  JSON text, or what is wrong with it; cost as above"""
    return _written(lib.pugd_protobuf_identify, body)


def _written(write: Callable[..., int], body: bytes) -> bytes | int:
    room: int = lib.pugd_protobuf_room(len(body))
    out: Any = _fresh("uint8_t[]", room)
    length = write(body, len(body), out, room)
    if length < 0:
        assert -length != lib.PUGD_PROTOBUF_NO_ROOM, "the bound is not one"
        return -length
    return bytes(ffi.buffer(out, length))


def cuts(body: bytes, fields_max: int, piece_events: int, piece_bytes: int) -> list[int] | int:
    """Where a large BatchCreateRequest may be cut into several: begin, end and number of events of each, end to end.

    returns  MALFORMED or TOO_DEEP where the list itself cannot be read, TOO_MANY where it has more fields than
             `fields_max`
    """
    room = 3 * (2 * len(body) // piece_bytes + fields_max // piece_events + 2)
    found = ffi.new("uint64_t[]", room)
    count: int = lib.pugd_protobuf_cuts(body, len(body), fields_max, piece_events, piece_bytes, found, room)
    if count < 0:
        assert -count != lib.PUGD_PROTOBUF_NO_ROOM, "the bound is not one"
        return -count
    told: list[int] = ffi.unpack(found, 3 * count)
    return told
