"""Fronts against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aspk.util.pareto import anchored_hypervolume, hypervolume, knee, nondominated, ranks, scaled


def points(dimensions: int, high: int = 6) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """Points on a small grid, so that ties and duplicates are common."""
    return st.lists(st.tuples(*[st.integers(0, high)] * dimensions), min_size=1, max_size=12)


def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def cells(rows: list[tuple[int, ...]], reference: tuple[int, ...]) -> int:
    """Unit cells of the grid below the reference that some point dominates."""
    grid = itertools.product(*(range(top) for top in reference))
    return sum(any(all(x <= c for x, c in zip(row, cell, strict=True)) for row in rows) for cell in grid)


@given(st.integers(1, 3).flatmap(points))
def test_nondominated_against_all_pairs(rows: list[tuple[int, ...]]) -> None:
    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert nondominated(rows).tolist() == expected


@given(st.integers(1, 3).flatmap(points))
def test_ranks_against_peeling(rows: list[tuple[int, ...]]) -> None:
    expected, rank, left = [0] * len(rows), 0, set(range(len(rows)))
    while left:
        front = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for i in front:
            expected[i] = rank
        left -= front
        rank += 1
    assert ranks(rows).tolist() == expected


@given(st.integers(1, 3).flatmap(points))
def test_infinity_is_worse_than_any_number(rows: list[tuple[int, ...]]) -> None:
    infinite = np.where(np.array(rows) == 6, np.inf, rows)
    assert nondominated(infinite).tolist() == nondominated(rows).tolist()
    assert ranks(infinite).tolist() == ranks(rows).tolist()
    assert nondominated(infinite)[knee(infinite)]


@given(st.integers(1, 3).flatmap(points))
def test_hypervolume_against_a_grid(rows: list[tuple[int, ...]]) -> None:
    reference = (5,) * len(rows[0])  # some points lie outside
    assert hypervolume(rows, reference) == pytest.approx(cells(rows, reference))


@given(points(2))
def test_hypervolume_against_inclusion_and_exclusion(rows: list[tuple[int, ...]]) -> None:
    rows = rows[:6]
    total = 0.0
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(rows, size):
            corner = np.max(chosen, axis=0)
            total += (-1) ** (size + 1) * float(np.prod(np.maximum(0, 7 - corner)))
    assert hypervolume(rows, (7, 7)) == pytest.approx(total)


@given(points(2), points(2))
def test_more_points_never_shrink_the_hypervolume(
    rows: list[tuple[int, ...]], more: list[tuple[int, ...]]
) -> None:
    assert hypervolume(rows + more, (7, 7)) >= hypervolume(rows, (7, 7))


@pytest.mark.parametrize("empty", [[], np.zeros((0, 2))])
def test_nothing(empty: object) -> None:
    assert nondominated(empty).shape == (0,)  # type: ignore[arg-type]
    assert ranks(empty).shape == (0,)  # type: ignore[arg-type]
    assert hypervolume(empty, (1.0, 1.0)) == 0.0  # type: ignore[arg-type]


def test_points_on_the_reference_add_nothing() -> None:
    assert hypervolume([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]], (1.0, 1.0)) == 0.0


def test_knee_is_the_bend() -> None:
    F = [[0.0, 1000.0], [0.2, 200.0], [1.0, 0.0], [0.9, 900.0]]
    assert knee(F) == 1
    assert knee([[3.0, 4.0]]) == 0
    assert knee([[1.0, 1.0], [1.0, 1.0]]) in (0, 1)
    assert knee([[2.0], [1.0], [3.0]]) == 1


@given(points(3))
def test_knee_lies_on_the_front(rows: list[tuple[int, ...]]) -> None:
    assert nondominated(rows)[knee(rows)]


@given(points(2), st.floats(0.1, 10), st.floats(-5, 5))
def test_knee_does_not_depend_on_units(rows: list[tuple[int, ...]], scale: float, shift: float) -> None:
    F = np.array(rows, dtype=float)
    moved = F * [scale, 1.0] + [shift, 0.0]

    def distance(index: int) -> float:
        front = F[nondominated(F)]
        span = np.where(np.ptp(front, axis=0) > 0, np.ptp(front, axis=0), 1.0)
        return float(np.linalg.norm((F[index] - front.min(axis=0)) / span))

    assert distance(knee(moved)) == pytest.approx(distance(knee(F)))


def test_scaled_by_anchors_and_by_range() -> None:
    values = [[0.9, 2.0], [0.5, 4.0], [1.2, 8.0]]
    directions = ["maximize", "minimize"]
    fixed = scaled(values, directions, [(1.0, 0.5), (0.0, 4.0)])
    assert fixed == pytest.approx(np.array([[0.2, 0.5], [1.0, 1.0], [-0.4, 2.0]]))
    observed = scaled(values, directions, [None, None])
    assert observed == pytest.approx(np.array([[3 / 7, 0.0], [1.0, 1 / 3], [0.0, 1.0]]))
    assert scaled([[3.0], [3.0]], ["minimize"], [None]).tolist() == [[0.0], [0.0]]
    assert scaled([], directions, [None, None]).shape == (0, 2)


def test_anchored_hypervolume_is_a_share_of_the_box() -> None:
    directions, anchors = ["maximize", "minimize"], [(1.0, 0.5), (0.0, 4.0)]
    assert anchored_hypervolume([[0.9, 2.0]], directions, anchors) == pytest.approx(0.8 * 0.5)
    assert anchored_hypervolume([[2.0, -1.0]], directions, anchors) == 1.0  # better than ideal is ideal
    assert anchored_hypervolume([[0.9, 5.0]], directions, anchors) == 0.0
    assert anchored_hypervolume([], directions, anchors) == 0.0
