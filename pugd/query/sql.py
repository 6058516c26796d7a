"""SQL text, made of pieces: the only place where it is.

A template is text that a programmer wrote; `$name` in it stands for another piece. A value enters only by `bound`,
travels beside the text as a parameter with its ClickHouse type, and is never written into it, so no input can be read
as SQL. Anything else given for a `$name` is our own fault and asserts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

_NAME: Final = re.compile(r"[a-z]+(_[a-z]+)*(_[0-9]+)?", re.ASCII)
_HOLE: Final = re.compile(r"\$([a-z_]+)")


class Bound(msgspec.Struct, frozen=True, eq=False):
    """A value and the exact type it is bound as."""

    type: str
    value: Any


class Sql(msgspec.Struct, frozen=True, eq=False):
    """A piece: text and bound values, in order."""

    parts: tuple[str | Bound, ...]


class Plan(msgspec.Struct, frozen=True):
    """A statement, ready to run."""

    sql: str
    parameters: dict[str, Any]


def sql(template: str, **pieces: Sql) -> Sql:
    """`template` with each `$name` replaced by the piece of that name."""
    parts: list[str | Bound] = []
    used = set()
    for index, text in enumerate(_HOLE.split(template)):
        if index % 2 == 0:
            parts.append(text)
        else:
            piece = pieces[text]
            assert isinstance(piece, Sql), f"${text} is no piece of SQL"
            parts.extend(piece.parts)
            used.add(text)
    assert used == set(pieces), f"pieces not used: {set(pieces) - used}"
    return Sql(tuple(parts))


def bound(type_: str, value: Any) -> Sql:
    """A value, as a parameter of the type that ClickHouse calls `type_`."""
    return Sql((Bound(type_, value),))


def named(name: str) -> Sql:
    """A name that we make up for a column, as `taken_3`. Names that come from elsewhere are values, and bound."""
    assert _NAME.fullmatch(name), f"{name!r} is no name of ours"
    return Sql((name,))


def joined(separator: str, pieces: Iterable[Sql]) -> Sql:
    """The pieces, with `separator` between."""
    parts: list[str | Bound] = []
    for piece in pieces:
        if parts:
            parts.append(separator)
        parts.extend(piece.parts)
    return Sql(tuple(parts))


def all_of(conditions: Iterable[Sql]) -> Sql:
    """True where each condition is; true where there is none."""
    found = [sql("($condition)", condition=condition) for condition in conditions]
    return joined(" AND ", found) if found else sql("1")


def any_of(conditions: Iterable[Sql]) -> Sql:
    """True where some condition is; false where there is none."""
    found = [sql("($condition)", condition=condition) for condition in conditions]
    return sql("($any)", any=joined(" OR ", found)) if found else sql("0")


def plan(statement: Sql) -> Plan:
    """Name each bound value and write the statement out."""
    text: list[str] = []
    parameters: dict[str, Any] = {}
    names: dict[int, str] = {}
    for part in statement.parts:
        if isinstance(part, str):
            text.append(part)
            continue
        name = names.get(id(part))
        if name is None:
            name = names[id(part)] = f"p{len(names)}"
            parameters[name] = part.value
        text.append(f"{{{name}:{part.type}}}")
    return Plan("".join(text), parameters)
