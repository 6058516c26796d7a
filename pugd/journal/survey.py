"""What lies in a journal's directory: every record of every file walked, nothing changed, beside a running pugd or not.

`survey` says of each file what is whole and what is not, and of the whole what is missing. A range that is no record
and lies before the flushed position was acked once: it is damage (bytes that are none) or a gap (bytes that are not
there). What lies behind the flushed position was never acked: a torn tail, which the next start cuts off and which,
beside a running pugd, may just be on its way.

A file may be deleted or grow meanwhile; one that has gone when it is to be read is left out, as are the positions
before the oldest that is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pugd import model
from pugd.errors import JournalError
from pugd.journal import files, record

_RECEIVED_AT = {
    kind: row.__struct_fields__.index("received_at")
    for kind, row in model.ROWS.items()
    if "received_at" in row.__struct_fields__
}
"""By kind: where a row tells when it was received. A merge does not."""
_NAMES_OF_OURS = (files.SPARE_PREFIX, files.DAMAGED_PREFIX)


class Range(msgspec.Struct, frozen=True):
    """Positions that hold no record."""

    begin: int
    end: int
    there: bool
    """Are there bytes, though no records?"""


class FileSurvey(msgspec.Struct, frozen=True):
    """One journal file."""

    name: str
    start: int
    end: int
    """Behind its last whole record, or where the next file begins."""
    header: str
    """'whole' | 'damaged' | 'foreign': of another epoch, and passed over."""
    collector: str
    epoch: int
    records: int
    rows: int
    received_first_ms: int
    """Of the first and the last row that tells; 0: none does."""
    received_last_ms: int
    lost: list[Range]
    """Of what was flushed."""
    torn_bytes: int
    """Behind what was flushed."""


class Survey(msgspec.Struct, frozen=True):
    """A journal directory. Positions ascend: oldest … stored … flushed … end."""

    files: list[FileSurvey]
    gaps: list[Range]
    """Between two files, or behind the last."""
    damaged: list[str]
    """Files that keep bytes which were no records."""
    unknown: list[str]
    """Names that are none of ours."""
    oldest: int
    stored: int
    flushed: int
    end: int
    deletable: list[str]
    """Files that lie wholly before `stored`."""

    @property
    def lost(self) -> list[Range]:
        """All that was flushed once and cannot be read any more."""
        return sorted((*self.gaps, *(found for file in self.files for found in file.lost)), key=lambda one: one.begin)

    @property
    def whole(self) -> bool:
        """Nothing is to be looked at by a person."""
        return not (self.lost or self.unknown or any(file.header != "whole" for file in self.files))


def survey(directory: Path, *, epoch: int, stored: int, flushed: int) -> Survey:
    """Walk it all.

    `stored`, `flushed`  as read before, 0 where unknown
    raises               JournalError where the directory or a file cannot be read
    cost                 one read of the journal and its checksums, one file's bytes of memory
    """
    names = sorted(_listed(directory))
    found: list[FileSurvey] = []
    starts = files.starts(names)
    for at, start in enumerate(starts):
        following = starts[at + 1] if at + 1 < len(starts) else None
        data = _read(directory / files.name(start))
        if data is not None:
            found.append(_walk(data, start, following, epoch, flushed))
    ours = [file for file in found if file.header != "foreign"]
    end = max((file.end for file in ours), default=0)
    gaps = []
    if flushed > end:
        gaps.append(Range(end, flushed, False))
    return Survey(
        files=found,
        gaps=gaps,
        damaged=[name for name in names if name.startswith(files.DAMAGED_PREFIX)],
        unknown=[name for name in names if not (files.starts([name]) or name.startswith(_NAMES_OF_OURS))],
        oldest=found[0].start if found else end,
        stored=stored,
        flushed=flushed,
        end=end,
        deletable=[files.name(start) for start in files.deletable([file.start for file in found], stored)],
    )


def position_at(found: Survey, since_ms: int) -> int:
    """A position from which every row received at `since_ms` or later is read: the start of a file.

    The journal keeps the order of reception, so that is the last file whose first row came before.
    """
    before = [file.start for file in found.files if 0 < file.received_first_ms < since_ms]
    return before[-1] if before else found.oldest


def lines(found: Survey) -> Iterator[str]:
    """A survey for a person to read."""
    for file in found.files:
        state = "header damaged" if file.header == "damaged" else ""
        if file.header == "foreign":
            state = f"of another epoch ({file.epoch}, collector {file.collector}): passed over"
        elif file.lost:
            state = f"{state + ', ' if state else ''}{sum(one.end - one.begin for one in file.lost):,} bytes lost"
        if file.torn_bytes:
            state = f"{state + ', ' if state else ''}{file.torn_bytes:,} bytes torn at the end, never acked"
        if file.name in found.deletable:
            state = f"{state or 'whole'}, stored: may be deleted"
        when = f"{_clock(file.received_first_ms)} to {_clock(file.received_last_ms)}"
        yield f"{file.name}  {file.records:>9,} records {file.rows:>11,} rows  {when}  {state or 'whole'}"
    for one in found.lost:
        what = "damage, bytes that are no records" if one.there else "gap, bytes that are not there"
        fate = "the drain has been past it" if one.end <= found.stored else "the drain has yet to come to it"
        yield f"positions {one.begin} to {one.end}: {what}; {fate}"
    if any(one.end <= found.stored for one in found.lost):
        yield "what the drain has been past is in ClickHouse if it was whole then"
    if found.damaged:
        yield f"kept aside, bytes that were no records: {', '.join(found.damaged)}"
    for name in found.unknown:
        yield f"{name}: none of our files"
    waiting = max(0, found.flushed - found.stored)
    yield f"oldest {found.oldest}, stored {found.stored}, flushed {found.flushed}, end {found.end}"
    yield f"{waiting:,} bytes wait to be stored; {len(found.deletable)} of {len(found.files)} files lie before stored"
    yield "the journal is whole" if found.whole else "the journal is NOT whole"


def _clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if ms else "(no time told)"


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise JournalError(f"listing {directory}: {error.strerror}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"reading {path}: {error.strerror}; check the disk") from error


def _walk(data: bytes, start: int, following: int | None, epoch: int, flushed: int) -> FileSurvey:
    header = files.read_header(data, start)
    state = "damaged" if header is None else "whole" if header.epoch == epoch else "foreign"
    view = memoryview(data)[: len(data) if following is None else following - start]
    at = min(files.HEADER_BYTES, len(view))
    lost = [Range(start, start + at, True)] if header is None and at else []
    found: list[tuple[int, int, memoryview]] = []
    while state != "foreign":
        length = record.walk(view[at:], start + at).length
        found += record.payloads(view[at : at + length], start + at)
        at += length
        skipped = record.find(view[at:], start + at)
        if at + skipped == len(view):
            break
        lost.append(Range(start + at, start + at + skipped, True))
        at += skipped
    end, torn = start + at, 0
    rest = len(bytes(view[at:]).rstrip(b"\0"))
    if state == "foreign":
        end = following if following is not None else start + len(data)
    elif following is not None and end < following:
        lost.append(Range(end, following, rest > 0))
        end = following
    elif following is None and rest:
        acked = max(0, min(flushed - end, rest))
        if acked:
            lost.append(Range(end, end + acked, True))
        end, torn = end + acked, rest - acked
    return FileSurvey(
        name=files.name(start),
        start=start,
        end=end,
        header=state,
        collector=header.collector if header else "",
        epoch=header.epoch if header else 0,
        records=len(found),
        rows=sum(count for _, count, _ in found),
        received_first_ms=_received_at(found),
        received_last_ms=_received_at(reversed(found)),
        lost=lost,
        torn_bytes=torn,
    )


def _received_at(payloads: Iterable[tuple[int, int, memoryview]]) -> int:
    """When the first row that tells was received; 0 where none does."""
    decoder = msgspec.msgpack.Decoder(tuple)
    for _, count, payload in payloads:
        begin = 0
        try:
            for end in record.split(payload, count):
                row = decoder.decode(payload[begin:end])
                place = _RECEIVED_AT.get(row[0]) if row and isinstance(row[0], int) else None
                if place is not None and len(row) > place and isinstance(row[place], int):
                    return int(row[place])
                begin = end
        except (ValueError, msgspec.MsgspecError):
            continue  # rows that the drain will set aside
    return 0
