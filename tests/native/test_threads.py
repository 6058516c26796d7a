"""The C tests of what runs in a thread of its own, once more under the thread sanitizer."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"


def test_flush_has_no_race(tmp_path: Path) -> None:
    program = tmp_path / "test_flush"
    built = subprocess.run(
        [
            *("cc", "-std=gnu11", "-O1", "-g", "-pthread", "-fsanitize=thread", f"-I{NATIVE}"),
            *(str(HERE / "test_flush.c"), str(NATIVE / "record.c"), "-o", str(program)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    # the sanitizer wants its shadow memory at fixed addresses, which address randomization may already have taken
    ran = subprocess.run(
        ["setarch", platform.machine(), "-R", str(program)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
