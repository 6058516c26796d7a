"""A headless browser with hands: pages are opened, forms filled and buttons pressed, over Chromium's debugging pipe.

Scripts of pages stay forbidden as they are; what is done here is done from outside the page.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads commands from descriptor 3 and answers on 4."""


class Browser:
    """One page in one window."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._read = b""
        self._count = 0
        self._session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Network.enable")

    def ask(self, method: str, **params: object) -> Any:
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (said := self._next()).get("id") != self._count:
            pass
        assert "error" not in said, said
        return said["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._back, 1 << 20)
            assert more, "the browser has gone"
            self._read += more
        line, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def _wait_loaded(self) -> None:
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def open(self, address: str) -> None:
        """Go to an address, as typed."""
        self.ask("Page.navigate", url=address)
        self._wait_loaded()

    def press(self, selector: str) -> None:
        """Press what leads to another page: a link or a button."""
        assert self.run(f"document.querySelectorAll({json.dumps(selector)}).length") > 0, (selector, self.text)
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        self._wait_loaded()

    def fill(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def run(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    @property
    def text(self) -> str:
        return " ".join(str(self.run("document.body.innerText")).split())

    @property
    def address(self) -> str:
        return str(self.run("location.pathname + location.search"))


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with an empty profile."""
    assert PATH is not None
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={directory}"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), PATH, *options],
        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(to, back)
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
