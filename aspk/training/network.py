"""Training one network alone: from scratch, or from the weights that it inherits from a supernet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.data import DataSet, network_input
from aspk.errors import EvaluationStopped
from aspk.families import Network, calibrate, network_of
from aspk.families.layers import initialise
from aspk.families.random_weights import firing_rates
from aspk.space.genes import NetworkSettings, SubnetConfig
from aspk.spec.settings import Recipe
from aspk.training.loop import train
from aspk.training.run import MONITOR_IMAGES, Batch, Run

_MONITORED = 500  # images of search at each checkpoint: a standard error of about two points


@dataclass(frozen=True)
class EarlyStop:
    """When a training is judged, and by what.

    Attributes:
        tenths: tenths of the updates after which it is judged, from 1 to 9.
        reason: says why the training should end there; an empty text lets it continue.
    """

    tenths: int
    reason: Callable[[NetworkRun], str]

    def update(self, updates: int) -> int:
        """The number of updates after which a training of ``updates`` is judged."""
        return -(-self.tenths * updates // 10)


def train_network(
    config: SubnetConfig,
    settings: NetworkSettings,
    data: DataSet,
    recipe: Recipe,
    *,
    state_file: Path,
    seed: int = 0,
    start: Mapping[str, Tensor] | None = None,
    calibration_images: int = 256,
    stop: EarlyStop | None = None,
    description: str = "train",
    progress: bool = True,
) -> NetworkRun | None:
    """Train one network, or resume where an earlier run stopped; None if the user interrupted.

    At the end its batch-normalisation statistics are computed from the first images of ``train``, as the
    evaluator does for the networks of a supernet.

    Args:
        config: the network.
        settings: what its search space fixes.
        data: the data set, on the device to train on.
        recipe: how to train.
        state_file: where the state is kept.
        seed: seed of fresh weights and of the batches.
        start: inherited weights; None draws fresh ones.
        calibration_images: images of ``train`` for the final statistics.
        stop: may end the training early; its state is kept.
        description: labels the progress bar.
        progress: whether to show one.

    Raises:
        CheckpointError: the state is another run's, or too damaged to use.
        EvaluationStopped: ``stop`` ended it.
        TrainingError: the loss is not finite or has exploded; the last checkpoint is kept.
    """
    run = NetworkRun(config, settings, data, recipe, seed, start)
    shown: dict[str, Any] = {"description": description, "progress": progress}
    pause_at = stop.update(recipe.updates) if stop else None
    if not train(run, state_file, pause_at=pause_at, **shown):
        return None
    if stop and run.update < recipe.updates:
        if reason := stop.reason(run):
            raise EvaluationStopped(reason)
        if not train(run, state_file, **shown):
            return None
    calibrate(run.evaluated, run.input(data.train.images[:calibration_images]))
    return run


class NetworkRun(Run[Network]):
    """Trains one network."""

    def __init__(
        self,
        config: SubnetConfig,
        settings: NetworkSettings,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        start: Mapping[str, Tensor] | None,
    ) -> None:
        network = network_of(config, settings, shape=data.shape, classes=data.classes)
        initialise(network, seed)
        if start is not None:
            network.load_state_dict(dict(start))
        self.inherited = start is not None
        self._start = {} if start is None else {"start": _digest(start)}
        super().__init__(network, data, recipe, seed)

    def subject(self) -> Mapping[str, Any]:
        """See :class:`Run`."""
        return {"network": self.model.config.to_json(), "inherited": self.inherited, **self._start}

    def backward(self, batch: Batch, rng: np.random.Generator, share: float) -> float:
        """See :class:`Run`."""
        with self.autocast():
            logits = self.model(self.input(batch.images))
            loss = F.cross_entropy(logits, batch.targets, label_smoothing=self.recipe.label_smoothing)
        (share * loss).backward()  # type: ignore[no-untyped-call]  # torch
        return loss.item()

    def input(self, images: Tensor) -> Tensor:
        """Images as the network takes them."""
        return network_input(images, self.model.config.time_steps)

    @torch.no_grad()
    def measure(self) -> tuple[dict[str, float], dict[str, float]]:
        """Accuracy of a calibrated copy on a fixed slice of ``search``, and its firing rates."""
        calibration = self.input(self.data.train.images[:MONITOR_IMAGES])
        network, search = calibrate(deepcopy(self.evaluated), calibration), self.data.search
        hits = 0
        for start in range(0, min(_MONITORED, len(search)), MONITOR_IMAGES):
            chunk = slice(start, min(start + MONITOR_IMAGES, _MONITORED))
            hits += int((network(self.input(search.images[chunk])).argmax(1) == search.labels[chunk]).sum())
        rates = firing_rates(network, self.input(search.images[:MONITOR_IMAGES]))
        return {"search": hits / min(_MONITORED, len(search))}, rates


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
