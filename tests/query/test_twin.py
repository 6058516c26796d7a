"""People, one person and timelines against a plain twin, over histories with links, ties, late events and odd text."""

from __future__ import annotations

import itertools
from collections import Counter
from unittest import mock

import msgspec
import pytest
from doings import ANONYMOUS, BEGAN, NAMES, USERS, calls, made, moments, plain, projects, same, times
from engine import opened_store
from histories import History, answering, insert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import timeline as twin

from pugd.answer import Answer
from pugd.model import person_text
from pugd.query import people
from pugd.question import (
    SORTS,
    Explain,
    IdentityError,
    Merge,
    OnePerson,
    People,
    Refusals,
    Timeline,
    UnknownPersonError,
    Unlink,
)

SEARCHES = [
    "ANN",
    "anon-1",
    "shirt",
    '"',
    "\\",
    "<b>",
    "\u202e",
    "😀",
    "nul\0",
    "'",
    "plan",
    "%",
    "_",
    "zażół",
    "5",
    "true",
    "café",
    "x" * 600,
]


async def asked(history: History) -> Answer:
    store = await opened_store()
    await insert(store, history)
    return answering(history, store, BEGAN + 1_000_000)


TRIES = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@TRIES
@given(
    st.lists(calls, min_size=1, max_size=25),
    st.sampled_from([*SORTS, "trait:plan", "-trait:plan", 'trait:["näme"]', "-trait:visits"]),
    st.integers(1, 4),
    moments,
)
async def test_people(said, sort, limit, as_of):
    history = made(said)
    answer = await asked(history)
    for identified in (None, True, False):
        wanted = twin.people(history.world, identified=identified, sort=sort, as_of=as_of)
        found = []
        cursor = None
        while True:
            question = People(
                project=history.project, sort=sort, identified=identified, limit=limit, cursor=cursor, as_of=as_of
            )
            page = plain(await answer.people(question))
            assert page["count"] == len(wanted)
            assert len(page["people"]) <= limit
            found += page["people"]
            cursor = page["next"]
            if cursor is None:
                break
        same(found, wanted)


@TRIES
@given(st.lists(calls, min_size=1, max_size=20), st.sampled_from(SEARCHES), moments, st.sampled_from([0, 2, 10_000]))
async def test_search_for_people(said, search, as_of, read_alone):
    """Whether few are found, who are read alone, or too many for that."""
    history = made(said)
    answer = await asked(history)
    with mock.patch.object(people, "MATCHING_MAX", read_alone):
        page = plain(await answer.people(People(project=history.project, search=search, as_of=as_of)))
    same(page["people"], twin.people(history.world, search=search, as_of=as_of))
    assert page["count"] == len(page["people"])


@TRIES
@given(st.lists(calls, min_size=1, max_size=25), st.sampled_from(["asc", "desc"]), st.integers(1, 5), moments)
async def test_every_id_leads_to_its_person_and_timeline(said, order, limit, as_of):
    history = made(said)
    answer = await asked(history)
    for id_ in USERS + ANONYMOUS:
        actor = history.actor(id_)
        wanted = twin.person(history.world, actor, as_of=as_of)
        if wanted is None:
            with pytest.raises(UnknownPersonError):
                await answer.person(OnePerson(project=history.project, actor=actor))
            continue
        one = plain(await answer.person(OnePerson(project=history.project, actor=actor, as_of=as_of)))
        same(one["person"], wanted)
        assert one["links_refused"] == len(twin.refusals(history.world, twin.members(history.world, actor)))
        if id_ not in USERS[:2]:
            continue
        entries = []
        cursor = None
        while True:
            question = Timeline(
                project=history.project, actor=actor, order=order, limit=limit, cursor=cursor, as_of=as_of
            )
            page = plain(await answer.timeline(question))
            same(page["person"], wanted)
            entries += page["entries"]
            cursor = page["next"]
            if cursor is None:
                break
        assert all(0 < len(entry.pop("summary")) <= 120 for entry in entries)
        same(entries, twin.timeline(history.world, actor, order=order))


@TRIES
@given(
    st.lists(calls, min_size=1, max_size=25),
    st.sampled_from(["", *SEARCHES]),
    st.none() | st.sampled_from(NAMES),
    st.none() | times,
    st.none() | times,
)
async def test_filters_of_a_timeline(said, search, event, since, until):
    history = made([("identify", ("ann", "anon-1"), BEGAN, 0, []), *said])
    answer = await asked(history)
    actor = history.actor("anon-1")
    question = Timeline(
        project=history.project, actor=actor, search=search, event=event, since=since, until=until, limit=1000
    )
    entries = plain(await answer.timeline(question))["entries"]
    for entry in entries:
        del entry["summary"]
    same(entries, twin.timeline(history.world, actor, search=search, event=event, since=since, until=until))


@TRIES
@given(st.lists(calls, min_size=1, max_size=40), st.sampled_from([None, *USERS, *ANONYMOUS]), st.integers(1, 4))
async def test_refusals(said, id_, limit):
    history = made([("alias", "ann", "ann", BEGAN, False), ("identify", ("bob", "anon-1"), BEGAN, 0, []), *said])
    answer = await asked(history)
    actor = None if id_ is None else history.actor(id_)
    own = None if actor is None else twin.members(history.world, actor)
    wanted = twin.refusals(history.world, own)
    if actor is not None and twin.person(history.world, actor) is None:
        with pytest.raises(UnknownPersonError):
            await answer.refusals(Refusals(project=history.project, actor=actor))
        return
    found = []
    cursor = None
    while True:
        page = plain(await answer.refusals(Refusals(project=history.project, actor=actor, limit=limit, cursor=cursor)))
        assert page["counts"] == Counter(link["refused"] for link in wanted)
        assert len(page["refusals"]) <= limit
        found += page["refusals"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [
        {
            "order": link["order"], "call": link["call"], "a": link["a_id"], "b": link["b_id"],
            "occurred_at": twin.when(link["occurred_at"]), "received_at": twin.when(link["received_at"]),
            "transport": link["transport"], "platform": link["platform"] or None, "event_id": link["event_id"],
            "refused": link["refused"],
        }
        for link in wanted
    ]  # fmt: skip


@settings(TRIES, max_examples=8)
@given(st.lists(calls, min_size=5, max_size=25))
async def test_a_chain_leads_from_one_id_to_the_other(said):
    history = made(said)
    answer = await asked(history)
    held = {link["order"]: link for link in twin.held(history.world)}
    for a, b in itertools.product([*USERS[:2], *ANONYMOUS[:2]], repeat=2):
        question = Explain(project=history.project, a=a, b=b)
        own = twin.members(history.world, history.actor(a))
        unknown = [field for field, id_ in (("a", a), ("b", b)) if not twin.person(history.world, history.actor(id_))]
        if unknown or history.actor(b) not in own:
            with pytest.raises(IdentityError) as caught:
                await answer.explain(question)
            wanted = ("unknown_id", unknown[0]) if unknown else ("not_linked", None)
            assert (caught.value.code, caught.value.field) == wanted
            continue
        found = plain(await answer.explain(question))
        assert found["person"] == f"p_{twin.person_number(history.world, history.actor(a)):016x}"
        here = a
        for link in found["links"]:
            entry = held.pop(link["order"])
            assert {link["a"], link["b"]} == {entry["a_id"], entry["b_id"]}
            assert (link["call"], link["event_id"]) == (entry["call"], entry["event_id"])
            assert link["occurred_at"] == twin.when(entry["occurred_at"])
            assert here in (link["a"], link["b"]), "each link shares an id with the next"
            here = link["b"] if here == link["a"] else link["a"]
        assert here == b
        held = {link["order"]: link for link in twin.held(history.world)}


async def test_an_unknown_actor_is_nobody():
    answer = await asked(History(next(projects)))
    with pytest.raises(UnknownPersonError) as caught:
        await answer.timeline(Timeline(project=999, actor=5))
    assert person_text(5) in caught.value.message


by_hand = st.lists(
    st.tuples(
        st.sampled_from(["merge", "unlink", "unlink", "alone"]),
        st.sampled_from(USERS + ANONYMOUS),
        st.sampled_from(USERS + ANONYMOUS),
    ),
    min_size=1,
    max_size=4,
)


@TRIES
@given(st.lists(calls, min_size=5, max_size=25), by_hand)
async def test_what_is_done_by_hand_is_as_foretold_and_the_next_read_shows_it(said, steps):
    history = made(said)
    answer = await asked(history)
    project, world = history.project, history.world
    for call, a, b in steps:
        b = "" if call == "alone" else b
        mine, theirs = history.actor(a), history.actor(b)
        own = twin.members(world, mine)
        unknown = any(twin.person(world, history.actor(id_)) is None for id_ in (a, b or a))
        before = len(world.links)
        if call == "merge":
            refused = "unknown_id" if unknown else "illegal_id" if "null" in (a, b) else "self_link" if a == b else ""
            if refused:
                with pytest.raises(IdentityError) as caught:
                    await answer.merge(Merge(project=project, a=a, b=b))
                assert caught.value.code == refused
                continue
            done = plain(await answer.merge(Merge(project=project, a=a, b=b)))
            assert theirs in twin.members(world, mine)
            same(done["person"], twin.person(world, mine))
            assert (done["order"] is None) == (len(world.links) == before)
            continue
        asking = Unlink(project=project, a=a, b=b, dry_run=True)
        apart = theirs not in own if b else own == {mine}
        refused = "unknown_id" if unknown else "self_link" if a == b else "not_linked" if apart else ""
        if refused:
            for dry_run in (True, False):
                with pytest.raises(IdentityError) as caught:
                    await answer.unlink(msgspec.structs.replace(asking, dry_run=dry_run))
                assert caught.value.code == refused
            assert len(world.links) == before
            continue
        foretold = plain(await answer.unlink(asking))
        assert foretold["order"] is None
        assert len(world.links) == before, "a dry run leaves no trace"
        held = {link["order"] for link in twin.held(world)}
        done = plain(await answer.unlink(msgspec.structs.replace(asking, dry_run=False)))
        entry = world.links[-1]
        assert (done["order"], entry["call"], entry["a"]) == (entry["order"], "unlink", mine)
        for answered in (foretold, done):
            del answered["asked_at"], answered["order"], answered["dry_run"]
        same(done, foretold)
        gone = held - {link["order"] for link in twin.held(world)}
        assert gone == {link["order"] for link in done["removed"] + done["left_out"]}
        persons = [int(one["id"][2:], 16) for one in done["persons"]]
        assert len(persons) > 1
        assert sum(len(twin.members(world, one)) for one in persons) == len(own)
        for one, actor in zip(done["persons"], persons, strict=True):
            same(one, twin.person(world, actor))
            entries = plain(await answer.timeline(Timeline(project=project, actor=actor, limit=1000)))["entries"]
            assert f"link:{entry['order']}" in [found["id"] for found in entries]
            for found in entries:
                del found["summary"]
            same(entries, twin.timeline(world, actor))
