"""The model of a study: predictions of all objectives and constraints for candidates."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from aspk.costs.features import FreeFeatures
from aspk.errors import SamplerError
from aspk.objectives.composite import Composite
from aspk.samplers._history import History
from aspk.samplers._targets import BOUND, Column, Data, Targets, columns_of
from aspk.space.operators import Genome, Genotypes
from aspk.surrogate.composition import CompositeModel, ConstraintModel, KnownModel, bound_on
from aspk.surrogate.encoder import Encoder, WithPrediction
from aspk.surrogate.model import Logarithm, ProcessModel, fit
from aspk.surrogate.posterior import CombinedPosterior, Model, Posterior
from aspk.util.pareto import FloatArray, within_reach

# By how much a prior study must increase the logarithm of the probability of what was observed. With 4 to 16
# random networks, one of shuffled values did so in 1 of 48 cases, and a related one in most.
_PRIOR_ODDS = 1.0
# Processes by the name of what they predict, with the data that their hyperparameters were fitted to. They
# are only a cache: forgetting one changes nothing.
Fits = dict[Hashable, tuple[tuple[Genome, bytes], ProcessModel]]


@dataclass(frozen=True)
class StudyModel:
    """A :class:`~aspk.surrogate.posterior.Model` of all objectives, minimised, and of feasibility.

    Attributes:
        objectives: the model of each.
        constraints: those that are not known.
        failure: the model of a label, 1 for trials that failed or were pruned without a report, and -1 for
            others; None if there are no such trials.
        cost: the model of what an evaluation costs; None if that is not learnt.
    """

    objectives: Sequence[Model]
    constraints: Sequence[ConstraintModel] = ()
    failure: ProcessModel | None = None
    cost: ProcessModel | None = None

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
    known: Mapping[int, Callable[[Genotypes], FloatArray]],
    composites: Mapping[int, Composite],
    free: FreeFeatures | None,
    first: int,
    fits: Fits,
    cost: str | None = None,
) -> StudyModel:
    """The model of a study's trials.

    A constraint that is a bound on a learnt column, an objective or a part of one, shares that column's
    model, which then knows as much about the constraint as about the objective.

    Args:
        genome: the search space.
        history: the trials, of which at least two were evaluated.
        known: objectives that are not learnt: their values, minimised, of genotypes.
        composites: objectives whose parts, which all trials carry, are learnt.
        free: what is known of a network without evaluating it; None without a search space.
        first: number of trials after which hyperparameters are fitted for the first time.
        fits: earlier fits of this study; new ones are added.
        cost: the attribute that says what an evaluation cost; it is learnt where it is above 0, from as many
            trials as the search starts with.

    Raises:
        SamplerError: nothing can be learnt.
        ValueError: too few trials.
    """
    if (np.ptp(history.values, axis=0) == 0).all() and not (history.violation > 0).any():
        raise SamplerError("all trials have the same values")
    columns = columns_of(history, {k: one for k, one in composites.items() if k not in known})
    learnt = [column for column in columns if column[0] not in known]
    constraints = {name: values for name, values in history.constraints.items() if _differ(values)}
    shared = {
        name: (column, *found)
        for name, values in constraints.items()
        for column in learnt
        if (found := bound_on(columns[column], values)) is not None
    }
    costs = np.zeros(0) if cost is None else np.where(history.complete, history.attributes[cost], np.nan)
    learn_cost = int((costs > 0).sum()) >= first
    processes = len(learnt) + len(constraints) - len(shared) + (len(history.discarded) > 0) + learn_cost
    targets = Targets(history, columns, first, processes)

    def process(
        name: Hashable,
        early: Data,
        data: Data,
        prior: Sequence[ProcessModel] = (),
        logarithm: Logarithm = "auto",
    ) -> ProcessModel:
        content = (genome, b"".join(array.tobytes() for array in early))
        if name not in fits or fits[name][0] != content:
            known = [free, *(WithPrediction(free, model.standard) for model in prior)]
            encoders = [Encoder.of(genome, features, early[0]) for features in known]
            found = [fit(encoder, *early, logarithm=logarithm) for encoder in encoders]
            evidence = [model.log_evidence(early[1]) for model in found]
            evidence[0] += _PRIOR_ODDS
            fits[name] = (content, found[int(np.argmax(evidence))])
        model = fits[name][1]
        if model.scale.logarithm and not (data[1] > 0).all():  # a later value is not positive
            model = fit(Encoder.of(genome, free, data[0]), *data, logarithm=False)
        return model.condition_on(*data)

    of_priors = prior_models(genome, history.priors, learnt, composites, free, fits)
    models = {}
    for column in learnt:
        bounds = [bound for of, bound, _ in shared.values() if of == column]
        models[column] = process(column, *targets.column(column, bounds), of_priors[column])

    def objective(k: int) -> Model:
        if k in known:
            return KnownModel(known[k])
        parts = [model for column, model in models.items() if column[0] == k]
        return CompositeModel(composites[k], float(history.signs[k]), parts) if k in composites else parts[0]

    def constraint(name: str) -> ConstraintModel:
        if name in shared:
            column, bound, weight = shared[name]
            return ConstraintModel(models[column], bound, weight)
        return ConstraintModel(process(("constraint", name), *targets.constraint(name)), BOUND)

    return StudyModel(
        [objective(k) for k in range(history.values.shape[1])],
        [constraint(name) for name in constraints],
        process("failure", *targets.failure()) if len(history.discarded) else None,
        process("cost", *targets.cost(costs), logarithm=True) if learn_cost else None,
    )


def prior_models(
    genome: Genome,
    priors: Sequence[History],
    wanted: Sequence[Column],
    composites: Mapping[int, Composite],
    free: FreeFeatures | None,
    fits: Fits,
) -> dict[Column, list[ProcessModel]]:
    """What earlier studies predict of each column; one that has nothing to say of a column is left out.

    Args:
        genome: the search space.
        priors: histories of the earlier studies.
        wanted: the columns that are learnt.
        composites: objectives whose parts are learnt.
        free: what is known of a network without evaluating it.
        fits: earlier fits; new ones are added.
    """
    result: dict[Column, list[ProcessModel]] = {column: [] for column in wanted}
    for number, prior in enumerate(priors):
        carried = {
            k: one
            for k, one in composites.items()
            if all(np.isfinite(prior.attributes[part]).all() for part in one.parts)
        }
        columns = columns_of(prior, carried)
        targets = Targets(prior, columns, len(prior), len(columns))
        for column in wanted:
            if column not in columns or np.ptp(columns[column]) == 0:
                continue
            early, data = targets.column(column, ())
            name, content = ("prior", number, column), (genome, b"".join(map(np.ndarray.tobytes, data)))
            if name not in fits or fits[name][0] != content:
                model = fit(Encoder.of(genome, free, early[0]), *early)
                fits[name] = (content, model.condition_on(*data))
            result[column].append(fits[name][1])
    return result


def _differ(values: FloatArray) -> bool:
    """Whether a constraint has different values; NaN is ignored."""
    return len(np.unique(values[np.isfinite(values)])) > 1
