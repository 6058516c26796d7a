"""Keeps at hand which person each actor belongs to, so that a question looks that up as it reads events, and does not
bring together all of `person_of` first.

Of each project that has many links and is asked about, a dictionary in the memory of the embedded ClickHouse says whom
actors belonged to as of one place of the link log, and another, small and in the order of actors, in which cells of
them somebody is who is not their own person: who is in none need not be looked up. Neither ever changes. What came
since is given with each question; once that is much, others are made while questions go on, and those before go when no
question holds them any more. Nothing of it is on disk, and nothing is lost with it: where there is none, questions join
`person_of`.

cost   63 bytes of memory (48 to 96) an actor that is not its own person, twice while others are made; 1 µs each to make
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from pugd.errors import StoreError
from pugd.query.person import Changes, Kept, Owners, celling, counting, keeping
from pugd.query.sql import bound

log = logging.getLogger(__name__)

ROWS_MIN: Final = 20_000
"""Rows of `person_of` that are joined as quickly."""
ROWS_MAX: Final = 20_000_000
"""Of all projects at once: a gigabyte. Questions of a project beyond that join."""
IDLE_S: Final = 3600.0
"""What nobody asked for goes, once another is made."""
CHANGES_MANY: Final = 500
"""From so many on another dictionary is made."""
CELLS: Final = 4
"""At least so many for each row of `person_of`, at most twice as many: a byte or two each."""
CELL_BITS_MIN: Final = 10
PAUSE_MIN_S: Final = 1.0
PAUSE_SHARE: Final = 10
"""Of a project, making takes at most one part in so many of the time."""
DATABASE: Final = "pugd_memory"


class Rows(Protocol):
    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...


class Commanded(Protocol):
    """`store.clickhouse.Store`, as far as this needs it."""

    @property
    def database(self) -> str:
        """Where `person_of` is."""
        ...

    async def command(self, sql: str) -> None: ...

    async def query(self, sql: str, parameters: Mapping[str, Any]) -> Rows: ...


class Base:
    """Two dictionaries that are there for as long as this is held."""

    __slots__ = ("__weakref__", "cells", "name", "place", "rows", "shift")

    def __init__(self, name: str, place: int, rows: int) -> None:
        self.name = name
        self.cells = f"{name}_cells"
        self.shift = 64 - max(CELL_BITS_MIN, (rows * CELLS).bit_length())
        self.place = place
        self.rows = rows
        """Of `person_of` that it was made of."""


class Belonging:
    """Safe to share between tasks of one loop."""

    def __init__(self, store: Commanded) -> None:
        self._store = store
        self._bases: dict[int, Base] = {}
        self._wanted: dict[int, int] = {}
        """Project → the place that a dictionary is wanted of."""
        self._asked_at: dict[int, float] = {}
        self._again_at: dict[int, float] = {}
        """Project → when another may be made."""
        self._want = trio.Event()
        self._free: list[str] = []
        """Dictionaries that nobody holds any more."""
        self._made = 0
        self._opened = False

    def base(self, project: int) -> Base | None:
        """What there is; to be held until what `owners` makes of it is."""
        self._asked_at[project] = trio.current_time()
        return self._bases.get(project)

    def owners(self, project: int, base: Base | None, changes: Changes) -> Owners:
        """As of `changes.place`; the changes are those since the place of `base`."""
        place = bound("UInt64", changes.place)
        if base is not None and changes.rows != base.rows:
            base = None  # rows of earlier places came or went: somebody repaired the table
            self._bases.pop(project, None)
        much = changes.rows >= ROWS_MIN if base is None else len(changes.actors) >= CHANGES_MANY
        others = sum(one.rows for of, one in self._bases.items() if of != project)
        fits = changes.rows + others <= ROWS_MAX
        if much and fits and trio.current_time() >= self._again_at.get(project, 0):
            self._wanted[project] = changes.place
            self._want.set()
        if base is None or not changes.whole:
            return Owners(project, place)
        return Owners(project, place, Kept(base.name, base.cells, base.shift, changes.actors, changes.persons, base))

    async def run(self) -> None:
        """Makes what is wanted, for ever."""
        while True:
            await self._want.wait()
            self._want = trio.Event()
            while self._wanted:
                project, place = self._wanted.popitem()
                begun = time.monotonic()
                try:
                    await self.make(project, place)
                except StoreError as error:
                    log.warning(
                        "questions of project %d join person_of, since no dictionary is made: %s", project, error
                    )
                pause = max(PAUSE_MIN_S, PAUSE_SHARE * (time.monotonic() - begun))
                self._again_at[project] = trio.current_time() + pause

    async def make(self, project: int, place: int) -> None:
        """Have dictionaries as of this place. raises StoreUnavailableError, StoreError"""
        if not self._opened:
            await self._store.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Memory")
            self._opened = True
        # Numbered, since the one before may be of the same place, and goes by its name.
        self._made += 1
        name = f"{DATABASE}.person_of_{project}_{place}_{self._made}"
        # Values cannot be bound in a definition; these are numbers of ours.
        found = keeping(self._store.database, project, place)
        count = counting(project, place)
        ((rows,),) = (await self._store.query(count.sql, count.parameters)).rows  # first: what comes later, it lacks
        await self._store.command(
            f"CREATE DICTIONARY {name} (actor UInt64, person UInt64) PRIMARY KEY actor"
            f" SOURCE(CLICKHOUSE(QUERY '{found}')) LAYOUT(HASHED()) LIFETIME(0)"
        )
        base = Base(name, place, rows)
        weakref.finalize(base, self._free.extend, (name, base.cells))
        await self._store.command(f"SYSTEM RELOAD DICTIONARY {name}")
        await self._store.command(
            f"CREATE DICTIONARY {base.cells} (cell UInt64, inhabited UInt8) PRIMARY KEY cell"
            f" SOURCE(CLICKHOUSE(QUERY '{celling(name, base.shift)}'))"
            f" LAYOUT(FLAT(INITIAL_ARRAY_SIZE {2 ** (64 - base.shift)} MAX_ARRAY_SIZE {2 ** (64 - base.shift)}))"
            " LIFETIME(0)"
        )
        await self._store.command(f"SYSTEM RELOAD DICTIONARY {base.cells}")
        self._bases[project] = base
        log.debug("project %d: whom actors belong to is at hand as of place %d", project, place)
        del base
        for idle in [of for of, at in self._asked_at.items() if at < trio.current_time() - IDLE_S]:
            self._bases.pop(idle, None)
            del self._asked_at[idle]
        while self._free:
            await self._store.command(f"DROP DICTIONARY IF EXISTS {self._free.pop()}")
