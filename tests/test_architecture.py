"""The rules of the house: imports go down, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from aspk.families.registry import FAMILIES as REGISTRY
from aspk.space.genes import FAMILIES, FamilyName

PACKAGE = Path(__file__).resolve().parent.parent / "aspk"

# The trip of the data, downstairs to upstairs: a module imports only from entries before its own.
ENTRIES = [
    "errors",
    "util",
    "metrics",
    "space",
    "energy",
    "objectives",
    "spec",
    "families",
    "costs",
    "data",
    "engines",
    "training",
    "evaluation",
    "profiling",
    "surrogate",
    "trials",
    "samplers",
    "problem",
    "tables",
    "study",
    "standalone",
    "report",
    "testing",
    "__init__",
    "cli",
    "__main__",
]
PLACE = {name: order for order, name in enumerate(ENTRIES)}
MODULES = {path.stem for path in PACKAGE.glob("*.py")} | {
    path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))
}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module, or the package on the same level, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Absolute dotted names of all imports of a file, those in functions included; typing-only ones not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for statement in guard.body
        for node in ast.walk(statement)
    }
    package = ["aspk", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """The unit of aspk that an import means, None for other libraries."""
    parts = name.split(".")
    if parts[0] != "aspk":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in MODULES else "__init__"


def outside(path: Path) -> set[str]:
    """Top-level names of the libraries that a file imports."""
    return {name.split(".")[0] for name in imported(path)} - {"aspk"}


def files_of(*entries: str) -> list[Path]:
    return [path for path in FILES if unit(path) in entries]


def test_every_entry_has_its_place() -> None:
    assert set(PLACE) == MODULES, "give the new entry a place in ENTRIES and in CONTRIBUTING's map"
    assert len(ENTRIES) <= 26


def test_imports_go_down() -> None:
    upward = [
        (str(path.relative_to(PACKAGE)), target)
        for path in FILES
        for target in sorted({own(name) for name in imported(path)} - {None, unit(path)})
        if PLACE[target] >= PLACE[unit(path)]
        # the package's init makes the moved paths importable and loads everything else when it is used
        and not (unit(path) == "__init__" and target == "util")
    ]
    assert upward == []


def test_the_wheel_has_every_package() -> None:
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    named = set(tomllib.loads(text)["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert named == there | {"aspk.search_spaces", "aspk.studies"}


LIGHT = ("errors", "util", "metrics", "space", "costs", "energy", "objectives", "spec")
HEAVY = {"torch", "pymoo", "optuna", "sklearn", "spikingjelly"}


@pytest.mark.parametrize(
    ("entries", "forbidden"),
    [
        (LIGHT, HEAVY),
        (("families", "data", "engines", "training", "evaluation", "profiling"), {"optuna", "pymoo"}),
        (("surrogate", "trials", "samplers"), {"torch", "pymoo", "spikingjelly"}),
    ],
    ids=["light", "networks", "search"],
)
def test_heavy_libraries_stay_upstairs(entries: tuple[str, ...], forbidden: set[str]) -> None:
    found = {str(path.relative_to(PACKAGE)): outside(path) & forbidden for path in files_of(*entries)}
    assert len(found) >= 5
    assert {name: libraries for name, libraries in found.items() if libraries} == {}


def test_search_sees_only_the_protocol() -> None:
    for path in files_of("trials", "samplers", "problem"):
        assert {own(name) for name in imported(path)} & {"families", "engines", "training"} == set(), path
        assert "aspk.evaluation.supernet" not in {name.rpartition(".")[0] for name in imported(path)}, path


def families_asked_for(source: str) -> Iterator[str]:
    """Comparisons of a network's family, or with the name of one, in a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.Match):
            asked = any(
                isinstance(p, ast.Attribute) and p.attr == "family" for p in ast.iter_child_nodes(node)
            )
            named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & set(FAMILIES)
            if asked or (isinstance(node, ast.Compare) and named):
                yield ast.unparse(node)


def test_only_the_families_know_which_there_are() -> None:
    assert len(list(families_asked_for("if settings.family == name: pass\nx = kind != 'spikformer'"))) == 2
    elsewhere = [path for path in FILES if unit(path) != "families"]
    asked = {str(path): list(families_asked_for(path.read_text(encoding="utf-8"))) for path in elsewhere}
    assert {path: found for path, found in asked.items() if found} == {}
    modules = {family.module.partition(":")[0].rpartition(".")[0] for family in REGISTRY.values()}
    for path in elsewhere:
        own_modules = {name for name in imported(path) for module in modules if name.startswith(module)}
        assert own_modules == set(), path


def test_every_family_is_registered() -> None:
    assert set(REGISTRY) == set(FAMILIES) == set(get_args(FamilyName))
    folders = {path.parent.name for path in (PACKAGE / "families").glob("*/program.py")}
    assert set(REGISTRY) == folders


def test_the_map_of_the_house_shows_every_entry() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^    (\w+)(?:/|\.py) ", text, re.MULTILINE))
    assert shown == set(ENTRIES) - {"__init__", "__main__"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [("pymoo", {"problem"}), ("sklearn", {"surrogate", "data"}), ("torchvision", {"data", "training"})],
)
def test_libraries_with_one_home(library: str, homes: set[str]) -> None:
    assert {unit(path) for path in FILES if library in outside(path)} <= homes


def test_files_stay_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}


def loaded(statement: str) -> set[str]:
    """Top-level modules after a statement ran in a fresh interpreter; its own output is dropped."""
    code = f"import sys\ntry:\n    {statement}\nfinally:\n    print('|', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.rpartition("|")[2].split()}


HELP = "import runpy; sys.argv = ['aspk', '--help']; runpy.run_module('aspk', run_name='__main__')"


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import aspk", {"torch", "sklearn", "pymoo", "optuna"}),
        (HELP, {"torch", "sklearn", "pymoo"}),
        ("import aspk.samplers", {"torch", "pymoo", "sklearn", "scipy"}),
        ("import aspk.report", {"torch", "pymoo", "sklearn"}),
    ],
    ids=["aspk", "help", "samplers", "report"],
)
def test_imports_are_light(statement: str, forbidden: set[str]) -> None:
    names = loaded(statement)
    assert "aspk" in names
    assert names & forbidden == set()


SKIPPING = """
import pytest
@pytest.mark.browser
def test_skipped():
    pytest.skip("no Chromium")
@pytest.mark.browser
def test_expected_failure():
    pytest.xfail("known")
def test_ordinary_skip():
    pytest.skip("something else")
@pytest.mark.slow
def test_slow():
    pass
"""


def outcome(folder: Path, *options: str, strict: str = "") -> str:
    """The last line of pytest on SKIPPING under this suite's conftest.py."""
    (folder / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (folder / "test_it.py").write_text(SKIPPING)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  browser:\n  slow:\n  gpu:\n  postgres:\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env=os.environ | {"ASPK_REQUIRE_ALL": strict},
    )
    return done.stdout.strip().splitlines()[-1]


def test_where_everything_is_installed_a_skip_is_a_failure(tmp_path: Path) -> None:
    assert outcome(tmp_path).startswith("2 skipped, 1 deselected, 1 xfailed")
    assert outcome(tmp_path, strict="1").startswith("1 failed, 1 skipped, 1 deselected, 1 xfailed")
    assert outcome(tmp_path, "-m", "slow").startswith("1 passed, 3 deselected")
