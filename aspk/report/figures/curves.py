"""Progress of searches over their evaluations."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from aspk.report.figures.drawing import INK, LINES, label, style_axes, style_legend
from aspk.report.measures import EnergyUnit, energy_unit_of, measures
from aspk.report.summary import StudySummary
from aspk.report.tables import titles


def hypervolume_figure(summaries: Sequence[StudySummary], ink: str = INK) -> Figure:
    """Hypervolume over evaluations, one line for each study."""
    return _curves(summaries, [list(one.curve) for one in summaries], "hypervolume", ink)


def best_so_far_figure(
    summaries: Sequence[StudySummary], ink: str = INK, *, unit: EnergyUnit | None = None
) -> Figure:
    """The best feasible value over evaluations, for studies with one objective."""
    first = summaries[0]
    measure = measures(first, unit or energy_unit_of(first))[0]
    curves = [[value * measure.per for value in best_so_far(one)] for one in summaries]
    return _curves(summaries, curves, f"best {measure.title} so far", ink)


def best_so_far(summary: StudySummary) -> list[float]:
    """The best feasible value of the only objective after each trial, starting at the first feasible one."""
    better = max if summary.directions[0] == "maximize" else min
    found: list[float] = []
    for row in summary.trials:
        if row.feasible:
            found.append(better(found[-1], row.values[0]) if found else row.values[0])
        elif found:
            found.append(found[-1])
    return found


def _curves(summaries: Sequence[StudySummary], curves: Sequence[Sequence[float]], y: str, ink: str) -> Figure:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, ink)
    ax.set_xlabel("evaluations")
    ax.set_ylabel(label(y))
    for index, (title, curve) in enumerate(zip(titles(summaries), curves, strict=True)):
        if curve:
            ax.step(
                range(1, len(curve) + 1),
                curve,
                where="post",
                color=LINES[index % len(LINES)],
                linewidth=1.8 if index == 0 else 1.3,
                label=label(title),
            )
    if len(summaries) > 1 and ax.lines:
        style_legend(ax.legend(loc="lower right", frameon=False), ink)
    return figure
