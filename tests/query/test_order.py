"""The order in which calls arrive, and how often, changes nothing that is read, as long as none of them is refused.

Calls go the whole way in (dialect, duplicates, rules, journal), in any order, in wake-ups of any size, with retries;
what is read of them, people and whole timelines, is compared with what is read when each came once, as it happened. Not
compared is what tells of arrival itself: `received_at`, the order of entries of one millisecond, the ids that calls get
here which bring none, and of a person with several user ids which of them `id` is made of.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from engine import opened_store
from histories import History, answering, insert
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pugd.accept import Accept, Arrival
from pugd.dialects.dialect import Asked
from pugd.edge.gate import Gate
from pugd.identity import rules
from pugd.identity.duplicates import RecentIds
from pugd.journal.reader import Reader
from pugd.journal.writer import Writer
from pugd.model import EVENT, LINK, MERGE, TRAIT, EventRow, LinkRow, MergeRow, TraitRow, WriteKey
from pugd.question import People, Timeline

BEGAN = 1_790_000_000_000  # 2026-09-21T13:33:20Z: all that follows is within the window of duplicates
_projects = itertools.count(700_000)

ROWS: dict[int, Any] = {EVENT: EventRow, TRAIT: TraitRow, LINK: LinkRow, MERGE: MergeRow}
DEVICES = {"ann": ["phone", "laptop"], "ann@new": ["tv"], "bob": ["tablet"], "": ["visitor-1", "visitor-2"]}
"""Whose device is whose: nobody's is claimed by two, so that nothing is refused."""
RENAMED = ("ann", "ann@new")
"""Two user ids that a secret alias says are one."""


def when(step: int, number: int = 0) -> str:
    return f"2026-09-21T0{step}:00:00.{number:03}Z"


owners = st.sampled_from(list(DEVICES))
steps = st.integers(0, 8)
operations = st.dictionaries(
    st.sampled_from(["$set", "$set_once", "$add"]),
    st.dictionaries(st.sampled_from(["plan", "visits"]), st.integers(1, 3), min_size=1, max_size=2),
    max_size=2,
)
traits = st.builds(lambda plan, more: {"plan": plan, **more}, st.integers(1, 3), operations)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    owner = draw(owners)
    device = draw(st.sampled_from(DEVICES[owner]))
    kind = draw(st.sampled_from(["track", "both", "user", "identify", "identify", "alone", "alias"]))
    if kind == "alias":
        if owner in RENAMED and draw(st.booleans()):
            return {
                "type": "alias",
                "previousId": RENAMED[draw(st.booleans())],
                "userId": draw(st.sampled_from(RENAMED)),
            }
        return {"type": "alias", "previousId": device, "anonymousId": draw(st.sampled_from(DEVICES[owner]))}
    ids = {"anonymousId": device}
    if owner and kind in ("both", "identify"):
        ids["userId"] = owner
    elif owner and kind in ("user", "alone") and draw(st.booleans()):
        ids = {"userId": owner}
    if kind in ("identify", "alone"):
        return {"type": "identify", **ids, "traits": draw(st.just({}) | traits)}
    return {"type": "track", "event": draw(st.sampled_from(["a", "b"])), **ids, "properties": draw(operations)}


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Calls as they happened, and wake-ups in which they come: all of them, in any order, some again."""
    calls = []
    for number, said in enumerate(draw(st.lists(messages(), min_size=2, max_size=14))):
        step = draw(steps)
        if said["type"] == "alias" and said["previousId"] == said.get("userId", said.get("anonymousId")):
            continue  # refused
        # One without an id is another call each time it comes, and two of one millisecond only arrival tells apart.
        calls.append(
            {**said, "messageId": f"m{number}", "timestamp": when(step)}
            if draw(st.integers(0, 3))
            else {**said, "timestamp": when(step, 1 + number)}
        )
    assume(calls)
    calls.sort(key=lambda said: said["timestamp"])
    known = [said for said in calls if "messageId" in said]
    again = draw(st.lists(st.sampled_from(known), max_size=6)) if known else []
    order = draw(st.permutations(calls + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    return calls, [order[a:b] for a, b in itertools.pairwise([0, *cuts, len(order)]) if a < b]


def taken(wake_ups: list[list[dict[str, Any]]]) -> History:
    """What the collector makes of them."""
    history = History(next(_projects))
    key = WriteKey(history.project, secret=True)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as directory:
        journal = Path(directory) / "journal"
        writer = Writer.open(
            journal, name="here", epoch=7, flushed_path=Path(directory) / "flushed", file_bytes_max=1 << 20,
            bytes_max=1 << 30, reserve_bytes=0, pending_bytes_max=1 << 26,
        )  # fmt: skip
        accept = Accept(
            graph=history.graph, recent=RecentIds(bytes(16), 86_400_000, 1 << 20), writer=writer, keys=Gate({"k": key}),
            illegal=rules.IllegalIds(), ids_max=500, mint=lambda: f"minted-{next(numbers)}",
        )  # fmt: skip
        begin = writer.position
        for number, calls in enumerate(wake_ups):
            [ack] = accept.take(
                [Arrival(Asked("batch"), json.dumps({"batch": calls}).encode(), key)], b"", 0, BEGAN + number * 1000
            )
            assert (ack.accepted, ack.refused) == (len(calls), [])
        end = writer.position
        writer.close()
        assert not accept.statistics().links_refused
        into = {
            EVENT: history.world.events,
            TRAIT: history.world.traits,
            LINK: history.world.links,
            MERGE: history.merges,
        }
        for position, row in Reader(journal, epoch=7).rows(begin, end):
            said = ROWS[int(row[0])](*row)  # type: ignore[call-overload]
            fields = msgspec.structs.asdict(said)
            texts = {name: value.decode() for name, value in fields.items() if isinstance(value, bytes)}
            into[said.kind].append({**fields, **texts, "collector": "here", "epoch": 7, "position": position})
    return history


async def read(history: History) -> dict[str, Any]:
    """All that is read of a project, without what tells of arrival."""
    store = await opened_store()
    await insert(store, history)
    answer = answering(history, store, BEGAN)
    page = json.loads(msgspec.json.encode(await answer.people(People(project=history.project, limit=1000))))
    found: dict[str, Any] = {}
    for person in page["people"]:
        ids = [one["id"] for one in person["ids"]]
        question = Timeline(project=history.project, actor=history.actor(ids[0]), limit=1000)
        timeline = json.loads(msgspec.json.encode(await answer.timeline(question)))
        assert timeline["person"] == person
        own = {f"p_{history.actor(id_):016x}": id_ for id_ in ids}
        person["id"] = "user" if own[person["id"]] in person["user_ids"] else "anonymous"
        assert {f"p_{history.graph.find(history.actor(id_)):016x}" for id_ in ids} <= own.keys(), "one person's"
        entries = [
            {
                name: "minted" if "minted" in str(value) else value
                for name, value in entry.items()
                if name != "received_at"
            }
            for entry in timeline["entries"]
        ]
        times = [entry["occurred_at"] for entry in timeline["entries"]]
        assert times == sorted(times, reverse=True)
        entries.sort(key=lambda entry: (entry["occurred_at"], entry["type"], entry["event_id"]))
        found[min(ids)] = {"person": person, "entries": entries}
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(deliveries())
async def test_any_order_and_any_repetition_give_the_same_people_timelines_and_traits(said):
    calls, wake_ups = said
    wanted = await read(taken([[call] for call in calls]))
    found = await read(taken(wake_ups))
    assert found == wanted
