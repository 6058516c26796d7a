"""Persons in SQL: the one place that says which project a read is of, and which person an actor belongs to.

Every read of a table goes through `rows`, which adds the project's predicate (and for events leaves out bots and
cookieless visitors), so that no question can forget it.

`person_of` says from which place of the link log on an actor belongs to a person; the latest place wins, and an actor
that never stood there is its own person. New places may arrive while a question runs, and a statement that reads the
table twice may see them in one read and not in the other. Hence a question first takes the newest place (`newest`), and
all its reads of `person_of` stop there (`mapping`): rows are only ever added, in the order of their places, so what is
at or before a place that was seen once is seen by every later read.

That is `Owners`: either all of `person_of` as of the place, brought together and joined, or, where that of an earlier
place is kept in ClickHouse's memory (belonging.py), a look-up there, with what came since beside it as values.

Given persons are read in two steps: `located` finds all their actors, and everything after that reads by these actors
alone. Three short statements find them (persons.py): one long one would take ClickHouse longer to plan than these take.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from pugd.query.sql import Plan, Sql, all_of, bound, plan, sql

_TABLES = {
    "events": sql("events"),
    "events_by_actor": sql("events_by_actor"),
    "traits": sql("traits"),
    "links": sql("links"),
    "person_of": sql("person_of"),
}


class Kept(msgspec.Struct, frozen=True, eq=False):
    """Whom the actors belong to, of whom it is not their own, at hand as of an earlier place."""

    name: str
    """Of a dictionary: actor -> person."""
    cells: str
    """Of another: which cells of actors are some of these in?"""
    shift: int
    """Of an actor's bits so many are not its cell's."""
    actors: tuple[int, ...] = ()
    """Who was placed since,"""
    persons: tuple[int, ...] = ()
    """and where each is now: maybe as its own person again."""
    held: object = None
    """The dictionaries are there while this is."""


class Owners(msgspec.Struct, frozen=True, eq=False):
    """Which person each actor of a project belongs to, as of one place of the link log."""

    project: int
    place: Sql
    kept: Kept | None = None

    def of(self, given: Sql) -> Sql:
        """The person of `given.actor`, in a statement that has `known(given)` right behind `given`."""
        if self.kept is None:
            return sql("if(known.person = 0, $given.actor, known.person)", given=given)
        # Most actors are in a cell of nobody's, and cells lie as actors do in a table: so most are told by memory that
        # was read just before. ClickHouse looks the others up alone.
        person = sql(
            """
if(dictHas($cells, bitShiftRight($given.actor, $shift)),
    dictGetOrDefault($name, 'person', $given.actor, $given.actor), $given.actor)""",
            cells=bound("String", self.kept.cells),
            shift=bound("UInt8", self.kept.shift),
            name=bound("String", self.kept.name),
            given=given,
        )
        if not self.kept.actors:
            return person
        return sql(
            "transform($given.actor, $actors, $persons, $person)",
            given=given,
            actors=bound("Array(UInt64)", list(self.kept.actors)),
            persons=bound("Array(UInt64)", list(self.kept.persons)),
            person=person,
        )

    def known(self, given: Sql, conditions: Iterable[Sql] = ()) -> Sql:
        """` LEFT JOIN …`, or nothing where none is needed. `conditions`: on rows of `person_of`; others are not met."""
        if self.kept is not None:
            return sql("")
        found = mapping(self.project, self.place, conditions)
        return sql(" LEFT JOIN $found AS known ON known.actor = $given.actor", found=found, given=given)

    def mapping(self) -> Sql:
        """A sub-select of (actor, person): at least all actors that are not a person of their own."""
        if self.kept is None:
            return mapping(self.project, self.place)
        name = bound("String", self.kept.name)
        if not self.kept.actors:
            return sql("(SELECT actor, person FROM dictionary($name))", name=name)
        return sql(
            """(
SELECT actor, person FROM dictionary($name) WHERE actor NOT IN $actors
UNION ALL SELECT each.1 AS actor, each.2 AS person FROM (SELECT arrayJoin(arrayZip($actors, $persons)) AS each)
)""",
            name=name,
            actors=bound("Array(UInt64)", list(self.kept.actors)),
            persons=bound("Array(UInt64)", list(self.kept.persons)),
        )


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
    """`FROM table WHERE …`, of one project. `events_by_actor` holds the rows of `events` too, but for some columns, and
    is read where actors are given and these suffice. `bots`: with the events of bots too; `cookieless`: with those of
    cookieless visitors; `uncounted`: with both."""
    found = [sql("project = $project", project=bound("UInt32", project))]
    if table in ("events", "events_by_actor") and not uncounted:
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


CHANGES_MAX = 5_000
"""Actors whose persons are given with a question as values."""


class Changes(msgspec.Struct, frozen=True):
    """What came into `person_of` since an earlier place."""

    place: int
    """The newest."""
    rows: int
    """How many there are of the earlier place and before."""
    actors: tuple[int, ...]
    persons: tuple[int, ...]
    """Of each of them now."""
    whole: bool
    """There are no more than these."""


def plan_changes(project: int, since: int | None) -> Plan:
    """`since`: a place in the link log; None: nothing is asked of what came.

    cost  3 ms: of `person_of` only parts are read in which something is later
    """
    later = sql("version > $after", after=bound("UInt64", 2**64 - 1 if since is None else since))
    return plan(
        sql(
            """
WITH $newest AS place
SELECT place, toUInt64((SELECT count() $all) - (SELECT count() $later)), (
    SELECT groupArray((actor, person)) FROM (
        SELECT actor, argMax(person, version) AS person $changed GROUP BY actor LIMIT $limit
    )
)""",
            newest=newest(project),
            all=rows("person_of", project),
            later=rows("person_of", project, [later]),
            changed=rows("person_of", project, [later, sql("version <= place")]),
            limit=bound("UInt64", CHANGES_MAX + 1),
        )
    )


def shape_changes(found: Sequence[Sequence[Any]]) -> Changes:
    """The statement's one row."""
    ((place, count, pairs),) = found
    actors, persons = tuple(actor for actor, _ in pairs), tuple(person for _, person in pairs)
    return Changes(place, count, actors, persons, len(pairs) <= CHANGES_MAX)


def counting(project: int, place: int) -> Plan:
    """How many rows there are of a place and before."""
    condition = sql("version <= $place", place=bound("UInt64", place))
    return plan(sql("SELECT count() $rows", rows=rows("person_of", project, [condition])))


def keeping(database: str, project: int, place: int) -> str:
    """What a dictionary keeps: (actor, person) of whoever is not a person of their own, as of a place. In a definition
    no value can be bound: these are numbers of ours, and the name of our database."""
    return (
        f"SELECT actor, argMax(person, version) AS person FROM {database}.person_of"  # noqa: S608
        f" WHERE project = {project:d} AND version <= {place:d} GROUP BY actor HAVING person != actor"
    )


def plan_newest(project: int) -> Plan:
    """The link log's newest place that has arrived: one row."""
    return plan(sql("SELECT max(version) $rows", rows=rows("person_of", project)))


def plan_places(project: int, actors: Iterable[int]) -> Plan:
    """All that was ever said of where these actors belong: rows of (actor, person, from which place of the log on)."""
    own = among(sql("actor"), sorted(actors))
    return plan(sql("SELECT actor, person, version $rows", rows=rows("person_of", project, [own])))


def plan_belonged(project: int, persons: Iterable[int]) -> Plan:
    """Actors that ever belonged to one of these persons, maybe more than once."""
    condition = among(sql("person"), sorted(persons))
    return plan(sql("SELECT actor $rows", rows=rows("person_of", project, [condition])))


def shape_places(found: Iterable[tuple[int, int, int]], place: int) -> list[tuple[int, int, set[int]]]:
    """Rows of `plan_places` → (actor, its person as of a place, all persons that it ever belonged to until then)."""
    latest: dict[int, tuple[int, int]] = {}
    ever: dict[int, set[int]] = {}
    for actor, person, version in found:
        if version <= place:
            latest[actor] = max(latest.get(actor, (0, 0)), (version, person))
            ever.setdefault(actor, set()).add(person)
    return [(actor, person, ever[actor]) for actor, (_, person) in latest.items()]


def celling(name: str, shift: int) -> str:
    """What the dictionary beside it keeps: (cell, inhabited) of each cell that somebody of `name` is in. Taken from
    there, since whom the table has may have changed in between."""
    return f"SELECT DISTINCT bitShiftRight(actor, {shift:d}) AS cell, 1 AS inhabited FROM {name}"  # noqa: S608


def located(actors: Sequence[int], found: Iterable[tuple[int, int, Collection[int]]]) -> dict[int, Located]:
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
