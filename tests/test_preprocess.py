"""What load_data does with images is done again with ordinary ones, pixel for pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from data_files import archive, cifar_files, cifar_folder, settings, write_fashion_mnist
from PIL import Image
from torchvision.transforms.v2 import functional

from aspk.data import DATA_SETS, Preprocess, generated_data, load_data, network_input, preprocess_of
from aspk.data.pictures import open_picture, pixels_of
from aspk.errors import DataError
from aspk.spec.settings import DataSettings


def write_pictures(folder, sizes, mode="RGB", seed=0):
    """Random pictures (width, height) in folders a and b; the paths of the folder ``train``."""
    rng, paths = np.random.default_rng(seed), []
    for part in ("train", "test"):
        for number, (width, height) in enumerate(sizes):
            place = folder / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(place / f"{number}.png")
            paths += [place / f"{number}.png"] if part == "test" else []
    return sorted(paths)


def forms_of(picture):
    """The same image in every form that preprocessing takes."""
    rows = np.asarray(picture)
    rows = rows[..., None] if rows.ndim == 2 else rows
    planes = torch.from_numpy(rows.copy()).permute(2, 0, 1)
    return {
        "picture": picture,
        "list": [picture],
        "bytes": rows,
        "batch of bytes": rows[None],
        "floats": rows / 255,
        "float32": rows.astype(np.float32) / 255,
        "reversed strides": rows[::-1].copy()[::-1],
        "tensor of bytes": planes,
        "batch in a tensor": planes[None],
        "tensor of floats": planes / 255,
        "float64": (planes / 255).double(),
    }


@pytest.mark.parametrize("resize", [None, 6, 8, 20])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA"])
def test_pictures_of_a_folder_in_every_form(tmp_path, resize, mode):
    sizes = [(12, 12)] * 8 if resize is None else [(12, 12), (13, 8), (8, 17), (21, 30)] * 2
    paths = write_pictures(tmp_path, sizes, mode)
    data = load_data(settings("image_folder", tmp_path, resize=resize, search=2))
    preprocess = preprocess_of(data, time_steps=2)
    expected = data.test.images
    for path, image in zip(paths, expected, strict=True):
        assert torch.equal(preprocess(open_picture(path)), image[None])
        for form, images in forms_of(open_picture(path).convert("RGB")).items():
            assert torch.equal(preprocess(images), image[None]), form
    pictures = [open_picture(path) for path in paths]
    assert torch.equal(preprocess(pictures), expected)
    assert data.class_names == ("a", "b")


def test_sizes_are_cut_as_torchvision_cuts_them():
    rng = np.random.default_rng(0)
    for width, height in rng.integers(3, 90, (200, 2)):
        size = int(rng.integers(1, 40))
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        whole = functional.center_crop(functional.resize(picture, [size]), [size])
        expected = np.asarray(whole, np.float32).transpose(2, 0, 1) / 255
        assert np.array_equal(pixels_of(picture, channels=3, size=(size, size)), expected), (
            width,
            height,
            size,
        )


@pytest.mark.parametrize("size", [(8, 20), (20, 8), (7, 7), (1, 1)])
def test_other_shapes_are_covered_too(size):
    for width, height in ((3, 50), (50, 3), (21, 19)):
        picture = Image.fromarray(np.full((height, width, 3), 200, np.uint8))
        found = pixels_of(picture, channels=3, size=size)
        assert found.shape == (3, *size)
        assert np.unique(found).tolist() == [np.float32(200 / 255)]  # nothing was padded


@pytest.mark.parametrize("resize", [None, 24])
def test_fashion_mnist(tmp_path, resize):
    *_, images, _ = write_fashion_mnist(tmp_path)
    data = load_data(settings("fashion_mnist", tmp_path, resize=resize))
    preprocess = preprocess_of(data, time_steps=2)
    pictures = [Image.fromarray(image[0]) for image in images]
    assert torch.equal(preprocess(pictures), data.test.images)
    for picture, expected in zip(pictures[:3], data.test.images, strict=False):
        for form, given in forms_of(picture).items():
            assert torch.equal(preprocess(given), expected[None]), form
        assert torch.equal(
            preprocess(np.asarray(picture)), expected[None]
        )  # grey images have no channel axis
        assert torch.equal(preprocess(picture.convert("RGBA")), expected[None])
    assert data.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("resize", [None, 40])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, name, resize):
    files, (*_, images, _) = cifar_files(name)
    (tmp_path / load_name(name)).write_bytes(archive(files, cifar_folder(name)))
    data = load_data(settings(name, tmp_path, resize=resize))
    preprocess, rows = preprocess_of(data, time_steps=2), images.transpose(0, 2, 3, 1)
    assert torch.equal(preprocess([Image.fromarray(image) for image in rows]), data.test.images)
    assert torch.equal(preprocess(rows), data.test.images)
    assert torch.equal(preprocess(torch.from_numpy(images) / 255), data.test.images)
    assert len(data.class_names) == data.classes


def load_name(name):
    return {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}[name]


@pytest.mark.parametrize("resize", [None, 12])
def test_digits(resize):
    from sklearn.datasets import load_digits

    data = load_data(DataSettings(name="digits", resize=resize))
    preprocess = preprocess_of(data, time_steps=4)
    found = preprocess((load_digits().images / 16)[..., None])
    known = {image.numpy().tobytes() for image in found}
    assert {image.numpy().tobytes() for image in data.test.images} <= known
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize("resize", [None, 4])
def test_event_frames(tmp_path, resize):
    rng = np.random.default_rng(0)
    for name in ("bird", "car"):
        (tmp_path / name).mkdir()
        for number in range(8):
            np.savez(tmp_path / name / f"{number}.npz", frames=rng.poisson(2.0, (3, 2, 8, 8)))
    data = load_data(settings("cifar10_dvs", tmp_path, test=4, search=4, resize=resize))
    preprocess = preprocess_of(data, time_steps=2)
    files = sorted(tmp_path.rglob("*.npz"))
    sequences = np.stack([np.load(file)["frames"] for file in files])
    found = preprocess(sequences)
    assert found.shape[:2] == (2, 16)  # time first, and no more steps than the network has
    known = {image.contiguous().numpy().tobytes() for image in found.transpose(0, 1)}
    expected = network_input(data.test.images, 2).transpose(0, 1)
    assert {image.contiguous().numpy().tobytes() for image in expected} <= known
    assert torch.equal(preprocess(torch.from_numpy(sequences).float()), found)
    assert torch.equal(preprocess(list(sequences)), found)
    with pytest.raises(DataError, match=r"shape \(4, 2, 8, 8\): expected event counts \[3, 2, H, W\]"):
        preprocess(np.zeros((4, 2, 8, 8)))
    with pytest.raises(DataError, match="a picture: expected an array"):
        preprocess(Image.new("RGB", (8, 8)))
    with pytest.raises(DataError, match="expected finite numbers"):
        preprocess(np.full((3, 2, 8, 8), 1e300))
    assert data.class_names == ("bird", "car")


@pytest.mark.parametrize("name", sorted(name for name, reader in DATA_SETS.items() if reader.kind))
def test_generated_data_say_it_too(name):
    frames = 3 if name == "nmnist" else None
    data = generated_data(DataSettings(name=name, frames=frames), 4, frames=3)
    preprocess = preprocess_of(data, time_steps=2)
    assert preprocess.size == data.shape[1:]
    assert len(data.class_names) == data.classes
    assert preprocess.frames == (3 if name in ("cifar10_dvs", "nmnist") else None)


COLOUR = Preprocess(size=(8, 8), resize="center_crop", mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "empty list"),
        ("cat.png", "str: expected a picture"),
        (None, "NoneType: expected a picture"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\): expected an array \[H, W, 3\]"),
        (torch.zeros(8, 8, 3), r"shape \(8, 8, 3\): expected a tensor \[3, H, W\]"),
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"shape \(0, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.int64), "type int64: expected uint8"),
        (np.full((8, 8, 3), 255.0), "from 255 to 255: expected 0 to 1"),
        (torch.randn(3, 8, 8), "not standardised"),
        (np.full((8, 8, 3), np.nan), "expected 0 to 1"),
        (np.array([[["a"] * 3]]), "type <U1"),
    ],
)
def test_what_does_not_fit_is_refused(images, message):
    with pytest.raises(DataError, match=message):
        COLOUR(images)


def test_json_and_back():
    for preprocess, channels in (
        (COLOUR, 3),
        (Preprocess(size=(8, 8), resize="stretch", mean=(1, 2.5), std=(1, 3), frames=16, time_steps=4), 2),
    ):
        text = json.dumps(preprocess.to_json())
        assert Preprocess.from_json(json.loads(text), shape=(channels, 8, 8)) == preprocess


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("range", [0, 255]),
        ("range", None),
        ("interpolation", "nearest"),
        ("resize", "pad"),
        ("resize", ["stretch"]),
        ("size", [8, 9]),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, "0.5"]),
        ("mean", [0.5, 0.5, float("nan")]),
        ("mean", [0.5, 0.5, 10**400]),
        ("std", [0.5, 0.5, 0]),
        ("std", [0.5, 0.5, 1e-300]),
        ("std", None),
        ("frames", 0),
        ("frames", "3"),
        ("rotate", 90),
    ],
)
def test_descriptions_of_other_programs_are_refused(key, value):
    with pytest.raises(DataError, match=rf"preprocess\.({key}|time_steps|range)"):
        Preprocess.from_json(COLOUR.to_json() | {key: value}, shape=(3, 8, 8))


@pytest.mark.parametrize("data", [None, [], "stretch", {}])
def test_a_description_that_is_none(data):
    with pytest.raises(DataError, match="preprocess"):
        Preprocess.from_json(data, shape=(3, 8, 8))
