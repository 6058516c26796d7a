"""Connect's own client for Node, on which Pug's SDKs stand, against the whole daemon, with Pug's messages."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dialects import wire
from live.clients import installed
from live.daemon import WRITE_KEY, Daemon, http_request, root

from pugd.dialects import pug
from pugd.dialects.dialect import Asked
from pugd.errors import UNAVAILABLE
from pugd.model import Ack, Refusal

BATCH = "/sdk.events.v1.EventsService/BatchCreate"

NODE = """
const { create, createFileRegistry } = require("@bufbuild/protobuf");
const { FileDescriptorProtoSchema, FileDescriptorSetSchema, file_google_protobuf_struct,
  file_google_protobuf_timestamp, timestampFromMs } = require("@bufbuild/protobuf/wkt");
const { Code, createClient } = require("@connectrpc/connect");
const { createConnectTransport } = require("@connectrpc/connect-node");
const http = require("node:http");
const settings = JSON.parse(process.env.SETTINGS);

const TYPES = { double: 1, int64: 3, bool: 8, string: 9, message: 11, uint32: 13 };
const field = (name, number, type, more = {}) => ({ name, number,
  jsonName: name.replace(/_(.)/g, (_, c) => c.toUpperCase()),
  ...(TYPES[type] ? { type: TYPES[type] } : { type: TYPES.message, typeName: type }), label: 1, ...more });
const map = (owner, name, number) => field(name, number, `${owner}.${entryOf(name)}`, { label: 3 });
const entryOf = (name) => name.split("_").map((part) => part[0].toUpperCase() + part.slice(1)).join("") + "Entry";
const entry = (name, type) => ({ name: entryOf(name), field: [field("key", 1, "string"), field("value", 2, type)],
  options: { mapEntry: true } });
const file = (name, messages, services = []) => create(FileDescriptorProtoSchema, {
  name, package: "sdk", syntax: "proto3", messageType: messages,
  dependency: ["google/protobuf/struct.proto", "google/protobuf/timestamp.proto"], service: services });
const inPackage = (pack, messages, service, method, input, output) => {
  const made = file(`${pack}.proto`, messages, [{ name: service,
    method: [{ name: method, inputType: `.${pack}.${input}`, outputType: `.${pack}.${output}` }] }]);
  made.package = pack;
  return made;
};
const stamp = ".google.protobuf.Timestamp", struct = ".google.protobuf.Struct";
const one = { oneofIndex: 0 };
const events = inPackage("sdk.events.v1", [
  { name: "PropertyValue", oneofDecl: [{ name: "value" }], field: [field("string_value", 1, "string", one),
    field("int_value", 2, "int64", one), field("double_value", 3, "double", one), field("bool_value", 4, "bool", one),
    field("timestamp_value", 5, stamp, one)] },
  { name: "Event", field: [field("event_id", 1, "string"),
    map(".sdk.events.v1.Event", "auto_properties", 2), map(".sdk.events.v1.Event", "custom_properties", 3),
    field("distinct_id", 4, "string"), field("kind", 5, "string"), field("occur_time", 6, stamp),
    field("session_id", 7, "string"), field("cookieless", 8, "bool")],
    nestedType: [entry("auto_properties", ".sdk.events.v1.PropertyValue"),
      entry("custom_properties", ".sdk.events.v1.PropertyValue")] },
  { name: "BatchCreateRequest", field: [field("events", 1, ".sdk.events.v1.Event", { label: 3 })] },
  { name: "BatchCreateResponse", field: [field("accepted", 1, "uint32"), field("dropped", 2, "uint32"),
    map(".sdk.events.v1.BatchCreateResponse", "dropped_by_reason", 3)],
    nestedType: [entry("dropped_by_reason", "uint32")] },
], "EventsService", "BatchCreate", "BatchCreateRequest", "BatchCreateResponse");
const profiles = inPackage("sdk.profiles.v1", [
  { name: "IdentifyRequest", field: [field("external_id", 1, "string"), field("traits", 2, struct),
    field("anonymous_id", 3, "string"), field("device_id", 4, "string")] },
  { name: "IdentifyResponse" },
], "ProfilesSDKService", "Identify", "IdentifyRequest", "IdentifyResponse");
const devices = inPackage("sdk.devices.v1", [
  { name: "SubscribeRequest", field: [field("device_id", 1, "string"), field("platform", 2, "string"),
    field("token", 5, "string")] },
  { name: "SubscribeResponse" },
], "DevicesService", "Subscribe", "SubscribeRequest", "SubscribeResponse");
const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [
  file_google_protobuf_struct.proto, file_google_protobuf_timestamp.proto, events, profiles, devices] }));
const service = (name) => registry.getService(name);

const clients = (key, binary, base = settings.base) => {
  const transport = createConnectTransport({ baseUrl: base, httpVersion: "1.1", defaultTimeoutMs: 10000,
    useBinaryFormat: binary,
    interceptors: [(next) => (request) => { request.header.set("x-api-key", key); return next(request); }] });
  return { events: createClient(service("sdk.events.v1.EventsService"), transport),
    profiles: createClient(service("sdk.profiles.v1.ProfilesSDKService"), transport),
    devices: createClient(service("sdk.devices.v1.DevicesService"), transport) };
};
const values = (said) => Object.fromEntries(Object.entries(said).map(([name, value]) => [name, { value:
  typeof value === "string" ? { case: "stringValue", value } : typeof value === "bigint" ? { case: "intValue", value }
  : typeof value === "number" ? { case: "doubleValue", value }
  : typeof value === "boolean" ? { case: "boolValue", value }
  : { case: "timestampValue", value: timestampFromMs(value.getTime()) } }]));
const event = (eventId, distinctId, kind, custom = {}, more = {}) => ({ eventId, distinctId, kind,
  autoProperties: values({ $lib: "pug-node", $platform: "server" }), customProperties: values(custom),
  occurTime: timestampFromMs(settings.now - 60000), sessionId: "s-1", ...more });
const plain = (said) => ({ accepted: said.accepted, dropped: said.dropped, reasons: said.droppedByReason });
const failed = (call) => call().then(() => "taken", (error) => Code[error.code] + ": " + error.rawMessage);

(async () => {
  const said = {};
  for (const [name, binary] of [["binary", true], ["json", false]]) {
    const to = clients(settings.secret, binary);
    const first = event(`${name}-1`, `anon-${name}`, "page_view", {
      text: "Gr\\u00fc\\u00df \\"q\\"\\n\\u4e16\\ud83d\\ude00", big: 9007199254740993n,
      price: 12.5, whole: 3, on: true, at: new Date(1790000000123) });
    said[name] = plain(await to.events.batchCreate({ events: [
      first, event(`${name}-2`, "", "nobody"), first, event(`${name}-3`, "", "k", {}, { cookieless: true })] }));
    said[`${name} again`] = plain(await to.events.batchCreate({ events: [first] }));
    await to.profiles.identify({ externalId: `user-${name}`, anonymousId: `anon-${name}`, deviceId: "d",
      traits: { plan: "pro", seats: 2, ratio: 0.1, none: null, list: [1, { deep: "x" }] } });
    const bought = event(`${name}-4`, `user-${name}`, "bought");
    said[`${name} later`] = plain(await to.events.batchCreate({ events: [bought] }));
    await to.devices.subscribe({ deviceId: "d", platform: "web", token: "t" });
    said[`${name} without`] = await failed(() => to.profiles.identify({}));
    const nobody = clients("prv_unknown", binary);
    said[`${name} unknown`] = await failed(() => nobody.events.batchCreate({ events: [first] }));
  }
  const many = Array.from({ length: 1000 }, (_, n) => event(`many-${n}`, "many", "many", { n }));
  said.many = plain(await clients(settings.key, true).events.batchCreate({ events: many }));

  // A front that answers 503 once, as pugd does, and passes on what comes then.
  let left = 1;
  const front = http.createServer((request, response) => {
    if (left-- > 0) {
      response.writeHead(503, { "content-type": "application/json" });
      request.resume();
      return response.end(settings.busy);
    }
    request.pipe(http.request(settings.base + request.url, { method: "POST", headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }));
  });
  await new Promise((done) => front.listen(0, "127.0.0.1", done));
  const busy = clients(settings.key, true, `http://127.0.0.1:${front.address().port}`);
  const late = { events: [event("late-1", "late", "late")] };
  said.busy = await failed(() => busy.events.batchCreate(late));
  said["busy later"] = plain(await busy.events.batchCreate(late));
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


def test_the_client_of_the_sdks(daemon: Daemon, tmp_path: Path, secret: str) -> None:
    now = time.time_ns() // 1_000_000
    busy = pug.failure(503, Ack(0, [], Refusal(UNAVAILABLE, "Full."), 0), Asked("batch")).body.decode()
    said = installed.run(
        NODE, tmp_path, in_node=True, base=f"http://127.0.0.1:{daemon.port}", key=WRITE_KEY, secret=secret,
        now=now, busy=busy,
    )  # fmt: skip
    for name in ("binary", "json"):
        assert said[name] == {"accepted": 3, "dropped": 1, "reasons": {"missing_field": 1}}
        assert said[f"{name} again"] == said[f"{name} later"] == {"accepted": 1, "dropped": 0, "reasons": {}}
        assert said[f"{name} without"].startswith("InvalidArgument: external_id is missing")
        assert said[f"{name} unknown"].startswith("Unauthenticated: unknown write key")
        viewed, bought = events(daemon, f"user-{name}")
        assert [viewed["event"], bought["event"]] == ["page_view", "bought"]
        assert viewed["properties"] == {
            "$lib": "pug-node", "$platform": "server", "text": 'Gr\u00fc\u00df "q"\n\u4e16\U0001f600', "big": 2**53 + 1,
            "price": 12.5, "whole": 3, "on": True, "at": "2026-09-21T14:13:20.123Z",
        }  # fmt: skip
        assert viewed["context"]["library"] == {"name": "pug-node"}
        person = daemon.read(f"/v1/people?distinct_id=anon-{name}")["person"]
        assert (person["user_id"], person["traits"]) == (
            f"user-{name}", {"plan": "pro", "seats": 2, "ratio": 0.1, "list": [1, {"deep": "x"}]},
        )  # fmt: skip
    assert said["many"] == {"accepted": 1000, "dropped": 0, "reasons": {}}
    assert sorted(entry["properties"]["n"] for entry in events(daemon, "many")) == list(range(1000))
    assert said["busy"] == "Unavailable: Full."
    assert said["busy later"] == {"accepted": 1, "dropped": 0, "reasons": {}}
    assert len(events(daemon, "late")) == 1


def test_a_beacon(daemon: Daemon, secret: str) -> None:
    """A page that goes: its key in the query, no header of Pug's, and a preflight that lets credentials through."""
    origin = {"Origin": "https://shop.example"}
    preflight = http_request(daemon.port, "OPTIONS", f"{BATCH}?api_key={WRITE_KEY}", None, {
        **origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type",
    })  # fmt: skip
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    body = wire.batch(wire.event("beacon-1", "anon-beacon", "page_leave"))
    kind = {"Content-Type": "application/proto", **origin}
    told = http_request(daemon.port, "POST", f"{BATCH}?api_key={WRITE_KEY}", body, kind)
    assert (told.status, told.body, told.headers["content-type"]) == (200, b"\x08\x01", "application/proto")
    assert told.headers["access-control-allow-credentials"] == "true"
    told = http_request(daemon.port, "POST", f"{BATCH}?api_key={secret}", body, kind)
    assert (told.status, told.json()["code"]) == (401, "unauthenticated")
    assert "X-Api-Key" in told.json()["message"]
    assert told.headers["access-control-allow-origin"] == "https://shop.example"
    told = http_request(daemon.port, "POST", BATCH, body, kind)
    assert (told.status, told.json()["code"]) == (401, "unauthenticated")
    assert [entry["event"] for entry in events(daemon, "anon-beacon")] == ["page_leave"]


def test_what_the_edge_refuses_is_told_in_connects_words(daemon: Daemon) -> None:
    key = {"X-Api-Key": WRITE_KEY, "Content-Type": "application/proto"}
    told = http_request(daemon.port, "POST", BATCH, b"", key | {"Content-Length": str(10**12)})
    assert (told.status, told.json()["code"]) == (413, "invalid_argument")
    told = http_request(daemon.port, "GET", BATCH, None, key)
    assert (told.status, told.json()["code"]) == (405, "unimplemented")
    told = http_request(daemon.port, "POST", BATCH, b"\x1f\x8bno gzip", key)
    assert (told.status, told.json()["code"]) == (400, "invalid_argument")


def test_the_page_can_be_pasted(daemon: Daemon) -> None:
    page = (root / "docs" / "clients" / "pug.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("curl ")]
    command = line.replace("127.0.0.1:7080", f"127.0.0.1:{daemon.port}")
    told = subprocess.run(
        ["bash", "-c", f"{command} --silent --show-error --fail-with-body"],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", "WRITE_KEY": WRITE_KEY},
    )  # fmt: skip
    assert told.stdout == '{"accepted":1}'
    assert [entry["properties"] for entry in events(daemon, "anon-1")] == [{"total": 12.5, "items": 3}]
