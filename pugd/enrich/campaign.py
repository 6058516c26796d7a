"""Where a visit came from: the page's host, the site that led there, the campaign that its address names, the channel.

Of a page's address, the page before it (referrer) and what the client says of a campaign. A channel is the first that
fits, in this order; docs/enrichment.md draws the table for people.

    a click's own mark (gclid, msclkid …) or a paid medium       paid search, paid social, display, paid
    a medium that is said                                         email, sms, affiliate, social, referral, push …
    the site that led there                                       organic search, social, email, referral
    another page of the same site                                 internal
    nothing                                                       direct
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

LENGTH_MAX = 255
_QUERY_LENGTH_MAX = 4096

_SEARCH = (
    "google",
    "bing",
    "yahoo",
    "duckduckgo",
    "baidu",
    "yandex",
    "ecosia",
    "qwant",
    "startpage",
    "naver",
    "seznam",
)
_SEARCH_HOSTS = ("search.brave.com", "kagi.com")
_SOCIAL = (
    "facebook", "instagram", "twitter", "linkedin", "pinterest", "reddit", "tiktok", "youtube", "snapchat", "threads",
    "mastodon", "bsky", "vk", "weibo", "quora", "whatsapp", "telegram", "discord", "tumblr",
)  # fmt: skip
_SOCIAL_HOSTS = ("t.co", "x.com", "lnkd.in", "fb.com", "youtu.be", "t.me", "news.ycombinator.com")
_MAIL_HOSTS = ("mail.google.com", "outlook.live.com", "mail.yahoo.com", "mail.proton.me")
_AI = ("chatgpt", "openai", "perplexity", "claude", "gemini", "copilot")

_PAID_CLICKS = ("gclid", "wbraid", "gbraid", "msclkid", "dclid", "yclid")
_PAID_SOCIAL_CLICKS = ("ttclid", "li_fat_id", "twclid", "rdt_cid", "epik")
_PAID = ("cpc", "ppc", "paid", "paidsearch", "paid_search", "paid-search", "sem", "cpm", "cpv", "cpa", "retargeting")
_DISPLAY = ("display", "banner", "expandable", "interstitial", "programmatic", "cpm")
_MEDIUMS = {
    **dict.fromkeys(("email", "e-mail", "e_mail", "newsletter", "mail"), "email"),
    **dict.fromkeys(("sms", "mms"), "sms"),
    **dict.fromkeys(("push", "notification", "mobile"), "push"),
    **dict.fromkeys(("affiliate", "affiliates", "partner"), "affiliate"),
    **dict.fromkeys(("social", "social-network", "social_media", "social-media", "sm", "organic_social"), "social"),
    **dict.fromkeys(("referral", "link", "app"), "referral"),
    **dict.fromkeys(("organic", "organic_search", "search"), "organic search"),
    **dict.fromkeys(("audio", "podcast"), "audio"),
    **dict.fromkeys(("video",), "video"),
}


class Campaign(Struct, frozen=True, gc=False):
    """Where a visit came from; '' where nothing says so."""

    host: str = ""
    referrer_domain: str = ""
    channel: str = ""
    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_term: str = ""
    utm_content: str = ""


NONE = Campaign()


def read(url: str, referrer: str, said: Mapping[str, object]) -> Campaign:
    """`said`: of a campaign, in Segment's words (source, medium, name, term, content), which win over the address."""
    if not url and not referrer and not said:
        return NONE
    if not said and len(url) <= KNOWN_LENGTH_MAX and len(referrer) <= KNOWN_LENGTH_MAX:
        return _known(url, referrer)
    return _read(url, referrer, said)


KNOWN_LENGTH_MAX = 512
"""Longer addresses are read each time, so that what is remembered stays below some MB."""


@lru_cache(4096)
def _known(url: str, referrer: str) -> Campaign:
    return _read(url, referrer, {})


def _read(url: str, referrer: str, said: Mapping[str, object]) -> Campaign:
    host, query = _parts(url)
    before, _ = _parts(referrer)
    utm = {name: _text(query.get(f"utm_{name}", "")) for name in ("source", "medium", "campaign", "term", "content")}
    for name, key in (
        ("source", "source"), ("medium", "medium"), ("campaign", "name"), ("term", "term"), ("content", "content"),
    ):  # fmt: skip
        if value := _text(said.get(key)):
            utm[name] = value
    domain = "" if before == host else before
    return Campaign(
        host, domain, _channel(host, before, query, utm), utm["source"], utm["medium"], utm["campaign"], utm["term"],
        utm["content"],
    )  # fmt: skip


def _parts(url: str) -> tuple[str, Mapping[str, str]]:
    """An address's host, without www. and port, and its query."""
    if not url:
        return "", {}
    return _known_parts(url) if len(url) <= KNOWN_LENGTH_MAX else _read_parts(url)


def _read_parts(url: str) -> tuple[str, Mapping[str, str]]:
    try:
        split = urlsplit(url)
        host = (split.hostname or "").removeprefix("www.")
        query = dict(parse_qsl(split.query[:_QUERY_LENGTH_MAX], max_num_fields=100)) if "=" in split.query else {}
    except ValueError:
        return "", {}
    return host[:LENGTH_MAX], query


_known_parts = lru_cache(4096)(_read_parts)


def _text(value: object) -> str:
    return value[:LENGTH_MAX] if isinstance(value, str) else ""


def _channel(host: str, before: str, query: Mapping[str, str], utm: Mapping[str, str]) -> str:
    source, medium = utm["source"].lower(), utm["medium"].lower()
    from_social = _is_social(before) or _holds(source, _SOCIAL)
    from_search = _is_search(before) or _holds(source, _SEARCH)
    if query and any(click in query for click in _PAID_SOCIAL_CLICKS):
        return "paid social"
    paid = medium in _PAID or "paid" in medium
    if paid or (query and any(click in query for click in _PAID_CLICKS)):
        if from_social or "social" in medium:
            return "paid social"
        if medium in _DISPLAY:
            return "display"
        return "paid search" if from_search or not source or any(click in query for click in _PAID_CLICKS) else "paid"
    if medium in _DISPLAY:
        return "display"
    if medium in _MEDIUMS:
        return _MEDIUMS[medium]
    if medium or source:
        if _holds(source, _SOCIAL):
            return "social"
        if _holds(source, _SEARCH):
            return "organic search"
        return "email" if "mail" in source else "other campaign"
    if not before:
        return "direct" if host else ""
    if before == host or (host and (before.endswith(f".{host}") or host.endswith(f".{before}"))):
        return "internal"
    if before in _MAIL_HOSTS:
        return "email"
    if _holds(before, _AI):
        return "ai"
    if from_search:
        return "organic search"
    return "social" if from_social else "referral"


def _is_search(host: str) -> bool:
    return host in _SEARCH_HOSTS or _names(host, _SEARCH)


def _is_social(host: str) -> bool:
    return host in _SOCIAL_HOSTS or _names(host, _SOCIAL)


@lru_cache(4096)
def _holds(text: str, names: tuple[str, ...]) -> bool:
    """Is one of these a part of a text? Few sources and sites lead to most visits."""
    return any(name in text for name in names)


@lru_cache(4096)
def _names(host: str, names: tuple[str, ...]) -> bool:
    """Is one of the parts of a host, but for the last, one of these?"""
    return any(part in names for part in host.split(".")[:-1])
