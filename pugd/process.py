"""A child of the supervisor: what it is given, what it tells, when it stops.

The supervisor describes everything in one variable, PUGD_CHILD: descriptors of the settings (JSON in memory, so that no
key stands on a command line), of the sockets it bound, of the lock on the data directory (which therefore outlives the
supervisor for as long as a child is still writing) and of the status pipe. On that pipe the child writes JSON lines, at
least one a second while its loop turns: `{"alive": true}`, `{"ready": true, …}`, `{"ready": false, "why": …}`.

A child stops when it gets SIGTERM, which the kernel also sends when the supervisor dies. Its `run(config, sockets,
status)` waits for `status.stopping`, puts everything away, and returns. SIGINT is the supervisor's to interpret.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import msgspec
import trio

from pugd import logs
from pugd.config import Config
from pugd.errors import ConfigError, PugdError

log = logging.getLogger(__name__)

ALIVE_INTERVAL_S: Final = 1.0
EXIT_CONFIG: Final = 2
"""Exit code of a child whose settings are wrong: starting it again would not help."""
PR_SET_PDEATHSIG: Final = 1
STOPPING: Final = "stopping"
"""Why a process that was asked to stop is not ready."""


class Given(msgspec.Struct, frozen=True):
    """What PUGD_CHILD holds: descriptors, and who the supervisor is."""

    parent: int
    config: int
    status: int
    lock: int
    sockets: dict[str, int]


class Sockets(msgspec.Struct, frozen=True):
    """The sockets a role was given; bound, listening, not blocking."""

    http: socket.socket | None = None
    udp: socket.socket | None = None
    console: socket.socket | None = None


class Status:
    """What a child tells its supervisor, and how it learns that it should stop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.was_ready = False
        self.stopping = trio.Event()
        """Set by SIGTERM and when the supervisor is gone: stop taking work, put away what is held, return."""

    def ready(self, **facts: object) -> None:
        """Able to serve. `facts` are for the supervisor: they may hold keys, so they are printed and never logged."""
        self.was_ready = True
        self._write({"ready": True, **facts})

    def unready(self, why: str) -> None:
        """Not able to serve, for now."""
        self._write({"ready": False, "why": why})

    async def tell(self) -> None:
        """Say again and again that the loop turns."""
        while True:
            self._write({"alive": True})
            await trio.sleep(ALIVE_INTERVAL_S)

    async def listen(self) -> None:
        """Wait for SIGTERM."""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self.stopping.set()

    def _write(self, line: dict[str, object]) -> None:
        try:
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")
        except BlockingIOError:
            pass  # the supervisor is slow to read; the next line says the same
        except BrokenPipeError:
            self.stopping.set()


Run = Callable[[Config, Sockets, Status], Awaitable[None]]


def main(role: str, run: Run) -> NoReturn:
    """Be the child `role`: take what was given, run, exit. Exits 0 when it stopped as asked."""
    text = os.environ.pop("PUGD_CHILD", "")
    if not text:
        print(f"pugd {role} is started by `pugd serve`, not by hand", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    given = msgspec.json.decode(text, type=Given)
    _die_with(given.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)  # where every thread is, to standard error; asked for when we hang
    with os.fdopen(given.config, "rb") as settings:
        config = msgspec.json.decode(settings.read(), type=Config)
    passwords = logs.secrets_of_url(config.clickhouse_url) + logs.secrets_of_url(config.postgres_url)
    logs.start(role, config.log_level, [config.read_key, *passwords])
    os.set_blocking(given.status, False)
    for descriptor in (given.status, given.lock, *given.sockets.values()):
        os.set_inheritable(descriptor, False)
    sockets = Sockets(**{name: socket.socket(fileno=fd) for name, fd in given.sockets.items()})

    async def whole() -> None:
        status = Status(given.status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(status.listen)
            nursery.start_soon(status.tell)
            nursery.start_soon(_end_unready, status, nursery.cancel_scope)
            await run(config, sockets, status)
            nursery.cancel_scope.cancel()

    try:
        trio.run(whole)
    except BaseException as error:  # noqa: BLE001  nothing may end this process unexplained
        sys.exit(_explain(error))
    sys.exit(0)


async def _end_unready(status: Status, scope: trio.CancelScope) -> None:
    """Asked to stop before it was ever ready, a process holds nothing that it would have to put away in order."""
    await status.stopping.wait()
    if not status.was_ready:
        scope.cancel()


def _explain(error: BaseException) -> int:
    """Log why the process ends, the known reasons in one line; returns the exit code."""
    reasons = leaves(error)
    if all(isinstance(reason, PugdError) for reason in reasons):
        for reason in reasons:
            log.error("%s", reason)
        return EXIT_CONFIG if any(isinstance(reason, ConfigError) for reason in reasons) else 1
    log.error("stopped by a fault of its own", exc_info=error)
    return 1


def leaves(error: BaseException) -> list[BaseException]:
    """The errors themselves, out of whatever groups nurseries put them in."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def _die_with(parent: int) -> None:
    """Get SIGTERM when the supervisor ends, however it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(1)  # it ended before we could ask
