"""Values compared as the plain twin compares them: every operator on every kind, in events' properties and contexts
and in traits."""

from __future__ import annotations

import json
from random import Random
from zoneinfo import ZoneInfo

import pytest
from crowd import found, projects, reading, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from reference import conditions as twin

from pugd import ask
from pugd.query import times
from pugd.query.sql import sql
from pugd.query.values import span
from pugd.question import QuestionError

BEGAN = 1_700_000_000_000
NOW = BEGAN + 50 * 86_400_000
DAY = 86_400_000

VALUES = [
    *("", "a", "A", "ab", "pro", "Pro plan", "12", "1.5", "true", "null", "[]", '"', "\\", "é", "x\ny", "2023-11-14"),
    *("2023-11-14T22:13:20Z", "2023-11-14 23:13:20.5+01:00", "2023-02-31", "2023-13-01", "99", "{}"),
    *(
        0,
        1,
        -1,
        12,
        12.0,
        1.5,
        -2.25,
        2**53,
        2**53 + 1,
        2**62,
        1e15,
        1_700_000_000,
        1_700_000_000_000,
        True,
        False,
        None,
    ),
    *([], ["a", "b"], ["a"], [1, 2.5], [1, "a", None, True], [["a"]], [{"a": 1}], {}, {"x": 1}),
]
ASKED = ["a", "A", "b", "pro", "12", "", "true", 0, 1, 12, 1.5, 2**53 + 1, 2**53, True, False, "2023-11-14", "é", '"']


def condition(random: Random) -> dict:
    """An operator with a value that it may have."""
    op = random.choice(ask.OPERATORS)
    if op in ("set", "unset"):
        return {"op": op}
    if op in ("in", "not_in"):
        return {"op": op, "value": [random.choice(ASKED) for _ in range(random.randint(1, 4))]}
    if op == "between":
        type_ = random.choice([str, int])
        kinds = [one for one in ASKED if isinstance(one, type_) and not isinstance(one, bool)]
        return {"op": op, "value": sorted(random.choice(kinds) for _ in range(2))}
    if op in ("contains", "not_contains"):
        return {"op": op, "value": random.choice(["a", "PRO", "1", ".", "é", '"', "\n"])}
    if op in ("matches", "not_matches"):
        return {"op": op, "value": random.choice(["^a", "o$", r"\d+", "^$", "(a|1)", r"^\w+ "])}
    if op in ("before", "after"):
        return {"op": op, "value": random.choice(["2023-11-14", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.501Z"])}
    if op == "within_last":
        return {"op": op, "value": random.choice(["50 d", "49d", "1 w", "3000000 m".replace("3000000", "72000")])}
    if op in ask.ORDERINGS:
        return {"op": op, "value": random.choice([one for one in ASKED if not isinstance(one, bool)])}
    return {"op": op, "value": random.choice(ASKED)}


def time(said: str) -> int:
    at = times.read(said, ZoneInfo("UTC"))
    return span(said, "") if at is None else at


def wanted(value: object, asked: dict) -> bool:
    given_ = twin.ABSENT if value is None or value is Ellipsis else value
    return twin.met(given_, asked["op"], asked.get("value"), every=asked["every"], now=NOW, time=time)


async def met(history: History, asked: dict) -> set[str]:
    """The events that meet it, by id."""
    of = reading(history, now=NOW)
    where = of.condition(ask.Condition(**asked), "where")
    rows = await found(
        sql("SELECT id FROM $events", events=of.events([where], columns=[("id", sql("event_id"))])),
    )
    return {id_ for (id_,) in rows}


@settings(max_examples=3, phases=[Phase.generate])
@given(seeds)
async def test_a_property_a_context_and_a_trait_compare_as_in_the_twin(random):
    history = History(next(projects))
    said: dict[str, object] = {}
    for number, value in enumerate([*VALUES, ...]):
        held = {"other": 1} if value is ... else {"it": value, "deep": {"it": value}, "odd.name": value}
        text = json.dumps(held)
        history.track("A", user=f"u{number}", at=BEGAN, properties=text, context=text, event_id=f"e{number}")
        if value is not ...:
            history.identify(f"u{number}", at=BEGAN, traits=[("it", "set", json.dumps(value))])
        said[f"e{number}"] = value
    await stored(history)
    for _ in range(40):
        asked = {**condition(random), "every": random.random() < 0.3}
        expected = {id_ for id_, value in said.items() if wanted(value, asked)}
        for subject in (
            {"property": "it"},
            {"property": ("deep", "it")},
            {"property": ("odd.name",)},
            {"context": "deep.it"},
            {"trait": "it"},
            {"trait": "it", "as_of": "event"},
        ):
            answer = await met(history, {**subject, **asked})
            odd = {id_ for id_ in answer ^ expected if not _beyond(said[id_], subject, asked)}
            assert not odd, (subject, asked, [said[id_] for id_ in odd])


def _beyond(value: object, subject: dict, asked: dict) -> bool:
    """Where columns know less than JSON: an empty object is no value of a trait's or a property's own column."""
    return value == {} and asked["op"] in ("set", "unset")


async def test_what_is_asked_of_a_column_is_text():
    history = History(next(projects))
    history.track("A", anonymous="a", at=BEGAN, event_id="web", path="/prices", platform="web")
    history.track("A", anonymous="a", at=BEGAN, event_id="none", path="", platform="server")
    await stored(history)
    for asked, answer in (
        ({"field": "path", "value": "/prices"}, {"web"}),
        ({"field": "path", "op": "!=", "value": "/prices"}, {"none"}),
        ({"field": "path", "op": "set"}, {"web"}),
        ({"field": "path", "op": "unset"}, {"none"}),
        ({"field": "path", "op": "contains", "value": "PRI"}, {"web"}),
        ({"field": "path", "op": "matches", "value": "^/p.*s$"}, {"web"}),
        ({"field": "platform", "op": "in", "value": ["server", "mobile"]}, {"none"}),
        ({"field": "path", "op": "<", "value": 3}, set()),
    ):
        assert await met(history, asked) == answer, asked


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "where"),
        ({"property": "a", "trait": "b", "value": 1}, "where"),
        ({"property": "", "value": 1}, "where.property"),
        ({"property": "a..b", "value": 1}, "where.property"),
        ({"property": "a", "op": "~", "value": 1}, "where.op"),
        ({"property": "a", "op": "="}, "where.value"),
        ({"property": "a", "op": "set", "value": 1}, "where.value"),
        ({"property": "a", "value": None}, "where.value"),
        ({"property": "a", "value": [1]}, "where.value"),
        ({"property": "a", "op": "in", "value": 1}, "where.value"),
        ({"property": "a", "op": "in", "value": []}, "where.value"),
        ({"property": "a", "op": "between", "value": [1, "b"]}, "where.value"),
        ({"property": "a", "op": "<", "value": True}, "where.value"),
        ({"property": "a", "op": "contains", "value": ""}, "where.value"),
        ({"property": "a", "op": "before", "value": "yesterday"}, "where.value"),
        ({"property": "a", "op": "within_last", "value": "1 y"}, "where.value"),
        ({"property": "a", "value": 1, "as_of": "event"}, "where.as_of"),
        ({"field": "password", "value": 1}, "where.field"),
        ({"segment": "none"}, "where.segment"),
        ({"person": "age", "op": "<", "value": 1}, "where.person"),
        ({"person": "first_seen", "op": "<", "value": 1}, "where.op"),
        ({"person": "identified", "op": "<", "value": True}, "where.op"),
        ({"person": "identified", "op": "!="}, "where.value"),
        ({"person": "events", "op": "="}, "where.value"),
        ({"ids": ()}, "where.ids"),
        ({"did": ask.Did(op="~")}, "where.did.op"),
        ({"did": ask.Did(count=-1)}, "where.did.count"),
        ({"did": ask.Did(last="30 d", to="2026-01-01")}, "where.did.last"),
        ({"did": ask.Did(from_="2026-01-02", to="2026-01-01")}, "where.did.to"),
        ({"all": (ask.Condition(property="a", op="<", value=True),)}, "where.all[0].value"),
        ({"not_": ask.Condition()}, "where.not"),
    ],
)
def test_what_is_wrong_is_named(asked, field):
    with pytest.raises(QuestionError) as caught:
        reading(History(1)).condition(ask.Condition(**asked), "where")
    assert caught.value.field == field
    assert caught.value.message.startswith(field)
