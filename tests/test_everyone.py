"""Questions about everybody, asked as a program asks them: the same number everywhere, every number opens into its
people, and trends are those of the plain twin; before and after persons are joined and taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from crowd import crowd, everyone_of, happenings, projects, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from reference import trend as twin

from pugd import ask
from pugd.everyone import Everyone
from pugd.model import Project
from pugd.query import times
from pugd.query.tokens import Cell, Writer, opened
from pugd.question import QuestionError

BEGAN = 1_711_500_000_000  # some days before Berlin's clocks go forward
DAY = 86_400_000
NOW = BEGAN + 30 * DAY
ZONE = ZoneInfo("Europe/Berlin")
UTC = ZoneInfo("UTC")
SEGMENTS = {"payers": ask.Condition(did=ask.Did(event="B", count=2))}


async def asking(history: History, now: int = NOW) -> tuple[Everyone, Project]:
    return await everyone_of(history, now=now, zone=ZONE, segments=SEGMENTS)


def numbered(random: Random) -> History:
    history = crowd(random, lambda: BEGAN + random.randrange(20 * DAY), events=250)
    for event in history.world.events:
        price = random.choice([None, 1, 2.5, -3, "7", [4]])
        event["properties"] = json.dumps({"price": price, "kind": random.choice(["x", "y", 1])})
    return history


def by_hand(random: Random, history: History) -> None:
    for _ in range(5):
        one, other = (random.choice(history.world.events) for _ in range(2))
        ids = [event["user_id"] or event["anonymous_id"] for event in (one, other)]
        call = random.choice(["merge", "unlink"])
        history.by_hand(call, ids[0], ids[1] if call == "merge" else random.choice([ids[1], ""]), at=BEGAN)


def tokens(answer: Any) -> Iterator[tuple[str, int]]:
    """Every token in an answer, with the number beside it."""
    if isinstance(answer, list):
        for one in answer:
            yield from tokens(one)
    elif isinstance(answer, dict):
        for name, number in (
            ("token", answer.get("people", answer.get("size"))),
            ("dropped_token", answer.get("dropped")),
            ("ended_token", answer.get("ended")),
        ):
            if answer.get(name) is not None:
                yield answer[name], number
        for one in answer.values():
            yield from tokens(one)


def question(random: Random) -> ask.AnyAsked:
    since = BEGAN + random.randrange(10) * DAY
    when: dict[str, Any] = {"from_": times.text(since), "to": times.text(since + random.randrange(1, 9) * DAY)}
    if random.random() < 0.3:
        when["where"] = random.choice(
            [ask.Condition(field="path", value="/prices"), ask.Condition(segment="payers", op="not_in")]
        )
    told = random.choice(
        [
            None,
            ask.Breakdown(field="path", values=random.randint(1, 3)),
            ask.Breakdown(property="kind", values=1),
            ask.Breakdown(segment="payers"),
            ask.Breakdown(trait="plan"),
        ]
    )
    names = [ask.Selection(event=random.choice(["A", "B", "C", ("A", "X")])) for _ in range(3)]
    return random.choice(
        [
            ask.AskFunnel(steps=tuple(names), order=random.choice(["ordered", "strict", "any"]), window="3 d",
                          breakdown=told, compare=random.random() < 0.3, **when),
            ask.AskRetention(start=names[0], returned=random.choice([None, names[1]]), period="day", periods=3,
                             births=random.choice(["first_ever", "first_in_range", "recurring"]),
                             returns=random.choice(["on", "on_or_after"]), rolling=random.random() < 0.3,
                             breakdown=told, **when),
            ask.AskFlow(of=names[0], steps=2, names=random.randint(1, 3), window="2 d",
                        by=random.choice([None, ask.Named(field="path"), ask.Named(property="kind")]),
                        direction=random.choice(["after", "before"]), **when),
            ask.AskSessions(having=random.choice([None, names[0]]), interval=random.choice([None, "day"]), values=2,
                            breakdown=random.choice([None, "entry_page", told]), **when),
            ask.AskTrend(series=(ask.Series(event="A"), ask.Series(measure="people")), breakdown=told,
                         interval=random.choice(["day", "week", None]), compare=random.random() < 0.3, **when),
            ask.AskTop(by=random.choice([ask.Breakdown(field="event"), ask.Breakdown(person=True, values=3)]),
                       of=ask.Series(event=("A", "B"), measure="people"), **when),
        ]
    )  # fmt: skip


@settings(max_examples=5, phases=[Phase.generate])
@given(seeds)
async def test_every_number_opens_into_its_people(random):
    history = numbered(random)
    await stored(history)
    everyone, project = await asking(history)
    for _ in range(4):
        asked = question(random)
        answer = msgspec.to_builtins(await everyone.journey(project, asked))
        found = list(tokens(answer))
        assert found
        for token, number in random.sample(found, min(len(found), 12)):
            people = await everyone.people(project, ask.AskPeople(token=token, limit=1000))
            assert (people.count, people.then) == (number, number), (asked, opened(token))
            assert people.then_at == answer["asked_at"]
            assert len(people.people) == number


@settings(max_examples=3, phases=[Phase.generate])
@given(seeds)
async def test_one_number_everywhere(random):
    history = numbered(random)
    for turn in range(2):
        if turn:
            by_hand(random, history)
        await stored(history)
        everyone, project = await asking(history, now=(BEGAN + 6 * DAY, NOW)[turn])  # some clocks are ahead of ours
        since = BEGAN + random.randrange(10) * DAY
        when: dict[str, Any] = {"from_": times.text(since), "to": times.text(since + random.randrange(1, 9) * DAY)}
        where = random.choice(
            [None, ask.Condition(segment="payers"), ask.Condition(property="price", op=">", value=1),
             ask.Condition(field="path", op="set")]
        )  # fmt: skip
        of = ask.Selection(event=random.choice(["A", ("A", "B")]), where=where)
        counted = await everyone.people(project, ask.AskPeople(of=of, **when))
        trend = await everyone.journey(
            project, ask.AskTrend(series=(ask.Series(event=of.event, where=where, measure="people"),), **when)
        )
        funnel = await everyone.journey(project, ask.AskFunnel(steps=(of, ask.Selection(event="X")), **when))
        cohorts = await everyone.journey(project, ask.AskRetention(start=of, births="first_in_range", **when))
        ever = await everyone.journey(project, ask.AskRetention(start=of, **when))
        flow = await everyone.journey(project, ask.AskFlow(of=of, **when))
        top = await everyone.journey(
            project,
            ask.AskTop(by=ask.Breakdown(person=True, values=100), of=ask.Series(event=of.event, where=where), **when),
        )
        did = ask.Condition(did=ask.Did(event=of.event, where=where, **when))
        segment = await everyone.people(project, ask.AskPeople(where=did))
        assert {
            counted.count,
            trend.series[0].total.people,
            int(trend.series[0].total.value),
            funnel.series[0].steps[0].people,
            sum(cohort.size for cohort in cohorts.series[0].cohorts),
            flow.flow.people,
            top.rows[0].total.people,
            len(top.rows) - 1,
            segment.count,
        } == {counted.count}
        assert sum(cohort.size for cohort in ever.series[0].cohorts) <= counted.count
        assert sum(point.people for point in trend.series[0].points) >= counted.count


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_trends_are_those_of_the_twin(random):
    history = numbered(random)
    await stored(history)
    everyone, project = await asking(history)
    for _ in range(6):
        measure = random.choice([*ask.COUNTS, *ask.NUMBERS])
        interval = random.choice(["hour", "day", "week", "month", None])
        since = BEGAN + random.randrange(10 * DAY)
        until = since + random.randrange(1, 9 * DAY)
        told = random.choice([None, ask.Breakdown(property="kind", values=random.randint(1, 3))])
        asked = ask.AskTrend(
            series=(ask.Series(event="A", measure=measure, of="price" if measure in ask.NUMBERS else None),),
            interval=interval, breakdown=told, from_=times.text(since), to=times.text(until),
        )  # fmt: skip
        answer = await everyone.journey(project, asked)
        happened = []
        for event in happenings(history):
            if event["event"] == "A" and since <= event["at"] < until:
                said = json.loads(event["properties"])
                price = said["price"] if isinstance(said["price"], int | float) else None
                happened.append({**event, "numbers": {"price": price}, "value": str(said["kind"])})
        bounds = times.periods(since, until, interval, ZONE)[:-1] if interval else []

        by_value: dict[str, list[dict]] = {}
        for one in happened:
            by_value.setdefault(one["value"], []).append(one)
        sizes = {value: twin.measured(own, measure, "price") for value, own in by_value.items()}
        ranked = sorted(sizes, key=lambda value: (_descending(sizes[value]), value))
        expected = [(None, False, cells(happened, bounds, measure))]
        if told is not None:
            expected += [(value, False, cells(by_value[value], bounds, measure)) for value in ranked[: told.values]]
            if rest := [one for value in ranked[told.values :] for one in by_value[value]]:
                expected.append((None, True, cells(rest, bounds, measure)))
        assert [
            (
                one.value,
                one.others,
                tuple((point.events, point.people, point.value) for point in (one.total, *one.points)),
            )
            for one in answer.series
        ] == expected, asked
        assert [point.begins for point in answer.series[0].points] == [times.text(at) for at in bounds]


def cells(own: list[dict], bounds: list[int], measure: str) -> tuple:
    """The whole and each interval: events, people, measure."""
    return tuple(
        (len(cell), len({one["person"] for one in cell}), _near(twin.measured(cell, measure, "price")))
        for cell in (own, *(twin.by_interval(own, bounds) if bounds else []))
    )


def _descending(value: float | None) -> float:
    return float("inf") if value is None else -value


def _near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value)


async def test_days_are_those_of_the_zone_and_a_token_keeps_those_it_was_counted_by():
    """Over the night in which Berlin's clocks go forward: 30 March has its hour 22:00Z of the 29th."""
    history = History(next(projects))
    for hour in range(72):
        at = times.read("2024-03-29T12:00:00Z", UTC)
        history.track("A", anonymous=f"visitor-{hour}", at=at + hour * 3_600_000)
    await stored(history)
    asked = ask.AskTrend(series=(ask.Series(event="A", measure="people"),), from_="2024-03-30", to="2024-04-01")
    counts, tokens_of = {}, {}
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        everyone, project = await everyone_of(history, now=NOW, zone=ZoneInfo(zone), segments={})
        answer = await everyone.journey(project, asked)
        points = answer.series[0].points
        counts[zone] = [(point.begins, point.people) for point in points]
        tokens_of[zone] = [point.token for point in points]
        assert answer.range.zone == zone
    assert counts == {
        "UTC": [("2024-03-30T00:00:00.000Z", 24), ("2024-03-31T00:00:00.000Z", 24)],
        "Europe/Berlin": [("2024-03-29T23:00:00.000Z", 24), ("2024-03-30T23:00:00.000Z", 23)],
        "America/New_York": [("2024-03-30T04:00:00.000Z", 24), ("2024-03-31T04:00:00.000Z", 24)],
    }
    # The project's zone is another by now; the number still opens into its people.
    for zone, given_then in tokens_of.items():
        for (_, people), token in zip(counts[zone], given_then, strict=True):
            found = await everyone.people(project, ask.AskPeople(token=token))
            assert (found.count, found.then) == (people, people), zone


async def test_a_number_with_bots_opens_into_persons_by_what_bots_did_too():
    history = History(next(projects))
    history.track("A", user="ann", at=BEGAN)
    history.track("A", user="bob", at=BEGAN, bot=1)
    history.track("B", user="bob", at=BEGAN)
    history.track("A", user="crawler", at=BEGAN, bot=1)  # by bots alone: no person
    await stored(history)
    everyone, project = await asking(history)
    when: dict[str, Any] = {"from_": times.text(BEGAN), "to": times.text(BEGAN + DAY)}
    for bots, number, persons in ((False, 1, 1), (True, 3, 2)):
        asked = ask.AskTop(by=ask.Breakdown(field="event"), of=ask.Series(event="A"), include_bots=bots, **when)
        answer: Any = await everyone.journey(project, asked)
        listed = await everyone.people(project, ask.AskPeople(token=answer.rows[0].total.token))
        assert (answer.rows[0].total.people, listed.then, listed.count) == (number, number, persons)


async def test_a_trait_as_it_was_goes_with_every_breakdown():
    history = History(next(projects))
    for number, plan in enumerate(["free", "pro", None]):
        who = f"u{number}"
        if plan is not None:
            history.identify(who, at=BEGAN, traits=[("plan", "set", json.dumps(plan))])
        properties = json.dumps({"cart": {"total": number}, "s p": ["a/b"]}, indent=number)
        history.track("A", user=who, at=BEGAN + 1, path="/a", properties=properties)
        history.identify(who, at=BEGAN, traits=[("list", "set", json.dumps(["é", 1], ensure_ascii=number == 0))])
        history.track("B", user=who, at=BEGAN + 2, path="/b")
    await stored(history)
    everyone, project = await asking(history)
    was = ask.Condition(trait="plan", as_of="event")
    first, second = ask.Selection(event="A", where=was), ask.Selection(event="B", where=was)
    when: dict[str, Any] = {"from_": times.text(BEGAN), "to": times.text(BEGAN + DAY)}
    for breakdown, values in (
        (ask.Breakdown(field="path"), ["/a"]),
        (ask.Breakdown(property="cart"), [""]),  # an object is not told apart, in whichever form it is kept
        (ask.Breakdown(property=("cart",)), [""]),
        (ask.Breakdown(property="cart.total"), ["0", "1"]),
        (ask.Breakdown(property="s p"), ['["a/b"]']),
        (ask.Breakdown(property=("s p",)), ['["a/b"]']),
        (ask.Breakdown(trait="list"), ['["é",1]']),  # however it was written
        (ask.Breakdown(trait="plan"), ["free", "pro"]),
        (ask.Breakdown(trait="plan", as_of="event"), ["free", "pro"]),
        (ask.Breakdown(segment="payers"), ["false"]),
        ("entry_page", ["/a"]),
        ("exit_page", ["/b"]),
    ):
        questions: list[ask.AnyAsked] = [ask.AskSessions(having=first, breakdown=breakdown, **when)]
        if isinstance(breakdown, ask.Breakdown):
            questions += [
                ask.AskTrend(series=(ask.Series(event="A", where=was),), breakdown=breakdown, **when),
                ask.AskFunnel(steps=(first, second), breakdown=breakdown, **when),
                ask.AskRetention(start=first, returned=second, breakdown=breakdown, **when),
            ]
        for asked in questions:
            answer: Any = await everyone.journey(project, asked)
            assert [one.value for one in answer.series] == [None, *values], asked


async def test_a_token_that_is_none_is_told():
    history = numbered(Random(1))
    everyone, project = await asking(history)
    good = Writer(ask.AskFunnel(steps=(ask.Selection(), ask.Selection())), "2024-01-01T00:00:00.000Z")
    for token in (
        "",
        "x",
        "eJw",
        good.written(Cell(step=7), 1),
        good.written(Cell(), 1),
        good.written(Cell(step=1), 1)[:-3],
    ):
        with pytest.raises(QuestionError) as caught:
            await everyone.people(project, ask.AskPeople(token=token))
        assert caught.value.field == "token"


async def test_cookieless_visitors_are_counted_where_that_is_asked_for_and_are_nobody():
    history = History(next(projects))
    for day in range(3):
        at = BEGAN + day * DAY
        history.track("seen", user="ann", at=at)
        history.track("seen", anonymous="a-1", at=at)
        for visitor in ("one", "one", "two"):
            history.track("seen", anonymous=f"cookieless-{visitor}-{day}", cookieless=1, at=at)
        history.track("seen", anonymous=f"cookieless-bot-{day}", cookieless=1, bot=1, at=at)
    await stored(history)
    everyone, project = await asking(history)
    when = {"from_": times.text(BEGAN - DAY), "to": times.text(BEGAN + 9 * DAY)}
    for included, bots, left_out, people, events in (
        (False, False, (3, 9), (2, 2), 6),
        (True, False, (3, 0), (8, 4), 15),
        (True, True, (0, 0), (11, 5), 18),
    ):
        trend = await everyone.journey(
            project,
            ask.AskTrend(
                series=(ask.Series(event="seen", measure="people"),), include_cookieless=included, include_bots=bots,
                **when,
            ),
        )  # fmt: skip
        assert (trend.left_out.bots, trend.left_out.cookieless) == left_out
        total = trend.series[0].total
        assert (total.people, max(point.people for point in trend.series[0].points)) == people
        assert total.events == events
        top = await everyone.journey(
            project,
            ask.AskTop(by=ask.Breakdown(field="event"), include_cookieless=included, include_bots=bots, **when),
        )
        assert (top.rows[0].total.events, top.left_out.cookieless) == (events, left_out[1])
    listed = await everyone.people(project, ask.AskPeople(token=trend.series[0].total.token))
    assert (listed.count, listed.then) == (2, 11), "a token opens into persons alone"
    with pytest.raises(QuestionError, match="include_cookieless"):
        await everyone.journey(project, ask.AskTop(by=ask.Breakdown(person=True), include_cookieless=True, **when))
