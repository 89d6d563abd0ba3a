"""Trainings for test_distributed.py: started by python they run in one process, by torchrun in several."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path

import torch
from spaces import TINY, shipped

from aspk.data import DataSet, Split, load_data
from aspk.spec.settings import DataSettings, Recipe
from aspk.training import SupernetRun
from aspk.training.checkpoint import save_tensors
from aspk.training.processes import Processes, processes

RECIPES = {
    "single": Recipe(updates=20, batch_size=16, amp=False, prefix_loss=True),
    "sandwich": Recipe(updates=6, batch_size=16, amp=False, paths="sandwich", decayed="weights", ema=0.5),
}
# Families with normalisations that no neurons follow.
OTHER_FAMILIES = {"membrane": shipped("membrane_tiny"), "hierarchical": shipped("hierarchical_tiny")}
SEEDS, UPDATES = (0, 1, 2, 3), 120  # of the loss curves in float32


def double(data: DataSet) -> DataSet:
    """The data set in float64, where rounding moves hardly any spike."""
    splits = {
        name: Split(getattr(data, name).images.double(), getattr(data, name).labels)
        for name in ("train", "search", "test")
    }
    return dataclasses.replace(data, **splits)


def main(folder: Path, together: Processes) -> None:
    torch.set_default_dtype(torch.float64)
    data = double(load_data(DataSettings(name="digits")))
    few = Recipe(updates=4, batch_size=16, amp=False)
    plans = {name: (TINY, recipe) for name, recipe in RECIPES.items()}
    plans |= {name: (space, few) for name, space in OTHER_FAMILIES.items()}
    for name, (space, recipe) in plans.items():
        run = SupernetRun(space, data, recipe, 0, together)
        losses = [run.step() for _ in range(recipe.updates)]
        file = folder / f"{name}-{together.count}-{together.rank}.safetensors"
        weights = {key: value.double() for key, value in run.evaluated.state_dict().items()}
        save_tensors(file, {**weights, "losses": torch.tensor(losses)}, {})
    torch.set_default_dtype(torch.float32)
    data = load_data(DataSettings(name="digits"))
    for seed in SEEDS if together.count == 1 else SEEDS[:1]:
        run = SupernetRun(TINY, data, RECIPES["single"], seed, together)
        curve = torch.tensor([run.step() for _ in range(UPDATES)])
        save_tensors(
            folder / f"float32-{seed}-{together.count}-{together.rank}.safetensors", {"losses": curve}, {}
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with processes(torch.device("cpu")) as them:
        main(Path(sys.argv[1]), them)
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    (Path(sys.argv[1]) / f"threads-{them.count}-{them.rank}.txt").write_text("\n".join(names))
