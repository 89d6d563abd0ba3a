"""From gradients to weights: AdamW, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aspk.spec.settings import Recipe

Network = TypeVar("Network", bound=nn.Module)
_Tensors = tuple[Tensor, ...] | list[Tensor]


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, with a group of parameters that do not decay if the recipe says so.

    Weights have two axes or more; biases, and the scales and shifts of normalisations have one. Scalars are
    learnt time constants, which never decay: w = 0 means a tau of 2, not a smaller network.
    """
    fewest = 2 if recipe.decayed == "weights" else 1
    weights = [parameter for parameter in model.parameters() if parameter.dim() >= fewest]
    others = [parameter for parameter in model.parameters() if parameter.dim() < fewest]
    groups: list[dict[str, Any]] = [{"params": weights}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Restore an optimizer's moments; the rest of its state follows from the recipe.

    They are checked first: the fused AdamW writes beyond the end of moments that are too small, or whose
    numbers all share one place in memory.

    Raises:
        ValueError: their shapes are not those of the parameters.
        LookupError: there are more moments than parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in moments.items():
        shape, shapes = parameters[index].shape, {name: value.shape for name, value in values.items()}
        if shapes != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError(f"moments {shapes} of a parameter of shape {tuple(shape)}")
    own = {index: {k: v.contiguous() for k, v in values.items()} for index, values in moments.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": own})


class MovingAverage:
    """An exponential moving average of a model's weights, by PyTorch's ``AveragedModel``.

    Args:
        model: is copied; its buffers are copied at each update, not averaged.
        decay: share of the old average in the new one. In the first updates it is less, (1 + n) / (10 + n)
            after n of them, as in TensorFlow's ``ExponentialMovingAverage``: the first weights are random.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def average(averaged: _Tensors, current: _Tensors, seen: Tensor | int) -> None:
            now = min(decay, (1 + float(seen)) / (10 + float(seen)))
            get_ema_multi_avg_fn(now)(averaged, current, seen)  # type: ignore[no-untyped-call]  # torch

        self.averaged = AveragedModel(model, multi_avg_fn=average)

    def update(self, model: nn.Module) -> None:
        """Add the weights after an update."""
        self.averaged.update_parameters(model)

    def of(self, model: Network) -> Network:
        """The model with averaged weights, a module of the same kind."""
        return cast(Network, self.averaged.module)
