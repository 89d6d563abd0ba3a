"""What did the search learn? Importances, the genes along the front, progress."""

from __future__ import annotations

from collections.abc import Sequence

from aspk.report.figures import (
    SVG_INK,
    best_so_far_figure,
    genes_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
)
from aspk.report.page.content import Content
from aspk.report.page.document import chart, table, text
from aspk.report.summary import StudySummary
from aspk.report.tables import (
    compare_rows,
    incomparable,
    number,
    progress_rows,
)


def learned(content: Content) -> list[str]:
    """The answer, part by part."""
    summary, parts = content.summary, []
    if content.importances:
        note = (
            "Share of the variance that a gene takes part in, alone or with others: what a random forest "
            "loses on left-out trials when the gene's values are shuffled. It covers only the networks that "
            "the search evaluated, so a gene that was settled early looks unimportant."
        )
        parts.append(
            chart("importance", importance_figure(content.importances, SVG_INK), "Importance of genes", note)
        )
    if len(summary.front) > 1:
        note = (
            "From a gene's first choice (dark) to its last (bright); a gap is a block missing in a network."
        )
        parts.append(chart("genes", genes_figure(summary, SVG_INK), "Genes along the front", note))
    if len(summary.trials) > 1 and any(row.parameters for row in summary.trials):
        figure = parallel_figure(summary, SVG_INK, unit=content.unit)
        said = "Drag along an axis to keep only the networks in that range; the table follows."
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
