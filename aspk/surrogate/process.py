"""A Gaussian process with one length scale for each feature, fitted in milliseconds.

Predictors of a search are fitted again at nearly every suggestion, to tens or hundreds of points. With the
gradient below, one step of the likelihood's maximisation costs about a matrix inversion.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

from aspk.space import IntArray
from aspk.util.pareto import FloatArray

_JITTER = 1e-8
# Rows that hyperparameters are fitted to, and steps of L-BFGS, each round from the end of the one before: a
# step costs the cube of the rows.
FEW = 50
_ROUNDS = ((FEW, 30), (150, 6))
# One row for signal, noise, trend and each length: mean, standard deviation, lower and upper bound of its
# logarithm.
Priors = FloatArray
# Weak ones, for anything. Features and targets have unit scale: a length of 1.5 is a feature that matters
# moderately, 50 one that does not matter. Many costs and qualities are nearly linear in the logarithms of
# their choices, hence long lengths.
_SIGNAL = (0.0, 2.0, -4.0, 5.0)
_NOISE = (np.log(0.02), 1.5, np.log(1e-5), 0.5)
_TREND = (0.0, 2.0, -8.0, 5.0)
_LENGTH = (np.log(3.0), 1.2, -2.5, 4.5)
_LENGTH_IF_CONDITIONAL = (np.log(10.0), 1.2, -2.5, 4.5)  # what only some designs have explains less
_LENGTH_IF_FINE = (np.log(1.0), 1.2, -2.5, 4.5)  # a few choices are nearly on a line, a continuum is not


@dataclass(frozen=True)
class Hyperparameters:
    """Of the covariance s f(r) + t z z' + noise [i = j], with z the features that have a linear trend.

    Matérn 5/2: f(r) = (1 + r + r² / 3) exp(-r), r = sqrt(5) |x - x'| / l.

    Attributes:
        signal: variance s.
        noise: variance of what the features do not explain.
        lengths: length scale l of each feature, shape (d,).
        trend: variance t of a slope of the linear trend.
    """

    signal: float
    noise: float
    lengths: FloatArray
    trend: float = 0.0


class Process:
    """A Gaussian process of zero mean, given observations.

    Args:
        inputs: features, shape (n, d).
        targets: standardised values, shape (n,).
        hyperparameters: None takes the most probable ones, see :func:`most_probable`.
        trended: number of features, the last ones, that have a linear trend.
        extra: variances of the observations beside the noise, shape (n,); None is none.

    Raises:
        LinAlgError: equal inputs and too little noise.
    """

    def __init__(
        self,
        inputs: FloatArray,
        targets: FloatArray,
        hyperparameters: Hyperparameters | None = None,
        *,
        trended: int = 0,
        extra: FloatArray | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters or most_probable(inputs, targets, trended, extra=extra)
        self._trended = inputs.shape[1] - trended  # the first column that has a trend
        self._inputs, self._targets = inputs, targets
        covariance = self._covariance(inputs)
        own = self.hyperparameters.noise + _JITTER
        covariance[np.diag_indices(len(inputs))] += own if extra is None else own + extra
        self._lower = cholesky(covariance, lower=True, check_finite=False)
        self._weights: FloatArray = cho_solve((self._lower, True), targets, check_finite=False)

    @property
    def noise(self) -> float:
        """Variance of what the features do not explain."""
        return self.hyperparameters.noise

    def mean(self, inputs: FloatArray) -> FloatArray:
        """Expected value at each row, shape (m,)."""
        return np.asarray(self._covariance(inputs) @ self._weights)

    def predict(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected value and standard deviation of the noise-free value at each row, shape (m,) each."""
        cross = self._covariance(inputs)
        whitened = solve_triangular(self._lower, cross.T, lower=True, check_finite=False)
        h = self.hyperparameters
        prior = h.signal + h.trend * np.square(inputs[:, self._trended :]).sum(axis=1)
        variance = prior - np.square(whitened).sum(axis=0)
        return np.asarray(cross @ self._weights), np.sqrt(np.maximum(variance, 1e-12))

    def joint(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected values, shape (m,), and covariances of the noise-free values, shape (m, m)."""
        cross = self._covariance(inputs)
        whitened = solve_triangular(self._lower, cross.T, lower=True, check_finite=False)
        prior = self._between(inputs, inputs)
        return np.asarray(cross @ self._weights), prior - whitened.T @ whitened

    @cached_property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """What the others predict for each observation: mean and standard deviation, noise included.

        mean_i = y_i - w_i / K⁻¹_ii and variance_i = 1 / K⁻¹_ii, with K⁻¹ y = w (Rasmussen and Williams 2006,
        eq. 5.12).
        """
        precision = np.diag(cho_solve((self._lower, True), np.eye(len(self._targets)), check_finite=False))
        return self._targets - self._weights / precision, 1.0 / np.sqrt(precision)

    @property
    def log_likelihood(self) -> float:
        """Of the targets (Rasmussen and Williams 2006, eq. 2.30).

        ln p(y) = -yᵀ K⁻¹ y / 2 - ln|K| / 2 - n ln(2 pi) / 2
        """
        fit = -0.5 * self._targets @ self._weights - np.log(np.diag(self._lower)).sum()
        return float(fit - 0.5 * len(self._targets) * np.log(2 * np.pi))

    def _covariance(self, inputs: FloatArray) -> FloatArray:
        """Between ``inputs`` and the observations, shape (m, n)."""
        return self._between(inputs, self._inputs)

    def _between(self, A: FloatArray, B: FloatArray) -> FloatArray:
        h, start = self.hyperparameters, self._trended
        scaled, others = A / h.lengths, B / h.lengths
        # Four arrays of this size and no more: most of a prediction's time is spent here.
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


def weak_priors(features: int, *, conditional: Collection[int] = (), fine: Collection[int] = ()) -> Priors:
    """Priors for features of which nothing is known, shape (3 + features, 4).

    Args:
        features: their number.
        conditional: those that only some designs have.
        fine: those with many values.
    """
    lengths = [
        _LENGTH_IF_FINE if i in fine else _LENGTH_IF_CONDITIONAL if i in conditional else _LENGTH
        for i in range(features)
    ]
    return np.array([_SIGNAL, _NOISE, _TREND, *lengths])


def medians(priors: Priors, trended: int = 0) -> Hyperparameters:
    """The middle of priors."""
    signal, noise, trend, *lengths = np.exp(priors[:, 0])
    return Hyperparameters(float(signal), float(noise), np.array(lengths), float(trend) if trended else 0.0)


def most_probable(
    inputs: FloatArray,
    targets: FloatArray,
    trended: int = 0,
    priors: Priors | None = None,
    extra: FloatArray | None = None,
    scales: IntArray | None = None,
) -> Hyperparameters:
    """The hyperparameters of highest posterior probability, found by L-BFGS from the priors' medians.

    Args:
        inputs: features, shape (n, d); of many rows, evenly spaced ones are taken.
        targets: standardised values, shape (n,).
        trended: number of features, the last ones, that have a linear trend.
        priors: None takes :func:`weak_priors`.
        extra: variances of the observations beside the noise, shape (n,); None is none.
        scales: number of each feature's length scale, from 0, shape (d,): features with the same number share
            one, with the prior of the first; None gives each its own.
    """
    priors = weak_priors(inputs.shape[1]) if priors is None else priors
    of = np.arange(inputs.shape[1]) if scales is None else scales
    priors = priors[[0, 1, 2, *(3 + np.unique(of, return_index=True)[1])]]
    point = priors[:, 0]
    for most, steps in _ROUNDS:
        rows = spread(len(inputs), most)
        known = None if extra is None else extra[rows]
        posterior = _Posterior(inputs[rows], targets[rows], priors, trended, known, of)
        options = {"maxiter": steps}
        bounds = priors[:, 2:].tolist()
        point = minimize(posterior, point, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        if len(rows) == len(inputs):
            break
    signal, noise, trend, *found = np.exp(point)
    lengths = np.array(found)[of]
    return Hyperparameters(float(signal), float(noise), lengths, float(trend) if trended else 0.0)


def spread(count: int, most: int) -> IntArray:
    """At most ``most`` rows of ``count``, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


class _Posterior:
    """Minus the logarithm of likelihood times prior, and its gradient.

    Both are functions of the logarithms of signal, noise, trend and lengths, in this order, whose Gaussian
    priors are rows of mean and standard deviation (and bounds, not used here). Matrices are symmetric: only
    their elements below the diagonal are computed.
    """

    def __init__(
        self,
        inputs: FloatArray,
        targets: FloatArray,
        priors: Priors,
        trended: int = 0,
        extra: FloatArray | None = None,
        scales: IntArray | None = None,
    ) -> None:
        n, d = inputs.shape
        self._known = _JITTER if extra is None else _JITTER + extra
        self._below = np.tril_indices(n, -1)
        i, j = self._below
        self._flat = i + n * j  # their places in LAPACK's order, by columns
        squares = np.ascontiguousarray(np.square(inputs[i] - inputs[j]).T)  # (d, n (n - 1) / 2)
        if scales is not None and (scales != np.arange(d)).any():  # features that share a length
            squares = np.eye(scales.max() + 1)[:, scales] @ squares
        self._squares = squares
        products = inputs[:, d - trended :] @ inputs[:, d - trended :].T
        self._products, self._own_products = products[i, j], np.diag(products)
        self._targets = targets
        self._mean, self._deviation = priors.T[:2]

    def __call__(self, logarithms: FloatArray) -> tuple[float, FloatArray]:
        signal, noise, trend = np.exp(logarithms[:3])
        inverse_squares = np.exp(-2 * logarithms[3:])
        r = np.sqrt(5.0 * (inverse_squares @ self._squares))
        decay = np.exp(-r)
        matern = (1 + r + r * r / 3) * decay
        covariance = np.diag(signal + trend * self._own_products + noise + self._known)
        covariance.reshape(-1)[self._flat] = signal * matern + trend * self._products
        lower, failed = dpotrf(covariance.T, lower=True, clean=False, overwrite_a=True)
        if failed:  # L-BFGS then tries a shorter step
            return 1e10, np.zeros_like(logarithms)
        weights = dpotrs(lower, self._targets, lower=True)[0]
        half_log_determinant = np.log(np.diag(lower)).sum()
        inverse = dpotri(lower, lower=True, overwrite_c=True)[0]
        z = (logarithms - self._mean) / self._deviation
        value = 0.5 * self._targets @ weights + half_log_determinant + 0.5 * z @ z
        # d value / d K = (K⁻¹ - w wᵀ) / 2, and d matern / d ln l_j = 5/3 (1 + r) exp(-r) (x_j - x'_j)² / l_j²
        i, j = self._below
        slope = inverse.T.reshape(-1)[self._flat] - weights[i] * weights[j]  # counts twice
        own = 0.5 * (np.diag(inverse) - np.square(weights))
        by_length = self._squares @ (slope * (signal * 5 / 3 * (1 + r) * decay)) * inverse_squares
        by_signal = signal * (slope @ matern + own.sum())
        by_trend = trend * (slope @ self._products + own @ self._own_products)
        gradient = np.array([by_signal, noise * own.sum(), by_trend, *by_length])
        return float(value), gradient + z / self._deviation
