"""Supernets and training states on disk.

Weights are safetensors with a JSON header; a training state, which has more than tensors, is read with
``torch.load(weights_only=True)``. Nothing here unpickles code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from aspk.errors import AspkError, CheckpointError
from aspk.families import Supernet
from aspk.space.file import space_from_dict
from aspk.spec.settings import Recipe
from aspk.util.files import write_atomically

_FORMAT = "aspk 1"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically."""
    data = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"aspk": json.dumps({"format": _FORMAT, **header})},
    )
    write_atomically(path, data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of aspk's.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        header = json.loads(metadata["aspk"])
        if header["format"] != _FORMAT:
            raise CheckpointError(f"{path}: format {header['format']!r}, this version reads {_FORMAT!r}")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; 'aspk train' makes one") from None
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not an aspk file, or damaged: {error}") from None
    return tensors, header


def save_supernet(path: Path, supernet: Supernet, provenance: Mapping[str, Any]) -> None:
    """Write a supernet: weights, search space, input shape, and how it was made."""
    header = {
        "kind": "supernet",
        "space": supernet.space.to_json(),
        "shape": list(supernet.shape),
        "classes": supernet.classes,
        "provenance": dict(provenance),
    }
    save_tensors(path, supernet.network.state_dict(), header)


@dataclass(frozen=True)
class LoadedSupernet:
    """A supernet from disk.

    Attributes:
        supernet: in evaluation mode.
        provenance: data set, recipe, seed and updates it was trained with.
        fingerprint: SHA-256 of the file.
    """

    supernet: Supernet
    provenance: Mapping[str, Any]
    fingerprint: str


def load_supernet(path: Path, device: torch.device | None = None) -> LoadedSupernet:
    """Read a supernet.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    tensors, header = load_tensors(path)
    if header.get("kind") != "supernet":
        raise CheckpointError(f"{path}: holds {header.get('kind')!r}, expected a supernet")
    try:
        space = space_from_dict(header["space"], where=str(path))
        provenance = dict(header["provenance"])
        supernet = Supernet(
            space,
            shape=tuple(header["shape"]),
            classes=header["classes"],
            recipe=_recipe(provenance.get("recipe")),
        )
        load_weights(supernet.network, tensors, path)
    except (AspkError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedSupernet(supernet.to(device).eval(), provenance, fingerprint)


def _recipe(data: object) -> Recipe | None:
    """The recipe in a supernet's provenance, None where it does not say how T was trained.

    Recipes from before ``paths`` was a key lack it: they trained single paths, the default.

    Raises:
        TrainingError: a value is wrong.
    """
    if not isinstance(data, Mapping) or "prefix_loss" not in data:
        return None
    known = {item.name for item in fields(Recipe)}  # those of another version of aspk change nothing here
    return Recipe(**{name: value for name, value in data.items() if name in known})


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a network that must have exactly these.

    Raises:
        CheckpointError: names or shapes differ.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: tensor {name}: expected shape {expected.get(name)}, got {found.get(name)}"
            )
    network.load_state_dict(dict(tensors))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state; the state that was there stays beside it as ``.previous``."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, buffer)
    fresh = path.with_suffix(".new")
    write_atomically(fresh, buffer.getvalue())
    if path.exists():
        os.replace(path, previous_state(path))
    os.replace(fresh, path)


def previous_state(path: Path) -> Path:
    """Where the state before the last one is."""
    return path.with_suffix(".previous")


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a training state.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of aspk's.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # torch.load raises whatever the damage leads it to
        raise CheckpointError(f"{path}: not a training state, or damaged ({type(error).__name__})") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not a training state of aspk ({_FORMAT})")
    return state
