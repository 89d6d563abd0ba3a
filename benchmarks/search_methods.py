"""Search methods behind one interface: each spends a budget of unique evaluations on a problem.

A network that a method proposes again is answered from memory and not counted. A method that only repeats
itself is stopped after ``PATIENCE`` times the budget; TPE, whose suggestions cost more with each repetition,
after ``SHORT_PATIENCE`` times.
"""

from __future__ import annotations

import contextlib
import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from unittest import mock

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from scipy.optimize import minimize
from search_problems import Problem
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import PolynomialFeatures

from aspk.samplers import GenotypeSampler, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.space import Gene, IntArray, SearchSpace
from aspk.space.operators import Genome, keys, sample
from aspk.surrogate.process import Hyperparameters, Process
from aspk.util.pareto import FloatArray

PATIENCE, SHORT_PATIENCE = 10, 2
Encoding = Literal["index", "value", "categorical"]


class Spent(Exception):  # noqa: N818 - the end of a budget is no error
    """The budget is used up."""


@dataclass
class Ledger:
    """The evaluated networks, in order, each once; an evaluation that ends early costs a part of one."""

    problem: Problem
    budget: int
    patience: int = PATIENCE
    X: list[IntArray] = field(default_factory=list)
    F: list[FloatArray] = field(default_factory=list)
    asked: int = 0
    seconds: float = 0.0
    spent: list[float] = field(default_factory=list)  # of the budget, after each evaluation in ``X``
    _extra: float = 0.0
    _row: dict[bytes, int] = field(default_factory=dict)
    _since: float = field(default_factory=time.process_time)

    def __call__(self, X: IntArray) -> FloatArray:
        """Values of networks, shape (m, k); the processor time up to this call counts as the method's own."""
        self.seconds += time.process_time() - self._since
        X = np.asarray(X, dtype=np.int64)
        names = keys(self.problem.space, X)
        new = {name: x for name, x in zip(names, X, strict=True) if name not in self._row}
        if new:
            for (name, x), values in zip(
                new.items(), self.problem.values(np.array(list(new.values()))), strict=True
            ):
                self._row[name] = len(self.X)
                self.X.append(x)
                self.F.append(values)
                self.spent.append(len(self.X) + self._extra)
        self.asked += len(X)
        if len(self.X) + self._extra >= self.budget or self.asked >= self.patience * self.budget:
            raise Spent
        result = np.array([self.F[self._row[name]] for name in names])
        self._since = time.process_time()
        return result

    def spend(self, share: float) -> None:
        """Pay for an evaluation that ended early."""
        self._extra += share
        if len(self.X) + self._extra >= self.budget:
            raise Spent

    def within(self, budget: float) -> int:
        """How many evaluations were complete when so much was spent."""
        return sum(spent <= budget + 1e-9 for spent in self.spent)

    def arrays(self) -> tuple[IntArray, FloatArray]:
        """Genotypes and values of the unique evaluations within the budget."""
        count = self.within(self.budget)
        return np.array(self.X[:count]), np.array(self.F[:count])


Method = Callable[[Ledger, int], None]  # runs until the ledger is spent


def run(method: Method, problem: Problem, budget: int, seed: int, patience: int = PATIENCE) -> Ledger:
    """Spend a budget."""
    ledger = Ledger(problem, min(budget, problem.space.size), patience)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Spent):
            method(ledger, seed)
    return ledger


def ours(make: Callable[..., GenotypeSampler], batch: int = 1) -> Method:
    """One of aspk's samplers in an Optuna study, asked for ``batch`` networks at a time."""

    def method(ledger: Ledger, seed: int) -> None:
        space, constraints = ledger.problem.space, ledger.problem.constraints
        sampler = make(space=space, seed=seed, **({"known_constraints": constraints} if constraints else {}))
        study = optuna.create_study(sampler=sampler, directions=["minimize"] * ledger.problem.count)
        while True:
            trials = sampler.ask_batch(study, batch)
            X = np.array([space.from_parameters(trial.params) for trial in trials])
            for trial, row, carried in zip(trials, ledger(X), ledger.problem.attributes(X), strict=True):
                for name, value in carried.items():
                    trial.set_user_attr(name, value)
                study.tell(trial, row.tolist())

    return method


def surrogate(batch: int = 1, *, whole: bool = False, **options: Any) -> Method:  # noqa: ANN401  # the sampler's
    """The surrogate of aspk, with the objectives as composites or, with ``whole``, without."""

    def method(ledger: Ledger, seed: int) -> None:
        composites = {} if whole else ledger.problem.composites
        ours(lambda **o: SurrogateSampler(composites=composites, **options, **o), batch)(ledger, seed)

    return method


def optunas(make: Callable[[int], BaseSampler], encoding: Encoding, *, conditional: bool = False) -> Method:
    """An Optuna sampler on one parameter for each gene.

    Args:
        make: gives the sampler for a seed.
        encoding: ``index``: integers; ``value``: the choices as Optuna's own steps where they have one;
            ``categorical``: unordered choices.
        conditional: suggest the genes in use only, instead of all.
    """

    def method(ledger: Ledger, seed: int) -> None:
        space = ledger.problem.space
        study = optuna.create_study(sampler=make(seed), directions=["minimize"] * ledger.problem.count)
        while True:
            trial = study.ask()
            x = np.array(list(_suggested(trial, space, encoding, conditional)), dtype=np.int64)
            study.tell(trial, ledger(x[None])[0].tolist())

    return method


def _suggested(
    trial: optuna.Trial, space: SearchSpace, encoding: Encoding, conditional: bool
) -> Iterator[int]:
    depth = space.max_depth
    for gene in space.genes:
        if conditional and gene.block is not None and gene.block >= depth:
            yield 0
            continue
        index = _one(trial, gene, encoding)
        if gene.name == "depth":
            depth = int(gene.choices[index])
        yield index


def _one(trial: optuna.Trial, gene: Gene, encoding: Encoding) -> int:
    name, count = gene.parameter, len(gene.choices)
    if encoding == "index":
        return trial.suggest_int(name, 0, count - 1)
    if encoding == "value" and gene.step is not None:
        low, high, step = float(gene.choices[0]), float(gene.choices[-1]), float(gene.step)
        return gene.index(trial.suggest_float(name, low, high, step=step))
    return trial.suggest_categorical(name, list(range(count)))


def pymoos(population_size: int, *, with_our_operators: bool) -> Method:
    """NSGA-II of pymoo on index vectors, with aspk's operators or with its own, rounded."""

    def method(ledger: Ledger, seed: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as PymooProblem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.optimize import minimize as run_pymoo

        from aspk.problem import operators

        space = ledger.problem.space

        class Wrapped(PymooProblem):  # type: ignore[misc]  # pymoo has no types
            def __init__(self) -> None:
                self.space = space
                top = space.cardinalities - 1
                super().__init__(n_var=len(top), n_obj=ledger.problem.count, xl=0 * top, xu=top, vtype=int)

            def _evaluate(self, X: IntArray, out: dict[str, Any], *args: object, **kwargs: object) -> None:
                out["F"] = ledger(X)

        own = {
            "sampling": IntegerRandomSampling(),
            "crossover": SBX(repair=RoundingRepair(), vtype=float),
            "mutation": PM(repair=RoundingRepair(), vtype=float),
        }
        options = operators(space) if with_our_operators else own
        algorithm = NSGA2(pop_size=population_size, **options)
        run_pymoo(Wrapped(), algorithm, ("n_gen", 10**6), seed=seed)

    return method


def _nsga2(size: int) -> Callable[[int], BaseSampler]:
    return lambda seed: optuna.samplers.NSGAIISampler(population_size=size, seed=seed)


def _tpe(*, group: bool = False) -> Callable[[int], BaseSampler]:
    return lambda seed: optuna.samplers.TPESampler(multivariate=True, group=group, seed=seed)


def _gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)


# Each peer in the encoding that did best in --encodings (docs/measured_search.md).
METHODS: dict[str, Method] = {
    "random": ours(RandomSampler, batch=25),
    "pymoo NSGA2 (20)": pymoos(20, with_our_operators=True),
    "pymoo NSGA2 (50)": pymoos(50, with_our_operators=True),
    "Optuna NSGAII (20)": optunas(_nsga2(20), "index"),
    "Optuna NSGAII (50)": optunas(_nsga2(50), "index"),
    "Optuna TPE": optunas(_tpe(), "value"),
    "Optuna GP": optunas(_gp, "index"),
    "aspk NSGA2 (20)": ours(lambda **o: NSGA2Sampler(population_size=20, **o), batch=20),
    "aspk NSGA2 (50)": ours(lambda **o: NSGA2Sampler(population_size=50, **o), batch=50),
    "aspk surrogate": surrogate(),
    "aspk surrogate, 10 at once": surrogate(batch=10),
}
SLOW = ("Optuna GP", "Optuna AutoSampler", "Ax qLogNEHVI", "SMAC3 ParEGO")
OURS = "aspk surrogate"


def patched(module: str, name: str, replacement: Any) -> Method:  # noqa: ANN401  # a part of any type
    """The surrogate of aspk with one of its parts replaced."""

    def method(ledger: Ledger, seed: int) -> None:
        with mock.patch.object(importlib.import_module(module), name, replacement):
            surrogate()(ledger, seed)

    return method


def _any_hypercube(genome: Genome, count: int, rng: np.random.Generator, _: object) -> IntArray:
    from aspk.samplers._start import hypercube

    return hypercube(genome, count, rng)


def _one_length(inputs: FloatArray, targets: FloatArray, trended: int = 0, *_: object) -> object:
    """What :func:`aspk.surrogate.hyperparameters.most_probable` does, with equal length scales."""
    from aspk.surrogate.hyperparameters import negative_log_posterior
    from aspk.surrogate.priors import weak_priors

    d = inputs.shape[1]
    posterior = negative_log_posterior(inputs, targets, weak_priors(d), trended)
    start, _, low, high = weak_priors(1).T

    def tied(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = posterior(np.concatenate([point[:3], np.full(d, point[3])]))
        return value, np.append(gradient[:3], gradient[3:].sum())

    found = minimize(tied, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)))
    signal, noise, trend, length = np.exp(found.x)
    return Hyperparameters(float(signal), float(noise), np.full(d, length), float(trend) if trended else 0.0)


class LinearRegression(Process):
    """Bayesian linear regression on features, their squares and products, with a process's interface."""

    def __init__(
        self,
        inputs: FloatArray,
        targets: FloatArray,
        hyperparameters: Hyperparameters,
        *,
        trended: int = 0,
        extra: FloatArray | None = None,
    ) -> None:
        super().__init__(inputs, targets, hyperparameters, trended=trended, extra=extra)
        self._terms = PolynomialFeatures(degree=2, include_bias=False)
        self._ridge = BayesianRidge().fit(self._terms.fit_transform(inputs), targets)
        self.hyperparameters = replace(hyperparameters, noise=float(1.0 / self._ridge.alpha_))

    def mean(self, inputs: FloatArray) -> FloatArray:
        """See :class:`~aspk.surrogate.process.Process`."""
        return self.marginals(inputs)[0]

    def marginals(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See :class:`~aspk.surrogate.process.Process`."""
        mean, std = self._ridge.predict(self._terms.transform(inputs), return_std=True)
        return np.asarray(mean), np.sqrt(np.maximum(np.square(std) - self.hyperparameters.noise, 1e-12))

    def covariance(self, inputs: FloatArray) -> FloatArray:
        """See :class:`~aspk.surrogate.process.Process`; networks say nothing of each other."""
        return np.diag(np.square(self.marginals(inputs)[1]))


def _random_candidates(
    genome: Genome,
    history: object,
    predict: Callable[[IntArray], FloatArray],
    size: int,
    rng: np.random.Generator,
    violation: object = None,
) -> tuple[IntArray, FloatArray]:
    X = sample(genome, 720, rng)  # as many as evolution looks at
    return X, predict(X)


def _weak_priors(genome: object, features: int, **options: object) -> list[FloatArray]:
    from aspk.surrogate.priors import weak_priors

    return [weak_priors(features)]


def _without_space(seed: int) -> BaseSampler:
    return SurrogateSampler(seed=seed)


ABLATION: dict[str, Method] = {
    OURS: surrogate(),
    "without transfer priors": patched("aspk.surrogate.encoder", "transfer_priors", _weak_priors),
    "any hypercube to start with": patched("aspk.samplers.surrogate_assisted", "start", _any_hypercube),
    "operations as a feature too": surrogate(features=("operations",)),
    "without logarithms": patched("aspk.surrogate.model", "_LOGARITHM_ODDS", 1e-300),
    "without means over blocks": patched("aspk.surrogate.features", "_groups", lambda genome: []),
    "one length scale for all features": patched("aspk.surrogate.model", "most_probable", _one_length),
    "random candidates": patched("aspk.samplers.surrogate_assisted", "evolve", _random_candidates),
    "Bayesian linear regression": patched("aspk.surrogate.model", "Process", LinearRegression),
    "6 networks to start with": surrogate(n_startup_trials=6),
    "12 networks to start with": surrogate(n_startup_trials=12),
    "no space, all genes": optunas(_without_space, "value"),
    "no space, genes in use": optunas(_without_space, "value", conditional=True),
}

FAEB_ABLATION: dict[str, Method] = {"F_AEB as a whole": surrogate(whole=True)}  # of composite objectives only

ENCODINGS: dict[str, Method] = {
    "pymoo NSGA2 (20), our operators": pymoos(20, with_our_operators=True),
    "pymoo NSGA2 (20), its operators": pymoos(20, with_our_operators=False),
    "Optuna NSGAII (20), index": optunas(_nsga2(20), "index"),
    "Optuna NSGAII (20), value": optunas(_nsga2(20), "value"),
    "Optuna NSGAII (20), categorical": optunas(_nsga2(20), "categorical"),
    "Optuna TPE, index": optunas(_tpe(), "index"),
    "Optuna TPE, value": optunas(_tpe(), "value"),
    "Optuna TPE, categorical": optunas(_tpe(), "categorical"),
    "Optuna TPE, index, conditional in groups": optunas(_tpe(group=True), "index", conditional=True),
}
