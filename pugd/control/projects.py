"""Projects: customers' spaces. The first, made with the database, is the default."""

from __future__ import annotations

from typing import Final

from pugd.control.postgres import Connection
from pugd.model import Project

DEFAULT: Final = 1


def list_projects(connection: Connection) -> list[Project]:
    """All, oldest first."""
    rows = connection.execute("select id, name, time_zone from projects order by id")
    return [Project(id_, name, time_zone) for id_, name, time_zone in rows]
