"""ClickHouse: blocks in, questions out; embedded (chDB, in this process) or a server over HTTP, by one client library.

Calls on one client are serialized, so the drain has a client of its own and reads share a few; every call runs in a
thread, each kind under its own limit, so neither can keep the other waiting for a thread. A client library may send a
request again after a lost connection; for an insert that could lose rows (the server may have recorded the
deduplication token and not the rows), so a block is handed over as a stream, which cannot be sent twice, and whoever
inserts decides what follows an unclear outcome (drain.py).

Values reach ClickHouse as bound parameters only. Errors become three: `StoreUnavailableError` (try again later),
`StoreRefusedError` (the data of this block, whatever is tried), and `StoreError` (the rest: our statement, a missing
privilege, a schema that is not ours).
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import msgspec
import trio
from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_connect.driver.exceptions import ClickHouseError

from pugd.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pugd.store import migrate, needs

log = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE = "pugd"
"""Of the embedded engine; a server's is named in its URL."""

INSERT_SETTINGS: dict[str, int | str] = {
    "async_insert": 0,  # on by default: an ack before the rows are in a part
    "insert_deduplicate": 1,
    "fsync_metadata": 1,
    "type_json_skip_duplicated_paths": 1,
    "input_format_try_infer_dates": 0,  # a text that looks like a date stays the text that was sent
    "input_format_try_infer_datetimes": 0,
    "json_type_escape_dots_in_keys": 1,  # {"a.b": 1} and {"a": {"b": 1}} stay two things
}
READ_SETTINGS: dict[str, int | str] = {"json_type_escape_dots_in_keys": 1}
STOP_S = 5.0
"""How long whoever stops a read waits until ClickHouse has let go of it; it takes some milliseconds."""
STOP_PAUSE_S = 0.02
STREAM_BYTES = 256 * 1024
"""A piece of a streamed answer."""
STREAMS = 2
"""Answers that are streamed at once, beside the readers."""
ENGINE_OPTIONS = {
    # Upper bounds of the embedded engine's caches and pools: its defaults are a server's (5 GiB for marks alone).
    "mark_cache_size": 256 << 20,
    "index_mark_cache_size": 64 << 20,
    "primary_index_cache_size": 256 << 20,
    "query_condition_cache_size": 32 << 20,
    "compiled_expression_cache_size": 32 << 20,
    "background_pool_size": 2,
    "background_schedule_pool_size": 2,
    "max_server_memory_usage_to_ram_ratio": 0.7,
}

# What only the data of the insert itself can cause. Anything else (a full disk, too many parts, a missing column, an
# error number of a later version) may be mended from outside and must never cost a row its place.
_REFUSED = frozenset(
    {6, 25, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 128, 130, 131, 190, 271, 321, 349, 469, 636, 675, 691}
)
# Errors of a read or insert after which the same may well succeed: time, memory, disk, network, replication, start-up.
_UNAVAILABLE = frozenset(
    {3, 74, 75, 76, 77, 88, 95, 96, 99, 159, 160, 164, 173, 198, 201, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252}
    | {279, 285, 286, 289, 319, 335, 394, 410, 412, 425, 439, 473, 519, 574, 585, 649, 692, 693, 722, 727, 999, 1000}
    | {1001, 1002}
)


class Rows(msgspec.Struct, frozen=True):
    """What a question gave: names and rows, as Python values (DateTime64 as aware datetime, JSON as dict)."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


class StoreStatistics(msgspec.Struct, frozen=True):
    """Since the start."""

    embedded: bool
    ready: bool
    version: str
    inserts: int
    insert_errors: int
    insert_seconds: float
    queries: int
    query_errors: int
    query_seconds: float
    queries_running: int


class Pieces(io.RawIOBase):
    """Buffers as one binary stream, given out without being joined."""

    def __init__(self, pieces: Sequence[memoryview | bytes]) -> None:
        self._rest = [memoryview(piece) for piece in pieces if len(piece)]
        self._rest.reverse()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> Any:  # bytes-like: memoryviews, which files take as they are
        if not self._rest:
            return b""
        piece = self._rest.pop()
        if size is not None and 0 <= size < len(piece):
            self._rest.append(piece[size:])
            piece = piece[:size]
        return piece


class Read:
    """One read in its thread. Its id is its `log_comment`, by which it is found among ClickHouse's queries."""

    def __init__(self) -> None:
        self.id = f"pugd-{uuid.uuid4()}"
        self.begun = self.stopped = False
        """Nobody waits for it any more."""
        self.done = False
        """Its thread is out of ClickHouse."""


class Store:
    """One ClickHouse. Opened by `prepare`; until then, and where it is away, calls raise StoreUnavailableError."""

    def __init__(
        self,
        *,
        directory: Path,
        url: str | None = None,
        readers: int = 4,
        threads_max: int | None = None,
        timeout_seconds: int = 60,
    ) -> None:
        """`directory`: DATA, whose clickhouse/ and tmp/ the embedded engine uses. `url`: a server, as
        `http[s]://user:password@host:port/database`; then `directory` is not touched."""
        self.embedded = url is None
        self._directory = directory
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._threads_max = threads_max or len(os.sched_getaffinity(0))
        self.database = DATABASE
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise StoreError("the ClickHouse URL must be http[s]://user:password@host:port/database")
            self.database = unquote(parts.path.strip("/")) or DATABASE
        self._drain: Any = None
        self._idle: list[Any] = []
        self._insert_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(readers)
        self._stop_limit = trio.CapacityLimiter(1)
        self._stream_limit = trio.CapacityLimiter(STREAMS)
        self._stopper: Any = None
        self._preparing = trio.Lock()
        self._version = ""
        self._ready = False
        self._inserts = self._insert_errors = self._queries = self._query_errors = 0
        self._insert_seconds = self._query_seconds = 0.0

    @property
    def ready(self) -> bool:
        """Opened, migrated and checked."""
        return self._ready

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            embedded=self.embedded,
            ready=self._ready,
            version=self._version,
            inserts=self._inserts,
            insert_errors=self._insert_errors,
            insert_seconds=self._insert_seconds,
            queries=self._queries,
            query_errors=self._query_errors,
            query_seconds=self._query_seconds,
            queries_running=int(self._read_limit.borrowed_tokens),
        )

    async def prepare(self) -> None:
        """Open, migrate, check what the promises rest on. Does nothing when that was done.

        raises   StoreUnavailableError: try again. StoreError: a person must mend something
        """
        async with self._preparing:
            if not self._ready:
                await trio.to_thread.run_sync(self._prepare, limiter=self._insert_limit)
                self._ready = True

    async def close(self) -> None:
        """Close every client; the embedded engine stops with the last. Waits for calls in flight."""
        self._ready = False
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._close)

    async def insert(
        self, table: str, columns: Sequence[str], pieces: Sequence[memoryview | bytes], *, token: str, query_id: str
    ) -> None:
        """Insert one Native block. A return means that its rows are in ClickHouse and synced to its disk.

        raises   StoreRefusedError, StoreUnavailableError, StoreError; after any of them parts of the block may be in,
                 and on a server the insert may even be running still (`ended`)
        """
        await trio.to_thread.run_sync(self._insert, table, columns, pieces, token, query_id, limiter=self._insert_limit)

    async def copy(self, sql: str, parameters: Mapping[str, Any], *, token: str, query_id: str) -> None:
        """Run an insert of what a select finds, in an order that is always the same; else as `insert`.

        raises   StoreUnavailableError, StoreError; after any of them some of it may be in
        """
        await trio.to_thread.run_sync(self._copy, sql, parameters, token, query_id, limiter=self._insert_limit)

    async def ended(self, query_id_prefix: str) -> bool:
        """Whether no query of ours with such an id is running any more; asks those that are to stop."""
        if self.embedded:
            return True  # its queries live and die with our own calls
        return await trio.to_thread.run_sync(self._ended, query_id_prefix, limiter=self._insert_limit)

    async def sync(self) -> None:
        """Have ClickHouse bring to its disk what can be read now. After an insert of unclear outcome only: a part is
        visible before its directory is synced, and what was read of it could still go with the power.

        raises   StoreUnavailableError
        """
        await trio.to_thread.run_sync(self._sync, limiter=self._insert_limit)

    async def drain_query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """A question of the drain's own, on its own client."""
        return await trio.to_thread.run_sync(self._drain_query, sql, parameters, limiter=self._insert_limit)

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Rows:
        """Ask. Placeholders are `{name:Type}`. When cancelled, ClickHouse is told to stop, and the caller goes on as
        soon as it has.

        raises   StoreUnavailableError, StoreError
        """

        def ask(client: Any, read: Read) -> Rows:
            own = {**(settings or {}), "log_comment": read.id}
            result = client.query(sql, parameters=dict(parameters or {}), settings=own)
            return Rows(tuple(result.column_names), list(result.result_rows))

        return await self._read(ask)

    async def query_bytes(self, sql: str, parameters: Mapping[str, Any] | None = None, *, form: str) -> bytes:
        """Ask, and get the answer in ClickHouse's format `form` (JSONEachRow, CSVWithNames, Parquet …)."""

        def ask(client: Any, _: Read) -> bytes:
            answer: bytes = client.raw_query(sql, parameters=dict(parameters or {}), fmt=form)
            return answer

        return await self._read(ask)

    async def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """A statement without an answer (a dictionary, a deletion)."""
        await self._read(lambda client, _: client.command(sql, parameters=dict(parameters or {})))

    async def stream(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], *, form: str
    ) -> Stream:
        """Ask, and get the answer piece by piece in ClickHouse's format `form`: CSV, JSONEachRow or Parquet. Whoever
        asked must close it.

        settings  by names and values of ours: they become part of the statement
        raises    StoreUnavailableError, StoreError; both also from each `read`
        cost      memory for a few blocks. Embedded, Parquet is written whole to a file in DATA/tmp first, since the
                  engine streams only what needs no end
        """
        if not self._ready:
            raise StoreUnavailableError("ClickHouse is not ready yet: try again")
        stream = Stream(self, form)
        await self._stream_limit.acquire_on_behalf_of(stream)
        try:
            await stream.open(sql, parameters, settings)
        except BaseException:
            await stream.close()
            raise
        return stream

    async def stop(self, read: Read) -> None:
        """Have ClickHouse stop a read, and wait until its thread is out, for a bounded time."""
        read.stopped = True
        if not read.begun:
            return  # its thread will see that before it begins: each says first what the other looks at next
        with trio.move_on_after(STOP_S, shield=True):
            while not read.done:  # again and again: it may not have begun yet
                await trio.to_thread.run_sync(self._stop, read.id, limiter=self._stop_limit, abandon_on_cancel=True)
                if not read.done:
                    await trio.sleep(STOP_PAUSE_S)

    # ---- in threads ----

    def _prepare(self) -> None:
        if self.embedded:
            path, temporary = self._directory / "clickhouse", self._directory / "tmp"
            path.mkdir(parents=True, exist_ok=True)
            if self._drain is None:
                # A block goes to the embedded engine through a file of Python's temporary directory: ours, on the same
                # disk, and whatever a crash left there is of no use.
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True, exist_ok=True)
                tempfile.tempdir = str(temporary)
        with _translated("open ClickHouse" if self._url is None else f"open ClickHouse at {_where(self._url)}"):
            if self._drain is None:
                first = self._connect(None)
                try:
                    first.command(f"create database if not exists {quote_identifier(self.database)}")
                except ClickHouseError as error:
                    first.close()
                    # A user confined to its own database may not create one, nor need to.
                    if getattr(error, "code", None) != 497:
                        raise
                    first = self._connect(self.database)
                first.database = self.database
                self._version = str(first.server_version)
                self._drain = first
            migrate.apply(self._drain)
            needs.check(self._drain, INSERT_SETTINGS)

    def _connect(self, database: str | None) -> Any:
        settings = READ_SETTINGS | {"max_threads": self._threads_max}
        if self._url is None:
            path = str(self._directory / "clickhouse")
            client: Any = clickhouse_connect.get_client(
                interface="chdb", path=path, settings=settings, chdb_options=dict(ENGINE_OPTIONS)
            )
            if database is not None:
                client.database = database
            return client
        parts = urlsplit(self._url)
        client = clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=database or "__default__",
            settings=READ_SETTINGS,
            query_retries=0,
            connect_timeout=5,
            send_receive_timeout=self._timeout_seconds,
            client_name="pugd",
            autogenerate_session_id=False,
            dedicated_pool=True,
            show_clickhouse_errors="scrub",
        )
        client.http_retries = 0
        return client

    def _close(self) -> None:
        for client in [*self._idle, self._stopper, self._drain]:
            if client is not None:
                client.close()
        self._idle.clear()
        self._drain = self._stopper = None

    def _insert(
        self, table: str, columns: Sequence[str], pieces: Sequence[memoryview | bytes], token: str, query_id: str
    ) -> None:
        client = self._open_drain()
        settings: dict[str, Any] = INSERT_SETTINGS | {"insert_deduplication_token": token}
        body: Any
        if self.embedded:
            body = Pieces(pieces)
        else:
            settings["query_id"] = query_id
            body = iter(pieces)  # a stream: the client library cannot send it a second time by itself
        begun = time.monotonic()
        self._inserts += 1
        try:
            with _translated(f"insert into {table}"):
                client.raw_insert(table, list(columns), body, settings=settings, fmt="Native")
        except StoreError:
            self._insert_errors += 1
            raise
        finally:
            self._insert_seconds += time.monotonic() - begun

    def _copy(self, sql: str, parameters: Mapping[str, Any], token: str, query_id: str) -> None:
        client = self._open_drain()
        settings: dict[str, Any] = {"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token}
        if not self.embedded:
            settings["query_id"] = query_id
        with _translated("copy rows"):
            client.command(sql, parameters=dict(parameters), settings=settings)

    def _ended(self, prefix: str) -> bool:
        client = self._open_drain()
        counted = (
            "select count() from system.processes where startsWith(query_id, {prefix:String}) and user = currentUser()"
        )
        killed = "kill query where startsWith(query_id, {prefix:String}) and user = currentUser() async"
        with _translated("look for inserts still running"):
            if client.query(counted, {"prefix": prefix}).result_rows[0][0] == 0:
                return True
            try:
                client.command(killed, {"prefix": prefix})
            except ClickHouseError:
                log.info("ClickHouse does not let this user stop its own insert: waiting for its end")
        return False

    def _sync(self) -> None:
        client = self._open_drain()
        try:
            with _translated("sync"):
                client.command("system sync file cache")
        except StoreUnavailableError:
            raise
        except StoreError as error:
            # A user without the right to: what is left is the moment between a part's rename and its sync.
            log.info("ClickHouse does not let this user sync its disk: %s", error)

    def _drain_query(self, sql: str, parameters: Mapping[str, Any] | None) -> Rows:
        client = self._open_drain()
        with _translated("query"):
            result = client.query(sql, parameters=dict(parameters or {}))
            return Rows(tuple(result.column_names), list(result.result_rows))

    def _open_drain(self) -> Any:
        if self._drain is None:
            raise StoreUnavailableError("ClickHouse is not open yet: try again")
        return self._drain

    def _stop(self, id_: str) -> None:
        try:
            with _translated("stop a question"):
                if self._stopper is None:
                    self._stopper = self._connect(self.database)
                self._stopper.command(
                    "kill query where Settings['log_comment'] = {id:String} and user = currentUser() async", {"id": id_}
                )
        except StoreError as error:
            log.info("ClickHouse does not stop a question that nobody waits for: %s", error)

    async def _read(self, ask: Callable[[Any, Read], T]) -> T:
        if not self._ready:
            raise StoreUnavailableError("ClickHouse is not ready yet: try again")

        read = Read()

        def run() -> T:
            read.begun = True
            begun = time.monotonic()
            client = self._idle.pop() if self._idle else None
            clean = False
            try:
                with _translated("query"):
                    if client is None:
                        client = self._connect(self.database)
                    if read.stopped:
                        raise StoreUnavailableError("nobody waits for this any more")
                    answer = ask(client, read)
                clean = not read.stopped
                return answer
            except StoreError:
                self._query_errors += 1
                raise
            finally:
                self._queries += 1
                self._query_seconds += time.monotonic() - begun
                if client is not None:
                    # Also when the asker has gone: the limit is held until here, so there are never more clients.
                    self._give_back(client, clean=clean)
                read.done = True

        try:
            return await trio.to_thread.run_sync(run, limiter=self._read_limit, abandon_on_cancel=True)
        except trio.Cancelled:
            await self.stop(read)
            raise

    def _give_back(self, client: Any, *, clean: bool) -> None:
        """`clean`: its last query came to its end. Of one that was stopped, the embedded engine gives what it had found
        so far as the answer to the client's next query."""
        if self._ready and clean:
            self._idle.append(client)
        else:
            client.close()


class Stream:
    """An answer, piece by piece. `read` until it is empty, then or earlier `close`, which stops what still runs."""

    def __init__(self, store: Store, form: str) -> None:
        self._store = store
        self._form = form
        self._read = Read()
        self._client: Any = None
        self._file: Any = None
        self._ended = False
        self._written: Path | None = None
        """The file that this is read from, until it is open."""

    async def open(self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        own = ", ".join(f"{_setting(name)} = {_literal(value)}" for name, value in settings.items())
        clause = f"settings {own}{', ' if own else ''}log_comment = {_literal(self._read.id)}"
        await self._run(lambda: self._open(sql, dict(parameters), clause))

    async def read(self, size: int = STREAM_BYTES) -> bytes:
        """About so many bytes; b'' at the end. raises StoreUnavailableError, StoreError: what came before is not all"""
        piece = await self._run(lambda: bytes(self._file.read(size)))
        self._ended = not piece
        return piece

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            try:
                if self._client is not None:
                    await trio.to_thread.run_sync(self._close)
            finally:
                self._store._stream_limit.release_on_behalf_of(self)

    async def _run(self, do: Callable[[], T]) -> T:
        read = self._read
        read.begun = read.done = False

        def run() -> T:
            read.begun = True
            try:
                with _translated("export"):
                    if read.stopped:
                        raise StoreUnavailableError("nobody waits for this any more")
                    return do()
            finally:
                read.done = True

        try:
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True)
        except trio.Cancelled:
            await self._store.stop(read)
            raise

    def _open(self, sql: str, parameters: dict[str, Any], clause: str) -> None:
        store = self._store
        self._client = store._idle.pop() if store._idle else store._connect(store.database)
        if store.embedded and self._form == "Parquet":
            self._written = store._directory / "tmp" / f"{self._read.id}.parquet"
            target = _literal(str(self._written))
            self._client.command(f"{sql}\ninto outfile {target}\n{clause}\nformat Parquet", parameters)
            self._file = self._written.open("rb")
        else:
            self._file = self._client.raw_stream(f"{sql}\n{clause}", parameters=parameters, fmt=self._form)

    def _close(self) -> None:
        if self._written is not None:
            self._written.unlink(missing_ok=True)
        if self._read.begun and not self._read.done:
            # ClickHouse would not stop: the client goes with the thread that uses it.
            self._client = None
            return
        if self._file is not None:
            self._file.close()
        client, self._client = self._client, None
        self._store._give_back(client, clean=self._ended)


def _setting(name: str) -> str:
    assert re.fullmatch(r"[a-z0-9_]+", name), name
    return name


def _literal(value: object) -> str:
    """A number or text of our own, in a statement."""
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


_NOT_UTF_8 = 117
"""INCORRECT_DATA: the number of what is refused for its bytes, where none is told."""


class _translated:  # noqa: N801 — reads as a clause: with _translated("insert into events")
    """Errors of the client library and of the network, as ours."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        message, code = str(error), getattr(error, "code", None)
        if isinstance(error.__cause__, UnicodeDecodeError):
            # The embedded engine quotes the data that it refuses, and its binding reads that as UTF-8.
            message = error.__cause__.object.decode("utf-8", "replace")
            found = re.search(r"\bCode: (\d+)", message)
            code = int(found[1]) if found else None
        elif type(error.__cause__).__name__ == "ChdbError" and not str(error.__cause__):
            # Under some Pythons (3.11.2) it says nothing at all then, where it always says something else.
            message, code = "refused, in words that are not UTF-8, as it quotes the data", _NOT_UTF_8
        network = _network(error)
        text = f"{self._operation}: {message[:1000]}" + (f" ({network})" if network not in message else "")
        if isinstance(error, ClickHouseError):
            if code in _REFUSED:
                raise StoreRefusedError(text, code=code) from error
            # Without a number it is the transport: no connection, a time-out, a proxy's 502.
            if code is None or code in _UNAVAILABLE:
                raise StoreUnavailableError(text, code=code) from error
            raise StoreError(text, code=code) from error
        if isinstance(error, OSError):  # also urllib3's, and a full disk under the temporary file
            raise StoreUnavailableError(text) from error
        raise StoreError(text) from error


def _where(url: str) -> str:
    """Host and port of a server's URL, without what is secret in it."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (8443 if parts.scheme == 'https' else 8123)}"


def _network(error: BaseException | None) -> str:
    """What the system said of the network, under the words of the libraries; '' where it said nothing."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""
