"""The measures and intervals of the comparison, against independent computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import studentized_range, ttest_rel

from benchmarks.comparison import intervals
from benchmarks.comparison.intervals import paired_differences, paired_ratios
from benchmarks.comparison.measures import accuracy_at, energy_at, log_hypervolume

BOX = {"chance": 0.1, "cheapest": 1e-3, "dearest": 1.0}
points = st.lists(
    st.tuples(st.floats(0, 1), st.floats(-5, 2).map(lambda exponent: 10.0**exponent)), min_size=1, max_size=8
)


def columns(found):
    return [accuracy for accuracy, _ in found], [energy for _, energy in found]


def area_by_steps(found):
    """The mean of the best accuracy above chance over a fine grid of bounds, evenly in the logarithm."""
    count = 20_000
    total = 0.0
    for step in range(count):
        bound = 1e-3 * 1e3 ** ((step + 0.5) / count)
        best = max((a for a, e in found if max(e, 1e-3) <= bound), default=0.1)
        total += max(0.0, best - 0.1) / 0.9
    return total / count


@given(points.filter(lambda found: len(found) < 4))
def test_the_area_is_the_mean_over_the_energy(found):
    assert log_hypervolume(*columns(found), **BOX) == pytest.approx(area_by_steps(found), abs=3e-4)


@given(points, st.floats(1e-3, 1e3))
def test_the_area_does_not_depend_on_the_unit_or_the_order(found, unit):
    whole = log_hypervolume(*columns(found), **BOX)
    scaled = [(accuracy, energy * unit) for accuracy, energy in reversed(found)]
    box = {**BOX, "cheapest": 1e-3 * unit, "dearest": unit}
    assert log_hypervolume(*columns(scaled), **box) == pytest.approx(whole, abs=1e-9)
    assert 0 <= whole <= 1 + 1e-12


@given(points, points)
def test_more_networks_never_shrink_the_area(found, more):
    both = log_hypervolume(*columns([*found, *more]), **BOX)
    assert both >= log_hypervolume(*columns(found), **BOX) - 1e-12


def test_the_area_of_one_network():
    # Two thirds of the axis lie above the energy 1e-2, and 0.55 is half of the way from chance to 1.
    assert log_hypervolume([0.55], [1e-2], **BOX) == pytest.approx(2 / 3 / 2)
    assert log_hypervolume([1.0], [1e-9], **BOX) == pytest.approx(1)
    assert log_hypervolume([0.1, 1.0], [1e-2, 1.0], **BOX) == 0
    assert log_hypervolume([], [], **BOX) == 0
    with pytest.raises(ValueError, match="expected 0 < cheapest < dearest"):
        log_hypervolume([0.5], [1.0], chance=0.1, cheapest=0.0, dearest=1.0)


@given(points, st.floats(-5, 2).map(lambda exponent: 10.0**exponent), st.floats(0, 1))
def test_equal_energy_and_equal_accuracy_are_what_they_say(found, energy, accuracy):
    best = accuracy_at(*columns(found), energy)
    least = energy_at(*columns(found), accuracy)
    assert not any(a > best and e <= energy for a, e in found)
    assert not any(a >= accuracy and e < least for a, e in found)
    if math.isnan(best):
        assert all(e > energy for _, e in found)
    else:  # each undoes the other
        assert energy_at(*columns(found), best) <= energy
    if not math.isnan(least):
        assert accuracy_at(*columns(found), least) >= accuracy


# ---------------------------------------------------------------------- intervals


@given(st.integers(2, 7), st.integers(0, 1000))
def test_two_networks_are_the_paired_t_test(seeds, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, seeds))
    found = paired_differences({"a": first, "b": second}, [("a", "b"), ("b", "a")])
    low, high = ttest_rel(first, second).confidence_interval(0.95)
    assert found["a", "b"] == pytest.approx((first.mean() - second.mean(), low, high), rel=1e-9)
    assert found["b", "a"] == pytest.approx((second.mean() - first.mean(), -high, -low), rel=1e-9)


@pytest.mark.parametrize(("networks", "seeds"), [(3, 3), (4, 5), (6, 5)])
def test_all_pairs_are_tukeys(networks, seeds):
    values = np.random.default_rng(0).normal(size=(networks, seeds))
    names = [str(name) for name in range(networks)]
    pairs = list(itertools.combinations(names, 2))
    found = paired_differences(dict(zip(names, values, strict=True)), pairs)
    freedom = (networks - 1) * (seeds - 1)
    # An analysis of variance by least squares: indicators of networks and seeds explain what is not noise.
    design = [
        [float(row == i) for i in range(networks)] + [float(column == j) for j in range(1, seeds)]
        for row in range(networks)
        for column in range(seeds)
    ]
    _, (squares,), *_ = np.linalg.lstsq(np.array(design), values.ravel(), rcond=None)
    q = studentized_range.ppf(0.95, networks, freedom)
    reach = q * math.sqrt(squares / freedom / seeds)
    for first, second in pairs:
        estimate, low, high = found[first, second]
        assert estimate == pytest.approx(values[int(first)].mean() - values[int(second)].mean())
        assert (high - estimate, estimate - low) == pytest.approx((reach, reach), rel=0.01)


def test_fewer_pairs_have_narrower_intervals_and_more_confidence_wider_ones():
    values = {str(name): own for name, own in enumerate(np.random.default_rng(1).normal(size=(5, 5)))}
    against = [(name, "0") for name in values if name != "0"]
    width = [
        found["1", "0"][2] - found["1", "0"][1]
        for found in (
            paired_differences(values, against[:1]),
            paired_differences(values, against),
            paired_differences(values, list(itertools.combinations(values, 2))[::-1] + against),
            paired_differences(values, against, confidence=0.99),
        )
    ]
    assert width[0] < width[1] < width[2] < width[3]


def test_all_intervals_hold_together_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(intervals, "_DRAWS", 20_000)
    rng, true, hits = np.random.default_rng(2), np.array([0.0, 0.5, 2.0, -1.0]), 0
    pairs = [("1", "0"), ("2", "0"), ("3", "0"), ("2", "1")]
    for _ in range(300):
        # Seeds may differ by much: they are paired, so that this does not matter.
        values = true[:, None] + rng.normal(size=(4, 5)) + 10 * rng.normal(size=5)
        found = paired_differences({str(name): own for name, own in enumerate(values)}, pairs)
        hits += all(
            found[pair][1] <= true[int(pair[0])] - true[int(pair[1])] <= found[pair][2] for pair in pairs
        )
    assert 0.91 <= hits / 300 <= 0.985  # 0.95 with a standard error of 0.013


@given(st.integers(0, 100), st.floats(0.1, 10), st.floats(-5, 5))
def test_intervals_follow_scale_and_are_blind_to_what_seeds_share(seed, scale, shift):
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=4) for name in "ab"}
    moved = {name: scale * own + shift * np.arange(4) for name, own in values.items()}
    pair = ("a", "b")
    assert paired_differences(moved, [pair])[pair] == pytest.approx(
        tuple(scale * bound for bound in paired_differences(values, [pair])[pair]), rel=1e-6, abs=1e-9
    )


def test_ratios_are_paired_t_tests_of_logarithms():
    rng = np.random.default_rng(0)
    values = {name: np.exp(rng.normal(size=5)) for name in "abc"}
    pairs = [("a", "c"), ("b", "c"), ("c", "b")]
    found = paired_ratios(values, pairs, confidence=0.9)
    for first, second in pairs:  # two different ones
        own, other = np.log(values[first]), np.log(values[second])
        expected = (own.mean() - other.mean(), *ttest_rel(own, other).confidence_interval(0.95))
        assert np.log(found[first, second]) == pytest.approx(expected)


def test_ratios_hold_together_where_networks_scatter_differently():
    rng, hits = np.random.default_rng(3), 0
    pairs = [("1", "0"), ("2", "0"), ("3", "0")]
    scatter = np.array([0.001, 0.001, 0.05, 0.002])[:, None]
    for _ in range(300):
        logarithms = np.arange(4)[:, None] + scatter * rng.normal(size=(4, 5)) + rng.normal(size=5)
        found = paired_ratios({str(name): np.exp(own) for name, own in enumerate(logarithms)}, pairs)
        true = {(first, second): np.exp(int(first) - int(second)) for first, second in pairs}
        hits += all(low <= true[pair] <= high for pair, (_, low, high) in found.items())
    assert hits / 300 >= 0.93  # at least 0.95, with a standard error of 0.013


def test_what_cannot_be_compared_has_no_interval():
    pair = ("a", "b")
    assert paired_differences({"a": [1.0], "b": [2.0]}, [pair]) == {pair: None}
    assert paired_differences({"a": [1.0, 1.0], "b": [2.0, 2.0]}, [pair]) == {pair: None}
    assert paired_differences({"a": [1.0, 2.0], "b": [2.0, 3.0]}, [pair]) == {
        pair: None
    }  # the same difference
    assert paired_differences({"a": [1.0, 2.0]}, []) == {}
