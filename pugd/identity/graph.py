"""The identity graph: which actors are one person. The face of native/ids and native/graph, where it is drawn.

It holds user ids and linked ids only; an anonymous visitor who never identifies costs nothing. It applies what
rules.py decides, in link-log order, and judges nothing itself. One thread at a time.

Beside it lies what else the log determines: the next place in it, which pairs were unlinked by hand and must stay
apart, and which refusals it lists of late, so that a proposal repeated for ever is listed once. Refusals are bounded:
beyond REFUSALS_MAX the oldest is forgotten, and would be listed again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import msgspec

from pugd._native import ffi, lib

REFUSALS_MAX = 16_384
"""Refusals remembered as listed: 4 MiB at most."""

MOVED_MAX = 4_096
"""Actors that one link can move: more than the ids that a person may have (config.py, ids_per_person_max)."""

RECORD, EXTRA = 32, 16
"""Bytes of an id and of an extra link in a snapshot: PUGD_GRAPH_RECORD, PUGD_GRAPH_EXTRA."""


PIECE_BYTES = 1 << 20
"""Of a picture of the graph: each takes a moment of the interpreter's lock, and 0.1 ms to fill."""


def checksum(crc: int, data: bytes | memoryview) -> int:
    """CRC-32C of `data`, going on from the `crc` of what came before it; 0 where nothing did."""
    return int(lib.pugd_crc32c(crc, ffi.from_buffer("uint8_t[]", data), len(data)))


class GraphStatistics(msgspec.Struct, frozen=True):
    """How large the graph is, and what it refused since the start."""

    ids: int
    users: int
    joins: int
    """Links that made one person of two: ids less persons."""
    extras: int
    """Links of ids that were one person already."""
    order: int
    bytes: int
    refused: dict[str, int]
    """Code → proposals refused, each repetition counted."""


class Graph:
    """Actors, their persons, and the next place in the link log."""

    def __init__(self, key: bytes) -> None:
        """`key`: the installation's 16 bytes. raises MemoryError."""
        assert len(key) == 16, "the installation key has 16 bytes"
        graph = lib.pugd_graph_new(key)
        if not graph:
            raise MemoryError("identity graph")
        self._graph = ffi.gc(graph, lib.pugd_graph_free)
        self._moved = ffi.new("uint64_t[]", MOVED_MAX)
        self._make_room(256)
        self.key = key
        self.order = 1
        """The next free place in the link log; 0 is none."""
        self.refusals: dict[tuple[int, int, str], None] = {}
        """(lower actor, higher actor, code) of the refusals that the log lists, oldest first."""
        self.cannot: dict[int, set[int]] = {}
        """Actors that must not become one person, each with the others: kept by rules.py."""
        self._refused: dict[str, int] = {}
        self._saving = False

    def _make_room(self, count: int) -> None:
        self._actors = ffi.new("uint64_t[]", count)
        self._look = ffi.new("uint32_t[]", count)

    def actor(self, project: int, distinct_id: str) -> int:
        """SipHash-2-4 of the project and the id, under the installation key."""
        text = distinct_id.encode()
        return int(lib.pugd_graph_actor(self._graph, project, text, len(text)))

    def resolve_many(self, packed: bytes, count: int) -> tuple[array[int], list[int]]:
        """The actors of a wake-up's events, and which of them rules.py must look at.

        packed   MessagePack array of 3 × count values: project, user id, anonymous id, …; '' where there is none
        returns  each event's actor, as array("Q"); the indices of events whose user id is not yet known as one, or
                 whose two ids are not one person
        cost     one call, without the interpreter lock; nothing is linked
        """
        if count > len(self._look):
            self._make_room(2 * count)
        looks = lib.pugd_graph_resolve_many(self._graph, packed, len(packed), count, self._actors, self._look)
        assert looks >= 0, "packed: project, user id, anonymous id, …, and every event has one of the ids"
        actors = array("Q", ffi.buffer(self._actors, 8 * count)[:])
        return actors, ffi.unpack(self._look, looks)

    def persons_many(self, packed: bytes, count: int) -> array[int]:
        """The representatives of many ids' persons: `find` of their actors, as array("Q").

        packed   MessagePack array of 2 × count values: project, id, …
        cost     one call, without the interpreter lock
        """
        if count > len(self._look):
            self._make_room(2 * count)
        done = lib.pugd_graph_persons_many(self._graph, packed, len(packed), count, self._actors)
        assert done == 0, "packed: project, id, …"
        persons = array("Q")
        persons.frombytes(ffi.buffer(self._actors, 8 * count))
        return persons

    def find(self, actor: int) -> int:
        """The representative of the actor's person; itself where it is in no link."""
        return int(lib.pugd_graph_find(self._graph, actor))

    def find_many(self, actors: array[int]) -> tuple[array[int], array[int]]:
        """`find` and `handle` of many actors, all array("Q") but for the handles, which are array("I").

        cost     one call, without the interpreter lock
        """
        count = len(actors)
        persons, handles = array("Q", bytes(8 * count)), array("I", bytes(4 * count))
        given, found = ffi.from_buffer("uint64_t[]", actors), ffi.from_buffer("uint64_t[]", persons)
        lib.pugd_graph_find_many(self._graph, given, count, found, ffi.from_buffer("uint32_t[]", handles))
        return persons, handles

    def members(self, actor: int) -> list[int]:
        """Every actor of its person, itself first. cost: their number."""
        actors = ffi.new("uint64_t[]", self.size(actor))
        found: list[int] = ffi.unpack(actors, lib.pugd_graph_members(self._graph, actor, actors, len(actors)))
        return found

    def size(self, actor: int) -> int:
        """How many ids its person has: 1 where it is in no link."""
        return int(lib.pugd_graph_size(self._graph, actor))

    def extras_of(self, actor: int) -> int:
        """How many links its person has beside those that joined it."""
        return int(lib.pugd_graph_extras_of(self._graph, actor))

    def handle(self, actor: int) -> int:
        """Its number in the order in which ids entered the log; 0 where it is neither a user id nor linked."""
        return int(lib.pugd_graph_handle(self._graph, actor))

    def knows(self, actor: int) -> bool:
        """Is it in the graph: a user id, or linked?"""
        return self.handle(actor) != 0

    def user_rank(self, actor: int) -> int:
        """Its number among the user ids, in the order in which they were learnt; 0 where it is none."""
        return int(lib.pugd_graph_rank(self._graph, actor))

    def is_user(self, actor: int) -> bool:
        """Is this id known as a user id?"""
        return self.user_rank(actor) != 0

    def owns_user(self, actor: int) -> bool:
        """Does its person own a user id?"""
        return bool(lib.pugd_graph_owns_user(self._graph, actor))

    def explain(self, a: int, b: int) -> list[int] | None:
        """Why a and b are one person: link-log places of the links on the way from a to b; None where they are not."""
        orders = ffi.new("uint64_t[]", self.size(a))
        count = lib.pugd_graph_explain(self._graph, a, b, orders, len(orders))
        return None if count < 0 else ffi.unpack(orders, count)

    def linked(self, a: int, b: int) -> bool:
        """Is there an accepted link of these very two ids?"""
        return bool(lib.pugd_graph_linked(self._graph, a, b))

    def links(self, actor: int) -> list[tuple[int, int, int]]:
        """(order, a, b) of every accepted link among the ids of its person, in order; a and b as they come.

        cost     the person's ids, and their square where the person has extra links
        """
        room = 2 * self.size(actor)
        while True:
            found = ffi.new("struct pugd_graph_entry[]", room)
            count = lib.pugd_graph_links(self._graph, actor, found, room)
            if count <= room:
                said = memoryview(ffi.buffer(found)).cast("Q")[: 4 * count].tolist()
                return sorted(zip(said[0::4], said[1::4], said[2::4], strict=True))
            room = count

    def scatter(self, actor: int) -> list[int]:
        """Let every id of its person stand alone, without links; a user id stays one. Cannot fail.

        returns  those ids, in the order in which they entered the log
        """
        members = self.members(actor)
        lib.pugd_graph_scatter(self._graph, actor)
        return sorted(members, key=self.handle)

    def reserve(self, a: int, b: int) -> None:
        """After this the next `user` and `link` of these two cannot fail. raises MemoryError, nothing changed."""
        if lib.pugd_graph_reserve(self._graph, a, b):
            raise MemoryError("identity graph")

    def user(self, actor: int) -> list[int]:
        """Learn that it is a user id. returns the actors that have another representative now. raises MemoryError."""
        return self._changed(lib.pugd_graph_user(self._graph, actor, self._moved, MOVED_MAX))

    def link(self, a: int, b: int, order: int) -> list[int]:
        """Make one person of a's and b's.

        returns  the actors that have another representative now, or are linked for the first time; none where they
                 were one person already: then the link counts beside the others, once a pair
        raises   MemoryError, and the graph is as it was
        """
        return self._changed(lib.pugd_graph_link(self._graph, a, b, order, self._moved, MOVED_MAX))

    def _changed(self, count: int) -> list[int]:
        if count < 0:
            raise MemoryError("identity graph")
        assert count <= MOVED_MAX
        return ffi.unpack(self._moved, count) if count else []

    def replay_many(self, entries: array[int]) -> None:
        """Many entries of the log at once: array("Q") of order, a, b, 1 where `a` is a user id and there is no link, …

        raises   MemoryError, and some of them are applied
        cost     one call, without the interpreter lock
        """
        count = len(entries) // 4
        rows = ffi.cast("struct pugd_graph_entry *", ffi.from_buffer(entries))
        if lib.pugd_graph_link_many(self._graph, rows, count) < count:
            raise MemoryError("identity graph")

    def list_refusal(self, a: int, b: int, code: str) -> bool:
        """Is this refusal of the pair new to the log, as far as is remembered? Then it is remembered now."""
        entry = (min(a, b), max(a, b), code)
        if entry in self.refusals:
            return False
        self.refusals[entry] = None
        if len(self.refusals) > REFUSALS_MAX:
            del self.refusals[next(iter(self.refusals))]
        return True

    def count_refusal(self, code: str) -> None:
        """One more proposal refused."""
        self._refused[code] = self._refused.get(code, 0) + 1

    def save_begin(self) -> None:
        """From now on `save_pieces` gives the graph as it is now. One at a time. raises MemoryError."""
        assert not self._saving
        if lib.pugd_graph_save_begin(self._graph):
            raise MemoryError("a picture of the identity graph")
        self._saving = True

    def save_pieces(self) -> Iterator[memoryview]:
        """What was begun: every id, RECORD bytes each, in the order in which they entered the log; then every extra
        link, EXTRA bytes each, in link-log order. For one thread, while another links.

        yields   pieces of up to PIECE_BYTES, each valid until the next
        raises   MemoryError where a change could not keep what it changed: the picture is lost, the graph is well
        cost     0.2 s for 10 million ids, without the interpreter lock
        """
        room = ffi.new("uint8_t[]", PIECE_BYTES)
        while (length := lib.pugd_graph_save_next(self._graph, room, PIECE_BYTES)) > 0:
            yield memoryview(ffi.buffer(room, length))
        if length < 0:
            raise MemoryError("a picture of the identity graph")

    def save_end(self) -> None:
        """Whether it was read to its end or not."""
        lib.pugd_graph_save_end(self._graph)
        self._saving = False

    @classmethod
    def from_records(cls, key: bytes, records: memoryview, extras: memoryview) -> Graph | None:
        """The graph of saved ids and extra links; None where they cannot be one. raises MemoryError."""
        graph = cls(key)
        ids, beside = ffi.from_buffer("uint8_t[]", records), ffi.from_buffer("uint8_t[]", extras)
        done = lib.pugd_graph_load(graph._graph, ids, len(records) // RECORD, beside, len(extras) // EXTRA)
        if done == -1:
            raise MemoryError("identity graph")
        return None if done else graph

    def statistics(self) -> GraphStatistics:
        """How large it is, and what it refused."""
        numbers = lib.pugd_graph_statistics(self._graph)
        return GraphStatistics(
            ids=numbers.ids,
            users=numbers.users,
            joins=numbers.joins,
            extras=numbers.extras,
            order=self.order,
            bytes=numbers.bytes,
            refused=dict(self._refused),
        )
