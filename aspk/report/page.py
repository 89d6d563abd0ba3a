"""The report: one HTML page that needs nothing beside it, figures as PNG, and the front as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from optuna.study import Study

from aspk.energy import NOTHING, PAPER, STRICT, energy_mj, energy_unit, layer_energy, site_flag
from aspk.errors import AspkError, StudyError
from aspk.metrics import LayerCount
from aspk.report.figures import SVG_INK, energy_figure, front_figure, hypervolume_figure, png, svg
from aspk.report.selection import MARGIN, Selection, select, selection_text
from aspk.report.style import STYLE
from aspk.report.summary import Row, StudySummary, summarise
from aspk.report.tables import (
    columns,
    compare_rows,
    csv_text,
    incomparable,
    no_front_text,
    number,
    progress_rows,
    statistics_text,
)
from aspk.space.file import space_from_dict
from aspk.trials.verdict import is_warning
from aspk.util.files import write_atomically
from aspk.util.text import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # the page loads nothing and runs nothing
_ESTIMATE = (
    "Energy here is an estimate from operation counts, not a measurement: "
    f"{PAPER.mac_pj:g} pJ for a multiply-accumulate (MAC) and {PAPER.ac_pj:g} pJ for an accumulate (AC), "
    "45 nm. Batch normalisation, neuron updates, memory traffic and address events are not in it. "
    "“Paper” is the account that published Spikformer figures use; “strict” bills every layer that reads "
    "the integer residual stream as dense MACs."
)


def write_report(
    study: Study,
    folder: str | Path,
    trials: Sequence[int] | None = None,
    others: Iterable[Study] = (),
    *,
    selection: str = "cheapest",
    margin: float = MARGIN,
) -> Path:
    """Write ``report.html``, ``front.png``, ``hypervolume.png``, ``energy.png`` and ``pareto.csv``.

    Args:
        study: the study to report on; it is only read.
        folder: made if need be. File names never depend on the study.
        trials: numbers of the trials whose layers are shown; by default all that a rule of
            :func:`~aspk.report.selection.select` picks.
        others: studies to compare with.
        selection: the rule whose network is marked as the chosen one.
        margin: accuracy that ``cheapest`` may lose, 0.01 is one point.

    Returns:
        The path of the page.

    Raises:
        StudyError: a trial in ``trials`` is not a complete trial of the study, or there is no such rule.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    summary = summarise(study)
    summaries = [summary, *map(summarise, others)]
    picked = select(summary, selection, margin=margin)
    shown = _shown(summary, picked, trials)
    networks = [(title, row.metrics.layers) for title, row in shown if row.metrics and row.metrics.layers]
    figures = {
        "front": front_figure(summary, selection=picked),
        "hypervolume": hypervolume_figure(summaries),
        "energy": energy_figure(networks),
    }
    for name, figure in figures.items():
        write_atomically(folder / f"{name}.png", png(figure))
    write_atomically(folder / "pareto.csv", csv_text(summary))
    page = folder / "report.html"
    write_atomically(page, _page(summary, summaries, picked, shown))
    return page


def _shown(
    summary: StudySummary, selection: Selection, trials: Sequence[int] | None
) -> list[tuple[str, Row]]:
    """The networks to show layer by layer, each once, with what it stands for."""
    rows = {row.number: row for row in summary.trials}
    if trials is not None:
        for wanted in trials:
            if wanted not in rows:
                raise StudyError(
                    f"study {summary.name!r} has no complete trial {wanted!r}; "
                    f"complete are {', '.join(map(str, rows)) or 'none'}"
                )
        return [(f"trial {wanted}", rows[wanted]) for wanted in dict.fromkeys(trials)]
    roles: dict[int, list[str]] = {}
    for pick in selection.picks.values():
        roles.setdefault(pick.row.number, []).append(pick.name)
    return [(f"trial {key}: {', '.join(names)}", rows[key]) for key, names in roles.items()]


# ---------------------------------------------------------------------- the page


def _page(
    summary: StudySummary,
    summaries: Sequence[StudySummary],
    selection: Selection,
    shown: list[tuple[str, Row]],
) -> str:
    sections = [
        _head(summary, selection),
        _section(
            "Pareto front",
            _figure(front_figure(summary, SVG_INK, selection), "Trials in objective space"),
            _front(summary, selection),
        ),
        _section("Hypervolume", *_progress(summary, summaries)),
        _section("Energy", *_energy(shown)),
        _section("F_AEB", _f_aeb(summary)),
        _section("Study", *_settings(summary)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{_text(summary.name)} · aspk</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>\n{''.join(sections)}</main></body></html>\n"
    )


def _text(value: object) -> str:
    return escape(printable(value))


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>\n{''.join(parts)}</section>\n"


def _figure(figure: Figure, title: str) -> str:
    return f"<figure>{svg(figure, escape(title))}</figure>\n"


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, marked: Sequence[int] = (), kind: str = ""
) -> str:
    """A table of cells that are HTML already."""
    lines = [f"<thead><tr>{_cells('th', header)}</tr></thead>"]
    for index, row in enumerate(rows):
        lines.append(f"<tr{' class=marked' if index in marked else ''}>{_cells('td', row)}</tr>")
    return f'<div class="scroll {kind}"><table>' + "\n".join(lines) + "</table></div>\n"


def _cells(tag: str, row: Sequence[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in row)


def _head(summary: StudySummary, selection: Selection) -> str:
    best, chosen = summary.best_f_aeb, selection.chosen
    tiles = {
        "sampler": _text(summary.sampler),
        "evaluations": number(summary.evaluations),
        "front": number(len(summary.front)),
        "hypervolume": number(summary.hypervolume),
        "best F_AEB": f"{number(best[0])} <small>trial {best[1]}</small>" if best else NOTHING,
        "chosen": f"trial {chosen.row.number} <small>{chosen.name}</small>" if chosen else NOTHING,
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    lines = [line for line in (summary.verdict, statistics_text(summary)) if line]
    said = "".join(f'<p class="{_class_of(line)}">{_text(line)}</p>\n' for line in lines)
    notes = "".join(f'<p class="note">{_text(note)}</p>\n' for note in summary.notes)
    goals = ", ".join(
        f"{direction} {_text(name)}"
        for name, direction in zip(summary.objectives, summary.directions, strict=True)
    )
    return f"<header><h1>{_text(summary.name)}</h1><p>{goals}</p></header>\n<dl>{cells}</dl>\n{said}{notes}"


def _class_of(line: str) -> str:
    return "verdict warning" if is_warning(line) else "verdict"


def _front(summary: StudySummary, selection: Selection) -> str:
    chosen = selection.chosen
    if chosen is None:
        said = no_front_text(summary)
        return f"<p>{_text(said[0].upper() + said[1:])}.</p>\n"
    shown = columns(summary)
    rows = [
        [*(escape(number(column.of(row))) for column in shown), _parameters(row)] for row in summary.front
    ]
    marked = [index for index, row in enumerate(summary.front) if row.number == chosen.row.number]
    header = [_text(column.header) for column in shown]
    said = f"The shaded row is the one {selection_text(selection)}."
    return _table([*header, "network"], rows, marked=marked) + f"<p class=note>{escape(said)}</p>\n"


def _parameters(row: Row) -> str:
    text = "<br>".join(f"{_text(name)} = {_text(number(value))}" for name, value in row.parameters.items())
    return f"<details><summary>{len(row.parameters)} genes</summary>{text}</details>"


def _progress(summary: StudySummary, summaries: Sequence[StudySummary]) -> list[str]:
    kind = "anchors fixed by the study" if summary.fixed_anchors else "the range of this study's own trials"
    ends = "; ".join(
        f"{_text(name)} from {number(ideal)} (ideal) to {number(nadir)}"
        for name, (ideal, nadir) in zip(summary.objectives, summary.anchors, strict=True)
    )
    parts = [
        _figure(hypervolume_figure(summaries, SVG_INK), "Hypervolume over evaluations"),
        f"<p>The share of the box between the anchors that the front dominates; {kind}: {ends}.</p>\n",
    ]
    if len(summaries) > 1:
        for header, rows in (compare_rows(summaries), progress_rows(summaries)):
            cells = [[_text(cell) for cell in row] for row in rows]
            parts.append(_table([_text(cell) for cell in header], cells) if len(header) > 1 else "")
        if why := incomparable(summaries):
            parts.append(f"<p class=warn>Not comparable: {_text(why)}.</p>\n")
    return parts


def _energy(chosen: list[tuple[str, Row]]) -> list[str]:
    shown = [(title, row.metrics.layers) for title, row in chosen if row.metrics and row.metrics.layers]
    parts = [f"<p class=warn>{_ESTIMATE}</p>\n"]
    if not shown:
        return [*parts, "<p>The trials carry no layer counts.</p>\n"]
    parts.append(_figure(energy_figure(shown, SVG_INK), "Energy of each layer"))
    for index, (title, layers) in enumerate(shown):
        state = " open" if index == 0 else ""
        flags = _flag_count(layers)
        parts.append(f"<details{state}><summary>{_text(title)}{flags}</summary>{_layers(layers)}</details>\n")
    return parts


def _flag_count(layers: Sequence[LayerCount]) -> str:
    flags = [site_flag(layer) for layer in layers]
    counts = [f"{flags.count(name)} {name}" for name in ("dead", "saturated") if name in flags]
    return f' <span class="flag">{", ".join(counts)}</span>' if counts else ""


def _layers(layers: Sequence[LayerCount]) -> str:
    total = energy_mj(layers, PAPER)
    unit, per_mj = energy_unit(total)
    header = ["layer", "MAC", "AC", "firing rate in", "spikes out", "firing rate out"]
    rows = []
    for layer in layers:
        bill, strict, flag = layer_energy(layer, PAPER), layer_energy(layer, STRICT), site_flag(layer)
        rows.append(
            [
                _text(layer.name),
                *(f"{count:,.0f}" for count in (bill.mac, bill.ac)),
                NOTHING if layer.source == "image" else number(layer.firing_rate_in),
                number(layer.output_spikes) if layer.output_size else NOTHING,
                number(layer.firing_rate_out),
                number(bill.mj * per_mj),
                f"{bill.mj / total:.1%}" if total else NOTHING,
                number(strict.mj * per_mj),
                f'<span class="flag">{flag}</span>' if flag else "",
            ]
        )
    strict_total = number(energy_mj(layers, STRICT) * per_mj)
    rows.append(["total", *[""] * 5, number(total * per_mj), "", strict_total, ""])
    return _table([*header, unit, "share", f"strict {unit}", ""], rows, marked=[len(layers)])


def _f_aeb(summary: StudySummary) -> str:
    faeb = summary.faeb
    if faeb is None:
        return (
            "<p>The study does not define F_AEB: it needs a reference network and a number of classes.</p>\n"
        )
    return (
        f"<p>Form <b>{faeb.form}</b>, weight w = {faeb.energy_weight:g}, {faeb.classes} classes, "
        f"reference energy {number(faeb.reference_energy_mj)} mJ, relative energy floored at {faeb.floor:g}. "
        f"Its trade: {escape(faeb.trade())}.</p>\n"
    )


def _settings(summary: StudySummary) -> list[str]:
    rows = [(name, value) for name, value in _flat(summary.spec) if value != ""]
    if summary.statistics:
        rows.append(("statistics taken", summary.statistics))
    rows += [(f"space.{name}", value) for name, value in _space(summary.space)]
    rows += [(f"version.{name}", value) for name, value in _flat(summary.context.get("versions", {}))]
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items())) or "none"
    rows.append(("trials", states))
    return [_table(["setting", "value"], [[_text(name), _text(value)] for name, value in rows], kind="text")]


def _space(space: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not space:
        return []
    try:
        read = space_from_dict(space)
    except AspkError as error:
        return [("error", str(error))]
    return [("name", read.name), ("networks", f"{read.size:,}"), ("fingerprint", read.fingerprint[:16])]


def _flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names."""
    if isinstance(value, Mapping):
        return [
            row
            for key, item in value.items()
            for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return [(prefix, shown)]
