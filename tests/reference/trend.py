"""A trend, said plainly: events of one kind, by the interval that they lie in."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from reference.funnel import quantile


def measured(events: Sequence[dict], measure: str, of: str | None) -> float | None:
    """`of`: the property whose numbers are measured; of events whose properties are read already (`numbers`)."""
    people = {event["person"] for event in events}
    if measure == "events":
        return len(events)
    if measure == "people":
        return len(people)
    if measure == "per_person":
        return len(events) / len(people) if people else None
    numbers = [event["numbers"][of] for event in events if event["numbers"].get(of) is not None]
    if not numbers:
        return None
    if measure == "sum":
        return math.fsum(numbers)
    if measure == "average":
        return math.fsum(numbers) / len(numbers)
    if measure in ("min", "max"):
        return min(numbers) if measure == "min" else max(numbers)
    return quantile(numbers, {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}[measure])


def by_interval(events: Sequence[dict], bounds: Sequence[int]) -> list[list[dict]]:
    found: list[list[dict]] = [[] for _ in bounds]
    for event in events:
        found[bisect_right(bounds, event["at"]) - 1].append(event)
    return found
