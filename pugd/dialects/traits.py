"""What a call says of traits: an identify its `traits`, an event the operations among its properties.

    "$set": {"plan": "pro"}        set; a null removes, as `$unset` does
    "$set_once": {"source": "ad"}  set where nothing stands; nulls say nothing
    "$add": {"visits": 1}          a number that is added; nulls say nothing
    "$unset": ["trial"]            remove; an object's keys are taken too

They may stand on top of an event's properties, which keep them as they were sent, and among an identify's traits, where
every other key is a `set`. Of one key named twice in a call, the operation set outweighs a plain trait. Pure; a trait's
value is the JSON text that was sent, and the keys `ip` and `$ip` are dropped: an address is no trait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from pugd import errors
from pugd.model import Refusal

TRAITS_MAX = 1000
KEY_LENGTH_MAX = 512

Change = tuple[str, str, bytes]
"""(key, operation, JSON value), as in model.TraitRow."""

OPERATIONS: Final = {"$set": "set", "$set_once": "set_once", "$add": "add", "$unset": "unset"}

NOTHING: Final[Mapping[str, Raw]] = {}
_ADDRESSES = frozenset(("ip", "$ip"))
_object = msgspec.json.Decoder(dict[str, Raw])
_names = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


def may_change(properties: bytes) -> bool:
    """Could there be an operation in this JSON text? Always where there is one, and seldom where there is none."""
    return b'"$' in properties or b'"\\u0024' in properties


def of_properties(properties: bytes) -> tuple[list[Change], bytes] | Refusal:
    """An event's changes of traits, and its properties without the addresses in them.

    `properties`  a JSON object
    """
    members = _object.decode(properties)
    found = {name: members[name] for name in OPERATIONS if name in members}
    if not found:
        return [], properties
    changes = of_operations(found)
    return changes if isinstance(changes, Refusal) else (changes, without_addresses(properties))


def of_operations(
    found: Mapping[str, Raw], plain: Mapping[str, Raw] = NOTHING, path: str = "properties."
) -> list[Change] | Refusal:
    """The changes of operations, by their names here; for a dialect that has them elsewhere too.

    `plain`  what is set besides
    `path`   where they stand, for refusals
    """
    return _changes(dict(plain), found, path)


def without_addresses(properties: bytes) -> bytes:
    """An event's properties without the addresses in operations among them."""
    if b'ip"' not in properties or not may_change(properties):
        return properties
    members = _object.decode(properties)
    found = {name: members[name] for name in OPERATIONS if name in members}
    clean = {name: without_address(value) for name, value in found.items()}
    return properties if clean == found else _encode(members | clean)


def of_identify(traits: bytes) -> list[Change] | Refusal:
    """An identify's changes of traits.

    `traits`  a JSON object
    """
    members = _object.decode(traits)
    found = {name: members.pop(name) for name in OPERATIONS if name in members}
    return _changes(members, found, "traits.")


def _changes(plain: dict[str, Raw], found: Mapping[str, Raw], path: str) -> list[Change] | Refusal:
    """`plain`: what is set besides; `found`: operation as sent → its value; `path`: where they stand."""
    sets = plain
    changes: list[Change] = []
    for name, value in found.items():
        text = bytes(value)
        if text == b"null":
            continue
        field = f"{path}{name}"
        if name == "$unset" and text.startswith(b"["):
            try:
                changes += [(key, "unset", b"") for key in dict.fromkeys(_names.decode(text))]
            except msgspec.ValidationError:
                return _wrong(field, "a list of keys, such as")
            continue
        if not text.startswith(b"{"):
            return _wrong(field, "an object, such as")
        members = _object.decode(text)
        if name == "$set":
            sets = plain | members
        elif name == "$unset":
            changes += [(key, "unset", b"") for key in members]
        else:
            told = [(key, OPERATIONS[name], bytes(given)) for key, given in members.items() if given != _NULL]
            if name == "$add" and not all(given[0] in b"-0123456789" for _, _, given in told):
                return _wrong(field, "an object of numbers, such as")
            changes += told
    changes = [_set(key, bytes(value)) for key, value in sets.items()] + changes
    place = path[:-1] or None
    if len(changes) > TRAITS_MAX:
        words = f"{place or 'the operations'} change more than {TRAITS_MAX} traits: send fewer."
        return Refusal(errors.TOO_LARGE, words, place)
    if any(len(key) > KEY_LENGTH_MAX for key, _, _ in changes):
        return Refusal(errors.INVALID_FIELD, f"a trait's key is longer than {KEY_LENGTH_MAX} characters.", place)
    return [change for change in changes if change[0] not in _ADDRESSES]


_NULL = Raw(b"null")
_EXAMPLES = {"$set": '{"plan": "pro"}', "$set_once": '{"source": "ad"}', "$add": '{"visits": 1}', "$unset": '["plan"]'}


def _set(key: str, text: bytes) -> Change:
    return (key, "unset", b"") if text == b"null" else (key, "set", text)


def _wrong(field: str, wanted: str) -> Refusal:
    example = _EXAMPLES[field.rpartition(".")[2]]
    return Refusal(errors.INVALID_FIELD, f"{field} must be {wanted} {example}.", field)


def without_address(value: Raw) -> Raw:
    """The same operation without `ip` and `$ip`, where it is an object that has them."""
    text = bytes(value)
    if not text.startswith(b"{"):
        return value
    members = _object.decode(text)
    if not _ADDRESSES & members.keys():
        return value
    return Raw(_encode({key: given for key, given in members.items() if key not in _ADDRESSES}))
