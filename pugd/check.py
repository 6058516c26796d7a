"""`pugd check identity`: the graph, `links` and `person_of` compared, and made to agree again.

What is compared, and what a difference is, is identity/agreement.py's; this file fetches and mends. The collector goes
on meanwhile. All is looked at as of one place of the link log, the last one once everything that was flushed before is
stored; what comes later has later places, and is left out. The graph is compared by the snapshot that the collector is
asked to write: it holds just the log up to a place, so the log is replayed up to there, and their bytes compared.

    the log has a hole or a damaged entry     its row is taken from the journal again, if the journal still holds it;
                                              while one is left, nobody's person is touched
    the log has an entry twice                the copies go
    person_of                                 is made what the log says: wrong and missing rows anew, surplus rows gone
    the graph                                 the collector starts again without its snapshot; where none runs, it is
                                              written anew from the log

A row that is written here takes the place of the log that was looked at as its version, so it wins over what it
corrects, and loses to whatever comes; as its origin it has a collector and an epoch of its own, so that the drain's
bookkeeping knows nothing of it. A question that runs while rows are corrected may see some of them; the next sees all.
Mending is done again from the start after any interruption: each step leaves less to do.

Memory: the replayed graph, two bytes an id, and a page of rows; the snapshot is read where it lies.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import Any, Final, TypeVar

import msgspec
import trio

from pugd.columns import block as columns
from pugd.data import DataDirectory, write_parts
from pugd.errors import PugdError
from pugd.identity import agreement, snapshot
from pugd.identity.agreement import SHOWN, Counted, Findings, Log, Persons, Report
from pugd.identity.graph import Graph
from pugd.journal import record
from pugd.journal.reader import Reader, Span
from pugd.model import LINK, MERGE, MergeRow, person_text
from pugd.store.clickhouse import Store
from pugd.tables import LINKS, PERSON_OF, Table

T = TypeVar("T")

PAGE_ROWS: Final = 100_000
"""Rows of one read: some 50 MB as Python values."""
DELETE_ROWS: Final = 2_000
"""Actors named in one deletion: a server takes 1 MiB of parameters at most by default."""
SPAN_BYTES: Final = 16 << 20
COLLECTOR_BACK_S: Final = 120.0
"""How long a collector may take to come back with a new graph; one of 10 M links takes about a minute."""
REPAIRER: Final = "check"
"""In place of a collector's name, in rows that are written here."""

_LAST: Final = "select max(`order`) from links"
_ENTRIES: Final = (
    "select project, `order`, a, b, a_id, b_id, call, refused from links"
    " where `order` >= {first:UInt64} and `order` < {until:UInt64} order by `order`, a, b, call, refused"
)
"""A range of places, not a limit: by it, ClickHouse reads these and no others."""
_PROJECTS: Final = "select project, count() from person_of group by project order by project"
_ROWS: Final = (
    "select toUInt64(project), actor, person, version from person_of"
    " where project = {project:UInt32} and actor >= {first:UInt64} and actor <= {last:UInt64}"
    " and version <= {place:UInt64} order by project, actor, version"
)
_AHEAD: Final = (
    "select project, actor, version, collector, epoch, position from person_of"
    " where version > {place:UInt64} order by version, actor limit 10000"
)
_TEXTS: Final = (
    "select a, any(a_id) from links where a in {actors:Array(UInt64)} group by a"
    " union all select b, any(b_id) from links where b in {actors:Array(UInt64)} group by b"
)
_COPIES: Final = (
    "select `order`, _part, _part_offset from links where `order` in {places:Array(UInt64)}"
    " order by `order`, _part, _part_offset"
)
# A glance: is every id that a link names in person_of, and no other? Sorted on disk where memory is short.
_NAMED: Final = (
    "select count(), groupBitXor(actor) from (select arrayJoin([a, b]) as actor from links"
    " where refused = '' and call not in ('user', 'unlink') and `order` between 1 and {place:UInt64} group by actor)"
)
_MAPPED: Final = (
    "select count(), groupBitXor(actor) from"
    " (select actor from person_of where version <= {place:UInt64} group by project, actor)"
)
_FRUGAL: Final = {"max_bytes_before_external_group_by": 256 << 20, "optimize_aggregation_in_order": 1}


class Collector(msgspec.Struct, frozen=True):
    """The running collector, as far as a check needs it."""

    ask: Callable[[str], Awaitable[Any]]
    """Send a command: `snapshot` has it write one and answers once it is there; `rebuild` has it start again without;
    `statistics`."""


class Held(msgspec.Struct, frozen=True):
    """A snapshot that was read."""

    data: memoryview
    about: snapshot.About


class Look(msgspec.Struct, frozen=True):
    """All that one examination knows."""

    findings: Findings
    log: Log
    persons: Persons
    ahead: list[tuple[Any, ...]]
    graph_wrong: bool
    """What the collector has in memory is not what the log says."""
    position: int
    """Of the journal: the log up to it was looked at."""


class Check:
    """One check of one data directory. `run` once."""

    def __init__(
        self,
        data: DataDirectory,
        store: Store,
        *,
        wait_stored: Callable[[], Awaitable[int]],
        collector: Collector | None,
    ) -> None:
        """`wait_stored` returns once all that is flushed now is stored: the journal's position; or raises PugdError.
        `collector`: None where none runs."""
        self._data = data
        self._store = store
        self._wait_stored = wait_stored
        self._collector = collector
        self._key = data.key()
        self._origin = data.origin()
        self.progress = "waiting until all events are stored"
        """What it is at, in words."""

    async def run(self, *, repair: bool) -> Report:
        """raises PugdError where it cannot be checked: an engine or the collector is away."""
        begun = time.monotonic()
        look = await self._examine()
        found = look.findings
        if found.agree or not repair:
            return Report(found, None, [], [] if found.agree else _advice(found), time.monotonic() - begun)
        done: list[str] = []
        if look.log.damaged or look.log.doubled:
            done += await self._mend_log(look)
            look = await self._examine()
        left = []
        if look.findings.log_whole:
            done += await self._mend_persons(look)
            done += await self._mend_graph(look)
            look = await self._examine()
        if not look.findings.agree:
            left = _advice(look.findings)
        return Report(found, look.findings, done, left, time.monotonic() - begun)

    async def glance(self) -> str:
        """The cheap look of a start: counts, and which ids there are. returns what differs, '' where nothing does.

        cost     two reads of each table: about 3 s at 10 M links
        """
        await self._wait_stored()
        place, entries = (await self._store.query("select max(`order`), countIf(`order` > 0) from links")).rows[0]
        if entries != place:
            return f"the link log has {entries:,} entries in {place:,} places"
        ahead = (await self._store.query("select max(version) from person_of")).rows[0][0]
        if ahead > place:
            await self._wait_stored()  # an entry's rows in person_of come before the entry
            place = max(place, (await self._store.query(_LAST)).rows[0][0])
            if ahead > place:
                return f"person_of has rows of place {ahead:,}, and the link log ends at {place:,}"
        named, mapped = [(await self._store.query(sql, {"place": place}, _FRUGAL)).rows[0] for sql in (_NAMED, _MAPPED)]
        if named != mapped:
            return f"{named[0]:,} ids are linked, and person_of has rows of {mapped[0]:,}"
        if self._collector is not None:
            order = (await self._collector.ask("statistics"))["graph"]["order"]
            if order <= place:
                return f"the graph knows the link log up to {order - 1:,}, and that ends at {place:,}"
        return ""

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _examine(self) -> Look:
        self.progress = "waiting until all events are stored"
        await self._wait_stored()
        held, damage = await self._read_snapshot()
        position = await self._wait_stored()
        ahead = (await self._store.query(_AHEAD, {"place": await self._last()})).rows
        await self._wait_stored()
        last = await self._last()
        # Rows come before their entries: such rows are ahead of the log only if it does not reach them even now.
        ahead = [row for row in ahead if row[2] > last]

        log = Log(self._key)
        order = held.about.order if held is not None else 0
        wrong = ""
        if order == 1 and held is not None and not await _thread(snapshot.holds, log.graph, held.data):
            wrong = "is not what the link log says at its beginning"
        async for rows, until in self._pages(last, order):
            await _thread(log.take, rows, until)
            if held is not None and until == order and not await _thread(snapshot.holds, log.graph, held.data):
                wrong = f"is not what the link log says up to place {order - 1:,}"
        held = None
        if order > last + 1:
            wrong = f"knows the link log up to place {order - 1:,}, and that ends at {last:,}"
            log.lose_until(order)
        if ahead:
            log.lose_until(await _thread(self._journal_order, position) + 1)

        persons = Persons(log)
        self.progress = "comparing person_of"
        for project, count in (await self._store.query(_PROJECTS)).rows:
            for first, end in _slices(count):
                bounds = {"project": project, "first": first, "last": end, "place": last}
                packed = await self._store.query_bytes(_ROWS, bounds, form="RowBinary")
                await _thread(persons.take, array("Q", packed))
        await _thread(persons.finish)
        found = await self._findings(log, persons, last, order, wrong or damage, ahead)
        return Look(found, log, persons, ahead, bool(wrong), position)

    async def _findings(
        self, log: Log, persons: Persons, last: int, order: int, graph: str, ahead: list[tuple[Any, ...]]
    ) -> Findings:
        missing = [one async for one in self._lacking(persons, last, SHOWN)]
        wrong, surplus = list(islice(persons.wrong(), SHOWN)), list(islice(persons.surplus(), SHOWN))
        texts = {actor: text for _, actor, _, text in missing}
        asked = [one.actor for one in (*wrong, *surplus)] + [row[1] for row in ahead[:SHOWN]]
        if asked:
            texts |= dict((await self._store.query(_TEXTS, {"actors": asked})).rows)
        named = agreement.name
        return Findings(
            last=last,
            entries=log.entries,
            lost=log.lost,
            clashing=log.clashing,
            false=log.false,
            twice=log.twice,
            graph=graph,
            graph_order=order,
            agreeing=persons.agreeing,
            missing=Counted(
                persons.missing,
                [f"{named(actor, texts)} of {person_text(person)}" for _, actor, person, _ in missing],
            ),
            wrong=Counted(
                persons.wrong_count,
                [
                    f"{named(one.actor, texts)} has {person_text(one.said)} for {person_text(one.person)}"
                    for one in wrong
                ],
            ),
            surplus=Counted(
                persons.surplus_count,
                [f"{named(one.actor, texts)} has {person_text(one.said)}" for one in surplus],
            ),
            ahead=Counted(len(ahead), [f"{named(row[1], texts)} at place {row[2]:,}" for row in ahead[:SHOWN]]),
        )

    async def _last(self) -> int:
        return int((await self._store.query(_LAST)).rows[0][0])

    async def _pages(self, last: int, stop: int) -> AsyncIterator[tuple[list[tuple[Any, ...]], int]]:
        """The log's entries of the places 1 to `last`, page by page, with where each page ends; one ends at `stop`."""
        first = 1
        while first <= last:
            until = min(first + PAGE_ROWS, last + 1)
            if first < stop < until:
                until = stop
            self.progress = f"replaying the link log: place {first:,} of {last:,}"
            found = await self._store.query(_ENTRIES, {"first": first, "until": until})
            yield found.rows, until
            first = until

    async def _lacking(
        self, persons: Persons, last: int, count: int | None = None
    ) -> AsyncIterator[tuple[int, int, int, str]]:
        """(project, actor, person, id) of linked ids without a row: all, each once, or the first `count`."""
        lacking = persons.lacking()
        left = persons.missing if count is None else min(count, persons.missing)
        first = 1
        while left and first <= last:
            until = min(first + PAGE_ROWS, last + 1)
            rows = (await self._store.query(_ENTRIES, {"first": first, "until": until})).rows
            for one in await _thread(lacking.of, rows):
                if left:
                    left -= 1
                    yield one
            first = until

    async def _read_snapshot(self) -> tuple[Held | None, str]:
        """The graph as the collector holds it now, or left it behind; and what is wrong with its file."""
        damage = ""
        path = self._data.graph_snapshot
        nobody = Graph(self._key)

        def read() -> Held | None:
            try:
                data = snapshot.mapped(path)
            except FileNotFoundError:
                return None
            about = snapshot.about(nobody, data)
            if about.epoch != self._origin.epoch:
                raise snapshot.SnapshotDamaged("graph snapshot: of another journal")
            return Held(data, about)

        held: Held | None = None
        try:
            held = await trio.to_thread.run_sync(read)
        except snapshot.SnapshotDamaged as error:
            why = str(error).partition(": ")[2].partition(";")[0]
            damage = f"the file graph.snapshot was of no use ({why})"
        if self._collector is not None:
            if damage:
                damage += "; the collector has written it anew"
            self.progress = "waiting for the collector's snapshot"
            held = None
            await self._collector.ask("snapshot")
            held = await trio.to_thread.run_sync(read)
        return held, damage

    # -- mending -------------------------------------------------------------------------------------------------------

    async def _mend_log(self, look: Look) -> list[str]:
        """Take entries from the journal again, and surplus copies of entries away. returns what was done."""
        done = []
        doubled = sorted(look.log.doubled - look.log.damaged)
        self.progress = "mending the link log"
        taken = 0
        for some in _batches(doubled):
            copies, before = [], 0
            for place, part, offset in (await self._store.query(_COPIES, {"places": some})).rows:
                if place == before:
                    copies.append((part, offset))
                before = place
            # All at once: a deletion writes the parts anew, under other names.
            await self._store.command(
                "delete from links where (_part, _part_offset) in"
                " arrayZip({parts:Array(String)}, {offsets:Array(UInt64)})",
                {"parts": [part for part, _ in copies], "offsets": [offset for _, offset in copies]},
            )
            taken += len(copies)
        if taken:
            done.append(f"{taken:,} copies of entries were taken out of the link log")
        restored = 0
        if look.log.damaged:
            async for span, places, others in self._in_journal(look.position, look.log.damaged):
                for some in _batches(places):
                    await self._store.command(
                        "delete from links where `order` in {places:Array(UInt64)}", {"places": some}
                    )
                # Kept whole until here: an interruption leaves a hole that the journal fills the next time.
                await self._insert([span], LINKS, self._origin.name, self._origin.epoch, {LINKS.name: others})
                restored += len(places)
        if restored:
            done.append(f"{restored:,} entries of the link log were taken from the journal again")
        return done

    def _journal_order(self, until: int) -> int:
        """The last place of the log that the journal still holds an entry of; 0 where it holds none."""
        reader = Reader(self._data.journal, epoch=self._origin.epoch)
        try:
            return max((int(row[2]) for _, row in reader.rows(0, until, LINK)), default=0)  # type: ignore[call-overload]
        finally:
            reader.close()

    async def _in_journal(self, until: int, wanted: set[int]) -> AsyncIterator[tuple[Span, list[int], array[int]]]:
        """Spans of the journal that hold entries of these places: those places, and where the other entries stand."""
        reader, rows = (Reader(self._data.journal, epoch=self._origin.epoch) for _ in range(2))
        left = set(wanted)
        position = 0

        def look() -> tuple[Span, list[int], array[int]] | None:
            nonlocal position
            while left and (span := reader.read(position, until, SPAN_BYTES)) is not None:
                places, others = [], array("Q")
                for at, row in rows.rows(span.position, span.end, LINK):
                    place = int(row[2])  # type: ignore[call-overload]
                    if place in left:
                        left.remove(place)
                        places.append(place)
                    else:
                        others.append(at)
                position = span.end
                if places:
                    return span, places, others
            return None

        try:
            while (found := await _thread(look)) is not None:
                yield found
        finally:
            reader.close()
            rows.close()

    async def _mend_persons(self, look: Look) -> list[str]:
        """Make person_of what the log says. returns what was done."""
        found, persons, done = look.findings, look.persons, []
        place = found.last
        self.progress = "correcting person_of"
        deleted = 0
        # A row of the very last place cannot be overruled by one of that place; a surplus row by none at all.
        for doomed, first in ((persons.surplus(), 0), (persons.wrong(), place)):
            for some in _batches(one for one in doomed if one.version >= first):
                for project in {one.project for one in some}:
                    actors = [one.actor for one in some if one.project == project]
                    await self._store.command(
                        "delete from person_of where project = {project:UInt32} and actor in {actors:Array(UInt64)}"
                        " and version >= {first:UInt64} and version <= {place:UInt64}",
                        {"project": project, "actors": actors, "first": first, "place": place},
                    )
                deleted += len(some)
        if not look.graph_wrong and found.graph_order:
            # Whoever gives the places out has given none that is later.
            names = ("project", "actor", "version", "collector", "epoch", "position")
            for row in look.ahead:
                await self._store.command(
                    "delete from person_of where project = {project:UInt32} and actor = {actor:UInt64}"
                    " and version = {version:UInt64} and collector = {collector:String} and epoch = {epoch:UInt64}"
                    " and position = {position:UInt64}",
                    dict(zip(names, row, strict=True)),
                )
                deleted += 1
        if deleted:
            done.append(f"{deleted:,} rows were taken out of person_of")

        written = 0
        epoch = secrets.randbits(63)
        begin = 0
        rows: list[MergeRow] = []

        async def write() -> None:
            nonlocal begin, written
            payload = b"".join(map(msgspec.msgpack.encode, rows))
            data = memoryview(record.frame(payload, len(rows), begin))
            span = Span(data, begin, begin + len(data), len(rows))
            await self._insert([span], PERSON_OF, REPAIRER, epoch, {})
            begin, written = span.end, written + len(rows)
            rows.clear()

        for one in persons.wrong():
            rows.append(MergeRow(MERGE, one.project, one.actor, one.person, place))
            if len(rows) == PAGE_ROWS:
                await write()
        if persons.missing:
            async for project, actor, person, _ in self._lacking(persons, place):
                rows.append(MergeRow(MERGE, project, actor, person, place))
                if len(rows) == PAGE_ROWS:
                    await write()
        if rows:
            await write()
        if written:
            done.append(f"{written:,} rows were written to person_of")
        return done

    async def _insert(
        self, spans: list[Span], table: Table, collector: str, epoch: int, skip: dict[str, array[int]]
    ) -> None:
        def build() -> columns.Built:
            return columns.build(spans, (table,), collector=collector, epoch=epoch, skip=skip)

        built = await trio.to_thread.run_sync(build)
        # To rows of other tables it says that it knows no such kind.
        assert not any(fault.kind == table.kind for fault in built.faults), built.faults[:3]
        for block in built.blocks:
            send = f"{REPAIRER}-{secrets.token_hex(8)}"
            await self._store.insert(table.name, block.columns, block.pieces, token=send, query_id=send)

    async def _mend_graph(self, look: Look) -> list[str]:
        """Have the collector make its graph anew; or write its snapshot, where none runs. returns what was done."""
        if self._collector is None:
            if not look.findings.graph:
                return []
            saving = snapshot.Saving(look.log.graph, look.position, self._origin.epoch)
            try:
                await trio.to_thread.run_sync(write_parts, self._data.graph_snapshot, saving.parts())
            finally:
                saving.close()
            return ["the graph's snapshot was written anew from the link log"]
        if not look.graph_wrong:
            return []
        self.progress = "waiting for the collector's new graph"
        before = (await self._collector.ask("snapshot"))["process"]
        deadline = trio.current_time() + COLLECTOR_BACK_S
        with contextlib.suppress(PugdError):  # it may end before its answer has left
            await self._collector.ask("rebuild")
        while True:
            await trio.sleep(0.2)
            try:
                if (await self._collector.ask("snapshot"))["process"] != before:
                    return ["the collector started again and made its graph anew from the link log"]
            except PugdError:
                if trio.current_time() > deadline:
                    raise


async def _thread(work: Callable[..., T], *arguments: object) -> T:
    """In a thread: the process goes on meanwhile."""
    return await trio.to_thread.run_sync(work, *arguments)


def _slices(count: int) -> list[tuple[int, int]]:
    """Ranges of actors that hold about PAGE_ROWS of `count` rows each: actors are hashes, hence spread evenly."""
    number = count // PAGE_ROWS + 1
    bounds = [(at << 64) // number for at in range(number + 1)]
    return [(first, until - 1) for first, until in pairwise(bounds)]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == DELETE_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _advice(found: Findings) -> list[str]:
    """What an operator does about what was found."""
    advice = []
    if not found.log_whole:
        advice += [
            "The link log is damaged. Entries that the journal still holds are taken from there by --repair. While",
            "others are missing, nobody's person is changed: look into quarantine/, or restore the table `links` from",
            "a backup.",
        ]
    elif not found.agree:
        advice.append("`pugd check identity --repair` makes the others what the link log says.")
    return advice
