"""Clients, and the network between them and the collector.

A client sends what it has to say until it is acked: again after silence, after an error, after a 503; sometimes once
more after an ack, as clients do whose own disk was slow to note it. Now and then it gives an event's id to another one,
which is to be refused. A request may be lost, come twice, or come late; an answer may be lost. `Edge` stands where
edge/http.py does: it hands over what is there, a wake-up at once, and sends the answers that waited for a flush.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

import trio

from pugd.edge.head import Head, parse

KEY = "wk_simulated"
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000


def now_ms() -> int:
    return START_MS + int(trio.current_time() * 1000)


class Request:
    """As edge/connection.py has it: answered once."""

    def __init__(self, path: str, body: bytes, reply: Callable[[bytes | None], None]) -> None:
        head = parse(f"POST {path}?writeKey={KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert isinstance(head, Head)
        self.head = head
        self.body = body
        self.reply = reply
        self.peer = "203.0.113.9"
        self.position = -1
        self.held = b""

    def answer(self, response: bytes) -> None:
        self.reply(response)

    def answer_when_flushed(self, position: int, response: bytes) -> None:
        self.position, self.held = position, response


class Network:
    """Between clients and whichever collector lives."""

    def __init__(self, draw: Random, nursery: trio.Nursery) -> None:
        self.draw = draw
        self.nursery = nursery
        self.edge: Edge | None = None
        self.calm = False

    async def ask(self, path: str, body: bytes, timeout: float) -> bytes | None:
        """Send a request. returns what came back; None: nothing did."""
        got: list[bytes | None] = []
        done = trio.Event()

        def reply(response: bytes | None) -> None:
            if self.calm or self.draw.random() > 0.05:
                got.append(response)
                done.set()

        async def travel() -> None:
            await trio.sleep(self.draw.choice((0.0, 0.001, 0.01, 0.5)))
            if self.edge is not None:
                self.edge.arrive(Request(path, body, reply))
            else:
                reply(None)

        times = 1 if self.calm else self.draw.choices((0, 1, 2), (5, 90, 5))[0]
        for _ in range(times):
            self.nursery.start_soon(travel)
        with trio.move_on_after(timeout):
            await done.wait()
        return got[0] if got else None


class Edge:
    """Stands for edge/http.py's."""

    network: Network
    twin: Any
    """Of the flush thread, whose eventfd this waits for."""

    def __init__(self, *, take_flushed: Callable[[], int], handle: Callable[..., None], **_: Any) -> None:
        self._take_flushed, self._handle = take_flushed, handle
        self._waiting: list[Request] = []
        self._held: list[Request] = []
        self._wake = trio.Event()
        self._twin = self.twin

    def arrive(self, request: Request) -> None:
        self._waiting.append(request)
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        network = self.network
        network.edge = self
        task_status.started()
        try:
            while True:
                await self._wait()
                taken, self._waiting = self._waiting, []
                if taken:
                    self._handle(taken, None, now_ms())
                    self._held += [request for request in taken if request.position >= 0]
                flushed = self._take_flushed()
                for request in self._held:
                    if request.position <= flushed:
                        request.reply(request.held)
                self._held = [request for request in self._held if request.position > flushed]
        finally:
            if network.edge is self:
                network.edge = None
            # Whoever still waits sees the connection close.
            for request in [*self._held, *self._waiting]:
                request.reply(None)

    async def _wait(self) -> None:
        async with trio.open_nursery() as nursery:

            async def either(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(either, self._wake)
            nursery.start_soon(either, self._twin.flushed_event)
        self._wake = self._wake if not self._wake.is_set() else trio.Event()
        if self._twin.flushed_event.is_set():
            self._twin.flushed_event = trio.Event()

    def take_datagrams(self) -> None:
        """There are none: clients of this world speak HTTP."""

    def send_answers(self) -> None:
        """An answer here travels as soon as it is given."""

    def stop_accepting(self) -> None:
        """Never asked to."""

    async def wait_drained(self, deadline: float) -> None:
        """Never asked to."""

    def statistics(self) -> None:
        """Nobody asks."""


class Client:
    """Someone with something to say; `acked` and `sent` are the checker's."""

    def __init__(self, number: int, network: Network, draw: Random, requests: int, poison: bool) -> None:
        self.number, self.network, self.draw = number, network, draw
        self.requests = requests
        self.poison = poison
        self.sent: dict[str, dict[str, Any]] = {}
        self.acked: set[str] = set()
        self.linked: dict[str, tuple[str, str]] = {}
        """Identify and alias calls that were acked, by their event ids: the pair that each names."""
        self.reused: list[str] = []
        """Ids of acked events given to another one, which was refused as it should be."""
        self.reused_taken: list[str] = []
        """… which was taken."""
        self.faults: list[str] = []
        self.finished = False

    async def run(self) -> None:
        draw = self.draw
        done: list[tuple[str, bytes, list[str]]] = []
        for turn in range(self.requests):
            path, body, ids, pair = self._say(turn)
            data = json.dumps(body).encode()
            await self._until_acked(path, data)
            self.acked.update(ids)
            if pair:
                self.linked[body["messageId"]] = pair
            done.append((path, data, ids))
            if draw.random() < 0.15:
                again = draw.choice(done)
                await self.network.ask(again[0], again[1], 1.0)
            if ids and draw.random() < 0.2:
                await self._reuse(draw.choice(ids))
            await trio.sleep(draw.choice((0.0, 0.01, 0.3, 3.0)))
        self.finished = True

    async def _reuse(self, event_id: str) -> None:
        """Send another event with the id of one that was acked."""
        event = self.sent[event_id]
        if "poison" not in event["properties"]:
            another = event | {"event": "another", "properties": {"reused": 1}}
            answer = await self.network.ask("/v1/track", json.dumps(another).encode(), 1.0)
            status = answer[9:12] if answer is not None else b""
            if status == b"200":
                self.reused_taken.append(event_id)
            elif answer is not None and b"event_id_reused" in answer:
                self.reused.append(event_id)
            elif status not in (b"", b"503"):
                self.faults.append(f"another event under {event_id}: {answer!r}")

    async def _until_acked(self, path: str, data: bytes) -> None:
        pause = 0.05
        while True:
            answer = await self.network.ask(path, data, 2.0)
            if answer is not None:
                status = answer[9:12]
                if status == b"200":
                    if b'{"success":true}' not in answer:
                        self.faults.append(f"{path}: {answer!r}")
                    return
                if status not in (b"503", b"429"):
                    self.faults.append(f"{path}: {answer!r}")
                    return
            await trio.sleep(pause * self.draw.uniform(0.5, 1.0))
            pause = min(2 * pause, 2.0)

    def _say(self, turn: int) -> tuple[str, dict[str, Any], list[str], tuple[str, str] | None]:
        """Path, body, the ids of its events, and the pair of ids that it asks to link."""
        draw = self.draw
        visitor, person = f"a{self.number}-{draw.randrange(4)}", f"u{draw.randrange(5)}"
        kind = draw.random()
        if kind < 0.15:
            body = {"userId": person, "anonymousId": visitor, "messageId": f"i{self.number}-{turn}"}
            if draw.random() < 0.5:
                body["traits"] = {"turn": turn}
            return "/v1/identify", body, [], (visitor, person)
        if kind < 0.2:
            other = f"a{self.number}-{draw.randrange(4)}"
            body = {"userId": other, "previousId": visitor, "messageId": f"l{self.number}-{turn}"}
            return ("/v1/alias", body, [], (visitor, other)) if other != visitor else self._say(turn)
        events = [
            self._event(f"{self.number}-{turn}-{n}", visitor, person) for n in range(draw.choice((1, 1, 2, 5, 12)))
        ]
        for event in events:
            self.sent[event["messageId"]] = event
        ids = [event["messageId"] for event in events]
        if len(events) == 1:
            return "/v1/track", events[0], ids, None
        return "/v1/batch", {"batch": events}, ids, None

    def _event(self, event_id: str, visitor: str, person: str) -> dict[str, Any]:
        draw = self.draw
        event: dict[str, Any] = {"type": "track", "event": f"e{draw.randrange(3)}", "messageId": event_id}
        which = draw.random()
        if which < 0.6:
            event["anonymousId"] = visitor
        elif which < 0.9:
            event["userId"] = person
        else:
            event |= {"anonymousId": visitor, "userId": person}
        event["properties"] = {"id": event_id, "pad": "x" * int(math.exp(draw.uniform(0, 6)))}
        if self.poison and draw.random() < 0.03:
            event["properties"]["poison"] = 1
        if draw.random() < 0.3:
            event["timestamp"] = START_MS - draw.randrange(120) * DAY_MS
        return event
