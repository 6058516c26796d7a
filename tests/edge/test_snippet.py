"""/pugd.js: small, cached, and the same for every asker but for its packing."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import cast

import pytest
from running_edge import Running, running

from pugd.accept import Accept
from pugd.edge import snippet
from pugd.edge.connection import Request
from pugd.edge.gate import Gate
from pugd.edge.head import Head, parse
from pugd.edge.health import Health
from pugd.reception import Reception

SOURCE = Path(snippet.__file__).with_name("pugd.js").read_text("ascii")


def head(*lines: str, method: str = "GET") -> Head:
    parsed = parse("\r\n".join([f"{method} /pugd.js HTTP/1.1", "Host: x", *lines, "", ""]).encode())
    assert isinstance(parsed, Head)
    return parsed


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    return (
        int(first.split()[1]),
        {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)},
        body,
    )


def test_it_is_small() -> None:
    assert len(snippet.PACKED) <= 4096
    assert len(snippet.SCRIPT) <= 10_240
    assert gzip.decompress(snippet.PACKED) == snippet.SCRIPT


def test_only_what_means_nothing_is_taken_out() -> None:
    lines = [line.strip() for line in SOURCE.splitlines() if line.strip() and not line.strip().startswith("//")]
    assert snippet.SCRIPT.decode().replace(" ", "") == "".join(f"{line}\n" for line in lines).replace(" ", "")
    words = re.compile(r"'[^'\n]*'|[\w$.]+")
    assert words.findall(snippet.SCRIPT.decode()) == words.findall("\n".join(lines))
    assert snippet.stripped("  // gone\n\n  a = 'x = 1, y' + b in c;\n") == "a='x = 1, y'+b in c;\n"


def test_the_source_is_written_so_that_it_can_be_stripped() -> None:
    for line in SOURCE.splitlines():
        if not line.strip().startswith("//"):
            assert "//" not in re.sub(r"'[^']*'|/\^?[^/ ]+/", "", line), line
            assert "`" not in line, line
            assert line.count("'") % 2 == 0, line
            assert re.search(r"\+ \+|- -|/\*", line) is None, line


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br, zstd", True), ("br,gzip;q=0.5", True), ("GZIP", True), ("gzip;q=0.001", True),
        ("gzip;q=0", False), ("br, gzip; q=0.0, *", False), ("br", False), ("x-gzipped", False), ("identity", False),
        (None, False),
    ],
)  # fmt: skip
def test_packed_for_whoever_takes_that(accepted: str | None, packed: bool) -> None:
    status, headers, body = split(snippet.answer(head(*([f"Accept-Encoding: {accepted}"] if accepted else []))))
    assert (status, headers.get("content-encoding")) == (200, "gzip" if packed else None)
    assert (gzip.decompress(body) if packed else body) == snippet.SCRIPT
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert re.fullmatch(r"public, max-age=\d+, stale-while-revalidate=\d+", headers["cache-control"])
    assert set(headers["vary"].split(", ")) == {"Accept-Encoding", "Origin"}
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert int(headers["content-length"]) == len(body)


def test_who_has_it_is_told_so() -> None:
    tag = split(snippet.answer(head()))[1]["etag"]
    assert re.fullmatch(r'W/"[0-9a-f]{20}"', tag)
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        status, headers, body = split(snippet.answer(head(f"If-None-Match: {known}", "Accept-Encoding: gzip")))
        assert (status, headers["etag"], body) == (304, tag, b"")
        assert "cache-control" in headers
        assert "content-length" not in headers
    for other in ('"other"', tag[:-2] + '0"', ""):
        assert split(snippet.answer(head(f"If-None-Match: {other}")))[0] == 200


async def test_over_the_wire_before_the_collector_has_recovered_and_without_a_key() -> None:
    reception = Reception(Gate({}), Health(), 1 << 20)

    def take(_: Running, request: Request) -> None:
        reception.handle([request], None, 1_700_000_000_000)

    async with running(handler=take) as at_work:
        client = await at_work.connect()
        for opened in (False, True):
            if opened:
                reception.open(cast(Accept, object()))
            await client.send(b"GET /pugd.js HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, body) == (200, snippet.SCRIPT)
            assert headers["access-control-allow-origin"] == "https://a.example"
            await client.send(
                b"GET /pugd.js?v=2 HTTP/1.1\r\nHost: x\r\nIf-None-Match: %s\r\n\r\n" % snippet.TAG.encode()
            )
            assert (await client.answer())[0] == 304
        await client.send(b"POST /pugd.js HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        status, headers, _ = await client.answer()
        assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
