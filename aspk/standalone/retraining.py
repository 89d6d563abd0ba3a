"""Networks trained alone: a queue of networks and seeds that a killed process leaves as it was."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aspk.data import DataSet, Split, load_data
from aspk.energy import STRICT, energy_mj
from aspk.engines.device import resolve_device
from aspk.errors import StudyError
from aspk.evaluation.supernet import measure
from aspk.families import Supernet
from aspk.metrics import Metrics
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import EvaluationSettings
from aspk.spec.study import StudySpec
from aspk.standalone.export import export_network, networks_of_trials
from aspk.study import supernet_of
from aspk.training import NetworkRun, train_network
from aspk.training.checkpoint import previous_state
from aspk.util.files import read_text, safe_name, write_atomically

_RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that is to be trained alone.

    Attributes:
        name: what its results are called, ``trial-7`` say.
        config: the network.
        predicted: what it reached with the supernet's weights.
        trial: the trial it was found in, if it was found.
    """

    name: str
    config: SubnetConfig
    predicted: Metrics
    trial: int | None = None


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """One network after training alone.

    Attributes:
        name: the candidate's name.
        trial: the trial it was found in, if it was found.
        seed: seed of its training.
        scratch: whether it started from fresh weights instead of inherited ones.
        inherited: accuracy that the search measured with the supernet's weights.
        search: accuracy afterwards, on the images of ``search`` that the search looked at.
        test: accuracy on ``test``, read once.
        energy_mj: energy of a ``test`` image in mJ under the study's account, from its own spikes.
        strict_mj: the same with dense bills for the residual stream.
        predicted_mj: energy that the search measured.
        history: accuracy on the first images of ``search`` at each checkpoint (``update``, ``search``).
        seconds: time that it took, without that of killed runs.
        processor_seconds: processor time of this process in it; less than ``seconds`` on a busy machine.
        folder: the exported network.
    """

    name: str
    trial: int | None
    seed: int
    scratch: bool
    inherited: float
    search: float
    test: float
    energy_mj: float
    strict_mj: float
    predicted_mj: float
    history: Sequence[Mapping[str, float]]
    seconds: float
    processor_seconds: float
    folder: Path


def retrain(spec: StudySpec, trials: Sequence[int], **options: Any) -> list[Retrained] | None:  # noqa: ANN401  # those of train_candidates
    """Train the networks of some trials alone: :func:`train_candidates` with what the study knows of them.

    Raises:
        StudyError: there is no such complete trial.
    """
    candidates = [
        Candidate(name=f"trial-{number}", config=config, predicted=metrics, trial=number)
        for number, (config, metrics) in networks_of_trials(spec, trials).items()
    ]
    return train_candidates(spec, candidates, **options)


def train_candidates(
    spec: StudySpec,
    candidates: Sequence[Candidate],
    *,
    seeds: Sequence[int] = (0,),
    scratch: bool = False,
    folder: Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> list[Retrained] | None:
    """Train networks alone, one after the other, and export them.

    What is finished is not trained again; a killed run goes on in the middle of a network, and gives the
    same weights, on a CPU to the bit.

    Args:
        spec: the study; its ``retrain`` is the recipe.
        candidates: the networks; each has a name of its own.
        seeds: seeds to train each network with.
        scratch: start from fresh weights, not from the supernet's.
        folder: where exports go; None is ``retrained`` in the study's folder.
        device: where to train.
        progress: whether to show progress bars.

    Returns:
        One result for each network and seed; None if the user interrupted.

    Raises:
        StudyError: a result in the folder is another run's.
        CheckpointError: the supernet or a state is damaged.
        TrainingError: a loss is not finite; the last checkpoint is kept.
    """
    workshop: _Workshop | None = None
    results = []
    for candidate in candidates:
        for seed in seeds:
            name = f"{spec.name}-{candidate.name}-{'scratch' if scratch else 'inherited'}-seed-{seed}"
            place = (folder or spec.folder / "retrained") / safe_name(name)
            task = _Task(spec, candidate, seed, scratch, place)
            result = task.finished()
            if result is None:
                workshop = workshop or _Workshop.of(spec, scratch, device)
                result = task.run(workshop, progress=progress)
            if result is None:
                return None
            results.append(result)
    return results


@dataclass(frozen=True)
class _Workshop:
    """What all tasks of a queue need, loaded once."""

    data: DataSet
    supernet: Supernet | None

    @staticmethod
    def of(spec: StudySpec, scratch: bool, device: str) -> _Workshop:
        supernet = None if scratch else supernet_of(spec, device).supernet
        return _Workshop(load_data(spec.data).to(resolve_device(device)), supernet)

    def start(self, config: SubnetConfig) -> dict[str, Tensor] | None:
        """Weights to start from, None for fresh ones."""
        return self.supernet.extract(config).state_dict() if self.supernet else None

    def searched(self, evaluation: EvaluationSettings) -> Split:
        """The images of ``search`` that the search looked at."""
        images, labels = self.data.search.images, self.data.search.labels
        return Split(images[: evaluation.images], labels[: evaluation.images])


@dataclass(frozen=True)
class _Task:
    """One network and seed."""

    spec: StudySpec
    candidate: Candidate
    seed: int
    scratch: bool
    folder: Path

    def identity(self) -> dict[str, Any]:
        """What a finished result must agree on to be this task's."""
        return {
            "network": self.candidate.config.to_json(),
            "recipe": self.spec.retrain.to_json(),
            "data": self.spec.data.to_json(),
            "trial": self.candidate.trial,
            "seed": self.seed,
            "scratch": self.scratch,
        }

    def finished(self) -> Retrained | None:
        """The result of an earlier run."""
        try:
            found = json.loads(read_text(self.folder / _RESULT))
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

    def run(self, workshop: _Workshop, *, progress: bool) -> Retrained | None:
        """Train, measure, export; None if interrupted."""
        spec, started = self.spec, (time.perf_counter(), time.process_time())
        state = self.folder / "training.pt"
        run = train_network(
            self.candidate.config,
            load_space(spec.space).settings,
            workshop.data,
            spec.retrain,
            state_file=state,
            seed=self.seed,
            start=workshop.start(self.candidate.config),
            calibration_images=spec.evaluation.calibration_images,
            description=self.folder.name,
            progress=progress,
        )
        if run is None:
            return None
        result = self._finish(run, workshop, *started)
        for file in (state, previous_state(state)):
            file.unlink(missing_ok=True)
        return result

    def _finish(self, run: NetworkRun, workshop: _Workshop, clock: float, processor: float) -> Retrained:
        spec, predicted = self.spec, self.candidate.predicted
        options: dict[str, Any] = {"batch_size": spec.evaluation.batch_size, "energy_model": spec.energy}
        search = measure(run.evaluated, workshop.searched(spec.evaluation), **options)
        test = measure(run.evaluated, workshop.data.test, **options)
        export_network(
            self.folder,
            run.evaluated,
            data=workshop.data,
            weights="trained from scratch" if self.scratch else "retrained from inherited weights",
            metrics=test,
            provenance={"study": spec.name, "trial": self.candidate.trial, **run.provenance()},
        )
        result: dict[str, Any] = {
            "name": self.candidate.name,
            "trial": self.candidate.trial,
            "seed": self.seed,
            "scratch": self.scratch,
            "inherited": predicted.accuracy,
            "search": search.accuracy,
            "test": test.accuracy,
            "energy_mj": test.energy_mj,
            "strict_mj": energy_mj(test.layers, STRICT),
            "predicted_mj": predicted.energy_mj,
            "history": run.history(),
            "seconds": round(time.perf_counter() - clock, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
        }
        content = {"identity": self.identity(), "result": result, "losses": run.losses()}
        write_atomically(self.folder / _RESULT, json.dumps(content, indent=2) + "\n")
        return Retrained(**result, folder=self.folder)
