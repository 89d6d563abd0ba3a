"""Parameters and dense operations of a network, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterator

from aspk.metrics import LayerShape, Source
from aspk.space.genes import NetworkSettings, SubnetConfig

STEM_STAGES = 4
STEM_FRACTIONS = (8, 4, 2, 1)  # stage i has embed_dim / fraction channels


def stem_widths(config: SubnetConfig) -> tuple[int, ...]:
    """Channels of the four stem stages."""
    return tuple(config.embed_dim // fraction for fraction in STEM_FRACTIONS)


def pooled_stages(settings: NetworkSettings) -> range:
    """Stem stages that end in a pooling which halves the image; the last ones."""
    return range(STEM_STAGES - (settings.patch_size.bit_length() - 1), STEM_STAGES)


def layer_shapes(
    config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int], classes: int
) -> tuple[LayerShape, ...]:
    """Every layer of a network in the order of execution.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the input.
        classes: number of classes.
    """
    return tuple(_layers(config, settings, shape, classes))


def parameters(layers: tuple[LayerShape, ...]) -> int:
    """Trainable parameters, batch normalisation included."""
    return sum(layer.parameters for layer in layers)


def operations(layers: tuple[LayerShape, ...]) -> int:
    """Dense multiply-accumulates of one image over all steps, attention included."""
    return sum(layer.operations * layer.repeats for layer in layers)


def _layers(
    config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int], classes: int
) -> Iterator[LayerShape]:
    steps, width = config.time_steps, config.embed_dim
    channels, height, columns = shape

    def conv(name: str, source: Source, inputs: int, outputs: int) -> LayerShape:
        pixels = height * columns
        return LayerShape(
            name=name,
            kind="conv",
            source=source,
            operations=9 * inputs * outputs * pixels,
            repeats=steps,
            input_size=inputs * pixels,
            output_size=outputs * pixels,
            parameters=9 * inputs * outputs + 2 * outputs,
        )

    for stage, outputs in enumerate(stem_widths(config)):
        yield conv(f"stem.{stage}", "image" if stage == 0 else "spikes", channels, outputs)
        channels = outputs
        if stage in pooled_stages(settings):
            height, columns = (height + 1) // 2, (columns + 1) // 2
    yield conv("position", "spikes", width, width)

    tokens = height * columns

    def linear(name: str, source: Source, inputs: int, outputs: int) -> LayerShape:
        return LayerShape(
            name=name,
            kind="linear",
            source=source,
            operations=inputs * outputs * tokens,
            repeats=steps,
            input_size=inputs * tokens,
            output_size=outputs * tokens,
            parameters=inputs * outputs + outputs + 2 * outputs,
        )

    for index, block in enumerate(config.blocks):
        inner, hidden = settings.attention_width(config, block), int(width * block.mlp_ratio)
        for name in ("q", "k", "v"):
            yield linear(f"blocks.{index}.{name}", "residual", width, inner)
        for name, neurons in (("qk", 0), ("av", inner * tokens)):
            yield LayerShape(
                name=f"blocks.{index}.{name}",
                kind="attention",
                source="spikes",
                operations=tokens * tokens * inner,
                repeats=steps,
                input_size=inner * tokens,
                output_size=neurons,
                parameters=0,
            )
        yield linear(f"blocks.{index}.proj", "spikes", inner, width)
        yield linear(f"blocks.{index}.fc1", "residual", width, hidden)
        yield linear(f"blocks.{index}.fc2", "spikes", hidden, width)
    yield LayerShape(
        name="head",
        kind="head",
        source="analog",
        operations=width * classes,
        repeats=1,
        input_size=width,
        output_size=0,
        parameters=width * classes + classes,
    )
