"""Which network should I take? The picks, the trials in objective space and as a table."""

from __future__ import annotations

from aspk.energy import NOTHING
from aspk.report.figures import (
    SVG_INK,
    best_so_far_figure,
    front_figure,
)
from aspk.report.measures import has_energies
from aspk.report.page.content import Content
from aspk.report.page.document import chart, command, table, text
from aspk.report.selection import Pick, selection_text
from aspk.report.summary import Row
from aspk.report.tables import (
    columns,
    no_front_text,
    number,
)


def which(content: Content) -> list[str]:
    """The answer, part by part."""
    summary, selection = content.summary, content.selection
    title = "Best value so far" if content.single else "Trials in objective space"
    figure = (
        best_so_far_figure([summary], SVG_INK, unit=content.unit)
        if content.single
        else front_figure(summary, SVG_INK, selection, unit=content.unit, trained=content.trained)
    )
    drawn = chart("front", figure, title)
    if selection.chosen is None:
        said = no_front_text(summary)
        return [f'<p class="warn">{text(said[0].upper() + said[1:])}.</p>\n', drawn, _trials(content)]
    return [
        _picks(content),
        f"<p class=note>{text(selection_text(selection, *content.unit))}.</p>\n",
        drawn,
        _trials(content),
    ]


def _picks(content: Content) -> str:
    reference = content.summary.reference
    header = ["take", "trial", "accuracy", "energy", "× reference", "command"]
    rows = []
    for pick in content.picks.values():
        ratio = None
        if pick.energy_mj is not None and reference and reference.energy_mj:
            ratio = pick.energy_mj / reference.energy_mj
        rows.append(
            [
                f"<b>{pick.name}</b>",
                f'<a class="trial" href="#what" data-trial="{pick.row.number}">{pick.row.number}</a>',
                _accuracy(pick),
                content.energy(pick.energy_mj),
                NOTHING if ratio is None else f"{ratio:.2f}",
                command(content.export(pick.row.number)),
            ]
        )
    if reference:
        values = [f"{reference.accuracy:.4f}", content.energy(reference.energy_mj), "1", ""]
        rows.append(["reference", "", *values])
    chosen = content.selection.chosen
    marked = [index for index, name in enumerate(content.picks) if chosen and chosen.name == name]
    return table(header, rows, marked=marked, kind="picks") if rows else ""


def _accuracy(pick: Pick) -> str:
    if pick.accuracy is None:
        return NOTHING
    error = "" if pick.standard_error is None else f" <small>± {pick.standard_error:.4f}</small>"
    return f"{pick.accuracy:.4f}{error}"


def _trials(content: Content) -> str:
    """The front as a table; scripts make it sortable and filterable and add all trials."""
    summary = content.summary
    rows = [
        [*(_cell(content, column.header, column.of(row)) for column in columns(summary)), _genes(row)]
        for row in summary.front
    ]
    chosen = content.selection.chosen
    marked = [i for i, row in enumerate(summary.front) if chosen and row.number == chosen.row.number]
    header = [text(_header(content, column.header)) for column in columns(summary)]
    still = table([*header, "network"], rows, marked=marked) if rows else ""
    if not summary.trials:
        return ""
    title = "The networks of the front" if summary.front and not content.single else "Networks"
    return (
        f'<div id="trials"><h3>{title}</h3><div class="still">{still}</div>'
        '<div class="live" hidden></div></div>\n'
    )


def _header(content: Content, name: str) -> str:
    if not has_energies(content.summary):
        return name
    return {"energy": f"energy, {content.unit.name}"}.get(name, name.replace(" mJ", f" {content.unit.name}"))


def _cell(content: Content, name: str, value: object) -> str:
    energy = name == "energy" or name.endswith(" mJ")
    if energy and isinstance(value, float) and has_energies(content.summary):
        value = value * content.unit.per_mj
    return text(number(value))


def _genes(row: Row) -> str:
    said = "<br>".join(f"{text(name)} = {text(number(value))}" for name, value in row.parameters.items())
    return f"<details><summary>{len(row.parameters)} genes</summary>{said}</details>"
