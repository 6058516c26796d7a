"""The console's application over a real store: what programs get, what browsers get, and what either may not."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest
import trio
from engine import opened_store
from histories import History, insert
from hypercorn.config import Config
from hypercorn.trio import serve

from pugd.answer import Answer, Stored
from pugd.errors import ControlError, StoreError, StoreUnavailableError
from pugd.model import Project
from pugd.web.app import Health, console

PROJECT = 500_000
BEGAN = 1_700_000_000_000
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

    async def check_read_key(self, key: str) -> Project | None:
        if self.away:
            raise ControlError("Postgres is away: try again")
        return Project(PROJECT, "Shop", "Europe/Berlin") if key == "read-key" else None

    async def redeem_login(self, token: str) -> str | None:
        return self.logins.pop(token, None)

    async def check_session(self, session: str) -> Project | None:
        return Project(PROJECT, "Shop", "Europe/Berlin") if session in self.sessions else None

    async def end_session(self, session: str) -> None:
        self.sessions.discard(session)

    async def write_key(self, project: int) -> str | None:
        return "pub'key"


class Console:
    """One application and what stands behind it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.keys = Keys()
        self.stored = Stored(BEGAN, complete=True)
        self.health = Health(True)
        self.answer: Answer | None = None
        self.statistics: dict[str, object] = {}

    async def open(self) -> httpx.AsyncClient:
        async def wait_stored() -> Stored:
            return self.stored

        async def statistics() -> dict[str, object]:
            return self.statistics

        self.answer = Answer(await opened_store(), wait_stored=wait_stored, actor=self.history.graph.actor)
        self.app = console(
            asker=self.answer, access=self.keys, health=lambda: self.health, statistics=statistics,
            collector="http://127.0.0.1:7080",
        )  # fmt: skip
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(
            transport=transport, base_url="http://localhost:7081", headers={"Authorization": "Bearer read-key"}
        )


_opened: Console | None = None


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
    """The console over one made world, which is stored once."""
    global _opened
    if _opened is None:
        history = world()
        await insert(await opened_store(), history)
        _opened = Console(history)
    _opened.keys = Keys()
    _opened.stored = Stored(BEGAN, complete=True)
    _opened.health = Health(True)
    async with await _opened.open() as client:
        yield _opened, client


# Programs.


async def test_shapes_are_those_that_programs_rely_on():
    async with opened() as (made, client):
        listed = (await client.get("/v1/people?search=user_123")).json()
        assert list(listed) == ["people", "count", "next", "asked_at", "left_out"]
        (person,) = listed["people"]
        assert list(person) == [
            "id", "user_id", "user_ids", "ids", "ids_count", "traits", "first_seen", "last_seen", "events"
        ]  # fmt: skip
        assert person["id"] == f"p_{made.history.actor('user_123'):016x}"
        assert list(person["ids"][0]) == ["id", "kind", "first_seen", "last_seen"]
        one = (await client.get("/v1/people?distinct_id=anon-1")).json()
        assert one["person"] == person
        assert list(one) == ["person", "asked_at"]
        timeline = (await client.get("/v1/timeline?distinct_id=anon-1")).json()
        assert list(timeline) == ["person", "entries", "next", "asked_at", "left_out"]
        common = [
            "id", "type", "occurred_at", "received_at", "event_id", "user_id", "anonymous_id", "transport", "platform",
            "session_id", "summary",
        ]  # fmt: skip
        shapes = {entry["type"]: list(entry) for entry in timeline["entries"]}
        assert shapes == {
            "event": [*common, "event", "properties", "context"],
            "traits": [*common, "changes"],
            "link": [*common, "a", "b", "call", "refused"],
        }
        summaries = [entry["summary"] for entry in timeline["entries"] if entry["type"] == "event"]
        assert summaries[0] == "order_completed USD 416.21"
        assert summaries[-2:] == ["scroll 72 %", "page_view /pricing"]
        times = [entry["occurred_at"] for entry in timeline["entries"]]
        assert times == sorted(times, reverse=True)
        assert times[-1] == "2023-11-14T22:13:20.000Z"


async def test_every_actor_answers_with_its_person():
    async with opened() as (made, client):
        canonical = f"p_{made.history.actor('user_123'):016x}"
        other = f"p_{made.history.actor('anon-1'):016x}"
        assert (await client.get(f"/v1/people/{other}")).json()["person"]["id"] == canonical
        assert (await client.get(f"/v1/people/{other.upper().replace('P_', 'p_')}")).status_code == 200
        by_id = (await client.get(f"/v1/people/{other}/timeline")).json()
        assert by_id["entries"] == (await client.get("/v1/timeline?distinct_id=user_123")).json()["entries"]


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/v1/people?sort=height", 400, "invalid_sort", "sort"),
        ("/v1/people?limit=0", 400, "invalid_limit", "limit"),
        ("/v1/people?limit=1001", 400, "invalid_limit", "limit"),
        ("/v1/people?limit=١", 400, "invalid_limit", "limit"),
        ("/v1/people?limit=" + "9" * 5000, 400, "invalid_limit", "limit"),
        ("/v1/people?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        ("/v1/people?identified=perhaps", 400, "invalid_identified", "identified"),
        ("/v1/people?stale=yes", 400, "invalid_stale", "stale"),
        ("/v1/people?Sort=events", 400, "unknown_parameter", "Sort"),
        ("/v1/people?limit=5&limit=6", 400, "invalid_parameter", "limit"),
        ("/v1/people?search=" + "x" * 1001, 400, "invalid_parameter", "search"),
        ("/v1/people?distinct_id=", 400, "invalid_parameter", "distinct_id"),
        ("/v1/people?distinct_id=a&limit=5", 400, "unknown_parameter", "limit"),
        ("/v1/people?distinct_id=" + "é" * 257, 400, "invalid_parameter", "distinct_id"),
        ("/v1/people?distinct_id=nobody", 404, "not_found", None),
        ("/v1/people/nobody", 404, "not_found", None),
        ("/v1/people/p_0000000000000001", 404, "not_found", None),
        ("/v1/people/p_+000000000000001", 404, "not_found", None),
        ("/v1/people/p_00000000_0000001", 404, "not_found", None),
        ("/v1/timeline", 400, "invalid_parameter", "distinct_id"),
        ("/v1/timeline?distinct_id=robot", 404, "not_found", None),
        ("/v1/timeline?distinct_id=user_123&order=sideways", 400, "invalid_order", "order"),
        ("/v1/timeline?distinct_id=user_123&from=yesterday", 400, "invalid_from", "from"),
        ("/v1/timeline?distinct_id=user_123&to=2026-02-30", 400, "invalid_to", "to"),
        ("/v1/timeline?distinct_id=user_123&cursor=forged", 400, "invalid_cursor", "cursor"),
        ("/v1/nothing", 404, "not_found", None),
    ],
)
async def test_what_is_wrong_is_named(path, status, code, field):
    async with opened() as (_, client):
        answer = await client.get(path)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert list(error) == ["code", "message", "field"]
        assert (error["code"], error["field"]) == (code, field)
        assert error["message"]


async def test_only_reading():
    async with opened() as (_, client):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = await client.request(method, "/v1/people")
            assert answer.status_code == 405
            assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_hostile_text_finds_itself_and_nothing_else():
    async with opened() as (_, client):
        everyone = (await client.get("/v1/people")).json()["count"]
        for text in HOSTILE:
            asked = quote(text, safe="")
            found = await client.get(f"/v1/people?limit=1000&search={asked}")
            assert found.status_code == 200, text
            ids = [one["id"] for person in found.json()["people"] for one in person["ids"]]
            assert f"odd {text}" in ids, text
            one = await client.get(f"/v1/people?distinct_id={quote('odd ' + text, safe='')}")
            assert one.json()["person"]["ids"][0]["id"] == f"odd {text}"
            entries = (await client.get(f"/v1/timeline?distinct_id=user_123&search={asked}")).json()["entries"]
            assert any(entry["type"] == "event" and text in entry["properties"] for entry in entries), text
            for path in (
                f"/v1/timeline?distinct_id=user_123&event={asked}",
                f"/v1/timeline?distinct_id=user_123&from={asked}",
                f"/v1/timeline?distinct_id=user_123&cursor={asked}",
                f"/v1/timeline?distinct_id=user_123&order={asked}",
                f"/v1/people?sort={asked}",
                f"/v1/people/{asked}",
                f"/v1/people/{asked}/timeline",
                f"/v1/people?{asked}=1",
            ):
                answer = await client.get(path)
                assert answer.status_code in (200, 400, 404), (path, answer.text)
                assert answer.json().get("entries", []) == []
        assert (await client.get("/v1/people")).json()["count"] == everyone


async def test_properties_come_back_as_they_were_sent():
    async with opened() as (_, client):
        entries = (await client.get("/v1/timeline?distinct_id=user_123")).json()["entries"]
        (odd,) = [entry for entry in entries if entry.get("event", "").startswith("<img")]
        assert odd["properties"] == {text: text for text in HOSTILE}


async def test_a_project_never_sees_another():
    async with opened() as (_, client):
        other = History(PROJECT + 1)
        other.track("page_view", anonymous="elsewhere", at=BEGAN)
        await insert(await opened_store(), other)
        for path in ("/v1/people?distinct_id=elsewhere", f"/v1/people/p_{other.actor('elsewhere'):016x}"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/v1/people?search=elsewhere")).json()["count"] == 0


# Who may.


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic read-key", "Bearer " + "x" * 5000])
async def test_programs_need_a_read_key(header):
    async with opened() as (_, client):
        answer = await client.get("/v1/people", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_login_link_works_once_and_its_cookie_is_kept_from_scripts_and_other_sites():
    async with opened() as (made, client):
        del client.headers["Authorization"]
        assert (await client.get("/people")).status_code == 401
        assert "pugd login" in (await client.get("/people")).text
        assert (await client.head("/login?token=once")).status_code == 403
        answer = await client.get("/login?token=once&next=/people%3Fsort%3Devents")
        assert (answer.status_code, answer.headers["location"]) == (303, "/people?sort=events")
        cookie = answer.headers["set-cookie"].lower()
        assert cookie.startswith("pugd_7081=session-1;")
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert (await client.get("/people")).status_code == 200
        assert (await client.get("/v1/people")).status_code == 200
        again = await client.get("/login?token=once")
        assert again.status_code == 403
        assert "set-cookie" not in again.headers
        elsewhere = await client.post("/logout", headers={"Origin": "https://evil.example"})
        assert elsewhere.status_code == 303
        assert "session-1" in made.keys.sessions
        await client.post("/logout", headers={"Origin": "http://localhost:7081"})
        assert made.keys.sessions == {"session-2"}
        assert (await client.get("/people")).status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\n/x",
        "",
    ],
)
async def test_a_login_leads_nowhere_else(target):
    async with opened() as (_, client):
        answer = await client.get(f"/login?token=once&next={quote(target, safe='')}")
        assert answer.headers["location"] == "/people"


# When something is away.


async def test_a_store_that_is_behind():
    async with opened() as (made, client):
        made.stored = Stored(BEGAN, complete=False)
        answer = await client.get("/v1/people")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
        assert int(answer.headers["retry-after"]) > 0
        for path in ("/v1/people", "/v1/people?distinct_id=user_123", "/v1/timeline?distinct_id=user_123"):
            answer = await client.get(path + ("&" if "?" in path else "?") + "stale=ok")
            assert answer.json()["stored_until"] == "2023-11-14T22:13:20.000Z"
        assert "The store is behind" in (await client.get("/people")).text
        assert made.answer.statistics().stale == 4


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailableError("ClickHouse is away"), 503, "unavailable"),
        (StoreError("Syntax error near secret"), 500, "store_failed"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
async def test_faults_are_told_apart_and_tell_no_secrets(error, status, code):
    async with opened() as (made, client):

        async def fail(*_: object, **__: object) -> None:
            raise error

        made.answer.people = fail
        answer = await client.get("/v1/people")
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == code
        assert "secret" not in answer.text
        page = await client.get("/people")
        assert page.status_code == status
        assert "secret" not in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_control_away():
    async with opened() as (made, client):
        made.keys.away = True
        assert (await client.get("/v1/people")).status_code == 503
        assert (await client.get("/people")).status_code == 503


async def test_health_and_metrics():
    async with opened() as (made, client):
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).json() == {"ready": True, "reasons": {}}
        made.health = Health(False, {"starting": "opening ClickHouse"})
        assert (await client.get("/health/ready")).status_code == 503
        made.statistics = {
            "answer": made.answer.statistics(),
            "collector": {
                "edge": {"requests": 5, "connections": 2, "refused": {'a"\\\n': 3}},
                "name": "x",
                "none": None,
            },
            "journal": {"refused_disk": 1, "refused_pending": 2, "held_bytes": 3, "oldest": 4, "failed": True},
        }
        lines = (await client.get("/metrics", headers={"Authorization": ""})).text.splitlines()
        assert "# TYPE pugd_answer_questions_total counter" in lines
        assert "pugd_collector_edge_requests_total 5" in lines
        assert "# TYPE pugd_collector_edge_connections gauge" in lines
        assert 'pugd_collector_edge_refused_total{of="a\\"\\\\\\n"} 3' in lines
        assert "pugd_journal_refused_disk_total 1" in lines
        assert "pugd_journal_refused_pending_total 2" in lines
        assert "# TYPE pugd_journal_held_bytes gauge" in lines
        assert "# TYPE pugd_journal_oldest gauge" in lines
        assert "pugd_journal_failed 1" in lines


async def test_events_sent_to_the_wrong_port_are_shown_the_right_one():
    async with opened() as (_, client):
        answer = await client.post("/v1/track", json={"event": "scroll", "anonymousId": "anon-1"})
        assert answer.status_code == 404
        assert "send events to http://" in answer.json()["error"]["message"]


# Pages.


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
    *("details", "summary", "bdi", "input", "label", "select", "option", "code", "pre", "i", "s", "em"),
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


async def test_the_list():
    async with opened() as (_, client):
        answer = await client.get("/people?limit=2&sort=-events")
        page = Page(answer.text)
        harmless(page)
        assert "user_123" in page.text
        assert len(page.of("a", "who")) == 2
        (following,) = [link["href"] for link in page.of("a") if link.get("rel") == "next"]
        assert "sort=-events" in following
        seen = [link["href"] for link in page.of("a", "who")]
        while following:
            page = Page((await client.get(following)).text)
            seen += [link["href"] for link in page.of("a", "who")]
            following = next((link["href"] for link in page.of("a") if link.get("rel") == "next"), None)
        count = (await client.get("/v1/people")).json()["count"]
        assert len(seen) == len(set(seen)) == count
        nobody = Page((await client.get("/people?search=%3Cb%3Enobody")).text)
        harmless(nobody)
        assert "Nobody matches" in nobody.text
        assert {"search": "<b>nobody"}.items() <= {i["name"]: i["value"] for i in nobody.of("input")}.items()


async def test_a_timeline():
    async with opened() as (made, client):
        canonical = f"p_{made.history.actor('user_123'):016x}"
        redirect = await client.get(f"/people/p_{made.history.actor('anon-1'):016x}?order=asc")
        assert (redirect.status_code, redirect.headers["location"]) == (303, f"/people/{canonical}?order=asc")
        redirect = await client.get("/people?distinct_id=anon-1")
        assert redirect.headers["location"] == f"/people/{canonical}"
        page = Page((await client.get(f"/people/{canonical}")).text)
        harmless(page)
        for text in (
            "user_123",
            "anon-1",
            "scroll 72 %",
            "order_completed USD 416.21",
            "History joined here",
            "Not joined",
        ):
            assert text in page.text, text
        assert "<img src=x onerror=alert(1)>" in page.text
        assert "</script><script>alert(2)</script>" in page.text
        assert "\u202egnp.exe" in page.text
        # The project's day and hour: 22:13 UTC is 23:13 in Berlin.
        assert "23:13:20" in page.text
        assert [time["datetime"] for time in page.of("time") if len(time["datetime"]) == 10] == [
            "2023-11-15",
            "2023-11-14",
        ]
        assert len(page.of("div", "run")) == 2
        assert len(page.of("details", "refused")) == 1
        filtered = Page((await client.get(f"/people/{canonical}?search=416.21&event=&from=&to=")).text)
        assert "scroll" not in filtered.text
        for path in (f"/people/{canonical}?from=nonsense", "/people/p_00", "/people/p_0000000000000002", "/nothing"):
            wrong = await client.get(path)
            assert wrong.status_code in (400, 404)
            harmless(Page(wrong.text))


async def test_a_newcomer_is_told_how_to_begin():
    async with opened() as (made, client):

        async def nobody(key: str) -> Project:
            return Project(PROJECT + 2, "Empty")

        made.keys.check_read_key = nobody
        page = Page((await client.get("/people")).text)
        harmless(page)
        assert "curl http://127.0.0.1:7080/v1/track -u 'pub'\"'\"'key:'" in page.text


async def test_static_files_are_ours_and_nothing_more():
    async with opened() as (_, client):
        for path in ("/static/console.css", "/static/icon.svg"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
            assert "url(" not in answer.text
        for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/"):
            assert (await client.get(path)).status_code == 404


async def test_every_answer_keeps_a_browser_to_ourselves():
    async with opened() as (_, client):
        for path in (
            "/people",
            "/v1/people",
            "/nothing",
            "/v1/nothing",
            "/health/live",
            "/metrics",
            "/static/console.css",
        ):
            headers = (await client.get(path)).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert "script-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


async def test_served_by_hypercorn():
    async with opened() as (made, _):
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.accesslog = config.errorlog = None
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve, made.app, config)
            async with httpx.AsyncClient(headers={"Authorization": "Bearer read-key"}) as real:
                answer = await real.get(f"{address}/v1/people?search=user_123")
                assert answer.json()["count"] == 1
                assert (await real.get(f"{address}/people?search=%3Cb%3E")).status_code == 200
                assert (await real.get(f"{address}/static/console.css")).status_code == 200
            nursery.cancel_scope.cancel()
