"""The genes of a study's networks as ranks among their choices, for figures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aspk.errors import AspkError
from aspk.report.summary import Row, StudySummary
from aspk.space.file import space_from_dict


@dataclass(frozen=True, kw_only=True)
class Gene:
    """One parameter of the search.

    Attributes:
        name: its name in Optuna.
        choices: its values in order: the space's, or those found in the trials.
    """

    name: str
    choices: tuple[object, ...]

    def rank(self, row: Row) -> int | None:
        """Index of a trial's value among the choices, None where the trial has no such value."""
        if self.name not in row.parameters:  # None may be a choice
            return None
        value = row.parameters[self.name]
        return self.choices.index(value) if value in self.choices else None


def genes_of(summary: StudySummary) -> tuple[Gene, ...]:
    """The parameters with more than one value among the trials, in the order of the space."""
    known: dict[str, tuple[object, ...]] = {}
    with suppress(AspkError):  # a foreign study
        known = {gene.parameter: gene.choices for gene in space_from_dict(summary.space).genes}
    found: dict[str, list[object]] = {}
    for row in summary.trials:
        for name, value in row.parameters.items():
            found.setdefault(name, []).append(value)
    seen = {name: _different(values) for name, values in found.items()}
    names = [*(name for name in known if name in seen), *(name for name in seen if name not in known)]
    return tuple(
        Gene(name=name, choices=known.get(name) or tuple(sorted(seen[name], key=_order)))
        for name in names
        if len(seen[name]) > 1
    )


def _different(values: Sequence[object]) -> list[object]:
    try:
        return list(set(values))
    except TypeError:  # lists, say, which Optuna accepts as choices of a study in memory
        return [value for place, value in enumerate(values) if value not in values[:place]]


def _order(value: object) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if isinstance(value, int | float) else 0.0, str(value))


def along_front(summary: StudySummary) -> Sequence[Row]:
    """The front from the cheapest to the most expensive network, or by the last objective."""
    return sorted(summary.front, key=lambda row: row.metrics.energy_mj if row.metrics else row.values[-1])
