"""Paths against the plain twin, a crowd at a time."""

from __future__ import annotations

from crowd import asked, crowd, events, found, happenings, said, seeds, stored
from hypothesis import given, settings
from reference import flow as twin

from pugd.query.flow import AFTER, ANCHOR, BEFORE, Steps, paths
from pugd.query.sequence import sequences
from pugd.query.sql import sql

BEGAN = 1_700_000_000_000


@settings(max_examples=10)
@given(seeds)
async def test_paths_are_those_of_the_twin(random):
    unit = random.choice([1, 1_000])
    history = crowd(random, lambda: BEGAN + random.randrange(12) * unit)
    await stored(history)
    happened = happenings(history)
    for _ in range(4):
        anchor = random.choice(["A", "AB"])
        since = BEGAN + random.randrange(5) * unit
        until = since + random.randrange(1, 8) * unit
        window = random.choice([0, 1, 2, 5, 20]) * unit
        steps, direction, merge = random.randint(1, 5), random.choice([AFTER, BEFORE]), random.random() < 0.5
        wanted = twin.flow(
            happened, said(anchor), since=since, until=until, window=window, steps=steps, before=direction == BEFORE,
            merge_repeats=merge,
        )  # fmt: skip
        asking = Steps(
            since=since, until=until, window_ms=window, steps=steps, direction=direction, merge_repeats=merge
        )
        marked = events(history, [asked(anchor)], columns=[("name", sql("toString(event)"))])
        rows = await found(
            sql(
                "SELECT person, path FROM $paths",
                paths=paths(asking, sequences(marked, needed=[ANCHOR], beside=[("names", sql("name"))])),
            )
        )
        assert {person: list(path) for person, path in rows} == {person: path for (person, _), path in wanted.items()}
        assert len(rows) == len(wanted)
