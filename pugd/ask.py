"""A question as a program writes it, in JSON: which events, which people, when.

These Structs are the wire form and say nothing of how it is answered; query/ makes of them what journeys.py and SQL
need, and refuses what makes no sense by the name of its field. A **selection** is of events: by name, and by a
condition on them. A **condition** is of an event and whose it was: exactly one of its subjects (`property` … `ids`), or
`all`, `any`, `not` of other conditions, to any depth.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

Path = str | tuple[str, ...]
"""`address.city`, or `["address", "city"]` where a name has a dot in it."""

DEPTH_MAX = 20
DID_DEPTH_MAX = 4
"""Of what was done by those who did something, and so on, through segments too: each reads all events once more."""
CONDITIONS_MAX = 200
VALUES_IN_MAX = 1_000
"""Values of an `in`, ids of a fixed list times ten."""
IDS_MAX = 10_000
SERIES_MAX = 10

EQUAL, UNEQUAL, CONTAINS, MATCHES, SET, UNSET_ = "=", "!=", "contains", "matches", "set", "unset"
IN, NOT_IN, BETWEEN = "in", "not_in", "between"
BEFORE, AFTER, WITHIN_LAST = "before", "after", "within_last"
ORDERINGS = ("<", "<=", ">", ">=")
OPERATORS = (
    EQUAL, UNEQUAL, CONTAINS, "not_contains", MATCHES, "not_matches", SET, UNSET_, *ORDERINGS, BETWEEN, IN, NOT_IN,
    BEFORE, AFTER, WITHIN_LAST,
)  # fmt: skip
OPPOSITES = {UNEQUAL: EQUAL, "not_contains": CONTAINS, "not_matches": MATCHES, UNSET_: SET, NOT_IN: IN}
"""Each is true exactly where the other is not, of absent values too."""

NOW, EVENT = AS_OF = ("now", "event")
PERSON_FACTS = ("first_seen", "last_seen", "events", "identified")

EVENTS, PEOPLE, PER_PERSON = "events", "people", "per_person"
COUNTS = (EVENTS, PEOPLE, PER_PERSON)
NUMBERS = ("sum", "average", "min", "max", "median", "p90", "p95", "p99")
INTERVALS = ("hour", "day", "week", "month")


class _Form(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"not_": "not", "from_": "from"},
):
    pass


class Did(_Form, frozen=True, kw_only=True):
    """Did somebody do this, so often, in that time?"""

    event: str | tuple[str, ...] | None = None
    """Any of these names; null: any event."""
    where: Condition | None = None
    """Of each event."""
    op: str = ">="
    count: int = 1
    first: bool = False
    """The first time ever, rather than any, lies in that time."""
    last: str | None = None
    """Such as `30 d`, until now; or `from` and `to`; none of these: ever."""
    from_: str | None = None
    to: str | None = None


class Condition(_Form, frozen=True, kw_only=True):
    """Of an event, or of whom it is of."""

    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    not_: Condition | None = None
    property: Path | None = None
    context: Path | None = None
    field: str | None = None
    """What pugd itself knows of an event: `event`, `platform`, `url` … (query/values.py)."""
    trait: Path | None = None
    group: str | None = None
    """A type of groups: the groups that group calls put the person into."""
    person: str | None = None
    """One of PERSON_FACTS."""
    segment: str | None = None
    did: Did | None = None
    ids: tuple[str, ...] | None = None
    """People by any of their ids."""
    op: str | None = None
    """One of OPERATORS; `=` where only a value is given."""
    value: Any | UnsetType = UNSET
    as_of: str = NOW
    """Of a trait: its value now, or at the time of the event."""
    every: bool = False
    """Of a list: each of its items, rather than any."""


class Selection(_Form, frozen=True, kw_only=True):
    """Which events."""

    event: str | tuple[str, ...] | None = None
    where: Condition | None = None
    name: str | None = None
    """What to call it; nothing depends on it."""


class Exclusion(Selection, frozen=True, kw_only=True):
    """Events that must not happen after one step and before another, counted from 1."""

    after: int
    before: int


class Breakdown(_Form, frozen=True, kw_only=True):
    """By what to tell apart."""

    property: Path | None = None
    context: Path | None = None
    field: str | None = None
    trait: Path | None = None
    segment: str | None = None
    """In it (`true`) or not (`false`)."""
    person: bool = False
    """Each person; for `top`."""
    as_of: str = NOW
    values: int = 10
    step: int = 1
    """Of a funnel: whose event says it."""


class Asked(_Form, frozen=True, kw_only=True):
    """What all questions about a range of time have."""

    from_: str | None = None
    """RFC 3339, or a date of the project's time zone."""
    to: str | None = None
    """Not included; without it: until now."""
    last: str | None = None
    """Instead of from: `30 d` is today and the 29 days before it; `12 h` are the last twelve hours."""
    where: Condition | None = None
    """Of every event that is read."""
    include_bots: bool = False


class AskFunnel(Asked, frozen=True, kw_only=True):
    steps: tuple[Selection, ...]
    order: str = "ordered"
    entry: str = "first"
    window: str = "14 d"
    exclusions: tuple[Exclusion, ...] = ()
    excluded: str = "drop"
    breakdown: Breakdown | None = None
    compare: bool = False
    """The period before, of the same length, beside."""


class AskRetention(Asked, frozen=True, kw_only=True):
    start: Selection = Selection()
    returned: Selection | None = None
    """null: the same as start."""
    births: str = "first_ever"
    returns: str = "on"
    period: str = "week"
    rolling: bool = False
    periods: int = 11
    breakdown: Breakdown | None = None


class Named(_Form, frozen=True, kw_only=True):
    """What an event says of itself that it may be called by: one of these."""

    property: Path | None = None
    context: Path | None = None
    field: str | None = None


class AskFlow(Asked, frozen=True, kw_only=True):
    of: Selection = Selection()
    by: Named | None = None
    """What each event is called by, such as its path; null: its name."""
    direction: str = "after"
    steps: int = 5
    window: str = "14 d"
    merge_repeats: bool = False
    names: int = 10


class AskSessions(Asked, frozen=True, kw_only=True):
    having: Selection | None = None
    """Only sessions with such an event."""
    interval: str | None = None
    breakdown: str | Breakdown | None = None
    """`entry_page`, `exit_page`, or what the first event says."""
    values: int = 10
    compare: bool = False


class Series(Selection, frozen=True, kw_only=True):
    """One line of a trend."""

    measure: str = EVENTS
    """One of COUNTS, or of NUMBERS with `of`."""
    of: Path | None = None
    """The property whose numbers are measured."""


class _Counting(Asked, frozen=True, kw_only=True):
    include_cookieless: bool = False
    """Visitors without an id too, each day of one as somebody of its own."""


class AskTrend(_Counting, frozen=True, kw_only=True):
    series: tuple[Series, ...]
    interval: str | None = "day"
    breakdown: Breakdown | None = None
    compare: bool = False


class AskTop(_Counting, frozen=True, kw_only=True):
    by: Breakdown
    of: Series = Series()


class AskPeople(Asked, frozen=True, kw_only=True):
    """The people behind a number, or who meet a condition."""

    token: str | None = None
    of: Selection | None = None
    """Who did this in the range; null: everybody who meets `where`."""
    search: str = ""
    identified: bool | None = None
    sort: str = "-last_seen"
    """`first_seen`, `last_seen`, `events`, or of a trait `trait:plan`; with a `-` before it descending."""
    limit: int = 50
    cursor: str | None = None
    as_of: str | None = None


class AskTimeline(_Form, frozen=True, kw_only=True):
    """One person's timeline, of events that meet a condition, or around one, or before one."""

    person: str | None = None
    """Their id, `p_…`; or `distinct_id`."""
    distinct_id: str | None = None
    types: tuple[str, ...] = ("event", "traits", "link")
    """And `session`."""
    search: str = ""
    where: Condition | None = None
    """Of an event: only events then."""
    from_: str | None = None
    to: str | None = None
    around: str | None = None
    """An entry's id."""
    before: Selection | None = None
    """Only what came before the first such event."""
    order: str = "desc"
    limit: int = 50
    cursor: str | None = None


CSV, JSONL, PARQUET = FORMATS = ("csv", "jsonl", "parquet")
TRAITS_MAX = 200


class ExportPeople(Asked, frozen=True, kw_only=True):
    """People as a table: whom `ask/people` lists, all of them."""

    token: str | None = None
    of: Selection | None = None
    """Who did this in the range; null: everybody who meets `where`."""
    search: str = ""
    identified: bool | None = None
    format: str = CSV
    """`csv`, `jsonl` or `parquet`."""
    traits: tuple[str, ...] | None = None
    """Each of these as a column of its own; null: all of them as JSON in one."""


class ExportEvents(Asked, frozen=True, kw_only=True):
    """Events as a table: those in the range that meet `of` and `where`."""

    of: Selection | None = None
    """Which events; null: all."""
    token: str | None = None
    """Only those of the people behind a number."""
    format: str = CSV
    """`csv`, `jsonl` or `parquet`."""


AnyAsked = AskFunnel | AskRetention | AskFlow | AskSessions | AskTrend | AskTop
JOURNEYS: dict[str, type[AnyAsked]] = {
    "funnel": AskFunnel,
    "retention": AskRetention,
    "flow": AskFlow,
    "sessions": AskSessions,
    "trend": AskTrend,
    "top": AskTop,
}
"""By their names in paths and tokens."""


class Fixed(msgspec.Struct, frozen=True):
    """A segment that is a list: whoever has one of these actors."""

    actors: tuple[int, ...]


AnySegment = Condition | Fixed


def segments_of(asked: object) -> set[str]:
    """The segments that a question or a condition names itself, at any depth."""
    found: set[str] = set()
    if isinstance(asked, msgspec.Struct):
        for name in asked.__struct_fields__:
            inner = getattr(asked, name)
            if name == "segment" and isinstance(inner, str):
                found.add(inner)
            else:
                found |= segments_of(inner)
    elif isinstance(asked, tuple):
        for one in asked:
            found |= segments_of(one)
    return found
