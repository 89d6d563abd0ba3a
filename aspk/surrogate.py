"""A predictor of objective values from genotypes (scikit-learn), with its own doubt."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from aspk.errors import SamplerError
from aspk.operators import Genome, Genotypes
from aspk.pareto import FloatArray

_LENGTHS = (0.35, 0.7, 1.4, 2.8)  # length scales to choose from, in units of the median distance
_JITTER = 1e-8
_NOISES = (1e-4, 1e-2, 1e-1)  # noise variances to choose from, in units of the target's variance


def features(genome: Genome, X: Genotypes) -> FloatArray:
    """Genotypes as numbers that a regression can use, shape (n, d).

    Ordered genes and real coordinates become one number in -0.5..0.5, others one column for each choice.
    A gene that a network does not use is 0 in all its columns, the middle of an ordered one.
    """
    active = genome.active(X)
    columns = []
    for gene, cardinality in enumerate(genome.cardinalities):
        x = np.asarray(X[:, gene], dtype=float)
        if cardinality == 1:
            continue
        if genome.ordered[gene]:
            parts = (x / max(int(cardinality) - 1, 1) - 0.5)[:, None]
        else:  # two different choices are at distance 1, as the ends of an ordered gene
            parts = (x[:, None] == np.arange(cardinality)) / np.sqrt(2.0)
        columns.append(np.where(active[:, gene, None], parts, 0.0))
    return np.hstack(columns) if columns else np.zeros((len(X), 0))


class AccuracySurrogate:
    """Gaussian process on genotypes: accuracy, or several objectives at once.

    A Matérn-5/2 kernel with one length scale for all features. Length scale and noise are those of a small
    grid around the median distance with the highest marginal likelihood: a gradient search for them takes
    seconds and gains nothing at a few hundred points.
    """

    def __init__(self, genome: Genome) -> None:
        """Make a surrogate for genotypes of ``genome``."""
        self._genome = genome
        self._process: Any = None
        self._mean: FloatArray = np.zeros(0)
        self._scale: FloatArray = np.ones(0)

    def fit(self, X: Genotypes, y: npt.ArrayLike) -> AccuracySurrogate:
        """Learn from evaluated networks.

        Args:
            X: genotypes, shape (n, G), n >= 2.
            y: targets, shape (n,) or (n, k), finite.

        Returns:
            Itself.

        Raises:
            SamplerError: too few rows, a target that is not finite, or genotypes that have no feature.
        """
        from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415 - slow to import
        from sklearn.gaussian_process.kernels import Matern, WhiteKernel  # noqa: PLC0415

        targets = np.asarray(y, dtype=float).reshape(len(X), -1)
        inputs = features(self._genome, X)
        if len(X) < 2 or not np.isfinite(targets).all() or not inputs.shape[1]:
            raise SamplerError(
                f"a surrogate needs two networks, finite targets and a gene with a choice; "
                f"got {len(X)} networks, {np.isfinite(targets).all(axis=1).sum()} of them with finite targets"
            )
        self._mean, deviation = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        normal = (targets - self._mean) / self._scale
        with _one_thread():
            length, noise = _most_likely(inputs, normal)
            kernel = Matern(length, nu=2.5) + WhiteKernel(noise)
            process = GaussianProcessRegressor(kernel, alpha=_JITTER, optimizer=None)
            self._process = process.fit(inputs, normal)
        return self

    @overload
    def predict(self, X: Genotypes, *, return_std: Literal[False] = False) -> FloatArray: ...

    @overload
    def predict(self, X: Genotypes, *, return_std: Literal[True]) -> tuple[FloatArray, FloatArray]: ...

    def predict(
        self, X: Genotypes, *, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predicted targets, and the standard deviation of the noise-free value if asked for.

        Args:
            X: genotypes, shape (m, G).
            return_std: whether to return the standard deviation as well.

        Returns:
            Mean of shape (m, k), or mean and standard deviation.

        Raises:
            SamplerError: the surrogate was not fitted.
        """
        if self._process is None:
            raise SamplerError("the surrogate was not fitted: call fit first")
        inputs = features(self._genome, X)
        shape = (len(X), len(self._mean))
        with _one_thread():
            mean, std = self._process.predict(inputs, return_std=True)
        if not return_std:
            return np.asarray(self._mean + self._scale * mean.reshape(shape))
        noise = self._process.kernel_.k2.noise_level
        std = np.sqrt(np.maximum(np.square(std.reshape(shape)) - noise, 0.0))
        return np.asarray(self._mean + self._scale * mean.reshape(shape)), np.asarray(self._scale * std)


def _one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one core: these matrices gain nothing from more, and waiting threads cost a lot."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def _most_likely(inputs: FloatArray, normal: FloatArray) -> tuple[float, float]:
    """Length scale and noise variance of the grid with the highest marginal likelihood.

    ln p = sum over targets of -(y^T K^-1 y) / 2 - ln|K| / 2 + const (Rasmussen and Williams 2006, eq. 2.30).
    """
    from scipy.linalg import LinAlgError, cholesky, solve_triangular  # noqa: PLC0415 - slow to import
    from scipy.spatial.distance import pdist, squareform  # noqa: PLC0415

    distances = pdist(inputs)
    different = distances[distances > 0]
    median = float(np.median(different)) if len(different) else 1.0
    best, choice = -np.inf, (median, _NOISES[-1])
    for length in median * np.array(_LENGTHS):
        scaled = np.sqrt(5.0) * squareform(distances) / length
        matern = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        for noise in _NOISES:
            try:
                lower = cholesky(matern + (noise + _JITTER) * np.eye(len(matern)), lower=True)
            except LinAlgError:  # nearly equal rows: too smooth a kernel for so little noise
                continue
            whitened = solve_triangular(lower, normal, lower=True)
            fit = -0.5 * np.square(whitened).sum()
            likelihood = fit - normal.shape[1] * np.log(np.diag(lower)).sum()
            if likelihood > best:
                best, choice = likelihood, (float(length), noise)
    return choice


def rank_correlation(
    genome: Genome, X: Genotypes, y: npt.ArrayLike, rng: np.random.Generator, *, folds: int = 5
) -> float:
    """Kendall's tau between targets and cross-validated predictions: how well unseen networks are ordered.

    Args:
        genome: the networks' space.
        X: genotypes, shape (n, G), n >= 2 ``folds``.
        y: targets, shape (n,).
        rng: deals the rows to the folds.
        folds: number of folds, at least 2.

    Raises:
        SamplerError: too few rows.
    """
    from scipy.stats import kendalltau  # noqa: PLC0415 - slow to import

    targets = np.asarray(y, dtype=float)
    if folds < 2 or len(targets) < 2 * folds:
        raise SamplerError(
            f"{len(targets)} networks in {folds} folds: expected at least 2 in each of 2 or more"
        )
    fold = rng.permutation(np.arange(len(targets)) % folds)
    predicted = np.empty(len(targets))
    for index in range(folds):
        rest = fold != index
        surrogate = AccuracySurrogate(genome).fit(X[rest], targets[rest])
        predicted[~rest] = surrogate.predict(X[~rest])[:, 0]
    return float(kendalltau(targets, predicted).statistic)
