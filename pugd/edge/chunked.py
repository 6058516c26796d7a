"""A chunked body (RFC 9112, section 7.1) → its bytes, strictly.

    chunk   = 1*HEXDIG *( ";" token [ "=" ( token / quoted-string ) ] ) CRLF  data CRLF      last: size 0, then trailers

Refused: a size with sign, prefix or space, none, or too long; an extension that is not of this form (a line feed in it
above all); data not followed by exactly CR LF; a trailer that is not a header. Trailers are read past. Decoding says
where the body ends, so that what follows is the next request and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from pugd.edge.response import Refused, invalid, refused
from pugd.errors import TOO_LARGE

LINE_BYTES_MAX: Final = 1024
"""Of a size with its extensions, or of a trailer."""
TRAILERS_BYTES_MAX: Final = 8192
CHUNKS_COUNT_MAX: Final = 65_536
"""About 1 µs each: bounds what a body in one-byte chunks may cost."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*",
)
_TRAILER: Final = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")


class ChunkedBody:
    """One body as it arrives. `body` is what was decoded; `done` once the last trailer was read."""

    __slots__ = ("_after_data", "_bytes_max", "_chunks", "_left", "_line", "_trailers", "body", "done", "raw_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.body = bytearray()
        self.done = False
        self.raw_bytes = 0
        """What was taken so far, framing included."""
        self._bytes_max = bytes_max
        self._left = 0
        self._after_data = False
        self._line = b""
        self._trailers = -1
        self._chunks = 0

    def take(self, data: bytes | bytearray | memoryview, at: int, end: int) -> int | Refused:
        """Decode data[at:end].

        returns  how far it was taken: `end`, or less when the body is done; or a Refused, and then nothing more can be
                 read from this connection
        """
        began = at
        view = memoryview(data)
        while at < end and not self.done:
            if self._left:
                count = min(self._left, end - at)
                self.body += view[at : at + count]
                self._left -= count
                self._after_data = not self._left
                at += count
                continue
            count, line = self._take_line(view, at, end)
            at += count
            if line is None:
                if len(self._line) > LINE_BYTES_MAX:
                    return invalid("a line of the chunked body is too long")
                if self._after_data and self._line[:1] not in (b"", b"\r"):
                    return invalid("a chunk is longer than its size says")
                break
            wrong = self._after(line)
            if wrong is not None:
                return wrong
        self.raw_bytes += at - began
        if self.raw_bytes > 2 * self._bytes_max + TRAILERS_BYTES_MAX:
            return refused(413, TOO_LARGE, "the chunks' sizes and extensions are longer than what they carry")
        return at

    def _take_line(self, view: memoryview, at: int, end: int) -> tuple[int, bytes | None]:
        """How much was taken, and the line without its CR LF once it is whole."""
        kept = len(self._line)
        piece = self._line + bytes(view[at : min(end, at + LINE_BYTES_MAX + 2 - min(kept, LINE_BYTES_MAX))])
        stop = piece.find(b"\r\n")
        if stop < 0:
            self._line = piece
            return len(piece) - kept, None
        self._line = b""
        return stop + 2 - kept, piece[:stop]

    def _after(self, line: bytes) -> Refused | None:
        if self._after_data:
            if line:
                return invalid("a chunk is longer than its size says")
            self._after_data = False
            return None
        if self._trailers >= 0:
            self._trailers += len(line) + 2
            if not line:
                self.done = True
            elif self._trailers > TRAILERS_BYTES_MAX:
                return invalid("too many trailers", 431)
            elif _TRAILER.fullmatch(line) is None:
                return invalid("a trailer of the chunked body is not a header")
            return None
        size = _SIZE.fullmatch(line)
        if size is None:
            return invalid("the size of a chunk is not hexadecimal digits")
        self._left = int(size[1], 16)
        self._chunks += 1
        if self._left == 0:
            self._trailers = 0
        elif len(self.body) + self._left > self._bytes_max:
            return refused(413, TOO_LARGE, f"a body may be at most {self._bytes_max} bytes long")
        elif self._chunks > CHUNKS_COUNT_MAX:
            return refused(413, TOO_LARGE, f"a body may come in at most {CHUNKS_COUNT_MAX} chunks")
        return None
