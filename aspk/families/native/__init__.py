"""C++ kernels for the CPU, compiled on the user's machine; absent without a compiler."""

from aspk.families.native.build import library
from aspk.families.native.neurons import (
    Affine,
    Layout,
    Neuron,
    available,
    gradients,
    normalisation,
    recorded,
    spikes,
    traced,
)

__all__ = [
    "Affine",
    "Layout",
    "Neuron",
    "available",
    "gradients",
    "library",
    "normalisation",
    "recorded",
    "spikes",
    "traced",
]
