"""Search problems whose answer is known: tables of whole spaces, and a formula on any space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from aspk.costs.known import Cost, CostName
from aspk.costs.values import NetworkFunction
from aspk.objectives import Objective
from aspk.objectives.composite import Composite
from aspk.objectives.scalarization import FAEB, Form
from aspk.space import IntArray, SearchSpace
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.tables import TabularEvaluator
from aspk.tables.table import MARGIN
from aspk.testing import FormulaEvaluator
from aspk.util.pareto import FloatArray, hypervolume, nondominated

OBJECTIVES: tuple[Objective | str, ...] = ("accuracy", "energy")
_SHAPES = {  # of the images behind the tables; those of mnist_mixed were read from files, in colour
    "fashion": (1, 28, 28),
    "mnist": (3, 28, 28),
    "digits": (1, 8, 8),
}


def closed_cost(name: CostName, table: TabularEvaluator) -> Cost:
    """Parameters or operations of a table's networks as a function.

    Raises:
        ValueError: the table says otherwise.
    """
    shape = _SHAPES[table.space.name.partition("_")[0]]
    cost = Cost(name, table.space, shape, int(table.table.about["classes"]))
    X = table.space.sample_choices(100, np.random.default_rng(0))
    if not np.allclose(cost.of(X), table.values([name])[table.rows(X), 0]):
        raise ValueError(f"{name} of {table.space.name} are not those of images of shape {shape}")
    return cost


class Problem:
    """Objective values to minimise, and how good a set of evaluated networks is."""

    name: str
    space: SearchSpace
    count: int  # of objectives
    composites: Mapping[int, Composite] = MappingProxyType({})  # what objectives are known functions of
    constraints: Mapping[str, NetworkFunction] = MappingProxyType({})  # known to the samplers

    def values(self, X: IntArray) -> FloatArray:
        """What a sampler is told, shape (m, k)."""
        raise NotImplementedError

    def attributes(self, X: IntArray) -> list[dict[str, float]]:
        """What the trials carry beside it: the parts of the composites."""
        return [{} for _ in X]

    def quality(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        """Of the first n evaluations for each n of ``at``, as a share of what is possible."""
        raise NotImplementedError

    def verdict(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        """The same, of the front that was found, scored on what the sampler never saw."""
        raise NotImplementedError


@dataclass
class TableProblem(Problem):
    """Two objectives of a table; the verdict is on ``test``."""

    name: str
    objectives: tuple[Objective | str, ...] = OBJECTIVES
    count: int = 2

    def __post_init__(self) -> None:
        self.search = TabularEvaluator(self.name)
        self.test = TabularEvaluator(self.search.table, split="test")
        self.space = self.search.space
        self._values, self._test_values = (
            self.search.values(self.objectives),
            self.test.values(self.objectives),
        )
        self._reference, self._test_reference = (
            t.reference_point(self.objectives) for t in (self.search, self.test)
        )
        self._whole, self._test_whole = (t.hypervolume(self.objectives) for t in (self.search, self.test))

    def values(self, X: IntArray) -> FloatArray:
        return self._values[self.search.rows(X)]

    def quality(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        return [hypervolume(F[:n], self._reference) / self._whole for n in at]

    def verdict(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        rows = self.search.rows(X)
        fronts = [rows[:n][nondominated(F[:n])] for n in at]
        return [hypervolume(self._test_values[r], self._test_reference) / self._test_whole for r in fronts]


@dataclass
class FaebProblem(Problem):
    """F_AEB of a table in one form; quality runs from 0, the mean of all networks, to 1, the best one."""

    table: str
    form: Form
    count: int = 1

    def __post_init__(self) -> None:
        self.name = f"{self.table}, F_AEB {self.form}"
        self.search = TabularEvaluator(self.table)
        self.test = TabularEvaluator(self.search.table, split="test")
        self.space = self.search.space
        scores, forms = [], []
        for split in (self.search, self.test):
            reference = split.evaluate([self.space.reference])[0]
            faeb = FAEB(
                reference_energy_mj=reference.energy_mj,
                classes=int(self.search.table.about["classes"]),
                form=self.form,
            )
            scores.append(split.values([faeb.objective()]))
            forms.append(faeb)
        self._values, self._test_values = scores
        own = forms[0]  # the sampler is told it negated, to be minimised
        self.composites = {0: replace(own.composite(), of=lambda *parts: -own.of(*parts))}

    def values(self, X: IntArray) -> FloatArray:
        return self._values[self.search.rows(X)]

    def attributes(self, X: IntArray) -> list[dict[str, float]]:
        metrics = (self.search.metrics[row] for row in self.search.rows(X))
        return [{"accuracy": m.accuracy, "energy_mj": m.energy_mj} for m in metrics]

    def quality(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        mean, best = self._values.mean(), self._values.min()
        return [float((mean - F[:n].min()) / (mean - best)) for n in at]

    def verdict(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        mean, best = self._test_values.mean(), self._test_values.min()
        found = self._test_values[self.search.rows(X)]
        return [float((mean - found[int(F[:n].argmin())][0]) / (mean - best)) for n in at]


@dataclass
class FormulaProblem(Problem):
    """The formula on a space of the paper's shape, with noise; quality and verdict are without it."""

    space_name: str = "auto_spikformer"
    noise: float = 0.005
    count: int = 2

    def __post_init__(self) -> None:
        self.name = f"formula on {self.space_name}"
        self.space = load_space(self.space_name)
        self._noisy = FormulaEvaluator(self.space, noise=self.noise)
        self._clean = FormulaEvaluator(self.space)

    def values(self, X: IntArray) -> FloatArray:
        return _measured(self._noisy, self.space, X)

    def quality(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        truth = _measured(self._clean, self.space, X[: max(at)])
        return [hypervolume(truth[:n], self._reference) / self._whole for n in at]

    def verdict(self, X: IntArray, F: FloatArray, at: Sequence[int]) -> list[float]:
        truth = _measured(self._clean, self.space, X[: max(at)])
        fronts = [truth[:n][nondominated(F[:n])] for n in at]
        return [hypervolume(front, self._reference) / self._whole for front in fronts]

    @cached_property
    def _front(self) -> FloatArray:
        return true_front(self.space)

    @property
    def _reference(self) -> FloatArray:
        return self._front.max(axis=0) + MARGIN * np.ptp(self._front, axis=0)

    @cached_property
    def _whole(self) -> float:
        return hypervolume(self._front, self._reference)


def _measured(evaluator: FormulaEvaluator, space: SearchSpace, X: IntArray) -> FloatArray:
    metrics = evaluator.evaluate([space.decode(x) for x in X])
    return np.array([[-m.accuracy, m.energy_mj] for m in metrics]).reshape(len(X), 2)


def true_front(space: SearchSpace) -> FloatArray:
    """The noiseless formula's front on a space of any size, shape (n, 2).

    For one width, T and depth, accuracy increases with a sum over the blocks and energy is another, so that
    the front needs only sums of non-dominated blocks. Those are found by evaluating networks of equal blocks.
    """
    evaluator, found = FormulaEvaluator(space), []
    shared = [name for name in space.network if name != "depth"]
    for values in itertools.product(*(space.network[name] for name in shared)):
        base = replace(space.reference, **dict(zip(shared, values, strict=True)))
        for depth in space.network["depth"]:
            found.append(_composed(evaluator, space, base, int(depth)))
    points = np.concatenate(found)
    return np.unique(points[nondominated(points)], axis=0)


def _composed(evaluator: FormulaEvaluator, space: SearchSpace, base: SubnetConfig, depth: int) -> FloatArray:
    block = base.blocks[0]
    choices = itertools.product(*space.block.values())
    blocks = [replace(block, **dict(zip(space.block, values, strict=True))) for values in choices]
    alike = [replace(base, blocks=(item,) * depth) for item in blocks]
    one = np.array([[-m.accuracy, m.energy_mj] for m in evaluator.evaluate(alike)])
    best = [blocks[i] for i in np.flatnonzero(nondominated(one))]
    mixed = itertools.combinations_with_replacement(best, depth)  # the order of the blocks does not matter
    metrics = evaluator.evaluate([replace(base, blocks=mix) for mix in mixed])
    points = np.array([[-m.accuracy, m.energy_mj] for m in metrics])
    return points[nondominated(points)]
