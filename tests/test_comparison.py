"""The comparison over families: its file, its choices, its verdicts, and all of it on small networks."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_processes import completed, launch

from aspk.errors import StudyError
from aspk.objectives.scalarization import accuracy_above_chance
from benchmarks.comparison.__main__ import main
from benchmarks.comparison.ablation import spread_front
from benchmarks.comparison.analysis import analyse, cheaper, more_accurate, set_values, verdict
from benchmarks.comparison.bench import Bench
from benchmarks.comparison.choice import choose
from benchmarks.comparison.plan import MOST, load_plan
from benchmarks.comparison.stages import enough, tune, tuned
from benchmarks.comparison.write_up import write_up

ROOT = Path(__file__).parents[1]

KEYS = ("stage", "family", "network", "updates", "learning_rate", "seed")
SPACE = """
[settings]
family = "{family}"
patch_size = 4
attention_scale = 1.0
[network]
embed_dim = [16, 24, 32]
depth = [1]
time_steps = [1, 2]
mlp_ratio = [1]
num_heads = [2]
v_threshold = [0.6, 0.8, 1.0, 1.2]
tau = [1.25, 2, 4]
[block]
[reference]
embed_dim = 24
depth = 1
time_steps = 2
mlp_ratio = 1
num_heads = 2
v_threshold = 1.0
tau = 2
[networks.published]
embed_dim = 16
"""
STUDY = """
space = "{family}_space.toml"
evaluations = 10
batch = 5
[data]
name = "digits"
train = 60
search = 40
test = 40
[train]
updates = 3
batch_size = 16
checkpoint_every = 2
[retrain]
updates = 3
batch_size = 16
checkpoint_every = 2
[evaluation]
calibration_images = 16
"""
PLAN = """
images = "digits, a few"
core_hours = 1
learning_rates = [1e-3, 1e-2]
tuning_seeds = [1]
enough_seeds = [11, 12]
final_seeds = [101, 102]
[families.spikformer]
study = "spikformer.toml"
hand_made = ["reference", "published"]
trainings = 3
[families.membrane]
study = "membrane.toml"
hand_made = ["reference"]
trainings = 3
"""


@pytest.fixture
def plan_file(tmp_path, monkeypatch):
    for family in ("spikformer", "membrane"):
        (tmp_path / f"{family}_space.toml").write_text(SPACE.format(family=family))
        (tmp_path / f"{family}.toml").write_text(STUDY.format(family=family))
    (tmp_path / "small.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASPK_DATA", raising=False)
    return tmp_path / "small.toml"


def git(*arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


# ---------------------------------------------------------------------- the whole


def test_the_whole_on_small_networks(plan_file, tmp_path, capsys):
    git("init", "-q")
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert "names the found networks: commit it as it is" in capsys.readouterr().err
    log = tmp_path / "benchmarks" / "records" / "comparison_small.jsonl"
    rows = rows_of(log)
    assert not any("test" in row for row in rows)  # nothing has read it before the names are committed
    stages = [row["stage"] for row in rows]
    assert stages.count("tuning") == 6
    assert stages.count("enough") == 12
    assert stages.count("refine") == 6
    proposals = [row for row in rows if row["network"] == "proposals"]
    assert len(proposals) == 2 * 2  # two trainings, then one more, in each family
    assert all(row["stage"] == "level one" and row["processor_seconds"] > 0 for row in proposals)
    for family in ("spikformer", "membrane"):
        cost = {
            stage: sum(
                row["processor_seconds"] for row in rows if (row["stage"], row["family"]) == (stage, family)
            )
            for stage in ("level one", "refine", "random")
        }
        last = [row for row in rows if (row["stage"], row["family"]) == ("random", family)][-1]
        spent, rounding = cost["level one"] + cost["refine"], 1e-9  # sums in another order
        assert cost["random"] >= spent - rounding
        assert spent > cost["random"] - last["processor_seconds"] - rounding
    git("add", "benchmarks")
    git("commit", "-qm", "Named")
    named = json.loads((log.parent / "comparison_small.named.json").read_text())["networks"]
    shutil.rmtree(tmp_path / "runs")  # with the log, nothing that is in it is done again
    assert main([str(plan_file), "--device", "cpu", "--publish", "docs/comparison"]) == 0
    capsys.readouterr()
    rows = rows_of(log)
    written = tmp_path / "runs" / "comparison-small"
    content = json.loads((written / "small.json").read_text())
    assert [row["stage"] for row in rows[: len(stages)]] == stages
    final = [row for row in rows if row["stage"] == "final"]
    assert len(rows) == len(stages) + len(final)
    assert all(0 <= row["test"] <= 1 for row in final)
    roles = [role for own in content["networks"].values() for role in own["roles"]]
    assert sorted(roles) == sorted(
        [*named, "spikformer reference", "spikformer published", "membrane reference"]
    )
    assert len(final) == 2 * len(content["networks"])
    for name, own in content["networks"].items():
        assert own["test"] == [row["test"] for row in final if row["network"] == name]
    text = (written / "small.md").read_text()
    assert text.startswith("# digits, a few")
    changes = [100 * (own["6"] - own["3"]) for own in content["enough"].values()]
    assert f"They change by {sum(changes) / 3:+.2f} points on average" in text
    assert "![The networks: accuracy over energy, with standard deviations](small.png)" in text
    assert (written / "small.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "docs" / "comparison" / "small.md").read_text() == text
    # Names that were changed after their commit are refused.
    file = log.parent / "comparison_small.named.json"
    file.write_text(file.read_text() + "\n")
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert "commit it as it is" in capsys.readouterr().err


def test_a_torn_line_is_trained_again_and_a_spent_budget_stops(plan_file, tmp_path, capsys):
    plan_file.write_text(PLAN.replace("core_hours = 1", "core_hours = 1e-9"))
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert "core-hours are spent, and 5 trainings of 'tuning' are ahead" in capsys.readouterr().err
    log = tmp_path / "benchmarks" / "records" / "comparison_small.jsonl"
    whole = log.read_text()
    assert len(rows_of(log)) == 2  # the identity, and the training that spent it
    log.write_text(whole[:-30])
    assert main([str(plan_file), "--device", "cpu"]) == 1
    capsys.readouterr()
    assert log.read_text() == whole  # from the training's own record
    log.write_text(whole.replace("digits, a few", "others"))
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert "move the file away to begin anew" in capsys.readouterr().err


def run_in(folder, file, *options):
    os.environ.pop("ASPK_DATA", None)  # the server of these processes may have it
    os.chdir(folder)
    return main([str(file), "--device", "cpu", *options])


def test_the_searches_of_two_families_run_side_by_side(plan_file, tmp_path, capsys):
    for family, message in (
        ("spikformer", "need a recipe"),
        ("other", "expected spikformer, membrane"),
    ):
        assert main([str(plan_file), "--device", "cpu", "--family", family]) == 1
        assert message in capsys.readouterr().err
    bench = Bench.of(load_plan(plan_file), progress=False)
    assert tune(bench)
    assert enough(bench, tuned(bench))
    log = bench.plan.records
    begun = log.read_text()
    processes = [
        launch(run_in, tmp_path, plan_file, "--family", family) for family in ("spikformer", "membrane")
    ]
    assert [completed(process) for process in processes] == [0, 0]
    assert log.read_text().startswith(begun)
    rows = rows_of(log)
    assert len(rows) == len({tuple(row[key] for key in KEYS) for row in rows})
    assert {row["family"] for row in rows if row["stage"] == "random"} == {"spikformer", "membrane"}
    git("init", "-q")
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert "names the found networks: commit it as it is" in capsys.readouterr().err
    assert rows_of(log) == rows  # nothing of it was done again
    assert main([str(plan_file), "--device", "cpu", "--supernets-front", "membrane"]) == 0
    fronts = rows_of(log)[len(rows) :]
    assert {(row["stage"], row["family"]) for row in fronts} == {("front", "membrane")}
    found = {row["network"] for row in rows if (row["stage"], row["family"]) == ("refine", "membrane")}
    assert len({row["network"] for row in fronts}) == len(fronts) == len(found - {"membrane reference"})
    bench.log.read()
    searches = analyse(bench)["searches"]
    assert searches["membrane"]["front"]["networks"] == searches["membrane"]["refine"]["networks"]
    assert all("front" not in searches[name] for name in ("spikformer", "all families"))
    assert bench.log.rows("random") == [row for row in rows if row["stage"] == "random"]


def test_a_front_that_is_too_large_is_spread_over_the_energy():
    best = np.array([[-0.9, 9.0], [-0.1, 1.0], [-0.5, 5.0], [-0.3, 3.0], [-0.7, 7.0]])
    worse = np.array([[-0.1, 9.0], [-0.05, 8.0]])
    values = np.concatenate([worse, best])
    assert spread_front(values, 2) == [3, 2]
    assert spread_front(values, 3) == [3, 4, 2]
    assert spread_front(values, 6) == [3, 5, 4, 6, 2, 1]
    assert sorted(spread_front(values, 7)) == list(range(7))


@pytest.mark.slow
def test_kill_9_and_the_same_command_again_loses_nothing(plan_file, tmp_path, monkeypatch, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    log = killed / "benchmarks" / "records" / "comparison_small.jsonl"
    for lines in (3, 10, 20, 24):
        process = launch(run_in, killed, plan_file)
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and not (
            log.exists() and len(log.read_text().splitlines()) >= lines
        ):
            time.sleep(0.01)
        process.kill()
        assert completed(process) == -signal.SIGKILL
    for folder in (killed, whole):
        monkeypatch.chdir(folder)
        git("init", "-q")
        assert main([str(plan_file), "--device", "cpu"]) == 1
        assert "commit it as it is" in capsys.readouterr().err
    found = [
        {
            tuple(row[key] for key in KEYS): row["search"]
            for row in rows_of(folder / "benchmarks" / "records" / "comparison_small.jsonl")
            if row["stage"] in ("tuning", "enough", "refine")
        }
        for folder in (killed, whole)
    ]
    assert found[0] == found[1]
    assert len(rows_of(log)) == len({tuple(row[key] for key in KEYS) for row in rows_of(log)})


@pytest.mark.slow
def test_quick_on_real_recordings(monkeypatch, tmp_path, capsys):
    if not (Path(os.environ.get("ASPK_DATA", "")) / "nmnist").is_dir():
        pytest.skip("needs ASPK_DATA")
    monkeypatch.chdir(tmp_path)
    assert main(["nmnist_16", "--quick", "--device", "cpu"]) == 0
    assert "the figures mean nothing" in capsys.readouterr().out


# ---------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", ["cifar10_16", "nmnist_16", "cifar10"])
def test_shipped_comparisons(name):
    plan = load_plan(name)
    assert len(plan.hand_made) + 3 <= MOST
    first, *_ = plan.hand_made
    assert first == "spikformer reference"
    assert len(plan.final_seeds) == 5
    used = {*plan.tuning_seeds, *plan.enough_seeds, *(family.spec.seed for family in plan.families)}
    assert not used & set(plan.final_seeds)  # fresh ones
    recipes = {json.dumps(family.spec.retrain.to_json()) for family in plan.families}
    assert len(recipes) == 1
    assert len({family.trainings for family in plan.families}) == 1
    for family, config in plan.hand_made.values():
        family.space.encode(config)
        assert {block.v_threshold for block in config.blocks} == {1.0}
        assert {block.tau for block in config.blocks} == {2.0}
        assert config.time_steps == 4
    quick = load_plan(name, quick=True, data_folder="/nowhere")
    assert quick.records.parent == quick.folder != plan.folder
    assert {family.spec.data.folder for family in quick.families} == {"/nowhere"}


@pytest.mark.parametrize(
    "file", sorted((ROOT / "docs" / "comparison").glob("*.json")), ids=lambda file: file.stem
)
def test_published_pages_are_made_of_their_records(file):
    """The page is the record's, and the record's accuracies and energies are those of the log."""
    content = json.loads(file.read_text())
    assert file.with_suffix(".md").read_text() == write_up(content, picture=f"{file.stem}.png")
    log = ROOT / "benchmarks" / "records" / f"comparison_{file.stem}.jsonl"
    final = [row for row in rows_of(log) if row["stage"] == "final"]
    seeds = load_plan(file.stem).final_seeds
    for name, own in content["networks"].items():
        rows = sorted((row for row in final if row["network"] == name), key=lambda row: row["seed"])
        assert [row["seed"] for row in rows] == list(seeds)
        for value in ("test", "energy_mj", "strict_mj"):
            assert own[value] == [row[value] for row in rows]
    named = json.loads(log.with_suffix(".named.json").read_text())["networks"]
    roles = {role: own for own in content["networks"].values() for role in own["roles"]}
    for role, row in named.items():
        assert roles[role]["config"] == row["config"]


def test_scaled_networks_have_the_published_proportions():
    from aspk.space import load_space

    paper, scaled = load_space("auto_spikformer"), load_space("scaled_spikformer")
    found, small = paper.named["found_cifar10"], scaled.named["auto_spikformer"]
    assert small.embed_dim / scaled.reference.embed_dim == found.embed_dim / paper.reference.embed_dim
    for one, other in zip(small.blocks, found.blocks, strict=True):
        assert one.mlp_ratio == other.mlp_ratio
        assert one.num_heads / scaled.reference.blocks[0].num_heads == other.num_heads / 12
    membrane = load_space("scaled_membrane")
    assert dataclasses.replace(scaled, name="", settings=membrane.settings) == dataclasses.replace(
        membrane, name=""
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('images = "digits, a few"\n', "", "small.toml: images is missing"),
        ("trainings = 3", "trainings = 1", "families.spikformer.trainings = 1"),
        (
            '"published"]',
            '"nobody"]',
            "space 'spikformer_space' names no network 'nobody': reference, published",
        ),
        ('hand_made = ["reference"]', 'hand_made = ["reference", "published"]', "at most 3 hand-made"),
        ("final_seeds = [101, 102]", "final_seeds = [101]", "final_seeds"),
        ("core_hours = 1", "hours = 1", "hours = 1: unknown key"),
    ],
)
def test_mistakes_in_the_file_are_named(plan_file, capsys, old, new, message):
    assert old in PLAN
    plan_file.write_text(PLAN.replace(old, new))
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[retrain]\nupdates = 3", "[retrain]\nupdates = 4", "expected one recipe for all"),
        ("search = 40", "search = 50", "expected the same images for all"),
    ],
)
def test_families_share_images_and_recipe(plan_file, tmp_path, capsys, old, new, message):
    study = tmp_path / "membrane.toml"
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    assert main([str(plan_file), "--device", "cpu"]) == 1
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------- choices and verdicts

trainings = st.lists(
    st.builds(
        lambda search, paper, factor: {"search": search, "energy_mj": paper, "strict_mj": paper * factor},
        st.floats(0.05, 1),
        st.floats(0.01, 10),
        st.floats(1, 10),
    ),
    max_size=8,
)
HAND_MADE = {"search": 0.5, "energy_mj": 1.0, "strict_mj": 4.0}


@given(trainings)
def test_choices_are_what_their_names_say(rows):
    found = choose(rows, HAND_MADE, classes=10)
    within = [row for row in rows if row["energy_mj"] <= 1 and row["strict_mj"] <= 4]
    assert ("at-energy" in found) == bool(within)
    if within:
        assert found["at-energy"] in within
        assert found["at-energy"]["search"] == max(row["search"] for row in within)
    accurate = [row for row in rows if row["search"] >= 0.5]
    assert ("at-accuracy" in found) == bool(accurate)
    if accurate:
        shares = [max(row["energy_mj"], row["strict_mj"] / 4) for row in accurate]
        own = found["at-accuracy"]
        assert max(own["energy_mj"], own["strict_mj"] / 4) == pytest.approx(min(shares))
    if rows:
        scores = [
            float(accuracy_above_chance(row["search"], 10)) * max(row["energy_mj"], 1e-3) ** -0.07
            for row in rows
        ]
        best = found["f-aeb"]
        score = float(accuracy_above_chance(best["search"], 10)) * max(best["energy_mj"], 1e-3) ** -0.07
        assert score == pytest.approx(max(scores))


def test_goals_by_estimates_and_by_intervals():
    sure, unsure = (0.03, 0.021, 0.04), (0.03, 0.01, 0.05)
    less, perhaps = (0.9, 0.8, 1.0), (0.9, 0.8, 1.1)
    assert [more_accurate(place, sure, less, less) for place in (0, 1)] == [True, True]
    assert [more_accurate(place, unsure, less, less) for place in (0, 1)] == [True, False]
    assert [more_accurate(place, sure, less, perhaps) for place in (0, 1)] == [True, False]
    assert not more_accurate(0, (0.01, 0.005, 0.02), less, less)
    assert not more_accurate(0, sure, less, (1.1, 0.9, 1.2))
    half, nearly = (0.4, 0.3, 0.5), (0.4, 0.3, 0.6)
    same, worse = (0.0, -0.005, 0.01), (0.0, -0.02, 0.02)
    assert [cheaper(place, same, half, half) for place in (0, 1)] == [True, True]
    assert [cheaper(place, worse, half, half) for place in (0, 1)] == [True, False]
    assert [cheaper(place, same, half, nearly) for place in (0, 1)] == [True, False]
    assert not cheaper(0, (-0.02, -0.03, -0.01), half, half)
    assert (verdict(True, True), verdict(False, False)) == ("shown", "not reached")
    assert "not shown" in verdict(True, False)


def test_what_a_set_of_trainings_is_worth():
    rows = [{"search": 0.6, "energy_mj": 0.5}, {"search": 0.4, "energy_mj": 0.1}]
    found = set_values(rows, HAND_MADE, "energy_mj", classes=10)
    assert (found["accuracy"], found["energy"]) == (0.6, 0.5)
    assert 0 < found["hypervolume"] < 0.5 / 0.9
    none = set_values([], HAND_MADE, "energy_mj", classes=10)
    assert none == {"hypervolume": 0.0, "accuracy": None, "energy": None}
    with pytest.raises(StudyError, match="no comparison"):
        load_plan("nothing")
