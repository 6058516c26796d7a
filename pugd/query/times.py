"""Times as people and programs read them: RFC 3339 with milliseconds in answers; that or a bare date in questions.

A bare date is midnight in the project's time zone (RULES, Time), so `from=2026-03-01&to=2026-04-01` is that zone's
March.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+ -]\d{2}:\d{2})", re.ASCII)


def zone(name: str) -> ZoneInfo:
    """The time zone of that name; UTC where this machine knows none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def text(ms: int) -> str:
    """Milliseconds since 1970 → `2026-03-01T08:15:30.123Z`."""
    return (_EPOCH + ms * _MILLISECOND).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def read(said: str, zone: ZoneInfo) -> int | None:
    """RFC 3339 or a bare date → milliseconds since 1970, later parts of a millisecond cut off; None where it is
    neither. A `+` that an address turned into a space is read as `+`."""
    try:
        if _DATE.fullmatch(said):
            moment = datetime.combine(date.fromisoformat(said), time(), zone)
        elif _MOMENT.fullmatch(said):
            said = f"{said[:19]}{said[19:].replace(' ', '+')}".upper()
            moment = datetime.fromisoformat(said)
        else:
            return None
        return (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None


def periods(since: int, until: int, period: str, zone: ZoneInfo) -> list[int]:
    """Where the hours, days, weeks (from Monday) or months that touch [since, until) begin in this zone, and where
    the next begins after them. A day begins with its first moment, be that midnight or not, and may have 23 hours."""
    if period == "hour":
        first = datetime.fromtimestamp(since // 1000, zone).replace(minute=0, second=0, microsecond=0)
        hour = 3_600_000
        begin = (first - _EPOCH) // _MILLISECOND
        return list(range(begin, until + hour, hour)) if begin < until else [begin, begin + hour]
    day = datetime.fromtimestamp(since // 1000, zone).date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    found = [_begins(day, zone)]
    while found[-1] < until:
        if period == "month":
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            day += timedelta(days=7 if period == "week" else 1)
        begins = _begins(day, zone)
        if begins > found[-1]:  # there are zones that once left out a day
            found.append(begins)
    return found


def _begins(day: date, zone: ZoneInfo) -> int:
    return (datetime.combine(day, time(), zone) - _EPOCH) // _MILLISECOND
