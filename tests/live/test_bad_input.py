"""What a hostile or broken sender may do to the public port: a clear answer, never a crash, never a stuck connection.

After every test the same processes run, are ready, and take a good event; memory stays within a bound over all of them.
A request that could be read in two ways is refused and its connection closed, so that nothing behind it is ever taken
for a request: each such vector has a whole request hidden behind it, whose event must not be stored.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from live.daemon import WRITE_KEY, Answer, Daemon, resident

GROWTH_BYTES_MAX = 300 << 20
"""How far the collector's memory may grow over everything here: a body at its bound, its inflated form, and slack."""

AUTHORIZATION = b"Authorization: Basic " + base64.b64encode(WRITE_KEY.encode() + b":") + b"\r\n"
HEAD = b"POST /v1/track HTTP/1.1\r\nHost: h\r\n" + AUTHORIZATION


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """With short deadlines, so that slow senders are cut off while we wait."""
    patience = {"PUGD_HEAD_TIMEOUT_S": "2", "PUGD_BODY_GRACE_S": "3", "PUGD_IDLE_TIMEOUT_S": "5"}
    with Daemon(tmp_path_factory.mktemp("live"), **patience) as one:
        yield one


@pytest.fixture(scope="module", autouse=True)
def bounded(daemon: Daemon) -> Iterator[None]:
    pid = daemon.wait_pid("collector")
    before = resident(pid)
    yield
    grown = resident(pid) - before
    assert grown < GROWTH_BYTES_MAX, f"the collector grew by {grown >> 20} MiB"


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    pids = daemon.pid("collector"), daemon.pid("keeper")
    yield
    assert (daemon.pid("collector"), daemon.pid("keeper")) == pids, f"a process died:\n{daemon.said()}"
    daemon.wait_ready(10)
    daemon.send("/v1/track", {"userId": "canary", "event": "still_here"})


def is_clear(answer: Answer, *statuses: int) -> None:
    """A refusal that says what is wrong, in the form that client libraries read."""
    assert answer.status in (statuses or range(400, 500)), answer
    said = answer.json()
    assert isinstance(said["code"], str), answer
    assert re.fullmatch(r"[a-z_]+", said["code"]), answer
    assert isinstance(said["message"], str), answer
    assert len(said["message"]) > 5, answer


def talk(port: int, data: bytes, seconds: float = 10) -> tuple[bytes, bool]:
    """Send `data` on a new connection; what came back until the close or until nothing came, and whether it closed."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            while True:
                part = connection.recv(65536)
                if not part:
                    return got, True
                got += part
        except TimeoutError:
            return got, False
        except ConnectionError:
            return got, True


def statuses(data: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def body_of(name: str, user: str = "smuggler") -> bytes:
    return json.dumps({"userId": user, "event": name, "messageId": name}).encode()


def whole(name: str, user: str = "smuggler") -> bytes:
    """A good request of its own."""
    body = body_of(name, user)
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


GOOD = body_of("outer")
SIZE = b"%d" % len(GOOD)
HEX = b"%x" % len(GOOD)
CHUNKED = HEX + b"\r\n" + GOOD + b"\r\n0\r\n\r\n"

AMBIGUOUS: dict[str, bytes] = {
    "length and chunked": HEAD + b"Content-Length: " + SIZE + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: " + SIZE + b"\r\n\r\n" + CHUNKED,
    "two lengths": HEAD + b"Content-Length: " + SIZE + b"\r\nContent-Length: 0\r\n\r\n" + GOOD,
    "a length twice": HEAD + b"Content-Length: " + SIZE + b"\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "a list of lengths": HEAD + b"Content-Length: " + SIZE + b", " + SIZE + b"\r\n\r\n" + GOOD,
    "+length": HEAD + b"Content-Length: +" + SIZE + b"\r\n\r\n" + GOOD,
    "-length": HEAD + b"Content-Length: -1\r\n\r\n" + GOOD,
    "0x length": HEAD + b"Content-Length: 0x" + HEX + b"\r\n\r\n" + GOOD,
    "length with _": HEAD + b"Content-Length: 1_0\r\n\r\n" + GOOD,
    "empty length": HEAD + b"Content-Length: \r\n\r\n" + GOOD,
    "length of words": HEAD + b"Content-Length: many\r\n\r\n" + GOOD,
    "length over 64 bits": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + GOOD,
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "chunked, not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked with VT": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "chunked in 1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "+chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+" + CHUNKED,
    "-chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-" + CHUNKED,
    "0x chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x" + CHUNKED,
    "chunk with _": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + HEX[:1] + b"_" + HEX[1:] + CHUNKED[len(HEX) :],
    "space before a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n " + CHUNKED,
    "chunk over 64 bits": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + GOOD,
    "empty chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\n" + CHUNKED,
    "LF in a chunk extension": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + HEX
    + b";a\nb\r\n"
    + GOOD
    + b"\r\n0\r\n\r\n",
    "CR in a chunk extension": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + HEX
    + b";a\rb\r\n"
    + GOOD
    + b"\r\n0\r\n\r\n",
    "LF after a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + HEX + b"\n" + GOOD + b"\r\n0\r\n\r\n",
    "no CRLF after a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + HEX + b"\r\n" + GOOD + b"XX0\r\n\r\n",
    "LF after a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + HEX + b"\r\n" + GOOD + b"\n0\r\n\r\n",
    "folded header": HEAD + b"X-A: a\r\n b\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "space before a colon": HEAD + b"Content-Length : " + SIZE + b"\r\n\r\n" + GOOD,
    "tab before a colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n" + CHUNKED,
    "header without colon": HEAD + b"Content-Length\r\n\r\n" + GOOD,
    "header without name": HEAD + b": x\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "space before a header": b"POST /v1/track HTTP/1.1\r\n Host: h\r\n" + AUTHORIZATION + b"Content-Length: 0\r\n\r\n",
    "NUL in a header": HEAD + b"X-A: a\0b\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "CR in a header": HEAD + b"X-A: a\rb\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "CR as line end": HEAD + b"X-A: a\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "LF as line end": (HEAD + b"Content-Length: " + SIZE + b"\r\n\r\n").replace(b"\r\n", b"\n") + GOOD,
    "LF ends a header": HEAD + b"X-A: a\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "no host": HEAD.replace(b"Host: h\r\n", b"") + b"Content-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "two hosts": HEAD + b"Host: other\r\nContent-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "no version": b"POST /v1/track\r\n\r\n" + GOOD,
    "version 2": HEAD.replace(b"HTTP/1.1", b"HTTP/2.0") + b"Content-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "version 1.9": HEAD.replace(b"HTTP/1.1", b"HTTP/1.9") + b"Content-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "words after the version": HEAD.replace(b"HTTP/1.1", b"HTTP/1.1 x")
    + b"Content-Length: "
    + SIZE
    + b"\r\n\r\n"
    + GOOD,
    "unknown method": HEAD.replace(b"POST", b"BREW") + b"Content-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "method in lower case": HEAD.replace(b"POST", b"post") + b"Content-Length: " + SIZE + b"\r\n\r\n" + GOOD,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(180)),
    "garbage": bytes(random.Random(7).randrange(256) for _ in range(2000)),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_may_be_read_in_two_ways_is_refused_and_the_connection_closed(daemon: Daemon, name: str) -> None:
    hidden = "hidden-" + re.sub(r"\W+", "-", name)
    got, closed = talk(daemon.port, AMBIGUOUS[name] + whole(hidden))
    assert closed, f"still open after {got[:200]!r}"
    assert [status for status in statuses(got) if status < 400] == [], got
    assert len(statuses(got)) == 1, got
    head, _, body = got.partition(b"\r\n\r\n")
    is_clear(Answer(statuses(got)[0], {}, body), *range(400, 506))
    assert b"connection: close" in head.lower()


def test_nothing_hidden_was_stored(daemon: Daemon) -> None:
    daemon.send("/v1/track", {"userId": "smuggler", "event": "last", "messageId": "last"})
    assert [entry["event_id"] for entry in daemon.entries("smuggler")] == ["last"]


def test_good_but_unusual_requests_are_taken(daemon: Daemon) -> None:
    def chunked(name: str, cut: int) -> bytes:
        body = body_of(name, "unusual")
        parts = [body[at : at + cut] for at in range(0, len(body), cut)]
        return b"".join(b"%X;note=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Trailer: 1\r\n\r\n"

    body = body_of("u1", "unusual")
    length = b"Content-Length: %d\r\n" % len(body)
    close = b"Connection: close\r\n"
    requests = {
        "chunked": HEAD + b"Transfer-Encoding: chunked\r\n" + close + b"\r\n" + chunked("u2", 7),
        "Chunked": HEAD + b"transfer-ENCODING: Chunked\r\n" + close + b"\r\n" + chunked("u3", 1),
        "1.0": HEAD.replace(b"1.1", b"1.0") + length + b"\r\n" + body,
        "absolute": HEAD.replace(b"/v1/track", b"http://h/v1/track") + length + close + b"\r\n" + body,
        "upgrade ignored": HEAD + b"Upgrade: h2c\r\nConnection: Upgrade, close\r\n" + length + b"\r\n" + body,
        "query": HEAD.replace(b"/v1/track", b"/v1/track?x=%00&y") + length + close + b"\r\n" + body,
    }
    for name, data in requests.items():
        got, closed = talk(daemon.port, data)
        assert statuses(got) == [200], (name, got)
        assert closed, name
    assert {entry["event_id"] for entry in daemon.entries("unusual")} == {"u1", "u2", "u3"}


def test_requests_in_one_packet_are_answered_in_order(daemon: Daemon) -> None:
    names = [f"p{i}" for i in range(50)]
    data = b"".join(whole(name, "pipeliner") for name in names[:-1])
    bad = HEAD + b"Content-Length: 1\r\n\r\n{"
    last = whole(names[-1], "pipeliner").replace(b"Host: h", b"Host: h\r\nConnection: close")
    got, closed = talk(daemon.port, data + bad + last)
    assert closed
    assert statuses(got) == [200] * 49 + [400, 200], got[-500:]
    assert len(list(daemon.entries("pipeliner"))) == 50


def test_expect_continue_is_served(daemon: Daemon) -> None:
    body = body_of("expected", "patient")
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.2)
        connection.sendall(body)
        got = b""
        while 200 not in statuses(got):
            part = connection.recv(65536)
            assert part, got
            got += part
        assert statuses(got) in ([200], [100, 200]), got


def test_heads_over_their_bound_are_refused(daemon: Daemon) -> None:
    for head in (
        HEAD + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % i for i in range(50_000)) + b"\r\n",
        b"POST /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        HEAD + b"a" * 1_000_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 1_000_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-T: " + b"a" * 1_000_000,
    ):
        got, closed = talk(daemon.port, head)
        assert closed, head[:80]
        assert len(statuses(got)) <= 1, got
        assert all(400 <= status < 500 for status in statuses(got)), got


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "space": b" \n",
    "words": b"hello",
    "cut": b'{"event": "x", "userId"',
    "array": b'[{"event": "x", "userId": "u"}]',
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "two values": b'{"event":"x","userId":"u"}{"event":"x","userId":"u"}',
    "trailing comma": b'{"event":"x","userId":"u",}',
    "single quotes": b"{'event':'x','userId':'u'}",
    "comment": b'{"event":"x",/* */"userId":"u"}',
    "NaN": b'{"event":"x","userId":"u","properties":{"a":NaN}}',
    "Infinity": b'{"event":"x","userId":"u","properties":{"a":-Infinity}}',
    "1e400": b'{"event":"x","userId":"u","properties":{"a":1e400}}',
    "-1e999999999": b'{"event":"x","userId":"u","properties":{"a":-1e999999999}}',
    "leading zero": b'{"event":"x","userId":"u","properties":{"a":01}}',
    "hex": b'{"event":"x","userId":"u","properties":{"a":0x1}}',
    "bad escape": b'{"event":"\\x","userId":"u"}',
    "raw newline": b'{"event":"a\nb","userId":"u"}',
    "raw NUL": b'{"event":"a\0b","userId":"u"}',
    "NUL after": b'{"event":"x","userId":"u"}\0',
    "invalid UTF-8": b'{"event":"\xff\xfe","userId":"u"}',
    "overlong UTF-8": b'{"event":"\xc0\x80","userId":"u"}',
    "surrogate in UTF-8": b'{"event":"\xed\xa0\x80","userId":"u"}',
    "cut UTF-8": b'{"event":"x","userId":"u","properties":{"a":"\xe2\x82"}}',
    "lone surrogate": b'{"event":"x","userId":"u","properties":{"a":"\\ud800"}}',
    "lone surrogate in a key": b'{"event":"x","userId":"u","properties":{"\\udfff":1}}',
    "surrogates reversed": b'{"event":"x","userId":"u","properties":{"a":"\\udc00\\ud800"}}',
    "lone surrogate in an id": b'{"event":"x","userId":"\\ud83d"}',
    "UTF-16": '{"event":"x","userId":"u"}'.encode("utf-16"),
    "depth 65": b'{"event":"x","userId":"u","properties":' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}",
    "depth 100 000": b'{"event":"x","userId":"u","properties":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "depth 1 000 000, open": b'{"event":"x","userId":"u","properties":' + b'{"a":' * 1_000_000,
    "properties a list": b'{"event":"x","userId":"u","properties":[1]}',
    "properties a string": b'{"event":"x","userId":"u","properties":"{}"}',
    "event a number": b'{"event":1,"userId":"u"}',
    "event an object": b'{"event":{},"userId":"u"}',
    "event missing": b'{"userId":"u"}',
    "no id": b'{"event":"x"}',
    "null ids": b'{"event":"x","userId":null,"anonymousId":null}',
    "empty ids": b'{"event":"x","userId":"","anonymousId":""}',
    "id an object": b'{"event":"x","userId":{"a":1}}',
    "id a list": b'{"event":"x","userId":["u"]}',
    "id true": b'{"event":"x","userId":true}',
    "id of 513 bytes": b'{"event":"x","userId":"' + b"u" * 513 + b'"}',
    "messageId an object": b'{"event":"x","userId":"u","messageId":{}}',
    "context a list": b'{"event":"x","userId":"u","context":[]}',
    "event of 1 MB": b'{"event":"' + b"e" * (1 << 20) + b'","userId":"u"}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_events_are_refused_clearly(daemon: Daemon, name: str) -> None:
    body = MALFORMED[name].replace(b'"u"', b'"malformer"')
    is_clear(daemon.post("/v1/track", body), 400, 413, 422)


def test_nothing_malformed_was_stored(daemon: Daemon) -> None:
    daemon.send("/v1/track", {"userId": "malformer", "event": "last"})
    assert [entry["event"] for entry in daemon.entries("malformer")] == ["last"]


def test_a_bad_event_refuses_itself_and_not_its_batch(daemon: Daemon) -> None:
    batch: list[object] = [{"type": "track", "event": "x", "userId": "batcher", "messageId": f"b{i}"} for i in range(4)]
    batch[1] = {"type": "track", "userId": "batcher", "messageId": "bad-1"}
    batch[3] = "words"
    answer = daemon.post("/v1/batch", {"batch": batch})
    assert answer.status == 200, answer
    said = answer.json()
    assert said["success"] is True
    assert said["accepted"] == 2
    assert [one["index"] for one in said["refused"]] == [1, 3]
    assert all(isinstance(one[name], str) for one in said["refused"] for name in ("code", "message"))
    assert {entry["event_id"] for entry in daemon.entries("batcher")} == {"b0", "b2"}
    is_clear(daemon.post("/v1/batch", {"batch": [1, None, [], {"type": "no_such_type", "userId": "u"}]}), 400)
    for body in ({}, {"batch": {}}, {"batch": None}, {"batch": "x"}):
        is_clear(daemon.post("/v1/batch", body), 400)


STRANGE: dict[str, Any] = {
    "escaped NUL": {"event": "nul", "properties": {"a": "a\0b", "\0": 1}},
    "controls and bidi": {"event": "bidi \u202e \u200b", "properties": {"a": "\u0001\u001f\u007f\u0085\ufeff"}},
    "SQL": {"event": "'; drop table events; --", "properties": {"a') or 1=1 --": "\\'"}},
    "HTML": {"event": "<script>alert(1)</script>", "properties": {"<b>": '"><img src=x onerror=alert(1)>'}},
    "formula": {"event": "=cmd|' /C calc'!A0", "properties": {"@a": "+1"}},
    "astral": {"event": "\U0001f600", "properties": {"\U0001f600": "\U0010ffff"}},
    "dots in keys": {"event": "dots", "properties": {"a.b": 1, "a": {"b": 2}, ".": 3, "..": 4, "": 5}},
    "huge numbers": {
        "event": "numbers",
        "properties": {"a": 10**60, "b": -(2**64), "c": 1e308, "d": 5e-324, "e": -0.0},
    },
    "mixed types": {
        "event": "mixed",
        "properties": {"a": [1, "x", None, {"b": [[]]}, [2.5, True]], "n": None, "o": {}},
    },
    "many keys": {"event": "wide", "properties": {f"k{i}": i for i in range(2000)}},
    "a long string": {"event": "long", "properties": {"a": "x" * 20_000}},
    "depth 60": {"event": "deep", "properties": json.loads('{"a":' * 60 + "1" + "}" * 60)},
    "year 1": {"event": "y1", "timestamp": "0001-01-01T00:00:00Z"},
    "year 1960": {"event": "y1960", "timestamp": "1960-01-01T00:00:00Z"},
    "year 9999": {"event": "y9999", "timestamp": "9999-12-31T23:59:59.999Z"},
    "no date": {"event": "no date", "timestamp": "yesterday"},
    "30 February": {"event": "feb", "timestamp": "2026-02-30T00:00:00Z"},
    "huge offset": {"event": "offset", "timestamp": "2026-01-01T00:00:00+99:99"},
    "date a number": {"event": "date", "timestamp": 1e300},
    "sent long ago": {"event": "sent", "timestamp": "2026-01-01T00:00:00Z", "sentAt": "1970-01-01T00:00:00Z"},
    "sent in 9999": {"event": "sent9999", "sentAt": "9999-12-31T23:59:59.999Z"},
}


@pytest.mark.parametrize("name", STRANGE)
def test_the_strange_is_stored_or_refused_and_never_between(daemon: Daemon, name: str) -> None:
    """Whatever was acked is on the timeline at once, at a time that is one; whatever was not is not."""
    user = "strange-" + name.replace(" ", "-")
    before = time.time()
    answer = daemon.post("/v1/track", {**STRANGE[name], "userId": user})
    if answer.status != 200:
        is_clear(answer, 400, 413, 422)
        assert daemon.ask(f"/v1/timeline?distinct_id={user}").status == 404
        return
    entries = list(daemon.entries(user))
    assert [entry["event"] for entry in entries] == [STRANGE[name]["event"]]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entries[0]["occurred_at"]), entries
    if "properties" in STRANGE[name]:
        assert entries[0]["properties"] == STRANGE[name]["properties"]
    assert time.time() - before < 60


def test_duplicate_keys_take_the_last(daemon: Daemon) -> None:
    body = b'{"event":"dup","userId":"dup","properties":{"a":1,"b":{"c":1,"c":2},"a":{"x":1},"a":3}}'
    assert daemon.post("/v1/track", body).status == 200
    assert next(daemon.entries("dup"))["properties"] == {"b": {"c": 2}, "a": 3}


def test_keys_and_paths(daemon: Daemon) -> None:
    event = {"event": "x", "userId": "keyless"}
    is_clear(daemon.post("/v1/track", event, key=None), 401)
    is_clear(daemon.post("/v1/track", event, key="wrong"), 401)
    is_clear(daemon.post("/v1/track", event, key="k" * 5000), 401)
    is_clear(daemon.post("/v1/track", {**event, "writeKey": "wrong"}, key=None), 401)
    is_clear(daemon.post("/v1/track", {**event, "writeKey": 5}, key=None), 400, 401)
    for value in (
        "Basic",
        "Basic !!!",
        "Basic " + "A" * 9999,
        "Bearer x",
        "Basic " + base64.b64encode(b"\xff:").decode(),
    ):
        is_clear(daemon.post("/v1/track", event, key=None, headers={"Authorization": value}), 400, 401)
    assert daemon.post("/v1/track", {**event, "writeKey": WRITE_KEY}, key=None).status == 200
    is_clear(daemon.post("/v1/nothing", event), 404)
    is_clear(daemon.post("/", event), 404)
    is_clear(daemon.post("/v1/track/../../etc/passwd", event), 400, 404)
    assert daemon.ask("/v1/people").status == 200
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        got, _ = talk(
            daemon.port, HEAD.replace(b"POST", method.encode()) + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
        assert statuses(got) == [405], got
        is_clear(Answer(405, {}, got.partition(b"\r\n\r\n")[2]))


def gzipped(size: int) -> bytes:
    """A gzip stream of `size` spaces: a thousandth of that."""
    squeeze = zlib.compressobj(9, wbits=31)
    part = b" " * (1 << 20)
    return b"".join(squeeze.compress(part) for _ in range(size >> 20)) + squeeze.flush()


def test_gzip(daemon: Daemon) -> None:
    body = json.dumps({"event": "zipped", "userId": "zipper"}).encode()
    encoded = {"Content-Encoding": "gzip"}
    assert daemon.post("/v1/track", gzip.compress(body), headers=encoded).status == 200
    assert daemon.post("/v1/track", gzip.compress(body)).status == 200, "gzip is known by its first bytes too"
    assert len(list(daemon.entries("zipper"))) == 2
    broken = bytearray(gzip.compress(body * 50))
    broken[60] ^= 0x55
    for data in (
        gzip.compress(body)[:-9],
        bytes(broken),
        b"\x1f\x8b",
        b"\x1f\x8b" + body,
        gzip.compress(gzip.compress(body)),
    ):
        is_clear(daemon.post("/v1/track", data, headers=encoded), 400)
    is_clear(daemon.post("/v1/track", body, headers={"Content-Encoding": "rot13"}), 400, 415)
    pid = daemon.wait_pid("collector")
    before = resident(pid)
    bomb = gzipped(1 << 30)
    for data in (bomb, bomb, gzip.compress(bomb)):
        is_clear(daemon.post("/v1/batch", data, headers=encoded), 400, 413)
    grown = resident(pid) - before
    assert grown < GROWTH_BYTES_MAX, f"{grown >> 20} MiB for a bomb"


def test_bodies_over_their_bound_are_refused_early(daemon: Daemon) -> None:
    got, closed = talk(daemon.port, HEAD + b"Content-Length: 10000000000\r\n\r\n" + b" " * 100_000)
    assert statuses(got) == [413], got
    assert closed
    is_clear(Answer(413, {}, got.partition(b"\r\n\r\n")[2]))
    pid = daemon.wait_pid("collector")
    before = resident(pid)
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(1000):
                connection.sendall(chunk)
            raise AssertionError("took a body without end")
        except ConnectionError:
            pass
    assert resident(pid) - before < GROWTH_BYTES_MAX


def test_a_large_good_batch_is_taken(daemon: Daemon) -> None:
    events = [
        {"type": "track", "event": "bulk", "userId": "bulker", "messageId": f"bulk-{i}", "properties": {"a": "x" * 380}}
        for i in range(20_000)
    ]
    body = json.dumps({"batch": events}).encode()
    assert len(body) > 9 << 20
    answer = daemon.post("/v1/batch", body)
    assert answer.status == 200, answer
    assert daemon.post("/v1/batch", gzip.compress(body), headers={"Content-Encoding": "gzip"}).status == 200
    assert daemon.read("/v1/people?distinct_id=bulker")["person"]["events"] == 20_000


def test_half_sent_requests_hold_nobody_up(daemon: Daemon) -> None:
    """Hundreds wait with half a request, others leave in the middle; everyone else is served at once."""
    halves = (
        HEAD[:20],
        HEAD,
        HEAD + b"Content-Length: 1000\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    )
    waiting = []
    for i in range(400):
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
        connection.sendall(halves[i % len(halves)])
        if i % 2:
            waiting.append(connection)
        elif i % 4:
            connection.close()
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
    for _ in range(20):
        daemon.send("/v1/track", {"userId": "hasty", "event": "quick"})
    for connection in waiting:
        connection.close()
    # answers that nobody reads: many requests, no recv, then gone
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as connection:
            connection.sendall(whole("unread", "deaf") * 200)
    daemon.send("/v1/track", {"userId": "hasty", "event": "quick"})
    assert len(list(daemon.entries("hasty"))) == 21
    assert len(list(daemon.entries("deaf"))) <= 1


def test_slow_senders_are_cut_off(daemon: Daemon) -> None:
    """A request that never ends has a deadline, however it trickles; a quiet kept-alive connection has one too."""
    slow = []
    for head in (b"", HEAD[:30], HEAD, HEAD + b"Content-Length: 100000\r\n\r\n"):
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
        connection.sendall(head)
        connection.setblocking(False)
        slow.append((head, connection))
    deadline = time.monotonic() + 30
    while slow and time.monotonic() < deadline:
        time.sleep(0.5)
        for one in list(slow):
            head, connection = one
            try:
                got = connection.recv(65536)
                if got:
                    assert statuses(got) == [408], got
                slow.remove(one)
                connection.close()
                continue
            except BlockingIOError:
                pass
            except ConnectionError:
                slow.remove(one)
                continue
            if head:
                try:
                    connection.send(b"a")
                except OSError:
                    pass
    assert not slow, f"still waiting after 30 s for {[head for head, _ in slow]}"


def test_bad_datagrams_are_counted_and_never_answered(daemon: Daemon) -> None:
    good = {"event": "datagram", "userId": "udp-good", "writeKey": WRITE_KEY}
    bad = [
        b"",
        b"\n\n",
        b"hello",
        b"\xff" * 1000,
        b"{" * 60_000,
        json.dumps({**good, "writeKey": "wrong"}).encode(),
        json.dumps({"event": "x", "userId": "u"}).encode(),
        json.dumps({"event": "x", "writeKey": WRITE_KEY}).encode(),
        b'{"event":"x","userId":"u","properties":{"a":"\\ud800"},"writeKey":"' + WRITE_KEY.encode() + b'"}',
        b"[" * 30_000 + b"]" * 30_000,
        b" " * 65_000,
    ]
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.settimeout(1)
        for data in bad:
            udp.sendto(data, ("127.0.0.1", daemon.port))
        mixed = json.dumps(good).encode()
        udp.sendto(b"\n".join([mixed, b"words", mixed, b""]), ("127.0.0.1", daemon.port))
        with pytest.raises(TimeoutError):
            udp.recvfrom(65536)
    deadline = time.monotonic() + 10
    while daemon.ask("/v1/timeline?distinct_id=udp-good").status != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(daemon.entries("udp-good"))) == 2


def test_mutations_of_good_requests(daemon: Daemon) -> None:
    """Seeded bytes flipped, cut, doubled anywhere: always an answer or a close, and the daemon goes on."""
    choose = random.Random(20261124)
    base = whole("mutant", "mutant") + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED
    for _ in range(600):
        data = bytearray(base)
        for _ in range(choose.randrange(1, 6)):
            at = choose.randrange(len(data))
            kind = choose.randrange(4)
            if kind == 0:
                data[at] = choose.randrange(256)
            elif kind == 1:
                del data[at : at + choose.randrange(1, 20)]
            elif kind == 2:
                data[at:at] = data[max(0, at - 15) : at]
            else:
                data[at:at] = choose.choice([b"\r\n", b"\0", b"\n", b"\r", b"\xff", b"{", b"0", b": "])
            if not data:
                data = bytearray(b"x")
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as connection:
            try:
                connection.sendall(bytes(data))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
