"""GET /pugd.js: our own library for browsers, as the bytes that are sent, made once.

The source is pugd.js beside this file, readable and with its comments. What is served is without the comments and the
spaces that mean nothing, gzipped for whoever takes that; nothing is compiled or renamed, so an error in a browser names
what stands here. A browser keeps it for an hour and then asks by its ETag.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Final

from pugd.edge.head import Head
from pugd.edge.response import response

NAME: Final = "snippet"
"""Its handler in routes.py."""
AGE_S: Final = 3600
"""A browser has a new pugd's script an hour after the upgrade at most, or two page views after it."""

_REFUSED_GZIP: Final = re.compile(rb"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|\Z)")


_OUTSIDE_QUOTES: Final = re.compile(r"('[^'\n]*')|[ ]*([=+\-*/%<>&|?:,;(){}\[\]!]+)[ ]*")


def stripped(source: str) -> str:
    """Without comments, which stand on lines of their own, indentation, and spaces around operators.

    `source`  quotes with ' alone, has no space in a regular expression, and no `+ +`: tests/edge/test_snippet.py
    """
    lines = (line.strip() for line in source.splitlines())
    code = "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))
    return _OUTSIDE_QUOTES.sub(lambda found: found[1] or found[2], code)


SCRIPT: Final = stripped(Path(__file__).with_name("pugd.js").read_text("ascii")).encode()
PACKED: Final = gzip.compress(SCRIPT, 9, mtime=0)
TAG: Final = f'W/"{hashlib.sha256(SCRIPT).hexdigest()[:20]}"'
"""Weak, since it stands for the packed form too."""

_KEPT: Final = (
    ("Cache-Control", f"public, max-age={AGE_S}, stale-while-revalidate={24 * AGE_S}"),
    ("ETag", TAG),
    # Also without an Origin in the request: what a cache kept then has no Access-Control-Allow-Origin.
    ("Vary", "Accept-Encoding, Origin"),
)
_WHOLE: Final = (*_KEPT, ("Cross-Origin-Resource-Policy", "cross-origin"), ("X-Content-Type-Options", "nosniff"))
_TYPE: Final = "text/javascript; charset=utf-8"
_PLAIN_ANSWER: Final = response(200, SCRIPT, content_type=_TYPE, headers=_WHOLE)
_PACKED_ANSWER: Final = response(200, PACKED, content_type=_TYPE, headers=(*_WHOLE, ("Content-Encoding", "gzip")))
_UNCHANGED: Final = response(304, headers=_KEPT)


def answer(head: Head) -> bytes:
    """What a GET or HEAD is answered; one of three constants. The edge adds CORS for its Origin."""
    if head.if_none_match is not None and _is_same(head.if_none_match):
        return _UNCHANGED
    return _PACKED_ANSWER if _takes_gzip(head.accept_encoding) else _PLAIN_ANSWER


def _is_same(tags: bytes) -> bool:
    """Weak comparison, RFC 9110, 8.8.3.2."""
    ours = TAG.removeprefix("W/").encode()
    return any(tag.strip().removeprefix(b"W/") in (ours, b"*") for tag in tags.split(b","))


def _takes_gzip(accepted: bytes | None) -> bool:
    if accepted is None:
        return False
    accepted = accepted.lower()
    return re.search(rb"(?:\A|[,\s])gzip\b", accepted) is not None and _REFUSED_GZIP.search(accepted) is None
