"""Restores a module to the state before a forward pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)


class Snapshot:
    """The attributes, containers and tensors of a module and of its parts.

    Restoring puts the same objects back with their former values, so that references to them (an optimizer's
    parameters, the handles of hooks) stay valid. Parameters, buffers, modes, hooks and membranes are all
    attributes or values in containers; state that a module keeps in objects of other classes is not covered.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._containers: list[tuple[Any, Any]] = []  # a container and a copy of it
        self._tensors: list[tuple[Tensor, Tensor]] = []  # a tensor and its values
        self._seen: set[int] = set()
        for part in module.modules():
            self._keep(part.__dict__)

    def _keep(self, value: object) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_meta and type(value) in _PLAIN:
                self._tensors.append((value, value.detach().clone()))
        elif isinstance(value, nn.Module):  # in a list, for example, where torch does not see it
            self._keep(value.__dict__)
        elif isinstance(value, dict):
            self._containers.append((value, dict(value)))
            for item in value.values():
                self._keep(item)
        elif isinstance(value, list | set | deque):
            self._containers.append((value, list(value)))
            for item in value:
                self._keep(item)
        elif isinstance(value, tuple):
            for item in value:
                self._keep(item)

    def restore(self) -> None:
        """Restore everything that has changed."""
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list | deque) else container.update(items)
        for tensor, values in self._tensors:
            if not torch.equal(tensor, values):
                tensor.data.resize_(values.shape).copy_(values)


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """After the block, the module and torch's random generators are as they were before it."""
    snapshot = Snapshot(module)
    devices = sorted({parameter.device.index for parameter in module.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            snapshot.restore()
