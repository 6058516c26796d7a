"""How long one request holds the collector's loop at most, whatever its body: tiny events by the hundred thousand, no
events at all, events that each link or change a thousand traits, one event of 8 MiB. Prints the longest step of each
and all of them together. `python bench/bench_hostile.py [part of a name]`"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pugd.accept import LATER, Accept, Arrival  # noqa: E402
from pugd.dialects.dialect import Asked  # noqa: E402
from pugd.dialects.known import DIALECTS  # noqa: E402
from pugd.edge.gate import Gate  # noqa: E402
from pugd.identity import rules  # noqa: E402
from pugd.identity.duplicates import RecentIds  # noqa: E402
from pugd.identity.graph import Graph  # noqa: E402
from pugd.journal.writer import Writer  # noqa: E402
from pugd.large import Large  # noqa: E402
from pugd.model import Ack, WriteKey  # noqa: E402

NOW = 1_790_000_000_000
KEY = WriteKey(1, secret=False)


def many(one: bytes, number: int, before: bytes = b"[", behind: bytes = b"]") -> bytes:
    return before + b",".join([one] * number) + behind


def cases() -> Iterator[tuple[str, str, str, bytes]]:
    tiny = b'{"event":"a","distinct_id":"b"}'
    track = b'{"type":"track","event":"a","userId":"b"}'
    batch = (b'{"batch":[', b"]}")
    yield "400 000 tiny events", "posthog", "capture", many(tiny, 400_000)
    yield "50 000 tiny events", "posthog", "capture", many(tiny, 50_000)
    yield "8 M empty objects", "posthog", "capture", many(b"{}", 8_000_000)
    yield "15 M numbers", "posthog", "capture", many(b"1", 15_000_000)
    yield "50 000 that say nothing", "segment", "batch", many(b"{}", 50_000, *batch)
    yield (
        "700 000 properties of one event",
        "posthog",
        "capture",
        (b'{"event":"a","distinct_id":"b","properties":{' + b",".join(b'"k%d":1' % n for n in range(700_000)) + b"}}"),
    )
    yield (
        "1 MiB of properties to be rewritten",
        "posthog",
        "capture",
        (
            b'{"event":"a","distinct_id":"b","$set":{"ip":1},"properties":{"ip":1,'
            + b",".join(b'"%x":1' % n for n in range(100_000))
            + b"}}"
        ),
    )
    yield (
        "2 M objects with a key twice",
        "posthog",
        "capture",
        (b'{"event":"a","distinct_id":"b","properties":{"x":' + many(b'{"a":1,"a":2}', 2_000_000) + b"}}"),
    )
    yield "50 000 identifies", "posthog", "capture", (
        b"[" + b",".join(
            b'{"event":"$identify","distinct_id":"u%d","properties":{"$anon_distinct_id":"a%d"}}' % (n, n)
            for n in range(50_000)
        ) + b"]"
    )  # fmt: skip
    traits = b",".join(b'"k%d":%d' % (n, n) for n in range(1_000))
    yield (
        "2 M changes of traits",
        "posthog",
        "capture",
        many(b'{"event":"$set","distinct_id":"b","$set":{' + traits + b"}}", 2_000),
    )
    yield "24 000 plain events in 1 MiB", "segment", "batch", many(track, 24_000, *batch)
    yield (
        "50 000 contexts",
        "segment",
        "batch",
        (b'{"batch":[' + b",".join(track[:-1] + b',"context":{"a":%d}}' % n for n in range(50_000)) + b"]}"),
    )


def main() -> None:
    for name, dialect, call, body in cases():
        if not any(part in name for part in sys.argv[1:] or [""]):
            continue
        with tempfile.TemporaryDirectory() as made:
            directory, minted = Path(made), count()
            writer = Writer.open(
                directory / "journal", name="bench", epoch=1, flushed_path=directory / "flushed",
                file_bytes_max=64 << 20, bytes_max=4 << 30, reserve_bytes=0, pending_bytes_max=256 << 20,
            )  # fmt: skip
            accept = Accept(
                graph=Graph(bytes(16)), recent=RecentIds(bytes(16), 86_400_000, 64 << 20), writer=writer,
                keys=Gate({"k": KEY}), illegal=rules.IllegalIds(), ids_max=500, mint=(f"{n}" for n in minted).__next__,
            )  # fmt: skip
            ack, steps = taken(accept, Arrival(Asked(call), body, KEY, DIALECTS[dialect]))
            told = ack.failed.code if ack.failed is not None else f"{ack.accepted} taken"
            print(
                f"{name:32} {len(body) / (1 << 20):5.1f} MiB  longest {max(steps) * 1000:6.1f} ms  "
                f"all {sum(steps):6.3f} s in {len(steps)}  {told}"
            )
            writer.close()


def taken(accept: Accept, arrival: Arrival) -> tuple[Ack, list[float]]:
    begun = time.perf_counter()
    [ack] = accept.take([arrival], b"", 0, NOW)
    steps = [time.perf_counter() - begun]
    if ack is not LATER:
        return ack, steps
    large: Large[None] = Large(accept)
    large.add(None, arrival, NOW)
    while True:
        begun = time.perf_counter()
        done = large.step()
        steps.append(time.perf_counter() - begun)
        if done is not None:
            return done[2], steps


if __name__ == "__main__":
    main()
