"""Trends, sessions and paths as the documentation of Mixpanel, Amplitude and PostHog works them out, and as PostHog's
tests do: the worlds and figures are theirs, and where ours differ, ours stand with the difference. Asked as a program
asks.
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from crowd import everyone_of, projects, stored
from histories import History
from worlds import DAY, HOUR, MINUTE, UTC, World, at, told

from pugd import ask
from pugd.journeys import FlowFound, SessionsCell, TrendSeries
from pugd.question import QuestionError


async def trend(
    world: World, since: float | str, until: float | str, interval: str | None, **series: str
) -> TrendSeries:
    asked = ask.AskTrend(series=(ask.Series(**series),), interval=interval, **world.range(since, until))
    return (await world.ask(asked)).series[0]


async def active(world: World, day: str, days: int) -> float | None:
    """The people of so many days, the last of which is this one."""
    last = date.fromisoformat(day)
    since, until = last - timedelta(days=days - 1), last + timedelta(days=1)
    return (await trend(world, since.isoformat(), until.isoformat(), None, measure="people")).total.value


# Trends.


async def test_amplitude_days_add_up_to_more_than_the_month():
    # amplitude.com/docs/faq/event-segmentation: A on 2 and on 6 November is two in a line of days, and one in the bar.
    world = await told("A 1, A 5", began="2024-11-01", unit=DAY)
    found = await trend(world, "2024-11-01", "2024-12-01", "day", event="A", measure="people")
    assert (sum(point.value or 0 for point in found.points), found.total.value) == (2, 1)
    assert [place for place, point in enumerate(found.points, 1) if point.value] == [2, 6]


async def test_amplitude_an_average_is_of_those_who_did_it():
    # amplitude.com/docs, Choose the right measurement, Average: once, twice and never are 1.5.
    world = await told("A", "A, A", "B")
    assert (await trend(world, 0, 24, None, event="A", measure="per_person")).total.value == 1.5


async def test_mixpanel_a_funnel_is_no_count_of_events():
    # docs.mixpanel.com, Funnels FAQ: A, A, B enters once, and did A twice.
    world = await told("A, A, B")
    assert await world.steps("AB") == [1, 1]
    assert (await trend(world, 0, 24, None, event="A", measure="events")).total.value == 2


async def test_mixpanel_uniques_by_segment():
    # docs.mixpanel.com, Insights, How do breakdowns work with Uniques: who saw two pages is in both segments, and once
    # in all.
    world = await told("see =home, see =shop", "see =home", "see =shop")
    asked = ask.AskTrend(
        series=(ask.Series(event="see", measure="people"),),
        interval=None,
        breakdown=ask.Breakdown(property="is"),
        **world.range(0, 24),
    )
    found = (await world.ask(asked)).series
    assert {one.value: one.total.value for one in found} == {None: 3, "home": 2, "shop": 2}


async def test_mixpanel_active_in_the_last_30_days():
    # docs.mixpanel.com, Insights, Example of MAU: December's counts 2 to 31 December; 1 November's 3 October to 1
    # November; that of the week until 3 December 4 November to 3 December. Here each is a range, asked as a whole.
    watched = ["2023-10-02", "2023-10-03", "2023-11-01", "2023-11-03", "2023-11-04", "2023-12-01", "2023-12-02"]
    began = "2023-10-01"
    world = await told(*(f"watch {(at(day) - at(began)) // DAY}" for day in watched), began=began, unit=DAY)
    assert await active(world, "2023-12-31", 30) == 1
    assert await active(world, "2023-11-01", 30) == 2
    assert await active(world, "2023-12-03", 30) == 3


async def test_posthog_weekly_active_users():
    # PostHog/posthog, TestPersonIntegration, test_weekly_active_users and …_grouped_by_week: one person each on 10 to
    # 17 September; weekly active on the 22nd are 2, and on the 17th 7. Here each is a range, asked as a whole.
    world = await told(*(f"A {day}" for day in range(8)), began="2023-09-10", unit=DAY)
    assert await active(world, "2023-09-22", 7) == 2
    assert await active(world, "2023-09-17", 7) == 7


async def test_posthog_numbers_of_a_property():
    # PostHog/posthog, test_trends.py, test_sum_filtering … test_p99_filtering, …_avg_filtering_non_number_resiliency:
    # what is no number counts for nothing. (The quantiles there are near enough by half; here exact, between two
    # numbers in proportion.)
    few = {"sum": 18, "average": 4.5, "min": 2, "max": 7.5}
    many = {"median": 150.5, "p90": 190.1, "p95": 195.05, "p99": 199.01}
    world = await told(
        "A 0 #2, A 0 #3, A 0 #5.5, A 0 #7.5, A 0", ", ".join(f"B 0 #{number}" for number in range(101, 201)),
        "C 0 #2, C 0 =x, C 0, C 0 #8",
    )  # fmt: skip
    wanted = [("A", *one) for one in few.items()] + [("B", *one) for one in many.items()] + [("C", "average", 5)]
    asked = ask.AskTrend(
        series=tuple(ask.Series(event=event, measure=measure, of="is") for event, measure, _ in wanted),
        interval=None,
        **world.range(0, 1),
    )
    found = (await world.ask(asked)).series
    assert [round(one.total.value, 6) for one in found] == [value for _, _, value in wanted]


async def test_posthog_movies_by_whom():
    # PostHog/posthog, test_trends.py, test_breakdown_by_cohort and test_breakdown_by_person_property, as people
    world = await told("A 12", "A 12, A 36, A 36", "A 12, A 36, A 60", "A 108", began="2020-01-01")
    for ids, watched in ((("1",), 1), (("2",), 3), (("1", "2"), 4), (None, 7)):
        asked = ask.AskTrend(
            series=(ask.Series(event="A"),),
            where=None if ids is None else ask.Condition(ids=ids),
            **world.range("2019-12-21", "2020-01-05"),
        )
        assert (await world.ask(asked)).series[0].total.value == watched
    top = ask.AskTop(by=ask.Breakdown(person=True), **world.range("2019-12-21", "2020-01-05"))
    assert [row.total.value for row in (await world.ask(top)).rows] == [7, 3, 3, 1]


# Sessions.


async def sessions(world: World, since: float | str, until: float | str) -> SessionsCell:
    return (await world.ask(ask.AskSessions(**world.range(since, until)))).series[0].total


async def test_mixpanel_sessions_end_after_30_minutes():
    # docs.mixpanel.com, Sessions, Timeout-Based Sessions, example 1: of 10 and of 35 minutes
    world = await told("A 13:00, B 13:10, C 13:50, D 14:10, E 14:25")
    found = await sessions(world, 0, 24)
    assert (found.sessions, found.events, found.duration and found.duration.average) == (2, 5, 22.5 * MINUTE)
    # Example 2: there midnight ends a session, and these are one of 20 minutes and one of 5. Here it is one session of
    # 40 minutes, of the day that it begins in.
    world = await told("A 23:30, B 23:50, C 24:05, D 24:10", began="2024-05-17")
    found = await sessions(world, "2024-05-17", "2024-05-18")
    assert (found.sessions, found.duration and found.duration.average) == (1, 40 * MINUTE)
    assert (await sessions(world, "2024-05-18", "2024-05-19")).sessions == 0


async def test_mixpanel_a_session_has_24_hours_at_most():
    # docs.mixpanel.com, Sessions: notifications every 25 minutes, with a timeout of 30, are sessions of a whole day.
    world = await told(", ".join(f"A {25 * number}" for number in range(60)), unit=MINUTE)
    found = await sessions(world, 0, 60 * 25)
    assert (found.sessions, found.events) == (2, 60)
    assert found.duration is not None
    assert found.duration.average == (57 + 1) / 2 * 25 * MINUTE  # 23:45 hours, and what is left


async def test_sessions_by_the_clients_id():
    # docs.mixpanel.com, Sessions, Property-Based Sessions. Example 2: 123 of no length and 456 of an hour. Example 1:
    # 456 from 23:15 to 00:30 is two there, of 30 and 15 minutes, by midnight; here one, never cut.
    # amplitude.com/docs, Track sessions: from 17 May 20:00 to 18 May 01:30 it is of the 17th, and a range that begins
    # on the 18th does not have it. What a server sends without a session id is of none.
    # posthog.com/docs/data/sessions: Chrome and Firefox are two sessions, at the same time.
    history = History(next(projects))
    began = at("2024-05-17")
    for user, device, session_id, platform, *minutes in (
        ("one", "", "123", "web", 11 * 60),
        ("one", "", "456", "web", 11 * 60 + 15, 11 * 60 + 45, 12 * 60 + 15),
        ("two", "", "456", "web", 23 * 60 + 15, 23 * 60 + 45, 24 * 60 + 15, 24 * 60 + 30),
        ("three", "", "789", "web", 20 * 60, 25 * 60 + 30),
        ("four", "", "", "server", 9 * 60),
        ("five", "chrome", "", "web", 10 * 60, 10 * 60 + 20),
        ("five", "firefox", "", "web", 10 * 60 + 10),
    ):
        for after in minutes:
            assert isinstance(after, int)
            history.track(
                "A", user=user, anonymous=device, at=began + after * MINUTE, session_id=session_id,
                properties=f'{{"is": "{user}"}}',
            )  # fmt: skip
            history.world.events[-1]["platform"] = platform
    await stored(history)
    everyone, project = await everyone_of(history, now=began + 30 * DAY, zone=UTC, segments={})
    world = World(everyone, project, began, HOUR)
    asked = ask.AskSessions(breakdown=ask.Breakdown(property="is"), **world.range("2024-05-17", "2024-05-18"))
    found = {
        one.value: (one.total.sessions, one.total.duration.average / MINUTE)
        for one in (await world.ask(asked)).series[1:]
    }
    assert found == {"one": (2, 30), "two": (1, 75), "three": (1, 330), "five": (2, 10)}
    assert (await sessions(world, "2024-05-18", "2024-05-19")).sessions == 0


# Paths.


async def paths(world: World, of: str, **more: object) -> FlowFound:
    asked = ask.AskFlow(of=ask.Selection(event=of), **more, **world.range(0, 30 * DAY / world.unit))
    return (await world.ask(asked)).flow


def drawn(found: FlowFound) -> list[dict[tuple[str | None, str | None], int]]:
    """Each step's links; the first step's from what was asked about."""
    first, *rest = found.steps
    return [
        {(None, node.event): node.people for node in first.nodes},
        *({(link.before, link.after): link.people for link in step.links} for step in rest),
    ]


async def test_posthog_paths_from_a_point():
    # PostHog/posthog, test_paths_query_runner.py, test_paths_start: pages, from /pricing and from /. One person's pages
    # come by two ids. (There a slash at the end is nothing.)
    world = await told(
        "see =/, see =/about", "see =/, see =/pricing, see =/about", "see =/pricing, see =/, see =/about",
        "see =/, see =/pricing", "see =/pricing, ~see =/about, see =/pricing, click =/, ~see =/help", unit=MINUTE,
    )  # fmt: skip

    async def pages(begin: str, **more: object) -> FlowFound:
        of = ask.Selection(event="see", where=ask.Condition(property="is", value=begin))
        seen = ask.Condition(field="event", value="see")
        asked = ask.AskFlow(of=of, where=seen, by=ask.Named(property="is"), **more, **world.range(0, 24))  # type: ignore[arg-type]
        return (await world.ask(asked)).flow

    found = await pages("/pricing", steps=3)
    assert drawn(found) == [
        {(None, "/about"): 2, (None, "/"): 1},
        {("/", "/about"): 1, ("/about", "/pricing"): 1},
        {("/pricing", "/help"): 1},
    ]
    assert (found.people, found.steps[0].ended) == (4, 1)
    assert await world.who(found.steps[0].nodes[0].token) == ["2", "5"]
    assert drawn(await pages("/", steps=2)) == [
        {(None, "/about"): 2, (None, "/pricing"): 2},
        {("/pricing", "/about"): 1},
    ]
    for wrong, field in ((ask.Named(), "by"), (ask.Named(property="is", field="path"), "by"),
                         (ask.Named(field="shoe"), "by.field")):  # fmt: skip
        with pytest.raises(QuestionError) as caught:
            await world.ask(ask.AskFlow(by=wrong, **world.range(0, 24)))
        assert caught.value.field == field


async def test_posthog_paths_of_events():
    # test_custom_event_paths: from what came first 2 went on to the second, and 1 to the third.
    world = await told("e1, e3", "e1, e2, e3", "e2, e1", "e1, e2", unit=MINUTE)
    found = await paths(world, "e1", steps=2)
    assert drawn(found) == [{(None, "e2"): 2, (None, "e3"): 1}, {("e2", "e3"): 1}]


async def test_posthog_a_path_is_a_person():
    # test_paths_in_window: there the second day's visit is a path of its own, and the step counts twice; its paths end
    # after 30 minutes. Here a person is in it once, by the first time, and 30 minutes are a window.
    world = await told("home 25, about 30, home 1465, about 1470", unit=MINUTE, began="2020-04-14T03:00")
    assert drawn(await paths(world, "home", steps=1, window="30 m")) == [{(None, "about"): 1}]
    assert (await paths(world, "home", steps=2, window="30 m")).steps[1].ended == 1
    assert drawn(await paths(world, "home", steps=2))[1] == {("about", "home"): 1}


async def test_amplitude_repeated_events_may_be_one():
    # amplitude.com/docs, Journeys: repeated events may be collapsed; by uniques each user counts by their first path.
    world = await told("open, search, search, search, buy", "open, buy, open, search", unit=MINUTE)
    assert drawn(await paths(world, "open", steps=2)) == [
        {(None, "buy"): 1, (None, "search"): 1},
        {("buy", "open"): 1, ("search", "search"): 1},
    ]
    assert drawn(await paths(world, "open", steps=2, merge_repeats=True)) == [
        {(None, "buy"): 1, (None, "search"): 1},
        {("buy", "open"): 1, ("search", "buy"): 1},
    ]
