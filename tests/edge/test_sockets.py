"""Requests whose head is known are what they would be if they were parsed; the C beneath is tried in tests/native."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from pugd.edge.head import HEAD_CACHED_BYTES_MAX, Head, Heads, parse
from pugd.edge.response import Refused
from pugd.edge.sockets import Sockets

BUFFER_BYTES, ROOM_BYTES = 64 * 1024, 8 * 1024


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Ours and theirs."""
    made = [socket.socketpair() for _ in range(8)]
    for ours, _ in made:
        ours.setblocking(False)
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


def head_of(choose: random.Random, length: int) -> bytes:
    """Heads of few kinds, that come again, and some that are wrong."""
    lines = [b"Host: x", choose.choice([b"Origin: https://a.example", b"Origin: https://b.example", b"A: b"])]
    lines += choose.sample([b"User-Agent: one", b"User-Agent: two", b"Connection: close", b"Expect: 100-continue"], 1)
    name = choose.choice([b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content-Length"])
    if choose.random() < 0.9:
        lines.insert(choose.randrange(4), b"%s: %s%d" % (name, b"0" * (choose.random() < 0.05), length))
    if choose.random() < 0.1:
        lines.append(choose.choice([b"Content-Length: 5", b"Transfer-Encoding: chunked", b"A : b"]))
    target = choose.choice([b"/a", b"/b?c"])
    return b"\r\n".join((b"POST " + target + b" HTTP/1.1", *lines, b"", b""))


def test_what_is_found_is_what_would_be_parsed(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    choose = random.Random(20261127)
    buffer = bytearray(BUFFER_BYTES)
    sockets = Sockets(buffer, ROOM_BYTES, HEAD_CACHED_BYTES_MAX, 128)
    heads = Heads(told=sockets.learn)
    found = missed = 0
    for _ in range(600):
        sent: list[bytes] = []
        for _, theirs in pairs:
            body = b"b" * choose.choice([0, 1, 5, 12, 140])
            raw = head_of(choose, len(body)) + body
            if choose.random() < 0.2:
                at = choose.randrange(len(raw))
                raw = choose.choice(
                    [raw[:at], raw + b"b", raw[:at] + b"\r" + raw[at:], raw[:at] + b"7" + raw[at + 1 :]]
                )
            raw = raw or b"x"
            theirs.sendall(raw)
            sent.append(raw)
        done = 0
        while done < len(pairs):
            counts, begins, known, bodies = sockets.receive([ours.fileno() for ours, _ in pairs[done:]])
            for raw, count, begin, head, at in zip(sent[done:], counts, begins, known, bodies, strict=False):
                assert bytes(buffer[begin : begin + count]) == raw
                end = raw.find(b"\r\n\r\n") + 4
                if head is not None:
                    found += 1
                    assert at - begin == end
                    fresh = parse(raw[:end])
                    assert not isinstance(fresh, Refused)
                    assert not fresh.chunked
                    assert fresh.content_length == count - end
                    for name in Head.__struct_fields__:
                        if name not in ("content_length", "note", "answered"):
                            assert getattr(head, name) == getattr(fresh, name), name
                elif end >= 4:
                    missed += 1
                    heads.parse(raw[:end])
            done += len(counts)
    assert found > 500
    assert missed > 1500


def test_a_head_that_is_remembered_is_found_with_another_length(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    sockets = Sockets(bytearray(BUFFER_BYTES), ROOM_BYTES, HEAD_CACHED_BYTES_MAX)
    heads = Heads(told=sockets.learn)
    (ours, theirs), *_ = pairs
    seen = []
    for length in (5, 17, 0, 1234):
        raw = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nA: b\r\n\r\n" % length
        theirs.sendall(raw + b"b" * length)
        [count], _, [head], _ = sockets.receive([ours.fileno()])
        assert count == len(raw) + length
        seen.append(head)
        if head is None:
            heads.parse(raw)
    assert seen[:2] == [None, None], "from its second sight on"
    assert seen[2] is seen[3] is not None
    assert heads.missed == 2


def test_who_was_found_stays_what_it_was_though_its_number_is_taken_away(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    sockets = Sockets(bytearray(BUFFER_BYTES), ROOM_BYTES, HEAD_CACHED_BYTES_MAX, 4)
    raws = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(40)]
    for raw in raws[:4]:
        sockets.learn(raw, parsed(raw))
    for (_, theirs), raw in zip(pairs, raws[:4], strict=False):
        theirs.sendall(raw)
    fds = [ours.fileno() for ours, _ in pairs[:4]]
    _, _, found, _ = sockets.receive(fds)
    for raw in raws[4:]:
        sockets.learn(raw, parsed(raw))  # as a request that is parsed in the same wake-up may have it
    assert [head and head.path for head in found] == ["/0", "/1", "/2", "/3"]
    for (_, theirs), raw in zip(pairs, raws[:4], strict=False):
        theirs.sendall(raw)
    assert sockets.receive(fds)[2] == [None] * 4, "four are remembered, and those are others by now"


def test_what_cannot_be_sent_or_read_is_told_of_that_one() -> None:
    sockets = Sockets(bytearray(BUFFER_BYTES), ROOM_BYTES, HEAD_CACHED_BYTES_MAX)
    (ours, theirs), (gone, other) = socket.socketpair(), socket.socketpair()
    with closing(ours), closing(theirs), closing(gone):
        ours.setblocking(False)
        gone.setblocking(False)
        assert sockets.send([ours.fileno(), gone.fileno()], [b"a", b"b"]) is None
        other.close()
        sent = sockets.send([ours.fileno(), gone.fileno()], [b"cd", b"e"])
        assert sent is not None
        assert sent[0] == 2
        assert sent[1] < 0
        assert theirs.recv(10) == b"acd"
        assert sockets.receive([ours.fileno()])[0] == [-11], "nothing is there"


def parsed(raw: bytes) -> Head:
    head = parse(raw)
    assert not isinstance(head, Refused)
    return head
