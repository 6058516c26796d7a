"""A crowd in one project: many persons with a few events each, so that one question tries as many cases as there are
persons; and its events as the twins want them, each with its person."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from engine import opened_store
from histories import History, answering, insert
from hypothesis import strategies as st
from msgspec.structs import astuple
from reference import timeline

from pugd.ask import Condition
from pugd.belonging import Belonging
from pugd.everyone import Everyone
from pugd.model import Project
from pugd.query.conditions import Node, Row
from pugd.query.person import Owners, plan_changes, shape_changes
from pugd.query.reading import Reading, Told
from pugd.query.sql import Plan, Sql, bound, plan, sql

PERSONS = 60
NEWEST = bound("UInt64", 2**63)
"""Beyond every place in a link log."""
projects = itertools.count(20_000)
seeds = st.integers(0, 2**32).map(Random)


def said(names: str) -> Callable[[dict], bool]:
    """A condition for the twin: the event's name is one of these letters."""
    return lambda event: event["event"] in names


def asked(names: str) -> Node:
    """The same for ClickHouse."""
    return Row(sql("event IN $names", names=bound("Array(String)", list(names))), frozenset(names))


PATH = Told(sql("path"))
"""A breakdown by path."""


def reading(history: History, **more: Any) -> Reading:
    """Of the crowd's project, as of its newest link."""
    return Reading(
        at_hand.get(history.project) or Owners(history.project, NEWEST),
        **{"zone": ZoneInfo("UTC"), "now": 2**46, "segments": {}, "actor": history.actor, **more},
    )


def crowd(random: Random, times: Callable[[], int], *, events: int = 500, names: str = "ABCX") -> History:
    """Persons have two devices and log in on either, at times; some are taken apart by hand again. Events arrive late,
    in any order, and many at the same millisecond."""
    history = History(next(projects))
    for _ in range(events):
        number = random.randrange(PERSONS)
        user = random.choice(["", f"user-{number}"])
        device = random.choice([f"phone-{number}", f"laptop-{number}"])
        at = times()
        history.track(
            random.choice(names),
            user=user,
            anonymous=device if not user or random.random() < 0.5 else "",
            at=at,
            received=at + random.choice([0, 0, 0, 1, 5]),
            bot=int(random.random() < 0.03),
            cookieless=int(random.random() < 0.03),
            session_id=random.choice(["", "", "", "s1", "s2"]),
            path=random.choice(["", "/", "/prices"]),
        )
        history.world.events[-1]["platform"] = random.choice(["web", "mobile", "server", ""])
        if random.random() < 0.01:
            history.by_hand("unlink", f"user-{number}", "", at=at)
        if random.random() < 0.01:
            history.world.events[-1]["call"] = "group"
    return history


def happenings(history: History) -> list[dict]:
    """What counts, each with its person."""
    return [
        {
            **event,
            "person": history.graph.find(event["actor"]),
            "at": event["occurred_at"],
            "arrival": (event["received_at"], event["position"]),
        }
        for event in timeline.counted(history.world)
        if event["call"] != "group"
    ]


def events(history: History, marked: Sequence[Node], **more: Any) -> Sql:
    """The crowd's events in ClickHouse, marked with the conditions they meet."""
    return reading(history).events(marked, only=False, **more)


at_hand: dict[int, Owners] = {}
"""Of a crowd's project: every third is asked about by what is kept of an earlier place, and what came since."""
_belonging: Belonging | None = None


async def stored(history: History) -> None:
    global _belonging
    store = await opened_store()
    await insert(store, history)
    project = history.project
    if project % 3:
        return
    _belonging = _belonging or Belonging(store)
    if project not in at_hand:
        at_hand.clear()  # one crowd at a time
        newest = shape_changes(await planned(plan_changes(project, None))).place
        await _belonging.make(project, newest // 2)
    base = _belonging.base(project)
    assert base is not None
    at_hand[project] = _belonging.owners(project, base, shape_changes(await planned(plan_changes(project, base.place))))
    assert at_hand[project].kept is not None


async def found(statement: Sql) -> list[tuple]:
    return await planned(plan(statement))


async def planned(asking: Plan) -> list[tuple]:
    return (await (await opened_store()).query(asking.sql, asking.parameters, {"readonly": 2})).rows


async def everyone_of(
    history: History, *, now: int, zone: ZoneInfo, segments: dict[str, Condition]
) -> tuple[Everyone, Project]:
    """Who answers questions about a history's project."""

    async def known(project: int, names: Collection[str]) -> dict[str, Condition]:
        return segments

    answer = answering(history, await opened_store(), now, clock=lambda: now)
    return Everyone(answer, known), Project(history.project, "p", zone.key)


def said_of(answer: Any) -> tuple:
    """What a part of an answer says, in order, but for its tokens."""
    return tuple(
        value for name, value in zip(answer.__struct_fields__, astuple(answer), strict=True) if "token" not in name
    )
