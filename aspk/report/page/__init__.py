"""The report: one self-contained HTML page, figures for a paper, and the front as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure
from optuna.study import Study

from aspk.errors import StudyError
from aspk.report.diagram import diagram_svg
from aspk.report.figures import (
    INK,
    best_so_far_figure,
    energy_figure,
    front_figure,
    genes_figure,
    hypervolume_figure,
    importance_figure,
    pdf,
    png,
    svg,
)
from aspk.report.page.content import Content, gather
from aspk.report.page.data import page_data
from aspk.report.page.document import document
from aspk.report.page.sections import body
from aspk.report.selection import MARGIN, Selection, select
from aspk.report.structure import network_parts
from aspk.report.summary import Row, StudySummary, summarise
from aspk.report.tables import csv_text
from aspk.report.trained import trained_networks
from aspk.util.files import write_atomically

PAGE = "report.html"


def write_report(
    study: Study,
    folder: str | Path,
    trials: Sequence[int] | None = None,
    others: Iterable[Study] = (),
    *,
    selection: str = "cheapest",
    margin: float = MARGIN,
    trained: Path | None = None,
    command: str | None = None,
) -> Path:
    """Write ``report.html``, its figures as PNG, SVG and PDF, and ``pareto.csv``.

    Args:
        study: the study to report on; it is only read.
        folder: created if missing. File names never depend on the study.
        trials: numbers of the trials whose layers are shown; by default all those picked by a rule of
            :func:`~aspk.report.selection.select`.
        others: studies to compare with.
        selection: the rule whose network is marked as the chosen one.
        margin: accuracy that ``cheapest`` may give up; 0.01 is one point.
        trained: the study's folder, where 'aspk retrain' stored networks that were trained alone.
        command: the arguments by which a command names the study, such as ``digits --sampler nsga2``; None
            uses the study's name.

    Returns:
        The path of the page.

    Raises:
        StudyError: a trial in ``trials`` is not a complete trial of the study, or there is no such rule.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    summary = summarise(study)
    picked = select(summary, selection, margin=margin)
    content = gather(
        summary,
        [summarise(other) for other in others],
        picked,
        _shown(summary, picked, trials),
        trained=trained_networks(trained, summary.name) if trained else (),
        command=command,
    )
    for name, draw in _figures(content).items():
        write_atomically(folder / f"{name}.png", png(draw()))
        write_atomically(folder / f"{name}.svg", svg(draw(), escape(name), alone=True) + "\n")
        write_atomically(folder / f"{name}.pdf", pdf(draw()))
    if drawing := _drawing(content):
        write_atomically(folder / "network.svg", drawing + "\n")
    write_atomically(folder / "pareto.csv", csv_text(summary))
    write_atomically(folder / PAGE, document(summary.name, body(content), page_data(content)))
    return folder / PAGE


def _figures(content: Content) -> Mapping[str, Callable[[], Figure]]:
    """The figures for a paper, each drawn anew for each format."""
    summary, unit = content.summary, content.unit
    shown = [
        (title, row.metrics.layers)
        for title, row in content.networks.values()
        if title and row.metrics and row.metrics.layers
    ]
    drawn: dict[str, Callable[[], Figure]] = {
        "front": lambda: front_figure(summary, INK, content.selection, unit=unit, trained=content.trained),
        "hypervolume": lambda: hypervolume_figure(content.summaries),
        "energy": lambda: energy_figure(shown, unit=unit, model=content.account),
        "importance": lambda: importance_figure(content.importances),
        "genes": lambda: genes_figure(summary),
    }
    if content.single:
        drawn["best"] = lambda: best_so_far_figure(content.summaries, unit=unit)
        del drawn["hypervolume"], drawn["front"]
    return drawn


def _drawing(content: Content) -> str:
    """The chosen network as a drawing; empty where the study does not describe it."""
    first = next(iter(content.networks.items()), None)
    if first is None:
        return ""
    trial, (_, row) = first
    parts = network_parts(content.summary, row, content.account)
    if not parts or row.metrics is None:
        return ""
    steps = row.metrics.layers[0].repeats
    return diagram_svg(parts, f"network of trial {trial}", steps=steps, alone=True)


def _shown(
    summary: StudySummary, selection: Selection, trials: Sequence[int] | None
) -> dict[int, tuple[str, Row]]:
    """The networks to show, by trial: picks with their rules, then the rest of the front."""
    rows = {row.number: row for row in summary.trials}
    if trials is not None:
        for wanted in trials:
            if wanted not in rows:
                raise StudyError(
                    f"study {summary.name!r} has no complete trial {wanted!r}; "
                    f"complete are {', '.join(map(str, rows)) or 'none'}"
                )
    roles: dict[int, list[str]] = {}
    chosen = selection.chosen
    for pick in sorted(selection.picks.values(), key=lambda pick: pick != chosen):
        if pick.name != "knee" or len(summary.objectives) > 1:
            roles.setdefault(pick.row.number, []).append(pick.name)
    order = [*(trials or roles), *roles, *(row.number for row in summary.front)]
    named = set(trials) if trials is not None else set(roles)
    return {
        number: (", ".join(roles.get(number, [])) or "requested" if number in named else "", rows[number])
        for number in dict.fromkeys(order)
    }
