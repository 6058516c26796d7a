"""A journal file: its name, its first 128 bytes, its place among the others, when it may go.

A file is named for the position of its first byte, 20 digits, so that names sort as positions do; it holds the
positions from there to the next file's. Its header counts as positions too:

    offset  size
         0     8  magic: PUGDJRNL
         8     4  version of the layout: 1
        12     4  CRC-32C of bytes 0 to 11 and 16 to 127
        16     8  epoch: new whenever a data directory is made or restored
        24     8  start: the position in the name
        32     1  length of the collector's name
        33    95  the collector's name, UTF-8, then zeros

All integers are little-endian. Records follow (record.py), then nothing, or zeros where blocks were allocated ahead.
Pure: names and bytes in, names and bytes out.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pugd._native import ffi, lib

HEADER_BYTES: Final = 128
COLLECTOR_BYTES_MAX: Final = 95
SPARE_PREFIX: Final = "spare-"
"""Of files made ahead of time by native/flush."""
DAMAGED_PREFIX: Final = "damaged-"
"""Of files that keep bytes which were no records."""

_MAGIC: Final = b"PUGDJRNL"
_VERSION: Final = 1
_LAYOUT: Final = struct.Struct("<8sIIQQB95s")
_NAME: Final = re.compile(r"([0-9]{20})\.journal")

assert _LAYOUT.size == HEADER_BYTES


class Header(msgspec.Struct, frozen=True):
    """What a journal file says of itself."""

    start: int
    epoch: int
    collector: str


def name(start: int) -> str:
    return f"{start:020d}.journal"


def damaged_name(position: int) -> str:
    """Of the file that keeps bytes which were no records, found at `position`."""
    return f"{DAMAGED_PREFIX}{position:020d}"


def starts(names: Iterable[str]) -> list[int]:
    """The start positions of the journal files among `names`, in order."""
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def holder(starts: Sequence[int], position: int) -> int | None:
    """The index of the file that holds `position`: the last that starts at or before it; None where all start later."""
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if starts[middle] <= position:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low else None


def deletable(starts: Sequence[int], position: int) -> list[int]:
    """The files, by start, that hold only positions before `position`; never the last one."""
    return [start for start, end in itertools.pairwise(starts) if end <= position]


def write_header(header: Header) -> bytes:
    collector = header.collector.encode()
    assert len(collector) <= COLLECTOR_BYTES_MAX, "a collector's name has at most 95 bytes"
    fields = header.epoch, header.start, len(collector), collector
    blank = _LAYOUT.pack(_MAGIC, _VERSION, 0, *fields)
    return _LAYOUT.pack(_MAGIC, _VERSION, _sum(blank), *fields)


def read_header(data: bytes, start: int) -> Header | None:
    """The header in the first bytes of the file that begins at `start`; None if damaged or of another version."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, checksum, epoch, own_start, length, collector = _LAYOUT.unpack(data[:HEADER_BYTES])
    if magic != _MAGIC or version != _VERSION or checksum != _sum(data) or own_start != start:
        return None
    if length > COLLECTOR_BYTES_MAX:
        return None
    try:
        return Header(start, epoch, collector[:length].decode())
    except UnicodeDecodeError:
        return None


def _sum(data: bytes) -> int:
    checked = data[:12] + data[16:HEADER_BYTES]
    checksum: int = lib.pugd_crc32c(0, ffi.from_buffer(checked), len(checked))
    return checksum
