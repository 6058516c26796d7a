"""Parts of a timeline, against the whole of it: around an entry, before an event, events that meet a condition; and
sessions as entries, against the plain twin."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from crowd import crowd, everyone_of, happenings, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from reference import sessions as twin

from pugd import ask
from pugd.everyone import Everyone
from pugd.model import Project, person_text
from pugd.query import times
from pugd.question import ENTRY_TYPES, QuestionError

ALL = ENTRY_TYPES
BEGAN = 1_711_500_000_000
DAY = 86_400_000


async def asking(history: History) -> tuple[Everyone, Project]:
    return await everyone_of(history, now=BEGAN + 30 * DAY, zone=ZoneInfo("UTC"), segments={})


def busy(random: Random) -> History:
    """Ten persons who do much, so that there is something around."""
    history = crowd(random, lambda: BEGAN + random.randrange(6 * DAY // 60_000) * 60_000, events=160)
    for event in history.world.events:
        event["properties"] = json.dumps({"price": random.choice([1, 2, "x", None])})
    for number in range(6):
        history.identify(f"user-{number}", f"phone-{number}", at=BEGAN + DAY, traits=[("plan", "set", '"pro"')])
    return history


@settings(max_examples=2, phases=[Phase.generate])
@given(seeds)
async def test_parts_are_parts_of_the_whole(random):
    history = busy(random)
    await stored(history)
    everyone, project = await asking(history)
    persons = sorted({event["person"] for event in happenings(history)})
    for person in random.sample(persons, 3):
        who = person_text(person)

        async def entries(**asked: Any) -> list[dict]:
            answer = await everyone.timeline(project, ask.AskTimeline(person=who, **{"limit": 1000, **asked}))  # noqa: B023
            return json.loads(msgspec.json.encode(answer.entries))

        whole = await entries(types=ALL)
        assert [one for one in whole if one["type"] != "session"] == await entries()
        assert whole == list(reversed(await entries(types=ALL, order="asc")))
        events = [one for one in whole if one["type"] == "event"]
        for kind in ALL:
            assert [one for one in whole if one["type"] == kind] == await entries(types=(kind,))
        if not events:
            continue
        # around
        at = random.choice([one for one in whole if one["type"] in ("event", "traits")])
        place = whole.index(at)
        assert await entries(types=ALL, around=at["id"], limit=6) == whole[max(place - 3, 0) : place + 4]
        assert (
            await entries(types=ALL, around=at["id"], limit=4, order="asc")
            == list(reversed(whole))[max(len(whole) - 1 - place - 2, 0) : len(whole) - place + 2]
        )
        # before the first of a name, or of those that meet a condition
        name = random.choice(events)["event"]
        first = [one for one in events if one["event"] == name][-1]
        assert await entries(types=ALL, before=ask.Selection(event=name)) == whole[whole.index(first) + 1 :]
        dear = ask.Condition(property="price", op=">", value=1)
        met = [one for one in events if isinstance(one["properties"]["price"], int) and one["properties"]["price"] > 1]
        assert await entries(where=dear) == met
        if met:
            before = await entries(types=ALL, before=ask.Selection(where=dear))
            assert before == whole[whole.index(met[-1]) + 1 :]
        # pages, one after another, with sessions among them
        paged: list[dict] = []
        cursor = None
        while True:
            answer = await everyone.timeline(
                project, ask.AskTimeline(person=who, types=ALL, limit=random.randint(1, 9), cursor=cursor)
            )
            paged += json.loads(msgspec.json.encode(answer.entries))
            cursor = answer.next
            if cursor is None:
                break
        assert paged == whole
        # sessions
        runs = [run for run in twin.sessions(happenings(history)) if run[0]["person"] == person]
        told = [one for one in whole if one["type"] == "session"]
        assert sorted(
            (one["occurred_at"], one["ended_at"], one["events"], one["entry_page"], one["exit_page"]) for one in told
        ) == sorted(
            (
                times.text(run[0]["at"]),
                times.text(run[-1]["at"]),
                len(run),
                next((event["path"] for event in run if event["path"]), None),
                next((event["path"] for event in reversed(run) if event["path"]), None),
            )
            for run in runs
        )
        ascending = list(reversed(whole))
        for one in told:
            following = [entry for entry in ascending[ascending.index(one) :] if entry["type"] == "event"]
            assert following[0]["event_id"] == one["event_id"]


async def test_what_is_wrong_is_named():
    history = busy(Random(3))
    await stored(history)
    everyone, project = await asking(history)
    who = history.world.events[0]["user_id"] or history.world.events[0]["anonymous_id"]
    for asked, field in (
        ({}, "person"),
        ({"distinct_id": who, "person": "p_0000000000000000"}, "person"),
        ({"person": "p_"}, "person"),
        ({"distinct_id": who, "types": ()}, "types"),
        ({"distinct_id": who, "types": ("visit",)}, "types"),
        ({"distinct_id": who, "order": "up"}, "order"),
        ({"distinct_id": who, "limit": 0}, "limit"),
        ({"distinct_id": who, "around": "event:none"}, "around"),
        ({"distinct_id": who, "before": ask.Selection(event="never")}, "before"),
        ({"distinct_id": who, "around": "event:e1", "before": ask.Selection()}, "before"),
        ({"distinct_id": who, "where": ask.Condition(trait="plan", value=1, as_of="event")}, "where"),
        ({"distinct_id": who, "from_": "then"}, "from"),
    ):
        with pytest.raises(QuestionError) as caught:
            await everyone.timeline(project, ask.AskTimeline(**asked))
        assert caught.value.field == field, asked
