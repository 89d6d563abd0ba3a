"""Figures of a study: matplotlib through its object interface, so that no global state is touched."""

from aspk.report.figures.curves import best_so_far_figure, hypervolume_figure
from aspk.report.figures.drawing import (
    BAD,
    FRONT,
    INK,
    KINDS,
    LINES,
    PALE,
    REFERENCE,
    SVG_INK,
    label,
    pdf,
    png,
    style_axes,
    svg,
)
from aspk.report.figures.front import front_figure, fronts_figure
from aspk.report.figures.genes import genes_figure, importance_figure, parallel_figure
from aspk.report.figures.layers import energy_figure

__all__ = [
    "BAD",
    "FRONT",
    "INK",
    "KINDS",
    "LINES",
    "PALE",
    "REFERENCE",
    "SVG_INK",
    "best_so_far_figure",
    "energy_figure",
    "front_figure",
    "fronts_figure",
    "genes_figure",
    "hypervolume_figure",
    "importance_figure",
    "label",
    "parallel_figure",
    "pdf",
    "png",
    "style_axes",
    "svg",
]
