"""What a dialect is: a module that understands one way clients speak, and answers as they need to be answered.

`decode` makes messages of bytes (message.py, which makes rows of them for all dialects), `success` and `failure` make
the answer. All are pure, and none raises: what a sender did wrong is a Refusal. What differs between clients is most of
all the answer: one sends for ever what another drops, so each dialect says how its clients take a thing for final, and
how for "come again later".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import Struct

from pugd.dialects.message import Decoded
from pugd.model import Ack, Refusal

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Asked(Struct, frozen=True, gc=False):
    """What a request says beside its body: of its path, its query and its headers."""

    call: str
    """What the path says of the body (edge/routes.py): 'batch', 'track' …"""
    query: bytes = b""
    """As sent."""
    part: str = ""
    """What the path holds in the place of its star: a write key."""
    base: str = ""
    """Where the client found us, such as `https://events.example.com`; from X-Forwarded-… where a proxy says so."""
    content_type: str = ""
    user_agent: str = ""
    from_browser: bool = False
    """It has an `Origin` or a `Sec-Fetch-Site` header: user_agent is a browser's."""
    origin: bytes | None = None
    more: Mapping[bytes, bytes] = MappingProxyType({})
    """Headers that one dialect alone wants (edge/head.py), by lower-case name."""
    form: Mapping[str, str] = NOTHING
    """What came beside `data=` where the body was a form, or where the query carried the events."""


class Reply(Struct, frozen=True, gc=False):
    """What a client is told. A 429 or a 503 gets its `Retry-After` where answers are made bytes of."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Dialect(Protocol):
    """A module of this folder."""

    def decode(self, body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
        """Read a request's body, inflated and out of its form (edge/form.py).

        returns  its messages; or one Refusal for the whole; or the Reply, where nothing is to be kept
        """

    def constant(self, asked: Asked) -> Reply | None:
        """The answer to every request with this head of which all was taken; None where it depends on the body."""

    def success(self, ack: Ack, asked: Asked) -> Reply:
        """The answer where at least something was taken."""

    def failure(self, status: int, ack: Ack, asked: Asked) -> Reply:
        """The answer where nothing was.

        `status`  what it is in HTTP's own words: 401, 413, 503 …; a dialect whose clients read another, gives that
        `ack`     its `failed` says why
        """

    def is_mine(self, body: bytes, asked: Asked) -> bool:
        """Does this body speak this dialect? Asked only on paths that several share; never expensive."""
