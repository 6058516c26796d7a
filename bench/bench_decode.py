"""What it costs to understand a body, enrichment included, beside the bare msgspec decode of the same bytes.

`python bench/bench_decode.py [part of a name] [--turns 300]`. Batches of 100 events with what a browser says of itself,
as libraries of each dialect send them, decoded by msgspec into typed Structs with `properties` left raw: that is 1.
Beside it, to finished journal rows: the short way (C), of a server's requests, of a browser's and of a bot's; and the
long way, all with user agents, campaigns and bots told. Of PostHog also what went the long way once: a clock that is
wrong, one event in twenty that sets twelve traits, and nothing but such `$identify`. Processor time, the least of the
turns of each, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd.dialects import amplitude, context, mixpanel, posthog, segment
from pugd.dialects.dialect import Asked, Dialect
from pugd.dialects.known import PLAIN_FORMS, as_plain
from pugd.dialects.message import Message, read
from pugd.dialects.plain import Plain
from pugd.enrich import clock
from pugd.enrich.event import enriched
from pugd.model import Batch

NOW = 1_790_000_000_000
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)

BOT = f"{AGENT} Googlebot/2.1"


class Body(msgspec.Struct, gc=False):
    batch: list[Message]


def segment_body() -> bytes:
    events = [
        {
            "type": "track", "messageId": f"ajs-next-1790000000000-{number:032x}", "event": "add_to_cart",
            "anonymousId": f"anon-{number:08x}", "timestamp": "2026-09-21T14:13:20.000Z",
            "properties": {"product_id": f"prod-{number}", "price": 12.5, "currency": "USD"},
            "context": {
                "userAgent": AGENT, "locale": "en-US",
                "page": {"url": "https://shop.example/p?utm_source=x", "path": "/p"},
            },
        }
        for number in range(100)
    ]  # fmt: skip
    return json.dumps({"batch": events, "sentAt": "2026-09-21T14:13:20.000Z"}).encode()


def posthog_body(changing: int = 0, name: str = "", sent_at: str = "2026-09-21T14:13:20.000Z") -> bytes:
    """`changing`: every so manieth event sets traits; `name`: then called so"""
    events: list[dict[str, Any]] = [
        {
            "event": "add_to_cart", "uuid": f"0190{number:028x}", "distinct_id": f"anon-{number:08x}",
            "timestamp": "2026-09-21T14:13:20.000Z",
            "properties": {
                "product_id": f"prod-{number}", "price": 12.5, "$lib": "web", "$lib_version": "1.449.2",
                "$raw_user_agent": AGENT, "$current_url": "https://shop.example/p?utm_source=x", "$pathname": "/p",
            },
        }
        for number in range(100)
    ]  # fmt: skip
    for event in events[::changing] if changing else []:
        event["$set_once"] = {f"$initial_{number}": f"value {number}" for number in range(12)}
        event["event"] = name or event["event"]
        event["properties"]["$anon_distinct_id"] = "anon"
    return json.dumps({"api_key": "k", "batch": events, "sent_at": sent_at}).encode()


class PosthogBody(msgspec.Struct, gc=False):
    batch: list[posthog.Event]


def mixpanel_body() -> bytes:
    events = [
        {
            "event": "add_to_cart",
            "properties": {
                "$os": "Windows", "$current_url": "https://shop.example/p?utm_source=x", "$screen_height": 1080,
                "$screen_width": 1920, "mp_lib": "web", "$lib_version": "2.55.1", "$insert_id": f"{number:016x}",
                "time": 1_789_999_990.123, "distinct_id": f"$device:{number:08x}", "$device_id": "1f2e3d",
                "product_id": f"prod-{number}", "price": 12.5, "token": "k",
            },
        }
        for number in range(100)
    ]  # fmt: skip
    return json.dumps(events, separators=(",", ":")).encode()


def amplitude_body() -> bytes:
    events = [
        {
            "user_id": f"user-{number}", "device_id": "1f2e3d", "session_id": 1_789_999_000_000,
            "time": 1_789_999_990_123, "platform": "Web", "language": "en-US", "ip": "$remote",
            "insert_id": f"0190{number:028x}", "event_type": "add_to_cart", "event_id": number,
            "event_properties": {"product_id": f"prod-{number}", "price": 12.5}, "library": "amplitude-ts/2.11.1",
            "user_agent": AGENT,
        }
        for number in range(100)
    ]  # fmt: skip
    return json.dumps({"api_key": "k", "events": events, "client_upload_time": "2026-09-21T14:13:20.000Z"}).encode()


class AmplitudeBody(msgspec.Struct, gc=False):
    events: list[amplitude.Event]


def short(dialect: Dialect, body: bytes, call: str, user_agent: str = "", fresh: bool = False) -> Callable[[], None]:
    """`fresh`: no context is known, here or in the long way's own memory."""
    kept = Plain(enriched, PLAIN_FORMS)
    actors = array("Q", range(1, 101))
    way = as_plain(dialect, Asked(call))
    assert way is not None

    def turn() -> None:
        plain = kept
        if fresh:
            plain = Plain(enriched, PLAIN_FORMS)
            context._cache.clear()
        plain.reset()
        assert plain.add(way, body, NOW, user_agent=user_agent) == 100
        plain.own(100, 1)
        plain.rows(actors, [], [])

    return turn


def long(decode: Callable[..., object], body: bytes, call: str) -> Callable[[], None]:
    asked = Asked(call)
    pack = msgspec.msgpack.Encoder().encode

    def turn() -> None:
        batch = Batch()
        refused = read(
            decode(body, asked), batch, project=1, secret=False, received_at=NOW, transport="http", clock=clock,
            mint=lambda: "x", enrich=enriched,
        )  # fmt: skip
        assert not refused
        pack(batch.parts)

    return turn


def least(turns: int, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the quickest turn of each, taken in turns."""
    found = dict.fromkeys(ways, 1e9)
    for _ in range(turns):
        for name, way in ways.items():
            begun = time.process_time()
            for _ in range(5):
                way()
            found[name] = min(found[name], (time.process_time() - begun) / 5)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", default="")
    parser.add_argument("--turns", type=int, default=300)
    asked = parser.parse_args()
    of_posthog = msgspec.json.Decoder(PosthogBody)
    for name, dialect, body, call, bare in (
        ("Segment", segment, segment_body(), "batch", msgspec.json.Decoder(Body)),
        ("PostHog", posthog, posthog_body(), "capture", of_posthog),
        ("PostHog, a wrong clock", posthog, posthog_body(sent_at="2026-09-21T15:00:00.000Z"), "capture", of_posthog),
        ("PostHog, traits", posthog, posthog_body(20), "capture", of_posthog),
        ("PostHog, $identify", posthog, posthog_body(1, "$identify"), "capture", of_posthog),
        ("Mixpanel", mixpanel, mixpanel_body(), "track", msgspec.json.Decoder(list[mixpanel.Event])),
        ("Amplitude", amplitude, amplitude_body(), "events", msgspec.json.Decoder(AmplitudeBody)),
    ):
        if asked.part not in name:
            continue
        ways = {
            "short way": short(dialect, body, call),
            "browser": short(dialect, body, call, AGENT),
            "bot": short(dialect, body.replace(AGENT.encode(), BOT.encode()), call, BOT),
            "long way": long(dialect.decode, body, call),
        }
        costs = least(asked.turns, {"msgspec": lambda: bare.decode(body), **ways})  # type: ignore[attr-defined] # noqa: B023
        print(f"{name}, 100 events of {len(body) // 100} bytes: msgspec {costs['msgspec'] * 1e4:.2f} µs an event")
        for way in ways:
            print(f"    {way:10} {costs[way] * 1e4:6.2f} µs, {costs[way] / costs['msgspec']:5.2f} ×")


if __name__ == "__main__":
    main()
