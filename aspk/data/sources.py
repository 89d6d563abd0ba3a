"""What a data set's reader returns, and how a missing or damaged file is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aspk.data.download import Remote, fetch
from aspk.errors import DataError
from aspk.spec.settings import DataSettings
from aspk.util.files import cache_folder


@dataclass(frozen=True)
class Images:
    """Images before splitting.

    Attributes:
        labels: class of each image, [N].
        read: returns the pixels of the images at some indices, [n, C, H, W], float32 between 0 and 1 (for
            sequences, event counts [n, frames, C, H, W]), in an array that the caller may change.
    """

    labels: npt.NDArray[np.int64]
    read: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """A data set as its authors publish it.

    Attributes:
        classes: the classes' names, in the order of the labels.
        train: the training data, or everything if there is no test set.
        test: the data set's own test set, if it has one.
        resize: how pictures of other sizes become such images, see :class:`aspk.data.Preprocess`.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images | None = None
    resize: Literal["stretch", "center_crop"] = "stretch"


@dataclass(frozen=True)
class Kind:
    """What is known about a data set without its files.

    Attributes:
        shape: channels, height and width.
        classes: the classes' names.
        images: images in all, of which the smaller part is the test set where there is one.
        sequences: whether an image is a sequence of frames.
        frames: the number of frames, if known.
        resize: how pictures of other sizes become such images, see :class:`aspk.data.Preprocess`.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    images: int
    sequences: bool = False
    frames: int | None = None
    resize: Literal["stretch", "center_crop"] = "stretch"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A data set: how its files are read, and what is known without them.

    Attributes:
        read: reads the data set of some settings; the flag says whether missing files may be downloaded.
        kind: what is known without the files; None for a folder of the user's own.
        recordings: whether an image is a sequence of frames, stored as such in its file.
        counts: whether events are counted into frames, whose number the settings must then give.
    """

    read: Callable[[DataSettings, bool], Source]
    kind: Kind | None = None
    recordings: bool = False
    counts: bool = False


def images_of_bytes(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Images:
    """Images from bytes [N, C, H, W], converted only when they are read."""

    def read(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        chosen = pixels[indices].astype(np.float32)
        chosen /= 255
        return chosen

    return Images(labels.astype(np.int64), read)


@dataclass(frozen=True)
class Origin:
    """Where the files of a data set may be, and where they come from.

    Attributes:
        name: the data set's name.
        remotes: the published files.
        note: further advice for somebody who lacks them.
        installed: folders where a system package puts them.
    """

    name: str
    remotes: tuple[Remote, ...]
    note: str = ""
    installed: tuple[Path, ...] = ()

    def places(self, settings: DataSettings) -> tuple[Path, ...]:
        """The folders to search, in order: the one in the settings, or the usual ones."""
        if settings.folder is not None:
            return (named_folder(settings.folder),)
        return (*self.installed, cache_folder() / self.name)

    def get(
        self, remote: Remote, settings: DataSettings, *, names: Sequence[str], download: bool = False
    ) -> Path:
        """The path of a file of the data set, which is downloaded if that is allowed.

        Args:
            remote: the published file.
            settings: may name the folder.
            names: the accepted names of the file, the preferred one first.
            download: whether it may be downloaded.

        Raises:
            DataError: the file was not found; the message says where it was searched and how to get it.
        """
        places = self.places(settings)
        for path in (place / name for place in places for name in names):
            if path.is_file() or path.is_dir():  # an unpacked folder; not a pipe, which would block
                return path
        if download:
            return fetch(remote, places[-1])
        looked = ", ".join(map(str, places))
        raise DataError(f"{self.name}: no file {' or '.join(names)} in {looked}; {self.advice(remote)}")

    def damaged(self, path: Path, remote: Remote, what: str) -> DataError:
        """The error for a file that cannot be read."""
        return DataError(f"{path}: damaged, or not a file of {self.name}: {what}; {self.advice(remote)}")

    def advice(self, remote: Remote) -> str:
        """How to get a file."""
        return f"get it with 'aspk train STUDY --download' or from {remote.url} (MD5 {remote.md5}){self.note}"


def named_folder(name: str) -> Path:
    """A folder as a study names it, ``~`` expanded.

    Raises:
        DataError: the user or their home folder is unknown to the system.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise DataError(f"data.folder = {name!r}: {error}; write the whole path, or set HOME") from None


def held_out_folder(root: Path, *, name: str, how: str) -> Path | None:
    """The folder of the test set beside ``train``; None if ``train`` is all that there is.

    Args:
        root: holds ``train``.
        name: the data set's name, for the message.
        how: the expected layout, for the message.

    Raises:
        DataError: there is no ``test`` or ``val``, but there are other folders, which would be ignored.
    """
    folders = {place.name for place in root.iterdir() if place.is_dir() and not place.name.startswith(".")}
    for part in ("test", "val"):
        if part in folders:
            return root / part
    if others := sorted(folders - {"train"}):
        raise DataError(
            f"{name}: {root} has train and {', '.join(others)}, but neither test nor val: rename the "
            f"folder of the test set, or take the others away; {how}"
        )
    return None


def folder_of(settings: DataSettings) -> Path:
    """The folder that the settings give, or the one where the data set usually is.

    Raises:
        DataError: the folder starts with a user who is unknown to the system.
    """
    return cache_folder() / settings.name if settings.folder is None else named_folder(settings.folder)
