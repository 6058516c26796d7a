"""Which calls may link which ids, and which ids never.

Pure, given the graph: an outcome follows from the entries of the link log before it and from nothing else, so that the
log alone rebuilds the graph. In this order a proposal is

  1. taken as evidence: the id in its user id field is a user id, which is an entry of its own (`user`), unless illegal;
  2. refused `illegal_id`         where either id is on the list of ids that mean nobody;
  3. refused `self_link`          where both are one id (an event that says it twice proposes nothing);
  4. nothing new                  where both are one person already;
  5. refused `both_identified`    where each person owns a user id: only a secret key's alias and the console may;
  6. refused `too_many_ids`       where the person would have more than `ids_max` ids;
  7. accepted.

A refusal changes no person. It is listed in the log once for a pair and a code, and counted every time.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable

import msgspec

from pugd import errors
from pugd.identity.graph import Graph
from pugd.model import LinkRow

RULES_VERSION = 1
"""Of what is written above. A row of the log keeps the version that judged it; replay does not judge again."""

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
    """Two ids of which a call says that they are one person, or one of which it says that it is a user id."""

    project: int
    call: str
    """'identify' | 'alias' | 'event' | 'merge' | 'user'."""
    a_id: str
    """The anonymous id; alias: the previous id; user: the user id. '' makes an identify or event one of 'user'."""
    b_id: str
    """The user id; alias: the new id; user: ''."""
    secret: bool = False
    """A secret write key or the console proposes it."""
    b_user: bool = True
    """alias: did b_id stand in a user id field? (identify and event: it did; merge: it proves nothing.)"""


class Logged(msgspec.Struct, frozen=True, gc=False):
    """One entry of the link log."""

    order: int
    a: int
    b: int
    a_id: str
    b_id: str
    call: str
    refused: str
    """'' where accepted."""


class Outcome(msgspec.Struct):
    """What a proposal adds to the log, and whose person changed by it."""

    links: list[Logged]
    """Empty where nothing new was said."""
    merges: list[tuple[int, int, int]]
    """(actor, person, version): who has another person now or is linked for the first time. Later rows override."""
    refused: str = ""
    """The code, listed or not."""


def propose(graph: Graph, proposal: Proposal, illegal: IllegalIds, ids_max: int = IDS_PER_PERSON_MAX) -> Outcome:
    """Judge and apply one proposal.

    raises   MemoryError, and the graph is as it was
    cost     a few µs; and, where persons join, the ids of those who move
    """
    call, a_id, b_id = proposal.call, proposal.a_id, proposal.b_id
    outcome = Outcome([], [])
    if call == "user" or not a_id:
        user_id = a_id or b_id
        if user_id in illegal:
            if user_id:
                _refuse(graph, outcome, errors.ILLEGAL_ID)
        elif _proves(proposal):
            actor = graph.actor(proposal.project, user_id)
            graph.reserve(actor, actor)
            _learn(graph, outcome, actor, user_id)
        return outcome
    if not b_id:
        return outcome

    a, b = graph.actor(proposal.project, a_id), graph.actor(proposal.project, b_id)
    b_illegal = b_id in illegal
    either_illegal = b_illegal or a_id in illegal
    learns = not b_illegal and _proves(proposal)
    if learns or not either_illegal:
        graph.reserve(a, b)
    if learns:
        _learn(graph, outcome, b, b_id)

    if either_illegal:
        code = errors.ILLEGAL_ID
    elif a == b:
        if call == "event":
            return outcome
        code = errors.SELF_LINK
    elif graph.find(a) == graph.find(b):
        return outcome
    elif graph.owns_user(a) and graph.owns_user(b) and not (call == "merge" or (call == "alias" and proposal.secret)):
        code = errors.BOTH_IDENTIFIED
    elif graph.size(a) + graph.size(b) > ids_max:
        code = errors.TOO_MANY_IDS
    else:
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


def replay(graph: Graph, row: LinkRow) -> None:
    """Apply one entry of the log as it was decided; one that the graph already holds is passed over.

    raises   MemoryError, and the graph is as it was
    """
    if row.order < graph.order:
        return
    if row.refused:
        graph.list_refusal(row.a, row.b, row.refused)
    elif row.call == "user":
        graph.user(row.a)
    else:
        assert row.call in ("identify", "alias", "event", "merge"), row.call
        graph.link(row.a, row.b, row.order)
    graph.order = row.order + 1


def replay_many(graph: Graph, rows: Iterable[LinkRow]) -> None:
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
        else:
            assert row.call in ("identify", "alias", "event", "merge", "user"), row.call
            entries.extend((row.order, row.a, row.b, row.call == "user"))
        order = row.order + 1
    graph.replay_many(entries)
    graph.order = order
