"""The collector in this process: what it is asked by hand, while events come, and what a crash leaves of it."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from running_edge import Client

from pugd import collector, commands, errors
from pugd.collector import Collector
from pugd.config import Config
from pugd.data import DataDirectory, write_parts
from pugd.errors import JournalError
from pugd.identity import snapshot
from pugd.journal.reader import Reader
from pugd.model import EVENT, LINK, MERGE, OLD_EVENT, EventRow, LinkRow, MergeRow
from pugd.process import Sockets, Status


class Running:
    """A collector over a data directory, and who speaks with it."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.directory = DataDirectory(data)
        self.directory.path.mkdir(exist_ok=True)
        self.directory.make("test")
        self.directory.seed_keys("k")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.said, tell = os.pipe()
        os.set_blocking(tell, False)
        self.status = Status(tell)
        self.collector = Collector(Config(data=str(data), **settings), Sockets(http=self.listener), self.status)

    async def ask(self, do: str, **arguments: object) -> Any:
        return await commands.ask(self.directory.collector_socket, do, project=1, **arguments)

    async def send(self, *messages: dict[str, Any]) -> None:
        """A batch, acked."""
        status, _, said = await self.answered("POST", "/v1/batch", {"batch": messages, "writeKey": "k"})
        assert status == 200, said

    async def answered(
        self, method: str, path: str, said: object = None, more: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """What one request is answered."""
        body = b"" if said is None else json.dumps(said).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        sock = trio.socket.socket()
        await sock.connect(self.listener.getsockname())
        try:
            client = Client(sock)
            await client.send(head.encode() + body)
            return await client.answer()
        finally:
            sock.close()

    def actor(self, one: str) -> int:
        return self.collector._graph.actor(1, one)

    def graph(self) -> bytes:
        """Whatever the graph holds, as bytes that leave out where the journal stands."""
        return snapshot.dump(self.collector._graph, 0, 1)

    def rows(self, kind: int, type_: Any) -> list[Any]:
        reader = Reader(self.directory.journal, epoch=self.directory.origin().epoch)
        until = self.collector._writer.flushed
        return [msgspec.convert(row, type_) for _, row in reader.rows(0, until, kind)]


async def test_events_wait_while_it_starts_and_health_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    made = Running(tmp_path)
    keys = made.directory.keys.read_bytes()
    made.directory.keys.unlink()  # it starts until the keeper has written them
    batch = {"batch": [identify("u", "phone")], "writeKey": "k"}
    answers: list[int] = []

    async def send(path: str = "/v1/batch") -> None:
        answers.append((await made.answered("POST", path, batch))[0])

    nursery.start_soon(made.collector.run)
    status, _, said = await made.answered("GET", "/health/ready")
    assert (status, json.loads(said)["ready"], list(json.loads(said)["reasons"])) == (503, False, ["starting"])
    assert (await made.answered("GET", "/health/live"))[0] == 200
    nursery.start_soon(send)
    nursery.start_soon(send, "/v1/nowhere")
    await trio.sleep(0.2)
    assert answers == []

    monkeypatch.setattr("pugd.reception.EARLY_BYTES_MAX", 0)
    other = Running(tmp_path / "other")
    other.directory.keys.unlink()
    nursery.start_soon(other.collector.run)
    status, headers, said = await other.answered("POST", "/v1/batch", batch)
    assert (status, json.loads(said)["code"]) == (503, "unavailable")
    assert int(headers["retry-after"]) > 0

    made.directory.keys.write_bytes(keys)
    with trio.fail_after(20):
        while len(answers) < 2:
            await trio.sleep(0.01)
    assert sorted(answers) == [200, 404]
    assert (await made.answered("GET", "/health/ready"))[0] == 200
    assert made.rows(LINK, LinkRow)[-1].a_id == "phone"
    nursery.cancel_scope.cancel()


async def test_events_that_waited_too_long_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr("pugd.collector.EARLY_WAIT_S", 0.3)
    made = Running(tmp_path)
    made.directory.keys.unlink()
    nursery.start_soon(made.collector.run)
    for _ in range(2):  # while it waits, and at once from then on
        status, headers, said = await made.answered("POST", "/v1/batch", {"batch": [identify("u", "phone")]})
        assert (status, json.loads(said)["code"]) == (503, "unavailable")
        assert int(headers["retry-after"]) > 0
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(data: Path, **settings: Any) -> AsyncIterator[Running]:
    """Up and taking events; cut off at the end, as a kill would, unless it was asked to stop."""
    made = Running(data, **settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.collector.run)
        with trio.fail_after(20):
            while not made.status.was_ready:
                await trio.sleep(0.005)
        yield made
        if made.status.stopping.is_set():
            return
        nursery.cancel_scope.cancel()
    made.listener.close()


def identify(user: str, anonymous: str) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "anonymousId": anonymous, "messageId": f"{user}-{anonymous}"}


async def test_explain_unlink_and_merge(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        await made.send(identify("u", "phone"), identify("u", "laptop"))
        u, phone, laptop = map(made.actor, ("u", "phone", "laptop"))
        assert await made.ask("explain", a="phone", b="laptop") == {"orders": [2, 3]}
        assert await made.ask("explain", a="u", b="u") == {"orders": []}
        assert await made.ask("explain", a="phone", b="nobody") is None

        before = made.graph()
        expected = {"persons": [[u, laptop], [phone]], "removed": [2], "left_out": [], "refused": None}
        assert await made.ask("unlink", a="phone", b="u", dry_run=True) == {**expected, "order": None}
        assert made.graph() == before
        assert made.rows(LINK, LinkRow)[-1].order == 3
        assert await made.ask("unlink", a="phone", b="u") == {**expected, "order": 4}
        assert made.rows(LINK, LinkRow)[-1].call == "unlink", "answered once it is flushed"
        assert await made.ask("explain", a="phone", b="laptop") is None

        again = {"persons": [], "removed": [], "left_out": [], "order": None}
        assert await made.ask("unlink", a="phone", b="u") == {**again, "refused": errors.NOT_LINKED}
        assert await made.ask("unlink", a="phone", b="u", dry_run=True) == {**again, "refused": errors.NOT_LINKED}
        assert await made.ask("unlink", a="phone") == {**again, "refused": errors.NOT_LINKED}
        assert await made.ask("unlink", a="u", b="u") == {**again, "refused": errors.SELF_LINK}

        assert await made.ask("merge", a="laptop", b="phone") == {"order": 5, "refused": None, "person": u}
        assert await made.ask("merge", a="laptop", b="phone") == {"order": None, "refused": None, "person": u}
        refused = {"order": None, "refused": errors.ILLEGAL_ID, "person": u}
        assert await made.ask("merge", a="laptop", b="null") == refused
        assert await made.ask("merge", a="x", b="y") == {"order": 7, "refused": None, "person": made.actor("x")}
        persons = {row.actor: row.person for row in made.rows(MERGE, MergeRow)}
        assert persons[phone] == persons[laptop] == u


@pytest.mark.parametrize("do", ["explain", "unlink", "merge"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, errors.INVALID_FIELD),
        ({"a": "x"}, errors.INVALID_FIELD),
        ({"a": 7, "b": "y"}, errors.INVALID_FIELD),
        ({"a": "", "b": "y"}, errors.MISSING_FIELD),
        ({"a": "x", "b": ""}, errors.MISSING_FIELD),
        ({"a": "x" * 513, "b": "y"}, errors.INVALID_ID),
        ({"a": "x", "b": "é" * 257}, errors.INVALID_ID),
        ({"a": "x", "b": "y", "project": 0}, errors.INVALID_FIELD),
        ({"a": "x", "b": "y", "project": 1 << 32}, errors.INVALID_FIELD),
        ({"a": "x", "b": "y", "project": "1"}, errors.INVALID_FIELD),
        ({"a": "x", "b": "y", "dry_run": "yes"}, errors.INVALID_FIELD),
    ],
)
async def test_wrong_arguments_are_told(one: Running, do: str, arguments: dict[str, Any], code: str) -> None:
    may = (do == "unlink" and arguments.get("a") == "x" and "b" not in arguments) or (
        do == "unlink" and arguments == {"a": "x", "b": ""}
    )
    if may or ("dry_run" in arguments and do != "unlink"):
        await commands.ask(one.directory.collector_socket, do, **{"project": 1, **arguments})
        return
    with pytest.raises(commands.CommandError) as told:
        await commands.ask(one.directory.collector_socket, do, **{"project": 1, **arguments})
    assert told.value.code == code
    assert len(str(told.value)) > len(f"collector.sock refused to {do}: ")


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


async def test_a_full_journal_is_told_and_nothing_is_changed(one: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await one.send(identify("u", "a"))
    before = one.graph()
    monkeypatch.setattr(one.collector._writer, "room", lambda length: False)
    for do in ("unlink", "merge"):
        with pytest.raises(commands.CommandError, match="the journal is full") as told:
            await one.ask(do, a="a", b="u")
        assert told.value.code == errors.UNAVAILABLE
    assert one.graph() == before
    assert await one.ask("explain", a="a", b="u") == {"orders": [2]}


async def test_a_disk_that_failed_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer would be a lie: what was judged is in the graph and nowhere else."""

    def fail(*_: object) -> int:
        raise JournalError("writing the journal: the disk failed")

    with pytest.RaisesGroup(JournalError, flatten_subgroups=True):
        async with running(tmp_path) as made:
            await made.send(identify("u", "a"))
            monkeypatch.setattr(made.collector._writer, "append", fail)
            with pytest.raises(commands.CommandError):
                await made.ask("unlink", a="a", b="u")
            await trio.sleep(5)
    assert not DataDirectory(tmp_path).graph_snapshot.exists()
    monkeypatch.undo()
    async with running(tmp_path) as made:
        assert await made.ask("explain", a="a", b="u") == {"orders": [2]}


async def test_events_come_while_persons_are_taken_apart(tmp_path: Path) -> None:
    """Batches that link, and hands that undo, at the same time: each ack holds, and the log makes the same graph."""
    choose = random.Random(4)
    done = {"sent": 0, "asked": 0}
    async with running(tmp_path) as made:

        async def send(number: int) -> None:
            for turn in range(40):
                user, device = f"u{choose.randrange(4)}", f"d{choose.randrange(12)}"
                event = {"type": "track", "event": "e", "userId": user, "anonymousId": device}
                await made.send(event | {"messageId": f"{number}-{turn}"}, identify(user, f"{device}-{turn % 3}"))
                done["sent"] += 1

        async def unlink() -> None:
            for _ in range(30):
                a, b = f"d{choose.randrange(12)}", f"u{choose.randrange(4)}"
                await made.ask(choose.choice(["unlink", "merge"]), a=a, b=b)
                await made.ask("unlink", a=choose.choice([a, b]), dry_run=choose.random() < 0.5)
                done["asked"] += 1

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(send, number)
            for _ in range(2):
                nursery.start_soon(unlink)
        assert done == {"sent": 160, "asked": 60}
        links = made.rows(LINK, LinkRow)
        assert [row.order for row in links] == list(range(1, len(links) + 1))
        assert sum(row.call == "unlink" for row in links) > 10
        persons = {row.actor: row.person for row in made.rows(MERGE, MergeRow)}
        graph = made.collector._graph
        assert {actor: graph.find(actor) for actor in persons} == persons
        before = made.graph()
    async with running(tmp_path) as again:
        assert again.graph() == before, "from the journal alone"


async def scattered(made: Running) -> bytes:
    """A graph with everything in it: persons, more evidence than they need, refusals, and ids that stay apart."""
    for user in ("u", "v", "w"):
        await made.send(*(identify(user, f"{user}{i}") for i in range(5)))
    await made.send({"type": "alias", "previousId": "u0", "anonymousId": "u1"}, identify("v", "u2"))
    await made.ask("unlink", a="u0", b="u")
    await made.ask("unlink", a="v")
    await made.ask("unlink", a="w0", b="w1")
    await made.ask("merge", a="v2", b="v3")
    await made.ask("merge", a="w0", b="w1")
    assert made.collector._graph.cannot
    assert made.collector._graph.refusals
    return made.graph()


async def test_a_snapshot_and_the_journals_tail_hold_what_hands_did(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        await scattered(made)
        await made.collector._snapshot()
        await made.ask("unlink", a="w")
        await made.ask("merge", a="w0", b="u")
        before = made.graph()
    assert DataDirectory(tmp_path).graph_snapshot.exists()
    async with running(tmp_path) as again:
        assert again.graph() == before
        again.status.stopping.set()
    async with running(tmp_path) as third:
        assert third.graph() == before, "from the snapshot that a stop writes"


async def test_the_link_log_alone_gives_back_what_hands_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its snapshot and the journal's beginning a collector asks the keeper, page by page."""
    async with running(tmp_path) as made:
        before = await scattered(made)
        rows = made.rows(LINK, LinkRow)
        made.status.stopping.set()
    directory = DataDirectory(tmp_path)
    directory.graph_snapshot.unlink()
    for file in directory.journal.iterdir():
        file.unlink()

    async def links(asked: Mapping[str, Any]) -> list[LinkRow]:
        return [row for row in rows if row.order >= asked["order"]][: asked["limit"]]

    monkeypatch.setattr("pugd.collector.LINKS_PAGE", 4)
    async with trio.open_nursery() as nursery:
        await nursery.start(commands.serve, directory.keeper_socket, {"links": links})
        async with running(tmp_path) as again:
            assert again.graph() == before
            assert (await again.ask("merge", a="u0", b="u"))["order"] == rows[-1].order + 1
        nursery.cancel_scope.cancel()


async def test_500_ids_are_taken_apart(tmp_path: Path) -> None:
    """A person of 500 ids and as much evidence again; how long the loop stands still, bench/bench_unlink.py prints."""
    async with running(tmp_path) as made:
        await made.send(*(identify("u", f"a{i}") for i in range(499)))
        await made.send(*({"type": "alias", "previousId": f"a{i}", "anonymousId": f"a{i + 1}"} for i in range(498)))
        for dry_run in (True, False):
            said = await made.ask("unlink", a="u", dry_run=dry_run)
            assert [len(person) for person in said["persons"]] == [1, 499]
        said = await made.ask("unlink", a="a250")
        assert [len(person) for person in said["persons"]] == [250, 1, 248]


async def test_a_snapshot_is_written_while_events_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what was there when it was begun, the journal's tail the rest; and nobody waited for a slow disk."""
    acked = 0

    def slowly(path: Path, parts: Iterable[bytes | memoryview]) -> None:
        while acked < 20:
            time.sleep(0.002)
        write_parts(path, parts)

    async with running(tmp_path) as made:
        for i in range(5):
            await made.send(identify(f"u{i}", f"a{i}"))
        then = made.graph()
        monkeypatch.setattr(collector, "write_parts", slowly)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.collector._snapshot)
                while not made.collector._graph._saving:
                    await trio.sleep(0)
                for i in range(20):
                    await made.send(identify(f"u{i % 7}", f"b{i}"))
                    acked += 1
        kept, *_ = snapshot.read(made.directory.key(), made.directory.graph_snapshot)
        assert snapshot.dump(kept, 0, 1) == then
        before = made.graph()
        assert before != then
    async with running(tmp_path) as again:
        assert again.graph() == before


async def test_a_snapshot_that_is_lost_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(path: Path, parts: Iterable[bytes | memoryview]) -> None:
        raise MemoryError("a picture of the identity graph")

    async with running(tmp_path) as made:
        await made.send(identify("u", "a"))
        await made.collector._snapshot()
        old = made.directory.graph_snapshot.read_bytes()
        await made.send(identify("u", "b"))
        with monkeypatch.context() as patched:
            patched.setattr(collector, "write_parts", lost)
            await made.collector._snapshot()
        assert made.directory.graph_snapshot.read_bytes() == old
        await made.collector._snapshot()
        assert made.directory.graph_snapshot.read_bytes() != old


def track(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "anonymousId": "a", "messageId": f"m-{number}", **fields}


async def test_event_ids_outlive_their_journal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are deleted as soon as they are stored; then kills in a row. What was sent before is known each time."""
    monkeypatch.setattr("pugd.collector.KEPT_BYTES", 0)
    monkeypatch.setattr("pugd.collector.UPKEEP_INTERVAL_S", 0.02)
    monkeypatch.setattr("pugd.collector.SNAPSHOT_INTERVAL_S", 0.0)
    sent = 0
    now = time.time()
    for turn in range(4):
        async with running(tmp_path, journal_file_bytes_max=1 << 20) as made:
            again = [track(number) for number in range(sent)]
            for at in range(0, sent, 500):
                await made.send(*again[at : at + 500])
            assert made.collector._accept.statistics().duplicates == sent
            assert made.collector._recent.statistics().lost_ms == 0
            for _ in range(4):
                padded = {"properties": {"text": "x" * 600}}
                await made.send(*(track(number, **padded) for number in range(sent, sent + 500)))
                sent += 500
            for _ in range(400):
                position, epoch = made.collector._writer.flushed, made.directory.origin().epoch
                made.directory.stored.write_text(f"{position} {epoch} 0\n")
                if made.collector._writer.statistics().files == 1:
                    break
                await trio.sleep(0.02)
            statistics = made.collector._writer.statistics()
            assert statistics.files == 1
            assert statistics.oldest > turn << 20
    assert len(list(made.directory.recent.iterdir())) >= 4
    # Without what they left behind, the collector says that it does not know.
    for path in made.directory.recent.iterdir():
        path.unlink()
    async with running(tmp_path, journal_file_bytes_max=1 << 20) as made:
        said = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now))
        await made.send(*(track(number, timestamp=said) for number in range(500)))
        assert made.collector._accept.statistics().duplicates == 0
        assert {row.event_id for row in made.rows(OLD_EVENT, EventRow)} == {f"m-{number}" for number in range(500)}


async def test_a_cookieless_visitor_keeps_its_id_over_a_crash_in_the_day(tmp_path: Path) -> None:
    def seen(event_id: str) -> dict[str, Any]:
        return {"type": "track", "event": "seen", "messageId": event_id, "context": {"cookieless": True}}

    ids = []
    for event_id in ("1", "2"):
        async with running(tmp_path) as made:
            await made.send(seen(event_id))
            [*_, row] = made.rows(EVENT, EventRow)
            assert (row.event_id, row.cookieless) == (event_id, 1)
            ids.append(row.anonymous_id)
            for client in ("203.0.113.77", "203.0.113.78"):  # of a proxy on this machine
                batch = {"batch": [seen(f"{event_id}-{client[-1]}")], "writeKey": "k"}
                assert (await made.answered("POST", "/v1/batch", batch, f"X-Forwarded-For: {client}\r\n"))[0] == 200
            beyond = [row.anonymous_id for row in made.rows(EVENT, EventRow)[-2:]]
            assert len({ids[-1], *beyond}) == 3
    days = sorted(path.name for path in made.directory.salts.iterdir())
    if len(days) == 2:  # else midnight is near
        assert ids[0] == ids[1]
    assert len(days) in (2, 3)
    async with running(tmp_path, cookieless="off") as made:
        status, _, said = await made.answered("POST", "/v1/batch", {"batch": [seen("3")], "writeKey": "k"})
        assert (status, json.loads(said)["code"]) == (400, errors.COOKIELESS_OFF)
        assert list(made.directory.salts.iterdir()) == [], "switched off, no salt is kept"
