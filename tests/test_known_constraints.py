"""Constraints that follow from a network itself are kept without an evaluation."""

from __future__ import annotations

import dataclasses
import logging
import math
import pickle
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from sampler_cases import MAKERS, PAPER, TINY, create, networks, search, values

import aspk
from aspk.cli import main
from aspk.costs.cost import layer_shapes, parameters
from aspk.costs.known import Cost, CostConstraint
from aspk.costs.values import KnownValues
from aspk.errors import ObjectiveError, SamplerError
from aspk.samplers import EvolutionarySampler, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.study import load_problem, make_sampler, run_study, study_problem
from aspk.study.storage import open_study
from aspk.testing import FormulaEvaluator

SHAPE, CLASSES = (3, 32, 32), 10
every_sampler = pytest.mark.parametrize("make", [*MAKERS.values(), RandomSampler], ids=[*MAKERS, "random"])


def counted(space, config):
    """Parameters of a network, counted layer by layer."""
    return parameters(layer_shapes(config, space.settings, SHAPE, CLASSES))


def tight(space, share):
    """A bound on the parameters that about ``share`` of a space keeps."""
    sample = space.sample_choices(500, np.random.default_rng(1))
    return float(np.quantile([counted(space, space.decode(x)) for x in sample], share))


def budget(space, share=0.05):
    return CostConstraint(Cost("parameters", space, SHAPE, CLASSES), tight(space, share))


def run(sampler, count, *, space=TINY, batch=1, excess=None, directions=("maximize", "minimize")):
    """Trials on the formula, which carry what ``excess`` says of a network as constraint 'parameters'."""
    study, evaluator = create(sampler, directions), FormulaEvaluator(space)
    while len(study.trials) < count:
        for trial in sampler.ask_batch(study, batch):
            config = space.suggest(trial)
            if excess is not None:
                trial.set_constraint("parameters", excess(config))
            study.tell(trial, values(*evaluator.evaluate([config]))[: len(directions)])
    return study


@pytest.mark.parametrize("space", [TINY, PAPER], ids=["tiny", "paper"])
def test_a_closed_budget_is_the_excess_of_counted_parameters(space):
    known = budget(space, 0.3)
    X = space.sample_choices(50, np.random.default_rng(0))
    expected = [counted(space, space.decode(x)) / known.at_most - 1 for x in X]
    assert known.of(X) == pytest.approx(expected)
    assert [known(space.decode(x)) for x in X] == pytest.approx(expected)
    assert min(expected) <= 0 < max(expected)


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_is_a_number_above_0(bound):
    with pytest.raises(ObjectiveError, match="expected a number above 0"):
        CostConstraint(Cost("parameters", TINY, SHAPE, CLASSES), bound)


@every_sampler
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("maximize",)], ids=["two", "one"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_no_network_breaks_a_known_constraint_not_even_the_first(make, batch, directions, told):
    known = budget(PAPER)
    sampler = make(space=PAPER, seed=0, known_constraints={"parameters": known})
    study = run(sampler, 28, space=PAPER, batch=batch, excess=known if told else None, directions=directions)
    found = networks(study, PAPER)
    assert max(counted(PAPER, config) for config in found) <= known.at_most
    assert len(set(found)) == len(found)


@every_sampler
def test_without_knowing_it_most_networks_break_it_at_first(make):
    known = budget(PAPER)
    study = run(make(space=PAPER, seed=0), 10, space=PAPER, excess=known)
    assert sum(known(config) > 0 for config in networks(study, PAPER)) >= 4


def test_random_networks_that_keep_it_are_equally_frequent():
    known = budget(TINY, 0.3)
    every = np.array(list(TINY.networks()))
    keeping = {TINY.decode(x) for x in every[known.of(every) <= 0]}
    firsts = []
    for seed in range(200):
        sampler = RandomSampler(space=TINY, seed=seed, known_constraints={"parameters": known})
        firsts += networks(run(sampler, 1))
    # The genes, not the networks, are uniform: of a shallow network each has as many index vectors.
    shallow = [config for config in firsts if len(config.blocks) == 1]
    kinds = {config for config in keeping if len(config.blocks) == 1}
    counts = np.array([shallow.count(config) for config in kinds])
    assert set(firsts) <= keeping
    assert counts.var() < 2 * counts.mean() + 1  # a Poisson distribution's variance is its mean


@every_sampler
@pytest.mark.parametrize("batch", [1, 12])
def test_when_all_that_keep_it_were_seen_others_follow_and_none_comes_twice(make, batch):
    known = budget(TINY, 0.02)
    count = int((known.of(np.array(list(TINY.networks()))) <= 0).sum())
    study = run(make(space=TINY, seed=0, known_constraints={"parameters": known}), count + 5, batch=batch)
    kept = [known(config) <= 0 for config in networks(study)]
    assert len(set(networks(study))) == len(kept) >= count + 5
    assert np.mean(kept[: count // 2]) == 1
    assert not all(kept)


@every_sampler
def test_any_function_will_do_and_is_called_once_for_each_network(make):
    known, calls = budget(TINY), []

    def excess(config):
        calls.append(config)
        return known(config)

    study = run(make(space=TINY, seed=0, known_constraints={"parameters": excess}), 15)
    assert 15 <= len(calls) == len(set(calls))
    quick = run(make(space=TINY, seed=0, known_constraints={"parameters": known}), 15)
    assert [t.params for t in study.trials] == [t.params for t in quick.trials]


def test_values_that_were_forgotten_are_computed_again(monkeypatch):
    monkeypatch.setattr("aspk.costs.values._MOST_REMEMBERED", 20)
    known, values = budget(TINY), KnownValues()
    X = TINY.sample_choices(50, np.random.default_rng(0))
    for rows in (X[:30], X[:30], X[20:], X):
        found = values.of(TINY, "parameters", known.__call__, rows)
        assert found.tolist() == known.of(rows).tolist()
        assert len(values._values) <= 50


def test_another_constraint_is_learnt_beside_it():
    known = budget(TINY, 0.5)
    energies = [
        m.energy_mj
        for m in FormulaEvaluator(TINY).evaluate(
            [TINY.decode(x) for x in TINY.sample_choices(200, np.random.default_rng(2))]
        )
    ]
    bound = aspk.Constraint("energy", lambda metrics: metrics.energy_mj, float(np.quantile(energies, 0.2)))
    sampler = SurrogateSampler(space=TINY, seed=0, known_constraints={"parameters": known})
    study = search(create(sampler), sampler, 40, batch=1, constraint=bound)
    assert max(known(config) for config in networks(study)) <= 0
    kept = [t.constraints["energy"] <= 0 for t in study.trials[20:]]
    assert np.mean(kept) > 0.5


@every_sampler
def test_a_function_that_contradicts_a_trial_is_left_out_and_the_trials_believed(make, caplog):
    known = budget(TINY, 0.3)
    opposite = {"parameters": lambda config: -known(config)}
    sampler = make(space=TINY, seed=0, known_constraints=opposite)
    study = run(sampler, 40, excess=known)
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "constraint 'parameters' is not known: known_constraints gives" in said
    later = np.mean([known(config) <= 0 for config in networks(study)[20:]])
    assert later > (0.0 if make is RandomSampler else 0.5)


@every_sampler
@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_function_may_say_no_more_of_broken_networks_than_that(make, broken, caplog):
    known = budget(TINY, 0.3)

    def excess(config):
        value = known(config)
        return value if value <= 0 else broken

    sampler = make(space=TINY, seed=0, known_constraints={"parameters": excess})
    study = create(sampler)
    study.enqueue_trial(TINY.parameters(TINY.encode(TINY.largest)))
    evaluator = FormulaEvaluator(TINY)
    with caplog.at_level(logging.INFO, logger="aspk"):
        for _ in range(15):
            (trial,) = sampler.ask_batch(study, 1)
            config = TINY.suggest(trial)
            if not math.isnan(excess(config)):  # Optuna refuses NaN
                trial.set_constraint("parameters", excess(config))
            study.tell(trial, values(*evaluator.evaluate([config])))
    first, *others = networks(study)
    assert known(first) > 0
    assert max(known(config) for config in others) <= 0
    assert "is not known" not in caplog.text


def test_where_nothing_keeps_it_the_networks_that_come_nearest_are_tried():
    known = dataclasses.replace(budget(TINY), at_most=1.0)
    sampler = SurrogateSampler(space=TINY, seed=0, known_constraints={"parameters": known})
    study = run(sampler, 20, excess=known)
    excesses = np.array([known(config) for config in networks(study)])
    assert len(set(networks(study))) == 20
    assert np.median(excesses[-10:]) < np.median(excesses[:4])


def test_where_nothing_can_be_learnt_children_keep_it_too():
    known = budget(PAPER)
    sampler = SurrogateSampler(space=PAPER, seed=0, known_constraints={"parameters": known})
    study = create(sampler)
    for _ in range(15):
        (trial,) = sampler.ask_batch(study, 1)
        study.tell(trial, [0.5, 1.0])
    assert max(known(config) for config in networks(study, PAPER)) <= 0


@every_sampler
def test_trials_of_others_that_break_it_are_no_part_of_the_front(make):
    known = budget(TINY, 0.3)
    sampler = make(space=TINY, seed=0, known_constraints={"parameters": known})
    study = create(sampler)
    study.enqueue_trial(TINY.parameters(TINY.encode(TINY.largest)))
    evaluator = FormulaEvaluator(TINY)
    for _ in range(20):
        (trial,) = sampler.ask_batch(study, 1)
        study.tell(trial, values(*evaluator.evaluate([TINY.suggest(trial)])))
    first, *others = networks(study)
    assert known(first) > 0
    assert max(known(config) for config in others) <= 0


def test_trials_that_carry_no_value_have_the_excess_that_is_known():
    class Watching(NSGA2Sampler):
        def bounded(self, genome, history):
            self.before, (bounds, self.after) = history, super().bounded(genome, history)
            return bounds, self.after

    known = budget(TINY, 0.5)
    sampler = Watching(space=TINY, seed=0, population_size=4, known_constraints={"parameters": known})
    others = run(RandomSampler(space=TINY, seed=0), 12)
    study = optuna.create_study(sampler=sampler, directions=others.directions)
    study.add_trials(others.trials)
    sampler.ask_batch(study, 1)
    excess = [known(config) for config in networks(others)]
    assert min(excess) <= 0 < max(excess)
    assert (sampler.before.violation == 0).all()
    assert sampler.after.violation == pytest.approx(np.maximum(excess, 0))


@every_sampler
def test_it_follows_from_study_and_seed_in_another_process_too(make):
    known = budget(TINY, 0.2)
    sampler = make(space=TINY, seed=3, known_constraints={"parameters": known})
    study = run(sampler, 9, excess=known)
    fresh = make(space=TINY, seed=3, known_constraints={"parameters": known})
    again = pickle.loads(pickle.dumps(sampler))
    asked = []
    for other in (sampler, fresh, again):
        copy = optuna.create_study(sampler=other, directions=["maximize", "minimize"])
        copy.add_trials(study.trials)
        asked.append(other.ask_batch(copy, 2))
    assert [t.params for t in asked[0]] == [t.params for t in asked[1]] == [t.params for t in asked[2]]


@pytest.mark.parametrize("kind", [EvolutionarySampler, NSGA2Sampler, RandomSampler, SurrogateSampler])
def test_it_needs_the_space(kind):
    with pytest.raises(SamplerError, match="known_constraints= are functions of a network"):
        kind(known_constraints={"parameters": lambda config: 0.0})


@pytest.mark.parametrize("name", ["surrogate", "nsga2", "evolutionary", "random"])
def test_a_search_keeps_budgets_on_parameters_and_operations(study_file, name):
    known = budget(TINY, 0.2)
    digits = dataclasses.replace(known, cost=dataclasses.replace(known.cost, shape=(1, 8, 8)))
    spec = dataclasses.replace(
        aspk.load_study_file(str(study_file)),
        sampler=name,
        constraints={"parameters": known.at_most, "operations": 1e7, "energy": 1.0},
    )
    asked = load_problem(spec)
    assert set(asked.known_constraints) == {"parameters", "operations"}
    assert make_sampler(spec, asked)._known_constraints == asked.known_constraints
    run_study(spec, asked, progress=False)
    trials = open_study(spec).trials
    assert len(trials) == spec.evaluations
    for trial in trials:
        config = TINY.decode(TINY.from_parameters(trial.params))
        assert trial.constraints["parameters"] == pytest.approx(digits(config))
        assert max(trial.constraints["parameters"], trial.constraints["operations"]) <= 0


REVERSED = dataclasses.replace(
    TINY, network={**TINY.network, "embed_dim": tuple(reversed(TINY.network["embed_dim"]))}
)


@pytest.mark.parametrize("space", [TINY, REVERSED], ids=["ascending", "descending"])
@pytest.mark.parametrize("name", ["parameters", "operations"])
def test_the_least_cost_is_that_of_the_cheapest_network(space, name):
    cost = Cost(name, space, SHAPE, CLASSES)
    assert cost.least == cost.of(np.array(list(space.networks()))).min()


@pytest.mark.parametrize("name", ["parameters", "operations"])
def test_a_bound_that_no_network_keeps_stops_a_search_before_it_starts(study_file, name, capsys):
    least = Cost(name, TINY, (1, 8, 8), 10).least
    written = study_file.read_text()
    for command in ("check", "search"):
        study_file.write_text(f"{written}\n[constraints]\n{name} = {least - 1:.0f}")
        assert main([command, str(study_file)]) == 1
        assert f"the smallest network of 'tiny' has {least:,.0f} {name}" in capsys.readouterr().err
        assert not (study_file.parent / "run" / "study.db").exists()
        study_file.write_text(f"{written}\n[constraints]\n{name} = {least:.0f}")
        assert main([command, str(study_file)]) == 0


def test_budgets_are_written_as_the_page_on_studies_says(study_file):
    page = (Path(__file__).parent.parent / "docs" / "studies.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```toml\n(\[constraints\].*?)```", page, re.DOTALL)
    study_file.write_text(f"{study_file.read_text()}\n{table}")
    assert main(["search", str(study_file)]) == 0
    for trial in open_study(aspk.load_study_file(str(study_file))).trials:
        assert trial.constraints["parameters"] <= 0
        assert trial.constraints["energy"] == pytest.approx(trial.user_attrs["energy_mj"] / 0.05 - 1)


def test_of_an_evaluator_of_somebody_else_nothing_is_known(study_file):
    spec = dataclasses.replace(aspk.load_study_file(str(study_file)), constraints={"parameters": 20_000.0})
    assert study_problem(spec, FormulaEvaluator(TINY), classes=10).known_constraints == {}
