"""Without a search space too, what a trial is proposed is known at once, and remembered if it fails."""

from __future__ import annotations

import copy
import json
import time

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sampler_cases import MAKERS, Recording, every_sampler

from aspk.samplers import RandomSampler
from aspk.trials.attributes import proposal_from_attributes, proposal_to_attributes

KINDS = ["a", "b", "c"]


def values(width, kind):
    return (width - 7) ** 2 + (kind == "a"), abs(width - 12) + (kind == "b")


def create(sampler, **options):
    return optuna.create_study(directions=["minimize"] * 2, sampler=sampler, **options)


def points(trials):
    return {(trial.params.get("width"), trial.params.get("kind")) for trial in trials}


def started(sampler, count=10, **options):
    """A study in which that many different trials are complete."""
    study = create(sampler, **options)
    for number in range(count):
        study.enqueue_trial({"width": 3 * number, "kind": KINDS[number % 3]})
    study.optimize(lambda trial: values(*both(trial)), count)
    return study


def both(trial):
    return trial.suggest_int("width", 0, 30), trial.suggest_categorical("kind", KINDS)


@every_sampler
def test_trials_side_by_side_differ_before_they_have_their_last_parameter(make):
    study = started(make(seed=0))
    for _ in range(3):
        trials = [study.ask() for _ in range(8)]
        widths = [trial.suggest_int("width", 0, 30) for trial in trials]
        kinds = [trial.suggest_categorical("kind", KINDS) for trial in trials]
        for trial, width, kind in zip(trials, widths, kinds, strict=True):
            study.tell(trial, values(width, kind))
    assert len(points(study.trials)) == len(study.trials) == 34


@every_sampler
def test_threads_differ_while_something_slow_stands_between_two_suggestions(make):
    def objective(trial):
        width = trial.suggest_int("width", 0, 30)
        time.sleep(0.002)
        return values(width, trial.suggest_categorical("kind", KINDS))

    study = started(make(seed=0))
    study.optimize(objective, n_trials=24, n_jobs=6)
    assert len(points(study.trials)) == 34


def test_another_process_knows_it_too(tmp_path):
    """A storage keeps it: nothing of the first sampler's memory is needed."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = started(MAKERS["nsga2"](seed=0), storage=url, study_name="s")
    asked = study.ask()
    width = asked.suggest_int("width", 0, 30)
    sampler = Recording(population_size=8, seed=0)
    other = both(optuna.load_study(storage=RDBStorage(url), study_name="s", sampler=sampler).ask())
    (pending,) = sampler.history.pending
    kind = asked.suggest_categorical("kind", KINDS)
    assert pending.tolist() == [KINDS.index(kind), width]  # by name
    assert other != (width, kind)


def test_enqueued_and_suggested_values_win_over_the_proposal():
    sampler = Recording(population_size=8, seed=0)
    study = started(sampler)
    study.enqueue_trial({"width": 29})
    fixed = study.ask()
    fixed.suggest_categorical("kind", KINDS)
    both(study.ask())
    assert [x[1] for x in sampler.history.pending] == [29]
    assert fixed.suggest_int("width", 0, 30) == 29
    study.tell(fixed, state=TrialState.FAIL)


@pytest.mark.parametrize("error", [MemoryError, optuna.TrialPruned])
@pytest.mark.parametrize("make", [*MAKERS.values(), RandomSampler], ids=[*MAKERS, "random"])
def test_a_point_that_ends_halfway_is_not_proposed_again(make, error):
    """Nothing is complete but the start: without a memory the same point would come for ever."""

    def objective(trial):
        if trial.suggest_int("width", 0, 30) < 31:
            raise error
        trial.suggest_categorical("kind", KINDS)

    study = started(make(seed=0))
    study.optimize(objective, n_trials=40, catch=(MemoryError,))
    proposed = [proposal_from_attributes(trial.system_attrs) for trial in study.trials[10:]]
    assert len({tuple(sorted(point.items())) for point in proposed}) == 40
    before = {(3.0 * number, float(number % 3)) for number in range(10)}
    assert not before & {(point["width"], point["kind"]) for point in proposed}
    twin = copy.deepcopy(study)
    twin.sampler = make(seed=0)
    study.sampler = make(seed=0)
    assert study.ask().suggest_int("width", 0, 30) == twin.ask().suggest_int("width", 0, 30)


def test_what_fails_halfway_is_learnt():
    """Failures stand apart from the best: hardly more of them than random search has."""

    def objective(trial):
        width = trial.suggest_int("width", 0, 30)
        if width < 11:
            raise MemoryError
        return (width - 20) ** 2 + 0.1 * KINDS.index(trial.suggest_categorical("kind", KINDS))

    for seed in range(3):
        study = optuna.create_study(sampler=MAKERS["surrogate"](seed=seed))
        study.optimize(objective, n_trials=30, catch=(MemoryError,))
        assert sum(trial.state == TrialState.FAIL for trial in study.trials) < 15
        assert study.best_params["width"] == 20


@given(st.dictionaries(st.text(max_size=40), st.floats(allow_nan=False, allow_infinity=False), max_size=60))
def test_proposals_survive_in_pieces_that_every_storage_takes(parameters):
    attributes = proposal_to_attributes(parameters)
    assert max(len(json.dumps(value)) for value in attributes.values()) <= 2045
    assert proposal_from_attributes(attributes | {"other": 1}) == parameters


@pytest.mark.parametrize(
    "damaged", [{}, {"aspk:proposal": [1]}, {"aspk:proposal": {"x": "1"}}, {"aspk:proposal:0": "{"}]
)
def test_damaged_proposals_are_none(damaged):
    assert proposal_from_attributes(damaged) == {}
