import copy
import pickle

import numpy as np
import pytest
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.soo.nonconvex.pso import PSO
from pymoo.core.population import Population
from pymoo.optimize import minimize
from pymoo.termination import get_termination
from pymoo.util.ref_dirs import get_reference_directions

from aspk.costs.cost import layer_shapes, parameters
from aspk.costs.known import Cost, CostConstraint
from aspk.errors import EvaluationError, GenotypeError, ObjectiveError
from aspk.metrics import Metrics
from aspk.objectives import Constraint, Objective, budget
from aspk.problem import Duplicates, SpikformerProblem, operators
from aspk.testing import FormulaEvaluator, tiny_space
from aspk.util.pareto import hypervolume

SPACE = tiny_space()
ALGORITHMS = {
    "nsga2": lambda: NSGA2(pop_size=20, **operators(SPACE)),
    "nsga3": lambda: NSGA3(
        get_reference_directions("das-dennis", 2, n_partitions=19), pop_size=20, **operators(SPACE)
    ),
    "smsemoa": lambda: SMSEMOA(pop_size=20, n_offsprings=20, **operators(SPACE)),
}


class Recording:
    """The formula; remembers the networks of each call and fails where it is told to."""

    def __init__(self, fails=lambda config: False):
        self.formula = FormulaEvaluator(SPACE)
        self.fails = fails
        self.calls = []

    def evaluate(self, configs):
        self.calls.append(list(configs))
        return [
            EvaluationError("told to fail") if self.fails(config) else metrics
            for config, metrics in zip(configs, self.formula.evaluate(configs), strict=True)
        ]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_runs_and_the_evaluator_sees_whole_generations(name):
    evaluator = Recording()
    problem = SpikformerProblem(SPACE, evaluator)
    result = minimize(problem, ALGORITHMS[name](), ("n_gen", 8), seed=1, save_history=True)
    assert len(evaluator.calls) == 8
    assert len(evaluator.calls[0]) == 20
    assert all(len(call) > 10 for call in evaluator.calls)
    seen = [config for call in evaluator.calls for config in call]
    assert len(set(seen)) == len(seen)  # each network is evaluated once
    for x, f in zip(result.X, result.F, strict=True):
        (metrics,) = FormulaEvaluator(SPACE).evaluate([SPACE.decode(x)])
        assert f == pytest.approx([-metrics.accuracy, metrics.energy_mj])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_seed_decides_the_run(name):
    fronts = [
        minimize(SpikformerProblem(SPACE, Recording()), ALGORITHMS[name](), ("n_gen", 4), seed=seed).X
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(fronts[0], fronts[1])
    assert not np.array_equal(fronts[0], fronts[2])


def test_search_beats_random_networks():
    problem = SpikformerProblem(SPACE, Recording())
    rows = []
    for seed in range(3):
        result = minimize(problem, NSGA2(pop_size=20, **operators(SPACE)), ("n_gen", 10), seed=seed)
        rng = np.random.default_rng(seed)
        random = problem.evaluate(SPACE.sample_choices(200, rng), return_values_of=["F"])
        rows.append([hypervolume(F * [1, 1000], [0, 1.5]) for F in (result.F, random)])
    searched, random = np.mean(rows, axis=0)
    assert searched > random


def test_failures_and_nan_become_finite_infeasible_rows():
    def rate(metrics):
        return float("nan") if metrics.accuracy > 0.8 else metrics.accuracy

    evaluator = Recording(fails=lambda config: config.embed_dim == 24)
    problem = SpikformerProblem(
        SPACE,
        evaluator,
        objectives=[Objective("rate", "maximize", rate), "energy"],
        failures_are_infeasible=True,
    )
    X = SPACE.sample_choices(100, np.random.default_rng(0))
    out = problem.evaluate(X, return_as_dictionary=True)
    metrics = FormulaEvaluator(SPACE).evaluate([SPACE.decode(x) for x in X])
    bad = np.array([SPACE.decode(x).embed_dim == 24 for x in X]) | [m.accuracy > 0.8 for m in metrics]
    assert 10 < bad.sum() < 90
    assert np.isfinite(out["F"]).all()
    assert (out["G"][bad] > 0).all()
    assert (out["G"][~bad] <= 0).all()
    assert (out["F"][bad] > out["F"][~bad].max(axis=0)).all()


def test_a_generation_of_failures_is_finite_too():
    evaluator = Recording(fails=lambda config: True)
    problem = SpikformerProblem(SPACE, evaluator, failures_are_infeasible=True)
    out = problem.evaluate(SPACE.sample_choices(5, np.random.default_rng(0)), return_as_dictionary=True)
    assert out["F"].tolist() == [[1e30, 1e30]] * 5
    assert (out["G"] == 1).all()
    assert "told to fail" in str(problem.metrics(SPACE.sample_choices(1, np.random.default_rng(0)))[0])


def test_failures_are_told_once(caplog):
    problem = SpikformerProblem(SPACE, Recording(fails=lambda config: config.depth == 2))
    for seed in range(2):
        problem.evaluate(SPACE.sample_choices(20, np.random.default_rng(seed)))
    (told,) = [record.message for record in caplog.records]
    assert told.endswith("counts as worse than its generation: told to fail")


@pytest.mark.parametrize("copied", [lambda thing: pickle.loads(pickle.dumps(thing)), copy.deepcopy])
def test_problems_and_results_are_pickled_and_copied(copied):
    problem = SpikformerProblem(SPACE, FormulaEvaluator(SPACE), constraints=[budget("energy", 1.0)])
    result = minimize(problem, NSGA2(pop_size=8, **operators(SPACE)), ("n_gen", 2), seed=0)
    assert np.array_equal(copied(result).F, result.F)
    X = SPACE.sample_choices(4, np.random.default_rng(0))
    assert np.array_equal(copied(problem).evaluate(X)[0], problem.evaluate(X)[0])
    algorithm = copied(result.algorithm)
    algorithm.termination = get_termination("n_gen", 4)
    algorithm.has_terminated = False
    assert algorithm.run().F.shape[1] == 2  # it goes on


def test_algorithms_that_refuse_constraints_run_where_there_are_none():
    problem = SpikformerProblem(SPACE, Recording(fails=lambda config: config.depth == 2))
    assert problem.n_ieq_constr == 0
    options = operators(SPACE)
    del options["eliminate_duplicates"]
    directions = get_reference_directions("das-dennis", 2, n_partitions=7)
    result = minimize(problem, MOEAD(directions, n_neighbors=4, **options), ("n_gen", 4), seed=0)
    assert {SPACE.decode(x).depth for x in result.X} == {1}


def test_algorithms_that_make_real_numbers_are_refused():
    problem = SpikformerProblem(SPACE, FormulaEvaluator(SPACE), objectives=["energy"])
    with pytest.raises(GenotypeError, match=r"real numbers where index vectors are expected.*operators"):
        minimize(problem, PSO(pop_size=8), ("n_gen", 2), seed=0)


@pytest.mark.parametrize("offsprings", [1, 2, 20])
def test_failing_networks_are_on_no_front(offsprings):
    """In a generation of one they had one parameter, fewer than any network, and stayed for good."""
    fails = Recording(fails=lambda config: config.depth == 2)
    problem = SpikformerProblem(SPACE, fails, objectives=["accuracy", "parameters"])
    algorithm = NSGA2(pop_size=20, n_offsprings=offsprings, **operators(SPACE))
    result = minimize(problem, algorithm, ("n_eval", 100), seed=0)
    assert {SPACE.decode(x).depth for x in result.X} == {1}
    assert result.F[:, 1].min() > 1


def test_a_network_that_fails_beside_a_single_one_is_worse():
    problem = SpikformerProblem(SPACE, Recording(fails=lambda config: config == SPACE.largest))
    X = np.array([SPACE.encode(SPACE.smallest), SPACE.encode(SPACE.largest)])
    good, failed = problem.evaluate(X)
    assert (failed > good).all()


def test_failing_networks_do_not_survive():
    problem = SpikformerProblem(SPACE, Recording(fails=lambda config: config.depth == 2))
    result = minimize(problem, NSGA2(pop_size=20, **operators(SPACE)), ("n_gen", 5), seed=0)
    assert {SPACE.decode(x).depth for x in result.X} == {1}


def test_constraints_bound_the_front():
    problem = SpikformerProblem(SPACE, Recording(), constraints=[budget("energy", 2e-4)])
    assert problem.n_ieq_constr == 2
    result = minimize(problem, NSGA2(pop_size=20, **operators(SPACE)), ("n_gen", 5), seed=0)
    assert (result.F[:, 1] <= 2e-4).all()
    (g,) = problem.evaluate(SPACE.encode(SPACE.reference)[None], return_values_of=["G"])
    (metrics,) = FormulaEvaluator(SPACE).evaluate([SPACE.reference])
    assert g == pytest.approx([metrics.energy_mj / 2e-4 - 1, -1])


def test_known_constraints_are_kept_without_an_evaluation():
    some = map(SPACE.decode, SPACE.sample_choices(200, np.random.default_rng(1)))
    bound = np.quantile([parameters(layer_shapes(c, SPACE.settings, (3, 32, 32), 10)) for c in some], 0.1)
    known = CostConstraint(Cost("parameters", SPACE, (3, 32, 32), 10), at_most=float(bound))
    for form in (known, known.__call__):
        evaluator = Recording()
        algorithm = NSGA2(pop_size=20, **operators(SPACE, known_constraints={"parameters": form}))
        minimize(SpikformerProblem(SPACE, evaluator), algorithm, ("n_gen", 6), seed=1)
        seen = [config for call in evaluator.calls for config in call]
        assert len(seen) > 60
        assert max(map(known, seen)) <= 0


def test_a_users_objective_and_one_and_three_objectives():
    three = SpikformerProblem(
        SPACE,
        Recording(),
        objectives=["accuracy", "energy", Objective("rate", "minimize", lambda m: m.firing_rate)],
        constraints=[Constraint("rate", lambda m: m.firing_rate, 0.4)],
    )
    assert minimize(three, NSGA2(pop_size=10, **operators(SPACE)), ("n_gen", 2), seed=0).F.shape[1] == 3
    one = SpikformerProblem(SPACE, Recording(), objectives=["accuracy"])
    assert one.n_obj == 1


def test_no_objective_is_an_error():
    with pytest.raises(ObjectiveError, match="at least one"):
        SpikformerProblem(SPACE, Recording(), objectives=[])
    with pytest.raises(ObjectiveError, match="no objective 'speed'"):
        SpikformerProblem(SPACE, Recording(), objectives=["speed"])


def test_a_copy_is_the_problem_itself_and_metrics_come_from_the_cache():
    evaluator = Recording()
    problem = SpikformerProblem(SPACE, evaluator)
    assert copy.deepcopy(problem) is problem
    X = SPACE.sample_choices(3, np.random.default_rng(0))
    problem.evaluate(X)
    (metrics,) = problem.metrics(X[0])
    assert isinstance(metrics, Metrics)
    assert sum(len(call) for call in evaluator.calls) == len({SPACE.decode(x) for x in X})


def test_duplicates_are_networks_not_vectors():
    x = SPACE.encode(SPACE.smallest)
    hidden = np.flatnonzero(~SPACE.active(x))[0]
    twin, other = x.copy(), SPACE.encode(SPACE.largest)
    twin[hidden] += 1
    kept = Duplicates(SPACE).do(Population.new("X", np.array([x, twin, other])))
    assert kept.get("X").tolist() == [x.tolist(), other.tolist()]
    kept = Duplicates(SPACE).do(Population.new("X", np.array([x, other])), Population.new("X", twin[None]))
    assert kept.get("X").tolist() == [other.tolist()]
