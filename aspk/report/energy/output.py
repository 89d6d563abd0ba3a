"""Accounts of networks and re-billed studies as JSON and as self-contained HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from aspk.costs import cost
from aspk.energy import (
    ESTIMATE,
    NOTES,
    PRESETS,
    EnergyModel,
    billable,
    energy_mj,
    energy_table,
    shown_rate_in,
    site_flag,
    table_cells,
)
from aspk.metrics import Kind, LayerCount
from aspk.report import pareto_text
from aspk.report.energy.pages import html_page, table_row
from aspk.report.energy.rebilling import Rebilling
from aspk.report.energy.sources import NetworkAccount
from aspk.report.figures import SVG_INK, front_figure, svg
from aspk.report.tables import columns, csv_of_fronts, number
from aspk.util.text import printable

_SHARE = "share"


def account_json(account: NetworkAccount, models: Sequence[EnergyModel]) -> dict[str, Any]:
    """One network: sizes, totals over all steps, energy under all presets, layers under ``models``.

    ``dense_operations`` are those of convolutions and linear layers; attention and head are separate keys.
    """
    layers = account.layers
    everything = _billing(layers, models)
    return {
        "network": account.title,
        **account.details,
        "parameters": cost.parameters(layers),
        "first_layer_macs": sum(
            layer.operations * layer.repeats for layer in layers if layer.source == "image"
        ),
        "dense_operations": _operations(layers, "conv", "linear"),
        "attention_operations": _operations(layers, "attention"),
        "head_operations": _operations(layers, "head"),
        "spikes": sum(layer.output_spikes for layer in layers),
        "mj": {name: energy_mj(layers, model) for name, model in everything.items()},
        "models": {name: asdict(model) for name, model in everything.items()},
        "dead_sites": [layer.name for layer in layers if site_flag(layer) == "dead"],
        "saturated_sites": [layer.name for layer in layers if site_flag(layer) == "saturated"],
        "layers": _layers_json(layers, models),
        "note": ESTIMATE,
    }


def _billing(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> dict[str, EnergyModel]:
    """The presets that can bill these counts, and the requested models."""
    presets = {name: model for name, model in PRESETS.items() if billable(layers, model)}
    return presets | {model.name: model for model in models}


def _operations(layers: Sequence[LayerCount], *kinds: Kind) -> int:
    return cost.operations(tuple(layer for layer in layers if layer.kind in kinds))


def _layers_json(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "source": layer.source,
            "operations": layer.operations * layer.repeats,
            "firing_rate_in": shown_rate_in(layer),
            "spikes_out": layer.output_spikes if layer.output_size else None,
            "firing_rate_out": layer.firing_rate_out,
            "flag": site_flag(layer),
            "bills": {},
        }
        for layer in layers
    ]
    for model in models:
        total = energy_mj(layers, model)
        for row, bill in zip(rows, energy_table(layers, model), strict=True):
            own = asdict(bill)
            del own["name"]
            row["bills"][model.name] = own | {_SHARE: bill.mj / total if total else 0.0}
    return rows


def rebilling_json(rebillings: Sequence[Rebilling]) -> dict[str, Any]:
    """A study under several accounts: for each, the front, its hypervolume and what changed."""
    return {
        "study": rebillings[0].summary.name,
        "objectives": list(rebillings[0].summary.objectives),
        "models": {
            one.model.name: {
                "model": asdict(one.model),
                "front": [
                    {"trial": row.number, "values": list(row.values), "parameters": dict(row.parameters)}
                    | {"energy_mj": row.metrics.energy_mj if row.metrics else None}
                    for row in one.summary.front
                ],
                "hypervolume": one.summary.hypervolume,
                "kept": one.kept,
                "kendall_tau": one.kendall_tau,
            }
            for one in rebillings
        },
        "note": ESTIMATE,
    }


def rebilling_text(one: Rebilling) -> str:
    """A study's front under another account, and how much of the old front it keeps."""
    return f"{one.summary.name} under {one.model.name}: {_changes(one)}\n{pareto_text(one.summary)}"


def _changes(one: Rebilling) -> str:
    agreement = "" if one.kendall_tau is None else f"; Kendall's tau of the energies {one.kendall_tau:.3f}"
    return (
        f"{len(one.summary.front)} networks on the front, "
        f"{one.kept} of the {len(one.before.front)} that were on it before{agreement}"
    )


def rebilling_csv(rebillings: Sequence[Rebilling]) -> str:
    """All fronts with full precision, the account in the first column."""
    return csv_of_fronts("model", [(one.model.name, one.summary) for one in rebillings])


# ---------------------------------------------------------------------- pages


def account_html(account: NetworkAccount, models: Sequence[EnergyModel]) -> str:
    """One network's account as a page, models side by side."""
    header, *rows = table_cells(account.layers, models)
    shares = [column for column, title in enumerate(header) if title == _SHARE]
    lines = [table_row("th", header)]
    for row in rows:
        lines.append("<tr>" + "".join(_cell(row, column, shares) for column in range(len(row))) + "</tr>")
    table = f'<div class="scroll"><table>{"".join(lines)}</table></div>'
    return html_page(account.title, [table, _totals(account.layers, models), _models(models)])


def _cell(row: Sequence[str], column: int, shares: Sequence[int]) -> str:
    """A cell; a share is drawn over a bar."""
    text = escape(printable(row[column]))
    if column not in shares or not text.endswith("%"):
        return f'<td class="flag">{text}</td>' if column == len(row) - 1 else f"<td>{text}</td>"
    bar = f"background: linear-gradient(to left, var(--mark) {text}, transparent {text})"
    return f'<td style="{bar}">{text}</td>'


def _totals(layers: Sequence[LayerCount], models: Sequence[EnergyModel]) -> str:
    everything = _billing(layers, models)
    rows = [table_row("td", [name, f"{energy_mj(layers, model):.4g}"]) for name, model in everything.items()]
    head = table_row("th", ["account", "mJ"])
    return f"<h2>The same network under every account</h2><table>{head}{''.join(rows)}</table>"


def _models(models: Sequence[EnergyModel]) -> str:
    fields = list(asdict(models[0]))
    rows = [table_row("td", [field, *(f"{getattr(model, field)}" for model in models)]) for field in fields]
    notes = "".join(f"<p class=note>{escape(NOTES[m.name])}</p>" for m in models if m == PRESETS.get(m.name))
    return f"<h2>Accounts</h2><table>{''.join(rows)}</table>{notes}"


def rebilling_html(rebillings: Sequence[Rebilling]) -> str:
    """A study's front under several accounts as a page."""
    parts = []
    for one in rebillings:
        shown = columns(one.summary)
        cells = [table_row("td", [number(column.of(row)) for column in shown]) for row in one.summary.front]
        head = table_row("th", [column.header for column in shown])
        drawing = svg(front_figure(one.summary, SVG_INK), "Trials in objective space")
        parts += [
            f"<h2>{escape(printable(one.model.name))}</h2><p>{escape(_changes(one))}.</p>",
            f'<figure>{drawing}</figure><div class="scroll"><table>{head}{"".join(cells)}</table></div>',
        ]
    title = f"{rebillings[0].summary.name}, billed again"
    return html_page(title, [*parts, _models([one.model for one in rebillings])])
