"""The journal from a position on, in any process: spans of whole records, each checked before it is given out.

Rules:
1. Nothing at or past `until` is given out. `until` is a flushed position (the `FlushedPage`), hence a record's end.
2. What is given out passed its checksum at its own position; nothing false is ever read.
3. What cannot be read never stops the reading. Bytes before `until` that are no record are passed over to the next
   whole record; a file that is missing between two others, to the next file. Both are counted, once each; damaged bytes
   are kept beside the journal (`damaged-<position>`), since the file itself will be deleted.
4. A span lies within one file. Positions of file headers belong to no span.

Nothing is written here but the damaged bytes. Files are only ever grown, cut behind their data and deleted by others
(writer.py), so a read may find less than it looked for, never something else.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pugd.errors import JournalError
from pugd.journal import files, record

PAGE_BYTES: Final = 4096
"""Of the file `flushed`: u64 flushed position, u64 epoch, zeros; in the byte order of the machine."""
_SPAN_BYTES: Final = 8 * 1024 * 1024
"""For `rows`: a few reads a file, and little memory."""


class Span(msgspec.Struct, frozen=True):
    """Whole records, one after another."""

    data: memoryview
    """Empty where only headers, gaps or damage were passed over."""
    position: int
    """Of data[0]. Later than what was asked for, where something was passed over."""
    end: int
    """Where to read on: position + len(data)."""
    rows: int


class ReaderStatistics(msgspec.Struct, frozen=True):
    """What a Reader passed over."""

    gaps: int
    """Ranges of positions that are in no file."""
    gap_bytes: int
    damages: int
    """Ranges of bytes that are no records."""
    damaged_bytes: int
    foreign_files: int
    """Files of another epoch, passed over whole."""


class FlushedPage:
    """The page that the flush thread writes: what is on disk, readable from any process.

    raises  JournalError where there is none yet
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), PAGE_BYTES, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise JournalError(f"mapping {path}: {error}; the collector makes it when it starts") from error
        self._words = memoryview(self._map).cast("Q")

    @property
    def position(self) -> int:
        """Everything before this position is on disk. One aligned load, so never half of an update."""
        return self._words[0]

    @property
    def epoch(self) -> int:
        return self._words[1]

    def close(self) -> None:
        self._words.release()
        self._map.close()


def flushed_position(path: Path, epoch: int) -> int:
    """What the page says now; 0 where there is none, or one of another epoch."""
    try:
        page = FlushedPage(path)
    except JournalError:
        return 0
    try:
        return page.position if page.epoch == epoch else 0
    finally:
        page.close()


class Reader:
    """Reads one journal directory. Not for two threads at once."""

    def __init__(self, directory: Path, *, epoch: int) -> None:
        self._directory = directory
        self._epoch = epoch
        self._starts: list[int] = []
        self._fd = -1
        self._open_start = -1
        self._foreign = False
        self._counted: set[tuple[int, int]] = set()
        self._gaps = self._gap_bytes = self._damages = self._damaged_bytes = self._foreign_files = 0

    def read(self, position: int, until: int, bytes_max: int) -> Span | None:
        """Whole records from `position` on: as many as fit in `bytes_max`, at least one.

        returns  a Span, with end > position always, perhaps without a record; None once position has reached until
        raises   JournalError where the disk fails
        cost     one read call, one copy, the checksum; without a system call where there is nothing to read
        """
        begun = position
        while position < until:
            start, limit = self._place(position, until)
            if start is None:
                self._count_gap(position, limit)
                position = limit
                continue
            position = max(position, min(start + files.HEADER_BYTES, limit))
            if self._foreign:
                position = limit
            if position == limit:
                continue
            found = self._read_file(start, position, limit, bytes_max)
            if isinstance(found, Span):
                return found
            if found is None:
                break
            position = found
        return Span(memoryview(b""), position, position, 0) if position > begun else None

    def rows(self, position: int, until: int, kind: int | None = None) -> Iterator[tuple[int, tuple[object, ...]]]:
        """Each row, or each of one kind, decoded, with its position. The slow way: after a restart, in tests and tools.

        cost  2 µs a row that is decoded, 0.2 µs one that is passed over
        """
        decoder = msgspec.msgpack.Decoder(tuple)
        while (span := self.read(position, until, _SPAN_BYTES)) is not None:
            for at, count, payload in record.payloads(span.data, span.position):
                begin = 0
                for end in record.split(payload, count):
                    # A row is an array of less than 16 fields or, by a longer header, of more; its kind comes first.
                    if kind is None or payload[begin + (1 if payload[begin] < 0xA0 else 3)] == kind:
                        yield at + begin, decoder.decode(payload[begin:end])
                    begin = end
            position = span.end

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(self._gaps, self._gap_bytes, self._damages, self._damaged_bytes, self._foreign_files)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._open_start = -1

    def _place(self, position: int, until: int) -> tuple[int | None, int]:
        """The file that holds `position`, open, and where its share ends; (None, end) where none holds it."""
        if not self._starts or self._starts[0] > position or self._open_start != self._start_of(position):
            self._list()
        start = self._start_of(position)
        while start is not None and start != self._open_start and not self._open(start):
            self._list()
            start = self._start_of(position)
        return start, min(until, self._next_start(position, until))

    def _start_of(self, position: int) -> int | None:
        index = files.holder(self._starts, position)
        return None if index is None else self._starts[index]

    def _next_start(self, position: int, otherwise: int) -> int:
        index = files.holder(self._starts, position)
        following = 0 if index is None else index + 1
        return self._starts[following] if following < len(self._starts) else otherwise

    def _list(self) -> bool:
        """Look at the directory again; has it changed?"""
        try:
            starts = files.starts(os.listdir(self._directory))
        except OSError as error:
            raise JournalError(f"listing {self._directory}: {error}") from error
        changed = starts != self._starts
        self._starts = starts
        return changed

    def _open(self, start: int) -> bool:
        """Open the file at `start`; False if it was deleted meanwhile."""
        self.close()
        path = self._directory / files.name(start)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JournalError(f"opening {path}: {error}") from error
        self._open_start = start
        header = files.read_header(self._pread(start, files.HEADER_BYTES), start)
        self._foreign = header is not None and header.epoch != self._epoch
        if header is None:
            # records prove themselves, so a damaged header costs nothing but itself
            self._count_damage(start, start + files.HEADER_BYTES)
        elif self._foreign and self._once(start, start):
            self._foreign_files += 1
        return True

    def _pread(self, position: int, length: int) -> bytes:
        """Up to `length` bytes from `position` of the open file."""
        try:
            data = os.pread(self._fd, length, position - self._open_start)
            while 0 < len(data) < length and (
                more := os.pread(self._fd, length - len(data), position - self._open_start + len(data))
            ):
                data += more
        except OSError as error:
            path = self._directory / files.name(self._open_start)
            raise JournalError(f"reading {path} at {position - self._open_start}: {error}; check the disk") from error
        return data

    def _read_file(self, start: int, position: int, limit: int, bytes_max: int) -> Span | int | None:
        """Look at [position, limit) of the open file: a Span, or where to go on, or None to wait for a larger until."""
        length = min(limit - position, max(bytes_max, record.HEADER_BYTES))
        data = self._pread(position, length)
        found = record.walk(data, position)
        if not found.length and len(data) == length < limit - position:
            # the first record alone is longer than bytes_max
            length = min(record.length_at(data), limit - position)
            if length:
                data = self._pread(position, length)
                found = record.walk(data, position)
        if found.length:
            return Span(memoryview(data)[: found.length], position, position + found.length, found.rows)
        # There is data from here up to `limit`, yet no whole record begins here. Is the next file unknown as yet? It
        # may begin right here, where this one ended when the directory was last looked at.
        if self._next_start(position, -1) < 0 and self._list():
            following = self._next_start(position, -1) >= 0
            if following or self._start_of(position) != start:
                return position
        if self._reaches_past(position, limit):
            return None
        return self._pass_over(position, limit)

    def _reaches_past(self, position: int, limit: int) -> bool:
        """Is there a whole record that ends past `limit`? Then `until` was no record's end, and is to be waited for."""
        length = record.length_at(self._pread(position, record.HEADER_BYTES))
        return position + length > limit and bool(record.walk(self._pread(position, length), position).length)

    def _pass_over(self, position: int, limit: int) -> int:
        """Over damage, or over positions that were never written, to the next whole record or `limit`."""
        data = self._pread(position, limit - position)
        offset = record.find(data, position) if data else 0
        if offset < len(data):
            self._count_damage(position, position + offset, data[:offset])
            return position + offset
        written = data.rstrip(b"\0")
        if written:
            self._count_damage(position, limit, written)
        else:
            self._count_gap(position, limit)
        return limit

    def _once(self, begin: int, end: int) -> bool:
        """Is this range new? Reading it again, after a restart of the drain, does not count it again."""
        if (begin, end) in self._counted:
            return False
        self._counted.add((begin, end))
        return True

    def _count_gap(self, begin: int, end: int) -> None:
        if self._once(begin, end):
            self._gaps += 1
            self._gap_bytes += end - begin

    def _count_damage(self, begin: int, end: int, data: bytes = b"") -> None:
        if self._once(begin, end):
            self._damages += 1
            self._damaged_bytes += end - begin
            keep_damaged(self._directory, begin, data)


def keep_damaged(directory: Path, position: int, data: bytes) -> None:
    """Keep bytes that are no records, for someone to look at. Best effort: they are counted all the same."""
    if not data:
        return
    path = directory / files.damaged_name(position)
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return
