"""The ablations of ``benchmarks/search.py`` replace what they say: none searches as the whole does."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def searched(monkeypatch):
    """Networks that an ablation evaluates, in order."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    methods = importlib.import_module("search_methods")
    problems = importlib.import_module("search_problems")
    table, faeb = problems.TableProblem("fashion_shared"), problems.FaebProblem("fashion_shared", "linear")

    def networks(name, *, of_faeb=False):
        method = (methods.ABLATION | methods.FAEB_ABLATION)[name]
        return methods.run(method, faeb if of_faeb else table, 20, 1).arrays()[0]

    networks.names = [name for name in methods.ABLATION if name != methods.OURS]
    networks.ours = methods.OURS
    return networks


def test_f_aeb_as_a_whole_is_searched_otherwise(searched):
    apart, whole = (searched(name, of_faeb=True) for name in (searched.ours, "F_AEB as a whole"))
    assert not np.array_equal(apart, whole)


def test_no_ablation_searches_as_the_whole_does(searched):
    whole = searched(searched.ours)
    assert np.array_equal(whole, searched(searched.ours))
    assert len(searched.names) == 12
    for name in searched.names:
        assert not np.array_equal(whole, searched(name)), name
