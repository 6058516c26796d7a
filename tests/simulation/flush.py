"""The plain twin of native/flush, over the simulated disk: the same calls, contract and order of operations.

The thread is a task that pauses between any two operations, so that appends, crashes and other processes fall between
them. The C thread itself is tested in tests/native, with every operation made to fail.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import trio
from simulation.disk import PROCESS, Disk, File, Killed, Os

from pugd._native import ffi
from pugd.journal import record

WRITE, SYNC, DIRECTORY = 1, 2, 3
SWITCHES = 64


class Flush:
    """One open journal's hand on the disk."""

    def __init__(
        self, twin: Twin, directory: int, event: int, page: Any, position: int, file_bytes: int, reserve: int
    ) -> None:
        self.twin, self.disk = twin, twin.disk
        self.directory, self.path = self.disk.open_files[directory]
        self.event = self.disk.open_files[event]
        self.page = ffi.cast("uint64_t *", page)
        self.held = page
        self.file_bytes, self.reserve = file_bytes, reserve
        self.position = self.flushed = self.start = self.end = position
        self.error = self.operation = 0
        self.tail: list[bytes | tuple[File, int, str, str]] = []
        self.tail_bytes = 0
        self.spare: File | None = None
        self.spare_bytes = self.spare_number = 0
        self.spare_name = ""
        self.spare_wanted = self.closing = False
        self.file: File | None = None
        self.round: Iterator[None] | None = None
        self.wake = trio.Event()
        self.syncs = self.written = self.files = 0

    # ---- the thread ----

    async def run(self) -> None:
        draw = self.disk.draw
        while not self.closing and not self.error:
            await self.wake.wait()
            self.wake = trio.Event()
            while self.work():
                await trio.sleep(draw.choice((0.0, 0.0001, 0.002, 0.02)))

    def work(self) -> bool:
        """The next operation of what there is to do. returns whether there was any."""
        if self.error:
            return False
        if self.round is None:
            if self.tail:
                full, self.tail, self.tail_bytes = self.tail, [], 0
                self.round = self.store(full)
            elif self.spare_wanted:
                self.spare_wanted = False
                self.make_spare(self.file_bytes)
                return True
            else:
                return False
        try:
            next(self.round)
        except StopIteration:
            self.round = None
            self.flushed = self.end
            self.page[0] = self.end
            self.event.count = 1
            self.twin.flushed_event.set()
        except OSError as error:
            self.round = None
            self.error = error.errno or errno.EIO
            self.event.count = 1
            self.twin.flushed_event.set()
        return True

    def store(self, full: list[bytes | tuple[File, int, str, str]]) -> Iterator[None]:
        """Bring a buffer to the disk."""
        mark: tuple[File, int, str, str] | None = None
        pieces: list[bytes] = []
        for part in [*full, None]:
            if isinstance(part, bytes):
                pieces.append(part)
                continue
            if pieces:
                self.operation = WRITE
                assert self.file is not None
                data = b"".join(pieces)
                self.disk.write(self.file, self.end - self.start, data)
                self.end += len(data)
                self.written += len(data)
                pieces.clear()
                yield
            if mark is not None:
                self.sync_file()
                yield
                self.operation = DIRECTORY
                self.disk.rename(f"{self.path}/{mark[2]}", f"{self.path}/{mark[3]}")
                yield
                if self.twin.directory_syncs_work:
                    self.disk.sync(self.directory)
                self.files += 1
                yield
            if part is not None:
                if self.file is not None:
                    self.sync_file()
                    yield
                    self.disk.truncate(self.file, self.end - self.start)
                mark = part
                self.file = part[0]
                self.start = self.end = part[1]
        if mark is None:
            self.sync_file()
            yield

    def sync_file(self) -> None:
        self.operation = SYNC
        assert self.file is not None
        self.syncs += 1
        self.disk.sync(self.file)

    # ---- spares ----

    def make_spare(self, size: int) -> int:
        if self.spare is not None and self.spare_bytes >= size:
            return 0
        size = max(size, self.file_bytes)
        if self.disk.free() < self.reserve + size - self.spare_bytes:
            return -errno.ENOSPC
        try:
            if self.spare is None:
                self.spare_name = f"spare-{self.spare_number}"
                self.spare = self.disk.create(f"{self.path}/{self.spare_name}")
                self.spare_number += 1
            self.disk.allocate(self.spare, size)
        except OSError as error:
            if self.spare is not None and not self.spare_bytes:
                self.drop_spare()
            return -(error.errno or errno.EIO)
        self.spare_bytes = size
        return 0

    def drop_spare(self) -> None:
        if self.spare is not None:
            try:
                self.disk.unlink(f"{self.path}/{self.spare_name}")
            except OSError:
                pass
            self.spare, self.spare_bytes = None, 0

    def marks(self) -> int:
        return sum(not isinstance(part, bytes) for part in self.tail)


class Twin:
    """Stands for `lib` in journal/writer.py."""

    def __init__(self, disk: Disk, system: Os) -> None:
        self.disk, self.os = disk, system
        self.directory_syncs_work = True
        self.flushed_event = trio.Event()
        self.nursery: trio.Nursery | None = None

    def pugd_flush_open(
        self, directory: int, event: int, page: Any, epoch: int, position: int, file_bytes: int, reserve: int, _: int
    ) -> Flush:
        f = Flush(self, directory, event, page, position, file_bytes, reserve)
        if f.page[1] != epoch:
            f.page[0] = 0
        f.page[1] = epoch
        f.page[0] = position
        assert self.nursery is not None

        async def run() -> None:
            try:
                await f.run()
            except Killed:
                pass

        self.nursery.start_soon(run)
        return f

    def pugd_flush_spare(self, f: Flush, size: int) -> int:
        return -errno.EAGAIN if f.marks() == SWITCHES else f.make_spare(size)

    def pugd_flush_append(self, f: Flush, payload: Any, length: int, rows: int) -> int:
        if f.error:
            return -f.error
        data = bytes(payload) if isinstance(payload, bytes) else bytes(ffi.buffer(payload, length))
        framed = record.frame(data, rows, f.position)
        f.tail.append(framed)
        f.position += len(framed)
        f.wake.set()
        return f.position

    def pugd_flush_switch(self, f: Flush, name: bytes, header: bytes, length: int) -> int:
        if f.error:
            return -f.error
        if f.spare is None or f.marks() == SWITCHES:
            return -errno.EAGAIN
        f.tail.append((f.spare, f.position, f.spare_name, name.decode()))
        f.tail.append(bytes(header))
        f.spare, f.spare_bytes = None, 0
        f.spare_wanted = True
        f.position += length
        f.wake.set()
        return f.position

    def pugd_flush_flushed(self, f: Flush) -> int:
        return f.flushed

    def pugd_flush_error(self, f: Flush, operation: Any) -> int:
        if operation != ffi.NULL:
            operation[0] = f.operation
        return f.error

    def pugd_flush_wait(self, f: Flush, position: int, timeout_ms: int) -> int:
        while not f.error and f.flushed < position:
            assert f.work(), "nothing left to do, and not flushed"
        return -f.error

    def pugd_flush_statistics(self, f: Flush, out: Any) -> None:
        out.syncs, out.bytes, out.files, out.preallocated = f.syncs, f.written, f.files, 1

    def pugd_flush_close(self, f: Flush) -> int:
        f.closing = True
        if PROCESS.get().dead:
            raise Killed
        while f.round is not None or f.tail:
            if not f.work():
                break
        f.wake.set()
        if f.file is not None and not f.error:
            try:
                self.disk.truncate(f.file, f.end - f.start)
            except OSError:
                pass
        f.drop_spare()
        return -f.error
