"""How well a surrogate predicts networks that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import joblib
import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau
from sklearn.base import clone

from aspk.errors import SamplerError, WorkerError
from aspk.space import IntArray
from aspk.space.operators import Genotypes
from aspk.surrogate.estimator import AccuracySurrogate
from aspk.util.pareto import FloatArray


@dataclass(frozen=True)
class Skill:
    """Quality of predictions of unseen networks, for one training-set size over several draws.

    Attributes:
        size: number of networks learnt from.
        tau: Kendall's tau between predictions and evaluations, median over the draws.
        low: first quartile of tau.
        high: third quartile.
        error: root mean squared error in units of the targets' standard deviation, mean over the draws.
        within_1: share of evaluations within one predicted standard deviation, noise included; ideally 0.68.
        within_2: share within two; ideally 0.95.
    """

    size: int
    tau: float
    low: float
    high: float
    error: float
    within_1: float
    within_2: float


def rank_correlation(
    surrogate: AccuracySurrogate, X: Genotypes, y: npt.ArrayLike, rng: np.random.Generator, *, folds: int = 5
) -> float:
    """Kendall's tau between targets and cross-validated predictions: how well unseen networks are ordered.

    Args:
        surrogate: what is validated; it is copied, not fitted.
        X: genotypes, shape (n, G), n >= 2 ``folds``.
        y: targets, shape (n,).
        rng: deals the rows to the folds.
        folds: number of folds, at least 2.

    Raises:
        SamplerError: too few rows.
    """
    targets = np.asarray(y, dtype=float)
    if folds < 2 or len(targets) < 2 * folds:
        raise SamplerError(
            f"{len(targets)} networks in {folds} folds: expected at least 2 in each of 2 or more"
        )
    fold = rng.permutation(np.arange(len(targets)) % folds)
    predicted = np.empty(len(targets))
    for index in range(folds):
        rest = fold != index
        predicted[~rest] = clone(surrogate).fit(X[rest], targets[rest]).predict(X[~rest])
    return float(kendalltau(targets, predicted).statistic)


def learning_curve(
    surrogate: AccuracySurrogate,
    X: Genotypes,
    y: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    sizes: Sequence[int],
    draws: int = 10,
    workers: int = 1,
) -> list[Skill]:
    """Skill on left-out networks, as a function of the number of networks learnt from.

    Args:
        surrogate: what is validated; it is copied, not fitted.
        X: genotypes, shape (n, G).
        y: targets, shape (n,).
        rng: draws the training sets.
        sizes: sizes of training sets, each at least 2 and at least 5 below n.
        draws: random training sets of each size.
        workers: processes that fit side by side; their number changes no result.

    Raises:
        SamplerError: a size is out of range.
        WorkerError: one of the processes was killed.
    """
    targets = np.asarray(y, dtype=float)
    wrong = [size for size in sizes if not 2 <= size <= len(targets) - 5]
    if wrong or draws < 1:
        raise SamplerError(
            f"training sets of {wrong} of {len(targets)} networks, {draws} draws: "
            "expected sizes from 2 to 5 below their number, and at least one draw"
        )
    parts = [np.split(rng.permutation(len(targets)), [size]) for size in sizes for _ in range(draws)]
    jobs = (joblib.delayed(_row)(surrogate, X, targets, known, rest) for known, rest in parts)
    try:
        rows = joblib.Parallel(n_jobs=workers)(jobs)
    except BrokenProcessPool:
        raise WorkerError(
            f"a fitting process was killed: use fewer workers than {workers} if memory ran out"
        ) from None
    found = np.reshape(rows, (len(sizes), draws, 4))
    return [_skill(size, row) for size, row in zip(sizes, found, strict=True)]


def _row(
    surrogate: AccuracySurrogate, X: Genotypes, y: FloatArray, known: IntArray, rest: IntArray
) -> tuple[float, float, float, float]:
    """Results for one training set and the rest: tau, error, and shares within one and two deviations."""
    fitted = clone(surrogate).fit(X[known], y[known])
    mean, std = fitted.predict(X[rest], return_std=True, include_noise=True)
    z = np.abs(y[rest] - mean) / np.maximum(std, 1e-12)
    error = np.sqrt(np.square(y[rest] - mean).mean()) / max(float(y.std()), 1e-12)
    tau = np.nan_to_num(kendalltau(y[rest], mean).statistic)  # tau is NaN for equal predictions
    return float(tau), float(error), float((z < 1).mean()), float((z < 2).mean())


def _skill(size: int, rows: FloatArray) -> Skill:
    tau, error, one, two = rows.T
    low, middle, high = np.quantile(tau, [0.25, 0.5, 0.75])
    return Skill(size, *map(float, (middle, low, high, error.mean(), one.mean(), two.mean())))
