"""A headless browser with hands: pages are opened, forms filled and buttons pressed, over Chromium's debugging pipe.

Scripts of pages stay forbidden as they are; what is done here is done from outside the page.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE_S = 60

_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads commands from descriptor 3 and answers on 4."""


class _Pipe:
    """To the browser and back, for all of its tabs."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back = to, back
        self.read = b""
        self.count = 0
        self._ready = select.poll()  # of descriptors beyond 1023 too
        self._ready.register(back, select.POLLIN)

    def next(self) -> dict[str, Any]:
        while b"\0" not in self.read:
            assert self._ready.poll(PATIENCE_S * 1000), "the browser says nothing any more"
            more = os.read(self.back, 1 << 20)
            assert more, "the browser has gone"
            self.read += more
        line, _, self.read = self.read.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found


class Browser:
    """One page in one window."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._session = ""
        self._target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Network.enable")

    def another(self) -> Browser:
        """A second tab, with the same cookies and storage."""
        return Browser(self._pipe)

    def close(self) -> None:
        """This tab alone, as its cross does: the page is told."""
        self.ask("Page.close")

    def ask(self, method: str, **params: object) -> Any:
        pipe = self._pipe
        pipe.count += 1
        message: dict[str, object] = {"id": pipe.count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(pipe.to, json.dumps(message).encode() + b"\0")
        while (said := pipe.next()).get("id") != pipe.count:
            pass
        assert "error" not in said, said
        return said["result"]

    def _wait_loaded(self) -> None:
        while (said := self._pipe.next()).get("method") != "Page.loadEventFired" or said["sessionId"] != self._session:
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
        """The value of a script, awaited where it is a promise."""
        said = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    @property
    def text(self) -> str:
        return " ".join(str(self.run("document.body.innerText")).split())

    @property
    def address(self) -> str:
        return str(self.run("location.pathname + location.search"))


AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
"""A person's: what calls itself headless is a bot, and its events are on no timeline."""


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with an empty profile."""
    assert PATH is not None
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={directory}"),
        f"--user-agent={AGENT}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), PATH, *options],
        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(_Pipe(to, back))
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
