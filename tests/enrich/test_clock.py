from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.enrich import clock

NOW = 1_790_000_000_000
HOUR = 3_600_000


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),
    st.sampled_from(["Z", "+00:00", "+05:30", "-08:00"]),
    st.sampled_from(["milliseconds", "microseconds", "seconds"]),
)
def test_text_is_the_time_it_says_whatever_was_seen_before(when: datetime, zone: str, precision: str) -> None:
    offset = {"Z": 0, "+00:00": 0, "+05:30": 330, "-08:00": -480}[zone]
    aware = when.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = when.isoformat(timespec=precision) + zone
    keep = {"milliseconds": 1000, "microseconds": 1000, "seconds": 1_000_000}[precision]
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) // keep * keep // 1000
    assert clock.parse(text) == expected
    assert clock.parse(text) == expected


@given(
    st.sampled_from(["2026-11-23T10:01:00", "2255-03-04T00:00:00", "9999-12-31T23:59:59", "1899-12-31T23:59:59"]),
    st.lists(st.sampled_from([".123Z", ".123+00:00", "+0100", "-0800", ".1234", ".12+01", ".123+01:00", "Z", ""])),
)
def test_no_text_changes_what_another_says(second: str, ends: list[str]) -> None:
    alone = {}
    for end in set(ends):
        clock._seconds.clear()
        alone[end] = clock.parse(second + end)
    clock._seconds.clear()
    for end in ends * 2:
        assert clock.parse(second + end) == alone[end]
        assert clock.correct(second + end, 0, 2**43)[1] == alone[end]


@given(st.text(max_size=30) | st.from_regex(r"2026-11-23T10:01:00\.\w{3}Z", fullmatch=True))
def test_any_text_is_a_time_or_none(text: str) -> None:
    clock.parse("2026-11-23T10:01:00.123Z")
    found = clock.parse(text)
    assert found is None or isinstance(found, int)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000.5, 1_700_000_000_500),
        (float("nan"), None),
        (float("inf"), None),
        (10**30, None),
        (True, None),
        ("yesterday", None),
        ("", None),
        ("2024-01-15", 1_705_276_800_000),
        ("2024-01-15T10:01:00.123+00:00", 1_705_312_860_123),
        ("2024-01-15T10:01:00.123456+00:00", 1_705_312_860_123),
    ],
)
def test_forms(said: object, expected: int | None) -> None:
    assert clock.parse(said) == expected  # type: ignore[arg-type]


def test_skew_has_a_dead_band() -> None:
    assert clock.skew(None, NOW) == 0
    assert clock.skew(NOW - 60_000, NOW) == 0
    assert clock.skew(NOW - 60_001, NOW) == 60_001
    assert clock.skew(NOW + 2 * HOUR, NOW) == -2 * HOUR


def test_history_with_a_right_clock_does_not_move() -> None:
    assert clock.correct("2024-01-15T10:01:00.123Z", clock.skew(NOW - 500, NOW), NOW) == (
        1_705_312_860_123,
        1_705_312_860_123,
        "",
    )


def test_a_wrong_clock_is_corrected_and_noted() -> None:
    late = NOW - HOUR
    assert clock.correct(late - 5000, clock.skew(late, NOW), NOW) == (NOW - 5000, late - 5000, "skew")


@pytest.mark.parametrize(
    ("said", "note"),
    [(NOW + 25 * HOUR, "future"), (-5, "past"), ("1969-12-31T23:59:59.999Z", "past"), ("soon", "unreadable")],
)
def test_an_impossible_time_becomes_receipt(said: object, note: str) -> None:
    occurred, original, found = clock.correct(said, 0, NOW)  # type: ignore[arg-type]
    assert (occurred, found) == (NOW, note)
    assert clock.TIME_MIN <= original <= clock.TIME_MAX


def test_a_day_ahead_is_kept() -> None:
    assert clock.correct(NOW + 23 * HOUR, 0, NOW) == (NOW + 23 * HOUR, NOW + 23 * HOUR, "")


@given(st.integers() | st.floats() | st.text(max_size=40) | st.none(), st.integers(-(10**15), 10**15))
def test_whatever_is_said_the_result_can_be_stored(said: object, sent_at: int) -> None:
    occurred, original, _ = clock.correct(said, clock.skew(sent_at, NOW), NOW)  # type: ignore[arg-type]
    assert 0 <= occurred <= NOW + clock.FUTURE_MAX_MS
    assert clock.TIME_MIN <= original <= clock.TIME_MAX
