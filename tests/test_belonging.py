"""Whom actors belong to, kept at hand: the same people by it as by `person_of`, at once after any link, while other
dictionaries are made, when none can be made, and after a restart."""

from __future__ import annotations

import pytest
import trio
from crowd import planned, projects, seeds
from engine import opened_store
from histories import History, answering, insert
from hypothesis import given, settings
from inhabited import BEGAN, NOW, SEGMENTS, UTC, by_hand, inhabited, of_person, persons

from pugd import belonging
from pugd.belonging import DATABASE, Belonging
from pugd.errors import StoreError
from pugd.query.person import CHANGES_MAX, Owners
from pugd.query.reading import Reading
from pugd.query.sql import plan, sql
from pugd.question import People


async def dictionaries(project: int) -> list[str]:
    rows = await (await opened_store()).query(
        "SELECT name FROM system.dictionaries WHERE database = {database:String} ORDER BY name", {"database": DATABASE}
    )
    return [name for (name,) in rows.rows if name.startswith(f"person_of_{project}_")]


@pytest.fixture
def few(monkeypatch):
    """Few links are many, and another dictionary is made of any change."""
    monkeypatch.setattr(belonging, "ROWS_MIN", 1)
    monkeypatch.setattr(belonging, "CHANGES_MANY", 2)
    monkeypatch.setattr(belonging, "PAUSE_MIN_S", 0.0)
    monkeypatch.setattr(belonging, "PAUSE_SHARE", 0)


def small() -> History:
    history = History(next(projects))
    for number in range(4):
        history.track("seen", anonymous=f"phone-{number}", at=BEGAN)
        history.identify(f"user-{number}", f"phone-{number}", at=BEGAN + 1)
    return history


@settings(max_examples=2)
@given(seeds)
async def test_the_same_people_are_found_by_it_as_by_the_table(random):
    history = inhabited(random)
    store = await opened_store()
    kept = Belonging(store)
    await insert(store, history)
    answer = answering(history, store, NOW, belonging=kept)
    place = (await answer.owners(history.project, kept=False)).place
    ((newest,),) = await planned(plan(sql("SELECT $place", place=place)))
    await kept.make(history.project, random.randrange(newest + 1))
    for turn in range(2):
        if turn:
            by_hand(random, history)
            await insert(store, history)
        owners = await answer.owners(history.project)
        assert owners.kept is not None
        joined = await answer.owners(history.project, kept=False)
        common = {"zone": UTC, "now": NOW, "actor": history.actor, "segments": SEGMENTS}
        for _ in range(3):
            asked = of_person(random, 1)
            assert await persons(Reading(owners, **common), asked) == await persons(Reading(joined, **common), asked)
        for search in ("", "phone-1", "pro"):
            question = People(project=history.project, search=search, sort=random.choice(["last_seen", "trait:plan"]))
            one = await answer.page(question, "", None, owners)
            assert one == await answer.page(question, "", None, joined)
            assert one.people


async def test_links_are_seen_at_once_while_others_are_made_and_what_nobody_holds_goes(few):
    history, store = small(), await opened_store()
    await insert(store, history)
    kept = Belonging(store)
    answer = answering(history, store, NOW, belonging=kept)

    async def count(owners: Owners) -> int:
        of = Reading(owners, zone=UTC, now=NOW, actor=history.actor, segments={})
        events = of.events([], everywhere=None)
        ((number,),) = await planned(plan(sql("SELECT uniqExact(person) FROM $events", events=events)))
        return number

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        first = await answer.owners(history.project)
        assert first.kept is None  # nothing is there yet: the question does not wait
        assert await count(first) == 4
        with trio.fail_after(60):
            while kept.base(history.project) is None:
                await trio.sleep(0.01)
        held = await answer.owners(history.project)
        assert held.kept is not None
        assert held.kept.actors == ()
        assert await count(held) == 4
        # A link more, of somebody new and of two who were: the next question knows.
        history.track("seen", anonymous="laptop", at=BEGAN + 2)
        history.identify("user-0", "laptop", at=BEGAN + 3)
        history.by_hand("merge", "user-1", "user-2", at=BEGAN)
        await insert(store, history)
        after = await answer.owners(history.project)
        assert after.kept is not None
        assert len(after.kept.actors) >= 2
        assert await count(after) == 3
        assert await count(held) == 5  # as of its own place: the laptop is nobody's yet
        # That was much, so another is made; the one before stays for whoever holds it, and then goes.
        with trio.fail_after(60):
            while len(await dictionaries(history.project)) < 4:
                await trio.sleep(0.01)
            while kept.base(history.project).name == held.kept.name:
                await trio.sleep(0.01)
        assert await count(held) == 5
        last = await answer.owners(history.project)
        assert last.kept.actors == ()
        assert await count(last) == 3
        del held, after, first
        history.by_hand("unlink", "user-1", "user-2", at=BEGAN)
        history.by_hand("unlink", "laptop", "", at=BEGAN)
        await insert(store, history)
        assert await count(await answer.owners(history.project)) == 5
        with trio.fail_after(60):
            while kept.base(history.project).name == last.kept.name:
                await trio.sleep(0.01)
        del last
        await kept.make(history.project, 10**6)
        assert len(await dictionaries(history.project)) == 2
        nursery.cancel_scope.cancel()


async def test_more_changes_than_a_question_carries_are_joined(few, monkeypatch):
    history, store = small(), await opened_store()
    await insert(store, history)
    kept = Belonging(store)
    await kept.make(history.project, 0)
    monkeypatch.setattr("pugd.query.person.CHANGES_MAX", 3)
    owners = await answering(history, store, NOW, belonging=kept).owners(history.project)
    assert owners.kept is None
    monkeypatch.setattr("pugd.query.person.CHANGES_MAX", CHANGES_MAX)
    owners = await answering(history, store, NOW, belonging=kept).owners(history.project)
    assert owners.kept is not None
    assert len(owners.kept.actors) >= 4


async def test_where_none_can_be_made_questions_join(few, caplog):
    history, store = small(), await opened_store()
    await insert(store, history)

    class Full:
        database = store.database

        async def command(self, sql: str) -> None:
            raise StoreError("Memory limit exceeded")

    kept = Belonging(Full())
    answer = answering(history, store, NOW, belonging=kept)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        for _ in range(2):
            assert (await answer.owners(history.project)).kept is None
            with trio.fail_after(60):
                while "Memory limit exceeded" not in caplog.text:
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert (await answer.people(People(project=history.project))).count == 4


async def test_beyond_what_memory_may_hold_questions_join(few, monkeypatch):
    first, second, store = small(), small(), await opened_store()
    for history in (first, second):
        await insert(store, history)
    kept = Belonging(store)
    answer = answering(first, store, NOW, belonging=kept)
    await kept.make(first.project, 10**6)
    monkeypatch.setattr(belonging, "ROWS_MAX", 10)
    assert (await answer.owners(second.project)).kept is None
    assert not kept._wanted
    # What nobody asks for makes room, once another is made.
    monkeypatch.setattr(belonging, "ROWS_MAX", 100)
    assert (await answer.owners(second.project)).kept is None
    assert list(kept._wanted) == [second.project]
    monkeypatch.setattr(belonging, "IDLE_S", -1.0)
    assert (await answer.owners(first.project)).kept is not None
    await kept.make(second.project, 10**6)
    assert kept.base(first.project) is None
    assert not await dictionaries(first.project)


async def test_few_links_are_joined():
    history, store = small(), await opened_store()
    await insert(store, history)
    kept = Belonging(store)
    assert (await answering(history, store, NOW, belonging=kept).owners(history.project)).kept is None
    assert not kept._wanted


async def test_a_repair_of_earlier_places_is_seen(few):
    history, store = small(), await opened_store()
    await insert(store, history)
    kept = Belonging(store)
    answer = answering(history, store, NOW, belonging=kept)
    joined = await answer.owners(history.project, kept=False)
    ((place,),) = await planned(plan(sql("SELECT $place", place=joined.place)))
    await kept.make(history.project, place)
    assert (await answer.owners(history.project)).kept is not None
    user, phone = history.actor("user-0"), history.actor("phone-0")
    for statement in (
        "delete from person_of where project = {project:UInt32} and actor = {phone:UInt64}",
        "insert into person_of (project, actor, person, version, collector, epoch, position) values"
        " ({project:UInt32}, {phone:UInt64}, {user:UInt64}, 1, 'repair', 1, 1)",
    ):
        await store.command(statement, {"project": history.project, "phone": phone, "user": user})
        owners = await answer.owners(history.project)
        assert owners.kept is None
        await kept.make(history.project, place)
        again = await answer.owners(history.project)
        assert again.kept is not None
        mapped = dict(await planned(plan(sql("SELECT actor, person FROM $mapping", mapping=again.mapping()))))
        assert mapped.get(phone) == (user if statement.startswith("insert") else None)
