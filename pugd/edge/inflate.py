"""A body as it was before its sender compressed it, never longer than allowed.

`Content-Encoding` is a hint: some senders compress without saying so, so a body that begins like gzip is inflated
whatever its headers say (`1f 8b` begins no JSON, form or text). Inflating stops at the bound, so a bomb costs no more
than a large body does.
"""

from __future__ import annotations

import zlib
from typing import Final

from pugd.edge.response import Refused, refused
from pugd.errors import INVALID_REQUEST, TOO_LARGE, UNSUPPORTED_ENCODING

ACCEPTED: Final = "gzip, deflate"
_AT_ONCE_BYTES_MAX: Final = 1 << 20


def inflate(data: bytes, encoding: bytes | None, bytes_max: int) -> bytes | Refused:
    """`data` inflated as `encoding` (lower case, None where not given) or its first bytes say.

    returns  the very same object where nothing was compressed; a Refused: damaged, longer than `bytes_max` inflated, or
             of an encoding not accepted
    cost     none for plain bodies; else zlib's, and a copy where it inflates to over 1 MiB
    """
    if encoding is None or encoding == b"identity":
        return _gunzip(data, bytes_max) if data[:2] == b"\x1f\x8b" else data
    if encoding in (b"gzip", b"x-gzip"):
        if data[:2] != b"\x1f\x8b" and data[:1] in (b"{", b"["):
            return data  # said to be gzip, but a proxy on the way inflated it and left the header
        return _gunzip(data, bytes_max)
    if encoding == b"deflate":
        # zlib by RFC 9110; some senders mean the bare stream.
        whole = _inflated(data, zlib.MAX_WBITS, bytes_max)
        return _inflated(data, -zlib.MAX_WBITS, bytes_max) if whole is _DAMAGED else whole
    return refused(
        415,
        UNSUPPORTED_ENCODING,
        f"Content-Encoding {encoding[:40].decode('latin-1')!r} is not taken; send {ACCEPTED} or none",
    )


def _gunzip(data: bytes, bytes_max: int) -> bytes | Refused:
    """All members of a gzip file, one behind another."""
    return _inflated(data, 16 + zlib.MAX_WBITS, bytes_max)


_DAMAGED: Final = refused(400, INVALID_REQUEST, "the compressed body is damaged or incomplete")


def _inflated(data: bytes, wbits: int, bytes_max: int) -> bytes | Refused:
    parts: list[bytes] = []
    length = 0
    rest = data
    while True:
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            try:
                # One byte more than allowed tells too long from just long enough.
                part = stream.decompress(rest, min(_AT_ONCE_BYTES_MAX, bytes_max + 1 - length))
            except zlib.error:
                return _DAMAGED
            rest = stream.unconsumed_tail
            length += len(part)
            if length > bytes_max:
                return refused(413, TOO_LARGE, f"a body may be at most {bytes_max} bytes long, inflated")
            if part:
                parts.append(part)
            elif not stream.eof and not rest:
                return _DAMAGED  # it ends in the middle
        rest = stream.unused_data
        if wbits < 16 or rest[:2] != b"\x1f\x8b":
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)
