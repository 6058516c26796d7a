"""What a key may send, over the real edge and into a real journal: from where, how much, and what clients are told."""

from __future__ import annotations

import base64
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from inside import Served, World
from running_edge import Client

from pugd.edge.gate import Gate
from pugd.model import EVENT, WriteKey

SHOP = "https://shop.example"
KEYS = {
    "free": WriteKey(1, secret=False, id=1),
    "shop": WriteKey(1, secret=False, id=2, origins=(SHOP,)),
    "slow": WriteKey(1, secret=False, id=3, rate=10, burst=10),
    "daily": WriteKey(1, secret=False, id=4, per_day=10),
}


class Sender(Served):
    """What a collector serves, and who sends to it."""

    def __init__(self, directory: Path, **more: int) -> None:
        self.gate = Gate(KEYS)
        super().__init__(World(directory, keys=self.gate, **more))

    async def post(
        self, path: str, body: object, key: str = "", origin: str = "", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}"]
        if key:
            lines.append("Authorization: Basic " + base64.b64encode(f"{key}:".encode()).decode())
        if origin:
            lines.append(f"Origin: {origin}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        sock = trio.socket.socket()
        try:
            await sock.connect(self.listener.getsockname())
            client = Client(sock)
            await client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            return await client.answer()
        finally:
            sock.close()

    def datagram(self, *events: object) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.sendto(b"\n".join(json.dumps(one).encode() for one in events), self.datagrams.getsockname())

    def names(self) -> list[str]:
        return [row.event for row in self.world.rows(EVENT)]


@asynccontextmanager
async def sending(**more: int) -> AsyncIterator[Sender]:
    with tempfile.TemporaryDirectory() as made:
        sender = Sender(Path(made), **more)
        async with sender.running():
            with trio.fail_after(60):
                yield sender


def batch(count: int, name: str = "e") -> dict[str, object]:
    return {"batch": [{"type": "track", "event": name, "anonymousId": "a"} for _ in range(count)]}


async def test_pages_of_other_origins_are_refused_so_that_their_library_can_read_it() -> None:
    async with sending() as sender:
        event = {"event": "e", "anonymousId": "a"}
        assert (await sender.post("/v1/track", event, "shop", SHOP))[0] == 200
        assert (await sender.post("/v1/track", event, "shop"))[0] == 200, "no browser"
        for path, body, key in (
            ("/v1/track", event, "shop"),
            ("/v1/track", {**event, "writeKey": "shop"}, ""),
            ("/v1/track?writeKey=shop", event, ""),
        ):
            status, headers, told = await sender.post(path, body, key, "https://evil.example")
            assert status == 403
            said = json.loads(told)
            assert (said["code"], said["field"]) == ("forbidden", "Origin")
            assert "https://evil.example" in said["message"]
            assert headers["access-control-allow-origin"] == "https://evil.example", "else it cannot be read"
        status, headers, told = await sender.post(
            "/e", {"api_key": "shop", "event": "e", "distinct_id": "a"}, origin="https://evil.example"
        )
        assert status == 403
        assert json.loads(told)["code"] == "forbidden"
        assert headers["access-control-allow-origin"] == "https://evil.example"
        status, headers, _ = await sender.post("/v1/track", event, "free", "https://evil.example")
        assert status == 200
        assert len(sender.names()) == 3


async def test_who_sends_too_fast_is_told_when_to_come_again() -> None:
    async with sending() as sender:
        assert (await sender.post("/v1/batch", batch(30), "slow"))[0] == 200, "a batch is taken whole"
        status, headers, told = await sender.post("/v1/batch", batch(1), "slow")
        assert status == 429
        assert json.loads(told)["code"] == "rate_limited"
        assert 2 <= int(headers["retry-after"]) <= 9, "20 are owed at 10 a second"
        # The same key in a body, in another dialect: its clients drop what gets a 4xx.
        status, headers, told = await sender.post("/e", {"api_key": "slow", "event": "e", "distinct_id": "a"})
        assert status == 503
        assert json.loads(told)["code"] == "rate_limited"
        assert int(headers["retry-after"]) >= 2
        assert (await sender.post("/v1/batch", batch(1), "free"))[0] == 200, "others go on"
        assert len(sender.names()) == 31
        statistics = sender.world.accept.statistics()
        assert statistics.refused["rate_limited"] == 2


async def test_pipelined_requests_do_not_slip_by_together() -> None:
    async with sending() as sender:
        body = json.dumps(batch(10)).encode()
        one = b"POST /v1/batch?writeKey=slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        sock = trio.socket.socket()
        await sock.connect(sender.listener.getsockname())
        client = Client(sock)
        await client.send(one * 20)
        statuses = [(await client.answer())[0] for _ in range(20)]
        sock.close()
        assert statuses == [200] + [429] * 19
        assert len(sender.names()) == 10


async def test_a_days_events_are_used_up_and_datagrams_are_events_too() -> None:
    async with sending() as sender:
        sender.datagram(*({"writeKey": "daily", "event": "udp", "anonymousId": "a"} for _ in range(6)))
        while sender.world.accept.statistics().events < 6:
            await trio.sleep(0.01)
        assert (await sender.post("/v1/batch", batch(4), "daily"))[0] == 200
        status, headers, told = await sender.post("/v1/batch", batch(1), "daily")
        assert status == 429
        assert json.loads(told)["code"] == "quota_exceeded"
        assert int(headers["retry-after"]) >= 2
        sender.datagram(*({"writeKey": "daily", "event": "over", "anonymousId": "a"} for _ in range(5)))
        while sender.world.accept.statistics().datagrams < 2:
            await trio.sleep(0.01)
        assert sender.world.accept.statistics().datagrams_refused == 5
        assert sender.names() == ["udp"] * 6 + ["e"] * 4


async def test_what_finds_no_room_uses_up_no_quota() -> None:
    async with sending(bytes_max=1 << 21) as sender:
        big = {"batch": [{"type": "track", "event": "e", "anonymousId": "a", "properties": {"x": "y" * 400_000}}] * 2}
        statuses = [(await sender.post("/v1/batch", big, "daily"))[0] for _ in range(6)]
        assert 503 in statuses
        assert sender.gate.usage()[4].today == 2 * statuses.count(200) < 10


async def test_a_revoked_key_opens_nothing_the_moment_the_gate_knows() -> None:
    async with sending() as sender:
        sock = trio.socket.socket()
        await sock.connect(sender.listener.getsockname())
        client = Client(sock)
        body = json.dumps(batch(1)).encode()
        one = b"POST /v1/batch?writeKey=free HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for _ in range(3):
            await client.send(one)
            assert (await client.answer())[0] == 200
        sender.gate.replace({"slow": KEYS["slow"]})
        await client.send(one)
        assert (await client.answer())[0] == 401
        sock.close()
