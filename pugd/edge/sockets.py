"""A wake-up's connections in one call each way, and requests whose head is known; face of native/sockets and heads.

What is found is exact: a head is known by all of its bytes but the digits of its length (native/heads.h), and only
heads that head.py has parsed, and remembers, are learnt here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from pugd._native import ffi, lib
from pugd.edge.head import Head

HEADS_COUNT: Final = 2048
"""As many as head.py remembers in one generation."""
_CAME: Final[int] = lib.PUGD_SOCKETS_CAME


class Sockets:
    """Receives and sends over connections, non-blocking stream sockets that stay their owner's.

    buffer      what came lies there until the next `receive`
    room_bytes  as much is left for each connection, at least
    """

    def __init__(self, buffer: bytearray, room_bytes: int, head_bytes_max: int, count: int = HEADS_COUNT) -> None:
        """`head_bytes_max`: no longer head is learnt; `count`: nor more of them, a power of two."""
        heads = lib.pugd_heads_new(count, head_bytes_max, secrets.randbits(64))
        if heads == ffi.NULL:
            raise MemoryError("heads of requests")
        self._known: Any = ffi.gc(heads, lib.pugd_heads_free)
        self._heads: list[Head | None] = [None] * (count + 1)
        """By their number; what is not known has the number -1, which is the last place."""
        self._buffer = ffi.from_buffer("uint8_t[]", buffer)
        self._room_bytes = room_bytes
        self._make_room(256)

    def _make_room(self, count: int) -> None:
        self._room = count
        self._fds = ffi.new("int32_t[]", count)
        self._came = ffi.new("int32_t[]", _CAME * count)
        self._lengths = ffi.new("uint32_t[]", count)
        self._sent = ffi.new("int32_t[]", count)

    def learn(self, raw: bytes, head: Head) -> None:
        """From now on requests that begin with `raw`, which was parsed to be `head`, are found."""
        if head.chunked:
            return
        number = lib.pugd_heads_learn(self._known, raw, len(raw), head.content_length)
        if number >= 0:
            self._heads[number] = head

    def receive(self, fds: Sequence[int]) -> tuple[list[int], list[int], list[Head | None], list[int]]:
        """Read once from each, as far as the buffer reaches: from some of many, of one at least.

        returns  of each that was read, how many bytes came (0: its end; below: minus an errno), and where they begin;
                 the head, where they are one whole request and its head is known, and where then its body begins
        cost     0.2 µs beside the system call, one a connection; without the interpreter lock
        """
        count = len(fds)
        if count > self._room:
            self._make_room(2 * count)
        self._fds[0:count] = fds
        done = lib.pugd_sockets_receive(
            self._known, self._fds, count, self._buffer, len(self._buffer), self._room_bytes, self._came
        )
        assert done or not count, "the buffer has room for one"
        came = ffi.unpack(self._came, _CAME * done)
        # Looked up for all of them before anything more is learnt, which may take a number away.
        heads = self._heads
        return came[0::_CAME], came[1::_CAME], [heads[number] for number in came[2::_CAME]], came[3::_CAME]

    def send(self, fds: Sequence[int], answers: Sequence[bytes]) -> list[int] | None:
        """Send once over each.

        returns  how many bytes of each answer went; below 0: minus an errno. None where all of all did
        cost     0.2 µs beside the system call, one a connection; without the interpreter lock
        """
        count = len(fds)
        if count > self._room:
            self._make_room(2 * count)
        self._fds[0:count] = fds
        self._lengths[0:count] = [*map(len, answers)]
        short = lib.pugd_sockets_send(self._fds, count, b"".join(answers), self._lengths, self._sent)
        return ffi.unpack(self._sent, count) if short else None
