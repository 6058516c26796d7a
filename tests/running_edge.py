"""A running Edge for tests: real sockets on ports of the system's choice, and an eventfd in place of the journal's."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from pugd.edge.bounds import Bounds
from pugd.edge.connection import Request
from pugd.edge.http import Edge
from pugd.edge.response import response
from pugd.edge.udp import Datagrams
from pugd.errors import JournalError

OK = response(200, b'{"success":true}')


class Running:
    """The edge, its address, and what it handed over. Without `handler`, every request is answered OK at once."""

    def __init__(self, bounds: Bounds | None, handler: Callable[[Running, Request], None] | None, udp: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.datagram_socket: socket.socket | None = None
        if udp:
            self.datagram_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.datagram_socket.bind(("127.0.0.1", 0))
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.flushed = 0
        self.failed = False
        self.requests: list[Request] = []
        self.datagrams: list[bytes] = []
        self._handler = handler
        self.edge = Edge(
            listeners=[self.listener],
            datagrams=self.datagram_socket,
            flushed_fd=self.event_fd,
            take_flushed=self._take_flushed,
            handle=self._handle,
            bounds=bounds,
        )

    def flush(self, position: int) -> None:
        """What the journal's thread does once `position` is on disk."""
        self.flushed = position
        os.eventfd_write(self.event_fd, 1)

    def fail(self) -> None:
        """What it does when the disk failed."""
        self.failed = True
        os.eventfd_write(self.event_fd, 1)

    def _take_flushed(self) -> int:
        os.eventfd_read(self.event_fd)
        if self.failed:
            raise JournalError("fdatasync: the disk failed")
        return self.flushed

    def _handle(self, requests: list[Request], datagrams: Datagrams | None, received_at: int) -> None:
        assert received_at > 1_600_000_000_000
        self.requests += requests
        if datagrams is not None:
            offsets = datagrams.offsets
            self.datagrams += [datagrams.data[offsets[i] : offsets[i + 1] - 1] for i in range(len(datagrams))]
        for request in requests:
            if self._handler is None:
                request.answer(OK)
            else:
                self._handler(self, request)

    async def connect(self) -> Client:
        sock = trio.socket.socket()
        await sock.connect(self.address)
        return Client(sock)

    async def ask(self, data: bytes) -> bytes:
        """Everything that comes back for `data`, when nothing more is sent."""
        client = await self.connect()
        try:
            await client.send(data)
            client.sock.shutdown(socket.SHUT_WR)
            return await client.rest()
        finally:
            client.sock.close()


class Client:
    """One connection."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock
        self._kept = b""

    async def send(self, data: bytes) -> None:
        try:
            while data:
                data = data[await self.sock.send(data) :]
        except (BrokenPipeError, ConnectionResetError):
            pass

    async def pause(self) -> None:
        """Let the edge have its turn."""
        await trio.sleep(0)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        while b"\r\n\r\n" not in self._kept:
            await self._more()
        head, _, self._kept = self._kept.partition(b"\r\n\r\n")
        status, headers = split_head(head)
        length = int(headers.get("content-length", "0"))
        while len(self._kept) < length:
            await self._more()
        body, self._kept = self._kept[:length], self._kept[length:]
        return status, headers, body

    async def _more(self) -> None:
        data = await self.sock.recv(65536)
        if not data:
            raise EOFError(self._kept)
        self._kept += data

    async def rest(self) -> bytes:
        """Everything up to the other side's end."""
        whole = self._kept
        self._kept = b""
        try:
            while data := await self.sock.recv(65536):
                whole += data
        except ConnectionResetError:
            pass
        return whole


def split_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if name == "vary" and name in headers:  # a list, which may come in several lines
            value = f"{headers.pop(name)}, {value}"
        assert name not in headers, f"{name} twice in {head!r}"
        headers[name] = value
    return int(lines[0].split(" ")[1]), headers


def statuses(answers: bytes) -> list[int]:
    """The status of each answer in `answers`."""
    found = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        status, headers = split_head(head)
        found.append(status)
        answers = answers[int(headers.get("content-length", "0")) :]
    return found


@asynccontextmanager
async def running(
    bounds: Bounds | None = None, handler: Callable[[Running, Request], None] | None = None, *, udp: bool = False
) -> AsyncIterator[Running]:
    at_work = Running(bounds, handler, udp)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(at_work.edge.run)
            at_work.edge.take_datagrams()
            with trio.fail_after(20):
                yield at_work
            nursery.cancel_scope.cancel()
    finally:
        at_work.listener.close()
        if at_work.datagram_socket is not None:
            at_work.datagram_socket.close()
        os.close(at_work.event_fd)


def wait_readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()  # `select` takes no descriptor beyond 1023, and an engine in this process has many
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
