"""Where a network's operation counts come from: a trial, an exported model, weights, or a random network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from optuna.study import Study
from optuna.trial import TrialState
from torch import Tensor, nn

from aspk.costs import cost
from aspk.data import load_data, network_input
from aspk.energy import AccountTotal, Comparison, EnergyModel, compare
from aspk.engines.device import resolve_device
from aspk.errors import AspkError, CheckpointError, GenotypeError, StudyError
from aspk.evaluation.supernet import SupernetEvaluator, measure
from aspk.families.counting import Counter
from aspk.families.random_weights import calibrated_random_network
from aspk.metrics import LayerCount, Metrics
from aspk.profiling import profile_energy
from aspk.profiling.op_counter import op_counter_totals, unknown_totals
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import DataSettings, EvaluationSettings, SplitName
from aspk.standalone.export import data_of, load_exported
from aspk.training.checkpoint import load_supernet
from aspk.trials.attributes import metrics_of
from aspk.util.files import read_text
from aspk.util.records import read_json

_IMAGES = 32  # number on which spikingjelly's accounts run, and those that skip zeros


@dataclass(frozen=True, kw_only=True)
class NetworkAccount:
    """One network's counts, and on what they were counted.

    Attributes:
        title: names the network.
        layers: its counts.
        details: further facts for the record, plain JSON values.
        run: the network and some of the images, where available.
        run_on: these images, in words, if they are fewer than those of the counts.
    """

    title: str
    layers: tuple[LayerCount, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    run: tuple[nn.Module, Tensor] | None = field(default=None, repr=False, compare=False)
    run_on: str = ""

    def compare(self, models: Sequence[EnergyModel] = ()) -> Comparison:
        """The network under every account: presets, ``models``, and spikingjelly's if the network can run."""
        steps = max(layer.repeats for layer in self.layers)
        return compare(
            self.layers,
            network=self.title,
            time_steps=steps,
            models=models,
            others=self.others(),
            effective=self._effective(steps),
            effective_on=self.run_on,
        )

    def _effective(self, steps: int) -> tuple[LayerCount, ...]:
        """Counts that distinguish zeros, where the network can be run once more."""
        if self.run is None:
            return ()
        network, images = self.run
        first = True if images.dim() == 5 else None
        return profile_energy(nn.Sequential(network), images, time_first=first, time_steps=steps).layers

    def others(self) -> tuple[AccountTotal, ...]:
        """The totals of spikingjelly's accounts, or why there are none."""
        if self.run is None:
            return unknown_totals("needs the network and images: count again with --split")
        network, images = self.run
        totals = op_counter_totals(network, images, images.shape[-4])
        return tuple(replace(total, counted_on=self.run_on) for total in totals)


def random_account(
    space: SearchSpace,
    config: SubnetConfig | None = None,
    *,
    shape: tuple[int, int, int],
    classes: int,
    seed: int = 0,
    images: int = 4,
) -> NetworkAccount:
    """A network of a space with calibrated random weights on random images; nothing is loaded.

    Args:
        space: the search space.
        config: the network; None takes the space's reference.
        shape: channels, height and width of the images.
        classes: number of classes.
        seed: seed of weights and images.
        images: number of images.

    Raises:
        EvaluationError: some neurons stay silent with random weights.
    """
    chosen = config or space.reference
    network, x = calibrated_random_network(
        chosen, space.settings, shape=shape, classes=classes, seed=seed, images=images
    )
    counter = Counter(cost.layer_shapes(chosen, space.settings, shape, classes))
    with torch.no_grad():
        network(x, counter)
    what = "network" if config else "reference"
    return NetworkAccount(
        title=f"{space.name}, {what}, random weights",
        layers=counter.counts(),
        details={"space": space.name, "weights": "random", "seed": seed, "images": images}
        | {"shape": list(shape), "classes": classes, "config": chosen.to_json()},
        run=(network, x),
    )


def trial_account(study: Study, number: int) -> NetworkAccount:
    """The network of one trial, from the counts in the study.

    Raises:
        StudyError: there is no complete trial of that number, or it carries no counts.
    """
    found = [t for t in study.get_trials(deepcopy=False) if t.number == number]
    if not found or found[0].state != TrialState.COMPLETE:
        raise StudyError(f"study {study.study_name!r} has no complete trial {number}")
    metrics = metrics_of(found[0])
    if metrics is None or not metrics.layers:
        raise StudyError(f"trial {number} of study {study.study_name!r} carries no layer counts")
    details = {"study": study.study_name, "trial": number, "accuracy": metrics.accuracy}
    return NetworkAccount(
        title=f"{study.study_name}, trial {number}",
        layers=metrics.layers,
        details=details | {"genes": dict(found[0].params)},
    )


def exported_account(
    path: Path, *, split: str | None = None, data_folder: str | None = None, device: str = "auto"
) -> NetworkAccount:
    """An exported model, from the counts that were exported with it.

    Args:
        path: the folder, or one of the two files in it.
        split: count again on this split of the network's own data set.
        data_folder: where that data set's files are, if they have moved.
        device: where the network runs in that case.

    Raises:
        CheckpointError: a file is missing or damaged, or no counts were exported.
        DataError: with ``split``, the data set is missing, or another one.
    """
    exported, ran, ran_on = load_exported(path, resolve_device(device)), None, ""
    if split is not None:
        data = data_of(exported, folder=data_folder).to(resolve_device(device))
        metrics, everything = measure(exported.network, data.split(split)), data.split(split).images
        ran = (exported.network, network_input(everything[:_IMAGES], exported.config.time_steps))
        if len(everything) > _IMAGES:
            ran_on = f"the first {_IMAGES} of {len(everything):,} images"
    else:
        description = (path if path.is_dir() else path.parent) / "network.json"
        metrics = _exported_metrics(description)
    return NetworkAccount(
        title=str(path),
        layers=metrics.layers,
        details={"accuracy": metrics.accuracy, "split": split, "provenance": dict(exported.provenance)}
        | {"config": exported.network.config.to_json()},
        run=ran,
        run_on=ran_on,
    )


def _exported_metrics(description: Path) -> Metrics:
    try:
        metrics = Metrics.from_json((read_json(description) or {})["metrics"])
    except (AspkError, KeyError) as error:
        raise CheckpointError(f"{description}: no metrics in it, or damaged: {error}") from None
    if not metrics.layers:
        raise CheckpointError(f"{description}: carries no layer counts; give --split to count them")
    return metrics


def weights_account(
    weights: Path,
    config: SubnetConfig | None = None,
    *,
    data: str | None = None,
    data_folder: str | None = None,
    split: SplitName = "search",
    device: str = "auto",
) -> NetworkAccount:
    """A network of a trained supernet, calibrated and counted now.

    Args:
        weights: the supernet's file.
        config: the network; None takes the space's reference.
        data: the data set's name; None takes the one on which the supernet was trained.
        data_folder: where the data set's files are, if they have moved.
        split: the split on which spikes are counted.
        device: where the network runs.

    Raises:
        CheckpointError: the file is missing or damaged.
        GenotypeError: the network is not a member of the supernet's space.
    """
    loaded = load_supernet(weights, resolve_device(device))
    space, named = loaded.supernet.space, data or loaded.provenance.get("data")
    chosen = config or space.reference
    space.encode(chosen)  # raises if the network is not in the space
    source = load_data(DataSettings.from_json(named).in_folder(data_folder))
    evaluator = SupernetEvaluator(loaded.supernet, source, settings=EvaluationSettings(split=split))
    (metrics,) = evaluator.evaluate([chosen])
    return NetworkAccount(
        title=f"{space.name}, {'network' if config else 'reference'} of {weights}",
        layers=metrics.layers,
        details={"space": space.name, "weights": str(weights), "data": source.provenance(), "split": split}
        | {"statistics": evaluator.settings.statistics}
        | {"accuracy": metrics.accuracy, "config": chosen.to_json()},
    )


def read_config(path: Path) -> SubnetConfig:
    """A network from a JSON file: :meth:`SubnetConfig.to_json`, or an export's ``network.json``.

    Raises:
        GenotypeError: the file holds no network; the message names it.
    """
    try:
        data = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise GenotypeError(f"{path}: not a JSON file: {error}") from None
    try:
        return SubnetConfig.from_json(data["config"] if isinstance(data, dict) and "config" in data else data)
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}") from None
