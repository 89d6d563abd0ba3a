"""The numbers known about a network, each in the unit that a page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from aspk.objectives import Direction
from aspk.report.summary import Row, StudySummary


class EnergyUnit(NamedTuple):
    """The unit of every energy on one page.

    Attributes:
        name: ``mJ``, ``µJ`` or ``nJ``.
        per_mj: how many of these units make one mJ.
    """

    name: str
    per_mj: float


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of each network.

    Attributes:
        name: of the objective, or of the metric.
        title: the name with its unit.
        better: ``maximize`` or ``minimize``; empty where neither is better.
        of: returns the number, None where a network has none.
        per: how many of the shown unit make one unit of the study.
        is_accuracy: whether it is the accuracy, which has a standard error.
        is_energy: whether it is an energy.
    """

    name: str
    title: str
    better: Direction | str
    of: Callable[[Row], float | None]
    per: float = 1.0
    is_accuracy: bool = False
    is_energy: bool = False


def energy_unit_of(summary: StudySummary) -> EnergyUnit:
    """The unit in which the largest energy, of the front or the reference, is between 1 and 1,000."""
    rows = summary.front or summary.trials
    found = [row.metrics.energy_mj for row in rows if row.metrics]
    if summary.reference:
        found.append(summary.reference.energy_mj)
    most = max(found, default=1.0)
    if most >= 1:
        return EnergyUnit("mJ", 1.0)
    return EnergyUnit("µJ", 1e3) if most >= 1e-3 else EnergyUnit("nJ", 1e6)


def has_energies(summary: StudySummary) -> bool:
    """Whether networks carry energies, so that an objective of that name is in mJ; in a foreign study not."""
    return summary.reference is not None or any(row.metrics is not None for row in summary.trials)


def measures(summary: StudySummary, unit: EnergyUnit) -> tuple[Measure, ...]:
    """The study's objectives in order, then what else is known about its networks."""
    known = unit if has_energies(summary) else None
    found = [
        _measure(name, known, direction, partial(_objective, index))
        for index, (name, direction) in enumerate(zip(summary.objectives, summary.directions, strict=True))
    ]
    others: list[tuple[str, Direction | str, Callable[[Row], float | None]]] = [
        ("accuracy", "maximize", lambda row: row.metrics.accuracy if row.metrics else None),
        ("energy", "minimize", lambda row: row.metrics.energy_mj if row.metrics else None),
        ("test accuracy", "maximize", _test_accuracy),
        ("f_aeb", "maximize", lambda row: row.f_aeb),
        ("strict energy", "minimize", lambda row: row.strict_mj),
        ("parameters", "minimize", lambda row: float(row.metrics.parameters) if row.metrics else None),
        ("operations", "minimize", lambda row: float(row.metrics.operations) if row.metrics else None),
        ("firing rate", "", lambda row: row.metrics.firing_rate if row.metrics else None),
    ]
    for name, better, of in others:
        if name not in summary.objectives and any(of(row) is not None for row in summary.trials):
            found.append(_measure(name, known, better, of))
    return tuple(found)


def _test_accuracy(row: Row) -> float | None:
    """Accuracy on ``test``, which 'aspk refine' measures once training has ended."""
    return row.metrics.extras.get("test_accuracy") if row.metrics else None


def _objective(index: int, row: Row) -> float | None:
    return row.values[index]


def _measure(
    name: str, unit: EnergyUnit | None, better: Direction | str, of: Callable[[Row], float | None]
) -> Measure:
    energy = unit is not None and name in ("energy", "strict energy")
    title = f"{name} [{unit.name}]" if unit and energy else {"f_aeb": "F_AEB"}.get(name, name)
    per = unit.per_mj if unit and energy else 1.0

    def shown(row: Row) -> float | None:
        value = of(row)
        return None if value is None else value * per

    return Measure(
        name=name,
        title=title,
        better=better,
        of=shown,
        per=per,
        is_accuracy=name == "accuracy",
        is_energy=energy,
    )
