"""What a Spikformer (Zhou et al., ICLR 2023) computes, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator

from aspk.families.base import (
    Addition,
    Convolution,
    Head,
    Linear,
    Mean,
    Operation,
    Program,
)
from aspk.families.mixers import mixing
from aspk.families.operations import neurons_of
from aspk.families.stem import stem
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig


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
    height, columns = yield from stem(config, settings, shape)
    yield Convolution(
        reads=("x",),
        writes="position",
        names=("position",),
        source="spikes",
        inputs=width,
        outputs=width,
        size=(height, columns),
        neurons=neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold),
    )
    tokens = height * columns
    yield Addition(
        reads=("x", "position"), writes="stream", place="position", size=width * tokens, starts=True
    )
    for index, block in enumerate(config.blocks):
        yield from _block(f"blocks.{index}", config, block, settings, tokens)
    yield Mean(reads=("stream",), writes="features", read_by="head", tokens=tokens)
    yield Head(reads=("features",), writes="logits", name="head", inputs=width, classes=classes)


def _block(
    name: str, config: SubnetConfig, block: BlockConfig, settings: NetworkSettings, tokens: int
) -> Iterator[Operation]:
    width, hidden = config.embed_dim, int(config.embed_dim * block.mlp_ratio)
    neurons = neurons_of(settings, block.neuron, block.tau, block.v_threshold)

    def linear(reads: str, writes: str, inputs: int, outputs: int, part: str) -> Linear:
        return Linear(
            reads=(reads,),
            writes=writes,
            names=(f"{name}.{part}",),
            source="residual" if reads == "stream" else "spikes",
            inputs=inputs,
            outputs=outputs,
            size=(tokens, 1),
            neurons=neurons,
        )

    added = Addition(reads=("stream", "branch"), writes="stream", place=name, size=width * tokens)
    if block.mixer != "none":
        inner = settings.attention_width(config, block)
        yield from mixing(name, config, block, settings, reads="stream", source="residual", tokens=tokens)
        yield linear("attended", "branch", inner, width, "proj")
        yield added
    yield linear("stream", "hidden", width, hidden, "fc1")
    yield linear("hidden", "branch", hidden, width, "fc2")
    yield added
