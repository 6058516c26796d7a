"""Values as conditions read them: JSON text, or the text of a column; compared with what was asked.

A value is compared as what it is: a number with a number, text with text, and text that looks like a number is text.
Of a list, one item must meet the condition (or each: `every`). What is absent, null or of another kind meets none, and
the operators of `ask.OPPOSITES` are true exactly where the other is not, of absent values too. A time is RFC 3339 or a
date (UTC where it says no offset), or a number: seconds since 1970, from 10¹¹ on milliseconds. docs/questions.md says
it for people; tests/reference/conditions.py says it plainly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from pugd import ask
from pugd.query import times
from pugd.query.sql import Sql, any_of, bound, joined, named, sql
from pugd.question import QuestionError

FIELDS = {
    name: named(name)
    for name in (
        "event", "event_id", "user_id", "anonymous_id", "session_id", "transport", "platform", "library", "url", "path",
        "title", "referrer", "locale", "user_agent", "app_version", "browser", "browser_version", "os", "os_version",
        "device", "screen", "host", "referrer_domain", "channel", "utm_source", "utm_medium", "utm_campaign",
        "utm_term", "utm_content", "country", "region", "city",
    )
}  # fmt: skip
"""Columns of `events` that a condition may name, text each; '' is absent."""

OPERATORS = {"=": sql("="), "!=": sql("!="), "<": sql("<"), "<=": sql("<="), ">": sql(">"), ">=": sql(">=")}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$ -]*", re.ASCII)
"""Names that are read as a column of their own; others are looked up in the text that was sent."""
PATH_DEPTH_MAX = 10
TEXT_LENGTH_MAX = 1_000

_MOMENT = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$"
)
MILLISECONDS_FROM = 100_000_000_000
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_SPAN = re.compile(r"([0-9]{1,5}) ?([smhdw])", re.ASCII)


def invalid(path: str, right: str) -> QuestionError:
    """What is wrong with the field at `path`, by what would be right."""
    return QuestionError("invalid_field", f"{path}: {right}.", path)


def span(said: str, path: str) -> int:
    """`30 d` → milliseconds. raises QuestionError"""
    found = _SPAN.fullmatch(said)
    if found is None or int(found[1]) == 0:
        raise invalid(path, "must be a number and s, m, h, d or w, such as 30 d")
    return int(found[1]) * _UNITS_MS[found[2]]


def parts(said: ask.Path, path: str) -> tuple[str, ...]:
    """The names on the way to a value. raises QuestionError"""
    found = tuple(said.split(".")) if isinstance(said, str) else said
    if not 1 <= len(found) <= PATH_DEPTH_MAX or not all(0 < len(name) <= TEXT_LENGTH_MAX for name in found):
        raise invalid(path, f"must be 1 to {PATH_DEPTH_MAX} names, none empty, such as plan or address.city")
    return found


class Value(msgspec.Struct, frozen=True):
    """Where a condition finds its value.

    `json`  JSON text, '' where there is none; or, with `plain`, the text itself, '' where there is none
    """

    json: Sql
    plain: bool = False
    whole: Sql | None = None
    """The same, of an object too, where `json` says nothing of objects."""

    @property
    def words(self) -> Sql:
        """As people read it: '' where there is none."""
        if self.plain:
            return sql("toString($it)", it=self.json)
        return sql(
            """
multiIf(startsWith($it, '"'), JSONExtractString($it), $it = 'null', '', isNotNull(toInt64OrNull($it)), $it,
    isNotNull(toFloat64OrNull($it)), toString(toFloat64OrNull($it)), $it)""",
            it=self.json,
        )

    @property
    def told(self) -> Sql:
        """As a breakdown tells it apart: '' where there is none, and of an object, of which `json` may say nothing; a
        list in one form, whichever blanks and escapes it was sent with."""
        if self.plain:
            return self.words
        return sql(
            """
multiIf(startsWith($it, '{'), '', startsWith($it, '['), JSONExtractRaw(concat('[', $it, ']'), 1), $words)""",
            it=self.json,
            words=self.words,
        )

    @property
    def number(self) -> Sql:
        """Nullable(Float64)."""
        return sql("toFloat64OrNull($it)", it=self.json)


def of_property(path: Sequence[str]) -> Value:
    """Of a row of `events`."""
    text = _within(sql("properties_text"), path)
    if all(_PLAIN_NAME.fullmatch(name) for name in path):
        name = bound("Identifier", ".".join(path))
        return Value(sql("ifNull(toJSONString(properties.$name), '')", name=name), whole=text)
    return Value(text)


def of_context(path: Sequence[str]) -> Value:
    """Of a row of `events`."""
    return Value(_within(sql("context"), path))


def of_json(json: Sql, path: Sequence[str] = ()) -> Value:
    """Of JSON text, or of what stands within it."""
    return Value(_within(json, path) if path else json)


def of_field(name: str) -> Value:
    """Of a row of `events`; `name` is one of FIELDS."""
    return Value(FIELDS[name], plain=True)


def _within(json: Sql, path: Sequence[str]) -> Sql:
    names = joined(", ", (bound("String", name) for name in path))
    return sql("JSONExtractRaw($json, $names)", json=json, names=names)


def compared(value: Value, asked: ask.Condition, path: str, zone: ZoneInfo, now: int) -> Sql:
    """Does this value meet the condition? Never null. raises QuestionError that names the field below `path`"""
    op = asked.op or (ask.SET if asked.value is msgspec.UNSET else ask.EQUAL)
    if op not in ask.OPERATORS:
        raise invalid(f"{path}.op", f"must be one of {', '.join(ask.OPERATORS)}")
    if op in ask.OPPOSITES:
        opposite = msgspec.structs.replace(asked, op=ask.OPPOSITES[op])
        return sql("NOT $met", met=compared(value, opposite, path, zone, now))
    if op == ask.SET:
        if asked.value is not msgspec.UNSET:
            raise invalid(f"{path}.value", "goes with no set or unset")
        return sql("$it NOT IN ('', 'null')", it=value.whole or value.json)
    if asked.value is msgspec.UNSET:
        raise invalid(f"{path}.value", "is missing: say what to compare with")
    test = _test(op, asked.value, f"{path}.value", zone, now)
    if value.plain:
        if op == ask.EQUAL and isinstance(asked.value, str):
            return sql("$it = $said", it=value.json, said=_text(asked.value, path))
        return test(sql("if($it = '', '', toJSONString(toString($it)))", it=value.json))
    items = sql("JSONExtractArrayRaw($it)", it=value.json)
    met = test(sql("item"))
    if asked.every:
        each = sql("notEmpty($items) AND arrayAll(item -> $met, $items)", items=items, met=met)
    else:
        each = sql("arrayExists(item -> $met, $items)", items=items, met=met)
    return sql("if(startsWith($it, '['), $each, $met)", it=value.json, each=each, met=test(value.json))


Test = Callable[[Sql], Sql]
"""A condition on one JSON value that is no list: of its text, '' where there is none. Never null."""


def _test(op: str, said: Any, path: str, zone: ZoneInfo, now: int) -> Test:
    if op in (ask.IN, ask.BETWEEN):
        if not isinstance(said, list | tuple) or not 1 <= len(said) <= ask.VALUES_IN_MAX:
            raise invalid(path, f"must be a list of 1 to {ask.VALUES_IN_MAX} values")
        return _among(said, path) if op == ask.IN else _between(said, path, zone, now)
    if not isinstance(said, str | int | float | bool):
        raise invalid(path, "must be text, a number, true or false; whether there is a value at all, set asks")
    if op == ask.EQUAL:
        return _equal(said, path)
    if op in ask.ORDERINGS:
        if isinstance(said, bool):
            raise invalid(path, f"must be a number or text with {op}")
        return _ordered(op, said, path)
    if op in (ask.CONTAINS, ask.MATCHES):
        return _within_text(op, said, path)
    return _when(op, said, path, zone, now)


def _text(said: str, path: str) -> Sql:
    if len(said) > TEXT_LENGTH_MAX:
        raise invalid(path, f"may have {TEXT_LENGTH_MAX} characters")
    return bound("String", said)


def _equal(said: str | float, path: str) -> Test:
    if isinstance(said, bool):
        truth = bound("String", "true" if said else "false")
        return lambda it: sql("$it = $said", it=it, said=truth)
    return _ordered(ask.EQUAL, said, path)


def _ordered(op: str, said: str | float, path: str) -> Test:
    operator = OPERATORS[op]
    if isinstance(said, str):
        text = _text(said, path)
        return lambda it: sql(
            "(startsWith($it, '\"') AND JSONExtractString($it) $op $said)", it=it, op=operator, said=text
        )
    number = _number(said, path)
    if abs(said) < 2**53:  # a double tells each whole number up to there from all others
        return lambda it: sql("ifNull(toFloat64OrNull($it) $op $said, 0)", it=it, op=operator, said=number)
    return lambda it: sql(
        "ifNull(if(isNull(toInt64OrNull($it)), toFloat64OrNull($it) $op $said, toInt64OrNull($it) $op $said), 0)",
        it=it,
        op=operator,
        said=number,
    )


def _between(said: Sequence[Any], path: str, zone: ZoneInfo, now: int) -> Test:
    if len(said) != 2 or isinstance(said[0], str) != isinstance(said[1], str):
        raise invalid(path, "must be a list of two numbers, or two texts: the least and the greatest")
    low, high = (_test(op, one, path, zone, now) for op, one in zip((">=", "<="), said, strict=True))
    return lambda it: sql("($low AND $high)", low=low(it), high=high(it))


def _within_text(op: str, said: Any, path: str) -> Test:
    if not isinstance(said, str) or not said:
        raise invalid(path, "must be text")
    text = _text(said, path)

    def test(it: Sql) -> Sql:
        words = Value(it).words
        if op == ask.CONTAINS:
            found = sql("positionCaseInsensitiveUTF8($words, $said) > 0", words=words, said=text)
        else:
            found = sql("match($words, $said)", words=words, said=text)
        return sql("(substring($it, 1, 1) NOT IN ('', '{', '[') AND $it != 'null' AND $found)", it=it, found=found)

    return test


def _when(op: str, said: Any, path: str, zone: ZoneInfo, now: int) -> Test:
    if op == ask.WITHIN_LAST:
        since, until = bound("Int64", now - span(str(said), path)), bound("Int64", now)
        return lambda it: sql("ifNull($at >= $since AND $at <= $until, 0)", at=moment_of(it), since=since, until=until)
    at = times.read(said, zone) if isinstance(said, str) else None
    if at is None:
        raise invalid(path, "must be RFC 3339, or a date such as 2026-03-01")
    operator = OPERATORS["<" if op == ask.BEFORE else ">="]
    return lambda it: sql("ifNull($at $op $said, 0)", at=moment_of(it), op=operator, said=bound("Int64", at))


def _among(said: Sequence[Any], path: str) -> Test:
    tests = [_equal(one, path) for one in said if isinstance(one, bool)]
    texts = [one for one in said if isinstance(one, str)]
    numbers = [one for one in said if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(texts) + len(tests) + len(numbers) < len(said):
        raise invalid(path, "must be a list of texts, numbers, true or false")
    exact = [float(one) for one in numbers if not (isinstance(one, int) and abs(one) >= 2**53)]
    whole = [one for one in numbers if isinstance(one, int) and 2**53 <= abs(one) < 2**63]

    def test(it: Sql) -> Sql:
        found = [one(it) for one in tests]
        if texts:
            among = bound("Array(String)", texts)
            found.append(sql("startsWith($it, '\"') AND JSONExtractString($it) IN $among", it=it, among=among))
        if exact:
            among = bound("Array(Float64)", exact)
            found.append(sql("ifNull(toFloat64OrNull($it) IN $among, 0)", it=it, among=among))
        if whole:
            among = bound("Array(Int64)", whole)
            found.append(sql("ifNull(toInt64OrNull($it) IN $among, 0)", it=it, among=among))
        return any_of(found)

    return test


def _number(said: float, path: str) -> Sql:
    if isinstance(said, int) and -(2**63) <= said < 2**63:
        return bound("Int64", said)
    try:
        return bound("Float64", float(said))
    except OverflowError:
        raise invalid(path, "is a number too large") from None


def moment_of(it: Sql) -> Sql:
    """The time that a JSON value says, Nullable(Int64) milliseconds."""
    return sql(
        """
if(startsWith($it, '"'),
    if(match(JSONExtractString($it), $moment),
        toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull(JSONExtractString($it), 3, 'UTC')), NULL),
    if(abs(toFloat64OrNull($it)) >= $milliseconds_from, toInt64(toFloat64OrNull($it)),
        toInt64(floor(toFloat64OrNull($it) * 1000))))""",
        it=it,
        moment=bound("String", _MOMENT),
        milliseconds_from=bound("Int64", MILLISECONDS_FROM),
    )
