"""Old events that come again: which rows of a span does ClickHouse hold already, from another time they were sent?

A collector tells by its set of recent ids whether an event is new, but not of events older than the set reaches. Their
rows are marked (model.OLD_EVENT, OLD_TRAIT, OLD_LINK), and the drain looks each up before it stores it: by project,
actor and event id, a trait by its key and operation too, a call that links by both its actors. A row is a copy of one
that was stored from elsewhere (another collector, another epoch), or from an earlier position of this journal, or that
stands before it in its own span. What stands behind it does not count, nor does it itself: so the answer is the same
however often a span is begun anew.

The same actor and event id under another name is no copy: such an id was used twice, and the row is set aside.

Pure. Two columns find a row: the actor, by which what is asked lies sorted, and CRC32 of the id, since numbers may
stand in a statement as they are; what was found is compared whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec import Struct

from pugd.model import EventRow, LinkRow, TraitRow
from pugd.tables import EVENTS, EVENTS_BY_ACTOR, LINKS, OLD_EVENTS, OLD_LINKS, OLD_TRAITS, TRAITS, Table

TABLES: Final = (OLD_LINKS, OLD_TRAITS, OLD_EVENTS)
"""Whose rows are looked up."""
NAMES: Final = (LINKS.name, TRAITS.name, EVENTS.name)
"""Tables whose rows can be."""
QUESTION_ROWS_MAX: Final = 4000
"""Rows looked up at once: two numbers each, together under the 256 KiB that ClickHouse takes as a statement's text."""

_KEY: Final[dict[str, tuple[str, ...]]] = {
    EVENTS.name: ("project", "actor", "event_id"),
    TRAITS.name: ("project", "actor", "event_id", "key", "operation"),
    LINKS.name: ("project", "a", "event_id", "b"),
}
_SOUGHT_IN: Final = {EVENTS.name: EVENTS_BY_ACTOR.name}
_NAME: Final = {EVENTS.name: "event", TRAITS.name: "key", LINKS.name: "call"}
"""What tells one use of an id from another."""
_FIELDS: Final = {
    name: tuple(row.__struct_fields__.index(field) for field in (*_KEY[name], _NAME[name]))
    for name, row in ((EVENTS.name, EventRow), (TRAITS.name, TraitRow), (LINKS.name, LinkRow))
}
_decode = msgspec.msgpack.Decoder(tuple).decode


class Old(Struct, frozen=True):
    """A row that is to be looked up."""

    position: int
    key: tuple[Any, ...]
    """Project, actor, event id; of a trait its key and operation, of a call that links its other actor."""
    name: str


class Judged(Struct, frozen=True):
    """Positions, ascending."""

    copies: list[int]
    reused: list[int]
    """Their id was used before, under another name."""


def read(table: Table, position: int, raw: bytes) -> Old | None:
    """What of a row is looked up; None where it says nothing to look for."""
    try:
        row = _decode(raw)
        *key, name = (row[field] for field in _FIELDS[table.name])
    except (msgspec.DecodeError, IndexError):
        return None
    return Old(position, tuple(key), name) if key[2] else None


def questions(
    table: Table, rows: Sequence[Old], sought_in: str | None = None
) -> Iterator[tuple[str, dict[str, object]]]:
    """Statements that find what ClickHouse holds of these ids, and their values; they want `collector`, `epoch` and
    `end` (of the span) besides. A row of their answers: key, name, and the least position in this journal, 0 where one
    came from elsewhere.

    `sought_in`   a table; None: the one in which they lie by actor
    """
    sought_in = sought_in or _SOUGHT_IN.get(table.name, table.name)
    columns = ", ".join(f"`{field}`" for field in (*_KEY[table.name], _NAME[table.name]))
    for project, those in groupby(sorted(rows, key=lambda row: row.key[:2]), key=lambda row: int(row.key[0])):
        wanted = list(those)
        actor = _KEY[table.name][1]
        for begin in range(0, len(wanted), QUESTION_ROWS_MAX):
            part = wanted[begin : begin + QUESTION_ROWS_MAX]
            actors = ",".join(map(str, sorted({int(row.key[1]) for row in part})))
            ids = ",".join(map(str, sorted({zlib.crc32(row.key[2].encode()) for row in part})))
            ours = "collector = {collector:String} and epoch = {epoch:UInt64}"
            sql = (
                f"select {columns}, min(if({ours}, position, 0)) from {sought_in} "  # noqa: S608 — our names, and numbers
                f"where project = {{project:UInt32}} and {actor} in ({actors}) and CRC32(event_id) in ({ids}) "
                f"and (not ({ours}) or position < {{end:UInt64}}) group by all"
            )
            yield sql, {"project": project}


def judge(rows: Sequence[Old], found: Sequence[Sequence[Any]]) -> Judged:
    """Which of `rows` (ascending) are copies, by what the questions found."""
    known: dict[tuple[Any, ...], list[tuple[str, int]]] = {}
    for *key, name, position in found:
        known.setdefault(tuple(key), []).append((name, position))
    judged = Judged([], [])
    for row in rows:
        names = [name for name, position in known.get(row.key, ()) if position < row.position]
        if not names:
            known.setdefault(row.key, []).append((row.name, row.position))
        elif row.name in names:
            judged.copies.append(row.position)
        else:
            judged.reused.append(row.position)
    return judged
