"""One record of the journal: length, checksum, kind, count of rows, payload. Face of native/record, which draws it.

Pure: bytes in, bytes out. A record's bytes depend on its position, so bytes of another place never pass as one. What
lies at a place is whole, or nothing (END), or reaches past the data (TORN), or is none (CORRUPT); only whole records
are given out. What to do about the others is for reader.py and writer.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from pugd._native import ffi, lib

HEADER_BYTES: Final = 16
LENGTH_MAX: Final = 64 * 1024 * 1024
"""Of a payload: PUGD_RECORD_LENGTH_MAX."""

Buffer = bytes | bytearray | memoryview


class Status(enum.IntEnum):
    """What a walk over whole records met at its end."""

    END = 1
    TORN = 2
    CORRUPT = 3


class Walk(msgspec.Struct, frozen=True, gc=False):
    """Whole records from the start of some bytes."""

    length: int
    """How many bytes they take."""
    rows: int
    status: Status
    """Why they end there."""


def frame(rows: bytes, count: int, position: int) -> bytes:
    """One record of `count` rows, to stand at `position`. One copy."""
    assert 0 < len(rows) <= LENGTH_MAX, "a record holds 1 byte to 64 MiB of rows"
    head = bytearray(HEADER_BYTES)
    lib.pugd_record_head(ffi.from_buffer(head), ffi.from_buffer(rows), len(rows), count, position)
    return b"".join((head, rows))


def walk(data: Buffer, position: int) -> Walk:
    """Whole records from data[0], which is at `position`, one after another."""
    rows = ffi.new("uint64_t *")
    status = ffi.new("int *")
    length: int = lib.pugd_records_check(ffi.from_buffer(data), len(data), position, rows, status)
    return Walk(length, rows[0], Status(status[0]))


def find(data: Buffer, position: int) -> int:
    """Behind damage: the offset of the next whole record; the data's length if there is none."""
    offset: int = lib.pugd_record_find(ffi.from_buffer(data), len(data), position)
    return offset


def length_at(data: Buffer) -> int:
    """How long the record at data[0] says it is, header included; 0 where that cannot be."""
    payload = int.from_bytes(data[:4], "little")
    return HEADER_BYTES + payload if 0 < payload <= LENGTH_MAX else 0


def payloads(data: Buffer, position: int) -> Iterator[tuple[int, int, memoryview]]:
    """The payloads of whole records, as (position of the payload's first byte, count of rows, payload)."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        length = int.from_bytes(view[at : at + 4], "little")
        count = int.from_bytes(view[at + 12 : at + 16], "little")
        at += HEADER_BYTES
        yield position + at, count, view[at : at + length]
        at += length


def split(payload: Buffer, count: int) -> list[int]:
    """The offsets behind each of a payload's `count` rows.

    raises  ValueError where it is not `count` MessagePack values end to end
    """
    ends = ffi.new("uint32_t[]", max(count, 1))
    if lib.pugd_rows_split(ffi.from_buffer(payload), len(payload), ends, count) != count:
        raise ValueError(f"the record does not hold {count} rows")
    return ffi.unpack(ends, count) if count else []
