"""Searches that learn from earlier studies: what these recommend, when they count, and when they do not."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import TINY, create, networks, search, values

from aspk.cli import main
from aspk.errors import SamplerError, StudyError
from aspk.objectives import minimised
from aspk.samplers import RandomSampler, SurrogateSampler, gene_distribution
from aspk.samplers._codec import SpaceCodec
from aspk.samplers._model import fit_study
from aspk.samplers._notices import Notices
from aspk.samplers._prior import FEWEST, PriorStudy, prior_histories
from aspk.space.file import space_from_dict
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec, load_study_file
from aspk.study import check_sampler, make_sampler, run_study, study_problem
from aspk.surrogate.encoder import WithPrediction
from aspk.testing import FormulaEvaluator
from aspk.trials import note_study_record
from aspk.trials.attributes import SPACE
from aspk.util.pareto import hypervolume

DIRECTIONS = ("maximize", "minimize")


def truth(space, X):
    return np.array([values(m) for m in FormulaEvaluator(space).evaluate([space.decode(x) for x in X])])


def earlier(count=40, seed=0, *, space=TINY, told=None, record=True):
    """A finished study of random networks; ``told`` maps their values to what it was told."""
    rng = np.random.default_rng([seed, 7])
    study = optuna.create_study(directions=DIRECTIONS)
    if record:
        note_study_record(study, {SPACE: space.to_json()})
    X = space.sample_choices(count, rng)
    F = truth(space, X)
    for x, row in zip(X, F if told is None else told(F, rng), strict=True):
        params = space.parameters(x)
        distributions = {g.parameter: gene_distribution(g) for g in space.genes if g.parameter in params}
        trial = optuna.trial.create_trial(params=params, distributions=distributions, values=row.tolist())
        study.add_trial(trial)
    return study


def shuffled(F, rng):
    return rng.permutation(F)


def begun(count, seed=0):
    """A study that random search began."""
    sampler = RandomSampler(space=TINY, seed=seed)
    return search(create(sampler), sampler, count)


def proposal(study, **options):
    sampler = SurrogateSampler(space=TINY, seed=3, **options)
    (trial,) = sampler.ask_batch(copy.deepcopy(study), 1)
    return trial.params


def test_the_first_networks_are_those_that_the_earlier_study_recommends():
    def after_two(**options):
        sampler = SurrogateSampler(space=TINY, **options)
        study = search(create(sampler), sampler, 2, batch=1)
        return hypervolume([minimised([t.values], DIRECTIONS)[0] for t in study.trials], [0.0, 0.0])

    pairs = [(after_two(seed=s), after_two(seed=s, prior_studies=[earlier(seed=s)])) for s in range(4)]
    without, with_it = np.mean(pairs, axis=0)
    assert with_it > 1.1 * without


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_misleading_study_leaves_later_proposals_as_they_are(seed):
    """Not only their quality: the same network is proposed as without it."""
    study = begun(20, seed)
    assert proposal(study, prior_studies=[earlier(seed=seed, told=shuffled)]) == proposal(study)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_a_related_study_is_learnt_from_and_predicts_better(seed):
    notices, codec = Notices(), SpaceCodec(TINY)
    (prior,) = prior_histories([PriorStudy.of(earlier(seed=seed))], codec, (), notices)
    (own,) = prior_histories([PriorStudy.of(earlier(10, seed=seed + 1))], codec, (), notices)
    X = TINY.sample_choices(100, np.random.default_rng(seed))
    wanted = minimised(truth(TINY, X), DIRECTIONS)

    def model(priors):
        found = dataclasses.replace(own, priors=priors)
        return fit_study(TINY, found, known={}, composites={}, free=None, first=6, fits={})

    guided, alone = model((prior,)), model(())
    assert any(isinstance(one.encode.free, WithPrediction) for one in guided.objectives)
    errors = [np.abs(one.predict(X) - wanted).mean(axis=0) for one in (guided, alone)]
    assert (errors[0] < errors[1]).any()


def test_of_several_studies_the_one_that_explains_the_trials_is_learnt_from():
    priors = [earlier(seed=1, told=shuffled), earlier(seed=2)]
    codec = SpaceCodec(TINY)
    histories = prior_histories([PriorStudy.of(one) for one in priors], codec, (), Notices())
    (own,) = prior_histories([PriorStudy.of(begun(10))], codec, (), Notices())
    fits = {}
    fit_study(
        TINY,
        dataclasses.replace(own, priors=histories),
        known={},
        composites={},
        free=None,
        first=6,
        fits=fits,
    )
    chosen = {k: fits[k, ""][1].encode.free for k in range(2)}
    used = {k: one.predict.__self__ for k, one in chosen.items() if one is not None}
    assert used
    assert all(model is fits["prior", 1, (k, "")][1] for k, model in used.items())


def test_no_prior_study_changes_nothing():
    study = begun(12)
    assert proposal(study, prior_studies=[]) == proposal(study)
    assert proposal(create(None), prior_studies=()) == proposal(create(None))


def other_space():
    """TINY's networks with fewer choices of width, and one that TINY has not."""
    data = TINY.to_json()
    data["name"] = "other"
    widths = data["network"]["embed_dim"]
    data["network"]["embed_dim"] = [*widths, widths[-1] * 2]
    return space_from_dict(data)


def test_a_study_of_another_space_counts_with_the_networks_that_both_have(caplog):
    theirs = other_space()
    study = earlier(60, space=theirs)
    (history,) = prior_histories([PriorStudy.of(study)], SpaceCodec(TINY), (), Notices())
    known = {TINY.decode(x): row for x, row in zip(history.X, history.values, strict=True)}
    own = set(map(TINY.decode, TINY.networks()))
    shared = {config: t.values for config, t in zip(networks(study, theirs), study.trials, strict=True)}
    shared = {config: minimised([row], DIRECTIONS)[0] for config, row in shared.items() if config in own}
    assert FEWEST <= len(known) == len(shared) < 60
    assert all(known[config].tolist() == row.tolist() for config, row in shared.items())
    with caplog.at_level(logging.WARNING, logger="aspk"):
        proposal(create(None), prior_studies=[study])
    others = 60 - sum(config in own for config in networks(study, theirs))
    assert f"{others} of 60 trials are not of this space" in caplog.text


def test_too_few_trials_are_not_learnt_from(caplog):
    with caplog.at_level(logging.WARNING, logger="aspk"):
        assert proposal(create(None), prior_studies=[earlier(FEWEST - 1)]) == proposal(create(None))
    assert f"{FEWEST - 1} trials, {FEWEST} are needed" in caplog.text


def test_other_objectives_are_refused():
    prior = optuna.create_study(directions=["minimize", "minimize"], study_name="costs")
    with pytest.raises(SamplerError, match="'costs' is to minimize objective 0, minimize objective 1: exp"):
        proposal(create(None), prior_studies=[prior])
    named, own = earlier(), create(None)
    named.set_metric_names(["accuracy", "energy"])
    own.set_metric_names(["accuracy", "latency"])
    with pytest.raises(SamplerError, match="maximize accuracy, minimize latency"):
        proposal(own, prior_studies=[named])
    with pytest.raises(SamplerError, match="expected Optuna studies"):
        SurrogateSampler(prior_studies=["digits"])


def test_what_the_earlier_study_finds_later_does_not_count():
    prior = earlier(20)
    sampler = SurrogateSampler(space=TINY, seed=3, prior_studies=[prior])
    for trial in earlier(20, seed=9).trials:
        prior.add_trial(trial)
    again = SurrogateSampler(space=TINY, seed=3, prior_studies=[prior])
    assert len(sampler._priors[0].trials) == 20
    assert len(again._priors[0].trials) == 40


def test_a_sampler_with_prior_studies_is_pickled():
    sampler, study = SurrogateSampler(space=TINY, seed=3, prior_studies=[earlier()]), create(None)
    (first,) = sampler.ask_batch(copy.deepcopy(study), 1)
    (second,) = pickle.loads(pickle.dumps(sampler)).ask_batch(copy.deepcopy(study), 1)
    assert first.params == second.params
    assert repr(sampler).startswith("SurrogateSampler(space='tiny', prior_studies=[")


def test_studies_of_any_kind_are_learnt_from():
    def objective(trial):
        x, y = trial.suggest_float("x", -1, 1), trial.suggest_float("y", 1e-3, 1, log=True)
        return (x - 0.3) ** 2 + y, (x + 0.3) ** 2 + trial.suggest_int("n", 0, 3)

    prior = optuna.create_study(directions=["minimize"] * 2, sampler=RandomSampler(seed=0))
    prior.optimize(objective, n_trials=30)
    found = {}
    for name, priors in (("alone", []), ("with it", [prior])):
        sampler = SurrogateSampler(seed=1, prior_studies=priors)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        study.optimize(objective, n_trials=6)
        found[name] = hypervolume([t.values for t in study.trials], [2.0, 4.0])
    assert found["with it"] > found["alone"]


# ------------------------------------------------------------------ of study files


def formula_spec(folder, **options):
    return StudySpec(
        name="formula",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=folder,
        **{"evaluations": 12, "batch": 4, **options},
    )


def written(folder, name):
    file = folder / f"{name}.toml"
    file.write_text(f'space = "tiny"\ndata = "digits"\nfolder = "{folder / name}"\n')
    return file


def test_a_study_file_names_the_studies_to_learn_from(tmp_path):
    evaluator = FormulaEvaluator(TINY)
    (tmp_path / "deep").mkdir()
    first = load_study_file(written(tmp_path, "first"))
    first = dataclasses.replace(first, evaluations=12, batch=4, sampler="random")
    run_study(first, study_problem(first, evaluator, classes=10), progress=False)
    file = written(tmp_path / "deep", "second")
    file.write_text('prior_studies = ["../first.toml"]\n' + file.read_text())
    spec = load_study_file(file)
    assert [p.endswith("first.toml") for p in spec.prior_studies] == [True]
    assert spec.to_json()["prior_studies"] == list(spec.prior_studies)
    sampler = make_sampler(spec, study_problem(spec, evaluator, classes=10))
    assert [(one.name, len(one.trials)) for one in sampler._priors] == [("first", 12)]
    spec = dataclasses.replace(spec, evaluations=8, batch=4)
    assert run_study(spec, study_problem(spec, evaluator, classes=10), progress=False).finished


def test_prior_studies_that_are_not_there_or_not_used_are_refused(tmp_path):
    problem = study_problem(formula_spec(tmp_path), FormulaEvaluator(TINY), classes=10)
    spec = formula_spec(tmp_path, prior_studies=("digits",))
    missing = dataclasses.replace(spec, prior_studies=(str(written(tmp_path, "digits")),))
    for refused in (lambda: make_sampler(missing, problem), lambda: check_sampler(missing, TINY)):
        with pytest.raises(StudyError, match=r"prior study '.*digits.toml': no study 'digits' in "):
            refused()
    with pytest.raises(StudyError, match=r"prior_studies = \['digits'\]: sampler 'nsga2' does not learn"):
        make_sampler(dataclasses.replace(spec, sampler="nsga2"), problem)


def test_the_command_looks_for_prior_studies_before_it_loads_a_supernet(tmp_path, capsys):
    """There is no supernet either, which takes longer to see."""
    file = str(written(tmp_path, "second"))
    first = str(written(tmp_path, "first"))
    for prior, found in ((first, "no study 'first' in"), ("fashion", "no study 'fashion'")):
        assert main(["search", file, "--prior-study", prior]) == 1
        assert f"aspk: error: prior study {prior!r}: {found}" in capsys.readouterr().err
