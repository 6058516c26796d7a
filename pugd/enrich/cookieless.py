"""Visitors without an id: an id of the day for each, made of a salt that is then destroyed.

    id     `cookieless-` + base64url(BLAKE2b, keyed with the day's salt, of project, address, user agent and host)
    day    UTC, of the event; of its receipt where its clock is ahead
    salt   32 random bytes for each day, of nothing but the kernel's randomness

An event may come on its day or on the next, so a salt is made for today and for yesterday (for tomorrow shortly before
it begins, so that no event waits for a disk), and destroyed two days after its day began: overwritten and removed, on
disk and in memory. From then on nobody can tell whose id it was, or make it again of an address. The address is
hashed here and kept nowhere.

    SALTS/2026-11-27        32 bytes, mode 0600, whole or not there: written aside, synced, linked to its name

Whoever links first has made the day's salt: collectors that share the directory give the same ids. A file that is
damaged is replaced; where none can be written, the salt is in memory alone until it can, and a process that begins anew
gives visitors other ids. Both are told.

Disks that write elsewhere instead of over (copy on write, snapshots, flash) may keep what was overwritten.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
from base64 import urlsafe_b64encode
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from pugd import errors
from pugd.data import sync_directory
from pugd.model import COOKIELESS, Refusal

SALT_BYTES: Final = 32
ID_BYTES: Final = 16
"""Of the hash: among a hundred million visitors of a day, two have the same with a chance of 1 : 10²²."""
DAY_MS: Final = 86_400_000
EARLY_MS: Final = 600_000
"""How long before its day a salt is made: that is looked at more often; short beside a day."""
REMOTE: Final = "$remote"
"""What an event says of its address to mean the connection's."""

_EPOCH: Final = date(1970, 1, 1).toordinal()
_NAME: Final = re.compile(r"\.?(\d{4}-\d\d-\d\d)(?:\.[0-9a-f]+\.new)?")

log = logging.getLogger(__name__)

_pack = msgspec.msgpack.Encoder().encode


class _DamagedError(Exception):
    """A file of a salt holds none."""


class Salts:
    """The salts of the days. `stored` is for a thread, all else for the one that asks for ids."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._salts: dict[int, bytearray] = {}
        """By day, since 1970."""
        self._unsaved: set[int] = set()
        """Days whose salts are in memory alone."""
        self._told: set[int] = set()
        """Days of which that was told."""

    def id_of(self, day: int, said: bytes) -> str:
        """The id of whoever `said` is about, on a day that may still come. cost  2 µs; never waits for a disk"""
        salt = self._salts.get(day)
        if salt is None:
            salt = self._made(day)  # the clock jumped
        found = hashlib.blake2b(said, digest_size=ID_BYTES, key=salt).digest()
        return COOKIELESS + urlsafe_b64encode(found).rstrip(b"=").decode()

    def _made(self, day: int) -> bytearray:
        """A new salt, in memory until `stored` has saved it."""
        self._unsaved.add(day)
        salt = self._salts[day] = bytearray(os.urandom(SALT_BYTES))
        return salt

    def stored(self, now: int) -> dict[int, bytearray]:
        """Make the salts on disk that are wanted, and destroy those that are not. Never raises.

        now      ms
        returns  what `renew` then takes: of the days whose salts were not known, or not saved, those that are now
        cost     a list of a directory; a sync for each new salt. For a thread, every minute or so
        """
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            log.error("%s cannot be made: %s", self._directory, error.strerror)
        found = {}
        for day in _wanted(now):
            if day not in self._salts or day in self._unsaved:
                path = self._directory / _name(day)
                try:
                    found[day] = self._read(path) or self._make(path, self._salts.get(day))
                except OSError as error:
                    self._tell(day, error)
        destroy(self._directory, *_kept(now))
        return found

    def renew(self, now: int, stored: dict[int, bytearray]) -> None:
        """Take what `stored` returned of the same time, and destroy in memory what it has destroyed on disk."""
        # A salt on disk may be another collector's, which was first.
        self._salts |= stored
        self._unsaved -= stored.keys()
        for day in _wanted(now):
            if day not in self._salts:
                self._made(day)
        first, last = _kept(now)
        for day in [day for day in self._salts if not first <= day <= last]:
            salt = self._salts.pop(day)
            salt[:] = bytes(SALT_BYTES)
            self._unsaved.discard(day)
        self._told = {day for day in self._told if first <= day <= last}

    def _tell(self, day: int, error: OSError) -> None:
        if day not in self._told:
            self._told.add(day)
            log.error(
                "the salt of %s is in memory alone (%s): should pugd begin anew, cookieless visitors of that day count "
                "twice", _name(day), error.strerror,
            )  # fmt: skip

    def _read(self, path: Path) -> bytearray | None:
        """A salt on disk; None where there is none, or one that cannot be used, which is removed. raises OSError"""
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (OSError, _DamagedError) as error:
            log.warning(
                "the salt %s cannot be read (%s): a new one is made, with which cookieless visitors of that day count "
                "twice", path, error,
            )  # fmt: skip
        _remove(path)
        return None

    def _make(self, path: Path, salt: bytearray | None) -> bytearray:
        """Put a salt on disk, a new one or that which is used already; or take another collector's, whose came first.
        raises OSError"""
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        salt = salt or bytearray(os.urandom(SALT_BYTES))
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
                if os.write(descriptor, salt) != SALT_BYTES:
                    raise OSError(28, os.strerror(28))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(fresh, path)
            except FileExistsError:
                try:
                    salt = _read(path)
                except _DamagedError as error:
                    raise OSError(5, str(error)) from error
            os.unlink(fresh)  # another name of the salt itself, or one that nobody used
            sync_directory(path.parent)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        return salt


class Visitor:
    """Who sends a request, as far as that tells cookieless visitors apart.

    salts        None: no such visitors are taken
    address      of whoever opened its connection; '' where that is not known
    user_agent   the request's
    received_at  ms
    """

    __slots__ = ("_address", "_project", "_received_at", "_salts", "_user_agent")

    def __init__(self, salts: Salts | None, project: int, address: str, user_agent: str, received_at: int) -> None:
        self._salts = salts
        self._project = project
        self._address = address
        self._user_agent = user_agent
        self._received_at = received_at

    def __call__(self, occurred_at: int, address: str | None, user_agent: str, host: str) -> str | Refusal:
        """The id of the day.

        `address`, `user_agent`  what the event says of them; None, '': nothing, so they are the request's
        `host`                   of its page; '' where it has none
        """
        if self._salts is None:
            return OFF
        today = self._received_at // DAY_MS
        day = min(occurred_at // DAY_MS, today)
        if day < today - 1:
            return LATE
        if not address or address == REMOTE:
            address = self._address
        said = _pack((self._project, address, user_agent or self._user_agent, host))
        return self._salts.id_of(day, said)


OFF: Final = Refusal(
    errors.COOKIELESS_OFF,
    "Visitors without an id are not taken here: ask them first, or have the setting cookieless switched on.",
    "context.cookieless",
)
LATE: Final = Refusal(
    errors.COOKIELESS_LATE,
    "This happened before yesterday, whose ids of cookieless visitors nobody can make any more: send such events on "
    "their day or the next (UTC).",
    "timestamp",
)


def destroy(directory: Path, first: int = 1, last: int = 0) -> None:
    """Destroy all salts in a directory, and what is left of writing them, but those from one day to another. Never
    raises: what stays is told, and tried again when this is asked again."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        day = _day(name)
        if day is not None and not first <= day <= last:
            try:
                _remove(directory / name)
            except OSError as error:
                log.error("the salt %s cannot be destroyed: %s: remove it by hand", directory / name, error.strerror)


def _read(path: Path) -> bytearray:
    """raises OSError, _DamagedError"""
    salt = bytearray(SALT_BYTES + 1)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        length = os.readv(descriptor, [salt])
    finally:
        os.close(descriptor)
    del salt[SALT_BYTES:]
    if length != SALT_BYTES:
        raise _DamagedError(
            f"{min(length, SALT_BYTES)} of {SALT_BYTES} bytes" if length < SALT_BYTES else "it is longer"
        )
    if not any(salt):
        raise _DamagedError("it is empty")  # what a crash left of overwriting it
    return salt


def _remove(path: Path) -> None:
    """Overwrite a file and remove it. raises OSError"""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, bytes(SALT_BYTES), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s is removed without being overwritten: %s", path, error.strerror)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _wanted(now: int) -> list[int]:
    """Days whose salts are to be there."""
    today = now // DAY_MS
    return sorted({today - 1, today, (now + EARLY_MS) // DAY_MS})


def _kept(now: int) -> tuple[int, int]:
    """The first and the last day whose salts stay: tomorrow's too, for a clock that is set back over midnight."""
    today = now // DAY_MS
    return today - 1, today + 1


def _name(day: int) -> str:
    return date.fromordinal(_EPOCH + day).isoformat()


def _day(name: str) -> int | None:
    """The day of a salt's file, whole or half made; None where it is no such file."""
    found = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(found[1]).toordinal() - _EPOCH if found else None
    except ValueError:
        return None
