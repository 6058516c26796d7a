"""A moment of what `make soak` does for long: graph, rules and snapshot beside the plain twin, on a heap that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).with_name("soak.py")


def run(*arguments: str) -> str:
    """The program in a process of its own: it puts another native part in the place of the real one."""
    ran = subprocess.run(
        [sys.executable, str(SOAK), *arguments], capture_output=True, text=True, timeout=600, cwd=SOAK.parents[2]
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-6000:]}"
    return ran.stdout


def test_worlds_from_a_seed() -> None:
    said = run("--operations", "5000", "--seed", "1")
    assert "twin and graph agree" in said
    for each in (
        *("identify", "alias", "event", "merge", "unlink", "user", "nothing new"),
        *("both_identified", "illegal_id", "self_link", "too_many_ids", "unlinked_by_hand", "not_linked"),
        *("allocation failed", "allocation failed in a load", "allocation failed in a replay"),
        *("rehearsed", "explained", "looked at", "reloaded", "restarted", "rebuilt", "collectors agreed"),
    ):
        assert f"{each} " in said, f"never seen: {each}"


def test_worlds_that_were_never_seen_before() -> None:
    assert "twin and graph agree" in run("--operations", "3000")


def test_operations_drawn_by_hypothesis() -> None:
    assert "found nothing" in run("--hypothesis", "80")
