"""Where an event's sender is: an IP address → country, region and city, from a file in MaxMind's format (.mmdb).

    country   the ISO 3166 code: `country.iso_code`
    region    the English name of the first subdivision, its code where it has no name: every file of cities has names,
              and not all have codes, which mean something only beside their country
    city      `city.names.en`

Files of GeoLite2 and GeoIP2, of DB-IP and of IP2Location say so; some others have plain texts under these names, which
are taken too. What a file does not tell is ''. An address is asked about and forgotten: nothing here is written.

Which address is an event's is told by `Whence`, for each request: the one that the event says was its own, else that of
the connection, if whoever opened that is the visitor's own browser or app. Of a server's connection nothing is told.

The file is read into memory, since one that is overwritten where it lies would end a process that has mapped it. So it
costs its size; a replacement is read beside it, in a thread, and taken if it is whole. It is searched by the Python of
maxminddb, which bounds what a record may cost: its C, going through damaged files, wrote over memory not its own.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, Final

from maxminddb import MODE_FD
from maxminddb.reader import Reader
from msgspec import Raw, Struct

from pugd.errors import ConfigError, PugdError
from pugd.model import encoded

CACHE_MAX: Final = 65_536
"""Addresses whose places are remembered: few of them carry most traffic. About 15 MB."""
NEW_MAX: Final = 500
"""Addresses of a wake-up that are looked up: the places of more are not told, so that nobody holds up everybody."""
ADDRESS_LENGTH_MAX: Final = 64
LENGTH_MAX: Final = 100
"""Of a name; the longest place has PLACE_BYTES_MAX."""
PLACE_BYTES_MAX: Final = 2 * (4 * LENGTH_MAX + 3) + 3
FILE_BYTES_MAX: Final = 4 << 30
SAMPLED: Final = 300
"""Networks that are looked at before a file is used, of each version of IP, and 256 addresses all over it."""
ALLOWED: Final = "a file in MaxMind's format (.mmdb) that tells countries or cities"

REMOTE: Final = "$remote"
"""What an event says of its address to mean the connection's."""
DEVICE: Final = "device"
SERVER: Final = "server"

NOWHERE: Final = Raw(encoded("", "", ""))

_TOOL: Final = re.compile(
    r"aiohttp|apache-httpclient|axios|bun/|curl|deno|faraday|go-http|guzzle|httpie|java[/-]|libwww|node|perl|php|"
    r"postmanruntime|python|reqwest|ruby|undici|wget",
    re.IGNORECASE,
)
"""How the User-Agent of programs begins that are no visitor's: what sends somebody else's events on."""

log = logging.getLogger(__name__)


class PlacesError(PugdError):
    """The file cannot be used; the message says why, and which file."""


Signature = tuple[int, int, int, int]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PlacesStatistics(Struct, frozen=True):
    """Of no file: zeros."""

    file_built_at: int = 0
    """When whoever made the file made it, seconds since 1970."""
    addresses_held: int = 0
    """Whose places are remembered."""
    addresses_refused: int = 0
    """Since the process began: not looked up, since there were too many in a wake-up."""


class _Held:
    """A file that is in use, and the places that were looked up in it."""

    def __init__(self, reader: Reader | None = None) -> None:
        self.reader = reader
        self.six = reader is not None and reader.metadata().ip_version == 6
        self.built_at = 0
        if reader is not None and isinstance(built := reader.metadata().build_epoch, int):
            self.built_at = min(built, 1 << 62)  # whatever a damaged file says
        self.found: dict[str, Raw] = {}
        self.told = False
        """That a record in it could not be read."""


class Places:
    """Tells places. `renew` may run in a thread beside the rest."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = _Held()
        self._seen: Signature | None = None
        self._told = False
        self._left = NEW_MAX
        self._refused = 0

    def turn(self) -> None:
        """A wake-up begins."""
        self._left = NEW_MAX

    def find(self, address: str) -> Raw:
        """Country, region and city in MessagePack; empty for what is no address or no public one. Never raises.

        cost  0.2 µs for an address met before, else up to 100 µs
        """
        held = self._held
        found = held.found.get(address)
        if found is not None:
            return found
        if len(address) > ADDRESS_LENGTH_MAX:
            return NOWHERE
        if not self._left:
            self._refused += 1
            return NOWHERE
        self._left -= 1
        found = self._look_up(held, address)
        if len(held.found) >= CACHE_MAX:
            held.found.clear()
        held.found[address] = found
        return found

    def statistics(self) -> PlacesStatistics:
        held = self._held
        return PlacesStatistics(held.built_at, len(held.found), self._refused)

    def _look_up(self, held: _Held, text: str) -> Raw:
        if held.reader is None:
            return NOWHERE
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            return NOWHERE
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            elif address.scope_id is not None or not held.six:
                return NOWHERE
        if not address.is_global:
            return NOWHERE
        try:
            return _packed(held.reader.get(address))
        except Exception as error:  # noqa: BLE001 - whatever a damaged record raises, it is no reason to lose an event
            if not held.told:
                held.told = True
                log.error("a record of %s cannot be read: it is damaged (%s)", self._path, type(error).__name__)
            return NOWHERE

    def renew(self) -> None:
        """Read the file if it is another one than before; what cannot be used is told once, and the old one stays.

        cost  a stat; else the time of reading the file. For a thread: `find` may go on meanwhile
        """
        try:
            signature = _signature(os.stat(self._path))
            if signature == self._seen:
                return
            self._seen = signature
            held = _Held(read(self._path))
        except (OSError, ValueError, MemoryError, PlacesError) as error:
            if not self._told:
                self._told = True
                stays = "the places of the file before it stay" if self._held.reader is not None else "there are none"
                log.error("places: %s; until it is mended, %s", _why(self._path, error), stays)
            return
        if self._held.reader is not None or self._told:
            log.info("places: %s is in use", self._path)
        self._held, self._told = held, False


class Whence:
    """Where the events of one request are from.

    address     of whoever opened its connection; '' where that is not known
    is_browser  that was a browser
    user_agent  the request's
    """

    __slots__ = ("_address", "_is_browser", "_places", "_user_agent")

    def __init__(self, places: Places, address: str = "", is_browser: bool = False, user_agent: str = "") -> None:
        self._places = places
        self._address = address
        self._is_browser = is_browser
        self._user_agent = user_agent

    def __call__(self, said: str | None, sender: str) -> Raw:
        """A place in MessagePack.

        `said`    what the event says of its address: one, REMOTE, '' for none at all; None where it says nothing
        `sender`  what its context says of who sends: DEVICE, SERVER, '' where it does not say
        """
        if said is None:
            if not self._is_device(sender):
                return NOWHERE
            said = self._address
        elif said == REMOTE:
            said = self._address
        return self._places.find(said) if said else NOWHERE

    def _is_device(self, sender: str) -> bool:
        if sender == SERVER:
            return False
        return self._is_browser or (sender == DEVICE and _TOOL.match(self._user_agent) is None)


def check(path: str) -> None:
    """Can this file be used? raises ConfigError, one line, where not"""
    try:
        read(path)
    except (OSError, ValueError, MemoryError, PlacesError) as error:
        raise ConfigError(f"setting places: {_why(path, error)}; allowed: {ALLOWED}") from error


def read(path: str) -> Reader:
    """A file, in memory and looked at. raises  OSError, ValueError, MemoryError, PlacesError"""
    # Not to wait for a writer where the path is a pipe.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PlacesError(f"{path} is no file")
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
        about = os.fstat(file.fileno())
        if about.st_size > FILE_BYTES_MAX:
            raise PlacesError(f"{path} has more than {FILE_BYTES_MAX >> 30} GiB")
        data = file.readall()
        if len(data) != about.st_size or _signature(os.fstat(file.fileno())) != _signature(about):
            raise PlacesError(f"{path} is being written")
    try:
        reader = Reader(io.BytesIO(data), MODE_FD)
        told = any(_packed(record) != NOWHERE for record in list(_sampled(reader)))
    except Exception as error:
        raise PlacesError(f"{path} is not in MaxMind's format, or damaged") from error
    if not told:
        raise PlacesError(f"{path} ({str(reader.metadata().database_type)[:100]!r}) tells no places")
    return reader


def _sampled(reader: Reader) -> Iterator[object]:
    """Records from the beginning of a file, and from all over it, which damage in its middle does not pass."""
    yield from _sampled_from(reader, ipaddress.IPv4Address(0))
    if reader.metadata().ip_version == 6:
        yield from _sampled_from(reader, ipaddress.IPv6Address("2000::"))


def _sampled_from(reader: Reader, first: Address) -> Iterator[object]:
    bits = first.max_prefixlen
    at = first
    for _ in range(SAMPLED):
        record, length = reader.get_with_prefix_len(at)
        yield record
        if int(at) + (1 << (bits - length)) >> bits:
            break
        at += 1 << (bits - length)
    step = 1 << (bits - (8 if bits == 32 else 12))
    for part in range(256):
        yield reader.get(first + part * step + 1)


def _why(path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is no memory for {path}"
    return str(error) if isinstance(error, PlacesError) else f"{path!r} is no path"


def _signature(about: os.stat_result) -> Signature:
    """What differs where a file was replaced or written to."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _packed(record: object) -> Raw:
    if not isinstance(record, dict):
        return NOWHERE
    return Raw(encoded(*of_record(record)))


def of_record(record: dict[str, Any]) -> tuple[str, str, str]:
    """Country, region and city of a file's record, whatever it holds; each '' where it does not say."""
    country = record.get("country")
    code = _text(country.get("iso_code") if isinstance(country, dict) else country)
    if len(code) != 2:
        code = _text(record.get("country_code"))
    parts = record.get("subdivisions")
    first = parts[0] if isinstance(parts, list) and parts else record.get("region") or record.get("state1")
    return (
        code.upper() if len(code) == 2 and code.isalpha() and code.isascii() else "",
        _name(first),
        _name(record.get("city")),
    )


def _name(value: object) -> str:
    """An English name, else a code, of a city or a subdivision; some files have a text there."""
    if not isinstance(value, dict):
        return _text(value)
    names = value.get("names")
    return _text(names.get("en") if isinstance(names, dict) else None) or _text(value.get("iso_code"))


def _text(value: object) -> str:
    """A text; some files have a dash where they know nothing."""
    return value[:LENGTH_MAX] if isinstance(value, str) and value != "-" else ""
