"""The way in: a wake-up's requests and datagrams become rows in the journal, all of them at once.

In this order, and without an await, so that it is one atomic step: room in the journal, or nothing is taken; dialect
and enrichment, event by event; actors, one call into C; duplicates, one call into C; proposals of links, one by one,
because each outcome decides the next, but only for the few events that say something new; then one record. A refused
append therefore leaves no trace in the set or the graph. An ack waits for its record to be flushed; that of a duplicate
too, since its original lies before it.

What the console proposes by hand (merge, unlink) goes the same way, one at a time.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import msgspec
from msgspec import Struct

from pugd import errors
from pugd.dialects import datagram, segment, signature
from pugd.dialects.dialect import Asked, Dialect, Reply
from pugd.dialects.known import PLAIN_FORMS, address_of_all, as_plain, name_of, shape_of
from pugd.dialects.message import Decoded, made_bytes, read, without_reused
from pugd.dialects.plain import MIXED, NOWHERE, Plain
from pugd.dialects.slices import Shape
from pugd.enrich import agent, clock
from pugd.enrich.cookieless import Salts, Visitor
from pugd.enrich.event import enriched
from pugd.enrich.place import PLACE_BYTES_MAX, REMOTE, Places, Whence
from pugd.identity import rules
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph
from pugd.journal.writer import Writer
from pugd.model import (
    KEYS,
    LINK,
    MERGE,
    OLD_EVENT,
    OLD_LINK,
    OLD_TRAIT,
    PARTS,
    TRAIT,
    Ack,
    Batch,
    Call,
    LinkRow,
    MergeRow,
    Refusal,
    TraitRow,
    WriteKey,
    event_head,
)
from pugd.refusals import Refusals

TOGETHER_BYTES_MAX = 128 * 1024
"""Bodies of a wake-up are taken together up to this; a larger one is taken alone. What is made of them is many times as
large and must stay in a core's cache: batches of 100 taken 64 at a time cost a fifth more an event than three at a
time, while beyond a few hundred events a call into C is no cheaper."""

RECORD_BYTES_MAX = 32 * 1024 * 1024
"""Rows beyond this go into records of their own, well under what the journal takes."""

AT_ONCE_BYTES_MAX = 256 * 1024
"""A larger body is left for later, to be taken in pieces, unless its events are plain: so nobody waits for it long."""
AT_ONCE_COMMAS_MAX = 5_000
"""So is one with more commas than that: it may be of tiny events. A batch of a hundred usual ones has half as many."""
COUNTED_BYTES_MIN = 16 * 1024
"""Smaller bodies are not worth counting."""

REUSED_TOLD_EVERY_MS = 60_000
"""How often an event id that was used twice is logged: a broken sender sends many."""

ROW_BYTES = 192
"""What a row may take beyond its sender's own bytes; for the reservation of room only."""


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


class Keys(Protocol):
    """Who sends, and how much (edge/gate.py)."""

    @property
    def signs(self) -> bool: ...

    def open(self, key: str, origin: bytes | None = None) -> WriteKey | Refusal: ...

    def admit(self, key: WriteKey, now: int) -> Refusal | None: ...

    def count(self, key: WriteKey, events: int, now: int) -> None: ...


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

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple).decode

FAULT = Refusal(
    errors.INTERNAL, "Reading this request failed by a fault of pugd's own, which its log tells: please report it."
)
OTHER_KEY = Refusal(
    errors.INVALID_KEY, "not the write key of the events before it: send the events of each project by themselves"
)
LATER = Ack(0, [], None, 0)
"""Of a body that is not taken yet, but to be taken in pieces (large.py). This very object."""
NO_ROOM = Refusal(errors.UNAVAILABLE, "The journal is full or its disk nearly so: send it again later.")

CONSOLE = "console"
"""The transport of what was proposed by hand."""


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
        self._graph = graph
        self._recent = recent
        self._writer = writer
        self._keys = keys
        self._illegal = illegal
        self._ids_max = ids_max
        self._mint = mint
        self._places = places
        self._salts = salts
        self._requests = self._events = self._duplicates = self._links = self._merges = self._traits = 0
        self._datagrams = self._datagrams_refused = self._unavailable = 0
        self.refusals = Refusals()
        self._plain = Plain(enriched, PLAIN_FORMS, placed=places is not None)
        agent.prepare()
        self._reused_told_next = 0
        """When it is time to log another one, ms."""
        self._repeated = 0
        """Bytes that rows repeat of what was sent once: contexts of envelopes."""
        self._refused: Counter[str] = Counter()
        self._links_refused: Counter[str] = Counter()

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
        self._datagrams += datagrams
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
        for arrival in arrivals:
            # Runs of plain bodies and of others take turns, so that all keep the order of their arrival.
            key = arrival.key
            if key is not None and not arrival.piece:
                over = self._keys.admit(key, received_at)
                if over is not None:
                    acks.append(self.refuse(arrival, over, received_at))
                    continue
            taken = self._take_plain(arrival, received_at)
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
            self._read_datagrams(lines, offsets, batch, received_at)
        if batch.length and not self._keep(batch, arrivals, acks, kept, size, received_at):
            self._datagrams_refused += datagrams
        return acks

    def _take_plain(self, arrival: Arrival, received_at: int) -> Ack | None:
        """Take a request whose events are all plain; None: it is left for the long way, which also says why not."""
        asked, plain = arrival.asked, self._plain
        found = as_plain(arrival.dialect, asked, received_at)
        if found is None:
            return None
        form, call = found
        user_agent = asked.user_agent if asked.from_browser else ""
        place = NOWHERE
        if self._places is not None:
            said = address_of_all(arrival.dialect, arrival.body, asked)
            # What is learnt of a browser's contexts is told from that of others by its user agent.
            if said == MIXED or (asked.from_browser and not user_agent):
                return None
            if said == REMOTE or (said is None and asked.from_browser):
                place = bytes(self._places.find(arrival.address))
        count = plain.add(form, arrival.body, received_at, call=call, user_agent=user_agent, place=place)
        if not count:
            return None
        key = arrival.key
        if key is None:
            opened = self._open(arrival, plain.key(), received_at)
            if isinstance(opened, Refusal):
                plain.drop(count)
                return None
            key = arrival.key = opened
        plain.own(count, key.project)
        self._keys.count(key, count, received_at)
        return Ack(count, [], None, 0, form.told(plain.shape(), count, len(arrival.body), received_at))

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
        if isinstance(taken, Batch):
            # A row repeats at most what its context says, in columns of its own; each trait's row its call's ids.
            count, repeated = taken.length, self._repeated + sum(map(_repeats, taken.calls.values()))
        else:
            count, repeated = taken.count, taken.most()
        room = self._writer.room(2 * (size + repeated) + count * ROW_BYTES)
        position = 0
        reused: list[int] = []
        if room:
            keep = self._keep_batch if isinstance(taken, Batch) else self._keep_plain
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
                key = arrivals[index].key
                assert key is not None, "what was taken was taken for a key"
                self._keys.count(key, -ack.accepted, received_at)
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
        self._datagrams_refused += len(reused) - bisect_left(reused, first)

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
        self._datagrams_refused += datagrams
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
        visitor = Visitor(self._salts, key.project, arrival.address, asked.user_agent, received_at)
        refused = self._read_messages(
            decoded, batch, key, "http", received_at, agent_of_browser, whence=whence, visitor=visitor
        )
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

    def _read_messages(
        self,
        decoded: Decoded,
        batch: Batch,
        key: WriteKey,
        transport: str,
        received_at: int,
        user_agent: str = "",
        unsigned: bool = False,
        whence: Whence | None = None,
        visitor: Visitor | None = None,
    ) -> list[Refusal]:
        if whence is not None:
            self._repeated += PLACE_BYTES_MAX * len(decoded.messages)
        return read(
            decoded,
            batch,
            project=key.project,
            secret=key.secret,
            received_at=received_at,
            transport=transport,
            clock=clock,
            mint=self._mint,
            enrich=enriched,
            user_agent=user_agent,
            unsigned=unsigned,
            where=whence,
            visitor=visitor,
        )

    def _read_datagrams(self, lines: bytes, offsets: Sequence[int], batch: Batch, received_at: int) -> None:
        parts = signature.parts(lines, offsets) if self._keys.signs else [signature.Part(lines)]
        at = 0
        while at < len(parts):
            signed_by, proven, end = self._signed_run(parts, at, received_at)
            before = batch.length
            try:
                if signed_by is None:
                    self._read_lines(datagram.decode(parts[at].lines), batch, received_at)
                elif proven:
                    self._read_lines(datagram.decode_signed(proven), batch, received_at, signed_by)
            except Exception:
                log.exception("reading %d bytes of datagrams failed", sum(len(part.lines) for part in parts[at:end]))
                batch.cut(before)
                self._datagrams_refused += end - at
                self._refused[errors.INTERNAL] += end - at
            at = end

    def _signed_run(
        self, parts: Sequence[signature.Part], begin: int, received_at: int
    ) -> tuple[str | None, list[tuple[bytes, str]], int]:
        """Of the parts from `begin` on, those that are signed datagrams of one key that signs, to be read together.

        returns  that write key; what was signed, and the signature, of those that are proven; where another part
                 begins. None, nothing and the next part where the first is none
        """
        first = parts[begin].signed
        key = self._keys.open(first.write_key) if first is not None else None
        if first is None or not isinstance(key, WriteKey) or not key.signing:
            return None, [], begin + 1
        proven: list[tuple[bytes, str]] = []
        end = begin
        while end < len(parts) and (signed := parts[end].signed) is not None and signed.write_key == first.write_key:
            proof = signature.proven(signed, key.signing, received_at)
            if isinstance(proof, Refusal):
                self._datagrams_refused += 1
                self._note_datagram(proof, key, received_at)
            else:
                proven.append((signed.lines, proof))
            end += 1
        return first.write_key, proven, end

    def _read_lines(
        self, found: list[Decoded | Refusal], batch: Batch, received_at: int, signed_by: str | None = None
    ) -> None:
        """Read what was decoded of lines. `signed_by`: the write key whose events among them are signed"""
        for decoded in found:
            if isinstance(decoded, Refusal):
                refused, key, lost = [decoded], None, 1
            else:
                lost = len(decoded.messages)
                before = batch.length
                refused, key = self._read_run(decoded, batch, received_at, signed_by)
                lost -= batch.length - before
            self._datagrams_refused += lost
            for refusal in refused:
                self._note_datagram(refusal, key, received_at)

    def _read_run(
        self, decoded: Decoded, batch: Batch, received_at: int, signed_by: str | None
    ) -> tuple[list[Refusal], WriteKey | None]:
        key = self._keys.open(decoded.write_key or "")
        if isinstance(key, Refusal):
            return [key] * len(decoded.messages), None
        over = self._keys.admit(key, received_at)
        if over is not None:
            return [over] * len(decoded.messages), key
        before = batch.length
        unsigned = bool(key.signing) and decoded.write_key != signed_by
        # Where a datagram comes from can be forged.
        whence = Whence(self._places) if self._places is not None else None
        refused = self._read_messages(decoded, batch, key, "udp", received_at, unsigned=unsigned, whence=whence)
        self._keys.count(key, batch.length - before, received_at)
        return refused, key

    def _note_datagram(self, why: Refusal, key: WriteKey | None, received_at: int) -> None:
        self._refused[why.code] += 1
        self.refusals.note(why, received_at, key=key, dialect="datagram", transport="udp")

    def _keep_batch(self, batch: Batch, received_at: int) -> tuple[int, list[int]]:
        """Actors, duplicates, links, journal.

        returns  the position that makes it durable; which calls are refused, since their event ids were used before
        """
        count = batch.length
        actors, look = self._graph.resolve_many(_pack(batch.ids), count)
        met = self._recent.add_many(_pack(batch.event_keys), actors, received_at)
        parts = batch.parts
        known = set(met.duplicates)
        no_events = sum(parts[PARTS * index] is None and index not in known for index in batch.calls)
        self._events += count - len(known) - no_events
        self._duplicates += len(known) - len(met.reused)
        parts[1::PARTS] = actors
        for index in met.old:
            if parts[PARTS * index] is not None:
                parts[PARTS * index] = event_head(cast(int, batch.event_keys[KEYS * index]), OLD_EVENT)
        if known or look or batch.calls:
            parts, count = self._rows(batch, actors, set(look), known, set(met.old))
        return self._append(parts, count), met.reused

    def _keep_plain(self, plain: Plain, received_at: int) -> tuple[int, list[int]]:
        """The same for plain events. What their ids prove stands before all of them."""
        count = plain.count
        actors, look = self._graph.resolve_many(plain.ids(), count)
        met = self._recent.add_many(plain.event_keys(), actors, received_at)
        self._events += count - len(met.duplicates)
        self._duplicates += len(met.duplicates) - len(met.reused)
        links: list[object] = []
        if look:
            for index in sorted(set(look).difference(met.duplicates)):
                self._link(plain.evidence(index), links)
        rows = plain.rows(actors, met.duplicates, met.old)
        if links:
            rows = b"".join([*map(_pack, links), rows])
        count += len(links) - len(met.duplicates)
        return self._writer.append(rows, count) if count else self._writer.position, met.reused

    def _rows(
        self, batch: Batch, actors: array[int], look: set[int], duplicates: set[int], old: set[int]
    ) -> tuple[list[object], int]:
        """The rows of a wake-up that holds more than new events of known people: their parts, and how many rows."""
        out: list[object] = []
        count = 0
        for index, actor in enumerate(actors):
            if index in duplicates:
                continue
            event = batch.parts[PARTS * index : PARTS * (index + 1)]
            call = batch.calls.get(index)
            before = len(out)
            if call is not None:
                self._link(call, out, index in old)
                self._change_traits(call, actor, OLD_TRAIT if index in old else TRAIT, out)
            elif index in look and index not in batch.silent:
                self._link(_evidence(event, batch.ids[3 * index]), out)
            count += len(out) - before
            if event[0] is not None:
                out += event
                count += 1
        return out, count

    def _link(self, call: Call, out: list[object], old: bool = False) -> None:
        """Let the rules judge what a call says of its ids; add what came of it to `out`."""
        if call.call == "identify" or (call.user_id and call.anonymous_id):
            proposal = rules.Proposal(
                call.project, call.call, call.anonymous_id, call.user_id, call.secret, call.is_user
            )
        elif call.user_id:
            proposal = rules.Proposal(call.project, "user", call.user_id, "", call.secret)
        else:
            return
        outcome = rules.propose(self._graph, proposal, self._illegal, self._ids_max)
        self._log(outcome, call, out)
        if outcome.again is not None:
            out.append(_link_row(OLD_LINK if old else LINK, outcome.again, call))

    def by_hand(self, proposal: rules.Proposal, at: int) -> tuple[rules.Outcome, int]:
        """Let the rules judge what the console proposes, `merge` or `unlink`, and append what comes of it.

        `at`     now, ms
        returns  the outcome; the position that makes it durable, and whatever it was judged by
        raises   JournalFullError, nothing changed; JournalError where the disk has failed; MemoryError, and then the
                 graph may only be thrown away
        cost     the ids and the links of the persons: bench/bench_unlink.py
        """
        graph, project = self._graph, proposal.project
        ids = (proposal.a_id, proposal.b_id)
        rows = 1 + sum(graph.size(graph.actor(project, one)) for one in ids if one)
        if not self._writer.room(2 * len("".join(ids).encode()) + rows * ROW_BYTES):
            self._unavailable += 1
            raise errors.JournalFullError(
                f"{proposal.call}: the journal is full or its disk nearly so: ask again later"
            )
        outcome = rules.propose(graph, proposal, self._illegal, self._ids_max)
        out: list[object] = []
        self._log(outcome, Call(proposal.call, project, True, "", "", "", at, at, at, "", CONSOLE, "", []), out)
        return outcome, self._append(out, len(out))

    def _log(self, outcome: rules.Outcome, call: Call, out: list[object]) -> None:
        """Add the rows of an outcome to `out`."""
        for link in outcome.links:
            self._links += 1
            if link.refused:
                self._links_refused[link.refused] += 1
            out.append(_link_row(LINK, link, call))
        for actor, person, version in outcome.merges:
            self._merges += 1
            out.append(MergeRow(MERGE, call.project, actor, person, version))

    def _change_traits(self, call: Call, actor: int, kind: int, out: list[object]) -> None:
        distinct_id = call.user_id or call.anonymous_id
        for key, operation, value in call.traits:
            self._traits += 1
            out.append(
                TraitRow(
                    kind, call.project, actor, call.occurred_at, call.received_at, call.original_at, call.time_note,
                    call.event_id, distinct_id, call.user_id, call.anonymous_id, key, operation, value,
                    call.transport, call.platform,
                )
            )  # fmt: skip

    def _append(self, parts: list[object], count: int) -> int:
        """Write `count` rows, given in parts, as one record."""
        if not parts:
            return self._writer.position
        # Encoded as one array, whose header is cut off: what remains is row after row.
        data = _pack(parts)
        if len(data) > RECORD_BYTES_MAX and count > 1:
            middle = _half(parts)
            self._append(parts[:middle], count // 2)
            return self._append(parts[middle:], count - count // 2)
        head = 1 if len(parts) < 16 else 3 if len(parts) < 65536 else 5
        return self._writer.append(memoryview(data)[head:], count)

    def statistics(self) -> AcceptStatistics:
        return AcceptStatistics(
            self._requests, self._events, self._duplicates, self._links, self._merges, self._traits, self._datagrams,
            self._datagrams_refused, self._unavailable, dict(self._refused), dict(self._links_refused),
        )  # fmt: skip


def _link_row(kind: int, link: rules.Logged, call: Call) -> LinkRow:
    return LinkRow(
        kind, call.project, link.order, link.a, link.b, link.a_id, link.b_id, link.call, link.refused, int(call.secret),
        rules.RULES_VERSION, call.occurred_at, call.received_at, call.original_at, call.time_note, call.event_id,
        call.transport, call.platform,
    )  # fmt: skip


def _is_large(body: bytes, shape: Shape) -> bool:
    """Is it to be taken in pieces? cost  a look at 16 bytes or so a nanosecond"""
    return len(body) > AT_ONCE_BYTES_MAX or body.count(shape.mark) > AT_ONCE_COMMAS_MAX


def _event_id(taken: Batch | Plain, index: int) -> str:
    return taken.event_id(index) if isinstance(taken, Plain) else str(taken.event_keys[KEYS * index + 1])


def _half(parts: list[object]) -> int:
    """Where the second half of the rows begins: an event is PARTS parts, any other row one."""
    begins = []
    at = 0
    while at < len(parts):
        begins.append(at)
        at += PARTS if isinstance(parts[at], msgspec.Raw) else 1
    return begins[len(begins) // 2]


def _repeats(call: Call) -> int:
    """Bytes that the rows of a call have beyond what was sent: one for each of its traits, and up to two of links."""
    ids = len(call.user_id) + len(call.anonymous_id)
    return (len(call.traits) + 2) * (ROW_BYTES + 4 * (2 * ids + len(call.event_id)))


def _evidence(event: list[Any], project: Any) -> Call:
    """What an event's own ids propose: a call like identify, but public, whatever key sent it."""
    _, _, occurred, received, original, note, _, _, event_id, user, anonymous, middle, _, _ = event
    _, transport, platform, *_ = _unpack(b"\x96" + bytes(middle))
    return Call(
        "event", project, False, event_id, user, anonymous, occurred, received, original, note, transport, platform, []
    )
