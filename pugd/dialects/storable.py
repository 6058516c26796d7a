"""Can ClickHouse store this JSON? Asked of every body before it is acked, so that nothing acked is refused later.

One C pass (native/scan.h, where the rules are written) over the whole text, with the GIL released: half a nanosecond a
byte. A dialect calls `scan` once for a request's body; only where that fails does it ask again for each event alone,
so that one bad event refuses itself and not its batch. What is storable is taken as it is, byte for byte, but for two
flags: `duplicate_keys` asks for `mend` on the object before it is kept; `nul` tells that a \\u0000 is in the text,
which JSON columns take and a plain string may carry.

Measured on ClickHouse 26.9 (a JSON column, with the settings of store/clickhouse.py). Refused there, hence here:
numbers beyond a double, lone surrogates, raw control characters, leading zeros, an empty text, text that is no object
(`Scan.is_object` tells; a body or an event must be one, a trait's value need not). Taken there, hence here: \\u0000,
empty keys, integers of any length (kept as text), numbers too small for a double (as 0), a byte order mark inside a
string. Columns escape a dot in a key as `%2E`, so a key that holds `%2E` reads back with a dot, and where one object
has both spellings the first stays.
"""

from __future__ import annotations

import json
import os
from typing import Final

import msgspec

from pugd import errors
from pugd._native import ffi, lib

_SEED: Final = int.from_bytes(os.urandom(8), "little")
"""Of the hashes of keys: secret, so that nobody can aim at collisions."""


class Scan(msgspec.Struct, frozen=True, gc=False):
    """What one pass over a text found."""

    code: str = ""
    """'' where the text is storable, else a code of errors.py; the rest is then about the fault."""
    offset: int = 0
    """Of the faulty byte; the text's length where it ended too early."""
    message: str = ""
    """What is wrong and how to mend it."""
    duplicate_keys: bool = False
    """Some object names a key twice: `mend` it first."""
    nul: bool = False
    """There is a \\u0000 in some string."""
    is_object: bool = False
    many: bool = False
    """It has more keys, or more values, than are read one by one without holding everybody up (native/scan.h)."""

    @property
    def storable(self) -> bool:
        return not self.code


_STORABLE: Final = tuple(
    Scan(duplicate_keys=bool(flags & 1), nul=bool(flags & 2), is_object=bool(flags & 4), many=bool(flags & 8))
    for flags in range(16)
)

_EMPTY, _ENDED, _TOO_DEEP, _MEMORY = 1, 2, 12, 15

_MESSAGES: Final = {
    _EMPTY: "The text is empty: send a JSON object.",
    _ENDED: "The JSON text ends too early, at byte {offset}: send it whole, every string, object and array closed.",
    3: "Byte {offset} is {found}, which JSON does not allow there: quote strings with double quotes, put commas "
    "between values and none after the last.",
    4: "The JSON value ends before byte {offset}, where {found} follows: send one value and nothing after it.",
    5: "Byte {offset} is {found}, which is not valid UTF-8 there: encode the text as UTF-8.",
    6: "Byte {offset} is {found}, a control character inside a string: write it escaped, such as \\n or \\u0001.",
    7: 'The escape at byte {offset} is none that JSON has: use \\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and four '
    "hexadecimal digits.",
    8: "The escape at byte {offset} is half of a surrogate pair: write both halves, or leave the character out.",
    9: "The number at byte {offset} is not as JSON writes numbers: digits, at most one point with digits on both "
    "sides, an exponent after e, no plus sign before.",
    10: "The number at byte {offset} begins with a zero: leave leading zeros out, or send it as a string.",
    11: "The number at byte {offset} is not finite as a double (at most 1.797e308; NaN and Infinity are none): send "
    "null, or a string.",
    _TOO_DEEP: "Byte {offset} opens more than 64 objects and arrays inside one another: send a flatter object.",
    13: "The text begins with a byte order mark: leave its three bytes out.",
    14: "Byte {offset} is {found}, where an object's key must stand: a string in double quotes, and no comma after the "
    "last member.",
}


def scan(data: bytes | bytearray | memoryview) -> Scan:
    """Look at a whole JSON text.

    returns  a Scan: storable, with flags; or a code, an offset and a message
    raises   MemoryError where an object has more keys than memory allows; nothing is then known about the text
    cost     half a nanosecond a byte, 0.3 µs a call; the GIL released
    """
    result: int = lib.pugd_scan(data if type(data) is bytes else ffi.from_buffer(data), len(data), _SEED)
    code = result & 0xFF
    if not code:
        return _STORABLE[result >> 8 & 15]
    if code == _MEMORY:
        raise MemoryError("scanning JSON: no memory for the keys of one object")
    offset = result >> 16
    message = _MESSAGES[code].format(offset=offset, found=_found(data, offset))
    return Scan(errors.TOO_DEEP if code == _TOO_DEEP else errors.INVALID_JSON, offset, message)


def mend(data: bytes | bytearray | memoryview) -> bytes:
    """The same JSON value, each object's keys once: the last of equal keys wins, in the place of the first.

    `data` must be storable. Numbers keep their text; strings keep their characters, not their escapes.
    The slow path: some ten times the cost of `scan`, for the rare client that writes a key twice.
    """
    return msgspec.json.encode(json.loads(bytes(data).decode(), parse_int=msgspec.Raw, parse_float=msgspec.Raw))


def _found(data: bytes | bytearray | memoryview, offset: int) -> str:
    if offset >= len(data):
        return "the end"
    byte = data[offset]
    return repr(chr(byte)) if 0x20 < byte < 0x7F else f"0x{byte:02x}"
