"""An energy account as a value: its constants, and its answers to the questions that divide accounts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from aspk.errors import EnergyModelError
from aspk.util.schema import NonNegative, Positive, check_fields

_ADDED = {"elementwise": "omitted", "zeros": "billed"}


@dataclass(frozen=True, kw_only=True)
class EnergyModel:
    """Constants and switches of an energy account.

    Attributes:
        name: shown in tables.
        mac_pj: energy of a multiply-accumulate (MAC) in pJ.
        ac_pj: energy of an accumulate (AC) in pJ.
        residual: how a layer that reads the integer residual stream is billed. ``events``: a value n is n
            spikes, AC. ``dense``: every dense operation is a MAC.
        first_layer_repeats: ``T``: the first convolution is billed at each step, as published figures do;
            ``1``: once for a static image, and once for each frame of a sequence; ``as_run``: as often as it
            ran.
        padding: ``dense``: rate times dense operations, which counts the padding of convolutions;
            ``exact``: only operations whose output lies inside the image.
        attention: q kᵀ and (q kᵀ) v as ``rate`` (spikes of q, of v, times tokens), ``exact`` (in q kᵀ only
            pairs where both fire), or ``omitted``.
        head: the classifier reads means, so it is billed ``dense`` as MACs, or ``omitted``.
        linear: linear layers other than the head are ``billed``, or ``omitted`` as by a script that looks
            for ``conv`` in the layers' names.
        normalisation: batch normalisation is ``folded`` into the layer before it and costs nothing, or
            ``billed`` as two MACs for each value.
        elementwise: operations between two activations, element by element, are ``omitted``, or ``billed``: a
            residual addition and a value that a pooling reads as one AC, a product as one MAC, a product with
            a 0/1 mask as one AC for each value that it lets through.
        zeros: ``billed``: as the switches above say; ``skipped``: only operations in which neither the input
            nor the weight is 0, without padding, billed as often as they ran: as ACs if a layer's call reads
            only -1, 0 and 1, else as MACs. Needs counts from :func:`aspk.profile_energy`.
        bits: width of the numbers for which ``mac_pj`` is stated; the break-even scales by it.
        neuron_update_pj: energy in pJ of updating one neuron's membrane for one step.
        membrane_access_pj: energy in pJ of reading and writing one membrane for one step.
        weight_read_pj: energy in pJ of reading one weight, once for each MAC and AC of a layer.
        spike_event_pj: energy in pJ of sending one spike (an address event).
    """

    name: str = "spikformer_paper"
    mac_pj: Positive = 4.6
    ac_pj: Positive = 0.9
    residual: Literal["events", "dense"] = "events"
    first_layer_repeats: Literal["T", "1", "as_run"] = "T"
    padding: Literal["dense", "exact"] = "dense"
    attention: Literal["rate", "exact", "omitted"] = "rate"
    head: Literal["dense", "omitted"] = "dense"
    linear: Literal["billed", "omitted"] = "billed"
    normalisation: Literal["folded", "billed"] = "folded"
    elementwise: Literal["omitted", "billed"] = "omitted"
    zeros: Literal["billed", "skipped"] = "billed"
    bits: Annotated[int, Meta(ge=1, le=64)] = 32
    neuron_update_pj: NonNegative = 0.0
    membrane_access_pj: NonNegative = 0.0
    weight_read_pj: NonNegative = 0.0
    spike_event_pj: NonNegative = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values of everything that a bill depends on.

        Fields that later versions added are left out at their default values, so that older records match.
        """
        values = asdict(self)
        return {
            key: value
            for key, value in values.items()
            if key != "bits" and not (key in _ADDED and value == _ADDED[key])
        }

    def __post_init__(self) -> None:
        check_fields(self, error=EnergyModelError, at=f"energy model {self.name!r}: ")
