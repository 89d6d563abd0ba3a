"""The public predictor: scikit-learn's conventions around the regressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from aspk.costs.features import FreeFeature, FreeFeatures
from aspk.errors import SamplerError
from aspk.space import SearchSpace
from aspk.space.operators import Genome
from aspk.surrogate.models import MODELS
from aspk.surrogate.predictor import (
    Encoder,
    JointPrediction,
    Logarithm,
    Model,
    Predictor,
    agreement,
    candidates,
)
from aspk.util.pareto import FloatArray


class AccuracySurrogate(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts accuracy, or another number, of networks from their genotypes, and how sure it is.

    Args:
        genome: the search space, which turns genotypes into features and knows which genes are in use; None
            takes the columns of ``X`` as they are, scaled to unit range. With a
            :class:`~aspk.space.SearchSpace`, a process begins with what other spiking transformers taught,
            see :mod:`aspk.surrogate.experience`.
        features: what else is known of a network without evaluating it: functions of a
            :class:`~aspk.space.genes.SubnetConfig` to a few numbers, or ``"operations"``, see
            :class:`~aspk.costs.features.LogOperations`. None takes the operations where ``genome`` is a
            :class:`~aspk.space.SearchSpace`, else nothing.
        model: ``process``: a Gaussian process with a length scale for each feature and a linear trend in
            what is known of a network without evaluating it. ``linear``: Bayesian
            regression on features, squares and products. ``trees``: extremely randomised trees. ``auto``:
            whichever orders observations best that are left out (Kendall's tau).
        logarithm: whether the logarithm of the targets is learnt; ``auto`` asks the evidence where all
            targets are above 0.
        random_state: seed of the trees.
        folds: parts of the training set that are left out in turn to find out by how much the doubts are
            too small: what is fitted to few networks believes in it too much. That costs as many fits more;
            0, or fewer than two networks in each part, leaves them as the model says. A search does without.

    Attributes:
        model_: the model in use.
        logarithm_: whether the logarithm is learnt.
        tau_: name of each model that was tried to its Kendall's tau on observations left out.
        doubt_: by what the model's standard deviations are multiplied, at least 1.
        n_features_in_: number of genes.
    """

    def __init__(
        self,
        genome: Genome | None = None,
        *,
        features: Sequence[FreeFeature | Literal["operations"]] | FreeFeatures | None = None,
        model: Model = "process",
        logarithm: Logarithm = "auto",
        random_state: int = 0,
        folds: int = 5,
    ) -> None:
        self.genome = genome
        self.features = features
        self.model = model
        self.logarithm = logarithm
        self.random_state = random_state
        self.folds = folds

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
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds={self.folds!r}: expected 0, or at least 2")
        found = self._candidates(rows, targets, self.model)
        self.tau_ = {name: agreement(predictor, targets) for name, predictor in found.items()}
        self.model_: Model = max(found, key=lambda name: self.tau_[name])
        self.doubt_ = self._found_doubt(rows, targets)
        self._predictor = replace(found[self.model_], doubt=self.doubt_)
        self.logarithm_ = self._predictor.scale.logarithm
        return self

    def update(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from other data, with the model, the scale's kind and the hyperparameters found by ``fit``.

        It costs a small part of ``fit``.

        Args:
            X: genotypes, shape (n, G), n >= 2.
            y: targets, shape (n,), finite; above 0 if ``logarithm_``.
        """
        check_is_fitted(self)
        rows, targets = self._validated(X, y)
        self._predictor = self._predictor.updated(rows, targets, seed=self.random_state)
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
        if not return_std:
            return self._predictor.mean(rows)
        return self._predictor.predict(rows, include_noise=include_noise)

    def joint(self, X: npt.ArrayLike) -> JointPrediction:
        """A prediction of several networks that can be told of some of them."""
        check_is_fitted(self)
        return self._predictor.joint(validate_data(self, X, dtype=np.float64, reset=False))

    @property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it."""
        check_is_fitted(self)
        return self._predictor.left_out

    def _candidates(self, rows: FloatArray, targets: FloatArray, model: Model) -> Mapping[Model, Predictor]:
        encode = Encoder.of(self.genome, _free_features(self.genome, self.features), rows)
        return candidates(encode, rows, targets, model, self.logarithm, self.random_state)

    def _found_doubt(self, rows: FloatArray, targets: FloatArray) -> float:
        """Root mean square of the errors in parts left out, in predicted standard deviations; at least 1."""
        if self.folds == 0 or len(rows) < 2 * self.folds:
            return 1.0
        fold, squares = np.arange(len(rows)) % self.folds, np.zeros(len(rows))
        for out in (fold == index for index in range(self.folds)):
            (predictor,) = self._candidates(rows[~out], targets[~out], self.model_).values()
            if not predictor.scale.logarithm or (targets[out] > 0).all():
                squares[out] = np.square(predictor.scores(rows[out], targets[out]))
        return max(1.0, float(np.sqrt(squares.mean())))

    def _validated(self, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        rows, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if self.genome is not None and rows.shape[1] != len(self.genome.cardinalities):
            raise ValueError(
                f"X has {rows.shape[1]} columns, expected {len(self.genome.cardinalities)} genes"
            )
        return rows, np.asarray(targets, dtype=float)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401  # scikit-learn's own class of tags
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # its tests have 10 noise features for 50 rows
        return tags


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
