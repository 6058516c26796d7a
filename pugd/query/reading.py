"""The one resolver: every question about many people reads events, and sets of persons, through a `Reading`.

A reading has one project, one place of the link log, one moment and one list of segments, so all that one question
reads agrees. It adds the project, leaves out bots and cookieless visitors, maps actors to persons, and makes SQL of
conditions; no question does any of that itself.

A set of persons is a sub-select of `person`, each once. Of a row it is met by the actor: the actors of those persons
are listed first, so that rows are decided before their persons are looked up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from zoneinfo import ZoneInfo

import msgspec

from pugd import ask
from pugd.query import people, times, traits
from pugd.query.conditions import (
    ALWAYS,
    All,
    Node,
    Not,
    Past,
    Row,
    Split,
    Whose,
    names_of,
    pasts,
    possible,
    rendered,
    told_then,
)
from pugd.query.conditions import Any as AnyOf
from pugd.query.filters import moment
from pugd.query.person import Owners, rows
from pugd.query.sequence import COUNTED, KEY
from pugd.query.sql import Plan, Sql, all_of, bound, joined, named, plan, sql
from pugd.query.values import (
    FIELDS,
    OPERATORS,
    Value,
    compared,
    invalid,
    of_context,
    of_field,
    of_json,
    of_property,
    parts,
    span,
)

AT = sql("toUnixTimestamp64Milli(occurred_at)")
_PERSON_NUMBERS = {"first_seen": "first_seen", "last_seen": "last_seen", "events": "events"}
_COMPARISONS = {"=", "!=", *ask.ORDERINGS}


class Told(msgspec.Struct, frozen=True, eq=False):
    """What a breakdown tells apart: of a row of `events`, or of its person."""

    row: Sql | None = None
    """A String."""
    join: Sql | None = None
    """A sub-select of (person, present) or, with `then`, of (person, times, presents): JSON text."""
    then: bool = False
    person: bool = False


class Reading:
    """Of one question. Pure: what it makes is run by whoever has it."""

    def __init__(
        self,
        owners: Owners,
        *,
        zone: ZoneInfo,
        now: int,
        actor: Callable[[str], int],
        segments: Mapping[str, ask.AnySegment],
        include_bots: bool = False,
        include_cookieless: bool = False,
        days_max: int = 36_600,
    ) -> None:
        """`owners`: of the project, as of one place of the link log; `now` in ms; `actor` of a distinct id; `segments`
        by name; `days_max` of a range."""
        self.days_max = days_max
        self.owners = owners
        self.project = owners.project
        self.zone = zone
        self.now = now
        self.actor = actor
        self._segments = segments
        self.include_bots = include_bots
        self.include_cookieless = include_cookieless
        self._within: list[str] = []
        """Segments that are being read, the outer first."""
        self._did_depth = 0
        self._count = 0
        self.everywhere: Node = ALWAYS
        """Of every event that is read, but of those that a `did` within a condition is about."""

    def of_segments(self, segments: Mapping[str, ask.AnySegment]) -> Reading:
        """The same, with these."""
        found = copy.copy(self)
        found._segments = segments
        return found

    def counted(self, *, zone: ZoneInfo, bots: bool) -> Reading:
        """The same, as another question counted: by days of its zone, with bots or without."""
        found = copy.copy(self)
        found.zone = zone
        found.include_bots = bots
        return found

    # -- conditions ----------------------------------------------------------------------------------------------------

    def selection(self, asked: ask.Selection, path: str) -> Node:
        """Which events. raises QuestionError"""
        return self._chosen(asked.event, asked.where, path)

    def _chosen(
        self, event: str | tuple[str, ...] | None, where: ask.Condition | None, path: str, depth: int = 0
    ) -> Node:
        found: list[Node] = []
        if event is not None:
            names = [event] if isinstance(event, str) else list(event)
            if not 1 <= len(names) <= ask.VALUES_IN_MAX:
                raise invalid(f"{path}.event", f"must be one name, or 1 to {ask.VALUES_IN_MAX} of them")
            found.append(Row(sql("event IN $names", names=bound("Array(String)", names)), frozenset(names)))
        if where is not None:
            found.append(self.condition(where, f"{path}.where", depth))
        return found[0] if len(found) == 1 else All(found)

    def condition(self, asked: ask.Condition, path: str, depth: int = 0) -> Node:
        """raises QuestionError that names the field"""
        self._count += 1
        if depth > ask.DEPTH_MAX or self._count > ask.CONDITIONS_MAX:
            raise invalid(path, f"at most {ask.CONDITIONS_MAX} conditions, {ask.DEPTH_MAX} deep")
        subjects = [
            name
            for name in ("all", "any", "not_", "property", "context", "field", "trait", "group", "person", "segment",
                         "did", "ids")
            if getattr(asked, name) is not None
        ]  # fmt: skip
        if len(subjects) != 1:
            raise invalid(
                path,
                "must have exactly one of all, any, not, property, context, field, trait, group, person, segment, did"
                f" and ids; it has {', '.join(name.rstrip('_') for name in subjects) or 'none'}",
            )
        subject = subjects[0]
        at = f"{path}.{subject.rstrip('_')}"
        if subject in ("all", "any"):
            nodes = [
                self.condition(one, f"{at}[{place}]", depth + 1) for place, one in enumerate(getattr(asked, subject))
            ]
            return All(nodes) if subject == "all" else AnyOf(nodes)
        if subject == "not_":
            assert asked.not_ is not None
            return Not(self.condition(asked.not_, at, depth + 1))
        if asked.as_of not in ask.AS_OF or (asked.as_of == ask.EVENT and subject != "trait"):
            raise invalid(f"{path}.as_of", "must be now, or of a trait also event")
        return getattr(self, f"_{subject}")(asked, at, path, depth)  # type: ignore[no-any-return]

    def _property(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        assert asked.property is not None
        return self._row(of_property(parts(asked.property, at)), asked, path)

    def _context(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        assert asked.context is not None
        return self._row(of_context(parts(asked.context, at)), asked, path)

    def _field(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        assert asked.field is not None
        return self._row(_field(asked.field, at), asked, path)

    def _row(self, value: Value, asked: ask.Condition, path: str) -> Row:
        return Row(compared(value, asked, path, self.zone, self.now))

    def _trait(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        assert asked.trait is not None
        key, *inner = parts(asked.trait, at)
        op = asked.op or (ask.SET if asked.value is msgspec.UNSET else ask.EQUAL)
        if op in ask.OPPOSITES:
            return Not(self._trait(msgspec.structs.replace(asked, op=ask.OPPOSITES[op]), at, path, depth))

        def met(json: Sql) -> Sql:
            return compared(of_json(json, inner), asked, path, self.zone, self.now)

        if asked.as_of == ask.EVENT:
            met(sql("''"))  # what is wrong is told here
            return Past(self._history(key), met)
        return Whose(
            sql("(SELECT person FROM $present WHERE $met)", present=self._present(key), met=met(sql("present")))
        )

    def _group(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        """Any group of that type that a group call ever put the person into; without a type it is `group`."""
        assert asked.group is not None
        op = asked.op or (ask.SET if asked.value is msgspec.UNSET else ask.EQUAL)
        if op in ask.OPPOSITES:
            return Not(self._group(msgspec.structs.replace(asked, op=ask.OPPOSITES[op]), at, path, depth))
        found = sql(
            "(SELECT actor $rows)",
            rows=rows("events", self.project, self.of_group(asked, path), bots=self.include_bots),
        )
        return Whose(self._owners(found))

    def of_group(self, asked: ask.Condition, path: str) -> list[Sql]:
        """Conditions on group calls that put somebody into such a group."""
        assert asked.group is not None
        of_type = sql(
            "call = 'group' AND if($said = '', 'group', $said) = $type",
            said=of_property(("group_type",)).words,
            type=bound("String", asked.group),
        )
        return [of_type, compared(of_property(("group_id",)), asked, path, self.zone, self.now)]

    def _person(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        if asked.person not in ask.PERSON_FACTS:
            raise invalid(at, f"must be one of {', '.join(ask.PERSON_FACTS)}")
        if asked.person == "identified":
            if asked.op not in (None, ask.EQUAL, ask.UNEQUAL):
                raise invalid(f"{path}.op", "must be = or !=")
            if not isinstance(asked.value, bool) and (asked.op or asked.value is not msgspec.UNSET):
                raise invalid(f"{path}.value", "must be true or false")
            node = Whose(sql("(SELECT person FROM $known WHERE identified)", known=self.known()))
            return Not(node) if (asked.value is False) != (asked.op == ask.UNEQUAL) else node
        if asked.person == "events":
            op = asked.op or ask.EQUAL
            if op not in _COMPARISONS or not isinstance(asked.value, int) or isinstance(asked.value, bool):
                raise invalid(f"{path}.value", "must be compared with a whole number, by =, !=, <, <=, > or >=")
            met = sql(
                "toInt64(events) $op $said",
                op=OPERATORS[op],
                said=bound("Int64", max(-(2**62), min(2**62, asked.value))),
            )
        else:
            if asked.op not in (ask.BEFORE, ask.AFTER, ask.WITHIN_LAST):
                raise invalid(f"{path}.op", "must be before, after or within_last")
            # Compared as the time it is: quoted as RFC 3339 it would lose years before 1.
            met = self._compared_moment(named(_PERSON_NUMBERS[asked.person]), asked, path)
        return Whose(sql("(SELECT person FROM $known WHERE $met)", known=self.known(), met=met))

    def _compared_moment(self, ms: Sql, asked: ask.Condition, path: str) -> Sql:
        if asked.op == ask.WITHIN_LAST:
            since = self.now - span(str(asked.value), f"{path}.value")
            return sql("$ms >= $since AND $ms <= $now", ms=ms, since=_ms(since), now=_ms(self.now))
        at = times.read(asked.value, self.zone) if isinstance(asked.value, str) else None
        if at is None:
            raise invalid(f"{path}.value", "must be RFC 3339, or a date such as 2026-03-01")
        return sql("$ms $op $at", ms=ms, op=OPERATORS["<" if asked.op == ask.BEFORE else ">="], at=_ms(at))

    def _segment(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        name = asked.segment
        assert name is not None
        if asked.op not in (None, ask.IN, ask.NOT_IN) or asked.value is not msgspec.UNSET:
            raise invalid(path, "a segment is asked for with op in or not_in, and no value")
        if name and name in self._within:  # a rule that is only looked at has no name
            raise invalid(at, f"{' → '.join([*self._within, name])}: a segment cannot be part of itself")
        if name not in self._segments:
            raise invalid(at, f"there is no segment {name[:100]!r}; GET /v1/segments lists them")
        node = self.rule(name, self._segments[name], f"{at}({name})", depth + 1)
        return Not(node) if asked.op == ask.NOT_IN else node

    def rule(self, name: str, asked: ask.AnySegment, path: str, depth: int = 0) -> Node:
        """Who is in a segment, whether it is kept or yet to be. raises QuestionError that names the field"""
        if isinstance(asked, ask.Fixed):
            return Whose(self._of_actors(asked.actors), exist=False)
        self._within.append(name)
        try:
            node = self.condition(asked, path, depth)
        finally:
            self._within.pop()
        if pasts(node) or _has_rows(node):
            raise invalid(path, f"{name}: a segment is of persons: it cannot ask of one event but within did")
        return node

    def _ids(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        ids = asked.ids
        assert ids is not None
        if not 1 <= len(ids) <= ask.IDS_MAX:
            raise invalid(at, f"must be 1 to {ask.IDS_MAX} ids")
        return Whose(self._of_actors([self.actor(one) for one in ids]), exist=False)

    def _of_actors(self, actors: Sequence[int]) -> Sql:
        given = bound("Array(UInt64)", list(actors))
        return self._owners(sql("(SELECT arrayJoin($given) AS actor)", given=given))

    def _did(self, asked: ask.Condition, at: str, path: str, depth: int) -> Node:
        did = asked.did
        assert did is not None
        if did.op not in ("=", "!=", *ask.ORDERINGS):
            raise invalid(f"{at}.op", "must be one of =, !=, <, <=, > and >=")
        if not 0 <= did.count < 2**31:
            raise invalid(f"{at}.count", "must be a number from 0 on")
        least = {">=": did.count, ">": did.count + 1, "<": did.count, "<=": did.count + 1}.get(did.op)
        if least is None:
            exactly = All(
                (self._at_least(did, did.count, at, depth), Not(self._at_least(did, did.count + 1, at, depth)))
            )
            return exactly if did.op == "=" else Not(exactly)
        node = self._at_least(did, least, at, depth)
        return Not(node) if did.op in ("<", "<=") else node

    def _at_least(self, did: ask.Did, count: int, at: str, depth: int) -> Node:
        if count == 0:
            return ALWAYS
        since, until = self.moments(did.from_, did.to, did.last, at)
        if self._did_depth == ask.DID_DEPTH_MAX:
            raise invalid(at, f"did within did, {ask.DID_DEPTH_MAX} deep at most")
        self._did_depth += 1
        try:
            node = self._chosen(did.event, did.where, at, depth + 1)
        finally:
            self._did_depth -= 1
        if did.first and count > 1:
            raise invalid(f"{at}.first", "is of the first time alone: count must be 1, with >=")
        if did.first:
            events = self.events([node], columns=[("at", AT)], everywhere=ALWAYS)
            having = [sql("min(at) >= $since", since=_ms(since))] if since is not None else []
            having += [sql("min(at) < $until", until=_ms(until))] if until is not None else []
            return Whose(
                sql("(SELECT person FROM $events GROUP BY person HAVING $having)", events=events, having=all_of(having))
            )
        events = self.events([node], since=since, until=until, everywhere=ALWAYS)
        if count == 1:
            return Whose(sql("(SELECT DISTINCT person FROM $events)", events=events))
        return Whose(
            sql(
                "(SELECT person FROM $events GROUP BY person HAVING count() >= $count)",
                events=events,
                count=bound("UInt64", count),
            )
        )

    def moments(self, said: str | None, to: str | None, last: str | None, path: str) -> tuple[int | None, int | None]:
        """[from, to) in ms, where they are said. raises QuestionError"""
        if last is not None:
            if said is not None or to is not None:
                raise invalid(f"{path}.last".lstrip("."), "goes with neither from nor to")
            return self.now - span(last, f"{path}.last".lstrip(".")), None
        found: list[int | None] = []
        for name, one in (("from", said), ("to", to)):
            at = None if one is None else times.read(one, self.zone)
            if one is not None and at is None:
                raise invalid(
                    f"{path}.{name}".lstrip("."),
                    f"must be a date such as 2026-03-01 (of the project's time zone, {self.zone.key}) or RFC 3339"
                    " such as 2026-03-01T08:15:30Z",
                )
            found.append(None if at is None else max(-(2**47), min(2**47, at)))
        if found[0] is not None and found[1] is not None and found[0] >= found[1]:
            raise invalid(f"{path}.to".lstrip("."), "must be later than from")
        return found[0], found[1]

    # -- events --------------------------------------------------------------------------------------------------------

    def events(
        self,
        met: Sequence[Node],
        *,
        since: int | None = None,
        until: int | None = None,
        only: bool = True,
        conditions: Iterable[Sql] = (),
        columns: Sequence[tuple[str, Sql]] = (),
        told: Told | None = None,
        everywhere: Node | None = None,
    ) -> Sql:
        """A sub-select of (person, key, mark), and of what `columns` names, of events that count, in [since, until).

        `met`     which of these an event meets is its mark: the first is bit 0; none: no mark
        `only`    events that meet one of them
        `conditions`  on rows of `events`, beside
        `columns` of rows of `events`
        `told`    by what a breakdown tells apart: the column `value`
        `everywhere`  instead of the reading's own
        """
        whole = [self.everywhere if everywhere is None else everywhere, *([AnyOf(tuple(met))] if only and met else [])]
        found = [COUNTED, *conditions]
        if since is not None:
            found.append(sql("occurred_at >= $since", since=moment(since)))
        if until is not None:
            found.append(sql("occurred_at < $until", until=moment(until)))
        # Rows lie by name: one list of names is read by the index, where a condition for each step is not as well.
        if (names := names_of(All(tuple(whole)))) is not None:
            found.append(sql("event IN $names", names=bound("Array(String)", sorted(names))))
        found += [possible(node, self._leaf) for node in whole if node is not ALWAYS]
        inner = list(columns)
        split = Split(self._leaf)
        at = sql("seen.at_ms")
        outer: list[tuple[str, Sql]] = [(name, named(name)) for name, _ in columns]
        later = [split.decided(node, at) for node in whole if pasts(node)]
        bits = []
        for bit, node in enumerate(met):
            if pasts(node):
                decided = split.decided(node, at)
                bits.append(_bit(decided, bit))
            else:
                inner.append((f"met_{bit + 1}", _bit(rendered(node, self._leaf), bit)))
                bits.append(named(f"met_{bit + 1}"))
        if met:
            outer.append(("mark", joined(" + ", bits)))
        joins = [sql("LEFT JOIN $history AS $name ON $name.person = seen.person", history=history, name=named(name))
                 for name, history in split.joins]  # fmt: skip
        if told is not None:
            outer.append(("value", self._value(told, inner, joins, at)))
        inner += split.columns
        if split.joins or (told is not None and told.then):
            inner.append(("at_ms", AT))
        resolved = sql(
            """
SELECT $owner AS person, raw.key AS key$names
FROM (SELECT actor, $key AS key$columns $rows) AS raw$known""",
            owner=self.owners.of(sql("raw")),
            names=joined("", (sql(", raw.$name AS $name", name=named(name)) for name, _ in inner)),
            key=KEY,
            columns=joined("", (sql(", $column AS $name", column=column, name=named(name)) for name, column in inner)),
            rows=rows("events", self.project, found, bots=self.include_bots, cookieless=self.include_cookieless),
            known=self.owners.known(sql("raw")),
        )
        return sql(
            "(SELECT seen.person AS person, seen.key AS key$outer FROM ($resolved) AS seen $joins$later)",
            outer=joined("", (sql(", $column AS $name", column=column, name=named(name)) for name, column in outer)),
            resolved=resolved,
            joins=joined(" ", joins),
            later=sql(" WHERE $later", later=all_of(later)) if later else sql(""),
        )

    def _value(self, told: Told, inner: list[tuple[str, Sql]], joins: list[Sql], at: Sql) -> Sql:
        if told.person:
            return sql("concat('p_', lower(leftPad(hex(seen.person), 16, '0')))")
        if told.row is not None:
            inner.append(("told", told.row))
            return sql("seen.told")
        assert told.join is not None
        joins.append(sql("LEFT JOIN $join AS told ON told.person = seen.person", join=told.join))
        return Value(told_then("told", at) if told.then else sql("told.present")).told

    def told(self, asked: ask.Breakdown, path: str) -> Told:
        """raises QuestionError"""
        subjects = [
            name for name in ("property", "context", "field", "trait", "segment") if getattr(asked, name) is not None
        ] + (["person"] if asked.person else [])
        if len(subjects) != 1:
            raise invalid(path, "must have exactly one of property, context, field, trait and segment")
        at = f"{path}.{subjects[0]}"
        if asked.as_of not in ask.AS_OF or (asked.as_of == ask.EVENT and asked.trait is None):
            raise invalid(f"{path}.as_of", "must be now, or of a trait also event")
        if asked.person:
            return Told(person=True)
        if asked.property is not None:
            return Told(of_property(parts(asked.property, at)).told)
        if asked.context is not None:
            return Told(of_context(parts(asked.context, at)).told)
        if asked.field is not None:
            return Told(_field(asked.field, at).told)
        if asked.segment is not None:
            node = self._segment(ask.Condition(segment=asked.segment), at, path, 0)
            return Told(sql("if($inside, 'true', 'false')", inside=rendered(node, self._leaf)))
        assert asked.trait is not None
        key, *rest = parts(asked.trait, at)
        if asked.as_of == ask.EVENT:
            history = self._history(key)
            if rest:
                inner = of_json(sql("present"), rest).json
                history = sql(
                    "(SELECT person, times, arrayMap(present -> $inner, presents) AS presents FROM $history)",
                    inner=inner, history=history,
                )  # fmt: skip
            return Told(join=history, then=True)
        present = of_json(sql("present"), rest).json
        return Told(
            join=sql("(SELECT person, $present AS present FROM $found)", present=present, found=self._present(key))
        )

    def row(self, node: Node, path: str) -> Sql:
        """A condition on a row of `events`, of one person. raises QuestionError where it needs the past"""
        if pasts(node):
            raise invalid(path, "may ask of a trait as it is now, not as_of event, here")
        return sql("ifNull($met, 0)", met=rendered(node, self._leaf))

    # -- persons -------------------------------------------------------------------------------------------------------

    def persons(self, node: Node) -> Sql:
        """A sub-select of all persons of whom a condition holds that asks of persons alone.

        raises   QuestionError where it asks of an event
        """

        def leaf(one: Row | Whose | Past) -> Sql:
            if not isinstance(one, Whose):
                raise invalid("where", "is of persons here: property, context, field and as_of event go within did")
            return sql("person IN $persons", persons=one.persons)

        # Mostly one of its sets holds all who can meet it, and nobody else need be looked at.
        if isinstance(node, Whose) and node.exist:
            return node.persons
        for place, one in enumerate(node.nodes if isinstance(node, All) else ()):
            if isinstance(node, All) and isinstance(one, Whose) and one.exist:
                others = All((*node.nodes[:place], *node.nodes[place + 1 :]))
                return sql("(SELECT person FROM $some WHERE $met)", some=one.persons, met=rendered(others, leaf))
        return sql("(SELECT person FROM $known WHERE $met)", known=self.known(), met=rendered(node, leaf))

    def actors(self, persons: Sql, limit: int) -> Plan:
        """All actors that these persons have, `limit` of them where there are more."""
        return plan(
            sql(
                """
SELECT DISTINCT arrayJoin(arrayPushBack(known.actors, found.person)) AS actor
FROM $persons AS found
LEFT JOIN (SELECT person, groupArray(actor) AS actors FROM $mapping GROUP BY person) AS known
    ON known.person = found.person
ORDER BY actor LIMIT $limit""",
                persons=persons,
                mapping=self.owners.mapping(),
                limit=bound("UInt64", limit),
            )
        )

    def known(self) -> Sql:
        """A sub-select of (person, events, first_seen, last_seen, identified) of everybody there is."""
        return people.everybody(self.owners, include_bots=self.include_bots)

    def left_out(self, since: int | None = None, until: int | None = None) -> Plan:
        """One row: events of bots and of cookieless visitors in a range, which no question counts."""
        found = [COUNTED]
        if since is not None:
            found.append(sql("occurred_at >= $since", since=moment(since)))
        if until is not None:
            found.append(sql("occurred_at < $until", until=moment(until)))
        bots = sql("sum(0)") if self.include_bots else sql("sum(bot)")
        cookieless = sql("sum(0)") if self.include_cookieless else sql("sum(cookieless AND NOT bot)")
        return plan(
            sql(
                "SELECT $bots, $cookieless $rows",
                bots=bots,
                cookieless=cookieless,
                rows=rows("events", self.project, found, uncounted=True),
            )
        )

    def _owners(self, actors: Sql) -> Sql:
        """The persons of a sub-select of `actor`."""
        return sql(
            """
(SELECT DISTINCT $owner AS person FROM $actors AS given$known)""",
            owner=self.owners.of(sql("given")),
            actors=actors,
            known=self.owners.known(sql("given")),
        )

    def _present(self, key: str) -> Sql:
        """A sub-select of (person, present): a trait's JSON text now, of who has it."""
        return people.present(self.owners, key)

    def _history(self, key: str) -> Sql:
        return traits.history(sql("owner"), people.changes_of(self.owners, key))

    def _leaf(self, one: Row | Whose | Past) -> Sql:
        """A condition on a row of `events`."""
        if isinstance(one, Row):
            return one.met
        assert isinstance(one, Whose), "the past is decided later"
        return sql(
            """
actor IN (
    SELECT arrayJoin(arrayPushBack(known.actors, found.person))
    FROM $persons AS found
    LEFT JOIN (SELECT person, groupArray(actor) AS actors FROM $mapping GROUP BY person) AS known
        ON known.person = found.person
)""",
            persons=one.persons,
            mapping=self.owners.mapping(),
        )


def _field(name: str, path: str) -> Value:
    if name not in FIELDS:
        raise invalid(path, f"must be one of {', '.join(sorted(FIELDS))}")
    return of_field(name)


def _bit(condition: Sql, bit: int) -> Sql:
    return sql("bitShiftLeft(toUInt64(ifNull($met, 0) != 0), $bit)", met=condition, bit=bound("UInt8", bit))


def _has_rows(node: Node) -> bool:
    match node:
        case All(nodes) | AnyOf(nodes):
            return any(_has_rows(one) for one in nodes)
        case Not(one):
            return _has_rows(one)
        case _:
            return isinstance(node, Row)


def _ms(value: int) -> Sql:
    return bound("Int64", value)
