"""What the networks of a trained supernet score on the split ``test``, chosen on ``search``.

Random networks and the reference are evaluated, with inherited weights, on the images of ``search``. Printed
are the reference and the best of all on ``search``, with their accuracies on ``test``, which nothing
else looks at. Meant for the small data sets of ``benchmarks/families``: N-MNIST's 1,000 recordings.

    aspk train benchmarks/families/nmnist_spikformer.toml --device cpu
    python benchmarks/events.py benchmarks/families/nmnist_spikformer.toml [--networks 60] [--log FILE]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from run_log import RunLog

from aspk.data import load_data
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.spec.study import load_study_file
from aspk.study import evaluator_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--networks", type=int, default=60, help="random networks (default: 60)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--log", type=Path, help="append the figures to this file of JSON lines")
    options = parser.parse_args()
    spec = load_study_file(options.study)
    data = load_data(spec.data)
    evaluator, fingerprints = evaluator_of(spec, options.device, data=data)
    space = evaluator.supernet.space
    X = space.sample_choices(options.networks, np.random.default_rng(spec.seed))
    configs = list(dict.fromkeys([space.reference, *(space.decode(x) for x in X)]))
    searched = evaluator.evaluate(configs)
    best = max(range(len(configs)), key=lambda index: searched[index].accuracy)
    tested = SupernetEvaluator(
        evaluator.supernet,
        replace(data, search=data.test),
        settings=replace(spec.evaluation, images=None),
        energy_model=spec.energy,
        machine=spec.engine,
    ).evaluate([configs[0], configs[best]])
    figures = {
        "study": spec.name,
        "updates": spec.train.updates,
        "networks": len(configs),
        "weights": fingerprints["weights"],
        "search_images": len(data.search.labels),
        "test_images": len(data.test.labels),
        "mean_search": float(np.mean([metrics.accuracy for metrics in searched])),
        "reference_search": searched[0].accuracy,
        "reference_test": tested[0].accuracy,
        "reference_energy_mj": tested[0].energy_mj,
        "best_search": searched[best].accuracy,
        "best_test": tested[1].accuracy,
        "best_energy_mj": tested[1].energy_mj,
    }
    for name, value in figures.items():
        print(f"{name:20} {value}")
    RunLog(options.log, ("study", "updates", "weights")).add(figures)


if __name__ == "__main__":
    main()
