"""An exported network with its preprocessing and class names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aspk.data import Preprocess
from aspk.data.preprocess import Pictures
from aspk.errors import CheckpointError, DataError
from aspk.families import Network, native
from aspk.space.genes import SubnetConfig

_SEQUENCES = 5  # axes


class Classifier(nn.Module):
    """A network in any form: ``model(model.preprocess(images))`` returns the logits of ordinary images.

    Attributes:
        network: computes the logits of preprocessed images.
        classes: the classes' names; their numbers if the export does not name them.
        weights: where its weights come from, see :func:`aspk.standalone.export.export_network`.
        provenance: where the network comes from.
    """

    network: nn.Module

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocess: Preprocess | None,
        classes: Sequence[str],
        weights: str,
        provenance: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network, self.classes, self.weights = network, tuple(classes), weights
        self.provenance, self._preprocess = provenance, preprocess

    def preprocess(self, images: Pictures) -> Tensor:
        """Ordinary images as the network takes them, on its device: :class:`aspk.data.Preprocess`.

        Args:
            images: pictures of Pillow's, arrays [H, W, C] or tensors [C, H, W] (uint8, or floats from 0 to
                1), a batch of them, or a list; event counts where it was trained on sequences.

        Returns:
            [B, C, H, W] of static images, [T, B, C, H, W] of sequences.

        Raises:
            CheckpointError: the export does not contain the preprocessing.
            DataError: the images do not fit.
        """
        if self._preprocess is None:
            raise CheckpointError(
                "the export does not say what has to be done with images: export the network again, or "
                "standardise them as load_data does it, and give them to the model itself"
            )
        return self.placed(self._preprocess(images))

    def placed(self, images: Tensor) -> Tensor:
        """Images on the network's device, in its type."""
        return images.to(next(self.parameters(), torch.zeros(())))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of preprocessed images [B, C, H, W], or sequences [T, B, C, H, W].

        Raises:
            DataError: a network of T steps is given a sequence of another length, or one that was trained on
                sequences something else.
        """
        if not native.traced():
            self._check(tuple(images.shape))
        logits: Tensor = self.network(images)
        return logits

    def _check(self, shape: tuple[int, ...]) -> None:
        """Refuse images that the network would run, but not as it was trained."""
        steps = None if self._preprocess is None else self._preprocess.time_steps
        if steps is not None and (len(shape) != _SEQUENCES or shape[0] != steps):
            raise DataError(
                f"sequences of shape {shape}: expected [T, B, C, H, W] with the network's T = {steps}, as "
                "preprocess gives them"
            )


class ExportedNetwork(Classifier):
    """An exported aspk network.

    Attributes:
        network: the network itself.
    """

    network: Network

    @property
    def config(self) -> SubnetConfig:
        """The network as a value."""
        return self.network.config

    def _check(self, shape: tuple[int, ...]) -> None:
        super()._check(shape)
        steps = self.config.time_steps
        if len(shape) == _SEQUENCES and shape[0] != steps:
            raise DataError(
                f"images of shape {shape}: expected [B, C, H, W], as preprocess gives them, or sequences "
                f"[T, B, C, H, W] with the network's T = {steps}"
            )

    @property
    def takes_sequences(self) -> bool:
        """Whether the network was trained on sequences [T, B, C, H, W]."""
        return self._preprocess is not None and self._preprocess.frames is not None

    @property
    def standardisation(self) -> tuple[tuple[float, float], ...] | None:
        """Mean and deviation by which each channel is standardised; None if the export does not say."""
        known = self._preprocess
        return None if known is None else tuple(zip(known.mean, known.std, strict=True))

    def description(self) -> str:
        """What other forms of the network carry as JSON: preprocessing, classes and provenance."""
        known = {
            "preprocess": None if self._preprocess is None else self._preprocess.to_json(),
            "classes": self.classes,
            "shape": self.network.shape,
            "weights": self.weights,
            "provenance": dict(self.provenance),
        }
        return json.dumps(known)
