"""Slow senders and readers, by moving the sweep's clock: each is answered or closed in time, not before."""

from __future__ import annotations

import time

import trio
from running_edge import Client, Running, running

from pugd.edge.bounds import Bounds

POST = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


async def settle(at_work: Running, came: int) -> None:
    while at_work.edge.statistics().bytes_received < came:
        await trio.sleep(0)


async def closed(client: Client) -> bool:
    return await client.rest() == b""


async def test_a_connection_that_never_asks_is_closed() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        while not at_work.edge.statistics().connections:
            await trio.sleep(0)
        now = time.monotonic()
        at_work.edge.sweep(now + 9)
        assert at_work.edge.statistics().connections == 1
        at_work.edge.sweep(now + 11)
        assert await closed(client)


async def test_a_slow_head_is_408() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(POST)
        await client.answer()
        now = time.monotonic()
        await client.send(POST[:20])
        await settle(at_work, len(POST) + 20)
        at_work.edge.sweep(now + 9)
        await client.send(POST[20:21])  # a byte now and then wins no time
        await settle(at_work, len(POST) + 21)
        at_work.edge.sweep(now + 11)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert b'"code":"timeout"' in body
        assert await closed(client)
        assert at_work.edge.statistics().timeouts == 1
        assert at_work.edge.statistics().held_bytes == 0


async def test_a_slow_body_is_408_and_one_at_the_rate_is_not() -> None:
    for chunked in (False, True):
        async with running(Bounds(body_rate_min=1000)) as at_work:
            slow, steady = await at_work.connect(), await at_work.connect()
            head = b"POST / HTTP/1.1\r\nHost: x\r\n"
            head += b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n" if chunked else b"Content-Length: 100000\r\n\r\n"
            now = time.monotonic()
            await slow.send(head + b"x" * 5000)
            await steady.send(head + b"x" * 30_000)
            await settle(at_work, 2 * len(head) + 35_000)
            at_work.edge.sweep(now + 9)
            assert at_work.edge.statistics().timeouts == 0
            at_work.edge.sweep(now + 12)
            assert (await slow.answer())[0] == 408
            at_work.edge.sweep(now + 25)
            assert at_work.edge.statistics().timeouts == 1
            at_work.edge.sweep(now + 40)
            assert (await steady.answer())[0] == 408


async def test_an_idle_connection_is_closed() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(POST)
        await client.answer()
        now = time.monotonic()
        at_work.edge.sweep(now + 74)
        await client.send(b"\r\n\r\n")  # empty lines are no request
        await settle(at_work, len(POST) + 4)
        assert at_work.edge.statistics().connections == 1
        at_work.edge.sweep(now + 76)
        assert await closed(client)


async def test_a_long_upload_is_not_idle() -> None:
    async with running(Bounds(body_rate_min=1)) as at_work:
        client = await at_work.connect()
        await client.send(POST)
        await client.answer()
        now = time.monotonic()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 99_999)
        await settle(at_work, len(POST) + 99_999)
        for second in range(11, 200, 10):
            at_work.edge.sweep(now + second)
        await client.send(b"x")
        assert (await client.answer())[0] == 200


async def test_an_answer_that_does_not_come_is_503() -> None:
    async with running(handler=lambda *_: None) as at_work:
        client = await at_work.connect()
        await client.send(POST * 2)
        while len(at_work.requests) < 2:
            await trio.sleep(0)
        now = time.monotonic()
        at_work.edge.sweep(now + 29)
        assert at_work.edge.statistics().timeouts == 0
        at_work.edge.sweep(now + 31)
        assert (await client.answer())[0] == 503
        assert (await client.answer())[0] == 503
        assert await closed(client)
        for request in at_work.requests:
            request.answer(b"HTTP/1.1 200 OK\r\n\r\n")  # too late: nobody is there


async def test_a_reader_that_stops_is_closed() -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000
    async with running(Bounds(output_bytes_max=1 << 30), handler=lambda _, request: request.answer(big)) as at_work:
        client = await at_work.connect()
        await client.send(POST)
        while not at_work.requests:
            await trio.sleep(0)
        await trio.sleep(0.05)
        now = time.monotonic()
        at_work.edge.sweep(now + 29)
        assert at_work.edge.statistics().connections == 1
        at_work.edge.sweep(now + 31)
        assert at_work.edge.statistics().connections == 0


async def test_a_refused_sender_that_goes_on_is_let_go() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.answer())[0] == 400
        await client.send(b"x" * 100_000)
        assert at_work.edge.statistics().connections == 1
        at_work.edge.sweep(time.monotonic() + 4)
        assert at_work.edge.statistics().connections == 0
