"""`pugd serve` as processes: started, killed in part and whole, stopped, given sockets, told what is wrong."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running_edge import wait_readable

from pugd.config import Address
from pugd.supervisor import greeting

ROOT = Path(__file__).resolve().parents[1]
WRITE_KEY, READ_KEY = "supervisor-test", "read-supervisor-test"
PATIENCE_S = 60


class Running:
    """One `pugd serve` on ports of the system's choice, which its greeting tells."""

    def __init__(
        self, data: Path, *, wrapper: tuple[str, ...] = (), fds: tuple[int, ...] = (), **settings: str
    ) -> None:
        self.data = data
        self.out, self.err = data.parent / "out", data.parent / "err"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PUGD_")}
        environment |= {"PYTHONPATH": str(ROOT), "PUGD_DATA": str(data)}
        environment |= {"PUGD_COLLECTOR": "127.0.0.1:0", "PUGD_CONSOLE": "127.0.0.1:0"}
        environment |= {"PUGD_WRITE_KEY": WRITE_KEY, "PUGD_READ_KEY": READ_KEY}
        environment |= {name if name.isupper() else f"PUGD_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "pugd", "serve"],
            cwd=data.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.out.open("wb"),
            stderr=self.err.open("wb"),
            start_new_session=True,
            pass_fds=fds,
        )

    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def wait_ready(self) -> Running:
        wait(lambda: "pugd is ready" in self.out.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()
        return self

    @property
    def collector(self) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1/track", self.out.read_text())
        assert found, self.said()
        return int(found[1])

    @property
    def console(self) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/login", self.out.read_text())
        assert found, self.said()
        return int(found[1])

    def children(self) -> dict[str, int]:
        """Role → process id."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                role = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3].decode()
            except (OSError, IndexError):
                continue
            found[role] = int(pid)
        return found

    def track(self, event: str, seconds: float = 30) -> int:
        basic = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        body = json.dumps({"event": event, "anonymousId": "visitor"})
        return request(self.collector, "POST", "/v1/track", headers, body, seconds)[0]

    def events(self) -> list[str]:
        headers = {"Authorization": f"Bearer {READ_KEY}"}
        path = "/v1/timeline?distinct_id=visitor&order=asc&limit=1000"
        status, body = request(self.console, "GET", path, headers)
        return [entry["event"] for entry in body["entries"]] if status == 200 else [f"{status} {body}"]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def destroy(self) -> None:
        """Nothing of it is left, whatever the test did."""
        below = list(self.children().values()) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in below:
            end(pid)
        try:
            end(int((self.data / "postgres" / "postmaster.pid").read_text().split()[0]))
        except (OSError, ValueError, IndexError):
            pass


def request(
    port: int, method: str, path: str, headers: dict[str, str], body: str | None = None, seconds: float = 30
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def wait(condition: Any, seconds: float = PATIENCE_S) -> None:
    end_ = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_, "it did not come"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait(lambda: not lives(pid))


@contextmanager
def running(data: Path, **given: Any) -> Iterator[Running]:
    started = Running(data, **given)
    try:
        yield started
    finally:
        started.destroy()


def postgres_pid(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


def test_either_process_is_killed_alone_and_all_stops_in_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as pugd:
        pugd.wait_ready()
        before = pugd.children()
        assert set(before) == {"collector", "keeper"}
        assert pugd.track("one") == 200

        # The keeper dies: events are taken meanwhile, and its Postgres is adopted by the next.
        postgres = postgres_pid(data)
        os.kill(before["keeper"], signal.SIGKILL)
        assert pugd.track("two") == 200
        wait(lambda: "adopted the running Postgres" in pugd.said() and pugd.said().count("keeper is ready") == 2)
        assert postgres_pid(data) == postgres

        # The collector dies: a request made at once waits in the queue of the socket that the supervisor holds.
        os.kill(before["collector"], signal.SIGKILL)
        assert pugd.track("three") == 200
        assert pugd.events() == ["one", "two", "three"]
        after = pugd.children()
        assert set(after.values()).isdisjoint(before.values())

        assert pugd.stop() == 0
        assert not any(lives(pid) for pid in (*after.values(), postgres)), "something was left running"
        log = pugd.said()
        assert log.index("collector: stopping") < log.index("keeper: stopping") < log.index("supervisor stopped")

    # A second start on the same data goes on, and Ctrl-C stops it as well.
    with running(data) as pugd:
        pugd.wait_ready()
        assert pugd.events() == ["one", "two", "three"]
        assert pugd.stop(signal.SIGINT) == 0


def test_no_secret_is_on_show(tmp_path: Path) -> None:
    with running(tmp_path / "data", write_key="prv_secret-write-key", log_level="debug") as pugd:
        pugd.wait_ready()
        token = re.search(r"login\?token=(\S+)", pugd.out.read_text())
        assert token
        secrets = [READ_KEY, "prv_secret-write-key", token[1]]
        for pid in (pugd.process.pid, *pugd.children().values()):
            shown = Path(f"/proc/{pid}/cmdline").read_text()
            if pid != pugd.process.pid:
                shown += Path(f"/proc/{pid}/environ").read_text()
            assert not any(secret in shown for secret in secrets)
        assert not any(secret in pugd.err.read_text() for secret in secrets)
        keys = (tmp_path / "data" / "keys.json").read_text()
        assert not any(secret in keys for secret in secrets)
        for path in (tmp_path / "data").iterdir():
            assert path.stat().st_mode & 0o007 == 0, f"others may use {path.name}"
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Its processes end in order by themselves; meanwhile nobody else can begin, and then somebody can."""
    data = tmp_path / "data"
    with running(data) as first:
        first.wait_ready()
        children, postgres = first.children(), postgres_pid(data)
        assert first.track("kept") == 200
        first.process.kill()
        first.process.wait()
        with running(data) as second:
            second.wait_ready()
            assert not any(lives(pid) for pid in children.values())
            assert second.events() == ["kept"]
            assert second.stop() == 0
        assert not lives(postgres)


def test_second_start_on_the_same_data_names_the_first(tmp_path: Path) -> None:
    with running(tmp_path / "data", roles="collector") as first:
        wait(lambda: "collector is ready" in first.said())
        with running(tmp_path / "data", roles="collector") as second:
            assert second.process.wait(PATIENCE_S) == 2
            lines = second.err.read_text().splitlines()
            assert f"in use by another pugd, process {first.process.pid}" in lines[-1]
        assert first.stop() == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running(tmp_path / "data", console=f"127.0.0.1:{port}") as pugd:
            assert pugd.process.wait(PATIENCE_S) == 2
            assert re.search(rf"setting console: 127\.0\.0\.1:{port} .*another program has it", pugd.err.read_text())


def test_missing_installation_key_stops_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, roles="collector") as pugd:
        wait(lambda: "collector is ready" in pugd.said())
        assert pugd.stop() == 0
    (data / "hash.key").unlink()
    with running(data, roles="collector") as pugd:
        assert pugd.process.wait(PATIENCE_S) == 2
        assert "hash.key is missing beside existing data" in pugd.err.read_text()
    assert not (data / "hash.key").exists()


def test_wrong_settings_end_it_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path / "data", drain_rows_max="0") as pugd:
        assert pugd.process.wait(PATIENCE_S) == 2
        assert pugd.err.read_text().count("\n") == 1
        assert "drain_rows_max" in pugd.err.read_text()
    assert not (tmp_path / "data").exists()


def test_a_file_of_places_that_is_none_ends_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "places.mmdb").write_bytes(b"half a downlo")
    with running(tmp_path / "data", places=str(tmp_path / "places.mmdb")) as pugd:
        assert pugd.process.wait(PATIENCE_S) == 2
        said = pugd.err.read_text()
        assert said.count("\n") == 1
        assert re.search(
            r"setting places: .*places\.mmdb is not in MaxMind's format, or damaged; allowed: a file in", said
        )
    assert not (tmp_path / "data").exists()


def test_stops_at_once_while_it_still_starts(tmp_path: Path) -> None:
    with running(tmp_path / "data") as pugd:
        wait(lambda: "starting in" in pugd.said())
        assert pugd.stop() == 0
    with running(tmp_path / "data") as pugd:
        pugd.wait_ready()
        assert pugd.stop() == 0


def test_engines_that_are_away_stop_no_event(tmp_path: Path) -> None:
    """Events are taken from the first start on; questions are told why not; what was acked waits in the journal."""
    data = tmp_path / "data"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {
            "postgres_url": f"postgresql://u:hunter2@{nowhere}/x",
            "clickhouse_url": f"http://u:hunter2@{nowhere}/x",
        }
        with running(data, collector=f"127.0.0.1:{port}", **settings) as pugd:
            wait(lambda: "collector is ready" in pugd.said())
            basic = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
            headers = {"Authorization": f"Basic {basic}"}
            body = json.dumps({"event": "early", "anonymousId": "visitor"})
            assert request(port, "POST", "/v1/track", headers, body)[0] == 200
            wait(lambda: "Postgres cannot be reached" in pugd.said() and "wait in the journal" in pugd.said())
            assert pugd.stop() == 0
            assert "hunter2" not in pugd.said()
            assert "Traceback" not in pugd.said()
    with running(data) as pugd:
        pugd.wait_ready()
        assert pugd.events() == ["early"]
        assert pugd.stop() == 0


@pytest.mark.parametrize(
    ("variable", "said"),
    [("PYTHON", "Python 3.11 to 3.14 (found: "), ("CC", "a C compiler that works (false does not make a program)")],
)
def test_make_names_what_is_missing_and_the_line_that_mends_it(variable: str, said: str) -> None:
    environment = {"PATH": os.environ["PATH"], variable: "false"}
    done = subprocess.run(
        ["sh", str(ROOT / ".ci" / "require")], env=environment, capture_output=True, text=True, check=False
    )
    first, second = done.stderr.splitlines()
    assert done.returncode == 1
    assert said in first
    assert re.search(r"(apt-get|dnf|zypper) install -y |pacman -S |calls: ", second)


ACTIVATE = """
import os, sys
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3"}
os.environ["LISTEN_FDNAMES"] = "pugd.socket:pugd.socket:pugd.socket"
for place, given in enumerate(map(int, sys.argv[1].split(",")), 3):
    os.dup2(given, place)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_service_manager(tmp_path: Path) -> None:
    """Sockets are taken over, readiness, life and stopping are told; what is passed on reaches no child."""
    notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notes.bind(str(tmp_path / "notify"))
    stream, datagrams, console = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    for one in (stream, console):
        one.bind(("127.0.0.1", 0))
        one.listen()
    datagrams.bind(stream.getsockname())
    # High numbers, so that moving them to 3, 4 and 5 overwrites none; free ones, since the engine has files open here.
    high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 50) for one in (stream, datagrams, console)]

    def heard(wanted: str) -> bool:
        if not wait_readable(notes, 0):
            return False
        return wanted in notes.recv(4096).decode().splitlines()

    wrapper = (sys.executable, "-c", ACTIVATE, ",".join(map(str, high)))
    port = console.getsockname()[1]
    settings = {"console": f"127.0.0.1:{port}", "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    with running(tmp_path / "data", wrapper=wrapper, fds=tuple(high), **settings) as pugd:
        for fd in high:
            os.close(fd)
        wait(lambda: heard("READY=1"))
        pugd.wait_ready()
        assert pugd.collector == stream.getsockname()[1]
        assert pugd.console == port
        assert pugd.track("one") == 200
        event = {"writeKey": WRITE_KEY, "type": "track", "event": "two", "anonymousId": "visitor"}
        with socket.socket(type=socket.SOCK_DGRAM) as out:
            out.sendto(json.dumps(event).encode(), stream.getsockname())
        wait(lambda: pugd.events() == ["one", "two"])
        wait(lambda: heard("WATCHDOG=1"))
        for pid in pugd.children().values():
            names = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in names
            assert b"LISTEN_" not in names
        # A process that hangs is no sign of life.
        keeper = pugd.children()["keeper"]
        os.kill(keeper, signal.SIGSTOP)
        time.sleep(2)
        while wait_readable(notes, 0):
            notes.recv(4096)
        time.sleep(1.5)
        assert not wait_readable(notes, 0), "the watchdog was fed although a process hung"
        os.kill(keeper, signal.SIGCONT)
        wait(lambda: heard("WATCHDOG=1"))
        pugd.process.send_signal(signal.SIGTERM)
        wait(lambda: heard("STOPPING=1"))
        assert pugd.process.wait(PATIENCE_S) == 0
    for one in (stream, datagrams, console, notes):
        one.close()


def test_greeting_is_complete_and_keeps_secrets_from_a_shared_log() -> None:
    facts = {"write_key": "pub_1", "login": "token-1", "read_key_at": "in /data/read.key"}
    where, console = Address("127.0.0.1", 7080), Address("::1", 7081)
    text = greeting(collector=where, console=console, facts=facts, private=True)
    for part in (
        "pub_1",
        "http://127.0.0.1:7080/v1/track",
        "http://[::1]:7081/login?token=token-1",
        "curl -u 'pub_1:'",
    ):
        assert part in text
    shared = greeting(collector=where, console=console, facts=facts, private=False)
    assert "token-1" not in shared
    assert "pub_1" not in shared
    assert "pugd login" in shared


@pytest.mark.parametrize(
    ("arguments", "said"), [(["srve"], "Did you mean `pugd serve`"), (["serve", "--dat", "x"], "--data")]
)
def test_mistyped_commands_are_told_what_was_meant(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pugd", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("role", ["collector", "keeper"])
def test_children_are_not_started_by_hand(role: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pugd", role], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"pugd {role} is started by `pugd serve`, not by hand\n")
