"""A disk of 64 MiB that fills while ten clients send: every 200 is kept, all else is 503 with Retry-After, and it goes
on by itself when there is room again. The journal lies on a tmpfs; the engines elsewhere, so that what was stored can
be counted. Needs the right to mount (root)."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.daemon import WRITE_KEY, Daemon, stored

CLIENTS = 10
DISK_BYTES = 64 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """DATA/journal, as a file system of its own."""
    journal = tmp_path / "data" / "journal"
    journal.mkdir(parents=True, mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "pugd-test", str(journal)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield journal
    finally:
        subprocess.run(["umount", "-l", str(journal)], check=True)


class Sender(threading.Thread):
    """A client that does not give up: each batch is sent until it is acked, or, at the end, once more at most."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        super().__init__(daemon=True)
        self.daemon_, self.number = daemon, number
        self.stopped = threading.Event()
        self.acked: list[str] = []
        self.sent: set[str] = set()
        self.refused = 0
        self.faults: list[str] = []
        self.acked_since = 0

    def run(self) -> None:
        key = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
        headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon_.port, timeout=30)
        turn = 0
        while not self.stopped.is_set():
            turn += 1
            ids = [f"{self.number}-{turn}-{n}" for n in range(50)]
            events = [
                {"type": "track", "event": "e", "userId": "u", "messageId": one, "properties": {"text": "x" * 4000}}
                for one in ids
            ]
            self.sent.update(ids)
            body = json.dumps({"batch": events}).encode()
            while not self.stopped.is_set():
                try:
                    connection.request("POST", "/v1/batch", body, headers)
                    answer = connection.getresponse()
                    said = answer.read()
                except (OSError, http.client.HTTPException) as error:
                    self.faults.append(repr(error))
                    connection.close()
                    continue
                if answer.status == 200:
                    self.acked += ids
                    self.acked_since += 1
                    break
                after = answer.getheader("Retry-After") or ""
                if answer.status != 503 or not after.isdecimal() or int(after) < 1:
                    self.faults.append(f"{answer.status}, Retry-After {after!r}: {said[:200]!r}")
                self.refused += 1
                time.sleep(0.1)


def wait(until: str, seconds: float, holds: object) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {seconds} s: {until}"
        time.sleep(0.05)


@pytest.mark.parametrize("reserve", [0, 8 << 20])
def test_every_200_is_kept_and_all_else_is_503(small_disk: Path, tmp_path: Path, reserve: int) -> None:
    daemon = Daemon(tmp_path, PUGD_DISK_RESERVE_BYTES=str(reserve), PUGD_JOURNAL_FILE_BYTES_MAX=str(2 << 20))
    senders = [Sender(daemon, number) for number in range(CLIENTS)]
    ballast = small_disk / "ballast"
    try:
        daemon.start()
        for sender in senders:
            sender.start()
        wait("everybody is acked", 20, lambda: all(sender.acked for sender in senders))
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError:
                pass  # full: what the journal lets go of is taken below
            wait("everybody is refused", 30, lambda: all(sender.refused > 3 for sender in senders))
            assert daemon.metric("pugd_journal_refused_disk_total") > 0
        for sender in senders:
            sender.acked_since = 0
        ballast.unlink()
        wait("everybody is acked again", 30, lambda: all(sender.acked_since > 2 for sender in senders))
        # Longer than the disk is large: what is stored makes room.
        wait(
            "more than the disk holds", 60, lambda: 4000 * sum(len(sender.acked) for sender in senders) > 2 * DISK_BYTES
        )
        for sender in senders:
            sender.stopped.set()
        for sender in senders:
            sender.join(30)
            assert not sender.faults, sender.faults[:3]
        daemon.wait_ready()
        assert daemon.stop() == 0, daemon.said()
    finally:
        for sender in senders:
            sender.stopped.set()
        daemon.destroy()
    held = dict(stored(daemon.data, "select event_id, count() from events group by event_id")[0])
    acked = {one for sender in senders for one in sender.acked}
    assert not acked - set(held), "acked and lost"
    assert set(held.values()) == {1}, "stored more than once"
    assert not set(held) - {one for sender in senders for one in sender.sent}, "never sent"
