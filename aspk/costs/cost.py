"""Parameters and dense operations of a network, from its program alone."""

from __future__ import annotations

from aspk.families.registry import program_of
from aspk.metrics import LayerShape
from aspk.space.genes import NetworkSettings, SubnetConfig


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
    return program_of(config, settings, shape=shape, classes=classes).layers


def parameters(layers: tuple[LayerShape, ...]) -> int:
    """Trainable parameters, batch normalisation included."""
    return sum(layer.parameters for layer in layers)


def operations(layers: tuple[LayerShape, ...]) -> int:
    """Dense multiply-accumulates of one image over all steps, including attention but not masks."""
    return sum(layer.operations * layer.repeats for layer in layers if layer.kind != "mask")
