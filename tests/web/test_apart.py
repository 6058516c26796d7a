"""No question sees another project, and no word of a question becomes SQL: over every path that reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
from crowd import crowd, projects, stored
from engine import opened_store
from histories import History
from web.consoles import HOSTILE, Console

BEGAN = 1_700_000_000_000
DAY = 86_400_000
RANGE = {"from": "2023-11-01", "to": "2023-12-15"}

BODIES: dict[str, dict[str, Any]] = {
    "/v1/ask/trend": {"series": [{}, {"event": "A", "measure": "people"}], "breakdown": {"trait": "plan"}, **RANGE},
    "/v1/ask/top": {"by": {"person": True}, "of": {}, **RANGE},
    "/v1/ask/funnel": {"steps": [{"event": "A"}, {"event": "B"}], "breakdown": {"field": "path"}, **RANGE},
    "/v1/ask/retention": {"start": {"event": "A"}, "period": "day", **RANGE},
    "/v1/ask/flow": {"of": {"event": "A"}, "steps": 2, **RANGE},
    "/v1/ask/sessions": {"breakdown": "entry_page", **RANGE},
    "/v1/ask/people": {"where": {"did": {"event": "A"}}, "limit": 1000},
    "/v1/ask/timeline": {"distinct_id": "user-1"},
    "/v1/export/people": {"format": "jsonl"},
    "/v1/export/events": {"format": "csv", **RANGE},
}
ADDRESSES = (
    "/v1/people?limit=1000", "/v1/people?search=user", "/v1/people?distinct_id=user-1",
    "/v1/timeline?distinct_id=user-1", "/v1/identity/refusals", "/v1/schema", "/v1/schema?event=A",
)  # fmt: skip


def without_moments(answer: Any) -> Any:
    """Without what differs from asking to asking: when it was, and tokens, which say so too."""
    if isinstance(answer, dict):
        return {
            name: without_moments(value)
            for name, value in answer.items()
            if name != "asked_at" and not name.endswith("token")
        }
    return [without_moments(one) for one in answer] if isinstance(answer, list) else answer


def read(answer: httpx.Response) -> Any:
    if answer.headers["content-type"] == "application/json":
        return answer.status_code, without_moments(answer.json())
    return answer.status_code, sorted(answer.text.splitlines())


async def answers(client: httpx.AsyncClient) -> dict[str, Any]:
    found = {path: read(await client.get(path)) for path in ADDRESSES}
    return found | {path: read(await client.post(path, json=body)) for path, body in BODIES.items()}


def filled(seed: int) -> History:
    random = Random(seed)
    history = crowd(random, lambda: BEGAN + random.randrange(20 * DAY), events=150)
    for number in range(10):
        history.identify(f"user-{number}", f"phone-{number}", at=BEGAN, traits=[("plan", "set", f'"plan {seed}"')])
    return history


async def test_no_project_sees_another():
    own, other = filled(1), filled(2)
    await stored(own)
    async with await Console(own).open() as client:
        before = await answers(client)
        assert {status for status, _ in before.values()} == {200}
        await stored(other)  # the same ids and names of events, under another project
        assert await answers(client) == before
        told = (await client.post("/v1/ask/trend", json=BODIES["/v1/ask/trend"])).json()
        token = told["series"][0]["total"]["token"]
        here = (await client.post("/v1/ask/people", json={"token": token})).json()
    async with await Console(other).open() as client:
        # A token opens in the project of whoever opens it.
        there = (await client.post("/v1/ask/people", json={"token": token, "limit": 1000})).json()
        everybody = (await client.get("/v1/people?limit=1000")).json()
        assert {one["id"] for one in there["people"]} <= {one["id"] for one in everybody["people"]}
        assert "plan 1" not in (await client.post("/v1/export/people", json={"token": token})).text
    assert here["count"]
    async with await Console(History(next(projects))).open() as client:
        for path, (status, answer) in (await answers(client)).items():
            words = str(answer)
            assert status in (200, 404), path
            assert not re.search(r"user-|phone-|plan [12]|p_[0-9a-f]{16}", words), (path, words)
            assert status == 200 or answer["error"]["field"] == "distinct_id", (path, words)


Asked = Callable[[str], tuple[str, dict[str, Any] | None]]
ODD: tuple[Asked, ...] = (
    lambda text: ("/v1/ask/trend", {"series": [{"event": text, "where": {"property": [text], "value": text}}],
                                    "breakdown": {"property": [text]}}),
    lambda text: ("/v1/ask/trend", {"series": [{"where": {"trait": [text, text], "op": "contains", "value": text}}],
                                    "breakdown": {"trait": [text]}}),
    lambda text: ("/v1/ask/top", {"by": {"context": [text]},
                                  "of": {"event": text, "measure": "sum", "of": [text]}}),
    lambda text: ("/v1/ask/funnel", {"steps": [{"event": text}, {"where": {"context": [text], "op": "in",
                                                                           "value": [text, 1]}}]}),
    lambda text: ("/v1/ask/retention", {"start": {"where": {"group": text, "value": text}}}),
    lambda text: ("/v1/ask/flow", {"of": {"event": [text]}, "by": {"property": [text]}}),
    lambda text: ("/v1/ask/sessions", {"having": {"where": {"field": "path", "op": ">", "value": text}}}),
    lambda text: ("/v1/ask/people", {"where": {"any": [{"ids": [text]}, {"did": {"event": text}}]}, "search": text}),
    lambda text: ("/v1/ask/timeline", {"distinct_id": "user-1", "search": text}),
    lambda text: ("/v1/export/people", {"traits": [text], "search": text}),
    lambda text: ("/v1/export/events", {"of": {"event": text}, "where": {"property": [text]}, "format": "jsonl"}),
    lambda text: (f"/v1/schema?event={quote(text, safe='')}&prefix={quote(text, safe='')}", None),
)  # fmt: skip
WRONG: tuple[Asked, ...] = (
    lambda text: ("/v1/ask/people", {"where": {"field": text}}),
    lambda text: ("/v1/ask/people", {"where": {"property": "a", "op": text, "value": text}}),
    lambda text: ("/v1/ask/people", {"token": text}),
    lambda text: ("/v1/ask/people", {text: text}),
    lambda text: ("/v1/ask/trend", {"series": [{"measure": text}]}),
    lambda text: ("/v1/ask/trend", {"series": [{}], "from": text}),
    lambda text: ("/v1/ask/trend", {"series": [{}], "interval": text}),
    lambda text: ("/v1/export/events", {"format": text}),
)


async def test_no_word_of_a_question_becomes_sql(monkeypatch):
    history = filled(3)
    for number, text in enumerate(HOSTILE):
        history.track(text, user="user-1", at=BEGAN + number, properties="{}", path=text)
    await stored(history)
    store = await opened_store()
    query, stream = store.query, store.stream
    said: set[str] = set()

    async def noting(sql: str, parameters: Any = None, settings: Any = None) -> Any:
        said.add(sql)
        return await query(sql, parameters, settings)

    async def noting_stream(sql: str, parameters: Any, settings: Any, *, form: str) -> Any:
        said.add(sql)
        return await stream(sql, parameters, settings, form=form)

    monkeypatch.setattr(store, "query", noting)
    monkeypatch.setattr(store, "stream", noting_stream)
    random = Random(7)
    async with await Console(history).open() as client:

        async def ask(one: Asked, text: str) -> httpx.Response:
            path, body = one(text)
            return await (client.get(path) if body is None else client.post(path, json=body))

        for one in ODD:
            said.clear()
            for plain in ("abc", "a-b"):  # names are read in one of two ways
                assert (await ask(one, plain)).status_code == 200
            known = set(said)
            for text in random.sample(HOSTILE, 4):
                answer = await ask(one, text)
                assert answer.status_code == 200, (one("x")[0], text, answer.text)
                # People are looked up further where there are any, in as many statements as there are.
                unknown = {sql for sql in said - known if text in sql and len(text) > 8}
                assert not unknown, text
        for one in WRONG:
            for text in random.sample(HOSTILE, 4):
                answer = await ask(one, text)
                assert answer.status_code == 400, (one("x"), text, answer.text)
                assert answer.json()["error"]["message"]
