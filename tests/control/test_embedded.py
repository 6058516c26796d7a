"""The embedded Postgres: made, started, adopted after its keeper was killed, stopped, at any path and as any user."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pugd.control import postgres
from pugd.control.embedded import SOCKET_PATH_MAX, Embedded
from pugd.errors import ControlError


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pugd-test-") as made:
        yield Path(made)


def embedded(home: Path) -> Embedded:
    return Embedded(home / "postgres")


def server_pid(server: Embedded) -> int:
    return int((server.directory / "postmaster.pid").read_text().splitlines()[0])


def one(conninfo: str, sql: str) -> object:
    with postgres.connect(conninfo) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


def test_made_adopted_and_stopped(home: Path) -> None:
    server = embedded(home)
    conninfo = server.start()
    try:
        assert one(conninfo, "select 1") == 1
        assert one(conninfo, "show fsync") == "on"
        assert one(conninfo, "show listen_addresses") == ""
        assert one(conninfo, "show data_checksums") == "on"
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        pid = server_pid(server)
        # Another keeper over the same directory finds it and starts no second one.
        assert embedded(home).start() == conninfo
        assert server_pid(server) == pid
    finally:
        server.stop()
    with pytest.raises(ControlError, match="cannot be reached"):
        postgres.connect(conninfo)
    server.stop()  # again is harmless


def test_survives_its_own_kill(home: Path) -> None:
    server = embedded(home)
    conninfo = server.start()
    try:
        with postgres.connect(conninfo) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (7)")
        pid = server_pid(server)
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while server._is_ours(pid) and time.monotonic() < end:
            time.sleep(0.02)
        conninfo = server.start()
        assert one(conninfo, "select n from kept") == 7
    finally:
        server.stop()


def test_leftover_pid_file_of_another_process_is_no_server(home: Path) -> None:
    """After a reboot the number in postmaster.pid may be anybody's."""
    server = embedded(home)
    server.start()
    server.stop()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lines = [str(other.pid), str(server.directory), "1700000000", "5432", str(server.directory), "", "0", "ready"]
        (server.directory / "postmaster.pid").write_text("\n".join(lines) + "\n")
        with pytest.raises(ControlError, match="start pugd"):
            server.connect_to_running()
        assert one(server.start(), "select 1") == 1
        server.stop()
        assert other.poll() is None, "a process that is not ours was ended"
    finally:
        other.kill()
        other.wait()


def test_half_made_database_is_made_anew(home: Path) -> None:
    server = embedded(home)
    half = home / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    try:
        assert one(server.start(), "select 1") == 1
    finally:
        server.stop()


def test_long_and_odd_path(home: Path) -> None:
    deep = home / ("d" * SOCKET_PATH_MAX) / "it's 'odd', \\ and $HOME \"spaced\""
    deep.mkdir(parents=True)
    server = embedded(deep)
    conninfo = server.start()
    try:
        assert one(conninfo, "select 1") == 1
        sockets = Path((server.directory / "postmaster.pid").read_text().splitlines()[4])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert embedded(deep).start() == conninfo
    finally:
        server.stop()
    assert not sockets.exists()


def test_odd_path_short_enough_for_its_socket(home: Path) -> None:
    deep = home / "it's 'odd', \\ $HOME \"x\""
    deep.mkdir()
    server = embedded(deep)
    try:
        assert one(server.start(), "select 1") == 1
    finally:
        server.stop()


def test_needs_no_home_and_no_runtime_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_RUNTIME_DIR", "USER", "LOGNAME", "PGHOST", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    server = embedded(home)
    try:
        assert one(server.start(), "select 1") == 1
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_widens_no_permission(home: Path) -> None:
    """A directory that only root may enter stays so, where the kernel lets root make a namespace."""
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel gives out no user namespaces")
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    server = embedded(closed)
    try:
        assert one(server.start(), "select 1") == 1
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert server.directory.stat().st_uid == 0
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_namespaces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in most containers: another user runs it, and passes through what leads there."""
    from pugd.control import embedded as module

    monkeypatch.setattr(module, "_namespaces", lambda: False)
    server = embedded(home)
    try:
        assert one(server.start(), "select 1") == 1
        assert server.directory.stat().st_uid != 0
    finally:
        server.stop()
    # A later start finds what it made.
    try:
        assert one(server.start(), "select 1") == 1
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_as_an_ordinary_user(home: Path) -> None:
    """The whole of it in a process that is not root."""
    home.chmod(0o755)
    mine = home / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from pugd.control import postgres; from pugd.control.embedded import Embedded\n"
        "home = Path(sys.argv[1]); server = Embedded(home / 'postgres')\n"
        "print(postgres.connect(server.start()).execute('select 6 * 7').fetchone()[0]); server.stop()\n"
    )
    if subprocess.run(["test", "-x", sys.executable], user=65534, group=65534, extra_groups=[], check=False).returncode:
        pytest.skip("this Python may be used by root only")
    done = subprocess.run(
        [sys.executable, "-c", script, str(mine), *(path for path in sys.path if path)],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("42", 0), done.stderr
