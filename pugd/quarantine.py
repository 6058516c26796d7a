"""DATA/quarantine: rows that could not be stored, a file each, so that nothing that was acked is ever dropped.

The drain keeps a row here before it goes on; an operator looks at it, has the drain send it again once what stood in
its way is mended, or drops it for good (`pugd quarantine`). A file is named by the row's position, 20 digits; files of
other names are someone else's and are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pugd import model
from pugd.data import sync_directory, write_whole


class Quarantined(msgspec.Struct, frozen=True):
    """A row that could not be stored, as it lies in quarantine/<20 digits>.msgpack."""

    collector: str
    epoch: int
    position: int
    table: str
    """'' where the row's kind is of no table."""
    error: str
    raw: bytes
    """The row as it stands in the journal; of a damaged one, all to the end of its record."""


def path_of(directory: Path, position: int) -> Path:
    return directory / f"{position:020d}.msgpack"


def keep(directory: Path, row: Quarantined) -> None:
    """Keep a row, durably, before anyone goes on without it."""
    if not directory.exists():
        directory.mkdir(mode=0o700)
        sync_directory(directory.parent)
    write_whole(path_of(directory, row.position), msgspec.msgpack.encode(row))


def load(path: Path) -> Quarantined | None:
    """The row in a file; None where there is none (any more), or what is there is not ours."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Quarantined)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def rows(directory: Path) -> Iterator[Quarantined]:
    """Every row kept, by position."""
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    for name in names:
        if name.endswith(".msgpack") and (row := load(directory / name)) is not None:
            yield row


def kept(directory: Path) -> Iterator[Quarantined]:
    """Every row kept, for someone who goes on without them: a file that is seen may yet lack the sync of its directory,
    where whoever wrote it was killed before that."""
    if directory.is_dir():
        sync_directory(directory)
    return rows(directory)


def shown(row: Quarantined) -> dict[str, Any]:
    """A row for a person to read: its fields by name where they can be read, else its bytes in hex."""
    told: dict[str, Any] = {field: getattr(row, field) for field in row.__struct_fields__ if field != "raw"}
    try:
        values = msgspec.msgpack.decode(row.raw, type=list[Any])
    except msgspec.MsgspecError:
        return {**told, "bytes": row.raw.hex()}
    kind = model.ROWS.get(values[0]) if values and isinstance(values[0], int) else None
    names = kind.__struct_fields__ if kind is not None else ()
    fields = {names[at] if at < len(names) else str(at): _readable(value) for at, value in enumerate(values)}
    return {**told, "row": fields}


def _readable(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def drop(directory: Path, position: int) -> bool:
    """Let go of a row for good. returns whether it was there."""
    try:
        path_of(directory, position).unlink()
    except FileNotFoundError:
        return False
    sync_directory(directory)
    return True
