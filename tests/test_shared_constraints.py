"""A bound on what is an objective anyway is not learnt again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sampler_cases import TINY
from study_models import study_model

from aspk.objectives.composite import Composite
from aspk.samplers._history import History
from aspk.samplers._targets import Targets
from aspk.surrogate.composition import bound_on
from aspk.testing import FormulaEvaluator

NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def measured(X):
    """Accuracies and energies of genotypes, shape (n,) each."""
    metrics = FormulaEvaluator(TINY).evaluate([TINY.decode(x) for x in X])
    return np.array([m.accuracy for m in metrics]), np.array([m.energy_mj for m in metrics])


def history(excess, count=40):
    """Trials with accuracy and energy as objectives, and constraints that are functions of them."""
    X = TINY.sample_choices(count, np.random.default_rng(0))
    accuracy, energy = measured(X)
    constraints = {name: function(accuracy, energy) for name, function in excess.items()}
    return History(
        X=X,
        values=np.column_stack([-accuracy, energy]),
        directions=("maximize", "minimize"),
        violation=sum((np.maximum(values, 0.0) for values in constraints.values()), np.zeros(count)),
        pending=X[:0],
        discarded=X[:0],
        constraints=constraints,
    )


def prediction(found, *, composites=None, known=None):
    """The model of a history, and the names of what is learnt."""
    fits = {}
    return study_model(found, composites=composites, known=known, fits=fits), set(fits)


BOUND = float(np.quantile(measured(TINY.sample_choices(400, np.random.default_rng(1)))[1], 0.3))


# ------------------------------------------------------------------ what is a bound


@given(
    column=arrays.arrays(float, 8, elements=NUMBERS, unique=True),
    bound=NUMBERS,
    weight=st.floats(1e-3, 1e3),
    missing=st.integers(0, 5),
)
@example(column=np.array([0, 1, 2, 3, 4, 5, 6, 4.562]), bound=0.0, weight=3.0, missing=5)  # found 4e-16
def test_a_bound_is_found_behind_its_values(column, bound, weight, missing):
    values = weight * (column - bound)
    values[:missing] = np.nan
    found = bound_on(column, values)
    if bound <= 0 and (column[missing:] > 0).all():  # all costs are above it: their logarithm cannot tell
        assert found is None
    else:
        assert found == (pytest.approx(bound, rel=1e-6, abs=1e-6), pytest.approx(weight))


@given(
    column=arrays.arrays(float, 8, elements=NUMBERS, unique=True),
    row=st.integers(0, 7),
    by=st.sampled_from([-0.1, 0.1]),
)
def test_one_trial_that_says_otherwise_is_enough(column, row, by):
    values = 3 * (column - 1)
    values[row] += by * np.ptp(values)
    assert bound_on(column, values) is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ([1.0, 2.0], [-1.0, 0.0]),  # two points are always on a line
        ([1.0, 2.0, 1.0, 2.0], [-1.0, 0.0, -1.0, 0.0]),
        ([1.0, 2.0, 3.0], [1.0, 0.0, -1.0]),  # the more of it, the better
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5]),
        ([-1.0, 0.0, 1.0], [0.5, 0.5, 0.5]),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),  # no cost is 0 or less, and their logarithms are learnt
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]),
        ([1.0, 2.0, 3.0], [np.nan, np.nan, 1.0]),
        ([], []),
    ],
)
def test_what_is_no_bound(column, values):
    assert bound_on(np.array(column), np.array(values)) is None


# ------------------------------------------------------------------ what is shared


@pytest.mark.parametrize(
    ("excess", "learnt"),
    [
        ({"energy": lambda accuracy, energy: energy / BOUND - 1}, set()),
        ({"energy": lambda accuracy, energy: 1e3 * (energy - BOUND)}, set()),
        ({"accuracy": lambda accuracy, energy: 0.5 - accuracy}, set()),
        (
            {"both": lambda accuracy, energy: energy / BOUND - accuracy},
            {("constraint", "both")},
        ),
        (
            {
                "energy": lambda accuracy, energy: energy / BOUND - 1,
                "square": lambda accuracy, energy: energy**2 / BOUND**2 - 1,
            },
            {("constraint", "square")},
        ),
    ],
)
def test_only_constraints_that_are_no_objective_are_learnt(excess, learnt):
    assert prediction(history(excess))[1] == {(0, ""), (1, "")} | learnt


def test_a_bound_on_a_part_of_a_composite_is_not_learnt_either():
    found = history({"energy": lambda accuracy, energy: energy / BOUND - 1})
    accuracy, energy = measured(found.X)
    composite = Composite(parts={"accuracy": "maximize", "energy_mj": "minimize"}, of=lambda a, e: a / e**0.1)
    of_parts = dataclasses.replace(
        found,
        values=-composite.of(accuracy, energy)[:, None],
        attributes={"accuracy": accuracy, "energy_mj": energy},
    )
    assert prediction(of_parts, composites={0: composite})[1] == {(0, "accuracy"), (0, "energy_mj")}


def test_a_bound_on_an_objective_that_is_computed_is_learnt():
    known = {1: lambda config: FormulaEvaluator(TINY).evaluate([config])[0].energy_mj}
    found = history({"energy": lambda accuracy, energy: energy / BOUND - 1})
    assert prediction(found, known=known)[1] == {(0, ""), ("constraint", "energy")}


@pytest.mark.parametrize("weight", [1.0, 250.0])
def test_it_predicts_which_unseen_networks_keep_it_and_by_how_much_others_do_not(weight):
    X = TINY.sample_choices(300, np.random.default_rng(5))
    truth = weight * (measured(X)[1] / BOUND - 1)
    made, _ = prediction(history({"energy": lambda accuracy, energy: weight * (energy / BOUND - 1)}))
    likely = np.exp(made.log_feasibility(X))
    assert np.mean((likely > 0.5) == (truth <= 0)) > 0.9
    assert np.mean(np.square(likely - (truth <= 0))) < 0.1  # Brier score; always 0.3 would have 0.21
    excess = made.violation(X)
    assert np.array_equal(excess > 0, made.predict(X)[:, 1] > BOUND)
    near = truth < weight  # those far behind the bound were brought nearer before they were learnt
    assert np.corrcoef(excess[near], np.maximum(truth, 0.0)[near])[0, 1] > 0.9
    assert np.median(excess[truth > 0.2 * weight] / truth[truth > 0.2 * weight]) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("excess", "options", "failed", "rows"),
    [
        ({}, {}, 0, 150),
        ({"energy": lambda accuracy, energy: energy / BOUND - 1}, {}, 0, 150),
        ({"other": lambda accuracy, energy: energy**2 - accuracy}, {}, 0, 90),
        ({"same": lambda accuracy, energy: 0 * energy}, {}, 0, 150),  # nothing to learn
        ({}, {}, 1, 90),
        (
            {"other": lambda accuracy, energy: energy**2 - accuracy},
            {"known": {1: lambda config: FormulaEvaluator(TINY).evaluate([config])[0].energy_mj}},
            0,
            150,
        ),
    ],
)
def test_with_more_than_two_surrogates_each_is_fitted_to_fewer_trials(excess, options, failed, rows):
    found = history(excess, count=20)
    found = dataclasses.replace(found, discarded=TINY.sample_choices(failed, np.random.default_rng(9)))
    assert Targets(found, {}, 6, len(prediction(found, **options)[1])).rows_to_fit == rows


def test_values_up_to_the_bound_are_learnt_as_they_are():
    """Outliers far above the front are brought nearer, but not below a bound that they keep."""
    found = history({"energy": lambda accuracy, energy: energy / BOUND - 1}, count=30)
    values, dear = found.values.copy(), 7
    values[:, 0] = np.linspace(-0.5, -0.4, 30)
    values[:, 1] = np.linspace(1.0, 1.1, 30)  # nearly all networks cost the same
    values[dear] = [0.0, 50.0]  # dominated
    for bound in (100.0, 2.0):
        of_one = dataclasses.replace(
            found,
            values=values,
            constraints={"energy": values[:, 1] / bound - 1},
            violation=np.maximum(values[:, 1] / bound - 1, 0.0),
        )
        expected = prediction(of_one)[0].predict(found.X)[dear, 1]
        assert expected == pytest.approx(50.0 if bound == 100.0 else 2.0, rel=0.2)
