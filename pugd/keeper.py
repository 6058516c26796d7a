"""The private process: drains the journal into ClickHouse, answers questions, serves the console. Opens its parts in
one nursery, closes them in reverse.

Neither engine has to be there for the process to live: while Postgres or ClickHouse cannot be reached, it says so,
tries again with growing pauses, and is not ready. The console answers from the first moment on, if only to say that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import trio
from hypercorn.config import Config as ServerConfig
from hypercorn.trio import serve

from pugd import commands
from pugd.answer import Answer, Stored
from pugd.belonging import Belonging
from pugd.check import Check
from pugd.check import Collector as AskedCollector
from pugd.config import Config, address, reachable
from pugd.control import projects
from pugd.control.control import Control, open_control
from pugd.control.postgres import Connection
from pugd.control.shelf import Shelf
from pugd.data import DataDirectory, Held
from pugd.drain import Drain
from pugd.errors import CollectorAwayError, ConfigError, ControlError, PugdError, StoreUnavailableError
from pugd.everyone import Everyone
from pugd.exports import Exports
from pugd.identity.agreement import Report, told
from pugd.identity.graph import Graph
from pugd.limits import Limits
from pugd.model import LINK, LinkRow, Project
from pugd.process import STOPPING, Sockets, Status
from pugd.repair import commands_of
from pugd.store.clickhouse import Store
from pugd.tables import LINKS
from pugd.web.app import Health, console

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE_S: Final = 0.25
PAUSE_MAX_S: Final = 10.0
"""Between attempts to open Postgres."""
LOOK_INTERVAL_S: Final = 0.25
"""How often the process looks whether it is ready."""
DRAIN_SHARE: Final = 0.45
"""Of the time to stop, at most this much is for draining to the end; closing the engines needs some too."""
AWAY_WAIT_S: Final = 2.0
"""The same, where ClickHouse is away as the process stops."""
LINKS_MAX: Final = 20_000
"""Entries of the link log in one answer to the collector."""
CHECK_WAIT_S: Final = 120.0
"""How long a check waits for the drain."""
RECONCILE_PAUSE_S: Final = 1.0
ASK_PAUSE_S: Final = 0.1
"""Between two looks at a check that runs in another process."""


class Keeper:
    """The parts of the private process."""

    def __init__(self, config: Config, sockets: Sockets, status: Status) -> None:
        assert sockets.console is not None, "the supervisor hands over the console's socket"
        self._config = config
        self._socket = sockets.console
        self._status = status
        self._directory = directory = DataDirectory(config.data)
        self._store = Store(directory=directory.path, url=config.clickhouse_url or None)
        self._drain = Drain(
            directory, self._store, interval_ms=config.drain_interval_ms, rows_max=config.drain_rows_max
        )
        self._hasher = Graph(directory.key())
        # A server may be shared, and may not let us define what it keeps in its memory.
        self._belonging = Belonging(self._store) if self._store.embedded else None
        self._answer = Answer(
            self._store, wait_stored=self._wait_stored, actor=self._hasher.actor, collector=self._ask_collector,
            limits=_limits(config), belonging=self._belonging,
        )  # fmt: skip
        self._shelf = Shelf(self._run)
        self._everyone = Everyone(self._answer, self._shelf.used)
        self._exports = Exports(self._answer, self._everyone, self._store)
        self._control: Control | None = None
        self._greeted = False
        self._check: Check | None = None
        """The one that runs now."""
        self._checked_last: tuple[Report | None, str] = (None, "")
        """What the last check found, or why it could not check."""

    async def run(self) -> None:
        """Until `status.stopping`; then what is flushed is stored first, if that can be done in time."""
        try:
            known = {
                "links": self._links,
                "check": self._begin_check,
                "checked": self._checked,
                **commands_of(self._drain),
            }
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_control)
                nursery.start_soon(self._drain.run)
                nursery.start_soon(self._serve_console)
                self._nursery = nursery
                await nursery.start(commands.serve, self._directory.keeper_socket, known)
                nursery.start_soon(self._look)
                nursery.start_soon(self._reconcile)
                if self._belonging is not None:
                    nursery.start_soon(self._belonging.run)
                await self._status.stopping.wait()
                self._status.unready(STOPPING)
                await self._drain_to_the_end()
                nursery.cancel_scope.cancel()
        finally:
            await self._store.close()

    # -- engines -------------------------------------------------------------------------------------------------------

    async def _keep_control(self) -> None:
        """Postgres: open, keep, open again when it is gone."""
        pause = PAUSE_S
        while True:
            try:
                async with open_control(self._config, self._directory) as control:
                    self._control, pause = control, PAUSE_S
                    try:
                        await control.keep_keys()
                    finally:
                        self._control = None
            except ControlError as error:
                log.warning("%s; trying again in %g s", error, pause)
            await trio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX_S)

    async def _drain_to_the_end(self) -> None:
        drain, until = self._drain, self._drain.flushed
        bound = self._config.shutdown_timeout_s * DRAIN_SHARE
        if drain.statistics().away:
            bound = min(bound, AWAY_WAIT_S)
        if not await drain.wait_stored(until, trio.current_time() + bound):
            left = until - drain.stored
            log.warning("%d bytes of the journal are not stored yet; they will be after the next start", left)

    async def _wait_stored(self) -> Stored:
        """Until all that is flushed now is stored, or for as long as a question may wait."""
        drain = self._drain
        complete = await drain.wait_stored(drain.flushed, trio.current_time() + self._config.read_wait_s)
        return Stored(until=drain.stored_until_ms, complete=complete)

    async def _ask_collector(self, do: str, /, **arguments: object) -> Any:
        """What only the collector knows or can do."""
        try:
            return await commands.ask(self._directory.collector_socket, do, **arguments)
        except commands.CommandError as error:
            done = "Nothing was done" if error.code else "It is not known whether it was done: look first"
            raise CollectorAwayError(f"{error}. {done}, and ask again in a while.") from error

    # -- identity agrees with itself -----------------------------------------------------------------------------------

    async def _wait_all_stored(self) -> int:
        """Until all that is flushed now is stored. returns the position; raises StoreUnavailableError"""
        until = self._drain.flushed
        if not await self._drain.wait_stored(until, trio.current_time() + CHECK_WAIT_S):
            raise StoreUnavailableError(
                f"not everything is stored within {CHECK_WAIT_S:g} s: ClickHouse is away or slow"
            )
        return until

    def _new_check(self) -> Check:
        asked = AskedCollector(self._ask_collector) if "collector" in self._config.roles else None
        return Check(self._directory, self._store, wait_stored=self._wait_all_stored, collector=asked)

    async def _reconcile(self) -> None:
        """Once after a start, beside everything else: what a crash left between graph, link log and person_of."""
        while True:
            try:
                while not self._greeted or not self._store.ready or self._check is not None:
                    await trio.sleep(RECONCILE_PAUSE_S)
                begun = time.monotonic()
                differs = await self._new_check().glance()
                break
            except PugdError as error:
                log.info("whether graph, link log and person_of agree cannot be seen yet: %s", error)
                await trio.sleep(RECONCILE_PAUSE_S)
        if not differs:
            log.info("graph, link log and person_of agree at a glance (%.1f s)", time.monotonic() - begun)
            return
        log.warning("%s: checking all of it, and repairing", differs)
        await self._begin_check({"repair": True})

    async def _begin_check(self, asked: Mapping[str, Any]) -> bool:
        """Start a check, unless one runs. returns whether it was started"""
        if self._check is not None:
            return False
        self._check = self._new_check()
        self._nursery.start_soon(self._run_check, self._check, bool(asked.get("repair")))
        return True

    async def _run_check(self, check: Check, repair: bool) -> None:
        try:
            report = await check.run(repair=repair)
        except PugdError as error:
            self._checked_last = (None, str(error))
            log.warning("graph, link log and person_of could not be compared: %s", error)
        else:
            self._checked_last = (report, "")
            for line in told(report):
                if line:
                    log.log(logging.INFO if report.found.agree else logging.WARNING, "%s", line)
        finally:
            self._check = None

    async def _checked(self, _: Mapping[str, Any]) -> commands.Checked:
        if self._check is not None:
            return commands.Checked(self._check.progress)
        return commands.Checked("", *self._checked_last)

    # -- how it is -----------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Can a question be answered?"""
        drain = self._drain.statistics()
        reasons: dict[str, str] = {}
        if self._status.stopping.is_set():
            reasons["draining"] = "shutting down"
        if self._control is None:
            if self._greeted:
                reasons["control_unavailable"] = "Postgres cannot be reached"
            else:
                reasons["starting"] = "opening Postgres"
        if drain.away:
            reasons["store_unavailable"] = drain.last_error
        elif not self._store.ready:
            reasons["starting"] = "opening ClickHouse"
        return Health(ready=not reasons, reasons=reasons)

    async def _look(self) -> None:
        """Tell the supervisor when that changes."""
        said: Health | None = None
        while not self._status.stopping.is_set():
            found = self.health()
            if found != said:
                if found.ready:
                    self._status.ready(**await self._facts())
                else:
                    self._status.unready("; ".join(found.reasons.values()))
                said = found
            await trio.sleep(LOOK_INTERVAL_S if self._greeted else 0.02)

    async def _facts(self) -> dict[str, str]:
        """What the supervisor tells the one who started pugd; once."""
        control = self._control
        if self._greeted or control is None:
            return {}
        try:
            write_key = await control.write_key(projects.DEFAULT) or ""
            login = await control.create_login()
        except ControlError as error:
            log.warning("%s", error)
            return {}
        self._greeted = True
        return {"write_key": write_key, "login": login}

    async def _statistics(self) -> Mapping[str, Any]:
        """Every part's record, the collector's too where it answers."""
        parts: dict[str, Any] = {
            "drain": self._drain.statistics(),
            "store": self._store.statistics(),
            "answer": self._answer.statistics(),
        }
        if "collector" in self._config.roles:
            try:
                parts |= await commands.ask(self._directory.collector_socket, "statistics")
                parts["collector"] = {"answers": True}
            except commands.CommandError:
                parts["collector"] = {"answers": False}
        return parts

    # -- what others ask -----------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[Connection], T], /) -> T:
        """In one transaction, by whichever `Control` there is at the moment. raises ControlError"""
        return await self.control.run(work)

    async def _serve_console(self) -> None:
        application = console(
            asker=self._answer,
            crowd=self._everyone,
            exporter=self._exports,
            at_once=self._config.questions_per_key_max,
            access=Access(self),
            shelf=self._shelf,
            health=self.health,
            statistics=self._statistics,
            collector=f"http://{reachable(address(self._config.collector))}",
        )
        server = ServerConfig()
        # Its own from here on: a descriptor closed twice is, the second time, one of the embedded engine's files.
        server.bind = [f"fd://{self._socket.detach()}"]
        server.accesslog = None
        server.errorlog = logging.getLogger("hypercorn.error")
        server.graceful_timeout = 2.0
        server.include_server_header = False
        await serve(application, server, shutdown_trigger=trio.sleep_forever)  # type: ignore[arg-type]

    async def _links(self, asked: Mapping[str, Any]) -> list[LinkRow]:
        """For a collector that has lost its graph: entries of the link log from `order` on, at most `limit`."""
        order, limit = int(asked.get("order", 0)), min(int(asked.get("limit", LINKS_MAX)), LINKS_MAX)
        return await links_from(self._store, order, limit)

    @property
    def control(self) -> Control:
        """Raises ControlError while Postgres is away."""
        if self._control is None:
            raise ControlError("Postgres is not there yet: try again in a moment")
        return self._control


class Access:
    """Who may look, by whichever `Control` there is at the moment."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def check_read_key(self, key: str) -> Project | None:
        """The project that a read key opens."""
        return await self._keeper.control.check_read_key(key)

    async def redeem_login(self, token: str) -> str | None:
        """A session for a login token, once."""
        return await self._keeper.control.redeem_login(token)

    async def check_session(self, session: str) -> Project | None:
        """The project whose console a session opens."""
        return await self._keeper.control.check_session(session)

    async def end_session(self, session: str) -> None:
        """Log out."""
        await self._keeper.control.end_session(session)

    async def change_zone(self, project: int, name: str) -> Project:
        """Another time zone for a project."""
        return await self._keeper.control.change_zone(project, name)

    async def write_key(self, project: int) -> str | None:
        """A public write key, to show."""
        return await self._keeper.control.write_key(project)


def _limits(config: Config) -> Limits:
    return Limits(
        seconds=config.question_timeout_s,
        export_seconds=config.export_timeout_s,
        memory_bytes=config.question_memory_bytes_max,
        rows=config.question_rows_max,
        days=config.question_days_max,
    )


def _column(name: str, type_: str) -> str:
    quoted = f"`{name}`"
    return f"toUnixTimestamp64Milli({quoted})" if type_.startswith("DateTime64") else quoted


_TYPES: Final = {column.name: column.type for column in LINKS.columns}
_LINKS: Final = (
    "select "  # noqa: S608 - our own column names; every value is bound
    + ", ".join(_column(field, _TYPES[field]) for field in LinkRow.__struct_fields__ if field != "kind")
    + " from links where `order` >= {order:UInt64} and `order` < {until:UInt64}"
    " order by `order` limit 1 by `order` limit {limit:UInt32}"
)


async def links_from(store: Store, order: int, limit: int) -> list[LinkRow]:
    """Entries of the link log from `order` on, `limit` of them where there are as many.

    cost     those entries: a range of places is read, and all to the end only where that has holes or is the end
    """
    for until in (order + limit, (1 << 64) - 1):
        found = (await store.query(_LINKS, {"order": order, "until": until, "limit": limit})).rows
        if len(found) == limit:
            break
    return [LinkRow(LINK, *row) for row in found]


async def run(config: Config, sockets: Sockets, status: Status) -> None:
    """Be the keeper, until `status.stopping`."""
    await Keeper(config, sockets, status).run()


def check_identity(config: Config, *, repair: bool, say: Callable[[str], None]) -> Report:
    """Compare graph, link log and person_of: by the keeper that runs on the data directory, else here.

    `say`    is told what is being done
    raises   PugdError where it cannot be checked
    """
    directory = DataDirectory(config.data)
    if not directory.collector.exists():
        raise ConfigError(f"{directory.path} is no data directory of pugd: name it with --data")
    try:
        held = Held(directory)
    except ConfigError:
        return trio.run(_ask_check, directory, repair, say)
    try:
        return trio.run(_check_alone, config, directory, repair, say)
    finally:
        held.close()


async def _ask_check(directory: DataDirectory, repair: bool, say: Callable[[str], None]) -> Report:
    while not await commands.ask(directory.keeper_socket, "check", repair=repair):
        say("waiting for another check to end")
        await trio.sleep(ASK_PAUSE_S)
    while True:
        await trio.sleep(ASK_PAUSE_S)
        checked = msgspec.convert(await commands.ask(directory.keeper_socket, "checked"), commands.Checked)
        if checked.progress:
            say(checked.progress)
        elif checked.error:
            raise StoreUnavailableError(checked.error)
        else:
            return msgspec.convert(checked.report, Report)


async def _check_alone(config: Config, directory: DataDirectory, repair: bool, say: Callable[[str], None]) -> Report:
    store = Store(directory=directory.path, url=config.clickhouse_url or None)
    drain = Drain(directory, store, interval_ms=config.drain_interval_ms, rows_max=config.drain_rows_max)

    async def wait_stored() -> int:
        until = drain.flushed
        if not await drain.wait_stored(until, trio.current_time() + CHECK_WAIT_S):
            why = drain.statistics().last_error
            raise StoreUnavailableError(f"not everything is stored within {CHECK_WAIT_S:g} s. {why}")
        return until

    check = Check(directory, store, wait_stored=wait_stored, collector=None)

    async def tell() -> None:
        while True:
            say(check.progress)
            await trio.sleep(ASK_PAUSE_S)

    try:
        await store.prepare()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            nursery.start_soon(tell)
            report = await check.run(repair=repair)
            nursery.cancel_scope.cancel()
        return report
    finally:
        await store.close()
