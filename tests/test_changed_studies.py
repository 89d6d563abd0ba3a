"""A study that changes goes on learning: older trials count where they fit, else a warning says so."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from sampler_cases import MAKERS, Recording, every_sampler

from aspk.samplers import RandomSampler, SurrogateSampler


def objective(trial, high=2.0):
    x = trial.suggest_float("x", 0, high) if high else 0.0
    return (x - 1.7) ** 2 + abs(trial.suggest_float("y", 0, 1) - 0.3)


def widened(study):
    study.optimize(lambda trial: objective(trial, 1.0), n_trials=15)


def narrowed(study):
    study.optimize(lambda trial: objective(trial, 9.0), n_trials=15)


def added(study):
    study.optimize(lambda trial: objective(trial, None), n_trials=15)


def baseline(study):
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=5.0))


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (widened, ""),
        (narrowed, "have no parameters or some outside their range"),
        (added, "15 trials before parameter x, which is new; defaults={'x': ...}"),
        (baseline, "1 trials, which have no parameters"),
    ],
)
def test_the_search_goes_on(before, said, caplog):
    """By chance one in ten is near: it was that for good."""
    study = optuna.create_study(sampler=SurrogateSampler(seed=0))
    before(study)
    study.optimize(objective, n_trials=60)
    near = sum(abs(trial.params["x"] - 1.7) < 0.1 for trial in study.trials[-30:])
    assert near > 15
    told = [record.message for record in caplog.records if "not learnt from" in record.message]
    assert len(told) == bool(said)
    assert said in "".join(told)


@every_sampler
def test_populations_keep_what_fits(make):
    """The trials of the narrower range are parents too."""
    sampler = Recording(population_size=8, seed=0)
    study = optuna.create_study(sampler=make(seed=0))
    widened(study)
    study.optimize(objective, n_trials=3)
    study.sampler = sampler
    study.optimize(objective, n_trials=1)
    assert len(sampler.history) == 18
    assert sampler.history.whole


@pytest.mark.parametrize("make", [*MAKERS.values(), RandomSampler], ids=[*MAKERS, "random"])
def test_points_of_a_coarser_grid_are_tried_beside_older_trials(make):
    """A trial at 58 counted as one at 60, which was never tried; those that had been came again and again."""
    study = optuna.create_study(sampler=make(seed=0))
    study.optimize(lambda trial: abs(trial.suggest_int("x", 0, 99) - 41), n_trials=12)
    study.optimize(lambda trial: abs(trial.suggest_int("x", 0, 90, step=10) - 41), n_trials=10)
    assert {trial.params["x"] for trial in study.trials} >= set(range(0, 91, 10))


def test_what_a_trial_does_not_use_need_not_fit_a_narrowed_range():
    """Trials of the other kind were lost, since what was proposed for them has a rate, too."""

    def by_kind(trial, high):
        kind, x = trial.suggest_categorical("kind", ["a", "b"]), trial.suggest_float("x", 0, 1)
        return x + (trial.suggest_float("rate", 0, high) if kind == "b" else 0.3)

    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(lambda trial: by_kind(trial, 10.0), n_trials=40)
    study.optimize(lambda trial: by_kind(trial, 5.0), n_trials=6)
    study.sampler = sampler = Recording(population_size=8, seed=0)
    study.optimize(lambda trial: by_kind(trial, 5.0), n_trials=1)
    assert len(sampler.history) == sum(trial.params.get("rate", 0) <= 5 for trial in study.trials[:-1])


def test_defaults_say_what_a_new_parameter_stood_at():
    for defaults, known in ({"x": 0.0}, 22), ({}, 7), ({"x": 99.0}, 7), ({"other": 1}, 7):
        sampler = Recording(population_size=8, seed=0, defaults=defaults)
        study = optuna.create_study(sampler=sampler)
        added(study)
        study.optimize(objective, n_trials=8)
        assert len(sampler.history) == known


def test_a_range_that_changes_again_and_again_is_drawn_by_itself():
    """It depends on something else; the other parameter is still searched."""

    def changing(trial):
        y = trial.suggest_float("y", 0, 1)
        x = trial.suggest_float("x", 0, 1 + trial.number % 3)
        return abs(y - 0.3) + 0.01 * x

    for make in MAKERS.values():
        study = optuna.create_study(sampler=make(seed=0))
        study.optimize(changing, n_trials=60)
        near = sum(abs(trial.params["y"] - 0.3) < 0.1 for trial in study.trials[-20:])
        assert near > 6
        assert all(trial.params["x"] <= 1 + trial.number % 3 for trial in study.trials)


def test_each_thing_that_is_left_out_is_said(caplog):
    """Only the first was: a baseline without parameters hid that a parameter is new."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    baseline(study)
    study.optimize(lambda trial: objective(trial, None), n_trials=3)
    added(study)
    study.optimize(objective, n_trials=15)
    told = [record.message for record in caplog.records if "not learnt from" in record.message]
    assert [text.partition(",")[0].partition(" ")[2] for text in told] == [
        "learnt from: 1 trials",
        "learnt from: 18 trials before parameter x",
    ]


def test_it_is_said_that_a_parameter_is_no_longer_searched(caplog):
    """One trial that was added with another range was enough, without a word."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(objective, n_trials=3)
    held = {"x": FloatDistribution(0, 3), "y": FloatDistribution(0, 1)}
    study.add_trial(create_trial(params={"x": 1.0, "y": 0.5}, distributions=held, value=1.0))
    study.optimize(objective, n_trials=3)
    told = [record.message for record in caplog.records if "drawn by itself" in record.message]
    assert told == ["parameter 'x' is drawn by itself: its range changes to and fro"]
