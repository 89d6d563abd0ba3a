"""The acquisition and the predictions of the surrogate-assisted sampler."""

import copy
import dataclasses
import logging
import math
import re

import numpy as np
import optuna
import pytest
from sampler_cases import PAPER, TINY, Recording, create, networks, search, values
from scipy.stats import norm
from study_models import study_model

from aspk.costs.known import Cost
from aspk.errors import SamplerError
from aspk.samplers import SurrogateSampler
from aspk.samplers._acquisition import boxes, expected_improvement
from aspk.samplers._history import History
from aspk.samplers._pool import distance_to_front, evolve, unseen
from aspk.samplers._targets import clipped, milestone, worst_on_front
from aspk.space.file import space_from_dict
from aspk.space.operators import keys
from aspk.tables import TabularEvaluator
from aspk.testing import FormulaEvaluator
from aspk.util.pareto import hypervolume, nondominated

# ------------------------------------------------------------------ hypervolume improvement


def random_front(k, count=12, seed=0):
    points = np.random.default_rng(seed).random((count, k))
    return points[nondominated(points)]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_boxes_are_disjoint_and_hold_what_the_front_does_not(k):
    front, reference = random_front(k), np.full(k, 0.9)
    lower, upper = boxes(front, reference)
    points = np.random.default_rng(1).random((2000, k)) * 0.9
    inside = (points[:, None] > lower) & (points[:, None] < upper)
    dominated = (front[None] <= points[:, None]).all(axis=2).any(axis=1)
    assert inside.all(axis=2).sum(axis=1).tolist() == (~dominated).astype(int).tolist()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_expected_improvement_is_the_mean_over_samples(k):
    front, reference = random_front(k), np.full(k, 0.9)
    rng = np.random.default_rng(2)
    mean, std = rng.random((5, k)) * 0.8, 0.02 + 0.2 * rng.random((5, k))
    found = expected_improvement(mean, std, *boxes(front, reference))
    before = hypervolume(front, reference)
    for row in range(5):
        draws = rng.normal(mean[row], std[row], size=(4000, k))
        gains = [hypervolume(np.vstack([front, y]), reference) - before for y in draws]
        assert found[row] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(4000) + 1e-5)


def test_with_one_objective_it_is_the_expected_improvement_of_the_textbook():
    best, mean, std = 0.4, np.array([[0.3], [0.5]]), np.array([[0.1], [0.2]])
    z = (best - mean) / std
    expected = (best - mean) * norm.cdf(z) + std * norm.pdf(z)
    found = expected_improvement(mean, std, *boxes(np.array([[best]]), np.array([1.0])))
    assert found == pytest.approx(expected[:, 0])


def test_without_a_front_there_is_the_whole_orthant():
    found = boxes(np.empty((0, 2)), np.array([1.0, 2.0]))
    gain = expected_improvement(np.array([[0.5, 0.5]]), np.full((1, 2), 1e-9), *found)
    assert gain == pytest.approx([0.5 * 1.5])


def test_many_objectives_keep_the_number_of_boxes_affordable():
    points = np.random.default_rng(0).dirichlet(np.ones(4), size=200)  # on a plane: all of them are a front
    front = points[nondominated(points)]
    assert len(front) == 200
    assert len(boxes(front, np.ones(4))[0]) < 20_000


# ------------------------------------------------------------------ candidates


def history(count=40, seed=0, discarded=None):
    X = TINY.sample_choices(count, np.random.default_rng(seed))
    metrics = FormulaEvaluator(TINY).evaluate([TINY.decode(x) for x in X])
    F = np.array([[-m.accuracy, m.energy_mj] for m in metrics])
    return History(
        X=X,
        values=F,
        directions=("maximize", "minimize"),
        violation=np.zeros(count),
        pending=X[:0],
        discarded=X[:0] if discarded is None else discarded,
        designs=frozenset(keys(TINY, X)),
    )


def truth(X):
    metrics = FormulaEvaluator(TINY).evaluate([TINY.decode(x) for x in X])
    return np.array([[-m.accuracy, m.energy_mj] for m in metrics])


def test_evolution_finds_what_predicts_well():
    start = history()
    X, predicted = evolve(TINY, start, truth, 20, np.random.default_rng(0))
    assert predicted == pytest.approx(truth(X))
    late = truth(X[-100:])
    reference = start.values.max(axis=0)
    assert hypervolume(late, reference) > 1.05 * hypervolume(start.values, reference)


def test_unseen_rows_are_new_and_different():
    X = TINY.sample_choices(200, np.random.default_rng(0))
    X = np.concatenate([X, X[:50]])
    known = set(keys(TINY, X[:30]))
    rows = unseen(TINY, X, known)
    names = [keys(TINY, X)[row] for row in rows]
    assert len(set(names)) == len(names)
    assert not known & set(names)
    assert set(names) | known == set(keys(TINY, X))


def test_the_distance_to_a_front_by_hand():
    front = np.array([[0.0, 10.0], [1.0, 0.0]])
    rows = np.array([[0.0, 10.0], [0.5, 11.0], [1.25, 5.0], [-0.1, 12.0]])
    assert distance_to_front(rows, front) == pytest.approx([0.0, 0.5, 0.5, 0.2])


def test_a_new_end_of_the_front_is_worth_more_than_a_grain_in_its_middle():
    """Behind its reference point the end would be worth nothing."""
    end, grain, bad = (0.0, 9.0), (4.9, 4.9), (20.0, 20.0)
    front = [(float(i), 9.0 - i) for i in range(1, 9)]
    outcome = dict(zip(range(8, 104, 8), [*front, end, grain, bad, bad], strict=True))
    fixed = {"depth": 1, "time_steps": 1, "mlp_ratio": 1, "num_heads": 1, "v_threshold": 1, "tau": 2}
    space = space_from_dict(
        {
            "name": "widths",
            "settings": {"patch_size": 2},
            "network": {"embed_dim": list(outcome), "depth": [1], "time_steps": [1]},
            "block": {"mlp_ratio": [1], "num_heads": [1], "v_threshold": [1], "tau": [2]},
            "reference": {"embed_dim": 8, **fixed},
        }
    )
    known = {0: lambda config: outcome[config.embed_dim][0], 1: lambda config: outcome[config.embed_dim][1]}
    sampler = SurrogateSampler(space=space, seed=0, known=known)
    study = create(sampler, directions=("minimize", "minimize"))
    for x in space.networks():
        config = space.decode(x)
        if outcome[config.embed_dim] in front:
            study.enqueue_trial(space.parameters(x))
    study.optimize(lambda trial: outcome[space.suggest(trial).embed_dim], n_trials=len(front) + 1)
    assert study.trials[-1].values == list(end)


# ------------------------------------------------------------------ predictions


def test_milestones_grow_with_the_study():
    found = [milestone(count, 12) for count in range(2, 200)]
    assert found == sorted(found)
    assert found[:10] == list(range(2, 12))
    assert all(at <= count < 1.3 * at + 3 for count, at in zip(range(12, 200), found[10:], strict=True))
    assert len(set(found[10:])) < 25


def test_bad_outliers_are_brought_nearer_and_nothing_else():
    accuracies, good = -np.array([0.9, 0.88, 0.86, 0.1]), -0.86
    assert clipped(accuracies, 4, good)[:3] == pytest.approx(accuracies[:3])
    assert clipped(accuracies, 4, good)[3] == pytest.approx(-0.87 + 3 * 0.03)
    costs = np.array([1.0, 10.0, 100.0, 1e9])
    assert clipped(costs, 4, 10.0)[:3] == pytest.approx(costs[:3])
    assert 1e3 < clipped(costs, 4, 10.0)[3] < 1e7
    assert clipped(np.ones(4), 4, 1.0) == pytest.approx(np.ones(4))


def test_what_is_on_the_front_is_no_outlier():
    """A cheap network of low accuracy: a better prediction would promise what no evaluation finds."""
    values = np.array([[-0.98, 9.0], [-0.97, 8.0], [-0.96, 7.0], [-0.95, 9.5], [-0.5, 1.0]])
    X = TINY.sample_choices(5, np.random.default_rng(0))
    found = dataclasses.replace(history(), X=X, values=values, violation=np.zeros(5))
    assert worst_on_front(found.values, found.violation).tolist() == [-0.5, 9.0]
    assert worst_on_front(found.values[:4], found.violation[:4]).tolist() == [-0.96, 9.0]
    assert clipped(values[:, 0], 5, -0.5) == pytest.approx(values[:, 0])
    assert clipped(values[:, 0], 5, -0.95)[4] < -0.8
    broken = dataclasses.replace(found, violation=np.ones(5))
    assert (worst_on_front(broken.values, broken.violation) == -np.inf).all()


def test_memory_changes_nothing():
    sampler = SurrogateSampler(space=TINY, seed=0)
    study = search(create(sampler), sampler, 40)
    fresh = SurrogateSampler(space=TINY, seed=0)
    twin = copy.deepcopy(study)
    asked = [[t.params for t in s.ask_batch(of, 3)] for s, of in ((sampler, study), (fresh, twin))]
    assert asked[0] == asked[1]


def test_known_objectives_are_computed_not_predicted(caplog):
    def energy(config):
        return FormulaEvaluator(TINY).evaluate([config])[0].energy_mj

    def accuracy(config):
        return FormulaEvaluator(TINY).evaluate([config])[0].accuracy  # maximised: History has it negative

    U = TINY.sample_choices(50, np.random.default_rng(9))
    found = study_model(history(), first=12, known={0: accuracy, 1: energy})
    posterior = found.posterior(U)
    assert posterior.mean == pytest.approx(truth(U))
    assert found.predict(U) == pytest.approx(truth(U))
    assert (posterior.std < 1e-9).all()
    study_model(history(), first=12, known={1: lambda config: 2 * energy(config)})
    assert "objective 1 is learnt: known[1] gives" in caplog.text


def test_a_cost_is_the_function_that_it_stands_for():
    cost = Cost("operations", TINY, shape=(1, 8, 8), classes=10)
    found = []
    reversed_widths = tuple(reversed(TINY.network["embed_dim"]))
    other = dataclasses.replace(TINY, network={**TINY.network, "embed_dim": reversed_widths})  # other indices
    elsewhere = Cost("operations", other, shape=(1, 8, 8), classes=10)
    for known in (cost, elsewhere, lambda config: float(cost(config))):
        sampler = SurrogateSampler(space=TINY, seed=0, known={1: known})
        study = create(sampler)
        for _ in range(12):
            (trial,) = sampler.ask_batch(study, 1)
            config = TINY.suggest(trial)
            study.tell(trial, [FormulaEvaluator(TINY).evaluate([config])[0].accuracy, cost(config)])
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1] == found[2]


def test_the_direction_of_a_known_objective_is_the_studys():
    """All trials so far tell 0, which looks the same whether it is minimised or maximised."""
    deepest = max(TINY.network["depth"])

    def deep(config):
        return float(config.depth == deepest)

    def values(trial):
        config = TINY.suggest(trial)
        return -FormulaEvaluator(TINY).evaluate([config])[0].energy_mj, deep(config)

    for direction, least, most in (("maximize", 8, 10), ("minimize", 0, 2)):
        sampler = SurrogateSampler(space=TINY, seed=0, known={1: deep})
        study = create(sampler, directions=("maximize", direction))
        shallow = [x for x in TINY.sample_choices(100, np.random.default_rng(0)) if not deep(TINY.decode(x))]
        for x in shallow[:8]:
            study.enqueue_trial(TINY.parameters(x))
        study.optimize(values, n_trials=18)
        assert least <= sum(trial.values[1] for trial in study.trials[8:]) <= most


def test_a_formula_of_the_wrong_sign_is_said(caplog):
    found = history()
    for direction in ("maximize", "minimize"):
        zero = dataclasses.replace(
            found, values=np.zeros((40, 1)), directions=(direction,), violation=np.arange(40.0)
        )
        model = study_model(zero, known={0: lambda config: 0.0})
        assert model.predict(found.X).tolist() == [[0.0]] * 40
    assert not caplog.text
    study_model(found, known={0: lambda config: -FormulaEvaluator(TINY).evaluate([config])[0].accuracy})
    assert re.search(r"gives -.* whose trial says \d.*minimised or maximised", caplog.text)


def test_a_known_objective_helps_and_a_wrong_one_is_said(caplog):
    def log_energy(config):
        return values(*FormulaEvaluator(TINY).evaluate([config]))[1]

    sampler = SurrogateSampler(space=TINY, seed=0, known={1: log_energy})
    study = search(create(sampler), sampler, 30)
    assert len(set(networks(study))) == 30
    sampler = SurrogateSampler(space=TINY, seed=0, known={1: lambda config: 1.0})
    wrong = search(create(sampler), sampler, 20, batch=1)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "objective 1 is learnt: known[1] gives 1" in warning
    sampler = SurrogateSampler(space=TINY, seed=0)
    plain = search(create(sampler), sampler, 20, batch=1)
    assert [t.params for t in wrong.trials] == [t.params for t in plain.trials]
    with pytest.raises(SamplerError, match="space="):
        SurrogateSampler(known={0: log_energy})


def test_failed_networks_are_avoided():
    """Deep networks fail; the prediction must learn it."""
    everything = history(count=60)
    deep = everything.X[:, 1] == 1
    start = dataclasses.replace(
        everything,
        X=everything.X[~deep],
        values=everything.values[~deep],
        violation=everything.violation[~deep],
        discarded=everything.X[deep],
    )
    U = TINY.sample_choices(100, np.random.default_rng(1))
    probability = np.exp(study_model(start, first=12).log_feasibility(U))
    assert probability[U[:, 1] == 1].max() < 0.3 < 0.7 < probability[U[:, 1] == 0].min()
    assert study_model(history(), first=12).log_feasibility(U).tolist() == [0.0] * 100


def bounded(bound, count=60):
    """A study of accuracies whose energies are bounded; see test_shared_constraints.py for objectives."""
    start = history(count=count)
    excess = start.values[:, 1] / bound - 1
    return dataclasses.replace(
        start,
        values=start.values[:, :1],
        violation=np.maximum(excess, 0),
        constraints={"energy": excess, "none": np.full(count, np.nan)},
    )


def test_constraints_are_learnt_from_their_values():
    U = TINY.sample_choices(300, np.random.default_rng(1))
    energies = truth(U)[:, 1]
    bound = float(np.quantile(energies, 0.3))
    found = study_model(bounded(bound), first=12)
    likely = found.log_feasibility(U) > np.log(0.5)
    assert (likely == (energies <= bound)).mean() > 0.97
    assert found.violation(U) == pytest.approx(np.maximum(energies / bound - 1, 0), rel=0.2, abs=0.2)
    assert study_model(history(), first=12).violation(U).tolist() == [0.0] * 300


def test_a_constraint_that_some_trials_lack_is_learnt_from_the_others():
    start = bounded(float(np.quantile(history().values[:, 1], 0.3)))
    some = np.where(np.arange(len(start)) % 3, start.constraints["energy"], np.nan)
    U = TINY.sample_choices(300, np.random.default_rng(1))
    all_of_them, part = (
        study_model(dataclasses.replace(start, constraints=constraints), first=12).log_feasibility(U)
        > np.log(0.5)
        for constraints in ({"energy": start.constraints["energy"]}, {"energy": some})
    )
    assert (all_of_them == part).mean() > 0.9


def test_while_nothing_is_feasible_what_may_be_is_sought():
    U = TINY.sample_choices(200, np.random.default_rng(1))
    start = bounded(history(count=60).values[:, 1].min() * 0.9)
    assert (start.violation > 0).all()
    chosen = U[np.argsort(-study_model(start, first=12).log_feasibility(U))[:5]]
    assert truth(chosen)[:, 1].mean() < np.quantile(truth(U)[:, 1], 0.1)


def test_infinite_and_missing_constraints_reach_the_search():
    given = [{"a": 2.0}, {"a": -1.0, "b": 0.5}, {"a": math.inf}, {}]
    sampler = Recording(space=TINY, seed=0, population_size=4)
    study = create(sampler)
    for constraints in given:
        (trial,) = sampler.ask_batch(study, 1)
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        study.tell(trial, [0.5, 1.0])
    sampler.ask_batch(study, 1)
    found = {name: column.tolist() for name, column in sampler.history.constraints.items()}
    assert found["a"] == pytest.approx([2.0, -1.0, 5.0, math.nan], nan_ok=True)  # one range beyond
    assert found["b"] == pytest.approx([math.nan, 0.5, math.nan, math.nan], nan_ok=True)
    assert sampler.history.violation.tolist() == [2.0, 0.5, math.inf, 0.0]


@pytest.mark.parametrize("name", ["fashion_blocks", "mnist_mixed"])
def test_a_search_under_a_budget_evaluates_what_keeps_it(name):
    """A tenth of the networks keeps it; with feasible or not as all that was learnt, fewer trials did."""
    table = TabularEvaluator(name)
    F = table.values()
    bound, shares = np.quantile(F[:, 1], 0.1), []
    for seed in range(2):
        sampler = SurrogateSampler(space=table.space, seed=seed)
        study = optuna.create_study(sampler=sampler)
        for _ in range(40):
            (trial,) = sampler.ask_batch(study, 1)
            accuracy, energy = F[table.rows(table.space.from_parameters(trial.params)[None])[0]]
            trial.set_constraint("energy", energy / bound - 1)
            study.tell(trial, accuracy)
        kept = [trial.constraints["energy"] <= 0 for trial in study.trials]
        shares.append(np.mean(kept[20:]))
    assert np.mean(shares) > 0.4


# ------------------------------------------------------------------ the sampler


def test_it_starts_with_a_latin_hypercube():
    sampler = SurrogateSampler(space=PAPER, seed=0, n_startup_trials=24)
    study = create(sampler)
    X = np.array(
        [PAPER.from_parameters(PAPER.parameters(sampled)) for sampled in _genotypes(sampler, study, 24)]
    )
    for column in range(3):
        counts = np.bincount(X[:, column], minlength=PAPER.cardinalities[column])
        assert counts.max() - counts.min() <= 1
    assert len(_genotypes(sampler, study, 10)) == 10


def _genotypes(sampler, study, count):
    return [PAPER.from_parameters(trial.params) for trial in sampler.ask_batch(study, count)]


def test_a_batch_spreads_over_the_front():
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=30)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    evaluator = FormulaEvaluator(TINY)
    for size in (30, 12):
        trials = sampler.ask_batch(study, size)
        metrics = evaluator.evaluate([TINY.suggest(trial) for trial in trials])
        for trial, m in zip(trials, metrics, strict=True):
            study.tell(trial, [m.accuracy, m.energy_mj])
    energies = [m.energy_mj for m in metrics]
    assert max(energies) > 3 * min(energies)
    assert len({TINY.suggest(trial) for trial in trials}) == 12
    on_front = {trial.number for trial in study.best_trials}
    assert len(on_front & {trial.number for trial in trials}) >= 4  # a random batch adds one or two


def test_what_other_workers_evaluate_is_not_sought_again():
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=20)
    study = search(create(sampler), sampler, 20)
    first = sampler.ask_batch(study, 1)[0]
    second = sampler.ask_batch(study, 1)[0]  # the first one is running
    assert TINY.suggest(first) != TINY.suggest(second)
    batch = sampler.ask_batch(
        search(create(s := SurrogateSampler(space=TINY, seed=0, n_startup_trials=20)), s, 20), 2
    )
    assert TINY.suggest(batch[0]) == TINY.suggest(first)


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize", "minimize"]])
def test_one_and_three_objectives_beat_random_search(directions):
    evaluator = FormulaEvaluator(TINY)

    def objectives(config):
        (m,) = evaluator.evaluate([config])
        return [m.accuracy, m.energy_mj * 1e3, m.parameters / 1e5][: len(directions)]

    def reached(sampler):
        study = optuna.create_study(sampler=sampler, directions=directions)
        for _ in range(50):
            trial = study.ask()
            study.tell(trial, objectives(TINY.suggest(trial)))
        F = np.array([t.values for t in study.trials]) * np.array([-1, 1, 1])[: len(directions)]
        return hypervolume(F, np.array([0.0, 2.0, 2.0])[: len(directions)])

    ours, random = (
        np.mean([reached(make(seed)) for seed in range(2)])
        for make in (
            lambda s: SurrogateSampler(space=TINY, seed=s),
            lambda s: optuna.samplers.RandomSampler(seed=s),
        )
    )
    assert ours > random


def test_every_network_before_any_repeats():
    from spaces import SMALL

    sampler = SurrogateSampler(space=SMALL, seed=0, n_startup_trials=4)
    study = search(create(sampler), sampler, SMALL.size, space=SMALL, batch=3)
    assert len(set(networks(study, SMALL))) == SMALL.size


def test_without_a_surrogate_it_is_nsga2_and_says_so(caplog):
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=4)
    study = optuna.create_study(sampler=sampler)
    for trial in sampler.ask_batch(study, 4):
        study.tell(trial, 1.0)
    for _ in range(3):  # said once
        assert len(sampler.ask_batch(study, 3)) == 3
    (said,) = [record for record in caplog.records if "NSGA-II instead" in record.message]
    assert said.levelname == "WARNING"
    assert "all trials have the same values" in said.message


def test_that_a_study_has_only_just_begun_is_no_warning(caplog):
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=8)
    study = optuna.create_study(sampler=sampler)
    first, *_ = sampler.ask_batch(study, 8)
    study.tell(first, 1.0)
    with caplog.at_level(logging.INFO, logger="aspk"):
        assert len(sampler.ask_batch(study, 3)) == 3
    assert "NSGA-II instead" in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}
