"""The plain twin of retention: for each person and each birth, which later periods have a return in them.

Periods of the calendar are given as their boundaries, so that time zones are somebody else's business here (see
`boundaries`); rolling ones have a length.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from reference.funnel import timelines

Matches = Callable[[dict], bool]


def boundaries(since: int, until: int, period: str, zone: ZoneInfo) -> list[int]:
    """The beginnings of all periods that touch [since, until), and the end of the last."""
    day = datetime.fromtimestamp(since / 1000, zone).date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    if period == "month":
        day = day.replace(day=1)
    found = []
    while True:
        found.append(round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000))
        if found[-1] >= until:
            return found
        if period == "month":
            day = (day + timedelta(days=31)).replace(day=1)
        else:
            day += timedelta(days={"day": 1, "week": 7}[period])


def retention(
    events: Iterable[dict],
    start: Matches,
    returns: Matches,
    *,
    since: int,
    until: int,
    periods: list[int],
    births: str = "first_ever",
    length: int | None = None,
    or_after: bool = False,
) -> dict[tuple[int, int], tuple[dict, set[int]]]:
    """(cohort, person) → the event of birth, and the numbers of the periods after it that count as returned in.

    `periods`  beginnings, from the one that `since` lies in; of later ones nothing is told
    `length`   of a rolling period in ms; None: those of the calendar
    """

    def number(at: int) -> int:
        return bisect_right(periods, at) - 1

    found = {}
    for person, own in timelines(events).items():
        started = [event for event in own if start(event) and event["at"] < until]
        if births == "first_ever":
            born = [event for event in started[:1] if event["at"] >= since]
        elif births == "first_in_range":
            born = [event for event in started if event["at"] >= since][:1]
        else:
            firsts: dict[int, dict] = {}
            for event in started:
                if event["at"] >= since:
                    firsts.setdefault(number(event["at"]), event)
            born = list(firsts.values())
        for birth in born:
            cohort = number(birth["at"])
            seen = {
                (event["at"] - birth["at"]) // length if length else number(event["at"]) - cohort
                for event in own
                if returns(event) and event["at"] >= birth["at"] and event["place"] != birth["place"]
            }
            if or_after:
                seen = set(range(max(seen) + 1)) if seen else set()
            found[cohort, person] = (birth, seen)
    return found
