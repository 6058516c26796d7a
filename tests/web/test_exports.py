"""Exports and limits over HTTP: what is sent, what stops, what is refused and with which words."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest
import trio
import trio.testing
from engine import opened_store
from hypercorn.config import Config
from hypercorn.trio import serve
from web.consoles import AT_ONCE, opened

from pugd.limits import Limits

RANGE = {"from": "2023-11-01", "to": "2023-12-01"}


async def test_a_table_of_people_and_one_of_events():
    async with opened() as (_, client):
        listed = (await client.post("/v1/ask/people", json={"limit": 1000})).json()
        answer = await client.post("/v1/export/people", json={})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["content-disposition"].startswith('attachment; filename="people-')
        assert answer.headers["content-disposition"].endswith('.csv"')
        assert answer.headers["cache-control"] == "no-store"
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert {row["person"] for row in rows} == {one["id"] for one in listed["people"]}
        lines = (await client.post("/v1/export/events", json={**RANGE, "format": "jsonl"})).text.splitlines()
        names = [json.loads(line)["event"] for line in lines]
        trend = await client.post("/v1/ask/trend", json={"series": [{}], "interval": None, **RANGE})
        assert len(names) == trend.json()["series"][0]["total"]["value"]
        assert "crawl" not in names


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("people", {"format": "xls"}, "invalid_field", "format"),
        ("people", {"limit": 5}, "invalid_field", "limit"),
        ("people", {"token": "x"}, "invalid_field", "token"),
        ("people", {"of": {"where": {"property": "a", "op": "matches", "value": "("}}}, "invalid_field",
         "of.where.value"),
        ("events", {"where": {"all": [{"property": "a"}, {"property": "b", "op": "matches", "value": "*"}]}},
         "invalid_field", "where.all[1].value"),
        ("events", {"from": "1900-01-01"}, "too_costly", "from"),
        ("events", {"token": "x"}, "invalid_field", "token"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_an_export_is_told_before_it_begins(path, body, code, field):
    async with opened() as (_, client):
        answer = await client.post(f"/v1/export/{path}", json=body)
        assert answer.status_code == 400
        assert (answer.json()["error"]["code"], answer.json()["error"]["field"]) == (code, field)


async def test_a_regular_expression_that_is_none_is_named():
    async with opened() as (_, client):
        series = [{}, {"where": {"any": [{"field": "path", "op": "not_matches", "value": "(["}]}}]
        answer = await client.post("/v1/ask/trend", json={"series": series, **RANGE})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "invalid_field")
        assert error["field"] == "series[1].where.any[0].value"
        assert "missing ]" in error["message"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(seconds=0.001), "longer than 0.001 s"),
        (Limits(memory_bytes=1 << 20), "GiB of memory"),
        (Limits(rows=3), "more than 3 rows"),
    ],
)
async def test_a_question_over_a_limit_says_what_to_narrow(limits, words):
    async with opened() as (made, client):
        steps = [{"where": {"trait": "plan", "as_of": "event", "op": "set"}}] * 2
        made.answer.limits = limits
        answer = await client.post("/v1/ask/funnel", json={"steps": steps, **RANGE})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "too_costly"
        assert words in error["message"]
        assert "Narrow it" in error["message"]
        made.answer.limits = Limits()
        assert (await client.post("/v1/ask/funnel", json={"steps": steps, **RANGE})).status_code == 200


async def test_more_conditions_than_clickhouse_reads():
    async with opened() as (_, client):
        where = {"any": [{"trait": f"t{number}", "value": number} for number in range(199)]}
        answer = await client.post("/v1/ask/people", json={"where": where})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_costly")
        assert "fewer conditions" in answer.json()["error"]["message"]


async def test_so_many_questions_at_once():
    async with opened() as (_, client):
        store = await opened_store()
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.post("/v1/ask/trend", json={"series": [{}], **RANGE}))

        # All readers are busy, so what is asked waits.
        for number in range(4):
            await store._read_limit.acquire_on_behalf_of(number)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.05)
            busy = await client.get("/v1/people")
            assert busy.status_code == 429
            assert busy.json()["error"]["code"] == "busy"
            assert int(busy.headers["retry-after"]) >= 1
            for number in range(4):
                store._read_limit.release_on_behalf_of(number)
        assert [answer.status_code for answer in answers] == [200] * AT_ONCE
        assert (await client.get("/v1/people")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/ask/people", "/v1/ask/trend", "/v1/export/people", "/v1/export/events"])
async def test_a_client_that_goes_stops_the_question(path, monkeypatch):
    """The answers here are of a slow statement, run in place of the question's own, by the engine itself."""
    slow = "select count() from numbers(100000000000) where cityHash64(number) = 1"
    store = await opened_store()
    query, stream = store.query, store.stream

    async def slow_query(sql, parameters=None, settings=None):
        if "person" not in sql:
            return await query(sql, parameters, settings)
        return await query(slow, {}, settings)

    async def slow_stream(sql, parameters, settings, *, form):
        return await stream(slow, {}, settings, form=form)

    async with opened() as (made, _):
        config = Config()
        config.bind = ["127.0.0.1:0"]
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve, made.app, config)
            port = int(address.rpartition(":")[2])
            monkeypatch.setattr(store, "query", slow_query)
            monkeypatch.setattr(store, "stream", slow_stream)
            body = json.dumps({"series": [{}]} if path.endswith("trend") else {}).encode()
            client = await trio.open_tcp_stream("127.0.0.1", port)
            await client.send_all(
                b"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer read-key\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
            )
            monkeypatch.setattr(store, "query", slow_query)
            with trio.fail_after(10):
                while not await running(query):
                    await trio.sleep(0.02)
                await client.aclose()
                while await running(query):
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert store._stream_limit.borrowed_tokens == 0


async def running(query) -> bool:
    found = await query(
        "select count() from system.processes where position(query, 'numbers(100000000000)') > 0"
        " and position(query, 'system.processes') = 0"
    )
    return found.rows[0][0] > 0
