"""Client libraries as their registries have them: pinned here, installed once, run in processes of their own.

`node` and `python` give the folder in which all of package-lock.json, or of requirements.txt, is installed. It lies
beside the virtual environment, under a name that the pins decide, so it is made once for all tests and all runs. Where
there is no Node that the libraries can live with, or the registry cannot be reached, the test is skipped and says so;
anything else that goes wrong with an installation is a failure.

`run` runs a script with settings and reads what it prints at last.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "scripts"
KEPT = Path(os.path.abspath(sys.prefix)) / "clients"
NODE_MIN = (20, 20)
"""posthog-node runs on none before it, segment's on none before 20."""
INSTALL_S = 240
RUN_S = 90
_UNREACHED = re.compile(
    r"EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ENOTCACHED|E40[134]|E5\d\d"
    r"|ERR_SOCKET_TIMEOUT|FETCH_ERROR|network (?:error|request)|Connection ?Error|ConnectTimeout|ReadTimeout"
    r"|Failed to establish a new connection|No matching distribution|Temporary failure|ProxyError|SSLError",
    re.I,
)
"""What npm and pip say where a registry is not there, or has not what is asked for."""


@functools.cache
def _missing_node() -> str | None:
    """Why scripts for Node cannot run here."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no Node here, or no npm"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    version = tuple(int(part) for part in said.removeprefix("v").split(".")[:2])
    return None if version >= NODE_MIN else f"Node {said} is older than the libraries take"


def node() -> Path:
    """The folder whose `node_modules` has them."""
    why = _missing_node()
    if why is not None:
        pytest.skip(why)

    def command(into: Path) -> list[str]:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, into)
        return ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries", "1"]

    return _installed("node", HERE / "package-lock.json", command)


def python() -> Path:
    """The folder to put on a Python's path."""

    def command(into: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"),
            *("--no-deps", "--retries", "1", "--target", str(into), "-r", str(HERE / "requirements.txt")),
        ]

    return _installed("python", HERE / "requirements.txt", command)


_why_not: dict[str, str] = {}
"""What could not be had; asked for once a process."""


def _installed(kind: str, pins: Path, command: Callable[[Path], list[str]]) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}" if kind == "python" else ""
    name = f"{kind}{version}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:16]}"
    made = KEPT / name
    if made.is_dir():
        return made
    if name in _why_not:
        pytest.skip(_why_not[name])
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.is_dir():
            return made
        with tempfile.TemporaryDirectory(dir=KEPT) as fresh:
            # Half an installation never has the name of a whole one.
            into = Path(fresh) / name
            into.mkdir()
            try:
                done = subprocess.run(
                    command(into), cwd=into, capture_output=True, text=True, check=False, timeout=INSTALL_S
                )
            except subprocess.TimeoutExpired:
                _why_not[name] = f"the registry did not bring {pins.name} within {INSTALL_S} s"
                pytest.skip(_why_not[name])
            said = done.stderr + done.stdout
            if done.returncode:
                assert _UNREACHED.search(said), said[-4000:]
                _why_not[name] = f"the registry did not bring {pins.name}: {said.strip()[-300:]}"
                pytest.skip(_why_not[name])
            into.rename(made)
    return made


def run(script: Path | str, directory: Path, *, in_node: bool = False, **settings: object) -> Any:
    """What a script prints last, as JSON.

    `script`    a file of SCRIPTS, or source; run from `directory`, which is the test's own
    `settings`  its variable SETTINGS of the environment, as JSON
    """
    directory.mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "LANG": "C.UTF-8"}
    env["SETTINGS"] = json.dumps(settings)
    if isinstance(script, Path):
        file, source = directory / script.name, script.read_text()
    else:
        file, source = directory / ("script.cjs" if in_node else "script.py"), script
    file.write_text(source)
    if in_node:
        modules = directory / "node_modules"
        if not modules.is_symlink():
            modules.symlink_to(node() / "node_modules")
        command = ["node", str(file)]
    else:
        env["PYTHONPATH"] = str(python())
        command = [sys.executable, "-P", str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=RUN_S, cwd=directory, env=env
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError((f"{file.name} took more than {RUN_S} s", late.stdout, late.stderr)) from None
    assert done.returncode == 0, (file.name, done.stdout[-2000:], done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])
