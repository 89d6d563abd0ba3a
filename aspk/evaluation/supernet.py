"""Evaluating networks of a trained supernet: accuracy, operation counts and energy in one pass."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from aspk.costs import cost
from aspk.data import DataSet, Split, network_input
from aspk.energy import PAPER, EnergyModel, energy_mj
from aspk.engines import Population, choose_engine
from aspk.errors import DataError
from aspk.evaluation.cache import ResultCache
from aspk.evaluation.code import code_hash
from aspk.evaluation.protocol import Progress
from aspk.families import Network, Supernet
from aspk.families.counting import Counter
from aspk.families.mode import evaluation_mode
from aspk.metrics import LayerCount, LayerShape, Metrics
from aspk.space.genes import SubnetConfig, check_network
from aspk.spec.settings import EngineSettings, EvaluationSettings


class SupernetEvaluator:
    """An :class:`~aspk.evaluation.protocol.Evaluator` on a supernet; neither its weights nor its mode change.

    Threads may share it; the native engine evaluates the networks of one after those of the other.

    Args:
        supernet: the trained weights.
        data: the data set; the supernet's images must have its shape.
        settings: split, calibration and batches; ``statistics = "auto"`` selects those that suit the
            supernet's recipe. The attribute ``settings`` holds what was selected.
        energy_model: the energy model of ``Metrics.energy_mj``.
        machine: what evaluations run on.
        cache: a folder for results, which several processes may share; None keeps them in memory.

    Raises:
        DataError: the supernet was built for other images.
        EngineError: the engine cannot run on the supernet's device.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: DataSet,
        *,
        settings: EvaluationSettings | None = None,
        energy_model: EnergyModel = PAPER,
        machine: EngineSettings | None = None,
        cache: Path | None = None,
    ) -> None:
        if (supernet.shape, supernet.classes) != (data.shape, data.classes):
            raise DataError(
                f"the supernet takes {supernet.shape} images of {supernet.classes} classes, "
                f"{data.name} has {data.shape} and {data.classes}"
            )
        self.settings = (settings or EvaluationSettings()).for_weights(supernet.recipe)
        self._machine = machine or EngineSettings()
        self.supernet = supernet
        self.energy_model = energy_model
        weights = next(supernet.parameters())
        self.engine = choose_engine(
            self._machine.name,
            device=weights.device,
            dtype=weights.dtype,
            memory=self._machine.memory,
            operations=supernet.program(supernet.space.largest).operations,
        )
        whole, count = data.split(self.settings.split), self.settings.images
        self._split = Split(whole.images[:count], whole.labels[:count]).to(weights.device)
        self._calibration = data.train.images[: self.settings.calibration_images].to(weights.device)
        self._folder = cache
        self._results: ResultCache | None = None

    @property
    def images(self) -> int:
        """Number of images that accuracies are measured on."""
        return len(self._split)

    def evaluate(self, configs: Sequence[SubnetConfig], progress: Progress | None = None) -> list[Metrics]:
        """Metrics of each network, from its own spikes after its own calibration.

        The networks run together, and what two of them share is computed once; the results are the same as if
        each were evaluated alone. What was evaluated before is not evaluated again.

        Args:
            configs: the networks.
            progress: called with the share of the images that they have processed.

        Raises:
            GenotypeError: a network cannot be built.
        """
        for config in configs:
            check_network(config, self.supernet.space.settings)
        known = self._cache()
        found = {config: known.get(config) for config in configs}
        fresh = [config for config, metrics in found.items() if metrics is None]
        for config, metrics in self._measure(fresh, progress or _silent).items():
            known.put(config, metrics)
            found[config] = metrics
        return [metrics for metrics in map(found.get, configs) if metrics is not None]

    def _measure(self, configs: Sequence[SubnetConfig], progress: Progress) -> dict[SubnetConfig, Metrics]:
        """For sequences, networks of different T see different frames: only those of one T run together."""
        groups: dict[int, list[SubnetConfig]] = {}
        for config in configs:
            groups.setdefault(config.time_steps if self._calibration.dim() == 5 else 0, []).append(config)
        found: dict[SubnetConfig, Metrics] = {}
        for steps, group in groups.items():
            part = _part(progress, before=len(found) / len(configs), share=len(group) / len(configs))
            found |= self._measure_together(group, steps, part)
        return found

    def _measure_together(
        self, configs: Sequence[SubnetConfig], steps: int, progress: Progress
    ) -> dict[SubnetConfig, Metrics]:
        population = Population(self.supernet, configs, self.engine, statistics=self.settings.statistics)
        longest = self.supernet.space.max_time_steps
        calibrated = longest if self.settings.statistics == "shared_time" else steps
        population.calibrate(network_input(self._calibration, calibrated))
        seen, images = len(self._calibration), len(self._calibration) + len(self._split)
        progress(seen / images)
        hits = dict.fromkeys(configs, 0)
        for part in self._split.batches(self._batch_size(population)):
            for config, logits in population.run(network_input(part.images, steps)).items():
                hits[config] += int((logits.argmax(1) == part.labels).sum())
            seen += len(part)
            progress(seen / images)
        return {
            config: metrics_of(
                population.shapes(config),
                population.counts(config),
                hits[config] / len(self._split),
                self.energy_model,
            )
            for config in configs
        }

    def _batch_size(self, population: Population) -> int:
        """Images per batch: limited by the settings, the memory and the engine's preference."""
        fitting = self._machine.memory // population.image_bytes()
        limits = (self.settings.batch_size, self.engine.images, fitting)
        return max(1, min(limits))

    def _cache(self) -> ResultCache:
        """The results so far; a new cache if the supernet's weights have changed."""
        context = self._context()
        if self._results is None or self._results.context != context:
            entries = self._machine.cache_entries
            self._results = ResultCache(self._folder, context=context, entries=entries)
        return self._results

    def _context(self) -> str:
        """A hash of all that a result depends on beyond its network."""
        hashed = self._fixed_context.copy()
        _add(hashed, self.supernet.state_dict().values())
        return hashed.hexdigest()[:32]

    @functools.cached_property
    def _fixed_context(self) -> hashlib._Hash:
        """The part of it that cannot change."""
        fixed = {**asdict(self.settings), **asdict(self.energy_model), "engine": self.engine.name}
        hashed = hashlib.sha256(
            code_hash(__name__) + self.supernet.space.fingerprint.encode() + repr(fixed).encode()
        )
        _add(hashed, (self._calibration, self._split.images, self._split.labels))
        return hashed

    def network(self, config: SubnetConfig) -> Network:
        """The network that is evaluated: a stand-alone copy with the statistics that the settings select."""
        kind = self.settings.statistics
        if kind == "running":
            return self.supernet.extract(config)
        steps = self.supernet.space.max_time_steps if kind == "shared_time" else config.time_steps
        images = network_input(self._calibration, steps)
        statistics = self.supernet.calibrate(images, replace(config, time_steps=steps))
        return self.supernet.extract(config, statistics)


@torch.no_grad()
def measure(
    network: Network, split: Split, *, batch_size: int = 256, energy_model: EnergyModel = PAPER
) -> Metrics:
    """Accuracy, counts and energy of a stand-alone network on a split.

    Args:
        network: on the split's device; runs in evaluation mode, and its own mode is restored.
        split: images and labels.
        batch_size: images run at once.
        energy_model: the energy model of ``Metrics.energy_mj``.
    """
    shapes = cost.layer_shapes(network.config, network.settings, network.shape, network.classes)
    counter, hits = Counter(shapes), 0
    with evaluation_mode(network):
        for part in split.batches(batch_size):
            images = network_input(part.images, network.config.time_steps)
            hits += int((network(images, counter).argmax(1) == part.labels).sum())
    return metrics_of(shapes, counter.counts(), hits / len(split), energy_model)


def metrics_of(
    shapes: tuple[LayerShape, ...],
    layers: tuple[LayerCount, ...],
    accuracy: float,
    energy_model: EnergyModel,
) -> Metrics:
    """Combine shapes, counts and accuracy."""
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


def _part(progress: Progress, *, before: float, share: float) -> Progress:
    """The progress of a part of the work, given what was done before it and its share of the whole."""
    return lambda done: progress(before + share * done)


def _silent(share: float) -> None:
    """A :data:`Progress` that does nothing."""


def _add(hashed: hashlib._Hash, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        hashed.update(repr((tensor.shape, tensor.dtype)).encode())
        hashed.update(tensor.detach().cpu().contiguous().numpy().data)
