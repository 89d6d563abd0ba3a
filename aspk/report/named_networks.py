"""The networks of a space that have a name, side by side: genes, parameters, operations and energy."""

from __future__ import annotations

from aspk.costs import Cost
from aspk.energy import STRICT, energy_mj
from aspk.report.tables import align
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig

_IMAGES = 4  # random ones, as in 'aspk energy --random-weights'


def named_networks(space: SearchSpace) -> dict[str, SubnetConfig]:
    """The reference, and the networks that the space's file names."""
    return {"reference": space.reference, **space.named}


def named_networks_text(
    space: SearchSpace, *, shape: tuple[int, int, int], classes: int, energy: bool = False
) -> str:
    """A table of the named networks.

    Args:
        space: the search space.
        shape: channels, height and width of an image.
        classes: number of classes.
        energy: also the energy with calibrated random weights, which takes seconds for each network.

    Raises:
        EvaluationError: with ``energy``, if some neurons stay silent with random weights.
    """
    costs = [Cost(name, space, shape=shape, classes=classes) for name in ("parameters", "operations")]
    outside = [name for name in space.network if name not in space.block]
    genes = [name for name in (*outside, *space.block) if _differs(name, space)]
    rows = [
        [name, *(_value(gene, config) for gene in genes), *(f"{cost(config):,.0f}" for cost in costs)]
        + (_energies(space, config, shape, classes) if energy else [])
        for name, config in named_networks(space).items()
    ]
    header = ["network", *genes, "parameters", "operations", *(["mJ", "strict mJ"] if energy else [])]
    channels, height, width = shape
    notes = [f"{classes} classes, images {channels}x{height}x{width}; operations are dense, for one image"]
    if energy:
        notes.append(
            f"energies with calibrated random weights on {_IMAGES} random images, by the Spikformer paper's "
            "account and with the residual stream billed as dense (strict); trained networks fire differently"
        )
    return "\n".join([align(header, rows), *notes])


def _differs(gene: str, space: SearchSpace) -> bool:
    return len({_value(gene, config) for config in named_networks(space).values()}) > 1


def _value(gene: str, config: SubnetConfig) -> str:
    """A gene of a network, block by block unless all blocks agree."""
    if gene == "depth" or hasattr(config, gene):
        return _shown(getattr(config, gene))
    values = [_shown(getattr(block, gene)) for block in config.blocks]
    return values[0] if len(set(values)) == 1 else " ".join(values)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _energies(
    space: SearchSpace, config: SubnetConfig, shape: tuple[int, int, int], classes: int
) -> list[str]:
    from aspk.report.energy import random_account  # noqa: PLC0415  # PyTorch takes a second to import

    layers = random_account(space, config, shape=shape, classes=classes, images=_IMAGES).layers
    return [f"{energy_mj(layers):.4g}", f"{energy_mj(layers, STRICT):.4g}"]
