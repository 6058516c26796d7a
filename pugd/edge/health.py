"""Whether this process should be sent events: live, and ready or why not. Pure; others tell it what happened."""

from __future__ import annotations

from typing import Final

import msgspec

STARTING: Final = "starting"
DRAINING: Final = "draining"
JOURNAL_FULL: Final = "journal_full"
"""Over its byte bound, or the disk is under its reserve: an ack could not be kept. Passes by itself."""


class Health:
    """Live as long as it can answer at all; ready when no reason stands against it."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {STARTING: "recovering the journal"}

    def started(self) -> None:
        self.clear(STARTING)

    def draining(self) -> None:
        """For good: a process that drains ends."""
        self.say(DRAINING, "shutting down")

    def say(self, reason: str, message: str) -> None:
        """`reason` stands against being ready, until cleared."""
        self._reasons[reason] = message

    def clear(self, reason: str) -> None:
        assert reason != DRAINING, "a process that drains ends"
        self._reasons.pop(reason, None)

    @property
    def ready(self) -> bool:
        return not self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        return dict(self._reasons)

    def live(self) -> tuple[int, bytes]:
        """Status and JSON body of `/health/live`."""
        return 200, b'{"live":true}'

    def readiness(self) -> tuple[int, bytes]:
        """Status and JSON body of `/health/ready`."""
        said = {"ready": self.ready, "reasons": self._reasons}
        return 200 if self.ready else 503, msgspec.json.encode(said)
