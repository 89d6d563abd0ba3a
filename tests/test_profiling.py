"""profile_energy against hand-computed layers, brute force, spikingjelly's counter and our own account."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, op_counter
from spikingjelly.activation_based.model import spikformer as spikingjelly_spikformer
from torch import nn

import aspk
from aspk.energy import PAPER, STRICT, EnergyModel, energy_mj
from aspk.errors import ProfilingError
from aspk.families.random_weights import calibrated_random_network
from aspk.profiling import profile_energy
from aspk.space.file import load_space

PJ = 1e-9  # mJ


def spikes(*shape, rate=0.3, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def test_one_linear_layer_by_hand():
    """Two images, 3 and 1 spikes, 5 outputs: 2 spikes times 5 accumulates for an image on average."""
    x = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    profile = profile_energy(nn.Sequential(nn.Linear(4, 5)), x)
    (count,) = profile.layers
    assert (count.name, count.kind, count.source) == ("0", "linear", "spikes")
    assert (count.operations, count.repeats, count.input_size, count.parameters) == (20, 1, 4, 25)
    assert (count.input_sums, count.exact_operations) == ((2.0,), 10.0)
    assert profile.energy_mj() == pytest.approx(10 * 0.9 * PJ)
    assert (profile.parameters, profile.time_steps, profile.images) == (25, 1, 2)


def test_analogue_input_is_multiplied():
    x = torch.tensor([[0.5, 1.0, 1.0, 0.0]])
    profile = profile_energy(nn.Linear(4, 5), x)
    assert profile.layers[0].source == "image"
    assert profile.energy_mj() == pytest.approx(20 * 4.6 * PJ)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(2, 3, 2, dilation=2),
        nn.Conv2d(2, 3, (1, 3), padding=(0, 2)),
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(2, 4, 2, groups=2),
    ],
    ids=str,
)
def test_a_convolutions_exact_operations_event_by_event(conv):
    """Each event alone through a convolution of ones: the outputs that it reaches."""
    x = spikes(2, 2, 6, 5)
    ones = type(conv)(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=False,
        **({"output_padding": conv.output_padding} if isinstance(conv, nn.ConvTranspose2d) else {}),
    )
    nn.init.ones_(ones.weight)
    reached, everywhere = 0, 0
    with torch.no_grad():
        for index in torch.ones_like(x).nonzero().tolist():
            one = torch.zeros_like(x)
            one[tuple(index)] = 1
            outputs = int(ones(one).count_nonzero())
            reached += outputs * int(x[tuple(index)])
            everywhere += outputs
    (count,) = profile_energy(conv, x).layers
    assert count.exact_operations == pytest.approx(reached / 2)
    assert count.source == "spikes"
    assert sum(count.input_sums) == pytest.approx(float(x.sum()) / 2)
    assert count.operations >= everywhere / 2  # dense operations count the padding too
    if conv.padding == (0, 0):
        assert count.operations == everywhere / 2


def test_integers_are_events_or_dense_as_the_model_says():
    x = torch.cat([torch.full((1, 4), 0.5), torch.tensor([[0.0, 2.0, 1.0, -3.0]])])
    module = nn.Sequential(nn.Linear(4, 4, bias=False), Integers(), nn.Linear(4, 5))
    first, second = profile_energy(module, x).layers
    assert (first.source, second.source) == ("image", "residual")
    assert second.input_sums == (3.0,)  # |0| + |2| + |1| + |-3| over two images
    assert energy_mj([second], PAPER) == pytest.approx(15 * 0.9 * PJ)
    assert energy_mj([second], STRICT) == pytest.approx(20 * 4.6 * PJ)


class Integers(nn.Module):
    def forward(self, x):
        return 0 * x + torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, -3.0]])


class Attention(nn.Module):
    """q kᵀ and (q kᵀ) v of spikes [B, 3, heads, tokens, width], written in several ways."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        q, k, v = x.unbind(1)
        if self.form == "einsum":
            scores = torch.einsum("bhid,bhjd->bhij", q, k)
            return torch.einsum("bhij,bhjd->bhid", scores * 0.125, v)
        if self.form == "matmul":
            return torch.matmul(q, k.transpose(-2, -1)) * 0.125 @ v
        if self.form == "fused":
            return F.scaled_dot_product_attention(q, k, v)
        return torch.baddbmm(
            torch.zeros(6, 5, 4), torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT), v.flatten(0, 1)
        )


@pytest.mark.parametrize("form", ["einsum", "matmul", "bmm", "fused"])
def test_products_of_activations_are_found_in_any_form(form):
    x = torch.stack([spikes(2, 3, 5, 4, seed=seed) for seed in range(3)], 1)
    q, k, v = x.unbind(1)
    qk, av = profile_energy(Attention(form), x, time_first=False).layers
    pairs = sum(
        float(q[b, h, i] @ k[b, h, j]) for b in range(2) for h in range(3) for i in range(5) for j in range(5)
    )
    assert {qk.kind, av.kind} == {"attention"}
    assert qk.operations == av.operations == 3 * 5 * 5 * 4
    assert qk.exact_operations == pytest.approx(pairs / 2)
    assert energy_mj([qk]) == pytest.approx(float(q.sum()) * 5 / 2 * 0.9 * PJ)
    assert energy_mj([av]) == pytest.approx(float(v.sum()) * 5 / 2 * 0.9 * PJ)


def test_a_network_of_ours_gets_the_same_bill_through_hooks():
    """Wrapped, it is a module like any other; its layers are then found, not told."""
    space = load_space("tiny")
    network, x = calibrated_random_network(
        space.reference, space.settings, shape=(1, 16, 16), classes=10, seed=1, images=3
    )
    told, found = profile_energy(network, x), profile_energy(nn.Sequential(network), x, time_steps=4)
    assert len(told.layers) == len(found.layers) == 22
    accounts = [PAPER, STRICT, EnergyModel(padding="exact", attention="exact", first_layer_repeats="1")]
    for own, other in zip(told.layers, found.layers, strict=True):
        assert own.operations * own.repeats == other.operations * other.repeats
        assert own.input_sums == pytest.approx(other.input_sums, rel=1e-4)
        for model in accounts:
            assert energy_mj([own], model) == pytest.approx(energy_mj([other], model), rel=1e-5), own.name
    assert told.parameters == found.parameters
    assert [site.spikes for site in told.sites] == [
        one.output_spikes for one in told.layers if one.output_size
    ]


def random_spiking_network(seed, step_mode="m"):
    """Convolutions and linear layers without biases, of random sizes, that all read 0/1 spikes."""
    torch.manual_seed(seed)
    width, hidden, stride, padding = (int(torch.randint(1, high, ())) for high in (6, 9, 3, 3))
    side = (7 + 2 * padding - 3) // stride + 1
    network = nn.Sequential(
        layer.Conv2d(2, width, 3, stride=stride, padding=padding, bias=False),
        neuron.IFNode(v_threshold=0.2),
        layer.Conv2d(width, 3, 3, padding=1, bias=False),
        neuron.LIFNode(v_threshold=0.1),
        layer.Flatten(),
        layer.Linear(3 * side * side, hidden, bias=False),
        neuron.LIFNode(v_threshold=0.1),
        layer.Linear(hidden, 3, bias=False),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05)
    functional.set_step_mode(network, step_mode)
    return network


@pytest.mark.parametrize("seed", range(5))
def test_exact_operations_are_those_of_spikingjellys_counter(seed):
    network, x = random_spiking_network(seed), spikes(4, 2, 2, 7, 7, seed=seed)
    profile = profile_energy(network, x)
    counter = op_counter.SynOpCounter()
    functional.reset_net(network)
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        network(x)
    exact = EnergyModel(padding="exact")
    assert [one.source for one in profile.layers] == ["spikes"] * 4
    assert all(sum(one.input_sums) for one in profile.layers)
    assert sum(one.exact_operations for one in profile.layers) * 2 == pytest.approx(counter.get_total())
    assert profile.energy_mj(exact) == pytest.approx(counter.get_total() / 2 * 0.9 * PJ)
    assert profile.energy_mj(exact) < profile.energy_mj(PAPER)


class StepByStep(nn.Module):
    """The same network called once for each step."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return torch.stack([self.network(step) for step in x])


@pytest.mark.parametrize("seed", range(3))
def test_step_by_step_is_counted_as_all_steps_at_once(seed):
    x = spikes(4, 2, 2, 7, 7, seed=seed)
    together = profile_energy(random_spiking_network(seed), x)
    apart = profile_energy(StepByStep(random_spiking_network(seed, "s")), x)
    assert together.time_steps == apart.time_steps == 4
    for one, other in zip(together.layers, apart.layers, strict=True):
        assert other == dataclasses.replace(one, name=f"network.{one.name}")


def test_neurons_belong_to_the_layer_before_them():
    network, x = random_spiking_network(1), spikes(4, 2, 2, 7, 7)
    fired = {}
    for name, module in network.named_modules():
        if isinstance(module, neuron.BaseNode):
            module.register_forward_hook(lambda _, __, y, name=name: fired.update({name: y}))
    profile = profile_energy(network, x)
    sites = {site.name: site for site in profile.sites}
    assert set(sites) == set(fired) == {"1", "3", "6"}
    for name, y in fired.items():
        before = {"1": "0", "3": "2", "6": "5"}[name]
        (count,) = (one for one in profile.layers if one.name == before)
        assert sites[name].firing_rate == pytest.approx(float(y.mean())) == count.firing_rate_out
        assert count.output_size == y[0, 0].numel()
        assert count.output_sums == pytest.approx([float(step.sum()) / 2 for step in y])
    assert profile.layers[-1].output_size == 0


def test_spikingjellys_spikformer():
    torch.manual_seed(0)
    network = spikingjelly_spikformer.Spikformer(
        T=3, img_size_h=16, img_size_w=16, patch_size=4, in_channels=3, num_classes=5, embed_dims=32,
        num_heads=4, mlp_ratio=2, depths=2,
    )  # fmt: skip
    x = torch.randn(4, 3, 16, 16)
    silent = profile_energy(network.eval(), x)
    assert "No neuron fired" in str(silent)
    assert silent.energy_mj() == pytest.approx(3 * 16 * 16 * 4 * 27 * 4.6 * PJ)  # the first convolution
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(x)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.bias.data += 0.7
    functional.reset_net(network)
    profile = profile_energy(network, x)
    counts = {count.name: count for count in profile.layers}
    assert profile.time_steps == 3
    assert [count.source for count in profile.layers][:2] == ["image", "spikes"]
    assert counts["head"].kind == "head"
    assert counts["head"].repeats == 3  # theirs classifies each step and takes the mean of the logits
    assert {n: c.kind for n, c in counts.items() if "product" in n} == {
        f"blocks.{block}.attn.product.{index}": "attention" for block in (0, 1) for index in (1, 2)
    }
    assert counts["blocks.0.attn.qkv_conv_bn.0"].source == "residual"
    assert counts["blocks.0.attn.product.2"].output_size == 32 * 16  # the attention neurons
    assert sum(site.spikes for site in profile.sites) == pytest.approx(
        sum(count.output_spikes for count in profile.layers)
    )
    assert profile.energy_mj(STRICT) > profile.energy_mj() > silent.energy_mj()


class Threshold(nn.Module):
    """Somebody's own neuron."""

    def forward(self, x):
        return (x > 0).float(), x


class First(nn.Module):
    def forward(self, pair):
        return pair[0]


def test_neurons_of_ones_own():
    module = nn.Sequential(nn.Linear(4, 6), Threshold(), First(), nn.Linear(6, 2))
    assert profile_energy(module, torch.randn(3, 4)).sites == ()
    profile = profile_energy(module, torch.randn(3, 4), neurons=(Threshold,))
    assert [(site.name, site.neurons, site.steps) for site in profile.sites] == [("1", 6, 1)]
    assert profile.layers[0].output_size == 6


def test_the_module_is_left_as_it_was():
    network, x = random_spiking_network(0).train(), spikes(4, 2, 2, 7, 7)
    network[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = network(x)
    functional.reset_net(network)
    first = profile_energy(network, x)
    assert [module.training for module in network] == [False] + [True] * 7
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(network(x), expected)
    functional.reset_net(network)
    assert profile_energy(network, x) == first
    with torch.inference_mode():
        assert profile_energy(network, x) == first


def test_hooks_go_away_when_the_module_fails():
    network = random_spiking_network(0)
    with pytest.raises(RuntimeError):
        profile_energy(network, spikes(4, 2, 9, 7, 7))
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


def test_what_cannot_be_profiled_is_refused():
    with pytest.raises(ProfilingError, match="ran no convolution"):
        profile_energy(nn.ReLU(), torch.ones(2, 3))
    with pytest.raises(ProfilingError, match=r"shape \(0, 3\)"):
        profile_energy(nn.Linear(3, 3), torch.ones(0, 3))
    with pytest.raises(
        ProfilingError, match=r"shape \(4, 2, 3\), time_first = True, time_steps = 3, which do not fit"
    ):
        profile_energy(nn.Linear(3, 3), torch.ones(4, 2, 3), time_first=True, time_steps=3)


def test_it_is_a_public_name():
    assert aspk.profile_energy is profile_energy


def test_runs_on_the_device(device):
    network, x = random_spiking_network(0), spikes(4, 2, 2, 7, 7)
    on_cpu = profile_energy(network, x)
    there = profile_energy(network.to(device), x.to(device))
    assert there.energy_mj() == pytest.approx(on_cpu.energy_mj(), rel=0.05)


def test_every_batch_normalisation_is_billed_where_an_account_bills_it():
    """Two values' worth of MACs for each value, in a shortcut without neurons of its own too."""

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 3, 3, bias=False), nn.Conv2d(1, 3, 3, bias=False)
            self.normalise, self.again = nn.BatchNorm2d(3), nn.GroupNorm(1, 3)
            self.neurons = neuron.IFNode()

        def forward(self, x):
            return self.neurons(self.normalise(self.a(x)) + self.again(self.b(x)))

    profile = profile_energy(Shortcut(), torch.rand(2, 1, 6, 6))
    assert [one.normalised_size for one in profile.layers] == [48, 48]
    extra = profile.energy_mj(EnergyModel(normalisation="billed")) - profile.energy_mj()
    assert extra == pytest.approx(2 * 2 * 48 * 4.6 * PJ)
