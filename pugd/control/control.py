"""All that the keeper asks of Postgres, in one object.

Checks of keys and sessions are remembered for a few seconds, so that a page of many requests costs one look-up, and a
revoked key stops working soon. While Postgres is away, what was remembered a little longer ago still counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import trio

from pugd.config import Config
from pugd.control import keys, members, postgres, projects
from pugd.control.embedded import Embedded
from pugd.control.postgres import Connection, Postgres
from pugd.data import DataDirectory, write_whole
from pugd.errors import ControlError
from pugd.model import Project

log = logging.getLogger(__name__)

REMEMBER_S: Final = 5.0
REMEMBER_AWAY_S: Final = 300.0
"""How long an answer counts while Postgres cannot be asked."""
REMEMBERED_MAX: Final = 1_000
KEYS_INTERVAL_S: Final = 0.75

T = TypeVar("T")


class Remembered:
    """Answers given lately, by the hash of what was asked. Bounded: the oldest goes first."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[float, object]] = {}

    async def ask(self, secret: str, question: Callable[[], Awaitable[T | None]]) -> T | None:
        """The answer remembered, else asked. Only what was found is remembered."""
        place = hashlib.sha256(secret.encode()).digest()
        now = trio.current_time()
        at, answer = self._answers.get(place, (-1e9, None))
        if now - at < REMEMBER_S:
            return answer  # type: ignore[return-value]
        try:
            fresh = await question()
        except ControlError:
            if now - at < REMEMBER_AWAY_S:
                return answer  # type: ignore[return-value]
            raise
        self._answers.pop(place, None)
        if fresh is not None:
            self._answers[place] = (now, fresh)
            if len(self._answers) > REMEMBERED_MAX:
                del self._answers[next(iter(self._answers))]
        return fresh

    def forget(self, secret: str) -> None:
        """It counts no more."""
        self._answers.pop(hashlib.sha256(secret.encode()).digest(), None)


class Control:
    """Projects, keys and members. Made by `open_control`."""

    def __init__(self, postgres: Postgres, directory: DataDirectory, *, ours: bool) -> None:
        """`ours`: the embedded Postgres, which nobody else starts again."""
        self._postgres = postgres
        self._ours = ours
        self._directory = directory
        self._read_keys = Remembered()
        self._sessions = Remembered()
        self._written: bytes | None = None
        self._projects: dict[int, Project] = {}
        """As Postgres last told them: what is remembered of a key or a session may be of an older look."""
        self._changes = 0
        """How often one was changed here."""

    async def check_read_key(self, key: str) -> Project | None:
        """The project that a read key opens. Raises ControlError while Postgres is away and the key unknown to us."""
        return self._present(
            await self._read_keys.ask(
                key, lambda: self._postgres.run(lambda connection: keys.project_of_read_key(connection, key))
            )
        )

    async def redeem_login(self, token: str) -> str | None:
        """A session token for a login token, once."""
        return await self._postgres.run(lambda connection: members.redeem_login(connection, token))

    async def check_session(self, session: str) -> Project | None:
        """The project whose console a session opens."""
        return self._present(
            await self._sessions.ask(
                session, lambda: self._postgres.run(lambda connection: members.check_session(connection, session))
            )
        )

    def _present(self, found: Project | None) -> Project | None:
        return None if found is None else self._projects.get(found.id, found)

    async def change_zone(self, project: int, name: str) -> Project:
        """Another time zone, from this project's next question on. raises QuestionError, ControlError"""
        changed = await self._postgres.run(lambda connection: projects.change_zone(connection, project, name))
        self._changes += 1
        self._projects[project] = changed
        return changed

    async def end_session(self, session: str) -> None:
        """Log out."""
        self._sessions.forget(session)
        await self._postgres.run(lambda connection: members.end_session(connection, session))

    async def create_login(self) -> str:
        """A token for one login link."""
        return await self._postgres.run(members.create_login)

    async def projects(self) -> list[Project]:
        """All projects."""
        return await self._postgres.run(projects.list_projects)

    async def write_key(self, project: int) -> str | None:
        """A public write key of a project, to show to a newcomer."""
        return await self._postgres.run(lambda connection: keys.first_write_key(connection, project))

    async def run(self, work: Callable[[Connection], T], /) -> T:
        """Other work, in one transaction."""
        return await self._postgres.run(work)

    async def write_keys(self) -> None:
        """Write the collector's file of keys, if it should say something else than it does."""
        changes = self._changes
        file = await self._postgres.run(keys.key_file)
        if changes == self._changes:  # else this look may be older than the change
            self._projects = {project.id: project for project in file.projects}
        data = msgspec.json.encode(file)
        if data == self._written:
            return
        await trio.to_thread.run_sync(_replace, self._directory, data)
        self._written = data

    async def keep_keys(self) -> None:
        """Keep the collector's file of keys current, for ever.

        raises  ControlError where the Postgres that went away is ours, so that it be started again
        """
        away = False
        while True:
            await trio.sleep(KEYS_INTERVAL_S)
            try:
                await self.write_keys()
                away = False
            except ControlError as error:
                if self._ours:
                    raise
                if not away:
                    log.warning("keys are not being refreshed: %s", error)
                away = True

    async def close(self) -> None:
        """Close the connections."""
        await self._postgres.close()


@contextlib.asynccontextmanager
async def open_control(config: Config, directory: DataDirectory) -> AsyncIterator[Control]:
    """Postgres up and current, the default project's keys in place, the collector's file written."""
    embedded = None if config.postgres_url else Embedded(directory.postgres)
    try:
        conninfo = config.postgres_url if embedded is None else await trio.to_thread.run_sync(embedded.start)
        server = Postgres(conninfo)
        try:
            await server.run(postgres.migrate)
            read_key = await server.run(lambda connection: seed(connection, config))
            if read_key:
                write_whole(directory.read_key, read_key.encode() + b"\n")
            control = Control(server, directory, ours=embedded is not None)
            await control.write_keys()
            yield control
        finally:
            with trio.CancelScope(shield=True):
                await server.close()
    finally:
        if embedded is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(embedded.stop)


def seed(connection: Connection, config: Config) -> str:
    """Give the default project the keys it was configured with, or its first ones; returns a read key made just now."""
    connection.execute("select pg_advisory_xact_lock(%s)", (postgres.MIGRATION_LOCK,))
    if config.write_key:
        keys.seed(connection, "write", config.write_key)
    elif not keys.has(connection, ("write", "secret_write")):
        keys.make(connection, projects.DEFAULT, "write")
    if config.read_key:
        keys.seed(connection, "read", config.read_key)
    elif not keys.has(connection, ("read",)):
        return keys.make(connection, projects.DEFAULT, "read")
    return ""


def _replace(directory: DataDirectory, data: bytes) -> None:
    try:
        if directory.keys.read_bytes() == data:
            return
    except OSError:
        pass
    write_whole(directory.keys, data)
