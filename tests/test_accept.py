"""accept.py over the real graph, set of ids and journal: what was acked is in the journal, once, in order."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import mmdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pugd import accept, errors
from pugd.accept import Accept, Arrival
from pugd.dialects import amplitude, message, mixpanel, posthog, segment
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.message import Decoded
from pugd.edge.gate import Gate, hashed
from pugd.enrich.cookieless import Salts
from pugd.enrich.place import Places
from pugd.identity import rules, snapshot
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph
from pugd.journal.reader import Reader
from pugd.journal.writer import Writer
from pugd.large import Large
from pugd.model import (
    EVENT,
    LINK,
    MERGE,
    OLD_EVENT,
    OLD_LINK,
    OLD_TRAIT,
    TRAIT,
    Ack,
    Batch,
    EventRow,
    LinkRow,
    MergeRow,
    TraitRow,
    WriteKey,
)

KEY = bytes(range(16))
NOW = 1_790_000_000_000
PUBLIC, SECRET = WriteKey(1, secret=False), WriteKey(1, secret=True)
ROWS: dict[int, Any] = {EVENT: EventRow, TRAIT: TraitRow, LINK: LinkRow, MERGE: MergeRow}
ROWS |= {OLD_EVENT: EventRow, OLD_TRAIT: TraitRow, OLD_LINK: LinkRow}


class World:
    """A collector's inside, over a directory."""

    def __init__(
        self,
        directory: Path,
        bytes_max: int = 1 << 30,
        pending_bytes_max: int = 1 << 26,
        places: Places | None = None,
        salts: Salts | None = None,
        keys: Gate | None = None,
    ) -> None:
        self.gate = keys or Gate({"k": PUBLIC, hashed("prv_k"): SECRET, "other": WriteKey(2, secret=False)})
        self.directory = directory
        self.writer = Writer.open(
            directory / "journal",
            name="test",
            epoch=7,
            flushed_path=directory / "flushed",
            file_bytes_max=1 << 20,
            bytes_max=bytes_max,
            reserve_bytes=0,
            pending_bytes_max=pending_bytes_max,
        )
        self.begin = self.writer.position
        self.graph = Graph(KEY)
        numbers = count()
        self.accept = Accept(
            graph=self.graph,
            recent=RecentIds(KEY, 86_400_000, 1 << 26),
            writer=self.writer,
            keys=self.gate,
            illegal=rules.IllegalIds(),
            ids_max=500,
            mint=lambda: f"minted-{next(numbers)}",
            places=places,
            salts=salts,
        )

    def send(self, *bodies: Any, call: str = "batch", key: WriteKey | None = PUBLIC) -> list[Ack]:
        arrivals = [Arrival(Asked(call), json.dumps(body).encode(), key) for body in bodies]
        return self.accept.take(arrivals, b"", 0, NOW)

    def udp(self, *messages: Any) -> None:
        lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        self.accept.take([], lines, len(messages), NOW)

    def rows(self, kind: int | None = None) -> list[Any]:
        end = self.writer.position
        while self.writer.flushed < end:
            pass
        reader = Reader(self.directory / "journal", epoch=7)
        found = [ROWS[int(row[0])](*row) for _, row in reader.rows(self.begin, end, kind)]  # type: ignore[call-overload]
        assert all(kind in (None, row.kind) for row in found)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.writer.close()


def track(event_id: str, event: str = "e", **ids: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": event_id, "event": event, **(ids or {"anonymousId": "a"})}


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


def test_an_identify_links_and_changes_traits(world: World) -> None:
    world.send({"batch": [
        track("1"),
        {"type": "identify", "messageId": "2", "anonymousId": "a", "userId": "u", "traits": {"plan": "pro"}},
        track("3", userId="u", anonymousId="a"),
    ]})  # fmt: skip
    user, link = world.rows(LINK)
    assert (user.call, user.a_id) == ("user", "u")
    assert (link.call, link.a_id, link.b_id, link.refused, link.event_id) == ("identify", "a", "u", "", "2")
    u, a = world.graph.actor(1, "u"), world.graph.actor(1, "a")
    assert {(row.actor, row.person) for row in world.rows(MERGE)} >= {(a, u)}
    [trait] = world.rows(TRAIT)
    assert (trait.actor, trait.distinct_id, trait.key, trait.value) == (u, "u", "plan", b'"pro"')
    assert [row.event_id for row in world.rows(EVENT)] == ["1", "3"]


def test_an_event_changes_traits_and_is_an_event(world: World) -> None:
    said = {"properties": {"$set": {"plan": "pro"}, "$add": {"visits": 1}, "path": "/"}}
    world.send({"batch": [
        track("1"),
        {**track("2", anonymousId="a", userId="u"), **said},
        {**track("3"), **said},
        {"type": "identify", "messageId": "4", "userId": "u", "traits": {"plan": "x"}},
    ]})  # fmt: skip
    [ack] = world.send({"batch": [{**track("3"), **said}, {"type": "identify", "messageId": "4", "userId": "u"}]})
    assert ack.accepted == 2
    assert [row.event_id for row in world.rows(EVENT)] == ["1", "2", "3"]
    u, a = world.graph.actor(1, "u"), world.graph.actor(1, "a")
    assert [(row.actor, row.event_id, row.distinct_id, row.key, row.operation) for row in world.rows(TRAIT)] == [
        (u, "2", "u", "plan", "set"), (u, "2", "u", "visits", "add"),
        (a, "3", "a", "plan", "set"), (a, "3", "a", "visits", "add"),
        (u, "4", "u", "plan", "set"),
    ]  # fmt: skip
    assert [(row.call, row.a_id, row.b_id, row.refused) for row in world.rows(LINK)] == [
        ("user", "u", "", ""), ("event", "a", "u", ""), ("identify", "u", "u", ""),
    ]  # fmt: skip
    statistics = world.accept.statistics()
    assert (statistics.events, statistics.traits, statistics.duplicates) == (3, 5, 2)


def test_room_is_asked_for_all_rows_of_traits(tmp_path: Path) -> None:
    """A few bytes of traits become many of rows, since each repeats the ids: all are taken, or none."""
    id_ = "i" * 512
    body = {"userId": id_, "anonymousId": "a" * 512, "traits": {str(n): 1 for n in range(1000)}}
    world = World(tmp_path, bytes_max=1 << 20)
    try:
        [ack] = world.send({"batch": [{"type": "identify", **body}]})
        assert ack.failed is not None
        assert ack.failed.code == errors.UNAVAILABLE
        assert world.rows() == []
        assert not world.graph.is_user(world.graph.actor(1, id_))
    finally:
        world.writer.close()


def test_a_shared_device_does_not_fuse_two_users(world: World) -> None:
    world.send({"batch": [track("1", userId="u", anonymousId="a"), track("2", userId="v", anonymousId="a")]})
    refused = [row for row in world.rows(LINK) if row.refused]
    assert [(row.a_id, row.b_id, row.refused) for row in refused] == [("a", "v", errors.BOTH_IDENTIFIED)]
    assert world.rows(EVENT)[1].actor == world.graph.actor(1, "v")
    assert world.accept.statistics().links_refused == {errors.BOTH_IDENTIFIED: 1}


def test_only_a_secret_key_may_alias_two_users(world: World) -> None:
    world.send({"batch": [track("1", userId="u"), track("2", userId="v")]})
    alias = {"type": "alias", "previousId": "u", "userId": "v"}
    world.send({"batch": [{**alias, "messageId": "3"}]})
    assert world.graph.find(world.graph.actor(1, "u")) != world.graph.find(world.graph.actor(1, "v"))
    world.send({"batch": [{**alias, "messageId": "4"}]}, key=SECRET)
    assert world.graph.find(world.graph.actor(1, "u")) == world.graph.find(world.graph.actor(1, "v"))


def test_an_alias_makes_a_user_id_only_of_what_stood_in_a_user_id_field(world: World) -> None:
    world.send({"batch": [{"type": "alias", "messageId": "1", "previousId": "a", "anonymousId": "b"}]})
    [link] = world.rows(LINK)
    assert (link.call, link.a_id, link.b_id, link.refused) == ("alias", "a", "b", "")
    assert not world.graph.is_user(world.graph.actor(1, "b"))
    world.send({"batch": [{"type": "alias", "messageId": "2", "previousId": "b", "userId": "u"}]})
    assert world.graph.is_user(world.graph.actor(1, "u"))
    assert not world.graph.is_user(world.graph.actor(1, "b"))


def test_a_duplicate_is_acked_and_dropped(world: World) -> None:
    world.send({"batch": [track("1"), track("1")]})
    [ack] = world.send({"batch": [track("1"), track("2")]})
    assert (ack.accepted, ack.failed) == (2, None)
    [again] = world.send({"batch": [track("2")]})
    assert (again.accepted, again.position) == (1, world.writer.position)
    assert [row.event_id for row in world.rows(EVENT)] == ["1", "2"]
    assert world.accept.statistics().duplicates == 3


def test_an_id_that_was_used_for_another_event_or_by_somebody_else_is_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    at = {"timestamp": datetime.fromtimestamp(NOW / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")}
    wrong = (1, errors.INVALID_FIELD, "batch[1].type")
    for plain in ({}, at):  # the long way, and the short one
        world.send(track("1", "paid") | plain, call="track")
        second = {"type": "trak"} if plain is not at else track("2", "paid")
        body = [track("1", "paid"), second, track("1", "sent"), track("2", "paid"), track("1", "paid")]
        ack, shipped = world.send({"batch": [event | plain for event in body]}, {"batch": [track("2", "sent") | plain]})
        assert [(refusal.index, refusal.code, refusal.field) for refusal in ack.refused] == [
            *([wrong] if plain is not at else []), (2, errors.EVENT_ID_REUSED, "batch[2].messageId"),
        ]  # fmt: skip
        assert (ack.accepted, ack.failed, ack.position) == (5 - len(ack.refused), None, world.writer.position)
        assert (shipped.accepted, shipped.position, shipped.failed) == (0, 0, shipped.refused[0])
        others = [
            track("1", "paid", userId="u"),
            track("1", "paid", anonymousId="b"),
            track("1", "paid") | {"type": "identify"},
        ]
        for other in others:
            [ack] = world.send(other | plain, call=other["type"])
            assert ack.failed is not None
            assert (ack.failed.code, ack.failed.index, ack.failed.field) == (errors.EVENT_ID_REUSED, None, "messageId")
        world.udp({**track("2", "sent"), "writeKey": "k", **plain}, {**track("2", "paid"), "writeKey": "k", **plain})
    assert [row.event_id for row in world.rows()] == ["1", "2"]
    statistics = world.accept.statistics()
    assert statistics.refused == {errors.INVALID_FIELD: 1, errors.EVENT_ID_REUSED: 12}
    assert (statistics.duplicates, statistics.datagrams_refused) == (9, 2)
    [told] = [record.getMessage() for record in caplog.records if "event_id_reused" in record.getMessage()]
    assert "'1'" in told


def test_rows_of_events_older_than_the_set_of_ids_reaches_are_marked(world: World) -> None:
    """Plain ones and others, a call's traits too; no links, since the same one proposed again changes nothing."""
    old, new = "2026-09-18T00:00:00.000Z", "2026-09-21T00:00:00.000Z"
    plain = [track("1"), {**track("2"), "timestamp": old}, {**track("3"), "timestamp": new}]
    identify = {"type": "identify", "userId": "u", "anonymousId": "a", "traits": {"plan": "pro"}}
    other = [
        {**track("4"), "timestamp": old, "category": "c"},
        {**track("5"), "timestamp": new, "category": "c"},
        {**identify, "messageId": "6", "timestamp": old},
        {**track("7"), "timestamp": old, "properties": {"$set": {"plan": "team"}}},
        {**track("8"), "timestamp": "2036-01-01T00:00:00.000Z"},
    ]
    assert [ack.accepted for ack in world.send({"batch": plain}, {"batch": other})] == [3, 5]
    marked = [(row.kind, row.event_id) for row in world.rows() if row.kind in (EVENT, OLD_EVENT, TRAIT, OLD_TRAIT)]
    assert marked == [
        *((EVENT, "1"), (OLD_EVENT, "2"), (EVENT, "3"), (OLD_EVENT, "4"), (EVENT, "5"), (OLD_TRAIT, "6")),
        *((OLD_TRAIT, "7"), (OLD_EVENT, "7"), (OLD_EVENT, "8")),
    ]
    assert [row.event_id for row in world.rows(LINK)] == ["6", "6"]
    # Sent again at once, each is a duplicate by the set alone.
    world.send({"batch": plain}, {"batch": other})
    assert world.accept.statistics().duplicates == 8


def test_what_a_client_says_of_time_is_taken_uncorrected_for_its_reach(world: World) -> None:
    """A clock three days behind: corrected, its events happen now; as it tells them, they are old, however often."""
    sent = {"sentAt": "2026-09-18T12:00:00.000Z", "batch": [{**track("1"), "timestamp": "2026-09-18T11:59:00.000Z"}]}
    world.send(sent)
    [row] = world.rows(OLD_EVENT)
    assert (row.time_note, NOW - row.occurred_at) == ("skew", 60_000)


def test_a_repeated_identify_changes_nobody_and_is_kept_without_a_place(world: World) -> None:
    call = {"type": "identify", "anonymousId": "a", "userId": "u"}
    world.send({"batch": [{**call, "messageId": "1"}]})
    before, graph = world.rows(), snapshot.dump(world.graph, 1, 2)
    [ack] = world.send({"batch": [{**call, "messageId": "2"}, {**call, "messageId": "1"}]})
    assert ack.accepted == 2
    [row] = world.rows()[len(before) :]
    link = next(row for row in before if row.kind == LINK and row.call == "identify")
    assert row == msgspec.structs.replace(link, order=0, event_id="2", received_at=row.received_at)
    assert snapshot.dump(world.graph, 1, 2) == graph


def test_every_identify_is_kept_whatever_it_names(world: World) -> None:
    for number, call in enumerate((
        {"userId": "u"}, {"userId": "u"}, {"anonymousId": "a"}, {"userId": "u", "anonymousId": "a"}, {"userId": "null"},
        {"userId": "v", "anonymousId": "a"}, {"userId": "v", "anonymousId": "a"},
    )):  # fmt: skip
        world.send({"batch": [{"type": "identify", "messageId": f"{number}", **call}]})
    links = world.rows(LINK)
    assert [(row.order, row.call, row.a_id, row.b_id, row.refused, row.event_id) for row in links] == [
        (1, "user", "u", "", "", "0"), (0, "identify", "u", "u", "", "0"), (0, "identify", "u", "u", "", "1"),
        (0, "identify", "a", "", "", "2"), (2, "identify", "a", "u", "", "3"), (3, "user", "v", "", "", "5"),
        (4, "identify", "a", "v", "both_identified", "5"),
    ]  # fmt: skip


def test_an_old_call_that_says_nothing_new_is_looked_up_and_one_with_a_place_is_not(world: World) -> None:
    call = {"type": "identify", "anonymousId": "a", "userId": "u", "timestamp": "2020-01-01T00:00:00Z"}
    world.send({"batch": [{**call, "messageId": "1"}, {**call, "messageId": "2"}]})
    assert [(row.kind, row.order, row.event_id) for row in world.rows() if row.kind in (LINK, OLD_LINK)] == [
        (LINK, 1, "1"), (LINK, 2, "1"), (OLD_LINK, 0, "2"),
    ]  # fmt: skip


def test_rows_too_many_for_a_record_go_into_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pugd.recorder.RECORD_BYTES_MAX", 150)
    identify = {"type": "identify", "messageId": "i", "anonymousId": "a", "userId": "u", "traits": {"n": 1}}
    world.send({"batch": [*[track(str(number)) for number in range(7)], identify, track("x")]})
    assert world.writer.statistics().records > 3
    assert [row.event_id for row in world.rows(EVENT)] == [*map(str, range(7)), "x"]
    assert [len(world.rows(kind)) for kind in (LINK, TRAIT)] == [2, 1]


def test_a_body_of_very_many_small_events_is_taken(tmp_path: Path) -> None:
    world = World(tmp_path, pending_bytes_max=256 << 20)
    try:
        body = b'{"batch":[' + b",".join([b'{"type":"track","event":"e","userId":1}'] * 400_000) + b"]}"
        [ack] = world.accept.take([Arrival(Asked("batch"), body, PUBLIC, piece=0)], b"", 0, NOW)
        assert (ack.accepted, ack.failed) == (400_000, None)
        assert world.writer.statistics().rows == 400_001
    finally:
        world.writer.close()


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
    world = World(tmp_path, bytes_max=1 << 14)
    try:
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
    finally:
        world.writer.close()


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


CALLS = st.one_of(
    st.builds(
        lambda user, anonymous, number, event: track(f"t{number}", event, userId=user, anonymousId=anonymous),
        st.sampled_from([None, "u", "v"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 8),
        st.sampled_from(["e", "e", "f"]),
    ),
    st.builds(
        lambda user, anonymous, number: {
            "type": "identify", "messageId": f"{'it'[number == 0]}{number}", "userId": user, "anonymousId": anonymous,
            "traits": {"n": number},
        },
        st.sampled_from(["u", "v"]),
        st.sampled_from(["a", "b", None]),
        st.integers(0, 8),
    ),
    st.just({"type": "broken"}),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.lists(CALLS, max_size=4), min_size=1, max_size=3), max_size=5))
def test_each_distinct_event_once_and_the_graph_replays(
    tmp_path_factory: pytest.TempPathFactory, wake_ups: list[list[list[dict[str, Any]]]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    try:
        meant: dict[str, tuple[str, str]] = {}
        repeated = reused = 0
        for requests in wake_ups:
            acks = world.send(*[{"batch": request} for request in requests])
            for request, ack in zip(requests, acks, strict=True):
                refused: dict[int, str] = {}
                for index, call in enumerate(request):
                    if call["type"] == "broken":
                        refused[index] = errors.INVALID_FIELD
                        continue
                    means = (call.get("event", call["type"]), call["userId"] or call["anonymousId"])
                    repeated += call["messageId"] in meant
                    if meant.setdefault(call["messageId"], means) != means:
                        refused[index] = errors.EVENT_ID_REUSED
                        repeated, reused = repeated - 1, reused + 1
                assert {refusal.index: refusal.code for refusal in ack.refused} == refused
                assert ack.accepted == len(request) - len(refused)
                assert ack.failed == (ack.refused[0] if refused and not ack.accepted else None)
                assert bool(ack.position) == bool(ack.accepted)
        events = [(row.event_id, row.event) for row in world.rows(EVENT)]
        assert sorted(events) == sorted((id_, name) for id_, (name, _) in meant.items() if name != "identify")
        statistics = world.accept.statistics()
        assert (statistics.duplicates, statistics.refused.get(errors.EVENT_ID_REUSED, 0)) == (repeated, reused)
        replayed = Graph(KEY)
        rules.replay_many(replayed, world.rows(LINK))
        person_of = {row.actor: row.person for row in world.rows(MERGE)}
        for distinct_id in "uvab":
            actor = world.graph.actor(1, distinct_id)
            assert replayed.find(actor) == world.graph.find(actor) == person_of.get(actor, actor)
    finally:
        world.writer.close()


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
                arrivals.append((asked("capture", b"_=%d" % NOW), choose.choice([event, [event, event]]), posthog))
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

            def counted(dialect: Any, asked: Asked, at: int, find: Any = plain) -> Any:
                nonlocal taken
                found = find(dialect, asked, at)
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


def linked(world: World, number: int) -> None:
    """One user on many devices."""
    calls = [{"type": "identify", "messageId": f"l{i}", "userId": "u", "anonymousId": f"a{i}"} for i in range(number)]
    world.send({"batch": calls})


def by_hand(world: World, call: str, a: str, b: str = "", project: int = 1) -> rules.Outcome:
    outcome, position = world.accept.by_hand(rules.Proposal(project, call, a, b, secret=True), NOW + 5)
    assert position == world.writer.position
    return outcome


def test_what_is_unlinked_by_hand_is_in_the_journal(world: World) -> None:
    linked(world, 3)
    u, a0, a1 = (world.graph.actor(1, one) for one in ("u", "a0", "a1"))
    before = world.writer.statistics().records
    by_hand(world, "unlink", "a0", "u")
    by_hand(world, "unlink", "u")
    assert world.writer.statistics().records == before + 2
    first, second = world.rows(LINK)[-2:]
    assert (first.call, first.a, first.b, first.a_id, first.b_id, first.refused) == ("unlink", a0, u, "a0", "u", "")
    assert (second.call, second.a, second.b, second.a_id, second.b_id) == ("unlink", u, 0, "u", "")
    assert (first.secret, first.transport, first.platform, first.event_id) == (1, "console", "", "")
    assert first.occurred_at == first.received_at == first.original_at == NOW + 5
    assert first.rules == rules.RULES_VERSION
    person_of = {row.actor: row.person for row in world.rows(MERGE)}
    assert [person_of[one] for one in (u, a0, a1)] == [u, a0, a1]
    assert [(row.version, row.actor, row.person) for row in world.rows(MERGE) if row.version == first.order] == [
        (first.order, a0, a0)
    ]


def test_what_is_merged_by_hand_is_in_the_journal(world: World) -> None:
    world.send({"batch": [track("1", anonymousId="x")]})
    outcome = by_hand(world, "merge", "x", "y")
    assert (outcome.refused, len(outcome.merges)) == ("", 2)
    assert by_hand(world, "merge", "y", "x") == rules.Outcome([], [])
    [link] = world.rows(LINK)
    assert (link.call, link.a_id, link.b_id, link.refused, link.transport) == ("merge", "x", "y", "", "console")
    assert by_hand(world, "merge", "x", "null").refused == errors.ILLEGAL_ID
    assert by_hand(world, "merge", "x", "null").refused == errors.ILLEGAL_ID
    assert [row.refused for row in world.rows(LINK)] == ["", errors.ILLEGAL_ID]
    assert world.accept.statistics().links_refused == {errors.ILLEGAL_ID: 1}
    assert world.graph.statistics().refused == {errors.ILLEGAL_ID: 2}


def test_another_project_is_another_world_by_hand_too(world: World) -> None:
    linked(world, 1)
    assert by_hand(world, "unlink", "a0", "u", project=2).refused == errors.NOT_LINKED
    by_hand(world, "merge", "a0", "z", project=2)
    u, a0 = world.graph.actor(1, "u"), world.graph.actor(1, "a0")
    assert world.graph.find(a0) == u
    assert world.graph.size(u) == 2


def test_events_of_an_unlinked_pair_are_refused_their_link_and_taken(world: World) -> None:
    linked(world, 1)
    by_hand(world, "unlink", "a0", "u")
    [ack] = world.send({"batch": [track(str(i), userId="u", anonymousId="a0") for i in range(3)]})
    assert (ack.accepted, ack.refused) == (3, [])
    assert [row.event_id for row in world.rows(EVENT)] == ["0", "1", "2"]
    assert [(row.call, row.refused) for row in world.rows(LINK)[-1:]] == [("event", errors.UNLINKED_BY_HAND)]
    assert world.graph.statistics().refused == {errors.UNLINKED_BY_HAND: 3}


def test_without_room_nothing_changes_by_hand(tmp_path: Path) -> None:
    world = World(tmp_path, bytes_max=1 << 16)
    try:
        linked(world, 40)
        event = track("f", anonymousId="a", properties={"p": "x" * 500})
        while (failed := world.send({"batch": [event | {"messageId": str(world.writer.position)}]})[0].failed) is None:
            pass
        assert failed.code == errors.UNAVAILABLE
        before = snapshot.dump(world.graph, 1, 2), world.writer.position
        for call, a, b in (("unlink", "u", ""), ("merge", "u", "other" + 500 * "x"), ("unlink", "a0", "u")):
            with pytest.raises(errors.JournalFullError, match="the journal is full"):
                by_hand(world, call, a, b)
        assert (snapshot.dump(world.graph, 1, 2), world.writer.position) == before
        assert world.graph.statistics().refused == {}
    finally:
        world.writer.close()


def test_the_room_asked_for_holds_what_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ids move and however long they are."""
    asked: list[int] = []
    room = world.writer.room
    monkeypatch.setattr(world.writer, "room", lambda length: asked.append(length) or room(length))
    long = [f"{i:03}" + "\N{GRINNING FACE}" * 127 for i in range(5)]
    linked(world, 498)
    for call, a, b in (
        ("merge", long[0], "u"), ("merge", long[1], long[2]), ("merge", "u", "u"), ("unlink", "u", ""),
        ("unlink", long[1], long[2]), ("merge", long[2], long[1]), ("unlink", long[3], long[4]),
    ):  # fmt: skip
        before = world.writer.position
        by_hand(world, call, a, b)
        assert world.writer.position - before <= asked[-1]


HANDS = st.tuples(
    st.sampled_from(["merge", "unlink"]), st.sampled_from(["u", "v", "a", "b"]), st.sampled_from(["u", "a", "b", ""])
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.lists(CALLS, min_size=1, max_size=4), HANDS), max_size=14))
def test_what_hands_and_calls_did_is_in_the_log(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[dict[str, Any]] | tuple[str, str, str]]
) -> None:
    """The graph is what the journal's log makes of none, and `person_of` says the same."""
    world = World(tmp_path_factory.mktemp("world"))
    try:
        for step in steps:
            if isinstance(step, list):
                world.send({"batch": step})
            elif step[0] == "unlink" or step[2]:
                by_hand(world, *step)
        replayed = Graph(KEY)
        rules.replay_many(replayed, world.rows(LINK))
        assert snapshot.dump(replayed, 1, 2) == snapshot.dump(world.graph, 1, 2)
        orders = [row.order for row in world.rows(LINK) if row.order]
        assert orders == list(range(1, len(orders) + 1))
        person_of = {row.actor: row.person for row in world.rows(MERGE)}
        for distinct_id in "uvab":
            actor = world.graph.actor(1, distinct_id)
            assert world.graph.find(actor) == person_of.get(actor, actor)
    finally:
        world.writer.close()


# ---- places


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "places.mmdb").write_bytes(mmdb.written(mmdb.CITY))
    places = Places(str(tmp_path / "places.mmdb"))
    places.renew()
    made = World(tmp_path / "placed", places=places)
    yield made
    made.writer.close()


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
                taken = made.accept._take_plain

                def take(arrival: Arrival, at: int, taken: Any = taken) -> Ack | None:
                    nonlocal short
                    ack: Ack | None = taken(arrival, at)
                    short += ack is not None
                    return ack

                patch.setattr(made.accept, "_take_plain", take)
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

    try:
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
    finally:
        world.writer.close()
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
