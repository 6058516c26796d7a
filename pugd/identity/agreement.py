"""Do the graph, `links` and `person_of` say the same? Pure: rows in, differences out; check.py brings the rows.

The link log is the truth. Replayed, it gives a graph, and that says two things:

    the collector's snapshot       holds just these ids, links and refusals, byte for byte (snapshot.py)
    the latest row in `person_of`  names the person, for every id that an accepted link ever named, and for no other

The log proves itself as far as it can: its places follow one another without a gap, each is there once, and each row's
actors are the hashes of its ids. A log that does not is no ground to change anybody's person on.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from pugd.identity import rules
from pugd.identity.graph import Graph
from pugd.model import person_text

SHOWN = 5
"""How many differences of a kind are named; all are counted."""

PLACES_MAX = 100_000
"""Damaged places of the log that are remembered to be mended together; what is beyond comes with the next check."""


class Entry(NamedTuple):
    """What is read of a row of `links`. A tuple, since that is what a query gives, millions of times."""

    project: int
    order: int
    a: int
    b: int
    a_id: str
    b_id: str
    call: str
    refused: str


LINKING = frozenset(("identify", "alias", "event", "merge"))
"""Calls whose accepted entries link two ids."""

_pack = msgspec.msgpack.Encoder().encode


class Counted(msgspec.Struct, frozen=True):
    """Differences of one kind: how many, and the first few in words."""

    count: int = 0
    shown: list[str] = []


class Findings(msgspec.Struct, frozen=True):
    """What one check saw."""

    last: int
    """The last place of the log that was looked at; 0 where the log is empty."""
    entries: int
    lost: Counted
    """Places without an entry."""
    clashing: Counted
    """Places with two different entries."""
    false: Counted
    """Entries whose actors are not the hashes of their ids, or that no rule would write."""
    twice: Counted
    """Places with the same entry again."""
    graph: str
    """'' where it is what the log says; else what is wrong with it."""
    graph_order: int
    """The place of the log up to which the graph was compared."""
    agreeing: int
    """Ids whose row in person_of is right."""
    missing: Counted
    """Linked ids without a row."""
    wrong: Counted
    """Ids whose row names another person."""
    surplus: Counted
    """Rows of ids that no link ever named."""
    ahead: Counted
    """Rows of places that the log does not have."""

    @property
    def log_whole(self) -> bool:
        """Can persons be told from this log?"""
        return not (self.lost.count or self.clashing.count or self.false.count)

    @property
    def persons_agree(self) -> bool:
        return not (self.missing.count or self.wrong.count or self.surplus.count or self.ahead.count)

    @property
    def agree(self) -> bool:
        return self.log_whole and not self.twice.count and not self.graph and self.persons_agree


class Report(msgspec.Struct, frozen=True):
    """What `pugd check identity` has to say."""

    found: Findings
    after: Findings | None
    """With repair, where there was something to repair: what a second look saw."""
    done: list[str]
    """What was repaired, in words."""
    left: list[str]
    """What could not be, and what to do about it."""
    seconds: float


class Log:
    """The link log, replayed as it is read."""

    def __init__(self, key: bytes) -> None:
        self.graph = Graph(key)
        self.next = 1
        """The place that comes next."""
        self.entries = 0
        self.damaged: set[int] = set()
        """Places that need their entry anew, the first PLACES_MAX of them."""
        self.doubled: set[int] = set()
        """Places whose entry is there more than once, likewise."""
        self._linked = bytearray(1)
        """By handle: did an accepted link ever name it? Handle 0 is nobody's."""
        self._lost, self._clashing, self._false, self._twice = (_Places() for _ in range(4))

    def take(self, rows: Iterable[tuple[Any, ...]], until: int) -> None:
        """The entries of the places [next, until), in their order.

        rows     as Entry says
        raises   MemoryError, and this may only be thrown away
        cost     about 2 µs an entry
        """
        entries = list(map(Entry._make, rows))
        if [entry.order for entry in entries] != list(range(self.next, until)):
            entries = self._once_each(entries, until)
        self.entries += len(entries)
        self.next = until
        entries = self._true(entries)
        rules.replay_many(self.graph, entries)
        self.graph.order = until  # where the last entries are lost, the place after them is free all the same
        linked = self._linked
        linked.extend(bytes(self.graph.statistics().ids + 1 - len(linked)))
        named = array("Q")
        for entry in entries:
            if not entry.refused and entry.call in LINKING:
                named.append(entry.a)
                named.append(entry.b)
        for handle in self.graph.find_many(named)[1]:
            linked[handle] = 1

    def _true(self, entries: list[Entry]) -> list[Entry]:
        """Those whose actors are the hashes of their ids, and that the rules can have written; the others are noted."""
        ids: list[int | str] = []
        for entry in entries:
            ids += (entry.project, entry.a_id or "-", "", entry.project, entry.b_id or "-", "")
        hashed, _ = self.graph.resolve_many(_pack(ids), 2 * len(entries))
        true = []
        for entry, a, b in zip(entries, hashed[::2], hashed[1::2], strict=True):
            if entry.a == a and entry.b == (b if entry.b_id else 0) and _may_be(entry):
                true.append(entry)
            else:
                self._mark(entry.order, self._false, self.damaged)
        return true

    def _once_each(self, rows: Sequence[Entry], until: int) -> list[Entry]:
        """One entry for each place that has any; what is amiss is noted."""
        found: list[Entry] = []
        at = self.next
        for row in rows:
            order = row.order
            if order < at:
                if row == found[-1]:
                    self._mark(order, self._twice, self.doubled)
                else:
                    self._mark(order, self._clashing, self.damaged)
                continue
            self._lose(at, order)
            found.append(row)
            at = order + 1
        self._lose(at, until)
        return found

    def lose_until(self, order: int) -> None:
        """The log ends before `order`, and should not."""
        self._lose(self.next, order)

    def _lose(self, first: int, until: int) -> None:
        self._lost.add(first, until)
        self.damaged.update(range(first, max(first, min(until, first + PLACES_MAX - len(self.damaged)))))

    def _mark(self, order: int, places: _Places, kept: set[int]) -> None:
        places.add(order, order + 1)
        if len(kept) < PLACES_MAX:
            kept.add(order)

    def linked(self, handle: int) -> bool:
        """Did an accepted link ever name it?"""
        return self._linked[handle] != 0

    @property
    def lost(self) -> Counted:
        return self._lost.counted()

    @property
    def clashing(self) -> Counted:
        return self._clashing.counted()

    @property
    def false(self) -> Counted:
        return self._false.counted()

    @property
    def twice(self) -> Counted:
        return self._twice.counted()


def _may_be(entry: Entry) -> bool:
    """Could the rules have written such an entry?"""
    if not entry.a_id:
        return False
    if entry.call in LINKING:
        return entry.b_id != "" and (entry.a_id != entry.b_id or entry.refused != "")
    if entry.call == "unlink":
        return entry.a_id != entry.b_id and not entry.refused
    return entry.call == "user" and not entry.b_id and not entry.refused


class _Places:
    """Places of the log, counted, the first few ranges kept."""

    def __init__(self) -> None:
        self._count = 0
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, until: int) -> None:
        if until <= first:
            return
        self._count += until - first
        ranges = self._ranges
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], until)
        elif len(ranges) < SHOWN:
            ranges.append((first, until))

    def counted(self) -> Counted:
        shown = [f"{first}" if until == first + 1 else f"{first} to {until - 1}" for first, until in self._ranges]
        return Counted(self._count, shown)


class Wrong(msgspec.Struct, frozen=True, gc=False):
    """A row of person_of that is not what the log says."""

    project: int
    actor: int
    said: int
    person: int
    """What the log says; 0 where it never linked the actor."""
    version: int


class Persons:
    """`person_of` beside the replayed log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seen = bytearray(len(log._linked))
        """By handle: has it a row?"""
        self.agreeing = self.missing = 0
        self._wrong = array("Q")
        self._surplus = array("Q")

    def take(self, rows: array[int]) -> None:
        """Rows as array("Q") of project, actor, person, version, …, by actor and then version; all rows of an actor
        together.

        cost     about 0.5 µs a row
        """
        projects, actors, persons, versions = (rows[at::4] for at in range(4))
        count = len(actors)
        # Where the rows of an actor end: with the one that holds. And where rows of one version differ: which of them
        # holds is left to chance.
        last = [at for at, (one, next_) in enumerate(pairwise(actors)) if one != next_] + ([count - 1] if count else [])
        torn: dict[int, int] = {}
        if len(last) < count:
            projects, actors, persons, versions, torn = self._latest(projects, actors, persons, versions, last)
        found, handles = self._log.graph.find_many(actors)
        linked, seen = self._log.linked, self._seen
        if found == persons and not torn and all(map(linked, handles)):
            for handle in handles:
                seen[handle] = 1
            self.agreeing += len(actors)
            return
        for at, handle in enumerate(handles):
            said, person = persons[at], found[at]
            if said == person and actors[at] in torn:
                said = torn[actors[at]]
            if not linked(handle):
                self._surplus.extend((projects[at], actors[at], said, 0, versions[at]))
                continue
            seen[handle] = 1
            if said == person:
                self.agreeing += 1
            else:
                self._wrong.extend((projects[at], actors[at], said, person, versions[at]))

    def _latest(
        self, projects: array[int], actors: array[int], persons: array[int], versions: array[int], last: list[int]
    ) -> tuple[array[int], array[int], array[int], array[int], dict[int, int]]:
        """Of each actor the row that holds; and actor → another person, where a second row of that version has one."""
        torn = {}
        first = 0
        for at in last:
            before = at
            while before > first and versions[before - 1] == versions[at]:
                before -= 1
                if persons[before] != persons[at]:
                    torn[actors[at]] = persons[before]
            first = at + 1
        chosen = [array("Q", [column[at] for at in last]) for column in (projects, actors, persons, versions)]
        return chosen[0], chosen[1], chosen[2], chosen[3], torn

    def finish(self) -> None:
        """All rows were taken: whoever is linked and was not among them is missing."""
        linked = int.from_bytes(self._log._linked, "little")
        self.missing = (linked ^ (linked & int.from_bytes(self._seen, "little"))).bit_count()

    def wrong(self) -> Iterator[Wrong]:
        """Ids whose row names another person."""
        return _unpacked(self._wrong)

    def surplus(self) -> Iterator[Wrong]:
        """Rows of ids that no link ever named."""
        return _unpacked(self._surplus)

    @property
    def wrong_count(self) -> int:
        return len(self._wrong) // 5

    @property
    def surplus_count(self) -> int:
        return len(self._surplus) // 5

    def lacking(self) -> Lacking:
        """To find those that are missing in the log, from its beginning."""
        return Lacking(self._log, bytearray(self._seen))


class Lacking:
    """Linked ids without a row, found again in the entries that name them."""

    def __init__(self, log: Log, seen: bytearray) -> None:
        self._log = log
        self._seen = seen

    def of(self, rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, int, int, str]]:
        """(project, actor, person, id) of those that these entries name first."""
        graph, log, seen = self._log.graph, self._log, self._seen
        found = []
        for project, _, a, b, a_id, b_id, call, refused in rows:
            if refused or call not in LINKING:
                continue
            for actor, text in ((a, a_id), (b, b_id)):
                handle = graph.handle(actor)
                if log.linked(handle) and not seen[handle]:
                    seen[handle] = 1
                    found.append((project, actor, graph.find(actor), text))
        return found


def _unpacked(packed: array[int]) -> Iterator[Wrong]:
    for at in range(0, len(packed), 5):
        yield Wrong(*packed[at : at + 5])


def name(actor: int, texts: dict[int, str]) -> str:
    """An id for a reader: as it was sent where that is known, else as its own person."""
    return repr(texts[actor]) if actor in texts else f"the id of {person_text(actor)}"


# -- in words ----------------------------------------------------------------------------------------------------------


def told(report: Report) -> list[str]:
    """The report for an operator, line by line."""
    found = report.found
    lines = _findings(found)
    lines.append("")
    if found.agree:
        lines.append(f"All three agree ({report.seconds:.1f} s).")
        return lines
    after = report.after
    if after is None:
        return [*lines, f"They differ ({report.seconds:.1f} s).", *report.left]
    lines += [f"Repaired: {line}" for line in report.done] or ["Nothing could be repaired."]
    if after.agree:
        lines.append(f"Looked at again: all three agree ({report.seconds:.1f} s).")
    else:
        lines += ["Looked at again, this is left:", *_findings(after), *report.left]
    return lines


def _findings(found: Findings) -> list[str]:
    lines = [f"link log    {found.entries:,} entries, up to place {found.last:,}"]
    lines += _told(found.lost, "places are empty: their entries are lost")
    lines += _told(found.clashing, "places have two different entries")
    lines += _told(found.false, "entries are damaged: their actors are not those of their ids, or their call cannot be")
    lines += _told(found.twice, "entries are there more than once")
    lines.append(
        f"graph       {found.graph}"
        if found.graph
        else f"graph       as the link log says, up to place {max(0, found.graph_order - 1):,}"
    )
    lines.append(f"person_of   {found.agreeing:,} linked ids with the person that the link log says")
    lines += _told(found.missing, "linked ids without a row")
    lines += _told(found.wrong, "ids with another person than the link log says")
    lines += _told(found.surplus, "rows of ids that no link ever named")
    lines += _told(found.ahead, "rows of places that the link log does not have")
    return lines


def _told(counted: Counted, what: str) -> list[str]:
    if not counted.count:
        return []
    shown = "; ".join(counted.shown)
    more = " …" if shown else ""
    return [f"            {counted.count:,} {what}: {shown}{more if counted.count > len(counted.shown) else ''}"]
