"""From ordinary images to what a network was trained on: range, size, standardisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from aspk.data.pictures import Pixels, pixels_of
from aspk.data.splits import DataSet, network_input
from aspk.errors import DataError
from aspk.util.schema import unknown_key

Picture = Image.Image | npt.NDArray[Any] | Tensor
Pictures = Picture | Sequence[Picture]

_CHUNK = 4096  # images resized at once
_SLACK = 1e-3  # by which interpolated floats may exceed the range from 0 to 1
_LARGEST = 1e30  # of a mean or 1 / std, so that float32 never overflows
_FIXED = {"range": [0.0, 1.0], "interpolation": "bilinear"}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How images are prepared for a network.

    Attributes:
        size: height and width of the images that the network takes, in pixels.
        resize: how an image of another size is resized, with antialiased bilinear interpolation.
            ``center_crop``: its bytes are scaled until it covers the size, and the centre is cropped (with
            Pillow). ``stretch``: height and width are scaled independently (with torch, in floats).
        mean: mean of each channel, of pixels between 0 and 1, or of the event counts of sequences.
        std: standard deviation of each channel, likewise.
        frames: frames of a sequence; None for static images.
        time_steps: T of the network, which reads the first T frames; None for static images.
    """

    size: tuple[int, int]
    resize: Literal["stretch", "center_crop"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int | None = None
    time_steps: int | None = None

    def __call__(self, images: Pictures) -> Tensor:
        """Images as the network takes them.

        Args:
            images: an image, a batch, or a list of either. A static image is a picture of Pillow's, a NumPy
                array [H, W, C] or [N, H, W, C], or a tensor [C, H, W] or [N, C, H, W]; its pixels are
                uint8 from 0 to 255 or floats from 0 to 1. With one channel, [H, W] is an image, too. A
                sequence is an array or a tensor of event counts, [frames, C, H, W] or
                [N, frames, C, H, W].

        Returns:
            float32 on the CPU: [N, C, H, W] of static images, [T, N, C, H, W] of sequences.

        Raises:
            DataError: a shape, a type or a range is not the expected one.
        """
        parts = list(images) if isinstance(images, Sequence) else [images]
        if not parts:
            raise DataError("an empty list of images: expected at least one")
        read = self._images if self.frames is None else self._sequences
        pixels = np.concatenate([read(part) for part in parts])
        standardise(pixels, list(zip(self.mean, self.std, strict=True)))
        standardised = torch.from_numpy(pixels)
        return standardised if self.time_steps is None else network_input(standardised, self.time_steps)

    def _images(self, images: Picture) -> Pixels:
        """[N, C, H, W] between 0 and 1, in the network's size."""
        channels = len(self.mean)
        if isinstance(images, Image.Image):
            crop = self.size if self.resize == "center_crop" else None
            return stretched(pixels_of(images, channels=channels, size=crop)[None], self.size)
        values = _array(images)
        if values.ndim == 2 and channels == 1:
            values = values[None] if isinstance(images, Tensor) else values[..., None]
        values = values[None] if values.ndim == 3 else values
        if values.ndim == 4 and not isinstance(images, Tensor):
            values = values.transpose(0, 3, 1, 2)
        if values.ndim != 4 or values.shape[1] != channels or not values.size:
            expected = (
                f"a tensor [{channels}, H, W] or [N, {channels}, H, W]"
                if isinstance(images, Tensor)
                else f"an array [H, W, {channels}] or [N, H, W, {channels}]"
            )
            raise DataError(f"images of shape {tuple(images.shape)}: expected {expected}")
        if values.shape[2:] != self.size and self.resize == "center_crop":
            return np.stack([self._cropped(image) for image in _unit_range(values)])
        return stretched(_unit_range(values), self.size)

    def _cropped(self, image: Pixels) -> Pixels:
        """One image, converted to the 8-bit picture that it would be on disk."""
        rows = np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)  # [H, W, C]
        picture = Image.fromarray(rows if rows.shape[2] > 1 else rows[..., 0])
        return pixels_of(picture, channels=len(image), size=self.size)

    def _sequences(self, images: Picture) -> Pixels:
        """[N, frames, C, H, W], event counts in the network's size."""
        expected = f"event counts [{self.frames}, {len(self.mean)}, H, W] or [N, ...] of them"
        if isinstance(images, Image.Image):
            raise DataError(f"a picture: expected an array or a tensor of {expected}")
        values = _array(images)
        values = values[None] if values.ndim == 4 else values
        if values.ndim != 5 or values.shape[1:3] != (self.frames, len(self.mean)) or not values.size:
            raise DataError(f"sequences of shape {tuple(images.shape)}: expected {expected}")
        with np.errstate(over="ignore"):  # infinite values are refused below
            counts = values.astype(np.float32) if values.dtype.kind in "fiu" else None
        if counts is None or not np.isfinite(counts).all():
            raise DataError(f"sequences of {values.dtype}: expected finite numbers: {expected}")
        return stretched(counts, self.size)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        static = self.frames is None
        return {
            **(_FIXED if static else _FIXED | {"range": None}),  # counts have no range
            "resize": self.resize,
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            **({} if static else {"frames": self.frames, "time_steps": self.time_steps}),
        }

    @classmethod
    def from_json(cls, data: object, *, shape: tuple[int, int, int]) -> Preprocess:
        """The inverse of :meth:`to_json`.

        Args:
            data: the JSON values.
            shape: channels, height and width that the network takes.

        Raises:
            DataError: a key is missing or unknown, or a value is not what this version writes.
        """
        if not isinstance(data, Mapping):
            raise DataError(f"preprocess = {data!r}: expected a table")
        channels, *size = shape
        pictures = channels in (1, 3)  # what Pillow can crop
        expected: dict[str, tuple[bool, str]] = {
            "resize": (
                data.get("resize") in (("stretch", "center_crop") if pictures else ("stretch",)),
                "stretch or center_crop",
            ),
            "size": (data.get("size") == size, f"the network's {size}"),
            "mean": (_numbers(data.get("mean"), channels, -_LARGEST), f"{channels} numbers"),
            "std": (_numbers(data.get("std"), channels, 1 / _LARGEST), f"{channels} numbers above 0"),
            "interpolation": (data.get("interpolation") == "bilinear", "bilinear"),
        }
        if sequences := "frames" in data:
            frames, steps = data["frames"], data.get("time_steps")
            expected["frames"] = (type(frames) is int and frames > 0, "a number of frames")
            expected["time_steps"] = (type(steps) is int and steps > 0, "the network's T")
        allowed = None if sequences else [0, 1]
        expected["range"] = ("range" in data and data["range"] == allowed, f"{allowed}")
        for key in data:
            if key not in expected:
                raise DataError(unknown_key(key, data[key], expected, at="preprocess."))
        for key, (valid, what) in expected.items():
            if not valid:
                raise DataError(f"preprocess.{key} = {data.get(key)!r}: expected {what}")
        return cls(
            size=(size[0], size[1]),
            resize=data["resize"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            frames=data.get("frames"),
            time_steps=data.get("time_steps"),
        )


def preprocess_of(data: DataSet, time_steps: int) -> Preprocess | None:
    """What :func:`aspk.data.load_data` did with a data set's images, and the time steps of a network for it.

    Args:
        data: the data set.
        time_steps: T of the network; ignored for static images.

    Returns:
        None for a data set of your own that does not say how it was standardised.
    """
    if data.standardisation is None:
        return None
    mean, std = zip(*data.standardisation, strict=True)
    images = data.train.images
    frames = images.shape[1] if images.dim() == 5 else None
    steps = None if frames is None else time_steps
    size = data.shape[1:]
    return Preprocess(size=size, resize=data.resize, mean=mean, std=std, frames=frames, time_steps=steps)


def stretched(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Images [..., C, H, W] resized to another height and width (bilinear, antialiased), frame by frame."""
    if pixels.shape[-2:] == size:
        return pixels
    resized = np.empty((*pixels.shape[:-2], *size), np.float32)
    for start in range(0, len(pixels), _CHUNK):
        chunk = torch.from_numpy(pixels[start : start + _CHUNK])
        scaled = F.interpolate(chunk.flatten(0, -4), size, mode="bilinear", antialias=True)
        resized[start : start + _CHUNK] = scaled.reshape(*chunk.shape[:-2], *size).numpy()
    return resized


def standardise(pixels: Pixels, statistics: Sequence[tuple[float, float]]) -> None:
    """Subtract each channel's mean and divide by its deviation, in place; [..., C, H, W]."""
    for channel, (mean, deviation) in enumerate(statistics):
        values = pixels[..., channel, :, :]
        values -= np.float32(mean)
        values /= np.float32(deviation)


def _array(images: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if isinstance(images, Tensor):
        plain = images.detach().cpu()
        return (plain.float() if plain.is_floating_point() else plain).numpy()
    if not isinstance(images, np.ndarray):
        raise DataError(f"{type(images).__name__}: expected a picture of Pillow's, an array or a tensor")
    return images


def _unit_range(values: npt.NDArray[Any]) -> Pixels:
    """Bytes or floats as floats between 0 and 1, in a new array."""
    if values.dtype == np.uint8:
        pixels = np.ascontiguousarray(values, np.float32)
        pixels /= 255
        return pixels
    if values.dtype.kind != "f":
        raise DataError(f"pixels of type {values.dtype}: expected uint8 from 0 to 255, or floats from 0 to 1")
    low, high = values.min(), values.max()
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # nor NaN
        raise DataError(f"float pixels from {low:g} to {high:g}: expected 0 to 1, not standardised")
    return np.array(values, np.float32, order="C")


def _numbers(values: object, count: int, low: float) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and low < value < _LARGEST for value in values)
    )
