"""Puts tests/ on the path, so that every test can import its twins (`reference.…`) and `makers`; and lets no example of
Hypothesis fail for being slow, which says more of the machine than of us."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
