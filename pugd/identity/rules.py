"""Which calls may link which ids, which ids never, and what taking a link out leaves.

Pure, given the graph: an outcome follows from the entries of the link log before it and from nothing else, so that the
log alone rebuilds the graph. In this order a proposal is

  1. taken as evidence: the id in its user id field is a user id, which is an entry of its own (`user`), unless illegal;
  2. refused `illegal_id`         where either id is on the list of ids that mean nobody;
  3. refused `self_link`          where both are one id (an event that says it twice proposes nothing);
  4. nothing new                  where both are one person already, and an event says so or a link of this very pair;
     accepted as evidence         where any other call does: it moves nobody, and counts once a link is taken out. Of
                                  that a person has at most EVIDENCE_PER_ID times its ids: more is nothing new;
  5. refused `unlinked_by_hand`   where it would bring a pair together, through whatever third ids, that was unlinked;
  6. refused `both_identified`    where each person owns a user id: only a secret key's alias and the console may;
  7. refused `too_many_ids`       where the person would have more than `ids_max` ids;
  8. accepted.

An identify or alias that is not refused and adds no entry of its own is `again`: no entry of the log, and of no effect
on anybody, but one of the timeline. So a timeline shows every such call, whichever of them came first.

A `merge` by hand passes 5 and 6, and once accepted lifts what keeps pairs of the two persons apart. A refusal changes
no person. It is listed in the log once for a pair and a code, and counted every time.

An `unlink` by hand takes out of a person the links of one pair, or all links of one id, and keeps the two, or that id
and every other, apart from then on. Of the person's other links each is applied again, in the order of the log, unless
it would bring a pair together that is to stay apart; then it is left out. It is refused `self_link`, or `not_linked`
where the two are not one person or the id stands alone; such a refusal is answered and counted, and not listed: nobody
proposed a link. An illegal id may be unlinked: it may have been legal when it was linked.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from pugd import errors
from pugd.identity.graph import Graph

RULES_VERSION = 3
"""Of what is written above. A row of the log keeps the version that judged it; replay does not judge again.

1 had no unlink, and nothing new was said by whatever named two ids of one person. 2 forgot calls that said nothing new.
"""

IDS_PER_PERSON_MAX = 500
"""More is a bot, a test device or a mistake; peers stop stitching between 50 and 500."""

_ANY_CASE = frozenset(
    [
        "anonymous",
        "guest",
        "distinctid",
        "distinct_id",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "true",
        "false",
    ]
)
_AS_WRITTEN = frozenset(["[object Object]", "NaN", "None", "none", "null", "0", "-1"])
_ZEROS = re.compile(r"[0\-]+")
"""00000000-0000-0000-0000-000000000000 is what phones say that may not be tracked."""


EVIDENCE_PER_ID = 2
"""Links of a person beside those that joined it, for each id. So up to six ids may be linked each with each; and taking
500 apart costs 10 ms, where all the pairs that somebody may send would cost 300 (bench/bench_unlink.py)."""


class IllegalIds:
    """Ids that mean nobody: what programs send by mistake, as it is or in quotes, and the operator's own."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = frozenset(extra)

    def __contains__(self, distinct_id: str) -> bool:
        if distinct_id in self._extra:
            return True
        bare = distinct_id.strip()
        if len(bare) >= 2 and bare[0] == bare[-1] and bare[0] in "'\"":
            bare = bare[1:-1].strip()
        return not bare or bare in _AS_WRITTEN or bare.lower() in _ANY_CASE or _ZEROS.fullmatch(bare) is not None


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """Two ids of which a call says that they are one person, or, unlink, that they are not; or one of which it says
    that it is a user id."""

    project: int
    call: str
    """'identify' | 'alias' | 'event' | 'user', and by hand 'merge' | 'unlink'."""
    a_id: str
    """The anonymous id; alias: the previous id; user: the user id. '' makes an event one of 'user', and lets an
    identify prove its user id alone."""
    b_id: str
    """The user id, '' where an identify has none; alias: the new id; user: ''; unlink: '' for all links of a_id."""
    secret: bool = False
    """A secret write key or the console proposes it."""
    b_user: bool = True
    """alias: did b_id stand in a user id field? (identify and event: it did; merge: it proves nothing.)"""


class Logged(msgspec.Struct, frozen=True, gc=False):
    """One entry of the link log; or, with `order` 0, a call that said nothing new."""

    order: int
    a: int
    b: int
    a_id: str
    b_id: str
    call: str
    refused: str
    """'' where accepted."""


class Parts(msgspec.Struct, frozen=True):
    """What becomes of a person of which links are taken out."""

    persons: list[list[int]]
    """The persons that result: the representative of each, then its other ids. In the order in which ids entered the
    log, that of the persons by their first."""
    kept: list[tuple[int, int, int]]
    """(order, a, b) of the links that hold, by order."""
    removed: list[int]
    """Places in the log of the links that were to be taken out."""
    left_out: list[int]
    """Of those that would bring together again what is to stay apart."""


class Outcome(msgspec.Struct):
    """What a proposal adds to the log, and whose person changed by it."""

    links: list[Logged]
    """Empty where nothing new was said."""
    merges: list[tuple[int, int, int]]
    """(actor, person, version): who has another person now or is linked for the first time. Later rows override."""
    refused: str = ""
    """The code, listed or not."""
    parts: Parts | None = None
    """unlink: what it made of the person."""
    again: Logged | None = None
    """identify, alias: the call, where it is neither refused nor among `links`."""


def propose(graph: Graph, proposal: Proposal, illegal: IllegalIds, ids_max: int = IDS_PER_PERSON_MAX) -> Outcome:
    """Judge and apply one proposal.

    raises   MemoryError, and the graph is as it was; of an unlink, and the graph may only be thrown away
    cost     a few µs; and, where persons join, the ids of those who move; an unlink: the person's ids and links
    """
    call, a_id, b_id = proposal.call, proposal.a_id, proposal.b_id
    outcome = Outcome([], [])
    if call == "unlink":
        _unlink(graph, proposal, outcome)
        return outcome
    if call == "user" or not a_id:
        user_id = a_id or b_id
        if user_id in illegal:
            if user_id:
                _refuse(graph, outcome, errors.ILLEGAL_ID)
        elif _proves(proposal):
            actor = graph.actor(proposal.project, user_id)
            graph.reserve(actor, actor)
            _learn(graph, outcome, actor, user_id)
            if call == "identify":
                outcome.again = Logged(0, actor, actor, user_id, user_id, call, "")
        return outcome
    if not b_id:
        if call == "identify":
            outcome.again = Logged(0, graph.actor(proposal.project, a_id), 0, a_id, "", call, "")
        return outcome
    a, b = graph.actor(proposal.project, a_id), graph.actor(proposal.project, b_id)
    b_illegal = b_id in illegal
    either_illegal = b_illegal or a_id in illegal
    learns = not b_illegal and _proves(proposal)
    if learns or not either_illegal:
        graph.reserve(a, b)
    if learns:
        _learn(graph, outcome, b, b_id)
    by_hand = call == "merge"
    if either_illegal:
        code = errors.ILLEGAL_ID
    elif a == b:
        if call == "event":
            return outcome
        code = errors.SELF_LINK
    elif graph.find(a) == graph.find(b):
        evidence = call != "event" and graph.extras_of(a) < EVIDENCE_PER_ID * graph.size(a)
        if evidence and not graph.linked(a, b):
            graph.link(a, b, _log(graph, outcome, a, b, a_id, b_id, call, ""))
        elif call in ("identify", "alias"):
            outcome.again = Logged(0, a, b, a_id, b_id, call, "")
        return outcome
    elif not by_hand and _apart(graph, a, b):
        code = errors.UNLINKED_BY_HAND
    elif graph.owns_user(a) and graph.owns_user(b) and not (by_hand or (call == "alias" and proposal.secret)):
        code = errors.BOTH_IDENTIFIED
    elif graph.size(a) + graph.size(b) > ids_max:
        code = errors.TOO_MANY_IDS
    else:
        if by_hand:
            _lift(graph, a, b)
        order = _log(graph, outcome, a, b, a_id, b_id, call, "")
        _moved(graph, outcome, graph.link(a, b, order), order)
        return outcome
    _refuse(graph, outcome, code)
    if graph.list_refusal(a, b, code):
        _log(graph, outcome, a, b, a_id, b_id, call, code)
    return outcome


def _proves(proposal: Proposal) -> bool:
    """Is the id in its user id field evidence of a user?"""
    return proposal.call in ("identify", "event", "user") or (proposal.call == "alias" and proposal.b_user)


def _learn(graph: Graph, outcome: Outcome, actor: int, user_id: str) -> None:
    if graph.is_user(actor):
        return
    order = _log(graph, outcome, actor, 0, user_id, "", "user", "")
    _moved(graph, outcome, graph.user(actor), order)


def _refuse(graph: Graph, outcome: Outcome, code: str) -> None:
    outcome.refused = code
    graph.count_refusal(code)


def _log(graph: Graph, outcome: Outcome, a: int, b: int, a_id: str, b_id: str, call: str, refused: str) -> int:
    order = graph.order
    graph.order = order + 1
    outcome.links.append(Logged(order, a, b, a_id, b_id, call, refused))
    return order


def _moved(graph: Graph, outcome: Outcome, actors: list[int], order: int) -> None:
    if actors:
        person = graph.find(actors[0])
        outcome.merges.extend((actor, person, order) for actor in actors)


# -- apart -------------------------------------------------------------------------------------------------------------


def _apart(graph: Graph, a: int, b: int) -> bool:
    """Would a link of these two persons bring a pair together that was unlinked?

    cost     the ids of the smaller person; and, for those of them that were ever unlinked, from how many ids, but at
             most the ids of the larger person
    """
    cannot = graph.cannot
    if not cannot:
        return False
    few, many = _by_size(graph, a, b)
    person = graph.find(many)
    size = graph.size(many)
    them: list[int] = []
    for one in graph.members(few):
        others = cannot.get(one)
        if others is None:
            continue
        if len(others) <= size:
            if any(graph.find(other) == person for other in others):
                return True
        else:
            them = them or graph.members(many)
            if not others.isdisjoint(them):
                return True
    return False


def _lift(graph: Graph, a: int, b: int) -> None:
    """No pair of these two persons is kept apart any more."""
    cannot = graph.cannot
    if not cannot:
        return
    few, many = _by_size(graph, a, b)
    them = frozenset(graph.members(many))
    for one in graph.members(few):
        others = cannot.get(one)
        if others is None:
            continue
        for other in others & them:
            _drop(cannot, one, other)
            _drop(cannot, other, one)


def _by_size(graph: Graph, a: int, b: int) -> tuple[int, int]:
    return (a, b) if graph.size(a) <= graph.size(b) else (b, a)


def _drop(cannot: dict[int, set[int]], one: int, other: int) -> None:
    others = cannot[one]
    others.remove(other)
    if not others:
        del cannot[one]


def rehearse(graph: Graph, proposal: Proposal) -> Parts | str:
    """What an `unlink` would make of the person, or the code it would be refused with. Changes nothing at all."""
    a, b = _unlinked(graph, proposal)
    return _why_not(graph, a, b) or _parts(graph, a, b)[0]


def _unlinked(graph: Graph, proposal: Proposal) -> tuple[int, int]:
    """The two that an unlink names, or one and 0."""
    assert proposal.call == "unlink"
    b = graph.actor(proposal.project, proposal.b_id) if proposal.b_id else 0
    return graph.actor(proposal.project, proposal.a_id), b


def _why_not(graph: Graph, a: int, b: int) -> str:
    """The code that an unlink is refused with, or ''."""
    if a == b:
        return errors.SELF_LINK
    apart = graph.find(a) != graph.find(b) if b else graph.size(a) == 1
    return errors.NOT_LINKED if apart else ""


def _unlink(graph: Graph, proposal: Proposal, outcome: Outcome) -> None:
    a, b = _unlinked(graph, proposal)
    code = _why_not(graph, a, b)
    if code:
        _refuse(graph, outcome, code)
        return
    before = graph.find(a)
    outcome.parts = _take_apart(graph, a, b)
    order = _log(graph, outcome, a, b, proposal.a_id, proposal.b_id, "unlink", "")
    for person in outcome.parts.persons:
        if person[0] != before:
            outcome.merges.extend((actor, person[0], order) for actor in person)


def _take_apart(graph: Graph, a: int, b: int) -> Parts:
    """Do what an unlink says: of a and b, or of a and everyone where b is 0."""
    parts, apart = _parts(graph, a, b)
    graph.scatter(a)
    again = array("Q")
    for order, one, other in parts.kept:
        again.extend((order, one, other, 0))
    graph.replay_many(again)
    for one, others in apart.items():
        graph.cannot.setdefault(one, set()).update(others)
    return parts


def _parts(graph: Graph, a: int, b: int) -> tuple[Parts, dict[int, set[int]]]:
    """What an unlink of two ids, or of one from everyone (b is 0), makes of their person; and whom it keeps apart."""
    ids = sorted(graph.members(a), key=graph.handle)
    ranks = {one: rank for one in ids if (rank := graph.user_rank(one))}
    links = graph.links(a)
    if b:
        taken = {order for order, one, other in links if (one == a and other == b) or (one == b and other == a)}
        apart = {a: {b}, b: {a}}
    else:
        taken = {order for order, one, other in links if one == a or other == a}
        apart = {one: {a} for one in ids if one != a}
        apart[a] = set(apart)
    return regroup(ids, ranks, links, taken, apart), apart


def regroup(
    ids: Sequence[int],
    ranks: Mapping[int, int],
    links: Iterable[tuple[int, int, int]],
    taken: AbstractSet[int],
    apart: Mapping[int, AbstractSet[int]],
) -> Parts:
    """The persons that links make of ids, when some links are taken out and some pairs are to stay apart.

    ids      in the order in which they entered the log
    ranks    of those that are user ids: lower became one earlier
    links    (order, a, b), by order
    taken    orders of the links that are taken out
    apart    id → ids that it may not be one person with; symmetric
    cost     O(links + ids · log ids); and, where two groups join, how many ids those of the smaller are kept apart from
    """
    group = {one: [one] for one in ids}
    kept, removed, left_out = [], [], []
    for link in links:
        order, a, b = link
        if order in taken:
            removed.append(order)
            continue
        few, many = group[a], group[b]
        if few is not many:
            if len(few) > len(many):
                few, many = many, few
            if any(group.get(other) is many for one in few if one in apart for other in apart[one]):
                left_out.append(order)
                continue
            many += few
            for one in few:
                group[one] = many
        kept.append(link)
    place = {one: number for number, one in enumerate(ids)}
    last = max(ranks.values(), default=0) + 1
    persons = []
    for one in ids:
        found = group[one]
        if found:
            found.sort(key=place.__getitem__)
            person = min(found, key=lambda actor: ranks.get(actor, last))
            persons.append([person, *(actor for actor in found if actor != person)])
            found.clear()
    return Parts(persons, kept, removed, left_out)


# -- replay ------------------------------------------------------------------------------------------------------------


class Decided(Protocol):
    """An entry of the log, as far as replay needs it: a LinkRow, or what a check reads of one."""

    @property
    def order(self) -> int: ...
    @property
    def a(self) -> int: ...
    @property
    def b(self) -> int: ...
    @property
    def call(self) -> str: ...
    @property
    def refused(self) -> str: ...


def replay(graph: Graph, row: Decided) -> None:
    """Apply one entry of the log as it was decided; one that the graph already holds is passed over.

    raises   MemoryError, and the graph is as it was; of an unlink, and the graph may only be thrown away
    """
    if row.order < graph.order:
        return
    if row.refused:
        graph.list_refusal(row.a, row.b, row.refused)
    elif row.call == "user":
        graph.user(row.a)
    elif row.call == "unlink":
        _take_apart(graph, row.a, row.b)
    else:
        assert row.call in ("identify", "alias", "event", "merge"), row.call
        if row.call == "merge":
            _lift(graph, row.a, row.b)
        graph.link(row.a, row.b, row.order)
    graph.order = row.order + 1


REPLAY_TOGETHER = 65_536
"""Entries that replay_many gives to the graph at once: 2 MiB."""


def replay_many(graph: Graph, rows: Iterable[Decided]) -> None:
    """The same for many rows, in link-log order, at a tenth of the cost.

    raises   MemoryError, and the graph holds some of them and may only be thrown away
    """
    entries = array("Q")
    order = graph.order
    for row in rows:
        if row.order < order:
            continue
        if row.refused:
            graph.list_refusal(row.a, row.b, row.refused)
        elif row.call == "unlink" or (row.call == "merge" and graph.cannot):
            # What it does depends on all that came before: that is applied first.
            graph.replay_many(entries)
            del entries[:]
            replay(graph, row)
        else:
            assert row.call in ("identify", "alias", "event", "merge", "user"), row.call
            entries.extend((row.order, row.a, row.b, row.call == "user"))
            if len(entries) >= 4 * REPLAY_TOGETHER:
                graph.replay_many(entries)
                del entries[:]
        order = row.order + 1
    graph.replay_many(entries)
    graph.order = order
