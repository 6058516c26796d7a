"""The public process: takes events and appends them. Opens its parts in one nursery, closes them in reverse.

It starts from files alone: keys that the keeper wrote, the identity graph's snapshot, the journal's tail. So it comes
back while Postgres and ClickHouse are away. Only where there is neither a whole snapshot nor the journal from its
beginning does it ask the keeper for the link log.

While it recovers, in a thread, the edge says so to who asks for its health, and lets events wait.

Accepting is synchronous: the edge hands over a wake-up (reception.py), accept.py takes it, and the answers wait
in the edge for the flush. Beside it run slow clocks: keys, snapshot, deletion of what is stored. What the console asks
by hand (`explain`, `unlink`, `merge`) is judged and appended in one step too, and answered once it is flushed.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct

from pugd import commands, errors
from pugd.accept import TOGETHER_BYTES_MAX, Accept, AcceptStatistics
from pugd.config import Config
from pugd.data import DataDirectory, Origin, write_parts, write_whole
from pugd.dialects.message import ID_BYTES_MAX
from pugd.edge import gate
from pugd.edge.bounds import Bounds, EdgeStatistics
from pugd.edge.forwarded import Clients
from pugd.edge.health import JOURNAL_FULL, Health
from pugd.edge.heap import keep_freed_memory
from pugd.edge.http import Edge
from pugd.enrich import cookieless
from pugd.enrich.place import Places, PlacesStatistics
from pugd.errors import JournalError, JournalFullError
from pugd.identity import duplicates, remembered, rules, snapshot
from pugd.identity.duplicates import RecentIds, RecentIdsStatistics
from pugd.identity.graph import Graph, GraphStatistics
from pugd.journal.reader import Reader
from pugd.journal.writer import Writer, WriterStatistics
from pugd.model import LINK, KeyFile, LinkRow, UsageFile
from pugd.process import Sockets, Status
from pugd.reception import Reception, refuse
from pugd.refusals import Found

log = logging.getLogger(__name__)

KEYS_INTERVAL_S = 0.5
USAGE_INTERVAL_S = 5.0
"""How often it is written how much keys were used; a killed collector forgets that much of a day's quota."""
PLACES_INTERVAL_S = 60.0
"""How often it is looked whether the file of places was replaced."""
UPKEEP_INTERVAL_S = 2.0
SALTS_INTERVAL_S = 60.0
"""How long the salt of a day outlives its time, at most."""
SNAPSHOT_INTERVAL_S = 60.0
LINKS_PAGE = 10_000
SPAN_BYTES = 16 * 1024 * 1024
"""Of the journal, read at once to learn event ids."""
KEPT_BYTES = 512 * 1024 * 1024
"""Journal files that are kept beyond what is stored: for an operator, whose ClickHouse may lose rows."""

EARLY_WAIT_S = 10.0
"""How long events that come while the collector recovers wait for it: longer than a usual start, shorter than clients
wait for an answer."""


class CollectorStatistics(Struct, frozen=True):
    """How the collector is, part by part."""

    accept: AcceptStatistics
    edge: EdgeStatistics
    graph: GraphStatistics
    recent: RecentIdsStatistics
    journal: WriterStatistics
    places: PlacesStatistics


def mint(origin: Origin) -> Iterator[str]:
    """Ids for events that came without one: never the same twice."""
    prefix = f"{origin.epoch:x}-{os.urandom(6).hex()}"
    return (f"{prefix}-{number}" for number in count())


class Collector:
    """The parts of the public process."""

    def __init__(self, config: Config, sockets: Sockets, status: Status) -> None:
        self._config = config
        self._sockets = sockets
        self._status = status
        self._directory = directory = DataDirectory(config.data)
        self._key = directory.key()
        self._origin = directory.origin()
        self._health = Health()
        self._gate = gate.Gate({})
        self._snapshot_order = 0
        """Of the graph that the snapshot on disk holds."""
        self._snapshot_position = 0
        self._snapshotting = trio.Lock()
        self._distrusted = False
        """The graph is not to be kept: the next process makes it anew from the link log."""

    async def run(self) -> None:
        """Until `status.stopping`."""
        config, directory, origin = self._config, self._directory, self._origin
        self._status.unready("recovering the journal")
        keep_freed_memory()
        with closing(
            Writer.open(
                directory.journal,
                name=origin.name,
                epoch=origin.epoch,
                flushed_path=directory.flushed,
                file_bytes_max=config.journal_file_bytes_max,
                bytes_max=config.journal_bytes_max,
                reserve_bytes=config.disk_reserve_bytes,
                stored=stored_position(directory.stored, origin.epoch),
                pending_bytes_max=8 * max(config.body_bytes_max, TOGETHER_BYTES_MAX),
            )
        ) as writer:
            reader = Reader(directory.journal, epoch=origin.epoch)
            self._writer = writer
            self._remembered = remembered.Remembered(directory.recent, origin.epoch)
            self._places = places = Places(config.places) if config.places else None
            asks = places is not None or config.cookieless == "on"
            clients = Clients(config.trusted_networks) if asks else None
            reception = Reception(self._gate, self._health, config.body_bytes_max, clients)
            assert self._sockets.http is not None, "the supervisor hands over the collector's sockets"
            if self._sockets.udp is not None:
                self._sockets.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.datagram_buffer_bytes)
            self._edge = edge = Edge(
                listeners=[self._sockets.http],
                datagrams=self._sockets.udp,
                flushed_fd=writer.event_fd,
                take_flushed=writer.take_flushed,
                handle=reception.handle,
                refuse=refuse,
                pending=lambda: reception.pending,
                bounds=Bounds(
                    head_bytes_max=config.head_bytes_max,
                    body_bytes_max=config.body_bytes_max,
                    held_bytes_max=config.held_bytes_max,
                    connections_max=config.connections_max,
                    head_s=config.head_timeout_s,
                    body_grace_s=config.body_grace_s,
                    body_rate_min=config.body_bytes_per_s_min,
                    idle_s=config.idle_timeout_s,
                    answer_s=config.answer_timeout_s,
                ),
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(edge.run)
                nursery.start_soon(self._lose_patience, reception)
                self._recent = await trio.to_thread.run_sync(self._relearn, reader)
                self._graph = await self._recover_graph(reader)
                minted = mint(origin)
                salts = await trio.to_thread.run_sync(self._open_salts)
                self._accept = Accept(
                    graph=self._graph,
                    recent=self._recent,
                    writer=writer,
                    keys=self._gate,
                    illegal=rules.IllegalIds(config.illegal_ids),
                    ids_max=config.ids_per_person_max,
                    mint=lambda: next(minted),
                    places=places,
                    salts=salts,
                )
                if places is not None:
                    await trio.to_thread.run_sync(places.renew)
                    nursery.start_soon(self._keep_places, places)
                if salts is not None:
                    nursery.start_soon(self._keep_salts, salts)
                await self._wait_for_keys()
                self._read_usage()
                nursery.start_soon(self._keep_keys)
                nursery.start_soon(self._keep_usage)
                nursery.start_soon(self._keep_up)
                await nursery.start(
                    commands.serve,
                    directory.collector_socket,
                    {
                        "statistics": self._statistics,
                        "explain": self._explain,
                        "unlink": self._unlink,
                        "merge": self._merge,
                        "refusals": self._refusals,
                        "snapshot": self._write_now,
                        "rebuild": self._rebuild,
                    },
                )
                reception.open(self._accept)
                edge.take_datagrams()
                edge.send_answers()
                self._health.started()
                self._status.ready()
                log.info("taking events: %d ids in the graph, journal at %d", self._graph.order - 1, writer.position)
                await self._status.stopping.wait()
                self._health.draining()
                self._status.unready("stopping")
                edge.stop_accepting()
                await edge.wait_drained(trio.current_time() + config.shutdown_timeout_s * 0.3)
                nursery.cancel_scope.cancel()
        self._write_usage(msgspec.json.encode(UsageFile(self._gate.usage())))
        if self._distrusted:
            directory.graph_snapshot.unlink(missing_ok=True)
        else:
            saving = snapshot.Saving(self._graph, writer.position, origin.epoch)
            self._write_snapshot(saving)
            saving.close()

    async def _lose_patience(self, reception: Reception) -> None:
        await trio.sleep(EARLY_WAIT_S)
        reception.lose_patience()
        self._edge.send_answers()

    # -- recovery ------------------------------------------------------------------------------------------------------

    def _relearn(self, reader: Reader) -> RecentIds:
        """The ids of recent events, from what deleted journal files left and what the journal holds."""
        config, now = self._config, time.time_ns() // 1_000_000
        recent = RecentIds(self._key, config.duplicate_window_s * 1000, config.duplicate_bytes_max)
        oldest, end = self._writer.statistics().oldest, self._writer.flushed
        span = reader.read(oldest, end, SPAN_BYTES)
        first = duplicates.digest(self._key, span.data, span.position).received_first if span is not None else 0
        self._remembered.teach(recent, oldest, first or now)
        unread = 0
        while span is not None:
            recent.add_rows(span.data, span.position)
            if _unread(reader) > unread:
                # Their ids are not known: events from before may come again, and are looked up.
                unread = _unread(reader)
                last = duplicates.digest(self._key, span.data, span.position).received_last
                recent.missing((last or now) + remembered.DAY_MS)
            span = reader.read(span.end, end, SPAN_BYTES)
        return recent

    async def _recover_graph(self, reader: Reader) -> Graph:
        """The graph at the journal's end: snapshot, or the link log from the keeper, and then the journal's tail."""
        path = self._directory.graph_snapshot
        graph: Graph | None = None
        position = 0
        if path.exists():
            try:
                graph, position, epoch = await trio.to_thread.run_sync(snapshot.read, self._key, path)
                if epoch != self._origin.epoch or position > self._writer.flushed:
                    log.warning("the graph's snapshot is of another journal: rebuilding the graph from the link log")
                    graph = None
            except snapshot.SnapshotDamaged as error:
                log.warning("%s", error)
        if graph is None:
            graph = Graph(self._key)
            position = self._writer.statistics().oldest
            if position > 0:
                await self._ask_links(graph)
        tail = _links(reader, position, self._writer.flushed)
        await trio.to_thread.run_sync(rules.replay_many, graph, tail)
        self._snapshot_order, self._snapshot_position = 0, position
        return graph

    async def _ask_links(self, graph: Graph) -> None:
        """Fill an empty graph with the link log that ClickHouse holds, however long the keeper takes to answer."""
        path = self._directory.keeper_socket
        self._status.unready("waiting for the keeper's link log")
        while True:
            try:
                page = await commands.ask(path, "links", order=graph.order, limit=LINKS_PAGE)
            except commands.CommandError as error:
                log.warning("rebuilding the graph: %s", error)
                await trio.sleep(1)
                continue
            rows = msgspec.convert(page, type=list[LinkRow])
            rules.replay_many(graph, rows)
            if len(rows) < LINKS_PAGE:
                log.info("rebuilt the graph from the link log: %d entries", graph.order - 1)
                return

    # -- slow clocks ---------------------------------------------------------------------------------------------------

    async def _wait_for_keys(self) -> None:
        if self._load_keys():
            return
        self._status.unready("waiting for the keeper to write keys")
        while not self._load_keys():
            await trio.sleep(0.05)

    async def _keep_keys(self) -> None:
        while True:
            await trio.sleep(KEYS_INTERVAL_S)
            self._load_keys()
            self._gate.expire(time.time_ns() // 1_000_000)

    async def _keep_places(self, places: Places) -> None:
        while True:
            await trio.sleep(PLACES_INTERVAL_S)
            await trio.to_thread.run_sync(places.renew)

    def _open_salts(self) -> cookieless.Salts | None:
        if self._config.cookieless == "off":
            cookieless.destroy(self._directory.salts)
            return None
        salts = cookieless.Salts(self._directory.salts)
        now = time.time_ns() // 1_000_000
        salts.renew(now, salts.stored(now))
        return salts

    async def _keep_salts(self, salts: cookieless.Salts) -> None:
        while True:
            await trio.sleep(SALTS_INTERVAL_S)
            now = time.time_ns() // 1_000_000
            salts.renew(now, await trio.to_thread.run_sync(salts.stored, now))

    async def _keep_usage(self) -> None:
        while True:
            await trio.sleep(USAGE_INTERVAL_S)
            data = msgspec.json.encode(UsageFile(self._gate.usage()))
            await trio.to_thread.run_sync(self._write_usage, data)

    _usage_written: bytes | None = None

    def _write_usage(self, data: bytes) -> None:
        """Keep how much keys were used: the quotas of a day hold over a restart. Nothing waits for it."""
        if data == self._usage_written:
            return
        try:
            write_whole(self._directory.usage, data)
            self._usage_written = data
        except OSError as error:
            log.error("how much keys were used is not kept: %s", error)

    def _read_usage(self) -> None:
        try:
            known = msgspec.json.decode(self._directory.usage.read_bytes(), type=UsageFile)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("how much keys were used cannot be read, so their days begin anew: %s", error)
            return
        self._gate.restore(known.keys)

    _keys_read: tuple[int, int] | None = None

    def _load_keys(self) -> bool:
        """Take the keys that the keeper wrote, if they changed. returns whether there are any"""
        try:
            about = self._directory.keys.stat()
            if (about.st_ino, about.st_mtime_ns) == self._keys_read:
                return True
            known = msgspec.json.decode(self._directory.keys.read_bytes(), type=KeyFile)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError) as error:
            log.error("keys cannot be read, the old ones stay: %s", error)
            return self._keys_read is not None
        self._gate.replace(known.write_keys)
        self._gate.expire(time.time_ns() // 1_000_000)
        self._keys_read = (about.st_ino, about.st_mtime_ns)
        return True

    async def _keep_up(self) -> None:
        """Snapshot the graph now and then, delete journal files that nobody needs, say when there is room again."""
        written_at = trio.current_time()
        while True:
            await trio.sleep(UPKEEP_INTERVAL_S)
            if self._writer.room(0):
                self._health.clear(JOURNAL_FULL)
            if trio.current_time() - written_at > SNAPSHOT_INTERVAL_S:
                await self._snapshot()
                written_at = trio.current_time()
            stored = stored_position(self._directory.stored, self._origin.epoch)
            keep = self._writer.position - min(KEPT_BYTES, self._config.journal_bytes_max // 4)
            if self._short_of_room():
                keep = stored
                if self._snapshot_position < stored:
                    await self._snapshot()
            await self._delete_before(max(0, min(stored, keep, self._snapshot_position)))

    def _short_of_room(self) -> bool:
        """Is it time to keep no more of the journal than must be?"""
        disk, config = self._writer.statistics(), self._config
        spare = disk.available_bytes - disk.reserve_bytes
        wanted = min(4 * config.journal_file_bytes_max, config.journal_bytes_max // 4)
        return spare < wanted or self._writer.left < config.journal_bytes_max // 4

    async def _delete_before(self, position: int) -> None:
        """Delete journal files; what they held of event ids is remembered first."""
        if gone := self._writer.deletable(position):
            await trio.to_thread.run_sync(self._remember, gone)
            self._writer.delete_before(gone[-1][1])

    def _remember(self, gone: list[tuple[int, int]]) -> None:
        now, config = time.time_ns() // 1_000_000, self._config
        try:
            for start, end in gone:
                reader = Reader(self._directory.journal, epoch=self._origin.epoch)
                digests: list[duplicates.Digest] = []
                position = start
                while (span := reader.read(position, end, SPAN_BYTES)) is not None:
                    digests.append(duplicates.digest(self._key, span.data, span.position))
                    position = span.end
                reader.close()
                first = min((one.received_first for one in digests if one.received_first), default=now)
                last = max((one.received_last for one in digests), default=0)
                self._remembered.keep(
                    start, end, [one.ids for one in digests], first, last, damaged=_unread(reader) > 0
                )
            self._remembered.trim(now, config.duplicate_window_s * 1000, config.duplicate_bytes_max)
        except (OSError, JournalError) as error:
            # Room is needed more: what is not remembered is looked up after the next start.
            log.error("event ids of deleted journal files are not remembered: %s", error)

    async def _snapshot(self, *, anew: bool = False) -> None:
        """Write the graph, if it has changed, or `anew` in any case, as it is now; once what it holds is flushed.

        Nothing waits for it. Where memory is short the old one stays, and that is logged, or told to whoever asked.
        """
        async with self._snapshotting:
            position, order = self._writer.position, self._graph.order
            if order == self._snapshot_order and not anew:
                self._snapshot_position = position if self._writer.flushed >= position else self._snapshot_position
                return
            saving = None
            try:
                saving = snapshot.Saving(self._graph, position, self._origin.epoch)
                await self._wait_flushed(position)
                await trio.to_thread.run_sync(self._write_snapshot, saving)
                self._snapshot_position = position
            except MemoryError as error:
                if anew:
                    raise commands.CommandError(f"short of memory for {error}", errors.UNAVAILABLE) from error
                log.error("no snapshot of the graph, the old one stays: short of memory for %s", error)
            finally:
                if saving is not None:
                    saving.close()

    def _write_snapshot(self, saving: snapshot.Saving) -> None:
        write_parts(self._directory.graph_snapshot, saving.parts())
        self._snapshot_order = saving.order

    # -- commands ------------------------------------------------------------------------------------------------------

    async def _explain(self, asked: Mapping[str, Any]) -> commands.Explained | None:
        """Why are two ids one person? None where they are not."""
        pair = _arguments(asked, _Pair)
        graph = self._graph
        orders = graph.explain(graph.actor(pair.project, pair.a), graph.actor(pair.project, pair.b))
        await self._wait_flushed(self._writer.position)
        return None if orders is None else commands.Explained(orders)

    async def _unlink(self, asked: Mapping[str, Any]) -> commands.Unlinked:
        """Take apart two ids, or one (`b` is '') from its person, for good."""
        pair = _arguments(asked, _Unlink)
        proposal = rules.Proposal(pair.project, "unlink", pair.a, pair.b, secret=True)
        order = None
        if pair.dry_run:
            found, position = rules.rehearse(self._graph, proposal), self._writer.position
        else:
            outcome, position = self._by_hand(proposal)
            found = outcome.parts or outcome.refused
            order = outcome.links[0].order if outcome.links else None
        await self._wait_flushed(position)
        if isinstance(found, str):
            return commands.Unlinked([], [], [], None, found)
        return commands.Unlinked(found.persons, found.removed, found.left_out, order, None)

    async def _merge(self, asked: Mapping[str, Any]) -> commands.Merged:
        """Make two ids one person, whoever they belong to."""
        pair = _arguments(asked, _Pair)
        outcome, position = self._by_hand(rules.Proposal(pair.project, "merge", pair.a, pair.b, secret=True))
        person = self._graph.find(self._graph.actor(pair.project, pair.a))
        await self._wait_flushed(position)
        order = outcome.links[0].order if outcome.links and not outcome.refused else None
        return commands.Merged(order, outcome.refused or None, person)

    async def _refusals(self, asked: Mapping[str, Any]) -> Found:
        """What was refused lately, of a project; of unknown keys where it is none."""
        try:
            which = msgspec.convert(asked, _Refusals)
        except msgspec.ValidationError as error:
            raise commands.CommandError(str(error), errors.INVALID_FIELD) from error
        return self._accept.refusals.find(which.project, which.code, which.limit, which.before)

    async def _write_now(self, _: Mapping[str, Any]) -> commands.Written:
        """Write the snapshot now, whether the graph has changed since the last one or not."""
        await self._snapshot(anew=True)
        return commands.Written(os.getpid())

    async def _rebuild(self, _: Mapping[str, Any]) -> commands.Written:
        """The graph is wrong: stop as if asked to, and leave no snapshot behind. The supervisor starts the next
        process, which makes the graph from the link log; connections wait meanwhile."""
        log.warning("the graph is not what the link log says: starting again to make it anew")
        self._distrusted = True
        self._status.stopping.set()
        return commands.Written(os.getpid())

    def _by_hand(self, proposal: rules.Proposal) -> tuple[rules.Outcome, int]:
        try:
            return self._accept.by_hand(proposal, time.time_ns() // 1_000_000)
        except JournalFullError as error:
            raise commands.CommandError(str(error), errors.UNAVAILABLE) from error

    async def _wait_flushed(self, position: int) -> None:
        while self._writer.flushed < position:
            await trio.sleep(0.001)

    async def _statistics(self, _: Mapping[str, Any]) -> CollectorStatistics:
        return CollectorStatistics(
            self._accept.statistics(),
            self._edge.statistics(),
            self._graph.statistics(),
            self._recent.statistics(),
            self._writer.statistics(),
            self._places.statistics() if self._places is not None else PlacesStatistics(),
        )


class _Pair(Struct, frozen=True):
    """The arguments of a command about two ids."""

    project: Annotated[int, Meta(ge=1, lt=1 << 32)]
    a: str
    b: str


class _Unlink(Struct, frozen=True):
    """The arguments of `unlink`."""

    project: Annotated[int, Meta(ge=1, lt=1 << 32)]
    a: str
    b: str = ""
    dry_run: bool = False


class _Refusals(Struct, frozen=True):
    """The arguments of `refusals`."""

    project: Annotated[int, Meta(ge=0, lt=1 << 32)]
    code: str = ""
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50
    before: int | None = None


Arguments = TypeVar("Arguments", _Pair, _Unlink)


def _arguments(asked: Mapping[str, Any], type_: type[Arguments]) -> Arguments:
    """A command's arguments. raises CommandError where they are wrong"""
    try:
        given = msgspec.convert(asked, type_)
    except msgspec.ValidationError as error:
        raise commands.CommandError(str(error), errors.INVALID_FIELD) from error
    for name, text in (("a", given.a), ("b", given.b)):
        if not text and not (name == "b" and type_ is _Unlink):
            raise commands.CommandError(f"{name} is missing: name an id", errors.MISSING_FIELD)
        if len(text.encode()) > ID_BYTES_MAX:
            raise commands.CommandError(f"{name} is longer than {ID_BYTES_MAX} bytes", errors.INVALID_ID)
    return given


def _unread(reader: Reader) -> int:
    """How often it met bytes or positions that are no rows."""
    statistics = reader.statistics()
    return statistics.gaps + statistics.damages


def _links(reader: Reader, position: int, until: int) -> Iterator[LinkRow]:
    """The link log's entries in the journal from `position` on."""
    for _, row in reader.rows(position, until, LINK):
        yield msgspec.convert(row, type=LinkRow)


def stored_position(path: Path, epoch: int) -> int:
    """Where the drain has come to: everything before it is in ClickHouse; 0 where it never began in this epoch.

    A file that cannot be read counts as 0 too: then nothing is deleted, and the drain says what to mend.
    """
    try:
        position, of_epoch = path.read_text().split()[:2]
        return int(position) if int(of_epoch) == epoch else 0
    except (OSError, ValueError):
        return 0


async def run(config: Config, sockets: Sockets, status: Status) -> None:
    """Be the collector, until `status.stopping`."""
    await Collector(config, sockets, status).run()
