"""What the modules of all families have in common."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from aspk.families.layers import Observer, nobody
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig, check_network


class Block(nn.Module):
    """A transformer block, whose neurons are those of ``config``."""

    config: BlockConfig


class Network(nn.Module, abc.ABC):
    """One complete network: its family's program in readable form.

    A family's constructor adds its layers after calling this one, :attr:`head` last.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the images.
        classes: number of classes.

    Attributes:
        blocks: the transformer blocks, first to last.
        head: turns features into logits.

    Raises:
        GenotypeError: a width does not divide as needed.
    """

    blocks: nn.ModuleList
    head: nn.Linear

    def __init__(
        self,
        config: SubnetConfig,
        settings: NetworkSettings,
        *,
        shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        check_network(config, settings)
        super().__init__()
        self.config, self.settings, self.shape, self.classes = config, settings, shape, classes

    def configure(self, config: SubnetConfig) -> None:
        """Become another network with weights of the same shapes: other neurons, or another T."""
        self.config = config
        for block, own in zip(self.blocks, config.blocks, strict=True):
            assert isinstance(block, Block)
            block.config = own

    def forward(self, x: Tensor, observe: Observer = nobody, *, per_step: bool = False) -> Tensor:
        """Logits [B, classes] of static images [B, C, H, W] or sequences [T, B, C, H, W].

        With ``per_step``, those of each step, [T, B, classes]; their mean over time is the plain result.
        """
        features = self.features(x, observe)  # [T, B, D]
        if not per_step:
            features = features.mean(0)  # over time: [B, D]
        observe("head", (features,), None)
        logits: Tensor = self.head(features)
        return logits

    @abc.abstractmethod
    def features(self, x: Tensor, observe: Observer = nobody) -> Tensor:
        """The head's input at each step, [T, B, D]."""
