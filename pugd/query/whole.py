"""One person, read whole: all rows of their actors, as they are, by three short statements; the rest is made of
them here.

ClickHouse takes longer to plan one of the statements that sum up a person or put a page together (timeline.py,
people.py) than to read what most persons ever did. So it is asked for the rows alone, up to ROWS_MAX of each table,
and what those statements would have said is said here, in the same form, so all that follows is one. Of whoever has
more rows than that, and where texts are searched or events are filtered, the statements are asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pugd.query import people
from pugd.query.people import Moment
from pugd.query.person import among, rows, touching
from pugd.query.sessions import IDLE_MS, LONGEST_MS, SAME_ID_MS
from pugd.query.sql import Plan, Sql, bound, joined, named, plan, sql
from pugd.query.timeline import EVENT, LINK, SESSION, TRAITS, Key, Row
from pugd.query.traits import History
from pugd.question import Timeline

ROWS_MAX: Final = 2_000
"""Of each table: with their texts about 2 MB, and 30 ms to take in."""


class Event(NamedTuple):
    """A row of `events_by_actor`."""

    actor: int
    at: int
    """When it occurred, as all times in ms."""
    received: int
    collector: str
    epoch: int
    position: int
    call: str
    event: str
    event_id: str
    user_id: str
    anonymous_id: str
    session_id: str
    transport: str
    platform: str
    bot: int
    cookieless: int
    path: str
    # What only a timeline shows.
    properties: str = ""
    context: str = ""
    url: str = ""
    title: str = ""
    country: str = ""
    region: str = ""
    city: str = ""

    @property
    def counts(self) -> bool:
        return not self.bot and not self.cookieless


class Operation(NamedTuple):
    """A row of `traits`."""

    actor: int
    at: int
    received: int
    collector: str
    epoch: int
    position: int
    event_id: str
    distinct_id: str
    user_id: str
    anonymous_id: str
    key: str
    operation: str
    value: str
    transport: str
    platform: str


class Entry(NamedTuple):
    """A row of `links`."""

    order: int
    a: int
    b: int
    a_id: str
    b_id: str
    call: str
    refused: str
    at: int
    received: int
    event_id: str
    transport: str
    platform: str
    collector: str
    epoch: int
    position: int


class Whole(msgspec.Struct, frozen=True):
    """All rows of a person's actors."""

    actors: tuple[int, ...]
    events: list[Event]
    operations: list[Operation]
    links: list[Entry]


# Reading.

_OTHERWISE = {
    "at": sql("toUnixTimestamp64Milli(occurred_at)"),
    "received": sql("toUnixTimestamp64Milli(received_at)"),
    "properties": sql("properties_text"),
    "order": sql("`order`"),
}


def _columns(fields: Iterable[str]) -> Sql:
    return joined(", ", (_OTHERWISE.get(field) or named(field) for field in fields))


_SHORT = _columns(field for field in Event._fields if field not in Event._field_defaults)
_LONG = _columns(Event._fields)
_OPERATION = _columns(Operation._fields)
_ENTRY = _columns(Entry._fields)


def plan_events(project: int, actors: Sequence[int], rows_max: int, *, texts: bool) -> Plan:
    """Rows of Event, and one more than there may be where there are more. `texts`: with what only a timeline shows."""
    return plan(
        sql(
            "SELECT $columns $rows LIMIT $limit",
            columns=_LONG if texts else _SHORT,
            rows=rows("events_by_actor", project, [among(sql("actor"), actors)], uncounted=True),
            limit=bound("UInt64", rows_max + 1),
        )
    )


def plan_operations(project: int, actors: Sequence[int], rows_max: int) -> Plan:
    """Rows of Operation, as above."""
    return plan(
        sql(
            "SELECT $columns $rows LIMIT $limit",
            columns=_OPERATION,
            rows=rows("traits", project, [among(sql("actor"), actors)]),
            limit=bound("UInt64", rows_max + 1),
        )
    )


def plan_links(project: int, actors: Sequence[int], rows_max: int) -> Plan:
    """Rows of Entry: of both sides up to as many as above."""
    sides = (
        sql(
            "SELECT $columns $rows LIMIT $limit",
            columns=_ENTRY,
            rows=rows("links", project, side),
            limit=bound("UInt64", rows_max + 1),
        )
        for side in touching(actors)
    )
    return plan(joined(" UNION ALL ", sides))


def shape(
    actors: Sequence[int],
    events: Sequence[Sequence[Any]],
    operations: Sequence[Sequence[Any]],
    links: Sequence[Sequence[Any]],
    rows_max: int,
) -> Whole | None:
    """Of rows that are of these actors and maybe of others too; None: there are too many."""
    if max(len(events), len(operations), len(links)) > rows_max:
        return None
    own = set(actors)
    return Whole(
        tuple(actors),
        [Event(*row) for row in events if row[0] in own],
        [Operation(*row) for row in operations if row[0] in own],
        [Entry(*row) for row in links if row[1] in own or row[2] in own],
    )


# What people.py asks.


def accepted(whole: Whole) -> people.Links:
    """As people.plan_links."""
    said: dict[tuple[int, int, str], tuple[str, str, Moment, Moment]] = {}
    for row in whole.links:
        if row.refused or row.call == "unlink":
            continue
        moment = (row.at, row.event_id)
        _, _, first, last = said.get((row.a, row.b, row.call), ("", "", moment, moment))
        said[row.a, row.b, row.call] = (row.a_id, row.b_id, min(first, moment), max(last, moment))
    return people.Links(
        [(a, b, a_id, b_id, call, first, last) for (a, b, call), (a_id, b_id, first, last) in said.items()]
    )


def refused(whole: Whole) -> Counter[str]:
    """As links.plan_refused."""
    return Counter(row.refused for row in whole.links if row.refused)


class _Seen:
    """Of an actor, as people.plan_activity sums it up."""

    __slots__ = ("bots", "cookieless", "counts", "earliest", "first", "id", "last", "user")

    def __init__(self, id_: str, at: int) -> None:
        self.id = id_
        self.user = False
        self.counts = self.bots = self.cookieless = 0
        self.first = self.last = at
        self.earliest: Moment | None = None


def activity(whole: Whole, links: people.Links) -> list[tuple[Any, ...]]:
    """As people.plan_activity."""
    linked = set(links.ids)
    found: dict[tuple[int, str, int, int], _Seen] = {}

    def seen(row: Event | Operation, id_: str, bot: int, cookieless: int) -> _Seen:
        beside = row.anonymous_id if row.user_id and row.anonymous_id in linked else ""
        key = (row.actor, beside, bot, cookieless)
        one = found.get(key)
        if one is None:
            one = found[key] = _Seen(id_, row.at)
        one.first, one.last = min(one.first, row.at), max(one.last, row.at)
        return one

    for event in whole.events:
        cookieless = int(event.cookieless and not event.bot)
        one = seen(event, event.user_id or event.anonymous_id, event.bot, cookieless)
        one.user |= event.user_id != ""
        one.counts += event.counts and event.call != "group"
        one.bots += event.bot
        one.cookieless += cookieless
        if event.event_id:
            moment = (event.at, event.event_id)
            one.earliest = moment if one.earliest is None else min(one.earliest, moment)
    for row in whole.operations:
        seen(row, row.distinct_id, 0, 0).user |= row.user_id == row.distinct_id
    return [
        (actor, one.id, beside, one.user, one.counts, one.first, one.last, one.bots, one.cookieless,
         one.earliest or (0, ""))
        for (actor, beside, _, _), one in found.items()
    ]  # fmt: skip


def values(whole: Whole, person: int, as_of: int | None) -> list[tuple[int, str, str, Sequence[float]]]:
    """As people.plan_traits, of one person."""
    calls: dict[str, dict[Moment, list[tuple[str, bytes]]]] = defaultdict(lambda: defaultdict(list))
    for row in whole.operations:
        if as_of is None or row.at <= as_of:
            calls[row.key][row.at, row.event_id].append((row.operation, row.value.encode()))
    found: list[tuple[int, str, str, Sequence[float]]] = []
    for key, said in calls.items():
        history = History()
        for moment in sorted(said):
            history.take(said[moment])
        found.append((person, key, history.base.decode(), history.additions))
    return found


# What timeline.py asks.


def entries(question: Timeline, whole: Whole, joins: Iterable[Moment], last: Key | None) -> list[Row]:
    """What timeline.plan_entries and plan_joins would find, and maybe more, but for entries that took others out."""
    types = question.types if question.event is None else ("event",)
    found: list[Row] = []
    if "event" in types:
        events = [
            row
            for row in whole.events
            if row.counts and question.event in (None, row.event) and _within(question, row[1:6], last)
        ]
        events.sort(key=lambda row: row[1:6], reverse=question.order == "desc")
        found += map(_event, events[: question.limit + 1])
    others: list[Row] = []
    if "traits" in types:
        others += _calls(whole)
    if "session" in types:
        others += _sessions(whole)
    if "link" in types:
        own = set(whole.actors)
        others += (
            _entry(row)
            for row in whole.links
            if row.call != "user" and not (row.call == "event" and not row.refused and row.a in own and row.b in own)
        )
        first = set(joins)
        others += (_join(row) for row in whole.events if row.counts and (row.at, row.event_id) in first)
    found += (row for row in others if _within(question, row[1:6], last))
    return found


def one(question: Timeline, whole: Whole, entry: str | None) -> Row | None:
    """As timeline.plan_one: the entry of this id, or else the first event of the name in `question.before`."""
    if entry is None:
        found: Iterator[Row] = (_event(row) for row in whole.events if row.counts and row.event == question.before)
    else:
        kind, _, event_id = entry.partition(":")
        every: Iterable[Row]
        if kind == "link":
            every = (_entry(row) for row in whole.links if row.call != "user")
        elif kind == "traits":
            every = _calls(whole)
        else:
            every = (_event(row) for row in whole.events if row.counts)
        found = (row for row in every if row.event_id == event_id)
    return min(found, key=lambda row: row[1:6], default=None)


def history(whole: Whole, page: Iterable[Row]) -> list[tuple[str, int, str, str, str]]:
    """As timeline.plan_history."""
    calls = [row for row in page if row.kind == TRAITS]
    keys = {key for row in calls for key, _, _ in row.operations}
    latest = max((row.occurred_at for row in calls), default=0)
    found = [
        (row.key, row.at, row.event_id, row.operation, row.value)
        for row in whole.operations
        if row.key in keys and row.at <= latest
    ]
    found.sort(key=lambda row: row[1:3])
    return found


def _within(question: Timeline, place: Sequence[Any], last: Key | None) -> bool:
    """`place`: where an entry stands, its time first."""
    if question.since is not None and place[0] < question.since:
        return False
    if question.until is not None and place[0] >= question.until:
        return False
    if last is None:
        return True
    end = (last.occurred_at, last.received_at, last.collector, last.epoch, last.position)
    return tuple(place) < end if last.order == "desc" else tuple(place) > end


def _event(row: Event) -> Row:
    return Row(
        EVENT, *row[1:6], row.event_id, row.user_id, row.anonymous_id, row.transport, row.platform, row.session_id,
        row.event, row.properties, row.context, row.path, row.url, row.title,
        whence=(row.country, row.region, row.city),
    )  # fmt: skip


def _join(row: Event) -> Row:
    return Row(
        LINK, *row[1:5], row.position - 1, row.event_id, row.user_id, row.anonymous_id, row.transport, row.platform,
        name="event", a=row.anonymous_id, b=row.user_id,
    )  # fmt: skip


def _entry(row: Entry) -> Row:
    said = row.call in ("identify", "event")
    return Row(
        LINK, row.at, row.received, row.collector, row.epoch, row.position, row.event_id, row.b_id if said else "",
        row.a_id if said and (row.a_id != row.b_id or row.refused) else "", row.transport, row.platform,
        name=row.call, place=row.order, a=row.a_id, b=row.b_id, refused=row.refused,
    )  # fmt: skip


def _calls(whole: Whole) -> Iterator[Row]:
    """Each call that set traits."""
    calls: dict[tuple[str, int, int], list[Operation]] = defaultdict(list)
    for row in whole.operations:
        calls[row.event_id, row.at, row.received].append(row)
    for operations in calls.values():
        first = min(operations, key=lambda row: row[3:6])
        yield Row(
            TRAITS, *first[1:7], first.user_id, first.anonymous_id, first.transport, first.platform,
            operations=[(row.key, row.operation, row.value) for row in operations],
        )  # fmt: skip


def _sessions(whole: Whole) -> Iterator[Row]:
    """Each session, as sessions.py has it."""
    lanes: Mapping[tuple[str, str], list[Event]] = defaultdict(list)
    for row in whole.events:
        if row.counts and row.call != "group":
            if row.session_id:
                lanes["session", row.session_id].append(row)
            elif row.platform != "server":
                lanes["device", row.anonymous_id or row.user_id].append(row)
    for (kind, _), events in lanes.items():
        events.sort(key=lambda row: (row.at, row.received, row.position))
        idle, longest = (IDLE_MS, LONGEST_MS) if kind == "device" else (SAME_ID_MS, None)
        session = [events[0]]
        for row in events[1:]:
            if row.at - session[-1].at > idle or (longest is not None and row.at - session[0].at > longest):
                yield _session(session)
                session = []
            session.append(row)
        yield _session(session)


def _session(events: Sequence[Event]) -> Row:
    first = events[0]
    pages = [row.path for row in events if row.path] or [""]
    return Row(
        SESSION, *first[1:5], first.position - 2, first.event_id, first.user_id, first.anonymous_id, first.transport,
        first.platform, first.session_id, str(len(events)), place=events[-1].at, a=pages[0], b=pages[-1],
    )  # fmt: skip
