"""A few runs of the simulation, the same run twice, a sample of the sweep; and, with one mechanism disabled at a time,
that the checks find what it was there for. `make soak SEEDS=N` runs many."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulation import clickhouse, network
from simulation.soak import FLAVOURS, WHATS, swept
from simulation.world import Trouble, World

import pugd.collector
import pugd.drain
from pugd.drain import Drain
from pugd.identity.duplicates import Met, RecentIds
from pugd.store.copies import Judged

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", range(1, 2 * len(FLAVOURS) + 1))
def test_a_run(seed: int) -> None:
    world = World(seed, FLAVOURS[seed % len(FLAVOURS)]).run()
    assert world.crashes > 1
    assert sum(len(client.acked) for client in world.clients) > 10
    assert sum(len(client.reused) for client in world.clients) > 0


@pytest.mark.parametrize(("what", "for_ever"), WHATS)
def test_a_sample_of_the_sweep(what: str, for_ever: bool) -> None:
    for at in range(1 + WHATS.index((what, for_ever)) % 6, 66, 6):
        swept(what, for_ever, at)


def test_a_seed_replays_a_run_exactly() -> None:
    code = "from simulation.world import World; w = World(5).run(); print(w.trace, w.disk.operations)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(traces) == 1
    assert "killed" in traces.pop()


# ---- the checks can fail ----

Disable = Callable[[pytest.MonkeyPatch], Callable[[World], None] | None]


async def nothing(*_: Any) -> None:
    """Stands for what is disabled."""


async def nothing_there(*_: Any) -> array[int]:
    """Stands for reading what ClickHouse holds."""
    return array("Q")


def reading_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Drain, "_present", nothing_there)
    patch.setattr(Drain, "_verify", nothing)


def trusting_the_token(patch: pytest.MonkeyPatch) -> None:
    """The obvious way: the same block again under the same token, and a clean reply believed."""
    reading_back(patch)
    insert = clickhouse.Store.insert

    async def same(self: Any, *given: Any, token: str, **more: Any) -> None:
        await insert(self, *given, token=token.rpartition("/")[0], **more)

    patch.setattr(clickhouse.Store, "insert", same)


def waiting_for_an_insert_to_end(_: pytest.MonkeyPatch) -> Callable[[World], None]:
    return lambda world: setattr(world.store, "ended_lies", True)


def clickhouse_syncing(_: pytest.MonkeyPatch) -> Callable[[World], None]:
    return lambda world: setattr(world.server, "fsync_after_insert", False)


def clickhouse_deduplicating(_: pytest.MonkeyPatch) -> Callable[[World], None]:
    """As with its window set to 0 by hand."""
    return lambda world: setattr(world.server, "deduplicates", False)


def syncing_what_was_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clickhouse.Store, "sync", nothing)


def recent_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecentIds, "add_many", lambda *_: Met([], [], []))


def looking_old_events_up(patch: pytest.MonkeyPatch) -> None:
    """The drain's part in the same: what recent ids cannot tell."""
    patch.setattr(RecentIds, "add_many", lambda _, packed, actors, now: Met([], list(range(len(actors))), []))
    patch.setattr(pugd.drain.copies, "judge", lambda *_: Judged([], []))


def telling_reused_ids_apart(patch: pytest.MonkeyPatch) -> None:
    add_many = RecentIds.add_many

    def told(*given: Any) -> Met:
        met = add_many(*given)
        return Met(met.duplicates, met.old, [])

    patch.setattr(RecentIds, "add_many", told)


def relearning_recent_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecentIds, "add_rows", lambda *_: 0)


def replaying_links(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pugd.collector, "_links", lambda *_: [])


def fdatasync(_: pytest.MonkeyPatch) -> Callable[[World], None]:
    return lambda world: setattr(world.disk, "syncs_work", False)


def syncing_the_directory(_: pytest.MonkeyPatch) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        if hasattr(world, "twin"):
            world.twin.directory_syncs_work = False

    return prepare


def waiting_for_the_flush(patch: pytest.MonkeyPatch) -> None:
    def at_once(self: network.Request, position: int, response: bytes) -> None:
        self.reply(response)

    patch.setattr(network.Request, "answer_when_flushed", at_once)


def looking_after_a_start(patch: pytest.MonkeyPatch) -> None:
    async def looked(drain: Drain) -> None:
        drain._unclear_until = 0

    patch.setattr(Drain, "_look", looked)


SERVER = Trouble(server=20, kill=4, operation=0, power=0, full=0, pause_s=1.5, seconds=60.0, requests=40)
"""ClickHouse dies again and again, with time to be read between."""
MECHANISMS: dict[Disable, str] = {
    reading_back: "there twice",
    trusting_the_token: "lost",
    waiting_for_an_insert_to_end: "there twice",
    looking_after_a_start: "there twice",
    clickhouse_syncing: "lost",
    clickhouse_deduplicating: "there twice",
    syncing_what_was_read: "",
    recent_ids: "counted twice",
    looking_old_events_up: "counted twice",
    telling_reused_ids_apart: "taken for retries",
    relearning_recent_ids: "counted twice",
    replaying_links: "",
    fdatasync: "lost",
    syncing_the_directory: "lost",
    waiting_for_the_flush: "lost",
}


@pytest.mark.parametrize(("disable", "found"), MECHANISMS.items(), ids=[one.__name__ for one in MECHANISMS])
def test_without(disable: Disable, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = disable(monkeypatch)
    said: list[str] = []
    for seed in range(1, 41):
        try:
            World(seed, SERVER if disable is syncing_what_was_read else Trouble(), prepare).run()
        except AssertionError as error:
            said.append(str(error))
            if found in said[-1]:
                return
    raise AssertionError(f"nothing was missed without {disable.__name__}: {said}")
