"""Conditions that questions share: text found in any case, and JSON values as text.

JSON is compared in one spelling, ClickHouse's own: `"caf\\u00e9"` as sent and `café` as asked are both brought to it,
so that what a person reads is what a search finds. A quotation mark that was asked for is escaped by that, and so finds
one inside a text, never the ones around it.
"""

from __future__ import annotations

from pugd.query.sql import Sql, bound, sql


def contains(text: Sql, search: str) -> Sql:
    """Is `search` a part of this text, in any case?"""
    return sql("positionCaseInsensitiveUTF8($text, $search) > 0", text=text, search=bound("String", search))


def json_contains(json: Sql, search: str) -> Sql:
    """Is `search` a part of this JSON value, written in ClickHouse's spelling (`spelled`)?"""
    return sql("positionCaseInsensitiveUTF8($json, $search) > 0", json=json, search=_within_json(search))


def members_contain(json: Sql, search: str) -> Sql:
    """Is `search` a part of a top-level key or value of this JSON object?"""
    return sql(
        "arrayExists(member -> $key OR $value, JSONExtractKeysAndValuesRaw($json))",
        json=json,
        key=contains(sql("member.1"), search),
        value=json_contains(sql("member.2"), search),
    )


def spelled(json: Sql) -> Sql:
    """A JSON value in ClickHouse's own spelling."""
    return sql("JSONExtractRaw($json)", json=json)


def _within_json(search: str) -> Sql:
    """As it would stand between the quotation marks of a JSON string."""
    quoted = sql("JSONExtractRaw(toJSONString($search))", search=bound("String", search))
    return sql("substring($quoted, 2, length($quoted) - 2)", quoted=quoted)


def moment(ms: int) -> Sql:
    """A time, of milliseconds since 1970."""
    return sql("fromUnixTimestamp64Milli($ms, 'UTC')", ms=bound("Int64", ms))
