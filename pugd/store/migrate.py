"""The numbered files of migrations/: read, split into statements, and which of them are still to be applied.

A migration is applied once, in order, and then recorded in the table `migrations` with a checksum of its text. Every
statement may be repeated (`if not exists`), so a crash between the statements and the record does no harm, nor do two
keepers that start at once on one server, but for 009: where events are stored already, both could copy them. A
recorded file that has changed since stops the start: what the tables hold is then no longer what the files say.
"""

from __future__ import annotations

import logging
import re
import zlib
from importlib.resources import files
from typing import Any

import msgspec

from pugd.errors import StoreError

log = logging.getLogger(__name__)

RECORD = """
create table if not exists migrations (number UInt32, name String, checksum UInt32, applied_at DateTime64(3, 'UTC'))
engine = MergeTree order by number settings fsync_after_insert = 1, fsync_part_directory = 1
"""

FORMER: dict[int, frozenset[int]] = {
    1: frozenset({2902694302}),
    2: frozenset({3077871547, 2311090112}),
    3: frozenset({3672485168}),
    4: frozenset({2071878575}),
}
"""Checksums of earlier texts of a migration that made the same columns: what they made is used as it is.

001 to 004: granules of 8 192 rows, so a timeline costs twice as much there; 002 also of 1 024.
"""

_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    number: int
    name: str
    checksum: int
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """Every file, in order of its number."""
    found = []
    for file in files("pugd.store").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            text = file.read_text(encoding="utf-8")
            statements = tuple(part.strip() for part in re.split(r";\s*\n", text) if part.strip())
            found.append(Migration(int(match[1]), file.name, zlib.crc32(text.encode()), statements))
    found.sort(key=lambda migration: migration.number)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), "a number is missing or double"
    return found


def pending(every: list[Migration], applied: dict[int, int]) -> list[Migration]:
    """Those not among `applied` (number → checksum).

    raises   StoreError where an applied one is unknown (an older pugd on newer tables) or has changed
    """
    known = {migration.number: migration for migration in every}
    for number, checksum in applied.items():
        if number not in known:
            raise StoreError(f"ClickHouse holds migration {number}, which this pugd does not know: start a newer pugd")
        if checksum != known[number].checksum and checksum not in FORMER.get(number, ()):
            raise StoreError(f"migration {known[number].name} has changed since it was applied: restore the file")
    return [migration for migration in every if migration.number not in applied]


def apply(client: Any) -> None:
    """What is still to be applied, in order; `client`: of clickhouse_connect. raises StoreError, and the client's."""
    client.command(RECORD)
    applied = dict(client.query("select number, checksum from migrations").result_rows)
    for migration in pending(migrations(), applied):
        for statement in migration.statements:
            client.command(statement)
        client.command(
            "insert into migrations select {number:UInt32}, {name:String}, {checksum:UInt32}, now64(3)",
            {"number": migration.number, "name": migration.name, "checksum": migration.checksum},
        )
        log.info("applied ClickHouse migration %s", migration.name)
