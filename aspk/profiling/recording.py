"""The record of one pass of a module, as plain values for other modules to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import nn

from aspk.metrics import Kind
from aspk.profiling.neurons import Neurons
from aspk.profiling.operations import Operation


@dataclass
class Call:
    """A module that is running."""

    name: str
    module: nn.Module
    neuron: bool
    state: dict[str, int]
    comparisons: int = 0
    products: int = 0
    found: bool = False  # whether a part of it is, or looks like, neurons


@dataclass
class Elementwise:
    """Operations between two activations, element by element, of one kind in one module.

    Attributes:
        values: results of additions and products, values that a pooling reads.
        effective: in products with 0/1 values, those whose 0/1 factor is not 0.
    """

    values: int = 0
    effective: int = 0


@dataclass
class Recording:
    """What happened in one pass.

    Attributes:
        operations: products, by name, in the order of their first call.
        neurons: neuron modules by name, in the order of their first call.
        elementwise: by module and kind: ``addition``, ``multiplication``, ``mask`` or ``pooling``.
        scaled: values that are multiplied by a weight each, element by element, by module.
        uncounted: operations in no table, and their operands' shapes.
        offline: products of weights with weights, which do not depend on the input.
        inside: products that are the update of a neuron over time.
        unrecognised: modules that look like neurons, and their classes.
        activations: outputs of neurons and activation functions, and how many of them are 0.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    neurons: dict[str, Neurons] = field(default_factory=dict)
    elementwise: dict[tuple[str, Kind], Elementwise] = field(default_factory=dict)
    scaled: Counter[str] = field(default_factory=Counter)
    uncounted: dict[str, Counter[str]] = field(default_factory=dict)
    offline: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    unrecognised: dict[str, str] = field(default_factory=dict)
    activations: Counter[str] = field(default_factory=Counter)
