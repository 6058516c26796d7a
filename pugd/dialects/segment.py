"""Segment's HTTP API, RudderStack's too: track, identify, alias, page, screen, group, and batch.

The message is the form of all dialects (message.py). Errors always have a string `code` and `message`: without them
some of these libraries take an answer for a broken network, and send again what can never be taken.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from pugd.dialects import salvage
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import MANY, NOTHING, ONE, Decoded, Message
from pugd.dialects.plain import PAGE, SCREEN, SINGLE, TRACK, Flag, Form, Level, Role, Way
from pugd.model import Ack, Refusal

BATCH: Final = "batch"
SETTINGS: Final = "settings"
SOURCE: Final = "source"


class _Envelope(Struct, gc=False):
    batch: list[Message]
    sentAt: str | int | float | None = None  # noqa: N815 - the wire's own names, here and below
    writeKey: str | None = None  # noqa: N815
    context: Raw = NOTHING


class _Around(Struct, gc=False):
    """An envelope, but for its events."""

    sentAt: str | int | float | None = None  # noqa: N815
    writeKey: str | None = None  # noqa: N815
    context: Raw = NOTHING


_envelope = msgspec.json.Decoder(_Envelope)
_around = msgspec.json.Decoder(_Around)
_message = msgspec.json.Decoder(Message)
_encode = msgspec.json.Encoder().encode


def decode(body: bytes, asked: Asked) -> Decoded | Refusal | Reply:
    """Read a request's body, JSON.

    `asked`  its call is 'batch', or the call that the path names: the body is then one message of that type; '' where
             the message names its own. Or 'settings', 'source': what Segment's and RudderStack's libraries for
             browsers ask first
    cost     scan and decode, about 0.9 µs for an event of 470 bytes
    """
    call = asked.call
    if call == SETTINGS:
        return _settings(asked)
    if call == SOURCE:
        return _SOURCE
    body, whole = salvage.checked(body)
    if whole is None:
        try:
            if call == BATCH:
                envelope = _envelope.decode(body)
                return Decoded(envelope.batch, envelope.writeKey, envelope.sentAt, envelope.context)
            message = _message.decode(body)
            message.type = call or message.type
            return Decoded([message], message.writeKey, message.sentAt, single=True)
        except msgspec.ValidationError as error:
            if call != BATCH:
                return salvage.wrong_type(error)
        except msgspec.DecodeError as error:
            return salvage.unreadable(error)
    elif call != BATCH:
        return whole
    alone = salvage.alone(body, BATCH, _message, whole)
    if isinstance(alone, Refusal):
        return alone
    around = salvage.read_again(alone.around, "", _around)
    if isinstance(around, Refusal):
        return whole or around
    return Decoded(alone.events, around.writeKey, around.sentAt, around.context, alone.indexes, alone.refused)


_CALLS: Final = {"track": TRACK, "page": PAGE, "screen": SCREEN}
_EVENT: Final = {
    "type": Role.TYPE, "messageId": Role.ID, "userId": Role.USER, "anonymousId": Role.ANONYMOUS, "event": Role.EVENT,
    "name": Role.NAME, "properties": Role.PROPERTIES, "context": Role.CONTEXT, "timestamp": Role.TIME,
    "originalTimestamp": Role.TIME_ELSE, "sentAt": Role.SENT, "channel": Role.CHANNEL, "writeKey": Role.TEXT,
    "category": Role.NULL, "traits": Role.ODD, "previousId": Role.ODD, "groupId": Role.ODD,
}  # fmt: skip
_BATCH: Final = Form(
    kind=0,
    flags=Flag.OPERATIONS,
    members={
        Level.AROUND: {
            "batch": Role.LIST, "sentAt": Role.SENT, "writeKey": Role.KEY, "context": Role.ODD,
        },
        Level.EVENT: _EVENT,
        Level.TYPES: _CALLS,
    },
    about=lambda text, channel, more: (Raw(text), channel),
    told=lambda shape, count, length, received_at: ONE if shape == SINGLE else MANY,
)  # fmt: skip
_ONE: Final = msgspec.structs.replace(_BATCH, members={Level.AROUND: _EVENT | {"writeKey": Role.KEY}})
FORMS: Final = (_BATCH, _ONE)
_WAYS: Final = {BATCH: Way(_BATCH), **{name: Way(_ONE, call) for name, call in _CALLS.items()}}


def plain(asked: Asked) -> Way | None:
    """As what a body may be plain; None: it is not."""
    return _WAYS.get(asked.call)


def _settings(asked: Asked) -> Reply:
    """What analytics.js loads before it sends: without an `apiKey` here its events carry no write key at all. Nothing
    in it leads anywhere but here: no plugins, and no metrics, which would go to Segment."""
    scheme, _, host = asked.base.partition("://")
    destination = {
        "apiKey": asked.part,
        "apiHost": f"{host}/v1",
        "protocol": scheme,
        "unbundledIntegrations": [],
        "addBundledMetadata": False,
    }
    on = {"enabled": True}
    plan = {
        "track": {"__default": {**on, "integrations": {}}},
        "identify": {"__default": on},
        "group": {"__default": on},
    }
    settings = {
        "integrations": {"Segment.io": destination},
        "plan": plan,
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
    return Reply(200, _encode(settings))


_SOURCE: Final = Reply(
    200,
    _encode(
        {
            "source": {
                "id": "pugd",
                "name": "pugd",
                "workspaceId": "pugd",
                "enabled": True,
                "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
                "destinations": [],
            }
        }
    ),
)
"""What RudderStack's library loads before it sends: without a source it sends nothing at all."""


SUCCESS: Final = Reply(200, b'{"success":true}')


def constant(asked: Asked) -> Reply | None:
    return SUCCESS


def success(ack: Ack, asked: Asked) -> Reply:
    """What client libraries read is `success`; what was refused is told besides."""
    if not ack.refused:
        return SUCCESS
    told = {"success": True, "accepted": ack.accepted, "refused": [_told(refusal) for refusal in ack.refused]}
    return Reply(200, _encode(told))


def failure(status: int, ack: Ack, asked: Asked) -> Reply:
    """Always a string `code` and `message`; client libraries read them."""
    assert ack.failed is not None
    told: dict[str, object] = {"code": ack.failed.code, "message": ack.failed.message}
    if ack.failed.field is not None:
        told["field"] = ack.failed.field
    if any(refusal.index is not None for refusal in ack.refused):
        told |= {"accepted": 0, "refused": [_told(refusal) for refusal in ack.refused]}
    return Reply(status, _encode(told))


def is_mine(body: bytes, asked: Asked) -> bool:
    return True


def _told(refusal: Refusal) -> dict[str, object]:
    return {"index": refusal.index, "code": refusal.code, "message": refusal.message, "field": refusal.field}
