"""Amplitude's HTTP API V2, as its libraries for Node, browsers, Python and phones speak it.

A body is `{"api_key", "events": [event…], "client_upload_time"}`. An event's `user_id` is a known id, its `device_id`
an anonymous one, and both on one event are a link; `insert_id` is its id, else a hash of it where it has a time.

    $identify                 identify; with `groups`, a group call for each too, which is how setGroup is sent
    $groupidentify            group: `groups`, `group_properties`; never a person's traits
    [Amplitude] Page Viewed   page; [Amplitude] Screen Viewed: screen; every other event is a track
    user_properties           traits, on any event: $set, $setOnce, $add, $unset, and plain keys, which are set

A trait cannot be a list that grows nor all traits go at once: $append, $prepend, $preInsert, $postInsert, $remove and
$clearAll are refused by name, each alone, and the rest of their event is taken. Answers: these libraries classify by
`code` in the body. At a 400 they drop the events whose indexes it names and send the others again; so where some were
taken it is a 200, with those refused told besides, and a 400 that means the whole names a missing field, which is final
to them. At a 5xx they give events up after 12 attempts, 10 s in Python; at a 429 those whose indexes it names wait 30 s
before each: so "come again" is a 503 whose body says 429 of every index there can be.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import salvage, traits
from pugd.dialects.context import written
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import NOTHING, Decoded, Id, Message, id_text, no_object, of_event
from pugd.dialects.plain import MIXED, OTHER, PAGE, SCREEN, WALKED, Flag, Form, Level, Role, Way, named
from pugd.model import Ack, Refusal

GROUPS_MAX: Final = 50
"""Of one $identify or $groupidentify: each becomes a call of its own."""
_CALLS: Final = {
    "$identify": "identify", "$groupidentify": "group", "[Amplitude] Page Viewed": "page",
    "[Amplitude] Screen Viewed": "screen",
}  # fmt: skip
_OPERATIONS: Final = {"$set": "$set", "$setOnce": "$set_once", "$add": "$add", "$unset": "$unset"}
_REFUSED: Final = {
    "$append": "send the whole list by $set", "$prepend": "send the whole list by $set",
    "$preInsert": "send the whole list by $set", "$postInsert": "send the whole list by $set",
    "$remove": "send the list that remains by $set", "$clearAll": "name what is to go in $unset",
}  # fmt: skip
_WORDS: Final = {
    "messageId": "insert_id", "userId": "user_id", "anonymousId": "device_id", "event": "event_type",
    "name": "event_type", "properties": "event_properties", "groupId": "groups", "traits": "group_properties",
}  # fmt: skip
"""What Amplitude calls our fields."""
_PURCHASE: Final = ("revenue", "price", "quantity", "productId", "revenueType", "currency")
"""Beside the properties; kept among them."""


class Event(Struct, gc=False):
    """One event as it comes. Of any type where an odd value is no reason to lose it; unknown fields are passed over."""

    event_type: str | None = None
    user_id: Id = None
    device_id: Id = None
    time: str | int | float | None = None
    insert_id: Id = None
    session_id: Any = None
    event_properties: Raw = NOTHING
    user_properties: Raw = NOTHING
    group_properties: Raw = NOTHING
    groups: Raw = NOTHING
    revenue: Raw = NOTHING
    price: Raw = NOTHING
    quantity: Raw = NOTHING
    productId: Raw = NOTHING  # noqa: N815 - the wire's own names, here and below
    revenueType: Raw = NOTHING  # noqa: N815
    currency: Raw = NOTHING
    library: Any = None
    platform: Any = None
    app_version: Any = None
    os_name: Any = None
    os_version: Any = None
    device_brand: Any = None
    device_manufacturer: Any = None
    device_model: Any = None
    carrier: Any = None
    ip: Any = None
    country: Any = None
    region: Any = None
    city: Any = None
    dma: Any = None
    location_lat: Any = None
    location_lng: Any = None
    language: Any = None
    user_agent: Any = None
    idfa: Any = None
    idfv: Any = None
    adid: Any = None
    android_id: Any = None
    plan: Any = None
    ingestion_metadata: Any = None


class _Around(Struct, gc=False):
    """A body, but for its events."""

    api_key: str | None = None
    client_upload_time: str | int | float | None = None


class _Body(_Around, gc=False):
    events: list[Event] | None = None


class _Texts(Struct, gc=False):
    """A body's events as they were written."""

    events: list[Raw]


class _Names(Struct, gc=False):
    """Which of the two lists a body has, where several dialects share a path."""

    events: Raw = NOTHING
    batch: Raw = NOTHING


class _Page(Struct, gc=False):
    """What the browser's library says of a page among the properties of its event."""

    location: Any = msgspec.field(default=None, name="[Amplitude] Page Location")
    url: Any = msgspec.field(default=None, name="[Amplitude] Page URL")
    path: Any = msgspec.field(default=None, name="[Amplitude] Page Path")
    title: Any = msgspec.field(default=None, name="[Amplitude] Page Title")
    referrer: Any = None
    utm_source: Any = None
    utm_medium: Any = None
    utm_campaign: Any = None
    utm_term: Any = None
    utm_content: Any = None


class _Read(Decoded, gc=False):
    """Decoded, and how long its body was."""

    payload_bytes: int = 0

    def join(self, more: Decoded) -> None:
        assert isinstance(more, _Read)
        self.payload_bytes += more.payload_bytes


_body = msgspec.json.Decoder(_Body)
_around = msgspec.json.Decoder(_Around)
_event = msgspec.json.Decoder(Event)
_texts = msgspec.json.Decoder(_Texts)
_names = msgspec.json.Decoder(_Names)
_raw = msgspec.json.Decoder(Raw)
_page = msgspec.json.Decoder(_Page)
_object = msgspec.json.Decoder(dict[str, Raw])
_groups = msgspec.json.Decoder(dict[str, str | int | float | list[str | int | float]])
_encode = msgspec.json.Encoder().encode


def decode(body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
    """Read a request's body: JSON, inflated and out of its form."""
    length = len(body)
    body, whole = salvage.checked(body)
    if whole is None:
        try:
            one = _body.decode(body)
            if one.events is None:
                return Refusal(errors.MISSING_FIELD, "events is missing: send a list of them.", "events")
            told = _reading(one, length)
            texts = _texts_of(body, one.events)
            _add_all(told, one.events, texts, range(len(one.events)))
            return told
        except msgspec.ValidationError as error:
            whole = salvage.wrong_type(error)
            if not (whole.field or "").startswith("events["):
                return whole
        except msgspec.DecodeError as error:
            return salvage.unreadable(error)
    alone = salvage.alone(body, "events", _raw, whole)
    if isinstance(alone, Refusal):
        return alone
    around = salvage.read_again(alone.around, "", _around)
    if isinstance(around, Refusal):
        return whole
    told = _reading(around, length)
    told.refused += alone.refused
    events: list[Event] = []
    kept: list[Raw] = []
    indexes: list[int] = []
    for index, text in zip(alone.indexes, alone.events, strict=True):
        try:
            events.append(_event.decode(text))
        except msgspec.ValidationError as error:
            wrong = salvage.wrong_type(error, f"events[{index}]")
            told.refused.append(Refusal(wrong.code, wrong.message, wrong.field, index))
            continue
        kept.append(text)
        indexes.append(index)
    _add_all(told, events, kept, indexes)
    return told


def _reading(around: _Around, length: int) -> _Read:
    return _Read(
        [], around.api_key, around.client_upload_time, indexes=[], refused=[], changes={}, place="events",
        words=_WORDS, payload_bytes=length,
    )  # fmt: skip


def _texts_of(body: bytes, events: list[Event]) -> list[Raw]:
    """The events as they were written, where some need a hash; libraries give each an `insert_id`, so mostly none."""
    if all(event.insert_id not in (None, "") for event in events):
        return []
    return _texts.decode(body).events


def _add_all(told: _Read, events: list[Event], texts: list[Raw], indexes: range | list[int]) -> None:
    """Add events to `told`. `texts`: as written, or none where no event needs them"""
    written: dict[str, int] = {}
    for number, (index, event) in enumerate(zip(indexes, events, strict=True)):
        event_id = id_text(event.insert_id)
        if event_id is None:
            wrong: Refusal | None = Refusal(errors.INVALID_FIELD, "insert_id is too long: shorten it.", "insert_id")
        else:
            if not event_id and event.time is not None:
                # Of several that say the very same, each its own: what is sent again has them in the same order.
                event_id = hashlib.blake2b(_hashed(event, texts[number]), digest_size=16).hexdigest()
                copies = written[event_id] = written.get(event_id, 0) + 1
                event_id += f"-{copies}" if copies > 1 else ""
            wrong = _add(event, event_id or None, index, told)
        if wrong is not None:
            told.refused.append(of_event(wrong, told, index, event_id))


def _hashed(event: Event, text: Raw) -> bytes:
    """What an event's id is a hash of: all of it but the address. All else is kept, and that could then be tried."""
    if event.ip is None:
        return bytes(text)
    members = _object.decode(text)
    del members["ip"]
    return _encode(members)


def _add(event: Event, event_id: str | None, index: int, told: _Read) -> Refusal | None:
    """Add what an event says to `told`: its messages, its changes of traits, the operations of these that are refused.

    returns  why nothing was added, if so
    """
    name = event.event_type
    if not name:
        return Refusal(errors.MISSING_FIELD, "event_type is missing: name what happened.", "event_type")
    call = _CALLS.get(name, "track")
    groups = _groups_of(event) if call in ("identify", "group") else []
    if isinstance(groups, Refusal):
        return groups
    if call == "group" and not groups:
        return Refusal(errors.MISSING_FIELD, "groups is missing: name the group.", "groups")
    named = [one for one in (event.user_id, event.device_id) if id_text(one) != ""]
    if not named and call != "group":
        return Refusal(errors.MISSING_FIELD, "user_id or device_id is missing: say who it was.", "user_id")
    found = _changes(event)
    if isinstance(found, Refusal):
        return found
    changes, refused = found
    text = bytes(event.event_properties)
    if not text.startswith(b"{"):
        empty = no_object(text, "event_properties")
        if isinstance(empty, Refusal):
            return empty
        text = empty
    if call == "identify" and refused and not (changes or groups or len(named) == 2):
        first, *others = refused
        told.refused += [of_event(one, told, index, event_id) for one in others]
        return first
    context = _context(event, text)
    messages: list[Message] = []
    if call == "identify":
        messages.append(Message("identify", event_id))
    elif call != "group":
        message = Message(call, event_id)
        message.event = message.name = name
        message.properties = _together(text, event)
        messages.append(message)
    group_traits = _group_traits(event) if call == "group" else NOTHING
    if isinstance(group_traits, Refusal):
        return group_traits
    for kind, group in groups:
        message = Message("group", f"{event_id}#{len(messages)}" if event_id and messages else event_id)
        message.category, message.groupId, message.traits = kind, group, group_traits
        messages.append(message)
    assert told.indexes is not None
    assert told.changes is not None
    if changes and call != "group":
        told.changes[len(told.messages)] = changes
    address = event.ip.strip() if isinstance(event.ip, str) else ""
    for message in messages:
        if address:
            told.addresses[len(told.messages)] = address
        message.userId, message.anonymousId, message.timestamp = event.user_id, event.device_id, event.time
        if not named:
            # The library for groups names no person; as other libraries do, the group stands in for one.
            message.anonymousId = f"${message.category}_{message.groupId}"
        message.context, message.channel = context, _channel(event)
        told.messages.append(message)
        told.indexes.append(index)
    told.refused += [of_event(one, told, index, event_id) for one in refused]
    return None


def _changes(event: Event) -> tuple[list[traits.Change], list[Refusal]] | Refusal:
    """What user_properties change of traits, and the operations among them that cannot be."""
    text = bytes(event.user_properties)
    if text in (b"", b"null", b"{}"):
        return [], []
    if not text.startswith(b"{"):
        return Refusal(errors.INVALID_FIELD, "user_properties must be a JSON object, such as {}.", "user_properties")
    plain = _object.decode(text)
    refused = [_inexpressible(f"user_properties.{name}", name) for name in _REFUSED if plain.pop(name, None)]
    operations = {ours: plain.pop(name) for name, ours in _OPERATIONS.items() if name in plain}
    changes = traits.of_operations(operations, plain, "user_properties.")
    if isinstance(changes, Refusal):
        ours, theirs = "$set_once", "$setOnce"
        field = changes.field and changes.field.replace(ours, theirs)
        return Refusal(changes.code, changes.message.replace(ours, theirs), field)
    return changes, refused


def _inexpressible(field: str, name: str) -> Refusal:
    return Refusal(errors.INVALID_FIELD, f"{field} is not kept: {_REFUSED[name]}.", field)


def _groups_of(event: Event) -> list[tuple[str, str]] | Refusal:
    """Each group that is named: (its type, its name)."""
    text = bytes(event.groups)
    if text in (b"", b"null"):
        return []
    try:
        said = _groups.decode(text)
    except msgspec.ValidationError:
        wrong = 'groups must be an object of names or lists of them, such as {"company": "acme"}.'
        return Refusal(errors.INVALID_FIELD, wrong, "groups")
    named = [(kind, one) for kind, value in said.items() for one in (value if isinstance(value, list) else [value])]
    if len(named) > GROUPS_MAX:
        return Refusal(errors.TOO_LARGE, f"groups names more than {GROUPS_MAX}: send fewer in one event.", "groups")
    found: list[tuple[str, str]] = []
    for kind, one in named:
        group = id_text(one)
        if not group or not kind:
            return Refusal(errors.INVALID_FIELD, "groups has a name that is empty or too long.", "groups")
        found.append((kind, group))
    return found


def _group_traits(event: Event) -> Raw | Refusal:
    """A group's: what is set, and other operations by their names, as they were sent; nothing works these out."""
    text = bytes(event.group_properties)
    if text in (b"", b"null"):
        return NOTHING
    if not text.startswith(b"{"):
        return Refusal(errors.INVALID_FIELD, "group_properties must be a JSON object, such as {}.", "group_properties")
    members = _object.decode(text)
    for name, value in members.items():
        if name.startswith("$") and bytes(value).startswith(b"{"):
            inner = _object.decode(value)
            if inner.keys() & {"ip", "$ip"}:
                members[name] = Raw(_encode({key: one for key, one in inner.items() if key not in ("ip", "$ip")}))
    if bytes(members.get("$set", NOTHING)).startswith(b"{"):
        members |= _object.decode(members.pop("$set"))
    return Raw(_encode(members))


def _together(text: bytes, event: Event) -> Raw:
    """The properties, with what stood beside them and has no other place: purchases, and groups as `$groups`."""
    beside = {name: value for name in _PURCHASE if (value := getattr(event, name)) not in (NOTHING, _NULL)}
    if event.groups not in (NOTHING, _NULL):
        beside["$groups"] = event.groups
    return Raw(_encode(beside | _object.decode(text)) if beside else text)


_NULL: Final = Raw(b"null")


_PAGE_MARK: Final = b'"[Amplitude] Page '


def _channel(event: Event) -> str | None:
    return "web" if isinstance(event.platform, str) and event.platform.lower() == "web" else None


def _context(event: Event, properties: bytes) -> Raw:
    """What Amplitude says of where it happened, in Segment's words. `ip` is not among it: it is not kept."""
    name, _, version = event.library.rpartition("/") if isinstance(event.library, str) else ("", "", "")
    kind = None if _channel(event) else event.platform
    groups = {
        "library": {"name": name or event.library, "version": version if name else None},
        "app": {"version": event.app_version},
        "os": {"name": event.os_name, "version": event.os_version},
        "device": {
            "id": event.idfv or event.android_id, "type": kind, "brand": event.device_brand,
            "model": event.device_model, "manufacturer": event.device_manufacturer,
            "advertisingId": event.idfa or event.adid,
        },
        "network": {"carrier": event.carrier},
        "location": {
            "country": event.country, "region": event.region, "city": event.city, "dma": event.dma,
            "latitude": event.location_lat, "longitude": event.location_lng,
        },
    }  # fmt: skip
    if _PAGE_MARK in properties:
        page = _page.decode(properties)
        groups["page"] = {
            "url": page.location or page.url, "path": page.path, "title": page.title, "referrer": page.referrer,
        }  # fmt: skip
        groups["campaign"] = {
            "source": page.utm_source, "medium": page.utm_medium, "name": page.utm_campaign, "term": page.utm_term,
            "content": page.utm_content,
        }  # fmt: skip
    session = None if event.session_id in (-1, "-1") else event.session_id
    single = {
        "userAgent": event.user_agent, "locale": event.language, "sessionId": session, "plan": event.plan,
        "ingestion_metadata": event.ingestion_metadata,
    }  # fmt: skip
    return written(groups, single, "")


def _about(text: bytes, channel: str | None, more: str) -> tuple[Raw, str | None]:
    event = _event.decode(text)
    return _context(event, text), _channel(event)


_PLAIN: Final = Form(
    kind=3,
    flags=Flag.BY_NAME | Flag.WALKED | Flag.TOGETHER | Flag.NUMBERS,
    members={
        Level.AROUND: named(
            _Body, {Role.LIST: ["events"], Role.KEY: ["api_key"], Role.SENT: ["client_upload_time"]}
        ),
        Level.EVENT: named(Event, {
            Role.EVENT: ["event_type"], Role.ID: ["insert_id"], Role.USER: ["user_id"], Role.ANONYMOUS: ["device_id"],
            Role.TIME: ["time"], Role.PROPERTIES: ["event_properties"], Role.EMPTY: ["user_properties"],
            Role.NULL: ["groups", *_PURCHASE], Role.NONE: ["group_properties", "ip"],
            Role.SAYS: [
                "session_id", "library", "platform", "app_version", "os_name", "os_version", "device_brand",
                "device_manufacturer", "device_model", "carrier", "country", "region", "city", "dma", "location_lat",
                "location_lng", "language", "user_agent", "idfa", "idfv", "adid", "android_id", "plan",
                "ingestion_metadata",
            ],
        }),
        Level.PROPERTIES: {field.encode_name: Role.SAYS for field in msgspec.structs.fields(_Page)} | WALKED,
        Level.NAMES: {
            name: {"page": PAGE, "screen": SCREEN}.get(call, OTHER) for name, call in _CALLS.items()
        },
    },
    about=_about,
    told=lambda shape, count, length, received_at: _Read(
        [], place="events", words=_WORDS, taken=list(range(count)), payload_bytes=length, received_at=received_at
    ),
    marker=_PAGE_MARK,
)  # fmt: skip
FORMS: Final = (_PLAIN,)
_WAY: Final = Way(_PLAIN)


def plain(asked: Asked) -> Way | None:
    """As what a body may be plain; None: it is not."""
    return _WAY


def address_of_all(body: bytes, asked: Asked) -> str | None:
    """What a plain body says of all its events' addresses: a browser's library says `$remote` with each."""
    told = body.count(b'ip"')
    if not told:
        return None
    return None if asked.from_browser and told == body.count(b'"ip":"$remote"') else MIXED


def constant(asked: Asked) -> Reply | None:
    return None


def success(ack: Ack, asked: Asked) -> Reply:
    """What was refused is told besides: the indexes of a 400 would have the others sent again."""
    assert isinstance(ack.of, _Read), "it is of what decode made"
    events = min(ack.accepted, len(set(ack.of.taken or ())))
    told: dict[str, object] = {
        "code": 200, "events_ingested": events, "payload_size_bytes": ack.of.payload_bytes,
        "server_upload_time": ack.of.received_at,
    }  # fmt: skip
    if ack.refused:
        told["refused"] = [
            {"index": one.index, "insert_id": one.event_id, "code": one.code, "error": one.message, "field": one.field}
            for one in ack.refused
        ]
    return Reply(200, _encode(told))


AGAIN_INDEXES: Final = list(range(1000))
"""As many events as Amplitude takes in one body; its libraries send 200, in browsers 30."""


def failure(status: int, ack: Ack, asked: Asked) -> Reply:
    """A body as Amplitude's own, with a `code` always: without one, events are lost or sent in vain."""
    failed = ack.failed
    assert failed is not None
    told: dict[str, object] = {"code": 400, "error": failed.message, "missing_field": None}
    if failed.code in (errors.INVALID_KEY, errors.FORBIDDEN):
        # These first words, and nothing else, make it final to the libraries.
        return Reply(400, _encode(told | {"error": f"Invalid API key: {failed.message}"}))
    if ack.refused and all(one.index is not None for one in ack.refused):
        missing: dict[str, list[int]] = {}
        invalid: dict[str, list[int]] = {}
        for one in ack.refused:
            named = (one.field or "").partition(".")[2] or "event"
            fields = missing if one.code == errors.MISSING_FIELD else invalid
            indexes = fields.setdefault(named, [])
            assert one.index is not None
            indexes.append(one.index)
        told |= {"events_with_invalid_fields": invalid, "events_with_missing_fields": missing, "silenced_events": []}
        return Reply(400, _encode(told))
    if status in (429, 503):
        told = {
            "code": 429, "error": failed.message, "eps_threshold": 0, "throttled_devices": {}, "throttled_users": {},
            "exceeded_daily_quota_devices": {}, "exceeded_daily_quota_users": {}, "throttled_events": AGAIN_INDEXES,
        }  # fmt: skip
        return Reply(status, _encode(told))
    if status in (408, 413) or status >= 500:
        return Reply(status, _encode({"code": status, "error": failed.message}))
    # Without indexes and without a missing field it would all be sent again.
    told |= {"missing_field": failed.field or "events"}
    return Reply(status if status == 405 else 400, _encode(told))


_BEGIN: Final = re.compile(
    rb'\s*+\{\s*+(?:"(?:[^"\\]|\\.)*+"\s*+:\s*+(?:"(?:[^"\\]|\\.)*+"|[-+.0-9A-Za-z]++)\s*+,\s*+)*?'
    rb'"(events|batch)"\s*+:',
    re.S,
)
"""Up to the list, where nothing but plain members stand before it, as in every library's bodies."""


def is_mine(body: bytes, asked: Asked) -> bool:
    """Is its list called `events`, not `batch`? cost  a few µs for what libraries send, else a look at each member"""
    found = _BEGIN.match(body)
    if found is not None:
        return found[1] == b"events"
    try:
        named = _names.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(named.events) and not named.batch
