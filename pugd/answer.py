"""A question's way out: catch up, find whom it is about, plan, run, shape.

A read sees every event that was acked before it: before anything is read, the keeper brings the store up to what is
flushed now (`wait_stored`), for a bounded time. If that does not come to its end, the question fails with
StoreUnavailableError, or, where the asker allows a stale answer, is answered from what is stored, with the time up to
which that is complete.

Each question takes one place of the link log (query/person.py) and reads everything by it. Why two ids are one person
only the collector's graph knows, and only the collector takes apart and merges: it is asked (`Command`), and names
places in the link log, which is read here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import trio
from msgspec.structs import replace

from pugd.belonging import Belonging, Rows
from pugd.errors import (
    ILLEGAL_ID,
    NOT_LINKED,
    SELF_LINK,
    TOO_MANY_IDS,
    UNKNOWN_ID,
    CollectorAwayError,
    StoreUnavailableError,
)
from pugd.limits import Limits, refusing
from pugd.persons import OneKnown, Persons, Placed, together
from pugd.query import links, people, schema, timeline, times, whole
from pugd.query.person import Located, Owners, plan_changes, shape_changes
from pugd.query.sql import Plan, Sql, bound
from pugd.query.timeline import Row
from pugd.query.whole import Whole
from pugd.question import (
    IDS_IN_LISTS_MAX,
    Explain,
    ExplainAnswer,
    IdentityError,
    Link,
    Merge,
    MergeAnswer,
    OnePerson,
    People,
    PeopleAnswer,
    Person,
    PersonAnswer,
    QuestionError,
    Refusals,
    RefusalsAnswer,
    RefusedEvent,
    RefusedEvents,
    RefusedEventsAnswer,
    Timeline,
    TimelineAnswer,
    Unlink,
    UnlinkAnswer,
)
from pugd.refusals import UNKNOWN, Found
from pugd.schema import Schema, SchemaAnswer

READ_SETTINGS: dict[str, int | str] = {
    "readonly": 2,
    "join_algorithm": "hash",  # an actor's person is looked up as rows pass; in parallel it costs twice as much
    "query_plan_join_swap_table": "false",
    "min_table_rows_to_use_projection_index": 0,  # a person's rows are found by it in small tables too
    # That few events do not count (bots) is decided with the rest: a step of its own copies all columns (0.35 s of a
    # processor for 10 M rows).
    "enable_multiple_prewhere_read_steps": 0,
}
"""Of every question: it may read and nothing else."""


class Stored(msgspec.Struct, frozen=True):
    """How far the store has come."""

    until: int
    """Milliseconds since 1970: everything received before is in it."""
    complete: bool
    """It holds everything that was flushed when this was asked."""


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


class Command(Protocol):
    """Asks the collector: `explain`, `unlink`, `merge` and their arguments → its answer, once that is flushed."""

    async def __call__(self, do: str, /, **arguments: object) -> Any: ...


class _Page(msgspec.Struct, frozen=True):
    """Of a timeline."""

    rows: list[Row]
    following: str | None
    history: Sequence[Any]
    """As timeline.plan_history says."""


T = TypeVar("T")


class Answer:
    """Asks the store. Safe to share between tasks."""

    def __init__(
        self,
        store: Reader,
        *,
        wait_stored: Callable[[], Awaitable[Stored]],
        actor: Callable[[int, str], int],
        collector: Command,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        limits: Limits | None = None,
        belonging: Belonging | None = None,
        rows_max: int = whole.ROWS_MAX,
    ) -> None:
        """`wait_stored` returns once all that is flushed now is stored, or after a bounded time. `actor`: (project,
        distinct id) → actor, under the installation's key (`Graph.actor`). `collector` asks the collector, by
        commands.py, or raises CollectorAwayError. `clock`: milliseconds since 1970. `limits`: of each question.
        `belonging`: keeps at hand whom actors belong to; None: each question brings that together.
        `rows_max`: of each table, up to which a person is read whole (query/whole.py)."""
        self._store = store
        self._wait_stored = wait_stored
        self._collector = collector
        self.clock = clock
        self.actor = actor
        self.limits = limits or Limits()
        self._belonging = belonging
        self.persons = Persons(self.run, rows_max)
        self._offered: frozenset[str] | None = None
        self._asked: frozenset[str] = frozenset()
        """Settings that this ClickHouse has, of those that it was asked about."""
        self._questions = self._failed = self._stale = 0
        self._seconds = self._waited_seconds = 0.0

    async def people(self, question: People, *, stale: bool = False) -> PeopleAnswer:
        """raises QuestionError (a cursor of another question), StoreUnavailableError, StoreError"""
        return await self.counted(self._people, question, stale)

    async def person(self, question: OnePerson, *, stale: bool = False) -> PersonAnswer:
        """raises UnknownPersonError, StoreUnavailableError, StoreError"""
        return await self.counted(self._person, question, stale)

    async def timeline(
        self, question: Timeline, *, stale: bool = False, met: Sql | None = None, before: Sql | None = None
    ) -> TimelineAnswer:
        """`met`, `before`: conditions on rows of `events`: only such events; what came before the first such event.

        raises UnknownPersonError, QuestionError, StoreUnavailableError, StoreError
        """
        return await self.counted(partial(self._timeline, met=met, before=before), question, stale)

    async def refusals(self, question: Refusals, *, stale: bool = False) -> RefusalsAnswer:
        """raises UnknownPersonError, QuestionError, StoreUnavailableError, StoreError"""
        return await self.counted(self._refusals, question, stale)

    async def refused_events(self, question: RefusedEvents) -> RefusedEventsAnswer:
        """What the collector refused lately; it alone remembers. raises QuestionError, CollectorAwayError"""
        before = question.cursor
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise QuestionError("invalid_cursor", "cursor: not one that an answer gave as `next`.", "cursor")
        said = await self._collector(
            "refusals", project=UNKNOWN if question.unknown else question.project, code=question.code,
            limit=question.limit, before=int(before) if before is not None else None,
        )  # fmt: skip
        found = msgspec.convert(said, Found)
        listed = [
            RefusedEvent(
                times.text(one.at), one.code, one.message, one.field, one.count, one.dialect, one.path or None,
                one.transport, one.key or None, one.key_name or None, one.sample or None,
            )
            for one in found.refusals
        ]  # fmt: skip
        following = str(found.next) if found.next is not None else None
        return RefusedEventsAnswer(listed, found.counts, following, times.text(self.clock()))

    async def schema(self, question: Schema, *, stale: bool = False) -> SchemaAnswer:
        """raises StoreUnavailableError, StoreError, TooCostlyError"""
        return await self.counted(self._schema, question, stale)

    async def explain(self, question: Explain) -> ExplainAnswer:
        """raises IdentityError (unknown_id, not_linked), CollectorAwayError, StoreUnavailableError, StoreError"""
        # The collector first: what it names is flushed then, and the store catches up with that.
        found = await self._collector("explain", project=question.project, a=question.a, b=question.b)
        return await self.counted(partial(self._explain, found), question, False)

    async def unlink(self, question: Unlink) -> UnlinkAnswer:
        """raises IdentityError (unknown_id, not_linked, self_link), CollectorAwayError, StoreUnavailableError,
        StoreError"""
        return await self.counted(self._unlink, question, False)

    async def merge(self, question: Merge) -> MergeAnswer:
        """raises IdentityError (unknown_id, self_link, illegal_id, too_many_ids), CollectorAwayError,
        StoreUnavailableError, StoreError"""
        return await self.counted(self._merge, question, False)

    def statistics(self) -> AnswerStatistics:
        return AnswerStatistics(self._questions, self._failed, self._stale, self._seconds, self._waited_seconds)

    async def _people(self, question: People, asked_at: str, stored_until: str | None) -> PeopleAnswer:
        return await self.page(question, asked_at, stored_until, await self.owners(question.project))

    async def page(
        self,
        question: People,
        asked_at: str,
        stored_until: str | None,
        owners: Owners,
        *,
        only: Sql | None = None,
    ) -> PeopleAnswer:
        """A page of persons: of all, or `only` of a sub-select of persons."""
        actors = None
        if question.search:
            actors = people.shape_matching(await self.run(people.plan_matching(question, owners.place)))
        page = people.shape_page(question, await self.run(people.plan_page(question, owners, only, actors)))
        members = await self.persons.located(question.project, page.persons, page.place)
        known = await self.persons.known(question.project, members.values(), IDS_IN_LISTS_MAX, question.as_of)
        persons = known.persons
        listed = [persons[person] for person in page.persons if person in persons]
        return PeopleAnswer(
            listed, page.count, page.next, asked_at, page.left_out, _as_of(question.as_of), stored_until
        )

    async def _person(self, question: OnePerson, asked_at: str, stored_until: str | None) -> PersonAnswer:
        placed, one = await self.persons.placed(question.project, question.actor)
        found, refused = await together(
            partial(self.persons.found, placed, one, question.as_of), partial(self._refused, placed, one)
        )
        return PersonAnswer(found.person, sum(refused.values()), asked_at, _as_of(question.as_of), stored_until)

    async def _refused(self, placed: Placed, one: Whole | None) -> Mapping[str, int]:
        if one is not None:
            return whole.refused(one)
        return links.shape_refused(await self.run(links.plan_refused(placed.project, placed.members.actors)))

    async def _timeline(
        self,
        question: Timeline,
        asked_at: str,
        stored_until: str | None,
        *,
        met: Sql | None = None,
        before: Sql | None = None,
    ) -> TimelineAnswer:
        plain = met is None and before is None and not question.search
        placed, one = await self.persons.placed(question.project, question.actor, texts=plain)
        know = partial(self.persons.found, placed, one, question.as_of)
        if plain and one is not None:
            person = await know()
            page = await self._page_of_whole(question, placed, one, person)
        else:
            person, page = await self._page_of_statements(question, placed, know, met, before)
        entries = timeline.shape(page.rows, page.history, person.said.first)
        return TimelineAnswer(
            person.person, entries, page.following, asked_at, person.left_out, _as_of(question.as_of), stored_until
        )

    async def _page_of_whole(self, question: Timeline, placed: Placed, one: Whole, person: OneKnown) -> _Page:
        taken_out = await self.persons.taken_out(placed)

        async def read(asked: Timeline, last: timeline.Key | None = None) -> tuple[list[Row], str | None]:
            found: list[Sequence[Any]] = [*whole.entries(asked, one, person.said.joins, timeline.after(asked, last))]
            if (out := timeline.plan_taken_out(asked, taken_out, last)) is not None:
                found += await self.run(out)
            return timeline.shape_entries(asked, found)

        if question.around is None and question.before is None:
            page, following = await read(question)
        else:
            entry = whole.one(question, one, question.around)
            if entry is None:
                raise _no_such_entry(question)
            page, following = await self._around(question, entry, read)
        return _Page(page, following, whole.history(one, page))

    async def _page_of_statements(
        self,
        question: Timeline,
        placed: Placed,
        know: Callable[[], Awaitable[OneKnown]],
        met: Sql | None,
        before: Sql | None,
    ) -> tuple[OneKnown, _Page]:
        actors = placed.members.actors
        one: OneKnown | None = None
        known = trio.Event()

        async def knowing() -> OneKnown:
            nonlocal one
            one = await know()
            known.set()
            return one

        async def turn() -> _Page:
            taken_out = await self.persons.taken_out(placed)

            async def read(asked: Timeline, last: timeline.Key | None = None) -> tuple[list[Row], str | None]:
                plan = timeline.plan_entries(asked, actors, taken_out, last=last, met=met)
                found = list(await self.run(plan))
                await known.wait()  # only now: both take their time
                assert one is not None
                if (joins := timeline.plan_joins(asked, actors, one.said.joins, last=last, met=met)) is not None:
                    found += await self.run(joins)
                return timeline.shape_entries(asked, found)

            if question.around is None and question.before is None and before is None:
                page, following = await read(question)
            else:
                found = await self.run(timeline.plan_one(question, actors, question.around, before))
                if not found:
                    await known.wait()  # nobody there, if so, comes first
                    raise _no_such_entry(question)
                page, following = await self._around(question, Row(*found[0]), read)
            history = timeline.plan_history(question.project, actors, page)
            return _Page(page, following, [] if history is None else await self.run(history))

        return await together(knowing, turn)

    async def _around(
        self, question: Timeline, entry: Row, read: Callable[[Timeline, Any], Awaitable[Any]]
    ) -> tuple[list[Row], str | None]:
        """What came before an entry; or the entry with what came before and after it."""
        if question.around is None:
            back = replace(question, order="desc")
            page, following = await read(back, None if question.cursor else timeline.key_of(entry, "desc"))
            return page, following
        half = max(question.limit // 2, 1)
        earlier, _ = await read(replace(question, order="desc", limit=half), timeline.key_of(entry, "desc"))
        later, _ = await read(replace(question, order="asc", limit=half), timeline.key_of(entry, "asc"))
        page = [*reversed(earlier), entry, *later]
        if question.order == "desc":
            page.reverse()
        return page, timeline.shape_next(question.order, page) if len(page) > half else None

    async def _refusals(self, question: Refusals, asked_at: str, stored_until: str | None) -> RefusalsAnswer:
        actors = None
        if question.actor is not None:
            placed, one = await self.persons.placed(question.project, question.actor)
            await self.persons.found(placed, one)
            actors = placed.members.actors
        found = await self.run(links.plan_refusals(question, actors))
        page, following = links.shape_refusals(question, found)
        counts = links.shape_refused(await self.run(links.plan_refused(question.project, actors)))
        return RefusalsAnswer(page, counts, following, asked_at, stored_until)

    async def _schema(self, question: Schema, asked_at: str, stored_until: str | None) -> SchemaAnswer:
        project, event = question.project, question.event
        if event is None:
            events, events_count = schema.shape_events(await self.run(schema.plan_events(question)))
            traits, traits_count = schema.shape_traits(await self.run(schema.plan_traits(question)))
            sample = await self.run(schema.plan_sample(project, None, sum(one.count for one in events)))
            return SchemaAnswer(
                asked_at, events=events, events_count=events_count, traits=traits, traits_count=traits_count,
                context=schema.shape_context(question, (context for _, context in sample)), sampled=len(sample),
                stored_until=stored_until,
            )  # fmt: skip
        ((types, count),) = await self.run(schema.plan_paths(project, event))
        often = await self.run(schema.plan_often(project, event, count))
        sample = await self.run(schema.plan_sample(project, event, count))
        properties, properties_count = schema.shape_properties(
            question, types, often, schema.samples_of(properties for properties, _ in sample)
        )
        return SchemaAnswer(
            asked_at, properties=properties, properties_count=properties_count,
            context=schema.shape_context(question, (context for _, context in sample)),
            counted=next((row[1] for row in often if row[0] == ""), 0), sampled=len(sample), stored_until=stored_until,
        )  # fmt: skip

    # -- what the collector knows, and what only it can do -------------------------------------------------------------

    async def _explain(
        self, found: Mapping[str, Any] | None, question: Explain, asked_at: str, _: str | None
    ) -> ExplainAnswer:
        a, b = await self._pair(question.project, question.a, question.b)
        if (found is None) != (a.id != b.id):
            raise StoreUnavailableError("These two ids were joined or taken apart just now. Ask again.")
        if found is None:
            raise _not_linked(question.a, a, question.b, b)
        chain = await self._links(question.project, found["orders"])
        return ExplainAnswer(question.a, question.b, chain, a.id, asked_at)

    async def _unlink(self, question: Unlink, asked_at: str, _: str | None) -> UnlinkAnswer:
        project, a_id, b_id = question.project, question.a, question.b
        fields = ("a", "b") if b_id else ("distinct_id", "distinct_id")
        a, b = await self._pair(project, a_id, b_id or a_id, fields)
        if a.id != b.id:
            raise _not_linked(a_id, a, b_id, b)
        done = await self._collector("unlink", project=project, a=a_id, b=b_id, dry_run=question.dry_run)
        _allowed(done["refused"], a_id, b_id)
        await self._caught_up(done["order"])
        groups = [Located(group[0], tuple(sorted(group))) for group in done["persons"]]
        persons = (await self.persons.known(project, groups, None)).persons
        removed = await self._links(project, done["removed"])
        left_out = await self._links(project, done["left_out"])
        return UnlinkAnswer(
            [persons[group.person] for group in groups if group.person in persons],
            removed, left_out, done["order"], question.dry_run, asked_at,
        )  # fmt: skip

    async def _merge(self, question: Merge, asked_at: str, _: str | None) -> MergeAnswer:
        project, a_id, b_id = question.project, question.a, question.b
        await self._pair(project, a_id, b_id)
        done = await self._collector("merge", project=project, a=a_id, b=b_id)
        _allowed(done["refused"], a_id, b_id)
        await self._caught_up(done["order"])
        found = await self.persons.found(*await self.persons.placed(project, done["person"]))
        return MergeAnswer(found.person, done["order"], asked_at)

    async def _pair(
        self, project: int, a_id: str, b_id: str, fields: tuple[str, str] = ("a", "b")
    ) -> tuple[Person, Person]:
        """The persons of two ids; `fields` gave them.

        raises   IdentityError where one was never seen
        """
        actors = [self.actor(project, a_id), self.actor(project, b_id)]
        members = await self.persons.located(project, actors)
        persons = (await self.persons.known(project, members.values(), None)).persons
        for field, id_, actor in zip(fields, (a_id, b_id), actors, strict=True):
            if members[actor].person not in persons:
                raise IdentityError(
                    UNKNOWN_ID, f"Nobody was seen under the id {id_!r} yet. Ids are compared byte for byte.", field
                )
        a, b = (persons[members[actor].person] for actor in actors)
        return a, b

    async def _links(self, project: int, orders: Sequence[int]) -> list[Link]:
        """Entries of the link log, which the collector named and which are flushed."""
        if not orders:
            return []
        found = links.shape_entries(orders, await self.run(links.plan_entries(project, orders)))
        if found is None:
            raise StoreUnavailableError("ClickHouse does not hold all of these links yet. Ask again in a while.")
        return found

    async def _caught_up(self, order: int | None) -> None:
        """Until the store holds what the collector has just said."""
        stored = await self._wait_stored()
        if not stored.complete:
            done = "" if order is None else f"It is done, as entry {order} of the link log. But "
            raise StoreUnavailableError(
                f"{done}ClickHouse does not hold yet what came of it: ask for the person in a while."
            )

    async def owners(self, project: int, *, kept: bool = True) -> Owners:
        """As of now. `kept`: maybe as they are kept at hand, for as long as the answer of this is held.

        raises   StoreUnavailableError, StoreError
        """
        base = self._belonging.base(project) if kept and self._belonging is not None else None
        changes = shape_changes(await self.run(plan_changes(project, None if base is None else base.place)))
        if kept and self._belonging is not None:
            return self._belonging.owners(project, base, changes)
        return Owners(project, bound("UInt64", changes.place))

    async def run(self, plan: Plan) -> Any:
        """A statement's rows. raises TooCostlyError, BadPatternError, StoreUnavailableError, StoreError"""
        settings = await self.settings()
        with refusing(self.limits):
            return (await self._store.query(plan.sql, plan.parameters, settings)).rows

    async def settings(self, more: Mapping[str, int | str] | None = None) -> dict[str, int | str]:
        """What a statement is run with, and `more`: a server may be older than a setting, and refuses what it does not
        know."""
        wanted = {**READ_SETTINGS, **self.limits.settings(), **(more or {})}
        if self._offered is None or not wanted.keys() <= self._asked:
            self._asked = frozenset(wanted)
            found = await self._store.query(
                "SELECT name FROM system.settings WHERE name IN {names:Array(String)}", {"names": list(wanted)}
            )
            self._offered = frozenset(name for (name,) in found.rows)
        return {name: value for name, value in wanted.items() if name in self._offered}

    async def counted(self, answer: Callable[[Any, str, str | None], Awaitable[T]], question: object, stale: bool) -> T:
        """Catch up, answer, count. `answer` is given the question, when it was asked, and where `stale` and not all is
        stored, up to when.

        raises   StoreUnavailableError, and what `answer` raises
        """
        self._questions += 1
        begun = time.monotonic()
        asked_at = times.text(self.clock())
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
        except (StoreUnavailableError, CollectorAwayError):
            self._failed += 1
            raise
        finally:
            self._seconds += time.monotonic() - begun


def _no_such_entry(question: Timeline) -> QuestionError:
    field = "around" if question.around is not None else "before"
    return QuestionError("not_found", f"{field}: the person has no such entry.", field)


def _as_of(ms: int | None) -> str | None:
    return None if ms is None else times.text(ms)


def _not_linked(a_id: str, a: Person, b_id: str, b: Person) -> IdentityError:
    def told(id_: str, person: Person) -> str:
        who = f"user {person.user_id!r}" if person.user_id is not None else "anonymous"
        return f"{id_!r} is {person.id} ({who}, {person.ids_count} ids, {person.events} events)"

    return IdentityError(NOT_LINKED, f"They are not one person: {told(a_id, a)}, and {told(b_id, b)}.")


_REFUSED = {
    NOT_LINKED: "{a!r} is linked to no other id any more.",
    SELF_LINK: "{a!r} and {b!r} are one id. Name two.",
    ILLEGAL_ID: "{a!r} or {b!r} is an id that broken code sends for everybody, or on the list illegal_ids: it is never"
    " linked.",
    TOO_MANY_IDS: "The person would have more than ids_per_person_max ids.",
}


def _allowed(refused: str | None, a: str, b: str) -> None:
    """raises   IdentityError where the collector refused"""
    if refused is not None:
        raise IdentityError(refused, _REFUSED.get(refused, "The rules refuse it.").format(a=a, b=b or a))
