"""Surrogate-assisted search: candidates are screened by a predictor, and only the best become trials."""

from __future__ import annotations

import logging
from collections.abc import Set

import numpy as np
import numpy.typing as npt

from aspk.errors import SamplerError
from aspk.operators import Genome, Genotypes, fill, keys, mutate, sample, sample_distinct
from aspk.pareto import FloatArray, nondominated
from aspk.samplers._base import GenotypeSampler
from aspk.samplers._history import History
from aspk.samplers.nsga2 import Breeder
from aspk.space import SearchSpace
from aspk.surrogate import AccuracySurrogate

_LOGGER = logging.getLogger(__name__)
_DIRECTIONS = 64  # random weight vectors that estimate a hypervolume
_SAMPLES = 8  # values of each candidate that are drawn from its prediction
_LARGEST_FIT = 600  # trials the surrogate learns from; a Gaussian process costs the cube of them


class SurrogateSampler(GenotypeSampler):
    """NSGA-II's children, mutants of the front and random networks, screened by a Gaussian process.

    Candidates are chosen one after another by their expected improvement of the hypervolume, given the ones
    chosen before. The hypervolume is that of random scalarisations (Zhang and Golovin 2020)::

        HV(Y) = c_k E_w [ max_y min_i max(0, (r_i - y_i) / w_i) ** k ],    w uniform on the positive sphere

    which costs the same for any number of objectives. Under constraints the improvement is multiplied by
    the predicted probability that a candidate is feasible; while nothing is, the least violation is sought.
    """

    def __init__(
        self,
        *,
        space: SearchSpace | None = None,
        seed: int | None = None,
        n_startup_trials: int = 30,
        pool_size: int = 400,
        population_size: int = 20,
    ) -> None:
        """Make a sampler.

        Args:
            space: see :class:`GenotypeSampler`.
            seed: see :class:`GenotypeSampler`.
            n_startup_trials: random networks that it starts with, at least 2.
            pool_size: candidates that are screened for one suggestion, at least 10.
            population_size: best trials that the candidates descend from, at least 2.

        Raises:
            SamplerError: a number is out of range.
        """
        super().__init__(space=space, seed=seed)
        if n_startup_trials < 2 or pool_size < 10 or population_size < 2:
            raise SamplerError(
                f"n_startup_trials={n_startup_trials}, pool_size={pool_size}, "
                f"population_size={population_size}: expected at least 2, 10 and 2"
            )
        self._startup = n_startup_trials
        self._pool_size = pool_size
        self._population_size = population_size

    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """See :class:`GenotypeSampler`."""
        seen = history.designs
        missing = self._startup - len(history) - len(history.pending)
        if missing > 0 or len(history) == 0:
            return sample_distinct(genome, count, rng, seen=seen)
        breed = Breeder(genome, history, self._population_size, 0.9)
        try:
            model = _Model(genome, history, rng)
        except (SamplerError, np.linalg.LinAlgError) as error:
            _LOGGER.info("no surrogate, NSGA-II instead: %s", error)
            return fill(genome, count, lambda number: breed(number, rng), rng, seen=seen)
        pool = self._pool(genome, history, breed, count, seen, rng)
        return pool[model.choose(pool, history.pending, count)]

    def _pool(
        self,
        genome: Genome,
        history: History,
        breed: Breeder,
        count: int,
        seen: Set[bytes],
        rng: np.random.Generator,
    ) -> Genotypes:
        """Unseen candidates: half children, a quarter neighbours of the front, a quarter random."""
        front = history.X[history.ranks == 0]

        def propose(number: int) -> Genotypes:
            quarter = number // 4 + 1
            near = mutate(genome, front[rng.integers(len(front), size=quarter)], rng)
            return np.concatenate([breed(2 * quarter, rng), near, sample(genome, quarter, rng)])

        X = propose(max(self._pool_size, 2 * count))
        first = {key: row for row, key in reversed(list(enumerate(keys(genome, X)))) if key not in seen}
        if len(first) >= count:
            return X[sorted(first.values())]
        return fill(genome, count, propose, rng, seen=seen)


class _Model:
    """Predicts the value of candidates for the study's front."""

    def __init__(self, genome: Genome, history: History, rng: np.random.Generator) -> None:
        rows = history.best(_LARGEST_FIT)
        values, violation = history.values[rows], history.violation[rows]
        infeasible = violation > 0
        self._constrained = bool(infeasible.any())
        self._all_infeasible = bool(infeasible.all())
        labels = violation if self._all_infeasible else np.where(infeasible, 1.0, -1.0)
        targets = np.column_stack([values, labels]) if self._constrained else values
        if (np.ptp(targets, axis=0) == 0).all():
            raise SamplerError("all trials have the same values")
        self._surrogate = AccuracySurrogate(genome).fit(history.X[rows], targets)
        known = values if self._all_infeasible else values[~infeasible]
        self._front = known[nondominated(known)]
        low = self._front.min(axis=0)
        # One tenth behind the front's worst; the spread of all trials if the front is a point.
        span = np.ptp(self._front, axis=0)
        span = np.where(span > 0, span, np.ptp(values, axis=0))
        self._low, self._span = low, np.where(span > 0, span, 1.0)
        k = values.shape[1]
        directions = np.abs(rng.normal(size=(_DIRECTIONS, k)))
        self._directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        half = rng.normal(size=(_SAMPLES // 2, k))
        self._shifts = np.concatenate([half, -half])

    def choose(self, pool: Genotypes, pending: Genotypes, count: int) -> npt.NDArray[np.int64]:
        """Rows of the ``count`` best candidates of ``pool``, in the order of choice."""
        scores, feasible = self._scores(pool)
        if self._all_infeasible:
            return np.argsort(-feasible, kind="stable")[:count]
        best = np.broadcast_to(self._scalarised(self._front).max(axis=0), scores.shape[1:]).copy()
        if len(pending):  # what is on its way will be there
            best = np.maximum(best, self._scores(pending)[0].max(axis=0))
        chosen: list[int] = []
        for _ in range(count):
            improvement = np.maximum(scores - best, 0.0).mean(axis=(1, 2)) * feasible
            # Where nothing improves on the front, the candidate that comes nearest to doing so.
            utility = improvement if improvement.max() > 0 else scores.mean(axis=(1, 2)) * feasible
            utility[chosen] = -np.inf
            chosen.append(int(utility.argmax()))
            best = np.maximum(best, scores[chosen[-1]])
        return np.array(chosen, dtype=np.int64)

    def _scores(self, X: Genotypes) -> tuple[FloatArray, FloatArray]:
        """Scalarised sampled predictions, shape (m, samples, directions), and how feasible, shape (m,)."""
        mean, std = self._surrogate.predict(X, return_std=True)
        k = self._directions.shape[1]
        values = mean[:, None, :k] + std[:, None, :k] * self._shifts
        if not self._constrained:
            return self._scalarised(values), np.ones(len(X))
        if self._all_infeasible:
            return self._scalarised(values), std[:, k] - mean[:, k]
        return self._scalarised(values), _normal_cdf(-mean[:, k] / np.maximum(std[:, k], 1e-9))

    def _scalarised(self, values: FloatArray) -> FloatArray:
        """min_i max(0, (r_i - y_i) / w_i) ** k for each direction; shape (..., directions)."""
        gap = np.maximum(1.1 - (values - self._low) / self._span, 0.0)
        ratios = gap[..., None, :] / self._directions
        result: FloatArray = ratios.min(axis=-1) ** self._directions.shape[1]
        return result


def _normal_cdf(z: FloatArray) -> FloatArray:
    """Standard normal distribution function, by its logistic approximation (error below 0.01)."""
    result: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(1.702 * z, -50.0, 50.0)))
    return result
