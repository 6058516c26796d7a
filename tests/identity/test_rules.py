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
CALLS = ["identify", "alias", "event", "merge", "user", "unlink"]
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


def either_way(links: list[tuple[int, int, int]]) -> list[tuple[int, set[int]]]:
    """A link has no direction."""
    return [(order, {a, b}) for order, a, b in links]


class Identity(RuleBasedStateMachine):
    """Whatever is proposed, and however often the process starts anew, graph and twin say the same."""

    @initialize()
    def begin(self) -> None:
        self.graph = Graph(KEY)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(rules, "EVIDENCE_PER_ID", 1)  # met by few ids too
        self.twin = People({"null", "Anonymous"}, IDS_MAX, evidence=1)
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
            if call in ("user", "unlink") and not a:
                continue
            before = {one: self.twin.person(one) for one in IDS}
            alone = {one for one in IDS if len(self.twin.ids_of(one)) == 1}
            mine, held = self.twin.ids_of(a), self.twin.links_of(a)
            rehearsed = self.rehearse(a, b) if call == "unlink" else None
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
            assert len(outcome.merges) == len({(actor, version) for actor, _, version in outcome.merges})
            self.persons |= {actor: person for actor, person, _ in outcome.merges}
            if call == "unlink":
                assert rehearsed == (outcome.refused or outcome.parts)
            if outcome.parts is not None:
                self.fell_apart(outcome.parts, a, b, mine, held)

    def rehearse(self, a: str, b: str) -> rules.Parts | str:
        before = snapshot.dump(self.graph, 1, 2), self.graph.statistics()
        found = rules.rehearse(self.graph, Proposal(PROJECT, "unlink", a, b, secret=True))
        assert (snapshot.dump(self.graph, 1, 2), self.graph.statistics()) == before, "a rehearsal changes nothing"
        return found

    def fell_apart(self, parts: rules.Parts, a: str, b: str, mine: list[str], held: list[tuple[int, str, str]]) -> None:
        """Is what an unlink says it did what the twin has become?"""
        persons = [[self.twin.person(one), *self.twin.ids_of(one)] for one in mine]
        expected = [[self.actors[i] for i in dict.fromkeys(person)] for person in persons]
        assert parts.persons == [person for at, person in enumerate(expected) if person not in expected[:at]]
        of_pair = [order for order, i, j in held if ({i, j} == {a, b} if b else a in (i, j))]
        assert parts.removed == of_pair
        kept = {link for one in mine for link in self.twin.links_of(one)}
        assert either_way(parts.kept) == [(order, {self.actors[i], self.actors[j]}) for order, i, j in sorted(kept)]
        assert sorted(parts.left_out) == sorted(
            {order for order, _, _ in held} - set(of_pair) - {o for o, _, _ in kept}
        )

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
        assert list(actors) == [self.actors[user or one] for user, one in events]
        assert look == [
            i
            for i, (user, one) in enumerate(events)
            if user and (user not in self.twin.users or (one and one not in self.twin.ids_of(user)))
        ]

    def teardown(self) -> None:
        self.patch.undo()

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
            held = [(order, {self.actors[i], self.actors[j]}) for order, i, j in self.twin.links_of(one)]
            assert either_way(self.graph.links(actor)) == held
            assert all(
                self.graph.linked(actor, self.actors[i]) == any({one, i} == {a, b} for _, a, b in self.twin.links)
                for i in IDS
            )
            assert all((self.graph.explain(actor, self.actors[i]) is None) == (i not in mine) for i in IDS)
        assert sorted(self.twin.ids, key=lambda i: self.graph.handle(self.actors[i])) == self.twin.ids
        assert sorted(self.twin.users, key=lambda i: self.graph.user_rank(self.actors[i])) == self.twin.users
        numbers = self.graph.statistics()
        assert (numbers.ids, numbers.users, numbers.order) == (len(self.twin.ids), len(self.twin.users), self.order)
        apart = {frozenset({one, other}) for one, others in self.graph.cannot.items() for other in others}
        assert apart == {frozenset(self.actors[i] for i in pair) for pair in self.twin.apart}
        assert all(one in self.graph.cannot[other] for one, others in self.graph.cannot.items() for other in others)
        assert all(self.graph.find(one) != self.graph.find(other) for one, other in apart)

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


FEW = st.sampled_from([f"a{i}" for i in range(9)] + [f"u{i}" for i in range(4)])
ASKED = st.tuples(st.sampled_from(["identify", "alias", "event", "merge", "user"]), FEW, FEW, st.booleans())


@settings(max_examples=150, deadline=None)
@given(asked=st.lists(ASKED, min_size=1, max_size=30), order=st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_what_is_not_refused_gives_the_same_persons(
    asked: list[tuple[str, str, str, bool]], order: random.Random
) -> None:
    """Where no person has two user ids, no order is refused anything. Where one has, some are; the others agree."""
    tried, calm = Graph(KEY), Graph(KEY)
    proposals = [one for one in asked if not propose(tried, *one[:3], b_user=one[3]).refused]
    assert not any(propose(calm, *one[:3], b_user=one[3]).refused for one in proposals)
    given_ids = sorted({one for _, a, b, _ in proposals for one in (a, b)})
    persons = partition(calm, given_ids)
    users = {one for one in given_ids if calm.is_user(calm.actor(PROJECT, one))}
    alone = all(len(person & users) <= 1 for person in persons)
    for _ in range(4):
        proposals = proposals + order.choices(proposals, k=len(proposals) // 2) if proposals else proposals
        order.shuffle(proposals)
        graph = Graph(KEY)
        refused = [propose(graph, call, a, b, b_user=b_user).refused for call, a, b, b_user in proposals]
        assert not (alone and any(refused))
        if not any(refused):
            assert partition(graph, given_ids) == persons
            assert {one for one in given_ids if graph.is_user(graph.actor(PROJECT, one))} == users


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(ASKED, max_size=25),
    second=st.lists(ASKED, max_size=25),
    unlinked=st.lists(st.tuples(FEW, st.one_of(st.just(""), FEW)), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_collectors_that_apply_one_order_agree_to_the_byte(
    first: list[tuple[str, str, str, bool]],
    second: list[tuple[str, str, str, bool]],
    unlinked: list[tuple[str, str]],
    order: random.Random,
) -> None:
    """Two propose at the same time, and each applies what both proposed, in one order: the one in one go, the other
    over snapshots, and a third from the log that they wrote, in pieces of any size."""
    asked = [("unlink", a, b, False) for a, b in unlinked]
    queues = [first, [*second[:12], *asked, *second[12:]]]
    common = [
        queue.pop(0)
        for queue in order.sample(
            [queues[0]] * len(first) + [queues[1]] * len(queues[1]), k=len(first) + len(queues[1])
        )
    ]
    whole, pieces, logged = Graph(KEY), Graph(KEY), Graph(KEY)
    rows: list[model.LinkRow] = []
    for call, a, b, b_user in common:
        outcome = propose(whole, call, a, b, b_user=b_user, ids_max=IDS_MAX)
        assert propose(pieces, call, a, b, b_user=b_user, ids_max=IDS_MAX) == outcome
        rows += [row(one) for one in outcome.links]
        if order.random() < 0.2:
            pieces, *_ = snapshot.load(KEY, snapshot.dump(pieces, 3, 4))
    assert snapshot.dump(pieces, 1, 2) == snapshot.dump(whole, 1, 2)
    while rows:
        piece = order.randint(1, len(rows))
        rules.replay_many(logged, rows[:piece])
        del rows[:piece]
        if order.random() < 0.5:
            logged, *_ = snapshot.load(KEY, snapshot.dump(logged, 3, 4))
    assert snapshot.dump(logged, 1, 2) == snapshot.dump(whole, 1, 2)


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 12),
    ends=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    apart=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6),
    ranked=st.lists(st.integers(0, 11), max_size=5, unique=True),
    data=st.data(),
)
def test_regroup_is_what_its_words_say(
    count: int, ends: list[tuple[int, int]], apart: set[tuple[int, int]], ranked: list[int], data: st.DataObject
) -> None:
    ids = data.draw(st.permutations([100 + i for i in range(count)]))
    links = [(3 * at + 1, 100 + a % count, 100 + b % count) for at, (a, b) in enumerate(ends)]
    taken = data.draw(st.sets(st.sampled_from([order for order, *_ in links]))) if links else set()
    pairs = {(100 + a % count, 100 + b % count) for a, b in apart if a % count != b % count}
    pairs |= {(b, a) for a, b in pairs}
    ranks = {100 + i % count: place + 1 for place, i in enumerate(ranked)}
    cannot = {a: {j for i, j in pairs if i == a} for a, _ in pairs}
    parts = rules.regroup(ids, ranks, links, taken, cannot)

    held: list[tuple[int, int, int]] = []

    def reached(one: int) -> set[int]:
        found = [one]
        for each in found:
            found += {b if a == each else a for _, a, b in held if each in (a, b)} - {*found}
        return set(found)

    for link in links:
        _, a, b = link
        meets = any((i, j) in pairs for i in reached(a) for j in reached(b))
        if link[0] not in taken and (b in reached(a) or not meets):
            held.append(link)
    assert parts.kept == held
    assert parts.removed == [order for order, *_ in links if order in taken]
    assert parts.left_out == [l[0] for l in links if l not in held and l[0] not in taken]
    assert {frozenset(person) for person in parts.persons} == {frozenset(reached(one)) for one in ids}
    assert [min(map(ids.index, person)) for person in parts.persons] == sorted(
        min(map(ids.index, p)) for p in parts.persons
    )
    for first, *others in parts.persons:
        assert others == sorted(others, key=ids.index)
        users = sorted({first, *others} & ranks.keys(), key=ranks.__getitem__)
        assert first == (users[0] if users else min([first, *others], key=ids.index))


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
    assert list(graph.resolve_many(packed, 1)[0]) == [graph.actor(PROJECT, "undefined")]


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


def actors(graph: Graph, *ids: str) -> list[int]:
    return [graph.actor(PROJECT, one) for one in ids]


def test_an_unlinked_pair_stays_apart_through_third_ids_too_until_it_is_merged() -> None:
    graph = Graph(KEY)
    propose(graph, "identify", "phone", "u")
    propose(graph, "identify", "laptop", "u")
    u, phone = actors(graph, "u", "phone")
    outcome = propose(graph, "unlink", "phone", "u", secret=True)
    assert outcome.refused == ""
    assert outcome.merges == [(phone, phone, 4)]
    assert [(l.call, l.a_id, l.b_id, l.b, l.refused) for l in outcome.links] == [("unlink", "phone", "u", u, "")]
    for call, a, b in (("identify", "phone", "u"), ("event", "phone", "u"), ("alias", "laptop", "phone")):
        assert propose(graph, call, a, b, secret=True, b_user=False).refused == errors.UNLINKED_BY_HAND
    assert propose(graph, "alias", "phone", "tablet", b_user=False).refused == ""
    assert propose(graph, "identify", "tablet", "u").refused == errors.UNLINKED_BY_HAND
    assert propose(graph, "identify", "tablet", "other").refused == "", "they may belong to anyone else"
    assert propose(graph, "merge", "tablet", "laptop", secret=True).refused == ""
    assert len({graph.find(one) for one in actors(graph, "u", "phone", "laptop", "tablet", "other")}) == 1
    assert graph.cannot == {}
    assert propose(graph, "identify", "phone", "u").refused == ""


def test_unlinking_a_middle_id_splits_the_rest() -> None:
    graph = Graph(KEY)
    for a in ("a1", "a2", "a3"):
        propose(graph, "identify", a, "u")
    propose(graph, "alias", "a2", "a3", b_user=False)
    u, a1, a2, a3 = actors(graph, "u", "a1", "a2", "a3")
    outcome = propose(graph, "unlink", "u", secret=True)
    assert outcome.parts is not None
    assert outcome.parts.persons == [[u], [a1], [a2, a3]]
    assert sorted(outcome.merges) == sorted([(a1, a1, 6), (a2, a2, 6), (a3, a2, 6)])
    assert [(l.a_id, l.b, l.b_id) for l in outcome.links] == [("u", 0, "")]
    assert graph.cannot == {u: {a1, a2, a3}, a1: {u}, a2: {u}, a3: {u}}
    assert propose(graph, "unlink", "u", secret=True).refused == errors.NOT_LINKED
    assert propose(graph, "identify", "a3", "u").refused == errors.UNLINKED_BY_HAND


def test_a_link_that_says_the_same_another_way_holds_when_the_first_is_taken_out() -> None:
    """Evidence that came while both were one person already; an event gives none."""
    graph = Graph(KEY)
    propose(graph, "alias", "a", "b", b_user=False)
    propose(graph, "alias", "b", "c", b_user=False)
    assert propose(graph, "event", "a", "c").links[1:] == []
    assert [l.call for l in propose(graph, "alias", "a", "c").links] == ["alias"]
    again = propose(graph, "alias", "c", "a", b_user=False)
    assert (again.links, again.merges, again.refused) == ([], [], "")
    a, b, c = actors(graph, "a", "b", "c")
    parts = propose(graph, "unlink", "b", "a", secret=True).parts
    assert parts is not None
    assert (parts.persons, parts.removed, parts.left_out) == ([[a], [c, b]], [1], [4])
    graph = Graph(KEY)
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        propose(graph, "alias", one, other, b_user=False)
    parts = propose(graph, "unlink", "b", secret=True).parts
    assert parts is not None
    assert (parts.persons, parts.removed, parts.left_out) == ([[a, c], [b]], [1, 2], [])


def test_evidence_beyond_its_bound_is_nothing_new() -> None:
    graph = Graph(KEY)
    ids = [f"a{i}" for i in range(30)]
    for one in ids[1:]:
        propose(graph, "alias", ids[0], one, b_user=False)
    said = [bool(propose(graph, "alias", a, b, b_user=False).links) for a in ids[1:] for b in ids[1:] if a < b]
    assert said == [True] * 60 + [False] * (29 * 28 // 2 - 60)
    assert graph.extras_of(graph.actor(PROJECT, ids[7])) == 60
    assert propose(graph, "identify", "a3", "u").refused == "", "what joins is not evidence"


def test_what_cannot_be_unlinked_is_told_and_counted_and_not_listed() -> None:
    graph = Graph(KEY)
    propose(graph, "identify", "a", "u")
    propose(graph, "user", "v")
    before = snapshot.dump(graph, 1, 2)
    refused = {
        errors.NOT_LINKED: [("a", "v"), ("v", ""), ("nobody", ""), ("nobody", "a"), ("a", "nobody"), ("x", "y")],
        errors.SELF_LINK: [("a", "a"), ("nobody", "nobody")],
    }
    for code, pairs in refused.items():
        for a, b in pairs:
            assert propose(graph, "unlink", a, b, secret=True) == Outcome([], [], code)
    assert snapshot.dump(graph, 1, 2) == before
    assert graph.statistics().refused == {code: len(pairs) for code, pairs in refused.items()}
    elsewhere = rules.propose(graph, Proposal(PROJECT + 1, "unlink", "a", "u", secret=True), ILLEGAL)
    assert elsewhere.refused == errors.NOT_LINKED


def test_an_id_that_became_illegal_can_still_be_unlinked() -> None:
    graph = Graph(KEY)
    propose(graph, "identify", "tv", "u")
    outcome = rules.propose(graph, Proposal(PROJECT, "unlink", "tv", "u", secret=True), IllegalIds(["tv"]))
    assert outcome.refused == ""


def test_merge_by_hand_joins_ids_that_nobody_linked_and_keeps_to_the_rest_of_the_rules() -> None:
    graph = Graph(KEY)
    a, b = actors(graph, "a", "b")
    assert propose(graph, "merge", "a", "b", secret=True).merges == [(a, a, 1), (b, a, 1)]
    assert not graph.owns_user(a)
    assert propose(graph, "merge", "b", "a", secret=True) == Outcome([], [])
    for one, other, code in (("a", "a", errors.SELF_LINK), ("a", "null", errors.ILLEGAL_ID)):
        outcome = propose(graph, "merge", one, other, secret=True)
        assert (outcome.refused, [l.refused for l in outcome.links]) == (code, [code])
    propose(graph, "unlink", "a", "b", secret=True)
    for i in range(3):
        propose(graph, "identify", f"b{i}", "b")
    assert propose(graph, "merge", "a", "b", secret=True, ids_max=4).refused == errors.TOO_MANY_IDS
    assert graph.cannot == {a: {b}, b: {a}}, "what is refused lifts nothing"
    assert propose(graph, "merge", "b2", "a", secret=True).refused == ""


def test_merge_lifts_only_what_stood_between_the_two_persons() -> None:
    graph = Graph(KEY)
    for one in ("b", "c", "d"):
        propose(graph, "alias", "a", one, b_user=False)
    propose(graph, "unlink", "a", secret=True)
    a, b, d = actors(graph, "a", "b", "d")
    propose(graph, "merge", "c", "d", secret=True)
    propose(graph, "merge", "a", "c", secret=True)
    assert graph.find(d) == a
    assert graph.cannot == {a: {b}, b: {a}}
    assert propose(graph, "alias", "b", "d", b_user=False).refused == errors.UNLINKED_BY_HAND


def test_an_unlink_gives_persons_their_own_representatives_again() -> None:
    """Of user ids the first in the log, as if the others had never been there; a user id stays one."""
    graph = Graph(KEY)
    propose(graph, "alias", "x", "y", b_user=False)
    propose(graph, "identify", "y", "u1")
    propose(graph, "alias", "u1", "u2", secret=True)
    propose(graph, "alias", "u2", "z", b_user=False)
    x, y, z, u1, u2 = actors(graph, "x", "y", "z", "u1", "u2")
    assert {graph.find(one) for one in (x, y, z, u1, u2)} == {u1}
    parts = propose(graph, "unlink", "u1", secret=True).parts
    assert parts is not None
    assert parts.persons == [[x, y], [u1], [u2, z]]
    assert [graph.find(one) for one in (x, y, u1, u2, z)] == [x, x, u1, u2, u2]
    assert graph.is_user(u1)
    assert graph.is_user(u2)


def test_a_log_of_the_first_rules_replays_as_it_did() -> None:
    """Each accepted link in it joined two persons, and nothing was ever taken apart: whatever judged it, it holds."""
    graph = Graph(KEY)
    log: list[model.LinkRow] = []

    def says(call: str, a: str, b: str, refused: str = "") -> None:
        a_actor, b_actor = actors(graph, a, b) if b else (graph.actor(PROJECT, a), 0)
        one = row(Logged(len(log) + 1, a_actor, b_actor, a, b, call, refused))
        log.append(msgspec.structs.replace(one, rules=1))

    says("user", "u1", "")
    says("identify", "a1", "u1")
    says("alias", "a2", "a3")
    says("user", "u2", "")
    says("identify", "a1", "u2", errors.BOTH_IDENTIFIED)
    says("event", "a3", "u2")
    says("merge", "u2", "u1")
    for replay_all in (lambda g: rules.replay_many(g, log), lambda g: [rules.replay(g, one) for one in log]):
        graph = Graph(KEY)
        replay_all(graph)
        u1, *others = actors(graph, "u1", "a1", "a2", "a3", "u2")
        assert {graph.find(one) for one in others} == {u1}
        assert [order for order, *_ in graph.links(u1)] == [2, 3, 6, 7]
        assert graph.order == 8
        assert list(graph.refusals) == [(*sorted(actors(graph, "a1", "u2")), errors.BOTH_IDENTIFIED)]
        assert propose(graph, "identify", "a1", "u2").links[0].order == 8


def test_replay_does_what_was_done_by_hand_at_its_place_in_the_log() -> None:
    """Each depends on all before it. Many at once, one by one, and cut anywhere: it is the same."""
    graph = Graph(KEY)
    log: list[model.LinkRow] = []
    for call, a, b in (
        ("identify", "a", "u"), ("identify", "b", "u"), ("alias", "a", "b"), ("unlink", "a", "u"),
        ("identify", "c", "a"), ("alias", "a", "b"), ("merge", "c", "b"), ("identify", "d", "u"),
        ("unlink", "u", ""), ("merge", "d", "u"), ("user", "z", ""), ("merge", "z", "a"),
    ):  # fmt: skip
        log += [row(one) for one in propose(graph, call, a, b, secret=call in ("merge", "unlink"), b_user=False).links]
    assert [one.refused for one in log if one.refused] == [errors.UNLINKED_BY_HAND]
    assert graph.cannot
    whole = snapshot.dump(graph, 1, 2)
    for cut in range(len(log) + 1):
        many, single = Graph(KEY), Graph(KEY)
        rules.replay_many(many, log[:cut])
        rules.replay_many(many, log)  # what it already holds is passed over
        for one in [*log[:cut], *log]:
            rules.replay(single, one)
        assert snapshot.dump(many, 1, 2) == snapshot.dump(single, 1, 2) == whole


@pytest.mark.parametrize("evidence", [0, 4])
def test_a_person_of_500_ids_comes_apart(evidence: int) -> None:
    """What it costs, bench/bench_unlink.py prints."""
    graph = Graph(KEY)
    ids = [f"a{i}" for i in range(499)]
    for one in ids:
        propose(graph, "identify", one, "u")
    for step in range(1, evidence + 1):
        for i, one in enumerate(ids):
            propose(graph, "alias", one, ids[(i + step) % len(ids)], b_user=False)
    for one in ("a7", "u"):
        outcome = propose(graph, "unlink", one, secret=True)
        assert outcome.parts is not None
    assert len(outcome.parts.persons) == 1 + (1 if evidence else 498)
