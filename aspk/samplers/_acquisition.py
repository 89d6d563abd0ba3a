"""Which candidates to evaluate next: those of the largest expected improvement of the hypervolume.

All objectives are minimised. The improvement is exact for any number of independent objectives (for two and
three see Emmerich, Deutz and Klinkenberg, CEC 2011). Candidates chosen before, and those that are being
evaluated, count as evaluated with their posterior mean: the "kriging believer" of Ginsbourger, Le Riche and
Carraro (2010).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from aspk.samplers._history import History, IntArray
from aspk.samplers._model import StudyModel
from aspk.samplers._pool import distance_to_front
from aspk.space.operators import Genotypes
from aspk.surrogate.posterior import Posterior
from aspk.util.pareto import FloatArray, hypervolume, nondominated, ranks

_MOST_BOXES = 6000  # with more, for three or more objectives, the front is thinned
_ROOT_2_PI = np.sqrt(2 * np.pi)
_LIKELY, _UNLIKELY = np.log(0.5), np.log(0.01)  # logarithms of the probability of being feasible
_LARGE = 160  # exponent of 2 beyond which the product of six objectives would overflow
_MARGIN = 0.1  # share of the front's range by which the reference point lies behind it


@dataclass(frozen=True)
class Choice:
    """Candidates to evaluate next.

    Attributes:
        X: genotypes, shape (count, G).
        gains: what each is expected to add to the hypervolume, given those before it, as a share of what the
            observed front has, shape (count,); with one objective, as a share of the range observed. NaN
            while nothing feasible is observed, and infinite for a front without a volume.
    """

    X: Genotypes
    gains: FloatArray


def choose(
    pool: Genotypes,
    predicted: FloatArray,
    history: History,
    model: StudyModel,
    size: int,
    count: int,
    cost: Callable[[Genotypes], FloatArray] | None = None,
) -> Choice:
    """The ``count`` candidates of largest expected improvement, each given those before it.

    The improvement is over the observed front, up to a reference point that lies behind the front of what is
    observed or predicted by a tenth of its range, and it is multiplied by the probability of being
    feasible (Gardner et al., ICML 2014). While nothing observed is feasible, the candidates most likely to be
    come first.

    Args:
        pool: candidates, shape (m, G).
        predicted: their predicted values, shape (m, k).
        history: the study.
        model: of the study.
        size: how many candidates, those nearest to the predicted front, the improvement is computed for.
        count: how many to choose.
        cost: what evaluations of genotypes, shape (m, G), cost, above 0, shape (m,): the improvement is then
            one per unit of cost. None if all cost the same.
    """
    usable = model.log_feasibility(pool)
    kept = history.violation <= 0
    feasible = history.values[kept & history.complete if (kept & history.complete).any() else kept]
    if not len(feasible):
        likely = pool[np.lexsort([ranks(predicted), -usable])[:count]]
        return Choice(likely, np.full(len(likely), np.nan))
    front = feasible[nondominated(feasible)]
    both = np.concatenate([front, predicted[usable > _LIKELY]])
    best = both[nondominated(both)]
    reference = best.max(axis=0) + _MARGIN * np.ptp(best, axis=0)
    # Even if one candidate promises to be best at everything, improvement is over what was observed.
    reference = np.maximum(reference, front.min(axis=0))
    gaps = distance_to_front(predicted, best)
    near = np.lexsort([gaps, usable < _UNLIKELY])[:size]
    candidates = np.concatenate([pool[near], history.pending])
    usable = np.exp(np.concatenate([usable[near], model.log_feasibility(history.pending)]))
    gaps = np.concatenate([gaps[near], np.zeros(len(history.pending))])
    pending = range(len(near), len(candidates))
    costs = np.ones(len(candidates)) if cost is None else cost(candidates)
    rows, gains = _greedy(model.posterior(candidates), usable, costs, front, reference, gaps, pending, count)
    single = front.shape[1] == 1  # whose best value may be the reference point
    whole = float(np.ptp(feasible)) if single else hypervolume(front, reference)
    shares = np.array(gains) / whole if whole > 0 else np.full(len(gains), np.inf)
    return Choice(candidates[rows], shares)


def _greedy(
    posterior: Posterior,
    feasible: FloatArray,
    cost: FloatArray,
    front: FloatArray,
    reference: FloatArray,
    gaps: FloatArray,
    pending: Sequence[int],
    count: int,
) -> tuple[list[int], list[float]]:
    """Rows of the best candidates, one after the other; the posterior is conditioned on those before it.

    Beside them their expected improvements, at least 0.

    Args:
        posterior: of the candidates, shape (m, k).
        feasible: probability that each is feasible, shape (m,).
        cost: of each, above 0, shape (m,).
        front: observed, shape (n, k).
        reference: point of the hypervolume, shape (k,).
        gaps: distance of each candidate to the predicted front, shape (m,).
        pending: candidates being evaluated: their means are added to the front, and they are not chosen.
        count: how many to choose.
    """
    taken: list[int] = []
    gains: list[float] = []
    unit = _unit(np.concatenate([front, reference[None], posterior.mean, posterior.std]))
    front, reference = np.ldexp(front, unit), np.ldexp(reference, unit)
    for step in range(len(pending) + count):
        if step:
            posterior = posterior.condition_on(taken[-1])
        mean, std = np.ldexp(posterior.mean, unit), np.ldexp(posterior.std, unit)
        if step < len(pending):
            row = pending[step]
        else:
            front = front[nondominated(front)]
            utility = expected_improvement(mean, std, *boxes(front, reference)) * feasible
            # If nothing promises an improvement, take the nearest to the front.
            rate = utility / cost if utility.max() > 0 else -gaps
            rate[[*taken, *pending]] = -np.inf
            row = int(rate.argmax())
            gains.append(max(float(utility[row]), 0.0))
        taken.append(row)
        front = np.concatenate([front, mean[[row]]])
    with np.errstate(over="ignore"):
        return taken[len(pending) :], np.ldexp(gains, -int(unit.sum())).tolist()


def _unit(values: FloatArray) -> IntArray:
    """Exponents of 2 that scale columns of very large values, shape (k,): volumes must not overflow."""
    exponents = np.frexp(np.abs(values).max(axis=0))[1].astype(np.int64)
    return np.where(exponents > _LARGE, -exponents, 0)


# ------------------------------------------------------------------ expected improvement


def boxes(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A cover, by b disjoint boxes, of the region that a front does not dominate, up to a reference point.

    The region is cut into slabs between neighbouring values of the last objective. A slab's points can only
    be dominated by points whose last value is not above it, so that only the other objectives matter: the
    slab is covered by the same method with one objective fewer. Two objectives make n + 1 boxes, k at most
    (n + 1)^(k - 1).

    Args:
        front: shape (n, k).
        reference: shape (k,); points that are not below it are ignored.

    Returns:
        Lower corners, minus infinity where a box is open, and upper ones, shape (b, k) each.
    """
    return _slabs(_thinned(front[(front < reference).all(axis=1)]), reference)


def _thinned(front: FloatArray) -> FloatArray:
    """A front of three or more objectives, thinned to keep the number of boxes affordable."""
    k = front.shape[1]
    most = int(_MOST_BOXES ** (1 / max(k - 1, 1))) if k > 2 else len(front)
    if len(front) <= most:
        return front
    order = np.lexsort(front.T)
    kept: FloatArray = front[order[np.linspace(0, len(front) - 1, most).astype(int)]]
    return kept


def _slabs(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """:func:`boxes` of points that are all below the reference."""
    if len(reference) == 1:  # everything below the best value
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


def expected_improvement(
    mean: FloatArray, std: FloatArray, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    """Expected gain of hypervolume by each candidate, whose values are independent Gaussians; shape (m,).

    What y dominates of a box with corners l and u has the volume prod_i (u_i - max(l_i, y_i))⁺. The factors
    are independent, and each is (u_i - y_i)⁺ - (l_i - y_i)⁺, so that with p_i(a) = E (a - y_i)⁺

        EI = sum over boxes of prod_i [p_i(u_i) - p_i(l_i)].

    Args:
        mean: shape (m, k).
        std: shape (m, k), above 0.
        lower: corners of what can be gained, see :func:`boxes`, shape (b, k).
        upper: shape (b, k).
    """
    gain = np.ones((len(mean), len(upper)))  # (m, b)
    for i in range(mean.shape[1]):
        # Boxes share edges: p is computed once for each distinct one.
        edges, places = np.unique(np.concatenate([lower[:, i], upper[:, i]]), return_inverse=True)
        partial = _partial_expectation(edges, mean[:, i, None], std[:, i, None])
        low, high = np.split(places, 2)
        gain *= partial[:, high] - partial[:, low]
    result: FloatArray = gain.sum(axis=1)
    return result


def _partial_expectation(edges: FloatArray, mean: FloatArray, std: FloatArray) -> FloatArray:
    """p(a) = E (a - y)⁺ = (a - mean) Phi(z) + std phi(z) with z = (a - mean) / std; 0 at minus infinity.

    Args:
        edges: each a, shape (e,).
        mean: shape (m, 1).
        std: shape (m, 1).

    Returns:
        Shape (m, e).
    """
    a = np.where(np.isfinite(edges), edges, 0.0)
    z = (a - mean) / std
    result = (a - mean) * ndtr(z) + std * np.exp(-0.5 * z * z) / _ROOT_2_PI
    return np.where(np.isfinite(edges), result, 0.0)
