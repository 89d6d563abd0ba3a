"""Which network of a front is taken: four named picks, one of which is requested.

Of the networks i on the feasible front, with accuracy a_i in 0..1 and energy E_i in mJ as the search measured
them on n images, and a* the largest a_i::

    most-accurate   argmax a_i
    cheapest        argmin E_i over the i with a* - a_i <= max(margin, SE(a*, a_i))
    knee            argmin ||z_i||, z_i the objectives scaled to 0 (best) .. 1 (worst) over the front
    best-f-aeb      argmax F_AEB(a_i, E_i), in the study's form, see aspk.objectives.scalarization

    SE(a, b) = sqrt((a (1 - a) + b (1 - b)) / n)

SE is the standard error of the difference of two independent proportions. The networks see the same images,
so their errors coincide more often than independent ones would, and the true standard error is smaller; by
how much depends on the images that only one of the two gets right, which a study does not store. SE is an
upper bound as long as the errors of two networks are not negatively correlated. Nothing corrects for a* being
the largest of many and so likely too high. Accepting one standard error from the best is the rule of
Breiman, Friedman, Olshen and Stone, *Classification and Regression Trees* (1984), section 3.4.3.

Ties go to the cheaper network, then the more accurate one, then the lower trial number; between equal knees,
to the one with the better first objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aspk.errors import StudyError
from aspk.report.summary import Row, StudySummary

SELECTIONS = ("cheapest", "knee", "most-accurate", "best-f-aeb")
MARGIN = 0.01  # one point of accuracy
_ROUNDING = 1e-12  # 0.95 - 0.94 is one point, despite floating-point error


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A network of the front picked by one of the four rules.

    Attributes:
        name: the rule, one of :data:`SELECTIONS`.
        row: the network's trial.
        accuracy: as the search measured it, 0 to 1; None for a foreign trial.
        standard_error: of the accuracy; None where the accuracy or the number of images is not known.
        energy_mj: energy in mJ under the study's account; None for a foreign trial.
    """

    name: str
    row: Row
    accuracy: float | None
    standard_error: float | None
    energy_mj: float | None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The networks that the four rules pick, and the requested one.

    Attributes:
        asked: the requested rule.
        margin: accuracy that ``cheapest`` may give up against ``most-accurate``; 0.01 is one point.
        images: number of images on which accuracies were measured, None where not known.
        picks: the picks by rule, in the order of :data:`SELECTIONS`; without the rules that the study has no
            numbers for, and empty without a front.
    """

    asked: str
    margin: float
    images: int | None
    picks: Mapping[str, Pick]

    @property
    def chosen(self) -> Pick | None:
        """The requested pick, or the knee if there is no such pick; None without a front."""
        return self.picks.get(self.asked, self.picks.get("knee"))


def select(summary: StudySummary, name: str = "cheapest", *, margin: float = MARGIN) -> Selection:
    """Choose a network of a study's front.

    Args:
        summary: the study.
        name: one of :data:`SELECTIONS`.
        margin: accuracy that ``cheapest`` may give up against the most accurate network; 0.01 is one point.

    Raises:
        StudyError: no such rule, or the margin is not a number from 0 to 1.
    """
    if name not in SELECTIONS:
        raise StudyError(f"select = {name!r}: expected one of {', '.join(SELECTIONS)}")
    if not 0 <= margin <= 1:
        raise StudyError(f"margin = {margin!r}: expected a share from 0 to 1, 0.01 for one point")
    found: dict[str, Row | None] = {
        "cheapest": cheapest(summary.front, margin=margin, images=summary.images),
        "knee": next((row for row in summary.front if row.number == summary.knee), None),
        "most-accurate": most_accurate(summary.front),
        "best-f-aeb": best_f_aeb(summary.front),
    }
    picks = {key: _pick(key, row, summary.images) for key, row in found.items() if row is not None}
    return Selection(asked=name, margin=margin, images=summary.images, picks=picks)


def most_accurate(rows: Iterable[Row]) -> Row | None:
    """The most accurate network, None if no accuracy is known."""
    return min(_measured(rows), key=lambda row: (-_accuracy(row), *_order(row)), default=None)


def cheapest(rows: Iterable[Row], *, margin: float = MARGIN, images: int | None = None) -> Row | None:
    """The lowest-energy network among those as accurate as the best, None if no accuracy is known.

    Args:
        rows: the networks.
        margin: accuracy that it may give up; 0.01 is one point.
        images: number of images on which accuracies were measured: the standard error of the difference
            applies where it is larger than the margin. With None, the margin alone applies.
    """
    measured = list(_measured(rows))
    best = max(map(_accuracy, measured), default=0.0)

    def as_good(row: Row) -> bool:
        error = 0.0 if images is None else standard_error_of_difference(best, _accuracy(row), images)
        return best - _accuracy(row) <= max(margin, error) + _ROUNDING

    return min(filter(as_good, measured), key=_order, default=None)


def best_f_aeb(rows: Iterable[Row]) -> Row | None:
    """The network with the largest F_AEB, None where the study does not define it."""
    scored = [(row, row.f_aeb) for row in rows if row.f_aeb is not None]
    return min(scored, key=lambda pair: (-pair[1], *_order(pair[0])), default=(None,))[0]


def standard_error(accuracy: float, images: int) -> float:
    """Standard error of an accuracy in 0..1 on n images, sqrt(a (1 - a) / n); 0 at either end."""
    return math.sqrt(max(0.0, accuracy * (1.0 - accuracy)) / images)


def standard_error_of_difference(first: float, second: float, images: int) -> float:
    """Standard error of the difference of two accuracies on n images each, as if they were independent."""
    return math.hypot(standard_error(first, images), standard_error(second, images))


def _measured(rows: Iterable[Row]) -> Iterable[Row]:
    return (row for row in rows if row.metrics is not None)


def _accuracy(row: Row) -> float:
    assert row.metrics is not None, "only measured rows"
    return row.metrics.accuracy


def _order(row: Row) -> tuple[float, float, int]:
    """How ties between networks are broken."""
    assert row.metrics is not None, "only measured rows"
    return row.metrics.energy_mj, -row.metrics.accuracy, row.number


def _pick(name: str, row: Row, images: int | None) -> Pick:
    accuracy = row.metrics.accuracy if row.metrics else None
    return Pick(
        name=name,
        row=row,
        accuracy=accuracy,
        standard_error=None if accuracy is None or images is None else standard_error(accuracy, images),
        energy_mj=row.metrics.energy_mj if row.metrics else None,
    )


# ---------------------------------------------------------------------- in words


def selection_text(selection: Selection, unit: str = "mJ", per_mj: float = 1.0) -> str:
    """One sentence: what was chosen, why, and what the other rules would choose; empty without a front.

    Args:
        selection: the picks.
        unit: of energies.
        per_mj: how many of these units make one mJ.
    """
    chosen = selection.chosen
    if chosen is None:
        return ""
    others = [pick for pick in selection.picks.values() if pick.name != chosen.name]
    rest = "; ".join(
        f"{pick.name} would be trial {pick.row.number}{_figures(pick, unit, per_mj)}" for pick in others
    )
    missing = (
        f" ({_WANTING[selection.asked]}, so not {selection.asked})" if chosen.name != selection.asked else ""
    )
    meaning = f"{_MEANING[chosen.name](selection)}{missing}"
    said = f"chosen: trial {chosen.row.number}{_figures(chosen, unit, per_mj)}, {meaning}"
    return f"{said}; {rest}" if rest else said


def _figures(pick: Pick, unit: str, per_mj: float) -> str:
    if pick.accuracy is None or pick.energy_mj is None:
        return ""
    error = "" if pick.standard_error is None else f" ± {pick.standard_error:.4f}"
    return f" ({pick.accuracy:.4f}{error}, {pick.energy_mj * per_mj:.3g} {unit})"


def _within(selection: Selection) -> str:
    points = f"{100 * selection.margin:g} point{'' if selection.margin == MARGIN else 's'}"
    if selection.images is None:  # an old study, or a custom evaluator
        return f"{points} (on how many images accuracies were measured is not recorded, so no standard error)"
    return f"{points}, or the standard error of the difference if that is larger,"


_MEANING: Mapping[str, Callable[[Selection], str]] = {
    "cheapest": lambda it: f"the cheapest of the front within {_within(it)} of the most accurate",
    "knee": lambda _: "the front's knee, nearest to its best values, each objective scaled to 0..1",
    "most-accurate": lambda _: "the most accurate of the front",
    "best-f-aeb": lambda _: "the best of the front by F_AEB",
}
_WANTING = {
    "cheapest": "the front's trials carry no accuracy and energy",
    "most-accurate": "the front's trials carry no accuracy",
    "best-f-aeb": "the study does not define F_AEB",
}
