"""The way in: a wake-up's requests and datagrams become rows in the journal, all of them at once.

In this order, and without an await, so that it is one atomic step: room in the journal, or nothing is taken; dialect
and enrichment, event by event, of datagrams by datagrams.py; then actors, duplicates, links and one record, by
recorder.py. A refused append therefore leaves no trace in the set or the graph. An ack waits for its record to be
flushed; that of a duplicate too, since its original lies before it.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct

from pugd import errors
from pugd.datagrams import Datagrams
from pugd.dialects import segment
from pugd.dialects.dialect import Asked, Dialect, Reply
from pugd.dialects.known import PLAIN_FORMS, address_of_all, as_plain, name_of, shape_of
from pugd.dialects.message import made_bytes, read, without_reused
from pugd.dialects.plain import MIXED, NOWHERE, Course, Plain, Together
from pugd.dialects.plain import TOGETHER_BYTES_MAX as TOGETHER_EACH_BYTES_MAX
from pugd.dialects.slices import Shape
from pugd.enrich import agent, clock
from pugd.enrich.cookieless import Salts, Visitor
from pugd.enrich.event import enriched
from pugd.enrich.place import PLACE_BYTES_MAX, REMOTE, Places, Whence
from pugd.identity import rules
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph
from pugd.journal.writer import Writer
from pugd.model import KEYS, Ack, Batch, Keys, Refusal, WriteKey
from pugd.recorder import Recorder
from pugd.refusals import Refusals

TOGETHER_BYTES_MAX = 128 * 1024
"""Bodies of a wake-up are taken together up to this; a larger one is taken alone. What is made of them is many times as
large and must stay in a core's cache: batches of 100 taken 64 at a time cost a fifth more an event than three at a
time, while beyond a few hundred events a call into C is no cheaper."""

AT_ONCE_BYTES_MAX = 256 * 1024
"""A larger body is left for later, to be taken in pieces, unless its events are plain: so nobody waits for it long."""
AT_ONCE_COMMAS_MAX = 5_000
"""So is one with more commas than that: it may be of tiny events. A batch of a hundred usual ones has half as many."""
COUNTED_BYTES_MIN = 16 * 1024
"""Smaller bodies are not worth counting."""

REUSED_TOLD_EVERY_MS = 60_000
"""How often an event id that was used twice is logged: a broken sender sends many."""


class Kept(Struct, gc=False):
    """What is worked out once of what requests with one head say, dialect and Asked: kept with the head."""

    known: bool = False
    course: Course | None = None
    """As what their bodies may be plain; None: they are not."""


class Arrival(Struct, gc=False):
    """One request for accept: its body, inflated and out of its form, and what its path and headers said."""

    asked: Asked
    body: bytes
    key: WriteKey | None
    """From the headers or the query; None where it must be in the body, until that is read."""
    dialect: Dialect = segment
    piece: int | None = None
    """Of a body that is taken in pieces (large.py): which event of it this one's first is."""
    before: WriteKey | None = None
    """With which key the first of its pieces was let in; the others are, too."""
    path: str = ""
    """Of the request, for the operator."""
    address: str = ""
    """Whom it is from (edge/forwarded.py), where places are told or cookieless visitors counted; nothing keeps it."""
    kept: Kept | None = None
    """Of its dialect and `asked`, where they are its head's own."""


class AcceptStatistics(Struct, frozen=True):
    """Since the process began."""

    requests: int
    events: int
    duplicates: int
    links: int
    merges: int
    traits: int
    datagrams: int
    datagrams_refused: int
    """Lines of datagrams, where a datagram holds several."""
    unavailable: int
    refused: dict[str, int]
    """By code."""
    links_refused: dict[str, int]
    """By code."""


log = logging.getLogger(__name__)

FAULT = Refusal(
    errors.INTERNAL, "Reading this request failed by a fault of pugd's own, which its log tells: please report it."
)
OTHER_KEY = Refusal(
    errors.INVALID_KEY, "not the write key of the events before it: send the events of each project by themselves"
)
LATER = Ack(0, [], None, 0)
"""Of a body that is not taken yet, but to be taken in pieces (large.py). This very object."""
NO_ROOM = Refusal(errors.UNAVAILABLE, "The journal is full or its disk nearly so: send it again later.")


class Accept:
    """Takes wake-ups. Not re-entrant; never awaits."""

    def __init__(
        self,
        *,
        graph: Graph,
        recent: RecentIds,
        writer: Writer,
        keys: Keys,
        illegal: rules.IllegalIds,
        ids_max: int,
        mint: Callable[[], str],
        places: Places | None = None,
        salts: Salts | None = None,
    ) -> None:
        self._writer = writer
        self._keys = keys
        self._mint = mint
        self._places = places
        self._salts = salts
        self._requests = self._datagrams_taken = self._unavailable = 0
        self._refused: Counter[str] = Counter()
        self.refusals = Refusals()
        self._datagrams = Datagrams(keys=keys, mint=mint, places=places, codes=self._refused, refusals=self.refusals)
        self._recorder = Recorder(graph=graph, recent=recent, writer=writer, illegal=illegal, ids_max=ids_max)
        self._plain = Plain(enriched, PLAIN_FORMS, placed=places is not None)
        agent.prepare()
        self._reused_told_next = 0
        """When it is time to log another one, ms."""
        self._repeated = 0
        """Bytes that rows repeat of what was sent once: contexts of envelopes."""

    def take(
        self,
        arrivals: Sequence[Arrival],
        lines: bytes,
        datagrams: int,
        received_at: int,
        offsets: Sequence[int] = (),
    ) -> list[Ack]:
        """Take a wake-up.

        `lines`        its datagrams end to end, each ended by a line feed; `datagrams`: how many those are
        `received_at`  ms
        `offsets`      where in `lines` each datagram begins, and where the last one ends; without them none is signed
        returns        an Ack for each arrival, in order; datagrams get none
        raises         JournalError where the disk has failed
        cost           about 4 µs an event in batches of 100
        """
        self._requests += len(arrivals)
        self._datagrams_taken += datagrams
        agent.renew()
        if self._places is not None:
            self._places.turn()
        acks: list[Ack] = []
        begin = size = 0
        for index, arrival in enumerate(arrivals):
            if size and size + len(arrival.body) > TOGETHER_BYTES_MAX:
                acks += self._take(arrivals[begin:index], b"", 0, (), size, received_at)
                begin, size = index, 0
            size += len(arrival.body)
        return acks + self._take(arrivals[begin:], lines, datagrams, offsets, size + len(lines), received_at)

    def _take(
        self,
        arrivals: Sequence[Arrival],
        lines: bytes,
        datagrams: int,
        offsets: Sequence[int],
        size: int,
        received_at: int,
    ) -> list[Ack]:
        """Take a wake-up, or a part of one, of `size` bytes."""
        if not self._writer.room(size):
            return self._no_room(arrivals, datagrams)
        plain = self._plain
        plain.reset()
        batch = Batch()
        self._repeated = 0
        acks: list[Ack] = []
        kept = 0  # acks before this one know their position
        together = self._lay_together(arrivals)
        at = 0
        while at < len(arrivals):
            # Runs of plain bodies and of others take turns, so that all keep the order of their arrival.
            counts, shapes, may_be_plain = plain.add_together(together, at, received_at)
            if counts:
                if batch.length:
                    self._keep(batch, arrivals, acks, kept, size, received_at)
                    kept, batch = len(acks), Batch()
                end = at + len(counts)
                acks += self._took(arrivals[at:end], together.courses[at:end], counts, shapes, received_at)
                at = end
                if at == len(arrivals):
                    break
            arrival = arrivals[at]
            at += 1
            key = arrival.key
            if key is not None and not arrival.piece:
                over = self._keys.admit(key, received_at)
                if over is not None:
                    acks.append(self.refuse(arrival, over, received_at))
                    continue
            taken = self._take_plain(arrival, received_at) if may_be_plain else None
            if taken is not None:
                if batch.length:
                    self._keep(batch, arrivals, acks, kept, size, received_at)
                    kept, batch = len(acks), Batch()
                acks.append(taken)
                continue
            if plain.count:
                self._keep(plain, arrivals, acks, kept, size, received_at)
                kept = len(acks)
            if (
                len(arrival.body) > COUNTED_BYTES_MIN
                and arrival.piece is None
                and (shape := shape_of(arrival.dialect, arrival.body, arrival.asked)) is not None
                and _is_large(arrival.body, shape)
            ):
                acks.append(LATER)
                continue
            acks.append(self._read(arrival, batch, received_at))
        if plain.count:
            self._keep(plain, arrivals, acks, kept, size, received_at)
            kept = len(acks)
        if lines:
            self._repeated += self._datagrams.read(lines, offsets, batch, received_at)
        if batch.length and not self._keep(batch, arrivals, acks, kept, size, received_at):
            self._datagrams.refused += datagrams
        return acks

    def _lay_together(self, arrivals: Sequence[Arrival]) -> Together:
        """Those small bodies of which nothing must be known before the next is read: their key stands in their head,
        and has no limits."""
        together = Together()
        somewhere = self._places is not None
        for arrival in arrivals:
            key, kept = arrival.key, arrival.kept
            if (
                key is not None
                and not key.rate
                and not key.per_day
                and len(arrival.body) <= TOGETHER_EACH_BYTES_MAX
                and arrival.piece is None
                and (course := kept.course if kept is not None and kept.known else self._course(arrival)) is not None
                and course.said is not None
                and (place := self._place(arrival) if somewhere else NOWHERE) is not None
            ):
                together.lay(course, key.project, place, arrival.body)
            else:
                together.leave()
        return together

    def _course(self, arrival: Arrival) -> Course | None:
        """As what its body may be plain; None: it is not."""
        kept = arrival.kept
        if kept is not None and kept.known:
            return kept.course
        asked = arrival.asked
        way = as_plain(arrival.dialect, asked)
        course = None if way is None else self._plain.course(way, asked.user_agent if asked.from_browser else "")
        if kept is not None:
            kept.known, kept.course = True, course
        return course

    def _place(self, arrival: Arrival) -> bytes | None:
        """Where the events of its body are from, if that is plain; None: it is not."""
        places = self._places
        if places is None:
            return NOWHERE
        asked = arrival.asked
        said = address_of_all(arrival.dialect, arrival.body, asked)
        # What is learnt of a browser's contexts is told from that of others by its user agent.
        if said == MIXED or (asked.from_browser and not asked.user_agent):
            return None
        if said == REMOTE or (said is None and asked.from_browser):
            return bytes(places.find(arrival.address))
        return NOWHERE

    def _took(
        self,
        arrivals: Sequence[Arrival],
        courses: Sequence[Course | None],
        counts: Sequence[int],
        shapes: Sequence[int],
        received_at: int,
    ) -> list[Ack]:
        """The acks of requests whose events were added together, which are counted."""
        acks: list[Ack] = []
        counted, events = arrivals[0].key, 0
        for arrival, course, count, shape in zip(arrivals, courses, counts, shapes, strict=True):
            assert course is not None, "as it was laid"
            if arrival.key is not counted:
                self._count(counted, events, received_at)
                counted, events = arrival.key, 0
            events += count
            told = course.way.form.told(shape, count, len(arrival.body), received_at)
            acks.append(Ack(count, [], None, 0, told))
        self._count(counted, events, received_at)
        return acks

    def _count(self, key: WriteKey | None, events: int, received_at: int) -> None:
        assert key is not None, "what was taken was taken for a key"
        self._keys.count(key, events, received_at)

    def _take_plain(self, arrival: Arrival, received_at: int) -> Ack | None:
        """Take a request whose events are all plain; None: it is left for the long way, which also says why not."""
        plain = self._plain
        course = self._course(arrival)
        if course is None:
            return None
        place = self._place(arrival)
        if place is None:
            return None
        way = course.way
        count = plain.add(way, arrival.body, received_at, user_agent=course.user_agent, place=place)
        if not count:
            return None
        key = arrival.key
        if key is None:
            opened = self._open(arrival, plain.key(), received_at)
            if isinstance(opened, Refusal):
                plain.drop(count)
                return None
            key = arrival.key = opened
        plain.own(count, key.project, secret=key.secret)
        self._keys.count(key, count, received_at)
        return Ack(count, [], None, 0, way.form.told(plain.shape(), count, len(arrival.body), received_at))

    def _keep(
        self,
        taken: Batch | Plain,
        arrivals: Sequence[Arrival],
        acks: list[Ack],
        begin: int,
        size: int,
        received_at: int,
    ) -> bool:
        """Keep what was taken of the requests whose acks are acks[begin:], if there is room, and say so in these."""
        room = self._recorder.room(taken, size, self._repeated)
        position = 0
        reused: list[int] = []
        if room:
            recorder = self._recorder
            keep = recorder.keep_batch if isinstance(taken, Batch) else recorder.keep_plain
            position, reused = keep(taken, received_at)  # type: ignore[arg-type]
        reused_ids = [_event_id(taken, number) for number in reused]
        if reused:
            self._tell_reused(reused_ids, received_at)
        if isinstance(taken, Plain):
            taken.reset()
        for index in range(begin, len(acks)):
            ack = acks[index]
            if ack.accepted and room:
                ack.position = position
            elif ack.accepted:
                self._unavailable += 1
                self._count(arrivals[index].key, -ack.accepted, received_at)
                acks[index] = Ack(0, [], NO_ROOM, 0)
        if reused:
            self._refuse_reused(reused, reused_ids, acks, begin)
            for ack, arrival in zip(acks[begin:], arrivals[begin:], strict=False):
                for refusal in ack.refused:
                    if refusal.code == errors.EVENT_ID_REUSED:
                        self._note(arrival, refusal, received_at, arrival.key)
        return room

    def _refuse_reused(self, reused: list[int], event_ids: list[str], acks: list[Ack], begin: int) -> None:
        """Tell senders which of the events, numbered over acks[begin:], came with an id that another event had."""
        first = 0
        for at in range(begin, len(acks)):
            count = acks[at].accepted
            theirs = slice(bisect_left(reused, first), bisect_left(reused, first + count))
            if numbers := [number - first for number in reused[theirs]]:
                acks[at] = without_reused(acks[at], numbers, event_ids[theirs])
            first += count
        self._datagrams.refused += len(reused) - bisect_left(reused, first)

    def _tell_reused(self, event_ids: list[str], received_at: int) -> None:
        """Tell the operator, but not of every one."""
        self._refused[errors.EVENT_ID_REUSED] += len(event_ids)
        if received_at >= self._reused_told_next:
            self._reused_told_next = received_at + REUSED_TOLD_EVERY_MS
            count = self._refused[errors.EVENT_ID_REUSED]
            log.warning(
                "refused an event whose id another one had: %.100r (%s, %d since the start)",
                event_ids[0],
                errors.EVENT_ID_REUSED,
                count,
            )

    def _no_room(self, arrivals: Sequence[Arrival], datagrams: int) -> list[Ack]:
        self._unavailable += len(arrivals)
        self._datagrams.refused += datagrams
        return [Ack(0, [], NO_ROOM, 0) for _ in arrivals]

    def _read(self, arrival: Arrival, batch: Batch, received_at: int) -> Ack:
        """Read one request; a fault of ours in it refuses it, and takes none of its wake-up, nor the process, with it.

        That is safe here and nowhere behind: what is read leaves no trace before all of the wake-up is.
        """
        before = batch.length
        try:
            return self._read_request(arrival, batch, received_at)
        except Exception:
            log.exception("reading a request of %d bytes for %s failed", len(arrival.body), arrival.asked.call)
            batch.cut(before)
            self._refused[errors.INTERNAL] += 1
            return Ack(0, [], FAULT, 0)

    def _read_request(self, arrival: Arrival, batch: Batch, received_at: int) -> Ack:
        decoded = arrival.dialect.decode(arrival.body, arrival.asked)
        if isinstance(decoded, Refusal):
            return self.refuse(arrival, decoded, received_at)
        if isinstance(decoded, Reply):
            return Ack(0, [], None, 0, decoded)
        key = arrival.key
        if key is None:
            found = self._open(arrival, decoded.write_key, received_at)
            if isinstance(found, Refusal):
                ack = self.refuse(arrival, found, received_at)
                ack.of = decoded
                return ack
            key = arrival.key = found
        before = batch.length
        self._repeated += len(bytes(decoded.context)) * len(decoded.messages)
        if arrival.dialect is not segment:
            self._repeated += made_bytes(decoded)
        asked = arrival.asked
        agent_of_browser = asked.user_agent if asked.from_browser else ""
        whence = None
        if self._places is not None:
            whence = Whence(self._places, arrival.address, asked.from_browser, asked.user_agent)
            self._repeated += PLACE_BYTES_MAX * len(decoded.messages)
        visitor = Visitor(self._salts, key.project, arrival.address, asked.user_agent, received_at)
        refused = read(
            decoded, batch, project=key.project, secret=key.secret, received_at=received_at, transport="http",
            clock=clock, mint=self._mint, enrich=enriched, user_agent=agent_of_browser, where=whence, visitor=visitor,
        )  # fmt: skip
        for refusal in refused:
            self._refused[refusal.code] += 1
            self._note(arrival, refusal, received_at, key)
        accepted = batch.length - before
        self._keys.count(key, accepted, received_at)
        failed = refused[0] if refused and not accepted else None
        return Ack(accepted, refused, failed, 0, decoded)

    def _open(self, arrival: Arrival, text: str | None, received_at: int) -> WriteKey | Refusal:
        """Open the key that stands in a body, and let its sender in."""
        if arrival.before is not None and not text:
            return arrival.before
        opened = self._keys.open(text or "", arrival.asked.origin)
        if isinstance(opened, Refusal):
            return opened
        if arrival.before is not None:
            return opened if opened == arrival.before else OTHER_KEY
        return self._keys.admit(opened, received_at) or opened

    def refuse(self, arrival: Arrival, why: Refusal, received_at: int) -> Ack:
        """A request that is refused as a whole."""
        self._refused[why.code] += 1
        self._note(arrival, why, received_at, None if why.code == errors.INVALID_KEY else arrival.key)
        return Ack(0, [], why, 0)

    def _note(self, arrival: Arrival, why: Refusal, received_at: int, key: WriteKey | None) -> None:
        self.refusals.note(
            why, received_at, key=key, dialect=name_of(arrival.dialect), path=arrival.path, body=arrival.body
        )

    def by_hand(self, proposal: rules.Proposal, at: int) -> tuple[rules.Outcome, int]:
        """What the console proposes (recorder.py)."""
        try:
            return self._recorder.by_hand(proposal, at)
        except errors.JournalFullError:
            self._unavailable += 1
            raise

    def statistics(self) -> AcceptStatistics:
        recorded = self._recorder.statistics()
        return AcceptStatistics(
            self._requests, recorded.events, recorded.duplicates, recorded.links, recorded.merges, recorded.traits,
            self._datagrams_taken, self._datagrams.refused, self._unavailable, dict(self._refused),
            recorded.links_refused,
        )  # fmt: skip


def _is_large(body: bytes, shape: Shape) -> bool:
    """Is it to be taken in pieces? cost  a look at 16 bytes or so a nanosecond"""
    return len(body) > AT_ONCE_BYTES_MAX or body.count(shape.mark) > AT_ONCE_COMMAS_MAX


def _event_id(taken: Batch | Plain, index: int) -> str:
    return taken.event_id(index) if isinstance(taken, Plain) else str(taken.event_keys[KEYS * index + 1])
