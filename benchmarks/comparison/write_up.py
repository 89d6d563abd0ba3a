"""A comparison as Markdown and a figure, from its record alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from aspk.energy.table import energy_unit
from aspk.report.figures import png
from aspk.util.files import write_atomically

_Record = Mapping[str, Any]
_NONE = "–"
_METHODS = {"front": "supernet's front, trained"}  # others are called as in the log
_FRONTS = (
    " An ablation trains as many networks of the supernet's front as refinement found, without refining; its "
    "cost is its own."
)
_ENOUGH = 0.5  # points of accuracy that twice the updates may change on average


def write_files(content: _Record, folder: Path, *, name: str) -> Path:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png``; the path of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / f"{name}.png", png(figure(content)))
    write_atomically(folder / f"{name}.md", write_up(content, picture=f"{name}.png"))
    return folder / f"{name}.md"


def write_up(content: _Record, *, picture: str) -> str:
    """The record as Markdown.

    Args:
        content: see :func:`benchmarks.comparison.analysis.analyse`.
        picture: where the figure is, relative to the text.
    """
    parts = [f"# {content['images']}: found networks against hand-made ones"]
    if content["quick"]:
        parts.append("**A quick run: budgets are tiny, and the figures mean nothing.**")
    parts += [*_main(content, picture), *_searches(content), *_recipe(content), _costs(content)]
    return "\n\n".join(parts) + "\n"


def _main(content: _Record, picture: str) -> list[str]:
    if not content["networks"]:
        return ["`test` has not been read: the found networks are not named yet, or not trained."]
    unit, per_mj = _unit(content)
    rows = [
        [
            name,
            ", ".join(role for role in own["roles"] if role != name) or "hand-made",
            own["family"],
            f"{own['parameters']:,.0f}",
            f"{own['operations']:,.0f}",
            f"**{_spread(own['test'], 100, '.2f')}**",
            _spread(own["energy_mj"], per_mj, ".3g"),
            _spread(own["strict_mj"], per_mj, ".3g"),
        ]
        for name, own in content["networks"].items()
    ]
    header = ["network", "chosen as", "family", "parameters", "operations", "test, %"]
    seeds = len(next(iter(content["networks"].values()))["test"])
    against = [
        [
            row["network"],
            row["against"],
            _interval(row["accuracy"], 100, "+.2f"),
            _interval(row["paper"], 1, ".3f"),
            _interval(row["strict"], 1, ".3f"),
        ]
        for row in content["against"]
    ]
    goals = [f"- {name}: {said}." for name, said in content["goals"].items()]
    return [
        f"## Trained from scratch with one recipe, {seeds} seeds each\n\nMean ± standard deviation over the "
        "seeds; energies are estimates from operation counts, for one image of `test`.",
        _table([*header, f"{unit}, paper's account", f"{unit}, strict"], rows),
        "Found against hand-made networks, paired by seed. All intervals hold together with 95 % confidence "
        "(accuracies: randomised blocks; energies: a variance for each pair); they say nothing of other "
        "images or another search.",
        _table(["network", "against", "accuracy, points", "energy, paper", "energy, strict"], against),
        f"The goals, against {content['first']}: 2 points more at no more energy; half of the energy at less "
        "than a point less; both under both accounts.",
        "\n".join(goals),
        f"![The networks: accuracy over energy, with standard deviations]({picture})",
    ]


def _searches(content: _Record) -> list[str]:
    rows = [
        [
            family,
            _METHODS.get(stage, stage),
            str(own["networks"]),
            f"{own['core_hours']:.2f}",
            *(
                _value(own[account][name])
                for account in ("paper", "strict")
                for name in ("hypervolume", "accuracy", "energy")
            ),
        ]
        for family, stages in content["searches"].items()
        for stage, own in stages.items()
    ]
    header = ["families", "method", "trained", "core-hours"]
    for account in ("paper", "strict"):
        header += [f"hypervolume, {account}", "accuracy at equal energy", "energy at equal accuracy"]
    return [
        "## The searches, and random search for the same processor time",
        "On `search`, one training of each network and one run of each method, beside one training of "
        f"{content['first']}. Hypervolume: share of the box between chance and 1, and between 1/300 and 3 "
        "times that network's energy on a logarithmic axis. The cost of `refine` includes the supernet and "
        "its search, and the training of the reference, which is not counted as found."
        + (_FRONTS if any("front" in stages for stages in content["searches"].values()) else ""),
        _table(header, rows),
    ]


def _recipe(content: _Record) -> list[str]:
    rates = content["tuning"]
    names = list(next(iter(rates.values())))
    tuned = [[rate, *(f"{100 * own[name]:.2f}" for name in names)] for rate, own in rates.items()]
    lengths = sorted({int(updates) for own in content["enough"].values() for updates in own})
    doubled = {
        name: [100 * own[str(updates)] for updates in lengths]
        for name, own in content["enough"].items()
        if len(own) == len(lengths)
    }
    longer = [
        [name, *(f"{value:.2f}" for value in own), f"{own[-1] - own[0]:+.2f}"]
        for name, own in doubled.items()
    ]
    return [
        "## The recipe",
        "Tuned on hand-made networks only: accuracy on `search` in %, by peak learning rate. "
        f"{content['recipe']['learning_rate']:g} is used for all.",
        _table(["rate", *names], tuned),
        "Whether it trains enough: the same networks with twice the updates, accuracy on `search` in %. "
        + _enough([own[-1] - own[0] for own in doubled.values()]),
        _table(["network", *(f"{updates:,} updates" for updates in lengths), "change"], longer),
    ]


def _enough(changes: Sequence[float]) -> str:
    if not changes:
        return "Not measured yet."
    change, error = mean(changes), stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.inf
    spread = f"({min(changes):+.2f} to {max(changes):+.2f}, standard error of the average {error:.2f})"
    judged = (
        f"less than the {_ENOUGH} points that count as trained enough"
        if abs(change) < _ENOUGH
        else f"this is a result of short trainings ({_ENOUGH} points were allowed)"
    )
    unsure = ", which these few trainings cannot tell apart from more" if error > _ENOUGH / 2 else ""
    return f"They change by {change:+.2f} points on average {spread}: {judged}{unsure}."


def _costs(content: _Record) -> str:
    spent = content["core_hours"]
    shown = ", ".join(f"{stage} {hours:.2f}" for stage, hours in spent.items())
    return (
        f"## Cost\n\nCore-hours (processor time; pieces that were killed are not counted): {shown}; "
        f"{sum(spent.values()):.2f} of {content['budget']:g} in all. {content['machine']}. Data: "
        f"`{content['about']['data']}`."
    )


def figure(content: _Record) -> Figure:
    """Accuracy over energy under both accounts, with standard deviations."""
    drawn = Figure(figsize=(9, 4.5), layout="constrained")
    unit, per_mj = _unit(content)
    axes = drawn.subplots(1, 2, sharey=True)
    for axis, (title, key) in zip(
        axes, (("paper's account", "energy_mj"), ("strict account", "strict_mj")), strict=True
    ):
        for name, own in content["networks"].items():
            axis.errorbar(
                per_mj * mean(own[key]),
                100 * mean(own["test"]),
                xerr=per_mj * stdev(own[key]),
                yerr=100 * stdev(own["test"]),
                fmt="s" if own["roles"][0] == name else "o",
                label=name,
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(f"energy in {unit}, {title}")
    axes[0].set_ylabel("accuracy on test in %")
    if content["networks"]:
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    drawn.suptitle(content["images"], fontsize=9)
    return drawn


def _unit(content: _Record) -> tuple[str, float]:
    """Name of the energies' unit and how many make a mJ."""
    return energy_unit(max((mean(own["energy_mj"]) for own in content["networks"].values()), default=1.0))


def _spread(values: Sequence[float], scale: float, form: str) -> str:
    scaled = [scale * value for value in values]
    return f"{mean(scaled):{form}} ± {stdev(scaled):{form.replace('.3g', '.2g')}}"


def _interval(interval: Sequence[float] | None, scale: float, form: str) -> str:
    if interval is None:
        return _NONE
    estimate, low, high = (scale * value for value in interval)
    return f"{estimate:{form}} ({low:{form}} to {high:{form}})"


def _value(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
