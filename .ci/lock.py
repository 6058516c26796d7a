"""Write .ci/run.lock and .ci/test.lock: exact versions of everything that pyproject.toml asks for, and of all that asks
for in turn, as they are installed in the interpreter that runs this.

What only other Python versions need keeps its condition, so that one file serves all of them.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
OLDER = {"backports-zstd": 'python_version < "3.14"'}
"""Asked for under a condition that does not hold everywhere."""


def closure(wanted: list[str], seen: dict[str, str]) -> dict[str, str]:
    """Name → version of these requirements and of theirs."""
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        extras = sorted(requirement.extras) or [""]
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name in seen and not requirement.extras:
            continue
        found = metadata.distribution(name)
        assert requirement.specifier.contains(found.version, prereleases=True), f"{text}, but {found.version} is here"
        seen[name] = found.version
        deeper = []
        for inner in found.requires or []:
            one = Requirement(inner)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ["", *extras]):
                one.marker = None
                deeper.append(str(one))
        closure(deeper, seen)
    return seen


def main() -> None:
    """Both files."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    build = project["build-system"]["requires"]
    run = closure([*project["project"]["dependencies"], *build], {})
    extras = project["project"]["optional-dependencies"]
    test = closure([one for extra in extras.values() for one in extra], dict(run))
    for name, chosen in (("run.lock", run), ("test.lock", {k: v for k, v in test.items() if k not in run})):
        lines = [
            f"{package}=={version}" + (f" ; {OLDER[package]}" if package in OLDER else "")
            for package, version in sorted(chosen.items())
        ]
        (HERE / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
