"""PostHog's libraries for servers, the real ones, in both of their ways to send (V0, V1): one visitor's story, then the
same over a network that fails: every event once, on the one timeline, as it was captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from live.clients import installed
from live.clients.network import Network
from live.clients.test_segment import LONG_AGO, TRAITS, VIEWED
from live.daemon import WRITE_KEY, Daemon

NODE = {"script": installed.SCRIPTS / "posthog_node.mjs", "in_node": True}
PYTHON = {"script": installed.SCRIPTS / "posthog_python.py"}
LIBRARIES: dict[str, dict[str, Any]] = {
    "posthog-node": {**NODE, "mode": "v0"},
    "posthog-node-v1": {**NODE, "mode": "v1"},
    "posthog-python": {**PYTHON, "mode": "v0", "gzip": False},
    "posthog-python-gzip": {**PYTHON, "mode": "v0", "gzip": True},
    "posthog-python-v1": {**PYTHON, "mode": "v1", "gzip": True},
}
TOLD = {"posthog-node-v1": "unparseable 200 response body"}
"""An answer that breaks off it takes for a loss, and does not send again; the collector had taken the batch."""
FAULTS = ("later", "", "reset-before", "", "reset-after", "", "slow", "half", "", "gateway", "", "twice", "busy")
FILLERS = 50


class Run(NamedTuple):
    tag: str
    said: dict[str, Any]
    met: Counter[str]


@pytest.fixture(scope="module")
def runs(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Every library, by name, and with ' faulty' behind it over the faulty network, side by side."""

    def drive(tag: str, library: dict[str, Any], faults: tuple[str, ...]) -> Run:
        with Network(daemon.port, *faults) as network:
            settings = {"host": network.address, "key": WRITE_KEY, "tag": tag, "faults": len(faults), **library}
            story = {"fillers": FILLERS, "viewed": VIEWED, "traits": TRAITS, "longAgo": LONG_AGO}
            said = installed.run(directory=tmp_path_factory.mktemp(tag), **settings, **story)
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
    told = [TOLD[name]] if faulty and name in TOLD else []
    assert len(run.said["errors"]) == len(told), run.said
    assert all(words in error for words, error in zip(told, run.said["errors"], strict=True)), run.said
    assert not run.said["flag"]
    if faulty:
        assert all(run.met[fault] for fault in FAULTS), run.met

    entries = list(daemon.entries(f"anon-{tag}"))
    assert entries == list(daemon.entries(f"user-{tag}")) == list(daemon.entries(f"old-{tag}"))
    events = [entry for entry in entries if entry["type"] == "event"]
    assert Counter(event["event"] for event in events) == {
        "$pageview": 1, "$screen": 1, "Product Viewed": 1, "Long Ago": 1, "From Another Device": 1, "Filler": FILLERS,
        "Order Completed": 1, "group": 1, "$ai_generation": 1, "$feature_flag_called": 1,
    }  # fmt: skip
    assert sorted(event["properties"]["n"] for event in events if event["event"] == "Filler") == list(range(FILLERS))
    by_name = {event["event"]: event for event in events}
    properties = by_name["Product Viewed"]["properties"]
    assert {name: properties[name] for name in VIEWED} == VIEWED
    assert by_name["Long Ago"]["occurred_at"] == LONG_AGO
    assert by_name["$pageview"]["context"]["page"]["url"] == "https://shop.example/pricing"
    assert by_name["Order Completed"]["properties"]["$groups"] == {"company": f"acme-{tag}"}
    assert {event["platform"] for event in events} == {"server"}

    person = daemon.read(f"/v1/people?distinct_id=old-{tag}")["person"]
    assert (person["user_id"], person["user_ids"]) == (f"user-{tag}", [f"user-{tag}"])
    assert {one["id"] for one in person["ids"]} == {f"anon-{tag}", f"user-{tag}", f"old-{tag}"}
    assert person["events"] == len(events) - 1, "a group call is no event to count"
    kept = {name: value for name, value in TRAITS.items() if name != "age"}
    assert person["traits"] == kept | {"plan": "team", "source": "ad", "orders": 1, "first": "scarf"}
    links = Counter(entry["call"] for entry in entries if entry["type"] == "link")
    assert (links["identify"], links["alias"]) == (1, 1)
    assert all(entry["refused"] is None for entry in entries if entry["type"] == "link")
