"""Many runs of the simulation: `make soak SEEDS=N`, or `python -m simulation.soak N [first seed]`.

First the sweep: one short run for each operation of the disk and each thing that can happen at it. Then N seeds, each
through one of FLAVOURS. Prints what was done, and how to run again what failed; exits with 1 where anything did.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from multiprocessing import Pool

from simulation.world import Trouble, World

FLAVOURS = (
    Trouble(),
    Trouble(pause_s=0.5, seconds=30.0, requests=25),
    Trouble(poison=True, pause_s=0.7),
    Trouble(operation=20, kill=1, power=1, server=1, full=0, pause_s=0.4),
    Trouble(server=20, kill=2, operation=1, power=1, full=0, pause_s=0.4),
    Trouble(full=6, bytes_max=40_000, file_bytes_max=3000),
    Trouble(rot=12, pause_s=0.4, kill=6),
    Trouble(clients=6, requests=30, file_bytes_max=700, seconds=10.0),
    Trouble(clients=4, requests=40, journal_bytes_max=40_000, file_bytes_max=2000, kill=20, power=6),
)
WHATS = (
    *(("kill", False), ("kill-after", False), ("torn-kill", False)),
    *(("power", False), ("power-after", False), ("torn-power", False)),
    *(("eio", False), ("enospc", False), ("eio", True), ("enospc", True)),
)
"""What can happen at an operation of the disk, and whether it stays."""


def swept(what: str, for_ever: bool, at: int, requests: int = 4) -> World:
    """One run in which one thing happens, at operation `at`."""
    trouble = Trouble(seconds=6.0, clients=1, requests=requests, at=at, what=what, for_ever=for_ever)
    return World(3, trouble).run()


def _seed(seed: int) -> tuple[str, Counter[str]]:
    world = World(seed, FLAVOURS[seed % len(FLAVOURS)])
    try:
        world.run()
    except Exception as error:  # noqa: BLE001 — whatever it is, it is told with its seed
        return f"seed {seed}: {type(error).__name__}: {error}", _figures(world)
    return "", _figures(world)


def _sweep(of: tuple[str, bool]) -> tuple[str, Counter[str]]:
    figures: Counter[str] = Counter()
    at = 1
    while True:
        try:
            world = swept(*of, at, requests=12)
        except Exception as error:  # noqa: BLE001
            return f"{of[0]} at {at} (for ever: {of[1]}): {type(error).__name__}: {error}", figures
        figures += _figures(world)
        if not world.disk.plan.fired:
            return "", figures
        at += 1


def _figures(world: World) -> Counter[str]:
    acked = sum(len(client.acked) for client in world.clients)
    return Counter(runs=1, crashes=world.crashes, starts=world.starts, operations=world.disk.operations, acked=acked)


def main() -> int:
    """returns the exit code"""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    failed: list[str] = []
    with Pool(len(os.sched_getaffinity(0))) as pool:
        for title, work in (
            ("every operation of the disk", pool.imap_unordered(_sweep, WHATS)),
            (f"seeds {first} to {first + seeds - 1}", pool.imap_unordered(_seed, range(first, first + seeds), 4)),
        ):
            began, figures = time.monotonic(), Counter[str]()
            for fault, done in work:
                figures += done
                if fault:
                    failed.append(fault)
                    print(fault, flush=True)
            told = ", ".join(f"{count:,} {name}" for name, count in figures.items())
            print(f"{title}: {told}; {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(failed)} failed" if failed else "0 lost, 0 twice, 0 invented")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
