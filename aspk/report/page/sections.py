"""The report's answers to four questions, and what stands folded below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aspk.energy import NOTHING
from aspk.errors import AspkError
from aspk.report.figures import (
    SVG_INK,
    best_so_far_figure,
    energy_figure,
    front_figure,
    genes_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
)
from aspk.report.figures.front import by_trial
from aspk.report.page.content import Content
from aspk.report.page.document import chart, command, folded, section, table, text
from aspk.report.page.networks import networks_html
from aspk.report.selection import Pick, selection_text
from aspk.report.summary import Row, StudySummary
from aspk.report.tables import (
    columns,
    compare_rows,
    incomparable,
    no_front_text,
    number,
    progress_rows,
    statistics_text,
)
from aspk.report.trained import mean
from aspk.space.file import space_from_dict
from aspk.trials.verdict import is_warning

_TRUSTED = "Ranking of this supernet: trusted"


def body(content: Content) -> list[str]:
    """All parts of the page."""
    return [
        _head(content),
        section("Which network should I take?", "which", *_which(content)),
        section("How sure is that?", "sure", *_sure(content)),
        section("What did the search learn?", "learned", *_learned(content)),
        section("What is this network?", "what", *_what(content)),
        section("Study", "study", *_study(content)),
    ]


# ---------------------------------------------------------------------- the head


def _head(content: Content) -> str:
    summary = content.summary
    goals = ", ".join(
        f"{direction} {text(name)}"
        for name, direction in zip(summary.objectives, summary.directions, strict=True)
    )
    told = [f"{number(summary.evaluations)} of {_planned(summary)} networks evaluated", _when(summary)]
    told += [f"sampler {text(summary.sampler)}"]
    return (
        f"<header><h1>{text(summary.name)}</h1><p>{goals}</p>"
        f'<p class="note">{" · ".join(part for part in told if part)}</p></header>\n'
    )


def _planned(summary: StudySummary) -> str:
    planned = summary.spec.get("evaluations")
    return number(planned) if isinstance(planned, int) else number(summary.evaluations)


def _when(summary: StudySummary) -> str:
    """When the search ran."""
    if summary.began is None or summary.ended is None:
        return ""
    took = summary.ended - summary.began
    seconds = took.total_seconds()
    said = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    said = said if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{summary.began:%Y-%m-%d %H:%M}, {said} from the first to the last"


# ---------------------------------------------------------------------- which network


def _which(content: Content) -> list[str]:
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
    """The front as a table, which scripts sort, filter, and fill with all trials."""
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
    return {"energy": f"energy, {content.unit.name}"}.get(name, name.replace(" mJ", f" {content.unit.name}"))


def _cell(content: Content, name: str, value: object) -> str:
    energy = name == "energy" or name.endswith(" mJ")
    if energy and isinstance(value, float):
        value = value * content.unit.per_mj
    return text(number(value))


def _genes(row: Row) -> str:
    said = "<br>".join(f"{text(name)} = {text(number(value))}" for name, value in row.parameters.items())
    return f"<details><summary>{len(row.parameters)} genes</summary>{said}</details>"


# ---------------------------------------------------------------------- how sure


def _sure(content: Content) -> list[str]:
    summary = content.summary
    parts = []
    if summary.verdict:
        trusted = summary.verdict.startswith(_TRUSTED) and not is_warning(summary.verdict)
        kind = "verdict" if trusted else "verdict warning"
        parts.append(f'<p class="{kind}">{text(summary.verdict)}</p>\n')
    parts += [f'<p class="warn">{text(note)}</p>\n' for note in summary.notes]
    parts.append(f"<ul>{''.join(f'<li>{line}</li>' for line in _reasons(content))}</ul>\n")
    trained = _trained(content)
    return [*parts, trained] if trained else parts


def _reasons(content: Content) -> list[str]:
    """What the numbers above are worth, each a line of HTML."""
    summary, chosen = content.summary, content.selection.chosen
    found = []
    if summary.images and chosen and chosen.standard_error is not None:
        found.append(
            f"Accuracies were measured on {number(summary.images)} images of the split <i>search</i>; the "
            f"standard error of {chosen.name} is {chosen.standard_error:.4f}, drawn as bars in the figure."
        )
    elif chosen and chosen.accuracy is not None:
        found.append("On how many images accuracies were measured is not recorded: no standard errors.")
    if chosen and chosen.accuracy is not None:
        found.append(
            f"The best of {number(summary.evaluations)} measured networks is rather too good: what was "
            "picked for its accuracy will fall back a little on other images."
        )
        if summary.statistics:
            found.append(
                f"{text(statistics_text(summary))} Accuracies are those of the supernet's weights, not of "
                "networks trained alone."
            )
        wanted = sorted({pick.row.number for pick in content.picks.values()})
        if not by_trial(content.trained):
            words = f"aspk retrain {content.command} {' '.join(f'--trial {number}' for number in wanted)}"
            found.append(f"Nothing was trained alone or measured on <i>test</i> yet: {command(words)}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items())) or "none"
    found.append(f"Trials: {states}; {_planned(summary)} networks were asked for.")
    found.append(
        f"Energies are estimates from operation counts under the account {text(content.account.name)} "
        f"({content.account.mac_pj:g} pJ a multiply-accumulate, {content.account.ac_pj:g} pJ an accumulate), "
        "not a measurement."
    )
    return found


def _trained(content: Content) -> str:
    """Networks that were trained alone: what the search saw and what they came to."""
    rows, known = [], {row.number: row for row in content.summary.trials}
    names: dict[int, list[str]] = {}
    for pick in content.picks.values():
        names.setdefault(pick.row.number, []).append(pick.name)
    for trial, own in by_trial(content.trained).items():
        row = known.get(trial)
        test = [one.test for one in own]
        rows.append(
            [
                f"trial {trial} {', '.join(names.get(trial, []))}",
                f"{row.metrics.accuracy:.4f}" if row and row.metrics else NOTHING,
                f"{mean([one.search for one in own]):.4f}",
                f"{mean(test):.4f}" + (f" ({min(test):.4f} to {max(test):.4f})" if len(own) > 1 else ""),
                str(len(own)),
                content.energy(row.metrics.energy_mj if row and row.metrics else None),
                content.energy(mean([one.energy_mj for one in own])),
            ]
        )
    header = [
        "network",
        "in the search",
        "trained alone, search",
        "test",
        "seeds",
        "energy then",
        "energy now",
    ]
    return f"<h3>Trained alone</h3>{table(header, rows)}" if rows else ""


# ---------------------------------------------------------------------- what was learnt


def _learned(content: Content) -> list[str]:
    summary, parts = content.summary, []
    if content.importances:
        note = (
            "Share of the variance that a gene takes part in, alone or with others: what a random forest "
            "loses on trials left out when the gene's values are shuffled. Of the networks that the search "
            "looked at, so what it soon settled looks unimportant."
        )
        parts.append(
            chart("importance", importance_figure(content.importances, SVG_INK), "Importance of genes", note)
        )
    if len(summary.front) > 1:
        note = (
            "From a gene's first choice (dark) to its last (bright); a gap is a block that a network lacks."
        )
        parts.append(chart("genes", genes_figure(summary, SVG_INK), "Genes along the front", note))
    if len(summary.trials) > 1 and any(row.parameters for row in summary.trials):
        figure = parallel_figure(summary, SVG_INK, unit=content.unit)
        said = "Drag along an axis to keep the networks in a range; the table follows."
        note = f'<span class="alive" hidden>{said}</span>'
        parts.append(chart("parallel", figure, "Genes and objectives of every network", note))
    return [*parts, *_progress(content)]


def _progress(content: Content) -> list[str]:
    summary, summaries = content.summary, content.summaries
    if content.single:
        if len(summaries) == 1:
            return []
        return [chart("progress", best_so_far_figure(summaries, SVG_INK, unit=content.unit), "Best so far")]
    if not summary.front:
        return []
    kind = "anchors fixed by the study" if summary.fixed_anchors else "the range of this study's own trials"
    ends = "; ".join(
        f"{text(one.title)} from {number(ideal * one.per)} (ideal) to {number(nadir * one.per)}"
        for one, (ideal, nadir) in zip(content.measures, summary.anchors, strict=False)
    )
    note = (
        f"Hypervolume {number(summary.hypervolume)}: the share of the box between the anchors that the front "
        f"dominates; {kind}: {ends}."
    )
    parts = [chart("progress", hypervolume_figure(summaries, SVG_INK), "Hypervolume over evaluations", note)]
    return [*parts, *comparison_tables(summaries)] if len(summaries) > 1 else parts


def comparison_tables(summaries: Sequence[StudySummary]) -> list[str]:
    """What each study reached, and how soon."""
    parts = []
    for header, rows in (compare_rows(summaries), progress_rows(summaries)):
        cells = [[text(cell) for cell in row] for row in rows]
        parts.append(table([text(cell) for cell in header], cells) if len(header) > 1 else "")
    if why := incomparable(summaries):
        parts.append(f'<p class="warn">Not comparable: {text(why)}.</p>\n')
    return parts


# ---------------------------------------------------------------------- what is this network


def _what(content: Content) -> list[str]:
    if not content.networks:
        return ["<p>There is no network to show.</p>\n"]
    networks = networks_html(content)
    shown = [
        (title or f"trial {number}", row.metrics.layers)
        for number, (title, row) in content.networks.items()
        if title and row.metrics and row.metrics.layers
    ]
    if not shown:
        return ["<p>The trials carry no layer counts.</p>\n", networks]
    figure = energy_figure(shown, SVG_INK, unit=content.unit, model=content.account)
    return [networks, chart("energy", figure, "Energy of each layer", "Energy of each layer, on one axis.")]


# ---------------------------------------------------------------------- the study


def _study(content: Content) -> list[str]:
    summary = content.summary
    rows = [(name, value) for name, value in _flat(summary.spec) if value != ""]
    if summary.statistics:
        rows.append(("statistics taken", summary.statistics))
    rows += [(f"space.{name}", value) for name, value in _space(summary.space)]
    rows += [(f"version.{name}", value) for name, value in _flat(summary.context.get("versions", {}))]
    cells = [[text(name), text(value)] for name, value in rows]
    return [_f_aeb(content), folded("Settings", table(["setting", "value"], cells, kind="text"))]


def _f_aeb(content: Content) -> str:
    summary = content.summary
    faeb, best = summary.faeb, summary.best_f_aeb
    if faeb is None:
        return (
            "<p>The study does not define F_AEB: it needs a reference network and a number of classes.</p>\n"
        )
    reached = f" Best: {number(best[0])}, trial {best[1]}." if best else ""
    return (
        f"<p>F_AEB in the form <b>{faeb.form}</b>, weight w = {faeb.energy_weight:g}, {faeb.classes} "
        f"classes, reference energy {content.energy(faeb.reference_energy_mj)}, relative energy floored at "
        f"{faeb.floor:g}. Its trade: {text(faeb.trade())}.{reached}</p>\n"
    )


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
