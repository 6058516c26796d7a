"""Every C test beside this file, compiled with the native sources it names under ASan and UBSan, and run.

A C test is a plain program: it returns 0, or prints what broke and returns something else. Its first lines may say
`// sources: ids.c graph.c` (files of native/ to link with it) and `// define: PUGD_TEST_MEMORY` (for all of them).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
FLAGS = (
    *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-pthread"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)
SECONDS_MAX = 120
"""A test that runs longer hangs."""


def named(source: str, word: str) -> list[str]:
    """The words after `// word:` in a C test."""
    return [name for line in re.findall(rf"^// {word}:(.*)$", source, re.MULTILINE) for name in line.split()]


@pytest.mark.parametrize("path", sorted(HERE.glob("test_*.c")), ids=lambda path: path.stem)
def test_c(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    program = tmp_path / path.stem
    command = [
        *("cc", *FLAGS, f"-I{NATIVE}", *(f"-D{name}" for name in named(text, "define"))),
        *(str(path), *(str(NATIVE / name) for name in named(text, "sources")), "-o", str(program), "-lm"),
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert built.returncode == 0, built.stderr
    environment = dict(os.environ, ASAN_OPTIONS="abort_on_error=0", UBSAN_OPTIONS="print_stacktrace=1")
    ran = subprocess.run(
        [str(program)], capture_output=True, text=True, errors="replace", timeout=SECONDS_MAX, env=environment
    )
    assert ran.returncode == 0, f"exit {ran.returncode}\n{ran.stdout[-4000:]}\n{ran.stderr[-8000:]}"
