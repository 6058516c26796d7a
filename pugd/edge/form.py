"""Events that came as a form: `data=…` in a body, or in the query of a GET, whatever the content type says.

The value is JSON, or base64 of it, with percent signs or without. Some libraries do not percent-encode base64, so its
`+` arrives as what a form writes for a space; base64 has no spaces, so they are put back. Pure, and all of it works on
whole bytes in C: a body of 32 MiB of percent signs costs no more memory than a few of its copies.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

FIELDS_MAX: Final = 32
"""Of a form; those that clients send have six."""
FIELD_BYTES_MAX: Final = 1024
"""Of a field beside `data`; a longer one is passed over."""
BEGINS: Final = (b"data=", b"verbose=", b"ip=", b"api_key=", b"compression=")
"""Fields that forms of events begin with."""

_BROKEN: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=_\-\s]*")
_JSON: Final = re.compile(rb"(?:[\s+]|%20|%0[9AaDd])*(?:[{\[]|%7[Bb]|%5[Bb])")
_NO_SPACES: Final = bytes.maketrans(b" -_", b"++/")


def is_form(body: bytes) -> bool:
    return body.startswith(BEGINS)


def opened(form: bytes) -> tuple[bytes, dict[str, str]]:
    """A form's data as it was before it was put into one, and its other fields.

    returns  b"" where the form has no `data`; where that is neither JSON nor base64, it as it came
    """
    data = b""
    fields: dict[str, str] = {}
    for pair in form.split(b"&", FIELDS_MAX):
        name, _, value = pair.partition(b"=")
        if name == b"data":
            data = value
        elif len(name) <= FIELD_BYTES_MAX and len(value) <= FIELD_BYTES_MAX:
            fields[_text(name)] = _text(value)
    return _plain(data.strip(b" +\t\r\n")), fields


def field(query: bytes, name: bytes) -> str | None:
    """One field of a query; None where it has none. An empty one is ''."""
    if name not in query:
        return None
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name:
            return _text(value[: 4 * FIELD_BYTES_MAX])
    return None


def unquoted(value: bytes) -> bytes:
    """Without percent signs. What looks like one and is none stays.

    Quoted-printable is the same with another sign, and Python has it in C without a list of all pieces.
    """
    if b"%" not in value:
        return value
    if _BROKEN.search(value) is not None:
        value = _BROKEN.sub(b"%25", value)
    return binascii.a2b_qp(value.replace(b"=", b"%3D").replace(b"%", b"="))


def _text(value: bytes) -> str:
    return unquoted(value.replace(b"+", b" ")).decode("utf-8", "replace")


def _plain(value: bytes) -> bytes:
    if _JSON.match(value) is not None:
        return unquoted(value.replace(b"+", b" "))
    value = unquoted(value)
    if _BASE64.fullmatch(value) is None:
        return value
    packed = value.translate(_NO_SPACES, b"\t\r\n=")
    try:
        return binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except binascii.Error:
        return value
