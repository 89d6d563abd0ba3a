"""Break-evens by hand, and one network under every account: text, CSV, JSON, page and figure."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from pages import DOCS, blocks
from spikingjelly.activation_based import functional, layer, neuron, op_counter
from torch import nn

from aspk.cli import main
from aspk.energy import PRESETS, EnergyModel, break_even, break_even_text, compare, energy_mj, operation_pj
from aspk.metrics import LayerCount
from aspk.profiling import profile_energy
from aspk.profiling.op_counter import ACCOUNTS
from aspk.report.energy import comparison_figure, comparison_html, random_account
from aspk.space.file import load_space

PJ = 1e-9


def count(**changes):
    """2,000 operations at each of five steps at a rate of 0.1, ten neurons that fire seven times."""
    values = {"name": "layer", "kind": "linear", "source": "spikes", "operations": 2000, "repeats": 5}
    values |= {"input_size": 100, "output_size": 10, "parameters": 2000, "input_sums": (10.0,) * 5}
    values |= {"exact_operations": 1000.0, "output_spikes": 7.0, "output_sums": (1.0, 2.0, 0.0, 3.0, 1.0)}
    return LayerCount(**{**values, **changes})


NO_NEURONS = {"output_size": 0, "output_spikes": 0.0, "output_sums": ()}
IMAGE = count(name="first", source="image", operations=1000, input_sums=(50.0,) * 5, **NO_NEURONS)
EACH = 0.9 + 3.7 * 3 / 32  # T = 5: 3 bits of 32


def test_the_energy_of_an_operation_of_some_bits():
    assert operation_pj(EnergyModel(), 32) == pytest.approx(4.6)
    assert operation_pj(EnergyModel(), 3) == pytest.approx(EACH)
    assert operation_pj(PRESETS["45nm_int8"], 4) == pytest.approx(0.03 + 0.2 / 2)
    assert operation_pj(PRESETS["45nm_int8"], 9) == pytest.approx(0.23)


@pytest.mark.parametrize(
    ("model", "fixed", "per_rate", "counterpart"),
    [
        (EnergyModel(), 5000 * 4.6, 10_000 * 0.9, 1000 * 4.6 + 2000 * EACH),
        (EnergyModel(first_layer_repeats="1"), 1000 * 4.6, 10_000 * 0.9, 1000 * 4.6 + 2000 * EACH),
        (
            EnergyModel(
                first_layer_repeats="1", weight_read_pj=2.0, membrane_access_pj=3.0, spike_event_pj=1.0,
                neuron_update_pj=0.5,
            ),
            1000 * (4.6 + 2) + 50 * 3.5,
            10_000 * (0.9 + 2) + 70,
            1000 * (4.6 + 2) + 2000 * (EACH + 2),
        ),
    ],
    ids=["T times", "once", "memory"],
)  # fmt: skip
def test_break_even_by_hand(model, fixed, per_rate, counterpart):
    found = break_even([IMAGE, count()], model, time_steps=5)
    assert (found.bits, found.rate) == (3, pytest.approx(0.1))
    assert found.counterpart_mj == pytest.approx(counterpart * PJ)
    assert found.spiking_mj == pytest.approx((fixed + 0.1 * per_rate) * PJ)
    assert found.limit == pytest.approx((counterpart - fixed) / per_rate)
    assert (found.rate < found.limit) == (found.spiking_mj < found.counterpart_mj)
    assert found.memory == bool(model.weight_read_pj)
    assert ("no memory term" in break_even_text(found)) == (not found.memory)


def test_break_even_of_integers_silence_and_none():
    strict = EnergyModel(residual="dense")
    residual = break_even([count(source="residual")], strict, time_steps=5)
    assert (residual.limit, residual.rate) == (None, 0.0)
    assert residual.counterpart_mj == pytest.approx(2000 * EACH * PJ)
    assert "no layer is billed by its spikes" in break_even_text(residual)
    nothing = count(input_sums=(0.0,) * 5, exact_operations=0.0, **NO_NEURONS)
    silent = break_even([nothing], EnergyModel(), time_steps=5)
    assert silent.rate == 0
    assert silent.limit == pytest.approx(2000 * EACH / (10_000 * 0.9))


@pytest.mark.parametrize("switch", [{"normalisation": "billed"}, {"neuron_update_pj": 0.9}])
def test_silent_layers_are_part_of_the_rate(switch):
    silent = count(input_sums=(0.0,) * 5, exact_operations=0.0)
    model = EnergyModel(**switch)
    found = break_even([IMAGE, count(), silent], model, time_steps=5)
    assert found.rate == pytest.approx(0.05)
    firing = replace(silent, input_sums=(1e-9,) * 5)
    almost = break_even([IMAGE, count(), firing], model, time_steps=5)
    assert (found.rate, found.limit) == (pytest.approx(almost.rate), pytest.approx(almost.limit))
    normalised = 2 * 2 * 10 * 4.6 if "normalisation" in switch else 0.0
    assert found.counterpart_mj == pytest.approx((1000 * 4.6 + 2 * 2000 * EACH + normalised) * PJ)
    assert (found.rate < found.limit) == (found.spiking_mj < found.counterpart_mj)


def test_operations_between_activations_are_no_part_of_the_rate():
    kind = {"kind": "addition", "source": "analog", "operations": 10_000, "repeats": 1, "input_sums": (0.0,)}
    added = count(name="add", exact_operations=0.0, **kind, **NO_NEURONS)
    plain = break_even([IMAGE, count()], EnergyModel(), time_steps=5)
    found = break_even([IMAGE, count(), added], EnergyModel(elementwise="billed"), time_steps=5)
    assert found.rate == plain.rate
    assert found.spiking_mj == pytest.approx(plain.spiking_mj + 10_000 * 0.9 * PJ)
    assert found.counterpart_mj == pytest.approx(plain.counterpart_mj + 10_000 / 5 * 0.9 * PJ)
    assert found.limit == pytest.approx(plain.limit - 10_000 * 0.9 * (1 - 1 / 5) / (10_000 * 0.9))
    assert (found.rate < found.limit) == (found.spiking_mj < found.counterpart_mj)


@pytest.mark.parametrize(("steps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 3), (8, 4), (15, 4)])
def test_bits_that_tell_t_plus_one_values_apart(steps, bits):
    assert break_even([count()], EnergyModel(), time_steps=steps).bits == bits


# ---------------------------------------------------------------------- every account


def network():
    torch.manual_seed(0)
    body = nn.Sequential(
        layer.Conv2d(1, 4, 3, bias=False), neuron.IFNode(v_threshold=0.2), layer.Flatten(),
        layer.Linear(144, 5, bias=False), neuron.IFNode(),
    )  # fmt: skip
    functional.set_step_mode(body, "m")
    return body


FRAMES = (torch.rand(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def test_a_module_under_every_account():
    module = network()
    profile = profile_energy(module, FRAMES)
    custom = EnergyModel(name="mine", elementwise="billed")
    found = profile.compare([custom])
    names = [total.name for total in found.totals]
    assert names[0] == "mine"
    assert names[1 : 1 + len(PRESETS)] == list(PRESETS)
    bills = {total.name: total.mj for total in found.totals}
    assert all(bills[name] == profile.energy_mj(model) for name, model in PRESETS.items())
    assert found.ratio(found.totals[1]) == pytest.approx(bills["spikformer_paper"] / bills["mine"])
    functional.reset_net(module)
    oracle = op_counter.estimate_simple_energy(module.eval(), FRAMES).energy_total_pj
    assert bills["spikingjelly simple"] == pytest.approx(oracle / 2 * PJ)
    refused = next(total for total in found.totals if total.name == "spikingjelly lemaire")
    assert (refused.mj, refused.note.partition(":")[0]) == (None, "ValueError")  # it takes no Flatten
    assert found.rates == profile.rates()
    assert found.rates["1"] == pytest.approx([spikes / 144 for spikes in profile.sites[0].step_spikes])


def test_without_spikes_one_line_says_that_there_is_no_break_even():
    dense = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    found = profile_energy(dense, torch.rand(2, 1, 8, 8)).compare()
    assert len(found.break_evens) > 1
    for text in (found.text(), comparison_html(found)):
        assert text.count("no account bills a layer by its spikes") == 1
        assert "no layer is billed by its spikes" not in text


@pytest.mark.filterwarnings("ignore")
def test_each_of_spikingjellys_accounts_is_taken_as_it_is():
    torch.manual_seed(0)
    module = nn.Sequential(layer.Linear(6, 8), neuron.IFNode(), layer.Linear(8, 5), neuron.IFNode())
    functional.set_step_mode(module, "m")
    x = (torch.rand(4, 2, 6) > 0.5).float()
    found = {total.name: total for total in profile_energy(module, x).compare().totals}
    assert found["spikingjelly spikesim"].note.startswith("ValueError")  # it takes convolutions only
    for name in set(ACCOUNTS) - {"spikingjelly spikesim"}:
        function, key = ACCOUNTS[name]
        functional.reset_net(module)
        with torch.no_grad():
            expected = getattr(getattr(op_counter, function)(module.eval(), x), key)
        assert found[name].mj == pytest.approx(expected / 2 * PJ)
        assert expected > 0


def test_text_csv_and_json_agree():
    found = profile_energy(network(), FRAMES).compare()
    record = json.loads(json.dumps(found.json(), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["account"] for row in rows] == [total["name"] for total in record["accounts"]]
    for row, total in zip(rows, record["accounts"], strict=True):
        assert (float(row["mj"]) if row["mj"] else None) == total["mj"]
        assert total["name"] in found.text()
    rates = list(csv.DictReader(io.StringIO(found.rates_csv())))
    assert len(rates) == 2 * 4
    assert {row["site"] for row in rates} == set(record["firing_rates"]) == {"1", "4"}


@pytest.mark.filterwarnings("ignore")
def test_what_was_counted_on_fewer_images_says_so():
    module = network()
    alone, whole = (profile_energy(module, x).compare() for x in (FRAMES, [FRAMES, FRAMES[:, :1]]))
    images = FRAMES.shape[1]
    said = f"the first {images} of {images + 1} images"
    assert {total.counted_on for total in alone.totals} == {""}
    for total in whole.totals:
        assert total.counted_on == (said if total.name in ACCOUNTS else "")
    billed = sum(total.mj is not None and total.name in ACCOUNTS for total in whole.totals)
    assert whole.text().count(said) == billed > 0
    assert said in comparison_html(whole)
    rows = csv.DictReader(io.StringIO(whole.csv()))
    assert {row["account"] for row in rows if row["counted_on"] == said} == set(ACCOUNTS)


def test_the_page_needs_nothing_and_shows_all():
    found = compare([IMAGE, count(name="<b>")], network="a & b", time_steps=5)
    page = comparison_html(found)
    assert "<b>" not in page
    assert all(
        text in page for text in ("a &amp; b", "&lt;b&gt;", "break-even of", "<svg", "step 5", *PRESETS)
    )
    assert "src=" not in page
    assert "<image" not in page  # the page's policy would not show one
    drawn = comparison_figure(found)
    assert len(drawn.axes) == 3  # bars, map, colours
    assert len(comparison_figure(compare([IMAGE], network="x", time_steps=5)).axes) == 1


def test_a_bill_that_needs_other_counts_says_so():
    found = compare([count()], network="x", time_steps=5)
    (total,) = (total for total in found.totals if total.name == "neurobench")
    assert total.mj is None
    assert "neurobench  " in found.text()
    assert "skips zeros, which stored counts do not record" in found.text()


def test_networks_that_can_be_run_get_every_bill():
    """The first layer reads an image whose pixels are never 0: the same MACs as in other accounts."""
    account = random_account(load_space("tiny"), shape=(1, 8, 8), classes=10)
    bills = {total.name: total.mj for total in account.compare().totals}
    layers = profile_energy(nn.Sequential(account.run[0]), account.run[1], time_steps=4).layers
    assert bills["neurobench"] == pytest.approx(energy_mj(layers, PRESETS["neurobench"]))
    assert all(layer.effective_macs is not None for layer in layers)
    assert replace(account, run=None).compare().totals[4].mj is None


RANDOM = ["energy", "--space", "tiny", "--reference", "--random-weights", "--shape", "1,8,8", "--all"]


def test_the_command_writes_every_form(tmp_path, capsys):
    files = {name: tmp_path / f"all.{name}" for name in ("csv", "json", "html", "png", "svg")}
    options = [f"--{name}={files[name]}" for name in ("csv", "json", "html")]
    assert main([*RANDOM, *options, f"--figure={files['png']}"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tiny, reference, random weights\naccount")
    assert all(name in text for name in PRESETS)
    record = json.loads(files["json"].read_text())
    bills = {total["name"]: total["mj"] for total in record["accounts"]}
    assert bills["spikingjelly simple"] > bills["spikformer_paper"] > 0
    assert (tmp_path / "all-rates.csv").read_text().startswith("site,step,firing_rate\nstem.0,1,")
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert main([*RANDOM, f"--figure={files['svg']}", "--model", "45nm_int8"]) == 0
    assert files["svg"].read_text().startswith("<svg")
    assert capsys.readouterr().out.splitlines()[2].startswith("45nm_int8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*RANDOM[:-1], "--figure", "x.png"], "give --all as well"),
        (["energy", "digits", "--all"], "give --trial"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, capsys):
    assert main(options) != 0
    assert message in capsys.readouterr().err


def test_energies_are_unchanged_by_the_new_switches():
    assert energy_mj([IMAGE, count()]) == pytest.approx((5000 * 4.6 + 1000 * 0.9) * PJ)


def test_the_example_of_the_documentation_is_compared(capsys):
    names = {}
    exec(blocks(DOCS / "energy.md", "python")[0], names)  # the documentation's own code
    profile = names["profile"]
    assert profile.compare().totals[0].mj == profile.energy_mj() > 0
    assert "Input read as [B, ...] with T = 4" in capsys.readouterr().out
