"""What deleted journal files leave behind: a restart that learns from it takes nothing for new that came before."""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path

import msgspec
import pytest

from pugd.identity import remembered
from pugd.identity.duplicates import ID_BYTES, RecentIds
from pugd.identity.remembered import DAY_MS, Ids, Remembered

KEY = bytes(range(16))
HOUR = 3_600_000
NOW = 1_780_000_000_000
WINDOW = 24 * HOUR


def ids_of(*pairs: tuple[int, int]) -> bytes:
    """(hash, ms from which on it is kept) → as native/seen.h has it."""
    return b"".join(struct.pack("<QIH", hash_, -(-kept_from // 1000), hash_ % 4096) for hash_, kept_from in pairs)


def test_bytes_that_outlive_the_process() -> None:
    ids = Ids(7, 0, 4096, 0, 0, NOW, ids_of((1, NOW), (2, NOW + HOUR)))
    data = remembered.dump(ids)
    assert data[:8] == b"PUGDSEEN"
    assert len(data) == 64 + 2 * ID_BYTES
    assert remembered.load(data) == ids
    for at in range(len(data)):
        assert remembered.load(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]) is None, at
        assert remembered.load(data[:at]) is None


def test_of_a_file_that_goes_what_is_kept_for_longer_stays() -> None:
    first = Ids(7, 0, 100, 0, 0, NOW + 500, ids_of((1, NOW), (2, NOW + 501), (3, NOW + HOUR), (4, NOW + 1001)))
    second = Ids(7, 100, 200, 0, 0, NOW + 900, ids_of((5, NOW + 700)))
    left = remembered.without(first, second)
    assert left.ids == ids_of((3, NOW + HOUR), (4, NOW + 1001)) + second.ids
    assert (left.start, left.begin, left.since, left.last) == (100, 100, NOW + 1000, NOW + 900)


def world(tmp_path: Path, seed: int, *, bytes_max: int = 1 << 30) -> tuple[Remembered, dict[int, tuple[int, int]], int]:
    """Journal files come and go for three days. returns what was met: by hash, its own time and its file; and where
    the journal begins."""
    draw = random.Random(seed)
    files = Remembered(tmp_path / "recent", 7)
    met: dict[int, tuple[int, int]] = {}
    now, start = NOW, 0
    for _ in range(30):
        end, pairs, first = start + 1000, [], now
        for _ in range(200):
            now += draw.randrange(150_000)
            kind = draw.random()
            own = now if kind < 0.7 else now - draw.randrange(40 * HOUR) if kind < 0.9 else now + draw.randrange(DAY_MS)
            hash_ = draw.getrandbits(64) | 1
            met[hash_] = (own, start)
            pairs.append((hash_, max(now, own)))
        files.keep(start, end, [ids_of(*pairs[:70]), ids_of(*pairs[70:])], first, now, damaged=False)
        files.trim(now, WINDOW, bytes_max)
        start = end
    return files, met, now


def taken_for_new(files: Remembered, met: dict[int, tuple[int, int]], oldest: int, now: int) -> tuple[int, int]:
    """After a restart: how many of what was met would be taken for new, though younger than a window; and how many
    would be known."""
    recent = RecentIds(KEY, WINDOW, 1 << 24)
    files.teach(recent, oldest, now)
    lost = recent.statistics().lost_ms
    wrong = known = 0
    for hash_, (own, _) in met.items():
        is_known = recent.add_ids(ids_of((hash_, NOW + 90 * DAY_MS)), now) == 0
        known += is_known
        # Of an event with this time of its own, what does the set say?
        wrong += not is_known and own + WINDOW > now + 10_000 and own + WINDOW >= lost
    return wrong, known


@pytest.mark.parametrize("bytes_max", [1 << 30, 10_000])
def test_nothing_that_came_before_is_taken_for_new(tmp_path: Path, bytes_max: int) -> None:
    files, met, now = world(tmp_path, seed=bytes_max % 97, bytes_max=bytes_max)
    wrong, known = taken_for_new(files, met, 30_000, now)
    assert wrong == 0
    assert known >= (1100 if bytes_max > 1 << 20 else 500)
    total = sum(path.stat().st_size for path in (tmp_path / "recent").iterdir())
    assert total <= min(bytes_max, 150_000), "what no set would hold is gone"
    # With the journal's oldest file elsewhere than where the chain ends, nothing of it can be trusted.
    assert taken_for_new(files, met, 31_000, now) == (0, 0)


@pytest.mark.parametrize("nth", [0, 3, -1])
@pytest.mark.parametrize("how", ["damaged", "missing", "unreadable"])
def test_behind_a_damaged_file_nothing_from_before_is_known_and_nothing_is_taken_for_new(
    tmp_path: Path, nth: int, how: str
) -> None:
    files, met, now = world(tmp_path, seed=5)
    whole = taken_for_new(files, met, 30_000, now)[1]
    path = sorted((tmp_path / "recent").iterdir())[nth]
    if how == "damaged":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
        if how == "unreadable":
            path.mkdir()
    wrong, known = taken_for_new(files, met, 30_000, now)
    assert wrong == 0
    assert known < whole


def test_what_is_of_another_journal_is_passed_over(tmp_path: Path) -> None:
    _, met, now = world(tmp_path, seed=6)
    other = Remembered(tmp_path / "recent", 8)
    assert other.chain(30_000) == []
    assert taken_for_new(other, met, 30_000, now) == (0, 0)
    # A journal that begins at 0 is whole: nothing came before.
    recent = RecentIds(KEY, WINDOW, 1 << 24)
    other.teach(recent, 0, now)
    assert recent.statistics().lost_ms == 0


def test_a_wider_window_looks_up_what_the_narrower_let_go(tmp_path: Path) -> None:
    files, _, now = world(tmp_path, seed=7)
    recent = RecentIds(KEY, 2 * WINDOW, 1 << 24)
    files.teach(recent, 30_000, now)
    events = [(1, "older", now - WINDOW - 2 * HOUR), (1, "younger", now - WINDOW + 2 * HOUR)]
    packed = msgspec.msgpack.encode([value for event in events for value in (*event, "x")])
    assert recent.add_many(packed, array("Q", [9, 9]), now).old == [0]
