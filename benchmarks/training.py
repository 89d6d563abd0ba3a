"""The training step against the same step on spikingjelly's layers.

The baseline is the same supernet, path, batch and loss, as a careful user of the libraries would write
it: each layer called on its own in PyTorch's default memory layout, batch normalisation as a layer behind it,
spikingjelly's multi-step LIFNode for every neuron, and the image repeated T times, so that the first
convolution runs at every step. What aspk does to a training step (channels last, matrix products by oneDNN,
kernels for neurons) is not in it. Linear layers are measured in both forms in use, ``nn.Linear`` over tokens
and, as in spikingjelly's own Spikformer, 1x1 convolutions over [T*B, D, L]; the ratio is to the faster form.

aspk's step is measured in float32, in float32 with a learnt time constant (PLIF) at every site and, where the
processor has units for it, in bfloat16 (``amp``); the baseline is in float32. All run in one process in
alternating order; figures are medians of the ratios within a round (above 1: aspk is faster).

At the end the families are compared with each other: a step of the same network, all blocks alike, in each of
them, as a ratio to Spikformer's step, beside the ratio of their dense operations.

    python benchmarks/training.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor

from aspk.costs import Cost
from aspk.engines.device import half_precision, hardware
from aspk.families import Supernet, layers
from aspk.space import SearchSpace
from aspk.space.file import load_space, space_from_dict
from aspk.space.genes import SubnetConfig

SETUPS = {  # space: image shape, batch size, rounds of steps, rounds with --quick
    "tiny": ((1, 8, 8), 64, 42, 12),
    "fashion_small": ((1, 28, 28), 64, 15, 5),
    "auto_spikformer": ((3, 32, 32), 4, 9, 3),
}

# The same network in each family: image shape, batch size, rounds of steps, rounds with --quick.
# It is the first space's reference, and the others are compared with that space.
FAMILIES = {
    ("fashion_small", "membrane_small"): ((1, 28, 28), 64, 21, 5),
    ("auto_spikformer", "spikingformer"): ((3, 32, 32), 4, 9, 3),
}


@lru_cache(maxsize=64)
def _node(tau: float, v_threshold: float, reset: str, decay_input: bool) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=tau,
        v_threshold=v_threshold,
        v_reset=0.0 if reset == "hard" else None,
        decay_input=decay_input,
        detach_reset=True,
        step_mode="m",
    )


def spikingjelly_lif(
    x: Tensor,
    *,
    tau: float,
    v_threshold: float,
    reset: str = "hard",
    decay_input: bool = True,
    reciprocal_tau: None = None,
) -> Tensor:
    """The neurons of the baseline."""
    node = _node(tau, v_threshold, reset, decay_input)
    node.reset()
    spikes: Tensor = node(x)
    return spikes


def spikingjelly_normalised_lif(
    y: Tensor, norm: torch.nn.Module, *, repeat: None = None, **kind: float | str
) -> Tensor:
    """Batch normalisation as a layer, then the neurons of the baseline."""
    if isinstance(norm, torch.nn.BatchNorm2d):
        return spikingjelly_lif(norm(y.flatten(0, 1)).reshape(y.shape), **kind)
    if y.is_contiguous():
        return spikingjelly_lif(norm(y.flatten(0, 2)).reshape(y.shape), **kind)
    maps = y.transpose(2, 3)  # as the 1x1 convolution wrote them: [T, B, D, L]
    return spikingjelly_lif(norm(maps.flatten(0, 1)).reshape(maps.shape), **kind).transpose(2, 3)


def plain_layer(x: Tensor, layer: torch.nn.Module) -> Tensor:
    """A linear layer or a convolution, called as a layer."""
    y: Tensor = layer(x)
    return y


def pointwise_convolution(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    """The linear layer as spikingjelly's Spikformer has it: a 1x1 convolution over [T*B, D, L]."""
    maps = x.flatten(0, 1).transpose(1, 2)
    y = F.conv1d(maps, layer.weight[:, :, None], layer.bias)
    return y.transpose(1, 2).unflatten(0, x.shape[:2])


BASELINES = {"linear": plain_layer, "conv1d": pointwise_convolution}


@contextmanager
def spikingjelly_layers(linear: str) -> Iterator[None]:
    """Run the network on the baseline's layers."""
    with (
        mock.patch.object(layers, "lif", spikingjelly_lif),
        mock.patch.object(layers, "normalised_lif", spikingjelly_normalised_lif),
        mock.patch.object(layers, "convolution", plain_layer),
        mock.patch.object(layers, "linear", BASELINES[linear]),
    ):
        yield


def with_neuron(space: SearchSpace, kind: str) -> SearchSpace:
    """The space with neurons of one kind."""
    data = space.to_json()
    for genes in (data["network"], data["reference"]):
        genes |= {name: [kind] if genes is data["network"] else kind for name in ("neuron", "stem_neuron")}
    return space_from_dict(data)


class Trainer:
    """One supernet in training: on aspk's layers, or on those of a baseline."""

    def __init__(
        self,
        space_name: str,
        *,
        baseline: str | None = None,
        half: bool = False,
        neuron: str = "lif",
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        batch: int | None = None,
    ) -> None:
        self.shape, self.batch, *_ = SETUPS[space_name]
        self.batch, self.device = batch or self.batch, device
        self.space = with_neuron(load_space(space_name), neuron)
        supernet = Supernet(self.space, shape=self.shape, classes=10, seed=0)
        self.supernet = supernet.to(device, dtype).train()
        self.optimizer = torch.optim.AdamW(self.supernet.parameters(), lr=1e-3, fused=True)
        self.baseline, self.half, self.dtype = baseline, half, dtype

    def step(self, number: int) -> tuple[float, float]:
        """One update; its loss and seconds."""
        rng = np.random.default_rng([7, number])
        images = torch.from_numpy(rng.normal(size=(self.batch, *self.shape))).to(self.device, self.dtype)
        labels = torch.from_numpy(rng.integers(0, 10, size=self.batch)).to(self.device)
        config: SubnetConfig = self.space.decode(self.space.sample_choices(1, rng)[0])
        config = replace(config, time_steps=self.space.reference.time_steps)
        start = time.perf_counter()
        if self.baseline:
            images = images.expand(config.time_steps, *images.shape).contiguous()
        with spikingjelly_layers(self.baseline) if self.baseline else nullcontext():
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = F.cross_entropy(self.supernet(images, config), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return loss.item(), time.perf_counter() - start


def measure(
    space_name: str, rounds: int, *, device: str = "cpu", batch: int | None = None
) -> dict[str, float]:
    """Ratios of the baselines' times to ours, and the largest difference between loss curves, in float32."""
    trainers: dict[str | None, Trainer] = {
        name: Trainer(space_name, baseline=name, device=device, batch=batch) for name in (None, *BASELINES)
    }
    if half_precision(torch.device(device)):
        trainers["half"] = Trainer(space_name, half=True, device=device, batch=batch)
    trainers["plif"] = Trainer(space_name, neuron="plif", device=device, batch=batch)
    seconds: dict[str | None, list[float]] = {name: [] for name in trainers}
    gaps = []
    for number in range(rounds + 1):
        first = number % len(trainers)  # who comes first builds the network's modules, and so for all
        order = [*trainers][first:] + [*trainers][:first]
        results = {name: trainers[name].step(number) for name in order}
        gaps += [abs(results[name][0] - results[None][0]) for name in BASELINES]
        for name, (_, taken) in results.items():
            seconds[name] += [taken] if number else []  # the first round warms up
    ratios = {
        name: [theirs / ours for ours, theirs in zip(seconds[None], seconds[name], strict=True)]
        for name in BASELINES
    }
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    faster = min(medians, key=medians.__getitem__)
    half = {
        f"half_{name}": statistics.median(a / b for a, b in zip(times, seconds["half"], strict=True))
        for name, times in (("float32", seconds[None]), ("spikingjelly", seconds[faster]))
        if "half" in seconds
    }
    learnt = (theirs / ours for ours, theirs in zip(seconds[None], seconds["plif"], strict=True))
    return {
        **half,
        "plif": statistics.median(learnt),
        "ratio": medians[faster],
        "ratio_low": min(ratios[faster]),
        "ratio_high": max(ratios[faster]),
        **{f"ratio_{name}": ratio for name, ratio in medians.items()},
        "step_ms": 1e3 * statistics.median(seconds[None]),
        "largest_loss_difference": max(gaps),
    }


def exact_difference(space_name: str, steps: int) -> float:
    """Largest difference of loss curves in float64, where rounding moves hardly any spike."""
    ours, *others = (Trainer(space_name, baseline=name, dtype=torch.float64) for name in (None, *BASELINES))
    losses = [ours.step(number)[0] for number in range(steps)]
    return max(abs(losses[number] - other.step(number)[0]) for other in others for number in range(steps))


def compare_families(
    spaces: Sequence[str], shape: tuple[int, int, int], batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Step times of the first space's reference network in each space, as ratios to the first's."""
    loaded = {name: load_space(name) for name in spaces}
    config = loaded[spaces[0]].reference
    supernets, optimizers = {}, {}
    for name, space in loaded.items():
        space.encode(config)  # raises unless the same network is in every space
        supernets[name] = Supernet(space, shape=shape, classes=10, seed=0).train()
        optimizers[name] = torch.optim.AdamW(supernets[name].parameters(), lr=1e-3, fused=True)
    seconds: dict[str, list[float]] = {name: [] for name in spaces}
    for number in range(rounds + 1):
        rng = np.random.default_rng([7, number])
        images = torch.from_numpy(rng.normal(size=(batch, *shape))).float()
        labels = torch.from_numpy(rng.integers(0, 10, size=batch))
        for name in [*spaces[number % len(spaces) :], *spaces[: number % len(spaces)]]:
            start = time.process_time()
            loss = F.cross_entropy(supernets[name](images, config), labels)
            optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
            optimizers[name].step()
            seconds[name] += [time.process_time() - start] if number else []  # the first round warms up
    operations = {
        name: Cost("operations", space, shape=shape, classes=10)(config) for name, space in loaded.items()
    }
    first = spaces[0]
    found = {}
    for name in spaces[1:]:
        ratios = [own / other for other, own in zip(seconds[first], seconds[name], strict=True)]
        found[name] = {
            "time": statistics.median(ratios),
            "time_low": min(ratios),
            "time_high": max(ratios),
            "operations": operations[name] / operations[first],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few steps, within a minute")
    parser.add_argument("--families", action="store_true", help="compare only the families with each other")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, object] = {"hardware": hardware("cpu"), "unit": half_precision(torch.device("cpu"))}
    print(f"{figures['hardware']}; for bfloat16: {figures['unit'] or 'no unit'}")
    setups = {} if options.families else SETUPS
    for name, (_, batch, rounds, quick_rounds) in setups.items():
        result = measure(name, quick_rounds if options.quick else rounds)
        result["largest_loss_difference_float64"] = exact_difference(name, 3 if name == "tiny" else 2)
        figures["paper" if name == "auto_spikformer" else name] = result
        print(
            f"{name}, batch {batch}: step {result['step_ms']:.0f} ms, {result['ratio']:.2f} times as fast as "
            f"on spikingjelly's layers ({result['ratio_low']:.2f} to {result['ratio_high']:.2f}; "
            f"nn.Linear {result['ratio_linear']:.2f}, 1x1 convolutions {result['ratio_conv1d']:.2f}); "
            f"largest loss difference {result['largest_loss_difference']:.1e}, "
            f"in float64 {result['largest_loss_difference_float64']:.1e}"
        )
        print(f"  with PLIFs {result['plif']:.2f} times as long")
        if "half_float32" in result:
            print(
                f"  in bfloat16 {result['half_float32']:.2f} times as fast as in float32, "
                f"{result['half_spikingjelly']:.2f} times as on spikingjelly's layers"
            )
    for spaces, (shape, batch, rounds, quick_rounds) in FAMILIES.items():
        found = compare_families(spaces, shape, batch, quick_rounds if options.quick else rounds)
        figures[f"families of {spaces[0]}"] = found
        for name, ratio in found.items():
            taken = f"{ratio['time']:.2f}"
            bounds = f"{ratio['time_low']:.2f} to {ratio['time_high']:.2f}"
            print(
                f"{name}, batch {batch}: a step of the same network takes {taken} times the processor "
                f"time of {spaces[0]}'s ({bounds}), for {ratio['operations']:.2f} times the operations"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
