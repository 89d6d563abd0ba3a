"""Non-dominated sets and hypervolume, everything minimised (a thin layer over moocore).

moocore reads out of bounds if a value is NaN or infinite. All calls into it are made here. Rows with NaN or
minus infinity, which no measurement yields, are on no front. Plus infinity is worse than every number, and
where distances count, as bad as the worst finite value of its column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
REACH = 1e100  # magnitude of a number that a search learns from
_LARGEST = np.finfo(float).max


def _measured(F: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Rows without NaN and minus infinity, and their values."""
    F = np.asarray(F, dtype=float)
    rows = np.flatnonzero((-np.inf < F).all(axis=1)) if F.ndim > 1 else np.zeros(0, dtype=np.int64)
    return rows, F[rows]


def _ordered(F: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Rows without NaN and minus infinity, and the places of their values in the order of each column.

    Domination depends on nothing else, and places are finite.
    """
    rows, values = _measured(F)
    places = [np.unique(column, return_inverse=True)[1] for column in values.T] if len(rows) else []
    return rows, np.array(places, dtype=float).T


def worst_where_infinite(values: FloatArray) -> FloatArray:
    """``values``, shape (n, k), with plus infinity replaced by the column's worst finite value, 0 if none."""
    infinite = np.isposinf(values)
    worst = np.where(infinite, -np.inf, values).max(axis=0, initial=-np.inf)
    return np.where(infinite, np.where(np.isfinite(worst), worst, 0.0), values)


def within_reach(values: FloatArray) -> FloatArray:
    """``values`` clipped to plus and minus 1e100, so that squares and products do not overflow."""
    return np.clip(values, -REACH, REACH)


def to_unit(values: FloatArray) -> FloatArray:
    """Numbers times the power of two that brings their largest finite magnitude between 1/2 and 1.

    Only numbers more than 300 orders of magnitude below the largest are rounded, and differences cannot
    overflow.
    """
    largest = np.abs(values).max(initial=0.0, where=np.isfinite(values))
    return np.ldexp(values, -int(np.frexp(largest)[1]))


def nondominated(F: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates; equal rows all count.

    Args:
        F: objective values to minimise, shape (n, k). Plus infinity is worse than any number; rows with NaN
            or minus infinity neither count nor dominate.

    Returns:
        Mask of shape (n,).
    """
    rows, values = _ordered(F)
    result = np.zeros(len(np.asarray(F)), dtype=bool)
    if len(rows):
        result[rows] = moocore.is_nondominated(values, keep_weakly=True)
    return result


def ranks(F: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Non-dominated rank of each row, 0 for the front; shape (n,).

    Plus infinity is worse than any number; rows with NaN or minus infinity rank behind all others, and
    never 0.
    """
    rows, values = _ordered(F)
    measured = np.asarray(moocore.pareto_rank(values), dtype=np.int64) if len(rows) else rows
    result = np.full(len(np.asarray(F)), measured.max(initial=0) + 1, dtype=np.int64)
    result[rows] = measured
    return result


def hypervolume(F: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume dominated by ``F`` and bounded by ``reference``; points outside add nothing.

    Args:
        F: objective values to minimise, shape (n, k); rows that are not finite add nothing.
        reference: finite, shape (k,).

    Returns:
        At least 0; the largest float if the volume is larger.
    """
    F, reference = np.asarray(F, dtype=float), np.asarray(reference, dtype=float)
    inside = F[((reference > F) & (-np.inf < F)).all(axis=1)] if len(F) else F
    if not len(inside) or not np.isfinite(reference).all():
        return 0.0
    corners = np.vstack([inside, reference])
    exponents = np.frexp(np.abs(corners).max(axis=0))[1]
    *unit, end = np.ldexp(corners, -exponents)  # exact, and no difference overflows
    volume = float(moocore.hypervolume(np.array(unit), ref=end))
    with np.errstate(over="ignore"):
        return float(min(np.ldexp(volume, int(exponents.sum())), _LARGEST))


def knee(F: npt.ArrayLike) -> int:
    """Row of the front's knee: the front's point nearest to its ideal point, each axis scaled to 0..1.

    Args:
        F: objective values to minimise, shape (n, k), at least one row without NaN and minus infinity.
    """
    rows, values = _measured(F)
    on_front = nondominated(values)
    front = np.apply_along_axis(to_unit, 0, worst_where_infinite(values)[on_front])
    low, high = front.min(axis=0), front.max(axis=0)
    scaled = (front - low) / np.where(high > low, high - low, 1.0)
    return int(rows[on_front][np.linalg.norm(scaled, axis=1).argmin()])


def scaled(
    values: npt.ArrayLike, directions: Sequence[str], anchors: Sequence[tuple[float, float] | None]
) -> FloatArray:
    """Objective values on a common scale: 0 at the ideal, 1 at the nadir, smaller is better.

    Args:
        values: raw objective values, shape (n, k).
        directions: ``maximize`` or ``minimize`` for each objective.
        anchors: finite (ideal, nadir) of each objective; None takes the best and worst finite ``values``.

    Returns:
        Shape (n, k); below 0 or above 1 outside the anchors; infinities keep the sign of their side.
    """
    raw = np.asarray(values, dtype=float).reshape(-1, len(directions))
    result = np.zeros_like(raw)
    for column, (direction, anchor) in enumerate(zip(directions, anchors, strict=True)):
        own = raw[:, column]
        known = own[np.isfinite(own)] if np.isfinite(own).any() else np.zeros(1)
        observed = (known.max(), known.min()) if direction == "maximize" else (known.min(), known.max())
        result[:, column] = _fractions(own, *(anchor or observed))
    return result


def _fractions(values: FloatArray, start: float, end: float) -> FloatArray:
    """Positions of values between ``start`` (0) and ``end`` (1); if these are equal, 0 for finite ones."""
    finite, exponent = np.isfinite(values), -math.frexp(max(abs(start), abs(end)))[1]
    if start == end:
        return np.where(finite, 0.0, np.nan)
    with np.errstate(over="ignore"):  # of values much larger than both ends
        start, end = math.ldexp(start, exponent), math.ldexp(end, exponent)
        fractions = (np.ldexp(values, exponent) - start) / (end - start)
    return np.where(finite, np.clip(fractions, -_LARGEST, _LARGEST), fractions)


def anchored_hypervolume(
    values: npt.ArrayLike, directions: Sequence[str], anchors: Sequence[tuple[float, float] | None]
) -> float:
    """Hypervolume as a share of the box between the anchors, 0 to 1; see :func:`scaled`."""
    points = scaled(values, directions, anchors)
    return hypervolume(np.where(points > -np.inf, np.maximum(points, 0.0), points), np.ones(len(directions)))
