"""What an operator does with rows that are not in ClickHouse: out of quarantine, or out of the journal again; each row
is there once, whatever goes wrong on the way. Against real journals and the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import journals
import msgspec
import pytest
import trio
from engine import opened_store

from pugd import model, quarantine
from pugd.data import DataDirectory
from pugd.drain import ORDER, Drain
from pugd.errors import StoreRefusedError, StoreUnavailableError
from pugd.quarantine import Quarantined
from pugd.store.clickhouse import Store

POISON = b'{"poison":1}'
IDS = count(70_000_000, 1000)
"""Where each test's ids begin: other tests' in the same store are others."""


class Between:
    """Refuses blocks that hold POISON, as a ClickHouse that has yet to be mended; or loses a reply."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refuse = True
        self.lose = False

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def insert(self, table, columns, pieces, **more):
        if self.refuse and POISON in b"".join(pieces):
            raise StoreRefusedError("Code: 117: poison", code=117)
        await self.store.insert(table, columns, pieces, **more)
        if self.lose:
            self.lose = False
            raise StoreUnavailableError("the reply was lost")


@asynccontextmanager
async def running(drain: Drain) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.run)
        assert await drain.wait_stored(drain.flushed, trio.current_time() + 20)
        yield
        nursery.cancel_scope.cancel()


async def positions(store: Store, data: DataDirectory) -> dict[str, list[int]]:
    held = {}
    for table in ORDER:
        sql = f"select position from {table.name} where epoch = {{epoch:UInt64}} order by position"
        held[table.name] = [row[0] for row in (await store.query(sql, {"epoch": data.origin().epoch})).rows]
    return held


def kept(data: DataDirectory) -> list[int]:
    return [row.position for row in quarantine.rows(data.quarantine)]


@asynccontextmanager
async def poisoned(
    tmp_path: Path,
) -> AsyncIterator[tuple[DataDirectory, Between, Drain, dict[str, list[int]], list[int]]]:
    """A drained journal of which ClickHouse refused two rows."""
    data = journals.made(tmp_path)
    first = next(IDS)
    rows = journals.mixed(60, seed=3, first=first)
    rows[10], rows[41] = (journals.event(first + n, properties=POISON) for n in (10, 41))
    held = journals.write(data, [rows[:30], rows[30:]])
    store = Between(await opened_store())
    drain = Drain(data, store, interval_ms=1)
    async with running(drain):
        refused = kept(data)
        assert len(refused) == 2
        yield data, store, drain, held, refused


async def test_a_row_that_is_still_refused_stays(tmp_path):
    async with poisoned(tmp_path) as (data, store, drain, _, refused):
        before = await positions(store, data)
        assert "poison" in await drain.put_back(refused[0])
        assert kept(data) == refused
        assert await positions(store, data) == before
        assert await drain.put_back(refused[0] + 1) == "there is no such row in quarantine"


async def test_a_row_is_put_back_once_whatever_happens(tmp_path):
    async with poisoned(tmp_path) as (data, store, drain, held, refused):
        store.refuse = False
        row = quarantine.load(quarantine.path_of(data.quarantine, refused[0]))
        assert row is not None
        assert await drain.put_back(refused[0]) == ""
        assert kept(data) == refused[1:]
        # killed between the insert and letting go of the file: it is there again, and the row already stored
        quarantine.keep(data.quarantine, row)
        assert await drain.put_back(refused[0]) == ""
        store.lose = True
        with pytest.raises(StoreUnavailableError):
            await drain.put_back(refused[1])
        assert kept(data) == refused[1:]
        assert await drain.put_back(refused[1]) == ""
        assert kept(data) == []
        assert await positions(store, data) == held


@pytest.mark.parametrize("kind", [model.EVENT, model.OLD_EVENT])
async def test_a_row_whose_event_was_sent_again_and_stored_is_not_stored_twice(tmp_path, kind):
    data = journals.made(tmp_path)
    n = next(IDS)
    journals.write(data, [[journals.event(n, properties=POISON, kind=kind)]])
    store = Between(await opened_store())
    drain = Drain(data, store, interval_ms=1)
    async with running(drain):
        [refused] = kept(data)
        journals.write(data, [[journals.event(n, kind=model.OLD_EVENT)]])
        assert await drain.wait_stored(drain.flushed, trio.current_time() + 20)
        store.refuse = False
        before = await positions(store, data)
        assert len(before["events"]) == 1
        assert await drain.put_back(refused) == ""
        assert await positions(store, data) == before
        assert kept(data) == []


async def test_what_comes_again_is_not_missing(tmp_path):
    data = journals.made(tmp_path)
    n = next(IDS)
    rows = [journals.event(n), journals.event(n + 1), journals.trait(n)]
    rows += [journals.event(n, kind=model.OLD_EVENT), journals.trait(n, kind=model.OLD_TRAIT)]
    held = journals.write(data, [rows])
    store = await opened_store()
    drain = Drain(data, store, interval_ms=1)
    async with running(drain):
        compared = await drain.compare(0)
        assert compared.rows == {name: len(held[name]) for name in held if held[name]}
        assert not any(compared.missing.values())


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_row_put_back_before_its_place_is_drained_is_not_sent_again(tmp_path, restarted):
    async with poisoned(tmp_path) as (data, store, _, held, refused):
        pass
    store.refuse = False
    data.stored.unlink()
    again = Drain(data, store, interval_ms=1)  # stands at 0: both rows lie before it
    for position in refused:
        assert await again.put_back(position) == ""
    if restarted:
        again = Drain(data, store, interval_ms=1)
    async with running(again):
        assert await positions(store, data) == held
        assert again.statistics().doubled_rows == 0


async def test_rows_of_another_epoch_and_several_in_one_are_put_back(tmp_path):
    """A damaged row is kept to the end of its record; once it can be read, so can those behind it."""
    data = journals.made(tmp_path)
    store = await opened_store()
    drain = Drain(data, store, interval_ms=1)
    epoch = data.origin().epoch
    first = next(IDS)
    raw = [journals.event(first), journals.trait(first + 1), journals.event(first + 2)]
    await store.prepare()
    for elsewhere, whole in ((epoch, b"".join(raw)), (epoch + 1, journals.event(first + 3))):
        quarantine.keep(data.quarantine, Quarantined("test", elsewhere, 5000, "events", "damaged", whole))
        assert await drain.put_back(5000) == ""
    assert (await positions(store, data))["events"] == [5000, 5000 + len(raw[0]) + len(raw[1])]
    sql = "select position from events where epoch = {epoch:UInt64} and collector = 'test'"
    assert (await store.query(sql, {"epoch": epoch + 1})).rows == [(5000,)]
    quarantine.keep(data.quarantine, Quarantined("test", epoch, 9000, "events", "damaged", raw[0] + b"\x93\x01"))
    assert "damaged" in await drain.put_back(9000)
    quarantine.keep(
        data.quarantine, Quarantined("test", epoch, 9900, "", "unknown kind", msgspec.msgpack.encode((77,)))
    )
    assert await drain.put_back(9900) == "unknown kind"
    assert kept(data) == [9000, 9900]


async def test_what_clickhouse_has_lost_comes_from_the_journal_again(tmp_path):
    """Restored from an older backup: the newest rows of every table, and some older ones, are not there."""
    data = journals.made(tmp_path)
    rows = journals.mixed(600, seed=9)
    held = journals.write(data, [rows[n : n + 20] for n in range(0, 600, 20)], file_bytes_max=32 << 10)
    store = await opened_store()
    drain = Drain(data, store, interval_ms=1, span_bytes_max=20_000)
    async with running(drain):
        end = drain.stored
        for table in ORDER:
            gone = f"position > {end // 2} or position % 5 = 0"
            epoch = {"epoch": data.origin().epoch}
            parts = f"select distinct _partition_id from {table.name} where epoch = {{epoch:UInt64}}"
            for (part,) in (await store.query(parts, epoch)).rows:  # not those of other tests, which are many
                sql = f"alter table {table.name} delete in partition id '{part}'"
                await store.command(f"{sql} where epoch = {{epoch:UInt64}} and ({gone})", epoch)
        while await pending(store):
            await trio.sleep(0.05)
        there = await positions(store, data)
        missing = {name: len(held[name]) - len(there[name]) for name in held}
        assert all(missing.values())
        position, found = 0, dict.fromkeys(held, 0)
        while True:
            compared = await drain.compare(position)
            for name, count in compared.missing.items():
                found[name] += count
            position = compared.end
            if compared.last:
                break
        assert found == missing
        assert await drain.go_back(0) == 0
        assert await drain.wait_stored(end, trio.current_time() + 20)
        assert await positions(store, data) == held
        assert drain.statistics().doubled_rows == 0
        assert await drain.go_back(end + 1000) == end + 1000  # nothing to do
        assert drain.stored == end


async def pending(store: Store) -> int:
    return (await store.query("select count() from system.mutations where not is_done")).rows[0][0]


def test_what_is_not_ours_is_left_alone(tmp_path):
    data = journals.made(tmp_path)
    quarantine.keep(data.quarantine, Quarantined("test", 1, 700, "events", "why", journals.event(1)))
    (data.quarantine / "note.txt").write_text("mine")
    (data.quarantine / "00000000000000000001.msgpack").write_bytes(b"nonsense")
    assert kept(data) == [700]
    row = quarantine.load(quarantine.path_of(data.quarantine, 700))
    assert row is not None
    shown = quarantine.shown(row)
    assert shown["row"]["event_id"] == "id-1"
    assert shown["row"]["properties"] == '{"n":1}'
    assert quarantine.drop(data.quarantine, 700)
    assert not quarantine.drop(data.quarantine, 700)
