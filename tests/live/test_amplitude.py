"""Amplitude's own libraries against the whole daemon, the real ones: one visitor's story, then the same over a network
that fails, with a key that is held to a rate and a body that is too large: every event once, on the one timeline, as it
was tracked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from live.browser import PATH as BROWSER
from live.browser import Browser, browser
from live.clients import installed
from live.clients.network import Network
from live.clients.test_segment import LONG_AGO, VIEWED
from live.daemon import WRITE_KEY, Daemon
from live.test_snippet import Site, wait

BODY_BYTES_MAX = 12 * 1024
SHOWN = {name: value for name, value in VIEWED.items() if value is not None}
SHOWN |= {"tags": ["wool", {"deep": [1, -2.5e-7, True]}]}
"""The library for Python drops nulls, and all properties of an event for a null in a list."""
FILLERS = 120
"""Together more than a body may have."""
TOGETHER = 60
"""Events that a library sends in one body, until it is told that this is too large."""
FAULTS = ("busy", "gateway", "", "slow", "later", "twice")
BROKEN = ("reset-after", "half", "reset-after")
"""Both libraries take no answer for a final one and send nothing again, so what the collector has taken is not lost."""

NODE = """
const amplitude = require('@amplitude/analytics-node');
const { Identify, Revenue, createInstance } = amplitude;
const { address, broken, key, tag, fillers, together, viewed, longAgo } = JSON.parse(process.env.SETTINGS);
const visitor = { device_id: `anon-${tag}` }, user = { user_id: `user-${tag}` };
const both = { ...visitor, ...user };
const told = {};
let at = Date.now() - 60_000;
const now = () => ({ time: at++ });  // Of two changes in one millisecond the event id decides, and here it is random.

(async () => {
  const made = async (serverUrl) => {
    const client = createInstance();
    await client.init(key, { serverUrl, flushQueueSize: together, flushIntervalMillis: 100, logLevel: 0 }).promise;
    // It waits 30 s where it is told to slow down.
    await client.add({ name: 'hasty', type: 'enrichment', setup: async (_, { timeline }) => {
      timeline.plugins.find(({ name }) => name === 'amplitude').throttleTimeout = 1000;
    } }).promise;
    return client;
  };
  const client = await made(`${address}/2/httpapi`);
  const said = [];
  const say = (promised) => said.push(promised.promise.then(({ code, event, message }) => {
    const words = `${event.event_type}: ${code}` + (code === 200 ? '' : ` ${message}`);
    told[words] = (told[words] ?? 0) + 1;
  }));
  say(client.track('Product Viewed', viewed, { ...visitor, ...now(), language: 'de-AT', app_version: '3.1' }));
  say(client.track('Long Ago', { n: 1 }, { ...visitor, time: Date.parse(longAgo) }));
  const page = { '[Amplitude] Page URL': 'https://shop.example/x' };
  say(client.track('[Amplitude] Page Viewed', page, { ...visitor, ...now() }));
  for (let n = 0; n < fillers; n++) say(client.track('Filler', { n, text: 'ü'.repeat(60) }, { ...visitor, ...now() }));
  await Promise.all(said.splice(0));
  const first = new Identify().set('plan', 'pro').set('age', 42).setOnce('source', 'ad').add('visits', 2);
  say(client.identify(first.append('list', 1), { ...both, ...now() }));
  const again = new Identify().set('plan', 'team').setOnce('source', 'mail').add('visits', 3).unset('age');
  say(client.identify(again, { ...user, ...now() }));
  say(client.setGroup('company', `acme-${tag}`, { ...both, ...now() }));
  say(client.groupIdentify('company', `acme-${tag}`, new Identify().set('seats', 5), { ...user, ...now() }));
  const bought = new Revenue().setProductId('scarf').setPrice(49.9).setQuantity(2).setRevenueType('sale');
  say(client.revenue(bought.setEventProperties({ colour: 'red' }), { ...both, ...now() }));
  say(client.track('Order Completed', { n: 1 }, { ...both, ...now(), groups: { company: `acme-${tag}` } }));
  await Promise.all(said);
  if (broken) {
    const other = await made(`${broken}/2/httpapi`);
    for (let n = 0; n < 3; n++) {
      say(other.track('Unheard', { n }, { ...both, ...now() }));
      await said.at(-1);
    }
  }
  console.log(JSON.stringify(told));
  process.exit(0);
})();
"""

PYTHON = """
import json, os, threading, time
from collections import Counter
from datetime import datetime
from amplitude import Amplitude, BaseEvent, Config, EventOptions, Identify, Revenue
from amplitude.storage import InMemoryStorage, StorageProvider

settings = json.loads(os.environ["SETTINGS"])
tag = settings["tag"]
visitor, user = {"device_id": f"anon-{tag}"}, {"user_id": f"user-{tag}"}
both = {**visitor, **user}
told = Counter()
heard = threading.Event()
at = int(time.time() * 1000) - 60_000


class Hasty(InMemoryStorage):
    # It waits 30 s where it is told to slow down.
    def push(self, event, delay=0):
        return super().push(event, delay // 30)


class Provider(StorageProvider):
    def get_storage(self):
        return Hasty()


def now():
    # Of two changes in one millisecond the event id decides, and here it is random.
    global at
    at += 1
    return {"time": at}


def heard_of(event, code, message):
    told[f"{event.event_type}: {code}" + ("" if code == 200 else f" {message}")] += 1
    heard.set()


def made(address):
    return Amplitude(settings["key"], Config(
        server_url=address + "/2/httpapi", flush_queue_size=settings["together"], flush_interval_millis=500,
        callback=heard_of, storage_provider=Provider(),
    ))


client = made(settings["address"])
sent = 0


def track(name, properties, **more):
    global sent
    sent += 1
    client.track(BaseEvent(name, event_properties=properties, **more))


def settled():
    while sum(told.values()) < sent:
        assert heard.wait(60), told
        heard.clear()


track("Product Viewed", settings["viewed"], **visitor, **now(), language="de-AT", app_version="3.1")
ago = datetime.fromisoformat(settings["longAgo"].replace("Z", "+00:00"))
track("Long Ago", {"n": 1}, **visitor, time=round(ago.timestamp() * 1000))
track("[Amplitude] Page Viewed", {"[Amplitude] Page URL": "https://shop.example/x"}, **visitor, **now())
for n in range(settings["fillers"]):
    track("Filler", {"n": n, "text": "ü" * 60}, **visitor, **now())
settled()
first = Identify().set("plan", "pro").set("age", 42).set_once("source", "ad").add("visits", 2).append("list", 1)
client.identify(first, EventOptions(**both, **now()))
again = Identify().set("plan", "team").set_once("source", "mail").add("visits", 3).unset("age")
client.identify(again, EventOptions(**user, **now()))
client.set_group("company", f"acme-{tag}", EventOptions(**both, **now()))
client.group_identify("company", f"acme-{tag}", Identify().set("seats", 5), EventOptions(**user, **now()))
bought = Revenue(product_id="scarf", price=49.9, quantity=2, revenue_type="sale", properties={"colour": "red"})
client.revenue(bought, EventOptions(**both, **now()))
sent += 5
track("Order Completed", {"n": 1}, **both, **now(), groups={"company": f"acme-{tag}"})
settled()
client.shutdown()
if settings["broken"]:
    other = made(settings["broken"])
    for n in range(3):
        # By hand alone: what its own thread sends it tells nobody of.
        other.configuration.flush_interval_millis = 1000
        other.track(BaseEvent("Unheard", event_properties={"n": n}, **both, **now()))
        try:
            for sending in other.flush():
                sending.result()
        except Exception as error:  # It is told of to nobody else.
            told[f"Unheard: {type(error).__name__}"] += 1
    other.shutdown()
print(json.dumps(told))
"""

LIBRARIES: dict[str, dict[str, Any]] = {
    "node": {"script": NODE, "in_node": True},
    "python": {"script": PYTHON},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that takes small bodies alone."""
    with Daemon(Path(tmp_path_factory.mktemp("live")), PUGD_BODY_BYTES_MAX=str(BODY_BYTES_MAX)) as one:
        yield one


def limited(daemon: Daemon) -> str:
    """A key that lets some events through, and more a little later."""
    return daemon.new_key("write", "--rate", "80", "--burst", "30")


class Run(NamedTuple):
    tag: str
    told: dict[str, int]
    met: Counter[str]
    statuses: Counter[int]
    """What the collector said, where it was heard."""


@pytest.fixture(scope="module")
def runs(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Every library, by name, and with ' faulty' behind it over the faulty network, side by side."""
    story = {"fillers": FILLERS, "together": TOGETHER, "viewed": SHOWN, "longAgo": LONG_AGO}

    def drive(name: str, key: str, faults: tuple[str, ...], broken: tuple[str, ...]) -> Run:
        tag = f"{name}-faulty" if faults else name
        with Network(daemon.port, *faults) as network, Network(daemon.port, *broken) as worse:
            # What is well goes without anything in between, so that it is the collector's own way to close.
            settings = {
                "address": network.address if faults else f"http://127.0.0.1:{daemon.port}",
                "broken": worse.address if broken else "",
            }
            told = installed.run(
                directory=tmp_path_factory.mktemp(tag), **LIBRARIES[name], **settings, **story, key=key, tag=tag
            )
            return Run(tag, told, network.met + worse.met, network.statuses)

    with ThreadPoolExecutor(4) as pool:
        futures = {name: pool.submit(drive, name, WRITE_KEY, (), ()) for name in LIBRARIES}
        for name in LIBRARIES:
            futures[f"{name} faulty"] = pool.submit(drive, name, limited(daemon), FAULTS, BROKEN)
        yield futures


@pytest.mark.parametrize("faulty", ["", " faulty"], ids=["plain", "faulty"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_one_timeline_as_it_was_told(daemon: Daemon, runs: dict[str, Future[Run]], name: str, faulty: str) -> None:
    run = runs[name + faulty].result()
    tag, told = run.tag, dict(run.told)
    calls = {
        "Product Viewed": 1, "Long Ago": 1, "[Amplitude] Page Viewed": 1, "Filler": FILLERS, "revenue_amount": 1,
        "Order Completed": 1,
    }  # fmt: skip
    unheard = {words: told.pop(words) for words in list(told) if words.startswith("Unheard")}
    assert told == {f"{call}: 200": count for call, count in (calls | {"$identify": 3, "$groupidentify": 1}).items()}
    if faulty:
        assert all(run.met[fault] for fault in (*FAULTS, *BROKEN)), run.met
        assert run.statuses[413], "it sent too much together, and half as much then"
        assert run.statuses[429], "it sent too fast, and later again"

    entries = list(daemon.entries(f"anon-{tag}"))
    assert entries == list(daemon.entries(f"user-{tag}"))
    events = [entry for entry in entries if entry["type"] == "event"]
    assert sum(unheard.values()) == 3 * bool(faulty), unheard
    assert sorted(event["properties"]["n"] for event in events if event["event"] == "Unheard") == [0, 1, 2] * bool(
        faulty
    )
    counts = Counter(event["event"] for event in events if event["event"] != "Unheard")
    assert counts == calls | {"group": 2}
    assert sorted(event["properties"]["n"] for event in events if event["event"] == "Filler") == list(range(FILLERS))
    by_name = {event["event"]: event for event in events}
    viewed = by_name["Product Viewed"]
    assert viewed["properties"] == SHOWN
    assert (viewed["context"]["locale"], viewed["context"]["app"]) == ("de-AT", {"version": "3.1"})
    assert by_name["Long Ago"]["occurred_at"] == LONG_AGO
    assert by_name["[Amplitude] Page Viewed"]["context"]["page"] == {"url": "https://shop.example/x"}
    bought = {"$productId": "scarf", "$price": 49.9, "$quantity": 2, "$revenueType": "sale", "colour": "red"}
    assert by_name["revenue_amount"]["properties"] == bought
    assert by_name["Order Completed"]["properties"] == {"n": 1, "$groups": {"company": f"acme-{tag}"}}
    company = {"group_type": "company", "group_id": f"acme-{tag}"}
    groups = [event["properties"] for event in events if event["event"] == "group"]
    assert sorted(groups, key=str) == [company | {"traits": traits} for traits in ({"seats": 5}, {})]
    assert {event["platform"] for event in events} == {"server"}

    person = daemon.read(f"/v1/people?distinct_id=anon-{tag}")["person"]
    assert (person["user_id"], person["user_ids"]) == (f"user-{tag}", [f"user-{tag}"])
    assert {one["id"] for one in person["ids"]} == {f"anon-{tag}", f"user-{tag}"}
    assert person["events"] == len(events) - 2, "a group call is no event to count"
    assert person["traits"] == {"plan": "team", "source": "ad", "visits": 5, "company": f"acme-{tag}"}
    links = [entry for entry in entries if entry["type"] == "link"]
    assert {(entry["a"], entry["b"]) for entry in links if entry["call"] == "identify"} >= {
        (f"anon-{tag}", f"user-{tag}")
    }
    assert all(entry["refused"] is None for entry in links)


def test_lists_that_grow_are_refused_by_name(daemon: Daemon, runs: dict[str, Future[Run]]) -> None:
    """The library's callback says 200, since the rest of the event was taken."""
    for run in runs.values():
        run.result()
    told = [one for one in daemon.read("/v1/refusals")["refusals"] if "$append" in one["message"]]
    assert sum(one["count"] for one in told) >= len(runs)
    assert {(one["code"], one["dialect"], one["path"]) for one in told} == {
        ("invalid_field", "amplitude", "/2/httpapi")
    }


BROWSED = """
const ready = amplitude.init(%s, {serverUrl: %s, fetchRemoteConfig: false, flushIntervalMillis: 200, logLevel: 0});
amplitude.track('Looked', {text: 'a+b & c=d %%41 \u00fc\u4e16'});
addEventListener('pagehide', () => { amplitude.setTransport('beacon'); amplitude.flush(); });
const visit = async () => {
  await ready.promise;
  const before = amplitude.getDeviceId();
  amplitude.setUserId(%s);
  amplitude.identify(new amplitude.Identify().set('plan', 'pro').setOnce('source', 'ad').add('visits', 2));
  amplitude.setGroup('company', 'acme-browsed');
  amplitude.revenue(new amplitude.Revenue().setProductId('scarf').setPrice(49.9).setQuantity(2));
  await amplitude.track('Bought').promise;
  return before;
};
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(Path(tmp_path_factory.mktemp("window"))) as one:
        yield one


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize(
    "faults", [(), ("busy", "reset-after", "", "half", "slow", "", "reset-before", "twice")], ids=["", "faulty"]
)
def test_the_browsers_library(daemon: Daemon, window: Browser, faults: tuple[str, ...]) -> None:
    scripts = installed.node() / "node_modules/@amplitude/analytics-browser/lib/scripts"
    library, user = (scripts / "amplitude-min.umd.js").read_text(), f"user-browsed{'-faulty' * bool(faults)}"
    with Network(daemon.port, *faults) as network, Site(daemon.port) as site:
        # Somebody else than before: cookies are those of all ports.
        window.ask("Storage.clearDataForOrigin", origin=site.address, storageTypes="all")
        address = network.address if faults else f"http://127.0.0.1:{daemon.port}"
        said = BROWSED % (json.dumps(WRITE_KEY), json.dumps(f"{address}/2/httpapi"), json.dumps(user))
        site.pages["/shop"] = (
            f"<!doctype html><meta charset=utf-8><title>Shop</title><script>{library}</script><script>{said}</script>"
        )
        window.open(f"{site.address}/shop?utm_source=news")
        visitor = window.run("visit()")
        said_more = 0
        while network.left:
            window.run(f"amplitude.track('More', {{n: {said_more}}}).promise.then(({{code}}) => code)")
            said_more += 1
        # The page goes away with the word still on its lips.
        window.run("void amplitude.track('Left')")
        window.open(f"{site.address}/without")
        wait(lambda: "Left" in [entry["event"] for entry in daemon.entries(user) if entry["type"] == "event"])
    entries = list(daemon.entries(visitor))
    assert entries == list(daemon.entries(user))
    events = [entry for entry in entries if entry["type"] == "event"]
    assert Counter(event["event"] for event in events) == {
        "session_start": 1, "[Amplitude] Page Viewed": 1, "Looked": 1, "group": 1, "revenue_amount": 1, "Bought": 1,
        "Left": 1,
    } | ({"More": said_more} if said_more else {})  # fmt: skip
    by_name = {event["event"]: event for event in events}
    assert by_name["Looked"]["properties"]["text"] == "a+b & c=d %41 \u00fc\u4e16"
    assert {event["platform"] for event in events} == {"web"}
    assert len({event["session_id"] for event in events}) == 1
    page = by_name["[Amplitude] Page Viewed"]["context"]
    assert (page["page"]["title"], page["page"]["path"], page["campaign"]) == ("Shop", "/shop", {"source": "news"})
    person = daemon.read(f"/v1/people?distinct_id={visitor}")["person"]
    assert (person["user_id"], person["user_ids"]) == (user, [user])
    assert {one["id"] for one in person["ids"]} == {visitor, user}
    traits = {"plan": "pro", "source": "ad", "visits": 2, "company": "acme-browsed", "utm_source": "news"}
    assert traits.items() <= person["traits"].items()
