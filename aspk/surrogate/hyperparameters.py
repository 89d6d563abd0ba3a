"""The most probable hyperparameters of a process, found in milliseconds.

With the analytic gradient below, a step of the maximisation costs about one inversion of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

from aspk.space import IntArray
from aspk.surrogate.priors import Priors, weak_priors
from aspk.surrogate.process import JITTER, Hyperparameters
from aspk.util.pareto import FloatArray

# Rows that hyperparameters are fitted to, and steps of L-BFGS, each round starting where the one before
# ended: the cost of a step grows with the cube of the rows.
FEW = 50
_ROUNDS = ((FEW, 30), (150, 6))


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
        inputs: features, shape (n, d); if there are many rows, evenly spaced ones are used.
        targets: standardised values, shape (n,).
        trended: number of features, the last ones, that have a linear trend.
        priors: None means :func:`weak_priors`.
        extra: variances of the observations in addition to the noise, shape (n,); None means none.
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
        objective = negative_log_posterior(inputs[rows], targets[rows], priors, trended, known, of)
        options = {"maxiter": steps}
        bounds = priors[:, 2:].tolist()
        point = minimize(objective, point, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        if len(rows) == len(inputs):
            break
    signal, noise, trend, *found = np.exp(point)
    lengths = np.array(found)[of]
    return Hyperparameters(float(signal), float(noise), lengths, float(trend) if trended else 0.0)


def spread(count: int, most: int) -> IntArray:
    """At most ``most`` rows of ``count``, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def negative_log_posterior(
    inputs: FloatArray,
    targets: FloatArray,
    priors: Priors,
    trended: int = 0,
    extra: FloatArray | None = None,
    scales: IntArray | None = None,
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """-ln p(y | h) - ln p(h), up to a constant, and its gradient, of the hyperparameters' logarithms h.

    h holds signal, noise, trend and then each length, shape (3 + d,). Its priors are independent Gaussians:
    rows of mean and standard deviation (and bounds, which are L-BFGS's). With K w = y,

        -ln p(y | h) = yᵀ w / 2 + ln|K| / 2,    whose derivative by K is (K⁻¹ - w wᵀ) / 2

    (Rasmussen and Williams 2006, eq. 5.9), and df / d ln l_j = 5/3 (1 + r) exp(-r) (x_j - x'_j)² / l_j².
    K is symmetric: of the n² pairs only the p = n (n - 1) / 2 below the diagonal are computed, as vectors,
    and the diagonal, where f = 1, by itself.

    Args:
        inputs: features, shape (n, d).
        targets: standardised values y, shape (n,).
        priors: shape (3 + number of length scales, 4).
        trended: number of features, the last ones, that have a linear trend.
        extra: variances of the observations beside the noise, shape (n,).
        scales: number of each feature's length scale, shape (d,).

    Returns:
        A function from h to the value and its gradient, shape (3 + number of length scales,); the value is
        1e10 where K is not positive definite.
    """
    n, d = inputs.shape
    known = JITTER if extra is None else JITTER + extra
    i, j = np.tril_indices(n, -1)
    flat = i + n * j  # the pairs' places in LAPACK's order, by columns
    squares = np.ascontiguousarray(np.square(inputs[i] - inputs[j]).T)  # (d, p)
    if scales is not None and (scales != np.arange(d)).any():  # features that share a length
        squares = np.eye(scales.max() + 1)[:, scales] @ squares
    trends = inputs[:, d - trended :] @ inputs[:, d - trended :].T
    products, own_products = trends[i, j], np.diag(trends)
    middle, deviation = priors.T[:2]

    def objective(logarithms: FloatArray) -> tuple[float, FloatArray]:
        signal, noise, trend = np.exp(logarithms[:3])
        inverse_squares = np.exp(-2 * logarithms[3:])
        r = np.sqrt(5.0 * (inverse_squares @ squares))
        decay = np.exp(-r)
        matern = (1 + r + r * r / 3) * decay
        covariance = np.diag(signal + trend * own_products + noise + known)
        covariance.reshape(-1)[flat] = signal * matern + trend * products
        lower, failed = dpotrf(covariance.T, lower=True, clean=False, overwrite_a=True)
        if failed:  # L-BFGS then tries a shorter step
            return 1e10, np.zeros_like(logarithms)
        weights = dpotrs(lower, targets, lower=True)[0]
        half_log_determinant = np.log(np.diag(lower)).sum()
        inverse = dpotri(lower, lower=True, overwrite_c=True)[0]
        z = (logarithms - middle) / deviation
        value = 0.5 * targets @ weights + half_log_determinant + 0.5 * z @ z
        # The derivative by K. A pair occurs in K twice, hence no factor 1/2; the diagonal occurs once.
        slope = inverse.T.reshape(-1)[flat] - weights[i] * weights[j]
        own = 0.5 * (np.diag(inverse) - np.square(weights))
        by_length = squares @ (slope * (signal * 5 / 3 * (1 + r) * decay)) * inverse_squares
        by_signal = signal * (slope @ matern + own.sum())
        by_trend = trend * (slope @ products + own @ own_products)
        gradient = np.array([by_signal, noise * own.sum(), by_trend, *by_length])
        return float(value), gradient + z / deviation

    return objective
