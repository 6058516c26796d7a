"""The whole way, through the sockets: a visitor's events, an identify, a server's events, one person."""

from __future__ import annotations

import time
import uuid
from typing import Any

from live.daemon import READ_KEY, SECRET_KEY, Daemon, stored

ANONYMOUS = "8f14e45f-ceea-467f-a8f7-2f1bb3a1a0c1"


def event(name: str, at: str, **fields: object) -> dict[str, object]:
    return {"event": name, "messageId": f"m-{uuid.uuid4()}", "timestamp": f"2026-11-0{at}Z", **fields}


def wait_events(daemon: Daemon, distinct_id: str, count: int) -> list[dict[str, Any]]:
    """UDP has no ack: read until `count` entries are there, or ten seconds have gone."""
    deadline = time.monotonic() + 10
    while True:
        answer = daemon.ask(f"/v1/timeline?distinct_id={distinct_id}&limit=1000")
        entries: list[dict[str, Any]] = answer.json()["entries"] if answer.status == 200 else []
        if len(entries) >= count or time.monotonic() > deadline:
            return entries
        time.sleep(0.05)


def test_the_story(daemon: Daemon) -> None:
    def visitor(name: str, at: str, **fields: object) -> dict[str, object]:
        return event(name, at, anonymousId=ANONYMOUS, **fields)

    daemon.send("/v1/page", {**visitor("", "1T10:00:00.000"), "name": "page_view", "properties": {"path": "/shirts"}})
    daemon.send("/v1/track", visitor("scroll", "1T10:00:05.000", properties={"percent": 72}))
    daemon.send(
        "/v1/batch",
        {
            "batch": [
                {"type": "track", **visitor("add_to_cart", "1T10:01:00.000", properties={"product_id": "prod-0198"})},
                {"type": "track", **visitor("search", "1T10:02:00.000", properties={"query": "shirt"})},
            ]
        },
    )
    checkout = visitor("checkout_started", "1T10:03:00.000", properties={"value": 416.21, "currency": "USD"})
    daemon.datagram(visitor("app_open", "2T08:00:00.000"), visitor("app_close", "2T08:05:00.000"))
    daemon.datagram(checkout)
    entries = wait_events(daemon, ANONYMOUS, 7)
    assert [entry["event"] for entry in entries] == [
        *("app_close", "app_open", "checkout_started", "search", "add_to_cart", "scroll"),
        entries[-1]["event"],
    ]
    assert [entry["transport"] for entry in entries] == ["udp"] * 3 + ["http"] * 4

    before = daemon.read(f"/v1/people?distinct_id={ANONYMOUS}")["person"]
    assert before["user_id"] is None or before["user_id"] == ""
    assert before["events"] == 7

    daemon.send(
        "/v1/identify",
        {
            "userId": "user_123",
            "anonymousId": ANONYMOUS,
            "messageId": f"m-{uuid.uuid4()}",
            "timestamp": "2026-11-03T09:00:00.000Z",
            "traits": {"plan": "team", "email": "ann@shop.example"},
        },
    )
    daemon.send("/v1/track", event("signup", "3T09:00:01.000", userId="user_123"))
    daemon.send(
        "/v1/track", event("order_completed", "4T12:00:00.000", userId="user_123", properties={"value": 416.21})
    )

    by_user = daemon.read("/v1/timeline?distinct_id=user_123&limit=1000")
    by_anonymous = daemon.read(f"/v1/timeline?distinct_id={ANONYMOUS}&limit=1000")
    assert by_user["entries"] == by_anonymous["entries"]
    events = [entry for entry in by_user["entries"] if entry["type"] == "event"]
    assert len(events) == 9
    assert [entry["event"] for entry in events][:4] == ["order_completed", "signup", "app_close", "app_open"]
    times = [entry["occurred_at"] for entry in by_user["entries"]]
    assert times == sorted(times, reverse=True), "newest first"
    kinds = {entry["type"] for entry in by_user["entries"]}
    assert {"event", "traits", "link"} <= kinds
    link = next(entry for entry in by_user["entries"] if entry["type"] == "link")
    assert {link["a"], link["b"]} == {ANONYMOUS, "user_123"}
    assert link["refused"] is None

    person = by_user["person"]
    assert person["user_id"] == "user_123"
    assert person["events"] == 9
    assert person["traits"] == {"plan": "team", "email": "ann@shop.example"}
    assert {one["id"] for one in person["ids"]} == {ANONYMOUS, "user_123"}
    checkout_entry = next(entry for entry in events if entry["event"] == "checkout_started")
    assert "USD 416.21" in checkout_entry["summary"]
    assert "prod-0198" in next(e for e in events if e["event"] == "add_to_cart")["summary"]
    assert "72" in next(e for e in events if e["event"] == "scroll")["summary"]

    assert daemon.read(f"/v1/people/{before['id']}")["person"] == daemon.read(f"/v1/people/{person['id']}")["person"]


def test_the_list_counts_each_person_once(daemon: Daemon) -> None:
    listed = daemon.read("/v1/people?limit=100")
    ids = [person["id"] for person in listed["people"]]
    assert len(ids) == len(set(ids)) == listed["count"]
    assert "user_123" in [person["user_id"] for person in listed["people"]]
    seen = [person["last_seen"] for person in listed["people"]]
    assert seen == sorted(seen, reverse=True)


def test_a_read_sees_every_event_acked_before_it(daemon: Daemon) -> None:
    for count in range(1, 11):
        daemon.send("/v1/track", event("step", f"5T10:00:{count:02d}.000", userId="reader"))
        assert daemon.read("/v1/people?distinct_id=reader")["person"]["events"] == count
        assert len(list(daemon.entries("reader"))) == count


def test_a_retry_is_counted_once(daemon: Daemon) -> None:
    once = event("retry", "5T11:00:00.000", userId="retrier")
    for _ in range(3):
        daemon.send("/v1/track", once)
    daemon.send("/v1/batch", {"batch": [{"type": "track", **once}, {"type": "track", **once}]})
    assert [entry["event_id"] for entry in daemon.entries("retrier")] == [once["messageId"]]


def test_pages_of_a_timeline_join_without_gap_or_repetition(daemon: Daemon) -> None:
    sent = [event("many", f"6T10:{i // 60:02d}:{i % 60:02d}.000", userId="walker") for i in range(250)]
    daemon.send("/v1/batch", {"batch": [{"type": "track", **one} for one in sent]})
    seen: list[str] = []
    cursor = ""
    while True:
        page = daemon.read(f"/v1/timeline?distinct_id=walker&limit=40{cursor}")
        seen += [entry["event_id"] for entry in page["entries"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [one["messageId"] for one in reversed(sent)]


def test_two_customers_on_one_device_stay_two(daemon: Daemon) -> None:
    for user in ("alice", "bob"):
        call = {"userId": user, "anonymousId": "shared-device", "messageId": f"m-{uuid.uuid4()}"}
        daemon.send("/v1/identify", call)
    assert daemon.read("/v1/people?distinct_id=shared-device")["person"]["user_id"] == "alice"
    bob = daemon.read("/v1/timeline?distinct_id=bob")
    assert bob["person"]["user_id"] == "bob"
    refusals = [entry["refused"] for entry in bob["entries"] if entry["type"] == "link"]
    assert "both_identified" in refusals


def test_a_restart_continues(daemon: Daemon) -> None:
    before = [entry["id"] for entry in daemon.entries("user_123")]
    people = daemon.read("/v1/people?limit=1000")["count"]
    assert daemon.stop() == 0
    counted = stored(daemon.data, "select count(), uniqExact(project, event_id) from events")[0][0]
    assert counted[0] == counted[1]
    daemon.start()
    assert [entry["id"] for entry in daemon.entries("user_123")] == before
    assert daemon.read("/v1/people?limit=1000")["count"] == people
    daemon.send("/v1/track", event("back_again", "7T10:00:00.000", anonymousId=ANONYMOUS))
    assert next(daemon.entries("user_123"))["event"] == "back_again"
    retried = event("twice", "7T11:00:00.000", userId="user_123")
    daemon.send("/v1/track", retried)
    assert daemon.stop() == 0
    daemon.start()
    daemon.send("/v1/track", retried)
    assert [e.get("event") for e in daemon.entries("user_123")].count("twice") == 1


def test_keys_open_only_what_they_should(daemon: Daemon) -> None:
    assert daemon.ask("/v1/people", key=None).status == 401
    assert daemon.ask("/v1/people", key="wrong").status == 401
    error = daemon.ask("/v1/people", key="wrong").json()["error"]
    assert error["code"]
    assert error["message"]
    refused = daemon.post("/v1/track", event("x", "7T10:00:00.000", userId="u"), key="wrong")
    assert refused.status == 401
    assert isinstance(refused.json()["code"], str)
    assert isinstance(refused.json()["message"], str)
    assert daemon.post("/v1/track", event("x", "7T10:00:00.000", userId="u"), key=READ_KEY).status == 401
    assert daemon.ask("/v1/people", key=SECRET_KEY).status in (401, 403)
