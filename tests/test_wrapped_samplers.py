"""Samplers that Optuna wraps around ours: what they fix is known, and no design comes twice for it."""

from __future__ import annotations

import optuna
import pytest
from optuna.samplers import PartialFixedSampler
from sampler_cases import MAKERS, TINY, create, values

from aspk.samplers import RandomSampler
from aspk.testing import FormulaEvaluator

REFERENCE = TINY.parameters(TINY.encode(TINY.reference))
FIXED = {name: value for name, value in REFERENCE.items() if not name.endswith(("v_threshold", "tau"))}


def objective(trial):
    return values(*FormulaEvaluator(TINY).evaluate([TINY.suggest(trial)]))


@pytest.mark.parametrize("make", [*MAKERS.values(), RandomSampler], ids=[*MAKERS, "random"])
def test_fixed_parameters_do_not_make_the_same_network_new(make):
    """Of the 225 networks that are left, before seven came in a hundred trials."""
    study = create(PartialFixedSampler(FIXED, make(space=TINY, seed=0)))
    study.optimize(objective, n_trials=40)
    assert all(trial.params[name] == value for trial in study.trials for name, value in FIXED.items())
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 40


def test_without_a_space_the_other_parameters_are_searched():
    study = optuna.create_study(sampler=PartialFixedSampler({"x": 1.0}, MAKERS["surrogate"](seed=0)))
    study.optimize(
        lambda trial: trial.suggest_float("x", 0, 2) + (trial.suggest_float("y", 0, 1) - 0.3) ** 2, 30
    )
    assert {trial.params["x"] for trial in study.trials} == {1.0}
    assert study.best_value < 1.001


@pytest.mark.parametrize("make", [*MAKERS.values(), RandomSampler], ids=[*MAKERS, "random"])
def test_what_was_seen_with_another_value_of_a_fixed_parameter_is_new(make):
    """The best design was left out for good, since its other parameter had been tried with kind 'a'."""

    def kinds(trial):
        worse = 5 * (trial.suggest_categorical("kind", ["a", "b"]) == "a")
        return abs(trial.suggest_int("x", 0, 20) - 7) + worse

    study = create(make(seed=0), ["minimize"])
    for x in range(10):
        study.enqueue_trial({"kind": "a", "x": x})
    study.optimize(kinds, n_trials=10)
    study.sampler = PartialFixedSampler({"kind": "b"}, make(seed=0))
    study.optimize(kinds, n_trials=21)
    assert {trial.params["kind"] for trial in study.trials[10:]} == {"b"}
    assert {trial.params["x"] for trial in study.trials[10:]} == set(range(21))
