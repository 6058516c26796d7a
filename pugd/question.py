"""What is asked of the store, and what is answered.

A **question** is checked and complete: times are milliseconds since 1970 (UTC), a person is an actor (any of the
person's), a range is `[from, to)`. An **answer** is what a program receives, field by field, in the order written here:
times are RFC 3339 with milliseconds, ids are text, `properties`, `context` and trait values are the JSON that was sent.
Clients pass over fields and entry types they do not know, so both may grow, and neither may change its meaning.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

LIMIT_DEFAULT, LIMIT_MAX = 50, 1_000
"""Persons or entries in one answer."""

IDS_IN_LISTS_MAX = 10
"""Ids shown of each person in a list; `ids_count` says how many there are. One person alone shows all."""

SORTS = ("-last_seen", "last_seen", "-first_seen", "first_seen", "-events", "events")
ORDERS = ("desc", "asc")


class QuestionError(ValueError):
    """The asker's fault: what is wrong with which field, and what would be right."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class UnknownPersonError(QuestionError):
    """Nobody was ever seen under that id."""


# Questions.


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there: every person of a project that meets all that is asked."""

    project: int
    search: str = ""
    """Part of any id or present trait value, in any case."""
    identified: bool | None = None
    """True: owns a user id; False: owns none; None: both."""
    sort: str = SORTS[0]
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


class OnePerson(msgspec.Struct, frozen=True, kw_only=True):
    """Whom does this actor belong to, and what do we know of that person."""

    project: int
    actor: int


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What one person did, said and became, over all their ids."""

    project: int
    actor: int
    """Any actor of the person."""
    search: str = ""
    """Part of an event's name, property, trait or id, in any case."""
    event: str | None = None
    """Only events of exactly this name."""
    since: int | None = None
    """From this millisecond on."""
    until: int | None = None
    """Before this millisecond."""
    order: str = ORDERS[0]
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


# Answers.


class PersonId(msgspec.Struct, frozen=True):
    """One distinct id of a person."""

    id: str
    kind: str
    """'user' | 'anonymous' | 'unknown'."""
    first_seen: str
    last_seen: str


class Person(msgspec.Struct, frozen=True):
    """Whom a set of linked distinct ids denotes."""

    id: str
    """Canonical: `p_` and the representative actor. Any other actor's leads here too."""
    user_id: str | None
    user_ids: list[str]
    ids: list[PersonId]
    ids_count: int
    traits: dict[str, msgspec.Raw]
    first_seen: str
    last_seen: str
    events: int


class LeftOut(msgspec.Struct, frozen=True):
    """Events that are stored but not counted."""

    bots: int
    cookieless: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on a timeline. `id` names it for ever."""

    id: str
    type: str
    occurred_at: str
    received_at: str
    event_id: str
    user_id: str | None
    anonymous_id: str | None
    transport: str
    platform: str | None
    session_id: str | None
    summary: str
    """A few words for people to read: never relied on by programs, never longer than a line."""


class EventEntry(Entry, frozen=True, kw_only=True):
    """Something the person did."""

    TYPE: ClassVar[str] = "event"

    event: str
    properties: msgspec.Raw
    context: msgspec.Raw


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One trait of the person before and after a call; null where there was or is none."""

    before: msgspec.Raw
    after: msgspec.Raw


class TraitsEntry(Entry, frozen=True, kw_only=True):
    """A call that set traits. A key is listed even where its value stayed."""

    TYPE: ClassVar[str] = "traits"

    changes: dict[str, Change]


class LinkEntry(Entry, frozen=True, kw_only=True):
    """A proposal that two ids are one person, and what became of it."""

    TYPE: ClassVar[str] = "link"

    a: str
    b: str
    call: str
    refused: str | None
    """The stable code of the refusal; null when the two became one."""


class PeopleAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of persons; `count` is of all that match, not of the page."""

    people: list[Person]
    count: int
    next: str | None
    asked_at: str
    left_out: LeftOut
    stored_until: str | None = None
    """Only where a stale answer was allowed and given: nothing received later is in it."""


class PersonAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person."""

    person: Person
    asked_at: str
    stored_until: str | None = None


class TimelineAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of one person's timeline."""

    person: Person
    entries: list[EventEntry | TraitsEntry | LinkEntry]
    next: str | None
    asked_at: str
    left_out: LeftOut
    stored_until: str | None = None


Question = People | OnePerson | Timeline
AnyAnswer = PeopleAnswer | PersonAnswer | TimelineAnswer
