"""What counts as a number where anybody may have written it."""

from __future__ import annotations

import sys
from typing import TypeGuard

_WHOLE = 2**53  # up to it a float holds every whole number


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold; ``True`` is none, nor is ``10**400``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]  # a number


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number from ``least`` to 2**53, the largest that floats count exactly to."""
    return type(value) is int and least <= value <= _WHOLE
