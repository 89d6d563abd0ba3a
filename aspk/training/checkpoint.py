"""Supernets and training states on disk.

Weights are safetensors with a JSON header; a training state, which has more than tensors, is read with
``torch.load(weights_only=True)``. Nothing here unpickles code.
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from aspk.errors import AspkError, CheckpointError
from aspk.families import Supernet, network_of
from aspk.space.file import space_from_dict
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig
from aspk.spec.settings import Recipe
from aspk.util.files import hash_of, require_ordinary, write_atomically, written_beside

_FORMAT = "aspk 1"
_MOST_HEADER = 8 << 20  # bytes; a network of a hundred blocks has half a MiB
_MOST_SIDE = 4096  # height and width of an image
_STATE_TYPES = re.compile(  # what torch writes for a training state; bytearray, say, could allocate any size
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)


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
        require_ordinary(path)
        with path.open("rb") as start:
            size = int.from_bytes(start.read(8), "little")
        if size > _MOST_HEADER:
            raise CheckpointError(f"{path}: a header of {size} bytes, expected at most {_MOST_HEADER}")
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata["aspk"])
            if header["format"] != _FORMAT:
                raise CheckpointError(f"{path}: format {header['format']!r}, this version reads {_FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
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
        shape, classes = input_and_classes(header)
        provenance = dict(header["provenance"])
        check_weights(tensors, space.superset, space.settings, shape=shape, classes=classes)
        supernet = Supernet(space, shape=shape, classes=classes, recipe=_recipe(provenance.get("recipe")))
        load_weights(supernet.network, tensors)
    except UNUSABLE as error:
        raise unusable(path, error) from None
    return LoadedSupernet(supernet.to(device).eval(), provenance, hash_of(path))


def _recipe(data: object) -> Recipe | None:
    """The recipe in a supernet's provenance, None where it does not say how T was trained.

    Recipes older than the key ``paths`` lack it: they trained single paths, the default.

    Raises:
        TrainingError: a value is wrong.
    """
    if not isinstance(data, Mapping) or "prefix_loss" not in data:
        return None
    known = {item.name for item in fields(Recipe)}  # keys of other versions of aspk do not matter here
    return Recipe(**{name: value for name, value in data.items() if name in known})


# What a header from somebody else may raise.
UNUSABLE = (AspkError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)


def unusable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file whose header, or tensors, are not what they should be."""
    missing = isinstance(error, KeyError)
    return CheckpointError(f"{path}: its header has no {error}" if missing else f"{path}: {error}")


def input_and_classes(header: Mapping[str, Any]) -> tuple[tuple[int, int, int], int]:
    """The shape of an image, and the number of classes, from a header.

    Raises:
        KeyError: they are not there.
        CheckpointError: they are not whole numbers in a sensible range.
    """
    channels, height, width = sizes = header["shape"]
    classes = header["classes"]
    if not all(type(size) is int and 0 < size <= _MOST_SIDE for size in sizes):
        raise CheckpointError(f"shape = {sizes!r}: expected channels, height and width up to {_MOST_SIDE}")
    if type(classes) is not int or classes < 1:
        raise CheckpointError(f"classes = {classes!r}: expected a number above 0")
    return (channels, height, width), classes


def check_weights(
    tensors: Mapping[str, Tensor],
    config: SubnetConfig,
    settings: NetworkSettings,
    *,
    shape: tuple[int, int, int],
    classes: int,
) -> None:
    """Compare tensors with those of a network that a file describes, before the network takes any memory.

    A few bytes can describe a network that no machine has the memory for; one that matches these tensors is
    no larger than they are.

    Args:
        tensors: the file's tensors by name.
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of an image.
        classes: number of classes.

    Raises:
        CheckpointError: names, shapes or types differ.
        GenotypeError: there is no such network.
    """

    def forms(config: SubnetConfig) -> dict[str, str]:
        with torch.device("meta"):
            network = network_of(config, settings, shape=shape, classes=classes)
        return {name: _form(tensor) for name, tensor in network.state_dict().items()}

    outside, in_block = 0, dict[BlockConfig, int]()
    fewest = settings.stages or 1
    for block in set(config.blocks):  # the modules of a thousand blocks take much memory, too
        few = forms(replace(config, blocks=(block,) * fewest))
        inside = sum(name.startswith("blocks.") for name in few)
        in_block[block], outside = inside // fewest, len(few) - inside
    if len(tensors) != (count := outside + sum(in_block[block] for block in config.blocks)):
        raise CheckpointError(f"{len(tensors)} tensors, expected {count}")
    expected, found = forms(config), {name: _form(tensor) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(f"tensor {name}: expected {expected.get(name)}, got {found.get(name)}")


def _form(tensor: Tensor) -> str:
    """Shape and type; float64 counts as float32."""
    kind = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    return f"shape {tuple(tensor.shape)} of {str(kind).removeprefix('torch.')}"


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors that :func:`check_weights` has compared into a network.

    Raises:
        CheckpointError: a number is not finite, or becomes so in the network's precision.
    """
    network.load_state_dict(dict(tensors))
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"tensor {name}: a number is not finite in {tensor.dtype}")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state; the one before is kept beside it as ``.previous``."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, buffer)
    with written_beside(path, buffer.getvalue()) as fresh:
        with suppress(FileNotFoundError):  # the first one
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
        require_ordinary(path)
        _check_archive(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file makes zipfile and torch.load raise anything
        what = str(error) if isinstance(error, CheckpointError) else type(error).__name__
        raise CheckpointError(f"{path}: not a training state, or damaged ({what})") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not a training state of aspk ({_FORMAT})")
    return state


def _check_archive(path: Path) -> None:
    """Refuse a state that could become larger in memory than it is on the disk.

    Raises:
        CheckpointError: members are compressed or overlap, or it names types that no state needs.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise CheckpointError("its members are larger than the file")
        pickles = [archive.read(member) for member in members if member.filename.endswith(".pkl")]
    for opcode, name, _ in (step for content in pickles for step in pickletools.genops(content)):
        if "GLOBAL" in opcode.name and not _STATE_TYPES.fullmatch(str(name)):
            raise CheckpointError(f"it names {name}, which no state needs")
