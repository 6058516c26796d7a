"""One person's timeline: events, calls that set traits, and links, over all their ids.

Everything is read by the person's actors alone, so it costs what the person did, not what the project holds. One
statement reads the three kinds, each only as far as the page goes. Entries are ordered by (occurred_at, received_at,
where the row came from): millisecond order, ties in the order of arrival, never two alike, so a page continues exactly
where the one before ended.

Each identify and alias is an entry of links, whatever it changed. Of events with two ids, the one that says them first
is such an entry too, unless a call said so before (query/links.py tells): its row stands just before the event's own.

A call that sets traits is one entry. What it changed is seen from the person: the value before it, over all the
person's actors as they are today, and the value after. That needs the earlier operations on the same keys, which
`plan_history` reads when there are such entries on the page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pugd.query import cursor, summary, times
from pugd.query.filters import contains, json_contains, members_contain, moment, spelled
from pugd.query.people import Moment
from pugd.query.person import among, rows, touching
from pugd.query.sequence import COUNTED, KEY
from pugd.query.sessions import LANE, Span, sessions
from pugd.query.sql import Plan, Sql, all_of, any_of, bound, joined, plan, sql
from pugd.query.traits import History, raw
from pugd.question import Change, EventEntry, LinkEntry, SessionEntry, Timeline, TraitsEntry

EVENT, TRAITS, LINK, SESSION = 1, 2, 3, 4

_MS_MAX = 2**48
"""Beyond the last millisecond that ClickHouse's DateTime64(3) holds (the year 2299)."""


class Key(msgspec.Struct, frozen=True, array_like=True, tag="timeline"):
    """Of the last entry of a page."""

    order: str
    occurred_at: int
    received_at: int
    collector: str
    epoch: int
    position: int

    def __post_init__(self) -> None:
        cursor.bounded(self.occurred_at, -_MS_MAX, _MS_MAX)
        cursor.bounded(self.received_at, -_MS_MAX, _MS_MAX)
        cursor.bounded(self.epoch, 0, 2**64)
        cursor.bounded(self.position, 0, 2**64)


class Row(NamedTuple):
    """What the statement returns; fields that a kind has no use for are empty."""

    kind: int
    occurred_at: int
    received_at: int
    collector: str
    epoch: int
    position: int
    event_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    transport: str = ""
    platform: str = ""
    session_id: str = ""
    name: str = ""
    """event: its name; link: the call; session: how many events."""
    properties: str = ""
    context: str = ""
    path: str = ""
    url: str = ""
    title: str = ""
    place: int = 0
    """link: in the link log; session: when it ended, ms."""
    a: str = ""
    """link: an id, as `b`; session: the page where it began, and in `b` where it ended."""
    b: str = ""
    refused: str = ""
    operations: Sequence[tuple[str, str, str]] = ()
    """traits: (key, operation, value) each."""
    whence: Sequence[str] = ()
    """event: country, region and city, '' each where it is not known."""


def plan_entries(
    question: Timeline,
    actors: Sequence[int],
    taken_out: Sequence[int] = (),
    *,
    last: Key | None = None,
    met: Sql | None = None,
) -> Plan:
    """The page and one entry more, so that it is known whether there is a next; but for the entries of `plan_joins`.

    `last`       an entry that this is beyond, in place of the question's cursor
    `met`        a condition on a row of `events`: only events then
    `taken_out`  places in the link log of the entries that took others out of this person (query/links.py)
    """
    last = after(question, last)
    types = _types(question, met)
    found = []
    if "event" in types:
        found.append(_events(question, actors, last, met))
    if "traits" in types:
        found.append(_traits(question, actors, last))
    if "session" in types and not question.search:
        found.append(_sessions(question, actors, last))
    if "link" in types:
        # Of events, the log has those that happened to come first: left to `plan_joins`, as long as both ids are here.
        # Multiplied, since of NOT (… AND …), and of if(…, 1), ClickHouse 26.9 may find no rows at all in parts whose
        # projection it reads.
        own = bound("Array(UInt64)", list(actors))
        others = sql("(call = 'event') * (refused = '') * has($own, a) * has($own, b) = 0", own=own)
        found += [_links(question, [*side, others], last) for side in touching(actors)]
        if taken_out:
            found.append(_taken_out(question, taken_out, last))
    # All is by the names of the first: no two may be alike, or the one is taken for the other.
    return plan(
        sql(
            "SELECT * FROM ($found) ORDER BY $order LIMIT $limit",
            found=joined(" UNION ALL ", found),
            order=_order(question, _NAMES),
            limit=_limit(question),
        )
    )


def plan_taken_out(question: Timeline, taken_out: Sequence[int], last: Key | None = None) -> Plan | None:
    """Of the page, the entries that took others out of the person alone; None where there are none."""
    if not taken_out or "link" not in _types(question, None):
        return None
    return plan(_taken_out(question, taken_out, after(question, last)))


def plan_joins(
    question: Timeline,
    actors: Sequence[int],
    joins: Iterable[Moment],
    *,
    last: Key | None = None,
    met: Sql | None = None,
) -> Plan | None:
    """The entries of events that say first that two ids are one person (query/links.py: `joins`), as `plan_entries`;
    None where there are none."""
    last = after(question, last)
    within = [join for join in joins if _in_range(question, last, join)]
    if "link" not in _types(question, met) or not within:
        return None
    return plan(_joins(question, actors, within, last))


def after(question: Timeline, last: Key | None = None) -> Key | None:
    """What a page comes after: `last`, or else what the question's cursor says. raises QuestionError"""
    if last is None and question.cursor is not None:
        last = cursor.read(question.cursor, Key)
        if last.order != question.order:
            raise cursor.refusal()
    return last


def _types(question: Timeline, met: Sql | None) -> Sequence[str]:
    return question.types if question.event is None and met is None else ("event",)


def shape_entries(question: Timeline, found: Iterable[Sequence[Any]]) -> tuple[list[Row], str | None]:
    """The page's rows, of all that was found, and the cursor of the next page."""
    page = sorted((Row(*row) for row in found), key=lambda row: row[1:6], reverse=question.order == "desc")
    if len(page) <= question.limit:
        return page, None
    page = page[: question.limit]
    end = page[-1]
    return page, cursor.written(Key(question.order, *end[1:6]))


def shape_next(order: str, page: Sequence[Row]) -> str:
    """The cursor of what follows these."""
    return cursor.written(key_of(page[-1], order))


def plan_one(question: Timeline, actors: Sequence[int], entry: str | None, met: Sql | None = None) -> Plan:
    """The entry of this id, or else the first event of a name or that meets a condition."""
    kind, _, event_id = (entry or "event:").partition(":")
    alone = msgspec.structs.replace(question, search="", since=None, until=None, event=None, limit=1, order="asc")
    by_id = sql("event_id = $id", id=bound("String", event_id))
    if entry is None:
        found = [_events(msgspec.structs.replace(alone, event=question.before), actors, None, met)]
    elif kind == "link":
        found = [_links(alone, [*side, by_id], None) for side in touching(actors)]
    elif kind == "traits":
        found = [_traits(alone, actors, None, by_id)]
    else:
        found = [_events(alone, actors, None, also=by_id)]
    order = _order(alone, _NAMES)
    return plan(sql("SELECT * FROM ($found) ORDER BY $order LIMIT 1", found=joined(" UNION ALL ", found), order=order))


def key_of(row: Row, order: str) -> Key:
    """Where an entry stands."""
    return Key(order, *row[1:6])


def plan_history(project: int, actors: Sequence[int], page: Iterable[Row]) -> Plan | None:
    """Every operation on the keys that the page's calls set, as far as the latest of them; None where none did."""
    calls = [row for row in page if row.kind == TRAITS]
    if not calls:
        return None
    keys = sorted({key for row in calls for key, _, _ in row.operations})
    conditions = [
        among(sql("actor"), actors),
        sql("key IN $keys", keys=bound("Array(String)", keys)),
        sql("occurred_at <= $latest", latest=moment(max(row.occurred_at for row in calls))),
    ]
    return plan(
        sql(
            """
SELECT toString(key), toUnixTimestamp64Milli(occurred_at) AS at, event_id, toString(operation), value
$rows ORDER BY at, event_id""",
            rows=rows("traits", project, conditions),
        )
    )


def shape(
    page: Iterable[Row], history: Iterable[tuple[str, int, str, str, str]], first: Mapping[frozenset[str], Moment]
) -> list[EventEntry | TraitsEntry | LinkEntry | SessionEntry]:
    """The page's entries, as they are answered. `first`: of two ids, the call that named them first."""
    page = list(page)
    changes = _changes({(row.occurred_at, row.event_id) for row in page if row.kind == TRAITS}, history)
    entries: list[EventEntry | TraitsEntry | LinkEntry | SessionEntry] = []
    for row in page:
        if row.kind == EVENT:
            entries.append(_event_entry(row))
        elif row.kind == SESSION:
            entries.append(_session_entry(row))
        elif row.kind == TRAITS:
            entries.append(_traits_entry(row, changes[row.occurred_at, row.event_id]))
        else:
            entries.append(_link_entry(row, first))
    return entries


# Reading.

_NAMES = tuple(sql(name) for name in ("at", "received", "collector", "epoch", "position"))
_COLUMNS = tuple(sql(name) for name in ("occurred_at", "received_at", "collector", "epoch", "position"))
_CALLS = tuple(sql(name) for name in ("occurred_at", "received_at", "source.1", "source.2", "source.3"))
_JOINS = tuple(sql(name) for name in ("occurred_at", "received_at", "collector", "epoch", "toUInt64(position - 1)"))


def _events(
    question: Timeline, actors: Sequence[int], last: Key | None, met: Sql | None = None, also: Sql | None = None
) -> Sql:
    """`met`: a condition on a row of `events`; `also`: on one of `events_by_actor`, which costs less."""
    conditions = [
        among(sql("actor"), actors),
        *_range(question, last),
        *_beyond(last, _COLUMNS),
        *(condition for condition in (met, also) if condition is not None),
    ]
    if question.event is not None:
        conditions.append(sql("event = $event", event=bound("String", question.event)))
    if search := question.search:
        texts = ("event", "user_id", "anonymous_id", "path", "url", "title")
        conditions.append(
            any_of(
                [*(contains(_TEXTS[text], search) for text in texts), members_contain(sql("properties_text"), search)]
            )
        )
    return sql(
        """
SELECT 1 AS kind, toUnixTimestamp64Milli(occurred_at) AS at, toUnixTimestamp64Milli(received_at) AS received,
    toString(collector) AS collector, epoch, position, event_id, user_id, anonymous_id,
    toString(transport) AS transport, toString(platform) AS platform, session_id, toString(event) AS name,
    properties_text, context, path, url, title, toUInt64(0) AS place, '' AS a, '' AS b, '' AS refused,
    CAST([], 'Array(Tuple(String, String, String))') AS operations,
    [toString(country), toString(region), toString(city)] AS whence
$rows ORDER BY $order LIMIT $limit""",
        rows=rows("events_by_actor" if met is None else "events", question.project, conditions),
        order=_order(question, _COLUMNS),
        limit=_limit(question),
    )


def _traits(question: Timeline, actors: Sequence[int], last: Key | None, met: Sql | None = None) -> Sql:
    matches = []
    if search := question.search:
        texts = ("key", "user_id", "anonymous_id", "distinct_id")
        value = json_contains(spelled(sql("value")), search)
        matches.append(sql("max($any)", any=any_of([*(contains(_TEXTS[text], search) for text in texts), value])))
    return sql(
        """
SELECT 2, toUnixTimestamp64Milli(occurred_at) AS at, toUnixTimestamp64Milli(received_at) AS received,
    source.1 AS collector, source.2 AS epoch, source.3 AS position, event_id, user, anonymous, transport, platform,
    '' AS session_id, '' AS name, '' AS properties, '' AS context, '' AS path, '' AS url, '' AS title, 0 AS place,
    '' AS a, '' AS b, '' AS refused, operations, CAST([], 'Array(String)') AS whence
FROM (
    SELECT event_id, occurred_at, received_at, min((toString(collector), epoch, position)) AS source,
        any(user_id) AS user, any(anonymous_id) AS anonymous, any(toString(traits.transport)) AS transport,
        any(toString(traits.platform)) AS platform,
        groupArray((toString(key), toString(operation), value)) AS operations
    $rows GROUP BY event_id, occurred_at, received_at HAVING $matches
)
WHERE $beyond ORDER BY $order LIMIT $limit""",
        rows=rows(
            "traits",
            question.project,
            [among(sql("actor"), actors), *_range(question, last), *([] if met is None else [met])],
        ),
        matches=all_of(matches),
        beyond=all_of(_beyond(last, _CALLS)),
        order=_order(question, _CALLS),
        limit=_limit(question),
    )


def _links(question: Timeline, side: Sequence[Sql], last: Key | None) -> Sql:
    conditions = [
        *side,
        sql("call != 'user'"),
        *_range(question, last),
        *_beyond(last, _COLUMNS),
    ]
    if search := question.search:
        conditions.append(any_of(contains(_TEXTS[text], search) for text in ("a_id", "b_id", "call")))
    return sql(
        """
SELECT 3, toUnixTimestamp64Milli(occurred_at) AS at, toUnixTimestamp64Milli(received_at) AS received,
    toString(collector) AS collector, epoch, position, event_id, if(call IN ('identify', 'event'), b_id, ''),
    if(call IN ('identify', 'event') AND (a_id != b_id OR refused != ''), a_id, ''),
    toString(transport), toString(platform), '' AS session_id, toString(call), '' AS properties, '' AS context,
    '' AS path, '' AS url, '' AS title, `order`, a_id, b_id, toString(refused),
    CAST([], 'Array(Tuple(String, String, String))'), CAST([], 'Array(String)')
$rows ORDER BY $order LIMIT $limit""",
        rows=rows("links", question.project, conditions),
        order=_order(question, _COLUMNS),
        limit=_limit(question),
    )


def _taken_out(question: Timeline, places: Sequence[int], last: Key | None) -> Sql:
    return _links(question, [sql("`order` IN $places", places=bound("Array(UInt64)", list(places)))], last)


def _joins(question: Timeline, actors: Sequence[int], joins: Sequence[Moment], last: Key | None) -> Sql:
    ids = bound("Array(String)", [event_id for _, event_id in joins])
    conditions = [
        among(sql("actor"), actors),
        sql("event_id IN $ids", ids=ids),
        sql(
            "has(arrayZip($times, $ids), (toUnixTimestamp64Milli(occurred_at), event_id))",
            times=bound("Array(Int64)", [at for at, _ in joins]),
            ids=ids,
        ),
        *_range(question, last),
        *_beyond(last, _JOINS),
    ]
    if search := question.search:
        texts = [contains(_TEXTS[text], search) for text in ("anonymous_id", "user_id")]
        conditions.append(any_of([*texts, contains(sql("'event'"), search)]))
    return sql(
        """
SELECT 3, toUnixTimestamp64Milli(occurred_at), toUnixTimestamp64Milli(received_at), toString(collector), epoch,
    toUInt64(position - 1), event_id, user_id, anonymous_id, toString(transport), toString(platform), '', 'event', '',
    '', '', '', '', 0, anonymous_id, user_id, '', CAST([], 'Array(Tuple(String, String, String))'),
    CAST([], 'Array(String)')
$rows ORDER BY $order LIMIT $limit""",
        rows=rows("events_by_actor", question.project, conditions),
        order=_order(question, _JOINS),
        limit=_limit(question),
    )


def _sessions(question: Timeline, actors: Sequence[int], last: Key | None) -> Sql:
    """Each session that begins in the range, just before its first event, and before what that event says of links."""
    first = sql(
        "(toUnixTimestamp64Milli(received_at), toString(collector), epoch, position, event_id, user_id, anonymous_id,"
        " toString(transport), toString(platform), session_id)"
    )
    events = sql(
        """
(SELECT toUInt64(0) AS person, $key AS key, $lane AS lane, path AS page, $first AS first $rows)""",
        key=KEY,
        lane=LANE,
        first=first,
        rows=rows(
            "events_by_actor", question.project, [among(sql("actor"), actors), sql("$lane.1 != ''", lane=LANE), COUNTED]
        ),
    )
    since = -_MS_MAX if question.since is None else question.since
    until = _MS_MAX if question.until is None else question.until
    ever = Span(since, until, -_MS_MAX, 2 * _MS_MAX)
    beside = [("pages", sql("page")), ("firsts", sql("first"))]
    return sql(
        """
SELECT 4, begun AS at, firsts[1].1 AS received, firsts[1].2 AS collector, firsts[1].3 AS epoch,
    toUInt64(firsts[1].4 - 2) AS position, firsts[1].5, firsts[1].6,
    firsts[1].7, firsts[1].8, firsts[1].9, firsts[1].10, toString(length(keys)), '' AS properties, '' AS context,
    '' AS path, '' AS url, '' AS title, toUInt64(ended), arrayFirst(page -> page != '', pages),
    arrayLast(page -> page != '', pages), '' AS refused,
    CAST([], 'Array(Tuple(String, String, String))'), CAST([], 'Array(String)')
FROM $sessions WHERE begun >= $since AND $beyond ORDER BY $order LIMIT $limit""",
        sessions=sessions(ever, events, beside=beside),
        since=bound("Int64", since),
        beyond=all_of(_beyond_ms(last)),
        order=_order(question, _STARTS),
        limit=_limit(question),
    )


_STARTS = (
    sql("begun"), sql("firsts[1].1"), sql("firsts[1].2"), sql("firsts[1].3"), sql("toUInt64(firsts[1].4 - 2)"),
)  # fmt: skip


def _beyond_ms(last: Key | None) -> list[Sql]:
    """`_beyond` of sessions, whose times are milliseconds."""
    if last is None:
        return []
    key = sql(
        "($occurred, $received, $collector, $epoch, $position)",
        occurred=bound("Int64", last.occurred_at),
        received=bound("Int64", last.received_at),
        collector=bound("String", last.collector),
        epoch=bound("UInt64", last.epoch),
        position=bound("UInt64", last.position),
    )
    row = joined(", ", _STARTS)
    return [sql("($row) < $key", row=row, key=key) if last.order == "desc" else sql("($row) > $key", row=row, key=key)]


_TEXTS = {
    "a_id": sql("a_id"),
    "anonymous_id": sql("anonymous_id"),
    "b_id": sql("b_id"),
    "call": sql("toString(call)"),
    "distinct_id": sql("distinct_id"),
    "event": sql("toString(event)"),
    "key": sql("toString(key)"),
    "path": sql("path"),
    "title": sql("title"),
    "url": sql("url"),
    "user_id": sql("user_id"),
}


def _in_range(question: Timeline, last: Key | None, moment_: Moment) -> bool:
    at, _ = moment_
    if last is not None and (at > last.occurred_at if last.order == "desc" else at < last.occurred_at):
        return False
    return (question.since is None or at >= question.since) and (question.until is None or at < question.until)


def _range(question: Timeline, last: Key | None) -> list[Sql]:
    """On the column itself, so that parts and granules outside are not read."""
    conditions = []
    if question.since is not None:
        conditions.append(sql("occurred_at >= $since", since=moment(question.since)))
    if question.until is not None:
        conditions.append(sql("occurred_at < $until", until=moment(question.until)))
    if last is not None:
        at = moment(last.occurred_at)
        conditions.append(
            sql("occurred_at <= $at", at=at) if last.order == "desc" else sql("occurred_at >= $at", at=at)
        )
    return conditions


def _beyond(last: Key | None, columns: Sequence[Sql]) -> list[Sql]:
    """After the last entry of the page before."""
    if last is None:
        return []
    key = sql(
        "($occurred, $received, $collector, $epoch, $position)",
        occurred=moment(last.occurred_at),
        received=moment(last.received_at),
        collector=bound("String", last.collector),
        epoch=bound("UInt64", last.epoch),
        position=bound("UInt64", last.position),
    )
    row = joined(", ", columns)
    return [sql("($row) < $key", row=row, key=key) if last.order == "desc" else sql("($row) > $key", row=row, key=key)]


def _order(question: Timeline, columns: Sequence[Sql]) -> Sql:
    if question.order == "asc":
        return joined(", ", columns)
    return joined(", ", (sql("$column DESC", column=column) for column in columns))


def _limit(question: Timeline) -> Sql:
    return bound("UInt32", question.limit + 1)


# Answering.


def _changes(
    calls: set[tuple[int, str]], history: Iterable[tuple[str, int, str, str, str]]
) -> Mapping[tuple[int, str], dict[str, tuple[bytes | None, bytes | None]]]:
    """(occurred_at, event id) of a call → each of its keys, with the value before and after."""
    operations: dict[str, dict[tuple[int, str], list[tuple[str, bytes]]]] = defaultdict(lambda: defaultdict(list))
    for key, at, event_id, operation, value in history:
        operations[key][at, event_id].append((operation, value.encode()))
    changes: dict[tuple[int, str], dict[str, tuple[bytes | None, bytes | None]]] = defaultdict(dict)
    for key in sorted(operations):
        past = History()
        for call, said in operations[key].items():
            before = past.value if call in calls else None
            past.take(said)
            if call in calls:
                changes[call][key] = (before, past.value)
    return changes


def _common(row: Row) -> dict[str, Any]:
    return {
        "occurred_at": times.text(row.occurred_at),
        "received_at": times.text(row.received_at),
        "event_id": row.event_id,
        "user_id": row.user_id or None,
        "anonymous_id": row.anonymous_id or None,
        "transport": row.transport,
        "platform": row.platform or None,
        "session_id": row.session_id or None,
    }


def _event_entry(row: Row) -> EventEntry:
    country, region, city = row.whence
    return EventEntry(
        id=f"event:{row.event_id}",
        type=EventEntry.TYPE,
        summary=summary.event(row.name, summary.members(row.properties), path=row.path, url=row.url, title=row.title),
        event=row.name,
        properties=msgspec.Raw(row.properties.encode() or b"{}"),
        context=msgspec.Raw(row.context.encode() or b"{}"),
        country=country or None,
        region=region or None,
        city=city or None,
        **_common(row),
    )


def _traits_entry(row: Row, changes: Mapping[str, tuple[bytes | None, bytes | None]]) -> TraitsEntry:
    return TraitsEntry(
        id=f"traits:{row.event_id}",
        type=TraitsEntry.TYPE,
        summary=summary.traits((key, _plain(before), _plain(after)) for key, (before, after) in changes.items()),
        changes={key: Change(raw(before), raw(after)) for key, (before, after) in changes.items()},
        **_common(row),
    )


def _session_entry(row: Row) -> SessionEntry:
    return SessionEntry(
        id=f"session:{row.event_id}",
        type=SessionEntry.TYPE,
        summary=summary.session(int(row.name), row.place - row.occurred_at, row.a),
        ended_at=times.text(row.place),
        events=int(row.name),
        entry_page=row.a or None,
        exit_page=row.b or None,
        **_common(row),
    )


def _link_entry(row: Row, first: Mapping[frozenset[str], Moment]) -> LinkEntry:
    b = row.b if row.b != row.a or row.refused else ""
    before = first.get(frozenset((row.a, row.b or row.a)))
    may = not row.refused and row.name in ("identify", "alias")
    again = may and before is not None and before < (row.occurred_at, row.event_id)
    return LinkEntry(
        id=f"link:{row.event_id or row.place}",
        type=LinkEntry.TYPE,
        summary=summary.link(row.name, row.a, b, row.refused, again),
        a=row.a,
        b=b or None,
        call=row.name,
        refused=row.refused or None,
        again=again,
        **_common(row),
    )


def _plain(json: bytes | None) -> Any:
    return None if json is None else msgspec.json.decode(json)
