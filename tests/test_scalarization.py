"""F_AEB: values by hand, monotonicity, and what it never does."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aspk.errors import ObjectiveError
from aspk.metrics import Metrics
from aspk.objectives.scalarization import DEFAULT_WEIGHTS, FAEB, Form, accuracy_above_chance

FORMS = get_args(Form)
WEIGHTS = st.floats(0.01, 0.99)


def value(
    form: str, accuracy: float, energy: float, *, weight: float | None = None, floor: float = 1e-3
) -> float:
    """F_AEB with ten classes and a reference of 2 mJ."""
    faeb = FAEB(reference_energy_mj=2.0, classes=10, form=form, weight=weight, floor=floor)  # type: ignore[arg-type]
    return faeb(Metrics(accuracy=accuracy, energy_mj=energy))


def test_accuracy_above_chance() -> None:
    assert accuracy_above_chance(0.1, 10) == 0.0
    assert accuracy_above_chance(0.05, 10) == 0.0
    assert accuracy_above_chance(1.0, 10) == 1.0
    assert accuracy_above_chance(0.55, 10) == pytest.approx(0.5)
    assert accuracy_above_chance(0.75, 2) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("form", "weight", "accuracy", "energy", "expected"),
    [
        ("product", 0.5, 0.55, 0.5, 0.5 * 2.0),  # (1/4) ** -0.5
        ("product", 1.0, 1.0, 4.0, 0.5),
        ("product", 0.5, 0.1, 0.5, 0.0),
        ("linear", 0.2, 0.55, 1.0, 0.5 - 0.2 * 0.5),
        ("linear", 0.2, 0.05, 1.0, -0.1 - 1.0),
        ("chebyshev", 0.4, 0.55, 1.0, -(0.3 + 0.05 * (0.3 + 0.2))),  # 0.6 * 0.5 against 0.4 * 0.5
        ("chebyshev", 0.8, 0.55, 1.0, -(0.4 + 0.05 * (0.1 + 0.4))),
        ("chebyshev", 0.4, 0.1, 1.0, -(0.6 + 0.05 * (0.6 + 0.2)) - 1.0),
    ],
)
def test_values_by_hand(form: str, weight: float, accuracy: float, energy: float, expected: float) -> None:
    assert value(form, accuracy, energy, weight=weight) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("form", FORMS)
@given(st.floats(0.11, 1), st.floats(0.11, 1), st.floats(0.01, 20), st.floats(0.01, 20), WEIGHTS)
def test_better_networks_score_higher(
    form: str, a: float, b: float, energy: float, other: float, weight: float
) -> None:
    assume(abs(a - b) > 1e-6 and abs(energy - other) > 1e-6)
    low, high = sorted((a, b))
    cheap, dear = sorted((energy, other))
    assert value(form, high, energy, weight=weight) > value(form, low, energy, weight=weight)
    assert value(form, a, cheap, weight=weight) > value(form, a, dear, weight=weight)
    assert value(form, high, cheap, weight=weight) > value(form, low, dear, weight=weight)


@pytest.mark.parametrize("form", FORMS)
@given(st.floats(0.15, 1), st.floats(0.001, 4), st.floats(0, 1e-3), st.floats(0, 0.1))
def test_a_dead_network_never_wins(
    form: str, accuracy: float, energy: float, nothing: float, chance: float
) -> None:
    """Whatever its energy; against a network of up to twice the reference's energy, at default weights."""
    assert value(form, chance, nothing) < value(form, accuracy, energy)


@pytest.mark.parametrize("form", FORMS)
def test_below_the_floor_energy_is_worth_nothing(form: str) -> None:
    at_floor = value(form, 0.8, 0.02, floor=0.01)
    assert value(form, 0.8, 0.0, floor=0.01) == value(form, 0.8, -1.0, floor=0.01) == at_floor
    assert value(form, 0.8, 0.03, floor=0.01) < at_floor


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["accuracy", "energy_mj"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_nan_raises(form: Form, name: str, wrong: float) -> None:
    metrics = Metrics(accuracy=0.5, energy_mj=1.0)
    object.__setattr__(metrics, name, wrong)  # what a subclass or a mutation might smuggle in
    with pytest.raises(ObjectiveError, match="F_AEB of accuracy"):
        FAEB(reference_energy_mj=1.0, classes=2, form=form)(metrics)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "sum"}, 'form = \'sum\': expected "chebyshev", "linear" or "product"'),
        ({"reference_energy_mj": 0.0}, "reference_energy_mj = 0.0: expected a finite number above 0"),
        ({"reference_energy_mj": math.nan}, "reference_energy_mj = nan"),
        ({"classes": 1}, "classes = 1: expected a whole number from 2"),
        ({"floor": 0.0}, "floor = 0.0"),
        ({"weight": 0.0}, "weight = 0.0"),
        ({"weight": math.nan}, "weight = nan"),
        ({"weight": 1.0, "form": "chebyshev"}, "weight = 1.0: expected a number below 1"),
        ({"weight": 50.0, "floor": 1e-10}, "floor = 1e-10 with weight = 50: floor ** -weight overflows"),
    ],
)
def test_impossible_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ObjectiveError, match=re.escape(message)):
        FAEB(**{"reference_energy_mj": 1.0, "classes": 10, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weight", [None, 0.03, 0.3])
def test_the_trade_sentence_tells_the_truth(form: str, weight: float | None) -> None:
    """A network that halves the reference's energy and loses the printed accuracy scores the same."""
    faeb = FAEB(reference_energy_mj=2.0, classes=10, form=form, weight=weight)  # type: ignore[arg-type]
    percent = re.search(r"worth ([\d.]+)% of", faeb.trade())
    assert percent is not None
    assert f"w = {faeb.energy_weight:g}" in faeb.trade()
    worth = float(percent[1]) / 100
    above = 0.8 if form != "chebyshev" else 0.0 + 1e-9  # for chebyshev, where accuracy is the larger distance
    accuracy = 0.1 + 0.9 * above
    if form == "product":  # the share of accuracy that makes up for double the energy
        assert value(form, accuracy, 1.0, weight=weight) == pytest.approx(
            value(form, 0.1 + 0.9 * above * (1 + worth), 2.0, weight=weight), rel=1e-3
        )
    elif form == "linear":
        assert value(form, accuracy, 1.0, weight=weight) == pytest.approx(
            value(form, accuracy + 0.9 * worth, 2.0, weight=weight), abs=1e-3
        )
    else:  # the distance of half the reference's energy equals that of the printed accuracy
        w = faeb.energy_weight
        assert w * 0.5 == pytest.approx((1 - w) * worth, abs=1e-3)


def test_default_trades() -> None:
    trades = [FAEB(reference_energy_mj=1.0, classes=10, form=form).trade() for form in FORMS]
    assert [re.findall(r"[\d.]+%", trade) for trade in trades] == [["5.0%"], ["5.0%"], ["5.6%"]]
    assert set(DEFAULT_WEIGHTS) == set(FORMS)


def test_faeb_is_an_objective_to_maximise() -> None:
    objective = FAEB(reference_energy_mj=2.0, classes=10, weight=0.5).objective()
    assert (objective.name, objective.direction) == ("f_aeb", "maximize")
    assert objective(Metrics(accuracy=0.55, energy_mj=0.5)) == pytest.approx(1.0)
