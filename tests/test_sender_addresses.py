"""What the address tells that a request is from: its place, one cookieless visitor from another. Nothing keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mmdb
import msgspec
import pytest
from inside import NOW, PUBLIC, World, track

from pugd import accept, errors
from pugd.accept import Arrival
from pugd.dialects import amplitude, mixpanel, posthog, segment
from pugd.dialects.dialect import Asked
from pugd.enrich.cookieless import Salts
from pugd.enrich.place import Places
from pugd.large import Large
from pugd.model import EVENT, Ack, Batch


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "places.mmdb").write_bytes(mmdb.written(mmdb.CITY))
    places = Places(str(tmp_path / "places.mmdb"))
    places.renew()
    with World(tmp_path / "placed", places=places) as made:
        yield made


BROWSER = Asked("batch", from_browser=True, user_agent="Mozilla/5.0")
AT = datetime.fromtimestamp(NOW / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def sent_from(world: World, address: str, asked: Asked, *messages: Any, piece: int | None = None) -> None:
    body = json.dumps({"batch": messages}).encode()
    [ack] = world.accept.take([Arrival(asked, body, PUBLIC, piece=piece, address=address)], b"", 0, NOW)
    assert ack.accepted == len(messages)


def cities(world: World) -> dict[str, str]:
    return {row.event_id: row.city for row in world.rows(EVENT)}


def from_library(event_id: str, name: str, **context: Any) -> dict[str, Any]:
    return track(event_id) | {"timestamp": AT, "context": {"library": {"name": name}, **context}}


def test_an_event_has_the_place_of_its_own_sender(placed: World) -> None:
    server, phone = Asked("batch"), Asked("batch", user_agent="okhttp/4.12")
    sent_from(placed, mmdb.LONDON, BROWSER, track("browser"), from_library("beyond", "x", ip=mmdb.GRAZ))
    sent_from(placed, mmdb.LONDON, server, from_library("server", "analytics-node"))
    sent_from(placed, mmdb.LONDON, server, from_library("passed on", "analytics-node", ip=mmdb.GRAZ))
    sent_from(placed, mmdb.LONDON, phone, from_library("phone", "analytics-android"))
    placed.udp(
        {**from_library("datagram", "analytics-android"), "writeKey": "k"},
        {**from_library("told", "analytics-android", ip=mmdb.GRAZ), "writeKey": "k"},
    )
    assert cities(placed) == {
        "browser": "London", "beyond": "Graz", "server": "", "passed on": "Graz", "phone": "London", "datagram": "",
        "told": "Graz",
    }  # fmt: skip
    row = placed.rows(EVENT)[0]
    assert (row.country, row.region, row.city) == ("GB", "England", "London")


def test_bodies_that_may_have_a_place_are_not_taken_the_short_way(
    placed: World, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: list[int] = []
    for one in (placed, world):
        add = one.accept._plain.add
        monkeypatch.setattr(
            one.accept._plain, "add", lambda *given, add=add, **named: short.append(add(*given, **named)) or short[-1]
        )
    bodies = [
        from_library("1", "analytics-node"), from_library("2", "analytics-node", ip=mmdb.GRAZ),
        from_library("3", "analytics-android"), from_library("4", "analytics-node", ip=None),
        track("5") | {"timestamp": AT}, from_library("6", "analytics-node", traits={"ip": mmdb.GRAZ}),
        track("7") | {"timestamp": AT, "context": {"ip": mmdb.LONDON}},
    ]  # fmt: skip
    for body in bodies:
        sent_from(placed, mmdb.LONDON, Asked("batch"), body)
    assert short == [1, 0, 0, 1, 1, 1, 0]
    assert cities(placed) == {"1": "", "2": "Graz", "3": "London", "4": "", "5": "", "6": "", "7": "London"}
    short.clear()
    for body in bodies:  # without a file, all of them are
        sent_from(world, mmdb.LONDON, Asked("batch"), body)
    assert short == [1] * len(bodies)
    assert set(cities(world).values()) == {""}
    strip = {"country": "", "region": "", "city": "", "actor": 0}
    for mine, other in zip(placed.rows(EVENT), world.rows(EVENT), strict=True):
        assert msgspec.structs.replace(mine, **strip) == msgspec.structs.replace(other, **strip)


def test_a_body_that_is_taken_in_pieces_is_from_one_place(placed: World) -> None:
    some = [track(str(number)) | {"properties": {"p": "x" * 3_000}, "sentAt": 1} for number in range(200)]
    body = json.dumps({"batch": some}).encode()
    arrival = Arrival(BROWSER, body, PUBLIC, address=mmdb.LONDON)
    [ack] = placed.accept.take([arrival], b"", 0, NOW)
    assert ack is accept.LATER
    large: Large[None] = Large(placed.accept)
    assert large.add(None, arrival, NOW)
    steps = 0
    while large:
        large.step()
        steps += 1
    assert steps > 2
    assert set(cities(placed).values()) == {"London"}
    assert len(cities(placed)) == len(some)


def test_both_ways_tell_the_same_places(tmp_path: Path) -> None:
    """Bodies of each dialect, that say this and that of addresses, by a browser, a phone and a server: with and without
    the short way."""
    (tmp_path / "places.mmdb").write_bytes(mmdb.written(mmdb.CITY))
    places = Places(str(tmp_path / "places.mmdb"))
    places.renew()
    libraries = ("", "analytics.js", "posthog-ios", "amplitude-node", "x")
    bodies: list[tuple[Any, str, bytes, Any]] = []
    for number, library in enumerate(libraries):
        one = f"{number}"
        said = track("s" + one) | {"timestamp": AT, "context": {"library": {"name": library}} if library else {}}
        bodies.append((segment, "batch", b"", {"batch": [said]}))
        bodies.append((segment, "batch", b"", {"batch": [said | {"messageId": "c" + one, "channel": "mobile"}]}))
        for more in ({}, {"$geoip_disable": True}, {"$geoip_disable": False}, {"$ip": mmdb.GRAZ}):
            event = {"event": "e", "distinct_id": "a", "uuid": f"p{len(bodies)}", "timestamp": AT}
            event["properties"] = {"$lib": library, **more}
            bodies.append((posthog, "capture", b"", {"api_key": "k", "batch": [event]}))
        for more in ({}, {"ip": "$remote"}, {"ip": mmdb.GRAZ}):
            event = {"event_type": "e", "device_id": "device", "insert_id": f"a{len(bodies)}", "time": NOW - 1}
            bodies.append(
                (amplitude, "httpapi", b"", {"api_key": "k", "events": [event | {"library": library} | more]})
            )
        for query, more in ((b"", {}), (b"ip=1", {}), (b"ip=0", {}), (b"ip=0", {"ip": mmdb.GRAZ})):
            event = {"token": "k", "distinct_id": "a", "$insert_id": f"m{len(bodies)}", "time": NOW // 1000 - 1}
            properties = event | {"mp_lib": library} | more
            body = [{"event": "e", "properties": properties}]
            bodies += [(mixpanel, call, query, body) for call in ("track", "import")]
    senders = [(True, "Mozilla/5.0 Firefox/141.0"), (True, ""), (False, "okhttp/4"), (False, "python-requests/2")]
    seen, short = [], 0
    for way in (accept.as_plain, lambda *_: None):
        for is_browser, user_agent in senders:
            directory = tmp_path / f"{way is accept.as_plain}{is_browser}{user_agent[:3]}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(accept, "as_plain", way)
                made = World(directory, places=places)
                long_way = made.accept._read

                def read(arrival: Arrival, batch: Batch, at: int, long_way: Any = long_way) -> Ack:
                    nonlocal short
                    short -= 1
                    ack: Ack = long_way(arrival, batch, at)
                    return ack

                patch.setattr(made.accept, "_read", read)
                short += len(bodies)
                for dialect, call, query, body in bodies:
                    asked = Asked(call, query, from_browser=is_browser, user_agent=user_agent)
                    data = msgspec.json.encode(body)  # without spaces, as libraries write
                    arrival = Arrival(asked, data, PUBLIC, dialect, address=mmdb.LONDON)
                    [ack] = made.accept.take([arrival], b"", 0, NOW)
                    assert ack.failed is None, (ack.failed, body)
                seen.append(made.rows(EVENT))
                made.writer.close()
    assert seen[: len(senders)] == seen[len(senders) :]
    assert {row.city for rows in seen for row in rows} == {"", "London", "Graz"}
    assert short > len(bodies), "many of them go the short way"


def test_a_body_with_one_address_is_taken_as_a_whole(placed: World) -> None:
    some = [from_library(str(number), "analytics-node") for number in range(5)]
    sent_from(placed, "", Asked("batch"), *some, from_library("5", "analytics-node", ip=mmdb.GRAZ))
    assert cities(placed) == {**{str(number): "" for number in range(5)}, "5": "Graz"}


def test_no_address_is_in_the_journal_or_the_refusals(placed: World) -> None:
    context = {"ip": mmdb.GRAZ, "traits": {"ip": mmdb.LONDON}}
    wrong = {
        "type": "trak",
        "messageId": "x",
        "userId": "u",
        "context": context,
        "properties": {"note": f"::ffff:{mmdb.USA}"},
    }
    body = json.dumps({"batch": [track("1") | {"context": context}, wrong]}).encode()
    placed.accept.take([Arrival(BROWSER, body, PUBLIC, address=mmdb.LONDON)], b"", 0, NOW)
    assert cities(placed) == {"1": "Graz"}
    told = msgspec.json.encode(placed.accept.refusals.find(1))
    kept = b"".join(one.read_bytes() for one in (placed.directory / "journal").iterdir())
    assert b"trak" in told
    for address in (mmdb.GRAZ, mmdb.LONDON, mmdb.USA, mmdb.USA.partition(".")[2]):
        assert address.encode() not in kept
        assert address.encode() not in told


# ---- cookieless visitors

ADDRESS = "203.0.113.77"


def cookieless(event_id: str, **fields: Any) -> dict[str, Any]:
    context = {"cookieless": True, "userAgent": "Mozilla/5.0", "page": {"url": "https://shop.example/a"}}
    return {"type": "track", "messageId": event_id, "event": "seen", "context": context, **fields}


def test_cookieless_visitors_are_events_of_nobody_and_their_address_is_nowhere(tmp_path: Path) -> None:
    salts = Salts(tmp_path / "salts")
    salts.renew(NOW, salts.stored(NOW))
    world = World(tmp_path, salts=salts)

    def send(address: str, *messages: dict[str, Any]) -> Ack:
        body = json.dumps({"batch": messages}).encode()
        asked = Asked("batch", user_agent="Mozilla/5.0", from_browser=True)
        [ack] = world.accept.take([Arrival(asked, body, PUBLIC, address=address)], b"", 0, NOW)
        return ack

    with world:
        ack = send(
            ADDRESS,
            cookieless("1"),
            cookieless("2", userId="u", anonymousId="a", properties={"$set": {"plan": "pro"}}),
            cookieless("3", type="identify", userId="u", anonymousId="a", traits={"plan": "pro"}),
            cookieless("4", timestamp=NOW - 86_400_000),
            cookieless("5", timestamp=NOW - 3 * 86_400_000),
        )
        assert (ack.accepted, [refusal.code for refusal in ack.refused]) == (
            3, [errors.COOKIELESS_CALL, errors.COOKIELESS_LATE],
        )  # fmt: skip
        assert ack.refused[1].field == "batch[4].timestamp"
        assert send("203.0.113.78", cookieless("6")).accepted == 1
        # Sent again, all is as before; a beginner's fault is told, and nothing is taken twice.
        again = send(ADDRESS, cookieless("1"))
        assert (again.accepted, world.accept.statistics().duplicates) == (1, 1)
        rows = world.rows()
        assert [row.kind for row in rows] == [EVENT] * 4, "no link, no trait, no person"
        first, second, before, other = rows
        assert first.anonymous_id == second.anonymous_id
        assert len({first.anonymous_id, before.anonymous_id, other.anonymous_id}) == 3
        for row in rows:
            assert row.anonymous_id.startswith("cookieless-")
            assert (row.cookieless, row.user_id, row.session_id) == (1, "", "")
            assert row.actor == world.graph.actor(1, row.anonymous_id)
            assert not world.graph.knows(row.actor)
        statistics = world.graph.statistics()
        assert (statistics.ids, statistics.users, statistics.joins) == (0, 0, 0)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(first.anonymous_id.encode() in data for data in kept)
    for spelling in (ADDRESS.encode(), bytes(map(int, ADDRESS.split(".")))):
        assert not any(spelling in data for data in kept)


def test_without_salts_cookieless_visitors_are_refused(world: World) -> None:
    [ack] = world.send({"batch": [cookieless("1", userId="u"), track("2")]})
    assert (ack.accepted, [(one.code, one.field) for one in ack.refused]) == (
        1, [(errors.COOKIELESS_OFF, "batch[0].context.cookieless")],
    )  # fmt: skip
    world.udp({"writeKey": "k", **cookieless("3", userId="u")})
    assert [row.event_id for row in world.rows(EVENT)] == ["2"]
    assert world.accept.statistics().refused == {errors.COOKIELESS_OFF: 2}
