"""Tables of trained networks: what is in them, and that a kill costs nothing."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from spaces import TINY
from worker_processes import completed, launch

from aspk.cli import main
from aspk.data import load_data
from aspk.errors import AspkError, CheckpointError, GenotypeError, TableError
from aspk.evaluation.supernet import SupernetEvaluator, measure
from aspk.families import Supernet
from aspk.space.file import load_space, space_from_dict
from aspk.spec.settings import DataSettings, EvaluationSettings, Recipe
from aspk.spec.study import StudySpec
from aspk.standalone.tabulating import TrainedTablePlan, build_trained_table, expected, write_finished
from aspk.tables import Table, TrainedTable, load_table, shipped_trained_tables, write_table
from aspk.training import train_network
from aspk.training.checkpoint import load_supernet, save_supernet

PART = space_from_dict(
    {
        **load_space("tiny").to_json(),
        "name": "part",
        "network": {"embed_dim": [24, 32], "depth": [1], "time_steps": [1, 2]},
        "block": {"mlp_ratio": [1], "num_heads": [2], "v_threshold": [1.0], "tau": [2]},
        "reference": {
            "embed_dim": 32, "depth": 1, "time_steps": 2,
            "mlp_ratio": 1, "num_heads": 2, "v_threshold": 1.0, "tau": 2,
        },
    }
)  # fmt: skip
SPEC = StudySpec(
    name="part",
    space="tiny",
    data=DataSettings(name="digits", train=40, search=30, test=20),
    folder=Path("study"),
    retrain=Recipe(updates=10, batch_size=16, checkpoint_every=5),
    evaluation=EvaluationSettings(calibration_images=16),
)


@pytest.fixture
def plan(tmp_path):
    folder = tmp_path / "study"
    spec = dataclasses.replace(SPEC, folder=folder, weights=folder / "supernet.safetensors")
    supernet = Supernet(load_space("tiny"), shape=(1, 8, 8), classes=10, seed=0)
    save_supernet(spec.weights_file, supernet, {})
    return TrainedTablePlan(spec=spec, space=PART, file=tmp_path / "t.npz", device="cpu")


def built(plan, **options):
    return build_trained_table(plan, progress=False, **options)


def columns_of(table):
    return {
        f"{split}/{name}": column.tolist()
        for split, of in table.table.splits.items()
        for name, column in of.items()
    }


def test_a_table_holds_what_each_training_and_the_supernet_say(plan):
    table = built(plan)
    assert len(table.networks) == PART.size == 4
    data, spec, row, seed = load_data(plan.spec.data), plan.spec, 2, 1
    torch.set_num_threads(1)  # as the trainings had
    run = train_network(
        PART.decode(table.networks[row]),
        PART.settings,
        data,
        spec.retrain,
        state_file=plan.file.with_name("alone.pt"),
        seed=seed,
        calibration_images=16,
        progress=False,
    )
    for images in ("search", "test"):
        metrics = measure(run.model, data.split(images))
        assert table.accuracies(images)[row, seed] == metrics.accuracy
        assert table.energies(images)[row, seed] == pytest.approx(metrics.energy_mj, rel=1e-6)
        (seen,) = table.training(seed, images).evaluate([PART.decode(table.networks[row])])
        assert (seen.accuracy, seen.operations) == (metrics.accuracy, metrics.operations)
    losses = run.losses()
    assert table.losses[row, seed] == pytest.approx([losses[3], losses[6], losses[9]], rel=1e-6)
    supernet = load_supernet(spec.weights_file).supernet
    for statistics in table.statistics:
        for images in ("search", "test"):
            settings = dataclasses.replace(spec.evaluation, statistics=statistics, split=images)
            found = SupernetEvaluator(supernet, data, settings=settings).evaluate(
                [PART.decode(x) for x in table.networks]
            )
            assert table.inherited(statistics, images)["accuracy"].tolist() == [m.accuracy for m in found]


def test_the_truth_is_the_mean_over_seeds(plan):
    table = built(plan)
    truth = table.truth()
    found = truth.evaluate([PART.decode(x) for x in table.networks])
    assert [m.accuracy for m in found] == pytest.approx(table.accuracies().mean(axis=1))
    pairs = table.accuracies()
    assert table.noise == pytest.approx(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2 / 2)))
    written, made = columns_of(TrainedTable(plan.file)), columns_of(table)
    assert all(written[name] == pytest.approx(made[name], rel=1e-6) for name in made)
    one = built(dataclasses.replace(plan, seeds=1, file=plan.file.with_name("one.npz")))
    assert np.isnan(one.noise)


def test_more_seeds_and_networks_go_on_with_what_is_there(plan):
    small = built(dataclasses.replace(plan, count=3, seeds=1))
    assert len({tuple(x) for x in small.networks.tolist()}) == 3
    lines = plan.journal_file.read_text().splitlines()
    assert len(lines) == 4
    whole = built(plan)
    again = plan.journal_file.read_text().splitlines()
    assert again[:4] == lines
    assert whole.networks.tolist() == [x.tolist() for x in PART.networks()]
    assert len(again) == 1 + 2 * PART.size
    rows = whole.truth().rows(small.networks)
    assert small.accuracies()[:, 0].tolist() == whole.accuracies()[rows, 0].tolist()
    assert not plan.parts.exists()


def test_the_reference_comes_first_and_a_network_gets_all_its_seeds_before_the_next_one(plan):
    keys = list(plan.jobs())
    assert keys[0][:-1] == tuple(PART.encode(PART.reference))
    assert [key[-1] for key in keys] == [0, 1] * PART.size
    assert all(first[:-1] == second[:-1] for first, second in zip(keys[::2], keys[1::2], strict=True))
    assert {key[:-1] for key in keys} == set(map(tuple, PART.networks()))


def test_a_table_of_what_is_trained_already(plan, tmp_path):
    with pytest.raises(TableError, match=r"no network is trained with all of 2 seeds yet"):
        write_finished(plan, progress=False)
    assert not plan.journal_file.exists()
    built(dataclasses.replace(plan, count=1, seeds=2))
    built(dataclasses.replace(plan, count=3, seeds=1))
    part = write_finished(plan, progress=False)
    assert part.accuracies().shape == (1, 2)
    whole = built(plan)
    (row,) = whole.truth().rows(part.networks)
    assert columns_of(part) == {name: [column[row]] for name, column in columns_of(whole).items()}


def test_a_sample_knows_which_networks_it_has(plan, tmp_path):
    table = built(dataclasses.replace(plan, count=3, seeds=1))
    evaluator = TrainedTable(plan.file).truth()
    inside = {tuple(x) for x in table.networks.tolist()}
    for x in PART.networks():
        (metrics,) = evaluator.evaluate([PART.decode(x)])
        assert isinstance(metrics, AspkError) == (tuple(x.tolist()) not in inside)
    write_table(load_table(plan.file), tmp_path / "same.npz")
    assert (tmp_path / "same.npz").read_bytes() == plan.file.read_bytes()


def test_a_sample_is_of_different_networks_in_their_canonical_form():
    columns, x = (
        {"accuracy": np.zeros(2), "energy_mj": np.zeros(2)},
        np.zeros((2, len(TINY.genes)), dtype=int),
    )
    with pytest.raises(TableError, match="different networks"):
        Table(TINY, {"search": columns}, sample=x)
    x[1, -1] = 1  # a gene of the second block, of networks of one
    with pytest.raises(TableError, match="canonical"):
        Table(TINY, {"search": columns}, sample=x)
    x[1, -1] = 99
    with pytest.raises(GenotypeError, match="outside"):
        Table(TINY, {"search": columns}, sample=x)


def test_a_table_of_a_supernet_alone_is_not_one_of_trained_networks():
    with pytest.raises(TableError, match="lacks test_seed_0"):
        TrainedTable("digits_heads")


@pytest.mark.parametrize("name", shipped_trained_tables())
def test_shipped_tables_hold_their_recorded_trainings(name):
    """Nothing in a table but what its journal has, network by network and seed by seed."""
    table = TrainedTable(name)
    assert table.space.to_json() == load_space(name).to_json()
    first, *lines = (Path("benchmarks/records") / f"{name}.jsonl").read_text().splitlines()
    recorded = {(*row["x"], row["seed"]): row["trained"] for row in map(json.loads, lines)}
    assert table.table.about["recipe"] == json.loads(first)["identity"]["recipe"]
    for seed in range(table.seeds):
        rows = [recorded[*x, seed] for x in table.networks.tolist()]
        assert table.accuracies()[:, seed] == pytest.approx([row["test"] for row in rows], abs=1e-7)
        assert table.accuracies("search")[:, seed] == pytest.approx([row["search"] for row in rows], abs=1e-7)
        assert table.energies()[:, seed] == pytest.approx([row["energy_mj"] for row in rows], rel=1e-6)
    assert len(table.networks) >= 150
    assert table.seeds >= 2


def test_results_of_another_recipe_are_refused(plan):
    built(dataclasses.replace(plan, count=1, seeds=1))
    other = dataclasses.replace(plan.spec, retrain=dataclasses.replace(plan.spec.retrain, updates=11))
    with pytest.raises(TableError, match=r"t\.jsonl: made with recipe\.updates = 10, now it is 11; write to"):
        built(dataclasses.replace(plan, spec=other))


def test_impossible_plans_are_refused(plan):
    for changes in ({"count": 0}, {"seeds": 0}, {"count": 5}):
        with pytest.raises(TableError, match=r"expected at least 1|has 4"):
            dataclasses.replace(plan, **changes)
    short = dataclasses.replace(plan.spec, retrain=dataclasses.replace(plan.spec.retrain, updates=9))
    with pytest.raises(TableError, match=r"retrain\.updates = 9: expected at least 10"):
        dataclasses.replace(plan, spec=short)
    plan.spec.weights_file.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        built(plan)
    assert not plan.journal_file.exists()


def test_what_it_takes_is_said_before_and_told_by_what_is_done(plan):
    text = expected(plan, workers=2)
    assert "8 of 8 trainings to do, 10 updates each; by 3 updates of some" in text
    built(dataclasses.replace(plan, count=2, seeds=2))
    assert "4 of 8 trainings to do, 10 updates each; by the 4 that are done" in expected(plan)


# ---------------------------------------------------------------------- killed


LONG = Recipe(updates=40, batch_size=16, checkpoint_every=5)


def long(plan):
    return dataclasses.replace(plan, spec=dataclasses.replace(plan.spec, retrain=LONG), count=3)


def build(plan, workers):
    build_trained_table(plan, workers=workers, progress=False)


def trained_so_far(plan):
    try:
        return plan.journal_file.read_text().count("\n") - 1
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_again_and_again_it_makes_the_same_table(plan, tmp_path, workers):
    plan = long(plan)
    kills, deadline = 0, time.monotonic() + 240
    while kills < 2:
        process, before = launch(build, plan, workers), trained_so_far(plan)
        while trained_so_far(plan) < before + 1 + kills % 2 and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        assert completed(process) in (-signal.SIGKILL, 0, None)
        kills += 1
        assert trained_so_far(plan) >= before
    assert trained_so_far(plan) > 0
    table = built(plan)
    keys = [
        (tuple(e["x"]), e["seed"]) for e in map(json.loads, plan.journal_file.read_text().splitlines()[1:])
    ]
    assert len(set(keys)) == len(keys) == 6
    whole = built(dataclasses.replace(plan, file=tmp_path / "whole.npz"))
    assert columns_of(table) == columns_of(whole)


def test_a_kill_between_record_and_journal_trains_nothing_again(plan):
    plan = dataclasses.replace(plan, count=1, seeds=1)
    (job,) = plan.jobs().values()
    result = job.run(progress=False)
    written = job.record_file.stat().st_mtime_ns
    table = built(plan)
    assert written
    (entry,) = map(json.loads, plan.journal_file.read_text().splitlines()[1:])
    assert entry["trained"]["processor_seconds"] == result.processor_seconds
    assert table.accuracies().tolist() == [[result.test]]


# ---------------------------------------------------------------------- the command


def test_the_command(plan, tmp_path, capsys):
    study = tmp_path / "part.toml"
    study.write_text(
        f"""
space = "tiny"
weights = "{plan.spec.weights_file}"
[data]
name = "digits"
train = 40
search = 30
test = 20
[retrain]
updates = 10
batch_size = 16
"""
    )
    output = tmp_path / "c.npz"
    command = ["table", str(study), "--trained", "--networks", "2", "--seeds", "2", "--output", str(output)]
    assert main([*command, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 trainings to do" in said
    assert "wrote" in said
    assert TrainedTable(output).accuracies().shape == (2, 2)
    assert main([*command, "--device", "cpu"]) == 0
    assert "0 of 4 trainings to do" in capsys.readouterr().out
    for option in (["--images", "5"], ["--splits", "test"], ["--batch", "3"]):
        with pytest.raises(SystemExit):
            main([*command, *option])
    with pytest.raises(SystemExit):
        main(["table", str(study), "--seeds", "2", "--output", str(output)])
    assert "--seeds is for tables with --trained" in capsys.readouterr().err
