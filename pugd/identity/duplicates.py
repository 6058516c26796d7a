"""Event ids taken lately, so that a retry is counted once. The face of native/seen, where it is drawn.

An id is kept until max(receipt, the event's own uncorrected time, but at most a day ahead) + window. So an event whose
own time lies inside the window of now is either known here or new; an older one that comes again is not recognised.
Beyond `bytes_max` those that would go first go at once: the window shrinks, and `forgotten` says by how many ids.
"""

from __future__ import annotations

import msgspec

from pugd._native import ffi, lib

BYTES_MIN = 1 << 20
"""The least `bytes_max`: an empty set takes 360 KiB."""


class RecentIdsStatistics(msgspec.Struct, frozen=True):
    """How large the set is, and what its bound cost."""

    ids: int
    bytes: int
    forgotten: int
    """Ids lost to the bound on bytes since the start."""
    floor_ms: int
    """Ids kept until earlier than this are forgotten; 0 where the bound was never met."""
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
        self._duplicates = ffi.new("uint32_t[]", 256)

    def add_many(self, packed: bytes, count: int, now: int) -> list[int]:
        """Take a wake-up's event ids; says which of them are duplicates.

        packed   MessagePack array of 3 × count values: project, event id, the event's own uncorrected time in ms, …
        now      receipt, ms; a clock that goes back is taken as standing still
        returns  the indices of those known already, or met earlier in the batch, in order; '' is never one
        cost     one call, without the interpreter lock; never fails for want of memory
        """
        if count > len(self._duplicates):
            self._duplicates = ffi.new("uint32_t[]", 2 * count)
        found = lib.pugd_seen_add_many(self._seen, packed, len(packed), count, now, self._duplicates)
        assert found >= 0, "packed: project, event id, time, …"
        return ffi.unpack(self._duplicates, found) if found else []

    def add_rows(self, records: memoryview, position: int) -> int:
        """Learn again, after a restart, from whole journal records of which the first lies at `position`.

        returns  how many ids were new; several rows of one event count once
        cost     the records are checked and walked once, without the interpreter lock
        """
        data = ffi.from_buffer("uint8_t[]", records)
        added = int(lib.pugd_seen_add_records(self._seen, data, len(data), position))
        assert added >= 0, f"journal records at {position}: not whole records of rows"
        return added

    def statistics(self) -> RecentIdsStatistics:
        """How large it is, and what its bound cost."""
        numbers = lib.pugd_seen_statistics(self._seen)
        return RecentIdsStatistics(
            ids=numbers.ids,
            bytes=numbers.bytes,
            forgotten=numbers.forgotten,
            floor_ms=numbers.floor_ms,
            granule_ms=numbers.granule_ms,
        )
