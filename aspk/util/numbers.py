"""What counts as a number in values from outside."""

from __future__ import annotations

import sys
from typing import TypeGuard

_WHOLE = 2**53  # up to here, a float holds every whole number exactly


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold; ``True`` and ``10**400`` are not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]  # a number


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number from ``least`` to 2**53, up to which floats count exactly."""
    return type(value) is int and least <= value <= _WHOLE
