"""Pug: what its SDKs send, byte for byte; what each message means, in protobuf and in JSON; and what they are told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from dialects import wire
from dialects.understood import NOW, Understood, understood
from dialects.wire import batch, block, event, integer, text, when
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import protobuf, pug, slices
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import Decoded
from pugd.edge import routes
from pugd.edge.gate import IN_QUERY, PUG, UNKNOWN, Gate, hashed
from pugd.model import Ack, Refusal, WriteKey

BATCH = "/sdk.events.v1.EventsService/BatchCreate"
IDENTIFY = "/sdk.profiles.v1.ProfilesSDKService/Identify"
SUBSCRIBE = "/sdk.devices.v1.DevicesService/Subscribe"
PROTO, JSON = "application/proto", "application/json"


def asked(path: str = BATCH, content_type: str = PROTO) -> Asked:
    found = routes.look_up(path)
    assert found is not None
    assert found.route.handler == "pug"
    return Asked(found.route.call, content_type=content_type)


def take(body: Any, path: str = BATCH, content_type: str | None = None) -> Understood:
    """Bytes are protobuf, all else JSON, unless `content_type` says so."""
    return understood(pug, body, asked(path, content_type or (PROTO if isinstance(body, bytes) else JSON)))


def one(*args: Any, **more: Any) -> dict[str, Any]:
    """The row of one event."""
    taken = take(batch(event(*args, **more)))
    assert taken.reply == Reply(200, b"\x08\x01", PROTO), taken.refused
    return taken.event()


def dropped(body: Any) -> dict[str, int]:
    """Why events of a batch were not taken, as protobuf tells it, which is read back here."""
    taken = take(body)
    assert (taken.reply.status, taken.reply.content_type) == (200, PROTO)
    at, found = 0, {}
    fields: list[tuple[int, int | bytes]] = []
    data = taken.reply.body
    while at < len(data):
        tag, at = data[at], at + 1
        size, at = data[at], at + 1
        if tag & 7:
            fields.append((tag >> 3, data[at : at + size]))
            at += size
        else:
            fields.append((tag >> 3, size))
    for number, value in fields:
        if isinstance(value, bytes):
            assert number == 3
            assert value[0] == 0x0A
            reason = value[2 : 2 + value[1]].decode()
            assert value[2 + value[1]] == 0x10
            found[reason] = value[-1]
    counted = dict(field for field in fields if not isinstance(field[1], bytes))
    assert counted == {1: taken.batch.length} | ({2: sum(found.values())} if found else {})
    return found


# ---- as the SDK for Node sends it, version 0.0.5

SDK_BATCH = bytes.fromhex(
    "0abc020a2430316132313965662d353437342d373963342d396233392d65643363323630323332303412120a04246c6962120a0a087075672d6e"
    "6f646512160a0b2473646b56657273696f6e12070a05302e302e3512150a0924706c6174666f726d12080a067365727665721a150a056c616265"
    "6c120c0a0a4772c3bc6e202278220a1a0b0a05636f756e74120210031a100a0362696712091081808080808080101a120a057072696365120919"
    "00000000000029401a080a026f6e120220011a130a026174120d2a0b0880f7c4d50610c0a9d33a1a190a066e6573746564120f0a0d7b2261223a"
    "5b312c2262225d7d2209616e6f6e2d303139322a0e427574746f6e2d50726573736564320c0880f7c4d506108084b8d9013a2430313932336637"
    "652d366134622d373030302d383030302d3030303030303030303030310ab5010a2430316132313965662d353736302d373466322d396362362d"
    "37396166366666636434363412120a04246c6962120a0a087075672d6e6f646512160a0b2473646b56657273696f6e12070a05302e302e351215"
    "0a0924706c6174666f726d12080a067365727665721a100a0178120b10fbffffffffffffffff012206757365722d312a08707572636861736532"
    "003a2430316132313965662d353434662d376464392d623838352d323764306530393334636131"
)
SDK_IDENTIFY = bytes.fromhex(
    "0a06757365722d311288010a0d0a04706c616e12051a0370726f0a120a05736561747312091100000000000000400a120a05726174696f120911"
    "9a9999999999b93f0a080a026f6b120220010a0a0a046e6f6e65120208000a260a046c697374121e321c0a0911000000000000f03f0a0f2a0d0a"
    "0b0a046465657012031a01780a110a016f120c2a0a0a080a016b12031a01761a09616e6f6e2d303139322203642d31"
)


def test_a_batch_of_the_sdk() -> None:
    taken = take(SDK_BATCH)
    assert taken.reply == Reply(200, b"\x08\x02", PROTO)
    first, second = taken.event(0), taken.event(1)
    assert (first["event"], first["call"], first["event_id"]) == (
        "Button-Pressed", "track", "01a219ef-5474-79c4-9b39-ed3c26023204",
    )  # fmt: skip
    assert (first["user_id"], first["anonymous_id"]) == ("", "anon-0192")
    assert (first["occurred_at"], first["original_at"], first["time_note"]) == (NOW + 456, NOW + 456, "")
    assert first["session_id"] == "01923f7e-6a4b-7000-8000-000000000001"
    assert (first["library"], first["platform"]) == ("pug-node", "server")
    assert first["properties"] == {
        "$lib": "pug-node", "$sdkVersion": "0.0.5", "$platform": "server", "label": 'Gr\u00fcn "x"\n', "count": 3,
        "big": 9007199254740993, "price": 12.5, "on": True, "at": "2026-09-21T14:13:20.123Z",
        "nested": '{"a":[1,"b"]}',
    }  # fmt: skip
    assert first["context"]["library"] == {"name": "pug-node", "version": "0.0.5"}
    assert (second["user_id"], second["anonymous_id"], second["properties"]["x"]) == ("user-1", "", -5)
    assert (second["occurred_at"], second["time_note"]) == (0, ""), "1970 is a time"


def test_an_identify_of_the_sdk() -> None:
    taken = take(SDK_IDENTIFY, IDENTIFY)
    assert taken.reply == Reply(200, b"", PROTO)
    call = taken.call
    assert (call.call, call.user_id, call.anonymous_id, call.is_user) == ("identify", "user-1", "anon-0192", True)
    assert (call.event_id, call.occurred_at, call.secret) == ("minted-0", NOW, False)
    assert call.traits == [
        ("plan", "set", b'"pro"'), ("seats", "set", b"2"), ("ratio", "set", b"0.1"), ("ok", "set", b"true"),
        ("none", "unset", b""), ("list", "set", b'[1,{"deep":"x"}]'), ("o", "set", b'{"k":"v"}'),
    ]  # fmt: skip


# ---- protobuf


def test_bytes_by_hand() -> None:
    body = bytes.fromhex(
        "0a 1b"  # events, 27 bytes
        "0a 02 65 31"  # event_id "e1"
        "22 02 75 31"  # distinct_id "u1"
        "2a 01 6b"  # kind "k"
        "1a 07 0a 01 6e 12 02 10 07"  # custom_properties: "n" is int_value 7
        "32 05 08 80 84 af 5f"  # occur_time: 200 000 000 s
    )
    row = take(body).event()
    assert (row["event_id"], row["user_id"], row["event"], row["properties"]) == ("e1", "u1", "k", {"n": 7})
    assert row["occurred_at"] == 200_000_000_000


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0, 0), (-1, -1), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (True, True), (False, False), ("", ""),
        ("\u0000\u001f\u007f\u2028\U0001f600\"\\/", "\u0000\u001f\u007f\u2028\U0001f600\"\\/"), (None, None),
        (1.0, 1), (-0.0, 0), (0.1, 0.1), (1e300, 1e300), (5e-324, 5e-324), (2.0**53, 2.0**53), (2.0**53 - 1, 2**53 - 1),
        (1.7976931348623157e308, 1.7976931348623157e308),
        ((0, 0), "1970-01-01T00:00:00Z"), ((-1, 999_999_999), "1969-12-31T23:59:59.999999999Z"),
        ((951_782_400, 120_000), "2000-02-29T00:00:00.000120Z"), ((-62_135_596_800, 0), "0001-01-01T00:00:00Z"),
        ((253_402_300_799, 0), "9999-12-31T23:59:59Z"), ((253_402_300_800, 0), "253402300800s"),
        ((1, -1), "1s"), ((1, 10**9), "1s"),
    ],
)  # fmt: skip
def test_values(sent: object, kept: object) -> None:
    found = one(custom={"v": sent})["properties"]["v"]
    assert (type(found), found) == (type(kept), kept)


def test_fields_come_in_any_order_and_the_last_of_two_counts() -> None:
    later = block(6, when(1_790_000_000, 5_000_000)) + text(5, "later") + wire.entry(3, "a", wire.said(2))
    row = one("e", "u", "early", when(1_790_000_000), custom={"a": 1}, more=later)
    assert (row["event"], row["properties"], row["occurred_at"]) == ("later", {"a": 2}, NOW + 5)
    value_first = block(3, block(2, wire.said("v")) + text(1, "k"))
    twice = block(3, text(1, "t") + block(2, wire.said("v") + wire.said(7)))
    assert one(more=value_first + twice)["properties"] == {"k": "v", "t": 7}


def test_a_key_of_both_maps_counts_once() -> None:
    assert one(auto={"a": 1, "b": 2}, custom={"a": 3})["properties"] == {"a": 3, "b": 2}


def test_unknown_fields_and_unknown_wire_types_are_passed_over() -> None:
    group = wire.varint(20 << 3 | 3) + integer(1, 5) + wire.varint(21 << 3 | 3) + wire.varint(21 << 3 | 4)
    group += block(4, b"x") + wire.varint(20 << 3 | 4)
    odd = integer(9, 2**64 - 1) + text(536_870_911, "x") + b"\x4d1234" + b"\x5112345678" + group
    odd += integer(5, 1) + block(8, b"1") + integer(6, 1) + wire.varint(1 << 3 | 5) + b"1234"
    row = one("e", "u", "k", custom={"a": 1}, more=odd)
    assert (row["event_id"], row["event"], row["properties"]) == ("e", "k", {"a": 1})
    taken = take(batch(event()) + odd)
    assert taken.batch.length == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"\x0a\x05ab", b"\x08", b"\x00\x00", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0f", b"\x0e",
        b"\xff" * 11, b"\x0b", b"\x0c", b"\x0b\x14", b"\x09123", b"\x0d123", b"\x80\x80\x80\x80\x80\x01\x00",
    ],
)  # fmt: skip
def test_an_event_that_is_no_message_drops_itself(bad: bytes) -> None:
    assert dropped(batch(event("a"), bad, event("b"))) == {errors.INVALID_PROTOBUF: 1}
    assert dropped(batch(event(more=block(2, bad)))) == {errors.INVALID_PROTOBUF: 1}
    refused = take(bad)
    assert (refused.refused[0].code, refused.reply.status) == (errors.INVALID_PROTOBUF, 400)
    assert refused.told["code"] == "invalid_argument"
    assert take(bad, IDENTIFY).told["code"] == "invalid_argument"


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_text_is_utf8(bad: bytes) -> None:
    for field in (1, 4, 5, 7):
        assert dropped(batch(event(more=block(field, bad)), event())) == {errors.INVALID_PROTOBUF: 1}
    for inner in (block(1, bad), block(2, block(1, bad))):
        assert dropped(batch(event(more=block(3, inner)), event())) == {errors.INVALID_PROTOBUF: 1}
    assert take(text(1, "u") + block(2, block(1, block(1, bad))), IDENTIFY).refused[0].code == errors.INVALID_PROTOBUF


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(bad: float) -> None:
    assert dropped(batch(event(), event(custom={"n": bad}))) == {errors.INVALID_FIELD: 1}
    taken = take(text(1, "u") + block(2, wire.structure({"n": bad})), IDENTIFY)
    assert (taken.reply.status, taken.told["code"]) == (400, "invalid_argument")


def nested(depth: int) -> bytes:
    inner = wire.value({})
    for _ in range(depth - 1):
        inner = block(5, block(1, text(1, "k") + block(2, inner)))
    return text(1, "u") + block(2, block(1, text(1, "k") + block(2, inner)))


def test_depth_is_bounded() -> None:
    assert take(nested(protobuf.DEPTH_MAX - 1), IDENTIFY).call.traits[0][0] == "k"
    assert take(nested(protobuf.DEPTH_MAX), IDENTIFY).refused[0].code == errors.TOO_DEEP
    assert take(nested(10_000), IDENTIFY).refused[0].code == errors.TOO_DEEP
    lists = wire.value([])
    for _ in range(protobuf.DEPTH_MAX):
        lists = block(6, block(1, lists))
    assert take(text(1, "u") + block(2, block(1, block(2, lists))), IDENTIFY).refused[0].code == errors.TOO_DEEP
    groups = b"".join(wire.varint(30 << 3 | 3) for _ in range(100_000))
    assert dropped(batch(event(), groups)) == {errors.TOO_DEEP: 1}


# ---- what it means


def test_who() -> None:
    def ids(distinct_id: str) -> tuple[str, str]:
        row = one(distinct_id=distinct_id)
        return row["user_id"], row["anonymous_id"]

    assert ids("anon-1") == ("", "anon-1")
    assert ids("anon") == ("anon", "")
    assert ids("ANON-1") == ("ANON-1", "")
    assert ids("u@example.com") == ("u@example.com", "")


@pytest.mark.parametrize(
    ("kind", "auto", "call"),
    [
        ("page_view", {"$url": "https://a.example/"}, "page"), ("page_view", {"$url": 5}, "track"),
        ("page_view", {}, "track"), ("screen_view", {}, "screen"), ("order_completed", {"$url": "https://a"}, "track"),
    ],
)  # fmt: skip
def test_names(kind: str, auto: dict[str, object], call: str) -> None:
    row = one(kind=kind, auto=auto)
    assert (row["call"], row["event"]) == (call, kind)


def test_context() -> None:
    auto = {
        "$url": "https://shop.example/shoes?size=9#top", "$pageTitle": "Shoes", "$referrer": "https://search.example/",
        "$platform": "web", "$sdkVersion": "0.0.4", "$locale": "de-DE", "$timezone": "Europe/Berlin",
        "$screenWidth": "1920", "$screenHeight": 1080, "$browser": "Chromium", "$browserVersion": "140",
        "$os": "Linux", "$osVersion": "6", "$device": "Pixel", "$appName": "Shop", "$appPackage": "example.shop",
        "$appVersion": "1.2", "$appBuild": "34", "$deviceModel": "M", "$deviceManufacturer": "G", "$utmSource": "news",
        "$utmMedium": "mail", "$utmCampaign": "spring", "$utmTerm": "shoes", "$utmContent": "top", "$projectId": "p",
    }  # fmt: skip
    row = one(auto=auto, custom={"size": 9}, session_id="s-1")
    assert row["properties"] == auto | {"size": 9}
    assert row["context"] == {
        "page": {
            "url": auto["$url"], "path": "/shoes", "title": "Shoes", "referrer": "https://search.example/",
        },
        "library": {"version": "0.0.4"}, "screen": {"width": "1920", "height": 1080},
        "browser": {"name": "Chromium", "version": "140"}, "os": {"name": "Linux", "version": "6"},
        "device": {"type": "Pixel", "model": "M", "manufacturer": "G"},
        "app": {"name": "Shop", "namespace": "example.shop", "version": "1.2", "build": "34"},
        "campaign": {"source": "news", "medium": "mail", "name": "spring", "term": "shoes", "content": "top"},
        "locale": "de-DE", "timezone": "Europe/Berlin", "sessionId": "s-1",
    }  # fmt: skip
    said = ("url", "path", "title", "referrer", "locale", "session_id", "platform", "app_version")
    assert [row[name] for name in said] == [
        auto["$url"], "/shoes", "Shoes", "https://search.example/", "de-DE", "s-1", "web", "1.2",
    ]  # fmt: skip
    assert one(auto={"$platform": "ios"})["platform"] == "mobile"
    assert one(auto={"$url": "https://shop.example?a=/b"})["path"] == "/"
    assert one(auto={"$url": "/x?y", "$pathname": "/z"})["path"] == "/z"
    assert one(auto={"$url": True})["context"] == {"page": {"url": True}}


def test_each_event_has_its_own_context() -> None:
    events = [event(auto={"$url": f"https://a/{number % 2}"}, session_id=f"s{number // 2}") for number in range(4)]
    taken = take(batch(*events))
    found = [(row["path"], row["session_id"]) for row in map(taken.event, range(4))]
    assert found == [("/0", "s0"), ("/1", "s0"), ("/0", "s1"), ("/1", "s1")]


def test_addresses_are_dropped() -> None:
    assert one(auto={"$ip": "203.0.113.9"}, custom={"ip": "203.0.113.9", "zip": "1"})["properties"] == {"zip": "1"}


def test_operations_among_properties_are_none() -> None:
    taken = take(batch(event(auto={"$set": "x", "$unset": 1})))
    assert (taken.batch.calls, taken.event()["properties"]) == ({}, {"$set": "x", "$unset": 1})


def test_time() -> None:
    assert one()["occurred_at"] == NOW
    assert one(at=when(1_700_000_000, 999_999))["original_at"] == 1_700_000_000_000
    for odd in (when(2**62), when(1, -1)):
        row = one(at=odd)
        assert (row["occurred_at"], row["time_note"]) == (NOW, "unreadable")
    assert one(at=when(NOW // 1000 + 10**6))["time_note"] == "future"


def test_what_is_wrong_drops_itself_alone() -> None:
    bad = [
        event(distinct_id=""), event(kind=""), event(distinct_id="cookieless-abc"), event(distinct_id="x" * 600),
        event(kind="k" * 600),
    ]  # fmt: skip
    assert dropped(batch(event("first"), *bad, event("last", more=integer(8, 0)))) == {
        errors.MISSING_FIELD: 2, errors.INVALID_ID: 2, errors.INVALID_FIELD: 1,
    }  # fmt: skip
    taken = take(batch(event("first"), *bad, event("last")))
    assert [taken.event(number)["event_id"] for number in (0, 1)] == ["first", "last"]
    assert [refusal.field for refusal in taken.refused] == [
        "events[1].distinct_id", "events[2].kind", "events[3].distinct_id", "events[4].distinct_id", "events[5].kind",
    ]  # fmt: skip
    for refusal in taken.refused:
        assert not any(word in refusal.message for word in ("userId", "anonymousId", "messageId", "event ")), refusal
    assert dropped(batch(event(kind=""))) == {errors.MISSING_FIELD: 1}, "even where nothing is left"


def test_a_cookieless_visitor_has_an_id_of_the_day_and_no_other() -> None:
    auto = {"$url": "https://shop.example/a", "user_id": "u-1", "$set": "gold"}
    for distinct_id in ("", "u-1", "anon-1"):
        taken = take(batch(event(distinct_id=distinct_id, auto=auto, more=integer(8, 1), session_id="s-1")))
        row = taken.event()
        assert (row["cookieless"], row["user_id"], row["session_id"]) == (1, "", "")
        assert row["anonymous_id"] == f"cookieless-({NOW}, None, '', '')"
        assert not any(one in str(row) for one in ("u-1", "anon-1", "s-1", "gold"))
        assert taken.batch.calls == {}
    late = understood(
        pug, batch(event(more=integer(8, 1))), asked(), visitor=lambda *_: Refusal("late", "timestamp", "timestamp")
    )
    assert [(one.field, one.message) for one in late.refused] == [("events[0].occur_time", "occur_time")]
    nowhere = understood(pug, batch(event(more=integer(8, 1))), asked(), visitor=None)
    assert [(one.field, one.code) for one in nowhere.refused] == [("events[0].cookieless", errors.COOKIELESS_OFF)]


def test_an_event_without_id_gets_one() -> None:
    assert one(event_id="")["event_id"] == "minted-0"


def test_identify() -> None:
    taken = take(text(1, "u-1"), IDENTIFY)
    assert (taken.call.user_id, taken.call.anonymous_id, taken.call.traits) == ("u-1", "", [])
    for body, field in (
        (b"", "external_id"), (text(1, ""), "external_id"), (text(1, "cookieless-x"), "external_id"),
        (text(1, "u") + text(3, "other-user"), "anonymous_id"), (text(1, "x" * 600), "external_id"),
        (text(1, "u") + text(3, "anon-" + "x" * 600), "anonymous_id"),
    ):  # fmt: skip
        taken = take(body, IDENTIFY)
        assert [refusal.field for refusal in taken.refused] == [field]
        assert (taken.reply.status, taken.told["code"]) == (400, "invalid_argument")
        assert field in taken.told["message"]


def test_a_device_is_answered_and_not_kept() -> None:
    taken = take(text(1, "d") + text(2, "web") + text(3, "u-1") + text(5, "token"), SUBSCRIBE)
    assert (taken.reply, taken.batch.length, taken.refused) == (Reply(200, b"", PROTO), 0, [])
    assert take({"deviceId": "d"}, SUBSCRIBE).reply == Reply(200, b"{}", JSON)


# ---- JSON


def test_json_means_the_same() -> None:
    values: dict[str, tuple[dict[str, Any], object]] = {
        "text": ({"stringValue": "x"}, "x"), "int": ({"intValue": str(2**63 - 1)}, 2**63 - 1),
        "plain int": ({"intValue": -5}, -5), "double": ({"doubleValue": 1.5}, 1.5),
        "double text": ({"doubleValue": "-2.5e3"}, -2500.0), "bool": ({"boolValue": False}, False),
        "time": ({"timestampValue": "2026-09-21T14:13:20.123Z"}, (1_790_000_000, 123_000_000)), "none": ({}, None),
    }  # fmt: skip
    auto = {"$url": "https://a.example/b", "$platform": "web"}
    said = {
        "eventId": "e-1", "distinctId": "anon-1", "kind": "page_view", "occurTime": "2026-09-21T14:13:20.456Z",
        "sessionId": "s-1", "autoProperties": {key: {"stringValue": value} for key, value in auto.items()},
        "customProperties": {key: value for key, (value, _) in values.items()},
    }  # fmt: skip
    snake = {
        "event_id": "e-1", "distinct_id": "anon-1", "kind": "page_view", "occur_time": "2026-09-21T14:13:20.456Z",
        "session_id": "s-1", "auto_properties": said["autoProperties"],
        "custom_properties": {key: _snake(value) for key, (value, _) in values.items()}, "unknown": {"a": 1},
    }  # fmt: skip
    binary = event(
        "e-1", "anon-1", "page_view", when(1_790_000_000, 456_000_000), "s-1", dict(auto),
        {key: value for key, (_, value) in values.items()},
    )  # fmt: skip
    rows = [take({"events": [said]}), take({"events": [snake], "unknown": 1}), take(batch(binary))]
    assert [taken.refused for taken in rows] == [[]] * 3
    assert rows[0].reply == rows[1].reply == Reply(200, b'{"accepted":1}')
    assert rows[0].event() == rows[1].event() == rows[2].event()
    assert rows[0].event()["properties"]["int"] == 2**63 - 1


def _snake(value: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("Value", "_value"): inner for key, inner in value.items()}


def test_json_by_hand_may_be_plain() -> None:
    said = {"distinctId": "u", "kind": "k", "customProperties": {"a": 1, "b": "x", "c": None, "d": True, "e": 2.5}}
    assert take({"events": [said]}).event()["properties"] == {"a": 1, "b": "x", "c": None, "d": True, "e": 2.5}


@pytest.mark.parametrize(
    "bad",
    [
        [1], {"intValue": "1.5"}, {"intValue": str(2**63)}, {"intValue": True}, {"intValue": 1.5}, {"intValue": None},
        {"doubleValue": "NaN"}, {"doubleValue": "Infinity"}, {"doubleValue": "0x1"}, {"doubleValue": True},
        {"doubleValue": "1e999"}, {"stringValue": 5}, {"boolValue": "true"}, {"timestampValue": 5},
    ],
)  # fmt: skip
def test_json_properties_are_checked(bad: object) -> None:
    good = {"distinctId": "u", "kind": "k"}
    taken = take({"events": [good, good | {"eventId": "e", "customProperties": {"p": bad}}, good]})
    assert taken.batch.length == 2
    [refusal] = taken.refused
    assert (refusal.code, refusal.field) == (errors.INVALID_FIELD, "events[1].custom_properties.p")
    assert (taken.told["accepted"], taken.told["dropped"]) == (2, 1)
    assert taken.told["droppedByReason"] == {errors.INVALID_FIELD: 1}
    assert taken.told["refused"][0]["eventId"] == "e"


def test_json_events_of_the_wrong_type_drop_themselves() -> None:
    good = {"distinctId": "u", "kind": "k"}
    bad = [{"distinctId": 5, "kind": "k"}, 7, {"distinctId": "u", "kind": "k", "customProperties": [1]}]
    taken = take({"events": [good, *bad, good]})
    assert taken.batch.length == 2
    assert [refusal.index for refusal in taken.refused] == [1, 2, 3]
    assert take({"events": 5}).told["code"] == "invalid_argument"
    assert take(b'{"events":[', content_type=JSON).told["code"] == "invalid_argument"
    taken = take(b'{"events":[{"distinctId":"u","kind":"k"},{"distinctId":"\\ud800","kind":"k"}]}')
    assert (taken.batch.length, len(taken.refused)) == (1, 1)


def test_json_identify() -> None:
    for said in (
        {"externalId": "u-1", "anonymousId": "anon-1", "traits": {"big": 2**53 + 1, "plan": "pro"}},
        {"external_id": "u-1", "anonymous_id": "anon-1", "traits": {"big": 2**53 + 1, "plan": "pro"}, "deviceId": "d"},
    ):
        taken = take(said, IDENTIFY)
        assert taken.reply == Reply(200, b"{}", JSON)
        assert (taken.call.user_id, taken.call.anonymous_id) == ("u-1", "anon-1")
        assert taken.call.traits == [("big", "set", b"9007199254740993"), ("plan", "set", b'"pro"')]
    assert take({"externalId": 5}, IDENTIFY).told["code"] == "invalid_argument"
    assert take({"externalId": "u", "traits": [1]}, IDENTIFY).told["code"] == "invalid_argument"
    assert take(b'{"externalId":"u"', IDENTIFY).told["code"] == "invalid_argument"


def test_a_content_type_that_lies_is_no_matter() -> None:
    said = json.dumps({"events": [{"distinctId": "u", "kind": "k"}]}).encode()
    for body in (said, b" \r\n" + said):
        for content_type in (PROTO, JSON, "text/plain", ""):
            assert take(body, content_type=content_type).batch.length == 1
    assert take(b"\n" + said, content_type=JSON).batch.length == 1
    binary = batch(event("01a219ef-5474-79c4-9b39-ed3c26023204", custom={"a": "x" * 51}))
    assert binary[:2] == b"\n{", "which is how JSON may begin, too"
    for content_type in (PROTO, JSON, "text/plain", ""):
        taken = take(binary, content_type=content_type)
        assert taken.batch.length == 1
        assert taken.reply.content_type == (JSON if content_type == JSON else PROTO)


def test_streams_and_other_protocols_are_refused() -> None:
    for content_type in ("application/grpc-web+proto", "application/grpc", "application/connect+proto"):
        taken = take(batch(event()), content_type=content_type)
        assert (taken.reply.status, taken.told["code"]) == (415, "unimplemented")


# ---- answers


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_argument"), (401, "unauthenticated"), (403, "permission_denied"), (404, "not_found"),
        (405, "unimplemented"), (408, "deadline_exceeded"), (413, "invalid_argument"), (415, "unimplemented"),
        (429, "resource_exhausted"), (431, "invalid_argument"), (500, "internal"), (503, "unavailable"),
        (505, "internal"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [BATCH, IDENTIFY, SUBSCRIBE])
def test_errors_are_connects(status: int, code: str, path: str) -> None:
    for content_type in (PROTO, JSON):
        reply = pug.failure(status, Ack(0, [], Refusal("any", "Words."), 0), asked(path, content_type))
        assert (reply.status, reply.content_type) == (status, JSON)
        assert msgspec.json.decode(reply.body) == {"code": code, "message": "Words."}


def test_counts_beyond_a_byte() -> None:
    ack = Ack(300, [Refusal("some_reason", "", None, index) for index in range(200)], None, 1)
    assert pug.success(ack, asked()).body == (b"\x08\xac\x02\x10\xc8\x01\x1a\x10\x0a\x0bsome_reason\x10\xc8\x01")


def test_nothing_sent_is_nothing_taken() -> None:
    assert take(b"").reply == Reply(200, b"\x08\x00", PROTO)
    assert take({}).reply == take({"events": []}).reply == Reply(200, b'{"accepted":0}')


def test_a_secret_key_has_no_place_in_a_query() -> None:
    public, secret = WriteKey(1, secret=False), WriteKey(1, secret=True)
    gate = Gate({"pub_a": public, hashed("prv_b"): secret})
    assert gate.key_of(None, b"api_key=pub_a", PUG) is public
    assert gate.key_of(None, b"", PUG, b"pub_a") is public
    assert gate.key_of(None, b"", PUG, b"prv_b") is secret
    assert gate.key_of(None, b"api_key=prv_b", PUG) is IN_QUERY
    assert gate.key_of(None, b"api_key=prv%5Fb", PUG) is IN_QUERY
    assert gate.key_of(None, b"api_key=pub_b", PUG) is UNKNOWN
    assert gate.key_of(None, b"", PUG) is None


# ---- large bodies


@pytest.mark.parametrize("count", [0, 1, 2, 7, 30])
def test_a_batch_is_cut_between_events(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "PIECE_EVENTS", 3)
    monkeypatch.setattr(slices, "PIECE_BYTES", 200)
    events = [block(1, event(f"e{number}", kind="k" * (number * 7 % 90 + 1))) for number in range(count)]
    group = wire.varint(20 << 3 | 3) + block(1, b"") + wire.varint(20 << 3 | 4)
    body = b"".join(one + (integer(9, 5) + group if number % 4 == 0 else b"") for number, one in enumerate(events))
    found = slices.cut(body, pug.shape(body, asked()) or slices.WHOLE)
    assert not isinstance(found, Refusal)
    pieces = list(found)
    assert b"".join(piece.body for piece in pieces) == body
    ids = [[take(piece.body).event(number)["event_id"] for number in range(piece.count)] for piece in pieces]
    assert [one for piece in ids for one in piece] == [f"e{number}" for number in range(count)]
    assert [piece.first for piece in pieces] == [sum(map(len, ids[:number])) for number in range(len(ids))]
    assert all(piece.count <= 3 and (len(piece.body) < 300 or piece.count == 1) for piece in pieces)


def test_what_cannot_be_cut_is_refused() -> None:
    shape = slices.Shape(protobuf=True)
    for bad in (batch(event()) + b"\x0a\x05ab", b"\xff" * 20):
        found = slices.cut(bad, shape)
        assert isinstance(found, Refusal)
        assert found.code == errors.INVALID_PROTOBUF
    for most, is_cut in ((slices.EVENTS_MAX, True), (slices.EVENTS_MAX + 1, False)):
        for one in (b"\x0a\x00", b"\x48\x00"):
            found = slices.cut(one * most, shape)
            assert isinstance(found, Refusal) != is_cut
    assert pug.shape(b"{}", asked(IDENTIFY)) == slices.WHOLE
    assert pug.shape(b'{"events":[]}', asked()) == slices.Shape(b"events")
    assert pug.shape(text(1, "u"), asked(IDENTIFY)) is None
    assert take(text(1, "u" * (1 << 20)), IDENTIFY).refused[0].code == errors.TOO_LARGE


# ---- whatever comes

TEXT = st.text(max_size=8)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), TEXT,
    st.tuples(st.integers(-(2**40), 2**40), st.integers(-5, 10**9)),
)  # fmt: skip
MEMBERS = st.dictionaries(TEXT | st.sampled_from(["$url", "$platform", "ip"]), VALUES, max_size=4)
EVENTS = st.builds(
    event, TEXT, st.sampled_from(["", "u", "anon-1", "cookieless-"]), st.sampled_from(["", "page_view", "k"]),
    st.none() | st.binary(max_size=6) | st.builds(when, st.integers(-(2**63), 2**63 - 1), st.integers(-1, 10**9)),
    TEXT, MEMBERS, MEMBERS, st.binary(max_size=6),
)  # fmt: skip
BATCHES = st.lists(EVENTS, max_size=3).map(lambda events: batch(*events))
TYPES = st.sampled_from([PROTO, JSON, "", "application/grpc"])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(BATCHES))
    for _ in range(draw(st.integers(0, 4))):
        if body:
            body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@given(BATCHES | damaged() | st.binary(max_size=64), st.sampled_from([BATCH, IDENTIFY, SUBSCRIBE]), TYPES)
def test_whatever_comes_is_taken_or_refused(body: bytes, path: str, content_type: str) -> None:
    taken = take(body, path, content_type)
    assert taken.reply.status in (200, 400, 415)
    decoded = pug.decode(body, asked(path, content_type))
    if isinstance(decoded, Decoded) and path == BATCH:
        assert len(decoded.messages) + len(decoded.refused) == taken.batch.length + len(taken.refused)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        TEXT | st.sampled_from(["events", "customProperties", "distinctId", "kind", "intValue", "doubleValue"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANY | st.lists(ANY, max_size=3).map(lambda events: {"events": events}), st.sampled_from([BATCH, IDENTIFY]))
def test_whatever_json_comes(said: Any, path: str) -> None:
    assert take(said, path, JSON).reply.status in (200, 400)
