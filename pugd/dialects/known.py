"""The dialects there are, by the names that edge/routes.py uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pugd.dialects import amplitude, mixpanel, posthog, segment
from pugd.dialects.dialect import Asked, Dialect

DIALECTS: Final[Mapping[str, Dialect]] = {
    "segment": segment,
    "posthog": posthog,
    "amplitude": amplitude,
    "mixpanel": mixpanel,
}


def chosen(name: str, others: tuple[str, ...], body: bytes, asked: Asked) -> Dialect:
    """Which dialect a body speaks: the first of the `others` that know it for theirs, else `name`."""
    for other in others:
        dialect = DIALECTS[other]
        if dialect.is_mine(body, asked):
            return dialect
    return DIALECTS[name]
