"""The public predictor: scikit-learn's conventions around the regressions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from aspk.errors import SamplerError
from aspk.free_features import FreeFeature, FreeFeatures
from aspk.operators import Genome
from aspk.pareto import FloatArray
from aspk.space import SearchSpace
from aspk.surrogate.features import features
from aspk.surrogate.models import MODELS, Regression, fitted, rank_agreement
from aspk.surrogate.process import Process, spread

Model = Literal["auto", "process", "linear", "trees"]
_MOST_ASKED = 50  # rows that decide whether the logarithm is learnt
_CONSTANT = 1e-9  # relative range below which a free feature says nothing


class AccuracySurrogate(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts accuracy, or another number, of networks from their genotypes, and how sure it is.

    Args:
        genome: the search space, which turns genotypes into features and knows which genes are in use; None
            takes the columns of ``X`` as they are, scaled to unit range.
        features: what else is known of a network without evaluating it: functions of a
            :class:`~aspk.config.SubnetConfig` to a few numbers, or ``"operations"``, see
            :class:`~aspk.free_features.LogOperations`. None takes the operations where ``genome`` is a
            :class:`~aspk.space.SearchSpace`, else nothing.
        model: ``process``: a Gaussian process with a length scale for each feature and a linear trend in
            what is known of a network without evaluating it. ``linear``: Bayesian
            regression on features, squares and products. ``trees``: extremely randomised trees. ``auto``:
            whichever orders observations best that are left out (Kendall's tau).
        logarithm: whether the logarithm of the targets is learnt; ``auto`` asks the evidence where all
            targets are above 0.
        random_state: seed of the trees.

    Attributes:
        model_: the model in use.
        logarithm_: whether the logarithm is learnt.
        tau_: name of each model that was tried to its Kendall's tau on observations left out.
        n_features_in_: number of genes.
    """

    def __init__(
        self,
        genome: Genome | None = None,
        *,
        features: Sequence[FreeFeature | Literal["operations"]] | FreeFeatures | None = None,
        model: Model = "process",
        logarithm: bool | Literal["auto"] = "auto",
        random_state: int = 0,
    ) -> None:
        self.genome = genome
        self.features = features
        self.model = model
        self.logarithm = logarithm
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from evaluated networks.

        Args:
            X: genotypes, shape (n, G), n >= 2.
            y: targets, shape (n,), finite.

        Raises:
            ValueError: too few rows, a number that is not finite, or an unknown model.
            SamplerError: features of networks without a search space, or not finite numbers.
        """
        rows, targets = self._validated(X, y)
        if self.model not in ("auto", *MODELS):
            raise ValueError(f"model={self.model!r}: expected auto, {', '.join(MODELS)}")
        self._low, self._range = (
            rows.min(axis=0),
            np.where(np.ptp(rows, axis=0) > 0, np.ptp(rows, axis=0), 1.0),
        )
        self._free = _free_features(self.genome, self.features)
        self._trend = _Columns.of(self._free.of(rows.astype(np.int64))) if self._free else None
        inputs, trended = self._inputs(rows), self._trended
        with _one_thread():
            self._scale = _best_scale(inputs, targets, self.logarithm, trended)
            standard = self._scale.standard(targets)
            names = MODELS if self.model == "auto" else (self.model,)
            models = {name: fitted(name, inputs, standard, self.random_state, trended) for name in names}
            self.tau_ = {name: rank_agreement(model, standard) for name, model in models.items()}
        self.model_ = max(self.tau_, key=lambda name: self.tau_[name])
        self.logarithm_ = self._scale.logarithm
        self._regression: Regression = models[self.model_]
        return self

    def update(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from other data, with the model, the scale's kind and the hyperparameters found by ``fit``.

        It costs a tenth of ``fit``.

        Args:
            X: genotypes, shape (n, G), n >= 2.
            y: targets, shape (n,), finite; above 0 if ``logarithm_``.
        """
        check_is_fitted(self)
        rows, targets = self._validated(X, y)
        inputs = self._inputs(rows)
        self._scale = _Scale.of(targets, self.logarithm_)
        standard, old = self._scale.standard(targets), self._regression
        with _one_thread():
            if isinstance(old, Process):
                self._regression = Process(inputs, standard, old.hyperparameters, trended=self._trended)
            else:
                self._regression = fitted(self.model_, inputs, standard, self.random_state)
        return self

    def predict(
        self, X: npt.ArrayLike, return_std: bool = False, include_noise: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predicted targets, and their standard deviation if asked for.

        Args:
            X: genotypes, shape (m, G).
            return_std: whether to return the standard deviation as well.
            include_noise: whether that is of an evaluation, with what the features do not explain, or of
                the value behind it.

        Returns:
            Mean of shape (m,), or mean and standard deviation. Where the logarithm is learnt, the mean is
            that of the logarithm, brought back: the median of the target.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        with _one_thread():
            if isinstance(self._regression, Process) and not return_std:  # the doubt is what costs
                mean = self._regression.mean(self._inputs(rows))
                return self._scale.original(mean, np.zeros_like(mean))[0]
            mean, std = self._regression.predict(self._inputs(rows))
        if include_noise:
            std = np.sqrt(np.square(std) + self._regression.noise)
        mean, std = self._scale.original(mean, std)
        return (mean, std) if return_std else mean

    def joint(self, X: npt.ArrayLike) -> JointPrediction:
        """A prediction of several networks that can be told of some of them."""
        check_is_fitted(self)
        inputs = self._inputs(validate_data(self, X, dtype=np.float64, reset=False))
        with _one_thread():
            if isinstance(self._regression, Process):
                mean, covariance = self._regression.joint(inputs)
            else:
                mean, std = self._regression.predict(inputs)
                covariance = np.diag(np.square(std))
        return JointPrediction(self._scale, mean, covariance, self._regression.noise)

    @property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it."""
        check_is_fitted(self)
        return self._scale.original(*self._regression.left_out)

    def _validated(self, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        rows, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if self.genome is not None and rows.shape[1] != len(self.genome.cardinalities):
            raise ValueError(
                f"X has {rows.shape[1]} columns, expected {len(self.genome.cardinalities)} genes"
            )
        return rows, np.asarray(targets, dtype=float)

    def _inputs(self, rows: FloatArray) -> FloatArray:
        """What the regression sees: features of the genes, and behind them the free ones."""
        if self.genome is None:
            return np.asarray((rows - self._low) / self._range - 0.5)
        own = features(self.genome, rows)
        if self._free is None or self._trend is None:
            return own
        return np.hstack([own, self._trend.scaled(self._free.of(rows.astype(np.int64)))])

    @property
    def _trended(self) -> int:
        return 0 if self._trend is None else len(self._trend.kept)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401  # scikit-learn's own class of tags
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # its tests have 10 noise features for 50 rows
        return tags


class JointPrediction:
    """Predictions of several networks, which become surer as some of them are evaluated.

    Made by :meth:`AccuracySurrogate.joint`.
    """

    def __init__(self, scale: _Scale, mean: FloatArray, covariance: FloatArray, noise: float) -> None:
        self._scale, self._mean, self._covariance, self._noise = scale, mean, covariance, noise

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, shape (m,) each, as :meth:`AccuracySurrogate.predict` gives them."""
        variance = np.maximum(np.diag(self._covariance), 1e-12)
        return self._scale.original(self._mean, np.sqrt(variance))

    def expect(self, row: int) -> None:
        """Take the expected value of one network for its evaluation: means stay, doubts shrink."""
        column = self._covariance[:, row]
        self._covariance = self._covariance - np.outer(column, column) / (column[row] + self._noise + 1e-12)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks for libraries, which takes milliseconds


def _one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one core: these matrices gain nothing from more, and waiting threads cost a lot."""
    limits: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limits


def _free_features(
    genome: Genome | None, parts: Sequence[FreeFeature | Literal["operations"]] | FreeFeatures | None
) -> FreeFeatures | None:
    if isinstance(parts, FreeFeatures):
        return parts
    if isinstance(genome, SearchSpace):
        return FreeFeatures(genome, ("operations",) if parts is None else parts)
    if parts:
        raise SamplerError("features are functions of a network: expected a SearchSpace as genome")
    return None


@dataclass(frozen=True)
class _Columns:
    """Free features to unit range, its mean at 0, as the training set has them; constant ones left out."""

    kept: npt.NDArray[np.int64]
    mean: FloatArray
    range: FloatArray

    @staticmethod
    def of(table: FloatArray) -> _Columns:
        span = np.ptp(table, axis=0)
        kept = np.flatnonzero(span > _CONSTANT * (1 + np.abs(table).max(axis=0)))
        return _Columns(kept, table[:, kept].mean(axis=0), span[kept])

    def scaled(self, table: FloatArray) -> FloatArray:
        return np.asarray((table[:, self.kept] - self.mean) / self.range)


@dataclass(frozen=True)
class _Scale:
    """Targets to unit scale and back."""

    logarithm: bool
    mean: float
    deviation: float

    @staticmethod
    def of(targets: FloatArray, logarithm: bool) -> _Scale:
        values = np.log(targets) if logarithm else targets
        deviation = float(values.std())
        return _Scale(logarithm, float(values.mean()), deviation if deviation > 0 else 1.0)

    def standard(self, targets: FloatArray) -> FloatArray:
        values = np.log(targets) if self.logarithm else targets
        return np.asarray((values - self.mean) / self.deviation)

    def original(self, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centre and spread of the targets; of a log-normal one the median, and exp(m) sinh(s)."""
        mean, std = self.mean + self.deviation * mean, self.deviation * std
        if not self.logarithm:
            return mean, std
        median = np.exp(np.minimum(mean, 700.0))
        return median, median * np.sinh(np.minimum(std, 50.0))

    def log_density(self, targets: FloatArray) -> float:
        """Logarithm of the derivative of :meth:`standard`, summed over the targets."""
        jacobian = -np.log(targets).sum() if self.logarithm else 0.0
        return float(jacobian - len(targets) * np.log(self.deviation))


def _best_scale(
    inputs: FloatArray, targets: FloatArray, logarithm: bool | Literal["auto"], trended: int
) -> _Scale:
    """The scale with the most evidence; of many rows, evenly spaced ones are asked."""
    if logarithm != "auto" or not (targets > 0).all() or np.ptp(targets) == 0:
        return _Scale.of(targets, logarithm is True)
    rows = spread(len(targets), _MOST_ASKED)
    some, evidence = targets[rows], {}
    for choice in (False, True):
        scale = _Scale.of(some, choice)
        process = Process(inputs[rows], scale.standard(some), trended=trended)
        evidence[choice] = process.log_likelihood + scale.log_density(some)
    return _Scale.of(targets, evidence[True] > evidence[False])
