"""What is asked of many persons' events in their order, and what is answered: funnel, retention, flow, sessions.

As in question.py, a question is complete: times are milliseconds since 1970 (UTC), a range is `[since, until)`, and
`check` has seen that it makes sense. Which events a step means is not here: whoever plans is given one condition for
each. An answer's times are RFC 3339, its durations milliseconds; a share is of 1, and null where nobody could.
"""

from __future__ import annotations

import msgspec

from pugd.ask import COUNTS, INTERVALS, NUMBERS
from pugd.question import LeftOut, QuestionError

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS

STEPS_MIN, STEPS_MAX = 2, 20
EXCLUSIONS_MAX = 20
WINDOW_MS_DEFAULT, WINDOW_MS_MAX = 14 * DAY_MS, 366 * DAY_MS
VALUES_DEFAULT, VALUES_MAX = 10, 100
"""Values of a breakdown that are told apart; all that are rarer are others."""

ORDERED, STRICT, ANY = FUNNEL_ORDERS = ("ordered", "strict", "any")
FIRST, BEST = ENTRIES = ("first", "best")
DROP, LEAVE_OUT = EXCLUDED = ("drop", "leave_out")

FIRST_EVER, FIRST_IN_RANGE, RECURRING = BIRTHS = ("first_ever", "first_in_range", "recurring")
ON, ON_OR_AFTER = RETURNS = ("on", "on_or_after")
PERIODS = ("day", "week", "month")
PERIODS_MAX = 366

AFTER, BEFORE = DIRECTIONS = ("after", "before")
FLOW_STEPS_MAX = 10
NAMES_DEFAULT, NAMES_MAX = 10, 50

POINTS_MAX = 1_500
INTERVAL_MS_MIN = {"hour": 60 * MINUTE_MS, "day": 23 * 60 * MINUTE_MS, "week": 7 * DAY_MS, "month": 28 * DAY_MS}
"""Of the shortest of its kind, near enough to bound how many there are."""

ENTRY_PAGE, EXIT_PAGE, FIRST_EVENT = SESSION_VALUES = ("entry_page", "exit_page", "first_event")


class Excluded(msgspec.Struct, frozen=True):
    """An event that must not happen between two steps, counted from 1."""

    after: int
    before: int


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """How many persons come from step to step."""

    project: int
    since: int
    until: int
    steps: int
    order: str = ORDERED
    entry: str = FIRST
    window_ms: int = WINDOW_MS_DEFAULT
    exclusions: tuple[Excluded, ...] = ()
    excluded: str = DROP
    breakdown_step: int = 1
    """Whose event says the value, counted from 1."""
    values: int = VALUES_DEFAULT


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Of those who began in one period, how many came back in which later one."""

    project: int
    since: int
    until: int
    births: str = FIRST_EVER
    returns: str = ON
    period: str = "week"
    rolling: bool = False
    """Periods of 24 hours, 7 or 30 days from each person's own birth, instead of the calendar's."""
    periods: int = 11
    """How many after the birth's own."""
    zone: str = "UTC"
    values: int = VALUES_DEFAULT


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What persons did right after, or before, an event."""

    project: int
    since: int
    until: int
    direction: str = AFTER
    steps: int = 5
    window_ms: int = WINDOW_MS_DEFAULT
    merge_repeats: bool = False
    names: int = NAMES_DEFAULT
    """Told apart at each step; all that are rarer there are others."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions there were, and what they were like."""

    project: int
    since: int
    until: int
    interval: str | None = None
    """'day', 'week' or 'month', of the zone; None: the range as a whole."""
    zone: str = "UTC"
    breakdown: str | None = None
    """One of SESSION_VALUES; FIRST_EVENT: what its first event says."""
    values: int = VALUES_DEFAULT


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How much of something there was, over time, or told apart by a value."""

    project: int
    since: int
    until: int
    measure: str
    """One of ask.COUNTS, or of ask.NUMBERS: of the numbers that events say."""
    interval: str | None = "day"
    """One of ask.INTERVALS, of the zone; None: the range as a whole."""
    zone: str = "UTC"
    values: int = VALUES_DEFAULT


AnyJourney = Funnel | Retention | Flow | Sessions | Trend


def check(question: AnyJourney) -> None:
    """raises   QuestionError that names the field and what would be right"""
    _require(question.since < question.until, "to", "must be later than from")
    match question:
        case Funnel():
            _require(STEPS_MIN <= question.steps <= STEPS_MAX, "steps", f"must be {STEPS_MIN} to {STEPS_MAX} events")
            _choice("order", question.order, FUNNEL_ORDERS)
            _choice("entry", question.entry, ENTRIES)
            _choice("excluded", question.excluded, EXCLUDED)
            _window(question.window_ms)
            _require(1 <= question.breakdown_step <= question.steps, "breakdown.step", f"must be 1 to {question.steps}")
            _require(len(question.exclusions) <= EXCLUSIONS_MAX, "exclusions", f"at most {EXCLUSIONS_MAX}")
            _require(
                question.order == ORDERED or not question.exclusions,
                "exclusions",
                "go with order = ordered only: a strict funnel has nothing between its steps, and in any order there"
                " is no between",
            )
            for one in question.exclusions:
                _require(
                    1 <= one.after < one.before <= question.steps,
                    "exclusions",
                    f"must lie between two steps: after 1 or later, before {question.steps} or earlier",
                )
        case Retention():
            _choice("births", question.births, BIRTHS)
            _choice("returns", question.returns, RETURNS)
            _choice("period", question.period, PERIODS)
            _require(0 <= question.periods <= PERIODS_MAX, "periods", f"must be 0 to {PERIODS_MAX}")
        case Flow():
            _choice("direction", question.direction, DIRECTIONS)
            _require(1 <= question.steps <= FLOW_STEPS_MAX, "steps", f"must be 1 to {FLOW_STEPS_MAX}")
            _require(1 <= question.names <= NAMES_MAX, "names", f"must be 1 to {NAMES_MAX}")
            _window(question.window_ms)
        case Sessions():
            _require(question.interval in (None, *PERIODS), "interval", f"must be one of {', '.join(PERIODS)}")
            _require(
                question.breakdown in (None, *SESSION_VALUES),
                "breakdown",
                f"must be one of {', '.join(SESSION_VALUES)}",
            )
        case Trend():
            _choice("measure", question.measure, (*COUNTS, *NUMBERS))
            _require(question.interval in (None, *INTERVALS), "interval", f"must be one of {', '.join(INTERVALS)}")
            length = INTERVAL_MS_MIN.get(question.interval or "", question.until)
            _require(
                (question.until - question.since) // length < POINTS_MAX,
                "interval",
                f"at most {POINTS_MAX} {question.interval}s: ask for a shorter range, or longer intervals",
            )
    if not isinstance(question, Flow):
        _require(1 <= question.values <= VALUES_MAX, "breakdown.values", f"must be 1 to {VALUES_MAX}")


def _require(holds: bool, field: str, right: str) -> None:
    if not holds:
        raise QuestionError("invalid_field", f"{field}: {right}.", field)


def _choice(field: str, said: str, allowed: tuple[str, ...]) -> None:
    _require(said in allowed, field, f"must be one of {', '.join(allowed)}")


def _window(window_ms: int) -> None:
    _require(0 < window_ms <= WINDOW_MS_MAX, "window", "must be longer than nothing and at most 366 days")


# Answers.


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one value of a breakdown."""

    value: str | None = None
    """null: of all values together, or of those that are not told apart."""
    others: bool = False


class Durations(msgspec.Struct, frozen=True):
    """How long it took, in milliseconds; between the two nearest where a share falls between."""

    average: float
    median: float
    p90: float
    p99: float


class FunnelStep(msgspec.Struct, frozen=True, kw_only=True):
    people: int
    of_first: float | None
    of_previous: float | None
    dropped: int
    """Of those at this step, who did not come to the next; 0 at the last."""
    since_first: Durations | None
    since_previous: Durations | None
    token: str | None = None
    """Opens into these people: POST /v1/ask/people. So do all tokens below."""
    dropped_token: str | None = None


class FunnelSeries(Series, frozen=True, kw_only=True):
    steps: list[FunnelStep]


class Cell(msgspec.Struct, frozen=True):
    people: int
    rate: float | None
    finished: bool
    """The period is over for everybody in the cohort."""
    token: str | None = None


class Cohort(msgspec.Struct, frozen=True):
    begins: str
    """Of the period; births before the range's beginning are not in it."""
    size: int
    cells: list[Cell]
    """From the birth's own period on, as far as they have begun."""
    token: str | None = None


class RetentionSeries(Series, frozen=True, kw_only=True):
    cohorts: list[Cohort]
    average: list[float | None]
    """Of each period: all who came back by all who could have, in cohorts that have finished it."""


class FlowNode(msgspec.Struct, frozen=True):
    event: str | None
    """Its name, or what it was asked to be called by; null: others."""
    people: int
    token: str | None = None


class FlowLink(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    before: str | None
    after: str | None
    people: int


class FlowStep(msgspec.Struct, frozen=True):
    nodes: list[FlowNode]
    links: list[FlowLink]
    """From the step before."""
    ended: int
    """Who had come as far as the step before, and went no further."""
    ended_token: str | None = None


class FlowFound(msgspec.Struct, frozen=True):
    people: int
    steps: list[FlowStep]
    token: str | None = None


class SessionsCell(msgspec.Struct, frozen=True, kw_only=True):
    begins: str | None
    """Of the interval; null: the whole range."""
    sessions: int
    people: int
    events: int
    events_per_session: float | None
    bounces: int
    """Sessions of one event."""
    bounce_rate: float | None
    duration: Durations | None
    token: str | None = None


class SessionsSeries(Series, frozen=True, kw_only=True):
    total: SessionsCell
    intervals: list[SessionsCell]


class TrendPoint(msgspec.Struct, frozen=True, kw_only=True):
    begins: str | None
    """Of the interval; null: the whole range."""
    value: float | None
    """The measure; null where there is nothing to measure."""
    events: int
    people: int
    finished: bool
    """The interval is over."""
    token: str | None = None


class TrendSeries(Series, frozen=True, kw_only=True):
    name: str | None = None
    measure: str
    total: TrendPoint
    points: list[TrendPoint]


class Range(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """What a question was asked of."""

    since: str
    until: str
    zone: str


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all answers have."""

    range: Range
    asked_at: str
    left_out: LeftOut
    """Events in the range that no question counts."""
    stored_until: str | None = None
    """Only where a stale answer was allowed and given: nothing received later is in it."""


class FunnelAnswer(Answered, frozen=True, kw_only=True):
    series: list[FunnelSeries]
    previous: list[FunnelSeries] | None = None
    """Of the period before, of the same length."""


class RetentionAnswer(Answered, frozen=True, kw_only=True):
    series: list[RetentionSeries]


class FlowAnswer(Answered, frozen=True, kw_only=True):
    flow: FlowFound


class SessionsAnswer(Answered, frozen=True, kw_only=True):
    series: list[SessionsSeries]
    previous: list[SessionsSeries] | None = None


class TrendAnswer(Answered, frozen=True, kw_only=True):
    series: list[TrendSeries]
    previous: list[TrendSeries] | None = None


class TopAnswer(Answered, frozen=True, kw_only=True):
    rows: list[TrendSeries]
    """The whole first, then each value, the others last."""


AnyJourneyAnswer = FunnelAnswer | RetentionAnswer | FlowAnswer | SessionsAnswer | TrendAnswer | TopAnswer
