"""One number everywhere (rules.md, Counting): who did something in a range is the same set of persons at step one of a
funnel, in cohorts of who did it first in the range, at the anchor of a flow, and counted one by one; before and after
persons are taken apart or joined."""

from __future__ import annotations

from crowd import asked, crowd, events, found, happenings, planned, said, seeds, stored
from hypothesis import given, settings

from pugd.journeys import (
    ANY,
    FIRST_EVER,
    FIRST_IN_RANGE,
    ON_OR_AFTER,
    ORDERED,
    RECURRING,
    STRICT,
    Flow,
    Funnel,
    Retention,
)
from pugd.query import flow, funnel, retention
from pugd.query.sql import Sql, sql

BEGAN = 1_711_500_000_000
DAY = 86_400_000


async def people(statement: Sql) -> set[int]:
    return {person for (person,) in await found(sql("SELECT person FROM $persons", persons=statement))}


@settings(max_examples=4)
@given(seeds)
async def test_who_did_it_is_the_same_set_everywhere(random):
    history = crowd(random, lambda: BEGAN + random.randrange(20 * DAY), events=300)
    for turn in range(2):
        if turn:
            for _ in range(5):
                one, other = (random.choice(history.world.events) for _ in range(2))
                ids = [event["user_id"] or event["anonymous_id"] for event in (one, other)]
                history.by_hand(
                    random.choice(["merge", "unlink"]), ids[0], random.choice([ids[1], ""]) or ids[1], at=BEGAN
                )
        await stored(history)
        names = random.choice(["A", "AB"])
        since = BEGAN + random.randrange(10 * DAY)
        until = since + random.randrange(1, 10 * DAY)
        wanted = {
            event["person"] for event in happenings(history) if said(names)(event) and since <= event["at"] < until
        }
        marked = events(history, [asked(names), asked("C"), asked("X")])
        for order in (ORDERED, STRICT):
            steps = Funnel(project=0, since=since, until=until, steps=2, order=order)
            assert await people(funnel.persons(steps, marked, 1)) == wanted
            (series,) = funnel.shape_steps(steps, await planned(funnel.plan_steps(steps, marked)))
            assert series.steps[0].people == len(wanted)
        either = Funnel(project=0, since=since, until=until, steps=2, order=ANY)
        both = Funnel(project=0, since=since, until=until, steps=2)
        swapped = events(history, [asked("C"), asked(names)])
        assert await people(funnel.persons(either, marked, 1)) == wanted | await people(
            funnel.persons(both, swapped, 1)
        )
        sizes = {}
        for births in (FIRST_EVER, FIRST_IN_RANGE, RECURRING):
            cohorts = Retention(
                project=0,
                since=since,
                until=until,
                births=births,
                period="day",
                returns=ON_OR_AFTER,
                zone="Europe/Berlin",
            )
            (table,) = retention.shape_cells(
                cohorts, await planned(retention.plan_cells(cohorts, marked)), until + 40 * DAY
            )
            sizes[births] = sum(cohort.size for cohort in table.cohorts)
        assert sizes[FIRST_EVER] <= sizes[FIRST_IN_RANGE] == len(wanted) <= sizes[RECURRING]
        named = events(history, [asked(names)], columns=[("name", sql("toString(event)"))])
        after = Flow(project=0, since=since, until=until)
        assert flow.shape_links(after, await planned(flow.plan_links(after, named))).people == len(wanted)
