"""What is true at times and not at others: a truth at first, and the milliseconds at which it turns over."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import msgspec

BEGINNING = -(2**62)


class Curve(msgspec.Struct, frozen=True):
    """`first` before the first of `turns`, which ascend."""

    first: bool
    turns: tuple[int, ...] = ()

    def at(self, ms: int) -> bool:
        return self.first ^ (bisect_right(self.turns, ms) % 2 == 1)

    def opposite(self) -> Curve:
        return Curve(not self.first, self.turns)

    def stays(self) -> list[tuple[int, int | None]]:
        """[from, to) of each time in which it is true; None: for ever."""
        turns = ([BEGINNING] if self.first else []) + list(self.turns)
        ends: list[int | None] = [*turns[1::2], None]
        return list(zip(turns[::2], ends, strict=False))


def steps(first: bool, said: Iterable[tuple[int, bool]]) -> Curve:
    """From each time (ascending; of several at one time the last counts) its truth."""
    turns: list[int] = []
    present = first
    for at, truth in said:
        if truth != present:
            present = truth
            if turns and turns[-1] == at:
                turns.pop()
            else:
                turns.append(at)
    return Curve(first, tuple(turns))


def combined(curves: Sequence[Curve], how: Callable[[Iterable[bool]], bool]) -> Curve:
    """`all` or `any` of them.  cost: each curve is looked up at each turn of any"""
    turns = sorted({turn for curve in curves for turn in curve.turns})
    first = how(curve.first for curve in curves)
    return steps(first, ((turn, how(curve.at(turn) for curve in curves)) for turn in turns))


def counted(parts: Iterable[tuple[int, int | None]], met: Callable[[int], bool]) -> Curve:
    """Of how many times [from, to) hold at once: does that number meet it?"""
    changes: dict[int, int] = {}
    for since, until in parts:
        if until is not None and until <= since:
            continue
        changes[since] = changes.get(since, 0) + 1
        if until is not None:
            changes[until] = changes.get(until, 0) - 1
    count = 0
    found = []
    for at in sorted(changes):
        count += changes[at]
        found.append((at, met(count)))
    return steps(met(0), found)


def spliced(parts: Sequence[tuple[int, Curve]]) -> Curve:
    """From each time on (ascending, the first from the beginning) that curve."""
    found: list[tuple[int, bool]] = []
    for place, (since, curve) in enumerate(parts):
        until = parts[place + 1][0] if place + 1 < len(parts) else None
        found.append((since, curve.at(since)))
        found += [(turn, curve.at(turn)) for turn in curve.turns if turn > since and (until is None or turn < until)]
    return steps(parts[0][1].first, found)
