"""Consoles for tests: the application over made worlds in the real store; and its pages, as a browser reads them."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import engine
import httpx
from engine import opened_store
from histories import Collector, History, insert

from pugd.answer import Answer, Stored
from pugd.control.shelf import Shelf
from pugd.errors import ControlError
from pugd.everyone import Everyone
from pugd.exports import Exports
from pugd.model import Project
from pugd.web.app import Health, console

PROJECT = 500_000
BEGAN = 1_700_000_000_000
AT_ONCE = 12
HOSTILE = [
    "'", '"', "\\", "\\'", "%", "_", "' OR 1=1 --", "'); DROP TABLE events; --", "{p0:String}", "{x:UInt64}", "%(x)s",
    "$rows", "\0", "\u202egnp.exe", "😀", "<script>alert(1)</script>", "a" * 400, "`", "/*", "\n", "\ufffe", "*", "(",
    "NULL", "\\N",
]  # fmt: skip


class Keys:
    """Control, as the console sees it, with one key, one login and one session."""

    def __init__(self) -> None:
        self.logins = {"once": "session-1"}
        self.sessions = {"session-1", "session-2"}
        self.away = False
        self.project = PROJECT

    async def check_read_key(self, key: str) -> Project | None:
        if self.away:
            raise ControlError("Postgres is away: try again")
        return Project(self.project, "Shop", "Europe/Berlin") if key == "read-key" else None

    async def redeem_login(self, token: str) -> str | None:
        return self.logins.pop(token, None)

    async def check_session(self, session: str) -> Project | None:
        return Project(self.project, "Shop", "Europe/Berlin") if session in self.sessions else None

    async def end_session(self, session: str) -> None:
        self.sessions.discard(session)

    async def write_key(self, project: int) -> str | None:
        return "pub'key"


class Console:
    """One application and what stands behind it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.keys = Keys()
        self.keys.project = history.project
        self.stored = Stored(BEGAN, complete=True)
        self.health = Health(True)
        self.answer: Answer | None = None
        self.statistics: dict[str, object] = {}

    async def run(self, work: object) -> object:
        """Postgres is away: what segments and saved questions are kept in."""
        raise ControlError("Postgres is away: try again")

    async def open(self) -> httpx.AsyncClient:
        async def wait_stored() -> Stored:
            return self.stored

        async def statistics() -> dict[str, object]:
            return self.statistics

        store = await opened_store()
        shelf = Shelf(self.run)
        self.collector = Collector(self.history, store, BEGAN + 10_000)
        self.answer = Answer(store, wait_stored=wait_stored, actor=self.history.graph.actor, collector=self.collector)
        self.app = console(
            asker=self.answer, crowd=(everyone := Everyone(self.answer, shelf.used)), shelf=shelf,
            exporter=Exports(self.answer, everyone, store), at_once=AT_ONCE,
            access=self.keys, health=lambda: self.health, statistics=statistics,
            collector="http://127.0.0.1:7080",
        )  # fmt: skip
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(
            transport=transport, base_url="http://localhost:7081", headers={"Authorization": "Bearer read-key"}
        )


_opened: Console | None = None
_emptied = 0
_projects = itertools.count(PROJECT + 100)


def world() -> History:
    history = History(PROJECT)
    history.track("page_view", anonymous="anon-1", at=BEGAN, properties='{"path": "/pricing"}', platform="web")
    history.track("scroll", anonymous="anon-1", at=BEGAN + 1000, properties='{"percent": 72}', transport="udp")
    history.track(
        "<img src=x onerror=alert(1)>", anonymous="anon-1", at=BEGAN + 2000,
        properties=json.dumps({text: text for text in HOSTILE}), context='{"page": {"path": "<b>"}}',
    )  # fmt: skip
    history.identify(
        "user_123", "anon-1", at=BEGAN + 3000,
        traits=[("plan", "set", '"free"'), ("<script>", "set", '"</script><script>alert(2)</script>"')],
    )  # fmt: skip
    history.track(
        "order_completed",
        user="user_123",
        at=BEGAN + 4000,
        properties='{"total": 416.21, "currency": "USD"}',
        platform="server",
    )
    history.identify("bob", "anon-1", at=BEGAN + 86_400_000)
    for text in HOSTILE:
        history.track("page_view", anonymous=f"odd {text}", at=BEGAN - 86_400_000)
    history.track("crawl", anonymous="robot", at=BEGAN, bot=1)
    return history


@asynccontextmanager
async def opened():
    """The console over one made world, which is stored once a file of tests."""
    global _opened, _emptied
    store = await opened_store()
    if _opened is None or _emptied != engine.emptied:
        history = world()
        await insert(store, history)
        _opened, _emptied = Console(history), engine.emptied
    _opened.keys = Keys()
    _opened.stored = Stored(BEGAN, complete=True)
    _opened.health = Health(True)
    async with await _opened.open() as client:
        yield _opened, client


@asynccontextmanager
async def joined():
    """A console of its own over a small world, for tests that change it. ann's phone is also bob's; cat is alone."""
    history = History(next(_projects))
    history.track("page_view", anonymous="phone", at=BEGAN)
    history.identify("ann", "phone", at=BEGAN + 1000, traits=[("plan", "set", '"pro"')])
    history.alias("ann", "bob", at=BEGAN + 2000, secret=True)
    history.identify("bob", "laptop", at=BEGAN + 3000, traits=[("plan", "set", '"free"')])
    history.track("page_view", user="cat", at=BEGAN + 4000)
    history.track("page_view", anonymous="visitor", at=BEGAN + 5000)
    await insert(await opened_store(), history)
    made = Console(history)
    async with await made.open() as client:
        yield made, client


def ids_of(person: dict) -> list[str]:
    return sorted(one["id"] for one in person["ids"])


class Page(HTMLParser):
    """A page's elements, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and class_ in ["", *(attrs.get("class") or "").split()]
        ]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


ALLOWED = {
    *("html", "head", "meta", "title", "link", "body", "header", "a", "svg", "path", "circle", "b", "nav", "span"),
    *("form", "button", "main", "p", "div", "h1", "h2", "dl", "dt", "dd", "time", "aside", "section", "ul", "ol", "li"),
    *(
        "details",
        "summary",
        "bdi",
        "input",
        "label",
        "select",
        "optgroup",
        "option",
        "code",
        "pre",
        "i",
        "s",
        "em",
        "article",
    ),
}


def harmless(page: Page) -> None:
    """Nothing that strangers wrote became an element, and nothing comes from elsewhere."""
    assert {name for name, _ in page.elements} <= ALLOWED
    for _, attrs in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attrs)
        for name in ("href", "src", "action"):
            if (value := attrs.get(name)) is not None:
                assert value.startswith("/")
                assert not value.startswith("//")
