"""The stem that several families have in common: stages of convolutions that make maps of an image."""

from __future__ import annotations

from collections.abc import Generator

from aspk.families.base import IMAGE, Convolution, Operation, Pooling
from aspk.families.operations import neurons_of
from aspk.space.genes import NetworkSettings, SubnetConfig

STAGES = 4
FRACTIONS = (8, 4, 2, 1)  # stage i has embed_dim / fraction channels


def stem_widths(config: SubnetConfig) -> tuple[int, ...]:
    """Channels of the stages."""
    return tuple(config.embed_dim // fraction for fraction in FRACTIONS)


def pooled_stages(settings: NetworkSettings) -> range:
    """Stages that end in a pooling which halves the image; the last ones."""
    return range(STAGES - (settings.patch_size.bit_length() - 1), STAGES)


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
        last_fires: whether neurons stand behind the last stage, too; else it makes a current.
        bias: whether the convolutions have biases.

    Returns:
        Height and width of the maps.
    """
    channels, height, width = shape
    neurons = neurons_of(settings, config.stem_neuron, config.stem_tau, config.stem_v_threshold)
    for stage, outputs in enumerate(stem_widths(config)):
        yield Convolution(
            reads=("x" if stage else IMAGE,),
            writes="x",
            names=(f"stem.{stage}",),
            source="spikes" if stage else "image",
            inputs=channels,
            outputs=outputs,
            size=(height, width),
            neurons=neurons if last_fires or stage < STAGES - 1 else None,
            bias=bias,
        )
        channels = outputs
        if stage in pooled_stages(settings):
            yield Pooling(reads=("x",), writes="x", place=f"stem.{stage}", size=outputs * height * width)
            height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
