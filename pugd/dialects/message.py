"""What any client said, in one form, and the rows that are made of it: for all dialects, so that none has its own way.

The form is Segment's message, which is pugd's own too: a dialect decodes its body into these, or maps what it has onto
them. `read` understands them and adds them to the wake-up's Batch; between the two the write key, which may lie in the
body, is looked up. Pure, and raises nothing: an event that is wrong is its own Refusal, told in the words of its
sender, and takes none of its batch with it.

Mapping: messageId → event id (minted where absent); event, or category and name → the event's name; timestamp, else
originalTimestamp, else receipt → time; sentAt of the envelope, else of the message → skew; traits, else context.traits
→ traits of an identify; on other calls context.traits is context. `$set` and the like in the properties of an event
change traits too (traits.py); a dialect that has them elsewhere gives them in `Decoded.changes`. Ids that are numbers
become their decimal text; an empty id counts as absent. IP addresses (`context.ip`, `ip` and `$ip` in properties and
traits) are dropped here; what one says of an event's place is asked for before (`where`).

A message whose context is `cookieless` has an id of the day and no other (`visitor`): those that it carries are left
out, and what it says of traits. It can only be an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import context, traits
from pugd.model import COOKIELESS, PARTS, Ack, Batch, Call, Refusal, event_head

CALLS = frozenset(("track", "page", "screen", "group", "identify", "alias"))

ID_BYTES_MAX = 512
NAME_LENGTH_MAX = 512
EVENT_BYTES_MAX = 8 * 1024 * 1024
"""Of properties, and of traits. The largest event that a real client library sends is of 8 MiB."""

NOTHING = Raw(b"")
Id = str | int | float | None


class Clock(Protocol):
    """What `read` asks of time; said is a sender's own text or number."""

    def skew(self, sent_at: str | int | float, received_at: int) -> int: ...

    def correct(self, said: str | int | float, skew_ms: int, received_at: int) -> tuple[int, int, str]: ...


class Where(Protocol):
    """Tells an event's place (enrich/place.py): country, region and city in MessagePack."""

    def __call__(self, said: str | None, sender: str, /) -> Raw: ...


class Visitor(Protocol):
    """Tells cookieless visitors apart (enrich/cookieless.py): their ids of the day."""

    def __call__(self, occurred_at: int, address: str | None, user_agent: str, host: str, /) -> str | Refusal: ...


class Message(Struct, gc=False):
    """One message as it comes; every field optional, unknown ones passed over."""

    type: str | None = None
    messageId: str | None = None  # noqa: N815 - the wire's own names, here and below
    userId: Id = None  # noqa: N815
    anonymousId: Id = None  # noqa: N815
    event: str | None = None
    properties: Raw = NOTHING
    context: Raw = NOTHING
    timestamp: str | int | float | None = None
    originalTimestamp: str | int | float | None = None  # noqa: N815
    sentAt: str | int | float | None = None  # noqa: N815
    name: str | None = None
    category: str | None = None
    traits: Raw = NOTHING
    previousId: Id = None  # noqa: N815
    groupId: Id = None  # noqa: N815
    channel: str | None = None
    writeKey: str | None = None  # noqa: N815


class Decoded(Struct, gc=False):
    """A body's messages, before their key is known."""

    messages: list[Message]
    write_key: str | None = None
    sent_at: str | int | float | None = None
    context: Raw = NOTHING
    """The envelope's, for messages that have none."""
    indexes: list[int] | None = None
    """Which event of the body each message is of; None: one message an event, none refused."""
    refused: list[Refusal] = []
    changes: dict[int, list[traits.Change]] | None = None
    """What messages change of traits, by their number; None: it stands in their properties and traits."""
    ages: dict[int, int] = {}
    """How long before they came messages happened, in ms, by their number, where that is all that is known."""
    addresses: dict[int, str] = {}
    """What messages say of their senders' addresses, by their number, where that is not the context's to say: one,
    `$remote` for the connection's, '' that no place is to be told. Nothing keeps it."""
    place: str = "batch"
    """What the body calls its list of events, '' where it is the list; `single`: it is one event."""
    single: bool = False
    words: Mapping[str, str] = MappingProxyType({})
    """What the dialect calls our fields, where it calls them otherwise: its refusals use its words."""
    taken: list[int] | None = None
    """Once read: which event each call that was taken is of; None: the first of the first, and so on."""
    received_at: int = 0
    """Once read: when it came, ms."""

    def event(self, number: int) -> int:
        """Which event of the body a message is of."""
        return number if self.indexes is None else self.indexes[number]

    def join(self, more: Decoded) -> None:
        """What was read of the next piece of the same body belongs to it: for a dialect that counts something of it."""


ONE: Final = Decoded([], single=True)
MANY: Final = Decoded([])
"""Stand for bodies of Segment's that were taken without reading them here (plain.py)."""


ELSEWHERE: Final = Refusal(
    errors.COOKIELESS_OFF, "Visitors without an id cannot be told apart here: send this by HTTP.", "context.cookieless"
)
_RESERVED: Final = len(COOKIELESS)

_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def read(
    decoded: Decoded,
    batch: Batch,
    *,
    project: int,
    secret: bool,
    received_at: int,
    transport: str,
    clock: Clock,
    mint: Callable[[], str],
    enrich: context.Enrich = context.unenriched,
    user_agent: str = "",
    where: Where | None = None,
    unsigned: bool = False,
    visitor: Visitor | None = None,
) -> list[Refusal]:
    """Understand the messages and add them to `batch`.

    `received_at`  ms
    `transport`    'http' | 'udp' | 'import'
    `clock`        corrects what the sender said of time (enrich/clock.py)
    `mint`         makes an event id for a message that has none
    `enrich`       what is made of contexts
    `user_agent`   a browser's own, of the request
    `where`        tells places, of what an event says of its address and of who sends
    `visitor`      tells cookieless visitors of the request apart; None where nobody can
    `unsigned`     they should be signed and are not: events are taken, but link nobody and change no traits
    returns        a Refusal for each message that was not added, those of `decoded` included; and for the traits of
                   each that was, unsigned
    cost           about 1.5 µs an event
    """
    refused = decoded.refused
    decoded.received_at = received_at
    parts, ids, event_keys = batch.parts, batch.ids, batch.event_keys
    head = event_head(project)
    skew_ms = batch_skew_ms = clock.skew(decoded.sent_at, received_at) if decoded.sent_at is not None else 0
    correct = clock.correct
    about: context.Context | None = None
    last_raw, last_channel = NOTHING, None  # what `about` is of: mostly that of the next message too
    tail = NOTHING
    placed: str | None = ""  # of which address `tail` has the place; '' of none
    changes_of, ages, addresses = decoded.changes, decoded.ages, decoded.addresses
    gone: list[int] = []
    for number, message in enumerate(decoded.messages):
        user = message.userId
        if user is None:
            user = ""
        elif type(user) is not str or len(user) > 128:
            user = id_text(user)
        anonymous = message.anonymousId
        if anonymous is None:
            anonymous = ""
        elif type(anonymous) is not str or len(anonymous) > 128:
            anonymous = id_text(anonymous)
        event_id = message.messageId
        if event_id is None or event_id == "":
            event_id = mint()
        if user is None or anonymous is None or len(event_id) > NAME_LENGTH_MAX:
            gone.append(number)
            refused.append(_placed(_why(message, changes_of is not None), number, decoded))
            continue
        said = message.timestamp
        if said is None:
            said = message.originalTimestamp
        if said is None:
            occurred = original = received_at - ages.get(number, 0) if ages else received_at
            note = ""
        else:
            if message.sentAt is not None and decoded.sent_at is None:
                skew_ms = clock.skew(message.sentAt, received_at)
            else:
                skew_ms = batch_skew_ms
            occurred, original, note = correct(said, skew_ms, received_at)
        if about is None or message.context != last_raw or message.channel != last_channel:
            understood = context.understand(message.context or decoded.context, message.channel, enrich, user_agent)
            if isinstance(understood, Refusal):
                gone.append(number)
                refused.append(_placed(understood, number, decoded))
                continue
            about, last_raw, last_channel = understood, message.context, message.channel
            tail, placed = about.tail, ""
        call = message.type
        changes: list[traits.Change] | None = None
        if about.cookieless:
            address = addresses.get(number, about.ip)
            found = _cookieless(message, about, occurred, address, visitor, changes_of is not None)
            if isinstance(found, Refusal):
                gone.append(number)
                refused.append(_placed(found, number, decoded))
                continue
            user, anonymous = "", found
        elif not (user or anonymous) or user[:_RESERVED] == COOKIELESS or anonymous[:_RESERVED] == COOKIELESS:
            gone.append(number)
            refused.append(_placed(_why(message, changes_of is not None), number, decoded))
            continue
        if call == "track":
            name = message.event
            properties: bytes | Refusal = bytes(message.properties)
        elif call in ("page", "screen"):
            name = " ".join(part for part in (message.category, message.name) if part) or f"{call}_view"
            properties = bytes(message.properties)
        elif call == "group":
            name = "group"
            properties = _group(message)
        else:
            wrong = (UNSIGNED if unsigned and call in ("identify", "alias") else None) or _link_or_traits(
                message, batch, user, anonymous, event_id, project, secret,
                (occurred, received_at, original, note), transport, about,
                None if changes_of is None else changes_of.get(number, []),
            )  # fmt: skip
            if wrong is not None:
                gone.append(number)
                refused.append(_placed(wrong, number, decoded))
            continue
        if not name or len(name) > NAME_LENGTH_MAX:
            gone.append(number)
            refused.append(_placed(_bad_name(name, call), number, decoded))
            continue
        if type(properties) is bytes:
            if not properties.startswith(b"{"):
                properties = no_object(properties, "properties")
            elif len(properties) > EVENT_BYTES_MAX:
                properties = _too_large(properties, "properties")
            elif b'ip"' in properties:
                properties = without_ip(properties)
            if about.cookieless:
                if type(properties) is bytes:
                    properties = _without_ids(properties)
            elif changes_of is not None:
                changes = changes_of.get(number)
                if type(properties) is bytes:
                    properties = traits.without_addresses(properties)
            elif type(properties) is bytes and traits.may_change(properties):
                said_of_traits = traits.of_properties(properties)
                if isinstance(said_of_traits, Refusal):
                    properties = said_of_traits
                else:
                    changes, properties = said_of_traits
        if type(properties) is Refusal:
            gone.append(number)
            refused.append(_placed(properties, number, decoded))
            continue
        if unsigned or (about.bot and transport != "udp"):
            batch.silent.add(batch.length)  # which changes nothing about people
            if unsigned and changes:
                refused.append(_placed(UNSIGNED_TRAITS, number, decoded))
        elif changes:
            # A call beside its event, and public whatever key sent it: what an event says of ids, a key does not back.
            batch.calls[batch.length] = Call(
                "event", project, False, event_id, user, anonymous, occurred, received_at, original, note, transport,
                about.platform, changes,
            )  # fmt: skip
        if where is not None:
            address = addresses.get(number, about.ip)
            if address != placed:
                tail, placed = Raw(bytes(about.start) + bytes(where(address, about.sender))), address
        event_keys += (project, event_id, original, name)
        ids += (project, user, anonymous)
        parts += (
            head, 0, occurred, received_at, original, note, call, name, event_id, user, anonymous,
            about.middle[transport], properties, tail,
        )  # fmt: skip
        batch.length += 1
    if refused or decoded.indexes is not None:
        refused.sort(key=lambda refusal: refusal.index or 0)
        left_out = set(gone)
        numbers = [number for number in range(len(decoded.messages)) if number not in left_out]
        decoded.taken = [decoded.event(number) for number in numbers]
    decoded.messages = []
    return refused


UNSIGNED: Final = Refusal(
    errors.UNSIGNED,
    "identify and alias are taken of signed datagrams alone, since the key has a signing secret: sign its datagram, or "
    "send it by HTTP.",
    "type",
)
UNSIGNED_TRAITS: Final = Refusal(
    errors.UNSIGNED,
    "The event was taken but changed no traits, since the key has a signing secret: sign its datagram, or send it by "
    "HTTP.",
    "properties",
)


def made_bytes(decoded: Decoded) -> int:
    """How long the JSON is that a dialect made of what was sent; for the reservation of room."""
    return sum(
        len(bytes(message.properties)) + len(bytes(message.context)) + len(bytes(message.traits))
        for message in decoded.messages
    )


def id_text(value: Id) -> str | None:
    """An id as text: '' where there is none, None where it is none that we take (over 512 bytes of UTF-8)."""
    if value is None:
        return ""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    text = value if isinstance(value, str) else str(value)
    return text if len(text.encode()) <= ID_BYTES_MAX else None


def _why(message: Message, given: bool) -> Refusal:
    """What is wrong with a message that `read` passed over, dearest check last. `given`: its call may be `traits`."""
    if message.type not in CALLS and not (message.type == "traits" and given):
        return _bad_call(message.type)
    for field, value in (("userId", message.userId), ("anonymousId", message.anonymousId)):
        if id_text(value) is None:
            return Refusal(errors.INVALID_ID, f"{field} is longer than {ID_BYTES_MAX} bytes: shorten it.", field)
    if message.messageId is not None and len(message.messageId) > NAME_LENGTH_MAX:
        return Refusal(
            errors.INVALID_FIELD, f"messageId is longer than {NAME_LENGTH_MAX} characters: shorten it.", "messageId"
        )
    for field, value in (("userId", message.userId), ("anonymousId", message.anonymousId)):
        if (id_text(value) or "").startswith(COOKIELESS):
            return _reserved(field)
    return Refusal(errors.MISSING_FIELD, "userId or anonymousId is missing: send at least one of them.", "userId")


def _reserved(field: str) -> Refusal:
    return Refusal(errors.INVALID_ID, f"{field} begins with {COOKIELESS}, as no client's id may: send another.", field)


def _cookieless(
    message: Message,
    about: context.Context,
    occurred_at: int,
    address: str | None,
    visitor: Visitor | None,
    given: bool,
) -> str | Refusal:
    """The id of the day of a visitor without one. `given`: as for `_why`"""
    call = message.type
    if call not in ("track", "page", "screen"):
        if call not in CALLS and not (call == "traits" and given):
            return _bad_call(call)
        return Refusal(
            errors.COOKIELESS_CALL,
            f"A cookieless visitor is nobody in particular, so {call} says nothing of them: ask for consent first.",
            "context.cookieless",
        )
    return ELSEWHERE if visitor is None else visitor(occurred_at, address, about.user_agent, about.host)


def _bad_call(call: str | None) -> Refusal:
    known = ", ".join(sorted(CALLS))
    if call is None:
        return Refusal(errors.MISSING_FIELD, f"type is missing: send one of {known}.", "type")
    return Refusal(errors.INVALID_FIELD, f"type {call[:64]!r} is unknown: send one of {known}.", "type")


def _bad_name(name: str | None, call: str) -> Refusal:
    field = "event" if call == "track" else "name"
    if not name:
        return Refusal(errors.MISSING_FIELD, f"{field} is missing: name what happened, such as order_completed.", field)
    return Refusal(errors.INVALID_FIELD, f"{field} is longer than {NAME_LENGTH_MAX} characters: shorten it.", field)


def _placed(refusal: Refusal, number: int, decoded: Decoded) -> Refusal:
    """The same refusal with its place in the body, in the words of its sender."""
    field, message = refusal.field, refusal.message
    if field is not None and field in decoded.words:
        theirs = decoded.words[field]
        field, message = theirs, message.replace(field, theirs)
    wrong = Refusal(refusal.code, message, field)
    return of_event(wrong, decoded, decoded.event(number), decoded.messages[number].messageId)


def of_event(refusal: Refusal, decoded: Decoded, index: int, event_id: str | None) -> Refusal:
    """The same refusal, of this event of the body."""
    code, message, field = refusal.code, refusal.message, refusal.field
    if decoded.single:
        return Refusal(code, message, field, None, event_id)
    return Refusal(code, message, path(decoded, index, field), index, event_id)


def path(decoded: Decoded, index: int, field: str | None) -> str:
    """Where a field of an event stands in its body, such as `batch[3].userId`."""
    return f"{decoded.place}[{index}]" + (f".{field}" if field else "")


def no_object(raw: bytes, field: str) -> bytes | Refusal:
    """What stands for properties or traits that are no object: nothing for null and absence, else a refusal."""
    if raw in (b"", b"null"):
        return b"{}"
    return Refusal(errors.INVALID_FIELD, f"{field} must be a JSON object, such as {{}}.", field)


def _too_large(raw: bytes, field: str) -> Refusal:
    return Refusal(
        errors.TOO_LARGE, f"{field} has {len(raw)} bytes, more than {EVENT_BYTES_MAX}: send less in one event.", field
    )


def without_ip(raw: bytes) -> bytes:
    """The same JSON object without its top-level `ip` and `$ip`: an address is used, then dropped, never stored."""
    members = _object.decode(raw)
    if members.pop("ip", None) is None and members.pop("$ip", None) is None:
        return raw
    members.pop("$ip", None)
    return _encode(members)


_IDS: Final = frozenset((
    *traits.OPERATIONS, "distinct_id", "alias", "anonymousId", "anonymous_id", "deviceId", "device_id", "sessionId",
    "session_id", "userId", "user_id", "$anon_distinct_id", "$device_id", "$group_set", "$groups", "$session_id",
    "$user_id", "$window_id",
))  # fmt: skip


def _without_ids(raw: bytes) -> bytes:
    """The properties of a cookieless visitor: without those that clients have their ids in, and without traits."""
    members = _object.decode(raw)
    kept = {name: value for name, value in members.items() if name not in _IDS}
    return raw if len(kept) == len(members) else _encode(kept)


def _group(message: Message) -> bytes | Refusal:
    """A group call's properties: which group, and its traits, which are the group's and never the person's."""
    group = id_text(message.groupId)
    if not group:
        return Refusal(errors.MISSING_FIELD, "groupId is missing: name the group.", "groupId")
    traits = bytes(message.traits)
    if not traits.startswith(b"{"):
        plain = no_object(traits, "traits")
        if isinstance(plain, Refusal):
            return plain
        traits = plain
    said: dict[str, object] = {"group_id": group, "traits": Raw(without_ip(traits))}
    return _encode({"group_type": message.category} | said if message.category else said)


def _link_or_traits(
    message: Message,
    batch: Batch,
    user: str,
    anonymous: str,
    event_id: str,
    project: int,
    secret: bool,
    when: tuple[int, int, int, str],
    transport: str,
    about: context.Context,
    given: list[traits.Change] | None,
) -> Refusal | None:
    """Add an identify or an alias to `batch`; anything else is no call.

    `given`  its changes of traits, where a dialect has them elsewhere: its call may then be nothing else, `traits`
    """
    call = message.type
    if call is None or not (call in ("identify", "alias") or (call == "traits" and given is not None)):
        return _bad_call(call)
    is_user = bool(user)
    changes = given or []
    if call == "alias":
        previous = id_text(message.previousId)
        if previous is None:
            return Refusal(errors.INVALID_ID, f"previousId is longer than {ID_BYTES_MAX} bytes.", "previousId")
        if not previous:
            return Refusal(errors.MISSING_FIELD, "previousId is missing: name the id to alias.", "previousId")
        if previous.startswith(COOKIELESS):
            return _reserved("previousId")
        user = user or anonymous
        anonymous = previous
    elif given is None:
        raw = bytes(message.traits) or about.traits
        if not raw.startswith(b"{"):
            plain = no_object(raw, "traits")
            if isinstance(plain, Refusal):
                return plain
            raw = plain
        if len(raw) > EVENT_BYTES_MAX:
            return _too_large(raw, "traits")
        said = traits.of_identify(raw)
        if isinstance(said, Refusal):
            return said
        changes = said
    occurred, received_at, original, note = when
    batch.calls[batch.length] = Call(
        call, project, secret, event_id, user, anonymous, occurred, received_at, original, note, transport,
        about.platform, changes, is_user,
    )  # fmt: skip
    batch.event_keys += (project, event_id, original, call)
    batch.ids += (project, user, anonymous)
    batch.parts += (None,) * PARTS
    batch.length += 1
    return None


def without_reused(ack: Ack, reused: list[int], event_ids: list[str]) -> Ack:
    """An ack that refuses some of the events it took, since their ids were used before.

    `reused`     their numbers among the calls taken, ascending
    `event_ids`  theirs
    """
    decoded = ack.of
    assert isinstance(decoded, Decoded), "every ack knows what it is of"
    refused = list(ack.refused)
    told = decoded.words.get("messageId", "messageId")
    for number, event_id in zip(reused, event_ids, strict=True):
        index = number if decoded.taken is None else decoded.taken[number]
        field = told if decoded.single else path(decoded, index, told)
        wrong = f"{field} was used before for another event or by somebody else: give each event an id of its own."
        refused.append(Refusal(errors.EVENT_ID_REUSED, wrong, field, None if decoded.single else index, event_id))
    refused.sort(key=lambda refusal: refusal.index or 0)
    accepted = ack.accepted - len(reused)
    if accepted:
        return Ack(accepted, refused, None, ack.position, decoded)
    return Ack(0, refused, refused[0], 0, decoded)
