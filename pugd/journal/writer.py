"""The journal's one writer: appends records, rolls files, knows what is flushed. Face of native/flush.

`append` costs the caller a copy; the flush thread writes and syncs everything that came meanwhile in one go, moves
`flushed` (here, and in the mapped page for other processes) and makes `event_fd` readable. Whoever waits for an ack
waits for `flushed` to reach the position that `append` returned.

`room` is asked first, and answers for what the disk and the bounds allow; after a True an append of that length is
taken. Blocks are allocated before they are promised, so a full disk is met there, as a False, and nowhere else (but on
file systems that cannot allocate ahead, where only the reserve keeps the disk from filling).

A failed write or sync is final: `take_flushed` and `append` raise, nothing is tried again, and the process is to stop.
The next start then reads what truly is on the disk:

At open, one process holds the directory (flock). The last file is walked: behind its last whole record it is cut and
synced; bytes between whole records that are none are kept in `damaged-<position>` and left for readers to pass over.
A new file begins at the end found, or at the flushed position that the page remembers, or at the stored one, if that is
later: so a position once acked is never given to another row, and none that the drain takes for stored, not even where
the power took the page and the disk damaged the last record. Files of another epoch are refused: they belong to another
data directory.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from pugd._native import ffi, lib
from pugd.data import sync_directory
from pugd.errors import JournalError
from pugd.journal import files, record
from pugd.journal.reader import PAGE_BYTES, keep_damaged

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
PENDING_BYTES_MAX: Final = record.LENGTH_MAX + 64 * 1024
"""Appended and not yet flushed: one record of the greatest length must fit. There are two such buffers."""
ROOM_SLACK_BYTES: Final = 4096
"""Added to what `room` is asked for: headers of a file and of up to 248 records."""
_DISK_CHECK_SECONDS: Final = 1.0
_DISK_CHECK_BYTES: Final = 8 * 1024 * 1024
"""How old what we know of the free space may be, by time and by bytes appended since."""
_OPEN_TIMEOUT_MS: Final = 60_000
"""For the first header to reach the disk."""
_OPERATIONS: Final = {1: "writing", 2: "syncing", 3: "renaming a file in"}


class WriterStatistics(msgspec.Struct, frozen=True):
    """How a Writer is."""

    position: int
    flushed: int
    oldest: int
    """Position of the oldest kept file."""
    files: int
    kept_bytes: int
    """Positions from the oldest file to the end."""
    bytes_max: int
    available_bytes: int
    """On the disk, at the last look."""
    reserve_bytes: int
    records: int
    rows: int
    syncs: int
    written_bytes: int
    sync_ns_total: int
    """Spent writing and syncing."""
    sync_ns_max: int
    refused_bound: int
    """`room` said no: the journal is at bytes_max."""
    refused_disk: int
    """…: the disk's reserve is reached, or a file cannot be made."""
    refused_pending: int
    """…: the disk does not follow."""
    torn_bytes: int
    """Cut off the last file at open: never acked."""
    damages: int
    """Ranges of the last file that were no records at open."""
    damaged_bytes: int
    preallocated: bool
    """False where the file system cannot allocate blocks ahead."""
    failed: bool


class Recovery(msgspec.Struct, frozen=True):
    """What was found in the last file at open."""

    end: int
    """Where the next file begins."""
    torn_bytes: int = 0
    damages: tuple[tuple[int, int], ...] = ()
    """Ranges of positions that hold no records, though records follow, or though they were flushed once."""


class Writer:
    """The open journal. Used from one thread, which never waits here but in `open` and `close`."""

    position: int
    """The end of what was appended."""
    event_fd: int
    """Readable when `flushed` has advanced or the disk failed."""

    def __init__(
        self,
        directory: Path,
        name: str,
        epoch: int,
        bytes_max: int,
        reserve_bytes: int,
        file_bytes_max: int,
        pending_bytes_max: int,
    ) -> None:
        """Not open yet: use `Writer.open`."""
        self._directory = directory
        self._name = name
        self._epoch = epoch
        self._bytes_max = bytes_max
        self._reserve_bytes = reserve_bytes
        self._file_bytes_max = max(file_bytes_max, 2 * files.HEADER_BYTES)
        self._pending_bytes_max = pending_bytes_max
        self._records = self._rows = 0
        self._refused_bound = self._refused_disk = self._refused_pending = 0
        self._checked_at = -_DISK_CHECK_SECONDS
        self._checked_position = 0
        self._available = 0
        self._starts: list[int] = []
        self._file_end = 0
        self._recovery = Recovery(0)
        self._flush: Any = None
        self._directory_fd = self._own_event_fd = -1
        self._page: mmap.mmap | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        name: str,
        epoch: int,
        flushed_path: Path,
        bytes_max: int,
        reserve_bytes: int,
        stored: int = 0,
        file_bytes_max: int = FILE_BYTES_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
        event_fd: int | None = None,
    ) -> Writer:
        """Take the directory (made if missing), recover, begin a new file.

        stored    where the drain has come to
        event_fd  one to signal; one is made otherwise
        raises    JournalError where another process has it, the disk fails, or files are of another epoch
        """
        self = cls(directory, name, epoch, bytes_max, reserve_bytes, file_bytes_max, pending_bytes_max)
        try:
            self._open(flushed_path, stored, event_fd)
        except OSError as error:
            self._release()
            raise JournalError(f"opening the journal {directory}: {error}") from error
        except BaseException:
            self._release()
            raise
        return self

    def _open(self, flushed_path: Path, stored: int, event_fd: int | None) -> None:
        directory = self._directory
        if not directory.exists():
            directory.mkdir(mode=0o750, parents=True)
            sync_directory(directory.parent)
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"opening the journal {directory}: another process has it open; stop that one, "
                "or give this one a data directory of its own"
            ) from None
        names = os.listdir(directory)
        for spare in names:
            if spare.startswith(files.SPARE_PREFIX):
                os.unlink(directory / spare)
        self._starts = files.starts(names)
        self._page = _map_page(flushed_path)
        words = memoryview(self._page).cast("Q")
        remembered = words[0] if words[1] == self._epoch else 0
        words.release()

        self._recovery = recover(directory, self._starts, self._epoch, max(remembered, stored))
        self.position = self._file_end = self._recovery.end
        if event_fd is None:
            event_fd = self._own_event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.event_fd = event_fd
        self._flush = lib.pugd_flush_open(
            self._directory_fd,
            event_fd,
            ffi.from_buffer(self._page),
            self._epoch,
            self.position,
            self._file_bytes_max,
            self._reserve_bytes,
            self._pending_bytes_max,
        )
        if self._flush == ffi.NULL:
            self._flush = None
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        # On a disk without room the journal opens all the same, and says so when asked for room.
        if lib.pugd_flush_spare(self._flush, self._file_bytes_max) == 0:
            self._switch(0)
            if lib.pugd_flush_wait(self._flush, self.position, _OPEN_TIMEOUT_MS) == -errno.ETIMEDOUT:
                raise JournalError(f"opening the journal {directory}: the disk took over a minute to sync one file")
            self._raise_if_failed()

    @property
    def flushed(self) -> int:
        """The end of what is on disk."""
        flushed: int = lib.pugd_flush_flushed(self._flush)
        return flushed

    @property
    def left(self) -> int:
        """How many bytes the journal may still grow before bytes_max refuses; deletion gives some back."""
        return max(0, self._bytes_max - (self.position - self._oldest()))

    def room(self, length: int) -> bool:
        """May `length` bytes of rows be appended now, in one record or several? If not, the caller answers 503.

        After a True, appends up to that length are taken, until room is asked again: a reservation, not a question
        about how full the journal is, which `left` answers. Looks at the disk once a second or every 8 MiB; makes the
        next file itself where the thread has not come to it.
        """
        needed = length + ROOM_SLACK_BYTES
        if self.position + needed - self._oldest() > self._bytes_max:
            self._refused_bound += 1
            return False
        if self.position + needed - self.flushed > self._pending_bytes_max:
            self._refused_pending += 1
            return False
        now = time.monotonic()
        if now - self._checked_at >= _DISK_CHECK_SECONDS or self.position - self._checked_position >= _DISK_CHECK_BYTES:
            self._available = self._look_at_disk()
            self._checked_at = now
            self._checked_position = self.position
        if self._available < self._reserve_bytes:
            self._refused_disk += 1
            return False
        if self._file_end - self.position < needed:
            refused = lib.pugd_flush_spare(self._flush, needed)
            if refused:
                if refused == -errno.EAGAIN:
                    self._refused_pending += 1
                else:
                    self._refused_disk += 1
                return False
        failed: int = lib.pugd_flush_error(self._flush, ffi.NULL)
        return not failed

    def append(self, rows: bytes | bytearray | memoryview, count: int) -> int:
        """Append one record of `count` rows.

        returns  the position which, once flushed, makes it durable
        raises   JournalError where the disk failed, or has no room because `room` was not asked
        cost     a checksum and a copy; no system call but waking the thread if it sleeps
        """
        length = len(rows)
        assert 0 < length <= record.LENGTH_MAX, "a record holds 1 byte to 64 MiB of rows"
        if self._file_end - self.position < record.HEADER_BYTES + length:
            self._switch(record.HEADER_BYTES + length)
        data = rows if type(rows) is bytes else ffi.from_buffer(rows)
        end: int = lib.pugd_flush_append(self._flush, data, length, count)
        if end < 0:
            self._raise_refused(-end)
        self.position = end
        self._records += 1
        self._rows += count
        return end

    def take_flushed(self) -> int:
        """Take the event from event_fd, if any; the end of what is on disk.

        raises  JournalError where the disk failed: nothing more will be flushed, ever
        """
        try:
            os.read(self.event_fd, 8)
        except BlockingIOError:
            pass
        self._raise_if_failed()
        return self.flushed

    def deletable(self, position: int) -> list[tuple[int, int]]:
        """The files that `delete_before` would delete: where each begins and ends, oldest first."""
        gone = files.deletable(self._starts, position)
        return list(zip(gone, self._starts[1:], strict=False))

    def delete_before(self, position: int) -> int:
        """Delete the files that hold only positions before `position`, never the last one. returns how many."""
        gone = files.deletable(self._starts, position)
        for start in gone:
            path = self._directory / files.name(start)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise JournalError(f"deleting {path}: {error}") from error
            self._starts.remove(start)
        return len(gone)

    def statistics(self) -> WriterStatistics:
        disk = ffi.new("struct pugd_flush_statistics *")
        lib.pugd_flush_statistics(self._flush, disk)
        oldest = self._oldest()
        return WriterStatistics(
            position=self.position,
            flushed=self.flushed,
            oldest=oldest,
            files=len(self._starts),
            kept_bytes=self.position - oldest,
            bytes_max=self._bytes_max,
            available_bytes=self._available,
            reserve_bytes=self._reserve_bytes,
            records=self._records,
            rows=self._rows,
            syncs=disk.syncs,
            written_bytes=disk.bytes,
            sync_ns_total=disk.sync_ns_total,
            sync_ns_max=disk.sync_ns_max,
            refused_bound=self._refused_bound,
            refused_disk=self._refused_disk,
            refused_pending=self._refused_pending,
            torn_bytes=self._recovery.torn_bytes,
            damages=len(self._recovery.damages),
            damaged_bytes=sum(end - begin for begin, end in self._recovery.damages),
            preallocated=bool(disk.preallocated),
            failed=lib.pugd_flush_error(self._flush, ffi.NULL) != 0,
        )

    def close(self) -> None:
        """Flush what is left, end the thread, let go of the directory.

        raises  JournalError where the disk failed; all is let go of nevertheless
        """
        operation = ffi.new("int *")
        lib.pugd_flush_wait(self._flush, self.position, _OPEN_TIMEOUT_MS)
        error = lib.pugd_flush_error(self._flush, operation)
        self._release()
        if error:
            raise self._failure(error, operation[0])

    def _release(self) -> None:
        if self._flush is not None:
            lib.pugd_flush_close(self._flush)
            self._flush = None
        if self._page is not None:
            self._page.close()
            self._page = None
        if self._own_event_fd >= 0:
            os.close(self._own_event_fd)
            self._own_event_fd = -1
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1

    def _look_at_disk(self) -> int:
        """Bytes available to us; none where the disk does not even say."""
        try:
            disk = os.fstatvfs(self._directory_fd)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _oldest(self) -> int:
        return self._starts[0] if self._starts else self.position

    def _switch(self, needed: int) -> None:
        """Begin a new file, with room for a record of `needed` bytes."""
        size = max(self._file_bytes_max, files.HEADER_BYTES + needed)
        refused = lib.pugd_flush_spare(self._flush, size)
        if refused:
            self._raise_refused(-refused)
        header = files.write_header(files.Header(self.position, self._epoch, self._name))
        end = lib.pugd_flush_switch(self._flush, files.name(self.position).encode(), header, len(header))
        if end < 0:
            self._raise_refused(-end)
        self._starts.append(self.position)
        self._file_end = self.position + size
        self.position = end

    def _raise_if_failed(self) -> None:
        operation = ffi.new("int *")
        error = lib.pugd_flush_error(self._flush, operation)
        if error:
            raise self._failure(error, operation[0])

    def _raise_refused(self, error: int) -> None:
        self._raise_if_failed()
        raise JournalError(
            f"appending to the journal {self._directory}: {os.strerror(error)}; ask room() before append()"
        )

    def _failure(self, error: int, operation: int) -> JournalError:
        return JournalError(
            f"{_OPERATIONS[operation]} the journal {self._directory}: {os.strerror(error)}; what was not flushed is "
            "not acked. Check the disk, then start again: what is on it will be read anew"
        )


def recover(directory: Path, starts: list[int], epoch: int, remembered: int) -> Recovery:
    """Cut the last file behind its last whole record and sync it; keep damaged bytes aside.

    remembered  a position that an earlier run had flushed; 0 where none is known
    """
    if not starts:
        return Recovery(remembered)
    start = starts[-1]
    path = directory / files.name(start)
    with path.open("r+b") as file:
        # After a failed sync the kernel may hold pages that count as clean and never reached the disk. What is read
        # here is to be what the disk has.
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        data = file.read()
        header = files.read_header(data, start)
        if header is not None and header.epoch != epoch:
            raise JournalError(
                f"opening the journal {directory}: {path.name} is of another data directory (epoch {header.epoch}, not "
                f"{epoch}); put back the file `collector` that belongs to it, or move the journal away"
            )
        damages: list[tuple[int, int]] = []
        view = memoryview(data)
        at = min(files.HEADER_BYTES, len(data))
        if header is None:
            damages.append((start, start + at))
        while True:
            at += record.walk(view[at:], start + at).length
            skipped = record.find(view[at:], start + at)
            if at + skipped == len(data):
                break
            damages.append((start + at, start + at + skipped))
            at += skipped
        end = start + at
        torn = len(data[at:].rstrip(b"\0"))
        if end < remembered:
            # it was on the disk once, and acked
            damages.append((end, remembered))
            torn = max(0, torn - (remembered - end))
        for begin, until in damages:
            keep_damaged(directory, begin, data[begin - start : until - start])
        if len(data) > at:
            file.truncate(at)
        os.fsync(file.fileno())
    sync_directory(directory)
    return Recovery(max(end, remembered), torn, tuple(damages))


def _map_page(path: Path) -> mmap.mmap:
    """The page of the flushed position, made if missing, mapped for writing."""
    made = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if os.fstat(fd).st_size < PAGE_BYTES:
            os.ftruncate(fd, PAGE_BYTES)
        if made:
            os.fsync(fd)
            sync_directory(path.parent)
        return mmap.mmap(fd, PAGE_BYTES)
    finally:
        os.close(fd)
