"""Genotypes as inputs of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from aspk.space import IntArray, SearchSpace
from aspk.space.operators import Genome, Genotypes
from aspk.surrogate.features import Features
from aspk.surrogate.priors import Priors, transfer_priors
from aspk.surrogate.process import Hyperparameters
from aspk.util.pareto import FloatArray

_FEW_CHOICES = 8  # of an ordered gene; more are treated as a continuum
_SHORTEST = 0.1  # length of a feature, of range 1, that nothing is known about
_TELLING = 1.5  # rows that double it, per parameter of the same designs, plus one
_CONSTANT = 1e-9  # relative range below which a free feature is constant


class Columns(Protocol):
    """Numbers that are known of a genotype without evaluating it."""

    def of(self, X: Genotypes) -> FloatArray:
        """The numbers of genotypes of shape (n, G), shape (n, f)."""
        ...


@dataclass(frozen=True)
class WithPrediction:
    """Free features, and one more: what an earlier study predicts.

    Attributes:
        free: the others, None if there are none.
        predict: genotypes of shape (n, G) to predictions, shape (n,).
    """

    free: Columns | None
    predict: Callable[[Genotypes], FloatArray]

    def of(self, X: Genotypes) -> FloatArray:
        """See :class:`Columns`."""
        known = np.zeros((len(X), 0)) if self.free is None else self.free.of(X)
        return np.column_stack([known, self.predict(X)])


@dataclass(frozen=True)
class Encoder:
    """Genotypes of shape (m, G) to inputs of a process, shape (m, d): features of genes, then free ones.

    Attributes:
        genome: the search space; None scales the columns of a genotype to those of the training set.
        free: features that are known without evaluating a network.
        low: smallest value of each column in the training set.
        range: largest minus smallest value, 1 if these are equal.
        kept: the free features that differ within the training set; empty without any.
        mean: their means.
        span: their ranges.
        conditional: genes that some design of the training set does not use.
    """

    genome: Genome | None
    free: Columns | None
    low: FloatArray
    range: FloatArray
    kept: IntArray
    mean: FloatArray
    span: FloatArray
    conditional: frozenset[int] = frozenset()

    @staticmethod
    def of(genome: Genome | None, free: Columns | None, rows: FloatArray) -> Encoder:
        """The encoder of a training set, shape (n, G)."""
        table = np.zeros((len(rows), 0)) if free is None else free.of(rows)
        span, spread_of_genes = np.ptp(table, axis=0), np.ptp(rows, axis=0)
        kept = np.flatnonzero(span > _CONSTANT * (1 + np.abs(table).max(axis=0, initial=0)))
        own_range = np.where(spread_of_genes > 0, spread_of_genes, 1.0)
        used = np.ones(rows.shape, dtype=bool) if genome is None else genome.active(rows)
        return Encoder(
            genome,
            free,
            rows.min(axis=0),
            own_range,
            kept,
            table[:, kept].mean(axis=0),
            span[kept],
            frozenset(np.flatnonzero(~used.all(axis=0)).tolist()),
        )

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Features, shape (m, d); free ones to unit range, the training set's mean at 0."""
        if self.genome is None:
            return np.asarray((rows - self.low) / self.range - 0.5)
        own = self._own(rows)
        if self.free is None or not len(self.kept):
            return own
        table = self.free.of(rows)
        return np.hstack([own, (table[:, self.kept] - self.mean) / self.span])

    @cached_property
    def _own(self) -> Features:
        assert self.genome is not None
        return Features(self.genome)

    @property
    def trended(self) -> int:
        """Number of features, the last ones, that have a linear trend."""
        return len(self.kept)

    def shortened(self, hyperparameters: Hyperparameters, rows: FloatArray) -> Hyperparameters:
        """Hyperparameters with length scales no longer than the number of ``rows``, shape (n, G), supports.

        A parameter that only some designs have may decide how good they are. The few trials that have it may
        be similar by chance, and a long length would then rule out all designs like them.
        """
        if self.genome is None or isinstance(self.genome, SearchSpace):
            return hyperparameters
        used, lengths = self.genome.active(rows), hyperparameters.lengths.copy()
        for gene in np.flatnonzero(~used.all(axis=0)):
            together = (used == used[:, [gene]]).all(axis=0).sum()  # parameters of the same designs
            columns = self._own.columns_of([int(gene)])
            longest = _SHORTEST * 2.0 ** min(float(used[:, gene].sum() / (1 + together) / _TELLING), 10.0)
            lengths[columns] = np.minimum(lengths[columns], longest)
        return replace(hyperparameters, lengths=lengths)

    @property
    def scales(self) -> IntArray | None:
        """Number of each feature's length scale, shape (d,); None gives each its own."""
        if self.genome is None:
            return None
        own = self._own.scales
        return np.concatenate([own, own.max(initial=-1) + 1 + np.arange(len(self.kept))])

    def priors(self, columns: int, *, logarithm: bool) -> list[Priors]:
        """Candidate priors of a process with that many inputs, from which the targets choose one."""
        if self.genome is None:
            return transfer_priors(None, columns, logarithm=logarithm)
        choices = self.genome.cardinalities
        return transfer_priors(
            self.genome,
            columns,
            logarithm=logarithm,
            conditional=self._own.columns_of(self.conditional),
            fine=self._own.columns_of(
                np.flatnonzero(self.genome.ordered & ((choices == 0) | (choices > _FEW_CHOICES)))
            ),
        )
