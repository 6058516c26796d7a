"""What is stored, by name: one statement each for names of events, traits, properties with their types, how often these
are, and a part of the events to take samples from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pugd.query import times
from pugd.query.person import rows
from pugd.query.sequence import COUNTED
from pugd.query.sql import Plan, Sql, bound, plan, sql
from pugd.query.values import PATH_DEPTH_MAX
from pugd.schema import SAMPLE_LENGTH_MAX, SAMPLES_MAX, EventName, Named, Schema

COUNTED_MAX = 1_000_000
"""How often a property is, is counted over about as many events."""
SAMPLED_MAX = 1_000
SAMPLED_BYTES_MAX = 20_000
"""Of an event's properties and context, to be sampled."""
PATHS_MAX = 10_000

_TYPES = (
    ("String", "text"),
    ("Bool", "boolean"),
    ("Int", "number"),
    ("UInt", "number"),
    ("Float", "number"),
    ("Array", "list"),
    ("JSON", "object"),
)
_TYPE_OF_JSON = sql(
    """
multiIf(startsWith(value, '"'), 'text', value IN ('true', 'false'), 'boolean', startsWith(value, '['), 'list',
    startsWith(value, '{'), 'object', 'number')"""
)


def plan_events(question: Schema) -> Plan:
    """The names of events: reads two narrow columns of all."""
    found = [COUNTED, sql("startsWith(event, $prefix)", prefix=bound("String", question.prefix))]
    return plan(
        sql(
            """
SELECT toString(event), count() AS count, toUnixTimestamp64Milli(min(occurred_at)),
    toUnixTimestamp64Milli(max(occurred_at)), count() OVER ()
$rows GROUP BY event ORDER BY count DESC, event LIMIT $limit""",
            rows=rows("events", question.project, found),
            limit=bound("UInt32", question.limit),
        )
    )


def shape_events(found: Sequence[Sequence[Any]]) -> tuple[list[EventName], int]:
    """The names, and how many there are."""
    names = [EventName(name, count, times.text(first), times.text(last)) for name, count, first, last, _ in found]
    return names, found[0][4] if found else 0


def plan_traits(question: Schema) -> Plan:
    """The keys of traits, with all their types. Reads all changes of traits."""
    found = [
        sql("startsWith(key, $prefix)", prefix=bound("String", question.prefix)),
        sql("operation != 'unset' AND value NOT IN ('', 'null')"),
    ]
    return plan(
        sql(
            """
SELECT toString(key), arraySort(groupUniqArray($type)), count() AS count, toUnixTimestamp64Milli(min(occurred_at)),
    toUnixTimestamp64Milli(max(occurred_at)), groupUniqArray($samples)(substringUTF8(value, 1, $length)),
    count() OVER ()
$rows GROUP BY key ORDER BY count DESC, key LIMIT $limit""",
            type=_TYPE_OF_JSON,
            samples=bound("UInt64", SAMPLES_MAX),
            length=bound("UInt32", SAMPLE_LENGTH_MAX + 2),
            rows=rows("traits", question.project, found),
            limit=bound("UInt32", question.limit),
        )
    )


def shape_traits(found: Sequence[Sequence[Any]]) -> tuple[list[Named], int]:
    """The keys, and how many there are."""
    named = [
        Named(
            _name((key,)), list(types), count, times.text(first), times.text(last), [_cut_json(one) for one in samples]
        )
        for key, types, count, first, last, samples, _ in found
    ]
    return named, found[0][6] if found else 0


def plan_paths(project: int, event: str) -> Plan:
    """One row: every path of an event's properties, with every type; and how many events there are."""
    return plan(
        sql(
            "SELECT distinctJSONPathsAndTypes(properties), count() $rows",
            rows=rows("events", project, [COUNTED, _of(event)]),
        )
    )


def plan_often(project: int, event: str, events: int) -> Plan:
    """How often each path is, of about COUNTED_MAX events: (path, count, first, last), and with '' of how many."""
    one_of = max(1, events // COUNTED_MAX)
    chosen = [COUNTED, _of(event)] + ([_one_of(one_of)] if one_of > 1 else [])
    return plan(
        sql(
            """
SELECT path, count(), toUnixTimestamp64Milli(min(occurred_at)), toUnixTimestamp64Milli(max(occurred_at))
FROM (SELECT occurred_at, arrayJoin(arrayPushBack(JSONAllPaths(properties), '')) AS path $rows) GROUP BY path""",
            rows=rows("events", project, chosen),
        )
    )


def plan_sample(project: int, event: str | None, events: int) -> Plan:
    """(properties, context) of some events, as JSON text."""
    short = sql("length(properties_text) < $most AND length(context) < $most", most=bound("UInt32", SAMPLED_BYTES_MAX))
    chosen = [COUNTED, short] if event is None else [COUNTED, short, _of(event)]
    one_of = events // (4 * SAMPLED_MAX)
    if one_of > 1:
        chosen.append(_one_of(one_of))
    return plan(
        sql(
            "SELECT properties_text, context $rows LIMIT $limit",
            rows=rows("events", project, chosen),
            limit=bound("UInt32", SAMPLED_MAX),
        )
    )


def shape_properties(
    question: Schema,
    types: dict[str, Sequence[str]],
    often: Iterable[tuple[str, int, int, int]],
    samples: dict[tuple[str, ...], list[Any]],
) -> tuple[list[Named], int]:
    """The properties, and how many there are."""
    seen = {path: rest for path, *rest in often}
    found = []
    for stored, kinds in types.items():
        path = tuple(part.replace("%2E", ".") for part in stored.split("."))
        if not ".".join(path).startswith(question.prefix):
            continue
        count, first, last = seen.get(stored, (None, None, None))
        found.append(
            Named(
                _name(path), sorted({_kind(kind) for kind in kinds}), count,
                None if first is None else times.text(first), None if last is None else times.text(last),
                samples.get(path, []),
            )
        )  # fmt: skip
    found.sort(key=lambda one: (-(one.count or 0), str(one.name)))
    return found[: question.limit], len(found)


def shape_context(question: Schema, texts: Iterable[str]) -> list[Named]:
    """What contexts hold, of a part of the events."""
    samples: dict[tuple[str, ...], list[Any]] = {}
    kinds: dict[tuple[str, ...], set[str]] = {}
    counts: dict[tuple[str, ...], int] = {}
    for text in texts:
        for path, value in _walked(text):
            counts[path] = counts.get(path, 0) + 1
            kinds.setdefault(path, set()).add(_kind_of(value))
            _add(samples.setdefault(path, []), value)
    found = [
        Named(_name(path), sorted(kinds[path]), count, None, None, samples[path]) for path, count in counts.items()
    ]
    found.sort(key=lambda one: (-(one.count or 0), str(one.name)))
    return found[: question.limit]


def samples_of(texts: Iterable[str]) -> dict[tuple[str, ...], list[Any]]:
    """Some values of each path."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for text in texts:
        for path, value in _walked(text):
            _add(found.setdefault(path, []), value)
    return found


def _walked(text: str) -> list[tuple[tuple[str, ...], Any]]:
    """Each path of a JSON object to what is no object, with the value; nulls are left out."""
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return []
    found: list[tuple[tuple[str, ...], Any]] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), whole)]
    while waiting and len(found) < PATHS_MAX:
        path, value = waiting.pop()
        if isinstance(value, dict) and len(path) < PATH_DEPTH_MAX:
            waiting.extend(((*path, name), one) for name, one in value.items())
        elif value is not None and path:
            found.append((path, value))
    return found


def _add(samples: list[Any], value: Any) -> None:
    if len(samples) < SAMPLES_MAX:
        short = _cut(value)
        if not any(type(short) is type(one) and short == one for one in samples):
            samples.append(short)


def _cut(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= SAMPLE_LENGTH_MAX else text[:SAMPLE_LENGTH_MAX] + "…"


def _cut_json(text: str) -> Any:
    """Of JSON text that may have been cut already."""
    try:
        return _cut(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return text.removeprefix('"')[:SAMPLE_LENGTH_MAX] + "…"


def _kind(type_: str) -> str:
    type_ = type_.removeprefix("Nullable(")
    return next((kind for begins, kind in _TYPES if type_.startswith(begins)), "text")


def _kind_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _name(path: tuple[str, ...]) -> str | list[str]:
    return list(path) if any("." in part for part in path) else ".".join(path)


def _of(event: str) -> Sql:
    return sql("event = $event", event=bound("String", event))


def _one_of(number: int) -> Sql:
    """One of so many events, always the same ones."""
    return sql("cityHash64(actor, occurred_at) % $number = 0", number=bound("UInt64", number))
