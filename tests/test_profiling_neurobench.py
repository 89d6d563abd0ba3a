"""NeuroBench's metrics: by hand, and to the digit those of the package where it is installed."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from aspk.energy import PRESETS
from aspk.families.random_weights import calibrated_random_network
from aspk.profiling import profile_energy
from aspk.space.file import load_space


def test_metrics_by_hand():
    """Inputs (0.5, 0, 2) and (0, 1, 1) times weights of which half are 0; then spikes."""
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]))
        module[0].bias.copy_(torch.tensor([0.0, -4.0]))
        module[2].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    x = torch.tensor([[0.5, 0.0, 2.0], [0.0, 1.0, 1.0]])
    found = profile_energy(module, x).neurobench
    # first layer: 0.5 meets one weight, 2 two; 1 meets none and 1 two; behind it (4.5, 2) and (2, 0)
    assert (found.effective_macs, found.effective_acs) == ((3 + 2 + 3 + 2) / 2, 0.0)
    assert found.activation_sparsity == 1 / 4
    assert found.connection_sparsity == 0.4  # 3 of 6, and 1 of 4
    assert found.footprint == 4 * (6 + 2 + 4 + 2)
    signs = profile_energy(module, torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]))
    assert signs.neurobench.effective_acs == (3 + 2) / 2
    bill = PRESETS["neurobench"]
    expected = 4.6 * signs.neurobench.effective_macs + 0.9 * signs.neurobench.effective_acs
    assert signs.energy_mj(bill) == pytest.approx(expected * 1e-9)


def pruned(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(torch.rand_like(parameter) > 0.3)
    return module


class Steps(nn.Module):
    """A network over four steps that starts afresh at each call."""

    def __init__(self, body, restart):
        super().__init__()
        self.body, self.restart = body, restart

    def forward(self, x):
        self.restart(self.body)
        return sum(self.body(x) for _ in range(4))


def spikingjelly():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), neuron.LIFNode(v_threshold=0.1),
        nn.Conv2d(4, 4, 3, stride=2, groups=2), neuron.LIFNode(v_threshold=0.1),
        nn.Flatten(), nn.Linear(36, 5), neuron.LIFNode(v_threshold=0.1),
    )  # fmt: skip
    return Steps(pruned(body), functional.reset_net), [neuron.BaseNode], {}


def restart(body):
    for neurons in (body[2], body[4]):
        neurons.reset_mem()


def snntorch():
    library = pytest.importorskip("snntorch")
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), library.Leaky(beta=0.9, init_hidden=True, threshold=0.2),
        nn.Linear(32, 10), library.Leaky(beta=0.9, init_hidden=True, threshold=0.2),
    )  # fmt: skip
    return Steps(pruned(body), restart), [library.SpikingNeuron], {}


def without_spikes():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.Sigmoid(), nn.Linear(16, 3)
    )
    return pruned(body), [], {}  # fmt: skip


def ours():
    space = load_space("tiny")
    network, _ = calibrated_random_network(space.reference, space.settings, shape=(1, 8, 8), classes=10)
    return nn.Sequential(pruned(network)), [], {"time_steps": 4}


@pytest.mark.parametrize("make", [spikingjelly, snntorch, without_spikes, ours])
def test_the_packages_own_numbers(make):
    """To the digit: no tolerance."""
    pytest.importorskip("neurobench")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel
    from torch.utils.data import DataLoader, TensorDataset

    network, activations, options = make()
    network.eval()
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = profile_energy(network, x, **options).neurobench
    model = TorchModel(network)
    for activation in activations:
        model.add_activation_module(activation)
    loader = DataLoader(TensorDataset(x, torch.zeros(6)), batch_size=6)
    metrics = [[Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    with torch.no_grad():
        theirs = Benchmark(model, loader, [], [], metrics).run(quiet=True)
    assert found.footprint == theirs["Footprint"]
    assert found.connection_sparsity == theirs["ConnectionSparsity"]
    assert found.activation_sparsity == theirs["ActivationSparsity"]
    assert found.effective_macs == theirs["SynapticOperations"]["Effective_MACs"]
    assert found.effective_acs == theirs["SynapticOperations"]["Effective_ACs"]
    assert found.effective_macs + found.effective_acs > 0
