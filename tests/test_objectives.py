"""Objectives, constraints and the sign they are minimised with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aspk.errors import ObjectiveError
from aspk.metrics import Metrics
from aspk.objectives import OBJECTIVES, Constraint, Objective, budget, minimised, objective

ONE = Metrics(accuracy=0.75, energy_mj=0.5, parameters=30, operations=400, spikes=5.5, firing_rate=0.25)


def test_shipped_objectives() -> None:
    values = {name: (one(ONE), one.direction) for name, one in OBJECTIVES.items()}
    assert values == {
        "accuracy": (0.75, "maximize"),
        "energy": (0.5, "minimize"),
        "parameters": (30.0, "minimize"),
        "operations": (400.0, "minimize"),
        "spikes": (5.5, "minimize"),
    }
    assert all(objective(name) is one for name, one in OBJECTIVES.items())


def test_a_users_own_objective_is_one_line() -> None:
    rate = Objective("rate", "minimize", lambda metrics: metrics.firing_rate)
    assert rate(ONE) == 0.25
    assert Objective("np", "maximize", lambda metrics: np.float32(2))(ONE) == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", None, 1j])
def test_objectives_and_constraints_give_finite_numbers(value: object) -> None:
    with pytest.raises(ObjectiveError, match="objective 'mine' gave"):
        Objective("mine", "minimize", lambda metrics: value)(ONE)  # type: ignore[arg-type, return-value]
    with pytest.raises(ObjectiveError, match="constraint 'mine' gave"):
        Constraint("mine", lambda metrics: value, 1.0)(ONE)  # type: ignore[arg-type, return-value]


def test_what_a_function_raises_is_a_fault_of_the_network() -> None:
    silent = Metrics(accuracy=0.1, energy_mj=0.0)
    with pytest.raises(ObjectiveError, match="objective 'speed' failed: ZeroDivisionError: float division"):
        Objective("speed", "maximize", lambda metrics: 1 / metrics.energy_mj)(silent)
    with pytest.raises(ObjectiveError, match="constraint 'latency' failed: KeyError: 'latency_ms'"):
        Constraint("latency", lambda metrics: metrics.extras["latency_ms"], 1.0)(silent)


def test_unknown_names_and_directions() -> None:
    with pytest.raises(ObjectiveError, match="no objective 'speed': expected one of accuracy, energy"):
        objective("speed")
    with pytest.raises(ObjectiveError, match="direction 'up'"):
        Objective("mine", "up", lambda metrics: 1.0)  # type: ignore[arg-type]


def test_a_budget_is_the_relative_excess() -> None:
    assert budget("energy", 0.25)(ONE) == 1.0
    assert budget("energy", 0.5)(ONE) == 0.0
    assert budget("parameters", 40)(ONE) == -0.25
    with pytest.raises(ObjectiveError, match="'accuracy' is to be maximised"):
        budget("accuracy", 0.5)


@pytest.mark.parametrize("bound", [0, -1.0, math.nan, math.inf])
def test_impossible_bounds(bound: float) -> None:
    with pytest.raises(ObjectiveError, match="expected a number above 0"):
        budget("energy", bound)


def test_minimised_turns_the_sign_of_what_is_maximised() -> None:
    assert minimised([[0.9, 2.0], [0.5, 1.0]], ["maximize", "minimize"]).tolist() == [
        [-0.9, 2.0],
        [-0.5, 1.0],
    ]
    assert minimised([], ["maximize", "minimize"]).shape == (0, 2)
