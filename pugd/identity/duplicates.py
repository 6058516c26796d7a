"""Event ids taken lately, so that a retry is counted once. The face of native/seen, where it is drawn.

An id is kept until max(receipt, the event's own uncorrected time, but at most a day ahead) + window. So an event whose
own time lies inside the window of now is either known here or new. Of an older one the set cannot tell: it says so
(`old`), and the drain looks it up in ClickHouse before it is stored. Beyond `bytes_max` those that would go first go at
once: the window shrinks, `forgotten` says by how many ids, and more events are old.

Beside an id stands a mark of its event's name and actor, which is how an id that was used for two events is told from a
retry, but for one in 4 095. An identify and an alias are named by their call.

After a restart the set is learnt again from the journal, and from what its deleted files left (remembered.py).
"""

from __future__ import annotations

from array import array
from typing import Any

import msgspec

from pugd._native import ffi, lib

BYTES_MIN = 1 << 20
"""The least `bytes_max`: an empty set takes 360 KiB."""

ROW_BYTES_MIN = 24
"""No row that has an event id is shorter."""
ID_BYTES: int = lib.PUGD_SEEN_ID_BYTES


class Met(msgspec.Struct, frozen=True):
    """What the set knew of a wake-up's events: their indices, in order."""

    duplicates: list[int]
    """Their id is known, or was met earlier in the batch."""
    old: list[int]
    """Not known, but so old that it may be forgotten."""
    reused: list[int]
    """Those duplicates that came with another name or actor: no retries."""


class Digest(msgspec.Struct, frozen=True):
    """What is to be remembered of journal records when they go."""

    ids: bytes
    """ID_BYTES each, as native/seen.h says."""
    received_first: int
    received_last: int
    """ms; 0 where no row tells."""


class RecentIdsStatistics(msgspec.Struct, frozen=True):
    """How large the set is, and what its bound cost."""

    ids: int
    bytes: int
    forgotten: int
    """Ids lost to the bound on bytes since the start."""
    floor_ms: int
    """Ids kept until earlier than this are forgotten; 0 where the bound was never met."""
    lost_ms: int
    """Of ids kept until earlier than this some may be missing: forgotten for want of memory, or not to be learnt again
    after a restart; 0 where none is."""
    granule_ms: int
    """How coarsely times are kept: an id may stay this much longer than it must."""


class RecentIds:
    """The ids of events taken lately, per project."""

    def __init__(self, key: bytes, window_ms: int, bytes_max: int) -> None:
        """`key`: the installation's 16 bytes. raises MemoryError."""
        assert len(key) == 16, "the installation key has 16 bytes"
        assert window_ms > 0
        assert bytes_max >= BYTES_MIN
        seen = lib.pugd_seen_new(key, window_ms, bytes_max)
        if not seen:
            raise MemoryError("recent event ids")
        self._seen = ffi.gc(seen, lib.pugd_seen_free)
        self._found = ffi.new("struct pugd_seen_found *")
        self._make_room(256)

    def _make_room(self, count: int) -> None:
        self._room = count
        self._indices = [ffi.new("uint32_t[]", count) for _ in range(3)]
        self._found.duplicates, self._found.old, self._found.reused = self._indices

    def add_many(self, packed: bytes, actors: array[int], now: int) -> Met:
        """Take a wake-up's event ids; says which of them are duplicates, and of which it cannot say.

        packed   MessagePack array of 4 × count values: project, event id, the event's own uncorrected time in ms, its
                 name, …
        actors   of each event, as array("Q")
        now      receipt, ms; a clock that goes back is taken as standing still
        returns  an event without an id ('') is none of it
        cost     one call, without the interpreter lock; never fails for want of memory
        """
        count, found = len(actors), self._found
        if count > self._room:
            self._make_room(2 * count)
        done = lib.pugd_seen_add_many(
            self._seen, packed, len(packed), count, ffi.from_buffer("uint64_t[]", actors), now, found
        )
        assert done == 0, "packed: project, event id, time, name, …"
        return Met(
            _indices(found.duplicates, found.duplicates_count),
            _indices(found.old, found.old_count),
            _indices(found.reused, found.reused_count),
        )

    def add_rows(self, records: memoryview, position: int) -> int:
        """Learn again, after a restart, from whole journal records of which the first lies at `position`.

        returns  how many ids were new; several rows of one event count once
        cost     the records are checked and walked once, without the interpreter lock
        """
        data = ffi.from_buffer("uint8_t[]", records)
        added = int(lib.pugd_seen_add_records(self._seen, data, len(data), position))
        assert added >= 0, f"journal records at {position}: not whole records of rows"
        return added

    def add_ids(self, ids: bytes | memoryview, received_at: int) -> int:
        """Learn again what `digest` made of records received until `received_at` (ms). returns how many were added"""
        data = ffi.from_buffer("uint8_t[]", ids)
        return int(lib.pugd_seen_add_ids(self._seen, data, len(data) // ID_BYTES, received_at))

    def missing(self, until: int) -> None:
        """Ids of events that came, and happened, before `until` (ms) may be missing: such events are old."""
        lib.pugd_seen_missing(self._seen, until)

    def statistics(self) -> RecentIdsStatistics:
        """How large it is, and what its bound cost."""
        numbers = lib.pugd_seen_statistics(self._seen)
        return RecentIdsStatistics(
            ids=numbers.ids,
            bytes=numbers.bytes,
            forgotten=numbers.forgotten,
            floor_ms=numbers.floor_ms,
            lost_ms=numbers.lost_ms,
            granule_ms=numbers.granule_ms,
        )


def _indices(at: Any, count: int) -> list[int]:
    return ffi.unpack(at, count) if count else []


def digest(key: bytes, records: memoryview, position: int) -> Digest:
    """What is to be remembered of whole journal records of which the first lies at `position`.

    cost  as `RecentIds.add_rows`: a walk, without the interpreter lock
    """
    data = ffi.from_buffer("uint8_t[]", records)
    first, last = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    room = len(data) // ROW_BYTES_MIN + 1
    out = ffi.new("uint8_t[]", room * ID_BYTES)
    count = int(lib.pugd_seen_digest(key, data, len(data), position, out, room, first, last))
    assert 0 <= count <= room, f"journal records at {position}: not whole records of rows"
    return Digest(bytes(ffi.buffer(out, count * ID_BYTES)), first[0], last[0])
