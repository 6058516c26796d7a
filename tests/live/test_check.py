"""`pugd check identity` over a whole daemon, stopped and running: what was spoilt is told, mended, and read right; and
a collector whose snapshot is of no use answers with the same people."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live.daemon import Daemon, stored

from pugd.data import DataDirectory
from pugd.identity import rules, snapshot
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Proposal

EPOCH_AND_POSITION = struct.Struct("<QQ")

SPOIL = """
import sys
import clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1], database="pugd")
for sql in sys.argv[2:]:
    client.command(sql)
client.close()
"""


def spoil(data: Path, *statements: str) -> None:
    """A hand in the database of a stopped daemon."""
    command = [sys.executable, "-c", SPOIL, str(data / "clickhouse"), *statements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def check(daemon: Daemon, *options: str) -> tuple[int, str]:
    """The command, as an operator types it: its exit code, and what it printed."""
    done = daemon.command("check", "identity", *options, code=None)
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.returncode, done.stdout + done.stderr


def story(daemon: Daemon, begin: int, count: int) -> None:
    """Visitors who turn out to be users; every third on two devices, and one of those taken apart again."""
    batch: list[dict[str, Any]] = []
    for n in range(begin, begin + count):
        devices = [f"phone-{n}", f"laptop-{n}"][: 2 if n % 3 == 0 else 1]
        for device in devices:
            batch.append({"type": "track", "event": "seen", "anonymousId": device, "messageId": f"e-{device}"})
            batch.append({"type": "identify", "userId": f"user-{n}", "anonymousId": device, "messageId": f"i-{device}"})
    daemon.send("/v1/batch", {"batch": batch})


def people(daemon: Daemon) -> list[tuple[Any, ...]]:
    """Everyone, as the console lists them."""
    listed = daemon.read("/v1/people?limit=1000")["people"]
    return sorted((one["id"], sorted(each["id"] for each in one["ids"]), one["events"]) for one in listed)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as one:
        yield one


def wait_said(daemon: Daemon, text: str, since: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while text not in daemon.log.read_text()[since:]:
        assert time.monotonic() < deadline, f"never said {text!r}:\n{daemon.said()}"
        time.sleep(0.05)


def test_what_a_crash_or_a_hand_left_is_told_and_mended(daemon: Daemon) -> None:
    story(daemon, 0, 40)
    before = people(daemon)
    code, said = check(daemon)
    assert code == 0, said
    assert "All three agree" in said
    assert f"link log    {40 + 54:,} entries" in said
    assert daemon.stop() == 0

    code, said = check(daemon)
    assert code == 0, said

    # Stopped: this command opens the engine itself.
    spoil(
        daemon.data,
        "delete from person_of where actor % 4 = 1",
        "alter table person_of update person = 7 where actor % 4 = 2 settings mutations_sync = 2",
        "delete from links where `order` in (3, 50)",
    )
    (daemon.data / "graph.snapshot").write_bytes(b"nonsense")
    code, said = check(daemon)
    assert code == 1, said
    for words in ("2 places are empty", "without a row", "with another person", "of no use", "--repair"):
        assert words in said
    assert check(daemon)[0] == 1, "looking changes nothing"
    code, said = check(daemon, "--repair")
    assert code == 1, said
    assert "Looked at again: all three agree" in said
    assert check(daemon)[0] == 0
    daemon.start()
    assert people(daemon) == before

    # Running: the keeper sees it by itself, after a start.
    assert daemon.stop() == 0
    spoil(daemon.data, "delete from person_of where 1", "delete from links where `order` > 70")
    since = len(daemon.log.read_text())
    daemon.start()
    wait_said(daemon, "Looked at again: all three agree", since)
    assert people(daemon) == before
    code, said = check(daemon)
    assert code == 0, said

    # Between: killed while rows are on their way; the drain brings them, and there is nothing to mend.
    for begin in (100, 200):
        story(daemon, begin, 30)
        daemon.kill("keeper")
        daemon.wait_pid("keeper")
        daemon.wait_ready()
    code, said = check(daemon, "--repair")
    assert code == 0, said
    assert len(people(daemon)) == 100
    assert daemon.stop() == 0
    twice = stored(daemon.data, "select count() - uniqExact(collector, epoch, position) from person_of")
    assert twice == [[[0]]]


def flipped(good: bytes) -> bytes:
    return good[:200] + bytes([good[200] ^ 4]) + good[201:]


def of_another_key(good: bytes) -> bytes:
    return snapshot.dump(Graph(bytes(16)), *EPOCH_AND_POSITION.unpack_from(good, 24)[::-1])


@pytest.mark.parametrize(
    "spoilt",
    [flipped, lambda good: good[: len(good) // 2], lambda _: b"", of_another_key, None],
    ids=["flipped", "truncated", "empty", "of another key", "missing"],
)
def test_a_snapshot_of_no_use_costs_nothing_but_time(daemon: Daemon, spoilt: Callable[[bytes], bytes] | None) -> None:
    story(daemon, 0, 30)
    before = people(daemon)
    assert daemon.stop() == 0
    daemon.start()  # a second journal file; then the first may go, and only ClickHouse has the whole log
    story(daemon, 30, 1)
    daemon.read("/v1/people?limit=1")
    assert daemon.stop() == 0
    path = daemon.data / "graph.snapshot"
    good = path.read_bytes()
    if spoilt is None:
        path.unlink()
    else:
        path.write_bytes(spoilt(good))
    first, *others = sorted((daemon.data / "journal").glob("0*.journal"))
    assert others
    first.unlink()
    since = len(daemon.log.read_text())
    daemon.start()
    wait_said(daemon, "rebuilt the graph from the link log", since)
    # What the deleted file knew of recent event ids is gone with it: every link is sent again, and no event.
    again = [
        {"type": "identify", "userId": f"user-{n}", "anonymousId": f"phone-{n}", "messageId": f"again-{n}"}
        for n in range(31)
    ]
    daemon.send("/v1/batch", {"batch": again})
    daemon.send("/v1/identify", {"userId": "user-1", "anonymousId": "watch", "messageId": "w"})
    now = {tuple(ids): (person, events) for person, ids, events in people(daemon)}
    (joined,) = [ids for ids in now if "user-1" in ids]
    assert joined == ("phone-1", "user-1", "watch")
    assert {ids: one for ids, one in now.items() if "user-1" not in ids and "user-30" not in ids} == {
        tuple(ids): (person, events) for person, ids, events in before if "user-1" not in ids
    }
    if spoilt is not None:
        code, said = check(daemon)
        assert code == 1, said
        assert "of no use" in said
    code, said = check(daemon)
    assert code == 0, "the collector has written it anew"


def test_a_collector_whose_graph_is_wrong_makes_it_anew(daemon: Daemon) -> None:
    story(daemon, 0, 20)
    assert daemon.stop() == 0
    data = DataDirectory(daemon.data)
    graph, position, epoch = snapshot.load(data.key(), data.graph_snapshot.read_bytes())
    order = graph.order
    rules.propose(graph, Proposal(1, "merge", "user-1", "user-2", secret=True), IllegalIds())
    graph.order = order
    data.graph_snapshot.write_bytes(snapshot.dump(graph, position, epoch))
    daemon.start()
    collector = daemon.wait_pid("collector")
    code, said = check(daemon)
    assert code == 1, said
    assert "is not what the link log says" in said
    code, said = check(daemon, "--repair")
    assert code == 1, said
    assert "made its graph anew" in said
    assert "Looked at again: all three agree" in said
    assert daemon.wait_pid("collector") != collector
    assert check(daemon)[0] == 0
    daemon.wait_ready()
    story(daemon, 50, 1)
    assert len(people(daemon)) == 21


def test_it_says_why_it_cannot_check(daemon: Daemon, tmp_path: Path) -> None:
    code, said = check(daemon, "--data", str(tmp_path / "nowhere"))
    assert code == 2
    assert "is no data directory of pugd" in said
    (daemon.data / "keeper.sock").unlink()
    code, said = check(daemon)
    assert code == 2
    assert "cannot check" in said
