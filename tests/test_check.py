"""`pugd check identity` against real journals and real ClickHouse: whatever is spoilt on purpose is found, named and
mended, and nothing else is touched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import journals
import msgspec
import pytest
import trio
from engine import opened_store

from pugd import check as checks
from pugd.check import Check
from pugd.data import DataDirectory
from pugd.drain import Drain
from pugd.errors import PugdError
from pugd.identity import agreement, rules, snapshot
from pugd.identity.agreement import Report
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Proposal
from pugd.keeper import links_from
from pugd.model import LINK, MERGE, LinkRow, MergeRow
from pugd.store.clickhouse import Store

ILLEGAL = IllegalIds()
encode = msgspec.msgpack.encode


class World:
    """An installation whose collector and keeper have stopped: journal, ClickHouse, snapshot, all of one history."""

    def __init__(self, path: Path, store: Store) -> None:
        self.data: DataDirectory = journals.made(path)
        self.store = store
        self.graph = Graph(self.data.key())
        self.records: list[list[bytes]] = []
        self.stale: bytes = b""
        """A snapshot taken on the way."""

    def live(self, count: int, seed: int) -> None:
        """`count` proposals of three projects, unlinks among them."""
        draw = random.Random(seed)
        for at in range(count):
            project, call = draw.choice((1, 1, 1, 2, 9)), draw.choice(("identify",) * 6 + ("alias", "event", "unlink"))
            a, b = f"a{draw.randrange(count)}", f"u{draw.randrange(count // 3)}"
            proposal = Proposal(project, call, a, b if call != "unlink" or draw.random() < 0.5 else "", secret=True)
            self.record(proposal)
            if at == count // 2:
                self.stale = snapshot.dump(self.graph, 0, self.data.origin().epoch)

    def record(self, proposal: Proposal) -> None:
        outcome = rules.propose(self.graph, proposal, ILLEGAL)
        rows: list[Any] = [
            LinkRow(
                *(LINK, proposal.project, link.order, link.a, link.b, link.a_id, link.b_id, link.call, link.refused),
                *(1, rules.RULES_VERSION, journals.NOW, journals.NOW, journals.NOW, "", "e", "http", "web"),
            )
            for link in (*outcome.links, *([outcome.again] if outcome.again is not None else []))
        ]
        rows += [MergeRow(MERGE, proposal.project, *merge) for merge in outcome.merges]
        if rows:
            self.records.append([encode(row) for row in rows])

    async def stop(self) -> None:
        """Everything flushed and stored, the snapshot written."""
        journals.write(self.data, self.records, file_bytes_max=256 << 10)
        await self.drain()
        self.snapshot = snapshot.dump(self.graph, Drain(self.data, self.store).flushed, self.data.origin().epoch)
        self.data.graph_snapshot.write_bytes(self.snapshot)

    async def drain(self) -> int:
        drain = Drain(self.data, self.store, interval_ms=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            assert await drain.wait_stored(drain.flushed, trio.current_time() + 30)
            nursery.cancel_scope.cancel()
        return drain.stored

    async def check(self, *, repair: bool = False) -> Report:
        return await Check(self.data, self.store, wait_stored=self.drain, collector=None).run(repair=repair)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list((await self.store.query(sql)).rows)

    async def persons(self) -> dict[tuple[int, int], int]:
        """What reads see: the row of the greatest version."""
        found = await self.rows("select project, actor, argMax(person, version) from person_of group by 1, 2")
        return {(project, actor): person for project, actor, person in found}

    async def log(self) -> list[tuple[Any, ...]]:
        return await self.rows("select * from links order by `order`, position")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await opened_store()
    for table in ("links", "person_of"):
        await store.command(f"truncate table {table}")
    made = World(tmp_path / "data", store)
    made.live(600, seed=1)
    await made.stop()
    yield made
    for table in ("links", "person_of"):
        await store.command(f"truncate table {table}")


def only(found: agreement.Findings, *kinds: str) -> bool:
    """Are these the only kinds of difference that were found?"""
    names = ("lost", "clashing", "false", "twice", "missing", "wrong", "surplus", "ahead")
    seen = {name for name in names if getattr(found, name).count} | ({"graph"} if found.graph else set())
    return seen == set(kinds)


async def test_what_agrees_is_left_alone(world: World) -> None:
    before = await world.persons(), await world.log(), world.data.graph_snapshot.read_bytes()
    report = await world.check(repair=True)
    assert report.found.agree
    assert report.after is None
    assert not report.done
    assert report.found.last == report.found.entries == world.graph.order - 1
    assert report.found.agreeing == len(before[0])
    assert (await world.persons(), await world.log(), world.data.graph_snapshot.read_bytes()) == before
    assert await Check(world.data, world.store, wait_stored=world.drain, collector=None).glance() == ""
    assert agreement.told(report)[-1].startswith("All three agree")


async def test_an_empty_installation_agrees(tmp_path: Path) -> None:
    store = await opened_store()
    for table in ("links", "person_of"):
        await store.command(f"truncate table {table}")
    empty = World(tmp_path / "data", store)
    assert (await empty.check()).found.agree
    await empty.stop()
    report = await empty.check()
    assert report.found.agree
    assert report.found.last == report.found.entries == 0


async def spoil(world: World, statement: str) -> None:
    """As a hand in the database: the statement has taken effect when this returns."""
    if statement.startswith("alter"):
        statement += " settings mutations_sync = 2"
    await world.store.command(statement)


async def healed(world: World, **before: Any) -> Report:
    """Repair, and look that everything is as it was."""
    report = await world.check(repair=True)
    assert report.after is not None
    assert report.after.agree, agreement.told(report)
    assert not report.left
    assert await world.persons() == before["persons"]
    assert await world.log() == before["log"]
    assert snapshot.holds(world.graph, world.data.graph_snapshot.read_bytes())
    assert (await world.check()).found.agree
    # What was written goes past the drain's bookkeeping: all that is there of this journal is what it put there.
    origin = world.data.origin()
    counted = await world.rows(
        f"select count() = uniqExact(position) from person_of where collector = '{origin.name}'"
        f" and epoch = {origin.epoch}"
    )
    assert counted == [(1,)]
    return report


SPOILT = {
    "rows deleted": ("delete from person_of where actor % 5 = 1", "missing"),
    "all rows deleted": ("delete from person_of where 1", "missing"),
    "another person": ("alter table person_of update person = person + 1 where actor % 7 = 2", "wrong"),
    "the last row of all": (
        "alter table person_of update person = 5 where version = (select max(version) from person_of)",
        "wrong",
    ),
    "two rows of one version": (
        "insert into person_of select project, actor, 77, version, 'x', 1, position from person_of where actor % 9 = 0",
        "wrong",
    ),
    "rows of nobody": (
        "insert into person_of select 1 + number % 2, 1000 + number, 5, number, 'x', 1, number from numbers(40)",
        "surplus",
    ),
    "rows of later places": (
        "insert into person_of select project, actor, 5, 1000000 + version, 'x', 1, position from person_of limit 9",
        "ahead",
    ),
    "entries deleted": ("delete from links where `order` % 50 = 7 or (`order` > 100 and `order` < 140)", "lost"),
    "the log's end deleted": ("delete from links where `order` > 300", "lost"),
    "the whole log deleted": ("delete from links where 1", "lost"),
    "entries of other actors": ("alter table links update b = b + 1 where `order` % 60 = 3 and b != 0", "false"),
    "entries with other ids": ("alter table links update a_id = concat(a_id, '!') where `order` % 60 = 3", "false"),
    "calls that are none": ("alter table links update call = 'x' where `order` in (1, 2, 40)", "false"),
    "entries twice": ("insert into links select * from links where `order` % 40 = 1", "twice"),
    "entries three times": (
        "insert into links select * from links array join range(2) as n where `order` in (1, 400)",
        "twice",
    ),
    "two entries in one place": (
        "insert into links select * replace (concat(b_id, '2') as b_id, b + 1 as b, 'x' as collector) from links"
        " where `order` % 70 = 5 and b != 0",
        "clashing",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_what_is_spoilt_is_found_and_mended(world: World, name: str) -> None:
    before = {"persons": await world.persons(), "log": await world.log()}
    statement, kind = SPOILT[name]
    await spoil(world, statement)
    found = (await world.check()).found
    assert not found.agree
    counted = getattr(found, kind)
    assert counted.count
    assert 0 < len(counted.shown) <= agreement.SHOWN
    if kind in ("missing", "wrong", "surplus", "ahead", "twice"):
        assert only(found, kind)
    report = await healed(world, **before)
    assert getattr(report.found, kind).count == counted.count
    assert report.done


async def test_counts_are_those_of_the_spoilt_rows(world: World) -> None:
    persons = await world.persons()
    await spoil(world, "delete from person_of where actor % 5 = 1")
    await spoil(world, "insert into person_of values (1, 1000, 5, 3, 'x', 1, 1), (1, 1000, 6, 4, 'x', 1, 2)")
    found = (await world.check()).found
    assert found.missing.count == sum(actor % 5 == 1 for _, actor in persons)
    assert found.surplus.count == 1
    assert found.agreeing == len(persons) - found.missing.count
    named = " ".join(found.missing.shown)
    assert "'a" in named or "'u" in named, "ids are shown as they were sent"


async def test_a_glance_sees_what_a_crash_leaves(world: World) -> None:
    async def glance() -> str:
        return await Check(world.data, world.store, wait_stored=world.drain, collector=None).glance()

    last = world.graph.order - 1
    for statement, said in (
        ("delete from person_of where actor = (select any(actor) from person_of)", "ids are linked"),
        ("insert into person_of values (1, 1000, 5, 3, 'x', 1, 1)", "ids are linked"),
        (f"insert into person_of values (1, 1000, 5, {last + 1}, 'x', 1, 1)", "rows of place"),
        ("delete from links where `order` = 17", "entries in"),
    ):
        before = {"persons": await world.persons(), "log": await world.log()}
        await spoil(world, statement)
        assert said in await glance()
        await healed(world, **before)
        assert await glance() == ""


async def test_a_snapshot_that_is_no_good(world: World) -> None:
    path, good = world.data.graph_snapshot, world.snapshot
    other = Graph(bytes(16))
    for bad in (
        good[:-1],
        good[:30],
        b"",
        good[:100] + bytes([good[100] ^ 1]) + good[101:],
        snapshot.dump(other, 0, world.data.origin().epoch),
        snapshot.dump(world.graph, 0, world.data.origin().epoch + 1),
    ):
        path.write_bytes(bad)
        report = await world.check()
        assert only(report.found, "graph")
        assert "of no use" in report.found.graph
        report = await world.check(repair=True)
        assert report.after is not None
        assert report.after.agree
        assert path.read_bytes() == good
    path.unlink()
    assert (await world.check()).found.agree, "there is none yet: the next start makes the graph from the log"


async def test_a_whole_snapshot_that_says_something_else(world: World) -> None:
    """As a bug, or memory that fails, would write it: its checksum is right."""
    path, epoch = world.data.graph_snapshot, world.data.origin().epoch
    path.write_bytes(world.stale)
    assert (await world.check()).found.agree, "an older one is right up to its place"
    graph, position, _ = snapshot.load(world.data.key(), world.snapshot)
    order = graph.order
    rules.propose(graph, Proposal(1, "alias", "a1", "nobody", secret=True), ILLEGAL)
    longer = snapshot.dump(graph, position, epoch)
    graph.order = order
    for bad in (snapshot.dump(graph, position, epoch), longer, snapshot.dump(Graph(world.data.key()), 0, epoch)):
        path.write_bytes(bad)
        if bad[40:48] == (1).to_bytes(8, "little"):
            assert (await world.check()).found.agree, "the graph before the first entry is right, too"
            continue
        report = await world.check(repair=True)
        assert report.found.graph
        assert report.found.persons_agree
        if bad is longer:
            # It knows an entry that neither log nor journal has: a place was given out, and its entry is gone.
            assert only(report.found, "graph", "lost")
            assert report.left
            assert path.read_bytes() == bad
        else:
            assert only(report.found, "graph")
            assert path.read_bytes() == world.snapshot


async def test_nobody_is_changed_on_the_ground_of_a_damaged_log(world: World) -> None:
    """The journal no longer holds what the log has lost."""
    for path in world.data.journal.glob("0*.journal"):
        path.unlink()
    await spoil(world, "delete from links where `order` in (40, 41)")
    await spoil(world, "delete from person_of where actor % 5 = 1")
    before = await world.persons(), await world.log(), world.data.graph_snapshot.read_bytes()
    report = await world.check(repair=True)
    assert report.found.lost.count == 2
    assert report.found.lost.shown == ["40 to 41"]
    assert report.after is not None
    assert not report.after.agree
    assert not report.done
    assert any("restore the table `links`" in line for line in report.left)
    assert (await world.persons(), await world.log(), world.data.graph_snapshot.read_bytes()) == before


async def test_rows_ahead_stay_where_the_graph_does_not_say_that_they_are_wrong(world: World) -> None:
    world.data.graph_snapshot.unlink()
    await spoil(world, "insert into person_of values (1, 1000, 5, 1000000, 'x', 1, 1)")
    before = await world.persons()
    report = await world.check(repair=True)
    assert report.after is not None
    assert not report.after.agree
    assert await world.persons() == before


async def test_many_rows_are_mended_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PAGE_ROWS", 60)
    monkeypatch.setattr(checks, "DELETE_ROWS", 20)
    monkeypatch.setattr(checks, "SPAN_BYTES", 2000)
    before = {"persons": await world.persons(), "log": await world.log()}
    for name in ("all rows deleted", "rows of nobody", "entries of other actors", "entries twice", "entries deleted"):
        await spoil(world, SPOILT[name][0])
    await healed(world, **before)


async def test_a_collector_gets_the_log_page_by_page_past_holes_and_copies(world: World) -> None:
    async def all_of_it() -> list[int]:
        found: list[int] = []
        while True:
            page = await links_from(world.store, found[-1] + 1 if found else 1, 50)
            found += [link.order for link in page]
            if len(page) < 50:
                return found

    places = list(range(1, world.graph.order))
    assert await all_of_it() == places
    await spoil(world, "delete from links where `order` in (7, 100) or (`order` >= 200 and `order` < 330)")
    await spoil(world, "insert into links select * from links where `order` in (9, 150)")
    holes = {7, 100, *range(200, 330)}
    assert await all_of_it() == [place for place in places if place not in holes]


async def test_random_damage_never_stops_the_check(world: World) -> None:
    """Entries that hash right and make no sense: they are counted, and the check comes to its end."""
    draw = random.Random(5)
    actors = {f"x{n}": world.graph.actor(1, f"x{n}") for n in range(6)}
    last = world.graph.order - 1
    for _ in range(6):
        values = []
        for _ in range(60):
            a, b = draw.choice(list(actors)), draw.choice([*actors, ""])
            call = draw.choice(("identify", "alias", "event", "merge", "user", "unlink"))
            of_b = actors.get(b, 0)
            last += draw.choice((1, 1, 1, 2, 0))
            values.append(
                f"(1, {last}, {actors[a]}, {of_b}, '{a}', '{b}', '{call}', '{draw.choice(('', '', 'self_link'))}',"
                f" 1, 2, 0, 0, 0, '', '', '', '', 'x', 1, {last})"
            )
        await world.store.command("insert into links values " + ", ".join(values))
        report = await world.check(repair=True)
        assert not report.found.agree
        assert not report.found.log_whole


async def test_it_says_when_it_cannot_be_seen(world: World) -> None:
    async def never() -> int:
        raise PugdError("ClickHouse is away")

    with pytest.raises(PugdError, match="away"):
        await Check(world.data, world.store, wait_stored=never, collector=None).run(repair=True)
