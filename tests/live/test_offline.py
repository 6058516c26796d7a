"""What the daemon asks of the kernel: it starts and works where there is no network, connects to nothing but this
machine, and closes no descriptor twice.

It runs in a network namespace of its own that has a loopback and nothing else, under strace, which writes down every
address that any of its processes tries to reach, the engines' threads and Postgres's processes too, and every
descriptor that is closed. One that is closed twice is, the second time, somebody else's: the embedded ClickHouse
ends the process when it finds a file of its own closed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from live.daemon import Daemon

CLONE_NEWNET = 0x40000000
NEAR = re.compile(
    r"sa_family=AF_(UNIX|LOCAL|NETLINK|UNSPEC)|\"(127\.[0-9.]+|::1|0\.0\.0\.0|::)\"|htonl\(INADDR_LOOPBACK\)"
)


def apart(work: object) -> None:
    """Run `work` in a thread whose network is a loopback alone; what it starts stays there too."""
    assert callable(work)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            work()
        except BaseException as problem:  # noqa: BLE001, handed to the test's own thread
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@pytest.mark.skipif(shutil.which("strace") is None or shutil.which("ip") is None, reason="needs strace and ip")
def test_it_works_without_a_network_reaches_for_none_and_closes_nothing_twice(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    trace = tmp_path / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg,close"
    daemon.prefix = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "0",
        "-e",
        calls,
        "-e",
        "signal=none",
        "-o",
        str(trace),
    ]

    def work() -> None:
        try:
            daemon.start()
            daemon.send("/v1/track", {"anonymousId": "a", "event": "page_view", "context": {"ip": "203.0.113.9"}})
            daemon.send("/v1/identify", {"anonymousId": "a", "userId": "u", "traits": {"email": "a@shop.example"}})
            assert [entry["event"] for entry in daemon.entries("u") if entry["type"] == "event"] == ["page_view"]
            assert daemon.ask("/people", key=None).status < 500
            assert daemon.stop() == 0
        finally:
            daemon.destroy()

    apart(work)
    lines = trace.read_text(errors="replace").splitlines()
    closed = [line for line in lines if "close(" in line]
    assert len(closed) > 1000, "strace saw hardly anything closed"
    twice = [line for line in closed if "EBADF" in line]
    assert not twice, twice[:10]
    reached = [line for line in lines if "sa_family=" in line]
    assert any("AF_UNIX" in line for line in reached), "strace saw nothing at all"
    far = [line for line in reached if not NEAR.search(line)]
    assert not far, far[:10]
