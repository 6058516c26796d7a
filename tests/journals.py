"""Real journals with rows of every table, and where each row lies."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from pugd import model
from pugd.data import DataDirectory
from pugd.journal.writer import Writer

TABLE = {model.EVENT: "events", model.TRAIT: "traits", model.LINK: "links", model.MERGE: "person_of"}
TABLE |= {model.OLD_EVENT: "events", model.OLD_TRAIT: "traits", model.OLD_LINK: "links"}
OLD = (model.OLD_EVENT, model.OLD_TRAIT, model.OLD_LINK)
encode = msgspec.msgpack.encode
NOW = 1_790_000_000_000


def event(
    n: int, *, occurred_at: int = NOW, properties: bytes = b'{"n":1}', kind: int = model.EVENT, name: str = ""
) -> bytes:
    name = name or f"event {n % 7}"
    row = model.EventRow(
        *(kind, 1, n, occurred_at, NOW, NOW, "", "track", name, f"id-{n}", "", f"anon-{n}", ""),
        *("http", "web", "test/1", 0, 0, properties, b"{}", "", "", "", "", "", "", ""),
    )
    return encode(row)


def trait(n: int, *, kind: int = model.TRAIT, key: str = "plan") -> bytes:
    row = model.TraitRow(
        *(kind, 1, n, NOW, NOW, NOW, "", f"id-{n}", f"anon-{n}", "", f"anon-{n}", key, "set", b'"pro"'),
        *("http", "web"),
    )
    return encode(row)


def link(n: int, *, kind: int = model.LINK) -> bytes:
    order = 0 if kind == model.OLD_LINK else n
    row = model.LinkRow(
        *(kind, 1, order, n, n + 1, f"anon-{n}", f"user-{n}", "identify", "", 0, 1, NOW, NOW, NOW, "", f"id-{n}"),
        *("http", "web"),
    )
    return encode(row)


def merge(n: int) -> bytes:
    return encode(model.MergeRow(model.MERGE, 1, n, n + 1, n))


def mixed(count: int, seed: int, first: int = 0) -> list[bytes]:
    """Rows of every table in any order; events over a few months."""
    draw = random.Random(seed)
    month = 30 * 86_400_000
    makers = [lambda n: event(n, occurred_at=NOW - draw.randrange(5) * month)] * 5 + [trait, link, merge]
    return [draw.choice(makers)(n) for n in range(first, first + count)]


def with_old(count: int, seed: int, first: int = 0) -> list[bytes]:
    """`mixed`, and among them, a third of all, events, traits and calls so old that the collector could not tell if
    they are new: most are copies of what stands somewhere before them, the others of nothing."""
    draw = random.Random(seed)
    rows: list[bytes] = []
    for n, row in enumerate(mixed(count, seed, first)):
        rows.append(row)
        if draw.random() < 0.5:
            which = first + (draw.randrange(n + 1) if draw.random() < 0.8 else 1_000_000 + n)
            kind = draw.random()
            if kind < 0.15:
                rows.append(link(which, kind=model.OLD_LINK))
            elif kind < 0.7:
                rows.append(event(which, kind=model.OLD_EVENT, occurred_at=NOW - 86_400_000 * draw.randrange(90)))
            else:
                rows.append(trait(which, kind=model.OLD_TRAIT, key=draw.choice(("plan", "size"))))
    return rows


def id_of(raw: bytes) -> tuple[object, ...] | None:
    """What two rows of one event, of one change of a trait, or of one call that links have in common; None where it is
    no such row."""
    try:
        row = msgspec.msgpack.decode(raw, type=tuple)
    except msgspec.DecodeError:
        return None
    if len(row) < 16:
        return None
    if row[0] in (model.EVENT, model.OLD_EVENT):
        return ("event", row[1], row[2], row[9])
    if row[0] in (model.LINK, model.OLD_LINK):
        return ("link", row[1], row[3], row[4], row[15])
    return ("trait", row[1], row[2], row[7], row[11]) if row[0] in (model.TRAIT, model.OLD_TRAIT) else None


def write(
    data: DataDirectory, records: list[list[bytes]], *, file_bytes_max: int = 64 << 20, ids: set[object] | None = None
) -> dict[str, list[int]]:
    """Append records with a real writer, flush, close. returns the positions of the rows of each table, without copies
    of old events.

    Positions are taken where the writer put each record, from its own account. `ids`: those of rows written before."""
    ids = set() if ids is None else ids
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
                    key = id_of(row)
                    if kind not in OLD or key not in ids:
                        held[TABLE[kind]].append(at)
                    ids.add(key)
                at += len(row)
    finally:
        writer.close()
    held["events_by_actor"] = held["events"]
    return held


def made(path: Path) -> DataDirectory:
    """A data directory as `pugd serve` makes it."""
    path.mkdir(parents=True, exist_ok=True)
    data = DataDirectory(path)
    data.make("test")
    return data
