"""A disk that fails as disks do, in memory, and the names by which the code under test reaches it.

The fault model:

- A write is seen by every reader at once, and lies on the platter only after a sync of its file. A power failure keeps
  any subset of what was not synced, sector by sector, so in any order and torn.
- A name (made, renamed, removed) lies on the platter only after a sync of its directory. A power failure keeps any
  beginning of a directory's unsynced changes; a rename is one change.
- A failed sync may have brought any subset down, and the kernel forgets that the rest was ever dirty: readers go on
  seeing it until the cache is dropped, and the next sync succeeds without it.
- Any operation may fail, once or for as long as the disk is broken; a full disk refuses what would make it fuller.
- Any operation may be the last one of a process, or of the machine: before it, after it, or half-way through a write.
- Bits rot: `flips` lie over the pristine bytes and change what is read, until they are written over.
- The page of the flushed position is mapped memory that nobody syncs: a power failure keeps its value, or an older one.

`Os`, `Mmap`, `Fcntl` and `Place` stand for `os`, `mmap`, `fcntl` and `pathlib.Path` in the modules that touch a disk.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import PurePosixPath
from random import Random
from types import SimpleNamespace
from typing import Any

SECTOR = 512


class Killed(BaseException):
    """This process is no more: nothing it still tries has an effect."""


class Process:
    """Who touches the disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.on_death: list[Callable[[], None]] = []


PROCESS: ContextVar[Process] = ContextVar("process")


class Page(bytearray):
    """A mapped page."""

    def close(self) -> None:
        """The mapping ends; the page stays."""


class File:
    """A file's bytes: what is read, and what would be left without power."""

    numbers = itertools.count(1)

    def __init__(self) -> None:
        self.number = next(File.numbers)
        self.data = bytearray()
        self.durable = b""
        self.pending: list[tuple[int, bytes] | int] = []
        """Since the last sync: writes at an offset, and changes of the size."""
        self.flips: dict[int, int] = {}
        self.page: Page | None = None
        self.page_before = b""

    def write(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset:
            self.data += bytes(offset - len(self.data))
        self.data[offset : offset + len(data)] = data
        self.pending.append((offset, bytes(data)))
        for at in range(offset, offset + len(data)):
            self.flips.pop(at, None)

    def resize(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data += bytes(size - len(self.data))
        self.pending.append(size)

    def read(self, offset: int, length: int) -> bytes:
        found = bytearray(self.data[offset : offset + length])
        for at, mask in self.flips.items():
            if offset <= at < offset + len(found):
                found[at - offset] ^= mask
        return bytes(found)

    def sync(self) -> None:
        self.durable = bytes(self.data)
        self.pending.clear()

    def settle(self, draw: Random) -> None:
        """Some of what was not synced reaches the platter, the rest never will."""
        if not self.pending:
            return
        kept = bytearray(self.durable)
        for change in self.pending:
            if isinstance(change, int):
                if draw.random() < 0.5:
                    kept = kept[:change] + bytes(max(0, change - len(kept)))
                continue
            offset, data = change
            fate = draw.random()
            at = offset
            while at < offset + len(data):
                end = min(offset + len(data), at - at % SECTOR + SECTOR)
                if fate < 0.35 or (fate < 0.7 and draw.random() < 0.5):
                    if len(kept) < at:
                        kept += bytes(at - len(kept))
                    kept[at:end] = data[at - offset : end - offset]
                at = end
        self.durable = bytes(kept)
        self.pending.clear()


Names = dict[str, File]


class Directory:
    """Names, and which of them would be left without power."""

    def __init__(self) -> None:
        self.names: Names = {}
        self.durable: Names = {}
        self.pending: list[dict[str, File | None]] = []

    def put(self, changed: dict[str, File | None]) -> None:
        _apply(self.names, changed)
        self.pending.append(changed)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.pending.clear()

    def settle(self, draw: Random) -> None:
        for changed in self.pending[: draw.randint(0, len(self.pending))]:
            _apply(self.durable, changed)
        self.pending.clear()
        self.names = dict(self.durable)


def _apply(names: Names, changed: dict[str, File | None]) -> None:
    for name, file in changed.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


class Plan:
    """What happens at which operation."""

    def __init__(self) -> None:
        self.at = 0
        """The number of the operation; 0: none."""
        self.what = ""
        """'kill' | 'power', before it; 'kill-after' | 'power-after'; 'torn-kill' | 'torn-power'; 'eio' | 'enospc'."""
        self.fired = False
        self.for_ever = False
        """An error stays from there on, until mended."""


class Disk:
    """One disk. `kill` and `lose_power` are the world's."""

    def __init__(self, draw: Random, bytes_max: int = 64 << 20) -> None:
        self.draw = draw
        self.bytes_max = bytes_max
        self.directories: dict[str, Directory] = {"/": Directory(), "/data": Directory()}
        self.plan = Plan()
        self.operations = 0
        self.syncs_work = True
        """False: fdatasync and fsync lie."""
        self.lose_power: Callable[[], None] = lambda: None
        self.kill: Callable[[Process], None] = lambda process: None
        self.open_files: dict[int, Any] = {}
        self.locks: dict[str, Process] = {}
        self.descriptors = itertools.count(1000)

    # ---- the model ----

    def used(self) -> int:
        return sum(len(file.data) for directory in self.directories.values() for file in directory.names.values())

    def free(self) -> int:
        return max(0, self.bytes_max - self.used())

    def directory(self, path: str) -> Directory:
        found = self.directories.get(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def file(self, path: str) -> File:
        where, _, name = path.rpartition("/")
        file = self.directory(where or "/").names.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return file

    def power_failed(self) -> None:
        """The machine stops: what is left is what lay on the platter, and whatever else chance brought down."""
        for directory in self.directories.values():
            files = {*directory.names.values(), *directory.durable.values()}
            files |= {file for changed in directory.pending for file in changed.values() if file is not None}
            for file in files:
                file.settle(self.draw)
                file.data = bytearray(file.durable)
                if file.page is not None:
                    kept = bytes(file.page) if self.draw.random() < 0.5 else file.page_before
                    file.page, file.page_before = Page(kept), kept
            directory.settle(self.draw)
        self.open_files.clear()
        self.locks.clear()

    def step(self, kind: str, perform: Callable[[], Any], *, torn: Callable[[], Any] | None = None) -> Any:
        """One operation, unless something happens at it."""
        process = PROCESS.get()
        if process.dead:
            raise Killed
        self.operations += 1
        plan = self.plan
        due = plan.at and (self.operations == plan.at or (plan.for_ever and self.operations > plan.at))
        if due and plan.what in ("eio", "enospc"):
            if plan.what == "eio" or kind in ("write", "allocate", "create"):
                plan.fired = True
                if kind == "sync" and torn is not None:
                    torn()
                code = errno.EIO if plan.what == "eio" else errno.ENOSPC
                raise OSError(code, os.strerror(code))
            if not plan.for_ever:
                plan.at += 1  # to the next one that a full disk refuses
        elif due:
            plan.fired = True
            if plan.what.startswith("torn"):
                if torn is not None and kind == "write":
                    torn()
            elif plan.what.endswith("after"):
                perform()
            self.end(process, "power" in plan.what)
        return perform()

    def end(self, process: Process, power: bool) -> None:
        if power:
            self.lose_power()
        else:
            self.kill(process)
        raise Killed

    # ---- operations on files ----

    def write(self, file: File, offset: int, data: bytes) -> int:
        def perform() -> int:
            if max(0, offset + len(data) - len(file.data)) > self.free():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.write(offset, data)
            return len(data)

        def torn() -> None:
            file.write(offset, data[: self.draw.randrange(len(data) + 1)])

        return int(self.step("write", perform, torn=torn))

    def sync(self, thing: File | Directory) -> None:
        def perform() -> None:
            if self.syncs_work:
                thing.sync()

        def torn() -> None:
            if isinstance(thing, File):
                thing.settle(self.draw)

        self.step("sync", perform, torn=torn)

    def create(self, path: str) -> File:
        where, _, name = path.rpartition("/")
        file = File()

        def perform() -> None:
            self.directory(where).put({name: file})

        self.step("create", perform)
        return file

    def rename(self, old: str, new: str) -> None:
        where, _, name = old.rpartition("/")
        fresh = new.rpartition("/")[2]
        assert where == new.rpartition("/")[0]

        def perform() -> None:
            self.directory(where).put({name: None, fresh: self.file(old)})

        self.step("rename", perform)

    def unlink(self, path: str) -> None:
        where, _, name = path.rpartition("/")

        def perform() -> None:
            self.file(path)
            self.directory(where).put({name: None})

        self.step("unlink", perform)

    def truncate(self, file: File, size: int) -> None:
        self.step("truncate", lambda: file.resize(size))

    def allocate(self, file: File, size: int) -> None:
        def perform() -> None:
            if max(0, size - len(file.data)) > self.free():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if size > len(file.data):
                file.resize(size)

        self.step("allocate", perform)

    def read(self, file: File, offset: int, length: int) -> bytes:
        found: bytes = self.step("read", lambda: file.read(offset, length))
        return found


class Os:
    """Stands for the module `os`."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        for name in ("O_RDONLY", "O_RDWR", "O_WRONLY", "O_CREAT", "O_TRUNC", "O_EXCL", "O_CLOEXEC", "O_DIRECTORY"):
            setattr(self, name, getattr(os, name))
        self.EFD_NONBLOCK = self.EFD_CLOEXEC = self.POSIX_FADV_DONTNEED = 0
        self.strerror, self.fspath, self.fsencode = os.strerror, os.fspath, os.fsencode

    def _opened(self, thing: Any) -> int:
        number = next(self.disk.descriptors)
        self.disk.open_files[number] = thing
        return number

    def _thing(self, descriptor: int) -> Any:
        if PROCESS.get().dead:
            raise Killed
        return self.disk.open_files[descriptor]

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        text = str(path)
        if flags & os.O_DIRECTORY:
            return self._opened((self.disk.directory(text), text))
        try:
            file = self.disk.file(text)
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), text)
            if flags & os.O_TRUNC:
                self.disk.truncate(file, 0)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            file = self.disk.create(text)
        return self._opened([file, 0])

    def close(self, descriptor: int) -> None:
        thing = self.disk.open_files.pop(descriptor, None)
        if isinstance(thing, tuple) and self.disk.locks.get(thing[1]) is PROCESS.get():
            del self.disk.locks[thing[1]]

    def read(self, descriptor: int, length: int) -> bytes:
        event = self._thing(descriptor)
        if not event.count:
            raise BlockingIOError
        event.count = 0
        return bytes(8)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self.disk.read(self._thing(descriptor)[0], offset, length)

    def write(self, descriptor: int, data: Any) -> int:
        opened = self._thing(descriptor)
        done = self.disk.write(opened[0], opened[1], bytes(data))
        opened[1] += done
        return done

    def fsync(self, descriptor: int) -> None:
        self.disk.sync(self._thing(descriptor)[0])

    def ftruncate(self, descriptor: int, size: int) -> None:
        self.disk.truncate(self._thing(descriptor)[0], size)

    def fstat(self, descriptor: int) -> Any:
        return SimpleNamespace(st_size=len(self._thing(descriptor)[0].data))

    def fchmod(self, descriptor: int, mode: int) -> None:
        self._thing(descriptor)

    def posix_fadvise(self, descriptor: int, offset: int, length: int, advice: int) -> None:
        file: File = self._thing(descriptor)[0]
        if not file.pending:
            file.data = bytearray(file.durable)

    def fstatvfs(self, descriptor: int) -> Any:
        self._thing(descriptor)
        return SimpleNamespace(f_bavail=self.disk.free(), f_frsize=1)

    def eventfd(self, value: int, flags: int) -> int:
        return self._opened(SimpleNamespace(count=value))

    def listdir(self, path: Any) -> list[str]:
        if PROCESS.get().dead:
            raise Killed
        return list(self.disk.directory(str(path)).names)

    def unlink(self, path: Any) -> None:
        self.disk.unlink(str(path))

    def replace(self, old: Any, new: Any) -> None:
        self.disk.rename(str(old), str(new))

    def urandom(self, count: int) -> bytes:
        return self.disk.draw.randbytes(count)


class Mmap:
    """Stands for the module `mmap`."""

    PROT_READ = 1

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def mmap(self, descriptor: int, length: int, prot: int = 3) -> Page:
        file: File = self._disk.open_files[descriptor][0]
        if file.page is None:
            if len(file.data) < length:
                raise ValueError("mmap length is greater than file size")
            file.page = Page(bytes(length))
            file.page_before = bytes(length)
        return file.page


class Fcntl:
    """Stands for the module `fcntl`."""

    LOCK_EX = LOCK_NB = 0

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def flock(self, descriptor: int, how: int) -> None:
        path = self._disk.open_files[descriptor][1]
        holder = self._disk.locks.get(path)
        if holder is not None and not holder.dead and holder is not PROCESS.get():
            raise BlockingIOError
        self._disk.locks[path] = PROCESS.get()


class Place(PurePosixPath):
    """Stands for pathlib.Path, on `Place.disk`."""

    disk: Disk
    os: Os

    def expanduser(self) -> Place:
        return self

    def absolute(self) -> Place:
        return self

    def _here(self) -> str:
        if PROCESS.get().dead:
            raise Killed
        return str(self)

    def exists(self) -> bool:
        path = self._here()
        try:
            return path in self.disk.directories or bool(self.disk.file(path))
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        return self._here() in self.disk.directories

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        # Whoever makes a directory syncs its parent at once: here it is durable as it is made.
        self.disk.step("create", lambda: self.disk.directories.setdefault(str(self), Directory()))

    def read_bytes(self) -> bytes:
        file = self.disk.file(self._here())
        return self.disk.read(file, 0, len(file.data))

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.disk.unlink(self._here())
        except FileNotFoundError:
            if not missing_ok:
                raise

    def stat(self) -> Any:
        file = self.disk.file(self._here())
        return SimpleNamespace(st_ino=file.number, st_mtime_ns=file.number, st_size=len(file.data))

    def open(self, mode: str) -> Opened:
        flags = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "xb": os.O_RDWR | os.O_CREAT | os.O_EXCL}[mode]
        return Opened(self.os, self.os.open(self, flags))


class Opened(io.BufferedIOBase):
    """A file opened by Place.open."""

    def __init__(self, system: Os, descriptor: int) -> None:
        self._os, self._descriptor = system, descriptor

    def fileno(self) -> int:
        return self._descriptor

    def read(self, size: int | None = -1, /) -> bytes:
        return self._os.pread(self._descriptor, 1 << 40, 0)

    def write(self, data: Any, /) -> int:
        return self._os.write(self._descriptor, data)

    def truncate(self, size: int | None = None, /) -> int:
        assert size is not None
        self._os.ftruncate(self._descriptor, size)
        return size

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        if self._descriptor >= 0:
            self._os.close(self._descriptor)
            self._descriptor = -1
