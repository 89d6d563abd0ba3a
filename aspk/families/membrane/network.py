"""Networks with membrane shortcuts as plain layers, readable from top to bottom.

Spikingformer (Zhou et al., arXiv 2304.11954) and the Spike-driven Transformer (Yao et al., NeurIPS 2023,
arXiv 2307.01694), see :mod:`aspk.families.membrane.program`. As in Spikformer's module, tokens are the second
last axis, and the first convolution of a static image is computed once.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aspk.families.attention import MixingBlock
from aspk.families.base import Neurons
from aspk.families.layers import ConvNorm, LinearNorm, Observer, Site, maps_of, nobody, tokens_of
from aspk.families.network import Network
from aspk.families.stem import STAGES, stages
from aspk.space.genes import DEPTHWISE, BlockConfig, NetworkSettings, SubnetConfig, mixer_parts


class Block(MixingBlock):
    """A token mixer and a spiking MLP; each reads the membrane current's spikes and adds to the current.

    Args:
        name: the block's name.
        config: the network; its ``embed_dim`` is the width of the current.
        block: the block.
        settings: what the search space fixes.
    """

    def __init__(
        self, name: str, config: SubnetConfig, block: BlockConfig, settings: NetworkSettings
    ) -> None:
        super().__init__(name, config, block, settings, bias=False)
        width, hidden = config.embed_dim, int(config.embed_dim * block.mlp_ratio)
        tau = block.tau if block.neuron == "plif" else None
        side, attention = mixer_parts(block.mixer)
        if block.mixer != "none":
            self.attention_lif = Site(tau)
        if side:
            self.dwconv = ConvNorm(width, width, bias=True, kernel=side, depthwise=True)
        if attention:
            self.proj = LinearNorm(settings.attention_width(config, block), width)
        self.mlp_lif = Site(tau)
        self.fc1 = LinearNorm(width, hidden, tau)
        self.fc2 = LinearNorm(hidden, width)

    def forward(self, x: Tensor, observe: Observer = nobody, *, size: tuple[int, int]) -> Tensor:
        """The membrane current [T, B, L, D] behind the block; ``size``: height and width of its maps."""
        if self.config.mixer in DEPTHWISE:
            spikes = self._spikes("attention_lif", x, observe)
            x = x + tokens_of(self._current("dwconv", maps_of(spikes, size), observe))
        elif self.config.mixer != "none":
            spikes = self._spikes("attention_lif", x, observe)
            x = x + self._current("proj", self.mixed(spikes, observe), observe)
        spikes = self._spikes("mlp_lif", x, observe)
        return x + self._current("fc2", self.site("fc1", spikes, observe), observe)

    def _spikes(self, site: str, x: Tensor, observe: Observer) -> Tensor:
        spikes: Tensor = getattr(self, site).fire(x, self.neurons(self.config.v_threshold))
        observe(f"{self.name}.{site}", (x,), spikes)
        return spikes

    def _current(self, layer: str, x: Tensor, observe: Observer) -> Tensor:
        current: Tensor = getattr(self, layer).current(x)
        observe(f"{self.name}.{layer}", (x,), None)
        return current


class Membrane(Network):
    """A network with membrane shortcuts; see :class:`~aspk.families.network.Network` for the arguments."""

    def __init__(
        self,
        config: SubnetConfig,
        settings: NetworkSettings,
        *,
        shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        super().__init__(config, settings, shape=shape, classes=classes)
        shortcut = settings.stem == "sdt"
        tau = config.stem_tau if config.stem_neuron == "plif" else None
        self.stem = nn.ModuleList(nn.Identity() for _ in range(STAGES))  # where it lacks a stage
        channels = shape[0]
        for stage in stages(config, settings):
            own = None if shortcut and stage.last else tau
            self.stem[stage.number] = ConvNorm(channels, stage.width, own, bias=shortcut)
            channels = stage.width
        if shortcut:
            self.position_lif = Site(tau)
        self.position = ConvNorm(config.embed_dim, config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(f"blocks.{index}", config, block, settings) for index, block in enumerate(config.blocks)
        )
        if settings.head == "sdt":
            self.head_lif = Site(tau)
        self.head = nn.Linear(config.embed_dim, classes)

    def features(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """The mean of the current over the tokens behind the last block, or its spikes; [T, B, D]."""
        x = self._stem(x, observe)  # [T, B, D, H', W']
        height, width = x.shape[3:]
        x = tokens_of(x)  # [T, B, L, D]
        for block in self.blocks:
            x = block(x, observe, size=(height, width))
        means = x.mean(2)
        return self._fire("head_lif", means, observe) if self.settings.head == "sdt" else means

    def _stem(self, x: Tensor, observe: Observer) -> Tensor:
        """The current that the stem makes."""
        shortcut = self.settings.stem == "sdt"
        for stage in stages(self.config, self.settings):
            layer = self.stem[stage.number]
            assert isinstance(layer, ConvNorm)
            fires = not shortcut or not stage.last
            made = layer(x, self._neurons(), self.config.time_steps) if fires else layer.current(x)
            observe(f"stem.{stage.number}", (x,), made if fires else None)
            x = made
            if stage.pooled:
                pooled = F.max_pool2d(x.flatten(0, 1), kernel_size=3, stride=2, padding=1)
                x = pooled.reshape(*x.shape[:2], *pooled.shape[1:])
        spikes = self._fire("position_lif", x, observe) if shortcut else x
        current = self.position.current(spikes)
        observe("position", (spikes,), None)
        return x + current if shortcut else current

    def _fire(self, site: str, current: Tensor, observe: Observer) -> Tensor:
        spikes: Tensor = getattr(self, site).fire(current, self._neurons())
        observe(site, (current,), spikes)
        return spikes

    def _neurons(self) -> Neurons:
        """The neurons outside the blocks."""
        return {
            "tau": self.config.stem_tau,
            "v_threshold": self.config.stem_v_threshold,
            "reset": self.settings.reset,
            "decay_input": self.settings.decay_input,
        }
