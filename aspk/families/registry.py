"""The families of networks; so far the Spikformer is the only one."""

from __future__ import annotations

from aspk.families.base import Program
from aspk.families.spikformer import program as spikformer
from aspk.space.genes import NetworkSettings, SubnetConfig


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
    return spikformer.program(config, settings, shape, classes)
