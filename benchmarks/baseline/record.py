"""Everything that a comparison found, as plain JSON values: the write-up is made from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aspk.energy import STRICT, energy_mj
from aspk.engines.device import hardware
from aspk.report.summary import StudySummary
from aspk.space.file import load_space
from aspk.standalone.retraining import Retrained
from aspk.study.record import versions
from aspk.study.storage import verdict_of
from aspk.util.records import read_json
from benchmarks.baseline.plan import Comparison, Search, Training
from benchmarks.baseline.selection import Chosen
from benchmarks.baseline.statistics import differences, ratios

TIMES = "times.json"


def record(
    plan: Comparison,
    searched: Sequence[tuple[Search, StudySummary]],
    chosen: Sequence[Chosen],
    missing: Sequence[str],
    inherited: Mapping[str, Mapping[str, float]],
    trained: Sequence[tuple[Training, Sequence[Retrained]]],
    *,
    device: str,
) -> dict[str, Any]:
    """The content of ``comparison.json``.

    Args:
        plan: what was compared; its study names the statistics that were taken.
        searched: the searches and their outcomes.
        chosen: the networks that were trained.
        missing: roles for which the searches found none.
        inherited: what each network reached on ``test`` untrained, by name.
        trained: the recipes, and what each network reached with them.
        device: where it ran.
    """
    spec = plan.study
    first = f"{plan.searches[0].name}-near-reference"
    return {
        "name": plan.name,
        "margin": plan.margin,
        "space": load_space(spec.space).name,
        "data": spec.data.to_json(),
        "evaluation": asdict(spec.evaluation),
        "energy": spec.energy.name,
        "seed": spec.seed,
        "verdict": verdict_of(spec, spec.evaluation.statistics),
        "hardware": hardware(device),
        "versions": versions(),
        "times": read_times(plan.folder),
        "searches": [_search(search, summary) for search, summary in searched],
        "missing": list(missing),
        "networks": [_network(item, inherited[item.candidate.name]) for item in chosen],
        "trainings": [_training(training, results, chosen, first) for training, results in trained],
    }


def read_times(folder: Path) -> dict[str, list[float]]:
    """Seconds of wall time and of processor time that each piece of the work took so far."""
    return read_json(folder / TIMES) or {}


def _search(search: Search, summary: StudySummary) -> dict[str, Any]:
    front = [(row.metrics.accuracy, row.metrics.energy_mj) for row in summary.front if row.metrics]
    return {
        "name": search.name,
        "title": search.title,
        "objectives": list(search.spec.objectives),
        "faeb": asdict(search.spec.faeb) if "f_aeb" in search.spec.objectives else None,
        "sampler": search.spec.sampler,
        "evaluations": summary.evaluations,
        "fixed": list(search.fixed),
        "hypervolume": summary.hypervolume if summary.fixed_anchors else None,
        "front": front,
    }


def _network(chosen: Chosen, inherited: Mapping[str, float]) -> dict[str, Any]:
    predicted = chosen.candidate.predicted
    return {
        "name": chosen.candidate.name,
        "roles": list(chosen.roles),
        "config": chosen.candidate.config.to_json(),
        "parameters": predicted.parameters,
        "operations": predicted.operations,
        "search": predicted.accuracy,
        "search_mj": predicted.energy_mj,
        "search_strict_mj": energy_mj(predicted.layers, STRICT),
        **inherited,
    }


def _training(
    training: Training, results: Sequence[Retrained], chosen: Sequence[Chosen], first: str
) -> dict[str, Any]:
    """One recipe's results by network, and each network against the reference and the first search's."""
    values: dict[str, dict[str, list[float]]] = {}
    for result in results:
        own = values.setdefault(result.name, {})
        for key in ("search", "test", "energy_mj", "strict_mj"):
            own.setdefault(key, []).append(getattr(result, key))
    names = {role: item.candidate.name for item in chosen for role in item.roles}
    rivals = [
        name for role, name in names.items() if role.endswith("-near-reference") and name != names.get(first)
    ]
    return {
        "name": training.name,
        "title": training.title,
        "start": "scratch" if training.scratch else "inherited",
        "seeds": training.seeds,
        "recipe": asdict(training.spec.retrain),
        "seconds": [
            sum(result.seconds for result in results),
            sum(result.processor_seconds for result in results),
        ],
        "networks": values,
        "against": {
            "reference": _against(values, "reference", list(values)),
            **({first: _against(values, names[first], rivals)} if first in names else {}),
        },
    }


def _against(
    values: Mapping[str, Mapping[str, list[float]]], control: str, names: Sequence[str]
) -> dict[str, Any]:
    """Accuracy differences and energy ratios of some networks to one, with simultaneous intervals."""
    others = [name for name in dict.fromkeys(names) if name != control and name in values]
    if control not in values:
        return {}

    def column(key: str) -> dict[str, list[float]]:
        return {name: values[name][key] for name in others}

    accuracy = differences(values[control]["test"], column("test"))
    energy = ratios(values[control]["energy_mj"], column("energy_mj"))
    strict = ratios(values[control]["strict_mj"], column("strict_mj"))
    return {
        name: {"accuracy": accuracy[name], "energy": energy[name], "strict": strict[name]} for name in others
    }
