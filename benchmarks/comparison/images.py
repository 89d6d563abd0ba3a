"""How many training images: does twice the recipe's updates still change a hand-made network?

    python -m benchmarks.comparison.images cifar10_16 --images 10000 --images 45000
    python -m benchmarks.comparison.images cifar10_16 --images 4000 --batch-size 32 --updates 2000

Trains the first hand-made network on N training images with the recipe's updates and with twice as many, in
batches of the recipe's size; or with other updates and batches. It never reads ``test``. A training that
ended is a line of ``benchmarks/records/comparison_NAME_images.jsonl``.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Any

import torch

from aspk.cli.arguments import whole_number
from aspk.standalone.job import Job
from benchmarks.comparison.plan import Plan, load_plan
from benchmarks.run_log import RunLog

_KEYS = ("network", "images", "updates", "seed", "batch_size")


def main() -> None:
    """Train what the log lacks, and print the changes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison")
    parser.add_argument("--images", type=whole_number(1, 10**6), action="append", required=True)
    parser.add_argument("--seed", type=whole_number(0, 10**6), default=21)
    parser.add_argument(
        "--batch-size", type=whole_number(2, 10**4), help="of training; default: the recipe's"
    )
    parser.add_argument("--updates", type=whole_number(1, 10**6), help="default: the recipe's")
    parser.add_argument("--data-folder", default=os.environ.get("ASPK_DATA"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = load_plan(options.comparison, data_folder=options.data_folder)
    log = RunLog(plan.records.with_name(f"{plan.records.stem}_images.jsonl"), _KEYS)
    name, (family, _) = next(iter(plan.hand_made.items()))
    recipe = family.spec.retrain
    updates, batch = options.updates or recipe.updates, options.batch_size or recipe.batch_size
    for images in options.images:
        short, long = (
            _trained(plan, log, images, length, options.seed, batch) for length in (updates, 2 * updates)
        )
        print(
            f"{name}, {images:,} images, batches of {batch}, seed {options.seed}: "
            f"{100 * short['search']:.2f} % with {updates:,} updates, "
            f"{100 * (long['search'] - short['search']):+.2f} points with twice as many"
        )


def _trained(plan: Plan, log: RunLog, images: int, updates: int, seed: int, batch: int) -> dict[str, Any]:
    name, (family, config) = next(iter(plan.hand_made.items()))
    spec, key = family.spec, (name, images, updates, seed, batch)
    if (known := log.get(*key)) is not None:
        return known
    job = Job(
        name=f"{images}-{updates}-{batch}-seed-{seed}",
        folder=plan.folder / "images",
        space=family.space,
        config=config,
        data=replace(spec.data, train=images),
        recipe=replace(spec.retrain, updates=updates, batch_size=batch),
        seed=seed,
        evaluation=spec.evaluation,
        energy=spec.energy,
        device="cpu",
        test=False,
    )
    result = job.run()
    if result is None:
        raise SystemExit("saved; the same command goes on")
    found = dict(zip(_KEYS, key, strict=True))
    found |= {value: getattr(result, value) for value in ("search", "losses", "processor_seconds")}
    log.add(found)
    return found


if __name__ == "__main__":
    main()
