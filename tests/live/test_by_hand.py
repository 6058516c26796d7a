"""By hand on the whole daemon: what is unlinked stays so over kills, and over the loss of all but ClickHouse."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from live.daemon import Daemon

from pugd import commands
from pugd.data import DataDirectory
from pugd.identity import snapshot


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as one:
        yield one


def command(daemon: Daemon, do: str, **arguments: object) -> Any:
    path = DataDirectory(daemon.data).collector_socket
    return trio.run(functools.partial(commands.ask, path, do, project=1, **arguments))


def together(daemon: Daemon, *ids: str) -> list[str]:
    """The ids of the one person that all of these belong to; none where they are several."""
    persons = [daemon.read(f"/v1/people?distinct_id={one}")["person"] for one in ids]
    if len({person["id"] for person in persons}) != 1:
        return []
    return sorted(one["id"] for one in persons[0]["ids"])


def graph(directory: DataDirectory) -> bytes:
    """What the stopped daemon's graph holds, wherever its journal stands."""
    found, *_ = snapshot.load(directory.key(), directory.graph_snapshot.read_bytes())
    return snapshot.dump(found, 0, 1)


def identify(daemon: Daemon, user: str, *devices: str) -> None:
    calls: list[dict[str, object]] = [{"type": "identify", "userId": user, "anonymousId": one} for one in devices]
    daemon.send("/v1/batch", {"batch": calls})


def test_what_hands_did_holds(daemon: Daemon) -> None:
    identify(daemon, "ann", "phone", "laptop", "tablet")
    identify(daemon, "bob", "desk", "phone")
    daemon.send("/v1/alias", {"previousId": "laptop", "anonymousId": "tablet"})
    assert together(daemon, "ann", "phone", "laptop", "tablet") == ["ann", "laptop", "phone", "tablet"]

    assert command(daemon, "unlink", a="phone", b="ann")["refused"] is None
    assert together(daemon, "phone") == ["phone"]
    assert together(daemon, "ann", "laptop") == ["ann", "laptop", "tablet"]
    assert command(daemon, "merge", a="phone", b="bob")["refused"] is None
    assert together(daemon, "bob", "phone", "desk") == ["bob", "desk", "phone"]

    daemon.kill("collector")
    daemon.wait_ready()
    identify(daemon, "ann", "phone")
    assert together(daemon, "bob", "phone", "desk") == ["bob", "desk", "phone"]
    assert command(daemon, "unlink", a="ann")["refused"] is None
    identify(daemon, "ann", "laptop", "desk")
    assert together(daemon, "laptop", "tablet") == ["laptop", "tablet"]
    assert together(daemon, "ann") == ["ann"]
    asked = ("phone", "bob"), ("laptop", "tablet"), ("ann", "laptop")
    why = [command(daemon, "explain", a=a, b=b) for a, b in asked]
    assert [said is None for said in why] == [False, False, True]

    assert daemon.stop() == 0
    directory = DataDirectory(daemon.data)
    before = graph(directory)
    directory.graph_snapshot.unlink()
    for file in directory.journal.iterdir():
        file.unlink()
    daemon.start()
    assert [command(daemon, "explain", a=a, b=b) for a, b in asked] == why
    identify(daemon, "ann", "laptop")
    assert daemon.stop() == 0
    assert graph(directory) == before, "from ClickHouse's link log alone; and what is refused again is not listed again"
