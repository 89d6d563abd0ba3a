"""SurrogateSampler on what Optuna's users bring: one objective, real numbers."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sampler_cases import TINY
from scipy.stats import norm

from aspk.samplers import SurrogateSampler
from aspk.samplers._acquisition import choose
from aspk.samplers._codec import ParameterCodec
from aspk.samplers._history import History
from aspk.space.operators import sample
from aspk.surrogate.encoder import Encoder
from aspk.surrogate.posterior import Posterior


def test_a_function_of_real_numbers_is_minimised(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    hartmann6 = importlib.import_module("ordinary").hartmann6  # its minimum is -3.32
    best = []
    for seed in range(4):
        study = optuna.create_study(sampler=SurrogateSampler(seed=seed))
        study.optimize(hartmann6, n_trials=40)
        best.append(study.best_value)
    assert np.mean(best) < -2.8  # of random search -1.5


class Given:
    """A model with a given posterior, shape (m, k)."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def log_feasibility(self, X):
        return np.zeros(len(X))

    def posterior(self, X):
        return Posterior(self.mean, self.std)


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5, 0.6], [0.01, 0.3]), ([0.9, 1.1], [0.01, 0.5]), ([1.2, 1.5], [0.1, 2.0])]
)
def test_an_improvement_is_one_on_what_was_observed(mean, std):
    """Not on what is promised: else a sure good candidate would count nothing beside an unsure worse one."""
    X = TINY.sample_choices(4, np.random.default_rng(0))
    observed = History(
        X=X[:2],
        values=np.array([[1.0], [2.0]]),
        directions=("minimize",),
        violation=np.zeros(2),
        pending=X[:0],
        discarded=X[:0],
    )
    z = (1.0 - np.array(mean)) / std
    gain = np.array(std) * (z * norm.cdf(z) + norm.pdf(z))
    predicted = Given(np.array(mean)[:, None], np.array(std)[:, None])
    chosen = choose(X[2:], predicted.mean, observed, predicted, 10, 1).X
    assert chosen.tolist() == [X[2 + int(gain.argmax())].tolist()]


def test_objectives_that_agree_are_improved_on_what_was_observed_too():
    """The first candidate is better than all trials in both, and more is not hoped for from it."""
    X = TINY.sample_choices(4, np.random.default_rng(0))
    values = np.array([[1.0, 1.0], [2.0, 2.0]])
    observed = History(
        X=X[:2],
        values=values,
        directions=("minimize", "minimize"),
        violation=np.zeros(2),
        pending=X[:0],
        discarded=X[:0],
    )
    mean = np.array([[0.5, 0.5], [0.6, 0.6]])
    predicted = Given(mean, np.array([[0.01, 0.01], [0.1, 0.1]]))
    assert choose(X[2:], mean, observed, predicted, 10, 1).X.tolist() == [X[2].tolist()]


def test_an_end_of_the_front_is_worth_what_lies_behind_it():
    """By hand: the reference is (1.32, 1.15), a tenth of the range behind; at (1.2, 1) the first gains 0."""
    X = TINY.sample_choices(4, np.random.default_rng(0))
    observed = History(
        X=X[:2],
        values=np.array([[0.0, 1.0], [1.0, 0.0]]),
        directions=("minimize", "minimize"),
        violation=np.zeros(2),
        pending=X[:0],
        discarded=X[:0],
    )
    mean = np.array([[1.2, -0.5], [0.9, 0.9]])  # gains of 0.12 * 0.5 and of 0.1 * 0.1
    predicted = Given(mean, np.full((2, 2), 1e-6))
    assert choose(X[2:], mean, observed, predicted, 10, 1).X.tolist() == [X[2].tolist()]


def test_what_has_many_values_may_change_fast():
    codec = ParameterCodec(
        {
            "x": FloatDistribution(0, 1),
            "y": FloatDistribution(1e-3, 1, log=True),
            "many": IntDistribution(1, 9),
            "few": IntDistribution(1, 8),
            "kind": CategoricalDistribution(["a", "b"]),
        }
    )
    X = sample(codec, 20, np.random.default_rng(0))
    (priors,) = Encoder.of(codec, None, X).priors(6, logarithm=False)
    assert np.exp(priors[3:, 0]).tolist() == pytest.approx([1, 1, 1, 3, 3, 3])
