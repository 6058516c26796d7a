"""How much a key sends: a bucket of tokens for a second's rate, and a count for a day's quota.

A request is let in while the bucket is not empty and the day's events are not used up, and is then taken whole: what
it takes beyond that is owed, and waited for by the next. So the rate holds over time, whatever the batches are, and
nothing is counted but whole requests. Days are UTC's. A clock that goes back neither fills a bucket nor begins a day
again.
"""

from __future__ import annotations

from typing import Final

from pugd.errors import QUOTA_EXCEEDED, RATE_LIMITED
from pugd.model import KeyUsage, Refusal, WriteKey

DAY_MS: Final = 86_400_000
BURST_S: Final = 10
"""Seconds of the rate that a bucket holds where no burst is given."""
WAIT_S_MAX: Final = 3600
"""Nobody is told to wait longer: limits are raised, too."""


class Meter:
    """One key's counters. Times are ms since 1970."""

    __slots__ = ("_burst", "_filled_at", "_left", "_per_day", "_rate", "day", "last_used", "limited", "today")

    def __init__(self, key: WriteKey) -> None:
        self._left = 0.0
        self._filled_at = 0
        self._burst = -1
        self.day = 0
        """Days since 1970, of `today`."""
        self.today = 0
        """Events taken on that day."""
        self.last_used = 0
        self.set(key)

    def set(self, key: WriteKey) -> None:
        """The key's limits are these now; what was counted stays."""
        self._rate, self._per_day = key.rate, key.per_day
        burst = key.burst or key.rate * BURST_S
        if burst != self._burst:
            # What is owed stays owed; a bucket that was full is full.
            self._left = float(burst) if self._left >= self._burst else min(self._left, float(burst))
            self._burst = burst
        self.limited = bool(key.rate or key.per_day)

    def over(self, now: int) -> Refusal | None:
        """Why nothing may be sent now; None: it may."""
        if self._rate:
            self._fill(now)
            if self._left <= 0:
                wait = int(-self._left / self._rate) + 1
                return Refusal(
                    RATE_LIMITED,
                    f"more than the {self._rate} events a second that this write key may send: send it again later",
                    retry_s=min(wait, WAIT_S_MAX),
                )
        if self._per_day and self.today >= self._per_day and now // DAY_MS <= self.day:
            wait = (DAY_MS - now % DAY_MS) // 1000 + 1
            return Refusal(
                QUOTA_EXCEEDED,
                f"the {self._per_day} events a day (UTC) that this write key may send are used up: send it again later",
                retry_s=min(wait, WAIT_S_MAX),
            )
        return None

    def count(self, events: int, now: int) -> None:
        """So many were taken; fewer than none were not kept after all."""
        day = now // DAY_MS
        if day > self.day:
            self.day, self.today = day, 0
        self.today = max(0, self.today + events)
        if now > self.last_used:
            self.last_used = now
        if self._rate:
            self._fill(now)
            self._left = min(self._left - events, float(self._burst))

    def _fill(self, now: int) -> None:
        passed = now - self._filled_at
        if passed > 0:
            self._left = min(self._left + self._rate * passed / 1000, float(self._burst))
            self._filled_at = now

    def usage(self) -> KeyUsage:
        return KeyUsage(self.day, self.today, self.last_used)

    def restore(self, usage: KeyUsage) -> None:
        """Go on counting from what an earlier process had counted."""
        if usage.day > self.day:
            self.day, self.today = usage.day, usage.today
        self.last_used = max(self.last_used, usage.last_used)
