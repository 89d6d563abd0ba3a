"""Recognises neurons of spikingjelly, snnTorch, norse, sinabs and the user's own, and counts their spikes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Neurons whose products mix time steps, not neurons: they are the update of the membrane, not synapses.
_PRODUCTS_OVER_TIME = {"PSN", "MaskedPSN", "SlidingPSN", "StateLeaky", "LeakyKernel"}
_SPIKINGJELLY = {"BaseNode", "SimpleBaseNode", "ILCBaseNode", "NoisyBaseNode", "NonSpikingBaseNode"}
_NORSE = {"SNNCell", "SNNRecurrentCell", "SNN", "SNNRecurrent"}
_RESETS = ("reset_mem", "reset_hidden", "reset_states")


@dataclass
class Neurons:
    """One neuron module, gathered over all its calls.

    Attributes:
        class_name: of the module.
        calls: steps and batch of each call, as the neurons saw them.
        steps: spikes at each step; a whole number n counts as abs(n) spikes, any other value as none.
        numel: output values, zeros included, over all steps and images.
        after: name of the operation in front of it, None if there is none.
        batch_first: whether time is the second axis of what it reads.
        shape: of a call's output, for the user's own neurons whose axes are not known.
    """

    class_name: str
    calls: list[tuple[int, int]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    numel: int = 0
    after: str | None = None
    batch_first: bool = False
    shape: tuple[int, ...] = ()

    @property
    def time_steps(self) -> int:
        """Steps of one pass: those of one call, or the number of calls of one step each."""
        return max(steps for steps, _ in self.calls) if self.multi_step else len(self.calls)

    @property
    def multi_step(self) -> bool:
        """Whether one call runs several steps."""
        return any(steps > 1 for steps, _ in self.calls)


def is_neuron(module: nn.Module, neurons: tuple[type[nn.Module], ...] = ()) -> bool:
    """Whether a module is a neuron of one of the known libraries, or one of ``neurons``."""
    return isinstance(module, neurons) or _library(module) is not None


def mixes_time(module: nn.Module) -> bool:
    """Whether the products inside a neuron module are its own update over time."""
    return bool({base.__name__ for base in type(module).__mro__} & _PRODUCTS_OVER_TIME)


def _library(module: nn.Module) -> str | None:
    for base in type(module).__mro__:
        home, name = base.__module__, base.__name__
        if home.startswith("spikingjelly.") and (".neuron" in home or name in _SPIKINGJELLY):
            return "spikingjelly"
        if name in ("BaseNode", "SimpleBaseNode"):  # a fork of spikingjelly
            return "spikingjelly"
        if name == "SpikingNeuron" or (home.startswith("snntorch.") and name == "LeakyParallel"):
            return "snntorch"
        if home.startswith("norse.") and name in _NORSE:
            return "norse"
        if home.startswith("sinabs.") and name == "StatefulLayer":
            return "sinabs"
    return None


def by_step(module: nn.Module, output: Tensor, *, time_steps: int | None = None) -> Tensor:
    """What a neuron module gave, time first: [T, B, ...]; T is 1 where it runs step by step.

    Args:
        module: the neurons.
        output: what they gave in one call.
        time_steps: T as the user gave it; neurons of their own that give as many run all steps in one call.
    """
    library = _library(module)
    if library is None and time_steps and output.dim() > 1 and len(output) == time_steps:
        return output
    if library == "sinabs":
        if hasattr(module, "num_timesteps"):  # a squeezed layer: [B * T, ...]
            shape = (module.batch_size, module.num_timesteps, *output.shape[1:])
            output = output.reshape(shape)
        return output.transpose(0, 1)
    names = {base.__name__ for base in type(module).__mro__}
    parallel = (
        getattr(module, "step_mode", "s") == "m"
        or (library == "spikingjelly" and "MultiStepModule" in names)
        or type(module).__name__.startswith("MultiStep")
        or (library == "norse" and bool(names & {"SNN", "SNNRecurrent"}))
        or (library == "snntorch" and bool(names & {"LeakyParallel", "StateLeaky", "AssociativeLeaky"}))
    )
    return output if parallel and output.dim() else output[None]


def is_own(module: nn.Module) -> bool:
    """Whether a neuron module is from no known library and does not declare if it runs all steps at once."""
    named = hasattr(module, "step_mode") or type(module).__name__.startswith("MultiStep")
    return _library(module) is None and not named


def batch_first(module: nn.Module) -> bool:
    """Whether a neuron module, and so its network, has its time axis after the batch axis."""
    return _library(module) == "sinabs"


def first_tensor(output: Any) -> Tensor | None:  # noqa: ANN401  # whatever a module returns
    """The spikes among what a neuron module returns: the first tensor."""
    while isinstance(output, list | tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def fired(steps: Tensor) -> list[float]:
    """Spikes at each step of values [T, ...]: |n| for a whole number n, none for anything else."""
    values = steps.flatten(1)
    whole = torch.where(values == values.round(), values.abs(), torch.zeros_like(values))
    spikes: list[float] = whole.sum(1, dtype=torch.float64).tolist()
    return spikes


def reset(module: nn.Module, neurons: tuple[type[nn.Module], ...] = ()) -> None:
    """Reset every part of a module that keeps state between calls to its initial state.

    It calls ``reset`` of spikingjelly's ``MemoryModule`` (neurons, recurrent containers, synapse filters) and
    of ``neurons``, snnTorch's ``reset_mem`` and ``reset_hidden`` and sinabs's ``reset_states``.
    """
    for part in module.modules():
        bases = {base.__name__ for base in type(part).__mro__}
        if "MemoryModule" in bases or is_neuron(part, neurons):
            _call(part, "reset")
        if is_neuron(part, neurons):
            for name in _RESETS:
                _call(part, name)


def _call(part: nn.Module, name: str) -> None:
    method = getattr(part, name, None)
    if callable(method):
        method()
