"""All trials in objective space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aspk.report.figures.drawing import (
    BAD,
    FAR,
    FRONT,
    INK,
    LINES,
    PALE,
    REFERENCE,
    label,
    log_axis,
    style_axes,
    style_legend,
    wide,
)
from aspk.report.measures import EnergyUnit, Measure, energy_unit_of, measures
from aspk.report.selection import Pick, Selection, select, standard_error
from aspk.report.summary import Row, StudySummary
from aspk.report.tables import titles
from aspk.report.trained import Trained, error_of_mean, mean
from aspk.trials.attributes import mapping_in
from aspk.util.numbers import is_finite

_TRAINED = "#2f9e6e"


def front_figure(
    summary: StudySummary,
    ink: str = INK,
    selection: Selection | None = None,
    *,
    unit: EnergyUnit | None = None,
    trained: Sequence[Trained] = (),
) -> Figure:
    """All trials in objective space: the first objective against each of the others, at most three.

    A single objective is drawn over the trial's number. Accuracies of the front have standard errors, bounds
    are drawn, and networks trained alone are shown at what they reached, with the standard error of the mean
    over seeds. In a search that trained networks, a line leads to each from its place with inherited weights.

    Args:
        summary: the study.
        ink: colour of texts and axes.
        selection: which network is marked; None is :func:`~aspk.report.selection.select`'s default.
        unit: of energies; None takes the one that suits the study.
        trained: networks that were trained alone.
    """
    chosen = (selection or select(summary)).chosen
    shown = measures(summary, unit or energy_unit_of(summary))[: len(summary.objectives)]
    panels: list[int | None] = [*range(1, len(shown))][:3] or [None]
    figure = Figure(figsize=(7.2 if len(panels) == 1 else 3.9 * len(panels), 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, other in zip(axes, panels, strict=True):
        style_axes(ax, ink)
        ax.set_ylabel(label(shown[0].title))
        ax.set_xlabel("trial" if other is None else label(shown[other].title))
        _scatter(ax, summary, shown, other, ink, chosen)
        _bounds(ax, summary, shown, other)
        if other is not None:
            _inherited(ax, summary, shown[0], shown[other])
            _trained(ax, summary, shown[0], shown[other], trained)
            if wide([_x(row, shown, other) for row in summary.trials]):
                log_axis(ax)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
        style_legend(legend, ink)
    return figure


def fronts_figure(
    summaries: Sequence[StudySummary], ink: str = INK, *, unit: EnergyUnit | None = None
) -> Figure:
    """The fronts of studies with the same objectives, the first objective against the second."""
    unit = unit or energy_unit_of(summaries[0])
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, ink)
    first, second = measures(summaries[0], unit)[:2]
    ax.set_ylabel(label(first.title))
    ax.set_xlabel(label(second.title))
    seen: list[float] = []
    for index, (title, one) in enumerate(zip(titles(summaries), summaries, strict=True)):
        places = sorted((row.values[1] * second.per, row.values[0] * first.per) for row in one.front)
        if places:
            x, y = zip(*places, strict=True)
            where = "steps-post" if one.directions[1] == "minimize" else "steps-pre"
            style: dict[str, Any] = {
                "color": LINES[index % len(LINES)],
                "drawstyle": where,
                "marker": "o",
                "markersize": 4,
            }
            ax.plot(x, y, lw=1, label=label(title), **style)
            seen += x
    if wide(seen):
        log_axis(ax)
    if ax.lines:
        style_legend(ax.legend(loc="lower right", frameon=False), ink)
    return figure


def _x(row: Row, shown: Sequence[Measure], other: int | None) -> float:
    return float(np.clip(row.number if other is None else row.values[other] * shown[other].per, -FAR, FAR))


def _y(row: Row, shown: Sequence[Measure]) -> float:
    return float(np.clip(row.values[0] * shown[0].per, -FAR, FAR))


def _scatter(
    ax: Axes,
    summary: StudySummary,
    shown: Sequence[Measure],
    other: int | None,
    ink: str,
    chosen: Pick | None,
) -> None:
    def place(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
        return [_x(row, shown, other) for row in rows], [_y(row, shown) for row in rows]

    on_front = {row.number for row in summary.front}
    dominated = [row for row in summary.trials if row.feasible and row.number not in on_front]
    infeasible = [row for row in summary.trials if not row.feasible]
    if dominated:
        ax.scatter(*place(dominated), s=16, color=PALE, alpha=0.45, linewidths=0, label="dominated")
    if infeasible:
        style: dict[str, Any] = {"s": 18, "color": BAD, "alpha": 0.6, "marker": "x", "linewidths": 1}
        ax.scatter(*place(infeasible), label="infeasible", **style)
    if summary.front:
        front = sorted(summary.front, key=lambda row: row.values)
        x, y = place(front)
        if len(shown) == 2:  # the border of what the front dominates
            order = np.argsort(x, kind="stable")
            where = "steps-post" if summary.directions[1] == "minimize" else "steps-pre"
            ax.plot(np.array(x)[order], np.array(y)[order], color=FRONT, lw=1, alpha=0.6, drawstyle=where)
        name = "front" if len(shown) > 1 else "best"
        ax.scatter(x, y, s=30, color=FRONT, linewidths=0, zorder=3, label=name)
        if shown[0].is_accuracy and summary.images:
            errors = [_error(row, summary.images) for row in front]
            ax.errorbar(x, y, errors, fmt="none", ecolor=FRONT, elinewidth=0.8, alpha=0.5, zorder=2)
    if chosen and len(shown) > 1:
        ring: dict[str, Any] = {"s": 110, "facecolors": "none", "edgecolors": ink, "zorder": 4}
        ax.scatter(*place([chosen.row]), label=chosen.name, **ring)
    values = summary.reference_values
    if values and other is not None:
        place_x = values[other] * shown[other].per
        star: dict[str, Any] = {"s": 110, "marker": "*", "color": REFERENCE, "zorder": 4}
        ax.scatter([place_x], [values[0] * shown[0].per], label="reference", **star)


def _error(row: Row, images: int) -> float:
    return standard_error(row.metrics.accuracy, images) if row.metrics else 0.0


def bounds(summary: StudySummary) -> dict[str, float]:
    """The study's constraints, by the name of the bounded quantity, in the study's units."""
    held = mapping_in(summary.context, "constraints")
    return {str(name): float(bound) for name, bound in held.items() if is_finite(bound)}


def _bounds(ax: Axes, summary: StudySummary, shown: Sequence[Measure], other: int | None) -> None:
    held = bounds(summary)
    style: dict[str, Any] = {"color": BAD, "linestyle": "--", "linewidth": 1}
    if shown[0].name in held:
        ax.axhline(held[shown[0].name] * shown[0].per, label="bound", **style)
    if other is not None and shown[other].name in held:
        known = shown[0].name in held
        ax.axvline(held[shown[other].name] * shown[other].per, label=None if known else "bound", **style)


def _inherited(ax: Axes, summary: StudySummary, first: Measure, second: Measure) -> None:
    """A line from where a network was with inherited weights to where it is, trained alone."""
    if (first.name, second.name) != ("accuracy", "energy"):
        return
    style: dict[str, Any] = {"color": _TRAINED, "lw": 0.8, "alpha": 0.7, "zorder": 1, "markevery": [0]}
    known = False
    for row in summary.trials:
        if row.inherited is not None:
            accuracy, energy = row.inherited
            x, y = [energy * second.per, row.values[1] * second.per], [accuracy, row.values[0]]
            name = None if known else "with inherited weights"
            ax.plot(x, y, marker="o", markersize=4, markerfacecolor="none", label=name, **style)
            known = True


def _trained(
    ax: Axes, summary: StudySummary, first: Measure, second: Measure, trained: Sequence[Trained]
) -> None:
    """A line from a network's place in the search to what it reached, trained alone, on the same images."""
    if (first.name, second.name) != ("accuracy", "energy"):
        return
    rows = {row.number: row for row in summary.trials}
    for number, own in by_trial(trained).items():
        if number not in rows:
            continue
        row = rows[number]
        x, y = mean([one.energy_mj for one in own]) * second.per, mean([one.search for one in own])
        start = (row.values[1] * second.per, row.values[0])
        ax.annotate("", (x, y), start, arrowprops={"arrowstyle": "-", "color": _TRAINED, "lw": 0.8})
        known = "trained alone" in ax.get_legend_handles_labels()[1]
        style: dict[str, Any] = {"s": 34, "marker": "D", "color": _TRAINED, "zorder": 5}
        ax.scatter([x], [y], label=None if known else "trained alone", **style)
        if error := error_of_mean([one.search for one in own]):
            ax.errorbar([x], [y], [error], fmt="none", ecolor=_TRAINED, elinewidth=0.8, zorder=4)


def by_trial(trained: Sequence[Trained]) -> dict[int, list[Trained]]:
    """The trainings of each trial's network; only those from inherited weights if there are any."""
    found: dict[int, list[Trained]] = {}
    for one in trained:
        found.setdefault(one.trial, []).append(one)
    return {number: [one for one in own if not one.scratch] or own for number, own in sorted(found.items())}
