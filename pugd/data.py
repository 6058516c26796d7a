"""The data directory: what lies where, who holds it, and the two facts that are made with it and never again.

The installation key (`hash.key`) turns ids into actors; without it, history cannot be found by id, so a directory that
holds a journal or an engine's data and no key is refused rather than given a new one. The collector's name and epoch
(`collector`) stand in every row: together with a position they name a row for ever.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pugd.errors import ConfigError
from pugd.model import KeyFile, Project, WriteKey

SYNC_BYTES = 16 * 1024 * 1024
"""A large file is synced as it grows, so that nobody else's sync waits for all of it at once."""


class Origin(msgspec.Struct, frozen=True):
    """Whose rows these are: the collector's name, and the epoch in which its positions are unique."""

    name: str
    epoch: int


class DataDirectory:
    """Paths in the data directory, and the few small files that are read whole."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self.lock = self.path / "lock"
        self.hash_key = self.path / "hash.key"
        self.collector = self.path / "collector"
        self.journal = self.path / "journal"
        self.flushed = self.path / "flushed"
        self.stored = self.path / "stored"
        self.recent = self.path / "recent"
        self.keys = self.path / "keys.json"
        self.usage = self.path / "usage.json"
        self.salts = self.path / "salts"
        self.graph_snapshot = self.path / "graph.snapshot"
        self.clickhouse = self.path / "clickhouse"
        self.postgres = self.path / "postgres"
        self.quarantine = self.path / "quarantine"
        self.tmp = self.path / "tmp"
        self.read_key = self.path / "read.key"
        self.collector_socket = self.path / "collector.sock"
        self.keeper_socket = self.path / "keeper.sock"

    def key(self) -> bytes:
        """The installation key, 16 bytes."""
        try:
            key = self.hash_key.read_bytes()
        except OSError as error:
            raise ConfigError(f"the installation key {self.hash_key} cannot be read: {error.strerror}") from error
        if len(key) != 16:
            raise ConfigError(f"the installation key {self.hash_key} has {len(key)} bytes, not 16: restore it")
        return key

    def origin(self) -> Origin:
        """The collector's name and epoch."""
        try:
            return msgspec.json.decode(self.collector.read_bytes(), type=Origin)
        except OSError as error:
            raise ConfigError(f"{self.collector} cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self.collector} is damaged ({error}): restore it") from error

    def make(self, collector_name: str) -> None:
        """Make what is missing. Call with the lock held. Raises ConfigError when a file that must be there is not."""
        holding = [p.name for p in (self.journal, self.clickhouse, self.postgres, self.graph_snapshot) if _holds(p)]
        if not self.hash_key.exists():
            if holding:
                raise ConfigError(
                    f"{self.hash_key} is missing beside existing data ({', '.join(holding)}): restore it from a "
                    "backup; a new key would cut every id off from its history"
                )
            write_whole(self.hash_key, secrets.token_bytes(16))
        self.key()
        if not self.collector.exists():
            if holding:
                raise ConfigError(f"{self.collector} is missing beside existing data: restore it from a backup")
            name = collector_name or _host_name()
            origin = Origin(name, secrets.randbits(63) or 1)
            write_whole(self.collector, msgspec.json.encode(origin) + b"\n")
        elif collector_name and collector_name != self.origin().name:
            raise ConfigError(
                f"setting collector_name is {collector_name!r}, but {self.path} was made by "
                f"{self.origin().name!r}; rows are named by it for ever: leave the setting out"
            )
        for directory in (self.journal, self.tmp):
            directory.mkdir(mode=0o700, exist_ok=True)

    def seed_keys(self, write_key: str) -> None:
        """A first file of keys from the settings alone: events can be taken before Postgres has ever been up."""
        if not write_key or self.keys.exists():
            return
        secret = write_key.startswith("prv_")
        place = hashlib.sha256(write_key.encode()).hexdigest() if secret else write_key
        known = KeyFile([Project(1, "default")], {place: WriteKey(1, secret)})
        write_whole(self.keys, msgspec.json.encode(known))


class Held:
    """The lock on a data directory, held until closed or until this process ends."""

    def __init__(self, directory: DataDirectory) -> None:
        path = directory.path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.descriptor = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the data directory {path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self.descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self.descriptor)
            raise ConfigError(f"the data directory {path} is in use by another pugd, process {pid}") from None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    @staticmethod
    def owner_lives(directory: DataDirectory) -> bool:
        """Whether the process that took the lock still runs; its children may hold the lock after it."""
        try:
            pid = int(directory.lock.read_text("ascii"))
            os.kill(pid, 0)
        except (OSError, ValueError) as error:
            return isinstance(error, PermissionError)
        return True

    def close(self) -> None:
        """Let go."""
        os.close(self.descriptor)


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a small file so that a crash leaves the old one or the new one, durably."""
    write_parts(path, [data], mode)


def write_parts(path: Path, parts: Iterable[bytes | memoryview], mode: int = 0o600) -> None:
    """The same with a large file, written part by part. Where one cannot be had, the old file stays."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        unsynced = 0
        for part in parts:
            view = memoryview(part)
            unsynced += len(view)
            while view:
                view = view[os.write(descriptor, view) :]
            if unsynced >= SYNC_BYTES:
                os.fdatasync(descriptor)
                unsynced = 0
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Names made, changed and removed in a directory are on the disk after this."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _holds(path: Path) -> bool:
    """Whether there is something in it that a key belongs to."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "collector"
