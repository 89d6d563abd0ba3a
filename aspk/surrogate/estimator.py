"""The public predictor: scikit-learn's conventions around the model of a search."""

from __future__ import annotations

from collections.abc import Sequence
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
from aspk.surrogate.encoder import Encoder
from aspk.surrogate.model import Logarithm, ProcessModel, fit
from aspk.surrogate.posterior import GaussianPosterior
from aspk.surrogate.removed import check_model, renamed
from aspk.util.pareto import FloatArray


class AccuracySurrogate(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts accuracy, or another number, of networks from genotypes, with a standard deviation.

    It is a Gaussian process with a length scale for each feature, and a linear trend in the features that are
    known without evaluating a network.

    Args:
        genome: the search space, which turns genotypes into features and knows which genes are in use; None
            uses the columns of ``X`` as they are, scaled to unit range. With a
            :class:`~aspk.space.SearchSpace`, the process starts from transfer priors from other spiking
            transformers, see :mod:`aspk.surrogate.priors`.
        features: what else is known about a network without evaluating it: functions from a
            :class:`~aspk.space.genes.SubnetConfig` to a few numbers, or ``"operations"``, see
            :class:`~aspk.costs.features.LogOperations`. None means the operations if ``genome`` is a
            :class:`~aspk.space.SearchSpace`, else no features.
        model: an option of the last release, of which only ``"process"`` is left; it warns.
        logarithm: whether the logarithm of the targets is learnt; ``auto`` decides by the evidence if
            all targets are above 0.
        random_state: an option of the last release's trees; it has no effect.
        folds: number of parts of the training set that are left out in turn to find out by how much the
            standard deviations are too small, since a model fitted to few networks fits them too well. This
            costs one more fit for each part; with 0, or fewer than two networks in each part, the standard
            deviations are the model's own. A search does not use it.

    Attributes:
        logarithm_: whether the logarithm is learnt.
        std_factor_: the factor that the model's standard deviations are multiplied by, at least 1.
        n_features_in_: number of genes.
    """

    def __init__(
        self,
        genome: Genome | None = None,
        *,
        features: Sequence[FreeFeature | Literal["operations"]] | FreeFeatures | None = None,
        model: str | None = None,
        logarithm: Logarithm = "auto",
        random_state: int | None = None,
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
            ValueError: there are too few rows, a number is not finite, or not above 0 with
                ``logarithm=True``, or the model was removed.
            SamplerError: features are given without a search space, or are not finite numbers.
        """
        rows, targets = self._validated(X, y)
        check_model(self.model)
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds={self.folds!r}: expected 0, or at least 2")
        _check_positive(targets, needed=self.logarithm is True)
        model = self._fitted(rows, targets)
        self.std_factor_ = self._found_std_factor(rows, targets)
        self._model = replace(model, std_factor=self.std_factor_)
        self.logarithm_ = model.scale.logarithm
        return self

    def update(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learn from other data with the hyperparameters that ``fit`` found, at a fraction of its cost.

        Args:
            X: genotypes, shape (n, G), n >= 2.
            y: targets, shape (n,), finite; above 0 if ``logarithm_``.

        Raises:
            ValueError: there are too few rows, or a number is not finite, or not above 0.
        """
        check_is_fitted(self)
        rows, targets = self._validated(X, y)
        _check_positive(targets, needed=self.logarithm_)
        self._model = self._model.condition_on(rows, targets)
        return self

    def predict(
        self, X: npt.ArrayLike, return_std: bool = False, include_noise: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Predicted targets, and their standard deviation with ``return_std``.

        Args:
            X: genotypes, shape (m, G).
            return_std: whether to return the standard deviation as well.
            include_noise: whether it is the standard deviation of an evaluation, including what the
                features do not explain, or of the value behind it.

        Returns:
            Mean of shape (m,), or mean and standard deviation. If the logarithm is learnt, the mean is that
            of the logarithm, transformed back: the median of the target.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        if not return_std:
            return self._model.predict(rows)
        posterior = self._model.posterior(rows)
        found = posterior.with_noise if include_noise else posterior
        return found.mean, found.std

    def posterior(self, X: npt.ArrayLike) -> GaussianPosterior:
        """The posterior of networks, which can be conditioned on some of them.

        Args:
            X: genotypes, shape (m, G).
        """
        check_is_fitted(self)
        return self._model.posterior(validate_data(self, X, dtype=np.float64, reset=False))

    @property
    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it."""
        check_is_fitted(self)
        return self._model.leave_one_out

    def _fitted(self, rows: FloatArray, targets: FloatArray) -> ProcessModel:
        encode = Encoder.of(self.genome, _free_features(self.genome, self.features), rows)
        return fit(encode, rows, targets, logarithm=self.logarithm)

    def _found_std_factor(self, rows: FloatArray, targets: FloatArray) -> float:
        """Root mean square error on left-out parts, in predicted standard deviations; at least 1."""
        if self.folds == 0 or len(rows) < 2 * self.folds:
            return 1.0
        fold, squares = np.arange(len(rows)) % self.folds, np.zeros(len(rows))
        for out in (fold == index for index in range(self.folds)):
            model = self._fitted(rows[~out], targets[~out])
            if not model.scale.logarithm or (targets[out] > 0).all():
                squares[out] = np.square(model.posterior(rows[out]).scores(targets[out]))
        return max(1.0, float(np.sqrt(squares.mean())))

    # ------------------------------------------------------------------ names of the last release

    def joint(self, X: npt.ArrayLike) -> GaussianPosterior:
        """:meth:`posterior` by its old name."""
        renamed("joint", "posterior")
        return self.posterior(X)

    @property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """:attr:`leave_one_out` by its old name."""
        renamed("left_out", "leave_one_out")
        return self.leave_one_out

    @property
    def doubt_(self) -> float:
        """:attr:`std_factor_` by its old name."""
        renamed("doubt_", "std_factor_")
        return self.std_factor_

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


def _check_positive(targets: FloatArray, *, needed: bool) -> None:
    """Raise :class:`ValueError` for targets without the logarithm that is learnt: predictions were NaN."""
    if needed and not (targets > 0).all():
        raise ValueError(f"y has {targets.min():g}, and its logarithm is learnt: expected numbers above 0")
