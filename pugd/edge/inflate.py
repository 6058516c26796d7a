"""A body as it was before its sender compressed it, never longer than allowed.

`Content-Encoding` is a hint: some senders compress without saying so, and some proxies inflate and leave the header. So
a body that begins like gzip or Zstandard is inflated whatever its headers say (those bytes begin no JSON, form or
text), and one that begins like JSON is taken as it is, whatever they say. Inflating stops at the bound, and earlier
where a body grows more than deflate could, so a bomb costs no more than a large body does.
"""

from __future__ import annotations

import sys
import zlib
from typing import Final, Protocol

import brotli

from pugd.edge.response import Refused, refused
from pugd.errors import INVALID_REQUEST, TOO_LARGE, UNSUPPORTED_ENCODING

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ACCEPTED: Final = "gzip, deflate, br, zstd"
RATIO_MAX: Final = 1100
"""A little more than deflate can do (1032). Brotli and Zstandard can do ten thousands, with zeros and nothing else."""
_AT_ONCE_BYTES_MAX: Final = 1 << 20
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB, the most that RFC 9659 allows over HTTP; a window is allocated before anything is known of the rest."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PLAIN: Final = (b"{", b"[", b"data=")


def inflate(data: bytes, encoding: bytes | None, bytes_max: int) -> bytes | Refused:
    """`data` inflated as `encoding` (lower case, None where not given) or its first bytes say.

    returns  the very same object where nothing was compressed; a Refused: damaged, longer than `bytes_max` inflated, or
             of an encoding not accepted
    cost     none for plain bodies; else the library's, and a copy where it inflates to over 1 MiB
    """
    if data.startswith(_GZIP):
        return _gunzip(data, bytes_max)
    if encoding is None or encoding == b"identity":
        return _streamed(_Zstd(), data, bytes_max) if data.startswith(_ZSTD) else data
    if encoding not in (b"gzip", b"x-gzip", b"deflate", b"br", b"zstd"):
        return refused(
            415,
            UNSUPPORTED_ENCODING,
            f"Content-Encoding {encoding[:40].decode('latin-1')!r} is not taken; send {ACCEPTED} or none",
        )
    if data.startswith(_ZSTD):
        found = _streamed(_Zstd(), data, bytes_max)
    elif encoding == b"deflate":
        # zlib by RFC 9110; some senders mean the bare stream.
        found = _inflated(data, zlib.MAX_WBITS, bytes_max)
        if found is _DAMAGED:
            found = _inflated(data, -zlib.MAX_WBITS, bytes_max)
    elif encoding == b"br":
        found = _streamed(_Brotli(), data, bytes_max)
    else:
        found = _DAMAGED
    return data if found is _DAMAGED and data.startswith(_PLAIN) else found


def _gunzip(data: bytes, bytes_max: int) -> bytes | Refused:
    """All members of a gzip file, one behind another."""
    return _inflated(data, 16 + zlib.MAX_WBITS, bytes_max)


_DAMAGED: Final = refused(400, INVALID_REQUEST, "the compressed body is damaged or incomplete")


class _Stream(Protocol):
    """What the decompressors of Brotli and Zstandard have in common."""

    ended: bool

    def more(self, data: bytes, bytes_max: int) -> bytes:
        """What comes next, of about `bytes_max` at most. raises brotli.error, zstd.ZstdError"""


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self.ended = False

    def more(self, data: bytes, bytes_max: int) -> bytes:
        part: bytes = self._stream.process(data, output_buffer_limit=bytes_max)
        self.ended = self._stream.is_finished()
        return part


class _Zstd:
    """The first frame; senders send one."""

    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        self.ended = False

    def more(self, data: bytes, bytes_max: int) -> bytes:
        part = self._stream.decompress(data, max_length=bytes_max)
        self.ended = self._stream.eof
        return part


def _streamed(stream: _Stream, data: bytes, bytes_max: int) -> bytes | Refused:
    most = min(bytes_max, max(_AT_ONCE_BYTES_MAX, RATIO_MAX * len(data)))
    parts: list[bytes] = []
    length = 0
    try:
        while not stream.ended:
            part = stream.more(b"" if parts else data, min(_AT_ONCE_BYTES_MAX, most + 1 - length))
            length += len(part)
            if length > most:
                return _too_long(bytes_max)
            if not part and not stream.ended:
                return _DAMAGED  # it ends in the middle
            parts.append(part)
    except (brotli.error, zstd.ZstdError):
        return _DAMAGED
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_long(bytes_max: int) -> Refused:
    return refused(413, TOO_LARGE, f"a body may be at most {bytes_max} bytes long, inflated")


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
                return _too_long(bytes_max)
            if part:
                parts.append(part)
            elif not stream.eof and not rest:
                return _DAMAGED  # it ends in the middle
        rest = stream.unused_data
        if wbits < 16 or rest[:2] != b"\x1f\x8b":
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)
