"""A block's token mixers as modules; :mod:`aspk.families.mixers` says what each of them computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aspk.families.base import Neurons
from aspk.families.layers import LinearNorm, Observer, Site
from aspk.families.network import Block
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig, mixer_parts


class MixingBlock(Block):
    """A transformer block with its token mixer and those of the layers q, k and v that the mixer reads.

    Args:
        name: the block's name.
        config: the network.
        block: the block.
        settings: what the search space fixes.
        bias: whether q, k and v have biases.
    """

    def __init__(
        self, name: str, config: SubnetConfig, block: BlockConfig, settings: NetworkSettings, *, bias: bool
    ) -> None:
        super().__init__()
        self.name, self.config, self.settings = name, block, settings
        width, inner = config.embed_dim, settings.attention_width(config, block)
        _, attention = mixer_parts(block.mixer)
        if not attention:
            return
        tau = block.tau if block.neuron == "plif" else None
        self.q = LinearNorm(width, inner, tau, bias=bias)
        self.k = LinearNorm(width, inner, tau, bias=bias)
        if attention != "qk_token":
            self.v = LinearNorm(width, inner, tau, bias=bias)
        self.av = Site(tau)  # the mixer's neurons

    def mixed(self, x: Tensor, observe: Observer) -> Tensor:
        """The spikes to be projected, [T, B, L, D'], from the input of q, k and v, [T, B, L, D]."""
        parts = ("q", "k") if self.config.mixer == "qk_token" else ("q", "k", "v")
        spikes = [self.site(part, x, observe) for part in parts]  # [T, B, L, D'] each
        mixers: dict[str, Callable[..., Tensor]] = {
            "ssa": self._ssa, "sdsa": self._sdsa, "qk_token": self._qk_token
        }  # fmt: skip
        return mixers[self.config.mixer](observe, *spikes)

    def site(self, layer: str, x: Tensor, observe: Observer) -> Tensor:
        """One layer and the neurons behind it."""
        spikes: Tensor = getattr(self, layer)(x, self.neurons(self.config.v_threshold))
        observe(f"{self.name}.{layer}", (x,), spikes)
        return spikes

    def neurons(self, v_threshold: float) -> Neurons:
        """The block's neurons, with a threshold."""
        settings = self.settings
        return {
            "tau": self.config.tau,
            "v_threshold": v_threshold,
            "reset": settings.reset,
            "decay_input": settings.decay_input,
        }

    def _ssa(self, observe: Observer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = (*q.shape[:3], self.config.num_heads, -1)
        q, k, v = (y.reshape(heads).transpose(2, 3) for y in (q, k, v))  # [T, B, heads, L, D'/heads]
        keys = k.transpose(-2, -1)
        with torch.autocast(q.device.type, enabled=False):  # counts of spikes stay exact
            exact = _exact(q)
            a, b, c = (y.to(exact) for y in (q, keys, v))
            # With more tokens than channels in a head, the other order is cheaper and just as exact.
            y = a @ (b @ c) if q.shape[-2] > q.shape[-1] else (a @ b) @ c
        y = (y * self.settings.attention_scale).transpose(2, 3).flatten(3)  # [T, B, L, D']
        spikes = self._fire(y).to(q.dtype)
        observe(f"{self.name}.qk", (q, k), None)
        observe(f"{self.name}.av", (v,), spikes)
        return spikes

    def _sdsa(self, observe: Observer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sums = (k * v).sum(2, keepdim=True, dtype=_exact(q))  # over tokens: [T, B, 1, D']
        mask = self._fire(sums).to(q.dtype)
        observe(f"{self.name}.kv", (k, v), mask)
        observe(f"{self.name}.mask", (q, mask), None)
        return q * mask

    def _qk_token(self, observe: Observer, q: Tensor, k: Tensor) -> Tensor:
        heads = (*q.shape[:3], self.config.num_heads, -1)
        q, k = (y.reshape(heads) for y in (q, k))  # [T, B, L, heads, D'/heads]
        mask = self._fire(q.sum(4, keepdim=True, dtype=_exact(q))).to(q.dtype)
        observe(f"{self.name}.q_sum", (q,), mask)
        observe(f"{self.name}.mask", (k, mask), None)
        return (k * mask).flatten(3)

    def _fire(self, currents: Tensor) -> Tensor:
        return self.av.fire(currents, self.neurons(self.config.attention_v_threshold))


def _exact(x: Tensor) -> torch.dtype:
    """A type in which counts of spikes are exact."""
    return torch.promote_types(x.dtype, torch.float32)
