"""Rules and graph against the plain twin: any proposals, any restart between them; and each rule by name."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from reference.people import People

from pugd import errors, model
from pugd.identity import graph as graphs
from pugd.identity import rules, snapshot
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Logged, Outcome, Proposal

KEY = bytes(range(16))
ILLEGAL = IllegalIds()
PROJECT = 7
IDS = [*(f"a{i}" for i in range(8)), *(f"u{i}" for i in range(6)), "null", "Anonymous"]
CALLS = ["identify", "alias", "event", "merge", "user"]
IDS_MAX = 6


def row(logged: Logged, secret: bool = False) -> model.LinkRow:
    return model.LinkRow(
        *(model.LINK, PROJECT, logged.order, logged.a, logged.b, logged.a_id, logged.b_id, logged.call),
        *(logged.refused, int(secret), rules.RULES_VERSION, 1, 1, 1, "", "e", "http", "web"),
    )


def propose(
    graph: Graph,
    call: str,
    a: str,
    b: str = "",
    *,
    secret: bool = False,
    b_user: bool = True,
    ids_max: int = rules.IDS_PER_PERSON_MAX,
) -> Outcome:
    return rules.propose(graph, Proposal(PROJECT, call, a, b, secret, b_user), ILLEGAL, ids_max)


def partition(graph: Graph, ids: list[str]) -> set[frozenset[str]]:
    persons: dict[int, set[str]] = {}
    for one in ids:
        persons.setdefault(graph.find(graph.actor(PROJECT, one)), set()).add(one)
    return {frozenset(person) for person in persons.values()}


class Identity(RuleBasedStateMachine):
    """Whatever is proposed, and however often the process starts anew, graph and twin say the same."""

    @initialize()
    def begin(self) -> None:
        self.graph = Graph(KEY)
        self.twin = People({"null", "Anonymous"}, IDS_MAX)
        self.rows: list[model.LinkRow] = []
        self.kept = (snapshot.dump(self.graph, 0, 1), 0)
        self.order = 1
        self.persons: dict[int, int] = {}
        self.actors = {one: self.graph.actor(PROJECT, one) for one in IDS}

    @rule(
        proposals=st.lists(
            st.tuples(
                st.sampled_from(CALLS),
                st.sampled_from(["", *IDS]),
                st.sampled_from(["", *IDS]),
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def propose(self, proposals: list[tuple[str, str, str, bool, bool]]) -> None:
        for call, a, b, secret, b_user in proposals:
            if call == "user" and not a:
                continue
            before = {one: self.twin.person(one) for one in IDS}
            alone = {one for one in IDS if len(self.twin.ids_of(one)) == 1}
            expected, code = self.twin.proposed(call, a, b, secret, b_user)
            outcome = propose(self.graph, call, a, b, secret=secret, b_user=b_user, ids_max=IDS_MAX)
            assert [(l.call, l.a_id, l.b_id, l.refused) for l in outcome.links] == expected
            assert outcome.refused == code
            assert [l.order for l in outcome.links] == list(range(self.order, self.order + len(expected)))
            assert all(l.a == self.actors[l.a_id] for l in outcome.links)
            assert all(l.b == (self.actors[l.b_id] if l.b_id else 0) for l in outcome.links)
            self.order += len(expected)
            self.rows += [row(l, secret) for l in outcome.links]

            moved = {one for one in IDS if self.twin.person(one) != before[one]}
            moved |= {one for one in alone if len(self.twin.ids_of(one)) > 1}
            assert {actor for actor, _, _ in outcome.merges} == {self.actors[one] for one in moved}
            assert {version for _, _, version in outcome.merges} <= {l.order for l in outcome.links if not l.refused}
            self.persons |= {actor: person for actor, person, _ in outcome.merges}

    @rule()
    def keep(self) -> None:
        self.kept = (snapshot.dump(self.graph, 4711, 12), len(self.rows))

    @rule(whole=st.booleans(), many=st.booleans())
    def restart(self, whole: bool, many: bool) -> None:
        data, seen = self.kept
        graph, *_ = (Graph(KEY), 0, 0) if whole else snapshot.load(KEY, data)
        rows = self.rows if whole else self.rows[max(0, seen - 3) :]  # rows it already holds do no harm
        if many:
            rules.replay_many(graph, rows)
        else:
            for one in rows:
                rules.replay(graph, one)
        assert snapshot.dump(graph, 1, 2) == snapshot.dump(self.graph, 1, 2)
        self.graph = graph

    @rule(events=st.lists(st.tuples(st.sampled_from(["", *IDS]), st.sampled_from(["", *IDS])), max_size=40))
    def resolve(self, events: list[tuple[str, str]]) -> None:
        events = [event for event in events if any(event)]
        packed = msgspec.msgpack.encode([value for user, one in events for value in (PROJECT, user, one)])
        actors, look = self.graph.resolve_many(packed, len(events))
        assert actors == [self.actors[user or one] for user, one in events]
        assert look == [
            i
            for i, (user, one) in enumerate(events)
            if user and (user not in self.twin.users or (one and one not in self.twin.ids_of(user)))
        ]

    @invariant()
    def same(self) -> None:
        for one in IDS:
            actor, mine = self.actors[one], self.twin.ids_of(one)
            assert self.graph.find(actor) == self.actors[self.twin.person(one)]
            assert self.graph.find(actor) == self.persons.get(actor, actor), "what the merges say, rows of person_of"
            assert sorted(self.graph.members(actor)) == sorted(self.actors[i] for i in mine)
            assert self.graph.is_user(actor) == (one in self.twin.users)
            assert self.graph.owns_user(actor) == self.twin.owns_user(one)
            assert self.graph.knows(actor) == (one in self.twin.ids)
            assert self.why(one, mine[0])
        numbers = self.graph.statistics()
        assert (numbers.ids, numbers.users, numbers.order) == (len(self.twin.ids), len(self.twin.users), self.order)

    def why(self, a: str, b: str) -> bool:
        """Do the links that explain a and b lead from the one to the other?"""
        orders = self.graph.explain(self.actors[a], self.actors[b])
        assert orders is not None
        for order in orders:
            link = self.rows[order - 1]
            assert link.order == order
            assert not link.refused
            a = link.b_id if link.a_id == a else link.a_id if link.b_id == a else ""
        return a == b


Identity.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestIdentity = Identity.TestCase


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=40),
    aliases=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_what_is_not_refused_gives_the_same_persons(
    pairs: list[tuple[int, int]], aliases: list[tuple[int, int]], order: random.Random
) -> None:
    proposals = [("identify", f"a{a}", f"u{u}") for a, u in pairs] + [("alias", f"a{a}", f"a{b}") for a, b in aliases]
    given_ids = sorted({one for _, a, b in proposals for one in (a, b)})
    calm = Graph(KEY)
    proposals = [(c, a, b) for c, a, b in proposals if not propose(calm, c, a, b, b_user=False).refused]
    persons = None
    for _ in range(4):
        graph = Graph(KEY)
        assert not any(propose(graph, c, a, b, b_user=False).refused for c, a, b in proposals)
        persons = persons or partition(graph, given_ids)
        assert partition(graph, given_ids) == persons
        proposals = proposals + order.choices(proposals, k=len(proposals) // 2) if proposals else proposals
        order.shuffle(proposals)


@pytest.mark.parametrize(
    "distinct_id",
    [
        *("", " ", "\t\n", "anonymous", "ANONYMOUS", "Guest", "distinctId", "distinct_id", "id", "not_authenticated"),
        *("email", "undefined", "Undefined", "true", "FALSE", "[object Object]", "NaN", "None", "none", "null", "0"),
        *("'null'", '"null"', "' '", '"Guest"', " null ", "-1", "00000000-0000-0000-0000-000000000000", "0000", "-"),
        *("''", '""', "'", '"') [:2],
    ],
)  # fmt: skip
def test_illegal(distinct_id: str) -> None:
    assert distinct_id in ILLEGAL


@pytest.mark.parametrize(
    "distinct_id", ["user_123", "nan", "NULL", "NONE", "1", "00001", "idx", "guest2", "'x", "nobody", "[object object]"]
)
def test_legal(distinct_id: str) -> None:
    assert distinct_id not in ILLEGAL
    assert (distinct_id in IllegalIds(["nobody"])) == (distinct_id == "nobody")


def test_an_illegal_id_never_enters_the_graph() -> None:
    graph = Graph(KEY)
    assert propose(graph, "user", "null") == Outcome([], [], errors.ILLEGAL_ID)
    outcome = propose(graph, "event", "a", "undefined")
    assert [(l.call, l.refused) for l in outcome.links] == [("event", errors.ILLEGAL_ID)]
    assert outcome.merges == []
    assert propose(graph, "event", "a", "undefined").links == []
    assert graph.statistics().ids == 0
    assert graph.statistics().refused == {errors.ILLEGAL_ID: 3}
    outcome = propose(graph, "identify", "null", "u")
    assert [(l.call, l.a_id, l.refused) for l in outcome.links] == [
        ("user", "u", ""),
        ("identify", "null", errors.ILLEGAL_ID),
    ]
    packed = msgspec.msgpack.encode([PROJECT, "undefined", "a"])
    assert graph.resolve_many(packed, 1)[0] == [graph.actor(PROJECT, "undefined")]


def test_a_shared_device_never_fuses_two_customers() -> None:
    graph = Graph(KEY)
    propose(graph, "identify", "device", "u1")
    for call in ("identify", "event"):
        outcome = propose(graph, call, "device", "u2")
        assert outcome.refused == errors.BOTH_IDENTIFIED
        assert outcome.merges == []
    assert propose(graph, "alias", "u1", "u2").refused == errors.BOTH_IDENTIFIED
    assert propose(graph, "identify", "u1", "u2", secret=True).refused == errors.BOTH_IDENTIFIED
    u1, u2, device = (graph.actor(PROJECT, one) for one in ("u1", "u2", "device"))
    assert graph.find(device) == u1
    assert graph.find(u2) == u2
    order = graph.order
    assert propose(graph, "alias", "u2", "u1", secret=True).merges == [(u2, u1, order)]
    assert graph.statistics().refused == {errors.BOTH_IDENTIFIED: 4}


def test_the_console_may_merge_whom_a_public_key_may_not() -> None:
    graph = Graph(KEY)
    propose(graph, "user", "u1")
    propose(graph, "user", "u2")
    assert propose(graph, "merge", "u2", "u1", secret=True).refused == ""
    assert graph.find(graph.actor(PROJECT, "u2")) == graph.actor(PROJECT, "u1")


def test_a_person_has_at_most_500_ids() -> None:
    graph = Graph(KEY)
    for i in range(499):
        assert propose(graph, "identify", f"a{i}", "u").refused == ""
    assert graph.size(graph.actor(PROJECT, "u")) == 500
    outcome = propose(graph, "identify", "one more", "u")
    assert outcome.refused == errors.TOO_MANY_IDS
    assert [l.refused for l in outcome.links] == [errors.TOO_MANY_IDS]
    assert not graph.knows(graph.actor(PROJECT, "one more"))
    propose(graph, "alias", "x", "y", b_user=False)
    assert propose(graph, "alias", "x", "a7", b_user=False).refused == errors.TOO_MANY_IDS


def test_who_becomes_a_user_within_a_person_gives_it_a_new_representative() -> None:
    graph = Graph(KEY)
    x, y = graph.actor(PROJECT, "x"), graph.actor(PROJECT, "y")
    assert sorted(propose(graph, "alias", "x", "y", b_user=False).merges) == sorted([(x, x, 1), (y, x, 1)])
    assert sorted(propose(graph, "user", "y").merges) == sorted([(x, y, 2), (y, y, 2)])
    assert propose(graph, "user", "x").merges == []
    assert graph.find(x) == y


def test_projects_share_nothing() -> None:
    graph = Graph(KEY)
    rules.propose(graph, Proposal(1, "identify", "a", "u"), ILLEGAL)
    assert graph.actor(1, "a") != graph.actor(2, "a")
    assert not graph.knows(graph.actor(2, "u"))


def test_a_refusal_is_listed_once_while_it_is_remembered_and_counted_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "REFUSALS_MAX", 3)
    graph = Graph(KEY)
    propose(graph, "identify", "a", "u0")
    listed: list[Any] = []
    for one in ("u1", "u1", "u2", "u3", "u1", "u4", "u1", "u4"):
        listed += [(l.b_id, row(l)) for l in propose(graph, "identify", "a", one).links if l.refused]
    assert [one for one, _ in listed] == ["u1", "u2", "u3", "u4", "u1"]
    assert graph.statistics().refused == {errors.BOTH_IDENTIFIED: 8}
    assert len(graph.refusals) == 3
