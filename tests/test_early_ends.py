"""Trainings that end early: when there is no hope, and that a stopped one leaves no value behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aspk.data import load_data
from aspk.errors import EvaluationStopped
from aspk.metrics import Metrics
from aspk.objectives import objective
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings, Recipe
from aspk.standalone.stopping import hopeful_accuracy, hopeless
from aspk.training import EarlyStop, train_network

BOTH = (objective("accuracy"), objective("energy"))


def metrics(accuracy, energy_mj=1.0):
    return Metrics(accuracy=accuracy, energy_mj=energy_mj)


@pytest.fixture
def finished():
    rng = np.random.default_rng(0)
    losses = np.linspace(0.5, 2.0, 12)
    accuracies = 0.95 - 0.2 * losses + rng.normal(0, 0.01, 12)
    return list(zip(losses.tolist(), accuracies.tolist(), strict=True))


def test_hope_is_the_upper_end_of_a_regression_s_prediction(finished):
    x, y = np.array(finished).T
    fit = stats.linregress(x, y)
    left = y - fit.intercept - fit.slope * x
    variance = left @ left / 10 * (1 + 1 / 12 + (1.7 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    expected = fit.intercept + fit.slope * 1.7 + 2 * np.sqrt(variance)
    assert hopeful_accuracy(1.7, finished) == pytest.approx(expected)


def test_few_finished_trainings_end_no_other(finished):
    assert hopeful_accuracy(9.0, finished[:7]) == 1.0
    assert hopeless(metrics(0.1, 9.0), 9.0, [(1.0, metrics(0.9))] * 7, BOTH) == ""


@given(st.floats(0.1, 5.0), st.lists(st.tuples(st.floats(0.1, 5.0), st.floats(0.0, 1.0)), max_size=20))
def test_hope_is_finite_and_at_most_1(loss, finished):
    assert -np.inf < hopeful_accuracy(loss, finished) <= 1.0


def test_a_network_that_a_trained_one_will_dominate_has_no_hope(finished):
    known = [(loss, metrics(accuracy, 1.0 + loss)) for loss, accuracy in finished]
    reason = hopeless(metrics(0.2, energy_mj=2.0), 1.9, known, BOTH)
    assert "stopped early" in reason
    assert f"{hopeful_accuracy(1.9, finished):.4f}" in reason
    assert hopeless(metrics(0.2, energy_mj=2.0), 0.5, known, BOTH) == ""  # its loss is as good as the best
    assert hopeless(metrics(0.2, energy_mj=0.1), 1.9, known, BOTH) == ""  # nothing is cheaper


# ---------------------------------------------------------------------- a training


DATA = DataSettings(name="digits", train=60, search=40, test=40)
RECIPE = Recipe(updates=10, batch_size=16, checkpoint_every=3, amp=False)


def run(folder, stop=None):
    space = load_space("tiny")
    return train_network(
        space.smallest,
        space.settings,
        load_data(DATA),
        RECIPE,
        state_file=folder / "state.pt",
        stop=stop,
        progress=False,
    )


def weights(trained):
    return [value.tolist() for value in trained.model.state_dict().values()]


@pytest.mark.parametrize("tenths", [3, 4])  # at a checkpoint, and between two
def test_a_judged_training_continues_to_the_same_bits(tmp_path, tenths):
    judged = []

    def reason(one):
        judged.append((one.update, len(one.losses())))
        return ""

    trained = run(tmp_path / "judged", EarlyStop(tenths, reason))
    assert judged == [(tenths, tenths)]
    assert weights(trained) == weights(run(tmp_path / "plain"))


def test_a_stopped_training_is_judged_again_where_it_stopped(tmp_path):
    for _ in range(2):
        with pytest.raises(EvaluationStopped, match="no hope at 4"):
            run(tmp_path, EarlyStop(4, lambda one: f"no hope at {one.update}"))
    assert weights(run(tmp_path)) == weights(run(tmp_path / "plain"))
