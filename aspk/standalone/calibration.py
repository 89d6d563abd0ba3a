"""Ranking against a table of trained networks: what predicts them, how well, and how well anything could."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from aspk.costs.features import FreeFeature, FreeFeatures
from aspk.errors import RankingError
from aspk.space import IntArray
from aspk.space.genes import SubnetConfig
from aspk.surrogate import AccuracySurrogate
from aspk.tables import TabularEvaluator, TrainedTable
from aspk.trials.verdict import Ranking, kendall, rankings, verdict
from aspk.util.pareto import FloatArray

SIZES = (6, 8, 12, 20)  # trained networks that a predictor is fitted to
_NOISES = 500  # draws of the noise behind a ceiling
_ALIKE = 41  # networks that share an estimate of their noise
_LEFT_OUT = 10  # networks at least that are predicted
Feature = FreeFeature | Literal["operations"]
Fit = Callable[[IntArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Inherited:
    """A free feature, see :mod:`aspk.costs.features`: the supernet's metrics of a table's networks.

    Attributes:
        table: where they are looked up.
        statistics: the batch-normalisation statistics that they were measured with.
        energy: whether the logarithm of the energy is given as well as the accuracy.
    """

    table: TrainedTable
    statistics: str
    energy: bool = False

    def __call__(self, config: SubnetConfig) -> list[float]:
        """The supernet's metrics of one network on the images of ``search``.

        Raises:
            TableError: the network is not in the table.
        """
        (row,) = self._lookup.rows(self.table.space.encode(config))
        columns = self.table.inherited(self.statistics)
        logarithm = [float(np.log(columns["energy_mj"][row]))] if self.energy else []
        return [float(columns["accuracy"][row]), *logarithm]

    @cached_property
    def _lookup(self) -> TabularEvaluator:
        return self.table.truth()


def ceiling(accuracies: FloatArray, *, seed: int = 0) -> float:
    """The tau that a perfect predictor is expected to reach against noisy means over seeds.

    The means are shrunk towards their average until their variance is that of the true accuracies, then
    disturbed by normal noise with the standard error of networks of about the same accuracy.

    Args:
        accuracies: of each network and seed, shape (n, k), k at least 2.
        seed: of the noise.

    Raises:
        RankingError: there is one seed only.
    """
    if accuracies.shape[1] < 2:
        raise RankingError("a ceiling needs networks trained with at least 2 seeds each, got 1")
    means = accuracies.mean(axis=1)
    errors = np.sqrt(_smooth(accuracies.var(axis=1, ddof=1), means) / accuracies.shape[1])
    observed = float(means.var())
    if not observed:
        return 0.0
    kept = max(1.0 - float(np.square(errors).mean()) / observed, 0.0)  # the reliability of the means
    true, rng = means.mean() + np.sqrt(kept) * (means - means.mean()), np.random.default_rng(seed)
    moved = (true + errors * rng.normal(size=len(true)) for _ in range(_NOISES))
    return float(np.mean([kendall(true, means) for means in moved]))


def _smooth(variances: FloatArray, means: FloatArray) -> FloatArray:
    """Variances averaged over networks with similar means: those of two seeds alone are too uncertain."""
    order, window = np.argsort(means, kind="stable"), np.ones(min(_ALIKE, len(means)))
    counts = np.convolve(np.ones(len(means)), window, mode="same")
    smooth = np.empty(len(means))
    smooth[order] = np.convolve(variances[order], window, mode="same") / counts
    return smooth


@dataclass(frozen=True)
class Calibrated:
    """How good a predictor is after fitting it to a few trained networks, over several draws of them.

    Attributes:
        size: networks that it was fitted to.
        tau: Kendall's tau between predictions of all others and their mean test accuracy, mean over draws.
        low: first decile of tau.
        high: last decile.
    """

    size: int
    tau: float
    low: float
    high: float


def process(table: TrainedTable, features: Sequence[Feature]) -> Fit:
    """A search's surrogate, on genes and features, see :class:`~aspk.surrogate.AccuracySurrogate`."""

    def fit(rows: IntArray, targets: FloatArray) -> FloatArray:
        surrogate = AccuracySurrogate(table.space, features=tuple(features), folds=0)
        surrogate.fit(table.networks[rows], targets)
        return np.asarray(surrogate.predict(table.networks), dtype=float)

    return fit


def ridge(table: TrainedTable, features: Sequence[Feature]) -> Fit:
    """Ridge regression with penalty 1 on features alone, each scaled to standard deviation 1 over the table.

    With a handful of trainings, a model of the genes learns little but noise.
    """
    columns = FreeFeatures(table.space, tuple(features)).of(table.networks)
    scaled = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-12)

    def fit(rows: IntArray, targets: FloatArray) -> FloatArray:
        apart, middle = scaled[rows] - scaled[rows].mean(axis=0), targets.mean()
        slopes = np.linalg.solve(apart.T @ apart + np.eye(scaled.shape[1]), apart.T @ (targets - middle))
        return np.asarray(middle + (scaled - scaled[rows].mean(axis=0)) @ slopes, dtype=float)

    return fit


def calibrated(
    table: TrainedTable,
    fit: Fit,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = 30,
    seed: int = 0,
) -> list[Calibrated]:
    """Fit a predictor to a few trained networks, and rank all others.

    It learns from what a search sees, the accuracy on ``search`` after one training; it is compared with
    means over all seeds on ``test``. The draws use the table's seeds in turn.

    Args:
        table: the trained networks.
        fit: the predictor: takes rows of the table and their targets, and predicts every row.
        sizes: networks that it is fitted to, each at least 2.
        draws: random choices of these for each size.
        seed: of the choices.

    Raises:
        RankingError: the table has too few networks.
    """
    count = len(table.networks)
    if not sizes or min(sizes) < 2 or count < max(sizes) + _LEFT_OUT or draws < 1:
        raise RankingError(
            f"{count} networks, fitted to {list(sizes)} of them, {draws} draws: expected sizes from 2 to "
            f"{_LEFT_OUT} less than there are, and at least one draw"
        )
    seen, true = table.accuracies("search"), table.accuracies("test").mean(axis=1)
    rng, found = np.random.default_rng(seed), []
    for size in sizes:
        taus = []
        for draw in range(draws):
            known, rest = np.split(rng.permutation(count), [size])
            taus.append(kendall(fit(known, seen[known, draw % table.seeds])[rest], true[rest]))
        low, high = np.quantile(taus, [0.1, 0.9])
        found.append(Calibrated(size, float(np.mean(taus)), float(low), float(high)))
    return found


def predictors(table: TrainedTable) -> dict[str, Fit]:
    """Every calibrated predictor by its inputs: the surrogate if there are genes, else ridge regression."""
    found: dict[str, Fit] = {}
    for kind in table.statistics:
        features: tuple[Feature, ...] = (Inherited(table, kind), "operations")
        found[f"inherited ({kind}), operations"] = ridge(table, features)
        found[f"inherited ({kind}), operations, genes"] = process(table, features)
    return {**found, "operations, genes": process(table, ("operations",)), "genes": process(table, ())}


def rank_table(
    table: TrainedTable, *, sizes: Sequence[int] = SIZES, draws: int = 30, seed: int = 0
) -> dict[str, Any]:
    """How far a supernet's ranking can be trusted, measured on the networks of a table.

    Args:
        table: the trained networks, with at least 2 seeds each.
        sizes: see :func:`calibrated`; those too large for the table are left out.
        draws: see :func:`calibrated`.
        seed: of all resampling.

    Returns:
        Plain JSON values.

    Raises:
        RankingError: the table has too few networks or seeds.
    """
    true = table.accuracies().mean(axis=1)
    fewest = min(sizes, default=SIZES[0])
    if len(true) < fewest + _LEFT_OUT:
        raise RankingError(
            f"a table of {len(true)} networks: expected at least {fewest + _LEFT_OUT}, so that a predictor "
            f"fitted to {fewest} has {_LEFT_OUT} left to rank; train more with 'aspk table --trained'"
        )
    sizes = [size for size in sizes if size + _LEFT_OUT <= len(true)]
    free, raw = _free(table), {kind: table.inherited(kind)["accuracy"] for kind in table.statistics}
    return {
        "n": len(true),
        "seeds": table.seeds,
        "about": dict(table.table.about),
        "noise": table.noise,
        "noise_ceiling": ceiling(table.accuracies(), seed=seed),
        "statistics": {kind: _judged(column, free, true, seed) for kind, column in raw.items()},
        "calibrated": {
            name: [asdict(point) for point in calibrated(table, fit, sizes=sizes, draws=draws, seed=seed)]
            for name, fit in predictors(table).items()
        },
    }


def _free(table: TrainedTable) -> dict[str, FloatArray]:
    columns = table.table.splits["test"]
    configs = [table.space.decode(x) for x in table.networks]
    return {
        "operations": columns["operations"].astype(float),
        "parameters": columns["parameters"].astype(float),
        "T": np.array([float(config.time_steps) for config in configs]),
    }


def _judged(
    inherited: FloatArray, free: Mapping[str, FloatArray], true: FloatArray, seed: int
) -> dict[str, Any]:
    found: tuple[Ranking, dict[str, Ranking]] = rankings(inherited, free, true, seed=seed)
    main, baselines = found
    return {
        **main.to_json(),
        "verdict": verdict(len(true), main, baselines),
        "baselines": {name: ranking.to_json() for name, ranking in baselines.items()},
    }
