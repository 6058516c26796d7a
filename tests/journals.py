"""Real journals with rows of every table, and where each row lies."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from pugd import model
from pugd.data import DataDirectory
from pugd.journal.writer import Writer

TABLE = {model.EVENT: "events", model.TRAIT: "traits", model.LINK: "links", model.MERGE: "person_of"}
encode = msgspec.msgpack.encode
NOW = 1_790_000_000_000


def event(n: int, *, occurred_at: int = NOW, properties: bytes = b'{"n":1}') -> bytes:
    row = model.EventRow(
        *(model.EVENT, 1, n, occurred_at, NOW, NOW, "", "track", f"event {n % 7}", f"id-{n}", "", f"anon-{n}", ""),
        *("http", "web", "test/1", 0, 0, properties, b"{}", "", "", "", "", "", "", ""),
    )
    return encode(row)


def trait(n: int) -> bytes:
    row = model.TraitRow(
        *(model.TRAIT, 1, n, NOW, NOW, NOW, "", f"id-{n}", f"anon-{n}", "", f"anon-{n}", "plan", "set", b'"pro"'),
        *("http", "web"),
    )
    return encode(row)


def link(n: int) -> bytes:
    row = model.LinkRow(
        *(model.LINK, 1, n, n, n + 1, f"anon-{n}", f"user-{n}", "identify", "", 0, 1, NOW, NOW, NOW, "", f"id-{n}"),
        *("http", "web"),
    )
    return encode(row)


def merge(n: int) -> bytes:
    return encode(model.MergeRow(model.MERGE, 1, n, n + 1, n))


def mixed(count: int, seed: int) -> list[bytes]:
    """Rows of every table in any order; events over a few months."""
    draw = random.Random(seed)
    month = 30 * 86_400_000
    makers = [lambda n: event(n, occurred_at=NOW - draw.randrange(5) * month)] * 5 + [trait, link, merge]
    return [draw.choice(makers)(n) for n in range(count)]


def write(data: DataDirectory, records: list[list[bytes]], *, file_bytes_max: int = 64 << 20) -> dict[str, list[int]]:
    """Append records with a real writer, flush, close. returns the positions of the rows of each table.

    Positions are taken where the writer put each record, from its own account."""
    origin = data.origin()
    writer = Writer.open(
        data.journal,
        name=origin.name,
        epoch=origin.epoch,
        flushed_path=data.flushed,
        bytes_max=1 << 30,
        reserve_bytes=0,
        file_bytes_max=file_bytes_max,
    )
    held: dict[str, list[int]] = {name: [] for name in TABLE.values()}
    try:
        for rows in records:
            payload = b"".join(rows)
            assert writer.room(len(payload))
            at = writer.append(payload, len(rows)) - len(payload)
            for row in rows:
                kind = row[1] if row[0] != 0xDC else row[3]
                if kind in TABLE:
                    held[TABLE[kind]].append(at)
                at += len(row)
    finally:
        writer.close()
    return held


def made(path: Path) -> DataDirectory:
    """A data directory as `pugd serve` makes it."""
    path.mkdir(parents=True, exist_ok=True)
    data = DataDirectory(path)
    data.make("test")
    return data
