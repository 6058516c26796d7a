"""Members, and how a browser becomes one: a login link that works once, then a session in a cookie.

Tokens are random and long; only their SHA-256 is kept, so whoever reads the database cannot log in with what is there.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Final

from pugd.control import projects
from pugd.control.postgres import Connection
from pugd.model import Project

OWNER: Final = "owner"
"""The member made with the database."""
LOGIN_LIFETIME: Final = timedelta(hours=24)
SESSION_LIFETIME: Final = timedelta(days=30)


def create_login(connection: Connection, member: str = OWNER) -> str:
    """A token for a login link: works once, for a day."""
    token = secrets.token_urlsafe(24)
    connection.execute("delete from logins where expires_at < now()")
    connection.execute(
        "insert into logins (token_hash, member, expires_at) select %s, id, now() + %s from members where name = %s",
        (_hash(token), LOGIN_LIFETIME, member),
    )
    return token


def redeem_login(connection: Connection, token: str) -> str | None:
    """Turn a login token into a session token; None if it was used, is too old, or never was one."""
    found = connection.execute(
        "delete from logins where token_hash = %s returning member, expires_at > now()", (_hash(token),)
    ).fetchone()
    if found is None or not found[1]:
        return None
    session = secrets.token_urlsafe(32)
    connection.execute("delete from sessions where expires_at < now()")
    connection.execute(
        "insert into sessions (token_hash, member, expires_at) values (%s, %s, now() + %s)",
        (_hash(session), found[0], SESSION_LIFETIME),
    )
    return session


def check_session(connection: Connection, session: str) -> Project | None:
    """The project whose console this session opens. There is one console yet, the default project's."""
    found = connection.execute(
        "select projects.id, projects.name, time_zone from sessions join projects on projects.id = %s"
        " where token_hash = %s and expires_at > now()",
        (projects.DEFAULT, _hash(session)),
    ).fetchone()
    return Project(*found) if found else None


def end_session(connection: Connection, session: str) -> None:
    """Log out."""
    connection.execute("delete from sessions where token_hash = %s", (_hash(session),))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
