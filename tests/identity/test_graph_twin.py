"""The graph against a list of links: whatever was linked, taken apart and linked again, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pugd.identity import snapshot
from pugd.identity.graph import Graph

KEY = bytes(range(16))
ACTORS = list(range(1_000, 1_012))
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["link", "link", "link", "user", "scatter"]), *[st.sampled_from(ACTORS)] * 2), max_size=40
)


class Twin:
    """All that stands, as it was said; every answer is worked out anew."""

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.users: list[int] = []
        self.links: list[tuple[int, int, int]] = []

    def enter(self, actor: int) -> None:
        if actor not in self.entered:
            self.entered.append(actor)

    def person(self, actor: int) -> set[int]:
        members = {actor}
        while more := {x for _, a, b in self.links for x in (a, b) if {a, b} & members} - members:
            members |= more
        return members

    def find(self, actor: int) -> int:
        members = self.person(actor)
        return next((one for one in [*self.users, *self.entered] if one in members), actor)

    def among(self, actor: int) -> list[tuple[int, frozenset[int]]]:
        members = self.person(actor)
        return [(order, frozenset((a, b))) for order, a, b in self.links if a in members]


@given(OPERATIONS)
def test_as_the_twin(operations: list[tuple[str, int, int]]) -> None:
    graph, twin, log = Graph(KEY), Twin(), []
    for order, (operation, a, b) in enumerate(operations, 1):
        before = {one: (twin.find(one), len(twin.person(one))) for one in ACTORS}
        moved: list[int] = []
        if operation == "user":
            moved = graph.user(a)
            twin.enter(a)
            if a not in twin.users:
                twin.users.append(a)
        elif operation == "scatter":
            scattered = graph.scatter(a)
            members = twin.person(a)
            assert scattered == [one for one in twin.entered if one in members] or scattered == [a]
            twin.links = [link for link in twin.links if link[1] not in members]
        elif a != b:
            moved = graph.link(a, b, order)
            twin.enter(a)
            twin.enter(b)
            if frozenset((a, b)) not in {pair for _, pair in twin.among(a)}:
                twin.links.append((order, a, b))
        if operation != "scatter":
            log.append((operation, a, b, order))
            changed = {
                one
                for one in ACTORS
                if before[one][0] != twin.find(one) or (before[one][1] == 1 < len(twin.person(one)))
            }
            assert (set(moved), len(moved)) == (changed, len(changed))
        for one in ACTORS:
            assert graph.find(one) == twin.find(one)
            assert set(graph.members(one)) == twin.person(one)
            assert [(at, frozenset((x, y))) for at, x, y in graph.links(one)] == twin.among(one)
            assert graph.handle(one) == (twin.entered.index(one) + 1 if one in twin.entered else 0)
            assert graph.user_rank(one) == (twin.users.index(one) + 1 if one in twin.users else 0)
            assert graph.linked(a, one) == (frozenset((a, one)) in {pair for _, pair in twin.among(a)})
    graph.cannot = {5: {6, 7}, 6: {5}, 7: {5}}
    again, *_ = snapshot.load(KEY, snapshot.dump(graph, 1, 2))
    assert snapshot.dump(again, 1, 2) == snapshot.dump(graph, 1, 2)
    assert again.cannot == graph.cannot
