"""What an operator does when something is wrong, with the commands that docs/runbook.md names, on a real daemon: beside
it while it runs, and without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import journals
import pytest
from live.daemon import Daemon, stored

from pugd import quarantine
from pugd.data import DataDirectory
from pugd.quarantine import Quarantined


def pugd(daemon: Daemon, *words: str, code: int = 0, typed: str = "") -> str:
    """A command, as typed beside the daemon; returns what it printed."""
    done = daemon.command(*words, code=code, typed=typed)
    return done.stdout + done.stderr


def send(daemon: Daemon, *ids: str) -> None:
    daemon.send(
        "/v1/batch",
        {"batch": [{"type": "track", "event": "step", "anonymousId": "visitor", "messageId": one} for one in ids]},
    )


def seen(daemon: Daemon) -> list[str]:
    return sorted(entry["event_id"] for entry in daemon.entries("visitor"))


@pytest.fixture
def own(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


def keep(daemon: Daemon, position: int, raw: bytes) -> None:
    """A row as the drain would have set it aside."""
    data = DataDirectory(daemon.data)
    origin = data.origin()
    quarantine.keep(data.quarantine, Quarantined(origin.name, origin.epoch, position, "events", "Code: 117", raw))


def test_quarantine_and_the_journal_beside_a_running_daemon_and_without_one(own: Daemon) -> None:
    place = 1 << 40
    assert "cannot be read" in pugd(own, "check", "journal", code=2)
    try:
        own.start()
        send(own, *(f"e{n}" for n in range(50)))
        assert "the journal is whole" in pugd(own, "check", "journal")
        for n in range(4):
            keep(own, place + 1000 * n, journals.event(n))
        keep(own, place + 5000, b"\x93\x01")
        listed = pugd(own, "quarantine", "list").splitlines()
        assert listed[0].split()[:2] == [str(place), "events"]
        shown = json.loads(pugd(own, "quarantine", "show", str(place)))
        assert shown["row"]["event_id"] == "id-0"
        assert "there is no row 1" in pugd(own, "quarantine", "show", "1", code=1)
        assert pugd(own, "quarantine", "replay", str(place)) == f"{place}: stored\n1 stored, 0 stay in quarantine\n"
        assert "name the rows" in pugd(own, "quarantine", "replay", code=2)
        assert "Aborted" in pugd(own, "quarantine", "drop", str(place + 1000), code=1, typed="n\n")
        assert pugd(own, "quarantine", "drop", "--yes", str(place + 1000)) == f"{place + 1000}: dropped\n"
        assert own.stop() == 0
        said = pugd(own, "quarantine", "replay", "--all", code=1)
        assert f"{place + 5000}: stays: it is damaged" in said
        assert "2 stored, 1 stay in quarantine" in said
        assert len(pugd(own, "quarantine", "list").splitlines()) == 1
        found = json.loads(pugd(own, "check", "journal", "--json"))
        assert found["files"][0]["rows"] == 50
        assert found["stored"] == found["flushed"]
        file = own.data / "journal" / found["files"][0]["name"]
        data = bytearray(file.read_bytes())
        data[200] ^= 1
        file.write_bytes(data)
        said = pugd(own, "check", "journal", code=1)
        assert "damage, bytes that are no records; the drain has been past it" in said
        assert "the journal is NOT whole" in said
    finally:
        own.destroy()
    rows = stored(own.data, f"select event_id, count() from events where position >= {place} group by 1 order by 1")
    assert rows[0] == [["id-0", 1], ["id-2", 1], ["id-3", 1]]


def test_clickhouse_restored_from_an_older_backup(own: Daemon, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    try:
        own.start()
        send(own, "a", "b")
        assert seen(own) == ["a", "b"]
        assert own.stop() == 0
        shutil.copytree(own.data / "clickhouse", backup, symlinks=True)
        own.start()
        send(own, "c", "d", "e")
        assert seen(own) == ["a", "b", "c", "d", "e"]
        assert "nothing is missing" in pugd(own, "replay")
        assert own.stop() == 0
        shutil.rmtree(own.data / "clickhouse")
        shutil.copytree(backup, own.data / "clickhouse", symlinks=True)
        own.start()
        assert seen(own) == ["a", "b"]
        assert "missing in ClickHouse: 3 events" in pugd(own, "replay", "--dry-run", code=1)
        assert "is no time" in pugd(own, "replay", "--since", "yesterday", code=2)
        said = pugd(own, "replay", "--since", "2026-01-01T00:00:00Z", "--dry-run", code=1)
        assert "missing in ClickHouse: 3 events" in said
        assert "sent: 3 events" in pugd(own, "replay")
        assert seen(own) == ["a", "b", "c", "d", "e"]
        assert "nothing is missing" in pugd(own, "replay")
        send(own, "f")
        assert len(seen(own)) == 6
        assert own.stop() == 0
        shutil.rmtree(own.data / "clickhouse")
        shutil.copytree(backup, own.data / "clickhouse", symlinks=True)
        assert "sent: 4 events" in pugd(own, "replay")  # without a daemon
    finally:
        own.destroy()
    assert stored(own.data, "select event_id, count() from events group by 1 order by 1")[0] == [
        [one, 1] for one in "abcdef"
    ]
