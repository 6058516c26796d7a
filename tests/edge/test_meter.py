"""A key's limits: the rate over time, the day's quota, and clocks that go anywhere."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.meter import BURST_S, DAY_MS, WAIT_S_MAX, Meter
from pugd.errors import QUOTA_EXCEEDED, RATE_LIMITED
from pugd.model import Refusal, WriteKey

NOW = 20_000 * DAY_MS + 1_000


def key(**limits: int) -> WriteKey:
    return WriteKey(1, secret=False, id=1, **limits)  # type: ignore[arg-type]


def refused(meter: Meter, now: int) -> Refusal:
    over = meter.over(now)
    assert over is not None
    return over


def test_a_key_without_limits_is_counted_and_never_refused() -> None:
    meter = Meter(key())
    assert not meter.limited
    for number in range(10):
        assert meter.over(NOW) is None
        meter.count(1_000_000, NOW + number)
    assert (meter.today, meter.last_used) == (10_000_000, NOW + 9)


def test_what_a_batch_takes_beyond_the_rate_is_waited_for() -> None:
    meter = Meter(key(rate=10, burst=20))
    assert meter.over(NOW) is None
    meter.count(50, NOW)  # 30 owed
    over = refused(meter, NOW)
    assert (over.code, over.retry_s) == (RATE_LIMITED, 4)
    assert meter.over(NOW + 3_000) is not None
    assert meter.over(NOW + 3_100) is None
    assert meter.over(NOW + over.retry_s * 1000) is None, "who comes when told is let in"


def test_a_burst_is_had_again_after_a_quiet_while_and_not_twice() -> None:
    meter = Meter(key(rate=10))
    meter.count(10 * BURST_S, NOW)
    assert meter.over(NOW) is not None
    later = NOW + 10 * BURST_S * 1000
    meter.count(10 * BURST_S, later)
    assert meter.over(later) is not None


def test_the_days_events_are_used_up_until_midnight_utc() -> None:
    meter = Meter(key(per_day=100))
    evening = NOW + DAY_MS - 3_000  # two seconds before midnight
    meter.count(99, evening)
    assert meter.over(evening) is None
    meter.count(50, evening)
    over = refused(meter, evening)
    assert (over.code, over.retry_s) == (QUOTA_EXCEEDED, 3)
    assert meter.over(evening + 1_999) is not None
    assert meter.over(evening + 2_000) is None
    meter.count(1, evening + 2_000)
    assert meter.today == 1


def test_nobody_waits_longer_than_an_hour() -> None:
    meter = Meter(key(rate=1, per_day=10))
    meter.count(1_000_000, NOW)
    assert refused(meter, NOW).retry_s == WAIT_S_MAX
    meter.set(key(per_day=10))
    assert refused(meter, NOW).retry_s == WAIT_S_MAX


def test_what_was_not_kept_after_all_is_not_counted() -> None:
    meter = Meter(key(rate=10, burst=10, per_day=10))
    meter.count(10, NOW)
    assert meter.over(NOW) is not None
    meter.count(-10, NOW)
    assert meter.over(NOW) is None
    assert meter.today == 0


def test_limits_change_and_what_was_counted_stays() -> None:
    meter = Meter(key(per_day=100))
    meter.count(100, NOW)
    assert meter.over(NOW) is not None
    meter.set(key(per_day=200))
    assert meter.over(NOW) is None
    assert meter.today == 100
    meter.set(key(rate=5, per_day=200))
    assert meter.over(NOW) is None, "a new bucket is full"
    meter.count(50, NOW)
    meter.set(key(rate=5, burst=1000, per_day=200))
    assert meter.over(NOW) is not None, "raising the burst gives no burst away"


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    meter = Meter(key(rate=10, per_day=1_000))
    meter.count(1_000, NOW)
    for back in (1, 5_000, DAY_MS, 30 * DAY_MS):
        over = meter.over(NOW - back)
        assert over is not None
        meter.count(0, NOW - back)
    assert (meter.day, meter.today, meter.last_used) == (NOW // DAY_MS, 1_000, NOW)


def test_a_count_goes_on_after_a_restart() -> None:
    before = Meter(key(per_day=100))
    before.count(100, NOW)
    kept = msgspec.json.decode(msgspec.json.encode(before.usage()), type=type(before.usage()))
    after = Meter(key(per_day=100))
    after.restore(kept)
    assert after.over(NOW + 1) is not None
    assert after.last_used == NOW
    tomorrow = Meter(key(per_day=100))
    tomorrow.restore(kept)
    assert tomorrow.over(NOW + DAY_MS) is None


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 300)), min_size=1, max_size=200))
def test_over_time_no_more_comes_through_than_the_rate(sent: list[tuple[int, int]]) -> None:
    rate, burst = 20, 100
    meter = Meter(key(rate=rate, burst=burst))
    now, taken, last = NOW, 0, 0
    for pause, events in sent:
        now += pause
        if meter.over(now) is None:
            meter.count(events, now)
            taken, last = taken + events, events
    assert taken - last <= burst + rate * (now - NOW) / 1000 + 1e-6
