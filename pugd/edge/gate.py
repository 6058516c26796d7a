"""Who sends, from where and how much: a write key → what it opens, or a Refusal.

Where in a head a key may stand is the route's to say (`Ways`), such as the user name of `Authorization: Basic` and
`?writeKey=`, in this order; in a body it is the dialect's to find. Public keys are looked up as they are. Secret ones
(`prv_…`) are kept hashed, so the look-up hashes what was given: a table read by others opens nothing.

A key opens for the web pages that its owner allows (origins.py), until it is revoked or its time is over, and for as
many events as its limits let through (meter.py). `open` judges what does not change from one request to the next, so
that it can be kept with a head; `admit` is asked of each request, and `count` told of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from msgspec import Struct

from pugd.edge import origins
from pugd.edge.form import field
from pugd.edge.meter import Meter
from pugd.errors import FORBIDDEN, INVALID_KEY
from pugd.model import KeyUsage, Refusal, WriteKey

SECRET: Final = "prv_"  # noqa: S105 - the prefix, not a secret
KEY_BYTES_MAX: Final = 512

MISSING: Final = Refusal(
    INVALID_KEY,
    "no write key: send it where your client library does, such as the user name of Basic authorization, or writeKey "
    "in the body",
)
UNKNOWN: Final = Refusal(
    INVALID_KEY, "unknown write key: take one of those that `pugd keys list` shows as in force; a read key only asks"
)
IN_QUERY: Final = Refusal(
    INVALID_KEY, "a secret key has no place in a query, since logs keep those: send it as the header X-Api-Key"
)


def _elsewhere(origin: bytes) -> Refusal:
    return Refusal(
        FORBIDDEN,
        f"this write key may not send from {origin[:200].decode('latin-1')}: its owner allows other origins "
        "(`pugd keys limit` changes that)",
        "Origin",
    )


def hashed(key: str) -> str:
    """What a secret key is kept and looked up as."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Ways(Struct, frozen=True):
    """Where in a head a key may stand."""

    basic: bool = False
    """The user name of `Authorization: Basic`."""
    bearer: bool = False
    """`Authorization: Bearer`."""
    api_key: bool = False
    """`X-Api-Key`."""
    query: tuple[bytes, ...] = ()
    """Names in the query."""
    public_query: bool = False
    """A secret key in the query opens nothing."""
    account: bytes = b""
    """Where the query names this, a user name that is no key is an account's: it opens nothing, and the body has the
    key."""


SEGMENT: Final = Ways(basic=True, query=(b"writeKey",))
IMPORT: Final = Ways(basic=True, query=(b"api_key",), account=b"project_id")
"""Mixpanel's /import."""
PUG: Final = Ways(api_key=True, query=(b"api_key",), public_query=True)


def key_in_authorization(authorization: bytes, ways: Ways = SEGMENT) -> str | None:
    """The user name of Basic credentials, where a missing colon is put up with, or a Bearer token. None: neither, or
    not readable."""
    scheme, _, credentials = authorization.partition(b" ")
    scheme, credentials = scheme.lower(), credentials.strip()
    try:
        if scheme == b"bearer" and ways.bearer:
            return credentials.decode()
        if scheme == b"basic" and ways.basic:
            plain = base64.b64decode(credentials + b"=" * (-len(credentials) % 4), validate=True)
            return plain.partition(b":")[0].decode()
    except (binascii.Error, ValueError):
        pass
    return None


def key_in_query(query: bytes, names: tuple[bytes, ...] = SEGMENT.query) -> str | None:
    """The value of the first of these names that the query has; None if it has none."""
    for name in names:
        key = field(query, name)
        if key is not None:
            return key
    return None


class Gate:
    """The keys that open, and what known Authorization headers opened. `keys` maps a public key as it is, and a secret
    one `hashed`, to what it opens."""

    CACHED_COUNT_MAX: Final = 10_000

    def __init__(self, keys: dict[str, WriteKey]) -> None:
        self._keys = keys
        self._opened: dict[tuple[bytes, Ways], WriteKey] = {}
        self._meters: dict[int, Meter] = {}
        self.signs = any(key.signing for key in keys.values())
        """Is there a key whose datagrams are signed? Else nobody need look for signatures."""
        self.generation = 0
        """Goes up with every `replace`: what was worked out of an older one no longer holds."""

    def replace(self, keys: dict[str, WriteKey]) -> None:
        """From now on these keys open. What was counted of those that stay, stays."""
        self._keys = keys
        self.signs = any(key.signing for key in keys.values())
        self._opened = {}
        self.generation += 1
        known = {key.id: key for key in keys.values()}
        self._meters = {id_: meter for id_, meter in self._meters.items() if id_ in known}
        for id_, meter in self._meters.items():
            meter.set(known[id_])

    def expire(self, now: int) -> None:
        """Shut out keys whose time is over, `now` in ms: call now and then."""
        if any(0 < key.until <= now for key in self._keys.values()):
            self.replace({text: key for text, key in self._keys.items() if not 0 < key.until <= now})

    def admit(self, key: WriteKey, now: int) -> Refusal | None:
        """Why nothing may be sent with an opened key at `now`, ms; None: it may.

        cost     0.1 µs, asked of each request whose key has limits
        """
        meter = self._meters.get(key.id)
        if meter is None:
            meter = self._meters[key.id] = Meter(key)
        return meter.over(now) if meter.limited else None

    def count(self, key: WriteKey, events: int, now: int) -> None:
        """So many events of an opened and admitted key were taken at `now`; a negative number was not after all."""
        meter = self._meters.get(key.id)
        if meter is None:
            meter = self._meters[key.id] = Meter(key)
        meter.count(events, now)

    def usage(self) -> dict[int, KeyUsage]:
        """How much keys were used, by their number."""
        return {id_: meter.usage() for id_, meter in self._meters.items() if id_ and meter.last_used}

    def restore(self, usage: dict[int, KeyUsage]) -> None:
        """Go on from what an earlier process counted."""
        for key in self._keys.values():
            if key.id in usage:
                meter = self._meters.setdefault(key.id, Meter(key))
                meter.restore(usage[key.id])

    def open(self, key: str, origin: bytes | None = None) -> WriteKey | Refusal:
        """What `key` opens for who sends from `origin` (a browser's word; None: no browser).

        Every key passes here, whether it stood in a head or in a body: what else may be asked of a key and of who sends
        with it is asked here.
        cost     one look-up, and a SHA-256 for a secret key
        """
        if not key:
            return MISSING
        if len(key) > KEY_BYTES_MAX:
            return UNKNOWN
        found = self._keys.get(hashed(key) if key.startswith(SECRET) else key)
        if found is None or found.secret != key.startswith(SECRET):
            return UNKNOWN
        if origin is not None and found.origins and not origins.allows(found.origins, origin):
            return _elsewhere(origin)
        return found

    def key_of(
        self,
        authorization: bytes | None,
        query: bytes,
        ways: Ways = SEGMENT,
        api_key: bytes | None = None,
        origin: bytes | None = None,
    ) -> WriteKey | Refusal | None:
        """What the key of a request's head opens; None where the head has none and the body must."""
        if authorization is not None:
            opened = self._opened.get((authorization, ways)) if origin is None else None
            if opened is not None:
                return opened
            key = key_in_authorization(authorization, ways)
            if key:
                found = self.open(key, origin)
                if isinstance(found, WriteKey) and origin is None and len(self._opened) < self.CACHED_COUNT_MAX:
                    self._opened[authorization, ways] = found
                is_account = found is UNKNOWN and not key.startswith(SECRET) and ways.account
                if not (is_account and field(query, ways.account)):
                    return found
        if api_key and ways.api_key:
            return self.open(api_key.decode("utf-8", "replace"), origin)
        if query:
            key = key_in_query(query, ways.query)
            if key is not None:
                return IN_QUERY if ways.public_query and key.startswith(SECRET) else self.open(key, origin)
        return None
