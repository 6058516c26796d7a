"""Since when is somebody in a segment? Worked out from that one person's own events and changes of traits.

Membership at a time is what the rule, as it is now, says of what had happened by then, as of then; who the person is,
is as known now. It changes only where something of theirs happened, or a window over such a thing ends, so it is a
curve (query/curves.py): one for each term of the rule, put together as the rule says. What is dated later than now
counts as of now, as it does in a question, so the curve's end is what every question says.

Postgres and the rule are not looked at here: a rule has been understood (query/reading.py) before it comes.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from pugd import ask
from pugd.kept import STAYS_MAX, Membership, Segment, Stay
from pugd.query import people, times, traits
from pugd.query.curves import BEGINNING, Curve, combined, counted, spliced, steps
from pugd.query.filters import moment
from pugd.query.person import among, rows
from pugd.query.reading import Reading
from pugd.query.sequence import COUNTED
from pugd.query.sql import Plan, Sql, bound, joined, plan, sql
from pugd.query.values import Value, compared, moment_of, of_context, of_json, of_property, parts, span

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
WORK_MAX: Final = 2_000_000
"""Looks at an event, for a first time that other terms decide about."""

Run = Callable[[Plan], Awaitable[Any]]


class UnclearError(Exception):
    """This rule's past cannot be told."""


class Life:
    """One person, as rules ask of them."""

    def __init__(self, run: Run, reading: Reading, actors: Sequence[int], segments: Mapping[str, Segment]) -> None:
        self._run = run
        self._reading = reading
        self._actors = tuple(actors)
        self._project = reading.project
        self._now = reading.now
        self._zone: ZoneInfo = reading.zone
        self._segments = segments
        self._curves: dict[bytes, Curve] = {}
        """Of terms that were looked at."""
        self._sights: list[tuple[int, bool, bool]] | None = None

    async def membership(self, name: str, kept: Mapping[str, ask.AnySegment]) -> Membership | None:
        """None: not in it. raises QuestionError, StoreUnavailableError, StoreError"""
        segment = self._segments[name]
        try:
            curve = await self.segment(name, kept)
        except UnclearError:
            reading = self._reading
            node = reading.condition(ask.Condition(segment=name), "segment")
            own = bound("Array(UInt64)", list(self._actors))
            found = await self._run(
                plan(sql("SELECT count() FROM $persons WHERE person IN $own", persons=reading.persons(node), own=own))
            )
            return Membership(name, segment.kind, None, []) if found[0][0] else None
        if not curve.at(self._now):
            return None
        stays = [
            Stay(times.text(since), None if until is None or until > self._now else times.text(until))
            for since, until in curve.stays()
            if since <= self._now
        ][::-1]
        return Membership(name, segment.kind, stays[0].from_, stays[:STAYS_MAX])

    async def segment(self, name: str, kept: Mapping[str, ask.AnySegment]) -> Curve:
        """When the person was in it, from the first sight of them on."""
        found = await self._of(ask.Condition(segment=name), kept)
        began = min(min(at for at, _, _ in await self._seen()), self._now)
        return combined((found, Curve(False, (began,))), all)

    async def _of(self, asked: ask.Condition, kept: Mapping[str, ask.AnySegment]) -> Curve:
        if asked.all is not None:
            return combined([await self._of(one, kept) for one in asked.all], all)
        if asked.any is not None:
            return combined([await self._of(one, kept) for one in asked.any], any)
        if asked.not_ is not None:
            return (await self._of(asked.not_, kept)).opposite()
        place = msgspec.json.encode(asked)
        if place not in self._curves:
            self._curves[place] = await self._term(asked, kept)
        return self._curves[place]

    async def _term(self, asked: ask.Condition, kept: Mapping[str, ask.AnySegment]) -> Curve:
        if asked.segment is not None:
            rule = kept[asked.segment]
            if isinstance(rule, ask.Fixed):
                inside = not set(self._actors).isdisjoint(rule.actors)
                made = times.read(self._segments[asked.segment].created_at, self._zone)
                assert made is not None
                found = Curve(False, (min(made, self._now),) if inside else ())
            else:
                found = await self._of(rule, kept)
            return found.opposite() if asked.op == ask.NOT_IN else found
        if asked.ids is not None:
            return Curve(any(self._reading.actor(one) in self._actors for one in asked.ids))
        if asked.trait is not None:
            return (await self._trait(asked))[0]
        if asked.group is not None:
            return await self._group(asked)
        if asked.person is not None:
            return await self._fact(asked)
        assert asked.did is not None
        return await self._did(asked.did, kept)

    def _told(self, at: int) -> int:
        """From when on it counts."""
        return min(at, self._now)

    # -- what is known of the person -----------------------------------------------------------------------------------

    async def _seen(self) -> list[tuple[int, bool, bool]]:
        """Each sight of the person, by time: (ms, is it an event that counts, does it say a user id)."""
        if self._sights is None:
            found = await self._run(people.plan_sights(self._project, self._actors))
            self._sights = sorted((at, bool(counts), bool(user)) for at, counts, user in found)
        return self._sights

    async def _fact(self, asked: ask.Condition) -> Curve:
        seen = await self._seen()
        if asked.person == "identified":
            users = [at for at, _, user in seen if user]
            found = Curve(False, (self._told(users[0]),) if users else ())
            return found.opposite() if (asked.value is False) != (asked.op == ask.UNEQUAL) else found
        if asked.person == "events":
            met = _OPERATORS[asked.op or ask.EQUAL]
            return counted(((self._told(at), None) for at, counts, _ in seen if counts), lambda n: met(n, asked.value))
        first = asked.person == "first_seen"
        moments = [at for at, _, _ in seen]
        if asked.op == ask.WITHIN_LAST:
            window = span(str(asked.value), "value")
            if first:
                return _between(moments[0], moments[0] + window + 1)
            found = counted(((at, at + window + 1) for at in moments if at <= self._now), bool)
            late = moments[-1] > self._now
            return combined((found, Curve(True, (self._now,))), all) if late else found
        limit = times.read(asked.value, self._zone) if isinstance(asked.value, str) else None
        assert limit is not None
        if first:
            return Curve((moments[0] < limit) == (asked.op == ask.BEFORE))
        after = [at for at in moments if at >= limit]
        found = Curve(False, (self._told(after[0]),) if after else ())
        return found.opposite() if asked.op == ask.BEFORE else found

    async def _trait(self, asked: ask.Condition) -> tuple[Curve, Curve]:
        """As of now; and as of the time of an event, where what is dated later than now does not count yet."""
        assert asked.trait is not None
        key, *inner = parts(asked.trait, "trait")
        op = _op(asked)
        if op in ask.OPPOSITES:
            now, then = await self._trait(replace(asked, op=ask.OPPOSITES[op]))
            return now.opposite(), then.opposite()
        value = of_json(sql("present"), inner)
        changes = traits.history(
            sql("person"),
            sql(
                "FROM (SELECT 0 AS person, * $rows)",
                rows=rows(
                    "traits", self._project, [among(sql("actor"), self._actors), sql("key = $key", key=_text(key))]
                ),
            ),
        )
        what = self._moments(value) if op == ask.WITHIN_LAST else self._met(value, asked)
        found = await self._run(
            plan(
                sql(
                    "SELECT at, $what FROM"
                    " (SELECT at, present FROM $changes ARRAY JOIN times AS at, presents AS present) ORDER BY at",
                    what=what,
                    changes=changes,
                )
            )
        )
        if op == ask.WITHIN_LAST:
            each = [(at, self._within(moments, asked)) for at, moments in found]
            stood = spliced([(BEGINNING, Curve(False)), *((self._told(at), curve) for at, curve in each)])
            return stood, spliced([(BEGINNING, Curve(False)), *each])
        met = [(at, bool(truth)) for at, truth in found]
        return steps(False, ((self._told(at), truth) for at, truth in met)), steps(False, met)

    async def _group(self, asked: ask.Condition) -> Curve:
        op = _op(asked)
        if op in ask.OPPOSITES:
            return (await self._group(replace(asked, op=ask.OPPOSITES[op]))).opposite()
        if op == ask.WITHIN_LAST:
            raise UnclearError
        found = await self._run(
            plan(
                sql(
                    "SELECT toUnixTimestamp64Milli(min(occurred_at)), count() $rows",
                    rows=rows(
                        "events",
                        self._project,
                        [among(sql("actor"), self._actors), *self._reading.of_group(asked, "")],
                    ),
                )
            )
        )
        ((first, count),) = found
        return Curve(False, (self._told(first),) if count else ())

    # -- what they did -------------------------------------------------------------------------------------------------

    async def _did(self, did: ask.Did, kept: Mapping[str, ask.AnySegment]) -> Curve:
        met = _OPERATORS[did.op]
        since, until = self._reading.moments(did.from_, did.to, None, "did")
        window = None if did.last is None else span(did.last, "last")
        leaves: list[Sql] = []
        tree = None if did.where is None else await self._tree(did.where, kept, leaves)
        conditions = [COUNTED, among(sql("actor"), self._actors)]
        if did.event is not None:
            names = [did.event] if isinstance(did.event, str) else list(did.event)
            conditions.append(sql("event IN $names", names=bound("Array(String)", names)))
        if since is not None and not did.first:
            conditions.append(sql("occurred_at >= $since", since=moment(since)))
        if until is not None and not did.first:
            conditions.append(sql("occurred_at < $until", until=moment(until)))
        found = await self._run(
            plan(
                sql(
                    "SELECT toUnixTimestamp64Milli(occurred_at) AS at$leaves $rows ORDER BY at",
                    leaves=joined("", (sql(", $leaf", leaf=leaf) for leaf in leaves)),
                    rows=rows("events", self._project, conditions),
                )
            )
        )
        known: dict[tuple[Any, ...], Curve] = {}

        def curve(row: Sequence[Any]) -> Curve:
            if tree is None:
                return Curve(True)
            said = tuple(tuple(one) if isinstance(one, list | tuple) else one for one in row[1:])
            place = (said, tuple(then.at(row[0]) for then in tree.thens))
            if place not in known:
                known[place] = tree.curve(said, row[0])
            return known[place]

        each = [(row[0], curve(row)) for row in found]
        if did.first:
            return self._first(each, since, until, window, lambda number: met(number, did.count))

        def stays() -> list[tuple[int, int | None]]:
            told = []
            for at, while_ in each:
                begins, ends = self._told(at), None if window is None else at + window + 1
                for begun, ended in while_.stays():
                    low = max(begins, begun)
                    high = ends if ended is None else ended if ends is None else min(ends, ended)
                    told.append((low, high))
            return told

        return counted(stays(), lambda number: met(number, did.count))

    def _first(
        self,
        each: Sequence[tuple[int, Curve]],
        since: int | None,
        until: int | None,
        window: int | None,
        met: Callable[[int], bool],
    ) -> Curve:
        """Does the first of the events that count lie in that time? Which count may change."""
        turns = [BEGINNING, *sorted({turn for _, curve in each for turn in curve.turns})]
        if len(turns) * len(each) > WORK_MAX:
            raise UnclearError

        def of(at: int | None) -> Curve:
            if at is None or (since is not None and at < since) or (until is not None and at >= until):
                return Curve(met(0))
            inside = _between(self._told(at), None if window is None else at + window + 1)
            return spliced(
                [(BEGINNING, Curve(met(0))), *((turn, Curve(met(int(inside.at(turn))))) for turn in inside.turns)]
            )

        return spliced([(turn, of(next((at for at, curve in each if curve.at(turn)), None))) for turn in turns])

    async def _tree(self, asked: ask.Condition, kept: Mapping[str, ask.AnySegment], leaves: list[Sql]) -> _Tree:
        """A condition on an event; what its row must tell goes to `leaves`."""
        for how, nodes in ((all, asked.all), (any, asked.any)):
            if nodes is not None:
                return _Tree([await self._tree(one, kept, leaves) for one in nodes], how=how)
        if asked.not_ is not None:
            return _Tree([await self._tree(asked.not_, kept, leaves)], negated=True)
        if asked.trait is not None and asked.as_of == ask.EVENT:
            if _op(asked) == ask.WITHIN_LAST:
                raise UnclearError
            return _Tree(then=(await self._trait(asked))[1])
        if asked.property is None and asked.context is None and asked.field is None:
            return _Tree(curve_=await self._of(asked, kept))
        leaves.append(sql("0"))
        if _op(asked) != ask.WITHIN_LAST:
            leaves[-1] = self._reading.row(self._reading.condition(asked, "where"), "where")
            return _Tree(leaf=len(leaves) - 1)
        if asked.field is not None:
            raise UnclearError
        value = of_property(parts(asked.property, "")) if asked.property else of_context(parts(asked.context or "", ""))
        leaves[-1] = self._moments(value)
        return _Tree(leaf=len(leaves) - 1, moments=lambda found: self._within(found, asked))

    # -- values --------------------------------------------------------------------------------------------------------

    def _met(self, value: Value, asked: ask.Condition) -> Sql:
        return sql("toUInt8(ifNull($met, 0) != 0)", met=compared(value, asked, "", self._zone, self._now))

    def _moments(self, value: Value) -> Sql:
        """Which times a value says, ms each: of a list those of its items, null where one is none."""
        return sql(
            "if(startsWith($it, '['), arrayMap(item -> $each, JSONExtractArrayRaw($it)), [$one])",
            it=value.json,
            each=moment_of(sql("item")),
            one=moment_of(value.json),
        )

    def _within(self, moments: Sequence[int | None], asked: ask.Condition) -> Curve:
        """When such times are within the last of the question."""
        window = span(str(asked.value), "value")
        each = [Curve(False) if at is None else _between(at, at + window + 1) for at in moments]
        if asked.every:
            return combined(each, all) if each else Curve(False)
        return combined(each, any)


class _Tree:
    """A condition on an event: what its row says (`leaf`), its person (`curve_`), and its person then (`then`)."""

    def __init__(
        self,
        nodes: Sequence[_Tree] = (),
        *,
        how: Callable[[Any], bool] = all,
        negated: bool = False,
        leaf: int | None = None,
        moments: Callable[[Sequence[int | None]], Curve] | None = None,
        then: Curve | None = None,
        curve_: Curve | None = None,
    ) -> None:
        self._nodes, self._how, self._negated = nodes, how, negated
        self._leaf, self._moments, self._then, self._curve = leaf, moments, then, curve_
        self.thens: list[Curve] = [*([then] if then else []), *(one for node in nodes for one in node.thens)]

    def curve(self, said: Sequence[Any], at: int) -> Curve:
        """When an event whose row says this meets it."""
        if self._leaf is not None:
            found = said[self._leaf]
            return Curve(bool(found)) if self._moments is None else self._moments(found)
        if self._then is not None:
            return Curve(self._then.at(at))
        if self._curve is not None:
            return self._curve
        inner = combined([node.curve(said, at) for node in self._nodes], self._how)
        return inner.opposite() if self._negated else inner


def _op(asked: ask.Condition) -> str:
    return asked.op or (ask.SET if asked.value is msgspec.UNSET else ask.EQUAL)


def _between(since: int, until: int | None) -> Curve:
    return Curve(False, (since,) if until is None else (since, until) if until > since else ())


def _text(said: str) -> Sql:
    return bound("String", said)
