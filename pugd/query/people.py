"""The people of a project: who matches, in which order, and what is known of each.

Two halves. `plan_page` and `shape_page` find the page: one statement sums up each actor, joins the sums to persons, and
keeps the count and the page's sort keys. `plan_links`, `plan_activity` and `plan_traits` then read what is known of
given persons by their actors alone, and `shape_persons` puts it together: for a list, for one person, and for the head
of a timeline.

A person exists from an event that counts, from traits, or from an accepted entry of the link log. All of these tell
when an id was seen, but for links made by hand (`merge`, `unlink`), which are nobody's own doing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pugd.model import person_text
from pugd.query import cursor, order, times, traits
from pugd.query.filters import contains, json_contains, moment, spelled
from pugd.query.person import Located, Owners, among, mapping, rows, touching
from pugd.query.sql import Plan, Sql, all_of, bound, joined, plan, sql
from pugd.question import LeftOut, People, Person, PersonId

_BY_HAND = sql("call IN ('merge', 'unlink')")
_ACCEPTED = sql("refused = ''")


class _Key(msgspec.Struct, frozen=True, array_like=True, tag="people"):
    """Of the last person of a page."""

    sort: str
    """As it was asked for, or where that may be long, a hash of it."""
    key: int | str
    """Of query/order.py: of a trait it is text."""
    person: int

    def __post_init__(self) -> None:
        if isinstance(self.key, int):
            cursor.bounded(self.key, -(2**63), 2**63)
        elif not order.KEY.fullmatch(self.key):
            raise ValueError("no sort key")
        cursor.bounded(self.person, 0, 2**64)


class Page(msgspec.Struct, frozen=True):
    """Which persons are on the page, in order."""

    place: int
    """Of the link log, that all this is true of."""
    count: int
    persons: list[int]
    next: str | None
    left_out: LeftOut


MATCHING_MAX = 10_000
"""Actors that are read one by one; where a search may find more, the page sums up everybody."""


FEW_MAX = 2_000
"""Actors whose events are read one by one; all of a project's, as far as 10 million, are read as quickly as those of
more."""


def plan_matching(question: People, place: Sql) -> Plan:
    """All actors of all persons of whom some id, or something ever said of a trait, has the searched text in it. So a
    search that finds few reads the texts of everybody, but sums up those few alone.

    cost  0.25 s of a processor for the ids of 10 M events
    """
    project = question.project
    return plan(
        sql(
            """
WITH $place AS place,
    (
        SELECT groupArray(actor) FROM (
            SELECT DISTINCT actor FROM (
                SELECT actor $events
                UNION ALL SELECT actor $traits
                UNION ALL SELECT side.1 AS actor
                FROM (SELECT arrayJoin([(a, a_id), (b, b_id)]) AS side $links) WHERE $match_link
            ) LIMIT $limit
        )
    ) AS met,
    length(met) < $limit AS few
SELECT few, groupArray(actor) FROM (
    SELECT DISTINCT arrayJoin([belonging.actor, found.person]) AS actor
    FROM $mapping AS belonging
    RIGHT JOIN (
        SELECT DISTINCT if(known.person = 0, said.actor, known.person) AS person
        FROM (SELECT arrayJoin(met) AS actor WHERE few) AS said
        LEFT JOIN $met_mapping AS known ON known.actor = said.actor
    ) AS found ON belonging.person = found.person
    WHERE actor != 0
)""",
            place=place,
            mapping=mapping(project, sql("place")),
            met_mapping=mapping(project, sql("place"), [sql("actor IN (SELECT arrayJoin(met))")]),
            events=rows("events", project, [contains(_OWN_ID, question.search)]),
            traits=rows(
                "traits",
                project,
                [
                    sql(
                        "($own OR $said)",
                        own=contains(sql("distinct_id"), question.search),
                        said=_may_match(question.search),
                    ),
                    *_until(question.as_of),
                ],
            ),
            links=rows("links", project, [_ACCEPTED, sql("NOT $by_hand", by_hand=_BY_HAND)]),
            match_link=contains(sql("side.2"), question.search),
            limit=bound("UInt64", MATCHING_MAX + 1),
        )
    )


def shape_matching(found: Sequence[Sequence[Any]]) -> list[int] | None:
    """The statement's one row. None: they are too many."""
    ((few, actors),) = found
    return actors if few and len(actors) <= MATCHING_MAX else None


def plan_page(question: People, owners: Owners, only: Sql | None = None, actors: Sequence[int] | None = None) -> Plan:
    """Find the page. Reads the project's events once, by their narrow columns alone unless ids are searched.

    `owners`  as of a place of the link log
    `only`    a sub-select of the persons that it is of; None: of everybody
    `actors`  all actors of whoever can be on it; None: of everybody
    """
    project = question.project
    conditions = []
    if only is not None:
        conditions.append(sql("person IN $only", only=only))
    if question.search:
        conditions.append(sql("matches"))
    if question.identified is not None:
        conditions.append(sql("identified") if question.identified else sql("NOT identified"))
    sorting = order.read(question.sort)
    beyond = sql("1")
    if question.cursor is not None:
        last = cursor.read(question.cursor, _Key)
        if last.sort != _sort(question) or isinstance(last.key, int) == bool(sorting.trait):
            raise cursor.refusal()
        beyond = sql(
            "(key, person) > ($key, $person)",
            key=bound("String", last.key) if sorting.trait else bound("Int64", last.key),
            person=bound("UInt64", last.person),
        )
    people = everybody(owners, search=question.search, as_of=question.as_of, actors=actors)
    if sorting.trait:
        key = order.of_trait(sorting, sql("told.present"))
        told = present(owners, sorting.trait[0], question.as_of)
        people = sql(
            "$people AS everybody LEFT JOIN $told AS told ON told.person = everybody.person", people=people, told=told
        )
    else:
        key = order.of_fact(sorting)
    return plan(
        sql(
            """
WITH $place AS place
SELECT place, count(), groupArraySortedIf($limit)((key, person), $beyond),
    (SELECT (sum(bot), sum(cookieless AND NOT bot)) $all_events)
FROM (
    SELECT person, $key AS key FROM $people WHERE $conditions
)""",
            place=owners.place,
            limit=bound("UInt32", question.limit + 1),
            beyond=beyond,
            all_events=rows("events", project, uncounted=True),
            key=key,
            people=people,
            conditions=all_of(conditions),
        )
    )


def everybody(
    owners: Owners,
    *,
    search: str = "",
    as_of: int | None = None,
    include_bots: bool = False,
    actors: Sequence[int] | None = None,
) -> Sql:
    """A sub-select of (person, events, first_seen, last_seen, identified, matches): everybody there is, times in ms.
    `matches`: an id, or a trait `as_of` a time or now, has `search` in it. `actors`: of those persons alone who have
    these, which are all that they have."""
    project = owners.project
    own = [] if actors is None else [among(sql("actor"), actors)]
    found = [
        _events(project, search, include_bots, own, few=actors is not None and len(actors) <= FEW_MAX),
        _traits(project, search, own),
        _links(project, search, actors),
    ]
    if search:
        found.append(_trait_matches(owners, search, as_of, own))
    return sql(
        """(
    SELECT $owner AS person,
        sum(seen.count) AS events, min(seen.first) AS first_seen, max(seen.last) AS last_seen,
        max(seen.user) AS identified, max(seen.match) AS matches
    FROM ($found) AS seen$known
    GROUP BY person
)""",
        owner=owners.of(sql("seen")),
        found=joined(" UNION ALL ", found),
        known=owners.known(sql("seen"), own),
    )


def shape_page(question: People, found: Sequence[Sequence[Any]]) -> Page:
    """The statement's one row → the page."""
    ((place, count, keys, (bots, cookieless)),) = found
    following = None
    if len(keys) > question.limit:
        keys = keys[: question.limit]
        following = cursor.written(_Key(_sort(question), *keys[-1]))
    return Page(place, count, [person for _, person in keys], following, LeftOut(bots, cookieless))


def _sort(question: People) -> str:
    if not order.read(question.sort).trait:
        return question.sort
    return hashlib.blake2b(question.sort.encode(errors="replace"), digest_size=8).hexdigest()


def present(owners: Owners, key: str, as_of: int | None = None) -> Sql:
    """A sub-select of (person, present): a trait's JSON text now, or as of a time, of who has it."""
    changes = changes_of(owners, key, _until(as_of))
    return sql("(SELECT person, present FROM $found)", found=traits.resolved(sql("owner"), changes))


def changes_of(owners: Owners, key: str, conditions: Iterable[Sql] = ()) -> Sql:
    """Rows of `traits` of one key, each with its person as `owner`. No name in it is one that a question gives to a
    column around it (`said`): ClickHouse would take that for meant."""
    return sql(
        """
FROM (
    SELECT changed.*, $owner AS owner
    FROM (SELECT actor, key, operation, value, occurred_at, event_id $rows) AS changed$known
)""",
        owner=owners.of(sql("changed")),
        rows=rows("traits", owners.project, [sql("key = $key", key=bound("String", key)), *conditions]),
        known=owners.known(sql("changed")),
    )


def plan_sights(project: int, actors: Sequence[int]) -> Plan:
    """Each sight of these actors, as `everybody` counts them: rows of (ms, is it an event that counts, does it say a
    user id)."""
    own = among(sql("actor"), actors)
    at = sql("toUnixTimestamp64Milli(occurred_at)")
    return plan(
        sql(
            """
SELECT $at, call != 'group', user_id != '' $events
UNION ALL SELECT $at, 0, user_id = distinct_id $traits
UNION ALL SELECT at, 0, side.3 FROM (
    SELECT $at AS at, arrayJoin([(a, a_id, call = 'user'), (b, b_id, call IN ('identify', 'event'))]) AS side $links
) WHERE side.2 != '' AND $among""",
            at=at,
            events=rows("events_by_actor", project, [own]),
            traits=rows("traits", project, [own]),
            links=rows("links", project, [_ACCEPTED, sql("NOT $by_hand", by_hand=_BY_HAND), _touching(actors)]),
            among=among(sql("side.1"), actors),
        )
    )


def _touching(actors: Sequence[int]) -> Sql:
    return sql("($a OR $b)", a=among(sql("a"), actors), b=among(sql("b"), actors))


_OWN_ID = sql("if(user_id != '', user_id, anonymous_id)")


def _events(project: int, search: str, include_bots: bool, own: list[Sql], *, few: bool) -> Sql:
    table = "events_by_actor" if few else "events"
    return sql(
        """
SELECT actor, countIf(call != 'group') AS count, toUnixTimestamp64Milli(min(occurred_at)) AS first,
    toUnixTimestamp64Milli(max(occurred_at)) AS last, max(user_id != '') AS user, max($match) AS match
$rows GROUP BY actor""",
        match=contains(_OWN_ID, search) if search else sql("0"),
        rows=rows(table, project, own, bots=include_bots),
    )


def _traits(project: int, search: str, own: list[Sql]) -> Sql:
    return sql(
        """
SELECT actor, 0 AS count, toUnixTimestamp64Milli(min(occurred_at)) AS first,
    toUnixTimestamp64Milli(max(occurred_at)) AS last, max(user_id = distinct_id) AS user, max($match) AS match
$rows GROUP BY actor""",
        match=contains(sql("distinct_id"), search) if search else sql("0"),
        rows=rows("traits", project, own),
    )


def _links(project: int, search: str, actors: Sequence[int] | None) -> Sql:
    """Both ends of each accepted entry; by hand made ones say nothing of when, and so must not come first or last."""
    return sql(
        """
SELECT side.1 AS actor, 0 AS count, toUnixTimestamp64Milli(min(occurred_at)) AS first,
    toUnixTimestamp64Milli(max(occurred_at)) AS last, max(side.3) AS user, max($match) AS match
FROM (
    SELECT occurred_at,
        arrayJoin([(a, a_id, call = 'user'), (b, b_id, call IN ('identify', 'event'))]) AS side $rows
)
WHERE side.2 != '' AND $among GROUP BY actor""",
        match=contains(sql("side.2"), search) if search else sql("0"),
        among=sql("1") if actors is None else among(sql("side.1"), actors),
        rows=rows(
            "links",
            project,
            [_ACCEPTED, sql("NOT $by_hand", by_hand=_BY_HAND), *([] if actors is None else [_touching(actors)])],
        ),
    )


def _may_match(search: str) -> Sql:
    """Of a row of `traits`: the value may come to have the searched text in it by this."""
    return sql("(operation = 'add' OR $match)", match=json_contains(spelled(sql("value")), search))


def _trait_matches(owners: Owners, search: str, as_of: int | None, own: list[Sql]) -> Sql:
    """Persons one of whose traits matches, as of a time or now, in the form of the sums above. Only those are resolved
    of whom some operation says what is searched for, or adds, which may make any number."""
    until = [*_until(as_of), *own]
    project = owners.project
    person, known = owners.of(sql("said")), owners.known(sql("said"), own)
    may = _may_match(search)
    candidates = sql(
        "SELECT $person FROM (SELECT actor $rows) AS said$known",
        person=person,
        rows=rows("traits", project, [may, *until]),
        known=known,
    )
    said = sql(
        "FROM (SELECT * $rows) AS said$known WHERE $person IN ($candidates)",
        rows=rows("traits", project, until),
        known=known,
        person=person,
        candidates=candidates,
    )
    return sql(
        """
SELECT person AS actor, 0 AS count, $last AS first, $first AS last, 0 AS user, 1 AS match
FROM $resolved WHERE $match GROUP BY person""",
        first=bound("Int64", -(2**62)),
        last=bound("Int64", 2**62),
        resolved=traits.resolved(person, said),
        match=json_contains(spelled(sql("present")), search),
    )


# What is known of given persons.


Moment = tuple[int, str]
"""When and by which call: occurred_at in ms, then the event id. Of two calls this says which was first, however they
arrived."""


class Links(msgspec.Struct, frozen=True):
    """What the accepted rows of `links` say that touch some actors."""

    rows: list[tuple[int, int, str, str, str, Moment, Moment]]
    """(a, b, a_id, b_id, call, first, last): each pair and call once."""

    @property
    def ids(self) -> list[str]:
        return sorted({id_ for row in self.rows for id_ in row[2:4] if id_})


def plan_links(project: int, actors: Sequence[int]) -> Plan:
    """What is said of these actors by calls that were not refused, however often."""
    sides = (
        sql(
            """
SELECT a, b, any(a_id), any(b_id), toString(call) AS call, min((toUnixTimestamp64Milli(occurred_at), event_id)),
    max((toUnixTimestamp64Milli(occurred_at), event_id))
$rows GROUP BY a, b, call""",
            rows=rows("links", project, [_ACCEPTED, sql("call != 'unlink'"), *side]),
        )
        for side in touching(actors)
    )
    return plan(joined(" UNION ALL ", sides))


def plan_activity(project: int, actors: Sequence[int], links: Links) -> Plan:
    """When and under which ids these actors were seen. A call with both ids is also a sight of its anonymous id, where
    that is linked to anyone here; and of the events that say both, which is the first."""
    own = among(sql("actor"), actors)
    counts = sql("bot = 0 AND cookieless = 0 AND call != 'group'")
    return plan(
        sql(
            """
SELECT actor, any(id), beside, max(user), sum(counts), toUnixTimestamp64Milli(min(at)), toUnixTimestamp64Milli(max(at)),
    sum(is_bot), sum(is_cookieless), minIf((toUnixTimestamp64Milli(at), event), event != '')
FROM (
    SELECT actor, if(user_id != '', user_id, anonymous_id) AS id,
        if(user_id != '' AND anonymous_id IN $linked, anonymous_id, '') AS beside, user_id != '' AS user,
        toUInt64($counts) AS counts, occurred_at AS at, bot AS is_bot, cookieless AND NOT bot AS is_cookieless,
        event_id AS event
    $events
    UNION ALL
    SELECT actor, distinct_id, if(user_id != '' AND anonymous_id IN $linked, anonymous_id, ''), user_id = distinct_id,
        0, occurred_at, 0, 0, ''
    $traits
)
GROUP BY actor, beside, is_bot, is_cookieless""",
            linked=bound("Array(String)", links.ids),
            counts=counts,
            events=rows("events_by_actor", project, [own], uncounted=True),
            traits=rows("traits", project, [own]),
        )
    )


def plan_traits(project: int, located: Iterable[Located], as_of: int | None = None) -> Plan:
    """The traits of these persons, as of a time or now."""
    owners = {actor: at.person for at in located for actor in at.actors}
    actors = list(owners)
    person = sql(
        "transform(actor, $actors, $persons, actor)",
        actors=bound("Array(UInt64)", actors),
        persons=bound("Array(UInt64)", list(owners.values())),
    )
    found = rows("traits", project, [among(sql("actor"), actors), *_until(as_of)])
    return plan(sql("SELECT person, key, base, additions FROM $grouped", grouped=traits.grouped(person, found)))


def _until(as_of: int | None) -> list[Sql]:
    """Changes of traits at that very millisecond count too: an event's own are there at the time of the event."""
    return [] if as_of is None else [sql("occurred_at <= $as_of", as_of=moment(as_of))]


class _Sight:
    """When an id was seen, and as what."""

    __slots__ = ("first", "kind", "last")

    def __init__(self) -> None:
        self.first, self.last = _NEVER, -_NEVER
        self.kind = 0

    def add(self, first: int, last: int, kind: int) -> None:
        self.first, self.last = min(self.first, first), max(self.last, last)
        self.kind = max(self.kind, kind)


_UNKNOWN, _ANONYMOUS, _USER = 0, 1, 2
_KINDS = ("unknown", "anonymous", "user")
_NEVER = 2**62


def shape_persons(
    located: Iterable[Located],
    links: Links,
    activity: Iterable[Sequence[Any]],
    trait_rows: Iterable[tuple[int, str, str, Sequence[float]]],
    *,
    ids_max: int | None = None,
) -> tuple[dict[int, Person], LeftOut]:
    """What is known of each of these persons; those of whom nothing is known are not persons, and not in it."""
    located = list(located)
    owner = {actor: at.person for at in located for actor in at.actors}
    sights: dict[int, dict[str, _Sight]] = {at.person: defaultdict(_Sight) for at in located}
    alive: set[int] = set()
    events: dict[int, int] = defaultdict(int)
    alias: dict[int, list[tuple[Moment, str, str]]] = defaultdict(list)
    by_hand: list[tuple[_Sight, int]] = []
    for a, b, a_id, b_id, call, earliest, latest in links.rows:
        kinds = {
            "identify": (_ANONYMOUS, _USER),
            "event": (_ANONYMOUS, _USER),
            "user": (_USER, _UNKNOWN),
        }.get(call, (_UNKNOWN, _UNKNOWN))
        for actor, id_, kind in ((a, a_id, kinds[0]), (b, b_id, kinds[1])):
            person = owner.get(actor)
            if person is None or not id_:
                continue
            sight = sights[person][id_]
            if call == "merge":
                by_hand.append((sight, earliest[0]))
                continue
            alive.add(person)
            sight.add(earliest[0], latest[0], kind)
        if call == "alias" and owner.get(a) is not None and owner.get(a) == owner.get(b):
            alias[owner[a]].append((latest, a_id, b_id))
    bots = cookieless = 0
    beside_sights: list[tuple[int, str, int, int]] = []
    for actor, id_, beside, user, count, first, last, bot_count, cookieless_count, _ in activity:
        bots += bot_count
        cookieless += cookieless_count
        if bot_count or cookieless_count:
            continue
        person = owner[actor]
        alive.add(person)
        events[person] += count
        sights[person][id_].add(first, last, _USER if user else _ANONYMOUS)
        if beside:
            beside_sights.append((person, beside, first, last))
    for person, beside, first, last in beside_sights:
        if beside in sights[person]:
            sights[person][beside].add(first, last, _ANONYMOUS)
    for sight, at in sorted(by_hand, key=lambda one: one[1]):
        if sight.first == _NEVER:
            sight.add(at, at, _UNKNOWN)
    present: dict[int, dict[str, msgspec.Raw]] = defaultdict(dict)
    for person, key, base, additions in trait_rows:
        json = traits.value(base.encode(), additions)
        if json is not None:
            present[person][key] = msgspec.Raw(json)
    persons = {
        person: _person(person, sights[person], alias[person], present[person], events[person], ids_max)
        for person in sights
        if person in alive
    }
    return persons, LeftOut(bots, cookieless)


def _person(
    person: int,
    sights: Mapping[str, _Sight],
    alias: list[tuple[Moment, str, str]],
    present: dict[str, msgspec.Raw],
    events: int,
    ids_max: int | None,
) -> Person:
    ordered = sorted(sights.items(), key=lambda item: (-item[1].kind, item[1].first, item[0]))
    user_ids = [id_ for id_, sight in ordered if sight.kind == _USER]
    between = [(latest, b_id) for latest, a_id, b_id in alias if a_id in user_ids and b_id in user_ids]
    user_id = max(between)[1] if between else user_ids[0] if user_ids else None
    ids = [
        PersonId(id_, _KINDS[sight.kind], times.text(sight.first), times.text(sight.last))
        for id_, sight in ordered[:ids_max]
    ]
    return Person(
        id=person_text(person),
        user_id=user_id,
        user_ids=user_ids,
        ids=ids,
        ids_count=len(ordered),
        traits=dict(sorted(present.items())),
        first_seen=times.text(min(sight.first for sight in sights.values())),
        last_seen=times.text(max(sight.last for sight in sights.values())),
        events=events,
    )
