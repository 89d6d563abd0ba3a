"""Searches that end by themselves."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import optuna
import pytest
from sampler_cases import TINY, create, search, values

from aspk.cli.main import command_parser
from aspk.errors import SamplerError, StudyError
from aspk.samplers import ImprovementStopper, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.samplers._acquisition import choose
from aspk.samplers._history import History
from aspk.samplers._model import StudyModel
from aspk.samplers._pool import unseen
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec, study_from_dict
from aspk.study import make_sampler, run_study, study_problem
from aspk.surrogate.composition import KnownModel
from aspk.testing import FormulaEvaluator
from aspk.util.pareto import hypervolume, nondominated

EVALUATOR = FormulaEvaluator(TINY)


def truth(X):
    found = [values(m) for m in EVALUATOR.evaluate([TINY.decode(x) for x in X])]
    return np.array([[-accuracy, energy] for accuracy, energy in found])


def test_what_a_network_gains_is_its_share_of_the_hypervolume():
    """With a model that knows all values, expected gains are what evaluations add, one after the other."""
    X = TINY.sample_choices(60, np.random.default_rng(0))
    known, pool = X[:10], X[unseen(TINY, X, set())]
    observed = History(
        X=known,
        values=truth(known),
        directions=("maximize", "minimize"),
        violation=np.zeros(10),
        pending=X[:0],
        discarded=X[:0],
    )
    model = StudyModel([KnownModel(lambda X, k=k: truth(X)[:, k]) for k in range(2)])
    chosen = choose(pool, truth(pool), observed, model, len(pool), 3)
    both = np.concatenate([observed.values, truth(pool)])
    best = both[nondominated(both)]
    reference = best.max(axis=0) + 0.1 * np.ptp(best, axis=0)
    volumes = [
        hypervolume(np.concatenate([observed.values, truth(chosen.X)[:n]]), reference) for n in range(4)
    ]
    assert chosen.gains == pytest.approx(np.diff(volumes) / volumes[0], rel=1e-6)
    assert (chosen.gains > 0).all()


def one_number(trial):
    return (trial.suggest_int("x", 0, 20) - 7) ** 2 + trial.suggest_float("y", -2, 2) ** 2


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize",)], ids=["two", "one"])
def test_a_search_ends_when_little_is_expected_and_says_why(directions, caplog):
    two = len(directions) == 2
    sampler = SurrogateSampler(seed=0, **({"space": TINY} if two else {}))
    study = create(sampler, directions=directions)

    def objective(trial):
        return values(EVALUATOR.evaluate([TINY.suggest(trial)])[0]) if two else one_number(trial)

    with caplog.at_level(logging.WARNING, logger="aspk"):
        study.optimize(objective, n_trials=60, callbacks=[ImprovementStopper(share=0.01, patience=3)])
    assert 6 < len(study.trials) < 60
    assert "the search ends: for 3 evaluations, the next one was expected to improve" in caplog.text
    assert ("the hypervolume" if two else "the range of all values") in caplog.text
    gain = sampler.expected_gain(study)
    assert gain is not None
    assert 0 <= gain < 0.01


def test_a_study_that_is_continued_ends_as_if_it_had_not_been_interrupted():
    """Whether it may end follows from its trials: a new callback on the same study agrees."""
    stopper = ImprovementStopper(share=0.01, patience=3)
    study = create(SurrogateSampler(space=TINY, seed=0))
    study.optimize(
        lambda trial: values(EVALUATOR.evaluate([TINY.suggest(trial)])[0]), n_trials=60, callbacks=[stopper]
    )
    assert stopper.reason(study) == ImprovementStopper(share=0.01, patience=3).reason(study) != None  # noqa: E711  # a chain
    before = optuna.create_study(directions=study.directions, sampler=SurrogateSampler(space=TINY, seed=0))
    for trial in study.trials[:-1]:
        before.add_trial(trial)
    assert ImprovementStopper(share=0.01, patience=3).reason(before) is None


def test_the_beginning_of_a_search_is_not_its_end():
    study = create(SurrogateSampler(space=TINY, seed=0))
    stopper = ImprovementStopper(share=0.99, patience=2)
    assert stopper.reason(study) is None
    search(study, study.sampler, 3, batch=1)  # nothing is predicted yet
    assert study.sampler.expected_gain(study) is None
    assert stopper.reason(study) is None
    search(study, study.sampler, 1, batch=1)
    assert stopper.reason(study) is None  # below the share once at most, after 4 trials
    search(study, study.sampler, 10, batch=1)
    assert stopper.reason(study) is not None


def test_one_callback_serves_several_studies_one_after_the_other():
    stopper = ImprovementStopper(share=0.99, patience=2)
    for seed in range(2):
        study = create(SurrogateSampler(space=TINY, seed=seed))
        assert stopper.reason(study) is None
        search(study, study.sampler, 14, batch=1)
        assert stopper.reason(study) is not None


def test_a_study_of_the_same_name_is_another_one():
    """What the first is expected to gain says nothing of the second, in which nothing is predicted yet."""
    stopper = ImprovementStopper(share=0.99, patience=2)
    found = []
    for startup in (4, 20):
        sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=startup)
        study = optuna.create_study(study_name="one", directions=["maximize", "minimize"], sampler=sampler)
        search(study, sampler, 8, batch=1)
        found.append(stopper.reason(study))
    assert found[0] is not None
    assert found[1] is None


def test_wrong_options_and_samplers_are_refused():
    for share in (0, 1, -0.1, True, "0.1"):
        with pytest.raises(SamplerError, match="expected a number between 0 and 1"):
            ImprovementStopper(share=share)
    with pytest.raises(SamplerError, match="patience=0"):
        ImprovementStopper(patience=0)
    with pytest.raises(SamplerError, match="NSGA2Sampler expects no improvements"):
        ImprovementStopper().reason(create(NSGA2Sampler(space=TINY, seed=0)))


def test_proposals_do_not_depend_on_whether_gains_are_asked_for():
    found = []
    for asked in (False, True):
        study = create(SurrogateSampler(space=TINY, seed=0))
        for _ in range(10):
            search(study, study.sampler, 1, batch=1)
            if asked:
                study.sampler.expected_gain(study)
                study.sampler.expected_gain(study, study.trials[:5])
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]


# ------------------------------------------------------------------ of study files


def test_a_study_file_says_when_to_end(tmp_path, caplog):
    spec = StudySpec(
        name="formula",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=tmp_path,
        evaluations=80,
        batch=5,
        stop_below=0.01,
    )
    problem = study_problem(spec, EVALUATOR, classes=10)
    with caplog.at_level(logging.WARNING, logger="aspk"):
        result = run_study(spec, problem, progress=False)
    assert result.finished
    assert result.evaluations < 80
    assert result.reason in caplog.text
    assert f"ends with {result.evaluations} of 80 evaluations: for 20 evaluations" in caplog.text
    again = run_study(spec, problem, progress=False)
    assert (again.evaluations, again.reason) == (result.evaluations, result.reason)
    longer = run_study(dataclasses.replace(spec, stop_below=None, evaluations=60), problem, progress=False)
    assert longer.evaluations == 60
    with pytest.raises(StudyError, match=r"stop_below = 0.01: sampler 'random' expects no improvements"):
        make_sampler(dataclasses.replace(spec, sampler="random"), problem)
    assert isinstance(
        make_sampler(dataclasses.replace(spec, sampler="random", stop_below=None), problem), RandomSampler
    )


@pytest.mark.parametrize("share", ["0", "1", "-1", "much"])
def test_a_share_is_checked(share, capsys):
    plain = {"name": "x", "space": "tiny", "data": "digits"}
    if share != "much":
        with pytest.raises(StudyError, match="stop_below"):
            study_from_dict({**plain, "stop_below": float(share)})
    with pytest.raises(SystemExit):
        command_parser().parse_args(["search", "digits", "--stop-below", share])
    assert "expected a share between 0 and 1" in capsys.readouterr().err or share == "-1"
    assert command_parser().parse_args(["search", "digits", "--stop-below", "0.01"]).stop_below == 0.01
