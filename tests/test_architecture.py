"""The rules of the house: imports go down, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "aspk"

# A module imports from lower floors, and on its own floor only from modules listed before it.
FLOORS = [
    [
        "errors",
        "passwords",
        "files",
        "shipped",
        "interrupt",
        "local_server",
        "config",
        "space",
        "space_file",
        "metrics",
        "pareto",
    ],
    [
        "energy",
        "cost",
        "objectives",
        "composite",
        "scalarization",
        "operators",
        "closed_cost",
        "closed_forms",
        "free_features",
        "evaluation",
        "result_cache",
        "attributes",
        "settings",
        "recipe_file",
    ],
    ["device", "data", "native", "supernet", "exported", "engines", "checkpoint", "training", "profiling"],
    ["evaluator", "surrogate", "ranking"],
    ["trials", "problem", "samplers"],
    [
        "study_file",
        "storage",
        "retry",
        "workers",
        "study",
        "export",
        "prediction",
        "report",
        "dry_run",
        "retraining",
        "headline",
        "energy_report",
        "dashboard",
        "stock",
    ],
    [
        "__init__",
        "testing",
        "arguments",
        "training_commands",
        "model_commands",
        "headline_commands",
        "live_commands",
        "search_commands",
        "cli",
        "__main__",
    ],
]
PLACE = {name: (floor, order) for floor, names in enumerate(FLOORS) for order, name in enumerate(names)}
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


def files_of(*floors: int) -> list[Path]:
    return [path for path in FILES if unit(path) in PLACE and PLACE[unit(path)][0] in floors]


def test_every_module_has_a_floor() -> None:
    assert MODULES - set(PLACE) == set(), "give the new module a place in FLOORS and in the house's plan"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = unit(path)
    targets = {own(name) for name in imported(path)} - {None, here}
    upward = sorted(target for target in targets if target is not None and PLACE[target] >= PLACE[here])
    assert upward == []


@pytest.mark.parametrize(
    ("floors", "forbidden"),
    [((0, 1), {"torch", "pymoo", "optuna", "sklearn", "spikingjelly"}), ((2,), {"optuna", "pymoo"})],
)
def test_low_floors_are_light(floors: tuple[int, ...], forbidden: set[str]) -> None:
    found = {str(path.relative_to(PACKAGE)): outside(path) & forbidden for path in files_of(*floors)}
    assert len(found) >= 5
    assert {name: libraries for name, libraries in found.items() if libraries} == {}


def test_search_sees_only_the_protocol() -> None:
    for path in files_of(4):
        assert {own(name) for name in imported(path)} & {"supernet", "evaluator"} == set(), path


@pytest.mark.parametrize(
    ("library", "homes"),
    [("pymoo", {"problem"}), ("sklearn", {"surrogate", "data"}), ("torchvision", {"data", "training"})],
)
def test_libraries_with_one_home(library: str, homes: set[str]) -> None:
    assert {unit(path) for path in FILES if library in outside(path)} <= homes


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


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
        ("import aspk.samplers", {"torch", "pymoo"}),
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
