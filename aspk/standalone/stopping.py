"""Ending trainings early that cannot reach the front of the trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from optuna.trial import TrialState

from aspk.metrics import Metrics
from aspk.objectives import Objective, minimised
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.standalone.job import Job
from aspk.study.storage import open_study
from aspk.trials.attributes import metrics_of
from aspk.util.pareto import FloatArray

TENTHS = 4  # of a training, after which it is judged: the loss is that of the tenth that its third ends in
_FEWEST = 8  # finished trainings that a judgement needs
_DEVIATIONS = 2.0  # by which an accuracy may exceed its prediction


def hopeful_accuracy(loss: float, finished: Sequence[tuple[float, float]]) -> float:
    """The accuracy that an unfinished training may reach if things go well, at most 1.

    Least squares over finished trainings, accuracy on the loss at the same stage, plus two standard
    deviations of a new observation: s^2 (1 + 1/n + (x - mean)^2 / sum (x_i - mean)^2), where s^2 is that of
    the residuals. 1 with fewer than 8 finished trainings.

    Args:
        loss: its mean training loss in the last of its first :data:`TENTHS` tenths.
        finished: that loss and the final accuracy of each finished training.
    """
    if len(finished) < _FEWEST:
        return 1.0
    losses, accuracies = np.array(finished).T
    apart = losses - losses.mean()
    around = float(apart @ apart)
    slope = min(float(apart @ accuracies) / around, 0.0) if around else 0.0  # a higher loss is no better
    left = accuracies - accuracies.mean() - slope * apart
    distance = (loss - losses.mean()) ** 2 / around if around else 0.0
    std = np.sqrt(left @ left / (len(losses) - 2) * (1 + 1 / len(losses) + distance))
    return float(min(accuracies.mean() + slope * (loss - losses.mean()) + _DEVIATIONS * std, 1.0))


def hopeless(
    metrics: Metrics,
    loss: float,
    finished: Sequence[tuple[float, Metrics]],
    objectives: Sequence[Objective],
) -> str:
    """Why a training cannot reach the front: a finished network would dominate it even if things went well.

    Args:
        metrics: of the network as it is; its accuracy is replaced by :func:`hopeful_accuracy`.
        loss: see :func:`hopeful_accuracy`.
        finished: the loss at the same stage and the final metrics of each finished training.
        objectives: of the search.

    Returns:
        The reason, empty while there is hope.
    """
    accuracy = hopeful_accuracy(loss, [(then, end.accuracy) for then, end in finished])
    if accuracy >= 1.0:
        return ""
    hoped = _values([replace(metrics, accuracy=accuracy)], objectives)
    known = _values([end for _, end in finished], objectives)
    if not ((known <= hoped).all(axis=1) & (known < hoped).any(axis=1)).any():
        return ""
    return (
        f"stopped early: with a loss of {loss:.3f} after {TENTHS}/10 of its updates it was not expected to "
        f"exceed an accuracy of {accuracy:.4f}, at which a trained network dominates it"
    )


def _values(metrics: Sequence[Metrics], objectives: Sequence[Objective]) -> FloatArray:
    values = [[item(one) for item in objectives] for one in metrics]
    return minimised(values, [item.direction for item in objectives])


class Rivals:
    """The networks that a refined study has trained, against which unfinished trainings are judged.

    Args:
        study: the refined study's specification.
        space: its networks.
        job: the training of a network.
        objectives: of the study.
    """

    def __init__(
        self,
        study: StudySpec,
        space: SearchSpace,
        job: Callable[[SubnetConfig], Job],
        objectives: Sequence[Objective],
    ) -> None:
        self._study, self._space, self._job, self._objectives = study, space, job, objectives

    def __call__(self, metrics: Metrics, loss: float) -> str:
        """See :func:`hopeless`."""
        return hopeless(metrics, loss, self._finished(), self._objectives)

    def _finished(self) -> list[tuple[float, Metrics]]:
        """Loss when it would have been judged, and final metrics, of each feasible trained network."""
        found, space = [], self._space
        for trial in open_study(self._study).get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            result = self._job(space.decode(space.from_parameters(trial.params))).result()
            metrics = metrics_of(trial)
            if result and metrics and all(excess <= 0 for excess in trial.constraints.values()):
                found.append((result.losses[TENTHS - 1], metrics))
        return found
