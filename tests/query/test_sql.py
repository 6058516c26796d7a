"""No value becomes SQL: neither by how pieces are joined, nor by how the files that join them are written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pugd.query
from pugd.query import people, timeline
from pugd.query.person import Owners
from pugd.query.sql import Bound, all_of, any_of, bound, joined, plan, sql
from pugd.question import People, Timeline

OWNERS = Owners(1, bound("UInt64", 7))
SOURCES = sorted(Path(pugd.query.__file__).parent.glob("*.py"))


def test_pieces_take_their_places_and_values_travel_beside():
    shared = bound("UInt64", 7)
    found = plan(sql("SELECT $a, $b WHERE $c", a=shared, b=bound("String", "x'"), c=all_of([sql("a = $v", v=shared)])))
    assert found.sql == "SELECT {p0:UInt64}, {p1:String} WHERE (a = {p0:UInt64})"
    assert found.parameters == {"p0": 7, "p1": "x'"}


def test_none_of_nothing():
    assert plan(all_of([])).sql == "1"
    assert plan(any_of([])).sql == "0"
    assert plan(joined(", ", [])).sql == ""


@pytest.mark.parametrize("wrong", ["1; DROP TABLE events", 5, Bound("String", "x")])
def test_what_is_no_piece_is_our_own_fault(wrong):
    with pytest.raises(AssertionError):
        sql("SELECT $it", it=wrong)


def test_a_piece_forgotten_is_our_own_fault():
    with pytest.raises(AssertionError):
        sql("SELECT 1", condition=sql("project = 1"))


@given(st.text(min_size=3), st.text(min_size=3), st.integers(0, 2**64 - 1))
def test_the_text_of_a_statement_does_not_depend_on_what_is_asked(search, event, actor):
    def texts(search: str, event: str, actor: int) -> list[str]:
        return [
            people.plan_page(People(project=1, search=search), OWNERS).sql,
            people.plan_page(People(project=1, search=search), OWNERS, actors=[actor]).sql,
            people.plan_matching(People(project=1, search=search), OWNERS.place).sql,
            timeline.plan_entries(Timeline(project=1, actor=actor, search=search, event=event), [actor]).sql,
            timeline.plan_joins(Timeline(project=1, actor=actor, search=search), [actor], [(actor >> 2, event)]).sql,
            people.plan_activity(
                1, [actor], people.Links([(actor, 2, search, event, "identify", (3, ""), (3, ""))])
            ).sql,
        ]

    assert texts(search, event, actor) == texts("abc", "abc", 1)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_template_is_written_out_in_the_source(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in ("sql", "bound", "joined") and path.name != "sql.py":
            first = node.args[0]
            written = isinstance(first, ast.Constant) and isinstance(first.value, str)
            names = isinstance(first, ast.Name) and first.id == "name"  # of a tuple written out beside
            assert written or names, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_person_py_says_which_table_and_which_project(path):
    if path.name == "person.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "SELECT" in node.value:
            words = node.value.replace("(", " ").split()
            after = [words[index + 1] for index, word in enumerate(words[:-1]) if word in ("FROM", "JOIN")]
            assert not {"events", "traits", "links", "person_of"} & set(after), f"{path.name}:{node.lineno}"
            assert "project" not in words, f"{path.name}:{node.lineno}"
