"""What a network with membrane shortcuts computes, operation by operation.

These are Spikingformer (Zhou et al., arXiv 2304.11954) and "SDT", the Spike-driven Transformer (Yao et al.,
NeurIPS 2023, arXiv 2307.01694). Their shortcuts add currents in front of neurons, so that every layer behind
the first one reads 0/1 spikes. They differ in two settings:

``stem``
    ``spikingformer``: five convolutions, neurons behind all but the last. ``sdt``: neurons behind the first
    three; the fourth makes a current u, pooled as a current; the fifth reads u's spikes and adds to u.
``head``
    ``spikingformer``: the mean of the current over tokens and time. ``sdt``: neurons read its mean over
    tokens, and the head the mean of their spikes over time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from aspk.families.base import (
    Addition,
    Convolution,
    DepthwiseConvolution,
    Firing,
    Head,
    Linear,
    Maps,
    Mean,
    Operation,
    Program,
    Tokens,
)
from aspk.families.mixers import mixing
from aspk.families.operations import neurons_of
from aspk.families.stem import STAGES, stem
from aspk.space.genes import DEPTHWISE, BlockConfig, NetworkSettings, SubnetConfig


def program(
    config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int], classes: int
) -> Program:
    """The operations of one network.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the input.
        classes: number of classes.
    """
    return Program(tuple(_operations(config, settings, shape, classes)), config.time_steps)


def _operations(
    config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int], classes: int
) -> Iterator[Operation]:
    width = config.embed_dim
    height, columns = yield from _stem(config, settings, shape)
    size = (height, columns)
    made_by: tuple[str, ...] = ("position",)
    yield Tokens(reads=("stream",), writes="stream")
    for index, block in enumerate(config.blocks):
        made_by = yield from membrane_block(f"blocks.{index}", config, block, settings, size, made_by)
    spikes = settings.head == "sdt"
    tokens = height * columns
    read_by = "head_lif" if spikes else "head"
    yield Mean(reads=("stream",), writes="features", read_by=read_by, tokens=tokens, source="analog")
    if spikes:
        yield Firing(
            reads=("features",),
            writes="fired",
            name="head_lif",
            made_by=made_by,
            size=width,
            neurons=neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold),
        )
    yield Head(
        reads=("fired" if spikes else "features",),
        writes="logits",
        name="head",
        inputs=width,
        classes=classes,
    )


def _stem(
    config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int]
) -> Generator[Operation, None, tuple[int, int]]:
    """The stem, which writes ``stream``; returns height and width of the maps."""
    width, shortcut = config.embed_dim, settings.stem == "sdt"
    height, columns = yield from stem(config, settings, shape, last_fires=not shortcut, bias=shortcut)
    size = width * height * columns
    if shortcut:
        yield Firing(
            reads=("x",),
            writes="spikes",
            name="position_lif",
            made_by=(f"stem.{STAGES - 1}",),
            size=size,
            neurons=neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold),
        )
    yield Convolution(
        reads=("spikes" if shortcut else "x",),
        writes="stream",
        names=("position",),
        source="spikes",
        inputs=width,
        outputs=width,
        size=(height, columns),
        neurons=None,
    )
    if shortcut:
        yield Addition(reads=("x", "stream"), writes="stream", place="position", size=size)
    return height, columns


def membrane_block(
    name: str,
    config: SubnetConfig,
    block: BlockConfig,
    settings: NetworkSettings,
    size: tuple[int, int],
    made_by: tuple[str, ...],
) -> Generator[Operation, None, tuple[str, ...]]:
    """One block, which reads and writes ``stream``.

    Args:
        name: the block's name.
        config: the network; its ``embed_dim`` is the width of the stream.
        block: the block.
        settings: what the search space fixes.
        size: height and width of the maps that the tokens make up.
        made_by: the layers that last contributed to the stream.

    Returns:
        The block's own last layers.
    """
    tokens = size[0] * size[1]
    width, hidden = config.embed_dim, int(config.embed_dim * block.mlp_ratio)
    neurons = neurons_of(settings, block.neuron, block.tau, block.v_threshold)

    def firing(part: str) -> Firing:
        return Firing(
            reads=("stream",),
            writes="spikes",
            name=f"{name}.{part}",
            made_by=made_by,
            size=width * tokens,
            neurons=neurons,
        )

    def linear(reads: str, writes: str, inputs: int, outputs: int, part: str) -> Linear:
        return Linear(
            reads=(reads,),
            writes=writes,
            names=(f"{name}.{part}",),
            source="spikes",
            inputs=inputs,
            outputs=outputs,
            size=(tokens, 1),
            neurons=None if writes == "branch" else neurons,
        )

    added = Addition(reads=("stream", "branch"), writes="stream", place=name, size=width * tokens)
    if block.mixer in DEPTHWISE:
        yield firing("attention_lif")
        yield Maps(reads=("spikes",), writes="spikes", size=size)
        yield DepthwiseConvolution(
            reads=("spikes",),
            writes="branch",
            names=(f"{name}.dwconv",),
            source="spikes",
            inputs=width,
            outputs=width,
            size=size,
            neurons=None,
            bias=True,
            kernel=DEPTHWISE[block.mixer],
        )
        yield Tokens(reads=("branch",), writes="branch")
        yield added
        made_by = (f"{name}.dwconv",)
    elif block.mixer != "none":
        yield firing("attention_lif")
        yield from mixing(
            name, config, block, settings, reads="spikes", source="spikes", tokens=tokens, bias=False
        )
        yield linear("attended", "branch", settings.attention_width(config, block), width, "proj")
        yield added
        made_by = (f"{name}.proj",)
    yield firing("mlp_lif")
    yield linear("spikes", "hidden", width, hidden, "fc1")
    yield linear("hidden", "branch", hidden, width, "fc2")
    yield added
    return (f"{name}.fc2",)
