"""People sorted by a trait of any kind, with the plain twin: pages one after the other are the whole list, each person
once, whatever ties and however long the values."""

from __future__ import annotations

import json
from random import Random
from zoneinfo import ZoneInfo

import pytest
from crowd import everyone_of, found, projects, seeds, stored
from histories import History
from hypothesis import Phase, given, settings
from reference import timeline as twin

from pugd import ask
from pugd.query import order
from pugd.query.sql import bound, sql
from pugd.question import QuestionError

BEGAN = 1_700_000_000_000
NOW = BEGAN + 86_400_000
LONG = "é" * 200
VALUES = [
    *(0, -0.0, 1, -1, 2, 10, 9, 1.5, -1.5, 1e300, -1e300, 5e-324, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)),
    *(9.5e18, 1e19, 2**63 - 1024.0, 2.5e-7, 123456789.125),
    *("", "a", "ab", "B", "b", "é", "z\0", "z", "10", "9", "true", "null", "~", "{}", "2024-02-30", "2024-1-1", "😀"),
    *(LONG, LONG + "a", LONG + "b", "é" * 127 + "a", "é" * 127 + "ab", "x" * 256, "x" * 257),
    *("2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T01:30:00+02:00", "2023-12-31T23:59:59.999Z", "1969-07-20"),
    *("0044-03-15", "2024-06-01T12:00:00-05:00"),
    *(True, False, None, [], [1], [1, 2], ["a"], {}, {"deep": 2}, {"deep": "a"}, {"deep": None}),
]


def traited(random: Random) -> History:
    """Persons with one trait each, or none; some had another before, some have two ids."""
    history = History(next(projects))
    some = random.sample(VALUES, 20)
    for number in range(40):
        user, device = f"user-{number}", random.choice(["", f"phone-{number}"])
        history.identify(user, device, at=BEGAN, traits=[])
        for turn in range(random.choice([0, 1, 1, 1, 2])):
            operation = random.choice(["set", "set", "set", "add", "unset"])
            traits = [("a.b", operation, str(number % 3) if operation == "add" else written(random.choice(some)))]
            history.identify(random.choice([user, user, device or user]), "", at=BEGAN + 1 + turn, traits=traits)
    return history


def written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def test_keys_are_in_the_order_of_what_they_say():
    up, down = (order.of_trait(order.read(said), sql("json")) for said in ("trait:a", "-trait:a"))
    texts = bound("Array(String)", [written(value) for value in VALUES])
    keys = await found(sql("SELECT $up, $down FROM (SELECT arrayJoin($texts) AS json)", up=up, down=down, texts=texts))
    assert all(order.KEY.fullmatch(key) for pair in keys for key in pair)
    ranks = [twin.ranked(value) for value in VALUES]
    for value, rank, (up_key, down_key) in zip(VALUES, ranks, keys, strict=True):
        for other, other_rank, (other_up, other_down) in zip(VALUES, ranks, keys, strict=True):
            if rank is None or other_rank is None:
                wanted = wanted_down = (rank is None) - (other_rank is None)
            else:
                wanted = (rank > other_rank) - (rank < other_rank)
                wanted_down = -wanted
            compared = (up_key > other_up) - (up_key < other_up), (down_key > other_down) - (down_key < other_down)
            assert compared == (wanted, wanted_down), (value, other)


@settings(max_examples=3, phases=[Phase.generate])
@given(seeds)
async def test_pages_of_people_sorted_by_a_trait_are_the_whole(random):
    history = traited(random)
    await stored(history)
    everyone, project = await everyone_of(history, now=NOW, zone=ZoneInfo("UTC"), segments={})
    for path in ('["a.b"]', '["a.b","deep"]'):
        for sort in (f"trait:{path}", f"-trait:{path}"):
            wanted = [one["id"] for one in twin.people(history.world, sort=sort)]
            listed: list[str] = []
            cursor = None
            limit = random.choice([13, 20]) if path == '["a.b"]' else 100
            while True:
                asked = ask.AskPeople(sort=sort, limit=limit, cursor=cursor)
                page = await everyone.people(project, asked)
                assert page.count == len(wanted)
                assert len(page.people) <= limit
                listed += [one.id for one in page.people]
                cursor = page.next
                if cursor is None:
                    break
                assert len(cursor) <= 1024
            assert listed == wanted, sort


async def test_a_cursor_goes_with_its_own_sort():
    history = traited(Random(1))
    await stored(history)
    everyone, project = await everyone_of(history, now=NOW, zone=ZoneInfo("UTC"), segments={})
    sorts = ['trait:["a.b"]', '-trait:["a.b"]', "trait:a.b", "-last_seen"]
    cursors = {sort: (await everyone.people(project, ask.AskPeople(sort=sort, limit=1))).next for sort in sorts}
    for sort in sorts:
        for other, cursor in cursors.items():
            if sort == other:
                assert (await everyone.people(project, ask.AskPeople(sort=sort, cursor=cursor))).people
                continue
            with pytest.raises(QuestionError) as caught:
                await everyone.people(project, ask.AskPeople(sort=sort, cursor=cursor))
            assert caught.value.field == "cursor"


@pytest.mark.parametrize(
    "said",
    ["", "-", "plan", "--last_seen", "trait:", "trait:a..b", "trait:[", "trait:[]", 'trait:["a",1]', "+trait:plan",
     "-trait:" + "x" * 1_001, "trait:" + ".".join("abcdefghijk"), "TRAIT:plan"],
)  # fmt: skip
def test_what_is_no_order_is_told(said):
    with pytest.raises(QuestionError) as caught:
        order.read(said)
    assert (caught.value.code, caught.value.field) == ("invalid_field", "sort")
