"""A question's way out: catch up, find whom it is about, plan, run, shape.

A read sees every event that was acked before it: before anything is read, the keeper brings the store up to what is
flushed now (`wait_stored`), for a bounded time. If that does not come to its end, the question fails with
StoreUnavailableError, or, where the asker allows a stale answer, is answered from what is stored, with the time up to
which that is complete.

Each question takes one place of the link log (query/person.py) and reads everything by it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from pugd.errors import StoreUnavailableError
from pugd.model import person_text
from pugd.query import people, timeline, times
from pugd.query.person import Located, located, locating
from pugd.query.sql import Plan
from pugd.question import (
    IDS_IN_LISTS_MAX,
    LeftOut,
    OnePerson,
    People,
    PeopleAnswer,
    Person,
    PersonAnswer,
    Timeline,
    TimelineAnswer,
    UnknownPersonError,
)

READ_SETTINGS = {
    "readonly": 2,
    "max_execution_time": 60,
    "min_table_rows_to_use_projection_index": 0,  # a person's rows are found by it in small tables too
}
"""Of every question: it may read and nothing else, and not for ever."""


class Stored(msgspec.Struct, frozen=True):
    """How far the store has come."""

    until: int
    """Milliseconds since 1970: everything received before is in it."""
    complete: bool
    """It holds everything that was flushed when this was asked."""


class Rows(Protocol):
    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...


class Reader(Protocol):
    """`store.clickhouse.Store`, as far as questions need it."""

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Rows: ...


class AnswerStatistics(msgspec.Struct, frozen=True):
    """Since the start."""

    questions: int
    failed: int
    """For want of the store."""
    stale: int
    seconds: float
    waited_seconds: float
    """Of these, for the store to catch up."""


T = TypeVar("T")


class Answer:
    """Asks the store. Safe to share between tasks."""

    def __init__(
        self,
        store: Reader,
        *,
        wait_stored: Callable[[], Awaitable[Stored]],
        actor: Callable[[int, str], int],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`wait_stored` returns once all that is flushed now is stored, or after a bounded time. `actor`: (project,
        distinct id) → actor, under the installation's key (`Graph.actor`). `clock`: milliseconds since 1970."""
        self._store = store
        self._wait_stored = wait_stored
        self._clock = clock
        self.actor = actor
        self._settings: dict[str, int] | None = None
        self._questions = self._failed = self._stale = 0
        self._seconds = self._waited_seconds = 0.0

    async def people(self, question: People, *, stale: bool = False) -> PeopleAnswer:
        """raises QuestionError (a cursor of another question), StoreUnavailableError, StoreError"""
        return await self._counted(self._people, question, stale)

    async def person(self, question: OnePerson, *, stale: bool = False) -> PersonAnswer:
        """raises UnknownPersonError, StoreUnavailableError, StoreError"""
        return await self._counted(self._person, question, stale)

    async def timeline(self, question: Timeline, *, stale: bool = False) -> TimelineAnswer:
        """raises UnknownPersonError, QuestionError, StoreUnavailableError, StoreError"""
        return await self._counted(self._timeline, question, stale)

    def statistics(self) -> AnswerStatistics:
        return AnswerStatistics(self._questions, self._failed, self._stale, self._seconds, self._waited_seconds)

    async def _people(self, question: People, asked_at: str, stored_until: str | None) -> PeopleAnswer:
        page = people.shape_page(question, await self._run(people.plan_page(question)))
        found = await self._run(locating(question.project, page.persons, page.place)) if page.persons else []
        members = located(page.persons, [(actor, person) for actor, person in found])
        persons, _ = await self._known(question.project, members, IDS_IN_LISTS_MAX)
        listed = [persons[person] for person in page.persons if person in persons]
        return PeopleAnswer(listed, page.count, page.next, asked_at, page.left_out, stored_until)

    async def _person(self, question: OnePerson, asked_at: str, stored_until: str | None) -> PersonAnswer:
        _, person, _ = await self._one(question.project, question.actor)
        return PersonAnswer(person, asked_at, stored_until)

    async def _timeline(self, question: Timeline, asked_at: str, stored_until: str | None) -> TimelineAnswer:
        members, person, left_out = await self._one(question.project, question.actor)
        found = await self._run(timeline.plan_entries(question, members.actors))
        page, following = timeline.shape_entries(question, found)
        history = timeline.plan_history(question.project, members.actors, page)
        entries = timeline.shape(page, [] if history is None else await self._run(history))
        return TimelineAnswer(person, entries, following, asked_at, left_out, stored_until)

    async def _one(self, project: int, actor: int) -> tuple[Located, Person, LeftOut]:
        found = await self._run(locating(project, [actor]))
        members = located([actor], [(at, person) for at, person in found])
        persons, left_out = await self._known(project, members, None)
        one = members[actor]
        if one.person not in persons:
            raise UnknownPersonError(
                "not_found",
                f"Nobody was seen as {person_text(actor)} yet. Look for people with GET /v1/people?search=…",
            )
        return one, persons[one.person], left_out

    async def _known(
        self, project: int, members: Mapping[int, Located], ids_max: int | None
    ) -> tuple[dict[int, Person], LeftOut]:
        """What is known of these persons, read by their actors."""
        distinct = list({at.person: at for at in members.values()}.values())
        actors = [actor for at in distinct for actor in at.actors]
        if not actors:
            return {}, LeftOut(0, 0)
        links = people.Links([tuple(row) for row in await self._run(people.plan_links(project, actors))])
        activity = await self._run(people.plan_activity(project, actors, links))
        traits = await self._run(people.plan_traits(project, distinct))
        return people.shape_persons(distinct, links, activity, traits, ids_max=ids_max)

    async def _run(self, plan: Plan) -> Any:
        if self._settings is None:
            # A server may be older than a setting, and refuses what it does not know.
            known = await self._store.query(
                "SELECT name FROM system.settings WHERE name IN {names:Array(String)}", {"names": list(READ_SETTINGS)}
            )
            self._settings = {name: READ_SETTINGS[name] for (name,) in known.rows}
        return (await self._store.query(plan.sql, plan.parameters, self._settings)).rows

    async def _counted(
        self, answer: Callable[[Any, str, str | None], Awaitable[T]], question: object, stale: bool
    ) -> T:
        self._questions += 1
        begun = time.monotonic()
        asked_at = times.text(self._clock())
        try:
            stored = await self._wait_stored()
            self._waited_seconds += time.monotonic() - begun
            if not stored.complete:
                if not stale:
                    raise StoreUnavailableError(
                        "ClickHouse does not hold yet what was acked before this question. Ask again in a while, or"
                        " with stale=ok for what it holds."
                    )
                self._stale += 1
            return await answer(question, asked_at, None if stored.complete else times.text(stored.until))
        except StoreUnavailableError:
            self._failed += 1
            raise
        finally:
            self._seconds += time.monotonic() - begun
