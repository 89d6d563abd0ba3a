"""Reads the results of 'aspk retrain': a study's networks that were trained alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aspk.util.files import safe_name
from aspk.util.numbers import is_count, is_finite
from aspk.util.records import read_json


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training of one network.

    Attributes:
        trial: the trial that found it.
        seed: of the training.
        scratch: whether it began with fresh weights.
        inherited: accuracy measured by the search, with the supernet's weights.
        search: accuracy on the images used by the search, 0 to 1.
        test: accuracy on ``test``.
        energy_mj: energy of one ``test`` image in mJ under the study's account.
    """

    trial: int
    seed: int
    scratch: bool
    inherited: float
    search: float
    test: float
    energy_mj: float


def trained_networks(folder: Path, study: str) -> tuple[Trained, ...]:
    """All trainings of a study's networks in ``folder/retrained``; damaged ones are left out.

    Args:
        folder: the study's folder.
        study: its name.
    """
    found = [_read(path, study) for path in sorted((folder / "retrained").glob("*/result.json"))]
    return tuple(sorted(filter(None, found), key=lambda one: (one.trial, one.scratch, one.seed)))


def _read(path: Path, study: str) -> Trained | None:
    try:
        held: dict[str, Any] = (read_json(path) or {})["result"]
        one = Trained(**{name: held[name] for name in Trained.__dataclass_fields__})
        name = f"{study}-{held['name']}-{'scratch' if one.scratch else 'inherited'}-seed-{one.seed}"
    except (KeyError, TypeError):
        return None
    numbers = all(map(is_finite, (one.inherited, one.search, one.test, one.energy_mj)))
    whole = is_count(one.trial) and is_count(one.seed)
    return one if numbers and whole and path.parent.name == safe_name(name) else None


def mean(values: Sequence[float]) -> float:
    """The mean of trainings with different seeds."""
    return sum(values) / len(values)


def error_of_mean(values: Sequence[float]) -> float | None:
    """The standard error of the mean of trainings with different seeds, None for a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def with_error(accuracies: Sequence[float]) -> str:
    """The mean of an accuracy over trainings, with its standard error where there are several."""
    error = error_of_mean(accuracies)
    return f"{mean(accuracies):.4f}" + ("" if error is None else f" ± {error:.4f}")
