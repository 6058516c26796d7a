"""What a question about many people means: of the wire form (ask.py) the question (journeys.py), the events that it
reads, and the persons who stand behind each number of its answer.

Everything that depends on the wire form alone is checked here, and nothing is run: a reading (reading.py) says whose
events, as of when, and by which segments. A `…_of` returns the question and its events; where it returns a third, that
says whether values are told apart. All raise QuestionError, which names the field that is wrong.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from pugd import ask, journeys
from pugd.journeys import FIRST_EVENT, Flow, Funnel, Retention, Sessions, Trend
from pugd.query import flow, funnel, retention, sessions, trend
from pugd.query.conditions import ALWAYS
from pugd.query.reading import Reading, Told
from pugd.query.sql import Sql
from pugd.query.tokens import Cell
from pugd.query.values import Value, invalid, of_property, parts, span
from pugd.question import QuestionError

DAYS_DEFAULT = 30
"""Of a range that is not said."""
SPANS_DAYS = (1, 8, 64, 366)
"""How far around a range sessions are read, until nothing outside can change one: nearly always a day does."""


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


def check(asked: ask.AnyAsked, reading: Reading) -> None:
    """Can this be asked?"""
    match asked:
        case ask.AskFunnel():
            funnel_of(asked, reading)
        case ask.AskRetention():
            retention_of(asked, reading)
        case ask.AskFlow():
            flow_of(asked, reading)
        case ask.AskSessions():
            sessions_of(asked, reading, SPANS_DAYS[0])
        case ask.AskTop():
            top_of(asked, reading)
        case ask.AskTrend():
            check_series(asked)
            for number in range(len(asked.series)):
                trend_of(asked, reading, number)


def behind(of: ask.AnyAsked, cell: Cell, reading: Reading) -> Sql:
    """The persons of a cell. raises QuestionError where the answer has no such cell"""
    try:
        return _persons(of, cell, reading)
    except (IndexError, TypeError, ValueError, AssertionError):
        raise QuestionError("invalid_field", "token: its answer has no such number.", "token") from None


def _persons(of: ask.AnyAsked, cell: Cell, reading: Reading) -> Sql:
    among: dict[str, Any] = {"values": cell.values, "others": cell.others}
    step = 0 if cell.step is None else cell.step
    match of:
        case ask.AskFunnel():
            steps, events, _ = funnel_of(of, reading)
            if not 1 <= step <= steps.steps:
                raise ValueError
            return funnel.persons(steps, events, step, dropped=cell.dropped, **among)
        case ask.AskRetention():
            cohorts, events, _ = retention_of(of, reading)
            if not 0 <= step < len(retention.bounds(cohorts)) or not 0 <= (cell.after or 0) <= cohorts.periods:
                raise ValueError
            return retention.persons(cohorts, events, step, cell.after, **among)
        case ask.AskFlow():
            next_, events = flow_of(of, reading)
            if cell.step is None:
                return flow.persons_at_all(next_, events)
            return flow.persons(next_, events, step, None if cell.dropped else cell.values, others=cell.others)
        case ask.AskSessions():
            runs, around, events = sessions_of(of, reading, min(cell.after or 1, SPANS_DAYS[-1]))
            return sessions.persons(runs, around, events, cell.interval, **among)
        case ask.AskTrend():
            question, events, _ = trend_of(of, reading, step)
            return trend.persons(question, events, cell.interval, **among)
        case ask.AskTop():
            question, events = top_of(of, reading)
            return trend.persons(question, events, None, **among)
    raise AssertionError(of)


def check_series(asked: ask.AskTrend) -> None:
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


def funnel_of(asked: ask.AskFunnel, reading: Reading) -> tuple[Funnel, Sql, bool]:
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


def retention_of(asked: ask.AskRetention, reading: Reading) -> tuple[Retention, Sql, bool]:
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


def flow_of(asked: ask.AskFlow, reading: Reading) -> tuple[Flow, Sql]:
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
    said = None if asked.by is None else _said_by(asked.by, reading)
    return question, flow.happening(question, reading, reading.selection(asked.of, "of"), said)


def _said_by(by: ask.Named, reading: Reading) -> Sql | None:
    if [by.property, by.context, by.field].count(None) != 2:
        raise invalid("by", "must have exactly one of property, context and field")
    return reading.told(ask.Breakdown(property=by.property, context=by.context, field=by.field), "by").row


def sessions_of(asked: ask.AskSessions, reading: Reading, days: int) -> tuple[Sessions, sessions.Span, Sql]:
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


def trend_of(asked: ask.AskTrend, reading: Reading, number: int) -> tuple[Trend, Sql, bool]:
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


def top_of(asked: ask.AskTop, reading: Reading) -> tuple[Trend, Sql]:
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
