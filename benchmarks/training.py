"""The training step against the same step on spikingjelly's layers.

The baseline is the same supernet, path, batch and loss, with spikingjelly's multi-step LIFNode for every
neuron and the image repeated T times, so that the first convolution runs at every step. Both run in one
process in alternating order; the figure is the median of the pairwise ratios (above 1: aspk is faster).

    python benchmarks/training.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor

from aspk.config import SubnetConfig
from aspk.space_file import load_space
from aspk.supernet import Supernet, spikformer

SETUPS = {  # space: image shape, batch size, pairs of steps, pairs with --quick
    "tiny": ((1, 8, 8), 64, 40, 12),
    "auto_spikformer": ((3, 32, 32), 4, 8, 2),
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
    x: Tensor, *, tau: float, v_threshold: float, reset: str = "hard", decay_input: bool = True
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
    axes = -4 if isinstance(norm, torch.nn.BatchNorm2d) else -2
    return spikingjelly_lif(norm(y.flatten(0, axes)).reshape(y.shape), **kind)


@contextmanager
def spikingjelly_neurons() -> Iterator[None]:
    """Run the network with the baseline's neurons."""
    own = spikformer.lif, spikformer.normalised_lif
    spikformer.lif, spikformer.normalised_lif = spikingjelly_lif, spikingjelly_normalised_lif
    try:
        yield
    finally:
        spikformer.lif, spikformer.normalised_lif = own


class Trainer:
    """One supernet in training."""

    def __init__(self, space_name: str, *, baseline: bool, dtype: torch.dtype = torch.float32) -> None:
        self.shape, self.batch, *_ = SETUPS[space_name]
        self.space = load_space(space_name)
        self.supernet = Supernet(self.space, shape=self.shape, classes=10, seed=0).to(dtype).train()
        self.optimizer = torch.optim.AdamW(self.supernet.parameters(), lr=1e-3, fused=True)
        self.baseline, self.dtype = baseline, dtype

    def step(self, number: int) -> tuple[float, float]:
        """One update; its loss and seconds."""
        rng = np.random.default_rng([7, number])
        images = torch.from_numpy(rng.normal(size=(self.batch, *self.shape))).to(self.dtype)
        labels = torch.from_numpy(rng.integers(0, 10, size=self.batch))
        config: SubnetConfig = self.space.decode(self.space.sample_choices(1, rng)[0])
        config = replace(config, time_steps=self.space.reference.time_steps)
        start = time.perf_counter()
        if self.baseline:
            images = images.expand(config.time_steps, *images.shape).contiguous()
        with spikingjelly_neurons() if self.baseline else nullcontext():
            loss = F.cross_entropy(self.supernet(images, config), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        return loss.item(), time.perf_counter() - start


def measure(space_name: str, pairs: int) -> dict[str, float]:
    """Ratio of the baseline's time to ours, and the largest difference between the two loss curves."""
    ours, theirs = Trainer(space_name, baseline=False), Trainer(space_name, baseline=True)
    ratios, gaps, times = [], [], []
    for number in range(pairs + 1):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        results = {id(trainer): trainer.step(number) for trainer in order}
        (loss, seconds), (other_loss, other_seconds) = results[id(ours)], results[id(theirs)]
        if number:  # the first pair warms up
            ratios.append(other_seconds / seconds)
            times.append(seconds)
        gaps.append(abs(loss - other_loss))
    return {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "step_ms": 1e3 * statistics.median(times),
        "largest_loss_difference": max(gaps),
    }


def exact_difference(space_name: str, steps: int) -> float:
    """Largest difference of the two loss curves in float64, where rounding moves no spike."""
    trainers = [Trainer(space_name, baseline=baseline, dtype=torch.float64) for baseline in (False, True)]
    return max(abs(trainers[0].step(number)[0] - trainers[1].step(number)[0]) for number in range(steps))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few steps, within a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = {}
    for name, (_, batch, pairs, quick_pairs) in SETUPS.items():
        result = measure(name, quick_pairs if options.quick else pairs)
        result["largest_loss_difference_float64"] = exact_difference(name, 3 if name == "tiny" else 2)
        figures["paper" if name == "auto_spikformer" else name] = result
        print(
            f"{name}, batch {batch}: step {result['step_ms']:.0f} ms, {result['ratio']:.2f} times as fast as "
            f"on spikingjelly's layers ({result['ratio_low']:.2f} to {result['ratio_high']:.2f}); "
            f"largest loss difference {result['largest_loss_difference']:.1e}, "
            f"in float64 {result['largest_loss_difference_float64']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
