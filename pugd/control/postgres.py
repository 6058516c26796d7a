"""Connections to Postgres, and its migrations.

psycopg runs in threads, a few at a time; each piece of work is one transaction. A connection that failed is thrown
away, and what went wrong comes up as `ControlError`, which says what to look at. No event waits for this.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, Final, TypeVar

import psycopg
import trio

from pugd.errors import ControlError
from pugd.question import QuestionError

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 3
CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_MS: Final = 10_000
MIGRATION_LOCK: Final = 0x70756764
"""Of the advisory lock under which migrations run: 'pugd'."""

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")


class Postgres:
    """A small pool over one server."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._idle: list[Connection] = []
        self._limiter = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """`work` in one transaction, in a thread. Raises ControlError when Postgres is away or refuses."""
        return await trio.to_thread.run_sync(self._run, work, limiter=self._limiter)

    async def close(self) -> None:
        """Close what is idle; call when nothing runs any more."""
        while self._idle:
            await trio.to_thread.run_sync(self._idle.pop().close)

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._conninfo)
        try:
            with connection.transaction():
                result = work(connection)
        except psycopg.Error as error:
            connection.close()
            raise ControlError(f"Postgres: {_first_line(error)}") from error
        except QuestionError:  # refused by us, and rolled back: nothing is wrong with the connection
            self._idle.append(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result


def connect(conninfo: str) -> Connection:
    """One connection. Raises ControlError when there is no server."""
    try:
        return psycopg.connect(
            conninfo,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="pugd",
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        )
    except psycopg.Error as error:
        raise ControlError(f"Postgres cannot be reached: {_first_line(error)}") from error


def migrate(connection: Connection) -> list[int]:
    """Bring the schema up to date, one caller at a time; returns the numbers applied now. Call in a transaction."""
    connection.execute("select pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    connection.execute(
        "create table if not exists migrations"
        " (number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row[0] for row in connection.execute("select number from migrations")}
    known = migrations()
    if done and max(done) > max(known):
        raise ControlError(f"the Postgres schema is at {max(done)}, newer than this pugd knows ({max(known)}): upgrade")
    applied = []
    for number in sorted(set(known) - done):
        name, text = known[number]
        connection.execute(text.encode())
        connection.execute("insert into migrations (number, name) values (%s, %s)", (number, name))
        applied.append(number)
    if applied:
        log.info("migrated Postgres to %d", applied[-1])
    return applied


def migrations() -> dict[int, tuple[str, str]]:
    """Number → name and SQL of every migration."""
    found: dict[int, tuple[str, str]] = {}
    for file in resources.files("pugd.control").joinpath("migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            assert int(number) not in found, file.name
            found[int(number)] = (name, file.read_text(encoding="utf-8"))
    return found


@contextlib.contextmanager
def borrowed(conninfo: str) -> Iterator[Connection]:
    """A connection for a command line: one transaction, then closed."""
    connection = connect(conninfo)
    try:
        with connection.transaction():
            yield connection
    except psycopg.Error as error:
        raise ControlError(f"Postgres: {_first_line(error)}") from error
    finally:
        connection.close()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
