"""A JSON body in parts: what can be stored of it, what must be mended, and which of its events are at fault.

`checked` is asked of every body, once. Where it, or a decoder, finds fault with a body that holds several events,
`alone` reads each by itself, so that only the wrong ones are refused. That is the slow way, for the rare body that is
wrong: the standard library's reader lets through what JSON's grammar allows and we cannot store (half a surrogate pair,
an infinite number, also bytes that are no UTF-8), so that it can be told which event holds it.
"""

from __future__ import annotations

import json
import re
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import storable
from pugd.model import Refusal

_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class Alone(Struct, Generic[T], gc=False):
    """What could be read of a body in which something is wrong."""

    around: dict[str, object]
    """The envelope without its events; empty where the body is a list of them."""
    events: list[T]
    indexes: list[int]
    """Where each stood."""
    refused: list[Refusal]


def checked(body: bytes) -> tuple[bytes, Refusal | None]:
    """The body with no key twice in an object, and why it cannot be stored, if so. cost  half a nanosecond a byte"""
    found = storable.scan(body)
    if found.duplicate_keys:
        body = storable.mend(body)
    return body, Refusal(found.code, found.message) if found.code else None


def alone(body: bytes, place: str, decoder: msgspec.json.Decoder[T], whole: Refusal | None) -> Alone[T] | Refusal:
    """Read each event of a body by itself.

    `place`   the member that holds the events; '': the body is a list of them
    `whole`   why the whole cannot be stored, if that is known
    returns   or one Refusal, where the body holds no events that could be told apart
    """
    try:
        envelope = json.loads(
            body.decode("utf-8", "surrogateescape"), parse_int=Raw, parse_float=Raw, parse_constant=Raw
        )
    except (ValueError, RecursionError) as error:
        return whole or unreadable(error)
    found = envelope if not place else envelope.get(place) if isinstance(envelope, dict) else None
    if not isinstance(found, list):
        named = f"{place} must be an array of events." if place else "The body must be an array of events."
        return whole or Refusal(errors.INVALID_FIELD, named, place or None)
    told: Alone[T] = Alone({}, [], [], [])
    for index, event in enumerate(found):
        one = read_again(event, f"{place}[{index}]", decoder)
        if isinstance(one, Refusal):
            told.refused.append(Refusal(one.code, one.message, one.field, index))
        else:
            told.events.append(one)
            told.indexes.append(index)
    if place:
        told.around = {key: value for key, value in envelope.items() if key != place}
    return told


def read_again(value: object, field: str, decoder: msgspec.json.Decoder[T]) -> T | Refusal:
    """A part of what `json.loads` read, by itself. `field`: where it stands; '' is the body."""
    try:
        text = _encode(value)
        found = storable.scan(text)
        return Refusal(found.code, found.message, field) if found.code else decoder.decode(text)
    except UnicodeEncodeError:
        wrong = "holds half a surrogate pair, or bytes that are no UTF-8: leave such characters out."
        return Refusal(errors.INVALID_JSON, f"{field or 'The body'} {wrong}", field or None)
    except RecursionError:
        return Refusal(errors.TOO_DEEP, f"{field or 'The body'} is nested too deeply: send a flatter object.", field)
    except msgspec.ValidationError as error:
        return wrong_type(error, field)


def unreadable(error: Exception) -> Refusal:
    return Refusal(errors.INVALID_JSON, f"The body is no JSON that can be read: {error}.")


_EXPECTED = re.compile("Expected `(.+)`, got `(.+)`")
_JSON_WORDS = {
    "str": "a string", "int": "a number", "float": "a number", "bool": "true or false", "null": "null",
    "array": "an array", "object": "an object",
}  # fmt: skip


def wrong_type(error: msgspec.ValidationError, prefix: str = "") -> Refusal:
    """`Expected X, got Y - at $.path` → a Refusal that names the path, in JSON's own words."""
    said, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    field = (prefix + path).lstrip(".") or None
    found = _EXPECTED.fullmatch(said)
    if found is None:
        wrong = f"{field}: {said}." if field else f"{said}."
    else:
        wanted = [_JSON_WORDS.get(word, word) for word in found[1].split(" | ") if word != "null"]
        got = _JSON_WORDS.get(found[2], found[2])
        wrong = f"{field or 'The body'} is {got}: send {' or '.join(dict.fromkeys(wanted))}."
    return Refusal(errors.INVALID_FIELD, wrong, field)
