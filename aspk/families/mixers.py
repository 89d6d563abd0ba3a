"""Operations that mix tokens: in a transformer block, only these let a token read another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aspk.families.operations import LIF, Linear, Operation, neurons_of, shape
from aspk.metrics import LayerShape, Source
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig


@dataclass(frozen=True, kw_only=True)
class Mixer(Operation):
    """A token mixer: turns the spikes of q, k and v (or of q and k) into the spikes that are projected.

    It also names the input of the layers in front of it, which counting events needs.

    Attributes:
        names: the entries of an energy account, see each mixer.
        made_by: the layers that fire what it reads.
        site: the module that holds its neurons' learnt parameter.
        width: channels of each of these layers.
        tokens: number of tokens.
        neurons: the mixer's neurons.
    """

    names: tuple[str, str]
    made_by: tuple[str, ...]
    site: str
    width: int
    tokens: int
    neurons: LIF


@dataclass(frozen=True, kw_only=True)
class Attention(Mixer):
    """Spiking self-attention (Zhou et al., ICLR 2023): neurons behind ``scale`` (q kᵀ) v in each head.

    Its names are those of q kᵀ and of the product with v.

    Attributes:
        heads: attention heads.
        scale: factor on (q kᵀ) v.
    """

    heads: int
    scale: float

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        product, value = self.names
        size, operations = self.width * self.tokens, self.tokens * self.tokens * self.width
        yield shape(product, "attention", "spikes", steps, operations=operations, reads=size)
        yield shape(
            value, "attention", "spikes", steps,
            operations=operations, reads=size, fires=size, neurons=self.neurons,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpikeDrivenAttention(Mixer):
    """Spike-driven self-attention (Yao et al., NeurIPS 2023): spikes of q, where the channel's neuron fires.

    Each channel has one neuron, which reads the sum of k v over the tokens. Its names are those of this sum,
    the diagonal of kᵀ v, and of the mask.
    """

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        product, mask = self.names
        size = self.width * self.tokens
        yield shape(
            product, "attention", "spikes", steps,
            operations=size, reads=size, fires=self.width, neurons=self.neurons,
        )  # fmt: skip
        yield shape(mask, "mask", "spikes", steps, operations=size, reads=size)


@dataclass(frozen=True, kw_only=True)
class TokenAttention(Mixer):
    """Q-K token attention (Zhou et al., NeurIPS 2024): spikes of k, where the token's neuron fires.

    Each token has one neuron in each head, which reads the sum of q over the head's channels. Its names are
    those of this sum and of the mask.

    Attributes:
        heads: attention heads.
    """

    heads: int

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        total, mask = self.names
        size = self.width * self.tokens
        yield shape(
            total, "attention", "spikes", steps,
            operations=size, reads=size, fires=self.heads * self.tokens, neurons=self.neurons,
        )  # fmt: skip
        yield shape(mask, "mask", "spikes", steps, operations=size, reads=size)


def mixing(
    name: str,
    config: SubnetConfig,
    block: BlockConfig,
    settings: NetworkSettings,
    *,
    reads: str,
    source: Source,
    tokens: int,
    bias: bool = True,
) -> Iterator[Operation]:
    """The layers in front of a block's mixer, and the mixer, which writes ``attended``.

    Args:
        name: the block's name.
        config: the network.
        block: the block; its mixer is not ``none``.
        settings: what the search space fixes.
        reads: the value that the layers read.
        source: what kind of value that is.
        tokens: number of tokens.
        bias: whether the layers have biases.
    """
    width = settings.attention_width(config, block)
    made_by = tuple(f"{name}.{part}" for part in ("q", "k", "v")[: 2 if block.mixer == "qk_token" else 3])
    yield Linear(
        reads=(reads,),
        writes="qkv",
        names=made_by,
        source=source,
        inputs=config.embed_dim,
        outputs=width,
        size=(tokens, 1),
        neurons=neurons_of(settings, block.neuron, block.tau, block.v_threshold),
        bias=bias,
    )
    common: dict[str, Any] = {
        "reads": ("qkv", reads),
        "writes": "attended",
        "made_by": made_by,
        "site": f"{name}.av",
        "width": width,
        "tokens": tokens,
        "neurons": neurons_of(settings, block.neuron, block.tau, block.attention_v_threshold),
    }
    if block.mixer == "sdsa":
        yield SpikeDrivenAttention(names=(f"{name}.kv", f"{name}.mask"), **common)
    elif block.mixer == "qk_token":
        yield TokenAttention(names=(f"{name}.q_sum", f"{name}.mask"), heads=block.num_heads, **common)
    else:
        scale = settings.attention_scale
        yield Attention(names=(f"{name}.qk", f"{name}.av"), heads=block.num_heads, scale=scale, **common)
