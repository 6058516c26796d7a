"""The plain twin of native/scan: the standard library's parser, and one explicit check for each rule it lacks."""

from __future__ import annotations

import json
import math
from typing import Any

DEPTH_MAX = 64


class _NotStorable(Exception):
    pass


def storable(data: bytes) -> tuple[bool, bool, bool]:
    """(storable, an object names a key twice, a NUL is in some string); flags are False where it is not storable."""
    duplicates = False
    strings: list[str] = []

    def number(text: str) -> None:
        if math.isinf(float(text)):
            raise _NotStorable

    def constant(text: str) -> None:
        raise _NotStorable

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicates
        strings.extend(key for key, _ in pairs)
        for _, value in pairs:
            collect(value)
        duplicates = duplicates or len({key for key, _ in pairs}) < len(pairs)
        return {}

    def collect(value: Any) -> None:
        if isinstance(value, str):
            strings.append(value)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    try:
        text = data.decode()
        if _depth(text) > DEPTH_MAX:
            raise _NotStorable
        collect(
            json.loads(
                text,
                strict=True,
                parse_float=number,
                parse_int=number,
                parse_constant=constant,
                object_pairs_hook=members,
            )
        )
    except (UnicodeDecodeError, json.JSONDecodeError, _NotStorable):
        return False, False, False
    if any(0xD800 <= ord(character) <= 0xDFFF for string in strings for character in string):
        return False, False, False
    return True, duplicates, any("\0" in string for string in strings)


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
