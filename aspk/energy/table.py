"""The account of one network as text and CSV, several models side by side."""

from __future__ import annotations

from collections.abc import Sequence

from aspk.energy.account import energy_mj, energy_table, site_flag
from aspk.energy.model import EnergyModel
from aspk.metrics import LayerCount
from aspk.util.text import printable, to_csv

NOTHING = "–"
ESTIMATE = "Energies are estimates from operation counts for one image, not measurements."


def energy_unit(mj: float) -> tuple[str, float]:
    """The unit that suits an energy, and how many of it make one mJ."""
    return ("mJ", 1.0) if mj >= 0.1 else ("µJ", 1e3)


def shown_rate_in(layer: LayerCount) -> float | None:
    """The mean value that a layer reads, None if it reads no spikes."""
    return None if layer.source in ("image", "analog") else layer.firing_rate_in


def table_cells(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> list[list[str]]:
    """Header, a row for each layer, and the totals, as text.

    MAC and AC are those of the first model; for each model, the energy and each layer's share of it follow.
    """
    totals = [energy_mj(layers, model) for model in models]
    units = [energy_unit(total) for total in totals]
    bills = [energy_table(layers, model) for model in models]
    header = ["layer", "MAC", "AC", "rate in", "spikes out", "rate out"]
    for model, (unit, _) in zip(models, units, strict=True):
        header += [f"{model.name} {unit}", "share"]
    rows = [[*header, ""]]
    for index, layer in enumerate(layers):
        row = [
            layer.name,
            f"{bills[0][index].mac:,.0f}",
            f"{bills[0][index].ac:,.0f}",
            _rate(shown_rate_in(layer)),
            f"{layer.output_spikes:,.0f}" if layer.output_size else NOTHING,
            _rate(layer.firing_rate_out),
        ]
        for bill, total, (_, per_mj) in zip(bills, totals, units, strict=True):
            mj = bill[index].mj
            row += [f"{mj * per_mj:.4g}", f"{mj / total:.1%}" if total else NOTHING]
        rows.append([*row, site_flag(layer)])
    sums = [f"{sum(getattr(bill, kind) for bill in bills[0]):,.0f}" for kind in ("mac", "ac")]
    spikes = f"{sum(layer.output_spikes for layer in layers):,.0f}"
    last = ["total", *sums, "", spikes, ""]
    for total, (_, per_mj) in zip(totals, units, strict=True):
        last += [f"{total * per_mj:.4g}", ""]
    return [*rows, [*last, ""]]


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def energy_text(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> str:
    """The account as an aligned table."""
    rows = [[printable(cell) for cell in row] for row in table_cells(layers, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths if width)
    flags = [flag for layer in layers if (flag := site_flag(layer))]
    warning = [f"Dead or saturated neuron sites: {len(flags)}, see the last column."] if flags else []
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *warning, ESTIMATE])


def energy_csv(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> str:
    """The account with full precision: one row for each layer and model."""
    header = "model layer kind source mac ac rate_in spikes_out rate_out mj neuron_mj memory_mj flag"
    rows: list[list[object]] = [list(header.split())]
    for model in models:
        for layer, bill in zip(layers, energy_table(layers, model), strict=True):
            billed = (bill.mac, bill.ac, shown_rate_in(layer), layer.output_spikes, layer.firing_rate_out)
            energies = (bill.mj, bill.neuron_mj, bill.memory_mj)
            identity = (model.name, layer.name, layer.kind, layer.source)
            rows.append([*identity, *billed, *energies, site_flag(layer)])
    return to_csv(rows)
