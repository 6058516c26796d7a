"""Signed datagrams: which they are, what they sign, and whether that is true.

The first line of a datagram may sign all the rest of it; the lines behind it are as ever (datagram.py):

    {"signature":"5b8e…","at":1790000000000,"writeKey":"pub_…"}
    {"writeKey":"pub_…","type":"identify","anonymousId":"anon-1","userId":"user-1"}

    key      the secret's text, as `pugd keys sign` printed it
    signed   `at` in decimal, a line feed, and the very bytes from behind the first line feed to the datagram's end
    told     HMAC-SHA256 of that, 64 digits in lower case

Where a datagram ends is the edge's to say, never the sender's, so no signature reaches into a neighbour's. A line that
names an id is an event, whatever else it has. Pure; raises nothing.
"""

from __future__ import annotations

import hmac
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from pugd import errors
from pugd.model import Refusal

AWAY_MS_MAX: Final = 5 * 60 * 1000
"""How far `at` may be from when the datagram came: whoever recorded one cannot link by it later than that."""
LINE_BYTES_MAX: Final = 4096
"""A longer line signs nothing: the longest write key, all escapes, fits in."""
_MARK: Final = b'"signature"'


class _Line(Struct, gc=False):
    signature: Raw | UnsetType = UNSET
    at: Raw | UnsetType = UNSET
    writeKey: str | None = None  # noqa: N815 - the wire's own names
    userId: Raw | UnsetType = UNSET  # noqa: N815
    anonymousId: Raw | UnsetType = UNSET  # noqa: N815


class Signed(Struct, frozen=True, gc=False):
    """What a signing line says, unproven, and what it is of."""

    write_key: str
    signature: Raw
    at: Raw
    """As they were sent; empty where they were not."""
    lines: bytes
    """What is signed, but for `at`."""


class Part(Struct, frozen=True, gc=False):
    """Some datagrams of a wake-up, end to end: one that begins with a signing line, or a run of others."""

    lines: bytes
    """All of it."""
    signed: Signed | None = None


_line = msgspec.json.Decoder(_Line)
_number = msgspec.json.Decoder(int)
_text = msgspec.json.Decoder(str)


def parts(lines: bytes, offsets: Sequence[int]) -> list[Part]:
    """Take a wake-up's datagrams apart where some begin with a signing line.

    `offsets`  datagram i is lines[offsets[i]:offsets[i + 1]], the last byte the edge's line feed; empty: none is signed
    cost       a search in `lines`, half a nanosecond a byte; a microsecond for each that may be signed
    """
    found: list[Part] = []
    done = 0
    at = lines.find(_MARK) if offsets else -1
    while at >= 0:
        number = bisect_right(offsets, at)
        begin, end = offsets[number - 1], offsets[number]
        signed = _read(lines[begin : end - 1], at - begin)
        if signed is not None:
            if done < begin:
                found.append(Part(lines[done:begin]))
            found.append(Part(lines[begin:end], signed))
            done = end
        at = lines.find(_MARK, end)
    if done < len(lines):
        found.append(Part(lines[done:] if done else lines))
    return found


def _read(datagram: bytes, mark: int) -> Signed | None:
    """What its first line signs; None where that is no signing line. `mark`: where the first mark in it is"""
    head, _, rest = datagram.partition(b"\n")
    if mark > len(head) or len(head) > LINE_BYTES_MAX:
        return None
    try:
        line = _line.decode(head)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if line.signature is UNSET or not line.writeKey or line.userId is not UNSET or line.anonymousId is not UNSET:
        return None
    return Signed(line.writeKey, line.signature, Raw(b"") if line.at is UNSET else line.at, rest)


def proven(signed: Signed, secret: str, now: int) -> str | Refusal:
    """Is it signed with `secret`, at about `now`, ms?

    returns  the signature, which is of these bytes and this `at` alone; or why not
    cost     2 µs, and 1 more for each kilobyte or two; no longer for a signature that is nearly right
    """
    try:
        at, said = _number.decode(signed.at), _text.decode(signed.signature)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _wrong("at must be a whole number, of milliseconds since 1970, and signature a text.", "at")
    if not signed.lines:
        return _wrong("Nothing follows the signing line: send it and what it signs as one datagram.", "signature")
    if abs(at - now) > AWAY_MS_MAX:
        return _wrong(
            "at is more than 5 minutes away from when it came: sign with the time of now, in milliseconds, and look "
            "at the sender's clock.",
            "at",
        )
    expected = made(secret, at, signed.lines)
    if not hmac.compare_digest(expected.encode(), said.encode("utf-8", "surrogatepass")):
        return _wrong(
            "signature is not the HMAC-SHA256, in lower-case hex, of at, a line feed and the exact bytes behind the "
            "first line: look at the secret (`pugd keys sign` makes another) and at the last line feed.",
            "signature",
        )
    return expected


def made(secret: str, at: int, lines: bytes) -> str:
    """The signature of `lines` at `at`, ms."""
    return hmac.digest(secret.encode(), b"%d\n%b" % (at, lines), "sha256").hex()


def _wrong(message: str, field: str) -> Refusal:
    return Refusal(errors.INVALID_SIGNATURE, message, field)
