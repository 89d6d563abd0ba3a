"""One network under every account as a page and as a figure."""

from __future__ import annotations

from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aspk.energy import NOTHING, AccountTotal, Comparison
from aspk.report.energy.pages import html_page, table_row
from aspk.report.figures import FRONT, SVG_INK, label, style_axes, svg
from aspk.util.text import printable

_INK = "#1f2328"
_SITES = 60  # rows of the firing-rate map; more would not be legible


def comparison_html(comparison: Comparison) -> str:
    """The accounts, the break-evens and the firing rates as a self-contained page."""
    head = table_row("th", ["account", "mJ", "ratio"])
    accounts = "".join(_account(comparison, total) for total in comparison.totals)
    drawing = svg(comparison_figure(comparison, SVG_INK), "Energy under each account, firing rates")
    parts = [
        f'<div class="scroll"><table>{head}{accounts}</table></div>',
        f"<figure>{drawing}</figure>",
    ]
    if comparison.break_evens:
        lines = "".join(f"<li>{escape(line)}</li>" for line in comparison.break_even_lines())
        parts.append(f"<h2>Break-even with a network without spikes</h2><ul>{lines}</ul>")
    if comparison.rates:
        steps = max(len(rates) for rates in comparison.rates.values())
        head = table_row("th", ["neurons", *(f"step {step + 1}" for step in range(steps))])
        rows = "".join(
            table_row("td", [name, *(f"{rate:.4f}" for rate in rates)])
            for name, rates in comparison.rates.items()
        )
        parts.append(f'<h2>Firing rates</h2><div class="scroll"><table>{head}{rows}</table></div>')
    return html_page(comparison.network, parts)


def _account(comparison: Comparison, total: AccountTotal) -> str:
    ratio = comparison.ratio(total)
    numbers = [
        NOTHING if total.mj is None else f"{total.mj:.4g}",
        NOTHING if ratio is None else f"{ratio:.3f}",
    ]
    cells = "".join(f"<td>{escape(printable(cell))}</td>" for cell in numbers)
    notes = [escape(printable(note)) for note in (total.note, total.counted_on) if note]
    note = f"<br><small>{'; '.join(notes)}</small>" if notes else ""
    return f'<tr><td class="wrap">{escape(printable(total.name))}{note}</td>{cells}</tr>'


def comparison_figure(comparison: Comparison, ink: str = _INK) -> Figure:
    """Energies of all accounts as bars, and firing rates by site and step as a map."""
    billed = [total for total in comparison.totals if total.mj]
    rates = dict(list(comparison.rates.items())[:_SITES])
    heights = [0.35 * len(billed) + 0.9, *([0.16 * len(rates) + 0.9] if rates else [])]
    figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    bars = axes[0]
    style_axes(bars, ink)
    names = [label(total.name) for total in reversed(billed)]
    values = [total.mj or 0.0 for total in reversed(billed)]
    bars.barh(names, values, color=FRONT, height=0.6)
    bars.set_xscale("log")
    bars.set_xlabel("estimated energy of one image [mJ]")
    for name, value in zip(names, values, strict=True):
        bars.annotate(f" {value:.3g}", (value, name), va="center", fontsize=7, color=ink)
    bars.margins(x=0.15)
    if rates:
        _rate_map(figure, axes[1], rates, ink)
    return figure


def _rate_map(figure: Figure, ax: Axes, rates: dict[str, tuple[float, ...]], ink: str) -> None:
    steps = max(len(values) for values in rates.values())
    table = np.full((len(rates), steps), np.nan)
    for index, values in enumerate(rates.values()):
        table[index, : len(values)] = values
    style_axes(ax, ink)
    ax.grid(visible=False)
    cells = ax.pcolormesh(table, cmap="viridis", vmin=0)  # drawn as shapes: the page's policy blocks images
    ax.invert_yaxis()
    ax.set_yticks(np.arange(len(rates)) + 0.5, [label(name) for name in rates], fontsize=6)
    ax.set_xticks(np.arange(steps) + 0.5, [str(step + 1) for step in range(steps)])
    ax.set_xlabel("step")
    bar = figure.colorbar(cells, ax=ax, shrink=0.8)
    bar.set_label("firing rate", color=ink)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
    bar.ax.tick_params(colors=ink, labelsize=7)
