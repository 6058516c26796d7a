"""The whole of pugd in one thread, on a clock, disk, network and ClickHouse that a seed decides, and breaks.

What runs is the real code: collector.py with everything behind its edge (routes, keys, dialects, identity, journal,
recovery, snapshots, deletion) and drain.py with columns. Simulated are the modules' hands: `os` and its kin (disk.py),
the flush thread (flush.py), the edge's sockets (network.py), the engine (clickhouse.py), the clock and chance (Trio's
MockClock; seeded generators). A seed replays a run exactly: `World(seed).run()`.

A run is a time of trouble, then a calm one, in which everybody finishes; then checker.py looks at what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import trio
import trio.testing
from simulation.clickhouse import ClickHouse, Store
from simulation.disk import PROCESS, Disk, Fcntl, Killed, Mmap, Os, Place, Process
from simulation.flush import Twin
from simulation.network import KEY, Client, Edge, Network

import pugd.collector
import pugd.data
import pugd.drain
import pugd.identity.remembered
import pugd.identity.snapshot
import pugd.journal.reader
import pugd.journal.writer
import pugd.quarantine
import pugd.reception
from pugd import commands
from pugd.collector import Collector
from pugd.config import Config
from pugd.drain import Drain
from pugd.errors import PugdError
from pugd.journal import files, record
from pugd.model import EVENT, LINK, OLD_EVENT, KeyFile, LinkRow, Project, WriteKey
from pugd.process import Sockets, leaves

HASH_KEY = bytes(range(16))
NAME, EPOCH = "simulated", 7
CALM_S_MAX = 900
"""By then everybody must have finished, once nothing fails any more."""
RESTARTS_CALM_MAX = 3
"""Starts of one process in the calm time: more are a crash loop."""


class Trouble(msgspec.Struct, frozen=True):
    """What a run is put through; weights are per event of the troubled time."""

    seconds: float = 20.0
    pause_s: float = 1.2
    """Between two events, on average."""
    clients: int = 3
    requests: int = 12
    kill: float = 4
    """Of a process, at any moment."""
    operation: float = 6
    """The end of a process or of the machine, or an error, at an operation of the disk."""
    power: float = 2
    server: float = 3
    """ClickHouse killed, without power, away."""
    full: float = 1
    rot: float = 0
    """Bits of the journal flip."""
    poison: bool = False
    journal_bytes_max: int = 1 << 20
    file_bytes_max: int = 4096
    bytes_max: int = 2 << 20
    """Of the disk."""
    at: int = 0
    """The number of one operation of the disk at which `what` happens (disk.py, Plan); 0: none."""
    what: str = ""
    for_ever: bool = False


class Stuck(AssertionError):
    """Somebody never finished."""


class World:
    """One run."""

    def __init__(
        self, seed: int, trouble: Trouble | None = None, prepare: Callable[[World], None] | None = None
    ) -> None:
        self.seed = seed
        self.trouble = trouble or Trouble()
        self.draw = Random(seed)
        self.disk = Disk(Random(seed + 1), self.trouble.bytes_max)
        self.disk.kill, self.disk.lose_power = self.kill, self.lose_power
        self.server = ClickHouse(Random(seed + 2))
        self.processes: dict[str, Process] = {}
        self.crashes = self.starts = self.rots = 0
        self.rotten: set[str | int] = set()
        """Ids of events, and kinds of other rows, whose record rotted."""
        self.calm = False
        self.over = False
        self.starts_calm: dict[str, int] = {}
        self.prepare = prepare
        """Disables a mechanism, to see the checks fail."""
        self.trace: list[tuple[Any, ...]] = []
        self.collector: Collector | None = None
        self.drain: Drain | None = None

    def run(self) -> World:
        """The whole run, and the checks. raises AssertionError where something does not hold"""
        trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
        trio._core._run._r.seed(self.seed)  # type: ignore[attr-defined]
        with self._patched():
            try:
                trio.run(self._main, clock=trio.testing.MockClock(autojump_threshold=0))
            except BaseExceptionGroup as group:
                said = [end for end in leaves(group) if isinstance(end, AssertionError)]
                if not said:
                    raise
                raise said[0] from None
        return self

    def note(self, *what: Any) -> None:
        self.trace.append((round(trio.current_time(), 6), *what))

    # ---- what the code under test touches ----

    @contextmanager
    def _patched(self) -> Iterator[None]:
        system = Os(self.disk)
        self.os = system
        Place.disk, Place.os = self.disk, system
        clock = SimpleNamespace(
            monotonic=lambda: trio.current_time(), time_ns=lambda: int((1_790_000_000 + trio.current_time()) * 1e9)
        )
        chance = Random(self.seed + 3)
        hidden = SimpleNamespace(token_hex=lambda n: chance.randbytes(n).hex(), token_bytes=chance.randbytes)
        asked = SimpleNamespace(**{**vars(commands), "serve": self._serve, "ask": self._ask})
        places: list[tuple[Any, dict[str, Any]]] = [
            (pugd.data, {"os": system, "Path": Place, "secrets": hidden}),
            (pugd.journal.writer, {"os": system, "mmap": Mmap(self.disk), "fcntl": Fcntl(self.disk), "time": clock}),
            (pugd.journal.writer, {"lib": None}),
            (pugd.journal.reader, {"os": system, "mmap": Mmap(self.disk)}),
            (pugd.quarantine, {"os": system}),
            (pugd.identity.remembered, {"os": system}),
            (pugd.identity.snapshot, {"read": _read_snapshot}),
            (pugd.drain, {"os": system, "time": clock, "random": chance, "secrets": hidden}),
            (pugd.collector, {"os": system, "Edge": Edge, "commands": asked, "time": clock}),
            (pugd.collector, {"keep_freed_memory": lambda: None}),
            (pugd.reception, {"time": clock}),
            (trio.to_thread, {"run_sync": _inline}),
        ]
        before = [(module, name, getattr(module, name, None)) for module, names in places for name in names]
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            for module, names in places:
                for name, value in names.items():
                    setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)
            logging.disable(level)

    async def _serve(self, path: Any, known: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def _ask(self, path: Any, do: str, **asked: Any) -> Any:
        """The keeper's answer to a collector that has lost its graph."""
        assert do == "links"
        await trio.sleep(0.01)
        keeper = self.processes.get("keeper")
        if keeper is None or keeper.dead or not self.server.up:
            raise commands.CommandError("nobody there")
        rows = sorted(
            (row for row in self.server.rows("links") if row["order"] >= asked["order"]), key=lambda row: row["order"]
        )
        fields = LinkRow.__struct_fields__[1:]
        return [[LINK, *(_text(row[field]) for field in fields)] for row in rows[: asked["limit"]]]

    # ---- ends ----

    def kill(self, process: Process) -> None:
        if not process.dead:
            self.note("killed", process.name)
            self.crashes += 1
            process.dead = True
            for die in process.on_death:
                die()

    def lose_power(self) -> None:
        self.note("power lost", self.disk.operations)
        self.crashes += 1
        for process in self.processes.values():
            if not process.dead:
                process.dead = True
                for die in process.on_death:
                    die()
        self.disk.power_failed()

    # ---- the run ----

    async def _main(self) -> None:
        draw = self.draw
        first = Process("operator")
        PROCESS.set(first)
        self._make_data()
        plan = self.disk.plan
        plan.at, plan.what, plan.for_ever = self.trouble.at, self.trouble.what, self.trouble.for_ever
        async with trio.open_nursery() as nursery:
            self.network = Edge.network = Network(Random(self.seed + 4), nursery)
            self.store = Store(self.server, nursery, Random(self.seed + 5))
            trouble = self.trouble
            self.clients = [
                Client(n, self.network, Random(self.seed * 31 + n), trouble.requests, trouble.poison)
                for n in range(trouble.clients)
            ]
            if self.prepare is not None:
                self.prepare(self)
            nursery.start_soon(self._keep, "collector", self._run_collector)
            nursery.start_soon(self._keep, "keeper", self._run_keeper)
            for client in self.clients:
                nursery.start_soon(client.run)
            with trio.move_on_after(trouble.seconds):
                while not trouble.at:
                    await trio.sleep(draw.expovariate(1 / trouble.pause_s))
                    await self._strike()
                await trio.sleep_forever()
            await self._heal()
            PROCESS.set(first)
            from simulation import checker

            await checker.check(self)
            self.over = True
            nursery.cancel_scope.cancel()

    def _make_data(self) -> None:
        """A data directory as the supervisor makes it."""
        directory = self.disk.directories["/data"]
        for name, data in (
            ("hash.key", HASH_KEY),
            ("collector", msgspec.json.encode({"name": NAME, "epoch": EPOCH})),
            ("keys.json", msgspec.json.encode(KeyFile([Project(1, "default")], {KEY: WriteKey(1, False)}))),
        ):
            file = self.disk.create(f"/data/{name}")
            self.disk.write(file, 0, data)
            file.sync()
        Place("/data/journal").mkdir()
        directory.sync()
        self.disk.operations = 0

    async def _strike(self) -> None:
        """One thing goes wrong."""
        draw, trouble, disk = self.draw, self.trouble, self.disk
        weights = {name: getattr(trouble, name) for name in ("kill", "operation", "power", "server", "full", "rot")}
        what = draw.choices(list(weights), list(weights.values()))[0]
        if what == "kill":
            self.kill(self.processes[draw.choice(("collector", "keeper"))])
        elif what == "power":
            self.lose_power()
        elif what == "operation":
            plan = disk.plan
            plan.at, plan.for_ever = disk.operations + draw.randint(1, 40), False
            plan.what = draw.choice(
                ("kill", "kill-after", "torn-kill", "power", "power-after", "torn-power", "eio", "enospc")
            )
            if plan.what in ("eio", "enospc") and draw.random() < 0.3:
                plan.for_ever = True
                await trio.sleep(draw.uniform(0, 3))
                plan.at, plan.for_ever = 0, False
        elif what == "rot":
            self._rot()
        elif what == "server":
            self.note("clickhouse")
            self.crashes += 1
            self.server.kill(power=draw.random() < 0.5)
            if draw.random() < 0.6:
                self.server.up = False
                await trio.sleep(draw.uniform(0, 4))
                self.server.up = True
        else:
            room, disk.bytes_max = disk.bytes_max, disk.used() + draw.randrange(3000)
            await trio.sleep(draw.uniform(0, 3))
            disk.bytes_max = room

    def _rot(self) -> None:
        """A bit of a journal file flips. What the record around it held is nobody's fault from here on."""
        draw, names = self.draw, self.disk.directories["/data/journal"].names
        start = draw.choice([None, *files.starts(names)])
        file = names[files.name(start)] if start is not None else None
        if file is None or start is None or len(file.data) <= files.HEADER_BYTES:
            return
        flipped = draw.randrange(len(file.data))
        at = files.HEADER_BYTES
        pristine = memoryview(bytes(file.data))
        while length := record.length_at(pristine[at : at + 16]):
            if at <= flipped < at + length:
                for begin, count, payload in record.payloads(pristine[at : at + length], start + at):
                    before = 0
                    for end in record.split(payload, count):
                        row = msgspec.msgpack.decode(payload[before:end])
                        self.rotten.add(row[9] if row[0] in (EVENT, OLD_EVENT) else row[0])
                        before = end
                    self.note("rotten", begin)
            at += length
        self.rots += 1
        file.flips[flipped] = 1 << draw.randrange(8)

    async def _heal(self) -> None:
        self.calm = self.network.calm = self.store.calm = True
        self.disk.plan.at = 0
        self.disk.plan.for_ever = False
        self.disk.bytes_max = 1 << 30
        self.server.up = True
        with trio.move_on_after(CALM_S_MAX):
            while not (all(client.finished for client in self.clients) and self._drained()):
                await trio.sleep(0.1)
            return
        unfinished = [client.number for client in self.clients if not client.finished]
        stored = self.drain.statistics() if self.drain is not None else None
        raise Stuck(f"seed {self.seed}: clients {unfinished} unfinished, drain {stored}")

    def _drained(self) -> bool:
        collector, drain = self.collector, self.drain
        if collector is None or drain is None or any(process.dead for process in self.processes.values()):
            return False
        writer = getattr(collector, "_writer", None)
        PROCESS.set(self.processes["keeper"])
        return writer is not None and writer.position == writer.flushed == drain.flushed == drain.stored

    # ---- processes ----

    async def _keep(self, name: str, run: Callable[[Process], Awaitable[None]]) -> None:
        """The supervisor's part: start it again, whatever ended it."""
        while not self.over:
            process = self.processes[name] = Process(name)
            PROCESS.set(process)
            self.starts += 1
            if self.calm:
                self.starts_calm[name] = self.starts_calm.get(name, 0) + 1
                assert self.starts_calm[name] <= RESTARTS_CALM_MAX, f"{name} is in a crash loop"
            scope = trio.CancelScope()
            process.on_death.append(scope.cancel)
            try:
                with scope:
                    await run(process)
            except BaseException as error:
                if self.over:
                    raise
                ends = [end for end in leaves(error) if not isinstance(end, trio.Cancelled)]
                if not process.dead and not all(isinstance(end, PugdError | OSError | Killed) for end in ends):
                    raise
                self.note(name, "ended", sorted({type(end).__name__ for end in ends}))
            process.dead = True
            await trio.sleep(0.1)

    async def _run_collector(self, process: Process) -> None:
        trouble = self.trouble
        config = Config(
            data="/data",
            journal_file_bytes_max=trouble.file_bytes_max,
            journal_bytes_max=trouble.journal_bytes_max,
            disk_reserve_bytes=1000,
            body_bytes_max=1 << 20,
        )
        async with trio.open_nursery() as nursery:
            twin = Twin(self.disk, self.os)
            twin.nursery = nursery
            self.twin = twin
            if self.prepare is not None:
                self.prepare(self)
            pugd.journal.writer.lib = twin  # type: ignore[assignment]
            Edge.twin = twin
            collector = Collector(config, Sockets(http=SimpleNamespace()), _Status())  # type: ignore[arg-type]
            self.collector = collector
            await collector.run()

    async def _run_keeper(self, process: Process) -> None:
        drain = Drain(
            pugd.data.DataDirectory("/data"),
            self.store,
            interval_ms=100,
            rows_max=20,
            span_bytes_max=3000,  # type: ignore[arg-type]
        )
        self.drain = drain
        await drain.run()


def _read_snapshot(key: bytes, path: Any) -> Any:
    """The real one maps the file."""
    return pugd.identity.snapshot.load(key, path.read_bytes())


class _Status:
    """What a child tells nobody."""

    def __init__(self) -> None:
        self.stopping = trio.Event()

    def ready(self, **_: object) -> None:
        """Nobody listens."""

    def unready(self, why: str) -> None:
        """Nobody listens."""


async def _inline(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
    """Stands for trio.to_thread.run_sync: a thread whose work takes no time."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
