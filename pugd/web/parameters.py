"""What a request asks, checked: each parameter known, given once, in bounds. A wrong one is named, with what is right.

The API and the pages read the same parameters by the same functions; a parameter given empty, as forms send them,
counts as not given. What is to be done comes in a body instead, as JSON from programs and as a form from pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import msgspec
from starlette.datastructures import QueryParams

from pugd.ask import AskPeople, Condition
from pugd.model import Project, person_number, person_text
from pugd.query import order, times
from pugd.question import (
    ENTRY_TYPES,
    ENTRY_TYPES_DEFAULT,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ORDERS,
    SORTS,
    Explain,
    Merge,
    People,
    QuestionError,
    Refusals,
    RefusedEvents,
    Timeline,
    UnknownPersonError,
    Unlink,
)
from pugd.schema import Schema

SEARCH_LENGTH_MAX = 1_000
ID_BYTES_MAX = 512
"""As the collector takes them (RULES, Ids)."""

T = TypeVar("T")

PEOPLE = ("segment", "sort", "limit", "cursor", "search", "identified", "as_of", "stale")
OF_SEGMENT = PEOPLE[1:]
ONE = ("distinct_id", "as_of", "stale")
PERSON = ("as_of", "stale")
TIMELINE = (
    "order", "limit", "cursor", "search", "event", "from", "to", "types", "around", "before", "as_of", "stale",
)  # fmt: skip
ASK = ("stale",)
SCHEMA = ("event", "prefix", "limit", "stale")
ANSWER_PEOPLE = ("limit", "cursor", "stale")
EXPLAIN = ("a", "b")
REFUSALS = ("distinct_id", "limit", "cursor", "stale")
REFUSED_EVENTS = ("code", "limit", "cursor")

BODY_BYTES_MAX = 64 * 1024
"""Two ids and some air, however they are escaped."""


def given(query: QueryParams, allowed: tuple[str, ...]) -> dict[str, str]:
    """The request's parameters, once each.

    raises   QuestionError that names one that is not allowed, or given twice
    """
    return _once(query.multi_items(), allowed)


def form(body: bytes, allowed: tuple[str, ...]) -> dict[str, str]:
    """The same for a form that was sent in a body."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise QuestionError("invalid_parameter", "The form cannot be read. Go back and send it again.") from None
    return _once(fields, allowed)


def _once(fields: Iterable[tuple[str, str]], allowed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields:
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
        sort=_sort(said),
        limit=limit(said),
        cursor=said.get("cursor"),
        as_of=as_of(project, said),
    )


def people_of(project: Project, said: Mapping[str, str], segment: str = "") -> AskPeople:
    """The same of the people of a segment. raises QuestionError"""
    question = people(project, said)
    return AskPeople(
        where=Condition(segment=segment or said["segment"]), search=question.search, identified=question.identified,
        sort=question.sort, limit=question.limit, cursor=question.cursor,
        as_of=None if question.as_of is None else times.text(question.as_of),
    )  # fmt: skip


def timeline(project: Project, actor: int, said: Mapping[str, str]) -> Timeline:
    return Timeline(
        project=project.id,
        actor=actor,
        search=_search(said),
        event=said.get("event"),
        since=_moment(project, "from", said),
        until=_moment(project, "to", said),
        order=_choice("order", said.get("order", ORDERS[0]), ORDERS),
        limit=limit(said),
        cursor=said.get("cursor"),
        as_of=as_of(project, said),
        types=_types(said),
        around=said.get("around"),
        before=said.get("before"),
    )


def _types(said: Mapping[str, str]) -> tuple[str, ...]:
    if "types" not in said:
        return ENTRY_TYPES_DEFAULT
    types = tuple(said["types"].split(","))
    if not set(types) <= set(ENTRY_TYPES):
        raise QuestionError("invalid_types", f"types: must be some of {','.join(ENTRY_TYPES)}, with commas.", "types")
    return types


def refusals(project: Project, actor: int | None, said: Mapping[str, str]) -> Refusals:
    """`actor`: of the person that is asked about."""
    return Refusals(project=project.id, actor=actor, limit=limit(said), cursor=said.get("cursor"))


def refused_events(project: Project, said: Mapping[str, str], *, unknown: bool = False) -> RefusedEvents:
    """`unknown`: those of keys that belong to nobody, for the operator's eyes."""
    return RefusedEvents(
        project=project.id, code=said.get("code", ""), limit=limit(said), cursor=said.get("cursor"), unknown=unknown
    )


def schema(project: Project, said: Mapping[str, str]) -> Schema:
    return Schema(project=project.id, event=said.get("event"), prefix=_search(said, "prefix"), limit=limit(said))


def explain(project: Project, said: Mapping[str, str]) -> Explain:
    return Explain(project=project.id, a=_id("a", said.get("a", "")), b=_id("b", said.get("b", "")))


def unlink(project: Project, body: bytes) -> Unlink:
    """`body`   JSON: distinct_id, or a and b; and dry_run"""
    said = _members(body, ("distinct_id", "a", "b", "dry_run"))
    dry_run = said.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise QuestionError("invalid_field", "dry_run: must be true or false.", "dry_run")
    if "distinct_id" in said:
        if other := [name for name in ("a", "b") if name in said]:
            raise QuestionError("invalid_field", f"{other[0]}: name either distinct_id, or a and b.", other[0])
        return Unlink(project=project.id, a=_body_id(said, "distinct_id"), dry_run=dry_run)
    return Unlink(project=project.id, a=_body_id(said, "a"), b=_body_id(said, "b"), dry_run=dry_run)


def unlink_of(project: Project, said: Mapping[str, str], *, dry_run: bool = False) -> Unlink:
    """The same, of a form or an address."""
    if "distinct_id" in said:
        return Unlink(project=project.id, a=distinct_id(said), dry_run=dry_run)
    pair = explain(project, said)
    return Unlink(project=project.id, a=pair.a, b=pair.b, dry_run=dry_run)


def merge_of(project: Project, said: Mapping[str, str]) -> Merge:
    """The same as `merge`, of a form or an address."""
    pair = explain(project, said)
    return Merge(project=project.id, a=pair.a, b=pair.b)


def asked(body: bytes, type_: type[T], path: str = "") -> T:
    """A question in a body, as its Struct. What makes no sense of what it says is found later. `path`: where in a body
    it stands.

    raises   QuestionError that names the field
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `")
        field = place.rstrip("`").removeprefix("key in ").removeprefix("$").lstrip(".") or None
        if words.startswith("Object contains unknown field `"):
            name = words.split("`")[1]
            field = f"{field}.{name}" if field else name
            words = "there is no such field here: /docs lists those there are"
        elif words.startswith("Object missing required field `"):
            name = words.split("`")[1]
            field = f"{field}.{name}" if field else name
            words = "is missing"
        if path:
            field = f"{path}.{field}" if field else path
        raise QuestionError("invalid_field", f"{field}: {words}." if field else f"{words}.", field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QuestionError("invalid_json", f"The body is no JSON that can be read: {error}.") from None


def merge(project: Project, body: bytes) -> Merge:
    """`body`   JSON: a and b"""
    said = _members(body, ("a", "b"))
    return Merge(project=project.id, a=_body_id(said, "a"), b=_body_id(said, "b"))


def _members(body: bytes, allowed: tuple[str, ...]) -> dict[str, object]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QuestionError("invalid_json", f"The body is no JSON that can be read: {error}.") from None
    if not isinstance(said, dict):
        raise QuestionError("invalid_json", "The body must be a JSON object.")
    for name in said:
        if name not in allowed:
            raise QuestionError(
                "invalid_field", f"{name[:100]}: no such field here. Allowed: {', '.join(allowed)}.", name[:100]
            )
    return said


def _body_id(said: Mapping[str, object], name: str) -> str:
    value = said.get(name)
    if value is None:
        raise QuestionError("missing_field", f"{name}: missing. Name a distinct id.", name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # as when events are sent
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= ID_BYTES_MAX:
        raise QuestionError("invalid_field", f"{name}: must be a distinct id of 1 to {ID_BYTES_MAX} bytes.", name)
    return value


def as_of(project: Project, said: Mapping[str, str]) -> int | None:
    return _moment(project, "as_of", said)


def stale(said: Mapping[str, str]) -> bool:
    return "stale" in said and _choice("stale", said["stale"], ("ok",)) == "ok"


def archived(said: Mapping[str, str]) -> bool:
    """Those that are archived too?"""
    return _choice("archived", said.get("archived", "false"), ("true", "false")) == "true"


def distinct_id(said: Mapping[str, str]) -> str:
    return _id("distinct_id", said.get("distinct_id", ""))


def _id(name: str, found: str) -> str:
    if not 0 < len(found.encode(errors="replace")) <= ID_BYTES_MAX:
        raise QuestionError(
            "invalid_parameter", f"{name}: must be 1 to {ID_BYTES_MAX} bytes, such as {name}=user_123.", name
        )
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
    return times.zone(project.time_zone)


def _search(said: Mapping[str, str], name: str = "search") -> str:
    found = said.get(name, "")
    if len(found) > SEARCH_LENGTH_MAX:
        raise QuestionError("invalid_parameter", f"{name}: at most {SEARCH_LENGTH_MAX} characters.", name)
    return found


def limit(said: Mapping[str, str], default: int = LIMIT_DEFAULT) -> int:
    text = said.get("limit", str(default))
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if not 1 <= number <= LIMIT_MAX:
        raise QuestionError("invalid_limit", f"limit: must be a number from 1 to {LIMIT_MAX}.", "limit")
    return number


def _sort(said: Mapping[str, str]) -> str:
    text = said.get("sort", SORTS[0])
    try:
        order.read(text)
    except QuestionError as error:
        raise QuestionError("invalid_sort", error.message, "sort") from None
    return text


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
