"""One network on the page: its numbers, its genes, its drawing, its layers."""

from __future__ import annotations

from collections.abc import Sequence

from aspk.energy import NOTHING, PAPER, STRICT, energy_mj, layer_energy, site_flag
from aspk.metrics import LayerCount
from aspk.report.diagram import diagram_svg
from aspk.report.figures.front import by_trial
from aspk.report.page.content import Content
from aspk.report.page.document import command, table, text
from aspk.report.selection import standard_error
from aspk.report.structure import network_parts
from aspk.report.summary import Row
from aspk.report.tables import number
from aspk.report.trained import mean

_MOST_BYTES = 500_000  # of all networks together; the others are drawn only on request


def networks_html(content: Content) -> str:
    """The shown networks, folded; the chosen one is open. Scripts show one at a time."""
    parts, left_out, size = [], [], 0
    for index, (trial, (title, row)) in enumerate(content.networks.items()):
        one = _network(content, trial, title, row, opened=index == 0)
        size += len(one)
        if index and size > _MOST_BYTES:
            left_out.append(trial)
        else:
            parts.append(one)
    if left_out:
        more = f"aspk report {content.command} --trials {left_out[0]}"
        parts.append(
            f"<p class=note>{len(left_out)} further networks of the front are not drawn here. To draw any "
            f"trial: {command(more)}</p>\n"
        )
    return "".join(parts)


def _network(content: Content, trial: int, title: str, row: Row, *, opened: bool) -> str:
    layers = row.metrics.layers if row.metrics else ()
    parts = network_parts(content.summary, row, content.account)
    drawing = diagram_svg(parts, f"network of trial {trial}", steps=layers[0].repeats) if parts else ""
    drawn = f'<div class="drawing">{drawing}</div>' if drawing else ""
    state = " open" if opened else ""
    bills = _layers(content, layers) if layers and title else ""
    return (
        f'<details class="network" data-trial="{trial}"{state}><summary>trial {trial}'
        f"{f': {text(title)}' if title else ''}{_flags(layers)}</summary>"
        f'<div class="facts">{_facts(content, trial, row)}{drawn}</div>{bills}</details>\n'
    )


def _facts(content: Content, trial: int, row: Row) -> str:
    rows = []
    for measure in content.measures:
        value = measure.of(row)
        if value is not None:
            error = ""
            if measure.is_accuracy and row.metrics and content.summary.images:
                error = f" ± {standard_error(row.metrics.accuracy, content.summary.images):.4f}"
            rows.append([text(measure.title), f"{number(value)}{error}"])
    for own in [by_trial(content.trained).get(trial, [])]:
        if own:
            rows.append(["accuracy on test, trained alone", number(mean([one.test for one in own]))])
    genes = [[text(name), text(number(value))] for name, value in row.parameters.items()]
    return (
        "<div>"
        + table(["measured", ""], rows, kind="plain")
        + f"<p>{command(content.export(trial))}</p>"
        + "</div><div>"
        + table(["gene", ""], genes, kind="plain")
        + "</div>"
    )


def _flags(layers: Sequence[LayerCount]) -> str:
    flags = [site_flag(layer) for layer in layers]
    counts = [f"{flags.count(name)} {name}" for name in ("dead", "saturated") if name in flags]
    return f' <span class="flag">{", ".join(counts)}</span>' if counts else ""


def _layers(content: Content, layers: Sequence[LayerCount]) -> str:
    account, per = content.account, content.unit.per_mj
    total = energy_mj(layers, account)
    other = STRICT if account != STRICT else PAPER
    header = ["layer", "MAC", "AC", "firing rate in", "spikes out", "firing rate out"]
    rows = []
    for layer in layers:
        bill, flag = layer_energy(layer, account), site_flag(layer)
        rows.append(
            [
                text(layer.name),
                *(f"{count:,.0f}" for count in (bill.mac, bill.ac)),
                NOTHING if layer.source == "image" else number(layer.firing_rate_in),
                number(layer.output_spikes) if layer.output_size else NOTHING,
                number(layer.firing_rate_out),
                number(bill.mj * per),
                f"{bill.mj / total:.1%}" if total else NOTHING,
                number(layer_energy(layer, other).mj * per),
                f'<span class="flag">{flag}</span>' if flag else "",
            ]
        )
    others = number(energy_mj(layers, other) * per)
    rows.append(["total", *[""] * 5, number(total * per), "", others, ""])
    unit = content.unit.name
    header += [unit, "share", f"{text(other.name)}, {unit}", ""]
    shown = table(header, rows, marked=[len(layers)])
    return f"<details><summary>layer by layer, under {text(account.name)}</summary>{shown}</details>"
