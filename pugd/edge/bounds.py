"""What the edge takes and how long it waits, and how it is: http.py keeps to the one and tells the other."""

from __future__ import annotations

from typing import Final

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * 1024


class Bounds(msgspec.Struct, frozen=True):
    """What the edge takes and how long it waits."""

    head_bytes_max: int = 136 * KIB
    """Request line and headers together: 64 KiB of line, for events in a URL, and as much again of headers."""
    target_bytes_max: int = 72 * KIB
    body_bytes_max: int = 32 * MIB
    """As received; what it inflates to is bounded elsewhere."""
    held_bytes_max: int = 256 * MIB
    """All partial heads and bodies together. From three quarters on, no new body begins."""
    connections_max: int = 16_384
    """More are answered 503 and closed: a client that is told comes back, one left in the backlog times out."""
    pipelined_max: int = 64
    """Requests of one connection without an answer; no more is read from it until half are answered."""
    output_bytes_max: int = 1 * MIB
    """Answers that a client did not read; then it is closed."""
    head_s: float = 10.0
    """From a head's first byte, or from the connection, to its last."""
    body_grace_s: float = 10.0
    body_rate_min: float = 1024.0
    """Bytes a second, over the whole body, once the grace is over."""
    idle_s: float = 75.0
    answer_s: float = 30.0
    """From a whole request to its answer, and for a client to read one."""


class EdgeStatistics(msgspec.Struct, frozen=True):
    """How the edge is."""

    connections: int
    connections_accepted: int
    connections_refused: int
    requests: int
    requests_refused: dict[int, int]
    """By status: what the edge answered by itself."""
    heads_parsed: int
    """Heads not seen lately."""
    wake_ups: int
    bytes_received: int
    waiting_for_flush: int
    held_bytes: int
    timeouts: int
    datagrams: int
    datagrams_truncated: int
    datagrams_dropped: int
    """By the kernel, for want of room in the socket's buffer."""
