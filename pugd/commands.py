"""The one way back, from the keeper to the collector: a Unix socket in the data directory.

A command is one line of JSON, `{"do": "statistics"}`; the answer is one line of JSON, `{"ok": …}` or `{"error": …,
"code": …}`; then the connection ends. Where no answer comes, the command may have been done all the same. The socket
belongs to the user who runs pugd (mode 0600): all the protection it has and needs.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio

from pugd.errors import JournalError, PugdError

LINE_BYTES_MAX = 64 << 20
TIMEOUT_S = 10.0
SLOW_S = {"snapshot": 120.0}
"""Commands that may take longer: writing the graph of 10 M ids is 400 MB to the disk."""

Command = Callable[[Mapping[str, Any]], Awaitable[object]]


class CommandError(PugdError):
    """The other process could not be asked, or said no. Raised by a command, it is the answer: not done, and why."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """One of errors.py where the command's arguments are wrong, or it may be sent again later; else ''."""


class Explained(msgspec.Struct, frozen=True):
    """`explain`: why two ids are one person."""

    orders: list[int]
    """Places in the link log of the links on the way from the one to the other."""


class Unlinked(msgspec.Struct, frozen=True):
    """`unlink`: what became, or with `dry_run` would become, of a person."""

    persons: list[list[int]]
    """The persons that result, as actors: the representative of each, then its other ids."""
    removed: list[int]
    """Places in the link log of the links that were taken out."""
    left_out: list[int]
    """Of those that would bring together again what is to stay apart."""
    order: int | None
    """Of the entry that says so; None where there is none."""
    refused: str | None
    """`not_linked` | `self_link`: nothing changed."""


class Merged(msgspec.Struct, frozen=True):
    """`merge`: what became of two ids."""

    order: int | None
    """Of the entry that says so; None where it was said before."""
    refused: str | None
    """`illegal_id` | `self_link` | `too_many_ids`: nothing changed."""
    person: int
    """The person of the first id now."""


class Written(msgspec.Struct, frozen=True):
    """`snapshot`: it is on disk. `rebuild`: the collector ends now, and its snapshot is gone."""

    process: int
    """Whose graph it is: another process has made its own."""


class Checked(msgspec.Struct, frozen=True):
    """`checked`: how far the check has come that was asked for by `check`."""

    progress: str
    """What it is at; '' once it has ended."""
    report: Any = None
    """What it found (identity/agreement.py, Report); None where it could not check."""
    error: str = ""
    """Why it could not."""


def _address(path: Path) -> str:
    """The socket's path, short enough for the kernel (107 bytes) however deep the data directory lies."""
    text = os.fspath(path)
    if len(os.fsencode(text)) <= 107:
        return text
    return f"/proc/self/fd/{_directory(path.parent)}/{path.name}"


@functools.cache
def _directory(path: Path) -> int:
    """A descriptor of the directory, open for the life of the process: a path by it is always short."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


async def serve(
    path: Path,
    commands: Mapping[str, Command],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands at `path` until cancelled. A socket file left by an earlier process is replaced."""
    path.unlink(missing_ok=True)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listener.bind(_address(path))
    path.chmod(0o600)  # before listen: nobody connects sooner. A umask is the whole process's, other threads' files too
    listener.listen(16)

    async def handle(stream: trio.SocketStream) -> None:
        with trio.move_on_after(TIMEOUT_S) as bound:
            try:
                await _answer(stream, commands, bound)
            except trio.BrokenResourceError:
                pass  # who asked has gone
        await trio.aclose_forcefully(stream)

    task_status.started()
    await trio.serve_listeners(handle, [trio.SocketListener(listener)])


async def _answer(stream: trio.SocketStream, commands: Mapping[str, Command], bound: trio.CancelScope) -> None:
    try:
        asked = msgspec.json.decode(await _line(stream), type=dict[str, Any])
        name = asked.get("do")
        if name in SLOW_S:
            bound.deadline = trio.current_time() + SLOW_S[name]
        command = commands.get(name) if isinstance(name, str) else None
        if command is None:
            answer: dict[str, object] = {"error": f"unknown command {name!r}: known are {', '.join(sorted(commands))}"}
        else:
            answer = {"ok": await command(asked)}
    except JournalError:
        raise  # not an answer: the disk has failed, and the process is to stop
    except CommandError as error:
        answer = {"error": str(error), "code": error.code}
    except (msgspec.MsgspecError, PugdError) as error:
        answer = {"error": str(error)}
    await stream.send_all(msgspec.json.encode(answer) + b"\n")


async def ask(path: Path, do: str, **arguments: object) -> Any:
    """Send one command; returns what it answered.

    raises  CommandError: nobody is there, nothing came in time (TIMEOUT_S, SLOW_S), or the command was refused
    """
    client = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with trio.fail_after(SLOW_S.get(do, TIMEOUT_S)):
            await client.connect(_address(path))
            connected = trio.SocketStream(client)
            await connected.send_all(msgspec.json.encode({"do": do, **arguments}) + b"\n")
            answer = msgspec.json.decode(await _line(connected), type=dict[str, Any])
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, msgspec.MsgspecError) as error:
        raise CommandError(f"asking {path.name} to {do} failed: {error or type(error).__name__}") from error
    finally:
        client.close()
    if "error" in answer:
        raise CommandError(f"{path.name} refused to {do}: {answer['error']}", answer.get("code", ""))
    return answer.get("ok")


async def _line(stream: trio.SocketStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        more = await stream.receive_some()
        if not more:
            break
        line += more
    return bytes(line)
