"""`kill -9` of either process, of both, and of everything, under load: all acked is stored once.

`Clients` are threads that send batches, single events and identify calls as a client library would: what was not acked
is sent again, with the same messageId, until it is. `crash` kills by a seeded plan: at random moments, and at named
points, by a preloaded library (crash_points.c): while the journal is written, before an insert and inside its commit,
before and after the position advances. Then everything is stopped, and the truth is read in ClickHouse itself:

- every acked event is there, once, and nothing that was never sent;
- every acked identify has its link, and the timelines of both its ids are one;
- the console, before the stop, counted the same.

One round of twelve kills here. PUGD_CRASHES=240 makes it twenty, and every point comes; PUGD_CRASH_SEED another plan.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from live.daemon import WRITE_KEY, Daemon, stored

TARGETS = ("collector", "keeper", "both", "everything")
THREADS = 4
KILLS_OF_ROUND = 2
"""Of each target."""
POINTS_OF_ROUND = 4
ROUNDS = -(-int(os.environ.get("PUGD_CRASHES", "12")) // (len(TARGETS) * KILLS_OF_ROUND + POINTS_OF_ROUND))
SEED = int(os.environ.get("PUGD_CRASH_SEED", "1"))
POINTS = (
    *("torn-write", "before-commit", "after-commit", "before-stored"),
    *("after-sync", "before-insert", "before-write", "after-write", "before-sync"),
    *("before-name", "after-name", "after-stored"),
)
"""The first few in the first round."""
POINT_S = 60
"""By then a point must have been come to."""
PAUSE_S = (0.2, 1.5)
"""Between two kills: sometimes before the daemon is whole again."""


class Clients:
    """Client threads over one daemon; what each was acked."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.seed = seed
        self.stopped = threading.Event()
        self.acked: set[str] = set()
        self.sent: set[str] = set()
        self.identified: list[tuple[str, str]] = []
        self.retries = 0
        self.pause_s = 0.0
        """Between an ack and the next call."""
        self.faults: list[str] = []
        """Answers that no client should ever see."""
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(THREADS)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish what it holds, then end."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), f"a client is stuck:\n{self.daemon.said()}"

    def _call(self, choose: random.Random, number: int, turn: int) -> tuple[str, dict[str, Any], list[str]]:
        """Path, body and the event ids of one call."""
        person = choose.randrange(20)
        anonymous, user = f"anon-{number}-{person}", f"user-{number}-{person}"

        def one(index: int) -> dict[str, Any]:
            event: dict[str, Any] = {
                "type": "track",
                "event": "step",
                "messageId": f"{self.seed}-{number}-{turn}-{index}",
            }
            event["anonymousId" if choose.random() < 0.7 else "userId"] = anonymous
            if "userId" in event:
                event["userId"] = user
            if choose.random() < 0.05:  # months back: an insert has several partitions, and old rows are looked up
                event["timestamp"] = f"2026-{choose.randrange(1, 7):02d}-15T12:00:00Z"
            event["properties"] = {"turn": turn, "padding": "x" * choose.randrange(400)}
            return event

        kind = choose.random()
        if kind < 0.15:
            return "/v1/identify", {"userId": user, "anonymousId": anonymous, "messageId": f"i-{number}-{turn}"}, []
        events = [one(index) for index in range(1 if kind < 0.4 else choose.randrange(2, 60))]
        ids = [str(event["messageId"]) for event in events]
        if len(events) == 1:
            return "/v1/track", events[0], ids
        return "/v1/batch", {"batch": events}, ids

    def _run(self, number: int) -> None:
        choose = random.Random(self.seed * 1000 + number)
        headers = {
            "Authorization": "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        connection: http.client.HTTPConnection | None = None
        turn = 0
        while not self.stopped.is_set():
            turn += 1
            path, body, ids = self._call(choose, number, turn)
            data = json.dumps(body).encode()
            with self.lock:
                self.sent.update(ids)
            deadline = time.monotonic() + 100
            while True:
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=20)
                    connection.request("POST", path, data, headers)
                    answer = connection.getresponse()
                    said = answer.read()
                    if answer.status == 200:
                        break
                    if answer.status not in (429, 503):
                        with self.lock:
                            self.faults.append(f"{path}: {answer.status} {said[:300]!r}")
                        break
                except (OSError, http.client.HTTPException):
                    if connection is not None:
                        connection.close()
                    connection = None
                with self.lock:
                    self.retries += 1
                if time.monotonic() > deadline:
                    with self.lock:
                        self.faults.append(f"{path}: not acked within 100 s")
                    return
                time.sleep(0.02 + choose.random() * 0.05)
            if answer.status == 200:
                if json.loads(said) != {"success": True}:
                    with self.lock:
                        self.faults.append(f"{path}: 200 but {said[:300]!r}")
                with self.lock:
                    self.acked.update(ids)
                    if path == "/v1/identify":
                        self.identified.append((body["anonymousId"], body["userId"]))
            time.sleep(self.pause_s)


def strike(daemon: Daemon, target: str) -> None:
    """SIGKILL what `target` says, as near together as can be."""
    if target == "everything":
        daemon.destroy()
        daemon.launch()
    elif target == "both":
        daemon.kill("collector")
        daemon.kill("keeper")
    else:
        daemon.kill(target)


class Points:
    """A daemon's named points: `arm` one, and the process that comes to it is killed there."""

    def __init__(self, directory: Path) -> None:
        library = directory / "crash_points.so"
        source = Path(__file__).with_name("crash_points.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.armed = directory / "arm"
        self.environment = {
            "LD_PRELOAD": str(library),
            "CRASH_ARM": str(self.armed),
            "CRASH_TMP": f"{directory}/data/tmp/",
        }

    def arm(self, point: str, times: int, daemon: Daemon) -> None:
        """Returns once a process has been killed there, the `times`th time that one came to it."""
        armed = self.armed.with_suffix(".new")
        armed.write_text(f"{point} {times}\n")
        armed.replace(self.armed)
        deadline = time.monotonic() + POINT_S
        while self.armed.exists():
            assert time.monotonic() < deadline, f"nobody came to {point}:\n{daemon.said()}"
            time.sleep(0.02)


def crash(directory: Path, number: int) -> str:
    """One daemon, killed by a plan under load, then the check; returns what was seen, in one line."""
    seed = SEED + number
    choose = random.Random(seed)
    points = [POINTS[(POINTS_OF_ROUND * number + at) % len(POINTS)] for at in range(POINTS_OF_ROUND)]
    plan = [*TARGETS * KILLS_OF_ROUND, *points]
    choose.shuffle(plan)
    named = Points(directory)
    daemon = Daemon(directory, PUGD_JOURNAL_FILE_BYTES_MAX=str(1 << 20), **named.environment)
    began = time.monotonic()
    try:
        daemon.start()
        clients = Clients(daemon, seed)
        clients.pause_s = choose.choice((0.0, 0.005, 0.02)) if ROUNDS > 1 else 0.01
        clients.start()
        for what in plan:
            if choose.random() < 0.7:
                daemon.wait_ready()
            if what in TARGETS:
                time.sleep(choose.uniform(*PAUSE_S))
                strike(daemon, what)
            else:
                named.arm(what, choose.randint(1, 3), daemon)
        time.sleep(choose.uniform(*PAUSE_S))
        clients.stop()
        assert not clients.faults, clients.faults[:5]
        daemon.wait_ready()
        wait_caught_up(daemon)
        check_console(daemon, clients)
        assert daemon.stop() == 0, daemon.said()
        events = check_stored(daemon, clients)
    finally:
        daemon.destroy()
    return (
        f"{len(plan)} kills (seed {seed}: {' '.join(plan)}), {len(clients.acked):,} acked events, "
        f"{len(clients.identified):,} identify calls, {clients.retries:,} retries, {events:,} stored, each once; "
        f"{time.monotonic() - began:.0f} s"
    )


def wait_caught_up(daemon: Daemon) -> None:
    """Until the keeper, back from its last kill, has drained what was acked meanwhile: until then reads are 503."""
    deadline = time.monotonic() + 120
    while daemon.ask("/v1/people?limit=1").status == 503:
        assert time.monotonic() < deadline, f"never caught up:\n{daemon.said()}"


def check_console(daemon: Daemon, clients: Clients) -> None:
    """What the console answers, while it runs: sums over people, and joined timelines."""
    listed = daemon.read("/v1/people?limit=1000")
    total = sum(person["events"] for person in listed["people"])
    assert len(clients.acked) <= total <= len(clients.sent), (len(clients.acked), total, len(clients.sent))
    for anonymous, user in sorted(set(clients.identified))[:10]:
        ours = list(daemon.entries(user))
        assert [entry["id"] for entry in daemon.entries(anonymous)] == [entry["id"] for entry in ours], (
            anonymous,
            user,
        )
        seen = [entry["event_id"] for entry in ours if entry["type"] == "event"]
        assert len(seen) == len(set(seen)), f"twice on the timeline of {user}"


def check_stored(daemon: Daemon, clients: Clients) -> int:
    """What ClickHouse holds, after the stop; returns how many events."""
    counts, rows, links, people = stored(
        daemon.data,
        "select count(), uniqExact(project, event_id), uniqExact(collector, epoch, position) from events",
        "select event_id, count() from events group by event_id",
        "select distinct a_id, b_id from links where refused = '' and call != 'user'",
        "select count(), uniqExact(collector, epoch, position) from links",
    )
    held = dict(map(tuple, rows))
    lost = clients.acked - set(held)
    assert not lost, f"{len(lost)} acked events lost, such as {sorted(lost)[:3]}"
    twice = [event_id for event_id, count in held.items() if count != 1]
    assert not twice, f"{len(twice)} events stored more than once, such as {twice[:3]}"
    unknown = set(held) - clients.sent
    assert not unknown, f"{len(unknown)} events that nobody sent, such as {sorted(unknown)[:3]}"
    total, distinct, places = counts[0]
    assert total == distinct == places, counts
    assert people[0][0] == people[0][1], f"links stored twice: {people}"
    linked = {(a, b) for a, b in links}
    unlinked = set(clients.identified) - linked
    assert not unlinked, f"{len(unlinked)} acked identify calls without a link, such as {sorted(unlinked)[:3]}"
    return int(total)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_acked_event_is_stored_once(number: int, tmp_path: Path) -> None:
    print(crash(tmp_path, number))
