"""The store and the drain against a server over HTTP (tests/live/clickhouse_front.py: the real engine behind)."""

from __future__ import annotations

from collections.abc import Iterator

import journals
import pytest
import trio
from clickhouse_server import Server

from pugd import drain, tables
from pugd.drain import ORDER, Drain
from pugd.errors import StoreError, StoreUnavailableError
from pugd.store.clickhouse import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("front"))
    yield running
    running.kill()


async def held_by(store: Store, epoch: int) -> dict[str, list[int]]:
    held = {}
    for table in ORDER:
        sql = f"select position from {table.name} where epoch = {{epoch:UInt64}} order by position"
        held[table.name] = [row[0] for row in (await store.query(sql, {"epoch": epoch})).rows]
    return held


async def running(drain: Drain, seconds: float = 30) -> bool:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.run)
        done = await drain.wait_stored(drain.flushed, trio.current_time() + seconds)
        nursery.cancel_scope.cancel()
    return done


async def test_tables_are_made_in_the_database_of_the_url(server, tmp_path):
    store = Store(directory=tmp_path, url=server.url)
    await store.prepare()
    for table in tables.STORED:
        answer = await store.query(
            "select name, type from system.columns where database = 'other' and table = {table:String} "
            "order by position",
            {"table": table.name},
        )
        assert answer.rows == [(column.name, column.type) for column in table.columns]
    assert not list(tmp_path.iterdir())
    await store.close()


@pytest.mark.parametrize("spoiled", ["", "lose-before", "lose-after", "hold", "busy", "parts", "memory"])
async def test_every_row_once_whatever_becomes_of_an_insert(server, tmp_path, spoiled):
    data = journals.made(tmp_path)
    rows = journals.mixed(300, seed=11)
    held = journals.write(data, [rows[n : n + 30] for n in range(0, 300, 30)])
    store = Store(directory=tmp_path, url=server.url)
    await store.prepare()
    before = len(server.spoil(spoiled)["inserts"])
    drain = Drain(data, store, interval_ms=1)
    assert await running(drain)
    assert await held_by(store, data.origin().epoch) == held
    statistics = drain.statistics()
    assert (statistics.retries >= 1) == bool(spoiled)
    # The client library sent nothing twice by itself: inserts seen by the server are those the drain knows of.
    assert len(server.spoil("")["inserts"]) - before == statistics.blocks + bool(spoiled)
    await store.close()


async def test_an_insert_of_an_earlier_process_is_waited_for(server, tmp_path):
    """A keeper is killed while its insert runs on: the next asks it to end, and only then looks."""
    data = journals.made(tmp_path)
    held = journals.write(data, [journals.mixed(100, seed=12)])
    store = Store(directory=tmp_path, url=server.url)
    await store.prepare()
    origin = data.origin()
    server.spoil("hold")
    name = f"pugd-{origin.epoch}-{origin.name}-left-behind"
    with pytest.raises(StoreUnavailableError):
        await store.insert("events", ["actor"], [b"\x01\x00"], token="t", query_id=name)
    assert name in server.spoil("")["running"]
    drain = Drain(data, store, interval_ms=1)
    assert await running(drain)
    assert name not in server.spoil("")["running"]
    assert drain.statistics().retries == 1
    assert await held_by(store, origin.epoch) == held
    await store.close()


async def test_a_server_that_goes_away_and_comes_back(tmp_path, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("front"))
    try:
        data = journals.made(tmp_path)
        held = journals.write(data, [journals.mixed(50, seed=13)])
        store = Store(directory=tmp_path, url=server.url)
        drain = Drain(data, store, interval_ms=1)
        assert await running(drain)
        server.kill()
        more = journals.write(data, [journals.mixed(50, seed=14)])
        with pytest.raises(StoreUnavailableError):
            await store.query("select 1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            assert not await drain.wait_stored(drain.flushed, trio.current_time() + 0.7)
            assert drain.statistics().away
            await trio.to_thread.run_sync(server.start)
            assert await drain.wait_stored(drain.flushed, trio.current_time() + 30)
            nursery.cancel_scope.cancel()
        assert await held_by(store, data.origin().epoch) == {name: held[name] + more[name] for name in held}
        await store.close()
    finally:
        server.kill()


async def test_a_wrong_password_is_not_taken_for_an_outage_of_the_data(server, tmp_path):
    store = Store(directory=tmp_path, url=f"http://default:wrong@127.0.0.1:{server.port}/other")
    with pytest.raises(StoreError) as refused:
        await store.prepare()
    assert refused.value.code == 516
    assert "wrong@" not in str(refused.value)


WINDOW = "non_replicated_deduplication_window"


@pytest.mark.parametrize(
    ("table", "broken", "mended"),
    [
        ("events", "fsync_after_insert = 0", "fsync_after_insert = 1"),
        ("traits", "fsync_part_directory = 0", "fsync_part_directory = 1"),
        ("links", f"{WINDOW} = 0", f"{WINDOW} = 10000"),
    ],
)
async def test_a_table_that_breaks_a_promise_is_refused_by_name(server, tmp_path, table, broken, mended):
    store = Store(directory=tmp_path, url=server.url)
    await store.prepare()
    try:
        await store.command(f"alter table {table} modify setting {broken}")
        another = Store(directory=tmp_path, url=server.url)
        with pytest.raises(StoreError, match=rf"table {table} .*{broken.split()[0]}"):
            await another.prepare()
        assert not another.ready
        # A drain waits, and goes on once it is mended, without a restart.
        data = journals.made(tmp_path)
        journals.write(data, [journals.mixed(10, seed=15)])
        drain = Drain(data, another, interval_ms=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            with trio.fail_after(60):
                while not drain.statistics().last_error:
                    await trio.sleep(0.01)
            assert not await drain.wait_stored(drain.flushed, trio.current_time() + 0.05)
            assert broken.split()[0] in drain.statistics().last_error
            await store.command(f"alter table {table} modify setting {mended}")
            assert await drain.wait_stored(drain.flushed, trio.current_time() + 20)
            nursery.cancel_scope.cancel()
        await another.close()
    finally:
        await store.command(f"alter table {table} modify setting {mended}")
        await store.close()


async def test_a_table_whose_merges_lose_rows_is_refused(server, tmp_path):
    url = Server.url_at(server.port, "merging")
    store = Store(directory=tmp_path, url=url)
    await store.prepare()
    await store.command("drop table person_of")
    await store.command("create table person_of as merging.traits engine = ReplacingMergeTree order by actor")
    await store.close()
    with pytest.raises(StoreError, match="person_of is a ReplacingMergeTree"):
        await Store(directory=tmp_path, url=url).prepare()


async def test_a_profile_that_breaks_a_promise_is_refused_by_name(tmp_path):
    server = Server(tmp_path, settings="max_partitions_per_insert_block = 10")
    try:
        with pytest.raises(StoreError, match=r"10 partitions.*max_partitions_per_insert_block"):
            await Store(directory=tmp_path, url=server.url).prepare()
    finally:
        server.kill()


async def test_a_copy_that_comes_twice_is_made_once(server, tmp_path):
    """As a proxy may send it: by its token, though each would find rows to copy."""
    data = journals.made(tmp_path)
    held = journals.write(data, [journals.mixed(60, seed=14)])
    store = Store(directory=tmp_path, url=server.url)
    await store.prepare()
    assert await running(Drain(data, store, interval_ms=1))
    origin = data.origin()
    anew = {"collector": origin.name, "epoch": origin.epoch, "first": 0, "until": 1 << 40}
    every = drain._COPY.replace("position not in (", "position * 0 not in (")  # whatever is there already
    before = len((await held_by(store, origin.epoch))["events_by_actor"])
    for _ in range(2):
        await store.copy(every, anew, token="one", query_id="copied")
    assert len((await held_by(store, origin.epoch))["events_by_actor"]) == before + len(held["events"])
    await store.close()
