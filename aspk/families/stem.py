"""The stem that several families share: convolution stages that turn an image into maps."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from aspk.families.base import IMAGE, Convolution, Operation, Pooling
from aspk.families.operations import neurons_of
from aspk.space.genes import NetworkSettings, SubnetConfig

STAGES = 4  # at most


class Stage(NamedTuple):
    """One convolution of the stem.

    A shorter stem lacks the stages before the last one, a narrower one their last channels: every stem is a
    part of the longest and widest one.

    Attributes:
        number: its place in the longest stem; the last one of every stem is the same.
        width: its channels.
        pooled: whether a pooling that halves the image follows.
    """

    number: int
    width: int
    pooled: bool

    @property
    def last(self) -> bool:
        """Whether it is the last one."""
        return self.number == STAGES - 1


def stages(config: SubnetConfig, settings: NetworkSettings) -> tuple[Stage, ...]:
    """The stages of a network's stem, in order."""
    count, width, poolings = config.stem_convs, config.embed_dim, settings.poolings
    first = 0 if config.stem_pooling == "early" else count - poolings
    pooled = range(first, first + poolings)
    widths = [min(width, int(width * config.stem_fraction) << stage) for stage in range(count - 1)]
    numbers = (*range(count - 1), STAGES - 1)
    rows = enumerate(zip(numbers, (*widths, width), strict=True))
    return tuple(Stage(number, channels, place in pooled) for place, (number, channels) in rows)


def stem(
    config: SubnetConfig,
    settings: NetworkSettings,
    shape: tuple[int, int, int],
    *,
    last_fires: bool = True,
    bias: bool = False,
) -> Generator[Operation, None, tuple[int, int]]:
    """The stages, which write ``x``.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the input.
        last_fires: whether the last stage has neurons, too; otherwise it makes a current.
        bias: whether the convolutions have biases.

    Returns:
        Height and width of the maps.
    """
    channels, height, width = shape
    neurons = neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold)
    for stage in stages(config, settings):
        yield Convolution(
            reads=("x" if stage.number else IMAGE,),
            writes="x",
            names=(f"stem.{stage.number}",),
            source="spikes" if stage.number else "image",
            inputs=channels,
            outputs=stage.width,
            size=(height, width),
            neurons=neurons if last_fires or not stage.last else None,
            bias=bias,
        )
        channels = stage.width
        if stage.pooled:
            size = stage.width * height * width
            yield Pooling(reads=("x",), writes="x", place=f"stem.{stage.number}", size=size)
            height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
