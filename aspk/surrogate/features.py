"""Genotypes as numbers that a regression can use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from aspk.space import IntArray, SearchSpace
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import FloatArray

_FEWEST_PLACES = 3  # unordered genes with the same number of choices; just two are often unrelated


def features(genome: Genome, X: Genotypes) -> FloatArray:
    """Genotypes as columns of similar scale, shape (n, d).

    Ordered genes and real coordinates become one number in -0.5..0.5, others one column for each choice.
    Numbers of a :class:`~aspk.space.SearchSpace` are sizes, thresholds and time constants, whose *ratios*
    matter: they are replaced by their logarithms, centred at 0. A gene that a network does not use is 0 in
    all its columns. Genes that every block has get one more column each: their mean over the blocks in use.
    So do groups of at least three unordered genes with the same number of choices: they mostly are places for
    the same operations, and what matters is how often each occurs.
    """
    return Features(genome)(X)


class Features:
    """:func:`features` of one genome, whose tables are made once for many calls.

    Attributes:
        scales: number of each column's length scale, in order from 0, shape (d,). The choices of an unordered
            gene that is one of several places share one, since there are many columns and few trials; so do
            the frequencies of choices, and the words of a gene of a search space. In any other gene, which
            may decide on a branch, each choice has its own.
    """

    def __init__(self, genome: Genome) -> None:
        self._genome = genome
        own = [(int(gene), _places(genome, int(gene))) for gene in np.flatnonzero(genome.cardinalities != 1)]
        columns = [(gene, row) for gene, rows in own for row in rows]
        self._gene = np.array([gene for gene, _ in columns], dtype=np.int64)  # of each column
        self._row = np.arange(len(columns))[:, None]
        self._real = (genome.cardinalities[self._gene] == 0)[:, None]
        self._places = np.zeros((len(columns), max((len(row) for _, row in columns), default=0)))
        for table, (_, row) in zip(self._places, columns, strict=True):
            table[: len(row)] = row
        groups = [group for group in _groups(genome) if len(group) > 1 and group[0] in self._gene]
        sums = [
            (group[0], np.array(columns))
            for group in groups
            for columns in zip(*(np.flatnonzero(self._gene == gene) for gene in group), strict=True)
        ]
        self._means = [columns for _, columns in sums]
        known = range(len(genome.cardinalities)) if isinstance(genome, SearchSpace) else ()
        places = {gene for group in groups for gene in group} | set(known)
        names = [("gene", gene) if gene in places else ("column", i) for i, (gene, _) in enumerate(columns)]
        names += [("mean", group) for group, _ in sums]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self.scales: IntArray = np.array([numbers[name] for name in names], dtype=np.int64)

    def columns_of(self, genes: Iterable[int]) -> list[int]:
        """The columns of some genes, without the means over blocks."""
        return np.flatnonzero(np.isin(self._gene, list(genes))).tolist()

    def of(self, space: SearchSpace) -> list[Feature]:
        """What each column represents, shape (d,), if the genome is a search space."""
        own = [Feature(space.genes[gene].name, space.genes[gene].block) for gene in self._gene]
        means = [Feature(own[group[0]].gene, mean=True) for group in self._means]
        return own + means

    def __call__(self, X: Genotypes) -> FloatArray:
        """See :func:`features`."""
        if not len(self._gene):
            return np.zeros((len(X), 0))
        active = self._genome.active(X).T[self._gene]  # (d, n), as all below
        chosen = np.asarray(X).T[self._gene]
        own = self._places[self._row, np.where(self._real, 0, chosen).astype(np.int64)]
        own = np.where(active, np.where(self._real, chosen - 0.5, own), 0.0)
        means = [own[group].sum(axis=0) / np.maximum(active[group].sum(axis=0), 1) for group in self._means]
        return np.ascontiguousarray(np.vstack([own, *means]).T)


class Feature(NamedTuple):
    """What a column of :func:`features` represents.

    Attributes:
        gene: name of the gene.
        block: the block that it belongs to, None if all blocks share it.
        mean: whether it is the gene's mean over the blocks.
    """

    gene: str
    block: int | None = None
    mean: bool = False


def columns(space: SearchSpace) -> list[Feature]:
    """The columns of :func:`features` for a search space, in order; a gene of words has one for each word."""
    return Features(space).of(space)


def _places(genome: Genome, gene: int) -> FloatArray:
    """The value of each choice of a gene in each of its columns, shape (columns, choices); 0 if real."""
    cardinality = int(genome.cardinalities[gene])
    if isinstance(genome, SearchSpace) and genome.ordered[gene]:
        places = np.log(np.array(genome.genes[gene].choices, dtype=float))
        return np.asarray((places - places.mean()) / (places[-1] - places[0]))[None, :]
    if genome.ordered[gene]:
        return np.asarray(np.arange(max(cardinality, 1)) / max(cardinality - 1, 1) - 0.5)[None, :]
    # Two different choices are at distance 1, like the ends of an ordered gene.
    return np.asarray(np.eye(cardinality) / np.sqrt(2.0))


def _groups(genome: Genome) -> list[list[int]]:
    """Groups of genes to average: the same gene in all blocks or, without blocks, similar places."""
    if not isinstance(genome, SearchSpace):
        unordered = np.flatnonzero(~genome.ordered & (genome.cardinalities > 1))
        choices = genome.cardinalities[unordered]
        groups = [unordered[choices == count].tolist() for count in np.unique(choices)]
        return [group for group in groups if len(group) >= _FEWEST_PLACES]
    return [
        [i for i, gene in enumerate(genome.genes) if gene.block is not None and gene.name == name]
        for name in genome.block
    ]
