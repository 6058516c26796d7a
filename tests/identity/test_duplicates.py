"""The set of recent event ids against a dict of times; and learning it again from journal records."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pugd import model
from pugd._native import ffi, lib
from pugd.identity.duplicates import BYTES_MIN, ID_BYTES, RecentIds, digest

KEY = bytes(range(16))
HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_780_000_000_000


def packed(events: list[tuple[int, str, int]]) -> bytes:
    return msgspec.msgpack.encode([value for event in events for value in event])


def event_row(event_id: str, received_at: int, original_at: int) -> model.EventRow:
    return model.EventRow(
        *(model.EVENT, 1, 99, original_at, received_at, original_at, "", "track", "x", event_id, "u", "a"),
        *("", "http", "web", "lib", 0, 0, b"{}", b"{}", "", "", "", "", "", "", ""),
    )


def record(rows: list[msgspec.Struct], position: int) -> bytes:
    payload = b"".join(msgspec.msgpack.encode(row) for row in rows)
    length, rest = struct.pack("<I", len(payload)), struct.pack("<B3xI", 1, len(rows)) + payload
    crc = lib.pugd_crc32c(0, ffi.from_buffer(struct.pack("<Q", position)), 8)
    crc = lib.pugd_crc32c(crc, ffi.from_buffer(length), 4)
    return length + struct.pack("<I", lib.pugd_crc32c(crc, ffi.from_buffer(rest), len(rest))) + rest


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.one_of(st.integers(-HOUR, 20_000), st.integers(0, DAY)),
            st.lists(st.tuples(st.integers(1, 2), st.integers(0, 12), st.integers(-2 * DAY, 3 * DAY)), max_size=8),
        ),
        max_size=40,
    )
)
def test_against_a_dict(steps: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    kept: dict[tuple[int, int], int] = {}
    now = latest = NOW
    for step, events in steps:
        now += step
        latest = now if now // granule >= latest // granule else latest // granule * granule
        expected = []
        for index, (project, name, away) in enumerate(events):
            if kept.get((project, name), 0) >= latest // granule:
                expected.append(index)
            else:
                until = max(latest, min(now + away, latest + DAY)) + DAY
                kept[project, name] = -(-until // granule)
        given_events = [(project, f"event {name}", now + away) for project, name, away in events]
        assert recent.add_many(packed(given_events), len(events), now)[0] == expected
    assert recent.statistics().ids == sum(until >= latest // granule for until in kept.values())


def test_an_event_is_kept_until_its_own_time_and_the_window_but_no_longer_than_a_day_ahead() -> None:
    for own, hours in ((NOW, 24), (NOW - 50 * HOUR, 24), (NOW + 5 * HOUR, 29), (NOW + 500 * HOUR, 48)):
        for after, known in ((hours * HOUR - 1, [0]), (hours * HOUR + 10_000, [])):
            recent = RecentIds(KEY, DAY, BYTES_MIN)
            assert recent.add_many(packed([(1, "e", own)]), 1, NOW)[0] == []
            assert recent.add_many(packed([(1, "e", own)]), 1, NOW + after)[0] == known


def test_an_event_without_an_id_is_never_a_duplicate() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    assert recent.add_many(packed([(1, "", NOW), (1, "", 0)]), 2, NOW) == ([], [])
    assert recent.statistics().ids == 0


def test_a_restart_learns_event_ids_from_the_journal() -> None:
    trait = model.TraitRow(
        *(model.TRAIT, 1, 99, NOW, NOW, NOW, "", "by trait", "u", "u", "a", "plan", "set", b'"pro"', "http", "web")
    )
    link = model.LinkRow(
        *(model.LINK, 1, 1, 98, 99, "a", "u", "identify", "", 0, 1, NOW, NOW, NOW, "", "by link", "http", "web")
    )
    merge = model.MergeRow(model.MERGE, 1, 98, 99, 1)
    rows = [event_row("one", NOW, NOW), trait, trait, link, merge, event_row("", NOW, NOW)]
    first = record(rows, 4096)
    data = first + record([event_row("ahead", NOW + 5, NOW + 5 * HOUR), event_row("one", NOW, NOW)], 4096 + len(first))
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    assert recent.add_rows(memoryview(data), 4096) == 4
    assert recent.add_rows(memoryview(data), 4096) == 0
    again = [(1, name, NOW) for name in ("one", "by trait", "by link", "ahead", "another")]
    assert recent.add_many(packed(again), 5, NOW + HOUR)[0] == [0, 1, 2, 3]
    assert recent.add_many(packed(again[:1] + again[3:4]), 2, NOW + 28 * HOUR)[0] == [1]
    with pytest.raises(AssertionError):
        recent.add_rows(memoryview(data), 4097)


def test_of_an_event_older_than_its_reach_the_set_says_so() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    ages = {"new": 0, "within": DAY - granule, "older": DAY + 2 * granule, "years": 900 * DAY}
    ages |= {"ahead": -DAY, "wrong": -2 * DAY}
    events = [(1, name, NOW - age) for name, age in ages.items()]
    assert recent.add_many(packed(events), 6, NOW) == ([], [2, 3, 5])
    # What was just taken is known for a window, however old it is.
    assert recent.add_many(packed(events), 6, NOW + HOUR) == ([0, 1, 2, 3, 4, 5], [])
    assert recent.add_many(packed(events), 6, NOW + 40 * HOUR) == ([4, 5], [0, 1, 2, 3])


def test_of_an_event_from_before_what_is_missing_the_set_says_so() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    recent.missing(NOW - HOUR)
    events = [(1, "before", NOW - HOUR - 1), (1, "since", NOW - HOUR + granule)]
    assert recent.add_many(packed(events), 2, NOW) == ([], [0])
    assert recent.statistics().lost_ms > NOW - HOUR + DAY
    recent.missing(NOW - 30 * HOUR)
    assert recent.statistics().lost_ms > NOW - HOUR + DAY


def test_a_digest_teaches_what_its_records_taught() -> None:
    events = [(f"e{i}", NOW + 60_000 * i, NOW + 60_000 * i + (i % 7 - 3) * 9 * HOUR) for i in range(400)]
    rows = [event_row(*event) for event in events]
    data = memoryview(record([event_row("", NOW - 5, 0), *rows, rows[-1]], 128))
    made = digest(KEY, data, 128)
    assert (len(made.ids), made.received_first, made.received_last) == (400 * ID_BYTES, NOW - 5, NOW + 60_000 * 399)
    learnt, again = RecentIds(KEY, DAY, BYTES_MIN), RecentIds(KEY, DAY, BYTES_MIN)
    assert learnt.add_rows(data, 128) == again.add_ids(made.ids, made.received_last) == 400
    retries = packed([(1, name, original) for name, _, original in events])
    for hours in (7, 25, 30, 40, 60):
        now = NOW + hours * HOUR
        assert again.add_many(retries, 400, now) == learnt.add_many(retries, 400, now)


def test_live_and_learnt_again_are_the_same() -> None:
    events = [(f"e{i}", NOW + 60_000 * i, NOW + 60_000 * i + (i % 7 - 3) * 9 * HOUR) for i in range(400)]
    live, learnt = RecentIds(KEY, DAY, BYTES_MIN), RecentIds(KEY, DAY, BYTES_MIN)
    for name, received, original in events:
        assert live.add_many(packed([(1, name, original)]), 1, received)[0] == []
    assert learnt.add_rows(memoryview(record([event_row(*event) for event in events], 128)), 128) == 400
    retries = packed([(1, name, 0) for name, _, _ in events])
    for hours in (7, 25, 30, 40, 60):
        now = NOW + hours * HOUR
        assert live.add_many(retries, 400, now) == learnt.add_many(retries, 400, now)


def test_beyond_its_bound_the_oldest_go_first_and_are_counted() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    for start in range(0, 200_000, 500):
        names = packed([(1, f"e{i}", NOW) for i in range(start, start + 500)])
        assert recent.add_many(names, 500, NOW + start * 100)[0] == []
    numbers = recent.statistics()
    assert numbers.bytes <= BYTES_MIN
    assert numbers.ids + numbers.forgotten == 200_000
    assert numbers.forgotten > 100_000
    assert numbers.floor_ms > NOW + DAY
    now = NOW + 200_000 * 100
    assert recent.add_many(packed([(1, f"e{i}", NOW) for i in range(199_000, 200_000)]), 1000, now)[0] == list(
        range(1000)
    )
    assert recent.add_many(packed([(1, f"e{i}", NOW) for i in range(1000)]), 1000, now) == ([], list(range(1000)))
