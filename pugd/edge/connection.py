"""A connection's memory between wake-ups, and the requests that came over it; http.py reads, parses and sends.

A request is answered once, at any time and in any order; its connection sends answers in the order of the requests.
"""

from __future__ import annotations

import math
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from pugd.edge.chunked import ChunkedBody
from pugd.edge.head import Head
from pugd.edge.response import without_body


class Owner(Protocol):
    """Who sends: http.py's Edge."""

    touched: list[Connection]
    """Connections that may have something to send."""

    @property
    def hold(self) -> Callable[[int, Request], None]:
        """Of a position and a request: answer it once the journal is flushed up to there."""


class Request(msgspec.Struct, gc=False, eq=False):
    """One whole request. `head` is what its head said, `body` as received: not inflated, chunks put together."""

    connection: Connection | None
    """Until it is answered or lost: which also breaks the circle with the connection's queue."""
    head: Head
    body: bytes
    peer: str = ""
    """The address of the other end, which may be gone by now; '' of a Unix socket."""
    response: bytes | None = None
    """What is sent when its turn comes."""
    held: bytes | None = None
    """What is sent once it is flushed."""

    def answer(self, response: bytes) -> None:
        """Send `response` (from `response.py`), after the answers to earlier requests of its connection."""
        connection = self.connection
        if connection is None:
            return
        head = self.head
        if head.extra:
            response = head.with_extra(response)
        if head.is_head:
            response = without_body(response)
        self.response = response
        if not connection.touched:
            connection.touched = True
            connection.edge.touched.append(connection)

    def answer_when_flushed(self, position: int, response: bytes) -> None:
        """Send `response` once the journal is flushed up to `position`."""
        connection = self.connection
        if connection is None:
            return
        self.body = b""
        self.held = response
        connection.edge.hold(position, self)


class Connection:
    """One client: what is half read, what waits for an answer, what is not yet sent."""

    __slots__ = (
        "began_at",
        "chunks",
        "closed",
        "deadline",
        "edge",
        "ended",
        "fd",
        "head",
        "held",
        "inbox",
        "last",
        "left",
        "linger",
        "linger_left",
        "mask",
        "outbox",
        "parts",
        "paused",
        "peer",
        "queue",
        "read_deadline",
        "scanned",
        "socket",
        "touched",
    )

    def __init__(self, edge: Owner, sock: socket.socket, peer: str, now: float, head_s: float) -> None:
        self.edge = edge
        self.socket = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.inbox: bytearray | None = None
        """Part of a head, or requests not yet parsed."""
        self.scanned = 0
        """No head ends in inbox before here."""
        self.head: Head | None = None
        """Of the body that is being read."""
        self.parts: list[bytes] | None = None
        """What came of a body whose length is known."""
        self.left = 0
        """Bytes of the body still to come."""
        self.chunks: ChunkedBody | None = None
        self.held = 0
        """Bytes in inbox, parts and chunks, as counted by the edge."""
        self.began_at = now
        """When the body began."""
        self.queue: deque[Request] = deque()
        """Requests without an answer sent, in their order."""
        self.outbox = b""
        self.mask = select.EPOLLIN
        self.read_deadline = now + head_s
        self.deadline = math.inf
        self.touched = False
        self.paused = False
        self.last = False
        """No request is read after those in the queue."""
        self.ended = False
        """The client said it sends no more."""
        self.linger = False
        """Input is read past before closing."""
        self.linger_left = -1
        self.closed = False

    def is_between(self) -> bool:
        """What comes next is the beginning of a request, and is read as one."""
        return self.inbox is None and self.chunks is None and self.linger_left < 0

    def is_served(self) -> bool:
        """Everything that was asked is answered, and sent, and more may be asked."""
        return not (self.queue or self.outbox or self.last or self.ended or self.paused)

    def is_idle(self) -> bool:
        """Nothing is half read, unanswered or unsent."""
        return not self.is_partial() and not self.queue and not self.outbox

    def is_partial(self) -> bool:
        """A request is half read, or not yet parsed."""
        return self.inbox is not None or self.parts is not None or self.chunks is not None
