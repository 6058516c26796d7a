"""What a project keeps by name: segments and saved questions, as programs write and read them.

Each has versions: a change makes the next, and every one stays, with when and by whom. A **segment** of kind `rule` is
whoever meets its condition, each time anew; one of kind `fixed` is a list of ids that were once in it (their actors),
and whoever has one of them now. A **saved question** is what /v1/ask takes, with its kind.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from pugd.ask import JOURNEYS, AnyAsked, AskPeople, Condition
from pugd.question import QuestionError

RULE, FIXED = "rule", "fixed"
QUESTIONS: dict[str, type[AnyAsked | AskPeople]] = {**JOURNEYS, "people": AskPeople}
"""Saved questions by their kind."""

NAME_LENGTH_MAX = 100
DESCRIPTION_LENGTH_MAX = 1_000
SEGMENTS_MAX = 500
QUESTIONS_MAX = 1_000
"""Of one project."""
FIXED_IDS_MAX = 100_000
"""Ids of a fixed segment."""
PREVIEW = 5
"""People that a preview shows."""

NOT_KEPT, NAME_TAKEN, CHANGED, IN_USE, TOO_MANY = ("not_found", "name_taken", "changed_meanwhile", "in_use", "too_many")


class KeptError(QuestionError):
    """What is kept by that name is not what the asker thought: `code` is one of the above."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ChangedProject(_Body, frozen=True, kw_only=True):
    """What a project is like."""

    time_zone: str
    """A name of the IANA database, such as `Europe/Berlin`."""


class NewSegment(_Body, frozen=True, kw_only=True):
    name: str
    rule: Condition
    description: str = ""


class ChangedSegment(_Body, frozen=True, kw_only=True):
    """What is not given stays."""

    rule: Condition | UnsetType = UNSET
    description: str | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    if_version: int | None = None
    """Only if this is the version now."""


class Previewed(_Body, frozen=True, kw_only=True):
    rule: Condition


class NewFixed(_Body, frozen=True, kw_only=True):
    """A fixed segment of who is somewhere now."""

    name: str
    description: str = ""


class NewFixedOfToken(NewFixed, frozen=True, kw_only=True):
    token: str


class NewQuestion(_Body, frozen=True, kw_only=True):
    name: str
    kind: str
    question: msgspec.Raw
    description: str = ""


class ChangedQuestion(_Body, frozen=True, kw_only=True):
    """What is not given stays."""

    kind: str | UnsetType = UNSET
    question: msgspec.Raw | UnsetType = UNSET
    description: str | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    if_version: int | None = None


class Version(msgspec.Struct, frozen=True):
    """One of a segment or of a saved question; the fields of the other are left out."""

    version: int
    description: str
    archived: bool
    at: str
    by: str
    """`console`, or a read key as it is shown."""
    rule: Condition | UnsetType | None = UNSET
    kind: str | UnsetType = UNSET
    question: Any | UnsetType = UNSET


class Users(msgspec.Struct, frozen=True):
    """Who uses a segment, by name."""

    segments: list[str]
    questions: list[str]


class Segment(msgspec.Struct, frozen=True):
    name: str
    description: str
    version: int
    kind: str
    rule: Condition | None
    """None of a fixed one."""
    ids: int | None
    """How many ids a fixed one has."""
    archived: bool
    created_at: str
    updated_at: str
    updated_by: str


class Size(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many people are in a segment."""

    people: int
    asked_at: str
    stored_until: str | None = None


class SavedQuestion(msgspec.Struct, frozen=True):
    name: str
    description: str
    version: int
    kind: str
    question: AnyAsked | AskPeople
    archived: bool
    created_at: str
    updated_at: str
    updated_by: str


class Stay(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A time in a segment: from its first millisecond on, before that of `to`; null: until now."""

    from_: str
    to: str | None


class Membership(msgspec.Struct, frozen=True):
    """Somebody in a segment."""

    name: str
    kind: str
    since: str | None
    """Null: it cannot be told."""
    stays: list[Stay]
    """All of them, the newest first, at most STAYS_MAX."""


STAYS_MAX = 100


class MembershipsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which segments somebody is in."""

    person: str
    segments: list[Membership]
    asked_at: str
    stored_until: str | None = None


def check_name(name: str) -> None:
    """raises   QuestionError"""
    if (
        not 1 <= len(name) <= NAME_LENGTH_MAX
        or name != name.strip()
        or not name.isprintable()
        or "/" in name
        or name in (".", "..")
    ):
        raise QuestionError(
            "invalid_field",
            f"name: must be 1 to {NAME_LENGTH_MAX} characters that can be seen, no / and no blank at either end.",
            "name",
        )


def check_description(text: str | UnsetType) -> None:
    """raises   QuestionError"""
    if isinstance(text, str) and (len(text) > DESCRIPTION_LENGTH_MAX or "\0" in text):
        raise QuestionError(
            "invalid_field", f"description: must be at most {DESCRIPTION_LENGTH_MAX} characters.", "description"
        )


def not_kept(what: str, name: str) -> KeptError:
    return KeptError(
        NOT_KEPT, f"There is no {what} {name[:NAME_LENGTH_MAX]!r}; GET /v1/{what.split()[-1]}s lists them.", "name"
    )


def check_version(given: int | None, present: int) -> None:
    """raises   KeptError where somebody else changed it"""
    if given is not None and given != present:
        raise KeptError(
            CHANGED,
            f"if_version: it is at version {present}, not {given}: somebody changed it meanwhile. Read it, and change"
            " that.",
            "if_version",
        )
