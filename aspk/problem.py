"""The search as a pymoo problem, and aspk's operators as pymoo operators.

For example::

    algorithm = NSGA2(pop_size=50, **operators(space))
    result = minimize(SpikformerProblem(space, evaluator), algorithm, ("n_eval", 1000), seed=1)

pymoo hands its algorithm's generator to every operator, so that ``seed`` decides the whole run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.core.crossover import Crossover as PymooCrossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation as PymooMutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair as PymooRepair
from pymoo.core.sampling import Sampling as PymooSampling

from aspk.costs.bounds import KnownConstraints
from aspk.costs.values import KnownValues, NetworkFunction
from aspk.errors import EvaluationError, GenotypeError, ObjectiveError
from aspk.evaluation import CachedEvaluator, Evaluator, Result
from aspk.metrics import Metrics
from aspk.objectives import Constraint, Direction, Objective, minimised, objective
from aspk.space import SearchSpace
from aspk.space.operators import Genotypes, crossover, keys, mutate, sample_distinct
from aspk.util.pareto import FloatArray

_LOGGER = logging.getLogger(__name__)
_NOTHING_KNOWN = 1e30  # objective value of a network without metrics, if no other of its generation has any


class SpikformerProblem(Problem):  # type: ignore[misc]  # pymoo has no types
    """Networks of a search space as a vectorised pymoo problem over index vectors.

    Every network is evaluated once. A network without metrics gets objective values worse than all of its
    generation, since pymoo cannot handle NaN, and a warning says why. If there are constraints, a last one is
    added, "could be evaluated", and such a network gets +1 in all of them. Without constraints it is added
    only on request, so that algorithms that refuse constraints, such as MOEA/D, still run. Problems and
    results can be pickled and copied if your own evaluator and objectives can.
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluator: Evaluator,
        *,
        objectives: Sequence[Objective | str] = ("accuracy", "energy"),
        constraints: Sequence[Constraint] = (),
        failures_are_infeasible: bool | None = None,
    ) -> None:
        """Make a problem.

        Args:
            space: the networks.
            evaluator: gives their metrics, a whole generation per call.
            objectives: objectives, or names of shipped ones; those to be maximised are negated in F.
            constraints: upper bounds.
            failures_are_infeasible: whether a network without metrics violates a constraint; None means yes
                if there are constraints.

        Raises:
            ObjectiveError: there is no objective, or a name is unknown.
        """
        if not objectives:
            raise ObjectiveError("a problem needs at least one objective")
        self.space = space
        self.objectives = tuple(objective(o) if isinstance(o, str) else o for o in objectives)
        self.constraints = tuple(constraints)
        self._evaluator = CachedEvaluator(evaluator, space)
        self._marks = bool(self.constraints) if failures_are_infeasible is None else failures_are_infeasible
        self._told: set[str] = set()
        super().__init__(
            n_var=len(space.cardinalities),
            n_obj=len(self.objectives),
            n_ieq_constr=len(self.constraints) + self._marks,
            xl=np.zeros(len(space.cardinalities), dtype=np.int64),
            xu=space.cardinalities - 1,
            vtype=int,
        )

    def metrics(self, X: npt.ArrayLike) -> list[Result]:
        """The metrics of index vectors, shape (n, G), or why there are none; from the cache where known."""
        rows = np.asarray(X).reshape(-1, len(self.space.cardinalities))
        return self._evaluator.evaluate([self.space.decode(x) for x in rows])

    def _evaluate(self, X: npt.NDArray[Any], out: dict[str, Any], *args: object, **kwargs: object) -> None:
        del args, kwargs  # pymoo passes its own bookkeeping
        if (np.round(X.astype(float)) != X).any():
            raise GenotypeError(
                "the algorithm gave real numbers where index vectors are expected: use one that takes "
                "its operators as arguments, with **operators(space), such as NSGA2, NSGA3 or MOEAD"
            )
        rows = [self._numbers(result) for result in self.metrics(X)]
        directions: list[Direction] = [objective.direction for objective in self.objectives]
        F = np.full((len(rows), len(self.objectives)), np.nan)
        G = np.ones((len(rows), len(self.constraints) + self._marks))
        for index, numbers in enumerate(rows):
            if numbers is not None:
                F[index] = minimised([numbers[0]], directions)[0]
                G[index] = [*numbers[1], -1.0][: G.shape[1]]
        out["F"] = _worse_where_missing(F)
        if G.shape[1]:
            out["G"] = G

    def _numbers(self, result: Result) -> tuple[list[float], list[float]] | None:
        """Objective and constraint values; None if there are none, and the log says why, once."""
        try:
            if isinstance(result, Metrics):
                return [o(result) for o in self.objectives], [c(result) for c in self.constraints]
            raise result
        except (EvaluationError, ObjectiveError) as error:
            if (why := str(error)) not in self._told:
                self._told.add(why)
                _LOGGER.warning("a network without metrics counts as worse than its generation: %s", why)
            return None

    def __deepcopy__(self, memo: dict[int, Any]) -> SpikformerProblem:
        """Itself: pymoo copies the problem in each generation that it saves."""
        return self


def _worse_where_missing(F: FloatArray) -> FloatArray:
    """``F`` with NaN replaced by a number worse than all others of the column.

    It lies behind the worst one by the column's range, so that whatever was measured dominates the row and
    algorithms that scale by ranges still can. Where a whole column is missing, as in a generation of one, it
    is worse than anything that is measured before or later.
    """
    missing, result = np.isnan(F), F.copy()
    for values, out in zip(result.T, missing.T, strict=True):
        known = values[~out]
        if len(known):
            worst = float(known.max())
            with np.errstate(over="ignore"):
                behind = worst + (float(np.ptp(known)) or max(abs(worst), 1.0))
            values[out] = min(behind, sys.float_info.max)
        else:
            values[out] = _NOTHING_KNOWN
    return result


# ------------------------------------------------------------------ operators


class Sampling(PymooSampling):  # type: ignore[misc]  # pymoo has no types
    """Random distinct networks."""

    def _do(
        self,
        problem: SpikformerProblem,
        n_samples: int,
        *args: object,
        random_state: np.random.Generator,
        **kwargs: object,
    ) -> Genotypes:
        return sample_distinct(problem.space, n_samples, random_state)


class Crossover(PymooCrossover):  # type: ignore[misc]  # pymoo has no types
    """:func:`aspk.space.operators.crossover`: two parents, two independent children."""

    def __init__(self, *, probability: float = 0.9) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=probability)

    def _do(
        self,
        problem: SpikformerProblem,
        X: Genotypes,
        *args: object,
        random_state: np.random.Generator,
        **kwargs: object,
    ) -> Genotypes:
        return np.stack([crossover(problem.space, X[0], X[1], random_state) for _ in range(2)])


class Mutation(PymooMutation):  # type: ignore[misc]  # pymoo has no types
    """:func:`aspk.space.operators.mutate`."""

    def __init__(self, *, changes: float = 1.0, creep: float = 0.5) -> None:
        super().__init__(prob=1.0)
        self.changes = changes
        self.creep = creep

    def _do(
        self,
        problem: SpikformerProblem,
        X: Genotypes,
        *args: object,
        random_state: np.random.Generator,
        **kwargs: object,
    ) -> Genotypes:
        return mutate(problem.space, X, random_state, changes=self.changes, creep=self.creep)


class Repair(PymooRepair):  # type: ignore[misc]  # pymoo has no types
    """Replaces networks that violate known constraints with similar random ones that satisfy them."""

    def __init__(self, space: SearchSpace, known_constraints: Mapping[str, NetworkFunction]) -> None:
        super().__init__()
        self.bounds = KnownConstraints(space, dict(known_constraints), KnownValues())

    def _do(
        self,
        problem: SpikformerProblem,
        X: Genotypes,
        *args: object,
        random_state: np.random.Generator,
        **kwargs: object,
    ) -> Genotypes:
        return self.bounds.kept_by(X.astype(np.int64), random_state)


class Duplicates(DuplicateElimination):  # type: ignore[misc]  # pymoo has no types
    """Equal networks, whatever their inactive genes, are duplicates; the first one stays."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(
        self, pop: Population, other: Population | None, is_duplicate: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        known = set() if other is None else set(self._keys(other))
        for index, key in enumerate(self._keys(pop)):
            is_duplicate[index] = key in known
            if other is None:
                known.add(key)
        return is_duplicate

    def _keys(self, population: Population) -> list[bytes]:
        return keys(self.space, np.array([individual.X for individual in population], dtype=np.int64))


def operators(
    space: SearchSpace, *, known_constraints: Mapping[str, NetworkFunction] | None = None
) -> dict[str, Any]:
    """Keyword arguments for pymoo's genetic algorithms: ``NSGA2(pop_size=50, **operators(space))``.

    Args:
        space: the networks.
        known_constraints: name of a constraint to its value as a function of a network, such as
            :class:`~aspk.costs.known.CostConstraint`; values up to 0 are feasible. Networks that violate one
            are repaired before they are evaluated.
    """
    repair = {"repair": Repair(space, known_constraints)} if known_constraints else {}
    return repair | {
        "sampling": Sampling(),
        "crossover": Crossover(),
        "mutation": Mutation(),
        "eliminate_duplicates": Duplicates(space),
    }
