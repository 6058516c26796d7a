"""The rules that random histories seldom meet, one small history each, with what a reader of docs/rules.md expects."""

from __future__ import annotations

import itertools
import json

import msgspec
from engine import opened_store
from histories import History, answering, insert

from pugd.answer import Answer
from pugd.question import OnePerson, People, Timeline

BEGAN = 1_700_000_000_000
_projects = itertools.count(300_000)


async def asked(history: History) -> Answer:
    store = await opened_store()
    await insert(store, history)
    return answering(history, store, BEGAN + 1_000_000)


async def person(history: History, distinct_id: str) -> dict:
    answer = await asked(history)
    found = await answer.person(OnePerson(project=history.project, actor=history.actor(distinct_id)))
    return json.loads(msgspec.json.encode(found.person))


async def changes(history: History, distinct_id: str) -> list[dict]:
    """What each call that set traits changed, in order of time."""
    answer = await asked(history)
    question = Timeline(project=history.project, actor=history.actor(distinct_id), order="asc")
    entries = json.loads(msgspec.json.encode((await answer.timeline(question)).entries))
    return [entry["changes"] for entry in entries if entry["type"] == "traits"]


async def test_group_calls_are_on_the_timeline_and_not_counted():
    history = History(next(_projects))
    history.track("group", anonymous="a", at=BEGAN, call="group")
    history.track("page_view", anonymous="b", at=BEGAN)
    history.track("group", anonymous="b", at=BEGAN + 1, call="group")
    history.track("group", anonymous="b", at=BEGAN + 2, call="group")
    history.track("page_view", anonymous="c", at=BEGAN)
    history.track("page_view", anonymous="c", at=BEGAN)
    answer = await asked(history)
    page = await answer.people(People(project=history.project, sort="-events"))
    assert [(one.ids[0].id, one.events) for one in page.people] == [("c", 2), ("b", 1), ("a", 0)]
    assert page.people[1].last_seen == "2023-11-14T22:13:20.002Z"
    timeline = await answer.timeline(Timeline(project=history.project, actor=history.actor("b")))
    assert [entry.event for entry in timeline.entries] == ["group", "group", "page_view"]


async def test_events_are_summed_over_ids_when_people_are_sorted_by_them():
    history = History(next(_projects))
    for n in range(3):
        history.track("page_view", anonymous=f"one-{n}", at=BEGAN)
        history.identify("ann", f"one-{n}", at=BEGAN + 5)
    for _ in range(4):
        history.track("page_view", anonymous="two", at=BEGAN)
    answer = await asked(history)
    page = await answer.people(People(project=history.project, sort="-events"))
    assert [(one.ids[0].id, one.events, one.ids_count) for one in page.people] == [("two", 4, 1), ("ann", 3, 4)]


async def test_the_latest_alias_between_user_ids_names_the_person_and_later_is_by_its_own_time():
    history = History(next(_projects))
    for at, name in enumerate(("middle", "old", "new")):
        history.identify(name, at=BEGAN - at)
    history.alias("middle", "new", at=BEGAN + 9, secret=True)
    history.alias("old", "middle", at=BEGAN + 1, secret=True)
    history.alias("anonymous-1", "old", at=BEGAN + 20, secret=True)
    found = await person(history, "anonymous-1")
    assert found["user_id"] == "new"
    assert found["user_ids"] == ["new", "old", "middle"], "by when they were seen first"
    assert found["id"] == f"p_{history.actor('middle'):016x}", "which was the first to arrive"


async def test_both_identified_stay_two_and_both_timelines_say_so():
    history = History(next(_projects))
    history.identify("ann", "device", at=BEGAN)
    history.identify("bob", "device", at=BEGAN + 1, traits=[("plan", "set", '"pro"')])
    history.track("page_view", anonymous="device", at=BEGAN + 2)
    assert (await person(history, "device"))["user_ids"] == ["ann"]
    assert (await person(history, "bob"))["traits"] == {"plan": "pro"}
    answer = await asked(History(next(_projects)))
    for user in ("ann", "bob"):
        found = await answer.timeline(Timeline(project=history.project, actor=history.actor(user)))
        assert "both_identified" in [entry.refused for entry in found.entries if entry.type == "link"]


async def links_of(history: History, answer: Answer, distinct_id: str) -> list[tuple]:
    question = Timeline(project=history.project, actor=history.actor(distinct_id), order="asc")
    found = await answer.timeline(question)
    return [(entry.call, entry.a, entry.b) for entry in found.entries if entry.type == "link"]


async def test_who_was_taken_out_stands_with_all_who_were_left_whoever_they_are_now():
    history = History(next(_projects))
    for number, name in enumerate(("hub", "left", "right", "far")):
        history.track("page_view", anonymous=name, at=BEGAN + number)
    history.alias("left", "hub", at=BEGAN + 10, user=False)
    history.alias("hub", "right", at=BEGAN + 11, user=False)
    history.alias("right", "far", at=BEGAN + 12, user=False)
    history.by_hand("unlink", "hub", "", at=BEGAN + 20)
    # Since then each has another person id than the one that they had in common.
    history.identify("ann", "left", at=BEGAN + 30)
    history.identify("bob", "far", at=BEGAN + 31)
    history.by_hand("unlink", "far", "", at=BEGAN + 40)
    answer = await asked(history)
    out, later = ("unlink", "hub", None), ("unlink", "far", None)
    assert await links_of(history, answer, "ann") == [("alias", "left", "hub"), out, ("identify", "left", "ann")]
    assert await links_of(history, answer, "hub") == [("alias", "left", "hub"), ("alias", "hub", "right"), out]
    assert await links_of(history, answer, "right") == [
        ("alias", "hub", "right"), ("alias", "right", "far"), out, later,
    ]  # fmt: skip
    assert await links_of(history, answer, "bob") == [("identify", "far", "bob"), later]
    assert await links_of(history, answer, "far") == [
        ("alias", "right", "far"), out, ("identify", "far", "bob"), later,
    ]  # fmt: skip


async def test_a_user_id_that_was_unlinked_is_one_and_its_traits_go_with_it():
    history = History(next(_projects))
    history.identify("ann", "phone", at=BEGAN, traits=[("plan", "set", '"pro"'), ("visits", "add", "2")])
    history.identify("", "phone", at=BEGAN + 1, traits=[("plan", "set", '"free"'), ("visits", "add", "3")])
    assert (await person(history, "ann"))["traits"] == {"plan": "free", "visits": 5}
    history.by_hand("unlink", "phone", "ann", at=BEGAN + 2)
    for name, kind, traits in (
        ("ann", "user", {"plan": "pro", "visits": 2}),
        ("phone", "anonymous", {"plan": "free", "visits": 3}),
    ):
        found = await person(history, name)
        assert [(one["id"], one["kind"]) for one in found["ids"]] == [(name, kind)]
        assert found["traits"] == traits
        assert found["id"] == f"p_{history.actor(name):016x}"
    history.by_hand("merge", "ann", "phone", at=BEGAN + 3)
    assert (await person(history, "phone"))["traits"] == {"plan": "free", "visits": 5}
    assert (await person(history, "phone"))["last_seen"] == "2023-11-14T22:13:20.001Z"


async def test_set_once_counts_from_the_earliest_and_gives_way_to_set():
    history = History(next(_projects))
    history.identify("ann", at=BEGAN + 1, traits=[("source", "set_once", '"ad"')])
    history.identify("ann", at=BEGAN + 2, traits=[("source", "set_once", '"mail"')])
    assert (await person(history, "ann"))["traits"] == {"source": "ad"}
    assert await changes(history, "ann") == [
        {"source": {"from": None, "to": "ad"}},
        {"source": {"from": "ad", "to": "ad"}},
    ]
    late = History(next(_projects))
    late.identify("ann", at=BEGAN + 1, traits=[("source", "set_once", '"ad"')])
    late.identify("ann", at=BEGAN, traits=[("source", "set_once", '"earlier"')])
    late.identify("ann", at=BEGAN + 3, traits=[("source", "unset", "")])
    late.identify("ann", at=BEGAN + 4, traits=[("source", "set_once", '"again"')])
    late.identify("ann", at=BEGAN + 5, traits=[("source", "set", '"set"')])
    late.identify("ann", at=BEGAN + 6, traits=[("source", "set_once", '"never"')])
    assert [(each["source"]["from"], each["source"]["to"]) for each in await changes(late, "ann")] == [
        (None, "earlier"), ("earlier", "earlier"), ("earlier", None), (None, "again"), ("again", "set"), ("set", "set"),
    ]  # fmt: skip
    assert (await person(late, "ann"))["traits"] == {"source": "set"}


async def test_additions_are_summed_over_all_ids_since_the_latest_set():
    history = History(next(_projects))
    history.identify("ann", "phone", at=BEGAN, traits=[("visits", "add", "0.1")])
    history.identify("", "phone", at=BEGAN + 1, traits=[("visits", "add", "0.2")])
    history.identify("ann", at=BEGAN + 2, traits=[("visits", "add", "9007199254740000")])
    history.identify("ann", at=BEGAN + 3, traits=[("visits", "set", "10")])
    history.identify("", "phone", at=BEGAN + 4, traits=[("visits", "add", "2")])
    history.identify("ann", at=BEGAN + 5, traits=[("visits", "add", '"many"')])
    assert (await person(history, "phone"))["traits"] == {"visits": 12}
    assert [each["visits"]["to"] for each in await changes(history, "ann")] == [
        0.1, 0.30000000000000004, 9007199254740000, 10, 12, 12,
    ]  # fmt: skip
    huge = History(next(_projects))
    for at in range(4):
        huge.identify("ann", at=BEGAN + at, traits=[("sum", "add", "1.5e308")])
    assert (await person(huge, "ann"))["traits"]["sum"] > 1e308
    assert (await (await asked(History(next(_projects)))).people(People(project=huge.project, search="ann"))).count == 1
