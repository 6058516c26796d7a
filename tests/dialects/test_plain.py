"""The short way says what the long way says, byte for byte, or says nothing."""

from __future__ import annotations

import json
import random
from array import array

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pugd.dialects import segment
from pugd.dialects.dialect import Asked
from pugd.dialects.message import Decoded, read
from pugd.dialects.plain import Plain
from pugd.enrich import clock
from pugd.model import EVENT, OLD_EVENT, PARTS, Batch

NOW = 1_795_502_400_000  # 2026-11-24T06:40:00.000Z
AT = "2026-11-24T06:39:59.123Z"
pack = msgspec.msgpack.Encoder().encode
PLAIN = Plain()


def message(**fields: object) -> dict[str, object]:
    return {"type": "track", "event": "x", "messageId": "m-1", "userId": "u", "timestamp": AT, **fields}


def long_way(body: bytes, single: bool) -> tuple[bytes, bytes, bytes] | None:
    """(event keys, ids, rows with actors 7, 8, …), where every event of the body is taken as an event."""
    decoded = segment.decode(body, Asked("track" if single else "batch"))
    if not isinstance(decoded, Decoded):
        return None
    batch = Batch()
    refused = read(
        decoded, batch, project=3, secret=False, received_at=NOW, transport="http", clock=clock, mint=lambda: "minted"
    )
    if refused or not batch.length or batch.calls:
        return None
    batch.parts[1::PARTS] = list(range(7, 7 + batch.length))
    return pack(batch.event_keys), pack(batch.ids), b"".join(map(pack, batch.parts))


def short_way(body: bytes, single: bool) -> tuple[bytes, bytes, bytes] | None:
    PLAIN.reset()
    count = PLAIN.add(body, single, 3, NOW)
    assert count == PLAIN.count
    if not count:
        return None
    return (
        pack(msgspec.msgpack.decode(PLAIN.event_keys())),
        pack(msgspec.msgpack.decode(PLAIN.ids())),
        PLAIN.rows(array("Q", range(7, 7 + count)), [], []),
    )


def is_plain(body: bytes, single: bool = False) -> bool:
    """And if so, both ways agree."""
    short = short_way(body, single)
    if short is not None:
        assert short == long_way(body, single)
    return short is not None


def batch(*messages: object, **around: object) -> bytes:
    return json.dumps({"batch": messages, **around}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"anonymousId": "a"},
        {"userId": None, "anonymousId": "a"},
        {"userId": "", "anonymousId": "ä\U0001f600"},
        {"properties": {"a": {"b": [1, 2.5, None, '}]\\"', {}]}, "ü": "\u2028"}},
        {"properties": {"$current_url": "/", "$session_id": "$s", "price": "5 $", "$": 1, "$ad": 1, "un$set": 1}},
        {"properties": None, "context": None},
        {"context": {"page": {"url": "https://x/y", "path": "/y"}, "userAgent": "Mozilla/5.0", "sessionId": "s"}},
        {"context": {"ip": "203.0.113.9", "library": {"name": "analytics-node"}, "app": {"version": "1"}}},
        {"timestamp": None},
        {"timestamp": "2024-02-29T23:59:59.999Z"},
        {"timestamp": "2024-01-15T10:01:00.123+00:00"},
        {"timestamp": "2024-01-15T10:01:00.123999+00:00"},
        {"timestamp": "2024-01-15T10:01:00.123999Z"},
        {"timestamp": "1970-01-01T00:00:00.000Z"},
        {"writeKey": "k", "integrations": {"All": True}, "_metadata": {"nodeVersion": "22"}, "sentAt": AT},
        {"event": "e" * 512, "messageId": "m" * 300},
        {"event": "\x7f", "userId": "u" * 128},
    ],
)
def test_plain(fields: dict[str, object]) -> None:
    dumped = json.dumps(message(**fields), ensure_ascii=False).encode()
    assert is_plain(dumped, single=True)
    assert is_plain(b'{"batch":[' + dumped + b"," + dumped + b"]}")
    assert is_plain(b' { "batch" : [ ' + dumped + b' ] , "sentAt" : null, "writeKey": "k", "more": [{}] } \n')


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "page"},
        {"type": None},
        {"event": ""},
        {"event": None},
        {"event": "a\nb"},
        {"messageId": None},
        {"messageId": ""},
        {"userId": None},
        {"userId": 5},
        {"userId": "u" * 129},
        {"userId": 'a"b'},
        {"timestamp": "2026-02-29T00:00:00.000Z"},
        {"timestamp": "2026-11-24T24:00:00.000Z"},
        {"timestamp": "2026-11-24T06:39:59Z"},
        {"timestamp": "2026-11-24T06:39:59.123+01:00"},
        {"timestamp": "2026-11-24 06:39:59.123Z"},
        {"timestamp": "2026-11-26T06:39:59.123Z"},
        {"timestamp": "1969-12-31T23:59:59.999Z"},
        {"timestamp": NOW},
        {"sentAt": "2026-11-24T06:30:00.000Z"},
        {"sentAt": NOW},
        {"properties": []},
        {"properties": {"ip": "203.0.113.9"}},
        {"properties": {"$set": {"plan": "pro"}}},
        {"properties": {"a": 1, "$set_once": {"plan": "pro"}}},
        {"properties": {"$unset": ["plan"]}},
        {"properties": {"$add": {"n": 1}}},
        {"properties": {"a": float("inf")}},
        {"context": "x"},
        {"channel": "web"},
        {"traits": {}},
        {"originalTimestamp": AT},
    ],
)
def test_not_plain(fields: dict[str, object]) -> None:
    assert not is_plain(batch(message(), message(**fields)))


@pytest.mark.parametrize("key", ["\\u0024set", "$\\u0073et", "$se\\u0074_once", "\\u0024\\u0061dd", "$\\u0075nset"])
def test_a_key_that_changes_traits_is_not_plain_however_it_is_escaped(key: str) -> None:
    body = batch(message(), message(properties={"KEY": {}})).replace(b"KEY", key.encode())
    assert not is_plain(body)


def test_a_single_message_is_what_its_path_says() -> None:
    for kind in ("track", "page", None):
        assert is_plain(json.dumps(message(type=kind)).encode(), single=True)
    assert not is_plain(json.dumps(message(type=5)).encode(), single=True)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'{"batch":[]}', b'{"batch":{}}', b'{"batch":[1]}', b'{"batch":[{}]}',
        batch(message(), context={}), batch(message(), sentAt="2026-11-24T01:00:00.000Z"), batch(message())[:-1],
        batch(message()) + b"x", b'{"\\u0062atch":[]}', batch(message()).replace(b'"event"', b'"\\u0065vent"'),
        batch(message()).replace(b'"event": "x"', b'"event": "x", "event": "y"'), batch(message())[1:],
    ],
)  # fmt: skip
def test_bodies_that_are_not_plain(body: bytes) -> None:
    assert not is_plain(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "track", "page", "x", None]),
        "event": st.text(max_size=10) | VALUES,
        "messageId": st.text(max_size=10) | VALUES,
        "userId": st.text(max_size=10) | VALUES,
        "anonymousId": st.text(max_size=10) | VALUES,
        "timestamp": st.from_regex(
            r"(19|20)\d\d-[01]\d-[0-3]\dT[012]\d:[0-6]\d:[0-6]\d\.\d{3}(\d{3})?(Z|\+00:00)", fullmatch=True
        )
        | VALUES,
        "sentAt": st.sampled_from([AT, "2020-01-01T00:00:00.000Z"]) | VALUES,
        "properties": st.dictionaries(
            st.text(max_size=6) | st.sampled_from(["$set", "$set_once", "$unset", "$add", "$sets", "$", "\\$set"]),
            VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
            max_size=3,
        )
        | VALUES,
        "context": st.fixed_dictionaries({}, optional={"page": VALUES, "userAgent": VALUES, "ip": VALUES}) | VALUES,
        "name": VALUES,
        "channel": VALUES,
        "traits": VALUES,
        "writeKey": VALUES,
        "other": VALUES,
    },
)


@settings(max_examples=300)
@given(st.lists(FIELDS, min_size=1, max_size=4), st.booleans(), st.booleans(), st.sampled_from([AT, None, "x", 5]))
def test_whatever_is_plain_says_the_same(
    fields: list[dict[str, object]], single: bool, ascii: bool, sent: object
) -> None:
    messages = [message(**one) for one in fields]
    whole: object = messages[0] if single else {"batch": messages, "sentAt": sent}
    is_plain(json.dumps(whole, ensure_ascii=ascii).encode("utf-8", "surrogatepass"), single)


def test_mutations_of_plain_bodies() -> None:
    choose = random.Random(5)
    context = {"page": {"path": "/a"}, "userAgent": "x"}
    base = batch(message(context=context, properties={"a": [1, "b"]}), message(anonymousId="a"), sentAt=AT)
    plain = 0
    for _ in range(20_000):
        body = bytearray(base)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(len(body))
            body[at : at + choose.randrange(3)] = choose.choice(
                [b"", b'"', b"{", b"}", b",", b"\\", b" ", b"0", b"\xff"]
            )
        plain += is_plain(bytes(body))
    assert 500 < plain < 19_500


def test_events_of_several_bodies_stand_in_order_and_some_can_be_left_out() -> None:
    PLAIN.reset()
    assert PLAIN.add(batch(message(messageId="a"), message(messageId="b")), False, 3, NOW) == 2
    assert PLAIN.add(batch(message(messageId="n"), {"type": "track"}), False, 3, NOW) == 0
    assert PLAIN.add(json.dumps(message(messageId="c", anonymousId="v")).encode(), True, 4, NOW) == 1
    assert msgspec.msgpack.decode(PLAIN.event_keys())[:4] == [3, "a", NOW - 877, "x"]
    assert msgspec.msgpack.decode(PLAIN.ids()) == [3, "u", "", 3, "u", "", 4, "u", "v"]
    rows = PLAIN.rows(array("Q", [1, 2, 3]), [1], [2])
    decoded = msgspec.msgpack.decode(b"\x92" + rows)
    assert [(row[0], row[1], row[2], row[9]) for row in decoded] == [(EVENT, 3, 1, "a"), (OLD_EVENT, 4, 3, "c")]
    call = PLAIN.evidence(2)
    assert (call.call, call.project, call.user_id, call.anonymous_id, call.event_id) == ("event", 4, "u", "v", "c")


def test_more_contexts_than_are_kept() -> None:
    for turn in range(3):
        PLAIN.reset()
        taken = 0
        for number in range(6000):
            body = batch(message(context={"locale": f"{turn}-{number}"}))
            taken += PLAIN.add(body, False, 3, NOW)
            if number % 100 == 99 and turn:
                PLAIN.reset()
        assert taken == 6000 if turn else 3000 < taken <= 4096
