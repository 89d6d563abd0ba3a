"""What a search learnt: importances, the genes along the front, parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from aspk.report.figures.drawing import FRONT, INK, LINES, PALE, label, style_axes
from aspk.report.genes import along_front, genes_of
from aspk.report.measures import EnergyUnit, energy_unit_of, measures
from aspk.report.summary import StudySummary
from aspk.surrogate.importance import Importances

MOST_GENES = 15  # bars of one figure, columns of another
MOST_FRONT = 60  # networks of the front shown side by side


def importance_figure(found: Mapping[str, Importances], ink: str = INK) -> Figure:
    """Importance of each gene, one panel per measure; the genes are the most important of the first."""
    names = list(next(iter(found.values())).shares)[:MOST_GENES] if found else []
    figure = Figure(figsize=(2.4 + 2.6 * max(1, len(found)), 1.1 + 0.22 * len(names)), layout="constrained")
    axes = figure.subplots(1, max(1, len(found)), sharey=True, squeeze=False)[0]
    for ax, color, (what, one) in zip(axes, LINES, found.items(), strict=False):
        style_axes(ax, ink)
        ax.grid(axis="y", visible=False)
        ax.barh(range(len(names)), [one.shares.get(name, 0.0) for name in names], color=color, height=0.7)
        ax.set_title(f"{label(what)}: {one.explained:.0%} explained", fontsize=9, color=ink)
        ax.set_xlabel("share of the variance")
    axes[0].set_yticks(range(len(names)), [label(name) for name in names], fontsize=7)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def genes_figure(summary: StudySummary, ink: str = INK) -> Figure:
    """The genes of the front's networks, cheapest first: dark is a gene's first choice, light its last."""
    genes, rows = genes_of(summary), along_front(summary)[:MOST_FRONT]
    table = np.full((max(1, len(genes)), max(1, len(rows))), np.nan)
    for i, gene in enumerate(genes):
        for j, row in enumerate(rows):
            rank = gene.rank(row)
            table[i, j] = np.nan if rank is None else rank / max(1, len(gene.choices) - 1)
    figure = Figure(figsize=(7.2, 1.0 + 0.2 * len(genes)), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, ink)
    ax.grid(visible=False)
    ax.pcolormesh(table, cmap="viridis", vmin=0, vmax=1, edgecolors="none", rasterized=False)
    ax.invert_yaxis()
    ax.set_yticks(np.arange(len(genes)) + 0.5, [label(gene.name) for gene in genes], fontsize=7)
    every = max(1, len(rows) // 15)
    numbers = [str(row.number) for row in rows][::every]
    ax.set_xticks(np.arange(len(rows))[::every] + 0.5, numbers, fontsize=7)
    ax.set_xlabel("trial, from the cheapest to the most expensive of the front")
    return figure


def parallel_figure(summary: StudySummary, ink: str = INK, *, unit: EnergyUnit | None = None) -> Figure:
    """Every trial as a line over its genes and objectives; the front stands out, coloured by the first."""
    genes = genes_of(summary)[:MOST_GENES]
    shown = measures(summary, unit or energy_unit_of(summary))[: len(summary.objectives)]
    columns = [*(label(gene.name, 22) for gene in genes), *(label(one.title, 22) for one in shown)]
    lines: dict[int, list[float]] = {}
    values = np.array([list(row.values) for row in summary.trials] or [[0.0] * len(shown)])
    low, span = values.min(0), np.where(np.ptp(values, axis=0) > 0, np.ptp(values, axis=0), 1)
    for row in summary.trials:
        ranks = [gene.rank(row) for gene in genes]
        heights = [
            np.nan if rank is None else rank / max(1, len(gene.choices) - 1)
            for rank, gene in zip(ranks, genes, strict=True)
        ]
        lines[row.number] = [*heights, *((np.array(row.values) - low) / span).tolist()]
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, ink)
    on_front = [row.number for row in along_front(summary)]
    others: Any = [list(enumerate(line)) for number, line in lines.items() if number not in set(on_front)]
    ax.add_collection(LineCollection(others[-300:], colors=PALE, linewidths=0.5, alpha=0.25))
    colors = colormaps["viridis"](np.linspace(0, 0.95, max(1, len(on_front))))
    front: Any = [list(enumerate(lines[number])) for number in on_front if number in lines]
    ax.add_collection(LineCollection(front, colors=list(colors) or [FRONT], linewidths=1.3))
    ax.set_xlim(-0.2, len(columns) - 0.8)
    ax.set_ylim(-0.05, 1.05)
    ax.set_xticks(range(len(columns)), columns, fontsize=7, rotation=35, ha="right")
    ax.set_yticks([0, 1], ["first, lowest", "last, highest"], fontsize=7)
    return figure
