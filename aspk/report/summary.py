"""The content of an Optuna study, as plain values. Nothing is evaluated again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aspk.energy import PAPER, STRICT, energy_mj
from aspk.errors import AspkError, MetricsError
from aspk.metrics import Metrics
from aspk.objectives import OBJECTIVES, Direction, minimised
from aspk.objectives.scalarization import FAEB
from aspk.trials import attributes, study_record
from aspk.util.numbers import is_count, is_finite
from aspk.util.pareto import hypervolume, knee, nondominated, scaled

_NAMED = 10  # trials that a note names


@dataclass(frozen=True, kw_only=True)
class Row:
    """One finished trial.

    Attributes:
        number: the trial's number.
        values: its objectives, in the study's order.
        constraints: name of each constraint to its value; 0 or below is feasible. aspk's are relative
            excesses.
        metrics: what the evaluator reported, None for a foreign trial.
        f_aeb: its F_AEB, None where the study does not define one.
        parameters: Optuna's parameters.
        paper_mj: energy in mJ under the published account, None without layer counts.
        strict_mj: the same with dense bills for the residual stream.
        alike: on a front, how many trials have exactly these objectives; this is the cheapest of them, then
            the most accurate, then the first.
    """

    number: int
    values: tuple[float, ...]
    constraints: Mapping[str, float]
    metrics: Metrics | None
    f_aeb: float | None
    parameters: Mapping[str, Any]
    paper_mj: float | None
    strict_mj: float | None
    alike: int = 1

    @property
    def inherited(self) -> tuple[float, float] | None:
        """Accuracy and energy in mJ with a supernet's weights of a network that was trained alone."""
        extras = self.metrics.extras if self.metrics else {}
        accuracy, energy = (extras.get(f"inherited_{name}") for name in ("accuracy", "energy_mj"))
        return None if accuracy is None or energy is None else (accuracy, energy)

    @property
    def broken(self) -> dict[str, float]:
        """The constraints that it violates."""
        return {name: excess for name, excess in self.constraints.items() if not excess <= 0}

    @property
    def feasible(self) -> bool:
        """Whether it satisfies every constraint."""
        return not self.broken


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """A study, ready for tables and figures.

    Attributes:
        name: the study's name.
        sampler: the sampler's name in the study file, else ``unknown``.
        objectives: names of the objectives.
        directions: ``maximize`` or ``minimize`` for each.
        states: number of trials in each state, by lower-case name.
        trials: the complete trials with finite values, by number.
        front: the feasible ones that no other feasible one dominates, best first objective first; of those
            with the same objectives one, see :attr:`Row.alike`.
        knee: trial number of the front's knee, None for an empty front.
        best_f_aeb: largest F_AEB of a feasible trial and its number, None without F_AEB.
        hypervolume: of the front, as a fraction of the box between the anchors.
        curve: the hypervolume after each complete trial.
        anchors: (ideal, nadir) of each objective, in its own units.
        fixed_anchors: False where an anchor is only the range of this study's own trials.
        faeb: the study's F_AEB.
        images: number of images on which accuracies were measured, None where not recorded.
        reference: metrics of the reference network.
        spec: the study file's content.
        space: the search space's content.
        context: what else the study recorded: versions, fingerprints.
        statistics: the batch-normalisation statistics with which the supernet's networks were evaluated;
            empty without a supernet.
        verdict: whether the supernet's ranking can be trusted; empty without a supernet.
        notes: what was left out of this summary, and why.
        began: when the first complete trial began, None where no trial records it.
        ended: when the last one ended.
    """

    name: str
    sampler: str
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    states: Mapping[str, int]
    trials: tuple[Row, ...]
    front: tuple[Row, ...]
    knee: int | None
    best_f_aeb: tuple[float, int] | None
    hypervolume: float
    curve: tuple[float, ...]
    anchors: tuple[tuple[float, float], ...]
    fixed_anchors: bool
    faeb: FAEB | None
    images: int | None
    reference: Metrics | None
    spec: Mapping[str, Any]
    space: Mapping[str, Any]
    context: Mapping[str, Any]
    statistics: str
    verdict: str
    notes: tuple[str, ...]
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def evaluations(self) -> int:
        """Complete trials."""
        return self.states.get("complete", 0)

    @property
    def nearest(self) -> Row | None:
        """The trial that violates the constraints least, None if no trial violates any."""
        broken = [row for row in self.trials if not row.feasible]
        return min(broken, key=lambda row: (sum(row.broken.values()), row.number), default=None)

    @property
    def reference_values(self) -> tuple[float, ...] | None:
        """The reference network's objectives, None if one of them is a custom objective."""
        known = OBJECTIVES | ({"f_aeb": self.faeb.objective()} if self.faeb else {})
        if self.reference is None or not set(self.objectives) <= set(known):
            return None
        return tuple(known[name](self.reference) for name in self.objectives)


def summarise(study: Study) -> StudySummary:
    """Read a study: its trials, its front, and its record.

    Args:
        study: any Optuna study. One that aspk did not make has no metrics and no anchors: its objectives
            are scaled by their observed range, and F_AEB is left out.
    """
    notes: list[str] = []
    held = study_record(study)
    spec, space, context = (
        attributes.mapping_in(held, k) for k in (attributes.SPEC, attributes.SPACE, attributes.CONTEXT)
    )
    directions: tuple[Direction, ...] = tuple(
        "maximize" if direction.name == "MAXIMIZE" else "minimize" for direction in study.directions
    )
    reference = _reference(context, notes)
    faeb = _faeb(context, reference, notes)
    found = study.get_trials(deepcopy=False)
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    rows = tuple(_row(trial, faeb, notes) for trial in complete if all(map(math.isfinite, trial.values)))
    notes += _infinite(complete, directions)
    names = _objective_names(study, spec)
    anchors, fixed = _anchors(context, names, directions, rows)
    front = _front(rows, directions)
    curve = _curve(complete, rows, directions, anchors)
    scored = [(row.f_aeb, row.number) for row in rows if row.feasible and row.f_aeb is not None]
    return StudySummary(
        name=study.study_name,
        sampler=str(attributes.mapping_in(spec, "sampler").get("name", spec.get("sampler") or "unknown")),
        objectives=names,
        directions=directions,
        states=dict(Counter(trial.state.name.lower() for trial in found)),
        trials=rows,
        front=front,
        knee=front[knee(minimised([r.values for r in front], directions))].number if front else None,
        best_f_aeb=max(scored, key=lambda pair: (pair[0], -pair[1])) if scored else None,
        hypervolume=curve[-1] if curve else 0.0,
        curve=curve,
        anchors=anchors,
        fixed_anchors=fixed,
        faeb=faeb,
        images=_images(context, spec),
        reference=reference,
        spec=spec,
        space=space,
        context=context,
        statistics=_statistics(context),
        verdict=str(held.get(attributes.VERDICT, "")),
        notes=tuple(dict.fromkeys(notes)),
        began=min((t.datetime_start for t in complete if t.datetime_start), default=None),
        ended=max((t.datetime_complete for t in complete if t.datetime_complete), default=None),
    )


def evaluations_to_reach(curve: Sequence[float], target: float) -> int | None:
    """Number of evaluations after which a hypervolume curve first reaches ``target``, None if never."""
    return next((count for count, value in enumerate(curve, start=1) if value >= target), None)


def _statistics(context: Mapping[str, Any]) -> str:
    """The statistics used; studies older than this setting used ``own``."""
    if "weights" not in attributes.mapping_in(context, "fingerprints"):
        return ""
    return str(attributes.mapping_in(context, "evaluation").get("statistics", "own"))


def _objective_names(study: Study, spec: Mapping[str, Any]) -> tuple[str, ...]:
    count = len(study.directions)
    for names in (study.metric_names, spec.get("objectives")):
        if isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ("value",) if count == 1 else tuple(f"value {index}" for index in range(count))


def _reference(context: Mapping[str, Any], notes: list[str]) -> Metrics | None:
    try:
        return attributes.metrics_from_attributes(attributes.mapping_in(context, "reference"))
    except MetricsError as error:
        notes.append(f"the reference network is left out: {error}")
        return None


def _faeb(context: Mapping[str, Any], reference: Metrics | None, notes: list[str]) -> FAEB | None:
    if reference is None or "classes" not in context:
        return None
    try:
        options = dict(attributes.mapping_in(context, "faeb"))
        return FAEB(reference_energy_mj=reference.energy_mj, classes=context["classes"], **options)
    except (AspkError, TypeError) as error:
        notes.append(f"F_AEB is left out: {error}")
        return None


def _images(context: Mapping[str, Any], spec: Mapping[str, Any]) -> int | None:
    """The number that the study recorded; older studies have only the one in their file."""
    asked = attributes.mapping_in(spec, "evaluation").get("images")
    return next((count for count in (context.get("images"), asked) if is_count(count, 1)), None)


def _infinite(complete: Sequence[FrozenTrial], directions: Sequence[Direction]) -> list[str]:
    """Notes on complete trials whose objectives are not all finite."""
    failed, worst = [], []
    for trial in complete:
        values = minimised(trial.values, directions)
        if not (values > -math.inf).all():
            failed.append(str(trial.number))
        elif not np.isfinite(values).all():
            worst.append(str(trial.number))
    said = {
        "objectives that are no numbers or infinitely good, and count as failed": failed,
        "infinitely bad objectives, which a search counts as the worst finite ones": worst,
    }
    return [
        f"complete trials with {what}, left out here: {', '.join(numbers[:_NAMED])}"
        + (f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else "")
        for what, numbers in said.items()
        if numbers
    ]


def _row(trial: FrozenTrial, faeb: FAEB | None, notes: list[str]) -> Row:
    try:
        metrics = attributes.metrics_of(trial)
    except MetricsError as error:
        notes.append(f"metrics of trial {trial.number} are left out: {error}")
        metrics = None
    layers = metrics.layers if metrics else ()
    return Row(
        number=trial.number,
        values=tuple(trial.values),
        constraints=trial.constraints,
        metrics=metrics,
        f_aeb=faeb(metrics) if faeb and metrics else None,
        parameters=trial.params,
        paper_mj=energy_mj(layers, PAPER) if layers else None,
        strict_mj=energy_mj(layers, STRICT) if layers else None,
    )


def _front(rows: Sequence[Row], directions: Sequence[Direction]) -> tuple[Row, ...]:
    feasible = [row for row in rows if row.feasible]
    F = minimised([row.values for row in feasible], directions)
    alike: dict[tuple[float, ...], list[Row]] = {}
    for index in np.flatnonzero(nondominated(F)):
        alike.setdefault(tuple(F[index].tolist()), []).append(feasible[index])
    one_of = {values: min(rows, key=_order) for values, rows in alike.items()}
    return tuple(replace(one_of[values], alike=len(alike[values])) for values in sorted(alike))


def _order(row: Row) -> tuple[float, float, int]:
    """How ties between trials with the same objectives are broken."""
    known = row.metrics
    return (known.energy_mj, -known.accuracy, row.number) if known else (math.inf, 0.0, row.number)


def _anchors(
    context: Mapping[str, Any], names: Sequence[str], directions: Sequence[Direction], rows: Sequence[Row]
) -> tuple[tuple[tuple[float, float], ...], bool]:
    """(ideal, nadir) of each objective, and whether the study fixed them all."""
    given = attributes.mapping_in(context, "anchors")
    values = np.array([row.values for row in rows if row.feasible] or [(0.0,) * len(names)])
    fixed = [_anchor(given.get(name)) for name in names]
    ends = zip(directions, values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
    observed = [(high, low) if direction == "maximize" else (low, high) for direction, low, high in ends]
    return tuple(a or b for a, b in zip(fixed, observed, strict=True)), None not in fixed


def _anchor(pair: object) -> tuple[float, float] | None:
    """Two different finite numbers, or None."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
        return None
    return (float(pair[0]), float(pair[1])) if all(map(is_finite, pair)) else None


def _curve(
    complete: Sequence[FrozenTrial],
    rows: Sequence[Row],
    directions: Sequence[Direction],
    anchors: Sequence[tuple[float, float]],
) -> tuple[float, ...]:
    """Hypervolume after each complete trial; infeasible ones count as evaluations and add nothing."""
    usable = {row.number: row.values for row in rows if row.feasible}
    front, value, curve = np.empty((0, len(anchors))), 0.0, []
    for trial in complete:
        if trial.number in usable:
            point = np.maximum(0.0, scaled([usable[trial.number]], directions, anchors))
            if not (front <= point).all(axis=1).any():  # otherwise the front already covers it
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
                value = max(value, hypervolume(front, np.ones(len(anchors))))  # rounding must not shrink it
        curve.append(value)
    return tuple(curve)
