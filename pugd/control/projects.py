"""Projects: customers' spaces. The first, made with the database, is the default.

A project's time zone decides where its days, weeks and months begin, and what a date without a time means; events are
kept in UTC, so another zone changes what is answered and nothing that is stored.
"""

from __future__ import annotations

import difflib
import functools
import zoneinfo
from typing import Final

from pugd.control.postgres import Connection
from pugd.errors import ControlError
from pugd.model import Project
from pugd.question import QuestionError

DEFAULT: Final = 1
NEAR_MAX: Final = 3
"""Names of zones that are suggested for one that there is not."""
_NO_ZONES: Final = frozenset({"Factory", "localtime"})
"""Names that say nothing of a place, or something else on each machine."""


def list_projects(connection: Connection) -> list[Project]:
    """All, oldest first."""
    rows = connection.execute("select id, name, time_zone from projects order by id")
    return [Project(id_, name, time_zone) for id_, name, time_zone in rows]


def change_zone(connection: Connection, project: int, name: str) -> Project:
    """Give a project another time zone: its next question is answered by that.

    raises   QuestionError where there is no such zone, ControlError where there is no such project
    """
    check_zone(name)
    row = connection.execute(
        "update projects set time_zone = %s where id = %s returning id, name, time_zone", (name, project)
    ).fetchone()
    if row is None:
        raise ControlError(f"there is no project {project}; `pugd projects list` shows all")
    return Project(*row)


def check_zone(name: str) -> None:
    """raises   QuestionError that says which names are near"""
    if name in zones():
        return
    near = nearest(name[:100])
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise QuestionError(
        "invalid_field",
        f"time_zone: there is no zone {name[:100]!r}; {hint}Name one of the IANA database, such as Europe/Berlin or"
        " UTC.",
        "time_zone",
    )


@functools.cache
def zones() -> frozenset[str]:
    """Names of the IANA database, as this machine has it."""
    return frozenset(zoneinfo.available_timezones() - _NO_ZONES)


def nearest(name: str) -> list[str]:
    """Zones that may have been meant, the nearest first: by the whole name, or by its place alone."""
    wanted = "_".join(name.lower().split())
    near: dict[str, float] = {}
    for zone in sorted(zones()):
        whole, place = zone.lower(), zone.lower().rpartition("/")[2]
        tried = [difflib.SequenceMatcher(None, wanted, one) for one in (whole, place)]
        near[zone] = max(one.ratio() if one.quick_ratio() > 0.7 else 0 for one in tried)
    found = sorted((zone for zone in near if near[zone] > 0.7), key=lambda zone: (-near[zone], zone))
    exact = [zone for zone in found if near[zone] == 1]
    return (exact or found)[:NEAR_MAX]
