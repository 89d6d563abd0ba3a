"""Whether a code change left every result unchanged, to the bit.

    python benchmarks/unchanged.py OLD NEW            # two checkouts, each with its own .venv
    python benchmarks/unchanged.py OLD NEW --only searches

Runs one fixed list in both: 18 searches, 26 in which something is known, bounded, or goes wrong, an
evaluation of every shipped space on every engine, a training that is killed and resumed, and an energy bill.
It uses public names only, so that it runs in older checkouts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEEDS = (0, 1)
TRIALS = 30


def searches() -> dict[str, Any]:
    """Three samplers, three studies, two seeds: the parameters and values of every trial."""
    import optuna

    from aspk import load_space
    from aspk.samplers import EvolutionarySampler, NSGA2Sampler, SurrogateSampler
    from aspk.testing import FormulaEvaluator

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tiny = load_space("tiny")
    evaluator = FormulaEvaluator(tiny)

    def accuracy_and_energy(trial: optuna.Trial) -> tuple[float, ...]:
        (metrics,) = evaluator.evaluate([tiny.suggest(trial)])
        return 1 - metrics.accuracy, metrics.energy_mj

    def one_number(trial: optuna.Trial) -> tuple[float, ...]:
        (metrics,) = evaluator.evaluate([tiny.suggest(trial)])
        return (1 - metrics.accuracy + metrics.energy_mj,)

    def mixed(trial: optuna.Trial) -> tuple[float, ...]:
        x, y = trial.suggest_int("x", 0, 20), trial.suggest_float("y", -2, 2)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return (x - 7) ** 2 + y**2, abs(x - 12) + (kind == "a")

    objectives = {"front": (accuracy_and_energy, tiny), "one": (one_number, tiny), "mixed": (mixed, None)}
    found = {}
    for kind in (SurrogateSampler, NSGA2Sampler, EvolutionarySampler):
        for name, (objective, space) in objectives.items():
            for seed in SEEDS:
                sampler = kind(space=space, seed=seed)
                study = optuna.create_study(
                    directions=["minimize"] * (1 if name == "one" else 2), sampler=sampler
                )
                study.optimize(objective, n_trials=TRIALS)
                found[f"{kind.__name__} {name} {seed}"] = [[t.params, t.values] for t in study.trials]
    return found


def informed_searches() -> dict[str, Any]:
    """The surrogate's other paths: known functions, constraints, composites, trials that fail, batches."""
    import optuna

    from aspk import load_space
    from aspk.samplers import SurrogateSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("aspk").setLevel(logging.ERROR)  # contradictions are part of the list
    tiny = load_space("tiny")
    found = {}
    for name, (objective, options) in _informed_cases(tiny).items():
        for seed in SEEDS:
            space = None if name == "branches" else tiny
            sampler = SurrogateSampler(space=space, seed=seed, **options)
            one = name in ("composite", "pruned")
            directions = ["maximize" if name == "composite" else "minimize"] * (1 if one else 2)
            study = optuna.create_study(directions=directions, sampler=sampler)
            if name == "batches":
                for trial in (trial for _ in range(TRIALS // 5) for trial in sampler.ask_batch(study, 5)):
                    study.tell(trial, objective(trial))
            else:
                study.optimize(objective, n_trials=TRIALS)
            found[f"{name} {seed}"] = [[t.params, t.values] for t in study.trials]
    return found


def _informed_cases(tiny: Any) -> dict[str, tuple[Any, dict[str, Any]]]:  # noqa: ANN401  # an older checkout's
    """Maps a name to an objective and the sampler's options."""
    import optuna

    import aspk
    from aspk.testing import FormulaEvaluator

    evaluator = FormulaEvaluator(tiny)
    # Names of before and after a renaming.
    cost_of = aspk.Cost if hasattr(aspk, "Cost") else aspk.ClosedCost
    limit = aspk.CostConstraint if hasattr(aspk, "CostConstraint") else aspk.ClosedBudget
    parameters = cost_of("parameters", tiny, shape=(1, 8, 8), classes=10)

    def measured(trial: optuna.Trial) -> tuple[float, float, float]:
        config = tiny.suggest(trial)
        (metrics,) = evaluator.evaluate([config])
        trial.set_user_attr("accuracy", metrics.accuracy)
        trial.set_user_attr("energy_mj", metrics.energy_mj)
        return 1 - metrics.accuracy, metrics.energy_mj, parameters(config)

    def two(trial: optuna.Trial) -> tuple[float, float]:
        return measured(trial)[:2]

    def cost(trial: optuna.Trial) -> tuple[float, float]:
        return measured(trial)[::2]

    def seven(_: object) -> float:
        return 7.0

    def worth(trial: optuna.Trial) -> float:
        error, energy, _ = measured(trial)
        return (1 - error) / (1 + energy)

    def bounded(trial: optuna.Trial) -> tuple[float, float]:
        error, energy, count = measured(trial)
        trial.set_constraint("energy", energy / 3e-4 - 1)  # a bound on an objective
        trial.set_constraint("both", error + count / 1e5 - 0.8)  # learnt
        return error, energy

    def failing(trial: optuna.Trial) -> tuple[float, float]:
        error, energy, _ = measured(trial)
        if trial.number % 5 == 3:
            raise optuna.TrialPruned
        return error if trial.number % 7 != 5 else float("nan"), energy

    def pruned(trial: optuna.Trial) -> float:
        error, energy, _ = measured(trial)
        for step in range(3):
            trial.report(error * 3 / (step + 1) + energy, step)
            if step == 1 and error > 0.1 and trial.number > 4:
                raise optuna.TrialPruned
        return error + energy

    def branches(trial: optuna.Trial) -> tuple[float, float]:
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        x = trial.suggest_float("x", 1e-4, 1, log=True)
        own = trial.suggest_float("own", 0, 1) if kind == "b" else 0.3
        return x + (own - 0.7) ** 2 + (kind == "c"), abs(x - 0.1) + 0.1

    merit = aspk.Composite(
        parts={"accuracy": "maximize", "energy_mj": "minimize"}, of=lambda accuracy, mj: accuracy / (1 + mj)
    )
    wrong = aspk.Composite(parts={"accuracy": "maximize"}, of=lambda accuracy: 1 - accuracy / 2)
    limits = {"parameters": limit(parameters, at_most=1.6 * parameters.least)}
    return {
        "known objective": (cost, {"known": {1: parameters}}),
        "known function": (cost, {"known": {1: lambda config: 1.0 * parameters(config)}}),
        "contradicted": (cost, {"known": {1: seven}}),
        "known constraint": (two, {"known_constraints": limits}),
        "contradicted constraint": (bounded, {"known_constraints": {"energy": seven}}),
        "composite": (worth, {"composites": {0: merit}}),
        "contradicted composite": (two, {"composites": {0: wrong}}),
        "constraints": (bounded, {}),
        "bound on a part": (bounded, {"features": ("operations",)}),
        "failing": (failing, {}),
        "pruned": (pruned, {}),
        "branches": (branches, {}),
        "batches": (two, {}),
    }


def evaluations() -> dict[str, Any]:
    """Every shipped space on every engine: accuracy, energy and counts of four networks together."""
    import numpy as np
    import torch

    from aspk import DataSettings, Recipe, Supernet, SupernetEvaluator, load_space
    from aspk.data import generated_data

    # Where settings stand has changed: they stand beside Recipe.
    settings_of = sys.modules[Recipe.__module__]

    found = {}
    folder = Path(__file__).resolve().parent.parent / "search_spaces"
    for space in map(load_space, sorted(path.stem for path in folder.glob("*.toml"))):
        size = 4 * space.settings.patch_size  # 16 tokens
        images = DataSettings(name="cifar10_dvs" if "dvs" in space.name else "digits", resize=size)
        data = generated_data(images, 24, frames=int(max(space.network["time_steps"])))
        supernet = Supernet(space, shape=data.shape, classes=data.classes, seed=1)
        with torch.no_grad():  # louder, so that neurons fire throughout
            for parameter in supernet.network.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.5)
        configs = [space.reference, *map(space.decode, space.sample_choices(3, np.random.default_rng(2)))]
        for engine in ("native", "torch"):
            for statistics in ("own", "shared_time", "running"):
                settings = settings_of.EvaluationSettings(
                    images=12, calibration_images=12, batch_size=8, statistics=statistics
                )
                evaluator = SupernetEvaluator(
                    supernet, data, settings=settings, machine=settings_of.EngineSettings(name=engine)
                )
                results = evaluator.evaluate(configs)
                found[f"{space.name} {engine} {statistics}"] = [
                    [
                        m.accuracy,
                        m.energy_mj,
                        m.spikes,
                        _digest(repr([sorted(vars(one).items()) for one in m.layers])),
                    ]
                    for m in results
                ]
    return found


def training() -> dict[str, Any]:
    """A supernet on the digits, killed after its first saved state and resumed: a digest of its weights."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from aspk import Recipe, load_data, load_space, train_supernet\n"
        "recipe = Recipe(updates=24, batch_size=32, amp=False, checkpoint_every=4)\n"
        "space, data, folder = load_space('tiny'), load_data('digits'), Path(sys.argv[1])\n"
        "train_supernet(space, data, recipe, folder=folder, progress=False)"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-c", script, name]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 240
        while process.poll() is None and not (folder / "training.pt").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("no state was saved")
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = not (folder / "supernet.safetensors").exists()
        subprocess.run(command, check=True)
        return {
            "killed in the middle": killed,
            "weights": hashlib.sha256((folder / "supernet.safetensors").read_bytes()).hexdigest(),
        }


def bill() -> dict[str, Any]:
    """The energy account of the reference network of the smallest space, under every preset."""
    from aspk.energy import PRESETS

    models = [argument for name in PRESETS for argument in ("--model", name)]
    command = ["energy", "--space", "tiny", "--reference", "--random-weights", "--json", "-", *models]
    done = subprocess.run(
        [sys.executable, "-m", "aspk", *command], check=True, capture_output=True, text=True
    )
    return {"account": json.loads(done.stdout)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "searches": searches,
    "informed": informed_searches,
    "evaluations": evaluations,
    "training": training,
    "bill": bill,
}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _run(checkout: Path, part: str) -> dict[str, Any]:
    """Run one part in a checkout, with this very file, so that both run the same list."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        source = Path(__file__).read_text(encoding="utf-8")
        copy = checkout / "benchmarks" / "_unchanged_copy.py"
        copy.write_text(source, encoding="utf-8")
        try:
            subprocess.run(
                [checkout / ".venv/bin/python", copy, "--part", part, "--output", output],
                check=True,
                cwd=checkout,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            )
        finally:
            copy.unlink()
        return dict(json.loads(output.read_text(encoding="utf-8")))


def main() -> int:
    """Compare two checkouts; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, help="the old and the new one")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        options.output.write_text(json.dumps(PARTS[options.part]()), encoding="utf-8")
        return 0
    if len(options.checkouts) != 2:
        parser.error("give two checkouts")
    different = 0
    for part in options.only or PARTS:
        old, new = (_run(checkout.resolve(), part) for checkout in options.checkouts)
        differing = [name for name, result in old.items() if result != new.get(name)]  # others are new
        different += len(differing)
        print(f"{part}: {len(old) - len(differing)} of {len(old)} the same", *differing[:5], flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
