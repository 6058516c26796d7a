"""Segments and saved questions as programs and pages use them: a real Postgres, a real ClickHouse, the real console."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from crowd import projects
from engine import opened_store
from histories import Collector, History, insert
from postgres_server import fresh, running

from pugd.answer import Answer, Stored
from pugd.control.postgres import Connection, Postgres
from pugd.control.shelf import Shelf
from pugd.errors import ControlError
from pugd.everyone import Everyone
from pugd.exports import Exports
from pugd.model import Project
from pugd.web.app import Health, console

BEGAN = 1_700_000_000_000
DAY = 86_400_000
NOW = BEGAN + 40 * DAY
PRO = {"trait": "plan", "value": "pro"}
BOUGHT = {"did": {"event": "order"}}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running() as conninfo:
        yield conninfo


class Keys:
    """Two projects, a key each."""

    def __init__(self, ours: int) -> None:
        self.projects = {"read-key-of-the-shop": ours, "read-key-of-another": ours + 1_000_000}

    async def check_read_key(self, key: str) -> Project | None:
        return Project(self.projects[key], "Shop", "UTC") if key in self.projects else None

    async def check_session(self, session: str) -> Project | None:
        return Project(self.projects["read-key-of-the-shop"], "Shop", "UTC") if session == "session" else None

    async def redeem_login(self, token: str) -> str | None:
        return None

    async def end_session(self, session: str) -> None:
        pass

    async def write_key(self, project: int) -> str | None:
        return None


class World:
    """One console, and what stands behind it."""

    def __init__(self, server: str) -> None:
        self.history = History(next(projects))
        self.server = server
        self.away = False
        self.now = NOW

    async def open(self) -> None:
        self.store = store = await opened_store()
        await insert(store, self.history)
        self.pool = Postgres(fresh(self.server))
        keys = Keys(self.history.project)

        def made(connection: Connection) -> None:
            for project in keys.projects.values():
                connection.execute("insert into projects (id, name) values (%s, 'shop')", (project,))

        await self.pool.run(made)

        async def run(work: Callable[[Connection], Any]) -> Any:
            if self.away:
                raise ControlError("Postgres cannot be reached")
            return await self.pool.run(work)

        async def wait_stored() -> Stored:
            return Stored(NOW, complete=True)

        async def statistics() -> dict[str, object]:
            return {}

        answer = Answer(
            store, wait_stored=wait_stored, actor=self.history.graph.actor,
            collector=Collector(self.history, store, NOW), clock=lambda: self.now,
        )  # fmt: skip
        self.shelf = Shelf(run)
        self.crowd = Everyone(answer, self.shelf.used)
        application = console(
            asker=answer, crowd=self.crowd, exporter=Exports(answer, self.crowd, store),
            access=keys, shelf=self.shelf, health=lambda: Health(True),
            statistics=statistics, collector="http://127.0.0.1:7080",
        )  # fmt: skip
        self.transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        self.client = self.asking("read-key-of-the-shop")

    def asking(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=self.transport, base_url="http://localhost:7081", headers={"Authorization": f"Bearer {key}"}
        )

    async def say(self, method: str, path: str, body: object = None, client: httpx.AsyncClient | None = None) -> Any:
        """Status and JSON."""
        found = await (client or self.client).request(method, path, **({} if body is None else {"json": body}))  # type: ignore[arg-type]
        return found.status_code, found.json()

    async def good(self, method: str, path: str, body: object = None) -> Any:
        status, answer = await self.say(method, path, body)
        assert status == 200, answer
        return answer

    async def make(self, name: str, rule: object, **more: object) -> Any:
        return await self.good("POST", "/v1/segments", {"name": name, "rule": rule, **more})

    async def users(self, path: str) -> set[str]:
        return {one["user_id"] for one in (await self.good("GET", path))["people"]}


@asynccontextmanager
async def opened(server: str) -> AsyncIterator[World]:
    """Four people: ann and bob are pro, ann and cid bought something, dan neither."""
    world = World(server)
    history = world.history
    for number, (user, plan, bought) in enumerate(
        [("ann", "pro", True), ("bob", "pro", False), ("cid", "free", True), ("dan", "free", False)]
    ):
        at = BEGAN + number * DAY
        history.track("page_view", anonymous=f"{user}'s phone", at=at)
        history.identify(user, f"{user}'s phone", at=at + 1_000, traits=[("plan", "set", f'"{plan}"')])
        if bought:
            history.track("order", user=user, at=at + 2_000)
    await world.open()
    try:
        yield world
    finally:
        await world.pool.close()


async def test_a_segment_is_used_everywhere_by_its_name(server: str) -> None:
    async with opened(server) as world:
        made = await world.make("pro", PRO, description="Pays")
        assert made["rule"] == PRO
        assert (made["version"], made["kind"], made["updated_by"]) == (1, "rule", "read-key…")
        await world.make("pro buyers", {"all": [{"segment": "pro"}, BOUGHT]})
        listed = (await world.good("GET", "/v1/segments"))["segments"]
        assert [one["name"] for one in listed] == ["pro", "pro buyers"]
        assert (await world.good("GET", "/v1/segments/pro/size"))["people"] == 2
        assert await world.users("/v1/segments/pro/people") == {"ann", "bob"}
        assert await world.users("/v1/people?segment=pro") == {"ann", "bob"}
        assert await world.users("/v1/people?segment=pro&search=ann") == {"ann"}
        assert await world.users(f"/v1/people?segment={quote('pro buyers')}") == {"ann"}
        whole = await world.good("GET", "/v1/segments/pro")
        assert whole["used_by"] == {"segments": ["pro buyers"], "questions": []}
        assert [one["version"] for one in whole["versions"]] == [1]
        asked = {"series": [{"event": "order", "measure": "people"}], "interval": None, "last": "60 d"}
        trend = await world.good("POST", "/v1/ask/trend", {**asked, "where": {"segment": "pro"}})
        assert trend["series"][0]["total"]["people"] == 1
        broken = await world.good("POST", "/v1/ask/trend", {**asked, "breakdown": {"segment": "pro"}})
        assert {one["value"]: one["total"]["people"] for one in broken["series"]} == {None: 2, "true": 1, "false": 1}
        opened_people = await world.good("POST", "/v1/ask/people", {"token": trend["series"][0]["total"]["token"]})
        assert [one["user_id"] for one in opened_people["people"]] == ["ann"]


async def test_a_change_is_what_the_next_question_uses_on_every_keeper(server: str) -> None:
    async with opened(server) as world:
        another = Shelf(world.pool.run)
        await world.make("good", PRO)
        assert await world.users("/v1/people?segment=good") == {"ann", "bob"}
        changed = await world.good("PUT", "/v1/segments/good", {"rule": BOUGHT, "if_version": 1})
        assert changed["version"] == 2
        assert await world.users("/v1/people?segment=good") == {"ann", "cid"}
        assert list(await another.used(world.history.project, ["good"])) == ["good"]
        status, wrong = await world.say("PUT", "/v1/segments/good", {"rule": PRO, "if_version": 1})
        assert (status, wrong["error"]["code"], wrong["error"]["field"]) == (409, "changed_meanwhile", "if_version")
        assert await world.good("DELETE", "/v1/segments/good") == {"deleted": "good"}
        status, wrong = await world.say("GET", "/v1/people?segment=good")
        assert (status, wrong["error"]["code"]) == (400, "invalid_field")
        assert "no segment" in wrong["error"]["message"]


async def test_pages_of_a_segments_people(server: str) -> None:
    async with opened(server) as world:
        await world.make("all", {"person": "events", "op": ">=", "value": 0})
        first = await world.good("GET", "/v1/segments/all/people?limit=3&sort=first_seen")
        assert first["count"] == 4
        then = await world.good("GET", f"/v1/people?segment=all&limit=3&sort=first_seen&cursor={first['next']}")
        assert [one["user_id"] for one in first["people"] + then["people"]] == ["ann", "bob", "cid", "dan"]
        assert then["next"] is None


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "x"}, "invalid_field", "rule"),
        ({"rule": PRO}, "invalid_field", "name"),
        ({"name": " x", "rule": PRO}, "invalid_field", "name"),
        ({"name": "x", "rule": PRO, "owner": 1}, "invalid_field", "owner"),
        ({"name": "x", "rule": {}}, "invalid_field", "rule"),
        ({"name": "x", "rule": {"trait": "plan", "op": "about"}}, "invalid_field", "rule.op"),
        ({"name": "x", "rule": {"all": [PRO, {"did": {"count": -1}}]}}, "invalid_field", "rule.all[1].did.count"),
        ({"name": "x", "rule": {"segment": "nothing"}}, "invalid_field", "rule.segment"),
        ({"name": "x", "rule": {"any": [{"segment": "x"}]}}, "invalid_field", "rule.any[0].segment"),
        ({"name": "x", "rule": {"field": "path", "value": "/"}}, "invalid_field", "rule"),
        ({"name": "x", "rule": {"trait": "plan", "as_of": "event", "value": 1}}, "invalid_field", "rule"),
        ({"name": "x", "rule": {"trait": "plan", "valeu": 1}}, "invalid_field", "rule.valeu"),
        ({"name": "x", "rule": PRO, "description": "x" * 1001}, "invalid_field", "description"),
    ],
)
async def test_what_is_wrong_is_named(server: str, body: object, code: str, field: str) -> None:
    async with opened(server) as world:
        status, wrong = await world.say("POST", "/v1/segments", body)
        assert (status, wrong["error"]["code"], wrong["error"]["field"]) == (400, code, field), wrong
        assert (await world.good("GET", "/v1/segments"))["segments"] == []


def asked(kind: str, question: object) -> dict[str, object]:
    return {"name": "q", "kind": kind, "question": question}


async def test_what_else_can_be_wrong(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        await world.make("either", {"any": [{"segment": "pro"}, BOUGHT]})
        circle = "rule.segment(either).any[0].segment"
        bad = {"steps": [{}, {"where": {}}]}
        for method, path, body, status, code, field in [
            ("POST", "/v1/segments", {"name": "pro", "rule": PRO}, 409, "name_taken", "name"),
            ("PUT", "/v1/segments/pro", {"rule": {"segment": "either"}}, 400, "invalid_field", circle),
            ("DELETE", "/v1/segments/pro", None, 409, "in_use", "name"),
            ("GET", "/v1/segments/nothing", None, 404, "not_found", "name"),
            ("GET", "/v1/segments/nothing%00", None, 404, "not_found", "name"),
            ("GET", "/v1/segments/nothing/size", None, 404, "not_found", "name"),
            ("GET", "/v1/segments/nothing/people", None, 404, "not_found", "name"),
            ("PUT", "/v1/segments/nothing", {"rule": PRO}, 404, "not_found", "name"),
            ("DELETE", "/v1/segments/nothing", None, 404, "not_found", "name"),
            ("POST", "/v1/segments/nothing/snapshot", {"name": "x"}, 404, "not_found", "name"),
            ("POST", "/v1/segments/snapshot", {"name": "x", "token": "?"}, 400, "invalid_field", "token"),
            ("GET", "/v1/segments?archived=perhaps", None, 400, "invalid_archived", "archived"),
            ("PATCH", "/v1/segments/pro", {}, 405, "method_not_allowed", None),
            ("GET", "/v1/questions/nothing/answer", None, 404, "not_found", "name"),
            ("POST", "/v1/questions", asked("pie", {}), 400, "invalid_field", "kind"),
            ("POST", "/v1/questions", asked("trend", {}), 400, "invalid_field", "question.series"),
            ("POST", "/v1/questions", asked("trend", {"series": []}), 400, "invalid_field", "question.series"),
            ("POST", "/v1/questions", asked("funnel", bad), 400, "invalid_field", "question.steps[1].where"),
            ("POST", "/v1/questions", asked("people", {"limit": 0}), 400, "invalid_field", "question.limit"),
            ("POST", "/v1/ask/people", {"sort": "height"}, 400, "invalid_field", "sort"),
            ("POST", "/v1/ask/people", {"limit": 1001}, 400, "invalid_field", "limit"),
        ]:
            found, answer = await world.say(method, path, body)
            assert (found, answer["error"]["code"], answer["error"]["field"]) == (status, code, field), (path, answer)


def nested(shape: str, times: int, leaf: object) -> object:
    for _ in range(times):
        leaf = {"did": {"where": leaf}} if shape == "did" else {shape: leaf if shape == "not" else [leaf]}
    return leaf


def matching(pattern: object, op: str = "matches") -> dict[str, object]:
    return {"trait": "plan", "op": op, "value": pattern}


HOSTILE_RULES = [
    (matching("("), ".value"),
    (matching("(?=a)", "not_matches"), ".value"),
    (matching("a{1001}"), ".value"),
    (matching("x" * 1_001), ".value"),
    (matching(""), ".value"),
    (matching(["a"]), ".value"),
    ({"did": {"where": {"property": "p", "op": "matches", "value": "\\1"}}}, ".did.where.value"),
    ({"all": [{"trait": "a"}, matching("a"), {"any": [{"not": matching("[z-a]")}]}]}, ".all[2].any[0].not.value"),
    (nested("not", 21, PRO), ".not" * 21),
    (nested("any", 200, PRO), ".any[0]" * 21),
    (nested("did", 5, PRO), ".did.where" * 4 + ".did"),
    (nested("did", 60, PRO), ".did.where" * 4 + ".did"),
    ({"did": {"where": {"segment": "bought by buyers"}}},
     ".did.where.segment(bought by buyers).did.where.segment(buyers).did.where.did.where.did"),
    ({"all": [PRO] * 201}, ".all[199]"),
    ({"trait": ["a"] * 11}, ".trait"),
    ({"did": {"count": 2**31}}, ".did.count"),
    ({"did": {"count": 10**30}}, ".did.count"),
    ({}, ""),
]  # fmt: skip


async def test_hostile_rules_are_refused_when_they_are_saved_and_when_they_are_asked(server: str) -> None:
    async with opened(server) as world:
        await world.make("spare", PRO)
        await world.make("buyers", nested("did", 3, PRO))
        await world.make("bought by buyers", {"did": {"where": {"segment": "buyers"}}})
        for rule, at in HOSTILE_RULES:
            trend = {"series": [{}, {"where": rule}]}
            for method, path, body, base in [
                ("POST", "/v1/segments", {"name": "bad", "rule": rule}, "rule"),
                ("PUT", "/v1/segments/spare", {"rule": rule}, "rule"),
                ("POST", "/v1/segments/preview", {"rule": rule}, "rule"),
                ("POST", "/v1/ask/people", {"where": rule}, "where"),
                (
                    "POST",
                    "/v1/questions",
                    {"name": "bad", "kind": "trend", "question": trend},
                    "question.series[1].where",
                ),
            ]:
                status, answer = await world.say(method, path, body)
                assert status == 400, (path, rule, answer)
                assert (answer["error"]["code"], answer["error"]["field"]) == ("invalid_field", base + at), (path, rule)
        assert len((await world.good("GET", "/v1/segments"))["segments"]) == 3
        deep = b'{"where":' + b'{"not":' * 5_000 + b"{}" + b"}" * 5_001
        found = await world.client.post("/v1/ask/people", content=deep, headers={"Content-Type": "application/json"})
        assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_json")
        # As much as may be is answered.
        for rule in [nested("not", 20, PRO), nested("did", 4, PRO), {"any": [matching(f"a{n}") for n in range(50)]}]:
            await world.good("POST", "/v1/ask/people", {"where": rule})


async def test_another_project_sees_nothing_of_it(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        asked = {"series": [{"event": "order"}], "last": "60 d"}
        await world.good("POST", "/v1/questions", {"name": "orders", "kind": "trend", "question": asked})
        other = world.asking("read-key-of-another")
        assert await world.say("GET", "/v1/segments", client=other) == (200, {"segments": []})
        assert await world.say("GET", "/v1/questions", client=other) == (200, {"questions": []})
        for method, path, body in [
            ("GET", "/v1/segments/pro", None),
            ("GET", "/v1/segments/pro/size", None),
            ("GET", "/v1/segments/pro/people", None),
            ("PUT", "/v1/segments/pro", {"description": "mine"}),
            ("DELETE", "/v1/segments/pro", None),
            ("POST", "/v1/segments/pro/snapshot", {"name": "mine"}),
            ("GET", "/v1/questions/orders", None),
            ("GET", "/v1/questions/orders/answer", None),
            ("DELETE", "/v1/questions/orders", None),
        ]:
            assert (await world.say(method, path, body, client=other))[0] == 404, path
        status, wrong = await world.say("GET", "/v1/people?segment=pro", client=other)
        assert (status, wrong["error"]["code"]) == (400, "invalid_field")
        assert (await world.good("GET", "/v1/segments/pro"))["segment"]["version"] == 1


async def test_a_preview_keeps_nothing(server: str) -> None:
    async with opened(server) as world:
        shown = await world.good("POST", "/v1/segments/preview", {"rule": BOUGHT})
        assert shown["count"] == 2
        assert {one["user_id"] for one in shown["people"]} == {"ann", "cid"}
        assert (await world.good("GET", "/v1/segments"))["segments"] == []
        status, wrong = await world.say("POST", "/v1/segments/preview", {"rule": {"did": {"last": "soon"}}})
        assert (status, wrong["error"]["field"]) == (400, "rule.did.last")


async def test_a_fixed_segment_follows_its_ids(server: str) -> None:
    """Whoever has one of the ids that its people had then: after a merge, and after they are taken apart."""
    async with opened(server) as world:
        await world.make("pro", PRO)
        fixed = await world.good("POST", "/v1/segments/pro/snapshot", {"name": "pro in May", "description": "then"})
        assert (fixed["kind"], fixed["rule"], fixed["ids"]) == ("fixed", None, 4)
        await world.good("PUT", "/v1/segments/pro", {"rule": BOUGHT})
        assert await world.users("/v1/people?segment=pro%20in%20May") == {"ann", "bob"}, (
            "a list, whatever the rule is now"
        )
        # bob's phone becomes a person of its own: it was one of the ids, so both are in.
        await world.good("POST", "/v1/identity/unlink", {"distinct_id": "bob's phone"})
        assert (await world.good("GET", "/v1/segments/pro%20in%20May/size"))["people"] == 3
        # cid becomes one with ann: one person, who has an id of the list.
        await world.good("POST", "/v1/identity/merge", {"a": "ann", "b": "cid"})
        assert (await world.good("GET", "/v1/segments/pro%20in%20May/size"))["people"] == 3
        found = (await world.good("GET", "/v1/people?segment=pro%20in%20May"))["people"]
        assert any({"ann", "cid"} <= set(one["user_ids"]) for one in found)
        # And within another rule, as any segment.
        await world.make("others", {"not": {"segment": "pro in May"}})
        assert await world.users("/v1/people?segment=others") == {"dan"}


async def test_a_list_of_the_people_behind_a_number(server: str) -> None:
    async with opened(server) as world:
        trend = await world.good(
            "POST", "/v1/ask/trend", {"series": [{"event": "order"}], "interval": None, "last": "60 d"}
        )
        token = trend["series"][0]["total"]["token"]
        made = await world.good("POST", "/v1/segments/snapshot", {"name": "bought", "token": token})
        assert made["kind"] == "fixed"
        world.history.track("order", user="dan", at=NOW - 1)
        await insert(world.store, world.history)
        assert await world.users("/v1/people?segment=bought") == {"ann", "cid"}


async def test_without_postgres_what_names_no_segment_is_answered(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        asked = {"series": [{"event": "order"}], "interval": None, "last": "60 d"}
        of_pro = await world.good("POST", "/v1/ask/trend", {**asked, "where": {"segment": "pro"}})
        plain = await world.good("POST", "/v1/ask/trend", asked)
        world.away = True
        assert (await world.say("POST", "/v1/ask/trend", asked))[0] == 200
        assert (await world.say("GET", "/v1/people"))[0] == 200
        assert (await world.say("POST", "/v1/ask/people", {"token": plain["series"][0]["total"]["token"]}))[0] == 200
        for method, path, body in [
            ("POST", "/v1/ask/trend", {**asked, "where": {"segment": "pro"}}),
            ("POST", "/v1/ask/people", {"token": of_pro["series"][0]["total"]["token"]}),
            ("GET", "/v1/people?segment=pro", None),
            ("GET", "/v1/segments", None),
        ]:
            status, answer = await world.say(method, path, body)
            assert (status, answer["error"]["code"]) == (503, "unavailable"), path


async def test_a_saved_question_is_asked_anew_each_time(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        asked = {"series": [{"event": "order"}], "interval": None, "last": "30 d", "where": {"segment": "pro"}}
        saved = await world.good(
            "POST", "/v1/questions", {"name": "pro orders", "kind": "trend", "question": asked, "description": "x"}
        )
        assert (saved["version"], saved["kind"]) == (1, "trend")
        path = "/v1/questions/pro%20orders"
        assert (await world.good("GET", path))["question"]["question"] == {
            "series": [{"event": "order"}], "interval": None, "last": "30 d", "where": {"segment": "pro"},
        }  # fmt: skip
        count = lambda answer: answer["series"][0]["total"]["events"]  # noqa: E731
        assert count(await world.good("GET", f"{path}/answer")) == 0, "ann's order is 40 days old"
        world.now = BEGAN + 5 * DAY
        assert count(await world.good("POST", f"{path}/answer")) == 1, "the range stays relative"
        await world.good("PUT", "/v1/segments/pro", {"rule": BOUGHT})
        assert count(await world.good("GET", f"{path}/answer")) == 2
        status, wrong = await world.say("DELETE", "/v1/segments/pro")
        assert (status, wrong["error"]["code"]) == (409, "in_use")
        people = {"name": "buyers", "kind": "people", "question": {"where": BOUGHT, "sort": "first_seen"}}
        await world.good("POST", "/v1/questions", people)
        first = await world.good("GET", "/v1/questions/buyers/answer?limit=1")
        then = await world.good("GET", f"/v1/questions/buyers/answer?cursor={first['next']}")
        assert [one["user_id"] for one in first["people"] + then["people"]] == ["ann", "cid"]
        changed = await world.good("PUT", path, {"kind": "funnel", "question": {"steps": [{}, {}]}, "if_version": 1})
        assert (changed["kind"], changed["version"]) == ("funnel", 2)
        assert "steps" in str(await world.good("GET", f"{path}/answer"))
        assert [one["version"] for one in (await world.good("GET", path))["versions"]] == [2, 1]
        assert await world.good("DELETE", path) == {"deleted": "pro orders"}
        await world.good("DELETE", "/v1/segments/pro")


async def test_who_is_in_what_since_when(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        await world.make("bought", BOUGHT)
        await world.make("gone", PRO)
        await world.good("PUT", "/v1/segments/gone", {"archived": True})
        ann = (await world.good("GET", "/v1/people?distinct_id=ann"))["person"]["id"]
        told = await world.good("GET", f"/v1/people/{ann}/segments")
        assert told["person"] == ann
        assert [(one["name"], one["since"]) for one in told["segments"]] == [
            ("bought", "2023-11-14T22:13:22.000Z"),
            ("pro", "2023-11-14T22:13:21.000Z"),
        ]
        assert told["segments"][1]["stays"] == [{"from": "2023-11-14T22:13:21.000Z", "to": None}]
        assert (await world.say("GET", "/v1/people/p_0000000000000001/segments"))[0] == 404


async def test_pages_show_segments_and_filter_people_by_them(server: str) -> None:
    async with opened(server) as world:
        await world.make("<b>pro</b>"[:6], PRO, description="<script>")
        await world.good("POST", "/v1/segments/%3Cb%3Epro/snapshot", {"name": "list"})
        listed = (await world.client.get("/segments")).text
        assert "&lt;b&gt;pro" in listed
        assert "<script>" not in listed
        one = (await world.client.get("/segments/%3Cb%3Epro")).text
        assert ">2<" in one
        assert "&#34;plan&#34;" in one
        assert "Version 1" in one
        assert "A list of 4 ids" in (await world.client.get("/segments/list")).text
        assert (await world.client.get("/segments/nothing")).status_code == 404
        people = (await world.client.get("/people?segment=list&limit=1")).text
        assert '<option value="list" selected>' in people
        assert "segment=list" in people, "the next page is of the same people"
        assert "cid" not in people
        world.away = True
        assert (await world.client.get("/people")).status_code == 200
        assert (await world.client.get("/people?segment=list")).status_code == 503


async def test_with_a_login_other_sites_change_nothing(server: str) -> None:
    async with opened(server) as world:
        await world.make("pro", PRO)
        browser = httpx.AsyncClient(
            transport=world.transport, base_url="http://localhost:7081", cookies={"pugd_7081": "session"}
        )
        for method in ("PUT", "DELETE"):
            found = await browser.request(
                method, "/v1/segments/pro", json={"description": "x"}, headers={"Sec-Fetch-Site": "cross-site"}
            )
            assert found.status_code == 403
        found = await browser.put(
            "/v1/segments/pro", json={"description": "x"}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert found.json()["updated_by"] == "console"
