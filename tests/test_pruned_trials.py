"""Pruned trials teach what they reported: less than complete ones, and more than nothing."""

from __future__ import annotations

import math
import random

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from sampler_cases import TINY, Recording

import aspk
from aspk.samplers import (
    EvolutionarySampler,
    NSGA2Sampler,
    RandomSampler,
    SurrogateSampler,
    gene_distribution,
)
from aspk.samplers._pruned import completed

BEST = [0.3, 0.7, 0.5, 0.2]


def points(*rows):
    """Values, mask and curves of (reports by step, final value or None)."""
    values = [final if final is not None else reports[max(reports)] for reports, final in rows]
    return np.array(values), np.array([final is None for _, final in rows]), [dict(r) for r, _ in rows]


# ------------------------------------------------------------------ the expected value


def test_a_line_through_complete_trials_is_carried_on():
    """Final values are 1 + then / 2, but for +-0.1; the oracle is numpy's own regression."""
    then, final = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.6, 1.9, 2.6, 2.9])
    complete = [({0: 9.0, 1: a}, b) for a, b in zip(then, final, strict=True)]
    values, std = completed(*points(*complete, ({0: 8.0, 1: 5.0}, None), ({1: 7.0}, None)))
    line = np.polynomial.Polynomial.fit(then, final, 1)
    assert values == pytest.approx([*final, line(5.0), line(7.0)])
    assert std[:4].tolist() == [0.0] * 4
    assert 0 < std[4] < std[5]  # farther from what is known


@pytest.mark.parametrize(
    ("complete", "expected"),
    [
        ([], 7.0),
        ([({0: 1.0}, 2.0)], 7.0),  # nobody reported at step 3
        ([({3: 4.0}, 2.0)], 5.0),
        ([({3: 4.0}, 2.0), ({3: 6.0}, 2.0)], 4.0),
        ([({3: 4.0}, 2.0)] * 3, 5.0),  # no slope
        ([({3: 1.0}, 0.0), ({3: 2.0}, 5.0), ({3: 3.0}, 10.0)], 10.0),  # slope 5 counts as 1
        ([({3: 1.0}, 3.0), ({3: 2.0}, 2.0), ({3: 3.0}, 1.0)], 2.0),  # as does -1 as 0
        ([({3: math.nan}, 2.0), ({3: 4.0}, 2.0), ({3: math.inf}, 2.0)], 5.0),
    ],
)
def test_by_hand(complete, expected):
    values, std = completed(*points(*complete, ({0: 3.0, 3: 7.0}, None)))
    assert values[-1] == pytest.approx(expected)
    assert std[-1] >= 0


NUMBERS = st.floats(-1e3, 1e3) | st.sampled_from([1e308, -1e308, 5e-324])
ROWS = st.lists(
    st.tuples(st.dictionaries(st.integers(0, 3), NUMBERS, min_size=1), NUMBERS | st.none()),
    min_size=1,
    max_size=9,
)


@given(ROWS, st.randoms(use_true_random=False))
def test_never_better_than_what_is_complete_and_whatever_the_order(rows, order):
    values, std = completed(*points(*rows))
    final = [min(max(value, -1e100), 1e100) for _, value in rows if value is not None]
    assert np.isfinite(values).all()
    assert (std >= 0).all()
    assert [v for v, (_, known) in zip(values, rows, strict=True) if known is not None] == final
    assert not final or values.min() == min(final)
    places = list(range(len(rows)))
    order.shuffle(places)
    shuffled = completed(*points(*(rows[i] for i in places)))[0]
    assert shuffled == pytest.approx(values[places], rel=1e-6, abs=1e-6 * (1 + np.abs(values).max()))


# ------------------------------------------------------------------ what a sampler is given


def told(state, curve, value=None, number=0):
    parameters = TINY.parameters(TINY.sample_choices(9, np.random.default_rng(0))[number])
    distributions = {g.parameter: gene_distribution(g) for g in TINY.genes if g.parameter in parameters}
    return create_trial(
        state=state, value=value, params=parameters, distributions=distributions, intermediate_values=curve
    )


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_reports_are_values_and_trials_without_are_failed(direction, sign):
    sampler = Recording(space=TINY, seed=0)
    study = optuna.create_study(direction=direction, sampler=sampler)
    curves = [{0: 5.0}, {0: 6.0, 2: 4.0}, {}, {1: math.nan}, {0: -sign * math.inf}, {0: sign * math.inf}]
    study.add_trial(told(TrialState.COMPLETE, {0: 3.0, 2: 2.0}, 1.0))
    for number, curve in enumerate(curves, start=1):
        own = {step: sign * value for step, value in curve.items()} if number < 3 else curve
        study.add_trial(told(TrialState.PRUNED, own, number=number))
    study.trials[0].values = [sign * 1.0]
    sampler.ask_batch(study, 1)
    history = sampler.history
    assert history.pruned.tolist() == [False, True, True, True]
    assert len(history.discarded) == 3
    assert len(history.designs) == 7
    assert history.values.min() == history.values[0, 0]
    assert history.complete.tolist() == [True, False, False, False]
    assert (history.std > 0).tolist() == [False, True, True, True]


def test_of_several_objectives_a_pruned_trial_is_failed():
    sampler = Recording(space=TINY, seed=0)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    study.add_trial(told(TrialState.PRUNED, {0: 1.0}))
    sampler.ask_batch(study, 1)
    assert len(sampler.history) == 0
    assert len(sampler.history.discarded) == 1


def test_a_fitness_ranks_complete_trials_only():
    sampler = EvolutionarySampler(space=TINY, seed=0, fitness=lambda trial: trial.value, population_size=2)
    study = optuna.create_study(sampler=sampler)
    study.add_trial(told(TrialState.PRUNED, {0: 1.0}))
    study.add_trial(told(TrialState.COMPLETE, {0: 1.0}, 2.0, number=1))
    assert sampler.ask_batch(study, 2)
    assert sampler._archive.history(study, study.trials[:2]).ranks.tolist() == [1, 0]


def test_formulas_are_held_to_complete_trials_only(caplog):
    merit = aspk.Composite(parts={"part": "minimize"}, of=lambda part: 2 * part)
    for options in ({"known": {0: lambda config: float(config.embed_dim)}}, {"composites": {0: merit}}):
        sampler = SurrogateSampler(space=TINY, seed=0, **options)
        study = optuna.create_study(sampler=sampler)
        for number in range(12):
            (trial,) = sampler.ask_batch(study, 1)
            value = float(TINY.suggest(trial).embed_dim)
            trial.report(value + 7.0, 0)
            if number % 3 == 2:
                study.tell(trial, state=TrialState.PRUNED)
                continue
            trial.set_user_attr("part", value / 2)
            study.tell(trial, value)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


# ------------------------------------------------------------------ searches


def objective(trial):
    value = sum((trial.suggest_float(f"x{i}", 0, 1) - best) ** 2 for i, best in enumerate(BEST))
    for step in range(5):
        trial.report(value + 0.3 * random.Random(trial.number * 100 + step).random() / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value


def late(make, trials):
    """The mean of what the last twenty trials would have come to, in four studies."""
    values = []
    for seed in range(4):
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
        study = optuna.create_study(sampler=make(seed=seed), pruner=pruner)
        study.optimize(objective, n_trials=trials)
        for trial in study.trials[-20:]:
            values.append(sum((trial.params[f"x{i}"] - best) ** 2 for i, best in enumerate(BEST)))
    return float(np.mean(values))


def test_samplers_learn_from_pruned_trials():
    """Before, two of them were random search to the last digit for much longer."""
    by_chance = late(RandomSampler, 60)
    for make in (NSGA2Sampler, EvolutionarySampler):
        assert late(make, 60) < 0.6 * by_chance
    assert late(SurrogateSampler, 60) < 0.4 * by_chance


def test_pruned_trials_count_for_the_start():
    """All but the first are pruned: children, and no longer random networks, follow the first ten."""
    for kind in (NSGA2Sampler, EvolutionarySampler):
        sampler = kind(seed=0, population_size=10)
        study = optuna.create_study(sampler=sampler)
        study.enqueue_trial({"x": 0.0, "y": 0.0})

        def objective(trial):
            trial.report(trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), 0)
            if trial.number:
                raise optuna.TrialPruned
            return 0.0

        study.optimize(objective, n_trials=60)
        first, last = (
            np.mean([trial.params["x"] + trial.params["y"] for trial in trials])
            for trials in (study.trials[1:11], study.trials[-20:])
        )
        assert last < 0.5 * first
