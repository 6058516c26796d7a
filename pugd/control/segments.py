"""Segments: named, in versions; what one uses, and who uses it.

Every change holds the project's row, so that two changes at once cannot make a segment part of itself, nor take away
what the other begins to use.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from pugd.ask import AnySegment, Condition, Fixed, segments_of
from pugd.control.postgres import Connection
from pugd.kept import (
    FIXED,
    IN_USE,
    NAME_TAKEN,
    QUESTIONS,
    RULE,
    SEGMENTS_MAX,
    TOO_MANY,
    ChangedSegment,
    KeptError,
    NewFixed,
    NewSegment,
    Segment,
    Users,
    Version,
    check_description,
    check_name,
    check_version,
    not_kept,
)
from pugd.question import QuestionError

_CURRENT = """
select segments.name, description, segments.version, kind, rule, octet_length(actors) / 8, archived,
    created_at, made_at, made_by
from segments join segment_versions on segment = segments.id and segment_versions.version = segments.version
where project = %s
"""


def listed(connection: Connection, project: int, *, archived: bool = False) -> list[Segment]:
    """By name; those that are archived only where they are asked for."""
    rows = connection.execute(_CURRENT + " and (%s or not archived) order by segments.name", (project, archived))
    return [_segment(row) for row in rows]


def one(connection: Connection, project: int, name: str) -> Segment:
    """raises   KeptError"""
    row = connection.execute(_CURRENT + " and segments.name = %s", (project, _possible(name))).fetchone()
    if row is None:
        raise not_kept("segment", name)
    return _segment(row)


def versions(connection: Connection, project: int, name: str) -> list[Version]:
    """The newest first."""
    rows = connection.execute(
        "select segment_versions.version, description, archived, made_at, made_by, rule from segment_versions"
        " join segments on segments.id = segment where project = %s and name = %s order by version desc",
        (project, _possible(name)),
    )
    return [
        Version(version, description, archived, moment(at), by, rule=_rule(rule))
        for version, description, archived, at, by, rule in rows
    ]


def create(connection: Connection, project: int, made: NewSegment, by: str) -> Segment:
    """raises   KeptError, QuestionError"""
    rule = msgspec.json.encode(made.rule).decode()
    hold(connection, project)
    _check_uses(connection, project, made.name, made.rule)
    return _insert(connection, project, made.name, made.description, RULE, None, rule, by)


def create_fixed(connection: Connection, project: int, made: NewFixed, actors: Collection[int], by: str) -> Segment:
    """A list of who has one of these actors. raises KeptError, QuestionError"""
    hold(connection, project)
    packed = struct.pack(f"<{len(actors)}Q", *sorted(actors))
    return _insert(connection, project, made.name, made.description, FIXED, packed, None, by)


def change(connection: Connection, project: int, name: str, changed: ChangedSegment, by: str) -> Segment:
    """The next version; none where nothing changes. raises KeptError, QuestionError"""
    check_description(changed.description)
    hold(connection, project)
    found = one(connection, project, name)
    check_version(changed.if_version, found.version)
    rule = found.rule
    if changed.rule is not UNSET:
        if found.kind == FIXED:
            raise QuestionError("invalid_field", "rule: a fixed segment has none: it is a list.", "rule")
        rule = changed.rule
        _check_uses(connection, project, name, rule)
    description = found.description if changed.description is UNSET else changed.description
    archived = found.archived if changed.archived is UNSET else changed.archived
    if (rule, description, archived) == (found.rule, found.description, found.archived):
        return found
    ((id_,),) = connection.execute(
        "update segments set version = version + 1 where project = %s and name = %s returning id", (project, name)
    )
    _add(connection, id_, found.version + 1, description, archived, _written(rule), by)
    return one(connection, project, name)


def delete(connection: Connection, project: int, name: str) -> None:
    """With its versions. raises KeptError: it is not there, or in use"""
    hold(connection, project)
    one(connection, project, name)
    using = users(connection, project, name)
    if using.segments or using.questions:
        told = [f"segment {other!r}" for other in using.segments] + [f"question {other!r}" for other in using.questions]
        raise KeptError(
            IN_USE, f"{name!r} is used by {', '.join(told[:20])}: change or delete those first, or archive it.", "name"
        )
    connection.execute("delete from segments where project = %s and name = %s", (project, name))


def users(connection: Connection, project: int, name: str) -> Users:
    """Who uses it as they are now; earlier versions do not count."""
    return Users(
        sorted(other for other, rule in _rules(connection, project).items() if name in segments_of(rule)),
        sorted(other for other, asked in _asked(connection, project) if name in segments_of(asked)),
    )


def used(connection: Connection, project: int, names: Collection[str]) -> dict[str, AnySegment]:
    """Those of these names that there are, and those that they use in turn: as they stand at one moment."""
    connection.execute("set transaction isolation level repeatable read")
    found: dict[str, AnySegment] = {}
    wanted = {name for name in names if _possible(name)}
    while wanted:
        rows = connection.execute(
            "select name, rule, actors from segments join segment_versions on segment = segments.id"
            " and segment_versions.version = segments.version where project = %s and name = any(%s)",
            (project, sorted(wanted)),
        )
        asked: set[str] = set()
        for name, rule, actors in rows:
            if actors is not None:
                found[name] = Fixed(struct.unpack(f"<{len(actors) // 8}Q", actors))
                continue
            made = msgspec.json.decode(rule, type=Condition)
            found[name] = made
            asked |= {other for other in segments_of(made) if _possible(other)}
        wanted = asked - found.keys() - wanted
    return found


def hold(connection: Connection, project: int) -> None:
    """One change of a project at a time, until the transaction ends."""
    connection.execute("select from projects where id = %s for no key update", (project,))


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def check_known(connection: Connection, project: int, names: Collection[str], path: str) -> None:
    """raises   QuestionError where one of these segments is not there"""
    if not names:
        return
    there = _rules(connection, project)
    for name in sorted(names):
        if name not in there:
            raise QuestionError("invalid_field", f"{path}: there is no segment {name[:100]!r}.", path)


def _check_uses(connection: Connection, project: int, name: str, rule: Condition) -> None:
    """What a rule uses is there, and does not use it in turn."""
    there: dict[str, Condition | None] = {**_rules(connection, project), name: rule}
    check_known(connection, project, segments_of(rule) - {name}, "rule")
    if circle := circle_of(name, {one: segments_of(made) for one, made in there.items()}):
        raise QuestionError("invalid_field", f"rule: {' → '.join(circle)}: a segment cannot be part of itself.", "rule")


def circle_of(name: str, uses: Mapping[str, Collection[str]]) -> list[str]:
    """The way from a segment through others back to itself; empty where there is none."""
    ways = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for other in sorted(uses.get(way[-1], ())):
            if other == name:
                return [*way, name]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def _rules(connection: Connection, project: int) -> dict[str, Condition | None]:
    rows = connection.execute(
        "select name, rule from segments join segment_versions on segment = segments.id"
        " and segment_versions.version = segments.version where project = %s",
        (project,),
    )
    return {name: _rule(rule) for name, rule in rows}


def _asked(connection: Connection, project: int) -> list[tuple[str, object]]:
    rows = connection.execute(
        "select name, kind, asked from questions join question_versions on question = questions.id"
        " and question_versions.version = questions.version where project = %s",
        (project,),
    )
    return [(name, msgspec.json.decode(asked, type=QUESTIONS[kind])) for name, kind, asked in rows]


def _insert(
    connection: Connection,
    project: int,
    name: str,
    description: str,
    kind: str,
    actors: bytes | None,
    rule: str | None,
    by: str,
) -> Segment:
    check_name(name)
    check_description(description)
    ((count,),) = connection.execute("select count(*) from segments where project = %s", (project,))
    if count >= SEGMENTS_MAX:
        raise KeptError(TOO_MANY, f"There are {SEGMENTS_MAX} segments already: delete one that nobody uses.")
    row = connection.execute(
        "insert into segments (project, name, kind, actors) values (%s, %s, %s, %s)"
        " on conflict (project, name) do nothing returning id",
        (project, name, kind, actors),
    ).fetchone()
    if row is None:
        raise KeptError(NAME_TAKEN, f"name: there is a segment {name!r} already. Change it with PUT.", "name")
    _add(connection, row[0], 1, description, False, rule, by)
    return one(connection, project, name)


def _add(
    connection: Connection, id_: int, version: int, description: str, archived: bool, rule: str | None, by: str
) -> None:
    connection.execute(
        "insert into segment_versions (segment, version, description, archived, rule, made_by)"
        " values (%s, %s, %s, %s, %s, %s)",
        (id_, version, description, archived, rule, by),
    )


def _segment(row: tuple[Any, ...]) -> Segment:
    name, description, version, kind, rule, ids, archived, created, at, by = row
    return Segment(name, description, version, kind, _rule(rule), ids, archived, moment(created), moment(at), by)


def _rule(text: str | None) -> Condition | None:
    return None if text is None else msgspec.json.decode(text, type=Condition)


def _written(rule: Condition | None) -> str | None:
    return None if rule is None else msgspec.json.encode(rule).decode()


def _possible(name: str) -> str:
    """A name to look for: Postgres takes no NUL, and nothing is called so; '' is nobody's."""
    return "" if "\0" in name else name
