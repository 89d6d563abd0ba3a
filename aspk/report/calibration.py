"""What a table of trained networks says about a supernet's ranking, as a text and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aspk.report.figures import LINES, PALE, png, style_axes
from aspk.util.files import write_atomically

_INK = "#1f2328"


def write_calibration(report: Mapping[str, Any], folder: Path) -> None:
    """Write ``calibration.md`` and ``calibration.png``.

    Args:
        report: from :func:`aspk.standalone.calibration.rank_table`.
        folder: where to write them.
    """
    write_atomically(folder / "calibration.md", calibration_markdown(report))
    write_atomically(folder / "calibration.png", png(calibration_figure(report)))


def calibration_markdown(report: Mapping[str, Any]) -> str:
    """The tables, and how to read them."""
    first = next(iter(report["statistics"].values()))
    sizes = [point["size"] for point in next(iter(report["calibrated"].values()))]
    lines = [
        f"# {report['n']:,} networks trained alone, {report['seeds']} seeds each",
        "",
        f"Truth is the mean test accuracy over the seeds; one training has a standard deviation of "
        f"{100 * report['noise']:.2f} points. A perfect predictor is expected to reach a tau of "
        f"**{report['noise_ceiling']:.3f}**.",
        "",
        "## Untrained: what a supernet says, and what costs nothing",
        "",
        "| predictor | Kendall's tau | 95 % interval | share of the ceiling | verdict |",
        "|---|---|---|---|---|",
        *(
            f"| **inherited accuracy, {kind}** | {_tau(item, report)} | {item['verdict']} |"
            for kind, item in report["statistics"].items()
        ),
        *(f"| free: {name} | {_tau(item, report)} | |" for name, item in first["baselines"].items()),
        "",
    ]
    if sizes:
        header = " | ".join(f"{size} trained" for size in sizes)
        lines += [
            "## Calibrated: fitted to one training of a few networks, the others predicted",
            "",
            f"| surrogate of | {header} |",
            f"|---|{'---|' * len(sizes)}",
            *(
                f"| {name} | {' | '.join(_point(point) for point in points)} |"
                for name, points in report["calibrated"].items()
            ),
            "",
            "Mean of Kendall's tau over random choices of the trained networks; first to last decile.",
            "",
        ]
    return "\n".join(lines)


def _tau(item: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    tau, (low, high), most = item["kendall_tau"], item["kendall_tau_ci"], report["noise_ceiling"]
    share = f"{tau / most:.0%}" if most > 0 else ""
    return f"{tau:.3f} | {low:.3f} to {high:.3f} | {share}"


def _point(point: Mapping[str, Any]) -> str:
    return f"{point['tau']:.3f} ({point['low']:.2f} to {point['high']:.2f})"


def calibration_figure(report: Mapping[str, Any]) -> Figure:
    """Kendall's tau over the number of trained networks, and the ceiling that the seeds' noise sets."""
    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    ax = figure.subplots()
    style_axes(ax, _INK)
    for color, (name, points) in zip(LINES, report["calibrated"].items(), strict=False):
        sizes = [point["size"] for point in points]
        ax.plot(sizes, [point["tau"] for point in points], color=color, marker="o", ms=4, label=name)
        lows, highs = ([point[end] for point in points] for end in ("low", "high"))
        ax.fill_between(sizes, lows, highs, color=color, alpha=0.12, lw=0)
    ax.axhline(report["noise_ceiling"], color=PALE, ls="--", label="ceiling by the seeds' noise")
    operations = next(iter(report["statistics"].values()))["baselines"]["operations"]["kendall_tau"]
    ax.axhline(operations, color=PALE, ls=":", label="operations alone, untrained")
    ax.set_xlabel("networks trained alone")
    ax.set_ylabel("Kendall's tau on the others")
    ax.legend(fontsize=8, frameon=False)
    return figure
