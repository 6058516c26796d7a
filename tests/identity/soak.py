"""The identity core for as long as one likes: the graph, its rules and its snapshot beside the plain twin.

A world is a graph, the twin of it (reference/identity.py), the log that came of both, and a few collectors that get the
same proposals in the same order, each at its own pace. Operations are drawn at random, and after each the two must say
the same: whatever is proposed, linked, unlinked, rehearsed, explained, resolved; whenever the graph is written and read
again, or made anew of the log, in one go or in pieces; whichever allocation fails, for the graph is then as it was.

    python tests/identity/soak.py --operations 1000000 --seed 7     random worlds, from a seed
    python tests/identity/soak.py --hypothesis 1000                 the same operations drawn by Hypothesis, and shrunk

It is a program of its own and not a test, since it runs on a native part whose heap fails when it is told to
(native/failing.py). `make soak` runs it for long, test_soak.py for a moment.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from native import failing  # noqa: E402

failing.load()

import msgspec  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test  # noqa: E402
from reference.identity import Identity  # noqa: E402

from pugd.identity import rules, snapshot  # noqa: E402
from pugd.identity.graph import Graph  # noqa: E402
from pugd.identity.rules import IllegalIds, Outcome, Parts, Proposal  # noqa: E402
from pugd.model import LINK, LinkRow  # noqa: E402

PROJECT = 7
ILLEGAL = IllegalIds()
CALLS = ("identify",) * 6 + ("event",) * 4 + ("alias", "alias", "merge", "user")
IDS = [*(f"a{n}" for n in range(9)), *(f"u{n}" for n in range(5)), "null"]
MANY_IDS = [*IDS, *(f"b{n}" for n in range(40))]
"""Of a few worlds: enough for evidence to fill its tables."""
WORLD_OPERATIONS = (20, 600)
"""A world lives so long: short ones begin often, long ones fill up with evidence, refusals and pairs kept apart."""

seen: Counter[str] = Counter()
"""What happened, so that a run can show that it saw everything."""


class Collector:
    """One of several that apply one common order."""

    def __init__(self, key: bytes) -> None:
        self.graph = Graph(key)
        self.applied = 0
        self.rows: list[LinkRow] = []
        self.merges: list[tuple[int, int, int]] = []


class World:
    """All of it; an operation is a method, and raises AssertionError where two of them differ."""

    def __init__(self, key: bytes, ids_max: int, collectors: int, ids: list[str] = IDS) -> None:
        self.key, self.ids_max, self.ids = key, ids_max, ids
        self.graph = Graph(key)
        self.twin = Identity(ids, {"null"}, ids_max, rules.EVIDENCE_PER_ID)
        self.actors = {one: self.graph.actor(PROJECT, one) for one in ids}
        self.texts = {actor: one for one, actor in self.actors.items()}
        self.shown = self.twin.shown()
        self.rows: list[LinkRow] = []
        self.person_of: dict[int, int] = {}
        """As the rows that were written say."""
        self.kept = (self.bytes(), 0)
        """A snapshot, and how many entries of the log came before it."""
        self.order: list[Proposal] = []
        """Everything that was proposed."""
        self.collectors = [Collector(key) for _ in range(collectors)]

    def bytes(self) -> bytes:
        return snapshot.dump(self.graph, 1, 2)

    # -- what may fail -------------------------------------------------------------------------------------------------

    def trying(self, fail: int, work: Callable[[], Any]) -> Any:
        """Do it while the allocation number `fail` from now fails; where that is felt, nothing has changed."""
        if not fail:
            return work()
        before = (self.bytes(), self.graph.order, list(self.graph.refusals), dict(self.graph.cannot))
        failing.fail_at(fail)
        try:
            return work()
        except MemoryError:
            failing.fail_at(0)
            seen["allocation failed"] += 1
            assert (self.bytes(), self.graph.order, list(self.graph.refusals), dict(self.graph.cannot)) == before
            return work()
        finally:
            failing.fail_at(0)

    # -- proposals -----------------------------------------------------------------------------------------------------

    def propose(self, call: str, a: str, b: str, secret: bool, b_user: bool, fail: int = 0) -> None:
        """identify, alias, event, merge or user."""
        if call == "user" and not a:
            return
        proposal = Proposal(PROJECT, call, a, b, secret, b_user)
        before, alone = self.shown, {one for one, person in self.twin.people().items() if len(person) == 1}
        expected, code = self.twin.judged(call, a, b, secret, b_user)
        outcome = self.trying(fail, lambda: rules.propose(self.graph, proposal, ILLEGAL, self.ids_max))
        self.take(proposal, outcome, expected, code)
        moved = {one for one in self.ids if self.shown[one] != before[one]}
        people = self.twin.people()
        moved |= {one for one in alone if len(people[one]) > 1}
        assert {actor for actor, _, _ in outcome.merges} == {self.actors[one] for one in moved}

    def unlink(self, a: str, b: str, fail: int = 0) -> None:
        """Two ids, or one where b is ''. Where memory is short the graph is thrown away, and made anew of the log."""
        proposal = Proposal(PROJECT, "unlink", a, b, secret=True)
        foreseen = self.rehearse(a, b)
        before = self.shown
        expected, code = self.twin.judged("unlink", a, b, True, True)
        failing.fail_at(fail)
        try:
            outcome = rules.propose(self.graph, proposal, ILLEGAL, self.ids_max)
        except MemoryError:
            failing.fail_at(0)
            seen["allocation failed in an unlink"] += 1
            self.graph = self.replayed([len(self.rows)])
            outcome = rules.propose(self.graph, proposal, ILLEGAL, self.ids_max)
        finally:
            failing.fail_at(0)
        assert (outcome.parts or outcome.refused) == foreseen, "the real thing is what was foreseen"
        self.take(proposal, outcome, expected, code)
        moved = {self.actors[one] for one in self.ids if self.shown[one] != before[one]}
        assert {actor for actor, _, _ in outcome.merges} == moved

    def take(self, proposal: Proposal, outcome: Outcome, expected: list[Any], code: str) -> None:
        links = outcome.links
        assert [(link.call, link.a_id, link.b_id, link.refused) for link in links] == expected, (
            proposal,
            expected,
            links,
        )
        assert outcome.refused == code, (proposal, code)
        assert [link.order for link in links] == [*range(len(self.rows) + 1, len(self.rows) + 1 + len(links))]
        assert self.graph.order == self.twin.order
        for link in links:
            assert link.a == self.actors[link.a_id]
            assert link.b == (self.actors[link.b_id] if link.b_id else 0)
        call, a, b = proposal.call, proposal.a_id, proposal.b_id
        kept = (call == "identify" and (a or b)) or (call == "alias" and a and b)
        nothing_new = bool(kept) and not code and call not in [link.call for link in links]
        assert (outcome.again is not None) == nothing_new
        if outcome.again is not None:
            assert outcome.again == self.said(proposal)
        self.rows += map(row, links)
        self.person_of |= {actor: person for actor, person, _ in outcome.merges}
        self.shown = self.twin.shown()
        for one, named in self.shown.items():
            actor, person = self.actors[one], self.actors[named]
            assert self.graph.find(actor) == person, one
            assert self.person_of.get(actor, actor) == person, "the rows of person_of say so too"
        self.order.append(proposal)
        seen[code or (links[-1].call if links else "nothing new")] += 1

    def said(self, proposal: Proposal) -> rules.Logged:
        """A call that says nothing new, as it is kept."""
        a, b = proposal.a_id or proposal.b_id, proposal.b_id
        return rules.Logged(0, self.actors[a], self.actors[b] if b else 0, a, b, proposal.call, "")

    # -- questions -----------------------------------------------------------------------------------------------------

    def rehearse(self, a: str, b: str) -> Parts | str:
        """A dry run changes nothing, and says what the twin says."""
        before = self.bytes()
        found = rules.rehearse(self.graph, Proposal(PROJECT, "unlink", a, b))
        assert self.bytes() == before
        code = self.twin.cannot_unlink(a, b)
        if code:
            assert found == code
            return found
        assert isinstance(found, Parts)
        kept, left_out = self.twin.without(a, b)
        mine = self.twin.person(a)
        ours = [link for link in kept if link[1] in mine]
        assert [(order, {x, y}) for order, x, y in found.kept] == [
            (order, {self.actors[i], self.actors[j]}) for order, i, j in ours
        ]
        assert found.left_out == left_out
        gone = {order for order, i, _ in self.twin.links if i in mine} - {order for order, *_ in kept}
        assert sorted(found.removed + found.left_out) == sorted(gone)
        after = self.twin.people(kept)
        persons = {frozenset(after[one]) for one in mine}
        assert {frozenset(self.texts[actor] for actor in person) for person in found.persons} == persons
        seen["rehearsed"] += 1
        return found

    def explain(self, a: str, b: str) -> None:
        """The chain is of links that hold, and leads from the one to the other."""
        orders = self.graph.explain(self.actors[a], self.actors[b])
        if b not in self.twin.person(a):
            assert orders is None
            return
        assert orders is not None
        links = {order: {i, j} for order, i, j in self.twin.links}
        at = a
        for order in orders:
            assert at in links[order], f"link {order} does not go on from {at}"
            (at,) = links[order] - {at}
        assert at == b
        assert len(set(orders)) == len(orders) < max(2, len(self.twin.person(a)))
        seen["explained"] += bool(orders)

    def look(self, a: str, b: str) -> None:
        """Everything that the graph can be asked about one id, and about two."""
        graph, twin, actors = self.graph, self.twin, self.actors
        one = actors[a]
        mine = twin.person(a)
        members = graph.members(one)
        assert members[0] == one
        assert {self.texts[actor] for actor in members} == mine
        assert len(members) == graph.size(one) == len(mine) <= max(self.ids_max, 1)
        assert graph.user_rank(one) == (twin.users.index(a) + 1 if a in twin.users else 0)
        assert graph.owns_user(one) == any(i in twin.users for i in mine)
        assert graph.handle(one) == (twin.entered.index(a) + 1 if a in twin.entered else 0)
        linked = [(order, {actors[i], actors[j]}) for order, i, j in sorted(twin.links) if i in mine]
        assert [(order, {x, y}) for order, x, y in graph.links(one)] == linked
        assert graph.linked(one, actors[b]) == any({i, j} == {a, b} for _, i, j in twin.links if a != b)
        assert {frozenset({self.texts[x], self.texts[y]}) for x in graph.cannot for y in graph.cannot[x]} == twin.apart
        packed = msgspec.msgpack.encode([value for user in self.ids for value in (PROJECT, user, a)])
        found, look = graph.resolve_many(packed, len(self.ids))
        assert list(found) == [actors[user] for user in self.ids]
        news = [user for user in self.ids if user not in twin.users or user not in mine]
        assert [self.ids[index] for index in look] == news
        every = array("Q", [*actors.values(), 1, one])
        assert graph.find_many(every) == (
            array("Q", map(graph.find, every)),
            array("I", map(graph.handle, every)),
        )
        seen["looked at"] += 1

    # -- made anew -----------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        self.kept = (self.bytes(), len(self.rows))

    def reload(self, fail: int = 0) -> None:
        """A restart from a snapshot just written."""
        data = self.bytes()
        self.graph = self.loaded(data, fail)
        assert self.bytes() == data
        assert self.graph.order == self.twin.order
        seen["reloaded"] += 1

    def restart(self, again: int, cuts: list[int], fail: int = 0) -> None:
        """A restart from an old snapshot and the log's tail, `again` entries of which it holds already."""
        data, held = self.kept
        before = self.bytes()
        graph = self.loaded(data, fail)
        self.graph = self.replayed(cuts, graph, max(0, held - again))
        assert self.bytes() == before
        seen["restarted"] += 1

    def rebuild(self, cuts: list[int], fail: int = 0) -> None:
        """The whole log, in pieces, gives the same bytes."""
        before = self.bytes()
        failing.fail_at(fail)
        try:
            self.graph = self.replayed(cuts)
        except MemoryError:
            failing.fail_at(0)
            seen["allocation failed in a replay"] += 1
            self.graph = self.replayed(cuts)
        finally:
            failing.fail_at(0)
        assert self.bytes() == before
        seen["rebuilt"] += 1

    def loaded(self, data: bytes, fail: int) -> Graph:
        failing.fail_at(fail)
        try:
            return snapshot.load(self.key, data)[0]
        except MemoryError:
            failing.fail_at(0)
            seen["allocation failed in a load"] += 1
            return snapshot.load(self.key, data)[0]
        finally:
            failing.fail_at(0)

    def replayed(self, cuts: list[int], graph: Graph | None = None, begin: int = 0) -> Graph:
        """Entries from `begin` on, cut at these places; every second piece one by one."""
        graph = graph or Graph(self.key)
        places = sorted({begin, *(cut for cut in cuts if begin < cut < len(self.rows)), len(self.rows)})
        for number, (first, last) in enumerate(pairwise(places)):
            if number % 2:
                for one in self.rows[first:last]:
                    rules.replay(graph, one)
            else:
                rules.replay_many(graph, self.rows[first:last])
        return graph

    # -- collectors ----------------------------------------------------------------------------------------------------

    def apply(self, which: int, count: int, again: bool = False) -> None:
        """A collector applies the next proposals of the common order; or starts again from its own snapshot first."""
        if not self.collectors:
            return
        one = self.collectors[which % len(self.collectors)]
        if again:
            one.graph = snapshot.load(self.key, snapshot.dump(one.graph, 1, 2))[0]
        for proposal in self.order[one.applied : one.applied + count]:
            outcome = rules.propose(one.graph, proposal, ILLEGAL, self.ids_max)
            one.rows += map(row, outcome.links)
            one.merges += outcome.merges
            one.applied += 1

    def end(self) -> None:
        """At last everybody has seen everything: equal logs, equal people, equal bytes."""
        for which, one in enumerate(self.collectors):
            self.apply(which, len(self.order))
            assert one.rows == self.rows
            assert {actor: person for actor, person, _ in one.merges} == self.person_of
            assert snapshot.dump(one.graph, 1, 2) == self.bytes()
            seen["collectors agreed"] += 1


def row(link: rules.Logged) -> LinkRow:
    return LinkRow(
        *(LINK, PROJECT, link.order, link.a, link.b, link.a_id, link.b_id, link.call, link.refused),
        *(1, rules.RULES_VERSION, 0, 0, 0, "", "", "", ""),
    )


# -- at random ---------------------------------------------------------------------------------------------------------


def live(seed: int) -> int:
    """One world from its seed; returns how many operations it took."""
    draw = random.Random(seed)
    known = MANY_IDS if draw.random() < 0.1 else IDS
    world = World(draw.randbytes(16), draw.choice((2, 3, 4, 6, 10, 500)), draw.choice((0, 0, 2, 3)), known)
    ids = draw.sample(known, draw.randrange(3, len(known) + 1))
    maybe = ["", *ids]
    length = draw.randrange(*WORLD_OPERATIONS)
    failures = draw.choice((0.0, 0.0, 0.1, 0.5))
    calls = draw.choice((CALLS, CALLS, ("event", "identify"), ("alias", "merge", "identify")))
    for _ in range(length):
        fail = draw.randrange(1, 6) if draw.random() < failures else 0
        dice = draw.random()
        cuts = [draw.randrange(len(world.rows) + 1) for _ in range(draw.randrange(4))] if dice > 0.9 else []
        if dice < 0.68:
            a, b = draw.choice(maybe if draw.random() < 0.1 else ids), draw.choice(maybe)
            world.propose(draw.choice(calls), a, b, draw.random() < 0.5, draw.random() < 0.5, fail)
        elif dice < 0.76:
            a = draw.choice(ids)
            linked = sorted(world.twin.person(a) - {a})
            world.unlink(a, draw.choice(linked if linked and draw.random() < 0.7 else maybe), fail)
        elif dice < 0.79:
            world.rehearse(draw.choice(ids), draw.choice(maybe))
        elif dice < 0.84:
            world.explain(draw.choice(ids), draw.choice(ids))
        elif dice < 0.87:
            world.look(draw.choice(ids), draw.choice(ids))
        elif dice < 0.9:
            world.apply(draw.randrange(3), draw.randrange(20), draw.random() < 0.2)
        elif dice < 0.92:
            world.keep()
        elif dice < 0.95:
            world.reload(fail)
        elif dice < 0.98:
            world.restart(draw.randrange(4), cuts, fail)
        else:
            world.rebuild(cuts, fail)
    world.end()
    return length


def soak(operations: int, seed: int, seconds: float) -> None:
    begun, done, worlds, said = time.monotonic(), 0, 0, 0.0
    gc.collect()  # what Hypothesis left behind
    held = failing.held()
    while done < operations and time.monotonic() - begun < seconds:
        try:
            done += live(seed + worlds)
            assert failing.held() == held, "memory is not given back"
        except BaseException:
            print(
                f"\nseed {seed + worlds} breaks it: python tests/identity/soak.py --operations 1 --seed {seed + worlds}"
            )
            raise
        worlds += 1
        spent = time.monotonic() - begun
        if spent - said > 10:
            said = spent
            print(f"{done:,} operations in {worlds:,} worlds, {spent:.0f} s", flush=True)
    spent = time.monotonic() - begun
    print(f"{done:,} operations in {worlds:,} worlds from seed {seed} on, {spent:.0f} s: twin and graph agree")
    print(", ".join(f"{what} {count:,}" for what, count in sorted(seen.items())))


# -- by Hypothesis -----------------------------------------------------------------------------------------------------

an_id = st.sampled_from(IDS)
maybe_id = st.sampled_from(["", *IDS])
a_failure = st.sampled_from((0, 0, 0, 1, 2, 3, 4))
some_cuts = st.lists(st.integers(0, 200), max_size=3)


class Machine(RuleBasedStateMachine):
    """The same operations; what breaks is shrunk to the few that are needed."""

    @initialize(ids_max=st.sampled_from((2, 3, 4, 6, 500)), collectors=st.sampled_from((0, 2)))
    def begin(self, ids_max: int, collectors: int) -> None:
        self.world = World(bytes(range(16)), ids_max, collectors)

    @rule(
        call=st.sampled_from(CALLS), a=maybe_id, b=maybe_id, secret=st.booleans(), b_user=st.booleans(), fail=a_failure
    )
    def propose(self, **drawn: Any) -> None:
        self.world.propose(**drawn)

    @rule(call=st.sampled_from(("identify", "alias")), a=an_id, b=an_id, secret=st.booleans(), b_user=st.booleans())
    def link(self, **drawn: Any) -> None:
        self.world.propose(**drawn)

    @rule(a=an_id, b=maybe_id, fail=a_failure)
    def unlink(self, **drawn: Any) -> None:
        self.world.unlink(**drawn)

    @rule(a=an_id, b=an_id)
    def explain(self, **drawn: Any) -> None:
        self.world.explain(**drawn)

    @rule(a=an_id, b=an_id)
    def look(self, **drawn: Any) -> None:
        self.world.look(**drawn)

    @rule()
    def keep(self) -> None:
        self.world.keep()

    @rule(fail=a_failure)
    def reload(self, fail: int) -> None:
        self.world.reload(fail)

    @rule(again=st.integers(0, 3), cuts=some_cuts, fail=a_failure)
    def restart(self, **drawn: Any) -> None:
        self.world.restart(**drawn)

    @rule(cuts=some_cuts, fail=a_failure)
    def rebuild(self, **drawn: Any) -> None:
        self.world.rebuild(**drawn)

    @rule(which=st.integers(0, 1), count=st.integers(0, 20), again=st.booleans())
    def apply(self, **drawn: Any) -> None:
        self.world.apply(**drawn)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()


def by_hypothesis(examples: int) -> None:
    begun = time.monotonic()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"Hypothesis found nothing in {examples:,} examples of up to 50 steps, {time.monotonic() - begun:.0f} s")


def main() -> None:
    asked = argparse.ArgumentParser(description="The identity core beside its plain twin.")
    asked.add_argument("--operations", type=int, default=0, help="of random worlds")
    asked.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    asked.add_argument("--seed", type=int, default=None, help="of the first world; another each time by default")
    asked.add_argument("--hypothesis", type=int, default=0, help="examples drawn by Hypothesis")
    given = asked.parse_args()
    if given.hypothesis:
        by_hypothesis(given.hypothesis)
    if given.operations:
        soak(given.operations, time.time_ns() % 10**9 if given.seed is None else given.seed, given.seconds)


if __name__ == "__main__":
    main()
