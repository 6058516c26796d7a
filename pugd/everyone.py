"""Questions about many people, on their way out: understood, planned, run, shaped, and each number given its token.

A question takes one place of the link log, one moment and the segments as they stand, and everything it reads agrees
(query/reading.py). A token is a question with a cell of its answer (query/tokens.py); opened, it makes the same set of
persons as the number counted, as they are now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from pugd import ask, journeys
from pugd.answer import Answer
from pugd.journeys import (
    FIRST_EVENT,
    AnyJourneyAnswer,
    Flow,
    FlowAnswer,
    FlowFound,
    Funnel,
    FunnelAnswer,
    FunnelSeries,
    Range,
    Retention,
    RetentionAnswer,
    RetentionSeries,
    Sessions,
    SessionsAnswer,
    SessionsSeries,
    TopAnswer,
    Trend,
    TrendAnswer,
    TrendPoint,
    TrendSeries,
)
from pugd.kept import FIXED_IDS_MAX, TOO_MANY, KeptError, MembershipsAnswer, Segment, Size
from pugd.limits import BadPatternError, patterns
from pugd.model import Project, person_number, person_text
from pugd.query import flow, funnel, order, retention, sessions, times, trend
from pugd.query.conditions import ALWAYS
from pugd.query.person import located, locating, newest
from pugd.query.reading import Reading, Told
from pugd.query.sql import Sql, bound, joined, plan, sql
from pugd.query.tokens import Cell, Writer, opened
from pugd.query.values import Value, invalid, of_property, parts, span
from pugd.question import (
    ENTRY_TYPES,
    LIMIT_MAX,
    ORDERS,
    LeftOut,
    OnePerson,
    People,
    PeopleAnswer,
    QuestionError,
    Timeline,
    TimelineAnswer,
)
from pugd.stays import Life

DAYS_DEFAULT = 30
"""Of a range that is not said."""
SPANS_DAYS = (1, 8, 64, 366)
"""How far around a range sessions are read, until nothing outside can change one: nearly always a day does."""

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
            since, until = range_of(asked, reading)
            # From here on the range is what it is now: so a token opens into what was counted.
            asked = replace(asked, from_=times.text(since), to=times.text(until), last=None)
            ((bots, cookieless),) = await self._answer.run(reading.left_out(since, until))
            common = {
                "range": Range(times.text(since), times.text(until), reading.zone.key),
                "asked_at": asked_at,
                "left_out": LeftOut(bots or 0, cookieless or 0),
                "stored_until": stored_until,
            }
            return await self._of(asked, reading, Writer(asked, asked_at, reading.zone.key), common)

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
            found = await self._answer.page(question, asked_at, stored_until, place=reading.place, only=only)
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
            if token.zone:  # its days are those it was counted by
                reading = reading.in_zone(times.zone(token.zone))
            return self._behind(of, token.cell, reading), token.then, token.at
        if asked.of is not None:
            since, until = range_of(asked, reading)
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
        match asked:
            case ask.AskPeople():
                self.chosen(asked, reading)
            case ask.AskFunnel():
                _funnel(asked, reading)
            case ask.AskRetention():
                _retention(asked, reading)
            case ask.AskFlow():
                _flow(asked, reading)
            case ask.AskSessions():
                _sessions(asked, reading, SPANS_DAYS[0])
            case ask.AskTop():
                _top(asked, reading)
            case ask.AskTrend():
                _check_series(asked)
                for number in range(len(asked.series)):
                    _trend(asked, reading, number)
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
            found = located([actor], await self._answer.run(locating(project.id, [actor])))[actor]
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
        return await self._reading(project, self._answer.clock(), bound("UInt64", 0), asked)

    async def reading(
        self,
        project: Project,
        asked_at: str,
        asked: object,
        *,
        include_bots: bool = False,
        include_cookieless: bool = False,
    ) -> Reading:
        """As of now: what one question reads by. raises ControlError where it names segments that cannot be read"""
        await self._check_patterns(asked)
        zone = times.zone(project.time_zone)
        now = times.read(asked_at, zone)
        assert now is not None
        ((place,),) = await self._answer.run(plan(sql("SELECT $place", place=newest(project.id))))
        return await self._reading(
            project, now, bound("UInt64", place), asked, include_bots=include_bots,
            include_cookieless=include_cookieless,
        )  # fmt: skip

    async def _reading(
        self,
        project: Project,
        now: int,
        place: Sql,
        asked: object,
        *,
        include_bots: bool = False,
        include_cookieless: bool = False,
    ) -> Reading:
        names = ask.segments_of(asked)
        if isinstance(asked, ask.AskPeople | ask.ExportPeople | ask.ExportEvents) and asked.token is not None:
            names |= ask.segments_of(opened(asked.token)[0])
        return Reading(
            project.id,
            place,
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

    # -- each question -------------------------------------------------------------------------------------------------

    async def _of(
        self, asked: ask.AnyAsked, reading: Reading, tokens: Writer, common: dict[str, Any]
    ) -> AnyJourneyAnswer:
        match asked:
            case ask.AskFunnel():
                steps = await self._funnel(asked, reading, tokens)
                before = await self._before(self._funnel, asked, reading, tokens)
                return FunnelAnswer(series=steps, previous=before, **common)
            case ask.AskRetention():
                return RetentionAnswer(series=await self._retention(asked, reading, tokens), **common)
            case ask.AskFlow():
                return FlowAnswer(flow=await self._flow(asked, reading, tokens), **common)
            case ask.AskSessions():
                found = await self._sessions(asked, reading, tokens)
                earlier = await self._before(self._sessions, asked, reading, tokens)
                return SessionsAnswer(series=found, previous=earlier, **common)
            case ask.AskTrend():
                series = await self._trend(asked, reading, tokens)
                previous = await self._before(self._trend, asked, reading, tokens)
                return TrendAnswer(series=series, previous=previous, **common)
            case ask.AskTop():
                return TopAnswer(rows=await self._top(asked, reading, tokens), **common)
        raise AssertionError(asked)

    async def _before(self, of: Any, asked: Any, reading: Reading, tokens: Writer) -> Any:
        """The same of the period before, of the same length."""
        if not asked.compare:
            return None
        since, until = range_of(asked, reading)
        earlier = replace(asked, from_=times.text(since - (until - since)), to=times.text(since), compare=False)
        return await of(earlier, reading, tokens.of(earlier))

    async def _funnel(self, asked: ask.AskFunnel, reading: Reading, tokens: Writer) -> list[FunnelSeries]:
        question, events, told = _funnel(asked, reading)
        found = await self._answer.run(funnel.plan_steps(question, events, told=told))
        series = funnel.shape_steps(question, found)
        values = _values(series)
        return [
            replace(
                one,
                steps=[
                    replace(
                        step,
                        token=tokens.written(_cell(one, values, step=number), step.people),
                        dropped_token=tokens.written(_cell(one, values, step=number, dropped=True), step.dropped)
                        if number < len(one.steps)
                        else None,
                    )
                    for number, step in enumerate(one.steps, 1)
                ],
            )
            for one in series
        ]

    async def _retention(self, asked: ask.AskRetention, reading: Reading, tokens: Writer) -> list[RetentionSeries]:
        question, events, told = _retention(asked, reading)
        found = await self._answer.run(retention.plan_cells(question, events, told=told))
        series = retention.shape_cells(question, found, reading.now)
        values = _values(series)
        return [
            replace(
                one,
                cohorts=[
                    replace(
                        cohort,
                        token=tokens.written(_cell(one, values, step=number), cohort.size),
                        cells=[
                            replace(
                                cell, token=tokens.written(_cell(one, values, step=number, after=after), cell.people)
                            )
                            for after, cell in enumerate(cohort.cells)
                        ],
                    )
                    for number, cohort in enumerate(one.cohorts)
                ],
            )
            for one in series
        ]

    async def _flow(self, asked: ask.AskFlow, reading: Reading, tokens: Writer) -> FlowFound:
        question, events = _flow(asked, reading)
        found = flow.shape_links(question, await self._answer.run(flow.plan_links(question, events)))
        steps = []
        for number, step in enumerate(found.steps, 1):
            names = [node.event for node in step.nodes if node.event is not None]
            nodes = [
                replace(
                    node,
                    token=tokens.written(
                        Cell(step=number, values=names, others=True)
                        if node.event is None
                        else Cell(step=number, values=[node.event]),
                        node.people,
                    ),
                )
                for node in step.nodes
            ]
            ended = tokens.written(Cell(step=number, dropped=True), step.ended)
            steps.append(replace(step, nodes=nodes, ended_token=ended))
        return replace(found, steps=steps, token=tokens.written(Cell(), found.people))

    async def _sessions(self, asked: ask.AskSessions, reading: Reading, tokens: Writer) -> list[SessionsSeries]:
        for days in SPANS_DAYS:
            question, around, events = _sessions(asked, reading, days)
            found = sessions.shape_cells(
                question, await self._answer.run(sessions.plan_cells(question, around, events))
            )
            if found.settled:
                break
        values = _values(found.series)

        def opening(one: SessionsSeries, cell: journeys.SessionsCell, begins: int | None) -> journeys.SessionsCell:
            return replace(cell, token=tokens.written(_cell(one, values, interval=begins, after=days), cell.people))

        begins = sessions.bounds(question)
        return [
            replace(
                one,
                total=opening(one, one.total, None),
                intervals=[opening(one, cell, at) for at, cell in zip(begins, one.intervals, strict=False)],
            )
            for one in found.series
        ]

    async def _trend(self, asked: ask.AskTrend, reading: Reading, tokens: Writer) -> list[TrendSeries]:
        _check_series(asked)
        series: list[TrendSeries] = []
        for number in range(len(asked.series)):
            question, events, told = _trend(asked, reading, number)
            found = await self._answer.run(trend.plan_points(question, events, told=told))
            shaped = trend.shape_points(question, asked.series[number].name, found, reading.now)
            series += _opening(shaped, trend.bounds(question), number, tokens)
        return series

    async def _top(self, asked: ask.AskTop, reading: Reading, tokens: Writer) -> list[TrendSeries]:
        question, events = _top(asked, reading)
        found = await self._answer.run(trend.plan_points(question, events, told=True))
        return _opening(trend.shape_points(question, asked.of.name, found, reading.now), [], 0, tokens)

    # -- the people behind a number ------------------------------------------------------------------------------------

    def _behind(self, of: ask.AnyAsked, cell: Cell, reading: Reading) -> Sql:
        """The persons of a cell. raises QuestionError where the answer has no such cell"""
        try:
            return self._persons(of, cell, reading)
        except (IndexError, TypeError, ValueError, AssertionError):
            raise QuestionError("invalid_field", "token: its answer has no such number.", "token") from None

    def _persons(self, of: ask.AnyAsked, cell: Cell, reading: Reading) -> Sql:
        among: dict[str, Any] = {"values": cell.values, "others": cell.others}
        step = 0 if cell.step is None else cell.step
        match of:
            case ask.AskFunnel():
                steps, events, _ = _funnel(of, reading)
                if not 1 <= step <= steps.steps:
                    raise ValueError
                return funnel.persons(steps, events, step, dropped=cell.dropped, **among)
            case ask.AskRetention():
                cohorts, events, _ = _retention(of, reading)
                if not 0 <= step < len(retention.bounds(cohorts)) or not 0 <= (cell.after or 0) <= cohorts.periods:
                    raise ValueError
                return retention.persons(cohorts, events, step, cell.after, **among)
            case ask.AskFlow():
                next_, events = _flow(of, reading)
                if cell.step is None:
                    return flow.persons_at_all(next_, events)
                return flow.persons(next_, events, step, None if cell.dropped else cell.values, others=cell.others)
            case ask.AskSessions():
                runs, around, events = _sessions(of, reading, min(cell.after or 1, SPANS_DAYS[-1]))
                return sessions.persons(runs, around, events, cell.interval, **among)
            case ask.AskTrend():
                question, events, _ = _trend(of, reading, step)
                return trend.persons(question, events, cell.interval, **among)
            case ask.AskTop():
                question, events = _top(of, reading)
                return trend.persons(question, events, None, **among)
        raise AssertionError(of)


# What the wire form means.


def range_of(asked: ask.Asked, reading: Reading) -> tuple[int, int]:
    """[since, until) in ms. raises QuestionError"""
    since, until = _said(asked, reading)
    if until - since > reading.days_max * 86_400_000:
        raise QuestionError("too_costly", f"from: the range may be {reading.days_max} days long. Narrow it.", "from")
    return since, until


def _said(asked: ask.Asked, reading: Reading) -> tuple[int, int]:
    now = reading.now + 1
    if asked.last is not None and asked.last.rstrip().endswith(("d", "w")):
        if asked.from_ is not None or asked.to is not None:
            raise invalid("last", "goes with neither from nor to")
        return _days_ago(span(asked.last, "last") // 86_400_000 - 1, reading), now
    since, until = reading.moments(asked.from_, asked.to, asked.last, "")
    if until is None:
        until = now
    if since is None:
        since = _days_ago(DAYS_DEFAULT - 1, reading) if asked.to is None else until - DAYS_DEFAULT * 86_400_000
    if since >= until:
        raise invalid("from", "must be earlier than to, which is now where it is not said")
    return since, until


def _days_ago(days: int, reading: Reading) -> int:
    """Where the day begins, in the project's zone, so many days before today."""
    today = datetime.fromtimestamp(reading.now // 1000, reading.zone).date()
    try:
        begins = datetime.combine(today - timedelta(days=days), time(), reading.zone)
    except OverflowError:
        raise invalid("last", "is too long ago") from None
    return int(begins.timestamp() * 1000)


def _check_series(asked: ask.AskTrend) -> None:
    if not 1 <= len(asked.series) <= ask.SERIES_MAX:
        raise invalid("series", f"must be 1 to {ask.SERIES_MAX} series")


def _everywhere(asked: ask.Asked, reading: Reading) -> None:
    if reading.everywhere is ALWAYS and asked.where is not None:
        reading.everywhere = reading.condition(asked.where, "where")


def _told(asked: ask.Breakdown | None, reading: Reading) -> Told | None:
    if asked is None:
        return None
    if asked.person:
        raise invalid("breakdown.person", "is for top alone")
    return reading.told(asked, "breakdown")


def _funnel(asked: ask.AskFunnel, reading: Reading) -> tuple[Funnel, Sql, bool]:
    since, until = range_of(asked, reading)
    question = Funnel(
        project=reading.project,
        since=since,
        until=until,
        steps=len(asked.steps),
        order=asked.order,
        entry=asked.entry,
        window_ms=span(asked.window, "window"),
        exclusions=tuple(journeys.Excluded(one.after, one.before) for one in asked.exclusions),
        excluded=asked.excluded,
        **_broken(asked.breakdown, step=True),
    )
    journeys.check(question)
    _everywhere(asked, reading)
    met = [reading.selection(one, f"steps[{place}]") for place, one in enumerate(asked.steps)]
    met += [reading.selection(one, f"exclusions[{place}]") for place, one in enumerate(asked.exclusions)]
    told = _told(asked.breakdown, reading)
    return question, funnel.happening(question, reading, met, told), told is not None


def _retention(asked: ask.AskRetention, reading: Reading) -> tuple[Retention, Sql, bool]:
    since, until = range_of(asked, reading)
    question = Retention(
        project=reading.project,
        since=since,
        until=until,
        births=asked.births,
        returns=asked.returns,
        period=asked.period,
        rolling=asked.rolling,
        periods=asked.periods,
        zone=reading.zone.key,
        **_broken(asked.breakdown),
    )
    journeys.check(question)
    _everywhere(asked, reading)
    started = reading.selection(asked.start, "start")
    returned = started if asked.returned is None else reading.selection(asked.returned, "returned")
    told = _told(asked.breakdown, reading)
    return question, retention.happening(question, reading, started, returned, told), told is not None


def _flow(asked: ask.AskFlow, reading: Reading) -> tuple[Flow, Sql]:
    since, until = range_of(asked, reading)
    question = Flow(
        project=reading.project,
        since=since,
        until=until,
        direction=asked.direction,
        steps=asked.steps,
        window_ms=span(asked.window, "window"),
        merge_repeats=asked.merge_repeats,
        names=asked.names,
    )
    journeys.check(question)
    _everywhere(asked, reading)
    return question, flow.happening(question, reading, reading.selection(asked.of, "of"))


def _sessions(asked: ask.AskSessions, reading: Reading, days: int) -> tuple[Sessions, sessions.Span, Sql]:
    since, until = range_of(asked, reading)
    told = asked.breakdown if isinstance(asked.breakdown, ask.Breakdown) else None
    question = Sessions(
        project=reading.project,
        since=since,
        until=until,
        interval=asked.interval,
        zone=reading.zone.key,
        breakdown=FIRST_EVENT if told else asked.breakdown if isinstance(asked.breakdown, str) else None,
        values=told.values if told else asked.values,
    )
    if question.breakdown == FIRST_EVENT and told is None:
        raise invalid("breakdown", "must be entry_page, exit_page, or what the first event says: a property, a field …")
    journeys.check(question)
    _everywhere(asked, reading)
    met = ALWAYS if asked.having is None else reading.selection(asked.having, "having")
    around = sessions.Span.around(since, until, days)
    return question, around, sessions.happening(question, around, reading, met, _told(told, reading))


def _trend(asked: ask.AskTrend, reading: Reading, number: int) -> tuple[Trend, Sql, bool]:
    since, until = range_of(asked, reading)
    series = asked.series[number]
    question = Trend(
        project=reading.project,
        since=since,
        until=until,
        measure=series.measure,
        interval=asked.interval,
        zone=reading.zone.key,
        **_broken(asked.breakdown),
    )
    _everywhere(asked, reading)
    told = _told(asked.breakdown, reading)
    return question, _measured(question, series, reading, told, f"series[{number}]"), told is not None


def _top(asked: ask.AskTop, reading: Reading) -> tuple[Trend, Sql]:
    if asked.by.person and asked.include_cookieless:
        raise invalid("include_cookieless", "goes with no breakdown by person: cookieless visitors are none")
    since, until = range_of(asked, reading)
    question = Trend(
        project=reading.project,
        since=since,
        until=until,
        measure=asked.of.measure,
        interval=None,
        values=asked.by.values,
    )
    _everywhere(asked, reading)
    return question, _measured(question, asked.of, reading, reading.told(asked.by, "by"), "of")


def _measured(question: Trend, series: ask.Series, reading: Reading, told: Told | None, path: str) -> Sql:
    number: Value | None = None
    if series.measure in ask.NUMBERS:
        if series.of is None:
            raise invalid(f"{path}.of", f"is missing: the property whose {series.measure} is asked for")
        number = of_property(parts(series.of, f"{path}.of"))
    elif series.of is not None:
        raise invalid(f"{path}.of", f"goes with a measure of {', '.join(ask.NUMBERS)}")
    journeys.check(question)
    return trend.happening(question, reading, reading.selection(series, path), number, told)


def _broken(asked: ask.Breakdown | None, *, step: bool = False) -> dict[str, Any]:
    if asked is None:
        return {}
    if not step and asked.step != 1:
        raise invalid("breakdown.step", "is for funnels alone")
    return {"values": asked.values} | ({"breakdown_step": asked.step} if step else {})


# Tokens.


def _values(series: Sequence[journeys.Series]) -> list[str]:
    """What is told apart in an answer."""
    return [one.value for one in series if one.value is not None]


def _cell(one: journeys.Series, values: list[str], **cell: Any) -> Cell:
    if one.others:
        return Cell(values=values, others=True, **cell)
    return Cell(values=None if one.value is None else [one.value], **cell)


def _opening(series: list[TrendSeries], begins: Sequence[int], number: int, tokens: Writer) -> list[TrendSeries]:
    values = _values(series)

    def opening(one: TrendSeries, point: TrendPoint, at: int | None) -> TrendPoint:
        return replace(point, token=tokens.written(_cell(one, values, step=number, interval=at), point.people))

    return [
        replace(
            one,
            total=opening(one, one.total, None),
            points=[opening(one, point, at) for at, point in zip(begins, one.points, strict=False)],
        )
        for one in series
    ]
