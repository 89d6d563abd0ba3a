"""The comparison: found networks against the hand-made one, from one file."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind
from spaces import FIXED, SWITCHES, TINY
from worker_processes import completed, launch

from aspk.data.fashion_mnist import ORIGIN
from aspk.errors import GenotypeError, StudyError
from aspk.report import SELECTIONS, summarise
from aspk.report import select as select_network
from aspk.space.file import load_space
from benchmarks.baseline import load_comparison, publish, write_up
from benchmarks.baseline.__main__ import main
from benchmarks.baseline.selection import pick, select
from benchmarks.baseline.statistics import differences, ratios
from benchmarks.baseline.write_up import MARKS, labels
from studies import made_study

ROOT = Path(__file__).resolve().parent.parent
TEXT = """
study = "{study}"
folder = "{folder}"
[changes]
evaluations = 6
batch = 3
evaluation = {{ images = 60 }}
retrain = {{ updates = 4, batch_size = 16, checkpoint_every = 2 }}
[searches.joint]
select = ["knee", "most-accurate", "near-reference"]
[searches.product]
title = "F_AEB product"
objectives = ["f_aeb"]
select = ["best"]
[searches.neurons]
fixed = ["embed_dim", "depth", "mlp_ratio", "num_heads"]
select = ["near-reference"]
[searches.random]
sampler = {{ name = "random" }}
select = ["near-reference"]
[trainings.inherited]
seeds = 2
[trainings.scratch]
start = "scratch"
seeds = 2
networks = ["reference", "joint-knee"]
"""


@pytest.fixture
def comparison_file(study_file, tmp_path):
    path = tmp_path / "comparison.toml"
    path.write_text(TEXT.format(study=study_file.name, folder=tmp_path / "comparison"))
    return path


def run(path, *arguments):
    return main([str(path), "--device", "cpu", *arguments])


# ---------------------------------------------------------------------- the whole


def test_the_whole_on_small_networks(comparison_file, tmp_path, capsys):
    assert run(comparison_file) == 0
    folder = tmp_path / "comparison"
    text, content = (
        (folder / "comparison.md").read_text(),
        json.loads((folder / "comparison.json").read_text()),
    )
    assert text in capsys.readouterr().out
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    names = [item["name"] for item in content["networks"]]
    roles = [role for item in content["networks"] for role in item["roles"]]
    assert {"reference", "largest", "smallest", "joint-knee", "joint-most-accurate"} <= set(roles)
    assert len({json.dumps(item["config"]) for item in content["networks"]}) == len(names)
    inherited, scratch = content["trainings"]
    assert list(inherited["networks"]) == names
    assert set(scratch["networks"]) < set(names)
    for values in inherited["networks"].values():
        assert len(values["test"]) == len(values["energy_mj"]) == 2
        assert all(
            strict > paper > 0 for strict, paper in zip(values["strict_mj"], values["energy_mj"], strict=True)
        )
    # The table shows what the records say.
    reference = inherited["networks"]["reference"]["test"]
    mean, deviation = 100 * np.mean(reference), 100 * np.std(reference, ddof=1)
    row = next(line for line in text.splitlines() if line.startswith("| 1 | reference (hand-made)"))
    assert f"**{mean:.2f} ± {deviation:.2f}**" in row
    assert [search["evaluations"] for search in content["searches"]] == [6, 6, 6, 6]
    # The search of neurons leaves the architecture alone.
    for item in content["networks"]:
        if "neurons-near-reference" in item["roles"]:
            config = item["config"]
            assert (config["embed_dim"], len(config["blocks"])) == (64, 2)
            assert {(block["mlp_ratio"], block["num_heads"]) for block in config["blocks"]} == {(2, 4)}
    # Again: nothing is searched or trained twice, and the write-up differs in no more than times.
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("result.json")}
    assert len(before) == 2 * (len(names) + len(scratch["networks"]))
    assert run(comparison_file) == 0
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("result.json")} == before
    assert re.sub(r"- Minutes.*", "", (folder / "comparison.md").read_text()) == re.sub(
        r"- Minutes.*", "", text
    )


def test_a_write_up_is_put_between_the_marks_and_nothing_else_changes(tmp_path):
    page, written = tmp_path / "page" / "README.md", tmp_path / "comparison.md"
    page.parent.mkdir()
    written.write_text("### Second\n")
    for name in ("comparison.json", "comparison.png"):
        (tmp_path / name).write_text(name)
    begin, end = MARKS
    page.write_text(f"before\n{begin}\n\n### First\n\n{end}\nafter\n")
    publish(written, page.parent)
    assert page.read_text() == f"before\n{begin}\n\n### Second\n\n{end}\nafter\n"
    assert (page.parent / "comparison.json").read_text() == "comparison.json"
    page.write_text("no marks\n")
    with pytest.raises(StudyError, match="expected the lines <!-- comparison: begin"):
        publish(written, page.parent)
    assert page.read_text() == "no marks\n"


def test_kill_9_and_the_same_command_again_gives_the_same_table(comparison_file, tmp_path):
    text = comparison_file.read_text().replace("updates = 4", "updates = 20")
    searches, trainings = text.index("[searches.product]"), text.index("[trainings.inherited]")
    few = '\nnetworks = ["reference", "joint-knee"]\n'
    comparison_file.write_text(text[:searches] + text[trainings : text.index("[trainings.scratch]")] + few)
    folder = tmp_path / "comparison"
    for place in ("*seed-0/training.pt", "*seed-1/training.pt"):
        process = launch(run, comparison_file)
        deadline = time.monotonic() + 100
        while not list(folder.rglob(place)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        assert completed(process) == -signal.SIGKILL
    assert run(comparison_file) == 0
    killed = json.loads((folder / "comparison.json").read_text())
    shutil.rmtree(folder)
    assert run(comparison_file) == 0
    whole = json.loads((folder / "comparison.json").read_text())
    assert killed["networks"] == whole["networks"]
    for first, second in zip(killed["trainings"], whole["trainings"], strict=True):
        assert first["networks"] == second["networks"]


# ---------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[trainings.inherited]\nseeds = 2",
            "[trainings.inherited]\nseeds = 1",
            "at least 2, for an interval",
        ),
        ('start = "scratch"', 'start = "nowhere"', "trainings.scratch.start = 'nowhere'"),
        ('select = ["best"]', 'select = ["worst"]', "searches.product.select[0] = 'worst': expected "),
        ("[changes]", "margin = 1\n[changes]", "margin = 1: expected a share"),
        ("[changes]", "seeds = 3\n[changes]", "seeds = 3: unknown key"),
        ("[changes]\n", "[changes]\nvolume = 11\n", "volume = 11: unknown key"),
        ('"reference", "joint-knee"]', '"reference", "knee"]', "no network 'knee'; there are"),
        ('fixed = ["embed_dim",', 'fixed = ["width",', "has no gene 'width'"),
        ("evaluations = 6", "evaluations = 0", "evaluations = 0"),
    ],
)
def test_mistakes_in_the_file_are_named(comparison_file, capsys, old, new, message):
    text = comparison_file.read_text()
    assert old in text
    comparison_file.write_text(text.replace(old, new))
    assert run(comparison_file) == 1
    assert message in capsys.readouterr().err


def test_a_file_without_searches_or_with_none_at_all(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text('study = "digits"\n')
    with pytest.raises(StudyError, match=r"searches is missing: give at least one, \[searches.NAME\]"):
        load_comparison(path)
    with pytest.raises(StudyError, match="no comparison"):
        load_comparison("nothing")


def test_a_study_keeps_its_own_supernet(tmp_path):
    path = tmp_path / "comparison.toml"
    text = '[searches.joint]\nselect = ["knee"]\n[trainings.inherited]\nseeds = 2\n'
    path.write_text(f'study = "digits"\n{text}')
    plan = load_comparison(path)
    assert plan.folder == Path("runs/comparison-comparison")
    for spec in (plan.study, plan.searches[0].spec, plan.trainings[0].spec):
        assert spec.folder == plan.folder
        assert spec.weights_file == Path("runs/digits/supernet.safetensors")


def test_the_shipped_file_is_the_issues_comparison():
    plan = load_comparison("fashion_mnist")
    joint, *others = plan.searches
    assert set(joint.select) == {"knee", "most-accurate", "near-reference"}
    assert joint.spec.objectives == ("accuracy", "energy")
    forms = [search.spec.faeb.form for search in others if search.spec.objectives == ("f_aeb",)]
    assert forms == ["product", "linear", "chebyshev"]
    space = load_space(plan.study.space)
    genes = set(space.network) | set(space.block)
    fixed = {search.name: set(search.fixed) for search in others if search.fixed}
    assert fixed["neurons"] | fixed["architecture"] == genes
    assert not fixed["neurons"] & fixed["architecture"]
    assert {search.spec.evaluations for search in plan.searches} == {joint.spec.evaluations}
    assert all(training.seeds >= 3 for training in plan.trainings)
    quick = load_comparison("fashion_mnist", quick=True)
    assert quick.folder != plan.folder
    assert all(training.spec.retrain.updates < 10 for training in quick.trainings)


# ---------------------------------------------------------------------- its parts


@pytest.mark.parametrize("space", [TINY, FIXED, SWITCHES])
def test_a_fixed_gene_has_the_references_value_and_the_others_all(space):
    part = space.fixed(["embed_dim", "mlp_ratio"])
    rng = np.random.default_rng(0)
    for x in part.sample_choices(30, rng):
        config = part.decode(x)
        assert config.embed_dim == space.reference.embed_dim
        assert {block.mlp_ratio for block in config.blocks} == {space.reference.blocks[0].mlp_ratio}
        assert space.decode(space.encode(config)) == config
    assert part.network["depth"] == space.network["depth"]
    assert space.fixed([]) == space
    with pytest.raises(GenotypeError, match="no gene 'width'"):
        space.fixed(["width"])


def test_picks_are_what_their_names_say():
    summary = summarise(made_study(60))
    rows = [(row.metrics.accuracy, row.metrics.energy_mj) for row in summary.trials]
    least = float(np.median([accuracy for accuracy, _ in rows]))
    picked = pick(summary, "near-reference", reference=least, margin=0.0).metrics
    assert picked.accuracy >= least
    assert not any(accuracy >= least and energy < picked.energy_mj for accuracy, energy in rows)
    assert pick(summary, "most-accurate", reference=0, margin=0.01).metrics.accuracy == max(
        accuracy for accuracy, _ in rows
    )
    assert pick(summary, "knee", reference=0, margin=0.01).number == summary.knee
    assert pick(summary, "near-reference", reference=1.1, margin=0.0) is None
    for rule in SELECTIONS:
        number = select_network(summary, rule, margin=0.05).chosen.row.number
        assert pick(summary, rule, reference=0, margin=0.05).number == number
    single = summarise(made_study(30, objectives=("energy",)))
    assert pick(single, "best", reference=0, margin=0.01).metrics.energy_mj == min(
        row.metrics.energy_mj for row in single.trials
    )


def test_a_network_is_trained_once_whatever_its_roles():
    summary = summarise(made_study(60))
    best = pick(summary, "most-accurate", reference=0, margin=0.01)
    config = FIXED.decode(FIXED.from_parameters(best.parameters))
    reference = dataclasses.replace(summary.reference, accuracy=1.0)  # out of reach
    named = {"reference": (FIXED.reference, reference), "largest": (config, best.metrics)}
    chosen, missing = select(
        FIXED, named, [("joint", ["most-accurate", "near-reference"], summary)], margin=0.01
    )
    assert [item.roles for item in chosen] == [("reference",), ("largest", "joint-most-accurate")]
    assert missing == ["joint-near-reference"]


def test_the_interval_of_one_comparison_is_students():
    rng = np.random.default_rng(3)
    control, other = rng.normal(0.9, 0.01, 5), rng.normal(0.88, 0.01, 5)
    estimate, low, high = differences(control.tolist(), {"other": other.tolist()})["other"]
    expected = ttest_ind(other, control).confidence_interval(0.95)
    assert estimate == pytest.approx(other.mean() - control.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=2e-4)  # Dunnett's is integrated
    wider = differences(control.tolist(), {"other": other.tolist(), "third": other.tolist()})["other"]
    assert wider[2] - wider[1] > high - low


def test_ratios_are_those_of_geometric_means():
    rng = np.random.default_rng(4)
    control, other = rng.lognormal(0, 0.1, 6), rng.lognormal(-1, 0.1, 6)
    ratio, low, high = ratios(control.tolist(), {"other": other.tolist()})["other"]
    assert ratio == pytest.approx(np.exp(np.log(other).mean() - np.log(control).mean()))
    assert low < ratio < high


def test_nothing_is_claimed_where_nothing_varies():
    assert differences([1.0, 1.0], {"other": [2.0, 2.0]}) == {"other": None}
    assert differences([1.0], {"other": [2.0, 3.0]}) == {"other": None}
    assert differences([1.0, 2.0], {}) == {}


def written(accuracy, energy):
    """The write-up of a made-up record with one network beside the reference."""
    network = {
        "parameters": 1,
        "operations": 1,
        "search": 0.9,
        "search_mj": 1.0,
        "test": 0.9,
        "test_mj": 1.0,
        "config": FIXED.reference.to_json(),
    }
    values = {"test": [0.9, 0.91], "energy_mj": [1.0, 1.1], "strict_mj": [2.0, 2.1], "search": [0.9, 0.9]}
    interval = {"accuracy": accuracy, "energy": energy, "strict": energy}
    recipe = {"updates": 1, "batch_size": 1, "learning_rate": 0.1}
    content = {
        "margin": 0.01,
        "data": "digits",
        "evaluation": {"images": None},
        "energy": "paper",
        "seed": 0,
        "verdict": "unknown",
        "hardware": "none",
        "versions": {},
        "times": {},
        "missing": [],
        "searches": [
            {
                "name": "joint",
                "title": "joint",
                "objectives": ["accuracy", "energy"],
                "faeb": None,
                "sampler": "random",
                "evaluations": 1,
                "fixed": [],
                "hypervolume": 0.5,
                "front": [],
            }
        ],
        "networks": [
            {"name": "reference", "roles": ["reference"], **network},
            {"name": "joint-knee", "roles": ["joint-knee", "largest"], **network},
        ],
        "trainings": [
            {
                "title": "trained",
                "start": "scratch",
                "seeds": 2,
                "recipe": recipe,
                "seconds": [60, 30],
                "networks": {"reference": values, "joint-knee": values},
                "against": {"reference": {"joint-knee": interval}},
            }
        ],
    }
    assert labels(content)["joint-knee"] == "joint: knee = largest"
    return write_up(content)


@pytest.mark.parametrize(
    ("accuracy", "energy", "better", "close", "worse", "open_"),
    [
        ((0.02, 0.01, 0.03), (0.5, 0.4, 0.6), True, True, False, False),
        ((0.00, -0.005, 0.005), (0.5, 0.4, 0.6), False, True, False, True),
        ((0.00, -0.02, 0.02), (0.5, 0.4, 0.6), False, False, False, True),
        ((-0.03, -0.04, -0.02), (0.5, 0.4, 0.6), False, False, True, False),
        ((0.02, 0.01, 0.03), (0.9, 0.7, 1.1), False, False, False, False),
    ],
)
def test_no_sentence_says_more_than_its_interval(accuracy, energy, better, close, worse, open_):
    text = written(accuracy, energy)
    found = {
        line.partition(":")[0]: "joint: knee" in line for line in text.splitlines() if line.startswith("- ")
    }
    assert found["- More accurate than the reference at less energy"] == better
    assert found["- More accurate at energy that is not less"] == (accuracy[1] > 0 and not better)
    assert found["- At less energy and less than 1 point below the reference, interval included"] == close
    assert found["- Less accurate than the reference"] == worse
    assert found["- Not told apart from the reference in accuracy"] == open_
    assert "mean accuracy on test changed by +0.50 points" in text  # 0.9 inherited, 0.9 and 0.91 trained


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.dataset
def test_the_quick_form_of_the_shipped_headline(tmp_path, monkeypatch):
    if not any(folder.is_dir() for folder in ORIGIN.installed):
        pytest.skip("needs Debian's dataset-fashion-mnist")
    monkeypatch.chdir(tmp_path)
    assert run("fashion_mnist", "--quick") == 0
    content = json.loads((tmp_path / "runs/baseline/fashion_mnist-quick/comparison.json").read_text())
    assert len(content["searches"]) == 7
    assert len(content["trainings"]) == 2
