"""The head of a request: its bytes up to the empty line → Head, or why not.

A head is whole before it is parsed, so how the network cut it can make no difference. llhttp (by httptools) parses it,
and a grammar of our own, RFC 9112 without its leniencies, must agree: every line ends in CR LF, no folding, no space
before a colon, no control characters, an ASCII target. Where two readers could differ about where a body ends, the
request is refused: two lengths, a length beside a transfer coding, a coding other than `chunked`, a length that is not
plain digits.

Clients send the same head again and again, but for the length. `Heads` remembers what it parsed, under the bytes before
and after the digits of Content-Length, so a known head costs two splits and one look-up (0.5 µs instead of 6) and is
exactly as strict: these very bytes were parsed before, and digits in place of digits change nothing but the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import httptools
import msgspec

from pugd.edge.response import Refused, invalid, spliced

HEADERS_COUNT_MAX: Final = 100
HEAD_CACHED_BYTES_MAX: Final = 2048
"""Longer heads (URLs that carry events) never come twice."""
LENGTH_DIGITS_MAX: Final = 18

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_GRAMMAR: Final = re.compile(
    rb"([A-Z][A-Z-]{0,31}) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n"
    rb"((?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)
_VERSION: Final = re.compile(rb"[A-Z][A-Z-]{0,31} [^ \r\n]+ HTTP/([0-9])\.([0-9])\r\n")
_BEGIN: Final = re.compile(rb"[A-Z][A-Z-]{0,31}(?: |\Z)|\r?\Z")
_HOST: Final = re.compile(rb"(?:[0-9A-Za-z\-._~!$&'()*+;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ORIGIN: Final = re.compile(rb"[\x21-\x7e]{1,1024}")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)

_ONCE: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"origin", b"content-type"}
)
_MORE: Final = frozenset({b"posthog-request-timestamp", b"posthog-sdk-info"})
"""Headers that one dialect alone wants."""
_WANTED: Final = (
    _ONCE
    | _MORE
    | {
        b"accept-encoding",
        b"access-control-request-headers",
        b"connection",
        b"content-encoding",
        b"expect",
        b"if-none-match",
        b"forwarded",
        b"sec-fetch-site",
        b"user-agent",
        b"x-api-key",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    }
)
_UNWANTED: Final = (
    *(b"accept", b"accept-language", b"cache-control", b"cookie", b"dnt", b"pragma", b"priority"),
    *(
        b"access-control-request-method",
        b"referer",
        b"sec-ch-ua",
        b"sec-ch-ua-mobile",
        b"sec-ch-ua-platform",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"x-retry-count",
    ),
)
_SPELLINGS: Final = {spelt: name for name in (*_WANTED, *_UNWANTED) for spelt in (name, name.decode().title().encode())}
"""The usual ones: a look-up costs less than lower case."""


class Head(msgspec.Struct, gc=False, eq=False):
    """What a request's head said, of the headers somebody needs. Shared by all requests with the same head: read only,
    but for `note` and what `with_extra` remembers."""

    method: str
    path: str
    """As sent: percent signs stay."""
    query: bytes
    """Behind the `?`, as sent; empty where there is none."""
    host: str
    content_length: int
    """Of the request that was parsed; another with the same head may have another."""
    chunked: bool
    expects_continue: bool
    keep_alive: bool
    is_head: bool
    extra: bytes
    """Header lines that every answer to this head carries: CORS for its Origin, `Connection`."""
    authorization: bytes | None
    api_key: bytes | None
    """`X-Api-Key`."""
    content_encoding: bytes | None
    """Lower case."""
    content_type: str
    user_agent: str
    origin: bytes | None
    sec_fetch: bool
    """A browser sent this: it has `Sec-Fetch-Site`. Of these headers `fetch` of Node.js has `Sec-Fetch-Mode`."""
    preflight_headers: bytes | None
    forwarded_for: bytes | None
    forwarded_host: bytes | None
    forwarded_proto: bytes | None
    forwarded: bytes | None = None
    """RFC 7239."""
    accept_encoding: bytes | None = None
    if_none_match: bytes | None = None
    more: dict[bytes, bytes] = {}
    """What one dialect alone wants, by lower-case name."""
    note: object = None
    """None until whoever handles the request leaves here what it worked out of this head: its route, its key. Nothing
    that refers back to the head."""
    answered: tuple[bytes, bytes] | None = None
    """The answer that it had last, and that with `extra`."""

    def with_extra(self, answer: bytes) -> bytes:
        """`answer` with `extra`. cost  0.1 µs where it is the very same answer as the last time, as it mostly is"""
        last = self.answered
        if last is None or last[0] is not answer:
            last = self.answered = (answer, spliced(answer, self.extra))
        return last[1]


class _Progress:
    """All that is asked of llhttp: whether it agrees that this is a whole head. It refuses by raising."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


def parse(raw: bytes) -> Head | Refused:
    """`raw` ends with the first empty line. cost  about 6 µs for ten headers"""
    matched = _GRAMMAR.fullmatch(raw)
    if matched is None:
        version = _VERSION.match(raw)
        if version is not None and (version[1] != b"1" or version[2] not in b"01"):
            return invalid("this server speaks HTTP/1.1", 505)
        return invalid(_what_is_wrong(raw))
    progress = _Progress()
    try:
        httptools.HttpRequestParser(progress).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # An offer to speak another protocol, which a server may pass over; CONNECT is refused by its target.
    except httptools.HttpParserInvalidMethodError:
        return invalid("unknown method", 501)
    except httptools.HttpParserError as error:
        return invalid(f"not a well-formed HTTP request: {error}")
    if not progress.complete:
        return invalid("not a well-formed HTTP request")

    method, target, minor, lines = matched.groups()
    is_11 = minor == b"1"
    headers: dict[bytes, bytes] = {}
    count = 0
    for line in lines.split(b"\r\n"):
        count += 1
        name, _, value = line.partition(b":")
        known = _SPELLINGS.get(name)
        name = known if known is not None else name.lower()
        if name in _WANTED:
            if name not in headers:
                headers[name] = value.strip(b" \t")
            elif name in _ONCE:
                return invalid(f"header {name.decode()} given twice")
            else:
                headers[name] += b", " + value.strip(b" \t")
    if count > HEADERS_COUNT_MAX + 1:  # the last line end has nothing behind it
        return invalid(f"more than {HEADERS_COUNT_MAX} headers", 431)
    get = headers.get

    host = get(b"host")
    if host is None:
        if is_11:
            return invalid("HTTP/1.1 needs a Host header")
        host = b""
    if target[:1] == b"/":
        path, _, query = target.partition(b"?")
    elif target == b"*" and method == b"OPTIONS":
        path, query = target, b""
    else:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            return invalid("the request target must be a path that begins with /")
        host, path, query = absolute[1], absolute[2] or b"/", absolute[3] or b""
    if _HOST.fullmatch(host) is None:
        return invalid("the Host header is not a host name")

    coding = get(b"transfer-encoding")
    length = get(b"content-length")
    content_length = 0
    if coding is not None:
        if length is not None:
            return invalid("Content-Length beside Transfer-Encoding")
        if coding.lower() != b"chunked" or not is_11:
            return invalid("the only Transfer-Encoding taken is chunked, in HTTP/1.1")
    elif length is not None:
        if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
            return invalid("Content-Length is not a number of bytes")
        content_length = int(length)
    expect = get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return invalid("the only expectation met is 100-continue", 417)

    extra = b""
    keep_alive = is_11
    connection = get(b"connection")
    if connection is not None:
        options = [option.strip() for option in connection.lower().split(b",")]
        keep_alive = b"close" not in options and (is_11 or b"keep-alive" in options)
        if keep_alive and not is_11:
            extra = b"Connection: keep-alive\r\n"
    if not keep_alive:
        extra = b"Connection: close\r\n"
    origin = get(b"origin")
    if origin is not None and _ORIGIN.fullmatch(origin) is not None:
        extra += (
            b"Access-Control-Allow-Origin: " + origin + b"\r\nAccess-Control-Allow-Credentials: true\r\n"
            b"Access-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n"
        )
    encoding = get(b"content-encoding")
    return Head(
        method.decode("ascii"),
        path.decode("ascii"),
        query,
        host.decode("ascii"),
        content_length,
        coding is not None,
        expect is not None and is_11,
        keep_alive,
        method == b"HEAD",
        extra,
        get(b"authorization"),
        get(b"x-api-key"),
        encoding.lower() if encoding else None,
        get(b"content-type", b"").decode("latin-1"),
        get(b"user-agent", b"").decode("utf-8", "replace"),
        origin,
        b"sec-fetch-site" in headers,
        get(b"access-control-request-headers"),
        get(b"x-forwarded-for"),
        get(b"x-forwarded-host"),
        get(b"x-forwarded-proto"),
        get(b"forwarded"),
        get(b"accept-encoding"),
        get(b"if-none-match"),
        {name: headers[name] for name in _MORE & headers.keys()},
    )


def may_become(partial: bytes | bytearray) -> Refused | None:
    """Whether bytes without an empty line yet can still become a head; else why not, so that nobody waits for it."""
    if _BEGIN.match(partial) is None:
        return invalid("not an HTTP request")
    if partial.count(b"\n") != partial.count(b"\r\n") or b"\0" in partial:
        return invalid(_what_is_wrong(partial))
    return None


def _what_is_wrong(raw: bytes | bytearray) -> str:
    if b"\0" in raw:
        return "NUL in the head of the request"
    if raw.count(b"\n") != raw.count(b"\r\n"):
        return "lines of the head must end in CR LF"
    line, _, headers = raw.partition(b"\r\n")
    if re.search(rb"\r\n[ \t]", headers) or headers[:1] in (b" ", b"\t"):
        return "folded header lines are not taken"
    if re.search(rb"(?:\A|\r\n)" + _TOKEN + rb"+[ \t]+:", headers):
        return "space before the colon of a header"
    if re.fullmatch(rb"[A-Z][A-Z-]{0,31} [\x21\x22\x24-\x7e]+ HTTP/1\.[01]", line) is None:
        return "not a well-formed request line"
    return "not a well-formed header"


class Heads:
    """Heads seen lately, remembered from their second sight on, since browsers send many that never come again.

    Two generations: when the young one is full it becomes the old one, and the old one goes. Holds at most twice
    `count_max` heads of at most HEAD_CACHED_BYTES_MAX bytes each.
    """

    __slots__ = ("_count_max", "_old", "_seen", "_told", "_young", "missed")

    def __init__(self, count_max: int = 2048, told: Callable[[bytes, Head], None] | None = None) -> None:
        """`told`: of each that is remembered, whenever somebody asks for it"""
        self._count_max = count_max
        self._told = told
        self._young: dict[tuple[bytes, bytes], Head] = {}
        self._old: dict[tuple[bytes, bytes], Head] = {}
        self._seen: set[int] = set()
        """Hashes of heads seen once."""
        self.missed = 0
        """How many were parsed."""

    def parse(self, raw: bytes) -> tuple[Head, int] | Refused:
        """returns  the head and this request's content length; see `parse` for `raw`"""
        before, _, after = raw.partition(b"\r\nContent-Length: ")
        if not after:
            before, _, after = raw.partition(b"\r\ncontent-length: ")
        if after:
            digits, _, rest = after.partition(b"\r\n")
            if not digits.isdigit() or len(digits) > LENGTH_DIGITS_MAX:
                parsed = parse(raw)
                return parsed if isinstance(parsed, Refused) else (parsed, parsed.content_length)
            key = (before, rest)
            head = self._young.get(key)
            if head is not None:
                if self._told is not None:
                    self._told(raw, head)
                return head, int(digits)
        else:
            digits = b""
            key = (raw, b"")
            head = self._young.get(key)
            if head is not None:
                if self._told is not None:
                    self._told(raw, head)
                return head, head.content_length
        head = self._old.get(key)
        if head is not None:
            self._remember(key, head, raw)
            return head, int(digits) if digits else head.content_length
        self.missed += 1
        parsed = parse(raw)
        if isinstance(parsed, Refused):
            return parsed
        if len(raw) <= HEAD_CACHED_BYTES_MAX:
            sight = hash(key)
            if sight in self._seen:
                self._remember(key, parsed, raw)
            else:
                if len(self._seen) >= 4 * self._count_max:
                    self._seen.clear()
                self._seen.add(sight)
        return parsed, parsed.content_length

    def _remember(self, key: tuple[bytes, bytes], head: Head, raw: bytes) -> None:
        if len(self._young) >= self._count_max:
            self._old = self._young
            self._young = {}
        self._young[key] = head
        if self._told is not None:
            self._told(raw, head)
