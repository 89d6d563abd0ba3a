"""Hierarchical networks as plain layers, readable from top to bottom.

Max-Former (Fang et al., arXiv 2505.18608), see :mod:`aspk.families.hierarchical.program`. Blocks read tokens,
the second last axis, and embeddings read maps.
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from aspk.families.base import Neurons
from aspk.families.layers import ConvNorm, LinearNorm, Observer, Site, maps_of, nobody, tokens_of
from aspk.families.membrane.network import Block as MembraneBlock
from aspk.families.network import Block, Network
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig


class Embedding(nn.Module):
    """What a stage begins with: turns the image, or the current of the stage before, into a current.

    Args:
        name: its name.
        inner: channels that the 1x1 convolution reads.
        width: channels that it makes.
    """

    def __init__(self, name: str, inner: int, width: int) -> None:
        super().__init__()
        self.name = name
        self.shortcut = LinearNorm(inner, width, bias=False)

    def spikes(self, site: str, x: Tensor, neurons: Neurons, observe: Observer) -> Tensor:
        """Spikes of neurons that read a current."""
        spikes: Tensor = getattr(self, site).fire(x, neurons)
        observe(f"{self.name}.{site}", (x,), spikes)
        return spikes

    def convolved(self, layer: str, spikes: Tensor, observe: Observer) -> Tensor:
        """The current that a convolution makes."""
        current: Tensor = getattr(self, layer).current(spikes)
        observe(f"{self.name}.{layer}", (spikes,), None)
        return current

    def pointwise(self, spikes: Tensor, observe: Observer) -> Tensor:
        """The shortcut's 1x1 convolution, a linear layer over the pixels as tokens."""
        tokens = tokens_of(spikes)  # [T, B, L, C]
        current = self.shortcut.current(tokens)
        observe(f"{self.name}.shortcut", (tokens,), None)
        return maps_of(current, spikes.shape[3:])


class ImageEmbedding(Embedding):
    """The first one, which keeps the side; ``tau`` of its PLIF neurons before training, None for LIF."""

    def __init__(self, name: str, channels: int, width: int, tau: float | None) -> None:
        super().__init__(name, width // 2, width)
        self.conv1 = ConvNorm(channels, width // 2, tau)
        self.conv2 = ConvNorm(width // 2, width)

    def forward(self, x: Tensor, neurons: Neurons, config: SubnetConfig, observe: Observer) -> Tensor:
        """The current [T, B, D, H, W] of images [B, C, H, W] or sequences [T, B, C, H, W]."""
        spikes = self.conv1(x, neurons, config.time_steps)
        observe(f"{self.name}.conv1", (x,), spikes)
        return self.convolved("conv2", spikes, observe) + self.pointwise(spikes, observe)


class StageEmbedding(Embedding):
    """A later one, which halves the side in the way of ``embedding``; ``tau`` as in the first one."""

    def __init__(self, name: str, channels: int, width: int, tau: float | None, embedding: str) -> None:
        super().__init__(name, channels, width)
        self.lif1 = Site(tau)
        self.conv1 = ConvNorm(channels, width)
        self.lif2 = Site(tau)
        self.conv2 = ConvNorm(width, width, stride=2 if embedding == "orig" else 1)

    def forward(self, x: Tensor, neurons: Neurons, config: SubnetConfig, observe: Observer) -> Tensor:
        """The current [T, B, D, H', W'] of the current [T, B, C, H, W]."""
        spikes = self.spikes("lif1", x, neurons, observe)
        x = self.convolved("conv1", spikes, observe)
        hidden = self.spikes("lif2", _pooled(x) if config.embedding == "max" else x, neurons, observe)
        x = self.convolved("conv2", hidden, observe)
        if config.embedding == "max":
            return x + _pooled(self.pointwise(spikes, observe))
        sampled = self.pointwise(spikes[..., ::2, ::2], observe)
        return (_pooled(x) if config.embedding == "one_max" else x) + sampled


class Stage(Block):
    """The blocks of a stage, which have the same genes.

    Args:
        name: the stage's name.
        config: the network; its ``embed_dim`` is the stage's width.
        stage: the stage's genes.
        settings: what the search space fixes.
    """

    def __init__(
        self, name: str, config: SubnetConfig, stage: BlockConfig, settings: NetworkSettings
    ) -> None:
        super().__init__()
        self.config = stage
        for place in range(stage.stage_blocks):
            self.add_module(str(place), MembraneBlock(f"{name}.{place}", config, stage, settings))

    def forward(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """The current [T, B, D, H, W] behind the stage's blocks."""
        size, x = x.shape[3:], tokens_of(x)  # [T, B, L, D]
        for block in self.children():
            x = block(x, observe, size=size)
        return maps_of(x, size)


class Hierarchical(Network):
    """A hierarchical network; see :class:`~aspk.families.network.Network` for the arguments."""

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
        self.embed, self.blocks, channels = nn.ModuleList(), nn.ModuleList(), shape[0]
        for index, stage in enumerate(config.blocks):
            width = settings.block_width(config, index)
            name = f"embed.{index}"
            self.embed.append(
                StageEmbedding(name, channels, width, tau, config.embedding)
                if index
                else ImageEmbedding(name, channels, width, tau)
            )
            self.blocks.append(Stage(f"blocks.{index}", replace(config, embed_dim=width), stage, settings))
            channels = width
        self.head_lif = Site(tau)
        self.head = nn.Linear(channels, classes)

    def configure(self, config: SubnetConfig) -> None:
        """See :class:`~aspk.families.network.Network`; a stage's blocks have its genes."""
        super().configure(config)
        for stage, own in zip(self.blocks, config.blocks, strict=True):
            for block in stage.children():
                assert isinstance(block, MembraneBlock)
                block.config = own

    def features(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """Spikes of the neurons that read the mean of the current over the last stage's tokens; [T, B, D]."""
        for embedding, stage in zip(self.embed, self.blocks, strict=True):
            x = stage(embedding(x, self._neurons(), self.config, observe), observe)
        means = x.flatten(3).mean(3)
        spikes = self.head_lif.fire(means, self._neurons())
        observe("head_lif", (means,), spikes)
        return spikes

    def _neurons(self) -> Neurons:
        """The neurons outside the blocks."""
        return {
            "tau": self.config.stem_tau,
            "v_threshold": self.config.stem_v_threshold,
            "reset": self.settings.reset,
            "decay_input": self.settings.decay_input,
        }


def _pooled(x: Tensor) -> Tensor:
    """Max pooling of currents [T, B, C, H, W] to half the side."""
    pooled = F.max_pool2d(x.flatten(0, 1), kernel_size=3, stride=2, padding=1)
    return pooled.reshape(*x.shape[:2], *pooled.shape[1:])
