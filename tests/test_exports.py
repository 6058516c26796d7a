"""Exports say what the API says, in each format: the same people, columns and events; and hostile cells stay cells."""

from __future__ import annotations

import csv
import io
import json
from random import Random
from typing import Any

import msgspec
import pytest
from crowd import happenings, seeds, stored
from engine import opened_store
from histories import History
from hypothesis import Phase, given, settings
from test_everyone import BEGAN, DAY, NOW, asking, by_hand, numbered, tokens

from pugd import ask, tables
from pugd.everyone import Everyone
from pugd.exports import Exports
from pugd.model import Project
from pugd.query import export, times
from pugd.question import QuestionError


async def exporting(history: History) -> tuple[Everyone, Exports, Project]:
    everyone, project = await asking(history)
    return everyone, Exports(everyone._answer, everyone, await opened_store()), project


async def written(export_: Any) -> bytes:
    found = bytearray()
    try:
        while piece := await export_.read():
            found += piece
    finally:
        await export_.close()
    return bytes(found)


async def table(data: bytes, format_: str) -> list[dict]:
    """As a reader of that format sees it."""
    if format_ == ask.CSV:
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    if format_ == ask.JSONL:
        return [json.loads(line) for line in data.splitlines()]
    store = await opened_store()
    path = store._directory / "tmp" / "read.parquet"
    path.write_bytes(data)
    client = store._connect(store.database)
    try:
        text = client.raw_query(
            "select * from file({path:String}, 'Parquet') settings date_time_output_format = 'iso',"
            " output_format_json_quote_64bit_integers = 0", parameters={"path": str(path)}, fmt="JSONEachRow",
        )  # fmt: skip
    finally:
        client.close()
        path.unlink()
    return [json.loads(line) for line in text.splitlines()]


def trait_sets(random: Random, history: History) -> None:
    values = ['"free"', '"=1+1"', "-5", '"-5"', "4.5", "true", '{"a": [1, "x"]}', '"é"', "null", '"a,b\\n\\"c\\""']
    for number in range(60):
        if random.random() < 0.6:
            history.identify(
                f"user-{number}", f"phone-{number}", at=BEGAN + random.randrange(20 * DAY),
                traits=[(key, "set", random.choice(values)) for key in random.sample(["plan", "a b", "n"], 2)],
            )  # fmt: skip
        if random.random() < 0.1:
            history.alias(f"user-{number}", f"new-{number}", at=BEGAN + random.randrange(20 * DAY))


def same_cell(cell: Any, value: Any) -> bool:
    if value is None:
        return cell in ("", None)
    return cell == value


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_people_are_those_of_the_api(random):
    history = numbered(random)
    trait_sets(random, history)
    by_hand(random, history)
    await stored(history)
    everyone, exports, project = await exporting(history)
    when = {"from_": times.text(BEGAN), "to": times.text(BEGAN + random.randrange(1, 20) * DAY)}
    trend = await everyone.journey(project, ask.AskTrend(series=(ask.Series(event="A"),), **when))
    token = random.choice([token for token, number in tokens(msgspec.to_builtins(trend)) if number])
    for said in (
        {},
        {"token": token},
        {"of": ask.Selection(event="B"), **when},
        {"where": ask.Condition(trait="plan", value="free")},
        {"search": "user-1"},
        {"identified": random.choice([True, False])},
    ):
        listed = await everyone.people(project, ask.AskPeople(limit=1000, **said))
        expected = {one.id: one for one in listed.people}
        for format_ in random.sample(ask.FORMATS, 1):
            found = await table(
                await written(await exports.people(project, ask.ExportPeople(format=format_, **said))), format_
            )
            assert len(found) == listed.count
            assert {row["person"] for row in found} == set(expected)
            for row in found:
                one = expected[row["person"]]
                assert list(row) == [*export.PERSON_COLUMNS, "traits"]
                assert same_cell(row["user_id"], one.user_id), (row, one)
                assert json.loads(row["user_ids"]) == one.user_ids
                assert json.loads(row["ids"])[:10] == [id_.id for id_ in one.ids]
                assert len(json.loads(row["ids"])) == one.ids_count
                assert (row["first_seen"], row["last_seen"]) == (one.first_seen, one.last_seen)
                assert int(row["events"]) == one.events
                assert json.loads(row["traits"]) == json.loads(msgspec.json.encode(one.traits))


@settings(max_examples=3, phases=[Phase.generate])
@given(seeds)
async def test_traits_as_columns(random):
    history = numbered(random)
    trait_sets(random, history)
    await stored(history)
    everyone, exports, project = await exporting(history)
    listed = await everyone.people(project, ask.AskPeople(limit=1000))
    keys = ("plan", "a b", "never")
    for format_ in ask.FORMATS:
        asked = ask.ExportPeople(format=format_, traits=keys)
        for row in await table(await written(await exports.people(project, asked)), format_):
            (one,) = (person for person in listed.people if person.id == row["person"])
            assert list(row) == [*export.PERSON_COLUMNS, *(f"traits.{key}" for key in keys)]
            for key in keys:
                json_ = one.traits.get(key)
                value = None if json_ is None else json.loads(bytes(json_))
                cell = row[f"traits.{key}"]
                if isinstance(value, str):
                    safe = "'" + value if format_ == ask.CSV and value[0] in "=+-@\t\r" else value
                    assert cell == safe
                elif isinstance(value, bool | dict):
                    assert json.loads(cell) == value
                elif value is None:
                    assert cell in ("", None)
                else:
                    assert float(cell) == value


@settings(max_examples=4, phases=[Phase.generate])
@given(seeds)
async def test_events_are_those_that_count(random):
    history = numbered(random)
    await stored(history)
    everyone, exports, project = await exporting(history)
    since = BEGAN + random.randrange(10) * DAY
    until = since + random.randrange(1, 9) * DAY
    when = {"from_": times.text(since), "to": times.text(until)}
    trend = await everyone.journey(project, ask.AskTrend(series=(ask.Series(event="A"),), interval=None, **when))
    (only,) = {token for token, _ in tokens(msgspec.to_builtins(trend))}
    own = [event for event in happenings(history) if since <= event["at"] < until]
    persons = {event["person"] for event in own if event["event"] == "A"}
    for said, expected in (
        ({}, own),
        ({"of": ask.Selection(event=("A", "X"))}, [event for event in own if event["event"] in "AX"]),
        (
            {"where": ask.Condition(field="path", value="/prices")},
            [event for event in own if event["path"] == "/prices"],
        ),
        ({"token": only}, [event for event in own if event["person"] in persons]),
    ):
        for format_ in random.sample(ask.FORMATS, 1):
            asked = ask.ExportEvents(format=format_, **when, **said)
            found = await table(await written(await exports.events(project, asked)), format_)
            assert sorted(row["event_id"] for row in found) == sorted(event["event_id"] for event in expected)
            by_id = {event["event_id"]: event for event in expected}
            for row in found:
                event = by_id[row["event_id"]]
                assert list(row) == list(export.EVENT_COLUMNS)
                assert row["person"] == f"p_{event['person']:016x}"
                assert row["occurred_at"] == times.text(event["occurred_at"])
                assert json.loads(row["properties"]) == json.loads(event["properties"])
                for name in ("event", "user_id", "anonymous_id", "session_id", "path", "platform"):
                    assert row[name] == event[name]


def test_every_column_of_events_that_says_what_happened_is_exported():
    stored_ = {column.name for column in tables.EVENTS.columns}
    ours = {"project", "actor", "cookieless", "properties_text", "collector", "epoch", "position"}
    assert set(export.EVENT_COLUMNS) - {"person"} == stored_ - ours


HOSTILE = [
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "a,b",
    'q"q',
    "n\nn",
    "'x",
    "\n=1",
    "\uff1d1",
    "\\N",
    "ü",
    "\0",
]


async def test_no_cell_of_csv_is_a_formula():
    history = History(712_001)
    for number, text in enumerate(HOSTILE):
        history.track(text, user=text, anonymous="", at=BEGAN + number, path=text, properties=json.dumps({text: text}))
        history.identify(text, "", at=BEGAN + number, traits=[(text, "set", json.dumps(text)), ("n", "set", "-7")])
    await stored(history)
    _, exports, project = await exporting(history)
    when = {"from_": times.text(BEGAN), "to": times.text(NOW)}
    rows = await table(await written(await exports.events(project, ask.ExportEvents(**when))), ask.CSV)
    people = ask.ExportPeople(traits=(*HOSTILE, "n"))
    persons = await table(await written(await exports.people(project, people)), ask.CSV)
    assert (len(rows), len(persons)) == (len(HOSTILE), len(HOSTILE))

    def safe(text: str) -> str:
        return "'" + text if text[0] in "=+-@\t\r\n\uff1d" else text

    assert sorted(row["event"] for row in rows) == sorted(map(safe, HOSTILE))
    assert sorted(row["path"] for row in rows) == sorted(map(safe, HOSTILE))
    assert sorted(row["user_id"] for row in persons) == sorted(map(safe, HOSTILE))
    assert all(row["traits.n"] == "-7" for row in persons)
    for text in HOSTILE:
        assert [row[f"traits.{text}"] for row in persons if row["user_id"] == safe(text)] == [safe(text)]
    plain = await table(
        await written(await exports.events(project, ask.ExportEvents(format="jsonl", **when))), ask.JSONL
    )
    assert sorted(row["event"] for row in plain) == sorted(HOSTILE)


@pytest.mark.parametrize(
    ("said", "field"),
    [({"format": "xlsx"}, "format"), ({"traits": ()}, "traits"), ({"traits": ("a", "a")}, "traits"),
     ({"traits": ("a`",), "format": "parquet"}, "traits[0]"), ({"traits": ("",)}, "traits[0]"),
     ({"token": "x"}, "token"), ({"from_": "2024-01-01"}, "of")],
)  # fmt: skip
async def test_what_is_wrong_is_named(said, field):
    _, exports, project = await exporting(numbered(Random(1)))
    with pytest.raises(QuestionError) as caught:
        await exports.people(project, ask.ExportPeople(**said))
    assert caught.value.field == field
