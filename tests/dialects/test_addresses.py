"""What each dialect says of its senders' addresses: it is asked for a place, and then it is gone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from dialects.understood import Understood, understood
from msgspec import Raw

from pugd.dialects import amplitude, mixpanel, posthog, pug, segment
from pugd.dialects.dialect import Asked, Dialect
from pugd.model import encoded

IP = "81.2.69.142"
V6 = "2a02:6b80:1::7"


class Asking:
    """In place of a file: remembers what it was asked, and tells that of Graz for one address."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str]] = []

    def __call__(self, said: str | None, sender: str) -> Raw:
        self.asked.append((said, sender))
        return encoded("AT", "Styria", "Graz") if said == IP else encoded("", "", "")


def asked_of(dialect: Dialect, body: Any, asked: Asked) -> tuple[list[tuple[str | None, str]], Understood]:
    where = Asking()
    found = understood(dialect, body, asked, where=where)
    assert not found.refused, found.refused
    kept = msgspec.msgpack.encode([found.batch.parts, found.batch.event_keys, found.batch.ids])
    kept += msgspec.json.encode(list(found.batch.calls.values()))
    assert IP.encode() not in kept
    assert V6.encode() not in kept
    return where.asked, found


def track(**more: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "u", **more}


SEGMENT = [
    (track(), (None, "")),
    (track(context={"ip": IP}), (IP, "")),
    (track(context={"ip": IP, "library": {"name": "analytics-node"}}), (IP, "server")),
    (track(context={"ip": ""}), (None, "")),
    (track(context={"ip": None}), (None, "")),
    (track(context={"ip": 7}), (None, "")),
    (track(context={"ip": f" {V6} "}), (V6, "")),
    (track(context={"library": {"name": "analytics.js"}}), (None, "device")),
    (track(context={"library": {"name": "analytics-ios"}}), (None, "device")),
    (track(context={"library": {"name": "RudderLabs JavaScript SDK"}}, channel="web"), (None, "device")),
    (track(context={"library": {"name": "analytics-python"}, "device": {"type": "ios"}}), (None, "server")),
    (track(channel="server", context={"library": {"name": "analytics.js"}}), (None, "server")),
    (track(channel="mobile"), (None, "device")),
    (track(channel="web", context={"library": {"name": "analytics-go"}}), (None, "server")),
    # A page and a user agent are what a server passes on as well.
    (track(context={"page": {"url": "https://x.example/"}, "userAgent": "Mozilla/5.0"}), (None, "")),
    (track(properties={"ip": IP, "$ip": V6}), (None, "")),
    (track(context={"traits": {"ip": IP, "$ip": V6, "plan": "pro"}}), (None, "")),
]


@pytest.mark.parametrize(("message", "expected"), SEGMENT)
def test_segment_says_it_in_the_context(message: dict[str, Any], expected: tuple[str | None, str]) -> None:
    asked, found = asked_of(segment, {"batch": [message]}, Asked("batch"))
    assert asked == [expected]
    assert found.event()["city"] == ("Graz" if expected[0] == IP else "")
    kept = found.event()["context"]
    assert "ip" not in kept
    assert kept.get("traits", {"plan": "pro"}) == {"plan": "pro"}


def test_each_event_of_a_batch_has_its_own() -> None:
    addresses = [IP, IP, V6, None, IP]
    body = {"batch": [track(context={"ip": one} if one else {}) for one in addresses]}
    asked, found = asked_of(segment, body, Asked("batch"))
    assert [found.event(number)["city"] for number in range(5)] == ["Graz", "Graz", "", "", "Graz"]
    assert [said for said, _ in asked] == [IP, V6, None, IP]  # the second is where the first is


def test_an_envelopes_context_is_that_of_messages_without_one() -> None:
    asked, found = asked_of(segment, {"context": {"ip": IP}, "batch": [track(), track()]}, Asked("batch"))
    assert [found.event(number)["country"] for number in range(2)] == ["AT", "AT"]
    assert asked == [(IP, "")]


def test_identify_and_alias_have_no_place() -> None:
    body = {"batch": [
        {"type": "identify", "userId": "u", "traits": {"ip": IP, "$ip": V6, "$set": {"ip": IP}}, "context": {"ip": IP}},
        {"type": "alias", "userId": "u", "previousId": "a", "context": {"ip": IP, "traits": {"ip": IP}}},
    ]}  # fmt: skip
    asked, found = asked_of(segment, body, Asked("batch"))
    assert asked == []
    assert found.batch.calls[0].traits == []


def capture(**properties: Any) -> dict[str, Any]:
    return {"api_key": "k", "event": "e", "distinct_id": "u", "properties": properties}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (capture(), (None, "")),
        (capture(**{"$lib": "web"}), (None, "device")),
        (capture(**{"$lib": "posthog-ios"}), (None, "device")),
        (capture(**{"$lib": "posthog-python", "$os": "iOS"}), (None, "server")),
        (capture(**{"$ip": IP, "$lib": "posthog-python"}), (IP, "server")),
        (capture(**{"$ip": IP, "ip": V6}), (IP, "")),
        (capture(**{"$ip": IP, "$geoip_disable": True}), ("", "")),
        (capture(**{"$geoip_disable": True, "$lib": "web"}), ("", "device")),
        (capture(**{"$geoip_disable": False, "$lib": "web"}), (None, "device")),
        (capture(**{"$ip": 7}), (None, "")),
        (capture(**{"$set": {"ip": IP, "$ip": V6}, "$set_once": {"$ip": V6}}), (None, "")),
    ],
)
def test_posthog_says_it_in_the_properties(body: dict[str, Any], expected: tuple[str | None, str]) -> None:
    asked, found = asked_of(posthog, body, Asked("capture"))
    assert asked == ([expected] if expected[0] != "" else [])  # nowhere is not asked for
    assert found.event()["city"] == ("Graz" if expected[0] == IP else "")


def test_posthogs_switch_is_of_one_event() -> None:
    one, two = capture(**{"$ip": IP}), capture(**{"$ip": IP, "$geoip_disable": True})
    _, found = asked_of(posthog, {"api_key": "k", "batch": [one, two, one]}, Asked("capture"))
    assert [found.event(number)["city"] for number in range(3)] == ["Graz", "", "Graz"]


def amplitudes(**more: Any) -> dict[str, Any]:
    return {"api_key": "k", "events": [{"event_type": "e", "user_id": "user", "time": 1_789_999_999_000, **more}]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (amplitudes(), (None, "")),
        (amplitudes(ip=IP, library="amplitude-python/1.1.2"), (IP, "server")),
        (amplitudes(ip="$remote", library="amplitude-ts/2.11.1", platform="Web"), ("$remote", "device")),
        (amplitudes(library="amplitude-python/1.1.2", platform="Web"), (None, "server")),
        (amplitudes(ip=None), (None, "")),
        (amplitudes(ip=["x"]), (None, "")),
        (amplitudes(event_properties={"ip": IP, "$ip": V6}, user_properties={"ip": IP}), (None, "")),
    ],
)
def test_amplitude_says_it_beside_the_properties(body: dict[str, Any], expected: tuple[str | None, str]) -> None:
    asked, found = asked_of(amplitude, body, Asked("httpapi"))
    assert asked == [expected]
    assert found.event()["city"] == ("Graz" if expected[0] == IP else "")


def test_amplitudes_groups_have_the_place_of_their_event() -> None:
    body = amplitudes(event_type="$identify", ip=IP, groups={"company": ["a", "b"]}, group_properties={"ip": V6})
    _, found = asked_of(amplitude, body, Asked("httpapi"))
    assert [found.event(number)["city"] for number in (1, 2)] == ["Graz", "Graz"]


def mixpanels(**properties: Any) -> list[dict[str, Any]]:
    return [{"event": "e", "properties": {"token": "k", "distinct_id": "u", **properties}}]


@pytest.mark.parametrize(
    ("body", "asked_for", "expected"),
    [
        (mixpanels(), Asked("track"), (None, "")),
        (mixpanels(mp_lib="web"), Asked("track", b"verbose=1&ip=1"), ("$remote", "device")),
        (mixpanels(mp_lib="python"), Asked("track", form={"ip": "0"}), ("", "server")),
        (mixpanels(mp_lib="web"), Asked("track", b"ip=0"), ("", "device")),
        (mixpanels(ip=IP, mp_lib="python"), Asked("track", form={"ip": "0"}), (IP, "server")),
        (mixpanels(**{"$ip": IP}), Asked("track", b"ip=1"), (IP, "")),
        (mixpanels(mp_lib="web"), Asked("import"), ("", "device")),
        (mixpanels(ip=IP), Asked("import"), (IP, "")),
    ],
)
def test_mixpanel_says_it_in_the_properties_or_the_query(
    body: list[dict[str, Any]], asked_for: Asked, expected: tuple[str | None, str]
) -> None:
    asked, found = asked_of(mixpanel, body, asked_for)
    assert asked == ([expected] if expected[0] != "" else [])
    assert found.event()["city"] == ("Graz" if expected[0] == IP else "")


def test_traits_of_mixpanels_people_have_no_address() -> None:
    body = [{"$token": "k", "$distinct_id": "u", "$ip": IP, "$set": {"ip": IP, "$ip": V6, "plan": "pro"}}]
    asked, found = asked_of(mixpanel, body, Asked("engage"))
    assert asked == []
    assert [key for key, _, _ in found.call.traits] == ["plan"]


@pytest.mark.parametrize(
    ("platform", "sender"), [("web", "device"), ("ios", "device"), ("android", "device"), ("server", "server")]
)
def test_pug_says_on_which_platform_it_is(platform: str, sender: str) -> None:
    event = {"distinctId": "anon-1", "kind": "e", "autoProperties": {"$platform": platform},
             "customProperties": {"ip": IP, "$ip": V6}}  # fmt: skip
    asked, _ = asked_of(pug, {"events": [event]}, Asked("batch", content_type="application/json"))
    assert asked == [(None, sender)]


def test_an_event_id_made_of_an_event_is_not_made_of_its_address() -> None:
    """All else of an event is kept: whoever has that could try addresses until the id fits."""

    def ids(dialect: Dialect, bodies: list[Any], asked: Asked) -> set[str]:
        return {asked_of(dialect, body, asked)[1].event()["event_id"] for body in bodies}

    at = {"time": 1_789_999_999}
    assert len(ids(mixpanel, [mixpanels(**at, ip=IP), mixpanels(**at, ip="8.8.8.8")], Asked("track"))) == 1
    assert len(ids(mixpanel, [mixpanels(**at, a=1), mixpanels(**at, a=2)], Asked("track"))) == 2
    assert len(ids(amplitude, [amplitudes(ip=IP), amplitudes(ip="8.8.8.8")], Asked("httpapi"))) == 1
    assert len(ids(amplitude, [amplitudes(ip=IP), amplitudes(ip=IP, language="de")], Asked("httpapi"))) == 2


def test_nothing_is_asked_where_there_are_no_places() -> None:
    found = understood(segment, {"batch": [track(context={"ip": IP})]}, Asked("batch"))
    assert found.event()["country"] == found.event()["city"] == ""
    assert IP not in json.dumps(found.event())
