"""Requests that nobody means well with, from a seed: bodies of every dialect, mutated, in wrong forms and encodings, on
every path there is. A number and a seed are always the same request.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import random
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, quote_from_bytes

import brotli
from backports import zstd
from dialects import wire

from pugd.edge import routes

KEY = "k"
SIGNING_KEY, SIGNING_SECRET = "signs", "sig_of_the_tests"
PATHS = sorted(path for path, route in routes.ROUTES.items() if route.handler not in ("live", "ready"))
BODY_BYTES_MAX = 1 << 20
"""What the collector of these tests takes, as sent and inflated."""

T = "2026-11-03T09:00:00.123Z"
_TRACK = {
    "type": "track", "event": "Order", "messageId": "id-1", "userId": "u-1", "anonymousId": "a-1", "timestamp": T,
    "properties": {"price": 49.9, "tags": ["a", None, {"b": 1}], "$set": {"plan": "pro"}, "$add": {"visits": 1}},
    "context": {"page": {"url": "https://shop.example/x?y=1"}, "ip": "203.0.113.9", "library": {"name": "x"}},
    "sentAt": T, "integrations": {},
}  # fmt: skip
_POSTHOG = {
    "event": "$identify", "uuid": "id-1", "distinct_id": "u-1", "timestamp": T, "$set": {"plan": "pro"},
    "properties": {"$anon_distinct_id": "a-1", "$set_once": {"a": 1}, "$lib": "web", "$session_id": "s", "alias": "b"},
}  # fmt: skip
_MIXPANEL = {
    "event": "Order",
    "properties": {"token": KEY, "distinct_id": "a-1", "$insert_id": "id-1", "time": 1_790_000_000, "$device_id": "d"},
}
_AMPLITUDE = {
    "event_type": "$identify", "user_id": "user-1", "device_id": "device-1", "insert_id": "id-1",
    "time": 1_790_000_000_000, "session_id": -1,
    "user_properties": {"$set": {"plan": "pro"}, "$add": {"n": 1}}, "event_properties": {"a": [1]},
}  # fmt: skip
_PUG = {
    "eventId": "id-1", "kind": "purchase", "distinctId": "anon-1", "occurTime": T, "sessionId": "s",
    "customProperties": {"a": 1, "b": {"c": [None, "x"]}}, "autoProperties": {"$url": "https://shop.example"},
}  # fmt: skip
REAL: dict[str, list[Any]] = {
    "segment": [
        _TRACK,
        {"type": "identify", "userId": "u-1", "anonymousId": "a-1", "traits": {"plan": None, "n": 1}},
        {"type": "alias", "previousId": "a-2", "userId": "u-1"},
        {"type": "group", "userId": "u-1", "groupId": "g", "traits": {"seats": 5}},
        {"batch": [_TRACK, {**_TRACK, "type": "page", "name": "n"}], "sentAt": T, "context": {"locale": "de"}},
    ],
    "posthog": [
        {"api_key": KEY, "batch": [_POSTHOG, {**_POSTHOG, "event": "$pageview"}], "sent_at": T},
        [_POSTHOG | {"api_key": KEY}, {**_POSTHOG, "event": "$create_alias"}],
        {**_POSTHOG, "api_key": KEY, "offset": 12, "options": {"process_person_profile": False}},
        {"$distinct_id": "u-1", "$token": KEY, "$set": {"plan": "pro"}},
    ],
    "mixpanel": [
        [_MIXPANEL, {**_MIXPANEL, "event": "$merge", "properties": {"$distinct_ids": ["a", "b"], "token": KEY}}],
        [{"$token": KEY, "$distinct_id": "u", "$union": {"a": [1]}, "$time": 1}],
        {"$token": KEY, "$group_key": "c", "$group_id": "x", "$set": {"seats": 5}},
        [{"$token": KEY, "$distinct_id": "u", "$add": {"visits": 1}, "$ip": 0}],
    ],
    "amplitude": [
        {"api_key": KEY, "events": [_AMPLITUDE, {**_AMPLITUDE, "event_type": "Order"}], "client_upload_time": T},
        {"api_key": KEY, "events": [{**_AMPLITUDE, "event_type": "$groupidentify", "groups": {"c": ["x", 1]}}]},
    ],
    "pug": [
        {"events": [_PUG, _PUG | {"eventId": "x"}]},
        {"externalId": "u-1", "traits": {"plan": "pro"}, "anonymousId": "anon-1"},
    ],
}
PROTOBUF = [
    wire.batch(wire.event(), wire.event(custom={"a": -1, "b": "x", "t": (1_790_000_000, 5), "n": 0.5, "j": None})),
    wire.text(1, "user-1") + wire.block(2, wire.entry(1, "plan", wire.said("pro"))) + wire.text(3, "anon-1"),
]


def _gzip(data: bytes) -> bytes:
    """Alike at any time: its head would say when it was made."""
    return gzip.compress(data, mtime=0)


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


_WEIRD: list[str] = [
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1e999",
    "-1e999",
    "1e-999",
    "1E400",
    "9" * 400,
    "-" + "9" * 25,
    "18446744073709551616",
    "9223372036854775808",
    "-9223372036854775809",
    "0.1e-320",
    "1.7976931348623157e308",
    "1e308",
    "NaN",
    "Infinity",
    "01",
    "1.",
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83d\\ude00"',
    '"\x7f\xe2\x80\xa8"',
    '"\\/"',
    '"\\x41"',
    '"\\u12"',
    '"' + "x" * 600 + '"',
    '"' + "\\u00e9" * 300 + '"',
    '"' + "y" * 70_000 + '"',
    "[]",
    "{}",
    "[[]]",
    '{"":""}',
    '{"a":1,"a":2}',
    '{"__proto__":1}',
    '{"\\u0000":1}',
    '{"a.b.c":{"a.b":1}}',
    '{"' + "k" * 5000 + '":1}',
    _nested(60),
    _nested(66),
    _nested(5000),
    '{"a":' * 64 + "1" + "}" * 64,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '"1970-01-01"',
    '"9999-12-31T23:59:60Z"',
    '"0000-00-00T00:00:00Z"',
    '"2026-11-03T09:00:00+99:99"',
    '"-271821-04-20T00:00:00Z"',
    "1e18",
    "-62135596800000",
    '"null"',
    '"undefined"',
    '"$group:a:b"',
    '"[object Object]"',
    '"track"',
    '"identify"',
    '["$set"]',
    '{"$set":{"a":{"$set":1}}}',
    '{"$unset":[1,null,"a"]}',
    '{"$add":{"a":"b"}}',
    '{"$set":[]}',
    '"anonymous"',
    '"00000000-0000-0000-0000-000000000000"',
    "[" + "1," * 3000 + "1]",
    "\ufeff1",
    "/*x*/1",
    "",
]
"""Text that takes the place of a value."""


class Case(NamedTuple):
    """A request, whole."""

    method: str
    path: str
    """Without the query."""
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def bytes(self) -> bytes:
        target = self.path + (f"?{self.query}" if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1", "Host: events.example.com"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method not in ("GET", "OPTIONS"):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


def case(seed: int, number: int) -> Case:
    draw = random.Random(seed << 32 | number)
    starred = draw.choice(PATHS)
    route = routes.ROUTES[starred]
    path = starred.replace("*", draw.choice((KEY, "k%00y", "%22%3C/script%3E", "x" * 900, "%ff")))
    if draw.random() < 0.1:
        path += "/"
    names = (route.handler, *route.others) if draw.random() < 0.8 else tuple(REAL)
    data = _body(draw, draw.choice([name for name in names if name in REAL] or ["segment"]))
    data = data.replace(b'"id-1"', b'"id-%d"' % number)
    methods = [method for method in route.methods if method != "HEAD"]
    method = draw.choice(methods) if draw.random() < 0.95 else draw.choice(("OPTIONS", "PUT", "GET", "POST"))
    query = [f"{name}={value}" for name, value in _QUERY if draw.random() < 0.04]
    headers = [(name, draw.choice(values)) for name, values in _HEADERS if draw.random() < 0.06]
    if draw.random() < 0.9:
        query.append(f"writeKey={KEY}") if path.startswith(("/v1", "/beacon")) else None
        query.append(f"api_key={KEY}") if path.startswith("/import") else None
        said = draw.choice(
            (("Authorization", _basic(f"{KEY}:")), ("X-API-Key", KEY), ("Authorization", f"Bearer {KEY}"))
        )
        headers.append(said)
    if method == "GET" and draw.random() < 0.7:
        query.append(f"data={quote(base64.b64encode(data[:20_000]))}")
        data = b""
    else:
        data, more = _sent(draw, data)
        headers += more
    draw.shuffle(query)
    one = {name.lower(): (name, value) for name, value in headers}
    return Case(method, path, "&".join(query), list(one.values()), data)


def datagram(seed: int, number: int, now: int, *, genuine: bool) -> bytes:
    """One of lines of a key that signs, mostly: signed at `now`, ms, where it is `genuine`, whatever the lines are."""
    draw = random.Random(seed << 32 | number)
    lines = b"\n".join(_datagram_line(draw, number) for _ in range(draw.choice((1, 1, 2, 5))))
    kind = draw.random()
    if not genuine and kind < 0.3:
        return lines
    at = now if genuine or kind < 0.7 else draw.choice((0, now - 400_000, now + 400_000, 1 << 70))
    secret = SIGNING_SECRET if genuine or kind < 0.6 else draw.choice(("", "sig_guess"))
    told = hmac.digest(secret.encode(), b"%d\n%b" % (at, lines), "sha256").hex()
    # Compact, so that nothing in it can change and say the same.
    head = json.dumps({"signature": told, "at": at, "writeKey": SIGNING_KEY}, separators=(",", ":"))
    whole = head.encode() + b"\n" + lines
    if genuine:
        return whole
    if draw.random() < 0.3:
        return (_other_value(draw, head) + "\n").encode("utf-8", "surrogatepass") + lines
    if draw.random() < 0.2:
        return draw.choice((head.encode(), b"\n" + whole, whole + b"\n" + lines, head.encode() + b"\n" + whole))
    other = whole
    while other == whole:
        other = _mutated(draw, whole, draw.choice((1, 1, 2, 5)))
    return other


def _datagram_line(draw: random.Random, number: int) -> bytes:
    key = draw.choice((SIGNING_KEY, SIGNING_KEY, SIGNING_KEY, KEY, "x"))
    message = draw.choice([one for one in REAL["segment"] if "batch" not in one])
    text = json.dumps({"writeKey": key, **message}).replace("id-1", f"id-{number}-{draw.randrange(1000)}")
    for _ in range(draw.choice((0, 0, 1, 2))):
        text = _other_value(draw, text)
    return text.encode("utf-8", "surrogatepass")[:5_000]


def _basic(words: str) -> str:
    return "Basic " + base64.b64encode(words.encode()).decode()


_QUERY = [
    ("verbose", "1"),
    ("strict", "1"),
    ("compression", "gzip-js"),
    ("compression", "base64"),
    ("compression", "lz64"),
    ("_", "1790000000000"),
    ("_", "9" * 30),
    ("ip", "1"),
    ("ver", "1.2"),
    ("beacon", "1"),
    ("writeKey", "%00"),
    ("redirect", "https://evil.example"),
    ("callback", "x"),
    ("project_id", "12"),
    ("retry_count", "-1"),
    ("%zz", "%"),
    ("connect", "v1"),
    ("encoding", "json"),
    ("v", "4"),
]
_HEADERS = [
    (
        "Content-Type",
        [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/proto",
            "application/x-ndjson",
            "application/connect+proto",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "\xff",
        ],
    ),
    (
        "Authorization",
        ["Basic", "Basic =", "Basic " + "A" * 3000, "Bearer ", "Bearer \xff", _basic("x"), _basic("\0:")],
    ),
    ("posthog-request-timestamp", [T, "\xff", "9" * 400, "1e999"]),
    ("posthog-sdk-info", ["posthog-node/5.70.0", "/", "x" * 5000, "\xff\x80/1"]),
    ("X-Forwarded-Proto", ["https", "javascript", "https,http"]),
    ("X-Forwarded-Host", ["events.example.com:443", "evil.example/<script>", "\xff"]),
    (
        "X-Forwarded-For",
        [
            "81.2.69.142",
            "x" * 500,
            "127.0.0.1, " * 3000,
            "," * 9000,
            "[",
            "::ffff:81.2.69.142",
            "1.2.3.4:99:9",
            "\xff, ::1",
        ],
    ),
    ("Forwarded", ["for=81.2.69.142", 'for="[2a02:6b80::7]:1";by=x', 'for="' * 2000, "for=_x, for=\xff", "for=;;;,"]),
    ("Origin", ["https://shop.example", "null", "x\xff"]),
    ("Connect-Protocol-Version", ["1", "2"]),
    ("User-Agent", ["Mozilla/5.0", "\x80", "x" * 5000]),
    ("Access-Control-Request-Headers", ["authorization", "\xff", "x" * 2000]),
]


def _body(draw: random.Random, name: str) -> bytes:
    """A body before it is encoded, of a dialect or of none."""
    kind = draw.random()
    if kind < 0.04:
        return draw.randbytes(draw.choice((0, 1, 2, 3, 17, 300, 5000)))
    if kind < (0.6 if name == "pug" else 0.06):
        return _mutated(draw, draw.choice(PROTOBUF), draw.choice((0, 1, 1, 3)))
    if kind < 0.1:
        return draw.choice(_WEIRD).encode("utf-8", "surrogatepass")
    text = json.dumps(draw.choice(REAL[name]), ensure_ascii=draw.random() < 0.5)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 5))):
        text = _other_value(draw, text)
    data = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.06:
        # Lines, as an import has them; and many of them.
        data = b"\n".join([data] * draw.choice((2, 30)))
    if draw.random() < 0.03:
        data = b"[" + b",".join([data] * draw.choice((3, 200))) + b"]"
    if draw.random() < 0.03:
        data = text.encode(draw.choice(("utf-16", "utf-32", "utf-7")), "replace")
    return _mutated(draw, data, draw.choice((0, 0, 0, 0, 0, 0, 1, 4)))[:BODY_BYTES_MAX]


def _other_value(draw: random.Random, text: str) -> str:
    """Something weird in the place of a value, or of a key."""
    colons = [at for at, sign in enumerate(text) if sign == ":"]
    if not colons:
        return text
    at = draw.choice(colons) + 1
    end = at
    while end < len(text) and text[end] not in ",}]":
        end += 1
    return text[:at] + draw.choice(_WEIRD) + text[end:]


_SIGNS = (b"\0", b"\xff", b'"', b"{", b"]", b",", b"\\", b"\xed\xa0\x80")


def _mutated(draw: random.Random, data: bytes, times: int) -> bytes:
    for _ in range(times):
        at = draw.randrange(len(data) + 1)
        to = min(len(data), at + draw.choice((1, 1, 2, 8, 100)))
        middle = (
            b"",
            data[at:to] * 3,
            draw.randbytes(to - at),
            draw.choice(_SIGNS) + data[at:to],
        )
        data = data[:at] if draw.random() < 0.1 else data[:at] + draw.choice(middle) + data[to:]
    return data


def _sent(draw: random.Random, data: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """In some form and encoding, mostly rightly."""
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": _gzip, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
    }  # fmt: skip
    said: list[tuple[str, str]] = []
    form = draw.random()
    if form < 0.08:
        data = b"data=" + quote_from_bytes(base64.b64encode(data)).encode()
    elif form < 0.14:
        data = (
            b"data="
            + quote_from_bytes(data).encode()
            + draw.choice((b"", b"&verbose=1&api_key=k", b"&compression=lz64"))
        )
    elif form < 0.18:
        data = b"data=" + quote_from_bytes(base64.b64encode(_gzip(data))).encode() + b"&compression=gzip-js"
    elif form < 0.2:
        data = b"api_key=k&e=" + quote_from_bytes(data).encode()
    packing = draw.random()
    if packing < 0.25:
        name = draw.choice(list(packers))
        data = packers[name](data)
        if packing < 0.15:
            said.append(("Content-Encoding", name))
        elif packing < 0.18:
            said.append(("Content-Encoding", draw.choice((*packers, "identity", "lzma", "gzip, gzip", ""))))
        if draw.random() < 0.1:
            data = _mutated(draw, data, 1)
        if draw.random() < 0.03:
            data = _gzip(bytes(draw.choice((BODY_BYTES_MAX - 9, 4 * BODY_BYTES_MAX))))
    elif packing < 0.28:
        said.append(("Content-Encoding", draw.choice((*packers, "identity", "compress"))))
    return data, said
