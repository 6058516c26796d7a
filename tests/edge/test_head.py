"""Heads: parsed as h11 parses them, and the same whether seen before or not."""

from __future__ import annotations

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from pugd.edge.head import Head, Heads, may_become, parse
from pugd.edge.response import Refused

NAMES = st.sampled_from(
    [
        b"Host",
        b"content-length",
        b"Content-Length",
        b"CONTENT-LENGTH",
        b"Transfer-Encoding",
        b"Connection",
        b"Authorization",
        b"X-Api-Key",
        b"Origin",
        b"Expect",
        b"X-Other",
        b"Content-Encoding",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"2", b"0", b"12345", b"+2", b"", b"chunked", b"close", b"keep-alive", b"x", b"a, b", b"100-continue", b"gzip"]
    ),
    st.binary(max_size=6),
)
METHODS = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"HEAD", b"PUT", b"G", b"get"])
TARGETS = st.one_of(
    st.sampled_from([b"/", b"/v1/track?writeKey=a", b"http://h/p?q", b"*", b"x"]), st.binary(max_size=8)
)
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b" : ", b":\t"]), VALUES), max_size=6)


def build(method: bytes, target: bytes, version: bytes, lines: list[tuple[bytes, bytes, bytes]]) -> bytes:
    text = b"%s %s HTTP/%s\r\n" % (method, target, version)
    return text + b"".join(name + colon + value + b"\r\n" for name, colon, value in lines) + b"\r\n"


def by_h11(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


@given(METHODS, TARGETS, st.sampled_from([b"1.1", b"1.0"]), LINES)
@example(b"POST", b"/", b"1.1", [(b"Host", b": ", b"x"), (b"Content-Length", b": ", b"2")])
def test_never_more_lenient_than_h11(
    method: bytes, target: bytes, version: bytes, lines: list[tuple[bytes, bytes, bytes]]
) -> None:
    raw = build(method, target, version, lines)
    if raw.index(b"\r\n\r\n") + 4 != len(raw):
        return
    head = parse(raw)
    if isinstance(head, Refused):
        assert 400 <= head.status < 600
        return
    twin = by_h11(raw)
    assert twin is not None, raw
    headers = dict(twin.headers)
    assert head.method.encode() == twin.method
    assert head.authorization == headers.get(b"authorization")
    if head.chunked:
        assert headers[b"transfer-encoding"].lower() == b"chunked"
    else:
        assert head.content_length == int(headers.get(b"content-length", b"0"))


@given(st.lists(st.tuples(METHODS, TARGETS, LINES), min_size=1, max_size=5), st.lists(st.integers(0, 4), max_size=30))
def test_a_head_seen_before_is_parsed_the_same(
    heads: list[tuple[bytes, bytes, list[tuple[bytes, bytes, bytes]]]], order: list[int]
) -> None:
    cache = Heads(2)
    for i in order:
        method, target, lines = heads[i % len(heads)]
        raw = build(method, target, b"1.1", [(b"Host", b": ", b"x"), *lines])
        if raw.index(b"\r\n\r\n") + 4 != len(raw):
            continue
        fresh = parse(raw)
        cached = cache.parse(raw)
        if isinstance(fresh, Refused) or isinstance(cached, Refused):
            assert fresh == cached
        else:
            head, length = cached
            assert length == fresh.content_length
            for field in Head.__struct_fields__:
                if field not in ("content_length", "note", "answered"):
                    assert getattr(head, field) == getattr(fresh, field), field


def test_only_the_length_differs() -> None:
    cache = Heads()
    heads = []
    for length in (5, 17, 0, 123456, 5):
        found = cache.parse(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nA: b\r\n\r\n" % length)
        assert not isinstance(found, Refused)
        assert found[1] == length
        heads.append(found[0])
    assert heads[2] is heads[3] is heads[4]
    assert cache.missed == 2
    for wrong in (b"+5", b"5,5", b"", b"-1", b"0x5", b"5 5", b"\xb2"):
        assert isinstance(
            cache.parse(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + wrong + b"\r\nA: b\r\n\r\n"), Refused
        )
    twice = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b\r\nContent-Length: 5\r\n\r\n"
    assert isinstance(cache.parse(twice), Refused)
    assert isinstance(cache.parse(twice), Refused)


def test_what_is_remembered_is_bounded() -> None:
    cache = Heads(10)
    for i in range(1000):
        for _ in range(3):
            cache.parse(b"POST / HTTP/1.1\r\nHost: x\r\nA: %d\r\n\r\n" % i)
    assert cache.missed == 2000
    assert len(cache._young) <= 10
    assert len(cache._old) <= 10
    assert len(cache._seen) <= 40


def test_what_a_head_says() -> None:
    head = parse(
        b"POST /v1/t?writeKey=a%20b HTTP/1.1\r\nHost: h.example:80\r\nAuthorization: Basic eA==\r\nX-API-KEY: k\r\n"
        b"Content-Encoding: GZIP\r\nContent-Type: text/plain\r\nUser-Agent: M\xc3\xb6zilla\r\nOrigin: null\r\n"
        b"Sec-Fetch-Site: cross-site\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n"
        b"Forwarded: for=9.9.9.9\r\nContent-Length: 3\r\n\r\n"
    )
    assert isinstance(head, Head)
    assert (head.method, head.path, head.query, head.host) == ("POST", "/v1/t", b"writeKey=a%20b", "h.example:80")
    assert (head.authorization, head.api_key, head.content_encoding) == (b"Basic eA==", b"k", b"gzip")
    assert (head.content_type, head.user_agent, head.origin, head.sec_fetch) == ("text/plain", "Mözilla", b"null", True)
    assert (head.forwarded_for, head.forwarded) == (b"1.2.3.4, 5.6.7.8", b"for=9.9.9.9")
    assert b"Access-Control-Allow-Origin: null\r\n" in head.extra


@given(st.binary(max_size=80), st.integers(0, 80))
def test_whoever_can_no_longer_become_a_head_never_does(rest: bytes, cut: int) -> None:
    raw = b"POST / HTTP/1.1\r\nHost: x\r\n" + rest + b"\r\n\r\n"
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
    partial = raw[: min(cut, len(raw) - 1)]
    if may_become(partial) is not None:
        assert isinstance(parse(raw), Refused)
