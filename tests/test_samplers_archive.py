"""A sampler's memory of finished trials changes nothing but the time it takes."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from optuna.trial import TrialState
from sampler_cases import MAKERS, TINY, create, every_sampler, search, values

from aspk.samplers import report
from aspk.samplers._archive import Archive
from aspk.samplers._codec import SpaceCodec
from aspk.study.storage import open_storage
from aspk.testing import FormulaEvaluator


class Counting(SpaceCodec):
    """Counts the trials that are read."""

    reads = 0

    def read(self, parameters, attributes, seed):
        Counting.reads += 1
        return super().read(parameters, attributes, seed)


def counted_reads(ask):
    before = Counting.reads
    ask()
    return Counting.reads - before


def assert_equal(one, two):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, dict):
            assert a.keys() == b.keys(), field.name
            assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in a), field.name
        else:
            assert np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b, field.name


@every_sampler
@pytest.mark.parametrize("storage", ["memory", "sqlite", "journal"])
def test_a_finished_trial_is_read_once(make, storage, tmp_path):
    names = {"sqlite": f"sqlite:///{tmp_path / 'study.db'}", "journal": str(tmp_path / "study.log")}
    address = open_storage(names[storage]) if storage in names else None
    sampler = make(space=TINY, seed=0)
    sampler._space = Counting(TINY)
    study = search(create(sampler, storage=address), sampler, 40)
    sampler.ask_batch(study, 1)
    assert counted_reads(lambda: search(study, sampler, 1)) <= 1  # the one that runs
    running = sampler.ask_batch(study, 3)
    assert counted_reads(lambda: sampler.ask_batch(study, 1)) <= 5  # four run, and one has finished since
    for trial in running:
        study.tell(trial, state=TrialState.FAIL)
    assert counted_reads(lambda: TINY.suggest(study.ask())) <= 7


def test_memory_and_a_new_reader_agree_whatever_finished_first():
    study = create(sampler := MAKERS["nsga2"](space=TINY, seed=0))
    archive, copying = (Archive(SpaceCodec(TINY), 0, lambda trial: trial.values[0]) for _ in range(2))
    rng = np.random.default_rng(0)
    evaluator = FormulaEvaluator(TINY)
    running = []
    for _ in range(12):
        running += sampler.ask_batch(study, 3)
        for _ in range(2):
            trial, luck = running.pop(rng.integers(len(running))), rng.random()
            measured = values(*evaluator.evaluate([TINY.suggest(trial)]))
            report(trial, [value * rng.normal(1, 0.1) for value in measured], 1)
            if luck < 0.4:
                study.tell(trial, state=TrialState.FAIL if luck < 0.2 else TrialState.PRUNED)
            else:
                trial.set_constraint("energy", float(rng.normal()))
                study.tell(trial, measured)
        trials = study.get_trials(deepcopy=False)
        fresh = Archive(SpaceCodec(TINY), 0, lambda trial: trial.values[0])
        assert_equal(archive.history(study, trials), fresh.history(study, trials))
        # a storage that makes its trials anew
        assert_equal(copying.history(study, copy.deepcopy(trials)), fresh.history(study, trials))


def test_another_study_is_noticed():
    archive = Archive(SpaceCodec(TINY), 0, None)
    for seed, count in ((0, 20), (1, 20), (2, 5), (0, 30)):
        study = search(create(sampler := MAKERS["nsga2"](space=TINY, seed=seed)), sampler, count)
        trials = study.get_trials(deepcopy=False)
        history = archive.history(study, trials)
        assert_equal(history, Archive(SpaceCodec(TINY), 0, None).history(study, trials))
        assert len(history) == count


@every_sampler
def test_a_sampler_is_copied_without_its_memory_and_goes_on_the_same(make):
    study = search(create(sampler := make(space=TINY, seed=0)), sampler, 20)
    copied = pickle.loads(pickle.dumps(sampler))
    assert copied._archive is None
    twin = copy.deepcopy(study)
    (mine,), (its,) = sampler.ask_batch(study, 1), copied.ask_batch(twin, 1)
    assert mine.params == its.params
