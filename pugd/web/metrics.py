"""What the parts say of themselves, as Prometheus text.

Every part has `statistics()`, a frozen record, and none knows of metrics. A record is rendered by its fields alone:
`pugd_<part>_<field>`, records within records deeper, a truth as 0 or 1, a map of numbers as one metric with the label
`of`; texts and absent values are left out. Fields named for what happened since the start are counters and end in
`_total`; all others are gauges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTED = re.compile(
    r"(^|_)(accepted|blocks|calls|conflicts|damages|datagrams|dropped|duplicates|errors|events|failed|failures"
    r"|forgotten|gaps|inserts|joins|links|merges|parsed|quarantined|questions|queries|received|records|refused|requests|retries"
    r"|rows|seconds|spans|stale|syncs|timeouts|total|traits|truncated|unavailable|ups|written)"
    r"(_bytes|_refused|_truncated|_dropped|_accepted|_received|_parsed|_seconds|_ns|_total|_bound|_disk|_pending)?$"
)
_NOT_COUNTED = re.compile(r"(^|_)(max|lag|age|waiting|held|running|available|reserve|oldest)(_|$)")
_NAME = re.compile(r"[^a-zA-Z0-9_]")


def rendered(statistics: Mapping[str, Any]) -> str:
    """`statistics`: each part's record by the part's name; a record is a Struct or a mapping."""
    lines: list[str] = []
    for part, record in sorted(statistics.items()):
        for path, value in _leaves((part,), record):
            name = "pugd_" + "_".join(_NAME.sub("_", step) for step in path)
            counted = _COUNTED.search(path[-1]) is not None and not _NOT_COUNTED.search(path[-1])
            counted = counted and not isinstance(value, bool)
            if counted and not name.endswith("_total"):
                name += "_total"
            field = f"{path[-1]} of {'.'.join(path[:-1])}".replace("\\", "\\\\").replace("\n", "\\n")
            lines.append(f"# HELP {name} {field}, {'since the start' if counted else 'now'}.")
            lines.append(f"# TYPE {name} {'counter' if counted else 'gauge'}")
            if isinstance(value, Mapping):
                lines += [f'{name}{{of="{_label(str(of))}"}} {_number(each)}' for of, each in sorted(value.items())]
            else:
                lines.append(f"{name} {_number(value)}")
    return "\n".join([*lines, ""])


def _leaves(path: tuple[str, ...], record: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each number, and each map of numbers that is a field of its own (refusals by code)."""
    if isinstance(record, msgspec.Struct):
        record = {field: getattr(record, field) for field in record.__struct_fields__}
    for field, value in record.items():
        here = (*path, str(field))
        if isinstance(value, int | float):
            yield here, value
        elif isinstance(value, Mapping) and str(field).endswith(
            ("refused", "reasons", "errors", "by_code", "by_table")
        ):
            numbers = {of: number for of, number in value.items() if isinstance(number, int | float)}
            if numbers:
                yield here, numbers
        elif isinstance(value, Mapping | msgspec.Struct):
            yield from _leaves(here, value)


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
