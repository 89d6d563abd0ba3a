"""Bills by hand, for every switch of the account."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_metrics import layer_counts

from aspk.energy import (
    NOTES,
    PAPER,
    PRESETS,
    STRICT,
    EnergyModel,
    energy_csv,
    energy_mj,
    energy_table,
    energy_text,
    layer_energy,
    load_energy_model,
    site_flag,
)
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
    # anything else that is not whole numbers needs multipliers
    ("analog", "conv", {"padding": "exact"}, DENSE),
    ("analog", "attention", {}, DENSE),
    # products of integers need multipliers too
    ("residual", "attention", {}, RATE),
    ("residual", "attention", {"residual": "dense"}, DENSE),
    # neurons behind no product; between activations a row's values, or those that a mask passes
    ("analog", "neurons", {"neuron_update_pj": 0.5}, 75),
    ("analog", "addition", {}, 0.0),
    ("analog", "addition", {"elementwise": "billed"}, 3000 * 0.9),
    ("analog", "pooling", {"elementwise": "billed"}, 3000 * 0.9),
    ("analog", "multiplication", {"elementwise": "billed"}, 3000 * 4.6),
    ("analog", "mask", {"elementwise": "billed"}, EXACT),
    # linear layers left out, but not the head and not attention
    ("spikes", "linear", {"linear": "omitted"}, 0.0),
    ("residual", "linear", {"linear": "omitted", "residual": "dense"}, 0.0),
    ("spikes", "conv", {"linear": "omitted"}, RATE),
    ("spikes", "attention", {"linear": "omitted"}, RATE),
    ("analog", "head", {"linear": "omitted"}, DENSE),
    # 50 neurons: two MACs for each of 150 normalised values
    ("spikes", "conv", {"normalisation": "billed"}, RATE + 300 * 4.6),
    ("image", "conv", {"normalisation": "billed", "first_layer_repeats": "1"}, (1000 + 100) * 4.6),
    ("spikes", "attention", {"normalisation": "billed"}, RATE),
    ("analog", "head", {"normalisation": "billed"}, DENSE),
    # neurons (150 updates, 12 spikes) and memory (a weight for each operation)
    ("spikes", "conv", {"neuron_update_pj": 0.5}, RATE + 75),
    ("spikes", "conv", {"membrane_access_pj": 2.0}, RATE + 300),
    ("spikes", "conv", {"spike_event_pj": 10.0}, RATE + 120),
    ("spikes", "conv", {"weight_read_pj": 5.0}, RATE + 600 * 5),
    ("image", "conv", {"weight_read_pj": 5.0, "first_layer_repeats": "1"}, 1000 * 9.6),
]


@pytest.mark.parametrize(("source", "kind", "switches", "pj"), BILLS)
def test_bill_of_one_layer(source: str, kind: str, switches: dict[str, str], pj: float) -> None:
    model = EnergyModel(**switches)  # type: ignore[arg-type]
    same = {"input_sums": (20.0,) * 3} if source == "image" else {}
    bill = layer_energy(layer(source=source, kind=kind, **same), model)
    assert bill.mj == pytest.approx(pj * PJ, rel=1e-12)
    assert bill.name == "layer"
    rest = (bill.neuron_mj + bill.memory_mj) / PJ
    assert 4.6 * bill.mac + 0.9 * bill.ac + rest == pytest.approx(pj, rel=1e-12)


def test_only_an_image_that_is_the_same_at_each_step_is_billed_once() -> None:
    once = EnergyModel(first_layer_repeats="1")
    frames = layer(source="image")  # three frames with 10, 20 and 30 events
    assert energy_mj([frames], once) == energy_mj([frames])
    rounded = dataclasses.replace(frames, input_sums=(20.0, 20.0 + 1e-12, 20.0))
    assert energy_mj([rounded], once) == pytest.approx(energy_mj([frames]) / 3)


def test_constants_scale_the_bill() -> None:
    model = EnergyModel(mac_pj=2.0, ac_pj=0.5)
    assert energy_mj([layer(source="image")], model) == pytest.approx(3000 * 2.0 * PJ)
    assert energy_mj([layer()], model) == pytest.approx(600 * 0.5 * PJ)


NETWORK = [
    layer(source="image"),
    layer(),
    layer(source="residual", kind="linear"),
    layer(kind="attention"),
    layer(source="analog", kind="head", output_size=0, output_spikes=0.0),
]
NEURONS, NORMS = 4 * 150, 3 * 300  # the head has none, and attention is not normalised
PRESET_BILLS = {
    "spikformer_paper": 2 * DENSE + 3 * RATE,
    "strict_dense_residual": 3 * DENSE + 2 * RATE,
    "spikingformer_script": 2 * DENSE + 2 * RATE,
    "syops": 3 * DENSE + RATE + NORMS * 4.6 + NEURONS * 0.9,
    "45nm_fp32": 6000 * 4.6 + 1800 * 0.9,
    "45nm_fp16": 6000 * 1.5 + 1800 * 0.4,
    "45nm_int8": 6000 * 0.23 + 1800 * 0.03,
}


COUNTED = [name for name in PRESETS if name != "neurobench"]  # which needs counts of its own, see below


@pytest.mark.parametrize("name", COUNTED)
def test_presets_by_hand(name: str) -> None:
    assert energy_mj(NETWORK, PRESETS[name]) == pytest.approx(PRESET_BILLS[name] * PJ, rel=1e-12)
    assert PRESETS[name].name == name
    assert NOTES[name]
    assert load_energy_model(name) is PRESETS[name]


def test_the_papers_account_is_the_default() -> None:
    assert EnergyModel() == PAPER == PRESETS["spikformer_paper"]
    assert (PAPER.mac_pj, PAPER.ac_pj) == (4.6, 0.9)
    assert dataclasses.replace(STRICT, name=PAPER.name, residual="events") == PAPER


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


@given(layer_counts(), st.integers(2, 8), st.sampled_from(sorted(COUNTED)))
def test_at_constant_rates_energy_is_linear_in_the_steps(one: LayerCount, steps: int, name: str) -> None:
    once = dataclasses.replace(one, repeats=1, input_sums=one.input_sums[:1], output_sums=())
    often = dataclasses.replace(
        once,
        repeats=steps,
        input_sums=once.input_sums * steps,
        exact_operations=once.exact_operations * steps,
        output_spikes=once.output_spikes * steps,
    )
    model = PRESETS[name]
    assert energy_mj([often], model) == pytest.approx(steps * energy_mj([once], model), rel=1e-9, abs=1e-300)
    if one.source == "image" and one.kind in ("conv", "linear") and name != "syops":
        static = dataclasses.replace(model, first_layer_repeats="1")
        assert energy_mj([often], static) == energy_mj([once], model)


def test_a_silent_network_costs_its_first_layer_and_its_head() -> None:
    silent = [
        dataclasses.replace(one, input_sums=(0.0,) * 3, exact_operations=0.0, output_spikes=0.0)
        if one.source in ("spikes", "residual")
        else one
        for one in NETWORK
    ]
    assert energy_mj(silent) == pytest.approx(2 * DENSE * PJ)
    assert energy_mj(silent, EnergyModel(head="omitted")) == pytest.approx(DENSE * PJ)


@pytest.mark.parametrize(
    ("spikes", "flag"), [(0.0, "dead"), (1.0, ""), (135.0, ""), (135.1, "saturated"), (150.0, "saturated")]
)
def test_dead_and_saturated_sites(spikes: float, flag: str) -> None:
    assert site_flag(layer(output_spikes=spikes)) == flag
    assert site_flag(layer(output_spikes=0.0, output_size=0)) == ""


def test_the_table_shows_every_layer_and_the_sums() -> None:
    dead = dataclasses.replace(NETWORK[1], name="quiet", output_spikes=0.0)
    text = energy_text([*NETWORK, dead], [PAPER, STRICT]).splitlines()
    assert [line.split()[0] for line in text[2:8]] == ["layer"] * 5 + ["quiet"]
    assert text[7].endswith("dead")
    assert text[9].split()[:3] == ["total", "6,000", "2,400"]
    assert f"{(PRESET_BILLS['spikformer_paper'] + RATE) * 1e-6:.4g}" in text[9]  # µJ
    assert "neuron sites: 1" in text[10]
    assert "estimates" in text[11]
    assert "\x1b" not in energy_text([dataclasses.replace(dead, name="\x1b[2J")], [PAPER])


def test_the_csv_adds_up() -> None:
    models = [PRESETS[name] for name in COUNTED]
    rows = list(csv.DictReader(io.StringIO(energy_csv(NETWORK, models))))
    assert len(rows) == len(NETWORK) * len(models)
    for model in models:
        total = sum(float(row["mj"]) for row in rows if row["model"] == model.name)
        assert total == pytest.approx(PRESET_BILLS[model.name] * PJ, rel=1e-12)


# ---------------------------------------------------------------------- accounts from files


def test_an_account_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text('preset = "strict_dense_residual"\nmac_pj = 3\nfirst_layer_repeats = 1\n')
    expected = dataclasses.replace(STRICT, name="chip", mac_pj=3, first_layer_repeats="1")
    assert load_energy_model(path) == load_energy_model(str(path)) == expected
    path.write_text('name = "mine"\n')
    assert load_energy_model(path) == dataclasses.replace(PAPER, name="mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mac_pj = ", "not a TOML file"),
        ("\udcff", "not a TOML file"),
        ("mac = 3", r"mac = 3: unknown key \(did you mean mac_pj\?\); expected preset, "),
        ("mac_pj = -1", "mac_pj = -1: expected a finite number above 0"),
        ("spike_event_pj = -1", "spike_event_pj = -1: expected a finite number of at least 0"),
        ('padding = "some"', 'padding = .some.: expected "dense" or "exact"'),
        ("padding = [1]", r'padding = \[1\]: expected "dense" or "exact"'),
        ("first_layer_repeats = 2", 'first_layer_repeats = 2: expected "1", "T" or "as_run" or 1'),
        ('preset = "paper"', 'preset = .paper.: expected "spikformer_paper", '),
        ("preset = [1]", r'preset = \[1\]: expected "spikformer_paper", '),
        ("name = 3", "name = 3: expected a string"),
    ],
)
def test_a_wrong_file_is_named_with_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chip.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EnergyModelError, match=f"chip.toml: .*{message}"):
        load_energy_model(path)


def test_a_missing_file_is_told_with_the_presets(tmp_path: Path) -> None:
    for source in ("nowhere", tmp_path):
        with pytest.raises(EnergyModelError, match=r"no energy model .*one of spikformer_paper, "):
            load_energy_model(source)


SWITCHES = ["residual", "first_layer_repeats", "padding", "attention", "head", "linear", "normalisation"]


@pytest.mark.parametrize("switch", SWITCHES)
def test_unknown_switches_are_named(switch: str) -> None:
    with pytest.raises(EnergyModelError, match=f"{switch} = 'maybe': expected \""):
        EnergyModel(**{switch: "maybe"})  # type: ignore[arg-type]


@pytest.mark.parametrize("constant", ["mac_pj", "ac_pj"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "4.6", True, None])
def test_impossible_constants_are_named(constant: str, value: object) -> None:
    with pytest.raises(EnergyModelError, match=f"{constant} = .*expected a finite number above 0"):
        EnergyModel(**{constant: value})  # type: ignore[arg-type]
