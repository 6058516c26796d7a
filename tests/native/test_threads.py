"""The C tests of what runs in a thread of its own, once more under the thread sanitizer."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("test_flush", ["record.c"]),
        ("test_pages", ["pages.c"]),
        ("test_saving", ["saving.c", "graph.c", "extras.c", "ids.c", "siphash.c", "pages.c"]),
    ],
)
def test_there_is_no_race(name: str, sources: list[str], tmp_path: Path) -> None:
    program = tmp_path / name
    built = subprocess.run(
        [
            *("cc", "-std=gnu11", "-O1", "-g", "-pthread", "-fsanitize=thread", f"-I{NATIVE}"),
            *(str(HERE / f"{name}.c"), *(str(NATIVE / source) for source in sources), "-o", str(program)),
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
