"""The networks that a search starts with: spread over all genes and, if given, free features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aspk.costs.features import FreeFeatures
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import FloatArray

_DESIGNS = 100
_RIDGE = 1e-3


def start(genome: Genome, count: int, rng: np.random.Generator, free: FreeFeatures | None) -> Genotypes:
    """A Latin hypercube over the genes, shape (count, G).

    With free features, it is the D-optimal one of a hundred: the one that best
    determines a linear trend in them, and so has both cheap and expensive networks.
    """
    if free is None:
        return hypercube(genome, count, rng)
    designs = [hypercube(genome, count, rng) for _ in range(_DESIGNS)]
    table = free.of(np.concatenate(designs))
    span = np.ptp(table, axis=0)
    table = (table - table.mean(axis=0)) / np.where(span > 0, span, 1.0)
    return designs[int(np.argmax([_information(part) for part in np.split(table, _DESIGNS)]))]


def hypercube(genome: Genome, count: int, rng: np.random.Generator) -> Genotypes:
    """A Latin hypercube: each gene's choices are as evenly frequent as possible; shape (count, G)."""
    places = rng.permuted(np.tile(np.arange(count), (len(genome.cardinalities), 1)), axis=1).T
    real = genome.cardinalities == 0
    X: Genotypes = np.where(real, (places + 0.5) / count, places * genome.cardinalities // count)
    return X if real.any() else X.astype(np.int64)


def visits(genome: Genome, X: Genotypes, visited: Genotypes, genes: Sequence[int]) -> FloatArray:
    """How often the rarest of a genotype's choices was visited, shape (m,); infinite where it uses no gene.

    Args:
        genome: the search space.
        X: genotypes, shape (m, G).
        visited: genotypes of trials, shape (n, G).
        genes: columns of genes with few choices.
    """
    used, were = genome.active(X), genome.active(visited)
    result = np.full(len(X), np.inf)
    for gene in genes:
        counts = (visited[were[:, gene], gene] == X[:, gene, None]).sum(axis=1)
        result = np.minimum(result, np.where(used[:, gene], counts, np.inf))
    return result


def _information(features: FloatArray) -> float:
    """Logarithm of the determinant of a linear regression's information matrix."""
    terms = np.column_stack([np.ones(len(features)), features])
    return float(np.linalg.slogdet(terms.T @ terms + _RIDGE * np.eye(terms.shape[1]))[1])
