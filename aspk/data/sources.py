"""What a data set's reader gives, and how a file that is not there or not whole is reported."""

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
    """Images that are not split yet.

    Attributes:
        labels: class of each image, [N].
        read: the pixels of the images of some indices, [n, C, H, W], float32 between 0 and 1 (event counts
            of sequences, [n, frames, C, H, W]), in an array that the caller may change.
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
    """What is known of a data set without its files.

    Attributes:
        shape: channels, height and width.
        classes: the classes' names.
        images: images in all, of which the smaller part is the test set where there is one.
        sequences: whether an image is a sequence of frames.
        frames: how many, where that is known.
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
    """A data set: how its files are read, and what is known of it without them.

    Attributes:
        read: the data set of some settings; the flag says whether files that are missing may be downloaded.
        kind: what is known without the files; None of a folder of the user's own.
        recordings: whether an image is a sequence of frames, as their files hold them.
        counts: whether events are counted into as many frames as the settings say, which must then say it.
    """

    read: Callable[[DataSettings, bool], Source]
    kind: Kind | None = None
    recordings: bool = False
    counts: bool = False


def images_of_bytes(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Images:
    """Images from bytes, [N, C, H, W], which stay bytes until they are read."""

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
        """The folders that are searched, in order: the one in the settings, or those that are usual."""
        if settings.folder is not None:
            return (named_folder(settings.folder),)
        return (*self.installed, cache_folder() / self.name)

    def get(
        self, remote: Remote, settings: DataSettings, *, names: Sequence[str], download: bool = False
    ) -> Path:
        """A file of the data set, from where it is, or downloaded if that is wanted.

        Args:
            remote: the published file.
            settings: may name the folder.
            names: the forms in which the file is welcome, the best first.
            download: whether it may be downloaded.

        Raises:
            DataError: it is nowhere; the message says where it was looked for and how to get it.
        """
        places = self.places(settings)
        for path in (place / name for place in places for name in names):
            if path.is_file() or path.is_dir():  # a folder that was unpacked; nothing that waits for ever
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
        return f"get it with 'aspk train --download' or from {remote.url} (MD5 {remote.md5}){self.note}"


def named_folder(name: str) -> Path:
    """A folder as a study names it, ``~`` expanded.

    Raises:
        DataError: the system does not know the user, or their home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise DataError(f"data.folder = {name!r}: {error}; write the whole path, or set HOME") from None


def folder_of(settings: DataSettings) -> Path:
    """The folder that the settings give, or the one where the data set usually is.

    Raises:
        DataError: the folder starts with a user whom the system does not know.
    """
    return cache_folder() / settings.name if settings.folder is None else named_folder(settings.folder)
