"""The evolutionary search of Auto-Spikformer (arXiv 2306.00807), which is that of AutoFormer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aspk.costs.values import NetworkFunction
from aspk.errors import SamplerError
from aspk.samplers._archive import Fitness
from aspk.samplers._base import GenotypeSampler, check_counts
from aspk.samplers._coordinate import ParameterValue
from aspk.samplers._history import History
from aspk.space import SearchSpace
from aspk.space.operators import Genome, Genotypes, crossover, mutate, sample


class EvolutionarySampler(GenotypeSampler):
    """Children of the best ``top_k`` networks so far, by crossover, by mutation, or new at random.

    The best are those of highest ``fitness`` (F_AEB in the paper); without one, those with the best value
    in a single-objective study, else with the lowest non-dominated rank. Feasible trials come first.
    A batch of ``population_size`` from :meth:`ask_batch` is one generation; trials asked for one by one see
    each result as soon as it is there.
    """

    def __init__(
        self,
        *,
        space: SearchSpace | str | Path | None = None,
        seed: int | None = None,
        known_constraints: Mapping[str, NetworkFunction] | None = None,
        defaults: Mapping[str, ParameterValue] | None = None,
        fitness: Fitness | None = None,
        population_size: int = 20,
        top_k: int = 10,
        crossover_share: float = 0.45,
        mutation_share: float = 0.45,
        random_share: float = 0.1,
    ) -> None:
        """Make a sampler.

        Args:
            space: see :class:`GenotypeSampler`.
            seed: see :class:`GenotypeSampler`.
            known_constraints: see :class:`GenotypeSampler`.
            defaults: see :class:`GenotypeSampler`.
            fitness: what a trial is worth, to be maximised.
            population_size: number of random networks to start with, at least 2; 20 suits budgets of
                hundreds of trials.
            top_k: number of parents, at least 2.
            crossover_share: share of the children made from two parents.
            mutation_share: share of the children that are a mutated parent.
            random_share: share of the children that are drawn at random.

        Raises:
            SamplerError: a number is out of range, or known constraints come without ``space``.
        """
        super().__init__(
            space=space, seed=seed, known_constraints=known_constraints, fitness=fitness, defaults=defaults
        )
        shares = np.array([crossover_share, mutation_share, random_share], dtype=float)
        if not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise SamplerError(f"shares {shares.tolist()}: expected three numbers >= 0, not all 0")
        check_counts(population_size=(population_size, 2), top_k=(top_k, 2))
        self._shares = shares / shares.sum()
        self._population_size = population_size
        self._top_k = top_k

    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """See :class:`GenotypeSampler`."""
        bounds, history = self.bounded(genome, history)
        seen = history.designs
        missing = self._population_size - len(history) - len(history.pending)
        if missing > 0 or len(history) == 0:
            return bounds.sample_distinct(count, rng, seen=seen)
        parents = history.X[history.best(self._top_k)]

        def children(number: int) -> Genotypes:
            return self._children(genome, parents, number, rng, history.changes)

        return bounds.fill(count, children, rng, seen=seen)

    def _children(
        self, genome: Genome, parents: Genotypes, count: int, rng: np.random.Generator, changes: float
    ) -> Genotypes:
        A, B = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        ways = (
            crossover(genome, A, B, rng),
            mutate(genome, A, rng, changes=changes),
            sample(genome, count, rng),
        )
        chosen = rng.choice(3, size=(count, 1), p=self._shares)
        result: Genotypes = np.choose(chosen, ways)
        return result
