"""Networks as values: the genes that describe one, and what all networks of a space share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import GenericAlias
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from aspk.errors import GenotypeError, SpaceError
from aspk.util.schema import Kind, check_fields, check_value, one_of, unknown_key

Value = int | float | str


class GeneKind(NamedTuple):
    """What a gene's values may be: their type, their range, and where the gene may be used.

    Attributes:
        type: of the values; ``str`` for a choice among ``words``.
        above: exclusive lower bound of a number.
        per_block: whether each block may have a value of its own.
        required: whether every space has it.
        neuron: whether it sets the neurons; the largest and smallest networks use the reference's.
        at_most: upper bound of a number.
        words: the values of a gene that is not a number. A network with a later word has every weight of one
            with an earlier word.
        unless: another gene, and the values of it that leave this one without meaning; see :func:`unless`.
        later: whether the gene was added later, and earlier networks have its default; JSON then leaves out
            the default, so that nothing changes for those networks.
    """

    type: type[int] | type[float] | type[str]
    above: float
    per_block: bool
    required: bool
    neuron: bool
    at_most: int = 10**6
    words: tuple[str, ...] = ()
    unless: tuple[str, tuple[Value, ...]] | None = None
    later: bool = False

    @property
    def values(self) -> Kind:
        """Annotation of one value."""
        if self.words:
            return Annotated[str, one_of(self.words)]
        return Annotated[self.type, Meta(gt=self.above, le=self.at_most)]

    @property
    def choices(self) -> Kind:
        """Annotation of the list of values that a search may choose from."""
        return Annotated[GenericAlias(list, (self.values,)), Meta(min_length=1)]


_NEURONS = ("lif", "plif")
# Mixers that are depthwise convolutions, and the side of their kernels; larger ones contain smaller ones.
DEPTHWISE: Mapping[str, int] = {"dwc3": 3, "dwc5": 5, "dwc7": 7}
_ATTENTION = ("qk_token", "sdsa", "ssa")
_MIXERS = ("none", *DEPTHWISE, *_ATTENTION)
_CONVS = (2, 3, 4)
_STEM = ("stem_convs", "stem_fraction", "stem_pooling")
_STAGES = ("embedding", "stage_blocks")
# The only list of search dimensions. A new one: a row here, a field of the config below, its reader.
GENES: dict[str, GeneKind] = {
    "embed_dim": GeneKind(int, 0, per_block=False, required=True, neuron=False),
    "depth": GeneKind(int, 0, per_block=False, required=True, neuron=False, at_most=1000),
    "time_steps": GeneKind(int, 0, per_block=False, required=True, neuron=False),
    "stem_convs": GeneKind(
        int, min(_CONVS) - 1, at_most=max(_CONVS), per_block=False, required=False, neuron=False, later=True
    ),
    "stem_fraction": GeneKind(float, 0, at_most=1, per_block=False, required=False, neuron=False, later=True),
    "stem_pooling": GeneKind(
        str, 0, per_block=False, required=False, neuron=False, words=("early", "late"), later=True
    ),
    "embedding": GeneKind(
        str, 0, per_block=False, required=False, neuron=False, words=("orig", "one_max", "max"), later=True
    ),
    "stem_neuron": GeneKind(str, 0, per_block=False, required=False, neuron=True, words=_NEURONS, later=True),
    "stem_v_threshold": GeneKind(float, 0, per_block=False, required=False, neuron=True),
    "stem_tau": GeneKind(
        float, 1, per_block=False, required=False, neuron=True, unless=("stem_neuron", ("plif",))
    ),
    "mlp_ratio": GeneKind(float, 0, per_block=True, required=True, neuron=False),
    "stage_blocks": GeneKind(int, 0, per_block=True, required=False, neuron=False, at_most=100, later=True),
    "num_heads": GeneKind(
        int, 0, per_block=True, required=True, neuron=False, unless=("mixer", ("none", *DEPTHWISE))
    ),
    "neuron": GeneKind(str, 0, per_block=True, required=False, neuron=True, words=_NEURONS, later=True),
    "mixer": GeneKind(str, 0, per_block=True, required=False, neuron=False, words=_MIXERS, later=True),
    "v_threshold": GeneKind(float, 0, per_block=True, required=True, neuron=True),
    "tau": GeneKind(float, 1, per_block=True, required=True, neuron=True, unless=("neuron", ("plif",))),
    "attention_v_threshold": GeneKind(
        float, 0, per_block=True, required=False, neuron=True, unless=("mixer", ("none", *DEPTHWISE))
    ),
}


FamilyName = Literal["spikformer", "membrane", "hierarchical"]


class FamilyKind(NamedTuple):
    """What a family's networks may be, as far as their genes and settings say it.

    Attributes:
        settings: the settings that have a meaning only for it.
        lacks: the genes that have no meaning for it.
        mixers: the token mixers that its blocks may have.
        stages: if not 0, the number of stages of each network: ``depth`` counts them, and the genes of a
            block are those of a stage, which has twice the channels and half the side of the one before.
    """

    settings: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    mixers: tuple[str, ...] = _MIXERS
    stages: int = 0


FAMILIES: dict[FamilyName, FamilyKind] = {
    "spikformer": FamilyKind(lacks=_STAGES, mixers=("none", *_ATTENTION)),
    "membrane": FamilyKind(settings=("stem", "head"), lacks=_STAGES, mixers=("none", *_ATTENTION)),
    "hierarchical": FamilyKind(lacks=_STEM, stages=3),
}
# Settings of later versions, which older files lack.
_ADDED = {"family": "spikformer", "stem": "spikingformer", "head": "spikingformer"}
_Factor = Annotated[float, Meta(gt=0, le=10**6)]


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One transformer block.

    Attributes:
        mlp_ratio: hidden width of the MLP over ``embed_dim``.
        num_heads: attention heads.
        v_threshold: firing threshold of every neuron of the block except the attention's.
        tau: membrane time constant in steps, > 1, of every neuron of the block; with ``plif``, its
            value before training.
        attention_v_threshold: threshold of the neurons in the token mixer: in Spikformer those after
            (q kᵀ) v, where it is 0.5.
        neuron: ``lif``, or ``plif``: the time constant of each site is learnt.
        mixer: what mixes tokens, see :mod:`aspk.families.mixers`: ``ssa`` (spiking self-attention), ``sdsa``
            (spike-driven self-attention), ``qk_token`` (Q-K token attention) or ``none``; in the hierarchical
            family also ``dwc3``, ``dwc5`` and ``dwc7``, depthwise convolutions.
        stage_blocks: in the hierarchical family, the number of blocks in a stage, all with the stage's genes.
    """

    mlp_ratio: float
    num_heads: int
    v_threshold: float
    tau: float
    attention_v_threshold: float = 0.5
    neuron: str = "lif"
    mixer: str = "ssa"
    stage_blocks: int = 1


@dataclass(frozen=True, kw_only=True)
class SubnetConfig:
    """One network of a search space, described completely: nothing else selects a sub-network.

    Attributes:
        embed_dim: width of the residual stream; in the hierarchical family, of the last stage's.
        time_steps: simulated steps T.
        blocks: the transformer blocks, first to last; in the hierarchical family, the stages.
        stem_v_threshold: threshold of the stem's neurons.
        stem_tau: time constant of the stem's neurons; with ``plif``, its value before training.
        stem_neuron: ``lif`` or ``plif``, as in a block.
        stem_convs: convolutions of the stem, 2 to 4, before the one that encodes positions.
        stem_fraction: channels of the first convolution over ``embed_dim``; each further one has twice as
            many, up to ``embed_dim``, which the last one has.
        stem_pooling: whether the poolings follow the last convolutions (``late``) or the first (``early``).
        embedding: in the hierarchical family, how stages behind the first halve the side: by a convolution
            of stride 2 (``orig``), max pooling behind the second convolution (``one_max``), or behind the
            first and in the shortcut (``max``).
    """

    embed_dim: int
    time_steps: int
    blocks: tuple[BlockConfig, ...]
    stem_v_threshold: float = 1.0
    stem_tau: float = 2.0
    stem_neuron: str = "lif"
    stem_convs: int = 4
    stem_fraction: float = 0.125
    stem_pooling: str = "late"
    embedding: str = "max"

    @property
    def depth(self) -> int:
        """Number of transformer blocks, or of stages in the hierarchical family."""
        return len(self.blocks)

    def to_json(self) -> dict[str, Any]:
        """The network as plain JSON values."""
        return _plain(self) | {"blocks": [_plain(block) for block in self.blocks]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SubnetConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            GenotypeError: a key is missing or unknown, or a value has the wrong type or range.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("blocks"), list):
            raise GenotypeError(f"a network must be an object with a list 'blocks', got {data!r}")
        if not data["blocks"]:
            raise GenotypeError("a network needs at least one block")
        values = {key: gene_value(key, data[key]) for key in data if key != "blocks"}
        for row in data["blocks"]:
            if not isinstance(row, Mapping):
                raise GenotypeError(f"a block must be an object, got {row!r}")
        rows = [{key: gene_value(key, row[key]) for key in row} for row in data["blocks"]]
        try:
            return SubnetConfig(**values, blocks=tuple(BlockConfig(**row) for row in rows))  # type: ignore[arg-type]  # checked above
        except TypeError as error:
            raise GenotypeError(f"not a network: {error}") from None


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What all networks of a space share.

    Attributes:
        heads: ``partition``: the heads divide ``embed_dim`` (Spikformer). ``fixed_head_dim``: q, k and v
            are ``num_heads * head_dim`` wide (AutoFormer), so heads are a cost gene.
        head_dim: width of a head; only with ``fixed_head_dim``.
        patch_size: image pixels per token side, a power of two up to 16.
        attention_scale: factor on (q kᵀ) v.
        reset: ``hard`` sets the membrane to 0 after a spike, ``soft`` subtracts the threshold.
        decay_input: whether the input is divided by tau, as in spikingjelly's LIFNode.
        attention_v_threshold: threshold of the attention neurons, unless it is a gene.
        stem_v_threshold: threshold of the stem's neurons, unless it is a gene.
        stem_tau: time constant of the stem's neurons, unless it is a gene.
        family: what the networks are: ``spikformer``, whose shortcuts add spikes; ``membrane``, whose
            shortcuts add currents before the neurons, as in Spikingformer and SDT; or ``hierarchical``, such
            networks in stages of growing width and falling resolution, as in Max-Former.
        stem: with ``membrane``, the stem of ``spikingformer`` or of ``sdt``, the Spike-driven Transformer.
        head: with ``membrane``, the head of ``spikingformer`` (reads currents) or of ``sdt`` (reads spikes).
    """

    heads: Literal["partition", "fixed_head_dim"] = "partition"
    head_dim: Annotated[int, Meta(ge=1, le=10**6)] | None = None
    patch_size: Literal[1, 2, 4, 8, 16] = 4
    attention_scale: _Factor = 0.125
    reset: Literal["hard", "soft"] = "hard"
    decay_input: bool = True
    attention_v_threshold: _Factor = 0.5
    stem_v_threshold: _Factor = 1.0
    stem_tau: Annotated[float, Meta(gt=1, le=10**6)] = 2.0
    family: FamilyName = "spikformer"
    stem: Literal["spikingformer", "sdt"] = "spikingformer"
    head: Literal["spikingformer", "sdt"] = "spikingformer"

    def __post_init__(self) -> None:
        check_fields(self, error=SpaceError, at="settings.")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as files hold them.

        Settings that later versions added are left out at their default values, so that older files match.
        """
        return {key: value for key, value in asdict(self).items() if _ADDED.get(key, ...) != value}

    @property
    def poolings(self) -> int:
        """Number of poolings in the stem, each of which halves the image."""
        return self.patch_size.bit_length() - 1

    @property
    def stages(self) -> int:
        """Number of stages of every network; 0 in families without stages."""
        return FAMILIES[self.family].stages

    def block_width(self, config: SubnetConfig, block: int) -> int:
        """Width of the stream in a block; stages double it from one to the next, up to ``embed_dim``."""
        return config.embed_dim >> max(self.stages - 1 - block, 0)

    def attention_width(self, config: SubnetConfig, block: BlockConfig) -> int:
        """Width of q, k and v in ``block``."""
        return config.embed_dim if self.head_dim is None else block.num_heads * self.head_dim


def _plain(part: SubnetConfig | BlockConfig) -> dict[str, Any]:
    """Fields and values, without later-added genes that have their default."""
    later = {
        item.name: item.default for item in fields(part) if item.name in GENES and GENES[item.name].later
    }
    return {key: value for key, value in asdict(part).items() if key not in later or value != later[key]}


def unless(name: str, settings: NetworkSettings) -> tuple[str, tuple[Value, ...]] | None:
    """Another gene, and the values of it that leave gene ``name`` without meaning under the settings."""
    if name == "stem_pooling":  # with a pooling after each convolution, or none at all, there is no choice
        return ("stem_convs", tuple(count for count in _CONVS if settings.poolings in (0, count)))
    if name == "num_heads" and settings.head_dim is None:
        return (
            "mixer",
            ("none", *DEPTHWISE, "sdsa"),
        )  # sdsa works channel by channel, however the channels are divided
    return GENES[name].unless


def gene_value(name: str, value: Any) -> Value:  # noqa: ANN401  # checked here
    """``value`` as gene ``name``'s type, its range checked.

    Raises:
        GenotypeError: the gene is unknown, or the value has the wrong type or range.
    """
    if name not in GENES:
        raise GenotypeError(unknown_key(name, value, GENES))
    check_value(value, GENES[name].values, error=GenotypeError, at=name)
    return GENES[name].type(value)


def check_network(config: SubnetConfig, settings: NetworkSettings) -> None:
    """Check that a network can be built.

    Raises:
        GenotypeError: a width does not divide as the network needs it to.
    """
    first = config.embed_dim * config.stem_fraction
    if first != int(first):
        raise GenotypeError(
            f"embed_dim={config.embed_dim}: must be a multiple of {1 / config.stem_fraction:g} for the stem"
        )
    if settings.poolings > config.stem_convs:
        raise GenotypeError(
            f"stem_convs={config.stem_convs}: expected at least {settings.poolings}, the poolings that "
            f"patch_size={settings.patch_size} takes"
        )
    if not config.blocks:
        raise GenotypeError("a network needs at least one block")
    if settings.stages not in (0, config.depth):
        raise GenotypeError(
            f"depth={config.depth}: networks of family {settings.family!r} have {settings.stages} stages"
        )
    for index, block in enumerate(config.blocks):
        width = settings.block_width(config, index)
        within = "embed_dim" if width == config.embed_dim else f"stage {index}'s share of embed_dim"
        attends = block.mixer not in (unless("num_heads", settings) or ("", ()))[1]
        if attends and settings.heads == "partition" and width % block.num_heads:
            raise GenotypeError(f"num_heads={block.num_heads} does not divide {within}={width}")
        hidden = width * block.mlp_ratio
        if hidden != int(hidden):
            raise GenotypeError(f"mlp_ratio={block.mlp_ratio:g} times {within}={width} is not a whole width")


def mixer_parts(mixer: str) -> tuple[int, str]:
    """What a mixer consists of: the side of its depthwise kernel, 0 without one; its attention, or ``""``.

    A network has at most one of the two, a supernet's weights may be those of both; see
    :func:`whole_word`.
    """
    words = mixer.split("+")
    sides = [DEPTHWISE[word] for word in words if word in DEPTHWISE]
    return max(sides, default=0), next((word for word in words if word in _ATTENTION), "")


def whole_word(name: str, choices: tuple[Value, ...]) -> str:
    """The word of a gene that stands for the weights of all its choices; mixers may be joined by ``+``.

    Depthwise convolutions and attention have no weights in common, so no mixer has those of both.
    """
    ranked = sorted(map(str, choices), key=GENES[name].words.index)
    convolutions = [word for word in ranked if word in DEPTHWISE]
    if convolutions and ranked[-1] not in convolutions:
        return f"{convolutions[-1]}+{ranked[-1]}"
    return ranked[-1]
