"""The report's parts: its header, the answers to four questions, and the folded study settings below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aspk.errors import AspkError
from aspk.report.figures import (
    SVG_INK,
    energy_figure,
)
from aspk.report.page.content import Content
from aspk.report.page.document import chart, folded, section, table, text
from aspk.report.page.learned import learned
from aspk.report.page.networks import networks_html
from aspk.report.page.sure import planned, sure
from aspk.report.page.which import which
from aspk.report.summary import StudySummary
from aspk.report.tables import (
    number,
)
from aspk.space.file import space_from_dict


def body(content: Content) -> list[str]:
    """All parts of the page."""
    return [
        _head(content),
        section("Which network should I take?", "which", *which(content)),
        section("How sure is that?", "sure", *sure(content)),
        section("What did the search learn?", "learned", *learned(content)),
        section("What is this network?", "what", *_what(content)),
        section("Study", "study", *_study(content)),
    ]


def _head(content: Content) -> str:
    summary = content.summary
    goals = ", ".join(
        f"{direction} {text(name)}"
        for name, direction in zip(summary.objectives, summary.directions, strict=True)
    )
    told = [f"{number(summary.evaluations)} of {planned(summary)} networks evaluated", _when(summary)]
    told += [f"sampler {text(summary.sampler)}"]
    return (
        f"<header><h1>{text(summary.name)}</h1><p>{goals}</p>"
        f'<p class="note">{" · ".join(part for part in told if part)}</p></header>\n'
    )


def _when(summary: StudySummary) -> str:
    """When the search ran."""
    if summary.began is None or summary.ended is None:
        return ""
    took = summary.ended - summary.began
    seconds = took.total_seconds()
    said = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    said = said if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{summary.began:%Y-%m-%d %H:%M}, {said} from first to last trial"


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
        return ["<p>The trials have no layer counts.</p>\n", networks]
    figure = energy_figure(shown, SVG_INK, unit=content.unit, model=content.account)
    return [
        networks,
        chart("energy", figure, "Energy of each layer", "Energy of each layer, on a common axis."),
    ]


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
        f"{faeb.floor:g}. Its trade-off: {text(faeb.trade())}.{reached}</p>\n"
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
