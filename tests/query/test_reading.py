"""Conditions on persons and on events, to any depth, with the plain twin: what they did, how often and when, their
traits now and then, when they were seen, segments within segments; before and after persons are joined and taken
apart."""

from __future__ import annotations

import pytest
from crowd import found, reading, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from inhabited import NOW, SEGMENTS, Twin, by_hand, compared, inhabited, of_person, persons

from pugd import ask
from pugd.query.sql import plan, sql
from pugd.question import QuestionError


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_who_meets_a_condition(random):
    history = inhabited(random)
    for turn in range(2):
        if turn:
            by_hand(random, history)
        await stored(history)
        plain = Twin(history, SEGMENTS)
        for _ in range(12):
            asked = of_person(random, 2)
            of = reading(history, now=NOW, segments=SEGMENTS)
            wanted = {person for person in plain.persons if plain.met(asked, person)}
            assert await persons(of, asked) == wanted, asked


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_which_events_meet_a_condition(random):
    history = inhabited(random)
    by_hand(random, history)
    await stored(history)
    plain = Twin(history, SEGMENTS)
    for _ in range(12):
        leaves = [
            of_person(random, 1),
            ask.Condition(field="path", value=random.choice(["/", "/prices"])),
            ask.Condition(trait=random.choice(["plan", "size"]), as_of="event", **compared(random)),
        ]
        random.shuffle(leaves)
        shapes = [
            ask.Condition(all=tuple(leaves[:2])),
            ask.Condition(any=tuple(leaves[:2])),
            ask.Condition(not_=ask.Condition(any=(leaves[0], ask.Condition(not_=leaves[1])))),
            leaves[2],
        ]
        asked = random.choice(shapes)
        of = reading(history, now=NOW, segments=SEGMENTS)
        of.everywhere = random.choice([of.everywhere, of.condition(leaves[2], "where")])
        everywhere = of.everywhere is not reading(history).everywhere
        only = random.choice([True, False])
        rows = await found(
            sql(
                "SELECT id, person, mark FROM $events",
                events=of.events([of.condition(asked, "where")], only=only, columns=[("id", sql("event_id"))]),
            )
        )
        wanted = {
            (event["event_id"], event["person"], int(met))
            for event in plain.happened
            if ((met := plain.met(asked, event["person"], event)) or not only)
            and (not everywhere or plain.met(leaves[2], event["person"], event))
        }
        assert set(rows) == wanted, (asked, everywhere, only)
        assert len(rows) == len(wanted)


def test_the_past_that_decides_whether_an_event_is_read_and_what_it_meets_is_joined_once():
    of = reading(History(1), now=NOW)
    first, second = (
        of.condition(ask.Condition(trait=key, value=1, as_of="event"), "where") for key in ("plan", "size")
    )
    assert plan(of.events([first, second])).sql.count(" AS past_") == 2


def test_a_segment_is_no_part_of_itself():
    segments = {
        "a": ask.Condition(segment="b"),
        "b": ask.Condition(not_=ask.Condition(segment="a")),
        "path": ask.Condition(field="path", value="/"),
        "then": ask.Condition(trait="plan", as_of="event"),
    }
    for name, words in (
        ("a", "part of itself"),
        ("b", "part of itself"),
        ("path", "of persons"),
        ("then", "of persons"),
    ):
        with pytest.raises(QuestionError, match=words):
            reading(History(1), segments=segments).condition(ask.Condition(segment=name), "where")
    with pytest.raises(QuestionError, match="no segment ''"):
        reading(History(1), segments={}).rule("", ask.Condition(segment=""), "rule")
