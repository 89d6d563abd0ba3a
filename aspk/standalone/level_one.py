"""What the search of a supernet knows about any network, as features for a search that trains."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from optuna.trial import TrialState

from aspk.errors import StudyError
from aspk.metrics import Metrics
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.study.storage import open_study, require_weights
from aspk.surrogate import AccuracySurrogate
from aspk.trials.attributes import metrics_of

_LEAST_MJ = 1e-12  # energy of a network in which nothing fires
_FEWEST = 10  # networks that level one must have evaluated


class LevelOne:
    """A free feature, see :mod:`aspk.costs.features`: what level one knows about any network.

    Accuracy and the logarithm of the energy with the supernet's weights: observed values where there are any,
    and for all other networks those that a surrogate fitted to the observed ones predicts.

    Args:
        spec: the study of level one.

    Raises:
        StudyError: there is no such study, it has too few complete trials, or its networks were measured with
            weights that have changed since.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.space = load_space(spec.space)
        study = open_study(spec)
        require_weights(study, spec)
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found = [
            (self.space.from_parameters(trial.params), metrics)
            for trial in trials
            if (metrics := metrics_of(trial)) is not None
        ]
        if len(found) < _FEWEST:
            raise StudyError(
                f"study {spec.name!r} has {len(found)} complete trials with metrics: expected at least "
                f"{_FEWEST}, from which to learn what the supernet predicts; 'aspk search' makes them"
            )
        self._metrics = {self.space.key(x): metrics for x, metrics in found}
        self._observed = {key: self._says(metrics) for key, metrics in self._metrics.items()}
        X, Y = np.array(list(self._observed)), np.array(list(self._observed.values()))
        self._predict = [AccuracySurrogate(self.space, logarithm=False, folds=0).fit(X, y) for y in Y.T]

    @staticmethod
    def _says(metrics: Metrics) -> tuple[float, float]:
        return metrics.accuracy, float(np.log(max(metrics.energy_mj, _LEAST_MJ)))

    def __call__(self, config: SubnetConfig) -> tuple[float, ...]:
        """Accuracy, and the logarithm of the energy in mJ, of one network."""
        x = self.space.encode(config)
        known = self._observed.get(self.space.key(x))
        return known or tuple(float(surrogate.predict([x])[0]) for surrogate in self._predict)

    def best(self, score: Callable[[Metrics], float], count: int) -> list[SubnetConfig]:
        """The observed networks with the highest finite scores, best first.

        Args:
            score: of a network with the supernet's weights.
            count: how many at most.
        """
        scores = {key: score(metrics) for key, metrics in self._metrics.items()}
        finite = filter(lambda key: math.isfinite(scores[key]), scores)
        best = sorted(finite, key=lambda key: (-scores[key], key))[:count]
        return [self.space.decode(np.array(key)) for key in best]
