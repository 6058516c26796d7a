"""The console as a person and as a program meet it: the login link, the pages in a real browser, the API's errors."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from live.browser import PATH as BROWSER
from live.browser import browser
from live.daemon import READ_KEY, Answer, Daemon, http_request


@pytest.fixture(scope="module")
def visited(daemon: Daemon) -> Daemon:
    """With one person to look at, whose events would like to be markup."""
    events = [
        ("page_view", {"path": "/pricing"}),
        ("scroll", {"percent": 72}),
        ("add_to_cart", {"product_id": "prod-0198"}),
        ("checkout_started", {"value": 416.21, "currency": "USD"}),
        ("<img src=x onerror=document.title='owned'>", {"<b>": "<script>document.title='owned'</script>"}),
    ]
    daemon.send(
        "/v1/batch",
        {
            "batch": [
                {
                    "type": "track",
                    "event": name,
                    "anonymousId": "visitor-1",
                    "messageId": str(uuid.uuid4()),
                    "timestamp": f"2026-11-01T10:0{minute}:00.000Z",
                    "properties": properties,
                }
                for minute, (name, properties) in enumerate(events)
            ]
        },
    )
    daemon.send(
        "/v1/identify",
        {
            "anonymousId": "visitor-1",
            "userId": "user_123",
            "traits": {"name": "<script>document.title='owned'</script>"},
        },
    )
    assert daemon.read("/v1/people?distinct_id=user_123")["person"]["events"] == 5
    return daemon


def login_link(daemon: Daemon) -> str:
    """Path of the one-time link that the start printed."""
    found = re.search(rf"http://127\.0\.0\.1:{daemon.console}(/login\?\S+)", daemon.said())
    assert found, daemon.said()
    return found[1]


@pytest.fixture(scope="module")
def cookie(visited: Daemon) -> str:
    """Of a browser that used the link."""
    link = login_link(visited)
    answer = http_request(visited.console, "GET", link)
    if answer.status == 200 and "set-cookie" not in answer.headers:
        # A page that asks for one press of a button: programs that preview links must not use it up.
        answer = http_request(
            visited.console,
            "POST",
            "/login",
            link.partition("?")[2].encode(),
            {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{visited.console}"},
        )
    assert answer.status in (302, 303, 307), answer
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite" in said
    return answer.headers["set-cookie"].split(";")[0]


def page(daemon: Daemon, path: str, cookie: str | None) -> Answer:
    return http_request(daemon.console, "GET", path, None, {"Cookie": cookie, "Accept": "text/html"} if cookie else {})


def test_the_login_link_works_once(visited: Daemon, cookie: str) -> None:
    assert page(visited, "/people", cookie).status == 200
    again = http_request(visited.console, "GET", login_link(visited))
    assert again.status in (400, 401, 403, 404, 410), again
    assert "set-cookie" not in again.headers


def test_pages_need_a_login(visited: Daemon) -> None:
    for path in ("/people", "/"):
        answer = page(visited, path, None)
        assert answer.status in (302, 303, 307, 401, 403), (path, answer)
        assert b"user_123" not in answer.body
    forged = page(visited, "/people", "pugd=" + "0" * 64)
    assert forged.status in (302, 303, 307, 401, 403)


def test_the_api_takes_the_cookie_too(visited: Daemon, cookie: str) -> None:
    answer = http_request(visited.console, "GET", "/v1/people", None, {"Cookie": cookie})
    assert answer.status == 200
    assert answer.json()["count"] == 1


def test_pages_keep_to_themselves(visited: Daemon, cookie: str) -> None:
    answer = page(visited, "/people", cookie)
    assert "default-src" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for link in re.findall(rb"(?:src|href)=[\"']([^\"']+)", answer.body):
        assert not link.startswith((b"http://", b"https://", b"//")), link
        if link.startswith(b"/") and b"." in link.rpartition(b"/")[2]:
            assert page(visited, link.decode(), cookie).status == 200, link


def browse(daemon: Daemon, cookie: str, path: str, directory: Path, *options: str) -> bytes:
    """What a headless browser made of `path`. The cookie is set through a page of our own on the same host: its jar
    knows hosts, not ports."""
    assert BROWSER is not None
    name, _, value = cookie.partition("=")
    profile = directory / "profile"
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={profile}", "--disable-background-networking", "--window-size=1280,1600"),
    ]
    with CookieProxy(daemon.console, f"{name}={value}") as port:
        answer = subprocess.run(
            [*command, *options, f"http://127.0.0.1:{port}{path}"], capture_output=True, check=False, timeout=90
        )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


class CookieProxy:
    """A port that is the console, for a browser without a cookie: it adds one to each request."""

    def __init__(self, console: int, cookie: str) -> None:
        self.console = console
        self.cookie = cookie

    def __enter__(self) -> int:
        import http.server
        import threading

        console, cookie = self.console, self.cookie

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                accept = self.headers.get("Accept", "*/*")
                host = f"127.0.0.1:{console}"
                answer = http_request(
                    console, "GET", self.path, None, {"Cookie": cookie, "Accept": accept, "Host": host}
                )
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return int(self.server.server_address[1])

    def __exit__(self, *problem: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_shows_the_list_and_a_timeline(visited: Daemon, cookie: str, tmp_path: Path) -> None:
    listed = browse(visited, cookie, "/people", tmp_path, "--dump-dom").decode()
    assert "user_123" in listed
    assert "<title>owned" not in listed
    person = visited.read("/v1/people?distinct_id=user_123")["person"]["id"]
    timeline = browse(visited, cookie, f"/people/{person}", tmp_path, "--dump-dom").decode()
    for words in ("user_123", "visitor-1", "page_view", "scroll", "72", "add_to_cart", "prod-0198", "USD 416.21"):
        assert words in timeline, words
    assert "<title>owned" not in timeline
    assert '<img src="x"' not in timeline
    assert "&lt;img src=x" in timeline
    picture = tmp_path / "page.png"
    browse(visited, cookie, f"/people/{person}", tmp_path, f"--screenshot={picture}")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000, "an empty page is smaller"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/people/p_0000000000000001", 404, None),
        ("/v1/people/nobody", 404, None),
        ("/v1/people?distinct_id=nobody", 404, "distinct_id"),
        ("/v1/timeline?distinct_id=nobody", 404, "distinct_id"),
        ("/v1/timeline", 400, "distinct_id"),
        ("/v1/timeline?distinct_id=user_123&limit=0", 400, "limit"),
        ("/v1/timeline?distinct_id=user_123&limit=1001", 400, "limit"),
        ("/v1/timeline?distinct_id=user_123&limit=many", 400, "limit"),
        ("/v1/timeline?distinct_id=user_123&order=sideways", 400, "order"),
        ("/v1/timeline?distinct_id=user_123&from=yesterday", 400, "from"),
        ("/v1/timeline?distinct_id=user_123&cursor=forged", 400, "cursor"),
        ("/v1/people?sort=height", 400, "sort"),
        ("/v1/people?cursor=AAAA", 400, "cursor"),
        ("/v1/people?identified=perhaps", 400, "identified"),
        ("/v1/nothing", 404, None),
    ],
)
def test_the_api_says_what_is_wrong(visited: Daemon, path: str, status: int, field: str | None) -> None:
    answer = visited.ask(path)
    assert answer.status == status, answer
    error = answer.json()["error"]
    assert re.fullmatch(r"[a-z_]+", error["code"])
    assert error["message"]
    assert error["field"] == field


def test_the_api_needs_its_own_kind_of_key(visited: Daemon) -> None:
    for authorization in (
        None,
        "Bearer wrong",
        "Bearer",
        f"Basic {READ_KEY}",
        "Bearer " + "x" * 5000,
        "Bearer wk_live",
    ):
        headers = {"Authorization": authorization} if authorization else {}
        answer = http_request(visited.console, "GET", "/v1/people", None, headers)
        assert answer.status in (401, 403), (authorization, answer)
        assert answer.json()["error"]["code"]


def test_hostile_searches_find_nothing_and_break_nothing(visited: Daemon) -> None:
    from urllib.parse import quote

    for text in (
        "'",
        '"',
        "\\",
        "%",
        "_",
        "' or 1=1 --",
        "{x:String}",
        "%(x)s",
        "\0",
        "\U0001f600",
        "a" * 5000,
        "(",
        "*",
    ):
        for path in (f"/v1/people?search={quote(text)}", f"/v1/timeline?distinct_id=user_123&search={quote(text)}"):
            answer = visited.ask(path)
            assert answer.status in (200, 400), (text, answer)
            if answer.status == 200 and text in ("' or 1=1 --", "{x:String}", "%(x)s", "\U0001f600"):
                said = answer.json()
                assert said.get("people", said.get("entries")) == [], (text, answer)


def test_health_answers_on_both_ports_and_metrics_on_the_console_alone(visited: Daemon) -> None:
    for port in (visited.port, visited.console):
        for path in ("/health/live", "/health/ready"):
            assert http_request(port, "GET", path).status == 200
    assert http_request(visited.port, "GET", "/metrics").status == 404
    assert http_request(visited.port, "GET", "/v1/people", None, {"Authorization": f"Bearer {READ_KEY}"}).status in (
        404,
        405,
    )
    text = visited.ask("/metrics").body.decode()
    assert re.search(r"^# TYPE \w+ counter$", text, re.M)
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-zA-Z_:][\w:]*(\{.*\})? [-+.\deEInfNa]+", line), line


def test_the_console_is_no_place_for_events(visited: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", visited.console, timeout=10)
    connection.request("POST", "/v1/track", b"{}")
    assert connection.getresponse().status in (404, 405)
    connection.close()


# Which ids are one person.


def post(daemon: Daemon, path: str, body: object, **headers: str) -> Answer:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {READ_KEY}", **headers}
    return http_request(daemon.console, "POST", path, json.dumps(body).encode(), headers)


def done(daemon: Daemon, path: str, body: object) -> dict[str, Any]:
    answer = post(daemon, path, body)
    assert answer.status == 200, answer
    said: dict[str, Any] = answer.json()
    return said


def ids_of(person: dict[str, Any]) -> list[str]:
    return sorted(one["id"] for one in person["ids"])


def test_a_wrong_link_is_explained_undone_and_stays_undone(daemon: Daemon) -> None:
    """A shared tablet is dee's by mistake; its history goes back to a visitor, for reads at once and for ever."""
    daemon.send("/v1/track", {"anonymousId": "tablet", "event": "search", "properties": {"$set": {"color": "red"}}})
    daemon.send("/v1/identify", {"anonymousId": "phone-d", "userId": "dee", "traits": {"plan": "pro"}})
    daemon.send("/v1/identify", {"anonymousId": "tablet", "userId": "dee", "messageId": "mistake"})
    person = daemon.read("/v1/people?distinct_id=tablet")["person"]
    assert (ids_of(person), person["traits"]) == (["dee", "phone-d", "tablet"], {"color": "red", "plan": "pro"})
    why = daemon.read("/v1/identity/explain?a=tablet&b=phone-d")
    assert why["person"] == person["id"]
    assert [(link["call"], link["a"], link["b"]) for link in why["links"]] == [
        ("identify", "tablet", "dee"), ("identify", "phone-d", "dee"),
    ]  # fmt: skip
    assert why["links"][0]["event_id"] == "mistake"
    foretold = done(daemon, "/v1/identity/unlink", {"a": "tablet", "b": "dee", "dry_run": True})
    assert daemon.read("/v1/people?distinct_id=tablet")["person"] == person
    unlinked = done(daemon, "/v1/identity/unlink", {"a": "tablet", "b": "dee"})
    assert unlinked["persons"] == foretold["persons"]
    assert sorted(map(ids_of, unlinked["persons"])) == [["dee", "phone-d"], ["tablet"]]
    assert [link["event_id"] for link in unlinked["removed"]] == ["mistake"]
    alone = daemon.read("/v1/people?distinct_id=tablet")["person"]
    assert (ids_of(alone), alone["traits"], alone["events"]) == (["tablet"], {"color": "red"}, 1)
    assert daemon.read("/v1/people?distinct_id=dee")["person"]["traits"] == {"plan": "pro"}
    assert daemon.read(f"/v1/people/{person['id']}")["person"]["user_id"] == "dee"
    # Neither again directly nor through a third id, and both refusals are told.
    daemon.send("/v1/identify", {"anonymousId": "tablet", "userId": "dee"})
    daemon.send("/v1/alias", {"previousId": "tablet", "anonymousId": "other"})
    daemon.send("/v1/alias", {"previousId": "other", "userId": "dee"})
    refusals = daemon.read("/v1/identity/refusals?distinct_id=dee")
    assert refusals["counts"] == {"unlinked_by_hand": 2}
    assert [(one["a"], one["b"]) for one in refusals["refusals"]] == [("other", "dee"), ("tablet", "dee")]
    assert daemon.read("/v1/people?distinct_id=dee")["links_refused"] == 2
    assert ids_of(daemon.read("/v1/people?distinct_id=tablet")["person"]) == ["other", "tablet"]
    for id_ in ("tablet", "phone-d"):
        (entry,) = [one for one in daemon.entries(id_) if one.get("call") == "unlink"]
        assert (entry["id"], entry["transport"]) == (f"link:{unlinked['order']}", "console")
    merged = done(daemon, "/v1/identity/merge", {"a": "other", "b": "dee"})
    assert ids_of(merged["person"]) == ["dee", "other", "phone-d", "tablet"]
    assert daemon.read("/v1/people?distinct_id=tablet")["person"] == merged["person"]
    daemon.kill("collector")
    daemon.wait_ready()
    again = done(daemon, "/v1/identity/unlink", {"distinct_id": "dee", "dry_run": True})
    assert sorted(map(ids_of, again["persons"])) == [["dee"], ["other", "tablet"], ["phone-d"]]


def test_events_change_traits_by_every_way_in(daemon: Daemon) -> None:
    def event(at: str, **properties: object) -> dict[str, object]:
        return {"event": "e", "userId": "eve", "timestamp": f"2026-10-0{at}T00:00:00.000Z", "properties": properties}

    daemon.send("/v1/track", event("1", **{"$set": {"plan": "free"}, "$set_once": {"source": "ad"}, "path": "/"}))
    daemon.send("/v1/batch", {"batch": [
        {"type": "track", **event("2", **{"$add": {"visits": 2}, "$set_once": {"source": "mail"}})},
        {"type": "page", **event("3", **{"$set": {"plan": "pro"}, "$add": {"visits": 1.5}})},
    ]})  # fmt: skip
    daemon.datagram(event("4", **{"$unset": ["source"], "$add": {"visits": 1}}))
    daemon.send("/v1/identify", {"userId": "eve", "timestamp": "2026-10-05T00:00:00.000Z", "traits": {"plan": None}})
    deadline = time.monotonic() + 10
    while len(list(daemon.entries("eve"))) < 9 and time.monotonic() < deadline:
        time.sleep(0.05)  # a datagram has no ack
    person = daemon.read("/v1/people?distinct_id=eve")["person"]
    assert (person["traits"], person["events"]) == ({"visits": 4.5}, 4)
    for as_of, traits in (
        ("2026-09-30", {}),
        ("2026-10-01", {"plan": "free", "source": "ad"}),
        ("2026-10-01T23:59:59.999Z", {"plan": "free", "source": "ad"}),
        ("2026-10-02", {"plan": "free", "source": "ad", "visits": 2}),
        ("2026-10-03", {"plan": "pro", "source": "ad", "visits": 3.5}),
        ("2026-10-04T00:00:00Z", {"plan": "pro", "visits": 4.5}),
        ("2026-10-05", {"visits": 4.5}),
    ):
        for path in ("/v1/people?distinct_id=eve", "/v1/timeline?distinct_id=eve", f"/v1/people/{person['id']}?"):
            assert daemon.read(f"{path}&as_of={as_of}")["person"]["traits"] == traits, (path, as_of)
    changes = [entry["changes"] for entry in daemon.entries("eve", "&order=asc") if entry["type"] == "traits"]
    assert changes == [
        {"plan": {"from": None, "to": "free"}, "source": {"from": None, "to": "ad"}},
        {"source": {"from": "ad", "to": "ad"}, "visits": {"from": None, "to": 2}},
        {"plan": {"from": "free", "to": "pro"}, "visits": {"from": 2, "to": 3.5}},
        {"source": {"from": "ad", "to": None}, "visits": {"from": 3.5, "to": 4.5}},
        {"plan": {"from": "pro", "to": None}},
    ]


def test_identity_needs_the_collector_and_says_so(visited: Daemon) -> None:
    body = {"a": "visitor-1", "b": "user_123", "dry_run": True}
    for headers, status in (({"Authorization": "Bearer wrong"}, 401), ({"Content-Type": "text/plain"}, 415), ({}, 200)):
        assert post(visited, "/v1/identity/unlink", body, **headers).status == status
    pid = visited.wait_pid("collector")
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = post(visited, "/v1/identity/unlink", body)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert visited.read("/v1/people?distinct_id=user_123")["person"]["events"] == 5, "other questions go on"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert post(visited, "/v1/identity/unlink", body).status == 200


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_buttons_unlink_merge_and_log_out_in_a_browser(visited: Daemon, tmp_path: Path) -> None:
    """What browsers say of where a form comes from differs from what tests say: a real one must be let through."""
    visited.send("/v1/identify", {"anonymousId": "shared", "userId": "fay"})
    person = visited.read("/v1/people?distinct_id=fay")["person"]["id"]
    console = f"http://127.0.0.1:{visited.console}"
    with browser(tmp_path / "profile") as window:
        window.open(new_login_link(visited))
        assert window.address == "/people"
        window.open(f"{console}/people/{person}")
        window.press("form[action$='/why'] button")
        assert "an identify call" in window.text
        window.press("a.button[href*='/unlink']")
        assert "2 persons would result" in window.text
        window.press("button.grave")
        assert window.address == f"/people/{person}"
        assert "Taken apart by hand" in window.text
        assert ids_of(visited.read("/v1/people?distinct_id=fay")["person"]) == ["fay"]
        window.fill("form[action$='/merge'] input[name=b]", "shared")
        window.press("form[action$='/merge'] button")
        assert "Make fay and shared one person?" in window.text
        window.press("button.grave")
        assert "Merged by hand" in window.text
        assert ids_of(visited.read("/v1/people?distinct_id=fay")["person"]) == ["fay", "shared"]
        window.press("form[action='/logout'] button")
        assert window.address == "/login"
        window.open(f"{console}/people")
        assert "pugd login" in window.text


def new_login_link(daemon: Daemon) -> str:
    """As an operator makes one."""
    made = daemon.command("login").stdout
    found = re.search(r"http://\S+/login\?\S+", made)
    assert found, made
    return found[0]
