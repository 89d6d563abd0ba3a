"""`aspk energy`: networks from anywhere, and finished studies under another account."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from pages import DOCS, blocks
from spaces import FIXED

from aspk.cli import main
from aspk.energy import PAPER, PRESETS, STRICT, energy_mj
from aspk.errors import GenotypeError, StudyError
from aspk.objectives.scalarization import FAEB
from aspk.report import summarise
from aspk.report.energy import rebilled
from aspk.report.energy.rebilling import rebill
from aspk.report.energy.sources import read_config
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.trials import attributes
from studies import add_unfinished, made_study, measured, strangers_study

TINY = load_space("tiny")


def layers_of(trial):
    return attributes.metrics_of(trial).layers


def add_reference(study):
    """The reference network as a trial, as samplers evaluate it."""
    metrics = measured(FIXED.reference, np.random.default_rng(5))
    genes = FIXED.parameters(FIXED.encode(FIXED.reference))
    study.add_trial(
        create_trial(
            values=[metrics.accuracy, metrics.energy_mj],
            params=genes,
            distributions={
                g.parameter: optuna.distributions.CategoricalDistribution(g.choices)
                for g in FIXED.genes
                if g.parameter in genes
            },
            user_attrs=attributes.metrics_to_attributes(metrics),
        )
    )
    return metrics


# ---------------------------------------------------------------------- re-billing


def test_every_trial_is_billed_again_and_the_front_is_that_of_brute_force():
    study = made_study(30)
    add_unfinished(study)
    before = [trial.values for trial in study.trials]
    copy = rebilled(study, STRICT)
    assert [trial.state for trial in copy.trials] == [trial.state for trial in study.trials]
    points = {}
    for old, new in zip(study.trials, copy.trials, strict=True):
        if old.state != TrialState.COMPLETE:
            continue
        expected = energy_mj(layers_of(old), STRICT)
        assert new.values == [old.values[0], pytest.approx(expected)]
        assert new.user_attrs["energy_mj"] == pytest.approx(expected)
        assert new.params == old.params
        assert layers_of(new) == layers_of(old)
        points[new.number] = new.values
    front = {
        number
        for number, (accuracy, energy) in points.items()
        if not any(a >= accuracy and e <= energy and [a, e] != [accuracy, energy] for a, e in points.values())
    }
    assert {row.number for row in summarise(copy).front} == front
    assert [trial.values for trial in study.trials] == before
    assert {row.number for row in summarise(study).front} != front


def test_the_same_account_changes_nothing():
    study = made_study(20)
    one = rebill(study, PAPER)
    for old, new in zip(study.trials, one.study.trials, strict=True):
        assert new.values == pytest.approx(old.values, rel=1e-8)  # counts are stored with nine digits
    assert one.kept == len(one.before.front) == len(one.summary.front)
    assert one.kendall_tau == pytest.approx(1.0)


def test_f_aeb_and_anchors_follow_the_reference_where_its_counts_are_known():
    study = made_study(10)
    unknown = summarise(rebilled(study, STRICT))
    assert summarise(study).faeb is not None
    assert unknown.faeb is None
    assert not unknown.fixed_anchors
    reference = add_reference(study)
    known = summarise(rebilled(study, STRICT))
    strict = energy_mj(reference.layers, STRICT)
    assert known.faeb.reference_energy_mj == pytest.approx(strict)
    assert known.anchors == ((1.0, 0.1), (0.0, pytest.approx(strict)))
    last = known.trials[-1]
    assert last.f_aeb == pytest.approx(FAEB(reference_energy_mj=strict, classes=10)(last.metrics))
    stored = made_study(10)
    context = dict(stored.user_attrs[attributes.CONTEXT])
    context["reference"] = attributes.metrics_to_attributes(reference)
    stored.set_user_attr(attributes.CONTEXT, context)
    assert summarise(rebilled(stored, STRICT)).faeb.reference_energy_mj == pytest.approx(strict)


def test_a_budget_in_mj_is_held_against_the_new_energies():
    study = made_study(20, budget_mj=0.002)
    context = dict(study.user_attrs[attributes.CONTEXT]) | {"constraints": {"energy": 0.002}}
    study.set_user_attr(attributes.CONTEXT, context)
    copy = rebilled(study, STRICT)
    feasible = [all(excess <= 0 for excess in trial.constraints.values()) for trial in copy.trials]
    assert feasible == [energy_mj(layers_of(trial), STRICT) <= 0.002 for trial in study.trials]
    assert {True, False} == {
        all(excess <= 0 for excess in trial.constraints.values()) for trial in study.trials + copy.trials
    }


def test_what_cannot_be_billed_again_is_refused():
    with pytest.raises(StudyError, match="trial 0 carries no layer counts"):
        rebilled(strangers_study([(0.9, 0.1)], "maximize", "minimize"), STRICT)
    study = made_study(3, objectives=("accuracy", "energy"))
    study.set_metric_names(["f_aeb", "energy"])
    with pytest.raises(StudyError, match="F_AEB is an objective"):
        rebilled(study, STRICT)


# ---------------------------------------------------------------------- the command, without a checkpoint

RANDOM = ["energy", "--space", "tiny", "--reference", "--random-weights", "--shape", "1,8,8", "--images", "2"]


def test_random_weights_as_json(capsys):
    assert main([*RANDOM, "--json", "-"]) == 0
    first = capsys.readouterr().out
    found = json.loads(first)
    assert found["first_layer_macs"] == 4 * 9 * 8 * 8 * 8
    tokens, conv, linear = (
        4,
        9 * (8 * 16 * 64 + 16 * 32 * 64 + 32 * 64 * 16 + 64 * 64 * 4),
        4 * 64**2 + 2 * 64 * 128,
    )
    assert found["dense_operations"] == found["first_layer_macs"] + 4 * (conv + 2 * linear * tokens)
    assert found["attention_operations"] == 4 * 2 * 2 * 4 * 4 * 64
    assert found["head_operations"] == 640
    assert set(found["mj"]) == set(PRESETS) - {"neurobench"}  # whose counts these networks do not carry
    assert found["mj"]["spikingformer_script"] < found["mj"]["spikformer_paper"] < found["mj"]["syops"]
    assert found["dead_sites"] == []
    assert all(row["firing_rate_out"] != 0 for row in found["layers"])
    shown = {
        name: sum(row["bills"][name]["mj"] for row in found["layers"]) for name in found["layers"][0]["bills"]
    }
    assert shown == {name: pytest.approx(found["mj"][name]) for name in shown}
    assert main([*RANDOM, "--json", "-"]) == 0
    assert capsys.readouterr().out == first
    assert main([*RANDOM, "--seed", "1", "--json", "-"]) == 0
    assert capsys.readouterr().out != first


def test_models_side_by_side_in_every_form(tmp_path, capsys):
    chip = tmp_path / "chip.toml"
    chip.write_text('preset = "45nm_int8"\nmembrane_access_pj = 1.0\n')
    files = {kind: tmp_path / f"account.{kind}" for kind in ("json", "csv", "html")}
    options = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    assert main([*RANDOM, "--model", str(chip), "--model", "syops", *options]) == 0
    text = capsys.readouterr().out
    assert "chip µJ" in text
    assert "syops µJ" in text
    found = json.loads(files["json"].read_text())
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    for name in ("chip", "syops"):
        total = sum(float(row["mj"]) for row in rows if row["model"] == name)
        assert total == pytest.approx(found["mj"][name])
    page = files["html"].read_text()
    assert page.count("<tr>") > len(found["layers"])
    assert "membrane_access_pj" in page
    assert "://" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of"),
        (["somewhere", "--space", "tiny", "--random-weights"], "give one of"),
        (["--space", "tiny"], "belong together"),
        (["somewhere", "--random-weights"], "belong together"),
        (["--space", "tiny", "--random-weights", "--shape", "3,32"], "expected channels, height and width"),
        (["--space", "tiny", "--random-weights", "--shape", "3,32,x"], "expected channels, height and width"),
        (["--space", "tiny", "--random-weights", "--images", "0"], "expected a whole number from 1 to"),
    ],
)
def test_wrong_usage(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["energy", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "no study 'nowhere'"),
        ([*RANDOM[1:], "--model", "mine"], "no energy model 'mine'"),
        ([*RANDOM[1:], "--model", "syops", "--model", "syops"], "expected different names"),
        (["--weights", "nowhere.safetensors"], "no such file"),
    ],
)
def test_what_is_not_there_is_an_error(options, message, capsys):
    assert main(["energy", *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["digits", "--config", "some.json"],
            "--config is for --random-weights and --weights, not",
        ),
        (["digits", "--reference"], "--reference is for --random-weights and --weights"),
        (["digits", "--split", "test"], "--split is for --weights and an exported model, not for a study"),
        (["network.json", "--trial", "3"], "--trial is for a study, not for an exported model: leave it out"),
        (["network.json", "--data", "digits"], "--data is for --weights"),
        (["network.json", "--data-folder", "d"], "give --split as well"),
        (
            ["--weights", "w.safetensors", "--images", "64"],
            "--images is for --random-weights, not",
        ),
        ([*RANDOM[1:], "--split", "test"], "--split is for --weights and an exported model"),
    ],
)
def test_no_option_is_ignored(options, message, capsys):
    assert main(["energy", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_network_from_json(tmp_path):
    path = tmp_path / "network.json"
    for content in (TINY.smallest.to_json(), {"config": TINY.smallest.to_json(), "kind": "network"}):
        path.write_text(json.dumps(content))
        assert read_config(path) == TINY.smallest
    for content in ("{", "[]", '{"embed_dim": 24}', '{"config": 3}'):
        path.write_text(content)
        with pytest.raises(GenotypeError, match=r"network\.json: "):
            read_config(path)
    with pytest.raises(GenotypeError, match=r"nowhere\.json"):
        read_config(tmp_path / "nowhere.json")


# ---------------------------------------------------------------------- the command on a real study


@pytest.fixture(scope="module")
def searched(tmp_path_factory, trained_folder):
    """A study of six networks, searched, and one of them exported."""
    folder = tmp_path_factory.mktemp("searched")
    file = folder / "small.toml"
    file.write_text(
        f"""
        space = "tiny"
        data = "digits"
        folder = "{folder}"
        weights = "{trained_folder / "supernet.safetensors"}"
        evaluations = 6
        batch = 6
        evaluation = {{ calibration_images = 32, batch_size = 400 }}
        sampler = {{ name = "nsga2" }}
        """
    )
    assert main(["search", str(file), "--device", "cpu"]) == 0
    assert (
        main(["export", str(file), "--trial", "2", "--output", str(folder / "model"), "--device", "cpu"]) == 0
    )
    return file


def read_json(capsys, *options: str):
    assert main(["energy", *options, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_trial_and_its_export_have_the_same_account(searched, capsys):
    capsys.readouterr()
    trial = read_json(capsys, str(searched), "--trial", "2")
    exported = read_json(capsys, str(searched.parent / "model"))
    again = read_json(capsys, str(searched.parent / "model" / "network.json"), "--split", "search")
    assert trial["mj"] == {name: pytest.approx(value, rel=1e-8) for name, value in exported["mj"].items()}
    assert again["mj"] == {name: pytest.approx(value, rel=1e-3) for name, value in exported["mj"].items()}
    assert again["accuracy"] == pytest.approx(exported["accuracy"], abs=0.01)
    every = read_json(capsys, str(searched.parent / "model"), "--split", "search", "--all")
    some = {bill["name"]: bill["counted_on"] for bill in every["accounts"] if bill["counted_on"]}
    assert set(some) >= {"neurobench", "spikingjelly simple"}
    assert set(some.values()) == {"the first 32 of 360 images"}
    assert main(["energy", str(searched), "--trial", "99"]) == 1
    assert "no complete trial 99" in capsys.readouterr().err


def test_weights_and_a_config_have_the_trials_account(searched, trained_folder, capsys):
    capsys.readouterr()
    exported = read_json(capsys, str(searched.parent / "model"))
    config = str(searched.parent / "model" / "network.json")
    weights = str(trained_folder / "supernet.safetensors")
    counted = read_json(capsys, "--weights", weights, "--config", config)
    reference = read_json(capsys, "--weights", weights)
    assert SubnetConfig.from_json(reference["config"]) == TINY.reference
    assert counted["parameters"] == exported["parameters"]
    # the study calibrates on 32 images, this on 256
    assert counted["mj"]["spikformer_paper"] == pytest.approx(exported["mj"]["spikformer_paper"], rel=0.3)


def test_a_finished_study_under_other_accounts(searched, tmp_path, capsys):
    capsys.readouterr()
    strict, free = "strict_dense_residual", tmp_path / "free.toml"
    free.write_text("ac_pj = 1e-9\nresidual = 'dense'\n")
    page, table = tmp_path / "front.html", tmp_path / "front.csv"
    options = ["--model", strict, "--model", str(free), "--html", str(page), "--csv", str(table)]
    found = read_json(capsys, str(searched), *options)
    storage = f"sqlite:///{searched.parent / 'study.db'}"
    stored = {t.number: t for t in optuna.load_study(study_name="small", storage=storage).trials}
    assert set(found["models"]) == {strict, "free"}
    for one in found["models"][strict]["front"]:
        expected = energy_mj(layers_of(stored[one["trial"]]), STRICT)
        assert one["values"] == [stored[one["trial"]].values[0], pytest.approx(expected)]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["model"] for row in rows} == {strict, "free"}
    assert len(rows) == sum(len(one["front"]) for one in found["models"].values())
    assert page.read_text().count("<svg") == 2
    assert main(["energy", str(searched)]) == 0
    shown = capsys.readouterr().out
    assert all(
        f"small under {name}: " in shown for name in ("spikformer_paper", strict, "spikingformer_script")
    )
    assert "Kendall's tau" in shown


# ---------------------------------------------------------------------- what the documentation shows


def test_the_search_of_the_documentation_runs(searched, tmp_path, monkeypatch):
    """Of docs/energy.md the search for another objective, in a short study."""
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text(searched.read_text().replace("evaluations = 6", "evaluations = 4"))
    (example,) = [code for code in blocks(DOCS / "energy.md", "python") if "digits-cycles" in code]
    names: dict[str, object] = {}
    exec(example.replace('load_study_file("digits")', 'load_study_file("digits.toml")'), names)
    storage = f"sqlite:///{searched.parent / 'study.db'}"
    study = optuna.load_study(study_name="digits-cycles", storage=storage)
    assert study.metric_names == ["accuracy", "cycles"]
    assert len(study.trials) == 4
    for trial in study.trials:
        metrics = attributes.metrics_of(trial)
        assert trial.values == [metrics.accuracy, pytest.approx(names["cycles"](metrics))]
    copy = rebilled(study, STRICT)
    assert [trial.values for trial in copy.trials] == [trial.values for trial in study.trials]
