"""Mixpanel's own libraries against the whole daemon: what they are told, and whose timeline shows what they sent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from live.browser import PATH as BROWSER
from live.browser import browser
from live.clients import installed
from live.clients.network import Network
from live.daemon import WRITE_KEY, Daemon, http_request
from live.test_snippet import Site, wait

PYTHON = """
import json, os
from mixpanel import BufferedConsumer, Consumer, Mixpanel, MixpanelException, ServiceAccountCredentials

settings = json.loads(os.environ["SETTINGS"])
base, token, secret = settings["base"], settings["token"], settings["secret"]
urls = {"events_url": base + "/track", "people_url": base + "/engage/", "groups_url": base + "/groups",
        "import_url": base + "/import"}
said = {}


def told(name, call, *args, **more):
    try:
        call(*args, **more)
        said[name] = "taken"
    except MixpanelException as error:
        said[name] = str(error)


one = Mixpanel(token, consumer=Consumer(**urls))
told("track", one.track, "py-anon", "Visited", {"text": "a+b & c=d %41 \\u00fc\\u4e16", "utm_source": "news"})
told("alias", one.track, "py-anon", "$create_alias", {"alias": "py-later"})
told("later", one.track, "py-later", "Later")
told("set", one.people_set, "py-user", {"plan": "pro", "$email": "u@example.com"}, {"$ip": "203.0.113.9"})
told("set_once", one.people_set_once, "py-user", {"first": "a"})
told("increment", one.people_increment, "py-user", {"visits": 2})
told("append", one.people_append, "py-user", {"list": 1})
told("delete", one.people_delete, "py-user")
told("group", one.group_set, "company", "acme", {"seats": 5})
told("both", one.track, "py-user", "Opened", {"$device_id": "py-dev", "$user_id": "py-user"})
told("other", one.track, "py-other", "Opened", {"$user_id": "py-other"})
told("nobody", one.track, "", "Opened")
told("unknown", Mixpanel("pub_unknown", consumer=Consumer(**urls)).track, "x", "Opened")

with_secret = {"api_secret": secret}
told("import", one.import_data, None, "py-user", "Long ago", 1600000000, {}, **with_secret)
told("import unknown", one.import_data, None, "py-user", "Never", 1600000000, {}, api_secret="prv_unknown")
account = Consumer(**urls, credentials=ServiceAccountCredentials("account.name", "word", "12"))
told("account", Mixpanel(token, consumer=account).import_data, None, "py-user", "By account", 1600000001)
told("merge weakly", Mixpanel(token, consumer=account).merge, None, "py-user", "py-other")
buffered = BufferedConsumer(**urls)
many = Mixpanel(token, consumer=buffered)
for number in range(120):
    many.track("py-many", "many", {"number": number})
told("flush", buffered.flush)
print(json.dumps(said))
"""

MERGE = """
import json, os
from mixpanel import Consumer, Mixpanel

settings = json.loads(os.environ["SETTINGS"])
mixpanel = Mixpanel(settings["token"], consumer=Consumer(import_url=settings["base"] + "/import"))
mixpanel.merge(None, "py-user", "py-other", api_secret=settings["secret"])
print("{}")
"""

NODE = """
const Mixpanel = require("mixpanel");
const settings = JSON.parse(process.env.SETTINGS);
const where = { protocol: "http", host: "127.0.0.1", port: settings.port };
const said = {};
const told = (name, call) => new Promise((done) => call((error) => {
  said[name] = error ? String(error.message || error) : "taken";
  done();
}));

(async () => {
  const one = Mixpanel.init(settings.token, where);
  const wordy = Mixpanel.init(settings.token, { ...where, verbose: true });
  const importer = Mixpanel.init(settings.token, { ...where, key: settings.secret });
  await Promise.all([
    told("track", (done) => one.track("Visited", { distinct_id: "js-anon", text: "a+b ü世?>~" }, done)),
    told("long", (done) => one.track("Long", { distinct_id: "js-long", text: "x".repeat(44000) }, done)),
    told("alias", (done) => one.alias("js-anon", "js-user", done)),
    told("bought", (done) => one.track("Bought", { distinct_id: "js-user", time: new Date() }, done)),
    told("set", (done) => one.people.set("js-user", { plan: "pro" }, { $ip: "203.0.113.9" }, done)),
    told("set_once", (done) => wordy.people.set_once("js-user", "first", "a", done)),
    told("increment", (done) => one.people.increment("js-user", "visits", 2, done)),
    told("unset", (done) => one.people.unset("js-user", "gone", done)),
    told("append", (done) => one.people.append("js-user", "list", 1, done)),
    told("wordy append", (done) => wordy.people.append("js-user", "list", 1, done)),
    told("group", (done) => one.groups.set("company", "js-acme", "seats", 5, done)),
    told("import", (done) => importer.import("Long ago", 1600000000, { distinct_id: "js-user" }, done)),
    told("unknown", (done) => Mixpanel.init("pub_unknown", where).track("e", { distinct_id: "x" }, done)),
  ]);
  const many = [...Array(120).keys()].map((number) => ({
    event: "many", properties: { distinct_id: "js-many", number, text: "ü?>~" + "ÿþ".repeat(number) },
  }));
  await told("batch", (done) => one.track_batch(many, done));
  await told("import batch", (done) => importer.import_batch(
    [{ event: "Long ago too", properties: { distinct_id: "js-user", time: new Date(1600000001000) } }], done));
  console.log(JSON.stringify(said));
  process.exit(0);
})();
"""


@pytest.fixture(scope="module")
def secret(daemon: Daemon) -> str:
    """A secret write key of the same project, in force."""
    return daemon.new_key("secret-write")


def events(daemon: Daemon, distinct_id: str) -> list[dict[str, Any]]:
    """What the timeline shows of events, oldest first."""
    return [entry for entry in daemon.entries(quote(distinct_id)) if entry["type"] == "event"][::-1]


def names(daemon: Daemon, distinct_id: str) -> list[str]:
    return sorted(entry["event"] for entry in events(daemon, distinct_id))


def person(daemon: Daemon, distinct_id: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.read(f"/v1/people?distinct_id={quote(distinct_id)}")["person"]
    return found


UNKNOWN_KEY = "Mixpanel error: unknown write key"


def test_the_python_library(daemon: Daemon, tmp_path: Path, secret: str) -> None:
    where: dict[str, Any] = {"base": f"http://127.0.0.1:{daemon.port}", "token": WRITE_KEY, "secret": secret}
    said = installed.run(PYTHON, tmp_path, **where)
    refused = {name: words for name, words in said.items() if words != "taken"}
    assert refused.keys() == {"append", "delete", "nobody", "unknown", "import unknown"}
    for name in ("append", "delete"):
        assert refused[name].startswith(f"Mixpanel error: ${name} is not taken"), refused
    assert refused["nobody"].startswith("Mixpanel error: properties.distinct_id is missing")
    assert refused["unknown"].startswith(UNKNOWN_KEY)
    assert refused["import unknown"].startswith(UNKNOWN_KEY)

    [visit, later] = events(daemon, "py-anon")
    assert later["event"] == "Later"
    assert visit["properties"]["text"] == "a+b & c=d %41 \u00fc\u4e16"
    assert "token" not in visit["properties"]
    assert visit["context"]["campaign"] == {"source": "news"}
    assert names(daemon, "py-user") == names(daemon, "py-dev") == ["By account", "Long ago", "Opened"]
    assert [entry["occurred_at"][:10] for entry in events(daemon, "py-user")][:2] == ["2020-09-13"] * 2
    user = person(daemon, "py-dev")
    assert (user["user_id"], user["user_ids"]) == ("py-user", ["py-user"])
    assert user["traits"] == {"plan": "pro", "$email": "u@example.com", "first": "a", "visits": 2}
    assert [entry["event"] for entry in events(daemon, "$group:company:acme")] == ["group"]
    assert sorted(entry["properties"]["number"] for entry in events(daemon, "py-many")) == list(range(120))

    # Without a secret key two users stay two, and with one they become one.
    assert person(daemon, "py-other")["user_ids"] == ["py-other"]
    installed.run(MERGE, tmp_path, **where)
    assert sorted(person(daemon, "py-other")["user_ids"]) == ["py-other", "py-user"]
    assert names(daemon, "py-other") == ["By account", "Long ago", "Opened", "Opened"]


FAULTS = ("busy", "", "reset-before", "", "reset-after", "", "slow", "half", "", "gateway", "", "twice", "later")
FAULTY = """
import json, os
from mixpanel import BufferedConsumer, Mixpanel, MixpanelException

settings = json.loads(os.environ["SETTINGS"])
base = settings["base"]
buffered = BufferedConsumer(
    max_size=5, events_url=base + "/track", people_url=base + "/engage/", groups_url=base + "/groups"
)
one = Mixpanel(settings["token"], consumer=buffered)
failed = 0


def surely(call, *args):
    # It retries by itself over TLS alone; else it raises, and keeps what it has for the next flush.
    global failed
    try:
        call(*args)
    except MixpanelException:
        failed += 1
        surely(buffered.flush)


for number in range(60):
    surely(one.track, "py-faulty", "Counted", {"number": number})
surely(one.people_increment, "py-faulty", {"visits": 2})
surely(one.people_set, "py-faulty", {"plan": "pro"})
surely(buffered.flush)
print(json.dumps({"failed": failed}))
"""


def test_the_python_library_over_a_network_that_fails(daemon: Daemon, tmp_path: Path) -> None:
    with Network(daemon.port, *FAULTS) as network:
        said = installed.run(FAULTY, tmp_path, base=network.address, token=WRITE_KEY)
        assert said["failed"]
        assert not network.left, (network.left, network.met)
    assert sorted(entry["properties"]["number"] for entry in events(daemon, "py-faulty")) == list(range(60))
    assert person(daemon, "py-faulty")["traits"] == {"plan": "pro", "visits": 2}


def test_the_node_library(daemon: Daemon, tmp_path: Path, secret: str) -> None:
    said = installed.run(NODE, tmp_path, in_node=True, port=daemon.port, token=WRITE_KEY, secret=secret)
    refused = {name: words for name, words in said.items() if words != "taken"}
    assert refused.keys() == {"append", "wordy append", "unknown"}
    assert refused["append"] == refused["unknown"] == "Mixpanel Server Error: 0"
    assert refused["wordy append"].startswith("Mixpanel Server Error: $append is not taken")

    # Its calls come side by side, in no order: the alias joins what came before and after it.
    assert names(daemon, "js-anon") == names(daemon, "js-user") == ["Bought", "Long ago", "Long ago too", "Visited"]
    user = person(daemon, "js-anon")
    assert (user["user_id"], user["user_ids"]) == ("js-user", ["js-user"])
    assert user["traits"] == {"plan": "pro", "first": "a", "visits": 2}
    [visit] = [entry for entry in events(daemon, "js-anon") if entry["event"] == "Visited"]
    assert visit["properties"]["text"] == "a+b \u00fc\u4e16?>~"
    assert [entry["event"] for entry in events(daemon, "$group:company:js-acme")] == ["group"]
    assert [len(entry["properties"]["text"]) for entry in events(daemon, "js-long")] == [44_000]
    batch = sorted((entry["properties"]["number"], entry["properties"]["text"]) for entry in events(daemon, "js-many"))
    assert batch == [(number, "\u00fc?>~" + "\u00ff\u00fe" * number) for number in range(120)]


BROWSED = """
mixpanel.init(%s, {
  api_host: %s, track_pageview: true, persistence: 'localStorage', batch_flush_interval_ms: 200, debug: false,
});
const before = mixpanel.get_distinct_id();
mixpanel.track('Looked', {text: 'a+b & c=d %%41 \u00fc\u4e16'});
mixpanel.identify('br-user');
mixpanel.people.set({plan: 'pro'});
mixpanel.people.increment('visits', 2);
mixpanel.people.append('list', 1);
mixpanel.track('Bought');
mixpanel.set_group('company', 'br-acme');
mixpanel.get_group('company', 'br-acme').set({seats: 5});
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_browsers_library(daemon: Daemon, tmp_path: Path) -> None:
    library = (installed.node() / "node_modules/mixpanel-browser/dist/mixpanel.umd.js").read_text()
    said = BROWSED % (json.dumps(WRITE_KEY), json.dumps(f"http://127.0.0.1:{daemon.port}"))
    with Site(daemon.port) as site, browser(tmp_path / "window") as window:
        site.pages["/shop"] = (
            f"<!doctype html><meta charset=utf-8><title>Shop</title><script>{library}</script><script>{said}</script>"
        )
        window.open(f"{site.address}/shop?utm_source=news")
        for distinct_id in ("br-user", "$group:company:br-acme"):
            wait(lambda: daemon.ask(f"/v1/people?distinct_id={quote(distinct_id)}").status == 200)  # noqa: B023
        wait(lambda: "Bought" in names(daemon, "br-user"))
        wait(lambda: {"plan": "pro", "visits": 2}.items() <= person(daemon, "br-user")["traits"].items())
        visitor = window.run("before").removeprefix("$device:")
    assert names(daemon, visitor) == names(daemon, "br-user") == ["$mp_web_page_view", "Bought", "Looked"]
    user = person(daemon, visitor)
    assert (user["traits"]["company"], user["traits"]["$os"]) == (["br-acme"], "Linux")
    assert "list" not in user["traits"]
    assert (user["user_ids"], sorted(one["id"] for one in user["ids"])) == (["br-user"], sorted(["br-user", visitor]))
    shown = {entry["event"]: entry for entry in events(daemon, visitor)}
    assert shown["Looked"]["properties"]["text"] == "a+b & c=d %41 \u00fc\u4e16"
    assert shown["Looked"]["platform"] == "web"
    page = shown["$mp_web_page_view"]["context"]
    assert (page["page"]["title"], page["campaign"]) == ("Shop", {"source": "news"})


VISITED = """
mixpanel.init(%s, {
  api_host: %s, persistence: 'localStorage', batch_flush_interval_ms: 100, batch_size: 2, debug: false,
});
mixpanel.identify('br-faulty');
for (let number = 0; number < 20; number++) mixpanel.track('Counted', {number});
mixpanel.people.set({plan: 'pro'});
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_browsers_library_over_a_network_that_fails(daemon: Daemon, tmp_path: Path) -> None:
    """Of what the collector never saw, it drops what it sent while it believed to be online: that is its own way."""
    library = (installed.node() / "node_modules/mixpanel-browser/dist/mixpanel.umd.js").read_text()
    faults = ("reset-after", "", "slow", "half", "", "gateway", "", "twice")
    with Network(daemon.port, *faults) as network, Site(daemon.port) as site, browser(tmp_path / "window") as window:
        said = VISITED % (json.dumps(WRITE_KEY), json.dumps(network.address))
        site.pages["/shop"] = f"<!doctype html><meta charset=utf-8><script>{library}</script><script>{said}</script>"
        window.open(f"{site.address}/shop")
        wait(lambda: daemon.ask("/v1/people?distinct_id=br-faulty").status == 200)
        wait(lambda: len(names(daemon, "br-faulty")) >= 20)
        wait(lambda: person(daemon, "br-faulty")["traits"].get("plan") == "pro")
        assert not network.left
    assert sorted(entry["properties"]["number"] for entry in events(daemon, "br-faulty")) == list(range(20))


def test_what_is_sent_twice_counts_once(daemon: Daemon) -> None:
    """By hand, in each form, without `$insert_id`: a library that sends again sends the same event."""
    said = {"event": "Once", "properties": {"token": WRITE_KEY, "distinct_id": "again", "time": 1_790_000_000}}
    text = json.dumps(said).encode()
    for path, body in (
        ("/track", text), ("/track/", b"[%s]" % text), ("/track?verbose=1", b"data=" + base64.b64encode(text)),
        ("/import", b"ip=0&data=" + quote(text).encode()), ("/track/?data=" + quote(base64.b64encode(text)), None),
    ):  # fmt: skip
        answer = http_request(daemon.port, "POST" if body else "GET", path, body)
        assert answer.status == 200, (path, answer)
        assert answer.body == (b'{"status":1,"error":null}' if "verbose" in path else b"1")
    assert names(daemon, "again") == ["Once"]


def test_posthog_is_understood_on_the_same_paths(daemon: Daemon) -> None:
    event = {"event": "Theirs", "distinct_id": "posthog-1", "properties": {}}
    for path in ("/track/", "/engage"):
        body = json.dumps({"api_key": WRITE_KEY, "batch": [event]}).encode()
        answer = http_request(daemon.port, "POST", path, body)
        assert (answer.status, answer.body) == (200, b'{"status":1}')
    assert names(daemon, "posthog-1") == ["Theirs", "Theirs"]


def test_what_the_edge_refuses_is_no_crash_of_the_python_library(daemon: Daemon) -> None:
    forms = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/track", "/engage", "/groups", "/import"):
        answer = http_request(daemon.port, "PUT", path, b"data=x", forms)
        assert (answer.status, answer.json()["status"]) == (405, 0), path
        assert isinstance(answer.json()["error"], str)
