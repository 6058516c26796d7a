"""Persons in SQL: the one place that says which project a read is of, and which person an actor belongs to.

Every read of a table goes through `rows`, which adds the project's predicate (and for events leaves out bots and
cookieless visitors), so that no question can forget it.

`person_of` says from which place of the link log on an actor belongs to a person; the latest place wins, and an actor
that never stood there is its own person. New places may arrive while a question runs, and a statement that reads the
table twice may see them in one read and not in the other. Hence a question first takes the newest place (`newest`), and
all its reads of `person_of` stop there (`mapping`): rows are only ever added, in the order of their places, so what is
at or before a place that was seen once is seen by every later read.

One person is read in two steps: `located` finds all its actors, and everything after that reads by these actors alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from pugd.query.sql import Plan, Sql, all_of, bound, plan, sql

_TABLES = {"events": sql("events"), "traits": sql("traits"), "links": sql("links"), "person_of": sql("person_of")}


class Located(msgspec.Struct, frozen=True):
    """A person and all the actors that belong to it, itself among them, ascending."""

    person: int
    actors: tuple[int, ...]


def rows(
    table: str,
    project: int,
    conditions: Iterable[Sql] = (),
    *,
    uncounted: bool = False,
    bots: bool = False,
    cookieless: bool = False,
) -> Sql:
    """`FROM table WHERE …`, of one project. `bots`: with the events of bots too; `cookieless`: with those of cookieless
    visitors; `uncounted`: with both."""
    found = [sql("project = $project", project=bound("UInt32", project))]
    if table == "events" and not uncounted:
        if not bots:
            found.append(sql("bot = 0"))
        if not cookieless:
            found.append(sql("cookieless = 0"))
    return sql("FROM $table WHERE $conditions", table=_TABLES[table], conditions=all_of([*found, *conditions]))


def among(column: Sql, actors: Sequence[int]) -> Sql:
    """Is the actor in `column` one of these?"""
    return sql("$column IN $actors", column=column, actors=bound("Array(UInt64)", list(actors)))


def touching(actors: Sequence[int]) -> tuple[list[Sql], list[Sql]]:
    """Conditions of two reads that together find each link of these actors once: each side has an index of its own,
    and a condition on both would use neither."""
    a, b = among(sql("a"), actors), among(sql("b"), actors)
    return [a], [b, sql("NOT $a", a=a)]


def newest(project: int) -> Sql:
    """The link log's newest place that has arrived: a scalar, taken once in a statement."""
    return sql("(SELECT max(version) $rows)", rows=rows("person_of", project))


def mapping(project: int, place: Sql, conditions: Iterable[Sql] = ()) -> Sql:
    """A sub-select of (actor, person) as of a place of the link log."""
    return sql(
        "(SELECT actor, argMax(person, version) AS person $rows GROUP BY actor)",
        rows=rows("person_of", project, [sql("version <= $place", place=place), *conditions]),
    )


def locating(project: int, actors: Sequence[int], place: int | None = None) -> Plan:
    """Which persons do these actors belong to, and which actors have those persons, or had?

    `place`  where an earlier statement of the same question stood in the link log; None: now
    returns  rows of (actor, its person, all persons that it ever belonged to)
    """
    given = bound("Array(UInt64)", list(actors))
    at = newest(project) if place is None else bound("UInt64", place)
    of_given = sql("SELECT person FROM $mapping", mapping=mapping(project, sql("place"), [among(sql("actor"), actors)]))
    persons = sql("($of_given UNION ALL SELECT arrayJoin($given))", of_given=of_given, given=given)
    ever = sql(
        "SELECT actor $rows",
        rows=rows("person_of", project, [sql("person IN $persons", persons=persons)]),
    )
    condition = sql("actor IN ($ever UNION ALL SELECT arrayJoin($given))", ever=ever, given=given)
    return plan(
        sql(
            "WITH $at AS place SELECT actor, argMax(person, version), groupUniqArray(person) $rows GROUP BY actor",
            at=at,
            rows=rows("person_of", project, [sql("version <= place"), condition]),
        )
    )


def located(actors: Sequence[int], found: Iterable[tuple[int, int, Sequence[int]]]) -> dict[int, Located]:
    """Each of the actors asked for → its person, with all its actors. One that stands nowhere is its own person."""
    present = {actor: person for actor, person, _ in found}
    members: dict[int, set[int]] = {}
    for actor, person in present.items():
        members.setdefault(person, {person}).add(actor)
    answer = {}
    for actor in actors:
        person = present.get(actor, actor)
        own = {at for at in members.get(person, {person}) if present.get(at, at) == person}
        answer[actor] = Located(person, tuple(sorted(own | {actor})))
    return answer
