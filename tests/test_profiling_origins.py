"""What a product reads is told by where its operands come from, not by the module it stands in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from aspk.energy import PAPER, STRICT, EnergyModel, energy_table
from aspk.profiling import profile_energy


class Layer(nn.Module):
    """A linear layer without bias whose weights are made in some way."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        weight = torch.randn(8, 8)
        if how in ("buffer", "masked buffer"):
            self.register_buffer("weight", weight)
        elif how == "attribute":
            self.values = weight
        else:
            self.weight = nn.Parameter(weight)
        flat = weight.clone()  # two parameters in one piece of memory, as cuDNN keeps them
        self.halves = nn.ParameterList([nn.Parameter(flat[:4]), nn.Parameter(flat[4:])])
        self.low, self.rank = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))
        self.register_buffer("mask", (torch.rand(8, 8) > 0.5).float())

    def make(self, x):
        if self.how == "attribute":
            return self.values
        if self.how == "quantised":
            scale = self.weight.abs().max() / 127
            return (self.weight / scale).round() * scale
        if self.how == "binarised":
            return torch.where(self.weight >= 0, 1.0, -1.0) * self.weight.abs().mean()
        if self.how == "standardised":
            return (self.weight - self.weight.mean(1, keepdim=True)) / self.weight.std(1, keepdim=True)
        if self.how == "concatenated":
            return torch.cat(list(self.halves))
        if self.how == "filled":
            weight = torch.empty(8, 8)
            weight[:4], weight[4:] = self.halves[0], self.halves[1]
            return weight
        if self.how == "low rank":
            return self.low @ self.rank
        if self.how == "half precision":
            return self.weight.bfloat16().float()
        if self.how in ("masked", "masked buffer"):
            return self.weight * self.mask
        return self.weight

    def forward(self, x):
        return F.linear(x, self.make(x))


WAYS = """parameter, buffer, attribute, quantised, binarised, standardised, concatenated, filled, low rank,
    half precision, masked, masked buffer""".replace("\n   ", "").split(", ")


@pytest.mark.parametrize("how", WAYS)
def test_weights_are_weights_however_they_are_made(how):
    x = (torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    profile = profile_energy(nn.Sequential(Layer(how), neuron.IFNode(), Layer(how)), x)
    assert [layer.kind for layer in profile.layers] == ["linear", "linear"]
    assert [layer.source for layer in profile.layers] == ["spikes", "spikes"]
    assert profile.layers[0].input_sums == (float(x.sum()) / 4,)
    held = {"buffer": 0, "attribute": 0, "masked buffer": 0, "low rank": 32}.get(how, 64)
    assert [layer.parameters for layer in profile.layers] == [held, held]
    assert [count for _, count in profile.offline] == ([1, 1] if how == "low rank" else [])


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.again = nn.Parameter(torch.rand(8, 6)), nn.Parameter(torch.rand(8, 8))
        self.first, self.second = neuron.LIFNode(), neuron.LIFNode()

    def forward(self, x):
        return sum(self.second(F.linear(self.first(F.linear(x, self.w)), self.again)) for _ in range(4))


def test_functional_weights_in_a_loop_over_time():
    first, second = profile_energy(Loop(), torch.rand(2, 6)).layers
    assert (first.name, first.source, first.operations, first.repeats, first.runs) == ("w", "image", 48, 4, 4)
    assert (second.name, second.source, second.repeats) == ("again", "spikes", 4)
    mac = sum(bill.mac for bill in energy_table([first, second]))
    assert mac == 4 * 48


def test_attention_in_a_loop_over_time_is_one_operation():
    class Steps(nn.Module):
        def forward(self, x):
            return torch.stack([(q @ q.mT) @ q for q in x])

    x = (torch.rand(4, 2, 5, 3) > 0.5).float()
    profile = profile_energy(Steps(), x, time_first=True)
    assert [(one.name, one.repeats, one.operations) for one in profile.layers] == [
        ("Steps.product.1", 4, 75),
        ("Steps.product.2", 4, 75),
    ]


def test_one_layer_for_the_image_and_for_spikes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.neurons = nn.Linear(6, 6, bias=False), neuron.IFNode(v_threshold=0.1)

        def forward(self, x):
            return self.layer(self.neurons(self.layer(x)))

    image, events = profile_energy(Twice(), torch.rand(2, 6)).layers
    assert (image.source, events.source) == ("image", "spikes")
    assert (image.parameters, events.parameters) == (36, 0)
    bills = energy_table([image, events], EnergyModel(first_layer_repeats="1"))
    assert (bills[0].mac, bills[0].ac, bills[1].mac) == (36, 0, 0)
    assert bills[1].ac == pytest.approx(sum(events.input_sums) * 6)


def test_every_layer_on_the_image_reads_the_image():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.a(x / 255) + self.b(F.pad(x, (1, 0)))[..., 1:]

    x = torch.randint(0, 256, (2, 3, 8, 8)).float()
    assert [layer.source for layer in profile_energy(Two(), x).layers] == ["image", "image"]


@pytest.mark.parametrize("repeat", ["repeat", "expand", "stack", "cat", "index"])
def test_an_image_that_is_repeated_is_not_run_once(repeat):
    class Repeats(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.neurons = nn.Linear(6, 6), neuron.IFNode(step_mode="m")

        def forward(self, x):  # [B, L, D]
            many = {
                "repeat": lambda: x.repeat(4, 1, 1, 1),
                "expand": lambda: x.expand(4, *x.shape),
                "stack": lambda: torch.stack([x] * 4),
                "cat": lambda: torch.cat([x[None]] * 4),
                "index": lambda: x[None].repeat_interleave(4, 0),
            }[repeat]()
            return self.neurons(self.layer(many))

    (count,) = profile_energy(Repeats(), torch.rand(4, 5, 6)).layers
    assert (count.operations, count.repeats, count.runs) == (5 * 36, 4, 4)


def test_tokens_are_not_steps():
    """An image of 16 tokens read once is one step of 16 tokens, not 4 of 4, whatever the batch."""

    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.neurons = nn.Linear(6, 6), neuron.IFNode(step_mode="m")

        def forward(self, x):
            return self.neurons(self.layer(x).expand(4, *x.shape))

    (count,) = profile_energy(Once(), torch.rand(4, 16, 6), time_first=False).layers
    assert (count.operations, count.repeats, count.runs) == (16 * 36, 4, 1)
    assert sum(bill.mac for bill in energy_table([count])) == 4 * 16 * 36
    assert sum(b.mac for b in energy_table([count], EnergyModel(first_layer_repeats="as_run"))) == 16 * 36


def test_integer_queries_keys_and_values_are_multiplied_under_the_dense_account():
    q = torch.tensor([[[0.0, 2.0], [3.0, 1.0]]])

    class Product(nn.Module):
        def forward(self, x):
            y = (x * 3).round() * 1.0
            return y @ y.mT

    (count,) = profile_energy(nn.Sequential(nn.Linear(2, 2), Product()), q / 3).layers[1:]
    assert count.kind == "attention"
    if count.source == "residual":
        assert energy_table([count], STRICT)[0].mac == count.operations * count.repeats
        assert energy_table([count], PAPER)[0].mac == 0
    else:
        assert count.source == "spikes"


def test_a_state_of_zeros_is_a_state():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u = nn.Linear(4, 3, bias=False), nn.Linear(3, 3, bias=False)

        def forward(self, x):  # [T, B, D]
            h = torch.zeros(x.shape[1], 3)
            for step in x:
                h = torch.tanh(self.w(step) + self.u(h))
            return h

    layers = {
        one.name: one for one in profile_energy(Recurrent(), torch.randn(5, 2, 4), time_first=True).layers
    }
    w, u = layers["w"], layers["u"]
    assert (w.operations, w.repeats, w.source) == (12, 5, "image")
    assert (u.operations, u.repeats, u.source) == (9, 5, "analog")


def test_values_filled_outside_of_torch_are_activations():
    """A kernel of one's own that writes into fresh memory: nobody sees where its values come from."""

    class Kernel(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5, bias=False)

        def forward(self, x):
            memory = torch.empty_like(x)
            memory.numpy()[:] = (x > 0).numpy()
            return self.layer(memory)

    (count,) = profile_energy(Kernel(), torch.randn(2, 6)).layers
    assert (count.kind, count.source, count.operations) == ("linear", "spikes", 30)


def test_a_module_that_ignores_its_input_is_refused():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return self.a @ self.b

    with pytest.raises(Exception, match="depends on its input"):
        profile_energy(Constant(), torch.ones(2, 3))
