"""Small data sets in the real file formats, written from the formats' descriptions."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest

from aspk.spec.settings import DataSettings


def pictures(count, channels, size, seed=0):
    """Random images, all different; each channel starts with 0 and 255, which :func:`pixels` uses."""
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255
    return images


def pixels(images):
    """The bytes that standardised images were made of, if :func:`pictures` made them."""
    images = images.double()
    low, high = images[:, :, 0, 0, None, None], images[:, :, 0, 1, None, None]
    return ((images - low) / (high - low) * 255).round().byte().numpy()


def idx(array):
    """An array of bytes as an idx file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion_mnist(folder, train=50, test=20, suffix=".gz"):
    """Fashion-MNIST's four files; returns images and labels of training and test set."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for seed, (name, count) in enumerate((("train", train), ("t10k", test))):
        images, labels = pictures(count, 1, 28, seed), np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels)):
            content = idx(array)
            path = folder / f"{name}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)
        written += [images, labels]
    return written


def cifar_files(name="cifar10", count=10):
    """Contents of the ``.bin`` files by name, and images and labels of training and test set."""
    wide = name == "cifar100"
    batches = ["train"] if wide else [f"data_batch_{number}" for number in range(1, 6)]
    files, train = {}, []
    for seed, batch in enumerate([*batches, "test" if wide else "test_batch"]):
        images = pictures(count, 3, 32, seed)
        labels = (np.arange(count) * (7 if wide else 1) % (100 if wide else 10)).astype(np.uint8)
        heads = [(label // 5, label) if wide else (label,) for label in labels]
        files[f"{batch}.bin"] = b"".join(
            bytes(head) + image.tobytes() for head, image in zip(heads, images, strict=True)
        )
        train.append((images, labels))
    test = train.pop()
    return files, [np.concatenate(parts) for parts in zip(*train, strict=True)] + list(test)


def cifar_folder(name="cifar10"):
    return {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}[name]


def archive(files, folder):
    """A gzipped tar with files in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def settings(name, folder, **sizes):
    return DataSettings(name=name, folder=str(folder), **sizes)


def labelled(images, labels):
    """Each image's bytes with its label."""
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def assert_holds(data, train, train_labels, test, test_labels):
    """A data set has exactly these images: its own test set, and a training set cut in two."""
    training = labelled(train, train_labels)
    found = [labelled(pixels(part.images), part.labels) for part in (data.train, data.search)]
    assert found[0] | found[1] == training
    assert not found[0] & found[1]
    assert pixels(data.test.images).tobytes() == test.tobytes()
    assert data.test.labels.tolist() == test_labels.tolist()
    for channel in range(data.shape[0]):
        assert float(data.train.images[:, channel].mean()) == pytest.approx(0, abs=1e-4)
        assert float(data.train.images[:, channel].std()) == pytest.approx(1, abs=1e-3)
