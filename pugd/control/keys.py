"""Write keys and read keys.

A public write key (`pub_…`) stands in web pages, so it is kept as it is and can be shown again. A secret write key
(`prv_…`) and a read key (`read_…`) are kept as SHA-256 only: they are random and long, so a plain hash cannot be turned
round; nor can be checked with a hash what a write key's datagrams are signed with (dialects/signature.py): that secret
is kept as it is. Keys that an operator seeds may be any string; `prv_` at its start is what makes a write key secret.

A key is in force until it is revoked or its time is over: `rotate` makes another with the same settings, and gives the
old one that time, during which both open.

The collector knows keys from a file that the keeper writes (`KeyFile`), so it takes events while Postgres is away.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

import msgspec

from pugd.control import projects
from pugd.control.postgres import Connection
from pugd.errors import ControlError
from pugd.model import KeyFile, Project, WriteKey

PREFIXES: Final = {"write": "pub_", "secret_write": "prv_", "read": "read_"}
SIGNING: Final = "sig_"
"""How a signing secret begins."""


class Limits(msgspec.Struct, frozen=True):
    """From where and how much a write key may send; 0 and none are no limit (model.WriteKey)."""

    origins: tuple[str, ...] = ()
    """Normalized (edge/origins.py)."""
    rate: int = 0
    burst: int = 0
    per_day: int = 0


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
    expires_at: datetime | None
    name: str
    limits: Limits
    signing: bool
    """Whether it has a secret that datagrams are signed with."""


def make(connection: Connection, project: int, kind: str, name: str = "", limits: Limits | None = None) -> str:
    """A new random key; what is returned is never to be had again if it is not public.

    raises  ControlError where there is no such project
    """
    if not any(one.id == project for one in projects.list_projects(connection)):
        raise ControlError(f"there is no project {project}")
    id_, key = _make(connection, project, kind)
    change(connection, id_, name=name, limits=limits)
    return key


def change(connection: Connection, id_: int, *, name: str | None = None, limits: Limits | None = None) -> bool:
    """Give a key in force another name or other limits; None leaves them. False if there is no such key."""
    done = connection.execute(
        "update keys_in_force set name = coalesce(%s, name) where id = %s",
        (name, id_),
    )
    if limits is not None:
        connection.execute(
            "update keys set origins = %s, rate = %s, burst = %s, per_day = %s where id = %s",
            (list(limits.origins), limits.rate, limits.burst, limits.per_day, id_),
        )
    return done.rowcount == 1


def sign(connection: Connection, id_: int, *, off: bool = False) -> str | None:
    """From now on a public write key's datagrams are signed with a new secret, or with none.

    returns  the secret, never to be had again, '' for none; None if there is no such key in force
    """
    secret = "" if off else SIGNING + _random()
    done = connection.execute(
        "update keys_in_force set signing = %s where id = %s and kind = 'write'",
        (secret, id_),
    )
    return secret if done.rowcount == 1 else None


def rotate(connection: Connection, id_: int, overlap: timedelta) -> tuple[str, str] | None:
    """A new key with the settings of another, which stays in force for `overlap` from now, or as long as it had to.

    A key that signs is followed by one with a secret of its own: so a secret can be changed while senders change.
    returns  the new key, and its signing secret or ''; None if there is no such key in force
    """
    found = connection.execute(
        "update keys_in_force set expires_at = least(expires_at, now() + %s)"
        " where id = %s returning project, kind, name, origins, rate, burst, per_day, signing <> ''",
        (overlap, id_),
    ).fetchone()
    if found is None:
        return None
    project, kind, name, origins, rate, burst, per_day, signs = found
    id_, key = _make(connection, project, kind)
    change(connection, id_, name=name, limits=Limits(tuple(origins), rate, burst, per_day))
    return key, (sign(connection, id_) or "") if signs else ""


def find(connection: Connection, id_: int) -> Key | None:
    """One key by its number, whether it is in force or not."""
    return next((key for key in list_keys(connection) if key.id == id_), None)


def seed(connection: Connection, kind: str, key: str) -> None:
    """Make `key`, which the operator chose, a key of the default project, also if it was revoked before."""
    assert kind in ("write", "read")
    if kind == "write" and key.startswith("prv_"):
        kind = "secret_write"
    _insert(connection, projects.DEFAULT, kind, key)


def list_keys(connection: Connection) -> list[Key]:
    """All, oldest first."""
    rows = connection.execute(
        "select id, project, kind, shown, created_at, revoked_at, expires_at, name, origins, rate, burst, per_day,"
        " signing <> '' from keys order by id"
    )
    return [
        Key(id_, project, kind, shown, made, revoked, ends, name, Limits(tuple(origins), *amounts), signing)
        for id_, project, kind, shown, made, revoked, ends, name, origins, *amounts, signing in rows
    ]


def revoke(connection: Connection, id_: int) -> bool:
    """From now on the key opens nothing. False if there is no such key in force."""
    done = connection.execute("update keys set revoked_at = now() where id = %s and revoked_at is null", (id_,))
    return done.rowcount == 1


def has(connection: Connection, kinds: tuple[str, ...]) -> bool:
    """Whether the default project has a key of one of these kinds in force."""
    found = connection.execute(
        "select 1 from keys_in_force where project = %s and kind = any(%s) limit 1",
        (projects.DEFAULT, list(kinds)),
    ).fetchone()
    return found is not None


def first_write_key(connection: Connection, project: int) -> str | None:
    """A project's oldest public write key in force."""
    found = connection.execute(
        "select key from keys_in_force where project = %s and kind = 'write'"
        " order by expires_at is not null, cardinality(origins), id limit 1",
        (project,),
    ).fetchone()
    return str(found[0]) if found else None


def project_of_read_key(connection: Connection, key: str) -> Project | None:
    """Whose data a read key may ask about."""
    found = connection.execute(
        "select projects.id, projects.name, time_zone from keys_in_force as keys"
        " join projects on projects.id = keys.project where key_hash = %s and kind = 'read'",
        (hashlib.sha256(key.encode()).digest(),),
    ).fetchone()
    return Project(*found) if found else None


def key_file(connection: Connection) -> KeyFile:
    """What the collector needs to know."""
    rows = connection.execute(
        "select kind, key, key_hash, project, id, name, origins, rate, burst, per_day, signing,"
        " coalesce((extract(epoch from expires_at) * 1000)::bigint, 0)"
        " from keys_in_force where kind <> 'read' order by id"
    )
    write_keys = {
        (key if kind == "write" else key_hash.hex()): WriteKey(
            project, kind == "secret_write", id_, name, tuple(origins), rate, burst, per_day, signing, until
        )
        for kind, key, key_hash, project, id_, name, origins, rate, burst, per_day, signing, until in rows
    }
    return KeyFile(projects=projects.list_projects(connection), write_keys=write_keys)


def _make(connection: Connection, project: int, kind: str) -> tuple[int, str]:
    key = PREFIXES[kind] + _random()
    return _insert(connection, project, kind, key), key


def _random() -> str:
    return secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")


def _insert(connection: Connection, project: int, kind: str, key: str) -> int:
    """returns  its number; raises ControlError where it is a key of another kind or project"""
    public = kind == "write"
    done = connection.execute(
        """
        insert into keys (project, kind, key, key_hash, shown) values (%s, %s, %s, %s, %s)
        on conflict (key_hash) do update set revoked_at = null, expires_at = null
        where keys.kind = excluded.kind and keys.project = excluded.project
        returning id
        """,
        (
            project,
            kind,
            key if public else None,
            hashlib.sha256(key.encode()).digest(),
            key if public else key[:8] + "…" if len(key) > 16 else "…",
        ),
    )
    found = done.fetchone()
    if found is None:
        raise ControlError(f"a {kind} key was given that is already a key of another kind or project: give another")
    return int(found[0])
