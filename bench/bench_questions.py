"""What questions about many people cost, the cost of person_of in them, and DuckDB beside, over the same data in
Parquet. `python bench/bench_questions.py [--events 10000000] [--only funnel] [--directory DIR]` (`pip install duckdb`
first)

Ten names of events over four months, 500 000 persons, 200 000 of them with two ids, made inside ClickHouse. Each
question is asked in turns: of pugd, of pugd that joins `person_of` (as it does until a dictionary is made), of pugd as
if nobody were linked, of DuckDB; wall and processor time are the median of the turns, memory is the most that the
process held meanwhile, all engines in it. Where DuckDB is asked the same, its numbers must be the same. `--directory`
keeps the data for the next run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd.answer import READ_SETTINGS
from pugd.ask import Breakdown, Condition, Did, Selection
from pugd.belonging import Belonging
from pugd.journeys import ANY, BEST, FIRST_EVER, FIRST_IN_RANGE, RECURRING, Flow, Funnel, Retention, Sessions, Trend
from pugd.query import flow, funnel, people, retention, sessions, trend
from pugd.query.conditions import ALWAYS, Node, Row
from pugd.query.person import Kept, Owners
from pugd.query.reading import Reading
from pugd.query.sql import Plan, bound, plan, sql
from pugd.question import People
from pugd.store.clickhouse import Store
from pugd.tables import EVENTS_BY_ACTOR

DAY = 86_400_000
BEGAN = 1_767_571_200_000  # Monday, 5 January 2026
DAYS = 120
NAMES = (
    *("page_view", "search", "add_to_cart", "checkout", "order", "scroll", "app_open", "app_close", "login"),
    "signup",
)
STEPS = ("page_view", "search", "add_to_cart", "order")
ACTORS, LINKED = 700_000, 200_000
THREADS = 2
MEMORY = "4GB"


def fill(client: Any, events: int) -> None:
    """Frequent names, and ids that do much, are a power law's."""
    slices = 8
    for part in range(slices):
        client.command(
            """
insert into events (project, actor, occurred_at, received_at, call, event, event_id, anonymous_id, platform, bot,
    properties, properties_text, context, url, path, title, collector, epoch, position)
select 1, sipHash64(id),
    fromUnixTimestamp64Milli({began:Int64} + toInt64(sipHash64(number, 't') % {span:UInt64}), 'UTC') as at, at + 100,
    'track', {names:Array(String)}[1 + toUInt8(10 * pow((sipHash64(number, 'e') % 1000) / 1000, 1.5))],
    'e' || toString(number), 'anon-' || toString(id), 'web', number % 50 = 0,
    cast('{"plan":"' || ['free', 'pro', 'team'][1 + number % 3] || '"}' as JSON(max_dynamic_paths=256)),
    '{"plan":"' || ['free', 'pro', 'team'][1 + number % 3] || '"}',
    '{"locale":"en-US","screen":{"width":' || toString(1000 + id % 900) || ',"height":900},"page":{"path":"/p/'
        || toString(number % 50) || '"},"library":{"name":"analytics.js","version":"4.1.0"}}',
    'https://shop.example/p/' || toString(number % 50), '/p/' || toString(number % 50),
    'Page ' || toString(number % 50), 'c', 7, number * 500
from (
    select number,
        toUInt64({actors:UInt64} * pow((sipHash64(number, 'a') % 1000000) / 1000000, 1.3)) as id
    from numbers({first:UInt64}, {count:UInt64})
)""",
            {
                "began": BEGAN, "span": DAYS * DAY, "names": list(NAMES), "actors": ACTORS,
                "first": part * (events // slices), "count": events // slices,
            },
            settings={"max_partitions_per_insert_block": 100},
        )  # fmt: skip
        names = ", ".join(column.name for column in EVENTS_BY_ACTOR.columns)
        bounds = {"from": part * (events // slices) * 500, "until": (part + 1) * (events // slices) * 500}
        client.command(
            f"insert into events_by_actor ({names}) select {names} from events"
            " where position >= {from:UInt64} and position < {until:UInt64} and epoch = 7",
            bounds,
        )
        print(f"\r{(part + 1) * (events // slices):,} events", end="", flush=True)
    client.command(
        "insert into traits (project, actor, occurred_at, received_at, event_id, distinct_id, key, operation, value,"
        " collector, epoch, position) select 1, sipHash64(id), fromUnixTimestamp64Milli({began:Int64} + toInt64("
        "sipHash64(number, 't') % {span:UInt64}), 'UTC') as at, at, 't' || toString(number), 'anon-' || toString(id),"
        " if(number % 4 = 0, 'size', 'plan'), 'set', '\"' || ['free', 'pro', 'team'][1 + number % 3] || '\"', 'c', 7,"
        " number from (select number, toUInt64(sipHash64(number, 'who') % {actors:UInt64}) as id from"
        " numbers({count:UInt64}))",
        {"began": BEGAN, "span": DAYS * DAY, "actors": ACTORS, "count": 600_000},
    )
    for first, to in ((0, ACTORS - LINKED), (ACTORS - LINKED, ACTORS - LINKED)):
        client.command(
            "insert into person_of (project, actor, person, version, collector, epoch, position) select 1,"
            " sipHash64(toUInt64({first:UInt64} + number)), sipHash64(toUInt64({to:UInt64} + number)),"
            " {first:UInt64} + number + 1, 'c', 7, {first:UInt64} + number from numbers({count:UInt64})",
            {"first": first, "to": to, "count": LINKED},
        )
    print()


def named(*names: str) -> list[Node]:
    return [Row(sql("event = $name", name=bound("String", name)), frozenset([name])) for name in names]


LINKED_PLACE = 2**63
owners_of: dict[str, Owners] = {
    "joined": Owners(1, bound("UInt64", LINKED_PLACE)),
    "alone": Owners(1, bound("UInt64", 0)),
}
"""As of the newest link, joined by each question; as if nobody were linked; and `kept`: as the keeper has it."""


def reading(owners: str) -> Reading:
    return Reading(
        owners_of[owners],
        zone=ZoneInfo("UTC"),
        now=BEGAN + DAYS * DAY,
        actor=lambda distinct_id: 0,
        segments={},
    )


Run = Callable[[Plan], Any]


def search(owners: str) -> Callable[[Run], Any]:
    """Whom it may find, then the page."""
    asked = People(project=1, search="12345")

    def both(run: Run) -> Any:
        found = people.shape_matching(run(people.plan_matching(asked, owners_of[owners].place)))
        return run(people.plan_page(asked, owners_of[owners], None, found))

    return both


def questions() -> dict[str, Callable[[str], Plan | Callable[[Run], Any]]]:
    """What is asked → the statement, by which of `owners_of`; or whatever asks several."""
    until = BEGAN + 84 * DAY

    def steps(**options: str) -> Callable[[str], Plan]:
        asked = Funnel(project=1, since=BEGAN, until=BEGAN + 90 * DAY, steps=4, **options)
        return lambda owners: funnel.plan_steps(asked, funnel.happening(asked, reading(owners), named(*STEPS)))

    def weeks(back: str | None, births: str) -> Callable[[str], Plan]:
        asked = Retention(project=1, since=BEGAN, until=until, births=births)
        (started, returned) = (*named("page_view"), *(named(back) if back else [ALWAYS]))
        return lambda owners: retention.plan_cells(
            asked, retention.happening(asked, reading(owners), started, returned)
        )

    def trend_of(where: Condition | None, told: Breakdown | None = None) -> Callable[[str], Plan]:
        asked = Trend(project=1, since=BEGAN, until=until, measure="people", interval="week")

        def planned(owners: str) -> Plan:
            of = reading(owners)
            met = of.selection(Selection(event="page_view", where=where), "of")
            by = None if told is None else of.told(told, "breakdown")
            return trend.plan_points(asked, trend.happening(asked, of, met, None, by), told=told is not None)

        return planned

    def segment(condition: Condition) -> Callable[[str], Plan]:
        def planned(owners: str) -> Plan:
            of = reading(owners)
            met = of.persons(of.condition(condition, "where"))
            return plan(sql("SELECT count() FROM $met", met=met))

        return planned

    asked_flow = Flow(project=1, since=BEGAN, until=BEGAN + 30 * DAY)
    asked_sessions = Sessions(project=1, since=BEGAN, until=BEGAN + 30 * DAY, interval="day", breakdown="entry_page")
    span = sessions.Span.around(asked_sessions.since, asked_sessions.until)
    terms = Condition(
        all=(
            Condition(trait="plan", value="pro"),
            Condition(did=Did(event="order", count=2, last="60 d")),
            Condition(not_=Condition(did=Did(event="signup", where=Condition(property="plan", value="team")))),
        )
    )
    return {
        "funnel, 4 steps": steps(),
        "funnel, 4 steps, best attempt": steps(entry=BEST),
        "funnel, 4 steps, any order": steps(order=ANY),
        "retention, 12 weeks, first ever": weeks("search", FIRST_EVER),
        "retention, 12 weeks, first in range": weeks("search", FIRST_IN_RANGE),
        "retention, 12 weeks, back with any event": weeks(None, FIRST_EVER),
        "retention, 12 weeks, recurring, any event": weeks(None, RECURRING),
        "segment of 3 terms": segment(terms),
        "trend by week, people": trend_of(None),
        "trend by week, people with a trait": trend_of(Condition(trait="plan", value="pro")),
        "trend by week, people by a trait": trend_of(None, Breakdown(trait="plan")),
        "trend by week, people with a property": trend_of(Condition(property="plan", value="pro")),
        "trend by week, people with a trait at the time": trend_of(Condition(trait="plan", value="pro", as_of="event")),
        "people, the first page": lambda owners: people.plan_page(People(project=1), owners_of[owners]),
        "people, a search": search,
        "flow, 5 steps, 30 days": lambda owners: flow.plan_links(
            asked_flow, flow.happening(asked_flow, reading(owners), *named("signup"))
        ),
        "sessions, 30 days, by day and entry page": lambda owners: sessions.plan_cells(
            asked_sessions, span, sessions.happening(asked_sessions, span, reading(owners))
        ),
    }


def peer_steps() -> str:
    """The same funnel for DuckDB: the first later event of each step, joined step by step."""
    steps = "\n".join(
        f", s{place} as (select e.person, s.ms, min(e.key) as key from e join s{place - 1} s on e.person = s.person"
        f" where e.event = '{name}' and e.key > s.key and e.ms <= s.ms + {14 * DAY} group by e.person, s.ms)"
        for place, name in enumerate(STEPS[1:], 2)
    )
    counts = ", ".join(f"(select count(*) from s{place})" for place in range(1, 5))
    return f"""
with e as (
    select coalesce(p.person, e.actor) as person, event, ms, ms::hugeint * 1099511627776 + position as key
    from events e left join persons p on p.actor = e.actor
    where bot = 0 and ms >= {BEGAN} and ms < {BEGAN + 104 * DAY} and event in {STEPS}
), s1 as (
    select person, min(ms) as ms, min(key) as key from e
    where event = '{STEPS[0]}' and ms < {BEGAN + 90 * DAY} group by person
){steps}
select {counts}"""


def peer_weeks() -> str:
    """The same retention for DuckDB: first ever page_view, then search."""
    return f"""
with e as (
    select coalesce(p.person, e.actor) as person, event, ms, (ms - {BEGAN}) // {7 * DAY} as week
    from events e left join persons p on p.actor = e.actor where bot = 0 and event in ('page_view', 'search')
), born as (select person, min(ms) as ms, min(week) as week from e where event = 'page_view' group by person)
, came as (
    select distinct b.person, b.week, e.week - b.week as after from born b join e on e.person = b.person
    where e.event = 'search' and e.ms >= b.ms and e.week - b.week <= 11 and b.week < 12
)
select week, after, count(*) from came group by all order by all"""


def held() -> int:
    """The most memory that this process held since `forget`, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def timed(ask: Callable[[], Any], turns: list[tuple[float, float, int]]) -> Any:
    forget()
    wall, cpu = time.monotonic(), time.process_time()
    answer = ask()
    turns.append((time.monotonic() - wall, time.process_time() - cpu, held()))
    return answer


def said(turns: list[tuple[float, float, int]]) -> str:
    wall, cpu, memory = (statistics.median(values) for values in zip(*turns, strict=True))
    return f"{wall:6.2f} s, {cpu:5.2f} s of processors, {memory:5.0f} MiB held"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default="", help="questions that begin so")
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    duckdb = importlib.import_module("duckdb")
    with tempfile.TemporaryDirectory(prefix="pugd-bench-") as temporary:
        directory = options.directory or Path(temporary)
        store = Store(directory=directory, threads_max=THREADS)
        trio.run(store.prepare)
        client = store._connect("pugd")
        if not client.query("select count() from events").first_row[0]:
            fill(store._drain, options.events)
        events, actors, persons = client.query(
            "select count(), uniqExact(actor), (select count() from person_of) from events"
        ).first_row
        print(f"{events:,} events of {actors:,} ids, {persons:,} rows of person_of; load {os.getloadavg()[0]:.1f}")
        columns = "actor, event, toUnixTimestamp64Milli(occurred_at) as ms, position, bot"
        for name, statement in (
            ("events", f"select {columns} from events order by event, ms"),
            ("persons", "select actor, argMax(person, version) as person from person_of group by actor"),
        ):
            (directory / f"{name}.parquet").write_bytes(client.raw_query(statement, fmt="Parquet"))
        belonging = Belonging(store)
        ((newest,),) = client.query("select max(version) from person_of").result_rows

        async def keep() -> None:
            await belonging.make(1, newest)
            base = belonging.base(1)
            assert base is not None
            kept = Kept(base.name, base.cells, base.shift, held=base)
            owners_of["kept"] = Owners(1, bound("UInt64", LINKED_PLACE), kept)

        trio.run(keep)
        peer = duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY})
        for name in ("events", "persons"):
            peer.execute(f"create view {name} as select * from read_parquet('{directory / name}.parquet')")
        peers = {"funnel, 4 steps": peer_steps(), "retention, 12 weeks, first ever": peer_weeks()}

        def run(one: Plan) -> Any:
            return client.query(one.sql, one.parameters, settings=READ_SETTINGS).result_rows

        def asked(one: Plan | Callable[[Run], Any]) -> Callable[[], Any]:
            return lambda: run(one) if isinstance(one, Plan) else one(run)

        for name, planned in questions().items():
            if not name.startswith(options.only):
                continue
            other = peers.get(name)
            ways = {way: asked(planned(way)) for way in ("kept", "joined", "alone")}
            turns: dict[str, list[tuple[float, float, int]]] = {way: [] for way in (*ways, "peer")}
            for turn in range(options.turns + 1):
                # In another order each time: whoever comes behind DuckDB finds its memory given away.
                order = list(ways)[turn % 3 :] + list(ways)[: turn % 3]
                answers = {way: timed(ways[way], turns[way]) for way in order}
                assert sorted(map(repr, answers["kept"])) == sorted(map(repr, answers["joined"])), name
                if other is not None:
                    theirs = timed(lambda: peer.execute(other).fetchall(), turns["peer"])  # noqa: B023
                    assert agree(name, answers["kept"], theirs), f"{name}: DuckDB says otherwise"
                if turn == 0:
                    for those in turns.values():
                        those.clear()  # what was read from disk first
            cpus = {way: statistics.median(cpu for _, cpu, _ in turns[way]) for way in ways}
            costs = {way: f"person_of costs {cpus[way] / cpus['alone'] - 1:.0%}" for way in ways}
            print(f"{name}\n    pugd          {said(turns['kept'])}: {costs['kept']}")
            print(f"    joined        {said(turns['joined'])}: {costs['joined']}")
            print(f"    nobody linked {said(turns['alone'])}")
            if other is not None:
                print(f"    DuckDB {duckdb.__version__:6} {said(turns['peer'])}")
        trio.run(store.close)


def agree(name: str, own: list[tuple], theirs: list[tuple]) -> bool:
    """Do both say the same?"""
    if name.startswith("funnel"):
        return list(own[0][3]) == list(theirs[0])
    week = 7 * DAY
    found = {
        ((cohort - BEGAN) // week, (cell - cohort) // week): people
        for _, _, _, cohort, cell, people in own
        if cell >= cohort and cell - cohort <= 11 * week
    }
    return found == {(cohort, after): people for cohort, after, people in theirs}


if __name__ == "__main__":
    main()
