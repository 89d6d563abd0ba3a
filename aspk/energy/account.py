"""Bills: operation counts times an :class:`EnergyModel`. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aspk.energy.model import EnergyModel
from aspk.energy.presets import PAPER
from aspk.errors import EnergyModelError
from aspk.metrics import LayerCount

_MJ_PER_PJ = 1e-9
ELEMENTWISE = ("addition", "multiplication", "mask", "pooling")
_NORMALISATION_MACS = 2  # scale and shift of one value
_ROUNDING = 1e-6  # of a mean input value: how much it may differ between steps that read the same image
SATURATED = 0.9  # mean firing rate above which a neuron carries little information

Flag = Literal["dead", "saturated", ""]


@dataclass(frozen=True, kw_only=True)
class LayerEnergy:
    """The bill of one layer for one image.

    Attributes:
        name: the layer's name.
        mac: multiply-accumulates.
        ac: accumulates (synaptic operations).
        mj: total estimated energy in mJ.
        neuron_mj: the part of ``mj`` spent on neuron updates.
        memory_mj: the part of ``mj`` spent on weights, membranes and address events.
    """

    name: str
    mac: float
    ac: float
    mj: float
    neuron_mj: float = 0.0
    memory_mj: float = 0.0


def layer_energy(layer: LayerCount, model: EnergyModel) -> LayerEnergy:
    """The bill of one layer, its normalisation and the neurons after it under ``model``."""
    mac, ac = synaptic_operations(layer, model)
    updates = layer.output_size * layer.repeats
    neurons = model.neuron_update_pj * updates
    memory = (
        model.weight_read_pj * (mac + ac)
        + model.membrane_access_pj * updates
        + model.spike_event_pj * layer.output_spikes
    )
    mac += normalisation_macs(layer, model)
    return LayerEnergy(
        name=layer.name,
        mac=mac,
        ac=ac,
        mj=_MJ_PER_PJ * (model.mac_pj * mac + model.ac_pj * ac + neurons + memory),
        neuron_mj=_MJ_PER_PJ * neurons,
        memory_mj=_MJ_PER_PJ * memory,
    )


def synaptic_operations(layer: LayerCount, model: EnergyModel) -> tuple[float, float]:
    """MAC and AC of one image, without normalisation."""
    if layer.kind in ELEMENTWISE:
        return _elementwise(layer, model)
    if model.zeros == "skipped" and layer.kind != "neurons":
        return _effective(layer, model)
    if layer.kind == "neurons" or getattr(model, layer.kind, "billed") == "omitted":  # conv has no switch
        return 0.0, 0.0
    dense = float(layer.operations * billed_steps(layer, model))
    weighted = layer.kind in ("conv", "linear")
    if layer.kind == "head" or layer.source in ("image", "analog"):
        return dense, 0.0
    if layer.source == "residual" and model.residual == "dense":
        return dense, 0.0
    exact = model.padding == "exact" if weighted else model.attention == "exact"
    return 0.0, layer.exact_operations if exact else layer.firing_rate_in * dense


def _effective(layer: LayerCount, model: EnergyModel) -> tuple[float, float]:
    """MAC and AC in which no factor is 0."""
    if layer.effective_macs is None or layer.effective_acs is None:
        raise EnergyModelError(
            f"layer {layer.name!r} has no effective operations, which the account {model.name!r} bills: "
            "count them with aspk.profile_energy"
        )
    if getattr(model, layer.kind, "billed") == "omitted":
        return 0.0, 0.0
    return layer.effective_macs, layer.effective_acs


def billable(layers: Iterable[LayerCount], model: EnergyModel) -> bool:
    """Whether the counts of a network suffice for an account."""
    return model.zeros == "billed" or all(
        layer.effective_macs is not None or layer.kind in ("neurons", *ELEMENTWISE) for layer in layers
    )


def _elementwise(layer: LayerCount, model: EnergyModel) -> tuple[float, float]:
    """MAC and AC of operations between two activations."""
    if model.elementwise == "omitted":
        return 0.0, 0.0
    values = float(layer.operations * layer.repeats)
    if layer.kind == "multiplication":
        return values, 0.0
    return 0.0, layer.exact_operations if layer.kind == "mask" else values


def normalisation_macs(layer: LayerCount, model: EnergyModel) -> float:
    """MACs of the batch normalisation between a layer and its neurons."""
    if model.normalisation == "folded":
        return 0.0
    size = layer.normalised_size
    if size is None:
        size = layer.output_size if layer.kind in ("conv", "linear") else 0
    return float(_NORMALISATION_MACS * size * billed_steps(layer, model))


def billed_steps(layer: LayerCount, model: EnergyModel) -> int:
    """How many runs of a layer are billed."""
    if layer.source != "image" or model.first_layer_repeats == "T":
        return layer.repeats
    if model.first_layer_repeats == "as_run":
        return layer.runs or layer.repeats
    return 1 if _static(layer) else layer.repeats


def _static(layer: LayerCount) -> bool:
    """Whether a layer reads the same image at each step; the frames of a sequence differ in their sums."""
    spread = max(layer.input_sums) - min(layer.input_sums)
    return spread <= _ROUNDING * layer.input_size


def energy_table(layers: Iterable[LayerCount], model: EnergyModel = PAPER) -> list[LayerEnergy]:
    """The bill of every layer, in order."""
    return [layer_energy(layer, model) for layer in layers]


def energy_mj(layers: Sequence[LayerCount], model: EnergyModel = PAPER) -> float:
    """Estimated energy of one image in mJ: the sum over :func:`energy_table`."""
    return math.fsum(row.mj for row in energy_table(layers, model))


def site_flag(layer: LayerCount) -> Flag:
    """What is wrong with the neurons after a layer: ``dead`` (rate 0), ``saturated`` (> 0.9), or nothing."""
    rate = layer.firing_rate_out
    if rate is None:
        return ""
    return "dead" if rate == 0 else "saturated" if rate > SATURATED else ""
