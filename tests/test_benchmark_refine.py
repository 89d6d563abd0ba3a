"""``benchmarks/refine.py`` on a table that lacks some of its space's networks."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from aspk.tables import TrainedTable

SUPERNETS, WITHOUT = ("aspk refine (own)", "aspk refine (own), early stops"), ("random", "NSGA-II")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("refine")


@pytest.mark.parametrize("name", [*SUPERNETS, *WITHOUT, "surrogate without supernet"])
def test_methods_train_only_what_is_in_the_table(benchmark, name):
    table = TrainedTable("cifar_trained")
    problem = benchmark.Training(table, 0)
    ledger = benchmark.run(benchmark.methods(problem)[name], problem, 14, seed=3)
    trained, _ = ledger.arrays()
    listed = set(map(table.space.key, table.networks))
    assert len(table.networks) < table.space.size
    assert {table.space.key(x) for x in trained} <= listed
    assert len(trained) + ledger._extra >= 12


def test_a_whole_table_has_no_constraint(benchmark):
    problem = benchmark.Training(TrainedTable("digits_trained"), 0)
    assert not problem.constraints
    assert not any(problem.listed(problem.space.decode(x)) for x in problem.table.networks[:20])
