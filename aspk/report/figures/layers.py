"""Energy of each layer of a few networks, on one axis."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aspk.energy import PAPER, EnergyModel, energy_mj, energy_table
from aspk.metrics import LayerCount
from aspk.report.figures.drawing import INK, KINDS, PALE, label, style_axes, style_legend
from aspk.report.measures import EnergyUnit

_UNIT = EnergyUnit("µJ", 1e3)


def energy_figure(
    networks: Sequence[tuple[str, tuple[LayerCount, ...]]],
    ink: str = INK,
    *,
    unit: EnergyUnit = _UNIT,
    model: EnergyModel = PAPER,
) -> Figure:
    """Energy of each layer, a panel for each network; all panels have the same axes.

    Args:
        networks: title and layer counts.
        ink: colour of texts and axes.
        unit: of energies.
        model: the account.
    """
    names = list(dict.fromkeys(layer.name for _, layers in networks for layer in layers))
    names.sort(key=lambda name: name == "head")  # a deeper network's last blocks come before the head
    height = 1.3 + 0.19 * len(names)
    figure = Figure(figsize=(2.2 + 2.6 * max(1, len(networks)), height), layout="constrained")
    panels = figure.subplots(1, max(1, len(networks)), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (title, layers) in zip(panels, networks, strict=False):
        style_axes(ax, ink)
        ax.grid(axis="y", visible=False)
        total = energy_mj(layers, model) * unit.per_mj
        ax.set_title(f"{label(title)}\n{total:.3g} {unit.name}", fontsize=9, color=ink)
        ax.set_xlabel(f"{unit.name} per image")
        places = [names.index(layer.name) for layer in layers]
        bills = [bill.mj * unit.per_mj for bill in energy_table(layers, model)]
        ax.barh(places, bills, color=[KINDS.get(layer.kind, PALE) for layer in layers], height=0.72)
    panels[0].set_yticks(range(len(names)), [label(name) for name in names], fontsize=7)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    if networks:
        handles = [Patch(color=color, label=kind) for kind, color in KINDS.items()]
        style_legend(figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False), ink)
    return figure
