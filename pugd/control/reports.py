"""Saved questions: named, in versions, each one kind of what /v1/ask takes. Relative ranges stay as they are said."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pugd.ask import AnyAsked, AskPeople, segments_of
from pugd.control.postgres import Connection
from pugd.control.segments import check_known, hold, moment
from pugd.kept import (
    NAME_TAKEN,
    QUESTIONS,
    QUESTIONS_MAX,
    TOO_MANY,
    KeptError,
    SavedQuestion,
    Version,
    check_description,
    check_name,
    check_version,
    not_kept,
)

_CURRENT = """
select questions.name, description, questions.version, kind, asked, archived, created_at, made_at, made_by
from questions join question_versions on question = questions.id and question_versions.version = questions.version
where project = %s
"""


def listed(connection: Connection, project: int, *, archived: bool = False) -> list[SavedQuestion]:
    """By name; those that are archived only where they are asked for."""
    rows = connection.execute(_CURRENT + " and (%s or not archived) order by questions.name", (project, archived))
    return [_question(row) for row in rows]


def one(connection: Connection, project: int, name: str) -> SavedQuestion:
    """raises   KeptError"""
    row = None
    if "\0" not in name:
        row = connection.execute(_CURRENT + " and questions.name = %s", (project, name)).fetchone()
    if row is None:
        raise not_kept("saved question", name)
    return _question(row)


def versions(connection: Connection, project: int, name: str) -> list[Version]:
    """The newest first, of one that is there."""
    rows = connection.execute(
        "select question_versions.version, description, archived, made_at, made_by, kind, asked from question_versions"
        " join questions on questions.id = question where project = %s and name = %s order by version desc",
        (project, name),
    )
    return [
        Version(version, description, archived, moment(at), by, kind=kind, question=msgspec.Raw(asked.encode()))
        for version, description, archived, at, by, kind, asked in rows
    ]


def create(
    connection: Connection, project: int, name: str, description: str, asked: AnyAsked | AskPeople, by: str
) -> SavedQuestion:
    """raises   KeptError, QuestionError"""
    check_name(name)
    check_description(description)
    hold(connection, project)
    check_known(connection, project, segments_of(asked), "question")
    ((count,),) = connection.execute("select count(*) from questions where project = %s", (project,))
    if count >= QUESTIONS_MAX:
        raise KeptError(TOO_MANY, f"There are {QUESTIONS_MAX} saved questions already: delete one.")
    row = connection.execute(
        "insert into questions (project, name) values (%s, %s) on conflict (project, name) do nothing returning id",
        (project, name),
    ).fetchone()
    if row is None:
        raise KeptError(NAME_TAKEN, f"name: there is a saved question {name!r} already. Change it with PUT.", "name")
    _add(connection, row[0], 1, description, False, asked, by)
    return one(connection, project, name)


def change(
    connection: Connection,
    project: int,
    name: str,
    *,
    description: str | msgspec.UnsetType,
    archived: bool | msgspec.UnsetType,
    asked: AnyAsked | AskPeople | msgspec.UnsetType,
    if_version: int | None,
    by: str,
) -> SavedQuestion:
    """The next version; none where nothing changes. raises KeptError, QuestionError"""
    check_description(description)
    hold(connection, project)
    found = one(connection, project, name)
    check_version(if_version, found.version)
    if asked is UNSET:
        asked = found.question
    else:
        check_known(connection, project, segments_of(asked), "question")
    description = found.description if description is UNSET else description
    archived = found.archived if archived is UNSET else archived
    if (asked, description, archived) == (found.question, found.description, found.archived):
        return found
    ((id_,),) = connection.execute(
        "update questions set version = version + 1 where project = %s and name = %s returning id", (project, name)
    )
    _add(connection, id_, found.version + 1, description, archived, asked, by)
    return one(connection, project, name)


def delete(connection: Connection, project: int, name: str) -> None:
    """With its versions. raises KeptError"""
    hold(connection, project)
    one(connection, project, name)
    connection.execute("delete from questions where project = %s and name = %s", (project, name))


def _add(
    connection: Connection,
    id_: int,
    version: int,
    description: str,
    archived: bool,
    asked: AnyAsked | AskPeople,
    by: str,
) -> None:
    kind = next(kind for kind, type_ in QUESTIONS.items() if type(asked) is type_)
    connection.execute(
        "insert into question_versions (question, version, description, archived, kind, asked, made_by)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        (id_, version, description, archived, kind, msgspec.json.encode(asked).decode(), by),
    )


def _question(row: tuple[Any, ...]) -> SavedQuestion:
    name, description, version, kind, asked, archived, created, at, by = row
    question = msgspec.json.decode(asked, type=QUESTIONS[kind])
    return SavedQuestion(name, description, version, kind, question, archived, moment(created), moment(at), by)
