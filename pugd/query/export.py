"""What exports read: a row a person, or a row an event, as columns that ClickHouse writes out.

The columns of a person are what the API says of one (query/people.py), found for everybody in one statement: each id
was seen under its kind and at its first time (`_sights`), and of the ids that are a user's the first is the person's,
or the one that an alias made the newer. A cell of CSV that a spreadsheet would take for a formula gets an apostrophe
before it; what is a number stays one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pugd import ask
from pugd.query import people, traits
from pugd.query.person import rows
from pugd.query.reading import Reading
from pugd.query.sql import Sql, all_of, bound, joined, named, sql
from pugd.query.values import FIELDS, of_json

PERSON_COLUMNS = ("person", "user_id", "user_ids", "ids", "first_seen", "last_seen", "events")
TRAITS = "traits"
"""The column of all traits; one trait's is `traits.` and its key."""

EVENT_TEXTS = ("time_note", "call", *FIELDS)
EVENT_COLUMNS = (
    "person", "occurred_at", "received_at", "original_at", *EVENT_TEXTS, "bot", "properties", "context",
)  # fmt: skip

_PERSON = sql("concat('p_', lower(leftPad(hex(person), 16, '0')))")
_EVENTS = {
    **{name: named(name) for name in ("occurred_at", "received_at", "original_at", "bot", "context")},
    **{name: sql("toString($it)", it=named(name)) for name in EVENT_TEXTS},
    "properties": sql("properties_text"),
}


def events(reading: Reading, met: Sequence[ask.Selection], since: int, until: int, *, csv: bool) -> Sql:
    """A statement: the events in [since, until) that meet the reading's condition and a selection, in no order."""
    nodes = [reading.selection(one, "of") for one in met]
    found = reading.events(nodes, since=since, until=until, columns=list(_EVENTS.items()))
    return sql(
        "SELECT $person AS person, $columns FROM $found AS found",
        person=_PERSON,
        columns=joined(", ", (_cell(name, csv=csv and name in EVENT_TEXTS) for name in EVENT_COLUMNS[1:])),
        found=found,
    )


def _cell(name: str, *, csv: bool) -> Sql:
    if not csv:
        return named(name)
    return sql("$cell AS $name", cell=defused(sql("found.$name", name=named(name))), name=named(name))


def defused(text: Sql) -> Sql:
    """Text that no spreadsheet takes for a formula; some take signs of full width too (OWASP, CSV Injection)."""
    return sql(
        "if(substringUTF8($text, 1, 1) IN ('=', '+', '-', '@', '\\t', '\\r', '\\n',"
        " '\uff1d', '\uff0b', '\uff0d', '\uff20'),"
        " concat('''', $text), $text)",
        text=text,
    )


def persons(
    reading: Reading,
    only: Sql | None,
    *,
    search: str,
    identified: bool | None,
    keys: Sequence[str] | None,
    csv: bool,
) -> Sql:
    """A statement: everybody, or `only` those of a sub-select of persons, in no order.

    `keys`  traits as columns of their own; None: all of them as one column of JSON
    cost    the project's events, traits and links are read once for times and once for ids; ids and traits of all
            are brought together by person, beside memory where they do not fit
    """
    conditions = []
    if only is not None:
        conditions.append(sql("known.person IN $only", only=only))
    if search:
        conditions.append(sql("known.matches"))
    if identified is not None:
        conditions.append(sql("known.identified") if identified else sql("NOT known.identified"))
    user_id = sql("if(aliased != '', aliased, own_user_ids[1])")
    return sql(
        """
SELECT $person AS person, $user_id AS user_id, toJSONString(own_user_ids) AS user_ids, toJSONString(own_ids) AS ids,
    $first AS first_seen, $last AS last_seen, toUInt64(count) AS events, $traits
FROM (
    SELECT known.person AS person, known.events AS count,
        arrayMin(arrayPushBack(seen.by_hand, known.first_seen)) AS first_ms,
        arrayMax(arrayPushBack(seen.by_hand, known.last_seen)) AS last_ms,
        seen.ids AS own_ids, seen.user_ids AS own_user_ids, seen.aliased AS aliased, said.keys AS keys,
        said.presents AS presents
    FROM $everybody AS known
    LEFT JOIN $sights AS seen ON seen.person = known.person
    LEFT JOIN $present AS said ON said.person = known.person
    WHERE $conditions
)""",
        person=_PERSON,
        user_id=sql("nullIf($it, '')", it=defused(user_id) if csv else user_id),
        first=_time(sql("first_ms")),
        last=_time(sql("last_ms")),
        traits=_traits(keys, csv=csv),
        everybody=people.everybody(reading.owners, search=search),
        sights=_sights(reading),
        present=_present(reading, keys),
        conditions=all_of(conditions),
    )


def _time(ms: Sql) -> Sql:
    return sql("fromUnixTimestamp64Milli($ms, 'UTC')", ms=ms)


def _traits(keys: Sequence[str] | None, *, csv: bool) -> Sql:
    if keys is None:
        return sql(
            """
concat('{', arrayStringConcat(arrayMap((key, present) -> concat(toJSONString(key), ':', present), keys, presents), ','),
    '}') AS traits"""
        )
    cells = []
    for key in keys:
        json = sql("presents[indexOf(keys, $key)]", key=bound("String", key))
        words = of_json(json).words
        if csv:
            words = sql("if(startsWith($json, '\"'), $safe, $words)", json=json, safe=defused(words), words=words)
        cell = sql("if($json IN ('', 'null'), NULL, $words)", json=json, words=words)
        # The name is a value of whoever asks; in CSV the first line is not ClickHouse's, so there it may be anything.
        cells.append(cell if csv else sql("$cell AS $name", cell=cell, name=bound("Identifier", f"{TRAITS}.{key}")))
    return joined(", ", cells)


def _present(reading: Reading, keys: Sequence[str] | None) -> Sql:
    """A sub-select of (person, keys, presents): the traits of each person now, JSON text each, in the order of keys."""
    conditions = [] if keys is None else [sql("key IN $keys", keys=bound("Array(String)", list(keys)))]
    said = sql(
        """
FROM (
    SELECT said.*, $owner AS owner
    FROM (SELECT actor, key, operation, value, occurred_at, event_id $rows) AS said$known
)""",
        owner=reading.owners.of(sql("said")),
        rows=rows("traits", reading.project, conditions),
        known=reading.owners.known(sql("said")),
    )
    return sql(
        """(
SELECT person, arrayMap(each -> each.1, pairs) AS keys, arrayMap(each -> each.2, pairs) AS presents
FROM (
    SELECT person, arraySort(groupArray((toString(key), present))) AS pairs FROM $resolved GROUP BY person
))""",
        resolved=traits.resolved(sql("owner"), said),
    )


def _sights(reading: Reading) -> Sql:
    """A sub-select of (person, ids, user_ids, aliased, by_hand): a person's ids in the order in which the API tells
    them, and the times of those that only a link made by hand tells of.

    An id that is said beside a user's counts as a sight of it where the person has it anyway, and a link made by hand
    tells when an id was seen only where nothing else does.
    """
    project = reading.project
    both = sql("user_id != '' AND anonymous_id != ''")
    none = sql("CAST([], 'Array(Tuple(Tuple(Int64, String), String, String))')")
    found = [
        sql(
            """
SELECT actor, if(user_id != '', user_id, anonymous_id) AS id, if(user_id != '', 2, 1) AS kind,
    toUnixTimestamp64Milli(min(occurred_at)) AS first, 0 AS beside, 0 AS by_hand, $none AS aliases
$rows GROUP BY actor, id, kind""",
            none=none,
            rows=rows("events", project),
        ),
        sql(
            """
SELECT actor, anonymous_id AS id, 1 AS kind, toUnixTimestamp64Milli(min(occurred_at)) AS first, 1 AS beside,
    0 AS by_hand, $none AS aliases
$rows GROUP BY actor, id""",
            none=none,
            rows=rows("events", project, [both]),
        ),
        sql(
            """
SELECT actor, distinct_id AS id, if(user_id = distinct_id, 2, 1) AS kind,
    toUnixTimestamp64Milli(min(occurred_at)) AS first, 0 AS beside, 0 AS by_hand, $none AS aliases
$rows GROUP BY actor, id, kind""",
            none=none,
            rows=rows("traits", project),
        ),
        sql(
            """
SELECT actor, anonymous_id AS id, 1 AS kind, toUnixTimestamp64Milli(min(occurred_at)) AS first, 1 AS beside,
    0 AS by_hand, $none AS aliases
$rows GROUP BY actor, id""",
            none=none,
            rows=rows("traits", project, [both]),
        ),
        sql(
            """
SELECT side.1 AS actor, side.2 AS id, side.3 AS kind, toUnixTimestamp64Milli(min(occurred_at)) AS first, 0 AS beside,
    toUInt8(call = 'merge') AS by_hand, $none AS aliases
FROM (
    SELECT occurred_at, call, arrayJoin([
        (a, a_id, multiIf(call IN ('identify', 'event'), 1, call = 'user', 2, 0)),
        (b, b_id, if(call IN ('identify', 'event'), 2, 0))]) AS side $rows
)
WHERE side.2 != '' GROUP BY actor, id, kind, by_hand""",
            none=none,
            rows=rows("links", project, [sql("refused = '' AND call != 'unlink'")]),
        ),
        sql(
            """
SELECT a AS actor, '' AS id, 0 AS kind, 0 AS first, 0 AS beside, 0 AS by_hand,
    groupArray(((toUnixTimestamp64Milli(occurred_at), event_id), b_id, a_id)) AS aliases
$rows GROUP BY actor""",
            rows=rows("links", project, [sql("refused = '' AND call = 'alias'")]),
        ),
    ]
    return sql(
        """(
SELECT person, arrayMap(each -> each.3, ordered) AS ids,
    arrayMap(each -> each.3, arrayFilter(each -> each.1 = -2, ordered)) AS user_ids,
    arrayLast(each -> 1,
        arraySort(arrayFilter(each -> has(user_ids, each.2) AND has(user_ids, each.3), made))).2 AS aliased,
    by_hand
FROM (
    SELECT person, arraySort(groupArrayIf((-most, first, id), id != '' AND told)) AS ordered,
        groupArrayArray(aliases) AS made, groupArrayIf(first, id != '' AND told AND all_by_hand) AS by_hand
    FROM (
        SELECT $owner AS person, seen.id AS id,
            toInt8(max(seen.kind)) AS most, countIf(seen.beside = 0) > 0 AS told,
            countIf(seen.by_hand = 0) = 0 AS all_by_hand,
            if(countIf(seen.by_hand = 0) > 0, minIf(seen.first, seen.by_hand = 0), min(seen.first)) AS first,
            groupArrayArray(seen.aliases) AS aliases
        FROM ($found) AS seen$known
        GROUP BY person, id
    )
    GROUP BY person
))""",
        found=joined(" UNION ALL ", found),
        owner=reading.owners.of(sql("seen")),
        known=reading.owners.known(sql("seen")),
    )
