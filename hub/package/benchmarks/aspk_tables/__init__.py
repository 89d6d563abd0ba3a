"""Accuracy and energy of every network of a small space of spiking transformers, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
import optunahub
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection

from aspk.samplers import gene_distribution
from aspk.space import SearchSpace
from aspk.tables import TabularEvaluator


class Problem(optunahub.benchmarks.BaseProblem):
    """Find networks of high accuracy and low energy: a table that comes with aspk.

    Called with a trial, only the genes in use are suggested. ``search_space`` is the flat form, for
    ``evaluate``: it may include parameters of blocks beyond the depth, which are ignored.
    """

    def __init__(self, table: str = "fashion_shared", split: str = "search") -> None:
        """Open a table.

        Args:
            table: the name of a table that comes with aspk, or a file.
            split: ``search`` for searching, ``test`` for the final result.
        """
        self.table = TabularEvaluator(table, split=split)

    @property
    def space(self) -> SearchSpace:
        """The space of the networks, as aspk's samplers accept it."""
        return self.table.space

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """Every gene."""
        return {gene.parameter: gene_distribution(gene) for gene in self.space.genes}

    @property
    def directions(self) -> list[StudyDirection]:
        """Accuracy to maximise, energy in mJ to minimise."""
        return [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """Accuracy and energy of the network that a trial suggests."""
        return self._values(self.space.encode(self.space.suggest(trial)))

    def evaluate(self, params: dict[str, Any]) -> Sequence[float]:
        """Accuracy and energy of the network with these parameter values."""
        return self._values(self.space.from_parameters(params))

    def _values(self, x: Any) -> Sequence[float]:  # noqa: ANN401
        metrics = self.table.metrics[int(self.table.rows(x)[0])]
        return metrics.accuracy, metrics.energy_mj

    def hypervolume(self) -> float:
        """Hypervolume of the true front up to ``reference_point``."""
        return self.table.hypervolume()

    @property
    def reference_point(self) -> list[float]:
        """A point behind the true front, minimised (accuracy is negated); for scoring, not for a sampler."""
        return [float(value) for value in self.table.reference_point()]


__all__ = ["Problem"]
