"""One-shot training of a supernet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.data import DataSet, network_input
from aspk.families import Statistics, Supernet
from aspk.families.mode import evaluation_mode
from aspk.families.random_weights import firing_rates
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.training.checkpoint import save_supernet
from aspk.training.loop import train
from aspk.training.processes import ALONE, Processes
from aspk.training.run import MONITOR_IMAGES, Batch, Run


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes:
        finished: False if it was interrupted, or stopped at ``until``.
        updates: updates done so far, those of earlier runs included.
        weights: the supernet's file; None if it did not finish.
    """

    finished: bool
    updates: int
    weights: Path | None


def train_supernet(
    space: SearchSpace,
    data: DataSet,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int = 0,
    device: torch.device | None = None,
    progress: bool = True,
    until: datetime | None = None,
    tensorboard: bool = False,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Train a supernet, or resume where an earlier run in ``folder`` stopped.

    Every update's path and images depend on (seed, update) only, so a resumed run gives the same weights,
    on a CPU to the bit. Ctrl-C saves and returns.

    Args:
        space: the search space.
        data: the data set.
        recipe: how to train.
        folder: holds ``training.pt`` (state) and, at the end, ``supernet.safetensors``.
        seed: seed of weights, paths and batches.
        device: where to train; None is the CPU.
        progress: whether to show a progress bar.
        until: when to save and return, with a time zone; None trains to the end.
        tensorboard: write scalars for TensorBoard into ``folder/tensorboard``.
        processes: those that train together, see :func:`aspk.training.processes.processes`. All train
            the same networks on different images, and the weights are those of one process up to rounding.

    Raises:
        CheckpointError: the folder holds another run's state, or only damaged ones.
        TrainingError: the loss is not finite or has exploded, and the last checkpoint is kept; or TensorBoard
            is not installed.
    """
    run = SupernetRun(space, data.to(device or torch.device("cpu")), recipe, seed, processes)
    weights_file = folder / "supernet.safetensors"
    watched: dict[str, Any] = {"progress": progress, "until": until, "tensorboard": tensorboard}
    if not train(run, folder / "training.pt", description="train", announce=True, **watched):
        return TrainingResult(False, run.update, None)
    if processes.first:
        save_supernet(weights_file, run.evaluated, run.provenance())
    return TrainingResult(True, run.update, weights_file)


class SupernetRun(Run[Supernet]):
    """Trains the networks of a space in their shared weights."""

    def __init__(
        self, space: SearchSpace, data: DataSet, recipe: Recipe, seed: int, processes: Processes = ALONE
    ) -> None:
        self.space = space
        super().__init__(
            Supernet(space, shape=data.shape, classes=data.classes, seed=seed, recipe=recipe),
            data,
            recipe,
            seed,
            processes,
        )

    def subject(self) -> Mapping[str, Any]:
        """See :class:`Run`."""
        return {"space": self.space.fingerprint}

    def networks(self) -> list[SubnetConfig]:
        """The networks that the next update trains."""
        rng = np.random.default_rng([self.seed, self.update])
        return (
            self._students(rng, self.space.largest) if self.recipe.paths == "sandwich" else [self._path(rng)]
        )

    def backward(self, batch: Batch, rng: np.random.Generator, share: float) -> float:
        """See :class:`Run`."""
        if self.recipe.paths == "sandwich":
            return self._sandwich(batch, rng, share)
        with self.autocast():
            loss = self._single(batch, self._path(rng))
        (share * loss).backward()  # type: ignore[no-untyped-call]  # torch
        return loss.item()

    def _logits(self, images: Tensor, config: SubnetConfig, *, per_step: bool = False) -> Tensor:
        called = self.parallel if torch.is_grad_enabled() else self.model
        logits: Tensor = called(network_input(images, config.time_steps), config, per_step=per_step)
        return logits

    # ------------------------------------------------------------------ a single path

    def _path(self, rng: np.random.Generator) -> SubnetConfig:
        """The network of this update."""
        recipe = self.recipe
        bounds = np.cumsum([recipe.largest, recipe.smallest, recipe.reference])
        anchor = int(np.searchsorted(bounds, rng.random(), side="right"))
        if anchor < len(bounds):
            return (self.space.largest, self.space.smallest, self.space.reference)[anchor]
        return self._random(rng)

    def _random(self, rng: np.random.Generator) -> SubnetConfig:
        return self.space.decode(self.space.sample_choices(1, rng)[0])

    def _single(self, batch: Batch, config: SubnetConfig) -> Tensor:
        smoothing = self.recipe.label_smoothing
        if not self.recipe.trains_prefixes:
            return F.cross_entropy(
                self._logits(batch.images, config), batch.targets, label_smoothing=smoothing
            )
        steps = [int(choice) for choice in self.space.network["time_steps"]]
        config = replace(config, time_steps=max(steps))
        totals = self._logits(batch.images, config, per_step=True).cumsum(0)  # [T, B, classes]
        means = torch.cat([totals[step - 1] / step for step in steps])  # [len(steps) * B, classes]
        targets = batch.targets.repeat(len(steps), *[1] * (batch.targets.dim() - 1))
        return F.cross_entropy(means, targets, label_smoothing=smoothing)

    # ------------------------------------------------------------------ the sandwich rule

    def _sandwich(self, batch: Batch, rng: np.random.Generator, share: float) -> float:
        """Gradients are added network by network, so that memory holds one at a time."""
        students = self._students(rng)
        with self.autocast():
            logits = self._logits(batch.images, self.space.largest)
            loss = F.cross_entropy(logits, batch.targets, label_smoothing=self.recipe.label_smoothing)
        (share * loss).backward()  # type: ignore[no-untyped-call]  # torch
        teacher = self._teacher(batch, logits.detach())
        for config in students:
            with self.autocast():
                prediction = F.log_softmax(self._logits(batch.plain, config).float(), dim=1)
                divergence = F.kl_div(prediction, teacher, reduction="batchmean")
            (share * divergence).backward()  # type: ignore[no-untyped-call]  # torch
        return loss.item()

    def _students(self, rng: np.random.Generator, *before: SubnetConfig) -> list[SubnetConfig]:
        randoms = (self._random(rng) for _ in range(self.recipe.random_paths))
        return [*before, self.space.smallest, *randoms]

    @torch.no_grad()
    def _teacher(self, batch: Batch, logits: Tensor) -> Tensor:
        """The largest network's prediction of the plain images, [B, classes]."""
        if self.recipe.augmented:
            with self.autocast():
                logits = self._logits(batch.plain, self.space.largest)
        return logits.float().softmax(dim=1)

    # ------------------------------------------------------------------ what the user sees

    @torch.no_grad()
    def measure(self) -> tuple[dict[str, float], dict[str, float]]:
        """The largest and the smallest network on a fixed slice of ``search``; rates of the reference."""
        calibration = self.data.train.images[:MONITOR_IMAGES]
        images, labels = self.data.search.images[:MONITOR_IMAGES], self.data.search.labels[:MONITOR_IMAGES]
        supernet, accuracies = self.evaluated, {}
        for name, config in (("largest", self.space.largest), ("smallest", self.space.smallest)):
            statistics = self._statistics(calibration, config)
            with evaluation_mode(supernet):
                x = network_input(images, config.time_steps)
                logits = supernet(x, config, statistics=statistics)
            hits = logits.argmax(1) == labels
            accuracies[name] = hits.float().mean().item()
        reference = self.space.reference
        network = supernet.extract(reference, self._statistics(calibration, reference))
        return accuracies, firing_rates(network, network_input(images, reference.time_steps))

    def _statistics(self, images: Tensor, config: SubnetConfig) -> Statistics:
        """Statistics of a network as evaluations take them by default, see :class:`EvaluationSettings`."""
        steps = self.space.max_time_steps if self.recipe.trains_prefixes else config.time_steps
        return self.evaluated.calibrate(network_input(images, steps), replace(config, time_steps=steps))
