"""Requests whose head is known are taken without being parsed (sockets.py): nothing that holds for others fails to hold
for them, wherever in a connection they come."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest
import trio
from running_edge import OK, Client, Running, running, statuses

from pugd.edge.bounds import Bounds
from pugd.edge.connection import Request
from pugd.edge.response import response


def post(length: int = 2) -> bytes:
    return b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + b"{" + b"." * (length - 1)


KNOWN = post()


async def know(at_work: Running) -> None:
    """Let the edge know KNOWN's head: it remembers what it meets twice."""
    client = await at_work.connect()
    for _ in range(3):
        await client.send(KNOWN)
        assert (await client.answer())[0] == 200
    client.sock.close()
    while at_work.edge.statistics().connections:
        await trio.sleep(0)
    assert at_work.edge.statistics().heads_parsed == 2, "so it is known"
    at_work.requests.clear()


async def send(at_work: Running, client: Client, data: bytes) -> None:
    """Until it has come."""
    came = at_work.edge.statistics().bytes_received + len(data)
    await client.send(data)
    while at_work.edge.statistics().bytes_received < came:
        await trio.sleep(0)


@pytest.mark.parametrize(
    ("before", "answered"),
    [
        (b"POST / HTTP/1.1\r\nA: ", [200]),  # the head of another, half read
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", [400]),  # its chunks
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n", []),  # its body
        (b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n.", [200]),  # the last one
        (b"NONSENSE\r\n\r\n", [400]),  # past its refusal
    ],
)
async def test_it_is_none_amid_another(before: bytes, answered: list[int]) -> None:
    async with running() as at_work:
        await know(at_work)
        client = await at_work.connect()
        await send(at_work, client, before)
        with trio.move_on_after(0.05):  # after the last request nothing is read
            await send(at_work, client, KNOWN)
        with suppress(OSError):
            client.sock.shutdown(socket.SHUT_WR)
        assert statuses(await client.rest()) == answered
        assert [request.body for request in at_work.requests if request.head.path == "/v1/track"] == []


async def test_a_head_of_chunks_is_no_whole_request() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        for _ in range(4):
            head, body = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n0\r\n\r\n"
            await send(at_work, client, head)
            assert all(request.body == b"a" for request in at_work.requests)
            await client.send(body)
            assert (await client.answer())[0] == 200
        assert [request.body for request in at_work.requests] == [b"a"] * 4


async def test_its_body_is_bounded() -> None:
    async with running(Bounds(body_bytes_max=10)) as at_work:
        await know(at_work)
        client = await at_work.connect()
        await client.send(post(10))
        assert (await client.answer())[0] == 200
        await client.send(post(11))
        assert (await client.answer())[0] == 413


async def test_it_ends_the_time_that_its_head_may_take() -> None:
    async with running() as at_work:
        await know(at_work)
        client = await at_work.connect()
        await client.send(KNOWN)
        assert (await client.answer())[0] == 200
        at_work.edge.sweep(time.monotonic() + 11)  # a connection may be idle for longer
        await client.send(KNOWN)
        assert (await client.answer())[0] == 200


async def test_the_end_of_its_connection_waits_for_its_answer() -> None:
    def hold(at_work: Running, request: Request) -> None:
        request.answer_when_flushed(1 if len(at_work.requests) > 3 else 0, OK)

    async with running(handler=hold) as at_work:
        client = await at_work.connect()
        for _ in range(3):
            await client.send(KNOWN)
            assert (await client.answer())[0] == 200
        await client.send(KNOWN)
        client.sock.shutdown(socket.SHUT_WR)
        while len(at_work.requests) < 4:
            await trio.sleep(0)
        for _ in range(10):
            await trio.sleep(0.002)  # its end is seen
        at_work.flush(1)
        assert statuses(await client.rest()) == [200]


async def test_as_many_as_may_be_pipelined_do_not_stop_it() -> None:
    def hold(at_work: Running, request: Request) -> None:
        request.answer_when_flushed(1 if len(at_work.requests) > 3 else 0, OK)

    async with running(Bounds(pipelined_max=1), handler=hold) as at_work:
        client = await at_work.connect()
        for _ in range(3):
            await client.send(KNOWN)
            assert (await client.answer())[0] == 200
        for number in range(4, 7):
            await client.send(KNOWN)
            while len(at_work.requests) < number:
                await trio.sleep(0)
            at_work.flush(1)
            assert (await client.answer())[0] == 200


async def test_each_answer_to_one_head_is_its_own() -> None:
    """What an answer looks like to a browser is remembered with the head."""

    def answer(at_work: Running, request: Request) -> None:
        request.answer(response(200, request.body) if request.body != b"{." else OK)

    async with running(handler=answer) as at_work:
        clients = [await at_work.connect() for _ in range(2)]
        for number in range(6):
            for origin, client in zip((b"https://a.example", b"https://b.example"), clients, strict=True):
                for body in (b"{.", b"%d" % number):
                    head = b"POST / HTTP/1.1\r\nHost: x\r\nOrigin: %s\r\nContent-Length: %d\r\n\r\n"
                    await client.send(head % (origin, len(body)) + body)
                    status, headers, said = await client.answer()
                    assert (status, said) == (200, body if body != b"{." else OK[-16:])
                    assert headers["access-control-allow-origin"] == origin.decode()
