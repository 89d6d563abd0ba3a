"""Whether another training of the supernet ranks networks better, against a table of trained networks.

Each change is made alone, with several seeds, since another seed changes a ranking, too. Printed are
Kendall's tau of inherited accuracy on ``search`` to the mean stand-alone accuracy on ``test``, that of a
ridge regression on inherited accuracy and operations after 12 trainings, and the supernet's processor time.

    aspk table benchmarks/trained_digits.toml --trained --seeds 2 \
        --output benchmarks/records/digits_trained.npz
    OMP_NUM_THREADS=1 python benchmarks/supernet_training.py benchmarks/trained_digits.toml \
        --table benchmarks/records/digits_trained.npz --log benchmarks/records/supernet_training.jsonl
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from run_log import RunLog
from tqdm import tqdm

from aspk.costs import cost
from aspk.data import DataSet, load_data
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec, load_study_file
from aspk.standalone.calibration import Inherited, calibrated, ceiling, ridge
from aspk.tables import TrainedTable
from aspk.tables.table import Table
from aspk.training import SupernetRun
from aspk.training.run import Batch
from aspk.trials.verdict import kendall

FITTED = 12  # trainings that the regression sees


@dataclass(frozen=True)
class Change:
    """A change of the supernet's training.

    Attributes:
        keys: of its recipe.
        power: of the operations of an update's network, relative to the largest one's, by which the loss is
            multiplied.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    power: float = 0.0


CHANGES = {
    "as it is": Change(),
    "own updates for each T": Change({"prefix_loss": False}),
    "loss / sqrt(operations)": Change(power=-0.5),
    "sandwich, distilled": Change({"paths": "sandwich"}),
}


class WeightedRun(SupernetRun):
    """Weights the loss of an update by the operations of its network."""

    def __init__(
        self, spec: StudySpec, table: TrainedTable, data: DataSet, change: Change, seed: int
    ) -> None:
        super().__init__(table.space, data, replace(spec.train, **change.keys), seed)
        self.power = change.power

        @cache
        def operations(config: SubnetConfig) -> float:
            shapes = cost.layer_shapes(config, table.space.settings, data.shape, data.classes)
            return float(cost.operations(shapes))

        self.operations = operations

    def backward(self, batch: Batch, rng: np.random.Generator, share: float) -> float:
        """See :class:`aspk.training.run.Run`."""
        if self.power:
            (config,) = self.networks()
            share *= (self.operations(config) / self.operations(self.space.largest)) ** self.power
        return super().backward(batch, rng, share)


def judged(spec: StudySpec, table: TrainedTable, name: str, seed: int) -> dict[str, Any]:
    """Train a supernet, and rank the table's networks by it."""
    data, start = load_data(spec.data), time.process_time()
    run = WeightedRun(spec, table, data, CHANGES[name], seed)
    for _ in tqdm(range(spec.train.updates), desc=f"{name}, seed {seed}", unit="update"):
        run.step()
    seconds, configs = time.process_time() - start, [table.space.decode(x) for x in table.networks]
    true, ranking = table.accuracies().mean(axis=1), {}
    for kind in table.statistics:
        evaluator = SupernetEvaluator(
            run.evaluated,
            data,
            settings=replace(spec.evaluation, statistics=kind),
            energy_model=spec.energy,
        )
        accuracies = np.array([metrics.accuracy for metrics in evaluator.evaluate(configs)])
        ranking[kind] = {
            "tau": kendall(accuracies, true),
            "calibrated": _calibrated(table, kind, accuracies),
            "mean": float(accuracies.mean()),
        }
    return {
        "change": name,
        "seed": seed,
        "networks": len(configs),
        "seconds": round(seconds, 1),
        "ranking": ranking,
    }


def _calibrated(table: TrainedTable, kind: str, accuracies: np.ndarray) -> float:
    """Tau after :data:`FITTED` trainings, with these inherited accuracies in place of the table's."""
    name = f"search_{kind}"
    columns = {**table.table.splits[name], "accuracy": accuracies}
    splits = {**table.table.splits, name: columns}
    changed = TrainedTable(Table(table.space, splits, table.table.about, table.table.sample))
    fit = ridge(changed, (Inherited(changed, kind), "operations"))
    return calibrated(changed, fit, sizes=[FITTED], draws=60)[0].tau


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--table", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--change", action="append", choices=CHANGES, help="default: all")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    spec, table = load_study_file(options.study), TrainedTable(options.table)
    log, count = RunLog(options.log, ("change", "seed", "networks")), len(table.networks)
    for seed in range(options.seeds):
        for name in options.change or CHANGES:
            if log.get(name, seed, count) is None:
                log.add(judged(spec, table, name, seed))
    operations = table.table.splits["test"]["operations"].astype(float)
    true = table.accuracies()
    print(f"{count} networks, {table.seeds} seeds: ceiling {ceiling(true):.3f}, ", end="")
    print(f"operations {kendall(operations, true.mean(axis=1)):.3f}")
    for name in CHANGES:
        runs = log.select(change=name, networks=count)
        for kind in table.statistics if runs else ():
            cells = [
                f"{value} {np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"
                for value in ("tau", "calibrated", "mean")
                for found in [[run["ranking"][kind][value] for run in runs]]
            ]
            seconds = np.mean([run["seconds"] for run in runs])
            print(f"{name:26}{kind:12} {len(runs)} seeds; {'; '.join(cells)}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
