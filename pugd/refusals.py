"""What was refused lately and why, for the operator: the last refusals of each project, and how many by code.

Whoever sends wrong events may send millions of them, so everything here is bounded: a project keeps KEPT entries, what
is alike within ALIKE_MS is one entry with a count, and a sample of the event is made for a new entry only. A sample
shows the shape of what was sent and nothing that gives anybody away: no addresses (of the network or of mail), no keys,
no long texts. Refusals of unknown keys belong to no project; they stand under project UNKNOWN.

Kept in memory alone: a restart of the collector forgets them.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Any, Final

import msgspec
from msgspec import Struct

from pugd.model import Refusal, WriteKey

UNKNOWN: Final = 0
KEPT: Final = 1_000
PROJECTS_MAX: Final = 1_000
ALIKE_MS: Final = 10_000
TEXT_MAX: Final = 300
MESSAGE_MAX: Final = 1_000
"""So much of a message is looked at: no mail address that begins in what is kept of it ends behind that."""
SAMPLE_MAX: Final = 800
SAMPLED_BYTES_MAX: Final = 256 * 1024
"""No sample is made of a larger body: it would have to be read."""


class Entry(Struct):
    """Refusals of one kind, of one key, within a few seconds."""

    number: int
    """Goes up with each entry of the collector's process."""
    at: int
    """Of the first, ms; the last came at most ALIKE_MS later."""
    code: str
    message: str
    field: str | None
    count: int
    dialect: str
    path: str
    """Of the request; '' of a datagram."""
    transport: str
    """'http' | 'udp'."""
    key: int | None
    """The number of the write key in the list of keys."""
    key_name: str
    sample: str
    """The event, or the beginning of what was no JSON; '' where there is none."""


class Found(Struct, frozen=True):
    """Some of a project's, newest first."""

    refusals: list[Entry]
    counts: dict[str, int]
    """By code, of all since the collector's start, of single events."""
    next: int | None
    """Before which number there are more; None: there are none."""


class _Project:
    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        self.latest: dict[tuple[str, str, int | None, str], Entry] = {}


_INDEX: Final = re.compile(r"\[\d+\]")


class Refusals:
    """The collector's."""

    def __init__(self) -> None:
        self._projects: dict[int, _Project] = {}
        self._number = 0

    def note(
        self,
        why: Refusal,
        at: int,
        *,
        key: WriteKey | None,
        dialect: str,
        path: str = "",
        transport: str = "http",
        body: bytes = b"",
        count: int = 1,
    ) -> None:
        """Remember one. cost  a microsecond; a sample a few ms for the largest body, of the first in ALIKE_MS alone

        `body`  what it is of, out of its form; the event is the one at `why.index`
        """
        project = self._project(key.project if key is not None else UNKNOWN)
        project.counts[why.code] += count
        field = _INDEX.sub("[]", why.field, count=1)[:TEXT_MAX] if why.field else None
        number = key.id if key is not None else None
        alike = (why.code, field or "", number, path)
        entry = project.latest.get(alike)
        if entry is not None and 0 <= at - entry.at < ALIKE_MS:
            entry.count += count
            return
        self._number += 1
        name, message = key.name if key is not None else "", hidden(why.message[:MESSAGE_MAX])[:TEXT_MAX]
        entry = Entry(
            self._number, at, why.code, message, field, count, dialect, path[:TEXT_MAX], transport, number, name,
            sample(body, why.index),
        )  # fmt: skip
        if len(project.latest) >= KEPT:
            project.latest.clear()
        project.latest[alike] = entry
        project.entries.append(entry)

    def _project(self, number: int) -> _Project:
        found = self._projects.get(number)
        if found is None:
            if len(self._projects) >= PROJECTS_MAX:
                self._projects.pop(next(iter(self._projects)))
            found = self._projects[number] = _Project()
        return found

    def find(self, project: int, code: str = "", limit: int = 50, before: int | None = None) -> Found:
        """The newest of a project, those with `code` alone where it is given, from before number `before` on."""
        known = self._projects.get(project)
        if known is None:
            return Found([], {}, None)
        wanted = [
            entry
            for entry in reversed(known.entries)
            if (not code or entry.code == code) and (before is None or entry.number < before)
        ]
        page = wanted[:limit]
        return Found(page, dict(known.counts), page[-1].number if len(wanted) > limit else None)


# -- samples ---------------------------------------------------------------------------------------------------------

_SECRETS: Final = frozenset((
    "writekey", "write_key", "api_key", "apikey", "$token", "token", "authorization", "password", "secret", "ip", "$ip",
    "email", "$email", "phone", "$phone",
))  # fmt: skip
_HIDDEN: Final = "(hidden)"
_MAIL: Final = re.compile(r"[^\s\"'<>@,;:]{1,64}@[^\s\"'<>@,;:]{1,255}")
_V4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_V6: Final = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Fa-f:])")
_KEY: Final = re.compile(r"\b(?:pub|prv|sig|read|phc|phx)_[A-Za-z0-9_-]{6,}")
_MEMBER: Final = re.compile(
    r"(\"(?:" + "|".join(re.escape(name) for name in sorted(_SECRETS)) + r")\"\s*:\s*)(?:\"[^\"]*\"?|[^,}\]\s]+)", re.I
)
_LISTS: Final = ("batch", "events")


def sample(body: bytes, index: int | None) -> str:
    """The event at `index` of a body, or its beginning where it is no JSON, without what gives anybody away."""
    if not body or len(body) > SAMPLED_BYTES_MAX:
        return ""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return hidden(_MEMBER.sub(rf"\1{_HIDDEN}", body[:SAMPLE_MAX].decode("utf-8", "replace")))[:SAMPLE_MAX]
    if index is not None:
        for name in _LISTS:
            if isinstance(value, dict) and isinstance(value.get(name), list):
                value = value[name]
                break
        if isinstance(value, list):
            value = value[index] if index < len(value) else None
    text = msgspec.json.encode(_shown(value, 0)).decode()
    return text if len(text) <= SAMPLE_MAX else text[:SAMPLE_MAX] + "…"


def hidden(text: str) -> str:
    """A text without addresses and keys."""
    # IPv4 first: an IPv6 address may end in one.
    for sign, pattern in (("@", _MAIL), (".", _V4), (":", _V6), ("_", _KEY)):
        if sign in text:  # looking for addresses takes long where there is none
            text = pattern.sub(_HIDDEN, text)
    return text


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return hidden(value[:200])[:80]
    if depth > 5:
        return "…" if isinstance(value, dict | list) else value
    if isinstance(value, dict):
        return {
            hidden(name[:200])[:80]: _HIDDEN if name.lower() in _SECRETS else _shown(given, depth + 1)
            for name, given in list(value.items())[:20]
        }
    if isinstance(value, list):
        return [_shown(one, depth + 1) for one in value[:3]]
    return value
