"""One wake-up drains the datagram socket; face of native/datagrams. Never answers: senders' addresses can be forged."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import msgspec

from pugd._native import ffi, lib
from pugd.errors import PugdError

_CALLS_MAX: Final = 8
"""System calls a wake-up: with 128 datagrams each, about a thousand; the rest come with the next."""


class Datagrams(msgspec.Struct, frozen=True, gc=False):
    """A wake-up's datagrams, end to end, each with a line feed behind it that it did not have."""

    data: bytes
    offsets: list[int]
    """Datagram i is data[offsets[i]:offsets[i + 1]]: one number more than there are datagrams."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


class DatagramSocket:
    """Receives on `sock`, a bound UDP socket that stays its owner's."""

    def __init__(self, sock: socket.socket, *, receive_buffer_bytes: int | None = None) -> None:
        sock.setblocking(False)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        failed = lib.pugd_datagrams_count_drops(sock.fileno())
        if failed:
            raise PugdError(f"counting dropped datagrams: {os.strerror(failed)}; is this a UDP socket?")
        slots: Any = lib.pugd_datagrams_new()
        if slots == ffi.NULL:
            raise MemoryError("no memory to receive datagrams into")
        self._slots: Any = ffi.gc(slots, lib.pugd_datagrams_free)
        self._socket = sock
        # Never read before it is written, and pages never written are never backed.
        self._out: Any = ffi.new_allocator(should_clear_after_alloc=False)("uint8_t[]", lib.PUGD_DATAGRAMS_OUT_BYTES)
        self._offsets: Any = ffi.new("uint32_t[]", lib.PUGD_DATAGRAMS_SLOTS + 1)
        self._taken: Any = ffi.new("uint32_t *")
        self.received = 0
        """Datagrams handed out."""

    def receive(self) -> Datagrams | None:
        """What is there now, as far as a wake-up goes; None if nothing is.

        cost  one system call for 128 datagrams
        """
        found: Datagrams | None = None
        for _ in range(_CALLS_MAX):
            count = lib.pugd_datagrams_receive(
                self._slots, self._socket.fileno(), self._out, lib.PUGD_DATAGRAMS_OUT_BYTES, self._offsets, self._taken
            )
            if count < 0:
                break  # an ICMP error of something we never sent: nothing to do with what comes next
            if count:
                self.received += count
                offsets: list[int] = ffi.unpack(self._offsets, count + 1)
                data: bytes = ffi.buffer(self._out, offsets[-1])[:]
                if found is None:
                    found = Datagrams(data, offsets)
                else:
                    base = len(found.data)
                    found = Datagrams(found.data + data, found.offsets + [base + end for end in offsets[1:]])
            if self._taken[0] < lib.PUGD_DATAGRAMS_SLOTS:
                break
        return found

    @property
    def truncated(self) -> int:
        """Datagrams longer than a slot, left out."""
        return int(lib.pugd_datagrams_truncated(self._slots))

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel dropped for want of room, as far as it has told."""
        return int(lib.pugd_datagrams_dropped(self._slots))
