"""Eight networks under every account: the table of docs/energy.md.

    .venv/bin/python benchmarks/energy_accounts.py

Small ones with random weights, so that it takes seconds; batch normalisation is calibrated and shifted until
all fire. snnTorch and norse are needed for two of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import (
    maxformer,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
)
from torch import Tensor, nn

import aspk

STEPS = 4


def ready(network: nn.Module, x: Tensor) -> nn.Module:
    """A network that fires: calibrated on x, its currents shifted by half a deviation."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            module.bias.data += 0.5
    with torch.no_grad():
        network.train()(x)
    functional.reset_net(network)
    return network.eval()


class SnnTorch(nn.Module):
    """A convolution and a linear layer over ten steps."""

    def __init__(self) -> None:
        import snntorch

        super().__init__()
        options = {"beta": 0.9, "init_hidden": True, "threshold": 0.3}
        self.conv, self.first = nn.Conv2d(1, 8, 5), snntorch.Leaky(**options)
        self.linear, self.second = nn.Linear(1152, 10), snntorch.Leaky(**options)

    def forward(self, x: Tensor) -> Tensor:
        spikes = 0
        for _ in range(10):
            maps = nn.functional.max_pool2d(self.first(self.conv(x)), 2)
            spikes = spikes + self.second(self.linear(maps.flatten(1)))
        return spikes


class Recurrent(nn.Module):
    """An LSTM over the rows of an image: no spikes at all."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def norse_network() -> nn.Module:
    import norse.torch as norse

    return norse.SequentialState(nn.Linear(700, 128), norse.LIF(), nn.Linear(128, 20), norse.LIF())


def resnet(frames: Tensor) -> nn.Module:
    network = sew_resnet.sew_resnet18(spiking_neuron=neuron.IFNode, cnf="ADD", num_classes=10)
    functional.set_step_mode(network, "m")
    return ready(network, frames)


def networks() -> dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, Any]]]:
    """What is profiled, on what, and with which options."""
    x = torch.randn(4, 3, 32, 32)
    frames, events = x.repeat(STEPS, 1, 1, 1, 1), (torch.rand(50, 4, 700) < 0.05).float()
    common = {"T": STEPS, "num_classes": 10}
    size = {"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "in_channels": 3}
    small = {"embed_dims": 64, "num_heads": 4, "mlp_ratio": 2, "depths": 2}
    stages = {"embed_dims": 96, "depths": (1, 1, 1)}
    transformer = spike_driven_transformer.SpikeDrivenTransformer
    return {
        "Spikformer": (lambda: ready(spikformer.Spikformer(**common, **size, **small), x), x, {}),
        "SDT": (lambda: ready(transformer(**common, **small), x), x, {}),
        "QKFormer": (lambda: ready(qkformer.QKFormer(**common, **stages, num_heads=(1, 2, 4)), x), x, {}),
        "Max-Former": (lambda: ready(maxformer.MaxFormer(**common, **stages, cifar=True), x), x, {}),
        "SEW-ResNet18": (lambda: resnet(frames), frames, {}),
        "snnTorch": (SnnTorch, torch.rand(4, 1, 28, 28), {}),
        "norse": (norse_network, events, {}),
        "LSTM": (Recurrent, torch.rand(4, 28, 28), {"time_first": False}),
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    found = {}
    for name, (make, x, options) in networks().items():
        profile = aspk.profile_energy(make(), x, **options)
        left_out = [one.operator for one in profile.not_counted], profile.unrecognised
        print(f"{name}: {profile.layout}; not counted, not recognised: {left_out}")
        found[name] = {total.name: total.mj for total in profile.compare().totals}
    print("\n| account, µJ | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for account in next(iter(found.values())):
        bills = [totals[account] for totals in found.values()]
        cells = ["–" if mj is None else f"{1e3 * mj:.4g}" for mj in bills]
        print(f"| `{account}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
