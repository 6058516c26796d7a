"""Returns against the plain twin, a crowd at a time; and the worked examples of other tools' documentation."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from crowd import asked, crowd, events, found, happenings, projects, said, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import retention as twin

from pugd.query.retention import FIRST_EVER, FIRST_IN_RANGE, RECURRING, Births, returns
from pugd.query.sql import sql

HOUR = 3_600_000
DAY = 24 * HOUR
LENGTHS = {"day": DAY, "week": 7 * DAY, "month": 30 * DAY}
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe"]
BEGINNINGS = [1_711_500_000_000, 1_729_600_000_000, 1_540_000_000_000, 1_508_000_000_000]
"""Days before clocks are changed in one of these."""


@settings(max_examples=12)
@given(seeds)
async def test_returns_are_those_of_the_twin(random):
    zone = ZoneInfo(random.choice(ZONES))
    began = random.choice(BEGINNINGS)
    midnights = twin.boundaries(began, began + 20 * DAY, "day", zone)

    def times() -> int:
        near = random.choice(midnights) + random.choice([-1, 0, 0, 1, HOUR])
        return random.choice([near, began + random.randrange(20 * DAY), began + random.randrange(20) * DAY])

    history = crowd(random, times)
    await stored(history)
    happened = happenings(history)
    for _ in range(4):
        start, back = random.choice(["A", "AB"]), random.choice(["A", "B", "AB", "ABCX"])
        since = began + random.randrange(10 * DAY)
        until = since + random.randrange(1, 10 * DAY)
        now = until + random.randrange(10 * DAY)
        period = random.choice(list(LENGTHS))
        length = random.choice([None, None, LENGTHS[period]])
        births = random.choice([FIRST_EVER, FIRST_IN_RANGE, RECURRING])
        bounds = twin.boundaries(since, now + 40 * DAY, period, zone)
        wanted = twin.retention(
            happened, said(start), said(back), since=since, until=until, now=now, periods=bounds, births=births,
            length=length,
        )  # fmt: skip
        asking = Births(
            births=births, since=since, until=until, bounds=tuple(bounds), length_ms=length, periods=len(bounds)
        )
        rows = await found(
            sql(
                "SELECT person, cohort, cells, toInt64(bitShiftRight(born_key, 84)) FROM $returns",
                returns=returns(asking, events(history, [asked(start), asked(back)], until=now)),
            )
        )
        number = {bound: place for place, bound in enumerate(bounds)}
        assert {
            (number[cohort], person): (
                born,
                set(cells) if length else {number[cell] - number[cohort] for cell in cells},
            )
            for person, cohort, cells, born in rows
        } == {key: (birth["at"], seen) for key, (birth, seen) in wanted.items()}
        assert len(rows) == len(wanted)


# Worked examples.


async def returned(
    did: list[tuple[str, str]],
    back: str = "B",
    births: str = FIRST_EVER,
    length: int | None = None,
    period: str = "day",
) -> dict[str, list[int]]:
    """(event, UTC time) each → the day of a birth, and the numbers of the periods that have a return in them."""
    history = History(next(projects))
    for name, when in did:
        history.track(name, user="one", at=round(datetime.fromisoformat(f"{when}+00:00").timestamp() * 1000))
    await stored(history)
    times = [event["occurred_at"] for event in history.world.events]
    bounds = twin.boundaries(min(times), max(times) + 40 * DAY, period, ZoneInfo("UTC"))
    asking = Births(
        births=births, since=min(times), until=max(times) + 1, bounds=tuple(bounds), length_ms=length, periods=40
    )
    rows = await found(
        sql(
            "SELECT cohort, cells, toInt64(bitShiftRight(born_key, 84)) FROM $returns",
            returns=returns(asking, events(history, [asked("A"), asked(back)])),
        )
    )
    return {
        datetime.fromtimestamp(born / 1000, ZoneInfo("UTC")).strftime("%m-%d"): sorted(
            cell if length else bounds.index(cell) - bounds.index(cohort) for cell in cells
        )
        for cohort, cells, born in rows
    }


async def test_amplitude_days_of_24_hours_and_days_of_the_calendar():
    # amplitude.com/docs, How time works in Retention Analysis. Its hours are rounded down, so 23 hours and a minute are
    # a day there; a day here has all of its milliseconds.
    did = [("A", "2021-12-01T17:59"), ("B", "2021-12-02T17:00")]
    assert await returned(did, length=DAY) == {"12-01": [0]}
    assert await returned([did[0], ("B", "2021-12-02T17:59")], length=DAY) == {"12-01": [1]}
    assert await returned([did[0], ("B", "2021-12-03T17:58:59.999")], length=DAY) == {"12-01": [1]}
    assert await returned([did[0], ("B", "2021-12-03T17:59")], length=DAY) == {"12-01": [2]}
    assert await returned(did) == {"12-01": [1]}


async def test_amplitude_weeks_of_seven_days():
    # amplitude.com/docs, How time works in Retention Analysis: 1 to 7 December is week 0, 8 to 14 December week 1
    for back, week in (("06", 0), ("07", 0), ("08", 1), ("14", 1), ("15", 2)):
        did = [("A", "2021-12-01T00:00"), ("B", f"2021-12-{back}T12:00")]
        assert await returned(did, length=7 * DAY) == {"12-01": [week]}


async def test_mixpanel_intervals_follow_the_birth():
    # docs.mixpanel.com, Query Retention Report: within 24 hours is interval 0, from 24 to 48 hours interval 1
    did = [("A", "2012-01-02T20:00"), ("B", "2012-01-03T19:00"), ("B", "2012-01-04T19:00"), ("B", "2012-01-05T21:00")]
    assert await returned(did, length=DAY) == {"01-02": [0, 1, 3]}


async def test_amplitude_one_return_may_count_for_several_births():
    # amplitude.com/docs, How time works in Retention Analysis: several starting events open several windows
    did = [("A", "2021-12-01T10:00"), ("A", "2021-12-02T10:00"), ("B", "2021-12-03T11:00")]
    assert await returned(did, length=DAY, births=RECURRING) == {"12-01": [2], "12-02": [1]}
    assert await returned(did, length=DAY, births=FIRST_IN_RANGE) == {"12-01": [2]}


async def test_a_birth_is_no_return_of_its_own():
    assert await returned([("A", "2021-12-01T10:00")], back="A") == {"12-01": []}
    assert await returned([("A", "2021-12-01T10:00"), ("A", "2021-12-01T10:00")], back="A") == {"12-01": [0]}
    assert await returned([("B", "2021-12-01T09:00"), ("A", "2021-12-01T10:00")]) == {"12-01": []}


async def test_weeks_begin_on_monday():
    did = [("A", "2021-12-05T23:59:59.999"), ("B", "2021-12-06T00:00")]
    assert await returned(did, period="week") == {"12-05": [1]}
    assert await returned(did, period="month") == {"12-05": [0]}
