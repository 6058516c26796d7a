"""The console's application over a real store: what programs get, what browsers get, and what either may not."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import quote

import engine
import httpx
import pytest
import trio
from engine import opened_store
from histories import Collector, History, insert
from hypercorn.config import Config
from hypercorn.trio import serve

from pugd.answer import Answer, Stored
from pugd.control.shelf import Shelf
from pugd.errors import ControlError, StoreError, StoreUnavailableError
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
        assert list(one) == ["person", "links_refused", "asked_at"]
        assert one["links_refused"] == 1
        timeline = (await client.get("/v1/timeline?distinct_id=anon-1")).json()
        assert list(timeline) == ["person", "entries", "next", "asked_at", "left_out"]
        common = [
            "id", "type", "occurred_at", "received_at", "event_id", "user_id", "anonymous_id", "transport", "platform",
            "session_id", "summary",
        ]  # fmt: skip
        shapes = {entry["type"]: list(entry) for entry in timeline["entries"]}
        assert shapes == {
            "event": [*common, "event", "properties", "context", "country", "region", "city"],
            "traits": [*common, "changes"],
            "link": [*common, "a", "b", "call", "refused", "again"],
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
        ("/v1/timeline?distinct_id=user_123&as_of=event", 400, "invalid_as_of", "as_of"),
        ("/v1/people?as_of=2026-02-30", 400, "invalid_as_of", "as_of"),
        ("/v1/people?distinct_id=user_123&as_of=now", 400, "invalid_as_of", "as_of"),
        ("/v1/people/p_0000000000000001?as_of=now", 400, "invalid_as_of", "as_of"),
        ("/v1/identity/refusals?limit=0", 400, "invalid_limit", "limit"),
        ("/v1/identity/refusals?cursor=forged", 400, "invalid_cursor", "cursor"),
        ("/v1/identity/refusals?distinct_id=nobody", 404, "not_found", None),
        ("/v1/identity/refusals?sort=order", 400, "unknown_parameter", "sort"),
        ("/v1/identity/explain", 400, "invalid_parameter", "a"),
        ("/v1/identity/explain?a=anon-1", 400, "invalid_parameter", "b"),
        ("/v1/identity/explain?a=anon-1&b=", 400, "invalid_parameter", "b"),
        ("/v1/identity/explain?a=anon-1&b=user_123&stale=ok", 400, "unknown_parameter", "stale"),
        ("/v1/identity/explain?a=anon-1&b=nobody", 404, "unknown_id", "b"),
        ("/v1/identity/explain?a=nobody&b=nobody", 404, "unknown_id", "a"),
        ("/v1/identity/explain?a=anon-1&b=bob", 404, "not_linked", None),
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


async def test_traits_as_they_were():
    async with opened() as (made, client):
        moment = "2023-11-14T22:13:23.000Z"
        person = f"p_{made.history.actor('user_123'):016x}"
        for path in ("/v1/people?distinct_id=anon-1", f"/v1/people/{person}?", "/v1/timeline?distinct_id=user_123"):
            now = (await client.get(path)).json()
            assert "as_of" not in now
            found = (await client.get(f"{path}&as_of={moment}")).json()
            assert (found["as_of"], found["person"]) == (moment, now["person"])
            assert found.get("entries") == now.get("entries")
            before = (await client.get(f"{path}&as_of=2023-11-14T22:13:22.999Z")).json()
            assert before["person"] == {**now["person"], "traits": {}}
            # Midnight in Berlin is an hour before midnight in Greenwich, and 47 minutes after.
            assert (await client.get(f"{path}&as_of=2023-11-15")).json()["as_of"] == "2023-11-14T23:00:00.000Z"
        for as_of, count in (("2023-11-14", 0), ("2023-11-15", 1)):
            listed = (await client.get(f"/v1/people?search=free&as_of={as_of}")).json()
            assert listed["count"] == count
            assert [one["traits"]["plan"] for one in listed["people"]] == ["free"] * count


async def test_why_two_ids_are_one_person():
    async with opened() as (made, client):
        found = (await client.get("/v1/identity/explain?a=user_123&b=anon-1")).json()
        assert list(found) == ["a", "b", "links", "person", "asked_at"]
        (link,) = found.pop("links")
        del found["asked_at"]
        assert found == {"a": "user_123", "b": "anon-1", "person": f"p_{made.history.actor('user_123'):016x}"}
        assert list(link) == [
            "order", "call", "a", "b", "occurred_at", "received_at", "transport", "platform", "event_id"
        ]  # fmt: skip
        assert (link["call"], link["a"], link["b"]) == ("identify", "anon-1", "user_123")
        assert link["occurred_at"] == "2023-11-14T22:13:23.000Z"
        itself = (await client.get("/v1/identity/explain?a=anon-1&b=anon-1")).json()
        assert (itself["links"], itself["person"]) == ([], found["person"])
        told = (await client.get("/v1/identity/explain?a=anon-1&b=bob")).json()["error"]["message"]
        for part in (found["person"], "user_123", f"p_{made.history.actor('bob'):016x}", "'bob'"):
            assert part in told
        made.collector.away = True
        away = await client.get("/v1/identity/explain?a=user_123&b=anon-1")
        assert (away.status_code, away.json()["error"]["code"]) == (503, "unavailable")
        assert int(away.headers["retry-after"]) > 0


async def test_what_was_refused():
    async with opened() as (_, client):
        found = (await client.get("/v1/identity/refusals")).json()
        assert list(found) == ["refusals", "counts", "next", "asked_at"]
        (refused,) = found["refusals"]
        assert list(refused)[-1] == "refused"
        assert (refused["a"], refused["b"], refused["refused"]) == ("anon-1", "bob", "both_identified")
        assert found["counts"] == {"both_identified": 1}
        for id_, count in (("anon-1", 1), ("user_123", 1), ("bob", 1), ("odd *", 0)):
            one = (await client.get(f"/v1/identity/refusals?distinct_id={id_}")).json()
            assert (len(one["refusals"]), sum(one["counts"].values())) == (count, count)


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


# Taking apart and merging.


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


async def test_two_ids_are_taken_apart():
    async with joined() as (made, client):
        before = (await client.get("/v1/people?distinct_id=phone")).json()["person"]
        assert ids_of(before) == ["ann", "bob", "laptop", "phone"]
        body = {"a": "ann", "b": "bob"}
        foretold = (await client.post("/v1/identity/unlink", json={**body, "dry_run": True})).json()
        assert list(foretold) == ["persons", "removed", "left_out", "order", "dry_run", "asked_at"]
        assert (foretold["order"], foretold["dry_run"]) == (None, True)
        assert (await client.get("/v1/people?distinct_id=phone")).json()["person"] == before
        done = (await client.post("/v1/identity/unlink", json=body)).json()
        assert (done["persons"], done["removed"]) == (foretold["persons"], foretold["removed"])
        assert [ids_of(one) for one in done["persons"]] == [["ann", "phone"], ["bob", "laptop"]]
        assert [one["traits"]["plan"] for one in done["persons"]] == ["pro", "free"]
        (removed,) = done["removed"]
        assert (removed["call"], removed["a"], removed["b"]) == ("alias", "ann", "bob")
        assert done["left_out"] == []
        for id_, person in (("phone", done["persons"][0]), ("laptop", done["persons"][1])):
            assert (await client.get(f"/v1/people?distinct_id={id_}")).json()["person"] == person
            timeline = (await client.get(f"/v1/timeline?distinct_id={id_}")).json()
            (entry,) = [one for one in timeline["entries"] if one.get("call") == "unlink"]
            assert entry["id"] == f"link:{done['order']}"
            assert (entry["a"], entry["b"], entry["refused"], entry["transport"]) == ("ann", "bob", None, "console")
            assert (entry["event_id"], entry["summary"]) == ("", "unlink ann from bob")
        # What the person was called before answers still, with whoever owns it now.
        for name in ("ann", "phone", "bob", "laptop"):
            old = f"p_{made.history.actor(name):016x}"
            owner = done["persons"][0 if name in ("ann", "phone") else 1]["id"]
            assert (await client.get(f"/v1/people/{old}")).json()["person"]["id"] == owner
        why = await client.get("/v1/identity/explain?a=phone&b=laptop")
        assert (why.status_code, why.json()["error"]["code"]) == (404, "not_linked")
        again = await client.post("/v1/identity/unlink", json=body)
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_linked")
        made.history.identify("ann", "laptop", at=BEGAN + 9000)
        await insert(await opened_store(), made.history)
        (refused,) = (await client.get("/v1/identity/refusals?distinct_id=laptop")).json()["refusals"]
        assert refused["refused"] == "unlinked_by_hand"
        merged = (await client.post("/v1/identity/merge", json=body)).json()
        assert list(merged) == ["person", "order", "asked_at"]
        assert ids_of(merged["person"]) == ids_of(before)
        assert merged["order"] > done["order"]
        for name in ("ann", "phone", "bob", "laptop"):
            timeline = (await client.get(f"/v1/people/p_{made.history.actor(name):016x}/timeline")).json()
            assert timeline["person"] == merged["person"]
            assert [one["call"] for one in timeline["entries"] if one.get("transport") == "console"] == [
                "merge", "unlink"
            ]  # fmt: skip


async def test_one_id_is_taken_out_of_its_person():
    async with joined() as (_, client):
        done = (await client.post("/v1/identity/unlink", json={"distinct_id": "ann"})).json()
        assert sorted(map(ids_of, done["persons"])) == [["ann"], ["bob", "laptop"], ["phone"]]
        assert [(one["a"], one["b"]) for one in done["removed"]] == [("phone", "ann"), ("ann", "bob")]
        for id_ in ("ann", "phone", "laptop"):
            entries = (await client.get(f"/v1/timeline?distinct_id={id_}")).json()["entries"]
            (entry,) = [one for one in entries if one.get("call") == "unlink"]
            assert (entry["a"], entry["b"], entry["summary"]) == ("ann", None, "unlink ann from all others")
        entries = (await client.get("/v1/timeline?distinct_id=cat")).json()["entries"]
        assert [one["type"] for one in entries] == ["event"]


async def test_a_visitor_of_whom_no_call_said_who_it_is_can_be_merged():
    async with joined() as (_, client):
        merged = (await client.post("/v1/identity/merge", json={"a": "visitor", "b": "cat"})).json()
        assert ids_of(merged["person"]) == ["cat", "visitor"]
        assert (merged["person"]["user_id"], merged["person"]["events"]) == ("cat", 2)
        again = (await client.post("/v1/identity/merge", json={"a": "cat", "b": "visitor"})).json()
        assert (again["order"], again["person"]) == (None, merged["person"])


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("unlink", b"", 400, "invalid_json", None),
        ("unlink", b"[]", 400, "invalid_json", None),
        ("unlink", b"{", 400, "invalid_json", None),
        ("unlink", b'{"a": "\\ud800", "b": "ann"}', 400, "invalid_json", None),
        ("unlink", b"\xff", 400, "invalid_json", None),
        ("unlink", b"[" * 60_000, 400, "invalid_json", None),
        ("unlink", {}, 400, "missing_field", "a"),
        ("unlink", {"a": "ann"}, 400, "missing_field", "b"),
        ("unlink", {"a": "ann", "b": None}, 400, "missing_field", "b"),
        ("unlink", {"a": "ann", "b": ""}, 400, "invalid_field", "b"),
        ("unlink", {"a": "ann", "b": "x" * 513}, 400, "invalid_field", "b"),
        ("unlink", {"a": "ann", "b": ["bob"]}, 400, "invalid_field", "b"),
        ("unlink", {"a": "ann", "b": True}, 400, "invalid_field", "b"),
        ("unlink", {"a": "ann", "b": "bob", "dry_run": "yes"}, 400, "invalid_field", "dry_run"),
        ("unlink", {"a": "ann", "b": "bob", "dryrun": True}, 400, "invalid_field", "dryrun"),
        ("unlink", {"distinct_id": "ann", "b": "bob"}, 400, "invalid_field", "b"),
        ("unlink", {"distinct_id": "nobody"}, 404, "unknown_id", "distinct_id"),
        ("unlink", {"distinct_id": "cat"}, 404, "not_linked", None),
        ("unlink", {"a": "ann", "b": "nobody"}, 404, "unknown_id", "b"),
        ("unlink", {"a": "ann", "b": "cat"}, 404, "not_linked", None),
        ("unlink", {"a": "ann", "b": "ann"}, 400, "self_link", None),
        ("merge", {"a": "ann"}, 400, "missing_field", "b"),
        ("merge", {"a": "ann", "b": "bob", "dry_run": True}, 400, "invalid_field", "dry_run"),
        ("merge", {"a": "nobody", "b": "ann"}, 404, "unknown_id", "a"),
        ("merge", {"a": "ann", "b": "ann"}, 400, "self_link", None),
        ("merge", b"{" + b" " * 65_536 + b"}", 413, "too_large", None),
    ],
)
async def test_what_is_wrong_with_a_body_is_named_and_nothing_is_done(path, body, status, code, field):
    async with joined() as (made, client):
        before = len(made.history.world.links)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = await client.post(f"/v1/identity/{path}", content=content, headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (status, code, field)
        assert error["message"]
        assert not [link for link in made.history.world.links[before:] if not link["refused"]]


async def test_an_illegal_id_and_too_many_ids_are_refused():
    async with joined() as (made, client):
        made.history.track("page_view", anonymous="null", at=BEGAN)
        for number in range(498):
            made.history.identify("cat", f"device-{number}", at=BEGAN)
        await insert(await opened_store(), made.history)
        for a, b, status, code in (("null", "ann", 400, "illegal_id"), ("cat", "ann", 409, "too_many_ids")):
            answer = await client.post("/v1/identity/merge", json={"a": a, "b": b})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        counts = (await client.get("/v1/identity/refusals")).json()["counts"]
        assert counts == {"illegal_id": 1, "too_many_ids": 1}


async def test_numbers_are_ids_as_when_they_are_sent():
    async with joined() as (made, client):
        made.history.identify("42", "tablet", at=BEGAN)
        await insert(await opened_store(), made.history)
        done = (await client.post("/v1/identity/unlink", json={"a": 42, "b": "tablet"})).json()
        assert [ids_of(one) for one in done["persons"]] == [["42"], ["tablet"]]


async def test_a_body_must_say_that_it_is_json():
    async with joined() as (_, client):
        body = json.dumps({"a": "ann", "b": "bob"}).encode()
        for type_ in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
            answer = await client.post("/v1/identity/unlink", content=body, headers={"Content-Type": type_})
            assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        for method in ("GET", "PUT", "DELETE"):
            answer = await client.request(method, "/v1/identity/unlink")
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert "POST" in answer.json()["error"]["message"]


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://localhost:7081", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
]
OURS = [{"Origin": "http://localhost:7081"}, {"Sec-Fetch-Site": "same-origin"}, {}]


async def test_with_a_login_only_our_own_pages_change_anything():
    async with joined() as (made, client):
        person = f"p_{made.history.actor('ann'):016x}"
        del client.headers["Authorization"]
        made.keys.project = made.history.project
        client.cookies.set("pugd_7081", "session-1")
        form = {"a": "ann", "b": "bob"}
        before = len(made.history.world.links)
        for headers in FOREIGN:
            for path in ("/v1/identity/unlink", "/v1/identity/merge"):
                answer = await client.post(path, json=form, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            for path in (f"/people/{person}/unlink", f"/people/{person}/merge"):
                answer = await client.post(path, data=form, headers=headers)
                assert answer.status_code == 403
                harmless(Page(answer.text))
            assert (await client.get("/v1/people", headers=headers)).status_code == 200
        assert len(made.history.world.links) == before
        for headers in OURS:
            assert (await client.post("/v1/identity/unlink", json=form, headers=headers)).status_code == 200
            answer = await client.post(f"/people/{person}/merge", data=form, headers=headers)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/people/{person}")
        client.cookies.clear()
        for path in ("/v1/identity/unlink", f"/people/{person}/unlink"):
            assert (await client.post(path, json=form)).status_code == 401


async def test_a_program_with_a_key_may_come_from_anywhere():
    async with joined() as (_, client):
        for headers in FOREIGN[:1]:
            answer = await client.post("/v1/identity/unlink", json={"a": "ann", "b": "bob"}, headers=headers)
            assert answer.status_code == 200


async def test_the_collector_is_away_or_the_store_is_behind():
    async with joined() as (made, client):
        body = {"a": "ann", "b": "bob"}
        made.collector.away = True
        for path in ("unlink", "merge"):
            answer = await client.post(f"/v1/identity/{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        made.collector.away = False
        made.stored = Stored(BEGAN, complete=False)
        before = len(made.history.world.links)
        assert (await client.post("/v1/identity/unlink", json=body)).status_code == 503
        assert len(made.history.world.links) == before, "nothing is done that cannot be told"


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
        offered = [option["value"] for option in page.of("option")]
        assert "-events" in offered
        assert "-trait:plan" in [option["value"] for option in Page((await client.get("/people")).text).of("option")]
        first = Page((await client.get("/people?limit=1&sort=-trait:plan")).text)
        harmless(first)
        assert [option["value"] for option in first.of("option") if "selected" in option] == ["-trait:plan"]
        (listed,) = first.of("a", "who")
        (wanted,) = (await client.get("/v1/people?limit=1&sort=-trait:plan")).json()["people"]
        assert listed["href"] == f"/people/{wanted['id']}"
        assert wanted["traits"]["plan"]
        odd = "/people?sort=trait:" + quote('["a.b","<b>"]', safe="")
        harmless(Page((await client.get(odd)).text))
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


async def test_pages_explain_unlink_and_merge():
    async with joined() as (made, client):
        person = f"p_{made.history.actor('ann'):016x}"
        page = Page((await client.get(f"/people/{person}")).text)
        harmless(page)
        unlink = [link["href"] for link in page.of("a") if "/unlink" in (link["href"] or "")]
        assert unlink == [f"/people/{person}/unlink?distinct_id={id_}" for id_ in ("ann", "bob", "phone", "laptop")]
        assert [form["action"] for form in page.of("form")][1:4] == [
            f"/people/{person}/why", f"/people/{person}/merge", f"/people/{person}"
        ]  # fmt: skip
        why = Page((await client.get(f"/people/{person}/why?a=phone&b=laptop")).text)
        harmless(why)
        assert "an identify call" in why.text
        assert "an alias call" in why.text
        assert [li["class"] for li in why.of("li")] == ["id", "step", "id", "step", "id", "step", "id"]
        (apart,) = [link["href"] for link in why.of("a", "button")]
        assert apart == f"/people/{person}/unlink?a=phone&b=laptop"
        before = len(made.history.world.links)
        preview = Page((await client.get(unlink[0])).text)
        harmless(preview)
        assert "3 persons would result" in preview.text
        assert len(preview.of("article")) == 3
        assert len(made.history.world.links) == before, "looking does nothing"
        (form,) = preview.of("form")[1:]
        assert (form["method"], form["action"]) == ("post", f"/people/{person}/unlink")
        fields = {field["name"]: field["value"] for field in preview.of("input")}
        answer = await client.post(form["action"], data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/people/{person}")
        alone = Page((await client.get(f"/people/{person}")).text)
        assert "Taken apart by hand ann from all other ids" in alone.text
        assert not [link for link in alone.of("a") if "/unlink" in (link["href"] or "")]
        phone = f"p_{made.history.actor('phone'):016x}"
        both = Page((await client.get(f"/people/{phone}/merge?a=phone&b=ann")).text)
        harmless(both)
        assert "Make phone and ann one person?" in both.text
        fields = {field["name"]: field["value"] for field in both.of("input")}
        answer = await client.post(f"/people/{phone}/merge", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/people/{person}")
        merged = Page((await client.get(f"/people/{person}")).text)
        assert "Merged by hand phone and ann" in merged.text
        already = Page((await client.get(f"/people/{phone}/merge?a=phone&b=ann")).text)
        assert "are one person already" in already.text
        redirect = await client.get(f"/people/{phone}")
        assert redirect.headers["location"] == f"/people/{person}"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("why?a=phone&b=cat", 404, "Not one person"),
        ("why?a=phone&b=nobody", 404, "Nobody by that id"),
        ("why?a=phone", 400, "That cannot be asked"),
        ("unlink", 400, "That cannot be asked"),
        ("unlink?distinct_id=cat", 404, "Not one person"),
        ("unlink?distinct_id=%3Cb%3E", 404, "<b>"),
        ("merge?a=phone&b=%3Cb%3E", 404, "<b>"),
        ("merge?a=phone&b=", 400, "That cannot be asked"),
    ],
)
async def test_pages_say_what_is_wrong(path, status, text):
    async with joined() as (made, client):
        answer = await client.get(f"/people/p_{made.history.actor('ann'):016x}/{path}")
        page = Page(answer.text)
        harmless(page)
        assert answer.status_code == status
        assert text in page.text


async def test_a_page_of_traits_as_they_were():
    async with opened() as (made, client):
        path = f"/people/p_{made.history.actor('user_123'):016x}"
        now, then = [Page((await client.get(path + said)).text) for said in ("", "?as_of=2023-11-14")]
        assert "as of 14 Nov 2023, 00:00" in then.text
        assert "None at that time." in then.text
        assert "as of 14 Nov" not in now.text
        harmless(then)


async def test_hostile_ids_on_the_pages_that_change_something():
    async with joined() as (made, client):
        for text in HOSTILE:
            made.history.identify("ann", text, at=BEGAN)
        await insert(await opened_store(), made.history)
        path = f"/people/p_{made.history.actor('ann'):016x}"
        person = Page((await client.get(path)).text)
        harmless(person)
        for text in filter(str.strip, HOSTILE):  # a blank id is never linked
            asked = quote(text, safe="")
            assert f"{path}/unlink?distinct_id={asked}" in [link["href"] for link in person.of("a")]
            for page in (f"why?a={asked}&b=laptop", f"unlink?distinct_id={asked}", f"merge?a={asked}&b=cat"):
                answer = await client.get(f"{path}/{page}")
                assert answer.status_code == 200, (text, answer.text)
                shown = Page(answer.text)
                harmless(shown)
                assert text.strip() in "".join(shown.texts)


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
            assert headers["referrer-policy"] == "same-origin"


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
