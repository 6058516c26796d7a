"""One embedded Postgres for the tests of a module, and an empty database of it for each."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pugd.control import postgres
from pugd.control.embedded import Embedded

_databases = itertools.count(1)


@contextmanager
def running() -> Iterator[str]:
    """How to reach it."""
    with tempfile.TemporaryDirectory(prefix="pugd-test-") as made:
        embedded = Embedded(Path(made) / "postgres")
        yield embedded.start()
        embedded.stop()


def fresh(server: str) -> str:
    """A database of its own, with all tables."""
    name = f"fresh_{next(_databases)}"
    with postgres.connect(server) as connection:
        connection.execute(f"create database {name}".encode())
    conninfo = f"{server} dbname={name}"
    with postgres.borrowed(conninfo) as connection:
        postgres.migrate(connection)
    return conninfo
