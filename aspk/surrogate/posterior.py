"""The posterior of networks under a model: a process, a known function, or a composition of these.

The terms are those of Bayesian optimisation: a *model* has a *posterior* given the trials, and a posterior
can be *conditioned on* an evaluation that is still to come (a fantasy), as in the choice of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy.special import log_ndtr

from aspk.space.operators import Genotypes
from aspk.surrogate.scale import Scale
from aspk.util.pareto import FloatArray

_LEAST_VARIANCE = 1e-12  # of standardised values: anything below is rounding


@dataclass(frozen=True)
class Posterior:
    """Mean and standard deviation of the values behind the evaluations of m networks.

    The base class is the posterior of known values: no evaluation changes it.

    Attributes:
        mean: shape (m,), or (m, k) for k objectives. If the logarithm is learnt, it is the median.
        std: of the same shape, without the noise of an evaluation; 0 where the values are known.
    """

    mean: FloatArray
    std: FloatArray

    def condition_on(self, row: int) -> Posterior:
        """The posterior once network ``row`` is evaluated and gives its mean.

        Means stay, and standard deviations shrink according to the correlation with that network.
        """
        return self

    def at(self, scores: FloatArray) -> FloatArray:
        """Values that lie ``scores`` (q,) standard deviations from the mean, shape (m, q)."""
        return self.mean[:, None] + self.std[:, None] * scores


class Model(Protocol):
    """What predicts a number from genotypes: a Gaussian process, a known function, or a composition."""

    def predict(self, X: Genotypes) -> FloatArray:
        """Point predictions, shape (m,): cheap, for the thousands of candidates that evolution looks at."""
        ...

    def posterior(self, X: Genotypes) -> Posterior:
        """The posterior of candidates of shape (m, G), which costs the square of m to condition."""
        ...


@dataclass(frozen=True)
class GaussianPosterior(Posterior):
    """The posterior of a Gaussian process, which is Gaussian on the scale of its targets.

    Attributes:
        latent: means of the standardised values f, shape (m,).
        variance: their variances, shape (m,).
        noise: variance of an evaluation around f.
        std_factor: the factor that all standard deviations are multiplied by, see
            :attr:`AccuracySurrogate.std_factor_`.
        scale: from standardised values back to the targets.
        covariance: gives cov(f), shape (m, m); costly, and not needed to rank single networks.
    """

    latent: FloatArray
    variance: FloatArray
    noise: float
    std_factor: float
    scale: Scale
    covariance: Callable[[], FloatArray]

    @classmethod
    def of(
        cls,
        latent: FloatArray,
        variance: FloatArray,
        noise: float,
        std_factor: float,
        scale: Scale,
        covariance: Callable[[], FloatArray],
    ) -> Self:
        """A posterior from the latent moments."""
        std = std_factor * np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
        return cls(*scale.original(latent, std), latent, variance, noise, std_factor, scale, covariance)

    def condition_on(self, row: int) -> GaussianPosterior:
        """See :class:`Posterior`: cov - c cᵀ / (c_row + noise), with c the column of the network in cov."""
        covariance = self.covariance()
        column = covariance[:, row]
        rest = covariance - np.outer(column, column) / (column[row] + self.noise + 1e-12)
        return self.of(self.latent, np.diag(rest), self.noise, self.std_factor, self.scale, lambda: rest)

    def at(self, scores: FloatArray) -> FloatArray:
        """See :class:`Posterior`: quantiles, including those of a log-normal value."""
        std = self.std_factor * np.sqrt(np.maximum(self.variance, _LEAST_VARIANCE))
        standard = self.latent[:, None] + std[:, None] * scores
        return self.scale.original(standard, np.zeros_like(standard))[0]

    @property
    def with_noise(self) -> Posterior:
        """The posterior of an evaluation; its deviation includes what the features do not explain."""
        return Posterior(*self.scale.original(self.latent, self._std_with_noise))

    @property
    def _std_with_noise(self) -> FloatArray:
        return np.asarray(self.std_factor * np.sqrt(self.variance + self.noise))

    def scores(self, values: FloatArray | float) -> FloatArray:
        """By how many standard deviations, noise included, values lie above the mean, shape (m,)."""
        standard = self.scale.standard(np.asarray(values))
        return np.asarray((standard - self.latent) / np.maximum(self._std_with_noise, 1e-12))

    def log_probability(self, at_most: float) -> FloatArray:
        """Logarithm of the probability that an evaluation gives at most a value, shape (m,)."""
        return np.asarray(log_ndtr(self.scores(at_most)))


@dataclass(frozen=True)
class CombinedPosterior(Posterior):
    """A posterior computed from several posteriors of the same networks.

    Attributes:
        parts: these posteriors, which are independent of each other.
        combine: gives mean and standard deviation from them.
    """

    parts: Sequence[Posterior]
    combine: Callable[[Sequence[Posterior]], tuple[FloatArray, FloatArray]]

    @classmethod
    def of(
        cls,
        parts: Sequence[Posterior],
        combine: Callable[[Sequence[Posterior]], tuple[FloatArray, FloatArray]],
    ) -> Self:
        """A posterior from its parts."""
        return cls(*combine(parts), parts, combine)

    def condition_on(self, row: int) -> CombinedPosterior:
        """See :class:`Posterior`: each part is conditioned."""
        return self.of([part.condition_on(row) for part in self.parts], self.combine)
