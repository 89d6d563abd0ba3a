"""N-MNIST: 60,000 and 10,000 recordings of digits by an event camera, 34x34 pixels (Orchard et al. 2015).

``FOLDER/Train/CLASS/NUMBER.bin`` and ``FOLDER/Test/CLASS/NUMBER.bin``, as published. An event has 5 bytes: x,
y, one bit of polarity (1 is ON), 23 bits of microseconds. Events are counted into T frames as spikingjelly
counts them; no file of frames is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aspk.data.event_frames import listed
from aspk.data.sources import Images, Kind, Reader, Source, folder_of
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

SIZE = 34  # height and width, in pixels
_BYTES = 5  # per event
_MOST_BYTES = 16 << 20  # per recording; the published ones have about 30 KiB
_HOW = (
    "expected FOLDER/Train/CLASS/*.bin and FOLDER/Test/CLASS/*.bin, from Train.zip (MD5 "
    "20959b8e626244a1b502305a9e6e2031) and Test.zip (MD5 69ca8762b2fe404d9b9bad1103e97832) of "
    "https://www.garrickorchard.com/datasets/n-mnist"
)


def nmnist(settings: DataSettings, download: bool) -> Source:
    """The recordings of a folder; events are read and counted when a split asks for them.

    Raises:
        DataError: the folder is not there or not laid out as expected. It cannot be downloaded.
    """
    root, frames = folder_of(settings), settings.frames
    assert frames is not None, "the settings need them"

    def images(part: str) -> tuple[tuple[str, ...], Images]:
        classes, paths, labels = listed(root / part, "*.bin", "nmnist", _HOW)

        def read(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            return _read([paths[index] for index in indices], frames, settings.split_by)

        return classes, Images(labels, read)

    (classes, train), (tested, test) = images("Train"), images("Test")
    if classes != tested:
        raise DataError(f"nmnist: {root}: Train has the classes {classes}, Test has {tested}")
    return Source(classes, train, test)


def _read(paths: Sequence[Path], frames: int, split_by: Literal["number", "time"]) -> npt.NDArray[np.float32]:
    counted = np.empty((len(paths), frames, 2, SIZE, SIZE), np.float32)
    for place, path in zip(counted, paths, strict=True):
        place[:] = read_recording(path, frames, split_by=split_by)
    return counted


def read_recording(
    path: Path, frames: int, *, split_by: Literal["number", "time"] = "number"
) -> npt.NDArray[np.float32]:
    """A recording's events, counted.

    Args:
        path: the file.
        frames: T, the number of frames.
        split_by: ``number``: all frames have equally many events, and the last one also the rest. ``time``:
            all frames have the same duration.

    Returns:
        Events by frame, polarity (OFF, ON), y and x, [T, 2, 34, 34].

    Raises:
        DataError: the file is damaged, or not a recording of N-MNIST.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not content or len(content) % _BYTES or len(content) > _MOST_BYTES:
        raise DataError(f"{path}: {len(content)} bytes: expected events of {_BYTES} bytes each; {_HOW}")
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, _BYTES).T.astype(np.int64)
    if max(x.max(), y.max()) >= SIZE:
        raise DataError(f"{path}: an event at x {x.max()}, y {y.max()}: expected 0 to {SIZE - 1}; {_HOW}")
    pixels = ((high >> 7) * SIZE + y) * SIZE + x
    times = (high & 127) << 16 | middle << 8 | low
    bounds = _by_number(len(times), frames) if split_by == "number" else _by_time(times, frames)
    counted = [np.bincount(pixels[start:end], minlength=2 * SIZE * SIZE) for start, end in bounds]
    return np.array(counted, np.float32).reshape(frames, 2, SIZE, SIZE)


def _by_number(events: int, frames: int) -> list[tuple[int, int]]:
    """For each frame, its first event and the one behind its last."""
    each = events // frames
    return [(each * frame, each * (frame + 1) if frame + 1 < frames else events) for frame in range(frames)]


def _by_time(times: npt.NDArray[np.int64], frames: int) -> list[tuple[int, int]]:
    """The same for frames of equal duration; what the division leaves over goes to the last frame."""
    begin, each = times[0], (times[-1] - times[0]) // frames
    found = []
    for frame in range(frames):
        after = times >= begin + each * frame
        inside = np.flatnonzero(after & (times < begin + each * (frame + 1)) if frame + 1 < frames else after)
        end = len(times) if frame + 1 == frames else 0
        found.append((int(inside[0]), end or int(inside[-1]) + 1) if len(inside) else (end, end))
    return found


READER = Reader(
    read=nmnist,
    kind=Kind((2, SIZE, SIZE), tuple("0123456789"), 70_000, sequences=True),
    recordings=True,
    counts=True,
)
