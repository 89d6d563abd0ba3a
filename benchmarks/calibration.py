"""Whose batch-normalisation statistics suit a supernet: each network's own, or those of the longest T.

Random networks of a study's supernet are measured at every T with both, on the first images of ``search``.
With ``--paths``, supernets are trained first, one for each seed, with the study's recipe and those paths;
without it, the study's own weights are measured.

    python benchmarks/calibration.py fashion_mnist --networks 15 --images 1000
    python benchmarks/calibration.py digits --paths sandwich --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from aspk.data import DataSet, load_data
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.families import Supernet
from aspk.space.file import load_space
from aspk.spec.settings import Recipe
from aspk.spec.study import StudySpec, load_study_file
from aspk.training import train_supernet
from aspk.training.checkpoint import load_supernet

KINDS = ("own", "shared_time")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a study file, or the name of a shipped one")
    parser.add_argument("--networks", type=int, default=15, help="random networks (default: 15)")
    parser.add_argument("--images", type=int, default=1000, help="images of search (default: 1000)")
    parser.add_argument("--paths", choices=("single", "sandwich"), help="train supernets with these paths")
    parser.add_argument("--no-prefix-loss", action="store_true", help="train without the loss over prefixes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args()
    spec = load_study_file(options.study)
    recipe = None
    if options.paths:
        recipe = replace(spec.train, paths=options.paths, prefix_loss=not options.no_prefix_loss)
    data, results = load_data(spec.data), []
    for name, supernet in supernets(spec, data, recipe, options.seeds):
        result = compared(spec, supernet, data, networks=options.networks, images=options.images)
        results.append({"supernet": name, **result})
        print(f"{name}\n{text(result)}\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def supernets(
    spec: StudySpec, data: DataSet, recipe: Recipe | None, seeds: list[int]
) -> Iterator[tuple[str, Supernet]]:
    """The study's own supernet, or one trained with each seed."""
    if recipe is None:
        yield str(spec.weights_file), load_supernet(spec.weights_file).supernet
        return
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            trained = train_supernet(
                load_space(spec.space), data, recipe, folder=Path(folder), seed=seed, progress=False
            )
            assert trained.weights is not None, "interrupted"
            supernet = load_supernet(trained.weights).supernet
        loss = "with" if recipe.prefix_loss else "without"
        yield f"{recipe.paths}, {recipe.updates} updates {loss} prefix_loss, seed {seed}", supernet


def compared(
    spec: StudySpec, supernet: Supernet, data: DataSet, *, networks: int, images: int
) -> dict[str, Any]:
    """Accuracies of random networks by kind of statistics and T, and how similarly the kinds rank them."""
    space = supernet.space
    X = space.sample_choices(networks, np.random.default_rng(0))
    drawn = [space.decode(x) for x in X]
    steps = sorted(int(choice) for choice in space.network["time_steps"])
    accuracies: dict[str, list[list[float]]] = {}  # by kind: a row for each T
    ranked: dict[str, list[float]] = {}  # by kind: the networks as drawn, each with its own T
    for kind in KINDS:
        settings = replace(spec.evaluation, images=images, statistics=kind)  # type: ignore[arg-type]  # one of the two
        evaluator = SupernetEvaluator(supernet, data, settings=settings)
        accuracies[kind] = [
            [metrics.accuracy for metrics in evaluator.evaluate([replace(c, time_steps=t) for c in drawn])]
            for t in steps
        ]
        ranked[kind] = [accuracies[kind][steps.index(c.time_steps)][i] for i, c in enumerate(drawn)]
    return {
        "time_steps": steps,
        "accuracies": accuracies,
        "kendall_tau": float(kendalltau(*(ranked[kind] for kind in KINDS)).statistic),
    }


def text(result: Mapping[str, Any]) -> str:
    """Mean accuracy in % at each T, and the differences with their standard errors over networks."""
    lines = ["T  own    shared_time  difference, points"]
    for row, step in enumerate(result["time_steps"]):
        own, shared = (result["accuracies"][kind][row] for kind in KINDS)
        gains = [100 * (b - a) for a, b in zip(own, shared, strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        lines.append(
            f"{step}  {100 * statistics.mean(own):.1f}   {100 * statistics.mean(shared):.1f}         "
            f"{statistics.mean(gains):+.1f} ± {error:.1f}"
        )
    tau = result["kendall_tau"]
    return "\n".join([*lines, f"Kendall's tau between the two rankings of the networks as drawn: {tau:.2f}"])


if __name__ == "__main__":
    raise SystemExit(main())
