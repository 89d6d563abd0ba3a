"""The core-hours that a comparison is expected to take on this machine, from a few timed steps."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.nn import functional

from aspk.data import DataSet, generated_data
from aspk.engines.device import half_precision
from aspk.families.layers import initialise
from aspk.families.registry import network_of
from aspk.space.genes import SubnetConfig
from aspk.training import SupernetRun
from benchmarks.comparison.plan import MOST, Family, Plan

_RANDOM = 10  # random networks, whose mean stands for what searches train
_STEPS = 3  # of each network, after one that warms up
_EVALUATION = 1 / 3  # of a training step: what an image costs without the backward pass


def planned_hours(plan: Plan) -> dict[str, float]:
    """Core-hours by stage, processor time measured on generated images with one thread.

    Searches are assumed to train networks that cost the mean of random ones and the hand-made one, and
    evaluations to cost a third of a training step for each image. The search of the supernets is left out.
    """
    torch.set_num_threads(1)
    hand_made = {name: training_hours(own, config) for name, (own, config) in plan.hand_made.items()}
    found: dict[str, float] = {}
    sums = sum(hand_made.values())
    found["tuning"] = sums * len(plan.learning_rates) * len(plan.tuning_seeds)
    found["enough"] = 3 * sums * len(plan.enough_seeds)
    found["level one"] = sum(supernet_hours(family) for family in plan.families)
    typical = {family.name: _typical(family, plan) for family in plan.families}
    found["refine"] = sum(family.trainings * typical[family.name] for family in plan.families)
    found["random, as much"] = found["level one"] + found["refine"]
    others = MOST - len(hand_made)
    found["final"] = (sums + others * float(np.mean(list(typical.values())))) * len(plan.final_seeds)
    return found


def _typical(family: Family, plan: Plan) -> float:
    rng = np.random.default_rng(0)
    random = [family.space.decode(x) for x in family.space.sample_choices(_RANDOM, rng)]
    own = [config for name, (of, config) in plan.hand_made.items() if of is family][:1]
    return float(
        np.mean(
            [np.mean([training_hours(family, config) for config in random]), training_hours(family, own[0])]
        )
    )


def training_hours(family: Family, config: SubnetConfig) -> float:
    """Core-hours of one training of a network, evaluations included."""
    recipe, data = family.spec.retrain, _data(family)
    network = network_of(config, family.space.settings, shape=data.shape, classes=data.classes).train()
    initialise(network, 0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    half = recipe.amp is True or (recipe.amp == "auto" and bool(half_precision(torch.device("cpu"))))
    images = data.train.images[: recipe.batch_size]
    labels = data.train.labels[: recipe.batch_size]
    if images.dim() == 5:  # sequences: [B, T, C, H, W] to the T steps of the network, time first
        images = images[:, : config.time_steps].transpose(0, 1).contiguous()
    seconds = []
    for _ in range(_STEPS + 1):
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    step = float(np.median(seconds[1:]))
    evaluated = sum(_sizes(family)) / recipe.batch_size * _EVALUATION
    return step * (recipe.updates + evaluated) / 3600


def supernet_hours(family: Family) -> float:
    """Core-hours of the supernet's training."""
    recipe = family.spec.train
    run = SupernetRun(family.space, _data(family), recipe, 0)
    seconds = []
    for _ in range(_RANDOM):
        started = time.process_time()
        run.step()
        seconds.append(time.process_time() - started)
    return float(np.mean(seconds[1:])) * recipe.updates / 3600


def _data(family: Family) -> DataSet:
    images = max(family.spec.retrain.batch_size, family.spec.train.batch_size)
    return generated_data(family.spec.data, images, frames=family.space.max_time_steps)


def _sizes(family: Family) -> tuple[int, int]:
    """Images of ``search`` and of ``test`` that a training is measured on."""
    search = family.spec.data.search
    return int(search) if search >= 1 else 1000, 10_000


def hours_text(plan: Plan) -> str:
    """The table of planned core-hours."""
    found = planned_hours(plan)
    lines = [f"{stage:18} {hours:6.2f}" for stage, hours in found.items()]
    return "\n".join(
        ["planned core-hours", *lines, f"{'in all':18} {sum(found.values()):6.2f} of {plan.core_hours:g}"]
    )
