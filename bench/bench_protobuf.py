"""What an event of Pug's costs to read, from protobuf to a message, by part, beside a bare msgspec decode of the same
events as JSON into Python objects, in one run; and what it costs to finished rows, enriched, on the short way (C) and
on the long one, whose contexts are known. Events as browsers send them: twelve properties of the SDK's, three of the
page's own. `python bench/bench_protobuf.py`"""

from __future__ import annotations

import sys
import time
import uuid
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from dialects import wire  # noqa: E402

from pugd.dialects import protobuf, pug, salvage  # noqa: E402
from pugd.dialects.dialect import Asked  # noqa: E402
from pugd.dialects.message import Decoded, read  # noqa: E402
from pugd.dialects.plain import Plain  # noqa: E402
from pugd.enrich import clock  # noqa: E402
from pugd.enrich.event import enriched  # noqa: E402
from pugd.model import Batch  # noqa: E402

AT = 1_790_000_000
NOW = AT * 1000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
ROUNDS = 7
ASKED = Asked(pug.BATCH, content_type=pug.PROTO)


def events(count: int, pages: int) -> bytes:
    """A BatchCreateRequest; `pages`: how many pages its events are of."""
    made = []
    for number in range(count):
        auto: dict[str, object] = {
            "$url": f"https://shop.example/products/{number % pages}?ref=start", "$referrer": "https://search.example/",
            "$pageTitle": "Wool scarf, grey – Shop", "$platform": "web", "$sdkVersion": "0.0.4", "$locale": "en-GB",
            "$screenWidth": "1920", "$screenHeight": "1080", "$projectId": "p_1", "$browser": "Chromium",
            "$browserVersion": "140", "$os": "Linux",
        }  # fmt: skip
        custom: dict[str, object] = {"price": 49.9, "quantity": number, "label": "Add to cart"}
        made.append(
            wire.event(
                str(uuid.UUID(int=number)), "anon-0192f0c1-2b5e-7c3d-9a41-5b8e7d6c4f21", "product_viewed",
                wire.when(AT, number * 1_000_000 % 10**9), "0192f0c1-2b5e-7c3d-9a41-5b8e7d6c4f22", auto, custom,
            )
        )  # fmt: skip
    return wire.batch(*made)


def cost(work: Callable[[], object], count: int) -> float:
    """Of one event, µs of this thread: the best of some rounds of a tenth of a second."""
    best = 1e9
    for _ in range(ROUNDS):
        begun, done = time.thread_time(), 0
        while time.thread_time() - begun < 0.1:
            work()
            done += count
        best = min(best, (time.thread_time() - begun) / done * 1e6)
    return best


def short(body: bytes, count: int) -> Callable[[], object]:
    """To rows, on the short way."""
    plain = Plain(enriched, pug.FORMS)
    actors = array("Q", range(1, count + 1))
    plain.add(pug.FORMS[0], body, NOW, user_agent=AGENT)  # which learns some of many contexts

    def turn() -> bytes:
        plain.reset()
        assert plain.add(pug.FORMS[0], body, NOW, user_agent=AGENT) == count, "it is plain"
        plain.own(count, 1)
        return plain.rows(actors, [], [])

    return turn


def long(body: bytes) -> Callable[[], object]:
    """To rows, on the long way."""
    pack = msgspec.msgpack.Encoder().encode

    def turn() -> bytes:
        batch, decoded = Batch(), pug.decode(body, ASKED)
        assert isinstance(decoded, Decoded)
        refused = read(
            decoded, batch, project=1, secret=False, received_at=NOW, transport="http", clock=clock,
            mint=lambda: "x", enrich=enriched, user_agent=AGENT,
        )  # fmt: skip
        assert not refused
        return pack(batch.parts)

    return turn


def main() -> None:
    print(
        "                                  to rows:                         to messages:\n"
        "events pages   bytes  msgspec   short  ratio    long  ratio   decode  ratio   of that: C  stored?  structs   "
        "µs an event"
    )
    for count, pages in ((1, 1), (10, 1), (100, 10), (1000, 1000)):
        body = events(count, pages)
        text = protobuf.events(body)
        assert isinstance(text, bytes)
        bare = cost(lambda text=text: msgspec.json.decode(text), count)
        rows = (cost(short(body, count), count), cost(long(body), count))
        whole = cost(lambda body=body: pug.decode(body, ASKED), count)
        parts = (
            cost(lambda body=body: protobuf.events(body), count),
            cost(lambda text=text: salvage.checked(text), count),
            cost(lambda text=text: pug._events.decode(text), count),
        )
        print(
            f"{count:6} {pages:5} {len(body) / count:7.0f} {bare:8.2f} "
            + "".join(f"{one:7.2f} {one / bare:6.2f} " for one in (*rows, whole))
            + "  "
            + " ".join(f"{part:9.2f}" for part in parts)
        )


if __name__ == "__main__":
    main()
