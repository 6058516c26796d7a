"""What pages show of entries, persons, links and times, as templates take it. Pure: now and the zone are arguments.

A timeline is put in order for the eye: days, in the project's time zone; within a day, runs of one device or session,
told apart by a colour; and a line across where somebody's earlier history joined. Texts stay as strangers wrote them:
the templates escape them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from pugd.query import order
from pugd.query.values import TEXT_LENGTH_MAX
from pugd.question import TRAIT_SORT, EventEntry, ExplainAnswer, Link, LinkEntry, Person, TraitsEntry

LANES = 6
"""Colours of devices and sessions."""

IDLE_MINUTES_MAX = 30
"""A longer pause ends a run on the page, as it ends a session."""

REFUSED = {
    "both_identified": "each belongs to somebody with a user id of their own, so a shared device stays two people",
    "illegal_id": "one of them is an id that broken code sends for everybody",
    "too_many_ids": "the person would have more ids than a person can have",
    "unlinked_by_hand": "somebody took them apart by hand",
    "self_link": "both are the same id",
}

MEND = {
    "invalid_json": "The body is no JSON that can be stored. The message says at which byte.",
    "invalid_field": "A field has the wrong type or is too long. The field is named.",
    "missing_field": "Send the field that is named.",
    "invalid_id": "Ids have at most 512 bytes.",
    "invalid_key": "No write key in force: pugd keys list shows those that are.",
    "forbidden": "The key's owner allows other web pages: pugd keys limit NUMBER --origin ORIGIN adds one.",
    "unsigned": "The key has a signing secret: sign datagrams that say who somebody is, or send them by HTTP.",
    "invalid_signature": "Another secret or other bytes than were sent, or a clock that is wrong: see docs/udp.md.",
    "rate_limited": "The key has a limit of events a second: pugd keys limit NUMBER --rate N raises it.",
    "quota_exceeded": "The key's events of the day are used up: pugd keys limit NUMBER --per-day N raises that.",
    "too_large": "Send less at once.",
    "too_deep": "Send a flatter object.",
    "event_id_reused": "Two events came with one id: each needs its own.",
    "unsupported_encoding": "Send gzip, deflate, br, zstd or nothing of the kind.",
    "invalid_request": "The request was not well-formed, or its compressed body was damaged.",
    "internal_error": "A fault of pugd's own: its log says more.",
}
"""What to do about what is refused, by code."""


class Run(msgspec.Struct):
    """Entries that follow one another on one device or in one session; or a link that changed something, which belongs
    to none."""

    lane: int
    label: str
    detail: str
    entries: list[dict[str, Any]]
    link: dict[str, Any] | None = None


class Day(msgspec.Struct):
    """One day of the project's time zone."""

    date: str
    label: str
    runs: list[Run]


def as_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def steps(answer: ExplainAnswer, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The way from a to b: each link, and the id that it leads to."""
    found = []
    here = answer.a
    for one in answer.links:
        here = (one.b if here == one.a else one.a) or ""
        found.append({**link(one, zone), "to": here})
    return found


def link(one: Link, zone: ZoneInfo) -> dict[str, Any]:
    return {"link": one, "said": _CALLS.get(one.call, one.call), "time": moment(one.occurred_at, zone)}


_CALLS = {
    "identify": "an identify call",
    "alias": "an alias call",
    "event": "an event with both ids",
    "merge": "merged by hand",
}


AnyEntry = EventEntry | TraitsEntry | LinkEntry


def days(entries: Sequence[AnyEntry], now: datetime, zone: ZoneInfo) -> list[Day]:
    """A page's entries, grouped for the eye; their order stays."""
    found: list[Day] = []
    lanes: dict[tuple[str, str], int] = {}
    run: Run | None = None
    last: tuple[tuple[str, str], datetime] | None = None
    for entry in entries:
        at = datetime.fromisoformat(entry.occurred_at).astimezone(zone)
        today = at.date().isoformat()
        if not found or found[-1].date != today:
            found.append(Day(today, _day(at, now.astimezone(zone)), []))
            run = last = None
        shown = _entry(entry, at)
        if isinstance(entry, LinkEntry) and run is not None and _says_nothing_new(entry):
            run.entries.append(shown)  # as a page does that identifies on each view
            continue
        if isinstance(entry, LinkEntry) and not _says_nothing_new(entry):
            found[-1].runs.append(Run(0, "", "", [], shown))
            run = last = None
            continue
        lane = _lane(entry)
        pause = last is None or abs((at - last[1]).total_seconds()) > IDLE_MINUTES_MAX * 60
        if run is None or last is None or last[0] != lane or (pause and lane[0] != "session"):
            number_ = lanes.setdefault(lane, len(lanes) % LANES + 1)
            run = Run(number_, _lane_label(entry), _lane_detail(entry), [])
            found[-1].runs.append(run)
        run.entries.append(shown)
        last = lane, at
    return found


def _says_nothing_new(entry: LinkEntry) -> bool:
    return entry.again or (entry.b is None and entry.call == "identify" and entry.refused is None)


def _lane(entry: AnyEntry) -> tuple[str, str]:
    """What tells one device or session from another."""
    if entry.session_id:
        return "session", entry.session_id
    if entry.platform == "server":
        return "server", ""
    return entry.platform or "", entry.anonymous_id or entry.user_id or ""


def _lane_label(entry: AnyEntry) -> str:
    return {"web": "Web", "mobile": "Mobile", "server": "Server"}.get(entry.platform or "", "Unknown platform")


def _lane_detail(entry: AnyEntry) -> str:
    if entry.session_id:
        return f"session {entry.session_id}"
    return entry.anonymous_id or entry.user_id or ""


def _entry(entry: AnyEntry, at: datetime) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "entry": entry,
        "type": entry.type,
        "time": at.strftime("%H:%M:%S"),
        "exact": entry.occurred_at,
    }
    if isinstance(entry, EventEntry):
        name = " ".join(entry.event[:60].split())
        shown["name"] = name or "(no name)"
        shown["facts"] = entry.summary[len(name) :].strip() if entry.summary.startswith(name) else entry.summary
        shown["properties"] = _rows(entry.properties)
        shown["context"] = _rows(entry.context)
        shown["place"] = ", ".join(part for part in (entry.city, entry.region, entry.country) if part)
    elif isinstance(entry, TraitsEntry):
        shown["changes"] = [
            (key, _value(change.before), _value(change.after), bytes(change.before) != bytes(change.after))
            for key, change in entry.changes.items()
        ]
    else:
        shown["why"] = REFUSED.get(entry.refused or "", entry.refused or "")
    return shown


def _rows(json: msgspec.Raw) -> list[tuple[str, str]]:
    """An object's members as (key, text)."""
    try:
        members = msgspec.json.decode(json, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return []
    return [(key, _value(value) or "null") for key, value in members.items()]


def _value(json: msgspec.Raw) -> str | None:
    """A JSON value as a person reads it: text without quotes, the rest as JSON; None for null."""
    value = msgspec.json.decode(json)
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
    return bytes(json).decode()


def headed(person: Person, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    shown = listed(person, now, zone)
    shown["ids"] = [
        {
            "id": one.id,
            "kind": one.kind,
            "since": date(one.first_seen, zone),
            "since_at": one.first_seen,
            "since_exact": moment(one.first_seen, zone),
            "last": _ago(one.last_seen, now),
            "last_exact": moment(one.last_seen, zone),
        }
        for one in person.ids
    ]
    shown["traits"] = [(key, _value(value)) for key, value in person.traits.items()]
    return shown


def trait_sorts(chosen: str, listed: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(sort, label) by each trait that a page shows, those of most people first; and the one that is chosen."""
    keys = Counter(key for one in listed for key, _ in one["glance"] if 0 < len(key) <= TEXT_LENGTH_MAX)
    found = []
    for key, _ in sorted(keys.items(), key=lambda item: (-item[1], item[0])):
        path = key if "." not in key and not key.startswith("[") else msgspec.json.encode([key]).decode()
        found += [(f"{TRAIT_SORT}{path}", f"{key}, ascending"), (f"-{TRAIT_SORT}{path}", f"{key}, descending")]
    if (trait := order.read(chosen).trait) and chosen not in dict(found):
        found.append((chosen, f"{'.'.join(trait)}, {'descending' if chosen.startswith('-') else 'ascending'}"))
    return found


def listed(person: Person, now: datetime, zone: ZoneInfo, first: str = "") -> dict[str, Any]:
    """`first`: the trait to show before all others."""
    traits = {key: _value(value) or "" for key, value in person.traits.items()}
    name = next((traits[key] for key in ("name", "Name", "username", "email") if traits.get(key, "").strip()), "")
    title = name or person.user_id or (person.ids[0].id if person.ids else person.id)
    glance = [(key, value) for key, value in traits.items() if value and len(value) <= 60 and value != name]
    glance = sorted(glance, key=lambda item: item[0] != first)[:4]
    return {
        "person": person,
        "title": title,
        "others": [one.id for one in person.ids if one.id != title][:3],
        "subtitle": person.user_id if person.user_id and person.user_id != title else "",
        "initial": next((letter.upper() for letter in title if letter.isalnum()), "·"),
        "tint": int(person.id[2:], 16) % LANES + 1,
        "identified": bool(person.user_ids),
        "glance": glance,
        "more": max(0, len(traits) - len(glance) - (1 if name else 0)),
        "first_seen": _ago(person.first_seen, now),
        "first_exact": moment(person.first_seen, zone),
        "last_seen": _ago(person.last_seen, now),
        "last_exact": moment(person.last_seen, zone),
    }


def moment(text: str, zone: ZoneInfo) -> str:
    return f"{date(text, zone)}, {datetime.fromisoformat(text).astimezone(zone):%H:%M}"


def date(text: str, zone: ZoneInfo) -> str:
    at = datetime.fromisoformat(text).astimezone(zone)
    return f"{at.day} {at:%b %Y}"


def _ago(text: str, now: datetime) -> str:
    seconds = (now - datetime.fromisoformat(text)).total_seconds()
    if seconds < -60:
        return "in the future"
    for unit, word in ((86_400 * 365, "y"), (86_400 * 30, "mo"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {word} ago"
    return "just now"


def _day(at: datetime, now: datetime) -> str:
    text = f"{at:%A}, {at.day} {at:%B %Y}"
    apart = (now.date() - at.date()).days
    return f"Today · {text}" if apart == 0 else f"Yesterday · {text}" if apart == 1 else text


def script(collector: str, write_key: str) -> str:
    """What a web page needs so that its visitors are seen, as its author pastes it."""
    return (
        "<script>window.pugd=window.pugd||function(){(pugd.q=pugd.q||[]).push(arguments)}</script>\n"
        f'<script src="{escape(collector)}/pugd.js" data-key="{escape(write_key)}" async></script>'
    )


def number(value: int) -> str:
    """12345 → 12 345, with narrow spaces that do not break."""
    return f"{value:,}".replace(",", "\u202f")
