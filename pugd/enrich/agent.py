"""What a user agent says: browser, system, kind of device, and whether it is a bot.

ua-parser reads it, by the maintained patterns of uap-core; what was read is remembered, since few distinct strings
carry most traffic. A bot is what calls itself one (crawlers, previews, monitors, headless browsers). Libraries that
speak HTTP for somebody's program (curl, python-requests, okhttp …) are never bots: they are how servers send events.
"""

from __future__ import annotations

import re

from msgspec import Struct
from ua_parser import parse

CACHE_MAX = 20_000
LENGTH_MAX = 512
"""What stands beyond tells nothing more, and reading costs by length."""
NEW_MAX = 500
"""Strings never seen before that are read between two calls of `renew`: each costs up to 0.2 ms, and whoever sends a
new one with each event must not hold up everybody else. The others are left unread, not remembered."""

DESKTOP, MOBILE, TABLET, TV, OTHER = "desktop", "mobile", "tablet", "tv", "other"

_LIBRARY = re.compile(
    r"(?:curl|wget|python|aiohttp|httpx|urllib|go-http-client|okhttp|java|apache-httpclient|jakarta|axios|node|undici|"
    r"got|ruby|faraday|guzzle|php|perl|libwww|dart|postman|insomnia|dotnet|restsharp|rust|reqwest|hackney|elixir|"
    r"connect-es|analytics-|rudder|segment|posthog|mixpanel|amplitude|pugd)\b",
    re.IGNORECASE,
)
"""How agents of libraries begin."""
_BOT = re.compile(
    r"headless|phantomjs|lighthouse|\bbot\b|bot/|crawler|spider|slurp|pingdom|uptimerobot|statuscake|"
    r"facebookexternalhit|preview|puppeteer|playwright|cypress|selenium|prerender|monitoring",
    re.IGNORECASE,
)
_SYSTEMS = frozenset(("Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD"))
_NAMES = {"Mac OS X": "macOS"}
_TV = re.compile(r"smart-?tv|\btv\b|appletv|bravia|roku|aft[a-z]\b|crkey", re.IGNORECASE)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook", re.IGNORECASE)


class Agent(Struct, frozen=True, gc=False):
    """An agent, read; '' where it does not say."""

    browser: str = ""
    browser_version: str = ""
    """The first number of it."""
    os: str = ""
    os_version: str = ""
    """Two numbers of it at most."""
    device: str = ""
    """'desktop' | 'mobile' | 'tablet' | 'tv' | 'other' | ''."""
    bot: bool = False


NOBODY = Agent()
_cache: dict[str, Agent] = {"": NOBODY}
_new = 0


def prepare() -> None:
    """Load the patterns, some tenths of a second, before anybody waits for them."""
    parse("Mozilla/5.0 HeadlessChrome/1.0")


def renew() -> None:
    """Another NEW_MAX strings may be read."""
    global _new
    _new = 0


def read(user_agent: str) -> Agent:
    """cost   a look-up for what was seen before, else up to 0.2 ms"""
    global _new
    text = user_agent[:LENGTH_MAX]
    found = _cache.get(text)
    if found is not None:
        return found
    if _new >= NEW_MAX:
        return NOBODY
    _new += 1
    if len(_cache) >= CACHE_MAX:
        _cache.clear()
    found = _cache[text] = _read(text)
    return found


def _read(text: str) -> Agent:
    if _LIBRARY.match(text):
        return NOBODY
    said = parse(text)
    bot = (said.device is not None and said.device.family == "Spider") or _BOT.search(text) is not None
    browser, version = ("", "") if said.user_agent is None else (said.user_agent.family, said.user_agent.major or "")
    system = "" if said.os is None else said.os.family
    numbers = [] if said.os is None else [number for number in (said.os.major, said.os.minor) if number]
    return Agent(browser, version, _NAMES.get(system, system), ".".join(numbers), _device(text, system, bot), bot)


def _device(text: str, system: str, bot: bool) -> str:
    if _TV.search(text):
        return TV
    if _TABLET.search(text) or (system == "Android" and "Mobile" not in text and "Mozilla/" in text):
        return TABLET
    if system in ("iOS", "Android", "Windows Phone", "KaiOS"):
        return MOBILE
    if system in _SYSTEMS:
        return DESKTOP
    return OTHER if system and not bot else ""
