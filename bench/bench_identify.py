"""How long calls that link stop the collector: processor time of each wake-up of accept.py, usual and worst, as people
are joined from nothing. `python bench/bench_identify.py [--links 10000000]`

    one person   500 ids, identified one after another; then calls that say all of it again and again
    pairs        100,000 persons of an anonymous and a user id
    import       so many links of new ids, three devices for two users, while snapshots are written as the daemon does

A wake-up holds one request of 100 identify calls. All that accept.py does is in it: reading, duplicates, judging, rows,
the record; not the flush, which C does in a thread meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from pugd.accept import Accept, Arrival  # noqa: E402
from pugd.data import write_parts  # noqa: E402
from pugd.edge.gate import Gate  # noqa: E402
from pugd.identity import rules, snapshot  # noqa: E402
from pugd.identity.duplicates import RecentIds  # noqa: E402
from pugd.identity.graph import Graph  # noqa: E402
from pugd.journal.writer import Writer  # noqa: E402
from pugd.model import WriteKey  # noqa: E402

KEY = bytes(range(16))
TOGETHER = 100
SNAPSHOT_WAKE_UPS = 20_000
"""From one snapshot to the next: two million calls."""

AHEAD_BYTES_MAX = 8 << 20
"""Of what is taken before the disk."""

encode = msgspec.json.encode


class Collector:
    """Accept with its graph, its set of recent ids and a real journal."""

    def __init__(self, directory: Path) -> None:
        self.graph = Graph(KEY)
        self.directory = directory
        self.writer = Writer.open(
            directory / "journal", name="b", epoch=1, flushed_path=directory / "flushed", bytes_max=64 << 30,
            reserve_bytes=0, file_bytes_max=64 << 20,
        )  # fmt: skip
        self.key = WriteKey(1, secret=False)
        self.accept = Accept(
            graph=self.graph, recent=RecentIds(KEY, 86_400_000, 256 << 20), writer=self.writer,
            keys=Gate({"k": self.key}), illegal=rules.IllegalIds(), ids_max=500, mint=str,
        )  # fmt: skip
        self.now = 1_790_000_000_000

    def take(self, pairs: Iterable[tuple[str, str]]) -> float:
        """One wake-up. returns ms"""
        self.now += 100
        calls = [
            {"type": "identify", "messageId": f"{self.now}-{n}", "userId": user, "anonymousId": device}
            for n, (user, device) in enumerate(pairs)
        ]
        arrival = Arrival("batch", encode({"batch": calls}), self.key)
        begun = time.thread_time_ns()
        [ack] = self.accept.take([arrival], b"", 0, self.now)
        took = time.thread_time_ns() - begun
        assert (ack.accepted, ack.failed) == (len(calls), None)
        while self.writer.position - self.writer.take_flushed() > AHEAD_BYTES_MAX:
            time.sleep(0.001)
        return took / 1e6


def one_person() -> Iterator[tuple[str, str]]:
    for _ in range(200):
        for n in range(499):
            yield "user", f"device-{n}"


def pairs(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        yield f"user-{n}", f"device-{n}"


def imported(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        yield f"7a3e12f0-user-4a4a-9b9b-{n * 2 // 3:012d}", f"7a3e12f0-anon-4a4a-9b9b-{n:012d}"


def run(name: str, source: Iterator[tuple[str, str]], *, snapshots: bool = False) -> None:
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        collector = Collector(Path(directory))
        took: list[float] = []
        saving: tuple[snapshot.Saving, threading.Thread] | None = None
        while some := list(islice(source, TOGETHER)):
            took.append(collector.take(some))
            if snapshots and len(took) % SNAPSHOT_WAKE_UPS == 0:
                begun = time.thread_time_ns()
                saved = snapshot.Saving(collector.graph, collector.writer.position, 1)
                took[-1] += (time.thread_time_ns() - begun) / 1e6  # nothing is taken in between
                writing = threading.Thread(target=write, args=(collector.directory / "graph.snapshot", saved))
                writing.start()
                saving = saved, writing
            if saving is not None and not saving[1].is_alive():
                saving[0].close()
                saving = None
            if len(took) % 1000 == 0:
                collector.writer.delete_before(collector.writer.flushed)
        if saving is not None:
            saving[1].join()
            saving[0].close()
        numbers = collector.graph.statistics()
        collector.writer.close()
    took.sort()
    calls = len(took) * TOGETHER
    usual, most = took[len(took) // 2], took[int(len(took) * 0.999)]
    print(
        f"{name:12} {calls:10,} calls, {numbers.ids:10,} ids {1000 * sum(took) / calls:6.1f} µs a call; a wake-up"
        f" {usual:5.2f} ms, of 1,000 the worst {most:5.2f}, worst of all {took[-1]:5.2f}",
        flush=True,
    )


def write(path: Path, saving: snapshot.Saving) -> None:
    write_parts(path, saving.parts())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--links", type=int, default=10_000_000)
    options = parser.parse_args()
    run("one person", one_person())
    run("pairs", pairs(100_000))
    run("import", imported(options.links), snapshots=True)


if __name__ == "__main__":
    main()
