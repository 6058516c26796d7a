"""Attempts against the plain twin, a crowd at a time; and the worked examples of other tools' documentation."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from crowd import PATH, asked, crowd, found, happenings, planned, projects, reading, said, said_of, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import funnel as twin

from pugd.journeys import ANY, BEST, DROP, FIRST, LEAVE_OUT, ORDERED, STRICT, Durations, Excluded, Funnel, check
from pugd.query.funnel import attempts, happening, persons, plan_steps, shape_steps
from pugd.query.sql import Sql, sql
from pugd.question import QuestionError

BEGAN = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def question(random: Random, unit: int) -> tuple[Funnel, list[str]]:
    """A funnel, and the names that meet its steps and then its exclusions."""
    steps = [random.choice(["A", "B", "C", "AB", "ABCX"]) for _ in range(random.randint(2, 5))]
    order = random.choice([ORDERED, ORDERED, STRICT, ANY])
    since = BEGAN + random.randrange(5) * unit
    exclusions = []
    for _ in range(random.randrange(3) if order == ORDERED else 0):
        after = random.randrange(1, len(steps))
        exclusions.append(Excluded(after, random.randint(after + 1, len(steps))))
    asked_for = Funnel(
        project=0,
        since=since,
        until=since + random.randrange(1, 8) * unit,
        steps=len(steps),
        order=order,
        entry=random.choice([FIRST, BEST]),
        window_ms=random.choice([1, 2, 5, 20]) * unit,
        exclusions=tuple(exclusions),
        excluded=random.choice([DROP, DROP, LEAVE_OUT]),
        breakdown_step=random.randint(1, len(steps)),
        values=random.randint(1, 4),
    )
    check(asked_for)
    return asked_for, [*steps, *(random.choice(["X", "C", "BX"]) for _ in exclusions)]


def walked_by_the_twin(happened: list[dict], asked_for: Funnel, names: list[str]) -> dict[int, twin.Attempt]:
    return twin.funnel(
        happened,
        [said(name) for name in names[: asked_for.steps]],
        since=asked_for.since,
        until=asked_for.until,
        window=asked_for.window_ms,
        order=asked_for.order,
        entry=asked_for.entry,
        exclusions=[
            twin.Exclusion(said(name), one.after, one.before)
            for name, one in zip(names[asked_for.steps :], asked_for.exclusions, strict=True)
        ],
        left_out=asked_for.excluded == LEAVE_OUT,
    )


def told(history: History, asked_for: Funnel, names: list[str]) -> Sql:
    of = msgspec.structs.replace(asked_for, project=history.project)
    return happening(of, reading(history), [asked(name) for name in names], PATH)


@settings(max_examples=12)
@given(seeds)
async def test_attempts_are_those_of_the_twin(random):
    unit = random.choice([1, 1_000])
    history = crowd(random, lambda: BEGAN + random.randrange(12) * unit)
    await stored(history)
    happened = happenings(history)
    for _ in range(4):
        asked_for, names = question(random, unit)
        wanted = walked_by_the_twin(happened, asked_for, names)
        rows = await found(
            sql(
                "SELECT person, at, value FROM $attempts",
                attempts=attempts(asked_for, told(history, asked_for, names), told=True),
            )
        )
        place = asked_for.breakdown_step - 1
        assert {person: (list(at), value) for person, at, value in rows} == {
            person: ([event["at"] for event in attempt.events], (attempt.by_step[place] or {"path": ""})["path"])
            for person, attempt in wanted.items()
        }
        assert len(rows) == len(wanted)


def plain(asked_for: Funnel, found: list[twin.Attempt]) -> list[tuple]:
    """What a series says, step by step."""
    reached = [[attempt.events for attempt in found if attempt.reached > step] for step in range(asked_for.steps)]

    def durations(step: int, since: int) -> tuple | None:
        took = [own[step]["at"] - own[since]["at"] for own in reached[step]]
        if not took or step == 0:
            return None
        return (
            pytest.approx(sum(took) / len(took)),
            *(pytest.approx(twin.quantile(took, share)) for share in (0.5, 0.9, 0.99)),
        )

    return [
        (
            len(own),
            len(own) / len(reached[0]) if reached[0] else None,
            len(own) / len(reached[step - 1]) if step and reached[step - 1] else None,
            len(own) - len(reached[step + 1]) if step + 1 < asked_for.steps else 0,
            durations(step, 0),
            durations(step, step - 1),
        )
        for step, own in enumerate(reached)
    ]


@settings(max_examples=5)
@given(seeds)
async def test_answers_are_those_of_the_twin(random):
    history = crowd(random, lambda: BEGAN + random.randrange(12))
    await stored(history)
    happened = happenings(history)
    for broken_down in (False, True, True):
        asked_for, names = question(random, 1)
        wanted = walked_by_the_twin(happened, asked_for, names)
        by_value: dict[str, list[twin.Attempt]] = {}
        for attempt in wanted.values():
            event = attempt.by_step[asked_for.breakdown_step - 1]
            by_value.setdefault(event["path"] if event else "", []).append(attempt)
        ranked = sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0]))
        expected = [(None, False, plain(asked_for, list(wanted.values())))]
        if broken_down:
            expected += [(value, False, plain(asked_for, own)) for value, own in ranked[: asked_for.values]]
            if rest := [attempt for _, own in ranked[asked_for.values :] for attempt in own]:
                expected.append((None, True, plain(asked_for, rest)))
        marked = told(history, asked_for, names)
        answer = shape_steps(asked_for, await planned(plan_steps(asked_for, marked, told=broken_down)))
        assert [
            (
                series.value,
                series.others,
                [
                    tuple(said_of(one) if isinstance(one, Durations) else one for one in said_of(step))
                    for step in series.steps
                ],
            )
            for series in answer
        ] == expected
        step = random.randint(1, asked_for.steps)
        own = {person for person, attempt in wanted.items() if attempt.reached >= step}
        assert await people(persons(asked_for, marked, step)) == own
        out = {person for person, attempt in wanted.items() if attempt.reached == step}
        assert await people(persons(asked_for, marked, step, dropped=True)) == out
        some = [value for value, _ in ranked[:1]]
        for others in (False, True):
            named = {
                person
                for person in own
                if ((wanted[person].by_step[asked_for.breakdown_step - 1] or {"path": ""})["path"] in some) != others
            }
            assert await people(persons(asked_for, marked, step, values=some, others=others)) == named


async def people(statement: Sql) -> set[int]:
    rows = await found(sql("SELECT person FROM $persons", persons=statement))
    assert len(rows) == len(set(rows))
    return {person for (person,) in rows}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("to", {"until": BEGAN}),
        ("steps", {"steps": 1}),
        ("steps", {"steps": 21}),
        ("order", {"order": "loose"}),
        ("entry", {"entry": "last"}),
        ("excluded", {"excluded": "keep"}),
        ("window", {"window_ms": 0}),
        ("window", {"window_ms": 366 * DAY + 1}),
        ("breakdown.step", {"breakdown_step": 4}),
        ("breakdown.values", {"values": 0}),
        ("exclusions", {"exclusions": (Excluded(2, 2),)}),
        ("exclusions", {"exclusions": (Excluded(0, 2),)}),
        ("exclusions", {"exclusions": (Excluded(1, 4),)}),
        ("exclusions", {"exclusions": (Excluded(1, 2),), "order": STRICT}),
        ("exclusions", {"exclusions": (Excluded(1, 2),) * 21}),
    ],
)
def test_a_wrong_option_is_named(field, changes):
    right = Funnel(project=1, since=BEGAN, until=BEGAN + 1, steps=3)
    check(right)
    with pytest.raises(QuestionError) as caught:
        check(msgspec.structs.replace(right, **changes))
    assert caught.value.field == field


# Worked examples. A person is a list of (event, time) or of names an hour apart.


async def walked(persons: list, steps: str, exclusions: tuple = (), window: int = DAY, **options) -> list[int]:
    """How many steps each person's attempt reached; 0: did not enter."""
    history = History(next(projects))
    for number, did in enumerate(persons):
        for place, one in enumerate(did):
            name, at = one if isinstance(one, tuple) else (one, place * HOUR)
            history.track(name, user=str(number), at=BEGAN + at)
    await stored(history)
    asked_for = Funnel(
        project=history.project,
        steps=len(steps),
        since=BEGAN,
        until=BEGAN + 30 * DAY,
        window_ms=window,
        exclusions=tuple(Excluded(after, before) for _, after, before in exclusions),
        **options,
    )
    check(asked_for)
    conditions = [asked(name) for name in [*steps, *(name for name, _, _ in exclusions)]]
    marked = happening(asked_for, reading(history), conditions)
    rows = await found(sql("SELECT person, length(at) FROM $attempts", attempts=attempts(asked_for, marked)))
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
    assert await walked(persons, "ABC", (("X", 2, 3),), excluded=LEAVE_OUT) == [0, 3, 3]


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
