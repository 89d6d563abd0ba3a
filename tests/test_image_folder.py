"""Folders of images, read with torchvision."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from data_files import assert_holds, labelled, pictures, pixels, settings
from PIL import Image

from aspk.data import load_data
from aspk.errors import DataError


def write_images(folder, count=6, size=8, seed=0, classes=("ant", "bee")):
    written, labels = pictures(count * len(classes), 3, size, seed), []
    for number, image in enumerate(written):
        place = folder / classes[number % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{number:03}.png")
        labels.append(number % len(classes))
    order = sorted(range(len(labels)), key=lambda number: (labels[number], number))
    return written[order], np.array(labels)[order]


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_image_folder_with_a_test_set(tmp_path, held_out):
    train, test = write_images(tmp_path / "train"), write_images(tmp_path / held_out, 2, seed=1)
    data = load_data(settings("image_folder", tmp_path))
    assert (data.shape, data.classes) == ((3, 8, 8), 2)
    assert_holds(data, *train, *test)


@pytest.mark.parametrize("inside", ["", "train"])
def test_image_folder_without_a_test_set(tmp_path, inside):
    images, labels = write_images(tmp_path / inside)
    data = load_data(settings("image_folder", tmp_path, test=2, search=4))
    parts = [data.train, data.search, data.test]
    assert [len(part) for part in parts] == [6, 4, 2]
    found = [labelled(pixels(part.images), part.labels) for part in parts]
    assert set.union(*found) == labelled(images, labels)


def test_a_channel_that_is_the_same_everywhere_becomes_zero(tmp_path):
    """77 / 255 has no exact mean in float32: the deviation that rounding leaves must not be divided by."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(12):
            image = rng.integers(0, 256, (16, 16, 3), np.uint8)
            image[..., 2] = 77
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    data = load_data(settings("image_folder", tmp_path))
    assert data.standardisation[2] == (pytest.approx(77 / 255), 1.0)
    assert not data.train.images[:, 2].any()
    assert not data.test.images[:, 2].any()
    assert data.train.images[:, 0].std() == pytest.approx(1, abs=1e-3)


def test_images_of_several_sizes_need_resize(tmp_path):
    write_images(tmp_path, size=8)
    write_images(tmp_path, 8, size=12)  # some of them over the others
    (tmp_path / "ant" / "000.png").unlink()
    write_images(tmp_path, 1, size=10)
    with pytest.raises(DataError, match="set resize"):
        load_data(settings("image_folder", tmp_path))
    assert load_data(settings("image_folder", tmp_path, resize=6)).shape == (3, 6, 6)


def test_image_folder_errors(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="give its folder"):
        load_data("image_folder")
    with pytest.raises(DataError, match=r"nowhere.*expected FOLDER/train/CLASS"):
        load_data(settings("image_folder", tmp_path / "nowhere"))
    write_images(tmp_path / "one", classes=("ant",))
    with pytest.raises(DataError, match=r"one class \['ant'\]"):
        load_data(settings("image_folder", tmp_path / "one"))
    write_images(tmp_path / "two" / "train")
    write_images(tmp_path / "two" / "test", classes=("ant", "cat"))
    with pytest.raises(DataError, match=r"differ in the classes \['bee', 'cat'\]"):
        load_data(settings("image_folder", tmp_path / "two"))
    write_images(tmp_path / "sound")
    damaged = tmp_path / "sound" / "bee" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=r"bee/001.png: damaged"):
        load_data(settings("image_folder", tmp_path / "sound"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match="needs a torchvision"):
        load_data(settings("image_folder", tmp_path / "sound"))


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (("train", "validation"), "has train and validation, but neither test nor val: rename"),
        (("training", "testing"), "testing, training would be classes, but hold folders: rename them"),
        (("Train", "Test"), "Test, Train would be classes"),
    ],
)
def test_splits_with_other_names_are_neither_ignored_nor_taken_for_classes(tmp_path, folders, reason):
    for folder in folders:
        write_images(tmp_path / folder)
    with pytest.raises(DataError, match=rf"image_folder.*{reason}.*expected FOLDER/train/CLASS"):
        load_data(settings("image_folder", tmp_path))


def test_a_class_may_be_called_test(tmp_path):
    write_images(tmp_path, classes=("test", "control"))
    assert load_data(settings("image_folder", tmp_path)).class_names == ("control", "test")


DEPTHS = {
    "I;16": lambda values: np.round(values * 65535).astype(np.uint16),
    "I": lambda values: np.round(values * 65535).astype(np.int32),
    "F": lambda values: values.astype(np.float32),
    "L": lambda values: np.round(values * 255).astype(np.uint8),
}


@pytest.mark.parametrize("resize", [None, 6])
@pytest.mark.parametrize("mode", DEPTHS)
def test_grey_pictures_of_any_depth_are_brought_to_0_to_1(tmp_path, mode, resize):
    from PIL import Image

    smooth = np.linspace(0.02, 0.03, 16 * 16).reshape(16, 16)  # dark: 8 bits have three values for it
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(3):
            picture = Image.fromarray(DEPTHS[mode](smooth if number else 1 - smooth))
            picture.save(tmp_path / name / f"{number}.tif")
    read = load_data(settings("image_folder", tmp_path, search=2, test=2, resize=resize))
    ((mean, std),) = {*read.standardisation}
    found = torch.cat([part.images for part in (read.train, read.search, read.test)]) * std + mean
    assert found.shape[1:] == (3, *([16] * 2 if resize is None else [resize] * 2))
    assert 0.01 < float(found.min()) < 0.03
    assert 0.96 < float(found.max()) < 0.99
    if resize is None:
        dark = found[found.mean((1, 2, 3)) < 0.5][0, 0].numpy()
        precision = {"I;16": 1e-5, "I": 1e-5, "F": 1e-6, "L": 2e-3}[mode]
        assert np.abs(dark - smooth).max() < precision
        assert len(np.unique(dark)) == (4 if mode == "L" else 256)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 8), 70_000, np.int32), "mode I with values from 70000 to 70000: expected 0 to 65535"),
        (np.full((8, 8), -1, np.int32), "mode I with values from -1"),
        (np.full((8, 8), 255.0, np.float32), "mode F with values from 255 to 255: expected 0 to 1"),
        (np.full((8, 8), np.nan, np.float32), "mode F"),
    ],
)
def test_pictures_whose_range_is_unknown_are_refused(tmp_path, values, message):
    from PIL import Image

    write_images(tmp_path)
    Image.fromarray(values).save(tmp_path / "bee" / "odd.tif")
    with pytest.raises(DataError, match=rf"bee/odd\.tif: a picture of {message}"):
        load_data(settings("image_folder", tmp_path))
