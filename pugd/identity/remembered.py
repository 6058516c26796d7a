"""DATA/recent: the event ids of journal files that are gone, so that a restart knows what the collector knew.

A journal file leaves its ids behind when it is deleted: `<start>.ids`, named by its first position, 14 bytes an event
(native/seen.h). Files that follow one another make a chain up to the oldest journal file; a start learns the chain and
then the journal.

    offset  size
         0     8  magic: PUGDSEEN
         8     4  CRC-32 of all that follows
        12     4  version of this layout: 2. Of the first, without marks, nothing is taken
        16     8  epoch
        24     8  start: of the journal file
        32     8  end: where the next one began
        40     8  begin: of the chain, when this was written
        48     8  since, ms: ids kept from then on or later, of all rows before `end`, are in the chain from `begin` to
                  here; 0: all are
        56     8  last, ms: the latest receipt
        64        ids

Integers are little-endian. The oldest file goes when its window is over, or when all take more than the set may hold
in memory. What of it is kept from later on (a client's clock was ahead) moves into the next file, and `since` says that
the rest is gone. Where a file is damaged or missing, the chain begins behind it, and not where it once began, which
tells: then nothing from before is known. Events from before are old, and looked up before they are stored, so nothing
is taken for new that may not be.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from pugd.data import sync_directory, write_whole
from pugd.identity.duplicates import ID_BYTES, RecentIds

log = logging.getLogger(__name__)

MAGIC: Final = b"PUGDSEEN"
VERSION: Final = 2
DAY_MS: Final = 86_400_000
"""How far ahead of its receipt an event's own time counts (duplicates.py)."""
_HEADER: Final = struct.Struct("<8sIIQQQQQQ")
_NAME: Final = re.compile(r"[0-9]{20}\.ids")
_FROM: Final = struct.Struct("<8xI2x")


class Ids(msgspec.Struct, frozen=True):
    """What one journal file left."""

    epoch: int
    start: int
    end: int
    begin: int
    since: int
    last: int
    ids: bytes


def dump(ids: Ids) -> bytes:
    header = _HEADER.pack(MAGIC, 0, VERSION, ids.epoch, ids.start, ids.end, ids.begin, ids.since, ids.last)
    crc = zlib.crc32(ids.ids, zlib.crc32(header[12:]))
    return b"".join((header[:8], crc.to_bytes(4, "little"), header[12:], ids.ids))


def load(data: bytes) -> Ids | None:
    """None where the bytes are damaged, or of another layout."""
    if len(data) < _HEADER.size or (len(data) - _HEADER.size) % ID_BYTES:
        return None
    magic, crc, version, *numbers = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or crc != zlib.crc32(memoryview(data)[12:]):
        return None
    epoch, start, end, begin, since, last = numbers
    return Ids(epoch, start, end, begin, since, last, data[_HEADER.size :])


def without(first: Ids, second: Ids) -> Ids:
    """`second` with what must stay of `first`, the file before it, which goes."""
    bound = -(-first.last // 1000)  # as ids are kept: by seconds, rounded up
    stay = [
        first.ids[at : at + ID_BYTES]
        for at, (kept_from,) in zip(range(0, len(first.ids), ID_BYTES), _FROM.iter_unpack(first.ids), strict=True)
        if kept_from > bound
    ]
    since = max(first.since, second.since, 1000 * bound)
    return msgspec.structs.replace(second, begin=second.start, since=since, ids=b"".join((*stay, second.ids)))


class Remembered:
    """The directory. Everything here reads or writes files: call it in a thread, one at a time."""

    def __init__(self, directory: Path, epoch: int) -> None:
        self._directory = directory
        self._epoch = epoch

    def _path(self, start: int) -> Path:
        return self._directory / f"{start:020d}.ids"

    def _starts(self) -> list[int]:
        names = os.listdir(self._directory) if self._directory.is_dir() else []
        return sorted(int(name[:20]) for name in names if _NAME.fullmatch(name))

    def _load(self, start: int) -> Ids | None:
        try:
            found = load(self._path(start).read_bytes())
        except OSError as error:
            log.warning("reading %s: %s", self._path(start), error)
            return None
        if found is None or (found.epoch, found.start) != (self._epoch, start):
            log.warning("%s is damaged, or of another journal: it is passed over", self._path(start))
            return None
        return found

    def chain(self, end: int) -> list[Ids]:
        """The files that follow one another up to `end`, oldest first."""
        found: list[Ids] = []
        for start in reversed([start for start in self._starts() if start < end]):
            ids = self._load(start)
            if ids is None or ids.end != end:
                break
            found.insert(0, ids)
            end = start
        return found

    def keep(self, start: int, end: int, digests: list[bytes], first: int, last: int, *, damaged: bool) -> None:
        """Remember a journal file before it is deleted.

        first, last  the receipts of its rows, ms; 0 where none tells
        damaged      some of its rows could not be read
        raises       OSError
        """
        if not self._directory.is_dir():
            self._directory.mkdir(mode=0o700)
            sync_directory(self._directory.parent)
        earlier = [at for at in self._starts() if at < start]
        before = self._load(earlier[-1]) if earlier else None
        begin, since = start, 0 if start == 0 else first + DAY_MS
        if before is not None and before.end == start:
            begin, since, last = before.begin, before.since, max(last, before.last)
        if damaged:
            begin, since = start, max(since, last + DAY_MS)
        write_whole(self._path(start), dump(Ids(self._epoch, start, end, begin, since, last, b"".join(digests))))

    def trim(self, now: int, window: int, bytes_max: int) -> None:
        """Let go of what no set would hold: times in ms. raises OSError"""
        starts = self._starts()
        total = sum(self._path(start).stat().st_size for start in starts)
        while len(starts) > 1:
            first, second = self._load(starts[0]), self._load(starts[1])
            over = first is not None and first.last + window < now
            if first is not None and not over and total <= bytes_max:
                return
            size = self._path(starts[0]).stat().st_size
            if first is not None and second is not None and first.end == second.start:
                left = dump(without(first, second))
                total += len(left) - self._path(starts[1]).stat().st_size
                write_whole(self._path(starts[1]), left)
            self._path(starts.pop(0)).unlink()
            total -= size

    def teach(self, recent: RecentIds, oldest: int, first: int) -> None:
        """Teach the set what was left of everything before `oldest`, the journal's first position.

        first  when the journal's first row was received, or now: where nothing is left, nothing from before is known
        """
        chain = self.chain(oldest)
        if not chain and oldest > 0:
            recent.missing(first + DAY_MS)
        for ids in chain:
            if ids.since:
                recent.missing(ids.since)
            recent.add_ids(ids.ids, ids.last)
        if chain and chain[0].start != chain[0].begin:
            recent.missing(chain[0].last + DAY_MS)
