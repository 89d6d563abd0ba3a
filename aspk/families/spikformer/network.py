"""Spikformer (Zhou et al., ICLR 2023) as plain layers, readable from top to bottom.

Two departures in layout, none in function: tokens are the second last axis, and the first convolution of a
static image, the same at every step, is computed once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aspk.families import network
from aspk.families.base import Neurons
from aspk.families.layers import ConvNorm, LinearNorm, Observer, Site, nobody
from aspk.families.network import Network
from aspk.families.neurons import lif
from aspk.families.spikformer.program import pooled_stages, stem_widths
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig


class Block(network.Block):
    """Spiking self-attention and spiking MLP, each added to the residual stream."""

    def __init__(
        self, name: str, config: SubnetConfig, block: BlockConfig, settings: NetworkSettings
    ) -> None:
        super().__init__()
        self.name, self.config, self.settings = name, block, settings
        width, inner = config.embed_dim, settings.attention_width(config, block)
        hidden = int(width * block.mlp_ratio)
        tau = block.tau if block.neuron == "plif" else None
        self.q = LinearNorm(width, inner, tau)
        self.k = LinearNorm(width, inner, tau)
        self.v = LinearNorm(width, inner, tau)
        self.av = Site(tau)  # behind (q kᵀ) v
        self.proj = LinearNorm(inner, width, tau)
        self.fc1 = LinearNorm(width, hidden, tau)
        self.fc2 = LinearNorm(hidden, width, tau)

    def forward(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """The residual stream [T, B, L, D] behind the block."""
        x = x + self._attention(x, observe)
        return x + self._site("fc2", self._site("fc1", x, observe), observe)

    def _attention(self, x: Tensor, observe: Observer) -> Tensor:
        q, k, v = (self._site(name, x, observe) for name in ("q", "k", "v"))  # [T, B, L, D']
        heads = (*q.shape[:3], self.config.num_heads, -1)
        q, k, v = (y.reshape(heads).transpose(2, 3) for y in (q, k, v))  # [T, B, heads, L, D'/heads]
        keys = k.transpose(-2, -1)
        with torch.autocast(x.device.type, enabled=False):  # counts of spikes stay exact
            exact = torch.promote_types(x.dtype, torch.float32)
            a, b, c = (y.to(exact) for y in (q, keys, v))
            # With more tokens than head width the other order is cheaper, and as exact.
            y = a @ (b @ c) if q.shape[-2] > q.shape[-1] else (a @ b) @ c
        y = (y * self.settings.attention_scale).transpose(2, 3).flatten(3)  # [T, B, L, D']
        neurons, leak = self._neurons(self.config.attention_v_threshold), self.av.reciprocal_tau()
        spikes = lif(y, reciprocal_tau=leak, **neurons).to(x.dtype)
        observe(f"{self.name}.qk", (q, k), None)
        observe(f"{self.name}.av", (v,), spikes)
        return self._site("proj", spikes, observe)

    def _site(self, layer: str, x: Tensor, observe: Observer) -> Tensor:
        """One layer and the neurons behind it."""
        spikes: Tensor = getattr(self, layer)(x, self._neurons(self.config.v_threshold))
        observe(f"{self.name}.{layer}", (x,), spikes)
        return spikes

    def _neurons(self, v_threshold: float) -> Neurons:
        settings = self.settings
        return {
            "tau": self.config.tau,
            "v_threshold": v_threshold,
            "reset": settings.reset,
            "decay_input": settings.decay_input,
        }


class Spikformer(Network):
    """A Spikformer; see :class:`~aspk.families.network.Network` for the arguments."""

    def __init__(
        self,
        config: SubnetConfig,
        settings: NetworkSettings,
        *,
        shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        super().__init__(config, settings, shape=shape, classes=classes)
        widths = stem_widths(config)
        tau = config.stem_tau if config.stem_neuron == "plif" else None
        self.stem = nn.ModuleList(map(ConvNorm, (shape[0], *widths), widths, [tau] * len(widths)))
        self.position = ConvNorm(config.embed_dim, config.embed_dim, tau)
        self.blocks = nn.ModuleList(
            Block(f"blocks.{index}", config, block, settings) for index, block in enumerate(config.blocks)
        )
        self.head = nn.Linear(config.embed_dim, classes)

    def features(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """Mean over the tokens behind the last block, [T, B, D]."""
        x = self._stem(x, observe)  # [T, B, D, H', W']
        x = x.flatten(3).transpose(2, 3)  # tokens: [T, B, L, D]
        for block in self.blocks:
            x = block(x, observe)
        return x.mean(2, dtype=torch.promote_types(x.dtype, torch.float32))

    def _stem(self, x: Tensor, observe: Observer) -> Tensor:
        neurons, steps = self._neurons(), self.config.time_steps
        for index, stage in enumerate(self.stem):
            spikes: Tensor = stage(x, neurons, steps)
            observe(f"stem.{index}", (x,), spikes)
            x = spikes
            if index in pooled_stages(self.settings):
                pooled = F.max_pool2d(x.flatten(0, 1), kernel_size=3, stride=2, padding=1)
                x = pooled.reshape(*x.shape[:2], *pooled.shape[1:])
        spikes = self.position(x, neurons, steps)
        observe("position", (x,), spikes)
        return x + spikes

    def _neurons(self) -> Neurons:
        """The stem's neurons."""
        return {
            "tau": self.config.stem_tau,
            "v_threshold": self.config.stem_v_threshold,
            "reset": self.settings.reset,
            "decay_input": self.settings.decay_input,
        }
