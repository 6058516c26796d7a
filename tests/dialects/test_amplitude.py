"""Amplitude: what its libraries send means what they say, and what they are told neither loses nor repeats an event."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from dialects.understood import NOW, Understood, understood
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import amplitude, known, posthog
from pugd.dialects.dialect import Asked
from pugd.model import Ack, Refusal

EVENTS = Asked("events")
BATCH = Asked("capture")
KEY = "0123456789abcdef0123456789abcdef"


def take(body: Any) -> Understood:
    return understood(amplitude, body, EVENTS)


def event(event_type: str | None = "scroll", **fields: Any) -> dict[str, Any]:
    """As the library for Node sends one."""
    return {
        "time": NOW, "insert_id": "i-1", "event_type": event_type, "device_id": "d-1", "event_id": 0,
        "library": "amplitude-node-ts/1.5.73",
    } | fields  # fmt: skip


def one(*args: Any, **fields: Any) -> Understood:
    return take({"api_key": KEY, "events": [event(*args, **fields)]})


def identify(properties: Any, **fields: Any) -> Understood:
    return one("$identify", user_properties=properties, **fields)


NODE = (
    b'{"api_key":"0123456789abcdef0123456789abcdef","events":['
    b'{"time":1789999999990,"insert_id":"0b0e","event_properties":{"percent":72,"nested":{"a":[1,null]}},'
    b'"event_type":"scroll","user_id":"u","device_id":"d","event_id":0,"library":"amplitude-node-ts/1.5.73"},'
    b'{"time":1789999999991,"insert_id":"1c1f","event_type":"$identify","user_id":"u","device_id":"d",'
    b'"user_properties":{"$set":{"plan":"pro"},"$setOnce":{"source":"ad"},"$add":{"visits":1},"$unset":{"trial":"-"}},'
    b'"event_id":1,"library":"amplitude-node-ts/1.5.73"}],"options":{},'
    b'"client_upload_time":"2026-09-21T14:13:20.000Z","request_metadata":{"sdk":{"metrics":{"histogram":{}}}}}'
)


def test_the_library_for_node() -> None:
    taken = take(NODE)
    assert (taken.key, taken.refused) == (KEY, [])
    row = taken.event()
    assert (row["event"], row["call"], row["event_id"]) == ("scroll", "track", "0b0e")
    assert (row["user_id"], row["anonymous_id"]) == ("u", "d")
    assert (row["occurred_at"], row["time_note"]) == (NOW - 10, "")
    assert row["properties"] == {"percent": 72, "nested": {"a": [1, None]}}
    assert (row["library"], row["platform"], row["session_id"]) == ("amplitude-node-ts", "server", "")
    assert row["context"] == {"library": {"name": "amplitude-node-ts", "version": "1.5.73"}}
    call = taken.call
    assert (call.call, call.user_id, call.anonymous_id, call.event_id) == ("identify", "u", "d", "1c1f")
    assert call.traits == [
        ("plan", "set", b'"pro"'), ("source", "set_once", b'"ad"'), ("visits", "add", b"1"), ("trial", "unset", b""),
    ]  # fmt: skip
    assert taken.reply.status == 200
    assert taken.told == {
        "code": 200, "events_ingested": 2, "payload_size_bytes": len(NODE), "server_upload_time": NOW,
    }  # fmt: skip


def test_the_library_for_browsers() -> None:
    page = {
        "[Amplitude] Page Domain": "shop.example", "[Amplitude] Page Location": "https://shop.example/p?q=1",
        "[Amplitude] Page Path": "/p", "[Amplitude] Page Title": "P", "[Amplitude] Page URL": "https://shop.example/p",
        "[Amplitude] Page Counter": 1, "referrer": "https://found.example/", "utm_source": "news",
    }  # fmt: skip
    taken = one(
        "[Amplitude] Page Viewed", session_id=NOW - 5, platform="Web", language="de-CH", ip="$remote",
        event_properties=page, user_agent="Mozilla/5.0", library="amplitude-ts/2.48.1", app_version="3.1",
    )  # fmt: skip
    row = taken.event()
    assert (row["event"], row["call"]) == ("[Amplitude] Page Viewed", "page")
    assert (row["url"], row["path"], row["title"]) == ("https://shop.example/p?q=1", "/p", "P")
    assert (row["referrer"], row["context"]["campaign"]) == ("https://found.example/", {"source": "news"})
    assert (row["platform"], row["library"], row["locale"]) == ("web", "amplitude-ts", "de-CH")
    assert (row["user_agent"], row["session_id"], row["app_version"]) == ("Mozilla/5.0", str(NOW - 5), "3.1")
    assert row["properties"] == page


def test_the_library_for_python_sorts_its_keys_and_does_not_say_when_it_sent() -> None:
    body = {
        "api_key": KEY, "events": [event(user_id="u", library="amplitude-python/1.3.0", time=1_700_000_000_000)],
        "options": {"min_id_length": 1},
    }  # fmt: skip
    taken = take(json.dumps(body, sort_keys=True).encode())
    row = taken.event()
    assert (row["user_id"], row["occurred_at"], row["platform"]) == ("u", 1_700_000_000_000, "server")


def test_a_phone() -> None:
    said = {
        "platform": "iOS", "os_name": "ios", "os_version": "19.1", "device_brand": "Apple", "device_model": "iPhone18",
        "device_manufacturer": "Apple", "carrier": "Swisscom", "country": "CH", "region": "VD", "city": "Lausanne",
        "dma": "x", "location_lat": 46.5, "location_lng": 6.6, "language": "fr", "app_version": "7", "idfa": "a-1",
        "idfv": "v-1", "ip": "203.0.113.9", "session_id": -1, "plan": {"branch": "main"},
        "ingestion_metadata": {"source_name": "s"}, "library": "amplitude-swift/1.9.0",
    }  # fmt: skip
    row = one("[Amplitude] Screen Viewed", **said).event()
    assert (row["call"], row["platform"], row["session_id"], row["app_version"]) == ("screen", "mobile", "", "7")
    assert row["context"] == {
        "library": {"name": "amplitude-swift", "version": "1.9.0"}, "app": {"version": "7"},
        "os": {"name": "ios", "version": "19.1"}, "network": {"carrier": "Swisscom"}, "locale": "fr",
        "device": {"id": "v-1", "type": "iOS", "brand": "Apple", "model": "iPhone18", "manufacturer": "Apple",
                   "advertisingId": "a-1"},
        "location": {"country": "CH", "region": "VD", "city": "Lausanne", "dma": "x", "latitude": 46.5,
                     "longitude": 6.6},
        "plan": {"branch": "main"}, "ingestion_metadata": {"source_name": "s"},
    }  # fmt: skip
    assert "203.0.113.9" not in json.dumps(row)


def test_clocks() -> None:
    late = NOW - 3_600_000
    taken = take({"api_key": KEY, "events": [event(time=late - 7)], "client_upload_time": late})
    assert (taken.event()["occurred_at"], taken.event()["original_at"]) == (NOW - 7, late - 7)
    assert one(time=None).event()["occurred_at"] == NOW


# ---- traits


def test_traits_beside_any_event() -> None:
    taken = one(user_id="u", user_properties={"plan": "pro", "old": None, "$set": {"seats": 3}, "ip": "203.0.113.9"})
    assert (taken.call.call, taken.call.secret) == ("event", False)
    assert taken.call.traits == [("plan", "set", b'"pro"'), ("old", "unset", b""), ("seats", "set", b"3")]
    assert taken.event()["properties"] == {}


def test_what_stands_in_event_properties_changes_no_trait() -> None:
    taken = one(event_properties={"$set": {"plan": "pro", "ip": "203.0.113.9"}, "ip": "203.0.113.9"})
    assert taken.batch.calls == {}
    assert taken.event()["properties"] == {"$set": {"plan": "pro"}}


@pytest.mark.parametrize("name", ["$append", "$prepend", "$preInsert", "$postInsert", "$remove", "$clearAll"])
def test_an_operation_that_traits_do_not_have_is_refused_by_name_and_alone(name: str) -> None:
    value: Any = "-" if name == "$clearAll" else {"tags": ["a"]}
    field = f"events[0].user_properties.{name}"
    # Nothing else is said: the event is refused, for good, by its index.
    taken = identify({name: value})
    assert [(one.code, one.field, one.index) for one in taken.refused] == [(errors.INVALID_FIELD, field, 0)]
    assert taken.batch.length == 0
    assert (taken.reply.status, taken.told["code"]) == (400, 400)
    assert taken.told["events_with_invalid_fields"] == {f"user_properties.{name}": [0]}
    # Something else is: that is taken.
    taken = identify({name: value, "$set": {"plan": "pro"}})
    assert taken.call.traits == [("plan", "set", b'"pro"')]
    assert [(one["index"], one["field"]) for one in taken.told["refused"]] == [(0, field)]
    assert (taken.told["code"], taken.told["events_ingested"]) == (200, 1)
    taken = identify({name: value}, user_id="u")
    assert (taken.call.user_id, taken.call.anonymous_id, taken.call.traits) == ("u", "d-1", [])
    taken = one(user_properties={name: value})
    assert (taken.event()["event"], taken.batch.calls, len(taken.refused)) == ("scroll", {}, 1)


def test_an_event_counts_once_whatever_is_refused_of_it() -> None:
    both = {"$append": {"a": [1]}, "$remove": {"a": [1]}}
    assert [refusal.index for refusal in identify(both).refused] == [0, 0]
    taken = one(user_properties=both)
    assert (taken.batch.length, taken.told["events_ingested"], len(taken.told["refused"])) == (1, 1, 2)


# ---- who


@pytest.mark.parametrize(("said", "user", "anonymous"), [
    ({"user_id": "u"}, "u", "d-1"), ({"user_id": "u", "device_id": None}, "u", ""), ({"user_id": ""}, "", "d-1"),
    ({"user_id": 42}, "42", "d-1"), ({"user_id": "ab"}, "ab", "d-1"), ({"user_id": 0}, "0", "d-1"),
])  # fmt: skip
def test_ids(said: dict[str, Any], user: str, anonymous: str) -> None:
    row = one(**said).event()
    assert (row["user_id"], row["anonymous_id"]) == (user, anonymous)
    call = identify({"$set": {"a": 1}}, **said).call
    assert (call.user_id, call.anonymous_id) == (user, anonymous)


def test_set_group_is_a_group_call_and_a_trait() -> None:
    taken = identify({"$set": {"company": "acme"}}, groups={"company": "acme", "team": ["a", 7]}, user_id="u")
    assert taken.call.traits == [("company", "set", b'"acme"')]
    assert (taken.call.call, taken.call.event_id) == ("identify", "i-1")
    rows = [taken.event(number) for number in (1, 2, 3)]
    assert [row["properties"] for row in rows] == [
        {"group_type": "company", "group_id": "acme", "traits": {}},
        {"group_type": "team", "group_id": "a", "traits": {}},
        {"group_type": "team", "group_id": "7", "traits": {}},
    ]
    assert [(row["call"], row["event_id"], row["user_id"]) for row in rows] == [
        ("group", f"i-1#{number}", "u") for number in (1, 2, 3)
    ]
    assert taken.told["events_ingested"] == 1


def test_group_identify_is_the_groups_and_nobodys_trait() -> None:
    properties = {"$set": {"seats": 5, "ip": "203.0.113.9"}, "$add": {"visits": 1, "$ip": "203.0.113.9"}, "tier": "a"}
    taken = one("$groupidentify", groups={"company": "acme"}, group_properties=properties, user_id="u")
    assert taken.batch.calls == {}
    row = taken.event()
    assert (row["call"], row["event"], row["event_id"], row["user_id"]) == ("group", "group", "i-1", "u")
    traits = {"tier": "a", "$add": {"visits": 1}, "seats": 5}
    assert row["properties"] == {"group_type": "company", "group_id": "acme", "traits": traits}


def test_group_identify_of_nobody_is_kept_with_the_group_itself() -> None:
    row = one("$groupidentify", device_id=None, groups={"company": "acme"}, group_properties={"$set": {"a": 1}}).event()
    assert (row["user_id"], row["anonymous_id"]) == ("", "$company_acme")


def test_groups_and_purchases_are_kept_among_the_properties() -> None:
    said = {"revenue": 9.99, "price": 3.33, "quantity": 3, "productId": "p", "revenueType": "t", "currency": "CHF"}
    taken = one("purchase", groups={"company": "acme"}, event_properties={"price": "own"}, **said)
    assert taken.event()["properties"] == said | {"price": "own", "$groups": {"company": "acme"}}
    assert one(groups=None, price=None, event_properties=None).event()["properties"] == {}
    revenue = {"$productId": "p", "$quantity": 2, "$price": 3.5}
    assert one("revenue_amount", event_properties=revenue).event()["properties"] == revenue


# ---- ids of events


def ids(*events: dict[str, Any]) -> list[str]:
    taken = take({"api_key": KEY, "events": list(events)})
    return [taken.event(number)["event_id"] for number in range(taken.batch.length)]


def test_an_event_without_an_id_has_a_hash_of_itself_where_it_has_a_time() -> None:
    plain = event(insert_id=None)
    [first] = ids(plain)
    assert len(first) == 32
    assert ids(plain) == [first], "what is sent again has the same"
    assert ids(plain | {"unknown": 1}) != [first]
    assert ids(plain | {"user_id": "u"}) != [first]
    assert ids(plain, event(insert_id="i"), plain) == [first, "i", f"{first}-2"], "two that say the same are two"
    assert ids(event(insert_id="", time=None)) == ["minted-0"]
    assert ids(event(insert_id=5)) == ["5"]


def test_the_hash_survives_a_bad_neighbour() -> None:
    text = json.dumps(event(insert_id=None), separators=(",", ":")).encode()
    taken = take(b'{"api_key":"k","events":[%s,{"event_type":5}]}' % text)
    assert [taken.event()["event_id"]] == [take(b'{"events":[%s]}' % text).event()["event_id"]]


# ---- what is refused, and how it is told

GOOD = event("good")
BAD: list[tuple[Any, str, str]] = [
    (event(None), errors.MISSING_FIELD, "event_type"),
    (event(""), errors.MISSING_FIELD, "event_type"),
    (event("e" * 600), errors.INVALID_FIELD, "event_type"),
    (event(5), errors.INVALID_FIELD, "event_type"),  # type: ignore[arg-type]
    (event(device_id=None), errors.MISSING_FIELD, "user_id"),
    (event(device_id=""), errors.MISSING_FIELD, "user_id"),
    (event(device_id="x" * 513), errors.INVALID_ID, "device_id"),
    (event(user_id="x" * 513), errors.INVALID_ID, "user_id"),
    (event(user_id=["x"]), errors.INVALID_FIELD, "user_id"),
    (event(event_properties=[]), errors.INVALID_FIELD, "event_properties"),
    (event(user_properties="x"), errors.INVALID_FIELD, "user_properties"),
    (event(user_properties={"$setOnce": 5}), errors.INVALID_FIELD, "user_properties.$setOnce"),
    (event(user_properties={"$add": {"a": "b"}}), errors.INVALID_FIELD, "user_properties.$add"),
    (event(insert_id="u" * 600), errors.INVALID_FIELD, "insert_id"),
    (event("$groupidentify"), errors.MISSING_FIELD, "groups"),
    (event("$groupidentify", groups={"a": "b"}, group_properties=5), errors.INVALID_FIELD, "group_properties"),
    (event("$identify", groups={"a": {}}), errors.INVALID_FIELD, "groups"),
    (event("$identify", groups={"a": ""}), errors.INVALID_FIELD, "groups"),
    (event("$identify", groups={"a": list(range(51))}), errors.TOO_LARGE, "groups"),
    (None, errors.INVALID_FIELD, ""),
    (5, errors.INVALID_FIELD, ""),
]


@pytest.mark.parametrize(("bad", "code", "field"), BAD)
def test_a_bad_event_refuses_itself_in_the_words_of_its_sender(bad: Any, code: str, field: str) -> None:
    taken = take({"api_key": KEY, "events": [GOOD, bad, GOOD | {"insert_id": "i-2"}]})
    [refusal] = taken.refused
    assert (refusal.code, refusal.index, refusal.field) == (code, 1, f"events[1].{field}".rstrip("."))
    assert not {"userId", "anonymousId", "messageId", "set_once"} & set(refusal.message.replace(".", " ").split())
    # The good ones are neither lost nor sent again: to the libraries all is well, and they read nothing more.
    assert (taken.batch.length, taken.told["code"], taken.told["events_ingested"]) == (2, 200, 2)
    assert [one["index"] for one in taken.told["refused"]] == [1]
    # Where none is good, each is named, so that none is sent again.
    alone = take({"api_key": KEY, "events": [bad, bad]})
    told = alone.told
    assert (alone.reply.status, told["code"], told["missing_field"]) == (400, 400, None)
    named = {**told["events_with_invalid_fields"], **told["events_with_missing_fields"]}
    assert named == {field or "event": [0, 1]}
    which = "missing" if code == errors.MISSING_FIELD else "invalid"
    assert told[f"events_with_{which}_fields"] == named


def test_one_event_that_cannot_be_stored_takes_no_other_with_it() -> None:
    good = json.dumps(GOOD).encode()
    bad = b'{"event_type":"e","device_id":"d","event_properties":{"a":1e400}}'
    taken = take(b'{"api_key":"k","events":[%s,%s]}' % (good, bad))
    assert (taken.batch.length, taken.key) == (1, "k")
    assert [(refusal.code, refusal.field) for refusal in taken.refused] == [(errors.INVALID_JSON, "events[1]")]


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"5", b'"x"', b"null", b"{", b'{"events":5}', b"[5", b"\xff", b"{}", b'{"api_key":5}']
)
def test_a_body_that_cannot_be_read_is_final(body: bytes) -> None:
    taken = take(body)
    assert (taken.reply.status, taken.told["code"]) == (400, 400)
    assert taken.told["missing_field"], "without it the libraries would send it all again"
    assert taken.told["error"]


def test_no_events_are_fine() -> None:
    assert take({"api_key": KEY, "events": []}).told["events_ingested"] == 0


def told_of(status: int, code: str) -> tuple[int, dict[str, Any]]:
    reply = amplitude.failure(status, Ack(0, [], Refusal(code, "why"), 0), EVENTS)
    return reply.status, json.loads(reply.body)


@pytest.mark.parametrize(
    ("status", "code", "answered", "said"),
    [
        (401, errors.INVALID_KEY, 400, 400),
        (403, errors.FORBIDDEN, 400, 400),
        (405, errors.METHOD_NOT_ALLOWED, 405, 400),
        (408, errors.TIMEOUT, 408, 408),
        (413, errors.TOO_LARGE, 413, 413),
        (415, errors.UNSUPPORTED_ENCODING, 400, 400),
        (429, errors.UNAVAILABLE, 429, 429),
        (500, errors.INTERNAL, 500, 500),
        (503, errors.UNAVAILABLE, 503, 429),
    ],
)
def test_every_answer_has_a_code_that_the_libraries_read_rightly(
    status: int, code: str, answered: int, said: int
) -> None:
    status, told = told_of(status, code)
    assert (status, told["code"]) == (answered, said)
    assert "why" in told["error"]
    if said == 400:
        # Final: it begins as only this does, or names a field.
        assert told["error"].startswith("Invalid API key: ") != bool(told["missing_field"])
    if said == 429:
        # All wait 30 s, 12 times, instead of being given up after some seconds; none is dropped.
        assert told["throttled_events"][:200] == list(range(200))
        assert told["exceeded_daily_quota_users"] == told["exceeded_daily_quota_devices"] == {}


# ---- the path that PostHog has too

AMPLITUDES: list[bytes] = [
    NODE,
    b' {\n "api_key" : "k", "n":-1.5e3 , "x":null, "events" : [{"batch":[]}]}',
    b'{"client_upload_time":"a\\"b","events":[],"batch":5}',
    b'{"options":{"min_id_length":1},"events":[{}]}',
    b'{"\\u0065vents":[{}],"options":{}}',
]
OTHERS: list[bytes] = [
    b'{"api_key":"k","batch":[{"events":[]}]}',
    b'{"api_key":"k","historical_migration":false,"batch":[],"events":[]}',
    b'{"batch":[{"event":"events"}],"sent_at":"x"}',
    b'{"batch":[{}],"options":{},"events":[]}',
    b'{"options":{},"batch":[{}],"events":[]}',
    b'{"api_key":"\\"events\\":[","batch":[]}',
    b'{"api_key":"k","event":"events"}', b"[]", b'[{"event":"x"}]', b"", b"{", b"\xff", b'"events":', b"[" * 100_000,
    b'{"a":' * 100_000, b'{"a":"' + b"\\" * 1001,
]  # fmt: skip


@pytest.mark.parametrize(("body", "dialect"), [(x, amplitude) for x in AMPLITUDES] + [(x, posthog) for x in OTHERS])
def test_a_path_that_posthog_has_too(body: bytes, dialect: Any) -> None:
    assert known.chosen("posthog", ("amplitude",), body, BATCH) is dialect


# ---- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OPERATIONS = st.dictionaries(
    st.sampled_from([*amplitude._OPERATIONS, *amplitude._REFUSED, "a", "ip"]), JSON, max_size=5
)
FIELDS = {field.encode_name: JSON for field in msgspec.structs.fields(amplitude.Event)}
SAID = st.fixed_dictionaries(
    {},
    optional=FIELDS
    | {
        "event_type": st.sampled_from([*amplitude._CALLS, "e"]) | JSON,
        "user_id": st.text(max_size=5) | JSON,
        "device_id": st.text(max_size=5),
        "time": st.integers() | st.floats() | st.text(max_size=5),
        "insert_id": st.text(max_size=5),
        "user_properties": OPERATIONS | JSON,
        "group_properties": OPERATIONS | JSON,
        "groups": st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.lists(st.text(max_size=3))) | JSON,
        "event_properties": st.dictionaries(st.sampled_from(["[Amplitude] Page URL", "ip", "utm_source"]), JSON) | JSON,
    },
)


@given(
    st.fixed_dictionaries(
        {"events": st.lists(SAID | JSON, max_size=4)},
        optional={"api_key": JSON, "client_upload_time": JSON, "options": JSON},
    )
    | JSON,
    st.booleans(),
)
def test_any_json_is_answered_and_no_event_is_lost_count_of(body: Any, ascii_only: bool) -> None:
    data = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    taken = take(data)
    assert taken.told["code"] in (200, 400, 413)
    events = body.get("events") if isinstance(body, dict) else None
    if isinstance(events, list) and not any(refusal.index is None for refusal in taken.refused):
        named = {refusal.index for refusal in taken.refused}
        ingested = taken.told.get("events_ingested", 0)
        assert len(events) - len(named) <= ingested <= len(events)
        assert ingested <= taken.batch.length
        if taken.told["code"] == 400:
            assert named == set(range(len(events))), "an event that is not named would be sent again"


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(body: bytes) -> None:
    assert take(body).told["code"] in (200, 400, 413)
    amplitude.is_mine(body, BATCH)
