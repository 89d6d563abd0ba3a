"""Expected improvement of the hypervolume, exact for any number of objectives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from aspk.util.pareto import FloatArray, nondominated

_MOST_BOXES = 6000
_ROOT_2_PI = np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class Boxes:
    """A disjoint cover of what a front does not dominate, up to a reference point; everything minimised.

    Attributes:
        lower: lower corners, shape (b, k); minus infinity where a box is open.
        upper: upper corners, shape (b, k).
    """

    lower: FloatArray
    upper: FloatArray


def boxes(front: FloatArray, reference: FloatArray) -> Boxes:
    """Cut the region into slabs between the front's values of the last objective, and these recursively.

    Args:
        front: shape (n, k).
        reference: shape (k,); points that are not below it do not matter.
    """
    inside = _thinned(front[(front < reference).all(axis=1)])
    lower, upper = _slabs(inside, reference)
    return Boxes(lower, upper)


def _thinned(front: FloatArray) -> FloatArray:
    """Of a front with three or more objectives, as many points as keep the number of boxes affordable."""
    k = front.shape[1]
    most = int(_MOST_BOXES ** (1 / max(k - 1, 1))) if k > 2 else len(front)
    if len(front) <= most:
        return front
    order = np.lexsort(front.T)
    kept: FloatArray = front[order[np.linspace(0, len(front) - 1, most).astype(int)]]
    return kept


def _slabs(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    k = len(reference)
    if k == 1:
        best = front.min(axis=0) if len(front) else reference
        return np.full((1, 1), -np.inf), best[None, :]
    edges = [-np.inf, *np.unique(front[:, -1]), reference[-1]]
    lowers, uppers = [], []
    for low, high in itertools.pairwise(edges):
        below = front[front[:, -1] <= low][:, :-1]
        lower, upper = _slabs(below[nondominated(below)], reference[:-1])
        lowers.append(np.column_stack([lower, np.full(len(lower), low)]))
        uppers.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)


def expected_improvement(mean: FloatArray, std: FloatArray, free: Boxes) -> FloatArray:
    """Expected gain of hypervolume by each candidate, whose values are independent Gaussians; shape (m,).

    In a box with corners l and u a value y gains prod_i (u_i - max(l_i, y_i))⁺, and the expectation of a
    factor is p(u_i) - p(l_i), where p(a) = E (a - y)⁺ = (a - mean) Phi(z) + std phi(z).

    Args:
        mean: shape (m, k).
        std: shape (m, k), above 0.
        free: what can be gained.
    """
    gain = np.ones((len(mean), len(free.upper)))
    for i in range(mean.shape[1]):
        edges, places = np.unique(np.concatenate([free.lower[:, i], free.upper[:, i]]), return_inverse=True)
        partial = _partial_expectation(edges, mean[:, i, None], std[:, i, None])
        low, high = np.split(places, 2)
        gain *= partial[:, high] - partial[:, low]
    result: FloatArray = gain.sum(axis=1)
    return result


def _partial_expectation(
    edges: FloatArray, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> FloatArray:
    """E (a - y)⁺ for each edge a, 0 at minus infinity; shape (m, edges)."""
    a = np.where(np.isfinite(edges), edges, 0.0)
    z = (a - mean) / std
    result = (a - mean) * ndtr(z) + std * np.exp(-0.5 * z * z) / _ROOT_2_PI
    return np.where(np.isfinite(edges), result, 0.0)
