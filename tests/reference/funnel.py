"""The plain twin of a funnel: walk along each person's events, once for each way in.

`events` are those that count, each a dict with `person`, `at` (ms) and `arrival` (whatever orders ties) beside what the
steps look at. A step is a function of an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Step = Callable[[dict], bool]


@dataclass
class Exclusion:
    """Between step `after` and step `before`, counted from 1."""

    matches: Step
    after: int
    before: int


@dataclass
class Attempt:
    by_step: list[dict | None]
    """The event that each step took, in the order of the steps."""
    spoiled: bool = False
    """An excluded event ended it."""

    @property
    def events(self) -> list[dict]:
        return sorted((event for event in self.by_step if event is not None), key=lambda event: event["place"])

    @property
    def reached(self) -> int:
        return len(self.events)


def timelines(events: Iterable[dict]) -> dict[int, list[dict]]:
    found: dict[int, list[dict]] = {}
    for event in sorted(events, key=lambda event: (event["at"], event["arrival"])):
        own = found.setdefault(event["person"], [])
        own.append({**event, "place": len(own)})
    return found


def ordered(steps: list[Step], rest: list[dict], exclusions: list[Exclusion]) -> Attempt:
    taken = [rest[0]]
    for event in rest[1:]:
        done = len(taken)
        if done == len(steps):
            break
        if steps[done](event):
            taken.append(event)
        elif any(one.matches(event) for one in exclusions if one.after <= done < one.before):
            return Attempt([*taken, *[None] * (len(steps) - done)], spoiled=True)
    return Attempt([*taken, *[None] * (len(steps) - len(taken))])


def strict(steps: list[Step], rest: list[dict]) -> Attempt:
    taken = [rest[0]]
    for step, event in zip(steps[1:], rest[1:], strict=False):
        if not step(event):
            break
        taken.append(event)
    return Attempt([*taken, *[None] * (len(steps) - len(taken))])


def any_order(steps: list[Step], rest: list[dict]) -> Attempt:
    taken: list[dict | None] = []
    for step in steps:
        taken.append(next((event for event in rest if step(event) and event not in taken), None))
    return Attempt(taken)


def funnel(
    events: Iterable[dict],
    steps: list[Step],
    *,
    since: int,
    until: int,
    window: int,
    order: str = "ordered",
    entry: str = "first",
    exclusions: Iterable[Exclusion] = (),
    left_out: bool = False,
) -> dict[int, Attempt]:
    """Person → the attempt that counts; nobody who did not enter."""
    found = {}
    for person, own in timelines(events).items():
        attempts = []
        for place, event in enumerate(own):
            enters = any(step(event) for step in steps) if order == "any" else steps[0](event)
            if not enters or not since <= event["at"] < until:
                continue
            rest = [later for later in own[place:] if later["at"] <= event["at"] + window]
            if order == "ordered":
                attempts.append(ordered(steps, rest, list(exclusions)))
            elif order == "strict":
                attempts.append(strict(steps, rest))
            else:
                attempts.append(any_order(steps, rest))
        if entry == "first":
            attempts = attempts[:1]
        if left_out:
            attempts = [attempt for attempt in attempts if not attempt.spoiled]
        if attempts:
            found[person] = max(attempts, key=lambda attempt: attempt.reached)  # the first of the furthest
    return found


def quantile(sample: list[float], share: float) -> float | None:
    """Between the two nearest, in proportion."""
    sample = sorted(sample)
    if not sample:
        return None
    at = share * (len(sample) - 1)
    below = int(at)
    above = min(below + 1, len(sample) - 1)
    return sample[below] + (sample[above] - sample[below]) * (at - below)
