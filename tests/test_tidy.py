"""The project's own order, as a test: who imports whom, what is pure, who calls C, what lies where, which links lead
somewhere. ARCHITECTURE.md draws the same picture; a test here reads it there.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pugd"

VOCABULARY = {
    "refusals",
    "model",
    "question",
    "ask",
    "kept",
    "journeys",
    "tables",
    "errors",
    "config",
    "data",
    "limits",
    "schema",
    "quarantine",
    "logs",
    "service",
}
"""May import one another and nothing else of ours."""
STAGES = {"edge", "dialects", "enrich", "identity", "journal", "columns", "store", "control", "query"}
"""Each imports the vocabulary and itself."""
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(VOCABULARY, VOCABULARY),
    **{name: VOCABULARY | {name} for name in STAGES},
    "process": VOCABULARY,
    "commands": VOCABULARY,
    "datagrams": VOCABULARY | {"dialects", "enrich"},
    "recorder": VOCABULARY | {"dialects", "identity", "journal"},
    "accept": VOCABULARY | {"datagrams", "dialects", "enrich", "identity", "journal", "recorder"},
    "drain": VOCABULARY | {"journal", "columns", "store"},
    "repair": VOCABULARY | {"commands", "drain", "store"},
    "belonging": VOCABULARY | {"query"},
    "persons": VOCABULARY | {"query"},
    "answer": VOCABULARY | {"belonging", "persons", "query", "store", "control"},
    "stays": VOCABULARY | {"query"},
    "numbers": VOCABULARY | {"query"},
    "everyone": VOCABULARY | {"answer", "numbers", "query", "stays"},
    "exports": VOCABULARY | {"answer", "everyone", "query"},
    "check": VOCABULARY | {"identity", "journal", "columns", "store"},
    "web": VOCABULARY | {"web", "query", "control"},
    "demo": VOCABULARY,
    "client": set(),
    "large": VOCABULARY | {"accept", "dialects"},
    "reception": VOCABULARY | {"accept", "dialects", "edge", "large"},
    "collector": VOCABULARY | STAGES | {"process", "commands", "accept", "reception"},
    "keeper": VOCABULARY
    | STAGES
    | {"process", "commands", "drain", "repair", "answer", "belonging", "everyone", "exports", "check", "web"},
    "supervisor": VOCABULARY | {"process", "control", "enrich"},
    "__main__": VOCABULARY
    | STAGES
    | {"commands", "process", "supervisor", "collector", "keeper", "demo", "drain", "repair"},
    "__init__": set(),
}
WAIT = {
    *(
        "process",
        "supervisor",
        "collector",
        "keeper",
        "drain",
        "repair",
        "check",
        "answer",
        "persons",
        "belonging",
        "commands",
    ),
    "__main__",
    *("edge.http", "edge.udp", "store.clickhouse", "control.postgres", "control.control", "web.turns"),
}
"""Modules that may import Trio; all others are pure, or are called in threads."""

FACES = {
    *("identity.graph", "identity.duplicates", "columns.block", "journal.writer", "journal.record", "edge.udp"),
    *("dialects.storable", "dialects.slices", "dialects.plain", "dialects.protobuf", "journal.files", "edge.sockets"),
}
"""Modules that may call C, each its own section of native/pugd.cdef."""

TOP = {
    *("pugd", "native", "tests", "bench", "systemd", "docs", ".ci"),
    *("pyproject.toml", "Makefile", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", ".gitignore"),
}
VAGUE = {"util", "utils", "common", "manager", "helper", "helpers", "misc", "base", "core"}
OTHER_WORDS = {"tenant", "audience", "profile", "profiles", "uid", "hit", "hits"}
"""Words that this project says otherwise: project, segment, person, distinct id, event."""


def modules() -> dict[str, Path]:
    """Dotted name within pugd → file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Everything that a file imports, at any depth, as dotted names; `from a import b` as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found |= {f"{node.module}.{one.name}" for one in node.names}
    return found


def tracked() -> list[Path]:
    """Files that git knows or would take."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name and (ROOT / name.decode()).is_file()]


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_one_way(name: str) -> None:
    part = name.split(".")[0]
    assert part in MAY_IMPORT, f"{part} is not in the picture: put it there, and into ARCHITECTURE.md"
    for imported in imports(modules()[name]):
        if not imported.startswith("pugd.") or imported.startswith(("pugd._native", "pugd.__version__")):
            continue
        other = imported.split(".")[1]
        assert other in MAY_IMPORT[part], f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_some_wait_and_only_faces_call_c(name: str) -> None:
    found = imports(modules()[name])
    if any(one.split(".")[0] in ("trio", "hypercorn") for one in found):
        assert name in WAIT, f"{name} imports Trio"
    if any(one.startswith("pugd._native") for one in found):
        assert name in FACES, f"{name} calls C"
    asleep = {"asyncio", "anyio", "threading"} & {one.split(".")[0] for one in found}
    if name == "client":
        asleep.remove("threading")  # it runs in other people's programs
    assert not asleep, f"{name} imports {asleep}"


def test_names_of_the_picture_exist() -> None:
    known = set(modules())
    assert known >= WAIT | FACES
    assert {name.split(".")[0] for name in known} == set(MAY_IMPORT)


def test_every_file_says_what_it_is() -> None:
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        if tree.body:
            assert ast.get_docstring(tree), f"{name} has no first paragraph"


def test_files_and_names_use_our_words() -> None:
    for name, path in modules().items():
        assert not set(name.split(".")) & VAGUE, f"{name} is no noun of the field"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", node.name)}
                assert not words & OTHER_WORDS, f"{name}: {node.name}"


def test_top_level_holds_nothing_else() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP


def test_no_file_is_too_large_to_read() -> None:
    for path in tracked():
        assert path.stat().st_size < 1 << 20, f"{path.relative_to(ROOT)} is over 1 MiB"


def test_links_lead_somewhere() -> None:
    for page in tracked():
        if page.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_architecture_draws_every_part() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = set(re.findall(r"[\w/]+\.(?:py|c|h)\b", page))
    names = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    names |= {path.name for folder in STAGES | {"web"} for path in (PACKAGE / folder).glob("[a-z]*.py")}
    names |= {path.name for path in (ROOT / "native").glob("*.h")}
    missing = names - {name.rpartition("/")[2] for name in drawn}
    assert not missing, f"ARCHITECTURE.md does not draw {sorted(missing)}"
    for name in drawn:
        found = [*ROOT.glob(name), *PACKAGE.rglob(name), *(ROOT / "native").rglob(name), *(ROOT / "tests").rglob(name)]
        assert found or list((ROOT / "bench").rglob(name)), f"ARCHITECTURE.md draws {name}, which is not there"
