"""The documents say what the program does: paths, codes, limits, targets and files, compared with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast, get_type_hints

import click
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pugd import ask, config, errors, journeys, model, question
from pugd.answer import AnswerStatistics
from pugd.collector import CollectorStatistics
from pugd.data import DataDirectory
from pugd.dialects.known import DIALECTS
from pugd.drain import DrainStatistics
from pugd.edge import routes
from pugd.errors import status_of
from pugd.reception import HEALTH
from pugd.store.clickhouse import StoreStatistics
from pugd.web import metrics
from pugd.web.app import _Safe, console

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
HTTP = PAGES["docs/http-api.md"]
CALL = re.compile(r"`(GET|POST|PUT|DELETE) (/[^`?]*)(?:\?[^`]*)?`")


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of its rank or above."""
    rank = title.partition(" ")[0]
    _, _, rest = page.partition(f"\n{title}\n")
    assert rest, f"no heading {title!r}"
    return re.split(rf"\n#{{1,{len(rank)}}} ", rest)[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, headings left out."""
    found = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in found]
    return [row for row in rows if not all(set(cell) <= set("- ") for cell in row)]


def documented(text: str) -> set[tuple[str, str]]:
    return {found.groups() for row in table_rows(text) for cell in row for found in CALL.finditer(cell)}  # type: ignore[misc]


def application() -> Starlette:
    nobody = cast(Any, None)
    made = console(
        asker=nobody,
        crowd=nobody,
        exporter=nobody,
        access=nobody,
        shelf=nobody,
        health=nobody,
        statistics=nobody,
        collector="http://127.0.0.1:7080",
    )
    assert isinstance(made, _Safe)
    assert isinstance(made._app, Starlette)
    return made._app


def test_every_path_that_takes_events_is_documented_and_the_reverse() -> None:
    there = {
        (method, path) for path, route in routes.ROUTES.items() if route.handler in DIALECTS for method in route.methods
    }
    assert documented(section(HTTP, "## Sending events")) == there


def test_every_path_of_the_console_is_documented_and_the_reverse() -> None:
    there = set()
    for route in application().routes:
        assert isinstance(route, Route | Mount)
        if isinstance(route, Mount):
            assert route.path == "/static"
        else:
            there |= {(method, route.path) for method in route.methods or {"GET"} if method != "HEAD"}
    parts = ("## Asking", "## Pages", "## Health and metrics")
    assert set().union(*(documented(section(HTTP, part)) for part in parts)) == there


def test_health_of_the_collector_is_documented() -> None:
    there = {path for path, route in routes.ROUTES.items() if route.handler in HEALTH}
    both = {row[0].strip("`").partition(" ")[2] for row in table_rows(section(HTTP, "## Health and metrics")) if
            row[1] == "both"}  # fmt: skip
    assert both == there


def test_every_other_path_of_the_collector_is_the_script_for_pages() -> None:
    others = {path for path, route in routes.ROUTES.items() if route.handler not in {*DIALECTS, *HEALTH}}
    assert others == {"/pugd.js"}
    assert "`GET /pugd.js`" in HTTP


def codes() -> dict[str, str]:
    return {name: value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("code", codes().values())
def test_every_code_is_documented_with_its_status(code: str) -> None:
    rows = [row for row in table_rows(HTTP) if f"`{code}`" in row[0]]
    assert rows, f"docs/http-api.md does not explain {code}"
    answers = [row for row in table_rows(section(HTTP, "### Answers")) if row[0] == f"`{code}`"]
    for row in answers:
        assert row[1].startswith(str(status_of(code)))


def test_every_documented_code_is_one() -> None:
    answers = {row[0].strip("`") for row in table_rows(section(HTTP, "### Answers")) if row[0].startswith("`")}
    refusals = {name for name in codes().values() if name in answers}
    assert answers == refusals


def test_codes_of_the_console_are_documented() -> None:
    said = set(re.findall(r"`([a-z_]+)`", " ".join(row[0] for row in table_rows(section(HTTP, "## Asking")))))
    used = set()
    for source in (ROOT / "pugd/web").glob("*.py"):
        used |= set(re.findall(r'Error\(\s*"([a-z_]+)"', source.read_text()))
    names = {"sort", "order", "identified", "stale", "limit", "from", "to", "as_of", "cursor", "types"}
    assert used | {f"invalid_{name}" for name in names} <= said


def test_parameters_are_documented() -> None:
    from pugd.web import parameters

    said = " ".join(row[2] for row in table_rows(section(HTTP, "## Asking")) if len(row) == 3)
    for name in {*parameters.PEOPLE, *parameters.ONE, *parameters.TIMELINE, *parameters.EXPLAIN, *parameters.REFUSALS}:
        assert f"`{name}`" in said
    for choice in (*question.SORTS, *question.ORDERS):
        assert f"`{choice}`" in HTTP
    assert f"1 to {question.LIMIT_MAX}, {question.LIMIT_DEFAULT} by default" in HTTP


def test_examples_are_shaped_like_answers() -> None:
    """Each field of the examples is a field of the answers, and each of an answer is in its example."""
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", section(HTTP, "## Asking"), re.DOTALL)]
    people, timeline, explained, refused = examples

    def fields(kind: type[msgspec.Struct]) -> set[str]:
        return {field.encode_name for field in msgspec.structs.fields(kind)} - {
            "stored_until",
            "as_of",
            "then",
            "then_at",
        }

    assert set(people) == fields(question.PeopleAnswer)
    assert set(people["people"][0]) == fields(question.Person)
    assert set(people["people"][0]["ids"][0]) == fields(question.PersonId)
    assert set(timeline) == fields(question.TimelineAnswer)
    kinds = {kind.TYPE: kind for kind in (question.EventEntry, question.TraitsEntry, question.LinkEntry)}
    assert {entry["type"] for entry in timeline["entries"]} == set(kinds)
    for entry in timeline["entries"]:
        assert set(entry) == fields(kinds[entry["type"]])
    assert set(timeline["entries"][1]["changes"]["plan"]) == fields(question.Change)
    assert set(explained) == fields(question.ExplainAnswer)
    assert set(explained["links"][0]) == fields(question.Link)
    assert set(refused) == fields(question.RefusedEventsAnswer)
    assert set(refused["refusals"][0]) == fields(question.RefusedEvent)
    shapes = re.findall(r"`(\{\"(?:person|persons|refusals)\".*?\})`", section(HTTP, "## Asking"))
    answers = [question.PersonAnswer, question.UnlinkAnswer, question.MergeAnswer, question.RefusalsAnswer]
    told = [set(re.findall(r'"(\w+)": ', re.sub(r"(\[|: )\{.*?\}", r"\1", shape))) for shape in shapes]
    assert sorted(map(sorted, told)) == sorted(sorted(fields(answer)) for answer in answers)


OPTIONS: dict[str, tuple[str, ...]] = {
    "births": journeys.BIRTHS,
    "returns": journeys.RETURNS,
    "period": journeys.PERIODS,
    "order": journeys.FUNNEL_ORDERS,
    "entry": journeys.ENTRIES,
    "excluded": journeys.EXCLUDED,
    "measure": (*ask.COUNTS, *ask.NUMBERS),
}
NAMED = re.compile(r"`(\"\w[^`]*)`(?: \((default)\))?")


@pytest.mark.parametrize(
    ("title", "asked"),
    [
        ("### Their retention", (ask.AskRetention,)),
        ("### Their funnels", (ask.AskFunnel,)),
        ("### Their trends, sessions and paths", (ask.Series, ask.AskTrend, ask.AskFlow)),
    ],
)
def test_options_beside_those_of_other_tools_are_ours(title: str, asked: tuple[type[msgspec.Struct], ...]) -> None:
    text = section(PAGES["docs/questions.md"], title)
    assert all(len(row) == 4 for row in table_rows(text))
    named = NAMED.findall(text)
    assert named
    for span, default in named:
        for name, value in json.loads(f"{{{span}}}").items():
            [field] = [one for each in asked for one in msgspec.structs.fields(each) if one.encode_name == name]
            msgspec.convert(value, field.type)
            assert name not in OPTIONS or value in OPTIONS[name], span
            assert not default or value == field.default, span


def test_settings_that_are_named_exist() -> None:
    unit = re.compile(r"`((?!pugd_)[a-z]+_[a-z_]*(?:max|min|s|ms|bytes|url|key|ids|name|level))`")
    others = {*codes().values(), "read_key", "user_ids", "invalid_types"} | {
        field.name for field in msgspec.structs.fields(model.EventRow)
    }
    variables = {config.variable(name) for name in config.FIELDS} | config.RESERVED
    for name, page in PAGES.items():
        assert set(unit.findall(page)) - others <= set(config.FIELDS), name
        assert set(re.findall(r"PUGD_[A-Z][A-Z_]+", page)) <= variables, name


def measured() -> set[str]:
    """The names of all metrics there can be."""

    def zero(type_: object) -> Any:
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            return type_(**{field.name: zero(field.type) for field in msgspec.structs.fields(type_)})
        return {int: 0, float: 0.0, bool: False, str: ""}.get(type_, {"x": 0})  # type: ignore[call-overload]

    parts: dict[str, Any] = {name: zero(kind) for name, kind in get_type_hints(CollectorStatistics).items()}
    parts |= {"drain": zero(DrainStatistics), "store": zero(StoreStatistics), "answer": zero(AnswerStatistics)}
    return set(re.findall(r"^(\w+)", metrics.rendered(parts | {"collector": {"answers": True}}), re.MULTILINE))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_metrics_that_are_named_exist(page: str) -> None:
    known = measured()
    assert len(known) > 50
    assert set(re.findall(r"\bpugd_[a-z][a-z_]+", PAGES[page])) <= known


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_between_pages_resolve(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)]*)?\)", PAGES[page]):
        if "://" in target:
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            known = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in known, f"{page} links to {target}{anchor}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, page in PAGES.items():
        named = set(re.findall(r"(?:^|`|sudo )(?:[A-Z_]+=\S+ )*make ([a-z]+)", page, re.MULTILINE))
        assert named <= targets, f"{name} names {named - targets}"
    assert {"run", "test", "demo", "install"} <= set(re.findall(r"make ([a-z]+)", PAGES["README.md"]))


def test_every_command_that_is_named_exists_with_its_options() -> None:
    from pugd.__main__ import main

    code = re.compile(r"```sh\n(.*?)```|`([^`\n]+)`", re.DOTALL)
    named = [
        (name, words)
        for name, page in PAGES.items()
        for found in code.finditer(page)
        for words in re.findall(r"(?:^|sudo |ssh new |-m )pugd ([a-z][^#\n]*)", found[1] or found[2], re.MULTILINE)
    ]
    assert len(named) > 20
    for name, text in named:
        command: click.Command = main
        words = text.split()
        while isinstance(command, click.Group) and words:
            assert words[0] in command.commands, f"{name} names `pugd {text}`"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"{name} names `pugd {text}`"


def test_files_of_the_data_directory_are_drawn() -> None:
    there = {path.name for name, path in vars(DataDirectory("/data")).items() if name != "path"}
    rows = table_rows(section(PAGES["ARCHITECTURE.md"], "## The data directory"))
    drawn = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert drawn == there
    told = set(re.findall(r"`([^`]+)`", " ".join(row[0] for row in table_rows(
        section(PAGES["docs/operating.md"], "## The data directory")))))  # fmt: skip
    assert {name.rstrip("/") for name in told} == there | {"postgres.log"}
