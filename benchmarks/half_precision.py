"""Whether supernets trained in bfloat16 are as good as those trained in float32.

Supernets of a study are trained in both precisions, with the same seeds, and so with the same first weights,
networks and images; then the same random networks of each are evaluated, in float32, on images of ``search``.

    OMP_NUM_THREADS=1 python benchmarks/half_precision.py fashion_mnist --updates 3000 --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/half_precision.py digits --seeds 0 1 2

Finished trainings are lines of the file that ``--log`` names, and are not repeated. A killed training resumes
from its last checkpoint in ``--folder``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from run_log import RunLog

from aspk.data import DataSet, load_data
from aspk.engines.device import half_precision, hardware, resolve_device
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.families import Supernet
from aspk.space.file import load_space
from aspk.spec.study import StudySpec, load_study_file
from aspk.training import SupernetRun
from aspk.training.loop import train

PRECISIONS = {"float32": False, "bfloat16": True}  # and the recipe's amp


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a study file, or the name of a shipped one")
    parser.add_argument("--updates", type=int, help="of each training (default: the study's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--networks", type=int, default=30, help="random networks (default: 30)")
    parser.add_argument("--images", type=int, default=1000, help="images of search (default: 1000)")
    parser.add_argument("--folder", type=Path, default=Path("runs/half_precision"), help="of checkpoints")
    parser.add_argument("--log", type=Path, help="records (default: FOLDER/runs.jsonl)")
    options = parser.parse_args()
    spec = load_study_file(options.study)
    updates = options.updates or spec.train.updates
    log = RunLog(options.log or options.folder / "runs.jsonl", ("study", "updates", "precision", "seed"))
    data, runs = load_data(spec.data), []
    for seed in options.seeds:
        for precision in PRECISIONS:
            key = (spec.name, updates, precision, seed)
            if log.get(*key) is None:
                folder = options.folder / "-".join(map(str, key))
                log.add(
                    trained(spec, data, updates, precision, seed, folder, options.networks, options.images)
                )
            run = log.get(*key)
            assert run is not None
            runs.append(run)
            accuracy, seconds = 100 * statistics.mean(run["accuracies"]), run["processor_s"]
            print(
                f"seed {seed}, {precision}: mean accuracy {accuracy:.2f} %, training loss of the last tenth "
                f"{run['losses'][-1]:.4f}, {seconds:.0f} s of processor time",
                flush=True,
            )
    print(text(runs))
    return 0


def trained(
    spec: StudySpec,
    data: DataSet,
    updates: int,
    precision: str,
    seed: int,
    folder: Path,
    networks: int,
    images: int,
) -> dict[str, Any]:
    """One training, and the accuracies of random networks of its supernet."""
    recipe = replace(spec.train, updates=updates, amp=PRECISIONS[precision])
    run = SupernetRun(load_space(spec.space), data, recipe, seed)
    start = time.process_time()
    if not train(run, folder / "training.pt", description=f"{precision} {seed}", progress=True):
        raise SystemExit("interrupted; the same command goes on")
    seconds = time.process_time() - start
    return {
        "study": spec.name,
        "updates": updates,
        "precision": precision,
        "seed": seed,
        "accuracies": accuracies(spec, run.model, data, networks, images),
        "losses": run.losses(),
        "processor_s": round(seconds, 1),  # of this process: less than the training's if that was resumed
        "hardware": hardware("cpu"),
        "unit": half_precision(resolve_device("cpu")),
    }


def accuracies(spec: StudySpec, supernet: Supernet, data: DataSet, networks: int, images: int) -> list[float]:
    """Accuracies of the same random networks, whatever the supernet."""
    space = supernet.space
    drawn = [space.decode(x) for x in space.sample_choices(networks, np.random.default_rng(0))]
    settings = replace(spec.evaluation, images=min(images, len(data.search)))
    found = SupernetEvaluator(supernet.eval(), data, settings=settings).evaluate(drawn)
    return [metrics.accuracy for metrics in found]


def text(runs: Iterable[Mapping[str, Any]]) -> str:
    """Means and standard deviations over the seeds, and the difference seed by seed."""
    means = {
        precision: [100 * statistics.mean(r["accuracies"]) for r in runs if r["precision"] == precision]
        for precision in PRECISIONS
    }
    lines = [f"{name}: {statistics.mean(own):.2f} ± {_deviation(own):.2f} %" for name, own in means.items()]
    gains = [half - single for single, half in zip(*means.values(), strict=True)]
    lines.append(f"difference: {statistics.mean(gains):+.2f} ± {_deviation(gains):.2f} points")
    return "\n".join(lines)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


if __name__ == "__main__":
    raise SystemExit(main())
