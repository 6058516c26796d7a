"""Any stream of requests, cut anywhere, gives the same requests as h11 reads from it; and random bytes neither stop the
edge nor leave anything in it."""

from __future__ import annotations

import time

import h11
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_edge import running, statuses

from pugd.edge.bounds import Bounds

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

BODIES = st.binary(max_size=60)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    body = draw(BODIES)
    lines = [b"POST /" + draw(st.sampled_from([b"a", b"b?c=d"])) + b" HTTP/1.1", b"Host: x"]
    lines += draw(st.lists(st.sampled_from([b"A: b", b"Accept:", b"Cookie: " + b"c" * 90]), max_size=3))
    if draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        text = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        name = draw(st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"]))
        lines.append(b"%s: %d" % (name, len(body)))
        text = body
    before = draw(st.sampled_from([b"", b"", b"\r\n"]))
    return before + b"\r\n".join((*lines, b"", b"")) + text


def by_h11(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Target and body of each request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    connection.receive_data(b"")
    found: list[tuple[bytes, bytes]] = []
    target, body = b"", b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            target, body = event.target, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            found.append((target, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            return found


@SETTINGS
@given(st.lists(requests(), min_size=1, max_size=5), st.lists(st.integers(0, 2000), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_requests(streams: list[bytes], cuts: list[int]) -> None:
    # h11 takes no empty line before a request; we do.
    twin = by_h11(b"".join(stream.lstrip(b"\r\n") for stream in streams))
    stream = b"".join(streams)

    async def go() -> None:
        async with running() as at_work:
            client = await at_work.connect()
            at = 0
            for cut in [*sorted({cut % len(stream) for cut in cuts}), len(stream)]:
                await client.send(stream[at:cut])
                at = cut
                while at_work.edge.statistics().bytes_received < at:
                    await trio.sleep(0)
            for _ in twin:
                assert (await client.answer())[0] == 200
            found = [(request.head.path, request.head.query, request.body) for request in at_work.requests]
            assert found == [
                (target.partition(b"?")[0].decode(), target.partition(b"?")[2], body) for target, body in twin
            ]
            assert at_work.edge.statistics().held_bytes == 0

    trio.run(go)


NOISE = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [
                    b"POST / HTTP/1.1\r\n",
                    b"GET /a HTTP/1.0\r\n",
                    b"Host: x\r\n",
                    b"Content-Length: 3\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"Expect: 100-continue\r\n",
                    b"Connection: close\r\n",
                    b"\r\n",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    b"abc",
                ]
            ),
        ),
        max_size=12,
    ).map(b"".join),
)


@SETTINGS
@given(st.lists(NOISE, min_size=1, max_size=4))
def test_noise_neither_stops_the_edge_nor_stays_in_it(streams: list[bytes]) -> None:
    async def go() -> None:
        async with running(Bounds(pipelined_max=2)) as at_work:
            for stream in streams:
                answers = await at_work.ask(stream)  # ends: nothing is stuck
                for status in statuses(answers):
                    assert status in (100, 200, 400, 408, 413, 417, 431, 501, 505)
            client = await at_work.connect()
            for stream in streams:
                await client.send(stream)
            await trio.sleep(0)
            at_work.edge.sweep(time.monotonic() + 100)
            at_work.edge.sweep(time.monotonic() + 200)
            while at_work.edge.statistics().connections:
                await trio.sleep(0)
                at_work.edge.sweep(time.monotonic() + 200)
            assert at_work.edge.statistics().held_bytes == 0
            good = await at_work.connect()
            await good.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert (await good.answer())[0] == 200

    trio.run(go)
