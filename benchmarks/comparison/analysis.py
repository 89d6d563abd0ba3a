"""Everything that a comparison found, computed from the log and the file of named networks alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from aspk.costs import Cost
from aspk.costs.known import CostName
from aspk.engines.device import hardware
from benchmarks.comparison.bench import Bench
from benchmarks.comparison.intervals import Interval, Pair, paired_differences, paired_ratios
from benchmarks.comparison.log import STAGES, by_network
from benchmarks.comparison.measures import accuracy_at, energy_at, log_hypervolume
from benchmarks.comparison.stages import final_networks, tuned

_COSTS: tuple[CostName, ...] = ("parameters", "operations")
ACCOUNTS = {"paper": "energy_mj", "strict": "strict_mj"}
_CONFIDENCE = 1 - 0.05 / 3  # of accuracy and two energies each, so that all hold together with 95 %
_CHEAPEST, _DEAREST = 1 / 300, 3.0  # ends of the energy axis, as shares of the hand-made network's energy
POINTS, SHARE, MARGIN = 0.02, 0.5, 0.01  # the goals, and what counts as the same accuracy


def analyse(bench: Bench) -> dict[str, Any]:
    """The record of a comparison, for :func:`benchmarks.comparison.write_up.write_files`."""
    plan, recipe, log = bench.plan, tuned(bench), bench.log
    first = next(iter(plan.hand_made))
    content: dict[str, Any] = {
        "name": plan.name,
        "images": plan.images,
        "machine": f"{hardware(bench.device)}; torch {torch.__version__}",
        "quick": plan.quick,
        "about": log.about,
        "recipe": recipe.to_json(),
        "first": first,
        "tuning": _tuning(bench),
        "enough": _enough(bench),
        "searches": {family.name: _searches(bench, family.name) for family in plan.families},
        "core_hours": {stage: log.core_hours(stage) for stage in _stages(bench)},
        "budget": plan.core_hours,
        "networks": {},
    }
    content["searches"]["all families"] = _searches(bench, None)
    values = {
        name: by_network(bench.log.rows("final"), name) for name in ("test", "search", *ACCOUNTS.values())
    }
    if values["test"]:
        content |= _main(bench, values, first)
    return content


def _stages(bench: Bench) -> list[str]:
    return [stage for stage in STAGES if bench.log.rows(stage)]


def _tuning(bench: Bench) -> dict[str, dict[str, float]]:
    """Mean accuracy on ``search`` by rate and hand-made network."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in bench.log.rows("tuning"):
        own = found.setdefault(f"{row['learning_rate']:g}", {})
        own.setdefault(row["network"], []).append(row["search"])
    return {rate: {name: float(np.mean(own)) for name, own in rows.items()} for rate, rows in found.items()}


def _enough(bench: Bench) -> dict[str, dict[str, float]]:
    """Mean accuracy on ``search`` by hand-made network and number of updates."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in bench.log.rows("enough"):
        own = found.setdefault(row["network"], {})
        own.setdefault(str(row["updates"]), []).append(row["search"])
    return {name: {key: float(np.mean(own)) for key, own in rows.items()} for name, rows in found.items()}


def _searches(bench: Bench, family: str | None) -> dict[str, Any]:
    """What refinement and random search found on ``search``, and what a trained front is worth: one run each.

    Hand-made networks, which a refinement trains first, are part of its cost and not of what it found.
    """
    first = next(iter(bench.plan.hand_made))
    (hand_made,) = (row for row in bench.log.rows("refine") if row["network"] == first)
    found = {}
    for stage in ("refine", "random", "front"):
        trained = [row for row in bench.log.rows(stage, family) if "search" in row]  # others are costs alone
        rows = [row for row in trained if row["network"] not in bench.plan.hand_made]
        if stage == "front" and (family is None or len(rows) < found["refine"]["networks"]):
            continue  # an ablation of single families, in order of energy: a part of it would mean nothing
        own: dict[str, Any] = {
            "networks": len(rows),
            "core_hours": bench.log.core_hours(
                *((stage,) if stage == "random" else ("level one", stage)), family=family
            ),
        }
        for account, key in ACCOUNTS.items():
            own[account] = set_values(rows, hand_made, key, classes=bench.classes)
        found[stage] = own
    return found


def set_values(
    rows: Sequence[Mapping[str, Any]], hand_made: Mapping[str, Any], key: str, *, classes: int
) -> dict[str, float | None]:
    """What a set of trainings is worth beside a hand-made network's, under one account.

    Args:
        rows: trainings: ``search`` and energies.
        hand_made: that of the hand-made network.
        key: the energy's name in them.
        classes: number of classes.

    Returns:
        ``hypervolume`` (see :func:`benchmarks.comparison.measures.log_hypervolume`), ``accuracy`` at the
        hand-made network's energy, and ``energy`` at its accuracy as a share of its energy; None for none.
    """
    accuracies, energies = [row["search"] for row in rows], [row[key] for row in rows]
    own = hand_made[key]
    box = {"chance": 1 / classes, "cheapest": _CHEAPEST * own, "dearest": _DEAREST * own}
    values = {
        "hypervolume": log_hypervolume(accuracies, energies, **box),
        "accuracy": accuracy_at(accuracies, energies, own),
        "energy": energy_at(accuracies, energies, hand_made["search"]) / own,
    }
    return {name: None if math.isnan(value) else value for name, value in values.items()}


# ---------------------------------------------------------------------- the main comparison


def _main(bench: Bench, values: Mapping[str, dict[str, list[float]]], first: str) -> dict[str, Any]:
    networks = final_networks(bench)
    hand_made = list(bench.plan.hand_made)
    # Networks whose trainings are not all done are not compared.
    whole = [name for name in networks if len(values["test"].get(name, ())) == len(bench.plan.final_seeds)]
    table = {}
    for name in whole:
        family, config, own_roles = networks[name]
        costs = {
            name: Cost(name, family.space, shape=bench.shape, classes=bench.classes)(config)
            for name in _COSTS
        }
        own = {key: rows[name] for key, rows in values.items()}
        table[name] = {"family": family.name, "roles": own_roles, "config": config.to_json(), **costs, **own}
    pairs = [
        (name, other) for name in whole if name not in hand_made for other in hand_made if other in whole
    ]
    found = {
        "accuracy": paired_differences(_of(values["test"], whole), pairs, confidence=_CONFIDENCE),
        **{
            account: paired_ratios(_of(values[key], whole), pairs, confidence=_CONFIDENCE)
            for account, key in ACCOUNTS.items()
        },
    }
    against = [
        {"network": pair[0], "against": pair[1], **{name: own[pair] for name, own in found.items()}}
        for pair in pairs
    ]
    roles = {role: name for name, (_, _, own) in networks.items() for role in own}
    return {"networks": table, "against": against, "goals": _goals(found, roles, first)}


def _of(values: Mapping[str, list[float]], names: Sequence[str]) -> dict[str, list[float]]:
    return {name: values[name] for name in names}


def _goals(
    found: Mapping[str, Mapping[Pair, Interval | None]], roles: Mapping[str, str], first: str
) -> dict[str, str]:
    """Whether the two goals are reached against the first hand-made network."""

    def judged(role: str, better: Any) -> str:  # noqa: ANN401  # a function of three intervals
        pair = (roles.get(role, ""), first)
        own = [intervals.get(pair) for intervals in found.values()]
        if any(interval is None for interval in own):
            return "no such network, or no interval"
        return verdict(*(better(place, *own) for place in (0, 1)))

    return {
        "at equal energy": judged("at-energy", more_accurate),
        "at equal accuracy": judged("at-accuracy", cheaper),
    }


def more_accurate(place: int, accuracy: Interval, paper: Interval, strict: Interval) -> bool:
    """The first goal: at least 2 points more, at no more energy under both accounts.

    Args:
        place: 0 judges by the estimates, 1 by the bounds that are against the claim.
        accuracy: difference of accuracies.
        paper: ratio of energies under the paper's account.
        strict: likewise under the strict one.
    """
    upper = 2 * place
    return accuracy[place] >= POINTS and paper[upper] <= 1 and strict[upper] <= 1


def cheaper(place: int, accuracy: Interval, paper: Interval, strict: Interval) -> bool:
    """The second goal: at most half of the energy under both accounts, less than a point less accurate."""
    upper = 2 * place
    return accuracy[place] > -MARGIN and paper[upper] <= SHARE and strict[upper] <= SHARE


def verdict(estimated: bool, shown: bool) -> str:
    """A goal in words."""
    if shown:
        return "shown"
    return "reached by the estimates, not shown by the intervals" if estimated else "not reached"
