"""The notes at the end of a profile: what ran once, what no account bills, and what was assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aspk.energy import EnergyModel, energy_unit, layer_energy

if TYPE_CHECKING:
    from aspk.profiling.profile import Profile

_SHOWN = 6  # names in a list
_WORDS = {
    "addition": "additions",
    "multiplication": "products",
    "mask": "products with 0/1 masks",
    "pooling": "values pooled",
}


def notes(profile: Profile, models: Sequence[EnergyModel]) -> list[str]:
    """The lines below the table."""
    return [
        *_neurons(profile),
        *_ran_once(profile, models),
        *_left_out(profile),
        *_elementwise(profile),
        *_scaled(profile),
        f"Input read as {profile.layout}, {profile.images} images." if profile.layout else "",
    ]


def _neurons(profile: Profile) -> Iterator[str]:
    silent = [site.name for site in profile.sites if not site.spikes]
    if profile.sites and len(silent) == len(profile.sites):
        yield "No neuron fired. Train the module, or calibrate its batch normalisation, first."
    elif silent:
        yield f"Silent neurons: {_listed(silent)}."
    if profile.unrecognised:
        found = _listed([f"{name} ({kind})" for name, kind in profile.unrecognised])
        yield f"Looks like neurons, not recognised: {found}. Name their classes with neurons=(...)."
    elif not profile.sites:
        yield "No neurons were found; name their classes with neurons=(...) if there are any."


def _ran_once(profile: Profile, models: Sequence[EnergyModel]) -> Iterator[str]:
    for model in models:
        for layer in profile.layers:
            if (
                model.first_layer_repeats != "T"
                or layer.source != "image"
                or not 0 < layer.runs < layer.repeats
            ):
                continue
            mj = layer_energy(layer, model).mj
            unit, per_mj = energy_unit(mj)
            once = mj * layer.runs / layer.repeats
            yield (
                f"{layer.name} ran {_times(layer.runs)} and is billed {layer.repeats} times under "
                f"{model.name}: {mj * per_mj:.4g} {unit} in place of {once * per_mj:.4g}; "
                'first_layer_repeats = "1" or "as_run" bills only what ran.'
            )


def _left_out(profile: Profile) -> Iterator[str]:
    for one in profile.not_counted:
        calls = f"{one.calls} call{'s' if one.calls > 1 else ''}"
        yield f"Not counted: {one.operator}, {calls}, operands {one.shapes or 'unknown'}."
    if profile.inside_neurons:
        found = _listed([f"{name} ({count})" for name, count in profile.inside_neurons])
        yield f"Products over time inside neurons, part of their update: {found}."
    if profile.offline:
        found = _listed([f"{name} ({count})" for name, count in profile.offline])
        yield f"Products of weights alone, computed once and not billed: {found}."


def _elementwise(profile: Profile) -> Iterator[str]:
    values: Counter[str] = Counter()
    for row in profile.elementwise:
        values[row.kind] += row.operations * row.repeats
    if values:
        found = ", ".join(f"{count:,} {_WORDS[kind]}" for kind, count in values.items() if count)
        yield f'Elementwise between activations, billed only with elementwise = "billed": {found}.'


def _scaled(profile: Profile) -> Iterator[str]:
    if profile.scaled:
        found = _listed([f"{name} ({values:,})" for name, values in profile.scaled])
        yield f"Values multiplied by weights, element by element, in no account: {found}."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
