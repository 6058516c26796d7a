"""The console's application as a whole: who may, what it says while something is away, and what it serves beside."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from web.consoles import BEGAN, opened

from pugd.answer import Stored
from pugd.errors import StoreError, StoreUnavailableError
from pugd.web.app import Health

# Who may.


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic read-key", "Bearer " + "x" * 5000])
async def test_programs_need_a_read_key(header):
    async with opened() as (_, client):
        answer = await client.get("/v1/people", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_login_link_works_once_and_its_cookie_is_kept_from_scripts_and_other_sites():
    async with opened() as (made, client):
        del client.headers["Authorization"]
        assert (await client.get("/people")).status_code == 401
        assert "pugd login" in (await client.get("/people")).text
        assert (await client.head("/login?token=once")).status_code == 403
        answer = await client.get("/login?token=once&next=/people%3Fsort%3Devents")
        assert (answer.status_code, answer.headers["location"]) == (303, "/people?sort=events")
        cookie = answer.headers["set-cookie"].lower()
        assert cookie.startswith("pugd_7081=session-1;")
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert (await client.get("/people")).status_code == 200
        assert (await client.get("/v1/people")).status_code == 200
        again = await client.get("/login?token=once")
        assert again.status_code == 403
        assert "set-cookie" not in again.headers
        elsewhere = await client.post("/logout", headers={"Origin": "https://evil.example"})
        assert elsewhere.status_code == 303
        assert "session-1" in made.keys.sessions
        await client.post("/logout", headers={"Origin": "http://localhost:7081"})
        assert made.keys.sessions == {"session-2"}
        assert (await client.get("/people")).status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\n/x",
        "",
    ],
)
async def test_a_login_leads_nowhere_else(target):
    async with opened() as (_, client):
        answer = await client.get(f"/login?token=once&next={quote(target, safe='')}")
        assert answer.headers["location"] == "/people"


# When something is away.


async def test_a_store_that_is_behind():
    async with opened() as (made, client):
        made.stored = Stored(BEGAN, complete=False)
        answer = await client.get("/v1/people")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
        assert int(answer.headers["retry-after"]) > 0
        for path in ("/v1/people", "/v1/people?distinct_id=user_123", "/v1/timeline?distinct_id=user_123"):
            answer = await client.get(path + ("&" if "?" in path else "?") + "stale=ok")
            assert answer.json()["stored_until"] == "2023-11-14T22:13:20.000Z"
        assert "The store is behind" in (await client.get("/people")).text
        assert made.answer.statistics().stale == 4


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailableError("ClickHouse is away"), 503, "unavailable"),
        (StoreError("Syntax error near secret"), 500, "store_failed"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
async def test_faults_are_told_apart_and_tell_no_secrets(error, status, code):
    async with opened() as (made, client):

        async def fail(*_: object, **__: object) -> None:
            raise error

        made.answer.people = fail
        answer = await client.get("/v1/people")
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == code
        assert "secret" not in answer.text
        page = await client.get("/people")
        assert page.status_code == status
        assert "secret" not in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_control_away():
    async with opened() as (made, client):
        made.keys.away = True
        assert (await client.get("/v1/people")).status_code == 503
        assert (await client.get("/people")).status_code == 503


async def test_health_and_metrics():
    async with opened() as (made, client):
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).json() == {"ready": True, "reasons": {}}
        made.health = Health(False, {"starting": "opening ClickHouse"})
        assert (await client.get("/health/ready")).status_code == 503
        made.statistics = {
            "answer": made.answer.statistics(),
            "collector": {
                "edge": {"requests": 5, "connections": 2, "refused": {'a"\\\n': 3}},
                "name": "x",
                "none": None,
            },
            "journal": {"refused_disk": 1, "refused_pending": 2, "held_bytes": 3, "oldest": 4, "failed": True},
        }
        lines = (await client.get("/metrics", headers={"Authorization": ""})).text.splitlines()
        assert "# TYPE pugd_answer_questions_total counter" in lines
        assert "pugd_collector_edge_requests_total 5" in lines
        assert "# TYPE pugd_collector_edge_connections gauge" in lines
        assert 'pugd_collector_edge_refused_total{of="a\\"\\\\\\n"} 3' in lines
        assert "pugd_journal_refused_disk_total 1" in lines
        assert "pugd_journal_refused_pending_total 2" in lines
        assert "# TYPE pugd_journal_held_bytes gauge" in lines
        assert "# TYPE pugd_journal_oldest gauge" in lines
        assert "pugd_journal_failed 1" in lines


async def test_events_sent_to_the_wrong_port_are_shown_the_right_one():
    async with opened() as (_, client):
        answer = await client.post("/v1/track", json={"event": "scroll", "anonymousId": "anon-1"})
        assert answer.status_code == 404
        assert "send events to http://" in answer.json()["error"]["message"]


async def test_static_files_are_ours_and_nothing_more():
    async with opened() as (_, client):
        for path in ("/static/console.css", "/static/icon.svg"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
            assert "url(" not in answer.text
        for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/"):
            assert (await client.get(path)).status_code == 404


async def test_every_answer_keeps_a_browser_to_ourselves():
    async with opened() as (_, client):
        for path in (
            "/people",
            "/v1/people",
            "/nothing",
            "/v1/nothing",
            "/health/live",
            "/metrics",
            "/static/console.css",
        ):
            headers = (await client.get(path)).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert "script-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"


async def test_served_by_hypercorn():
    async with opened() as (made, _):
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.accesslog = config.errorlog = None
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve, made.app, config)
            async with httpx.AsyncClient(headers={"Authorization": "Bearer read-key"}) as real:
                answer = await real.get(f"{address}/v1/people?search=user_123")
                assert answer.json()["count"] == 1
                assert (await real.get(f"{address}/people?search=%3Cb%3E")).status_code == 200
                assert (await real.get(f"{address}/static/console.css")).status_code == 200
            nursery.cancel_scope.cancel()
