"""The short way says what the long way says, byte for byte, or says nothing."""

from __future__ import annotations

import json
import random
from array import array
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pugd.dialects import segment
from pugd.dialects.dialect import Asked, Dialect
from pugd.dialects.known import PLAIN_FORMS, as_plain
from pugd.dialects.message import Decoded, read
from pugd.dialects.plain import NOWHERE, TRACK, Plain, Way
from pugd.enrich import clock
from pugd.enrich.event import enriched
from pugd.model import EVENT, OLD_EVENT, PARTS, Batch, Call, encoded

NOW = 1_795_502_400_000  # 2026-11-24T06:40:00.000Z
AT = "2026-11-24T06:39:59.123Z"
pack = msgspec.msgpack.Encoder().encode
PLAIN = Plain(enriched, PLAIN_FORMS)
BATCH, ONE = segment.FORMS


def message(**fields: object) -> dict[str, object]:
    return {"type": "track", "event": "x", "messageId": "m-1", "userId": "u", "timestamp": AT, **fields}


AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
AGENTS = (
    "",
    AGENT,
    "curl/8.5.0",
    "Mözilla \xff",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
)
PLACE = bytes(encoded("NZ", "", "Ōtautahi"))
SIGNS = (b"", b'"', b"{", b"}", b",", b"\\", b" ", b"0", b"\xff", b"x")
Rows = tuple[bytes, bytes, bytes, dict[int, Call], set[int]]


def long_way(
    dialect: Dialect, asked: Asked, body: bytes, user_agent: str = "", place: Raw | None = None
) -> Rows | None:
    """(event keys, ids, rows with actors 7, 8, …, what is asked beside them, which say something of people), where each
    event of the body is taken as one."""
    decoded = dialect.decode(body, asked)
    if not isinstance(decoded, Decoded):
        return None
    batch = Batch()
    refused = read(
        decoded, batch, project=3, secret=True, received_at=NOW, transport="http", clock=clock, mint=lambda: "minted",
        enrich=enriched, user_agent=user_agent,
        where=None if place is None else lambda said, sender: place,
    )  # fmt: skip
    if refused or not batch.length:
        return None
    batch.parts[1::PARTS] = list(range(7, 7 + batch.length))
    heads = range(0, PARTS * batch.length, PARTS)
    parts = [part for at in heads if batch.parts[at] is not None for part in batch.parts[at : at + PARTS]]
    return (
        pack(batch.event_keys),
        pack(batch.ids),
        b"".join(map(pack, parts)),
        batch.calls,
        set(range(batch.length)) - batch.silent,
    )


def short_way(dialect: Dialect, asked: Asked, body: bytes, user_agent: str = "", place: bytes = NOWHERE) -> Rows | None:
    PLAIN.reset()
    found = as_plain(dialect, asked)
    if found is None:
        return None
    count = PLAIN.add(found, body, NOW, user_agent=user_agent, place=place)
    assert count == PLAIN.count
    if not count:
        return None
    PLAIN.own(count, 3, secret=True)
    return (
        pack(msgspec.msgpack.decode(PLAIN.event_keys())),
        pack(msgspec.msgpack.decode(PLAIN.ids())),
        PLAIN.rows(array("Q", range(7, 7 + count)), [], []),
        dict(PLAIN.asking((), ())),
        {number for number, _ in PLAIN.asking(range(count), ())},
    )


def agree(dialect: Dialect, asked: Asked, body: bytes, user_agent: str = "", place: bytes = NOWHERE) -> bool:
    """Is it plain? And if so, both ways agree, on the key that it names and on whatever its answer is made of too."""
    short = short_way(dialect, asked, body, user_agent, place)
    if short is None:
        return False
    assert short == long_way(dialect, asked, body, user_agent, Raw(place))
    decoded, found = dialect.decode(body, asked), as_plain(dialect, asked)
    assert isinstance(decoded, Decoded)
    assert found is not None
    assert decoded.write_key == PLAIN.key()
    if dialect is not segment:
        read(
            decoded, Batch(), project=3, secret=False, received_at=NOW, transport="http", clock=clock, mint=lambda: "x"
        )
        told = found.form.told(PLAIN.shape(), PLAIN.count, len(body), NOW)
        for name in ("words", "place", "single", "received_at", "payload_bytes"):
            assert getattr(told, name, None) == getattr(decoded, name, None)
        taken = list(range(PLAIN.count))
        assert (taken if told.taken is None else list(told.taken)) == (
            taken if decoded.taken is None else decoded.taken
        )
    return True


def mutated(choose: random.Random, base: bytes, most: int) -> bytes:
    """A body that differs from `base` in 1 to `most` places."""
    body = bytearray(base)
    for _ in range(choose.randrange(most) + 1):
        at = choose.randrange(len(body))
        body[at : at + choose.randrange(3)] = choose.choice(SIGNS)
    return bytes(body)


def is_plain(body: bytes, single: bool = False, user_agent: str = "") -> bool:
    return agree(segment, Asked("track" if single else "batch"), body, user_agent)


def add(body: bytes, single: bool, project: int = 3) -> int:
    count = PLAIN.add(Way(ONE, TRACK) if single else Way(BATCH), body, NOW)
    PLAIN.own(count, project)
    return count


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
        {"channel": "web"},
        {"channel": "server", "context": {"channel": "mobile"}},
        {"channel": None, "originalTimestamp": "2024-01-15T10:01:00.123Z", "name": "x", "category": None},
        {"timestamp": None, "originalTimestamp": "2024-01-15T10:01:00.123Z"},
        {"timestamp": "2026-11-25T06:40:00.000Z"},
        {"timestamp": "2026-11-25T06:40:00.001Z"},
        {"timestamp": "9999-12-31T23:59:59.999999Z"},
        {"sentAt": "2026-11-24T06:30:00.000Z"},
        {"sentAt": "2026-11-24T06:30:00.000Z", "timestamp": None},
        {"sentAt": "2255-11-24T06:30:00.000Z", "timestamp": "1970-01-01T00:00:00.000Z"},
        {"sentAt": "9999-11-24T06:30:00.000Z"},
        {"sentAt": "1970-01-01T00:00:00.000Z"},
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
        {"type": "identify"},
        {"type": "page", "name": "x", "category": "c"},
        {"type": "page", "name": 5},
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
        {"timestamp": "1969-12-31T23:59:59.999Z"},
        {"timestamp": NOW},
        {"sentAt": NOW},
        {"properties": []},
        {"properties": {"ip": "203.0.113.9"}},
        {"properties": {"$set": {"plan": "pro"}}},
        {"properties": {"a": 1, "$set_once": {"plan": "pro"}}},
        {"properties": {"$unset": ["plan"]}},
        {"properties": {"$add": {"n": 1}}},
        {"properties": {"a": float("inf")}},
        {"context": "x"},
        {"context": {"cookieless": True}},
        {"context": {"page": {}, "cookieless": 1}},
        {"userId": "cookieless-1"},
        {"anonymousId": "cookieless-"},
        {"channel": "mainframe"},
        {"traits": {}},
        {"originalTimestamp": "x"},
    ],
)
def test_not_plain(fields: dict[str, object]) -> None:
    assert not is_plain(batch(message(), message(**fields)))


@pytest.mark.parametrize("key", ["\\u0024set", "$\\u0073et", "$se\\u0074_once", "\\u0024\\u0061dd", "$\\u0075nset"])
def test_a_key_that_changes_traits_is_not_plain_however_it_is_escaped(key: str) -> None:
    body = batch(message(), message(properties={"KEY": {}})).replace(b"KEY", key.encode())
    assert not is_plain(body)


@pytest.mark.parametrize("call", ["page", "screen"])
@pytest.mark.parametrize("name", [{}, {"name": None}, {"name": ""}, {"name": "Home"}, {"name": "n", "category": None}])
def test_pages_and_screens(call: str, name: dict[str, object]) -> None:
    one = message(type=call, properties={"title": "t"}, **name)
    assert is_plain(batch(one, message(), one))
    assert agree(segment, Asked(call), json.dumps(one).encode())


def test_a_browser_is_known_by_the_agent_of_its_request() -> None:
    """Each agent, the same context: what is told of one is never told of another."""
    body = batch(message(context={"locale": "en"}), message(context={"userAgent": AGENTS[2]}), message())
    for agent in (*AGENTS, *AGENTS):
        assert is_plain(body, user_agent=agent)
        assert [number for number, _ in PLAIN.asking([0, 1, 2], [])] == ([1] if "Googlebot" in agent else [0, 1, 2])
    assert is_plain(batch(message(context={"userAgent": "x"})), user_agent=AGENTS[-1])  # what it says itself counts
    assert is_plain(batch(message(context={"userAgent": AGENTS[-1]})), user_agent=AGENT)
    assert PLAIN.asking([0], []) == []
    assert not is_plain(body, user_agent="x" * 513)


def test_a_place_is_in_the_rows_of_its_body() -> None:
    body = batch(message(context={"locale": "en"}), message())
    for place in (PLACE, NOWHERE, PLACE):
        assert agree(segment, Asked("batch"), body, AGENT, place)


@pytest.mark.parametrize("behind", [59_999, 60_000, 60_001, -60_000, -60_001, 10**10, -(10**10)])
def test_a_clock_that_is_wrong_moves_the_times_of_its_body(behind: int) -> None:
    sent = datetime.fromtimestamp((NOW - behind) / 1000, UTC).isoformat(timespec="milliseconds")
    body = batch(
        message(sentAt=AT), message(timestamp=None), message(timestamp="1980-01-01T00:00:00.000Z"), sentAt=sent
    )
    assert is_plain(body)
    rows = msgspec.msgpack.decode(b"\x93" + PLAIN.rows(array("Q", [1, 2, 3]), [], []))
    skew = behind if abs(behind) > 60_000 else 0
    moved = NOW - 877 + skew
    assert rows[0][3:7] == (
        [moved, NOW, NOW - 877, "skew" if skew else ""] if moved < NOW + 86_400_000 else [NOW, NOW, NOW - 877, "future"]
    )
    assert rows[1][3:7] == [NOW, NOW, NOW, ""]
    assert is_plain(batch(message(sentAt=sent), message()))


def test_a_single_message_is_what_its_path_says() -> None:
    for kind in ("track", "page", None):
        assert is_plain(json.dumps(message(type=kind)).encode(), single=True)
    assert not is_plain(json.dumps(message(type=5)).encode(), single=True)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'{"batch":[]}', b'{"batch":{}}', b'{"batch":[1]}', b'{"batch":[{}]}',
        batch(message(), context={}), batch(message(), sentAt="24.11.2026"), batch(message())[:-1],
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
        "type": st.sampled_from(["track", "track", "page", "screen", "x", None]),
        "event": st.text(max_size=10) | VALUES,
        "messageId": st.text(max_size=10) | VALUES,
        "userId": st.text(max_size=10) | VALUES,
        "anonymousId": st.text(max_size=10) | VALUES,
        "timestamp": st.from_regex(
            r"(19|20)\d\d-[01]\d-[0-3]\dT[012]\d:[0-6]\d:[0-6]\d\.\d{3}(\d{3})?(Z|\+00:00)", fullmatch=True
        )
        | VALUES,
        "sentAt": st.sampled_from([AT, "2020-01-01T00:00:00.000Z", "2026-11-24T06:38:59.999Z"]) | VALUES,
        "properties": st.dictionaries(
            st.text(max_size=6) | st.sampled_from(["$set", "$set_once", "$unset", "$add", "$sets", "$", "\\$set"]),
            VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
            max_size=3,
        )
        | VALUES,
        "context": st.fixed_dictionaries(
            {}, optional={"page": VALUES, "userAgent": VALUES, "ip": VALUES, "cookieless": VALUES}
        )
        | VALUES,
        "name": st.text(max_size=10) | VALUES,
        "category": VALUES,
        "originalTimestamp": st.just("2024-01-15T10:01:00.123Z") | VALUES,
        "channel": st.sampled_from(["web", "server"]) | VALUES,
        "traits": VALUES,
        "writeKey": VALUES,
        "other": VALUES,
    },
)


@settings(max_examples=300)
@given(
    st.lists(FIELDS, min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([AT, None, "x", 5, "2026-11-24T06:41:00.001Z", "2026-11-20T00:00:00.000Z"]),
    st.sampled_from(AGENTS),
)
def test_whatever_is_plain_says_the_same(
    fields: list[dict[str, object]], single: bool, ascii: bool, sent: object, agent: str
) -> None:
    messages = [message(**one) for one in fields]
    whole: object = messages[0] if single else {"batch": messages, "sentAt": sent}
    is_plain(json.dumps(whole, ensure_ascii=ascii).encode("utf-8", "surrogatepass"), single, agent)


def test_mutations_of_plain_bodies() -> None:
    choose = random.Random(5)
    context = {"page": {"path": "/a"}, "userAgent": "x"}
    base = batch(message(context=context, properties={"a": [1, "b"]}), message(anonymousId="a"), sentAt=AT)
    plain = sum(is_plain(mutated(choose, base, 3)) for _ in range(20_000))
    assert 500 < plain < 19_500


def test_events_of_several_bodies_stand_in_order_and_some_can_be_left_out() -> None:
    PLAIN.reset()
    assert add(batch(message(messageId="a"), message(messageId="b")), False, 3) == 2
    assert add(batch(message(messageId="n"), {"type": "track"}), False, 3) == 0
    assert add(json.dumps(message(messageId="c", anonymousId="v")).encode(), True, 4) == 1
    assert msgspec.msgpack.decode(PLAIN.event_keys())[:4] == [3, "a", NOW - 877, "x"]
    assert msgspec.msgpack.decode(PLAIN.ids()) == [3, "u", "", 3, "u", "", 4, "u", "v"]
    rows = PLAIN.rows(array("Q", [1, 2, 3]), [1], [2])
    decoded = msgspec.msgpack.decode(b"\x92" + rows)
    assert [(row[0], row[1], row[2], row[9]) for row in decoded] == [(EVENT, 3, 1, "a"), (OLD_EVENT, 4, 3, "c")]
    [(number, call)] = PLAIN.asking([0, 2], [0])
    assert number == 2
    assert (call.call, call.project, call.user_id, call.anonymous_id, call.event_id) == ("event", 4, "u", "v", "c")


def test_more_contexts_than_are_kept() -> None:
    for turn in range(3):
        PLAIN.reset()
        taken = 0
        for number in range(6000):
            body = batch(message(context={"locale": f"{turn}-{number}"}))
            taken += add(body, False, 3)
            if number % 100 == 99 and turn:
                PLAIN.reset()
        assert taken == 6000 if turn else 3000 < taken <= 4096
