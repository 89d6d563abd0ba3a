import itertools
import json
import signal
import time

import numpy as np
import pytest
from spaces import FIXED, SMALL, TINY
from worker_processes import completed, launch

from aspk.errors import EvaluationError, LockError, TableError
from aspk.metrics import Metrics
from aspk.objectives import OBJECTIVES
from aspk.space.file import load_space
from aspk.tables import Table, TabularEvaluator, build_table, load_table, shipped_tables, write_table
from aspk.tables.building import prefix_order
from aspk.testing import FormulaEvaluator, check_evaluator
from aspk.util import locks
from aspk.util.locks import exclusive


class Strange:
    """The formula, with a number of its own."""

    def __init__(self, space, seed=0, fail_after=10**9):
        self.formula, self.calls, self.fail_after = (
            FormulaEvaluator(space, noise=0.01, seed=seed),
            0,
            fail_after,
        )

    def evaluate(self, configs):
        self.calls += 1
        if self.calls > self.fail_after:
            raise KeyboardInterrupt
        return [
            Metrics(**{**m.scalars(), "extras": {"depth": float(config.depth)}})
            for config, m in zip(configs, self.formula.evaluate(configs), strict=True)
        ]


def evaluators(space, **options):
    return {"search": Strange(space, **options), "test": Strange(space, seed=1)}


def built(path, space=SMALL, **options):
    assert build_table(space, evaluators(space), path, progress=False, **options)
    return TabularEvaluator(path)


def test_a_table_says_what_the_evaluator_said(tmp_path):
    table = built(tmp_path / "t.npz", batch=7)
    configs = [SMALL.decode(x) for x in SMALL.networks()]
    for split, seed in (("search", 0), ("test", 1)):
        direct = Strange(SMALL, seed=seed).evaluate(configs)
        looked_up = TabularEvaluator(table.table, split=split).evaluate(configs)
        for a, b in zip(direct, looked_up, strict=True):
            assert a.accuracy == b.accuracy
            assert a.scalars() == pytest.approx(b.scalars(), rel=1e-6)
            assert type(b.parameters) is int
    assert not (tmp_path / "t.npz.parts").exists()
    check_evaluator(table, SMALL, tolerance=0.0)


def test_equal_tables_are_equal_bytes(tmp_path):
    built(tmp_path / "a.npz", batch=7)
    built(tmp_path / "b.npz", batch=7)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    write_table(load_table(tmp_path / "a.npz"), tmp_path / "c.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()


def test_large_numbers_are_kept(tmp_path):
    table = built(tmp_path / "t.npz").table
    columns = {
        **table.splits["search"],
        "parameters": np.full(table.size, 2.0**24 + 1),  # whole, in floats
        "operations": np.full(table.size, 2**31 + 1, dtype=np.uint64),
        "mine": np.full(table.size, 1e39),
    }
    write_table(Table(table.space, {"search": columns}), tmp_path / "large.npz")
    found = load_table(tmp_path / "large.npz").splits["search"]
    for name in ("parameters", "operations", "mine"):
        assert np.array_equal(found[name], columns[name]), name


def test_building_goes_on_where_it_was_stopped(tmp_path):
    path, count = tmp_path / "t.npz", -(-SMALL.size // 4)
    with pytest.raises(KeyboardInterrupt):
        build_table(SMALL, evaluators(SMALL, fail_after=3), path, batch=4, progress=False)
    assert not path.exists()
    again = evaluators(SMALL)
    assert build_table(SMALL, again, path, batch=4, progress=False)
    assert again["search"].calls == count - 3
    built(tmp_path / "whole.npz", batch=4)
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_parts_of_another_table_are_not_taken(tmp_path):
    path = tmp_path / "t.npz"
    with pytest.raises(KeyboardInterrupt):
        build_table(SMALL, evaluators(SMALL, fail_after=1), path, batch=4, progress=False)
    with pytest.raises(TableError, match=r"made with about\.images = nothing, now it is 5"):
        build_table(SMALL, evaluators(SMALL), path, batch=4, about={"images": 5}, progress=False)


class Slow(FormulaEvaluator):
    def evaluate(self, configs):
        time.sleep(0.05)
        return super().evaluate(configs)


def build_slowly(space, path):
    build_table(space, {"search": Slow(space)}, path, batch=250, progress=False)


def test_building_survives_kill_9(tmp_path):
    space, path = load_space("digits_neurons"), tmp_path / "t.npz"
    process = launch(build_slowly, space, path)
    parts = tmp_path / "t.npz.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("[0-9]*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert completed(process) == -signal.SIGKILL
    before = {file.name: file.stat().st_mtime_ns for file in parts.glob("[0-9]*.npz")}
    assert 2 <= len(before) < 58
    formula = {"search": FormulaEvaluator(space)}
    reference = tmp_path / "whole.npz"
    assert build_table(space, formula, path, batch=250, progress=False)
    assert build_table(space, formula, reference, batch=250, progress=False)
    assert path.read_bytes() == reference.read_bytes()


def test_two_do_not_build_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0)
    with exclusive(tmp_path / "t.npz"), pytest.raises(LockError, match=r"t\.npz is in use by process"):
        build_table(TINY, {"search": FormulaEvaluator(TINY)}, tmp_path / "t.npz", progress=False)


def test_networks_with_a_common_beginning_stand_together():
    networks = np.array(list(FIXED.networks()))[::7]
    order = prefix_order(FIXED, networks)
    assert sorted(order.tolist()) == list(range(len(networks)))
    configs = [FIXED.decode(x) for x in networks[order]]
    beginnings = [(c.embed_dim, c.blocks[0]) for c in configs]
    changes = sum(a != b for a, b in itertools.pairwise(beginnings))
    assert changes == len(set(beginnings)) - 1


def test_the_true_front_dominates_and_its_hypervolume_is_the_sum_of_its_boxes(tmp_path):
    table = built(tmp_path / "t.npz")
    F, front, reference = table.values(), table.front(), table.reference_point()
    for row in range(len(F)):
        assert (F[front] <= F[row]).all(axis=1).any()
    corners = np.unique(F[front], axis=0)  # sorted by accuracy, best first
    edges = [*corners[1:, 0], reference[0]]
    boxes = sum((edge - a) * (reference[1] - e) for (a, e), edge in zip(corners, edges, strict=True))
    assert table.hypervolume() == pytest.approx(boxes)
    assert len(table.front(["accuracy", "energy", "parameters"])) >= len(front)
    assert table.values([OBJECTIVES["spikes"]]).shape == (SMALL.size, 1)


def test_hidden_genes_do_not_matter(tmp_path):
    table = built(tmp_path / "t.npz")
    X = SMALL.sample_choices(50, np.random.default_rng(0))
    assert np.array_equal(table.networks[table.rows(X)], SMALL.canonical(X))


def test_a_network_of_another_space_has_no_metrics(tmp_path):
    table = built(tmp_path / "t.npz")
    (result,) = table.evaluate([TINY.reference])
    assert isinstance(result, EvaluationError)


class Failing:
    def evaluate(self, configs):
        return [EvaluationError("out of memory") for _ in configs]


def test_a_table_needs_every_network(tmp_path):
    with pytest.raises(TableError, match="out of memory"):
        build_table(SMALL, {"search": Failing()}, tmp_path / "t.npz", progress=False)
    columns = {"accuracy": np.zeros(3), "energy_mj": np.zeros(3)}
    with pytest.raises(TableError, match="expected a number for each"):
        Table(SMALL, {"search": columns})
    columns = {"accuracy": np.full(SMALL.size, np.nan), "energy_mj": np.zeros(SMALL.size)}
    with pytest.raises(TableError, match="finite"):
        Table(SMALL, {"search": columns})


def rewritten(path, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2]),
        lambda path: np.savez(path, header=np.zeros(3)),
        lambda path: rewritten(path, format=99),
        lambda path: rewritten(path, space={"name": "x"}),
        lambda path: rewritten(path, space=TINY.to_json()),
        lambda path: rewritten(path, about=[1]),
        lambda path: np.savez(path, header=np.array([{}], dtype=object)),
    ],
)
def test_damaged_tables_are_named(damage, tmp_path):
    path = tmp_path / "t.npz"
    built(path)
    damage(path)
    with pytest.raises(TableError, match=r"t\.npz"):
        load_table(path)


def test_unknown_splits_and_batches_are_refused(tmp_path):
    table = built(tmp_path / "t.npz").table
    with pytest.raises(TableError, match="search, test"):
        TabularEvaluator(table, split="train")
    with pytest.raises(TableError, match="at least 1"):
        build_table(SMALL, evaluators(SMALL), tmp_path / "t.npz", batch=0)


@pytest.mark.parametrize("name", shipped_tables())
def test_shipped_tables_are_whole_and_small(name):
    table = load_table(name)
    assert shipped_tables()[name].stat().st_size <= 2_000_000
    assert 10_000 <= table.space.size <= 60_000
    assert set(table.splits) == {"search", "test"}
    evaluator = TabularEvaluator(table)
    check_evaluator(evaluator, table.space, tolerance=0.0)
    assert len(evaluator.front()) > 10
