"""One coordinate of a genotype."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from aspk.errors import GenotypeError
from aspk.space.genes import GENES, Value


@dataclass(frozen=True)
class Gene:
    """One coordinate of the genotype.

    Attributes:
        name: a key of :data:`GENES`.
        choices: ascending values, or words in any order.
        block: index of the block it belongs to, None for the whole network.
    """

    name: str
    choices: tuple[Value, ...]
    block: int | None = None

    @property
    def parameter(self) -> str:
        """The name shown to people and Optuna, for instance ``blocks.0.tau``."""
        return self.name if self.block is None else f"blocks.{self.block}.{self.name}"

    @property
    def by_size(self) -> tuple[Value, ...]:
        """The choices, smallest first; among words, those later in the full list have more weights."""
        words = GENES[self.name].words
        return tuple(word for word in words if word in self.choices) if words else self.choices

    @property
    def step(self) -> Value | None:
        """The distance between neighbouring choices if it is the same for all, else None."""
        if len(self.choices) < 2 or GENES[self.name].words:
            return None
        values = [Decimal(str(choice)) for choice in self.choices]  # exact, and how Optuna counts steps
        gaps = {high - low for low, high in itertools.pairwise(values)}
        step = type(self.choices[0])(next(iter(gaps)))
        return step if gaps == {Decimal(str(step))} else None

    def index(self, value: object) -> int:
        """Index of the choice equal to ``value`` (numbers to 1e-6, since steps of floats accumulate).

        Raises:
            GenotypeError: ``value`` is not a choice.
        """
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            for index, choice in enumerate(self.choices):
                if isinstance(choice, str):
                    break
                if choice * (1 - 1e-6) <= value <= choice * (1 + 1e-6):
                    return index
        elif isinstance(value, str) and value in self.choices:
            return self.choices.index(value)
        raise GenotypeError(f"{self.parameter}={value!r} is not one of {list(self.choices)}")
