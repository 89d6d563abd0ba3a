"""Optuna parameters to genotypes and back: for a search space, and for any other study.

A genotype x, shape (G,), has one number for each parameter, including those that a trial does not use:

- a parameter of few values (a categorical one, or a grid of at most 64 points): the index of its value;
- any other: a real coordinate u in [0, 1], linear in the parameter or, if its distribution is
  logarithmic, in its logarithm. A grid's ends lie half a step inside, so that a uniform u hits all points
  equally often.

Inactive genes are carried along, since a child may use them again. A trial's parameters do not contain them,
and are empty while the trial is being set up; a system attribute holds the genotype (:meth:`Codec.note`).
Where the two differ, parameters win: Optuna may have replaced a proposed value by an enqueued or a fixed one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from aspk.errors import GenotypeError
from aspk.samplers._coordinate import Coordinate, ParameterValue
from aspk.space import Gene, SearchSpace
from aspk.space.operators import Genome, Genotypes, sample
from aspk.trials.attributes import (
    genotype_from_attributes,
    genotype_to_attributes,
    proposal_from_attributes,
    proposal_to_attributes,
)

_DIGITS = 9  # of a real coordinate: two designs that differ less are the same


class Codec(Protocol):
    """How trials become genotypes."""

    @property
    def genome(self) -> Genome:
        """The space of the genotypes."""
        ...

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """The distribution of each gene, by parameter name."""
        ...

    @property
    def whole(self) -> bool:
        """Whether genotypes hold all parameters of a trial: equal genotypes then mean equal trials."""
        ...

    @property
    def branches(self) -> tuple[int, ...]:
        """Unordered genes that decide which others are in use, of a study without a search space."""
        ...

    def read(
        self, parameters: Mapping[str, Any], attributes: Mapping[str, Any], seed: Sequence[int]
    ) -> Genotypes | None:
        """The genotype of a trial, shape (G,); None if it has none in this space.

        Args:
            parameters: the trial's parameters.
            attributes: its system attributes.
            seed: of the generator that draws inactive genes that are not recorded.
        """
        ...

    def exact(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a trial's genotype stands for its own parameters, not for the nearest ones on a grid."""
        ...

    def parameters(self, x: Genotypes) -> dict[str, Any]:
        """The active genes as parameters."""
        ...

    def note(self, x: Genotypes) -> dict[str, Any]:
        """System attributes from which :meth:`read` gets a trial's genotype before its parameters are set."""
        ...

    def pin(self, x: Genotypes, fixed: Mapping[str, Any]) -> Genotypes:
        """``x`` with the genes of ``fixed`` set to its values, except values that are not choices."""
        ...


# ------------------------------------------------------------------ a search space


def gene_distribution(gene: Gene) -> BaseDistribution:
    """The distribution that :meth:`aspk.space.SearchSpace.suggest` gives a gene."""
    low, high, step = gene.choices[0], gene.choices[-1], gene.step
    if step is None or isinstance(low, str):
        return CategoricalDistribution(gene.choices)
    if isinstance(low, int):
        return IntDistribution(low, int(high), step=int(step))
    return FloatDistribution(low, float(high), step=float(step))


@dataclass(frozen=True)
class SpaceCodec:
    """Trials of one :class:`~aspk.space.SearchSpace`."""

    genome: SearchSpace
    whole: bool = True
    branches: tuple[int, ...] = ()

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distribution of each gene, by parameter name."""
        return {gene.parameter: gene_distribution(gene) for gene in self.genome.genes}

    @cached_property
    def _choices(self) -> dict[str, dict[object, int]]:
        """Parameter name to choice to index; a dictionary, since every suggestion reads the study."""
        genes = self.genome.genes
        return {gene.parameter: {choice: i for i, choice in enumerate(gene.choices)} for gene in genes}

    def read(
        self, parameters: Mapping[str, Any], attributes: Mapping[str, Any], seed: Sequence[int]
    ) -> Genotypes | None:
        """See :class:`Codec`. The recorded genotype adds inactive genes only; without it they are random."""
        stored = self.stored(attributes)
        x = stored
        if x is None:
            x = np.random.default_rng(seed).integers(0, self.genome.cardinalities).tolist()
        try:
            for column, (name, indices) in enumerate(self._choices.items()):
                if name in parameters:
                    value = parameters[name]
                    index = indices.get(value) if type(value) in (int, float, str) else None
                    x[column] = self.genome.genes[column].index(value) if index is None else index
        except GenotypeError:
            return None
        genotype = np.array(x)
        if stored is not None:
            return genotype
        # In a trial that another sampler made, all genes in use must be parameters.
        given = np.array([name in parameters for name in self._choices])
        return genotype if given[self.genome.active(genotype)].all() else None

    def stored(self, attributes: Mapping[str, Any]) -> list[int] | None:
        """The genotype recorded in a trial's system attributes; None if there is none in this space."""
        x = genotype_from_attributes(attributes)
        if x is None or len(x) != len(self._choices):
            return None
        inside = all(0 <= i < len(indices) for i, indices in zip(x, self._choices.values(), strict=True))
        return list(x) if inside else None

    def exact(self, parameters: Mapping[str, Any]) -> bool:
        """See :class:`Codec`: other values are no choices."""
        return True

    def parameters(self, x: Genotypes) -> dict[str, Any]:
        """See :class:`Codec`."""
        return dict(self.genome.parameters(x))

    def note(self, x: Genotypes) -> dict[str, Any]:
        """See :class:`Codec`: the genotype."""
        return genotype_to_attributes(x)

    def pin(self, x: Genotypes, fixed: Mapping[str, Any]) -> Genotypes:
        """See :class:`Codec`."""
        x = x.copy()
        for column, gene in enumerate(self.genome.genes):
            if gene.parameter in fixed:
                try:
                    x[column] = gene.index(fixed[gene.parameter])
                except GenotypeError:
                    continue  # Optuna keeps the fixed value anyway; space.suggest then reports it
        return x


# ------------------------------------------------------------------ any other study


@dataclass(frozen=True)
class Condition:
    """When a parameter is suggested.

    Attributes:
        parent: name of the parameter that it depends on, which has few values.
        present: whether it is suggested with each of them.
    """

    parent: str
    present: tuple[bool, ...]


@dataclass(frozen=True)
class ParameterCodec:
    """Trials of any study, provided that they have these parameters; it is its own genome.

    Attributes:
        distributions: of each parameter, by name.
        conditions: of those that are not always suggested, parents before their children.
        whole: whether trials have no other parameters; any others are drawn independently.
        defaults: values of parameters in trials without them.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    whole: bool = True
    defaults: Mapping[str, ParameterValue] = field(default_factory=dict)

    def of(self, distributions: Mapping[str, BaseDistribution]) -> ParameterCodec:
        """The codec of these parameters, with those of their conditions that are known."""
        if distributions == self.distributions:
            return self
        known = {
            name: condition
            for name, condition in self.conditions.items()
            if name in distributions and condition.parent in distributions
        }
        return ParameterCodec(distributions, known, self.whole, self.defaults)

    def around(self, distributions: Mapping[str, BaseDistribution]) -> ParameterCodec:
        """This codec if it has these parameters, else that of these: others may be set by somebody else."""
        return self if distributions.items() <= self.distributions.items() else self.of(distributions)

    @property
    def branches(self) -> tuple[int, ...]:
        """See :class:`Codec`."""
        parents = {condition.parent for condition in self.conditions.values()}
        names = enumerate(self.distributions)
        return tuple(i for i, name in names if name in parents and not self._coordinates[name].ordered)

    @cached_property
    def _coordinates(self) -> dict[str, Coordinate]:
        return {name: Coordinate(distribution) for name, distribution in self.distributions.items()}

    @property
    def genome(self) -> ParameterCodec:
        """See :class:`Codec`."""
        return self

    @cached_property
    def cardinalities(self) -> npt.NDArray[np.int64]:
        """See :class:`~aspk.space.operators.Genome`."""
        return np.array([c.cardinality for c in self._coordinates.values()], dtype=np.int64)

    @cached_property
    def ordered(self) -> npt.NDArray[np.bool_]:
        """See :class:`~aspk.space.operators.Genome`."""
        return np.array([c.ordered for c in self._coordinates.values()], dtype=bool)

    def active(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """See :class:`~aspk.space.operators.Genome`.

        Parents come before their children, so that a gene whose parent is inactive is inactive, too.
        """
        X = np.asarray(X)
        result = np.ones(X.shape, dtype=bool)
        for column, parent, present in self._gates:
            result[..., column] = result[..., parent] & present[X[..., parent].astype(np.int64)]
        return result

    @cached_property
    def _gates(self) -> list[tuple[int, int, npt.NDArray[np.bool_]]]:
        """Columns of each conditional parameter and of its parent, and its presence by the parent's value."""
        column = {name: place for place, name in enumerate(self.distributions)}
        return [
            (column[name], column[condition.parent], np.array(condition.present))
            for name, condition in self.conditions.items()
        ]

    def canonical(self, X: npt.ArrayLike) -> Genotypes:
        """See :class:`~aspk.space.operators.Genome`: real coordinates of a grid moved onto it.

        Real coordinates are rounded: a trial stores the parameter, and the coordinate computed back from it
        differs in the last digits.
        """
        result = np.array(X, dtype=float)
        for column, coordinate in enumerate(self._coordinates.values()):
            if not coordinate.cardinality:
                values = result[..., column]
                if coordinate.stepped:
                    snapped = [coordinate.encode(coordinate.decode(u)) for u in values.ravel()]
                    values = np.reshape(snapped, values.shape)
                result[..., column] = np.round(values, _DIGITS)
        return np.where(self.active(X), result, 0.0) if self.conditions else result

    def read(
        self, parameters: Mapping[str, Any], attributes: Mapping[str, Any], seed: Sequence[int]
    ) -> Genotypes | None:
        """See :class:`Codec`.

        A trial's parameters take precedence over the sampler's proposal, and this over the defaults of
        parameters that are newer than the trial. Whatever none of them has is random: inactive genes of
        trials by other samplers.
        """
        others = dict(self.defaults) | self._proposed(attributes)
        genes: dict[str, float] = {}
        for name, coordinate in self._coordinates.items():
            try:
                if name in parameters or name in others:
                    genes[name] = coordinate.encode(parameters[name] if name in parameters else others[name])
            except (ValueError, TypeError):
                if name in parameters:  # an enqueued value that is not a choice
                    return None
                continue  # outside a range that was narrowed since: the trial may not use it
        given = np.array([name in genes for name in self.distributions])
        if not given.all() and not self.conditions:
            return None
        x = np.zeros(len(given)) if given.all() else self._random(np.random.default_rng(seed))
        x[given] = list(genes.values())
        top = np.where(self.cardinalities == 0, 1, self.cardinalities - 1)
        inside = ((x >= 0) & (x <= top)).all()
        return x if inside and (given.all() or given[self.active(x)].all()) else None

    def _proposed(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """What :meth:`note` recorded for these parameters."""
        return {
            name: self.distributions[name].to_external_repr(value)
            for name, value in proposal_from_attributes(attributes).items()
            if name in self.distributions
        }

    def _random(self, rng: np.random.Generator) -> Genotypes:
        """Any genotype, shape (G,)."""
        return np.asarray(sample(self, 1, rng)[0], dtype=float)

    def exact(self, parameters: Mapping[str, Any]) -> bool:
        """See :class:`Codec`: a grid may be newer than the trial."""
        return all(
            self._coordinates[name].holds(value)
            for name, value in parameters.items()
            if name in self._coordinates
        )

    def parameters(self, x: Genotypes) -> dict[str, Any]:
        """See :class:`Codec`."""
        return {name: c.decode(gene) for (name, c), gene in zip(self._coordinates.items(), x, strict=True)}

    def note(self, x: Genotypes) -> dict[str, Any]:
        """See :class:`Codec`: the parameters, since later trials may change which parameters there are."""
        numbers = {
            name: self.distributions[name].to_internal_repr(value)
            for name, value in self.parameters(x).items()
        }
        return proposal_to_attributes(numbers)

    def pin(self, x: Genotypes, fixed: Mapping[str, Any]) -> Genotypes:
        """See :class:`Codec`."""
        x = x.copy()
        for column, (name, coordinate) in enumerate(self._coordinates.items()):
            if name in fixed:
                with contextlib.suppress(ValueError, TypeError):  # Optuna keeps the fixed value anyway
                    x[column] = coordinate.encode(fixed[name])
        return x
