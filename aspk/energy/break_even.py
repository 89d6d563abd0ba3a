"""The spike rate below which a spiking network costs less than a non-spiking one of the same layers.

After Yan et al., "Reconsidering the energy efficiency of spiking neural networks", arXiv 2409.08290: T steps
of spikes can represent T + 1 values, as can an activation of b = ceil(log2(T + 1)) bits, so the network to
compare with runs every layer once on activations of b bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aspk.energy.account import (
    ELEMENTWISE,
    billed_steps,
    energy_mj,
    layer_energy,
    normalisation_macs,
    synaptic_operations,
)
from aspk.energy.model import EnergyModel
from aspk.metrics import LayerCount

_MJ_PER_PJ = 1e-9


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """A network's spike rate, and the rate at which it costs as much as its non-spiking counterpart.

    Attributes:
        model: the account's name.
        time_steps: simulated steps T.
        bits: width b of the counterpart's activations.
        operation_pj: energy of multiplying a weight by a b-bit activation and adding the product, in pJ.
        rate: mean spike rate: accumulates over dense operations, of all layers billed by their spikes.
        limit: the rate at which both cost the same; negative if the counterpart is cheaper than what the
            spiking network pays without any spike, None if no layer is billed by its spikes.
        spiking_mj: estimated energy of the network, in mJ.
        counterpart_mj: estimated energy of its counterpart, in mJ.
        memory: whether the account has a memory term.
    """

    model: str
    time_steps: int
    bits: int
    operation_pj: float
    rate: float
    limit: float | None
    spiking_mj: float
    counterpart_mj: float
    memory: bool


def operation_pj(model: EnergyModel, bits: int) -> float:
    """Energy of a multiply-accumulate with an activation of ``bits`` bits, in pJ.

    A multiplier adds up one shifted weight for each bit, so the multiplication's part of a MAC of full width
    w is taken to be linear in the bits: ac_pj + (mac_pj - ac_pj) * bits / w.
    """
    return model.ac_pj + (model.mac_pj - model.ac_pj) * min(1.0, bits / model.bits)


def break_even(layers: Sequence[LayerCount], model: EnergyModel, *, time_steps: int) -> BreakEven:
    """The break-even of one network under one account.

    With A the energy of all accumulates at a rate of 1 and F everything else that the spiking network pays
    (layers billed as MACs, neuron updates, membranes), the limit is (C - F) / A, where C is the counterpart's
    energy: each layer once, those that read spikes or the residual stream at b bits, the image and analog
    values as MACs, plus a weight read for each operation if the account has one. If the account bills
    normalisation or operations between activations, they are part of F, and of C once in place of T times.
    Spikes sent are part of A. The network's own energy is F + rate * A.

    Args:
        layers: the network's layers.
        model: the account.
        time_steps: simulated steps T.
    """
    bits = math.ceil(math.log2(time_steps + 1))
    each = operation_pj(model, bits)
    spiking = energy_mj(layers, model)
    dense, accumulates, counterpart = 0.0, 0.0, 0.0
    for layer in layers:
        if layer.kind in ELEMENTWISE:
            counterpart += layer_energy(layer, model).mj / _MJ_PER_PJ / time_steps
            continue
        mac, ac = synaptic_operations(layer, model)
        events = layer.source in ("spikes", "residual") and not _omitted(layer, model)
        if events and not mac:
            accumulates += ac  # 0 where nothing fires
            dense += layer.operations * layer.repeats
        if events:
            counterpart += layer.operations * (each + model.weight_read_pj)
        elif mac:
            counterpart += mac / billed_steps(layer, model) * (model.mac_pj + model.weight_read_pj)
        counterpart += normalisation_macs(layer, model) / billed_steps(layer, model) * model.mac_pj
    rate = accumulates / dense if dense else 0.0
    spikes = sum(layer.output_spikes for layer in layers) * model.spike_event_pj
    moving = accumulates * (model.ac_pj + model.weight_read_pj) + spikes  # at this rate
    per_rate = moving / rate if rate else dense * (model.ac_pj + model.weight_read_pj)
    fixed = spiking / _MJ_PER_PJ - moving
    return BreakEven(
        model=model.name,
        time_steps=time_steps,
        bits=bits,
        operation_pj=each,
        rate=rate,
        limit=(counterpart - fixed) / per_rate if per_rate else None,
        spiking_mj=spiking,
        counterpart_mj=counterpart * _MJ_PER_PJ,
        memory=bool(model.weight_read_pj or model.membrane_access_pj or model.spike_event_pj),
    )


def _omitted(layer: LayerCount, model: EnergyModel) -> bool:
    return layer.kind == "neurons" or getattr(model, layer.kind, "billed") == "omitted"


def break_even_text(found: BreakEven) -> str:
    """A break-even as one line of text."""
    if found.limit is None:
        return f"{found.model}: no layer is billed by its spikes, so there is no break-even."
    verdict = "below" if found.rate < found.limit else "not below"
    limit = f"{found.limit:.1%}" if found.limit > 0 else f"{found.limit:.1%}, that is at no rate"
    memory = "" if found.memory else "; the account has no memory term"
    return (
        f"{found.model}: mean spike rate {found.rate:.1%}, {verdict} the break-even of {limit}, with an ANN "
        f"of {found.bits}-bit activations at {found.operation_pj:.3g} pJ an operation "
        f"({found.counterpart_mj:.4g} mJ){memory}."
    )
