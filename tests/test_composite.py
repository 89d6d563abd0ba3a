"""Objectives that are a known function of what trials measure: their parts are learnt."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import math
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from optuna.trial import TrialState
from sampler_cases import TINY
from study_models import study_model

import aspk
from aspk.errors import ObjectiveError
from aspk.metrics import Metrics
from aspk.objectives.composite import Composite
from aspk.objectives.scalarization import FAEB
from aspk.samplers import SurrogateSampler
from aspk.samplers._history import History
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import make_sampler, run_study, study_problem
from aspk.surrogate.composition import _quadrature
from aspk.testing import FormulaEvaluator

EVALUATOR = FormulaEvaluator(TINY)
PARTS = {"accuracy": "maximize", "energy_mj": "minimize"}
MERIT = Composite(parts=PARTS, of=lambda accuracy, energy: accuracy**3 / energy)


def measured(X):
    """Accuracies and energies of genotypes, shape (n,) each."""
    metrics = EVALUATOR.evaluate([TINY.decode(x) for x in X])
    return np.array([m.accuracy for m in metrics]), np.array([m.energy_mj for m in metrics])


def history(composite, *, sign=-1.0, count=30):
    X = TINY.sample_choices(count, np.random.default_rng(0))
    accuracy, energy = measured(X)
    return History(
        X=X,
        values=sign * composite.of(accuracy, energy)[:, None],
        directions=("maximize" if sign < 0 else "minimize",),
        violation=np.zeros(count),
        pending=X[:0],
        discarded=X[:0],
        attributes={"accuracy": accuracy, "energy_mj": energy},
    )


def model(found, composite=None):
    return study_model(found, composites={} if composite is None else {0: composite})


def searched(sampler, composite, count, *, attributes=True):
    """A study of the composite's values, whose trials carry its parts or not."""
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for _ in range(count):
        trial = study.ask()
        config = TINY.suggest(trial)
        (metrics,) = EVALUATOR.evaluate([config])
        if attributes:
            trial.set_user_attr("accuracy", metrics.accuracy)
            trial.set_user_attr("energy_mj", metrics.energy_mj)
        study.tell(trial, float(composite.of(metrics.accuracy, metrics.energy_mj)))
    return study


# ------------------------------------------------------------------ the value


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "of 0 parts: expected 1 to 6"),
        (dict.fromkeys("abcdefg", "minimize"), "of 7 parts"),
        ({"energy_mj": "down"}, "part 'energy_mj': direction 'down': expected 'maximize' or 'minimize'"),
    ],
)
def test_impossible_parts(parts, message):
    with pytest.raises(ObjectiveError, match=message):
        Composite(parts=parts, of=lambda *columns: columns[0])


@given(
    accuracies=arrays.arrays(float, 5, elements=st.floats(0, 1)),
    energies=arrays.arrays(float, 5, elements=st.floats(0, 1e3)),
    form=st.sampled_from(["product", "linear", "chebyshev"]),
)
def test_f_aeb_of_arrays_is_f_aeb_of_each(accuracies, energies, form):
    faeb = FAEB(reference_energy_mj=2.0, classes=10, form=form)
    each = [faeb(Metrics(accuracy=a, energy_mj=e)) for a, e in zip(accuracies, energies, strict=True)]
    composite = faeb.composite()
    assert composite.of(accuracies, energies).tolist() == each
    assert dict(composite.parts) == PARTS
    assert aspk.Composite is Composite


# ------------------------------------------------------------------ predictions


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6])
def test_the_quadrature_is_exact_for_polynomials(parts):
    """E z = 0, E z² = 1, E z⁴ = 3 of a standard normal variable."""
    scores, weights = _quadrature(parts)
    assert weights.sum() == pytest.approx(1.0)
    for z in scores:
        assert z @ weights == pytest.approx(0.0, abs=1e-12)
        assert np.square(z) @ weights == pytest.approx(1.0)
        assert z**4 @ weights == pytest.approx(3.0)
    assert np.prod(np.square(scores), axis=0) @ weights == pytest.approx(1.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_moments_are_those_of_the_parts_distributions(sign):
    """The oracle draws accuracies from Gaussians and energies from log-normal distributions."""
    X = TINY.sample_choices(40, np.random.default_rng(1))
    found = history(MERIT, sign=sign)
    posterior = model(found, MERIT).posterior(X)
    mean, std = posterior.mean[:, 0], posterior.std[:, 0]
    accuracy, energy = (
        model(dataclasses.replace(found, values=column[:, None], attributes={})).posterior(X)
        for column in (-found.attributes["accuracy"], found.attributes["energy_mj"])
    )
    rng = np.random.default_rng(2)
    accuracies = -(accuracy.mean + accuracy.std * rng.standard_normal((40, 20_000)))
    spread = np.arcsinh(energy.std / energy.mean)  # the standard deviation is given as median times sinh
    energies = energy.mean * np.exp(spread * rng.standard_normal((40, 20_000)))
    values = sign * accuracies**3 / energies
    # Hyperparameters of the second part are fitted to one trial less, hence the tolerance.
    assert mean == pytest.approx(values.mean(axis=1), rel=0.02, abs=0.02 * np.ptp(values.mean(axis=1)))
    assert np.median(std / values.std(axis=1)) == pytest.approx(1.0, abs=0.15)


def test_its_parts_predict_a_composite_better_than_its_values_do():
    X = TINY.sample_choices(300, np.random.default_rng(3))
    middle = float(np.median(measured(X)[1]))
    faeb = FAEB(reference_energy_mj=middle, classes=10, form="chebyshev", weight=0.4).composite()
    truth = -faeb.of(*measured(X))
    apart = model(history(faeb), faeb).predict(X)[:, 0]
    as_one = model(history(faeb)).predict(X)[:, 0]
    errors = [np.abs(found - truth).mean() for found in (apart, as_one)]
    assert errors[0] < 0.7 * errors[1]


def test_conditioning_on_a_candidate_shrinks_its_standard_deviation():
    X = TINY.sample_choices(20, np.random.default_rng(4))
    before = model(history(MERIT), MERIT).posterior(X)
    row = int(before.std[:, 0].argmax())
    after = before.condition_on(row)
    assert after.std[row, 0] < 0.5 * before.std[row, 0]
    assert (after.std <= before.std * 1.001).all()


def test_where_the_function_is_not_defined_nothing_is_promised():
    found = history(MERIT)
    low = float(np.quantile(found.attributes["accuracy"], 0.5))
    risky = Composite(parts=PARTS, of=lambda accuracy, energy: np.sqrt(accuracy - low) - energy)
    with np.errstate(invalid="ignore"):
        values = risky.of(found.attributes["accuracy"], found.attributes["energy_mj"])
    kept = np.isfinite(values)
    found = dataclasses.replace(
        found,
        X=found.X[kept],
        values=-values[kept][:, None],
        violation=np.zeros(kept.sum()),
        attributes={name: column[kept] for name, column in found.attributes.items()},
    )
    U = TINY.sample_choices(100, np.random.default_rng(5))
    fitted = model(found, risky)
    posterior = fitted.posterior(U)
    assert np.isfinite(fitted.predict(U)).all()
    assert np.isfinite(posterior.mean).all()
    assert np.isfinite(posterior.std).all()


# ------------------------------------------------------------------ the sampler


def test_trials_without_the_parts_are_learnt_as_a_whole_and_that_is_said(caplog):
    composite = {0: MERIT}
    with caplog.at_level(logging.INFO, logger="aspk"):
        study = searched(SurrogateSampler(space=TINY, seed=0, composites=composite), MERIT, 8)
    assert "as a whole" not in caplog.text
    bare = searched(SurrogateSampler(space=TINY, seed=0, composites=composite), MERIT, 8, attributes=False)
    said = [record for record in caplog.records if "as a whole" in record.message]
    assert [(record.levelname, record.message) for record in said] == [
        ("WARNING", "objective 0 is learnt as a whole: trials without accuracy, energy_mj")
    ]
    plain = searched(SurrogateSampler(space=TINY, seed=0), MERIT, 8, attributes=False)
    assert [t.params for t in bare.trials] == [t.params for t in plain.trials]
    assert [t.params for t in study.trials] != [t.params for t in plain.trials]


@pytest.mark.parametrize("broken", ["many", None, math.nan, math.inf, [1.0]])
def test_damaged_attributes_are_missing_ones(broken, caplog):
    study = searched(SurrogateSampler(space=TINY, seed=0), MERIT, 8)
    chosen = TINY.parameters(TINY.sample_choices(1, np.random.default_rng(0))[0])
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            value=0.1,
            params=chosen,
            distributions={n: d for t in study.trials for n, d in t.distributions.items() if n in chosen},
            user_attrs={"accuracy": broken, "energy_mj": 1.0},
        )
    )
    sampler = SurrogateSampler(space=TINY, seed=0, composites={0: MERIT})
    with caplog.at_level(logging.INFO, logger="aspk"):
        sampler.ask_batch(study, 2)
    assert "learnt as a whole: trials without accuracy" in caplog.text


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (
            lambda accuracy, energy: 2 * accuracy**3 / energy,
            r"composites\[0\] gives [-0-9.e+]+ for a network",
        ),
        (lambda accuracy, energy: 1.0, r"composites\[0\] gives an array of shape \(\): expected \(8,\)"),
    ],
)
def test_a_function_that_contradicts_the_trials_is_said(of, message, caplog):
    wrong = Composite(parts=PARTS, of=of)
    model(history(MERIT, count=8), wrong)
    assert re.search(message, caplog.text)
    caplog.clear()
    study = searched(SurrogateSampler(space=TINY, seed=0), MERIT, 8)
    (told,) = SurrogateSampler(space=TINY, seed=0, composites={0: wrong}).ask_batch(study, 1)
    assert "objective 0 is learnt: composites[0] gives" in caplog.text
    study.tell(told, state=TrialState.FAIL)
    again = optuna.create_study(directions=study.directions)
    again.add_trials(study.trials[:-1])
    (plain,) = SurrogateSampler(space=TINY, seed=0).ask_batch(again, 1)
    assert told.params == plain.params


def test_a_batch_of_composites_has_no_network_twice():
    study = searched(SurrogateSampler(space=TINY, seed=0, composites={0: MERIT}), MERIT, 8)
    sampler = SurrogateSampler(space=TINY, seed=0, composites={0: MERIT})
    asked = [TINY.suggest(trial) for trial in sampler.ask_batch(study, 10)]
    again = [TINY.suggest(trial) for trial in sampler.ask_batch(study, 10)]  # while those are running
    assert len({*asked, *again}) == 20


def test_f_aeb_learnt_apart_needs_fewer_evaluations(monkeypatch):
    """On a table whose best network is known: shares of the possible after 20 evaluations, four seeds."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    methods = importlib.import_module("search_methods")
    problem = importlib.import_module("search_problems").FaebProblem("mnist_mixed", "chebyshev")

    def found(method):
        ledgers = [methods.run(method, problem, 20, seed) for seed in range(4)]
        return np.mean([problem.quality(*ledger.arrays(), [20])[0] for ledger in ledgers])

    assert found(methods.surrogate()) > found(methods.surrogate(whole=True)) + 0.02


def test_a_study_of_f_aeb_learns_it_apart(tmp_path, caplog):
    spec = StudySpec(
        name="formula",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=tmp_path,
        evaluations=16,
        batch=4,
        objectives=("parameters", "f_aeb"),
    )
    asked = study_problem(spec, EVALUATOR, classes=10)
    assert list(asked.composites) == [1]
    assert make_sampler(spec, asked)._composites.keys() == {1}
    with caplog.at_level(logging.INFO, logger="aspk"):
        assert run_study(spec, asked, progress=False).finished
    assert "as a whole" not in caplog.text
    assert "NSGA-II instead" not in caplog.text
    assert (
        study_problem(dataclasses.replace(spec, objectives=("accuracy",)), EVALUATOR, classes=10).composites
        == {}
    )
