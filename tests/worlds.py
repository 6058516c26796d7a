"""Small worlds, as the worked examples of documentation tell them: a line for each person, asked as a program asks.

A line is of events: `open 0, buy 1.5 =red, ~open 13:30 #5` is `open` at the world's beginning, `buy` one and a half
units later, its property `is` being "red", and `open` thirteen hours and a half after the beginning, its property `is`
being the number 5, sent by the person's other, anonymous id. Without a time an event comes as many units after the
beginning as there are events before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from crowd import everyone_of, projects, stored
from histories import History

from pugd import ask
from pugd.everyone import Everyone
from pugd.journeys import FunnelSeries, RetentionSeries
from pugd.model import Project
from pugd.query import times

UTC = ZoneInfo("UTC")
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_DID = re.compile(r"(~?)(\S+?)(?: (-?\d+(?:\.\d+)?)| (\d+):(\d\d))?(?: ([=#])(.*))?")


def at(said: str, zone: ZoneInfo = UTC) -> int:
    return round(datetime.fromisoformat(said).replace(tzinfo=zone).timestamp() * 1000)


class World(msgspec.Struct, frozen=True):
    """People in a project of their own, and who answers about them."""

    everyone: Everyone
    project: Project
    began: int
    unit: int

    def when(self, units: float) -> str:
        return times.text(self.began + round(units * self.unit))

    def range(self, since: float | str, until: float | str) -> dict[str, Any]:
        """Units after the beginning, or times of its zone."""
        zone = ZoneInfo(self.project.time_zone)
        return {
            name: times.text(at(said, zone)) if isinstance(said, str) else self.when(said)
            for name, said in (("from_", since), ("to", until))
        }

    async def ask(self, asked: ask.AnyAsked) -> Any:
        return await self.everyone.journey(self.project, asked)

    async def retention(
        self, start: str, returned: str | None, since: float | str, until: float | str, **more: Any
    ) -> RetentionSeries:
        """By days, unless said otherwise; of everybody."""
        asked = ask.AskRetention(
            start=ask.Selection(event=start or None),
            returned=None if returned is None else ask.Selection(event=returned or None),
            **{"period": "day", **more},
            **self.range(since, until),
        )
        return (await self.ask(asked)).series[0]  # type: ignore[no-any-return]

    async def funnel(self, steps: Sequence[str | ask.Selection], **more: Any) -> list[FunnelSeries]:
        """Of a year from the beginning on, unless said otherwise."""
        asked = ask.AskFunnel(
            steps=tuple(ask.Selection(event=one) if isinstance(one, str) else one for one in steps),
            **{**self.range(0, 365 * DAY / self.unit), **more},
        )
        return (await self.ask(asked)).series  # type: ignore[no-any-return]

    async def steps(self, steps: Sequence[str | ask.Selection], **more: Any) -> list[int]:
        """How many people each step has."""
        return [step.people for step in (await self.funnel(steps, **more))[0].steps]

    async def who(self, token: str | None) -> list[str]:
        """The people behind a number, by their user ids."""
        assert token is not None
        answer = await self.everyone.people(self.project, ask.AskPeople(token=token))
        return sorted(str(person.user_id) for person in answer.people)


async def told(
    *persons: str, began: str = "2020-06-10", unit: int = HOUR, now: str | None = None, zone: str = "UTC"
) -> World:
    """They are `one`, `two` … by their places: `1`, `2`; asked at a time, or two years later."""
    history = History(next(projects))
    beginning = at(began, ZoneInfo(zone))
    for number, line in enumerate(persons, 1):
        for place, one in enumerate(filter(None, line.split(", "))):
            found = _DID.fullmatch(one)
            assert found, one
            other, name, units, hours, minutes, kind, value = found.groups()
            if hours:
                after = int(hours) * HOUR + int(minutes) * MINUTE
            else:
                after = round((place if units is None else float(units)) * unit)
            history.track(
                name,
                user="" if other else str(number),
                anonymous=f"phone-{number}" if other else "",
                at=beginning + after,
                properties="{}" if kind is None else json.dumps({"is": float(value) if kind == "#" else value}),
            )
        if "~" in line:
            history.identify(str(number), f"phone-{number}", at=beginning)
    await stored(history)
    asked_at = beginning + 730 * DAY if now is None else at(now, ZoneInfo(zone))
    everyone, project = await everyone_of(history, now=asked_at, zone=ZoneInfo(zone), segments={})
    return World(everyone, project, beginning, unit)


def cells(series: RetentionSeries) -> list[list[int]]:
    return [[cell.people for cell in cohort.cells] for cohort in series.cohorts]


def rows(series: RetentionSeries) -> list[list[int]]:
    """As tables of other tools are, whose first column is everybody who began: here that is the size, and cell 0 is
    who came back in the same period."""
    return [[cohort.size, *(cell.people for cell in cohort.cells[1:])] for cohort in series.cohorts]


def table(text: str) -> list[list[int]]:
    """`2 1 0 / 1 1` → [[2, 1, 0], [1, 1]]"""
    return [[int(number) for number in row.split()] for row in text.split("/")]
