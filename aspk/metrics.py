"""The result of evaluating a network: accuracy, energy, sizes, and counts for each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from aspk.errors import MetricsError
from aspk.util.numbers import is_count, is_finite

Kind = Literal[
    "conv", "linear", "attention", "head", "neurons", "addition", "multiplication", "mask", "pooling"
]
Source = Literal["image", "spikes", "residual", "analog"]
_KINDS, _SOURCES = get_args(Kind), get_args(Source)


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What is known about a layer from shapes alone, per image.

    Attributes:
        name: for instance ``stem.1.conv`` or ``blocks.0.q``.
        kind: ``conv``, ``linear``, ``attention`` (a product of two activations) or ``head``; ``neurons`` that
            follow none of these; and the element-wise operations on activations, ``addition``,
            ``multiplication``, ``mask`` (a product with 0/1 values) and ``pooling``.
        source: what it reads: the ``image``, 0/1 ``spikes``, the integer ``residual`` stream, or
            ``analog`` means.
        operations: dense multiply-accumulates of one step (biases not counted), or, of an element-wise
            operation, the number of values.
        repeats: how often it runs for one image: T, or 1 for the head.
        input_size: values read in one step.
        output_size: neurons that follow it; 0 where none do.
        parameters: trainable parameters, including those of its batch normalisation.
        normalised_size: values that the batch normalisation after it reads in one run; None: the same as
            ``output_size``.
    """

    name: str
    kind: Kind
    source: Source
    operations: int
    repeats: int
    input_size: int
    output_size: int
    parameters: int
    normalised_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class LayerCount(LayerShape):
    """A layer with what was counted while images ran through it, as means over the images.

    Attributes:
        input_sums: sum of the input values at each step, length ``repeats``. For spikes this is the number
            of spikes; a value n of the residual stream counts as n spikes.
        exact_operations: synaptic operations over all steps that really occur: without padding, and in q kᵀ
            only pairs where both sides fire. For a ``mask``, the values that it lets through.
        output_spikes: spikes of the neurons that follow, over all steps.
        output_sums: the same at each step, length T; empty if they were not counted step by step.
        runs: how often it ran for one image; fewer than ``repeats`` if it ran once for all steps. 0 if this
            was not counted.
        effective_macs: multiply-accumulates in which neither factor is 0, over all runs, in calls that read
            values other than -1, 0 and 1. None if they were not counted.
        effective_acs: the same for calls that read only -1, 0 and 1.
    """

    input_sums: tuple[float, ...]
    exact_operations: float
    output_spikes: float
    output_sums: tuple[float, ...] = ()
    runs: int = 0
    effective_macs: float | None = None
    effective_acs: float | None = None

    def __post_init__(self) -> None:
        sizes = (self.operations, self.repeats, self.input_size, self.output_size, self.parameters, self.runs)
        if not isinstance(self.name, str) or self.kind not in _KINDS or self.source not in _SOURCES:
            raise MetricsError(
                f"layer {self.name!r}: kind {self.kind!r}, source {self.source!r}: expected a name, "
                f"one of {', '.join(_KINDS)}, and one of {', '.join(_SOURCES)}"
            )
        whole = all(map(is_count, sizes))
        if not whole or self.repeats == 0 or self.input_size == 0:
            raise MetricsError(
                f"layer {self.name!r}: operations, repeats, input_size, output_size, parameters, runs = "
                f"{sizes}: expected whole numbers, repeats and input_size above 0"
            )
        effective = (value for value in (self.effective_macs, self.effective_acs) if value is not None)
        counts = (
            *self.input_sums, self.exact_operations, self.output_spikes, *self.output_sums, *effective
        )  # fmt: skip
        steps = (len(self.input_sums), len(self.output_sums) or self.repeats)
        if steps != (self.repeats, self.repeats) or not all(map(is_finite, counts)):
            raise MetricsError(
                f"layer {self.name!r}: input_sums, exact_operations, output_spikes, output_sums = {counts}: "
                f"expected finite numbers, one sum for each of {self.repeats} steps"
            )

    @property
    def firing_rate_in(self) -> float:
        """Mean input value over neurons and steps; for 0/1 spikes the firing rate."""
        return sum(self.input_sums) / (self.input_size * self.repeats)

    @property
    def firing_rate_out(self) -> float | None:
        """Mean firing rate of the neurons that follow, None where there are none."""
        return self.output_spikes / (self.output_size * self.repeats) if self.output_size else None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The result of evaluating one network.

    Attributes:
        accuracy: top-1 accuracy on the evaluated split, 0 to 1.
        energy_mj: estimated energy of one image in mJ under the evaluator's energy model.
        parameters: trainable parameters.
        operations: dense multiply-accumulates of one image over all steps.
        spikes: spikes of all neurons for one image, over all steps.
        firing_rate: mean firing rate of all neurons, 0 to 1.
        layers: counts of each layer, from which every energy account can be computed afterwards.
        extras: further numbers from a user's own evaluator.
    """

    accuracy: float
    energy_mj: float
    parameters: int = 0
    operations: int = 0
    spikes: float = 0.0
    firing_rate: float = 0.0
    layers: tuple[LayerCount, ...] = ()
    extras: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if shadowed := {item.name for item in dataclasses.fields(self)} & set(self.extras):
            raise MetricsError(f"extras {sorted(shadowed)}: these names belong to the metrics themselves")
        for name, value in self.scalars().items():
            if not is_finite(value):
                raise MetricsError(f"metric {name} = {value!r}: expected a finite number")

    def scalars(self) -> dict[str, float]:
        """Every number except the layer counts, by name."""
        own = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("layers", "extras")
        }
        return own | dict(self.extras)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` is the inverse."""
        data = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return data | {"extras": dict(self.extras), "layers": layers_to_json(self.layers)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Metrics:
        """Read what :meth:`to_json` wrote.

        Raises:
            MetricsError: a key is missing or unknown, or a value has the wrong type.
        """
        try:
            return Metrics(**{**data, "layers": layers_from_json(data.get("layers", {}))})
        except (TypeError, ValueError, AttributeError) as error:
            raise MetricsError(f"damaged metrics: {error}") from None


def layers_to_json(layers: Sequence[LayerCount], *, digits: int | None = 9) -> dict[str, list[Any]]:
    """One list for each field: about a quarter of the size of a list of objects.

    Args:
        layers: the layers.
        digits: significant digits of floats; the default is far below the sampling error of any count, None
            keeps them all.
    """
    names = [item.name for item in dataclasses.fields(LayerCount)]
    names.sort(key=lambda name: name == "normalised_size")  # kept last, where it has always been
    return {name: [_rounded(getattr(layer, name), digits) for layer in layers] for name in names}


def layers_from_json(columns: Mapping[str, Sequence[Any]]) -> tuple[LayerCount, ...]:
    """The inverse of :func:`layers_to_json`.

    Raises:
        MetricsError: the columns do not fit together.
    """
    try:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        sums = ("input_sums", "output_sums")
        return tuple(LayerCount(**{**row, **{k: tuple(row[k]) for k in sums if k in row}}) for row in rows)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MetricsError(f"damaged layer counts: {error}") from None


def _rounded(value: object, digits: int | None) -> object:
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}")
    if isinstance(value, tuple):
        return [_rounded(item, digits) for item in value]
    return value
