"""The content of one report, gathered once for all its parts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aspk.energy import PAPER, EnergyModel
from aspk.errors import EnergyModelError
from aspk.report.measures import EnergyUnit, Measure, energy_unit_of, measures
from aspk.report.selection import Pick, Selection
from aspk.report.summary import Row, StudySummary
from aspk.report.trained import Trained
from aspk.surrogate.importance import Importances, importances
from aspk.trials.attributes import mapping_in


@dataclass(frozen=True, kw_only=True)
class Content:
    """One report.

    Attributes:
        summary: the study.
        summaries: the study and those with which it is compared.
        selection: the named picks.
        unit: of every energy on the page.
        measures: objectives first, then what else is known about networks.
        networks: those shown layer by layer, the chosen one first, with the rules that picked each.
        trained: stand-alone trainings of networks.
        importances: importance of the genes, by objective or metric.
        account: the study's energy account.
        command: the arguments by which a command names the study, such as ``digits --sampler nsga2``.
    """

    summary: StudySummary
    summaries: Sequence[StudySummary]
    selection: Selection
    unit: EnergyUnit
    measures: tuple[Measure, ...]
    networks: Mapping[int, tuple[str, Row]]
    trained: tuple[Trained, ...]
    importances: Mapping[str, Importances]
    account: EnergyModel
    command: str

    @property
    def single(self) -> bool:
        """Whether there is one objective and thus no front."""
        return len(self.summary.objectives) == 1

    @property
    def picks(self) -> dict[str, Pick]:
        """The named picks; with one objective there is no knee."""
        picks = self.selection.picks
        return {name: pick for name, pick in picks.items() if not (self.single and name == "knee")}

    def energy(self, mj: float | None) -> str:
        """An energy in the page's unit."""
        return "–" if mj is None else f"{mj * self.unit.per_mj:.3g} {self.unit.name}"

    def export(self, trial: int) -> str:
        """The command that exports a trial's network."""
        return f"aspk export {self.command} --trial {trial}"


def gather(
    summary: StudySummary,
    others: Sequence[StudySummary],
    selection: Selection,
    networks: Mapping[int, tuple[str, Row]],
    *,
    trained: tuple[Trained, ...],
    command: str | None,
) -> Content:
    """Gather everything that a report shows."""
    unit = energy_unit_of(summary)
    shown = measures(summary, unit)
    wanted = [
        *shown[: len(summary.objectives)],
        *(one for one in shown if one.name in ("accuracy", "energy")),
    ]
    return Content(
        summary=summary,
        summaries=(summary, *others),
        selection=selection,
        unit=unit,
        measures=shown,
        networks=networks,
        trained=_own(summary, trained),
        importances=_importances(summary, {one.name: one for one in wanted}),
        account=account_of(summary),
        command=command or shlex.quote(summary.name),
    )


def _own(summary: StudySummary, trained: Sequence[Trained]) -> tuple[Trained, ...]:
    """The trainings whose network is still in the study: same trial and accuracy with inherited weights.

    Earlier versions recorded, for networks of level two, the accuracy of their first training.
    """
    known = {
        row.number: (row.metrics.accuracy, *(row.inherited or ())[:1])
        for row in summary.trials
        if row.metrics
    }
    return tuple(one for one in trained if one.inherited in known.get(one.trial, ()))


def account_of(summary: StudySummary) -> EnergyModel:
    """The study's energy account; the default where it names none or an unreadable one."""
    held = mapping_in(summary.context, "energy")
    try:
        return EnergyModel(**held) if held else PAPER
    except (EnergyModelError, TypeError):
        return PAPER


def _importances(summary: StudySummary, wanted: Mapping[str, Measure]) -> dict[str, Importances]:
    found: dict[str, Importances] = {}
    for name, measure in wanted.items():
        pairs = [(row.parameters, measure.of(row)) for row in summary.trials]
        known = [(parameters, value) for parameters, value in pairs if value is not None]
        one = importances([parameters for parameters, _ in known], [value for _, value in known])
        if one is not None:
            found[name] = one
    return found
