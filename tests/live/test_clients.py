"""The lines that README and docs tell people to paste work as they stand, in the order of the page."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from live.daemon import READ_KEY, WRITE_KEY, Daemon, root

PAGES = [path for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))] if path.exists()]


SHELLS = ("", "sh", "bash", "console", "shell")


def commands(block: str) -> list[str]:
    """The commands of a code block, as a shell reads them: one goes on after a backslash, and within quotes."""
    found, begun = [], ""
    for line in block.splitlines():
        begun += line if begun else line.removeprefix("$ ")
        try:
            words = shlex.split(begun, comments=True)
        except ValueError as error:
            begun = begun[:-1] if error.args == ("No escaped character",) else begun + "\n"
            continue
        if words:
            found.append(begun)
        begun = ""
    assert not begun, f"never ends: {begun}"
    return found


def curl_lines(page: Path) -> list[str]:
    """Every curl command of the page's code blocks."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
    told = [command for language, block in blocks if language in SHELLS for command in commands(block)]
    return [command for command in told if command.startswith("curl ")]


def test_a_command_may_take_several_lines() -> None:
    block = """$ export KEY="a b"   # it's a key
curl -u "$KEY:" \\
  -d '{"series":
    [{"event": "a"}]}' \\
  http://127.0.0.1:7080/v1/track

curl http://127.0.0.1:7081/health/live
"""
    export, first, second = commands(block)
    assert export.startswith("export ")
    words = shlex.split(first)
    assert (words[:3], words[-1]) == (["curl", "-u", "$KEY:"], "http://127.0.0.1:7080/v1/track")
    assert words[4] == '{"series":\n    [{"event": "a"}]}'
    assert second == "curl http://127.0.0.1:7081/health/live"
    with pytest.raises(AssertionError, match="never ends"):
        commands("curl -d '{\n")


def test_the_readme_has_lines_to_paste() -> None:
    assert curl_lines(root / "README.md"), "README.md shows no curl line"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_curl_lines_work(daemon: Daemon, page: Path, tmp_path: Path) -> None:
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
            cwd=tmp_path,  # some lines save what they get
            env={"PATH": "/usr/bin:/bin", "WRITE_KEY": WRITE_KEY, "READ_KEY": READ_KEY},
        )
        assert answer.returncode == 0, (line, answer.stdout, answer.stderr)
        if ":7080/v1" in line and "-d" in line:
            assert json.loads(answer.stdout)["success"] is True, (line, answer.stdout)
