"""What must hold at the end of a run, whatever happened in it.

Kept: every acked event is in ClickHouse, or in quarantine where ClickHouse refused it, but for what lay in a journal
record that rotted on the disk; a file is never lost for one record. Once: no event (but such a one, when its sender
tries again and its id is forgotten), and no position of any table, is there twice. True: what is there was sent, and is
what was sent. Told apart: another event with a used id is refused, or in quarantine where the id was looked up; one in
4 095 may be taken for a retry. People: the link log is what the plain twin makes of its own entries, one after another;
persons are what the twin says, in `person_of` and in the graph.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from reference.people import People
from simulation.world import HASH_KEY

from pugd import quarantine
from pugd.data import DataDirectory
from pugd.identity.graph import Graph
from pugd.tables import STORED

if TYPE_CHECKING:
    from simulation.world import World


REUSED_MISSED_MAX = 3
"""Of one client, in one run: by chance about one in 10^9."""


async def check(world: World) -> None:
    """raises AssertionError that names what does not hold"""
    for client in world.clients:
        assert not client.faults, client.faults[:3]
    await _check_quarantine(world)
    _check_reused(world)
    _check_events(world)
    if not any(isinstance(kind, int) for kind in world.rotten):
        _check_people(world)


async def _check_quarantine(world: World) -> None:
    """What was refused is kept; once ClickHouse is mended, it can be put back."""
    assert world.drain is not None
    directory = DataDirectory("/data").quarantine
    kept = [row for row in quarantine.rows(directory) if not row.error.startswith("event_id_reused")]
    poisoned = {
        id_ for client in world.clients for id_, event in client.sent.items() if "poison" in event["properties"]
    }
    stored = {_text(row["event_id"]) for row in world.server.rows("events")}
    assert not poisoned & stored, "ClickHouse holds what it refused"
    acked = {id_ for client in world.clients for id_ in client.acked}
    held = {quarantine.shown(row)["row"]["event_id"] for row in kept}
    unkept = sorted((poisoned & acked) - held - world.rotten)
    assert not unkept, f"refused and not kept: {unkept}"
    assert held <= poisoned, f"in quarantine, though nobody refused it: {sorted(held - poisoned)}"
    world.server.refuses_poison = False
    for row in kept:
        assert await world.drain.put_back(row.position) == ""
        assert await world.drain.put_back(row.position) == "there is no such row in quarantine"


def _check_reused(world: World) -> None:
    apart = {
        quarantine.shown(row)["row"]["event_id"]
        for row in quarantine.rows(DataDirectory("/data").quarantine)
        if row.error.startswith("event_id_reused")
    }
    for client in world.clients:
        missed = set(client.reused_taken) - apart - world.rotten
        assert len(missed) < REUSED_MISSED_MAX, f"other events with used ids, taken for retries: {missed}"


def _check_events(world: World) -> None:
    for table in STORED:
        places = Counter((row["collector"], row["epoch"], row["position"]) for row in world.server.rows(table.name))
        twice = [place for place, count in places.items() if count > 1]
        assert not twice, f"{len(twice)} rows of {table.name} are there twice, such as {twice[0]}"
    rows = world.server.rows("events")
    stored = Counter(_text(row["event_id"]) for row in rows)
    sent = {id_: event for client in world.clients for id_, event in client.sent.items()}
    acked = {id_ for client in world.clients for id_ in client.acked}
    lost = sorted(acked - set(stored) - world.rotten)
    assert not lost, f"{len(lost)} acked events lost, such as {lost[:3]}"
    twice = [id_ for id_, count in stored.items() if count > 1 and id_ not in world.rotten]
    assert not twice, f"{len(twice)} events counted twice, such as {twice[:3]}"
    for row in rows:
        id_ = _text(row["event_id"])
        assert id_ in sent, f"{id_} was never sent"
        assert id_ in world.rotten or json.loads(row["properties_text"]) == sent[id_]["properties"], (
            f"{id_} is not what was sent"
        )
    same, by_actor = (
        {(row["collector"], row["epoch"], row["position"]) for row in world.server.rows(name)}
        for name in ("events", "events_by_actor")
    )
    assert same == by_actor, f"{len(same ^ by_actor)} events are in one of the two tables alone"
    traits = Counter((row["event_id"], row["key"]) for row in world.server.rows("traits"))
    rotten = any(isinstance(kind, int) for kind in world.rotten)
    assert rotten or all(count == 1 for count in traits.values()), "a change of a trait is there twice"


def _check_people(world: World) -> None:
    assert world.collector is not None
    log = sorted((row for row in world.server.rows("links") if row["order"]), key=lambda row: row["order"])
    orders = [row["order"] for row in log]
    assert orders == list(range(1, len(log) + 1)), f"places of the link log: {orders}"
    twin = People(set())
    for row in log:
        entry = tuple(_text(row[field]) for field in ("call", "a_id", "b_id", "refused"))
        said, _ = twin.proposed(entry[0], entry[1], entry[2], bool(row["secret"]), False)
        assert said == [entry], f"at {row['order']} the log says {entry}, the twin {said}"
    actor = Graph(HASH_KEY).actor
    person_of: dict[int, tuple[int, int]] = {}
    for row in world.server.rows("person_of"):
        person_of[row["actor"]] = max(person_of.get(row["actor"], (0, 0)), (row["version"], row["person"]))
    graph = world.collector._graph
    for id_ in twin.ids:
        person = actor(1, twin.person(id_))
        own = actor(1, id_)
        assert person_of.get(own, (0, own))[1] == person, f"person_of says otherwise of {id_}"
        assert graph.find(own) == person, f"the graph says otherwise of {id_}"
    refused = {frozenset({_text(row["a_id"]), _text(row["b_id"])}) for row in log if row["refused"]}
    for client in world.clients:
        for a, b in client.linked.values():
            assert twin.person(a) == twin.person(b) or frozenset({a, b}) in refused, f"{a} and {b} were acked as linked"
    # Each of these calls is an entry of a timeline, once, whether it said something new or not.
    rotten = any(isinstance(kind, int) for kind in world.rotten)
    said = Counter(
        _text(row["event_id"])
        for row in world.server.rows("links")
        if row["call"] in (b"identify", b"alias") and not row["refused"]
    )
    twice = [id_ for id_, count in said.items() if count > 1]
    assert not twice, f"calls that are there twice: {twice[:3]}"
    for client in world.clients:
        missing = [id_ for id_, pair in client.linked.items() if not said[id_] and frozenset(pair) not in refused]
        assert rotten or not missing, f"acked calls that no timeline shows: {missing[:3]}"


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
