"""The whole daemon under load: events/s and CPU an event, acked and stored, beside a bare Go handler in the same run.

    python bench/bench_whole.py [single] [batch] [udp] [--pairs 5] [--seconds 2] [--profile] [--functions]

The real `pugd serve` in a directory of its own; its collector on one core, load and keeper on the other. pugd and the
Go handler (bench/peer_go: parses and drops; GOMAXPROCS=1, the same core) take turns, since CPU time drifts by half
between runs on shared machines and only neighbours compare. Cost is user and system time of the whole process (every
thread: the flush thread too), from /proc/PID/stat, over the events acked. While turns are taken the keeper is stopped
(SIGSTOP), so that it takes no time from the load, but for a second now and then; at the end it is let go and the drain
of what is left is measured:

- CPU of the keeper an event, until all is stored;
- the part outside ClickHouse: reading the journal and building the blocks, timed over the same files beforehand;
- what was acked is counted in ClickHouse: never less than was acked, at most the requests under way at the end of each
  turn more, and every event id once.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root / "tests"), str(root), str(root / "bench")]

import load  # noqa: E402
from live.daemon import WRITE_KEY, Daemon, resident, stored  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
SERVER, LOAD = 0, 1
"""Cores."""
GOALS = {"single": 1.1, "batch": 0.8}
"""CPU an event against the Go handler."""
DRAIN_GOAL_US = 1.0
BATCH = 100
STOPPED_S_MAX = 10.0
"""A keeper that says nothing for 30 s is killed by its supervisor."""


@dataclass
class Turn:
    """One run of load against one server."""

    result: load.Result
    user: float
    system: float

    @property
    def cost_us(self) -> float:
        return (self.user + self.system) / self.result.acked * 1e6


@dataclass
class Kind:
    ours: list[Turn] = field(default_factory=list)
    theirs: list[Turn] = field(default_factory=list)


def cpu(pid: int) -> tuple[float, float]:
    """User and system seconds of every thread of `pid`, ended ones too."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(words[11]) / TICKS, int(words[12]) / TICKS


def pin(pid: int, cores: object) -> None:
    """All threads of `pid`, and those they start."""
    subprocess.run(["taskset", "-a", "-p", "-c", str(cores), str(pid)], check=True, stdout=subprocess.DEVNULL)


def start_peer() -> tuple[subprocess.Popen[str], int] | None:
    """The Go handler, built where Go is; its port."""
    program = load.build / "peer_go"
    source = root / "bench" / "peer_go"
    try:
        if not program.exists() or program.stat().st_mtime < (source / "main.go").stat().st_mtime:
            load.build.mkdir(exist_ok=True)
            env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
            subprocess.run(["go", "build", "-o", program, "."], cwd=source, env=env, check=True)
    except FileNotFoundError:
        print("no Go here: pugd alone")
        return None
    peer = subprocess.Popen(
        ["taskset", "-c", str(SERVER), program],
        env={**os.environ, "GOMAXPROCS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout is not None
    return peer, int(peer.stdout.readline())


def datagram_socket(port: int) -> tuple[int, int]:
    """Bytes waiting at the UDP socket of `port`, and datagrams it has dropped, as the kernel counts."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rsplit(":", 1)[1], 16) == port:
            return int(words[4].split(":")[1], 16), int(words[-1])
    raise AssertionError(f"nobody listens on UDP port {port}")


def take_turn(kind: str, pid: int, port: int, templates: Path, seconds: float) -> Turn:
    """Load for `seconds`. UDP has no acks: what was sent and not dropped by the kernel counts."""
    dropped = datagram_socket(port)[1] if kind == "udp" else 0
    user, system = cpu(pid)
    result = load.run(kind, "127.0.0.1", port, templates, seconds=seconds, batch=BATCH, core=LOAD)
    if kind == "udp":
        while datagram_socket(port)[0] > 0:
            time.sleep(0.01)
        time.sleep(0.05)
        dropped = datagram_socket(port)[1] - dropped
        result = replace(result, acked=result.acked - dropped, refused=dropped)
    after = cpu(pid)
    return Turn(result, after[0] - user, after[1] - system)


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def tell(kind: str, name: str, turns: list[Turn]) -> None:
    count = sum(turn.result.acked for turn in turns)
    rate = [turn.result.rate / 1000 for turn in turns]
    cost = [turn.cost_us for turn in turns]
    user = sum(turn.user for turn in turns) / count * 1e6
    system = sum(turn.system for turn in turns) / count * 1e6
    line = (
        f"{kind:>6}  {name:<4} {spread(rate, 1):>24} k/s  {spread(cost):>22} µs = {user:.2f} user + {system:.2f} system"
    )
    if kind == "udp":
        line += f"; {sum(turn.result.refused for turn in turns)} dropped"
    else:
        p50, p99 = (statistics.median(turn.result.latency_ms[name] for turn in turns) for name in ("p50", "p99"))
        line += f"; p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    print(line, flush=True)


def compare(kind: str, seen: Kind) -> None:
    tell(kind, "pugd", seen.ours)
    if seen.theirs:
        tell(kind, "Go", seen.theirs)
        ratios = [ours.cost_us / theirs.cost_us for ours, theirs in zip(seen.ours, seen.theirs, strict=True)]
        goal = f"; goal ≤ {GOALS[kind]}" if kind in GOALS else ""
        print(f"{kind:>6}  ratio {spread(ratios)} of the Go handler's CPU, pair by pair{goal}", flush=True)


READ_AND_BUILD = """
import json, sys, time
from pathlib import Path
from pugd.columns.block import build
from pugd.journal.reader import Reader

data = Path(sys.argv[1])
said = json.loads((data / "collector").read_text())
reader = Reader(data / "journal", epoch=said["epoch"])
flushed = int.from_bytes((data / "flushed").read_bytes()[:8], "little")
position = int(sys.argv[2])
begin, rows, size = time.process_time(), 0, 0
while (span := reader.read(position, flushed, 32 << 20)) is not None:
    for block in build([span], collector=said["name"], epoch=said["epoch"]).blocks:
        rows, size = rows + block.rows, size + block.length
    position = span.end
print(json.dumps({"rows": rows, "bytes": size, "seconds": time.process_time() - begin}))
"""


def read_and_build(daemon: Daemon, position: int) -> dict[str, float]:
    """CPU of what the drain does before ClickHouse, over what lies in the journal from `position` on."""
    answer = subprocess.run(
        ["taskset", "-c", str(SERVER), sys.executable, "-c", READ_AND_BUILD, str(daemon.data), str(position)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    said: dict[str, float] = json.loads(answer.stdout)
    return said


def flushed_position(data: Path) -> int:
    return int.from_bytes((data / "flushed").read_bytes()[:8], "little")


def stored_position(data: Path) -> int:
    """The durable position of the drain."""
    try:
        return int((data / "stored").read_text().split()[0])
    except FileNotFoundError:
        return 0  # it never began


def wait_stored(daemon: Daemon, seconds: float = 300) -> None:
    """Until everything flushed is in ClickHouse."""
    until = flushed_position(daemon.data)
    deadline = time.monotonic() + seconds
    while stored_position(daemon.data) < until:
        assert time.monotonic() < deadline, f"not drained within {seconds} s:\n{daemon.said()}"
        time.sleep(0.05)


class Profile:
    """perf over one process for a while; prints where its time went."""

    def __init__(self, pid: int, name: str) -> None:
        self.name = name
        self.file = tempfile.NamedTemporaryFile(prefix="perf-")  # noqa: SIM115, gone with this object
        self.process = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-g", "-p", str(pid), "-o", self.file.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        print(f"\nwhere the time of {self.name} goes (perf, own time): by thread and library, then by function")
        for sort, percent in (("comm,dso", "1"), ("comm,dso,sym", "0.7")):
            report = subprocess.run(
                [
                    *("perf", "report", "-i", self.file.name, "--no-children", "-g", "none", "--stdio"),
                    *("--sort", sort, "--percent-limit", percent),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            lines = [line for line in report.stdout.splitlines() if line.strip() and not line.startswith("#")]
            print("\n".join(line.rstrip() for line in lines[:40]), flush=True)


def measure(given: argparse.Namespace, daemon: Daemon, directory: Path, peer: tuple[int, int] | None) -> None:
    """`peer`: process and port of the Go handler."""
    collector, keeper = daemon.wait_pid("collector"), daemon.wait_pid("keeper")
    pin(collector, SERVER)
    print(f"idle: collector {resident(collector) >> 20} MiB, keeper {resident(keeper) >> 20} MiB")
    wait_stored(daemon)

    def breathe(pause_s: float) -> None:
        """Let the keeper say that it lives."""
        os.kill(keeper, signal.SIGCONT)
        time.sleep(pause_s)
        os.kill(keeper, signal.SIGSTOP)
        time.sleep(0.1)

    os.kill(keeper, signal.SIGSTOP)
    breathed = time.monotonic()
    acked = dict.fromkeys(given.kinds, 0)
    sent_more = 0
    try:
        for kind in given.kinds:
            templates = directory / f"{kind}.templates"
            load.write_templates(templates, kind, "127.0.0.1", WRITE_KEY, BATCH)
            seen = Kind()
            profile = None
            for pair in range(-1, given.pairs):
                if time.monotonic() - breathed > STOPPED_S_MAX:
                    breathe(1.2)
                    breathed = time.monotonic()
                if pair == 0 and given.profile:
                    profile = Profile(collector, f"the collector, {kind}")
                turn = take_turn(kind, collector, daemon.port, templates, given.seconds)
                acked[kind] += turn.result.acked
                sent_more += 64 * BATCH
                assert turn.result.refused == 0 or kind == "udp", f"{turn.result.refused} requests refused"
                if pair >= 0:
                    seen.ours.append(turn)
                if peer is not None:
                    other = take_turn(kind, *peer, templates, given.seconds)
                    if pair >= 0:
                        seen.theirs.append(other)
            if profile is not None:
                profile.stop()
            compare(kind, seen)
            breathe(1.2)
            breathed = time.monotonic()
        apart = read_and_build(daemon, stored_position(daemon.data))
    finally:
        os.kill(keeper, signal.SIGCONT)
    profile = Profile(keeper, "the keeper, draining") if given.profile else None
    count = apart["rows"]
    pin(keeper, f"{SERVER},{LOAD}")
    before, start = cpu(keeper), time.monotonic()
    wait_stored(daemon)
    took = time.monotonic() - start
    after = cpu(keeper)
    if profile is not None:
        profile.stop()
    if count:  # else singles alone, which are stored as fast as they come
        user, system = (after[i] - before[i] for i in (0, 1))
        print(
            f" drain  {count:,.0f} rows in {took:.1f} s = {count / took / 1000:.0f} k/s on two cores; keeper", end=" "
        )
        print(f"{user / count * 1e6:.2f} user + {system / count * 1e6:.2f} system µs a row")
        each = apart["seconds"] / count * 1e6
        print(f" drain  outside ClickHouse (read, check, build): {each:.2f} µs a row of", end=" ")
        print(f"{apart['bytes'] / count:.0f} bytes; goal ≤ {DRAIN_GOAL_US}")
    print(f"loaded: collector {resident(collector) >> 20} MiB, keeper {resident(keeper) >> 20} MiB")
    assert daemon.stop() == 0, daemon.said()
    rows = stored(
        daemon.data, "select transport, count(), uniqExact(project, event_id) from events group by transport"
    )[0]
    for transport, total, distinct in rows:
        assert total == distinct, f"{transport}: {total} stored, {distinct} distinct"
    held = {transport: total for transport, total, _ in rows}
    http = acked.get("single", 0) + acked.get("batch", 0)
    assert http <= held.get("http", 0) <= http + sent_more, f"{http} acked, {held} stored"
    assert held.get("udp", 0) == acked.get("udp", 0), f"{acked.get('udp', 0)} datagrams taken, {held} stored"
    print(
        f"stored: {held}: every acked event, each once ({http:,} acked by HTTP, {acked.get('udp', 0):,} taken by UDP)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["single", "batch", "udp"], metavar="single|batch|udp")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="also say where the time goes (perf)")
    parser.add_argument("--functions", action="store_true", help="profile the collector by function: figures are off")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        daemon = Daemon(Path(directory), PUGD_JOURNAL_BYTES_MAX=str(64 << 30))
        functions = Path(directory, "functions")
        if given.functions:
            daemon.env["BENCH_FUNCTIONS"] = str(functions)
            daemon.env["PYTHONPATH"] = f"{root / 'bench' / 'functions'}:{root}"
        peer = None if given.functions else start_peer()
        try:
            daemon.start()
            measure(given, daemon, Path(directory), peer and (peer[0].pid, peer[1]))
            if given.functions:
                pstats.Stats(str(functions)).sort_stats("tottime").print_stats(40)
        finally:
            daemon.destroy()
            if peer is not None:
                peer[0].kill()
                peer[0].wait()


if __name__ == "__main__":
    main()
