import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sampler_cases import MAKERS, PAPER, TINY, create, every_sampler, networks, search, values
from spaces import SWITCHES

from aspk.errors import SamplerError
from aspk.samplers import NSGA2Sampler, SurrogateSampler
from aspk.samplers._codec import SpaceCodec
from aspk.samplers._coordinate import Coordinate
from aspk.testing import FormulaEvaluator
from aspk.trials.attributes import GENOTYPE

# ------------------------------------------------------------------ state lives in the study


@every_sampler
def test_a_new_sampler_on_the_same_study_suggests_the_same(make):
    study = search(create(sampler := make(space=TINY, seed=3)), sampler, 16)

    def ask(seed):
        twin = copy.deepcopy(study)
        twin.sampler = make(space=TINY, seed=seed)
        trial = twin.ask()
        TINY.suggest(trial)
        return trial.params

    assert ask(3) == ask(3)
    assert ask(3) != ask(4)
    batches = []
    for _ in range(2):
        twin, sampler = copy.deepcopy(study), make(space=TINY, seed=3)
        batches.append([trial.params for trial in sampler.ask_batch(twin, 5)])
    assert batches[0] == batches[1]


def test_a_new_process_suggests_the_same(tmp_path):
    path = tmp_path / "journal.log"
    study = create(
        sampler := MAKERS["nsga2"](space=TINY, seed=0),
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name="s",
    )
    search(study, sampler, 12)
    program = f"""
import json, sys, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
import aspk.samplers as samplers
from aspk.testing import tiny_space
study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend({str(path)!r})))
trials = study.get_trials(deepcopy=True)
memory = optuna.create_study(directions=["maximize", "minimize"])
memory.add_trials(trials)
answers = []
for sampler in (
    samplers.EvolutionarySampler(space=tiny_space(), seed=9, population_size=8),
    samplers.NSGA2Sampler(space=tiny_space(), seed=9, population_size=8),
    samplers.SurrogateSampler(space=tiny_space(), seed=9, n_startup_trials=8),
):
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    memory.add_trial(trial)
    trial = memory.trials[-1]
    space = sampler.infer_relative_search_space(memory, trial)
    answers.append(sampler.sample_relative(memory, trial, space))
heavy = sorted({{"torch", "pymoo", "sklearn"}} & set(sys.modules))  # of suggestions, too
print(json.dumps([heavy, answers]))
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    ]
    assert runs[0] == runs[1]
    heavy, answers = json.loads(runs[0])
    assert heavy == []
    assert all("embed_dim" in answer for answer in answers)


@every_sampler
def test_samplers_are_picklable_and_draw_a_seed_if_they_get_none(make):
    first, second = make(space=TINY), make(space=TINY)
    study = create(first)
    ask = {
        name: [t.params for t in sampler.ask_batch(copy.deepcopy(study), 4)]
        for name, sampler in (
            ("first", first),
            ("again", pickle.loads(pickle.dumps(first))),
            ("other", second),
        )
    }
    assert ask["first"] == ask["again"] != ask["other"]


def test_the_genotype_is_recorded_and_only_active_parameters_are_shown():
    study = search(create(sampler := MAKERS["nsga2"](space=TINY, seed=0)), sampler, 24)
    trial = study.ask()
    TINY.suggest(trial)
    depths = set()
    for frozen in study.trials:
        x = TINY.check(frozen.system_attrs[GENOTYPE])
        assert frozen.params == TINY.parameters(x)
        depths.add(frozen.params["depth"])
    assert depths == {1, 2}


def test_hidden_genes_are_remembered():
    """A child of shallow parents that grows gets the parents' hidden genes, not zeros."""
    hidden = []
    study = search(create(sampler := MAKERS["nsga2"](space=TINY, seed=0)), sampler, 40)
    for frozen in study.trials:
        x = TINY.check(frozen.system_attrs[GENOTYPE])
        hidden.extend(x[~TINY.active(x)])
    assert np.mean(np.array(hidden) > 0) > 0.3


@pytest.mark.parametrize("space", [TINY, PAPER, SWITCHES], ids=["tiny", "paper", "switches"])
def test_distributions_are_those_of_suggest(space):
    codec = SpaceCodec(space)
    study = create(optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        space.suggest(trial)
        for name, distribution in trial.distributions.items():
            assert codec.distributions[name] == distribution
    study = create(sampler := NSGA2Sampler(space=space, seed=0, population_size=4))
    for trial in sampler.ask_batch(study, 3):
        space.suggest(trial)  # warns and raises where a recorded distribution is another one
        recorded = study.trials[trial.number].system_attrs[GENOTYPE]
        assert trial.params == space.parameters(recorded)


# ------------------------------------------------------------------ batches


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_a_batch_can_be_told_and_needs_no_further_write(kind, tmp_path, monkeypatch):
    storage = {
        "memory": None,
        "sqlite": f"sqlite:///{tmp_path}/study.db",
        "journal": JournalStorage(JournalFileBackend(str(tmp_path / "journal.log"))),
    }[kind]
    study = create(sampler := MAKERS["nsga2"](space=TINY, seed=0), storage=storage)
    trials = sampler.ask_batch(study, 4)

    def forbidden(*args):
        raise AssertionError("a parameter was written again")

    with monkeypatch.context() as patch:
        patch.setattr(study._storage, "set_trial_param", forbidden)
        configs = [TINY.suggest(trial) for trial in trials]
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {t.state for t in study.trials} == {TrialState.RUNNING}
    for trial, metrics in zip(trials, FormulaEvaluator(TINY).evaluate(configs), strict=True):
        trial.set_user_attr("accuracy", metrics.accuracy)
        study.tell(trial, values(metrics))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    assert networks(study) == configs
    assert len(study.best_trials) >= 1


@every_sampler
def test_batches_have_no_duplicates(make):
    study = search(create(sampler := make(space=TINY, seed=1)), sampler, 60, batch=20)
    assert len(set(networks(study))) == 60


@every_sampler
def test_pending_networks_are_not_asked_again(make):
    study = search(create(sampler := make(space=TINY, seed=1)), sampler, 10)
    for _ in range(3):
        sampler.ask_batch(study, 5)
    assert len(set(networks(study))) == 25


def test_enqueued_trials_come_first_and_wrong_ones_fail(caplog):
    study = create(sampler := MAKERS["nsga2"](space=TINY, seed=0))
    reference = TINY.parameters(TINY.encode(TINY.reference))
    study.enqueue_trial(reference)
    study.enqueue_trial({"depth": 2, "tau": 3})
    study.enqueue_trial(reference | {"embed_dim": 25})
    trials = sampler.ask_batch(study, 4)
    assert len(trials) == 4
    assert TINY.suggest(trials[0]) == TINY.reference
    assert trials[1].params["depth"] == 2
    assert study.trials[2].state == TrialState.FAIL
    assert "enqueued trial 2" in caplog.text


def test_a_batch_needs_a_space():
    with pytest.raises(SamplerError, match="space="):
        NSGA2Sampler(seed=0).ask_batch(create(None), 2)


# ------------------------------------------------------------------ any Optuna study


@every_sampler
def test_an_ordinary_study_and_every_design_before_any_repeats(make):
    def objective(trial):
        a = trial.suggest_categorical("a", ["x", "y", "z"])
        return len(a) + trial.suggest_int("b", 1, 7, step=2), trial.suggest_categorical("c", [True, False])

    study = create(make(seed=0))
    study.optimize(objective, n_trials=24)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 24


@every_sampler
def test_real_integer_and_log_parameters_are_optimised(make):
    def objective(trial):
        x = trial.suggest_float("x", -3, 3)
        y = trial.suggest_float("y", 1e-4, 1e2, log=True)
        n = trial.suggest_int("n", 1, 1000)
        s = trial.suggest_float("s", 0, 1, step=0.25)
        k = trial.suggest_categorical("k", ["good", "bad", "worse"])
        penalty = {"good": 0.0, "bad": 1.0, "worse": 2.0}[k]
        return (x - 1) ** 2 + math.log10(y) ** 2 + ((n - 700) / 300) ** 2 + (s - 0.5) ** 2 + penalty

    best = []
    for sampler in (make(seed=0), optuna.samplers.RandomSampler(seed=0)):
        study = create(sampler, ["minimize"])
        study.optimize(objective, n_trials=80)
        best.append(study.best_value)
    assert best[0] < best[1]
    assert best[0] < 1.0


@pytest.mark.parametrize(
    ("low", "high", "log"), [(-5.0, 5.0, False), (1e-6, 1.0, True), (1e3, 1e3 + 0.1, False)]
)
def test_a_search_over_real_numbers_starts_with_a_latin_hypercube(low, high, log):
    """A trial gives back a parameter, whose coordinate has other last digits than the design's."""

    def objective(trial):
        x, y = (trial.suggest_float(name, low, high, log=log) for name in "xy")
        return x - y, y

    study = create(SurrogateSampler(seed=0, n_startup_trials=9))
    study.optimize(objective, n_trials=9)
    of = FloatDistribution(low, high, log=log)
    for name in "xy":  # the first trial is random: nothing is known of the parameters yet
        places = [Coordinate(of).encode(trial.params[name]) for trial in study.trials[1:]]
        assert len({int(9 * place) for place in places}) == 8


@every_sampler
@pytest.mark.parametrize("log", [True, False])
def test_no_real_numbers_are_proposed_twice(make, log):
    def objective(trial):
        x, n = trial.suggest_float("x", 1e-5, 1.0, log=log), trial.suggest_int("n", 1, 2000, log=log)
        return x, -n * x

    study = create(make(seed=1))
    study.optimize(objective, n_trials=40)
    assert len({(t.params["x"], t.params["n"]) for t in study.trials}) == 40


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-2.0, 5.0),
        FloatDistribution(1e-5, 10.0, log=True),
        FloatDistribution(0.0, 1.0, step=0.1),
        FloatDistribution(-10.2, 10.2, step=0.1),
        IntDistribution(3, 9, step=3),
        IntDistribution(1, 5000),
        IntDistribution(1, 5000, log=True),
        IntDistribution(5, 5),
    ],
    ids=str,
)
def test_a_coordinate_covers_its_parameter(distribution):
    coordinate = Coordinate(distribution)
    genes = np.linspace(0, 1, 501) if coordinate.cardinality == 0 else np.arange(coordinate.cardinality)
    decoded = [coordinate.decode(gene) for gene in genes]
    assert decoded[0] == pytest.approx(distribution.low)
    assert decoded[-1] == pytest.approx(distribution.high)
    assert decoded == sorted(decoded)
    for value in decoded:
        assert distribution._contains(distribution.to_internal_repr(value))
        assert coordinate.decode(coordinate.encode(value)) == pytest.approx(value)
