"""Early stopping of trials with any number of objectives, for which Optuna has no ``should_prune``.

A trial reports estimates of its final values while it is evaluated. Those of the complete trials at the same
step show how such estimates and final values are related, which predicts the final values of this one, with
their uncertainty. It may stop when the probability that none of the complete trials dominates them is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from aspk.errors import SamplerError
from aspk.objectives import Direction, minimised
from aspk.samplers._pruned import projected
from aspk.trials.attributes import report_to_attribute, reports_from_attributes
from aspk.util.pareto import FloatArray, nondominated, within_reach

FEWEST = 8  # complete trials with a report at the same step, before anything is stopped
BOUND = 0.05


def report(trial: Trial, values: Sequence[float], step: int) -> None:
    """Note estimates of a running trial's final values; they are attributes, and never objectives.

    Args:
        trial: the trial.
        values: one for each objective, in the study's order and on its scale: what the trial would be told if
            it ended now, such as the accuracy and the mean energy on the images so far.
        step: how far it is, at least 0; the steps of all trials should be the same.

    Raises:
        SamplerError: there are more or fewer values than objectives, one is not a number, or the step is not
            a whole number from 0.
    """
    count = len(trial.study.directions)
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        expected = f"expected {count} finite numbers, one for each objective"
        raise SamplerError(f"report of {list(values)}: {expected}")
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
        raise SamplerError(f"step={step!r}: expected a whole number of at least 0")
    trial.set_user_attr(*report_to_attribute(int(step), numbers))


def should_stop(trial: Trial, *, bound: float = BOUND) -> bool:
    """Whether a running trial's final values will hardly improve the hypervolume.

    The objective then raises ``optuna.TrialPruned``. aspk's samplers learn from such trials, whose final
    values they predict.

    Args:
        trial: the trial, which has reported.
        bound: probability below which it stops, above 0 and below 1.

    Raises:
        SamplerError: the bound is out of range.
    """
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < 1:
        raise SamplerError(f"bound={bound!r}: expected a probability between 0 and 1, such as {BOUND}")
    chance = chance_of_improvement(trial)
    return chance is not None and chance < bound


def chance_of_improvement(trial: Trial) -> float | None:
    """The probability that no complete, feasible trial dominates a running one's final values.

    Returns:
        From 0 to 1; None before the first report, or while fewer than eight complete trials have reported at
        the step of the latest one.
    """
    study = trial.study
    reports = _reports(trial, study)
    if not reports:
        return None
    step = max(reports)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    peers = [one for one in complete if step in _reports(one, study)]
    if len(peers) < FEWEST:
        return None
    directions = _directions(study)
    then = minimised([_reports(one, study)[step] for one in peers], directions)
    final = within_reach(minimised([one.values for one in peers], directions))
    mean, std = _predicted(within_reach(then), final, minimised([reports[step]], directions)[0])
    feasible = [one.values for one in complete if all(value <= 0 for value in one.constraints.values())]
    if not feasible:
        return 1.0
    values = within_reach(minimised(feasible, directions))
    return _nondominated_probability(mean, std, values[nondominated(values)])


def _predicted(then: FloatArray, final: FloatArray, now: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the final values, shape (k,) each.

    Args:
        then: what n complete trials reported at this step, shape (n, k).
        final: what they ended with, shape (n, k).
        now: this trial's report, shape (k,).
    """
    columns = [projected(*pair, now[[k]]) for k, pair in enumerate(zip(then.T, final.T, strict=True))]
    mean, std = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return mean, np.maximum(std, 1e-12 * (1 + np.abs(mean)))


def _nondominated_probability(mean: FloatArray, std: FloatArray, front: FloatArray) -> float:
    """The probability that independent Gaussian values, shape (k,), are dominated by no point of a front."""
    from scipy.special import ndtr  # noqa: PLC0415  # SciPy loads slowly; other names do not need it

    from aspk.samplers._acquisition import boxes  # noqa: PLC0415  # SciPy, too

    lower, upper = boxes(front, np.full(len(mean), np.inf))
    sides = ndtr((upper - mean) / std) - ndtr((lower - mean) / std)
    return float(np.clip(sides.prod(axis=1).sum(), 0.0, 1.0))


def _reports(trial: Trial | FrozenTrial, study: Study) -> dict[int, list[float]]:
    return reports_from_attributes(trial.user_attrs, len(study.directions))


def _directions(study: Study) -> list[Direction]:
    return ["maximize" if one.name == "MAXIMIZE" else "minimize" for one in study.directions]
