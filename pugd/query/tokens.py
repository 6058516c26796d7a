"""Tokens: what opens a number into its people.

A token is the question that the number answered, with the cell it stands in and how many people it was then: JSON,
deflated, in the letters of an address. It holds nothing that its reader could not ask, and says nothing of whose
project it is: whoever opens it, opens it in their own.
"""

from __future__ import annotations

import base64
import binascii
import zlib

import msgspec

from pugd import ask
from pugd.question import QuestionError

BYTES_MAX = 64 * 1024
"""Of a token's JSON: a funnel of 20 steps with as many conditions as may be."""


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where in an answer a number stands."""

    step: int | None = None
    """Of a funnel or flow, counted from 1; of a trend its series, counted from 0; of retention its cohort."""
    after: int | None = None
    """Of retention: the period after the birth's own."""
    dropped: bool = False
    """Whom this step was the last of; who went no further."""
    interval: int | None = None
    """Where it begins, ms."""
    values: list[str] | None = None
    """Of a breakdown; names of a flow."""
    others: bool = False
    """None of the values."""


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """An opened token."""

    kind: str
    asked: msgspec.Raw
    cell: Cell
    then: int
    """How many people it was."""
    at: str
    """When."""
    zone: str = ""
    """The project's time zone then, by which its days began; '' of tokens that do not say."""


class Writer:
    """Writes the tokens of one answer."""

    def __init__(self, asked: ask.AnyAsked, at: str, zone: str = "") -> None:
        self._kind = next(kind for kind, type_ in ask.JOURNEYS.items() if type(asked) is type_)
        self._asked = msgspec.Raw(msgspec.json.encode(asked))
        self._at = at
        self._zone = zone

    def of(self, asked: ask.AnyAsked) -> Writer:
        """For another question of the same answer."""
        return Writer(asked, self._at, self._zone)

    def written(self, cell: Cell, then: int) -> str:
        """The token of a cell with so many people."""
        plain = msgspec.json.encode(Token(self._kind, self._asked, cell, then, self._at, self._zone))
        return base64.urlsafe_b64encode(zlib.compress(plain, 6)).rstrip(b"=").decode()


def opened(said: str) -> tuple[ask.AnyAsked, Token]:
    """raises   QuestionError where it is no token of ours"""
    try:
        packed = base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))
        inflater = zlib.decompressobj()
        plain = inflater.decompress(packed, BYTES_MAX)
        if not inflater.eof:
            raise ValueError
        token = msgspec.json.decode(plain, type=Token)
        return msgspec.json.decode(token.asked, type=ask.JOURNEYS[token.kind]), token
    except (ValueError, KeyError, zlib.error, binascii.Error, msgspec.DecodeError, RecursionError):
        raise QuestionError("invalid_field", "token: is none: send one as an answer gave it, whole.", "token") from None
