"""Since when somebody is in a segment: at each of the times that matter, what the plain twin says of what had happened
by then; and now, what every question says."""

from __future__ import annotations

import json
from random import Random

from crowd import happenings, planned, projects, reading, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from inhabited import DAY, NOW, SEGMENTS, Twin, by_hand, inhabited, ms, of_person, persons
from reference import timeline
from reference.timeline import World

from pugd import ask, kept
from pugd.persons import Persons
from pugd.query import times
from pugd.query.curves import BEGINNING, Curve, combined, counted, spliced, steps
from pugd.stays import Life


class TwinThen(Twin):
    """One person as of a time: what had happened by then, and no more."""

    def __init__(self, history: History, segments: dict[str, ask.Condition], person: int, then: int) -> None:
        self.then = NOW if then >= NOW else then
        known = 2**62 if then >= NOW else then
        self.history, self.segments = history, segments
        whole = history.world
        self.world = World(events=whole.events, traits=[one for one in whole.traits if one["occurred_at"] <= known])
        own = timeline.members(whole, person)
        self.members = {person: own}
        self.happened = [one for one in happenings(history) if one["at"] <= known]
        sights = [(one["occurred_at"], bool(one["user_id"])) for one in timeline.counted(whole) if one["actor"] in own]
        sights += [
            (one["occurred_at"], one["user_id"] == one["distinct_id"]) for one in whole.traits if one["actor"] in own
        ]
        for link in whole.links:
            if not link["refused"] and link["call"] not in ("merge", "unlink"):
                sides = [(link["a"], link["a_id"], ("user",)), (link["b"], link["b_id"], ("identify", "event"))]
                sights += [
                    (link["occurred_at"], link["call"] in calls) for actor, id_, calls in sides if id_ and actor in own
                ]
        sights = [one for one in sights if one[0] <= known]
        self.seen = bool(sights)
        self.persons = {person: {
            "user_ids": [1 for _, user in sights if user],
            "events": sum(one["person"] == person for one in self.happened),
            "first_seen": times.text(min((at for at, _ in sights), default=0)),
            "last_seen": times.text(max((at for at, _ in sights), default=0)),
        }}  # fmt: skip

    @property
    def now(self) -> int:
        return self.then


def kept_of(rules: dict[str, ask.AnySegment], created: int = 0) -> dict[str, kept.Segment]:
    at = times.text(created)
    return {
        name: kept.Segment(name, "", 1, "rule", None, None, False, at, at, "") for name in rules
    }  # fmt: skip


async def life(history: History, person: int, rules: dict[str, ask.AnySegment], created: int = 0) -> Life:
    of = reading(history, now=NOW, segments=rules)
    actors = (await Persons(planned).located(history.project, [person]))[person].actors
    return Life(planned, of, actors, kept_of(rules, created))


def more(random: Random) -> ask.Condition:
    """What slides in other ways: times in values, other terms within did, lists of names."""
    ago = f"{random.randint(1, 30)} d"
    lately = ask.Condition(person="last_seen", op="within_last", value=ago)
    return random.choice(
        [
            ask.Condition(trait="renews", op="within_last", value=ago),
            ask.Condition(did=ask.Did(event="A", where=ask.Condition(property="until", op="within_last", value=ago))),
            ask.Condition(did=ask.Did(event="B", op="<", count=2, where=ask.Condition(
                any=(ask.Condition(segment="payers"), ask.Condition(trait="plan", as_of="event", value="free"))))),
            ask.Condition(did=ask.Did(first=True, last=ago, where=lately)),
            ask.Condition(did=ask.Did(first=True, where=ask.Condition(trait="plan", op="unset"))),
        ]
    )  # fmt: skip


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_since_when_as_the_twin_says(random):
    history = inhabited(random)
    for event in random.sample(history.world.events, 60):
        event["properties"] = json.dumps(
            {"until": random.choice(["soon", 7, times.text(NOW - random.randrange(50) * DAY)])}
        )
    for _ in range(40):
        when = json.dumps(times.text(NOW - random.randrange(60) * DAY))
        value = random.choice([when, when, f"[{when}, 3]", '"never"'])
        history.identify(
            f"user-{random.randrange(20)}", at=NOW - random.randrange(40) * DAY, traits=[("renews", "set", value)]
        )
    by_hand(random, history)
    await stored(history)
    everybody = sorted(timeline.everyone(history.world))
    whole: dict[str, ask.AnySegment] = {**SEGMENTS}
    for number in range(10):
        whole[f"r{number}"] = more(random) if random.random() < 0.4 else of_person(random, 2)
    now = {
        name: await persons(reading(history, now=NOW, segments=whole), ask.Condition(segment=name)) for name in whole
    }
    for person in random.sample(everybody, 8):
        one = await life(history, person, whole)
        for name, rule in whole.items():
            curve = await one.segment(name, whole)
            assert curve.at(NOW) == (person in now[name]), (name, rule)
            happened = [turn for turn in curve.turns if turn <= NOW]
            own = timeline.members(history.world, person)
            happened += [
                row["occurred_at"] for row in (*history.world.events, *history.world.traits) if row["actor"] in own
            ]
            moments = {at + shift for at in happened for shift in (-1, 0, 1)}
            for then in random.sample(sorted(moments), min(12, len(moments))):
                if then > NOW:
                    continue
                plain = TwinThen(history, whole, person, then)
                assert curve.at(then) == (plain.seen and plain.met(rule, person)), (name, rule, times.text(then))


async def test_stays_and_their_ends():
    history = History(next(projects))
    began = NOW - 30 * DAY
    history.track("order", user="ann", at=began)
    history.identify("ann", at=began + DAY, traits=[("plan", "set", '"pro"')])
    history.identify("ann", at=began + 3 * DAY, traits=[("plan", "set", '"free"')])
    history.identify("ann", at=began + 9 * DAY, traits=[("plan", "set", '"pro"')])
    await stored(history)
    actor = history.actor("ann")
    rules = {
        "pro": ask.Condition(trait="plan", value="pro"),
        "fresh": ask.Condition(did=ask.Did(event="order", last="7 d")),
        "stale": ask.Condition(not_=ask.Condition(segment="fresh")),
        "all": ask.Condition(all=()),
        "list": ask.Fixed((actor,)),
        "empty": ask.Fixed(()),
    }
    one = await life(history, actor, rules, created=began + 5 * DAY)
    told = {name: await one.membership(name, rules) for name in rules}
    assert told["fresh"] is None
    assert told["empty"] is None

    def said(name: str) -> list[tuple[int, int | None]]:
        membership = told[name]
        assert membership is not None
        assert membership.since == membership.stays[0].from_
        return [(ms(stay.from_) - began, None if stay.to is None else ms(stay.to) - began) for stay in membership.stays]

    assert said("pro") == [(9 * DAY, None), (DAY, 3 * DAY)]
    assert said("stale") == [(7 * DAY + 1, None)], "the window's last millisecond is in it"
    assert said("all") == [(0, None)], "from the first sight on"
    assert said("list") == [(5 * DAY, None)], "from when the list was made"


async def test_what_cannot_be_told_is_said_to_be_so():
    history = History(next(projects))
    history.track("order", user="ann", at=NOW - DAY)
    await stored(history)
    actor = history.actor("ann")
    slides = ask.Condition(not_=ask.Condition(group="team", op="within_last", value="7 d"))
    one = await life(history, actor, {"slides": slides})
    assert await one.membership("slides", {"slides": slides}) == kept.Membership("slides", "rule", None, [])


# Curves.

turns = st.lists(st.integers(-20, 20), max_size=6, unique=True).map(lambda found: tuple(sorted(found)))
curves = st.builds(Curve, st.booleans(), turns)
TIMES = range(-25, 26)


@given(st.lists(curves, min_size=1, max_size=4))
def test_curves_combine_at_every_time(given_curves: list[Curve]) -> None:
    for how in (all, any):
        both = combined(given_curves, how)
        assert all(both.at(at) == how(one.at(at) for one in given_curves) for at in TIMES)
        assert list(both.turns) == sorted(set(both.turns))
    one = given_curves[0]
    assert all(one.opposite().at(at) != one.at(at) for at in TIMES)
    inside = [at for at in TIMES if any(low <= at and (high is None or at < high) for low, high in one.stays())]
    assert inside == [at for at in TIMES if one.at(at)]


@given(st.lists(st.tuples(st.integers(-20, 20), st.none() | st.integers(-20, 20)), max_size=6), st.integers(0, 3))
def test_curves_count(parts: list[tuple[int, int | None]], least: int) -> None:
    curve = counted(parts, lambda count: count >= least)
    for at in TIMES:
        count = sum(low <= at and (high is None or at < high) for low, high in parts)
        assert curve.at(at) == (count >= least)


@given(st.lists(st.tuples(st.integers(-20, 20), curves), max_size=4, unique_by=lambda one: one[0]), curves)
def test_curves_are_spliced(parts: list[tuple[int, Curve]], first: Curve) -> None:
    whole = [(BEGINNING, first), *sorted(parts, key=lambda one: one[0])]
    curve = spliced(whole)
    for at in TIMES:
        assert curve.at(at) == [one for since, one in whole if since <= at][-1].at(at)


def test_of_several_truths_at_one_time_the_last_counts() -> None:
    assert steps(False, [(1, True), (1, False), (2, True), (2, True), (3, False)]) == Curve(False, (2, 3))
