"""No value that Optuna accepts ends a search: infinities, extreme floats, values out of range."""

from __future__ import annotations

import math
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sampler_cases import TINY, Recording

import aspk
from aspk.report.figures import front_figure, hypervolume_figure, png
from aspk.report.summary import summarise
from aspk.samplers import EvolutionarySampler, NSGA2Sampler, RandomSampler, SurrogateSampler
from aspk.samplers._coordinate import Coordinate
from aspk.util.pareto import anchored_hypervolume, hypervolume, knee, nondominated, ranks, scaled, to_unit

LARGEST, SMALLEST = sys.float_info.max, math.ulp(0.0)
EXTREMES = [math.inf, -math.inf, math.nan, LARGEST, -LARGEST, SMALLEST, -SMALLEST, 0.0, -0.0, 1e154, -1e154]
NUMBERS = st.sampled_from(EXTREMES) | st.floats(width=64) | st.floats(-1, 1)
SAMPLERS = {
    "random": RandomSampler,
    "nsga2": lambda **options: NSGA2Sampler(population_size=4, **options),
    "evolutionary": lambda **options: EvolutionarySampler(population_size=4, top_k=3, **options),
    "surrogate": lambda **options: SurrogateSampler(n_startup_trials=4, pool_size=20, **options),
}
every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)


COLUMNS = st.integers(1, 4)


def tables(columns=COLUMNS):
    shapes = st.tuples(st.integers(0, 12), columns)
    return shapes.flatmap(lambda shape: arrays.arrays(float, shape, elements=NUMBERS))


def counted(F):
    """The rows that count, said again: those without NaN and minus infinity."""
    rows = [i for i, row in enumerate(F) if all(value > -math.inf for value in row)]
    return rows, [list(F[i]) for i in rows]


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


# ------------------------------------------------------------------ the gate


def test_only_one_module_calls_the_library_that_reads_outside_its_memory():
    package, imported = Path(aspk.__file__).parent, re.compile(r"^\s*(import|from) moocore", re.M)
    callers = {path.name for path in package.rglob("*.py") if imported.search(path.read_text())}
    assert callers == {"pareto.py"}


@given(tables())
def test_fronts_and_ranks_of_anything(F):
    rows, values = counted(F)
    left, expected, rank = dict(zip(rows, values, strict=True)), {}, 0
    while left:
        front = [i for i, a in left.items() if not any(dominates(b, a) for b in left.values())]
        expected |= dict.fromkeys(front, rank)
        left = {i: row for i, row in left.items() if i not in front}
        rank += 1
    behind = max(expected.values(), default=0) + 1
    assert ranks(F).tolist() == [expected.get(i, behind) for i in range(len(F))]
    assert nondominated(F).tolist() == [expected.get(i) == 0 for i in range(len(F))]
    if rows:
        assert nondominated(F)[knee(F)]


@given(tables())
@settings(deadline=None)
def test_volumes_of_anything(F):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for end in (1.0, LARGEST, SMALLEST, math.inf, math.nan):
            assert 0.0 <= hypervolume(F, np.full(F.shape[1], end)) <= LARGEST
        for direction in ("minimize", "maximize"):
            for anchor in (None, (0.0, 1.0), (-LARGEST, LARGEST), (SMALLEST, 0.0)):
                share = anchored_hypervolume(F, [direction] * F.shape[1], [anchor] * F.shape[1])
                assert 0.0 <= share <= 1.0 + 1e-12


@given(tables(columns=st.just(1)))
def test_a_scale_keeps_the_order_and_what_is_not_finite(F):
    for direction, sign in (("minimize", 1), ("maximize", -1)):
        points = scaled(F, [direction], [(sign * 1e-3, sign * LARGEST)])[:, 0]
        own = sign * F[:, 0]
        assert np.isfinite(points).tolist() == np.isfinite(own).tolist()
        known = points[np.argsort(own)][: (~np.isnan(own)).sum()].tolist()  # NaN is sorted to the end
        assert known == sorted(known)


def test_infinitely_good_values_are_no_hypervolume():
    assert anchored_hypervolume([[math.inf], [0.5]], ["maximize"], [(1.0, 0.0)]) == 0.5
    assert anchored_hypervolume([[-math.inf], [0.5]], ["maximize"], [(1.0, 0.0)]) == 0.5
    assert hypervolume([[-LARGEST, -LARGEST]], [LARGEST, LARGEST]) == LARGEST


@given(arrays.arrays(float, st.integers(0, 6), elements=NUMBERS))
def test_unit_scale_is_exact(values):
    unit = to_unit(values)
    finite = values[np.isfinite(values)]
    assert not len(finite) or np.abs(unit[np.isfinite(values)]).max() in (0.0, pytest.approx(0.75, abs=0.25))
    assert np.isfinite(np.diff(unit[np.isfinite(values)])).all()


# ------------------------------------------------------------------ parameters

DISTRIBUTIONS = st.one_of(
    st.tuples(st.floats(-LARGEST, LARGEST), st.floats(-LARGEST, LARGEST)).map(
        lambda ends: FloatDistribution(min(ends), max(ends))
    ),
    st.tuples(st.floats(SMALLEST, LARGEST), st.floats(SMALLEST, LARGEST)).map(
        lambda ends: FloatDistribution(min(ends), max(ends), log=True)
    ),
    st.tuples(st.integers(-(10**18), 10**18), st.integers(0, 10**18), st.integers(1, 10**6)).map(
        lambda n: IntDistribution(n[0], n[0] + n[1], step=n[2])
    ),
    st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(1e-3, 1e3)).map(
        lambda n: FloatDistribution(n[0], n[0] + n[1], step=n[2])
    ),
)


@pytest.mark.filterwarnings("ignore:The distribution is specified")
@given(DISTRIBUTIONS, st.floats(0, 1))
def test_coordinates_of_any_range_stay_in_it(distribution, place):
    coordinate = Coordinate(distribution)
    top = coordinate.cardinality - 1
    gene = round(place * top) if top >= 0 else place
    value = coordinate.decode(gene)
    assert distribution.low <= value <= distribution.high
    assert 0 <= coordinate.encode(value) <= max(1, top)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-9, 3.1, 10**400, "two", None])
@pytest.mark.parametrize(
    "distribution", [FloatDistribution(0, 3), FloatDistribution(1e-9, 3, log=True), IntDistribution(0, 3)]
)
def test_what_is_out_of_range_has_no_gene(distribution, value):
    with pytest.raises((ValueError, TypeError)):
        Coordinate(distribution).encode(value)


# ------------------------------------------------------------------ searches


def objective(trial):
    """What an objective suggests: a parameter in some trials only, and others in all."""
    depth = trial.suggest_int("depth", 0, 4)
    if depth >= 2:
        trial.suggest_float("width", 0, 1)
    trial.suggest_float("rate", 1e-6, 1, log=True)
    trial.suggest_categorical("kind", ["a", "b", "c"])


@every_sampler
@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(1, 4))
def test_no_value_ends_a_search(make, data, count):
    study = optuna.create_study(
        directions=["minimize", "maximize", "minimize", "maximize"][:count], sampler=make(seed=0)
    )
    values = st.lists(NUMBERS.filter(lambda value: not math.isnan(value)), min_size=count, max_size=count)
    rows = data.draw(
        st.lists(
            st.tuples(
                st.integers(-3, 9) | st.just(10**12),
                st.sampled_from([1e-6, 0.1, 1.0, 2.0, 1e-9, LARGEST]),
                values,
                NUMBERS.filter(lambda value: not math.isnan(value)),
            ),
            min_size=12,
            max_size=16,
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's own, of values out of range
        warnings.simplefilter("error", RuntimeWarning)  # numpy's, of overflows
        for depth, rate, told, constraint in rows:
            study.enqueue_trial({"depth": depth, "rate": rate})
            running = study.ask()
            objective(running)
            running.set_constraint("c", constraint)
            study.tell(running, told)
        for _ in range(2):
            asked = study.ask()
            objective(asked)
            assert 0 <= asked.params["depth"] <= 4
            assert 1e-6 <= asked.params["rate"] <= 1
            study.tell(asked, data.draw(values))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_infinitely_good_is_failed_and_infinitely_bad_is_the_worst(direction):
    sampler = Recording(space=TINY, seed=0)
    study = optuna.create_study(directions=[direction, "minimize"], sampler=sampler)
    sign = 1 if direction == "minimize" else -1
    told = [(1.0, 2.0), (sign * math.inf, 0.0), (-sign * math.inf, 0.0), (3.0, 1.0), (2.0, -math.inf)]
    for values in told:
        study.tell(sampler.ask_batch(study, 1)[0], values)
    sampler.ask_batch(study, 1)
    worst = 3.0 if direction == "minimize" else -1.0
    assert sampler.history.values.tolist() == [[sign * 1.0, 2.0], [worst, 0.0], [sign * 3.0, 1.0]]
    assert len(sampler.history.discarded) == 2
    assert len(sampler.history.designs) == 5


def test_a_fitness_that_is_no_number_ranks_last():
    worth = {0: math.inf, 1: 1.0, 2: math.nan, 3: 2.0, 4: -math.inf}
    sampler = Recording(space=TINY, seed=0)
    sampler._fitness = lambda trial: worth[trial.number]
    study = optuna.create_study(sampler=sampler)
    for _ in worth:
        study.tell(sampler.ask_batch(study, 1)[0], 0.0)
    sampler.ask_batch(study, 1)
    assert sampler.history.ranks.tolist() == [3, 1, 3, 0, 2]


def test_huge_attributes_are_no_parts():
    merit = aspk.Composite(parts={"a": "minimize"}, of=lambda a: a)
    sampler = SurrogateSampler(space=TINY, seed=0, composites={0: merit})
    study = optuna.create_study(sampler=sampler)
    for value in (1, 10**400, 3, 4, 5, 1e300):
        (trial,) = sampler.ask_batch(study, 1)
        trial.set_user_attr("a", value)
        study.tell(trial, min(value, 1e300))
    assert sampler.ask_batch(study, 1)


def test_known_objectives_that_are_no_numbers_promise_nothing():
    deepest = max(TINY.network["depth"])
    for number in (math.nan, math.inf, -math.inf, LARGEST, -LARGEST):

        def known(config, number=number):
            return number if config.depth == deepest else float(config.embed_dim)

        sampler = SurrogateSampler(space=TINY, seed=0, known={0: known})
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for _ in range(12):
            (trial,) = sampler.ask_batch(study, 1)
            config = TINY.suggest(trial)
            value = known(config)
            if math.isnan(value):
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, [value, float(config.time_steps)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_report_shows_the_largest_floats_and_tells_infinities_apart(count):
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"][:count])
    numbers = [LARGEST, -LARGEST, 1.0, math.inf, -math.inf, SMALLEST, 0.0]
    for i in range(14):
        trial = study.ask()
        study.tell(trial, [numbers[(i + 2 * k) % len(numbers)] for k in range(count)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        summary = summarise(study)
        for figure in (front_figure(summary), hypervolume_figure([summary])):
            assert png(figure)
    assert summary.front
    assert 0.0 <= summary.hypervolume <= 1.0
    if count == 1:
        assert [note.rpartition(": ")[2] for note in summary.notes] == ["4, 11", "3, 10"]
        assert "infinitely good" in summary.notes[0]
        assert "infinitely bad" in summary.notes[1]
