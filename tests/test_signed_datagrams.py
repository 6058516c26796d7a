"""Of a key that signs, only signed datagrams say who somebody is, whatever comes beside them in a wake-up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dialects.test_signature import SECRET, signed, together
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import NOW, World, track

from pugd import errors
from pugd.dialects.signature import AWAY_MS_MAX
from pugd.edge.gate import Gate
from pugd.model import EVENT, LINK, MERGE, TRAIT, WriteKey

PLAIN, SIGNS, OTHER = (
    WriteKey(1, secret=False, id=1),
    WriteKey(1, secret=False, id=2, signing=SECRET),
    WriteKey(2, secret=False, id=3, signing="sig_other"),
)
LIMIT_MS = AWAY_MS_MAX + 1


def opened(directory: Path) -> World:
    return World(directory, keys=Gate({"plain": PLAIN, "k": SIGNS, "other": OTHER}))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as made:
        yield made


def lines(*messages: dict[str, Any], key: str = "k") -> bytes:
    return b"\n".join(json.dumps({"writeKey": key, **message}).encode() for message in messages)


def send(world: World, *datagrams: bytes, at: int = NOW) -> None:
    """One wake-up's."""
    data, offsets = together(*datagrams)
    world.accept.take([], data, len(datagrams), at, offsets)


def identify(number: str, user: str = "u", anonymous: str = "a", **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "messageId": number, "userId": user, "anonymousId": anonymous, "traits": traits}


PEOPLE: list[dict[str, Any]] = [
    identify("1", plan="pro"),
    track("2", userId="u", anonymousId="b"),
    {"type": "alias", "messageId": "3", "userId": "u", "previousId": "c"},
    {**track("4", userId="u"), "properties": {"$set": {"city": "Bonn"}, "n": 1}},
    track("5", userId="only"),
    {"type": "page", "messageId": "6", "anonymousId": "a", "name": "home"},
]
"""Everything that says something of people, and something that does not."""


def about_people(world: World) -> tuple[list[Any], list[Any]]:
    """(links of two ids, traits)."""
    links = [(row.a_id, row.b_id, row.call, row.refused) for row in world.rows(LINK) if row.b_id]
    return links, [(row.distinct_id, row.key, row.operation) for row in world.rows(TRAIT)]


def together_with(world: World, *ids: str) -> bool:
    found = {world.graph.find(world.graph.actor(1, one)) for one in ids}
    return len(found) == 1


def test_signed_they_say_everything(world: World) -> None:
    send(world, signed(lines(*PEOPLE)))
    links, traits = about_people(world)
    assert [call for _, _, call, refused in links if not refused] == ["identify", "event", "alias"]
    assert traits == [("u", "plan", "set"), ("u", "city", "set")]
    assert together_with(world, "u", "a", "b", "c")
    assert {row.transport for row in world.rows(EVENT)} == {"udp"}
    assert world.accept.statistics().refused == {}
    assert world.accept.statistics().datagrams_refused == 0


def test_unsigned_they_are_events_alone(world: World) -> None:
    send(world, lines(*PEOPLE))
    assert world.rows(LINK) == world.rows(MERGE) == world.rows(TRAIT) == []
    events = world.rows(EVENT)
    assert [(row.event_id, row.user_id, row.anonymous_id) for row in events] == [
        ("2", "u", "b"), ("4", "u", ""), ("5", "only", ""), ("6", "", "a"),
    ]  # fmt: skip
    assert [row.actor for row in events] == [world.graph.actor(1, one) for one in ("u", "u", "only", "a")]
    assert json.loads(events[1].properties) == {"$set": {"city": "Bonn"}, "n": 1}, "what was sent stays as it was"
    statistics = world.accept.statistics()
    assert statistics.refused == {errors.UNSIGNED: 3}
    assert statistics.datagrams_refused == 2, "one of the three is an event that was taken"
    found = world.accept.refusals.find(1).refusals
    assert {(one.code, one.field, one.transport, one.key, one.count) for one in found} == {
        (errors.UNSIGNED, "batch[].type", "udp", 2, 2), (errors.UNSIGNED, "batch[].properties", "udp", 2, 1),
    }  # fmt: skip


def test_an_unsigned_user_id_does_not_make_an_anonymous_one_a_users(world: World) -> None:
    """Else anybody could keep a visitor from ever being linked, by naming their id as a user's."""
    send(world, lines(track("1", userId="a"), track("2", userId="u", anonymousId="a")))
    send(world, signed(lines(identify("3"))))
    assert together_with(world, "u", "a")
    assert about_people(world)[0] == [("a", "u", "identify", "")]


def test_a_key_without_a_secret_asks_for_none(world: World) -> None:
    send(world, lines(*PEOPLE, key="plain"))
    links, traits = about_people(world)
    assert [call for _, _, call, refused in links if not refused] == ["identify", "event", "alias"]
    assert len(traits) == 2
    # Who signs for it all the same has an event without an id in front.
    send(world, signed(lines(identify("7", "v", "d"), key="plain"), key="plain"))
    assert together_with(world, "v", "d")
    assert world.accept.statistics().refused == {errors.MISSING_FIELD: 1}


def test_where_no_key_signs_it_is_the_same(world: World) -> None:
    world.gate.replace({"plain": PLAIN})
    send(world, signed(lines(identify("7", "v", "d"), key="plain"), key="plain"))
    assert together_with(world, "v", "d")
    assert world.accept.statistics().refused == {errors.MISSING_FIELD: 1}


@pytest.mark.parametrize("away", [LIMIT_MS, -LIMIT_MS])
def test_a_recorded_datagram_links_nobody_later(world: World, away: int) -> None:
    send(world, signed(lines(identify("1"), track("2"))), at=NOW + away)
    assert world.rows() == []
    [entry] = world.accept.refusals.find(1).refusals
    assert (entry.code, entry.field, entry.key) == (errors.INVALID_SIGNATURE, "at", 2)
    assert world.accept.statistics().datagrams_refused == 1


def test_sent_again_at_once_it_counts_once(world: World) -> None:
    """Also what has no messageId: its own would be another each time."""
    bare = {"type": "track", "event": "e", "anonymousId": "a"}
    one = signed(lines(identify("1", plan="pro"), bare, {**bare, "event": "f"}, {**bare, "messageId": ""}))
    send(world, one, one)
    before = world.rows()
    assert len(world.rows(EVENT)) == 3
    assert about_people(world) == ([("a", "u", "identify", "")], [("u", "plan", "set")])
    send(world, one, at=NOW + AWAY_MS_MAX)
    assert world.rows() == before
    statistics = world.accept.statistics()
    assert (statistics.events, statistics.duplicates, statistics.refused) == (3, 8, {})
    # The same at another time is another one.
    send(world, signed(lines(bare), at=NOW + 1))
    assert len(world.rows(EVENT)) == 4


def test_a_key_that_gets_another_secret_is_signed_with_that_alone(world: World) -> None:
    early = signed(lines(identify("1")))
    world.gate.replace({"k": WriteKey(1, secret=False, id=2, signing="sig_new")})
    send(world, early)
    assert world.rows() == []
    assert world.accept.statistics().refused == {errors.INVALID_SIGNATURE: 1}
    send(world, signed(lines(identify("1")), secret="sig_new"))
    assert together_with(world, "u", "a")
    world.gate.replace({"k": WriteKey(1, secret=False, id=2)})
    send(world, lines(identify("2", "u", "b")))
    assert together_with(world, "u", "a", "b")
    world.gate.replace({})
    send(world, signed(lines(identify("3", "u", "c")), secret="sig_new"))
    assert not together_with(world, "u", "c")
    assert world.accept.statistics().refused[errors.INVALID_KEY] == 2, "both lines, since no key is known to sign"


def test_neighbours_of_one_wake_up_keep_to_themselves(world: World) -> None:
    wrong = signed(lines(identify("w", "w", "w1"), track("w2")), secret="sig_wrong")
    send(
        world,
        lines(track("1"), identify("x", "x", "x1")),
        signed(lines(identify("2", "u", "a"))),
        lines(identify("y", "y", "y1")),  # right behind a signed one
        wrong,
        signed(lines(identify("3", "v", "b")))[:-1],
        b'{"half',
        signed(lines(track("4", anonymousId="d"))),
        signed(lines(identify("5", "o", "p"), key="other"), key="other", secret="sig_other"),
        signed(lines(identify("6", "q", "r"), key="other")),  # another's lines behind one's own signature
        signed(lines(identify("7", "s", "t"), key="plain")),  # that needs none
        lines(identify("8", "s", "t2"), key="plain"),
    )
    links = [(row.project, row.a_id, row.b_id) for row in world.rows(LINK) if row.b_id]
    assert links == [(1, "a", "u"), (2, "p", "o"), (1, "t", "s"), (1, "t2", "s")]
    assert [row.event_id for row in world.rows(EVENT)] == ["1", "4"]
    statistics = world.accept.statistics()
    assert statistics.refused == {errors.UNSIGNED: 3, errors.INVALID_SIGNATURE: 2, errors.INVALID_JSON: 1}
    assert statistics.datagrams_refused == 6


def test_a_fault_in_one_datagram_takes_none_of_its_neighbours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    datagrams = world.accept._datagrams
    read = datagrams._read_lines

    def faulty(found: Any, batch: Any, received_at: int, signed_by: str | None = None) -> None:
        read(found, batch, received_at, signed_by)
        if any(one == "poison" for one in batch.event_keys[-3:]):
            raise RuntimeError("poison")

    monkeypatch.setattr(datagrams, "_read_lines", faulty)
    send(
        world, lines(track("1")), signed(lines(track("2"), track("3", "poison"))), lines(track("4")),
        signed(lines(track("5"))),
    )  # fmt: skip
    assert [row.event_id for row in world.rows(EVENT)] == ["1", "4", "5"]
    assert world.accept.statistics().refused == {errors.INTERNAL: 1}


# -- whatever anybody sends --------------------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.sampled_from([
        b"", b"\n", b"{", b"}", b"[", b"]", b'"', b"\\", b"\0", b"\xff\xfe", b'{"signature":"', b'"signature"',
        lines(identify("h1", "victim", "evil")), lines(track("h2", userId="victim", anonymousId="evil")),
        lines({**track("h3", userId="victim"), "properties": {"$set": {"plan": "evil"}, "$unset": ["plan"]}}),
        lines({"type": "alias", "userId": "victim", "previousId": "evil"}),
        signed(lines(identify("h4", "victim", "evil")), secret="sig_guess"),
        signed(lines(identify("h5", "victim", "evil")), at=NOW - LIMIT_MS),
        signed(lines(identify("h6", "victim", "evil")), key="plain"),
        signed(lines(identify("h7", "victim", "evil")), key="other", secret="sig_other"),
        signed(b'{"writeKey":"k","type":"track","event":"e","anonymousId":"a","properties":{"a":[').rstrip(b"\n"),
        b']}}\n' + lines(identify("h8", "victim", "evil")),
        signed(lines(track("h9"))).partition(b"\n")[0],
    ]),
    st.binary(max_size=40),
)  # fmt: skip
JOINED = st.lists(HOSTILE, min_size=1, max_size=3).map(b"\n".join)


@settings(deadline=None, max_examples=25)
@given(st.lists(JOINED, max_size=6), st.lists(JOINED, max_size=6), st.data())
def test_nobody_without_the_secret_says_who_somebody_is(
    tmp_path_factory: pytest.TempPathFactory, before: list[bytes], behind: list[bytes], data: st.DataObject
) -> None:
    """And what is signed comes through, whatever comes before, beside and behind it."""
    flipped = bytearray(signed(lines(identify("h10", "victim", "evil", plan="evil"))))
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    good = signed(lines(identify("good", "victim", "phone", plan="pro"), track("seen", userId="victim")))
    world = opened(tmp_path_factory.mktemp("world"))
    try:
        one = [part for part in (*before, bytes(flipped), good, *behind) if part]
        send(world, *one)
        links, traits = about_people(world)
        assert links == [("phone", "victim", "identify", "")]
        assert traits == [("victim", "plan", "set")]
        assert [row.value for row in world.rows(TRAIT)] == [b'"pro"']
        assert "seen" in [row.event_id for row in world.rows(EVENT)]
        assert errors.INTERNAL not in world.accept.statistics().refused
    finally:
        world.writer.close()
