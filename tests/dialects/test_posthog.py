"""PostHog: each form in which its libraries send, what each call means, and what each library takes for final."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dialects.understood import NOW, Understood, understood
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import posthog
from pugd.dialects.dialect import Asked, Reply
from pugd.model import Ack, Refusal

CAPTURE = Asked("capture")
KEY = "phc_key"


def take(body: Any, asked: Asked = CAPTURE, *, secret: bool = False) -> Understood:
    return understood(posthog, body, asked, secret=secret)


def event(name: str | None = "scroll", distinct_id: Any = "d-1", **fields: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"event": name, "uuid": "u-1", "distinct_id": distinct_id, **fields}
    return {"properties": {}} | said


def one(*args: Any, **fields: Any) -> Understood:
    return take({"api_key": KEY, "batch": [event(*args, **fields)]})


def test_posthog_node_and_python_send_batches() -> None:
    properties = {"percent": 72, "$lib": "posthog-node", "$lib_version": "5.70.0"}
    taken = take({
        "api_key": KEY, "sent_at": NOW, "historical_migration": False,
        "batch": [event(properties=properties, timestamp=NOW - 10)],
    })  # fmt: skip
    assert (taken.key, taken.refused, taken.reply) == (KEY, [], Reply(200, b'{"status":1}'))
    row = taken.event()
    assert (row["event"], row["call"], row["event_id"]) == ("scroll", "track", "u-1")
    assert (row["user_id"], row["anonymous_id"]) == ("", "d-1")
    assert (row["occurred_at"], row["time_note"]) == (NOW - 10, "")
    assert row["properties"] == properties
    assert (row["library"], row["platform"]) == ("posthog-node", "server")
    assert taken.batch.calls == {}


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": KEY, **event()},
        {"token": KEY, **event()},
        {"event": "scroll", "uuid": "u-1", "properties": {"token": KEY, "distinct_id": "d-1"}},
        [event(api_key=KEY)],
        [event(properties={"token": KEY})],
        {"token": KEY, "batch": [event()]},
        {"batch": [event(token=KEY)]},
        {"api_key": KEY, "batch": [event(None), event()]},
    ],
)
def test_every_form_of_a_body_and_every_place_of_a_key(body: Any) -> None:
    taken = take(body)
    assert taken.key == KEY
    assert taken.reply.status == 200
    assert (taken.event()["event"], taken.event()["anonymous_id"]) == ("scroll", "d-1")


@pytest.mark.parametrize("distinct_id", ["d-1", 42, 42.0])
def test_ids_that_are_numbers(distinct_id: Any) -> None:
    assert one("e", distinct_id).event()["anonymous_id"] == str(distinct_id).removesuffix(".0")


def test_what_posthog_js_says_of_a_page() -> None:
    properties = {
        "$current_url": "https://shop.example/p?q=1", "$pathname": "/p", "title": "P", "$referrer": "$direct",
        "$lib": "web", "$lib_version": "1.449.2", "$raw_user_agent": "Mozilla/5.0", "$browser_language": "de-CH",
        "$device_id": "d-1", "$session_id": "s-1", "$os": "Linux", "$device_type": "Desktop", "$timezone": "UTC",
        "$screen_width": 800, "$screen_height": 600, "distinct_id": "d-1", "token": KEY, "$is_identified": False,
        "utm_source": "news",
    }  # fmt: skip
    taken = take([{"event": "$pageview", "uuid": "u-1", "properties": properties, "timestamp": NOW}])
    row = taken.event()
    assert (row["event"], row["call"], row["platform"], row["library"]) == ("$pageview", "page", "web", "posthog-js")
    assert (row["url"], row["path"], row["title"]) == ("https://shop.example/p?q=1", "/p", "P")
    assert (row["locale"], row["user_agent"], row["session_id"], row["referrer"]) == ("de-CH", "Mozilla/5.0", "s-1", "")
    assert (row["user_id"], row["anonymous_id"]) == ("", "d-1")
    assert row["properties"] == properties
    assert row["context"]["campaign"] == {"source": "news"}
    assert row["context"]["device"] == {"id": "d-1", "type": "Desktop"}


@pytest.mark.parametrize("evidence", [{"$is_identified": True}, {"$user_id": "u"}])
def test_evidence_makes_a_user_of_a_distinct_id(evidence: dict[str, Any]) -> None:
    row = one("e", "u", properties=evidence).event()
    assert (row["user_id"], row["anonymous_id"]) == ("u", "")
    assert one("e", "u", properties={"$user_id": "other"}).event()["user_id"] == ""


def test_identify_links_and_sets() -> None:
    call = one("$identify", "user", properties={"$anon_distinct_id": "anon", "$set": {"plan": "pro"}},
               **{"$set_once": {"source": "ad", "$initial_referrer": None}}).call  # fmt: skip
    assert (call.call, call.user_id, call.anonymous_id) == ("identify", "user", "anon")
    assert call.traits == [("plan", "set", b'"pro"'), ("source", "set_once", b'"ad"')]
    alone = one("$identify", "user", properties={"$anon_distinct_id": "user"}).call
    assert (alone.user_id, alone.anonymous_id, alone.traits) == ("user", "", [])


@pytest.mark.parametrize("name", ["$create_alias", "$merge_dangerously"])
def test_an_alias_names_two_ids_and_proves_neither(name: str) -> None:
    for distinct_id, alias in (("user", "anon"), ("anon", "user")):
        call = one(name, distinct_id, properties={"alias": alias}).call
        assert (call.call, {call.user_id, call.anonymous_id}) == ("alias", {"user", "anon"})
        assert not call.is_user
        assert not call.secret
    assert one(name, "u", properties={"alias": 5, "$is_identified": True}).call.is_user
    assert one(name, "u").refused[0].field == "batch[0].properties.alias"


@pytest.mark.parametrize("name", ["$set", "$set_once", "$unset"])
def test_traits_alone_are_no_event(name: str) -> None:
    value: Any = ["old"] if name == "$unset" else {"plan": "pro"}
    call = one(name, "d", **{name: value}).call
    expected = ("old", "unset", b"") if name == "$unset" else ("plan", name[1:], b'"pro"')
    assert (call.call, call.user_id, call.anonymous_id, call.traits) == ("traits", "", "d", [expected])


def test_what_stands_beside_the_properties_wins_and_is_kept_with_them() -> None:
    taken = one(properties={"$set": {"a": 1, "b": 1}, "n": 1}, **{"$set": {"b": 2}, "$unset": ["c"]})
    assert taken.call.traits == [("a", "set", b"1"), ("b", "set", b"2"), ("c", "unset", b"")]
    assert (taken.call.call, taken.call.secret) == ("event", False)
    assert taken.event()["properties"] == {"$set": {"b": 2}, "n": 1, "$unset": ["c"]}


@pytest.mark.parametrize("said", [False, "false"])
def test_no_person_wanted(said: Any) -> None:
    taken = one(properties={"$process_person_profile": said, "$set": {"a": 1}}, **{"$set_once": {"b": 1}})
    assert taken.batch.calls == {}
    assert taken.event()["anonymous_id"] == "d-1"


def test_groups() -> None:
    taken = one("$groupidentify", properties={
        "$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 5, "$ip": "203.0.113.9"},
    })  # fmt: skip
    row = taken.event()
    assert (row["call"], row["event"]) == ("group", "group")
    assert row["properties"] == {"group_type": "company", "group_id": "acme", "traits": {"seats": 5}}
    assert one("$groupidentify").refused[0].field == "batch[0].properties.$group_key"
    assert one(properties={"$groups": {"company": "acme"}}).event()["properties"] == {"$groups": {"company": "acme"}}


def test_addresses_are_dropped_wherever_they_stand() -> None:
    taken = one(properties={"$ip": "203.0.113.9", "a": 1, "$set": {"$ip": "203.0.113.9", "b": 1}},
                **{"$set_once": {"ip": "203.0.113.9"}})  # fmt: skip
    assert taken.event()["properties"] == {"a": 1, "$set": {"b": 1}, "$set_once": {}}
    assert taken.call.traits == [("b", "set", b"1")]


def test_recordings_are_taken_for_good_and_not_kept() -> None:
    taken = take([event("$snapshot"), event("e")])
    assert (taken.batch.length, taken.refused, taken.reply.status) == (1, [], 200)
    taken = take([event("$snapshot", api_key=KEY)])
    assert (taken.batch.length, taken.reply, taken.key) == (0, posthog.KEPT, KEY)


def test_clocks() -> None:
    late = NOW - 3_600_000
    said = {"batch": [event(timestamp=late - 5000), event(timestamp=late, properties={"$ignore_sent_at": True})]}
    taken = take(said | {"sent_at": late})
    assert [taken.event(number)["occurred_at"] for number in (0, 1)] == [NOW - 5000, late]
    # V1 says in a header when it was sent, older posthog-js in the query.
    v1 = Asked("v1", more={b"posthog-request-timestamp": b"2026-09-21T12:00:00Z"})
    assert take({"batch": [event(timestamp="2026-09-21T11:59:50Z")]}, v1).event()["occurred_at"] == NOW - 10_000
    asked = Asked("capture", query=b"ip=1&_=%d&ver=1.2" % late)
    assert take([event(timestamp=late - 7)], asked).event()["occurred_at"] == NOW - 7
    # … and in place of a time, how long ago it was.
    row = take([event(offset=2500), event(offset=-1)]).event()
    assert (row["occurred_at"], row["original_at"], row["time_note"]) == (NOW - 2500, NOW - 2500, "")
    assert take([event(timestamp="2024-01-15T10:00:00Z")]).event()["time_note"] == ""
    assert one(properties={"$time": NOW / 1000}).event()["occurred_at"] == NOW


def test_event_ids() -> None:
    assert one(uuid=None, properties={"$insert_id": "i-1"}).event()["event_id"] == "i-1"
    assert one(uuid=None).event()["event_id"] == "minted-0"


def test_v1_says_its_library_in_a_header() -> None:
    asked = Asked("v1", more={b"posthog-sdk-info": b"posthog-node/5.70.0"})
    page = {"$current_url": "https://shop.example/"}
    events = [event("$pageview", properties=page), event("e", properties={"$lib": "posthog-python"}), event("e")]
    taken = take({"batch": events}, asked)
    contexts = [taken.event(number)["context"] for number in range(3)]
    assert [context["library"]["name"] for context in contexts] == ["posthog-node", "posthog-python", "posthog-node"]
    assert contexts[0]["library"]["version"] == "5.70.0"
    assert [taken.event(number)["platform"] for number in range(3)] == ["server"] * 3
    # It stands in every event, so it is not taken at any length.
    long = take({"batch": events[2:]}, Asked("v1", more={b"posthog-sdk-info": b"x" * 100_000})).event()
    assert len(str(long["context"])) < 1000
    assert "library" not in take({"batch": events[2:]}, Asked("v1")).event()["context"]


def test_v1_has_options_and_results() -> None:
    asked = Asked("v1")
    events = [
        event(
            "e", uuid="good", session_id="s", options={"process_person_profile": False}, properties={"$set": {"a": 1}}
        ),
        event("e", "", uuid="bad"),
    ]
    taken = take({"batch": events, "created_at": "2026-09-21T12:00:00Z"}, asked)
    assert taken.batch.calls == {}
    assert taken.event()["session_id"] == "s"
    assert taken.told["results"].keys() == {"bad"}
    assert taken.told["results"]["bad"]["result"] == "drop"
    assert take({"batch": [event("e")]}, asked).reply == Reply(200, b'{"results":{}}')


def test_the_oldest_libraries_set_traits_by_engage() -> None:
    taken = take({"$token": KEY, "$distinct_id": "d", "$set": {"plan": "pro"}})
    assert taken.key == KEY
    assert (taken.call.call, taken.call.anonymous_id, taken.call.traits) == ("traits", "d", [("plan", "set", b'"pro"')])


GOOD = event("good")
BAD: list[tuple[Any, str, str]] = [
    (event(None), errors.MISSING_FIELD, "batch[1].event"),
    (event(""), errors.MISSING_FIELD, "batch[1].event"),
    (event("e" * 600), errors.INVALID_FIELD, "batch[1].event"),
    (event(5), errors.INVALID_FIELD, "batch[1].event"),
    (event("e", None), errors.MISSING_FIELD, "batch[1].distinct_id"),
    (event("e", ""), errors.MISSING_FIELD, "batch[1].distinct_id"),
    (event("e", True), errors.MISSING_FIELD, "batch[1].distinct_id"),
    (event("e", "x" * 513), errors.INVALID_ID, "batch[1].distinct_id"),
    (event("e", ["x"]), errors.INVALID_FIELD, "batch[1].distinct_id"),
    (event(properties=[]), errors.INVALID_FIELD, "batch[1].properties"),
    (event(uuid="u" * 600), errors.INVALID_FIELD, "batch[1].uuid"),
    (event(properties={"$set": 5}), errors.INVALID_FIELD, "batch[1].properties.$set"),
    (event("e", **{"$unset": 5}), errors.INVALID_FIELD, "batch[1].properties.$unset"),
    (None, errors.INVALID_FIELD, "batch[1]"),
    (5, errors.INVALID_FIELD, "batch[1]"),
]


@pytest.mark.parametrize(("bad", "code", "field"), BAD)
def test_a_bad_event_refuses_itself_in_the_words_of_its_sender(bad: Any, code: str, field: str) -> None:
    taken = take({"api_key": KEY, "batch": [GOOD, bad, GOOD]})
    [refusal] = taken.refused
    assert (refusal.code, refusal.index, refusal.field) == (code, 1, field)
    assert "Id" not in refusal.message
    assert (taken.batch.length, taken.reply.status, taken.told["status"], taken.told["accepted"]) == (2, 200, 1, 2)
    assert taken.told["refused"][0]["attr"] == field
    listed = take([GOOD, bad]).refused[0]
    assert listed.field == field.removeprefix("batch")
    alone = take({"api_key": KEY, "batch": [bad]})
    assert alone.reply.status == 400
    assert alone.told["type"] == "validation_error"
    assert isinstance(alone.told["detail"], str)


def test_one_event_that_cannot_be_stored_takes_no_other_with_it() -> None:
    good = json.dumps(GOOD).encode()
    bad = b'{"event":"e","distinct_id":"d","properties":{"a":1e400}}'
    for body, place in ((b'{"api_key":"k","batch":[%s,%s]}', "batch"), (b"[%s,%s]", "")):
        taken = take(body % (good, bad))
        assert taken.batch.length == 1
        assert [(refusal.code, refusal.field) for refusal in taken.refused] == [(errors.INVALID_JSON, f"{place}[1]")]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"5", b'"x"', b"null", b"{", b'{"batch":5}', b"[5", b"\xff", b"{}"])
def test_a_body_that_cannot_be_read_is_final(body: bytes) -> None:
    taken = take(body)
    assert taken.reply.status == 400
    assert taken.told["type"] == "validation_error"


def test_lz64_is_refused_for_good() -> None:
    for asked in (Asked("capture", query=b"compression=lz64&ip=1"), Asked("capture", form={"compression": "lz64"})):
        assert (take(b"N4Ig", asked).reply.status, take(b"N4Ig", asked).told["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    ("status", "code", "answered"),
    [
        (401, errors.INVALID_KEY, 401),
        (408, errors.TIMEOUT, 503),
        (413, errors.TOO_LARGE, 413),
        (429, errors.UNAVAILABLE, 503),
        (503, errors.UNAVAILABLE, 503),
        (500, errors.INTERNAL, 500),
    ],
)
def test_what_may_be_sent_again_is_never_below_500(status: int, code: str, answered: int) -> None:
    reply = posthog.failure(status, Ack(0, [], Refusal(code, "why"), 0), CAPTURE)
    told = json.loads(reply.body)
    assert (reply.status, told["detail"]) == (answered, "why")
    if status == 401:
        assert (told["type"], told["code"], told["attr"]) == ("authentication_error", "invalid_api_key", None)


@pytest.mark.parametrize(
    ("call", "has"),
    [
        ("flags", {"flags": {}, "featureFlags": {}, "errorsWhileComputingFlags": False}),
        ("decide", {"featureFlags": {}, "sessionRecording": False}),
        ("config", {"token": KEY, "hasFeatureFlags": False, "sessionRecording": False}),
        ("definitions", {"flags": [], "group_type_mapping": {}, "cohorts": {}}),
        ("recording", {"status": 1}),
        ("surveys", {"surveys": []}),
        ("features", {"earlyAccessFeatures": []}),
        ("experiments", {"experiments": []}),
    ],
)
def test_what_is_asked(call: str, has: dict[str, Any]) -> None:
    taken = take(b"", Asked(call, part=KEY, base="https://e.example"))
    assert taken.reply.status == 200
    assert has.items() <= taken.told.items()


def test_the_settings_as_a_script_keep_any_key_a_string() -> None:
    key = 'a"</script>\u2028\\'
    reply = take(b"", Asked("config.js", part=key)).reply
    assert reply.content_type.startswith("application/javascript")
    script = reply.body.decode()
    assert "<" not in script
    assert script.isascii()
    named = script.partition("_POSTHOG_REMOTE_CONFIG[")[2].partition("]={config:")[0]
    assert json.loads(named) == key


def test_scripts_are_not_served() -> None:
    assert take(b"", Asked("static", part="array.js")).reply.status == 404


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [field.encode_name for field in posthog.msgspec.structs.fields(posthog._Body)]
    + [field.encode_name for field in posthog.msgspec.structs.fields(posthog._Properties)]
)
PROPERTIES = st.dictionaries(NAMES, JSON, max_size=6)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from([*posthog._CALLS, "$snapshot", "e"]) | JSON,
        "distinct_id": st.text(max_size=5) | JSON,
        "properties": PROPERTIES | JSON,
        "$set": PROPERTIES | JSON,
        "uuid": st.text(max_size=5),
        "timestamp": JSON,
        "offset": st.floats() | st.integers(),
        "options": PROPERTIES,
    },
)


@given(
    st.lists(EVENTS, max_size=4)
    | EVENTS
    | st.fixed_dictionaries({"batch": st.lists(EVENTS | JSON, max_size=4)})
    | JSON,
    st.sampled_from([CAPTURE, Asked("v1"), Asked("capture", query=b"_=1790000000000")]),
    st.booleans(),
)
def test_any_json_is_answered_and_no_event_is_lost_count_of(body: Any, asked: Asked, ascii_only: bool) -> None:
    data = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    taken = take(data, asked)
    assert taken.reply.status in (200, 400, 413)
    json.loads(taken.reply.body)
    events = body.get("batch") if isinstance(body, dict) and isinstance(body.get("batch"), list) else None
    if events is None and isinstance(body, list):
        events = body
    if events is not None and not any(refusal.index is None for refusal in taken.refused):
        kept = [one for one in events if not (isinstance(one, dict) and one.get("event") in list(posthog._DROPPED))]
        assert len(kept) <= taken.batch.length + len(taken.refused) <= len(events)


@given(st.binary(max_size=200), st.sampled_from([CAPTURE, Asked("v1")]))
def test_any_bytes_are_answered(body: bytes, asked: Asked) -> None:
    assert take(body, asked).reply.status in (200, 400, 413)


@pytest.mark.parametrize(
    ("distinct_id", "said"),
    [
        ("$posthog_cookieless", {"$cookieless_mode": True}),
        ("$posthog_cookieless", {}),
        ("me-1", {"$cookieless_mode": True, "$user_id": "me-1", "$is_identified": False}),
        (None, {"$cookieless_mode": True, "distinct_id": "$posthog_cookieless"}),
    ],
)
def test_a_cookieless_visitor_has_an_id_of_the_day_and_no_other(distinct_id: Any, said: dict[str, Any]) -> None:
    more = {"$device_id": "d-1", "$session_id": "s-1", "$window_id": "w-1", "$set_once": {"plan": "gold"}}
    said = said | more | {"$current_url": "https://shop.example/a", "$raw_user_agent": "Mozilla/5.0"}
    taken = one("$pageview", distinct_id, properties=said, **{"$set": {"plan": "free"}})
    row = taken.event()
    assert (row["event"], row["call"], row["cookieless"], row["session_id"]) == ("$pageview", "page", 1, "")
    assert (row["user_id"], row["anonymous_id"]) == ("", f"cookieless-({NOW}, None, 'Mozilla/5.0', '')")
    kept = {"$current_url": "https://shop.example/a", "$raw_user_agent": "Mozilla/5.0"}
    assert row["properties"] == kept | (
        {name: said[name] for name in ("$cookieless_mode", "$is_identified") if name in said}
    )
    assert not any(id_ in str(row) for id_ in ("me-1", "d-1", "s-1", "w-1", "gold", "free", "$posthog_cookieless"))
    assert taken.batch.calls == {}


def test_the_address_that_an_event_says_tells_cookieless_visitors_apart() -> None:
    row = one("e", "$posthog_cookieless", properties={"$ip": "203.0.113.9", "$raw_user_agent": "A"}).event()
    assert row["anonymous_id"] == f"cookieless-({NOW}, '203.0.113.9', 'A', '')"
    row = one("e", "$posthog_cookieless", properties={"$ip": "203.0.113.9", "$geoip_disable": True}).event()
    assert row["anonymous_id"] == f"cookieless-({NOW}, '', '', '')", "the connection's then"


def test_v1_says_in_its_options_that_a_visitor_is_cookieless() -> None:
    row = one("e", "d-1", options={"cookieless_mode": True}).event()
    assert (row["cookieless"], "d-1" in str(row)) == (1, False)
    for mark in (False, "false", None):
        assert one("e", "d-1", properties={"$cookieless_mode": mark}).event()["anonymous_id"] == "d-1"


@pytest.mark.parametrize("name", ["$identify", "$create_alias", "$groupidentify", "$set", "$merge_dangerously"])
def test_a_cookieless_visitor_becomes_nobody(name: str) -> None:
    said = {"$cookieless_mode": True, "alias": "x", "$anon_distinct_id": "a", "$group_key": "g", "$group_type": "t"}
    taken = one(name, "$posthog_cookieless", properties=said, **{"$set": {"plan": "pro"}})
    assert [(refusal.code, refusal.field) for refusal in taken.refused] == [
        (errors.COOKIELESS_CALL, "batch[0].properties.$cookieless_mode")
    ]
    assert (taken.batch.length, taken.batch.calls) == (0, {})
