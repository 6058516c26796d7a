"""A crowd with traits, conditions about it at random, and the plain twin that says who meets them."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from crowd import crowd, found, happenings
from histories import History
from reference import conditions as twin
from reference import timeline

from pugd import ask
from pugd.query import times
from pugd.query.reading import Reading
from pugd.query.sql import sql

BEGAN = 1_700_000_000_000
DAY = 86_400_000
NOW = BEGAN + 40 * DAY
UTC = ZoneInfo("UTC")


def inhabited(random: Random) -> History:
    """A crowd with traits that change, some in another order than they arrive."""
    history = crowd(random, lambda: BEGAN + random.randrange(40) * DAY, events=150)
    for _ in range(60):
        user = f"user-{random.randrange(60)}"
        operation = random.choice(["set", "set", "set_once", "add", "unset"])
        value = str(random.randrange(5)) if operation == "add" else random.choice(['"free"', '"pro"', "3", "7", "null"])
        history.identify(
            user,
            random.choice(["", f"phone-{user[5:]}"]),
            at=BEGAN + random.randrange(40) * DAY,
            traits=[(random.choice(["plan", "size"]), operation, value)],
        )
    return history


def by_hand(random: Random, history: History) -> None:
    for _ in range(6):
        one, other = (random.choice(history.world.events) for _ in range(2))
        ids = [event["user_id"] or event["anonymous_id"] for event in (one, other)]
        call = random.choice(["merge", "unlink"])
        history.by_hand(call, ids[0], ids[1] if call == "merge" else random.choice([ids[1], ""]), at=BEGAN)


def date(random: Random) -> str:
    return times.text(BEGAN + random.randrange(40) * DAY)


def compared(random: Random) -> dict[str, Any]:
    return random.choice(
        [
            {"value": random.choice(["pro", "free", 3])},
            {"op": "!=", "value": "pro"},
            {"op": "set"},
            {"op": "unset"},
            {"op": random.choice(["<", ">="]), "value": 4},
            {"op": "in", "value": ["pro", 7]},
        ]
    )


def of_person(random: Random, depth: int) -> ask.Condition:
    """Something that may be asked of persons."""
    if depth and random.random() < 0.5:
        nodes = tuple(of_person(random, depth - 1) for _ in range(random.randint(1, 3)))
        shape = random.choice(["all", "any", "not_"])
        return ask.Condition(**{shape: nodes[0] if shape == "not_" else nodes})
    kind = random.choice(["trait", "did", "did", "seen", "events", "identified", "ids", "segment"])
    if kind == "trait":
        return ask.Condition(trait=random.choice(["plan", "size"]), **compared(random))
    if kind == "seen":
        return ask.Condition(
            person=random.choice(["first_seen", "last_seen"]),
            **random.choice(
                [
                    {"op": random.choice(["before", "after"]), "value": date(random)},
                    {"op": "within_last", "value": f"{random.randint(1, 40)} d"},
                ]
            ),
        )
    if kind == "events":
        return ask.Condition(person="events", op=random.choice([None, "=", "<", ">="]), value=random.randrange(6))
    if kind == "identified":
        return ask.Condition(person="identified", op=random.choice([None, "=", "!="]), value=random.random() < 0.5)
    if kind == "ids":
        ids = [f"{random.choice(['user', 'phone'])}-{random.randrange(70)}" for _ in range(5)]
        return ask.Condition(ids=tuple(ids))
    if kind == "segment":
        return ask.Condition(segment=random.choice(["payers", "regulars"]), op=random.choice([None, "in", "not_in"]))
    when: dict[str, Any] = random.choice(
        [{}, {"last": f"{random.randint(1, 40)} d"}, {"from_": date(random)}, {"to": date(random)}]
    )
    first = random.random() < 0.2
    return ask.Condition(
        did=ask.Did(
            event=random.choice(["A", "B", ("A", "C"), None]),
            where=random.choice(
                [None, ask.Condition(field="path", value="/prices"), ask.Condition(trait="plan", op="set")]
            ),
            op=">=" if first else random.choice((*ask.ORDERINGS, "=", "!=")),
            count=1 if first else random.randrange(4),
            first=first,
            **when,
        )
    )


class Twin:
    """The same, said plainly."""

    def __init__(self, history: History, segments: dict[str, ask.Condition]) -> None:
        self.world = history.world
        self.history = history
        self.segments = segments
        self.persons = timeline.everyone(self.world)
        self.members = {person: timeline.members(self.world, person) for person in self.persons}
        self.happened = happenings(history)

    @property
    def now(self) -> int:
        return NOW

    def met(self, asked: ask.Condition, person: int, event: dict | None = None) -> bool:
        if asked.all is not None:
            return all(self.met(one, person, event) for one in asked.all)
        if asked.any is not None:
            return any(self.met(one, person, event) for one in asked.any)
        if asked.not_ is not None:
            return not self.met(asked.not_, person, event)
        if asked.trait is not None:
            then = event["at"] if event and asked.as_of == "event" else None
            traits = timeline.trait_values(self.world, self.members.get(person, {person}), as_of=then)
            return self.compared(traits.get(asked.trait, twin.ABSENT), asked)
        if asked.field is not None:
            assert event is not None
            return self.compared(event[asked.field] or twin.ABSENT, asked)
        if asked.property is not None:
            assert event is not None
            return self.compared(json.loads(event["properties"]).get(asked.property, twin.ABSENT), asked)
        if asked.person == "identified":
            return (bool(self.persons[person]["user_ids"]) == asked.value) != (asked.op == "!=")
        if asked.person == "events":
            count = self.persons[person]["events"]
            return {"=": count == asked.value, "<": count < asked.value, ">=": count >= asked.value}[asked.op or "="]
        if asked.person is not None:
            return self.compared(self.persons[person][asked.person], asked)
        if asked.ids is not None:
            return any(self.history.graph.find(self.history.actor(one)) == person for one in asked.ids)
        if asked.segment is not None:
            return self.met(self.segments[asked.segment], person) != (asked.op == "not_in")
        did = asked.did
        assert did is not None
        names = None if did.event is None else (did.event,) if isinstance(did.event, str) else did.event
        since = ms(did.from_) if did.from_ else self.now - int(did.last.split()[0]) * DAY if did.last else -(2**60)
        until = ms(did.to) if did.to else 2**60
        at = [
            one["at"]
            for one in self.happened
            if one["person"] == person
            and (names is None or one["event"] in names)
            and (did.where is None or self.met(did.where, person, one))
        ]
        if did.first:
            return bool(at) and since <= min(at) < until
        count = sum(since <= one < until for one in at)
        return {
            "=": count == did.count, "!=": count != did.count, "<": count < did.count, "<=": count <= did.count,
            ">": count > did.count, ">=": count >= did.count,
        }[did.op]  # fmt: skip

    def compared(self, value: object, asked: ask.Condition) -> bool:
        op = asked.op or ("set" if not isinstance(asked.value, str | int | float | list) else "=")
        return twin.met(value, op, asked.value, now=self.now, time=ms)


def ms(said: str) -> int:
    if said.endswith("d"):
        return int(said.split()[0]) * DAY
    at = times.read(said, UTC)
    assert at is not None
    return at


SEGMENTS = {
    "payers": ask.Condition(trait="plan", value="pro"),
    "regulars": ask.Condition(
        any=(ask.Condition(did=ask.Did(event="A", op=">", count=1)), ask.Condition(segment="payers"))
    ),
}


async def persons(of: Reading, asked: ask.Condition) -> set[int]:
    rows = await found(sql("SELECT person FROM $persons", persons=of.persons(of.condition(asked, "where"))))
    assert len(rows) == len(set(rows))
    return {person for (person,) in rows}
