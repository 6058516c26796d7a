"""What identity costs beside its peers: ns an operation, bytes an id, the worst pause as it grows to ten million ids.

    python bench/bench_identity.py [--ids 10000000] [--turns 10] [--skip-dicts] [--recent]

Three links to seven look-ups, from nothing; a link joins a new anonymous id with a user id, every second time a new
one, else one drawn by Zipf's law, as look-ups are; ids are UUIDs' 36 characters (bench/peer_cpp/workload.h). Then
look-ups uniformly at random over all of them, a batch of 256 at a time. Every engine is a process of its own that gets
the very same operations, and they take turns, since CPU time drifts by half between runs on shared machines:

    pugd     identity/graph.py, as the daemon calls it: what a wake-up brought is given as one MessagePack batch. A
             chunk's links are hashed (resolve_many), put into entries of the log and applied (replay_many), its
             look-ups answered at once (persons_many: text → the actor of its person). Keyed SipHash-2-4; why, undo
             and snapshot kept. What rules.py judges of a link, in Python and microseconds, is not in it
    rust fx  std's HashMap, which is hashbrown, from a 64-bit FxHash of the text to a place, and union-find (cargo)
    rust sip the same with std's SipHash-1-3
    c++      boost::unordered_flat_map where its header is there, else std::unordered_map; union-find (g++)
    dicts    Python: id → [representative, ids …]
    memory   no engine: three reads for each look-up, one after another, over as many bytes (peer_cpp/memory.c), which
             is what this machine's memory asks of anybody at that moment

Times are processor time of the whole process, the thread that touches pugd's memory ahead included; a pause is that of
1 000 operations, pugd's of the calling thread. Making up the operations is outside all of them. The peers know no
keys, no explanation and no undo. At the end what only pugd has: its own calls by kind, and its snapshot.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path
from typing import Any, Protocol

import msgspec
from cffi import FFI

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from pugd.data import write_parts  # noqa: E402
from pugd.identity import snapshot  # noqa: E402
from pugd.identity.duplicates import RecentIds  # noqa: E402
from pugd.identity.graph import Graph  # noqa: E402

KEY = bytes(range(16))
BUILD = root / "bench" / "build"
CHUNK, BATCH = 1_000, 256
LINKS_AN_ID = 2 / 3
"""A link brings one anonymous id, and every second time a user id."""
UNIFORM = 1_000 * BATCH
DAY_MS = 86_400_000

ffi = FFI()
ffi.cdef("""
struct work { uint64_t state, users, anonymous; };
uint32_t packed_grow(struct work *w, uint32_t count, uint8_t *ids, uint8_t *sought, size_t *lengths);
size_t packed_uniform(struct work *w, uint32_t count, uint8_t *sought, int events);
int memory_open(uint64_t ids);
uint64_t memory_look(uint32_t batch);
""")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Workload:
    """The operations, made in C: Python would take longer to make them up than to answer."""

    def __init__(self) -> None:
        self._lib: Any = ffi.dlopen(str(BUILD / "packed.so"))
        self.state = ffi.new("struct work *", {"state": 1})
        self._room = [ffi.new("uint8_t[]", 128 * CHUNK) for _ in range(2)]
        self._lengths = ffi.new("size_t[2]")

    def grow(self) -> tuple[bytes, bytes, int]:
        """A chunk: its links' ids, its look-ups, how many links."""
        links = self._lib.packed_grow(self.state, CHUNK, *self._room, self._lengths)
        ids, sought = (bytes(ffi.buffer(room, n)) for room, n in zip(self._room, self._lengths, strict=True))
        return ids, sought, int(links)

    def uniform(self, *, events: bool = False) -> bytes:
        return bytes(ffi.buffer(self._room[0], self._lib.packed_uniform(self.state, BATCH, self._room[0], events)))


class Engine(Protocol):
    joins: int
    ids: int

    def grow(self, ids: bytes, sought: bytes, links: int) -> None: ...

    def uniform(self, sought: bytes) -> None: ...


class Pugd:
    def __init__(self) -> None:
        self.graph = Graph(KEY)
        self.link_ns: list[int] = []

    def prepare(self, links: int) -> None:
        """Entries of the log but for their actors: of each link that the user id is one, and that the two are one."""
        entries = array("Q", bytes(64 * links))
        places = array("Q", range(self.graph.order, self.graph.order + 2 * links))
        entries[0::8], entries[4::8], entries[3::8] = places[0::2], places[1::2], array("Q", [1]) * links
        self.entries = entries

    def grow(self, ids: bytes, sought: bytes, links: int) -> None:
        start = time.thread_time_ns()
        graph, entries = self.graph, self.entries
        actors, _ = graph.resolve_many(ids, 2 * links)
        entries[1::8] = entries[6::8] = array("Q", actors[0::2])
        entries[5::8] = array("Q", actors[1::2])
        graph.replay_many(entries)
        graph.order += 2 * links
        self.link_ns.append(time.thread_time_ns() - start)
        graph.persons_many(sought, CHUNK - links)

    def uniform(self, sought: bytes) -> None:
        self.graph.persons_many(sought, BATCH)

    @property
    def ids(self) -> int:
        return self.graph.statistics().ids

    @property
    def joins(self) -> int:
        return self.graph.statistics().joins


class Dicts:
    """The least that dicts could do."""

    def __init__(self) -> None:
        self.people: dict[bytes, list[bytes]] = {}
        self.joins = 0

    @property
    def ids(self) -> int:
        return len(self.people)

    def grow(self, ids: bytes, sought: bytes, links: int) -> None:
        people = self.people
        for at in range(5, 5 + 80 * links, 80):
            user, anonymous = ids[at + 3 : at + 39], ids[at + 44 : at + 80]
            keep = people.get(user)
            if keep is None:
                keep = people[user] = [user]
            give = people.get(anonymous)
            if give is None:
                keep.append(anonymous)
                people[anonymous] = keep
                self.joins += 1
            elif give is not keep:
                keep += give
                for one in give:
                    people[one] = keep
                self.joins += 1
        self._look(sought)

    def uniform(self, sought: bytes) -> None:
        self._look(sought)

    def _look(self, sought: bytes) -> list[bytes]:
        people = self.people
        return [people[sought[at + 3 : at + 39]][0] for at in range(5, len(sought), 39)]


class Memory:
    """Nothing but reads."""

    ids = joins = 0

    def __init__(self) -> None:
        self._lib: Any = ffi.dlopen(str(BUILD / "memory.so"))
        self._opened = False

    def grow(self, ids: bytes, sought: bytes, links: int) -> None:
        self.ids += 2 * links

    def uniform(self, sought: bytes) -> None:
        if not self._opened:
            self._opened = self._lib.memory_open(self.ids * 3 // 4) == 0
        self._lib.memory_look(BATCH)


def serve(name: str) -> None:
    """Be an engine: what to do on standard input, what it took on standard output, as the peers."""
    gc.disable()
    work = Workload()
    engine: Engine = {"pugd": Pugd, "dicts": Dicts, "memory": Memory}[name]()
    before = resident()
    for line in sys.stdin:
        what, count = line.split()
        total = worst = 0
        system = os.times().system
        if what == "more":
            assert isinstance(engine, Pugd)
            report(engine, work)
            break
        for _ in range(0, int(count), CHUNK if what == "grow" else BATCH):
            asked = work.grow() if what == "grow" else (work.uniform(),)
            if isinstance(engine, Pugd) and what == "grow":
                engine.prepare(asked[2])
            start, here = time.process_time_ns(), time.thread_time_ns()
            (engine.grow if what == "grow" else engine.uniform)(*asked)  # type: ignore[operator]
            worst = max(worst, time.thread_time_ns() - here)
            total += time.process_time_ns() - start
        system_ns = int(1e9 * (os.times().system - system))
        print(total, worst, engine.ids, engine.joins, resident() - before, system_ns, flush=True)


def report(engine: Pugd, work: Workload) -> None:
    """What only pugd has."""
    graph = engine.graph
    numbers = graph.statistics()
    links = numbers.joins
    print(f"a link, its two texts hashed and both ids written  {sum(engine.link_ns) / links:6.0f} ns", flush=True)
    actors = [(1 << 63) + 3 * i for i in range(2 * 200_000)]
    took: list[float] = []
    for at in range(0, len(actors), 2 * CHUNK):
        of = actors[at : at + 2 * CHUNK]
        entries = array("Q", [v for i in range(0, len(of), 2) for v in (graph.order + i, of[i], of[i + 1], 0)])
        graph.order += 2 * CHUNK
        start = time.thread_time_ns()
        graph.replay_many(entries)
        took.append((time.thread_time_ns() - start) / CHUNK)
    print(f"a link alone, both ids new                         {statistics.median(took):6.0f} ns")
    took = []
    for _ in range(UNIFORM // BATCH):
        packed = work.uniform(events=True)
        start = time.thread_time_ns()
        graph.resolve_many(packed, BATCH)
        took.append((time.thread_time_ns() - start) / BATCH)
    print(f"resolve_many, an event with one id                 {statistics.median(took):6.0f} ns")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "graph.snapshot"
        start = time.perf_counter_ns()
        saving = snapshot.Saving(graph, 1, 1)
        print(f"a snapshot: begun in                               {(time.perf_counter_ns() - start) / 1e6:6.2f} ms")
        written = threading.Thread(target=lambda: write_parts(path, saving.parts()))
        began, worst = time.perf_counter(), 0
        written.start()
        while written.is_alive():
            ids, sought, count = work.grow()
            engine.prepare(count)
            start = time.thread_time_ns()
            engine.grow(ids, sought, count)
            worst = max(worst, time.thread_time_ns() - start)
        took_s = time.perf_counter() - began
        saving.close()
        size = path.stat().st_size
        print(f"  {size / 1e6:.0f} MB written in {took_s:.1f} s while it grows; worst 1 000: {worst / 1e6:.2f} ms")
        start, cpu = time.perf_counter_ns(), time.process_time_ns()
        loaded, *_ = snapshot.read(KEY, path)
        wall, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
        assert loaded.statistics().joins == numbers.joins + 200_000
        print(f"  read, and a graph again, in {wall / 1e9:.2f} s, {cpu / 1e9:.2f} s of processor time")


def bench_recent(count: int) -> None:
    """Recent event ids: native/seen."""
    recent = RecentIds(KEY, DAY_MS, max(64 << 20, 24 * count))
    now = 1_780_000_000_000
    actors = array("Q", range(CHUNK))
    times, new, at = [], 0, 0
    while at < count:
        texts = [f"7a3e12f0-1111-4a4a-9b9b-{i:012d}" for i in range(at, at + CHUNK)]
        packed = msgspec.msgpack.encode([v for text in texts for v in (1, text, now, "page_view")])
        start = time.thread_time_ns()
        new += CHUNK - len(recent.add_many(packed, actors, now).duplicates)
        times.append(time.thread_time_ns() - start)
        now, at = now + 20, at + CHUNK
    assert new == at
    print(f"recent event ids: {at:,}")
    print(f"  add of a new one {sum(times) / at:6.0f} ns, worst 1 000: {max(times) / 1e6:.2f} ms")
    print(f"  bytes an id      {recent.statistics().bytes / at:6.1f}")


class Child:
    """An engine in a process of its own."""

    def __init__(self, name: str, command: list[str | Path]) -> None:
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.grow_ns: list[float] = []
        self.system_ns: list[float] = []
        self.uniform_ns: list[float] = []
        self.worst_ms = self.bytes = 0.0
        self.ids = self.joins = 0

    def ask(self, what: str, count: int) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        return [int(one) for one in self.process.stdout.readline().split()]

    def grow(self, count: int) -> None:
        total, worst, self.ids, self.joins, grown, system = self.ask("grow", count)
        self.system_ns.append(system / count)
        self.grow_ns.append(total / count)
        self.worst_ms = max(self.worst_ms, worst / 1e6)
        self.bytes = grown / self.ids

    def uniform(self) -> None:
        total, *_ = self.ask("uniform", UNIFORM)
        self.uniform_ns.append(total / UNIFORM)


def build() -> dict[str, list[str | Path]]:
    """The engines that can be built here: name → command."""
    BUILD.mkdir(exist_ok=True)
    peer = root / "bench" / "peer_cpp"
    subprocess.run(
        ["cc", "-O3", "-shared", "-fPIC", "-I", peer, peer / "packed.c", "-o", BUILD / "packed.so", "-lm"], check=True
    )
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", peer / "memory.c", "-o", BUILD / "memory.so"], check=True)
    python = [sys.executable, __file__, "--engine"]
    engines: dict[str, list[str | Path]] = {"pugd": [*python, "pugd"]}
    if shutil.which("cargo"):
        rust = root / "bench" / "peer_rust"
        environment = os.environ | {"CARGO_TARGET_DIR": str(BUILD / "peer_rust"), "RUSTFLAGS": "-C target-cpu=native"}
        subprocess.run(["cargo", "build", "--release", "--offline", "-q"], cwd=rust, env=environment, check=True)
        program = BUILD / "peer_rust" / "release" / "peer"
        engines |= {"rust fx": [program, "fx"], "rust sip": [program, "sip"]}
    if shutil.which("g++"):
        program = BUILD / "peer_cpp"
        subprocess.run(["g++", "-O3", "-march=native", "-std=c++20", peer / "main.cpp", "-o", program], check=True)
        boost = "#if __has_include(<boost/unordered/unordered_flat_map.hpp>)\nboost\n#endif\n"
        said = subprocess.run(["g++", "-E", "-x", "c++", "-"], input=boost, capture_output=True, text=True).stdout
        engines["c++ boost" if "\nboost" in said else "c++ std"] = [program]
    return engines | {"dicts": [*python, "dicts"], "memory": [*python, "memory"]}


def ratio(mine: list[float], theirs: list[float]) -> str:
    each = [a / b for a, b in zip(mine, theirs, strict=True)]
    return f"{statistics.median(each):.2f} × ({min(each):.2f} to {max(each):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--skip-dicts", action="store_true")
    parser.add_argument("--recent", action="store_true", help="recent event ids too")
    parser.add_argument("--engine", choices=["pugd", "dicts", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        serve(options.engine)
        return
    commands = build()
    if options.skip_dicts:
        del commands["dicts"]
    engines = [Child(name, command) for name, command in commands.items()]
    operations = int(options.ids * LINKS_AN_ID / 0.3)
    turn = -(-operations // options.turns // CHUNK) * CHUNK
    for _ in range(options.turns):
        for engine in engines:
            engine.grow(turn)
    engines[-1].ask("uniform", BATCH)  # memory's: its bytes are written first
    for _ in range(5):
        for engine in engines:
            engine.uniform()
    memory = engines.pop()
    assert len({(engine.ids, engine.joins) for engine in engines}) == 1, "they did not do the same"
    print(f"{engines[0].ids:,} ids of 36 characters, {engines[0].joins:,} links, {turn * options.turns:,} operations")
    print("            growth, ns an operation    uniform, ns a look-up   bytes an id   worst 1 000")
    for one in engines:
        grow, uniform = statistics.mean(one.grow_ns), statistics.median(one.uniform_ns)
        growth = f"{grow:6.0f} ({one.grow_ns[-1]:.0f} at the end)"
        print(f"{one.name:10} {growth:>24} {uniform:24.0f} {one.bytes:13.1f} {one.worst_ms:10.2f} ms")
    mine, *others = engines
    peers = [one for one in others if one.name != "dicts"]
    if peers:
        best = min(peers, key=lambda one: statistics.mean(one.grow_ns))
        print(f"growth  {ratio(mine.grow_ns, best.grow_ns)} the time of {best.name}")
        best = min(peers, key=lambda one: statistics.median(one.uniform_ns))
        print(f"uniform {ratio(mine.uniform_ns, best.uniform_ns)} the time of {best.name}")
    alone = statistics.median(memory.uniform_ns)
    print(f"uniform {ratio(mine.uniform_ns, memory.uniform_ns)} the time of {alone:.0f} ns that memory takes alone")
    system = statistics.mean(mine.system_ns)
    print(f"growth  {system:.0f} ns an operation of pugd's are the system's, which hands out memory")
    for one in (*others, memory):
        one.process.communicate()
    print(mine.process.communicate("more 0\n")[0], end="")
    if options.recent:
        bench_recent(options.ids)


if __name__ == "__main__":
    main()
