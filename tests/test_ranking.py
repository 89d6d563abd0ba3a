"""The ranking study: its statistics against definitions, and the whole of it on small networks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from spaces import TINY

from aspk.cli import main
from aspk.costs import cost
from aspk.energy import PAPER
from aspk.errors import RankingError
from aspk.report.ranking import ranking_markdown
from aspk.space import load_space
from aspk.space.genes import FAMILIES, SubnetConfig
from aspk.spec.settings import DataSettings, EvaluationSettings, Recipe
from aspk.spec.study import load_study_file
from aspk.standalone.ranking import RankingStudy, rank, stratified_by_cost
from aspk.study.storage import open_study
from aspk.training import train_supernet
from aspk.training.checkpoint import load_supernet
from aspk.trials import attributes
from aspk.trials import verdict as statistics
from aspk.trials.verdict import Ranking, kendall, noise_ceiling, partial_kendall, rankings, top_k_regret
from aspk.util import locks
from aspk.util.files import hash_of
from aspk.util.shipped import shipped_files

values = arrays(np.float64, st.integers(5, 12), elements=st.integers(0, 6).map(float))


def tau_b(x, y):
    """Kendall's tau-b by counting pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    untied_x, untied_y = sum(a != 0 for a, _ in signs), sum(b != 0 for _, b in signs)
    if not untied_x * untied_y:
        return 0.0
    return sum(a * b for a, b in signs) / math.sqrt(untied_x * untied_y)


@given(values, st.randoms())
def test_kendall_is_the_count_of_pairs(x, random):
    y = x.copy()
    random.shuffle(y)
    assert kendall(x, y) == pytest.approx(tau_b(x, y))


@given(values, st.randoms())
def test_partial_tau_is_that_of_the_correlation_matrix(x, random):
    y, z = x.copy(), x.copy()
    random.shuffle(y)
    random.shuffle(z)
    matrix = np.array([[tau_b(a, b) for b in (x, y, z)] for a in (x, y, z)])
    if abs(np.linalg.det(matrix)) < 1e-6 or len(set(x)) < 2:
        return
    inverse = np.linalg.inv(matrix)
    expected = -inverse[0, 1] / math.sqrt(abs(inverse[0, 0] * inverse[1, 1]))
    assert partial_kendall(x, y, z) == pytest.approx(expected, abs=1e-9)


def test_regret_is_what_the_best_of_k_leaves():
    predicted, true = np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.5, 0.6, 0.4, 0.9])
    assert [top_k_regret(predicted, true, k) for k in (1, 2, 4)] == pytest.approx([0.4, 0.3, 0.0])


def test_noise_ceiling_falls_with_noise():
    true = np.linspace(0.5, 0.9, 24)
    small = noise_ceiling(true, true[:6], true[:6] + 1e-6)
    large = noise_ceiling(true, true[:6], true[:6] + 0.2)
    assert small == pytest.approx(1.0, abs=1e-3)
    assert 0.2 < large < 0.8
    assert noise_ceiling(true, true[:2], true[:2]) is None


def test_intervals_hold_the_truth_and_pairs_are_paired():
    rng = np.random.default_rng(0)
    true = rng.normal(size=40)
    main_column = true + 0.3 * rng.normal(size=40)
    main_ranking, others = rankings(main_column, {"same": main_column, "noise": rng.normal(size=40)}, true)
    assert main_ranking.interval[0] < main_ranking.tau < main_ranking.interval[1]
    assert others["same"].difference == (0.0, 0.0)  # the same resamples: no difference at all
    assert others["noise"].difference[0] > 0
    assert rankings(main_column, {}, true)[0] == main_ranking


few = st.integers(0, 5).map(float)


@given(st.data(), st.integers(4, 12))
def test_taus_of_resamples_are_scipys_to_the_bit(data, n):
    x, y = (np.array(data.draw(st.lists(few, min_size=n, max_size=n))) for _ in range(2))
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
    counts = np.bincount(rows, minlength=n)[None].astype(float)
    assert statistics._resampled_taus(x, y, counts).tolist() == [kendall(x[rows], y[rows])]


def test_coverage_of_the_bootstrap_interval():
    """About 95 % of intervals hold the population's tau, 2/pi asin(rho) for normal pairs."""
    rng, rho, hits = np.random.default_rng(1), 0.7, 0
    tau = 2 / math.pi * math.asin(rho)
    for repeat in range(100):
        x = rng.normal(size=30)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=30)
        low, high = rankings(x, {}, y, seed=repeat)[0].interval
        hits += low <= tau <= high
    assert 89 <= hits <= 99


def ranking(low, difference=None):
    return Ranking(max(low, 0.0) + 0.1, (low, 0.95), difference)


@pytest.mark.parametrize(
    ("n", "low", "difference", "expected"),
    [
        (24, 0.6, (0.1, 0.3), "trusted"),
        (24, 0.49, (0.1, 0.3), "weak"),
        (24, 0.6, (-0.01, 0.3), "weak"),
        (16, 0.6, (0.1, 0.3), "weak"),
        (24, 0.0, (0.1, 0.3), "not trusted"),
        (24, -0.2, (-0.1, 0.3), "not trusted"),
    ],
)
def test_the_verdict_follows_its_rule(n, low, difference, expected):
    baselines = {"T": ranking(0.2, (0.2, 0.4)), "operations": ranking(0.3, difference)}
    assert statistics.verdict(n, ranking(low), baselines) == expected


@pytest.mark.parametrize("rows", [[], [{"inherited": 1.0}], [{"inherited": math.nan}] * 8])
def test_damaged_rows_are_an_error(rows):
    with pytest.raises(RankingError):
        statistics.summarise(rows)


def test_a_variant_has_the_verdict_that_it_would_have_as_the_main_one():
    rng = np.random.default_rng(3)
    true = np.linspace(0.7, 0.9, 30)
    rows = [
        {
            "inherited": quality + 0.05 * rng.normal(),
            "inherited_energy_mj": rng.random(),
            "alone": [quality],
            "alone_energy_mj": rng.random(),
            "operations": rng.random(),
            "parameters": rng.random(),
            "time_steps": rng.integers(1, 5),
            "variants": {"own statistics": quality + 0.003 * rng.normal(), "another": rng.random()},
        }
        for quality in true
    ]
    report = statistics.summarise(rows)
    assert report["verdict"] == "weak"
    assert {name: item["verdict"] for name, item in report["variants"].items()} == {
        "own statistics": "trusted",
        "another": "not trusted",
    }
    for name, item in report["variants"].items():
        swapped = [
            {**row, "inherited": row["variants"][name], "variants": {"before": row["inherited"]}}
            for row in rows
        ]
        alone = statistics.summarise(swapped)
        for key in ("kendall_tau", "kendall_tau_ci", "verdict"):
            assert alone[key] == item[key]
        low, high = item["difference_ci"]
        assert alone["variants"]["before"]["difference_ci"] == pytest.approx([-high, -low])


def test_networks_are_spread_over_cost():
    networks = stratified_by_cost(TINY, 12, shape=(1, 8, 8), classes=10, seed=0)
    costs = [cost.operations(cost.layer_shapes(c, TINY.settings, (1, 8, 8), 10)) for c in networks]
    assert len(set(networks)) == 12
    assert costs == sorted(costs)
    assert networks == stratified_by_cost(TINY, 12, shape=(1, 8, 8), classes=10, seed=0)
    assert networks != stratified_by_cost(TINY, 12, shape=(1, 8, 8), classes=10, seed=1)
    small = dataclasses.replace(
        TINY,
        network={"embed_dim": (24, 32), "depth": (1,), "time_steps": (1, 2)},
        block={"mlp_ratio": (1.0,), "num_heads": (2,), "v_threshold": (1.0,), "tau": (2.0,)},
    )
    assert len(set(stratified_by_cost(small, 4, shape=(1, 8, 8), classes=10, seed=0))) == 4
    with pytest.raises(RankingError, match="has 4 networks"):
        stratified_by_cost(small, 5, shape=(1, 8, 8), classes=10, seed=0)


# ---------------------------------------------------------------------- the whole study


@pytest.fixture
def ranked_study(tmp_path, trained_folder):
    weights = tmp_path / "weights" / "supernet.safetensors"
    weights.parent.mkdir()
    weights.write_bytes((trained_folder / "supernet.safetensors").read_bytes())
    file = tmp_path / "ranked.toml"
    file.write_text(
        f"""
        space = "tiny"
        data = "digits"
        folder = "{tmp_path / "run"}"
        weights = "{weights}"
        evaluations = 4
        [retrain]
        updates = 12
        batch_size = 16
        checkpoint_every = 2
        [evaluation]
        calibration_images = 32
        [sampler]
        name = "random"
        """
    )
    return file


def command(study_file):
    return ["rank", str(study_file), "--networks", "5", "--twice", "3", "--device", "cpu"]


def test_rank_from_the_command_line_and_in_the_report(ranked_study, tmp_path, capsys):
    assert main(["search", str(ranked_study), "--device", "cpu"]) == 0
    assert "unknown; 'aspk rank' measures it" in capsys.readouterr().out
    assert main(command(ranked_study)) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "rank" / "rank.json").read_text())
    assert report["n"] == 5
    assert report["verdict"] in ("weak", "not trusted")  # 5 networks are too few
    assert -1 <= report["kendall_tau_ci"][0] <= report["kendall_tau"] <= report["kendall_tau_ci"][1] <= 1
    assert set(report["baselines"]) == {"operations", "parameters", "T", "energy"}
    assert report["evaluation"]["statistics"] == "shared_time"  # as suits the supernet's recipe
    assert set(report["variants"]) == {
        "own statistics",
        "running statistics",
        "shared_time statistics, on test",
    }
    assert [len(row["alone"]) for row in report["networks"]] == [2, 1, 2, 1, 2]
    assert all(len(row["losses"]) == 10 for row in report["networks"])
    assert f"Ranking of this supernet: {report['verdict']}" in printed
    assert ranking_markdown(report) in printed
    assert (tmp_path / "run" / "rank" / "rank.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "weights" / "rank.json").exists()

    assert main(["report", str(ranked_study), "--output", str(tmp_path / "report")]) == 0
    sentence = f"Ranking of this supernet: {report['verdict']}"
    assert sentence in capsys.readouterr().out
    assert sentence in (tmp_path / "report" / "report.html").read_text()
    assert main(["search", str(ranked_study), "--device", "cpu"]) == 0
    assert sentence in capsys.readouterr().out

    weights = tmp_path / "weights" / "supernet.safetensors"
    file, fingerprint = weights.parent / "rank.json", load_supernet(weights).fingerprint
    assert statistics.read_verdict(file, fingerprint, "shared_time").startswith(sentence)
    own = report["variants"]["own statistics"]
    said = statistics.read_verdict(file, fingerprint, "own")  # another ranking, with a verdict of its own
    assert said.startswith(f"Ranking of this supernet: {own['verdict']}")
    assert f"accuracy {own['kendall_tau']:.2f} (95 % interval" in said
    assert statistics.read_verdict(file, "another file's hash", "own") == statistics.UNKNOWN
    known, aside = known_verdict(ranked_study), weights.with_suffix(".aside")
    assert known.startswith("Ranking of this supernet")
    weights.rename(aside)  # the study is looked at where its supernet is not
    assert main(["report", str(ranked_study), "--output", str(tmp_path / "report")]) == 0
    weights.write_text("another training")
    other = {"weights": hash_of(weights), "verdict": "weak" if report["verdict"] != "weak" else "trusted"}
    file.write_text(json.dumps({**report, **other}))
    assert statistics.read_verdict(file, other["weights"], "shared_time") not in (known, statistics.UNKNOWN)
    assert main(["report", str(ranked_study), "--output", str(tmp_path / "report")]) == 0
    assert known_verdict(ranked_study) == known
    aside.replace(weights)
    for name in report["variants"]:  # as written before each kind of statistics had its own verdict
        del report["variants"][name]["verdict"]
    file.write_text(json.dumps({**report, "variants": {"T-shared statistics": own}}))
    assert statistics.read_verdict(file, fingerprint, "own") == statistics.UNKNOWN
    assert statistics.read_verdict(file, fingerprint, "shared_time").startswith(sentence)
    (tmp_path / "weights" / "rank.json").write_text("{damaged")
    assert main(["report", str(ranked_study), "--output", str(tmp_path / "report")]) == 0
    assert "unknown; 'aspk rank'" in capsys.readouterr().out
    assert weights.exists()


def known_verdict(study_file):
    return open_study(load_study_file(study_file)).user_attrs[attributes.VERDICT]


def start_ranking(study_file, folder):
    """``aspk rank`` with two workers, one of them at the third network."""
    arguments = [sys.executable, "-m", "aspk", *command(study_file), "--workers", "2"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(folder.glob("network-02*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def test_a_second_run_is_told_who_ranks_and_sigterm_saves(ranked_study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0)
    folder = tmp_path / "run" / "rank"
    process = start_ranking(ranked_study, folder)
    assert main(command(ranked_study)) == 1
    assert f"rank is in use by process {process.pid} on" in capsys.readouterr().err
    process.terminate()
    assert "saved; go on with: aspk rank" in process.communicate()[1]
    assert process.returncode == 130
    assert list(folder.glob("network-0*.pt"))
    assert not list(folder.glob("*.lock"))


def test_kill_9_and_the_same_command_again_gives_the_same_ranking(ranked_study, tmp_path, capsys):
    folder = tmp_path / "run" / "rank"
    process = start_ranking(ranked_study, folder)
    process.kill()  # and its workers are left to themselves
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    assert kept
    assert main(command(ranked_study)) == 0
    process.communicate()
    assert all((folder / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert not list(folder.glob("*.pt"))
    assert not list(folder.glob("*.previous"))
    report = json.loads((folder / "rank.json").read_text())
    (folder / "inherited.json").write_text("{")  # damaged: evaluated again
    (folder / "network-01-seed-0.json").write_text("{")  # damaged: trained again
    assert main(command(ranked_study)) == 0
    assert json.loads((folder / "rank.json").read_text()) == report


@pytest.mark.slow
def test_a_ranking_killed_again_and_again_is_the_undisturbed_one(ranked_study, tmp_path):
    arguments = [*command(ranked_study), "--workers", "2"]
    rng = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-m", "aspk", *arguments], stderr=subprocess.DEVNULL)
        lock = tmp_path / "run" / "rank" / "rank.lock"
        while process.poll() is None and f'"process": {process.pid},' not in (
            lock.read_text() if lock.exists() else ""
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 8))
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))  # no word to the workers
        process.wait()
        assert process.returncode in (-signal.SIGKILL, -signal.SIGTERM, 130, 0)
    assert main(arguments) == 0
    assert main([*command(ranked_study), "--output", str(tmp_path / "whole")]) == 0
    disturbed, whole = (
        json.loads((tmp_path / name / "rank.json").read_text()) for name in ("run/rank", "whole")
    )
    assert disturbed == whole
    assert not [
        path for path in (tmp_path / "run" / "rank").iterdir() if path.suffix in (".pt", ".lock", ".tmp")
    ]


def test_records_of_another_recipe_are_refused(ranked_study, capsys):
    assert main(command(ranked_study)) == 0
    ranked_study.write_text(ranked_study.read_text().replace("updates = 12", "updates = 13"))
    assert main(command(ranked_study)) == 1
    assert "made with recipe.updates = 12, now it is 13" in capsys.readouterr().err
    assert main([*command(ranked_study), "--twice", "9"]) == 1


def smallest_spaces():
    """For each family its shipped space with the smallest reference network."""

    def operations(space):
        return cost.operations(cost.layer_shapes(space.reference, space.settings, (1, 8, 8), 10))

    spaces = [load_space(name) for name in shipped_files("search_spaces")]
    return [
        min((space for space in spaces if space.settings.family == family), key=operations)
        for family in FAMILIES
    ]


@pytest.mark.parametrize("space", smallest_spaces(), ids=lambda space: space.settings.family)
def test_every_family_has_a_ranking(space, tmp_path, digits):
    recipe = Recipe(updates=2, batch_size=16)
    trained = train_supernet(space, digits, recipe, folder=tmp_path, progress=False)
    study = RankingStudy(
        space=space,
        data=DataSettings(name="digits"),
        weights=trained.weights,
        recipe=recipe,
        evaluation=EvaluationSettings(images=64, calibration_images=32),
        energy=PAPER,
        folder=tmp_path / "rank",
        networks=4,
        twice=1,
    )
    report = rank(study, progress=False)
    assert report["n"] == 4
    assert [len(row["alone"]) for row in report["networks"]] == [2, 1, 1, 1]
    for row in report["networks"]:
        config = SubnetConfig.from_json(row["network"])
        space.encode(config)  # raises unless it is a member
        assert row["operations"] == cost.operations(cost.layer_shapes(config, space.settings, (1, 8, 8), 10))
        assert row["inherited_energy_mj"] > 0
        assert row["alone_energy_mj"] > 0
    assert "Kendall's tau" in ranking_markdown(report)


@pytest.mark.parametrize(("free", "outdone"), [(0.71, True), (0.6, False)])
def test_a_verdict_warns_where_counting_orders_better(free, outdone):
    report = {
        "verdict": "weak",
        "kendall_tau": 0.62,
        "kendall_tau_ci": (0.4, 0.8),
        "n": 24,
        "baselines": {"operations": {"kendall_tau": free}, "T": {"kendall_tau": 0.1}},
    }
    sentence = statistics.verdict_sentence(report)
    assert ("Warning: counting operations orders these networks better" in sentence) == outdone
    assert statistics.is_warning(sentence)
    assert not statistics.is_warning(statistics.verdict_sentence({**report, "verdict": "trusted"}))
    assert not statistics.is_warning(statistics.UNKNOWN)
