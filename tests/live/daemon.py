"""The whole daemon in a directory of its own, as an operator starts it, with hands on its processes.

`Daemon` runs `python -m pugd serve` with ports given by the system, waits until it is ready, sends to it and asks it,
kills any of its processes, and stops it. `stored` opens what it left behind with a ClickHouse of its own, in a process
of its own: one engine may open a directory.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

root = Path(__file__).resolve().parents[2]

WRITE_KEY = "wk_live"
SECRET_KEY = "prv_live"
READ_KEY = "rk_live"

READY_S = 60
"""From start to ready; generous, since other tests share the machine."""
STOP_S = 60


def free_port() -> int:
    """A port free for TCP and UDP alike, and likely to stay so: below those that the kernel gives to whoever asks for
    any, and apart from those of tests that run beside this one."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    while True:
        port = 12_000 + 2_000 * beside + random.randrange(2_000)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def command_line(pid: int) -> list[str]:
    try:
        return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if part]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, nearest first."""
    parents: dict[int, list[int]] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                said = (directory / "stat").read_text()
            except OSError:
                continue
            state, parent = said.rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(directory.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(0), [])
        found += children
        waiting += children
    return found


def resident(pid: int) -> int:
    """Bytes of memory that `pid` holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Answer:
    """What an HTTP request brought back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:500]!r}>"


def http_request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 30,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


class Daemon:
    """One `pugd serve`, started and stopped any number of times on one data directory."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "log"
        self.port = free_port()
        self.console = free_port()
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PUGD_")},
            "PUGD_DATA": str(self.data),
            "PUGD_COLLECTOR": f"127.0.0.1:{self.port}",
            "PUGD_CONSOLE": f"127.0.0.1:{self.console}",
            "PUGD_WRITE_KEY": WRITE_KEY,
            "PUGD_READ_KEY": READ_KEY,
            "PYTHONPATH": str(root),
            "LIVE_TEST": str(self.data),
            **env,
        }
        self.prefix: list[str] = []
        """Put before the command: strace, unshare."""
        self.process: subprocess.Popen[bytes] | None = None

    # ---- life

    def __enter__(self) -> Daemon:
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def launch(self) -> None:
        """Start it, without waiting."""
        assert self.process is None or self.process.poll() is not None, "it is still running"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "pugd", "serve"],
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> Daemon:
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_S) -> None:
        """Until both ports say so; its own words in the error when it does not come."""
        deadline = time.monotonic() + seconds
        why = "no answer"
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"pugd serve exited with {self.process.returncode}:\n{self.said()}")
            try:
                answers = [http_request(port, "GET", "/health/ready", timeout=5) for port in (self.port, self.console)]
                if all(answer.status == 200 for answer in answers):
                    return
                why = f"{answers}"
            except (OSError, http.client.HTTPException) as problem:
                why = repr(problem)
            time.sleep(0.05)
        raise AssertionError(f"not ready within {seconds} s ({why}):\n{self.said()}")

    def stop(self) -> int:
        """SIGTERM to the supervisor; returns its exit code."""
        assert self.process is not None
        below = descendants(self.process.pid)
        # Under strace the supervisor is the first below it.
        os.kill(below[0] if self.prefix else self.process.pid, signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            said = self.said()
            self.destroy()
            raise AssertionError(f"did not stop within {STOP_S} s:\n{said}") from None
        left = [pid for pid in below if command_line(pid)]
        assert not left, f"left running after the stop: {[command_line(pid) for pid in left]}"
        return code

    def destroy(self) -> None:
        """SIGKILL to everything of it: cleaning up, and the hardest crash."""
        if self.process is None:
            return
        pids = [*descendants(self.process.pid)] if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        pids += self.strays()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 10
        while any(command_line(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)

    def strays(self) -> list[int]:
        """Living processes of this daemon whose parent is gone: their environment names it."""
        mark = f"LIVE_TEST={self.data}".encode()
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit() and int(directory.name) != os.getpid():
                try:
                    if mark in (directory / "environ").read_bytes().split(b"\0") and command_line(int(directory.name)):
                        found.append(int(directory.name))
                except OSError:
                    continue
        return found

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    # ---- its processes

    def pid(self, role: str) -> int | None:
        """The process of `role` ('collector' or 'keeper') now; None while there is none."""
        assert self.process is not None
        for pid in descendants(self.process.pid):
            words = command_line(pid)
            if role in words and "pugd" in " ".join(words):
                return pid
        return None

    def wait_pid(self, role: str, other_than: int | None = None, seconds: float = READY_S) -> int:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid = self.pid(role)
            if pid is not None and pid != other_than:
                return pid
            time.sleep(0.02)
        raise AssertionError(f"no {role} within {seconds} s:\n{self.said()}")

    def kill(self, role: str) -> int:
        """SIGKILL one process; returns which it was."""
        pid = self.wait_pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    # ---- in

    def command(self, *words: str, code: int | None = 0, typed: str = "") -> subprocess.CompletedProcess[str]:
        """`pugd WORDS`, as typed beside it. `code`: which it must exit with; None: any"""
        done = subprocess.run(
            [sys.executable, "-m", "pugd", *words], cwd=self.directory, env=self.env, input=typed, capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        return done

    def new_key(self, *words: str) -> str:
        """`pugd keys add WORDS`, once the key is in force."""
        key = self.command("keys", "add", *words).stdout.strip()
        deadline = time.monotonic() + 30
        while self.post("/v1/batch", {"batch": []}, key=key).status != 200:
            assert time.monotonic() < deadline, "the key does not come into force"
            time.sleep(0.1)
        return key

    def post(
        self,
        path: str,
        body: object,
        *,
        key: str | None = WRITE_KEY,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """To the collector, as JSON unless `body` is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        return http_request(self.port, "POST", path, data, sent, timeout)

    def send(self, path: str, body: object, *, key: str = WRITE_KEY) -> None:
        """Like `post`, and it must be acked whole."""
        answer = self.post(path, body, key=key)
        assert answer.status == 200, (answer, body)
        assert answer.json() == {"success": True}, (answer, body)

    def datagram(self, *events: dict[str, object], key: str = WRITE_KEY) -> None:
        data = b"\n".join(json.dumps({**event, "writeKey": key}).encode() for event in events)
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.sendto(data, ("127.0.0.1", self.port))

    # ---- out

    def ask(self, path: str, *, key: str | None = READ_KEY, timeout: float = 60) -> Answer:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        return http_request(self.console, "GET", path, None, headers, timeout)

    def read(self, path: str) -> Any:
        """Like `ask`, and it must be answered."""
        answer = self.ask(path)
        assert answer.status == 200, (path, answer)
        return answer.json()

    def entries(self, distinct_id: str, more: str = "") -> Iterator[dict[str, Any]]:
        """The whole timeline of who has `distinct_id`, page by page."""
        cursor = ""
        while True:
            page = self.read(f"/v1/timeline?distinct_id={distinct_id}&limit=1000{more}{cursor}")
            yield from page["entries"]
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels; 0 where it is not there."""
        total = 0.0
        for line in self.ask("/metrics").body.decode().splitlines():
            found = re.match(rf"{name}(\{{.*\}})? (\S+)$", line)
            if found:
                total += float(found[2])
        return total


QUERY = """
import json, sys
import clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1], database="pugd")
print(json.dumps([[list(row) for row in client.query(sql).result_rows] for sql in sys.argv[2:]], default=str))
"""


def stored(data: Path, *queries: str) -> list[list[list[Any]]]:
    """Answers of ClickHouse itself over a stopped daemon's data directory."""
    answer = subprocess.run(
        [sys.executable, "-c", QUERY, str(data / "clickhouse"), *queries],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    rows: list[list[list[Any]]] = json.loads(answer.stdout.splitlines()[-1])
    return rows
