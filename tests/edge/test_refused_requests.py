"""What must not be taken, on the running edge by a real socket: each is answered 4xx or 5xx and closed, nothing of it
reaches the handler, and nothing behind it is read as a request."""

from __future__ import annotations

import json

import pytest
from running_edge import running, split_head

from pugd.edge.bounds import Bounds

SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST /v1/track HTTP/1.1", b"Host: x", *lines, b"", b""))


def chunked(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked") + body


REFUSED: dict[str, tuple[int, bytes]] = {
    "length beside coding": (400, head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "coding beside length": (400, head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n"),
    "two lengths": (400, head(b"Content-Length: 2", b"Content-Length: 2") + b"{}"),
    "two different lengths": (400, head(b"Content-Length: 2", b"Content-Length: 4") + b"{}"),
    "length with plus": (400, head(b"Content-Length: +2") + b"{}"),
    "length in hexadecimal": (400, head(b"Content-Length: 0x2") + b"{}"),
    "negative length": (400, head(b"Content-Length: -1")),
    "empty length": (400, head(b"Content-Length: ")),
    "empty length without space": (400, head(b"Content-Length:")),
    "list of lengths": (400, head(b"Content-Length: 5,5") + b"abcde"),
    "list of lengths with space": (400, head(b"Content-Length: 5, 5") + b"abcde"),
    "length with underscore": (400, head(b"Content-Length: 1_0") + b"0123456789"),
    "length with inner space": (400, head(b"Content-Length: 1 0") + b"0123456789"),
    "length in other digits": (400, head("Content-Length: ²".encode()) + b"{}"),
    "length with fraction": (400, head(b"Content-Length: 2.0") + b"{}"),
    "length over 64 bits": (400, head(b"Content-Length: 18446744073709551618")),
    "length over any bits": (400, head(b"Content-Length: " + b"9" * 200)),
    "coding not chunked": (400, head(b"Transfer-Encoding: gzip")),
    "coding identity": (400, head(b"Transfer-Encoding: identity", b"X: y")),
    "coding list": (400, head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    "coding list reversed": (400, head(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n"),
    "coding twice": (400, head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "coding with control character": (400, head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n"),
    "coding quoted": (400, head(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n"),
    "coding with parameter": (400, head(b"Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n"),
    "coding empty": (400, head(b"Transfer-Encoding:") + b"0\r\n\r\n"),
    "coding misspelt": (400, head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    "coding folded": (400, head(b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunk size in 0x": (400, chunked(b"0x2\r\n{}\r\n0\r\n\r\n")),
    "chunk size with plus": (400, chunked(b"+2\r\n{}\r\n0\r\n\r\n")),
    "chunk size negative": (400, chunked(b"-2\r\n{}\r\n0\r\n\r\n")),
    "chunk size empty": (400, chunked(b"\r\n{}\r\n0\r\n\r\n")),
    "chunk size with underscore": (400, chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n")),
    "chunk size with space before": (400, chunked(b" 2\r\n{}\r\n0\r\n\r\n")),
    "chunk size with space behind": (400, chunked(b"2 \r\n{}\r\n0\r\n\r\n")),
    "chunk size only extension": (400, chunked(b";a=b\r\n{}\r\n0\r\n\r\n")),
    "chunk size overflow": (400, chunked(b"10000000000000002\r\n{}\r\n0\r\n\r\n")),
    "chunk size huge": (413, chunked(b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n")),
    "chunk size not hexadecimal": (400, chunked(b"zz\r\n{}\r\n0\r\n\r\n")),
    "line feed in chunk extension": (400, chunked(b"2;a\nb\r\n{}\r\n0\r\n\r\n")),
    "line feed ends chunk size": (400, chunked(b"2\n{}\r\n0\r\n\r\n")),
    "carriage return in chunk extension": (400, chunked(b"2;a\rb\r\n{}\r\n0\r\n\r\n")),
    "NUL in chunk extension": (400, chunked(b"2;a\0b\r\n{}\r\n0\r\n\r\n")),
    "chunk extension without end": (400, chunked(b"2;" + b"a" * 5000)),
    "chunk data ends in other bytes": (400, chunked(b"2\r\n{}XX0\r\n\r\n")),
    "chunk data ends in line feed": (400, chunked(b"2\r\n{}\n0\r\n\r\n")),
    "chunk data ends in CR and other": (400, chunked(b"2\r\n{}\rX0\r\n\r\n")),
    "chunk data too long": (400, chunked(b"2\r\n{}}\r\n0\r\n\r\n")),
    "trailer folded": (400, chunked(b"0\r\nA: b\r\n c\r\n\r\n")),
    "trailer without colon": (400, chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n")),
    "trailers without end": (431, chunked(b"0\r\n" + b"A: bcdefghijklmnopqrstuvwxyz\r\n" * 400)),
    "bare line feeds": (400, b"POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}"),
    "bare line feed once": (400, b"POST / HTTP/1.1\r\nHost: x\nContent-Length: 2\r\n\r\n{}"),
    "bare line feed ends head": (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\n{}"),
    "bare carriage return": (400, head(b"A: b\rC: d")),
    "folded header": (400, head(b"A: b\r\n c")),
    "folded with tab": (400, head(b"A: b\r\n\tc")),
    "folded first header": (400, b"POST / HTTP/1.1\r\n Host: x\r\n\r\n"),
    "space before colon": (400, head(b"Content-Length : 2") + b"{}"),
    "tab before colon": (400, head(b"Content-Length\t: 2") + b"{}"),
    "header without colon": (400, head(b"nonsense")),
    "header without name": (400, head(b": 2")),
    "header name with control character": (400, head(b"A\x01: 2")),
    "header name not ASCII": (400, head("Hößt: 2".encode())),
    "NUL in header": (400, head(b"A: b\0c")),
    "control character in header": (400, head(b"A: b\x01c")),
    "DEL in header": (400, head(b"A: b\x7fc")),
    "NUL in target": (400, b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "control character in target": (400, b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab in target": (400, b"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n"),
    "space in target": (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target not ASCII": (400, "GET /ä HTTP/1.1\r\nHost: x\r\n\r\n".encode()),
    "target with fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target relative": (400, b"GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target of another scheme": (400, b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target star": (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "connect": (400, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "space behind version": (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    "space before method": (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "lower-case method": (400, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "unknown method": (501, b"FROBNICATE / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
    "HTTP/1.10": (400, b"GET / HTTP/1.10\r\nHost: x\r\n\r\n"),
    "http in lower case": (400, b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    "host is a list": (400, b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    "host is a path": (400, b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    "host with user": (400, b"GET / HTTP/1.1\r\nHost: x@y\r\n\r\n"),
    "two authorizations": (400, head(b"Authorization: Basic YQ==", b"Authorization: Basic Yg==")),
    "other expectation": (417, head(b"Expect: 200-ok", b"Content-Length: 2") + b"{}"),
    "101 headers": (431, head(*[b"A%d: b" % i for i in range(100)])),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500),
    "noise": (400, bytes(range(256)) * 4),
    "body longer than allowed": (413, head(b"Content-Length: 100001")),
    "chunk longer than allowed": (413, chunked(b"186a1\r\n")),
    "chunks longer than allowed": (413, chunked(b"c350\r\n" + b"x" * 50_000 + b"\r\nc351\r\n")),
    "long target": (414, b"GET /" + b"a" * 80_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "long target without end": (414, b"GET /" + b"a" * 80_000),
    "long header": (431, head(b"A: " + b"b" * 150_000)),
    "long header without end": (431, head(b"A: " + b"b" * 150_000)[:-4]),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_is_refused(name: str) -> None:
    status, data = REFUSED[name]
    async with running(Bounds(body_bytes_max=100_000)) as at_work:
        client = await at_work.connect()
        await client.send(data + SMUGGLED)
        answer = await client.rest()  # ends: the edge closes, though we do not
        answered, headers = split_head(answer.partition(b"\r\n\r\n")[0])
        said = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert answered == status, said
        assert isinstance(said["code"], str)
        assert isinstance(said["message"], str)
        assert headers["connection"] == "close"
        assert at_work.requests == []
        assert at_work.edge.statistics().requests_refused == {status: 1}
        assert at_work.edge.statistics().held_bytes == 0


@pytest.mark.parametrize("name", REFUSED)
async def test_is_refused_a_byte_at_a_time(name: str) -> None:
    status, data = REFUSED[name]
    async with running(Bounds(body_bytes_max=100_000)) as at_work:
        client = await at_work.connect()
        whole = data + SMUGGLED
        bulk = max(0, len(data) - 300)
        await client.send(whole[:bulk])
        for i in range(bulk, len(whole)):
            came = at_work.edge.statistics().bytes_received
            await client.send(whole[i : i + 1])
            for _ in range(200):
                if at_work.edge.statistics().bytes_received > came or at_work.edge.statistics().requests_refused:
                    break
                await client.pause()
            if at_work.edge.statistics().requests_refused:
                break
        answer = await client.rest()
        assert split_head(answer.partition(b"\r\n\r\n")[0])[0] == status
        assert at_work.requests == []


TAKEN: dict[str, tuple[bytes, bytes]] = {
    "length": (head(b"Content-Length: 2") + b"{}", b"{}"),
    "length with spaces around": (head(b"Content-Length: \t 2 \t") + b"{}", b"{}"),
    "length with zeros": (head(b"Content-Length: 0002") + b"{}", b"{}"),
    "length in any case": (head(b"cOnTeNt-LeNgTh: 2") + b"{}", b"{}"),
    "no length": (head(), b""),
    "chunked": (chunked(b"2\r\n{}\r\n0\r\n\r\n"), b"{}"),
    "chunked in any case": (head(b"transfer-encoding: Chunked") + b"2\r\n{}\r\n0\r\n\r\n", b"{}"),
    "chunk size with zeros": (chunked(b"0000000002\r\n{}\r\n000\r\n\r\n"), b"{}"),
    "chunk size in capitals": (chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
    "chunk extensions": (chunked(b'2;a;b=c;d="e \\" f"\r\n{}\r\n0;z\r\n\r\n'), b"{}"),
    "trailers": (chunked(b"2\r\n{}\r\n0\r\nA: b\r\nContent-Length: 7\r\n\r\n"), b"{}"),
    "100 headers": (head(*[b"A%d: b" % i for i in range(98)], b"Content-Length: 2") + b"{}", b"{}"),
    "empty header": (head(b"A:", b"B: ", b"Content-Length: 2") + b"{}", b"{}"),
    "header not ASCII": (head("A: hé".encode(), b"Content-Length: 2") + b"{}", b"{}"),
    "absolute target": (b"POST http://y:80/v1/track?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    "empty lines before": (b"\r\n\r\n" + head(b"Content-Length: 2") + b"{}", b"{}"),
    "offer of another protocol": (
        head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 2") + b"{}",
        b"{}",
    ),
    "host with port": (b"POST /v1/track HTTP/1.1\r\nHost: [::1]:7080\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    "empty host": (b"POST /v1/track HTTP/1.1\r\nHost:\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    "long target": (b"GET /v1/track?data=" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_is_taken(name: str) -> None:
    data, body = TAKEN[name]
    async with running(Bounds(body_bytes_max=100_000)) as at_work:
        client = await at_work.connect()
        for _ in range(3):  # the second and third time from heads seen before
            await client.send(data)
            assert (await client.answer())[0] == 200
        assert [request.body for request in at_work.requests] == [body] * 3
        assert {request.head.path for request in at_work.requests} == {"/v1/track"}
        assert at_work.edge.statistics().held_bytes == 0
