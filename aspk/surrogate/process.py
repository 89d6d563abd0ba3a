"""A Gaussian process with one length scale for each feature.

Inputs are features with a range of about 1, shape (n, d), and targets are standardised: mean 0, variance 1.
The models of a search are conditioned again before nearly every suggestion, on up to several hundred points,
hence plain linear algebra with one Cholesky factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from aspk.util.pareto import FloatArray

JITTER = 1e-8  # added to the diagonal, since equal inputs would make the covariance singular


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the covariance k(x, x') = s f(r) + t z zᵀ, and of the noise around the process.

    Matérn 5/2: f(r) = (1 + r + r² / 3) exp(-r) with r² = 5 sum_j (x_j - x'_j)² / l_j² (Rasmussen and Williams
    2006, eq. 4.17), and z are the features that have a linear trend.

    Attributes:
        signal: variance s.
        noise: variance of an evaluation around the process: what the features do not explain.
        lengths: length scale l of each feature, shape (d,).
        trend: variance t of a slope of the linear trend.
    """

    signal: float
    noise: float
    lengths: FloatArray
    trend: float = 0.0


class Process:
    """A Gaussian process of zero mean, conditioned on observations.

    With K = k(X, X) + noise I = L Lᵀ and w = K⁻¹ y, the posterior at x has (Rasmussen and Williams 2006,
    eq. 2.25 and 2.26)

        mean k(x, X) w    and    covariance k(x, x') - (L⁻¹ k(X, x))ᵀ L⁻¹ k(X, x').

    Args:
        inputs: features X, shape (n, d).
        targets: standardised values y, shape (n,).
        hyperparameters: see :func:`aspk.surrogate.hyperparameters.most_probable`.
        trended: number of features, the last ones, that have a linear trend.
        extra: variances of the observations in addition to the noise, shape (n,); None means none.

    Raises:
        LinAlgError: equal inputs and too little noise.
    """

    def __init__(
        self,
        inputs: FloatArray,
        targets: FloatArray,
        hyperparameters: Hyperparameters,
        *,
        trended: int = 0,
        extra: FloatArray | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters
        self._trended = inputs.shape[1] - trended  # the first column that has a trend
        self._inputs, self._targets = inputs, targets
        covariance = self._kernel(inputs, inputs)
        own = self.hyperparameters.noise + JITTER
        covariance[np.diag_indices(len(inputs))] += own if extra is None else own + extra
        self._lower = cholesky(covariance, lower=True, check_finite=False)
        self._weights: FloatArray = cho_solve((self._lower, True), targets, check_finite=False)

    def mean(self, inputs: FloatArray) -> FloatArray:
        """Posterior mean at each row, shape (m,)."""
        return np.asarray(self._kernel(inputs, self._inputs) @ self._weights)

    def marginals(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and standard deviation at each row, without noise, shape (m,) each."""
        cross = self._kernel(inputs, self._inputs)
        h = self.hyperparameters
        prior = h.signal + h.trend * np.square(inputs[:, self._trended :]).sum(axis=1)
        variance = prior - np.square(self._whitened(cross)).sum(axis=0)
        return np.asarray(cross @ self._weights), np.sqrt(np.maximum(variance, 1e-12))

    def covariance(self, inputs: FloatArray) -> FloatArray:
        """Posterior covariance between the rows, without noise, shape (m, m)."""
        whitened = self._whitened(self._kernel(inputs, self._inputs))
        return self._kernel(inputs, inputs) - whitened.T @ whitened

    @cached_property
    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it.

        mean_i = y_i - w_i / K⁻¹_ii and variance_i = 1 / K⁻¹_ii (Rasmussen and Williams 2006, eq. 5.12).
        """
        precision = np.diag(cho_solve((self._lower, True), np.eye(len(self._targets)), check_finite=False))
        return self._targets - self._weights / precision, 1.0 / np.sqrt(precision)

    @property
    def log_likelihood(self) -> float:
        """The log-likelihood of the targets (Rasmussen and Williams 2006, eq. 2.30).

        ln p(y) = -yᵀ K⁻¹ y / 2 - ln|K| / 2 - n ln(2 pi) / 2, where ln|K| / 2 is the sum of ln L_ii.
        """
        fit = -0.5 * self._targets @ self._weights - np.log(np.diag(self._lower)).sum()
        return float(fit - 0.5 * len(self._targets) * np.log(2 * np.pi))

    def _whitened(self, cross: FloatArray) -> FloatArray:
        """L⁻¹ k(X, x), shape (n, m), of ``cross`` = k(x, X), shape (m, n)."""
        return np.asarray(solve_triangular(self._lower, cross.T, lower=True, check_finite=False))

    def _kernel(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """k(A, B), shape (m, n)."""
        h, start = self.hyperparameters, self._trended
        scaled, others = A / h.lengths, B / h.lengths
        # |a - b|² = |a|² + |b|² - 2 a b: a matrix product instead of an array of shape (m, n, d). The arrays
        # of shape (m, n) are written over in place: most of a prediction's time is spent here.
        r = np.square(scaled).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
        r -= 2 * scaled @ others.T
        np.maximum(r, 0.0, out=r)
        r *= 5.0
        np.sqrt(r, out=r)
        result = 1 + r
        result += r * r / 3
        result *= h.signal
        np.negative(r, out=r)
        result *= np.exp(r, out=r)
        if A.shape[1] > start:
            result += h.trend * A[:, start:] @ B[:, start:].T
        return np.asarray(result)
