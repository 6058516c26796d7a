"""accept.py over the real graph, set of ids and journal: what was acked is in the journal, in order, and what was
refused is not."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import NOW, PUBLIC, World, track

from pugd import accept, errors
from pugd.accept import Arrival
from pugd.dialects import amplitude, message, mixpanel, posthog
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import Decoded
from pugd.edge.gate import hashed
from pugd.model import EVENT, LINK, MERGE, TRAIT, Batch


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def test_an_event_is_in_the_journal_under_its_actor(world: World) -> None:
    [ack] = world.send({"batch": [track("1"), track("2", userId="u")]})
    assert (ack.accepted, ack.refused, ack.failed, ack.position) == (2, [], None, world.writer.position)
    first, second = world.rows(EVENT)
    assert first.actor == world.graph.actor(1, "a")
    assert second.actor == world.graph.actor(1, "u")
    assert [row.call for row in world.rows(LINK)] == ["user"]


def test_a_wake_up_is_one_record(world: World) -> None:
    before = world.writer.statistics().records
    world.send({"batch": [track("1"), track("2")]}, {"batch": [track("3")]})
    assert world.writer.statistics().records == before + 1


def test_room_is_asked_for_all_rows_of_traits(tmp_path: Path) -> None:
    """A few bytes of traits become many of rows, since each repeats the ids: all are taken, or none."""
    id_ = "i" * 512
    body = {"userId": id_, "anonymousId": "a" * 512, "traits": {str(n): 1 for n in range(1000)}}
    with World(tmp_path, bytes_max=1 << 20) as world:
        [ack] = world.send({"batch": [{"type": "identify", **body}]})
        assert ack.failed is not None
        assert ack.failed.code == errors.UNAVAILABLE
        assert world.rows() == []
        assert not world.graph.is_user(world.graph.actor(1, id_))


def test_a_body_of_very_many_small_events_is_taken(tmp_path: Path) -> None:
    with World(tmp_path, pending_bytes_max=256 << 20) as world:
        body = b'{"batch":[' + b",".join([b'{"type":"track","event":"e","userId":1}'] * 400_000) + b"]}"
        [ack] = world.accept.take([Arrival(Asked("batch"), body, PUBLIC, piece=0)], b"", 0, NOW)
        assert (ack.accepted, ack.failed) == (400_000, None)
        assert world.writer.statistics().rows == 400_001


def test_projects_do_not_meet(world: World) -> None:
    world.send({"batch": [track("1")], "writeKey": "k"}, {"batch": [track("1")], "writeKey": "other"}, key=None)
    first, second = world.rows(EVENT)
    assert (first.project, second.project) == (1, 2)
    assert first.actor != second.actor


@pytest.mark.parametrize("key", [None, "wrong", "prv_wrong", hashed("prv_k"), ""])
def test_an_unknown_key_takes_nothing(world: World, key: str | None) -> None:
    [ack] = world.send({"batch": [track("1")], "writeKey": key}, key=None)
    assert ack.failed is not None
    assert ack.failed.code == errors.INVALID_KEY
    assert world.rows() == []


def test_a_secret_key_in_the_body(world: World) -> None:
    [ack] = world.send({"batch": [track("1")], "writeKey": "prv_k"}, key=None)
    assert ack.accepted == 1


def test_good_and_bad_in_one_wake_up(world: World) -> None:
    acks = world.send({"batch": [track("1"), {"type": "track"}]}, {"batch": [{}]}, {"batch": []}, {"nothing": 1})
    assert [(ack.accepted, len(ack.refused)) for ack in acks] == [(1, 1), (0, 1), (0, 0), (0, 0)]
    assert [ack.failed is None for ack in acks] == [True, False, True, False]
    assert len(world.rows(EVENT)) == 1


def test_datagrams_travel_with_requests(world: World) -> None:
    world.udp({**track("1"), "writeKey": "k"}, {**track("2"), "writeKey": "wrong"}, {"writeKey": "k"})
    assert [(row.event_id, row.transport) for row in world.rows(EVENT)] == [("1", "udp")]
    statistics = world.accept.statistics()
    assert (statistics.datagrams, statistics.datagrams_refused) == (3, 2)


def test_without_room_nothing_is_taken_and_nothing_remembered(tmp_path: Path) -> None:
    with World(tmp_path, bytes_max=1 << 14) as world:
        [ack] = world.send({"batch": [{"type": "identify", "messageId": "1", "anonymousId": "a", "userId": "u"}]})
        assert ack.failed is None
        filler = {"batch": [track(str(number), anonymousId="b") for number in range(2, 90)]}
        [ack] = world.send(filler)
        assert ack.failed is not None
        assert ack.failed.code == errors.UNAVAILABLE
        [ack] = world.send({"batch": [track("x", userId="never", anonymousId="a")] * 90})
        assert ack.failed is not None
        assert not world.graph.is_user(world.graph.actor(1, "never"))
        [ack] = world.send({"batch": [track("2")]})
        assert ack.failed is None
        assert world.accept.statistics().duplicates == 0


def test_a_fault_of_ours_refuses_its_request_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = message.read

    def faulty(decoded: Decoded, batch: Batch, **more: Any) -> Any:
        poisoned = any(message.event == "poison" for message in decoded.messages)
        refused = whole(decoded, batch, **more)
        if poisoned:
            batch.ids.append("half")
            raise RuntimeError("poison")
        return refused

    for way in ("accept", "datagrams"):
        monkeypatch.setattr(f"pugd.{way}.read", faulty)
    page = {"type": "page", "messageId": "p", "anonymousId": "a"}
    poison = [page, track("x"), {"type": "alias", "userId": "u", "previousId": "a"}, track("y", "poison")]
    acks = world.send({"batch": [page | {"messageId": "1"}]}, {"batch": poison}, {"batch": [page | {"messageId": "2"}]})
    assert [ack.failed and ack.failed.code for ack in acks] == [None, errors.INTERNAL, None]
    assert [row.event_id for row in world.rows()] == ["1", "2"]
    world.udp({**track("3", "poison"), "writeKey": "k"}, {**track("4"), "writeKey": "k"})
    assert [row.event_id for row in world.rows()] == ["1", "2"]
    assert world.accept.statistics().refused == {errors.INTERNAL: 2}


MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "track", "track", "identify", "page", "alias"]),
        "event": st.sampled_from(["e", "e", 'a "b"', None]),
    },
    optional={
        "messageId": st.sampled_from([f"m{number}" for number in range(30)]),
        "userId": st.sampled_from(["u1", "u2", "u3", "null"]),
        "anonymousId": st.sampled_from(["a1", "a2", "a3"]),
        "previousId": st.sampled_from(["a1", "u2"]),
        "properties": st.sampled_from([{}, {"a": 1}, {"ip": "203.0.113.9"}, {"$set": {"a": 1}}, {"$add": {"a": "x"}}]),
        "context": st.sampled_from([{}, {"locale": "en"}, {"locale": "de"}, "x"]),
    },
)


AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15"


def _arrival(events: list[dict[str, Any]], agent: str) -> Arrival:
    """A batch from a browser, where that has a name; the key is in the head of every other."""
    body = {"batch": events, "writeKey": "k"}
    asked = Asked("batch", user_agent=agent, from_browser=bool(agent))
    return Arrival(asked, json.dumps(body).encode(), PUBLIC if len(events) % 2 else None)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(
            st.tuples(st.lists(MESSAGES, min_size=1, max_size=3), st.sampled_from(["", "", AGENT, f"{AGENT} bot/1"])),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_short_way_keeps_what_the_long_way_keeps(
    wake_ups: list[list[tuple[list[dict[str, Any]], str]]],
) -> None:
    """Wake-ups of bodies, some of them plain, of servers, browsers and bots: with and without the short way, acks and
    rows are the same."""
    seen = []
    for plain in (accept.as_plain, lambda *_: None):
        with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
            patch.setattr(accept, "as_plain", plain)
            made = World(Path(directory))
            acks = [made.accept.take([_arrival(*one) for one in bodies], b"", 0, NOW) for bodies in wake_ups]
            acks += [made.send(wake_ups[0][0][0][0] | {"messageId": "single"}, call="track")]
            said = [[(ack.accepted, ack.refused, ack.failed, ack.position > 0) for ack in some] for some in acks]
            rows = [made.rows(kind) for kind in (EVENT, TRAIT, LINK, MERGE)]
            seen.append((said, rows, made.accept.statistics()))
            made.writer.close()
    assert seen[0] == seen[1]


def _others(number: int) -> list[Arrival]:
    """A wake-up of other dialects: keys that open, that do not, that the head has; ids that were used before."""
    choose = random.Random(number)

    def asked(call: str, query: bytes = b"") -> Asked:
        agent = choose.choice(["", AGENT, f"{AGENT} bot/1"])
        return Asked(call, query, user_agent=agent, from_browser=bool(agent))

    arrivals = []
    for _ in range(choose.randrange(1, 5)):
        key, one = choose.choice(["k", "k", "other", "wrong"]), choose.choice(["1", "2", f"{number}"])
        who, name = choose.choice(["a", "b"]), choose.choice(["e", "e", "f", "$identify"])
        body: object
        match choose.randrange(3):
            case 0:
                said = {"distinct_id": who, "$is_identified": who == "b", "$lib": "web", "token": key}
                event = {"event": name, "uuid": one, "properties": said}
                if choose.random() < 0.4:
                    said |= {"$anon_distinct_id": choose.choice(["a", "anon"]), "$set": {"plan": number}}
                if choose.random() < 0.3:
                    event["$set_once"] = {"first": number}
                    event["timestamp"] = NOW - choose.choice([0, 40 * 86_400_000])
                arrivals.append(
                    (
                        asked("capture", b"_=%d" % choose.choice([NOW, NOW - 10**6])),
                        choose.choice([event, [event, event]]),
                        posthog,
                    )
                )
            case 1:
                said = {"$user_id": who, "$device_id": "d", "$insert_id": one, "time": NOW, "token": key}
                body = [{"event": name, "properties": said}]
                arrivals.append((asked("track", choose.choice([b"", b"verbose=1"])), body, mixpanel))
            case _:
                event = {"event_type": name, "insert_id": one, "user_id": who, "device_id": "d", "time": NOW}
                arrivals.append((asked("events"), {"api_key": key, "events": [event] * 2}, amplitude))
    head = [PUBLIC if choose.random() < 0.2 else None for _ in arrivals]
    return [
        Arrival(one, json.dumps(body, separators=(",", ":")).encode(), key, dialect)
        for (one, body, dialect), key in zip(arrivals, head, strict=True)
    ]


def test_other_dialects_are_answered_and_kept_alike_on_either_way(tmp_path: Path) -> None:
    seen = []
    for name, plain in (("short", accept.as_plain), ("long", lambda *_: None)):
        taken = 0
        with pytest.MonkeyPatch.context() as patch:

            def counted(dialect: Any, asked: Asked, find: Any = plain) -> Any:
                nonlocal taken
                found = find(dialect, asked)
                taken += found is not None
                return found

            patch.setattr(accept, "as_plain", counted)
            made = World(tmp_path / name)
            answers: list[Reply] = []
            for number in range(150):
                arrivals = _others(number)
                for arrival, ack in zip(arrivals, made.accept.take(arrivals, b"", 0, NOW), strict=True):
                    dialect = arrival.dialect
                    failed = ack.failed is not None
                    answers.append(
                        dialect.failure(400, ack, arrival.asked) if failed else dialect.success(ack, arrival.asked)
                    )
            seen.append((answers, [made.rows(kind) for kind in (EVENT, TRAIT, LINK, MERGE)], made.accept.statistics()))
            made.writer.close()
        assert (taken > 0) is (name == "short")
    assert seen[0] == seen[1]
    assert {answer.status for answer in seen[0][0]} == {200, 400}
    assert len(seen[0][1][0]) > 50
    assert seen[0][2].links > 5
    assert seen[0][2].traits > 15
