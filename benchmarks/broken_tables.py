"""Tables with broken networks in them: two formulas with dead regions, and the public ones if they are there.

Broken networks answer at chance and cost less than all others, so that nothing dominates them. A search is
scored as in ``score.py`` of the public tables: the front and its range are those of the working networks,
ideal and nadir of that front are 0 and 1, and the reference point is (1.1, 1.1).
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from optuna.trial import Trial

from aspk.space import IntArray
from aspk.util.pareto import FloatArray, hypervolume, nondominated

CHANCE = 90.0  # per cent of errors of a network that guesses one of ten classes
_REFERENCE = np.full(2, 1.1)
_NONE, _SKIP, _POOL = 0, 1, 4  # operations of an edge; 2 and 3 are convolutions of one and nine places
# Edges 01, 02, 12, 03, 13, 23 that lead from a cell's input to its output.
_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))


class Table(Protocol):
    """A problem of two minimised objectives, error in per cent and cost."""

    name: str
    error: FloatArray
    cost: FloatArray

    def suggest(self, trial: Trial) -> int:
        """The row of a trial's network."""
        ...

    def share(self, rows: Sequence[int]) -> float:
        """Share of the true hypervolume that these rows reach."""
        ...


class Formula:
    """A table of a formula: all networks of a small space.

    Args:
        name: of the table.
        genes: shape (n, G), all combinations in lexicographic order.
        error: per cent, shape (n,); :data:`CHANCE` where a network is broken.
        cost: shape (n,).
        ordered: whether genes have ordered choices.
    """

    def __init__(
        self, name: str, genes: IntArray, error: FloatArray, cost: FloatArray, *, ordered: bool
    ) -> None:
        self.name, self.genes, self.error, self.cost, self._ordered = name, genes, error, cost, ordered
        self.choices = genes.max(axis=0) + 1

    def suggest(self, trial: Trial) -> int:
        """See :class:`Table`."""
        if self._ordered:
            genes = [trial.suggest_int(f"gene_{i}", 0, int(n) - 1) for i, n in enumerate(self.choices)]
        else:
            genes = [
                trial.suggest_categorical(f"gene_{i}", list(range(n))) for i, n in enumerate(self.choices)
            ]
        return int(np.ravel_multi_index(genes, tuple(self.choices)))

    def share(self, rows: Sequence[int]) -> float:
        """See :class:`Table`."""
        return hypervolume(self._scaled[list(rows)], _REFERENCE) / self._whole

    @cached_property
    def _whole(self) -> float:
        return hypervolume(self._scaled, _REFERENCE)

    @cached_property
    def _scaled(self) -> FloatArray:
        """Both objectives, shape (n, 2): 0 is the ideal and 1 the nadir of the front of what works."""
        values = np.column_stack([self.error, self.cost])
        working = values[self.error < CHANCE]
        front = working[nondominated(working)]
        return np.asarray((values - front.min(axis=0)) / np.ptp(front, axis=0))


def cells(seed: int = 0) -> Formula:
    """Cells of six edges with one of five operations, as NAS-Bench-201's; without a path they are broken."""
    genes = np.array(list(itertools.product(range(5), repeat=6)))
    passes = genes != _NONE
    open_paths = np.column_stack([passes[:, list(path)].all(axis=1) for path in _PATHS])
    used = np.zeros_like(passes)
    for path, is_open in zip(_PATHS, open_paths.T, strict=True):
        used[:, list(path)] |= is_open[:, None]
    weight = np.array([0.0, 0.05, 0.5, 1.0, 0.1])
    convolved = [
        np.where(is_open, weight[genes[:, list(path)]].sum(axis=1), 0.0)
        for path, is_open in zip(_PATHS, open_paths.T, strict=True)
    ]
    strength = np.max(convolved, axis=0) + 0.4 * (used * weight[genes]).sum(axis=1)
    pooled = (used & (genes == _POOL)).sum(axis=1)
    skipped = (used & (genes == _SKIP)).any(axis=1)
    noise = np.random.default_rng(seed).normal(0.0, 0.03, len(genes))
    error = 6.0 + 35.0 * np.exp(-0.9 * strength + 0.12 * pooled - 0.15 * skipped + noise)
    edge = 1.0 + 0.05 * np.arange(6)
    cost = 1.0 + (used * np.array([0.0, 0.1, 1.0, 3.0, 0.3])[genes] * edge).sum(axis=1)
    works = open_paths.any(axis=1)
    return Formula("cells", genes, np.where(works, error, CHANCE), cost, ordered=False)


def silent(seed: int = 0) -> Formula:
    """Four spiking blocks whose thresholds, width and time steps are ordered; what never fires is broken."""
    choices = (5, 5, 5, 5, 5, 4)
    genes = np.array(list(itertools.product(*map(range, choices))))
    thresholds, width, steps = 0.5 + 0.3 * genes[:, :4], 2.0 ** (genes[:, 4] / 2), 1.0 + genes[:, 5]
    rate, rates = np.ones(len(genes)), []
    for threshold in thresholds.T:
        drive = rate * (1.0 + 0.25 * width) / threshold
        rate = np.where(drive < 0.3, 0.0, drive / (1.0 + drive))
        rates.append(rate)
    noise = np.random.default_rng(seed).normal(0.0, 0.02, len(genes))
    fired = np.stack(rates)
    error = 5.0 + 30.0 * np.exp(
        noise - 0.35 * width - 0.2 * steps + 2.0 * np.square(fired - 0.45).sum(axis=0)
    )
    cost = steps * (0.2 * width + width**2 * fired.sum(axis=0))
    cost = np.where(rate > 0, cost, 0.2)  # counted by its input layer alone
    return Formula("silent", genes, np.where(rate > 0, error, CHANCE), cost, ordered=True)


def public(name: str) -> Table | None:
    """A public table of cells from ``ASPK_DATA/tables``, scored by its own ``score.py``; None without it."""
    folder = Path(os.environ.get("ASPK_DATA", "")) / "tables"
    if not (folder / f"{name}.npz").resolve().is_file() or not (folder / "score.py").is_file():
        return None
    specification = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert specification is not None
    assert specification.loader is not None
    score = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(score)
    return _Public(name, score.Table(name))


class _Public:
    """A table of ``score.py`` as a :class:`Table`."""

    def __init__(self, name: str, table: Any) -> None:  # noqa: ANN401 - a class of a file that is not ours
        self.name, self.error, self.cost, self._table = name, table.error, table.cost, table

    def suggest(self, trial: Trial) -> int:
        genes = [trial.suggest_categorical(f"gene_{i}", list(range(5))) for i in range(6)]
        return int(self._table.row(genes))

    def share(self, rows: Sequence[int]) -> float:
        values = np.column_stack([self.error, self.cost])[list(rows)]
        front = np.asarray(rows)[nondominated(values)]  # score.py goes through all prefixes
        return float(self._table.share(front.tolist())[-1])
