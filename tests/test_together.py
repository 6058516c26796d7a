"""Small bodies of a wake-up are read in one call (dialects/plain.py), as if each were read by itself; and what is
worked out once of what a head says holds for that head alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
from inside import NOW, ROWS, Served, World, track

from pugd import accept
from pugd.accept import Arrival, Kept
from pugd.dialects import amplitude, mixpanel, posthog, segment
from pugd.dialects.dialect import Asked, Dialect
from pugd.edge.gate import Gate
from pugd.journal.reader import Reader
from pugd.model import EVENT, LINK, MERGE, TRAIT, EventRow, WriteKey

KEYS = {
    "k": WriteKey(1, secret=False, id=1),
    "other": WriteKey(2, secret=False, id=2),
    "slow": WriteKey(1, secret=False, id=3, rate=2, burst=3),
    "few": WriteKey(3, secret=False, id=4, per_day=5),
}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Safari/604.1"


def _heads() -> list[tuple[Dialect, Asked, Kept]]:
    found: list[tuple[Dialect, Asked]] = []
    for agent, is_browser in ((AGENT, True), (PHONE, True), (AGENT, False), ("", True)):
        about: dict[str, Any] = {"user_agent": agent, "from_browser": is_browser}
        found += [(segment, Asked("track", **about)), (segment, Asked("batch", **about))]
        found += [(segment, Asked("identify", **about)), (mixpanel, Asked("track", **about))]
        found += [(posthog, Asked("capture", **about)), (posthog, Asked("capture", b"_=%d" % (NOW - 10**6), **about))]
        found += [(amplitude, Asked("events", **about))]
    return [(*one, Kept()) for one in found]


def _body(choose: random.Random, dialect: Dialect, asked: Asked, number: int) -> Any:
    """Mostly plain; some have a context not met before, ask for a link, change traits, are wrong, large, or twice."""
    event_id, who = f"m{choose.choice([number, number, number // 2])}", choose.choice("abc")
    more: dict[str, Any] = {"a": 1} if choose.random() < 0.8 else {"$set": {"plan": number}}
    if choose.random() < 0.05:
        more["text"] = "x" * 6000
    if dialect is segment:
        said = track(event_id, userId=who, anonymousId=choose.choice("xyz")) | {"properties": more}
        said["context"] = {"locale": choose.choice(["en", "de", f"{number}"])}
        if choose.random() < 0.1:
            said["event"] = choose.choice([5, "", "e" * 600])
        return said if asked.call != "batch" else {"batch": [said, said | {"messageId": event_id + "b"}]}
    if dialect is posthog:
        return {"event": "e", "uuid": event_id, "properties": {"distinct_id": who, "$lib": "web", "token": "k", **more}}
    if dialect is mixpanel:
        return [
            {"event": "e", "properties": {"$insert_id": event_id, "$user_id": who, "time": NOW, "token": "k", **more}}
        ]
    return {"api_key": "k", "events": [{"event_type": "e", "insert_id": event_id, "user_id": who, "time": NOW}]}


def _wake_up(choose: random.Random, begin: int, heads: list[tuple[Dialect, Asked, Kept]]) -> list[Arrival]:
    arrivals = []
    for number in range(begin, begin + choose.randrange(1, 30)):
        dialect, asked, kept = choose.choice(heads)
        body = json.dumps(_body(choose, dialect, asked, number), separators=(",", ":")).encode()
        if choose.random() < 0.03:
            body = body[:-1]
        key = KEYS[choose.choice(["k"] * 8 + ["other", "slow", "few"])]
        opened = None if choose.random() < 0.05 else key
        arrivals.append(Arrival(asked, body, opened, dialect, kept=choose.choice([kept, kept, None])))
    return arrivals


def test_bodies_read_together_are_taken_as_each_by_itself(tmp_path: Path) -> None:
    seen = []
    for name, bytes_max in (("together", accept.TOGETHER_EACH_BYTES_MAX), ("apart", -1)):
        choose, heads, together = random.Random(27), _heads(), 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accept, "TOGETHER_EACH_BYTES_MAX", bytes_max)
            directory = tmp_path / name
            with World(directory, keys=Gate(KEYS)) as world:
                took = world.accept._took

                def counted(arrivals: Any, *more: Any, took: Any = took) -> Any:
                    nonlocal together
                    together += len(arrivals)
                    return took(arrivals, *more)

                patch.setattr(world.accept, "_took", counted)
                said = []
                for number in range(60):
                    arrivals = _wake_up(choose, 40 * number, heads)
                    acks = world.accept.take(arrivals, b"", 0, NOW + 400 * number)
                    said += [(ack.accepted, ack.refused, ack.failed, ack.position > 0, _told(ack.of)) for ack in acks]
                rows = [world.rows(kind) for kind in (EVENT, TRAIT, LINK, MERGE)]
                numbers = msgspec.structs.asdict(world.accept.statistics())
                seen.append((said, rows, numbers, world.gate.usage()))
        assert (together > 200) == (name == "together")
    for one, other in zip(*seen, strict=True):
        assert one == other
    refused = seen[0][2]["refused"]
    assert refused["rate_limited"] > 3, "limits were met between them"
    assert refused["quota_exceeded"] > 3


def _told(of: object) -> object:
    """What an answer is made of, but for its messages, which the short way does not have."""
    return [getattr(of, name, None) for name in ("single", "words", "received_at", "payload_bytes")]


def _request(path: str, body: bytes, *lines: str) -> bytes:
    head = "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", "", ""))
    return head.encode() + body


async def _send(world: World, *requests: bytes) -> list[bytes]:
    """Over one connection, one after the other."""
    served = Served(world)
    answers = []
    async with served.running():
        stream = trio.socket.socket()
        await stream.connect(served.listener.getsockname())
        with trio.fail_after(20):
            for request in requests:
                await stream.send(request)
                answers.append(await stream.recv(65536))
        stream.close()
    return answers


async def test_what_is_kept_with_a_head_is_of_that_head_alone(tmp_path: Path) -> None:
    world = World(tmp_path, keys=Gate(KEYS))
    browser = "Origin: https://shop.example"
    heads = {
        "chrome": ("/v1/track?writeKey=k", browser, f"User-Agent: {AGENT}"),
        "phone": ("/v1/track?writeKey=k", browser, f"User-Agent: {PHONE}"),
        "server": ("/v1/track?writeKey=k", "A: b", f"User-Agent: {AGENT}"),
        "project": ("/v1/track?writeKey=other", browser, f"User-Agent: {AGENT}"),
        "page": ("/v1/page?writeKey=k", browser, f"User-Agent: {AGENT}"),
    }
    requests = []
    for turn in range(4):  # remembered from the second on
        for name, (path, *lines) in heads.items():
            body = {
                "messageId": f"{name}{turn}",
                "anonymousId": "a",
                "event": "e",
                "name": "e",
                "context": {"locale": "en"},
            }
            requests.append(_request(path, json.dumps(body).encode(), *lines))
    answers = await _send(world, *requests)
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    named = [b"https://shop.example" in answer for answer in answers]
    assert named == [name != "server" for name in heads] * 4, "each answer names its own Origin"
    found = {row.event_id: (row.project, row.call, row.browser, row.device) for row in _rows(tmp_path)}
    wanted = {
        "chrome": (1, "track", "Chrome", "desktop"),
        "phone": (1, "track", "Mobile Safari UI/WKWebView", "mobile"),
        "server": (1, "track", "", ""),
        "project": (2, "track", "Chrome", "desktop"),
        "page": (1, "page", "Chrome", "desktop"),
    }
    assert found == {f"{name}{turn}": said for name, said in wanted.items() for turn in range(4)}


async def test_what_a_form_says_is_not_kept_with_its_head(tmp_path: Path) -> None:
    """The key of an import stands in its form: beside others of the same head, whose events have it."""
    world = World(tmp_path, keys=Gate(KEYS))
    requests = []
    kinds = "bbfbfb"  # b: a body, whose head is known when the first form comes
    for number, kind in enumerate(kinds):
        said = {"token": "k", "distinct_id": "a", "time": NOW // 1000, "$insert_id": f"{number}"}
        body = json.dumps([{"event": "e", "properties": said}], separators=(",", ":"))
        requests.append(_request("/import", (f"data={quote(body)}&api_key=other" if kind == "f" else body).encode()))
    answers = await _send(world, *requests)
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers), answers
    found = {row.event_id: row.project for row in _rows(tmp_path)}
    assert found == {f"{number}": 2 if kind == "f" else 1 for number, kind in enumerate(kinds)}


def _rows(directory: Path) -> list[Any]:
    """Events of a journal that was closed."""
    reader = Reader(directory / "journal", epoch=7)
    end = int.from_bytes((directory / "flushed").read_bytes()[:8], "little")
    rows = [ROWS[int(row[0])](*row) for _, row in reader.rows(0, end)]  # type: ignore[call-overload]
    return [row for row in rows if isinstance(row, EventRow)]
