"""The time of day in answers, as RFC 9110 asks: written once a second, and kept with the answers that are sent most."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Final

from pugd.edge.response import CONTINUE, spliced

COUNT_MAX: Final = 256
BYTES_MAX: Final = 1024


class Dates:
    """This second's."""

    def __init__(self) -> None:
        self.known: dict[bytes, bytes] = {}
        """Answers that were sent this second → with their date."""
        self._line = b""
        self._over = 0.0
        self.turn(time.monotonic())

    def turn(self, now: float) -> None:
        """Begin the next second, if `now`, monotonic, is in it."""
        if now >= self._over:
            self._over = now + 1 - time.time() % 1
            self._line = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
            self.known.clear()

    def dated(self, answer: bytes) -> bytes:
        """An answer with its date; kept for its second, since most answers are one of few."""
        if answer is CONTINUE:
            return answer
        dated = spliced(answer, self._line)
        if len(self.known) < COUNT_MAX and len(answer) <= BYTES_MAX:
            self.known[answer] = dated
        return dated
