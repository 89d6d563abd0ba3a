"""Non-dominated sets and hypervolume, everything minimised (thin over moocore)."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def nondominated(F: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates; equal rows all count.

    Args:
        F: objective values to minimise, shape (n, k).

    Returns:
        Mask of shape (n,).
    """
    F = np.asarray(F, dtype=float)
    if len(F) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(F, keep_weakly=True), dtype=bool)


def ranks(F: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Non-dominated rank of each row, 0 for the front; shape (n,)."""
    F = np.asarray(F, dtype=float)
    if len(F) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(moocore.pareto_rank(F), dtype=np.int64)


def hypervolume(F: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume dominated by ``F`` and bounded by ``reference``; points outside add nothing.

    Args:
        F: objective values to minimise, shape (n, k).
        reference: shape (k,).
    """
    F, reference = np.asarray(F, dtype=float), np.asarray(reference, dtype=float)
    inside = F[(reference > F).all(axis=1)] if len(F) else F
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def knee(F: npt.ArrayLike) -> int:
    """Row of the front's knee: the front's point nearest to its ideal point, each axis scaled to 0..1.

    Args:
        F: objective values to minimise, shape (n, k), n >= 1.
    """
    F = np.asarray(F, dtype=float)
    front = np.flatnonzero(nondominated(F))
    low, high = F[front].min(axis=0), F[front].max(axis=0)
    scaled = (F[front] - low) / np.where(high > low, high - low, 1.0)
    return int(front[np.linalg.norm(scaled, axis=1).argmin()])


def scaled(
    values: npt.ArrayLike, directions: Sequence[str], anchors: Sequence[tuple[float, float] | None]
) -> FloatArray:
    """Objective values on a common scale: 0 at the ideal, 1 at the nadir, smaller is better.

    Args:
        values: raw objective values, shape (n, k).
        directions: ``maximize`` or ``minimize`` for each objective.
        anchors: (ideal, nadir) of each objective; None takes the best and worst of ``values``.

    Returns:
        Shape (n, k); below 0 or above 1 outside the anchors.
    """
    raw = np.asarray(values, dtype=float).reshape(-1, len(directions))
    result = np.zeros_like(raw)
    if not len(raw):
        return result
    for column, (direction, anchor) in enumerate(zip(directions, anchors, strict=True)):
        own = raw[:, column]
        observed = (own.max(), own.min()) if direction == "maximize" else (own.min(), own.max())
        ideal, nadir = anchor or observed
        result[:, column] = (own - ideal) / (nadir - ideal) if nadir != ideal else 0.0
    return result


def anchored_hypervolume(
    values: npt.ArrayLike, directions: Sequence[str], anchors: Sequence[tuple[float, float] | None]
) -> float:
    """Hypervolume as a share of the box between the anchors, 0 to 1; see :func:`scaled`."""
    points = scaled(values, directions, anchors)
    return hypervolume(np.clip(points, 0.0, None), np.ones(len(directions)))
