"""What a search optimises: objectives, constraints, and F_AEB, which balances accuracy and energy."""

from aspk.objectives.base import (
    OBJECTIVES,
    Constraint,
    Direction,
    Objective,
    budget,
    minimised,
    objective,
)
from aspk.objectives.composite import Composite
from aspk.objectives.scalarization import FAEB

__all__ = [
    "FAEB",
    "OBJECTIVES",
    "Composite",
    "Constraint",
    "Direction",
    "Objective",
    "budget",
    "minimised",
    "objective",
]
