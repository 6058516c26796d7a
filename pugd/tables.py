"""Each ClickHouse table's columns: name, exact type, and the row field that fills it.

The order here is the order in a Native block. Types are written exactly as ClickHouse names them: an Int64 given for
DateTime64(3) becomes the year 9999 without an error. Three columns end every table: where the row came from, which
makes a retry countable (`position` is the row's own byte offset in that collector's journal, unique for ever in that
epoch). An event's properties fill two columns: JSON for questions, and the text as it was sent, since JSON drops nulls
and empty objects.
"""

from __future__ import annotations

import msgspec

from pugd import model

POSITION, COLLECTOR, EPOCH = -1, -2, -3
"""Sources that are no row field: the row's position; the journal's collector name and epoch."""

TIME = "DateTime64(3, 'UTC')"
NAME = "LowCardinality(String)"


class Column(msgspec.Struct, frozen=True):
    """One column: what ClickHouse calls it, its exact type, and its source."""

    name: str
    type: str
    source: int
    """Index of a row field (0 = kind), or POSITION, COLLECTOR, EPOCH."""


class Table(msgspec.Struct, frozen=True):
    """One table, filled by one kind of row."""

    name: str
    kind: int
    columns: tuple[Column, ...]


def _table(
    name: str, kind: int, row: type[msgspec.Struct], types: dict[str, str], also: dict[str, str] | None = None
) -> Table:
    """`also`: a second column of a field, by the column's name; its type is in `types` too."""
    fields = row.__struct_fields__
    also = also or {}
    source = {field: fields.index(field) for field in fields if field != "kind"}
    source |= {column: fields.index(field) for column, field in also.items()}
    assert set(types) == set(source), f"{name}: columns and fields differ"
    origin = [
        Column("collector", NAME, COLLECTOR),
        Column("epoch", "UInt64", EPOCH),
        Column("position", "UInt64", POSITION),
    ]
    return Table(name, kind, (*(Column(column, type_, source[column]) for column, type_ in types.items()), *origin))


EVENTS = _table(
    "events",
    model.EVENT,
    model.EventRow,
    {
        "project": "UInt32",
        "actor": "UInt64",
        "occurred_at": TIME,
        "received_at": TIME,
        "original_at": TIME,
        "time_note": NAME,
        "call": NAME,
        "event": NAME,
        "event_id": "String",
        "user_id": "String",
        "anonymous_id": "String",
        "session_id": "String",
        "transport": NAME,
        "platform": NAME,
        "library": NAME,
        "bot": "UInt8",
        "cookieless": "UInt8",
        "properties": "JSON(max_dynamic_paths=256)",
        "properties_text": "String",
        "context": "String",
        "url": "String",
        "path": "String",
        "title": "String",
        "referrer": "String",
        "locale": NAME,
        "user_agent": NAME,
        "app_version": NAME,
        "browser": NAME,
        "browser_version": NAME,
        "os": NAME,
        "os_version": NAME,
        "device": NAME,
        "screen": NAME,
        "host": NAME,
        "referrer_domain": NAME,
        "channel": NAME,
        "utm_source": NAME,
        "utm_medium": NAME,
        "utm_campaign": NAME,
        "utm_term": NAME,
        "utm_content": NAME,
        "country": NAME,
        "region": NAME,
        "city": NAME,
    },
    also={"properties_text": "properties"},
)
TRAITS = _table(
    "traits",
    model.TRAIT,
    model.TraitRow,
    {
        "project": "UInt32",
        "actor": "UInt64",
        "occurred_at": TIME,
        "received_at": TIME,
        "original_at": TIME,
        "time_note": NAME,
        "event_id": "String",
        "distinct_id": "String",
        "user_id": "String",
        "anonymous_id": "String",
        "key": NAME,
        "operation": NAME,
        "value": "String",
        "transport": NAME,
        "platform": NAME,
    },
)
LINKS = _table(
    "links",
    model.LINK,
    model.LinkRow,
    {
        "project": "UInt32",
        "order": "UInt64",
        "a": "UInt64",
        "b": "UInt64",
        "a_id": "String",
        "b_id": "String",
        "call": NAME,
        "refused": NAME,
        "secret": "UInt8",
        "rules": "UInt8",
        "occurred_at": TIME,
        "received_at": TIME,
        "original_at": TIME,
        "time_note": NAME,
        "event_id": "String",
        "transport": NAME,
        "platform": NAME,
    },
)
PERSON_OF = _table(
    "person_of",
    model.MERGE,
    model.MergeRow,
    {"project": "UInt32", "actor": "UInt64", "person": "UInt64", "version": "UInt64"},
)

OLD_EVENTS = Table(EVENTS.name, model.OLD_EVENT, EVENTS.columns)
OLD_TRAITS = Table(TRAITS.name, model.OLD_TRAIT, TRAITS.columns)
OLD_LINKS = Table(LINKS.name, model.OLD_LINK, LINKS.columns)
"""The same three, filled by rows that must be looked up first: their blocks are their own (drain.py)."""

TABLES = (EVENTS, TRAITS, LINKS, PERSON_OF)

_OF_ONE = {
    "project", "actor", "occurred_at", "received_at", "call", "event", "event_id", "user_id", "anonymous_id",
    "session_id", "transport", "platform", "bot", "cookieless", "properties_text", "context", "url", "path", "title",
    "country", "region", "city", "collector", "epoch", "position",
}  # fmt: skip
EVENTS_BY_ACTOR = Table(
    "events_by_actor", model.EVENT, tuple(column for column in EVENTS.columns if column.name in _OF_ONE)
)
"""What a person's timeline shows of an event, once more, in the order of actors: made of blocks of EVENTS."""

STORED = (*TABLES, EVENTS_BY_ACTOR)
"""Every table that the drain fills."""
