"""What a request asks, checked: each parameter known, given once, in bounds. A wrong one is named, with what is right.

The API and the pages read the same parameters by the same functions; a parameter given empty, as forms send them,
counts as not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.datastructures import QueryParams

from pugd.model import Project, person_number, person_text
from pugd.query import times
from pugd.question import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ORDERS,
    SORTS,
    People,
    QuestionError,
    Timeline,
    UnknownPersonError,
)

SEARCH_LENGTH_MAX = 1_000
ID_BYTES_MAX = 512
"""As the collector takes them (RULES, Ids)."""

PEOPLE = ("sort", "limit", "cursor", "search", "identified", "stale")
ONE = ("distinct_id", "stale")
PERSON = ("stale",)
TIMELINE = ("order", "limit", "cursor", "search", "event", "from", "to", "stale")


def given(query: QueryParams, allowed: tuple[str, ...]) -> dict[str, str]:
    """The request's parameters, once each.

    raises   QuestionError that names one that is not allowed, or given twice
    """
    found: dict[str, str] = {}
    for name, value in query.multi_items():
        if name not in allowed:
            raise QuestionError(
                "unknown_parameter", f"{name[:100]}: no such parameter here. Allowed: {', '.join(allowed)}.", name[:100]
            )
        if name in found:
            raise QuestionError("invalid_parameter", f"{name}: given twice. Give it once.", name)
        found[name] = value
    return {name: value for name, value in found.items() if value or name == "distinct_id"}


def people(project: Project, said: Mapping[str, str]) -> People:
    identified = said.get("identified")
    return People(
        project=project.id,
        search=_search(said),
        identified=None if identified is None else _choice("identified", identified, ("true", "false")) == "true",
        sort=_choice("sort", said.get("sort", SORTS[0]), SORTS),
        limit=_limit(said),
        cursor=said.get("cursor"),
    )


def timeline(project: Project, actor: int, said: Mapping[str, str]) -> Timeline:
    return Timeline(
        project=project.id,
        actor=actor,
        search=_search(said),
        event=said.get("event"),
        since=_moment(project, "from", said),
        until=_moment(project, "to", said),
        order=_choice("order", said.get("order", ORDERS[0]), ORDERS),
        limit=_limit(said),
        cursor=said.get("cursor"),
    )


def stale(said: Mapping[str, str]) -> bool:
    return "stale" in said and _choice("stale", said["stale"], ("ok",)) == "ok"


def distinct_id(said: Mapping[str, str]) -> str:
    found = said.get("distinct_id", "")
    if not 0 < len(found.encode(errors="replace")) <= ID_BYTES_MAX:
        raise QuestionError(
            "invalid_parameter", f"distinct_id: must be 1 to {ID_BYTES_MAX} bytes, such as distinct_id=user_123.",
            "distinct_id",
        )  # fmt: skip
    return found


def person(text: str) -> int:
    """The actor in a person's id, which may be any of the person's.

    raises   UnknownPersonError where it is no such id: nobody ever had it
    """
    number = person_number(text)
    if number is None or person_text(number) != text.lower():
        raise UnknownPersonError(
            "not_found",
            "No person has this id: ids are p_ and 16 hex digits. For an id of your own, ask with distinct_id=.",
        )
    return number


def zone(project: Project) -> ZoneInfo:
    try:
        return ZoneInfo(project.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _search(said: Mapping[str, str]) -> str:
    found = said.get("search", "")
    if len(found) > SEARCH_LENGTH_MAX:
        raise QuestionError("invalid_parameter", f"search: at most {SEARCH_LENGTH_MAX} characters.", "search")
    return found


def _limit(said: Mapping[str, str]) -> int:
    text = said.get("limit", str(LIMIT_DEFAULT))
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if not 1 <= number <= LIMIT_MAX:
        raise QuestionError("invalid_limit", f"limit: must be a number from 1 to {LIMIT_MAX}.", "limit")
    return number


def _choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise QuestionError(f"invalid_{name}", f"{name}: must be {' or '.join(choices)}.", name)
    return text


def _moment(project: Project, name: str, said: Mapping[str, str]) -> int | None:
    if name not in said:
        return None
    found = times.read(said[name], zone(project))
    if found is None:
        raise QuestionError(
            f"invalid_{name}",
            f"{name}: must be a date such as 2026-03-01 (of the project's time zone, {zone(project).key}) or RFC 3339"
            " such as 2026-03-01T08:15:30Z.",
            name,
        )
    return max(-(2**47), min(2**47, found))
