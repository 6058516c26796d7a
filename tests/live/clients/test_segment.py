"""Segment's and RudderStack's libraries for servers, the real ones: one visitor's story, then the same over a network
that resets, stalls, loses answers and says "later": every call once, on the one timeline, as it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from live.clients import installed
from live.clients.network import Network
from live.daemon import WRITE_KEY, Daemon

NODE: dict[str, Any] = {"in_node": True, "flushAt": 5}
PYTHON: dict[str, Any] = {"script": installed.SCRIPTS / "calls.py", "flushAt": 5}
LIBRARIES: dict[str, dict[str, Any]] = {
    "segment-node": {"script": installed.SCRIPTS / "segment_node.mjs", **NODE},
    "segment-python": {"module": "segment.analytics.client", "gzip": False, **PYTHON},
    "segment-python-gzip": {"module": "segment.analytics.client", "gzip": True, **PYTHON},
    "rudder-node": {"script": installed.SCRIPTS / "rudder_node.mjs", **NODE},
    "rudder-python": {"module": "rudderstack.analytics.client", "gzip": True, **PYTHON},
}
FAULTS = ("later", "", "reset-before", "", "reset-after", "", "slow", "half", "", "gateway", "", "twice", "", "busy")
"""Never two for one request, so that the shortest patience (3 tries) is not worn out."""

TOLD = {"rudder-node": ["stream has been aborted"]}
"""What may be told of the faults, by which of its requests met which. An answer that breaks off is no answer to it, and
no reason to send again; the collector had taken the batch."""

FILLERS = 60
VIEWED = {
    "name": "Schal „Größe“ 🧣 \u2028 end",
    "price": 49.9,
    "count": 9_007_199_254_740_991,
    "tags": ["wool", None, {"deep": [1, -2.5e-7, True]}],
    "gone": None,
    "empty": {},
}
TRAITS = {
    "plan": "pro",
    "email": "ann@shop.example",
    "age": 42,
    "ratio": 0.1,
    "address": {"city": "Graz", "zip": "8010"},
}
LONG_AGO = "2024-01-15T10:01:00.123Z"


class Run(NamedTuple):
    tag: str
    said: dict[str, Any]
    met: Counter[str]


def story(tag: str) -> list[dict[str, Any]]:
    """One visitor, in the words of Segment's specification."""
    visitor, user, old = {"anonymousId": f"anon-{tag}"}, {"userId": f"user-{tag}"}, {"anonymousId": f"old-{tag}"}
    calls: list[dict[str, Any]] = [
        {"type": "page", **visitor, "name": "Pricing", "properties": {"url": "https://shop.example/pricing"}},
        {"type": "screen", **visitor, "name": "Cart", "properties": {"items": 2}},
        {"type": "track", **visitor, "event": "Product Viewed", "properties": VIEWED},
        {"type": "track", **visitor, "event": "Long Ago", "timestamp": LONG_AGO, "properties": {"n": 1}},
        {"type": "track", **old, "event": "From Another Device", "properties": {}},
    ]
    calls += [{"type": "track", **visitor, "event": "Filler", "properties": {"n": n}} for n in range(FILLERS)]
    calls += [
        {"type": "identify", **user, **visitor, "traits": TRAITS},
        {"type": "track", **user, "event": "Order Completed", "properties": {"revenue": 416.21, "currency": "USD"},
         "context": {"app": {"name": "shop", "version": "3.1"}, "locale": "de-AT"}},
        {"type": "identify", **user, "traits": {"plan": "team", "email": None}, "timestamp": "2099-01-01T00:00:00Z"},
        {"type": "group", **user, "groupId": f"company-{tag}", "traits": {"name": "Acme", "seats": 5}},
        {"type": "alias", **user, "previousId": f"old-{tag}"},
    ]  # fmt: skip
    return calls


@pytest.fixture(scope="module")
def runs(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Every library, by name, and with ' faulty' behind it over the faulty network: all at once, since what they do is
    mostly to wait."""

    def drive(tag: str, library: dict[str, Any], faults: tuple[str, ...]) -> Run:
        with Network(daemon.port, *faults) as network:
            settings = {"host": network.address, "key": WRITE_KEY, "calls": story(tag), **library}
            said = installed.run(directory=tmp_path_factory.mktemp(tag), **settings)
            return Run(tag, said, network.met)

    with ThreadPoolExecutor(4) as pool:
        futures = {name: pool.submit(drive, name, library, ()) for name, library in LIBRARIES.items()}
        for name, library in LIBRARIES.items():
            futures[f"{name} faulty"] = pool.submit(drive, f"{name}-faulty", library, FAULTS)
        yield futures


@pytest.mark.parametrize("faulty", ["", " faulty"], ids=["plain", "faulty"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_one_timeline_as_it_was_told(daemon: Daemon, runs: dict[str, Future[Run]], name: str, faulty: str) -> None:
    run = runs[name + faulty].result()
    tag = run.tag
    assert set(run.said["errors"]) <= set(TOLD.get(name, []) if faulty else [])
    if faulty:
        assert all(run.met[fault] for fault in FAULTS), run.met

    entries = list(daemon.entries(f"anon-{tag}"))
    assert entries == list(daemon.entries(f"user-{tag}")) == list(daemon.entries(f"old-{tag}"))
    events = [entry for entry in entries if entry["type"] == "event"]
    assert Counter(event["event"] for event in events) == {
        "Pricing": 1, "Cart": 1, "Product Viewed": 1, "Long Ago": 1, "From Another Device": 1, "Filler": FILLERS,
        "Order Completed": 1, "group": 1,
    }  # fmt: skip
    assert sorted(event["properties"]["n"] for event in events if event["event"] == "Filler") == list(range(FILLERS))
    by_name = {event["event"]: event for event in events}
    assert by_name["Product Viewed"]["properties"] == VIEWED
    assert by_name["Long Ago"]["occurred_at"] == LONG_AGO
    assert by_name["Order Completed"]["context"]["app"] == {"name": "shop", "version": "3.1"}
    assert by_name["Order Completed"]["context"]["locale"] == "de-AT"
    assert by_name["Pricing"]["properties"]["url"] == "https://shop.example/pricing"
    assert {event["platform"] for event in events} == {"server"}

    person = daemon.read(f"/v1/people?distinct_id=old-{tag}")["person"]
    assert (person["user_id"], person["user_ids"]) == (f"user-{tag}", [f"user-{tag}"])
    assert {one["id"] for one in person["ids"]} == {f"anon-{tag}", f"user-{tag}", f"old-{tag}"}
    assert person["events"] == len(events) - 1, "a group call is no event to count"
    assert person["traits"] == {name: value for name, value in TRAITS.items() if name != "email"} | {"plan": "team"}
    links = Counter((entry["call"], entry["a"], entry["b"]) for entry in entries if entry["type"] == "link")
    assert links[("identify", f"anon-{tag}", f"user-{tag}")] == 1
    assert links[("alias", f"old-{tag}", f"user-{tag}")] == 1
    assert all(entry["refused"] is None for entry in entries if entry["type"] == "link")
