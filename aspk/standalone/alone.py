"""The stand-alone side of a ranking study: networks stratified by cost, each trained by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from aspk.costs import cost
from aspk.data import DataSet, load_data
from aspk.energy import EnergyModel
from aspk.errors import RankingError
from aspk.evaluation.supernet import measure
from aspk.space import SearchSpace
from aspk.space.genes import NetworkSettings, SubnetConfig
from aspk.spec.settings import DataSettings, EvaluationSettings, Recipe
from aspk.training import train_network
from aspk.training.checkpoint import previous_state
from aspk.util.files import read_text, write_atomically
from aspk.util.pool import results_of

_DRAWS_PER_STRATUM = 64


def stratified_by_cost(
    space: SearchSpace, count: int, *, shape: tuple[int, int, int], classes: int, seed: int
) -> list[SubnetConfig]:
    """Different networks, one from each of ``count`` equally populated strata of dense operations.

    The population is random networks with every gene uniform over its choices.

    Raises:
        RankingError: the space has fewer networks.
    """
    if space.size < count:
        raise RankingError(f"space {space.name!r} has {space.size} networks, {count} are wanted")
    rng = np.random.default_rng(seed)
    drawn = [space.decode(x) for x in space.sample_choices(_DRAWS_PER_STRATUM * count, rng)]
    networks = list(dict.fromkeys(drawn))

    def operations(config: SubnetConfig) -> int:
        return cost.operations(cost.layer_shapes(config, space.settings, shape, classes))

    networks.sort(key=operations)
    if len(networks) < count:
        networks = sorted((space.decode(x) for x in space.networks()), key=operations)
    strata = np.array_split(np.arange(len(networks)), count)
    return [networks[int(rng.choice(stratum))] for stratum in strata]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network to be trained alone.

    Attributes:
        name: names its files.
        config: the network.
        settings: what its space fixes.
        data: the data set.
        recipe: how it is trained.
        evaluation: calibration and batches of its evaluation.
        energy: the energy account.
        seed: seed of its weights and batches.
        folder: where record and state are.
        device: where it is trained.
    """

    name: str
    config: SubnetConfig
    settings: NetworkSettings
    data: DataSettings
    recipe: Recipe
    evaluation: EvaluationSettings
    energy: EnergyModel
    seed: int
    folder: Path
    device: str

    @property
    def record_file(self) -> Path:
        """Where the result is."""
        return self.folder / f"{self.name}.json"

    def identity(self) -> dict[str, Any]:
        """What a record must agree on to be this job's."""
        return {
            "network": self.config.to_json(),
            "recipe": self.recipe.to_json(),
            "data": self.data.to_json(),
            "seed": self.seed,
        }

    def record(self) -> Mapping[str, Any] | None:
        """The result of this job, None if there is none yet, or only a damaged one.

        Raises:
            RankingError: the record is another job's.
        """
        try:
            found = json.loads(read_text(self.record_file))
            float(found["accuracy"]), float(found["energy_mj"]), found["identity"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        for key, value in self.identity().items():
            if found["identity"].get(key) != value:
                raise RankingError(
                    f"{self.record_file}: made with {key} {found['identity'].get(key)!r}, this study has "
                    f"{value!r}; rank in another folder, or remove {self.folder}"
                )
        result: Mapping[str, Any] = found
        return result


def train_alone(jobs: Sequence[Job], *, workers: int, progress: bool = True) -> bool:
    """Train what has no record yet, several side by side; False if the user interrupted.

    Each worker is a process with one thread: the networks are too small for threads to help within one.
    Ctrl-C and SIGTERM end after the updates in hand, which are saved. A killed run takes its workers with it,
    and goes on in the middle of the networks that they were training.

    Raises:
        LockError: another process trains one of the networks.
        RankingError: a record is another job's.
        WorkerError: a worker was killed; the same call goes on.
    """
    missing = [job for job in jobs if job.record() is None]
    done = len(jobs) - len(missing)
    with (
        tqdm(total=len(jobs), initial=done, desc="alone", unit="net", disable=not progress) as bar,
        closing(results_of(_run, missing, workers=workers)) as results,
    ):
        for accuracy in results:
            if accuracy is None:
                break
            done += 1
            bar.update()
            bar.set_postfix({"accuracy": f"{accuracy:.4f}"})
    return done == len(jobs)


def _run(job: Job) -> float | None:
    """Train, measure on ``test`` once, write the record; its accuracy, or None if interrupted."""
    torch.set_num_threads(1)
    data = _data(job.data, job.device)
    state = job.folder / f"{job.name}.pt"
    run = train_network(
        job.config,
        job.settings,
        data,
        job.recipe,
        state_file=state,
        seed=job.seed,
        calibration_images=job.evaluation.calibration_images,
        progress=False,
    )
    if run is None:
        return None
    options: dict[str, Any] = {"batch_size": job.evaluation.batch_size, "energy_model": job.energy}
    tested = measure(run.evaluated, data.test, **options)
    record = {
        "identity": job.identity(),
        "accuracy": tested.accuracy,
        "energy_mj": tested.energy_mj,
        "firing_rate": tested.firing_rate,
        "losses": run.losses(),
    }
    write_atomically(job.record_file, json.dumps(record, indent=2) + "\n")
    for file in (state, previous_state(state)):
        file.unlink(missing_ok=True)
    return tested.accuracy


@lru_cache(maxsize=1)
def _data(settings: DataSettings, device: str) -> DataSet:
    """Loaded once in each worker."""
    return load_data(settings).to(torch.device(device))
