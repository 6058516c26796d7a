"""Where a page of an answer ended: opaque text for the asker, the last row's sort key for us.

A page is found by its key, never by counting rows, so rows that arrive meanwhile neither repeat nor hide others. A
cursor is no secret and is not trusted: its values are typed, bounded and bound like any other input.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from pugd.question import QuestionError

CURSOR_LENGTH_MAX = 1024
Key = TypeVar("Key")


def written(key: msgspec.Struct) -> str:
    """A key as text that fits into an address."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(key)).rstrip(b"=").decode()


def read(text: str, key: type[Key]) -> Key:
    """The key in a cursor; QuestionError where it is none of this kind."""
    try:
        if len(text) > CURSOR_LENGTH_MAX:
            raise ValueError("too long")
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
        return msgspec.msgpack.decode(data, type=key)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise refusal() from None


def bounded(value: int, low: int, high: int) -> None:
    """For a key's `__post_init__`: low ≤ value < high, else ValueError, which makes `read` refuse."""
    if not low <= value < high:
        raise ValueError("out of bounds")


def refusal() -> QuestionError:
    """This cursor does not continue this question."""
    return QuestionError(
        "invalid_cursor",
        "cursor: not one that this question continues from. Use the `next` of an answer with the same sort or order,"
        " or leave it out to begin anew.",
        "cursor",
    )
