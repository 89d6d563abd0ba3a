"""Tables of a study for the terminal and for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aspk.energy import NOTHING
from aspk.report.selection import Selection, select
from aspk.report.summary import Row, StudySummary, evaluations_to_reach
from aspk.util.files import write_atomically
from aspk.util.text import printable, to_csv

_SHARES = (0.9, 0.95, 0.99)  # of the best final hypervolume
_COUNTS = (25, 50, 100, 200, 400, 800)  # evaluations after which hypervolumes are compared


@dataclass(frozen=True)
class Column:
    """A column of the Pareto table."""

    header: str
    of: Callable[[Row], object]


def _objective_value(index: int, row: Row) -> float:
    return row.values[index]


def columns(summary: StudySummary) -> list[Column]:
    """The columns of the Pareto table for which this study has values."""
    found = [Column("trial", lambda row: row.number)]
    for index, name in enumerate(summary.objectives):
        found.append(Column(name, partial(_objective_value, index)))
    if summary.faeb:
        found.append(Column("F_AEB", lambda row: row.f_aeb))
    if any(row.alike > 1 for row in summary.front):
        found.append(Column("alike", lambda row: row.alike))
    metrics = [
        Column("accuracy", lambda row: row.metrics and row.metrics.accuracy),
        Column("paper mJ", lambda row: row.paper_mj),
        Column("strict mJ", lambda row: row.strict_mj),
        Column("parameters", lambda row: row.metrics and row.metrics.parameters),
        Column("operations", lambda row: row.metrics and row.metrics.operations),
        Column("firing rate", lambda row: row.metrics and row.metrics.firing_rate),
    ]
    known = {column.header for column in found}
    for column in metrics:
        if column.header not in known and any(column.of(row) is not None for row in summary.trials):
            found.append(column)
    return found


def number(value: object) -> str:
    """A value in readable form: four significant digits, thousands separated."""
    if value is None:
        return NOTHING
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        whole = value.is_integer() and 1e3 <= abs(value) < 1e15
        return f"{value:,.0f}" if whole else f"{value:.4g}"
    return printable(value)


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table: the first column left-aligned, the others right-aligned."""
    table = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(header))]

    def text(line: Sequence[str]) -> str:
        first, *others = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    return "\n".join([text(table[0]), "  ".join("-" * width for width in widths), *map(text, table[1:])])


def no_front_text(summary: StudySummary) -> str:
    """Why there is no front, and which trial comes nearest to the constraints."""
    said = "no feasible trial is complete, so there is no front"
    if (row := summary.nearest) is None:
        return said
    told = "{} by {:.3g} of its bound" if summary.spec else "{} by {:.3g}"
    broken = " and ".join(told.format(printable(name), excess) for name, excess in row.broken.items())
    return f"{said}; trial {row.number} comes nearest and exceeds {broken}"


def pareto_text(summary: StudySummary, selection: Selection | None = None) -> str:
    """The front as a table; a star marks the chosen network.

    Args:
        summary: the study.
        selection: which network is chosen; None is :func:`~aspk.report.selection.select`'s default.
    """
    if not summary.front:
        return f"{printable(summary.name)}: {no_front_text(summary)}"
    chosen = (selection or select(summary)).chosen
    assert chosen, "there is a front"
    shown = columns(summary)
    rows = []
    for row in summary.front:
        first, *others = (number(column.of(row)) for column in shown)
        rows.append([first + (" *" if row.number == chosen.row.number else ""), *others])
    table = align([column.header for column in shown], rows)
    return f"{table}\n* {chosen.name}; energies are estimates from operation counts, not measurements"


def compare_rows(summaries: Sequence[StudySummary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison of studies: what each reached, and how fast."""
    best = max((summary.hypervolume for summary in summaries), default=0.0)
    header = ["sampler", "evaluations", "hypervolume", "best F_AEB", "front"]
    header += [f"evaluations to {share:.0%}" for share in _SHARES]
    rows = []
    for title, summary in zip(titles(summaries), summaries, strict=True):
        targets = [share * best for share in _SHARES]
        reached = [evaluations_to_reach(summary.curve, target) if target > 0 else None for target in targets]
        f_aeb = summary.best_f_aeb[0] if summary.best_f_aeb else None
        shown: list[Any] = [summary.evaluations, summary.hypervolume, f_aeb, len(summary.front), *reached]
        rows.append([printable(title), *map(number, shown)])
    return header, rows


def progress_rows(summaries: Sequence[StudySummary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the hypervolumes after equal numbers of evaluations."""
    longest = max((len(summary.curve) for summary in summaries), default=0)
    counts = [count for count in _COUNTS if count <= longest]
    header = ["hypervolume after", *map(str, counts)]
    rows = [
        [printable(title), *(number(_at(summary.curve, count)) for count in counts)]
        for title, summary in zip(titles(summaries), summaries, strict=True)
    ]
    return header, rows


def _at(curve: Sequence[float], count: int) -> float | None:
    return curve[count - 1] if count <= len(curve) else None


def titles(summaries: Sequence[StudySummary]) -> list[str]:
    """Titles of the studies: their samplers, with names where samplers repeat or are unknown."""
    samplers = [summary.sampler for summary in summaries]
    return [
        one.sampler
        if samplers.count(one.sampler) == 1 and one.sampler != "unknown"
        else f"{one.sampler}: {one.name}"
        for one in summaries
    ]


def statistics_text(summary: StudySummary) -> str:
    """Which batch-normalisation statistics were used, and why; empty without a supernet."""
    if not summary.statistics:
        return ""
    evaluation = summary.spec.get("evaluation")
    auto = isinstance(evaluation, Mapping) and evaluation.get("statistics") == "auto"
    why = "which suit the recipe of the supernet" if auto else "with which the study was begun"
    return f"Networks were evaluated with {printable(summary.statistics)} statistics, {why}."


def incomparable(summaries: Sequence[StudySummary]) -> str:
    """Why the hypervolumes of these studies must not be compared; empty if they may be."""
    reasons = []
    if len({(summary.objectives, summary.anchors) for summary in summaries}) > 1:
        reasons.append("these hypervolumes are fractions of different boxes")
    if len({summary.statistics for summary in summaries}) > 1:
        taken = ", ".join(
            f"{printable(title)} {printable(summary.statistics) or 'none'}"
            for title, summary in zip(titles(summaries), summaries, strict=True)
        )
        reasons.append(f"networks were evaluated with different statistics ({taken})")
    forms = {replace(one.faeb, weight=one.faeb.energy_weight) for one in summaries if one.faeb is not None}
    if len(forms) > 1:
        reasons.append("F_AEB is not the same function in all of them")
    return "; ".join(reasons)


def compare_text(summaries: Sequence[StudySummary]) -> str:
    """Studies side by side: what each sampler reached, and how fast."""
    header, rows = progress_rows(summaries)
    text = align(*compare_rows(summaries)) + (f"\n\n{align(header, rows)}" if len(header) > 1 else "")
    why = incomparable(summaries)
    return f"{text}\nnot comparable: {why}" if why else text


def csv_text(summary: StudySummary) -> str:
    """The front with full precision, parameters as further columns; no text can start a formula.

    A parameter with the name of another column has ``(parameter)`` behind its name.
    """
    return to_csv(_csv_rows(summary))


def csv_of_fronts(first: str, fronts: Sequence[tuple[str, StudySummary]]) -> str:
    """Several fronts of one study as CSV; a cell is empty where a front lacks a column.

    Args:
        first: header of the first column.
        fronts: the fronts, each behind what stands in the first column of its rows.
    """
    tables = [(name, _csv_rows(summary)) for name, summary in fronts]
    header = list(dict.fromkeys(cell for _, (own, *_) in tables for cell in own))
    table: list[list[object]] = [[first, *(cell + " (study)" if cell == first else cell for cell in header)]]
    for name, (own, *rows) in tables:
        for row in rows:
            cells = dict(zip(own, row, strict=True))
            table.append([name, *(cells.get(column, "") for column in header)])
    return to_csv(table)


def _csv_rows(summary: StudySummary) -> list[list[Any]]:
    """The header, in which every name is there once, and the rows."""
    shown = columns(summary)
    names = list(dict.fromkeys(name for row in summary.front for name in row.parameters))
    headers = [column.header for column in shown]
    headers += [f"{name} (parameter)" if name in headers else name for name in names]
    rows = [
        [*(column.of(row) for column in shown), *(row.parameters.get(name, "") for name in names)]
        for row in summary.front
    ]
    return [headers, *rows]


def write_csv(summary: StudySummary, path: str | Path) -> None:
    """Write the front as CSV, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(Path(path), csv_text(summary))
