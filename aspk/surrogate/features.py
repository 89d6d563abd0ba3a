"""Genotypes as numbers that a regression can use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aspk.operators import Genome, Genotypes
from aspk.pareto import FloatArray
from aspk.space import SearchSpace


def features(genome: Genome, X: Genotypes) -> FloatArray:
    """Genotypes as columns of similar scale, shape (n, d).

    Ordered genes and real coordinates become one number in -0.5..0.5, others one column for each choice.
    Genes of a :class:`~aspk.space.SearchSpace` are sizes, thresholds and time constants, whose *ratios*
    matter: they stand at the logarithm of their choices, its mean at 0. A gene that a network does not use
    is 0 in all its columns. Genes that every block has are summed up by one more column each: their mean over
    the blocks in use.
    """
    active = genome.active(X)
    own = {
        int(gene): np.where(active[:, gene, None], _column(genome, int(gene), np.asarray(X[:, gene])), 0.0)
        for gene in np.flatnonzero(genome.cardinalities != 1)
    }
    means = [
        np.sum([own[gene] for gene in group], axis=0)
        / np.maximum(active[:, group].sum(axis=1, keepdims=True), 1)
        for group in _groups(genome)
        if len(group) > 1 and group[0] in own
    ]
    return np.hstack([*own.values(), *means]) if own else np.zeros((len(X), 0))


class Feature(NamedTuple):
    """What a column of :func:`features` is of.

    Attributes:
        gene: name of the gene.
        block: the block that it belongs to, None where all blocks share it.
        mean: whether it is the gene's mean over the blocks.
    """

    gene: str
    block: int | None = None
    mean: bool = False


def columns(space: SearchSpace) -> list[Feature]:
    """The columns of :func:`features` for a search space, in order."""
    free = np.flatnonzero(space.cardinalities != 1).tolist()
    own = [Feature(space.genes[gene].name, space.genes[gene].block) for gene in free]
    repeated = [group[0] for group in _groups(space) if len(group) > 1 and group[0] in free]
    return own + [Feature(space.genes[gene].name, mean=True) for gene in repeated]


def _column(genome: Genome, gene: int, x: npt.NDArray[np.float64]) -> FloatArray:
    cardinality = int(genome.cardinalities[gene])
    if isinstance(genome, SearchSpace):
        places = np.log(np.array(genome.genes[gene].choices, dtype=float))
        places = (places - places.mean()) / (places[-1] - places[0])
        return np.asarray(places[x.astype(np.int64)])[:, None]
    if genome.ordered[gene]:
        return np.asarray(x / max(cardinality - 1, 1) - 0.5)[:, None]
    # Two different choices are at distance 1, as the ends of an ordered gene.
    return np.asarray((x[:, None] == np.arange(cardinality)) / np.sqrt(2.0))


def _groups(genome: Genome) -> list[list[int]]:
    """Columns of one gene in all blocks, for each gene that blocks have."""
    if not isinstance(genome, SearchSpace):
        return []
    return [
        [i for i, gene in enumerate(genome.genes) if gene.block is not None and gene.name == name]
        for name in genome.block
    ]
