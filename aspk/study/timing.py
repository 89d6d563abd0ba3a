"""How long a study's training will take on this machine, from a few updates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aspk.data import DataSet
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.training import SupernetRun

SHARE_OF_SPEED = 0.9  # that each of several devices is assumed to keep
_TIMED = 2  # updates of each size, after one that warms up
_LONGEST_S = 1.0  # about as long as the larger steps may take


@dataclass(frozen=True, kw_only=True)
class TrainingTime:
    """What training is expected to take.

    Attributes:
        update_s: seconds of an update at the recipe's batch size, as a mean over its networks.
        sizes: images of the steps that were timed.
        steps: number of them.
    """

    update_s: float
    sizes: tuple[int, ...]
    steps: int

    def hours(self, updates: int, devices: int = 1) -> float:
        """Hours of training, on several such devices if each keeps ``SHARE_OF_SPEED`` of its speed."""
        alone = updates * self.update_s / 3600
        return alone if devices == 1 else alone / (devices * SHARE_OF_SPEED)


def training_time(
    space: SearchSpace,
    recipe: Recipe,
    data_of: Callable[[int], DataSet],
    operations: Callable[[SubnetConfig], int],
    expected_operations: float,
    *,
    batch: int,
    seed: int,
) -> TrainingTime:
    """Time a few updates, small ones and larger ones, and scale them to the recipe's.

    A step is assumed to have a fixed cost and the same cost for each image; updates that train other networks
    are assumed to cost in proportion to their operations.

    Args:
        space: the search space.
        recipe: how training will be done.
        data_of: makes a given number of generated images, on the device of the training.
        operations: of one image in a network in training.
        expected_operations: of one image in an update, as a mean over its networks.
        batch: images of the smaller steps.
        seed: of the networks.
    """
    piece = recipe.batch_size // recipe.accumulate
    small, trained = _seconds(space, recipe, data_of(batch), batch, seed)
    larger = min(piece, max(2 * batch, int(batch * _LONGEST_S / small)))
    sizes: tuple[int, ...] = (batch,)
    per_step = small
    if larger > batch:
        sizes = (batch, larger)
        large, _ = _seconds(space, recipe, data_of(larger), larger, seed)
        slope = (large - small) / (larger - batch)
        per_step = large + slope * (piece - larger) if slope > 0 else large * piece / larger
    share = expected_operations / float(np.mean([sum(map(operations, configs)) for configs in trained]))
    return TrainingTime(update_s=per_step * recipe.accumulate * share, sizes=sizes, steps=_TIMED * len(sizes))


def _seconds(
    space: SearchSpace, recipe: Recipe, data: DataSet, batch: int, seed: int
) -> tuple[float, list[list[SubnetConfig]]]:
    """Mean seconds of some updates, and the networks of each."""
    run = SupernetRun(space, data, replace(recipe, batch_size=batch, accumulate=1), seed)
    run.step()
    started = time.perf_counter()
    trained = []
    for _ in range(_TIMED):
        trained.append(run.networks())
        run.step()
    return (time.perf_counter() - started) / _TIMED, trained
