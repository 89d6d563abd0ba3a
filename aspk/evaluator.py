"""Evaluating networks of a trained supernet: accuracy, operation counts and energy in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from aspk import cost
from aspk.config import SubnetConfig
from aspk.data import DataSet, Split
from aspk.energy import PAPER, EnergyModel, energy_mj
from aspk.errors import DataError
from aspk.metrics import LayerCount, LayerShape, Metrics
from aspk.settings import EvaluationSettings
from aspk.supernet import Spikformer, Supernet, calibrate
from aspk.supernet.counting import Counter


class SupernetEvaluator:
    """An :class:`~aspk.evaluation.Evaluator` on a supernet. The supernet is never changed.

    Args:
        supernet: the trained weights.
        data: the data set; the supernet's images must have its shape.
        settings: split, calibration and batches.
        energy_model: the account of ``Metrics.energy_mj``.

    Raises:
        DataError: the supernet was built for other images.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: DataSet,
        *,
        settings: EvaluationSettings | None = None,
        energy_model: EnergyModel = PAPER,
    ) -> None:
        if (supernet.shape, supernet.classes) != (data.shape, data.classes):
            raise DataError(
                f"the supernet takes {supernet.shape} images of {supernet.classes} classes, "
                f"{data.name} has {data.shape} and {data.classes}"
            )
        self.settings = settings or EvaluationSettings()
        self.supernet = supernet.eval()
        self.energy_model = energy_model
        self._device = next(supernet.parameters()).device
        whole, count = data.split(self.settings.split), self.settings.images
        self._split = Split(whole.images[:count], whole.labels[:count]).to(self._device)
        self._calibration = data.train.images[: self.settings.calibration_images].to(self._device)

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Metrics]:
        """Metrics of each network, from its own spikes after its own calibration.

        On a CPU several networks run at once on one thread each: their layers are too small for threads to
        help within one.
        """
        workers = torch.get_num_threads() if self._device.type == "cpu" else 1
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(self._evaluate, configs))

    def network(self, config: SubnetConfig) -> Spikformer:
        """One network as it is evaluated: a stand-alone copy with the statistics of the settings."""
        if self.settings.statistics == "running":
            return self.supernet.extract(config)
        if self.settings.statistics == "own":
            return calibrate(self.supernet.extract(config), self._calibration)
        longest = int(max(self.supernet.space.network["time_steps"]))
        statistics = self.supernet.calibrate(self._calibration, replace(config, time_steps=longest))
        return self.supernet.extract(config, statistics)

    def _evaluate(self, config: SubnetConfig) -> Metrics:
        batch_size, energy_model = self.settings.batch_size, self.energy_model
        return measure(self.network(config), self._split, batch_size=batch_size, energy_model=energy_model)


@torch.no_grad()
def measure(
    network: Spikformer, split: Split, *, batch_size: int = 256, energy_model: EnergyModel = PAPER
) -> Metrics:
    """Accuracy, counts and energy of a stand-alone network on a split.

    Args:
        network: in evaluation mode, on the split's device.
        split: images and labels.
        batch_size: images run at once.
        energy_model: the account of ``Metrics.energy_mj``.
    """
    shapes = cost.layer_shapes(network.config, network.settings, network.shape, network.classes)
    counter, hits = Counter(shapes), 0
    for start in range(0, len(split), batch_size):
        chunk = slice(start, start + batch_size)
        hits += int((network(split.images[chunk], counter).argmax(1) == split.labels[chunk]).sum())
    return metrics_of(shapes, counter.counts(), hits / len(split), energy_model)


def metrics_of(
    shapes: tuple[LayerShape, ...],
    layers: tuple[LayerCount, ...],
    accuracy: float,
    energy_model: EnergyModel,
) -> Metrics:
    """Put shapes, counts and accuracy together."""
    spikes = sum(layer.output_spikes for layer in layers)
    neuron_steps = sum(layer.output_size * layer.repeats for layer in layers)
    return Metrics(
        accuracy=accuracy,
        energy_mj=energy_mj(layers, energy_model),
        parameters=cost.parameters(shapes),
        operations=cost.operations(shapes),
        spikes=spikes,
        firing_rate=spikes / neuron_steps,
        layers=layers,
    )
