"""The epoll task: takes everything that is ready in a wake-up, hands it over at once, answers everything at the end.

One Trio task owns an epoll set of listeners, connections, the datagram socket and the journal's eventfd; an epoll
descriptor is itself pollable, so Trio waits on it and nothing else. A wake-up goes

    poll → read every ready connection once → parse → handle(all whole requests, datagrams, now) → send

All connections are read in one call, and answered in one (sockets.py); what came as one whole request with a head met
before, as most does, is a request without being parsed.

What became ready meanwhile is the next one: natural batching, nothing waits for more to come. `handle` is
synchronous. It answers each request at once, or when the journal has flushed a position; answers leave in the order of
their requests on a connection, whatever order they are given in. One `send` a connection a wake-up.

Everything is bounded: heads, bodies, what partial bodies hold together, connections, pipelined requests, unread
answers; and timed: a head, the rate of a body, an answer, a client that does not read, an idle connection. A second is
the unit of those clocks: one sweep a second over all connections. A refusal is answered, then the connection's input is
read past for a while before it is closed, since closing on unread input would take the answer back.
"""

from __future__ import annotations

import errno
import math
import select
import socket
import time
from collections.abc import Callable
from typing import Final

import trio

from pugd.edge.bounds import KIB, MIB, Bounds, EdgeStatistics
from pugd.edge.chunked import ChunkedBody
from pugd.edge.connection import Connection, Request
from pugd.edge.dates import Dates
from pugd.edge.head import HEAD_CACHED_BYTES_MAX, Head, Heads, may_become
from pugd.edge.response import CONTINUE, Refused, invalid, refused, spliced, without_body
from pugd.edge.sockets import Sockets
from pugd.edge.udp import Datagrams, DatagramSocket
from pugd.edge.unflushed import Unflushed
from pugd.errors import TIMEOUT, TOO_LARGE, UNAVAILABLE

_EVENTS_MAX: Final = 256
"""Connections a wake-up reads. The kernel hands out ready ones in turn, so the rest come next."""
_ACCEPTS_MAX: Final = 128  # new connections a wake-up and listener
_SPARE_CONNECTIONS: Final = 256  # beyond the most: those that are only told to come back later
_CHECKPOINT_S: Final = 0.005  # how long busy wake-ups may follow one another before other tasks have a turn
_READ_BYTES_MAX: Final = 256 * KIB
"""Of one connection at a time."""
_READ_TOGETHER_BYTES: Final = 16 * KIB
"""Of several: beyond that the rest are read later, so that what came is still in a core's cache when it is copied."""
_PART_BYTES_MAX: Final = 256 * KIB
_PART_BYTES_MIN: Final = 16 * KIB
_STAY_S: Final = 0.001
"""How long a wake-up waits for the next one by itself: a turn of Trio's costs as much as two requests, and under load
the next is never far. Other tasks wait that much longer for theirs."""
_LINGER_S: Final = 3.0
_LINGER_BYTES_MAX: Final = 64 * MIB

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLERR | select.EPOLLHUP
_LATER: Final = (-errno.EAGAIN, -errno.EWOULDBLOCK)


class Edge:
    """Listens for events over HTTP and UDP.

    listeners     bound and listening; datagrams: bound, or None. Their owner closes them.
    flushed_fd    readable when the journal flushed more, or failed; then
    take_flushed  returns the flushed position, or raises, which ends `run` after every held request was told 503
    refuse        the answer to what the edge refuses by itself, where its head was whole
    handle        (requests, datagrams, received_at in ms): once a wake-up, when there is any
    pending       is there more for `handle` to do, though nothing came?
    """

    def __init__(
        self,
        *,
        listeners: list[socket.socket],
        datagrams: socket.socket | None,
        flushed_fd: int,
        take_flushed: Callable[[], int],
        handle: Callable[[list[Request], Datagrams | None, int], None],
        refuse: Callable[[Refused, Head | None], bytes] = lambda why, _: why.response(),
        pending: Callable[[], bool] = lambda: False,
        bounds: Bounds | None = None,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        for listener in listeners:
            listener.setblocking(False)
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                # Connections inherit it from their listener: an answer leaves at once.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._datagrams = DatagramSocket(datagrams) if datagrams is not None else None
        self._datagrams_fd = datagrams.fileno() if datagrams is not None else -1
        self._flushed_fd = flushed_fd
        self._take_flushed = take_flushed
        self._handle = handle
        self._refusal = refuse
        self._pending = pending
        self._bounds = bounds or Bounds()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._shared = bytearray(_READ_BYTES_MAX + _READ_TOGETHER_BYTES)
        self._view = memoryview(self._shared)
        self._sockets = Sockets(self._shared, _READ_BYTES_MAX, min(HEAD_CACHED_BYTES_MAX, self._bounds.head_bytes_max))
        self._heads = Heads(told=self._sockets.learn)
        self._requests: list[Request] = []
        self.touched: list[Connection] = []
        self._unflushed = Unflushed()
        self.hold = self._unflushed.hold
        self._held_bytes = 0
        self._accepting = False
        self._draining = False
        self._now = time.monotonic()
        self._dates = Dates()

        self._accepted = 0
        self._refused_connections = 0
        self._requests_count = 0
        self._refused: dict[int, int] = {}
        self._wake_ups = 0
        self._bytes_received = 0
        self._timeouts = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. raises  what `take_flushed` or `handle` raise"""
        try:
            self._epoll.register(self._flushed_fd, _IN)
            self._accept_again()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep_each_second)
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    until = time.monotonic() + _CHECKPOINT_S
                    while self._wake_up():
                        if self._now > until:
                            await trio.lowlevel.checkpoint()
                            until = time.monotonic() + _CHECKPOINT_S
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            self._epoll.close()

    def take_datagrams(self) -> None:
        """From now on: until then they wait in the socket's buffer, since a sender learns nothing of a refusal."""
        if self._datagrams is not None:
            self._epoll.register(self._datagrams_fd, _IN)

    def stop_accepting(self) -> None:
        """Take no new connections and no datagrams; answer what is there, each with `Connection: close`."""
        self._draining = True
        self._stop_listening()
        if self._datagrams is not None and self._datagrams_fd >= 0:
            self._epoll.unregister(self._datagrams_fd)
            self._datagrams_fd = -1

    async def wait_drained(self, deadline: float) -> bool:
        """Wait until every request that began to arrive is answered and the answers are sent; `deadline` in Trio's
        time.

        returns  whether it came to that; closes the connections either way
        """
        assert self._draining, "stop_accepting comes first"
        with trio.move_on_at(deadline):
            while True:
                for connection in list(self._connections.values()):
                    if connection.is_idle():
                        self._close(connection)
                if not self._connections:
                    break
                await trio.sleep(0.01)
        drained = not self._connections
        for connection in list(self._connections.values()):
            self._close(connection)
        return drained

    def fail_unacked(self) -> int:
        """Answer 503 to every request that waits for a flush, now. returns  how many those were"""
        why = refused(503, UNAVAILABLE, "the event could not be kept; send it again later")
        failed = self._unflushed.give_up()
        for request in failed:
            request.answer(self._refusal(why, request.head))
        self.send_answers()
        return len(failed)

    def statistics(self) -> EdgeStatistics:
        datagrams = self._datagrams
        return EdgeStatistics(
            connections=len(self._connections),
            connections_accepted=self._accepted,
            connections_refused=self._refused_connections,
            requests=self._requests_count,
            requests_refused=dict(self._refused),
            heads_parsed=self._heads.missed,
            wake_ups=self._wake_ups,
            bytes_received=self._bytes_received,
            waiting_for_flush=len(self._unflushed),
            held_bytes=self._held_bytes,
            timeouts=self._timeouts,
            datagrams=datagrams.received if datagrams is not None else 0,
            datagrams_truncated=datagrams.truncated if datagrams is not None else 0,
            datagrams_dropped=datagrams.dropped if datagrams is not None else 0,
        )

    # -- a wake-up -----------------------------------------------------------------------------------------------------

    def _wake_up(self) -> bool:
        """returns  whether there was anything to do"""
        busy = bool(self._requests) or self._pending()
        events = self._epoll.poll(0 if busy else _STAY_S, _EVENTS_MAX)
        if not events and not busy:
            return False
        self._wake_ups += 1
        self._now = time.monotonic()
        self._dates.turn(self._now)
        connections = self._connections
        datagrams: Datagrams | None = None
        ready: list[Connection] = []
        for fd, mask in events:
            connection = connections.get(fd)
            if connection is not None:
                if mask & _OUT:
                    self._send_rest(connection)
                if connection.parts is not None and mask & _IN:
                    self._receive_body(connection, connection.parts)
                elif mask & _IN:
                    ready.append(connection)
                elif mask & _GONE:
                    self._close(connection)
            elif fd == self._flushed_fd:
                self._release()
            elif fd == self._datagrams_fd:
                assert self._datagrams is not None
                datagrams = self._datagrams.receive()
            elif fd in self._listeners:
                self._accept(self._listeners[fd])
        self._receive(ready)
        self.send_answers()  # what was flushed leaves before what is new is worked on
        requests = self._requests
        if requests or datagrams is not None or busy:
            self._requests = []
            self._requests_count += len(requests)
            self._handle(requests, datagrams, time.time_ns() // 1_000_000)
        self.send_answers()
        return True

    def _release(self) -> None:
        try:
            flushed = self._take_flushed()
        except Exception:
            self.fail_unacked()
            raise
        self._unflushed.release(flushed)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _accept_again(self) -> None:
        if not self._accepting and not self._draining:
            self._accepting = True
            for fd in self._listeners:
                self._epoll.register(fd, _IN)

    def _stop_listening(self) -> None:
        if self._accepting:
            self._accepting = False
            for fd in self._listeners:
                self._epoll.unregister(fd)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_MAX):
            if not self._accepting:
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._stop_listening()  # until the next sweep: a full table of files would wake us for ever
                    return
                continue  # that client is gone already
            sock.setblocking(False)
            peer = address[0] if isinstance(address, tuple) else ""
            connection = Connection(self, sock, peer, self._now, self._bounds.head_s)
            self._connections[connection.fd] = connection
            self._epoll.register(connection.fd, _IN)
            self._accepted += 1
            count = len(self._connections)
            if count > self._bounds.connections_max:
                self._refused_connections += 1
                self._refuse(connection, refused(503, UNAVAILABLE, "too many connections; try again later"))
                if count >= self._bounds.connections_max + _SPARE_CONNECTIONS:
                    self._stop_listening()

    def _close(self, connection: Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        del self._connections[connection.fd]
        self._held_bytes -= connection.held
        connection.held = 0
        connection.inbox = connection.parts = connection.chunks = None
        connection.outbox = b""
        for request in connection.queue:
            request.connection = None
        connection.queue.clear()
        connection.socket.close()  # which takes it out of the epoll set

    def _watch(self, connection: Connection, mask: int) -> None:
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.fd, mask)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _receive(self, ready: list[Connection]) -> None:
        """Read once from each of these, of which none is amid a body of a known length."""
        view, body_bytes_max = self._view, self._bounds.body_bytes_max
        ready = [connection for connection in ready if not connection.closed]
        while ready:
            counts, begins, heads, bodies = self._sockets.receive([connection.fd for connection in ready])
            for connection, count, begin, head, body in zip(ready, counts, begins, heads, bodies, strict=False):
                end = begin + count
                if head is None or not connection.is_between() or end - body > body_bytes_max:
                    self._received(connection, count, begin)
                    continue
                self._bytes_received += count
                connection.read_deadline = math.inf
                self._take(connection, head, bytes(view[body:end]))
            ready = ready[len(counts) :]

    def _received(self, connection: Connection, count: int, begin: int) -> None:
        """What came of one of them: so many bytes of the buffer from `begin` on, or minus an errno."""
        if count < 0:
            if count not in _LATER:
                self._close(connection)
            return
        self._bytes_received += count
        if connection.linger_left >= 0:
            connection.linger_left -= count
            if count == 0 or connection.linger_left < 0:
                self._close(connection)
        elif count == 0:
            self._end_of_input(connection)
        elif connection.inbox is None:
            self._parse(connection, self._shared, self._view, begin, begin + count)
        else:
            connection.inbox += self._view[begin : begin + count]
            self._parse_inbox(connection)

    def _receive_body(self, connection: Connection, parts: list[bytes]) -> None:
        """More of a body whose length is known: no byte past it is taken, and none is copied but to join the parts."""
        try:
            part = connection.socket.recv(min(connection.left, _PART_BYTES_MAX))
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        count = len(part)
        if not count:
            self._end_of_input(connection)
            return
        self._bytes_received += count
        connection.left -= count
        if parts and len(parts[-1]) < _PART_BYTES_MIN:
            parts[-1] += part  # so that many small parts take no more room than their bytes
        else:
            parts.append(part)
        if connection.left:
            connection.held += count
            self._held_bytes += count
            self._bound_held(connection)
            return
        self._held_bytes -= connection.held
        connection.held = 0
        connection.parts = None
        connection.read_deadline = math.inf
        assert connection.head is not None
        self._take(connection, connection.head, b"".join(parts))

    def _end_of_input(self, connection: Connection) -> None:
        """The client sends no more, but may still read."""
        connection.ended = True
        if connection.queue or connection.outbox:
            connection.read_deadline = math.inf
            self._watch(connection, connection.mask & ~_IN)
        else:
            self._close(connection)

    def _parse_inbox(self, connection: Connection) -> None:
        inbox = connection.inbox
        assert inbox is not None
        with memoryview(inbox) as view:
            connection.inbox = None
            self._parse(connection, inbox, view, 0, len(inbox))

    def _parse(self, connection: Connection, data: bytearray, view: memoryview, at: int, end: int) -> None:
        """Take every whole request of data[at:end]; keep the rest."""
        bounds = self._bounds
        while at < end:
            if connection.chunks is not None:
                taken = connection.chunks.take(view, at, end)
                if isinstance(taken, Refused):
                    self._refuse(connection, taken, connection.head)
                    return
                at = taken
                if not connection.chunks.done:
                    break
                body = bytes(connection.chunks.body)
                assert connection.head is not None
                head = connection.head
                connection.chunks = None
                connection.read_deadline = math.inf
            else:
                if data[at] == 13 and data.startswith(b"\r\n", at, end):
                    at += 2  # RFC 9112, section 2.2: empty lines before a request are passed over
                    continue
                stop = data.find(b"\r\n\r\n", at + connection.scanned, end)
                connection.scanned = 0
                if stop < 0:
                    wrong = self._partial_head(connection, view, at, end)
                    if wrong is not None:
                        self._refuse(connection, wrong)
                        return
                    break
                stop += 4
                if stop - at > bounds.target_bytes_max:
                    wrong = self._long_head(data, at, stop)
                    if wrong is not None:
                        self._refuse(connection, wrong)
                        return
                parsed = self._heads.parse(bytes(view[at:stop]))
                if isinstance(parsed, Refused):
                    self._refuse(connection, parsed)
                    return
                at = stop
                connection.read_deadline = math.inf
                head, length = parsed
                if head.chunked or length > end - at or length > bounds.body_bytes_max:
                    wrong = self._begin_body(connection, head, length, at == end)
                    if wrong is not None:
                        self._refuse(connection, wrong, head)
                        return
                    if connection.parts is not None:
                        if at < end:
                            connection.parts.append(bytes(view[at:end]))
                            connection.left -= end - at
                            at = end
                        break
                    continue
                body = bytes(view[at : at + length])
                at += length
            self._take(connection, head, body)
            if connection.last:
                connection.linger = at < end
                at = end
            elif connection.paused:
                break
        if at < end:
            connection.inbox = bytearray(view[at:end])
            connection.scanned = 0 if connection.paused else max(0, end - at - 3)
        if connection.held or connection.is_partial():
            self._count_held(connection)

    def _take(self, connection: Connection, head: Head, body: bytes) -> None:
        """A whole request."""
        request = Request(connection, head, body, connection.peer)
        self._requests.append(request)
        queue = connection.queue
        queue.append(request)
        connection.deadline = self._now + self._bounds.answer_s
        if not head.keep_alive:
            connection.last = True
            self._watch(connection, connection.mask & ~_IN)
        elif len(queue) >= self._bounds.pipelined_max:
            connection.paused = True
            self._watch(connection, connection.mask & ~_IN)

    def _count_held(self, connection: Connection) -> None:
        held = len(connection.inbox) if connection.inbox is not None else 0
        if connection.parts is not None:
            held += sum(map(len, connection.parts))
        if connection.chunks is not None:
            held += len(connection.chunks.body)
        self._held_bytes += held - connection.held
        connection.held = held
        self._bound_held(connection)

    def _bound_held(self, connection: Connection) -> None:
        if self._held_bytes > self._bounds.held_bytes_max and connection.held > 4 * KIB:
            self._refuse(connection, refused(503, UNAVAILABLE, "too much is being received at once; try again later"))

    def _partial_head(self, connection: Connection, view: memoryview, at: int, end: int) -> Refused | None:
        if connection.read_deadline == math.inf:
            connection.read_deadline = self._now + self._bounds.head_s
        length = end - at
        if length > self._bounds.head_bytes_max:
            return invalid(f"the head of a request may be at most {self._bounds.head_bytes_max} bytes long", 431)
        partial = bytes(view[at:end])
        if length > self._bounds.target_bytes_max:
            wrong = self._long_head(partial, 0, length)
            if wrong is not None:
                return wrong
        return may_become(partial)

    def _long_head(self, data: bytes | bytearray, at: int, end: int) -> Refused | None:
        bounds = self._bounds
        line = data.find(b"\r\n", at, end)
        if (line if line >= 0 else end) - at > bounds.target_bytes_max:
            return invalid(f"a request line may be at most {bounds.target_bytes_max} bytes long", 414)
        if end - at > bounds.head_bytes_max:
            return invalid(f"the head of a request may be at most {bounds.head_bytes_max} bytes long", 431)
        return None

    def _begin_body(self, connection: Connection, head: Head, length: int, nothing_came: bool) -> Refused | None:
        bounds = self._bounds
        if length > bounds.body_bytes_max:
            return refused(413, TOO_LARGE, f"a body may be at most {bounds.body_bytes_max} bytes long")
        if self._held_bytes + length > bounds.held_bytes_max * 3 // 4 and length:
            return refused(503, UNAVAILABLE, "too much is being received at once; try again later")
        if head.expects_continue and nothing_came:
            interim = Request(connection, head, b"")
            interim.response = CONTINUE
            connection.queue.append(interim)
            self._touch(connection)
        connection.head = head
        connection.began_at = self._now
        connection.read_deadline = self._now + bounds.body_grace_s
        if head.chunked:
            connection.chunks = ChunkedBody(bounds.body_bytes_max)
        else:
            connection.parts = []
            connection.left = length
        return None

    def _refuse(self, connection: Connection, why: Refused, head: Head | None = None) -> None:
        """Answer `why` after what was asked before, then close. Nothing more is read as a request."""
        self._refused[why.status] = self._refused.get(why.status, 0) + 1
        connection.inbox = connection.parts = connection.chunks = None
        self._held_bytes -= connection.held
        connection.held = 0
        connection.read_deadline = math.inf
        connection.deadline = self._now + self._bounds.answer_s
        connection.last = connection.linger = True
        answer = self._refusal(why, head)
        if head is not None and head.extra:
            answer = spliced(answer, head.extra)
        if head is None or head.keep_alive:
            answer = spliced(answer, b"Connection: close\r\n")
        if head is not None and head.is_head:
            answer = without_body(answer)
        request = Request(connection, head or _NO_HEAD, b"")
        request.response = answer
        connection.queue.append(request)
        self._watch(connection, connection.mask & ~_IN)
        self._touch(connection)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _touch(self, connection: Connection) -> None:
        if not connection.touched:
            connection.touched = True
            self.touched.append(connection)

    def send_answers(self) -> None:
        """Send what was answered outside of a wake-up; a wake-up does so by itself."""
        while self.touched:
            touched = self.touched
            self.touched = []
            sending: list[Connection] = []
            answers: list[bytes] = []
            for connection in touched:
                connection.touched = False
                if not connection.closed and (out := self._next_answers(connection)):
                    sending.append(connection)
                    answers.append(out)
            if not sending:
                continue
            sent = self._sockets.send([connection.fd for connection in sending], answers)
            idle_at = self._now + self._bounds.idle_s
            for index, connection in enumerate(sending):
                if sent is None and connection.is_served():
                    connection.deadline = idle_at
                else:
                    out = answers[index]
                    self._sent(connection, out, len(out) if sent is None else sent[index])

    def _next_answers(self, connection: Connection) -> bytes:
        """The answers that are next in order, if they can be sent now; empty: there are none."""
        queue = connection.queue
        parts: list[bytes] = []
        dated = self._dates.known
        while queue:
            answer = queue[0].response
            if answer is None:
                break
            queue.popleft().connection = None
            if self._draining and not queue and not connection.last and answer is not CONTINUE:
                answer = spliced(answer, b"Connection: close\r\n")
                connection.last = True
            parts.append(dated.get(answer) or self._dates.dated(answer))
        out = parts[0] if len(parts) == 1 else b"".join(parts)
        if connection.outbox and out:
            connection.outbox += out
            if len(connection.outbox) > self._bounds.output_bytes_max:
                self._close(connection)
            return b""
        return out

    def _sent(self, connection: Connection, out: bytes, sent: int) -> None:
        """So many bytes of `out` went, or minus an errno."""
        if sent < 0:
            if sent not in _LATER:
                self._close(connection)
                return
            sent = 0
        if sent < len(out):
            if sent or not connection.outbox:
                connection.deadline = self._now + self._bounds.answer_s
            connection.outbox = out[sent:]
            if len(connection.outbox) > self._bounds.output_bytes_max:
                self._close(connection)
                return
            connection.paused = True  # who does not read is not read from
            self._watch(connection, (connection.mask | _OUT) & ~_IN)
            return
        if connection.outbox:
            connection.outbox = b""
            self._watch(connection, connection.mask & ~_OUT)
        queue = connection.queue
        if not queue:
            if connection.last or connection.ended:
                self._finish(connection)
                return
            connection.deadline = self._now + self._bounds.idle_s
        if connection.paused and len(queue) <= self._bounds.pipelined_max // 2 and not connection.last:
            connection.paused = False
            self._watch(connection, connection.mask | _IN)
            if connection.inbox is not None:
                self._parse_inbox(connection)

    def _send_rest(self, connection: Connection) -> None:
        out = connection.outbox
        if out:
            sent = self._sockets.send([connection.fd], [out])
            self._sent(connection, out, len(out) if sent is None else sent[0])

    def _finish(self, connection: Connection) -> None:
        """Everything is answered and no more is asked: close, past unread input where there may be some."""
        if not connection.linger or connection.ended:
            self._close(connection)
            return
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.linger_left = _LINGER_BYTES_MAX
        connection.deadline = self._now + _LINGER_S
        self._watch(connection, _IN)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    async def _sweep_each_second(self) -> None:
        while True:
            await trio.sleep(1)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """Close or refuse every connection that is past its time. cost  0.2 µs a connection"""
        self._now = now
        late = [
            connection
            for connection in self._connections.values()
            if connection.deadline <= now or connection.read_deadline <= now
        ]
        for connection in late:
            self._late(connection)
        self.send_answers()
        if len(self._connections) < self._bounds.connections_max + _SPARE_CONNECTIONS // 2:
            self._accept_again()

    def _late(self, connection: Connection) -> None:
        now = self._now
        bounds = self._bounds
        if connection.linger_left >= 0 or (connection.outbox and connection.deadline <= now):
            self._timeouts += connection.linger_left < 0
            self._close(connection)
        elif connection.queue and connection.deadline <= now:
            self._timeouts += 1
            why = refused(503, UNAVAILABLE, "no answer in time; send it again later")
            for request in connection.queue:
                if request.response is None:
                    request.answer(self._refusal(why, request.head))
            connection.last = connection.linger = True
            connection.deadline = now + bounds.answer_s
            self._watch(connection, connection.mask & ~_IN)
            self._touch(connection)
        elif connection.read_deadline <= now:
            if connection.parts is not None or connection.chunks is not None:
                came = connection.held if connection.chunks is None else connection.chunks.raw_bytes
                if came >= bounds.body_rate_min * (now - connection.began_at):
                    connection.read_deadline = now + 1
                    return
                self._timeouts += 1
                self._refuse(connection, refused(408, TIMEOUT, "the body came too slowly"), connection.head)
            elif connection.inbox is not None:
                self._timeouts += 1
                self._refuse(connection, refused(408, TIMEOUT, "the head of the request came too slowly"))
            elif not connection.queue:
                self._close(connection)  # it never asked anything
        elif not connection.queue and connection.read_deadline == math.inf:
            self._close(connection)  # idle


def _no_head() -> Head:
    parsed = Heads(1).parse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not isinstance(parsed, Refused)
    return parsed[0]


_NO_HEAD: Final = _no_head()
