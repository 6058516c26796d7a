"""A snapshot gives back what was put in, to the byte; any damage is named, and nothing damaged is taken."""

from __future__ import annotations

import pytest

from pugd.identity import rules, snapshot
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Proposal

KEY = bytes(range(16))


def some_graph() -> Graph:
    graph, illegal = Graph(KEY), IllegalIds()
    for i in range(200):
        rules.propose(graph, Proposal(1 + i % 2, "identify", f"a{i}", f"u{i // 3}"), illegal)
        rules.propose(graph, Proposal(1, "identify", f"a{i}", f"u{i // 5}"), illegal)
    return graph


def test_what_is_loaded_dumps_to_the_same_bytes() -> None:
    graph = some_graph()
    assert graph.statistics().joins > 50
    assert graph.refusals
    data = snapshot.dump(graph, 2**40, 2**62 + 1)
    loaded, position, epoch = snapshot.load(KEY, data)
    assert (position, epoch) == (2**40, 2**62 + 1)
    assert snapshot.dump(loaded, position, epoch) == data
    assert (loaded.order, loaded.refusals) == (graph.order, graph.refusals)
    empty, *_ = snapshot.load(KEY, snapshot.dump(Graph(KEY), 0, 1))
    assert empty.statistics().ids == 0


def test_every_damaged_byte_and_every_cut_is_found() -> None:
    data = snapshot.dump(some_graph(), 5, 6)
    for at in range(0, len(data), 7):
        with pytest.raises(snapshot.SnapshotDamaged):
            snapshot.load(KEY, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
    for length in (0, 1, 63, 64, 67, 68, len(data) - 1):
        with pytest.raises(snapshot.SnapshotDamaged):
            snapshot.load(KEY, data[:length])
    with pytest.raises(snapshot.SnapshotDamaged):
        snapshot.load(KEY, data + b"\0")


def test_another_key_is_told() -> None:
    with pytest.raises(snapshot.SnapshotDamaged, match=r"another hash\.key"):
        snapshot.load(bytes(16), snapshot.dump(some_graph(), 5, 6))
