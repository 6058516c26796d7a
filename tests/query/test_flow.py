"""Paths against the plain twin, a crowd at a time."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from crowd import asked, crowd, events, found, happenings, planned, projects, reading, said, said_of, seeds, stored
from histories import History
from hypothesis import given, settings
from reference import flow as twin

from pugd.journeys import AFTER, BEFORE, DIRECTIONS, Flow, check
from pugd.query.flow import ANCHOR, happening, paths, persons, plan_links, shape_links
from pugd.query.sequence import sequences
from pugd.query.sql import sql
from pugd.question import QuestionError

BEGAN = 1_700_000_000_000


@settings(max_examples=10)
@given(seeds)
async def test_flows_are_those_of_the_twin(random):
    unit = random.choice([1, 1_000])
    history = crowd(random, lambda: BEGAN + random.randrange(12) * unit)
    await stored(history)
    happened = happenings(history)
    for _ in range(3):
        anchor = random.choice(["A", "AB"])
        since = BEGAN + random.randrange(5) * unit
        asked_for = Flow(
            project=0,
            since=since,
            until=since + random.randrange(1, 8) * unit,
            direction=random.choice(DIRECTIONS),
            steps=random.randint(1, 5),
            window_ms=random.choice([1, 2, 5, 20]) * unit,
            merge_repeats=random.random() < 0.5,
            names=random.randint(1, 4),
        )
        check(asked_for)
        by = random.choice(["event", "event", "path"])
        wanted = {
            person: path
            for (person, _), path in twin.flow(
                happened,
                said(anchor),
                since=asked_for.since,
                until=asked_for.until,
                window=asked_for.window_ms,
                steps=asked_for.steps,
                before=asked_for.direction == BEFORE,
                merge_repeats=asked_for.merge_repeats,
                by=by,
            ).items()
        }
        of = msgspec.structs.replace(asked_for, project=history.project)
        marked = happening(of, reading(history), asked(anchor), sql("path") if by == "path" else None)
        answer = shape_links(asked_for, await planned(plan_links(asked_for, marked)))
        assert answer.people == len(wanted)
        told: list[set[str]] = []
        for number, step in enumerate(answer.steps):
            there = [path for path in wanted.values() if len(path) > number]
            ranked = sorted(Counter(path[number] for path in there).items(), key=lambda item: (-item[1], item[0]))
            told.append({name for name, _ in ranked[: asked_for.names]})
            rest = sum(count for _, count in ranked[asked_for.names :])
            assert [said_of(node) for node in step.nodes] == [
                *ranked[: asked_for.names],
                *([(None, rest)] if rest else []),
            ]
            assert step.ended == sum(len(path) == number for path in wanted.values())
            links = Counter(
                tuple(path[place] if path[place] in told[place] else None for place in (number - 1, number))
                for path in there
                if number
            )
            assert {(link.before, link.after): link.people for link in step.links} == links
            assert len(step.links) == len(links)
        number = random.randrange(asked_for.steps)
        some = sorted(told[number])
        for names, others, own in (
            (some, False, [p for p, path in wanted.items() if len(path) > number and path[number] in some]),
            (some, True, [p for p, path in wanted.items() if len(path) > number and path[number] not in some]),
            (None, False, [p for p, path in wanted.items() if len(path) == number]),
        ):
            statement = persons(asked_for, marked, number + 1, names, others=others)
            rows = await found(sql("SELECT person FROM $persons", persons=statement))
            assert sorted(person for (person,) in rows) == sorted(own)


async def test_paths_of_what_comes_before_lead_backwards():
    history = History(next(projects))
    for place, name in enumerate("XYYAZ"):
        history.track(name, user="one", at=BEGAN + place)
    await stored(history)
    marked = events(history, [asked("A")], columns=[("name", sql("toString(event)"))])
    rows = sequences(marked, needed=[ANCHOR], beside=[("names", sql("name"))])
    for direction, merge, path in ((BEFORE, False, "YYX"), (BEFORE, True, "YX"), (AFTER, False, "Z")):
        asked_for = Flow(project=0, since=BEGAN, until=BEGAN + 9, direction=direction, merge_repeats=merge)
        assert await found(sql("SELECT path FROM $paths", paths=paths(asked_for, rows))) == [(list(path),)]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("direction", {"direction": "around"}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 11}),
        ("names", {"names": 51}),
        ("window", {"window_ms": -1}),
    ],
)
def test_a_wrong_option_is_named(field, changes):
    right = Flow(project=1, since=0, until=1)
    check(right)
    with pytest.raises(QuestionError) as caught:
        check(msgspec.structs.replace(right, **changes))
    assert caught.value.field == field
