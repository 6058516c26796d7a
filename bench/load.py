"""Load that costs less than the server it drives: wrk for HTTP, a small C sender for UDP.

Everything is prepared beforehand: thousands of realistic requests lie ready as bytes, and while the load runs only the
unique part of each id is written into them (12 hex digits: 4 of the run, 8 of a counter). So every event is distinct,
a twentieth of them comes from an anonymous id never seen before, and the rest from users and devices that follow a
Zipf law. The template file that both senders read, little-endian u32 throughout:

    count, then for each template: length, how many ids, the offset of each id, the bytes

An acked event is one in a request that was answered 200 within the run; the requests under way when it ends (one a
connection at most) may be taken by the server without being counted here.

    python bench/load.py single|batch|udp --to HOST:PORT --key KEY [--seconds 5] [--events-per-batch 100] [--rate N]
"""

from __future__ import annotations

import argparse
import base64
import bisect
import itertools
import json
import os
import random
import secrets
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

here = Path(__file__).resolve().parent
build = here / "build"

marks = itertools.count(secrets.randbelow(1 << 16))
"""Each run's own four digits: runs of one process never send the same id."""

PATH = {"single": "/v1/track", "batch": "/v1/batch"}
ID = "0" * 12
"""Where a sender writes: run and counter."""

USERS = 100_000
USERS_SKEW = 1.1
"""Zipf exponent: the busiest users send most events, as in real traffic."""
IDENTIFIED = 0.6
"""Share of events that carry a user id; the rest are anonymous."""
FRESH = 0.05
"""Share of events from an anonymous id never seen before."""

NAMES = ("page_view", "scroll", "add_to_cart", "search", "checkout_started", "app_open", "app_close", "order_completed")
PLANS = ("free", "team", "business")
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


class Traffic:
    """Seeded source of events of about 476 bytes each."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        weights = itertools.accumulate(1 / (rank**USERS_SKEW) for rank in range(1, USERS + 1))
        self.cumulative = list(weights)
        self.began = datetime.now(UTC)
        self.now = said(self.began)

    def user(self) -> int:
        """A rank, from 1: an id of 12 zeros would be taken for a place to write."""
        return 1 + bisect.bisect(self.cumulative, self.random.random() * self.cumulative[-1])

    def event(self, index: int = 0) -> dict[str, object]:
        """One Segment track message; `index` tells events of one batch apart."""
        choose = self.random.random
        user = self.user()
        name = self.random.choice(NAMES)
        event: dict[str, object] = {
            "type": "track",
            "messageId": f"{ID}-{index:04d}",
            "timestamp": said(self.began - timedelta(milliseconds=self.random.randrange(10_000))),
            "event": name,
        }
        if choose() < FRESH:
            event["anonymousId"] = f"{ID}-anon-{index:04d}"
        elif choose() < IDENTIFIED:
            event["userId"] = f"user_{user}"
            event["anonymousId"] = f"8f14e45f-ceea-467f-a8f7-{user:012d}"
        else:
            event["anonymousId"] = f"c9f0f895-fb98-4b91-90f1-{user:012d}"
        product = f"prod-{self.random.randrange(2000):04d}"
        event["properties"] = {
            "product_id": product,
            "price": self.random.randrange(100, 100_000) / 100,
            "currency": "USD",
            "depth": self.random.randrange(101),
            "plan": self.random.choice(PLANS),
        }
        event["context"] = {
            "page": {"path": f"/p/{product}", "url": f"https://shop.example/p/{product}"},
            "userAgent": AGENT,
        }
        return event


def said(when: datetime) -> str:
    """A time as client libraries write it."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def template(data: bytes) -> bytes:
    """`data` in the shape of the template file, with the offset of every id in it."""
    offsets = []
    at = data.find(ID.encode())
    while at >= 0:
        offsets.append(at)
        at = data.find(ID.encode(), at + len(ID))
    return struct.pack(f"<II{len(offsets)}I", len(data), len(offsets), *offsets) + data


def request(path: str, body: bytes, host: str, key: str) -> bytes:
    authorization = base64.b64encode(f"{key}:".encode()).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load\r\nAuthorization: Basic {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def write_templates(file: Path, kind: str, host: str, key: str, batch: int = 100, seed: int = 1) -> float:
    """Fill `file` for a run of `kind`; returns the mean bytes of an event."""
    traffic = Traffic(seed)
    parts, size, events = [], 0, 0
    if kind == "batch":
        for _ in range(200):
            messages = [traffic.event(index) for index in range(batch)]
            body = compact({"batch": messages, "sentAt": traffic.now})
            parts.append(template(request(PATH[kind], body, host, key)))
            size, events = size + len(body), events + batch
    else:
        for _ in range(20_000):
            message = traffic.event()
            if kind == "udp":
                body = compact({**message, "writeKey": key})
                parts.append(template(body))
            else:
                body = compact({**message, "sentAt": traffic.now})
                parts.append(template(request(PATH[kind], body, host, key)))
            size, events = size + len(body), events + 1
    file.write_bytes(struct.pack("<I", len(parts)) + b"".join(parts))
    return size / events


@dataclass(frozen=True)
class Result:
    """What one run sent and what came back."""

    kind: str
    seconds: float
    requests: int
    """HTTP: answered; UDP: datagrams sent."""
    acked: int
    """Events in requests answered 200 (UDP: events sent)."""
    refused: int
    """Requests answered with another status."""
    errors: int
    """Connect, read, write errors and timeouts."""
    latency_ms: dict[str, float]

    @property
    def rate(self) -> float:
        return self.acked / self.seconds


def build_sender() -> Path:
    """The UDP sender, compiled when its source is newer."""
    source, program = here / "udp_send.c", build / "udp_send"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        build.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program


def pinned(core: int | None) -> list[str]:
    return [] if core is None else ["taskset", "-c", str(core)]


def run(
    kind: str,
    host: str,
    port: int,
    templates: Path,
    *,
    seconds: float,
    batch: int = 100,
    connections: int = 64,
    core: int | None = None,
    rate: int = 0,
    queue: int = 131_072,
) -> Result:
    """Drive `host:port` for `seconds` from one thread; every event of every run is distinct.

    `rate`: datagrams a second; 0 = as many as keep `queue` bytes waiting at a receiver on this machine.
    """
    mark = f"{next(marks) & 0xFFFF:04x}"
    if kind == "udp":
        command = [str(build_sender()), host, str(port), str(templates), mark, str(seconds), str(rate), str(queue)]
        answer = subprocess.run([*pinned(core), *command], capture_output=True, text=True, check=True)
        said = json.loads(answer.stdout)
        return Result(kind, said["seconds"], said["sent"], said["sent"], 0, said["errors"], {})
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"),
        *("--timeout", "10s", "--script", str(here / "load.lua"), f"http://{host}:{port}{PATH[kind]}", "--"),
        *(str(templates), mark),
    ]
    answer = subprocess.run([*pinned(core), *command], capture_output=True, text=True, check=False)
    line = next((line for line in answer.stdout.splitlines() if line.startswith("{")), None)
    if line is None:
        raise SystemExit(f"wrk gave no result (exit {answer.returncode}):\n{answer.stdout}{answer.stderr}")
    said = json.loads(line)
    good = said["requests"] - said["status"]
    return Result(
        kind,
        said["duration_us"] / 1e6,
        said["requests"],
        good * (batch if kind == "batch" else 1),
        said["status"],
        said["connect"] + said["read"] + said["write"] + said["timeout"],
        {name: said[name] / 1000 for name in ("p50", "p99", "max")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["single", "batch", "udp"])
    parser.add_argument("--to", default="127.0.0.1:7080")
    parser.add_argument("--key", default=os.environ.get("PUGD_WRITE_KEY", ""))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--events-per-batch", type=int, default=100)
    parser.add_argument("--rate", type=int, default=0, help="UDP: datagrams a second; 0 = as the receiver takes them")
    parser.add_argument("--core", type=int, help="pin the load to this core")
    given = parser.parse_args()
    host, port = given.to.rsplit(":", 1)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "templates")
        size = write_templates(file, given.kind, given.to, given.key, given.events_per_batch)
        result = run(
            given.kind,
            host,
            int(port),
            file,
            seconds=given.seconds,
            batch=given.events_per_batch,
            connections=given.connections,
            core=given.core,
            rate=given.rate,
        )
    print(
        f"{result.kind}: {result.acked:,} events of {size:.0f} bytes in {result.seconds:.2f} s = {result.rate:,.0f}/s"
    )
    print(f"{result.requests:,} requests, {result.refused} not 200, {result.errors} errors; ms {result.latency_ms}")


if __name__ == "__main__":
    main()
