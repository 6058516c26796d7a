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
TRAIT_SORT = "trait:"
"""And a trait's path, which people are sorted by; with a `-` before it descending (query/order.py)."""
ORDERS = ("desc", "asc")
ENTRY_TYPES = ("event", "traits", "link", "session")
ENTRY_TYPES_DEFAULT = ENTRY_TYPES[:3]
"""Of a timeline. Sessions are told where they are asked for."""


class QuestionError(ValueError):
    """The asker's fault: what is wrong with which field, and what would be right."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class UnknownPersonError(QuestionError):
    """Nobody was ever seen under that id."""


class IdentityError(QuestionError):
    """These ids are not what was thought of them: `code` is a code of errors.py."""


# Questions.


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there: every person of a project that meets all that is asked."""

    project: int
    search: str = ""
    """Part of any id or present trait value, in any case."""
    identified: bool | None = None
    """True: owns a user id; False: owns none; None: both."""
    sort: str = SORTS[0]
    """One of SORTS, or TRAIT_SORT and a trait."""
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None
    as_of: int | None = None
    """Traits as they were at this millisecond, to show and to search; None: now. Identity is always today's."""


class OnePerson(msgspec.Struct, frozen=True, kw_only=True):
    """Whom does this actor belong to, and what do we know of that person."""

    project: int
    actor: int
    as_of: int | None = None


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
    as_of: int | None = None
    """Of the traits at the timeline's head."""
    types: tuple[str, ...] = ENTRY_TYPES_DEFAULT
    """Which kinds of entries."""
    around: str | None = None
    """An entry's id: it, and what came before and after, half of `limit` each."""
    before: str | None = None
    """What came before the first event of this name."""


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """Which proposals of links were refused, of a project or of one person."""

    project: int
    actor: int | None = None
    """Any actor of the person."""
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


class RefusedEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Which events were refused lately, of a project; `unknown`: those of unknown keys, which belong to none."""

    project: int
    code: str = ""
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None
    unknown: bool = False


class Explain(msgspec.Struct, frozen=True, kw_only=True):
    """Why are these two ids one person?"""

    project: int
    a: str
    b: str


# What is asked to be done.


class Unlink(msgspec.Struct, frozen=True, kw_only=True):
    """Take two ids apart, or one id out of its person."""

    project: int
    a: str
    b: str = ""
    """'': everyone else of a's person."""
    dry_run: bool = False
    """Only say what would become of them."""


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """Make two ids one person."""

    project: int
    a: str
    b: str


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
    country: str | None
    """ISO 3166. null, likewise below: not known."""
    region: str | None
    city: str | None


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One trait of the person before and after a call; null where there was or is none."""

    before: msgspec.Raw
    after: msgspec.Raw


class TraitsEntry(Entry, frozen=True, kw_only=True):
    """A call that set traits. A key is listed even where its value stayed."""

    TYPE: ClassVar[str] = "traits"

    changes: dict[str, Change]


class LinkEntry(Entry, frozen=True, kw_only=True):
    """A proposal that two ids are one person, new or not, and what became of it; or that they were taken apart."""

    TYPE: ClassVar[str] = "link"

    a: str
    b: str | None
    """null: an identify that names one id; or `a` was taken out of its person."""
    call: str
    """'identify' | 'alias' | 'event', and by hand 'merge' | 'unlink'."""
    refused: str | None
    """The stable code of the refusal; null when the two became one."""
    again: bool
    """identify, alias: an earlier call or event says so too."""


class SessionEntry(Entry, frozen=True, kw_only=True):
    """A run of one device's events; it stands before the first of them."""

    TYPE: ClassVar[str] = "session"

    ended_at: str
    events: int
    entry_page: str | None
    exit_page: str | None


class PeopleAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of persons; `count` is of all that match, not of the page."""

    people: list[Person]
    count: int
    next: str | None
    asked_at: str
    left_out: LeftOut
    as_of: str | None = None
    """Only where it was asked for: the time of the traits."""
    stored_until: str | None = None
    """Only where a stale answer was allowed and given: nothing received later is in it."""
    then: int | None = None
    """Only of a token: how many it said when it was made; `count` is of now."""
    then_at: str | None = None


class PersonAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person."""

    person: Person
    links_refused: int
    """Proposals of links of this person that were refused, each listed once: GET /v1/identity/refusals."""
    asked_at: str
    as_of: str | None = None
    stored_until: str | None = None


class TimelineAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of one person's timeline."""

    person: Person
    entries: list[EventEntry | TraitsEntry | LinkEntry | SessionEntry]
    next: str | None
    asked_at: str
    left_out: LeftOut
    as_of: str | None = None
    stored_until: str | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the link log: who said that two ids are one person, and when."""

    order: int
    """Its place in the link log."""
    call: str
    a: str
    b: str | None
    """null: `a` was taken out of its person."""
    occurred_at: str
    received_at: str
    transport: str
    platform: str | None
    event_id: str


class RefusedLink(Link, frozen=True, kw_only=True):
    """One that was refused; a pair is listed once with each code."""

    refused: str
    """The stable code of the refusal."""


class ExplainAnswer(msgspec.Struct, frozen=True):
    """The links on the way from a to b: each shares an id with the next."""

    a: str
    b: str
    links: list[Link]
    person: str
    asked_at: str


class UnlinkAnswer(msgspec.Struct, frozen=True):
    """What became, or would become, of a person."""

    persons: list[Person]
    removed: list[Link]
    """That were taken out."""
    left_out: list[Link]
    """That would bring together again what was taken apart."""
    order: int | None
    """Of the entry in the link log; null where nothing was done."""
    dry_run: bool
    asked_at: str


class MergeAnswer(msgspec.Struct, frozen=True):
    """What became of two persons."""

    person: Person
    order: int | None
    """Of the entry in the link log; null where it was said before."""
    asked_at: str


class RefusalsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of refusals, newest first; `counts`, by code, are of all and not of the page."""

    refusals: list[RefusedLink]
    counts: dict[str, int]
    next: str | None
    asked_at: str
    stored_until: str | None = None


class RefusedEvent(msgspec.Struct, frozen=True):
    """Refusals that were alike and came within a few seconds of each other."""

    at: str
    code: str
    message: str
    field: str | None
    count: int
    dialect: str
    path: str | None
    transport: str
    key: int | None
    """Its number in `pugd keys list`."""
    key_name: str | None
    sample: str | None
    """One of the events, without addresses and keys."""


class RefusedEventsAnswer(msgspec.Struct, frozen=True):
    """A page of them, newest first; `counts`, by code, are of all since the collector started."""

    refusals: list[RefusedEvent]
    counts: dict[str, int]
    next: str | None
    asked_at: str


AnyAnswer = (
    PeopleAnswer
    | PersonAnswer
    | TimelineAnswer
    | ExplainAnswer
    | UnlinkAnswer
    | MergeAnswer
    | RefusalsAnswer
    | RefusedEventsAnswer
)
