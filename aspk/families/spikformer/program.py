"""What a Spikformer (Zhou et al., ICLR 2023) computes, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator

from aspk.families.base import (
    IMAGE,
    LIF,
    Addition,
    Attention,
    Convolution,
    Head,
    Linear,
    Mean,
    Operation,
    Pooling,
    Program,
)
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig

STEM_STAGES = 4
STEM_FRACTIONS = (8, 4, 2, 1)  # stage i has embed_dim / fraction channels


def stem_widths(config: SubnetConfig) -> tuple[int, ...]:
    """Channels of the four stem stages."""
    return tuple(config.embed_dim // fraction for fraction in STEM_FRACTIONS)


def pooled_stages(settings: NetworkSettings) -> range:
    """Stem stages that end in a pooling which halves the image; the last ones."""
    return range(STEM_STAGES - (settings.patch_size.bit_length() - 1), STEM_STAGES)


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
    width, (channels, height, columns) = config.embed_dim, shape
    neurons = _neurons(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold)
    for stage, outputs in enumerate(stem_widths(config)):
        yield Convolution(
            reads=("x" if stage else IMAGE,),
            writes="x",
            names=(f"stem.{stage}",),
            source="spikes" if stage else "image",
            inputs=channels,
            outputs=outputs,
            size=(height, columns),
            neurons=neurons,
        )
        channels = outputs
        if stage in pooled_stages(settings):
            yield Pooling(reads=("x",), writes="x", place=f"stem.{stage}", size=outputs * height * columns)
            height, columns = (height + 1) // 2, (columns + 1) // 2
    yield Convolution(
        reads=("x",),
        writes="position",
        names=("position",),
        source="spikes",
        inputs=width,
        outputs=width,
        size=(height, columns),
        neurons=neurons,
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
    width, inner = config.embed_dim, settings.attention_width(config, block)
    hidden = int(width * block.mlp_ratio)
    neurons = _neurons(settings, block.neuron, block.tau, block.v_threshold)

    def linear(reads: str, writes: str, inputs: int, outputs: int, *parts: str) -> Linear:
        return Linear(
            reads=(reads,),
            writes=writes,
            names=tuple(f"{name}.{part}" for part in parts),
            source="residual" if reads == "stream" else "spikes",
            inputs=inputs,
            outputs=outputs,
            size=(tokens, 1),
            neurons=neurons,
        )

    added = Addition(reads=("stream", "branch"), writes="stream", place=name, size=width * tokens)
    yield linear("stream", "qkv", width, inner, "q", "k", "v")
    yield Attention(
        reads=("qkv", "stream"),
        writes="attended",
        names=(f"{name}.qk", f"{name}.av"),
        made_by=(f"{name}.q", f"{name}.k", f"{name}.v"),
        heads=block.num_heads,
        scale=settings.attention_scale,
        width=inner,
        tokens=tokens,
        neurons=_neurons(settings, block.neuron, block.tau, block.attention_v_threshold),
    )
    yield linear("attended", "branch", inner, width, "proj")
    yield added
    yield linear("stream", "hidden", width, hidden, "fc1")
    yield linear("hidden", "branch", hidden, width, "fc2")
    yield added


def _neurons(settings: NetworkSettings, neuron: str, tau: float, v_threshold: float) -> LIF:
    return LIF(tau, v_threshold, settings.reset, settings.decay_input, learnt=neuron == "plif")
