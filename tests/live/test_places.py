"""Places over the whole daemon: told by every dialect, asked for in questions, and no address kept anywhere."""

from __future__ import annotations

import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmdb
import pytest
from live.daemon import READ_KEY, WRITE_KEY, Daemon, http_request, stored

BROWSER = {"Origin": "https://shop.example", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/141.0.0.0"}
SERVER = {"User-Agent": "python-requests/2.31"}
AT = 1_790_000_000_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("live")
    (directory / "places.mmdb").write_bytes(mmdb.written(mmdb.CITY))
    with Daemon(Path(directory), PUGD_PLACES=str(directory / "places.mmdb")) as one:
        yield one


def cities(daemon: Daemon, distinct_id: str) -> dict[str, Any]:
    return {entry["event"]: (entry["country"], entry["region"], entry["city"])
            for entry in daemon.entries(distinct_id) if entry["type"] == "event"}  # fmt: skip


def test_every_dialect_tells_places_and_keeps_no_address(daemon: Daemon) -> None:
    london, graz = {"X-Forwarded-For": f"{mmdb.USA}, {mmdb.LONDON}"}, mmdb.GRAZ
    who = {"distinct_id": "walker"}

    def segment(name: str, **context: Any) -> dict[str, Any]:
        said = {"ip": graz, "$ip": graz, "$set": {"ip": graz, "plan": "pro"}}
        return {"type": "track", "event": name, "userId": "walker", "context": context, "properties": said}

    def posthog(name: str, **properties: Any) -> dict[str, Any]:
        return {"event": name, **who, "properties": {"ip": graz, "$set": {"$ip": graz}, **properties}}

    sent: list[tuple[str, Any, dict[str, str]]] = [
        ("/v1/batch", {"batch": [segment("browser"), segment("given", ip=graz, traits={"ip": graz})]},
         BROWSER | london),
        ("/v1/batch", {"batch": [segment("server", library={"name": "analytics-node"})]}, SERVER | london),
        ("/v1/identify", {"userId": "walker", "traits": {"ip": graz, "$ip": graz}, "context": {"ip": graz}}, london),
        ("/batch/", {"api_key": WRITE_KEY, "batch": [
            posthog("ph browser", **{"$lib": "web"}), posthog("ph given", **{"$ip": graz}),
            posthog("ph off", **{"$ip": graz, "$geoip_disable": True})]}, BROWSER | london),
        ("/2/httpapi", {"api_key": WRITE_KEY, "events": [
            {"event_type": "amp remote", "user_id": "walker", "ip": "$remote", "time": AT},
            {"event_type": "amp given", "user_id": "walker", "ip": graz, "time": AT, "event_properties": {"ip": graz}},
            {"event_type": "amp server", "user_id": "walker", "time": AT, "user_properties": {"ip": graz}}]}, london),
        ("/track?ip=1&verbose=1", [
            {"event": "mp remote", "properties": {"token": WRITE_KEY, **who, "time": AT}},
            {"event": "mp given", "properties": {"token": WRITE_KEY, **who, "ip": graz, "$ip": graz, "time": AT}}],
         london),
        ("/engage?verbose=1", [{"$token": WRITE_KEY, "$distinct_id": "walker", "$ip": graz, "$set": {"ip": graz}}],
         london),
        ("/sdk.events.v1.EventsService/BatchCreate", {"events": [
            {"eventId": "01923f7e-6a4b-7000-8000-000000000009",
             "distinctId": "walker", "kind": "pug", "occurTime": "2026-09-21T14:13:20Z",
             "autoProperties": {"$platform": "web"}, "customProperties": {"ip": graz}}]},
         BROWSER | london | {"X-Api-Key": WRITE_KEY}),
        ("/v1/track", segment("wrong") | {"type": "track", "event": "", "note": graz}, BROWSER | london),
    ]  # fmt: skip
    for path, body, headers in sent:
        data = urllib.parse.urlencode({"data": json.dumps(body)}).encode() if "verbose" in path else body
        answer = daemon.post(path, data, headers=headers)
        assert answer.status == (400 if "note" in body else 200), (path, answer)
    daemon.datagram(segment("datagram"), segment("datagram given", ip=graz))
    with socket.create_connection(("127.0.0.1", daemon.port)) as spoilt:
        spoilt.sendall(f"POST /v1/track HTTP/1.1\r\nX-Forwarded-For: {mmdb.LONDON}\r\nbroken\r\n\r\n".encode())
        assert b" 400 " in spoilt.recv(1000)

    here, there, nowhere = ("GB", "England", "London"), ("AT", "6", "Graz"), (None, None, None)
    expected = {
        "browser": here, "given": there, "server": nowhere, "ph browser": here, "ph given": there, "ph off": nowhere,
        "amp remote": here, "amp given": there, "amp server": nowhere, "mp remote": here, "mp given": there,
        "pug": here, "datagram": nowhere, "datagram given": there,
    }  # fmt: skip
    for _ in range(200):
        if len(found := cities(daemon, "walker")) == len(expected):  # datagrams have no ack
            break
    assert found == expected

    def asked(path: str, question: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {READ_KEY}", "Content-Type": "application/json"}
        answer = http_request(daemon.console, "POST", f"/v1/ask/{path}", json.dumps(question).encode(), headers)
        assert answer.status == 200, answer
        return answer.json()

    since = {"from": "2026-01-01", "to": "2030-01-01"}
    by_city = asked("top", since | {"of": {"measure": "events"}, "by": {"field": "city"}})
    counted = {row["value"]: row["total"]["events"] for row in by_city["rows"] if row["value"] is not None}
    assert counted == {"London": 5, "Graz": 5, "": 4}
    graz = {"field": "country", "value": "AT"}
    assert asked("people", {"where": {"did": {"where": graz}}})["count"] == 1

    assert daemon.metric("pugd_places_file_built_at") == 1_790_000_000
    assert daemon.metric("pugd_places_addresses_held") == 2
    assert daemon.stop() == 0
    kept = {path: path.read_bytes() for path in daemon.data.rglob("*") if path.is_file()}
    log = daemon.log.read_text()
    for address in (mmdb.LONDON, mmdb.GRAZ, mmdb.USA):
        assert [str(path) for path, data in kept.items() if address.encode() in data] == []
        assert address not in log
    tables = ("events", "traits", "links", "person_of")
    like = " or ".join(f"text like '%{address}%'" for address in (mmdb.LONDON, mmdb.GRAZ, mmdb.USA))
    # Columns are compressed on disk, so these are read too.
    texts = [f"(select toString(tuple(*)) as text from {table})" for table in tables]
    counts = stored(daemon.data, *(f"select count(), countIf({like}) from {text}" for text in texts))
    assert counts[0][0][0] == len(expected)
    assert [rows[0][1] for rows in counts] == [0, 0, 0, 0]
