"""The problem that a study solves: a space, an evaluator and objectives; and the study's own evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import FrozenTrial

from aspk.costs.features import FreeFeature
from aspk.costs.known import COSTS, Cost, CostConstraint
from aspk.data import DataSet, load_data
from aspk.engines.device import resolve_device
from aspk.errors import EvaluationError, MetricsError, ObjectiveError, StudyError
from aspk.evaluation import CachedEvaluator, Evaluator, evaluate_all
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.metrics import Metrics
from aspk.objectives import Constraint, Objective, budget, objective
from aspk.objectives.composite import Composite
from aspk.objectives.scalarization import FAEB
from aspk.space import SearchSpace
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.study import StudySpec
from aspk.study.storage import verdict_of, with_recorded_statistics
from aspk.training.checkpoint import LoadedSupernet, load_supernet


@dataclass(frozen=True)
class StudyProblem:
    """The problem that a study solves: a space, an evaluator, and what is to be optimised.

    Attributes:
        space: the search space.
        evaluator: evaluates its networks.
        objectives: what is optimised, in order.
        constraints: upper bounds.
        faeb: F_AEB against the reference network.
        reference: the reference network's metrics.
        fingerprints: hashes of what a worker must have in common with the study.
        statistics: the batch-normalisation statistics that the supernet's networks are evaluated with, see
            :class:`aspk.spec.settings.EvaluationSettings`; empty without a supernet.
        verdict: whether the supernet's ranking can be trusted; empty without a supernet.
        shape: channels, height and width of an image; None without a supernet.
        images: number of images that accuracies are measured on; None where the evaluator does not say.
        features: what else is known about a network before it is evaluated, for samplers that learn from it.

    Raises:
        ObjectiveError: two objectives, or two constraints, have the same name.
    """

    space: SearchSpace
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    faeb: FAEB
    reference: Metrics
    fingerprints: Mapping[str, str]
    statistics: str = ""
    verdict: str = ""
    shape: tuple[int, int, int] | None = None
    images: int | None = None
    features: tuple[FreeFeature, ...] = ()

    def __post_init__(self) -> None:
        objectives = [item.name for item in self.objectives]
        constraints = [item.name for item in self.constraints]
        for what, names in (("objectives", objectives), ("constraints", constraints)):
            if len(set(names)) < len(names):
                shown = ", ".join(map(repr, names))
                raise ObjectiveError(f"{what} {shown}: expected different names, by which trials keep them")

    @property
    def anchors(self) -> dict[str, tuple[float, float]]:
        """Ideal and nadir of each objective that has them: chance level and the reference's cost.

        Of an objective of your own, 0 is known to be ideal only if it is minimised and positive.
        """
        found = {}
        for item in self.objectives:
            value, minimised = item(self.reference), item.direction == "minimize"
            if item.name == "accuracy" and not minimised and value == self.reference.accuracy:
                found[item.name] = (1.0, 1.0 / self.faeb.classes)
            elif minimised and value > 0:
                found[item.name] = (0.0, value)
        return found

    @property
    def known(self) -> dict[int, Callable[[SubnetConfig], float]]:
        """The known objectives: the index of each to its value as a function of the network."""
        names = [item.name for item in self.objectives]
        return {names.index(name): cost for name, cost in self.costs.items() if name in names}

    @property
    def known_constraints(self) -> dict[str, Callable[[SubnetConfig], float]]:
        """The known constraints: the name of each to its value as a function of the network."""
        bounds = {item.name: item.at_most for item in self.constraints}
        return {
            name: CostConstraint(cost, bounds[name]) for name, cost in self.costs.items() if name in bounds
        }

    @property
    def costs(self) -> dict[str, Cost]:
        """The costs that follow from a network's shapes alone, by the names of their objectives."""
        if self.shape is None:
            return {}
        return {name: Cost(name, self.space, self.shape, self.faeb.classes) for name in COSTS}

    @property
    def composites(self) -> dict[int, Composite]:
        """The objectives that are known functions of metrics: the index of each to its function."""
        names = [item.name for item in self.objectives]
        return {names.index("f_aeb"): self.faeb.composite()} if "f_aeb" in names else {}


def supernet_of(spec: StudySpec, device: str = "auto") -> LoadedSupernet:
    """The trained supernet of a study.

    Raises:
        CheckpointError: there is none, or it is damaged.
        StudyError: it was trained for another search space.
    """
    loaded, space = load_supernet(spec.weights_file, resolve_device(device)), load_space(spec.space)
    if loaded.supernet.space.fingerprint != space.fingerprint:
        raise StudyError(
            f"{spec.weights_file} was trained for another search space than {spec.space}; "
            "train again, or name the weights' own space in the study"
        )
    return loaded


def load_problem(spec: StudySpec, device: str = "auto") -> StudyProblem:
    """The study's problem with its own evaluator: the trained supernet on the study's data.

    Raises:
        CheckpointError: there is no supernet, or it is damaged.
        StudyError: the supernet was trained for another search space, or no network can satisfy a constraint.
    """
    evaluator, fingerprints = evaluator_of(spec, device)
    statistics = evaluator.settings.statistics
    classes, shape = evaluator.supernet.classes, evaluator.supernet.shape
    check_bounds(spec, evaluator.supernet.space, shape, classes)
    problem = study_problem(spec, evaluator, classes=classes, fingerprints=fingerprints)
    return replace(
        problem,
        statistics=statistics,
        verdict=verdict_of(spec, statistics),
        shape=shape,
        images=evaluator.images,
    )


def check_bounds(spec: StudySpec, space: SearchSpace, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse bounds on parameters and operations that no network of the space satisfies.

    Raises:
        StudyError: a bound is below the smallest network's cost.
    """
    for name in COSTS:
        least, bound = Cost(name, space, shape, classes).least, spec.constraints.get(name)
        if bound is not None and least > bound:
            raise StudyError(
                f"constraints.{name} = {bound:g}: the smallest network of {space.name!r} has {least:,.0f} "
                f"{name}; expected a bound that it satisfies"
            )


def evaluator_of(
    spec: StudySpec, device: str = "auto", *, data: DataSet | None = None
) -> tuple[SupernetEvaluator, dict[str, str]]:
    """The study's own evaluator, and the fingerprints of its weights and data.

    With ``statistics = "auto"`` it takes those that the study was begun with, and for a study that does not
    exist yet those that suit the weights.

    Args:
        spec: the study.
        device: where its networks run.
        data: its data set, if it is loaded already.
    """
    loaded, data = supernet_of(spec, device), data or load_data(spec.data)
    evaluator = SupernetEvaluator(
        loaded.supernet,
        data,
        settings=with_recorded_statistics(spec).evaluation,
        energy_model=spec.energy,
        machine=spec.engine,
        cache=spec.folder / "evaluations" if spec.engine.cache else None,
    )
    return evaluator, {"weights": loaded.fingerprint, "data": data.fingerprint()}


def inherited_accuracies(spec: StudySpec, count: int, device: str = "auto") -> list[float]:
    """Accuracies of random networks of the trained supernet, every gene uniform over its choices."""
    evaluator, _ = evaluator_of(spec, device)
    space = evaluator.supernet.space
    X = space.sample_choices(count, np.random.default_rng(spec.seed))
    return [metrics.accuracy for metrics in evaluator.evaluate([space.decode(x) for x in X])]


def study_problem(
    spec: StudySpec, evaluator: Evaluator, *, classes: int, fingerprints: Mapping[str, str] | None = None
) -> StudyProblem:
    """The study's problem with any evaluator; the reference network is evaluated here.

    Raises:
        EvaluationError: the reference network cannot be evaluated.
    """
    space = load_space(spec.space)
    cached = CachedEvaluator(evaluator, space)
    (reference,) = evaluate_all(cached, [space.reference])
    if isinstance(reference, EvaluationError):
        raise EvaluationError(f"the reference network of {space.name!r} failed: {reference}")
    faeb = spec.faeb.of(reference.energy_mj, classes)
    objectives = tuple(faeb.objective() if name == "f_aeb" else objective(name) for name in spec.objectives)
    return StudyProblem(
        space=space,
        evaluator=cached,
        objectives=objectives,
        constraints=tuple(budget(name, bound) for name, bound in spec.constraints.items()),
        faeb=faeb,
        reference=reference,
        fingerprints={"space": space.fingerprint, **(fingerprints or {})},
    )


def f_aeb_of(trial: FrozenTrial, faeb: FAEB) -> float:
    """F_AEB of a complete trial; minus infinity if it carries no readable metrics."""
    accuracy, energy = (trial.user_attrs.get(name) for name in ("accuracy", "energy_mj"))
    if accuracy is None or energy is None:  # told by somebody else
        return float("-inf")
    try:  # without the layers, which take long to read
        return faeb(Metrics(accuracy=accuracy, energy_mj=energy))
    except MetricsError:
        return float("-inf")
