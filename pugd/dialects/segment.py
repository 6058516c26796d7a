"""Segment's HTTP API, RudderStack's too: track, identify, alias, page, screen, group, and batch.

Two steps, so that the write key, which may lie in the body, can be looked up between them:
`decode` makes messages of bytes; `read` understands them and adds them to the wake-up's Batch.
Both are pure, and neither raises: a body that is no JSON is one Refusal, an event that is wrong is its own Refusal and
takes none of its batch with it.

Mapping: messageId → event id (minted where absent); event, or category and name → the event's name; timestamp, else
originalTimestamp, else receipt → time; sentAt of the envelope, else of the message → skew; traits, else context.traits
→ traits of an identify; on other calls context.traits is context. `$set` and the like in the properties of an event
change traits too (traits.py). Ids that are numbers become their decimal text; an
empty id counts as absent. IP addresses (`context.ip`, `ip` and `$ip` in properties and traits) are dropped here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects import context, storable, traits
from pugd.model import PARTS, Ack, Batch, Call, Refusal, event_head

BATCH = "batch"
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


class _Envelope(Struct, gc=False):
    batch: list[Message]
    sentAt: str | int | float | None = None  # noqa: N815
    writeKey: str | None = None  # noqa: N815
    context: Raw = NOTHING


class Decoded(Struct, gc=False):
    """A body's messages, before their key is known."""

    messages: list[Message]
    write_key: str | None
    sent_at: str | int | float | None
    context: Raw
    """The envelope's, for messages that have none."""
    indexes: list[int] | None
    """Where each message stood in its batch; None where none was refused."""
    refused: list[Refusal]
    single: bool


_envelope = msgspec.json.Decoder(_Envelope)
_message = msgspec.json.Decoder(Message)
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def decode(body: bytes, call: str) -> Decoded | Refusal:
    """Read a request's body.

    `body`   JSON, inflated
    `call`   'batch', or the call that the path names: the body is then one message of that type; '' where the message
             names its own
    returns  the messages that could be read, with a Refusal for each that could not; or one Refusal for the whole body
    cost     scan and decode, about 0.9 µs for an event of 470 bytes
    """
    found = storable.scan(body)
    if found.duplicate_keys:
        body = storable.mend(body)
    whole = Refusal(found.code, found.message) if found.code else None
    if whole is None:
        try:
            if call == BATCH:
                envelope = _envelope.decode(body)
                return Decoded(
                    envelope.batch, envelope.writeKey, envelope.sentAt, envelope.context, None, [], single=False
                )
            message = _message.decode(body)
            message.type = call or message.type
            return Decoded([message], message.writeKey, message.sentAt, NOTHING, None, [], single=True)
        except msgspec.ValidationError as error:
            if call != BATCH:
                return _wrong_type(error, "")
        except msgspec.DecodeError as error:
            return Refusal(errors.INVALID_JSON, f"The body is no JSON that can be read: {error}. Send a JSON object.")
    elif call != BATCH:
        return whole
    return _decode_one_by_one(body, whole)


def _decode_one_by_one(body: bytes, whole: Refusal | None) -> Decoded | Refusal:
    """A batch in which something is wrong: each event stands alone, and only the wrong ones are refused.

    The slow path. The standard library's reader lets through what JSON's grammar allows and we cannot store (half a
    surrogate pair, an infinite number, also bytes that are no UTF-8), so that it can be told which event holds it.
    """
    try:
        envelope = json.loads(
            body.decode("utf-8", "surrogateescape"), parse_int=Raw, parse_float=Raw, parse_constant=Raw
        )
    except (ValueError, RecursionError) as error:
        return whole or Refusal(errors.INVALID_JSON, f"The body is no JSON that can be read: {error}.")
    events = envelope.get("batch") if isinstance(envelope, dict) else None
    if not isinstance(events, list):
        return whole or Refusal(errors.INVALID_FIELD, "batch must be an array of events.", "batch")
    messages: list[Message] = []
    indexes: list[int] = []
    refused: list[Refusal] = []
    for index, event in enumerate(events):
        message = _alone(event, f"batch[{index}]")
        if isinstance(message, Refusal):
            refused.append(Refusal(message.code, message.message, message.field, index))
        else:
            messages.append(message)
            indexes.append(index)
    around = _alone({key: value for key, value in envelope.items() if key in ("sentAt", "writeKey", "context")}, "")
    if isinstance(around, Refusal):
        return whole or around
    return Decoded(messages, around.writeKey, around.sentAt, around.context, indexes, refused, single=False)


def _alone(event: object, field: str) -> Message | Refusal:
    """One event of a batch, read by itself."""
    try:
        text = _encode(event)
        found = storable.scan(text)
        return Refusal(found.code, found.message, field) if found.code else _message.decode(text)
    except UnicodeEncodeError:
        wrong = "holds half a surrogate pair, or bytes that are no UTF-8: leave such characters out."
        return Refusal(errors.INVALID_JSON, f"{field or 'The body'} {wrong}", field or None)
    except RecursionError:
        return Refusal(errors.TOO_DEEP, f"{field or 'The body'} is nested too deeply: send a flatter object.", field)
    except msgspec.ValidationError as error:
        return _wrong_type(error, field)


_EXPECTED = re.compile("Expected `(.+)`, got `(.+)`")
_JSON_WORDS = {
    "str": "a string", "int": "a number", "float": "a number", "bool": "true or false", "null": "null",
    "array": "an array", "object": "an object",
}  # fmt: skip


def _wrong_type(error: msgspec.ValidationError, prefix: str) -> Refusal:
    """`Expected X, got Y - at $.path` → a Refusal that names the path, in JSON's own words."""
    said, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    field = (prefix + path).lstrip(".") or None
    found = _EXPECTED.fullmatch(said)
    if found is None:
        wrong = f"{field}: {said}." if field else f"{said}."
    else:
        wanted = [_JSON_WORDS.get(word, word) for word in found[1].split(" | ") if word != "null"]
        got = _JSON_WORDS.get(found[2], found[2])
        wrong = f"{field or 'The body'} is {got}: send {' or '.join(dict.fromkeys(wanted))}."
    return Refusal(errors.INVALID_FIELD, wrong, field)


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
) -> list[Refusal]:
    """Understand the messages and add them to `batch`.

    `received_at`  ms
    `transport`    'http' | 'udp' | 'import'
    `clock`        corrects what the sender said of time (enrich/clock.py)
    `mint`         makes an event id for a message that has none
    returns        a Refusal for each message that was not added, those of `decoded` included
    cost           about 1.5 µs an event
    """
    refused = decoded.refused
    parts, ids, event_keys = batch.parts, batch.ids, batch.event_keys
    head = event_head(project)
    skew_ms = batch_skew_ms = clock.skew(decoded.sent_at, received_at) if decoded.sent_at is not None else 0
    correct = clock.correct
    about: context.Context | None = None
    last_raw, last_channel = NOTHING, None  # what `about` is of: mostly that of the next message too
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
        if user is None or anonymous is None or not (user or anonymous) or len(event_id) > NAME_LENGTH_MAX:
            refused.append(_placed(_why(message), number, decoded))
            continue
        said = message.timestamp
        if said is None:
            said = message.originalTimestamp
        if said is None:
            occurred = original = received_at
            note = ""
        else:
            if message.sentAt is not None and decoded.sent_at is None:
                skew_ms = clock.skew(message.sentAt, received_at)
            else:
                skew_ms = batch_skew_ms
            occurred, original, note = correct(said, skew_ms, received_at)
        if about is None or message.context != last_raw or message.channel != last_channel:
            understood = context.understand(message.context or decoded.context, message.channel)
            if isinstance(understood, Refusal):
                refused.append(_placed(understood, number, decoded))
                continue
            about, last_raw, last_channel = understood, message.context, message.channel
        call = message.type
        changes: list[traits.Change] | None = None
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
            wrong = _link_or_traits(
                message, batch, user, anonymous, event_id, project, secret,
                (occurred, received_at, original, note), transport, about,
            )  # fmt: skip
            if wrong is not None:
                refused.append(_placed(wrong, number, decoded))
            continue
        if not name or len(name) > NAME_LENGTH_MAX:
            refused.append(_placed(_bad_name(name, call), number, decoded))
            continue
        if type(properties) is bytes:
            if not properties.startswith(b"{"):
                properties = _no_object(properties, "properties")
            elif len(properties) > EVENT_BYTES_MAX:
                properties = _too_large(properties, "properties")
            elif b'ip"' in properties:
                properties = without_ip(properties)
            if type(properties) is bytes and traits.may_change(properties):
                said_of_traits = traits.of_properties(properties)
                if isinstance(said_of_traits, Refusal):
                    properties = said_of_traits
                else:
                    changes, properties = said_of_traits
        if type(properties) is Refusal:
            refused.append(_placed(properties, number, decoded))
            continue
        if changes:
            # A call beside its event, and public whatever key sent it: what an event says of ids, a key does not back.
            batch.calls[batch.length] = Call(
                "event", project, False, event_id, user, anonymous, occurred, received_at, original, note, transport,
                about.platform, changes,
            )  # fmt: skip
        event_keys += (project, event_id, original, name)
        ids += (project, user, anonymous)
        parts += (
            head, 0, occurred, received_at, original, note, call, name, event_id, user, anonymous,
            about.middle[transport], properties, about.tail,
        )  # fmt: skip
        batch.length += 1
    if decoded.indexes is not None:
        refused.sort(key=lambda refusal: refusal.index or 0)
    return refused


def id_text(value: Id) -> str | None:
    """An id as text: '' where there is none, None where it is none that we take (over 512 bytes of UTF-8)."""
    if value is None:
        return ""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    text = value if isinstance(value, str) else str(value)
    return text if len(text.encode()) <= ID_BYTES_MAX else None


def _why(message: Message) -> Refusal:
    """What is wrong with a message that `read` passed over, dearest check last."""
    if message.type not in CALLS:
        return _bad_call(message.type)
    for field, value in (("userId", message.userId), ("anonymousId", message.anonymousId)):
        if id_text(value) is None:
            return Refusal(errors.INVALID_ID, f"{field} is longer than {ID_BYTES_MAX} bytes: shorten it.", field)
    if message.messageId is not None and len(message.messageId) > NAME_LENGTH_MAX:
        return Refusal(
            errors.INVALID_FIELD, f"messageId is longer than {NAME_LENGTH_MAX} characters: shorten it.", "messageId"
        )
    return Refusal(errors.MISSING_FIELD, "userId or anonymousId is missing: send at least one of them.", "userId")


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
    """The same refusal with its place in the batch."""
    if decoded.single:
        return refusal
    index = decoded.indexes[number] if decoded.indexes is not None else number
    field = f"batch[{index}]" + (f".{refusal.field}" if refusal.field else "")
    return Refusal(refusal.code, refusal.message, field, index)


def _no_object(raw: bytes, field: str) -> bytes | Refusal:
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


def _group(message: Message) -> bytes | Refusal:
    """A group call's properties: which group, and its traits, which are the group's and never the person's."""
    group = id_text(message.groupId)
    if not group:
        return Refusal(errors.MISSING_FIELD, "groupId is missing: name the group.", "groupId")
    traits = bytes(message.traits)
    if not traits.startswith(b"{"):
        plain = _no_object(traits, "traits")
        if isinstance(plain, Refusal):
            return plain
        traits = plain
    return _encode({"group_id": group, "traits": Raw(without_ip(traits))})


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
) -> Refusal | None:
    """Add an identify or an alias to `batch`; anything else is no call."""
    call = message.type
    if call not in ("identify", "alias"):
        return _bad_call(call)
    assert call is not None
    is_user = bool(user)
    changes: list[traits.Change] = []
    if call == "alias":
        previous = id_text(message.previousId)
        if previous is None:
            return Refusal(errors.INVALID_ID, f"previousId is longer than {ID_BYTES_MAX} bytes.", "previousId")
        if not previous:
            return Refusal(errors.MISSING_FIELD, "previousId is missing: name the id to alias.", "previousId")
        user = user or anonymous
        anonymous = previous
    else:
        raw = bytes(message.traits) or about.traits
        if not raw.startswith(b"{"):
            plain = _no_object(raw, "traits")
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


def without_reused(ack: Ack, reused: list[int], single: bool) -> Ack:
    """An ack that refuses some of the events it took, since their ids were used before.

    `reused`  their numbers among those taken, ascending
    `single`  the request is one event and no batch
    """
    gone = {refusal.index for refusal in ack.refused}
    taken = [index for index in range(ack.accepted + len(gone)) if index not in gone]
    refused = list(ack.refused)
    for number in reused:
        field = "messageId" if single else f"batch[{taken[number]}].messageId"
        wrong = f"{field} was used before for another event or by somebody else: give each event an id of its own."
        refused.append(Refusal(errors.EVENT_ID_REUSED, wrong, field, None if single else taken[number]))
    refused.sort(key=lambda refusal: refusal.index or 0)
    accepted = ack.accepted - len(reused)
    return Ack(accepted, refused, None, ack.position) if accepted else Ack(0, refused, refused[0], 0)


def success(ack: Ack) -> bytes:
    """The body of a 200: what client libraries read is `success`; what was refused is told besides."""
    if not ack.refused:
        return b'{"success":true}'
    return _encode({"success": True, "accepted": ack.accepted, "refused": [_told(refusal) for refusal in ack.refused]})


def failure(ack: Ack) -> bytes:
    """The body of an error: always a string `code` and `message`; client libraries read them."""
    assert ack.failed is not None
    told: dict[str, object] = {"code": ack.failed.code, "message": ack.failed.message}
    if ack.failed.field is not None:
        told["field"] = ack.failed.field
    if any(refusal.index is not None for refusal in ack.refused):
        told |= {"accepted": 0, "refused": [_told(refusal) for refusal in ack.refused]}
    return _encode(told)


def _told(refusal: Refusal) -> dict[str, object]:
    return {"index": refusal.index, "code": refusal.code, "message": refusal.message, "field": refusal.field}
