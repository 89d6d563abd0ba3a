"""Accounts named after what they reproduce. ``docs/energy.md`` gives each one's formula and source at length.

In all formulas, ``MAC_l`` is the number of dense multiply-accumulates of layer l in one step, and ``rate_l``
the mean value that it reads (for spikes, the firing rate).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from aspk.energy.model import EnergyModel
from aspk.errors import EnergyModelError
from aspk.util.files import read_text
from aspk.util.schema import Key, Table, check_table, one_of, table_of
from aspk.util.shipped import MOST_TOML

# Zhou et al., "Spikformer", ICLR 2023, appendix on energy; constants of Horowitz, ISSCC 2014, 45 nm:
# E = 4.6 * T * MAC(first convolution) + 0.9 * sum_l rate_l * T * MAC_l
PAPER = EnergyModel()

# The same, but q, k, v and fc1 read integers, which need a multiplier:
# E = 4.6 * T * (MAC(first convolution) + sum_residual MAC_l) + 0.9 * sum_spikes rate_l * T * MAC_l
STRICT = EnergyModel(name="strict_dense_residual", residual="dense")

# zhouchenlin2096/Spikingformer, energy_consumption_calculation/flops_counter.py: sums over the modules with
# "conv" or "head" in their names. On a Spikformer, whose projections are called q_linear, fc1_linear and so
# on, that leaves out every linear layer but the head. Its attention term differs a little, see the docs.
SPIKINGFORMER_SCRIPT = EnergyModel(name="spikingformer_script", residual="dense", linear="omitted")

# iCGY96/syops-counter 0.0.5, syops/ops.py: 4.6 * MACs + 0.9 * ACs over all modules that it hooks, as
# often as they run. A layer whose input is not all 0/1 is dense; batch normalisation is two operations a
# value; a neuron update is one AC; q kᵀ and (q kᵀ) v are functions, not modules, so they are not seen.
SYOPS = EnergyModel(
    name="syops",
    residual="dense",
    first_layer_repeats="as_run",
    attention="omitted",
    normalisation="billed",
    neuron_update_pj=0.9,
)

# Horowitz, ISSCC 2014, figure 1.1.9, 45 nm at 0.9 V. AC = one addition, MAC = one multiplication + addition.
FP32 = EnergyModel(name="45nm_fp32", mac_pj=3.7 + 0.9, ac_pj=0.9)
FP16 = EnergyModel(name="45nm_fp16", mac_pj=1.1 + 0.4, ac_pj=0.4, bits=16)
INT8 = EnergyModel(name="45nm_int8", mac_pj=0.2 + 0.03, ac_pj=0.03, bits=8)

# NeuroBench (Yik et al., Nature Communications 2025), metrics/workload/synaptic_operations.py: effective MACs
# and ACs of the layers that are modules. It gives no energies: the constants are those of the paper's preset.
NEUROBENCH = EnergyModel(name="neurobench", zeros="skipped", attention="omitted")

PRESETS: dict[str, EnergyModel] = {
    model.name: model for model in (PAPER, STRICT, SPIKINGFORMER_SCRIPT, SYOPS, NEUROBENCH, FP32, FP16, INT8)
}

NOTES: dict[str, str] = {
    PAPER.name: "Spikformer's paper: first convolution as MACs at each step, everything else as events.",
    STRICT.name: "The paper's account with layers that read the integer residual stream as dense MACs.",
    SPIKINGFORMER_SCRIPT.name: "The widely copied script of Spikingformer. Too low on a Spikformer, whose "
    "linear layers its name filter misses.",
    SYOPS.name: "syops-counter: all modules with batch normalisation and neuron updates, without attention.",
    NEUROBENCH.name: "NeuroBench's effective operations: neither input nor weight is 0; at 4.6 and 0.9 pJ.",
    FP32.name: "45 nm, 32-bit floating point (Horowitz 2014): the paper's constants.",
    FP16.name: "45 nm, 16-bit floating point (Horowitz 2014).",
    INT8.name: "45 nm, 8-bit integers (Horowitz 2014); additions at 8 bits, without wider accumulators.",
}


@cache
def account_table() -> Table:
    """The keys of an account's file, and of the table ``[energy]`` of a study's."""
    preset = Key(
        Annotated[str, one_of(PRESETS)],
        default=PAPER.name,
        meaning="the account that the other keys modify, see `docs/energy.md`.",
    )
    own = table_of(EnergyModel)
    repeats = own["first_layer_repeats"]._replace(
        kind=Literal["T", "1", "as_run"] | Literal[1]
    )  # 1 is as clear as "1"
    name = own["name"]._replace(default=None)  # the file's, or the preset's
    return {"preset": preset, **own, "name": name, "first_layer_repeats": repeats}


def energy_model_from_dict(
    data: Mapping[str, Any], *, where: str = "energy model", name: str = ""
) -> EnergyModel:
    """Build an account from plain values: those of ``preset``, overridden by the others.

    Args:
        data: fields of :class:`EnergyModel`, and ``preset`` (default ``spikformer_paper``).
        where: what error messages call the source.
        name: the account's name if ``data`` has none.

    Raises:
        EnergyModelError: naming ``where``, the key, its value and what was expected.
    """
    values = check_table(account_table(), data, error=EnergyModelError, at=f"{where}: ")
    preset = PRESETS[values.pop("preset", PAPER.name)]
    if "first_layer_repeats" in values:
        values["first_layer_repeats"] = str(values["first_layer_repeats"])
    name = name or (f"{preset.name}, changed" if values else preset.name)
    return replace(preset, **{"name": name, **values})


def load_energy_model(source: str | Path) -> EnergyModel:
    """An account by the name of a preset, or from a TOML file of :class:`EnergyModel`'s fields.

    Raises:
        EnergyModelError: there is no such preset or file, or the file is not valid; the message names file,
            key and value.
    """
    if isinstance(source, str) and source in PRESETS:
        return PRESETS[source]
    path = Path(source)
    try:
        data = tomllib.loads(read_text(path, most=MOST_TOML))
    except OSError as error:
        raise EnergyModelError(
            f"no energy model {str(source)!r} ({error.strerror}): give a TOML file or one of "
            f"{', '.join(PRESETS)}"
        ) from None
    except (ValueError, RecursionError) as error:  # ValueError: also not UTF-8
        raise EnergyModelError(f"{path}: not a TOML file: {error}") from None
    return energy_model_from_dict(data, where=str(path), name=path.stem)
