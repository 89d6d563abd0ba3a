"""NSGA-II (Deb et al. 2002) on aspk's operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aspk.costs.values import NetworkFunction
from aspk.errors import SamplerError
from aspk.samplers._base import GenotypeSampler, check_counts
from aspk.samplers._coordinate import ParameterValue
from aspk.samplers._history import History
from aspk.space import SearchSpace
from aspk.space.operators import Genome, Genotypes, crossover, mutate


class NSGA2Sampler(GenotypeSampler):
    """NSGA-II over all complete trials of the study, including foreign ones.

    The population is the best ``population_size`` trials by feasibility, rank and crowding; it is selected
    anew at each suggestion. With :meth:`ask_batch` of ``population_size`` trials, this is generational
    NSGA-II; asking for trials one by one makes it steady-state.
    """

    def __init__(
        self,
        *,
        space: SearchSpace | str | Path | None = None,
        seed: int | None = None,
        known_constraints: Mapping[str, NetworkFunction] | None = None,
        defaults: Mapping[str, ParameterValue] | None = None,
        population_size: int = 20,
        crossover_probability: float = 0.9,
    ) -> None:
        """Make a sampler.

        Args:
            space: see :class:`GenotypeSampler`.
            seed: see :class:`GenotypeSampler`.
            known_constraints: see :class:`GenotypeSampler`.
            defaults: see :class:`GenotypeSampler`.
            population_size: trials that survive, and random networks that it starts with; at least 2.
                20 suits budgets of hundreds of trials.
            crossover_probability: probability that a child has two parents before it is mutated, 0 to 1.

        Raises:
            SamplerError: a number is out of range, or known constraints come without ``space``.
        """
        super().__init__(space=space, seed=seed, known_constraints=known_constraints, defaults=defaults)
        check_counts(population_size=(population_size, 2))
        if not 0 <= crossover_probability <= 1:
            raise SamplerError(f"crossover_probability={crossover_probability}: expected 0 to 1")
        self._population_size = population_size
        self._crossover_probability = crossover_probability

    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """See :class:`GenotypeSampler`."""
        bounds, history = self.bounded(genome, history)
        seen = history.designs
        missing = self._population_size - len(history) - len(history.pending)
        if missing > 0 or len(history) == 0:
            return bounds.sample_distinct(count, rng, seen=seen)
        breed = Breeder(genome, history, self._population_size, self._crossover_probability)
        return bounds.fill(count, lambda number: breed(number, rng), rng, seen=seen)


class Breeder:
    """Makes children of a history's best trials."""

    def __init__(
        self, genome: Genome, history: History, population_size: int, crossover_probability: float
    ) -> None:
        self._genome = genome
        self._crossover_probability = crossover_probability
        self._changes = history.changes
        survivors = history.best(population_size)
        self._population = history.X[survivors]  # sorted: a tournament compares positions

    def __call__(self, count: int, rng: np.random.Generator) -> Genotypes:
        """``count`` children, shape (count, G); they may repeat known designs."""
        A, B = (self._population[self._tournament(count, rng)] for _ in range(2))
        crossed = rng.random((count, 1)) < self._crossover_probability
        children = np.where(crossed, crossover(self._genome, A, B, rng), A)
        return mutate(self._genome, children, rng, changes=self._changes)

    def _tournament(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Positions of the better of two random members, ``count`` times."""
        pairs = rng.integers(len(self._population), size=(2, count))
        better: npt.NDArray[np.int64] = pairs.min(axis=0)
        return better
