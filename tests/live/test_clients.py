"""The lines that README and docs tell people to paste work as they stand, in the order of the page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from live.daemon import READ_KEY, WRITE_KEY, Daemon, root

PAGES = [path for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))] if path.exists()]


def curl_lines(page: Path) -> list[str]:
    """Every curl command of the page's code blocks, continuation lines joined."""
    blocks = re.findall(r"^```(?:sh|bash|console|shell)?\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("curl ")]


def test_the_readme_has_lines_to_paste() -> None:
    assert curl_lines(root / "README.md"), "README.md shows no curl line"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_curl_lines_work(daemon: Daemon, page: Path) -> None:
    for line in curl_lines(page):
        command = line.replace("127.0.0.1:7080", f"127.0.0.1:{daemon.port}").replace(
            "localhost:7080", f"localhost:{daemon.port}"
        )
        command = command.replace("127.0.0.1:7081", f"127.0.0.1:{daemon.console}")
        command = command.replace("localhost:7081", f"localhost:{daemon.console}")
        answer = subprocess.run(
            ["bash", "-c", f"set -e; {command} --silent --show-error --fail-with-body"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "WRITE_KEY": WRITE_KEY, "READ_KEY": READ_KEY},
        )
        assert answer.returncode == 0, (line, answer.stdout, answer.stderr)
        if ":7080/v1" in line:
            assert json.loads(answer.stdout)["success"] is True, (line, answer.stdout)
