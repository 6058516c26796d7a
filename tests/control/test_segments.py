"""Segments and saved questions in a real Postgres: versions, what uses what, two changes at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import fresh, running

from pugd import kept
from pugd.ask import AskTrend, Breakdown, Condition, Did, Fixed, Series, segments_of
from pugd.control import postgres, reports, segments
from pugd.control.postgres import Connection, Postgres
from pugd.control.segments import circle_of
from pugd.control.shelf import Shelf
from pugd.errors import ControlError
from pugd.kept import ChangedSegment, KeptError, NewFixed, NewSegment
from pugd.question import QuestionError

PRO = Condition(trait="plan", value="pro")
ACTIVE = Condition(did=Did(event="order", last="30 d"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running() as conninfo:
        yield conninfo


@pytest.fixture
def conninfo(server: str) -> str:
    return fresh(server)


@pytest.fixture
def connection(conninfo: str) -> Iterator[Connection]:
    with postgres.connect(conninfo) as opened:
        opened.execute("insert into projects (id, name) values (2, 'another')")
        yield opened


def make(connection: Connection, name: str, rule: Condition = PRO, project: int = 1) -> kept.Segment:
    with connection.transaction():
        return segments.create(connection, project, NewSegment(name=name, rule=rule), "read_abc…")


def change(connection: Connection, name: str, **changed: object) -> kept.Segment:
    with connection.transaction():
        return segments.change(connection, 1, name, ChangedSegment(**changed), "console")


def using(*names: str) -> Condition:
    return Condition(any=tuple(Condition(segment=name) for name in names))


def code(caught: pytest.ExceptionInfo[QuestionError]) -> tuple[str, str | None]:
    return caught.value.code, caught.value.field


def test_each_change_is_a_version_and_every_version_stays(connection: Connection) -> None:
    made = make(connection, "pro")
    assert (made.version, made.kind, made.rule, made.updated_by) == (1, "rule", PRO, "read_abc…")
    assert change(connection, "pro", description="pays", rule=PRO).version == 2
    again = change(connection, "pro", description="pays", rule=PRO)
    assert again.version == 2, "nothing changed: sent twice it is one version"
    assert change(connection, "pro", rule=ACTIVE, if_version=2).version == 3
    with pytest.raises(KeptError) as caught:
        change(connection, "pro", rule=PRO, if_version=2)
    assert code(caught) == ("changed_meanwhile", "if_version")
    assert change(connection, "pro", archived=True).version == 4
    told = [
        (one.version, one.rule, one.description, one.archived, one.by)
        for one in segments.versions(connection, 1, "pro")
    ]
    assert told == [
        (4, ACTIVE, "pays", True, "console"),
        (3, ACTIVE, "pays", False, "console"),
        (2, PRO, "pays", False, "console"),
        (1, PRO, "", False, "read_abc…"),
    ]
    assert segments.listed(connection, 1) == []
    (listed,) = segments.listed(connection, 1, archived=True)
    assert listed == segments.one(connection, 1, "pro")
    assert segments.used(connection, 1, ["pro"]) == {"pro": ACTIVE}, "what uses it goes on working"


@pytest.mark.parametrize("name", ["", " pro", "pro ", "a/b", ".", "..", "x" * 101, "a\0b", "a\nb", "\u200b"])
def test_names_that_are_none(connection: Connection, name: str) -> None:
    with pytest.raises(QuestionError) as caught:
        make(connection, name)
    assert code(caught) == ("invalid_field", "name")


def test_names_are_of_one_project_and_of_one_case(connection: Connection) -> None:
    for name in ("pro", "Pro", "x" * 100, "ключ 'or' 1=1; --", "%s"):
        assert make(connection, name).name == name
    with pytest.raises(KeptError) as caught:
        make(connection, "pro")
    assert code(caught) == ("name_taken", "name")
    assert segments.listed(connection, 2) == []
    with pytest.raises(KeptError) as caught:
        segments.one(connection, 2, "pro")
    assert code(caught) == ("not_found", "name")
    assert segments.used(connection, 2, ["pro"]) == {}
    assert make(connection, "pro", ACTIVE, project=2).rule == ACTIVE
    assert segments.one(connection, 1, "pro").rule == PRO
    with connection.transaction():
        segments.delete(connection, 2, "pro")
    assert segments.one(connection, 1, "pro").rule == PRO


def test_what_is_in_use_is_not_deleted(connection: Connection) -> None:
    make(connection, "pro")
    make(connection, "either", using("pro"))
    asked = AskTrend(series=(Series(event="order"),), breakdown=Breakdown(segment="pro"))
    with connection.transaction():
        reports.create(connection, 1, "orders", "", asked, "console")
    with pytest.raises(KeptError, match=r"'either'.*'orders'") as caught:
        segments.delete(connection, 1, "pro")
    assert code(caught) == ("in_use", "name")
    assert segments.users(connection, 1, "pro") == kept.Users(["either"], ["orders"])
    change(connection, "either", rule=ACTIVE)
    with connection.transaction():
        reports.delete(connection, 1, "orders")
        segments.delete(connection, 1, "pro")
    assert [one.name for one in segments.listed(connection, 1)] == ["either"]
    assert connection.execute("select count(*) from segment_versions").fetchone() == (2,)


def test_what_is_not_there_is_not_used(connection: Connection) -> None:
    with pytest.raises(QuestionError) as caught:
        make(connection, "a", using("nothing"))
    assert code(caught) == ("invalid_field", "rule")
    asked = AskTrend(series=(Series(where=Condition(segment="nothing")),))
    with pytest.raises(QuestionError) as caught:
        reports.create(connection, 1, "q", "", asked, "console")
    assert code(caught) == ("invalid_field", "question")


def test_no_segment_is_part_of_itself(connection: Connection) -> None:
    make(connection, "a")
    make(connection, "b", using("a"))
    make(connection, "c", Condition(not_=using("b")))
    for name, rule in (("a", using("c")), ("a", Condition(did=Did(where=Condition(segment="c")))), ("b", using("b"))):
        with pytest.raises(QuestionError, match="part of itself") as caught:
            change(connection, name, rule=rule)
        assert code(caught) == ("invalid_field", "rule")
    assert set(segments.used(connection, 1, ["c"])) == {"a", "b", "c"}


@given(st.integers(0, 2**32).map(Random))
@settings(max_examples=200)
def test_circles_are_those_of_the_twin(random: Random) -> None:
    names = "abcdef"
    uses = {name: {random.choice(names) for _ in range(random.randrange(3))} for name in names}
    reached = {name: set(uses[name]) for name in names}
    for _ in names:
        for name in names:
            reached[name] |= {far for near in set(reached[name]) for far in uses[near]}
    for name in names:
        circle = circle_of(name, uses)
        assert bool(circle) == (name in reached[name])
        assert all(after in uses[before] for before, after in itertools.pairwise(circle))


def test_two_changes_at_once_make_no_circle(conninfo: str, connection: Connection) -> None:
    for turn in range(5):
        names = [f"a{turn}", f"b{turn}"]
        for name in names:
            make(connection, name)

        def use(pair: tuple[str, str]) -> bool:
            with postgres.connect(conninfo) as opened, opened.transaction():
                try:
                    segments.change(opened, 1, pair[0], ChangedSegment(rule=using(pair[1])), "x")
                except QuestionError:
                    return False
            return True

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(use, [(names[0], names[1]), (names[1], names[0])]))
        assert sorted(done) == [False, True]


def test_a_fixed_one_is_a_list(connection: Connection) -> None:
    actors = [2**64 - 1, 0, 7]
    with connection.transaction():
        made = segments.create_fixed(connection, 1, NewFixed(name="then"), actors, "console")
    assert (made.kind, made.rule, made.ids, made.version) == ("fixed", None, 3, 1)
    assert segments.used(connection, 1, ["then"]) == {"then": Fixed((0, 7, 2**64 - 1))}
    with pytest.raises(QuestionError) as caught:
        change(connection, "then", rule=PRO)
    assert code(caught) == ("invalid_field", "rule")
    assert change(connection, "then", description="of May").version == 2
    make(connection, "either", using("then"))
    assert segments.used(connection, 1, ["either"]) == {"either": using("then"), "then": Fixed((0, 7, 2**64 - 1))}
    with connection.transaction():
        assert segments.create_fixed(connection, 1, NewFixed(name="nobody"), [], "x").ids == 0
    assert segments.used(connection, 1, ["nobody"]) == {"nobody": Fixed(())}


def test_there_are_not_too_many(connection: Connection) -> None:
    connection.execute(
        "insert into segments (project, name, kind, actors)"
        " select 1, 's' || n, 'fixed', '' from generate_series(1, %s) n",
        (kept.SEGMENTS_MAX,),
    )
    with pytest.raises(KeptError) as caught:
        make(connection, "one more")
    assert code(caught) == ("too_many", None)


def test_rules_with_odd_texts_come_back_as_they_were(connection: Connection) -> None:
    for number, value in enumerate(
        ("\0", "\\u0000", "'; drop table segments; --", "😀", 1.0, 2**63, True, ["a", None])
    ):
        rule = Condition(trait=("a.b", "\0"), value=value)
        made = make(connection, f"s{number}", rule)
        assert msgspec.json.encode(made.rule) == msgspec.json.encode(rule)


def test_saved_questions_have_versions(connection: Connection) -> None:
    asked = AskTrend(series=(Series(event="order"),), last="30 d")

    def change(**changed: object) -> kept.SavedQuestion:
        given = {"description": msgspec.UNSET, "archived": msgspec.UNSET, "asked": msgspec.UNSET, "if_version": None}
        with connection.transaction():
            return reports.change(connection, 1, "orders", **{**given, **changed}, by="console")  # type: ignore[arg-type]

    with connection.transaction():
        made = reports.create(connection, 1, "orders", "a month's", asked, "read_abc…")
    assert (made.kind, made.version, made.question) == ("trend", 1, asked)
    assert change(asked=asked).version == 1
    later = msgspec.structs.replace(asked, last="7 d")
    assert change(asked=later, if_version=1).version == 2
    with pytest.raises(KeptError) as caught:
        change(asked=asked, if_version=1)
    assert code(caught) == ("changed_meanwhile", "if_version")
    assert change(archived=True).version == 3
    assert [one.version for one in reports.versions(connection, 1, "orders")] == [3, 2, 1]
    assert reports.listed(connection, 1) == []
    assert [one.name for one in reports.listed(connection, 1, archived=True)] == ["orders"]
    assert reports.listed(connection, 2, archived=True) == []
    with pytest.raises(KeptError) as caught:
        reports.one(connection, 2, "orders")
    assert code(caught) == ("not_found", "name")
    with pytest.raises(KeptError) as caught, connection.transaction():
        reports.create(connection, 1, "orders", "", asked, "x")
    assert code(caught) == ("name_taken", "name")


async def test_a_refusal_keeps_the_connection_and_changes_nothing(conninfo: str) -> None:
    pool = Postgres(conninfo)
    shelf = Shelf(pool.run)
    await shelf.create_segment(1, NewSegment(name="a", rule=PRO), "x")
    (idle,) = pool._idle
    with pytest.raises(KeptError):
        await shelf.create_segment(1, NewSegment(name="a", rule=PRO), "x")
    assert pool._idle == [idle]
    assert [one.name for one in await shelf.segments(1)] == ["a"]
    await pool.close()
    away = Shelf(Postgres("host=/nowhere user=x dbname=y").run)
    with pytest.raises(ControlError):
        await away.used(1, ["a"])


def test_segments_that_a_question_names_are_found_at_any_depth() -> None:
    deep = Condition(all=(Condition(not_=Condition(did=Did(where=Condition(any=(Condition(segment="x"),))))), PRO))
    asked = AskTrend(series=(Series(where=deep),), where=Condition(segment="y"), breakdown=Breakdown(segment="z"))
    assert segments_of(asked) == {"x", "y", "z"}
    assert segments_of(PRO) == set()
