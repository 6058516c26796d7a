"""Questions about many people, on their way out; and what a segment asks of them.

A question takes one place of the link log, one moment and the segments as they stand, and everything it reads agrees
(query/reading.py). What it means is said in query/meaning.py; numbers.py has it run, and gives each number a token that
makes the same set of persons as the number counted, as they are now. Since when somebody is in a segment is worked out
by stays.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from pugd import ask
from pugd.answer import Answer
from pugd.journeys import AnyJourneyAnswer, Range
from pugd.kept import FIXED_IDS_MAX, TOO_MANY, KeptError, MembershipsAnswer, Segment, Size
from pugd.limits import BadPatternError, patterns
from pugd.model import Project, person_number, person_text
from pugd.numbers import Numbers
from pugd.query import meaning, order, times
from pugd.query.conditions import ALWAYS
from pugd.query.person import Owners
from pugd.query.reading import Reading
from pugd.query.sql import Sql, bound, joined, plan, sql
from pugd.query.tokens import Writer, opened
from pugd.query.values import invalid
from pugd.question import (
    ENTRY_TYPES,
    LIMIT_MAX,
    ORDERS,
    LeftOut,
    OnePerson,
    People,
    PeopleAnswer,
    Timeline,
    TimelineAnswer,
)
from pugd.stays import Life

Segments = Callable[[int, Collection[str]], Awaitable[Mapping[str, ask.AnySegment]]]


class Everyone:
    """Asks about everybody. Safe to share between tasks."""

    def __init__(self, answer: Answer, segments: Segments) -> None:
        """`segments`: of a project those of these names, and those that they name in turn. It may raise ControlError,
        so only questions that name one ask it."""
        self._answer = answer
        self._segments = segments

    async def journey(self, project: Project, asked: ask.AnyAsked, *, stale: bool = False) -> AnyJourneyAnswer:
        """raises QuestionError, StoreUnavailableError, StoreError"""

        async def answer(asked: ask.AnyAsked, asked_at: str, stored_until: str | None) -> AnyJourneyAnswer:
            cookieless = isinstance(asked, ask.AskTrend | ask.AskTop) and asked.include_cookieless
            reading = await self.reading(
                project, asked_at, asked, include_bots=asked.include_bots, include_cookieless=cookieless
            )
            since, until = meaning.range_of(asked, reading)
            # From here on the range is what it is now: so a token opens into what was counted.
            asked = replace(asked, from_=times.text(since), to=times.text(until), last=None)
            ((bots, cookieless),) = await self._answer.run(reading.left_out(since, until))
            common = {
                "range": Range(times.text(since), times.text(until), reading.zone.key),
                "asked_at": asked_at,
                "left_out": LeftOut(bots or 0, cookieless or 0),
                "stored_until": stored_until,
            }
            numbers = Numbers(self._answer.run, reading, Writer(asked, asked_at, reading.zone.key))
            return await numbers.answer(asked, common)

        return await self._answer.counted(answer, asked, stale)

    async def people(self, project: Project, asked: ask.AskPeople, *, stale: bool = False) -> PeopleAnswer:
        """The people behind a number, or who meet a condition; paged as all lists of people.

        raises QuestionError, StoreUnavailableError, StoreError
        """

        async def answer(asked: ask.AskPeople, asked_at: str, stored_until: str | None) -> PeopleAnswer:
            reading = await self.reading(project, asked_at, asked, include_bots=asked.include_bots)
            only, then, at = self.chosen(asked, reading)
            as_of = None if asked.as_of is None else times.read(asked.as_of, reading.zone)
            if asked.as_of is not None and as_of is None:
                raise invalid("as_of", "must be a date such as 2026-03-01, or RFC 3339")
            question = People(
                project=project.id, search=asked.search, identified=asked.identified, sort=asked.sort,
                limit=asked.limit, cursor=asked.cursor, as_of=as_of,
            )  # fmt: skip
            found = await self._answer.page(question, asked_at, stored_until, reading.owners, only=only)
            return found if then is None else replace(found, then=then, then_at=at)

        return await self._answer.counted(answer, asked, stale)

    async def timeline(self, project: Project, asked: ask.AskTimeline, *, stale: bool = False) -> TimelineAnswer:
        """raises QuestionError, UnknownPersonError, StoreUnavailableError, StoreError"""
        reading = await self.reading(project, times.text(self._answer.clock()), asked)
        if (asked.person is None) == (asked.distinct_id is None):
            raise invalid("person", "name the person by either person or distinct_id")
        actor = person_number(asked.person or "") if asked.distinct_id is None else reading.actor(asked.distinct_id)
        if actor is None:
            raise invalid("person", "must be p_ and 16 hex digits")
        if not asked.types or not set(asked.types) <= set(ENTRY_TYPES):
            raise invalid("types", f"must be some of {', '.join(ENTRY_TYPES)}")
        if asked.order not in ORDERS:
            raise invalid("order", f"must be {' or '.join(ORDERS)}")
        if not 1 <= asked.limit <= LIMIT_MAX:
            raise invalid("limit", f"must be a number from 1 to {LIMIT_MAX}")
        if asked.around is not None and asked.before is not None:
            raise invalid("before", "goes with no around")
        since, until = reading.moments(asked.from_, asked.to, None, "")
        question = Timeline(
            project=project.id, actor=actor, search=asked.search, since=since, until=until, order=asked.order,
            limit=asked.limit, cursor=asked.cursor, types=asked.types, around=asked.around,
        )  # fmt: skip
        met = None if asked.where is None else reading.row(reading.condition(asked.where, "where"), "where")
        before = None if asked.before is None else reading.row(reading.selection(asked.before, "before"), "before")
        return await self._answer.timeline(question, stale=stale, met=met, before=before)

    def chosen(self, asked: ask.AskPeople, reading: Reading) -> tuple[Sql | None, int | None, str | None]:
        """A sub-select of the persons asked for (None: everybody); and how many a token's number was, and when."""
        order.read(asked.sort)
        if not 1 <= asked.limit <= LIMIT_MAX:
            raise invalid("limit", f"must be a number from 1 to {LIMIT_MAX}")
        if asked.token is not None:
            if asked.of is not None or asked.where is not None or asked.from_ or asked.to or asked.last:
                raise invalid("token", "says it all: it goes with no of, where, from, to and last")
            of, token = opened(asked.token)
            zone = times.zone(token.zone) if token.zone else reading.zone
            reading = reading.counted(zone=zone, bots=of.include_bots)
            return meaning.behind(of, token.cell, reading), token.then, token.at
        if asked.of is not None:
            since, until = meaning.range_of(asked, reading)
            reading.everywhere = ALWAYS if asked.where is None else reading.condition(asked.where, "where")
            met = reading.selection(asked.of, "of")
            events = reading.events([met], since=since, until=until)
            return sql("(SELECT DISTINCT person FROM $events)", events=events), None, None
        if asked.from_ or asked.to or asked.last:
            raise invalid("of", "is missing: a range is of those who did something in it")
        if asked.where is None:
            return None, None, None
        return reading.persons(reading.condition(asked.where, "where")), None, None

    # -- segments ------------------------------------------------------------------------------------------------------

    async def check_rule(self, project: Project, name: str, rule: ask.Condition) -> None:
        """Can this be a segment of that name? Nothing is read but the segments that it names.

        raises   QuestionError that names the field below `rule`, ControlError
        """
        reading = await self._compiling(project, rule)
        reading.rule(name, rule, "rule")
        await self._check_patterns(rule, "rule")

    async def check_question(self, project: Project, asked: ask.AnyAsked | ask.AskPeople) -> None:
        """Can this be asked? raises QuestionError that names the field, ControlError"""
        reading = await self._compiling(project, asked)
        if isinstance(asked, ask.AskPeople):
            self.chosen(asked, reading)
        else:
            meaning.check(asked, reading)
        await self._check_patterns(asked)

    async def size(self, project: Project, rule: ask.Condition, *, stale: bool = False) -> Size:
        """How many people meet it now. raises QuestionError, ControlError, StoreUnavailableError, StoreError"""

        async def answer(asked: ask.Condition, asked_at: str, stored_until: str | None) -> Size:
            reading = await self.reading(project, asked_at, asked)
            persons = reading.persons(reading.condition(asked, "where"))
            ((people,),) = await self._answer.run(plan(sql("SELECT count() FROM $persons", persons=persons)))
            return Size(people, asked_at, stored_until)

        return await self._answer.counted(answer, rule, stale)

    async def memberships(
        self, project: Project, actor: int, kept: Sequence[Segment], *, stale: bool = False
    ) -> MembershipsAnswer:
        """Which of these segments somebody is in, and since when.

        raises   UnknownPersonError, ControlError, StoreUnavailableError, StoreError
        """
        person = await self._answer.person(OnePerson(project=project.id, actor=actor), stale=stale)
        rules = await self._segments(project.id, [one.name for one in kept]) if kept else {}

        async def answer(_: None, asked_at: str, stored_until: str | None) -> MembershipsAnswer:
            reading = await self.reading(project, asked_at, None)
            reading = reading.of_segments(rules)
            found = (await self._answer.persons.located(project.id, [actor]))[actor]
            life = Life(self._answer.run, reading, found.actors, {one.name: one for one in kept})
            told = [await life.membership(one.name, rules) for one in kept if one.name in rules and not one.archived]
            return MembershipsAnswer(
                person_text(found.person), [one for one in told if one is not None], asked_at, stored_until
            )

        assert person.person.id
        return await self._answer.counted(answer, None, stale)

    async def ids(self, project: Project, asked: ask.AskPeople) -> tuple[int, ...]:
        """All ids of these people, as actors, ascending: what a fixed segment keeps.

        raises   QuestionError where they are too many, ControlError, StoreUnavailableError, StoreError
        """

        async def answer(asked: ask.AskPeople, asked_at: str, stored_until: str | None) -> tuple[int, ...]:
            reading = await self.reading(project, asked_at, asked)
            only = self.chosen(asked, reading)[0]
            assert only is not None
            found = await self._answer.run(reading.actors(only, FIXED_IDS_MAX + 1))
            if len(found) > FIXED_IDS_MAX:
                raise KeptError(
                    TOO_MANY, f"These people have more than {FIXED_IDS_MAX} ids: a list takes no more.", None
                )
            return tuple(actor for (actor,) in found)

        return await self._answer.counted(answer, asked, False)

    async def _compiling(self, project: Project, asked: object) -> Reading:
        """What runs no statement, and so needs no place in the link log."""
        return await self._reading(project, self._answer.clock(), Owners(project.id, bound("UInt64", 0)), asked)

    async def reading(
        self,
        project: Project,
        asked_at: str,
        asked: object,
        *,
        include_bots: bool = False,
        include_cookieless: bool = False,
        kept: bool = True,
    ) -> Reading:
        """As of now: what one question reads by. `kept`: it is held until all is read.

        raises   ControlError where it names segments that cannot be read
        """
        await self._check_patterns(asked)
        zone = times.zone(project.time_zone)
        now = times.read(asked_at, zone)
        assert now is not None
        owners = await self._answer.owners(project.id, kept=kept)
        return await self._reading(
            project, now, owners, asked, include_bots=include_bots,
            include_cookieless=include_cookieless,
        )  # fmt: skip

    async def _reading(
        self,
        project: Project,
        now: int,
        owners: Owners,
        asked: object,
        *,
        include_bots: bool = False,
        include_cookieless: bool = False,
    ) -> Reading:
        names = ask.segments_of(asked)
        if isinstance(asked, ask.AskPeople | ask.ExportPeople | ask.ExportEvents) and asked.token is not None:
            names |= ask.segments_of(opened(asked.token)[0])
        return Reading(
            owners,
            zone=times.zone(project.time_zone),
            now=now,
            actor=lambda distinct_id: self._answer.actor(project.id, distinct_id),
            segments=await self._segments(project.id, names) if names else {},
            include_bots=include_bots,
            include_cookieless=include_cookieless,
            days_max=self._answer.limits.days,
        )

    async def _check_patterns(self, asked: object, path: str = "") -> None:
        """ClickHouse reads a regular expression only where there is a text to match it with: so it is asked before.
        `path`: where `asked` stands in what was sent."""
        found = list(patterns(msgspec.to_builtins(asked), path))
        found = found[: ask.CONDITIONS_MAX]

        async def read(those: list[tuple[str, str]]) -> None:
            tried = [sql("match('', $pattern)", pattern=bound("String", pattern)) for _, pattern in those]
            await self._answer.run(plan(sql("SELECT $tried", tried=joined(", ", tried))))

        try:
            if found:
                await read(found)
        except BadPatternError:
            for field, pattern in found:
                try:
                    await read([(field, pattern)])
                except BadPatternError as error:
                    raise BadPatternError(error.why, field) from None
