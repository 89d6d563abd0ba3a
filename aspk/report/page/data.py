"""The data that the page's scripts draw, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aspk.energy import layer_energy
from aspk.report.figures.curves import best_so_far
from aspk.report.figures.front import bounds, by_trial
from aspk.report.genes import along_front, genes_of
from aspk.report.page.content import Content
from aspk.report.selection import standard_error
from aspk.report.summary import Row, StudySummary
from aspk.report.tables import titles
from aspk.report.trained import error_of_mean, mean
from aspk.util.numbers import is_finite
from aspk.util.text import printable

_MOST_TRIALS = 3000  # on a page: the front and the most recent others
_MOST_POINTS = 1000  # of a curve


def page_data(content: Content) -> dict[str, Any]:
    """The data of a report."""
    summary = content.summary
    genes = genes_of(summary)
    on_front = {row.number for row in summary.front}
    shown = _shown(summary, on_front)
    reference = summary.reference_values
    return {
        "study": printable(summary.name),
        "unit": content.unit.name,
        "single": content.single,
        "objectives": len(summary.objectives),
        "measures": [
            {"name": printable(one.name), "title": printable(one.title), "better": one.better}
            | {"accuracy": one.is_accuracy}
            for one in content.measures
        ],
        "genes": [
            {"name": printable(gene.name), "choices": [printable(choice) for choice in gene.choices]}
            for gene in genes
        ],
        "trials": [
            {
                "n": row.number,
                "v": [_number(one.of(row)) for one in content.measures],
                "g": [gene.rank(row) for gene in genes],
                "k": "front" if row.number in on_front else "dominated" if row.feasible else "infeasible",
                "e": _error(row, summary.images),
            }
            for row in shown
        ],
        "left_out": len(summary.trials) - len(shown),
        "front": [row.number for row in along_front(summary)],
        "picks": [{"name": pick.name, "trial": pick.row.number} for pick in content.picks.values()],
        "chosen": content.selection.chosen.row.number if content.selection.chosen else None,
        "reference": None
        if reference is None
        else [value * one.per for value, one in zip(reference, content.measures, strict=False)],
        "bounds": {
            printable(name): _number(bound * _per(content, name)) for name, bound in bounds(summary).items()
        },
        "trained": [
            {"trial": number, "accuracy": mean([one.search for one in own])}
            | {"energy": mean([one.energy_mj for one in own]) * content.unit.per_mj}
            | {"e": error_of_mean([one.search for one in own])}
            for number, own in by_trial(content.trained).items()
        ],
        "inherited": [
            {"trial": row.number, "accuracy": _number(row.inherited[0])}
            | {"energy": _number(row.inherited[1] * content.unit.per_mj)}
            for row in shown
            if row.inherited is not None
        ],
        "importances": {
            printable(name): {
                "explained": one.explained,
                "genes": [[printable(gene), share] for gene, share in one.shares.items()],
            }
            for name, one in content.importances.items()
        },
        "best": _best(content) if content.single else [],
        "curves": study_curves(content.summaries, content.measures[0].per if content.single else 1.0),
        "layers": _layers(content),
        "export": f"aspk export {printable(content.command)} --trial ",
    }


def _shown(summary: StudySummary, on_front: set[int]) -> Sequence[Row]:
    rest = [row for row in summary.trials if row.number not in on_front]
    first = max(0, len(rest) - max(0, _MOST_TRIALS - len(on_front)))
    front = [row for row in summary.trials if row.number in on_front]
    return sorted([*rest[first:], *front], key=lambda row: row.number)


def _number(value: float | None) -> float | None:
    """A whole number as it is, another finite one to six digits, if an axis can show it; else None."""
    if value is None or not is_finite(value) or abs(value) > 1e300:
        return None
    return float(value) if float(value).is_integer() else float(f"{value:.6g}")


def _error(row: Row, images: int | None) -> float | None:
    return standard_error(row.metrics.accuracy, images) if row.metrics and images else None


def _per(content: Content, name: str) -> float:
    return next((one.per for one in content.measures if one.name == name), 1.0)


def study_curves(summaries: Sequence[StudySummary], per: float) -> list[dict[str, Any]]:
    """Hypervolume after each evaluation, or the best value so far if there is one objective; thinned out.

    Args:
        summaries: the studies.
        per: how many of the shown unit make one unit of the only objective.
    """
    found = []
    for title, one in zip(titles(summaries), summaries, strict=True):
        single = len(one.objectives) == 1
        values = [value * per for value in best_so_far(one)] if single else list(one.curve)
        found.append({"name": printable(title), "points": _points(values)})
    return found


def _best(content: Content) -> list[list[float | None]]:
    """Number of each trial and the best value up to it, starting at the first feasible trial."""
    rows, best = content.summary.trials, best_so_far(content.summary)
    numbers = [float(row.number) for row in rows[len(rows) - len(best) :]]
    pairs = zip(numbers, best, strict=True)
    return _thinned([[n, _number(value * content.measures[0].per)] for n, value in pairs])


def _points(values: Sequence[float]) -> list[list[float | None]]:
    """Count and value of each evaluation."""
    return _thinned([[float(n), _number(value)] for n, value in enumerate(values, start=1)])


def _thinned(points: list[list[float | None]]) -> list[list[float | None]]:
    """An evenly spread subset that includes the last point."""
    step = -(-len(points) // _MOST_POINTS) or 1
    return points[::-1][::step][::-1]


def _layers(content: Content) -> list[Mapping[str, Any]]:
    """Energy of each layer of the picks, under the study's account."""
    found: list[Mapping[str, Any]] = []
    for number in dict.fromkeys(pick.row.number for pick in content.picks.values()):
        title, row = content.networks.get(number, ("", None))
        if row is None or row.metrics is None or not row.metrics.layers:
            continue
        bills = {
            printable(layer.name): layer_energy(layer, content.account).mj * content.unit.per_mj
            for layer in row.metrics.layers
        }
        found.append({"title": printable(title), "trial": number, "bills": bills})
    return found
