"""What a network consists of: a program of operations, which its family declares once.

Everything known about a network without running it is a fold over its program: the shapes of its layers,
parameters and operations, the slices of a supernet's weights, what is counted, and what two networks share.
An operation holds everything that it depends on, so two networks compute the same up to some point if and
only if their operations up to there are equal: there is no list of genes to maintain, and no gene can be
forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

from aspk.families.mixers import Attention, Mixer, SpikeDrivenAttention, TokenAttention
from aspk.families.operations import (
    LIF,
    Addition,
    Convolution,
    ConvolutionShape,
    DepthwiseConvolution,
    Firing,
    Head,
    Linear,
    Maps,
    Mean,
    Neurons,
    Operation,
    Pooling,
    Product,
    Reset,
    Sampling,
    StridedConvolution,
    Tokens,
)
from aspk.metrics import LayerShape

__all__ = [
    "IMAGE",
    "LIF",
    "OPERATIONS",
    "Addition",
    "Attention",
    "Convolution",
    "ConvolutionShape",
    "DepthwiseConvolution",
    "Firing",
    "Head",
    "Linear",
    "Maps",
    "Mean",
    "Mixer",
    "Neurons",
    "Operation",
    "Pooling",
    "Product",
    "Program",
    "Reset",
    "Sampling",
    "SpikeDrivenAttention",
    "StridedConvolution",
    "TokenAttention",
    "Tokens",
]

OPERATIONS: frozenset[type[Operation]] = frozenset(
    {
        Convolution,
        StridedConvolution,
        DepthwiseConvolution,
        Linear,
        Pooling,
        Sampling,
        Firing,
        Tokens,
        Maps,
        Attention,
        SpikeDrivenAttention,
        TokenAttention,
        Addition,
        Mean,
        Head,
    }
)
IMAGE = "image"  # the value that a network is given


@dataclass(frozen=True)
class Program:
    """The operations of one network, in the order of execution.

    Attributes:
        operations: the first reads the image; the last is the head, which reads means over tokens, or the
            spikes of neurons that read such means.
        time_steps: simulated steps T.
    """

    operations: tuple[Operation, ...]
    time_steps: int

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """Every layer, in the order of execution."""
        return tuple(layer for one in self.operations for layer in one.layers(self.time_steps))

    @property
    def first(self) -> Product:
        """The operation that reads the image."""
        first = self.operations[0]
        assert isinstance(first, Product)
        return first

    @property
    def mean(self) -> Mean:
        """The mean over tokens."""
        (mean,) = (one for one in self.operations if isinstance(one, Mean))
        return mean

    @property
    def averaged_tokens(self) -> int:
        """The number of tokens that the head's input is averaged over: 1 if neurons read the means first."""
        return self.mean.tokens if self.head.reads[0] == self.mean.writes else 1

    @property
    def head(self) -> Head:
        """The last operation."""
        head = self.operations[-1]
        assert isinstance(head, Head)
        return head

    def drivers(self, site: str) -> tuple[str, ...]:
        """The layers whose batch normalisations determine how much the neurons of a site fire."""
        for operation in self.operations:
            if isinstance(operation, Mixer) and site in operation.names:
                return operation.made_by
            if isinstance(operation, Firing) and site == operation.name:
                return operation.made_by
        return (site,)
