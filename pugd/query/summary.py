"""A timeline's entries in a few words: `scroll 72 %`, `checkout_started USD 416.21`, `add_to_cart prod-0198`.

An event's name, and then the one or two facts that people look for first, taken from the names of properties that
clients commonly give them. Whatever is sent, a summary is one line of at most SUMMARY_LENGTH_MAX characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

SUMMARY_LENGTH_MAX = 120
_FACT_LENGTH_MAX = 60

_PERCENT = (
    "percent",
    "percentage",
    "scroll_percent",
    "scroll_percentage",
    "scroll_depth",
    "depth",
    "scroll",
    "progress",
)
_MONEY = ("total", "value", "revenue", "amount", "price", "subtotal")
_QUERY = ("query", "search_term", "search_query", "q", "term", "keyword", "keywords")
_PRODUCT = ("product_id", "sku", "item_id", "product", "product_name", "item", "item_name")
_PLACE = ("path", "page", "url", "screen", "screen_name", "title")
_OTHER = (
    "plan", "plan_name", "tier", "method", "button", "label", "feature", "step", "order_id", "coupon", "code",
    "campaign", "file", "name", "category", "status", "error", "message", "text", "id",
)  # fmt: skip


def event(name: str, properties: Mapping[str, Any], *, path: str = "", url: str = "", title: str = "") -> str:
    """`path`, `url` and `title` are where it happened, as the client's context says."""
    facts: list[str] = []
    known = {_plain(key): value for key, value in properties.items()}
    plain = _plain(name)
    looks = "pageview" in plain or plain in ("page", "screen", "screenview", "view")
    if looks:
        place = _first(known, _PLACE) or path or _path(url) or title
        return _line(name, [_path(place) if "://" in place else place])
    if (percent := _percent(known, plain)) is not None:
        facts.append(percent)
    if query := _first(known, _QUERY):
        facts.append(query)
    product = _first(known, _PRODUCT)
    money = _money(known)
    if product:
        facts.append(product)
    if money:
        facts.append(money)
    if not facts and (fact := _first(known, _OTHER) or _first(known, _PLACE)):
        facts.append(fact)
    return _line(name, facts[:2])


def traits(changes: Iterable[tuple[str, Any, Any]]) -> str:
    """(key, value before, value after) each; None where there is none."""
    parts = []
    unchanged = 0
    for key, before, after in changes:
        if before == after and type(before) is type(after):
            unchanged += 1
        elif after is None:
            parts.append(f"{_short(key)} removed")
        else:
            parts.append(f"{_short(key)} {_fact(after) or '…'}")
    if not parts:
        return "traits unchanged" if unchanged else "traits"
    more = f" +{len(parts) - 3}" if len(parts) > 3 else ""
    return _cut(", ".join(parts[:3]), SUMMARY_LENGTH_MAX - len(more)) + more


def session(events: int, lasted_ms: int, page: str) -> str:
    """Such as `12 events in 4 min 10 s, from /pricing`."""
    minutes, seconds = divmod(max(lasted_ms, 0) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    lasted = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    began = f", from {_short(page)}" if page else ""
    return f"{events} event{'' if events == 1 else 's'} in {lasted}{began}"


def link(call: str, a: str, b: str, refused: str, again: bool = False) -> str:
    """`a` and `b` are the ids that were to become one person; `again`: it was said before that they are."""
    if refused:
        return _cut(f"{call} refused: {_short(a)} and {_short(b)} ({refused})")
    if call == "unlink":
        return _cut(f"unlink {_short(a)} from {_short(b) or 'all others'}")
    if not b:
        return _cut(f"{call} {_short(a)}")
    if call in ("identify", "event"):
        who = f"{'identify ' if call == 'identify' else ''}{_short(b)}"
        return _cut(f"{who}, still {_short(a)} too" if again else f"{who}: history of {_short(a)} joins")
    return _cut(f"{call} {_short(a)} and {_short(b)}{' again' if again else ''}")


def _plain(name: str) -> str:
    """As compared: `productId`, `product_id` and `Product ID` are one name."""
    return _letters(name[:64])


@lru_cache(maxsize=1024)
def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _first(known: Mapping[str, Any], names: Iterable[str]) -> str:
    for name in names:
        if (value := known.get(_plain(name))) is not None and (fact := _fact(value)):
            return fact
    return ""


def _fact(value: Any) -> str:
    """A scalar as text; '' for anything else."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, int | float):
        return _number(value)
    return ""


def _number(value: int | float) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        if value.is_integer() and abs(value) < 1e15:
            value = int(value)
    try:
        return _short(f"{value}")
    except ValueError:  # thousands of digits
        return "…"


def _percent(known: Mapping[str, Any], event_name: str) -> str | None:
    for name in _PERCENT:
        value = known.get(_plain(name))
        if isinstance(value, str) and value.rstrip().endswith("%"):
            value = _numeric(value.rstrip()[:-1])
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name in ("depth", "scroll", "progress") and "scroll" not in event_name and "progress" not in event_name:
            continue
        if 0 <= value <= 100_000:
            if isinstance(value, float) and 0 < value < 1:
                value = value * 100
            return f"{_number(round(value, 1))} %"
    return None


def _money(known: Mapping[str, Any]) -> str | None:
    currency = known.get("currency") or known.get("currencycode")
    for name in _MONEY:
        value = known.get(name)
        if isinstance(value, str):
            value = _numeric(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            continue
        if isinstance(currency, str) and currency and len(currency) <= 8:
            return f"{_short(currency).upper()} {value:.2f}"
        return _number(value)
    return None


def _numeric(text: str) -> float | None:
    try:
        return float(text[:32])
    except ValueError:
        return None


def _path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "") if parts.netloc else url


def _line(name: str, facts: Iterable[str]) -> str:
    return _cut(" ".join(part for part in map(_short, (name, *facts)) if part))


def _short(text: str) -> str:
    return _cut(" ".join(text[:400].split()), _FACT_LENGTH_MAX)


def _cut(text: str, length_max: int = SUMMARY_LENGTH_MAX) -> str:
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + "…"


def members(json: str) -> dict[str, Any]:
    """A JSON object's members; none where it cannot be read."""
    try:
        found = msgspec.json.decode(json)
    except msgspec.MsgspecError:
        return {}
    return found if isinstance(found, dict) else {}
