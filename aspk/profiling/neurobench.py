"""NeuroBench's metrics of a module (Yik et al., Nature Communications 2025; PyPI ``neurobench`` 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

# The layers whose synaptic operations NeuroBench counts, and the modules whose outputs count as activations
# in addition to those of neurons.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ACTIVATIONS = (nn.ReLU, nn.Sigmoid)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, kw_only=True)
class NeuroBench:
    """NeuroBench's metrics, under its names and definitions.

    Attributes:
        footprint: bytes of parameters and buffers.
        connection_sparsity: zeros among the weights of linear, convolutional and recurrent layers (for
            recurrent ones, biases too), 0 to 1, rounded to four digits as NeuroBench does.
        activation_sparsity: zeros among the outputs of neurons, ReLU and sigmoid modules, 0 to 1.
        effective_macs: multiply-accumulates of one sample in linear and convolutional modules in which
            neither input nor weight is 0, in calls that read values other than -1, 0 and 1; without biases.
        effective_acs: the same for the other calls.
    """

    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float


def footprint(module: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(held.numel() * held.element_size() for held in (*module.parameters(), *module.buffers()))


def connection_sparsity(module: nn.Module) -> float:
    """Share of weights that are 0, rounded to four digits; 0 without weights."""
    zeros = weights = 0
    for part in module.modules():
        held = []
        if isinstance(part, LAYERS):
            held = [part.weight]
        elif isinstance(part, _RECURRENT):
            held = list(part.parameters())
        for tensor in held:
            zeros += int((tensor == 0).sum())
            weights += tensor.numel()
    return round(zeros / weights, 4) if weights else 0.0
