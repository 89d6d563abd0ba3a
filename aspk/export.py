"""A found network as a stand-alone model: ``network.safetensors`` and ``network.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from aspk.attributes import metrics_from_attributes
from aspk.checkpoint import load_tensors, load_weights, save_tensors
from aspk.config import NetworkSettings, SubnetConfig
from aspk.errors import AspkError, CheckpointError, StudyError
from aspk.files import write_atomically
from aspk.metrics import Metrics
from aspk.space_file import load_space
from aspk.storage import open_study
from aspk.study import evaluator_of
from aspk.study_file import StudySpec
from aspk.supernet import Spikformer

_WEIGHTS, _DESCRIPTION = EXPORT_FILES = ("network.safetensors", "network.json")


def export_network(
    folder: Path, network: Spikformer, *, weights: str, metrics: Metrics, provenance: Mapping[str, Any]
) -> Path:
    """Write a stand-alone network with its batch-normalisation statistics.

    Args:
        folder: where the two files go; made if need be.
        network: the network.
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
        "settings": asdict(network.settings),
        "shape": list(network.shape),
        "classes": network.classes,
        "weights": weights,
        "provenance": dict(provenance),
    }
    file = folder / _WEIGHTS
    save_tensors(file, network.state_dict(), header)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    description = {**header, "sha256": digest, "metrics": metrics.to_json()}
    write_atomically(folder / _DESCRIPTION, json.dumps(description, indent=2) + "\n")
    return folder


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        network: the network, in evaluation mode.
        weights: where its weights come from, see :func:`export_network`.
        provenance: where the network comes from.
    """

    network: Spikformer
    weights: str
    provenance: Mapping[str, Any]


def read_export(path: str | Path, device: torch.device | None = None) -> Exported:
    """Read what :func:`export_network` wrote.

    Args:
        path: the folder, or one of the two files in it.
        device: where to put the network; None is the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    folder = Path(path)
    folder = folder.parent if folder.name in (_WEIGHTS, _DESCRIPTION) else folder
    weights = folder / _WEIGHTS
    tensors, header = load_tensors(weights)
    if header.get("kind") != "network":
        raise CheckpointError(f"{weights}: holds {header.get('kind')!r}, expected an exported network")
    _check_description(folder / _DESCRIPTION, weights)
    try:
        network = Spikformer(
            SubnetConfig.from_json(header["config"]),
            NetworkSettings(**header["settings"]),
            shape=tuple(header["shape"]),
            classes=header["classes"],
        )
        load_weights(network, tensors, weights)
        provenance, origin = dict(header["provenance"]), str(header["weights"])
    except (AspkError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{weights}: {error}") from None
    return Exported(network.to(device).eval(), origin, provenance)


def _check_description(path: Path, weights: Path) -> None:
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or damaged: {error}") from None
    if expected != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise CheckpointError(f"{weights} is not the file that {path.name} describes; export again")


def load_exported(path: str | Path, device: torch.device | None = None) -> Spikformer:
    """An exported network, ready to use: ``load_exported(path)(images)`` gives logits.

    Args:
        path: the folder, or one of the two files in it.
        device: where to put the network; None is the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    return read_export(path, device).network


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
        StudyError: there is no such complete trial.
    """
    found = networks_of_trials(spec, list(folders))
    evaluator, fingerprints = evaluator_of(spec, device)
    for number, folder in folders.items():
        config, metrics = found[number]
        provenance = {"study": spec.name, "trial": number, "fingerprints": fingerprints}
        provenance["data"] = spec.data.to_json()
        network = evaluator.network(config)
        export_network(folder, network, weights="inherited", metrics=metrics, provenance=provenance)


def networks_of_trials(spec: StudySpec, numbers: Sequence[int]) -> dict[int, tuple[SubnetConfig, Metrics]]:
    """The networks of some trials, and what the search measured.

    Raises:
        StudyError: there is no such complete trial.
    """
    space = load_space(spec.space)
    complete = {trial.number: trial for trial in open_study(spec).get_trials(states=(TrialState.COMPLETE,))}
    found = {}
    for number in numbers:
        metrics = metrics_from_attributes(complete[number].user_attrs) if number in complete else None
        if metrics is None:
            raise StudyError(f"study {spec.name!r} has no evaluated trial {number}")
        found[number] = (space.decode(space.from_parameters(complete[number].params)), metrics)
    return found
