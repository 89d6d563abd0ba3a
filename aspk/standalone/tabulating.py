"""Tables of trained networks: ``aspk table STUDY --trained``. Each training is recorded as it ends."""

from __future__ import annotations

import importlib.metadata
import itertools
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aspk.costs import cost
from aspk.data import DataSet, load_data
from aspk.errors import TableError
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.metrics import Metrics
from aspk.space import IntArray, SearchSpace
from aspk.spec.settings import StatisticsName
from aspk.spec.study import StudySpec
from aspk.standalone.job import Job, Trained, trainings
from aspk.study import supernet_of
from aspk.tables.building import check_size, prefix_order
from aspk.tables.table import Columns, write_table
from aspk.tables.trained import IMAGES, STAGES, ImagesOf, TrainedTable, table_of_trained
from aspk.training import NetworkRun
from aspk.util.files import safe_name
from aspk.util.interrupt import graceful_interruption
from aspk.util.journal import Journal
from aspk.util.locks import exclusive
from aspk.util.progress import ProgressBar
from aspk.util.records import Identity

STATISTICS: tuple[StatisticsName, ...] = ("own", "shared_time")
_TIMED = 8  # networks to time, to estimate how long a training takes if none is done yet
_UPDATES = 3  # timed updates of each, after one that is not timed
_DRAWN_TOGETHER = 256
_FEWEST_UPDATES = 10
_SLOT = 4  # the tenth of a run that its first third ends in, from 1; two thirds end in the 7th
_EVALUATED_TOGETHER = 48


@dataclass(frozen=True, kw_only=True)
class TrainedTablePlan:
    """What a table of trained networks holds.

    Attributes:
        spec: the study: data, recipe ``retrain``, supernet, evaluation, energy account; its seed chooses and
            orders the networks.
        space: the networks' space, the supernet's or a part of it.
        file: the table's file.
        count: number of networks, drawn with equal probability; None is every network of a small space.
        seeds: trainings of each network, with seeds from 0.
        device: where networks run.
    """

    spec: StudySpec
    space: SearchSpace
    file: Path
    count: int | None = None
    seeds: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.count is None:
            check_size(self.space)
        if self.seeds < 1 or (self.count is not None and self.count < 1):
            raise TableError(f"count={self.count}, seeds={self.seeds}: expected at least 1")
        if self.spec.retrain.updates < _FEWEST_UPDATES:
            raise TableError(
                f"retrain.updates = {self.spec.retrain.updates}: expected at least {_FEWEST_UPDATES}, since "
                "losses are kept by tenths of a run"
            )
        if self.count is not None and self.count > self.space.size:
            raise TableError(
                f"{self.count:,} networks: {self.space.name!r} has {self.space.size:,}; leave the number "
                "out to take them all"
            )

    @cached_property
    def networks(self) -> IntArray:
        """The networks in the order of training, shape (n, G): any first part of them is a random sample.

        If all networks of a space are trained, its reference is the first.
        """
        rng = np.random.default_rng(self.spec.seed)
        if self.count is None:
            every, reference = list(self.space.networks()), self.space.encode(self.space.reference)
            return np.array(sorted(rng.permutation(every), key=lambda x: (x != reference).any()))
        found: dict[tuple[int, ...], None] = {}
        while len(found) < self.count:
            drawn = self.space.canonical(self.space.sample_networks(_DRAWN_TOGETHER, rng))
            found |= dict.fromkeys(map(tuple, drawn.tolist()))
        return np.array(list(found)[: self.count], dtype=np.int64)

    @property
    def journal_file(self) -> Path:
        """The file of finished trainings, which grows."""
        return self.file.with_suffix(".jsonl")

    @property
    def parts(self) -> Path:
        """The folder of unfinished trainings."""
        return self.file.with_name(f"{self.file.name}.parts")

    @property
    def identity(self) -> Identity:
        """What the results of trainings depend on; a plan for more networks or seeds reuses them."""
        spec = self.spec
        return Identity(
            values={
                "space": self.space.to_json(),
                "recipe": spec.retrain.to_json(),
                "data": spec.data.to_json(),
                "evaluation": {
                    "images": spec.evaluation.images,
                    "calibration_images": spec.evaluation.calibration_images,
                },
                "energy": spec.energy.to_json(),
            }
        )

    def jobs(self) -> dict[tuple[int, ...], Job]:
        """Every training by its genotype and, last, its seed, in the order of execution.

        A network is trained with all its seeds before the next one begins, so that a table of the finished
        ones can be written at any time.
        """
        spec = self.spec
        return {
            (*x, seed): Job(
                name=safe_name(f"network-{'-'.join(map(str, x))}-seed-{seed}"),
                folder=self.parts,
                space=self.space,
                config=self.space.decode(x),
                data=spec.data,
                recipe=spec.retrain,
                seed=seed,
                evaluation=spec.evaluation,
                energy=spec.energy,
                device=self.device,
            )
            for x, seed in itertools.product(self.networks.tolist(), range(self.seeds))
        }

    def journal(self) -> Journal:
        """The finished trainings.

        Raises:
            TableError: the file holds other trainings, or is damaged.
        """
        advice = f"write to another file (--output), or remove {self.journal_file}"
        return Journal(self.journal_file, self.identity, error=TableError, advice=advice)


def build_trained_table(
    plan: TrainedTablePlan, *, workers: int = 1, progress: bool = True
) -> TrainedTable | None:
    """Train every network of a plan alone, evaluate each with the supernet's weights, and write the table.

    Finished trainings are lines of the plan's ``journal_file``. After a kill at any moment, the same call
    resumes in the middle of the unfinished trainings. A call for more networks or seeds, or one on another
    machine that has the file, continues from the finished ones.

    Args:
        plan: what the table holds.
        workers: networks trained side by side.
        progress: whether to show a progress bar.

    Returns:
        The table, which is written; None after Ctrl-C.

    Raises:
        CheckpointError: there is no supernet of this space, or it is damaged.
        LockError: another process builds the same table.
        TableError: the results on disk are those of other trainings.
        TrainingError: a loss is not finite; the last checkpoint is kept.
        WorkerError: a worker was killed; the same call resumes.
    """
    supernet_of(plan.spec, "cpu")  # fails now, not after hours of training, if there is none
    with exclusive(plan.file):
        journal = plan.journal()
        if not _train(plan, journal, workers=workers, progress=progress):
            return None
        table = _written(plan, plan.networks, journal, progress=progress)
        if table is not None:
            shutil.rmtree(plan.parts, ignore_errors=True)
        return table


def write_finished(plan: TrainedTablePlan, *, progress: bool = True) -> TrainedTable | None:
    """Write a table of those networks of a plan that are trained with all seeds; others may be in training.

    Args:
        plan: the plan; the table is a sample of its networks.
        progress: whether to show a progress bar.

    Returns:
        The table, which is written; None after Ctrl-C.

    Raises:
        CheckpointError: there is no supernet of this space, or it is damaged.
        TableError: no network is trained yet, or the results on disk are those of other trainings.
    """
    journal = plan.journal()
    results = _results(journal)
    done = [all((*x, seed) in results for seed in range(plan.seeds)) for x in plan.networks.tolist()]
    if not any(done):
        raise TableError(f"{plan.journal_file}: no network is trained with all of {plan.seeds} seeds yet")
    return _written(plan, plan.networks[done], journal, progress=progress)


def _written(
    plan: TrainedTablePlan, networks: IntArray, journal: Journal, *, progress: bool
) -> TrainedTable | None:
    if len(networks) == plan.space.size:  # a table of all networks has them in the order of the space
        networks = np.array(list(plan.space.networks()))
    inherited = _inherited(plan, networks, progress=progress)
    if inherited is None:
        return None
    table = _table(plan, networks, journal, inherited)
    write_table(table.table, plan.file)
    return table


def _train(plan: TrainedTablePlan, journal: Journal, *, workers: int, progress: bool) -> bool:
    jobs, done = plan.jobs(), set(_results(journal))
    missing = {key: job for key, job in jobs.items() if key not in done}
    count = len(jobs) - len(missing)
    with (
        ProgressBar(
            total=len(jobs), initial=count, desc=plan.file.stem, unit="net", disable=not progress
        ) as bar,
        closing(trainings(list(missing.values()), workers=workers, threads=1)) as results,
    ):
        for place, result in results:
            if result is None:
                return False
            *x, seed = list(missing)[place]
            journal.add({"x": x, "seed": seed, "trained": asdict(result)})
            missing[(*x, seed)].record_file.unlink(missing_ok=True)  # it is in the journal now
            bar.update()
            bar.set_postfix({"accuracy": f"{result.test:.4f}"})
            count += 1
    return count == len(jobs)


def _results(journal: Journal) -> dict[tuple[int, ...], Trained]:
    try:
        return {
            (*map(int, entry["x"]), int(entry["seed"])): Trained.from_record(entry["trained"])
            for entry in journal.entries
        }
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{journal.file}: damaged: {error!r}") from None


# ---------------------------------------------------------------------- what the supernet measures


def _inherited(
    plan: TrainedTablePlan, networks: IntArray, *, progress: bool
) -> dict[str, dict[ImagesOf, list[Metrics]]] | None:
    """Metrics of networks with the supernet's weights, in their order; None if interrupted."""
    loaded, data = supernet_of(plan.spec, plan.device), load_data(plan.spec.data)
    order = prefix_order(plan.space, networks)
    found: dict[str, dict[ImagesOf, list[Metrics]]] = {}
    kinds = [(statistics, images) for statistics in STATISTICS for images in IMAGES]
    chunks = np.split(order, range(_EVALUATED_TOGETHER, len(order), _EVALUATED_TOGETHER))
    with (
        graceful_interruption(finishing="the batch", lost="the supernet evaluates again") as interruption,
        ProgressBar(total=len(kinds) * len(order), desc="inherited", unit="net", disable=not progress) as bar,
    ):
        for statistics, images in kinds:
            settings = replace(plan.spec.evaluation, statistics=statistics, split=images)
            evaluator = SupernetEvaluator(
                loaded.supernet, data, settings=settings, energy_model=plan.spec.energy
            )
            rows: dict[int, Metrics] = {}
            for chunk in chunks:
                if interruption.requested:
                    return None
                metrics = evaluator.evaluate([plan.space.decode(x) for x in networks[chunk]])
                rows |= dict(zip(chunk.tolist(), metrics, strict=True))
                bar.update(len(chunk))
            found.setdefault(statistics, {})[images] = [rows[row] for row in range(len(order))]
    return found


# ---------------------------------------------------------------------- the table


def _table(
    plan: TrainedTablePlan,
    networks: IntArray,
    journal: Journal,
    inherited: Mapping[str, Mapping[ImagesOf, Sequence[Metrics]]],
) -> TrainedTable:
    spec, data, results = plan.spec, load_data(plan.spec.data), _results(journal)
    trained = [[results[*x, seed] for x in networks.tolist()] for seed in range(plan.seeds)]
    sizes = [
        cost.layer_shapes(plan.space.decode(x), plan.space.settings, data.shape, data.classes)
        for x in networks
    ]
    known = {
        "parameters": np.array([cost.parameters(shapes) for shapes in sizes]),
        "operations": np.array([cost.operations(shapes) for shapes in sizes]),
    }
    weights = supernet_of(spec, "cpu").fingerprint
    return table_of_trained(
        plan.space,
        {images: [_columns(run, images) | known for run in trained] for images in IMAGES},
        {
            statistics: {images: _scalars(rows) for images, rows in of.items()}
            for statistics, of in inherited.items()
        },
        about={
            "kind": "trained",
            "study": spec.name,
            "weights": weights,
            "data": data.fingerprint(),
            "classes": data.classes,
            "recipe": spec.retrain.to_json(),
            "evaluation": asdict(spec.evaluation),
            "energy": asdict(spec.energy),
            "processor_hours": round(sum(run.processor_seconds for run in results.values()) / 3600, 3),
            "versions": {name: importlib.metadata.version(name) for name in ("aspk", "torch")},
        },
        sample=None if len(networks) == plan.space.size else networks,
    )


def _columns(trained: Sequence[Trained], images: ImagesOf) -> dict[str, npt.NDArray[Any]]:
    energy = "energy_mj" if images == "test" else "search_energy_mj"
    columns = {
        "accuracy": [getattr(run, images) for run in trained],
        "energy_mj": [getattr(run, energy) for run in trained],
        "strict_mj": [run.strict_mj for run in trained],
        "firing_rate": [run.firing_rate for run in trained],
    }
    if images == "search":
        tenths = (_SLOT, 2 * _SLOT - 1, 10)
        for stage, tenth in zip(STAGES, tenths, strict=True):
            columns[f"loss_{stage}"] = [run.losses[tenth - 1] for run in trained]
    return {name: np.array(column) for name, column in columns.items()}


def _scalars(metrics: Sequence[Metrics]) -> Columns:
    names = ("accuracy", "energy_mj", "spikes", "firing_rate")
    return {name: np.array([getattr(row, name) for row in metrics]) for name in names}


# ---------------------------------------------------------------------- what it will take


def expected(plan: TrainedTablePlan, *, workers: int = 1) -> str:
    """How long a plan's table will take, in words: judged by finished trainings, else by a few updates."""
    results, jobs = _results(plan.journal()), plan.jobs()
    missing = [job for key, job in jobs.items() if key not in results]
    known = [run.processor_seconds for key, run in results.items() if key in jobs]
    each = float(np.mean(known)) if known else _timed(plan, load_data(plan.spec.data))
    told = f"the {len(known)} that are done" if known else f"{_UPDATES} updates of some"
    return (
        f"{len(plan.networks):,} networks of {plan.space.name!r}, {plan.seeds} seeds: {len(missing):,} of "
        f"{len(jobs):,} trainings to do, {plan.spec.retrain.updates:,} updates each; by {told}, a training "
        f"takes {each:.1f} s of processor time, so all take about {each * len(missing) / 3600:.1f} processor "
        f"hours, {workers} at a time. Each becomes a line of {plan.journal_file} when it ends; Ctrl-C "
        "stops after the current update, and the same command goes on"
    )


def _timed(plan: TrainedTablePlan, data: DataSet) -> float:
    """Processor seconds of a training, from a few updates of some networks of the plan."""
    threads, spent = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for x in plan.networks[:_TIMED]:
            run = NetworkRun(plan.space.decode(x), plan.space.settings, data, plan.spec.retrain, 0, None)
            run.step()
            started = time.process_time()
            for _ in range(_UPDATES):
                run.step()
            spent.append((time.process_time() - started) / _UPDATES)
    finally:
        torch.set_num_threads(threads)
    return float(np.mean(spent)) * plan.spec.retrain.updates
