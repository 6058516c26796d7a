"""The schema says what is stored: every name and type, how often, since when; of nobody else's project."""

from __future__ import annotations

import json
from collections import defaultdict

from crowd import happenings, projects, seeds, stored
from engine import opened_store
from histories import History, answering
from hypothesis import Phase, given, settings
from test_everyone import BEGAN, DAY, NOW, numbered

from pugd.query import schema as planned
from pugd.query import times
from pugd.schema import SAMPLE_LENGTH_MAX, Named, Schema


@settings(max_examples=3, phases=[Phase.generate])
@given(seeds)
async def test_names_counts_and_types_are_those_of_the_events(random):
    history = numbered(random)
    await stored(history)
    answer = answering(history, await opened_store(), NOW, clock=lambda: NOW)
    own = happenings(history)
    found = await answer.schema(Schema(project=history.project))
    expected = defaultdict(list)
    for event in own:
        expected[event["event"]].append(event["occurred_at"])
    assert {one.event: (one.count, one.first_seen, one.last_seen) for one in found.events} == {
        name: (len(at), times.text(min(at)), times.text(max(at))) for name, at in expected.items()
    }
    assert found.events_count == len(expected)
    assert [one.count for one in found.events] == sorted((one.count for one in found.events), reverse=True)
    name = random.choice(list(expected))
    of_event = await answer.schema(Schema(project=history.project, event=name))
    said = defaultdict(list)
    for event in own:
        if event["event"] == name:
            for key, value in json.loads(event["properties"]).items():
                if value is not None:
                    said[key].append((value, event["occurred_at"]))
    kinds = {int: "number", float: "number", str: "text", list: "list"}
    assert {one.name: (one.types, one.count, one.first_seen) for one in of_event.properties} == {
        key: (
            sorted({kinds[type(value)] for value, _ in values}), len(values), times.text(min(at for _, at in values))
        )
        for key, values in said.items()
    }  # fmt: skip
    for one in of_event.properties:
        values = [value for value, _ in said[one.name]]
        assert one.samples
        for sample in one.samples:
            assert sample in values or json.loads(sample) in values
    assert of_event.counted == len(expected[name])


async def test_odd_names_late_ones_and_long_values():
    history = History(next(projects))
    properties = {"a.b": 1, "cart": {"x.y": {"z": [1]}}, "'; drop": "x" * 500, "è": True, "gone": None, "empty": {}}
    history.track("ev'il", user="u", at=BEGAN, properties=json.dumps(properties), context='{"page": {"path": "/x"}}')
    history.track("ev'il", user="u", at=BEGAN - 400 * DAY, received=NOW, properties='{"late": {"deep": 1.5}}')
    history.track("other", user="u", at=BEGAN)
    history.track("ev'il", user="u", at=BEGAN, properties='{"by_a_bot": 1}', bot=1)
    changes = [("plan", "set", '"a"'), ("plan", "set", "3"), ("n.o", "add", "4"), ("old", "unset", "")]
    history.identify("u", "", at=BEGAN, traits=[*changes, ("long", "set", json.dumps("y" * 300))])
    await stored(history)
    answer = answering(history, await opened_store(), NOW, clock=lambda: NOW)
    found = await answer.schema(Schema(project=history.project, event="ev'il"))
    by_name = {str(one.name): one for one in found.properties}
    assert set(by_name) == {"['a.b']", "['cart', 'x.y', 'z']", "'; drop", "è", "late.deep"}
    assert by_name["late.deep"] == Named(
        "late.deep", ["number"], 1, times.text(BEGAN - 400 * DAY), times.text(BEGAN - 400 * DAY), [1.5]
    )
    assert by_name["'; drop"].samples == ["x" * SAMPLE_LENGTH_MAX + "…"]
    assert by_name["['cart', 'x.y', 'z']"].samples == ["[1]"]
    assert [one.name for one in found.context] == ["page.path"]
    assert (found.counted, found.sampled, found.properties_count) == (2, 2, 5)
    few = await answer.schema(Schema(project=history.project, event="ev'il", prefix="a", limit=1))
    assert [one.name for one in few.properties] == [["a.b"]]
    whole = await answer.schema(Schema(project=history.project))
    traits = {str(one.name): one for one in whole.traits}
    assert set(traits) == {"plan", "['n.o']", "long"}
    assert (traits["plan"].types, traits["plan"].count, traits["plan"].samples) in [
        (["number", "text"], 2, samples) for samples in (["a", 3], [3, "a"])
    ]
    assert traits["long"].samples == ["y" * SAMPLE_LENGTH_MAX + "…"]
    assert [one.event for one in (await answer.schema(Schema(project=history.project, prefix="ot"))).events] == [
        "other"
    ]
    nobody = await answer.schema(Schema(project=history.project, event="never"))
    assert (nobody.properties, nobody.counted) == ([], 0)


async def test_of_many_events_a_part_is_counted_and_that_is_said(monkeypatch):
    history = History(next(projects))
    for number in range(300):
        history.track("many", user=f"u{number}", at=BEGAN + number, properties=json.dumps({"n": number}))
    history.track("many", user="once", at=BEGAN, properties='{"rare": 1}')
    await stored(history)
    monkeypatch.setattr(planned, "COUNTED_MAX", 50)
    monkeypatch.setattr(planned, "SAMPLED_MAX", 10)
    answer = answering(history, await opened_store(), NOW, clock=lambda: NOW)
    found = await answer.schema(Schema(project=history.project, event="many"))
    assert {one.name: one.types for one in found.properties} == {"n": ["number"], "rare": ["number"]}
    assert 10 < found.counted < 150
    assert 0 < found.sampled <= 10
