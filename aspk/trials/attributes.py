"""Names and JSON forms of what aspk writes to Optuna trials and studies; nowhere else.

A trial carries its scalar metrics as user attributes that a person can read (``energy_mj``, ...), the layer
counts as one JSON attribute, and the whole genotype, inactive genes included, as a system attribute.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from aspk.metrics import Metrics, layers_from_json, layers_to_json

GENOTYPE = "aspk:genotype"  # trial system attribute: list of indices
LAYERS = "aspk:layers"  # trial user attribute: layer counts, column-wise
CONSTRAINTS = "aspk:constraints"  # trial user attribute: a mirror for optuna-dashboard
FAILURE = "aspk:failure"  # trial user attribute: why the evaluation failed
WORKER = "aspk:worker"  # trial user attribute: the worker that evaluates it
BEAT = "aspk:beat"  # trial user attribute: a number that grows while its worker lives
BATCH = "aspk:batch"  # trial user attribute: first trial number of its batch, then its random stream
AGAIN = "aspk:again"  # trial user attribute: number of the abandoned trial that it repeats
SPEC = "aspk:spec"  # study user attribute: the study file's content
SPACE = "aspk:space"  # study user attribute: the search space's content
CONTEXT = "aspk:context"  # study user attribute: reference energy, classes, images, versions, fingerprints
VERDICT = "aspk:verdict"  # study user attribute: what 'aspk rank' found of the supernet

_LONGEST = 2045  # characters of one attribute's JSON text that every storage takes

_SCALARS = tuple(item.name for item in dataclasses.fields(Metrics) if item.name not in ("layers", "extras"))


def metrics_to_attributes(metrics: Metrics) -> dict[str, Any]:
    """User attributes of a trial that was evaluated."""
    layers = {LAYERS: layers_to_json(metrics.layers)} if metrics.layers else {}
    return {**metrics.scalars(), **layers}


def metrics_from_attributes(attributes: Mapping[str, Any]) -> Metrics | None:
    """The metrics in a trial's user attributes, None if it has none.

    Raises:
        MetricsError: the attributes are damaged.
    """
    if "accuracy" not in attributes or "energy_mj" not in attributes:
        return None
    own = {name: attributes[name] for name in _SCALARS if name in attributes}
    extras = {
        name: value
        for name, value in attributes.items()
        if name not in _SCALARS and not name.startswith("aspk:") and type(value) in (int, float)
    }
    return Metrics(**own, layers=layers_from_json(attributes.get(LAYERS, {})), extras=extras)


def genotype_to_attributes(x: Iterable[int]) -> dict[str, Any]:
    """System attributes that hold a genotype: one list, or pieces of its text where that is long."""
    indices = [int(index) for index in x]
    text = json.dumps(indices)
    if len(text) <= _LONGEST:
        return {GENOTYPE: indices}
    pieces = range(0, len(text), _LONGEST - 2)  # its own JSON form adds two quotes
    return {f"{GENOTYPE}:{i}": text[start : start + _LONGEST - 2] for i, start in enumerate(pieces)}


def genotype_from_attributes(attributes: Mapping[str, Any]) -> list[int] | None:
    """The genotype in a trial's system attributes, None if there is none that can be read."""
    value = attributes.get(GENOTYPE)
    if value is None:
        pieces = itertools.takewhile(attributes.__contains__, (f"{GENOTYPE}:{i}" for i in itertools.count()))
        try:
            value = json.loads("".join(str(attributes[piece]) for piece in pieces))
        except ValueError:
            return None
    whole = isinstance(value, list) and all(type(index) is int for index in value)
    return value if whole else None
