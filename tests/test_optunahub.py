"""The packages load from the local folder, as OptunaHub's registry would load them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import optuna
import pytest

from aspk.tables import TabularEvaluator, build_table, shipped_tables
from aspk.testing import FormulaEvaluator

optunahub = pytest.importorskip("optunahub")
REGISTRY = Path(__file__).resolve().parent.parent / "hub" / "package"
PACKAGES = sorted(str(path.parent.relative_to(REGISTRY)) for path in REGISTRY.glob("*/*/__init__.py"))


def load(package):
    return optunahub.load_local_module(package, registry_root=str(REGISTRY))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_the_front_matter_of_the_registry(package):
    text = (REGISTRY / package / "README.md").read_text()
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert front is not None
    keys = [line.partition(":")[0] for line in front[1].splitlines()]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert load(package).__all__


@pytest.mark.parametrize("package", [name for name in PACKAGES if name.startswith("samplers/")])
def test_samplers_search(package):
    module = load(package)
    sampler = getattr(module, module.__all__[0])(seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(lambda trial: ((x := trial.suggest_float("x", 0, 1)), (1 - x) ** 2), n_trials=20)
    assert len(study.best_trials) > 5


@pytest.mark.parametrize("name", shipped_tables())
def test_a_shipped_table_is_a_problem(name):
    problem = load("benchmarks/aspk_tables").Problem(name)
    sampler = load("samplers/aspk_surrogate").SurrogateSampler(space=problem.space, seed=0)
    study = optuna.create_study(sampler=sampler, directions=problem.directions)
    study.optimize(problem, n_trials=15)
    (front, *_) = study.best_trials
    assert problem.evaluate(front.params) == tuple(front.values)
    assert problem.hypervolume() > 0


def test_a_problem_of_an_own_table(tmp_path):
    from spaces import SMALL

    assert build_table(SMALL, {"search": FormulaEvaluator(SMALL)}, tmp_path / "own.npz", progress=False)
    problem = load("benchmarks/aspk_tables").Problem(str(tmp_path / "own.npz"))
    assert isinstance(problem, optunahub.benchmarks.BaseProblem)
    table = TabularEvaluator(tmp_path / "own.npz")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), directions=problem.directions)
    study.optimize(problem, n_trials=10)
    for trial in study.trials:
        (metrics,) = table.evaluate([SMALL.decode(SMALL.from_parameters(trial.params))])
        assert trial.values == [metrics.accuracy, metrics.energy_mj]
    flat = {name: distribution.low for name, distribution in _numeric(problem.search_space).items()}
    assert np.isfinite(problem.evaluate({**flat, **_first(problem.search_space)})).all()
    assert len(problem.reference_point) == 2


def _numeric(space):
    return {name: d for name, d in space.items() if hasattr(d, "low")}


def _first(space):
    return {name: d.choices[0] for name, d in space.items() if hasattr(d, "choices")}
