"""What a module is called with: one batch or many, one tensor or several; modules that cannot be watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aspk.errors import ProfilingError
from aspk.profiling.operators import tensors
from aspk.util.progress import ProgressBar

Call = Callable[[nn.Module, Any], object]


def run(module: nn.Module, batch: Any) -> object:  # noqa: ANN401  # whatever the module takes
    """Call a module: a tuple gives its positional arguments, a mapping its keyword arguments."""
    if isinstance(batch, tuple):
        return module(*batch)
    return module(**batch) if isinstance(batch, Mapping) else module(batch)


def batches(x: Any, *, labelled: bool, progress: bool) -> Iterator[Any]:  # noqa: ANN401  # as above
    """The batches in a user's input.

    Args:
        x: a tensor, a tuple or a mapping is one batch; any other iterable yields batches one after another.
        labelled: whether an iterable's batches that are tuples or lists hold inputs and labels: only the
            first item is used then.
        progress: whether to show a progress bar for an iterable.
    """
    if isinstance(x, Tensor | tuple | Mapping):
        yield x
        return
    if not isinstance(x, Iterable):
        raise ProfilingError(
            f"x is a {type(x).__name__}: expected a tensor, a tuple or mapping of arguments, or an iterable "
            "of batches such as a DataLoader"
        )
    for batch in ProgressBar(x, desc="profile", unit="batch", disable=not progress):
        pair = labelled and isinstance(batch, tuple | list) and len(batch) > 0
        yield batch[0] if pair else batch


def to_device(batch: Any, device: torch.device | None) -> Any:  # noqa: ANN401  # as above
    """A batch with all of its tensors on a device."""
    if device is None:
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def main_input(batch: object) -> Tensor:
    """The first tensor of a batch, whose axes stand for the whole batch.

    Raises:
        ProfilingError: the batch holds no tensor, or the tensor holds no images.
    """
    found = tensors(batch)
    if not found:
        raise ProfilingError(f"a batch holds no tensor; it is a {type(batch).__name__}")
    x = found[0]
    if x.dim() < 1 or not x.numel():
        raise ProfilingError(f"x has shape {tuple(x.shape)}: expected a batch of images")
    return x


def check_watchable(module: object) -> nn.Module:
    """Return the module if its operations can be watched one by one.

    Raises:
        ProfilingError: it cannot be watched; the message says why and what to pass instead.
    """
    if not isinstance(module, nn.Module):
        raise ProfilingError(f"a {type(module).__name__} cannot be watched: expected a torch.nn.Module")
    for name, part in module.named_modules():
        what = f"{type(part).__name__}{f' {name!r}' if name else ''}"
        if isinstance(part, torch.jit.ScriptModule):
            raise ProfilingError(
                f"{what} is compiled by TorchScript, whose parts cannot be watched: give the module that it "
                "was made from"
            )
        if isinstance(part, nn.DataParallel):
            raise ProfilingError(f"{what} runs copies of its module: give its .module")
        for own, parameter in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if isinstance(parameter, nn.UninitializedParameter | nn.UninitializedBuffer):
                raise ProfilingError(f"{what} is lazy and has no {own} yet: run it once on a batch first")
            if parameter.is_meta:
                raise ProfilingError(
                    f"{what} has no values, its {own} is on the meta device: load its weights"
                )
    return module
