"""Which genes a network uses: none of blocks past its depth, none that another gene makes meaningless."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aspk.space.gene import Gene
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig, Value, unless

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Conditions:
    """The conditions on the genes of a space, see :func:`aspk.space.genes.unless`.

    A gene that all blocks share has a meaning if it has one in at least one block in use.

    Args:
        genes: all genes of the space.
        settings: what its networks share.
        reference: the network that has the values of genes that are not in the space.
    """

    def __init__(self, genes: Sequence[Gene], settings: NetworkSettings, reference: SubnetConfig) -> None:
        self._cardinalities = [len(gene.choices) for gene in genes]
        self._block = np.array([-1 if gene.block is None else gene.block for gene in genes])
        (self._depth,) = (column for column, gene in enumerate(genes) if gene.name == "depth")
        self._depths = np.asarray(genes[self._depth].choices)
        # For each conditional gene: the deciding columns, and which of their choices leave it meaningless.
        self._deciding: dict[int, dict[int, BoolArray]] = {}
        for column, gene in enumerate(genes):
            name, words = unless(gene.name, settings) or (None, ())
            found = {
                place: np.array([choice in words for choice in other.choices])
                for place, other in enumerate(genes)
                if other.name == name and (None in (gene.block, other.block) or gene.block == other.block)
            }
            never = not found and _value(reference, name) in words
            if never or any(without.any() for without in found.values()):
                self._deciding[column] = found

    @property
    def conditional(self) -> list[int]:
        """Columns of the genes that another gene may leave without meaning."""
        return list(self._deciding)

    def active(self, X: IntArray) -> BoolArray:
        """Which genes each genotype uses, shape (..., G) as ``X``."""
        used: BoolArray = np.asarray(self._block < self._depth_of(X)[..., None])
        result = used.copy()
        for column, deciding in self._deciding.items():
            without = [
                table[X[..., place].astype(np.int64)] | ~used[..., place] for place, table in deciding.items()
            ]
            result[..., column] &= ~np.all(without, axis=0)
        return result

    def copies(self, X: IntArray) -> IntArray:
        """How many genotypes describe each one's network, not counting blocks past its depth; shape (...)."""
        unused = np.asarray(self._block < self._depth_of(X)[..., None]) & ~self.active(X)
        copies: IntArray = np.where(unused, self._cardinalities, 1).prod(axis=-1)
        return copies

    def _depth_of(self, X: IntArray) -> IntArray:
        return np.asarray(self._depths[X[..., self._depth].astype(np.int64)])

    def networks(self, depth: int) -> int:
        """Number of distinct networks of one depth."""
        deciders = {place for deciding in self._deciding.values() for place in deciding}
        first = [column for column, block in enumerate(self._block) if block == 0]
        shared = [column for column, block in enumerate(self._block) if block < 0 and column != self._depth]
        # Genes shared by all blocks, whose use depends on each block: they count once if no block uses them.
        mixed = [
            column
            for column in shared
            if any(self._block[place] >= 0 for place in self._deciding.get(column, ()))
        ]
        total = 0
        for chosen in self._assignments([column for column in shared if column in deciders]):
            alone = [column for column in shared if column not in deciders and column not in mixed]
            kinds = [
                (
                    self._product([column for column in first if column not in deciders], chosen | own),
                    {column for column in mixed if self._without(column, chosen | own)},
                )
                for own in self._assignments([column for column in first if column in deciders])
            ]
            for size in range(len(mixed) + 1):
                for left_out in itertools.combinations(mixed, size):
                    signed = math.prod(1 - self._cardinalities[column] for column in left_out)
                    free = math.prod(
                        self._cardinalities[column] for column in mixed if column not in left_out
                    )
                    per_block = sum(count for count, without in kinds if without.issuperset(left_out))
                    total += self._product(alone, chosen) * signed * free * per_block**depth
        return total

    def _assignments(self, columns: Sequence[int]) -> Iterator[dict[int, int]]:
        for indices in itertools.product(*(range(self._cardinalities[column]) for column in columns)):
            yield dict(zip(columns, indices, strict=True))

    def _product(self, columns: Sequence[int], chosen: Mapping[int, int]) -> int:
        return math.prod(
            1 if self._without(column, chosen) else self._cardinalities[column] for column in columns
        )

    def _without(self, column: int, chosen: Mapping[int, int]) -> bool:
        """Whether the chosen genes leave another one without meaning."""
        if column not in self._deciding:
            return False
        return all(table[chosen[place]] for place, table in self._deciding[column].items() if place in chosen)


def _value(reference: SubnetConfig, gene: str | None) -> Value | None:
    """A network's value of a gene; None without a gene."""
    for part in (reference, reference.blocks[0]):
        if gene is not None and hasattr(part, gene):
            value: Value = getattr(part, gene)
            return value
    return None


def meaningful(
    values: dict[str, Value], reference: SubnetConfig | BlockConfig, settings: NetworkSettings
) -> dict[str, Value]:
    """The values of one block, or of the whole network; the reference's for genes without meaning."""
    conditions = {name: unless(name, settings) or ("", ()) for name in values}
    return {
        name: getattr(reference, name)
        if values.get(gene, getattr(reference, gene, None)) in words
        else values[name]
        for name, (gene, words) in conditions.items()
    }


def block_using(name: str, config: SubnetConfig, settings: NetworkSettings) -> BlockConfig:
    """The first block in which a gene has a meaning, or the first one."""
    gene, words = unless(name, settings) or ("", ())
    return next(
        (block for block in config.blocks if getattr(block, gene, None) not in words), config.blocks[0]
    )
