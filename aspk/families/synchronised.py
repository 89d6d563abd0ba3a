"""Batch normalisation where several processes hold parts of the batch.

PyTorch's ``SyncBatchNorm`` does this on graphics cards only, not on CPUs. Each process gathers the count,
mean and variance of every process's part and combines them in the same order, so that all processes
normalise by the same statistics, those of the whole batch; gradients reach the currents of all processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_SHARED: ContextVar[bool] = ContextVar("aspk_shared_batch", default=False)


@contextmanager
def shared_batch() -> Iterator[None]:
    """In this block, a training pass sees a part of the batch's images, and other processes see the rest.

    As with ``torch.autocast``, the caller of a network sets this; no layer in between passes it on.
    """
    token = _SHARED.set(True)
    try:
        yield
    finally:
        _SHARED.reset(token)


def in_shared_batch() -> bool:
    """Whether a normalisation needs the statistics of other processes."""
    return _SHARED.get()


class OtherProcesses:
    """The other processes of PyTorch's group, see :class:`aspk.families.native.neurons.Others`."""

    def statistics(self, count: float, mean: Tensor, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """Every process combines all parts in the same order, for bitwise identical results."""
        part = torch.cat([mean.new_tensor([count], dtype=torch.float64), mean.double(), variance.double()])
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        table = torch.stack(parts)
        counts, (means, variances) = table[:, :1], table[:, 1:].chunk(2, dim=1)
        shares = counts / counts.sum()
        whole = (shares * means).sum(0)
        spread = (shares * (variances + (means - whole).square())).sum(0)
        return float(counts.sum()), whole, spread

    def sums(self, own: Tensor) -> Tensor:
        """The sums over all processes."""
        total = own.clone()
        dist.all_reduce(total)
        return total


def shared_normalisation(y: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, *, axis: int) -> Tensor:
    """``norm(y)`` in training mode, by the statistics of all processes' currents.

    Args:
        y: this process's currents, of any size that has the channels at ``axis``; float32 or float64.
        norm: its running statistics are updated, on all processes alike.
        axis: of the channels.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None, "cumulative averages are not in use"
    others = [other for other in range(y.dim()) if other != axis % y.dim()]
    with torch.no_grad():
        own_variance, own_mean = torch.var_mean(y, others, correction=0)
        own_count = y.numel() / own_mean.numel()
        count, mean, variance = OtherProcesses().statistics(own_count, own_mean, own_variance)
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(y.dtype), norm.momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(y.dtype), norm.momentum)
    form = [1] * y.dim()
    form[axis] = -1
    inverse_std = (variance + norm.eps).rsqrt()
    x: Tensor = _Normalisation.apply(
        y,
        norm.weight.reshape(form),
        norm.bias.reshape(form),
        mean.reshape(form),
        inverse_std.reshape(form),
        count,
    )
    return x


class _Normalisation(torch.autograd.Function):
    """x = weight * (y - mean) / std + bias, where mean and std are those of all processes' y."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # torch's context has no public type
        y: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse_std: Tensor,
        count: float,
    ) -> Tensor:
        ctx.save_for_backward(y, weight, mean, inverse_std)
        ctx.count = count
        scale = inverse_std.to(y.dtype) * weight
        return torch.addcmul(bias - mean.to(y.dtype) * scale, y, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        y, weight, mean, inverse_std = ctx.saved_tensors
        (grad,) = grads
        others = [axis for axis, size in enumerate(weight.shape) if size == 1]
        normalised = (y - mean.to(y.dtype)) * inverse_std.to(y.dtype)
        grad_bias = grad.sum(others, keepdim=True, dtype=torch.float64)
        grad_weight = (grad * normalised).sum(others, keepdim=True, dtype=torch.float64)
        sums = OtherProcesses().sums(
            torch.stack([grad_bias, grad_weight])
        )  # the loss of every process depends on them
        first, second = (sums / ctx.count).to(y.dtype)
        grad_y = (grad - first - normalised * second) * (inverse_std.to(y.dtype) * weight)
        return grad_y, grad_weight.to(y.dtype), grad_bias.to(y.dtype), None, None, None
