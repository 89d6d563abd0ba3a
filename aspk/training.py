"""One-shot training of a supernet: one path per update, resumable to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from aspk.checkpoint import load_state, previous_state, save_state, save_supernet
from aspk.config import SubnetConfig
from aspk.data import DataSet
from aspk.errors import CheckpointError, TrainingError
from aspk.interrupt import graceful_interruption
from aspk.settings import Recipe
from aspk.space import SearchSpace
from aspk.supernet import Supernet

_MONITOR_IMAGES = 128


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes:
        finished: False if it was interrupted.
        updates: updates done so far, those of earlier runs included.
        weights: the supernet's file; None if interrupted.
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
) -> TrainingResult:
    """Train a supernet, or go on where an earlier run in ``folder`` stopped.

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

    Raises:
        CheckpointError: the folder holds another run's state, or only damaged ones.
        TrainingError: the loss is not finite; the last checkpoint is kept.
    """
    run = _Run(space, data.to(device or torch.device("cpu")), recipe, seed)
    state_file, weights_file = folder / "training.pt", folder / "supernet.safetensors"
    run.resume(state_file)
    with (
        graceful_interruption() as interruption,
        tqdm(
            total=recipe.updates, initial=run.update, desc="train", unit="update", disable=not progress
        ) as bar,
    ):
        while run.update < recipe.updates:
            loss = run.step()
            bar.update()
            bar.set_postfix(run.figures(loss), refresh=False)
            done = run.update == recipe.updates
            if done or interruption.requested or run.update % recipe.checkpoint_every == 0:
                run.monitor()
                bar.set_postfix(run.figures(loss))
                save_state(state_file, run.state())
            if interruption.requested and not done:
                return TrainingResult(False, run.update, None)
    save_supernet(weights_file, run.supernet, run.provenance())
    return TrainingResult(True, run.update, weights_file)


class _Run:
    """The state of one training run."""

    def __init__(self, space: SearchSpace, data: DataSet, recipe: Recipe, seed: int) -> None:
        self.space, self.data, self.recipe, self.seed = space, data, recipe, seed
        self.supernet = Supernet(space, shape=data.shape, classes=data.classes, seed=seed)
        self.supernet.to(data.train.images.device)
        self.optimizer = torch.optim.AdamW(
            self.supernet.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.update = 0
        self._accuracies: dict[str, str] = {}
        self._seen, self._started = 0, time.perf_counter()

    # ------------------------------------------------------------------ one update

    def step(self) -> float:
        """One update; the loss."""
        rng = np.random.default_rng([self.seed, self.update])
        images, labels = self._batch()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.schedule(self.update)
        self.supernet.train()
        loss = self._loss(images, labels, self._path(rng))
        self._check_finite("loss", loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        norm = torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.recipe.clip)
        self._check_finite("norm of the gradient", norm)
        self.optimizer.step()
        self.update += 1
        self._seen += len(labels)
        return loss.item()

    def _check_finite(self, what: str, value: Tensor) -> None:
        if not math.isfinite(value.item()):
            raise TrainingError(
                f"the {what} became {value.item()} at update {self.update}; the last checkpoint is kept. "
                "Try a lower learning_rate or clip, and look at the data."
            )

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The images of this update: epoch after epoch, each in an order of its own."""
        train, size = self.data.train, min(self.recipe.batch_size, len(self.data.train))
        epoch, position = divmod(self.update, len(train) // size)
        order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(train))
        chosen = torch.from_numpy(order[position * size : (position + 1) * size]).to(train.labels.device)
        return train.images[chosen], train.labels[chosen]

    def _path(self, rng: np.random.Generator) -> SubnetConfig:
        """The network of this update."""
        recipe = self.recipe
        bounds = np.cumsum([recipe.largest, recipe.smallest, recipe.reference])
        anchor = int(np.searchsorted(bounds, rng.random(), side="right"))
        if anchor < len(bounds):
            return (self.space.largest, self.space.smallest, self.space.reference)[anchor]
        return self.space.decode(self.space.sample_choices(1, rng)[0])

    def _loss(self, images: Tensor, labels: Tensor, config: SubnetConfig) -> Tensor:
        if not self.recipe.prefix_loss:
            logits = self.supernet(images, config)
            return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        steps = [int(choice) for choice in self.space.network["time_steps"]]
        config = replace(config, time_steps=max(steps))
        totals = self.supernet(images, config, per_step=True).cumsum(0)  # [T, B, classes]
        means = torch.cat([totals[step - 1] / step for step in steps])  # [len(steps) * B, classes]
        return F.cross_entropy(means, labels.repeat(len(steps)), label_smoothing=self.recipe.label_smoothing)

    # ------------------------------------------------------------------ what the user sees

    @torch.no_grad()
    def monitor(self) -> None:
        """Measure the largest and the smallest network on a fixed slice of ``search``."""
        self.supernet.eval()
        calibration = self.data.train.images[:_MONITOR_IMAGES]
        images, labels = self.data.search.images[:_MONITOR_IMAGES], self.data.search.labels[:_MONITOR_IMAGES]
        for name, config in (("largest", self.space.largest), ("smallest", self.space.smallest)):
            statistics = self.supernet.calibrate(calibration, config)
            hits = self.supernet(images, config, statistics=statistics).argmax(1) == labels
            self._accuracies[name] = f"{hits.float().mean().item():.3f}"

    def figures(self, loss: float) -> dict[str, str]:
        """The figures on the progress bar."""
        rate = self._seen / (time.perf_counter() - self._started)
        return {"loss": f"{loss:.3f}", **self._accuracies, "images/s": f"{rate:.0f}"}

    # ------------------------------------------------------------------ state

    def identity(self) -> dict[str, Any]:
        """What a state must agree on to be this run's."""
        return {
            "space": self.space.fingerprint,
            "data": self.data.fingerprint(),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
        }

    def state(self) -> dict[str, Any]:
        """Everything that is needed to go on."""
        return {
            "identity": self.identity(),
            "update": self.update,
            "weights": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "accuracies": dict(self._accuracies),
        }

    def resume(self, path: Path) -> None:
        """Load the state at ``path``; if it is damaged, the one before; if there is none, start afresh."""
        candidates = [file for file in (path, previous_state(path)) if file.exists()]
        problems = []
        for file in candidates:
            try:
                self._load(file)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                tqdm.write(f"{problem}; going on from {file.name} at update {self.update}")
            return
        if problems:
            raise CheckpointError(
                "; ".join(problems) + f". Train in another folder, or remove {path.parent} to start again."
            )

    def _load(self, path: Path) -> None:
        state = load_state(path, self.data.train.images.device)
        _check_identity(state.get("identity"), self.identity(), path)
        try:
            self.supernet.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._accuracies = dict(state["accuracies"])
            self.update = int(state["update"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None

    def provenance(self) -> dict[str, Any]:
        """How the weights were made."""
        return {
            "data": self.data.provenance(),
            "data_fingerprint": self.data.fingerprint(),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "updates": self.update,
            "torch": torch.__version__,
        }


def _check_identity(found: object, expected: Mapping[str, Any], path: Path) -> None:
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: does not say what it belongs to")
    for key, value in expected.items():
        if found.get(key) != value:
            raise CheckpointError(
                f"{path}: belongs to another run: its {key} is {found.get(key)!r}, this run's is {value!r}"
            )
