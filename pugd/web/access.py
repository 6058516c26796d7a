"""What the console is handed: who answers questions, who knows keys and logins, how the process is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pugd.ask import AnyAsked, AskPeople, AskTimeline, Condition, ExportEvents, ExportPeople
from pugd.journeys import AnyJourneyAnswer
from pugd.kept import MembershipsAnswer, Segment, Size
from pugd.model import Project
from pugd.question import (
    Explain,
    ExplainAnswer,
    Merge,
    MergeAnswer,
    OnePerson,
    People,
    PeopleAnswer,
    PersonAnswer,
    Refusals,
    RefusalsAnswer,
    RefusedEvents,
    RefusedEventsAnswer,
    Timeline,
    TimelineAnswer,
    Unlink,
    UnlinkAnswer,
)
from pugd.schema import Schema, SchemaAnswer


class Asker(Protocol):
    """`answer.Answer`."""

    @property
    def actor(self) -> Actor: ...

    async def people(self, question: People, *, stale: bool = False) -> PeopleAnswer: ...

    async def person(self, question: OnePerson, *, stale: bool = False) -> PersonAnswer: ...

    async def timeline(self, question: Timeline, *, stale: bool = False) -> TimelineAnswer: ...

    async def refusals(self, question: Refusals, *, stale: bool = False) -> RefusalsAnswer: ...

    async def refused_events(self, question: RefusedEvents) -> RefusedEventsAnswer: ...

    async def schema(self, question: Schema, *, stale: bool = False) -> SchemaAnswer: ...

    async def explain(self, question: Explain) -> ExplainAnswer: ...

    async def unlink(self, question: Unlink) -> UnlinkAnswer: ...

    async def merge(self, question: Merge) -> MergeAnswer: ...


class Crowd(Protocol):
    """`everyone.Everyone`."""

    async def journey(self, project: Project, asked: AnyAsked, *, stale: bool = False) -> AnyJourneyAnswer: ...

    async def people(self, project: Project, asked: AskPeople, *, stale: bool = False) -> PeopleAnswer: ...

    async def timeline(self, project: Project, asked: AskTimeline, *, stale: bool = False) -> TimelineAnswer: ...

    async def check_rule(self, project: Project, name: str, rule: Condition) -> None: ...

    async def check_question(self, project: Project, asked: AnyAsked | AskPeople) -> None: ...

    async def size(self, project: Project, rule: Condition, *, stale: bool = False) -> Size: ...

    async def memberships(
        self, project: Project, actor: int, kept: Sequence[Segment], *, stale: bool = False
    ) -> MembershipsAnswer: ...

    async def ids(self, project: Project, asked: AskPeople) -> tuple[int, ...]: ...


class Table(Protocol):
    """`exports.Export`: to be read until it is empty, and closed."""

    name: str
    media_type: str

    async def read(self) -> bytes: ...

    async def close(self) -> None: ...


class Exporter(Protocol):
    """`exports.Exports`."""

    async def people(self, project: Project, asked: ExportPeople, *, stale: bool = False) -> Table: ...

    async def events(self, project: Project, asked: ExportEvents, *, stale: bool = False) -> Table: ...


class Actor(Protocol):
    """The actor of a distinct id."""

    def __call__(self, project: int, distinct_id: str, /) -> int: ...


class Access(Protocol):
    """`control.Control`, as far as the console needs it. Each may wait for Postgres: ControlError where it is away."""

    async def check_read_key(self, key: str) -> Project | None: ...

    async def redeem_login(self, token: str) -> str | None:
        """A one-time login token → the session text that goes into the cookie; None where it is unknown or used."""

    async def check_session(self, session: str) -> Project | None: ...

    async def end_session(self, session: str) -> None: ...

    async def change_zone(self, project: int, name: str) -> Project:
        """Give a project another time zone. raises QuestionError where there is none of that name"""

    async def write_key(self, project: int) -> str | None:
        """A public write key to show a newcomer in the first `curl` line."""


class Health(msgspec.Struct, frozen=True):
    """Can an ack be kept and a question be answered?"""

    ready: bool
    reasons: dict[str, str] = {}
    """What stands against it: a stable word → what that means."""
