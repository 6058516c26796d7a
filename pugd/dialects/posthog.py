"""PostHog's capture API, as posthog-js, -node and -python speak it, the older forms and V1 included.

A body is `{"api_key", "batch": [event…]}`, a list of events, or one event; its key and the time it was sent stand where
the version of the library put them. `distinct_id` is one namespace: it says who, and not whether that is known. So it
is an anonymous id until there is evidence: `$identify` names a user, and so do `$is_identified` and `$user_id` on an
event. `$create_alias` and `$merge_dangerously` name two ids, in an order that differs from library to library;
`$device_id` links nothing, since PostHog keeps it when somebody else signs in.

    $identify                        identify: distinct_id is the user, $anon_distinct_id the anonymous id
    $create_alias, $merge_dangerously  alias
    $set, $set_once, $unset          a change of traits and no event
    $groupidentify                   group: $group_type, $group_key, $group_set
    $pageview, $screen               page, screen; every other event is a track, all under their own names
    $snapshot                        a recording: taken for good and not kept

Traits change by `$set`, `$set_once` and `$unset` beside `properties` or in them; where `$process_person_profile` is
false, none does. Properties stay as they were sent; what PostHog says in them of page, library, device and session
becomes the context too. `$ip` says from where, unless `$geoip_disable` is true, and is not kept. Answers: posthog-js
takes nothing but a 200 for kept, and nothing below 500 for "again".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import posthog_asks, salvage, traits
from pugd.dialects.context import written
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import NOTHING, Decoded, Id, Message, id_text, no_object, of_event
from pugd.dialects.plain import (
    BATCHED,
    IDENTIFY,
    MIXED,
    OTHER,
    PAGE,
    SCREEN,
    SENT_MAX,
    SENT_MIN,
    SINGLE,
    TRAITS,
    WALKED,
    Flag,
    Form,
    Level,
    Role,
    Way,
    named,
)
from pugd.model import Ack, Refusal

CAPTURE: Final = "capture"
V1: Final = "v1"
_SENT: Final = (CAPTURE, V1, "track", "engage")
"""Calls that send; /track and /engage are Mixpanel's paths too."""
_DROPPED: Final = frozenset(("$snapshot", "$snapshot_items"))
_TRAITS: Final = frozenset(("$set", "$set_once", "$unset"))
_CALLS: Final = {
    "$identify": "identify", "$create_alias": "alias", "$merge_dangerously": "alias", "$groupidentify": "group",
    "$pageview": "page", "$screen": "screen", **dict.fromkeys(_TRAITS, "traits"),
}  # fmt: skip
_WORDS: Final = {
    "messageId": "uuid", "userId": "distinct_id", "anonymousId": "distinct_id", "previousId": "properties.alias",
    "groupId": "properties.$group_key", "name": "event", "context.cookieless": "properties.$cookieless_mode",
}  # fmt: skip
"""What PostHog calls our fields."""


class Event(Struct, gc=False):
    """One event as it comes, in any of PostHog's forms."""

    event: str | None = None
    uuid: str | None = None
    distinct_id: Id | bool = None
    properties: Raw = NOTHING
    timestamp: str | int | float | None = None
    set: Raw = msgspec.field(default=NOTHING, name="$set")
    set_once: Raw = msgspec.field(default=NOTHING, name="$set_once")
    unset: Raw = msgspec.field(default=NOTHING, name="$unset")
    api_key: str | None = None
    token: str | None = None
    sent_at: str | int | float | None = None
    offset: float | None = None
    """How long before it was sent it happened, in ms: older posthog-js say so in place of a time."""
    options: dict[str, Any] | None = None
    """V1: what stands in properties otherwise."""
    session_id: str | None = None
    engaged: Id = msgspec.field(default=None, name="$distinct_id")
    """/engage of the oldest libraries."""
    engage_token: str | None = msgspec.field(default=None, name="$token")


class _Body(Event, gc=False):
    """One event, or a batch of them."""

    batch: list[Event] | None = None


class _Envelope(Struct, gc=False):
    """A batch, but for its events."""

    api_key: str | None = None
    token: str | None = None
    sent_at: str | int | float | None = None


class _Properties(Struct, gc=False, rename=lambda name: "$" + name):
    """What is read of an event's properties. Of any type, since an odd title is no reason to lose an event."""

    distinct_id: Any = msgspec.field(default=None, name="distinct_id")
    token: Any = msgspec.field(default=None, name="token")
    alias: Any = msgspec.field(default=None, name="alias")
    title: Any = msgspec.field(default=None, name="title")
    utm_source: Any = msgspec.field(default=None, name="utm_source")
    utm_medium: Any = msgspec.field(default=None, name="utm_medium")
    utm_campaign: Any = msgspec.field(default=None, name="utm_campaign")
    utm_term: Any = msgspec.field(default=None, name="utm_term")
    utm_content: Any = msgspec.field(default=None, name="utm_content")
    set: Raw = NOTHING
    set_once: Raw = NOTHING
    unset: Raw = NOTHING
    insert_id: Any = None
    time: Any = None
    ip: Any = None
    geoip_disable: Any = None
    anon_distinct_id: Any = None
    user_id: Any = None
    is_identified: Any = None
    process_person_profile: Any = None
    ignore_sent_at: Any = None
    cookieless_mode: Any = None
    group_type: Any = None
    group_key: Any = None
    group_set: Raw = NOTHING
    session_id: Any = None
    device_id: Any = None
    device_type: Any = None
    device_model: Any = None
    device_manufacturer: Any = None
    current_url: Any = None
    pathname: Any = None
    referrer: Any = None
    raw_user_agent: Any = None
    useragent: Any = None
    user_agent: Any = None
    browser_language: Any = None
    locale: Any = None
    timezone: Any = None
    lib: Any = None
    lib_version: Any = None
    os: Any = None
    os_name: Any = None
    os_version: Any = None
    app_name: Any = None
    app_version: Any = None
    app_build: Any = None
    screen_width: Any = None
    screen_height: Any = None


_body = msgspec.json.Decoder(_Body)
_list = msgspec.json.Decoder(list[Event])
_event = msgspec.json.Decoder(Event)
_envelope = msgspec.json.Decoder(_Envelope)
_properties = msgspec.json.Decoder(_Properties)
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def decode(body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
    """Read a request's body: JSON, inflated and out of its form."""
    if asked.call not in _SENT:
        return posthog_asks.reply(asked)
    if b"compression=lz64" in asked.query or asked.form.get("compression") == "lz64":
        return LZ64
    body, whole = salvage.checked(body)
    is_list = body.lstrip()[:1] == b"["
    if whole is None:
        try:
            if is_list:
                return _understood(_Envelope(), _list.decode(body), asked, place="")
            one = _body.decode(body)
            around = _Envelope(one.api_key or one.token, None, one.sent_at)
            if one.batch is not None:
                return _understood(around, one.batch, asked, place="batch")
            return _understood(around, [one], asked, place="", single=True)
        except msgspec.ValidationError as error:
            whole = salvage.wrong_type(error)
            if not is_list and not (whole.field or "").startswith("batch["):
                return whole
        except msgspec.DecodeError as error:
            return salvage.unreadable(error)
    place = "" if is_list else "batch"
    alone = salvage.alone(body, place, _event, whole)
    if isinstance(alone, Refusal):
        return alone
    envelope = salvage.read_again(alone.around, "", _envelope)
    if isinstance(envelope, Refusal):
        return whole
    return _understood(envelope, alone.events, asked, place, alone.indexes, alone.refused)


LZ64: Final = Refusal(
    errors.UNSUPPORTED_ENCODING,
    "compression=lz64 is not taken: update posthog-js, or have it send base64, gzip or plain JSON.",
)


def _understood(
    around: _Envelope,
    events: list[Event],
    asked: Asked,
    place: str,
    indexes: list[int] | None = None,
    refused: list[Refusal] | None = None,
    single: bool = False,
) -> Decoded:
    """Events as messages."""
    numbers = range(len(events)) if indexes is None else indexes
    decoded = Decoded(
        [], around.api_key or around.token, around.sent_at, indexes=[], refused=refused or [], changes={},
        place=place, single=single, words=_WORDS,
    )  # fmt: skip
    if decoded.sent_at is None:
        decoded.sent_at = _sent_at(asked)
    unskewed: set[int] = set()
    sdk = _library(_sdk(asked))
    for index, event in zip(numbers, events, strict=True):
        wrong = _add(event, index, decoded, unskewed, sdk)
        if wrong is not None:
            decoded.refused.append(of_event(wrong, decoded, index, event.uuid))
    if unskewed:
        # Skew is of each message then, but of those whose clock is said to be right.
        for number, message in enumerate(decoded.messages):
            message.sentAt = None if number in unskewed else decoded.sent_at
        decoded.sent_at = None
    return decoded


SDK_BYTES_MAX: Final = 256
"""It is said once and put into the context of every event."""


def _sdk(asked: Asked) -> str:
    """V1 says in a header what stands in properties otherwise, such as posthog-node/5.70.0."""
    return asked.more.get(b"posthog-sdk-info", b"")[:SDK_BYTES_MAX].decode("latin-1")


def _library(sdk: str) -> tuple[str | None, str | None]:
    name, _, version = sdk.partition("/")
    return name or None, version or None


def _sent_at(asked: Asked) -> str | int | None:
    """V1 says it in a header, older posthog-js in the query."""
    stamp = asked.more.get(b"posthog-request-timestamp")
    return stamp.decode("latin-1") if stamp else _milliseconds(asked.query)


def _milliseconds(query: bytes) -> int | None:
    """`_=…`: when a request was sent, in the query."""
    for pair in query.split(b"&"):
        if pair.startswith(b"_=") and pair[2:].isdigit() and len(pair) < 20:
            return int(pair[2:])
    return None


def _add(
    event: Event, index: int, decoded: Decoded, unskewed: set[int], sdk: tuple[str | None, str | None]
) -> Refusal | None:
    """Add what an event says to `decoded`.

    `sdk`  the library and its version, where the event does not say so
    """
    text = bytes(event.properties)
    if not text.startswith(b"{"):
        empty = no_object(text, "properties")
        if isinstance(empty, Refusal):
            return empty
        text = empty
    said = _properties.decode(text)
    if decoded.write_key is None:
        decoded.write_key = event.api_key or event.token or event.engage_token or _text(said.token) or None
    name = event.event
    if name in _DROPPED:
        return None
    if name is None and event.engaged is not None:
        name = "$set"
    distinct = _distinct(event, said)
    options = event.options or {}
    marks = (said.cookieless_mode, options.get("cookieless_mode"))
    cookieless = distinct == COOKIELESS_ID or any(not (mark is None or _is_false(mark)) for mark in marks)
    if not (distinct or cookieless):
        return Refusal(errors.MISSING_FIELD, "distinct_id is missing: say who it was.", "distinct_id")
    call = _CALLS.get(name or "", "track")
    changes = _changes(event, said)
    if isinstance(changes, Refusal):
        return changes
    if _is_false(said.process_person_profile) or _is_false(options.get("process_person_profile")):
        changes = []
    message = Message(call, event.uuid or _text(said.insert_id) or None)
    message.timestamp = event.timestamp if event.timestamp is not None else _time(said.time)
    message.context, message.channel = _where(event, said, sdk, cookieless)
    known = call == "identify" or said.is_identified is True or _text(said.user_id) == distinct
    if cookieless:
        pass
    elif known:
        message.userId = distinct
    else:
        message.anonymousId = distinct
    if cookieless:
        if call in ("track", "page", "screen"):
            message.event = message.name = name
            message.properties = _together(text, event)
    elif call == "identify":
        anonymous = _id(said.anon_distinct_id)
        message.anonymousId = None if anonymous == distinct else anonymous
    elif call == "alias":
        message.previousId = _id(said.alias)
    elif call == "group":
        message.groupId, message.traits = _id(said.group_key), said.group_set
        message.category = _text(said.group_type)
    elif call != "traits":
        message.event = message.name = name
        message.properties = _together(text, event)
    number = len(decoded.messages)
    if event.offset is not None and message.timestamp is None:
        decoded.ages[number] = int(min(max(event.offset, 0), AGE_MAX_MS))
    if said.geoip_disable is True:
        decoded.addresses[number] = ""
    elif address := _text(said.ip).strip():
        decoded.addresses[number] = address
    if said.ignore_sent_at is True or options.get("disable_skew_correction") is True:
        unskewed.add(number)
    assert decoded.indexes is not None
    assert decoded.changes is not None
    if changes:
        decoded.changes[number] = changes
    decoded.messages.append(message)
    decoded.indexes.append(index)
    return None


AGE_MAX_MS: Final = 366 * 86_400_000
COOKIELESS_ID: Final = "$posthog_cookieless"
"""What stands in the place of a cookieless visitor's id."""


def _distinct(event: Event, said: _Properties) -> str:
    """Who; '' where nobody is named. Bounds are for all dialects' reader to check."""
    for value in (event.distinct_id, said.distinct_id, event.engaged):
        found = _id(value)
        text = found if isinstance(found, str) else id_text(found)
        if text:
            return text
    return ""


def _id(value: object) -> Id:
    """An id of either of its types; what is neither is none."""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> str | int | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _is_false(value: object) -> bool:
    return value is False or value == "false"


def _changes(event: Event, said: _Properties) -> list[traits.Change] | Refusal:
    """What it changes of traits, in both places; what stands beside the properties wins."""
    if not (event.set or event.set_once or event.unset or said.set or said.set_once or said.unset):
        return []
    return _changes_of(
        (bytes(said.set), bytes(said.set_once), bytes(said.unset)),
        (bytes(event.set), bytes(event.set_once), bytes(event.unset)),
    )


def _changes_of(within: Sequence[bytes], beside: Sequence[bytes]) -> list[traits.Change] | Refusal:
    """The same of `$set`, `$set_once` and `$unset` in either place, each empty where it is absent."""
    found: dict[str, Raw] = {}
    for name, inner, outer in zip(("$set", "$set_once", "$unset"), within, beside, strict=True):
        if inner and outer and inner[:1] == outer[:1] == b"{":
            found[name] = Raw(_encode(_object.decode(inner) | _object.decode(outer)))
        elif inner or outer:
            found[name] = Raw(outer or inner)
    return traits.of_operations(found)


def _together(text: bytes, event: Event) -> Raw:
    """The properties as they were sent, with what stood beside them: PostHog keeps it there too."""
    if not (event.set or event.set_once or event.unset):
        return Raw(text)
    members = _object.decode(text)
    for name, value in (("$set", event.set), ("$set_once", event.set_once), ("$unset", event.unset)):
        if value:
            members[name] = value
    return Raw(_encode(members))


def _where(
    event: Event, said: _Properties, sdk: tuple[str | None, str | None], cookieless: bool
) -> tuple[Raw, str | None]:
    """What an event says of where it happened: its context, its channel."""
    if said.lib is None:
        said.lib, said.lib_version = sdk
    return _context(event, said, cookieless), "web" if said.lib == "web" else None


def _context(event: Event, said: _Properties, cookieless: bool) -> Raw:
    """What PostHog says of where it happened, in Segment's words."""
    referrer = None if said.referrer == "$direct" else said.referrer
    groups = {
        "page": {"url": said.current_url, "path": said.pathname, "title": said.title, "referrer": referrer},
        "library": {"name": "posthog-js" if said.lib == "web" else said.lib, "version": said.lib_version},
        "app": {"name": said.app_name, "version": said.app_version, "build": said.app_build},
        "os": {"name": said.os_name or said.os, "version": said.os_version},
        "device": {
            "id": said.device_id, "type": said.device_type, "model": said.device_model,
            "manufacturer": said.device_manufacturer,
        },
        "screen": {"width": said.screen_width, "height": said.screen_height},
        "campaign": {
            "source": said.utm_source, "medium": said.utm_medium, "name": said.utm_campaign, "term": said.utm_term,
            "content": said.utm_content,
        },
    }  # fmt: skip
    single = {
        "userAgent": said.raw_user_agent or said.useragent or said.user_agent,
        "locale": said.browser_language or said.locale,
        "timezone": said.timezone,
        "sessionId": event.session_id or said.session_id,
        "cookieless": cookieless or None,
    }
    return written(groups, single)


_EVENT: Final = named(Event, {
    Role.EVENT: ["event"], Role.ID: ["uuid"], Role.DISTINCT: ["distinct_id"], Role.PROPERTIES: ["properties"],
    Role.TIME: ["timestamp"], Role.AGE: ["offset"], Role.SENT: ["sent_at"], Role.KEY: ["api_key", "token"],
    Role.EMPTY: ["options"], Role.TEXT | Role.SAYS: ["session_id"],
    Role.SET_BESIDE: ["$set"], Role.SET_ONCE_BESIDE: ["$set_once"], Role.UNSET_BESIDE: ["$unset"],
})  # fmt: skip
_PLAIN: Final = Form(
    kind=1,
    flags=Flag.BY_NAME | Flag.BARE_LIST | Flag.WALKED | Flag.TOGETHER | Flag.NUMBERS | Flag.ONE_ID,
    members={
        Level.AROUND: _EVENT | {"batch": Role.LIST},
        Level.EVENT: _EVENT | {"sent_at": Role.TEXT},
        Level.PROPERTIES: WALKED | named(_Properties, {
            Role.ID_ELSE: ["$insert_id"], Role.DISTINCT_ELSE: ["distinct_id"], Role.TIME_ELSE: ["$time"],
            Role.KEY: ["token"], Role.SAME: ["$user_id"], Role.KNOWN: ["$is_identified"],
            Role.JOINED: ["$anon_distinct_id"], Role.PROFILE: ["$process_person_profile"],
            Role.UNSKEWED: ["$ignore_sent_at"],
            Role.SET: ["$set"], Role.SET_ONCE: ["$set_once"], Role.UNSET: ["$unset"],
            # What says something of calls that are not plain.
            Role.NONE: ["alias", "$group_type", "$group_key", "$group_set", "$geoip_disable"],
            Role.SAYS: [
                "title", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "$session_id",
                "$device_id", "$device_type", "$device_model", "$device_manufacturer", "$current_url", "$pathname",
                "$referrer", "$raw_user_agent", "$useragent", "$user_agent", "$browser_language", "$locale",
                "$timezone", "$lib", "$lib_version", "$os", "$os_name", "$os_version", "$app_name", "$app_version",
                "$app_build", "$screen_width", "$screen_height",
            ],
        }),
        Level.NAMES: {
            name: {"page": PAGE, "screen": SCREEN, "identify": IDENTIFY, "traits": TRAITS}.get(call, OTHER)
            for name, call in {**dict.fromkeys(_DROPPED, ""), **_CALLS}.items()
        },
    },
    changes=_changes_of,
    about=lambda text, channel, more: _where(_event.decode(text), _properties.decode(text), _library(more), False),
    told=lambda shape, count, length, received_at: Decoded(
        [], place="batch" if shape == BATCHED else "", single=shape == SINGLE, words=_WORDS, received_at=received_at
    ),
)  # fmt: skip
FORMS: Final = (_PLAIN,)
_WAY: Final = Way(_PLAIN)


def plain(asked: Asked) -> Way | None:
    """As what a body may be plain; None: it is not."""
    if asked.call not in _SENT or asked.form.get("compression") or b"compression=lz64" in asked.query:
        return None
    if not asked.more and not asked.query:
        return _WAY
    sent = _sent_at(asked)
    if isinstance(sent, str):
        try:
            when = datetime.fromisoformat(sent)
        except ValueError:
            return None
        sent = (when.replace(tzinfo=when.tzinfo or UTC) - _EPOCH) // _MILLISECOND
    if sent is None:
        sent = -1
    elif not SENT_MIN <= sent <= SENT_MAX:
        return None
    return Way(_PLAIN, sent_at=sent, more=_sdk(asked))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def address_of_all(body: bytes, asked: Asked) -> str | None:
    """What a plain body says of all its events' addresses; none has `$ip`. What is nowhere need not be switched off."""
    return MIXED if asked.from_browser and b"geoip_disable" in body else None


KEPT: Final = Reply(200, b'{"status":1}')
KEPT_V1: Final = Reply(200, b'{"results":{}}')


def constant(asked: Asked) -> Reply | None:
    return KEPT_V1 if asked.call == V1 else KEPT


def success(ack: Ack, asked: Asked) -> Reply:
    """Libraries read `status`, V1 the results of what was not taken; what was refused is told besides."""
    if asked.call == V1:
        dropped = {
            refusal.event_id: {"result": "drop", "details": refusal.message}
            for refusal in ack.refused
            if refusal.event_id
        }
        return Reply(200, _encode({"results": dropped}))
    if not ack.refused:
        return KEPT
    told = [
        {"index": refusal.index, "uuid": refusal.event_id, "code": refusal.code, "detail": refusal.message,
         "attr": refusal.field}
        for refusal in ack.refused
    ]  # fmt: skip
    return Reply(200, _encode({"status": 1, "accepted": ack.accepted, "refused": told}))


def failure(status: int, ack: Ack, asked: Asked) -> Reply:
    """A body as PostHog's own. posthog-js drops what it sent at any 4xx, so what may be sent again is a 503."""
    assert ack.failed is not None
    if status in (408, 429):
        status = 503
    if ack.failed.code == errors.INVALID_KEY:
        told = {"type": "authentication_error", "code": "invalid_api_key", "detail": ack.failed.message, "attr": None}
    else:
        kind = "server_error" if status >= 500 else "validation_error"
        told = {"type": kind, "code": ack.failed.code, "detail": ack.failed.message, "attr": ack.failed.field}
    return Reply(status, _encode(told))


class _Marked(Struct, gc=False):
    """Where PostHog's key stands; Mixpanel's is in the properties, or has a dollar sign."""

    api_key: Raw = NOTHING
    token: Raw = NOTHING
    batch: Raw = NOTHING


_marked = msgspec.json.Decoder(_Marked)
_marked_list = msgspec.json.Decoder(list[_Marked])
_MARKS: Final = (b'"api_key"', b'"token"', b'"batch"')


def is_mine(body: bytes, asked: Asked) -> bool:
    """Does a body on a path that is Mixpanel's too name its key, or its events, as PostHog does? cost  1 ns a byte"""
    if not any(mark in body for mark in _MARKS):
        return False
    try:
        if body.lstrip()[:1] != b"[":
            one = _marked.decode(body)
            return bool(one.api_key or one.token or one.batch)
        return any(one.api_key or one.token for one in _marked_list.decode(body))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return b'"api_key"' in body
