"""What one question may take of ClickHouse, and how it is told that it wants more.

ClickHouse watches over time, memory and rows by itself; what it says when it has enough becomes a refusal that tells
what to narrow. It may also be short of memory for all that it does: then the question is not at fault, and is to be
asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from pugd.errors import StoreError
from pugd.question import QuestionError

_TIME = frozenset({159, 160})
_MEMORY = frozenset({191, 241, 307})
_ROWS = frozenset({158, 396})
_SIZE = frozenset({167, 168, 306})
_SYNTAX, _LONG = 62, "Max query size exceeded"
_BAD_PATTERN = 427
_ALL_QUESTIONS = "(total)"
"""What ClickHouse's words have in them where all questions together, or pugd itself, took the memory."""
_NARROW = "Narrow it: a shorter range, fewer events or steps, fewer values of a breakdown."

_SHORTEN = "Ask with fewer conditions: several values of one trait or property are one condition, with in."


class Limits(msgspec.Struct, frozen=True):
    """Of one question."""

    seconds: float = 60.0
    export_seconds: float = 3600.0
    memory_bytes: int = 4 << 30
    """From half of it on, groups and sorts go to ClickHouse's disk."""
    rows: int = 0
    """Of all tables together; 0: any number."""
    days: int = 3_660
    """Of a range."""

    def settings(self) -> dict[str, int | str]:
        """As ClickHouse's settings."""
        return {
            "max_execution_time": _seconds(self.seconds),
            "max_memory_usage": self.memory_bytes,
            "max_bytes_before_external_group_by": self.memory_bytes // 2,
            "max_bytes_before_external_sort": self.memory_bytes // 2,
            "max_rows_to_read": self.rows,
        }

    def of_export(self) -> Limits:
        """Those of an export."""
        return msgspec.structs.replace(self, seconds=self.export_seconds, rows=0)


class TooCostlyError(QuestionError):
    """It needs more time, memory or rows than a question may take."""

    def __init__(self, what: str, remedy: str = _NARROW) -> None:
        super().__init__("too_costly", f"{what} {remedy}")


class BadPatternError(QuestionError):
    """A regular expression that is none."""

    def __init__(self, why: str, field: str = "where") -> None:
        super().__init__("invalid_field", f"{field}: is no regular expression that RE2 reads: {why}", field)
        self.why = why


@contextmanager
def refusing(limits: Limits) -> Iterator[None]:
    """Turns what ClickHouse says of a question into a refusal.

    raises   TooCostlyError, BadPatternError; and StoreError as it came where it is none of these
    """
    try:
        yield
    except StoreError as error:
        if error.code in _TIME:
            raise TooCostlyError(f"This takes longer than {limits.seconds:g} s, which is all it may take.") from error
        if error.code in _MEMORY and _ALL_QUESTIONS not in str(error):
            raise TooCostlyError(
                f"This needs more than {limits.memory_bytes / (1 << 30):.3g} GiB of memory, which is all it may have."
            ) from error
        if error.code in _ROWS:
            raise TooCostlyError(f"This reads more than {limits.rows} rows, which is all it may read.") from error
        if error.code in _SIZE or (error.code == _SYNTAX and _LONG in str(error)):
            raise TooCostlyError("This is longer than ClickHouse reads.", _SHORTEN) from error
        if error.code == _BAD_PATTERN:
            raise BadPatternError(_why(str(error))) from error
        raise


def patterns(said: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Each regular expression of a question in builtins: its field, and what it is."""
    if isinstance(said, dict):
        if said.get("op") in ("matches", "not_matches") and isinstance(said.get("value"), str):
            yield f"{path}.value".lstrip("."), said["value"]
        for name, one in said.items():
            yield from patterns(one, f"{path}.{name}")
    elif isinstance(said, list | tuple):
        for place, one in enumerate(said):
            yield from patterns(one, f"{path}[{place}]")


def _why(message: str) -> str:
    found = re.search(r"cannot compile re2: (.*?)(?:\. Look at|$)", message, re.DOTALL)
    return (found[1] if found else "it cannot be compiled")[:500]


def _seconds(seconds: float) -> int | str:
    return int(seconds) if seconds % 1 == 0 else str(seconds)
