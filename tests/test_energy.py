"""Bills by hand, for every switch of the account."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_metrics import layer_counts

from aspk.energy import PAPER, PRESETS, STRICT, EnergyModel, energy_mj, energy_table, layer_energy
from aspk.errors import EnergyModelError
from aspk.metrics import LayerCount

PJ = 1e-9  # mJ


def layer(**changes: object) -> LayerCount:
    """1000 operations a step, 3 steps, 100 inputs; 10, 20 and 30 of them spikes: rate 0.2."""
    plain = LayerCount(
        name="layer",
        kind="conv",
        source="spikes",
        operations=1000,
        repeats=3,
        input_size=100,
        output_size=50,
        parameters=7,
        input_sums=(10.0, 20.0, 30.0),
        exact_operations=555.0,
        output_spikes=12.0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


RATE, EXACT, DENSE = 600 * 0.9, 555 * 0.9, 3000 * 4.6  # pJ: 0.2 * 3 * 1000 accumulates, and so on

BILLS = [
    # image: analogue input, multiply-accumulates, at each step or once
    ("image", "conv", {}, DENSE),
    ("image", "conv", {"first_layer_repeats": "1"}, 1000 * 4.6),
    ("image", "conv", {"first_layer_repeats": "1", "padding": "exact", "residual": "dense"}, 1000 * 4.6),
    # spikes
    ("spikes", "conv", {}, RATE),
    ("spikes", "conv", {"padding": "exact"}, EXACT),
    ("spikes", "linear", {"residual": "dense", "head": "omitted", "attention": "omitted"}, RATE),
    # the integer residual stream
    ("residual", "linear", {}, RATE),
    ("residual", "linear", {"residual": "dense"}, DENSE),
    ("residual", "linear", {"padding": "exact"}, EXACT),
    ("residual", "linear", {"residual": "dense", "padding": "exact"}, DENSE),
    # attention
    ("spikes", "attention", {}, RATE),
    ("spikes", "attention", {"attention": "exact"}, EXACT),
    ("spikes", "attention", {"attention": "omitted"}, 0.0),
    ("spikes", "attention", {"padding": "exact"}, RATE),
    ("spikes", "attention", {"residual": "dense"}, RATE),
    # the head reads means
    ("analog", "head", {}, DENSE),
    ("analog", "head", {"head": "omitted"}, 0.0),
    ("analog", "head", {"first_layer_repeats": "1", "padding": "exact"}, DENSE),
]


@pytest.mark.parametrize(("source", "kind", "switches", "pj"), BILLS)
def test_bill_of_one_layer(source: str, kind: str, switches: dict[str, str], pj: float) -> None:
    model = EnergyModel(**switches)  # type: ignore[arg-type]
    bill = layer_energy(layer(source=source, kind=kind), model)
    assert bill.mj == pytest.approx(pj * PJ, rel=1e-12)
    assert bill.name == "layer"
    assert 4.6 * bill.mac + 0.9 * bill.ac == pytest.approx(pj, rel=1e-12)
    assert bill.mac == 0 or bill.ac == 0


def test_constants_scale_the_bill() -> None:
    model = EnergyModel(mac_pj=2.0, ac_pj=0.5)
    assert energy_mj([layer(source="image")], model) == pytest.approx(3000 * 2.0 * PJ)
    assert energy_mj([layer()], model) == pytest.approx(600 * 0.5 * PJ)


def test_presets() -> None:
    assert PRESETS == {"spikformer_paper": PAPER, "strict_dense_residual": STRICT}
    assert (PAPER.mac_pj, PAPER.ac_pj) == (4.6, 0.9)
    assert dataclasses.replace(STRICT, name=PAPER.name, residual="events") == PAPER
    network = [layer(source="image"), layer(), layer(source="residual"), layer(source="analog", kind="head")]
    assert energy_mj(network) == pytest.approx((2 * DENSE + 2 * RATE) * PJ)
    assert energy_mj(network, STRICT) == pytest.approx((3 * DENSE + RATE) * PJ)


def test_the_first_convolution_of_spikformer_4_384() -> None:
    """ENERGY.md: 1,327,104 MAC a step on 32x32x3, 48 channels of 3x3, so 24.4 µJ over T = 4."""
    operations = 48 * 32 * 32 * 3 * 9
    assert operations == 1_327_104
    first = layer(source="image", operations=operations, repeats=4, input_sums=(0.0,) * 4)
    assert energy_mj([first]) == pytest.approx(5_308_416 * 4.6e-9)


@given(st.lists(layer_counts(), max_size=6), st.integers(0, 6))
def test_energy_adds_up(layers: list[LayerCount], cut: int) -> None:
    for model in (PAPER, STRICT):
        parts = energy_mj(layers[:cut], model) + energy_mj(layers[cut:], model)
        assert energy_mj(layers, model) == pytest.approx(parts, rel=1e-12, abs=1e-300)
        assert energy_mj(layers, model) == pytest.approx(sum(row.mj for row in energy_table(layers, model)))
    assert [row.name for row in energy_table(layers)] == [row.name for row in layers]
    assert energy_mj([]) == 0.0


@given(layer_counts(), st.floats(0, 1))
def test_fewer_spikes_never_cost_more(one: LayerCount, share: float) -> None:
    quieter = dataclasses.replace(one, input_sums=tuple(share * value for value in one.input_sums))
    for model in (PAPER, STRICT):
        assert energy_mj([quieter], model) <= energy_mj([one], model) * (1 + 1e-12)


@pytest.mark.parametrize("switch", ["residual", "first_layer_repeats", "padding", "attention", "head"])
def test_unknown_switches_are_named(switch: str) -> None:
    with pytest.raises(EnergyModelError, match=f"{switch} = 'maybe': expected one of"):
        EnergyModel(**{switch: "maybe"})  # type: ignore[arg-type]


@pytest.mark.parametrize("constant", ["mac_pj", "ac_pj"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "4.6", True, None])
def test_impossible_constants_are_named(constant: str, value: object) -> None:
    with pytest.raises(EnergyModelError, match=f"{constant} = .*expected pJ above 0"):
        EnergyModel(**{constant: value})  # type: ignore[arg-type]
