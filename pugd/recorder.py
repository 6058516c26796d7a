"""The last steps of the way in: what a wake-up brought becomes rows, and these one record of the journal.

Actors, one call into C; duplicates, one call into C; proposals of links, one by one, because each outcome decides the
next, but only for the few events that say something new; then the record. Whoever calls has asked for room before
(accept.py), so that a refused append leaves no trace in the set or the graph.

What the console proposes by hand (merge, unlink) goes the same way, one at a time.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, cast

import msgspec
from msgspec import Struct

from pugd import errors
from pugd.dialects.plain import Plain
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
    Batch,
    Call,
    LinkRow,
    MergeRow,
    TraitRow,
    event_head,
)

RECORD_BYTES_MAX = 32 * 1024 * 1024
"""Rows beyond this go into records of their own, well under what the journal takes."""

ROW_BYTES = 192
"""What a row may take beyond its sender's own bytes; for the reservation of room only."""

CONSOLE = "console"
"""The transport of what was proposed by hand."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple).decode


class RecorderStatistics(Struct, frozen=True):
    """Since the process began."""

    events: int
    duplicates: int
    links: int
    merges: int
    traits: int
    links_refused: dict[str, int]
    """By code."""


class Recorder:
    """Appends to the journal. Not re-entrant; never awaits."""

    def __init__(
        self, *, graph: Graph, recent: RecentIds, writer: Writer, illegal: rules.IllegalIds, ids_max: int
    ) -> None:
        self._graph = graph
        self._recent = recent
        self._writer = writer
        self._illegal = illegal
        self._ids_max = ids_max
        self._events = self._duplicates = self._links = self._merges = self._traits = 0
        self._links_refused: Counter[str] = Counter()

    def room(self, taken: Batch | Plain, size: int, repeated: int) -> bool:
        """Does the journal have room for all rows of what was taken of `size` bytes?

        `repeated`  bytes that rows of a batch repeat of what was sent once: contexts of envelopes
        """
        if isinstance(taken, Batch):
            # A row repeats at most what its context says, in columns of its own; each trait's row its call's ids.
            count, repeated = taken.length, repeated + sum(map(_repeats, taken.calls.values()))
        else:
            count, repeated = taken.count, taken.most() + sum(map(_repeats, taken.calls.values()))
        return self._writer.room(2 * (size + repeated) + count * ROW_BYTES)

    def keep_batch(self, batch: Batch, received_at: int) -> tuple[int, list[int]]:
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

    def keep_plain(self, plain: Plain, received_at: int) -> tuple[int, list[int]]:
        """The same for plain events. What they ask, and what their ids prove, stands before all of them."""
        count = plain.count
        actors, look = self._graph.resolve_many(plain.ids(), count)
        met = self._recent.add_many(plain.event_keys(), actors, received_at)
        count -= len(met.duplicates) + len(plain.no_events.difference(met.duplicates))
        self._events += count
        self._duplicates += len(met.duplicates) - len(met.reused)
        before: list[object] = []
        if look or plain.calls:
            old = set(met.old)
            for index, call in plain.asking(look, met.duplicates):
                self._link(call, before, index in old)
                self._change_traits(call, actors[index], OLD_TRAIT if index in old else TRAIT, before)
        rows = plain.rows(actors, met.duplicates, met.old)
        if before:
            rows = b"".join([*map(_pack, before), rows])
        count += len(before)
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

    def statistics(self) -> RecorderStatistics:
        return RecorderStatistics(
            self._events, self._duplicates, self._links, self._merges, self._traits, dict(self._links_refused)
        )


def _link_row(kind: int, link: rules.Logged, call: Call) -> LinkRow:
    return LinkRow(
        kind, call.project, link.order, link.a, link.b, link.a_id, link.b_id, link.call, link.refused, int(call.secret),
        rules.RULES_VERSION, call.occurred_at, call.received_at, call.original_at, call.time_note, call.event_id,
        call.transport, call.platform,
    )  # fmt: skip


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
