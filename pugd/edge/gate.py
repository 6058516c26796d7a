"""Who sends: a write key → the project it opens, or a Refusal.

A key comes as the user name of `Authorization: Basic`, as `?writeKey=`, or in the body, in this order; the last is the
dialect's to find. Public keys are looked up as they are. Secret ones (`prv_…`) are kept hashed, so the
look-up hashes what was given: a table read by others opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final
from urllib.parse import unquote_to_bytes

from pugd.errors import INVALID_KEY
from pugd.model import Refusal, WriteKey

SECRET: Final = "prv_"  # noqa: S105 - the prefix, not a secret
KEY_BYTES_MAX: Final = 512

MISSING: Final = Refusal(
    INVALID_KEY,
    "no write key: send it as the user name of Basic authorization, as writeKey in the body, or as ?writeKey=",
)
UNKNOWN: Final = Refusal(
    INVALID_KEY, "unknown write key: take one of those that `pugd keys list` shows as in force; a read key only asks"
)


def hashed(key: str) -> str:
    """What a secret key is kept and looked up as."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_in_authorization(authorization: bytes) -> str | None:
    """The user name of Basic credentials; a missing colon is put up with. None: not Basic, or not readable."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    credentials = credentials.strip()
    try:
        plain = base64.b64decode(credentials + b"=" * (-len(credentials) % 4), validate=True)
        return plain.partition(b":")[0].decode()
    except (binascii.Error, ValueError):
        return None


def key_in_query(query: bytes) -> str | None:
    """The value of `writeKey=` in a query string; None if it has none."""
    if b"writeKey=" not in query:
        return None
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"writeKey":
            return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace")
    return None


class Gate:
    """The keys that open, and what known Authorization headers opened. `keys` maps a public key as it is, and a secret
    one `hashed`, to what it opens."""

    CACHED_COUNT_MAX: Final = 10_000

    def __init__(self, keys: dict[str, WriteKey]) -> None:
        self._keys = keys
        self._opened: dict[bytes, WriteKey] = {}
        self.generation = 0
        """Goes up with every `replace`: what was worked out of an older one no longer holds."""

    def replace(self, keys: dict[str, WriteKey]) -> None:
        """From now on these keys open."""
        self._keys = keys
        self._opened = {}
        self.generation += 1

    def open(self, key: str) -> WriteKey | Refusal:
        """What `key` opens. cost  one look-up, and a SHA-256 for a secret key"""
        if not key:
            return MISSING
        if len(key) > KEY_BYTES_MAX:
            return UNKNOWN
        found = self._keys.get(hashed(key) if key.startswith(SECRET) else key)
        if found is None or found.secret != key.startswith(SECRET):
            return UNKNOWN
        return found

    def key_of(self, authorization: bytes | None, query: bytes) -> WriteKey | Refusal | None:
        """What the key of a request's head opens; None where the head has none and the body must."""
        if authorization is not None:
            opened = self._opened.get(authorization)
            if opened is not None:
                return opened
            key = key_in_authorization(authorization)
            if key:
                found = self.open(key)
                if isinstance(found, WriteKey) and len(self._opened) < self.CACHED_COUNT_MAX:
                    self._opened[authorization] = found
                return found
        if query:
            key = key_in_query(query)
            if key is not None:
                return self.open(key)
        return None
