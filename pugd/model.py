"""What is stored and moved: a call as a dialect understood it, and the rows that the journal and the tables hold.

A **call** is what a client asked (track, identify, …), after its dialect and enrichment, before identity. It lives for
one wake-up, in a Batch. A **row** is what remains of it: MessagePack arrays in the journal, one ClickHouse row each. A
row's first field is its kind; `tables.py` says which field becomes which column. Rows grow only at their end: a reader
takes a missing trailing field as the column's default and passes over fields it does not know, so a journal written by
an older or a newer pugd can be drained.

Times are milliseconds since 1970, UTC. Actors and persons are 64-bit numbers: keyed SipHash-2-4 of project and id.
JSON travels as bytes, exactly as it was sent but for what storable.py must mend.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

EVENT, TRAIT, LINK, MERGE = 1, 2, 3, 4
"""Kinds of rows: the first field of each."""
OLD_EVENT, OLD_TRAIT, OLD_LINK = 5, 6, 7
"""The same rows as EVENT, TRAIT and LINK, of events older than the collector's set of recent ids reaches: looked up in
ClickHouse before they are stored (drain.py). Of links, those without a place in the log alone."""

COOKIELESS: Final = "cookieless-"
"""How the ids of the day begin that visitors without an id are given (enrich/cookieless.py); no client's id may."""


class EventRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event, to `events`."""

    kind: int
    project: int
    actor: int
    occurred_at: int
    received_at: int
    original_at: int
    """What the client said, uncorrected; receipt where it said nothing."""
    time_note: str
    """Why occurred_at differs from original_at: '' | 'skew' | 'future' | 'past' | 'unreadable'."""
    call: str
    """'track' | 'page' | 'screen' | 'group'."""
    event: str
    event_id: str
    user_id: str
    """'' where the event carries none; likewise below."""
    anonymous_id: str
    session_id: str
    transport: str
    """'http' | 'udp' | 'import'."""
    platform: str
    """'web' | 'mobile' | 'server' | ''."""
    library: str
    bot: int
    cookieless: int
    properties: bytes
    context: bytes
    url: str
    path: str
    title: str
    referrer: str
    locale: str
    user_agent: str
    app_version: str
    browser: str = ""
    """What enrich/ made of the rest; rows of before have none of what follows."""
    browser_version: str = ""
    os: str = ""
    os_version: str = ""
    device: str = ""
    """'desktop' | 'mobile' | 'tablet' | 'tv' | 'other' | ''."""
    screen: str = ""
    """Such as 1920x1080."""
    host: str = ""
    referrer_domain: str = ""
    channel: str = ""
    """How the visit came about (enrich/campaign.py)."""
    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_term: str = ""
    utm_content: str = ""
    country: str = ""
    """ISO 3166; '' without a file of places. Likewise below."""
    region: str = ""
    city: str = ""


class TraitRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One change of one trait of one actor, to `traits`."""

    kind: int
    project: int
    actor: int
    occurred_at: int
    received_at: int
    original_at: int
    time_note: str
    event_id: str
    distinct_id: str
    """The id that hashes to `actor`."""
    user_id: str
    anonymous_id: str
    key: str
    operation: str
    """'set' | 'set_once' | 'unset' | 'add'."""
    value: bytes
    """JSON text; empty for 'unset'."""
    transport: str
    platform: str


class LinkRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One entry of the link log, to `links`: a proposal with its outcome, or the first sight of a user id (`user`).

    Or an identify or alias that said nothing new: it has no place in the log, and shows on timelines alone."""

    kind: int
    project: int
    order: int
    """The entry's place in the link log; decides, and nothing else does. 0: none."""
    a: int
    """identify: the anonymous id, the user id where it names that alone; alias: the previous id; user: the user id."""
    b: int
    """identify: the user id, 0 where it names none; alias: the new id; user, and an unlink of all links of `a`: 0."""
    a_id: str
    b_id: str
    call: str
    """'identify' | 'alias' | 'event' | 'merge' | 'unlink' | 'user'."""
    refused: str
    """'' when accepted, else the stable code of the refusal."""
    secret: int
    """1 where a secret write key or the console proposed it."""
    rules: int
    """The version of the rules that judged it."""
    occurred_at: int
    received_at: int
    original_at: int
    time_note: str
    event_id: str
    """'' of what was done by hand; its times are when it was done."""
    transport: str
    """'http' | 'udp' | 'import'; 'console' of what was done by hand."""
    platform: str


class MergeRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """From link-log place `version` on, `actor` belongs to `person`: to `person_of`."""

    kind: int
    project: int
    actor: int
    person: int
    version: int


ROWS: dict[int, type[msgspec.Struct]] = {
    EVENT: EventRow,
    TRAIT: TraitRow,
    LINK: LinkRow,
    MERGE: MergeRow,
    OLD_EVENT: EventRow,
    OLD_TRAIT: TraitRow,
    OLD_LINK: LinkRow,
}
"""By kind."""


class Refusal(msgspec.Struct, frozen=True):
    """Why something a sender gave was not taken. A value, never raised."""

    code: str
    """Stable; one of errors.py."""
    message: str
    """What is wrong and how to mend it."""
    field: str | None = None
    """A path such as `batch[3].userId`."""
    index: int | None = None
    """Of the event in its batch."""
    event_id: str | None = None
    """The event's own, where it gave one."""
    retry_s: int = 0
    """The soonest that sending it again is worth it, in seconds; 0: it does not say."""


class Call(msgspec.Struct, gc=False):
    """What a call asks beside an event: a link (identify, alias) or changes of traits."""

    call: str
    """'identify' | 'alias', or the event's own call where an event carries traits."""
    project: int
    secret: bool
    event_id: str
    user_id: str
    anonymous_id: str
    """alias: the previous id."""
    occurred_at: int
    received_at: int
    original_at: int
    time_note: str
    transport: str
    platform: str
    traits: list[tuple[str, str, bytes]]
    """(key, operation, JSON value), as in TraitRow."""
    is_user: bool = True
    """Did `user_id` stand in a user id field? An alias may give an anonymous id as its new one."""


PARTS = 14
"""Parts of an event in Batch.parts."""
KEYS = 4
"""Values of a call in Batch.event_keys."""


class Batch:
    """The calls of one wake-up, understood, in order of arrival: what dialects add to and recorder.py keeps.

    Kept as parallel lists, because what follows (duplicates, actors, the journal) works on all of them at once. The
    call number i has event_keys[KEYS·i : KEYS·(i+1)] = project, event id, original_at, name (of an identify or alias
    its call); ids[3i:3i+3] = project, user id, anonymous id ('' = none; for an alias the new id and the previous one);
    calls[i], where it asks for a link or changes traits; and parts[PARTS·i : PARTS·(i+1)], its EventRow in parts, or as
    many Nones where it is no event:

        0 head          MessagePack: the row's array header, kind, project   (`event_head`)
        1 actor         0, until recorder.py knows it
        2 … 10          occurred_at, received_at, original_at, time_note, call, event, event_id, user_id, anonymous_id
        11 middle       MessagePack: session_id, transport, platform, library, bot, cookieless
        12 properties
        13 tail         MessagePack: context, url, path, title, referrer, locale, user_agent, app_version, … city

    The parts of all events, encoded one after another, are their rows. What many events say alike is encoded once.
    """

    __slots__ = ("calls", "event_keys", "ids", "length", "parts", "silent")

    def __init__(self) -> None:
        self.event_keys: list[int | str] = []
        self.ids: list[int | str] = []
        self.parts: list[Any] = []
        self.calls: dict[int, Call] = {}
        self.silent: set[int] = set()
        """Calls that are events of bots, or unsigned where a key signs: what their ids say links nobody."""
        self.length = 0
        """How many calls."""

    def cut(self, length: int) -> None:
        """Take back all calls from number `length` on, half added ones too."""
        del self.event_keys[KEYS * length :], self.ids[3 * length :], self.parts[PARTS * length :]
        for index in [index for index in self.calls if index >= length]:
            del self.calls[index]
        self.silent = {index for index in self.silent if index < length}
        self.length = length


def event_head(project: int, kind: int = EVENT) -> msgspec.Raw:
    """Part 0 of the events of a project. `kind`: EVENT or OLD_EVENT."""
    fields = len(EventRow.__struct_fields__)
    return msgspec.Raw(b"\xdc" + fields.to_bytes(2) + msgspec.msgpack.encode(kind) + msgspec.msgpack.encode(project))


_pack = msgspec.msgpack.Encoder().encode


def encoded(*values: object) -> msgspec.Raw:
    """Values as MessagePack, one after another, to stand where they would."""
    # Encoded as one array, whose header is cut off.
    return msgspec.Raw(_pack(values)[1 if len(values) < 16 else 3 :])


class Ack(msgspec.Struct, gc=False):
    """What becomes of one sender's request: answered as soon as `position` is flushed."""

    accepted: int
    """Events taken, duplicates of earlier ones included."""
    refused: list[Refusal]
    failed: Refusal | None
    """The whole request was not taken, and why."""
    position: int
    """Of the journal; 0: nothing to wait for."""
    of: object = None
    """What its dialect keeps of the request, to answer it (dialects/message.py)."""


class Project(msgspec.Struct, frozen=True):
    """A customer's space."""

    id: int
    name: str
    time_zone: str = "UTC"


class WriteKey(msgspec.Struct, frozen=True):
    """What a write key opens. The collector reads these from a file that the keeper writes."""

    project: int
    secret: bool
    id: int = 0
    """Its number in the list; 0 of a key that stands in the settings alone, and has no limits."""
    name: str = ""
    """What its owner calls it."""
    origins: tuple[str, ...] = ()
    """From which web pages it may send (edge/origins.py); none: from any."""
    rate: int = 0
    """Events a second; 0: as many as come."""
    burst: int = 0
    """Events at once, after a while without any; 0: as edge/meter.py says."""
    per_day: int = 0
    """Events a UTC day; 0: as many as come."""
    signing: str = ""
    """The secret that its datagrams are signed with, without which they say nothing of people (dialects/signature.py);
    '' where it has none."""
    until: int = 0
    """From then on, in ms, it opens nothing; 0: for ever."""


class Keys(Protocol):
    """Who sends, and how much (edge/gate.py)."""

    @property
    def signs(self) -> bool: ...

    def open(self, key: str, origin: bytes | None = None) -> WriteKey | Refusal: ...

    def admit(self, key: WriteKey, now: int) -> Refusal | None: ...

    def count(self, key: WriteKey, events: int, now: int) -> None: ...


class KeyUsage(msgspec.Struct, frozen=True):
    """How much a key was used, as the collector counted."""

    day: int
    """Days since 1970, UTC."""
    today: int
    """Events taken on that day, those that came twice included."""
    last_used: int
    """ms."""


class UsageFile(msgspec.Struct, frozen=True):
    """The file in which the collector keeps that, DATA/usage.json."""

    keys: dict[int, KeyUsage]
    """By the number of the key."""


class KeyFile(msgspec.Struct, frozen=True):
    """The file by which the collector knows keys and projects, DATA/keys.json."""

    projects: list[Project]
    write_keys: dict[str, WriteKey]
    """A public key stands as it is; a secret one (`prv_…`) as its SHA-256 in hex."""


def person_text(person: int) -> str:
    """The opaque id of a person: `p_` and its representative actor in hex."""
    return f"p_{person:016x}"


def person_number(text: str) -> int | None:
    """The number in a person's opaque id; None where `text` is none."""
    if len(text) != 18 or not text.startswith("p_"):
        return None
    try:
        return int(text[2:], 16)
    except ValueError:
        return None
