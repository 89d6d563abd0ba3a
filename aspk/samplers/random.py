"""Random search: the baseline that every other sampler has to beat."""

from __future__ import annotations

import numpy as np

from aspk.samplers._base import GenotypeSampler
from aspk.samplers._history import History
from aspk.space.operators import Genome, Genotypes


class RandomSampler(GenotypeSampler):
    """Genotypes with every gene uniform over its choices; no genotype is proposed twice."""

    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """See :class:`GenotypeSampler`."""
        bounds, _ = self.bounded(genome, history)
        return bounds.sample_distinct(count, rng, seen=history.designs)
