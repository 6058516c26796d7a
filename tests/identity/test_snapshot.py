"""A snapshot gives back what was put in, to the byte; any damage is named, and nothing damaged is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from pugd.data import write_parts
from pugd.identity import graph as graphs
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


def test_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    graph, path = some_graph(), tmp_path / "graph.snapshot"
    saving = snapshot.Saving(graph, 5, 6)
    write_parts(path, saving.parts())
    saving.close()
    data = path.read_bytes()
    assert data == snapshot.dump(graph, 5, 6)
    loaded, position, epoch = snapshot.read(KEY, path)
    path.unlink()
    assert snapshot.dump(loaded, position, epoch) == data
    for damaged in (b"", data[:-1], data[:3000] + b"\xff" + data[3001:]):
        path.write_bytes(damaged)
        with pytest.raises(snapshot.SnapshotDamaged):
            snapshot.read(KEY, path)


def test_it_holds_the_graph_as_it_was_when_it_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PIECE_BYTES", 8192)
    graph = Graph(KEY)
    for i in range(1, 3_000):
        graph.link(i, i + 1 if i % 7 else i + 2, i)
        graph.link(i, max(1, i - 3), 10_000 + i)
    graph.order = 20_000
    before = snapshot.dump(graph, 7, 8)
    assert graph.statistics().extras > 500
    saving = snapshot.Saving(graph, 7, 8)
    parts = []
    for at, part in enumerate(saving.parts()):
        parts.append(bytes(part))
        for i in range(at * 37, at * 37 + 200):  # before, at and behind what was taken by now
            graph.link(i * 11 % 3_000 + 1, i * 5 + 1, 20_000 + i)
            graph.user(i * 13 % 3_500 + 1)
        graph.scatter(at * 53 % 3_000 + 1)
        graph.order += 1
    saving.close()
    assert len(parts) > 10
    assert b"".join(parts) == before
    assert snapshot.dump(graph, 7, 8) != before
    loaded, *_ = snapshot.load(KEY, before)
    assert snapshot.dump(loaded, 7, 8) == before


def test_one_that_is_given_up_leaves_the_graph_well() -> None:
    graph = some_graph()
    before = snapshot.dump(graph, 7, 8)
    saving = snapshot.Saving(graph, 7, 8)
    parts = saving.parts()
    next(parts)
    with pytest.raises(AssertionError):
        snapshot.Saving(graph, 7, 8)
    saving.close()
    with pytest.raises(MemoryError):
        list(parts)
    assert snapshot.dump(graph, 7, 8) == before
