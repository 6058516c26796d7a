"""ClickHouse as the drain may meet it: what it keeps of a block, what it forgets, and what it says of either.

A block falls into its monthly partitions, and each becomes a part in three steps, between any two of which the server
may be killed or lose its power: record the deduplication token, unless it is known; make the part visible; sync it. One
insert at a time does that in a table. So

- a token that is recorded is no proof of rows: after a kill between the first step and the second the same token is
  taken for done, and nothing is inserted (seen in the real one: ARCHITECTURE.md, What was measured);
- a block may be there in part;
- a part that is not synced goes with the power, even one that was visible, and was read, before; its token stays.

An insert goes on after its asker has lost the connection, until it ends or is killed. The network loses requests,
replies and connections, and delivers an insert twice, at about the same time; the server is away, refuses for a while,
or refuses a block for one row in it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import trio

from pugd import drain, tables
from pugd.errors import StoreRefusedError, StoreUnavailableError
from pugd.store.clickhouse import Rows

Row = dict[str, Any]
_COPIES = re.compile(
    r"select (?P<columns>.*), min\(if\(.*\)\) from (?P<table>\w+) where project = .* "
    r"and (?P<actor>actor|a) in \((?P<actors>[0-9,]+)\) "
    r"and CRC32\(event_id\) in \((?P<ids>[0-9,]+)\) and .* group by all"
)
POISON = b'"poison"'
"""In an event's properties: a block that holds it is refused, until the server is mended."""


class Part:
    """Rows of one insert in one partition."""

    def __init__(self, table: str, rows: list[Row]) -> None:
        self.table, self.rows = table, rows
        self.synced = False


class Running:
    """An insert on the server."""

    def __init__(self, query_id: str) -> None:
        self.query_id = query_id
        self.killed = False
        self.done = trio.Event()


class ClickHouse:
    """The server."""

    def __init__(self, draw: Random) -> None:
        self.draw = draw
        self.parts: list[Part] = []
        self.tokens: set[tuple[str, int, str]] = set()
        self.running: dict[int, Running] = {}
        self.locks: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        """Of each table's parts: another insert sees a token only with its part."""
        self.life = 0
        """Counts its deaths."""
        self.up = True
        self.fsync_after_insert = True
        self.deduplicates = True
        self.refuses_poison = True
        self.inserts = 0

    def kill(self, power: bool) -> None:
        self.life += 1
        for one in self.running.values():
            one.killed = True
            one.done.set()
        self.running.clear()
        self.locks.clear()
        if power:
            self.parts = [part for part in self.parts if part.synced or self.draw.random() < 0.3]
            for part in self.parts:
                part.synced = True

    def rows(self, table: str) -> list[Row]:
        return [row for part in self.parts if part.table == table for row in part.rows]

    async def insert(self, one: Running, table: str, token: str, rows: list[Row]) -> None:
        """What the server does with a block; `one.killed` says that it is to stop."""
        months: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            months[_month(row["occurred_at"]) if table == "events" else 0].append(row)
        for month in self.draw.sample(sorted(months), len(months)):
            await self._pause(one)
            async with self.locks[table]:
                if one.killed:
                    raise StoreUnavailableError("the insert was killed")
                if (table, month, token) in self.tokens and self.deduplicates:
                    continue
                self.tokens.add((table, month, token))
                await self._pause(one)
                part = Part(table, months[month])
                self.parts.append(part)
                if self.fsync_after_insert:
                    life = self.life
                    await trio.sleep(self.draw.choice((0.0, 0.05, 0.5)))
                    if life == self.life:  # a `kill query` is not looked at here, a kill of the server ends it all
                        part.synced = True
        await self._pause(one)

    async def _pause(self, one: Running) -> None:
        await trio.sleep(self.draw.choice((0.0, 0.001, 0.01, 0.2)))
        if one.killed:
            raise StoreUnavailableError("the insert was killed")

    def sync(self) -> None:
        """All that is visible is on its disk."""
        for part in self.parts:
            part.synced = True


class Store:
    """The server as the drain's `store`, over a network that loses things while `calm` is False."""

    embedded = False

    def __init__(self, server: ClickHouse, nursery: trio.Nursery, draw: Random) -> None:
        self.server = server
        self.nursery = nursery
        self.draw = draw
        self.calm = False
        self.ended_lies = False
        """For tests: a running insert is said to have ended."""

    async def prepare(self) -> None:
        await self._reach()

    async def _reach(self, lost: float = 0.03) -> None:
        await trio.sleep(self.draw.choice((0.0, 0.001, 0.01)))
        if not self.server.up:
            raise StoreUnavailableError("connection refused")
        if not self.calm and self.draw.random() < lost:
            raise StoreUnavailableError("the connection was lost")

    async def ended(self, prefix: str) -> bool:
        await self._reach()
        if self.ended_lies:
            return True
        left = [one for one in self.server.running.values() if one.query_id.startswith(prefix)]
        for one in left:
            if self.draw.random() < 0.7:
                one.killed = True
        return not left

    async def sync(self) -> None:
        await self._reach()
        self.server.sync()

    async def insert(
        self, table: str, names: Sequence[str], pieces: Sequence[Any], *, token: str, query_id: str
    ) -> None:
        await self._reach()
        rows = list(decoded(b"".join(pieces), next(one for one in tables.STORED if one.name == table)))
        server = self.server
        refused = None
        if table == "events" and server.refuses_poison and any(POISON in row["properties_text"] for row in rows):
            refused = StoreRefusedError("Code: 117. Cannot parse JSON", code=117)
            if self.draw.random() < 0.5:
                raise refused
            # Or after a part of it went in.
            rows = [row for row in rows if POISON not in row["properties_text"] and self.draw.random() < 0.5]
        await self._deliver(table, lambda: rows, token, query_id)
        if refused is not None:
            raise refused

    async def copy(self, sql: str, values: dict[str, Any], *, token: str, query_id: str) -> None:
        await self._reach()
        assert sql == drain._COPY

        def rows() -> list[Row]:
            there = set(self._ours("events_by_actor", values))
            wanted = {at for at in self._ours("events", values) if at < values["until"]} - there
            names = [column.name for column in tables.EVENTS_BY_ACTOR.columns]
            every = {row["position"]: row for row in self.server.rows("events") if row["position"] in wanted}
            return [{name: every[at][name] for name in names} for at in sorted(wanted)]

        await self._deliver("events_by_actor", rows, token, query_id)

    async def _deliver(self, table: str, rows: Callable[[], list[Row]], token: str, query_id: str) -> None:
        server = self.server
        life = server.life
        outcome: list[BaseException | None] = []

        def arrive(outcome: list[BaseException | None]) -> Running:
            server.inserts += 1
            one = server.running[server.inserts] = Running(query_id)
            self.nursery.start_soon(work, one, server.inserts, outcome)
            return one

        async def work(one: Running, number: int, outcome: list[BaseException | None]) -> None:
            try:
                await server.insert(one, table, token, rows())
                outcome.append(None)
            except StoreUnavailableError as error:
                outcome.append(error)
            finally:
                if server.life == life:
                    server.running.pop(number, None)
                one.done.set()

        one = arrive(outcome)
        if not self.calm and self.draw.random() < 0.05:
            arrive([])
        if not self.calm and self.draw.random() < 0.08:
            # The connection goes; the server works on.
            await trio.sleep(self.draw.choice((0.0, 0.005, 0.1)))
            raise StoreUnavailableError("the connection was reset")
        await one.done.wait()
        if server.life != life or not outcome or (not self.calm and self.draw.random() < 0.04):
            raise StoreUnavailableError("the reply was lost")
        if outcome[0] is not None:
            raise outcome[0]

    async def drain_query(self, sql: str, values: dict[str, Any] | None = None) -> Rows:
        await self._reach()
        values = values or {}
        for table in drain.ORDER:
            if sql == drain._PRESENT[table.name]:
                found = self._ours(table.name, values)
                return Rows(("position",), [(at,) for at in sorted(found) if at < values["until"]])
            if sql == drain._LAST[table.name]:
                found = self._ours(table.name, values)
                return Rows(("count()", "max(position)"), [(len(found), max(found, default=0))])
        if asked := _COPIES.fullmatch(sql):
            return self._copies(asked, values)
        raise AssertionError(f"the simulated ClickHouse does not know {sql}")

    def _copies(self, asked: re.Match[str], values: dict[str, Any]) -> Rows:
        """What is held of these ids (store/copies.py, `questions`)."""
        names = tuple(asked["columns"].replace("`", "").split(", "))
        actors, ids = ({int(number) for number in asked[name].split(",")} for name in ("actors", "ids"))
        found: dict[tuple[Any, ...], int] = {}
        for row in self.server.rows(asked["table"]):
            ours = (row["collector"], row["epoch"]) == (values["collector"].encode(), values["epoch"])
            if row["project"] != values["project"] or row[asked["actor"]] not in actors:
                continue
            if zlib.crc32(row["event_id"]) not in ids or (ours and row["position"] >= values["end"]):
                continue
            key = tuple(row[name].decode() if isinstance(row[name], bytes) else row[name] for name in names)
            place = row["position"] if ours else 0
            found[key] = min(found.get(key, place), place)
        return Rows((*names, "position"), [(*key, place) for key, place in found.items()])

    def _ours(self, table: str, values: dict[str, Any]) -> list[int]:
        return [
            row["position"]
            for row in self.server.rows(table)
            if (row["collector"], row["epoch"]) == (values["collector"].encode(), values["epoch"])
            and row["position"] >= values["first"]
        ]


def _month(ms: int) -> int:
    when = datetime.fromtimestamp(ms / 1000, UTC)
    return when.year * 100 + when.month


def decoded(data: bytes, table: tables.Table) -> Iterator[Row]:
    """The rows of a Native block, the plain way. Texts stay bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text() -> bytes:
        nonlocal at
        length = number()
        at += length
        return data[at - length : at]

    def numbers(form: str, count: int) -> list[Any]:
        nonlocal at
        values = struct.unpack_from(f"<{count}{form}", data, at)
        at += struct.calcsize(f"<{count}{form}")
        return list(values)

    while at < len(data):
        width, height = number(), number()
        columns: dict[str, list[Any]] = {}
        for column in table.columns[:width]:
            assert (text(), text()) == (column.name.encode(), column.type.encode())
            if column.type.startswith("LowCardinality"):
                assert numbers("Q", 1) == [1]
                flags, size = numbers("Q", 2)
                words = [text() for _ in range(size)]
                assert numbers("Q", 1) == [height]
                columns[column.name] = [words[index] for index in numbers("BHIQ"[flags & 3], height)]
            elif column.type == "String":
                columns[column.name] = [text() for _ in range(height)]
            elif column.type.startswith("JSON"):
                assert numbers("Q", 1) == [1]
                columns[column.name] = [text() for _ in range(height)]
            else:
                form = {"UInt8": "B", "UInt32": "I", "UInt64": "Q"}.get(column.type, "q")
                columns[column.name] = numbers(form, height)
        for index in range(height):
            yield {name: values[index] for name, values in columns.items()}
