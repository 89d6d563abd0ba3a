"""A found network as a stand-alone model: ``network.safetensors`` and ``network.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from aspk.attributes import metrics_from_attributes
from aspk.checkpoint import load_tensors, load_weights, save_tensors
from aspk.config import NetworkSettings, SubnetConfig
from aspk.errors import AspkError, CheckpointError, StudyError
from aspk.evaluator import SupernetEvaluator
from aspk.files import write_atomically
from aspk.metrics import Metrics
from aspk.storage import open_study
from aspk.study import evaluator_of
from aspk.study_file import StudySpec
from aspk.supernet import Spikformer

_WEIGHTS, _DESCRIPTION = EXPORT_FILES = ("network.safetensors", "network.json")


def export_network(
    folder: Path,
    evaluator: SupernetEvaluator,
    config: SubnetConfig,
    *,
    metrics: Metrics,
    provenance: Mapping[str, Any],
) -> Path:
    """Write one network of a supernet, with the statistics it was evaluated with.

    Args:
        folder: where the two files go; made if need be.
        evaluator: gives the weights and the batch-normalisation statistics.
        config: the network.
        metrics: what the search measured.
        provenance: study, trial, data set and whatever else says where it comes from.

    Returns:
        The folder.
    """
    network = evaluator.network(config)
    header = {
        "kind": "network",
        "config": config.to_json(),
        "settings": asdict(network.settings),
        "shape": list(network.shape),
        "classes": network.classes,
        "weights": "inherited",
        "provenance": dict(provenance),
    }
    weights = folder / _WEIGHTS
    save_tensors(weights, network.state_dict(), header)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    description = {**header, "sha256": digest, "metrics": metrics.to_json()}
    write_atomically(folder / _DESCRIPTION, json.dumps(description, indent=2) + "\n")
    return folder


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        network: the network, in evaluation mode.
        provenance: where it comes from.
    """

    network: Spikformer
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
        provenance = dict(header["provenance"])
    except (AspkError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{weights}: {error}") from None
    return Exported(network.to(device).eval(), provenance)


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
    complete = {trial.number: trial for trial in open_study(spec).get_trials(states=(TrialState.COMPLETE,))}
    measured: dict[int, Metrics] = {}
    for number in folders:
        metrics = metrics_from_attributes(complete[number].user_attrs) if number in complete else None
        if metrics is None:
            raise StudyError(f"study {spec.name!r} has no evaluated trial {number}")
        measured[number] = metrics
    evaluator, fingerprints = evaluator_of(spec, device)
    space = evaluator.supernet.space
    for number, folder in folders.items():
        provenance = {"study": spec.name, "trial": number, "fingerprints": fingerprints}
        provenance["data"] = spec.data.to_json()
        config = space.decode(space.from_parameters(complete[number].params))
        export_network(folder, evaluator, config, metrics=measured[number], provenance=provenance)
