"""Metrics refuse what is not a number and survive JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aspk.errors import MetricsError
from aspk.metrics import LayerCount, Metrics, layers_from_json, layers_to_json

# Values that nine digits hold, so that the JSON form is exact.
_COUNTS = st.integers(0, 10**8).map(lambda value: value / 8 if value < 10**6 else float(value))


@st.composite
def layer_counts(draw: st.DrawFn) -> LayerCount:
    repeats = draw(st.integers(1, 6))
    return LayerCount(
        name=draw(st.text(min_size=1, max_size=8)),
        kind=draw(st.sampled_from(["conv", "linear", "attention", "head"])),
        source=draw(st.sampled_from(["image", "spikes", "residual", "analog"])),
        operations=draw(st.integers(1, 10**9)),
        repeats=repeats,
        input_size=draw(st.integers(1, 10**6)),
        output_size=draw(st.integers(0, 10**6)),
        parameters=draw(st.integers(0, 10**7)),
        input_sums=tuple(draw(st.lists(_COUNTS, min_size=repeats, max_size=repeats))),
        exact_operations=draw(_COUNTS),
        output_spikes=draw(_COUNTS),
        output_sums=tuple(draw(st.lists(_COUNTS, min_size=repeats, max_size=repeats) | st.just([]))),
    )


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return Metrics(
        accuracy=draw(st.floats(0, 1)),
        energy_mj=draw(finite),
        parameters=draw(st.integers(0, 10**9)),
        operations=draw(st.integers(0, 10**12)),
        spikes=draw(finite),
        firing_rate=draw(st.floats(0, 1)),
        layers=tuple(draw(st.lists(layer_counts(), max_size=3))),
        extras=draw(st.dictionaries(st.sampled_from(["latency", "é", "f1"]), finite, max_size=2)),
    )


@given(metrics())
def test_json_round_trip(one: Metrics) -> None:
    assert Metrics.from_json(json.loads(json.dumps(one.to_json()))) == one


@given(st.floats(1e-300, 1e300))
def test_layer_floats_keep_nine_digits(value: float) -> None:
    layer = LayerCount(
        name="l",
        kind="linear",
        source="spikes",
        operations=1,
        repeats=1,
        input_size=1,
        output_size=0,
        parameters=0,
        input_sums=(value,),
        exact_operations=value,
        output_spikes=0.0,
    )
    (again,) = layers_from_json(json.loads(json.dumps(layers_to_json([layer]))))
    assert again.input_sums[0] == pytest.approx(value, rel=1e-8)
    assert again.exact_operations == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("name", ["accuracy", "energy_mj", "parameters", "spikes", "firing_rate", "own"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, np.int64(1)])
def test_what_is_no_finite_number_is_refused_by_name(name: str, value: object) -> None:
    values: dict[str, object] = {"accuracy": 0.5, "energy_mj": 1.0}
    values |= {"extras": {"own": value}} if name == "own" else {name: value}
    with pytest.raises(MetricsError, match=f"metric {name} = "):
        Metrics(**values)  # type: ignore[arg-type]


def test_numpy_floats_are_numbers() -> None:
    assert Metrics(accuracy=np.float64(0.5), energy_mj=1.0).accuracy == 0.5


def test_extras_cannot_hide_a_metric() -> None:
    with pytest.raises(MetricsError, match="accuracy"):
        Metrics(accuracy=0.5, energy_mj=1.0, extras={"accuracy": 0.9})


def test_scalars_name_every_number_but_the_layers() -> None:
    one = Metrics(accuracy=0.5, energy_mj=2.0, parameters=3, operations=4, spikes=5.0, firing_rate=0.25)
    assert one.scalars() == {
        "accuracy": 0.5,
        "energy_mj": 2.0,
        "parameters": 3,
        "operations": 4,
        "spikes": 5.0,
        "firing_rate": 0.25,
    }
    assert dataclasses.replace(one, extras={"f1": 0.1}).scalars()["f1"] == 0.1


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"accuracy": 1.0},
        {"accuracy": 1.0, "energy_mj": 1.0, "colour": 2},
        {"accuracy": 1.0, "energy_mj": 1.0, "layers": [1]},
        {"accuracy": 1.0, "energy_mj": 1.0, "layers": {"name": ["a"]}},
        {"accuracy": 1.0, "energy_mj": 1.0, "layers": {"name": ["a"], "kind": []}},
        {"accuracy": 1.0, "energy_mj": 1.0, "layers": {"name": 3}},
    ],
)
def test_damaged_json_is_refused(data: object) -> None:
    with pytest.raises(MetricsError):
        Metrics.from_json(data)  # type: ignore[arg-type]


def test_firing_rates() -> None:
    layer = LayerCount(
        name="l",
        kind="linear",
        source="residual",
        operations=10,
        repeats=2,
        input_size=5,
        output_size=4,
        parameters=0,
        input_sums=(3.0, 12.0),
        exact_operations=0.0,
        output_spikes=2.0,
    )
    assert layer.firing_rate_in == 1.5  # 15 of 10: the residual stream counts above 1
    assert layer.firing_rate_out == 0.25
    assert dataclasses.replace(layer, output_size=0).firing_rate_out is None


@pytest.mark.parametrize(
    "change",
    [
        {"repeats": 0, "input_sums": ()},
        {"input_size": 0},
        {"operations": -1},
        {"parameters": 1.5},
        {"input_sums": (1.0,)},
        {"input_sums": (1.0, math.nan)},
        {"output_spikes": "many"},
        {"exact_operations": math.inf},
    ],
)
def test_impossible_layer_counts_are_refused(change: dict[str, object]) -> None:
    good = {
        "name": "l",
        "kind": "linear",
        "source": "spikes",
        "operations": 1,
        "repeats": 2,
        "input_size": 1,
        "output_size": 0,
        "parameters": 0,
        "input_sums": (1.0, 2.0),
        "exact_operations": 0.0,
        "output_spikes": 0.0,
    }
    assert LayerCount(**good).repeats == 2  # type: ignore[arg-type]
    with pytest.raises(MetricsError, match="layer 'l'"):
        LayerCount(**{**good, **change})  # type: ignore[arg-type]
