"""The set of recent event ids against a dict of times; and learning it again from journal records."""

from __future__ import annotations

import struct
from array import array

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pugd import model
from pugd._native import ffi, lib
from pugd.identity.duplicates import BYTES_MIN, ID_BYTES, Met, RecentIds, digest

KEY = bytes(range(16))
HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_780_000_000_000


def asked(recent: RecentIds, events: list[tuple[int, str, int]], now: int) -> Met:
    """What the set says of (project, id, own time), all of one name and actor."""
    packed = msgspec.msgpack.encode([value for event in events for value in (*event, "x")])
    return recent.add_many(packed, array("Q", [99] * len(events)), now)


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
@example(steps=[(-2572, [(1, 0, 0)]), (3516, []), (DAY, [(1, 0, 0)])])
def test_against_a_dict(steps: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    kept: dict[tuple[int, int], int] = {}
    now, latest = NOW, 0  # it knows of no time before the first
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
        assert asked(recent, given_events, now).duplicates == expected
    assert recent.statistics().ids == sum(until >= latest // granule for until in kept.values())


def test_an_event_is_kept_until_its_own_time_and_the_window_but_no_longer_than_a_day_ahead() -> None:
    for own, hours in ((NOW, 24), (NOW - 50 * HOUR, 24), (NOW + 5 * HOUR, 29), (NOW + 500 * HOUR, 48)):
        for after, known in ((hours * HOUR - 1, [0]), (hours * HOUR + 10_000, [])):
            recent = RecentIds(KEY, DAY, BYTES_MIN)
            assert asked(recent, [(1, "e", own)], NOW).duplicates == []
            assert asked(recent, [(1, "e", own)], NOW + after).duplicates == known


def test_an_event_without_an_id_is_never_a_duplicate() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    assert asked(recent, [(1, "", NOW), (1, "", 0)], NOW) == Met([], [], [])
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
    assert asked(recent, again, NOW + HOUR).duplicates == [0, 1, 2, 3]
    assert asked(recent, again[:1] + again[3:4], NOW + 28 * HOUR).duplicates == [1]
    with pytest.raises(AssertionError):
        recent.add_rows(memoryview(data), 4097)


def rows_of(call: str, event_id: str, name: str, actor: int, *, traits: int, first_seen: bool) -> list[msgspec.Struct]:
    """What accept.py appends of a call: links, traits, its event."""
    rows: list[msgspec.Struct] = []
    about = (NOW, NOW, NOW, "", event_id)
    if first_seen:
        for link in ("user", call if call in ("identify", "alias") else "event"):
            a = actor if link == "user" else 5
            rows.append(
                model.LinkRow(model.LINK, 1, 1, a, actor, "a", "u", link, "", 0, 1, *about, "http", "web")
            )  # fmt: skip
        rows.append(model.MergeRow(model.MERGE, 1, 5, actor, 1))
    rows += [
        model.TraitRow(
            *(model.TRAIT, 1, actor, NOW, NOW, NOW, "", event_id, "u", "u", "a", f"key {key}", "set", b"1"),
            *("http", "web"),
        )
        for key in range(traits if call != "alias" else 0)
    ]
    if call == "track":
        event = event_row(event_id, NOW, NOW)
        rows.append(msgspec.structs.replace(event, actor=actor, event=name))
    return rows


CALLS = st.tuples(
    st.sampled_from(("track", "track", "identify", "alias")),
    st.integers(0, 6),  # event id
    st.sampled_from(("opened", "paid", "identify")),
    st.integers(1, 3),  # actor
    st.integers(0, 2),  # traits
    st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(
    wake_ups=st.lists(
        st.tuples(st.lists(CALLS, max_size=6), st.sampled_from(("go on", "journal", "digest"))), max_size=8
    )
)
def test_an_id_used_for_another_name_or_actor_is_no_retry_not_even_after_a_restart(
    wake_ups: list[tuple[list[tuple[str, int, str, int, int, bool]], str]],
) -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    meant: dict[int, tuple[str, int]] = {}
    silent: set[int] = set()
    data = b""
    for calls, then in wake_ups:
        duplicates, reused = [], []
        rows: list[msgspec.Struct] = []
        for index, (call, number, name, actor, traits, first_seen) in enumerate(calls):
            means = (name if call == "track" else call, actor)
            if number in meant:
                duplicates.append(index)
                if meant[number] != means:
                    reused.append(index)
                continue
            meant[number] = means
            made = rows_of(call, f"id {number}", name, actor, traits=traits, first_seen=first_seen)
            rows += made
            if not made:
                silent.add(number)
        keys = [
            value
            for call, number, name, _, _, _ in calls
            for value in (1, f"id {number}", NOW, name if call == "track" else call)
        ]
        met = recent.add_many(msgspec.msgpack.encode(keys), array("Q", [one[3] for one in calls]), NOW)
        assert met == Met(duplicates, [], reused)
        if rows:
            data += record(rows, 128 + len(data))
        if then != "go on":
            # A call that changed nothing leaves nothing.
            meant = {number: means for number, means in meant.items() if number not in silent}
            silent = set()
            recent = RecentIds(KEY, DAY, BYTES_MIN)
            if then == "journal":
                recent.add_rows(memoryview(data), 128)
            else:
                recent.add_ids(digest(KEY, memoryview(data), 128).ids, NOW)


def test_of_an_event_older_than_its_reach_the_set_says_so() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    ages = {"new": 0, "within": DAY - granule, "older": DAY + 2 * granule, "years": 900 * DAY}
    ages |= {"ahead": -DAY, "wrong": -2 * DAY}
    events = [(1, name, NOW - age) for name, age in ages.items()]
    assert asked(recent, events, NOW) == Met([], [2, 3, 5], [])
    # What was just taken is known for a window, however old it is.
    assert asked(recent, events, NOW + HOUR) == Met([0, 1, 2, 3, 4, 5], [], [])
    assert asked(recent, events, NOW + 40 * HOUR) == Met([4, 5], [0, 1, 2, 3], [])


def test_of_an_event_from_before_what_is_missing_the_set_says_so() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    granule = recent.statistics().granule_ms
    recent.missing(NOW - HOUR)
    events = [(1, "before", NOW - HOUR - 1), (1, "since", NOW - HOUR + granule)]
    assert asked(recent, events, NOW) == Met([], [0], [])
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
    retries = [(1, name, original) for name, _, original in events]
    for hours in (7, 25, 30, 40, 60):
        now = NOW + hours * HOUR
        assert asked(again, retries, now) == asked(learnt, retries, now)


def test_live_and_learnt_again_are_the_same() -> None:
    events = [(f"e{i}", NOW + 60_000 * i, NOW + 60_000 * i + (i % 7 - 3) * 9 * HOUR) for i in range(400)]
    live, learnt = RecentIds(KEY, DAY, BYTES_MIN), RecentIds(KEY, DAY, BYTES_MIN)
    for name, received, original in events:
        assert asked(live, [(1, name, original)], received).duplicates == []
    assert learnt.add_rows(memoryview(record([event_row(*event) for event in events], 128)), 128) == 400
    retries = [(1, name, 0) for name, _, _ in events]
    for hours in (7, 25, 30, 40, 60):
        now = NOW + hours * HOUR
        assert asked(live, retries, now) == asked(learnt, retries, now)


def test_beyond_its_bound_the_oldest_go_first_and_are_counted() -> None:
    recent = RecentIds(KEY, DAY, BYTES_MIN)
    for start in range(0, 200_000, 500):
        events = [(1, f"e{i}", NOW) for i in range(start, start + 500)]
        assert asked(recent, events, NOW + start * 100).duplicates == []
    numbers = recent.statistics()
    assert numbers.bytes <= BYTES_MIN
    assert numbers.ids + numbers.forgotten == 200_000
    assert numbers.forgotten > 100_000
    assert numbers.floor_ms > NOW + DAY
    now = NOW + 200_000 * 100
    newest, oldest = ([(1, f"e{i}", NOW) for i in range(begin, begin + 1000)] for begin in (199_000, 0))
    assert asked(recent, newest, now).duplicates == list(range(1000))
    assert asked(recent, oldest, now) == Met([], list(range(1000)), [])
