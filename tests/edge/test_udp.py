"""Datagrams: all that came, in order, whole; what nobody will see is counted; nothing is ever answered."""

from __future__ import annotations

import socket

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from running_edge import running, wait_readable

from pugd.edge.udp import DatagramSocket


def pair(receive_buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket, DatagramSocket]:
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.connect(ours.getsockname())
    return ours, theirs, DatagramSocket(ours, receive_buffer_bytes=receive_buffer_bytes)


def receive(datagrams: DatagramSocket) -> list[bytes]:
    found = datagrams.receive()
    if found is None:
        return []
    assert len(found.data) == found.offsets[-1]
    assert len(found) == len(found.offsets) - 1
    pieces = [found.data[found.offsets[i] : found.offsets[i + 1]] for i in range(len(found))]
    assert all(piece.endswith(b"\n") for piece in pieces)
    return [piece[:-1] for piece in pieces]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=40))
def test_all_come_whole_and_in_order(sent: list[bytes]) -> None:
    ours, theirs, datagrams = pair()
    with ours, theirs:
        for data in sent:
            theirs.send(data)
        assert receive(datagrams) == [data for data in sent if data]
        assert receive(datagrams) == []


def test_the_longest_datagram_is_not_cut() -> None:
    ours, theirs, datagrams = pair(4 << 20)
    with ours, theirs:
        longest = bytes(range(256)) * 255 + b"x" * 227
        assert len(longest) == 65_507
        theirs.send(longest)
        theirs.send(b"short")
        assert receive(datagrams) == [longest, b"short"]
        assert datagrams.truncated == 0


def test_more_than_a_call_takes() -> None:
    ours, theirs, datagrams = pair(4 << 20)
    with ours, theirs:
        sent = [b"%d" % i for i in range(300)]
        for data in sent:
            theirs.send(data)
        assert receive(datagrams) == sent
        assert datagrams.received == 300


def test_a_flood_is_bounded_and_its_losses_are_counted() -> None:
    ours, theirs, datagrams = pair(4096)
    with ours, theirs:
        count = 5000
        for i in range(count):
            theirs.send(b"%d" % i + b"x" * 200)
        got = len(receive(datagrams))
        assert 0 < got < count
        theirs.send(b"one more, which tells how many were lost")
        assert len(receive(datagrams)) == 1
        assert datagrams.dropped == count - got
        theirs.send(b"and another")
        assert receive(datagrams) == [b"and another"]
        assert datagrams.dropped == count - got


async def test_the_edge_hands_over_datagrams_and_never_answers() -> None:
    async with running(udp=True) as at_work:
        assert at_work.datagram_socket is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.connect(at_work.datagram_socket.getsockname())
            sent = [b'{"event":"%d"}\n{}' % i for i in range(50)] + [b"\xff\0nonsense"]
            for data in sent:
                theirs.send(data)
            while len(at_work.datagrams) < len(sent):
                await trio.sleep(0)
            assert at_work.datagrams == sent
            assert at_work.edge.statistics().datagrams == len(sent)
            assert not wait_readable(theirs, 0.02)
            at_work.edge.stop_accepting()
            theirs.send(b"late")
            await trio.sleep(0.02)
            assert at_work.datagrams == sent
