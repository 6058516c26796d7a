"""The heap keeps what was freed: memory used again is not faulted in again."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
from pugd.edge.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def wake_up():
    return [bytes(range(256)) * 200 for _ in range(60)]
wake_up()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    wake_up()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)


def test_freed_memory_is_kept() -> None:
    assert faults("kept") * 10 < faults("plain")
