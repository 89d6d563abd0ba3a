"""Several studies on one page: their fronts, how fast they got there, and each study's picks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aspk.report.figures import SVG_INK, best_so_far_figure, fronts_figure, hypervolume_figure
from aspk.report.measures import EnergyUnit, energy_unit_of, measures
from aspk.report.page.data import study_curves
from aspk.report.page.document import chart, document, section, table, text
from aspk.report.page.learned import comparison_tables
from aspk.report.selection import MARGIN, select
from aspk.report.summary import StudySummary
from aspk.report.tables import number, titles
from aspk.util.files import write_atomically
from aspk.util.text import printable

_LISTS = ("trials", "genes", "picks", "front", "trained", "inherited", "layers")  # empty on this page


def write_comparison(summaries: Sequence[StudySummary], path: Path, *, margin: float = MARGIN) -> None:
    """Write a page that shows several studies side by side.

    Args:
        summaries: the studies; figures show those with the same objectives as the first.
        path: of the page.
        margin: accuracy that ``cheapest`` may give up; 0.01 is one point.

    Raises:
        OSError: the page cannot be written.
    """
    unit = energy_unit_of(summaries[0])
    alike = [one for one in summaries if one.objectives == summaries[0].objectives]
    body = [
        f"<header><h1>{text(' · '.join(dict.fromkeys(one.name for one in summaries)))}</h1></header>\n",
        section("Which networks?", "which", _picks(summaries, unit, margin), *_figures(alike, unit)),
        section("How soon?", "learned", *_progress(alike, unit), *comparison_tables(summaries)),
    ]
    write_atomically(path, document("studies side by side", body, _data(alike, unit)))


def _single(summaries: Sequence[StudySummary]) -> bool:
    return len(summaries[0].objectives) == 1


def _figures(summaries: Sequence[StudySummary], unit: EnergyUnit) -> list[str]:
    if _single(summaries):
        return []
    return [chart("fronts", fronts_figure(summaries, SVG_INK, unit=unit), "Fronts of the studies")]


def _progress(summaries: Sequence[StudySummary], unit: EnergyUnit) -> list[str]:
    if _single(summaries):
        figure = best_so_far_figure(summaries, SVG_INK, unit=unit)
        return [chart("progress", figure, "Best value so far")]
    return [chart("progress", hypervolume_figure(summaries, SVG_INK), "Hypervolume over evaluations")]


def _picks(summaries: Sequence[StudySummary], unit: EnergyUnit, margin: float) -> str:
    """Every study's pick under every rule."""
    rows = []
    for title, one in zip(titles(summaries), summaries, strict=True):
        for pick in select(one, margin=margin).picks.values():
            error = "" if pick.standard_error is None else f" ± {pick.standard_error:.4f}"
            energy = None if pick.energy_mj is None else pick.energy_mj * unit.per_mj
            rows.append(
                [
                    text(title),
                    pick.name,
                    str(pick.row.number),
                    f"{number(pick.accuracy)}{error}",
                    number(energy),
                    number(pick.row.f_aeb),
                ]
            )
    header = ["study", "take", "trial", "accuracy", f"energy, {unit.name}", "F_AEB"]
    return table(header, rows) if rows else "<p>No study has a front.</p>\n"


def _data(summaries: Sequence[StudySummary], unit: EnergyUnit) -> dict[str, Any]:
    single = _single(summaries)
    shown = measures(summaries[0], unit)
    empty: dict[str, Any] = {name: [] for name in _LISTS}
    axes = [printable(shown[0].title)] * 2 if single else [printable(shown[i].title) for i in (1, 0)]
    minimised = not single and summaries[0].directions[1] == "minimize"
    return empty | {
        "single": single,
        "objectives": len(summaries[0].objectives),
        "measures": [{"name": "", "title": printable(shown[0].title), "better": "", "accuracy": False}],
        "bounds": {},
        "importances": {},
        "unit": unit.name,
        "curves": study_curves(summaries, shown[0].per if single else 1.0),
        "axes": axes,
        "step": "end" if minimised else "start",
        "fronts": [] if single else fronts_points(summaries, unit),
    }


def fronts_points(summaries: Sequence[StudySummary], unit: EnergyUnit) -> list[dict[str, Any]]:
    """Second and first objective and trial of each front's networks, sorted by the second objective."""
    found = []
    for title, one in zip(titles(summaries), summaries, strict=True):
        first, second = measures(one, unit)[:2]
        points = sorted(
            [row.values[1] * second.per, row.values[0] * first.per, row.number] for row in one.front
        )
        found.append({"name": printable(title), "points": points})
    return found
