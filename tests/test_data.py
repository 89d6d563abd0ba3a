"""Data sets and their splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from aspk.data import load_data, stratified_split
from aspk.device import resolve_device
from aspk.errors import DataError, DeviceError


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


@given(
    st.lists(st.integers(0, 3), min_size=40, max_size=200),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
)
def test_splits_are_a_stratified_partition(labels, first, second):
    labels = np.array(labels)
    parts = stratified_split(labels, (first, second))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (first, second, 1 - first - second), strict=True):
        for label in np.unique(labels):
            expected = share * (labels == label).sum()
            assert abs((labels[part] == label).sum() - expected) <= 1
    again = stratified_split(labels, (first, second))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_errors_say_what_is_expected():
    with pytest.raises(DataError, match="expected one of digits"):
        load_data("imagenet")
    for fractions in ((0.5, 0.5), (0.0, 0.2), (-1, 0.1)):
        with pytest.raises(DataError, match="fractions"):
            load_data("digits", search_fraction=fractions[0], test_fraction=fractions[1])
    with pytest.raises(DataError, match="train, search, test"):
        load_data("digits").split("validation")
    with pytest.raises(DeviceError, match="auto, cpu, cuda"):
        resolve_device("tpu")


def test_fingerprint_tells_data_apart(digits):
    assert digits.fingerprint() == load_data("digits").fingerprint()
    assert digits.fingerprint() != load_data("digits", search_fraction=0.3).fingerprint()
