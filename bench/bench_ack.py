"""How long an ack takes at half of what the collector can take, beside the disk's own fdatasync in the same run.

    python bench/bench_ack.py [single] [batch] [--turns 5] [--seconds 3]

The real `pugd serve` on the disk of the temporary directory: collector on one core, load and keeper on the other, the
collector and the load before whatever else runs on this machine (nice -15, which only root may), the keeper not. First
how many requests a second it takes at most (wrk, as in bench_whole.py); then half of that, at even distances
(http_pace.c), each request's time taken from the moment at which it was due, so that nothing is left out. In turns:

    disk      what an ack waits for, alone: as many bytes as the journal writes at once, and fdatasync, as often as it
              does (a virtual disk bounds bytes a second: to write more would slow what comes after), into a file
              that was allocated ahead, in the same directory; everything of pugd is idle
    quiet     half load; the keeper is stopped (SIGSTOP), as while ClickHouse is away
    draining  half load, while the embedded ClickHouse stores what comes, syncs its parts to the same disk, and merges

During both, 50 times a second, 4 KiB are written and synced beside it: what the disk does to anyone just then. Before
each turn all is synced, so that none pays for what another left to be written.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root / "tests"), str(root), str(root / "bench")]

import load  # noqa: E402
from bench_whole import BATCH, LOAD, SERVER, pin, wait_stored  # noqa: E402
from live.daemon import WRITE_KEY, Daemon  # noqa: E402

GOAL_MS, GOAL_SYNCS = 10.0, 3.0
"""The 99th percentile: this, or so many times the disk's own, where that is more."""
FIRST = -15
CONNECTIONS = 256
ALLOCATED = 64 << 20


def build_pacer() -> Path:
    source, program = load.here / "http_pace.c", load.build / "http_pace"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        load.build.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program


def pace(port: int, templates: Path, seconds: float, rate: float) -> dict[str, float]:
    """Load at `rate` requests a second. returns what http_pace says: microseconds, and counts"""
    mark = f"{next(load.marks) & 0xFFFF:04x}"
    command = [build_pacer(), "127.0.0.1", str(port), templates, mark, str(seconds), str(rate), str(CONNECTIONS)]
    answer = subprocess.run(
        ["nice", "-n", str(FIRST), *load.pinned(LOAD), *command], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    said: dict[str, float] = json.loads(answer.stdout)
    assert not said["status"], f"{said['status']} requests refused"
    return said


def sync_alone(directory: Path, size: int, seconds: float, rate: float) -> list[float]:
    """Milliseconds that each write of `size` bytes and its fdatasync took, `rate` a second."""
    path = directory / "synced"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    took = []
    try:
        os.posix_fallocate(fd, 0, ALLOCATED)
        os.fsync(fd)
        data, at, end = os.urandom(size), 0, time.monotonic() + seconds
        while (begun := time.monotonic()) < end:
            if at + size > ALLOCATED:
                at = 0
            os.pwrite(fd, data, at)
            os.fdatasync(fd)
            took.append((time.monotonic() - begun) * 1000)
            at += size
            time.sleep(max(0.0, len(took) / rate - (time.monotonic() - end + seconds)))
    finally:
        os.close(fd)
        path.unlink()
    return sorted(took)


def percentile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def measure(kind: str, daemon: Daemon, directory: Path, given: argparse.Namespace) -> None:
    collector, keeper = daemon.wait_pid("collector"), daemon.wait_pid("keeper")
    pin(collector, SERVER)
    pin(keeper, LOAD)
    for thread in os.listdir(f"/proc/{collector}/task"):
        os.setpriority(os.PRIO_PROCESS, int(thread), FIRST)
    templates = directory / f"{kind}.templates"
    load.write_templates(templates, kind, "127.0.0.1", WRITE_KEY, BATCH)
    events = BATCH if kind == "batch" else 1

    def stopped(work: object) -> object:
        os.kill(keeper, signal.SIGSTOP)
        try:
            return work()  # type: ignore[operator]
        finally:
            os.kill(keeper, signal.SIGCONT)

    def full() -> float:
        # The least of three: what a disk takes for a moment it need not take for long.
        rates = []
        for _ in range(3):
            run = load.run(kind, "127.0.0.1", daemon.port, templates, seconds=3, batch=BATCH, core=LOAD)
            rates.append(run.requests / run.seconds)
        return min(rates)

    most: float = stopped(full)  # type: ignore[assignment]
    wait_stored(daemon)
    rate = most / 2
    syncs, written = daemon.metric("pugd_journal_syncs_total"), daemon.metric("pugd_journal_written_bytes_total")
    stopped(lambda: pace(daemon.port, templates, given.seconds, rate))
    syncs = daemon.metric("pugd_journal_syncs_total") - syncs
    size = int((daemon.metric("pugd_journal_written_bytes_total") - written) / syncs)
    each = syncs / given.seconds
    print(
        f"{kind}: {most * events / 1000:.1f} k events/s at most; half of it from here on: {each:,.0f} syncs/s of "
        f"{size:,} bytes"
    )
    disk: list[float] = []
    seen: dict[str, list[dict[str, float]]] = {"quiet": [], "draining": []}
    meanwhile: dict[str, list[float]] = {"quiet": [], "draining": []}

    def paced(name: str) -> dict[str, float]:
        def probe() -> None:
            meanwhile[name] += sync_alone(daemon.data / "journal", 4096, given.seconds, 50)

        thread = threading.Thread(target=probe)
        os.sync()
        thread.start()
        try:
            return pace(daemon.port, templates, given.seconds, rate)
        finally:
            thread.join()

    for _ in range(given.turns):
        wait_stored(daemon)
        os.sync()
        disk += stopped(lambda: sync_alone(daemon.data / "journal", size, given.seconds, each))  # type: ignore[misc]
        seen["quiet"].append(stopped(lambda: paced("quiet")))  # type: ignore[arg-type]
        wait_stored(daemon)
        seen["draining"].append(paced("draining"))
    disk.sort()
    for probes in meanwhile.values():
        probes.sort()
    own = {name: percentile(disk, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    print(
        f"  disk alone  p50 {own['p50']:6.2f}  p99 {own['p99']:6.2f}  p99.9 {own['p999']:6.2f} ms, {len(disk):,} syncs"
    )
    goal = max(GOAL_MS, GOAL_SYNCS * own["p99"])
    for name, turns in seen.items():
        late, sent = (sum(turn[one] for turn in turns) for one in ("late", "sent"))
        told = {one: [turn[one] / 1000 for turn in turns] for one in ("p50", "p99", "p999", "max")}
        middle = {one: statistics.median(values) for one, values in told.items()}
        print(
            f"  {name:10}  p50 {middle['p50']:6.2f}  p99 {middle['p99']:6.2f} ({min(told['p99']):.2f} to "
            f"{max(told['p99']):.2f})  p99.9 {middle['p999']:6.2f} ms, longest {max(told['max']):.1f}; goal of p99 ≤ "
            f"{goal:.1f}; {late:.0f} of {sent:,.0f} found all {CONNECTIONS} connections waiting"
        )
        probes = meanwhile[name]
        print(
            f"  {'':10}  the disk meanwhile: p50 {percentile(probes, 0.5):.2f}  p99 {percentile(probes, 0.99):.2f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["single", "batch"], metavar="single|batch")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        daemon = Daemon(Path(directory), PUGD_JOURNAL_BYTES_MAX=str(64 << 30))
        try:
            daemon.start()
            for kind in given.kinds:
                measure(kind, daemon, Path(directory), given)
            assert daemon.stop() == 0, daemon.said()
        finally:
            daemon.destroy()


if __name__ == "__main__":
    main()
