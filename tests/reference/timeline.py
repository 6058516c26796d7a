"""The plain twin of people, one person and a timeline: everything in lists, every rule written out, nothing fast.

It reads the link log (never `person_of`), the events and the traits of one project, and works each person out from
nothing at every question.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from reference import conditions


@dataclass
class World:
    """Rows of one project, as dicts with the tables' column names; times in ms; actors as numbers."""

    events: list[dict] = field(default_factory=list)
    traits: list[dict] = field(default_factory=list)
    links: list[dict] = field(default_factory=list)


def when(ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def counted(world: World) -> list[dict]:
    return [event for event in world.events if not event["bot"] and not event["cookieless"]]


def accepted(world: World) -> list[dict]:
    """The log."""
    return sorted((link for link in not_refused(world) if link["order"]), key=lambda link: link["order"])


def not_refused(world: World) -> list[dict]:
    """The log, and what said nothing new."""
    return [link for link in world.links if not link["refused"]]


def tied(links: list[dict], actor: int) -> set[int]:
    """Every actor that these links tie to this one."""
    found = {actor}
    while True:
        more = set(found)
        for link in links:
            if {link["a"], link["b"]} & found:
                more |= {link["a"], link["b"]}
        if more == found:
            return found
        found = more


def held(world: World, before: float = math.inf) -> list[dict]:
    """The links that hold after the whole log, or after what lies before a place in it: its entries one by one."""
    links: list[dict] = []
    apart: set[frozenset[int]] = set()
    for entry in accepted(world):
        a, b = entry["a"], entry["b"]
        if entry["order"] >= before or entry["call"] == "user":
            continue
        if entry["call"] == "merge":
            apart -= {frozenset((one, other)) for one in tied(links, a) for other in tied(links, b)}
        if entry["call"] != "unlink":
            links.append(entry)
            continue
        own = tied(links, a)
        apart |= {frozenset((a, other)) for other in ([b] if b else own - {a})}
        again: list[dict] = []
        for link in links:
            ends = {link["a"], link["b"]}
            taken = ends == {a, b} if b else a in ends
            joined = tied(again, link["a"]) | tied(again, link["b"])
            if not (ends <= own and (taken or any(pair <= joined for pair in apart))):
                again.append(link)
        links = again
    return links


def members(world: World, actor: int) -> set[int]:
    """Every actor of its person."""
    return tied(held(world), actor)


def person_number(world: World, actor: int) -> int:
    own = members(world, actor)
    if len(own) == 1:
        return actor
    links = accepted(world)
    for link in links:
        if link["call"] == "user" and link["a"] in own:
            return link["a"]
    for link in links:
        for side in (link["a"], link["b"]):
            if side in own:
                return side
    raise AssertionError


def sights(world: World, own: set[int]) -> dict[str, list[tuple[int, str]]]:
    """Each id of a person → (when, as what) it was seen."""
    found: dict[str, list[tuple[int, str]]] = {}

    def see(id_: str, at: int, kind: str) -> None:
        found.setdefault(id_, []).append((at, kind))

    for link in not_refused(world):
        if link["call"] in ("merge", "unlink"):
            continue
        kinds = {"identify": ("anonymous", "user"), "event": ("anonymous", "user"), "user": ("user", "")}
        kind = kinds.get(link["call"], ("unknown", "unknown"))
        if link["a"] in own:
            see(link["a_id"], link["occurred_at"], kind[0])
        if link["b"] in own and link["b_id"]:
            see(link["b_id"], link["occurred_at"], kind[1])
    for event in counted(world):
        if event["actor"] in own:
            if event["user_id"]:
                see(event["user_id"], event["occurred_at"], "user")
            else:
                see(event["anonymous_id"], event["occurred_at"], "anonymous")
    for trait in world.traits:
        if trait["actor"] in own:
            kind = "user" if trait["user_id"] == trait["distinct_id"] else "anonymous"
            see(trait["distinct_id"], trait["occurred_at"], kind)
    linked = {link[side] for link in not_refused(world) for side in ("a_id", "b_id")}
    for row in (*counted(world), *world.traits):
        beside = row["anonymous_id"]
        if row["actor"] in own and row["user_id"] and beside in linked and beside in found:
            see(beside, row["occurred_at"], "anonymous")
    return found


def trait_values(
    world: World,
    own: set[int],
    before: tuple[int, str] | None = None,
    *,
    also: bool = False,
    as_of: float | None = None,
) -> dict:
    """Present traits; or as they were before (also: with) the call at (time, event id), or as of a millisecond."""
    said = [trait for trait in world.traits if trait["actor"] in own]
    if as_of is not None:
        said = [trait for trait in said if trait["occurred_at"] <= as_of]
    if before is not None:
        said = [t for t in said if (at := (t["occurred_at"], t["event_id"])) < before or (also and at == before)]
    values = {}
    for key in {trait["key"] for trait in said}:
        mine = [trait for trait in said if trait["key"] == key]
        replaced = [
            (t["occurred_at"], t["event_id"], t["operation"] == "set", t["value"].encode())
            for t in mine
            if t["operation"] in ("set", "unset")
        ]
        last = max(replaced, default=None)
        later = [t for t in mine if last is None or (t["occurred_at"], t["event_id"]) > last[:2]]
        base = None
        if last is not None and last[2] and last[3] != b"null":
            base = json.loads(last[3])
        else:
            once = [
                (t["occurred_at"], t["event_id"], t["value"].encode())
                for t in later
                if t["operation"] == "set_once" and t["value"] != "null"
            ]
            if once:
                base = json.loads(min(once)[2])
        added = [number(json.loads(t["value"])) for t in later if t["operation"] == "add"]
        if added:
            base = math.fsum([number(base), *added])
        if base is not None:
            values[key] = base
    return values


def number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def exists(world: World, own: set[int]) -> bool:
    return (
        any(event["actor"] in own for event in counted(world))
        or any(trait["actor"] in own for trait in world.traits)
        or any({link["a"], link["b"]} & own for link in not_refused(world) if link["call"] not in ("merge", "unlink"))
    )


def person(world: World, actor: int, ids_max: int | None = None, as_of: float | None = None) -> dict | None:
    own = members(world, actor)
    if not exists(world, own):
        return None
    seen = sights(world, own)
    kinds = {}
    for id_, found in seen.items():
        said = {kind for _, kind in found}
        kinds[id_] = "user" if "user" in said else "anonymous" if "anonymous" in said else "unknown"
    rank = {"user": 0, "anonymous": 1, "unknown": 2}
    order = sorted(seen, key=lambda id_: (rank[kinds[id_]], min(at for at, _ in seen[id_]), id_))
    user_ids = [id_ for id_ in order if kinds[id_] == "user"]
    user_id = user_ids[0] if user_ids else None
    for link in sorted(not_refused(world), key=lambda link: (link["occurred_at"], link["event_id"], link["b_id"])):
        both = link["a_id"] in user_ids and link["b_id"] in user_ids
        if link["call"] == "alias" and link["a"] in own and both:
            user_id = link["b_id"]
    times = [at for found in seen.values() for at, _ in found]
    return {
        "id": f"p_{person_number(world, actor):016x}",
        "user_id": user_id,
        "user_ids": user_ids,
        "ids": [
            {
                "id": id_,
                "kind": kinds[id_],
                "first_seen": when(min(at for at, _ in seen[id_])),
                "last_seen": when(max(at for at, _ in seen[id_])),
            }
            for id_ in order[:ids_max]
        ],
        "ids_count": len(seen),
        "traits": trait_values(world, own, as_of=as_of),
        "first_seen": when(min(times)),
        "last_seen": when(max(times)),
        "events": sum(event["actor"] in own and event["call"] != "group" for event in counted(world)),
    }


def everyone(world: World, as_of: float | None = None) -> dict[int, dict]:
    """Every person by number."""
    actors = {event["actor"] for event in world.events} | {trait["actor"] for trait in world.traits}
    actors |= {link[side] for link in world.links for side in ("a", "b") if link[side]}
    found = {}
    for actor in actors:
        one = person(world, actor, 10, as_of)
        if one is not None:
            found[person_number(world, actor)] = one
    return found


def spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def has(text: str, search: str) -> bool:
    return search.lower() in text.lower()


def json_has(value: object, search: str) -> bool:
    return has(spelled(value), spelled(search)[1:-1])


def people(
    world: World,
    *,
    search: str = "",
    identified: bool | None = None,
    sort: str = "-last_seen",
    as_of: float | None = None,
) -> list[dict]:
    found = []
    for actor, one in everyone(world, as_of).items():
        own = members(world, actor)
        if identified is not None and bool(one["user_ids"]) != identified:
            continue
        if (
            search
            and not any(has(id_, search) for id_ in sights(world, own))
            and not any(json_has(value, search) for value in one["traits"].values())
        ):
            continue
        found.append((one, actor))
    found.sort(key=lambda item: item[1])
    name = sort.lstrip("-")
    if not name.startswith("trait:"):
        found.sort(key=lambda item: item[0][name], reverse=sort.startswith("-"))
        return [one for one, _ in found]
    path = name.removeprefix("trait:")
    names = json.loads(path) if path.startswith("[") else path.split(".")
    ranks = {actor: ranked(within(one["traits"], names)) for one, actor in found}
    with_it = [item for item in found if ranks[item[1]] is not None]
    with_it.sort(key=lambda item: ranks[item[1]], reverse=sort.startswith("-"))
    return [one for one, _ in [*with_it, *(item for item in found if ranks[item[1]] is None)]]


def within(value: object, names: list[str]) -> object:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def ranked(value: object) -> tuple | None:
    """What kind of value, and where among its kind; None: there is none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, int | float):
        return 2, value
    if not isinstance(value, str):
        return 5, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()[:256]
    at = conditions.moment(value)
    return (3, at) if at is not None else (4, value.encode()[:256])


def named_first(world: World, own: set[int]) -> dict[frozenset[str], tuple[int, str, str]]:
    """Two ids, or one alone → when, by which call and of which kind something that was not refused named them first."""
    found: dict[frozenset[str], tuple[int, str, str]] = {}
    ids: set[str] = set()

    def name(row: dict, a_id: str, b_id: str, call: str) -> None:
        pair = frozenset((a_id, b_id))
        found[pair] = min(found.get(pair, (2**62, "", "")), (row["occurred_at"], row["event_id"], call))

    for link in not_refused(world):
        ids |= {link[f"{side}_id"] for side in ("a", "b") if link[side] in own}
        if {link["a"], link["b"]} & own and link["call"] not in ("user", "event", "unlink"):
            name(link, link["a_id"], link["b_id"] or link["a_id"], "call")
    for row in counted(world):
        if row["actor"] in own and row["user_id"] and row["anonymous_id"] in ids - {row["user_id"], ""}:
            name(row, row["anonymous_id"], row["user_id"], "event")
    return found


def timeline(
    world: World,
    actor: int,
    *,
    search: str = "",
    event: str | None = None,
    since: int | None = None,
    until: int | None = None,
    order: str = "desc",
) -> list[dict]:
    """Entries in order, without `summary`."""
    own = members(world, actor)
    entries: list[tuple[tuple, dict]] = []

    def add(rows: list[dict], **fields: object) -> None:
        row = min(rows, key=lambda row: (row["collector"], row["epoch"], row["position"]))
        entries.append(
            (
                (row["occurred_at"], row["received_at"], row["collector"], row["epoch"], row["position"]),
                {
                    "occurred_at": when(row["occurred_at"]),
                    "received_at": when(row["received_at"]),
                    "event_id": row["event_id"],
                    "transport": row["transport"],
                    "platform": row["platform"] or None,
                    **fields,
                },
            )
        )

    for row in counted(world):
        if row["actor"] not in own or (event is not None and row["event"] != event):
            continue
        properties = json.loads(row["properties"])
        texts = [row[name] for name in ("event", "user_id", "anonymous_id", "path", "url", "title")]
        if (
            search
            and not any(has(text, search) for text in texts)
            and not any(has(key, search) or json_has(value, search) for key, value in properties.items())
        ):
            continue
        add(
            [row],
            id=f"event:{row['event_id']}",
            type="event",
            user_id=row["user_id"] or None,
            anonymous_id=row["anonymous_id"] or None,
            session_id=row["session_id"] or None,
            event=row["event"],
            properties=properties,
            context=json.loads(row["context"]),
            country=None,
            region=None,
            city=None,
        )
    calls: dict[str, list[dict]] = {}
    for row in world.traits:
        if row["actor"] in own:
            calls.setdefault(row["event_id"], []).append(row)
    for event_id, rows in calls.items():
        if event is not None or (
            search
            and not any(
                has(row[name], search) for row in rows for name in ("key", "user_id", "anonymous_id", "distinct_id")
            )
            and not any(row["value"] and json_has(json.loads(row["value"]), search) for row in rows)
        ):
            continue
        at = (rows[0]["occurred_at"], event_id)
        before, after = trait_values(world, own, at), trait_values(world, own, at, also=True)
        keys = sorted({row["key"] for row in rows})
        add(
            rows,
            id=f"traits:{event_id}",
            type="traits",
            user_id=rows[0]["user_id"] or None,
            anonymous_id=rows[0]["anonymous_id"] or None,
            session_id=None,
            changes={key: {"from": before.get(key), "to": after.get(key)} for key in keys},
        )
    first = named_first(world, own)
    for row in counted(world):
        pair = frozenset((row["user_id"], row["anonymous_id"]))
        if event is not None or (row["occurred_at"], row["event_id"], "event") != first.get(pair):
            continue
        if search and not any(has(text, search) for text in (*pair, "event")):
            continue
        add(
            [{**row, "position": row["position"] - 1}],
            id=f"link:{row['event_id']}",
            type="link",
            user_id=row["user_id"],
            anonymous_id=row["anonymous_id"],
            session_id=None,
            a=row["anonymous_id"],
            b=row["user_id"],
            call="event",
            refused=None,
            again=False,
        )
    for link in world.links:
        if link["call"] == "user" or event is not None:
            continue
        mine = {link["a"], link["b"]} & own
        if link["call"] == "unlink" and not link["b"]:
            mine = tied(held(world, before=link["order"]), link["a"]) & own
        if not mine or (link["call"] == "event" and not link["refused"] and {link["a"], link["b"]} <= own):
            continue
        if search and not any(has(link[name], search) for name in ("a_id", "b_id", "call")):
            continue
        both = link["call"] in ("identify", "event")
        alone = link["a"] == link["b"] and not link["refused"]
        earliest = first.get(frozenset((link["a_id"], link["b_id"] or link["a_id"])))
        add(
            [link],
            id=f"link:{link['event_id'] or link['order']}",
            type="link",
            user_id=(link["b_id"] or None) if both else None,
            anonymous_id=link["a_id"] if both and not alone else None,
            session_id=None,
            a=link["a_id"],
            b=None if alone else link["b_id"] or None,
            call=link["call"],
            refused=link["refused"] or None,
            again=not link["refused"]
            and link["call"] in ("identify", "alias")
            and earliest is not None
            and earliest[:2] < (link["occurred_at"], link["event_id"]),
        )
    low = -math.inf if since is None else since
    high = math.inf if until is None else until
    kept = [item for item in entries if low <= item[0][0] < high]
    kept.sort(key=lambda item: item[0], reverse=order == "desc")
    return [entry for _, entry in kept]


def refusals(world: World, own: set[int] | None = None) -> list[dict]:
    """Refused entries of everyone or of one person, newest first."""
    found = [link for link in world.links if link["refused"] and (own is None or {link["a"], link["b"]} & own)]
    return sorted(found, key=lambda link: -link["order"])
