"""Data sets and their splits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from aspk.data import DataSet, Split, load_data, stratified_split
from aspk.engines.device import resolve_device
from aspk.errors import DataError, DeviceError
from aspk.spec.settings import DataSettings


def test_digits_in_three_disjoint_splits(digits):
    assert (digits.shape, digits.classes) == ((1, 8, 8), 10)
    parts = [digits.train, digits.search, digits.test]
    assert sum(map(len, parts)) == 1797
    seen = [{tuple(image.flatten().tolist()) for image in part.images} for part in parts]
    duplicates = 1797 - len(
        {tuple(image.flatten().tolist()) for image in torch.cat([p.images for p in parts])}
    )
    overlap = sum(len(a & b) for i, a in enumerate(seen) for b in seen[i + 1 :])
    assert overlap <= duplicates
    assert abs(float(digits.train.images.mean())) < 1e-4
    assert float(digits.train.images.std()) == pytest.approx(1, abs=1e-3)


def test_images_keep_their_labels(digits):
    bunch = load_digits()
    known = {image.tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    low = digits.test.images.min()
    step = np.unique(np.diff(np.unique(digits.test.images.numpy())).round(4))[0]
    pixels = ((digits.test.images - low) / step).round().double()
    for image, label in zip(pixels, digits.test.labels, strict=True):
        assert known[image[0].numpy().tobytes()] == label


def test_the_splits_of_digits_are_for_ever(digits):
    """Class by class, rounded shares of a permutation: weights trained on these splits are about."""
    target, rng = load_digits().target, np.random.default_rng(0)
    parts = ([], [], [])
    for label in range(10):
        members = rng.permutation(np.flatnonzero(target == label))
        first, second = round(0.2 * len(members)), round(0.4 * len(members))
        for part, some in zip(parts, (members[:first], members[first:second], members[second:]), strict=True):
            part.extend(some)
    test, search, train = (target[rng.permutation(np.array(part))] for part in parts)
    for split, labels in ((digits.test, test), (digits.search, search), (digits.train, train)):
        assert split.labels.tolist() == labels.tolist()


LABELS = st.lists(st.integers(0, 3), min_size=40, max_size=200).map(np.array)


@given(LABELS, st.floats(0.1, 0.4), st.one_of(st.floats(0.1, 0.4), st.integers(1, 20)))
def test_splits_are_a_partition_of_the_right_sizes(labels, first, second):
    parts = stratified_split(labels, (first, second))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    shares = (first, second if isinstance(second, float) else second / len(labels))
    for part, share in zip(parts, (*shares, 1 - sum(shares)), strict=True):
        assert abs(len(part) - share * len(labels)) <= 1
        for label in np.unique(labels):
            expected = share * (labels == label).sum()
            assert abs((labels[part] == label).sum() - expected) < 4  # the number of classes
    again = stratified_split(labels, (first, second))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@given(st.integers(2, 6), st.integers(8, 30), st.integers(1, 20), st.integers(1, 20))
def test_classes_of_one_size_are_split_alike(classes, members, first, second):
    labels = np.random.default_rng(members).permutation(np.repeat(np.arange(classes), members))
    first, second = min(first, classes * members // 2), min(second, classes * members // 2)
    parts = stratified_split(labels, (first, second))
    assert [len(part) for part in parts] == [first, second, classes * members - first - second]
    for part in parts:
        counts = np.bincount(labels[part], minlength=classes)
        assert counts.max() - counts.min() <= 2


@given(LABELS, st.integers(1, 30), st.integers(31, 40))
def test_a_larger_split_keeps_its_images(labels, small, large):
    few, many = (set(stratified_split(labels, (size,))[0].tolist()) for size in (small, large))
    assert few < many


@pytest.mark.parametrize(
    "sizes", [(0,), (-1,), (0.0,), (1.0,), (float("nan"),), (41,), (0.5, 0.6), (40, 0.1)]
)
def test_impossible_sizes(sizes):
    with pytest.raises(DataError, match="split size"):
        stratified_split(np.arange(40) % 4, sizes)


def test_sizes_of_digits():
    data = load_data(DataSettings(name="digits", train=500, search=100, test=0.1))
    assert [len(part) for part in (data.train, data.search, data.test)] == [500, 100, 180]
    smaller = load_data(DataSettings(name="digits", train=200, search=100, test=0.1))
    assert smaller.search.labels.tolist() == data.search.labels.tolist()
    assert float(smaller.train.images.std()) == pytest.approx(1, abs=1e-4)
    assert np.bincount(smaller.train.labels).min() >= 18


def test_images_are_resized():
    data = load_data(DataSettings(name="digits", resize=16))
    assert data.shape == (1, 16, 16)
    assert len(data.train) == 1078
    assert float(data.train.images.mean()) == pytest.approx(0, abs=1e-4)
    same = load_data("digits")
    pooled = torch.nn.functional.avg_pool2d(data.test.images, 2)  # twice the size and back: nearly the same
    correlation = np.corrcoef(pooled.flatten(), same.test.images.flatten())[0, 1]
    assert correlation > 0.95
    assert data.test.labels.equal(same.test.labels)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": 3},
        {"folder": 3},
        {"folder": ""},
        {"train": 0},
        {"train": 1.0},
        {"train": True},
        {"search": None},
        {"search": -0.1},
        {"search": float("nan")},
        {"test": "many"},
        {"resize": 0},
        {"resize": 32.0},
        {"resize": 100_000},
    ],
)
def test_settings_are_checked(change):
    ((name, value),) = change.items()
    with pytest.raises(DataError, match=f"^{name} = "):
        DataSettings(**{"name": "digits", **change})
    with pytest.raises(DataError, match=f"^data.{name} = "):
        DataSettings.from_json({"name": "digits", name: value})


SIZES = st.none() | st.integers(1, 10**6) | st.floats(0.01, 0.99)


@given(
    name=st.sampled_from(["digits", "cifar10"]),
    folder=st.none() | st.text(min_size=1),
    train=SIZES,
    search=st.integers(1, 10**6) | st.floats(0.01, 0.99),
    test=SIZES,
    resize=st.none() | st.integers(1, 1024),
)
def test_settings_survive_json(**values):
    settings = DataSettings(**values)
    again = DataSettings.from_json(settings.to_json())
    assert again == settings
    assert all(type(getattr(again, name)) is type(value) for name, value in values.items())


def test_default_settings_are_the_name():
    assert DataSettings(name="digits").to_json() == "digits"
    assert load_data("digits").provenance() == "digits"
    changed = load_data(DataSettings(name="digits", search=0.3))
    assert changed.provenance() == {"name": "digits", "search": 0.3}
    split = Split(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64))
    assert DataSet("mine", (1, 2, 2), 2, split, split, split).provenance() == "mine"


def test_errors_say_what_is_expected():
    with pytest.raises(DataError, match="expected one of digits, fashion_mnist, cifar10"):
        load_data("imagenet")
    for sizes, message in (
        ({"search": 0.5, "test": 0.5}, "digits: no image is left for train"),
        ({"search": 0.5, "test": 0.6}, "digits: split sizes .* more than the 1797 images"),
        ({"train": 1797}, "digits: split sizes"),
        ({"test": 1e-9}, "no image is left for test"),
        ({"folder": "/tmp"}, "come with scikit-learn"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(DataSettings(name="digits", **sizes))
    with pytest.raises(DataError, match="train, search, test"):
        load_data("digits").split("validation")
    with pytest.raises(DeviceError, match="auto, cpu, cuda"):
        resolve_device("tpu")


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist", "cifar10_dvs", "image_folder"])
def test_a_folder_of_a_user_whom_the_system_does_not_know(name, monkeypatch):
    def unknown(key):
        raise KeyError(key)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)  # as under 'docker run -u 12345'
    for folder in ("~/data", "~nobody-of-this-name/data"):
        with pytest.raises(DataError, match=rf"data\.folder = '{folder}': .*write the whole path"):
            load_data(DataSettings(name=name, folder=folder))


def test_fingerprint_tells_data_apart(digits):
    assert digits.fingerprint() == load_data("digits").fingerprint()
    assert digits.fingerprint() == digits.to(torch.device("cpu")).fingerprint()
    assert digits.fingerprint() != load_data(DataSettings(name="digits", search=0.3)).fingerprint()
    other = digits.test.labels.clone()
    other[-1] = (other[-1] + 1) % 10
    changed = dataclasses.replace(digits, test=Split(digits.test.images, other))
    assert digits.fingerprint() != changed.fingerprint()
