"""What identity costs: ns an id resolved in batches of 256, ns a link, bytes an id, the worst pause while it grows; and
the same of plain Python dicts beside it. `python bench/bench_identity.py [--ids 10000000] [--skip-dicts]`

Half of the ids are user ids, half anonymous ids linked to them, each a UUID's 36 bytes. Events are drawn at random over
all of them, so that nearly each touches memory that no cache holds. Times are of the calls as accept.py makes them,
lists of Python integers included. A pause is the processor time of 1 000 operations: the machine may be shared.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd.identity import snapshot
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph

KEY = bytes(range(16))
PROJECT = 1
CHUNK = 1_000
BATCH = 256
BATCHES = 800
DAY_MS = 86_400_000


def user(i: int) -> str:
    return f"7a3e12f0-1111-4a4a-9b9b-{i:012d}"


def anonymous(i: int) -> str:
    return f"0b1c2d3e-2222-4c4c-8d8d-{i:012d}"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def chunks(count: int, size: int = CHUNK) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def timed(what: Callable[[], object]) -> int:
    start = time.thread_time_ns()
    what()
    return time.thread_time_ns() - start


def per(times: list[int], operations: int) -> str:
    return f"{sum(times) / operations:6.0f} ns"


def worst(times: list[int]) -> str:
    return f"worst 1 000: {max(times) / 1e6:6.2f} ms"


def events(pairs: int, rng: random.Random, kind: str) -> list[bytes]:
    out = []
    for _ in range(BATCHES):
        values: list[object] = []
        for _ in range(BATCH):
            i = rng.randrange(pairs)
            values += (PROJECT, user(i) if kind != "anonymous" else "", anonymous(i) if kind != "user" else "")
        out.append(msgspec.msgpack.encode(values))
    return out


def bench_graph(pairs: int) -> None:
    before = resident()
    graph = Graph(KEY)
    links: list[int] = []
    users: list[int] = []
    order = 1
    for chunk in chunks(pairs):
        packed = msgspec.msgpack.encode([v for i in chunk for v in (PROJECT, user(i), "", PROJECT, anonymous(i), "")])
        actors, _ = graph.resolve_many(packed, 2 * len(chunk))
        seen, linked = array("Q"), array("Q")
        for u, a in zip(actors[::2], actors[1::2], strict=True):
            seen.extend((order, u, 0, 1))
            linked.extend((order + 1, a, u, 0))
            order += 2
        users.append(timed(lambda entries=seen: graph.replay_many(entries)))
        links.append(timed(lambda entries=linked: graph.replay_many(entries)))
    graph.order = order
    numbers = graph.statistics()
    print(f"graph: {numbers.ids:,} ids, {numbers.users:,} of them user ids, {numbers.joins:,} links")
    print(f"  first sight of a user id     {per(users, pairs)}   {worst(users)}")
    print(f"  link of a new anonymous id   {per(links, pairs)}   {worst(links)}")
    grown = (resident() - before) / numbers.ids
    print(f"  bytes an id                  {numbers.bytes / numbers.ids:6.1f}      resident: {grown:.1f}")
    rng = random.Random(1)
    for kind, ids in (("both", 2), ("user", 1), ("anonymous", 1)):
        times = []
        for packed in events(pairs, rng, kind):
            start = time.thread_time_ns()
            _, look = graph.resolve_many(packed, BATCH)
            times.append(time.thread_time_ns() - start)
            assert not look
        operations = BATCH * BATCHES
        name = f"resolve, {kind} id{'s' if ids == 2 else ''}"
        print(f"  {name:28} {per(times, operations * ids)} an id, {per(times, operations)} an event")
    start = time.perf_counter()
    data = snapshot.dump(graph, 1, 1)
    dumped = time.perf_counter()
    loaded, *_ = snapshot.load(KEY, data)
    done = time.perf_counter()
    assert loaded.statistics().joins == numbers.joins
    print(f"  snapshot of {len(data) / 1e6:.0f} MB: dump {dumped - start:.2f} s, load {done - dumped:.2f} s")


def bench_seen(count: int) -> None:
    recent = RecentIds(KEY, DAY_MS, max(64 << 20, 24 * count))
    now = 1_780_000_000_000
    times, new = [], 0
    for chunk in chunks(count):
        packed = msgspec.msgpack.encode([v for i in chunk for v in (PROJECT, user(i), now)])
        start = time.thread_time_ns()
        new += len(chunk) - len(recent.add_many(packed, len(chunk), now)[0])
        times.append(time.thread_time_ns() - start)
        now += 20
    assert new == count
    numbers = recent.statistics()
    print(f"recent event ids: {numbers.ids:,}")
    print(f"  add of a new one             {per(times, count)}   {worst(times)}")
    print(f"  bytes an id                  {numbers.bytes / count:6.1f}")


def bench_dicts(pairs: int) -> None:
    """id → [representative, ids …]: the least that a dict could do, without project, key, cap or explanation."""
    before = resident()
    people: dict[str, list[str]] = {}
    times = []

    def link(chunk: list[tuple[str, str]]) -> None:
        for u, a in chunk:
            people[u] = people[a] = [u, a]

    for chunk in chunks(pairs):
        names = [(user(i), anonymous(i)) for i in chunk]
        times.append(timed(lambda names=names: link(names)))
    print(f"dicts: {len(people):,} ids")
    print(f"  link of two new ids          {per(times, pairs)}   {worst(times)}")
    print(f"  resident bytes an id         {(resident() - before) / len(people):6.1f}")
    rng = random.Random(1)
    times = []
    for packed in events(pairs, rng, "both"):
        values = msgspec.msgpack.decode(packed)
        start = time.thread_time_ns()
        found = [people[u][0] for u, a in zip(values[1::3], values[2::3], strict=True) if people[u] is people[a]]
        times.append(time.thread_time_ns() - start)
        assert len(found) == BATCH
    print(f"  resolve, both ids            {per(times, 2 * BATCH * BATCHES)} an id, decoding left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--skip-dicts", action="store_true")
    options = parser.parse_args()
    gc.disable()
    bench_graph(options.ids // 2)
    bench_seen(options.ids)
    if not options.skip_dicts:
        bench_dicts(options.ids // 2)


if __name__ == "__main__":
    main()
