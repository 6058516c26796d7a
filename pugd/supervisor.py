"""`pugd serve`: the data directory, the sockets, and the processes that do the work.

What it holds outlives a child: sockets stay bound while a child is down (connections wait in the kernel's queue), and
the lock on the data directory is shared with the children, so a second pugd cannot begin while one still writes. A
child that ends is started again, alone, after 0.1 s; where it ends again before it served for a second, after a pause
that doubles up to 10 s. One that ends because its settings are wrong ends everything.

Stopping has one order: the collector takes no more, flushes and ends; then the keeper, which can now drain to the very
end; then, if a child was killed, the database it may have left.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from pugd import logs, process, service
from pugd.config import Address, Config, address, reachable
from pugd.control.embedded import Embedded
from pugd.data import DataDirectory, Held
from pugd.enrich import place
from pugd.errors import ConfigError

log = logging.getLogger(__name__)

RESTART_PAUSE_S: Final = 0.1
RESTART_PAUSE_MAX_S: Final = 10.0
RESTART_FORGET_S: Final = 1.0
"""A child that became ready and served this long starts anew at once: what ended it was not its start."""
SILENCE_MAX_S: Final = 30.0
"""A child that says nothing for so long hangs (it speaks every second) and is killed."""
STARTING_MAX_S: Final = 900.0
"""The same before it was ready: reading a long journal back takes the loop's whole time."""
COLLECTOR_SHARE: Final = 0.4
"""Of the time to stop, at most this much is the collector's; the keeper has the rest."""
LOCK_WAIT_S: Final = 20.0
"""How long to wait for the children of a pugd that is gone to put their things away."""
BACKLOG: Final = 4096


class Child:
    """One process: when it runs, what it last said."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.heard = 0.0
        """When it last said something, monotonic seconds."""
        self.ready = False
        self.facts: dict[str, Any] = {}
        """What it said with its last `ready`."""
        self.code: int | None = None
        """How it ended, once it will not be started again."""
        self.gone = trio.Event()
        """Ended for good."""

    def hear(self, line: bytes) -> None:
        """Take one line from the status pipe."""
        self.heard = time.monotonic()
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict) or "ready" not in said:
            return
        if said["ready"]:
            if not self.ready:
                log.info("%s is ready", self.role)
            self.facts = said
        else:
            why = str(said.get("why", ""))
            expected = not self.ready or why == process.STOPPING
            log.log(logging.INFO if expected else logging.WARNING, "%s: %s", self.role, why)
        self.ready = bool(said["ready"])

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether there is a process now."""
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """Starts the children, keeps them going, stops them in order."""

    def __init__(
        self, config: Config, held: Held, sockets: dict[str, socket.socket], greet: Callable[[dict[str, Any]], None]
    ) -> None:
        self.config = config
        self.held = held
        self.sockets = sockets
        self.greet = greet
        self.children = [Child(role) for role in process_order(config.roles)]
        self.notes = service.Notes(os.environ)
        self.stopping = trio.Event()
        self.greeted = False
        self.code = 0

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; returns the exit code."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_asked, signals)
                nursery.start_soon(self._watch)
                for child in self.children:
                    nursery.start_soon(self._tend, child)
                await self.stopping.wait()
                self.notes.send("STOPPING=1", "STATUS=stopping")
                await self._stop()
                nursery.cancel_scope.cancel()
        log.info("stopped")
        return self.code

    async def _stop_when_asked(self, signals: Any) -> None:
        async for number in signals:
            if not self.stopping.is_set():
                log.info("stopping on %s", signal.Signals(number).name)
            self.stopping.set()

    async def _stop(self) -> None:
        """The children, in order, each within its bound."""
        end = trio.current_time() + self.config.shutdown_timeout_s
        killed = left = False
        for index, child in enumerate(self.children):
            last = index == len(self.children) - 1
            bound = end if last else trio.current_time() + self.config.shutdown_timeout_s * COLLECTOR_SHARE
            child.send(signal.SIGTERM)
            with trio.move_on_at(bound):
                await child.gone.wait()
            if not child.gone.is_set():
                log.error("%s did not stop in time: killed", child.role)
                killed = True
                child.send(signal.SIGKILL)
                await child.gone.wait()
            # One that had not yet begun to listen for SIGTERM is ended by it, and has done nothing yet.
            killed = killed or child.code not in (0, None, -signal.SIGTERM)
            left = left or child.code != 0
        if left and "keeper" in self.config.roles and not self.config.postgres_url:
            directory = DataDirectory(self.config.data)
            await trio.to_thread.run_sync(Embedded(directory.postgres).stop)
        if killed and self.code == 0:
            self.code = 1

    async def _tend(self, child: Child) -> None:
        """Start it, follow it, start it again."""
        pause = RESTART_PAUSE_S
        try:
            while not self.stopping.is_set():
                began = time.monotonic()
                code = await self._follow(child)
                served = child.ready and time.monotonic() - began > RESTART_FORGET_S
                child.ready = False
                if self.stopping.is_set():
                    child.code = code
                    return
                if code == process.EXIT_CONFIG:
                    child.code, self.code = code, process.EXIT_CONFIG
                    self.stopping.set()
                    return
                if served:
                    pause = RESTART_PAUSE_S
                log.error("%s %s; starting it again in %g s", child.role, _ending(code), pause)
                with trio.move_on_after(pause):
                    await self.stopping.wait()
                pause = min(2 * pause, RESTART_PAUSE_MAX_S)
        finally:
            child.gone.set()

    async def _follow(self, child: Child) -> int:
        """One life of a child; returns its exit code."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        settings = os.memfd_create("pugd-settings", os.MFD_CLOEXEC)
        try:
            os.write(settings, msgspec.json.encode(self.config))
            os.lseek(settings, 0, os.SEEK_SET)
            wanted = ("http", "udp") if child.role == "collector" else ("console",)
            passed = {name: self.sockets[name].fileno() for name in wanted if name in self.sockets}
            given = process.Given(os.getpid(), settings, writing, self.held.descriptor, passed)
            # From this thread: the kernel ties "die with your parent" to the thread that made the child.
            child.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "pugd", child.role],
                env={**_child_environment(), "PUGD_CHILD": msgspec.json.encode(given).decode()},
                stdin=subprocess.DEVNULL,
                pass_fds=(settings, writing, self.held.descriptor, *passed.values()),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(settings)
            os.close(writing)
        child.heard = time.monotonic()
        log.debug("%s started pid=%d", child.role, child.process.pid)
        if self.stopping.is_set():
            child.send(signal.SIGTERM)
        rest = b""
        stream = trio.lowlevel.FdStream(reading)
        try:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    child.hear(line)
                self._greet_when_ready()
            # Only the child held the other end, so it has ended or is about to.
            return await trio.to_thread.run_sync(child.process.wait)
        finally:
            await trio.aclose_forcefully(stream)

    def _greet_when_ready(self) -> None:
        if self.greeted or not all(child.ready for child in self.children):
            return
        self.greeted = True
        self.notes.send("READY=1", "STATUS=serving")
        facts: dict[str, Any] = {}
        for child in self.children:
            facts |= child.facts
        self.greet(facts)

    async def _watch(self) -> None:
        """Feed the service manager's watchdog while the children answer; kill one that hangs."""
        patience = min(SILENCE_MAX_S, self.notes.watchdog_s or math.inf) / 2
        while True:
            now = time.monotonic()
            silent = [
                child
                for child in self.children
                if child.running and now - child.heard > (patience if child.ready else STARTING_MAX_S)
            ]
            if not silent:
                self.notes.send("WATCHDOG=1")
            for child in silent:
                if now - child.heard > SILENCE_MAX_S:
                    log.error("%s says nothing: killed", child.role)
                    child.send(signal.SIGUSR1)  # it may still be able to say where it is
                    await trio.sleep(0.5)
                    child.send(signal.SIGKILL)
            await trio.sleep(min(patience / 2, 5.0))


def _end(number: int, frame: object) -> None:
    """Told to stop before anything was started."""
    raise SystemExit(0)


def serve(config: Config) -> int:
    """Run until told to stop; returns the exit code. Raises PugdError when it cannot begin."""
    passwords = logs.secrets_of_url(config.clickhouse_url) + logs.secrets_of_url(config.postgres_url)
    logs.start("supervisor", config.log_level, [config.read_key, *passwords])
    signal.signal(signal.SIGTERM, _end)  # until there is anything to stop
    if config.places and "collector" in config.roles:
        # Here alone: a file that is damaged later keeps no collector from starting again.
        place.check(config.places)
    os.umask(0o077)  # events are personal: nothing made from here on is for others to read
    directory = DataDirectory(config.data)
    held = _hold(directory)
    try:
        directory.make(config.collector_name)
        directory.seed_keys(config.write_key)
        sockets = take_or_bind(config)
        _raise_file_limit(config.connections_max)
        log.info("starting in %s", directory.path)
        read_key_at = "the one you set" if config.read_key else f"in {directory.read_key}"

        def greet(facts: dict[str, Any]) -> None:
            _greet(sockets, {**facts, "read_key_at": read_key_at})

        supervisor = Supervisor(_as_bound(config, sockets), held, sockets, greet)
        # What comes while Trio sets itself up waits until there is who hears it: `_end` would break Trio off.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return trio.run(supervisor.run)
    finally:
        held.close()


def process_order(roles: tuple[str, ...]) -> list[str]:
    """The order of stopping: who takes events before who stores them."""
    return [role for role in ("collector", "keeper") if role in roles]


def take_or_bind(config: Config) -> dict[str, socket.socket]:
    """The collector's TCP and UDP sockets and the console's: those systemd passed, the rest bound here."""
    sockets: dict[str, socket.socket] = {}
    console_port = address(config.console).port
    for name, given in service.take_sockets(os.environ).items():
        if given.type == socket.SOCK_DGRAM:
            role = "udp"
        elif name == "console" or given.getsockname()[1] == console_port or "http" in sockets:
            role = "console"
        else:
            role = "http"
        if role in sockets:
            raise ConfigError(f"two sockets were passed in for {role}: pugd.socket should list one of each")
        given.setblocking(False)
        sockets[role] = given
    if "collector" in config.roles:
        if "http" not in sockets and "udp" not in sockets:
            sockets["http"], sockets["udp"] = _bind_pair("collector", address(config.collector))
        elif "udp" not in sockets:
            sockets["udp"] = _bind("collector", _of(sockets["http"]), socket.SOCK_DGRAM)
        elif "http" not in sockets:
            sockets["http"] = _bind("collector", _of(sockets["udp"]), socket.SOCK_STREAM)
    if "keeper" in config.roles and "console" not in sockets:
        sockets["console"] = _bind("console", address(config.console), socket.SOCK_STREAM)
    return sockets


def _bind_pair(setting: str, where: Address) -> tuple[socket.socket, socket.socket]:
    """TCP and UDP on one port; with port 0, on one that is free for both."""
    for attempt in range(20):
        stream = _bind(setting, where, socket.SOCK_STREAM)
        try:
            return stream, _bind(setting, Address(where.host, stream.getsockname()[1]), socket.SOCK_DGRAM)
        except ConfigError:
            stream.close()
            if where.port != 0 or attempt == 19:
                raise
    raise AssertionError("unreachable")


def _bind(setting: str, where: Address, kind: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(where.host, where.port, type=kind, flags=socket.AI_PASSIVE)
        family, _, protocol, _, place = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"setting {setting}: {where} is no address of this machine: {error.strerror}") from error
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if where.host == "::" else 1)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        if kind == socket.SOCK_STREAM:
            bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        transport = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            free = Address(where.host, where.port + 10)
            why = f"another program has it; give a free one, such as PUGD_{setting.upper()}={free}"
        raise ConfigError(f"setting {setting}: {where} ({transport}) cannot be bound: {why}") from error
    bound.setblocking(False)
    return bound


def _hold(directory: DataDirectory) -> Held:
    """The lock; waits for children that outlived their supervisor to finish."""
    end = time.monotonic() + LOCK_WAIT_S
    waited = False
    while True:
        try:
            return Held(directory)
        except ConfigError:
            if Held.owner_lives(directory) or time.monotonic() > end:
                raise
            if not waited:
                log.warning("waiting for the processes of a pugd that was killed to finish in %s", directory.path)
                waited = True
            time.sleep(0.1)


def _raise_file_limit(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError):
        limit = soft
    if limit < connections + 256:
        log.warning("only %d files may be open: fewer connections than connections_max=%d", limit, connections)


def _child_environment() -> dict[str, str]:
    """Ours without the settings: the children get those in memory, and no key stands in their environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PUGD_")}


def _as_bound(config: Config, sockets: dict[str, socket.socket]) -> Config:
    """With the addresses that were found or given, where the settings left the port open."""
    for name, setting in (("http", "collector"), ("console", "console")):
        if name in sockets:
            config = msgspec.structs.replace(config, **{setting: str(_of(sockets[name]))})
    return config


def _of(bound: socket.socket) -> Address:
    host, port, *_ = bound.getsockname()
    return Address(host, port)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _greet(sockets: dict[str, socket.socket], facts: dict[str, Any]) -> None:
    """Say on standard output what one does next."""
    text = greeting(
        collector=reachable(_of(sockets["http"])) if "http" in sockets else None,
        console=reachable(_of(sockets["console"])) if "console" in sockets else None,
        facts=facts,
        private=not service.under_service_journal(),
    )
    print(text, flush=True)


def greeting(*, collector: Address | None, console: Address | None, facts: dict[str, Any], private: bool) -> str:
    """What to do next, for a newcomer. Not `private`: others may read it, so no key and no login link."""
    lines = ["", "pugd is ready."]
    write_key = str(facts.get("write_key", "")) if private else ""
    if collector is not None:
        lines += [
            f"  Send events to   http://{collector}/v1/track   and, by UDP, to {collector}",
            *([f"  Write key        {write_key}"] if write_key else []),
        ]
    if console is not None:
        if facts.get("read_key_at"):
            lines.append(f"  Read key         {facts['read_key_at']}")
        if private and facts.get("login"):
            lines.append(f"  Console, log in  http://{console}/login?token={facts['login']}   (works once)")
        else:
            lines.append("  Console, log in  `pugd login` prints a link")
    if collector is not None and write_key:
        event = '{"anonymousId":"visitor-1","event":"page_view","properties":{"path":"/pricing"}}'
        lines += ["", "Try it:", f"  curl -u '{write_key}:' -H 'Content-Type: application/json' \\"]
        lines += [f"    -d '{event}' http://{collector}/v1/track"]
        if console is not None:
            lines.append(f"  and see it at http://{console}/people")
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])
