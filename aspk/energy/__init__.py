"""Energy estimated from operation counts. Pure functions of :class:`~aspk.metrics.LayerCount`.

The account of the Spikformer paper (Zhou et al., ICLR 2023)::

    E = E_MAC * MAC(first convolution) + E_AC * sum_l rate_l * T * MAC_l

with 4.6 pJ for a multiply-accumulate (MAC) and 0.9 pJ for an accumulate (AC) in 45 nm (Horowitz, ISSCC
2014). Published figures differ by a factor of ten because they answer some questions differently, so each
question is a switch of :class:`EnergyModel`, and each known set of answers one of :data:`PRESETS`. These
are estimates, not measurements; the published ones leave out folded batch normalisation, neuron updates,
memory traffic and address events.
"""

from aspk.energy.account import (
    SATURATED,
    LayerEnergy,
    billable,
    energy_mj,
    energy_table,
    layer_energy,
    site_flag,
)
from aspk.energy.break_even import BreakEven, break_even, break_even_text, operation_pj
from aspk.energy.comparison import AccountTotal, Comparison, compare
from aspk.energy.model import EnergyModel
from aspk.energy.presets import NOTES, PAPER, PRESETS, STRICT, energy_model_from_dict, load_energy_model
from aspk.energy.table import (
    ESTIMATE,
    NOTHING,
    energy_csv,
    energy_text,
    energy_unit,
    shown_rate_in,
    table_cells,
)

__all__ = [
    "ESTIMATE",
    "NOTES",
    "NOTHING",
    "PAPER",
    "PRESETS",
    "SATURATED",
    "STRICT",
    "AccountTotal",
    "BreakEven",
    "Comparison",
    "EnergyModel",
    "LayerEnergy",
    "billable",
    "break_even",
    "break_even_text",
    "compare",
    "energy_csv",
    "energy_mj",
    "energy_model_from_dict",
    "energy_table",
    "energy_text",
    "energy_unit",
    "layer_energy",
    "load_energy_model",
    "operation_pj",
    "shown_rate_in",
    "site_flag",
    "table_cells",
]
