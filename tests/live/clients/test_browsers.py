"""The libraries for web pages, the real ones in a real browser, on a page of another origin than the collector: what a
visitor does is on one timeline, once each, also what is said as the page goes away, and over a network that fails.
"""

from __future__ import annotations

import http.server
import json
import mimetypes
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live.browser import PATH as BROWSER
from live.browser import Browser, browser
from live.clients import installed
from live.clients.network import Network
from live.clients.test_segment import VIEWED
from live.daemon import WRITE_KEY, Daemon

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

PAGE = """<!doctype html><meta charset=utf-8><title>Shop</title>
<script>
const query = new URLSearchParams(location.search), host = query.get('host'), tag = query.get('tag')
const key = %s, viewed = %s
const errors = []
addEventListener('error', (event) => errors.push(event.message))
addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)))
</script>
%s"""

SEGMENT = """
<script src="/lib/@segment/analytics-next/dist/umd/index.js"></script>
<script>
const analytics = AnalyticsNext.AnalyticsBrowser.load({ writeKey: key, cdnURL: host })
const say = (name, properties) => analytics.track(name, properties)
const visit = async () => {
  analytics.page('Docs', 'Pricing', { shown: true })
  analytics.track('Product Viewed', viewed)
  const visitor = (await analytics.user()).anonymousId()
  await analytics.identify(`user-${tag}`, { plan: 'pro', address: { city: 'Graz' } })
  await analytics.track('Order Completed', { revenue: 416.21 })
  await analytics.group(`company-${tag}`, { seats: 5 })
  await analytics.alias(`user-${tag}`, `old-${tag}`)
  return visitor
}
</script>"""

POSTHOG = """
<script type=module>
import posthog from '/lib/posthog-js/dist/module.full.no-external.js'
posthog.init(key, {
  api_host: host, capture_pageview: true, autocapture: true, persistence: 'localStorage',
  opt_out_useragent_filter: true, // It sends nothing from a headless browser, which it takes for a bot.
})
window.posthog = posthog
window.say = (name, properties) => posthog.capture(name, properties)
window.visit = async () => {
  posthog.capture('Product Viewed', viewed)
  const visitor = posthog.get_distinct_id()
  posthog.identify(`user-${tag}`, { plan: 'pro', address: { city: 'Graz' } }, { source: 'ad' })
  posthog.setPersonProperties({ orders: 1 })
  posthog.capture('Order Completed', { revenue: 416.21 })
  posthog.group('company', `company-${tag}`, { seats: 5 })
  posthog.alias(`old-${tag}`)
  return visitor
}
</script>"""

RUDDER = """
<script type=module>
import { RudderAnalytics } from '/lib/@rudderstack/analytics-js/dist/npm/modern/bundled/esm/index.mjs'
const rudder = new RudderAnalytics()
rudder.load(key, host, { configUrl: host, queueOptions: { minRetryDelay: 300, timerScaleFactor: 1 } })
const ready = new Promise((done) => rudder.ready(done))
window.say = (name, properties) => rudder.track(name, properties)
window.visit = async () => {
  await ready
  rudder.page('Docs', 'Pricing', { shown: true })
  rudder.track('Product Viewed', viewed)
  const visitor = rudder.getAnonymousId()
  rudder.identify(`user-${tag}`, { plan: 'pro', address: { city: 'Graz' } })
  rudder.track('Order Completed', { revenue: 416.21 })
  rudder.group(`company-${tag}`, { seats: 5 })
  rudder.alias(`user-${tag}`, `old-${tag}`)
  return visitor
}
</script>"""


class Site:
    """A website of another origin, with the libraries' own files under /lib/."""

    def __init__(self, pages: dict[str, str]) -> None:
        modules = installed.node() / "node_modules"
        mimetypes.add_type("text/javascript", ".mjs")

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                kind, body = "text/html; charset=utf-8", b"<!doctype html><title>Nothing</title>"
                if path in pages:
                    body = (PAGE % (json.dumps(WRITE_KEY), json.dumps(VIEWED), pages[path])).encode()
                elif path.startswith("/lib/"):
                    body = (modules / path.removeprefix("/lib/")).read_bytes()
                    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    one = Site({"/segment": SEGMENT, "/posthog": POSTHOG, "/rudder": RUDDER})
    yield one
    one.close()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(Path(tmp_path_factory.mktemp("window"))) as one:
        yield one


def wait_named(daemon: Daemon, distinct_id: str, *names: str, seconds: float = 40) -> list[dict[str, Any]]:
    """The timeline of `distinct_id` once these events are on it."""
    deadline = time.monotonic() + seconds
    while True:
        found = (
            list(daemon.entries(distinct_id))
            if daemon.ask(f"/v1/people?distinct_id={distinct_id}").status == 200
            else []
        )
        there = {entry.get("event") for entry in found}
        if there >= set(names):
            return found
        assert time.monotonic() < deadline, (set(names) - there, there)
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["segment", "posthog", "rudder"])
def test_a_visit(daemon: Daemon, site: Site, window: Browser, name: str) -> None:
    host, user = f"http://127.0.0.1:{daemon.port}", f"user-{name}"
    window.open(f"{site.address}/{name}?host={host}&tag={name}&utm_source=news")
    visitor = window.run("visit()")
    assert visitor not in (None, "", user)
    wait_named(daemon, user, "Order Completed", "group")
    # The page goes away with the word still on its lips.
    window.run("void say('Left', { n: 1 })")
    window.open(f"{site.address}/elsewhere")
    entries = wait_named(daemon, user, "Left")

    assert entries == list(daemon.entries(visitor)) == list(daemon.entries(f"old-{name}"))
    events = [entry for entry in entries if entry["type"] == "event"]
    counts = Counter(event["event"] for event in events)
    expected = {"Product Viewed": 1, "Order Completed": 1, "group": 1, "Left": 1}
    if name == "posthog":
        expected |= {"$pageview": 1, "$pageleave": 1}
    else:
        expected |= {"Docs Pricing": 1}
    assert counts == expected
    by_name = {event["event"]: event for event in events}
    properties = by_name["Product Viewed"]["properties"]
    # RudderStack's library takes nulls out of what it sends.
    expected_properties = {key: value for key, value in VIEWED.items() if name != "rudder" or value is not None}
    assert {key: properties.get(key) for key in expected_properties} == expected_properties
    assert {event["platform"] for event in events} == {"web"}
    assert by_name["Order Completed"]["context"]["page"]["url"].startswith(f"{site.address}/{name}?host=")
    assert by_name["Order Completed"]["context"]["campaign"]["source"] == "news"
    person = daemon.read(f"/v1/people?distinct_id={visitor}")["person"]
    assert (person["user_id"], person["user_ids"]) == (user, [user])
    assert {"plan": "pro", "address": {"city": "Graz"}}.items() <= person["traits"].items()
    if name == "posthog":
        assert {"source": "ad", "orders": 1}.items() <= person["traits"].items()


FAULTS = ("reset-after", "", "busy", "", "slow", "half", "", "later")
SAID = [f"Said {number}" for number in range(8)]


@pytest.mark.parametrize("name", ["segment", "posthog", "rudder"])
def test_a_visit_over_a_network_that_fails(daemon: Daemon, site: Site, window: Browser, name: str) -> None:
    tag, tab = f"{name}-faulty", window.another()
    # Somebody else than in the visit before.
    tab.ask("Storage.clearDataForOrigin", origin=site.address, storageTypes="all")
    with Network(daemon.port, *FAULTS) as network:
        tab.open(f"{site.address}/{name}?host={network.address}&tag={tag}")
        tab.run("visit()")
        for one in SAID:
            tab.run(f"void say('{one}', {{}})")
        deadline = time.monotonic() + 30
        while network.left:
            # Some send all that they have in one request.
            tab.run("void say('More', {})")
            assert time.monotonic() < deadline, (network.left, network.met)
            time.sleep(0.5)
        wait_named(daemon, f"user-{tag}", "Product Viewed", "Order Completed", "group", *SAID)
        tab.run("void say('Last', {})")
        entries = wait_named(daemon, f"user-{tag}", "Last")
        assert tab.run("JSON.stringify(errors)") == "[]"
    counts = Counter(entry["event"] for entry in entries if entry["type"] == "event")
    assert all(counts[one] == 1 for one in ("Product Viewed", "Order Completed", "group", "Last", *SAID)), counts
    ids = Counter(entry["event_id"] for entry in entries if entry["type"] == "event")
    assert set(ids.values()) == {1}
    tab.close()
