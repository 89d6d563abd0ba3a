"""A found network as a stand-alone model: ``network.safetensors`` and ``network.json``."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from aspk.data import DataSet, Preprocess, load_data, preprocess_of
from aspk.errors import CheckpointError, DataError, StudyError
from aspk.evaluation.exported import ExportedNetwork
from aspk.families import Network, network_of
from aspk.metrics import Metrics
from aspk.space.file import load_space, settings_from_dict
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import evaluator_of
from aspk.study.storage import open_study, require_weights
from aspk.training.checkpoint import (
    UNUSABLE,
    check_weights,
    input_and_classes,
    load_tensors,
    load_weights,
    save_tensors,
    unusable,
)
from aspk.trials.attributes import metrics_of
from aspk.util.files import hash_of
from aspk.util.records import read_json, write_json
from aspk.util.shipped import shipped_files

_WEIGHTS, _DESCRIPTION = EXPORT_FILES = ("network.safetensors", "network.json")
_Standardisation = tuple[tuple[float, float], ...]  # mean and deviation of each channel
_ROUNDING = 1e-5  # by which they may differ between machines
_MOST_NAMED = 3  # exported networks in subfolders, in the message about a folder without one


def export_network(
    folder: Path,
    network: Network,
    *,
    data: DataSet,
    weights: str,
    metrics: Metrics,
    provenance: Mapping[str, Any],
) -> Path:
    """Write a stand-alone network with its batch-normalisation statistics.

    Args:
        folder: where the two files go; created if need be.
        network: the network.
        data: what it was trained on; says how ordinary images become its input, and names the classes.
        weights: where its weights come from: ``inherited``, ``retrained from inherited weights`` or
            ``trained from scratch``.
        metrics: what was measured.
        provenance: study, trial, data set and whatever else says where it comes from.

    Returns:
        The folder.
    """
    header = {
        "kind": "network",
        "config": network.config.to_json(),
        "settings": network.settings.to_json(),
        "shape": list(network.shape),
        "classes": network.classes,
        "weights": weights,
        "provenance": dict(provenance),
    }
    file = folder / _WEIGHTS
    save_tensors(file, network.state_dict(), header)
    digest = hash_of(file)
    description = {**header, **_input_and_classes(data, network), "sha256": digest}
    description["metrics"] = metrics.to_json()
    write_json(folder / _DESCRIPTION, description, indent=2)
    return folder


def _input_and_classes(data: DataSet, network: Network) -> dict[str, Any]:
    """What is known about a network's input and classes."""
    preprocess = preprocess_of(data, network.config.time_steps)
    known: dict[str, Any] = {} if preprocess is None else {"preprocess": preprocess.to_json()}
    return known if data.class_names is None else known | {"classes": list(data.class_names)}


def _no_export(folder: Path) -> str:
    """The message for a folder without an exported network, which may be a study's folder or name."""
    found = folder.glob(f"*/{_WEIGHTS}") if os.path.isdir(folder) else ()
    below = sorted(str(path.parent) for path in found)[:_MOST_NAMED]
    there = f", but in {', '.join(below)}" if below else ""
    is_study = folder.suffix == ".toml" or str(folder) in shipped_files("studies")
    study = folder if is_study else "STUDY"
    return (
        f"{folder}: no exported network there{there}; 'aspk export {study}' writes one of the networks that "
        f"a search found, 'aspk retrain {study}' trains it alone before"
    )


def load_exported(path: str | Path, device: torch.device | None = None) -> ExportedNetwork:
    """An exported network, ready to use: ``model(model.preprocess(images))`` gives logits.

    If an older export lacks preprocessing or class names, a warning says so.

    Args:
        path: the folder, or one of the two files in it.
        device: where to put the network; None is the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    folder = Path(path)
    folder = folder.parent if folder.name in EXPORT_FILES else folder
    weights, description = folder / _WEIGHTS, folder / _DESCRIPTION
    if not os.path.isfile(weights):  # unlike Path.is_file, False for an impossible name
        raise CheckpointError(_no_export(folder))
    tensors, header = load_tensors(weights)
    if header.get("kind") != "network":
        raise CheckpointError(f"{weights}: holds {header.get('kind')!r}, expected an exported network")
    described = _read_description(description, weights)
    try:
        config = SubnetConfig.from_json(header["config"])
        given = {key: value for key, value in header["settings"].items() if value is not None}
        settings = settings_from_dict(given)
        shape, count = input_and_classes(header)
        check_weights(tensors, config, settings, shape=shape, classes=count)
        network = network_of(config, settings, shape=shape, classes=count)
        load_weights(network, tensors)
        provenance, origin = dict(header["provenance"]), str(header["weights"])
    except UNUSABLE as error:
        raise unusable(weights, error) from None
    preprocess, classes = _described(description, described, network)
    model = ExportedNetwork(
        network, preprocess=preprocess, classes=classes, weights=origin, provenance=provenance
    )
    return model.to(device).eval()


def data_of(exported: ExportedNetwork, *, folder: str | None = None) -> DataSet:
    """The data set that an exported network was trained on, for measuring the network on one of its splits.

    If the training images are others than those that the network was trained on, a warning says so.

    Args:
        exported: the network.
        folder: where the data set's files are, if they have moved.

    Raises:
        DataError: the data set cannot be loaded, or is another one: in shape, or in its classes.
    """
    data = load_data(DataSettings.from_json(exported.provenance.get("data")).in_folder(folder))
    network, names = exported.network, data.class_names or ()
    numbers = tuple(map(str, range(network.classes)))  # where the export does not name its classes
    if (network.shape, network.classes) != (data.shape, data.classes):
        raise DataError(
            f"the network takes {network.shape} images of {network.classes} classes, "
            f"{data.name} has {data.shape} and {data.classes}"
        )
    if exported.classes not in (names, numbers):
        raise DataError(
            f"the network tells apart {', '.join(exported.classes)}, {data.name} has {', '.join(names)}"
        )
    before, now = exported.standardisation, data.standardisation
    if before is not None and now is not None and not _alike(before, now):
        warnings.warn(
            f"{data.name}: not the images that the network was trained on, since mean and deviation of each "
            f"channel are {_pairs(now)} and were {_pairs(before)}; so any split may hold some of those",
            stacklevel=3,
        )
    return data


def _alike(one: _Standardisation, other: _Standardisation) -> bool:
    """Whether mean and deviation of each channel agree, but for rounding."""
    return all(
        math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        for pairs in zip(one, other, strict=True)
        for a, b in zip(*pairs, strict=True)
    )


def _pairs(statistics: _Standardisation) -> str:
    return ", ".join(f"{mean:.4g} and {deviation:.4g}" for mean, deviation in statistics)


def _read_description(path: Path, weights: Path) -> dict[str, Any]:
    """The description, which must be that of the weights."""
    described = read_json(path)
    if described is None or "sha256" not in described:
        raise CheckpointError(f"{path}: missing or damaged; export again")
    if described["sha256"] != hash_of(weights):
        raise CheckpointError(f"{weights} is not the file that {path.name} describes; export again")
    return described


def _described(
    path: Path, described: Mapping[str, Any], network: Network
) -> tuple[Preprocess | None, Sequence[str]]:
    """Preprocessing and class names; a warning names what is missing."""
    names, missing = described.get("classes"), []
    if not isinstance(names, list):  # a number, as earlier versions wrote it
        missing.append("classes (their names)")
        names = [str(number) for number in range(network.classes)]
    if len(names) != network.classes or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: classes = {names!r}: expected {network.classes} names")
    preprocess = None
    if "preprocess" not in described:
        missing.append("preprocess (how images become its input)")
    else:
        try:
            preprocess = Preprocess.from_json(described["preprocess"], shape=network.shape)
        except DataError as error:
            raise CheckpointError(f"{path}: {error}") from None
    if missing:
        warnings.warn(f"{path} lacks {' and '.join(missing)}; export again", stacklevel=3)
    return preprocess, names


def export_trial(spec: StudySpec, folder: Path, *, number: int, device: str = "auto") -> Path:
    """Export the network of one trial.

    Args:
        spec: the study.
        folder: where the files go.
        number: the trial's number.
        device: where the network's statistics are computed.

    Returns:
        The folder.

    Raises:
        StudyError: there is no such complete trial.
    """
    export_trials(spec, {number: folder}, device=device)
    return folder


def export_trials(spec: StudySpec, folders: Mapping[int, Path], *, device: str = "auto") -> None:
    """Export the networks of several trials; the supernet is loaded once.

    Args:
        spec: the study.
        folders: trial number to the folder where its files go.
        device: where the networks' statistics are computed.

    Raises:
        StudyError: there is no such complete trial, or the supernet is not the one that the study measured.
    """
    found = networks_of_trials(spec, list(folders))
    require_weights(open_study(spec), spec)
    data = load_data(spec.data)
    evaluator, fingerprints = evaluator_of(spec, device, data=data)
    for number, folder in folders.items():
        config, metrics = found[number]
        provenance = {"study": spec.name, "trial": number, "fingerprints": fingerprints}
        provenance |= {"data": spec.data.to_json(), "statistics": evaluator.settings.statistics}
        export_network(
            folder,
            evaluator.network(config),
            data=data,
            weights="inherited",
            metrics=metrics,
            provenance=provenance,
        )


def networks_of_trials(spec: StudySpec, numbers: Sequence[int]) -> dict[int, tuple[SubnetConfig, Metrics]]:
    """The networks of some trials, and what the search measured.

    Raises:
        StudyError: there is no such complete trial.
    """
    space = load_space(spec.space)
    complete = {trial.number: trial for trial in open_study(spec).get_trials(states=(TrialState.COMPLETE,))}
    found = {}
    for number in numbers:
        metrics = metrics_of(complete[number]) if number in complete else None
        if metrics is None:
            raise StudyError(f"study {spec.name!r} has no evaluated trial {number}")
        found[number] = (space.decode(space.from_parameters(complete[number].params)), metrics)
    return found
