"""Large bodies: taken a piece at a time, between wake-ups, so that nobody waits for them.

A piece is taken as any body is (accept.py), and is in the journal when it has been; the sender's answer tells of all
pieces, once the last is on disk. Where the journal has no room for one of them, the whole is to be sent again: what was
kept of it then counts once, as ever, by its event ids. First come, first served; what waits is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from msgspec import Struct

from pugd import errors
from pugd.accept import Accept, Arrival
from pugd.dialects import slices
from pugd.dialects.known import shape_of
from pugd.dialects.message import MANY, Decoded
from pugd.model import Ack, Refusal, WriteKey

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bodies that wait for their turn."""
REFUSED_TOLD_MAX: Final = 1_000
"""Refusals in one answer; more are counted, and not told one by one."""

T = TypeVar("T")


class _Body(Struct, Generic[T]):
    """One that is being taken, and what has become of it."""

    of: T
    arrival: Arrival
    received_at: int
    shape: slices.Shape = slices.WHOLE
    pieces: Iterator[slices.Piece] | None = None
    looked: slices.Piece | None = None
    """A heavy one, which was looked at and may be taken."""
    accepted: int = 0
    refused: list[Refusal] = []
    position: int = 0
    key: WriteKey | None = None
    """What its first piece was let in with."""
    taken: list[int] = []
    """Which events were."""
    decoded: Decoded | None = None
    """Of the first piece: what its dialect keeps of a request."""


class Large(Generic[T]):
    """Those that wait, each with whatever its answer goes to."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._bodies: deque[_Body[T]] = deque()
        self._bytes_left = WAITING_BYTES_MAX

    def __len__(self) -> int:
        return len(self._bodies)

    def add(self, of: T, arrival: Arrival, received_at: int) -> bool:
        """Let a body wait for its turn. returns False where too much waits"""
        if self._bodies and len(arrival.body) > self._bytes_left:
            return False
        self._bytes_left -= len(arrival.body)
        self._bodies.append(_Body(of, arrival, received_at))
        return True

    def step(self) -> tuple[T, Arrival, Ack] | None:
        """Cut the first body, or look at its next piece where that is heavy, or take it: one of these at a time.

        returns  the body that this was the last of, with its ack
        raises   JournalError
        """
        body = self._bodies[0]
        ack = self._take_next(body)
        if ack is None:
            return None
        self._bodies.popleft()
        self._bytes_left += len(body.arrival.body)
        return body.of, body.arrival, ack

    def _take_next(self, body: _Body[T]) -> Ack | None:
        arrival = body.arrival
        if body.pieces is None:
            shape = shape_of(arrival.dialect, arrival.body, arrival.asked)
            assert shape is not None, "others are not taken in pieces"
            body.shape = shape
            found = slices.cut(arrival.body, shape)
            if isinstance(found, Refusal):
                return self._accept.refuse(arrival, found, body.received_at)
            body.pieces = found
            return None
        piece, heavy = body.looked, None
        if piece is None:
            piece = next(body.pieces, None)
            if piece is None:
                return _whole(body)
            if len(piece.body) > slices.HEAVY_BYTES:
                heavy = slices.heavy(piece.body, body.shape)
                if heavy is None:
                    body.looked = piece
                    return None
        body.looked = None
        if heavy is not None:
            ack = self._accept.refuse(arrival, heavy, body.received_at)
        else:
            one = Arrival(
                arrival.asked, piece.body, arrival.key, arrival.dialect, piece.first, body.key, arrival.path,
                arrival.address,
            )  # fmt: skip
            [ack] = self._accept.take([one], b"", 0, body.received_at)
            body.key = body.key or one.key
        return _add(body, piece, ack)


def _add(body: _Body[T], piece: slices.Piece, ack: Ack) -> Ack | None:
    """What became of a piece. returns the ack of the whole, where that decides it"""
    of = ack.of
    if ack.failed is not None and not ack.refused:
        # All of the piece. Of the first: nothing was kept yet, and the others would fare the same.
        if not piece.first or ack.failed.code == errors.UNAVAILABLE:
            return ack
        each = [Refusal(ack.failed.code, ack.failed.message, ack.failed.field, at) for at in range(piece.count)]
        ack = Ack(0, each, ack.failed, 0, of)
    elif not isinstance(of, Decoded) and not piece.first:
        return ack  # a Reply: nothing of it is kept
    room = max(0, REFUSED_TOLD_MAX - len(body.refused))
    body.refused += [slices.placed(refusal, piece.first) for refusal in ack.refused[:room]]
    body.accepted += ack.accepted
    body.position = max(body.position, ack.position)
    if isinstance(of, Decoded):
        # What stands for plain bodies is one object for all of them: nothing is written to it.
        taken = range(ack.accepted) if of.taken is None else of.taken
        body.taken += [number + piece.first for number in taken]
        if body.decoded is None:
            body.decoded = of
        elif body.decoded is not MANY and of is not MANY:
            body.decoded.join(of)
    return None


def _whole(body: _Body[T]) -> Ack:
    failed = body.refused[0] if body.refused and not body.accepted else None
    if body.decoded is not None and body.decoded is not MANY:
        body.decoded.taken = body.taken
    return Ack(body.accepted, body.refused, failed, body.position, body.decoded)
