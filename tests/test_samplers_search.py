import math

import numpy as np
import optuna
import pytest
from sampler_cases import MAKERS, PAPER, TINY, create, every_sampler, formula_hypervolume, search, values

from aspk.errors import SamplerError
from aspk.objectives import budget
from aspk.objectives.scalarization import FAEB
from aspk.samplers import EvolutionarySampler, GenotypeSampler, NSGA2Sampler, SurrogateSampler
from aspk.testing import FormulaEvaluator
from aspk.util.pareto import hypervolume

# ------------------------------------------------------------------ does it search


def mean_hypervolume(make, space, count=120, batch=20, seeds=4):
    results = []
    for seed in range(seeds):
        sampler = make(seed)
        study = create(sampler)
        if isinstance(sampler, GenotypeSampler):
            search(study, sampler, count, space=space, batch=batch)
        else:
            for _ in range(count):
                trial = study.ask()
                study.tell(trial, values(*FormulaEvaluator(space).evaluate([space.suggest(trial)])))
        results.append(formula_hypervolume(study, space))
    return float(np.mean(results))


@pytest.fixture(scope="module")
def random_hypervolume():
    return mean_hypervolume(lambda seed: optuna.samplers.RandomSampler(seed=seed), PAPER)


@pytest.mark.parametrize(
    ("make", "margin"),
    [
        (lambda seed: EvolutionarySampler(space=PAPER, seed=seed, population_size=20), 0.03),
        (lambda seed: NSGA2Sampler(space=PAPER, seed=seed, population_size=20), 0.03),
        (lambda seed: SurrogateSampler(space=PAPER, seed=seed), 0.05),
    ],
    ids=MAKERS,
)
def test_each_sampler_beats_random_search(make, margin, random_hypervolume):
    assert mean_hypervolume(make, PAPER) > (1 + margin) * random_hypervolume


def test_nsga2_is_as_good_as_pymoos_with_our_operators():
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    from aspk.objectives import Objective
    from aspk.problem import SpikformerProblem, operators

    log_energy = Objective("log energy", "minimize", lambda m: math.log10(m.energy_mj))
    top = math.log10(FormulaEvaluator(PAPER).evaluate([PAPER.largest])[0].energy_mj)
    pymoo = []
    for seed in range(4):
        problem = SpikformerProblem(PAPER, FormulaEvaluator(PAPER), objectives=["accuracy", log_energy])
        result = minimize(problem, NSGA2(pop_size=20, **operators(PAPER)), ("n_eval", 120), seed=seed)
        pymoo.append(hypervolume(result.F - [0, top], [0, 0]))
    ours = mean_hypervolume(lambda seed: NSGA2Sampler(space=PAPER, seed=seed, population_size=20), PAPER)
    assert ours == pytest.approx(np.mean(pymoo), rel=0.04)


def table_search(table, seed, population_size=20, count=200):
    """Objective values, minimised, of NSGA2Sampler's trials on a table."""
    sampler = NSGA2Sampler(space=table.space, seed=seed, population_size=population_size)
    study, everything = create(sampler, ["minimize"] * 2), table.values()
    for _ in range(count // population_size):
        trials = sampler.ask_batch(study, population_size)
        X = [table.space.from_parameters(trial.params) for trial in trials]
        for trial, row in zip(trials, everything[table.rows(X)], strict=True):
            study.tell(trial, row.tolist())
    return np.array([trial.values for trial in study.trials])


def test_nsga2_and_pymoos_reach_the_same_hypervolume_on_a_table():
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize
    from scipy.stats import mannwhitneyu

    from aspk.problem import SpikformerProblem, operators
    from aspk.tables import TabularEvaluator

    table = TabularEvaluator("fashion_shared")
    space, reference = table.space, table.reference_point()
    ours, pymoos, small = [], [], []
    for seed in range(15):
        problem = SpikformerProblem(space, table)
        algorithm = NSGA2(pop_size=20, **operators(space))
        result = minimize(problem, algorithm, ("n_eval", 200), seed=seed)
        pymoos.append(hypervolume(result.F, reference))
        F = table_search(table, seed)
        ours.append(hypervolume(F, reference))
        small.append(hypervolume(F[:120], reference))
    assert mannwhitneyu(ours, pymoos).pvalue > 0.05
    assert mannwhitneyu(small, pymoos).pvalue < 0.05  # the test would see 120 evaluations against 200


def test_the_papers_search_maximises_a_given_fitness():
    faeb = FAEB(reference_energy_mj=1e-3, classes=10)
    evaluator = FormulaEvaluator(TINY)

    def fitness(trial):
        return faeb(*evaluator.evaluate([TINY.decode(TINY.from_parameters(trial.params))]))

    best = {}
    for name, make in {
        "random": lambda seed: NSGA2Sampler(space=TINY, seed=seed, population_size=1000),
        "fitness": lambda seed: EvolutionarySampler(
            space=TINY, seed=seed, population_size=20, fitness=fitness
        ),
    }.items():
        runs = [search(create(s := make(seed)), s, 100, batch=20) for seed in range(3)]
        best[name] = np.mean([max(map(fitness, study.trials)) for study in runs])
    assert best["fitness"] > best["random"]


@every_sampler
def test_constraints_steer_the_search(make):
    constraint = budget("energy", 8e-5)  # one random network in five keeps it
    late = []
    for seed in range(3):
        study = search(create(s := make(space=TINY, seed=seed)), s, 64, constraint=constraint)
        feasible = [all(c <= 0 for c in t.constraints.values()) for t in study.trials]
        late.append(np.mean(feasible[32:]))
    assert np.mean(late) > 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: EvolutionarySampler(population_size=1),
        lambda: EvolutionarySampler(top_k=1),
        lambda: EvolutionarySampler(mutation_share=-0.1),
        lambda: EvolutionarySampler(crossover_share=0, mutation_share=0, random_share=0),
        lambda: NSGA2Sampler(population_size=0),
        lambda: NSGA2Sampler(crossover_probability=1.5),
        lambda: SurrogateSampler(n_startup_trials=1),
        lambda: SurrogateSampler(pool_size=3),
        lambda: NSGA2Sampler(seed=-1),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(SamplerError, match="expected"):
        make()
