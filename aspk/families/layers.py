"""The layers that spiking transformers are built of, their first weights, and their calibration."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from aspk.families.base import Neurons
from aspk.families.neurons import lif, normalised_lif
from aspk.families.products import convolution, linear
from aspk.families.synchronised import in_shared_batch, shared_normalisation

Network = TypeVar("Network", bound=nn.Module)


class Observer(Protocol):
    """A callback that receives what each layer reads and what the neurons behind it fire."""

    def __call__(self, layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
        """Look at one layer, named as in :attr:`aspk.families.base.Program.layers`.

        Args:
            layer: the layer's name.
            inputs: what it reads, [T, B, ...] ([B, ...] for a static image); two for ``qk`` and ``av``.
            spikes: what its neurons fire, [T, B, ...], or None where none follow.
        """
        ...


def nobody(layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
    """Observe nothing."""


class Site(nn.Module):
    """Neurons and their learnt parameter, if any.

    Args:
        tau: the initial time constant of PLIF neurons, > 1; None for LIF, which learns nothing.

    Attributes:
        w: of PLIF, the site's 1 / tau = sigmoid(w), shape [].
    """

    def __init__(self, tau: float | None = None) -> None:
        super().__init__()
        self.w = None if tau is None else nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def reciprocal_tau(self) -> Tensor | None:
        """The learnt 1 / tau, shape [], if there is one."""
        return None if self.w is None else self.w.sigmoid()

    def fire(self, currents: Tensor, neurons: Neurons) -> Tensor:
        """Spikes of the neurons, for currents [T, ...] without a normalisation."""
        return lif(currents, reciprocal_tau=self.reciprocal_tau(), **neurons)


class ConvNorm(Site):
    """Convolution, batch normalisation and neurons over [..., C, H, W].

    Args:
        inputs: channels that it reads.
        outputs: channels that it makes.
        tau: see :class:`Site`.
        bias: whether it has biases.
        kernel: side of the kernels, odd.
        stride: pixels from one output to the next.
        depthwise: whether each channel is convolved on its own.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        tau: float | None = None,
        *,
        bias: bool = False,
        kernel: int = 3,
        stride: int = 1,
        depthwise: bool = False,
    ) -> None:
        super().__init__(tau)
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel_size=kernel,
            stride=stride,
            padding=kernel // 2,
            groups=inputs if depthwise else 1,
            bias=bias,
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, neurons: Neurons, time_steps: int) -> Tensor:
        """Spikes [T, B, C', H, W] of [T, B, C, H, W], or of a static [B, C, H, W]."""
        y = convolution(x.flatten(0, -4), self.conv)  # time and batch as one axis: [T*B, C', H, W]
        repeat, leak = time_steps if x.dim() == 4 else None, self.reciprocal_tau()
        maps = y.reshape(*x.shape[:-3], *y.shape[1:])
        return normalised_lif(maps, self.norm, reciprocal_tau=leak, repeat=repeat, **neurons)

    def current(self, x: Tensor) -> Tensor:
        """Currents without neurons, [T, B, C', H, W] of [T, B, C, H, W]."""
        y = convolution(x.flatten(0, 1), self.conv)
        return normalised(y, self.norm).reshape(*x.shape[:2], *y.shape[1:])


class LinearNorm(Site):
    """Linear layer, batch normalisation and neurons over [T, B, L, D]; see :class:`Site`."""

    def __init__(self, inputs: int, outputs: int, tau: float | None = None, *, bias: bool = True) -> None:
        super().__init__(tau)
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, neurons: Neurons) -> Tensor:
        """Spikes [T, B, L, D'] of [T, B, L, D]."""
        y = linear(x, self.linear)
        return normalised_lif(y, self.norm, reciprocal_tau=self.reciprocal_tau(), **neurons)

    def current(self, x: Tensor) -> Tensor:
        """Currents without neurons, [T, B, L, D'] of [T, B, L, D]."""
        y = linear(x, self.linear)
        return normalised(y.flatten(0, 2), self.norm).reshape(y.shape)


def normalised(y: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """Batch normalisation in single precision, or double if y is, of [N, D] or [N, C, H, W].

    Where several processes hold parts of a training batch, it is by the statistics of all of it.

    On a processor PyTorch's gradient of it is several times slower if the arriving gradient is laid out in
    memory in another way than y, as happens where maps become tokens; so it is laid out as y is.
    """
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    shared = norm.training and in_shared_batch()
    found: Tensor = shared_normalisation(y, norm, axis=1) if shared else norm(y)
    if found.requires_grad and y.device.type == "cpu":
        channels_last = y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        found.register_hook(  # type: ignore[no-untyped-call]  # PyTorch has no types for it
            lambda gradient: gradient.contiguous(memory_format=layout)
        )
    return found


def tokens_of(maps: Tensor) -> Tensor:
    """Maps [T, B, D, H, W] as tokens [T, B, L, D], pixel by pixel; a view."""
    return maps.flatten(3).transpose(2, 3)


def maps_of(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    """Tokens [T, B, L, D] as maps [T, B, D, H, W] with a height and a width; a view."""
    return tokens.transpose(2, 3).reshape(*tokens.shape[:2], tokens.shape[3], *size)


def initialise(network: nn.Module, seed: int) -> None:
    """Draw fresh weights: truncated normal (0.02) for linear layers, uniform (Kaiming) for convolutions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()


@torch.no_grad()
def calibrate(network: Network, x: Tensor) -> Network:
    """Set the batch-normalisation statistics of a stand-alone network to those of the images ``x``.

    All of ``x`` is one batch, so that the variances are those of the whole set; means of per-batch variances
    would be too low. The variances are PyTorch's unbiased ones, n / (n - 1) of the biased ones. In the first
    layer, which a static image goes through once, n counts every pixel once; a network that repeats the image
    before that layer counts it T times, which makes a difference of 1 / (2 n) at T = 2.

    Args:
        network: is changed, and left in evaluation mode.
        x: static images [B, C, H, W] or sequences [T, B, C, H, W], from the training split.

    Returns:
        The network.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the one batch
    network.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
