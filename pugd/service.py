"""What a service manager gives and wants, by systemd's protocol: sockets in, and notes on how we are out.

Spoken directly (sd_listen_fds(3), sd_notify(3)): two environment variables and a datagram, no library.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

LISTEN_FDS_START: Final = 3


def take_sockets(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """The sockets that were passed to this process, each under its name or, without one, its number. Taken once."""
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    taken: dict[str, socket.socket] = {}
    given = names.split(":") if names else []
    for number in range(int(count)):
        descriptor = LISTEN_FDS_START + number
        os.set_inheritable(descriptor, False)
        name = given[number] if number < len(given) else ""
        if not name or name in taken:
            name = f"{name}#{number}"
        taken[name] = socket.socket(fileno=descriptor)
    return taken


def under_service_journal() -> bool:
    """Whether standard output goes into the machine's own log, which others may read."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(1)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class Notes:
    """Notes to the service manager; silent where there is none."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        # Taken out, so that no child speaks in our name.
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watchdog, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = watchdog.isdigit() and pid in ("", str(os.getpid()))
        self.watchdog_s: float | None = int(watchdog) / 1e6 if ours and int(watchdog) > 0 else None
        """The manager kills us when it hears nothing for this long."""

    def send(self, *notes: str) -> None:
        """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`. Never fails: the manager's absence is not our end."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(notes).encode(), address)
        except OSError:
            pass
