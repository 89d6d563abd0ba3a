"""A surrogate's skill on a study's own trials: rank correlation and calibration as trials accumulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from optuna.study import Study

from aspk.errors import AspkError, StudyError
from aspk.report.figures import LINES, PALE, label, png, style_axes
from aspk.report.summary import summarise
from aspk.report.tables import align
from aspk.space.file import space_from_dict
from aspk.surrogate import AccuracySurrogate, Skill, learning_curve
from aspk.util.files import write_atomically

_SIZES = (10, 20, 40, 80, 160, 320, 640)
_LEAST_LEFT_OUT = 0.2  # of the trials, and never fewer than the next line
_FEWEST_LEFT_OUT = 5  # the minimum of learning_curve
_RIGHT = {"within_1": 0.683, "within_2": 0.954}  # shares for a normal distribution


def study_skill(study: Study, *, draws: int = 10, seed: int = 0, workers: int = 1) -> dict[str, list[Skill]]:
    """The surrogate's skill on each objective, by number of training trials.

    Args:
        study: a study made by aspk, with at least 15 complete trials.
        draws: random training sets of each size.
        seed: seed of the draws.
        workers: processes that fit in parallel; their number does not change the result.

    Raises:
        StudyError: the study has too few trials, or does not hold its search space.
    """
    summary = summarise(study)
    try:
        space = space_from_dict(summary.space, where=f"study {summary.name!r}")
        X = np.array([space.from_parameters(row.parameters) for row in summary.trials])
    except AspkError as error:
        raise StudyError(
            f"study {summary.name!r} holds no search space that fits its trials: {error}"
        ) from None
    most = len(X) - max(_FEWEST_LEFT_OUT, _LEAST_LEFT_OUT * len(X))
    sizes = [size for size in _SIZES if size <= most]
    if not sizes:
        raise StudyError(
            f"study {summary.name!r} has {len(X)} complete trials: expected at least 15, to learn from 10"
        )
    surrogate = AccuracySurrogate(space)
    columns = np.array([row.values for row in summary.trials]).T
    return {
        name: learning_curve(
            surrogate, X, y, np.random.default_rng(seed), sizes=sizes, draws=draws, workers=workers
        )
        for name, y in zip(summary.objectives, columns, strict=True)
    }


def skill_text(skills: Mapping[str, Sequence[Skill]]) -> str:
    """The skills as a table."""
    header = ["objective", "learnt from", "Kendall's tau", "quartiles", "error / std", "in 1 std", "in 2 std"]
    rows = [
        [
            name,
            str(s.size),
            f"{s.tau:.3f}",
            f"{s.low:.3f} to {s.high:.3f}",
            f"{s.error:.3f}",
            f"{s.within_1:.0%}",
            f"{s.within_2:.0%}",
        ]
        for name, curve in skills.items()
        for s in curve
    ]
    note = "on trials not learnt from; a calibrated surrogate has 68% and 95% of them within one and two std"
    return f"{align(header, rows)}\n{note}"


def skill_figure(skills: Mapping[str, Sequence[Skill]]) -> Figure:
    """Rank correlation and calibration over the number of training trials."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, title in (
        (left, "Kendall's tau, quartiles shaded"),
        (right, "share within 1 std (dashed) and 2 std"),
    ):
        style_axes(ax, "#1f2328")
        ax.set_xscale("log")
        ax.set_xlabel("trials learnt from")
        ax.set_title(title, fontsize=9)
    for color, (name, curve) in zip(LINES, skills.items(), strict=False):
        sizes = [s.size for s in curve]
        left.plot(sizes, [s.tau for s in curve], color=color, marker="o", label=label(name))
        left.fill_between(sizes, [s.low for s in curve], [s.high for s in curve], color=color, alpha=0.15)
        for field, style in (("within_1", "--"), ("within_2", "-")):
            right.plot(sizes, [getattr(s, field) for s in curve], style, color=color, marker="o")
    for share in _RIGHT.values():
        right.axhline(share, color=PALE, linewidth=0.8)
    for ax in (left, right):
        ticks = [s.size for s in next(iter(skills.values()), [])]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.0)
    left.legend(frameon=False, fontsize=8)
    return figure


def write_skill_figure(skills: Mapping[str, Sequence[Skill]], path: Path) -> None:
    """Write the figure as PNG, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, png(skill_figure(skills)))
