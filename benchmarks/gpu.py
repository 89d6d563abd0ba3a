"""What a graphics card gains: its tests, the training step, the evaluator, and training for two minutes.

    benchmarks/gpu.sh [--json FILE]
    benchmarks/gpu.sh --device cpu --seconds 20     # a dry run, on small sizes

Each part is a process of its own with a time limit, eight minutes in all, so that one that fails does not
affect the others. The JSON file names the card. Images are generated; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMITS_S = {"tests": 90, "step": 110, "evaluator": 90, "training": 60}  # beside --seconds of training
_DRY_LIMITS = 5  # times as long on a processor, which may have other work
_CANDIDATES = {"cuda": 24, "cpu": 3}
_IMAGES = {"cuda": 2000, "cpu": 8}
_BATCH = {"cuda": 128, "cpu": 4}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=int, default=120, help="of training (default: 120)")
    parser.add_argument("--json", type=Path, default=Path("runs/gpu.json"), help="(default: runs/gpu.json)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.device, options.seconds)))
        return 0
    from aspk.engines.device import half_precision, hardware, resolve_device

    figures: dict[str, Any] = {
        "hardware": hardware(options.device),
        "unit": half_precision(resolve_device(options.device)),
    }
    print(f"{figures['hardware']}; for bfloat16: {figures['unit'] or 'no unit'}", flush=True)
    for name in PARTS:
        figures[name] = ran(name, options.device, options.seconds)
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any("failed" in figures[name] for name in PARTS))


def ran(part: str, device: str, seconds: int) -> dict[str, Any]:
    """A part's figures, or why there are none."""
    command = [sys.executable, __file__, "--part", part, "--device", device, "--seconds", str(seconds)]
    limit = LIMITS_S[part] + (seconds if part == "training" else 0)
    limit *= 1 if device == "cuda" else _DRY_LIMITS
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, cwd=ROOT)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {limit} s"}
    except (IndexError, ValueError):
        return {"failed": (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]}


# ---------------------------------------------------------------------- the parts


def tests(device: str, seconds: int) -> dict[str, Any]:
    """The tests that are marked ``gpu``; without a card they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    lines = done.stdout.strip().splitlines()
    failed = {} if done.returncode in (0, 5) else {"failed": "\n".join(lines[-20:])}
    return {"summary": lines[-1] if lines else "", **failed}


def step(device: str, seconds: int) -> dict[str, Any]:
    """The training step against spikingjelly's layers."""
    from training import SETUPS, measure

    spaces = ("tiny", "auto_spikformer") if device == "cpu" else tuple(SETUPS)
    rounds, batch = (1, None) if device == "cpu" else (8, 128)
    return {space: measure(space, rounds, device=device, batch=batch) for space in spaces}


def evaluator(device: str, seconds: int) -> dict[str, Any]:
    """Networks of the paper's space: spikingjelly's layers, aspk one by one, aspk together; seconds."""
    import numpy as np
    import torch
    from training import spikingjelly_layers

    from aspk.data import generated_data
    from aspk.evaluation.supernet import SupernetEvaluator
    from aspk.families import Supernet
    from aspk.families.mode import evaluation_mode
    from aspk.space.file import load_space
    from aspk.spec.settings import DataSettings, EngineSettings, EvaluationSettings

    space, images, batch = load_space("auto_spikformer"), _IMAGES[device], _BATCH[device]
    data = generated_data(DataSettings(name="cifar10"), images, frames=1).to(torch.device(device))
    supernet = Supernet(space, shape=data.shape, classes=data.classes).to(device).eval()
    configs = [space.decode(x) for x in space.sample_choices(_CANDIDATES[device], np.random.default_rng(0))]
    settings = EvaluationSettings(images=images, calibration_images=batch, batch_size=batch, statistics="own")

    def ours() -> SupernetEvaluator:
        """A new one, since an evaluator remembers its results."""
        return SupernetEvaluator(supernet, data, settings=settings, machine=EngineSettings(name="torch"))

    @torch.no_grad()
    def baseline() -> None:
        with spikingjelly_layers("linear"):
            for config in configs:
                repeated = data.train.images.expand(config.time_steps, *data.train.images.shape)
                found = supernet.calibrate(repeated[:, :batch].contiguous(), config)
                with evaluation_mode(supernet):
                    for piece in repeated.split(batch, dim=1):
                        supernet(piece.contiguous(), config, statistics=found).argmax(1).tolist()

    works: dict[str, Callable[[], object]] = {
        "spikingjelly, each alone": baseline,
        "aspk, each alone": lambda: [ours().evaluate([config]) for config in configs],
        "aspk, together": lambda: ours().evaluate(configs),
    }
    rounds = 1 if device == "cpu" else 3
    seconds_of: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number or device == "cpu":  # the first round warms up
                seconds_of[name].append(time.perf_counter() - start)
    return {"networks": len(configs), "images": images} | {
        name: statistics.median(times) for name, times in seconds_of.items()
    }


def training(device: str, seconds: int) -> dict[str, Any]:
    """The paper's space with the recipe ``paper`` on generated 32x32 images, for the given time."""
    import torch

    from aspk.data import generated_data
    from aspk.space.file import load_space
    from aspk.spec.recipe import load_recipe
    from aspk.spec.settings import DataSettings
    from aspk.training import SupernetRun

    data = generated_data(DataSettings(name="cifar10"), 40 * _BATCH[device], frames=1)
    recipe = replace(load_recipe("paper"), batch_size=_BATCH[device])
    run = SupernetRun(load_space("auto_spikformer"), data.to(torch.device(device)), recipe, 0)
    start = time.perf_counter()
    first = run.step()  # warms up
    warm = time.perf_counter() - start
    start = time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        run.step()
    done = run.update - 1
    memory = {"peak_bytes": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
    return {
        "precision": run.precision,
        "updates": done,
        "images_per_s": done * recipe.batch_size / taken,
        "first_update_s": warm,
        "losses": [first, *run.losses()[:1]],
        **memory,
    }


PARTS: Mapping[str, Callable[[str, int], dict[str, Any]]] = {
    "tests": tests,
    "step": step,
    "evaluator": evaluator,
    "training": training,
}


if __name__ == "__main__":
    raise SystemExit(main())
