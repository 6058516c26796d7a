"""Migrations against the embedded engine, errors told apart, reads while the drain writes."""

from __future__ import annotations

import socket

import pytest
import trio
from engine import opened_store

from pugd import tables
from pugd.errors import StoreError, StoreUnavailableError
from pugd.store import clickhouse, migrate
from pugd.store.clickhouse import Pieces, Store


async def test_tables_are_what_the_migrations_made():
    store = await opened_store()
    for table in tables.STORED:
        answer = await store.query(
            "select name, type from system.columns where database = currentDatabase() and table = {table:String} "
            "order by position",
            {"table": table.name},
        )
        assert answer.rows == [(column.name, column.type) for column in table.columns]


async def test_migrations_are_recorded_and_applied_once():
    store = await opened_store()
    before = await store.query("select number, name, checksum, applied_at from migrations order by number")
    assert [row[:3] for row in before.rows] == [(m.number, m.name, m.checksum) for m in migrate.migrations()]
    migrate.apply(store._drain)
    assert await store.query("select number, name, checksum, applied_at from migrations order by number") == before


def test_a_changed_or_unknown_migration_stops_the_start():
    every = migrate.migrations()
    assert migrate.pending(every, {}) == every
    assert migrate.pending(every, {m.number: m.checksum for m in every}) == []
    with pytest.raises(StoreError, match="changed"):
        migrate.pending(every, {1: every[0].checksum ^ 1})
    for number, checksums in migrate.FORMER.items():
        for checksum in checksums:
            assert every[number - 1] not in migrate.pending(every, {number: checksum}), "made by an earlier text"
    with pytest.raises(StoreError, match="newer"):
        migrate.pending(every, {999: 1})


async def test_every_key_column_keeps_its_order_where_dates_are_odd():
    """The index leaves out nothing before 1970 or after 2149: the sorting key's day does not wrap around."""
    store = await opened_store()
    for text in (
        "1901-02-03 04:05:06.007",
        "1969-12-31 23:59:59.999",
        "2149-06-07 00:00:00.000",
        "2200-01-01 00:00:00",
    ):
        values = {"text": text}
        await store.command(
            "insert into events (project, event, occurred_at) values (4000000000, 'odd', {text:String})", values
        )
        answer = await store.query(
            "select count() from events where project = 4000000000 and event = 'odd' "
            "and occurred_at = toDateTime64({text:String}, 3, 'UTC')",
            values,
        )
        assert answer.rows == [(1,)], text


async def test_errors_are_told_apart():
    store = await opened_store()
    with pytest.raises(StoreError) as syntax:
        await store.query("selec 1")
    assert type(syntax.value) is StoreError
    assert syntax.value.code == 62
    with pytest.raises(StoreUnavailableError) as slow:
        await store.query("select sleepEachRow(0.2) from numbers(10)", settings={"max_execution_time": 0.3})
    assert slow.value.code == 159


async def test_a_cancelled_read_lets_go_at_once_and_leaves_no_client_behind():
    store = await opened_store()
    with trio.move_on_after(0.05) as scope:
        await store.query("select sleepEachRow(0.05) from numbers(10) settings max_block_size = 1")
    assert scope.cancelled_caught
    answers = []

    async def ask() -> None:
        answers.append((await store.query("select 1 as one")).dicts())

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(ask)
    assert answers == [[{"one": 1}]] * 12
    assert len(store._idle) <= 4


async def test_before_it_is_ready_a_store_is_unavailable(tmp_path):
    store = Store(directory=tmp_path, url="http://127.0.0.1:1/pugd")
    with pytest.raises(StoreUnavailableError):
        await store.query("select 1")
    with pytest.raises(StoreUnavailableError):
        await store.prepare()
    assert not store.ready


def test_pieces_read_as_one_stream():
    pieces = [b"abc", b"", memoryview(b"defgh"), b"i"]
    stream = Pieces(pieces)
    got = []
    while piece := stream.read(2):
        assert len(piece) <= 2
        got.append(bytes(piece))
    assert b"".join(got) == b"abcdefghi"


async def test_a_server_that_is_away_is_named_and_its_password_is_not(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = Store(directory=tmp_path, url=f"http://user:s3cret@127.0.0.1:{port}/pugd")
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}.*Connection refused") as caught:
        await store.prepare()
    assert "s3cret" not in str(caught.value)


SLOW = "select count() from numbers(100000000000) where cityHash64(number) = 1"


async def running(store: Store) -> list[tuple]:
    return (
        await store.query(
            "select query from system.processes where position(query, 'cityHash64(number) = 1') > 0"
            " and position(query, 'system.processes') = 0"
        )
    ).rows


async def test_a_cancelled_read_stops_the_engine():
    store = await opened_store()
    for seconds in (0, 0.001, 0.3):
        with trio.move_on_after(seconds) as scope:
            await store.query(SLOW)
        assert scope.cancelled_caught
        with trio.fail_after(5):
            while await running(store):
                await trio.sleep(0.02)


@pytest.mark.parametrize("form", ["CSV", "JSONEachRow", "Parquet"])
async def test_a_stream_is_the_whole_answer_and_leaves_nothing_behind(form):
    store = await opened_store()
    stream = await store.stream(
        "select number, 'it''s' as text from numbers({n:UInt64})", {"n": 300_000}, {"readonly": 2}, form=form
    )
    data = bytearray()
    while piece := await stream.read():
        assert len(piece) <= clickhouse.STREAM_BYTES
        data += piece
    await stream.close()
    if form == "Parquet":
        assert (data[:4], data[-4:]) == (b"PAR1", b"PAR1")
    else:
        assert data.count(b"\n") == 300_000
    assert not list((store._directory / "tmp").glob("*.parquet"))
    assert store._stream_limit.borrowed_tokens == 0


@pytest.mark.parametrize("form", ["CSV", "JSONEachRow", "Parquet"])
async def test_a_stream_that_is_let_go_stops_the_engine(form):
    store = await opened_store()
    with trio.move_on_after(0.3) as scope:
        stream = await store.stream(SLOW, {}, {}, form=form)
        try:
            await stream.read()
        finally:
            await stream.close()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        while await running(store):
            await trio.sleep(0.02)
    assert not list((store._directory / "tmp").glob("*.parquet"))
    assert store._stream_limit.borrowed_tokens == 0
    assert (await store.query("select 1")).rows == [(1,)]


async def test_a_stream_holds_a_few_blocks_whatever_its_length():
    store = await opened_store()
    stream = await store.stream("select number, repeat('x', 100) from numbers(50000000)", {}, {}, form="CSV")
    for _ in range(20):
        await stream.read()
    held = (await store.query("select max(memory_usage) from system.processes")).rows[0][0]
    await stream.close()
    assert held < 200 << 20
    assert not (await store.query("select 1 from system.processes where position(query, '50000000)') > 0"
                                  " and position(query, 'system.processes') = 0")).rows  # fmt: skip


async def drained(store: Store, sql: str, form: str) -> None:
    stream = await store.stream(sql, {}, {}, form=form)
    try:
        while await stream.read():
            pass
    finally:
        await stream.close()


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
async def test_what_goes_wrong_in_a_stream_is_told(form):
    store = await opened_store()
    with pytest.raises(StoreError) as caught:
        await drained(store, "select throwIf(number = 5000000) from numbers(9000000)", form)
    assert caught.value.code == 395
