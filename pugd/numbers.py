"""The numbers of a question about many people: its statements run, its rows shaped, each number given its token.

What is asked has been understood (query/meaning.py); a token is the question with the cell of its answer that the
number stands in (query/tokens.py), and opens into the persons that were counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from pugd import ask, journeys
from pugd.journeys import (
    AnyJourneyAnswer,
    FlowAnswer,
    FlowFound,
    FunnelAnswer,
    FunnelSeries,
    RetentionAnswer,
    RetentionSeries,
    SessionsAnswer,
    SessionsSeries,
    TopAnswer,
    TrendAnswer,
    TrendPoint,
    TrendSeries,
)
from pugd.query import flow, funnel, meaning, retention, sessions, times, trend
from pugd.query.reading import Reading
from pugd.query.sql import Plan
from pugd.query.tokens import Cell, Writer

Run = Callable[[Plan], Awaitable[Any]]


class Numbers:
    """Those of one answer."""

    def __init__(self, run: Run, reading: Reading, tokens: Writer) -> None:
        self._run = run
        self._reading = reading
        self._tokens = tokens

    async def answer(self, asked: ask.AnyAsked, common: dict[str, Any]) -> AnyJourneyAnswer:
        """`common`: what every answer has beside its numbers.

        raises   QuestionError, StoreUnavailableError, StoreError
        """
        match asked:
            case ask.AskFunnel():
                steps = await self._funnel(asked)
                return FunnelAnswer(series=steps, previous=await self._before(Numbers._funnel, asked), **common)
            case ask.AskRetention():
                return RetentionAnswer(series=await self._retention(asked), **common)
            case ask.AskFlow():
                return FlowAnswer(flow=await self._flow(asked), **common)
            case ask.AskSessions():
                found = await self._sessions(asked)
                return SessionsAnswer(series=found, previous=await self._before(Numbers._sessions, asked), **common)
            case ask.AskTrend():
                series = await self._trend(asked)
                return TrendAnswer(series=series, previous=await self._before(Numbers._trend, asked), **common)
            case ask.AskTop():
                return TopAnswer(rows=await self._top(asked), **common)
        raise AssertionError(asked)

    async def _before(self, of: Any, asked: Any) -> Any:
        """The same of the period before, of the same length."""
        if not asked.compare:
            return None
        since, until = meaning.range_of(asked, self._reading)
        earlier = replace(asked, from_=times.text(since - (until - since)), to=times.text(since), compare=False)
        return await of(Numbers(self._run, self._reading, self._tokens.of(earlier)), earlier)

    async def _funnel(self, asked: ask.AskFunnel) -> list[FunnelSeries]:
        question, events, told = meaning.funnel_of(asked, self._reading)
        found = await self._run(funnel.plan_steps(question, events, told=told))
        series = funnel.shape_steps(question, found)
        values = _values(series)
        return [
            replace(
                one,
                steps=[
                    replace(
                        step,
                        token=self._token(one, values, step.people, step=number),
                        dropped_token=self._token(one, values, step.dropped, step=number, dropped=True)
                        if number < len(one.steps)
                        else None,
                    )
                    for number, step in enumerate(one.steps, 1)
                ],
            )
            for one in series
        ]

    async def _retention(self, asked: ask.AskRetention) -> list[RetentionSeries]:
        question, events, told = meaning.retention_of(asked, self._reading)
        found = await self._run(retention.plan_cells(question, events, told=told))
        series = retention.shape_cells(question, found, self._reading.now)
        values = _values(series)
        return [
            replace(
                one,
                cohorts=[
                    replace(
                        cohort,
                        token=self._token(one, values, cohort.size, step=number),
                        cells=[
                            replace(cell, token=self._token(one, values, cell.people, step=number, after=after))
                            for after, cell in enumerate(cohort.cells)
                        ],
                    )
                    for number, cohort in enumerate(one.cohorts)
                ],
            )
            for one in series
        ]

    async def _flow(self, asked: ask.AskFlow) -> FlowFound:
        question, events = meaning.flow_of(asked, self._reading)
        found = flow.shape_links(question, await self._run(flow.plan_links(question, events)))
        steps = []
        for number, step in enumerate(found.steps, 1):
            names = [node.event for node in step.nodes if node.event is not None]
            nodes = [
                replace(
                    node,
                    token=self._tokens.written(
                        Cell(step=number, values=names, others=True)
                        if node.event is None
                        else Cell(step=number, values=[node.event]),
                        node.people,
                    ),
                )
                for node in step.nodes
            ]
            ended = self._tokens.written(Cell(step=number, dropped=True), step.ended)
            steps.append(replace(step, nodes=nodes, ended_token=ended))
        return replace(found, steps=steps, token=self._tokens.written(Cell(), found.people))

    async def _sessions(self, asked: ask.AskSessions) -> list[SessionsSeries]:
        for days in meaning.SPANS_DAYS:
            question, around, events = meaning.sessions_of(asked, self._reading, days)
            found = sessions.shape_cells(question, await self._run(sessions.plan_cells(question, around, events)))
            if found.settled:
                break
        values = _values(found.series)

        def opening(one: SessionsSeries, cell: journeys.SessionsCell, begins: int | None) -> journeys.SessionsCell:
            return replace(cell, token=self._token(one, values, cell.people, interval=begins, after=days))

        begins = sessions.bounds(question)
        return [
            replace(
                one,
                total=opening(one, one.total, None),
                intervals=[opening(one, cell, at) for at, cell in zip(begins, one.intervals, strict=False)],
            )
            for one in found.series
        ]

    async def _trend(self, asked: ask.AskTrend) -> list[TrendSeries]:
        meaning.check_series(asked)
        series: list[TrendSeries] = []
        for number in range(len(asked.series)):
            question, events, told = meaning.trend_of(asked, self._reading, number)
            found = await self._run(trend.plan_points(question, events, told=told))
            shaped = trend.shape_points(question, asked.series[number].name, found, self._reading.now)
            series += self._points(shaped, trend.bounds(question), number)
        return series

    async def _top(self, asked: ask.AskTop) -> list[TrendSeries]:
        question, events = meaning.top_of(asked, self._reading)
        found = await self._run(trend.plan_points(question, events, told=True))
        return self._points(trend.shape_points(question, asked.of.name, found, self._reading.now), [], 0)

    def _points(self, series: list[TrendSeries], begins: Sequence[int], number: int) -> list[TrendSeries]:
        """A trend's, opened: its `number`th series, values told apart."""
        values = _values(series)

        def opening(one: TrendSeries, point: TrendPoint, at: int | None) -> TrendPoint:
            return replace(point, token=self._token(one, values, point.people, step=number, interval=at))

        return [
            replace(
                one,
                total=opening(one, one.total, None),
                points=[opening(one, point, at) for at, point in zip(begins, one.points, strict=False)],
            )
            for one in series
        ]

    def _token(self, one: journeys.Series, values: list[str], people: int, **cell: Any) -> str:
        """What opens a number of one of the series; `values`: those of all."""
        if one.others:
            return self._tokens.written(Cell(values=values, others=True, **cell), people)
        return self._tokens.written(Cell(values=None if one.value is None else [one.value], **cell), people)


def _values(series: Sequence[journeys.Series]) -> list[str]:
    """What is told apart in an answer."""
    return [one.value for one in series if one.value is not None]
