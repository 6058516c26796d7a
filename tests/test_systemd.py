"""The units: systemd finds nothing wrong with them, and pugd really runs under what pugd.service says.

No systemd can be booted where tests run, so hardened.py applies the same restrictions by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "systemd" / "pugd.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    for name in ("pugd.service", "pugd.socket"):
        text = (ROOT / "systemd" / name).read_text()
        filled = text.replace("@PREFIX@/bin/python", sys.executable).replace("@CONFDIR@", "/etc/pugd")
        assert "@" not in re.sub(r"@(system-service|privileged|mount|debug)\b", "", filled), "a place was left open"
        (tmp_path / name).write_text(filled)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "pugd.service"), str(tmp_path / "pugd.socket")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice"},
    )
    ours = [line for line in done.stderr.splitlines() if "pugd" in line]
    assert (done.returncode, ours) == (0, [])


def everybodys_python() -> str | None:
    """An interpreter of this version that a user without rights may run, as a service's would be."""
    wanted = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"):
        reach = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", candidate, "-c", ""]
        if candidate.startswith(("/root/", "/home/")) or not Path(candidate).exists():
            continue
        if subprocess.run(reach, capture_output=True, check=False, cwd="/").returncode == 0:
            return candidate
    return None


def test_runs_under_its_own_hardening() -> None:
    python = everybodys_python()
    packages = sysconfig.get_path("purelib")
    if os.geteuid() != 0 or shutil.which("systemd-analyze") is None or shutil.which("setpriv") is None:
        pytest.skip("needs root, systemd-analyze and setpriv")
    if (
        python is None
        or str(ROOT).startswith(("/root/", "/home/", "/tmp/"))
        or packages.startswith(("/root/", "/tmp/"))
    ):
        pytest.skip("the unit hides /root, /home and /tmp, and Python or this checkout lies there")
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no mount namespace is to be had here")
    with tempfile.TemporaryDirectory(prefix="pugd-hardened-", dir="/var/tmp") as state:
        Path(state, "pugd.toml").write_text(
            'data = "/var/lib/pugd"\ncollector = "127.0.0.1:0"\nconsole = "127.0.0.1:0"\nread_key = "hardened"\n'
        )
        Path(state, "pugd.toml").chmod(0o644)
        out = Path(state, "out")
        with out.open("wb") as output:
            pugd = subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / "tests" / "hardened.py"), str(UNIT), state),
                    *(python, "-P", "-m", "pugd", "serve", "--config", "/var/lib/pugd/pugd.toml"),
                ],
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            end = time.monotonic() + 60
            while "pugd is ready" not in out.read_text() and pugd.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            said = out.read_text()
            assert "pugd is ready" in said, said
            collector = re.search(r"http://([0-9.:]+)/v1/track", said)
            console = re.search(r"http://([0-9.:]+)/login", said)
            assert collector is not None
            assert console is not None
            where = ["--data", state, "--collector", collector[1], "--console", console[1]]
            told = subprocess.run(
                [sys.executable, "-m", "pugd", "demo", *where],
                cwd=ROOT,
                env={**os.environ, "PUGD_READ_KEY": "hardened"},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert told.returncode == 0, told.stderr + out.read_text()
            assert "checkout_started USD 416.21" in told.stdout
            status = Path(f"/proc/{pugd.pid}/status").read_text()
            assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
            assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
            pugd.terminate()
            assert pugd.wait(60) == 0, out.read_text()
        finally:
            if pugd.poll() is None:
                pugd.terminate()
                pugd.wait(60)
