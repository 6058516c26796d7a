"""Client libraries as their registries have them, brought into a directory of their own and run in a process of theirs.

`python` and `node` say where a package was installed; where the registry cannot be reached the test is skipped, and
says so: it is the one thing here that needs a network. `run` gives a script its settings and reads what it prints.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

INSTALL_S = 120
RUN_S = 60
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def python(directory: Path, *packages: str) -> Path:
    """Packages such as `mixpanel==5.4.1`, with all they need; skips where pip cannot reach its registry."""
    return _installed(
        directory,
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1",
         "--target", str(directory), *packages],
    )  # fmt: skip


def node(directory: Path, *packages: str) -> Path:
    """Packages such as `mixpanel@0.24.0`; skips where there is no node, or npm cannot reach its registry."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    return _installed(
        directory,
        ["npm", "install", "--prefix", str(directory), "--no-audit", "--no-fund", "--ignore-scripts",
         "--fetch-retries", "1", *packages],
    )  # fmt: skip


def _installed(directory: Path, command: list[str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S, cwd=directory)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the registry did not bring {command[-1]} within {INSTALL_S} s")
    if made.returncode:
        said = [line for line in (made.stderr + made.stdout).splitlines() if "rror" in line] or ["no word why"]
        pytest.skip(f"the registry did not bring {command[-1]}: {said[0][:300]}")
    return directory


def run(script: str, installed: Path, *, in_node: bool = False, **settings: object) -> Any:
    """Run a script beside what was installed, settings as JSON in SETTINGS; returns the JSON it prints last."""
    file = installed / ("script.js" if in_node else "script.py")
    file.write_text(script)
    env = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    env |= {"SETTINGS": json.dumps(settings), "PYTHONPATH": str(installed)}
    done = subprocess.run(
        ["node" if in_node else sys.executable, str(file)],
        capture_output=True, text=True, check=False, timeout=RUN_S, cwd=installed, env=env,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])
