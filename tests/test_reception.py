"""Between the edge and the journal: a wake-up's bodies never lie in memory inflated all at once."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Sequence
from typing import Any, cast

from running_edge import Running, running

from pugd.accept import TOGETHER_BYTES_MAX, Accept, Arrival
from pugd.edge.connection import Request
from pugd.edge.gate import Gate
from pugd.edge.health import Health
from pugd.model import Ack, WriteKey
from pugd.reception import Reception


class Counting:
    """Counts what it is given, as Accept would take it."""

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []
        self.lines: list[int] = []

    def take(
        self, arrivals: list[Arrival], lines: bytes, datagrams: int, received_at: int, offsets: Sequence[int] = ()
    ) -> list[Ack]:
        self.sizes.append([len(arrival.body) for arrival in arrivals])
        self.lines.append(datagrams)
        return [Ack(1, [], None, 0) for _ in arrivals]


async def test_bombs_of_one_wake_up_are_taken_one_after_another() -> None:
    count, inflated = 40, 8 << 20
    assert inflated * count > 8 * TOGETHER_BYTES_MAX
    accept = Counting()
    gate = Gate({"k": WriteKey(1, secret=False)})
    reception = Reception(gate, Health(), 32 << 20)
    reception.open(cast(Accept, cast(Any, accept)))
    held: list[Request] = []

    def hold(_: Running, request: Request) -> None:
        held.append(request)

    body = gzip.compress(b"[" + b" " * (inflated - 2) + b"]")
    post = b"POST /v1/batch?writeKey=k HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with running(handler=hold) as at_work:
        client = await at_work.connect()
        await client.send(post * count)
        while len(held) < count:
            await client.pause()
        tracemalloc.start()
        reception.handle(held, None, 1_700_000_000_000)
        assert sum(map(len, accept.sizes)) < count, "nobody waits for all of them"
        while reception.pending:
            reception.handle([], None, 1_700_000_000_001)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        at_work.edge.send_answers()
        for _ in range(count):
            assert (await client.answer())[0] == 200
    assert [size for sizes in accept.sizes for size in sizes] == [inflated] * count
    assert peak < TOGETHER_BYTES_MAX + 4 * inflated
