"""After an outage: how fast the drain catches up, beside ClickHouse taking the same blocks from files; events go on.

    python bench/bench_catch_up.py [--events 20000000] [--slice 1000000] [--rate 2000]

A real collector, alone, takes `--events` web events in batches of 100, as fast as they come: that is what an outage of
hours leaves in the journal. Then this process does the keeper's work, on both cores, in turns over slices of it:

    drain   the drain as it is: reads, checks, builds, inserts, moves `stored` on
    files   the same blocks, built beforehand, each in a file of its own, inserted one by one by the same engine with
            the same settings into a second database (`insert … from infile`); also all of a slice as one statement

Merges of both go on in the background of both. Meanwhile a client sends `--rate` events a second to the collector and
waits for each ack. At the end the rest is drained and counted in ClickHouse: every event acked is there, once.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import trio

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root / "tests"), str(root), str(root / "bench")]

import load  # noqa: E402
from bench_whole import flushed_position, spread  # noqa: E402
from live.daemon import WRITE_KEY, Daemon, http_request  # noqa: E402

from pugd.columns.block import build  # noqa: E402
from pugd.data import DataDirectory  # noqa: E402
from pugd.drain import SPAN_BYTES_MAX, STEPS, Drain  # noqa: E402
from pugd.journal.reader import Reader  # noqa: E402
from pugd.store.clickhouse import INSERT_SETTINGS, Store  # noqa: E402
from pugd.tables import EVENTS, EVENTS_BY_ACTOR  # noqa: E402

GOAL = 0.8
BATCH = 100
PEER = "peer"
"""The second database."""
INGEST_ROUND_S = 5


class Bounded(Drain):
    """A drain that takes part of the journal for all of it."""

    limit = 0

    @property
    def flushed(self) -> int:
        return min(self.limit, super().flushed)


class Client(threading.Thread):
    """Sends batches at a steady rate and waits for each ack."""

    def __init__(self, daemon: Daemon, rate: int) -> None:
        super().__init__(daemon=True)
        self.port, self.rate = daemon.port, rate
        self.stopped = threading.Event()
        self.acked = self.refused = self.resets = 0
        self.seconds: list[float] = []

    def run(self) -> None:
        traffic = load.Traffic(7)
        head = {
            "Authorization": "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        due, turn = time.monotonic(), 0
        while not self.stopped.is_set():
            turn += 1
            messages = [traffic.event(index) for index in range(BATCH)]
            body = load.compact({"batch": messages, "sentAt": traffic.now})
            # Ids that no run of wrk writes: those are of 4 and 8 hex digits.
            body = body.replace(load.ID.encode(), b"z%011d" % turn)
            begun = time.monotonic()
            try:
                connection.request("POST", load.PATH["batch"], body, head)
                answer = connection.getresponse()
                answer.read()
            except OSError:
                connection.close()
                self.resets += 1
                continue
            self.seconds.append(time.monotonic() - begun)
            if answer.status == 200:
                self.acked += BATCH
            else:
                self.refused += 1
            due += BATCH / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
        connection.close()


def wait_collector(daemon: Daemon) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if http_request(daemon.port, "GET", "/health/ready").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"no collector:\n{daemon.said()}")


def fill(daemon: Daemon, directory: Path, events: int) -> int:
    """Let the collector take that many. returns how many were acked"""
    templates = directory / "templates"
    load.write_templates(templates, "batch", "127.0.0.1", WRITE_KEY, BATCH)
    acked, begun = 0, time.monotonic()
    while acked < events:
        result = load.run("batch", "127.0.0.1", daemon.port, templates, seconds=INGEST_ROUND_S, batch=BATCH)
        assert not result.refused, f"{result.refused} requests refused: is the disk full?"
        acked += result.acked
    print(f"outage: {acked:,} events acked, {acked / (time.monotonic() - begun) / 1000:.0f} k/s", flush=True)
    return acked


class Slice:
    """A stretch of the journal, and its blocks in files."""

    def __init__(self, reader: Reader, origin: object, position: int, until: int, rows: int, directory: Path) -> None:
        self.files: list[tuple[str, list[str], Path]] = []
        self.rows = 0
        self.end = position
        while self.rows < rows and (span := reader.read(self.end, until, SPAN_BYTES_MAX)) is not None:
            built = build([span], STEPS, collector=origin.name, epoch=origin.epoch)  # type: ignore[attr-defined]
            for block in built.blocks:
                same = [block.narrowed(EVENTS_BY_ACTOR)] if block.table.name == EVENTS.name else []
                for each in (block, *same):
                    path = directory / f"{len(self.files)}.native"
                    path.write_bytes(each.data)
                    self.files.append((each.table.name, each.columns, path))
                self.rows += block.rows
            self.end = span.end


def statements(piece: Slice, each: bool) -> Iterator[str]:
    """The inserts of its files: one each, or one for all of a table."""
    settings = ", ".join(f"{name} = {value}" for name, value in INSERT_SETTINGS.items())
    tables: dict[str, tuple[list[str], Path]] = {}
    for number, (table, columns, path) in enumerate(piece.files):
        names = ", ".join(f"`{column}`" for column in columns)
        if each:
            token = f"insert_deduplication_token = '{piece.end}-{number}'"
            yield (
                f"insert into {PEER}.{table} ({names}) from infile '{path}' settings {settings}, {token} format Native"
            )
        else:
            whole = path.with_name(f"{table}.whole")
            with whole.open("wb" if table not in tables else "ab") as file:
                file.write(path.read_bytes())
            tables[table] = columns, whole
    for table, (columns, path) in tables.items():
        names = ", ".join(f"`{column}`" for column in columns)
        yield f"insert into {PEER}.{table} ({names}) from infile '{path}' settings {settings} format Native"


async def take_files(store: Store, piece: Slice, each: bool = True) -> float:
    """returns how long it took, s"""
    ready = list(statements(piece, each))
    client = store._drain
    begun = time.monotonic()
    for sql in ready:
        await trio.to_thread.run_sync(client.command, sql)
    return time.monotonic() - begun


async def take_drain(drain: Bounded, piece: Slice) -> float:
    begun = time.monotonic()
    drain.limit = piece.end
    assert await drain.wait_stored(piece.end, trio.current_time() + 600), drain.statistics().last_error
    return time.monotonic() - begun


async def catch_up(daemon: Daemon, directory: Path, given: argparse.Namespace, outage: int, client: Client) -> None:
    data = DataDirectory(daemon.data)
    store, peer = Store(directory=daemon.data), Store(directory=daemon.data)
    peer.database = PEER
    await store.prepare()
    await peer.prepare()
    drain = Bounded(data, store)
    drain.limit = drain.stored
    reader = Reader(data.journal, epoch=data.origin().epoch)
    blocks = directory / "blocks"
    blocks.mkdir()
    backlog = flushed_position(daemon.data)
    ours: list[float] = []
    theirs: list[float] = []
    at_once: list[float] = []
    turn = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.run)
        while True:
            piece = Slice(reader, data.origin(), drain.stored, backlog, given.slice, blocks)
            if piece.rows < given.slice / 2:
                break
            before = drain.statistics()
            turns = ("drain", "files", "whole") if turn % 2 else ("files", "whole", "drain")
            for kind in turns:
                if kind == "drain":
                    ours.append(piece.rows / await take_drain(drain, piece))
                elif kind == "files":
                    theirs.append(piece.rows / await take_files(peer, piece))
                elif turn < given.whole:
                    at_once.append(piece.rows / await take_files(peer, piece, each=False))
            after = drain.statistics()
            turn += 1
            print(
                f"{turn:3}  drain {ours[-1] / 1000:6.1f} k/s   files {theirs[-1] / 1000:6.1f} k/s   "
                f"{ours[-1] / theirs[-1]:.2f}   of it {after.build_seconds - before.build_seconds:.2f} s to build, "
                f"{after.insert_seconds - before.insert_seconds:.2f} s to insert",
                flush=True,
            )
        client.stopped.set()
        client.join()
        begun, left = time.monotonic(), flushed_position(daemon.data) - drain.stored
        drain.limit = flushed_position(daemon.data)
        assert await drain.wait_stored(drain.limit, trio.current_time() + 600)
        print(f"the rest, {left / 1e6:.0f} MB: {time.monotonic() - begun:.1f} s")
        nursery.cancel_scope.cancel()
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(f"drain  {spread([one / 1000 for one in ours], 1)} k/s")
    print(f"files  {spread([one / 1000 for one in theirs], 1)} k/s, a statement a block")
    if at_once:
        print(f"       {spread([one / 1000 for one in at_once], 1)} k/s, one statement for a slice")
    print(f"ratio  {spread(ratios)}, turn by turn; goal ≥ {GOAL}")
    took = sorted(client.seconds)
    print(
        f"meanwhile {client.acked:,} events acked, {client.refused} requests refused, {client.resets} resets; "
        f"a batch's ack p50 {statistics.median(took) * 1000:.1f} ms, p99 {took[len(took) * 99 // 100] * 1000:.1f} ms"
    )
    [(count, distinct)] = (await store.query("select count(), uniqExact(event_id) from events")).rows
    acked = outage + client.acked
    # wrk leaves at most one request a connection under way at the end of a run.
    more = 64 * BATCH * (1 + outage // (INGEST_ROUND_S * 50_000))
    assert count == distinct, f"{count:,} stored, {distinct:,} distinct"
    assert acked <= count <= acked + more, f"{acked:,} acked, {count:,} stored"
    print(f"stored: {count:,}, each once; {acked:,} acked")
    await peer.close()
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--slice", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=2000, help="events a second meanwhile")
    parser.add_argument("--whole", type=int, default=2, help="turns in which a slice is also taken as one statement")
    parser.add_argument("--directory", help="where to put everything; a temporary one otherwise")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.directory) as directory:
        daemon = Daemon(Path(directory), PUGD_ROLES="collector", PUGD_JOURNAL_BYTES_MAX=str(256 << 30))
        try:
            daemon.launch()
            wait_collector(daemon)
            outage = fill(daemon, Path(directory), given.events)
            client = Client(daemon, given.rate)
            client.start()
            trio.run(catch_up, daemon, Path(directory), given, outage, client)
            assert daemon.stop() == 0, daemon.said()
        finally:
            daemon.destroy()


if __name__ == "__main__":
    main()
