"""What a hierarchical network computes, operation by operation.

It is Max-Former (Fang et al., arXiv 2505.18608) for images of 32x32 pixels. Its blocks are those of the
membrane family (:mod:`aspk.families.membrane.program`), in three stages at the full, half and quarter side
with a quarter, half and all of the channels. A stage begins with an embedding, which writes a current:

``embed.0``
    A convolution of the image, and its spikes' convolution plus 1x1 convolution.
``embed.1``, ``embed.2``
    Spikes of the stream through two convolutions with neurons in between, plus a 1x1 convolution of the same
    spikes. Where the side is halved is the gene ``embedding``: ``orig``: the second convolution and the 1x1
    one have stride 2; ``one_max``: max pooling behind the second, stride 2 in the 1x1 one; ``max``: max
    pooling behind the first and behind the 1x1 one, as published.

The published code has two sites of neurons that read ``embed.0``'s first current; they fire alike, and are
one site here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

from aspk.families.base import (
    IMAGE,
    Addition,
    Convolution,
    Firing,
    Head,
    Linear,
    Maps,
    Mean,
    Operation,
    Pooling,
    Program,
    Sampling,
    StridedConvolution,
    Tokens,
)
from aspk.families.membrane.program import membrane_block
from aspk.families.operations import neurons_of
from aspk.space.genes import NetworkSettings, SubnetConfig

Size = tuple[int, int]


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
    channels, *size = shape
    made_by: tuple[str, ...] = ()
    for index, stage in enumerate(config.blocks):
        own = replace(config, embed_dim=settings.block_width(config, index))
        if index == 0:
            maps = yield from _first_embedding(own, settings, channels, (size[0], size[1]))
        else:
            maps = yield from _embedding(f"embed.{index}", own, settings, channels, maps, made_by)
        made_by = (f"embed.{index}.conv2", f"embed.{index}.shortcut")
        for place in range(stage.stage_blocks):
            name = f"blocks.{index}.{place}"
            made_by = yield from membrane_block(name, own, stage, settings, maps, made_by)
        channels = own.embed_dim
    yield Mean(
        reads=("stream",), writes="features", read_by="head_lif", tokens=maps[0] * maps[1], source="analog"
    )
    yield Firing(
        reads=("features",),
        writes="fired",
        name="head_lif",
        made_by=made_by,
        size=channels,
        neurons=neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold),
    )
    yield Head(reads=("fired",), writes="logits", name="head", inputs=channels, classes=classes)


def _first_embedding(
    config: SubnetConfig, settings: NetworkSettings, channels: int, size: Size
) -> Generator[Operation, None, Size]:
    """The embedding of the image; returns height and width of the stream's maps."""
    width = config.embed_dim
    yield Convolution(
        reads=(IMAGE,),
        writes="spikes",
        names=("embed.0.conv1",),
        source="image",
        inputs=channels,
        outputs=width // 2,
        size=size,
        neurons=neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold),
    )
    yield Convolution(
        writes="x", names=("embed.0.conv2",), size=size, **_between("spikes", width // 2, width)
    )
    yield from _shortcut("embed.0", width // 2, width, size)
    return size


def _embedding(
    name: str,
    config: SubnetConfig,
    settings: NetworkSettings,
    channels: int,
    size: Size,
    made_by: tuple[str, ...],
) -> Generator[Operation, None, Size]:
    """An embedding of the stream, whose maps have ``channels`` and a ``size``; returns the new size."""
    width, half = config.embed_dim, ((size[0] + 1) // 2, (size[1] + 1) // 2)
    inside = half if config.embedding == "max" else size
    neurons = neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold)

    def pooling(value: str, layer: str) -> Pooling:
        return Pooling(reads=(value,), writes=value, place=f"{name}.{layer}", size=width * size[0] * size[1])

    def firing(site: str, reads: str, writes: str, values: int, layers: tuple[str, ...]) -> Firing:
        return Firing(
            reads=(reads,), writes=writes, name=f"{name}.{site}", made_by=layers, size=values, neurons=neurons
        )

    yield firing("lif1", "stream", "spikes", channels * size[0] * size[1], made_by)
    yield Maps(reads=("spikes",), writes="spikes", size=size)
    yield Convolution(writes="x", names=(f"{name}.conv1",), size=size, **_between("spikes", channels, width))
    if config.embedding == "max":
        yield pooling("x", "conv1")
    yield firing("lif2", "x", "hidden", width * inside[0] * inside[1], (f"{name}.conv1",))
    kind = StridedConvolution if config.embedding == "orig" else Convolution
    yield kind(writes="x", names=(f"{name}.conv2",), size=inside, **_between("hidden", width, width))
    if config.embedding == "one_max":
        yield pooling("x", "conv2")
    if config.embedding == "max":
        yield from _shortcut(name, channels, width, size, pooling("shortcut", "shortcut"))
    else:
        yield Sampling(reads=("spikes",), writes="spikes")
        yield from _shortcut(name, channels, width, half)
    return half


def _shortcut(
    name: str, inputs: int, outputs: int, size: Size, pooling: Pooling | None = None
) -> Iterator[Operation]:
    """The 1x1 convolution of the spikes' maps, pooled if need be, and its sum with ``x``: the stream."""
    yield Tokens(reads=("spikes",), writes="spikes")
    yield Linear(
        writes="shortcut",
        names=(f"{name}.shortcut",),
        size=(size[0] * size[1], 1),
        bias=False,
        **_between("spikes", inputs, outputs),
    )
    if pooling:
        yield Maps(reads=("shortcut",), writes="shortcut", size=size)
        yield pooling
        yield Tokens(reads=("shortcut",), writes="shortcut")
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    yield Tokens(reads=("x",), writes="x")
    yield Addition(reads=("x", "shortcut"), writes="stream", place=name, size=outputs * size[0] * size[1])


def _between(reads: str, inputs: int, outputs: int) -> dict[str, Any]:
    """A layer that reads spikes and makes a current."""
    return {"reads": (reads,), "source": "spikes", "inputs": inputs, "outputs": outputs, "neurons": None}
