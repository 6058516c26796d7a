"""Persons: whom actors belong to, and what is known of these, read by their actors alone.

They are found by short statements, as of one place of the link log. One person is then read whole (query/whole.py)
where that is not too much, while it is still being found out which actors are theirs; many, and whoever did too much,
are summed up by ClickHouse (query/people.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from pugd.model import person_text
from pugd.query import links, people, whole
from pugd.query.person import Located, located, plan_belonged, plan_newest, plan_places, shape_places
from pugd.query.sql import Plan
from pugd.query.whole import Whole
from pugd.question import LeftOut, Person, UnknownPersonError

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


async def together(first: Callable[[], Awaitable[A]], second: Callable[[], Awaitable[B]]) -> tuple[A, B]:
    """Both at once. Of an error of one, the other is cancelled.

    raises   what was raised first, as it is
    """
    found: list[Any] = [None, None]
    failed: list[Exception] = []

    async def one(place: int, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            found[place] = await read()
        except Exception as error:  # noqa: BLE001 — raised again below, not as one of a group
            failed.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0, first)
        nursery.start_soon(one, 1, second)
    if failed:
        raise failed[0]
    return found[0], found[1]


class Placed(msgspec.Struct, frozen=True):
    """Who an actor is."""

    project: int
    actor: int
    members: Located
    found: Sequence[tuple[int, int, Collection[int]]]
    """Of its actors, and of those that once were: its person, and all that it ever belonged to."""
    looked: set[int]
    """The persons whose actors those are."""


class OneKnown(msgspec.Struct, frozen=True):
    """One person, as a question finds it."""

    person: Person
    left_out: LeftOut
    said: links.Said


class Known(msgspec.Struct, frozen=True):
    """What is known of some persons."""

    persons: dict[int, Person]
    left_out: LeftOut
    links: people.Links
    activity: Sequence[Sequence[Any]]
    """As people.plan_activity says."""


class _Places(msgspec.Struct, frozen=True):
    """Of some actors."""

    members: dict[int, Located]
    found: Sequence[tuple[int, int, Collection[int]]]
    persons: set[int]


class Persons:
    """Each method raises TooCostlyError, StoreUnavailableError and StoreError, as `run` does."""

    def __init__(self, run: Callable[[Plan], Awaitable[Any]], rows_max: int = whole.ROWS_MAX) -> None:
        """`run` gives a statement's rows. `rows_max`: of each table, up to which a person is read whole."""
        self._run = run
        self._rows_max = rows_max

    async def located(self, project: int, actors: Sequence[int], place: int | None = None) -> dict[int, Located]:
        """Each of these actors → its person. `place`: where an earlier statement of the same question stood in the link
        log; None: now."""

        async def nothing(_: Sequence[int]) -> None:
            pass

        return (await self._located(project, actors, nothing, place))[0].members if actors else {}

    async def placed(self, project: int, actor: int, *, texts: bool = False) -> tuple[Placed, Whole | None]:
        """Whose an actor is now, with all that there is of that person; None where that is too much. `texts`: with what
        only a timeline shows of events."""
        places, rows = await self._located(project, [actor], partial(self._rows, project, texts=texts))
        placed = Placed(project, actor, places.members[actor], places.found, places.persons)
        return placed, whole.shape(placed.members.actors, *rows, self._rows_max)

    async def found(self, placed: Placed, one: Whole | None, as_of: int | None = None) -> OneKnown:
        """What is known of a person that was placed. raises UnknownPersonError"""
        at = placed.members
        if one is None:
            known = await self.known(placed.project, [at], None, as_of)
        else:
            accepted = whole.accepted(one)
            activity = whole.activity(one, accepted)
            values = whole.values(one, at.person, as_of)
            persons, left_out = people.shape_persons([at], accepted, activity, values)
            known = Known(persons, left_out, accepted, activity)
        if at.person not in known.persons:
            raise UnknownPersonError(
                "not_found",
                f"Nobody was seen as {person_text(placed.actor)} yet. Look for people with GET /v1/people?search=…",
            )
        return OneKnown(known.persons[at.person], known.left_out, links.said(at.actors, known.links, known.activity))

    async def known(
        self, project: int, members: Iterable[Located], ids_max: int | None, as_of: int | None = None
    ) -> Known:
        """What is known of these persons, summed up."""
        distinct = list({at.person: at for at in members}.values())
        actors = [actor for at in distinct for actor in at.actors]
        if not actors:
            return Known({}, LeftOut(0, 0), people.Links([]), [])

        async def seen() -> tuple[people.Links, Any]:
            said = people.Links([tuple(row) for row in await self._run(people.plan_links(project, actors))])
            return said, await self._run(people.plan_activity(project, actors, said))

        changes = people.plan_traits(project, distinct, as_of)
        (accepted, activity), traits = await together(seen, partial(self._run, changes))
        persons, left_out = people.shape_persons(distinct, accepted, activity, traits, ids_max=ids_max)
        return Known(persons, left_out, accepted, activity)

    async def taken_out(self, one: Placed) -> list[int]:
        """Places in the link log of the entries that took somebody else out of this person."""
        project, actors = one.project, one.members.actors
        own = set(actors)
        others = {actor for actor, _, _ in one.found}
        if more := {person for actor, _, ever in one.found if actor in own for person in ever} - one.looked:
            others.update(actor for (actor,) in await self._run(plan_belonged(project, more)))
        others -= own
        if not others:
            return []
        found = await self._run(links.plan_taken_out(project, others))
        if not found:
            return []
        persons = await self._run(links.plan_persons(project, {*actors, *(out for _, out in found)}))
        return links.left(found, actors, persons)

    async def _located(
        self,
        project: int,
        actors: Sequence[int],
        read: Callable[[Sequence[int]], Awaitable[T]],
        place: int | None = None,
    ) -> tuple[_Places, T]:
        """`read` is given all actors that may be these persons', while it is found out which of them are."""
        persons, until = set(actors), place or 0
        if place is None:
            # The place first: whatever stands there or before is seen by the reads that follow.
            ((until,),), own = await together(
                partial(self._run, plan_newest(project)), partial(self._run, plan_places(project, actors))
            )
            persons.update(person for _, person, _ in own)
        while True:
            belonged = await self._run(plan_belonged(project, persons))
            every = sorted({*actors, *(actor for (actor,) in belonged)})
            rows, had = await together(partial(self._run, plan_places(project, every)), partial(read, every))
            found = shape_places(rows, until)
            members = located(actors, found)
            if not (more := {one.person for one in members.values()} - persons):
                return _Places(members, found, persons), had
            persons |= more  # placed there since `own` was read, or not persons at the place themselves

    async def _rows(self, project: int, actors: Sequence[int], *, texts: bool) -> tuple[Any, Any, Any]:
        """All that there is of these actors, or more than may be: events, operations, links."""
        most = self._rows_max
        events, (operations, entries) = await together(
            partial(self._run, whole.plan_events(project, actors, most, texts=texts)),
            partial(
                together,
                partial(self._run, whole.plan_operations(project, actors, most)),
                partial(self._run, whole.plan_links(project, actors, most)),
            ),
        )
        return events, operations, entries
