"""Hostile requests (hostile.py) to the real edge, reception and accept over a real journal: no exception, no 500, an
answer in the words of the path's dialect, memory that stays, and rows that ClickHouse's blocks can be made of.

    PYTHONPATH=.:tests python tests/dialects/fuzz.py --cases 20000 [--seed 1] [--first 0]

A failure names its number: `--first N --cases 1` sends that request alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import mmdb
import trio
from dialects.hostile import BODY_BYTES_MAX, KEY, SIGNING_KEY, SIGNING_SECRET, Case, case, datagram
from inside import Served, World
from running_edge import Client

from pugd.columns import block as columns
from pugd.drain import STEPS
from pugd.edge import routes
from pugd.edge.forwarded import Clients
from pugd.edge.gate import Gate
from pugd.enrich.place import Places
from pugd.journal.reader import Reader
from pugd.model import LINK, TRAIT, WriteKey

ANSWER_S = 20
DATAGRAM_BYTES_MAX = 65_507
WARM = 0.2
"""The part of a run after which memory should not grow much any more."""
GROWN_BYTES_MAX = 64 << 20


class Report:
    """What a run found."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.by_dialect: Counter[str] = Counter()
        self.taken = self.rows = 0
        self.grown_bytes = 0
        self.slowest: tuple[float, int] = (0.0, -1)
        self.wrong: list[str] = []

    def __str__(self) -> str:
        return (
            f"{self.statuses.total():,} requests, statuses {dict(sorted(self.statuses.items()))}; taken by "
            f"{dict(self.by_dialect)}; {self.rows:,} rows; memory grew by {self.grown_bytes >> 20} MiB; "
            f"slowest {self.slowest[0] * 1000:.0f} ms (case {self.slowest[1]}); wrong: {len(self.wrong)}"
        )


def wrong_answer(one: Case, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer; None where it is one that the dialect's clients can read."""
    if status >= 500:
        return f"a {status}"
    found = routes.look_up(one.path)
    if found is None or one.method == "OPTIONS" or found.route.handler == "snippet":
        return None if status in (200, 204, 304, 400, 404, 405, 413, 414, 431) else f"a {status}"
    name, call = found.route.handler, found.route.call
    if headers.get("content-type", "").startswith("text/plain") and body in (b"0", b"1"):
        return None if "mixpanel" in (name, *found.route.others) else "Mixpanel's words for another"
    if call == "config.js" and status == 200:
        return None if body.startswith(b"(function(){") and b"</script" not in body else "no script"
    if headers.get("content-type") == "application/proto" and status == 200:
        return None if name == "pug" else "protobuf for another"
    try:
        told = json.loads(body)
    except ValueError:
        return f"no JSON: {body[:200]!r}"
    if not isinstance(told, dict):
        return f"no object: {body[:200]!r}"
    # Who shares a path may have been meant.
    names = {name, *found.route.others}
    shapes = [_SHAPES[one] for one in names]
    return None if any(shape(told, status, call) for shape in shapes) else f"not as {names} says it: {body[:300]!r}"


def _segment(told: dict[str, Any], status: int, call: str) -> bool:
    if status != 200:
        return isinstance(told.get("code"), str) and isinstance(told.get("message"), str)
    return told.get("success") is True or call in ("settings", "source")


def _posthog(told: dict[str, Any], status: int, call: str) -> bool:
    if status != 200:
        return all(isinstance(told.get(word), str) for word in ("type", "code", "detail"))
    if call == "v1":
        return isinstance(told.get("results"), dict)
    return told.get("status") == 1 or call != "capture"


def _mixpanel(told: dict[str, Any], status: int, call: str) -> bool:
    if "code" in told and isinstance(told["code"], int):
        return told["code"] == status and isinstance(told["status"], str)
    return told.get("status") == (1 if status == 200 else 0) and "error" in told


def _amplitude(told: dict[str, Any], status: int, call: str) -> bool:
    if status == 200:
        return told.get("code") == 200 and "events_ingested" in told
    return isinstance(told.get("code"), int) and told["code"] >= 400 and isinstance(told.get("error"), str)


def _pug(told: dict[str, Any], status: int, call: str) -> bool:
    if status != 200:
        return isinstance(told.get("code"), str) and isinstance(told.get("message"), str)
    return "accepted" in told or told == {}


_SHAPES = {"segment": _segment, "posthog": _posthog, "mixpanel": _mixpanel, "amplitude": _amplitude, "pug": _pug}


class Collector(Served):
    """What a collector serves: places are told, and one of two keys signs."""

    def __init__(self, directory: Path) -> None:
        (directory / "places.mmdb").write_bytes(mmdb.written(mmdb.CITY))
        places = Places(str(directory / "places.mmdb"))
        places.renew()
        signs = WriteKey(2, secret=False, id=2, signing=SIGNING_SECRET)
        gate = Gate({KEY: WriteKey(1, secret=False, id=1), SIGNING_KEY: signs})
        super().__init__(World(directory, places=places, keys=gate), BODY_BYTES_MAX, Clients(("127.0.0.0/8",)))

    def rows(self) -> int:
        """How many rows were taken; every one of them can be stored."""
        writer = self.world.writer
        end, at, rows = writer.position, self.world.begin, 0
        deadline = time.monotonic() + 30
        while writer.flushed < end:
            assert time.monotonic() < deadline, "the journal does not come to rest"
            time.sleep(0.001)
        reader = Reader(self.world.directory / "journal", epoch=7)
        while at < end:
            span = reader.read(at, end, 1 << 20)
            assert span is not None, f"the journal has a gap at {at}"
            built = columns.build([span], STEPS, collector="test", epoch=7)
            assert not built.faults, built.faults[:3]
            rows += sum(block.rows for block in built.blocks)
            at = span.end
        return rows


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    with tempfile.TemporaryDirectory() as made:
        one = Collector(Path(made))
        async with one.running():
            yield one


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def run(cases: int, seed: int = 1, first: int = 0) -> Report:
    """Send them one after the other. raises whatever the collector raises, and AssertionError of rows that cannot be
    stored; what was answered wrongly is in the report"""
    report = Report()
    warm = 0
    async with collector() as one:
        client: Client | None = None
        for number in range(first, first + cases):
            if number == first + int(cases * WARM):
                warm = resident()
            said = case(seed, number)
            begun = time.perf_counter()
            answered = None
            with trio.move_on_after(ANSWER_S):
                if client is None:
                    sock = trio.socket.socket()
                    await sock.connect(one.listener.getsockname())
                    client = Client(sock)
                await client.send(said.bytes())
                answered = await client.answer()
            assert answered is not None, f"case {number} has no answer: {said.bytes()[:300]!r}"
            status, headers, body = answered
            report.slowest = max(report.slowest, (time.perf_counter() - begun, number))
            report.statuses[status] += 1
            found = routes.look_up(said.path)
            if status == 200 and found is not None and not found.route.asks:
                report.by_dialect[found.route.handler] += 1
            wrong = wrong_answer(said, status, headers, body)
            if wrong is not None:
                report.wrong.append(f"case {number}: {said.method} {said.path}?{said.query[:100]}: {wrong}")
            if client is not None and headers.get("connection", "").lower() == "close":
                client.sock.close()
                client = None
        if client is not None:
            client.sock.close()
        report.grown_bytes = max(0, resident() - warm)
        report.rows = one.rows()
    return report


class Heard(NamedTuple):
    """What datagrams did."""

    about_people: int
    """Rows of links and traits of the key that signs, after those that were none of its owner's."""
    about_people_signed: int
    """The same after those that were."""
    rows: int
    refused: dict[str, int]


async def datagrams(cases: int, seed: int = 1) -> Heard:
    """Send as many that are wrongly signed or not at all, then as many that are signed, a few in each wake-up. raises
    AssertionError where the collector does not take them, or takes what cannot be stored"""
    about_people: list[int] = []
    async with collector() as one:
        accept, sent = one.world.accept, 0
        for genuine in (False, True):
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                for number in range(cases):
                    said = datagram(seed, number, time.time_ns() // 1_000_000, genuine=genuine)[:DATAGRAM_BYTES_MAX]
                    sender.sendto(said, one.datagrams.getsockname())
                    sent += bool(said)
                    if number % 7 == 0 or number == cases - 1:
                        with trio.fail_after(ANSWER_S):
                            while accept.statistics().datagrams < sent:
                                await trio.sleep(0)
            rows = one.rows()
            told = one.world.rows(LINK) + one.world.rows(TRAIT)
            about_people.append(sum(row.project == 2 for row in told))
        return Heard(*about_people, rows, accept.statistics().refused)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    said = parser.parse_args()
    report = trio.run(run, said.cases, said.seed, said.first)
    print(report)
    print("\n".join(report.wrong[:40]))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
