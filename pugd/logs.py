"""How pugd logs: plain lines to standard error, one a happening, `time level part message`, and no secret in any.

Each process says which part it is. Settings that are secret are replaced wherever they would appear, whoever logs them,
also in the text of an exception.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

HIDDEN: Final = "(hidden)"


class Lines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z info keeper drained rows=1000`."""

    def __init__(self, part: str, secrets: Iterable[str]) -> None:
        super().__init__()
        self.part = part
        self.secrets = sorted({s for s in secrets if len(s) >= 4}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback, where there is one, follows indented."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = record.levelname.lower()
        text = record.getMessage().replace("\n", " ⏎ ")
        name = "" if record.name.split(".")[0] == "pugd" else f"{record.name}: "
        if record.exc_info:
            text += "\n  " + self.formatException(record.exc_info).replace("\n", "\n  ")
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return f"{clock}.{int(record.msecs):03d}Z {level} {self.part} {name}{text}"


def start(part: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Log to standard error from now on, as `part`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(part, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # What these say comes up as an exception too, which whoever asked explains in a line.
    for library in ("urllib3", "clickhouse_connect"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("pugd").setLevel(level.upper())


def secrets_of_url(url: str) -> list[str]:
    """The password in a URL, as written and as meant."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return [url]
    return [password, unquote(password)] if password else []
