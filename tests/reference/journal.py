"""Journal records by hand, the plain way: as drawn in native/record.h."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec


class Span(msgspec.Struct, frozen=True):
    """Whole records from a position on."""

    data: bytes
    position: int


def crc32c(data: bytes) -> int:
    """CRC-32C, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def record(rows: Sequence[bytes], position: int, *, checksum: bool = True) -> bytes:
    """One record of encoded rows. `checksum=False` for large ones whose reader does not look at it."""
    payload = b"".join(rows)
    length, rest = struct.pack("<I", len(payload)), struct.pack("<B3xI", 1, len(rows)) + payload
    crc = crc32c(struct.pack("<Q", position) + length + rest) if checksum else 0
    return length + struct.pack("<I", crc) + rest


def positions(rows: Sequence[bytes], position: int) -> list[int]:
    """Of each row of a record at `position`."""
    found, at = [], position + 16
    for row in rows:
        found.append(at)
        at += len(row)
    return found
