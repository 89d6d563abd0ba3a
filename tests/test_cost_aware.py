"""Improvement per unit of cost: what is chosen, and where the cost comes from."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import TINY, create, networks, search, values

from aspk.costs.known import Cost
from aspk.errors import SamplerError, StudyError
from aspk.samplers import SurrogateSampler, gene_distribution
from aspk.samplers._acquisition import choose
from aspk.samplers._history import History
from aspk.samplers._model import StudyModel, fit_study
from aspk.samplers._pool import unseen
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import make_sampler, run_study, study_problem
from aspk.surrogate.composition import KnownModel
from aspk.testing import FormulaEvaluator
from aspk.util.pareto import hypervolume, nondominated

EVALUATOR = FormulaEvaluator(TINY)
OPERATIONS = Cost("operations", TINY, (1, 8, 8), 10)
MODEL = StudyModel([KnownModel(lambda X, k=k: truth(X)[:, k]) for k in range(2)])


def truth(X):
    found = [values(m) for m in EVALUATOR.evaluate([TINY.decode(x) for x in X])]
    return np.array([[-accuracy, energy] for accuracy, energy in found])


def history(X, **options):
    return History(
        X=X,
        values=truth(X),
        directions=("maximize", "minimize"),
        violation=np.zeros(len(X)),
        pending=X[:0],
        discarded=X[:0],
        **options,
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_the_largest_improvement_per_unit_of_cost_is_chosen(seed):
    rng = np.random.default_rng(seed)
    X = TINY.sample_choices(60, rng)
    known, pool = X[:10], X[unseen(TINY, X, set())]
    price = dict(zip(map(tuple, pool.tolist()), np.exp(rng.normal(size=len(pool))), strict=True))

    def cost(X):
        return np.array([price[tuple(x)] for x in X.tolist()])

    chosen = choose(pool, truth(pool), history(known), MODEL, len(pool), 1, cost)
    both = np.concatenate([truth(known), truth(pool)])
    best = both[nondominated(both)]
    reference = best.max(axis=0) + 0.1 * np.ptp(best, axis=0)
    before = hypervolume(truth(known), reference)
    gains = np.array([hypervolume(np.vstack([truth(known), y]), reference) - before for y in truth(pool)])
    assert (gains / cost(pool)).max() == pytest.approx(float(chosen.gains[0]) * before / cost(chosen.X)[0])


def test_equal_costs_change_nothing():
    found = []
    for options in ({}, {"cost": lambda config: 2.0}, {"cost": "no such attribute"}):
        study = create(SurrogateSampler(space=TINY, seed=0, **options))
        found.append([trial.params for trial in search(study, study.sampler, 14, batch=2).trials])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", [float, np.float32, np.int64])
def test_numbers_of_numpy_are_costs_too(kind, caplog):
    """All others were as if no trial had said what it cost."""

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_user_attr("ms", kind(10 ** (4 * y)))
        return (x - 0.3) ** 2 + 0.01 * (y - 0.5) ** 2

    study = optuna.create_study(sampler=SurrogateSampler(seed=0, cost="ms"))
    study.optimize(objective, n_trials=20)
    assert np.mean([trial.params["y"] for trial in study.trials[8:]]) < 0.3
    assert not caplog.records


def test_a_cost_that_no_trial_carries_is_said(caplog):
    study = create(SurrogateSampler(space=TINY, seed=0, cost="milliseconds"))
    search(study, study.sampler, 12, batch=2)
    assert [record.message for record in caplog.records] == [
        "cost='milliseconds' is left out: no trial has a user attribute of that name above 0"
    ]


def test_cheap_networks_are_preferred():
    spent = []
    for options in ({}, {"cost": OPERATIONS}, {"cost": OPERATIONS.__call__}):
        study = create(SurrogateSampler(space=TINY, seed=0, **options))
        search(study, study.sampler, 14, batch=1)
        spent.append(sum(map(OPERATIONS, networks(study))))
    assert spent[1] < 0.9 * spent[0]
    assert spent[1] == spent[2]


def test_a_learnt_cost_is_predicted():
    X = TINY.sample_choices(40, np.random.default_rng(0))
    price = OPERATIONS.of(X)
    price[:3] = np.nan  # trials that do not say
    found = history(X, attributes={"price": price})
    options = {"known": {}, "composites": {}, "free": None, "first": 6, "fits": {}}
    model = fit_study(TINY, found, cost="price", **options)
    others = TINY.sample_choices(60, np.random.default_rng(1))
    assert model.cost.predict(others) == pytest.approx(OPERATIONS.of(others), rel=0.5)
    assert fit_study(TINY, found, **options).cost is None


def with_durations(seconds):
    study = create(None)
    distributions = {gene.parameter: gene_distribution(gene) for gene in TINY.genes}
    start = datetime.datetime(2026, 1, 1)
    for x, took in zip(TINY.sample_choices(len(seconds), np.random.default_rng(0)), seconds, strict=True):
        params = TINY.parameters(x)
        trial = optuna.trial.create_trial(
            params=params,
            distributions={name: distributions[name] for name in params},
            values=values(EVALUATOR.evaluate([TINY.decode(x)])[0]),
        )
        trial.datetime_start, trial.datetime_complete = start, start + datetime.timedelta(seconds=took)
        study.add_trial(trial)
    return study


def test_seconds_are_those_of_the_trials():
    sampler, taken = SurrogateSampler(space=TINY, seed=0, cost="seconds"), [0.5 + n for n in range(8)]
    study = with_durations(taken)
    sampler.ask_batch(study, 1)
    known = sampler._archive.history(study, study.trials[:8])
    assert known.attributes["seconds"].tolist() == taken
    trial = study.ask()
    TINY.suggest(trial)
    trial.set_user_attr("seconds", 99.0)
    study.tell(trial, [0.5, 1.0])
    finished = [one for one in study.trials if one.state.is_finished()]
    assert sampler._archive.history(study, finished).attributes["seconds"][-1] == 99.0


def test_wrong_costs_are_refused():
    with pytest.raises(SamplerError, match="cost=3: expected a function of a network, or a user attribute"):
        SurrogateSampler(space=TINY, cost=3)
    with pytest.raises(SamplerError, match="cost= are functions of a network: expected space="):
        SurrogateSampler(cost=OPERATIONS)
    study = create(SurrogateSampler(space=TINY, seed=0, cost=lambda config: -1.0))
    with pytest.raises(SamplerError, match="cost= gives -1 for a network: expected numbers above 0"):
        search(study, study.sampler, 8, batch=1)


def test_a_study_file_names_the_cost(tmp_path):
    spec = StudySpec(
        name="formula",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=tmp_path,
        evaluations=8,
        batch=4,
        sampler_options={"cost": "energy_mj"},
    )
    problem = study_problem(spec, EVALUATOR, classes=10)
    assert make_sampler(spec, problem)._cost == "energy_mj"
    assert run_study(spec, problem, progress=False).finished
    shaped = dataclasses.replace(problem, shape=(1, 8, 8))
    named = dataclasses.replace(spec, sampler_options={"cost": "operations", "pool_size": 50})
    sampler = make_sampler(named, shaped)
    assert sampler._cost == OPERATIONS
    assert sampler._pool_size == 50
    with pytest.raises(StudyError, match="cost=3: expected a function"):
        make_sampler(dataclasses.replace(spec, sampler_options={"cost": 3}), shaped)
