"""The state of a training run, and one update of it."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from aspk.data import DataSet
from aspk.engines.device import half_precision
from aspk.errors import CheckpointError, TrainingError
from aspk.spec.settings import Recipe
from aspk.training.augmentation import augment
from aspk.training.checkpoint import load_state, previous_state
from aspk.training.optimizer import MovingAverage, load_moments, optimizer_of
from aspk.training.processes import ALONE, Processes
from aspk.training.progress import expected_end
from aspk.util.progress import ProgressBar
from aspk.util.records import Identity

MONITOR_IMAGES = 128
_EXPLODED = 10.0  # times the loss of a uniform guess
_ALWAYS = 0.99  # firing rate above which a site carries no information

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Batch:
    """Images of one update.

    Attributes:
        images: as in the data set, augmented if the recipe says so.
        targets: labels [B], or class shares [B, classes] after augmentation.
        plain: the images as they are.
    """

    images: Tensor
    targets: Tensor
    plain: Tensor


class Run(abc.ABC, Generic[Network]):
    """The state of one training run: weights, optimizer and the number of updates done.

    Order of calls: :func:`aspk.training.loop.train` calls :meth:`resume` once, then :meth:`step` until the
    recipe's updates are done, with :meth:`monitor` and a checkpoint of :meth:`state` now and then. A subclass
    says what an update minimises (:meth:`backward`) and what the user sees (:meth:`measure`). Everything
    random depends on (seed, update) only.
    """

    def __init__(
        self, model: Network, data: DataSet, recipe: Recipe, seed: int, processes: Processes = ALONE
    ) -> None:
        self.model, self.data, self.recipe, self.seed = model, data, recipe, seed
        self.processes = processes
        self.device = data.train.images.device
        model.to(self.device)
        self.parallel = processes.parallel(model)  # what a pass of training calls
        self.optimizer = optimizer_of(model, recipe)
        self._average = MovingAverage(model, recipe.ema) if recipe.ema else None
        self._unit = half_precision(self.device) if recipe.amp == "auto" else ""
        self.half = recipe.amp is True or bool(self._unit)
        self.update = 0
        self._shown: dict[str, str] = {}
        self._named: tuple[str, ...] = ()
        self._losses: list[float] = []  # means over tenths of the run
        self._history: list[dict[str, float]] = []  # accuracies at each checkpoint
        self.gradient_norm = math.nan  # of the last update, before clipping
        self._done, self._started = 0, time.perf_counter()  # updates of this process, and its start

    @property
    def evaluated(self) -> Network:
        """What is measured, saved and exported: the model, or its moving average if the recipe wants one."""
        return self.model if self._average is None else self._average.of(self.model)

    @abc.abstractmethod
    def backward(self, batch: Batch, rng: np.random.Generator, share: float) -> float:
        """Add the gradient of ``share`` times the loss on a batch; return the loss."""

    @abc.abstractmethod
    def measure(self) -> tuple[dict[str, float], dict[str, float]]:
        """Accuracies to show by name, and firing rates by the name of the site."""

    @abc.abstractmethod
    def subject(self) -> Mapping[str, Any]:
        """What is trained, as plain JSON values: a state of another subject is refused."""

    # ------------------------------------------------------------------ one update

    def step(self) -> float:
        """One update; the loss.

        Raises:
            TrainingError: the loss or its gradient is not finite, or the loss has exploded.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.schedule(self.update)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        images, labels = map(self.processes.share, self._images())
        pieces = self.recipe.accumulate
        loss = 0.0
        for index, piece in enumerate(zip(images.chunk(pieces), labels.chunk(pieces), strict=True)):
            rng = np.random.default_rng([self.seed, self.update])  # every piece trains the same networks
            batch = self._batch(*piece, self.processes.rank * pieces + index)
            with self.processes.normalising():
                loss += self.backward(batch, rng, 1 / pieces) / pieces
        loss = self.processes.mean(loss)
        self._check(loss)
        self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip).item()
        if not math.isfinite(self.gradient_norm):
            raise self._stopped("norm of the gradient", self.gradient_norm)
        self.optimizer.step()
        if self._average is not None:
            self._average.update(self.model)
        self._note(loss)
        self.update += 1
        self._done += 1
        return loss

    def _note(self, loss: float) -> None:
        """Add to the mean loss of this tenth of the run."""
        tenth = 10 * self.update // self.recipe.updates
        while len(self._losses) <= tenth:
            self._losses.append(0.0)
        start = -(-tenth * self.recipe.updates // 10)
        done = self.update - start
        self._losses[tenth] += (loss - self._losses[tenth]) / (done + 1)

    def losses(self) -> list[float]:
        """Mean training loss of each tenth of the run so far, which shows whether it has converged."""
        return [round(loss, 6) for loss in self._losses]

    def history(self) -> list[dict[str, float]]:
        """What was measured at each checkpoint so far: ``update``, and accuracies by name."""
        return [dict(point) for point in self._history]

    def autocast(self) -> torch.autocast:
        """bfloat16 for convolutions and linear layers, if this run is in half precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._stopped("loss", loss)
        if loss > _EXPLODED * math.log(max(self.data.classes, 3)):
            raise self._stopped(
                f"loss exploded: it is far above a guess's {math.log(self.data.classes):.2f} and", loss
            )

    def _stopped(self, what: str, value: float) -> TrainingError:
        return TrainingError(
            f"the {what} became {value:.4g} at update {self.update}; the last checkpoint is kept. "
            "Try a lower learning_rate or clip, and look at the data."
        )

    def _images(self) -> tuple[Tensor, Tensor]:
        """The images of this update: epoch after epoch, each in an order of its own."""
        train, size = self.data.train, min(self.recipe.batch_size, len(self.data.train))
        epoch, position = divmod(self.update, len(train) // size)
        order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(train))
        chosen = torch.from_numpy(order[position * size : (position + 1) * size]).to(train.labels.device)
        return train.images[chosen], train.labels[chosen]

    def _batch(self, images: Tensor, labels: Tensor, piece: int) -> Batch:
        if not self.recipe.augmented:
            return Batch(images, labels, images)
        (seed,) = np.random.SeedSequence([self.seed, self.update, piece, 2]).generate_state(1)
        return Batch(*augment(images, labels, self.recipe, self.data, seed=int(seed)), images)

    # ------------------------------------------------------------------ what the user sees

    def monitor(self) -> dict[str, float]:
        """Measure, and print the neuron sites that never or always fire whenever they change.

        Returns:
            Accuracies and firing rates, by the names of their scalars.
        """
        accuracies, rates = self.measure()
        self._history.append({"update": self.update, **accuracies})
        self._shown = {name: f"{accuracy:.3f}" for name, accuracy in accuracies.items()}
        named = tuple(
            f"{site} {'never' if not rate else 'always'} fires"
            for site, rate in rates.items()
            if not rate or rate > _ALWAYS
        )
        if named != self._named:
            ProgressBar.write(f"update {self.update}: {', '.join(named) or 'every neuron site fires again'}")
        self._named = named
        return {
            **{f"accuracy/{name}": value for name, value in accuracies.items()},
            **{f"firing_rate/{site}": rate for site, rate in rates.items()},
        }

    @property
    def precision(self) -> str:
        """``bfloat16`` or ``float32``: what convolutions and linear layers run in."""
        return "bfloat16" if self.half else "float32"

    def choice(self) -> str:
        """What ``amp = "auto"`` became, for the user."""
        if self.update:
            return f'amp = "auto": {self.precision}, as this run began'
        return f'amp = "auto": {self.precision}, since {self._unit or "no unit for bfloat16"} is here'

    def figures(self, loss: float) -> dict[str, str]:
        """The figures on the progress bar."""
        seconds, batch = (
            time.perf_counter() - self._started,
            min(self.recipe.batch_size, len(self.data.train)),
        )
        end = expected_end(
            self._done, self.recipe.updates - self.update, seconds, datetime.now().astimezone()
        )
        rate = self._done * batch / seconds
        precision = {"amp": self.precision} if self.recipe.amp == "auto" else {}
        return {"loss": f"{loss:.3f}", **self._shown, "images/s": f"{rate:.0f}", **precision, "ends": end}

    # ------------------------------------------------------------------ state

    def identity(self) -> dict[str, Any]:
        """What a state must match to be this run's."""
        return {
            **self.subject(),
            "data": self.data.fingerprint(),
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
        }

    def state(self) -> dict[str, Any]:
        """Everything that is needed to resume."""
        return {
            "identity": self.identity(),
            "update": self.update,
            "half": self.half,
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shown": dict(self._shown),
            "losses": list(self._losses),
            "history": self.history(),
            **({} if self._average is None else {"average": self._average.averaged.state_dict()}),
        }

    def resume(self, path: Path) -> None:
        """Load the state at ``path``; if it is damaged, the one before; if there is none, start afresh.

        Raises:
            CheckpointError: there are only damaged states, or those of another run.
        """
        candidates = [file for file in (path, previous_state(path)) if file.exists()]
        problems = []
        for file in candidates:
            try:
                self._load(file)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                ProgressBar.write(f"{problem}; going on from {file.name} at update {self.update}")
            return
        if problems:
            raise CheckpointError(
                "; ".join(problems) + f". Train in another folder, or remove {path.parent} to start again."
            )

    def _load(self, path: Path) -> None:
        state = load_state(path, self.device)
        identity = state.get("identity")
        begun = self.recipe.as_begun(identity.get("recipe") if isinstance(identity, Mapping) else None)
        if begun != self.recipe:
            self.recipe, self.half = begun, begun.amp is True
        own = self.identity()
        missing = {"start": own.get("start")}  # earlier versions did not record it
        Identity(values=own, missing=missing).require(identity, where=path, error=CheckpointError)
        self.take(state, path)

    def take(self, state: Mapping[str, Any], path: Path) -> None:
        """Go on from a state of this run.

        Args:
            state: what :meth:`state` gave.
            path: where it was kept, for the message.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            self.model.load_state_dict(state["weights"])
            load_moments(self.optimizer, state["optimizer"]["state"])
            if self._average is not None:
                self._average.averaged.load_state_dict(state["average"])
            self._shown = {str(name): str(text) for name, text in state["shown"].items()}
            self._losses, self._history = list(state["losses"]), [dict(point) for point in state["history"]]
            measured = [value for point in self._history for value in point.values()]
            if not all(type(value) in (int, float) for value in (*self._losses, *measured)):
                raise ValueError("losses and history must be numbers")
            if type(state["update"]) is not int or not 0 <= state["update"] <= self.recipe.updates:
                raise ValueError(f"update {state['update']!r} of {self.recipe.updates}")
            if type(state.get("half", False)) is not bool:
                raise ValueError(f"half {state['half']!r}")
            self.half = state.get("half", self.half)  # as the run began, wherever it resumes
            self.update = state["update"]
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None

    def provenance(self) -> dict[str, Any]:
        """How the weights were made."""
        return {
            "data": self.data.provenance(),
            "data_fingerprint": self.data.fingerprint(),
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "updates": self.update,
            "precision": self.precision,
            **({} if self.processes.count == 1 else {"processes": self.processes.count}),
            "torch": torch.__version__,
        }
