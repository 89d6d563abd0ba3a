"""Networks that do not work: found among the trials, and searched for no more."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from aspk.objectives import Direction
from aspk.samplers import SurrogateSampler
from aspk.samplers._broken import broken, set_aside
from aspk.samplers._codec import ParameterCodec
from aspk.samplers._history import History
from aspk.tables import TabularEvaluator, shipped_tables
from aspk.util.pareto import ranks

CHANCE = 90.0


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("broken")


def of(*values: float) -> list[bool]:
    return broken(np.array(values, dtype=float)[:, None]).tolist()


# ------------------------------------------------------------------ what is broken


WORKING = (8, 8.3, 9, 9.5, 9.7, 10, 10.5, 11, 12, 14, 17, 21, 25, 30, 40)


def test_networks_at_chance_are_broken_and_the_others_are_not():
    assert of(*WORKING, 90, 90) == [False] * 15 + [True] * 2
    assert of(90, *WORKING, 89.9) == [True] + [False] * 15 + [True]


def test_maximised_accuracies_that_are_told_negated_are_judged_by_their_distances():
    accuracies = [1 - error / 100 for error in (*WORKING, 90, 90)]
    assert of(*(-accuracy for accuracy in accuracies)) == [False] * 15 + [True] * 2


LARGEST = np.finfo(float).max


@pytest.mark.parametrize(
    "values",
    [
        (*WORKING, 90),  # a single one may be the end of a long tail
        (*WORKING, 60, 90, 90, 70),  # a long tail
        (1, 2, 4, 9, 20, 50, 400, 400),  # costs spread over decades
        (1, 1, 2, 2, 3, 3, 4, 5, 5, 8, 8),  # whole numbers
        (8, 8, 8, 8, 8, 8, 8, 90, 90),  # too few different ones to know what is usual
        (-LARGEST, -LARGEST / 2, -1, 0, 1, 2, 3, LARGEST, LARGEST),
    ],
)
def test_what_may_be_a_working_network_stays(values):
    assert not any(of(*values))


def test_one_objective_is_enough():
    error = np.array([*WORKING, 90, 90])
    cost = np.array([*np.arange(20.0, 5.0, -1.0), 1.0, 1.0])
    assert broken(np.column_stack([error, cost])).tolist() == [False] * 15 + [True] * 2
    assert broken(np.column_stack([cost, error])).tolist() == [False] * 15 + [True] * 2


@given(
    st.lists(st.floats(8, 30), max_size=30),
    st.integers(2, 5),
    st.floats(1e-6, 1e6),
    st.randoms(use_true_random=False),
)
def test_neither_the_order_nor_the_unit_matters(working, count, unit, random):
    values = np.array([*WORKING, *working, *[CHANCE] * count])
    order = list(range(len(values)))
    random.shuffle(order)
    assert of(*(unit * values[order])) == [place >= len(WORKING) + len(working) for place in order]


def test_they_are_among_the_failed_trials_of_a_history():
    values = np.column_stack([[*WORKING, 90, 90], np.arange(17.0)])
    X = np.arange(17)[:, None]
    history = History(
        X=X,
        values=values,
        directions=("minimize", "minimize"),
        violation=np.zeros(17),
        pending=X[:0],
        discarded=np.array([[77]]),
        constraints={"size": np.arange(17.0)},
        designs={b"kept"},
    )
    kept = set_aside(history)
    assert kept.X.ravel().tolist() == list(range(15))
    assert kept.discarded.ravel().tolist() == [77, 15, 16]
    assert kept.constraints["size"].tolist() == list(range(15))
    assert kept.designs == {b"kept"}
    assert set_aside(kept) is kept


KIND = CategoricalDistribution(["small", "medium", "large"])
SPLIT = CategoricalDistribution(["a", "b"])


@pytest.mark.parametrize(
    ("distribution", "last", "kept"),
    [
        (KIND, (2, 2), 17),  # exactly the large ones
        (KIND, (2, 1), 15),  # each choice once: that may be chance
        (SPLIT, (1, 1), 15),  # others of that kind are as usual
        (IntDistribution(0, 2), (2, 2), 15),  # a threshold, say, that lets nothing fire
    ],
)
def test_what_one_choice_explains_works(distribution, last, kept):
    """Half of a front counted as failed: the trials with a backbone that costs a hundred times as much."""
    codec = ParameterCodec({"kind": distribution, "x": FloatDistribution(0, 1)})
    kinds = [place % 2 for place in range(len(WORKING))]
    X = np.column_stack([[*kinds, *last], np.linspace(0, 1, 17)])
    history = History(
        X=X,
        values=np.column_stack([np.linspace(0, 1, 17), [*WORKING, 90, 90]]),
        directions=("minimize", "minimize"),
        violation=np.zeros(17),
        pending=X[:0],
        discarded=X[:0],
    )
    assert len(set_aside(history, codec)) == kept


def subsets(values, rng, *, working, dead=()):
    """As the trials of a search: six random networks, others from near the front, three broken ones."""
    best = working[np.argsort(ranks(values[working]), kind="stable")[:600]]
    for count in (4, 8, 12, 20, 30, 50, 100, 200):
        for _ in range(60):
            rows = [rng.choice(working, 6, replace=False), rng.choice(best, count, replace=False)]
            rows += [rng.choice(dead, 3, replace=False)] if len(dead) else []
            yield values[np.concatenate(rows)]


@pytest.mark.parametrize("name", shipped_tables())
def test_tables_whose_networks_all_work_have_hardly_any_broken_ones(name):
    values = TabularEvaluator(name).values(["accuracy", "energy"])
    found = [
        broken(some).any()
        for some in subsets(values, np.random.default_rng(0), working=np.arange(len(values)))
    ]
    assert np.mean(found) < 0.03


@pytest.mark.parametrize("name", ["cells", "silent"])
@pytest.mark.parametrize(
    "of_error", [lambda error: error, lambda error: error / 100 - 1], ids=["error", "accuracy"]
)
def test_nearly_all_sets_with_broken_networks_show_these_and_no_others(benchmark, name, of_error):
    table = benchmark.table(name)
    values, dead = np.column_stack([of_error(table.error), table.cost]), table.error == CHANCE
    rng = np.random.default_rng(0)
    sets = subsets(values, rng, working=np.flatnonzero(~dead), dead=np.flatnonzero(dead))
    right = [broken(some).tolist() == (some[:, 0] == of_error(CHANCE)).tolist() for some in sets]
    assert np.mean(right) > 0.95


# ------------------------------------------------------------------ searching


def cell(trial: optuna.trial.Trial) -> tuple[float, float]:
    """Six unordered genes; with gene 0 at "a" nothing works, and nothing is cheaper."""
    genes = [trial.suggest_categorical(f"gene_{i}", ["a", "b", "c"]) for i in range(6)]
    if genes[0] == "a" and genes[1] != "c":
        return CHANCE, 1.0
    size = sum("abc".index(gene) * (1 + i / 10) for i, gene in enumerate(genes))
    return 8 + 20 / (1 + size), 2 + size


def study(*, told: bool, directions: list[Direction]) -> optuna.Study:
    """40 random trials; broken networks are told as failed, or with the values that they have."""
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), directions=directions)
    for _ in range(40):
        trial = random.ask()
        error, cost = cell(trial)
        if told and error == CHANCE:
            random.tell(trial, state=TrialState.FAIL)
        else:
            random.tell(
                trial,
                [
                    -error if direction == "maximize" else error
                    for error, direction in zip((error, cost), directions, strict=True)
                ],
            )
    return random


@pytest.mark.parametrize("directions", [["minimize", "minimize"], ["maximize", "minimize"]])
def test_a_search_goes_on_as_if_broken_networks_had_been_reported_as_failed(directions, caplog):
    told, untold = (study(told=told, directions=directions) for told in (True, False))
    assert sum(trial.state == TrialState.FAIL for trial in told.trials) >= 3
    proposals = []
    for known in (told, untold):
        known.sampler = SurrogateSampler(seed=3)
        trial = known.ask()
        cell(trial)
        proposals.append(trial.params)
    assert proposals[0] == proposals[1]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "some trials count as failed: 7 of 40 lie far behind all others in an objective, all alike"
    ]


# ------------------------------------------------------------------ the benchmark's tables


def test_a_cell_is_broken_exactly_where_no_path_leads_through_it(benchmark):
    cells = benchmark.table("cells")
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    broken = 0
    for genes, error, cost in zip(cells.genes.tolist(), cells.error, cells.cost, strict=True):
        reached = {0}
        for (a, b), operation in sorted(zip(edges, genes, strict=True)):
            if operation and a in reached:
                reached.add(b)
        assert (error == CHANCE) == (3 not in reached)
        broken += 3 not in reached
        assert cost >= cells.cost[0]
    assert broken == 341  # as in NAS-Bench-201


def test_broken_networks_of_the_formulas_are_the_cheapest_and_the_worst(benchmark):
    for name in ("cells", "silent"):
        table = benchmark.table(name)
        dead = table.error == CHANCE
        assert 0.01 < dead.mean() < 0.2
        assert table.cost[dead].max() < table.cost[~dead].min()
        assert table.error[~dead].max() < CHANCE - 10
        assert table.share(range(len(table.error))) == pytest.approx(1.0)
        assert table.share(np.flatnonzero(dead)) == 0.0


def test_the_benchmark_goes_on_from_its_log_and_says_what_it_left_out(
    benchmark, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("ASPK_DATA", str(tmp_path))
    log, record = tmp_path / "runs.jsonl", tmp_path / "broken.json"
    methods = ["random", "aspk surrogate", "aspk surrogate, told"]
    command = ["broken.py", "--quick", "--log", str(log), "--json", str(record), "--methods", *methods]
    monkeypatch.setattr(sys, "argv", command)
    assert benchmark.main() == 0
    first = capsys.readouterr().out
    assert "nb201_cifar10: left out" in first
    lines = log.read_text().splitlines()
    assert len(lines) == 2 * 2 * len(methods)
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # killed while it wrote
    assert benchmark.main() == 0
    runs = json.loads(record.read_text())["runs"]
    names = itertools.product(("cells", "silent"), methods, (7000, 7001))
    assert {(run["table"], run["method"], run["seed"]) for run in runs} == set(names)
    assert runs[:-1] == [json.loads(line) for line in lines[:-1]]
