"""Pug's SDKs: Connect's unary calls, in binary protobuf or in JSON.

    /sdk.events.v1.EventsService/BatchCreate        events
    /sdk.profiles.v1.ProfilesSDKService/Identify    an identify
    /sdk.devices.v1.DevicesService/Subscribe        answered; nothing is kept, since pugd pushes nothing

A body is JSON where it begins as a JSON object does, whatever its content type says, since no message of these begins
so; else protobuf, which protobuf.py makes JSON of. `distinct_id` is an anonymous id where it begins with `anon-`, as
those do that the SDKs mint, and else a user id. `kind` is the event's name; `page_view` with a `$url` is a page,
`screen_view` a screen, under the same names. Properties of both maps stay as they were sent, in one object; what `$…`
say of page, library, device, browser and campaign becomes the context too, and `session_id` its session.

Pug refuses a whole batch for one event, and pugd that event alone: the answer counts it, by reason. Errors are the JSON
of Connect, whose code tells an SDK whether to send again. What can never be taken has a code that is final to them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import protobuf, salvage, slices
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import NOTHING, Decoded, Message
from pugd.dialects.plain import PAGE, SCREEN, WALKED, Flag, Form, Level, Role, Way, named
from pugd.model import COOKIELESS, Ack, Refusal

BATCH: Final = "batch"
IDENTIFY: Final = "identify"
DEVICE: Final = "device"

PROTO: Final = "application/proto"
JSON: Final = "application/json"
ANONYMOUS: Final = "anon-"

_EVENT_WORDS: Final = {
    "messageId": "event_id", "userId": "distinct_id", "anonymousId": "distinct_id", "event": "kind", "name": "kind",
    "context.cookieless": "cookieless", "timestamp": "occur_time",
}  # fmt: skip
_IDENTIFY_WORDS: Final = {"userId": "external_id", "anonymousId": "anonymous_id"}
"""What Pug calls our fields."""


class Event(Struct, gc=False):
    """One event, as protobuf.py writes it."""

    event_id: str | None = None
    distinct_id: str | None = None
    kind: str | None = None
    occur_time: str | int | float | None = None
    session_id: str | None = None
    cookieless: bool = False
    properties: Raw = NOTHING
    wrong: int = 0


class _JsonEvent(Struct, gc=False):
    """One event of a JSON body, which may spell its fields in both ways."""

    event_id: str | None = None
    eventId: str | None = None  # noqa: N815 - the wire's own names, here and below
    distinct_id: str | None = None
    distinctId: str | None = None  # noqa: N815
    kind: str | None = None
    occur_time: str | int | float | None = None
    occurTime: str | int | float | None = None  # noqa: N815
    session_id: str | None = None
    sessionId: str | None = None  # noqa: N815
    cookieless: bool | None = None
    auto_properties: dict[str, Any] | None = None
    autoProperties: dict[str, Any] | None = None  # noqa: N815
    custom_properties: dict[str, Any] | None = None
    customProperties: dict[str, Any] | None = None  # noqa: N815


class _JsonBatch(Struct, gc=False):
    events: list[_JsonEvent] | None = None


class _Identify(Struct, gc=False):
    external_id: str | None = None
    externalId: str | None = None  # noqa: N815
    anonymous_id: str | None = None
    anonymousId: str | None = None  # noqa: N815
    traits: Raw = NOTHING


class _Known(Struct, gc=False, rename=lambda name: "$" + name):
    """What is read of an event's properties. Of any type, since an odd title is no reason to lose an event."""

    url: Any = None
    pathname: Any = None
    pageTitle: Any = None  # noqa: N815
    referrer: Any = None
    platform: Any = None
    lib: Any = None
    sdkVersion: Any = None  # noqa: N815
    locale: Any = None
    timezone: Any = None
    screenWidth: Any = None  # noqa: N815
    screenHeight: Any = None  # noqa: N815
    browser: Any = None
    browserVersion: Any = None  # noqa: N815
    os: Any = None
    osVersion: Any = None  # noqa: N815
    device: Any = None
    deviceModel: Any = None  # noqa: N815
    deviceManufacturer: Any = None  # noqa: N815
    appName: Any = None  # noqa: N815
    appPackage: Any = None  # noqa: N815
    appVersion: Any = None  # noqa: N815
    appBuild: Any = None  # noqa: N815
    utmSource: Any = None  # noqa: N815
    utmMedium: Any = None  # noqa: N815
    utmCampaign: Any = None  # noqa: N815
    utmTerm: Any = None  # noqa: N815
    utmContent: Any = None  # noqa: N815


class _Page(Struct, omit_defaults=True, gc=False):
    """This and what follows: a context in Segment's words."""

    url: Any = None
    path: Any = None
    title: Any = None
    referrer: Any = None


class _Named(Struct, omit_defaults=True, gc=False):
    name: Any = None
    version: Any = None


class _Screen(Struct, omit_defaults=True, gc=False):
    width: Any = None
    height: Any = None


class _Device(Struct, omit_defaults=True, gc=False):
    type: Any = None
    model: Any = None
    manufacturer: Any = None


class _App(Struct, omit_defaults=True, gc=False):
    name: Any = None
    namespace: Any = None
    version: Any = None
    build: Any = None


class _Campaign(Struct, omit_defaults=True, gc=False):
    source: Any = None
    medium: Any = None
    name: Any = None
    term: Any = None
    content: Any = None


class _Context(Struct, omit_defaults=True, gc=False):
    page: _Page | None = None
    library: _Named | None = None
    screen: _Screen | None = None
    browser: _Named | None = None
    os: _Named | None = None
    device: _Device | None = None
    app: _App | None = None
    campaign: _Campaign | None = None
    locale: Any = None
    timezone: Any = None
    sessionId: str | None = None  # noqa: N815
    cookieless: bool = False


_CHANNELS: Final = {"web": "web", "android": "mobile", "ios": "mobile", "server": "server"}

_events = msgspec.json.Decoder(list[Event])
_batch = msgspec.json.Decoder(_JsonBatch)
_json_event = msgspec.json.Decoder(_JsonEvent)
_identify = msgspec.json.Decoder(_Identify)
_known = msgspec.json.Decoder(_Known)
_encode = msgspec.json.Encoder().encode

_BEGINS_AS_JSON: Final = re.compile(rb"\s*\{\s*[\"}]")


def decode(body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
    """Read a request's body, inflated."""
    if "grpc" in asked.content_type or "application/connect+" in asked.content_type:
        return NO_UNARY
    if asked.call == DEVICE:
        return Decoded([])
    is_json = _is_json(body, asked)
    if asked.call == IDENTIFY:
        return _read_identify(body, is_json)
    return _read_json(body) if is_json else _read_protobuf(body)


NO_UNARY: Final = Refusal(
    errors.UNSUPPORTED_ENCODING,
    "Only Connect's unary calls are taken, as Pug's SDKs make them: application/proto or application/json, no stream.",
)


def _is_json(body: bytes, asked: Asked) -> bool:
    """A message of ours begins with a byte of 10 to 98 that is no brace; only a line feed begins both."""
    if body[:1] == b"\n":
        return "json" in asked.content_type and _BEGINS_AS_JSON.match(body) is not None
    if not body:
        return "json" in asked.content_type
    return body.lstrip()[:1] == b"{"


def shape(body: bytes, asked: Asked) -> slices.Shape | None:
    """How a large body may be cut: see slices.py."""
    if _is_json(body, asked):
        return slices.Shape(b"events") if asked.call == BATCH else slices.WHOLE
    return slices.Shape(protobuf=True) if asked.call == BATCH else None


# ---- events


def _read_protobuf(body: bytes) -> Decoded | Refusal:
    text = protobuf.events(body)
    if isinstance(text, int):
        return _wrong(text)
    text, unstorable = salvage.checked(text)
    if unstorable is not None:
        # What protobuf.py writes can be stored but for its size, or it is at fault.
        return unstorable
    return _understood(_events.decode(text))


def _read_json(body: bytes) -> Decoded | Refusal:
    body, whole = salvage.checked(body)
    if whole is None:
        try:
            events = _batch.decode(body).events or []
            return _of_json(events, range(len(events)), [])
        except msgspec.ValidationError as error:
            whole = salvage.wrong_type(error)
            if not (whole.field or "").startswith("events["):
                return whole
        except msgspec.DecodeError as error:
            return salvage.unreadable(error)
    alone = salvage.alone(body, "events", _json_event, whole)
    if isinstance(alone, Refusal):
        return alone
    return _of_json(alone.events, alone.indexes, alone.refused)


def _of_json(events: list[_JsonEvent], numbers: Any, refused: list[Refusal]) -> Decoded:
    """Events of a JSON body in the form that protobuf.py gives them."""
    found: list[Event] = []
    indexes: list[int] = []
    for index, event in zip(numbers, events, strict=True):
        properties: dict[str, Any] = {}
        wrong: str | None = None
        for name, values in (
            ("auto_properties", event.auto_properties or event.autoProperties),
            ("custom_properties", event.custom_properties or event.customProperties),
        ):
            for key, value in (values or {}).items():
                plain = _plain(value)
                if plain is _NONE:
                    wrong = wrong or f"{name}.{key[:64]}"
                properties[key] = plain
        event_id = event.event_id or event.eventId
        if wrong is not None:
            field = f"events[{index}].{wrong}"
            words = f'{field} is no property: send a text, a number, true or false, or such as {{"intValue": "1"}}.'
            refused.append(Refusal(errors.INVALID_FIELD, words, field, index, event_id))
            continue
        when = event.occur_time if event.occur_time is not None else event.occurTime
        found.append(
            Event(
                event_id, event.distinct_id or event.distinctId, event.kind, when, event.session_id or event.sessionId,
                event.cookieless is True, Raw(_encode(properties)),
            )
        )  # fmt: skip
        indexes.append(index)
    return _understood(found, indexes, refused)


_NONE: Final = object()
"""What is no property."""


def _plain(value: object) -> object:
    """A property as it is meant: `{"intValue": "1"}` is 1. What stands there plainly is taken as it is."""
    if not isinstance(value, dict):
        return _NONE if isinstance(value, list) else value
    said: object = None
    for name, inner in value.items():
        match name:
            case "stringValue" | "string_value":
                said = inner if isinstance(inner, str) else _NONE
            case "timestampValue" | "timestamp_value":
                said = inner if isinstance(inner, str) else _NONE
            case "boolValue" | "bool_value":
                said = inner if isinstance(inner, bool) else _NONE
            case "intValue" | "int_value":
                said = _integer(inner)
            case "doubleValue" | "double_value":
                said = _double(inner)
            case _:
                pass
    return said


def _integer(value: object) -> object:
    if isinstance(value, str):
        if re.fullmatch("-?[0-9]{1,19}", value) is None:
            return _NONE
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_one = isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    return value if is_one else _NONE


def _double(value: object) -> object:
    if isinstance(value, str):
        if re.fullmatch(r"-?[0-9]{1,64}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,4})?", value) is None:
            return _NONE
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return _NONE
    return value


def _understood(events: list[Event], indexes: list[int] | None = None, refused: list[Refusal] | None = None) -> Decoded:
    """Events as messages."""
    decoded = Decoded([], indexes=[], refused=refused or [], changes={}, place="events", words=_EVENT_WORDS)
    messages, places = decoded.messages, decoded.indexes
    assert places is not None
    for number, event in enumerate(events):
        distinct = event.distinct_id or ""
        if event.wrong or not (distinct or event.cookieless) or distinct.startswith(COOKIELESS):
            index = number if indexes is None else indexes[number]
            why = _why_not(event)
            field = f"events[{index}]" + (f".{why.field}" if why.field else "")
            decoded.refused.append(Refusal(why.code, why.message, field, index, event.event_id))
            continue
        properties = event.properties
        said = _known.decode(properties) if properties else _Known()
        kind = event.kind
        call = "track"
        if kind == "page_view" and type(said.url) is str:
            call = "page"
        elif kind == "screen_view":
            call = "screen"
        message = Message(call, event.event_id)
        if event.cookieless:
            pass
        elif distinct.startswith(ANONYMOUS):
            message.anonymousId = distinct
        else:
            message.userId = distinct
        message.event = message.name = kind
        message.timestamp = event.occur_time
        message.properties = properties
        message.context = Raw(_context(event.session_id, said, event.cookieless))
        message.channel = _channel(said)
        messages.append(message)
        places.append(number if indexes is None else indexes[number])
    return decoded


def _why_not(event: Event) -> Refusal:
    """What is wrong with an event that can not become a message; `field` is the event's."""
    if event.wrong:
        return _wrong(event.wrong)
    if not event.distinct_id:
        return Refusal(errors.MISSING_FIELD, "distinct_id is missing: say who it was.", "distinct_id")
    return Refusal(
        errors.INVALID_ID, f"distinct_id begins with {COOKIELESS}, as no client's id may: send another.", "distinct_id"
    )


_WRONG: Final = {
    protobuf.MALFORMED: (
        errors.INVALID_PROTOBUF,
        "This is no protobuf message that can be read: a field ends beyond it",
    ),
    protobuf.NO_UTF8: (errors.INVALID_PROTOBUF, "A text in this message is not valid UTF-8: encode it so"),
    protobuf.NOT_FINITE: (errors.INVALID_FIELD, "A number in this message is NaN or infinite: leave it out"),
    protobuf.TOO_DEEP: (errors.TOO_DEEP, f"Nested deeper than {protobuf.DEPTH_MAX}: send a flatter object"),
}


def _wrong(code: int) -> Refusal:
    name, words = _WRONG[code]
    return Refusal(name, f"{words}.")


def _context(session_id: str | None, said: _Known, cookieless: bool) -> bytes:
    """What Pug says of where it happened, in Segment's words. cost  1.5 µs"""
    found = _Context(
        locale=said.locale, timezone=said.timezone, sessionId=session_id or None, cookieless=cookieless
    )  # fmt: skip
    path = said.pathname
    if path is None and type(said.url) is str:
        path = _path(said.url)
    if (page := _Page(said.url, path, said.pageTitle, said.referrer)) != _NO_PAGE:
        found.page = page
    if said.lib is not None or said.sdkVersion is not None:
        found.library = _Named(said.lib, said.sdkVersion)
    if said.screenWidth is not None or said.screenHeight is not None:
        found.screen = _Screen(said.screenWidth, said.screenHeight)
    if said.browser is not None or said.browserVersion is not None:
        found.browser = _Named(said.browser, said.browserVersion)
    if said.os is not None or said.osVersion is not None:
        found.os = _Named(said.os, said.osVersion)
    if (device := _Device(said.device, said.deviceModel, said.deviceManufacturer)) != _NO_DEVICE:
        found.device = device
    if (app := _App(said.appName, said.appPackage, said.appVersion, said.appBuild)) != _NO_APP:
        found.app = app
    campaign = _Campaign(said.utmSource, said.utmMedium, said.utmCampaign, said.utmTerm, said.utmContent)
    if campaign != _NO_CAMPAIGN:
        found.campaign = campaign
    return _encode(found)


_NO_PAGE: Final = _Page()
_NO_DEVICE: Final = _Device()
_NO_APP: Final = _App()
_NO_CAMPAIGN: Final = _Campaign()


def _path(url: str) -> str:
    """`https://shop.example/shoes?size=9` → `/shoes`; what is no such address is its own path."""
    _, scheme, rest = url.partition("://")
    if not scheme:
        return url.partition("?")[0].partition("#")[0]
    return "/" + rest.partition("?")[0].partition("#")[0].partition("/")[2]


def _channel(said: _Known) -> str | None:
    return _CHANNELS.get(said.platform) if type(said.platform) is str else None


# ---- the short way


def _opened(body: bytes) -> bytes | None:
    text = None if body[:1] != b"\n" and body.lstrip()[:1] == b"{" else protobuf.events(body)
    return text if isinstance(text, bytes) else None


def _about(text: bytes, channel: str | None, more: str) -> tuple[Raw, str | None]:
    said = _known.decode(text)
    return Raw(_context(_event.decode(text).session_id, said, False)), _channel(said)


_event = msgspec.json.Decoder(Event)
_PLAIN: Final = Form(
    kind=4,
    flags=(
        Flag.BY_NAME | Flag.BARE_LIST | Flag.WALKED | Flag.TOGETHER | Flag.MARKED_ID | Flag.PAGE_HAS_URL
    ),
    members={
        Level.EVENT: named(Event, {
            Role.ID: ["event_id"], Role.DISTINCT: ["distinct_id"], Role.EVENT: ["kind"], Role.TIME: ["occur_time"],
            Role.SAYS: ["session_id"], Role.FALSE: ["cookieless"], Role.PROPERTIES: ["properties"],
        }),
        Level.PROPERTIES: named(_Known, {
            Role.URL | Role.SAYS: ["$url"],
            Role.SAYS: [
                field.encode_name for field in msgspec.structs.fields(_Known) if field.encode_name != "$url"
            ],
        }) | WALKED,
        Level.NAMES: {"page_view": PAGE, "screen_view": SCREEN},
    },
    about=_about,
    told=lambda shape, count, length, received_at: Decoded(
        [], place="events", words=_EVENT_WORDS, received_at=received_at
    ),
    opened=_opened,
)  # fmt: skip
FORMS: Final = (_PLAIN,)
_WAY: Final = Way(_PLAIN)


def plain(asked: Asked) -> Way | None:
    """As what a body may be plain; None: it is not. One in JSON never is."""
    if asked.call != BATCH or (asked.content_type and asked.content_type != PROTO):
        return None
    return _WAY


# ---- identify


def _read_identify(body: bytes, is_json: bool) -> Decoded | Refusal:
    if not is_json:
        if len(body) > slices.HEAVY_BYTES:
            return Refusal(
                errors.TOO_LARGE, f"This message has more than {slices.HEAVY_BYTES} bytes: send fewer traits."
            )
        text = protobuf.identify(body)
        if isinstance(text, int):
            return _wrong(text)
        body = text
    body, whole = salvage.checked(body)
    if whole is not None:
        return whole
    try:
        said = _identify.decode(body)
    except msgspec.ValidationError as error:
        return salvage.wrong_type(error)
    except msgspec.DecodeError as error:
        return salvage.unreadable(error)
    external = said.external_id or said.externalId
    anonymous = said.anonymous_id or said.anonymousId
    if not external:
        return Refusal(errors.MISSING_FIELD, "external_id is missing: say who it is.", "external_id")
    if external.startswith(COOKIELESS):
        return Refusal(
            errors.INVALID_ID,
            f"external_id begins with {COOKIELESS}, as no client's id may: send another.",
            "external_id",
        )
    if anonymous and not anonymous.startswith(ANONYMOUS):
        return Refusal(
            errors.INVALID_ID, f"anonymous_id must begin with {ANONYMOUS}: a user's id is no visitor's.", "anonymous_id"
        )
    message = Message("identify", userId=external, anonymousId=anonymous)
    message.traits = said.traits
    return Decoded([message], single=True, words=_IDENTIFY_WORDS)


# ---- answers


def constant(asked: Asked) -> Reply | None:
    """An empty message is no bytes in protobuf; that of events says how many were taken."""
    return None if asked.call == BATCH else success(Ack(0, [], None, 0), asked)


def success(ack: Ack, asked: Asked) -> Reply:
    in_json = "json" in asked.content_type
    if asked.call != BATCH:
        return Reply(200, b"{}" if in_json else b"", JSON if in_json else PROTO)
    reasons = Counter(refusal.code for refusal in ack.refused)
    if not in_json:
        return Reply(200, _counted(ack.accepted, reasons), PROTO)
    told: dict[str, object] = {"accepted": ack.accepted}
    if reasons:
        told |= {"dropped": len(ack.refused), "droppedByReason": reasons}
        told["refused"] = [
            {"index": refusal.index, "eventId": refusal.event_id, "code": refusal.code, "message": refusal.message,
             "field": refusal.field}
            for refusal in ack.refused
        ]  # fmt: skip
    return Reply(200, _encode(told))


def _counted(accepted: int, reasons: Counter[str]) -> bytes:
    """A BatchCreateResponse."""
    out = b"\x08" + _varint(accepted)
    if reasons:
        out += b"\x10" + _varint(reasons.total())
    for reason, count in reasons.items():
        entry = b"\x0a" + _varint(len(reason)) + reason.encode() + b"\x10" + _varint(count)
        out += b"\x1a" + _varint(len(entry)) + entry
    return out


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_CODES: Final = {
    401: "unauthenticated", 403: "permission_denied", 404: "not_found", 405: "unimplemented",
    408: "deadline_exceeded", 415: "unimplemented", 429: "resource_exhausted", 500: "internal", 501: "unimplemented",
    503: "unavailable",
}  # fmt: skip
"""Connect's codes. What is too large is no resource_exhausted here: SDKs would send it for ever, and nothing else."""


def failure(status: int, ack: Ack, asked: Asked) -> Reply:
    """Connect's error. Events that are each refused are no error: they are counted, as if others had been taken."""
    assert ack.failed is not None
    if ack.refused and asked.call == BATCH:
        return success(ack, asked)
    code = _CODES.get(status, "invalid_argument" if status < 500 else "internal")
    return Reply(status, _encode({"code": code, "message": ack.failed.message}))


def is_mine(body: bytes, asked: Asked) -> bool:
    return True
