"""A network as an ONNX file, with preprocessing and class names as metadata; and such files as networks."""

from __future__ import annotations

import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aspk.data import Preprocess
from aspk.errors import CheckpointError, DataError
from aspk.evaluation.exported import Classifier, ExportedNetwork
from aspk.standalone.formats.torch_program import example
from aspk.util.files import write_atomically

FILE = "network.onnx"
_KEY = "aspk"  # of the metadata


def write(model: ExportedNetwork, folder: Path) -> Path:
    """Write ``network.onnx``: input ``images`` (preprocessed, any number), output ``logits``."""
    try:
        import onnx  # noqa: PLC0415  # an extra
        import onnxscript  # noqa: F401, PLC0415  # PyTorch's exporter needs it, but only says so late
    except ImportError as error:
        raise CheckpointError(f"ONNX files need {error.name}: pip install 'aspk[onnx]'") from None
    images, batch = example(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model.network,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({batch: "batch"},),
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {_KEY: model.description()})
    content = io.BytesIO()
    onnx.save_model(proto, content)
    write_atomically(folder / FILE, content.getvalue())
    return folder / FILE


class OnnxNetwork(nn.Module):
    """An ONNX file as a module: logits of preprocessed images, computed by onnxruntime.

    Args:
        path: the file.

    Attributes:
        metadata: the file's own metadata.

    Raises:
        CheckpointError: onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime  # noqa: PLC0415  # an extra
        except ImportError:
            raise CheckpointError(f"{path}: needs onnxruntime: pip install 'aspk[onnx]'") from None
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors have no common base
            raise CheckpointError(f"{path}: not an ONNX file that onnxruntime runs: {error}") from None
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._input = self._session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes]."""
        (logits,) = self._session.run(None, {self._input: images.float().cpu().numpy()})
        return torch.from_numpy(logits)


def load_onnx(path: Path) -> Classifier:
    """A file that :func:`write` wrote, used as an export: ``model(model.preprocess(images))``.

    Raises:
        CheckpointError: onnxruntime is missing, or the file is damaged or not one of aspk's.
    """
    network = OnnxNetwork(path)
    try:
        known: dict[str, Any] = json.loads(network.metadata[_KEY])
        classes, (channels, height, width) = [str(name) for name in known["classes"]], known["shape"]
        found, shape = known.get("preprocess"), (int(channels), int(height), int(width))
        preprocess = None if found is None else Preprocess.from_json(found, shape=shape)
        return Classifier(
            network,
            preprocess=preprocess,
            classes=classes,
            weights=str(known["weights"]),
            provenance=dict(known["provenance"]),
        )
    except (KeyError, ValueError, TypeError, RecursionError, DataError) as error:
        raise CheckpointError(
            f"{path}: its metadata {_KEY!r} is missing or damaged ({type(error).__name__}: {error}); "
            f"expected a file that 'aspk export --format onnx' wrote"
        ) from None
