"""Figures of a study: matplotlib through its object interface, so that no global state is touched."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch

from aspk.energy import PAPER, energy_mj, energy_table, energy_unit
from aspk.metrics import LayerCount
from aspk.report.selection import Pick, Selection, select
from aspk.report.summary import Row, StudySummary
from aspk.report.tables import titles
from aspk.util.text import printable

FRONT, PALE, BAD, REFERENCE = "#3b82f6", "#8b949e", "#e5484d", "#d97706"
LINES = (FRONT, REFERENCE, "#2f9e6e", "#a855f7", BAD, PALE)
KINDS = {"conv": "#2f9e6e", "linear": FRONT, "attention": "#a855f7", "head": REFERENCE}
_INK = "#1f2328"
_FAR = 1e300  # where larger values are drawn: the margins around them would overflow
_SENTINEL = "#010203"  # drawn where the page's text colour shall appear


def label(text: object, longest: int = 40) -> str:
    """Text that matplotlib shows as it is: no mathematics between dollar signs, not too long."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("\\", "\N{SET MINUS}").replace("$", r"\$")


def front_figure(summary: StudySummary, ink: str = _INK, selection: Selection | None = None) -> Figure:
    """All trials in objective space: the first objective against each of the others.

    With one objective it stands over the trial's number. At most three panels.

    Args:
        summary: the study.
        ink: colour of texts and axes.
        selection: which network is marked; None is :func:`~aspk.report.selection.select`'s default.
    """
    chosen = (selection or select(summary)).chosen
    names = summary.objectives
    panels: list[int | None] = [*range(1, len(names))][:3] or [None]
    figure = Figure(figsize=(7.2 if len(panels) == 1 else 3.9 * len(panels), 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, other in zip(axes, panels, strict=True):
        style_axes(ax, ink)
        ax.set_ylabel(_axis(names[0]))
        ax.set_xlabel("trial" if other is None else _axis(names[other]))
        _scatter(ax, summary, other, ink, chosen)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        _legend(figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False), ink)
    return figure


def _axis(objective: str) -> str:
    return "energy [mJ]" if objective == "energy" else label(objective)


def _scatter(ax: Axes, summary: StudySummary, other: int | None, ink: str, chosen: Pick | None) -> None:
    def place(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
        x = [float(row.number if other is None else row.values[other]) for row in rows]
        y = [row.values[0] for row in rows]
        return np.clip(x, -_FAR, _FAR).tolist(), np.clip(y, -_FAR, _FAR).tolist()

    on_front = {row.number for row in summary.front}
    dominated = [row for row in summary.trials if row.feasible and row.number not in on_front]
    infeasible = [row for row in summary.trials if not row.feasible]
    if dominated:
        ax.scatter(*place(dominated), s=16, color=PALE, alpha=0.45, linewidths=0, label="dominated")
    if infeasible:
        ax.scatter(
            *place(infeasible), s=18, color=BAD, alpha=0.6, marker="x", linewidths=1, label="infeasible"
        )
    if summary.front:
        x, y = place(sorted(summary.front, key=lambda row: row.values))
        if len(summary.objectives) == 2:  # the border of what the front dominates
            order = np.argsort(x, kind="stable")
            where = "steps-post" if summary.directions[1] == "minimize" else "steps-pre"
            ax.plot(np.array(x)[order], np.array(y)[order], color=FRONT, lw=1, alpha=0.6, drawstyle=where)
        ax.scatter(x, y, s=30, color=FRONT, linewidths=0, zorder=3, label="front")
    if chosen:
        ax.scatter(
            *place([chosen.row]), s=110, facecolors="none", edgecolors=ink, zorder=4, label=chosen.name
        )
    values = summary.reference_values
    if values and other is not None:
        ax.scatter(
            [values[other]], [values[0]], s=110, marker="*", color=REFERENCE, zorder=4, label="reference"
        )
    if other is not None:
        shown = [value for row in summary.trials for value in [row.values[other]]]
        if shown and min(shown) > 0 and max(shown) > 30 * min(shown):
            ax.set_xscale("log")


def hypervolume_figure(summaries: Sequence[StudySummary], ink: str = _INK) -> Figure:
    """Hypervolume over evaluations, one line for each study."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, ink)
    ax.set_xlabel("evaluations")
    ax.set_ylabel("hypervolume")
    for index, (title, summary) in enumerate(zip(titles(summaries), summaries, strict=True)):
        if summary.curve:
            ax.step(
                range(1, len(summary.curve) + 1),
                summary.curve,
                where="post",
                color=LINES[index % len(LINES)],
                linewidth=1.8 if index == 0 else 1.3,
                label=label(title),
            )
    if len(summaries) > 1 and ax.lines:
        _legend(ax.legend(loc="lower right", frameon=False), ink)
    return figure


def energy_figure(networks: Sequence[tuple[str, tuple[LayerCount, ...]]], ink: str = _INK) -> Figure:
    """Energy of each layer under the published account, one panel with its own scale for each network.

    Args:
        networks: title and layer counts.
        ink: colour of texts and axes.
    """
    names = list(dict.fromkeys(layer.name for _, layers in networks for layer in layers))
    names.sort(key=lambda name: name == "head")  # a deeper network's last blocks stand before the head
    height = 1.3 + 0.19 * len(names)
    figure = Figure(figsize=(2.2 + 2.6 * max(1, len(networks)), height), layout="constrained")
    axes = figure.subplots(1, max(1, len(networks)), sharey=True, squeeze=False)[0]
    for ax, (title, layers) in zip(axes, networks, strict=False):
        style_axes(ax, ink)
        ax.grid(axis="y", visible=False)
        total = energy_mj(layers, PAPER)
        unit, per_mj = energy_unit(total)
        ax.set_title(f"{label(title)}\n{total * per_mj:.3g} {unit}", fontsize=9, color=ink)
        ax.set_xlabel(f"{unit} per image")
        places = [names.index(layer.name) for layer in layers]
        bills = [bill.mj * per_mj for bill in energy_table(layers, PAPER)]
        ax.barh(places, bills, color=[KINDS.get(layer.kind, PALE) for layer in layers], height=0.72)
    axes[0].set_yticks(range(len(names)), [label(name) for name in names], fontsize=7)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    if networks:
        handles = [Patch(color=color, label=kind) for kind, color in KINDS.items()]
        _legend(figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False), ink)
    return figure


def style_axes(ax: Axes, ink: str) -> None:
    """Thin axes in the page's text colour over a faint grid."""
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    ax.tick_params(colors=ink, labelsize=8)
    ax.xaxis.label.set_color(ink)
    ax.yaxis.label.set_color(ink)
    ax.grid(visible=True, color=PALE, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def _legend(legend: Legend, ink: str) -> None:
    for text in legend.get_texts():
        text.set_color(ink)
        text.set_fontsize(8)


def png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    figure.set_facecolor("white")
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def svg(figure: Figure, title: str) -> str:
    """The figure as an SVG element for a page: the page's text colour, letters as outlines.

    Args:
        figure: drawn with :data:`SVG_INK`.
        title: read by screen readers; must be escaped already.
    """
    figure.set_facecolor("none")
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = re.sub(r"<!--.*?-->", "", file.getvalue().decode(), flags=re.DOTALL)  # comments repeat the labels
    text = text[text.index("<svg") :].replace(_SENTINEL, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


SVG_INK = _SENTINEL
