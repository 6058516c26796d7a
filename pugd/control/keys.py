"""Write keys and read keys.

A public write key (`pub_…`) stands in web pages, so it is kept as it is and can be shown again. A secret write key
(`prv_…`) and a read key (`read_…`) are kept as SHA-256 only: they are random and long, so a plain hash cannot be turned
round. Keys that an operator seeds may be any string; `prv_` at its start is what makes a write key secret.

The collector knows keys from a file that the keeper writes (`KeyFile`), so it takes events while Postgres is away.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final

import msgspec

from pugd.control import projects
from pugd.control.postgres import Connection
from pugd.errors import ControlError
from pugd.model import KeyFile, Project, WriteKey

PREFIXES: Final = {"write": "pub_", "secret_write": "prv_", "read": "read_"}


class Key(msgspec.Struct, frozen=True):
    """One key, as it may be shown to its owner."""

    id: int
    project: int
    kind: str
    """'write' | 'secret_write' | 'read'."""
    shown: str
    """The key itself if it is public, else its beginning."""
    created_at: datetime
    revoked_at: datetime | None


def make(connection: Connection, project: int, kind: str) -> str:
    """A new random key; what is returned is never to be had again if it is not public."""
    key = PREFIXES[kind] + secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
    _insert(connection, project, kind, key)
    return key


def seed(connection: Connection, kind: str, key: str) -> None:
    """Make `key`, which the operator chose, a key of the default project, also if it was revoked before."""
    assert kind in ("write", "read")
    if kind == "write" and key.startswith("prv_"):
        kind = "secret_write"
    _insert(connection, projects.DEFAULT, kind, key)


def list_keys(connection: Connection) -> list[Key]:
    """All, oldest first."""
    rows = connection.execute("select id, project, kind, shown, created_at, revoked_at from keys order by id")
    return [Key(*row) for row in rows]


def revoke(connection: Connection, id_: int) -> bool:
    """From now on the key opens nothing. False if there is no such key in force."""
    done = connection.execute("update keys set revoked_at = now() where id = %s and revoked_at is null", (id_,))
    return done.rowcount == 1


def has(connection: Connection, kinds: tuple[str, ...]) -> bool:
    """Whether the default project has a key of one of these kinds in force."""
    found = connection.execute(
        "select 1 from keys where project = %s and kind = any(%s) and revoked_at is null limit 1",
        (projects.DEFAULT, list(kinds)),
    ).fetchone()
    return found is not None


def first_write_key(connection: Connection, project: int) -> str | None:
    """A project's oldest public write key in force."""
    found = connection.execute(
        "select key from keys where project = %s and kind = 'write' and revoked_at is null order by id limit 1",
        (project,),
    ).fetchone()
    return str(found[0]) if found else None


def project_of_read_key(connection: Connection, key: str) -> Project | None:
    """Whose data a read key may ask about."""
    found = connection.execute(
        "select projects.id, projects.name, time_zone from keys join projects on projects.id = keys.project"
        " where key_hash = %s and kind = 'read' and revoked_at is null",
        (hashlib.sha256(key.encode()).digest(),),
    ).fetchone()
    return Project(*found) if found else None


def key_file(connection: Connection) -> KeyFile:
    """What the collector needs to know."""
    rows = connection.execute(
        "select project, kind, key, key_hash from keys where kind <> 'read' and revoked_at is null order by id"
    )
    write_keys = {
        (key if kind == "write" else key_hash.hex()): WriteKey(project, kind == "secret_write")
        for project, kind, key, key_hash in rows
    }
    return KeyFile(projects=projects.list_projects(connection), write_keys=write_keys)


def _insert(connection: Connection, project: int, kind: str, key: str) -> None:
    public = kind == "write"
    done = connection.execute(
        """
        insert into keys (project, kind, key, key_hash, shown) values (%s, %s, %s, %s, %s)
        on conflict (key_hash) do update set revoked_at = null
        where keys.kind = excluded.kind and keys.project = excluded.project
        """,
        (
            project,
            kind,
            key if public else None,
            hashlib.sha256(key.encode()).digest(),
            key if public else key[:8] + "…" if len(key) > 16 else "…",
        ),
    )
    if done.rowcount != 1:
        raise ControlError(f"a {kind} key was given that is already a key of another kind or project: give another")
