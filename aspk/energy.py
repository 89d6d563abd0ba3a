"""Energy estimated from operation counts. Pure functions of :class:`~aspk.metrics.LayerCount`.

The account of the Spikformer paper (Zhou et al., ICLR 2023)::

    E = E_MAC * MAC(first convolution) + E_AC * sum_l rate_l * T * MAC_l

with 4.6 pJ for a multiply-accumulate (MAC) and 0.9 pJ for an accumulate (AC) in 45 nm (Horowitz, ISSCC
2014). Published figures differ by a factor of ten because they answer some questions differently, so each
question is a switch of :class:`EnergyModel`. Not in any account here: folded batch normalisation, neuron
updates, memory traffic, address events. These are estimates, not measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aspk.errors import EnergyModelError
from aspk.metrics import LayerCount

_MJ_PER_PJ = 1e-9
_SWITCHES = {
    "residual": ("events", "dense"),
    "first_layer_repeats": ("T", "1"),
    "padding": ("dense", "exact"),
    "attention": ("rate", "exact", "omitted"),
    "head": ("dense", "omitted"),
}


@dataclass(frozen=True, kw_only=True)
class EnergyModel:
    """Constants and switches of an energy account.

    Attributes:
        name: shown in tables.
        mac_pj: energy of a multiply-accumulate in pJ.
        ac_pj: energy of an accumulate in pJ.
        residual: how a layer that reads the integer residual stream is billed. ``events``: a value n is n
            spikes, AC. ``dense``: every dense operation is a MAC.
        first_layer_repeats: ``T``: the first convolution is billed at each step, as published figures do;
            ``1``: once for a static image.
        padding: ``dense``: rate times dense operations, which counts the padding of convolutions;
            ``exact``: only operations whose output lies inside the image.
        attention: q kᵀ and (q kᵀ) v as ``rate`` (spikes of q, of v, times tokens), ``exact`` (in q kᵀ only
            pairs where both fire), or ``omitted``.
        head: the classifier reads means, so it is billed ``dense`` as MACs, or ``omitted``.
    """

    name: str = "spikformer_paper"
    mac_pj: float = 4.6
    ac_pj: float = 0.9
    residual: Literal["events", "dense"] = "events"
    first_layer_repeats: Literal["T", "1"] = "T"
    padding: Literal["dense", "exact"] = "dense"
    attention: Literal["rate", "exact", "omitted"] = "rate"
    head: Literal["dense", "omitted"] = "dense"

    def __post_init__(self) -> None:
        for switch, allowed in _SWITCHES.items():
            if getattr(self, switch) not in allowed:
                raise EnergyModelError(
                    f"energy model {self.name!r}: {switch} = {getattr(self, switch)!r}: "
                    f"expected one of {allowed}"
                )
        for constant in ("mac_pj", "ac_pj"):
            value = getattr(self, constant)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise EnergyModelError(
                    f"energy model {self.name!r}: {constant} = {value!r}: expected pJ above 0"
                )


PAPER = EnergyModel()
STRICT = EnergyModel(name="strict_dense_residual", residual="dense")
PRESETS: dict[str, EnergyModel] = {model.name: model for model in (PAPER, STRICT)}


@dataclass(frozen=True, kw_only=True)
class LayerEnergy:
    """The bill of one layer for one image.

    Attributes:
        name: the layer's name.
        mac: multiply-accumulates.
        ac: accumulates (synaptic operations).
        mj: estimated energy in mJ.
    """

    name: str
    mac: float
    ac: float
    mj: float


def layer_energy(layer: LayerCount, model: EnergyModel) -> LayerEnergy:
    """The bill of one layer under ``model``."""
    mac, ac = _operations(layer, model)
    return LayerEnergy(
        name=layer.name, mac=mac, ac=ac, mj=_MJ_PER_PJ * (model.mac_pj * mac + model.ac_pj * ac)
    )


def _operations(layer: LayerCount, model: EnergyModel) -> tuple[float, float]:
    """MAC and AC of one image."""
    dense = float(layer.operations * layer.repeats)
    if layer.source == "image":
        return (dense if model.first_layer_repeats == "T" else float(layer.operations)), 0.0
    if layer.kind == "head":
        return (dense if model.head == "dense" else 0.0), 0.0
    if layer.kind == "attention":
        if model.attention == "omitted":
            return 0.0, 0.0
        exact = model.attention == "exact"
    else:
        if layer.source == "residual" and model.residual == "dense":
            return dense, 0.0
        exact = model.padding == "exact"
    return 0.0, layer.exact_operations if exact else layer.firing_rate_in * dense


def energy_table(layers: Iterable[LayerCount], model: EnergyModel = PAPER) -> list[LayerEnergy]:
    """The bill of every layer, in order."""
    return [layer_energy(layer, model) for layer in layers]


def energy_mj(layers: Sequence[LayerCount], model: EnergyModel = PAPER) -> float:
    """Estimated energy of one image in mJ: the sum over :func:`energy_table`."""
    return math.fsum(row.mj for row in energy_table(layers, model))
