"""How much each gene matters: permutation importances of a random forest, measured on left-out trials.

The forest (Breiman, Random Forests, Machine Learning 45, 2001) learns a number of a trial, such as its
accuracy, from the trial's parameters. Then one parameter's values are shuffled among the left-out trials, and
the parameter's importance is what the prediction loses::

    importance = (mean squared error, shuffled - mean squared error) / (2 · variance of the number)

For independent parameters, and a function that the forest has learnt well, this is Sobol's total index: the
share of the variance that the parameter contributes to, alone or with others (Gregorutti, Michel and
Saint-Pierre, Correlation and variable importance in random forests, Statistics and Computing 27, 2017).

Parameters that a trial does not have, such as those of a missing block, are missing values to the forest, and
are shuffled among the trials that have them. A search concentrates on good networks, so these are importances
among the networks that it looked at: a parameter on which all of them agree has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_FEWEST = 20  # trials
_MOST = 2000  # trials, the last ones
_FOLDS, _TREES, _SHUFFLES = 5, 100, 5

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Importances:
    """How much each parameter of a study matters to one number.

    Attributes:
        shares: each parameter's importance, the largest first; shares of the variance, not negative.
        explained: share of the variance that the forest explains on trials that were left out; the
            importances are worth no more than that.
        trials: how many the forest learnt from.
    """

    shares: Mapping[str, float]
    explained: float
    trials: int


def importances(
    parameters: Sequence[Mapping[str, Any]], values: Sequence[float], *, seed: int = 0
) -> Importances | None:
    """How much each parameter matters to ``values``.

    Args:
        parameters: of each trial; numbers, or names without an order.
        values: one of each trial.
        seed: of the forest, the folds and the shuffling.

    Returns:
        The importances; None for fewer than 20 trials, or if the values or all parameters are the same.
    """
    parameters, y = parameters[-_MOST:], np.array(values[-_MOST:], dtype=np.float64)
    names = list(dict.fromkeys(name for one in parameters for name in one))
    if len(y) < _FEWEST or not np.isfinite(y).all() or np.ptp(y) == 0 or not names:
        return None
    X = np.column_stack([_column(parameters, name) for name in names])
    spread = float(y.var())
    if not 0 < spread < np.inf or (np.nan_to_num(X, nan=-1.0) == np.nan_to_num(X[:1], nan=-1.0)).all():
        return None
    rest, lost = _errors(X, y, seed)
    shares = {
        name: max(0.0, float(gain) / (2 * spread)) for name, gain in zip(names, lost - rest, strict=True)
    }
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Importances(shares=ordered, explained=max(0.0, 1 - rest / spread), trials=len(y))


def _column(parameters: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    """Numbers as they are, others by the alphabetical rank of their text; NaN where there is no parameter.

    None is a choice like any other: shuffled among the trials that have the parameter.
    """
    values = [one[name] for one in parameters if name in one]
    rank = {text: float(place) for place, text in enumerate(sorted(set(map(str, values))))}
    numbers = all(isinstance(value, int | float) for value in values)

    def place(value: Any) -> float:  # noqa: ANN401  # whatever a categorical parameter holds
        return float(value) if numbers else rank[str(value)]

    return np.array([place(one[name]) if name in one else np.nan for one in parameters])


def _errors(X: FloatArray, y: FloatArray, seed: int) -> tuple[float, FloatArray]:
    """Mean squared error on left-out trials, unchanged and with each column shuffled, shape (columns,)."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415  # takes a second
    from sklearn.model_selection import KFold  # noqa: PLC0415  # as above

    rng = np.random.default_rng(seed)
    rest, lost = 0.0, np.zeros(X.shape[1])
    for learnt, left in KFold(_FOLDS, shuffle=True, random_state=seed).split(X):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=seed).fit(
            X[learnt], y[learnt]
        )
        rest += float(((forest.predict(X[left]) - y[left]) ** 2).sum())
        shuffled = [_shuffled(X[left], c, rng) for c in range(X.shape[1]) for _ in range(_SHUFFLES)]
        errors = (forest.predict(np.concatenate(shuffled)).reshape(-1, len(left)) - y[left]) ** 2
        lost += errors.sum(1).reshape(-1, _SHUFFLES).mean(1)
    return rest / len(y), lost / len(y)


def _shuffled(X: FloatArray, column: int, rng: np.random.Generator) -> FloatArray:
    """A copy with one column shuffled among the rows that have a value there."""
    X = X.copy()
    rows = np.flatnonzero(~np.isnan(X[:, column]))
    X[rows, column] = X[rng.permutation(rows), column]
    return X
