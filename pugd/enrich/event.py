"""What is added to an event, of its context and of what its request says: the columns from `browser` on, and `bot`.

A pure function of the context's bytes and one string, so whoever asks may remember the answer by these
(dialects/context.py does). What the client says itself wins over what its user agent tells.
"""

from __future__ import annotations

from collections.abc import Mapping

from pugd.enrich import agent, campaign

LENGTH_MAX = 255


def enriched(context: Mapping[str, object], user_agent: str) -> tuple[int, tuple[str, ...]]:
    """`context`     in Segment's words
    `user_agent`  declared in it, or sent by a browser
    returns       bot, and EventRow's fields from `browser` to `utm_content`
    """
    told = agent.read(user_agent)
    os, device, page = _object(context, "os"), _object(context, "device"), _object(context, "page")
    screen, browser = _object(context, "screen"), _object(context, "browser")
    kind = _text(device, "type").lower()
    if kind in ("ios", "android"):
        kind = agent.TABLET if "ipad" in _text(device, "model").lower() else agent.MOBILE
    where = campaign.read(_text(page, "url", 2048), _text(page, "referrer", 2048), _object(context, "campaign"))
    return int(told.bot), (
        _text(browser, "name") or told.browser,
        _text(browser, "version").partition(".")[0] or told.browser_version,
        _text(os, "name") or told.os,
        _text(os, "version") or told.os_version,
        kind or told.device,
        _size(screen),
        where.host, where.referrer_domain, where.channel,
        where.utm_source, where.utm_medium, where.utm_campaign, where.utm_term, where.utm_content,
    )  # fmt: skip


_NOTHING: Mapping[str, object] = {}


def _object(context: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = context.get(name)
    return found if type(found) is dict else _NOTHING


def _text(of: Mapping[str, object], name: str, length_max: int = LENGTH_MAX) -> str:
    value = of.get(name)
    if type(value) is str:
        return value[:length_max]
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)[:length_max]
    return ""


def _size(screen: Mapping[str, object]) -> str:
    """`1920x1080`."""
    width, height = screen.get("width"), screen.get("height")
    sizes = [
        int(one) for one in (width, height)
        if isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < 100_000
    ]  # fmt: skip
    return f"{sizes[0]}x{sizes[1]}" if len(sizes) == 2 else ""
