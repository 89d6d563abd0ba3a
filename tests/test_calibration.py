"""Predictors against a table of trained networks whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, zscore
from sklearn.linear_model import Ridge

from aspk.cli import main
from aspk.costs.features import LogOperations
from aspk.errors import RankingError
from aspk.space.file import load_space
from aspk.standalone.calibration import Inherited, calibrated, ceiling, predictors, process, rank_table, ridge
from aspk.tables import TrainedTable, write_table
from aspk.tables.trained import table_of_trained

SPACE = load_space("digits_trained")
NETWORKS = np.array(list(SPACE.networks()))


def made(*, noise=0.0, trust=1.0, seeds=2, seed=0):
    """A table of every network: truth is operations and something that only the supernet knows."""
    rng, n = np.random.default_rng(seed), SPACE.size
    operations = LogOperations(SPACE).of(NETWORKS)[:, 0]
    hidden = rng.normal(size=n)
    true = 0.8 + 0.02 * (operations - operations.mean()) + 0.02 * hidden
    rest = {
        name: np.ones(n) for name in ("strict_mj", "firing_rate", "loss_third", "loss_two_thirds", "loss_end")
    }
    rest |= {"parameters": np.ones(n, dtype=int), "operations": np.exp(operations).astype(int)}

    def trained():
        return {"accuracy": true + noise * rng.normal(size=n), "energy_mj": np.exp(operations), **rest}

    says = 0.5 + 0.3 * (trust * hidden + (1 - trust) * rng.normal(size=n))
    inherited = {"accuracy": says, "energy_mj": np.exp(operations)}
    return table_of_trained(
        SPACE,
        {images: [trained() for _ in range(seeds)] for images in ("search", "test")},
        {kind: {"search": inherited, "test": inherited} for kind in ("own", "shared_time")},
        about={},
        sample=None,
    ), true


def knowing(table):
    """The surrogate that knows what the supernet says."""
    return process(table, (Inherited(table, "own"), "operations"))


@given(deviation=st.floats(0.001, 0.05), seed=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_the_ceiling_is_what_the_truth_itself_reaches(deviation, seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(0.9, 0.02, 300)
    observed = true[:, None] + deviation * rng.normal(size=(300, 2))
    means = (true + deviation * rng.normal(size=(2, 300)).mean(axis=0) for _ in range(40))
    reached = np.mean([kendalltau(true, moved).statistic for moved in means])
    assert ceiling(observed) == pytest.approx(reached, abs=0.06)


def test_a_ceiling_without_noise_is_one_and_of_equal_networks_none():
    assert ceiling(np.repeat(np.linspace(0, 1, 20)[:, None], 2, axis=1)) == 1.0
    assert ceiling(np.full((20, 2), 0.5)) == 0.0
    with pytest.raises(RankingError, match="at least 2 seeds"):
        ceiling(np.zeros((20, 1)))


def test_a_few_trainings_teach_how_far_the_supernet_goes():
    table, _ = made(noise=0.002)
    (with_supernet,) = calibrated(
        table, process(table, (Inherited(table, "own"), "operations")), sizes=[12], draws=4
    )
    (without,) = calibrated(table, process(table, ("operations",)), sizes=[12], draws=4)
    assert with_supernet.tau > 0.85
    assert without.tau < 0.7
    assert with_supernet.low <= with_supernet.tau <= with_supernet.high


def test_a_supernet_that_knows_nothing_does_little_harm():
    table, _ = made(noise=0.002, trust=0.0)
    (with_supernet,) = calibrated(
        table, process(table, (Inherited(table, "own"), "operations")), sizes=[20], draws=6
    )
    (without,) = calibrated(table, process(table, ("operations",)), sizes=[20], draws=6)
    assert with_supernet.tau > without.tau - 0.1


def test_the_scale_of_what_the_supernet_says_does_not_matter():
    table, _ = made(noise=0.01)
    (one,) = calibrated(table, knowing(table), sizes=[8], draws=3)

    def scaled(config):
        return [1000 * Inherited(table, "own")(config)[0] - 7]

    (other,) = calibrated(table, process(table, (scaled, "operations")), sizes=[8], draws=3)
    assert other.tau == pytest.approx(one.tau, abs=1e-3)


def test_without_genes_six_trainings_are_enough_to_weigh_two_features():
    table, _ = made(noise=0.01)
    features = (Inherited(table, "own"), "operations")
    (few,) = calibrated(table, ridge(table, features), sizes=[6], draws=10)
    (with_genes,) = calibrated(table, process(table, features), sizes=[6], draws=10)
    assert few.tau > with_genes.tau
    assert few.tau > 0.6


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
@settings(max_examples=10, deadline=None)
def test_the_ridge_is_scikit_learn_s_of_standardised_features(scale, shift):
    table, _ = made(noise=0.01)
    rows, targets = np.arange(7, 400, 50), table.accuracies("search")[7:400:50, 0]

    def feature(config):
        return [scale * Inherited(table, "own")(config)[0] + shift]

    z = zscore(np.column_stack([table.inherited("own")["accuracy"], LogOperations(SPACE).of(NETWORKS)]))
    expected = Ridge(alpha=1.0).fit(z[rows], targets).predict(z)
    assert ridge(table, (feature, "operations"))(rows, targets) == pytest.approx(expected, abs=1e-6)


def test_energy_goes_along_where_it_is_wanted():
    table, _ = made()
    row = 17
    config = SPACE.decode(NETWORKS[row])
    columns = table.inherited("own")
    assert Inherited(table, "own", energy=True)(config) == [
        columns["accuracy"][row], pytest.approx(np.log(columns["energy_mj"][row]))
    ]  # fmt: skip
    assert set(predictors(table)) == {
        "inherited (own), operations",
        "inherited (shared_time), operations",
        "inherited (own), operations, genes",
        "inherited (shared_time), operations, genes",
        "operations, genes",
        "genes",
    }


def test_a_report_judges_each_kind_of_statistics():
    table, _ = made(noise=0.01)
    report = rank_table(table, sizes=(6,), draws=2)
    json.dumps(report)
    assert report["noise"] == pytest.approx(0.01, rel=0.1)
    assert report["n"] == SPACE.size
    assert set(report["statistics"]) == {"own", "shared_time"}
    assert report["statistics"]["own"]["baselines"]["operations"]["kendall_tau"] > 0.3
    assert [point["size"] for point in report["calibrated"]["genes"]] == [6]


def test_too_few_networks_are_refused():
    table, _ = made()
    for sizes in ([], [1], [SPACE.size - 9]):
        with pytest.raises(RankingError, match="expected sizes from 2"):
            calibrated(table, process(table, ()), sizes=sizes)
    single, _ = made(seeds=1)
    with pytest.raises(RankingError, match="2 seeds"):
        rank_table(single, sizes=(6,), draws=1)
    with pytest.raises(RankingError, match=rf"{SPACE.size} networks: expected at least {SPACE.size + 1}"):
        rank_table(table, sizes=(SPACE.size - 9, SPACE.size), draws=1)


def test_the_command_takes_a_table_as_the_truth(tmp_path, capsys):
    table, _ = made(noise=0.01)
    write_table(table.table, tmp_path / "t.npz")
    assert TrainedTable(tmp_path / "t.npz").seeds == 2
    assert main(["rank", str(tmp_path / "t.npz"), "--draws", "1", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "432 networks trained alone, 2 seeds each" in said
    assert "| free: operations | " in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "calibration.json", "calibration.md", "calibration.png"
    ]  # fmt: skip
    for option in (["--networks", "5"], ["--workers", "2"]):
        with pytest.raises(SystemExit):
            main(["rank", str(tmp_path / "t.npz"), *option])
