"""What it costs to understand a body, enrichment included, beside the bare msgspec decode of the same bytes.

`python bench/bench_decode.py [--turns 300]`. A batch of 100 events of about 476 bytes and a browser's context, as
Segment's libraries send it, decoded by msgspec into typed Structs with `properties` left raw: that is 1. Beside it, to
finished journal rows: the short way (C), the long way, both with user agents, campaigns and bots told; and one way of
other dialects, each against the decode of its own body. Processor time, the least of the turns of each, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd.dialects import posthog, segment
from pugd.dialects.dialect import Asked
from pugd.dialects.message import Message, read
from pugd.dialects.plain import Plain
from pugd.enrich import clock
from pugd.enrich.event import enriched
from pugd.model import Batch

NOW = 1_790_000_000_000
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)


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


def posthog_body() -> bytes:
    events = [
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
    return json.dumps({"api_key": "k", "batch": events, "sent_at": "2026-09-21T14:13:20.000Z"}).encode()


class PosthogBody(msgspec.Struct, gc=False):
    batch: list[posthog.Event]


def short(body: bytes, user_agent: str = "") -> Callable[[], None]:
    plain = Plain(enriched, segment.FORMS)
    actors = array("Q", range(1, 101))

    def turn() -> None:
        plain.reset()
        assert plain.add(segment.FORMS[0], body, NOW, user_agent=user_agent) == 100
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
    parser.add_argument("--turns", type=int, default=300)
    turns = parser.parse_args().turns
    ours, theirs = segment_body(), posthog_body()
    segments = {
        "short way": short(ours),
        "browser": short(ours, AGENT),
        "long way": long(segment.decode, ours, "batch"),
    }
    posthogs = {"long way": long(posthog.decode, theirs, "capture")}
    for name, body, bare, ways in (
        ("Segment", ours, msgspec.json.Decoder(Body), segments),
        ("PostHog", theirs, msgspec.json.Decoder(PosthogBody), posthogs),
    ):
        costs = least(turns, {"msgspec": lambda: bare.decode(body), **ways})  # noqa: B023
        print(f"{name}, 100 events of {len(body) // 100} bytes: msgspec {costs['msgspec'] * 1e4:.2f} µs an event")
        for way in ways:
            print(f"    {way:10} {costs[way] * 1e4:6.2f} µs, {costs[way] / costs['msgspec']:5.2f} ×")


if __name__ == "__main__":
    main()
