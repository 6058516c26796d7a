"""/pugd.js in a real browser, on a page of another origin: what a visitor does there is on one timeline, once each,
while collectors are killed, networks fail, tabs close and storage is forbidden; nothing is sent without consent.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live.browser import PATH as BROWSER
from live.browser import Browser, browser
from live.daemon import READ_KEY, WRITE_KEY, Answer, Daemon, http_request, root
from live.test_console import new_login_link

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

PREFIX = f"pugd.{WRITE_KEY}."
SANDBOX = {"Content-Security-Policy": "sandbox allow-scripts"}
"""An origin of its own, to which localStorage is forbidden."""


class Site:
    """A website on a port of its own: every path is a page with the snippet, after what `before` says for its path."""

    def __init__(self, collector: int) -> None:
        self.collector = collector
        self.tag: dict[str, str] = {}
        """By path: more attributes of the script tag."""
        self.before: dict[str, str] = {}
        """By path: a script of the page's own, before the snippet."""
        self.headers: dict[str, dict[str, str]] = {}
        self.pages: dict[str, str] = {"/without": "<!doctype html><title>Without</title>"}
        """By path: pages without all that."""

    def page(self, path: str) -> bytes:
        if path in self.pages:
            return self.pages[path].encode()
        return f"""<!doctype html><title>{path}</title>
            <script>errors = [];
            addEventListener('error', (event) => errors.push(event.message));
            addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)));
            window.pugd = window.pugd || function () {{ (pugd.q = pugd.q || []).push(arguments) }};
            {self.before.get(path, "")}</script>
            <script src="http://127.0.0.1:{self.collector}/pugd.js" data-key="{WRITE_KEY}" async
            {self.tag.get(path, "")}></script>""".encode()

    def __enter__(self) -> Site:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = site.page(path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                for name, value in site.headers.get(path, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Road:
    """A port on the way to the collector: `open`; `cut`, nothing passes; `lost`, requests pass and no answer comes
    back; a number, which is answered in the collector's place, with `Retry-After: 2`."""

    def __init__(self, collector: int) -> None:
        self.mode: str | int = "open"
        self.requests: list[float] = []
        """When each came."""
        self.bodies: list[Any] = []
        road = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                road.requests.append(time.monotonic())
                body = self.rfile.read(int(self.headers["Content-Length"]))
                road.bodies.append(json.loads(body))
                self.close_connection = True
                if road.mode == "cut":
                    return
                if isinstance(road.mode, int):
                    answer = Answer(road.mode, {"retry-after": "2"}, b"{}")
                else:
                    answer = http_request(collector, "POST", self.path, body, {"Origin": self.headers["Origin"]})
                if road.mode == "lost":
                    return
                self.send_response(answer.status)
                for name, value in (("Access-Control-Allow-Origin", "*"), *answer.headers.items()):
                    if name in ("Access-Control-Allow-Origin", "retry-after"):
                        self.send_header(name, value)
                self.send_header("Access-Control-Expose-Headers", "Retry-After")
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.tag = f'data-host="http://127.0.0.1:{self.server.server_address[1]}"'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def road(daemon: Daemon) -> Iterator[Road]:
    one = Road(daemon.port)
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture(scope="module")
def site(daemon: Daemon) -> Iterator[Site]:
    with Site(daemon.port) as one:
        yield one


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    """A browser that never was anywhere."""
    with browser(tmp_path / "profile") as one:
        yield one


def wait(until: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def kept(window: Browser) -> list[str]:
    """Our names in the browser's storage."""
    names: list[str] = window.run("Object.keys(localStorage)")
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith("pugd"))


def queued(window: Browser) -> int:
    return sum(name.startswith("e.") for name in kept(window))


def visitor(window: Browser) -> str:
    found: str = window.run(f"localStorage.getItem('{PREFIX}visitor')")
    return found


def sent(window: Browser) -> bool:
    """All of it, acked."""
    done: bool = window.run("pugd.flush()")
    return done and queued(window) == 0


def no_errors(window: Browser) -> bool:
    return bool(window.run("errors.length === 0 && pugd.loaded === true"))


def events(daemon: Daemon, distinct_id: str) -> list[dict[str, Any]]:
    """Oldest first."""
    return [one for one in daemon.entries(distinct_id, "&order=asc") if one["type"] == "event"]


def names(daemon: Daemon, distinct_id: str) -> list[str]:
    return [one["event"] for one in events(daemon, distinct_id)]


def total(daemon: Daemon) -> int:
    """Of everybody's events."""
    return sum(person["events"] for person in daemon.read("/v1/people?limit=1000")["people"])


def test_the_lines_that_the_console_shows_a_newcomer_work(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(new_login_link(daemon))
    lines = window.run("document.querySelector('code.script').innerText")
    assert f'data-key="{WRITE_KEY}"' in lines
    site.pages["/pasted"] = f"<!doctype html><head>{lines}</head><script>pugd('track', 'pasted')</script>"
    window.open(f"{site.address}/pasted")
    wait(lambda: window.run("pugd.loaded === true") and sent(window))
    assert names(daemon, visitor(window)) == ["page_view", "pasted"]


def test_pages_calls_and_an_identify_are_one_timeline(daemon: Daemon, site: Site, window: Browser) -> None:
    site.before["/first"] = "pugd('track', 'early', {n: 1})"
    window.open(f"{site.address}/first?utm_source=news&utm_campaign=autumn&q=1#part")
    window.run("history.pushState({}, '', '/second'); document.title = 'Second'")
    window.run("pugd.track('add_to_cart', {product: 'prod-0198', price: 9.5, odd: NaN})")
    window.run("history.replaceState({}, '', '/second?typed=a'); new Promise((done) => setTimeout(done, 120))")
    window.run("pugd.identify('snip-1', {plan: 'free'}); pugd.group('acme', {size: 3}); pugd.track('order')")
    wait(lambda: sent(window))
    assert no_errors(window)
    anonymous = visitor(window)
    found = events(daemon, "snip-1")
    assert [one["event"] for one in found] == ["page_view", "early", "page_view", "add_to_cart", "group", "order"]
    assert found[3]["properties"] == {"product": "prod-0198", "price": 9.5, "odd": None}
    first, second = found[0]["context"], found[3]["context"]
    assert first["page"]["url"] == f"{site.address}/first?utm_source=news&utm_campaign=autumn&q=1"
    assert (first["page"]["path"], first["page"]["title"]) == ("/first", "/first")
    assert first["campaign"] == {"source": "news", "name": "autumn"}
    assert (second["page"]["path"], second["page"]["referrer"]) == ("/second", first["page"]["url"])
    assert "campaign" not in second
    assert first["screen"]["width"] > 0
    assert "Chrome" in first["userAgent"]
    assert first["locale"].startswith("en")
    assert first["timezone"]
    assert len({one["context"]["sessionId"] for one in found}) == 1
    assert all(one["platform"] == "web" for one in found)
    person = daemon.read(f"/v1/people?distinct_id={anonymous}")["person"]
    assert (person["user_id"], person["traits"]) == ("snip-1", {"plan": "free"})
    # A reload is the same visitor and the same session.
    window.open(f"{site.address}/third")
    wait(lambda: sent(window))
    again = events(daemon, anonymous)[-1]
    assert again["context"]["sessionId"] == first["sessionId"]
    window.run("pugd.alias('snip-1-mail')")
    wait(lambda: sent(window))
    links = [one for one in daemon.entries("snip-1") if one["type"] == "link" and one["call"] == "alias"]
    assert [{one["a"], one["b"]} for one in links] == [{"snip-1", "snip-1-mail"}]


def test_reset_and_another_user_are_new_visitors(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/shared")
    window.run("pugd.identify('snip-ann'); pugd.track('by_ann')")
    ann = visitor(window)
    window.run("pugd.reset(); pugd.track('by_nobody')")
    nobody = visitor(window)
    window.run("pugd.identify('snip-bob'); pugd.identify('snip-cat'); pugd.track('by_cat')")
    cat = visitor(window)
    wait(lambda: sent(window))
    assert len({ann, nobody, cat}) == 3
    assert names(daemon, "snip-ann") == ["page_view", "by_ann"]
    assert names(daemon, "snip-bob") == ["by_nobody"]
    assert names(daemon, "snip-cat") == ["by_cat"]
    sessions = {name: events(daemon, name)[-1]["context"]["sessionId"] for name in ("snip-ann", "snip-bob", "snip-cat")}
    assert len(set(sessions.values())) == 3
    assert no_errors(window)


def test_every_event_once_though_the_collector_is_killed(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/killed")
    window.run("n = 0; going = setInterval(() => { if (n < 400) pugd.track('step', {n: n++}) }, 5)")
    for at in (100, 250):
        wait(lambda at=at: window.run("n") >= at)  # type: ignore[misc]
        before = daemon.kill("collector")
        daemon.wait_pid("collector", other_than=before)
    wait(lambda: window.run("n") == 400)
    wait(lambda: sent(window), 60)
    found = Counter(one["properties"]["n"] for one in events(daemon, visitor(window)) if one["event"] == "step")
    assert found == dict.fromkeys(range(400), 1)
    assert no_errors(window)


def test_what_was_said_offline_is_sent_after_a_reload_with_its_own_time(
    daemon: Daemon, site: Site, road: Road, window: Browser
) -> None:
    site.tag["/offline"] = road.tag
    window.open(f"{site.address}/offline")
    wait(lambda: sent(window))
    road.mode = "cut"
    window.run("pugd.track('offline')")
    assert window.run("pugd.flush()") is False
    assert queued(window) == 1
    window.open(f"{site.address}/offline")
    wait(lambda: queued(window) == 2)
    time.sleep(2)
    assert len(road.requests) > 2
    assert names(daemon, visitor(window)) == ["page_view"]
    road.mode = "open"
    window.run("dispatchEvent(new Event('online'))")
    wait(lambda: queued(window) == 0)
    found = events(daemon, visitor(window))
    assert [one["event"] for one in found] == ["page_view", "offline", "page_view"]
    assert found[1]["occurred_at"] < found[2]["occurred_at"]
    assert no_errors(window)


def test_answers_that_are_lost_refusals_and_waits(daemon: Daemon, site: Site, road: Road, window: Browser) -> None:
    site.tag["/road"] = road.tag
    window.open(f"{site.address}/road")
    wait(lambda: sent(window))
    before = daemon.metric("pugd_accept_duplicates_total")
    road.mode = "lost"
    window.run("pugd.track('unanswered')")
    assert window.run("pugd.flush()") is False
    road.mode = "open"
    wait(lambda: queued(window) == 0)
    assert daemon.metric("pugd_accept_duplicates_total") >= before + 1
    assert names(daemon, visitor(window)) == ["page_view", "unanswered"]
    for status in (429, 503):
        road.mode = status
        window.run(f"pugd.track('asked to wait {status}')")
        assert window.run("pugd.flush()") is False
        road.mode, count = "open", len(road.requests)
        # Neither another page, nor another call, nor the network's return makes it come before it was told to.
        window.open(f"{site.address}/road")
        window.run("dispatchEvent(new Event('online')); pugd.track('more'); pugd.flush()")
        wait(lambda: queued(window) == 0)
        assert len(road.requests) > count
        assert road.requests[count] - road.requests[count - 1] > 1.9
    for status in (400, 401, 403, 404, 413):
        road.mode, count = status, len(road.requests)
        window.run(f"pugd.track('refused {status}')")
        assert window.run("pugd.flush()") is True
        time.sleep(0.1)
        assert (queued(window), len(road.requests)) == (0, count + 1)
    road.mode = "open"
    wait(lambda: sent(window))
    found = Counter(names(daemon, visitor(window)))
    assert found == {"page_view": 3, "unanswered": 1, "asked to wait 429": 1, "asked to wait 503": 1, "more": 2}
    assert no_errors(window)


def test_what_is_said_as_the_page_goes_arrives_though_nobody_comes_back(
    daemon: Daemon, site: Site, window: Browser
) -> None:
    window.open(f"{site.address}/leaving")
    wait(lambda: sent(window))
    anonymous = visitor(window)
    window.run("document.addEventListener('click', () => { pugd.track('left'); location.href = '/without' })")
    window.run("document.documentElement.click()")
    window._wait_loaded()
    wait(lambda: names(daemon, anonymous) == ["page_view", "left"])
    assert queued(window) == 1, "nobody acked the beacon"
    window.open(f"{site.address}/back")
    wait(lambda: sent(window))
    assert names(daemon, anonymous) == ["page_view", "left", "page_view"]
    window.run("pugd.track('closed'); 0")
    window.close()
    wait(lambda: names(daemon, anonymous) == ["page_view", "left", "page_view", "closed"])


def test_two_tabs_share_one_queue_and_send_it_once(daemon: Daemon, site: Site, road: Road, window: Browser) -> None:
    window.open(f"{site.address}/one")
    wait(lambda: sent(window))
    other = window.another()
    other.open(f"{site.address}/two")
    wait(lambda: sent(other))
    anonymous = visitor(window)
    assert visitor(other) == anonymous
    before = daemon.metric("pugd_accept_duplicates_total")
    for n in range(150):
        for tab, name in ((window, "a"), (other, "b")):
            tab.run(f"pugd.track('{name}', {{n: {n}}})")
    wait(lambda: sent(window) and sent(other))
    found = Counter((one["event"], one["properties"].get("n")) for one in events(daemon, anonymous))
    assert found == {("page_view", None): 2, **{(name, n): 1 for name in "ab" for n in range(150)}}
    assert daemon.metric("pugd_accept_duplicates_total") - before <= 30, "the lease spares most of it"
    # What a tab left behind when it was gone, another sends.
    site.tag["/three"] = road.tag
    other.open(f"{site.address}/three")
    road.mode = "cut"
    other.run("pugd.track('orphan')")
    other.open("about:blank")
    wait(lambda: sent(window))
    assert names(daemon, anonymous).count("orphan") == 1
    assert no_errors(window)


def test_denied_keeps_and_sends_nothing(daemon: Daemon, site: Site, window: Browser) -> None:
    before = total(daemon)
    site.tag["/ask"] = 'data-consent="denied"'
    requests = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/v1/')).length"
    calls = "pugd.track('secret'); pugd.identify('snip-secret'); pugd.page(); pugd.group('g'); pugd.alias('x')"
    window.open(f"{site.address}/ask")
    window.run(f"{calls}; pugd.flush()")
    time.sleep(1)
    assert (kept(window), window.run(requests), window.run("document.cookie")) == ([], 0, "")
    assert total(daemon) == before
    # A yes is remembered, and begins with the page that is looked at; a no afterwards leaves nothing.
    window.run("pugd.consent('granted')")
    wait(lambda: sent(window))
    assert {"consent", "visitor", "session"} <= set(kept(window))
    anonymous = visitor(window)
    window.open(f"{site.address}/ask")
    wait(lambda: sent(window))
    assert names(daemon, anonymous) == ["page_view", "page_view"]
    other = window.another()
    other.open(f"{site.address}/ask")
    wait(lambda: sent(other))
    window.ask("Network.setBlockedURLs", urls=["*/v1/batch"])
    window.run("pugd.track('unsent'); pugd.consent('denied')")
    assert kept(window) == []
    window.ask("Network.setBlockedURLs", urls=[])
    wait(lambda: other.run("pugd.track('other'), true") and kept(other) == [], 5)
    time.sleep(1)
    assert names(daemon, anonymous) == ["page_view"] * 3
    assert kept(other) == []
    assert no_errors(window)
    assert no_errors(other)


def test_consent_said_before_the_script_came_is_heard_first(daemon: Daemon, site: Site, window: Browser) -> None:
    before = total(daemon)
    site.before["/no"] = "pugd('track', 'secret'); pugd('consent', 'denied')"
    window.open(f"{site.address}/no")
    window.run("pugd.flush()")
    time.sleep(0.7)
    assert (kept(window), total(daemon)) == ([], before)


@pytest.mark.parametrize("signal", ["globalPrivacyControl: {value: true}", "doNotTrack: {value: '1'}"])
def test_a_browser_that_says_no_is_heard(daemon: Daemon, site: Site, window: Browser, signal: str) -> None:
    before = total(daemon)
    window.ask(
        "Page.addScriptToEvaluateOnNewDocument", source=f"Object.defineProperties(Navigator.prototype, {{{signal}}})"
    )
    window.open(f"{site.address}/signals")
    window.run("pugd.consent('granted'); pugd.track('secret'); pugd.flush()")
    time.sleep(0.7)
    assert (kept(window), total(daemon)) == ([], before)
    site.tag["/ignored"] = 'data-ignore-signals="true"'
    window.open(f"{site.address}/ignored")
    wait(lambda: sent(window))
    assert names(daemon, visitor(window)) == ["page_view"]


def test_without_storage_a_page_works_and_sees_nothing_thrown(daemon: Daemon, site: Site, window: Browser) -> None:
    site.headers["/sandboxed"] = SANDBOX
    site.before["/sandboxed"] = "pugd('identify', 'snip-sandboxed'); pugd('track', 'there')"
    window.open(f"{site.address}/sandboxed")
    assert window.run("try { localStorage; 'allowed' } catch (error) { error.name }") == "SecurityError"
    assert window.run("new Promise((done) => setTimeout(done, 100)).then(() => pugd.flush())") is True
    assert names(daemon, "snip-sandboxed") == ["page_view", "there"]
    assert no_errors(window)


def test_cookieless_keeps_nothing_and_sends_no_id(site: Site, road: Road, window: Browser) -> None:
    """What the collector makes of it is its own matter: here it is what leaves the browser."""
    site.tag["/cookieless"] = road.tag
    window.open(f"{site.address}/cookieless")
    wait(lambda: sent(window))
    ids = {visitor(window), road.bodies[0]["batch"][0]["context"]["sessionId"]}
    road.mode = 503
    window.run("pugd.identify('snip-known')")
    assert window.run("pugd.flush()") is False
    # What was said before is still sent, from memory.
    window.run("pugd.consent('cookieless'); pugd.track('seen'); pugd.identify('snip-named'); pugd.alias('snip-other')")
    window.run("pugd.group('acme'); pugd.page()")
    assert (kept(window), window.run("document.cookie")) == ([], "")
    road.mode = 200
    road.bodies.clear()
    wait(lambda: window.run("pugd.flush()"))
    said = [event for body in road.bodies for event in body["batch"]]
    assert [event["type"] for event in said] == ["identify", "track", "page"]
    assert said[0]["userId"] == "snip-known"
    for event in said[1:]:
        assert event["context"]["cookieless"] is True
        assert not {"anonymousId", "userId"} & set(event)
        assert "sessionId" not in event["context"]
        assert not [one for one in {*ids, "snip-known"} if one in json.dumps(event)]
    assert kept(window) == []
    # As the page goes, what is in its memory goes by beacon.
    road.bodies.clear()
    window.run("pugd.track('last'); location.href = '/without'")
    wait(lambda: [event["event"] for body in road.bodies for event in body["batch"]] == ["last"])
    assert kept(window) == []


def test_cookieless_visitors_are_counted_and_are_nobody(daemon: Daemon, site: Site, window: Browser) -> None:
    def seen(**more: Any) -> tuple[int, int, int]:
        """Events, visitors, events that were left out."""
        asked = {"series": [{"event": "cookieless_seen", "measure": "people"}], "interval": None, "last": "2 d", **more}
        headers = {"Authorization": f"Bearer {READ_KEY}", "Content-Type": "application/json"}
        answer = http_request(daemon.console, "POST", "/v1/ask/trend", json.dumps(asked).encode(), headers).json()
        total = answer["series"][0]["total"]
        return total["events"], total["people"], answer["left_out"]["cookieless"]

    people, left_out = daemon.read("/v1/people?limit=1")["count"], seen()[2]
    site.tag["/cookieless-here"] = 'data-consent="cookieless"'
    window.open(f"{site.address}/cookieless-here")
    window.run("pugd.track('cookieless_seen'); pugd.identify('snip-nobody'); pugd.track('cookieless_seen')")
    wait(lambda: sent(window))
    assert no_errors(window)
    assert (kept(window), window.run("document.cookie")) == ([], "")
    # Page view included.
    assert seen() == (0, 0, left_out + 3)
    events, visitors, rest = seen(include_cookieless=True)
    assert (events, rest) == (2, 0)
    assert visitors in (1, 2), "as many as days: midnight may have been between"
    assert daemon.read("/v1/people?limit=1")["count"] == people
    assert {path.stat().st_mode & 0o777 for path in (daemon.data / "salts").iterdir()} == {0o600}


def test_sessions_end_when_idle_and_after_a_day(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/sessions")
    minute = 60_000
    seen = []
    for began, last, same in ((29, 29, True), (31, 31, False), (1439, 1, True), (1441, 1, False), (-5, -5, True)):
        age = f"Date.now() - {began * minute}, Date.now() - {last * minute}"
        window.run(f"localStorage.setItem('{PREFIX}session', ['before', {age}].join(' ')); pugd.track('tick')")
        seen.append((window.run(f"localStorage.getItem('{PREFIX}session').split(' ')[0]") == "before", same))
    assert all(found == same for found, same in seen), seen
    wait(lambda: sent(window))
    ids = [one["context"]["sessionId"] for one in events(daemon, visitor(window)) if one["event"] == "tick"]
    assert (ids[0], ids[2], ids[4]) == ("before", "before", "before")
    assert len(set(ids)) == 3


def paths(daemon: Daemon, window: Browser) -> list[str]:
    """Of the page views so far, without what is before the path."""
    wait(lambda: sent(window))
    return [re.sub(r"^https?://[^/]+", "", one["context"]["page"]["url"]) for one in events(daemon, visitor(window))]


def test_a_page_view_is_what_a_person_would_call_one(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/a")

    def do(script: str) -> None:
        window.run(f"{script}; new Promise((done) => setTimeout(done, 150))")

    do("history.replaceState({}, '', '/a')")
    do("history.replaceState({}, '', '/a?typed=1')")
    do("location.hash = 'part'")
    assert paths(daemon, window) == ["/a"]
    do("history.pushState({}, '', '/b?page=2')")
    do("history.pushState({}, '', '/gone'); history.replaceState({}, '', '/c')")
    do("location.hash = '#/route'")
    window.run("history.back()")
    wait(lambda: window.run("location.hash") == "")
    do("0")
    do("history.replaceState({}, '', '/d')")
    assert paths(daemon, window) == ["/a", "/b?page=2", "/c", "/c#/route", "/c", "/d"]
    # A view that waits for its title is its own visitor's and comes before what is said after it.
    window.run("history.pushState({}, '', '/e'); pugd.track('on e'); pugd.reset(); pugd.track('reset')")
    wait(lambda: sent(window))
    assert names(daemon, visitor(window)) == ["reset"]
    # Away and back: the page as it was left is looked at again.
    window.open(f"{site.address}/without")
    window.run("history.back()")
    wait(lambda: window.run("window.pugd && pugd.loaded"))
    assert paths(daemon, window)[-1] == "/e"
    assert no_errors(window)


def test_no_views_by_themselves_and_loaded_twice(daemon: Daemon, site: Site, window: Browser) -> None:
    site.tag["/manual"] = 'data-auto="false"'
    window.open(f"{site.address}/manual")
    window.run("history.pushState({}, '', '/manual/2')")
    window.run("""new Promise((done) => {
        const tag = document.createElement('script');
        tag.src = document.querySelector('script[src]').src;
        tag.dataset.key = 'another';
        tag.onload = done;
        document.head.append(tag);
    }).then(() => pugd.page('Pricing', {plan: 'pro'}))""")
    wait(lambda: sent(window))
    (view,) = events(daemon, visitor(window))
    assert (view["event"], view["properties"]) == ("Pricing", {"plan": "pro"})


def test_the_documented_content_security_policy_suffices(daemon: Daemon, site: Site, window: Browser) -> None:
    page = (root / "docs/clients/browser.md").read_text().partition("## Content-Security-Policy")[2]
    host = f"http://127.0.0.1:{daemon.port}"
    policy = page.split("```")[1].strip().replace("https://events.example.com", host)
    site.headers["/strict"] = {"Content-Security-Policy": f"default-src 'none'; {policy}"}
    site.pages["/strict"] = f'<!doctype html><script src="{host}/pugd.js" data-key="{WRITE_KEY}" async></script>'
    window.open(f"{site.address}/strict")
    wait(lambda: sent(window))
    anonymous = visitor(window)
    window.run("pugd.track('strict'); location.href = '/without'")
    wait(lambda: names(daemon, anonymous) == ["page_view", "strict"])


def test_a_full_storage_costs_no_event(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/full")
    wait(lambda: sent(window))
    window.run("""for (let size = 1 << 22; size >= 1; size >>= 1) {
        for (let n = 0; n < 2; n++) try { localStorage.setItem(`theirs ${size} ${n}`, 'x'.repeat(size)) } catch {}
    }""")
    failed = "try { localStorage.setItem('more', 'x'.repeat(50)); 'taken' } catch (error) { error.name }"
    assert window.run(failed) == "QuotaExceededError"
    window.run("for (let n = 0; n < 20; n++) pugd.track('kept in memory', {n}); 0")
    assert queued(window) == 0
    wait(lambda: window.run("pugd.flush()"))
    anonymous = visitor(window)
    assert names(daemon, anonymous) == ["page_view"] + ["kept in memory"] * 20
    window.run("pugd.track('at the end'); location.href = '/without'")
    wait(lambda: names(daemon, anonymous)[-1] == "at the end")


def test_wrong_calls_throw_nothing(daemon: Daemon, site: Site, window: Browser) -> None:
    site.before["/wrong"] = "pugd('no such call'); pugd(); pugd('track')"
    window.open(f"{site.address}/wrong")
    window.run("""
        const round = {}; round.round = round;
        pugd.track('round', round); pugd.track('big', {n: 10n}); pugd.track(); pugd.identify(); pugd.page(null);
        pugd.group(); pugd.alias(); pugd.consent('perhaps'); pugd('nothing');
        pugd.track('long', {text: 'x'.repeat(200000)});
        pugd.track('fine'); 0""")
    window.run(f"localStorage.setItem('{PREFIX}e.0000', '{{broken')")
    window.run(
        f"localStorage.setItem('{PREFIX}lease', 'nobody 99999999999999'); localStorage.setItem('{PREFIX}session', '?')"
    )
    window.run("pugd.track('last')")
    wait(lambda: sent(window))
    found = names(daemon, visitor(window))
    assert found == ["page_view", "page_view", "fine", "last"]
    assert no_errors(window)


def test_the_queue_is_bounded_and_the_oldest_goes_first(daemon: Daemon, site: Site, window: Browser) -> None:
    window.open(f"{site.address}/bounded")
    wait(lambda: sent(window))
    window.ask("Network.setBlockedURLs", urls=["*/v1/batch"])
    window.run("for (let n = 0; n < 700; n++) pugd.track('many', {n}); 0")
    chars = window.run("Object.keys(localStorage).reduce((sum, name) => sum + localStorage[name].length, 0)")
    assert queued(window) <= 500
    assert 280_000 < chars < 510_000
    assert window.run(f"Object.keys(localStorage).filter((name) => name.startsWith('{PREFIX}e.')).sort().map((name) => "
                      "JSON.parse(localStorage[name]).properties.n)")[-1] == 699  # fmt: skip
    window.ask("Network.setBlockedURLs", urls=[])
    window.run("dispatchEvent(new Event('online'))")
    wait(lambda: queued(window) == 0)
    numbers = sorted(one["properties"]["n"] for one in events(daemon, visitor(window)) if one["event"] == "many")
    assert numbers == list(range(numbers[0], 700))
