"""recorder.py behind accept.py, over the real graph, set of ids and journal: each event once, and what calls and hands
said of ids and traits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inside import KEY, NOW, SECRET, World, track

from pugd import errors
from pugd.identity import rules, snapshot
from pugd.identity.graph import Graph
from pugd.model import EVENT, LINK, MERGE, OLD_EVENT, OLD_LINK, OLD_TRAIT, TRAIT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


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
    with World(tmp_path_factory.mktemp("world")) as world:
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
    with World(tmp_path, bytes_max=1 << 16) as world:
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
    with World(tmp_path_factory.mktemp("world")) as world:
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
