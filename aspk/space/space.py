"""Search spaces: genes, their choices, and the networks they describe.

A genotype is a vector of choice indices of fixed length. Genes of blocks past the depth are
*inactive*: they stay in the vector, and comparisons go through :meth:`SearchSpace.canonical`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aspk.errors import GenotypeError, SpaceError
from aspk.space.conditions import BoolArray, Conditions, IntArray, block_using, meaningful
from aspk.space.gene import Gene
from aspk.space.genes import GENES, BlockConfig, NetworkSettings, SubnetConfig, Value, whole_word
from aspk.util.records import fingerprint

_MOST_NETWORKS = 1_000_000  # in a space that can be enumerated

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True)
class SearchSpace:
    """A finite space of networks.

    Attributes:
        name: the space's name.
        network: choices of the genes with one value for the whole network.
        block: choices of the genes with one value for each block.
        reference: the hand-made network that energies and results are compared with.
        settings: what all its networks share.
        named: further networks that have a name, such as published ones. They do not belong to the space's
            identity, and records of it leave them out: naming a network changes no study and no supernet.
    """

    name: str
    network: Mapping[str, tuple[Value, ...]]
    block: Mapping[str, tuple[Value, ...]]
    reference: SubnetConfig
    settings: NetworkSettings = field(default_factory=NetworkSettings)
    named: Mapping[str, SubnetConfig] = field(default_factory=dict, compare=False)

    # ------------------------------------------------------------------ shape of the genotype

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes: the network's first, then block by block."""
        network = [Gene(name, choices) for name, choices in self.network.items()]
        blocks = [
            Gene(name, choices, index)
            for index in range(self.max_depth)
            for name, choices in self.block.items()
        ]
        return (*network, *blocks)

    @property
    def max_depth(self) -> int:
        """Blocks of the deepest network."""
        return int(max(self.network["depth"]))

    @property
    def max_time_steps(self) -> int:
        """The longest T."""
        return int(max(self.network["time_steps"]))

    @cached_property
    def cardinalities(self) -> IntArray:
        """Number of choices of each gene, shape (G,)."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @cached_property
    def ordered(self) -> BoolArray:
        """Which genes have an order, shape (G,): those whose choices are ascending numbers, not words."""
        return np.array([not GENES[gene.name].words for gene in self.genes], dtype=bool)

    @cached_property
    def _depth_column(self) -> int:
        return list(self.network).index("depth")

    @cached_property
    def _conditions(self) -> Conditions:
        return Conditions(self.genes, self.settings, self.reference)

    def active(self, X: npt.ArrayLike) -> BoolArray:
        """Which genes each genotype uses.

        Args:
            X: index vectors, shape (..., G).

        Returns:
            Mask of shape (..., G).
        """
        return self._conditions.active(np.asarray(X))

    def canonical(self, X: npt.ArrayLike) -> IntArray:
        """The genotypes with inactive genes at 0: equal exactly for equal networks. Shape (..., G)."""
        X = np.asarray(X, dtype=np.int64)
        return np.where(self.active(X), X, 0)

    def key(self, x: npt.ArrayLike) -> tuple[int, ...]:
        """Hashable identity of the network of one genotype."""
        return tuple(int(index) for index in self.canonical(self.check(x)))

    def check(self, x: npt.ArrayLike) -> IntArray:
        """One index vector of shape (G,), validated.

        Raises:
            GenotypeError: wrong length, not integers, or an index out of range.
        """
        try:
            array = np.asarray(x)
        except ValueError:
            raise GenotypeError(f"a genotype must be a vector of integers, got {x!r}") from None
        if array.shape != (len(self.genes),):
            raise GenotypeError(
                f"a genotype of space {self.name!r} has {len(self.genes)} indices, got shape {array.shape}"
            )
        if array.dtype.kind in "iuf":
            with np.errstate(invalid="ignore"):
                indices = array.astype(np.int64)
        if array.dtype.kind not in "iuf" or not np.array_equal(indices, array):
            raise GenotypeError(f"genotype indices must be integers, got {array.tolist()}")
        wrong = np.flatnonzero((indices < 0) | (indices >= self.cardinalities))
        if wrong.size:
            gene = self.genes[wrong[0]]
            raise GenotypeError(
                f"{gene.parameter}: index {indices[wrong[0]]} is outside 0..{len(gene.choices) - 1}"
            )
        return indices

    # ------------------------------------------------------------------ encode and decode

    def decode(self, x: npt.ArrayLike) -> SubnetConfig:
        """The network of one index vector of shape (G,).

        A gene that another one leaves without meaning takes the reference's value.
        """
        indices = self.check(x)
        values = {g.parameter: g.choices[i] for g, i in zip(self.genes, indices, strict=True)}
        return self._build(values, int(values["depth"]))

    def reference_block(self, index: int) -> BlockConfig:
        """The reference's block of an index; past its depth, its last one."""
        return self.reference.blocks[min(index, self.reference.depth - 1)]

    def _build(self, values: Mapping[str, Value], depth: int) -> SubnetConfig:
        fixed: dict[str, Value] = {"attention_v_threshold": self.settings.attention_v_threshold}
        shared = {name: values[name] for name in self.network if GENES[name].per_block}
        blocks = tuple(
            BlockConfig(
                **meaningful(  # type: ignore[arg-type]  # mixed int, float and str genes
                    fixed | shared | {name: values[f"blocks.{index}.{name}"] for name in self.block},
                    self.reference_block(index),
                    self.settings,
                )
            )
            for index in range(depth)
        )
        fixed = {"stem_v_threshold": self.settings.stem_v_threshold, "stem_tau": self.settings.stem_tau}
        own = {name: values[name] for name in self.network if name != "depth" and name not in shared}
        return SubnetConfig(**meaningful(fixed | own, self.reference, self.settings), blocks=blocks)  # type: ignore[arg-type]  # as above

    def encode(self, config: SubnetConfig) -> IntArray:
        """The canonical index vector of a network.

        Raises:
            GenotypeError: the network is not a member of the space.
        """
        x = np.zeros(len(self.genes), dtype=np.int64)
        for column, gene in enumerate(self.genes):
            if gene.block is not None:
                if gene.block < config.depth:
                    x[column] = gene.index(getattr(config.blocks[gene.block], gene.name))
            elif GENES[gene.name].per_block:
                x[column] = gene.index(
                    getattr(block_using(gene.name, config, self.settings), gene.name)
                    if config.blocks
                    else None
                )
            else:
                x[column] = gene.index(getattr(config, gene.name))
        if (member := self.decode(x)) != config:
            raise GenotypeError(f"{config} is not in space {self.name!r}; the nearest encoding is {member}")
        return self.canonical(x)

    def parameters(self, x: npt.ArrayLike) -> dict[str, Value]:
        """The active genes of one index vector as named values, as Optuna shows them."""
        indices = self.check(x)
        mask = self.active(indices)
        rows = zip(self.genes, indices, mask, strict=True)
        return {gene.parameter: gene.choices[index] for gene, index, used in rows if used}

    def from_parameters(self, parameters: Mapping[str, object]) -> IntArray:
        """The index vector of named values; inactive genes that are not given become 0.

        Raises:
            GenotypeError: an active gene is missing, a name is unknown, or a value is not a choice.
        """
        unknown = set(parameters) - {gene.parameter for gene in self.genes}
        if unknown:
            raise GenotypeError(f"space {self.name!r} has no parameter {sorted(unknown)[0]!r}")
        x = np.zeros(len(self.genes), dtype=np.int64)
        for column, gene in enumerate(self.genes):
            if gene.parameter in parameters:
                x[column] = gene.index(parameters[gene.parameter])
        for gene, used in zip(self.genes, self.active(x), strict=True):
            if used and gene.parameter not in parameters:
                raise GenotypeError(f"parameter {gene.parameter!r} is missing")
        return x

    def suggest(self, trial: BaseTrial) -> SubnetConfig:
        """Ask an ``optuna.Trial`` for a network: one ``suggest_*`` call for each active gene."""
        x = np.zeros(len(self.genes), dtype=np.int64)
        conditional = self._conditions.conditional  # the other genes decide whether these are in use
        for column in sorted(range(len(self.genes)), key=conditional.__contains__):
            gene = self.genes[column]
            if not self.active(x)[column]:
                continue
            low, high, name, step = gene.choices[0], gene.choices[-1], gene.parameter, gene.step
            if step is None or isinstance(low, str):
                value: object = trial.suggest_categorical(name, gene.choices)
            elif isinstance(low, int):
                value = trial.suggest_int(name, low, int(high), step=int(step))
            else:
                value = trial.suggest_float(name, low, float(high), step=float(step))
            x[column] = gene.index(value)
        return self.decode(x)

    # ------------------------------------------------------------------ sampling and neighbourhood

    def sample_choices(self, count: int, rng: np.random.Generator) -> IntArray:
        """Genotypes with every gene uniform over its choices, shape (count, G).

        All depths are then equally likely, so that any one shallow network is drawn more often than any one
        deep network, of which there are many more. See :meth:`sample_networks`.
        """
        return rng.integers(0, self.cardinalities, size=(count, len(self.genes)))

    def sample_networks(self, count: int, rng: np.random.Generator) -> IntArray:
        """Genotypes with every distinct network equally likely, shape (count, G).

        Nearly all of them have the largest depth. Inactive genes are uniform as well.
        """
        X = self.sample_choices(count, rng)
        shares = [size / self.size for size in self._sizes_by_depth]  # of integers beyond float's range
        X[:, self._depth_column] = rng.choice(len(shares), size=count, p=shares)
        rows = np.arange(count if self._conditions.conditional else 0)
        while rows.size:  # the more genotypes describe a network, the more rarely each one is kept
            refused = rng.random(len(rows)) * self._conditions.copies(X[rows]) >= 1
            rows = rows[refused]
            again = self.sample_choices(len(rows), rng)
            again[:, self._depth_column] = X[rows, self._depth_column]
            X[rows] = again
        return X

    @cached_property
    def _sizes_by_depth(self) -> list[int]:
        return [self._conditions.networks(int(depth)) for depth in self.network["depth"]]

    @property
    def size(self) -> int:
        """Number of distinct networks."""
        return sum(self._sizes_by_depth)

    def networks(self) -> Iterator[IntArray]:
        """Every network once, as canonical index vectors.

        Raises:
            SpaceError: the space is too large to enumerate: more than a million networks.
        """
        if self.size > _MOST_NETWORKS:
            raise SpaceError(
                f"space {self.name!r} has {self.size:,} networks: expected at most {_MOST_NETWORKS:,} if "
                "every one is to be visited; use a smaller part of the space"
            )
        return self._networks()

    def _networks(self) -> Iterator[IntArray]:
        for depth_index, depth in enumerate(self.network["depth"]):
            ranges = [
                range(len(gene.choices)) if gene.block is None or gene.block < int(depth) else range(1)
                for gene in self.genes
            ]
            ranges[self._depth_column] = range(depth_index, depth_index + 1)
            for indices in itertools.product(*ranges):
                x = np.array(indices, dtype=np.int64)
                if not self._conditions.conditional or np.array_equal(self.canonical(x), x):
                    yield x

    # ------------------------------------------------------------------ named members

    @cached_property
    def largest(self) -> SubnetConfig:
        """The network with the largest architecture; its neurons are the reference's.

        A neuron gene has no size, and the ends of its range (threshold 2 and tau 10, say) can silence a
        network, which would make a poor anchor for training.
        """
        return self._extreme(-1)

    @cached_property
    def smallest(self) -> SubnetConfig:
        """The network with the smallest architecture; its neurons are the reference's."""
        return self._extreme(0)

    @cached_property
    def superset(self) -> SubnetConfig:
        """The network with the weights of all others: the largest, with the last word of each word gene.

        Its mixer may be two joined words, see :func:`aspk.space.genes.whole_word`: then it is no member of
        the space.
        """
        words = {
            name: whole_word(name, choices)
            for name, choices in (*self.network.items(), *self.block.items())
            if GENES[name].words
        }
        inside: dict[str, Any] = {name: word for name, word in words.items() if GENES[name].per_block}
        outside: dict[str, Any] = {name: word for name, word in words.items() if name not in inside}
        blocks = tuple(replace(block, **inside) for block in self.largest.blocks)
        return replace(self.largest, blocks=blocks, **outside)

    def _extreme(self, end: int) -> SubnetConfig:
        values = {gene.parameter: gene.by_size[end] for gene in self.genes}
        config = self._build(values, int(values["depth"]))
        inside = [name for name, kind in GENES.items() if kind.neuron and kind.per_block]
        blocks = tuple(
            replace(block, **{name: getattr(self.reference_block(index), name) for name in inside})
            for index, block in enumerate(config.blocks)
        )
        stem = {
            name: getattr(self.reference, name)
            for name, kind in GENES.items()
            if kind.neuron and not kind.per_block
        }
        return replace(config, blocks=blocks, **stem)

    def fixed(self, names: Iterable[str]) -> SearchSpace:
        """The part of the space in which some genes have the reference's value, in every block.

        It names no networks, since those of the whole space need not be in it.

        Raises:
            GenotypeError: a name is no gene of the space.
        """
        fixed = dict.fromkeys(names)
        genes = {**self.network, **self.block}
        for name in fixed:
            if name not in genes:
                raise GenotypeError(f"space {self.name!r} has no gene {name!r}; it has {', '.join(genes)}")
        own = self.to_json()["reference"]
        for name in fixed:
            if isinstance(own[name], list):
                raise GenotypeError(
                    f"gene {name!r} cannot be fixed: the reference has {own[name]}, one for each block, and "
                    "all blocks have the same choices"
                )
        network, block = (
            {name: (own[name],) if name in fixed else choices for name, choices in table.items()}
            for table in (self.network, self.block)
        )
        return replace(self, network=network, block=block, named={})

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values, without named networks; :func:`space_from_dict` reads them."""
        reference: dict[str, Value | list[Value]] = {
            name: getattr(self.reference.blocks[0] if GENES[name].per_block else self.reference, name)
            for name in (*self.network, *self.block)
        }
        for name in self.block:
            values: list[Value] = [getattr(block, name) for block in self.reference.blocks]
            if len(set(values)) > 1:
                reference[name] = values
        return {
            "name": self.name,
            "settings": {k: v for k, v in self.settings.to_json().items() if v is not None},
            "network": {name: list(choices) for name, choices in self.network.items()},
            "block": {name: list(choices) for name, choices in self.block.items()},
            "reference": reference,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the space's content without its name."""
        content = {key: value for key, value in self.to_json().items() if key != "name"}
        return fingerprint(content)
