"""The families of networks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aspk.families.base import Program
from aspk.families.hierarchical import program as hierarchical
from aspk.families.membrane import program as membrane
from aspk.families.spikformer import program as spikformer
from aspk.space.genes import FamilyName, NetworkSettings, SubnetConfig

if TYPE_CHECKING:
    from aspk.families.network import Network


class Declare(Protocol):
    """A function that declares the operations of one network of a family."""

    def __call__(
        self, config: SubnetConfig, settings: NetworkSettings, shape: tuple[int, int, int], classes: int
    ) -> Program:
        """See :func:`program_of`."""
        ...


class Family(NamedTuple):
    """One family.

    Attributes:
        program: declares what a network computes.
        module: the class of its networks as ``module:class``; importing it imports torch.
    """

    program: Declare
    module: str


FAMILIES: Mapping[FamilyName, Family] = {
    "spikformer": Family(spikformer.program, "aspk.families.spikformer.network:Spikformer"),
    "membrane": Family(membrane.program, "aspk.families.membrane.network:Membrane"),
    "hierarchical": Family(hierarchical.program, "aspk.families.hierarchical.network:Hierarchical"),
}


def program_of(
    config: SubnetConfig, settings: NetworkSettings, *, shape: tuple[int, int, int], classes: int
) -> Program:
    """The operations of one network, as its family declares them.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the input.
        classes: number of classes.
    """
    return FAMILIES[settings.family].program(config, settings, shape, classes)


def network_of(
    config: SubnetConfig, settings: NetworkSettings, *, shape: tuple[int, int, int], classes: int
) -> Network:
    """One network as a module of its family, with PyTorch's default initial weights.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the input.
        classes: number of classes.

    Raises:
        GenotypeError: a width does not divide as needed.
    """
    module, name = FAMILIES[settings.family].module.split(":")
    network: Network = getattr(importlib.import_module(module), name)(
        config, settings, shape=shape, classes=classes
    )
    return network
