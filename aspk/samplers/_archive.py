"""A study's trials as arrays. A finished trial never changes, so each is read once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aspk.objectives import Direction, minimised
from aspk.samplers._codec import Codec
from aspk.samplers._history import BoolArray, History, finite
from aspk.samplers._notices import Notices
from aspk.samplers._pruned import completed
from aspk.space.operators import Genome, Genotypes, keys
from aspk.trials.attributes import reports_from_attributes
from aspk.util.pareto import REACH, FloatArray, worst_where_infinite

Fitness = Callable[[FrozenTrial], float]
SECONDS = "seconds"  # the attribute that trials have by themselves


class Directed(Protocol):
    """A study, or a snapshot of one."""

    @property
    def directions(self) -> Sequence[StudyDirection]:
        """Whether each objective is minimised or maximised."""
        ...


class Archive:
    """Turns a study into a :class:`History`, and remembers the finished trials that it has read.

    It is only a cache: a new archive gives the same history.
    """

    def __init__(
        self, codec: Codec, seed: int, fitness: Fitness | None, attributes: Sequence[str] = ()
    ) -> None:
        self.codec = codec
        self._seed = seed
        self._fitness = fitness
        self._names = tuple(attributes)
        self._clear()

    def _clear(self) -> None:
        genes, kind = len(self.codec.genome.cardinalities), _dtype(self.codec.genome)
        self._known: dict[int, FrozenTrial] = {}  # by id(): storages hand out the same object every time
        self._designs: set[bytes] = set()
        self._open: set[bytes] = set()  # genotypes whose trials have more parameters
        self._directions: tuple[Direction, ...] = ()
        self._X, self._discarded = _Table(genes, kind), _Table(genes, kind)
        self._numbers, self._violation, self._scores = (_Table(1, np.float64) for _ in range(3))
        self._of_discarded = _Table(1, np.float64)  # their trials' numbers
        self._attributes = _Table(len(self._names), np.float64)
        self._constraints: list[dict[str, float]] = []
        self._pruned: list[bool] = []
        self._curves: list[Mapping[int, Sequence[float]]] = []
        self._values: _Table | None = None
        self._unread = 0  # complete trials that are not learnt from, since they are no genotypes

    def history(self, study: Directed, trials: Sequence[FrozenTrial]) -> History:
        """The study's trials as arrays, by number.

        Args:
            study: the study, of which only the directions are read.
            trials: its trials, or those to be considered.
        """
        fresh = [trial for trial in trials if id(trial) not in self._known]
        if len(fresh) + len(self._known) != len(trials):  # another study, or a storage that copies
            self._clear()
            fresh = list(trials)
        self._directions = tuple(
            "maximize" if direction == StudyDirection.MAXIMIZE else "minimize"
            for direction in study.directions
        )
        pending, finished, open_ended, exact = [], [], [], []
        for trial in fresh:
            x = self._genotype(trial)
            if trial.state.is_finished():
                self._known[id(trial)] = trial
            if x is None:
                self._unread += trial.state == TrialState.COMPLETE
                continue
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                pending.append(x)
            else:
                finished.append(x)
                open_ended.append(not self.codec.whole and _has_others(trial, self.codec.distributions))
                exact.append(self.codec.exact(trial.params))
                self._take(trial, x)
        if finished:
            known = keys(self.codec.genome, np.array(finished))
            self._open |= set(itertools.compress(known, open_ended))
            closed = [only and not more for only, more in zip(exact, open_ended, strict=True)]
            self._designs |= set(itertools.compress(known, closed))
        return self._history(np.array(pending))

    def warn(self, notices: Notices, space: str) -> None:
        """Say how many complete trials are no networks of the search space, and not learnt from."""
        if self._unread:
            text = f"{self._unread} trials, whose parameters are no network of space {space!r}"
            notices.warn("not learnt from", text, case="space")

    def _take(self, trial: FrozenTrial, x: Genotypes) -> None:
        values, pruned = trial.values, trial.state == TrialState.PRUNED
        if pruned:
            values = self._reported(trial)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and self._measured(values):
            self._add(trial, x, values, pruned=pruned)
        else:
            self._of_discarded.append(trial.number)
            self._discarded.append(x)

    def _add(self, trial: FrozenTrial, x: Genotypes, values: Sequence[float], *, pruned: bool) -> None:
        self._numbers.append(trial.number)
        self._X.append(x)
        broken = [value for value in trial.constraints.values() if not value <= 0]
        self._violation.append(math.inf if any(map(math.isnan, broken)) else sum(broken))
        self._constraints.append(dict(trial.constraints))
        if self._values is None:
            self._values = _Table(len(values), np.float64)
        self._values.append(values)
        self._pruned.append(pruned)
        self._curves.append(self._reports(trial))
        self._attributes.append([_attribute(trial, name) for name in self._names])
        self._scores.append(math.nan if self._fitness is None or pruned else float(self._fitness(trial)))

    def _reported(self, trial: FrozenTrial) -> list[float] | None:
        """What a pruned trial reported last; None if it reported nothing."""
        curve = self._reports(trial)
        return list(curve[max(curve)]) if curve else None

    def _reports(self, trial: FrozenTrial) -> Mapping[int, Sequence[float]]:
        """What a trial reported at each step: to Optuna, which takes one value, or as an attribute."""
        if len(self._directions) == 1 and trial.intermediate_values:
            return {step: (value,) for step, value in trial.intermediate_values.items()}
        return reports_from_attributes(trial.user_attrs, len(self._directions))

    def _measured(self, values: Sequence[float] | None) -> bool:
        """Whether there are values and none is NaN or infinitely good; else the trial counts as failed."""
        return values is not None and bool((minimised(values, self._directions) > -math.inf).all())

    def _history(self, pending: Genotypes) -> History:
        values = np.empty((0, len(self._directions))) if self._values is None else self._values.rows
        # Workers finish in any order, and a search must not depend on when each trial was read.
        order = np.argsort(self._numbers.rows[:, 0], kind="stable")
        constraints = {
            name: finite(np.array([values.get(name, math.nan) for values in self._constraints]))[order]
            for name in sorted(set().union(*self._constraints))
        }
        pruned, curves = np.array(self._pruned, dtype=bool)[order], [self._curves[row] for row in order]
        own, std = worst_where_infinite(minimised(values[order], self._directions)), np.zeros(len(pruned))
        if pruned.any():
            columns = [self._completed(k, own[:, k], pruned, curves) for k in range(own.shape[1])]
            own = np.column_stack([predicted for predicted, _ in columns])
            deviations = np.column_stack([deviation for _, deviation in columns])
            std = deviations[:, 0] if len(columns) == 1 else deviations
        pending = pending.reshape(len(pending), self._X.rows.shape[1]).astype(self._X.rows.dtype)
        return History(
            X=self._X.rows[order],
            values=own,
            directions=self._directions,
            violation=self._violation.rows[order, 0],
            pending=pending,
            discarded=self._discarded.rows[np.argsort(self._of_discarded.rows[:, 0], kind="stable")],
            fitness=None if self._fitness is None else self._scores.rows[order, 0],
            designs=self._known_designs(pending),
            constraints=constraints,
            attributes=dict(zip(self._names, self._attributes.rows[order].T, strict=True)),
            pruned=pruned,
            std=std,
            whole=self.codec.whole,
            branches=self.codec.branches,
        )

    def _completed(
        self, k: int, values: FloatArray, pruned: BoolArray, curves: Sequence[Mapping[int, Sequence[float]]]
    ) -> tuple[FloatArray, FloatArray]:
        """Values of objective ``k``, predicted where a trial was pruned, and their deviations."""
        sign = minimised(np.ones((1, len(self._directions))), self._directions)[0, k]
        return completed(
            values, pruned, [{step: sign * row[k] for step, row in curve.items()} for curve in curves]
        )

    def _known_designs(self, pending: Genotypes) -> set[bytes]:
        """Keys of all genotypes except those whose other parameters may differ next time."""
        if self.codec.whole:
            return self._designs.union(keys(self.codec.genome, pending))
        return self._designs - self._open

    def _genotype(self, trial: FrozenTrial) -> Genotypes | None:
        parameters = trial.params
        if not trial.state.is_finished():  # it will be given its enqueued values
            parameters = trial.system_attrs.get("fixed_params", {}) | parameters
        elif parameters and trial.state == TrialState.COMPLETE:
            mine = not parameters.keys().isdisjoint(self.codec.distributions)
            if not mine:  # whatever was proposed for it, the objective asked for something else
                return None
        return self.codec.read(parameters, trial.system_attrs, (self._seed, trial.number, 1))


class _Table:
    """An array that grows by rows."""

    def __init__(self, columns: int, kind: type[np.int64] | type[np.float64]) -> None:
        self._buffer: npt.NDArray[Any] = np.empty((64, columns), dtype=kind)
        self._count = 0

    def append(self, row: npt.ArrayLike) -> None:
        if self._count == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._count] = row
        self._count += 1

    @property
    def rows(self) -> npt.NDArray[Any]:
        """What was appended, shape (n, columns); not to be written to."""
        view = self._buffer[: self._count]
        view.flags.writeable = False
        return view


def _has_others(trial: FrozenTrial, known: Mapping[str, BaseDistribution]) -> bool:
    """Whether a trial has other parameters, with more than one value each."""
    return any(name not in known and not other.single() for name, other in trial.distributions.items())


def _attribute(trial: FrozenTrial, name: str) -> float:
    """The number of a user attribute; ``seconds`` is how long the trial took, unless it says so itself."""
    took = trial.duration
    if name == SECONDS and name not in trial.user_attrs and took is not None:
        return took.total_seconds()
    return _number(trial.user_attrs.get(name))


def _number(value: object) -> float:
    """A number that can be learnt from, else NaN; storages in memory hold NumPy's, too."""
    value = value.item() if isinstance(value, np.integer | np.floating) else value
    return float(value) if isinstance(value, int | float) and abs(value) <= REACH else math.nan


def _dtype(genome: Genome) -> type[np.int64] | type[np.float64]:
    return np.float64 if (genome.cardinalities == 0).any() else np.int64
