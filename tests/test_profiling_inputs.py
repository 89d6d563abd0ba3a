"""What may be given: one batch or many, one tensor or several; what cannot be watched is refused."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aspk.energy import EnergyModel
from aspk.errors import ProfilingError
from aspk.families.random_weights import calibrated_random_network
from aspk.profiling import profile_energy
from aspk.space.file import load_space


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.neurons, self.last = (
            nn.Linear(6, 8),
            neuron.LIFNode(v_threshold=0.2),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        return sum(self.last(self.neurons(self.first(x))) for _ in range(3))


X = torch.rand(10, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_a_loader_gives_the_mean_over_its_batches(size, capsys):
    loader = DataLoader(TensorDataset(X, torch.arange(10)), batch_size=size)
    whole, parts = profile_energy(Steps(), X), profile_energy(Steps(), loader)
    assert (parts.images, parts.time_steps) == (10, 3)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert (one.name, one.operations, one.repeats) == (other.name, other.operations, other.repeats)
        assert one.input_sums == pytest.approx(other.input_sums)
        assert one.output_sums == pytest.approx(other.output_sums)
        assert one.exact_operations == pytest.approx(other.exact_operations)
    assert parts.energy_mj() == pytest.approx(whole.energy_mj())
    assert parts.elementwise == whole.elementwise
    assert "profile" in capsys.readouterr().err
    profile_energy(Steps(), loader, progress=False)
    assert capsys.readouterr().err == ""


def test_generators_lists_and_our_own_networks():
    assert profile_energy(Steps(), (part for part in X.split(4)), progress=False).images == 10
    space = load_space("tiny")
    network, x = calibrated_random_network(space.reference, space.settings, shape=(1, 8, 8), classes=10)
    whole, parts = profile_energy(network, x), profile_energy(network, list(x.split(1)), progress=False)
    assert parts.energy_mj() == pytest.approx(whole.energy_mj())
    assert parts.images == len(x)


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        (
            (6, 4, 1, 8, 8),
            {"time_first": False},
            r"\(6, 4, 1, 8, 8\), time_first = False: .* its T = 4 steps",
        ),
        ((4, 6, 1, 8, 8), {"time_first": False}, "time_first = False: .*sequences"),
        ((6, 4, 1, 8, 8), {}, "its T = 4 steps"),
        ((6, 1, 8, 8), {"time_first": True}, "time_first = True: .*images"),
        ((1, 8, 8), {}, r"shape \(1, 8, 8\): one of aspk's networks takes images"),
        ((6, 1, 8, 8), {"time_steps": 2}, "time_steps = 2: the network has T = 4"),
    ],
)
def test_the_axes_of_our_own_networks_are_fixed(shape, options, reason):
    space = load_space("tiny")
    network, _ = calibrated_random_network(space.reference, space.settings, shape=(1, 8, 8), classes=10)
    with pytest.raises(ProfilingError, match=reason):
        profile_energy(network, torch.rand(shape), **options)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(5, 4)

    def forward(self, left, right, scale=1.0):
        return self.a(left) + scale * self.b(right)


def test_modules_with_several_inputs():
    left, right = torch.rand(2, 6), torch.rand(2, 5)
    positional = profile_energy(Two(), (left, right))
    named = profile_energy(Two(), {"left": left, "right": right, "scale": 2.0})
    called = profile_energy(Two(), [(left, right)], call=lambda module, batch: module(*batch), progress=False)
    for profile in (positional, named, called):
        assert [(one.operations, one.source) for one in profile.layers] == [(24, "image"), (20, "image")]
        assert profile.images == 2


def scripted():
    return torch.jit.script(nn.Linear(3, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (scripted, "TorchScript.*give the module that it was made from"),
        (lambda: nn.Sequential(scripted()), "'0' is compiled by TorchScript"),
        (lambda: nn.DataParallel(nn.Linear(3, 3)), "give its .module"),
        (lambda: nn.LazyLinear(3), "LazyLinear is lazy and has no weight yet"),
        (lambda: nn.Linear(3, 3, device="meta"), "weight is on the meta device"),
        (lambda: lambda x: x, "a function cannot be watched"),
    ],
)
def test_what_cannot_be_watched_is_refused(module, reason):
    with pytest.raises(ProfilingError, match=reason):
        profile_energy(module(), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (3, "x is a int: expected a tensor"),
        ([], "gave no batch"),
        (["text"], "holds no tensor"),
        ([torch.rand(2, 6), torch.rand(0, 6)], r"shape \(0, 6\)"),
    ],
)
def test_inputs_that_are_none(x, reason):
    with pytest.raises(ProfilingError, match=reason):
        profile_energy(Steps(), x, progress=False)


# ---------------------------------------------------------------------- what a profile says at its end


class Residual(nn.Module):
    """A residual addition, a mask, a Hadamard product and two poolings of 4 x 4 maps of two channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.neurons = neuron.IFNode(v_threshold=0.1)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        x = self.conv(x)
        spikes = self.neurons(x)
        y = x + spikes
        y = y * spikes
        y = y * x
        y = nn.functional.avg_pool2d(nn.functional.max_pool2d(y, 2), 2)
        return self.head(y.flatten(1))


def test_operations_between_activations_are_listed_and_billed_on_demand():
    profile = profile_energy(Residual(), torch.rand(2, 1, 4, 4))
    values = {row.kind: row.operations for row in profile.elementwise}
    assert values == {"addition": 32, "mask": 32, "multiplication": 32, "pooling": 32 + 8}
    (mask,) = (row for row in profile.elementwise if row.kind == "mask")
    assert mask.exact_operations == pytest.approx(profile.sites[0].spikes)
    billed = EnergyModel(name="all", elementwise="billed")
    extra = 0.9 * (32 + profile.sites[0].spikes + 40) + 4.6 * 32
    assert profile.energy_mj(billed) - profile.energy_mj() == pytest.approx(extra * 1e-9)
    text = str(profile)
    assert "32 additions, 32 products with 0/1 masks, 32 products, 40 values pooled" in text
    assert profile.text([billed]).count("Residual") == 4  # a row for each kind, in the table


def test_products_with_weights_element_by_element_are_named():
    """A layer that is written as a product and a sum is in no account: the printout must say so."""

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.rand(5, 6)), nn.Parameter(torch.rand(1))
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.scale * (x[:, None] * self.weight).sum(-1) / 6)

    profile = profile_energy(Written(), X)
    assert [layer.operations for layer in profile.layers] == [10]
    assert profile.scaled == (("Written", 30),)  # a single factor can be folded into weights
    assert "Values multiplied by weights, element by element, in no account: Written (30)." in str(profile)
    assert "multiplied by weights" not in str(profile_energy(Residual(), torch.rand(2, 1, 4, 4)))


@pytest.mark.parametrize("tokens", [3, 4, 8])
def test_input_sums_of_a_network_that_runs_step_by_step(tokens):
    class Tokens(Steps):
        def forward(self, x):
            return sum(self.last(self.neurons(self.first(step))) for step in x)

    sequence = torch.rand(4, 2, tokens, 6, generator=torch.Generator().manual_seed(0))
    sequence[0] = 0.0
    profile = profile_energy(Tokens(), sequence, time_first=True)
    first, last = profile.layers
    assert first.input_sums == pytest.approx((sequence.sum((1, 2, 3)) / 2).tolist())
    assert last.input_sums == pytest.approx(profile.sites[0].step_spikes)


class Once(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.neurons = nn.Conv2d(1, 2, 3), neuron.IFNode(v_threshold=0.1, step_mode="m")

    def forward(self, x):
        return self.neurons(self.conv(x).expand(4, -1, -1, -1, -1))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_that_happens_to_be_black_and_white(place):
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    images[place] = images[place].round()
    whole, parts = (
        profile_energy(Once(), images),
        profile_energy(Once(), list(images.split(1)), progress=False),
    )
    assert parts.energy_mj() == pytest.approx(whole.energy_mj())
    (one,), (other,) = whole.layers, parts.layers
    assert (other.source, other.repeats, other.runs) == (one.source, one.repeats, one.runs) == ("image", 4, 1)
    assert other.output_spikes == pytest.approx(one.output_spikes)


def test_a_first_layer_that_ran_once_is_named():
    profile = profile_energy(Once(), torch.rand(2, 1, 6, 6))
    assert (profile.layers[0].repeats, profile.layers[0].runs) == (4, 1)
    macs = 2 * 16 * 9
    shown = f"conv ran once and is billed 4 times under spikformer_paper: {4 * macs * 4.6e-6:.4g} µJ"
    assert f"{shown} in place of {macs * 4.6e-6:.4g}" in str(profile)
    assert "billed 4 times" not in profile.text([EnergyModel(first_layer_repeats="as_run")])
    assert profile.energy_mj(EnergyModel(first_layer_repeats="as_run")) == pytest.approx(macs * 4.6e-9)
