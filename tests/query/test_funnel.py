"""Attempts against the plain twin, a crowd at a time; and the worked examples of other tools' documentation."""

from __future__ import annotations

import pytest
from crowd import asked, crowd, events, found, happenings, projects, said, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import funnel as twin

from pugd.query.funnel import ANY, BEST, FIRST, ORDERED, STRICT, Exclusion, Walk, attempts
from pugd.query.sql import sql

BEGAN = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@settings(max_examples=12)
@given(seeds)
async def test_attempts_are_those_of_the_twin(random):
    unit = random.choice([1, 1_000])
    history = crowd(random, lambda: BEGAN + random.randrange(12) * unit)
    await stored(history)
    happened = happenings(history)
    for _ in range(4):
        steps = [random.choice(["A", "B", "C", "AB", "ABCX"]) for _ in range(random.randint(1, 5))]
        since = BEGAN + random.randrange(5) * unit
        options = {
            "since": since,
            "until": since + random.randrange(1, 8) * unit,
            "order": random.choice([ORDERED, ORDERED, STRICT, ANY]),
            "entry": random.choice([FIRST, BEST]),
            "left_out": random.random() < 0.3,
        }
        window = random.choice([0, 1, 2, 5, 20]) * unit
        excluded = []
        if options["order"] == ORDERED and len(steps) > 1:
            for _ in range(random.randrange(3)):
                after = random.randrange(1, len(steps))
                excluded.append((random.choice(["X", "C", "BX"]), after, random.randint(after + 1, len(steps))))
        wanted = twin.funnel(
            happened,
            [said(names) for names in steps],
            window=window,
            exclusions=[twin.Exclusion(said(names), after, before) for names, after, before in excluded],
            **options,
        )
        walk = Walk(
            steps=len(steps),
            window_ms=window,
            exclusions=tuple(
                Exclusion(len(steps) + place, after - 1, before - 1)
                for place, (_, after, before) in enumerate(excluded)
            ),
            **options,
        )
        conditions = [asked(names) for names in [*steps, *(names for names, _, _ in excluded)]]
        told = random.randrange(len(steps))
        rows = await found(
            sql(
                "SELECT person, at, toInt64(bitShiftRight(told_key, 84)) FROM $attempts",
                attempts=attempts(walk, events(history, conditions), told=told),
            )
        )
        assert {person: (list(at), key) for person, at, key in rows} == {
            person: ([event["at"] for event in attempt.events], (attempt.by_step[told] or {"at": 0})["at"])
            for person, attempt in wanted.items()
        }
        assert len(rows) == len(wanted)


# Worked examples. A person is a list of (event, time) or of names an hour apart.


async def walked(persons: list, steps: str, exclusions: tuple = (), window: int = DAY, **options) -> list[int]:
    """How many steps each person's attempt reached; 0: did not enter."""
    history = History(next(projects))
    for number, did in enumerate(persons):
        for place, one in enumerate(did):
            name, at = one if isinstance(one, tuple) else (one, place * HOUR)
            history.track(name, user=str(number), at=BEGAN + at)
    await stored(history)
    walk = Walk(
        steps=len(steps),
        since=BEGAN,
        until=BEGAN + 30 * DAY,
        window_ms=window,
        exclusions=tuple(
            Exclusion(len(steps) + place, after - 1, before - 1) for place, (_, after, before) in enumerate(exclusions)
        ),
        **options,
    )
    conditions = [asked(name) for name in [*steps, *(name for name, _, _ in exclusions)]]
    rows = await found(
        sql("SELECT person, length(at) FROM $attempts", attempts=attempts(walk, events(history, conditions)))
    )
    reached = dict(rows)
    return [reached.get(history.actor(str(number)), 0) for number in range(len(persons))]


async def test_mixpanel_a_later_step_one_does_not_begin_the_window_again():
    # docs.mixpanel.com, Funnels Advanced Concepts, Conversion Window
    did = [("A", 0), ("A", 30 * MINUTE), ("B", 45 * MINUTE), ("C", 75 * MINUTE)]
    assert await walked([did], "ABC", window=HOUR) == [2]
    # with every entry tried, the second one comes through
    assert await walked([did], "ABC", window=HOUR, entry=BEST) == [3]


async def test_mixpanel_optimized_re_entry():
    # docs.mixpanel.com, Funnels Advanced Concepts, Optimized Re-entry
    again = [("A", 0), ("A", 3 * HOUR), ("B", 4 * HOUR)]
    meanwhile = [("A", 0), ("A", HOUR), ("B", 2 * HOUR + 1)]
    assert await walked([again, meanwhile], "AB", window=2 * HOUR) == [1, 1]
    assert await walked([again, meanwhile], "AB", window=2 * HOUR, entry=BEST) == [2, 2]


async def test_mixpanel_specific_order():
    # docs.mixpanel.com, Funnels Advanced Concepts, Specific Order
    persons = ["ABCDE", "ABFCDE", "ABDCDE", "ABCE"]
    assert await walked(persons, "ABCDE") == [5, 5, 5, 3]


async def test_mixpanel_exclusion_steps():
    # docs.mixpanel.com, Funnels Advanced Concepts, Exclusion Steps: dropped at that step, counted in those before
    persons = ["AAAB", "AB", "ABXC", "ABC", "AXBC"]
    assert await walked(persons, "AB", (("A", 1, 2),)) == [1, 2, 2, 2, 2]
    assert await walked(persons, "ABC", (("X", 2, 3),)) == [2, 2, 2, 3, 3]


async def test_posthog_exclusions_leave_out_of_the_whole_funnel():
    # posthog.com/docs/product-analytics/funnels, Excluding steps
    persons = ["ABXC", "ABC", "AXBC"]
    assert await walked(persons, "ABC", (("X", 2, 3),), left_out=True) == [0, 3, 3]


async def test_posthog_orders():
    # posthog.com/docs/product-analytics/funnels, Adding steps
    persons = ["AXB", "AB", "BA"]
    assert await walked(persons, "AB", order=ORDERED) == [2, 2, 1]
    assert await walked(persons, "AB", order=STRICT) == [1, 2, 1]
    assert await walked(persons, "AB", order=ANY) == [2, 2, 2]


async def test_posthog_steps_of_one_event_need_as_many_events():
    # posthog.com/docs/product-analytics/funnels, Duplicate steps
    assert await walked(["A", "AA", "AAB"], "AA") == [1, 2, 2]
    assert await walked(["A", "AA"], "AA", order=ANY) == [1, 2]


async def test_amplitude_simultaneous_events():
    # amplitude.com/docs, How Amplitude handles simultaneous events in a funnel: there, of two events within a second
    # either order converts. Here milliseconds count, and at the same one the order of arrival.
    persons = [[("B", 0), ("A", 1)], [("A", 0), ("B", 0)], [("B", 0), ("A", 0)], [("A", 0), ("X", 0), ("B", 0)]]
    assert await walked(persons, "AB") == [1, 2, 1, 2]
    assert await walked(persons, "AB", order=STRICT) == [1, 2, 1, 1]


async def test_twenty_steps_are_no_harder_than_two():
    alphabet = "ABCDEFGHIJKLMNOPQRST"
    persons = [alphabet, alphabet[::-1], alphabet[:13]]
    for entry in (FIRST, BEST):
        assert await walked(persons, alphabet, window=3 * DAY, entry=entry) == [20, 1, 13]
        assert await walked(persons, alphabet, window=3 * DAY, entry=entry, order=ANY) == [20, 20, 13]


@pytest.mark.parametrize("order", [ORDERED, STRICT, ANY])
async def test_a_window_ends_with_its_last_millisecond(order):
    persons = [[("A", 0), ("B", HOUR)], [("A", 0), ("B", HOUR + 1)]]
    assert await walked(persons, "AB", window=HOUR, order=order) == [2, 1]


async def test_a_funnel_may_be_completed_after_the_range():
    persons = [[("A", 30 * DAY - 1), ("B", 30 * DAY + HOUR)], [("A", 30 * DAY), ("B", 30 * DAY + 1)]]
    assert await walked(persons, "AB") == [2, 0]
