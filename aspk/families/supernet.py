"""The supernet: the weights of the largest network; every other network uses parts of them.

There is one network definition, the module of the space's family. A forward pass of the supernet runs the
plain network of a configuration on *views* of the shared weights, so that ``supernet(x, config)``
and ``supernet.extract(config)(x)`` are the same computation.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from aspk.families.base import Program
from aspk.families.layers import Observer, calibrate, initialise
from aspk.families.network import Network
from aspk.families.registry import network_of, program_of
from aspk.space import SearchSpace
from aspk.space.genes import GENES, NetworkSettings, SubnetConfig
from aspk.spec.settings import Recipe

# Batch-normalisation statistics of one network, by buffer name: a value, kept beside the supernet.
Statistics = Mapping[str, Tensor]


def _structure(config: SubnetConfig) -> SubnetConfig:
    """A representative with weights of the same shapes: the same one for all such networks."""
    names = [name for name, kind in GENES.items() if kind.neuron and not kind.words]
    inside: dict[str, Any] = {name: 2.0 for name in names if GENES[name].per_block}
    outside: dict[str, Any] = {name: 2.0 for name in names if name not in inside}
    blocks = tuple(replace(block, **inside) for block in config.blocks)
    return replace(config, time_steps=1, blocks=blocks, **outside)


@lru_cache(maxsize=256)
def _skeleton(
    structure: SubnetConfig,
    settings: NetworkSettings,
    shape: tuple[int, int, int],
    classes: int,
    training: bool,
    thread: int,
) -> Network:
    """The plain network without weights; one per thread, since ``functional_call`` swaps weights into it.

    Building one takes milliseconds, so networks of the same structure share one.
    """
    with torch.device("meta"):
        network = network_of(structure, settings, shape=shape, classes=classes)
    return network.train(training)


class Supernet(nn.Module):
    """All networks of a search space in one set of weights.

    Args:
        space: the search space.
        shape: channels, height and width of the images.
        classes: number of classes.
        seed: seed of the initial weights.
        recipe: how the weights are trained; None if that is unknown.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        shape: tuple[int, int, int],
        classes: int,
        seed: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__()
        self.space, self.shape, self.classes, self.recipe = space, shape, classes, recipe
        self.network = network_of(space.superset, space.settings, shape=shape, classes=classes)
        initialise(self.network, seed)

    def forward(
        self,
        x: Tensor,
        config: SubnetConfig,
        *,
        statistics: Statistics | None = None,
        observe: Observer | None = None,
        per_step: bool = False,
    ) -> Tensor:
        """Logits [B, classes] of one network, or [T, B, classes] with ``per_step``.

        In training mode batch normalisation uses the batch and updates the running statistics. In
        evaluation mode nothing is written, and ``statistics`` (see :meth:`calibrate`) replace the running
        ones, which are averages over all networks and right for none of them.

        Args:
            x: static images [B, C, H, W] or sequences [T, B, C, H, W].
            config: the network.
            statistics: its own batch-normalisation statistics.
            observe: called with every layer's input and spikes.
            per_step: return the logits of each step on its own.
        """
        parameters, buffers = self._slices(config)
        network = self._skeleton(config)
        options: dict[str, Any] = {"per_step": per_step} | ({"observe": observe} if observe else {})
        tensors = {**parameters, **(statistics or buffers)}
        logits: Tensor = functional_call(network, tensors, (x,), options)
        return logits

    def program(self, config: SubnetConfig) -> Program:
        """The operations of one network."""
        return program_of(config, self.space.settings, shape=self.shape, classes=self.classes)

    @torch.no_grad()
    def calibrate(self, x: Tensor, config: SubnetConfig) -> Statistics:
        """Batch-normalisation statistics of one network on the images ``x``, taken as one batch.

        Nothing is written to the supernet; see :func:`aspk.families.calibrate`.

        Args:
            x: static images [B, C, H, W] or sequences [T, B, C, H, W], from the training split.
            config: the network.
        """
        network = calibrate(self.extract(config), x)
        return dict(network.named_buffers())

    def extract(self, config: SubnetConfig, statistics: Statistics | None = None) -> Network:
        """A stand-alone copy of one network, in evaluation mode.

        Args:
            config: the network.
            statistics: its batch-normalisation statistics; None takes the running ones.
        """
        with torch.device("meta"):  # no weights are drawn that the next lines would overwrite
            network = network_of(config, self.space.settings, shape=self.shape, classes=self.classes)
        parameters, buffers = self._slices(config)
        first = self.network.head.weight
        network.to(dtype=first.dtype).to_empty(device=first.device)
        network.load_state_dict({**parameters, **(statistics or buffers)})
        return network.eval()

    def _skeleton(self, config: SubnetConfig) -> Network:
        thread, structure = threading.get_ident(), _structure(config)
        network = _skeleton(structure, self.space.settings, self.shape, self.classes, self.training, thread)
        network.configure(config)
        return network

    def _slices(self, config: SubnetConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Views of the shared parameters and running statistics that ``config`` uses, by name."""
        shapes = self._skeleton(config)
        parameters = dict(self.network.named_parameters())
        buffers = dict(self.network.named_buffers())
        return (
            {name: _leading(parameters[name], own) for name, own in shapes.named_parameters()},
            {name: _leading(buffers[name], own) for name, own in shapes.named_buffers()},
        )


def _leading(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of ``tensor`` with the shape of ``like``: the one rule of weight entanglement."""
    return tensor[part(tensor.shape, like.shape)]


def part(whole: Sequence[int], own: Sequence[int]) -> tuple[slice, ...]:
    """Where the weights of a layer are in those of a larger one: the first channels, kernels' centres.

    Args:
        whole: shape of the larger one's weights: outputs, inputs, and height and width of kernels.
        own: shape of the layer's weights, with as many axes.
    """
    starts = (
        (most - size) // 2 if axis > 1 else 0
        for axis, (most, size) in enumerate(zip(whole, own, strict=True))
    )
    return tuple(slice(start, start + size) for start, size in zip(starts, own, strict=True))
