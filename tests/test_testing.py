import dataclasses

import numpy as np
import pytest

from aspk.errors import EvaluationError
from aspk.metrics import Metrics
from aspk.testing import FormulaEvaluator, check_evaluator, tiny_space
from aspk.util.pareto import nondominated

SPACE = tiny_space()


def networks(count, seed=0):
    return [SPACE.decode(x) for x in SPACE.sample_choices(count, np.random.default_rng(seed))]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_formula_passes_its_own_checks(noise):
    check_evaluator(FormulaEvaluator(SPACE, noise=noise), SPACE, count=8, tolerance=0.0)


def test_accuracy_and_energy_conflict():
    metrics = FormulaEvaluator(SPACE).evaluate(networks(500))
    F = np.array([[-m.accuracy, m.energy_mj] for m in metrics])
    assert nondominated(F).sum() > 15
    big, small = FormulaEvaluator(SPACE).evaluate([SPACE.largest, SPACE.smallest])
    assert big.accuracy > small.accuracy
    assert big.energy_mj > 5 * small.energy_mj
    assert big.parameters > small.parameters
    assert big.operations > small.operations


def test_thresholds_have_an_optimum_that_depends_on_the_architecture():
    def best_threshold(time_steps):
        base = dataclasses.replace(SPACE.reference, time_steps=time_steps)
        choices = [0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
        nets = [
            dataclasses.replace(
                base, blocks=tuple(dataclasses.replace(b, v_threshold=v) for b in base.blocks)
            )
            for v in choices
        ]
        return choices[int(np.argmax([m.accuracy for m in FormulaEvaluator(SPACE).evaluate(nets)]))]

    assert best_threshold(1) < best_threshold(4)


def test_noise_is_a_function_of_network_and_seed():
    nets = networks(200)
    clean, noisy = (FormulaEvaluator(SPACE, noise=n).evaluate(nets) for n in (0.0, 0.02))
    other = FormulaEvaluator(SPACE, noise=0.02, seed=1).evaluate(nets)
    errors = np.array([b.accuracy - a.accuracy for a, b in zip(clean, noisy, strict=True)])
    assert errors.std() == pytest.approx(0.02, rel=0.2)
    assert [m.accuracy for m in noisy] != [m.accuracy for m in other]
    assert [m.energy_mj for m in noisy] == [m.energy_mj for m in clean]


class Broken:
    """The formula with one thing wrong."""

    def __init__(self, change):
        self.change = change
        self.calls = 0

    def evaluate(self, configs):
        self.calls += 1
        return self.change(FormulaEvaluator(SPACE).evaluate(configs), self.calls)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda results, call: results[:-1], "results for"),
        (lambda results, call: results[::-1], "before it was"),
        (lambda results, call: [dataclasses.replace(m, energy_mj=call) for m in results], "energy_mj"),
        (lambda results, call: [m.accuracy for m in results], "expected Metrics"),
        (lambda results, call: [EvaluationError("out of memory") for _ in results], "out of memory"),
        (lambda results, call: [Metrics(accuracy=93.0, energy_mj=1.0) for _ in results], "from 0 to 1"),
        (
            lambda results, call: [
                dataclasses.replace(m, accuracy=m.accuracy * len(results) / 8) for m in results
            ],
            "one by one",
        ),
    ],
)
def test_the_checks_find(change, message):
    with pytest.raises(EvaluationError, match=message):
        check_evaluator(Broken(change), SPACE)
