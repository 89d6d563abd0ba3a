"""Readers of data files: what is written is read, and damage is named, never believed."""

from __future__ import annotations

import dataclasses
import gzip
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import (
    archive,
    assert_holds,
    cifar_files,
    cifar_folder,
    idx,
    pictures,
    settings,
    write_fashion_mnist,
)
from hypothesis import given
from hypothesis import strategies as st

from aspk.data import cifar, fashion_mnist, load_data
from aspk.data.fashion_mnist import read_idx
from aspk.errors import DataError
from aspk.spec.settings import DataSettings

MIB = 1 << 20

# ---------------------------------------------------------------------- Fashion-MNIST


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist(tmp_path, suffix):
    written = write_fashion_mnist(tmp_path, suffix=suffix)
    data = load_data(settings("fashion_mnist", tmp_path))
    assert (data.shape, data.classes, len(data.search)) == ((1, 28, 28), 10, 10)
    assert np.bincount(data.search.labels).tolist() == [1] * 10
    assert_holds(data, *written)
    small = load_data(settings("fashion_mnist", tmp_path, train=20, search=10, test=10, resize=32))
    assert [len(small.split(name)) for name in ("train", "search", "test")] == [20, 10, 10]
    assert small.shape == (1, 32, 32)
    assert small.search.labels.tolist() == data.search.labels.tolist()
    assert np.bincount(small.test.labels).tolist() == [1] * 10


def test_fashion_mnist_is_found_where_it_usually_is(tmp_path, monkeypatch):
    origin = dataclasses.replace(fashion_mnist.ORIGIN, installed=(tmp_path / "system",))
    monkeypatch.setattr(fashion_mnist, "ORIGIN", origin)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        load_data("fashion_mnist")
    for words in (
        "train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
        f"{tmp_path / 'system'}, {tmp_path / 'cache' / 'aspk' / 'fashion_mnist'}",
        "'aspk train STUDY --download'",
        "dataset-fashion-mnist",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ):
        assert words in str(caught.value)
    for place, count in (("cache/aspk/fashion_mnist", 30), ("system", 40)):
        write_fashion_mnist(tmp_path / place, test=count)
        assert len(load_data("fashion_mnist").test) == count


REAL = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not REAL.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path):
    from torchvision.datasets.mnist import read_image_file, read_label_file

    data = load_data(DataSettings(name="fashion_mnist", train=2000, search=500))
    raw = {}
    for name, read in (
        ("t10k-images-idx3-ubyte", read_image_file),
        ("t10k-labels-idx1-ubyte", read_label_file),
    ):
        (tmp_path / name).write_bytes(gzip.decompress((REAL / f"{name}.gz").read_bytes()))
        raw[name] = read(str(tmp_path / name))
    images, labels = raw.values()
    assert data.test.labels.equal(labels)
    ours = data.test.images[:, 0].double()  # an affine function of the bytes: from 0 and 255 to the extremes
    scale = (ours.max() - ours.min()) / 255
    assert torch.equal(((ours - ours.min()) / scale).round().byte(), images)
    assert np.bincount(data.train.labels).tolist() == [200] * 10


IDX_NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.mark.parametrize("name", IDX_NAMES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "garbage", "folder"])
def test_a_damaged_file_is_named_with_advice(tmp_path, name, suffix, damage):
    write_fashion_mnist(tmp_path, suffix=suffix)
    file = tmp_path / (name + suffix)
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        file.write_bytes({"truncated": content[:-9], "empty": b"", "garbage": b"\x00no" * 99}[damage])
    with pytest.raises(DataError) as caught:
        load_data(settings("fashion_mnist", tmp_path))
    message = str(caught.value)
    assert name in message
    assert str(tmp_path) in message
    assert "'aspk train STUDY --download'" in message
    assert f"{name}.gz (MD5" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.full(50, 10), "label 10, expected 0 to 9"), (np.zeros(49), "49 labels for the 50 images")],
)
def test_labels_must_fit(tmp_path, labels, message):
    write_fashion_mnist(tmp_path, suffix="")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    with pytest.raises(DataError, match=rf"train-labels-idx1-ubyte: .*{message}"):
        load_data(settings("fashion_mnist", tmp_path))


WHOLE = idx(pictures(3, 1, 28)[:, 0])


@st.composite
def mutants(draw, whole):
    """A file with bytes changed, cut off or put on."""
    content = bytearray(whole)
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, 15), st.integers(0, 255)), max_size=3)
    ):  # in the header
        content[place] = value
    cut = draw(st.one_of(st.just(len(content)), st.integers(0, len(content)), st.integers(0, 20)))
    return bytes(content[:cut]) + draw(st.binary(max_size=3))


@given(content=mutants(WHOLE), zipped=st.booleans(), cut=st.integers(0, 40))
def test_idx_is_read_only_if_every_byte_is_right(tmp_path_factory, content, zipped, cut):
    folder = tmp_path_factory.getbasetemp()
    path = folder / ("mutant.gz" if zipped else "mutant")
    packed = gzip.compress(content, 1)
    path.write_bytes(packed[: len(packed) - cut] if zipped else content)
    count = int.from_bytes(content[4:8], "big")
    right = content[:16] == struct.pack(">BBBB3I", 0, 0, 8, 3, count, 28, 28) and not (zipped and cut)
    if right and len(content) == 16 + 784 * count and count:
        assert read_idx(path, (28, 28)).tobytes() == content[16:]
    else:
        with pytest.raises(DataError):
            read_idx(path, (28, 28))


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(WHOLE + bytes(48 * MIB), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="goes on"):
            read_idx(path, (28, 28))
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 28, 28)))
    with pytest.raises(DataError, match="4294967295 items"):
        read_idx(path, (28, 28))


# ---------------------------------------------------------------------- CIFAR


def write_cifar(folder, name, form, files):
    if form == "archive":
        inner = cifar_folder(name)
        (folder / {"cifar10": "cifar-10-binary", "cifar100": "cifar-100-binary"}[name]).with_suffix(
            ".tar.gz"
        ).write_bytes(archive(files, inner))
        return
    place = folder / cifar_folder(name) if form == "extracted" else folder
    place.mkdir(exist_ok=True)
    for file, content in files.items():
        (place / file).write_bytes(content)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("form", ["archive", "extracted", "flat"])
def test_cifar(tmp_path, name, form):
    files, written = cifar_files(name)
    write_cifar(tmp_path, name, form, files)
    data = load_data(settings(name, tmp_path))
    assert (data.shape, data.classes) == ((3, 32, 32), 10 if name == "cifar10" else 100)
    assert_holds(data, *written)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_missing_cifar_says_how_to_get_it(tmp_path, name):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError) as caught:
        load_data(settings(name, tmp_path))
    for words in (str(tmp_path), "binary.tar.gz (MD5", "--download", "pickled, and never read"):
        assert words in str(caught.value)


@pytest.mark.parametrize("form", ["archive", "extracted"])
@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("cifar10", "data_batch_3.bin", None, "data_batch_3.bin"),
        ("cifar10", "test_batch.bin", None, "test_batch.bin"),
        (
            "cifar10",
            "test_batch.bin",
            lambda content: content[:-1],
            "30729 bytes, expected a multiple of 3073",
        ),
        ("cifar10", "test_batch.bin", lambda content: b"", "test_batch.bin: .* 0 bytes"),
        ("cifar10", "data_batch_2.bin", lambda content: b"\x0a" + content[1:], "label 10, expected 0 to 9"),
        ("cifar10", "data_batch_5.bin", lambda content: content[:3073], "files differ in images"),
        ("cifar100", "train.bin", lambda content: b"\x14" + content[1:], "label 20, expected 0 to 19"),
        ("cifar100", "test.bin", lambda content: b"\x13\x64" + content[2:], "label 100, expected 0 to 99"),
        ("cifar100", "train.bin", lambda content: content * 6, "more than 50 images|too large"),
    ],
)
def test_damaged_cifar(tmp_path, monkeypatch, form, name, file, change, message):
    monkeypatch.setattr(cifar, "_MOST_IMAGES", 50)  # in proportion to these files
    files, _ = cifar_files(name)
    content = files.pop(file)
    if change is not None:
        files[file] = change(content)
    write_cifar(tmp_path, name, form, files)
    with pytest.raises(DataError, match=message) as caught:
        load_data(settings(name, tmp_path))
    assert "--download" in str(caught.value)


CIFAR10_FILES, CIFAR10_WRITTEN = cifar_files(count=2)
ARCHIVE = archive(CIFAR10_FILES, "cifar-10-batches-bin")
ARCHIVED = gzip.decompress(ARCHIVE)
HEADERS = [place for place in range(0, len(ARCHIVED), 512) if b"cifar" in ARCHIVED[place : place + 20]]


@given(
    changes=st.lists(
        st.tuples(st.sampled_from(HEADERS), st.integers(0, 511), st.integers(0, 255)), max_size=3
    ),
    cut=st.one_of(st.just(0), st.integers(0, len(ARCHIVED))),
    packed_cut=st.one_of(st.just(0), st.integers(0, 200)),
    type_flag=st.none() | st.sampled_from(b"\0017LxgSKNDVM"),
    fix_checksum=st.booleans(),
)
def test_a_strange_archive_is_read_or_refused(
    tmp_path_factory, changes, cut, packed_cut, type_flag, fix_checksum
):
    content = bytearray(ARCHIVED)
    for header, place, value in changes:
        content[header + place] = value
    if type_flag is not None:
        content[HEADERS[2] + 156] = type_flag
    if fix_checksum:  # so that tarfile believes the rest
        for header in HEADERS:
            block = (
                bytes(content[header : header + 148]) + b" " * 8 + bytes(content[header + 156 : header + 512])
            )
            content[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    packed = gzip.compress(bytes(content[: len(content) - cut]), 1)
    folder = tmp_path_factory.getbasetemp()
    (folder / "cifar-10-binary.tar.gz").write_bytes(packed[: len(packed) - packed_cut])
    outcome = loaded_or_error(settings("cifar10", folder, search=2))
    if isinstance(outcome, DataError):
        assert "cifar-10-binary.tar.gz" in str(outcome)
        assert changes or cut or packed_cut or type_flag is not None
    else:
        assert len(outcome.train) + len(outcome.search) == 10
        assert outcome.test.labels.max() < 10


def loaded_or_error(wanted):
    try:
        return load_data(wanted)
    except DataError as error:
        return error


def test_an_archive_is_unpacked_into_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "_MOST_BYTES", 4 * MIB)
    file = tmp_path / "cifar-10-binary.tar.gz"
    for bomb in (tar_of("rest", bytes(40 * MIB)), header_of_size(40 * MIB) + bytes(40 * MIB)):
        file.write_bytes(gzip.compress(bomb + ARCHIVED, 1))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="unpacks to more than 4194304 bytes"):
                load_data(settings("cifar10", tmp_path))
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()


def tar_of(name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member.tobuf() + content


def header_of_size(size):
    """The head of a long name, which tarfile reads into memory whole."""
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
    return member.tobuf(tarfile.GNU_FORMAT)


def test_nothing_is_extracted(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    content = gzip.compress(tar_of("../escaped", b"x" * 512) + ARCHIVED)
    (folder / "cifar-10-binary.tar.gz").write_bytes(content)
    assert len(load_data(settings("cifar10", folder, search=2)).test) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "cifar-10-binary.tar.gz"]
