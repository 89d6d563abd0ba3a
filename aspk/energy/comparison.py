"""One network under every account, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aspk.energy.account import billable, energy_mj
from aspk.energy.break_even import BreakEven, break_even, break_even_text
from aspk.energy.model import EnergyModel
from aspk.energy.presets import NOTES, PRESETS
from aspk.energy.table import ESTIMATE, NOTHING
from aspk.metrics import LayerCount
from aspk.util.text import to_csv

# A study stores the sums of the values that its layers read, not how many of the values were 0.
_ZEROS = "skips zeros, which stored counts do not record: needs the network and images"


@dataclass(frozen=True, kw_only=True)
class AccountTotal:
    """What one account bills.

    Attributes:
        name: the account.
        mj: energy of one image in mJ, None if the account cannot bill the network.
        note: what the account is, or why it cannot bill the network.
        counted_on: the images, in words, if they are fewer than those of the network's counts.
    """

    name: str
    mj: float | None
    note: str = ""
    counted_on: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One network under several accounts; ``print`` shows it.

    Attributes:
        network: the network's name.
        totals: the accounts; the others are compared with the first one.
        break_evens: the break-evens of the accounts that have one.
        rates: firing rate of each neuron site at each step.
    """

    network: str
    totals: tuple[AccountTotal, ...]
    break_evens: tuple[BreakEven, ...]
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def ratio(self, total: AccountTotal) -> float | None:
        """An account's bill divided by that of the first one."""
        first = self.totals[0].mj
        return total.mj / first if total.mj is not None and first else None

    def text(self) -> str:
        """The table for a terminal."""
        rows = [("account", "mJ", "ratio", ""), *map(self._cells, self.totals)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{name:{widths[0]}}  {mj:>{widths[1]}}  {ratio:>{widths[2]}}  {note}".rstrip()
            for name, mj, ratio, note in rows
        ]
        even = ["", "Break-even with a network without spikes:", *self.break_even_lines()]
        return "\n".join([self.network, *lines, *(even if self.break_evens else []), ESTIMATE])

    def break_even_lines(self) -> list[str]:
        """A line for each account's break-even; a single one if no account bills spikes."""
        if self.break_evens and all(found.limit is None for found in self.break_evens):
            return ["none: no account bills a layer by its spikes."]
        return [break_even_text(found) for found in self.break_evens]

    def _cells(self, total: AccountTotal) -> tuple[str, str, str, str]:
        ratio = self.ratio(total)
        return (
            total.name,
            NOTHING if total.mj is None else f"{total.mj:.4g}",
            NOTHING if ratio is None else f"{ratio:.3f}",
            total.note if total.mj is None else total.counted_on,
        )

    def csv(self) -> str:
        """One row for each account, with full precision."""
        rows: list[list[object]] = []
        even = {found.model: found for found in self.break_evens}
        for total in self.totals:
            found = even.get(total.name)
            rates = (found.rate, found.limit, found.bits) if found else (None, None, None)
            rows.append([total.name, total.mj, self.ratio(total), *rates, total.note, total.counted_on])
        header = ["account", "mj", "ratio", "spike_rate", "break_even_rate", "ann_bits", "note", "counted_on"]
        return to_csv([header, *rows])

    def rates_csv(self) -> str:
        """Firing rates: one row for each neuron site and step."""
        rows = [
            [name, step, rate] for name, rates in self.rates.items() for step, rate in enumerate(rates, 1)
        ]
        return to_csv([["site", "step", "firing_rate"], *rows])

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": self.network,
            "accounts": [asdict(total) | {"ratio": self.ratio(total)} for total in self.totals],
            "break_even": [asdict(found) for found in self.break_evens],
            "firing_rates": {name: list(rates) for name, rates in self.rates.items()},
            "note": ESTIMATE,
        }

    def __str__(self) -> str:
        return self.text()


def compare(
    layers: Sequence[LayerCount],
    *,
    network: str,
    time_steps: int,
    models: Iterable[EnergyModel] = (),
    others: Iterable[AccountTotal] = (),
    rates: Mapping[str, tuple[float, ...]] | None = None,
    effective: Sequence[LayerCount] = (),
    effective_on: str = "",
) -> Comparison:
    """Bill one network under all presets and further models, beside the bills of other programs.

    Args:
        layers: the network's counts; rows of operations between activations may be among them.
        network: the network's name.
        time_steps: simulated steps T.
        models: accounts in addition to the presets, shown first; the others are compared with the very first
            one.
        others: the bills of other programs.
        rates: firing rates by site and step; None takes those of the layers.
        effective: counts of the same network with zeros counted separately, for the accounts that skip them;
            counts from :func:`aspk.profile_energy` already separate them.
        effective_on: the images of ``effective``, in words, if they are fewer than those of ``layers``.
    """
    everything = {model.name: model for model in models}
    everything |= {name: model for name, model in PRESETS.items() if name not in everything}
    totals, evens = [], []
    for model in everything.values():
        note = NOTES.get(model.name, "") if PRESETS.get(model.name) == model else ""
        whole = billable(layers, model) or not effective
        counts, counted_on = (layers, "") if whole else (effective, effective_on)
        if not billable(counts, model):
            totals.append(AccountTotal(name=model.name, mj=None, note=_ZEROS))
            continue
        bill = energy_mj(counts, model)
        totals.append(AccountTotal(name=model.name, mj=bill, note=note, counted_on=counted_on))
        if model.zeros == "billed":
            evens.append(break_even(layers, model, time_steps=time_steps))
    return Comparison(
        network=network,
        totals=(*totals, *others),
        break_evens=tuple(evens),
        rates=rates_of(layers) if rates is None else rates,
    )


def rates_of(layers: Iterable[LayerCount]) -> dict[str, tuple[float, ...]]:
    """Firing rates at each step of the neurons after each layer."""
    return {
        layer.name: tuple(value / layer.output_size for value in layer.output_sums)
        for layer in layers
        if layer.output_size and layer.output_sums
    }
