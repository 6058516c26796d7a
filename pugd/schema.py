"""What a project's events, properties, traits and contexts are called and made of, as far as is stored: what is asked
and what is answered.

Names and types are all that there are, of events that count; a value that is null or an empty object has no type, and a
property that never was anything else is not told. Samples, what contexts hold, and of large events how often, are of
a part of the events; the answer says how many that was.
"""

from __future__ import annotations

from typing import Any

import msgspec

SAMPLES_MAX = 5
SAMPLE_LENGTH_MAX = 100
"""Characters of a sample; what is longer is cut, and ends with …"""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What is there? Of a project, or of one event."""

    project: int
    event: str | None = None
    prefix: str = ""
    """Only names that begin so: of events and traits, or of the event's properties."""
    limit: int = 50
    """Of each list: those that are seen most."""


class EventName(msgspec.Struct, frozen=True):
    """Events of one name."""

    event: str
    count: int
    first_seen: str
    last_seen: str


class Named(msgspec.Struct, frozen=True):
    """A property, a trait, or something in contexts."""

    name: str | list[str]
    """As `property`, `trait` and `context` of a condition take it: a list where a name has a dot in it."""
    types: list[str]
    """Of text, number, boolean, list, object."""
    count: int | None
    """Events that have it, changes of a trait; null where none of those that were counted has it."""
    first_seen: str | None
    last_seen: str | None
    samples: list[Any]
    """Some of its values; lists and objects as JSON text."""


class SchemaAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names, those that are seen most first."""

    asked_at: str
    events: list[EventName] | None = None
    """Of the project; not said of one event."""
    events_count: int | None = None
    """How many names there are, also beyond the limit."""
    traits: list[Named] | None = None
    traits_count: int | None = None
    properties: list[Named] | None = None
    """Of one event; not said of a project."""
    properties_count: int | None = None
    context: list[Named] | None = None
    counted: int | None = None
    """From how many events `count`, `first_seen` and `last_seen` of properties are."""
    sampled: int | None = None
    """From how many events samples and contexts are."""
    stored_until: str | None = None
