"""The graph as bytes, at a journal position: what a restart reads before the journal's tail.

    offset  size
         0     8  magic  b"pugdids\\0"
         8     4  version of this layout
        12     4  RULES_VERSION of the rules that made it
        16     8  a hash that only the installation's key gives: ids hashed by another key are other ids
        24     8  epoch of the journal
        32     8  position in it: every row before it is in the graph
        40     8  the next free place in the link log
        48     8  how many ids
        56     8  how many extra links
        64     8  length of the rest
        72    32  each id (native/graph.h), in the order in which they entered the log
         …    16  each extra link, in link-log order
         …        the rest: MessagePack [refusals, each [a, b, code], oldest first; pairs that must stay apart, each
                  [lower, higher], sorted]
         …     4  CRC-32C of all before it

Integers are little-endian. Equal link logs give equal bytes. A snapshot is never the only truth: a damaged one is
thrown away and the graph is replayed from the log. It is begun in one step and written by a thread while the graph goes
on changing (`Saving`), and read where it lies, mapped into memory.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pugd.errors import PugdError
from pugd.identity.graph import EXTRA, RECORD, Graph, checksum
from pugd.identity.rules import RULES_VERSION

MAGIC = b"pugdids\0"
VERSION = 3
HEADER = struct.Struct("<8sIIQQQQQQQ")
COUNTS = HEADER.size - 3 * 8
"""Where the header says how many there are of what follows: all from here on comes of the log alone."""
SUM = struct.Struct("<I")
_Rest = tuple[list[tuple[int, int, str]], list[tuple[int, int]]]


class SnapshotDamaged(PugdError):  # noqa: N818
    """A snapshot of the graph cannot be read: throw it away and replay the link log."""


def _key_check(graph: Graph) -> int:
    return graph.actor(0, "pugd snapshot")


class Saving:
    """A snapshot of the graph as it is now: after every row before `position`. One at a time, and to be closed.

    raises   MemoryError
    cost     of making one: 8 bytes for each 256 ids, and the listed refusals and pairs kept apart: 4 ms at most with
             10 million ids
    """

    def __init__(self, graph: Graph, position: int, epoch: int) -> None:
        numbers = graph.statistics()
        apart = sorted((a, b) for a, others in graph.cannot.items() for b in others if a < b)
        self.order = graph.order
        self._rest = msgspec.msgpack.encode((list(graph.refusals), apart))
        self._header = HEADER.pack(
            *(MAGIC, VERSION, RULES_VERSION, _key_check(graph), epoch, position, graph.order),
            *(numbers.ids, numbers.extras, len(self._rest)),
        )
        self._body = numbers.ids * RECORD + numbers.extras * EXTRA
        graph.save_begin()
        self._graph = graph

    def parts(self) -> Iterator[bytes | memoryview]:
        """Its bytes, from beginning to end, once: for one thread, while another changes the graph.

        yields   parts of about 1 MiB, each valid until the next
        raises   MemoryError where it is lost for want of memory; the graph is well
        """
        crc = checksum(0, self._header)
        yield self._header
        left = self._body
        for piece in self._graph.save_pieces():
            left -= len(piece)
            crc = checksum(crc, piece)
            yield piece
        assert left == 0, f"a snapshot of the graph has {-left} bytes too many"
        yield self._rest
        yield SUM.pack(checksum(crc, self._rest))

    def close(self) -> None:
        """By the thread that changes the graph, once `parts` runs no more."""
        self._graph.save_end()


def dump(graph: Graph, position: int, epoch: int) -> bytes:
    """The whole snapshot at once, for a graph that is small or a caller that may wait."""
    saving = Saving(graph, position, epoch)
    try:
        return b"".join(map(bytes, saving.parts()))
    finally:
        saving.close()


def read(key: bytes, path: Path) -> tuple[Graph, int, int]:
    """`load` of a file. raises OSError too. cost: 0.1 µs an id"""
    return load(key, mapped(path))


def mapped(path: Path) -> memoryview:
    """The bytes of a file, read where they lie. raises OSError, SnapshotDamaged"""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise SnapshotDamaged("graph snapshot: an empty file; replay the link log")
        found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found.madvise(mmap.MADV_WILLNEED)
    return memoryview(found)


class About(msgspec.Struct, frozen=True):
    """What a snapshot says of itself."""

    position: int
    epoch: int
    order: int
    """The next free place in the link log."""
    extras: int
    """Where the extra links begin; the ids begin behind the header."""
    rest: int
    """Where the rest begins; the checksum ends it."""


def about(graph: Graph, data: bytes | memoryview) -> About:
    """Is `data` whole, and of the key of `graph`? returns what it says of itself; raises SnapshotDamaged."""
    view = memoryview(data)
    if len(view) < HEADER.size + SUM.size:
        raise SnapshotDamaged(f"graph snapshot: {len(view)} bytes are less than a header; replay the link log")
    magic, version, _rules, check, epoch, position, order, count, extra, length = HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise SnapshotDamaged(f"graph snapshot: {magic!r} version {version}, not {MAGIC!r} version {VERSION}")
    if len(view) != HEADER.size + count * RECORD + extra * EXTRA + length + SUM.size:
        raise SnapshotDamaged(f"graph snapshot: {len(view)} bytes do not hold {count} ids; replay the link log")
    end = len(view) - SUM.size
    if SUM.unpack_from(view, end)[0] != checksum(0, view[:end]):
        raise SnapshotDamaged("graph snapshot: checksum differs; replay the link log")
    if _key_check(graph) != check:
        raise SnapshotDamaged("graph snapshot: made under another hash.key; put the right key back")
    extras = HEADER.size + count * RECORD
    return About(position, epoch, order, extras, extras + extra * EXTRA)


def holds(graph: Graph, data: bytes | memoryview) -> bool:
    """Is the whole snapshot `data` of this very graph, whichever version of the rules wrote it, and wherever?"""
    theirs = memoryview(data)
    saving = Saving(graph, 0, 0)
    try:
        at = 0
        for part in saving.parts():
            first, until = max(at, COUNTS), min(at + len(part), len(theirs) - SUM.size)
            if first < until and memoryview(part)[first - at : until - at] != theirs[first:until]:
                return False
            at += len(part)
        return at == len(theirs)
    finally:
        saving.close()


def load(key: bytes, data: bytes | memoryview) -> tuple[Graph, int, int]:
    """returns (graph, position, epoch); raises SnapshotDamaged, naming the damage, and MemoryError."""
    view = memoryview(data)
    said = about(Graph(key), view)
    graph = Graph.from_records(key, view[HEADER.size : said.extras], view[said.extras : said.rest])
    if graph is None:
        raise SnapshotDamaged("graph snapshot: its records are no graph; replay the link log")
    try:
        refusals, apart = msgspec.msgpack.decode(view[said.rest : len(view) - SUM.size], type=_Rest)
    except msgspec.MsgspecError as error:
        raise SnapshotDamaged(f"graph snapshot: what follows the ids: {error}; replay the link log") from error
    graph.refusals = dict.fromkeys(refusals)
    for a, b in apart:
        graph.cannot.setdefault(a, set()).add(b)
        graph.cannot.setdefault(b, set()).add(a)
    graph.order = said.order
    return graph, said.position, said.epoch
