"""A collector's inside, over a directory: the real graph, set of ids and journal, and accept.py over them; and the same
behind the real edge, on a port."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio

from pugd.accept import Accept, Arrival
from pugd.dialects.dialect import Asked
from pugd.edge.bounds import Bounds
from pugd.edge.forwarded import Clients
from pugd.edge.gate import Gate, hashed
from pugd.edge.health import Health
from pugd.edge.http import Edge
from pugd.enrich.cookieless import Salts
from pugd.enrich.place import Places
from pugd.identity import rules
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph
from pugd.journal.reader import Reader
from pugd.journal.writer import Writer
from pugd.model import (
    EVENT,
    LINK,
    MERGE,
    OLD_EVENT,
    OLD_LINK,
    OLD_TRAIT,
    TRAIT,
    Ack,
    EventRow,
    LinkRow,
    MergeRow,
    TraitRow,
    WriteKey,
)
from pugd.reception import Reception, refuse

KEY = bytes(range(16))
NOW = 1_790_000_000_000
PUBLIC, SECRET = WriteKey(1, secret=False), WriteKey(1, secret=True)
ROWS: dict[int, Any] = {EVENT: EventRow, TRAIT: TraitRow, LINK: LinkRow, MERGE: MergeRow}
ROWS |= {OLD_EVENT: EventRow, OLD_TRAIT: TraitRow, OLD_LINK: LinkRow}


class World:
    """A collector's inside, over a directory."""

    def __init__(
        self,
        directory: Path,
        bytes_max: int = 1 << 30,
        pending_bytes_max: int = 1 << 26,
        places: Places | None = None,
        salts: Salts | None = None,
        keys: Gate | None = None,
    ) -> None:
        self.gate = keys or Gate({"k": PUBLIC, hashed("prv_k"): SECRET, "other": WriteKey(2, secret=False)})
        self.directory = directory
        self.writer = Writer.open(
            directory / "journal",
            name="test",
            epoch=7,
            flushed_path=directory / "flushed",
            file_bytes_max=1 << 20,
            bytes_max=bytes_max,
            reserve_bytes=0,
            pending_bytes_max=pending_bytes_max,
        )
        self.begin = self.writer.position
        self.graph = Graph(KEY)
        numbers = count()
        self.accept = Accept(
            graph=self.graph,
            recent=RecentIds(KEY, 86_400_000, 1 << 26),
            writer=self.writer,
            keys=self.gate,
            illegal=rules.IllegalIds(),
            ids_max=500,
            mint=lambda: f"minted-{next(numbers)}",
            places=places,
            salts=salts,
        )

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, *bodies: Any, call: str = "batch", key: WriteKey | None = PUBLIC) -> list[Ack]:
        arrivals = [Arrival(Asked(call), json.dumps(body).encode(), key) for body in bodies]
        return self.accept.take(arrivals, b"", 0, NOW)

    def udp(self, *messages: Any) -> None:
        lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        self.accept.take([], lines, len(messages), NOW)

    def rows(self, kind: int | None = None) -> list[Any]:
        end = self.writer.position
        while self.writer.flushed < end:
            pass
        reader = Reader(self.directory / "journal", epoch=7)
        found = [ROWS[int(row[0])](*row) for _, row in reader.rows(self.begin, end, kind)]  # type: ignore[call-overload]
        assert all(kind in (None, row.kind) for row in found)
        return found


def track(event_id: str, event: str = "e", **ids: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": event_id, "event": event, **(ids or {"anonymousId": "a"})}


class Served:
    """A World behind its edge: closed once it has run."""

    def __init__(self, world: World, body_bytes_max: int = 32 << 20, clients: Clients | None = None) -> None:
        self.world = world
        self.reception = Reception(world.gate, Health(), body_bytes_max, clients)
        self.reception.open(world.accept)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.datagrams = socket.socket(type=socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        self.edge = Edge(
            listeners=[self.listener],
            datagrams=self.datagrams,
            flushed_fd=world.writer.event_fd,
            take_flushed=world.writer.take_flushed,
            handle=self.reception.handle,
            refuse=refuse,
            pending=lambda: self.reception.pending,
            bounds=Bounds(body_bytes_max=body_bytes_max),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.edge.run)
                self.edge.take_datagrams()
                yield
                nursery.cancel_scope.cancel()
        finally:
            self.listener.close()
            self.datagrams.close()
            self.world.writer.close()
