"""An operator's hands on what is stored: rows out of quarantine, rows that ClickHouse has lost.

Whatever needs the engine goes through the keeper's socket where pugd runs (one process may open the embedded engine),
and otherwise through a drain of its own, under the lock on the data directory. Each sends a row once, whatever
happened before and however often it is asked: drain.py sees to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from pugd import commands
from pugd.config import Config
from pugd.data import DataDirectory, Held
from pugd.drain import Compared, Drain
from pugd.errors import ConfigError, JournalError
from pugd.store.clickhouse import Store

LOOK_INTERVAL_S = 0.2

Ask = Callable[..., Awaitable[Any]]
"""ask("put_back", position=…): what `commands_of` answers, here or in the keeper."""


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found, and what is still missing after it."""

    begin: int
    end: int
    rows: dict[str, int]
    missing: dict[str, int]
    left: dict[str, int]


def commands_of(drain: Drain) -> dict[str, commands.Command]:
    """What an operator may ask of a drain, over the keeper's socket or here."""

    async def put_back(asked: Mapping[str, Any]) -> str:
        return await drain.put_back(int(asked["position"]))

    async def go_back(asked: Mapping[str, Any]) -> int:
        return await drain.go_back(int(asked["position"]))

    async def compare(asked: Mapping[str, Any]) -> Compared:
        return await drain.compare(int(asked["position"]))

    async def stored(_: Mapping[str, Any]) -> int:
        return drain.stored

    def told(command: commands.Command) -> commands.Command:
        async def run(asked: Mapping[str, Any]) -> object:
            try:
                return await command(asked)
            except OSError as error:
                raise JournalError(f"the data directory: {error}") from error

        return run

    every = {"put_back": put_back, "go_back": go_back, "compare": compare, "stored": stored}
    return {name: told(command) for name, command in every.items()}


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Ask]:
    """Someone to ask: the keeper that runs, else a drain that runs here meanwhile.

    raises  ConfigError where there is no data directory
    """
    directory = DataDirectory(config.data)
    directory.origin()
    try:
        held = Held(directory)
    except ConfigError:

        async def ask_keeper(do: str, **asked: object) -> Any:
            return await commands.ask(directory.keeper_socket, do, **asked)

        yield ask_keeper
        return
    store = Store(directory=directory.path, url=config.clickhouse_url or None)
    try:
        drain = Drain(directory, store, interval_ms=config.drain_interval_ms, rows_max=config.drain_rows_max)
        known = commands_of(drain)

        async def ask_here(do: str, **asked: object) -> Any:
            return msgspec.to_builtins(await known[do](asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            yield ask_here
            nursery.cancel_scope.cancel()
    finally:
        await store.close()
        held.close()


async def put_back(config: Config, positions: list[int], say: Callable[[int, str], None]) -> int:
    """Send rows of quarantine again. `say` hears of each: '' when it is in ClickHouse, else why it stays.

    returns  how many stay
    """
    stay = 0
    async with opened(config) as ask:
        for position in positions:
            why = await ask("put_back", position=position)
            say(position, why)
            stay += bool(why)
    return stay


async def replay(config: Config, position: int, *, dry_run: bool, say: Callable[[str], None]) -> Replayed:
    """Send what the journal holds from `position` on, was stored once, and ClickHouse does not hold any more."""
    async with opened(config) as ask:
        end, rows, missing, first = await _compared(ask, position)
        if not missing or dry_run:
            return Replayed(position, end, rows, missing, missing)
        say(f"{sum(missing.values()):,} of {sum(rows.values()):,} rows are missing in ClickHouse: sending them")
        begin = await ask("go_back", position=first)
        while await ask("stored") < end:
            await trio.sleep(LOOK_INTERVAL_S)
        _, _, left, _ = await _compared(ask, begin)
        return Replayed(begin, end, rows, missing, left)


async def _compared(ask: Ask, position: int) -> tuple[int, dict[str, int], dict[str, int], int]:
    """Everything stored from `position` on beside ClickHouse: (end, rows, missing, where the first is missing)."""
    rows: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    first = -1
    while True:
        found = msgspec.convert(await ask("compare", position=position), type=Compared)
        rows.update(found.rows)
        missing.update(found.missing)
        if first < 0 and any(found.missing.values()):
            first = position
        position = found.end
        if found.last:
            return position, dict(rows), {name: count for name, count in missing.items() if count}, first
