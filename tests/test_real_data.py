"""Real data in the layouts in which they are published, as the readers of the package see them."""

from __future__ import annotations

import numpy as np
import torch

from aspk.data import load_data
from aspk.spec.settings import DataSettings


def test_cifar10_in_its_published_layout(real_data):
    """Labels and images of the test batch against a reading of the bytes; the copies went through JPEG."""
    folder = real_data / "cifar-10-batches-bin"
    data = load_data(DataSettings(name="cifar10", folder=str(folder), search=5000))
    assert [len(data.split(name).labels) for name in ("train", "search", "test")] == [45_000, 5_000, 10_000]
    raw = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(10_000, 3073)
    assert np.array_equal(np.bincount(raw[:, 0]), [1000] * 10)
    assert np.array_equal(data.test.labels.numpy(), raw[:, 0])
    pixels = torch.from_numpy(raw[:500, 1:].reshape(500, 3, 32, 32) / np.float32(255))
    seen = data.test.images[:500]
    for channel in range(3):  # standardised by one line for each channel
        slope = seen[:, channel].std() / pixels[:, channel].std()
        offset = seen[:, channel].mean() - slope * pixels[:, channel].mean()
        assert torch.allclose(seen[:, channel], slope * pixels[:, channel] + offset, atol=1e-4)
