"""What is added to events, from a request to the journal's rows; what bots do changes nothing about people."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from inside import PUBLIC, World, track

from pugd.accept import Arrival
from pugd.dialects.dialect import Asked
from pugd.enrich.event import enriched
from pugd.model import EventRow, LinkRow, TraitRow

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
HEADLESS = CHROME.replace("Chrome/", "HeadlessChrome/")


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as made:
        yield made


def sent(world: World, *events: dict[str, Any], user_agent: str = "", from_browser: bool = False) -> None:
    body = json.dumps({"batch": [{"type": "track", **event} for event in events]}).encode()
    asked = Asked("batch", user_agent=user_agent, from_browser=from_browser)
    (ack,) = world.accept.take([Arrival(asked, body, PUBLIC)], b"", 0, 1_790_000_000_000)
    assert ack.accepted == len(events), ack


def rows(world: World, kind: type) -> list[Any]:
    return [row for row in world.rows() if type(row) is kind]


def test_an_event_is_enriched_alike_on_either_way(world):
    context = {
        "userAgent": CHROME, "screen": {"width": 1920, "height": 1080},
        "page": {"url": "https://www.shop.example/?utm_source=x&utm_medium=email", "referrer": "https://google.com/"},
    }  # fmt: skip
    sent(world, track("plain", anonymousId="a", context=context))
    sent(
        world,
        track("long", anonymousId="a", context=context),
        track("x", anonymousId="b", context=context, category="c"),
    )
    first, second, _ = rows(world, EventRow)
    told = {
        "browser": "Chrome", "browser_version": "131", "os": "Windows", "os_version": "10", "device": "desktop",
        "screen": "1920x1080", "host": "shop.example", "referrer_domain": "google.com", "channel": "email",
        "utm_source": "x", "utm_medium": "email", "utm_campaign": "", "country": "", "city": "", "bot": 0,
    }  # fmt: skip
    for row in (first, second):
        assert {name: getattr(row, name) for name in told} == told


def test_a_bot_s_events_prove_nothing_whichever_way_they_go(world):
    """By the agent of its request, alone and in the wake-up of a browser that sends the very same."""
    for number, agent in enumerate((HEADLESS, CHROME, HEADLESS)):
        both = {"anonymousId": f"a{number}", "userId": f"u{number}", "timestamp": "2026-09-21T14:13:20.000Z"}
        sent(world, track(f"{number}", **both), user_agent=agent, from_browser=True)
        sent(
            world,
            track(f"{number}t", **both, properties={"$set": {"plan": "pro"}}),
            user_agent=agent,
            from_browser=True,
        )
    assert [row.bot for row in rows(world, EventRow)] == [1, 1, 0, 0, 1, 1]
    assert {row.b_id for row in rows(world, LinkRow)} | {row.a_id for row in rows(world, LinkRow)} >= {"a1", "u1"}
    assert not {"a0", "u0", "a2", "u2"} & {row.a_id for row in rows(world, LinkRow)}
    assert [row.user_id for row in rows(world, TraitRow)] == ["u1"]


def test_only_a_browser_s_own_header_is_read_and_only_where_the_context_says_nothing(world):
    sent(world, track("1", anonymousId="a"), user_agent=CHROME, from_browser=True)
    sent(world, track("2", anonymousId="a"), user_agent=CHROME)
    sent(world, track("3", anonymousId="a", context={"userAgent": CHROME}), user_agent=HEADLESS, from_browser=True)
    sent(world, track("4", anonymousId="a"), user_agent=HEADLESS, from_browser=True)
    sent(world, track("5", anonymousId="a"), user_agent=HEADLESS)
    assert [(row.browser, row.bot) for row in rows(world, EventRow)] == [
        ("Chrome", 0), ("", 0), ("Chrome", 0), ("HeadlessChrome", 1), ("", 0),
    ]  # fmt: skip


def test_what_a_bot_does_links_nobody_and_changes_no_trait(world):
    context = {"userAgent": HEADLESS}
    event = track("1", userId="u", anonymousId="a", context=context, properties={"$set": {"plan": "pro"}})
    sent(world, event)
    sent(world, track("2", userId="u", anonymousId="a", context=context))
    assert [row.bot for row in rows(world, EventRow)] == [1, 1]
    assert rows(world, LinkRow) == []
    assert len(world.rows()) == 2


def test_a_datagram_is_never_a_bot_s(world):
    line = json.dumps({"writeKey": "k", "anonymousId": "a", "event": "e", "context": {"userAgent": HEADLESS}})
    world.accept.take([], line.encode() + b"\n", 1, 1_790_000_000_000)
    (row,) = rows(world, EventRow)
    assert (row.bot, row.browser, row.transport) == (0, "HeadlessChrome", "udp")


def test_what_a_client_says_of_its_device_wins():
    context = {"os": {"name": "iOS", "version": "17.5.1"}, "device": {"type": "ios", "model": "iPhone15,2"}}
    bot, told = enriched(context, CHROME)
    assert (bot, told[2:5]) == (0, ("iOS", "17.5.1", "mobile"))
    for odd in ({"os": 3, "device": [], "page": None, "screen": {"width": True, "height": 1e9}, "campaign": "x"}, {}):
        assert enriched(odd, "") == (0, ("",) * 14)
    assert msgspec.json.encode(enriched({"os": {"name": "x" * 999}}, ""))
