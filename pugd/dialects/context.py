"""What a Segment-style `context` says: the fields that become columns, and the text that is kept.

One with `cookieless`, whatever but `false`, 0 or `null`, is of a visitor who gave no consent to ids: those that stand
in it are left out, the session among them.

Few distinct contexts carry most traffic (a server library sends the same one with each event), so what was understood
of one is remembered by its bytes, up to CACHE_MAX of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from pugd import errors
from pugd.dialects.traits import without_address
from pugd.model import Refusal, encoded

CACHE_MAX = 4096
CACHED_BYTES_MAX = 4096
"""A longer context is understood each time, so that the cache stays below 20 MB whatever is sent."""
CONTEXT_BYTES_MAX = 1024 * 1024
FIELD_LENGTH_MAX = 2048

DEVICE, SERVER = "device", "server"

_WEB = ("analytics.js", "analytics-next", "javascript", "browser", "web", "snippet")
_MOBILE = ("ios", "android", "swift", "kotlin", "flutter", "react-native", "reactnative", "mobile", "unity", "xamarin")
_SERVER = ("node", "python", "go", "java", "ruby", "php", "rust", "net", "server", "elixir", "perl", "curl")


class Context(Struct, frozen=True, gc=False):
    """A context, understood."""

    platform: str
    """'web' | 'mobile' | 'server' | ''."""
    middle: dict[str, Raw]
    """By transport: an event's part 11 (model.Batch)."""
    tail: Raw
    """Its part 13, of a sender whose place is not known; `start`: all of it but the place."""
    start: Raw
    bot: bool
    traits: bytes
    """JSON text of context.traits; empty where there is none."""
    sender: str
    """Who sends, as far as it says: DEVICE, the visitor's own browser or app; SERVER; else ''."""
    ip: str | None
    """What it says of the visitor's address; never part of what is kept."""
    cookieless: bool
    """Of a visitor without an id: what follows tells those apart."""
    user_agent: str
    """The one it declares; '' where it declares none."""
    host: str
    """Of its page, as enriched; '' where it has none."""


HOST = 6
"""Which of what Enrich makes is the host."""


class Enrich(Protocol):
    """What is made of a context (enrich/event.py): bot, and EventRow's fields from `browser` to `utm_content`."""

    def __call__(self, context: Mapping[str, object], user_agent: str, /) -> tuple[int, tuple[str, ...]]: ...


def unenriched(context: Mapping[str, object], user_agent: str) -> tuple[int, tuple[str, ...]]:
    """Nothing."""
    return 0, ("",) * 14


_NOWHERE = encoded("", "", "")
_cache: dict[tuple[str | None, bytes, str, Enrich], Context] = {}
_members = msgspec.json.Decoder(dict[str, Raw])
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def understand(raw: Raw, channel: str | None, enrich: Enrich = unenriched, user_agent: str = "") -> Context | Refusal:
    """Read a context.

    `raw`      JSON; empty where there was none
    `channel`  the message's own word for its platform, or None
    `user_agent`  a browser's own, for a context that declares none
    cost       0.2 µs for one seen before, else about 8 µs
    """
    text = bytes(raw)
    found = _cache.get((channel, text, user_agent, enrich))
    if found is not None:
        return found
    if text in (b"", b"null"):
        about = _understand({}, b"{}", channel, enrich, user_agent)
    elif not text.startswith(b"{"):
        return Refusal(errors.INVALID_FIELD, "context must be a JSON object, such as {}.", "context")
    elif len(text) > CONTEXT_BYTES_MAX:
        return Refusal(errors.TOO_LARGE, f"context is longer than {CONTEXT_BYTES_MAX} bytes: shorten it.", "context")
    else:
        about = _understand(_any.decode(text), text, channel, enrich, user_agent)
    if len(text) <= CACHED_BYTES_MAX and len(channel or "") <= 64:
        if len(_cache) >= CACHE_MAX:
            _cache.clear()
        _cache[channel, text, user_agent, enrich] = about
    return about


def written(groups: Mapping[str, Mapping[str, object]], single: Mapping[str, object], *nothing: object) -> Raw:
    """A context of what another dialect says, in Segment's words, without what is None or `nothing`.

    `groups`  such as page, each with what it says; `single`: what stands beside them
    """
    none = (None, *nothing)
    found: dict[str, object] = {}
    for group, said in groups.items():
        some = {name: value for name, value in said.items() if value not in none}
        if some:
            found[group] = some
    return Raw(_encode(found | {name: value for name, value in single.items() if value not in none}))


def _understand(members: dict[str, object], text: bytes, channel: str | None, enrich: Enrich, header: str) -> Context:
    raw_members = _members.decode(text)
    traits = raw_members.get("traits")
    kept = without_address(traits) if traits is not None else None
    if raw_members.pop("ip", None) is not None or kept is not traits:
        text = _encode(raw_members if kept is None else raw_members | {"traits": kept})
    page, library, app = _object(members, "page"), _object(members, "library"), _object(members, "app")
    name = _string(library, "name")
    user_agent = _string(members, "userAgent")
    channel = channel or _string(members, "channel")
    platform = _platform(channel, name.lower(), members, user_agent)
    ip = members.get("ip")
    session_id = _string(members, "sessionId")
    cookieless = members.get("cookieless") not in (None, False)
    if cookieless:
        text, session_id, traits = _encode(_without_ids(raw_members)), "", None
    bot, more = enrich(members, user_agent or header[:FIELD_LENGTH_MAX])
    start = encoded(
        text,
        _string(page, "url"),
        _string(page, "path"),
        _string(page, "title"),
        _string(page, "referrer"),
        _string(members, "locale"),
        user_agent,
        _string(app, "version"),
        *more,
    )
    return Context(
        platform,
        {
            transport: encoded(session_id, transport, platform, name, bot if transport != "udp" else 0, int(cookieless))
            for transport in ("http", "udp", "import")
        },
        Raw(bytes(start) + bytes(_NOWHERE)),
        start,
        bool(bot),
        bytes(traits) if traits is not None else b"",
        _sender(channel, name.lower()),
        ip.strip() if isinstance(ip, str) and ip.strip() else None,
        cookieless,
        user_agent,
        more[HOST],
    )


_IDS = frozenset(
    ("anonymousId", "externalId", "externalIds", "groupId", "sessionId", "sessionNumber", "traits", "userId")
)
_DEVICE_IDS = frozenset(("advertisingId", "id", "token"))


def _without_ids(members: dict[str, Raw]) -> dict[str, Raw]:
    """A context without what could tell whose it is."""
    kept = {name: value for name, value in members.items() if name not in _IDS}
    device = bytes(kept.get("device", b""))
    if device.startswith(b"{"):
        said = _members.decode(device)
        kept["device"] = Raw(_encode({name: value for name, value in said.items() if name not in _DEVICE_IDS}))
    return kept


def _object(members: dict[str, object], key: str) -> dict[str, object]:
    value = members.get(key)
    return value if type(value) is dict else {}


def _string(members: dict[str, object], key: str) -> str:
    value = members.get(key)
    if type(value) is str:
        return value[:FIELD_LENGTH_MAX]
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)[:FIELD_LENGTH_MAX]
    return ""


@lru_cache(1024)
def _kind(library: str) -> str:
    """Where such a library runs, by its name; '' where that does not tell."""
    for kind, parts in (("web", _WEB), ("mobile", _MOBILE), ("server", _SERVER)):
        if any(part in library for part in parts):
            return kind
    return ""


def _platform(channel: str, library: str, members: dict[str, object], user_agent: str) -> str:
    """Where it happened: what the message says, else what its library, its device or its page tells."""
    if channel in ("web", "mobile", "server"):
        return channel
    kind = _kind(library)
    if kind in ("web", "mobile"):
        return kind
    if _string(_object(members, "device"), "type").lower() in ("ios", "android"):
        return "mobile"
    if _string(_object(members, "os"), "name").lower() in ("ios", "ipados", "android"):
        return "mobile"
    if kind:
        return kind
    if "page" in members or user_agent.startswith("Mozilla/"):
        return "web"
    return ""


_SENDERS = {"web": DEVICE, "mobile": DEVICE, "server": SERVER}


def _sender(channel: str, library: str) -> str:
    """Who sends. Told by the library, which runs where it sends from; a channel, a page or a device may be another's,
    whose event a server passes on."""
    if channel == "server":
        return SERVER
    return _SENDERS.get(_kind(library) or channel, "")
