"""Builds small worlds: calls of clients and of the console, judged by the real rules, as rows of the tables.

The rows go into the twin as they are, and into ClickHouse by `insert`, which may be called again after more calls.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from reference.timeline import World

from pugd import tables
from pugd.answer import Answer, Stored
from pugd.errors import CollectorAwayError
from pugd.identity import rules
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Outcome, Proposal, propose
from pugd.query.whole import ROWS_MAX
from pugd.store.clickhouse import INSERT_SETTINGS, Store

KEY = bytes(range(16))
_ILLEGAL = IllegalIds()


class History:
    """Calls arrive one after the other; what they say of when is theirs."""

    def __init__(self, project: int) -> None:
        self.project = project
        self.world = World()
        self.graph = Graph(KEY)
        self.merges: list[dict] = []
        self.inserted: dict[str, int] = {}
        """Rows of each table that ClickHouse has."""
        self._position = 128
        self._count = 0

    def actor(self, distinct_id: str) -> int:
        return self.graph.actor(self.project, distinct_id)

    def track(
        self,
        event: str,
        *,
        user: str = "",
        anonymous: str = "",
        at: int,
        received: int | None = None,
        properties: str = "{}",
        context: str = "{}",
        event_id: str | None = None,
        bot: int = 0,
        cookieless: int = 0,
        **fields: str,
    ) -> None:
        common = self._common(at, received, event_id)
        self.world.events.append(
            {
                **common,
                "actor": self.actor(user or anonymous),
                "time_note": "",
                "call": "track",
                "event": event,
                "user_id": user,
                "anonymous_id": anonymous,
                "session_id": "",
                "library": "",
                "bot": bot,
                "cookieless": cookieless,
                "properties": properties,
                "context": context,
                "url": "",
                "path": "",
                "title": "",
                "referrer": "",
                "locale": "",
                "user_agent": "",
                "app_version": "",
                **fields,
            }
        )
        if user and not bot and not cookieless:
            self._propose(Proposal(self.project, "event", anonymous, user), common)

    def identify(
        self,
        user: str,
        anonymous: str = "",
        *,
        at: int,
        received: int | None = None,
        traits: list[tuple[str, str, str]] | None = None,
        event_id: str | None = None,
    ) -> None:
        """`traits`: (key, operation, JSON value)."""
        common = self._common(at, received, event_id)
        for key, operation, value in traits or []:
            common = {**common, "position": self._next()}
            self.world.traits.append(
                {
                    **common,
                    "actor": self.actor(user or anonymous),
                    "time_note": "",
                    "distinct_id": user or anonymous,
                    "user_id": user,
                    "anonymous_id": anonymous,
                    "key": key,
                    "operation": operation,
                    "value": "" if operation == "unset" else value,
                }
            )
        self._propose(Proposal(self.project, "identify", anonymous, user), common)

    def alias(
        self, previous: str, new: str, *, at: int, secret: bool = False, user: bool = True, event_id: str | None = None
    ) -> None:
        """`user`: the new id stands in a user id field."""
        common = self._common(at, None, event_id)
        self._propose(Proposal(self.project, "alias", previous, new, secret, user), common)

    def by_hand(self, call: str, a: str, b: str, *, at: int) -> Outcome:
        """`merge` or `unlink`, as the console asks for it."""
        common = {**self._common(at, None, None), "event_id": "", "transport": "console", "platform": ""}
        return self._propose(Proposal(self.project, call, a, b, secret=True), common)

    def _next(self) -> int:
        self._position += 100
        return self._position

    def _common(self, at: int, received: int | None, event_id: str | None) -> dict:
        self._count += 1
        received = at if received is None else received
        return {
            "project": self.project,
            "occurred_at": at,
            "received_at": received,
            "original_at": at,
            "event_id": event_id or f"e{self._count}",
            "transport": "http",
            "platform": "web",
            "collector": "here",
            "epoch": 7,
            "position": self._next(),
        }

    def _propose(self, proposal: Proposal, common: dict) -> Outcome:
        outcome = propose(self.graph, proposal, _ILLEGAL)
        for logged in outcome.links if outcome.again is None else [*outcome.links, outcome.again]:
            self.world.links.append(
                {
                    **common,
                    **msgspec.structs.asdict(logged),
                    "position": self._next(),
                    "secret": int(proposal.secret),
                    "rules": 1,
                    "time_note": "",
                }
            )
        for actor, person, version in outcome.merges:
            self.merges.append(
                {
                    "project": self.project,
                    "actor": actor,
                    "person": person,
                    "version": version,
                    "collector": "here",
                    "epoch": 7,
                    "position": self._next(),
                }
            )
        return outcome


async def insert(store: Store, history: History) -> None:
    """What is new into the tables, one block each."""
    world = history.world
    for table, found in (
        (tables.EVENTS, world.events),
        (tables.EVENTS_BY_ACTOR, world.events),
        (tables.TRAITS, world.traits),
        (tables.LINKS, world.links),
        (tables.PERSON_OF, history.merges),
    ):
        begin = history.inserted.get(table.name, 0)
        history.inserted[table.name] = len(found)
        found = found[begin:]
        if not found:
            continue
        lines = []
        for row in found:
            stored = {column.name: row.get(column.name) for column in table.columns}
            for name in ("occurred_at", "received_at", "original_at"):
                if name in stored:
                    stored[name] = f"{stored[name] // 1000}.{stored[name] % 1000:03d}"
            if table is tables.EVENTS:
                stored["properties"] = json.loads(row["properties"])
            if "properties_text" in stored:
                stored["properties_text"] = row["properties"]
            lines.append(json.dumps(stored))
        store._drain.raw_insert(
            table.name,
            [column.name for column in table.columns],
            "\n".join(lines).encode(),
            fmt="JSONEachRow",
            settings={**INSERT_SETTINGS, "insert_deduplicate": 0},
        )


class Collector:
    """Answers the keeper as the collector does, over a history's graph, and stores at once what comes of it."""

    def __init__(self, history: History, store: Store, now: int) -> None:
        self.history = history
        self.store = store
        self.now = now
        self.away = False

    async def __call__(self, do: str, /, **arguments: Any) -> Any:
        if self.away:
            raise CollectorAwayError("the collector is away")
        history, a, b = self.history, arguments["a"], arguments["b"]
        assert arguments["project"] == history.project
        if do == "explain":
            orders = history.graph.explain(history.actor(a), history.actor(b))
            return None if orders is None else {"orders": orders}
        proposal = Proposal(history.project, do, a, b, secret=True)
        if do == "unlink" and arguments["dry_run"]:
            found = rules.rehearse(history.graph, proposal)
            return _unlinked(found, None)
        outcome = history.by_hand(do, a, b, at=self.now)
        await insert(self.store, history)
        order = outcome.links[0].order if outcome.links and not outcome.refused else None
        if do == "unlink":
            return _unlinked(outcome.parts or outcome.refused, order)
        return {"order": order, "refused": outcome.refused or None, "person": history.graph.find(history.actor(a))}


def answering(history: History, store: Store, now: int, **more: Any) -> Answer:
    """Who answers questions about a history; what hands do happens now. `more`: of Answer."""

    async def wait_stored() -> Stored:
        return Stored(now, complete=True)

    collector = Collector(history, store, now)
    # Every second project's persons have too many rows to be read whole, as it were.
    more = {"rows_max": 0 if history.project % 2 else ROWS_MAX, **more}
    return Answer(store, wait_stored=wait_stored, actor=history.graph.actor, collector=collector, **more)


def _unlinked(found: Any, order: int | None) -> dict[str, Any]:
    if isinstance(found, str):
        return {"persons": [], "removed": [], "left_out": [], "order": None, "refused": found}
    return {
        "persons": found.persons,
        "removed": found.removed,
        "left_out": found.left_out,
        "order": order,
        "refused": None,
    }
