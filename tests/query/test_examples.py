"""Worked examples of other tools' documentation, asked as a program asks: retention by mode, funnels by order. The
figures are theirs, and where ours differ, ours stand with the difference. Those of one attempt or birth are in
test_funnel.py and test_retention.py.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from crowd import everyone_of, projects, stored
from histories import History

from pugd import ask
from pugd.journeys import RetentionSeries
from pugd.query import times

UTC = ZoneInfo("UTC")
HOUR = 3_600_000
DAY = 24 * HOUR


def at(said: str) -> int:
    found = times.read(said, UTC)
    assert found is not None
    return found


BEGAN = at("2012-01-02")


def tracked(persons: list[list[tuple[str, int]]]) -> History:
    """Of each person (event, ms after BEGAN)."""
    history = History(next(projects))
    for number, did in enumerate(persons):
        for name, after in did:
            history.track(name, user=f"user-{number}", at=BEGAN + after)
    return history


async def retained(history: History, days: int = 1, now: float = 40, **more: object) -> RetentionSeries:
    """By days, of those born in so many from BEGAN on; asked `now` days after it."""
    everyone, project = await everyone_of(history, now=BEGAN + round(now * DAY), zone=UTC, segments={})
    given = {"start": ask.Selection(event="A"), "returned": ask.Selection(event="B"), "period": "day", "periods": 4}
    question = ask.AskRetention(**{**given, **more}, from_=times.text(BEGAN), to=times.text(BEGAN + days * DAY))  # type: ignore[arg-type]
    return (await everyone.journey(project, question)).series[0]  # type: ignore[union-attr]


def people(series: RetentionSeries) -> list[list[int]]:
    return [[cell.people for cell in cohort.cells] for cohort in series.cohorts]


async def test_mixpanel_counts_are_no_funnel():
    # docs.mixpanel.com/reference/retention-query: of 10 born on 2012-01-02, 9 came back within 24 hours, 7 from 24 to
    # 48, 6 from 48 to 72. Who came in a later interval need not have come in the one before.
    came = {0: range(9), 1: (*range(6), 9), 2: range(3, 9)}
    hours = [[("A", number * HOUR)] for number in range(10)]
    for interval, numbers in came.items():
        for number in numbers:
            hours[number].append(("B", number * HOUR + interval * DAY + 2 * HOUR))
    history = tracked(hours)
    await stored(history)
    on = await retained(history, rolling=True, periods=2)
    assert (on.cohorts[0].size, people(on)) == (10, [[9, 7, 6]])
    # docs.mixpanel.com, Retention, "On or After": whoever comes later counts in each interval until then, too.
    after = await retained(history, rolling=True, periods=2, returns="on_or_after")
    assert people(after) == [[10, 10, 6]]


async def test_amplitude_return_on_and_return_on_or_after():
    # amplitude.com/docs/faq/retention-analysis: a return on day two counts in the points of days one and zero too, by
    # "return on or after"; by "return on" in its own alone. Once a day, however often it happens.
    history = tracked([[("A", 0), ("A", HOUR), ("B", 2 * DAY + HOUR), ("B", 2 * DAY + 2 * HOUR)]])
    await stored(history)
    for rolling in (False, True):
        assert people(await retained(history, rolling=rolling)) == [[0, 0, 1, 0, 0]]
        after = await retained(history, rolling=rolling, returns="on_or_after")
        assert people(after) == [[1, 1, 1, 0, 0]]
        assert after.cohorts[0].size == 1


async def test_amplitude_a_point_is_weighted_by_people_and_of_those_who_have_come_so_far():
    # amplitude.com/docs/faq/retention-analysis: who returned, by all who have reached that day; the day that is not
    # over is not in it. Three began on the first day, one on the second, one on the third, and it is the fourth.
    history = tracked(
        [
            [("A", 0), ("B", DAY), ("B", 2 * DAY)],
            [("A", 1), ("B", DAY + 5)],
            [("A", 2)],
            [("A", DAY), ("B", 3 * DAY)],
            [("A", 2 * DAY), ("B", 3 * DAY)],
        ]
    )
    await stored(history)
    found = await retained(history, days=3, now=3.5, periods=2)
    assert [cohort.size for cohort in found.cohorts] == [3, 1, 1]
    assert people(found)[:2] == [[0, 2, 1], [0, 0, 1]]
    assert [cell.finished for cell in found.cohorts[1].cells] == [True, True, False]
    assert found.average[1:] == [2 / 4, 1 / 3]


async def test_posthog_first_time_and_recurring():
    # posthog.com/docs/product-analytics/retention: first time puts a person into one cohort, that of the first event
    # ever; recurring into that of each period in which it happens.
    history = tracked([[("A", 0), ("A", DAY), ("A", 3 * DAY)], [("A", -DAY), ("A", DAY)]])
    await stored(history)
    same: dict[str, object] = {"days": 4, "returned": None, "periods": 3}
    first = await retained(history, **same, births="first_ever")
    assert [cohort.size for cohort in first.cohorts] == [1, 0, 0, 0]
    assert people(first)[0] == [0, 1, 0, 1]
    recurring = await retained(history, **same, births="recurring")
    assert [cohort.size for cohort in recurring.cohorts] == [1, 2, 0, 1]
    assert people(recurring)[1] == [0, 0, 1, 0]
    in_range = await retained(history, **same, births="first_in_range")
    assert [cohort.size for cohort in in_range.cohorts] == [1, 1, 0, 0]


async def came(names: list[str], steps: str, **more: object) -> list[int]:
    """How many people each step has: persons are names of events, an hour apart."""
    history = tracked([[(name, place * HOUR) for place, name in enumerate(did)] for did in names])
    await stored(history)
    everyone, project = await everyone_of(history, now=BEGAN + 40 * DAY, zone=UTC, segments={})
    asked = ask.AskFunnel(
        steps=tuple(ask.Selection(event=name) for name in steps), from_=times.text(BEGAN),
        to=times.text(BEGAN + DAY), **more,
    )  # type: ignore[arg-type]  # fmt: skip
    return [step.people for step in (await everyone.journey(project, asked)).series[0].steps]  # type: ignore[union-attr]


async def test_amplitude_orders():
    # amplitude.com/docs, How Amplitude computes funnels. "This order" lets other events come between, "exact order"
    # none, "any order" wants all of them. Steps may repeat: A, A, B wants A twice, and B later.
    persons = ["AB", "AXB", "BA", "B", "A"]
    assert await came(persons, "AB") == [4, 2]
    assert await came(persons, "AB", order="strict") == [4, 1]
    # There, who did a later step alone is not in the funnel; here any of the steps is a way in.
    assert await came(persons, "AB", order="any") == [5, 3]
    assert await came(["AAB", "AB", "ABA", "AXAXB"], "AAB") == [4, 3, 2]
    # Four searches and one product added are one conversion.
    assert await came(["AAAAB"], "AB") == [1, 1]
    # By exact order the last search is the one that comes through: here that is what `entry: best` finds.
    assert await came(["AAAAB"], "AB", order="strict") == [1, 0]
    assert await came(["AAAAB"], "AB", order="strict", entry="best") == [1, 1]


async def test_amplitude_a_breakdown_is_of_the_first_step():
    # amplitude.com/docs, How Amplitude handles segmenting on a user property: B in Canada, then A in the United States
    # is a person of the United States.
    history = History(next(projects))
    for name, country, after in (("B", "Canada", 0), ("A", "United States", HOUR), ("B", "Mexico", 2 * HOUR)):
        history.track(name, user="one", at=BEGAN + after, properties=f'{{"country": "{country}"}}')
    await stored(history)
    everyone, project = await everyone_of(history, now=BEGAN + 40 * DAY, zone=UTC, segments={})
    steps = (ask.Selection(event="A"), ask.Selection(event="B"))
    for step, country in ((1, "United States"), (2, "Mexico")):
        asked = ask.AskFunnel(
            steps=steps, breakdown=ask.Breakdown(property="country", step=step), from_=times.text(BEGAN),
            to=times.text(BEGAN + DAY),
        )  # fmt: skip
        series = (await everyone.journey(project, asked)).series  # type: ignore[union-attr]
        found = [(one.value, [each.people for each in one.steps]) for one in series]
        assert found == [(None, [1, 1]), (country, [1, 1])]
