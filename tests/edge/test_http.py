"""The running edge, by real sockets: what it takes, in what order it answers, when it closes."""

from __future__ import annotations

import random
import resource
import socket
import struct
import time
from email.utils import parsedate_to_datetime

import pytest
import trio
from running_edge import OK, Client, Running, running, statuses

from pugd.edge.bounds import Bounds
from pugd.edge.connection import Request
from pugd.edge.response import response
from pugd.errors import JournalError

POST = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def hold(at_work: Running, request: Request) -> None:
    request.answer_when_flushed(int(request.body), OK)


def post(body: bytes) -> bytes:
    return b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_keep_alive_answers_one_after_another() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        for _ in range(3):
            await client.send(POST)
            status, headers, body = await client.answer()
            assert (status, body) == (200, OK[-16:])
            assert abs(parsedate_to_datetime(headers.pop("date")).timestamp() - time.time()) < 100
            assert headers == {"content-type": "application/json", "content-length": "16"}
        assert [request.body for request in at_work.requests] == [b"{}"] * 3
        head = at_work.requests[0].head
        assert (head.method, head.path, head.query, head.host) == ("POST", "/v1/track", b"", "x")
        assert at_work.requests[0].peer == "127.0.0.1"


async def test_an_answer_waits_for_its_flush() -> None:
    async with running(handler=hold) as at_work:
        first, second = await at_work.connect(), await at_work.connect()
        await first.send(post(b"10"))
        await second.send(post(b"20"))
        with trio.move_on_after(0.05) as nothing:
            await first.sock.recv(1)
        assert nothing.cancelled_caught
        at_work.flush(10)
        assert (await first.answer())[0] == 200
        with trio.move_on_after(0.05) as nothing:
            await second.sock.recv(1)
        assert nothing.cancelled_caught
        at_work.flush(25)
        assert (await second.answer())[0] == 200
        await first.send(post(b"25"))  # flushed already
        assert (await first.answer())[0] == 200
        assert at_work.edge.statistics().waiting_for_flush == 0


async def test_a_failed_journal_answers_503_and_ends_the_edge() -> None:
    client = None
    with pytest.RaisesGroup(JournalError, flatten_subgroups=True):
        async with running(handler=hold) as at_work:
            client = await at_work.connect()
            await client.send(post(b"10"))
            await trio.sleep(0.02)
            at_work.fail()
            await trio.sleep_forever()
    assert client is not None
    status, headers, body = await client.answer()
    assert status == 503
    assert b'"code":"unavailable"' in body
    assert headers["retry-after"].isdigit()
    assert await client.rest() == b""


async def test_half_close_is_still_answered() -> None:
    async with running() as at_work:
        assert statuses(await at_work.ask(POST * 3)) == [200, 200, 200]


async def test_connections_do_not_delay_small_answers() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(POST)
        await client.answer()
        [connection] = at_work.edge._connections.values()
        assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not connection.socket.getblocking()


async def test_a_body_over_the_bound_is_refused_before_it_comes() -> None:
    async with running(Bounds(body_bytes_max=1000)) as at_work:
        client = await at_work.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert b'"code":"too_large"' in body


async def test_a_body_over_the_bound_is_refused_although_it_is_there_already() -> None:
    async with running(Bounds(body_bytes_max=1000)) as at_work:
        client = await at_work.connect()
        post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        await client.send(post % (1000, b" " * 1000))
        assert (await client.answer())[0] == 200
        await client.send(post % (1001, b" " * 1001))
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (413, "close")


async def test_http_1_0_closes_unless_asked_to_keep_alive_and_takes_no_chunks() -> None:
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0")
    async with running() as at_work:
        for head, answers in (
            (old, [200]),
            (old.replace(b"Host: x\r\n", b""), [200]),
            (old.replace(b"Host: x", b"Host: x\r\nConnection: keep-alive"), [200, 200]),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", [400]),
        ):
            assert statuses(await at_work.ask(head + old)) == answers, head


async def test_pipelined_answers_keep_the_order_of_their_requests() -> None:
    rng = random.Random(7)
    for _ in range(20):
        count = rng.randrange(1, 40)
        async with running(handler=lambda *_: None) as at_work:
            client = await at_work.connect()
            await client.send(b"".join(post(b"%d" % i) for i in range(count)))
            while len(at_work.requests) < count:
                await trio.sleep(0)
            order = list(at_work.requests)
            rng.shuffle(order)
            for request in order:
                answer = response(200, b"#" + request.body)
                if rng.random() < 0.5:
                    request.answer_when_flushed(rng.randrange(1, 1000), answer)
                else:
                    request.answer(answer)
                if rng.random() < 0.3:
                    at_work.flush(rng.randrange(at_work.flushed, 1000))
                    await trio.sleep(0)
            at_work.flush(1000)
            got = [(await client.answer())[2] for _ in range(count)]
            assert got == [b"#%d" % i for i in range(count)]


async def test_more_pipelined_requests_than_allowed_wait_their_turn() -> None:
    async with running(Bounds(pipelined_max=4), handler=hold) as at_work:
        client = await at_work.connect()
        await client.send(b"".join(post(b"%d" % i) for i in range(1, 101)) + post(b"7")[:-1])
        for i in range(1, 101):
            while len(at_work.requests) < i:
                await trio.sleep(0)
            assert len(at_work.requests) <= i + 4
            at_work.flush(i)
            assert (await client.answer())[0] == 200
        await client.send(b"7")
        assert (await client.answer())[0] == 200
        assert [int(request.held is not None) for request in at_work.requests] == [1] * 101


async def test_expect_continue() -> None:
    begin = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n"
    async with running(handler=hold) as at_work:
        client = await at_work.connect()
        await client.send(post(b"5") + begin + b"Content-Length: 1\r\n\r\n")
        await trio.sleep(0.02)
        at_work.flush(5)
        assert (await client.answer())[0] == 200  # the earlier request's answer comes first
        assert (await client.answer())[0] == 100
        await client.send(b"5")
        assert (await client.answer())[0] == 200
        await client.send(begin + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await client.answer())[0] == 100
        await client.send(b"1\r\n5\r\n0\r\n\r\n")
        assert (await client.answer())[0] == 200
        await client.send(begin + b"Content-Length: 1\r\n\r\n5")  # it did not wait, so it is not told to go on
        assert (await client.answer())[0] == 200
        await client.send(begin + b"Content-Length: 99999999999\r\n\r\n")
        assert (await client.answer())[0] == 413


async def test_http_1_0_and_connection_options() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.rest() == b""

        client = await at_work.connect()
        await client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert (await client.answer())[1]["connection"] == "keep-alive"
        await client.send(POST.replace(b"Host: x", b"Host: x\r\nConnection: TE, Close") + POST)
        assert (await client.answer())[1]["connection"] == "close"
        assert await client.rest() == b""  # what came behind is not read
        assert len(at_work.requests) == 3


async def test_head_has_no_body() -> None:
    async with running() as at_work:
        client = await at_work.connect()
        await client.send(b"HEAD /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await client.rest()
        assert b"content-length: 16\r\n" in answer.lower()
        assert answer.endswith(b"\r\n\r\n")


async def test_every_answer_to_a_browser_names_its_origin() -> None:
    origin = b"Origin: https://shop.example:8443\r\n"
    async with running(Bounds(body_bytes_max=100)) as at_work:
        client = await at_work.connect()
        for data in (
            POST.replace(b"Host: x\r\n", b"Host: x\r\n" + origin),
            b"POST / HTTP/1.1\r\nHost: x\r\n" + origin + b"Content-Length: 101\r\n\r\n",
        ):
            await client.send(data)
            _, headers, _ = await client.answer()
            assert headers["access-control-allow-origin"] == "https://shop.example:8443"
            assert headers["access-control-allow-credentials"] == "true"
            assert headers["access-control-expose-headers"] == "Retry-After"
            assert headers["vary"] == "Origin"
        assert at_work.requests[0].head.origin == b"https://shop.example:8443"


async def test_large_bodies_come_whole() -> None:
    rng = random.Random(3)
    bodies = [rng.randbytes(length) for length in (0, 1, 65_536, 262_144, 262_145, 3_000_000)]
    async with running() as at_work:
        client = await at_work.connect()
        for body in bodies:
            await client.send(post(body))
            assert (await client.answer())[0] == 200
        for body in bodies:
            pieces = b"".join(
                b"%x\r\n%s\r\n" % (len(piece), piece)
                for piece in (body[i : i + 70_001] for i in range(0, len(body), 70_001))
            )
            await client.send(
                b"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
            )
            assert (await client.answer())[0] == 200
        assert [request.body for request in at_work.requests] == bodies * 2
        assert at_work.edge.statistics().held_bytes == 0


async def test_partial_bodies_together_are_bounded() -> None:
    bounds = Bounds(held_bytes_max=400_000)
    async with running(bounds) as at_work:
        clients = [await at_work.connect() for _ in range(20)]
        for client in clients:
            await client.send(post(b"x" * 50_000)[:-1])
        refused = 0
        for _ in range(100):
            await trio.sleep(0)
            assert at_work.edge.statistics().held_bytes <= bounds.held_bytes_max
        for client in clients:
            await client.send(b"x")
            status, headers, _ = await client.answer()
            refused += status == 503
            assert status == 200 or headers["retry-after"].isdigit()
        assert 0 < refused < 20
        assert at_work.edge.statistics().held_bytes == 0


async def test_a_client_that_does_not_read_is_closed() -> None:
    big = response(200, b"x" * 100_000)
    async with running(Bounds(output_bytes_max=500_000), handler=lambda _, request: request.answer(big)) as at_work:
        client = await at_work.connect()
        with trio.move_on_after(10):
            while at_work.edge.statistics().connections:
                with trio.move_on_after(0.05):
                    await client.send(POST * 10)
                await trio.sleep(0)
        assert at_work.edge.statistics().connections == 0


async def test_answers_larger_than_the_socket_holds_are_sent_whole() -> None:
    big = response(200, bytes(range(256)) * 40_000)
    async with running(Bounds(output_bytes_max=50_000_000), handler=lambda _, request: request.answer(big)) as at_work:
        client = await at_work.connect()
        await client.send(POST * 2)
        client.sock.shutdown(socket.SHUT_WR)
        await trio.sleep(0.02)
        answers = await client.rest()
        assert statuses(answers) == [200, 200]
        body = big.partition(b"\r\n\r\n")[2]
        assert answers.count(body) == 2


async def test_connections_over_the_most_are_told_to_come_back() -> None:
    async with running(Bounds(connections_max=3)) as at_work:
        clients = [await at_work.connect() for _ in range(3)]
        for client in clients:
            await client.send(POST)
            assert (await client.answer())[0] == 200
        for _ in range(5):
            extra = await at_work.connect()
            await extra.send(POST)
            status, headers, _ = await extra.answer()
            assert status == 503
            assert headers["retry-after"].isdigit()
            assert await extra.rest() == b""
            extra.sock.close()
        clients[0].sock.close()
        await trio.sleep(0.02)
        again = await at_work.connect()
        await again.send(POST)
        assert (await again.answer())[0] == 200


async def test_clients_that_vanish_leave_nothing_behind() -> None:
    async with running(handler=hold) as at_work:
        for data in (b"", POST[:10], POST[:-1], post(b"9"), post(b"9") + POST[:-1]):
            for reset in (False, True):
                client = await at_work.connect()
                await client.send(data)
                await trio.sleep(0.01)
                if reset:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sock.close()
        at_work.flush(10)
        while at_work.edge.statistics().connections:
            await trio.sleep(0)
        assert at_work.edge.statistics().held_bytes == 0
        assert at_work.edge.statistics().waiting_for_flush == 0


async def test_draining_answers_what_is_there_and_takes_nothing_new() -> None:
    async with running(handler=hold) as at_work:
        idle, held, partial = [await at_work.connect() for _ in range(3)]
        await held.send(post(b"5"))
        await partial.send(post(b"5")[:-1])
        await idle.send(post(b"0"))
        await idle.answer()
        while at_work.edge.statistics().bytes_received < 3 * len(post(b"5")) - 1:
            await trio.sleep(0)
        at_work.edge.stop_accepting()
        late = await at_work.connect()  # the listener is not ours to close: this one waits for whoever is next
        await late.send(POST)
        drained: list[bool] = []
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                drained.append(await at_work.edge.wait_drained(trio.current_time() + 10))

            nursery.start_soon(drain)
            assert await idle.rest() == b""
            await partial.send(b"5")
            while len(at_work.requests) < 3:
                await trio.sleep(0)
            at_work.flush(5)
            for client in (held, partial):
                status, headers, _ = await client.answer()
                assert (status, headers["connection"]) == (200, "close")
                assert await client.rest() == b""
        assert drained == [True]
        assert len(at_work.requests) == 3


async def test_draining_ends_at_its_deadline() -> None:
    async with running(handler=hold) as at_work:
        client = await at_work.connect()
        await client.send(post(b"5"))
        while not at_work.requests:
            await trio.sleep(0)
        at_work.edge.stop_accepting()
        assert not await at_work.edge.wait_drained(trio.current_time() + 0.05)
        assert await client.rest() == b""


async def test_requests_of_a_wake_up_are_handled_together() -> None:
    sizes: list[int] = []
    async with running() as at_work:
        handle = at_work.edge._handle
        at_work.edge._handle = lambda requests, datagrams, now: (
            sizes.append(len(requests)),
            handle(requests, datagrams, now),
        )[1]
        clients = [await at_work.connect() for _ in range(10)]
        while at_work.edge.statistics().connections < 10:
            await trio.sleep(0)
        for client in clients:
            client.sock._sock.send(POST)
        for client in clients:
            assert (await client.answer())[0] == 200
        assert sizes == [10]


async def test_a_full_table_of_files_only_delays_new_connections() -> None:
    async with running() as at_work:
        first = await at_work.connect()
        await first.send(POST)
        await first.answer()
        sock = trio.socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
        try:
            await sock.connect(at_work.address)
            second = Client(sock)
            await second.send(POST)
            await first.send(POST)
            assert (await first.answer())[0] == 200  # who is connected goes on
            wake_ups = at_work.edge.statistics().wake_ups
            await trio.sleep(0.02)
            assert at_work.edge.statistics().wake_ups == wake_ups  # and nothing spins
            assert len(at_work.requests) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        at_work.edge.sweep(time.monotonic())
        assert (await second.answer())[0] == 200
