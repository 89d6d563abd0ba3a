"""Spikformer (Zhou et al., ICLR 2023) as plain layers, readable from top to bottom.

It differs from the original in layout, not in function: tokens are the second last axis, and the first
convolution of a static image, which is the same at every step, is computed once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aspk.families.attention import MixingBlock
from aspk.families.base import Neurons
from aspk.families.layers import ConvNorm, LinearNorm, Observer, nobody
from aspk.families.network import Network
from aspk.families.stem import STAGES, stages
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig


class Block(MixingBlock):
    """A token mixer and a spiking MLP, each added to the residual stream."""

    def __init__(
        self, name: str, config: SubnetConfig, block: BlockConfig, settings: NetworkSettings
    ) -> None:
        super().__init__(name, config, block, settings, bias=True)
        width, hidden = config.embed_dim, int(config.embed_dim * block.mlp_ratio)
        tau = block.tau if block.neuron == "plif" else None
        if block.mixer != "none":
            self.proj = LinearNorm(settings.attention_width(config, block), width, tau)
        self.fc1 = LinearNorm(width, hidden, tau)
        self.fc2 = LinearNorm(hidden, width, tau)

    def forward(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """The residual stream [T, B, L, D] behind the block."""
        if self.config.mixer != "none":
            x = x + self.site("proj", self.mixed(x, observe), observe)
        return x + self.site("fc2", self.site("fc1", x, observe), observe)


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
        tau = config.stem_tau if config.stem_neuron == "plif" else None
        self.stem = nn.ModuleList(nn.Identity() for _ in range(STAGES))  # where it lacks a stage
        channels = shape[0]
        for stage in stages(config, settings):
            self.stem[stage.number] = ConvNorm(channels, stage.width, tau)
            channels = stage.width
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
        for stage in stages(self.config, self.settings):
            spikes: Tensor = self.stem[stage.number](x, neurons, steps)
            observe(f"stem.{stage.number}", (x,), spikes)
            x = spikes
            if stage.pooled:
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
