"""On the path of a child that bench_whole.py starts with --functions: profiles the collector by Python function.

Writes the cProfile statistics to the file that BENCH_FUNCTIONS names when the process ends. Each call costs more under
it, so it says where calls are spent, never how many microseconds an event takes.
"""

from __future__ import annotations

import atexit
import cProfile
import os
from pathlib import Path

if "BENCH_FUNCTIONS" in os.environ and b"collector" in Path("/proc/self/cmdline").read_bytes().split(b"\0"):
    profile = cProfile.Profile()

    def write() -> None:
        profile.disable()
        profile.dump_stats(os.environ["BENCH_FUNCTIONS"])

    atexit.register(write)
    profile.enable()
