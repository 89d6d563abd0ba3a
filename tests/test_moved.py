"""Module paths of the last release still import, and are the modules that are there now."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import warnings

import pytest

import aspk.costs
import aspk.testing
from aspk import study, tables
from aspk.util.moved import MOVED


def test_every_old_path_is_the_new_module_and_says_so():
    """In a process of its own: here, some of them may have been imported before."""
    code = f"""
import importlib, sys, warnings
for old, new in {dict(MOVED)!r}.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(old)
    assert module is importlib.import_module(new) is sys.modules[old], old
    assert module.__name__ == module.__spec__.name == new, old
    told = [str(item.message) for item in caught if item.category is FutureWarning]
    assert f"{{old}} is now {{new}}; the old path will be removed in the next release" in told, (old, told)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_warning_points_at_the_line_that_imports(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import optuna\nfrom aspk.settings import Recipe\nprint(Recipe.__module__)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "aspk.spec.settings\n"
    assert "script.py:2: FutureWarning: aspk.settings is now aspk.spec.settings" in done.stderr


def test_no_path_stands_for_itself_or_for_nothing():
    assert set(MOVED) & set(MOVED.values()) == set()
    for new in set(MOVED.values()):
        assert importlib.util.find_spec(new) is not None, new


def test_names_that_moved_out_of_a_module():
    with pytest.warns(FutureWarning, match=r"aspk\.testing\.load_table is now aspk\.tables\.load_table"):
        assert aspk.testing.load_table is tables.load_table
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aspk.testing.nothing


@pytest.mark.parametrize("old", ["ClosedCost", "ClosedBudget"])
def test_names_that_changed(old):
    new = {"ClosedCost": "Cost", "ClosedBudget": "CostConstraint"}[old]
    for module, home in ((aspk, "aspk"), (aspk.costs, "aspk.costs"), (aspk.costs.known, "aspk.costs")):
        with pytest.warns(FutureWarning, match=rf"{module.__name__}\.{old} is now {home}\.{new}"):
            assert getattr(module, old) is getattr(aspk.costs, new)


def test_the_package_itself_uses_no_old_path():
    code = (
        "import warnings; warnings.simplefilter('error', FutureWarning); import aspk.cli, aspk.report.energy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        importlib.import_module("aspk.report.dashboard")


def test_names_that_are_called_otherwise():
    with pytest.warns(FutureWarning, match=r"aspk\.study\.question is now aspk\.study\.study_problem"):
        assert study.question is study.study_problem
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = study.nothing
