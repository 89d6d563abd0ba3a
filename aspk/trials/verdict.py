"""How well a supernet's inherited accuracies rank networks: the statistics and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from aspk.errors import RankingError
from aspk.util.records import read_json

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["trusted", "weak", "not trusted"]
Interval = tuple[float, float]

ENOUGH = 24  # networks; with fewer, no ranking is trusted
_TRUSTED = 0.5
_RESAMPLES = 2000
_LEVEL = 0.95
_OPENING = "Ranking of this supernet: "
_FREE_IN_WORDS = {"operations": "counting operations", "parameters": "counting parameters"}
_COLUMNS = ("inherited", "inherited_energy_mj", "alone_energy_mj", "operations", "parameters", "time_steps")


def kendall(x: FloatArray, y: FloatArray) -> float:
    """Kendall's tau-b; 0 where a side is constant and ranks nothing."""
    tau = float(stats.kendalltau(x, y).statistic)
    return tau if math.isfinite(tau) else 0.0


def partial_kendall(x: FloatArray, y: FloatArray, given: FloatArray) -> float:
    """Kendall's partial tau (Kendall 1942): (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2))."""
    xy, xz, yz = kendall(x, y), kendall(x, given), kendall(y, given)
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / math.sqrt(rest) if rest > 1e-12 else 0.0


def top_k_regret(predicted: FloatArray, true: FloatArray, k: int) -> float:
    """What is lost by training only the k networks that are predicted best: best of all - best of them."""
    chosen = np.argsort(-predicted, kind="stable")[:k]
    return float(true.max() - true[chosen].max())


def noise_ceiling(true: FloatArray, first: FloatArray, second: FloatArray, seed: int = 0) -> float | None:
    """The tau that a perfect predictor would be expected to reach, since training again changes accuracies.

    The standard deviation of one training, from networks trained twice, is added to ``true``, and the tau to
    ``true`` itself averaged over draws. As ``true`` has such noise in it already, this is a little high.

    Args:
        true: accuracies of all networks.
        first: accuracies of those trained twice, with the first seed.
        second: the same with the second seed.
        seed: of the draws.

    Returns:
        The expected tau, None if fewer than 3 networks were trained twice.
    """
    if len(first) < 3:
        return None
    deviation = float(np.sqrt(np.mean((first - second) ** 2) / 2))
    rng = np.random.default_rng(seed)
    draws = [kendall(true, true + rng.normal(0, deviation, len(true))) for _ in range(500)]
    return float(np.mean(draws))


@dataclass(frozen=True)
class Ranking:
    """One predictor against the truth.

    Attributes:
        tau: Kendall's tau.
        interval: its 95 % bootstrap interval over networks.
        difference: interval of the main predictor's tau minus this one's, from the same resamples; None for
            the main one.
    """

    tau: float
    interval: Interval
    difference: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        data: dict[str, Any] = {"kendall_tau": self.tau, "kendall_tau_ci": list(self.interval)}
        return data if self.difference is None else data | {"difference_ci": list(self.difference)}


def rankings(
    main: FloatArray, others: Mapping[str, FloatArray], true: FloatArray, *, seed: int = 0
) -> tuple[Ranking, dict[str, Ranking]]:
    """Kendall's tau of a predictor and of others it competes with, resampled together (paired bootstrap).

    Args:
        main: predictions, [n].
        others: further predictions by name, each [n].
        true: what is predicted, [n].
        seed: of the resampling.

    Raises:
        RankingError: fewer than 4 networks, or a number is not finite.
    """
    resampled = _Resampled.of({"": main, **others}, true, seed=seed)
    return resampled.ranking(""), {name: resampled.ranking(name, below="") for name in others}


def _resampled_taus(x: FloatArray, y: FloatArray, counts: FloatArray) -> FloatArray:
    """:func:`kendall` of resamples, shape (r,).

    With c_i the number of times that network i was drawn, the pairs of a resample in which x is not tied are
    sum_ij c_i c_j |sgn(x_i - x_j)| / 2, and likewise those that agree minus those that do not. These numbers
    are whole and the rest is tau-b's definition, so that the taus are scipy's to the bit.

    Args:
        x: shape (n,).
        y: shape (n,).
        counts: how often each network is in each resample, shape (r, n).
    """
    signs_x, signs_y = (np.sign(np.subtract.outer(column, column)) for column in (x, y))
    score, untied_x, untied_y = (
        np.einsum("ri,ri->r", counts @ pairs, counts) / 2
        for pairs in (signs_x * signs_y, np.abs(signs_x), np.abs(signs_y))
    )
    ranks = (untied_x > 0) & (untied_y > 0)
    scale = np.sqrt(np.where(ranks, untied_x, 1)), np.sqrt(np.where(ranks, untied_y, 1))
    taus: FloatArray = np.where(ranks, (score / scale[0] / scale[1]).clip(-1, 1), 0.0)
    return taus


@dataclass(frozen=True)
class _Resampled:
    """Kendall's tau of several predictors, by name: on all networks, and on the same resamples of them."""

    taus: Mapping[str, float]
    draws: Mapping[str, FloatArray]

    @classmethod
    def of(cls, columns: Mapping[str, FloatArray], true: FloatArray, *, seed: int) -> _Resampled:
        if len(true) < 4 or not all(np.isfinite(column).all() for column in (*columns.values(), true)):
            raise RankingError(f"a ranking needs at least 4 networks with finite numbers, got {len(true)}")
        n = len(true)
        rows = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
        counts = np.zeros((_RESAMPLES, n))
        np.add.at(counts, (np.arange(_RESAMPLES)[:, None], rows), 1)
        taus = {name: kendall(column, true) for name, column in columns.items()}
        return cls(taus, {name: _resampled_taus(column, true, counts) for name, column in columns.items()})

    def ranking(self, name: str, *, below: str | None = None) -> Ranking:
        """One predictor; its difference is the tau of ``below`` minus its own."""
        difference = None if below is None else _interval(self.draws[below] - self.draws[name])
        return Ranking(self.taus[name], _interval(self.draws[name]), difference)


def _interval(values: FloatArray) -> Interval:
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def verdict(n: int, main: Ranking, baselines: Mapping[str, Ranking]) -> Verdict:
    """Whether a search may rely on the ranking.

    ``trusted``: the lower bound of tau is at least 0.5, tau is above that of every free baseline with 95 %
    confidence (paired bootstrap), and there are at least 24 networks. ``not trusted``: the lower bound is
    at most 0. ``weak`` otherwise.
    """
    low = main.interval[0]
    if low <= 0:
        return "not trusted"
    better = all(other.difference is not None and other.difference[0] > 0 for other in baselines.values())
    return "trusted" if low >= _TRUSTED and better and n >= ENOUGH else "weak"


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """The verdict as reports print it."""
    low, high = report["kendall_tau_ci"]
    free = max(report["baselines"].items(), key=lambda item: item[1]["kendall_tau"])
    return (
        f"{_OPENING}{report['verdict']}. Kendall's tau between inherited and stand-alone "
        f"accuracy {report['kendall_tau']:.2f} (95 % interval {low:.2f} to {high:.2f}, "
        f"{report['n']} networks); "
        f"best free baseline: {free[0]}, {free[1]['kendall_tau']:.2f}."
        f"{_better_for_free(report['kendall_tau'], *free)}"
    )


def _better_for_free(tau: float, name: str, free: Mapping[str, Any]) -> str:
    """A warning for users whose supernet is outdone by a number that costs nothing."""
    if free["kendall_tau"] <= tau:
        return ""
    orders = _FREE_IN_WORDS.get(name, f"{name} alone")
    return f" Warning: {orders} orders these networks better than their inherited accuracies do."


def is_warning(sentence: str) -> bool:
    """Whether a verdict's sentence warns: the ranking is weak or not trusted."""
    return sentence.startswith(tuple(f"{_OPENING}{kind}" for kind in ("weak", "not trusted")))


UNKNOWN = "Ranking of this supernet: unknown; 'aspk rank' measures it."


def read_verdict(report_file: Path, weights_fingerprint: str, statistics: str) -> str:
    """The sentence on a supernet from its ``rank.json``.

    Args:
        report_file: the ``rank.json``.
        weights_fingerprint: SHA-256 of the weights.
        statistics: the statistics that the networks are evaluated with, see
            :class:`aspk.spec.settings.EvaluationSettings`; each ranks them in its own way.

    Returns:
        The sentence; :data:`UNKNOWN` if the report is missing, damaged, or of other weights or statistics.
    """
    report = read_json(report_file) or {}
    try:
        if report["weights"] != weights_fingerprint:
            return UNKNOWN
        if report["evaluation"].get("statistics", "own") == statistics:
            return verdict_sentence(report)
        return verdict_sentence({**report, **report["variants"][variant_name(statistics)]})
    except (ValueError, KeyError, TypeError, AttributeError):
        return UNKNOWN


def variant_name(statistics: str) -> str:
    """What ``rank.json`` calls inherited accuracies measured with statistics other than its main ones."""
    return f"{statistics} statistics"


def summarise(rows: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, Any]:
    """All statistics of a ranking study.

    Args:
        rows: one for each network: ``inherited`` (accuracy), ``inherited_energy_mj``, ``alone`` (test
            accuracies, one for each seed), ``alone_energy_mj``, ``operations``, ``parameters``,
            ``time_steps``, and ``variants`` (inherited accuracies by name).
        seed: of all resampling.

    Raises:
        RankingError: too few networks, or a number is missing or not finite.
    """
    try:
        column = {name: np.array([float(row[name]) for row in rows]) for name in _COLUMNS}
        first = np.array([float(row["alone"][0]) for row in rows])
        twice = np.array([row["alone"][:2] for row in rows if len(row["alone"]) > 1], dtype=float).reshape(
            -1, 2
        )
        names = list(rows[0]["variants"]) if rows else []
        variants = {name: np.array([float(row["variants"][name]) for row in rows]) for name in names}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RankingError(f"damaged ranking study: {type(error).__name__}: {error}") from None
    free = {
        "operations": column["operations"],
        "parameters": column["parameters"],
        "T": column["time_steps"],
        "energy": column["inherited_energy_mj"],
    }
    inherited = column["inherited"]
    resampled = _Resampled.of({"": inherited, **free, **variants}, first, seed=seed)
    main, baselines = resampled.ranking(""), {name: resampled.ranking(name, below="") for name in free}
    compared = {
        name: {
            **resampled.ranking(name, below="").to_json(),
            "verdict": verdict(
                len(rows),
                resampled.ranking(name),
                {free_one: resampled.ranking(free_one, below=name) for free_one in free},
            ),
        }
        for name in variants
    }
    energy, energy_baselines = rankings(
        column["inherited_energy_mj"],
        {name: free[name] for name in ("operations", "parameters", "T")},
        column["alone_energy_mj"],
        seed=seed,
    )
    report: dict[str, Any] = {
        "n": len(rows),
        **main.to_json(),
        "spearman": float(stats.spearmanr(inherited, first).statistic),
        "partial_tau_given_operations": partial_kendall(inherited, first, free["operations"]),
        "noise_ceiling": noise_ceiling(first, twice[:, 0], twice[:, 1], seed),
        "trained_twice": len(twice),
        "top_k_regret": {str(k): top_k_regret(inherited, first, k) for k in (1, 3, 5)},
        "baselines": {name: ranking.to_json() for name, ranking in baselines.items()},
        "variants": compared,
        "energy": {
            **energy.to_json(),
            "baselines": {name: ranking.to_json() for name, ranking in energy_baselines.items()},
        },
        "verdict": verdict(len(rows), main, baselines),
    }
    return report
