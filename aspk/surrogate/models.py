"""Regressions that an :class:`~aspk.surrogate.AccuracySurrogate` chooses from, on standardised targets."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from scipy.stats import kendalltau
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import PolynomialFeatures

from aspk.space import IntArray
from aspk.surrogate.process import Priors, Process, most_probable
from aspk.util.pareto import FloatArray

_TREES = 100
Prediction = tuple[FloatArray, FloatArray]


class Regression(Protocol):
    """A fitted regression."""

    @property
    def noise(self) -> float:
        """Variance of what the features do not explain."""
        ...

    def predict(self, inputs: FloatArray) -> Prediction:
        """Expected value and standard deviation of the noise-free value at each row, shape (m,) each."""
        ...

    @property
    def left_out(self) -> Prediction:
        """What observations alone predict for one that is left out, noise included, shape (n,) each."""
        ...


class LinearModel:
    """Bayesian linear regression on the features, their squares and products, noise and prior learnt."""

    def __init__(self, inputs: FloatArray, targets: FloatArray) -> None:
        self._terms = PolynomialFeatures(degree=2, include_bias=False)
        self._inputs, self._targets = self._terms.fit_transform(inputs), targets
        self._ridge = BayesianRidge().fit(self._inputs, targets)

    @property
    def noise(self) -> float:
        """See :class:`Regression`."""
        return float(1.0 / self._ridge.alpha_)

    def predict(self, inputs: FloatArray) -> Prediction:
        """See :class:`Regression`."""
        mean, std = self._ridge.predict(self._terms.transform(inputs), return_std=True)
        return np.asarray(mean), np.sqrt(np.maximum(np.square(std) - self.noise, 1e-12))

    @cached_property
    def left_out(self) -> Prediction:
        """See :class:`Regression`; e_i / (1 - H_ii) with the ridge's hat matrix H."""
        mean, std = self._ridge.predict(self._inputs, return_std=True)
        leverage = np.clip((np.square(std) - self.noise) / self.noise, 0.0, 1e6)  # H_ii = x Σ x / noise
        leverage = np.minimum(leverage, 1.0 - 1e-6)
        return self._targets - (self._targets - mean) / (1 - leverage), np.sqrt(self.noise / (1 - leverage))


class TreesModel:
    """Extremely randomised trees; their spread is the doubt. Each observation is out of some trees' bag."""

    def __init__(self, inputs: FloatArray, targets: FloatArray, seed: int) -> None:
        self._targets = targets
        forest = ExtraTreesRegressor(_TREES, bootstrap=True, oob_score=len(inputs) > 9, random_state=seed)
        self._forest = forest.fit(inputs, targets)

    @cached_property
    def noise(self) -> float:
        """See :class:`Regression`; the half of what is wrong out of the bag."""
        return float(np.square(self._targets - self.left_out[0]).mean() / 2)

    def predict(self, inputs: FloatArray) -> Prediction:
        """See :class:`Regression`."""
        each = np.array([tree.predict(inputs) for tree in self._forest.estimators_])
        return each.mean(axis=0), np.maximum(each.std(axis=0), 1e-6)

    @cached_property
    def left_out(self) -> Prediction:
        """See :class:`Regression`."""
        mean = np.asarray(getattr(self._forest, "oob_prediction_", np.full(len(self._targets), 0.0)))
        mean = np.where(np.isfinite(mean), mean, 0.0)
        return mean, np.full(len(mean), max(float((self._targets - mean).std()), 1e-6))


def fitted(
    name: str,
    inputs: FloatArray,
    targets: FloatArray,
    seed: int,
    trended: int = 0,
    priors: Priors | None = None,
    extra: FloatArray | None = None,
    scales: IntArray | None = None,
) -> Regression:
    """The regression of a name in :data:`MODELS`.

    Args:
        name: the name.
        inputs: features, shape (n, d).
        targets: standardised values, shape (n,).
        seed: of the trees.
        trended: the last ``trended`` features of a process have a linear trend.
        priors: of a process, see :func:`~aspk.surrogate.process.most_probable`.
        extra: variances of targets beside the noise, shape (n,), of a process; others take them as equal.
        scales: features of a process that share a length, see
            :func:`~aspk.surrogate.process.most_probable`.
    """
    if name == "linear":
        return LinearModel(inputs, targets)
    if name == "trees":
        return TreesModel(inputs, targets, seed)
    found = most_probable(inputs, targets, trended, priors, extra, scales)
    return Process(inputs, targets, found, trended=trended, extra=extra)


MODELS: tuple[Literal["process", "linear", "trees"], ...] = ("process", "linear", "trees")


def rank_agreement(model: Regression, targets: FloatArray) -> float:
    """Kendall's tau between targets and their predictions when they are left out; -1 if undefined."""
    tau = float(kendalltau(targets, model.left_out[0]).statistic)
    return tau if np.isfinite(tau) else -1.0
