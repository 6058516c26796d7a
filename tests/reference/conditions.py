"""Conditions said plainly: of a JSON value, of an event and of whose it was. Times are milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

ABSENT = object()
"""No value, or null."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def met(value: Any, op: str, said: Any, *, every: bool = False, now: int = 0, time: Callable[[str], int]) -> bool:
    """Does a JSON value meet it? `time`: of what was asked, to ms."""
    opposites = {"!=": "=", "not_contains": "contains", "not_matches": "matches", "unset": "set", "not_in": "in"}
    if op in opposites:
        return not met(value, opposites[op], said, every=every, now=now, time=time)
    if op == "set":
        return value is not ABSENT
    if isinstance(value, list):
        found = [one_met(item, op, said, now, time) for item in value]
        return bool(found) and all(found) if every else any(found)
    return one_met(value, op, said, now, time)


def one_met(value: Any, op: str, said: Any, now: int, time: Callable[[str], int]) -> bool:
    if value is ABSENT or value is None or isinstance(value, dict | list):
        return False
    if op == "in":
        return any(one_met(value, "=", one, now, time) for one in said)
    if op == "between":
        return one_met(value, ">=", said[0], now, time) and one_met(value, "<=", said[1], now, time)
    if op == "=":
        return kind(value) is kind(said) and value == said
    if op in ("<", "<=", ">", ">="):
        if kind(value) is not kind(said):
            return False
        low, high = (value, said) if kind(value) is not str else (value.encode(), said.encode())
        return {"<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high}[op]
    if op in ("contains", "matches"):
        words = value if isinstance(value, str) else text(value)
        return said.lower() in words.lower() if op == "contains" else re.search(said, words) is not None
    at = moment(value)
    if at is None:
        return False
    if op == "before":
        return at < time(said)
    if op == "after":
        return at >= time(said)
    assert op == "within_last"
    return now - time(said) <= at <= now


def kind(value: Any) -> type:
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float


def text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def moment(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) >= 100_000_000_000 else int(value * 1000 // 1)
    if not _MOMENT.fullmatch(value):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int((found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000 // 1)
