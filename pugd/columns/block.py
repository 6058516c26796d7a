"""Face of native/columns: records of journal rows → ClickHouse Native blocks, one pass over all tables.

A row goes to the table that takes its kind. A row that cannot be stored (damaged, of an unknown kind, a field of
another type, a number its column cannot hold) is a `Fault` with its position and bytes, never an exception. Positions
ascend in a block. The blocks of one table hold between them every row that was neither left out nor faulty, once; they
ascend too, but for rows of more months than a block may touch, which follow in blocks of their own.

The GIL is released during the pass. About 0.3 µs a row (bench/bench_columns.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Any, Protocol

import msgspec

from pugd._native import ffi, lib
from pugd.tables import NAME, TABLES, TIME, Table

POSITION_END = (1 << 64) - 1
ROWS_MAX = 65_536
"""Rows a block: 100 k rows made one part in tests of ClickHouse; half that keeps a refused block cheap to bisect."""
BYTES_MAX = 32 << 20
"""Journal bytes a block; its columns take about twice that, an event's properties being sent twice."""
MONTHS_MAX = 50
"""Monthly partitions a block touches at most: ClickHouse refuses over 100 an insert, and a part each is slow."""
_JOIN_MAX = 256 << 10
"""Under this a block's pieces are joined: fewer, larger writes."""

REASONS = {1: "damaged", 2: "unknown kind", 3: "wrong type", 4: "out of range"}

_CODES = {
    "UInt8": 1,
    "UInt16": 2,
    "UInt32": 3,
    "UInt64": 4,
    "Int64": 5,
    "Float64": 6,
    TIME: 7,
    "String": 8,
    NAME: 9,
}
_JSON = 10
_PIECES = {NAME: 4}
"""Of a column by its type, where it is more than a head and its rows: a dictionary's keys have a head of their own."""


class Records(Protocol):
    """What is built from: whole journal records, and the position of the first byte."""

    @property
    def data(self) -> memoryview | bytes: ...
    @property
    def position(self) -> int: ...


class Fault(msgspec.Struct, frozen=True):
    """A row that no block holds."""

    position: int
    reason: str
    """One of REASONS."""
    kind: int
    """0 where it was not read."""
    field: int | None
    """Index of the field, where one is to blame."""
    raw: bytes
    """Its MessagePack; of a damaged one, everything to the end of its record."""


class Block:
    """One insert: a table's rows as a Native block. Its buffers live as long as any view of them."""

    __slots__ = ("_columns", "positions", "rows", "table")

    def __init__(self, table: Table, rows: int, positions: memoryview, columns: Sequence[Sequence[memoryview]]) -> None:
        self.table = table
        self.rows = rows
        self.positions = positions
        """Of each row, ascending."""
        self._columns = columns
        """The Native bytes of each, in order."""

    @property
    def position(self) -> int:
        """Of the first row."""
        return int(self.positions[0])

    @property
    def position_last(self) -> int:
        """Of the last row."""
        return int(self.positions[-1])

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self.table.columns]

    @property
    def length(self) -> int:
        """Bytes of its Native form."""
        return sum(map(len, self._pieces()))

    @property
    def pieces(self) -> list[memoryview]:
        """The Native bytes, in order."""
        pieces = self._pieces()
        return [memoryview(b"".join(pieces))] if sum(map(len, pieces)) < _JOIN_MAX else pieces

    @property
    def data(self) -> bytes:
        """The pieces as one."""
        return b"".join(self._pieces())

    def narrowed(self, table: Table) -> Block:
        """The same rows for another table, whose columns are some of these. Nothing is copied."""
        places = {column: at for at, column in enumerate(self.table.columns)}
        return Block(table, self.rows, self.positions, [self._columns[places[column]] for column in table.columns])

    def _pieces(self) -> list[memoryview]:
        head = memoryview(_varint(len(self._columns)) + _varint(self.rows))
        return [head, *chain.from_iterable(self._columns)]


class Built(msgspec.Struct, frozen=True):
    """Blocks in the order in which they were full."""

    blocks: list[Block]
    faults: list[Fault]


class _Plan:
    """Tables as C wants them, once."""

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.keep: list[Any] = []
        self.tables = ffi.new("struct pugd_table[]", len(tables))
        for at, table in enumerate(tables):
            columns = ffi.new("struct pugd_column[]", len(table.columns))
            self.keep.append(columns)
            month = -1
            for index, column in enumerate(table.columns):
                name, type_ = ffi.new("char[]", column.name.encode()), ffi.new("char[]", column.type.encode())
                self.keep += (name, type_)
                code = _JSON if column.type.startswith("JSON") else _CODES[column.type]
                columns[index] = {"name": name, "type": type_, "code": code, "source": column.source}
                if column.name == PARTITIONED_BY.get(table.name):
                    month = index
            self.tables[at] = {"kind": table.kind, "count": len(table.columns), "columns": columns, "month": month}


PARTITIONED_BY = {"events": "occurred_at"}
"""Tables partitioned by month, and the column whose month it is (store/migrations)."""


@lru_cache(maxsize=8)
def _plan(tables: tuple[Table, ...]) -> _Plan:
    return _Plan(tables)


def build(
    spans: Sequence[Records],
    tables: tuple[Table, ...] = TABLES,
    *,
    collector: str,
    epoch: int,
    skip: Mapping[str, array[int]] | None = None,
    first: int = 0,
    until: int = POSITION_END,
    rows_max: int = ROWS_MAX,
    bytes_max: int = BYTES_MAX,
    months_max: int = MONTHS_MAX,
) -> Built:
    """Transpose the rows of `spans` (ascending) whose position lies in [first, until).

    skip     by table: positions to leave out, ascending, as array('Q')
    raises   MemoryError. Spans are whole, verified records (the reader saw to that): else an assert
    """
    plan = _plan(tables)
    tables_c = ffi.new("struct pugd_table[]", len(tables))
    held: list[Any] = [tables_c]
    for at, table in enumerate(tables):
        tables_c[at] = plan.tables[at]
        if skip and (positions := skip.get(table.name)):
            assert positions.typecode == "Q"
            view = ffi.from_buffer("uint64_t[]", positions)
            held.append(view)
            tables_c[at].skip, tables_c[at].skip_count = view, len(positions)
    limits = ffi.new(
        "struct pugd_limits *",
        {"from": first, "until": until, "bytes_max": bytes_max, "rows_max": rows_max, "months_max": months_max},
    )
    name = collector.encode()
    why = ffi.new("const char **")
    opened = lib.pugd_columns_open(tables_c, len(tables), name, len(name), epoch, limits, why)
    if opened == ffi.NULL:
        assert why[0] == ffi.NULL, ffi.string(why[0]).decode()
        raise MemoryError("columns of a block")
    owner = ffi.gc(opened, lib.pugd_columns_close)
    for span in spans:
        records = ffi.from_buffer("uint8_t[]", span.data)
        done = lib.pugd_columns_add(owner, records, len(records), span.position)
        if done == -1:
            raise MemoryError("columns of a block")
        assert done == 0, f"no whole records at journal position {span.position}"
    if lib.pugd_columns_finish(owner):
        raise MemoryError("columns of a block")
    return Built(_blocks(owner, tables), _faults(owner, spans))


def row_length(data: memoryview | bytes) -> int:
    """Bytes of the MessagePack row that `data` begins with; 0 where it is damaged."""
    view = ffi.from_buffer("uint8_t[]", data)
    return int(lib.pugd_row_length(view, len(view)))


def row_count(data: bytes) -> int:
    """How many MessagePack rows `data` is, end to end; 0 where it is not that."""
    count, rest = 0, memoryview(data)
    while rest:
        length = row_length(rest)
        if not length:
            return 0
        count, rest = count + 1, rest[length:]
    return count


def row_at(spans: Sequence[Records], position: int) -> bytes:
    """The MessagePack of the row at a position that one of `spans` holds."""
    for span in spans:
        offset = position - span.position
        if 0 <= offset < len(span.data):
            rest = memoryview(span.data)[offset:]
            return bytes(rest[: row_length(rest)])
    raise AssertionError(f"position {position} lies in no span")


def _view(owner: Any, data: Any, length: int) -> memoryview:
    """A view of C memory that keeps all of `owner` alive: the destructor of the pointer holds it."""
    return memoryview(ffi.buffer(ffi.gc(data, partial(_let_go, owner)), length))


def _let_go(owner: Any, data: Any) -> None:
    """Nothing to do: the reference to `owner` ends with the partial that held it."""


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _blocks(owner: Any, tables: tuple[Table, ...]) -> list[Block]:
    count = ffi.new("size_t *")
    blocks = lib.pugd_columns_blocks(owner, count)
    built = []
    for at in range(count[0]):
        block = blocks[at]
        table = tables[block.table]
        pieces = [_view(owner, block.pieces[i].data, block.pieces[i].length) for i in range(block.piece_count)]
        # The first begins with how many columns and rows there are.
        pieces[0] = pieces[0][len(_varint(len(table.columns)) + _varint(block.rows)) :]
        rest = iter(pieces)
        columns = [list(islice(rest, _PIECES.get(column.type, 2))) for column in table.columns]
        positions = _view(owner, block.positions, 8 * block.rows).cast("B").cast("Q")
        built.append(Block(table, block.rows, positions, columns))
    return built


def _faults(owner: Any, spans: Sequence[Records]) -> list[Fault]:
    count = ffi.new("size_t *")
    faults = lib.pugd_columns_faults(owner, count)
    found = []
    for at in range(count[0]):
        fault = faults[at]
        span = next(span for span in spans if 0 <= fault.position - span.position < len(span.data))
        offset = fault.position - span.position
        found.append(
            Fault(
                position=fault.position,
                reason=REASONS[fault.reason],
                kind=fault.kind,
                field=None if fault.field < 0 else fault.field,
                raw=bytes(memoryview(span.data)[offset : offset + fault.length]),
            )
        )
    return found
