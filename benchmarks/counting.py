"""What counting costs: a counted forward pass against a plain one.

The two alternate within one run, so that a busy machine slows both. A ratio is of two consecutive passes; its
median and quartiles over all pairs are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aspk.costs import cost
from aspk.engines.device import hardware
from aspk.families.counting import Counter
from aspk.families.random_weights import calibrated_random_network
from aspk.space.file import load_space

# name of the space, shape of the images, classes, images in the batch
CASES = {
    "tiny (8x8)": ("tiny", (1, 8, 8), 10, 256),
    "Spikformer-4-384 (32x32)": ("auto_spikformer", (3, 32, 32), 10, 4),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, a smaller batch")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    results = [measured(name, device, quick=options.quick) for name in CASES]
    for row in results:
        low, high = row["ratio_quartiles"]
        print(
            f"{row['case']:26} plain {row['plain_ms']:8.1f} ms; counted / plain {row['ratio']:.3f} "
            f"(quartiles {low:.3f} to {high:.3f}, {row['pairs']} pairs)"
        )
    if options.json:
        record = {
            "benchmark": "counting",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": hardware(device.type),
            "results": results,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def measured(case: str, device: torch.device, *, quick: bool) -> dict[str, Any]:
    """Time one case."""
    name, shape, classes, images = CASES[case]
    space = load_space(name)
    network, x = calibrated_random_network(space.reference, space.settings, shape=shape, classes=classes)
    repeats = max(1, images // len(x))
    network, x = network.to(device), x.repeat(repeats, 1, 1, 1).to(device)
    counter = Counter(cost.layer_shapes(space.reference, space.settings, shape, classes))
    plain = timer(lambda: network(x), device)
    counted = timer(lambda: network(x, counter), device)
    pairs = (8 if quick else 40) if name == "auto_spikformer" else (20 if quick else 100)
    times: list[tuple[float, float]] = []
    with torch.no_grad():
        for _ in range(2):  # warm up
            plain(), counted()
        for index in range(pairs):
            first = plain() if index % 2 == 0 else counted()
            second = counted() if index % 2 == 0 else plain()
            times.append((first, second) if index % 2 == 0 else (second, first))
    ratios = [counted_s / plain_s for plain_s, counted_s in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "case": case,
        "images": len(x),
        "pairs": pairs,
        "plain_ms": 1e3 * statistics.median(one for one, _ in times),
        "counted_ms": 1e3 * statistics.median(one for _, one in times),
        "ratio": middle,
        "ratio_quartiles": [low, high],
    }


def timer(run: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Seconds of one call."""

    def timed() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return timed


if __name__ == "__main__":
    sys.exit(main())
