"""The ranking study of a supernet as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from aspk.energy import NOTHING
from aspk.report.figures import FRONT, png, style_axes
from aspk.trials.verdict import verdict_sentence
from aspk.util.files import write_atomically


def write_ranking(report: Mapping[str, Any], folder: Path) -> None:
    """Write ``rank.md`` and ``rank.png`` from the content of ``rank.json``."""
    write_atomically(folder / "rank.md", ranking_markdown(report))
    write_atomically(folder / "rank.png", png(ranking_figure(report)))


def ranking_markdown(report: Mapping[str, Any]) -> str:
    """The tables, and how to read them."""
    ceiling, energy = report["noise_ceiling"], report["energy"]
    regrets = ", ".join(f"{100 * value:.2f} (k = {k})" for k, value in report["top_k_regret"].items())
    last, before = _final_losses(report)
    lines = [
        f"# Can this supernet's ranking be trusted? {report['verdict'].capitalize()}",
        "",
        verdict_sentence(report),
        "",
        "Inherited accuracy is measured on `search` with the supernet's weights and "
        f"`{report['evaluation'].get('statistics', 'own')}` statistics, stand-alone accuracy on `test` after "
        f"{report['recipe']['updates']} updates from scratch (mean training loss of the last tenth "
        f"{last:.3f}, of the tenth before {before:.3f}).",
        "",
        "## Accuracy",
        "",
        "| predictor | Kendall's tau | 95 % interval | tau of inherited minus this, 95 % interval |",
        "|---|---|---|---|",
        f"| **inherited accuracy** | {_row(report)} | |",
        *(
            f"| {name} | {_row(item)} | {_interval(item['difference_ci'])} |"
            for name, item in _others(report)
        ),
        "",
        f"Spearman {report['spearman']:.3f}; partial tau given operations "
        f"{report['partial_tau_given_operations']:.3f}; noise ceiling (the tau of a perfect predictor, from "
        f"{report['trained_twice']} networks trained twice) "
        f"{NOTHING if ceiling is None else f'{ceiling:.3f}'}; "
        f"top-k regret in points of accuracy: {regrets}.",
        "",
        "## Energy",
        "",
        "| predictor of the stand-alone network's energy | Kendall's tau | 95 % interval | difference |",
        "|---|---|---|---|",
        f"| **inherited energy** | {_row(energy)} | |",
        *(
            f"| {name} | {_row(item)} | {_interval(item['difference_ci'])} |"
            for name, item in energy["baselines"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _others(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    free = [(f"free: {name}", item) for name, item in report["baselines"].items()]
    return [*free, *((f"inherited, {name}", item) for name, item in report["variants"].items())]


def _row(item: Mapping[str, Any]) -> str:
    return f"{item['kendall_tau']:.3f} | {_interval(item['kendall_tau_ci'])}"


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _final_losses(report: Mapping[str, Any]) -> tuple[float, float]:
    """Mean training loss over all networks in the last tenth and in the tenth before."""
    losses = [row["losses"][-2:] for row in report["networks"]]
    before, last = (sum(column) / len(losses) for column in zip(*losses, strict=True))
    return last, before


def ranking_figure(report: Mapping[str, Any]) -> Figure:
    """Inherited against stand-alone accuracy, and operations against it, one point for each network."""
    figure = Figure(figsize=(7.8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = report["networks"]
    alone = [row["alone"][0] for row in rows]
    tau = report["kendall_tau"]
    free = report["baselines"]["operations"]["kendall_tau"]
    panels = (
        (left, [row["inherited"] for row in rows], f"inherited accuracy (tau {tau:.2f})"),
        (right, [row["operations"] for row in rows], f"dense operations (tau {free:.2f})"),
    )
    for ax, x, label in panels:
        style_axes(ax, "#1f2328")
        ax.scatter(x, alone, s=26, color=FRONT, linewidths=0)
        ax.set_xlabel(label)
        for row, place in zip(rows, x, strict=True):
            if len(row["alone"]) > 1:  # trained twice: the bar shows the effect of another seed
                ax.plot([place, place], row["alone"][:2], color=FRONT, lw=1, alpha=0.5)
    left.set_ylabel("stand-alone accuracy")
    right.set_xscale("log")
    right.xaxis.set_minor_formatter(NullFormatter())  # ticks within a decade would overlap
    return figure
