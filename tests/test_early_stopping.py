"""Trials of several objectives that stop early: the probability, the reports, and what samplers learn."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from sampler_cases import TINY, Recording, create, values

from aspk.errors import SamplerError
from aspk.objectives import minimised
from aspk.samplers import RandomSampler, SurrogateSampler, chance_of_improvement, report, should_stop
from aspk.samplers.early import FEWEST, _nondominated_probability
from aspk.testing import FormulaEvaluator
from aspk.trials.attributes import report_to_attribute, reports_from_attributes
from aspk.util.pareto import nondominated

DIRECTIONS = ("maximize", "minimize")
EVALUATOR = FormulaEvaluator(TINY)


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 3), seed=st.integers(0, 2**20))
def test_the_probability_is_the_share_of_draws_that_nothing_dominates(k, seed):
    rng = np.random.default_rng(seed)
    points = rng.random((8, k))
    front = points[nondominated(points)]
    mean, std = rng.random(k), 0.05 + rng.random(k)
    draws = rng.normal(mean, std, size=(4000, k))
    free = ~(front[None] <= draws[:, None]).all(axis=2).any(axis=1)
    assert _nondominated_probability(mean, std, front) == pytest.approx(free.mean(), abs=0.04)


def test_reports_are_attributes_of_trials():
    assert report_to_attribute(3, [1, 2.5]) == ("aspk:report:3", [1.0, 2.5])
    held = {
        "aspk:report:3": [1.0, 2.5],
        "aspk:report:x": [1.0, 2.0],
        "aspk:report:4": [1.0],
        "other": [1.0, 2.0],
    }
    held |= {"aspk:report:5": "no", "aspk:report:6": [1.0, "2"]}
    assert reports_from_attributes(held, 2) == {3: [1.0, 2.5]}


def noisy(trial, *, bound, noise=0.01):
    """The formula's values, reported with noise on the way; stopped trials are noted with the truth."""
    final = values(EVALUATOR.evaluate([TINY.suggest(trial)])[0])
    rng = np.random.default_rng(trial.number)
    for step, share in enumerate((0.25, 0.5)):
        report(trial, [value + noise * rng.normal() / share for value in final], step)
        if bound is not None and should_stop(trial, bound=bound):
            trial.set_user_attr("truth", final)
            raise optuna.TrialPruned
    return final


def searched(bound, count=40, seed=0, kind=SurrogateSampler):
    study = create(kind(space=TINY, seed=seed))
    study.optimize(lambda trial: noisy(trial, bound=bound), n_trials=count)
    return study


def test_stopped_trials_would_not_have_improved_anything():
    study = searched(0.05, kind=RandomSampler)
    stopped = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(stopped) >= 5
    assert len(complete) >= FEWEST
    wrong = 0
    for trial in stopped:
        assert trial.values is None
        assert not trial.intermediate_values
        assert "aspk:report:0" in trial.user_attrs
        before = [one.values for one in complete if one.number < trial.number]
        both = minimised([*before, trial.user_attrs["truth"]], DIRECTIONS)
        wrong += bool(nondominated(both)[-1])
    assert wrong <= max(1, 0.15 * len(stopped))


def test_a_smaller_bound_stops_fewer():
    study = create(SurrogateSampler(space=TINY, seed=0))
    study.optimize(lambda trial: noisy(trial, bound=None), n_trials=20)
    trial = study.ask()
    TINY.suggest(trial)
    for accuracy, stops in ((0.99, False), (0.2, True)):
        report(trial, [accuracy, 0.0], 0)
        chance = chance_of_improvement(trial)
        assert 0 <= chance <= 1
        assert should_stop(trial) is stops
        assert should_stop(trial, bound=min(0.999, chance + 1e-9)) or chance > 0.99
        assert not should_stop(trial, bound=max(chance, 1e-300))


def test_nothing_is_stopped_before_there_is_something_to_compare_with():
    study = create(SurrogateSampler(space=TINY, seed=0))
    trial = study.ask()
    TINY.suggest(trial)
    assert chance_of_improvement(trial) is None
    report(trial, [0.0, 9.0], 0)
    assert chance_of_improvement(trial) is None
    assert not should_stop(trial)
    study.tell(trial, [0.0, 9.0])
    study.optimize(lambda trial: noisy(trial, bound=None), n_trials=FEWEST - 1)
    trial = study.ask()
    TINY.suggest(trial)
    report(trial, [0.0, 9.0], 0)
    assert should_stop(trial)
    report(trial, [0.0, 9.0], 7)  # a step that no other trial has
    assert not should_stop(trial)


def test_one_objective_and_bounds_that_trials_break():
    study = create(SurrogateSampler(seed=0), directions=("minimize",))
    for number in range(FEWEST):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        report(trial, [number + 0.1], 0)
        trial.set_constraint("broken", 1.0)
        study.tell(trial, float(number))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    report(trial, [5.0], 0)
    assert chance_of_improvement(trial) == 1.0  # nothing feasible yet
    best = study.ask()
    best.suggest_float("x", 0, 1)
    study.tell(best, 0.0)  # feasible, and better than what is predicted for the trial
    assert should_stop(trial)


def test_samplers_learn_from_stopped_trials():
    study = searched(None, 10)
    parameters, distributions = study.trials[0].params, study.trials[0].distributions
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.PRUNED,
            params=parameters,
            distributions=distributions,
            user_attrs=dict([report_to_attribute(0, [0.3, -1.0])]),
        )
    )
    sampler = Recording(space=TINY, seed=0)
    sampler.ask_batch(study, 1)
    history = sampler.history
    assert history.pruned.tolist() == [False] * 10 + [True]
    assert history.std.shape == (11, 2)
    assert (history.std[:10] == 0).all()
    assert (history.std[10] > 0).all()
    assert len(history.discarded) == 0
    best = history.values[:10].min(axis=0)
    assert (history.values[10] >= best).all()
    surrogate = SurrogateSampler(space=TINY, seed=0)
    assert surrogate.ask_batch(study, 1)
    assert ("failure" in surrogate._fits) is False


def test_wrong_reports_and_bounds_are_refused():
    study = create(SurrogateSampler(space=TINY, seed=0))
    trial = study.ask()
    with pytest.raises(SamplerError, match=r"report of \[1.0\]: expected 2 finite numbers"):
        report(trial, [1.0], 0)
    with pytest.raises(SamplerError, match="expected 2 finite numbers"):
        report(trial, [1.0, float("nan")], 0)
    for step in (-1, True, 0.5):
        with pytest.raises(SamplerError, match="expected a whole number of at least 0"):
            report(trial, [1.0, 2.0], step)
    for bound in (0, 1, True, "0.1"):
        with pytest.raises(SamplerError, match="expected a probability between 0 and 1"):
            should_stop(trial, bound=bound)
