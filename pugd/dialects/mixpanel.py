"""Mixpanel's ingestion API, as its libraries speak it: /track, /import, /engage and /groups.

A body is one object or a list of them, mostly in a form's `data`, as JSON or base64; its key is the token in each
object, and on /import what the head names. Nothing says when it was sent, so times are taken as they stand, seconds or
milliseconds. Without `$insert_id` an event with a time is named by a hash of all it says, so that what is sent twice
counts once.

    $identify                  identify: $identified_id, $anon_id; in browsers distinct_id, $anon_distinct_id
    $create_alias              alias: distinct_id is the older id, alias the newer
    $merge                     alias of the two $distinct_ids
    $mp_web_page_view          page; every other event is a track, all under their own names
    /engage                    a change of traits and no event: $set, $set_once, $add, $unset
    /groups                    group: $group_key is its type; its timeline is that of the id `$group:KEY:ID`

Who: `$user_id` is a user id and `$device_id` an anonymous one, and an event with both links them. `distinct_id` alone
says who, and not whether that is known, so it is an anonymous id, with or without `$device:` before it; it is a user id
where it differs from the event's `$device_id`, and on /engage, since Mixpanel keeps traits of users. So an alias joins
an id that was only ever seen on events, whichever call comes first.

`$append`, `$union`, `$remove` and `$delete` depend on what stood there before, which traits here never do: they are
refused by name. Answers are a bare 1 or 0, an object where `verbose` asks for it, and on /import what its newer clients
read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import salvage, traits
from pugd.dialects.context import written
from pugd.dialects.dialect import NOTHING as NO_FORM
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import NOTHING, Decoded, Id, Message, id_text, no_object, of_event
from pugd.dialects.plain import OTHER, PAGE, SINGLE, WALKED, Flag, Form, Level, Role, Way, named
from pugd.model import Ack, Refusal

TRACK: Final = "track"
IMPORT: Final = "import"
ENGAGE: Final = "engage"
GROUPS: Final = "groups"

DEVICE: Final = "$device:"
"""Before an anonymous distinct_id that is a `$device_id`; taken off, so that both are one id."""
GROUP: Final = "$group:"

_CALLS: Final = {
    "$identify": "identify", "$create_alias": "alias", "$merge": "alias",
    "$mp_web_page_view": "page", "mp_page_view": "page",
}  # fmt: skip
_NOT_TRAITS: Final = frozenset(("$append", "$union", "$remove", "$delete"))
_ABOUT: Final = frozenset((
    "$token", "$distinct_id", "$device_id", "$user_id", "$group_key", "$group_id", "$time", "$ip", "$insert_id",
    "$ignore_time", "$ignore_alias", "$latitude", "$longitude", "$had_persisted_distinct_id",
))  # fmt: skip
"""What stands beside the operations of /engage and /groups."""
_ADDRESSES: Final = ("ip", "$ip")
_KNOWN: Final = _ABOUT | _NOT_TRAITS | traits.OPERATIONS.keys()
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    TRACK: {
        "messageId": "properties.$insert_id", "userId": "properties.distinct_id",
        "anonymousId": "properties.distinct_id", "previousId": "properties.distinct_id", "name": "event",
    },
    ENGAGE: {"messageId": "$insert_id", "userId": "$distinct_id", "anonymousId": "$distinct_id"},
    GROUPS: {"messageId": "$insert_id", "anonymousId": "$group_id", "groupId": "$group_id"},
}  # fmt: skip
"""What Mixpanel calls our fields, by call."""


class Event(Struct, gc=False):
    """One event of /track or /import."""

    event: str | None = None
    properties: Raw = NOTHING


class _Properties(Struct, gc=False, rename=lambda name: "$" + name):
    """What is read of an event's properties. Of any type, since an odd title is no reason to lose an event."""

    token: Any = msgspec.field(default=None, name="token")
    distinct_id: Any = msgspec.field(default=None, name="distinct_id")
    time: Any = msgspec.field(default=None, name="time")
    alias: Any = msgspec.field(default=None, name="alias")
    mp_lib: Any = msgspec.field(default=None, name="mp_lib")
    address: Any = msgspec.field(default=None, name="ip")
    insert_id: Any = None
    device_id: Any = None
    user_id: Any = None
    ip: Any = None
    had_persisted_distinct_id: Any = None
    identified_id: Any = None
    anon_id: Any = None
    anon_distinct_id: Any = None
    distinct_ids: Any = None


class _Where(Struct, gc=False, omit_defaults=True, rename=lambda name: "$" + name):
    """What properties say of where it happened; of any type too."""

    mp_lib: Any = msgspec.field(default=None, name="mp_lib")
    title: Any = msgspec.field(default=None, name="current_page_title")
    path: Any = msgspec.field(default=None, name="current_url_path")
    utm_source: Any = msgspec.field(default=None, name="utm_source")
    utm_medium: Any = msgspec.field(default=None, name="utm_medium")
    utm_campaign: Any = msgspec.field(default=None, name="utm_campaign")
    utm_term: Any = msgspec.field(default=None, name="utm_term")
    utm_content: Any = msgspec.field(default=None, name="utm_content")
    current_url: Any = None
    referrer: Any = None
    lib_version: Any = None
    os: Any = None
    os_version: Any = None
    device_id: Any = None
    model: Any = None
    device: Any = None
    manufacturer: Any = None
    screen_width: Any = None
    screen_height: Any = None
    app_version_string: Any = None
    app_version: Any = None
    app_build_number: Any = None
    user_agent: Any = None
    locale: Any = None
    timezone: Any = None


T = TypeVar("T")
Members = dict[str, Raw]

_event = msgspec.json.Decoder(Event)
_events = msgspec.json.Decoder(list[Event])
_members = msgspec.json.Decoder(Members)
_list = msgspec.json.Decoder(list[Members])
_properties = msgspec.json.Decoder(_Properties)
_where = msgspec.json.Decoder(_Where)
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_BETWEEN: Final = re.compile(rb"\}[ \t\r]*\n\s*\{")
_NUMBER: Final = re.compile(r"\d{1,16}(\.\d{1,9})?")


def decode(body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
    """Read a request's body: JSON out of its form; on /import also a line for each event.

    cost  about 8 µs an event, twice that where it has no `$insert_id`
    """
    call = asked.call
    if call in (ENGAGE, GROUPS):
        found = _read(body, _members, _list)
        if isinstance(found, Refusal):
            return found
        return _understood(found[0], found[1], asked, _add_traits if call == ENGAGE else _add_group)
    if call == IMPORT and body.lstrip()[:1] == b"{" and _BETWEEN.search(body) is not None:
        body = b"[%s]" % _BETWEEN.sub(b"},{", body)
    read = _read(body, _event, _events)
    return read if isinstance(read, Refusal) else _understood(read[0], read[1], asked, _add_event)


def _read(
    body: bytes, one: msgspec.json.Decoder[T], several: msgspec.json.Decoder[list[T]]
) -> tuple[salvage.Alone[T], bool] | Refusal:
    """A body's objects, and whether it is a single one rather than a list."""
    body, whole = salvage.checked(body)
    single = body.lstrip()[:1] != b"["
    if whole is None:
        try:
            objects = [one.decode(body)] if single else several.decode(body)
            return salvage.Alone({}, objects, list(range(len(objects))), []), single
        except msgspec.ValidationError as error:
            if single:
                return salvage.wrong_type(error)
        except msgspec.DecodeError as error:
            return salvage.unreadable(error)
    elif single:
        return whole
    alone = salvage.alone(body, "", one, whole)
    return alone if isinstance(alone, Refusal) else (alone, False)


def _understood(
    read: salvage.Alone[T], single: bool, asked: Asked, add: Callable[[T, Decoded, Asked], Refusal | None]
) -> Decoded:
    """Objects as messages."""
    decoded = Decoded(
        [], asked.form.get("api_key") if asked.call == IMPORT else None, indexes=[], refused=read.refused, changes={},
        place="", single=single, words=_WORDS.get(asked.call, _WORDS[TRACK]),
    )  # fmt: skip
    assert decoded.indexes is not None
    for index, one in zip(read.indexes, read.events, strict=True):
        wrong = add(one, decoded, asked)
        if wrong is None:
            decoded.indexes.append(index)
        else:
            decoded.refused.append(of_event(wrong, decoded, index, wrong.event_id))
    return decoded


def _keyed(token: object, decoded: Decoded, asked: Asked, field: str) -> Refusal | None:
    """Take an object's token for the body's key; one body has one. On /import a head's key may outweigh it."""
    if not isinstance(token, str) or not token:
        return None
    if decoded.write_key is None:
        decoded.write_key = token
    elif decoded.write_key != token and asked.call != IMPORT:
        return Refusal(
            errors.INVALID_KEY,
            f"{field} is not that of the events before it: send each project's by themselves.",
            field,
        )
    return None


def _add_event(event: Event, decoded: Decoded, asked: Asked) -> Refusal | None:
    """Add what an event of /track or /import says to `decoded`."""
    text = bytes(event.properties)
    if not text.startswith(b"{"):
        empty = no_object(text, "properties")
        if isinstance(empty, Refusal):
            return empty
        text = empty
    said = _properties.decode(text)
    event_id = _text(said.insert_id)
    wrong = _keyed(said.token, decoded, asked, "properties.token")
    if wrong is not None:
        return _of(wrong, event_id)
    name = event.event
    call = _CALLS.get(name or "", "track")
    message = Message(call)
    message.timestamp = _time(said.time)
    message.messageId = event_id or (_hash(name or "", text) if message.timestamp is not None else None)
    message.context = _context(text)
    message.channel = "web" if said.mp_lib == "web" else None
    if call == "identify":
        wrong = _identify(message, said)
    elif name == "$create_alias":
        wrong = _alias(message, said.distinct_id, said.alias, "properties.distinct_id", "properties.alias")
    elif name == "$merge":
        pair = said.distinct_ids if isinstance(said.distinct_ids, list) else []
        if len(pair) == 2:
            wrong = _alias(message, pair[0], pair[1], "properties.$distinct_ids", "properties.$distinct_ids")
        else:
            wrong = Refusal(
                errors.INVALID_FIELD, "properties.$distinct_ids must be a list of two ids.", "properties.$distinct_ids"
            )
    else:
        message.event = message.name = name
        message.properties = _without_token(text, said.token)
        had = said.had_persisted_distinct_id is True
        message.userId, message.anonymousId = _who(said.distinct_id, said.user_id, said.device_id, had)
        wrong = _nobody("properties.distinct_id", message)
    if wrong is not None:
        return _of(wrong, event_id)
    address = _text(said.address).strip() or _text(said.ip).strip() or _remote(asked)
    if address is not None:
        decoded.addresses[len(decoded.messages)] = address
    decoded.messages.append(message)
    return None


def _remote(asked: Asked) -> str | None:
    """What a request says of its connection: `$remote` that it is the visitor's own, '' that it is not, None nothing.

    Libraries of browsers and phones say `ip=1`, those of servers `ip=0`. Whoever imports sends what others did.
    """
    said = _field(asked, "ip")
    if said == "0" or (asked.call == IMPORT and said != "1"):
        return ""
    return "$remote" if said == "1" else None


def _identify(message: Message, said: _Properties) -> Refusal | None:
    user = _id(said.identified_id) or _id(said.user_id)
    if not user and not _text(said.distinct_id).startswith(DEVICE):
        user = _id(said.distinct_id)
    if not user:
        field = "properties.$identified_id"
        return Refusal(errors.MISSING_FIELD, f"{field} is missing: say who it is.", field)
    anonymous = _id(said.anon_id) or _id(said.anon_distinct_id) or _id(said.device_id)
    message.userId = user
    message.anonymousId = None if anonymous in ("", user) else anonymous
    return None


def _alias(message: Message, older: object, newer: object, older_field: str, newer_field: str) -> Refusal | None:
    """Two ids of one person; neither is proven to be a user's."""
    for value, field in ((older, older_field), (newer, newer_field)):
        if not _id(value):
            return Refusal(errors.MISSING_FIELD, f"{field} is missing: name two ids.", field)
    message.previousId, message.anonymousId = _id(older), _id(newer)
    return None


def _add_traits(one: Members, decoded: Decoded, asked: Asked) -> Refusal | None:
    """Add what an object of /engage says to `decoded`."""
    value = _values(one)
    event_id = _text(value.get("$insert_id"))
    wrong = _keyed(value.get("$token"), decoded, asked, "$token") or _unknown(one)
    if wrong is not None:
        return _of(wrong, event_id)
    message = _beside(one, value, "traits", event_id)
    had = value.get("$had_persisted_distinct_id") is True
    user, anonymous = _who(
        value.get("$distinct_id"), value.get("$user_id"), value.get("$device_id"), had, of_users=True
    )
    # Traits are of one id; what links two is an event's to say.
    message.userId, message.anonymousId = user, None if user else anonymous
    found = {name: given for name, given in one.items() if name in traits.OPERATIONS}
    changes = traits.of_operations(found, path="")
    if isinstance(changes, Refusal):
        return _of(changes, event_id)
    refused = [name for name in one if name in _NOT_TRAITS]
    if refused:
        return Refusal(
            errors.INVALID_FIELD,
            f"{refused[0]} is not taken: traits change by $set, $set_once, $add and $unset alone, which mean the same "
            "in whatever order they come.",
            refused[0], event_id=event_id,
        )  # fmt: skip
    if not found:
        return Refusal(
            errors.MISSING_FIELD, "$set is missing, or $set_once, $add or $unset: say what changes.", "$set",
            event_id=event_id,
        )  # fmt: skip
    wrong = _nobody("$distinct_id", message)
    if wrong is not None:
        return _of(wrong, event_id)
    assert decoded.changes is not None
    decoded.changes[len(decoded.messages)] = changes
    decoded.messages.append(message)
    return None


def _add_group(one: Members, decoded: Decoded, asked: Asked) -> Refusal | None:
    """Add what an object of /groups says to `decoded`: `$set` as the group's traits, other operations by their name."""
    value = _values(one)
    event_id = _text(value.get("$insert_id"))
    wrong = _keyed(value.get("$token"), decoded, asked, "$token") or _unknown(one)
    if wrong is not None:
        return _of(wrong, event_id)
    key, group = _id(value.get("$group_key")), _id(value.get("$group_id"))
    for name, given in (("$group_key", key), ("$group_id", group)):
        if not given:
            return Refusal(errors.MISSING_FIELD, f"{name} is missing: name the group.", name, event_id=event_id)
    kept: Members = {}
    for name, raw in one.items():
        if name in _ABOUT or not name.startswith("$") or bytes(raw) == b"null":
            continue
        if not name.startswith(("$unset", "$delete")) and not bytes(raw).startswith(b"{"):
            return Refusal(errors.INVALID_FIELD, f"{name} must be an object.", name, event_id=event_id)
        if name == "$set":
            kept |= _members.decode(raw)
        else:
            kept[name] = traits.without_address(raw)
    if not kept and "$set" not in one:
        return Refusal(errors.MISSING_FIELD, "$set is missing: say what changes.", "$set", event_id=event_id)
    message = _beside(one, value, "group", event_id)
    message.anonymousId = f"{GROUP}{key}:{group}"
    message.groupId, message.category, message.traits = group, key, Raw(_encode(kept))
    decoded.messages.append(message)
    return None


def _values(one: Members) -> dict[str, object]:
    """What stands beside the operations, read."""
    return {name: _any.decode(raw) for name, raw in one.items() if name in _ABOUT}


def _beside(one: Members, value: dict[str, object], call: str, event_id: str) -> Message:
    """A message with its time and its event id."""
    message = Message(call)
    message.timestamp = _time(value.get("$time"))
    if event_id:
        message.messageId = event_id
    elif message.timestamp is not None:
        message.messageId = _hash(call, _encode(one))
    return message


def _unknown(one: Members) -> Refusal | None:
    """An operation that nobody here knows is none to pass over: its sender would take it for done."""
    for name, raw in one.items():
        if name.startswith("$") and name not in _KNOWN and bytes(raw)[:1] in (b"{", b"["):
            return Refusal(errors.INVALID_FIELD, f"{name[:64]!r} is no operation that is known.", name[:64])
    return None


def _who(distinct: object, user: object, device: object, had: bool, *, of_users: bool = False) -> tuple[Id, Id]:
    """(user id, anonymous id), at most; '' and None are none.

    `had`       the browser had its distinct_id before there were `$device_id`s: that they differ says nothing
    `of_users`  a distinct_id alone is a user's
    """
    device = _id(device)
    known = _id(user)
    if known:
        return known, device
    bare = _id(distinct)
    if not bare:
        return None, device
    if isinstance(distinct, str) and distinct.startswith(DEVICE):
        return None, bare
    if not had and (bare != device if device else of_users):
        return bare, None
    return None, bare


def _nobody(field: str, message: Message) -> Refusal | None:
    if message.userId or message.anonymousId:
        return None
    return Refusal(errors.MISSING_FIELD, f"{field} is missing: say who it was.", field)


def _of(refusal: Refusal, event_id: str) -> Refusal:
    """The same, of the event with this id."""
    return msgspec.structs.replace(refusal, event_id=event_id or None)


def _id(value: object) -> str:
    """An id as text, without `$device:`; '' for what is none. One that is too long is the reader's to refuse."""
    if isinstance(value, str):
        return value.removeprefix(DEVICE)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return id_text(value) or str(value)
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> str | int | float | None:
    """A time as `message.read` takes it; a number may come as text."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else value or None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _hash(name: str, text: bytes) -> str:
    """An event id of all that an event says, however its JSON is written. Not of addresses: all else is kept, so that
    these could be tried until the hash fits. `text`: an object, storable."""
    members = json.loads(text, parse_int=Raw, parse_float=Raw)
    for name_of_address in _ADDRESSES:
        members.pop(name_of_address, None)
    return "mp-" + hashlib.blake2b(_encode_sorted([name, members]), digest_size=16).hexdigest()


def _without_token(text: bytes, token: object) -> Raw:
    """An event's properties without the key that it was sent with. `token`: what they name so."""
    if b'"token"' not in text:
        return Raw(text)
    if isinstance(token, str) and text.count(b'"token"') == 1:
        # Behind a comma or a brace a quote opens a key: no text within a string reads like this.
        pair = b'"token":"%s",' % token.encode()
        at = text.find(pair)
        if at > 0 and text[at - 1] in b"{,":
            return Raw(text[:at] + text[at + len(pair) :])
        last = b',"token":"%s"}' % token.encode()
        if text.endswith(last):
            return Raw(text[: -len(last)] + b"}")
    members = _members.decode(text)
    members.pop("token", None)
    return Raw(_encode(members))


CONTEXTS_MAX: Final = 4096
CONTEXT_BYTES_MAX: Final = 2048
_contexts: dict[bytes, Raw] = {}
"""What was said of where it happened → the context; a program says the same with each event. 20 MB at most."""


def _context(text: bytes) -> Raw:
    """What an event's properties say of where it happened, in Segment's words."""
    said = _where.decode(text)
    key = _encode(said)
    found = _contexts.get(key)
    if found is None:
        found = _made(said)
        if len(key) <= CONTEXT_BYTES_MAX:
            if len(_contexts) >= CONTEXTS_MAX:
                _contexts.clear()
            _contexts[key] = found
    return found


def _made(said: _Where) -> Raw:
    referrer = None if said.referrer == "$direct" else said.referrer
    library: dict[str, object] = {}
    if isinstance(said.mp_lib, str):
        name = "mixpanel-js" if said.mp_lib == "web" else f"mixpanel-{said.mp_lib}"
        library = {"name": name, "version": said.lib_version}
    groups = {
        "page": {"url": said.current_url, "path": said.path, "title": said.title, "referrer": referrer},
        "library": library,
        "app": {"version": said.app_version_string or said.app_version, "build": said.app_build_number},
        "os": {"name": said.os, "version": said.os_version},
        "device": {"id": said.device_id, "model": said.model or said.device, "manufacturer": said.manufacturer},
        "screen": {"width": said.screen_width, "height": said.screen_height},
        "campaign": {
            "source": said.utm_source, "medium": said.utm_medium, "name": said.utm_campaign, "term": said.utm_term,
            "content": said.utm_content,
        },
    }  # fmt: skip
    single = {"userAgent": said.user_agent, "locale": said.locale, "timezone": said.timezone}
    return written(groups, single)


_EVENT: Final = named(Event, {Role.EVENT: ["event"], Role.PROPERTIES: ["properties"]})
_SAYS: Final = [field.encode_name for field in msgspec.structs.fields(_Where)]
_PLAIN: Final = Form(
    kind=2,
    flags=(
        Flag.BY_NAME | Flag.BARE_LIST | Flag.WALKED | Flag.TOGETHER | Flag.NUMBERS | Flag.DEVICE_ID | Flag.CUT
    ),
    members={
        Level.AROUND: _EVENT,
        Level.EVENT: _EVENT,
        Level.PROPERTIES: named(_Where, {Role.SAYS: _SAYS}) | named(_Properties, {
            Role.TOKEN: ["token"], Role.DISTINCT: ["distinct_id"], Role.TIME: ["time"], Role.ID: ["$insert_id"],
            Role.ANONYMOUS | Role.SAYS: ["$device_id"], Role.USER: ["$user_id"], Role.SAYS: ["mp_lib"],
            Role.HAD: ["$had_persisted_distinct_id"],
            # Of calls that are not plain.
            Role.NONE: ["alias", "$identified_id", "$anon_id", "$anon_distinct_id", "$distinct_ids", "ip", "$ip"],
        }) | WALKED,
        Level.NAMES: {name: PAGE if call == "page" else OTHER for name, call in _CALLS.items()},
    },
    about=lambda text, channel, more: (_context(text), "web" if _where.decode(text).mp_lib == "web" else None),
    told=lambda shape, count, length, received_at: Decoded(
        [], place="", single=shape == SINGLE, words=_WORDS[TRACK], received_at=received_at
    ),
)  # fmt: skip
FORMS: Final = (_PLAIN,)
_WAY: Final = Way(_PLAIN)


def plain(asked: Asked) -> Way | None:
    """As what a body may be plain; None: it is not."""
    if asked.call in (ENGAGE, GROUPS) or (asked.call == IMPORT and asked.form.get("api_key") is not None):
        return None
    return _WAY


def address_of_all(body: bytes, asked: Asked) -> str | None:
    """What a plain body, in whose properties no address is, says of all its events' addresses."""
    return _remote(asked)


ONE: Final = Reply(200, b"1", "text/plain; charset=utf-8")
VERBOSE: Final = Reply(200, b'{"status":1,"error":null}')
_FORM: Final = "application/x-www-form-urlencoded"


def constant(asked: Asked) -> Reply | None:
    """None: `verbose` may stand in the body's form."""
    return None


def success(ack: Ack, asked: Asked) -> Reply:
    """What libraries read is the 1, or `status`; what was refused is told besides, where there is room."""
    if _by_code(asked):
        strict = bool(ack.refused) and _field(asked, "strict") == "1"
        told: dict[str, object] = {"code": 400 if strict else 200, "num_records_imported": ack.accepted}
        told["status"] = "Bad Request" if strict else "OK"
        if ack.refused:
            told["failed_records"] = [_failed_record(refusal) for refusal in ack.refused]
        return Reply(400 if strict else 200, _encode(told))
    if _field(asked, "verbose") != "1":
        return ONE
    if not ack.refused:
        return VERBOSE
    refused = [
        {"index": refusal.index, "insert_id": refusal.event_id, "code": refusal.code, "message": refusal.message,
         "field": refusal.field}
        for refusal in ack.refused
    ]  # fmt: skip
    return Reply(200, _encode({"status": 1, "error": None, "accepted": ack.accepted, "refused": refused}))


def failure(status: int, ack: Ack, asked: Asked) -> Reply:
    """The status as it is; the body as its client reads it. mixpanel-python takes a bare 0 for a crash of its own."""
    assert ack.failed is not None
    words = ack.failed.message
    if _by_code(asked):
        told: dict[str, object] = {"code": status, "error": words, "status": HTTPStatus(status).phrase}
        if any(refusal.index is not None for refusal in ack.refused):
            told |= {"num_records_imported": 0, "failed_records": [_failed_record(one) for one in ack.refused]}
        return Reply(status, _encode(told))
    verbose = _field(asked, "verbose")
    # A form that was not opened, since the fault was found before, is mostly that of mixpanel-python.
    unopened = verbose is None and asked.form is NO_FORM and asked.content_type.startswith(_FORM)
    if verbose != "1" and not unopened:
        return Reply(status, b"0", "text/plain; charset=utf-8")
    return Reply(status, _encode({"status": 0, "error": words, "code": ack.failed.code, "field": ack.failed.field}))


def _failed_record(refusal: Refusal) -> dict[str, object]:
    return {
        "index": refusal.index or 0, "insert_id": refusal.event_id or "", "field": refusal.field,
        "message": refusal.message, "code": refusal.code,
    }  # fmt: skip


def _by_code(asked: Asked) -> bool:
    """Does who imports read a `code`? Who sends forms, or says `verbose`, is of the older kind."""
    if asked.call != IMPORT:
        return False
    if _field(asked, "strict") == "1":
        return True
    as_form = asked.form is not NO_FORM or asked.content_type.startswith(_FORM)
    return not as_form and _field(asked, "verbose") is None


def _field(asked: Asked, name: str) -> str | None:
    """A field of the form, else of the query."""
    value = asked.form.get(name)
    if value is None:
        before = f"{name}=".encode()
        for pair in asked.query.split(b"&"):
            if pair.startswith(before):
                return pair[len(before) :].decode("latin-1")
    return value


def is_mine(body: bytes, asked: Asked) -> bool:
    return True
