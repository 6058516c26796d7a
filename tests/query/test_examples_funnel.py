"""Funnels as the documentation of Mixpanel, Amplitude and PostHog works them out, and as PostHog's tests do: the worlds
and figures are theirs, and where ours differ, ours stand with the difference. Asked as a program asks. Those of one
attempt are in test_funnel.py.
"""

from __future__ import annotations

import pytest
from worlds import DAY, HOUR, MINUTE, SECOND, told

from pugd import ask
from pugd.journeys import Durations, FunnelSeries
from pugd.question import QuestionError

LEAVE_OUT = {"excluded": "leave_out"}


def line(names: str, value: str = "") -> str:
    """A person who did these, an hour apart; each says the value."""
    return ", ".join(f"{name} ={value}" if value else name for name in names)


def excluding(*those: tuple[str, int, int]) -> dict[str, tuple[ask.Exclusion, ...]]:
    """(event, after which step, before which)"""
    return {"exclusions": tuple(ask.Exclusion(event=name, after=after, before=before) for name, after, before in those)}


def by_value(series: list[FunnelSeries]) -> dict[str | None, list[int]]:
    return {one.value: counts(one) for one in series[1:]}


def counts(one: FunnelSeries) -> list[int]:
    return [step.people for step in one.steps]


def took(one: FunnelSeries) -> list[tuple[float, float] | None]:
    """Average and median from each step to the next, in hours."""
    found: list[Durations | None] = [step.since_previous for step in one.steps[1:]]
    return [each and (each.average / HOUR, each.median / HOUR) for each in found]


# Mixpanel.


async def test_mixpanel_filters_before_and_after():
    # docs.mixpanel.com, Funnels Advanced Concepts, Filters: with a window of an hour, the first view is more than an
    # hour before the rest. A filter on a step takes the view in Safari, and on each step leaves out the purchase, which
    # has no browser. A global filter there is of the funnels that are found, the first of which began in Chrome: here
    # that is the breakdown by step one; `where` beside the range is of every event that is read.
    world = await told("view 0 =Chrome, view 90 =Safari, cart 100 =Safari, buy 110", unit=MINUTE)
    safari = ask.Condition(property="is", value="Safari")
    inline = ask.Selection(event="view", where=safari)
    cart, buy = (ask.Selection(event=name, where=safari) for name in ("cart", "buy"))
    within = {"window": "1 h"}
    assert await world.steps([inline, "cart", "buy"], **within) == [1, 1, 1]
    assert await world.steps([inline, cart, buy], **within) == [1, 1, 0]
    told_apart = await world.funnel(["view", "cart", "buy"], breakdown=ask.Breakdown(property="is"), **within)
    assert (counts(told_apart[0]), by_value(told_apart)) == ([1, 0, 0], {"Chrome": [1, 0, 0]})
    assert await world.steps(["view", "cart", "buy"], where=safari, **within) == [1, 1, 0]


async def test_mixpanel_attribution_by_step():
    # docs.mixpanel.com, Funnels Advanced Concepts, Property Attribution: the first step that says a color says red, the
    # last one blue. Here a step is named.
    world = await told("page, item =red, cart =blue, checkout")
    steps = ["page", "item", "cart", "checkout"]
    for step, value in ((2, "red"), (3, "blue")):
        found = await world.funnel(steps, breakdown=ask.Breakdown(property="is", step=step))
        assert by_value(found) == {value: [1, 1, 1, 1]}, step


async def test_mixpanel_an_exclusion_ends_an_attempt():
    # docs.mixpanel.com, Funnels Advanced Concepts, Exclusion Steps: A, A, A, B with A left out between A and B are two
    # entries and one conversion by "totals". Here each person counts once: by their first entry, or by their best.
    world = await told("A, A, A, B")
    excluded = excluding(("A", 1, 2))
    assert await world.steps("AB", **excluded) == [1, 0]
    assert await world.steps("AB", entry="best", **excluded) == [1, 1]


async def test_mixpanel_the_time_it_takes():
    # docs.mixpanel.com, Funnels Advanced Concepts, Optimized Re-entry, note 4: A, A, A, B within the window took from
    # the first A by default, and from the last by optimized re-entry. Here, of attempts that come as far, the earliest.
    world = await told("A 0, A 1, A 2, B 3")
    for entry in ("first", "best"):
        assert took((await world.funnel("AB", entry=entry))[0]) == [(3, 3)], entry


# Amplitude.


async def test_amplitude_orders():
    # amplitude.com/docs, How Amplitude computes funnels. "This order" lets other events come between, "exact order"
    # none, "any order" wants all of them. Steps may repeat: A, A, B wants A twice, and B later.
    world = await told(*map(line, ["AB", "AXB", "BA", "B", "A"]))
    assert await world.steps("AB") == [4, 2]
    assert await world.steps("AB", order="strict") == [4, 1]
    # There, who did a later step alone is not in the funnel; here any of the steps is a way in.
    assert await world.steps("AB", order="any") == [5, 3]
    world = await told(*map(line, ["AAB", "AB", "ABA", "AXAXB"]))
    assert await world.steps("AAB") == [4, 3, 2]
    # Four searches and one product added are one conversion.
    world = await told(line("AAAAB"))
    assert await world.steps("AB") == [1, 1]
    # By exact order the last search is the one that comes through: here that is what `entry: best` finds.
    assert await world.steps("AB", order="strict") == [1, 0]
    assert await world.steps("AB", order="strict", entry="best") == [1, 1]


async def test_amplitude_a_breakdown_is_of_the_first_step():
    # amplitude.com/docs, How Amplitude handles segmenting on a user property: B in Canada, then A in the United States
    # is a person of the United States.
    world = await told("B =Canada, A =United States, B =Mexico")
    for step, country in ((1, "United States"), (2, "Mexico")):
        found = await world.funnel("AB", breakdown=ask.Breakdown(property="is", step=step))
        assert by_value(found) == {country: [1, 1]}


async def test_amplitude_first_touch():
    # amplitude.com/docs, How Amplitude computes conversions through funnels, scenario 2: who sees landing page A and
    # then B belongs to A, whether they register or not; nobody is of B.
    world = await told("see 0 =A, join 1", "see 0 =A, see 1 =B, join 2", "see 0 =A, see 1 =B")
    found = await world.funnel(["see", "join"], breakdown=ask.Breakdown(property="is"))
    assert by_value(found) == {"A": [3, 2]}


async def test_amplitude_conversion_over_time():
    # amplitude.com/docs/faq/funnel-analysis: step one on 1, 5 and 20 January, step two on 2 and 6 January. Over the
    # month the user has converted; over time, on the 1st and the 5th, and not on the 20th: here each day is asked of.
    world = await told("A 0, B 1, A 4, B 5, A 19", began="2024-01-01T12:00", unit=DAY)
    assert await world.steps("AB", **world.range("2024-01-01", "2024-02-01")) == [1, 1]
    for day, converted in ((1, 1), (5, 1), (20, 0)):
        one = world.range(f"2024-01-{day:02}", f"2024-01-{day + 1:02}")
        assert await world.steps("AB", **one) == [1, converted], day


async def test_amplitude_a_user_counts_once():
    # amplitude.com/docs, Hold properties constant: who comes through ten times, with ten items, counts once, and ten
    # times with the item held constant. Here people are counted, never pairs; one item is asked of by `where`.
    times = ", ".join(f"view ={item}, cart ={item}, buy ={item}" for item in range(10))
    world = await told(times, "view =0, cart =1, buy =0")
    assert await world.steps(["view", "cart", "buy"]) == [2, 2, 2]
    item = ask.Condition(property="is", value="0")
    assert await world.steps(["view", "cart", "buy"], where=item) == [2, 1, 1]


# PostHog/posthog, posthog/hogql_queries/insights/funnels/test; and posthog.com/docs/product-analytics/funnels.


async def test_posthog_conversion_times():
    # conversion_time_cases.py, test_funnel_step_conversion_times: averages of 6000 and 5400 seconds, medians of 7200
    # and 5400; each from the step before.
    world = await told("A 12, B 13, C 15", "A 38, B 40", "A 38, B 40, C 41", began="2020-01-01")
    found = (await world.funnel("ABC", window="7 d"))[0]
    assert counts(found) == [3, 3, 2]
    assert took(found) == [(pytest.approx(6000 / 3600), 2), (1.5, 1.5)]


async def test_posthog_windows():
    # conversion_time_cases.py, test_funnel_times_with_different_conversion_windows: within 14 days 2 of 3, after 600
    # seconds on average, and within 5 minutes one of them, after just 300.
    world = await told("A 0, B 5", "A 3", "A -120, B -105", unit=MINUTE, began="2020-01-02T14:00")
    for window, converted, minutes in (("14 d", 2, 10), ("5 m", 1, 5)):
        found = (await world.funnel("AB", window=window, **world.range("2020-01-01", "2020-01-15")))[0]
        assert counts(found) == [3, converted]
        assert took(found) == [(minutes / 60, minutes / 60)]
    # test_funnel_conversion_window and test_funnel_conversion_window_seconds: 10 in time and 15 not.
    for unit, window, soon, late in ((DAY, "7 d", 1, 9), (SECOND, "15 s", 10, 20)):
        world = await told(*[f"A 0, B {soon}"] * 10, *[f"A 0, B {late}"] * 15, unit=unit, began="2021-05-01")
        assert await world.steps("ABC", window=window) == [25, 10, 0]


async def test_posthog_later_tries_that_come_less_far():
    # conversion_time_cases.py, test_funnel_with_multiple_incomplete_tries: the first came through, an hour a step; two
    # later ones did not, and count for nothing.
    world = await told("A 1, B 2, C 3, A 52, B 53, A 79, B 82", began="2021-05-01")
    for entry in ("first", "best"):
        found = (await world.funnel("ABC", window="1 d", entry=entry))[0]
        assert counts(found) == [1, 1, 1]
        assert took(found) == [(1, 1), (1, 1)]


async def test_posthog_strict_order():
    # test_funnel_strict.py, test_basic_strict_funnel: signed up, page seen, insight viewed, with nothing between; and
    # test_strict_breakdown_events_with_multiple_properties, by browser.
    basic = ["A", "BA", "ABXC", "CXBA", "BAXBC", "XAXB", "XABCX", "CB"]
    world = await told(*(line(one, "basic") for one in basic), line("AXB", "Chrome"), line("AB", "Safari"))
    found = await world.funnel("ABC", order="strict", breakdown=ask.Breakdown(property="is"))
    assert by_value(found) == {"basic": [7, 2, 1], "Chrome": [1, 0, 0], "Safari": [1, 1, 0]}
    assert await world.who(found[1].steps[1].token) == ["3", "7"]


async def test_posthog_any_order():
    # test_funnel_unordered.py, test_big_multi_step_unordered_funnel: step n is who did n of them.
    world = await told(*map(line, ["A", "BD", "ABXC", "CDA", "BADC", "XC", "BX", "CB"]))
    assert await world.steps("ABCD", order="any") == [8, 5, 3, 1]
    # test_basic_unordered_funnel_conversion_times: 5400 and 7200 seconds; the second time around counts for nothing.
    world = await told("A 0", "B 0, A 1", "C 0, A 2, B 4, B 24, C 27, A 30", began="2021-05-02")
    found = (await world.funnel("ABC", order="any", window="1 d"))[0]
    assert counts(found) == [3, 2, 1]
    assert took(found) == [(1.5, 1.5), (2, 2)]
    # test_funnel_exclusions_full_window: there an exclusion goes with any order; here it does not.
    with pytest.raises(QuestionError) as caught:
        await world.steps("AB", order="any", **excluding(("X", 1, 2)))
    assert caught.value.field == "exclusions"


async def test_posthog_repeated_steps():
    # test_funnel.py, test_advanced_funnel_with_repeat_steps and …_out_of_order_events
    persons = {"": ["A", "AB", "ABXB", "ABXBBX", "ABBBB"], "out": ["BA", "AB", "BAXB", "XBXBAB", "ABXBBB", "BXBBB"]}
    world = await told(*(line(one, value) for value, those in persons.items() for one in those))
    found = await world.funnel("ABBBB", breakdown=ask.Breakdown(property="is"))
    assert by_value(found) == {"": [5, 4, 3, 2, 1], "out": [5, 4, 1, 1, 1]}
    # test_same_event_same_timestamp: twenty at once are one entry.
    world = await told(", ".join([*["A 0"] * 20, "B 24"]))
    assert await world.steps("AB") == [1, 1]
    # Docs, Duplicate steps: a click, and a click on "Sign Up", are two clicks.
    clicks = ["click", ask.Selection(event="click", where=ask.Condition(property="is", value="Sign Up"))]
    world = await told("click =Sign Up", "click =Sign Up, click =Sign Up", "click =Next, click =Sign Up")
    assert await world.steps(clicks) == [3, 2]


async def test_posthog_exclusions_leave_out_whoever_did_it():
    # test_funnel.py, test_funnel_exclusions_full_window: 2 and 2; by `excluded: drop`, as in Mixpanel, they entered.
    world = await told("A, B", "A 0, X 0.5, B 1", "A, B")
    assert await world.steps("AB", **excluding(("X", 1, 2)), **LEAVE_OUT) == [2, 2]
    assert await world.steps("AB", **excluding(("X", 1, 2))) == [3, 2]
    # test_funnel_exclusion_no_end_event: within the window it counts though nothing came after it, and later not.
    world = await told("A 0 =1, B 1", "A 0 =2, X 0.5, B 1", "A 0 =3, X 1", "A 0 =4, X 25")
    asked = {"window": "1 d", "breakdown": ask.Breakdown(property="is"), **excluding(("X", 1, 2)), **LEAVE_OUT}
    assert by_value(await world.funnel("AB", **asked)) == {"1": [1, 1], "4": [1, 0]}


async def test_posthog_exclusions_between_steps():
    # test_funnel.py, test_advanced_funnel_exclusions_between_steps, by who is left
    persons = ["A 1 =1, B 2, X 3, C 4, X 4.5, D 5, X 5.5, E 6", "A 1 =2, B 2, C 4, X 4.5, D 5, X 5.5, E 6",
               "A 1 =3, X 1.5, B 2, C 4, D 5, X 5.5, E 6"]  # fmt: skip
    world = await told(*persons)
    for after, before, left in ((1, 2, "12"), (4, 5, ""), (2, 4, "3")):
        asked = {"breakdown": ask.Breakdown(property="is"), **excluding(("X", after, before)), **LEAVE_OUT}
        assert by_value(await world.funnel("ABCDE", **asked)) == {who: [1] * 5 for who in left}, (after, before)
    # test_advanced_funnel_multiple_exclusions_between_steps: the fourth alone did neither.
    persons = ["A 1, X 2, B 3, C 4, Y 4.5, D 5, E 6", "A 1, Y 1.5, B 2, C 4, Y 4.5, D 5, X 5.5, E 6",
               "A 1, X 1.5, B 2, C 4, D 5, X 5.5, E 6", "A 1, B 2, C 4, D 5, E 6"]  # fmt: skip
    world = await told(*persons)
    assert await world.steps("ABCDE", **excluding(("X", 1, 2), ("Y", 3, 4)), **LEAVE_OUT) == [1] * 5


async def test_posthog_exclusions_in_several_tries():
    # test_funnel.py, test_funnel_exclusion_multiple_possible_no_end_event1, 2 and 3, within ten seconds: of several
    # tries one that did not meet it counts. Here that is `entry: best`; by the first entry the first one is spoilt.
    world = await told("A 0 =1, X 1, A 31 =1", "A 0 =2, A 31 =2, X 32", "A 0 =3, A 1 =3, X 2", unit=SECOND)
    for entry, left in (("first", "2"), ("best", "12")):
        asked = {"window": "10 s", "entry": entry, **excluding(("X", 1, 2)), **LEAVE_OUT}
        found = await world.funnel("AB", breakdown=ask.Breakdown(property="is"), **asked)
        assert by_value(found) == {who: [1, 0] for who in left}, entry


async def test_posthog_attribution():
    # breakdown_cases.py, test_funnel_step_breakdown_with_first_touch_attribution, …_last_touch_…: there the first or
    # the last value that any step says. Here a step is named, and who says nothing there has the value "".
    # (Docs, Attribution types: of the last, Chrome is the first touchpoint and Firefox the last.)
    world = await told(
        "A =Chrome, B", "A, B =Safari", "A =Mac, B", "A =0, B =alakazam", "A, B", "A =Chrome, B =Firefox"
    )
    one, two = [
        by_value(await world.funnel("AB", breakdown=ask.Breakdown(property="is", step=step))) for step in (1, 2)
    ]
    assert one == {"": [2, 2], "Chrome": [2, 2], "Mac": [1, 1], "0": [1, 1]}
    assert two == {"": [3, 3], "Safari": [1, 1], "alakazam": [1, 1], "Firefox": [1, 1]}
    # All steps: there the person is in Chrome with three steps and in Firefox with one. Here nobody is counted twice in
    # one funnel; each browser is asked of by itself.
    world = await told("see =Chrome, see =Firefox, join =Chrome, post =Chrome, post =Firefox")
    for browser, steps in (("Chrome", [1, 1, 1]), ("Firefox", [1, 0, 0])):
        only = ask.Condition(property="is", value=browser)
        assert await world.steps(["see", "join", "post"], where=only) == steps


async def test_posthog_the_first_occurrence_that_meets_the_filters():
    # Docs, Filtering for first occurrence: who sees /pricing first, and /about later. By the first occurrence that
    # meets the filters /about is the step: so it is here, always.
    about = ask.Selection(event="see", where=ask.Condition(property="is", value="/about"))
    world = await told("see =/pricing, see =/about, join", "see =/pricing, join")
    assert await world.steps([about, "join"]) == [1, 1]
