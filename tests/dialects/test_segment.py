from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import datagram, segment
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import CALLS, Decoded, Message, Visitor, read
from pugd.enrich import clock
from pugd.enrich.event import enriched
from pugd.model import KEYS, PARTS, Batch, EventRow, Refusal

NOW = 1_790_000_000_000
FIELDS = EventRow.__struct_fields__


def take(
    body: Any, call: str = "batch", *, secret: bool = False, transport: str = "http", visitor: Visitor | None = None
) -> tuple[Batch, list[Refusal]]:
    decoded = segment.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), Asked(call))
    assert isinstance(decoded, Decoded), decoded
    batch = Batch()
    numbers = itertools.count()
    refused = read(
        decoded,
        batch,
        project=7,
        secret=secret,
        received_at=NOW,
        transport=transport,
        clock=clock,
        mint=lambda: f"minted-{next(numbers)}",
        enrich=enriched,
        visitor=visitor,
    )
    return batch, refused


def event(batch: Batch, index: int = 0) -> dict[str, Any]:
    parts = batch.parts[PARTS * index : PARTS * (index + 1)]
    assert len(parts) == PARTS
    row = msgspec.msgpack.decode(msgspec.msgpack.encode(parts)[1:])
    assert len(row) == len(FIELDS)
    return dict(zip(FIELDS, row, strict=True))


def as_stored(batch: Batch) -> str:
    return repr(msgspec.msgpack.encode(batch.parts)) + repr(batch.calls)


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "scroll", "anonymousId": "anon-1", "messageId": "m-1", **fields}


def test_a_track_becomes_a_row_with_everything_it_said() -> None:
    context = {
        "library": {"name": "@segment/analytics-node", "version": "3.1.0"},
        "page": {"url": "https://shop.example/p?q=1", "path": "/p", "title": "P", "referrer": "https://a.example/"},
        "locale": "de-CH",
        "userAgent": "Mozilla/5.0",
        "app": {"version": "1.2.3"},
        "sessionId": 1700000000123,
    }
    body = {"batch": [track(userId="u1", properties={"percent": 72}, timestamp=NOW - 10, context=context)]}
    batch, refused = take(body)
    assert refused == []
    row = event(batch)
    assert (row["event"], row["call"], row["project"], row["user_id"], row["anonymous_id"]) == (
        "scroll", "track", 7, "u1", "anon-1",
    )  # fmt: skip
    assert json.loads(row["properties"]) == {"percent": 72}
    assert json.loads(row["context"]) == context
    assert (row["occurred_at"], row["received_at"], row["original_at"], row["time_note"]) == (
        NOW - 10,
        NOW,
        NOW - 10,
        "",
    )
    assert (row["platform"], row["library"], row["session_id"]) == (
        "server",
        "@segment/analytics-node",
        "1700000000123",
    )
    assert (row["url"], row["path"], row["title"], row["referrer"]) == tuple(context["page"].values())  # type: ignore[attr-defined]
    assert (row["locale"], row["user_agent"], row["app_version"]) == ("de-CH", "Mozilla/5.0", "1.2.3")
    assert batch.event_keys == [7, "m-1", NOW - 10, "scroll"]
    assert batch.ids == [7, "u1", "anon-1"]


def test_the_path_names_a_single_call() -> None:
    batch, refused = take({"userId": "u", "event": "signup"}, "track")
    assert refused == []
    assert event(batch)["event_id"] == "minted-0"


@pytest.mark.parametrize(
    ("call", "fields", "name"),
    [
        ("page", {"name": "Home"}, "Home"),
        ("page", {"category": "Docs", "name": "Home"}, "Docs Home"),
        ("page", {"category": None}, "page_view"),
        ("screen", {"category": "Cart"}, "Cart"),
        ("screen", {}, "screen_view"),
    ],
)
def test_pages_and_screens_are_named(call: str, fields: dict[str, Any], name: str) -> None:
    batch, _ = take({"anonymousId": "a", **fields}, call)
    assert (event(batch)["event"], event(batch)["call"]) == (name, call)


def test_libraries_for_browsers_are_told_where_to_send_and_nothing_else() -> None:
    told = segment.decode(b"", Asked("settings", part="pub_1", base="https://events.example.com"))
    assert isinstance(told, Reply)
    settings = json.loads(told.body)
    destination = settings["integrations"]["Segment.io"]
    assert (destination["apiKey"], destination["apiHost"]) == ("pub_1", "events.example.com/v1")
    assert settings["metrics"] == {"sampleRate": 0}
    source = segment.decode(b"", Asked("source", query=b"p=npm&writeKey=pub_1"))
    assert isinstance(source, Reply)
    found = json.loads(source.body)["source"]
    assert (found["enabled"], found["destinations"]) == (True, [])
    assert found["config"]["statsCollection"] == {"errors": {"enabled": False}, "metrics": {"enabled": False}}


def test_ids_that_are_numbers_become_their_decimal_text() -> None:
    batch, _ = take({"userId": 42, "anonymousId": 7.0, "event": "e"}, "track")
    assert batch.ids == [7, "42", "7"]


def test_an_empty_id_is_no_id() -> None:
    batch, _ = take({"userId": "", "anonymousId": "a", "event": "e"}, "track")
    assert batch.ids == [7, "", "a"]


def test_python_libraries_send_nulls() -> None:
    batch, refused = take(
        {"batch": [track(userId=None, category=None, properties=None, context=None, traits=None, name=None)]}
    )
    assert refused == []
    assert event(batch)["properties"] == b"{}"
    assert event(batch)["context"] == b"{}"


def test_identify_takes_traits_or_those_of_its_context() -> None:
    batch, _ = take({"userId": "u", "anonymousId": "a", "traits": {"plan": "pro", "old": None}}, "identify")
    assert batch.parts == [None] * PARTS
    assert batch.calls[0].traits == [("plan", "set", b'"pro"'), ("old", "unset", b"")]
    batch, _ = take({"userId": "u", "context": {"traits": {"plan": "x"}}}, "identify")
    assert batch.calls[0].traits == [("plan", "set", b'"x"')]
    batch, _ = take({"userId": "u", "event": "e", "context": {"traits": {"plan": "x"}}}, "track")
    assert batch.calls == {}


def test_alias_names_two_ids() -> None:
    batch, _ = take({"previousId": "a", "userId": "u", "anonymousId": "other"}, "alias", secret=True)
    call = batch.calls[0]
    assert (call.call, call.anonymous_id, call.user_id, call.secret) == ("alias", "a", "u", True)


def test_a_group_keeps_its_traits_to_itself() -> None:
    batch, _ = take({"userId": "u", "groupId": "acme", "traits": {"seats": 5}}, "group")
    assert json.loads(event(batch)["properties"]) == {"group_id": "acme", "traits": {"seats": 5}}
    assert batch.calls == {}


def test_addresses_are_dropped() -> None:
    batch, _ = take({"batch": [
        track(
            properties={"ip": "203.0.113.9", "$ip": "203.0.113.9", "zip": "8000"},
            context={"ip": "203.0.113.9", "x": 1},
        ),
        {"type": "identify", "userId": "u", "traits": {"ip": "203.0.113.9", "zip": "8000"}},
        {"type": "group", "userId": "u", "groupId": "g", "traits": {"ip": "203.0.113.9"}},
    ]})  # fmt: skip
    assert event(batch)["properties"] == b'{"zip":"8000"}'
    assert event(batch)["context"] == b'{"x":1}'
    assert batch.calls[1].traits == [("zip", "set", b'"8000"')]
    assert "203.0.113.9" not in as_stored(batch)


def test_only_one_of_two_addresses() -> None:
    batch, _ = take({"batch": [track(properties={"$ip": "203.0.113.9"}), track(properties={"ip": "203.0.113.9"})]})
    assert "203.0.113.9" not in as_stored(batch)


GOOD = track(messageId="good")
BAD = [
    (track(anonymousId=None), errors.MISSING_FIELD, "userId"),
    (track(event=None), errors.MISSING_FIELD, "event"),
    (track(event=""), errors.MISSING_FIELD, "event"),
    (track(event="e" * 513), errors.INVALID_FIELD, "event"),
    (track(event=5), errors.INVALID_FIELD, "event"),
    (track(type=None), errors.MISSING_FIELD, "type"),
    (track(type="trakc"), errors.INVALID_FIELD, "type"),
    (track(userId="u" * 513), errors.INVALID_ID, "userId"),
    (track(userId="ü" * 257), errors.INVALID_ID, "userId"),
    (track(userId=True), errors.INVALID_FIELD, "userId"),
    (track(userId={"a": 1}), errors.INVALID_FIELD, "userId"),
    (track(anonymousId="u" * 513), errors.INVALID_ID, "anonymousId"),
    (track(messageId="m" * 513), errors.INVALID_FIELD, "messageId"),
    (track(messageId=5), errors.INVALID_FIELD, "messageId"),
    (track(properties=[1]), errors.INVALID_FIELD, "properties"),
    (track(properties="x"), errors.INVALID_FIELD, "properties"),
    (track(context=[1]), errors.INVALID_FIELD, "context"),
    (track(context="x"), errors.INVALID_FIELD, "context"),
    ({"type": "identify", "userId": "u", "traits": 5}, errors.INVALID_FIELD, "traits"),
    ({"type": "identify"}, errors.MISSING_FIELD, "userId"),
    ({"type": "alias", "userId": "u"}, errors.MISSING_FIELD, "previousId"),
    ({"type": "group", "userId": "u"}, errors.MISSING_FIELD, "groupId"),
    ({"type": "group", "userId": "u", "groupId": "g", "traits": []}, errors.INVALID_FIELD, "traits"),
    (5, errors.INVALID_FIELD, None),
    ("x", errors.INVALID_FIELD, None),
    (None, errors.INVALID_FIELD, None),
]


@pytest.mark.parametrize(("bad", "code", "field"), BAD)
def test_a_bad_event_refuses_itself_and_names_the_field(bad: Any, code: str, field: str | None) -> None:
    batch, refused = take({"batch": [GOOD, bad, GOOD]})
    assert batch.length == 2
    [refusal] = refused
    assert (refusal.code, refusal.index) == (code, 1)
    assert refusal.field == ("batch[1]" if field is None else f"batch[1].{field}")
    assert refusal.message


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        (b'{"a":1e400}', errors.INVALID_JSON),
        (b'{"a":"\\ud800"}', errors.INVALID_JSON),
        (b'{"a":"\xff"}', errors.INVALID_JSON),
        (b'{"a":NaN}', errors.INVALID_JSON),
        (b'{"a":' * 70 + b"1" + b"}" * 70, errors.TOO_DEEP),
    ],
)
def test_what_cannot_be_stored_refuses_its_event_alone(properties: bytes, code: str) -> None:
    good = json.dumps(GOOD).encode()
    bad = b'{"type":"track","event":"e","anonymousId":"a","properties":' + properties + b"}"
    batch, refused = take(b'{"batch":[' + good + b"," + bad + b"," + good + b"]}")
    assert batch.length == 2
    assert [(refusal.code, refusal.index) for refusal in refused] == [(code, 1)]
    alone = segment.decode(bad, Asked("track"))
    assert isinstance(alone, Refusal)
    assert alone.code == code


def test_the_last_of_two_equal_keys_wins() -> None:
    batch, refused = take(
        b'{"batch":[{"type":"track","event":"e","anonymousId":"a","properties":{"a":1,"a":{"b":2}}}]}'
    )
    assert refused == []
    assert json.loads(event(batch)["properties"]) == {"a": {"b": 2}}


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"5", b'"x"', b"{", b'{"batch":', b"null", b'{"batch":5}'])
@pytest.mark.parametrize("call", ["batch", "track"])
def test_a_body_that_cannot_be_read_is_one_refusal(body: bytes, call: str) -> None:
    decoded = segment.decode(body, Asked(call))
    if isinstance(decoded, Decoded):
        assert call == "track"
        _, [refusal] = take(body, call)
    else:
        refusal = decoded
    assert refusal.code in (errors.INVALID_JSON, errors.INVALID_FIELD, errors.MISSING_FIELD)


def test_a_wrong_clock_is_corrected_by_the_envelope_or_the_message() -> None:
    late = NOW - 3_600_000
    batch, _ = take({"sentAt": late, "batch": [track(timestamp=late - 5000)]})
    assert (event(batch)["occurred_at"], event(batch)["time_note"]) == (NOW - 5000, "skew")
    batch, _ = take({"batch": [track(timestamp=late - 5000, sentAt=late), track(timestamp=NOW - 5000)]})
    assert [event(batch, i)["occurred_at"] for i in (0, 1)] == [NOW - 5000, NOW - 5000]


def test_call_time_stands_in_for_a_timestamp() -> None:
    batch, _ = take(
        {"batch": [track(originalTimestamp=NOW - 50), track(timestamp=NOW - 9, originalTimestamp=NOW - 50)]}
    )
    assert [event(batch, i)["occurred_at"] for i in (0, 1)] == [NOW - 50, NOW - 9]


@pytest.mark.parametrize(
    ("context", "channel", "platform"),
    [
        ({"library": {"name": "analytics.js"}}, None, "web"),
        ({"library": {"name": "RudderLabs JavaScript SDK"}}, None, "web"),
        ({"library": {"name": "analytics-ios"}}, None, "mobile"),
        ({"library": {"name": "analytics-python"}}, None, "server"),
        ({"device": {"type": "Android"}}, None, "mobile"),
        ({"os": {"name": "iOS"}}, None, "mobile"),
        ({"page": {"path": "/"}}, None, "web"),
        ({}, "mobile", "mobile"),
        ({}, None, ""),
    ],
)
def test_platform(context: dict[str, Any], channel: str | None, platform: str) -> None:
    batch, _ = take({"batch": [track(context=context, channel=channel)]})
    assert event(batch)["platform"] == platform


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*Message.__struct_fields__, "batch", "ip", "x"])
MESSAGES = st.dictionaries(NAMES, JSON | st.sampled_from(sorted(CALLS)), max_size=8)


@given(st.lists(MESSAGES, max_size=4), st.dictionaries(NAMES, JSON, max_size=3), st.booleans())
def test_any_json_is_taken_or_refused_event_by_event(
    messages: list[dict[str, Any]], envelope: dict[str, Any], ascii_only: bool
) -> None:
    body = json.dumps({**envelope, "batch": messages}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    decoded = segment.decode(body, Asked("batch"))
    if isinstance(decoded, Refusal):
        assert decoded.code
        assert decoded.message
        return
    batch = Batch()
    refused = read(
        decoded, batch, project=1, secret=False, received_at=NOW, transport="http", clock=clock, mint=lambda: "x"
    )
    assert batch.length + len(refused) == len(messages)
    assert (len(batch.ids), len(batch.event_keys)) == (3 * batch.length, KEYS * batch.length)
    assert sorted(refusal.index or 0 for refusal in refused) == [refusal.index or 0 for refusal in refused]
    for index in range(batch.length):
        if batch.parts[PARTS * index] is None:
            assert index in batch.calls
        else:
            assert index not in batch.calls
            assert isinstance(json.loads(event(batch, index)["properties"]), dict)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(body: bytes) -> None:
    segment.decode(body, Asked("batch"))
    segment.decode(body, Asked("track"))
    for line in datagram.decode(body):
        assert isinstance(line, Decoded | Refusal)


LINES = st.sampled_from(
    [json.dumps(track(writeKey=key, event=event)).encode() for key in "kl" for event in ("a", "b\n", ",")]
    + [b"", b" ", b"nonsense", b"[]", b"{}", b"5", b'{"a":1,"a":2,"writeKey":"k"}', b'{"event":5}', b"{},{}", b"],["]
)


@given(st.lists(LINES, max_size=6))
def test_lines_of_datagrams_do_not_disturb_one_another(lines: list[bytes]) -> None:
    def events(text: bytes) -> list[tuple[str | None, str | None]]:
        found = [line for line in datagram.decode(text) if isinstance(line, Decoded)]
        return [(line.write_key, message.event) for line in found for message in line.messages]

    together = events(b"".join(line + b"\n" for line in lines))
    assert together == [event for line in lines for event in events(line + b"\n")]


def test_datagrams_hold_lines_with_their_own_keys() -> None:
    good = json.dumps(track(writeKey="k")).encode()
    lines = datagram.decode(good + b"\nnonsense\n\n" + json.dumps(track()).encode() + b"\n" + good + b"\n")
    assert [type(line) for line in lines] == [Decoded, Refusal, Refusal, Decoded]
    assert lines[2].code == errors.INVALID_KEY  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "call", "message", "field"),
    [
        (b'{"event":1}', "track", "event is a number: send a string.", "event"),
        (b"[1]", "track", "The body is an array: send an object.", None),
        (b'{"userId":true}', "track", "userId is true or false: send a number or a string.", "userId"),
        (b'{"batch":[],"sentAt":{}}', "batch", "sentAt is an object: send a number or a string.", "sentAt"),
    ],
)
def test_a_wrong_type_is_told_in_the_words_of_json(body: bytes, call: str, message: str, field: str | None) -> None:
    assert segment.decode(body, Asked(call)) == Refusal("invalid_field", message, field)


def cookieless(call: str = "track", context: Any = None, **fields: Any) -> tuple[Batch, list[Refusal]]:
    said = {"type": call, "event": "scroll", "messageId": "m-1", "context": {"cookieless": True} | (context or {})}
    return take({"batch": [said | fields]}, visitor=lambda *said: f"cookieless-{said}")


def test_a_cookieless_visitor_has_an_id_of_the_day_and_no_other() -> None:
    context = {
        "ip": "203.0.113.9", "userAgent": "Mozilla/5.0", "page": {"url": "https://www.shop.example:80/a"},
        "sessionId": "my-1", "traits": {"mail": "my-2"}, "groupId": "my-3", "externalIds": [{"id": "my-4"}],
        "device": {"id": "my-5", "advertisingId": "my-6", "token": "my-7", "model": "Pixel"},
    }  # fmt: skip
    properties = {
        "$set": {"plan": "my-8"}, "$add": {"visits": 99}, "userId": "my-9", "anonymous_id": "my-10", "price": 5,
        "ip": "203.0.113.9",
    }  # fmt: skip
    batch, refused = cookieless("page", context, userId="my-11", anonymousId="my-12", name="A", properties=properties)
    assert refused == []
    row = event(batch)
    assert row["anonymous_id"] == f"cookieless-({NOW}, '203.0.113.9', 'Mozilla/5.0', 'shop.example')"
    assert batch.ids == [7, "", row["anonymous_id"]]
    assert (row["cookieless"], row["user_id"], row["session_id"], row["event"]) == (1, "", "", "A")
    assert json.loads(row["properties"]) == {"price": 5}
    assert json.loads(row["context"]) == {
        "cookieless": True, "userAgent": "Mozilla/5.0", "page": {"url": "https://www.shop.example:80/a"},
        "device": {"model": "Pixel"},
    }  # fmt: skip
    stored = str({name: value for name, value in row.items() if name != "anonymous_id"})
    assert "my-" not in stored
    assert "203.0.113.9" not in stored
    assert (batch.calls, batch.silent) == ({}, set())


@pytest.mark.parametrize("mark", [True, 1, "true", "yes", {}])
def test_whatever_is_not_false_says_cookieless(mark: Any) -> None:
    batch, refused = cookieless(context={"cookieless": mark}, userId="u")
    assert (refused, event(batch)["cookieless"], event(batch)["user_id"]) == ([], 1, "")
    for plain in (False, None, 0):
        batch, _ = cookieless(context={"cookieless": plain}, userId="u")
        assert (event(batch)["cookieless"], event(batch)["user_id"]) == (0, "u")


def test_without_an_id_and_without_the_mark_nothing_is_taken() -> None:
    _, [refusal] = take({"batch": [{"type": "track", "event": "e", "messageId": "m", "context": {}}]})
    assert (refusal.code, refusal.field) == (errors.MISSING_FIELD, "batch[0].userId")


@pytest.mark.parametrize("call", ["identify", "alias", "group"])
def test_a_cookieless_visitor_becomes_nobody(call: str) -> None:
    batch, refused = cookieless(call, userId="u", anonymousId="a", previousId="p", groupId="g", traits={"plan": "pro"})
    assert [(refusal.code, refusal.field) for refusal in refused] == [
        (errors.COOKIELESS_CALL, "batch[0].context.cookieless")
    ]
    assert (batch.length, batch.calls) == (0, {})
    _, [odd] = cookieless("x")
    assert (odd.code, odd.field) == (errors.INVALID_FIELD, "batch[0].type")


def test_cookieless_visitors_of_datagrams_cannot_be_told_apart() -> None:
    _, [refusal] = take({"batch": [track(context={"cookieless": True})]}, transport="udp")
    assert (refusal.code, refusal.field) == (errors.COOKIELESS_OFF, "batch[0].context.cookieless")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"userId": "cookieless-x"}, "userId"),
        ({"anonymousId": "cookieless-"}, "anonymousId"),
        ({"type": "identify", "userId": "cookieless-x"}, "userId"),
        ({"type": "alias", "userId": "u", "previousId": "cookieless-x"}, "previousId"),
        ({"type": "group", "groupId": "g", "userId": "cookieless-x"}, "userId"),
    ],
)
def test_ids_of_the_day_are_no_clients_to_send(fields: dict[str, Any], field: str) -> None:
    batch, [refusal] = take({"batch": [track(**fields), track(anonymousId="a-cookieless-x")]})
    assert (refusal.code, refusal.field, batch.length) == (errors.INVALID_ID, f"batch[0].{field}", 1)
