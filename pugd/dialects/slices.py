"""A large body as several small ones: each with some of its events, and with what stands around them.

A body may be of 32 MiB and hold hundreds of thousands of events, and reading it at once would hold everybody up for as
long as that takes. So it is cut where its events begin and end, by one walk in C (native/slices.h) that reads nothing
of them, and each piece is a body of its own, which its dialect reads like any other. What refusals of a piece say of
their places is put right by `placed`.

Whatever is sent, work is bounded: a request has EVENTS_MAX events at most, and of one large event not all is mended
that would be in a small one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from pugd import errors
from pugd._native import ffi, lib
from pugd.dialects import protobuf, storable
from pugd.model import Refusal

EVENTS_MAX: Final = 50_000
"""Of one request: five times what the largest body of a client library holds."""
PIECE_BYTES: Final = 128 * 1024
PIECE_EVENTS: Final = 1_000
AROUND_BYTES_MAX: Final = 1024 * 1024 + 64 * 1024
"""What stands around the events is read with each piece: a context of 1 MiB, and as much again as clients send."""
HEAVY_BYTES: Final = 1024 * 1024
"""One event of more than this is not mended: that takes a second for the largest. Nor is one taken of many keys or
values (storable.py): what reads its members one by one takes as long."""
EVENT_BYTES_MAX: Final = 12 * 1024 * 1024
"""One event of more than this is not taken, whatever is in it: properties, traits and context are of less."""


class Shape(Struct, frozen=True):
    """Where a dialect's bodies have their events."""

    name: bytes = b""
    """The member of the outermost object that is the list of them."""
    list: bool = False
    """The outermost value may be the list."""
    lines: bool = False
    """They may stand one after another."""
    protobuf: bool = False
    """It is no JSON, but a message whose first field are the events."""

    @property
    def mark(self) -> bytes:
        """What stands beside every event, and inside: where there are many, it may be of tiny events."""
        return b"\n" if self.protobuf else b","


class Piece(Struct, frozen=True, gc=False):
    """A body of its own."""

    body: bytes
    first: int
    """Which event of the whole its first is."""
    count: int


WHOLE: Final = Shape()
"""One event a body."""


def cut(body: bytes, shape: Shape) -> Iterator[Piece] | Refusal:
    """A large body in pieces, made one by one; one piece where there is no list of events in it.

    cost  a nanosecond a byte, and a copy of each piece
    """
    if shape.protobuf:
        return _of_messages(body)
    room = 2 + 3 * (2 * len(body) // PIECE_BYTES + EVENTS_MAX // PIECE_EVENTS + 3)
    cuts = ffi.new("uint64_t[]", room)
    count: int = lib.pugd_slices(
        body, len(body), shape.name, len(shape.name), shape.list, shape.lines, EVENTS_MAX, PIECE_EVENTS, PIECE_BYTES,
        cuts, room,
    )  # fmt: skip
    if count == lib.PUGD_SLICES_TOO_MANY:
        return Refusal(
            errors.TOO_LARGE, f"a request may hold at most {EVENTS_MAX} events: send fewer at once", _named(shape)
        )
    if count == lib.PUGD_SLICES_AMBIGUOUS:
        return Refusal(
            errors.INVALID_JSON,
            f"a body of more than {HEAVY_BYTES // 4} bytes may name its events once, and without escapes in its keys",
            _named(shape),
        )
    if count < 0:
        found = storable.scan(body)
        return Refusal(found.code or errors.INVALID_JSON, found.message or "The JSON text has no end.")
    if not count:
        return iter((Piece(body, 0, 1),))
    before, behind = body[: cuts[0]], body[cuts[1] :]
    if len(before) + len(behind) > AROUND_BYTES_MAX:
        wrong = f"what stands around the events has more than {AROUND_BYTES_MAX} bytes: send less of it"
        return Refusal(errors.TOO_LARGE, wrong)
    return _pieces(body, before, behind, ffi.unpack(cuts + 2, 3 * count))


def _pieces(body: bytes, before: bytes, behind: bytes, cuts: list[int]) -> Iterator[Piece]:
    first = 0
    for begin, end, count in zip(cuts[::3], cuts[1::3], cuts[2::3], strict=True):
        yield Piece(before + body[begin:end] + behind, first, count)
        first += count


def _of_messages(body: bytes) -> Iterator[Piece] | Refusal:
    """Every few fields of a message are a message."""
    found = protobuf.cuts(body, EVENTS_MAX, PIECE_EVENTS, PIECE_BYTES)
    if found == protobuf.TOO_MANY:
        return Refusal(errors.TOO_LARGE, f"a request may hold at most {EVENTS_MAX} events: send fewer at once")
    if isinstance(found, int):
        return Refusal(errors.INVALID_PROTOBUF, "This is no protobuf message that can be read: a field ends beyond it.")
    return _pieces(body, b"", b"", found)


def _named(shape: Shape) -> str | None:
    return shape.name.decode() or None


def heavy(body: bytes, shape: Shape = WHOLE) -> Refusal | None:
    """Why a body of more than HEAVY_BYTES, one event, is not taken, where a smaller one might be mended or read in
    parts. cost  up to 4 ns a byte of 12 MiB"""
    bytes_max = HEAVY_BYTES if shape.protobuf else EVENT_BYTES_MAX
    if len(body) > bytes_max:
        return Refusal(errors.TOO_LARGE, f"an event of more than {bytes_max} bytes: send less in one.")
    found = storable.scan(body)
    if found.code:
        return Refusal(found.code, found.message)
    if found.many:
        many = f"{lib.PUGD_SCAN_MANY_KEYS} keys or {lib.PUGD_SCAN_MANY_VALUES} values"
        return Refusal(
            errors.TOO_LARGE, f"an event of more than {HEAVY_BYTES} bytes has more than {many}: send less in one."
        )
    if found.duplicate_keys:
        return Refusal(
            errors.INVALID_JSON, f"a key stands twice in an object, in an event of more than {HEAVY_BYTES} bytes."
        )
    return None


_PLACE: Final = re.compile(r"\[(\d+)\]")


def placed(refusal: Refusal, first: int) -> Refusal:
    """A refusal of an event of a piece whose first event is number `first` of the whole, with its place there."""
    index = (refusal.index or 0) + first
    field = refusal.field
    if field is not None and refusal.index is not None:
        field = _PLACE.sub(lambda found: f"[{int(found[1]) + first}]", field, count=1)
    return Refusal(refusal.code, refusal.message, field, index, refusal.event_id)
