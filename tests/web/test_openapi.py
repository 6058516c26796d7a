"""openapi.json and the page of the API: every path is there, each exists, and the examples are read as questions."""

from __future__ import annotations

import json
import shlex
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from starlette.routing import Route
from web.consoles import opened

from pugd.ask import JOURNEYS
from pugd.web import openapi, parameters
from pugd.web.openapi import CALLS, MergeBody, UnlinkBody


def described() -> dict:
    return json.loads(openapi.document())


async def test_every_route_is_described_and_each_that_is_described_is_one():
    async with opened() as (made, _):
        there = {
            (method, route.path)
            for route in made.app._app.routes
            if isinstance(route, Route) and route.path.startswith("/v1/") and route.path != "/v1/openapi.json"
            for method in route.methods or ()
            if method != "HEAD"
        }
    told = {(method.upper(), path) for path, methods in described()["paths"].items() for method in methods}
    assert told == there
    assert len({(call.method, call.path) for call in CALLS}) == len(CALLS)


@pytest.mark.parametrize("call", [call for call in CALLS if call.body], ids=lambda call: call.path)
def test_every_example_of_a_body_is_read(call):
    body = msgspec.json.encode(call.example)
    asked = parameters.asked(body, call.body)
    if call.body in (UnlinkBody, MergeBody):
        return
    # Nothing in an example is what would be so anyway, or passed over.
    assert set(call.example) <= {field.encode_name for field in msgspec.structs.fields(call.body)}
    assert asked == parameters.asked(body, call.body)


@pytest.mark.parametrize(
    "call", [call for call in CALLS if not call.body], ids=lambda call: f"{call.method} {call.path}"
)
def test_every_example_of_a_query_has_parameters_of_its_path(call):
    if isinstance(call.example, str):
        assert {name for name, _ in parse_qsl(call.example)} <= set(call.query)


async def test_questions_of_the_examples_are_answered():
    async with opened() as (_, client):
        for call in CALLS:
            if call.path.removeprefix("/v1/ask/") in {*JOURNEYS, "people"}:
                answer = await client.post(call.path, json=call.example)
                assert answer.status_code == 200, (call.path, answer.text)
                msgspec.json.decode(answer.content, type=dict)


def test_every_reference_leads_somewhere_and_fields_say_what_they_mean():
    whole = described()
    components = whole["components"]["schemas"]

    def references(said: object) -> set[str]:
        if isinstance(said, dict):
            own = {said["$ref"]} if isinstance(said.get("$ref"), str) else set()
            return own.union(*(references(one) for one in said.values()))
        return set().union(*(references(one) for one in said)) if isinstance(said, list) else set()

    assert references(whole) == {f"#/components/schemas/{name}" for name in references_names(references(whole))}
    assert references_names(references(whole)) <= set(components)
    assert (
        components["Did"]["properties"]["first"]["description"]
        == "The first time ever, rather than any, lies in that time."
    )
    assert components["AskTrend"]["properties"]["from"]["description"].startswith("RFC 3339")
    assert components["Condition"]["description"].startswith("Of an event")
    assert whole["components"]["securitySchemes"]["read_key"]["scheme"] == "bearer"
    operation = whole["paths"]["/v1/ask/trend"]["post"]
    assert {"200", "400", "401", "429", "503"} <= set(operation["responses"])


def references_names(found: set[str]) -> set[str]:
    return {one.rpartition("/")[2] for one in found}


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


async def test_the_page_tells_every_path_with_a_line_to_try_and_loads_nothing():
    async with opened() as (_, client):
        answer = await client.get("/docs", headers={"Authorization": ""})
        assert answer.status_code == 200
        told = (await client.get("/v1/openapi.json")).json()
        assert told["openapi"] == "3.1.0"
    page = Page()
    page.feed(answer.text)
    assert not page.tags & {"script", "iframe", "img", "object"}
    assert all(source.startswith("/") for source in page.sources)
    words = "".join(page.text)
    for call in CALLS:
        assert f"{call.method} {call.path}" in words
        line = openapi.curl(call)
        assert line in words
        address = next(word for word in shlex.split(line) if word.startswith("http://"))
        assert urlsplit(address).path.startswith("/v1/")
        if call.body is not None:
            sent = shlex.split(line)[shlex.split(line).index("-d") + 1]
            assert json.loads(sent) == call.example
