"""Retention as the documentation of Mixpanel, Amplitude and PostHog works it out, and as PostHog's tests do: the worlds
and figures are theirs, and where ours differ, ours stand with the difference. Asked as a program asks. Those of one
birth are in test_retention.py.
"""

from __future__ import annotations

from datetime import date

from worlds import DAY, cells, rows, table, told

from pugd import ask

RECURRING = {"births": "recurring"}
FIRST = {"births": "first_in_range"}
BOTH_WAYS = ({"rolling": False}, {"rolling": True})


# Mixpanel.


async def test_mixpanel_counts_are_no_funnel():
    # docs.mixpanel.com/reference/retention-query: of 10 born on 2012-01-02, 9 came back within 24 hours, 7 from 24 to
    # 48, 6 from 48 to 72. Who came in a later interval need not have come in the one before.
    came = {0: range(9), 1: (*range(6), 9), 2: range(3, 9)}
    persons = [
        ", ".join([f"A {number}", *(f"B {number + 24 * day + 2}" for day, those in came.items() if number in those)])
        for number in range(10)
    ]
    world = await told(*persons, began="2012-01-02")
    asked = {"rolling": True, "periods": 2}
    on = await world.retention("A", "B", 0, 24, **asked)
    assert (on.cohorts[0].size, cells(on)) == (10, [[9, 7, 6]])
    # docs.mixpanel.com, Retention, "On or After": whoever comes later counts in each interval until then, too.
    assert cells(await world.retention("A", "B", 0, 24, returns="on_or_after", **asked)) == [[10, 10, 6]]


async def test_mixpanel_calendar_and_rolling():
    # docs.mixpanel.com, Retention, Calendar Retention Mode: Monday 20:00 and Tuesday 06:00 are a day apart by the
    # calendar, Friday and Monday a week, 25 February and 3 March a month; by rolling intervals each is in interval 0,
    # whose day 1 is 24 to 48 hours, week 1 is 7 to 14 days, month 1 is 30 to 60 days.
    for period, began, returns, rolling, calendar in (
        ("day", "2024-02-19T20:00", (10 / 24, 1, 47.9 / 24, 2), [1, 2, 1], [0, 2, 2]),
        ("week", "2024-02-23", (3, 7, 13.9, 14), [1, 2, 1], [0, 2, 2]),
        ("month", "2024-02-25", (7, 29.9, 30, 59.9, 60), [2, 2, 1], [0, 3, 2]),
    ):
        world = await told(*(f"A 0, B {after}" for after in returns), began=began, unit=DAY)
        for rolls, expected in ((True, rolling), (False, calendar)):
            found = await world.retention("A", "B", 0, 0.1, period=period, periods=2, rolling=rolls)
            assert cells(found) == [expected], (period, rolls)


async def test_mixpanel_a_customer_may_be_in_every_bucket():
    # docs.mixpanel.com, Retention, User Cohort Buckets: who buys every week is in the bucket of each week, once,
    # however often they buy in it.
    world = await told("buy 0, buy 0.5, buy 7, buy 14, buy 15, buy 21", "buy 0", began="2024-01-01", unit=DAY)
    found = await world.retention("buy", None, 0, 28, period="week", **RECURRING)
    assert [cohort.size for cohort in found.cohorts] == [2, 1, 1, 1]
    # Each person once in all: first_in_range.
    found = await world.retention("buy", None, 0, 28, period="week", **FIRST)
    assert [cohort.size for cohort in found.cohorts] == [2, 0, 0, 0]


async def test_mixpanel_an_average_is_weighted_twice_there():
    # docs.mixpanel.com, Retention, How is the "Average" row calculated (a hundredth of its people): of 10 who came on
    # 1 March 5 returned, of 5 on 2 March 4; of 7 on 3 March 1 so far, whose day is not over. There each is weighted by
    # its size, and a rate of weighted counts is 56 %; here, all who returned by all who could: 9 of 15. Both leave out
    # the day that is not over.
    born = [(0, 10, 5), (1, 5, 4), (2, 7, 1)]
    persons = [
        f"A {day + 0.01}" + (f", B {day + 1.02}" if number < back else "")
        for day, size, back in born
        for number in range(size)
    ]
    world = await told(*persons, began="2024-03-01", unit=DAY, now="2024-03-04T12:00")
    found = await world.retention("A", "B", 0, 3, periods=1)
    assert rows(found) == [[10, 5], [5, 4], [7, 1]]
    assert [cohort.cells[1].finished for cohort in found.cohorts] == [True, True, False]
    assert found.average[1] == 9 / 15
    theirs = (5 * 10 / 15 + 4 * 5 / 15) / (10 * 10 / 15 + 5 * 5 / 15)
    assert round(theirs, 2) == 0.56


# Amplitude.


async def test_amplitude_return_on_and_return_on_or_after():
    # amplitude.com/docs/faq/retention-analysis: a return on day two counts in the points of days one and zero too, by
    # "return on or after"; by "return on" in its own alone. Once a day, however often it happens.
    world = await told("A 0, A 1, B 49, B 50", began="2012-01-02")
    for way in BOTH_WAYS:
        assert cells(await world.retention("A", "B", 0, 24, periods=4, **way)) == [[0, 0, 1, 0, 0]]
        after = await world.retention("A", "B", 0, 24, periods=4, returns="on_or_after", **way)
        assert cells(after) == [[1, 1, 1, 0, 0]]
        assert after.cohorts[0].size == 1


async def test_amplitude_a_point_is_weighted_by_people_and_of_those_who_have_come_so_far():
    # amplitude.com/docs/faq/retention-analysis: who returned, by all who have reached that day; the day that is not
    # over is not in it. Three began on the first day, one on the second, one on the third, and it is the fourth.
    persons = ["A 0, B 1, B 2", "A 0.1, B 1.1", "A 0.2", "A 1, B 3", "A 2, B 3"]
    world = await told(*persons, began="2012-01-02", unit=DAY, now="2012-01-05T12:00")
    found = await world.retention("A", "B", 0, 3, periods=2)
    assert [cohort.size for cohort in found.cohorts] == [3, 1, 1]
    assert cells(found)[:2] == [[0, 2, 1], [0, 0, 1]]
    assert [cell.finished for cell in found.cohorts[1].cells] == [True, True, False]
    assert found.average[1:] == [2 / 4, 1 / 3]


async def test_amplitude_who_has_not_reached_a_day_is_not_asked_about_it():
    # amplitude.com/docs/faq/retention-analysis, Why does the denominator change: A begins on 20 March and returns on
    # the next two days, B begins on the 21st. On the 22nd both are of day 0, and A alone is of day 1.
    world = await told("open 0, buy 1, buy 2", "open 1", began="2024-03-20T09:00", unit=DAY, now="2024-03-22T21:00")
    found = await world.retention("open", "buy", "2024-03-20", "2024-03-22", periods=2)
    assert [[cell.finished for cell in cohort.cells] for cohort in found.cohorts] == [
        [True, True, False],
        [True, False],
    ]
    assert found.average == [0, 1, None]
    assert cells(found) == [[0, 1, 1], [0, 0]]


async def test_amplitude_days_weeks_and_months_of_24_hours_and_of_the_calendar():
    # amplitude.com/docs, How time works in a retention analysis. By windows of 24 hours user 2 is of week 0 and user 3
    # of month 0; by the calendar user 1 is of day 1, user 2 of week 1, user 3 of month 0. User 1 is of day 1 by windows
    # too there, since hours are rounded down: 17:59 to 17:00 the next day is a minute short of 24 hours here.
    # Their first and second events are A and A, B and B, C and C.
    world = await told("A 17:59, A 41:00", "B 12:00, B 132:00", "C 132:00, C 276:00", began="2021-12-01")
    for period, user, windows, calendar in (("day", "A", 0, 1), ("week", "B", 0, 1), ("month", "C", 0, 0)):
        for rolling, falls in ((True, windows), (False, calendar)):
            asked = {"period": period, "rolling": rolling, "periods": 1}
            found = await world.retention(user, None, "2021-12-01", "2021-12-07", **asked)
            assert [place for cohort in found.cohorts for place, cell in enumerate(cohort.cells) if cell.people] == [
                falls
            ], (period, rolling)


async def test_amplitude_a_user_of_two_days_is_one_user():
    # amplitude.com/docs/faq/retention-analysis: who starts on 17 and on 18 July is in both days, and once in all.
    world = await told("A 0, A 1", "A 0", began="2024-07-17", unit=DAY)
    found = await world.retention("A", None, 0, 2, **RECURRING)
    assert [cohort.size for cohort in found.cohorts] == [2, 1]
    found = await world.retention("A", None, 0, 2, **FIRST)
    assert sum(cohort.size for cohort in found.cohorts) == 2


# PostHog. Its first column is everybody who began: `rows`.


async def test_posthog_first_time_and_recurring():
    # posthog.com/docs/product-analytics/retention: first time puts a person into one cohort, that of the first event
    # ever; recurring into that of each period in which it happens.
    world = await told("A 0, A 1, A 3", "A -1, A 1", began="2012-01-02", unit=DAY)
    first = await world.retention("A", None, 0, 4, periods=3)
    assert [cohort.size for cohort in first.cohorts] == [1, 0, 0, 0]
    assert cells(first)[0] == [0, 1, 0, 1]
    recurring = await world.retention("A", None, 0, 4, periods=3, **RECURRING)
    assert [cohort.size for cohort in recurring.cohorts] == [1, 2, 0, 1]
    assert cells(recurring)[1] == [0, 0, 1, 0]
    in_range = await world.retention("A", None, 0, 4, periods=3, **FIRST)
    assert [cohort.size for cohort in in_range.cohorts] == [1, 1, 0, 0]


async def test_posthog_days():
    # PostHog/posthog, test_retention_query_runner.py, test_day_interval and test_retention_people_in_period. One of the
    # first person's events on day 5 comes by another id.
    persons = ["A 0.2, A 1.2, A 2.2, A 5.2, ~A 5.4, A 6.2", "A 1.2, A 2.2, A 3.2, A 6.2"]
    world = await told(*persons, unit=DAY, now="2020-06-20T06:00")
    found = await world.retention("A", None, 0, 11, periods=10, **RECURRING)
    assert rows(found) == table(
        "1 1 1 0 0 1 1 0 0 0 0 / 2 2 1 0 1 2 0 0 0 0 / 2 1 0 1 2 0 0 0 0 / 1 0 0 1 0 0 0 0 / 0 0 0 0 0 0 0"
        " / 1 1 0 0 0 0 / 2 0 0 0 0 / 0 0 0 0 / 0 0 0 / 0 0 / 0"
    )
    assert found.cohorts[5].cells[0].people == 1  # the second event of that day is a return within it
    assert await world.who(found.cohorts[2].cells[4].token) == ["1", "2"]
    assert await world.who(found.cohorts[3].token) == ["2"]


async def test_posthog_weeks():
    # test_interval_rounding: weeks from Sunday there, and from Monday here; these events fall alike.
    world = await told("A 0, A 1, A 7, A 14, A 24, A 31", "A 0, A 1, A 7, A 24, A 31, A 45", unit=DAY, now="2020-07-26")
    found = await world.retention("A", None, -2, 46, period="week", periods=6, **RECURRING)
    assert rows(found)[:7] == table("2 2 1 2 2 0 1 / 2 1 2 2 0 1 / 1 1 1 0 0 / 2 2 0 1 / 2 0 1 / 0 0 / 1")
    assert found.cohorts[0].begins == "2020-06-08T00:00:00.000Z"


async def test_posthog_months():
    # test_month_interval: both did it on the 10th of these months of 2020.
    months = [(1, 2, 3, 5, 6, 9), (1, 2, 3, 6, 7, 11)]
    persons = [", ".join(f"A {(date(2020, one, 10) - date(2020, 1, 10)).days}" for one in each) for each in months]
    world = await told(*persons, began="2020-01-10T05:00", unit=DAY, now="2020-11-25")
    found = await world.retention("A", None, "2020-01-01", "2020-11-25", period="month", periods=10, **RECURRING)
    assert rows(found) == table(
        "2 2 2 0 1 2 1 0 1 0 1 / 2 2 0 1 2 1 0 1 0 1 / 2 0 1 2 1 0 1 0 1 / 0 0 0 0 0 0 0 0 / 1 1 0 0 1 0 0"
        " / 2 1 0 1 0 1 / 1 0 0 0 1 / 0 0 0 0 / 1 0 0 / 0 0 / 1"
    )


async def test_posthog_time_zones():
    # test_timezones: at 01:00 (UTC) of 9, 10 and 11 June, and at 01:00 and 09:00 of the 16th, which are two days in
    # Pacific time; the first two are before 10 June there.
    persons = ["A -23, A 1, A 25", "A 145, A 153"]
    for zone, began, expected in (
        ("UTC", "2020-06-10", {0: [1, 1], 1: [1, 0], 6: [1, 0]}),
        ("US/Pacific", "2020-06-09T17:00", {0: [1, 0], 5: [1, 1], 6: [1, 0]}),
    ):
        world = await told(*persons, began=began, zone=zone)
        found = await world.retention("A", None, "2020-06-10", "2020-06-21", periods=1, **RECURRING)
        assert rows(found) == [expected.get(day, [0, 0]) for day in range(11)], zone


async def test_posthog_on_or_after():
    # test_rolling_retention_doesnt_double_count_same_user: any event; "on or after" is its cumulative retention.
    persons = ["A 0, A 3, A 4", "A 0, A 1", "A 1, A 2, A 3", "A 3, A 4", "A 4"]
    world = await told(*persons, unit=DAY, now="2020-06-15T06:00")
    found = await world.retention("", None, 0, 6, periods=5, returns="on_or_after", **RECURRING)
    assert rows(found) == table("2 2 1 1 1 0 / 2 1 1 0 0 / 1 1 0 0 / 3 2 0 / 3 0 / 0")


async def test_posthog_another_event_to_return_by():
    # test_retention_multiple_events, test_retention_any_event
    persons = ["A 0, A 1, A 2, A 3, B 5, B 6", "A 0, A 1, A 2, A 3, B 5", "A 5"]
    world = await told(*persons, unit=DAY, now="2020-06-16T06:00")
    found = await world.retention("A", "B", 0, 7, periods=6, **RECURRING)
    assert rows(found) == table("2 0 0 0 0 2 1 / 2 0 0 0 2 1 / 2 0 0 2 1 / 2 0 2 1 / 0 0 0 / 1 0 / 0")
    found = await world.retention("", None, 0, 7, periods=6, **RECURRING)
    assert rows(found) == table("2 2 2 2 0 2 1 / 2 2 2 0 2 1 / 2 2 0 2 1 / 2 0 2 1 / 0 0 0 / 3 1 / 1")


async def test_posthog_first_time():
    # test_first_time_retention and test_first_time_retention_weeks: the fifth person signed up before the range, too.
    persons = [
        "up -1, up 1, up 2, up 3, up 4, see 0, see 1, see 2, see 5, ~see 5.2, see 6",
        "up -1, see 1, see 2, see 3, see 6",
        "up 0, see 1, see 3, see 4, see 5",
        "up 2, see 3, see 5",
        "up -5, up -1",
    ]
    world = await told(*persons, began="2020-06-10T05:00", unit=DAY, now="2020-06-17T23:00")
    found = await world.retention("up", "see", "2020-06-09", "2020-06-16", periods=6)
    until_then = [row[: 7 - place] for place, row in enumerate(rows(found))]
    assert until_then == table("2 1 2 2 1 0 1 / 1 1 0 1 1 1 / 0 0 0 0 0 / 1 1 0 1 / 0 0 0 / 0 0 / 0")
    assert await world.who(found.cohorts[1].token) == ["3"]
    # The fifth would be of the first cohort by the first in the range.
    found = await world.retention("up", "see", "2020-06-09", "2020-06-16", periods=6, **FIRST)
    assert rows(found)[0] == [3, 1, 2, 2, 1, 0, 1]
    found = await world.retention("up", "see", "2020-06-01", "2020-06-16", period="week", periods=6)
    assert rows(found) == table("1 0 0 / 4 4 / 0")


async def test_posthog_first_time_is_of_the_event_asked_for():
    # test_retention_first_time_ever_basic: the first sign-up, whatever else came before it.
    persons = [
        "see 0, up 1, see 1.1, see 3, see 5",
        "up 1, see 2, see 4",
        "see 2, up 3, see 4, see 6",
        "see -1, up 2, see 3",
        "up 3, see 4, see 5",
    ]
    world = await told(*persons, unit=DAY)
    found = await world.retention("up", "see", 0, 8, periods=6)
    expected = [[0] * 7 for _ in range(8)]
    expected[1] = [2, 1, 1, 1, 1, 0, 0]
    expected[2] = [1, 1, 0, 0, 0, 0, 0]
    expected[3] = [2, 2, 1, 1, 0, 0, 0]
    assert rows(found) == expected
    assert found.cohorts[1].cells[0].people == 1  # of these 2, who also returned on day 1


async def test_posthog_conditions_on_what_starts_and_on_what_returns():
    # test_retention_with_properties_on_start_event, …_on_start_event_for_first_time, …_on_return_event. The first time
    # is that of an event which meets the condition, "first occurrence matching filters".
    marked = ask.Condition(property="is", value="value")
    start = ["A 0 =value, A 1, A 2, A 5, ~A 5.2, A 6", "A 1, A 2, A 3, A 6"]
    first = ["A 0, A 1, A 2 =value, A 5 =value, ~A 5.2, A 6", "A 1, A 2, A 3, A 6"]
    back = ["A 0, A 1 =value, A 2, A 5, ~A 5.2, A 6", "A 1, A 2, A 3, A 6"]
    some, every = ask.Selection(event="A", where=marked), ask.Selection(event="A")
    for persons, started, returned, births, expected in (
        (start, some, every, "recurring", {0: "1 1 1 0 0 1 1 0 0 0 0"}),
        (first, some, every, "first_ever", {2: "1 0 0 1 1 0 0 0 0"}),
        (back, every, some, "recurring", {
            0: "1 1 0 0 0 0 0 0 0 0 0", 1: "2 0 0 0 0 0 0 0 0 0", 2: "2 0 0 0 0 0 0 0 0", 3: "1 0 0 0 0 0 0 0",
            5: "1 0 0 0 0 0", 6: "2 0 0 0 0",
        }),
    ):  # fmt: skip
        world = await told(*persons, unit=DAY, now="2020-06-20T06:00")
        asked = ask.AskRetention(
            start=started, returned=returned, births=births, period="day", periods=10, **world.range(0, 11)
        )
        found = (await world.ask(asked)).series[0]
        assert rows(found) == [table(expected[day])[0] if day in expected else [0] * (11 - day) for day in range(11)]


async def test_posthog_windows_of_24_hours():
    # test_retention_data_warehouse_24h_window.py: renewed after 27, 50 and 28 hours, and not at all.
    persons = ["A 9:00, B 36:00", "A 10:00, B 60:00", "A 33:00, B 61:00", "A 34:00"]
    world = await told(*persons, began="2025-01-01")
    found = await world.retention("A", "B", 0, 96, rolling=True, periods=3, **RECURRING)
    assert rows(found)[:2] == [[2, 1, 1, 0], [2, 1, 0, 0]]


async def test_posthog_a_breakdown_is_of_the_birth():
    # test_retention_first_time_ever_breakdown_does_not_inflate_buckets: each person is in one part, that of their first
    # event. There a return counts for a part only by an event of the same value (Retention, Breakdowns: who starts in
    # Chrome and returns in Firefox has not returned to Chrome); here whoever was born there and came back has. With
    # the condition on both events it is the same number.
    world = await told("open 0, open 2 =control, view 3 =control", "open 2 =variant, view 3 =variant", unit=DAY)
    asked = ask.AskRetention(
        start=ask.Selection(event="open"),
        returned=ask.Selection(event="view"),
        period="day",
        periods=3,
        breakdown=ask.Breakdown(property="is"),
        **world.range(0, 4),
    )
    whole, *parts = (await world.ask(asked)).series
    assert rows(whole) == [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert {one.value: rows(one) for one in parts} == {
        "": [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        "variant": [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]],
    }
    # test_retention_with_breakdown_event_properties, as far as the sixth day
    times = {"Chrome": ["0 1 3", "0 2"], "Safari": ["0 1 4"], "Firefox": ["0 5"]}
    persons = [
        ", ".join(f"A {day} ={browser}" for day in days.split()) for browser, those in times.items() for days in those
    ]
    world = await told(*persons, unit=DAY, now="2020-06-15T23:00")
    asked = ask.AskRetention(
        births="recurring", period="day", periods=5, breakdown=ask.Breakdown(property="is"), **world.range(0, 6)
    )
    assert {one.value: rows(one) for one in (await world.ask(asked)).series[1:]} == {
        "Chrome": table("2 1 1 1 0 0 / 1 0 1 0 0 / 1 0 0 0 / 1 0 0 / 0 0 / 0"),
        "Safari": table("1 1 0 0 1 0 / 1 0 0 1 0 / 0 0 0 0 / 0 0 0 / 1 0 / 0"),
        "Firefox": table("1 0 0 0 0 1 / 0 0 0 0 0 / 0 0 0 0 / 0 0 0 / 0 0 / 1"),
    }
    world = await told("open 0 =Chrome, open 1 =Firefox", unit=DAY)
    everything = ask.Selection(event="open")
    asked = ask.AskRetention(
        start=everything, period="day", periods=1, breakdown=ask.Breakdown(property="is"), **world.range(0, 1)
    )
    assert {one.value: rows(one) for one in (await world.ask(asked)).series[1:]} == {"Chrome": [[1, 1]]}
    chrome = ask.Condition(property="is", value="Chrome")
    asked = ask.AskRetention(start=everything, where=chrome, period="day", periods=1, **world.range(0, 1))
    assert rows((await world.ask(asked)).series[0]) == [[1, 0]]


async def test_posthog_rare_values_are_others():
    # test_retention_breakdown_other_grouping_logic: by 3 values, France and Spain are others.
    countries = [("USA", 5), ("Canada", 3), ("Germany", 2), ("France", 1), ("Spain", 1)]
    world = await told(*(f"A 0 ={name}" for name, count in countries for _ in range(count)), unit=DAY)
    asked = ask.AskRetention(
        period="day", periods=0, breakdown=ask.Breakdown(property="is", values=3), **world.range(0, 1)
    )
    found = (await world.ask(asked)).series
    assert [(one.value, one.others, one.cohorts[0].size) for one in found] == [
        (None, False, 12), ("USA", False, 5), ("Canada", False, 3), ("Germany", False, 2), (None, True, 2),
    ]  # fmt: skip
