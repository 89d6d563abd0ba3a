"""Whose batch-normalisation statistics an evaluation takes: the recipe chooses them, a study keeps them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from spaces import TINY

from aspk.cli import main
from aspk.data import Split, load_data
from aspk.errors import CheckpointError, StudyError
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.report import compare_text, statistics_text, summarise
from aspk.report.dashboard import note
from aspk.spec.settings import EvaluationSettings, Recipe
from aspk.spec.study import load_study_file
from aspk.standalone.export import export_trial, load_exported
from aspk.study import load_problem, run_study, study_problem
from aspk.study.record import fingerprint
from aspk.study.storage import open_study, studies_of
from aspk.tables import load_table
from aspk.testing import FormulaEvaluator
from aspk.training.checkpoint import load_supernet
from aspk.training.supernet import SupernetRun
from aspk.trials import attributes, study_record

PREFIXES = Recipe(updates=3, batch_size=16)
RECIPES = {
    "shared_time": [PREFIXES],
    "own": [
        None,
        dataclasses.replace(PREFIXES, prefix_loss=False),
        dataclasses.replace(PREFIXES, paths="sandwich"),
        dataclasses.replace(PREFIXES, paths="sandwich", prefix_loss=False),
    ],
}


@pytest.fixture(scope="module")
def few(digits):
    return dataclasses.replace(digits, search=Split(digits.search.images[:120], digits.search.labels[:120]))


@pytest.mark.parametrize(("taken", "recipe"), [(kind, r) for kind, group in RECIPES.items() for r in group])
def test_auto_takes_what_the_recipe_trained_under(taken, recipe):
    assert EvaluationSettings().for_weights(recipe) == EvaluationSettings(statistics=taken)
    for kind in ("own", "shared_time", "running"):
        assert EvaluationSettings(statistics=kind).for_weights(recipe).statistics == kind


def predicted(supernet, data, config, calibrated_at, calibration=48):
    """Accuracy from the definition: the mean of the first T steps of a run at the T of the calibration."""
    config = dataclasses.replace(config, time_steps=calibrated_at)
    statistics = supernet.calibrate(data.train.images[:calibration], config)
    with torch.no_grad():
        steps = supernet(data.search.images, config, statistics=statistics, per_step=True)
    return [
        (steps[:t].mean(0).argmax(1) == data.search.labels).float().mean().item()
        for t in range(1, calibrated_at + 1)
    ]


@pytest.mark.parametrize("prefix_loss", [True, False])
def test_an_evaluator_of_a_trained_supernet_takes_them(few, prefix_loss):
    run = SupernetRun(TINY, few, dataclasses.replace(PREFIXES, prefix_loss=prefix_loss), 0)
    for _ in range(3):
        run.step()
    settings = EvaluationSettings(calibration_images=48)
    evaluator = SupernetEvaluator(run.model.eval(), few, settings=settings)
    configs = [dataclasses.replace(TINY.reference, time_steps=t) for t in (1, 2, 3, 4)]
    if prefix_loss:
        expected = predicted(run.model, few, TINY.reference, 4)
    else:
        expected = [predicted(run.model, few, TINY.reference, t)[-1] for t in (1, 2, 3, 4)]
    found = [metrics.accuracy for metrics in evaluator.evaluate(configs)]
    assert found == pytest.approx(expected, abs=1.5 / 120)  # a spike on the border may flip one image
    other = dataclasses.replace(settings, statistics="own" if prefix_loss else "shared_time")
    others = SupernetEvaluator(run.model, few, settings=other).evaluate(configs)
    assert [m.spikes for m in others[:3]] != [m.spikes for m in evaluator.evaluate(configs)[:3]]


def test_a_sandwich_knows_no_prefix_loss(few):
    def weights(**changes):
        run = SupernetRun(TINY, few, dataclasses.replace(PREFIXES, **changes), 0)
        for _ in range(3):
            run.step()
        return run.model.network.head.weight

    assert torch.equal(
        weights(paths="sandwich", prefix_loss=True), weights(paths="sandwich", prefix_loss=False)
    )
    assert not torch.equal(weights(prefix_loss=True), weights(prefix_loss=False))


def test_results_under_other_statistics_are_other_results(trained_folder, few, tmp_path, monkeypatch):
    supernet = load_supernet(trained_folder / "supernet.safetensors").supernet

    def evaluator(kind):
        settings = EvaluationSettings(calibration_images=32, statistics=kind)
        return SupernetEvaluator(supernet, few, settings=settings, cache=tmp_path)

    short = [dataclasses.replace(TINY.reference, time_steps=1)]
    results = {kind: evaluator(kind).evaluate(short) for kind in ("own", "shared_time", "running")}
    assert len({found[0].spikes for found in results.values()}) == 3
    auto = evaluator("auto")
    monkeypatch.setattr(
        auto, "_measure", lambda configs, progress: {} if not configs else pytest.fail("computed again")
    )
    assert auto.evaluate(short) == results["shared_time"]


# ---------------------------------------------------------------------- weights on disk


def rewritten(source, target, change):
    """A supernet's file with another header."""
    with safe_open(str(source), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["aspk"])
    change(header)
    save_file(tensors, str(target), metadata={"aspk": json.dumps(header)})
    return target


def test_weights_say_what_they_were_trained_with(trained_folder, tmp_path):
    source, target = trained_folder / "supernet.safetensors", tmp_path / "other.safetensors"
    assert load_supernet(source).supernet.recipe == Recipe(updates=12, batch_size=32, checkpoint_every=6)

    def recipe_after(change):
        return load_supernet(rewritten(source, target, change)).supernet.recipe

    # As aspk wrote it before there were sandwiches, and as a later one might.
    assert recipe_after(lambda h: h["provenance"]["recipe"].pop("paths")).trains_prefixes
    assert recipe_after(lambda h: h["provenance"]["recipe"].update(another=1)).trains_prefixes
    assert recipe_after(lambda h: h["provenance"].pop("recipe")) is None
    with pytest.raises(CheckpointError, match="prefix_loss = 'yes'"):
        recipe_after(lambda h: h["provenance"]["recipe"].update(prefix_loss="yes"))
    with pytest.raises(CheckpointError, match="provenance"):
        recipe_after(lambda h: h.pop("provenance"))


# ---------------------------------------------------------------------- studies


def searched(spec, count, statistics=None):
    if statistics is not None:
        spec = dataclasses.replace(
            spec, evaluation=dataclasses.replace(spec.evaluation, statistics=statistics)
        )
    spec = dataclasses.replace(spec, evaluations=count)
    return run_study(spec, load_problem(spec, device="cpu"), progress=False).study


def made_before(study):
    """Leave out of a study's records what aspk did not write before statistics were a setting."""
    context, spec = (study_record(study)[key] for key in (attributes.CONTEXT, attributes.SPEC))
    for record in (context, spec):
        del record["evaluation"]["statistics"]
    context["fingerprints"]["evaluation"] = fingerprint(context["evaluation"])
    study.set_user_attr(attributes.CONTEXT, context)
    study.set_user_attr(attributes.SPEC, spec)


def measured_again(spec, study, statistics):
    """Accuracy and spikes of a study's networks by an evaluator of its own."""
    settings = dataclasses.replace(spec.evaluation, statistics=statistics)
    supernet = load_supernet(spec.weights_file).supernet
    evaluator = SupernetEvaluator(supernet, load_data(spec.data), settings=settings)
    trials = study.get_trials(deepcopy=False)
    networks = [TINY.decode(TINY.from_parameters(trial.params)) for trial in trials]
    return [(m.accuracy, m.spikes) for m in evaluator.evaluate(networks)]


def in_the_study(study):
    return [(t.user_attrs["accuracy"], t.user_attrs["spikes"]) for t in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("storage", ["sqlite:///{}/asked.db", "{}/asked.log"])
def test_to_ask_for_the_statistics_of_a_study_makes_no_storage(study_file, tmp_path, storage):
    spec = dataclasses.replace(load_study_file(study_file), storage=storage.format(tmp_path / "new"))
    assert load_problem(spec, device="cpu").statistics == "shared_time"
    assert not (tmp_path / "new").exists()
    searched(spec, 3, "own")
    assert load_problem(spec, device="cpu").statistics == "own"


def test_a_new_study_writes_down_what_it_took_and_the_report_shows_it(study_file, tmp_path, capsys):
    spec = load_study_file(study_file)
    assert main(["search", str(study_file), "--device", "cpu"]) == 0
    sentence = "Networks were evaluated with shared_time statistics, which suit the recipe of the supernet."
    assert sentence in capsys.readouterr().out
    study = open_study(spec)
    assert study_record(study)[attributes.SPEC]["evaluation"]["statistics"] == "auto"
    assert study_record(study)[attributes.CONTEXT]["evaluation"]["statistics"] == "shared_time"
    assert in_the_study(study) == measured_again(spec, study, "shared_time")
    assert main(["report", str(study_file), "--output", str(tmp_path / "report")]) == 0
    assert sentence in capsys.readouterr().out
    page = (tmp_path / "report" / "report.html").read_text()
    assert sentence in page
    assert "<td>statistics taken</td><td>shared_time</td>" in page
    assert "- statistics of batch normalisation: shared_time\n" in note(summarise(study))
    with pytest.raises(StudyError, match='statistics: the study has "shared_time", this run brings "own"'):
        searched(spec, 7, "own")
    assert len(searched(spec, 7, "shared_time").get_trials()) == 7  # the same, said aloud


@pytest.mark.parametrize("old", [True, False])
def test_a_study_keeps_the_statistics_that_it_was_made_with(study_file, tmp_path, old):
    spec = load_study_file(study_file)
    study = searched(spec, 6, "own")
    if old:
        made_before(study)
    study = searched(spec, 9)
    assert len(study.get_trials()) == 9
    assert in_the_study(study) == measured_again(spec, study, "own")
    assert in_the_study(study) != measured_again(spec, study, "shared_time")
    summary = summarise(study)
    assert summary.statistics == "own"
    assert statistics_text(summary).endswith("own statistics, with which the study was begun.")
    assert main(["reproduce", str(study_file), "--device", "cpu"]) == 0
    with pytest.raises(StudyError, match='statistics: the study has "own", this run brings "shared_time"'):
        searched(spec, 10, "shared_time")
    # An export is the network that the study measured.
    short = next(t for t in study.get_trials() if t.params["time_steps"] < 4)
    folder = export_trial(spec, tmp_path / "export", number=short.number, device="cpu")
    exported = load_exported(folder)
    supernet = load_supernet(spec.weights_file).supernet
    images = load_data(spec.data).train.images[:32]
    own = supernet.calibrate(images, exported.network.config)
    assert all(torch.equal(buffer, own[name]) for name, buffer in exported.network.named_buffers())
    assert exported.provenance["statistics"] == "own"


def test_studies_under_different_statistics_are_found_and_not_compared(study_file):
    spec = load_study_file(study_file)
    searched(dataclasses.replace(spec, name="before"), 6, "own")
    searched(dataclasses.replace(spec, name="now"), 6)
    found = studies_of(spec)
    assert {study.study_name for study in found} == {"before", "now"}
    text = compare_text([summarise(study) for study in found])
    assert "not comparable: networks were evaluated with different statistics" in text
    for kind, name in (("own", "before"), ("shared_time", "now")):
        asked = dataclasses.replace(spec.evaluation, statistics=kind)
        (one,) = studies_of(dataclasses.replace(spec, evaluation=asked))
        assert one.study_name == name
        assert "not comparable" not in compare_text([summarise(one)])


def test_an_evaluator_of_somebody_else_has_no_statistics(tmp_path, study_file):
    spec = dataclasses.replace(load_study_file(study_file), weights=None)
    for count, kind in ((3, "own"), (6, "auto")):  # a study from before the default was auto goes on
        asked = dataclasses.replace(spec.evaluation, statistics=kind)
        one = dataclasses.replace(spec, evaluation=asked, evaluations=count)
        study = run_study(one, study_problem(one, FormulaEvaluator(TINY), classes=10), progress=False).study
    assert len(study.get_trials()) == 6
    assert statistics_text(summarise(study)) == ""


# ---------------------------------------------------------------------- tables and energies


def test_tables_and_energies_say_what_was_taken(study_file, tmp_path, trained_folder, capsys):
    space = tmp_path / "part.toml"
    space.write_text(
        """
        [settings]
        patch_size = 4
        attention_scale = 1.0
        [network]
        embed_dim = [24]
        depth = [1]
        time_steps = [1, 4]
        [block]
        mlp_ratio = [1]
        num_heads = [2]
        v_threshold = [1.0]
        tau = [2]
        [reference]
        embed_dim = 24
        depth = 1
        time_steps = 4
        mlp_ratio = 1
        num_heads = 2
        v_threshold = 1.0
        tau = 2
        """
    )
    accuracies = {}
    for kind in (None, "own", "shared_time"):
        output = tmp_path / f"{kind}.npz"
        chosen = ["--statistics", kind] if kind else []
        command = [
            "table",
            str(study_file),
            "--space",
            str(space),
            "--output",
            str(output),
            "--splits",
            "search",
        ]
        assert main([*command, "--device", "cpu", *chosen]) == 0
        table = load_table(output)
        accuracies[kind] = table.splits["search"]["spikes"].tolist()
        assert table.about["evaluation"]["statistics"] == (kind or "shared_time")
    assert accuracies[None] == accuracies["shared_time"] != accuracies["own"]
    capsys.readouterr()
    weights = trained_folder / "supernet.safetensors"
    assert main(["energy", "--weights", str(weights), "--json", "-", "--device", "cpu"]) == 0
    assert '"statistics": "shared_time"' in capsys.readouterr().out
