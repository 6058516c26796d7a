"""The plain twin of journal framing and reading: the layout of native/record.h in a few lines, a bit at a time."""

from __future__ import annotations

import struct


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(rows: bytes, count: int, position: int) -> bytes:
    before = struct.pack("<I", len(rows))
    after = struct.pack("<BxxxI", 1, count) + rows
    return before + struct.pack("<I", crc32c(struct.pack("<Q", position) + before + after)) + after


def record_at(data: bytes, offset: int, position: int) -> tuple[int, int] | None:
    """(length, rows) of the whole record at data[offset], where data[0] is at `position`; None if none is there."""
    head = data[offset : offset + 16]
    if len(head) < 16:
        return None
    length, _, kind, count = struct.unpack("<II4sI", head)
    if not 0 < length <= 1 << 26 or kind != b"\1\0\0\0" or offset + 16 + length > len(data):
        return None
    if frame(data[offset + 16 : offset + 16 + length], count, position + offset) != data[offset : offset + 16 + length]:
        return None
    return 16 + length, count


def whole(data: bytes, position: int) -> tuple[int, int]:
    """(bytes, rows) of the whole records from data[0] on."""
    at = rows = 0
    while (found := record_at(data, at, position)) is not None:
        at += found[0]
        rows += found[1]
    return at, rows


def find(data: bytes, position: int) -> int:
    """The offset of the first whole record at or behind data[0]; len(data) if there is none."""
    for offset in range(len(data)):
        if record_at(data, offset, position) is not None:
            return offset
    return len(data)
