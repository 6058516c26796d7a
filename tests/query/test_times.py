"""Times as said and as written; cursors that are none of ours."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.query import people, timeline, times
from pugd.query.person import Owners
from pugd.query.sql import bound
from pugd.question import People, QuestionError, Timeline

OWNERS = Owners(1, bound("UInt64", 7))
UTC_ZONE = ZoneInfo("UTC")


@given(st.integers(0, 253_402_300_799_999))
def test_what_is_written_is_read_back(ms):
    assert times.read(times.text(ms), UTC_ZONE) == ms


@pytest.mark.parametrize(
    ("said", "zone", "wanted"),
    [
        ("2026-03-01", "UTC", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01", "Europe/Berlin", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("2026-07-01", "Europe/Berlin", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-03-01T08:15:30Z", "Europe/Berlin", datetime(2026, 3, 1, 8, 15, 30, tzinfo=UTC)),
        ("2026-03-01t08:15:30.5z", "UTC", datetime(2026, 3, 1, 8, 15, 30, 500_000, tzinfo=UTC)),
        ("2026-03-01T08:15:30+02:00", "UTC", datetime(2026, 3, 1, 6, 15, 30, tzinfo=UTC)),
        ("2026-03-01T08:15:30 02:00", "UTC", datetime(2026, 3, 1, 6, 15, 30, tzinfo=UTC)),
        ("2026-03-01 08:15:30-02:30", "UTC", datetime(2026, 3, 1, 10, 45, 30, tzinfo=UTC)),
    ],
)
def test_what_is_said(said, zone, wanted):
    assert times.read(said, ZoneInfo(zone)) == int(wanted.timestamp() * 1000)


NO_TIMES = [
    "", "yesterday", "2026", "2026-13-01", "2026-02-30", "2026-03-01T08:15", "20260301", "2026-03-01T25:00:00Z",
    "1700000000",
    "2026-03-01T08:15:30", "٢٠٢٦-٠٣-٠١", "2026-03-01Z", "2026-03-01T08:15:30+99:00",
]  # fmt: skip


@pytest.mark.parametrize("said", NO_TIMES)
def test_what_is_no_time(said):
    assert times.read(said, UTC_ZONE) is None


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(value)).rstrip(b"=").decode()


FORGED = [
    "forged", "AAAA", "=", "☃", "a" * 2000, packed(None), packed([]), packed(["people", "-last_seen", "x", 1]),
    packed(["people", "-last_seen", 1]), packed(["people", "-last_seen", 1, 2**64 - 1])[:-2],
    packed(["people", "-last_seen", 1, -1]), packed(["people", "-last_seen", 2**63, 1]),
    packed(["people", "events", 1, 1]), packed(["timeline", "asc", 1, 1, "x", 1, 1]),
    packed(["timeline", "desc", 2**60, 1, "x", 1, 1]), packed(["timeline", "desc", 1, 1, 5, 1, 1]),
]  # fmt: skip


@pytest.mark.parametrize("text", FORGED)
def test_cursors_that_are_not_ours_are_refused(text):
    with pytest.raises(QuestionError) as caught:
        people.plan_page(People(project=1, cursor=text), OWNERS)
    assert caught.value.field == "cursor"
    with pytest.raises(QuestionError):
        timeline.plan_entries(Timeline(project=1, actor=1, cursor=text), [1])


@given(st.binary(max_size=80))
def test_noise_for_a_cursor(data):
    with pytest.raises(QuestionError):
        people.plan_page(People(project=1, cursor=base64.urlsafe_b64encode(data).decode()), OWNERS)


def hours(begins: list[int]) -> list[float]:
    return [(after - before) / 3_600_000 for before, after in itertools.pairwise(begins)]


@pytest.mark.parametrize(
    ("zone", "since", "lengths"),
    [
        ("UTC", "2024-03-30T12:00Z", [24, 24, 24]),
        ("Europe/Berlin", "2024-03-30T12:00Z", [24, 23, 24]),
        ("Europe/Berlin", "2024-10-26T12:00Z", [24, 25, 24]),
        ("Australia/Lord_Howe", "2024-04-06T00:00Z", [24, 24.5, 24]),
        ("America/Sao_Paulo", "2018-11-03T12:00Z", [24, 23, 24]),  # there midnight was left out
        ("Pacific/Apia", "2011-12-29T12:00Z", [24, 24]),  # the 29th, then the 31st
    ],
)
def test_days_have_as_many_hours_as_their_zone_gives_them(zone, since, lengths):
    begin = round(datetime.fromisoformat(since).timestamp() * 1000)
    begins = times.periods(begin, begin + 2 * 86_400_000, "day", ZoneInfo(zone))
    assert hours(begins)[: len(lengths)] == lengths
    assert begins[0] <= begin < begins[1]


@given(st.integers(0, 2**41), st.integers(1, 400 * 86_400_000), st.sampled_from(["day", "week", "month"]))
def test_periods_cover_a_range_and_no_more(since, length, period):
    begins = times.periods(since, since + length, period, ZoneInfo("Europe/Berlin"))
    assert begins == sorted(set(begins))
    assert begins[0] <= since < begins[1]
    assert begins[-2] < since + length <= begins[-1]
    for begin in begins:
        local = datetime.fromtimestamp(begin / 1000, ZoneInfo("Europe/Berlin"))
        assert (local.hour, local.minute) == (0, 0)
        assert period != "week" or local.weekday() == 0
        assert period != "month" or local.day == 1
