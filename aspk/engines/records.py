"""What was counted at one node of a population's tree, and what that means for a layer."""

from __future__ import annotations

import torch
from torch import Tensor

from aspk.families.counting import fan_out, known
from aspk.metrics import LayerCount, LayerShape


class Record:
    """What one layer read and fired at one node: sums over all images so far, at each step, [T]."""

    def __init__(self) -> None:
        self.inputs = self.exact = torch.zeros(0)
        self.outputs: Tensor | None = None

    def add(self, inputs: Tensor, exact: Tensor, outputs: Tensor | None) -> None:
        """Add a batch; ``exact`` is the inputs weighted as in an exact count of operations."""
        if self.inputs.numel():
            inputs, exact = inputs + self.inputs, exact + self.exact
            outputs = None if outputs is None or self.outputs is None else outputs + self.outputs
        self.inputs, self.exact, self.outputs = inputs, exact, outputs


def layer_count(shape: LayerShape, record: Record, *, steps: int, images: int, tokens: int) -> LayerCount:
    """Means over images of what was counted for one layer.

    Args:
        shape: the layer.
        record: what was counted; may have more steps, if other networks ran them.
        steps: steps of the network.
        images: how many images were counted.
        tokens: the number of tokens that the head's input was summed over.
    """
    inputs, exact = (t[:steps].cpu().double() / images for t in (record.inputs, record.exact))
    fired = [] if record.outputs is None else (record.outputs[:steps].cpu().double() / images).tolist()
    if shape.kind == "head":  # reads the mean over tokens and steps, once
        inputs = exact = inputs.sum()[None] / (tokens * steps)
    each = 1 if shape.kind == "attention" and not shape.output_size else shape.operations / shape.input_size
    each = fan_out(shape) if shape.kind == "conv" else each
    return LayerCount(
        **known(shape),
        input_sums=tuple(inputs.tolist()),
        exact_operations=float(exact.sum()) * each,
        output_spikes=float(sum(fired)),
        output_sums=tuple(fired),
    )
