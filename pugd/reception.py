"""Between the edge and accept.py: routes, keys and bodies on the way in, answers on the way out.

What a head says is worked out once and kept with it, since clients send the same head again and again. Answers are
made by the dialect that the path, and where several share a path the body, speaks: errors too, also those that the edge
finds by itself, because a client that cannot read an error takes it for a broken network, or loses what it should send
again.
"""

from __future__ import annotations

import re
import time
from typing import Final

import msgspec
from msgspec import Struct

from pugd import errors
from pugd.accept import LATER, TOGETHER_BYTES_MAX, Accept, Arrival, Kept
from pugd.dialects.dialect import Asked, Dialect, Reply
from pugd.dialects.known import DIALECTS, chosen
from pugd.edge import form, gate, routes, snippet
from pugd.edge.connection import Request
from pugd.edge.forwarded import Clients
from pugd.edge.head import Head
from pugd.edge.health import JOURNAL_FULL, Health
from pugd.edge.inflate import inflate
from pugd.edge.response import Refused, response, retry_after_s
from pugd.edge.udp import Datagrams
from pugd.errors import status_of
from pugd.large import Large
from pugd.model import Ack, Refusal, WriteKey

EARLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bodies that wait for the collector while it recovers."""
OPENED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of bodies inflated in one wake-up; who comes after that waits for the next."""
WAITING_MAX: Final = 256
"""How many may wait for that; more are told to come again."""
HEALTH: Final = ("live", "ready")

_FORWARDED_HOST: Final = re.compile(rb"[0-9A-Za-z.\-]{1,253}(?::[0-9]{1,5})?")
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5")
"""How gzip and Zstandard begin."""


class _Note(Struct, gc=False):
    """What was worked out of a request's head."""

    generation: int
    """Of the gate's keys."""
    answer: bytes | None = None
    """The answer, where the head alone decides it."""
    health: str = ""
    """'live' | 'ready' | ''."""
    route: routes.Route | None = None
    dialect: Dialect = DIALECTS["segment"]
    asked: Asked = Asked("")
    key: WriteKey | None = None
    refused: Refusal | None = None
    """Why its key is."""
    success: bytes | None = None
    """What is answered where all was taken, if that is always the same."""
    kept: Kept | None = None
    """What accept.py keeps of `dialect` and `asked`."""


class Reception:
    """Takes wake-ups of the edge.

    Until it is opened, while the collector recovers, it tells its health and lets all else wait; what would be too
    much, or has waited too long, is told to come again.

    clients  tells whom requests are from, where anybody wants to know
    """

    def __init__(self, doors: gate.Gate, health: Health, body_bytes_max: int, clients: Clients | None = None) -> None:
        self._accept: Accept | None = None
        self._gate = doors
        self._health = health
        self._clients = clients
        self._body_bytes_max = body_bytes_max
        self._early: list[Request] = []
        self._early_bytes_left = EARLY_BYTES_MAX
        self._waiting: list[Request] = []
        self._large: Large[Request] | None = None

    @property
    def pending(self) -> bool:
        """Is there more to do, whether anything comes or not? `handle` then wants to be called again."""
        return bool(self._waiting or self._large)

    def open(self, accept: Accept) -> None:
        """From now on events go to `accept`, those first that came early. raises JournalError"""
        self._accept = accept
        self._large = Large(accept)
        early, self._early = self._early, []
        self.handle(early, None, time.time_ns() // 1_000_000)

    def lose_patience(self) -> None:
        """Tell who waits, and who comes before it is opened, to come again."""
        early, self._early, self._early_bytes_left = self._early, [], 0
        for request in early:
            request.answer(_come_again(request.head))

    def _hold(self, requests: list[Request]) -> None:
        for request in requests:
            found = routes.find(request.head)
            if isinstance(found, routes.Found) and found.route.handler in HEALTH:
                request.answer(self._healthy(found.route.handler))
            elif isinstance(found, routes.Found) and found.route.handler == snippet.NAME:
                request.answer(snippet.answer(request.head))
            elif len(request.body) < self._early_bytes_left:
                self._early_bytes_left -= len(request.body)
                self._early.append(request)
            else:
                request.answer(_come_again(request.head))

    def _healthy(self, asked: str) -> bytes:
        return response(*(self._health.live() if asked == "live" else self._health.readiness()))

    def handle(self, requests: list[Request], datagrams: Datagrams | None, received_at: int) -> None:
        """Take a wake-up. raises JournalError where the disk has failed"""
        if self._accept is None:
            self._hold(requests)
            return
        if self._large:
            self._take_piece()
        arrivals: list[Arrival] = []
        senders: list[Request] = []
        opened_bytes = opened_bytes_all = 0
        generation, clients = self._gate.generation, self._clients
        if self._waiting:
            requests, self._waiting = self._waiting + requests, []
        for request in requests:
            head = request.head
            note = head.note
            if type(note) is not _Note or note.generation != generation:
                note = head.note = self._judge(head)
            if note.answer is not None:
                if note.refused is not None:
                    self._note(note, note.refused, head, received_at)
                request.answer(note.answer)
                continue
            if note.health:
                request.answer(self._healthy(note.health))
                continue
            body, asked, dialect = request.body, note.asked, note.dialect
            if body[:1] != b"{" or head.content_encoding is not None:
                if opened_bytes_all > OPENED_BYTES_MAX:
                    self._wait(request)
                    continue
                found = self._opened(body, head, asked)
                if isinstance(found, Refused):
                    # What it cost is not known: as much as may be.
                    opened_bytes_all += self._body_bytes_max if head.content_encoding is not None else len(body)
                    self._note(note, found.refusal, head, received_at)
                    request.answer(refuse(found, head))
                    continue
                if found[0] is not body:
                    opened_bytes += len(found[0])
                    opened_bytes_all += len(found[0])
                body, asked = found
            assert note.route is not None
            if note.route.others:
                dialect = chosen(note.route.handler, note.route.others, body, asked)
            address = "" if clients is None else clients.of(request.peer, head.forwarded_for, head.forwarded)
            kept = note.kept if asked is note.asked and dialect is note.dialect else None
            arrival = Arrival(asked, body, note.key, dialect, None, None, head.path, address, kept)
            arrivals.append(arrival)
            senders.append(request)
            if opened_bytes > TOGETHER_BYTES_MAX:
                # A wake-up's bodies are bounded as they came, not as they inflate: the rest waits until these are gone.
                self._take(arrivals, senders, None, received_at)
                arrivals, senders, opened_bytes = [], [], 0
        if arrivals or datagrams is not None:
            self._take(arrivals, senders, datagrams, received_at)

    def _note(self, note: _Note, why: Refusal, head: Head, received_at: int) -> None:
        """For the operator: what was refused before it was read."""
        assert self._accept is not None
        dialect = note.route.handler if note.route is not None else ""
        self._accept.refusals.note(why, received_at, key=note.key, dialect=dialect, path=head.path)

    def _wait(self, request: Request) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(request)
        else:
            request.answer(refuse(TOO_MUCH, request.head))

    def _take_piece(self) -> None:
        """The next piece of a large body, and its answer if that was its last."""
        assert self._large is not None
        done = self._large.step()
        if done is not None:
            request, arrival, ack = done
            self._answer(request, arrival, ack)

    def _opened(self, body: bytes, head: Head, asked: Asked) -> tuple[bytes, Asked] | Refused:
        """A body inflated and out of its form; the very same object where it is neither."""
        if head.content_encoding is not None or body[:2] in _COMPRESSED:
            inflated = inflate(body, head.content_encoding, self._body_bytes_max)
            if isinstance(inflated, Refused):
                return inflated
            body = inflated
        if form.is_form(body):
            data, fields = form.opened(body)
        elif not body and b"data=" in asked.query:
            data, fields = form.opened(asked.query)
        else:
            return body, asked
        if data[:2] in _COMPRESSED:
            inflated = inflate(data, None, self._body_bytes_max)
            if isinstance(inflated, Refused):
                return inflated
            data = inflated
        return data, msgspec.structs.replace(asked, form=fields)

    def _take(
        self, arrivals: list[Arrival], senders: list[Request], datagrams: Datagrams | None, received_at: int
    ) -> None:
        assert self._accept is not None
        if datagrams is None:
            acks = self._accept.take(arrivals, b"", 0, received_at)
        else:
            acks = self._accept.take(arrivals, datagrams.data, len(datagrams), received_at, datagrams.offsets)
        for request, arrival, ack in zip(senders, arrivals, acks, strict=True):
            note = request.head.note
            if (
                ack.position
                and ack.failed is None
                and not ack.refused
                and type(note) is _Note
                and note.success is not None
                and note.dialect is arrival.dialect
                and type(ack.of) is not Reply
            ):
                request.answer_when_flushed(ack.position, note.success)  # the usual end
                continue
            if ack is LATER:
                assert self._large is not None
                if not self._large.add(request, arrival, received_at):
                    request.answer(refuse(TOO_MUCH, request.head))
                continue
            self._answer(request, arrival, ack)

    def _answer(self, request: Request, arrival: Arrival, ack: Ack) -> None:
        if ack.failed is not None:
            if ack.failed.code == errors.UNAVAILABLE:
                self._health.say(JOURNAL_FULL, "the journal is full or its disk nearly so")
            failure = arrival.dialect.failure(status_of(ack.failed.code), ack, arrival.asked)
            request.answer(_made(failure, retry_s=ack.failed.retry_s))
            return
        of = ack.of
        answer = _made(of if type(of) is Reply else arrival.dialect.success(ack, arrival.asked))
        if ack.position:
            request.answer_when_flushed(ack.position, answer)
        else:
            request.answer(answer)

    def _judge(self, head: Head) -> _Note:
        """What a head says: where it goes and who sends it."""
        generation = self._gate.generation
        found = routes.find(head)
        if isinstance(found, bytes):
            return _Note(generation, found)
        if isinstance(found, Refused):
            return _Note(generation, refuse(found, head))
        route = found.route
        if route.handler in HEALTH:
            return _Note(generation, health=route.handler)
        if route.handler == snippet.NAME:
            return _Note(generation, snippet.answer(head))
        dialect = DIALECTS[route.handler]
        asked = _asked(head, found)
        if route.asks:
            told = dialect.decode(b"", asked)
            assert isinstance(told, Reply), f"{head.path} asks, so the dialect answers"
            return _Note(generation, _made(told))
        key = self._gate.key_of(head.authorization, head.query, route.ways, head.api_key, head.origin)
        if isinstance(key, Refusal):
            failed = dialect.failure(status_of(key.code), Ack(0, [], key, 0), asked)
            return _Note(generation, _made(failed), route=route, refused=key)
        constant = dialect.constant(asked)
        success = _made(constant) if constant is not None else None
        return _Note(generation, None, "", route, dialect, asked, key, None, success, Kept())


TOO_MUCH: Final = Refused(503, Refusal(errors.UNAVAILABLE, "too much is being received at once; try again later"))


def refuse(why: Refused, head: Head | None) -> bytes:
    """The answer to a request that goes no further, in the words of the dialect that its path speaks."""
    found = routes.look_up(head.path) if head is not None else None
    if head is None or found is None or found.route.handler not in DIALECTS:
        return why.response()
    ack = Ack(0, [], why.refusal, 0)
    return _made(DIALECTS[found.route.handler].failure(why.status, ack, _asked(head, found)), why.headers)


def _asked(head: Head, found: routes.Found) -> Asked:
    return Asked(
        found.route.call,
        head.query,
        found.part,
        _base(head),
        head.content_type,
        head.user_agent,
        head.sec_fetch or head.origin is not None,
        head.origin,
        head.more,
    )


def _base(head: Head) -> str:
    """Where its sender found us: a proxy on the way tells by X-Forwarded-…, the first of several the farthest."""
    scheme = (head.forwarded_proto or b"http").partition(b",")[0].strip().lower()
    forwarded = (head.forwarded_host or b"").partition(b",")[0].strip()
    host = forwarded.decode() if _FORWARDED_HOST.fullmatch(forwarded) else head.host
    return f"{'https' if scheme == b'https' else 'http'}://{host}"


def _come_again(head: Head) -> bytes:
    words = Refusal(errors.UNAVAILABLE, "pugd is starting: send it again in a moment.")
    return refuse(Refused(503, words), head)


def _made(answer: Reply, headers: tuple[tuple[str, str], ...] = (), retry_s: int = 0) -> bytes:
    """An answer as bytes; 429 and 503 say when to come back, in `retry_s` seconds at the soonest."""
    lines = (*answer.headers, *headers)
    if answer.status in (429, 503) and not any(name == "Retry-After" for name, _ in lines):
        lines = (*lines, ("Retry-After", str(retry_s + retry_after_s())))
    return response(answer.status, answer.body, content_type=answer.content_type, headers=lines)
