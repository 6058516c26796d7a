"""The link log, read: entries by their place, a project's or a person's refusals, and who was taken out of whom.

An entry is read by its place, which is what the collector's graph knows it by, or by its actors, on either side.

An id that was taken out of its person stands alone in its entry (`b` is 0), which belongs to the history of all who
were one person with it until then, whoever they are now. Of the others who ever shared a person with somebody's actors
(`plan_sharing`; nearly always nobody), `plan_taken_out` finds such entries, and `left`, from `person_of` as it was just
before each, tells which are meant.

A call that said nothing new has no place, and stands in the table all the same (rules.py). Of the calls and events that
name two ids of a person, `said` tells which was the first, by their own time: arrival has no say in that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pugd.query import cursor, times
from pugd.query.people import Links, Moment
from pugd.query.person import among, rows, touching
from pugd.query.sql import Plan, Sql, bound, joined, plan, sql
from pugd.question import Link, Refusals, RefusedLink

_COLUMNS = sql(
    "`order`, toString(call), a_id, b_id, toUnixTimestamp64Milli(occurred_at), toUnixTimestamp64Milli(received_at),"
    " toString(transport), toString(platform), event_id"
)
_REFUSED = sql("refused != ''")


class _Key(msgspec.Struct, frozen=True, array_like=True, tag="refusals"):
    """Of the last refusal of a page."""

    order: int

    def __post_init__(self) -> None:
        cursor.bounded(self.order, 0, 2**64)


def plan_entries(project: int, orders: Sequence[int]) -> Plan:
    """The entries at these places."""
    condition = sql("`order` IN $orders", orders=bound("Array(UInt64)", list(orders)))
    return plan(
        sql("SELECT $columns $rows LIMIT 1 BY `order`", columns=_COLUMNS, rows=rows("links", project, [condition]))
    )


def shape_entries(orders: Sequence[int], found: Iterable[Sequence[Any]]) -> list[Link] | None:
    """The entries in the order of `orders`; None where one of them is not there."""
    by_order = {row[0]: Link(**_fields(row)) for row in found}
    if not by_order.keys() >= set(orders):
        return None
    return [by_order[order] for order in orders]


def plan_refusals(question: Refusals, actors: Sequence[int] | None) -> Plan:
    """A page of refusals and one more. `actors`: of the person that was asked about; None: of the project."""
    beyond = []
    if question.cursor is not None:
        last = cursor.read(question.cursor, _Key)
        beyond.append(sql("`order` < $order", order=bound("UInt64", last.order)))
    limit = bound("UInt32", question.limit + 1)
    sides = (
        sql(
            "SELECT $columns, toString(refused) $rows ORDER BY `order` DESC LIMIT $limit",
            columns=_COLUMNS,
            rows=rows("links", question.project, [_REFUSED, *side, *beyond]),
            limit=limit,
        )
        for side in _sides(actors)
    )
    return plan(
        sql(
            "SELECT * FROM ($sides) ORDER BY `order` DESC LIMIT $limit", sides=joined(" UNION ALL ", sides), limit=limit
        )
    )


def shape_refusals(question: Refusals, found: Iterable[Sequence[Any]]) -> tuple[list[RefusedLink], str | None]:
    """The page, and the cursor of the next."""
    page = [RefusedLink(**_fields(row), refused=row[9]) for row in found]
    if len(page) <= question.limit:
        return page, None
    page = page[: question.limit]
    return page, cursor.written(_Key(page[-1].order))


def plan_refused(project: int, actors: Sequence[int] | None) -> Plan:
    """How many refusals there are of each code."""
    sides = (
        sql("SELECT toString(refused) AS code, `order` $rows", rows=rows("links", project, [_REFUSED, *side]))
        for side in _sides(actors)
    )
    return plan(sql("SELECT code, count() FROM ($sides) GROUP BY code", sides=joined(" UNION ALL ", sides)))


def shape_refused(found: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Code → how many; the most frequent first."""
    return dict(sorted(found, key=lambda row: (-row[1], row[0])))


def _sides(actors: Sequence[int] | None) -> Sequence[list[Sql]]:
    return [[]] if actors is None else touching(actors)


def _fields(row: Sequence[Any]) -> dict[str, Any]:
    order, call, a, b, occurred_at, received_at, transport, platform, event_id = row[:9]
    return {
        "order": order,
        "call": call,
        "a": a,
        "b": b or None,
        "occurred_at": times.text(occurred_at),
        "received_at": times.text(received_at),
        "transport": transport,
        "platform": platform or None,
        "event_id": event_id,
    }


# What was said first.


class Said(msgspec.Struct, frozen=True):
    """What calls and events say of the ids of one person."""

    first: dict[frozenset[str], Moment]
    """Of two ids that something names together, or one that an identify names alone: what did so first."""
    joins: list[Moment]
    """Of these, the events."""


def said(actors: Sequence[int], links: Links, activity: Iterable[Sequence[Any]]) -> Said:
    """By the answers of people.plan_links and plan_activity about the person with these actors."""
    own = set(actors)
    first: dict[frozenset[str], Moment] = {}
    ids: set[str] = set()
    for a, b, a_id, b_id, call, earliest, _ in links.rows:
        ids.update(id_ for actor, id_ in ((a, a_id), (b, b_id)) if actor in own)
        if call not in ("user", "event"):
            pair = frozenset((a_id, b_id or a_id))
            first[pair] = min(first.get(pair, earliest), earliest)
    events: set[frozenset[str]] = set()
    for _, user_id, anonymous_id, _, _, _, _, bots, cookieless, earliest in activity:
        if anonymous_id in ids and earliest[1] and not bots and not cookieless and anonymous_id != user_id:
            pair = frozenset((user_id, anonymous_id))
            if pair not in first or earliest < first[pair]:
                first[pair] = earliest
                events.add(pair)
    return Said(first, sorted(first[pair] for pair in events))


# Who was taken out.


def plan_taken_out(project: int, others: Iterable[int]) -> Plan:
    """Entries that took one of these out of its person: (place, actor)."""
    alone = sql("call = 'unlink' AND b = 0 AND refused = ''")
    return plan(sql("SELECT `order`, a $rows", rows=rows("links", project, [among(sql("a"), sorted(others)), alone])))


def plan_persons(project: int, actors: Iterable[int]) -> Plan:
    """All that `person_of` ever said of these actors: (actor, version, person), by version."""
    condition = among(sql("actor"), sorted(actors))
    return plan(
        sql(
            "SELECT DISTINCT actor, version, person $rows ORDER BY version",
            rows=rows("person_of", project, [condition]),
        )
    )


def left(
    taken_out: Iterable[tuple[int, int]], actors: Sequence[int], persons: Iterable[tuple[int, int, int]]
) -> list[int]:
    """Of entries that took an id out, the places of those that took it out of a person of some of these actors."""
    history: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for actor, version, person in persons:
        history[actor].append((version, person))

    def before(actor: int, place: int) -> int:
        known = history[actor]
        at = bisect_left(known, (place, 0))
        return known[at - 1][1] if at else actor

    return sorted(
        place
        for place, out in taken_out
        if any(before(actor, place) == before(out, place) for actor in actors if actor in history)
    )
