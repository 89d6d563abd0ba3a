"""Found networks trained alone: a queue of networks and seeds that a killed process leaves as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aspk.checkpoint import previous_state
from aspk.config import SubnetConfig
from aspk.data import load_data
from aspk.device import resolve_device
from aspk.energy import STRICT, energy_mj
from aspk.errors import StudyError
from aspk.evaluator import measure
from aspk.export import export_network, networks_of_trials
from aspk.files import safe_name, write_atomically
from aspk.metrics import Metrics
from aspk.space_file import load_space
from aspk.study import supernet_of
from aspk.study_file import StudySpec
from aspk.training import train_network

_RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """One network after training alone.

    Attributes:
        trial: the trial it was found in.
        seed: seed of its training.
        scratch: whether it started from fresh weights instead of inherited ones.
        inherited: accuracy that the search measured with the supernet's weights.
        search: accuracy on ``search`` afterwards.
        test: accuracy on ``test``, read once.
        energy_mj: energy of a ``test`` image in mJ under the study's account, from its own spikes.
        strict_mj: the same with dense bills for the residual stream.
        predicted_mj: energy that the search measured.
        folder: the exported network.
    """

    trial: int
    seed: int
    scratch: bool
    inherited: float
    search: float
    test: float
    energy_mj: float
    strict_mj: float
    predicted_mj: float
    folder: Path


def retrain(
    spec: StudySpec,
    trials: Sequence[int],
    *,
    seeds: Sequence[int] = (0,),
    scratch: bool = False,
    folder: Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> list[Retrained] | None:
    """Train the networks of some trials alone, one after the other, and export them.

    What is finished is not trained again; a killed run goes on in the middle of a network, and gives the
    same weights, on a CPU to the bit.

    Args:
        spec: the study; its ``retrain`` is the recipe.
        trials: numbers of complete trials.
        seeds: seeds to train each network with.
        scratch: start from fresh weights, not from the supernet's.
        folder: where exports go; None is ``retrained`` in the study's folder.
        device: where to train.
        progress: whether to show progress bars.

    Returns:
        One result for each trial and seed; None if the user interrupted.

    Raises:
        StudyError: there is no such complete trial, or a result in the folder is another run's.
        CheckpointError: the supernet or a state is damaged.
        TrainingError: a loss is not finite; the last checkpoint is kept.
    """
    results = []
    for number, (config, metrics) in networks_of_trials(spec, trials).items():
        for seed in seeds:
            start = "scratch" if scratch else "inherited"
            name = safe_name(f"{spec.name}-trial-{number}-{start}-seed-{seed}")
            place = (folder or spec.folder / "retrained") / name
            task = _Task(spec, number, config, metrics, seed, scratch, place)
            result = task.finished() or task.run(device, progress=progress)
            if result is None:
                return None
            results.append(result)
    return results


@dataclass(frozen=True)
class _Task:
    """One network and seed."""

    spec: StudySpec
    trial: int
    config: SubnetConfig
    metrics: Metrics
    seed: int
    scratch: bool
    folder: Path

    def identity(self) -> dict[str, Any]:
        """What a finished result must agree on to be this task's."""
        return {
            "network": self.config.to_json(),
            "recipe": asdict(self.spec.retrain),
            "data": self.spec.data.to_json(),
            "trial": self.trial,
            "seed": self.seed,
            "scratch": self.scratch,
        }

    def finished(self) -> Retrained | None:
        """The result of an earlier run."""
        try:
            found = json.loads((self.folder / _RESULT).read_text(encoding="utf-8"))
            result = Retrained(**found["result"], folder=self.folder)
            identity = dict(found["identity"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        for key, value in self.identity().items():
            if identity.get(key) != value:
                raise StudyError(
                    f"{self.folder}: trained with {key} {identity.get(key)!r}, now it is {value!r}; "
                    "give another --output, or remove the folder"
                )
        return result

    def run(self, device: str, *, progress: bool) -> Retrained | None:
        """Train, measure, export; None if interrupted."""
        spec, place = self.spec, resolve_device(device)
        data = load_data(spec.data).to(place)
        space = load_space(spec.space)
        start = None if self.scratch else supernet_of(spec, device).supernet.extract(self.config).state_dict()
        state = self.folder / "training.pt"
        run = train_network(
            self.config,
            space.settings,
            data,
            spec.retrain,
            state_file=state,
            seed=self.seed,
            start=start,
            calibration_images=spec.evaluation.calibration_images,
            description=self.folder.name,
            progress=progress,
        )
        if run is None:
            return None
        options: dict[str, Any] = {"batch_size": spec.evaluation.batch_size, "energy_model": spec.energy}
        search, test = (measure(run.model, split, **options) for split in (data.search, data.test))
        export_network(
            self.folder,
            run.model,
            weights="trained from scratch" if self.scratch else "retrained from inherited weights",
            metrics=test,
            provenance={"study": spec.name, "trial": self.trial, **run.provenance()},
        )
        result: dict[str, Any] = {
            "trial": self.trial,
            "seed": self.seed,
            "scratch": self.scratch,
            "inherited": self.metrics.accuracy,
            "search": search.accuracy,
            "test": test.accuracy,
            "energy_mj": test.energy_mj,
            "strict_mj": energy_mj(test.layers, STRICT),
            "predicted_mj": self.metrics.energy_mj,
        }
        content = {"identity": self.identity(), "result": result, "losses": run.losses()}
        write_atomically(self.folder / _RESULT, json.dumps(content, indent=2) + "\n")
        for file in (state, previous_state(state)):
            file.unlink(missing_ok=True)
        return Retrained(**result, folder=self.folder)
