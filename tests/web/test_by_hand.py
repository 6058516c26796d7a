"""Ids taken apart and merged by hand, by programs; and which pages may have that done."""

from __future__ import annotations

import json

import pytest
from engine import opened_store
from histories import insert
from web.consoles import BEGAN, Page, harmless, ids_of, joined

from pugd.answer import Stored


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
