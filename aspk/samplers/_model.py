"""The model of a study: what a search predicts of candidates, in all objectives and constraints."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import log_ndtr

from aspk.costs.features import FreeFeatures
from aspk.errors import SamplerError
from aspk.objectives.composite import Composite
from aspk.samplers._history import History, IntArray
from aspk.space.operators import Genome, Genotypes
from aspk.surrogate.composition import CompositeModel, ConstraintModel, KnownModel, bound_on
from aspk.surrogate.encoder import Encoder
from aspk.surrogate.hyperparameters import spread
from aspk.surrogate.model import Logarithm, ProcessModel, fit
from aspk.surrogate.posterior import CombinedPosterior, Model, Posterior
from aspk.util.pareto import FloatArray, nondominated, within_reach

Column = tuple[int, str]  # what is learnt of an objective: its number, and the part; "" is the whole
# Models by the name of what they are of, with the content that their hyperparameters were fitted to. They are
# a memory only: forgetting one changes nothing.
Fits = dict[Hashable, tuple[tuple[Genome, bytes], ProcessModel]]
_LARGEST_FIT = 600  # trials that are learnt from; a Gaussian process costs the cube of them
# Trials that hyperparameters are fitted to; fewer for more than two models: a new worker fits them all before
# its first suggestion.
_MOST_EARLY, _MOST_EARLY_OF_MANY = 150, 90
_GROWTH = 1.15  # hyperparameters are fitted again when the study has grown by as much
_CLIP = 3.0
# A constraint's values are learnt with 1 added: relative excesses are then shares of a bound. These are
# positive, and their logarithm is easier to learn, as that of other costs.
_BOUND = 1.0


@dataclass(frozen=True)
class StudyModel:
    """A :class:`~aspk.surrogate.posterior.Model` of all objectives, minimised, and of what is feasible.

    Attributes:
        objectives: the model of each.
        constraints: those that are not known.
        failure: of 1 for trials that failed or were pruned without a report, and -1 for others; None where
            none did.
    """

    objectives: Sequence[Model]
    constraints: Sequence[ConstraintModel] = ()
    failure: ProcessModel | None = None

    def predict(self, X: Genotypes) -> FloatArray:
        """Predicted objective values, shape (m, k)."""
        return within_reach(np.column_stack([model.predict(X) for model in self.objectives]))

    def posterior(self, X: Genotypes) -> Posterior:
        """The posterior of all objectives, shape (m, k), whose standard deviations are above 0."""
        return CombinedPosterior.of([model.posterior(X) for model in self.objectives], _stacked)

    def violation(self, X: Genotypes) -> FloatArray:
        """Sum of the predicted excesses over the constraints' bounds, shape (m,); 0 is feasible."""
        result = np.zeros(len(X))
        for constraint in self.constraints:
            result += np.maximum(constraint.predict(X), 0.0)
        return result

    def log_feasibility(self, X: Genotypes) -> FloatArray:
        """Logarithm of the probability that all constraints are kept and nothing fails, shape (m,)."""
        result = np.zeros(len(X))
        for constraint in self.constraints:
            result += constraint.log_feasibility(X)
        if self.failure is not None:
            label = self.failure.posterior(X)
            result += log_ndtr(-label.mean / np.maximum(label.std, 1e-9))
        return result


def _stacked(columns: Sequence[Posterior]) -> tuple[FloatArray, FloatArray]:
    mean = within_reach(np.column_stack([column.mean for column in columns]))
    std = within_reach(np.column_stack([column.std for column in columns]))
    return mean, np.maximum(std, 1e-12 * (1 + np.abs(mean)))


def fit_study(
    genome: Genome,
    history: History,
    *,
    known: Mapping[int, KnownModel],
    composites: Mapping[int, Composite],
    free: FreeFeatures | None,
    first: int,
    fits: Fits,
) -> StudyModel:
    """The model of a study's trials.

    A constraint that is a bound on a learnt column, an objective or a part of one, shares that column's
    model, which then knows of the constraint what it knows of the objective.

    Args:
        genome: the search space.
        history: the trials, of which at least two were evaluated.
        known: models of the objectives that are not learnt.
        composites: objectives of which the parts are learnt; all trials carry these.
        free: what is known of a network without evaluating it; None without a search space.
        first: number of trials after which hyperparameters are fitted for the first time.
        fits: earlier fits of this study; new ones are added.

    Raises:
        SamplerError: nothing can be learnt.
        ValueError: too few trials.
    """
    if (np.ptp(history.values, axis=0) == 0).all() and not (history.violation > 0).any():
        raise SamplerError("all trials have the same values")
    columns = _columns(history, {k: one for k, one in composites.items() if k not in known})
    learnt = [column for column in columns if column[0] not in known]
    constraints = {name: values for name, values in history.constraints.items() if _differ(values)}
    shared = {
        name: (column, *found)
        for name, values in constraints.items()
        for column in learnt
        if (found := bound_on(columns[column], values)) is not None
    }
    processes = len(learnt) + len(constraints) - len(shared) + (len(history.discarded) > 0)
    fitting = _Fitting(genome, history, free, first, _rows_to_fit(processes), fits)
    models = {
        column: fitting.column(columns, column, [bound for of, bound, _ in shared.values() if of == column])
        for column in learnt
    }

    def objective(k: int) -> Model:
        if k in known:
            return known[k]
        parts = [model for column, model in models.items() if column[0] == k]
        return CompositeModel(composites[k], float(history.signs[k]), parts) if k in composites else parts[0]

    def constraint(name: str) -> ConstraintModel:
        if name in shared:
            column, bound, weight = shared[name]
            return ConstraintModel(models[column], bound, weight)
        return ConstraintModel(fitting.constraint(name, len(columns)), _BOUND)

    return StudyModel(
        [objective(k) for k in range(history.values.shape[1])],
        [constraint(name) for name in constraints],
        fitting.failure() if len(history.discarded) else None,
    )


def _columns(history: History, composites: Mapping[int, Composite]) -> dict[Column, FloatArray]:
    """Values of each objective, or of its parts if it is a composite, minimised, shape (n,) each."""
    columns: dict[Column, FloatArray] = {}
    for k, values in enumerate(history.values.T):
        if k not in composites:
            columns[k, ""] = values
            continue
        for part, direction in composites[k].parts.items():
            own = history.attributes[part]
            columns[k, part] = -own if direction == "maximize" else own
    return columns


def _rows_to_fit(processes: int) -> int:
    """How many trials hyperparameters are fitted to, at most, of so many processes."""
    return _MOST_EARLY if processes <= 2 else _MOST_EARLY_OF_MANY


@dataclass(frozen=True)
class _Fitting:
    """Fits the processes of a study.

    Hyperparameters are those of the trials at the last *milestone*, a number of trials that grows by 15 %, so
    that most suggestions only condition a process on the newest trials. Each process has its milestones one
    trial later than the one before it: no suggestion waits for all fits.

    Attributes:
        genome: the search space.
        history: the trials.
        free: what is known of a network without evaluating it.
        first: the first milestone.
        most: trials that hyperparameters are fitted to.
        fits: earlier fits.
    """

    genome: Genome
    history: History
    free: FreeFeatures | None
    first: int
    most: int
    fits: Fits

    def column(
        self, columns: Mapping[Column, FloatArray], name: Column, bounds: Sequence[float]
    ) -> ProcessModel:
        """The process of one column, whose values up to these ``bounds`` are not clipped."""
        history, total, place = self.history, len(self.history), list(columns).index(name)
        count = self._milestone(total, place)
        table = np.column_stack(list(columns.values()))
        worst = (_worst_on_front(table[:n], history.violation[:n])[place] for n in (count, total))
        then, now = (_clipped(columns[name], count, max([wanted, *bounds])) for wanted in worst)
        early = spread(count, self.most)
        return self._process(name, history.X, now, self._best, early, then[early], history.std)

    @cached_property
    def _best(self) -> IntArray:
        """The trials that objectives are learnt from: all, or the best of very many."""
        total = len(self.history)
        return np.arange(total) if total <= _LARGEST_FIT else np.sort(self.history.best(_LARGEST_FIT))

    def constraint(self, name: str, columns: int) -> ProcessModel:
        """The process of one constraint's values, behind those of so many columns."""
        values = self.history.constraints[name]
        known = np.flatnonzero(np.isfinite(values))
        X, y, total = self.history.X[known], values[known] + _BOUND, len(known)
        count = self._milestone(total, columns + list(self.history.constraints).index(name))
        then, now = (_clipped(y, n, _BOUND) for n in (count, total))
        early = spread(count, self.most)
        return self._process(("constraint", name), X, now, spread(total, _LARGEST_FIT), early, then[early])

    def failure(self) -> ProcessModel:
        """The process of 1 for trials that are not to be proposed again, and -1 for others."""
        total = len(self.history)
        X = np.concatenate([self.history.X, self.history.discarded])
        labels = np.repeat([-1.0, 1.0], [total, len(X) - total])
        known = np.concatenate([np.arange(milestone(total, self.first)), np.arange(total, len(X))])
        early = known[spread(len(known), self.most)]
        return self._process("failure", X, labels, spread(len(X), _LARGEST_FIT), early, labels[early])

    def _milestone(self, total: int, place: int) -> int:
        """The last milestone of the process in a place, which comes ``place`` trials later."""
        return milestone(max(total - place, min(self.first, total)), self.first)

    def _process(
        self,
        name: Hashable,
        X: Genotypes,
        y: FloatArray,
        rows: IntArray,
        early: IntArray,
        early_y: FloatArray,
        std: FloatArray | None = None,
    ) -> ProcessModel:
        """A process conditioned on ``rows``, with hyperparameters of the ``early`` ones."""
        std = np.zeros(len(y)) if std is None else std
        early_X, early_std = X[early], std[early]
        content = (self.genome, early_X.tobytes() + early_y.tobytes() + early_std.tobytes())
        if name not in self.fits or self.fits[name][0] != content:
            self.fits[name] = (content, self._fit(early_X, early_y, early_std, "auto"))
        model = self.fits[name][1]
        if model.scale.logarithm and not (y > 0).all():  # a later trial has no logarithm
            model = self._fit(X[rows], y[rows], std[rows], False)
        return model.condition_on(X[rows], y[rows], std[rows])

    def _fit(self, X: Genotypes, y: FloatArray, std: FloatArray, logarithm: Logarithm) -> ProcessModel:
        return fit(Encoder.of(self.genome, self.free, X), X, y, logarithm=logarithm, std=std)


def _differ(values: FloatArray) -> bool:
    """Whether there are different values of a constraint; NaN is none."""
    return len(np.unique(values[np.isfinite(values)])) > 1


def milestone(count: int, first: int) -> int:
    """The largest of ``first``, ``first * 1.15 + 1``, ... that is at most ``count``."""
    at = min(first, count)
    while (later := int(at * _GROWTH) + 1) <= count:
        at = later
    return at


def _worst_on_front(values: FloatArray, violation: FloatArray) -> FloatArray:
    """Worst value of each column among the feasible rows that nothing dominates, shape (k,)."""
    feasible = values[violation <= 0]
    if not len(feasible):
        return np.full(values.shape[1], -np.inf)
    worst: FloatArray = feasible[nondominated(feasible)].max(axis=0)
    return worst


def _clipped(y: FloatArray, early: int, wanted: float) -> FloatArray:
    """``y`` with bad outliers brought nearer: a network that does not work says little about the others.

    Values up to ``wanted``, the worst on the front, stay: brought nearer, they would promise an improvement
    that no evaluation finds.
    """
    if (y > 0).all():  # costs, whose ratios matter
        return np.exp(_clipped_above(np.log(y), early, np.log(max(wanted, y.min()))))
    return _clipped_above(y, early, wanted)


def _clipped_above(y: FloatArray, early: int, wanted: float) -> FloatArray:
    """Values at most 3 times as far above the median of the ``early`` ones as the best lies below it."""
    middle, best = np.median(y[:early]), y[:early].min()
    return np.minimum(y, max(middle + _CLIP * (middle - best), wanted)) if middle > best else y
