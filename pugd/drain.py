"""The way down: journal → columns → store, every row once, over any crash of either side.

One span of whole records at a time, from `stored` to `flushed`; when its rows are in ClickHouse `stored` moves to its
end (file, fsync, rename, fsync), so what ClickHouse may hold beyond `stored` is at most one span. Tables in an order in
which a read never finds less identity than events: person_of, links, traits, events, and events by actor. Whatever is
there is the next span, up to SPAN_BYTES_MAX; little waits `interval_ms` for company, unless a question asks
(`wait_stored`).

Exactly once rests on reading, not on deduplication tokens: a crash inside an insert's commit leaves a token recorded
and rows missing, and a block is not atomic over partitions. So:

    clean reply                         → stored moves on
    start, or any other outcome         → 1. wait until no insert of ours runs any more
                                          2. read which positions of the span are there, table by table, and
                                             have ClickHouse sync them: a part is visible before it is synced
                                          3. send exactly those missing, under a token never used before
                                          4. read again: each position once; only then stored moves on

An event may come again after the collector has forgotten its id. Rows of events so old are marked, make blocks of
their own, and are looked up before they are sent (store/copies.py); all others cost nothing. They are sent last of
their table, so that what stands before them in the span is found too.

ClickHouse away: for ever again, with growing pauses, sooner where somebody asks; the journal grows meanwhile and its
own bounds push back. A block refused for its data is halved until the row is found; that row goes to quarantine/, the
rest goes on. A row that the encoder cannot read goes there at once. Nothing that was acked is ever dropped without
being kept in a file.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import trio

from pugd import quarantine
from pugd.columns import block as columns
from pugd.data import DataDirectory, write_whole
from pugd.errors import JournalError, StoreError, StoreRefusedError, StoreUnavailableError
from pugd.journal import files, record
from pugd.journal.reader import FlushedPage, Reader, Span
from pugd.quarantine import Quarantined
from pugd.store import copies
from pugd.store.clickhouse import Store
from pugd.tables import (
    EVENTS,
    EVENTS_BY_ACTOR,
    LINKS,
    OLD_EVENTS,
    OLD_LINKS,
    OLD_TRAITS,
    PERSON_OF,
    TRAITS,
    Table,
)

log = logging.getLogger(__name__)

ORDER = (PERSON_OF, LINKS, TRAITS, EVENTS, EVENTS_BY_ACTOR)
STEPS = (PERSON_OF, LINKS, OLD_LINKS, TRAITS, OLD_TRAITS, EVENTS, OLD_EVENTS)
"""The same tables, those twice whose rows may have to be looked up first. EVENTS_BY_ACTOR follows from what is in
EVENTS then."""

SPAN_BYTES_MAX = 32 << 20
"""Journal bytes of one step: about 60 000 web events, one insert of them."""
SOON_BYTES = 4 << 20
"""So much is worth an insert at once."""
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.25, 15.0
"""Between attempts while ClickHouse is away."""
PAUSE_SECONDS_ASKED = 1.0
"""… while somebody waits for what is to be stored."""

_ORIGIN = "collector = {collector:String} and epoch = {epoch:UInt64}"
# Table names are our own constants; every value is bound.
_PRESENT = {
    table.name: f"select position from {table.name} where {_ORIGIN} "  # noqa: S608
    "and position >= {first:UInt64} and position < {until:UInt64} order by position"
    for table in ORDER
}
_NAMES = ", ".join(column.name for column in EVENTS_BY_ACTOR.columns)
_COPY = (
    f"insert into {EVENTS_BY_ACTOR.name} ({_NAMES}) "  # noqa: S608
    f"select {_NAMES} from {EVENTS.name} where {_ORIGIN} "
    "and position >= {first:UInt64} and position < {until:UInt64} and position not in ("
    f"select position from {EVENTS_BY_ACTOR.name} where {_ORIGIN} "
    "and position >= {first:UInt64} and position < {until:UInt64}) order by position limit 1 by position"
)
_LAST = {
    table.name: f"select count(), max(position) from {table.name} where {_ORIGIN} "  # noqa: S608
    "and position >= {first:UInt64}"
    for table in ORDER
}


class DrainStatistics(msgspec.Struct, frozen=True):
    """Since the start, but for the positions."""

    stored: int
    flushed: int
    stored_until_ms: int
    away: bool
    """ClickHouse did not take the last thing it was sent."""
    last_error: str
    spans: int
    rows: int
    blocks: int
    recovered_rows: int
    """Found to be in ClickHouse already when their insert's outcome was unclear."""
    doubled_rows: int
    """Found more than once: never seen; a fault of ours or of ClickHouse's."""
    looked_up_rows: int
    """Of events older than the collector's set of recent ids reaches."""
    duplicates: int
    """Rows of those that are not stored, since they were stored before."""
    reused_rows: int
    """Rows of those in quarantine, whose event id was used before under another name."""
    quarantined: int
    retries: int
    build_seconds: float
    look_up_seconds: float
    insert_seconds: float


class Compared(msgspec.Struct, frozen=True):
    """A stretch of the stored journal beside ClickHouse."""

    end: int
    """Where to compare on."""
    last: bool
    rows: dict[str, int]
    """By table: what the journal holds, but for what is in quarantine."""
    missing: dict[str, int]
    """… and ClickHouse does not."""


class Drain:
    """Moves one journal into one store. `run` it in one task; anyone may `wait_stored`."""

    def __init__(
        self,
        data: DataDirectory,
        store: Store,
        *,
        interval_ms: int = 500,
        rows_max: int = columns.ROWS_MAX,
        span_bytes_max: int = SPAN_BYTES_MAX,
    ) -> None:
        origin = data.origin()
        self._data = data
        self._store = store
        self._collector, self._epoch = origin.name, origin.epoch
        self._interval = interval_ms / 1000
        self._rows_max = rows_max
        self._span_bytes_max = span_bytes_max
        self._reader = Reader(data.journal, epoch=origin.epoch)
        self._page: FlushedPage | None = None
        self._query_prefix = f"pugd-{self._epoch}-{self._collector}-"
        self._sends = 0
        self._process = secrets.token_hex(8)
        self.stored, self._stored_until_ms = read_stored(data, self._epoch)
        self._unclear_until = columns.POSITION_END
        """Rows before this position may be in ClickHouse already; POSITION_END: not looked yet."""
        self._unclear = True
        """An insert of ours may be running still."""
        self._set_aside = self._kept_aside()
        """Positions from `stored` on that are in quarantine, or were when this process last stood before them."""
        self._step = trio.Lock()
        """Held while rows are sent: by a step, or by an operator's command."""
        self._waiting: list[int] = []
        """What is waited for."""
        self._wake = trio.Event()
        self._moved = trio.Event()
        self._away = False
        self._last_error = ""
        self._spans = self._rows = self._blocks = self._recovered = self._doubled = self._retries = 0
        self._quarantined = self._looked_up = self._duplicates = self._reused = 0
        self._build_seconds = self._look_up_seconds = self._insert_seconds = 0.0

    @property
    def flushed(self) -> int:
        """What the collector has on disk, as far as it can be seen from here; `stored` where it never ran."""
        if self._page is None:
            try:
                self._page = FlushedPage(self._data.flushed)
            except JournalError:
                return self.stored
        if self._page.epoch != self._epoch:
            return self.stored
        return self._page.position

    @property
    def stored_until_ms(self) -> int:
        """Everything acked before this time (ms since 1970) is in ClickHouse; 0: unknown."""
        return self._stored_until_ms

    def statistics(self) -> DrainStatistics:
        return DrainStatistics(
            stored=self.stored,
            flushed=self.flushed,
            stored_until_ms=self._stored_until_ms,
            away=self._away,
            last_error=self._last_error,
            spans=self._spans,
            rows=self._rows,
            blocks=self._blocks,
            recovered_rows=self._recovered,
            doubled_rows=self._doubled,
            looked_up_rows=self._looked_up,
            duplicates=self._duplicates,
            reused_rows=self._reused,
            quarantined=self._quarantined,
            retries=self._retries,
            build_seconds=self._build_seconds,
            look_up_seconds=self._look_up_seconds,
            insert_seconds=self._insert_seconds,
        )

    @property
    def _asked(self) -> bool:
        return max(self._waiting, default=0) > self.stored

    async def wait_stored(self, position: int, deadline: float) -> bool:
        """Until everything before `position` is in ClickHouse, or until `deadline` (Trio's clock).

        Drains at once, whatever the interval says. returns whether it is.
        """
        if self.stored < position:
            self._waiting.append(position)
            self._wake.set()
            try:
                with trio.move_on_at(deadline):
                    while self.stored < position:
                        await self._moved.wait()
            finally:
                self._waiting.remove(position)
        return self.stored >= position

    async def run(self) -> None:
        """Drain until cancelled. raises JournalError where the journal cannot be read; never for ClickHouse or a full
        disk, which may come right by themselves."""
        pause = PAUSE_SECONDS_MIN
        last = -self._interval
        while True:
            try:
                await self._store.prepare()
                if self._unclear_until == columns.POSITION_END:
                    await self._look()
                now = trio.current_time()
                asked_ms = time.time_ns() // 1_000_000
                flushed = self.flushed
                if flushed <= self.stored:
                    self._stored_until_ms = asked_ms
                    await self._sleep(self._interval)
                elif not self._asked and flushed - self.stored < SOON_BYTES and now < last + self._interval:
                    await self._sleep(last + self._interval - now)
                else:
                    async with self._step:
                        await self._drain(flushed, asked_ms)
                    last = now
                    pause = PAUSE_SECONDS_MIN
                self._away = False
            except (StoreError, OSError) as error:
                if str(error) != self._last_error or not self._away:
                    level = logging.WARNING if isinstance(error, StoreUnavailableError) else logging.ERROR
                    log.log(level, "events wait in the journal, since they cannot be stored now: %s", error)
                self._away, self._last_error = True, str(error)
                self._retries += 1
                await self._wait_away(pause * random.uniform(0.5, 1.0))  # noqa: S311 — jitter, no secret
                pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _sleep(self, seconds: float) -> None:
        """Until asked for something, at most `seconds`."""
        if self._asked:
            # For what is not on disk yet: look again soon.
            seconds = min(seconds, 0.01)
        self._wake = trio.Event()
        with trio.move_on_after(max(0.0, seconds)):
            await self._wake.wait()

    async def _wait_away(self, seconds: float) -> None:
        """Until it is time to try again."""
        await trio.sleep(min(seconds, PAUSE_SECONDS_ASKED))
        self._wake = trio.Event()
        if seconds > PAUSE_SECONDS_ASKED and not self._asked:
            with trio.move_on_after(seconds - PAUSE_SECONDS_ASKED):
                await self._wake.wait()

    async def _look(self) -> None:
        """After a start: how far beyond `stored` ClickHouse may hold rows of this journal."""
        await self._settle()
        until = self.stored
        for table in ORDER:
            values = self._bound(self.stored)
            count, last = (await self._store.drain_query(_LAST[table.name], values)).rows[0]
            if count:
                until = max(until, last + 1)
        self._unclear_until = until

    async def _settle(self) -> None:
        """Make sure that no insert of ours is running any more.

        raises  StoreUnavailableError where one still is
        """
        if self._unclear:
            if not await self._store.ended(self._query_prefix):
                raise StoreUnavailableError("an earlier insert is still running: waiting for its end")
            self._unclear = False

    async def _drain(self, until: int, asked_ms: int) -> None:
        """One step: the next span, into every table, then `stored` moves to its end."""
        span = await trio.to_thread.run_sync(self._reader.read, self.stored, until, self._span_bytes_max)
        if span is None:
            return
        await self._settle()
        unclear = span.position < self._unclear_until
        present: dict[str, array[int]] = {}
        if unclear:
            for table in ORDER:
                present[table.name] = await self._present(table, span)
            if any(present.values()):
                # Their insert never told that it synced them.
                await self._store.sync()
        built = await self._build(span, STEPS, present)
        for fault in built.faults:
            if fault.position not in self._set_aside:
                name = next((table.name for table in STEPS if table.kind == fault.kind), "")
                field = "" if fault.field is None else f", field {fault.field}"
                await self._quarantine(fault.position, name, f"{fault.reason}{field}", fault.raw)
        # From here until `stored` has moved, rows may be in ClickHouse that `stored` does not tell of.
        self._unclear_until = max(self._unclear_until, span.end)
        sent: dict[str, list[int]] = {table.name: [] for table in ORDER}
        if unclear:
            await self._copy(span)  # first: old events are looked up there
        for table in STEPS:
            blocks = [block for block in built.blocks if block.table is table]
            if blocks and table in copies.TABLES:
                blocks = await self._without_copies(span, table, blocks, present)
            whole = True
            for block in blocks:
                positions = await self._send(span, block)
                sent[table.name] += positions
                if len(positions) < block.rows:
                    whole = False
                elif table.name == EVENTS.name and not unclear:
                    await self._insert(block.narrowed(EVENTS_BY_ACTOR))
            if table.name == EVENTS.name and blocks and (unclear or not whole):
                await self._copy(span)
        if unclear:
            sent[EVENTS_BY_ACTOR.name] = [*present[EVENTS.name], *sent[EVENTS.name]]
            for table in ORDER:
                await self._verify(table, span, present[table.name], sent[table.name])
        self._rows += sum(len(there) for name, there in sent.items() if name != EVENTS_BY_ACTOR.name)
        self._recovered += sum(len(there) for name, there in present.items() if name != EVENTS_BY_ACTOR.name)
        self._spans += 1
        await self._advance(span.end, asked_ms if span.end >= until else self._stored_until_ms)

    async def _build(self, span: Span, tables: tuple[Table, ...], left_out: dict[str, array[int]]) -> columns.Built:
        if self._set_aside:
            names = {table.name for table in tables}
            left_out = {name: array("Q", sorted({*left_out.get(name, ()), *self._set_aside})) for name in names}

        def build() -> columns.Built:
            return columns.build(
                [span], tables, collector=self._collector, epoch=self._epoch, skip=left_out, rows_max=self._rows_max
            )

        begun = time.monotonic()
        built = await trio.to_thread.run_sync(build)
        self._build_seconds += time.monotonic() - begun
        return built

    async def _judge(self, span: Span, table: Table, positions: Sequence[int]) -> copies.Judged:
        """Which of these rows of old events were stored from another time they were sent."""

        def read() -> list[copies.Old]:
            read = (copies.read(table, position, columns.row_at([span], position)) for position in positions)
            return [row for row in read if row is not None]

        rows = await trio.to_thread.run_sync(read)
        found: list[tuple[object, ...]] = []
        origin = {"collector": self._collector, "epoch": self._epoch, "end": span.end}
        for sql, values in copies.questions(table, rows):
            found += (await self._store.drain_query(sql, values | origin)).rows
        return copies.judge(rows, found)

    async def _without_copies(
        self, span: Span, table: Table, blocks: list[columns.Block], present: dict[str, array[int]]
    ) -> list[columns.Block]:
        """The blocks of old events' rows, but for rows that ClickHouse holds from another time they were sent."""
        begun = time.monotonic()
        positions = sorted(position for block in blocks for position in block.positions)
        judged = await self._judge(span, table, positions)
        for position in judged.reused:
            why = "event_id_reused: its event id was used before, under another name"
            await self._quarantine(position, table.name, why, columns.row_at([span], position))
        self._looked_up += len(positions)
        self._duplicates += len(judged.copies)
        self._reused += len(judged.reused)
        self._look_up_seconds += time.monotonic() - begun
        if not judged.copies and not judged.reused:
            return blocks
        left_out = array("Q", sorted({*present.get(table.name, ()), *judged.copies}))
        return (await self._build(span, (table,), {table.name: left_out})).blocks

    async def _send(self, span: Span, block: columns.Block) -> list[int]:
        """Insert a block. returns the positions that are in; the others of the block are in quarantine.

        raises  StoreError: its outcome is unclear
        """
        try:
            await self._insert(block)
        except StoreRefusedError as error:
            log.warning("ClickHouse refused %d rows of %s: looking for the one at fault", block.rows, block.table.name)
            return await self._halve(span, block.table, list(block.positions), error)
        return list(block.positions)

    async def _insert(self, block: columns.Block) -> None:
        self._sends += 1
        send = f"{self._process}-{self._sends}"
        name = block.table.name
        token = f"{self._collector}/{self._epoch}/{name}/{block.position}-{block.position_last}/{send}"
        begun = time.monotonic()
        self._unclear = True
        await self._store.insert(name, block.columns, block.pieces, token=token, query_id=f"{self._query_prefix}{send}")
        self._unclear = False
        self._insert_seconds += time.monotonic() - begun
        self._blocks += 1

    async def _copy(self, span: Span, row: Quarantined | None = None) -> None:
        """Have ClickHouse copy the span's events that are in EVENTS alone; what the journal says may have rotted since.
        `row`: whose origin counts.

        raises  StoreError: its outcome is unclear
        """
        self._sends += 1
        self._unclear = True
        send = f"{self._process}-{self._sends}"
        values = self._range(span, row)
        token = f"{values['collector']}/{values['epoch']}/copy/{send}"
        await self._store.copy(_COPY, values, token=token, query_id=f"{self._query_prefix}{send}")
        self._unclear = False

    async def _halve(self, span: Span, table: Table, positions: list[int], refused: StoreError) -> list[int]:
        """Send what of `positions` can be sent; each row refused by itself goes to quarantine."""
        await self._settle()
        there = set(await self._present(table, span))
        if there:
            await self._store.sync()
        missing = [position for position in positions if position not in there]
        if len(missing) == 1 and len(positions) == 1:
            raw = columns.row_at([span], missing[0])
            await self._quarantine(missing[0], table.name, str(refused), raw)
            return []
        stored = [position for position in positions if position in there]
        middle = len(missing) // 2
        for part in (missing[:middle], missing[middle:]):
            if part:
                stored += await self._send_part(span, table, part)
        return sorted(stored)

    async def _send_part(self, span: Span, table: Table, positions: list[int]) -> list[int]:
        stored: list[int] = []
        wanted = set(positions)
        others = array("Q", (p for p in await self._every(span, table) if p not in wanted))
        built = await self._build(span, (table,), {table.name: others})
        for block in built.blocks:
            try:
                await self._insert(block)
                stored += block.positions
            except StoreRefusedError as error:
                stored += await self._halve(span, table, list(block.positions), error)
        return stored

    async def _every(self, span: Span, table: Table) -> list[int]:
        """The positions of a table's rows in a span."""
        built = await self._build(span, (table,), {})
        return sorted(position for block in built.blocks for position in block.positions)

    async def _present(self, table: Table, span: Span, row: Quarantined | None = None) -> array[int]:
        """Positions of the span's rows that ClickHouse holds, ascending, each once. `row`: whose origin counts instead
        of this journal's."""
        values = self._range(span, row)
        found = array("Q", (row[0] for row in (await self._store.drain_query(_PRESENT[table.name], values)).rows))
        doubled = [first for first, second in pairwise(found) if first == second]
        if doubled:
            self._doubled += len(doubled)
            log.error("ClickHouse holds %d rows of %s twice, the first at %d", len(doubled), table.name, doubled[0])
            found = array("Q", sorted(set(found)))
        return found

    def _range(self, span: Span, row: Quarantined | None) -> dict[str, object]:
        values = self._bound(span.position) | {"until": span.end}
        return values if row is None else values | {"collector": row.collector, "epoch": row.epoch}

    async def _verify(
        self, table: Table, span: Span, before: Sequence[int], sent: Sequence[int], row: Quarantined | None = None
    ) -> None:
        """raises StoreUnavailableError where ClickHouse does not hold exactly what it should: the span is done
        again."""
        there = await self._present(table, span, row)
        expected = sorted({*before, *sent})
        if list(there) != expected:
            missing = len(set(expected) - set(there))
            raise StoreUnavailableError(f"{missing} rows of {table.name} are not there after their insert: once more")

    async def _quarantine(self, position: int, table: str, error: str, raw: bytes) -> None:
        row = Quarantined(self._collector, self._epoch, position, table, error[:2000], raw)
        await trio.to_thread.run_sync(quarantine.keep, self._data.quarantine, row)
        log.warning(
            "a row of %s at %d cannot be stored and is kept in quarantine/: %s", table or "no table", position, error
        )
        self._quarantined += 1
        self._set_aside.append(position)
        self._set_aside.sort()

    def _kept_aside(self) -> list[int]:
        return sorted(
            row.position
            for row in quarantine.kept(self._data.quarantine)
            if row.epoch == self._epoch and row.position >= self.stored
        )

    # ---- what an operator asks ----

    async def put_back(self, position: int) -> str:
        """Send the row that quarantine keeps at `position` again, once, and let go of it there.

        returns  '' when it is in ClickHouse, or its event is since it was sent again; else why it stays in quarantine
        raises   StoreError: its outcome is unclear, and it stays; asking again reads first what is there
        """
        async with self._step:
            row = quarantine.load(quarantine.path_of(self._data.quarantine, position))
            if row is None:
                return "there is no such row in quarantine"
            count = columns.row_count(row.raw)
            if not count:
                return "it is damaged: no whole row"
            await self._store.prepare()
            await self._settle()
            # As a record that begins where one would, so that its rows lie at their own positions.
            begin = position - record.HEADER_BYTES
            framed = record.frame(row.raw, count, begin)
            span = Span(memoryview(framed), begin, begin + len(framed), count)
            before = {table.name: await self._present(table, span, row) for table in ORDER}
            if any(before.values()):
                await self._store.sync()
            built = columns.build([span], STEPS, collector=row.collector, epoch=row.epoch, skip=before)
            if built.faults:
                return built.faults[0].reason
            if elsewhere := await self._elsewhere(built, span, row):
                left_out = {name: array("Q", sorted({*there, *elsewhere})) for name, there in before.items()}
                built = columns.build([span], STEPS, collector=row.collector, epoch=row.epoch, skip=left_out)
                log.info("the event at %d was sent again meanwhile, and stored then", position)
            sent: dict[str, list[int]] = {table.name: [] for table in ORDER}
            # Whatever comes of it: a step over this position reads what is there first.
            self._unclear_until = max(self._unclear_until, span.end)
            for table in STEPS:
                for block in built.blocks:
                    if block.table is table:
                        try:
                            await self._insert(block)
                        except StoreRefusedError as error:
                            return str(error)
                        sent[table.name] += block.positions
            await self._copy(span, row)
            sent[EVENTS_BY_ACTOR.name] = [*before[EVENTS.name], *sent[EVENTS.name]]
            for table in ORDER:
                await self._verify(table, span, before[table.name], sent[table.name], row)
            await trio.to_thread.run_sync(quarantine.drop, self._data.quarantine, position)
            log.info("the row at %d is in ClickHouse and no longer in quarantine", position)
            return ""

    async def _elsewhere(self, built: columns.Built, span: Span, row: Quarantined) -> array[int]:
        """Of the rows made of a row in quarantine, those whose events were sent another time too, and stored then."""
        found = array("Q")
        origin = {"collector": row.collector, "epoch": row.epoch, "end": columns.POSITION_END}
        for block in built.blocks:
            for at in block.positions if block.table.name in copies.NAMES else ():
                # As if behind all that is stored: whatever is found stands before it.
                one = copies.read(block.table, columns.POSITION_END, columns.row_at([span], at))
                # In the table itself, which takes seconds: the other may lack what an unclear step of `run` has stored.
                for sql, values in copies.questions(block.table, [one] if one else [], block.table.name):
                    answer = (await self._store.drain_query(sql, values | origin)).rows
                    if one and copies.judge([one], answer).copies:
                        found.append(at)
        return found

    async def go_back(self, position: int) -> int:
        """Compare the journal with ClickHouse again from `position` on, and send what is missing there: for a
        ClickHouse that has lost rows, such as one restored from a backup. `stored` moves back, and comes again.

        returns  where it goes on from: the oldest position that the journal still holds, if that is later
        """
        async with self._step:
            starts = files.starts(os.listdir(self._data.journal))
            position = max(position, starts[0] if starts else self.stored)
            if position < self.stored:
                log.info("comparing the journal with ClickHouse again, from %d on", position)
                # First in memory: should the file not be written, more is compared than need be, and nothing is lost.
                self._unclear_until = columns.POSITION_END
                await self._advance(position, 0)
                self._set_aside = self._kept_aside()
                self._wake.set()
            return position

    async def compare(self, position: int) -> Compared:
        """One span of what is stored, from `position` on, beside what ClickHouse holds of it. Changes nothing.

        raises  StoreError, JournalError
        """
        until = self.stored
        async with self._step:
            await self._store.prepare()
            span = await trio.to_thread.run_sync(self._reader.read, position, until, self._span_bytes_max)
            if span is None:
                return Compared(until, True, {}, {})
            aside = array(
                "Q", sorted(row.position for row in quarantine.rows(self._data.quarantine) if row.epoch == self._epoch)
            )
            built = await self._build(span, STEPS, {table.name: aside for table in ORDER})
            rows: Counter[str] = Counter()
            missing: Counter[str] = Counter()
            wanted: set[int] = set()
            for table in STEPS:
                held = set(await self._present(table, span))
                for block in built.blocks:
                    if block.table is table:
                        away = [at for at in block.positions if at not in held]
                        if away and table in copies.TABLES:
                            left_out = set((await self._judge(span, table, away)).copies)
                            away = [at for at in away if at not in left_out]
                            rows[table.name] -= len(left_out)
                        rows[table.name] += block.rows
                        missing[table.name] += len(away)
                        if table.name == EVENTS.name:
                            wanted |= held.intersection(block.positions).union(away)
            rows[EVENTS_BY_ACTOR.name] = len(wanted)
            missing[EVENTS_BY_ACTOR.name] = len(wanted.difference(await self._present(EVENTS_BY_ACTOR, span)))
            return Compared(span.end, span.end >= until, dict(rows), dict(missing))

    async def _advance(self, position: int, until_ms: int) -> None:
        text = f"{position} {self._epoch} {until_ms}\n".encode()
        await trio.to_thread.run_sync(write_whole, self._data.stored, text)
        self.stored, self._stored_until_ms = position, until_ms
        self._set_aside = [aside for aside in self._set_aside if aside >= position]
        self._moved.set()
        self._moved = trio.Event()

    def _bound(self, first: int) -> dict[str, object]:
        return {"collector": self._collector, "epoch": self._epoch, "first": first}


def read_stored(data: DataDirectory, epoch: int) -> tuple[int, int]:
    """Position and time in DATA/stored (`position epoch until_ms`); zeros where it is of another epoch or missing: then
    all of the journal that is left is looked at again, which costs time and nothing else.

    raises  JournalError where it is damaged
    """
    try:
        words = [int(word) for word in data.stored.read_text().split()]
    except FileNotFoundError:
        return 0, 0
    except ValueError:
        words = []
    if len(words) != 3:
        raise JournalError(
            f"{data.stored} is damaged: delete it, and the journal will be compared with ClickHouse anew"
        )
    return (words[0], words[2]) if words[1] == epoch else (0, 0)
