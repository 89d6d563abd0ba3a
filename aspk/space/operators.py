"""Sampling, crossover, mutation and de-duplication of genotypes, shared by pymoo and the Optuna samplers.

Genotypes are rows of index vectors. Inactive genes are carried along untouched (setting them to 0 hurts
NSGA-II); whether two genotypes are equal is decided on their canonical forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Genotypes = npt.NDArray[Any]  # int64; float64 where a genome has real coordinates
_ENUMERABLE = 1 << 20  # index vectors that are enumerated, if necessary, to find an unseen network
_CHUNK = 1 << 14
_CREEP = 0.1  # standard deviation of a creep step, as a share of the gene's range


class Genome(Protocol):
    """What the operators need to know about a search space; :class:`~aspk.space.space.SearchSpace` is one."""

    @property
    def cardinalities(self) -> npt.NDArray[np.int64]:
        """Number of choices of each gene, shape (G,); 0 means a real coordinate in [0, 1]."""
        ...

    @property
    def ordered(self) -> npt.NDArray[np.bool_]:
        """Which genes have ordered choices, shape (G,)."""
        ...

    def active(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which genes each genotype uses; shape (..., G) as ``X``."""
        ...

    def canonical(self, X: npt.ArrayLike) -> Genotypes:
        """Genotypes that are equal exactly if the designs are; shape (..., G) as ``X``."""
        ...


def keys(genome: Genome, X: Genotypes) -> list[bytes]:
    """Hashable identity of each row's design."""
    canonical = np.ascontiguousarray(genome.canonical(X))
    return [row.tobytes() for row in canonical]


# ------------------------------------------------------------------ variation


def sample(genome: Genome, count: int, rng: np.random.Generator) -> Genotypes:
    """Genotypes with every gene uniform over its choices, shape (count, G)."""
    cardinalities = genome.cardinalities
    real = cardinalities == 0
    X: Genotypes = rng.integers(0, np.where(real, 1, cardinalities), size=(count, len(cardinalities)))
    return np.where(real, rng.random(X.shape), X) if real.any() else X


def crossover(genome: Genome, A: Genotypes, B: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Uniform crossover with conditional inheritance.

    A gene that only one parent uses comes from that parent: the other one's copy was never selected for
    anything. All other genes come from either parent with equal probability.

    Args:
        genome: the search space.
        A: first parents, shape (n, G).
        B: second parents, shape (n, G).
        rng: source of randomness.

    Returns:
        One child of each pair, shape (n, G).
    """
    in_a, in_b = genome.active(A), genome.active(B)
    from_a = np.where(in_a == in_b, rng.random(A.shape) < 0.5, in_a)
    return np.where(from_a, A, B)


def mutate(
    genome: Genome, X: Genotypes, rng: np.random.Generator, *, changes: float = 1.0, creep: float = 0.5
) -> Genotypes:
    """Change ``changes`` active genes of each row on average; a gene that is hit always gets a new value.

    Args:
        genome: the search space.
        X: genotypes, shape (n, G).
        rng: source of randomness.
        changes: expected number of changed active genes in each row, > 0.
        creep: share of the changes of an ordered gene that go to a nearby choice; the others go to any
            other choice with equal probability.

    Returns:
        New genotypes, shape (n, G).
    """
    variable = genome.active(X) & (genome.cardinalities != 1)
    rate = changes / np.maximum(variable.sum(axis=1, keepdims=True), 1)
    hit = variable & (rng.random(X.shape) < rate)
    nearby = genome.ordered & (rng.random(X.shape) < creep)
    value = np.where(nearby, _creep(genome, X, rng), _reset(genome, X, rng))
    return np.where(hit, value, X)


def _reset(genome: Genome, X: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Another choice of each gene at random; real coordinates are drawn again."""
    cardinalities = np.maximum(genome.cardinalities, 2)
    other = (X + rng.integers(1, cardinalities, size=X.shape)) % cardinalities
    real = genome.cardinalities == 0
    return np.where(real, rng.random(X.shape), other) if real.any() else other


def _creep(genome: Genome, X: Genotypes, rng: np.random.Generator) -> Genotypes:
    """A nearby choice of each gene: a Gaussian step of at least 1, reflected at the ends of the range."""
    real = genome.cardinalities == 0
    top = np.where(real, 1, np.maximum(genome.cardinalities - 1, 1))
    step = rng.normal(0.0, _CREEP * np.where(real, 1, top + 1), size=X.shape)
    whole = np.copysign(np.clip(np.rint(np.abs(step)), 1, top), step)
    moved = np.abs(X + np.where(real, np.clip(step, -1, 1), whole))
    moved = np.where(moved > top, 2 * top - moved, moved)
    # Reflection can lead back to where it started: go one step inwards instead.
    moved = np.where((moved == X) & ~real, np.where(X > 0, X - 1, X + 1), moved)
    return moved if real.any() else moved.astype(X.dtype)


# ------------------------------------------------------------------ distinct designs


def sample_distinct(
    genome: Genome, count: int, rng: np.random.Generator, *, seen: Collection[bytes] = ()
) -> Genotypes:
    """Random genotypes of designs not in ``seen``, distinct as long as new designs are left."""
    return fill(genome, count, lambda number: sample(genome, number, rng), rng, seen=seen)


def fill(
    genome: Genome,
    count: int,
    propose: Callable[[int], Genotypes],
    rng: np.random.Generator,
    *,
    seen: Collection[bytes] = (),
    keeps: Callable[[Genotypes], npt.NDArray[np.bool_]] | None = None,
    attempts: int = 16,
) -> Genotypes:
    """``count`` genotypes of new designs, different from each other.

    Known proposals are replaced by further proposals, up to ``attempts`` times; then by random designs; then,
    in a space small enough to enumerate, by whichever are left. Only when none is left do proposals repeat.
    Designs that ``keeps`` refuses come after all others that are found.

    Args:
        genome: the search space.
        count: how many.
        propose: returns the requested number of candidates, shape (number, G).
        rng: source of randomness.
        seen: keys (see :func:`keys`) of designs not to return again.
        keeps: returns which rows of genotypes, shape (n, G), to keep, shape (n,); None keeps all.
        attempts: how often to call ``propose``.

    Returns:
        Genotypes, shape (count, G).
    """
    taken, chosen, refused = set(seen), list[Genotypes](), list[Genotypes]()
    for source in (_candidates(genome, count, propose, rng, attempts), _all(genome, rng)):
        for X in source:
            wanted = np.ones(len(X), dtype=bool) if keeps is None else keeps(X)
            for row, key, good in zip(X, keys(genome, X), wanted, strict=True):
                if key not in taken:
                    taken.add(key)
                    (chosen if good else refused).append(row)
            if len(chosen) >= count:
                break
        if len(chosen) + len(refused) >= count:  # enumerating a space takes long: for new designs only
            break
    chosen += refused
    if len(chosen) < count:  # every design was seen: repeating is all that remains
        chosen.extend(propose(count - len(chosen)))
    return np.array(chosen[:count]).reshape(count, len(genome.cardinalities))


def _candidates(
    genome: Genome,
    count: int,
    propose: Callable[[int], Genotypes],
    rng: np.random.Generator,
    attempts: int,
) -> Iterator[Genotypes]:
    for _ in range(attempts):
        yield propose(count)
    for _ in range(attempts):
        yield sample(genome, max(count, 64), rng)


def _all(genome: Genome, rng: np.random.Generator) -> Iterator[Genotypes]:
    """Every index vector of a small space once, in chunks from a random start; nothing of a large one."""
    shape = [int(cardinality) for cardinality in genome.cardinalities]
    total = math.prod(shape)
    if not 0 < total <= _ENUMERABLE:
        return
    starts = np.arange(0, total, _CHUNK)
    for start in np.roll(starts, rng.integers(len(starts))).tolist():
        rows = rng.permutation(np.arange(start, min(start + _CHUNK, total)))
        yield np.stack(np.unravel_index(rows, shape), axis=-1)
