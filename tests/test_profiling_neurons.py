"""Neurons of every library are recognised and billed; two equal calls are equal; impostors are named."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from aspk.energy import EnergyModel, energy_table
from aspk.errors import ProfilingError
from aspk.profiling import profile_energy

UPDATES = EnergyModel(name="updates", neuron_update_pj=1e9)  # 1 mJ each


def updates(profile):
    """Neuron updates billed for one image."""
    return sum(row.neuron_mj for row in energy_table(profile.layers, UPDATES))


class Still(nn.Module):
    """A still image, repeated for four steps."""

    def __init__(self, make):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(layer.Linear(6, 8), make(), layer.Linear(8, 3), make())
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.body(x.repeat(4, 1, 1))


SPIKINGJELLY = {
    "IF": neuron.IFNode,
    "LIF": neuron.LIFNode,
    "PLIF": neuron.ParametricLIFNode,
    "QIF": neuron.QIFNode,
    "KLIF": neuron.KLIFNode,
    "CUBA": neuron.CUBALIFNode,
    "GatedLIF": lambda: neuron.GatedLIFNode(T=4),
    "DSR-IF": lambda: neuron.DSRIFNode(T=4),
    "DSR-LIF": lambda: neuron.DSRLIFNode(T=4),
    "PSN": lambda: neuron.PSN(T=4),
    "masked PSN": lambda: neuron.MaskedPSN(k=2, T=4),
    "sliding PSN": lambda: neuron.SlidingPSN(k=2),
    "ternary": neuron.TernaryIFNode,
    "integer": neuron.ILIFNode,
}


@pytest.mark.parametrize("kind", SPIKINGJELLY)
def test_neurons_of_spikingjelly(kind):
    module, x = Still(SPIKINGJELLY[kind]), 3 * torch.rand(2, 6)
    profile = profile_energy(module, x)
    assert [(site.name, site.neurons, site.steps) for site in profile.sites] == [
        ("body.1", 8, 4), ("body.3", 3, 4)
    ]  # fmt: skip
    assert (profile.time_steps, profile.images) == (4, 2)
    assert [(one.name, one.kind) for one in profile.layers] == [("body.0", "linear"), ("body.2", "linear")]
    assert updates(profile) == 4 * 11
    assert profile == profile_energy(module, x)
    assert ("inside neurons" in str(profile)) == ("PSN" in kind)


def test_neurons_behind_no_product_are_billed():
    module = nn.Sequential(
        nn.Linear(6, 8), neuron.LIFNode(), neuron.LIFNode(v_threshold=0.1), nn.Linear(8, 2)
    )
    profile = profile_energy(module, 5 * torch.rand(2, 6))
    assert updates(profile) == 16 == sum(site.neurons * site.steps for site in profile.sites)
    events = EnergyModel(name="events", spike_event_pj=1e9)
    spikes = sum(row.memory_mj for row in energy_table(profile.layers, events))
    assert spikes == pytest.approx(sum(site.spikes for site in profile.sites))
    encoder = nn.Sequential(neuron.IFNode(), nn.Linear(6, 2))
    assert updates(profile_energy(encoder, torch.rand(2, 6))) == 6


class Keeps(nn.Module):
    """Somebody's neurons, with their membrane in an attribute."""

    def __init__(self):
        super().__init__()
        self.v = torch.zeros(())

    def forward(self, x):
        self.v = self.v + x
        spikes = (self.v > 0.3).float()
        self.v = self.v - spikes
        return spikes


class Loops(nn.Module):
    """All steps in one call, the membrane a local variable."""

    def forward(self, x):
        v, fired = 0, []
        for current in x:
            v = v + current
            fired.append((v > 0.3).float())
            v = v * (1 - fired[-1])
        return torch.stack(fired)


class HandsOn(nn.Module):
    """The membrane goes out and in."""

    def forward(self, x):
        return (x > 0.3).float(), x


class Binarise(nn.Module):
    """No neurons: a threshold without a state."""

    def forward(self, x):
        return (x > 0.3).float()


@pytest.mark.parametrize("make", [Keeps, Loops, HandsOn, Binarise])
def test_what_only_behaves_like_neurons_is_named(make):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.wrapped, self.last = nn.Linear(4, 6), nn.Sequential(make()), nn.Linear(6, 2)
            nn.init.ones_(self.first.weight)

        def forward(self, x):
            y = self.wrapped(self.first(x))
            return self.last(y[0] if isinstance(y, tuple) else y)

    module, x = Network(), torch.rand(3, 2, 4)
    profile = profile_energy(module, x, time_first=True)
    expected = () if make is Binarise else (("wrapped.0", make.__name__),)
    assert profile.unrecognised == expected
    assert (f"Looks like neurons, not recognised: wrapped.0 ({make.__name__})" in str(profile)) == bool(
        expected
    )
    named = profile_energy(module, x, neurons=(make,), time_first=True)
    assert named.unrecognised == ()
    assert [(site.name, site.neurons, site.steps) for site in named.sites] == [("wrapped.0", 6, 3)]
    assert updates(named) == 6 * 3
    with pytest.raises(ProfilingError, match="nothing says whether the first axis is time"):
        profile_energy(module, x, neurons=(make,))


@pytest.mark.parametrize("container", ["linear", "elementwise", "filter"])
def test_recurrent_containers_of_spikingjelly_are_reset(container):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 6), neuron.LIFNode())
    part = {
        "linear": lambda: layer.LinearRecurrentContainer(body[1], 6, 6),
        "elementwise": lambda: layer.ElementWiseRecurrentContainer(body[1], lambda x, y: x + y),
        "filter": lambda: nn.Sequential(body[1], layer.SynapseFilter(tau=10.0)),
    }[container]()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.part, self.last = body[0], part, nn.Linear(6, 2)

        def forward(self, x):
            return sum(self.last(self.part(self.first(x))) for _ in range(3))

    module, x = Network(), 5 * torch.rand(2, 6)
    first = profile_energy(module, x)
    assert profile_energy(module, x) == first
    module(x)  # leaves states behind
    left = [value.clone() for value in states(module)]
    assert profile_energy(module, x) == first
    assert all(torch.equal(a, b) for a, b in zip(left, states(module), strict=True))


def states(module):
    return [
        value
        for part in module.modules()
        for value in getattr(part, "_memories", {}).values()
        if isinstance(value, torch.Tensor)
    ]


# ---------------------------------------------------------------------- other libraries


class Looped(nn.Module):
    """One layer and its neurons, called for each of four steps."""

    def __init__(self, neurons):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.neurons, self.last = nn.Linear(6, 8), neurons, nn.Linear(8, 3)

    def forward(self, x):
        return sum(self.last(self.neurons(5 * self.first(x))) for _ in range(4))


@pytest.mark.parametrize("kind", ["Leaky", "Lapicque", "Synaptic", "Alpha", "RLeaky", "RSynaptic"])
def test_neurons_of_snntorch(kind):
    snntorch = pytest.importorskip("snntorch")
    options = {
        "Leaky": {"beta": 0.9}, "Lapicque": {"beta": 0.5}, "Synaptic": {"alpha": 0.9, "beta": 0.8},
        "Alpha": {"alpha": 0.9, "beta": 0.8}, "RLeaky": {"beta": 0.9, "linear_features": 8},
        "RSynaptic": {"alpha": 0.9, "beta": 0.8, "linear_features": 8},
    }[kind]  # fmt: skip
    module = Looped(getattr(snntorch, kind)(init_hidden=True, threshold=0.2, **options))
    x = torch.rand(5, 6)
    profile = profile_energy(module, x)
    assert [(site.name, site.neurons, site.steps) for site in profile.sites] == [("neurons", 8, 4)]
    assert updates(profile) == 32
    assert profile_energy(module, x) == profile
    names = [one.name for one in profile.layers]
    assert names == ["first", *(["neurons.recurrent"] if kind.startswith("R") else []), "last"]


def test_networks_of_norse():
    norse = pytest.importorskip("norse.torch")
    module = norse.SequentialState(nn.Linear(6, 8), norse.LIF(), nn.Linear(8, 3), norse.LIF())
    profile = profile_energy(module, 9 * torch.rand(4, 5, 6))
    assert (profile.time_steps, profile.images) == (4, 5)
    assert [(site.neurons, site.steps) for site in profile.sites] == [(8, 4), (3, 4)]
    assert [(one.source, one.operations, one.repeats) for one in profile.layers] == [
        ("image", 48, 4), ("spikes", 24, 4)
    ]  # fmt: skip


def test_networks_of_sinabs():
    layers = pytest.importorskip("sinabs.layers")
    module = nn.Sequential(nn.Linear(6, 8), layers.IAF(), nn.Linear(8, 3), layers.IAF())
    x = 3 * torch.rand(5, 4, 6)
    profile = profile_energy(module, x)
    assert (profile.time_steps, profile.images) == (4, 5)
    assert profile.layers[1].input_sums == pytest.approx(profile.sites[0].step_spikes)
    assert profile_energy(module, x) == profile
    squeezed = nn.Sequential(
        nn.Conv2d(1, 2, 3), layers.IAFSqueeze(batch_size=5), nn.Flatten(), nn.Linear(32, 3)
    )
    profile = profile_energy(squeezed, torch.rand(20, 1, 6, 6))
    assert (profile.time_steps, profile.images) == (4, 5)
