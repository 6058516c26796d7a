"""The short way of other dialects than Segment's: the same bytes as their long way, or nothing."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from dialects import wire
from dialects.test_plain import AGENT, AGENTS, AT, NOW, agree, mutated

from pugd.dialects import amplitude, mixpanel, posthog, pug
from pugd.dialects.dialect import Asked, Dialect
from pugd.dialects.known import as_plain

ASKED: dict[Dialect, Asked] = {
    posthog: Asked("capture"),
    mixpanel: Asked("track"),
    amplitude: Asked("events"),
}


CASES = int(os.environ.get("PUGD_PLAIN_CASES", "1500"))
"""Of each dialect, at random."""


def compact(value: object, ascii: bool = False) -> bytes:
    return json.dumps(value, ensure_ascii=ascii, separators=(",", ":")).encode("utf-8", "surrogatepass")


def is_plain(dialect: Dialect, body: object, asked: Asked | None = None, user_agent: str = "") -> bool:
    """In either spelling, alike."""
    asked = asked or ASKED[dialect]
    texts = (body,) if isinstance(body, bytes) else (compact(body), json.dumps(body).encode())
    found = [agree(dialect, asked, text, user_agent) for text in texts]
    return all(found) if dialect is not mixpanel else found[0]  # a token is cut out of compact texts alone


PAGE = {
    "$lib": "web", "$lib_version": "1.2", "$current_url": "https://shop.example/p?utm_source=x", "$pathname": "/p",
    "$referrer": "$direct", "$screen_width": 1920, "$session_id": "s", "$device_id": "d", "title": "T", "$os": "Mac",
}  # fmt: skip


def posthog_event(_: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"event": "e", "uuid": "u-1", "distinct_id": "d", "properties": {"a": [1]}} | (_ or {}) | fields


def mixpanel_event(event: str = "e", **fields: Any) -> dict[str, Any]:
    said = {"$insert_id": "i", "distinct_id": "d", "time": 1_795_502_399.123, "mp_lib": "web", "token": "k"}
    renamed = {name.replace("_S_", "$"): value for name, value in fields.items()}
    return {"event": event, "properties": said | renamed}


def amplitude_event(**fields: Any) -> dict[str, Any]:
    return {"event_type": "e", "insert_id": "i", "user_id": "u", "device_id": "d", "time": NOW - 5} | fields


SKEWED = "2026-11-24T06:30:00.000Z"


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": "k", "batch": [posthog_event(), posthog_event(timestamp=AT)], "sent_at": AT},
        {"batch": [posthog_event()], "token": "k", "historical_migration": False},
        {"api_key": "k", "token": "k", "batch": [posthog_event(properties=PAGE)]},
        [posthog_event(properties=PAGE | {"token": "k"}, offset=1500), posthog_event(properties=PAGE)],
        posthog_event(api_key="k", properties=PAGE | {"distinct_id": "p", "$is_identified": True}, distinct_id=None),
        posthog_event(properties={"$user_id": "d", "$insert_id": "i"}, uuid=None),
        posthog_event(properties={"$user_id": "x", "$is_identified": "yes", "$process_person_profile": False}),
        posthog_event(properties=None, timestamp=1_795_502_399.25, event="$pageview"),
        posthog_event(properties={"$lib_version": "alone", "$geoip_disable": True}, event="$screen"),
        posthog_event(properties={"$time": NOW - 3, "$lib": 5, "title": {"odd": [1]}}),
        posthog_event(properties={}, offset=10**14, event="$autocapture"),
        posthog_event(properties={"zip": 1, "x": {"$set": {"ip": 1}}}),
        {"batch": [posthog_event(timestamp=AT, sent_at="2020-01-01T00:00:00.000Z")], "sent_at": AT},
        {"batch": [posthog_event(timestamp=NOW + 90_000_000)] * 2, "sent_at": SKEWED},
        {
            "batch": [posthog_event(timestamp=AT, properties={"$ignore_sent_at": on}) for on in (True, False)],
            "sent_at": SKEWED,
        },
        posthog_event({"$set": {"a": 1}}, timestamp=AT, sent_at=SKEWED),
        posthog_event(event="$identify", properties={"$time": NOW // 1000 + 10}, sent_at=SKEWED),
        posthog_event({"$set": {"a": 1, "b": None}, "$set_once": None, "$unset": ["c"]}, properties=PAGE),
        posthog_event({"$set": {"a": 1}}, properties=None),
        posthog_event({"$set_once": {"a": "\u00e9\\"}}, properties={"$set_once": {"b": 1}, "z": [{"$set": 1}]}),
        posthog_event({"$set": {"zip": 1}}, properties={"a": 1, "$set": {"a": 2, "c": 3}, "b": 2}, uuid="u-2"),
        posthog_event({"$set": {}}, properties={"$set_once": {"$initial_referrer": "x"}, "$unset": {"a": 1}}),
        posthog_event({"$set": {"a": 1}}, properties={"$process_person_profile": False}),
        posthog_event({"$set": {"a": 1}}, properties={"$process_person_profile": "false", "$is_identified": True}),
        posthog_event(event="$identify", properties={"$anon_distinct_id": "anon", "$set": {"a": [1]}} | PAGE),
        posthog_event({"$set": {"ip": 1}}, event="$identify", properties={"$anon_distinct_id": "d"}),
        posthog_event(event="$identify", properties={"$anon_distinct_id": None}),
        posthog_event(event="$set", properties={"$set": {"ip": 1, "b": 2}, "$anon_distinct_id": 5}),
        posthog_event(event="$unset", properties={"$unset": ["b"], "$user_id": "d"}),
        posthog_event(event="$set"),
    ],
)
def test_posthog(body: object) -> None:
    for agent in (AGENT, "", AGENT):
        assert is_plain(posthog, body, user_agent=agent)


@pytest.mark.parametrize(
    "fields",
    [
        {"properties": {"$cookieless_mode": True}}, {"distinct_id": "$posthog_cookieless"},
        {"distinct_id": "cookieless-1"},
        {"event": "$snapshot"}, {"event": "$create_alias"}, {"event": "$groupidentify"}, {"event": ""},
        {"event": "$identify", "properties": {"$anon_distinct_id": 5}},
        {"event": "$identify", "properties": {"$anon_distinct_id": "cookieless-1"}},
        {"$set": 1}, {"$unset": [5]}, {"$set": {"k" * 513: 1}}, {"properties": {"$set": [1]}},
        {"$set": {"ip": 1}}, {"properties": {"$set_once": {"$ip": 1}}}, {"$set": {f"k{n}": 1 for n in range(1001)}},
        {"properties": {"$ip": "203.0.113.9"}}, {"properties": []}, {"distinct_id": True}, {"distinct_id": 5},
        {"distinct_id": ""}, {"uuid": None}, {"uuid": "x" * 513}, {"timestamp": "yesterday"}, {"timestamp": -1},
        {"offset": 1.5}, {"offset": -1}, {"options": {"a": 1}}, {"session_id": 5},
        {"api_key": ""}, {"api_key": "another"},
        {"properties": {"token": 5}}, {"properties": {"$user_id": 5}}, {"properties": {"$add": {"ip": 1}}},
        {"properties": {"\u2028": "\"", "$lib": "\\"}},
    ],
)  # fmt: skip
def test_not_posthog(fields: dict[str, object]) -> None:
    odd = posthog_event(fields)
    if fields != {"properties": {"\u2028": '"', "$lib": "\\"}}:
        assert not is_plain(posthog, {"api_key": "k", "batch": [posthog_event(), odd]})
    is_plain(posthog, odd)
    assert not is_plain(posthog, {**odd, "batch": [posthog_event()]})


def test_what_a_request_says_beside_its_body_counts() -> None:
    body = compact([posthog_event(timestamp=AT)])
    assert is_plain(posthog, body, Asked("capture", query=b"ip=1&_=%d" % (NOW + 60_000)))
    for sent in (NOW + 60_001, NOW - 10**9, 10**12, 10**11):
        assert is_plain(posthog, body, Asked("capture", query=b"ip=1&_=%d" % sent))
    both = {"batch": [posthog_event(timestamp=AT)], "sent_at": SKEWED}
    assert is_plain(posthog, both, Asked("capture", query=b"_=%d" % (NOW - 10**9)))
    assert not is_plain(posthog, body, Asked("capture", query=b"_=5"))
    assert not is_plain(posthog, body, Asked("capture", query=b"compression=lz64"))
    assert is_plain(posthog, body, Asked("engage"))
    assert not is_plain(mixpanel, compact([mixpanel_event()]), Asked("engage"))
    assert is_plain(mixpanel, compact([mixpanel_event()]), Asked("import"))
    assert not is_plain(mixpanel, compact([mixpanel_event()]), Asked("import", form={"api_key": "k"}))


def v1(sdk: bytes | None, sent: bytes | None) -> Asked:
    said = {b"posthog-sdk-info": sdk, b"posthog-request-timestamp": sent}
    return Asked("v1", more={name: value for name, value in said.items() if value is not None})


V1 = [
    v1(b"posthog-node/5.70.0", SKEWED.encode()),
    v1(b"posthog-python/7", b"2026-11-24T06:39:59.123456+00:00"),
    v1(b"posthog-node/5.70.0", None),
    v1(b"web", b"2026-11-24T01:30:00"),
    v1(b"/1\xff", b""),
    v1(b"x" * 300, b"2026-11-24T06:30:00,5+01:00"),
    v1(None, b"2026-11-24"),
]


def test_what_posthog_says_in_heads() -> None:
    """Contexts that are alike in bodies are each the library's that sent them."""
    events = [posthog_event(timestamp=AT, options={}), posthog_event(properties=PAGE, session_id="s-1", options=None)]
    for _ in range(2):
        for asked in (*V1, ASKED[posthog]):
            for agent in ("", AGENT):
                assert is_plain(posthog, {"created_at": AT, "batch": events}, asked, agent)
                assert is_plain(posthog, {"batch": events, "sent_at": AT}, asked, agent)
    for sent in (b"soon", b"1795502400", b"1969-01-01T00:00:00Z"):
        assert not is_plain(posthog, {"batch": events}, v1(b"posthog-node/5", sent))


@pytest.mark.parametrize(
    "body",
    [
        mixpanel_event(),
        [mixpanel_event(), mixpanel_event("mp_page_view", _S_os="Mac", _S_device_id="d", current_page_title="T")],
        [mixpanel_event(_S_user_id="u", _S_device_id="$device:x"), mixpanel_event(time=NOW - 5)],
        [mixpanel_event(time=NOW + 90_000_000), mixpanel_event(time=10**11 - 1)],
        [mixpanel_event(distinct_id="$device:d", _S_device_id="d"), mixpanel_event(distinct_id="d", _S_device_id="x")],
        [mixpanel_event(distinct_id="d", _S_device_id="x", _S_had_persisted_distinct_id=True, time=None)],
        [mixpanel_event(distinct_id=None, _S_device_id="x", time=AT, utm_source="s", _S_screen_width=5)],
        {"event": "e", "properties": {"token": "k", "$insert_id": "i", "distinct_id": "d"}},
        {"event": "e", "properties": {"$insert_id": "i", "distinct_id": "d", "mp_lib": ["odd"]}},
        {"event": "e", "properties": {"$insert_id": "i", "$user_id": "$device:d", "time": 0.1}},
    ],
)
def test_mixpanel(body: object) -> None:
    for agent in (AGENT, "", AGENT):
        assert is_plain(mixpanel, body, user_agent=agent)


@pytest.mark.parametrize(
    "odd",
    [
        *(mixpanel_event(name) for name in ("$identify", "$create_alias", "$merge", "")),
        *(mixpanel_event(token=token) for token in ("other", "", None, 5)),
        *(mixpanel_event(_S_insert_id=one) for one in ("", None, 5)),
        *(mixpanel_event(time=time) for time in ("soon", True, -1, 10**300)),
        mixpanel_event(distinct_id=5), mixpanel_event(distinct_id=None), mixpanel_event(distinct_id="$device:"),
        mixpanel_event(of={"token": "k"}), mixpanel_event(ip=1), {"event": "e"}, {"event": "e", "properties": []},
    ],
)  # fmt: skip
def test_not_mixpanel(odd: dict[str, object]) -> None:
    assert not is_plain(mixpanel, [mixpanel_event(), odd])
    is_plain(mixpanel, odd)


PAGED = {"[Amplitude] Page URL": "https://x/y", "[Amplitude] Page Counter": 3, "utm_source": "s", "referrer": "r"}


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"user_id": None}, {"device_id": ""}, {"time": None}, {"time": AT}, {"time": 1_795_502_399.1234567},
        {"event_properties": {"a": 1}}, {"event_properties": {"utm_source": "s"}}, {"event_properties": PAGED},
        {"event_type": "[Amplitude] Page Viewed", "event_properties": PAGED, "user_properties": {}},
        {"event_type": "[Amplitude] Screen Viewed", "groups": None, "group_properties": {"a": 1}, "revenue": None},
        {"platform": "Web", "library": "amplitude-ts/2.1", "session_id": -1, "language": "en", "ip": "$remote"},
        {"platform": ["odd"], "library": 5, "plan": {"[Amplitude] Page URL": 1}, "event_properties": PAGED},
    ],
)  # fmt: skip
def test_amplitude(fields: dict[str, object]) -> None:
    for agent in (AGENT, "", AGENT):
        body = {"api_key": "k", "events": [amplitude_event(**fields)] * 2, "client_upload_time": AT, "options": {}}
        assert is_plain(amplitude, body, user_agent=agent)


@pytest.mark.parametrize(
    "fields",
    [
        {"event_type": "$identify"}, {"event_type": "$groupidentify"}, {"event_type": None}, {"insert_id": 5},
        {"insert_id": None}, {"insert_id": ""}, {"user_id": None, "device_id": None}, {"user_id": 5},
        {"user_properties": {"$set": {"a": 1}}}, {"groups": {"a": "b"}}, {"revenue": 5}, {"price": "x"},
        {"event_properties": {"ip": 1}}, {"event_properties": "x"}, {"time": "x"},
        {"event_properties": {"a": {"[Amplitude] Page URL": 1}, "utm_source": "s"}},
        {"plan": {"[Amplitude] Page URL": 1}, "event_properties": {"utm_source": "s"}},
    ],
)  # fmt: skip
def test_not_amplitude(fields: dict[str, object]) -> None:
    assert not is_plain(amplitude, {"api_key": "k", "events": [amplitude_event(), amplitude_event(**fields)]})
    assert is_plain(amplitude, {"events": [amplitude_event(), amplitude_event(time=1)], "client_upload_time": SKEWED})
    for wrong in ({"events": []}, {"events": None}, [amplitude_event()], amplitude_event()):
        assert not is_plain(amplitude, wrong)


PUG = Asked("batch", content_type=pug.PROTO)
AUTO: dict[str, object] = {
    "$url": "https://shop.example/p?utm_source=x", "$platform": "web", "$os": "Linux", "$screenWidth": "1920",
    "$locale": "en",
}  # fmt: skip


def pug_event(
    id: str = "i",
    who: str = "anon-1",
    kind: str = "e",
    when: bytes | None = wire.when(NOW // 1000 - 5, 123_456_789),
    session: str | None = "s",
    auto: dict[str, object] | None = None,
    own: dict[str, object] | None = None,
    cookieless: bool | None = None,
) -> bytes:
    more = b"" if cookieless is None else wire.integer(8, cookieless)
    return wire.event(id, who, kind, when, session, auto or {}, own or {}, more)


@pytest.mark.parametrize(
    "events",
    [
        [pug_event(), pug_event(who="u-1", kind="page_view", auto=AUTO)],
        [pug_event(kind="page_view"), pug_event(kind="page_view", own={"$url": 5}), pug_event(kind="screen_view")],
        [
            pug_event(when=wire.when(NOW // 1000 + 90_000)),
            pug_event(when=None, session=None),
            pug_event(own={"a": 1, "b": "x", "c": True, "zip": 1.5}),
        ],
        [pug_event(cookieless=False, auto={"$platform": "ios", "$lib": "pug", "$appName": "A"}, own={"$device": "d"})],
    ],
)
def test_pug(events: list[bytes]) -> None:
    for agent in (AGENT, "", AGENT):
        assert agree(pug, PUG, wire.batch(*events), agent)


@pytest.mark.parametrize(
    "odd",
    [
        pug_event(id=""), pug_event(who=""), pug_event(who="cookieless-1"), pug_event(kind=""),
        pug_event(cookieless=True), pug_event(auto={"$ip": "1"}), pug_event(auto=AUTO, own={"$url": "x"}),
        pug_event(kind='a"b'), b"\xff",
    ],
)  # fmt: skip
def test_not_pug(odd: bytes) -> None:
    assert not agree(pug, PUG, wire.batch(pug_event(), odd))
    for wrong in (b"", b"{}", b" {}", b"\n{", b"\xff", wire.batch()):
        assert not agree(pug, PUG, wrong)
    assert not agree(pug, Asked("identify"), wire.batch(pug_event()))
    assert not agree(pug, Asked("batch", content_type=pug.JSON), wire.batch(pug_event()))


def test_whatever_is_plain_says_the_same_in_protobuf() -> None:
    choose = random.Random(8)
    values = ["x", "", 5, 1.5, True, None, "anon-1"]
    names = ["$url", "$platform", "$os", "a", "zip", "ip", "$set", "$referrer", "$pathname"]
    plain = 0
    for _ in range(CASES):
        some = [{choose.choice(names): choose.choice(values) for _ in range(choose.randrange(3))} for _ in range(2)]
        kind = choose.choice(["e", "e", "page_view", "screen_view", "a\nb"])
        who = choose.choice(["anon-1", "u", "anon-", "cookieless-x", ""]) if choose.random() < 0.4 else "u"
        one = pug_event(
            "i", who, kind, choose.choice([None, wire.when(NOW // 1000)]), None, *some, choose.choice([None, False])
        )
        body = bytearray(wire.batch(pug_event(), one))
        if choose.random() < 0.3:
            body[choose.randrange(len(body))] = choose.randrange(256)
        plain += agree(pug, PUG, bytes(body), choose.choice(AGENTS))
    assert CASES / 20 < plain < CASES * 0.95


ODD = ["d", "x", "$device:d", "", "k", None, AT, NOW - 5, 5, 1.5, True, "web", {}, {"[Amplitude] Page URL": "x"}, [1],
       SKEWED, "ä\u2028", "\\", 10**20, -1, {"ip": 1}, "2020-01-01T00:00:00.000Z", "/", 1e300]  # fmt: skip
NAMES = ["e", "e", "e", "$pageview", "$identify", "mp_page_view", "[Amplitude] Page Viewed"]


SETS = [
    {"a": 1},
    {},
    {"ip": 1, "a": 2},
    {"$ip": 1},
    {"\u00e9ip": '"ip'},
    None,
    ["a"],
    [1],
    "x",
    {"b": None},
    {"a": "$"},
]
"""Where traits change."""


def some_of(choose: random.Random, dialect: Dialect, level: int) -> dict[str, object]:
    """Members that the form names, at random."""
    found = as_plain(dialect, ASKED[dialect])
    assert found is not None
    names = [*found.form.members[level], "a", "zip", "$add", "token"]
    return {choose.choice(names): choose.choice(ODD) for _ in range(choose.choice([0, 1, 2, 4]))}


def body_of(choose: random.Random, dialect: Dialect) -> object:
    events = []
    for _ in range(choose.choice([1, 1, 2, 3])):
        within, name = some_of(choose, dialect, 2), choose.choice(NAMES)
        if dialect is posthog:
            name = choose.choice([name, name, "$identify", "$set"])
            one = posthog_event(event=name, properties={"a": 1} | within)
            for changed in ("$set", "$set_once", "$unset"):
                for place in (one, one["properties"]):
                    place.pop(changed, None)
                    if choose.random() < 0.1:
                        place[changed] = choose.choice(SETS[:2] if choose.random() < 0.5 else SETS)
            if choose.random() < 0.3:
                one["properties"]["$anon_distinct_id"] = choose.choice(["anon", "d", "", None, 5])
        elif dialect is mixpanel:
            one = mixpanel_event(name)
            one["properties"] |= within
        else:
            one = amplitude_event(event_type=name, event_properties=within)
        events.append(one | some_of(choose, dialect, 1) if choose.random() < 0.3 else one)
    if dialect is amplitude or (dialect is posthog and choose.random() < 0.5):
        around = some_of(choose, dialect, 0) if choose.random() < 0.3 else {}
        return {"api_key": "k"} | around | {"events" if dialect is amplitude else "batch": events}
    return events[0] if choose.random() < 0.5 else events


@pytest.mark.parametrize("dialect", ASKED)
def test_whatever_is_plain_says_the_same(dialect: Dialect) -> None:
    choose = random.Random(7)
    plain = 0
    for _ in range(CASES):
        text = compact(body_of(choose, dialect), choose.random() < 0.5)
        asked = choose.choice(V1) if dialect is posthog and choose.random() < 0.3 else ASKED[dialect]
        plain += agree(dialect, asked, text, choose.choice(AGENTS))
    assert CASES / 20 < plain < CASES * 0.95


@pytest.mark.parametrize("dialect", ASKED)
def test_mutations_of_plain_bodies(dialect: Dialect) -> None:
    choose = random.Random(6)
    if dialect is posthog:
        changing = posthog_event({"$set": {"a": 1}}, properties={"$set": {"b": [2]}, "$set_once": {"c": "x"}})
        identify = posthog_event(event="$identify", properties={"$anon_distinct_id": "a", "$set": {"b": 1}})
        base = compact({"api_key": "k", "batch": [posthog_event(properties=PAGE | {"token": "k"}), changing, identify]})
    elif dialect is mixpanel:
        base = compact([mixpanel_event(_S_device_id="x", _S_os="Mac"), mixpanel_event()])
    else:
        base = compact({"events": [amplitude_event(event_properties=PAGED), amplitude_event(platform="Web")]})
    plain = sum(agree(dialect, ASKED[dialect], mutated(choose, base, 2)) for _ in range(1500))
    assert 50 < plain < 1450
