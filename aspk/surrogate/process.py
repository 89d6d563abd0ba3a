"""A Gaussian process with one length scale for each feature, fitted in milliseconds.

Predictors of a search are fitted again at nearly every suggestion, to tens or hundreds of points. With the
gradient below, one step of the likelihood's maximisation costs about a matrix inversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from aspk.pareto import FloatArray

_JITTER = 1e-8
_MOST_ROWS = 200  # that hyperparameters are fitted to: a step costs the cube of them
_STEPS = 30
# Priors of the logarithms: mean, standard deviation, lower and upper bound. Features and targets have unit
# scale: a length of 1.5 is a feature that matters moderately, 50 one that does not matter.
_SIGNAL = (0.0, 2.0, -4.0, 5.0)
_NOISE = (np.log(0.02), 1.5, np.log(1e-5), 0.5)
_LENGTH = (np.log(1.5), 0.8, -2.5, 4.5)


@dataclass(frozen=True)
class Hyperparameters:
    """Of the covariance s f(r) + noise [i = j], f(r) = (1 + r + r² / 3) exp(-r), r = sqrt(5) |x - x'| / l.

    Attributes:
        signal: variance s.
        noise: variance of what the features do not explain.
        lengths: length scale l of each feature, shape (d,).
    """

    signal: float
    noise: float
    lengths: FloatArray


class Process:
    """A Gaussian process of zero mean, given observations.

    Args:
        inputs: features, shape (n, d).
        targets: standardised values, shape (n,).
        hyperparameters: None takes the most probable ones, see :func:`most_probable`.

    Raises:
        LinAlgError: equal inputs and too little noise.
    """

    def __init__(
        self, inputs: FloatArray, targets: FloatArray, hyperparameters: Hyperparameters | None = None
    ) -> None:
        self.hyperparameters = hyperparameters or most_probable(inputs, targets)
        self._inputs, self._targets = inputs, targets
        covariance = self._covariance(inputs)
        covariance[np.diag_indices(len(inputs))] += self.hyperparameters.noise + _JITTER
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
        variance = self.hyperparameters.signal - np.square(whitened).sum(axis=0)
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
        A, B = A / self.hyperparameters.lengths, B / self.hyperparameters.lengths
        squares = np.square(A).sum(axis=1)[:, None] + np.square(B).sum(axis=1) - 2 * A @ B.T
        r = np.sqrt(5.0 * np.maximum(squares, 0.0))
        return np.asarray(self.hyperparameters.signal * (1 + r + r * r / 3) * np.exp(-r))


def most_probable(inputs: FloatArray, targets: FloatArray) -> Hyperparameters:
    """The hyperparameters of highest posterior probability, found by L-BFGS from the priors' means.

    Args:
        inputs: features, shape (n, d); of many rows, evenly spaced ones are taken.
        targets: standardised values, shape (n,).
    """
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), _MOST_ROWS)).astype(int))
    posterior = _Posterior(inputs[rows], targets[rows])
    d = inputs.shape[1]
    start, _, low, high = np.array([_SIGNAL, _NOISE, *[_LENGTH] * d]).T
    bounds = list(zip(low, high, strict=True))
    found = minimize(
        posterior, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
    )
    signal, noise, *lengths = np.exp(found.x)
    return Hyperparameters(float(signal), float(noise), np.array(lengths))


class _Posterior:
    """Minus the logarithm of likelihood times prior, and its gradient, in the logarithms."""

    def __init__(self, inputs: FloatArray, targets: FloatArray) -> None:
        n, d = inputs.shape
        differences = inputs[:, None, :] - inputs[None, :, :]
        self._squares = np.ascontiguousarray(np.square(differences).reshape(n * n, d).T)  # (d, n n)
        self._targets = targets
        self._mean, self._deviation = np.array([_SIGNAL, _NOISE, *[_LENGTH] * d]).T[:2]

    def __call__(self, logarithms: FloatArray) -> tuple[float, FloatArray]:
        n = len(self._targets)
        signal, noise = np.exp(logarithms[:2])
        inverse_squares = np.exp(-2 * logarithms[2:])
        r = np.sqrt(5.0 * (inverse_squares @ self._squares)).reshape(n, n)
        decay = np.exp(-r)
        matern = (1 + r + r * r / 3) * decay
        covariance = signal * matern
        covariance[np.diag_indices(n)] += noise + _JITTER
        try:
            lower = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:  # L-BFGS then tries a shorter step
            return 1e10, np.zeros_like(logarithms)
        inverse = cho_solve((lower, True), np.eye(n), check_finite=False)
        weights = inverse @ self._targets
        z = (logarithms - self._mean) / self._deviation
        value = 0.5 * self._targets @ weights + np.log(np.diag(lower)).sum() + 0.5 * z @ z
        # d value / d K = (K⁻¹ - w wᵀ) / 2, and d matern / d ln l_j = 5/3 (1 + r) exp(-r) (x_j - x'_j)² / l_j²
        slope = 0.5 * (inverse - np.outer(weights, weights))
        by_length = self._squares @ (slope * (signal * 5 / 3 * (1 + r) * decay)).ravel() * inverse_squares
        gradient = np.array([signal * (slope * matern).sum(), noise * np.trace(slope), *by_length])
        return float(value), gradient + z / self._deviation
