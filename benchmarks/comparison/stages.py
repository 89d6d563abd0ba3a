"""The stages of a comparison. Each resumes where it was killed; the log says what is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from aspk.errors import StudyError
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from benchmarks.comparison.bench import Bench, Training, shared_recipe
from benchmarks.comparison.choice import choose, name_networks, named
from benchmarks.comparison.plan import Family
from benchmarks.comparison.searches import search


def run_stages(bench: Bench) -> bool:
    """Run all stages in order; False if the user interrupted.

    Raises:
        StudyError: the budget is spent, or the named networks have to be committed first.
    """
    if not tune(bench):
        return False
    recipe = tuned(bench)
    if not enough(bench, recipe):
        return False
    if not all(search(bench, family, recipe) for family in bench.plan.families):
        return False
    name_networks(bench.plan, found_networks(bench))
    return final(bench, recipe)


def run_searches(bench: Bench, name: str) -> bool:
    """Run the searches of one family only, beside a process for another; False if the user interrupted.

    Raises:
        StudyError: there is no such family, the budget is spent, or the recipe is not settled yet.
    """
    family = bench.family(name)
    if bench.missing("tuning", tunings(bench)) or bench.missing("enough", doublings(bench, tuned(bench))):
        raise StudyError(
            f"the searches of {name} need a recipe: expected all trainings of hand-made networks in "
            f"{bench.plan.records}; run the command without --family until they are there"
        )
    return search(bench, family, tuned(bench))


# ---------------------------------------------------------------------- the recipe, on hand-made networks


def tune(bench: Bench) -> bool:
    """Train the hand-made networks at each learning rate."""
    return bench.train("tuning", tunings(bench))


def tunings(bench: Bench) -> list[Training]:
    """The hand-made networks at each learning rate."""
    plan, recipe = bench.plan, shared_recipe(bench.plan)
    return [
        Training(own.name, name, bench.job("tuning", own, config, replace(recipe, learning_rate=rate), seed))
        for rate in plan.learning_rates
        for name, (own, config) in plan.hand_made.items()
        for seed in plan.tuning_seeds
    ]


def tuned(bench: Bench) -> Recipe:
    """The recipe with the rate of the best mean accuracy on ``search`` over the hand-made networks."""
    accuracies: dict[float, list[float]] = {}
    for row in bench.log.rows("tuning"):
        accuracies.setdefault(row["learning_rate"], []).append(row["search"])
    best = max(accuracies, key=lambda rate: float(np.mean(accuracies[rate])))
    return replace(shared_recipe(bench.plan), learning_rate=best)


def enough(bench: Bench, recipe: Recipe) -> bool:
    """Train the hand-made networks with the recipe's updates and with twice as many."""
    return bench.train("enough", doublings(bench, recipe))


def doublings(bench: Bench, recipe: Recipe) -> list[Training]:
    """The hand-made networks with the recipe's updates and with twice as many."""
    plan = bench.plan
    return [
        Training(own.name, name, bench.job("enough", own, config, longer, seed))
        for longer in (recipe, replace(recipe, updates=2 * recipe.updates))
        for name, (own, config) in plan.hand_made.items()
        for seed in plan.enough_seeds
    ]


# ---------------------------------------------------------------------- the main comparison


def found_networks(bench: Bench) -> dict[str, Mapping[str, Any]]:
    """The found networks by what they are chosen as, among all families' trainings."""
    hand_made = set(bench.plan.hand_made)
    first = next(iter(bench.plan.hand_made))
    rows = bench.log.rows("refine")
    (reference,) = (row for row in rows if row["network"] == first)
    candidates = [row for row in rows if row["network"] not in hand_made]
    return choose(candidates, reference, classes=bench.classes)


def final_networks(bench: Bench) -> dict[str, tuple[Family, SubnetConfig, list[str]]]:
    """Hand-made and named networks by name; one that was chosen twice has both roles, and is there once.

    Raises:
        StudyError: the names have not been committed.
    """
    families = {family.name: family for family in bench.plan.families}
    chosen: dict[str, tuple[Family, SubnetConfig, list[str]]] = {
        name: (own, config, [name]) for name, (own, config) in bench.plan.hand_made.items()
    }
    for role, row in named(bench.plan).items():
        family, config = families[row["family"]], SubnetConfig.from_json(row["config"])
        same = [item for item in chosen.values() if item[0] is family and item[1] == config]
        if same:
            same[0][2].append(role)
        else:
            chosen[f"found {role}"] = (family, config, [role])
    return chosen


def final(bench: Bench, recipe: Recipe) -> bool:
    """Train the networks of the main comparison with fresh seeds; this reads ``test``."""
    networks = final_networks(bench)
    return bench.train(
        "final",
        [
            Training(family.name, name, bench.job("final", family, config, recipe, seed, test=True))
            for seed in bench.plan.final_seeds
            for name, (family, config, _) in networks.items()
        ],
    )
