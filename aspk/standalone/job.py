"""One network trained alone, as a job: a value that says what is to be done, and a record of what came out.

A job whose record exists is done. A killed one resumes in the middle of its training and gives the same
weights: to the bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aspk.data import DataSet, Split, load_data
from aspk.energy import STRICT, EnergyModel, energy_mj
from aspk.engines.device import resolve_device
from aspk.errors import CheckpointError
from aspk.evaluation.supernet import measure
from aspk.families import Supernet
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import DataSettings, EvaluationSettings, Recipe
from aspk.standalone.export import export_network
from aspk.training import EarlyStop, NetworkRun, train_network
from aspk.training.checkpoint import load_supernet, previous_state
from aspk.util.files import hash_of
from aspk.util.pool import results_of
from aspk.util.progress import ProgressBar
from aspk.util.records import Identity, Record, read_json


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a network reached when trained alone.

    Attributes:
        search: accuracy on the images of ``search`` that a search looks at, 0 to 1; NaN in rankings of
            earlier versions, which did not measure it.
        test: accuracy on ``test``, read once; NaN where the job does not read ``test``, and the energies and
            the firing rate are then those of ``search``.
        energy_mj: energy of a ``test`` image in mJ under the job's account, from the network's own spikes.
        strict_mj: the same with dense bills for the residual stream; NaN where ``search`` is.
        firing_rate: mean on ``test``; NaN in retrainings of earlier versions.
        search_energy_mj: energy of an image of ``search``; NaN in records of earlier versions.
        losses: mean training loss of each tenth of the run.
        history: accuracy on the first images of ``search`` at each checkpoint (``update``, ``search``).
        seconds: time that it took, killed runs not counted; NaN where ``search`` is.
        processor_seconds: processor time of its process meanwhile; less than ``seconds`` on a busy machine.
    """

    search: float
    test: float
    energy_mj: float
    strict_mj: float
    firing_rate: float
    search_energy_mj: float
    losses: Sequence[float]
    history: Sequence[Mapping[str, float]]
    seconds: float
    processor_seconds: float

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> Trained:
        """The result in a job's record, which this version of aspk or an earlier one wrote.

        Raises:
            LookupError, TypeError, ValueError: it is damaged.
        """
        # Rankings of earlier versions had no inner table, and retrainings the losses beside it.
        result = {"test": content.get("accuracy"), "history": (), **content, **content.get("result", {})}
        late = ("search", "strict_mj", "firing_rate", "search_energy_mj", "seconds", "processor_seconds")
        test = result["test"]
        return cls(
            test=math.nan if test is None else float(test),
            energy_mj=float(result["energy_mj"]),
            losses=[float(loss) for loss in result["losses"]],
            history=[dict(point) for point in result["history"]],
            **{name: float(result.get(name, math.nan)) for name in late},
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; without ``test``, which JSON has no number for, None."""
        return {**asdict(self), "test": None if math.isnan(self.test) else self.test}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network, to be trained alone with a recipe and a seed.

    The network, the data, the recipe, the seed and the weights that it starts from are the job's identity:
    a record or a state that does not agree with them is refused. For a record, the energy account belongs to
    it, and the images that are measured and calibrated with.

    Attributes:
        name: names its files and labels its progress bar.
        folder: where record and training state are: ``NAME.json`` and ``NAME.pt``.
        space: the search space of the network.
        config: the network.
        data: the data set.
        recipe: how it is trained.
        seed: seed of fresh weights and of the batches.
        evaluation: how many images of ``search`` to measure, to calibrate with, and to run in a batch.
        energy: the energy account.
        weights: the supernet whose weights it starts from; None starts from fresh ones.
        device: where it is trained, see :func:`aspk.engines.device.resolve_device`.
        about: what else the record holds, as plain JSON values.
        export: provenance to write with an export of the trained network, as plain JSON values; None means no
            export. With an export, the job has a folder of its own, ``NAME``, for ``result.json``,
            ``training.pt`` and the exported network.
        test: whether ``test`` is read at the end.
    """

    name: str
    folder: Path
    space: SearchSpace
    config: SubnetConfig
    data: DataSettings
    recipe: Recipe
    seed: int
    evaluation: EvaluationSettings
    energy: EnergyModel
    weights: Path | None = None
    device: str = "auto"
    about: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] | None = None
    test: bool = True

    @property
    def record_file(self) -> Path:
        """Where the result is."""
        exported = self.export is not None
        return self.folder / self.name / "result.json" if exported else self.folder / f"{self.name}.json"

    @property
    def state_file(self) -> Path:
        """Where the state of the training is, until there is a result."""
        exported = self.export is not None
        return self.folder / self.name / "training.pt" if exported else self.folder / f"{self.name}.pt"

    @property
    def begun(self) -> Job:
        """This job as an earlier version began it, when recipes did not yet choose a precision themselves."""
        identity = (read_json(self.record_file) or {}).get("identity")
        found = identity.get("recipe") if isinstance(identity, Mapping) else None
        return replace(self, recipe=self.recipe.as_begun(found))

    @property
    def identity(self) -> Identity:
        """What a record must match to be this job's."""
        images, calibration = self.evaluation.images, self.evaluation.calibration_images
        measured: dict[str, Any] = {  # not in earlier versions' records
            "evaluation": {"images": images, "calibration_images": calibration},
            "energy": {key: v for key, v in asdict(self.energy).items() if key not in ("name", "bits")},
        }
        values: dict[str, Any] = {
            "network": self.config.to_json(),
            "recipe": self.recipe.to_json(),
            "data": self.data.to_json(),
            "seed": self.seed,
            "scratch": self.weights is None,
            "test": self.test,
            **measured,
        }
        missing: dict[str, Any] = {"scratch": True, "test": True, **measured}
        if self.weights is not None and self.weights.is_file():
            values["weights"] = missing["weights"] = hash_of(self.weights)  # not in earlier versions' records
        return Identity(values=values, missing=missing)

    def result(self) -> Trained | None:
        """The result, None if there is none yet, or only a damaged one.

        Raises:
            CheckpointError: the record is another job's.
        """
        advice = f"give another folder (--output), or remove {self.record_file.parent}"
        content = self.begun._record.read(error=CheckpointError, advice=advice)
        try:
            return None if content is None else Trained.from_record(content)
        except (LookupError, TypeError, ValueError, AttributeError):
            return None

    def run(self, *, progress: bool = True, stop: EarlyStop | None = None) -> Trained | None:
        """Train, or resume where an earlier run stopped, then measure, export and record.

        ``test`` is read at the end, if at all. Ctrl-C and SIGTERM stop after the current update, which is
        saved.

        Args:
            progress: whether to show a progress bar.
            stop: may end the training early.

        Returns:
            The result; None if the user interrupted.

        Raises:
            CheckpointError: the state is another job's or damaged, or the supernet to start from is.
            EvaluationStopped: ``stop`` ended it; its state is kept.
            LockError: another process is running the same job.
            TrainingError: the loss is not finite; the last checkpoint is kept.
        """
        data, start = _data(self.data, self.device), self._inherited()
        started = (time.perf_counter(), time.process_time())
        run = train_network(
            self.config,
            self.space.settings,
            data,
            self.recipe,
            state_file=self.state_file,
            seed=self.seed,
            start=start,
            calibration_images=self.evaluation.calibration_images,
            stop=stop,
            description=self.name,
            progress=progress,
        )
        if run is None:
            return None
        result = self._finish(run, data, *started)
        self.drop_state()
        return result

    def drop_state(self) -> None:
        """Remove the training's state, which nobody needs once there is a record."""
        for file in (self.state_file, previous_state(self.state_file)):
            file.unlink(missing_ok=True)

    @property
    def _record(self) -> Record:
        return Record(self.record_file, self.identity)

    def _inherited(self) -> dict[str, Tensor] | None:
        """Weights to start from, None for fresh ones."""
        if self.weights is None:
            return None
        supernet = _supernet(self.weights, self.device, self.identity.values.get("weights"))
        if supernet.space.fingerprint != self.space.fingerprint:
            raise CheckpointError(f"{self.weights} was trained for another search space")
        return supernet.extract(self.config).state_dict()

    def _finish(self, run: NetworkRun, data: DataSet, clock: float, processor: float) -> Trained:
        options: dict[str, Any] = {"batch_size": self.evaluation.batch_size, "energy_model": self.energy}
        images = self.evaluation.images
        searched = Split(data.search.images[:images], data.search.labels[:images])
        search = measure(run.evaluated, searched, **options)
        last = measure(run.evaluated, data.test, **options) if self.test else search
        if self.export is not None:
            export_network(
                self.record_file.parent,
                run.evaluated,
                data=data,
                weights="retrained from inherited weights" if run.inherited else "trained from scratch",
                metrics=last,
                provenance={**self.export, **run.provenance()},
            )
        result = Trained(
            search=search.accuracy,
            test=last.accuracy if self.test else math.nan,
            energy_mj=last.energy_mj,
            strict_mj=energy_mj(last.layers, STRICT),
            firing_rate=last.firing_rate,
            search_energy_mj=search.energy_mj,
            losses=run.losses(),
            history=run.history(),
            seconds=round(time.perf_counter() - clock, 1),
            processor_seconds=round(time.process_time() - processor, 1),
        )
        done = replace(self, recipe=run.recipe)  # an earlier version may have begun it
        done._record.write({"result": {**self.about, **result.to_json()}}, indent=2)
        return result


def train_alone(
    jobs: Sequence[Job], *, workers: int = 1, threads: int | None = None, progress: bool = True
) -> list[Trained] | None:
    """Do the jobs that have no record yet, several side by side.

    A killed run takes its workers with it; the same call resumes in the middle of what they were training.

    Args:
        jobs: the jobs; each has files of its own.
        workers: processes; with several, each imports the main module anew. With 1, all runs in this one.
        threads: PyTorch threads of each training; None means one where several train side by side, and
            PyTorch's own number in this process. The number changes the last digits of sums.
        progress: whether to show progress bars.

    Returns:
        All jobs' results, in their order; None if the user interrupted.

    Raises:
        CheckpointError: a record or a state is another job's, or a supernet to start from is damaged.
        LockError: another process is running one of the jobs.
        TrainingError: a loss is not finite; the last checkpoint is kept.
        WorkerError: a worker was killed; the same call resumes.
    """
    results: list[Trained | None] = [None] * len(jobs)
    alone = workers == 1 or len(jobs) < 2
    with (
        ProgressBar(total=len(jobs), desc="alone", unit="net", disable=not progress or len(jobs) == 1) as bar,
        closing(trainings(jobs, workers=workers, threads=threads, progress=progress and alone)) as found,
    ):
        for place, result in found:
            if result is None:
                return None
            results[place] = result
            bar.update()
            bar.set_postfix({"accuracy": f"{result.test:.4f}"})
    done = [result for result in results if result is not None]
    return done if len(done) == len(jobs) else None


def trainings(
    jobs: Sequence[Job], *, workers: int = 1, threads: int | None = None, progress: bool = False
) -> Generator[tuple[int, Trained | None]]:
    """The results of jobs as they come, each with the job's index: see :func:`train_alone`.

    Those that have a record come first. A result of None, or one that is missing at the end, means that the
    user interrupted.
    """
    missing = []
    for place, job in enumerate(jobs):
        if (result := job.result()) is None:
            missing.append((place, job))
        else:
            job.drop_state()  # a kill may have come between the record and the end of its state
            yield place, result
    here = workers == 1 or len(missing) < 2
    run = partial(_run, threads=threads or (None if here else 1), progress=progress and here)
    with _loaded_no_longer(), closing(results_of(run, missing, workers=workers)) as found:
        yield from found


def _run(item: tuple[int, Job], *, threads: int | None, progress: bool) -> tuple[int, Trained | None]:
    place, job = item
    with _with_threads(threads):
        return place, job.run(progress=progress)


@contextmanager
def _with_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _loaded_no_longer() -> Iterator[None]:
    """Release what jobs of this process have loaded."""
    try:
        yield
    finally:
        _data.cache_clear()
        _supernet.cache_clear()


@lru_cache(maxsize=1)
def _data(settings: DataSettings, device: str) -> DataSet:
    """Loaded once in each worker."""
    return load_data(settings).to(resolve_device(device))


@lru_cache(maxsize=1)
def _supernet(weights: Path, device: str, content: str | None) -> Supernet:
    """Loaded once in each worker, and again if the file's content has changed."""
    return load_supernet(weights, resolve_device(device)).supernet
