import copy
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from sampler_cases import TINY, Recording, create, every_sampler, networks, search, values

from aspk.samplers._history import History, constrained_ranks, crowding
from aspk.space.operators import keys
from aspk.testing import FormulaEvaluator
from aspk.trials.attributes import GENOTYPE

# ------------------------------------------------------------------ difficult studies


@every_sampler
@pytest.mark.parametrize("with_space", [True, False])
def test_failed_pruned_running_and_foreign_trials(make, with_space):
    sampler = make(space=TINY if with_space else None, seed=0)
    study = create(sampler)
    others = create(optuna.samplers.RandomSampler(seed=0))
    evaluator = FormulaEvaluator(TINY)
    for _ in range(12):
        trial = others.ask()
        others.tell(trial, values(*evaluator.evaluate([TINY.suggest(trial)])))
    study.add_trials(others.trials)
    for state in (TrialState.FAIL, TrialState.PRUNED):
        trial = study.ask()
        TINY.suggest(trial)
        study.tell(trial, state=state)
    study.tell(study.ask(), state=TrialState.FAIL)  # without parameters
    running = study.ask()
    TINY.suggest(running)
    study.enqueue_trial(TINY.parameters(TINY.encode(TINY.smallest)))
    infinite = study.trials[0]
    study.add_trial(
        create_trial(
            values=[-math.inf, math.inf], params=infinite.params, distributions=infinite.distributions
        )
    )

    def objective(trial):
        config = TINY.suggest(trial)
        if trial.number % 7 == 0:
            return math.nan, 1.0
        if trial.number % 7 == 1:
            raise RuntimeError("out of memory")
        return tuple(values(*evaluator.evaluate([config])))

    study.optimize(objective, n_trials=20, catch=(RuntimeError,))
    assert len(study.trials) == 37
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) > 20


@every_sampler
def test_a_space_ignores_trials_that_are_not_of_it(make):
    study = create(sampler := make(space=TINY, seed=0))
    for state in (TrialState.COMPLETE, TrialState.RUNNING):
        study.add_trial(
            create_trial(
                state=state,
                values=[0.5, 0.5] if state == TrialState.COMPLETE else None,
                params={"lr": 0.1, "depth": 7},
                distributions={"lr": FloatDistribution(0, 1), "depth": IntDistribution(1, 9)},
            )
        )
    search(study, sampler, 20)
    assert len(study.trials) == 22


@every_sampler
def test_a_study_where_everything_fails_goes_on(make):
    study = create(sampler := make(space=TINY, seed=0))
    for _ in range(3):
        for trial in sampler.ask_batch(study, 10):
            study.tell(trial, state=TrialState.FAIL)
    assert len(set(networks(study))) == 30


@every_sampler
@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_objectives_and_equal_values(make, count):
    study = create(sampler := make(space=TINY, seed=0), ["minimize"] * count)
    evaluator = FormulaEvaluator(TINY)
    for step in range(5):
        trials = sampler.ask_batch(study, 6)
        for trial, metrics in zip(trials, evaluator.evaluate([TINY.suggest(t) for t in trials]), strict=True):
            numbers = [-metrics.accuracy, metrics.energy_mj, metrics.firing_rate]
            study.tell(trial, [0.0] * count if step < 2 else numbers[:count])
    assert len(set(networks(study))) == 30


@every_sampler
def test_fixed_parameters_are_kept(make):
    sampler = make(space=TINY, seed=0)
    study = search(create(sampler), sampler, 12)
    study.enqueue_trial({"depth": 2})
    study.enqueue_trial({"depth": 1, "embed_dim": 48})
    first, second = study.ask(), study.ask()
    assert TINY.suggest(first).depth == 2
    assert TINY.suggest(second).embed_dim == 48
    for trial in (first, second):
        recorded = TINY.check(study.trials[trial.number].system_attrs[GENOTYPE])
        assert TINY.parameters(recorded) == trial.params
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.sampler = optuna.samplers.PartialFixedSampler({"depth": 2}, sampler)
    for _ in range(4):
        assert TINY.suggest(study.ask()).depth == 2


@every_sampler
def test_threads_share_a_sampler(make):
    study = create(make(space=TINY, seed=0))
    evaluator = FormulaEvaluator(TINY)
    study.optimize(lambda t: tuple(values(*evaluator.evaluate([TINY.suggest(t)]))), n_trials=30, n_jobs=4)
    assert len(set(networks(study))) == 30


# ------------------------------------------------------------------ ranking


def test_infeasible_trials_stand_behind_feasible_ones_by_violation():
    F = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [0.0, 0.0]])
    violation = np.array([0.5, 0.0, 0.0, 0.0, 0.1])
    assert constrained_ranks(F, violation).tolist() == [3, 0, 0, 1, 2]
    assert constrained_ranks(F, np.array([3.0, 1, 2, 4, 5])).tolist() == [2, 0, 1, 3, 4]


def test_crowding_by_hand():
    F = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [9.0, 9.0]])
    distance = crowding(F, np.array([0, 0, 0, 1]))
    assert distance.tolist() == [math.inf, 4 / 4 + 4 / 4, math.inf, math.inf]


def test_fitness_ranks_before_the_values_but_behind_feasibility():
    history = History(
        X=np.arange(4)[:, None],
        values=np.array([[0.0], [1.0], [2.0], [3.0]]),
        directions=("minimize",),
        violation=np.array([0.0, 0.0, 0.0, 1.0]),
        pending=np.zeros((0, 1)),
        discarded=np.zeros((0, 1)),
        fitness=np.array([1.0, 3.0, 2.0, 9.0]),
    )
    assert history.best(3).tolist() == [1, 2, 0]


def test_the_history_says_what_the_study_says():
    study = create(sampler := Recording(space=TINY, seed=0, population_size=4))
    trials = sampler.ask_batch(study, 5)
    trials[0].set_constraint("energy", 0.5)
    trials[0].set_constraint("parameters", 0.25)
    trials[0].set_constraint("spikes", -3.0)
    study.tell(trials[0], [0.5, 2.0])
    study.tell(trials[1], [0.25, 1.0])
    study.tell(trials[2], state=TrialState.FAIL)
    study.tell(trials[3], state=TrialState.PRUNED)
    sampler.ask_batch(study, 1)
    history = sampler.history
    assert history.values.tolist() == [[-0.5, 2.0], [-0.25, 1.0]]
    assert history.violation.tolist() == [0.75, 0.0]
    rows = [TINY.encode(config) for config in networks(study)[:5]]
    assert np.array_equal(TINY.canonical(history.X), rows[:2])
    assert np.array_equal(TINY.canonical(history.discarded), rows[2:4])
    assert np.array_equal(TINY.canonical(history.pending), rows[4:5])
    assert history.designs == set(keys(TINY, np.array(rows)))


def test_an_enqueued_network_is_pending_for_the_others():
    study = create(sampler := Recording(space=TINY, seed=0, population_size=4))
    study.enqueue_trial(TINY.parameters(TINY.encode(TINY.reference)))
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    assert [TINY.decode(x) for x in sampler.history.pending] == [TINY.reference]


def test_hidden_genes_of_foreign_trials_follow_from_seed_and_number():
    foreign = create(optuna.samplers.RandomSampler(seed=0))
    for _ in range(12):
        trial = foreign.ask()
        TINY.suggest(trial)
        foreign.tell(trial, [0.0, 0.0])

    def read(seed):
        sampler = Recording(space=TINY, seed=seed)
        sampler.ask_batch(copy.deepcopy(foreign), 1)
        return sampler.history.X

    first, again, other = read(1), read(1), read(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(TINY.canonical(first), TINY.canonical(other))
    assert [TINY.decode(x) for x in first] == networks(foreign)
