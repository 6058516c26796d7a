"""What programs get of people and timelines: shapes, what is wrong, what strangers wrote."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from engine import opened_store
from histories import History, insert
from web.consoles import BEGAN, HOSTILE, PROJECT, opened


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
        ("/v1/people?distinct_id=nobody", 404, "not_found", "distinct_id"),
        ("/v1/people/nobody", 404, "not_found", None),
        ("/v1/people/p_0000000000000001", 404, "not_found", None),
        ("/v1/people/p_+000000000000001", 404, "not_found", None),
        ("/v1/people/p_00000000_0000001", 404, "not_found", None),
        ("/v1/timeline", 400, "invalid_parameter", "distinct_id"),
        ("/v1/timeline?distinct_id=robot", 404, "not_found", "distinct_id"),
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
        ("/v1/identity/refusals?distinct_id=nobody", 404, "not_found", "distinct_id"),
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
