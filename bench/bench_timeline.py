"""What one person costs to read: the person, and a page of the timeline, for a person of 20 ids among 500 000 persons
and 10 million events. `python bench/bench_timeline.py [--events 10000000] [--directory DIR] [--statements]`

The data are those of bench_questions.py (`--directory` keeps and shares them), where what an id did is spread over four
months and ten names of events, so that hardly two of its events lie together; twenty ids each become one person. Wall
and processor time, median and worst of the persons, each asked for the second time: the first reads from disk. First it
waits until ClickHouse has merged what it was given at once, as it does in a pugd that runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_questions import ACTORS, THREADS, fill

from pugd.answer import Answer, Stored
from pugd.question import OnePerson, Timeline
from pugd.store.clickhouse import Store

IDS = 20
PERSONS = 25


class Watched:
    """The store, with what each statement took."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.took: dict[str, list[float]] = defaultdict(list)

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Any = None) -> Any:
        begun = time.process_time()
        found = await self._store.query(sql, parameters, settings)
        self.took[" ".join(sql.split())[:100]].append(time.process_time() - begun)
        return found


async def stored() -> Stored:
    return Stored(0, True)


async def merged(store: Store) -> None:
    """Until ClickHouse has not merged for some seconds."""
    quiet = 0
    while quiet < 8:
        await trio.sleep(1)
        running = (await store.query("select count() from system.merges")).rows[0][0]
        quiet = 0 if running else quiet + 1


async def measured(name: str, ask: Callable[[int], Awaitable[Any]], persons: list[int]) -> None:
    turns = []
    for person in persons:
        await ask(person)
        wall, cpu = time.monotonic(), time.process_time()
        await ask(person)
        turns.append((time.monotonic() - wall, time.process_time() - cpu))
    walls, cpus = ([1000 * value for value in values] for values in zip(*turns, strict=True))
    print(
        f"{name:34} {statistics.median(walls):6.1f} ms (worst {max(walls):.1f}),"
        f" {statistics.median(cpus):6.1f} ms of processors (worst {max(cpus):.1f})"
    )


async def run(directory: Path, events: int, statements: bool) -> None:
    store = Store(directory=directory, threads_max=THREADS)
    await store.prepare()
    try:
        if not (await store.query("select count() from events")).rows[0][0]:
            fill(store._drain, events)
        known = (await store.query("select max(version) from person_of")).rows[0][0]
        if known < 10 * ACTORS:
            # Of ids that nobody was linked to yet, as far as there are enough of them.
            store._drain.command(
                "insert into person_of (project, actor, person, version, collector, epoch, position) select 1,"
                " sipHash64({first:UInt64} + number * 400), sipHash64({first:UInt64} + intDiv(number, {ids:UInt64})"
                " * {ids:UInt64} * 400), {version:UInt64} + number, 'c', 7, {version:UInt64} + number"
                " from numbers({count:UInt64})",
                {"first": 220_000, "ids": IDS, "version": 10 * ACTORS, "count": IDS * PERSONS},
            )
        found = await store.query(
            "select person from person_of where project = 1 and version >= {version:UInt64} group by person having"
            " count() = {ids:UInt64} order by person",
            {"version": 10 * ACTORS, "ids": IDS},
        )
        persons = [person for (person,) in found.rows]
        await merged(store)
        watched = Watched(store)

        async def nothing(do: str, **arguments: object) -> Any:
            raise AssertionError(do)

        answer = Answer(watched, wait_stored=stored, actor=lambda project, id_: 0, collector=nothing)
        page = await answer.timeline(Timeline(project=1, actor=persons[0]))
        print(
            f"{len(persons)} persons of {len(page.person.ids)} ids and about {page.person.events} events;"
            f" load {os.getloadavg()[0]:.1f}"
        )
        watched.took.clear()
        await measured("the person", lambda one: answer.person(OnePerson(project=1, actor=one)), persons)
        await measured("timeline, the newest 50 entries", lambda one: answer.timeline(
            Timeline(project=1, actor=one)), persons)  # fmt: skip
        await measured("timeline, one name of events", lambda one: answer.timeline(
            Timeline(project=1, actor=one, event="order")), persons)  # fmt: skip
        await measured("timeline, a search", lambda one: answer.timeline(
            Timeline(project=1, actor=one, search="checkout")), persons)  # fmt: skip
        if statements:
            for text, took in sorted(watched.took.items(), key=lambda item: -sum(item[1])):
                print(f"{1000 * statistics.median(took):7.1f} ms × {len(took):4}  {text}")
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--statements", action="store_true", help="what each statement takes, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pugd-bench-") as temporary:
        trio.run(run, options.directory or Path(temporary), options.events, options.statements)


if __name__ == "__main__":
    main()
