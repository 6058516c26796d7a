"""People, one person and timelines against a plain twin, over histories with links, ties, late events and odd text."""

from __future__ import annotations

import itertools
import json
import math

import msgspec
import pytest
from engine import opened_store
from histories import History, insert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import timeline as twin

from pugd.answer import Answer, Stored
from pugd.model import person_text
from pugd.question import SORTS, OnePerson, People, Timeline, UnknownPersonError

BEGAN = 1_700_000_000_000
_projects = itertools.count(1_000)

USERS = ["ann", "bob", "Ann@Example.com", "null"]
ANONYMOUS = ["anon-1", "anon-2", "anon-3", "gerät ✨", "anon-4"]
TEXTS = [
    "shirt",
    'a "quoted" \\ thing',
    "<b>&amp;</b>",
    "\u202egnp.exe",
    "😀 zażółć",
    "nul\0inside",
    "it's; DROP TABLE",
    "",
    "{}",
    "Plan",
]
NAMES = ["page_view", "scroll", "add_to_cart", 'odd "name"', "search"]
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

values = st.one_of(
    st.sampled_from(TEXTS),
    st.integers(-5, 5),
    st.sampled_from([0.5, -2.25, 416.21]),
    st.booleans(),
    st.none(),
    st.just({"deep": ["caf\u00e9", None, 1]}),
)
json_values = st.builds(lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_), values, st.booleans())
objects = st.builds(
    lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_),
    st.dictionaries(st.sampled_from(["query", "plan", "naïve.key", "a b", "percent"]), values, max_size=3),
    st.booleans(),
)
times = st.integers(0, 12).map(lambda step: BEGAN + step * 7_001)
late = st.integers(0, 5)
ids = st.tuples(st.sampled_from(["", *USERS]), st.sampled_from(["", *ANONYMOUS])).filter(any)
trait_lists = st.lists(
    st.tuples(
        st.sampled_from(["plan", "visits", "näme"]), st.sampled_from(["set", "set_once", "add", "unset"]), json_values
    ),
    max_size=4,
)
calls = st.one_of(
    st.tuples(
        st.just("track"),
        ids,
        times,
        late,
        st.sampled_from(NAMES),
        objects,
        st.sampled_from([(0, 0)] * 8 + [(1, 0), (0, 1)]),
    ),
    st.tuples(st.just("identify"), ids, times, late, trait_lists),
    st.tuples(
        st.just("alias"), st.sampled_from(USERS + ANONYMOUS), st.sampled_from(USERS + ANONYMOUS), times, st.booleans()
    ),
)


def made(said: list[tuple]) -> History:
    history = History(next(_projects))
    for call, *rest in said:
        if call == "track":
            (user, anonymous), at, later, name, properties, (bot, cookieless) = rest
            history.track(
                name, user=user, anonymous=anonymous, at=at, received=at + later, properties=properties, bot=bot,
                cookieless=cookieless,
            )  # fmt: skip
        elif call == "identify":
            (user, anonymous), at, later, traits = rest
            history.identify(user, anonymous, at=at, received=at + later, traits=traits)
        else:
            previous, new, at, secret = rest
            history.alias(previous, new, at=at, secret=secret)
    return history


async def asked(history: History) -> Answer:
    store = await opened_store()
    await insert(store, history)

    async def wait_stored() -> Stored:
        return Stored(0, complete=True)

    return Answer(store, wait_stored=wait_stored, actor=history.graph.actor)


def plain(answer: object) -> dict:
    return json.loads(msgspec.json.encode(answer))


def close(found: object, wanted: object) -> bool:
    """Equal, but for how a number is written."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(close(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(found, float | int) and isinstance(wanted, float | int) and not isinstance(found, bool):
        return math.isclose(found, wanted)
    return found == wanted and type(found) is type(wanted)


def same(found: object, wanted: object) -> None:
    assert close(found, wanted), f"\nfound  {found}\nwanted {wanted}"


TRIES = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@TRIES
@given(st.lists(calls, min_size=1, max_size=25), st.sampled_from(SORTS), st.integers(1, 4))
async def test_people(said, sort, limit):
    history = made(said)
    answer = await asked(history)
    for identified in (None, True, False):
        wanted = twin.people(history.world, identified=identified, sort=sort)
        found = []
        cursor = None
        while True:
            question = People(project=history.project, sort=sort, identified=identified, limit=limit, cursor=cursor)
            page = plain(await answer.people(question))
            assert page["count"] == len(wanted)
            assert len(page["people"]) <= limit
            found += page["people"]
            cursor = page["next"]
            if cursor is None:
                break
        same(found, wanted)


@TRIES
@given(st.lists(calls, min_size=1, max_size=20), st.sampled_from(SEARCHES))
async def test_search_for_people(said, search):
    history = made(said)
    answer = await asked(history)
    page = plain(await answer.people(People(project=history.project, search=search)))
    same(page["people"], twin.people(history.world, search=search))
    assert page["count"] == len(page["people"])


@TRIES
@given(st.lists(calls, min_size=1, max_size=25), st.sampled_from(["asc", "desc"]), st.integers(1, 5))
async def test_every_id_leads_to_its_person_and_timeline(said, order, limit):
    history = made(said)
    answer = await asked(history)
    for id_ in USERS + ANONYMOUS:
        actor = history.actor(id_)
        wanted = twin.person(history.world, actor)
        if wanted is None:
            with pytest.raises(UnknownPersonError):
                await answer.person(OnePerson(project=history.project, actor=actor))
            continue
        same(plain(await answer.person(OnePerson(project=history.project, actor=actor)))["person"], wanted)
        if id_ not in USERS[:2]:
            continue
        entries = []
        cursor = None
        while True:
            question = Timeline(project=history.project, actor=actor, order=order, limit=limit, cursor=cursor)
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


async def test_an_unknown_actor_is_nobody():
    answer = await asked(History(next(_projects)))
    with pytest.raises(UnknownPersonError) as caught:
        await answer.timeline(Timeline(project=999, actor=5))
    assert person_text(5) in caught.value.message
