"""How long taking a person apart stops the collector: the processor time of one unlink, judged, applied and written as
rows. `python bench/bench_unlink.py [--ids 500]`

One user id and devices linked to it by identify, as many ids as a person may have; then the same with more and more
links besides that say the same, up to every pair there is, of which rules.py takes EVIDENCE_PER_ID for each id.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd.accept import Accept
from pugd.edge.gate import Gate
from pugd.identity import rules
from pugd.identity.duplicates import RecentIds
from pugd.identity.graph import Graph
from pugd.journal.writer import Writer

KEY = bytes(range(16))
PROJECT = 1


def person(ids: int, besides: int) -> Graph:
    """A user id with ids - 1 devices, and so many links besides."""
    graph, illegal = Graph(KEY), rules.IllegalIds()
    for i in range(1, ids):
        rules.propose(graph, rules.Proposal(PROJECT, "identify", str(i), "user"), illegal, ids)
    pairs = sorted(combinations(range(1, ids), 2), key=lambda pair: pair[1] - pair[0])
    for a, b in pairs[:besides]:
        rules.propose(graph, rules.Proposal(PROJECT, "alias", str(a), str(b), b_user=False), illegal, ids)
    return graph


def unlink(graph: Graph, a: str, b: str, ids: int) -> float:
    """ms"""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        writer = Writer.open(
            directory / "journal", name="b", epoch=1, flushed_path=directory / "f", bytes_max=1 << 30, reserve_bytes=0
        )
        accept = Accept(
            graph=graph,
            recent=RecentIds(KEY, 1000, 1 << 20),
            writer=writer,
            keys=Gate({}),
            illegal=rules.IllegalIds(),
            ids_max=ids,
            mint=str,
        )
        begun = time.process_time()
        outcome, _ = accept.by_hand(rules.Proposal(PROJECT, "unlink", a, b, secret=True), 1)
        took = time.process_time() - begun
        assert not outcome.refused
        writer.close()
    return took * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ids", type=int, default=500)
    ids = parser.parse_args().ids
    print(f"a person of {ids} ids, processor ms of one unlink")
    print(f"{'sent':>8}  {'links':>6}  {'a pair':>7}  {'a device':>8}  {'the user':>8}")
    everything = (ids - 1) * (ids - 2) // 2
    for besides in sorted({0, ids, 4 * ids, 16 * ids, everything}):
        if besides > everything:
            continue
        graphs = [person(ids, besides) for _ in range(3)]
        links = len(graphs[0].links(graphs[0].actor(PROJECT, "user")))
        asked = ("7", "user"), ("7", ""), ("user", "")
        took = [unlink(graph, *who, ids) for graph, who in zip(graphs, asked, strict=True)]
        print(f"{ids - 1 + besides:>8}  {links:>6}  {took[0]:>7.1f}  {took[1]:>8.1f}  {took[2]:>8.1f}")


if __name__ == "__main__":
    main()
