"""The figure of a comparison: the front, and how its networks and the others change when they are trained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from aspk.energy import energy_unit
from aspk.report.figures import FRONT, PALE, REFERENCE, label, style_axes

_INK = "#1f2328"
_HAND_MADE = ("reference", "largest", "smallest")


def comparison_figure(content: Mapping[str, Any]) -> Figure:
    """Accuracy over energy, one panel per recipe; networks are numbered as in the write-up's tables.

    Args:
        content: the content of ``comparison.json``.
    """
    count = len(content["trainings"])
    figure = Figure(figsize=(7.6, 1.2 + 4.2 * count), layout="constrained")
    panels = figure.subplots(count, 1, squeeze=False)[:, 0]
    unit, per_mj = energy_unit(max(item["search_mj"] for item in content["networks"]))
    for ax, training in zip(panels, content["trainings"], strict=True):
        style_axes(ax, _INK)
        ax.set_xscale("log")
        ax.set_title(label(training["title"], 80), fontsize=9, color=_INK)
        ax.set_xlabel(f"energy [{unit}], paper's account")
        ax.set_ylabel("accuracy [%]")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        _front(ax, content, per_mj)
        _pairs(ax, content, training, per_mj)
    panels[0].legend(fontsize=7, frameon=False, loc="lower right")
    return figure


def _front(ax: Axes, content: Mapping[str, Any], per_mj: float) -> None:
    """The first search's front, as the search saw it."""
    rows = sorted(content["searches"][0]["front"], key=lambda row: row[1])
    if rows:
        accuracy, energy = np.array(rows).T
        ax.plot(
            per_mj * energy,
            100 * accuracy,
            color=PALE,
            lw=1,
            marker=".",
            ms=4,
            label=f"front of {label(content['searches'][0]['title'])}, inherited, on search",
        )


def _pairs(
    ax: Axes,
    content: Mapping[str, Any],
    training: Mapping[str, Any],
    per_mj: float,
) -> None:
    """Each network untrained (hollow) and trained (filled), joined by a line."""
    shown: set[str] = set()
    for number, item in enumerate(content["networks"], start=1):
        values = training["networks"].get(item["name"])
        if values is None:
            continue
        hand_made = bool(set(item["roles"]) & set(_HAND_MADE))
        color, kind = (REFERENCE, "not searched") if hand_made else (FRONT, "found")
        before = (per_mj * item["test_mj"], 100 * item["test"])
        after = (per_mj * statistics.mean(values["energy_mj"]), 100 * statistics.mean(values["test"]))
        deviation = 100 * statistics.stdev(values["test"]) if len(values["test"]) > 1 else 0.0
        ax.plot(*zip(before, after, strict=True), color=color, lw=1, alpha=0.6)
        ax.scatter(*before, s=26, facecolors="white", edgecolors=color, zorder=3)
        ax.errorbar(
            *after,
            yerr=deviation,
            color=color,
            fmt="o",
            ms=5,
            lw=1,
            zorder=4,
            label=f"{kind}: inherited (hollow), trained (filled)" if kind not in shown else None,
        )
        shown.add(kind)
        ax.annotate(
            str(number), after, xytext=(4, 4), textcoords="offset points", fontsize=8, color=_INK, zorder=5
        )
